"""From many files to prepared sources: all cores, constant memory, resumable, every file that is left out
with its reason.

A recipe gives a maker (file -> images); this module runs it over all files, checks quality, draws contact
sheets, and writes sources, reports and a study to start from.
"""

from __future__ import annotations

import math
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mssg import assets
from mssg.data import quality
from mssg.data.cohort import CovariateSpec, LeftOut
from mssg.data.cohort_values import ImageRecord
from mssg.data.dataset import check_target, write_packed
from mssg.data.image_jobs import ImageDraft, ImageMaker, Progress, Row, make_images
from mssg.data.split import SPLITS, assign_sources, split_subjects, unit_hash
from mssg.errors import DataError, UsageError
from mssg.files import csv_text, write_atomically
from mssg.study.model import Covariate, Geometry, Source, Study
from mssg.study.schema import to_toml


@dataclass(frozen=True)
class SourcePlan:
    """What is to be made, whatever the kind of file.

    Attributes:
        out: Folder for the source `name`, `name`-report and name.toml.
        name: The source's name.
        per_item: Images of one file.
        shape: C, R, R.
        settings: Everything that changes a pixel; a draft made with other settings is not resumed.
        info: For source.json.
        seed, test, val: The split by subject.
        divide: Names of sources among which one population is divided, by subject.
        qc: Thresholds of `quality.judge`.
        reject: File with a column `file`: what a person has rejected.
        geometry: Of the study that is drafted.
        balance: A covariate and the share of images in which it shall be above 0; the more frequent kind is
            thinned out.
    """

    out: Path
    name: str
    per_item: int
    shape: tuple[int, int, int]
    settings: Mapping[str, Any]
    info: Mapping[str, Any]
    seed: int = 0
    test: float = 0.15
    val: float = 0.1
    divide: tuple[str, ...] = ()
    qc: Mapping[str, Any] = field(default_factory=dict)
    reject: Path | None = None
    geometry: Geometry | None = None
    balance: tuple[str, float] | None = None

    @property
    def report(self) -> Path:
        """Folder of the reports."""
        return self.out / f"{self.name}-report"

    @property
    def sources(self) -> tuple[str, ...]:
        """Names of the sources that are written: the divided ones, and the whole."""
        return (*(f"{self.name}-{part}" for part in self.divide), self.name)


@dataclass(frozen=True)
class PreparedSources:
    """What was prepared: images by source and split, files left out by stage, and where to read about
    them."""

    study: Path
    report: Path
    counts: dict[str, dict[str, int]]
    skipped: dict[str, int]
    covariates: tuple[str, ...]
    resumed: int


def prepare(
    plan: SourcePlan,
    items: Sequence[ImageRecord],
    skips: Sequence[LeftOut],
    readings: Sequence[CovariateSpec],
    maker: ImageMaker,
    workers: int = 1,
    progress: Progress | None = None,
) -> PreparedSources:
    """Make every image and write the sources, their reports and a study.

    Args:
        plan: What is to be made.
        items: The files, with covariates.
        skips: What was left out before; goes into the report.
        readings: How the covariates were read: they become the study's.
        maker: The recipe.
        workers: Processes.
        progress: Called with the number of files done since the last call.

    Raises:
        DataError: No image is left, or a folder cannot be written. The report is written first.
    """
    for name in plan.sources:
        check_target(plan.out / name)
    rejected = _reject_list(plan.reject)
    plan.report.mkdir(parents=True, exist_ok=True)
    draft = ImageDraft(plan.out / f".{plan.name}-draft", plan.per_item, plan.shape, plan.settings)
    images, outcomes, resumed = make_images(maker, items, draft, workers, progress)
    rows, left = _rows(plan, items, images, outcomes, rejected)
    left = [*skips, *left]
    if plan.balance:
        left += _thin_out(rows, *plan.balance, plan.seed)
    _report(plan, images, rows, left)
    kept = [row for row in rows if not row["reason"]]
    counts: dict[str, dict[str, int]] = {}
    if kept:
        counts = _write(plan, images, kept, readings)
    else:
        raise DataError(
            "no image is left",
            file=plan.report / "skipped.csv",
            found=f"{len(left)} files left out",
            hint="Its reasons say why",
        )
    shutil.rmtree(draft.folder)
    stages = [skip.stage for skip in left]
    skipped = {stage: stages.count(stage) for stage in dict.fromkeys(stages)}
    study, names = _study(plan, kept, readings)
    return PreparedSources(study, plan.report, counts, skipped, names, resumed)


