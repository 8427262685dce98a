"""Data sets in the layout of the official StyleGAN tools: images and dataset.json, in a folder or a zip
archive.

A zip archive is read in place: nothing is unpacked, and names inside it are keys, never paths.
"""

from __future__ import annotations

import io
import math
import re
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mssg.data.covariate_options import parse_covariate
from mssg.data.dataset import check_target, write_packed
from mssg.data.split import SPLITS, split_subjects
from mssg.errors import DataError, UsageError
from mssg.files import parse_json, write_atomically
from mssg.study.model import Covariate, Source, Study
from mssg.study.schema import to_toml

SUFFIXES = (".png", ".jpg", ".jpeg")
LABELS = "dataset.json"
FOLDER = "images"
"""Name of the source that is written, and of its folder."""
LARGEST_FILE = 64 * 2**20
"""Bytes of one unpacked image above which an archive is refused."""
CHANNELS = {"L": 1, "RGB": 3}

Progress = Callable[[int], None]


@dataclass(frozen=True)
class PreparedArchive:
    """What was prepared; `study` is None for images without labels, which no study can condition on."""

    folder: Path
    study: Path | None
    counts: dict[str, int]
    resolution: int
    channels: int
    covariates: tuple[str, ...]


def _label(text: str) -> Covariate:
    """A label's covariate from NAME=KIND[:DETAIL…].

    Raises:
        UsageError: As `parse_covariate`, or its levels are not stated.
    """
    spec = parse_covariate(text, "--labels")
    if spec.codes or (spec.covariate.kind == "categorical" and not spec.covariate.levels):
        expected = "NAME=categorical:COUNT or NAME=categorical:LEVEL,LEVEL,…; NAME=binary"
        raise UsageError("cannot be read as a label", field="--labels", found=repr(text), expected=expected)
    return spec.covariate


def prepare(
    path: str | Path,
    out_dir: str | Path,
    labels: Sequence[str] = (),
    seed: int = 0,
    test: float = 0.15,
    val: float = 0.1,
    subject_pattern: str | None = None,
    progress: Progress | None = None,
) -> PreparedArchive:
    """Prepare one source, `images`, and a study TOML that trains on it.

    Args:
        path: Folder or zip with images and, for labels, a dataset.json {"labels": [[file, number or list],
            …]}.
        out_dir: Folder to write; `images` inside it is replaced.
        labels: What the labels are, in order (`parse_covariate`); a categorical label is an index or one-hot
            numbers.
        seed: Seed of the split.
        test: Share of subjects to test on.
        val: Share of the rest to validate on.
        subject_pattern: Regular expression searched in the file name; its first group (or the match) is the
            subject. Without it every image counts as a subject.
        progress: Called with the number of images done since the last call.

    Raises:
        DataError: Something is missing, damaged or of another size than the rest.
        UsageError: Labels, pattern or shares that cannot be.
    """
    covariates = tuple(_label(text) for text in labels)
    if len({c.name for c in covariates}) < len(covariates):
        raise UsageError("a name is given twice", field="--labels", found=", ".join(labels))
    path, out = Path(path), Path(out_dir)
    check_target(out / FOLDER)
    with open_archive(path) as archive:
        names = [n for n in archive.names() if n.lower().endswith(SUFFIXES)]
        if not names:
            raise DataError("no image found", file=path, expected="PNG or JPEG files")
        values = _values(path, archive, names, covariates)
        subjects = _subjects(names, subject_pattern)
        split = split_subjects(subjects, seed, test, val)
        channels, resolution = _read_image(path, archive, names[0]).shape[:2]
        table: dict[str, Any] = {"subject": subjects, "split": split, "file": names}
        for covariate, column in zip(covariates, values.T):
            table[covariate.name] = [_cell(covariate, value) for value in column]
        info = {
            "recipe": "stylegan",
            "origin": path.name,
            "seed": seed,
            "shares": {"test": test, "val": val},
            "geometry": None,
        }
        write_packed(out / FOLDER, _images(path, archive, names, progress), table, info)
    study = None
    if covariates:
        observed = tuple(c.name for c in covariates)
        source = Source(FOLDER, FOLDER, observed)
        text = to_toml(Study(out.resolve().name, resolution, channels, covariates, (source,)))
        study = out / "study.toml"
        write_atomically(study, text, DataError)
    counts = {name: int(np.sum(split == name)) for name in SPLITS}
    return PreparedArchive(out, study, counts, resolution, channels, tuple(c.name for c in covariates))


