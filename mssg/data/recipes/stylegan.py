"""Data sets in the layout of the official StyleGAN tools and of the research code: images and dataset.json,
in a folder or a zip archive."""

from __future__ import annotations

import gzip
import io
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mssg.data.archive_labels import ArchiveLabels, parse_labels, parts, read_labels
from mssg.data.archives import LARGEST_FILE, PARTS, FolderArchive, ZipArchive, open_archive
from mssg.data.dataset_writer import check_target, write_packed
from mssg.data.draft import write_draft
from mssg.data.nifti import quiet_nibabel
from mssg.data.picture_files import read_pixels
from mssg.data.pipeline import cell, meaning
from mssg.data.split import SHARES, SPLITS, Shares, split_subjects
from mssg.data.units import ask_unit
from mssg.errors import DataError, UsageError
from mssg.study.covariate import Covariate
from mssg.study.model import Source, Study
from mssg.study.schema import to_toml

PICTURES, SLICES = (".png", ".jpg", ".jpeg"), (".nii", ".nii.gz")
SUFFIXES = (*PICTURES, *SLICES)
OTHERS = (".bmp", ".dcm", ".gif", ".hdr", ".img", ".mgz", ".npy", ".tif", ".tiff", ".webp")
"""Images of kinds that are not read."""
SHOWN = 3
FOLDER = "images"
"""Name of the source that is written, and of its folder."""

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
    notes: tuple[str, ...] = ()


def prepare(
    path: str | Path,
    out_dir: str | Path,
    labels: Sequence[str] = (),
    *,
    seed: int = 0,
    shares: Shares = SHARES,
    subject_pattern: str | None = None,
    root: str | Path | None = None,
    progress: Progress | None = None,
) -> PreparedArchive:
    """Prepare one source, `images`, and a study TOML that trains on it.

    Args:
        path: Folder or zip with images and, for labels, a dataset.json {"labels": [[file, label], …]}; or
            with folders trainset, valset, testset of that kind, whose split is kept.
        out_dir: Folder to write; `images` inside it is replaced.
        labels: What the labels are (`parse_label`): of numbers in order, where a categorical label is an
            index or one-hot; of dictionaries by key, where those not named are taken as their values are.
        subject_pattern: Regular expression searched in the file name; its first group (or the match) is the
            subject. Without it the labels' own ids are, else every image counts as a subject.
        root: Another folder that links of a folder may lead to.
        progress: Called with the number of images done since the last call.

    Raises:
        DataError: Something is missing, damaged or of another size than the rest.
        UsageError: Labels or a pattern that cannot be.
    """
    path, out, stated = Path(path), Path(out_dir), parse_labels(labels)
    check_target(out / FOLDER)
    with open_archive(path, [Path(root)] if root else []) as archive:
        names = image_names(archive)
        left = _left(archive)
        if not names:
            expected = " or ".join(SUFFIXES)
            raise DataError("no image found", file=path, found=left or None, expected=expected)
        read = read_labels(path, archive, names, stated)
        for spec in stated:
            at = read.covariates.index(spec.covariate)
            ask_unit(spec, read.values[:, at], "--labels")
        subjects = _subjects(names, subject_pattern, read.subjects)
        split = _split(names, parts(archive)) or split_subjects(subjects, seed, shares)
        channels, resolution = _read_image(path, archive, names[0]).shape[:2]
        table: dict[str, Any] = {"subject": subjects, "split": split, "file": names}
        for covariate, column in zip(read.covariates, read.values.T):
            table[covariate.name] = [cell(covariate, value) for value in column]
        info = {
            "recipe": "stylegan",
            "origin": path.name,
            "seed": seed,
            "shares": asdict(shares),
            "geometry": None,
            "covariates": meaning(read.covariates),
        }
        write_packed(out / FOLDER, _images(path, archive, names, progress), table, info)
    return PreparedArchive(
        folder=out,
        study=_write_study(out, resolution, channels, read.covariates),
        counts={name: int(np.sum(np.asarray(split) == name)) for name in SPLITS},
        resolution=resolution,
        channels=channels,
        covariates=tuple(c.name for c in read.covariates),
        notes=(*_notes(names, read), *([f"not read: {left}"] if left else [])),
    )


def _write_study(out: Path, resolution: int, channels: int, covariates: tuple[Covariate, ...]) -> Path | None:
    """The study TOML that trains on the source; none without covariates."""
    if not covariates:
        return None
    source = Source(FOLDER, FOLDER, tuple(c.name for c in covariates))
    study = Study(out.resolve().name, resolution, channels, covariates, sources=(source,))
    return write_draft(out / "study.toml", to_toml(study))


