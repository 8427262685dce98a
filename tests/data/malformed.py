"""Inputs that are wrong in ways people meet: each kind spoils one image or its row, or a whole table."""

from __future__ import annotations

import csv
import gzip
from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np

from mssg import load_study
from mssg.data.dataset import open_sources
from mssg.data.pipeline import PreparedSources
from mssg.data.recipes import mri
from mssg.data.recipes.cohort_selection import PrepareRequest
from mssg.errors import MssgError
from tests.data.stand_ins import head, person, save_volume, write_rows

GOOD = 6
"""Images of each data set that nothing is wrong with."""
Row = dict[str, object]
Spoil = Callable[[np.random.Generator, Path, Row], None]


def _bytes(change: Callable[[np.random.Generator, bytes], bytes]) -> Spoil:
    def spoil(rng: np.random.Generator, path: Path, row: Row) -> None:
        path.write_bytes(change(rng, path.read_bytes()))

    return spoil


def _truncated(rng: np.random.Generator, content: bytes) -> bytes:
    return content[: int(rng.integers(0, len(content) - 1))]


def _flipped(rng: np.random.Generator, content: bytes) -> bytes:
    """Bits of the compressed data turned: the checksum no longer fits."""
    out = bytearray(content)
    for at in rng.integers(20, len(out) - 8, 3):
        out[at] ^= int(rng.integers(1, 256))
    return bytes(out) if bytes(out) != content else content[:-9]


def _header(field: str, value: object) -> Spoil:
    def spoil(rng: np.random.Generator, path: Path, row: Row) -> None:
        raw = bytearray(gzip.decompress(path.read_bytes()))
        header = nibabel.Nifti1Header(bytes(raw[:348]), check=False)
        header[field] = value
        path.write_bytes(gzip.compress(header.binaryblock + bytes(raw[348:]), 1))

    return spoil


def _data(make: Callable[[np.random.Generator, np.ndarray], np.ndarray]) -> Spoil:
    def spoil(rng: np.random.Generator, path: Path, row: Row) -> None:
        save_volume(path, make(rng, head(60, 30)))

    return spoil


def _nan(rng: np.random.Generator, data: np.ndarray) -> np.ndarray:
    spots = rng.random(data.shape) < rng.choice([1e-3, 0.5])
    spots[0, 0, 0] = True
    return np.where(spots, rng.choice([np.nan, np.inf, -np.inf]), data).astype(np.float32)


def _affine(make: Callable[[np.random.Generator], np.ndarray]) -> Spoil:
    def spoil(rng: np.random.Generator, path: Path, row: Row) -> None:
        rows = make(rng)
        for field, values in zip(("srow_x", "srow_y", "srow_z"), rows):
            _header(field, values)(rng, path, row)
        _header("sform_code", 1)(rng, path, row)

    return spoil


def _cell(column: str, *values: object) -> Spoil:
    def spoil(rng: np.random.Generator, path: Path, row: Row) -> None:
        row[column] = values[int(rng.integers(len(values)))]

    return spoil


def _link(target: Callable[[Path], Path]) -> Spoil:
    def spoil(rng: np.random.Generator, path: Path, row: Row) -> None:
        path.unlink()
        path.symlink_to(target(path))

    return spoil


def _scout(rng: np.random.Generator, path: Path, row: Row) -> None:
    """Few thick slices, or a field far wider than the others'."""
    thick = head(60, 30)[:, :, ::5]
    save_volume(path, *((thick, "RAS", 40.0) if rng.random() < 0.5 else (head(60, 30), "RAS", 18.0)))


def _folder(rng: np.random.Generator, path: Path, row: Row) -> None:
    path.unlink()
    path.mkdir()


