"""A folder of harmonised pictures: a BIDS derivative data set where the study has a geometry, else PNGs.

Source: BIDS 1.9 (Gorgolewski et al. 2016); docs/guide/cohorts.md, "Harmonised pictures".
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from mssg.checkpoint.header import Header
from mssg.data import nifti
from mssg.data.plane import Place, PlaneGrid, place_of_image, place_of_study, to_image
from mssg.errors import DataError, UsageError
from mssg.files import make_folder, parse_json, write_atomically, write_json
from mssg.inversion.projector import InvertConfig
from mssg.rendering.image_files import encode_png
from mssg.study.covariate import SOURCE
from mssg.study.values import number, plain
from mssg.synthetic.documents import BIDS_VERSION, DESCRIPTION, check_folder
from mssg.synthetic.folder import snapshot_name
from mssg.synthetic.harmonised import Harmonised, RealPictures
from mssg.version import __version__

PLACED = ("position_mm", "across_mm", "up_mm")
"""Columns of a prepared source's table that say where a picture lies."""
TABLE = "images.tsv"


@dataclass(frozen=True, eq=False)
class HarmonisedFolder:
    """Where harmonised pictures lie."""

    path: Path
    header: Header
    pictures: RealPictures
    config: InvertConfig

    @property
    def is_bids(self) -> bool:
        """Whether pictures are NIfTI files in millimetres."""
        return self.header.study.geometry is not None and self.header.study.channels == 1

    @cached_property
    def names(self) -> dict[int, str]:
        """Row -> its picture's name without ending: sub-anna, sub-anna_ses-1, sub-anna_run-2.

        Raises:
            DataError: Two people whose ids differ in nothing that BIDS allows in a name.
        """
        packed, owner = self.pictures.packed, dict[str, str]()
        sessions = packed.table.get("session", np.full(len(packed), ""))
        stems: dict[int, str] = {}
        for row in self.pictures.rows.tolist():
            subject, session = str(packed.subjects[row]), _label(str(sessions[row]))
            label = _label(subject)
            if owner.setdefault(label, subject) != subject or not label:
                raise DataError(
                    "two people's ids become one in BIDS, which allows letters and digits",
                    file=packed.path,
                    field="subject",
                    found=f"{owner[label]}, {subject}",
                    hint="Rename them in the source's table",
                )
            stems[row] = f"sub-{label}" + (f"_ses-{session}" if session not in ("", "nan") else "")
        often, seen = Counter(stems.values()), Counter[str]()
        for row, stem in stems.items():
            seen[stem] += 1
            stems[row] = f"{stem}_run-{seen[stem]}" if often[stem] > 1 else stem
        return stems

    def picture(self, row: int) -> Path:
        """A row's picture."""
        name = self.names[row]
        if not self.is_bids:
            return self.path / "images" / f"{name}.png"
        folders = [part for part in name.split("_") if part.startswith(("sub-", "ses-"))]
        return self.path.joinpath(*folders, "anat", f"{name}_T1w.nii.gz")

    def has(self, row: int) -> bool:
        """Whether a row's files are there."""
        return self.read(row) is not None

    def read(self, row: int) -> dict[str, Any] | None:
        """A row's sidecar; None where it is not there, or of another model or task."""
        try:
            document = parse_json(self._sidecar(row).read_bytes())
            ours = json.loads(json.dumps(self.settings))
            return document if document["Settings"] == ours and self.picture(row).stat().st_size else None
        except (OSError, ValueError, LookupError, TypeError):
            return None

    def _sidecar(self, row: int) -> Path:
        path = self.picture(row)
        return nifti.sidecar(path) if self.is_bids else path.with_suffix(".json")

    @property
    def settings(self) -> dict[str, Any]:
        """Everything that decides a picture."""
        config = {k: v for k, v in vars(self.config).items() if v != getattr(InvertConfig(), k)}
        return {
            "Snapshot": self.header.snapshot_id,
            "From": self.pictures.origin,
            "To": self.pictures.target,
            "Inversion": config,
        }

    def write(self, done: Harmonised) -> None:
        """Write a picture and what became of it.

        Raises:
            UsageError: It cannot be written.
        """
        path, study = self.picture(done.row), self.header.study
        make_folder(path.parent, UsageError)
        levels = np.rint(done.image).astype(np.uint8)
        covariates = {
            c.name: {**({"Units": c.unit} if c.unit else {}), "Value": v if c.is_continuous else plain(c, v)}
            for c, v in zip(study.conditions, done.values)
            if c.name != SOURCE
        }
        document = {
            "Description": "A real picture, changed by a generative model to look as if another source had"
            " taken it. Not for diagnosis.",
            "Harmonised": True,
            "Units": nifti.GREY_LEVELS,
            "Row": done.row,
            "Covariates": covariates,
            "ReconstructionError": round(done.error, 3),
            "Before": done.before,
            "After": done.after,
            "Settings": self.settings,
        }
        if self.is_bids:
            image = to_image(levels[0], self._place(done.row))
            write_atomically(path, nifti.to_bytes(image, path), UsageError, lasting=False)
        else:
            pixels = levels[0] if len(levels) == 1 else levels.transpose(1, 2, 0)
            write_atomically(path, encode_png(pixels, {}), UsageError, lasting=False)
        text = json.dumps(document, indent=1, ensure_ascii=False) + "\n"
        write_atomically(self._sidecar(done.row), text, UsageError, lasting=False)

    def _place(self, row: int) -> Place:
        """Where a row's picture lies: where its table says, else where the study does."""
        geometry, table = self.header.study.geometry, self.pictures.packed.table
        resolution = self.header.study.resolution
        assert geometry is not None
        if any(name not in table for name in PLACED):
            place = place_of_study(geometry, resolution)
            code = place.code or nifti.SCANNER  # BIDS wants a place: each picture's own
            return Place(place.plane, place.affine, code)
        position, across, up = (float(table[name][row]) for name in PLACED)
        centre = (across, up)
        grid = PlaneGrid(geometry.plane, position, geometry.pixel_mm, resolution, centre, geometry.mirrored)
        return place_of_image(geometry, grid)

    def begin(self, command: str) -> None:
        """Make the folder and say what it will hold, or see that it holds a part of it.

        Raises:
            UsageError: It holds something else, or cannot be written.
            DataError: People that BIDS cannot tell apart.
        """
        about, _ = self.description(command), self.names
        make_folder(self.path, UsageError)
        check_folder(self.path, about)
        write_json(self.path / DESCRIPTION, about, UsageError)

    def finish(self, command: str) -> None:
        """Write what describes all pictures, from their own sidecars."""
        people = sorted({name.split("_")[0] for name in self.names.values()})
        lines = "".join(f"{name}\n" for name in ("participant_id", *people))
        write_atomically(self.path / "participants.tsv", lines, UsageError)
        write_atomically(self.path / TABLE, "".join(self._table()), UsageError)
        write_atomically(self.path / ".bidsignore", f"{TABLE}\n", UsageError)
        write_json(self.path / DESCRIPTION, self.description(command), UsageError)
        write_atomically(self.path / "CHANGES", f"1.0.0\n  - Harmonised by mssg {__version__}.\n", UsageError)
        write_atomically(self.path / "README", self._readme(command), UsageError)

    def description(self, command: str) -> dict[str, Any]:
        """dataset_description.json."""
        about = {"Name": "mssg", "Version": __version__, "Command": command, "Settings": self.settings}
        return {
            "Name": f"{self.pictures.packed.path.name} as {self.pictures.target} would have taken it",
            "BIDSVersion": BIDS_VERSION,
            "DatasetType": "derivative",
            "License": "That of the pictures that were harmonised",
            "GeneratedBy": [about],
        }

    def _table(self) -> Iterator[str]:
        """images.tsv: a line a picture, with readings before and after."""
        names = [n for n in self.header.study.condition_names if n != SOURCE]
        first = self.read(next(iter(self.names))) or {}
        read = list(first.get("Before", {}))
        moved = [f"{name}_{when}" for name in read for when in ("before", "after")]
        own = ("participant_id", "file", "split")
        yield "\t".join((*own, *names, "source_before", "source_after", "error", *moved)) + "\n"
        for row, name in self.names.items():
            document = self.read(row)
            if document is None:
                raise UsageError("is damaged", file=self.picture(row), hint="Remove it and run this again")
            values = [document["Covariates"][n]["Value"] for n in names]
            readings = [document[when][n] for n in read for when in ("Before", "After")]
            cells = [
                name.split("_")[0],
                self.picture(row).relative_to(self.path).as_posix(),
                str(self.pictures.packed.split[row]),
                *(v if isinstance(v, str) else number(v) for v in values),
                self.pictures.origin,
                self.pictures.target,
                number(document["ReconstructionError"]),
                *("n/a" if v is None or v != v else f"{v:.6g}" for v in readings),
            ]
            yield "\t".join(cells) + "\n"

    def _readme(self, command: str) -> str:
        p, people = self.pictures, f"{len(self.names)} real pictures of {self.pictures.origin}"
        source = "read off the pictures" if p.how == "discriminator" else f"taken from the {p.how}"
        snapshot = f"snapshot {snapshot_name(self.header)}, SHA-256 {self.header.snapshot_id}…"
        lines = (
            "# Harmonised pictures",
            "",
            f"{people}, changed by a generative model ({snapshot}) to look as if {p.target} had taken them.",
            "Grey levels and the bias field are changed as the model changes them between the two sources;",
            "everything finer is the original's. Real people are on them: treat them like the originals.",
            "",
            f"- Made by mssg {__version__}: `{command}`",
            f"- That they are of {p.origin} was {source}.",
            f"- {TABLE}: covariates each picture was explained with, the reconstruction's error in grey",
            "  levels, and what the study's instrument reads before and after.",
            "- What was not in the training data cannot be harmonised. Not for diagnosis.",
        )
        return "\n".join(lines) + "\n"


def _label(text: str) -> str:
    """What BIDS allows of an id."""
    return re.sub(r"[^A-Za-z0-9]", "", text)
