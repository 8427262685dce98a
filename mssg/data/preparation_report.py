"""What becomes of every image: reports to read, and the verdicts that come back from them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mssg.data import quality
from mssg.data.cohort import CohortImage, LeftOut
from mssg.data.cohort_files import STEM
from mssg.data.delimited import header_of, rows_of
from mssg.errors import DataError
from mssg.files import csv_text, write_atomically

KEEP, REJECT = "keep", "reject"
"""Decisions of qc.csv."""


@dataclass
class PreparedImage:
    """An image that was made.

    Attributes:
        at: Its place in the array of all images.
        file: Where it comes from.
        values: Its covariates in native units.
        columns: What else the recipe says of it.
        measured: From `quality.measure`, and what the recipe measures beside it.
        reason: Why it is rejected; "" where it is not.
        lacking: Covariates that could not be measured.
    """

    at: int
    file: CohortImage
    values: Mapping[str, float]
    columns: Mapping[str, Any]
    measured: dict[str, float | str]
    reason: str = ""
    lacking: tuple[str, ...] = ()

    @property
    def label(self) -> list[str]:
        """Lines for a contact sheet: the person, the visit, what else the file's name says, and the slice."""
        file = self.file
        stem = re.sub(STEM, "", file.name.rpartition("/")[2])
        rest = re.sub(r"^sub-[^_]*_(ses-[^_]*_)?", "", stem)
        visit = f"session {file.session}" if file.session else ""
        lines = file.subject, visit, f"{rest} {self.columns.get('slice', '')}".strip()
        return [line for line in lines if line]


@dataclass(frozen=True)
class Verdicts:
    """What a person has decided about images: a reason to reject, or "" to keep, by file and slice ("" for
    all slices of a file)."""

    reasons: Mapping[tuple[str, str], str] = field(default_factory=dict)

    def of(self, file: str, cut: str) -> str | None:
        """The verdict on an image; None where nothing was decided."""
        return self.reasons.get((file, cut), self.reasons.get((file, "")))


def read_verdicts(path: Path | None, files: Iterable[str]) -> Verdicts:
    """Read an edited qc.csv, or any table with a column `file`.

    Args:
        path: The table. A column `decision` says reject or keep; without it every row is rejected. A column
            `slice` tells the slices of a file apart.
        files: Names of the images that there are.

    Raises:
        DataError: It cannot be read, or names no image.
    """
    if path is None:
        return Verdicts()
    if "file" not in header_of(path):
        raise DataError("column is missing", file=path, field="file", hint="Copy lines of qc.csv")
    problems: list[LeftOut] = []
    reasons: dict[tuple[str, str], str] = {}
    for line, row in rows_of(path, problems):
        decision = row.get("decision", REJECT).lower()
        if decision not in (KEEP, REJECT):
            raise DataError(
                "unknown decision",
                file=path,
                field=f"line {line}",
                found=repr(decision),
                expected=f"{KEEP} | {REJECT}",
            )
        why = row.get("reason") or "rejected by hand"
        reasons[row["file"], row.get("slice", "")] = why if decision == REJECT else ""
    known = set(files)
    if problems or (reasons and not any(file in known for file, _ in reasons)):
        wrong = f"{problems[0].file}: {problems[0].reason}" if problems else "names no image of this data set"
        raise DataError(wrong, file=path, field="--reject", hint="Copy lines of qc.csv")
    return Verdicts(reasons)


def write_report(
    folder: Path, store: NDArray[np.uint8], images: Sequence[PreparedImage], left: Sequence[LeftOut]
) -> None:
    """skipped.csv, qc.csv and the contact sheets, the images least like the others first.

    Args:
        store: All images uint8 [N, C, H, W].
    """
    header = [f.name for f in fields(LeftOut)]
    _write_csv(folder / "skipped.csv", [vars(one) for one in left], header)
    for old in folder.glob("sheet-*.png"):
        old.unlink()
    likeness = quality.likeness(store, [image.at for image in images])
    for image, like in zip(images, likeness):
        image.measured["likeness"] = float(like)
    doubtful = [not image.measured.get("doubt") for image in images]
    ordered = [images[i] for i in sorted(range(len(images)), key=lambda i: (doubtful[i], likeness[i]))]
    _write_csv(folder / "qc.csv", [_qc_line(image) for image in ordered])
    by_place = {image.at: image for image in images}
    quality.contact_sheets(
        folder,
        store,
        [image.at for image in ordered],
        lambda at: by_place[at].label,
        rejected=lambda at: bool(by_place[at].reason),
    )


def _qc_line(image: PreparedImage) -> dict[str, Any]:
    return {
        **{"file": image.file.name, "subject": image.file.subject, "session": image.file.session},
        **image.columns,
        **{n: v if isinstance(v, str) else f"{v:.4g}" for n, v in image.measured.items()},
        **{"decision": REJECT if image.reason else KEEP, "reason": image.reason},
    }


def _write_csv(path: Path, lines: Sequence[Mapping[str, Any]], header: Sequence[str] = ()) -> None:
    names = list(header or dict.fromkeys(name for line in lines for name in line))
    write_atomically(path, csv_text(names, ([line.get(n, "") for n in names] for line in lines)), DataError)


def most_frequent(reasons: Iterable[str]) -> list[str]:
    """The three commonest reasons, each with how often it was given; what differs in a quoted value alone
    counts as one."""
    kinds: dict[str, list[str]] = {}
    for reason in reasons:
        kinds.setdefault(re.sub(r"'[^']*'", "…", reason), []).append(reason)
    alike = sorted(kinds.values(), key=len, reverse=True)
    return [f"{len(same)} x {same[0]}" for same in alike[:3]]