def image_names(archive: FolderArchive | ZipArchive) -> list[str]:
    """Names of an archive's images."""
    return [name for name in archive.names() if name.lower().endswith(SUFFIXES)]


def _split(names: Sequence[str], folders: Sequence[str]) -> list[str]:
    """The split that an archive's folders state; empty where it has none.

    Raises:
        DataError: An image lies in none of them.
    """
    if not folders:
        return []
    odd = next((name for name in names if name.partition("/")[0] not in folders), None)
    if odd is not None:
        raise DataError("in none of the archive's parts", field=odd, expected=" | ".join(folders))
    return [PARTS[name.partition("/")[0]] for name in names]


def _left(archive: FolderArchive | ZipArchive) -> str:
    """What is not read of an archive; "" where all that may be an image is."""
    reasons = [f"{one.file}: {one.reason}" for one in archive.left if not _is_aside(one.file)]
    others = Counter(Path(name).suffix.lower() for name in archive.names())
    kinds = [f"{others[suffix]} {suffix}" for suffix in OTHERS if others[suffix]]
    more = [f"{len(reasons) - SHOWN} more"] if len(reasons) > SHOWN else []
    return "; ".join([*kinds, *reasons[:SHOWN], *more])


def _is_aside(name: str) -> bool:
    """Whether a file has a suffix that no image has."""
    suffix = Path(name).suffix.lower()
    return suffix != "" and not name.lower().endswith((*SUFFIXES, *OTHERS))


def _notes(names: Sequence[str], read: ArchiveLabels) -> tuple[str, ...]:
    """What was decided that nobody has stated."""
    kinds = {c.name: c.kind for c in read.covariates}
    guessed = ", ".join(f"{name} {kinds[name]}" for name in read.guessed)
    out = [f"kinds taken from the values: {guessed}; state others with --labels NAME=KIND"] if guessed else []
    if read.ignored:
        out.append(f"texts that are no levels, not taken: {', '.join(read.ignored)}")
    if any(name.lower().endswith(SLICES) for name in names):
        out.append("NIfTI slices are taken as stored, rows first; their affine is not looked at")
    return tuple(out)


def _images(
    path: Path, archive: FolderArchive | ZipArchive, names: list[str], progress: Progress | None
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


def _read_image(path: Path, archive: FolderArchive | ZipArchive, name: str) -> NDArray[np.uint8]:
    """One image as uint8 [C,H,W], square with a power of two as its side."""

    def check(height: int, width: int) -> None:
        if width != height or width & (width - 1) or not 32 <= width <= 1024:
            raise DataError(
                "not a supported image size",
                file=path,
                field=name,
                found=f"{width} x {height} pixels",
                expected="square, a power of two from 32 to 1024",
                hint="Crop and resize the images first",
            )

    content = archive.read(name)
    if name.lower().endswith(SLICES):
        return _slice(path, name, content, check)[None]
    pixels = read_pixels(io.BytesIO(content), path, name, check=check)
    if pixels.dtype != np.uint8:
        raise DataError(
            "not a supported colour mode",
            file=path,
            field=name,
            found="16 bits",
            expected="8-bit grey (L) or RGB",
            hint="Convert the images first",
        )
    return np.ascontiguousarray(pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1))


def _slice(path: Path, name: str, content: bytes, check: Callable[[int, int], None]) -> NDArray[np.uint8]:
    """A NIfTI file that holds a picture, as the research code wrote them: rows first, grey levels 0 to 255,
    with the affine of the volume that it was cut from, which says nothing of the slice."""
    import nibabel

    try:
        if name.lower().endswith(".gz"):
            content = gzip.GzipFile(fileobj=io.BytesIO(content)).read(LARGEST_FILE)
        with quiet_nibabel():
            image: Any = nibabel.Nifti1Image.from_bytes(content)
        shape = tuple(int(n) for n in image.shape)
        if len([n for n in shape if n > 1]) != 2:
            raise ValueError(f"not one slice, but {list(shape)}")
        check(*(n for n in shape if n > 1))
        levels = np.asarray(image.dataobj).squeeze()
        if not np.isrealobj(levels) or not ((levels >= 0) & (levels <= 255)).all():
            raise ValueError("not grey levels from 0 to 255")
        return np.rint(levels).astype(np.uint8)
    except DataError:
        raise
    except Exception as error:  # a damaged file makes its reader fail in any way it likes
        text = (str(error) or type(error).__name__).splitlines()[0][:200]
        raise DataError(
            f"not a readable image: {text}",
            file=path,
            field=name,
            expected="a slice with grey levels 0 to 255",
        ) from None


def _subjects(names: Sequence[str], pattern: str | None, known: Sequence[str]) -> list[str]:
    if pattern is None:
        return list(known) or [name.rsplit(".", 1)[0] for name in names]
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
