"""Volumes and the planes cut out of them: every pixel keeps its place in the patient, in millimetres (RAS).

A slice is sampled on a plane aligned with the patient's axes, so that its affine is exact whatever the
volume's storage order, obliqueness, voxel shape or handedness. Source: NIfTI-1 (Cox et al. 2004): voxel ->
RAS millimetres by the sform, else the qform; docs/method.md section 6 (row 0 superior, column 0 the patient's
left; a coronal slice is stored as [nx, 1, nz]).
"""

from __future__ import annotations

import gzip
import logging
import math
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mssg.errors import DataError, UsageError

if TYPE_CHECKING:
    from mssg.study.model import Geometry

SUFFIXES = (".nii", ".nii.gz", ".mgz", ".mgh")
COMPRESSED = (".gz", ".mgz")
AXES = {"coronal": (1, 0, 2), "axial": (2, 0, 1), "sagittal": (0, 1, 2)}
"""Plane -> patient axis that is cut, axis along the columns (rising), axis along the rows (falling)."""
LARGEST = 2**29
"""Voxels above which a volume is refused: a damaged header may promise any size."""
VOXEL_MM = (0.02, 50.0)
"""Voxel edges between these are believed."""
ON_GRID_MM = 1e-3
"""A pixel and a voxel this close are the same place: values are taken over, not interpolated."""
NIFTI_ALIGNED = 2
"""NIfTI's code for an affine to some other image's space."""


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


@dataclass(frozen=True)
class Position:
    """Where to cut: the "middle" slice, a slice's "index" (counted in RAS order), or at so many "mm"."""

    kind: str
    value: float = 0.0

    @staticmethod
    def parse(text: str) -> Position:
        """A position from "middle", "90" or "-18mm".

        Raises:
            UsageError: Anything else.
        """
        word = text.strip().lower()
        if word == "middle":
            return Position("middle")
        if re.fullmatch(r"\d+", word):
            return Position("index", float(word))
        if re.fullmatch(r"[+-]?\d+(\.\d*)?\s*mm", word):
            return Position("mm", float(word[:-2]))
        raise UsageError(
            "cannot be read as a position", field="--at", found=repr(text), expected="middle, 90 or -18mm"
        )

    def __str__(self) -> str:
        return self.kind if self.kind == "middle" else f"{self.value:g}{'mm' if self.kind == 'mm' else ''}"

    def to_mm(self, shape: tuple[int, ...], affine: NDArray[np.float64], plane: str) -> float:
        """The position in this volume, in millimetres along the axis that is cut.

        Args:
            shape: [nx, ny, nz] of the volume in RAS order (`to_ras`).
            affine: [4, 4] of the same.
            plane: coronal, axial or sagittal.

        Raises:
            DataError: The volume has no such slice.
        """
        axis = AXES[plane][0]
        if self.kind == "mm":
            return self.value
        voxel = (np.array(shape, np.float64) - 1) / 2
        voxel[axis] = shape[axis] // 2 if self.kind == "middle" else self.value
        if voxel[axis] >= shape[axis]:
            raise DataError(
                "no such slice", field="--at", found=f"{self.value:g}", expected=f"0 to {shape[axis] - 1}"
            )
        return float((affine @ np.append(voxel, 1))[axis])


@dataclass(frozen=True)
class PlaneGrid:
    """The square grid of a picture's pixels in the patient.

    Attributes:
        plane: coronal, axial or sagittal.
        position_mm: Millimetres along the axis that is cut.
        pixel_mm: Edge of a pixel.
        resolution: Pixels a side.
        centre_mm: Where the picture's centre lies, millimetres along its columns' and its rows' axis.
    """

    plane: str
    position_mm: float
    pixel_mm: float
    resolution: int
    centre_mm: tuple[float, float] = (0.0, 0.0)

    @staticmethod
    def of_study(geometry: Geometry, resolution: int) -> PlaneGrid:
        """The grid of a study's pictures; where its images share no space, centred on 0."""
        return PlaneGrid(
            geometry.plane, geometry.position_mm or 0.0, geometry.pixel_mm, resolution, geometry.centre_mm
        )

    @property
    def affine(self) -> NDArray[np.float64]:
        """[4, 4] of the array `stored` gives, [nx, 1, nz] for a coronal slice; the cut axis is a pixel
        thick."""
        cut, across, up = AXES[self.plane]
        half = (self.resolution - 1) / 2 * self.pixel_mm
        affine = np.diag([self.pixel_mm] * 3 + [1.0])
        affine[cut, 3] = self.position_mm
        affine[across, 3] = self.centre_mm[0] - half
        affine[up, 3] = self.centre_mm[1] - half
        return affine

    def points(self, parts: int = 1) -> NDArray[np.float64]:
        """Millimetres [3, R·S, R·S] of S = `parts` samples a pixel and axis, rows from the top."""
        cut, across, up = AXES[self.plane]
        n = self.resolution * parts
        offset = (np.arange(n) - (n - 1) / 2) * self.pixel_mm / parts
        points = np.empty((3, n, n))
        points[cut] = self.position_mm
        points[across] = self.centre_mm[0] + offset[None, :]
        points[up] = self.centre_mm[1] - offset[:, None]
        return points

    def stored(self, picture: NDArray[Any]) -> NDArray[Any]:
        """A picture [R, R] (row 0 at the top, column 0 left) as the volume that `affine` belongs to."""
        return np.expand_dims(picture[::-1].T, AXES[self.plane][0])