SPOILS: dict[str, tuple[Spoil, str]] = {
    # kind: (what it does, words of its reason)
    "truncated gzip": (_bytes(_truncated), "cannot be read"),
    "damaged gzip": (_bytes(_flipped), "cannot be read"),
    "empty file": (_bytes(lambda rng, content: b""), "cannot be read"),
    "text": (_bytes(lambda rng, content: b"<html>404</html>"), "cannot be read"),
    "random bytes": (_bytes(lambda rng, content: rng.bytes(5000)), "cannot be read"),
    "four dimensions": (
        _data(lambda rng, data: np.stack([data] * int(rng.integers(2, 4)), 3)),
        "three-dimensional",
    ),
    "two dimensions": (_data(lambda rng, data: data[:, :, :1]), "three-dimensional"),
    "constant": (_data(lambda rng, data: np.full_like(data, rng.integers(5))), "empty"),
    "NaN voxels": (_data(_nan), "not finite"),
    "zero affine": (_affine(lambda rng: np.zeros((3, 4))), "affine makes no sense"),
    "singular affine": (
        _affine(lambda rng: np.outer(rng.normal(size=3), np.ones(4))),
        "affine makes no sense",
    ),
    "affine not a number": (_affine(lambda rng: np.full((3, 4), np.nan)), "affine makes no sense"),
    "no orientation": (_header("sform_code", 0), "no orientation"),
    "huge": (_header("dim", [3, 32767, 32767, 32767, 1, 1, 1, 1]), "too large"),
    "larger than its data": (_header("dim", [3, 40, 48, 44, 1, 1, 1, 1]), "cannot be read"),
    "negative size": (_header("dim", [3, -20, 24, 22, 1, 1, 1, 1]), ""),
    "unknown data type": (_header("datatype", 9999), "cannot be read"),
    "complex numbers": (_header("datatype", 32), "complex"),
    "colours": (_header("datatype", 128), "complex or coloured"),
    "a unit that cannot be": (_header("xyzt_units", 1), "from the unit meter"),
    "data in the header": (_header("vox_offset", 0), "begin inside its header"),
    "a scout": (_scout, "are usual"),
    "folder": (_folder, "not a file"),
    "symlink loop": (_link(lambda path: path), "cannot be followed"),
    "dangling link": (_link(lambda path: path.with_name("gone.nii.gz")), "a file that is not there"),
    "link out of the folder": (_link(lambda path: path.parents[2] / "outside.nii.gz"), "leads outside"),
    "path out of the folder": (
        _cell("path", "../outside.nii.gz", "/etc/hostname", "scans/../../outside.nii.gz"),
        "",
    ),
    "no such file": (_cell("path", "scans/none.nii.gz", "scans/é.nii.gz", "x" * 4000), ""),
    "null in the path": (_cell("path", "scans/\0.nii.gz"), ""),
    "no volume": (_cell("path", "images.csv"), "not a volume"),
    "no path": (_cell("path", ""), "no path"),
    "no subject": (_cell("subject", ""), "subject is not known"),
    "named twice": (_cell("path", "scans/good0.nii.gz"), "named twice"),
    "duplicate subject": (_cell("subject", "good1"), "told apart by a session"),
    "non-numeric age": (_cell("age", "old", "sixty", "6O.5", "63,5", "--", "1e999"), "not a finite number"),
    "age in months": (_cell("age", 744, 901.5), "outside 0 to 120"),
    "negative age": (_cell("age", -5, -999), "outside 0 to 120"),
    "top-coded age": (_cell("age", "89+", "> 89", "≥90"), "states a limit"),
    "mixed units": (_cell("volume", 31000, 54321.5), "another unit"),
    "unknown sex": (_cell("sex", "x", "3", "male"), "unknown code"),
    "unknown site": (_cell("site", "Z", "0"), "unknown level"),
}
LINES = {
    "too few cells": lambda line: line.rsplit(",", 2)[0],
    "too many cells": lambda line: line + ",1,2",
    "open quote": lambda line: '"' + "x" * 200_000,
}
"""Last lines of a table that cannot be read."""
COVARIATES = ("age=continuous:years", "volume=continuous:ml", "sex=binary:F,M", "site=categorical:A,B")


def _column(rng: np.random.Generator, text: str) -> str:
    return text.replace(str(rng.choice(["age", "volume", "sex", "site", "subject", "path"])), "other", 1)


TABLES: dict[str, Callable[[np.random.Generator, str], bytes]] = {
    # kind: what becomes of the whole table; the run ends with a message
    "missing column": lambda rng, text: _column(rng, text).encode(),
    "column twice": lambda rng, text: text.replace("volume", "age", 1).encode(),
    "empty table": lambda rng, text: b"",
    "header only": lambda rng, text: text.splitlines()[0].encode(),
    "another encoding": lambda rng, text: text.replace("good0", "g\u00f6\u00f6d").encode("latin-1"),
    "two bytes a character": lambda rng, text: text.encode("utf-16-le"),
    "a workbook": lambda rng, text: b"PK\x03\x04" + text.encode(),
    "binary table": lambda rng, text: bytes(rng.integers(128, 256, 3000, dtype=np.uint8)),
    "other delimiter": lambda rng, text: text.replace(",", "|").encode(),
}