def _reject_list(path: Path | None) -> dict[str, str]:
    """File -> reason of a table that a person has made."""
    if path is None:
        return {}
    from mssg.data.delimited import header_of, rows_of

    if "file" not in header_of(path):
        raise DataError("column is missing", file=path, field="file", hint="Copy lines of qc.csv")
    return {
        row["file"]: row.get("reason") or "rejected by hand" for _, row in rows_of(path, []) if row["file"]
    }


def _rows(
    plan: SourcePlan,
    items: Sequence[ImageRecord],
    images: NDArray[np.uint8],
    outcomes: Sequence[list[Row | str] | str],
    rejected: Mapping[str, str],
) -> tuple[list[Row], list[LeftOut]]:
    """One row for each image that was made: keys, covariates, further columns, measures, and why it is
    rejected."""
    rows: list[Row] = []
    left: list[LeftOut] = []
    for index, (item, outcome) in enumerate(zip(items, outcomes)):
        image = item.image

        def leave(stage: str, reason: str, image: Any = image) -> None:
            left.append(LeftOut(image.name, stage, reason, image.subject, image.session))

        if isinstance(outcome, str):
            leave("image", outcome)
            continue
        for number, more in enumerate(outcome):
            if isinstance(more, str):
                leave("image", more)
                continue
            at = index * plan.per_item + number
            measured = quality.measure(images[at], plan.qc.get("border_columns", quality.BORDER_COLUMNS))
            reason = rejected.get(image.name) or quality.judge(measured, plan.qc)
            rows.append(
                {"at": at, "file": image.name, "subject": image.subject, "session": image.session}
                | {
                    "values": {**item.values, **more.get("values", {})},
                    "reason": reason,
                    "measured": measured,
                }
                | {"more": {k: v for k, v in more.items() if k != "values"}}
            )
            if reason:
                leave("quality", reason)
    return rows, left


def _thin_out(rows: list[Row], name: str, share: float, seed: int) -> list[LeftOut]:
    """Reject at random (a hash of seed and file) as many of the more frequent kind as it takes to reach a
    share.

    Source: docs/method.md section 6 (EyePACS resampled to 45 % diseased).
    """
    kept = [row for row in rows if not row["reason"]]
    if any(name not in row["values"] for row in kept):
        raise UsageError("no such covariate to balance", field="--balance", found=name)
    known = [row for row in kept if not math.isnan(row["values"][name])]
    by_kind = [[row for row in known if (row["values"][name] > 0) == kind] for kind in (False, True)]
    absent, present = map(len, by_kind)
    if not absent or not present:
        raise DataError(
            "cannot be balanced: all images are of one kind",
            field=name,
            found=f"{present} of {absent + present}",
        )
    wanted = (round(present * (1 - share) / share), round(absent * share / (1 - share)))
    skips = []
    for group, number in zip(by_kind, wanted):
        for row in sorted(group, key=lambda row: unit_hash(seed, row["file"], "balance"))[number:]:
            row["reason"] = f"thinned out so that {name} is above 0 in {share:.0%}"
            skips.append(LeftOut(row["file"], "balance", row["reason"], row["subject"], row["session"]))
    return skips


def _report(plan: SourcePlan, images: NDArray[np.uint8], rows: list[Row], left: Sequence[LeftOut]) -> None:
    """skipped.csv, qc.csv and the contact sheets, the images least like the others first."""
    _write_skips(plan, left)
    for old in plan.report.glob("sheet-*.png"):
        old.unlink()
    at = [row["at"] for row in rows]
    for row, like in zip(rows, quality.likeness(images, at)):
        row["measured"]["likeness"] = float(like)
    rows.sort(key=lambda row: row["measured"]["likeness"])
    lines = [
        {"file": r["file"], "subject": r["subject"], "session": r["session"], **r["more"]}
        | {k: f"{v:.4g}" for k, v in r["measured"].items()}
        | {"decision": "reject" if r["reason"] else "keep", "reason": r["reason"]}
        for r in rows
    ]
    _write_csv(plan.report / "qc.csv", lines)
    by_row = {row["at"]: row for row in rows}
    quality.contact_sheets(
        plan.report,
        images,
        [row["at"] for row in rows],
        lambda i: by_row[i]["file"].removesuffix(".gz").removesuffix(".nii"),
        lambda i: bool(by_row[i]["reason"]),
    )
    rows.sort(key=lambda row: row["at"])