def fit_grid(
    shape: tuple[int, ...],
    affine: NDArray[np.float64],
    plane: str,
    position_mm: float,
    resolution: int,
    pixel_mm: float | None = None,
) -> PlaneGrid:
    """The grid that shows the middle of a volume.

    Args:
        shape: [nx, ny, nz] in RAS order.
        affine: [4, 4] of the same.
        plane, position_mm, resolution: As in `PlaneGrid`.
        pixel_mm: Edge of a pixel; None: the voxel's edge, or larger where the volume would not fit into the
            picture.

    Returns:
        A grid whose pixels lie on voxels wherever they can, so that nothing is interpolated without need.
    """
    # the volume's own edges, tilted or not: the corners that a tilt adds hold no head
    extent = np.linalg.norm(affine[:3, :3], axis=0) * shape
    edges = np.abs(affine[:3, :3]).max(axis=1)
    middle = affine[:3, :3] @ ((np.array(shape) - 1) / 2) + affine[:3, 3]
    inplane = list(AXES[plane][1:])
    if pixel_mm is None:
        pixel_mm = float(max(edges[inplane].max(), extent[inplane].max() / resolution))
        pixel_mm = math.ceil(pixel_mm * 1000 - 1e-6) / 1000
    centre = middle[inplane]
    straight = np.allclose(affine[:3, :3], np.diag(np.diag(affine[:3, :3])), atol=1e-4)
    for i, axis in enumerate(inplane):
        # an odd number of voxels under an even number of pixels: half a voxel aside, pixels and voxels
        # coincide
        if straight and abs(edges[axis] - pixel_mm) < ON_GRID_MM and (shape[axis] - resolution) % 2:
            centre[i] -= pixel_mm / 2
    return PlaneGrid(plane, position_mm, pixel_mm, resolution, (float(centre[0]), float(centre[1])))


def cut(
    volume: Volume, grid: PlaneGrid, nearest: bool = False
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Sample a plane of a volume.

    Args:
        volume: In any orientation.
        grid: Where the pixels lie.
        nearest: Take the nearest voxel (label maps and masks) instead of interpolating.

    Returns:
        picture: float32 [R, R], the mean over a pixel where pixels are larger than voxels (at the volume's
            edge over the part that it covers); 0 outside the volume.
        inside: bool [R, R], pixels whose centre the volume covers.
    """
    from scipy.ndimage import map_coordinates

    edges = np.linalg.norm(volume.affine[:3, :3], axis=0)
    parts = 1 if nearest else max(1, math.ceil(grid.pixel_mm / edges.min() - 0.05))
    n = grid.resolution
    inverse = np.linalg.inv(volume.affine)

    def voxels(points: NDArray[np.float64]) -> NDArray[np.float64]:
        at = np.tensordot(inverse[:3, :3], points, 1) + inverse[:3, 3][:, None, None]
        near = np.rint(at)
        return np.where(np.abs(at - near) * edges.max() < ON_GRID_MM, near, at)

    at = voxels(grid.points(parts))
    sampled = map_coordinates(volume.data, at, np.float32, order=0 if nearest else 1, mode="nearest")
    top = np.array(volume.data.shape)[:, None, None] - 0.5
    covered = ((at >= -0.5) & (at <= top)).all(0)
    held = np.where(covered, sampled, np.float32(0)).reshape(n, parts, n, parts).sum((1, 3))
    picture = held / np.maximum(covered.reshape(n, parts, n, parts).sum((1, 3)), 1)
    at = voxels(grid.points())
    return picture.astype(np.float32), np.asarray(((at >= -0.5) & (at <= top)).all(0))


def to_levels(
    picture: NDArray[np.float32], inside: NDArray[np.bool_], intensity: str = "robust"
) -> NDArray[np.uint8]:
    """Grey levels of a slice.

    Args:
        picture: float32 [R, R].
        inside: bool [R, R], pixels that count; all others become 0.
        intensity: "minmax": smallest to largest value; "robust": 0.5 % quantile to the 99.5 % quantile of
            what is brighter than the mean, so that a few bright vessels do not darken the brain.

    Returns:
        uint8 [R, R].

    Raises:
        DataError: Nothing to see: all values are equal, or the slice lies outside the volume.
    """
    values = picture[inside]
    if not values.size or not np.ptp(values) > 0:
        raise DataError("the slice is empty", field="--at", hint="Choose another position")
    if intensity == "minmax":
        low, high = float(values.min()), float(values.max())
    else:
        low = float(np.percentile(values, 0.5))
        high = float(np.percentile(values[values > values.mean()], 99.5))
    if not high > low:
        raise DataError("the slice is empty", field="--at", hint="Choose another position")
    scaled = np.clip((picture.astype(np.float64) - low) * (255 / (high - low)), 0, 255)
    return np.where(inside, np.rint(scaled), 0).astype(np.uint8)


def to_image(pictures: NDArray[Any], grid: PlaneGrid, sweep: tuple[float, float] | None = None) -> Any:
    """Pictures as a NIfTI image that overlays the volume they belong to; sform and qform agree.

    Args:
        pictures: [R, R], or [n, R, R]: a stack along the fourth axis.
        grid: Where the pixels lie.
        sweep: First value and step of what changes along the stack; goes into toffset and pixdim[4].

    Returns:
        nibabel.Nifti1Image, [nx, 1, nz] or [nx, 1, nz, n] for coronal slices.
    """
    import nibabel

    if pictures.ndim == 3:
        data = np.stack([grid.stored(p) for p in pictures], axis=-1)
    else:
        data = grid.stored(pictures)
    image = nibabel.Nifti1Image(np.ascontiguousarray(data), grid.affine)
    image.set_sform(grid.affine, NIFTI_ALIGNED)
    image.set_qform(grid.affine, NIFTI_ALIGNED)
    image.header.set_xyzt_units("mm")
    if sweep and pictures.ndim == 3:
        image.header["toffset"] = sweep[0]
        image.header["pixdim"][4] = abs(sweep[1]) or 1.0
    return image


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
