"""What a cohort's folder says of itself: dataset_description.json, participants.json, README, CHANGES.

Source: BIDS 1.9, modality-agnostic files and derivatives; docs/reference/formats.md "Cohort".
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from mssg import text
from mssg.checkpoint.header import Header
from mssg.errors import UsageError
from mssg.files import parse_json
from mssg.metrics.memorisation import DISCLAIMER
from mssg.rendering.command_line import request_words
from mssg.rendering.volume import places_of
from mssg.study.covariate import Covariate
from mssg.study.values import number, plain
from mssg.synthetic.copies import CopyScreen
from mssg.synthetic.folder import Row, own_columns, snapshot_name
from mssg.synthetic.people import CohortRequest
from mssg.version import __version__

BIDS_VERSION = "1.9.0"
DESCRIPTION = "dataset_description.json"
FEW = 1.0
"""People below this support percentile are counted in the README."""


@dataclass
class Tally:
    """What the README counts while the table is written."""

    people: int = 0
    unsupported: int = 0
    copies: int = 0
    supports: list[int] = field(default_factory=lambda: [0] * 101)

    def add(self, row: Row) -> None:
        """Count one more person."""
        self.people += 1
        self.copies += row.copies or 0
        if row.support is not None:
            self.unsupported += row.support < FEW
            self.supports[int(row.support)] += 1

    @property
    def median_support(self) -> int | None:
        """Median support percentile, rounded down; None where the snapshot holds no densities."""
        seen = 0
        for percentile, count in enumerate(self.supports):
            seen += count
            if 2 * seen >= sum(self.supports) > 0:
                return percentile
        return None


def settings(header: Header, wanted: CohortRequest, screen: CopyScreen | None) -> dict[str, Any]:
    """Everything that decides a person, as JSON: parts of one cohort have the same."""
    return {
        "Snapshot": header.snapshot_id,
        "Seed": wanted.seed,
        "Given": dict(wanted.given),
        "Uniform": {name: [low, high] for name, low, high in wanted.uniform},
        "Balance": list(wanted.balance),
        "Match": wanted.match.digest if wanted.match else None,
        "WithinSupport": float(wanted.within_support),
        "ScreenCopies": screen.digest if screen else None,
        "Picture": replace(wanted.picture, snapshot="").to_json(),
        **({"Volumes": True} if wanted.volumes else {}),
    }


def cohort_command(header: Header, wanted: CohortRequest, screened: bool) -> str:
    """The command that makes this cohort, without the places of files."""
    study = header.study
    words = ["mssg", "cohort", snapshot_name(header), "-n", str(wanted.n)]
    words += ["--first", str(wanted.first)] if wanted.first else []
    words += ["--seed", str(wanted.seed)]
    for name, value in wanted.given:
        words += ["--given", f"{name}={plain(study.covariate(name), value)}"]
    for name, low, high in wanted.uniform:
        words += ["--uniform", f"{name}={number(low)}:{number(high)}"]
    for name in wanted.balance:
        words += ["--balance", name]
    words += ["--match", "TABLE.csv"] if wanted.match else []
    words += ["--within-support", number(wanted.within_support)] if wanted.within_support else []
    words += ["--screen-copies"] if screened else []
    words += ["--volumes"] if wanted.volumes else []
    shared = request_words(wanted.picture, study)
    return shlex.join([*words, *(shared[2:] if shared[0] == "--seed" else shared)])


def description(header: Header, wanted: CohortRequest, screen: CopyScreen | None) -> dict[str, Any]:
    """dataset_description.json."""
    return {
        "Name": f"Synthetic people of {header.study.name}",
        "BIDSVersion": BIDS_VERSION,
        "DatasetType": "derivative",
        "License": str(header.provenance.get("licence") or "That of the model and of its training data"),
        "GeneratedBy": [
            {
                "Name": "mssg",
                "Version": __version__,
                "Description": "Drawn by a generative model. No real person is shown.",
                "Command": cohort_command(header, wanted, screen is not None),
                "Settings": settings(header, wanted, screen),
            }
        ],
    }


def columns(header: Header) -> dict[str, Any]:
    """participants.json."""
    support, seed = own_columns(header)
    out: dict[str, Any] = {c.name: _column(header, c) for c in header.study.personal_conditions}
    out[support] = {
        "Description": "How common these covariates are among the training data: percentile of their"
        " log-density, 0 lies outside",
        "Units": "percentile",
    }
    out[seed] = {"Description": "Seed of the latent that the picture was drawn from"}
    return out


def _column(header: Header, covariate: Covariate) -> dict[str, Any]:
    by = ", ".join(header.study.observers(covariate.name))
    out: dict[str, Any] = {
        "Description": f"{covariate.name} that was asked of the model (recorded by source {by})"
    }
    if covariate.is_continuous:
        return out | ({"Units": covariate.unit} if covariate.unit else {})
    names = covariate.levels or ("0", "1")
    return out | {"Levels": {name: f"{covariate.name} {name}" for name in names}}


def readme(header: Header, wanted: CohortRequest, screen: CopyScreen | None, tally: Tally) -> str:
    """README."""
    progress = header.progress.get("kimg")
    trained = f", after {progress:g} thousand training images" if progress else ""
    lines = [
        f"# Synthetic people of {header.study.name}",
        "",
        f"Everything here is synthetic: {tally.people} people that a generative model (Multi-Source StyleGAN)"
        " drew. No picture is a scan of a person. Not for diagnosis.",
        "",
        f"- Model: snapshot {snapshot_name(header)}, SHA-256 {header.snapshot_id}…{trained}.",
        f"- Made by mssg {__version__}: `{cohort_command(header, wanted, screen is not None)}`",
        *_heads(header, wanted),
        "- participants.tsv states each person's covariates as the model was asked for them. How well the"
        " pictures obey is a property of the model: measure it (`mssg evaluate`) before relying on it.",
        f"- {_support(header, tally)}",
        f"- {_copies(screen, tally)}",
    ]
    pairs = header.study.unseen_pairs
    if pairs:
        told = ", ".join(f"{a} and {b}" for a, b in pairs)
        lines.append(
            f"- Recorded together by no source: {told}. How these go together beyond the shared covariates is"
            " an assumption of the covariate models."
        )
    lines.append("- Person i depends on the snapshot, the settings, the seed and i alone.")
    return "\n".join(lines) + "\n"


def _heads(header: Header, wanted: CohortRequest) -> list[str]:
    """What the pictures are, where they are whole heads."""
    if not wanted.volumes:
        return []
    places = places_of(header.study, header.summary)
    step = places[1] - places[0]
    return [
        f"- Each picture is a whole head: {len(places)} slices from {places[0]:g} to {places[-1]:g} mm,"
        f" {step:g} mm apart, drawn one by one from one latent."
    ]


def _support(header: Header, tally: Tally) -> str:
    support, _ = own_columns(header)
    if tally.median_support is None:
        return "Support: the snapshot holds no densities of its training data, so nobody can say."
    share = text.percent(tally.unsupported / tally.people)
    return (
        f"Support (column {support}): percentile of each person's covariates among the training data. Median"
        f" {tally.median_support}; {share} of the people are below {FEW:g}."
    )


def _copies(screen: CopyScreen | None, tally: Tally) -> str:
    if screen is None:
        return (
            "Copies of training images were not searched for. `mssg cohort … --screen-copies` does, and"
            " `mssg evaluate … --metrics memorisation` measures the model."
        )
    return (
        f"Copies: {tally.copies} pictures were nearer to one of {screen.trained} training images than the"
        f" memorisation threshold ({text.number(screen.threshold)}, which flags"
        f" {text.percent(screen.false_alarm)} of real images that were not trained on) and were replaced."
        f" {DISCLAIMER}"
    )


def changes(header: Header) -> str:
    """CHANGES, in the form that BIDS takes from CPAN; without a date, which would change the bytes."""
    return f"1.0.0\n  - Drawn by mssg {__version__} with snapshot {header.snapshot_id}.\n"


def check_folder(out: Path, about: Mapping[str, Any]) -> None:
    """Refuse a folder that holds anything but a part of this data set.

    Raises:
        UsageError: It holds something else, or one with other settings.
    """
    path, hint = out / DESCRIPTION, "Choose another folder, or remove what is there"
    try:
        theirs = parse_json(path.read_bytes())["GeneratedBy"][0]["Settings"]
    except FileNotFoundError:
        found = next((entry.name for entry in out.iterdir() if not entry.name.startswith(".")), None)
        if found:
            what = "holds something that is no cohort"
            raise UsageError(what, file=out, found=found, expected="an empty folder", hint=hint) from None
        return
    except OSError as error:
        raise UsageError(f"cannot be read: {error.strerror}", file=path) from None
    except (ValueError, LookupError, TypeError):
        raise UsageError(
            "holds another data set", file=path, expected="one of mssg cohort", hint=hint
        ) from None
    ours = json.loads(json.dumps(about["GeneratedBy"][0]["Settings"]))
    if not isinstance(theirs, dict) or theirs != ours:
        found = _differing(theirs if isinstance(theirs, dict) else {}, ours)
        raise UsageError(
            "holds another cohort", file=out, field=DESCRIPTION, found=f"another {found}", hint=hint
        )


def _differing(theirs: Mapping[str, Any], ours: Mapping[str, Any]) -> str:
    """The settings in which two data sets differ, as words."""
    return ", ".join(key for key in {**ours, **theirs} if theirs.get(key) != ours.get(key))
