"""Volumes: NIfTI and MGH files read by one set of rules, in millimetres (right, anterior, superior).

Source: NIfTI-1 (Cox et al. 2004): voxel -> RAS millimetres by the sform, else the qform.
"""

from __future__ import annotations

import gzip
import logging
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mssg.errors import DataError

SUFFIXES = (".nii", ".nii.gz", ".mgz", ".mgh")
COMPRESSED = (".gz", ".mgz")
LARGEST = 2**29
"""Voxels above which a volume is refused: a damaged header may promise any size."""
VOXEL_MM = (0.02, 50.0)
"""Voxel edges between these are believed."""


@dataclass(frozen=True)
class Volume:
    """A volume and where it lies.

    Attributes:
        data: float32 [nx, ny, nz], or integers for label maps.
        affine: float64 [4, 4], voxel indices to millimetres: right, anterior, superior.
    """

    data: NDArray[Any]
    affine: NDArray[np.float64]

    @property
    def voxel_ml(self) -> float:
        """Volume of a voxel in millilitres."""
        return float(abs(np.linalg.det(self.affine[:3, :3]))) / 1000


def read_volume(path: str | Path, nan_as_zero: bool = False, assume_las: bool = False) -> Volume:
    """Read a T1 volume: .nii, .nii.gz, .mgz or .mgh.

    Args:
        path: The file.
        nan_as_zero: Take voxels that are not finite as 0 (SPM writes NaN outside the brain) instead of
            refusing them.
        assume_las: Take a volume that states no orientation as stored from right to left, instead of refusing
            it.

    Returns:
        The volume as stored; float32.

    Raises:
        DataError: Missing, damaged, not three-dimensional, without a usable affine, or with voxels that are
            not finite.
    """
    data, affine = _read(Path(path), np.float32, assume_las)
    finite = np.isfinite(data)
    if not finite.all():
        if not nan_as_zero:
            raise DataError(
                "voxels are not finite numbers",
                file=path,
                found=f"{data.size - int(finite.sum())} of {data.size}",
                hint="--nan-as-zero takes them as 0",
            )
        data = np.where(finite, data, np.float32(0))
    return Volume(data, affine)


def read_labels(path: str | Path) -> Volume:
    """Read a label map: whole numbers, int32. Its orientation does not matter: only volumes are taken from
    it.

    Raises:
        DataError: As `read_volume`, or values that are no labels.
    """
    data, affine = _read(Path(path), np.float32, assume_las=True)
    if not np.isfinite(data).all() or (data != np.rint(data)).any() or data.min() < 0 or data.max() >= 2**24:
        raise DataError(
            "not a label map", file=path, found="values that are not whole", expected="0, 1, 2, …"
        )
    return Volume(data.astype(np.int32), affine)


def read_space(path: str | Path, assume_las: bool = False) -> tuple[tuple[int, ...], NDArray[np.float64]]:
    """Shape and affine of a volume in RAS order, from its header alone.

    Raises:
        DataError: As `read_volume`, as far as a header shows it.
    """
    from nibabel.orientations import inv_ornt_aff, io_orientation

    _, shape, affine = _open(Path(path), assume_las)
    orientation = io_orientation(affine)
    order = np.argsort(orientation[:, 0])
    return tuple(shape[i] for i in order), affine @ inv_ornt_aff(orientation, shape)


def _read(path: Path, dtype: type, assume_las: bool) -> tuple[NDArray[Any], NDArray[np.float64]]:
    """Data [nx, ny, nz] and affine of a file."""
    image, shape, affine = _open(path, assume_las)
    try:
        if path.name.lower().endswith(COMPRESSED):
            # to the end, or the checksum is not looked at and damage goes unnoticed
            with gzip.open(path) as file:
                content = file.read(LARGEST * 8)
            with _quiet():
                image = type(image).from_bytes(content)
        with np.errstate(all="ignore"):
            return image.get_fdata(dtype=dtype, caching="unchanged").reshape(shape), affine
    except Exception as error:  # a damaged file makes its reader fail in any way it likes
        raise _damaged(path, error) from None