class _Folder:
    """Files below a folder by relative name with forward slashes."""

    def __init__(self, path: Path) -> None:
        root = path.resolve()
        files = sorted(p for p in root.rglob("*") if p.is_file() and p.resolve().is_relative_to(root))
        self._files = {p.relative_to(root).as_posix(): p for p in files}

    def __enter__(self) -> _Folder:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def names(self) -> list[str]:
        return list(self._files)

    def read(self, name: str) -> bytes:
        return self._files[name].read_bytes()


class _Zip:
    """Members of a zip archive by name; nothing is written to disk."""

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            self._zip = zipfile.ZipFile(path)
        except (zipfile.BadZipFile, NotImplementedError, OSError, ValueError) as error:
            raise DataError(f"not a readable zip archive: {error}", file=path) from None
        self._members = {m.filename: m for m in self._zip.infolist() if m.filename and not m.is_dir()}

    def __enter__(self) -> _Zip:
        return self

    def __exit__(self, *_: object) -> None:
        self._zip.close()

    def names(self) -> list[str]:
        return sorted(self._members)

    def read(self, name: str) -> bytes:
        member = self._members[name]
        limit = LARGEST_FILE if name != LABELS else 16 * LARGEST_FILE
        if member.file_size > limit:
            raise DataError(
                "member is too large",
                file=self._path,
                field=name,
                found=f"{member.file_size} bytes",
                expected=f"at most {limit}",
            )
        try:
            # the size in the directory may lie: never read more than it says
            with self._zip.open(member) as stream:
                return stream.read(member.file_size + 1)[: member.file_size]
        except (
            zipfile.BadZipFile,
            RuntimeError,
            NotImplementedError,
            OSError,
            EOFError,
            zlib.error,
        ) as error:
            raise DataError(
                f"damaged or encrypted member: {error}",
                file=self._path,
                field=name,
                hint="Make the archive again",
            ) from None


def open_archive(path: Path) -> _Folder | _Zip:
    """A folder or a zip archive as named bytes: `names()` and `read(name)`; a context manager.

    Raises:
        DataError: Neither of them.
    """
    if path.is_dir():
        return _Folder(path)
    if path.is_file():
        return _Zip(path)
    raise DataError("no such file or folder", file=path, expected="a folder or a zip archive with images")


def _images(
    path: Path, archive: _Folder | _Zip, names: list[str], progress: Progress | None
) -> Iterator[NDArray[np.uint8]]:
    """Every image [C,H,W], checked against the first."""
    first: tuple[int, ...] | None = None
    for name in names:
        image = _read_image(path, archive, name)
        first = first or image.shape
        if image.shape != first:
            raise DataError(
                "image of another size or colour mode than the first",
                file=path,
                field=name,
                found=_describe(image.shape),
                expected=f"{_describe(first)} as {names[0]}",
            )
        yield image
        if progress:
            progress(1)


def _describe(shape: tuple[int, ...]) -> str:
    return f"{shape[2]} x {shape[1]} pixels, {shape[0]} channel{'s' if shape[0] > 1 else ''}"


def _read_image(path: Path, archive: _Folder | _Zip, name: str) -> NDArray[np.uint8]:
    """One image as uint8 [C,H,W], square with a power of two as its side."""
    from PIL import Image

    try:
        with Image.open(io.BytesIO(archive.read(name)), formats=("PNG", "JPEG")) as image:
            width, height = image.size
            mode, side = image.mode, width
            if width != height or side & (side - 1) or not 32 <= side <= 1024:
                raise DataError(
                    "not a supported image size",
                    file=path,
                    field=name,
                    found=f"{width} x {height} pixels",
                    expected="square, a power of two from 32 to 1024",
                    hint="Crop and resize the images first",
                )
            pixels = np.asarray(image) if mode in CHANNELS else None
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise DataError(
            f"not a readable image: {error}", file=path, field=name, expected="a PNG or JPEG file"
        ) from None
    if pixels is None:
        raise DataError(
            "not a supported colour mode",
            file=path,
            field=name,
            found=mode,
            expected="8-bit grey (L) or RGB",
            hint="Convert the images first",
        )
    return np.ascontiguousarray(pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1))