def _write_skips(plan: SourcePlan, left: Sequence[LeftOut]) -> None:
    _write_csv(plan.report / "skipped.csv", [vars(skip) for skip in left], [f.name for f in fields(LeftOut)])


def _write_csv(path: Path, lines: Sequence[Mapping[str, Any]], header: Sequence[str] = ()) -> None:
    names = list(header or dict.fromkeys(name for line in lines for name in line))
    rows = ([line.get(name, "") for name in names] for line in lines)
    write_atomically(path, csv_text(names, rows), DataError)


def _write(
    plan: SourcePlan, images: NDArray[np.uint8], kept: Sequence[Row], readings: Sequence[CovariateSpec]
) -> dict[str, dict[str, int]]:
    """The sources: the whole population, and its divisions."""
    subjects = [row["subject"] for row in kept]
    split = split_subjects(subjects, plan.seed, plan.test, plan.val)
    home = (
        assign_sources(subjects, [1.0] * len(plan.divide), plan.seed)
        if plan.divide
        else np.zeros(len(kept), int)
    )
    by_name = {reading.covariate.name: reading.covariate for reading in readings}
    covariates = list(dict.fromkeys(name for row in kept for name in row["values"]))
    more = list(dict.fromkeys(name for row in kept for name in row["more"]))
    counts = {}
    for number, name in enumerate(plan.sources):
        mine = [i for i in range(len(kept)) if name == plan.name or home[i] == number]
        if not mine:
            raise UsageError(
                "too few subjects to fill every source", field="--divide", found=len(set(subjects))
            )
        table: dict[str, Any] = {key: [kept[i][key] for i in mine] for key in ("subject", "session")}
        table["split"] = split[mine]
        for covariate in covariates:
            cells = [kept[i]["values"].get(covariate, math.nan) for i in mine]
            table[covariate] = [cell(by_name.get(covariate), value) for value in cells]
        for column in ("file", *more):
            table[column] = [kept[i]["more"].get(column, kept[i].get(column, "")) for i in mine]
        stated = {
            c: {"unit": known.unit} if known.is_continuous else {"levels": list(known.levels)}
            for c in covariates
            if (known := by_name.get(c))
        }
        info = {
            **plan.info,
            "seed": plan.seed,
            "shares": {"test": plan.test, "val": plan.val},
            "covariates": stated,
        }
        write_packed(plan.out / name, (images[kept[i]["at"]] for i in mine), table, info)
        counts[name] = {s: int(np.sum(split[mine] == s)) for s in SPLITS}
    return counts


def cell(covariate: Covariate | None, value: float) -> str | float:
    """A native value as the table holds it: levels by name."""
    if covariate is None or math.isnan(value) or covariate.is_continuous:
        return value
    return covariate.levels[int(value)] if covariate.levels else str(int(value))


def _study(
    plan: SourcePlan, kept: Sequence[Row], readings: Sequence[CovariateSpec]
) -> tuple[Path, tuple[str, ...]]:
    """Write a study to start from: every covariate that has a value, every source observing all of them."""
    covariates = tuple(
        reading.covariate
        for reading in readings
        if any(not math.isnan(row["values"].get(reading.covariate.name, math.nan)) for row in kept)
    )
    path, names = plan.out / f"{plan.name}.toml", tuple(c.name for c in covariates)
    if not covariates:
        return path, ()
    sources = tuple(Source(name, name, names) for name in plan.sources[: len(plan.divide) or 1])
    study = Study(plan.name, plan.shape[1], plan.shape[0], covariates, sources, plan.geometry)
    write_atomically(path, to_toml(study), DataError)
    return path, names


def copy_study(name: str, out: Path) -> Path:
    """Copy a shipped example study beside the sources it points at.

    Raises:
        UsageError: No such study.
    """
    source = assets.path(f"studies/{name}.toml")
    out.mkdir(parents=True, exist_ok=True)
    return Path(shutil.copyfile(source, out / f"study-{name}.toml"))


def default_workers() -> int:
    """As many processes as this process may use cores."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not on macOS and Windows
        return os.cpu_count() or 1