def _open(path: Path, assume_las: bool) -> tuple[Any, tuple[int, ...], NDArray[np.float64]]:
    """A file's image (data still on disk), shape and affine, its header believed only after a check."""
    import nibabel

    if not path.is_file():
        raise DataError("no such file" if not path.exists() else "not a file", file=path)
    if not path.name.lower().endswith(SUFFIXES):
        raise DataError(
            "not a volume", file=path, found=path.suffix or "no suffix", expected=" | ".join(SUFFIXES)
        )
    try:
        with _quiet():
            image: Any = nibabel.load(path)
        shape = tuple(int(n) for n in image.shape)
        while len(shape) > 3 and shape[-1] == 1:
            shape = shape[:-1]
        if len(shape) != 3 or min(shape) < 2:
            found = [int(n) for n in image.shape]
            raise DataError("not a three-dimensional volume", file=path, found=found, expected="[nx, ny, nz]")
        if math.prod(shape) > LARGEST:
            raise DataError("too large", file=path, found=list(shape), expected=f"at most {LARGEST} voxels")
        return image, shape, _affine(path, image, assume_las)
    except DataError:
        raise
    except Exception as error:
        raise _damaged(path, error) from None


@contextmanager
def _quiet() -> Iterator[None]:
    """nibabel's own warnings about a header, which we check ourselves, are not shown."""
    from nibabel import imageglobals

    level = imageglobals.logger.level
    imageglobals.logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        imageglobals.logger.setLevel(level)


def _damaged(path: Path, error: Exception) -> DataError:
    text = str(error).splitlines()[0] if str(error) else type(error).__name__
    return DataError(f"cannot be read: {text[:200]}", file=path, expected="an intact volume")


def _affine(path: Path, image: Any, assume_las: bool) -> NDArray[np.float64]:
    affine, header = np.array(image.affine, np.float64), image.header
    codes = [int(header[c]) for c in ("qform_code", "sform_code") if c in header.keys()]
    if codes and not any(codes) and not assume_las:
        raise DataError(
            "states no orientation, so left and right cannot be told apart",
            file=path,
            field="qform_code, sform_code",
            found="0, 0",
            hint=(
                "Write the affine into the header, convert the scan again, or take it as LAS with"
                " --assume-las"
            ),
        )
    with np.errstate(all="ignore"):
        edges = np.linalg.norm(affine[:3, :3], axis=0)
        sheared = abs(np.linalg.det(affine[:3, :3] / edges))
    low, high = VOXEL_MM
    if not np.isfinite(affine).all() or not ((edges >= low) & (edges <= high)).all() or not sheared > 0.1:
        shown = "; ".join(" ".join(f"{v:.4g}" for v in row) for row in affine[:3])
        raise DataError(
            "the affine makes no sense",
            file=path,
            field="affine",
            found=shown,
            expected=f"independent axes with voxels of {low:g} to {high:g} mm",
        )
    return affine


def to_ras(volume: Volume) -> Volume:
    """The volume with axes swapped and flipped to the nearest right, anterior, superior; no voxel value
    changes.

    An oblique volume stays oblique: its affine says so.
    """
    from nibabel.orientations import apply_orientation, inv_ornt_aff, io_orientation

    orientation = io_orientation(volume.affine)
    data = np.ascontiguousarray(apply_orientation(volume.data, orientation))
    return Volume(data, volume.affine @ inv_ornt_aff(orientation, volume.data.shape))


def to_bytes(image: Any, path: Path) -> bytes:
    """A nibabel image as content of a file of this name, .nii or .nii.gz; equal images give equal bytes."""
    data = image.to_bytes()
    return gzip.compress(data, compresslevel=6, mtime=0) if path.suffix == ".gz" else data


def volumes_of(labels: Volume, structures: Mapping[str, NDArray[np.int64]]) -> dict[str, float]:
    """Volumes of structures in millilitres: voxels of a structure's labels, times a voxel's volume.

    Args:
        labels: From `read_labels`.
        structures: Name -> labels that belong to it.

    Raises:
        DataError: No voxel of any structure: another label scheme.
    """
    counts = np.bincount(labels.data.ravel())
    out = {
        name: float(counts[ids[ids < len(counts)]].sum()) * labels.voxel_ml
        for name, ids in structures.items()
    }
    if not any(out.values()):
        found = ", ".join(map(str, np.flatnonzero(counts)[:12]))
        raise DataError("holds no label of this scheme", found=found, hint="Choose another --label-scheme")
    return out