def _subjects(names: list[str], pattern: str | None) -> list[str]:
    if pattern is None:
        return [name.rsplit(".", 1)[0] for name in names]
    try:
        search = re.compile(pattern).search
    except re.error as error:
        raise UsageError(
            f"not a regular expression: {error}", field="--subject-pattern", found=repr(pattern)
        ) from None
    subjects = []
    for name in names:
        match = search(name)
        subject = match and match.group(1 if match.re.groups else 0)
        if not subject:
            raise DataError("the subject pattern does not match", field=name, expected=pattern)
        subjects.append(subject)
    return subjects


def _labels(path: Path, archive: _Folder | _Zip) -> dict[str, Any] | None:
    """File name -> label, or None where there are none."""
    if LABELS not in archive.names():
        return None
    try:
        document = parse_json(archive.read(LABELS))
        entries = document["labels"]
        return None if entries is None else {str(name): label for name, label in entries}
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"cannot be read: {type(error).__name__}: {error}",
            file=path,
            field=LABELS,
            expected='{"labels": [["file.png", 3], …]}, a list of numbers for each file, or null',
        ) from None


def _values(
    path: Path, archive: _Folder | _Zip, names: list[str], covariates: tuple[Covariate, ...]
) -> NDArray[np.float64]:
    """Native values [N, number of covariates] of every image."""
    found = _labels(path, archive)
    if not covariates:
        if found:
            raise UsageError(
                "the images have labels that need names",
                field="--labels",
                found=f"{next(iter(found.values()))} for {next(iter(found))}",
                expected="--labels NAME=KIND for each of them",
                hint="For example --labels digit=categorical:10",
            )
        return np.empty((len(names), 0))
    if not found:
        raise DataError(
            "no labels",
            file=path,
            field=LABELS,
            expected=", ".join(c.name for c in covariates),
            hint="Leave out --labels",
        )
    for have, want, what in (
        (found, set(names), "names a file that is not there"),
        (names, found, "has no label for"),
    ):
        missing = next((name for name in have if name not in want), None)
        if missing is not None:
            raise DataError(what, file=path, field=LABELS, found=missing)
    return np.array([_row(path, name, found[name], covariates) for name in names])


def _row(path: Path, name: str, label: Any, covariates: tuple[Covariate, ...]) -> list[float]:
    """Native values of one label: a number, a list of numbers, or null (missing)."""
    if label is None:
        return [math.nan] * len(covariates)
    numbers = label if isinstance(label, list) else [label]

    def wrong(what: str, covariate: str, found: object, expected: object) -> DataError:
        return DataError(
            what, file=path, field=f"{LABELS}, {name}, {covariate}", found=found, expected=expected
        )

    if any(not (n is None or isinstance(n, int | float)) for n in numbers):
        raise wrong("label is not made of numbers", "label", label, "a number or a list of numbers")
    numbers = [math.nan if n is None else float(n) for n in numbers]
    hot = sum(c.width for c in covariates)
    if len(numbers) not in (len(covariates), hot):
        expected = f"{len(covariates)} numbers" + (
            f", or {hot} with categories one-hot" if hot > len(covariates) else ""
        )
        raise wrong("label of another length", "label", f"{len(numbers)} numbers", expected)
    one_hot, values = len(numbers) == hot, []
    for covariate in covariates:
        width = covariate.width if one_hot else 1
        part, numbers = numbers[:width], numbers[width:]
        if width > 1:
            if sorted(part) != [0.0] * (width - 1) + [1.0] and not all(map(math.isnan, part)):
                raise wrong("not one-hot", covariate.name, part, "one 1 and zeros")
            part = [math.nan if math.isnan(part[0]) else float(part.index(1.0))]
        value, allowed = part[0], range(covariate.num_levels)
        if math.isinf(value) or (
            not covariate.is_continuous and not math.isnan(value) and value not in allowed
        ):
            expected = "a finite number" if covariate.is_continuous else f"0 to {allowed[-1]}"
            raise wrong("value out of range", covariate.name, value, expected)
        values.append(value)
    return values


def _cell(covariate: Covariate, value: float) -> str | float:
    """A native value as the table holds it: levels by name."""
    if math.isnan(value) or covariate.is_continuous:
        return value
    return covariate.levels[int(value)] if covariate.levels else str(int(value))