def write(folder: Path, rng: np.random.Generator, kinds: list[str]) -> tuple[Path, list[tuple[str, str]]]:
    """A table of volumes, `GOOD` of them good and one for each kind spoiled.

    Args:
        folder: Where; a file in it, outside the table's own folder, plays what must not be read.
        rng: Decides how each is spoiled.
        kinds: Of `SPOILS`.

    Returns:
        The table, and for each spoiled image its name in the report and its kind.
    """
    root = folder / "in"
    save_volume(folder / "outside.nii.gz", head(60, 30))
    rows, spoiled = [], []
    for number in range(GOOD + len(kinds)):
        name = f"good{number}" if number < GOOD else f"bad{number}"
        who, path = person(number), root / "scans" / f"{name}.nii.gz"
        save_volume(path, head(who["age"], who["ventricle"], number % 3))
        row: Row = {"path": f"scans/{name}.nii.gz", "subject": name, "age": who["age"]}
        row |= {"volume": who["ventricle"], "sex": "FM"[number % 2], "site": "AB"[number % 2]}
        if number >= GOOD:
            kind = kinds[number - GOOD]
            SPOILS[kind][0](rng, path, row)
            spoiled.append((str(row["path"]) or f"images.csv, line {number + 2}", kind))
        rows.append(row)
    return write_rows(root / "images.csv", rows), spoiled


def check(folder: Path, rng: np.random.Generator, kinds: list[str]) -> list[str]:
    """Prepare a table with these kinds in it; what is not as it must be, one sentence each."""
    path, spoiled = write(folder, rng, kinds)
    summary = prepare(path, folder / "out")
    reasons: dict[str, list[str]] = {}
    with (summary.report / "skipped.csv").open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            reasons.setdefault(row["file"], []).append(row["reason"])
    wrong = []
    for name, kind in spoiled:
        said = SPOILS[kind][1]
        if not any(reason and said in reason for reason in reasons.get(name, [])):
            wrong.append(f"{kind}: {name[:60]!r} has the reason {reasons.get(name)}, not {said!r}")
        if any("unexpected" in reason for reason in reasons.get(name, [])):
            wrong.append(f"{kind}: {reasons[name]}")
    (source,) = open_sources(load_study(summary.study), verify=True)
    lost = {"good1"} if "duplicate subject" in kinds else set()
    good = {f"good{i}" for i in range(GOOD)} - lost
    if set(source.subjects) != good or len(source) != len(good):
        wrong.append(f"prepared {sorted(source.subjects)} instead of {sorted(good)} beside {kinds}")
    return wrong


def check_table(folder: Path, rng: np.random.Generator, kind: str) -> list[str]:
    """Spoil the whole table: the run must end with a message, and write nothing."""
    path, _ = write(folder, rng, [])
    path.write_bytes(TABLES[kind](rng, path.read_text(encoding="utf-8")))
    try:
        prepare(path, folder / "out")
    except MssgError as error:
        return [] if path.name in str(error) or "skipped.csv" in str(error) else [f"{kind}: {error}"]
    return [f"{kind}: no message"]


def check_lines(folder: Path, rng: np.random.Generator, kind: str) -> list[str]:
    """Spoil the table's last line: it must be reported, and all others prepared."""
    path, _ = write(folder, rng, [])
    lines = path.read_text(encoding="utf-8").splitlines()
    path.write_text(
        "\n".join([*lines, LINES[kind](lines[-1].replace("good", "bad"))]) + "\n", encoding="utf-8"
    )
    summary = prepare(path, folder / "out")
    made = sum(summary.counts["csv"].values())
    if made != GOOD or summary.skipped != {"table": 1}:
        return [f"{kind}: {made} prepared, left out {summary.skipped}"]
    return []


def prepare(path: Path, out: Path) -> PreparedSources:
    """Prepare a table's volumes at 32 pixels."""
    return mri.prepare(PrepareRequest(path, out, covariates=COVARIATES), mri.SliceOptions(resolution=32))
