"""Planes cut out of volumes: every pixel keeps its place in the patient, in millimetres (RAS).

A slice is sampled on a plane aligned with the patient's axes, so that its affine is exact whatever the
volume's storage order, obliqueness, voxel shape or handedness. Source: docs/method/method.md section 6 (row 0
superior, column 0 the patient's left; a coronal slice is stored as [nx, 1, nz]).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mssg.data.nifti import ALIGNED, MNI, SCANNER, UNKNOWN, NiftiVolume, to_ras
from mssg.errors import DataError
from mssg.study.model import AXES, Geometry

ON_GRID_MM = 1e-3
"""A pixel and a voxel this close are the same place: values are taken over, not interpolated."""
COARSE, FAR, NARROW = 2.5, 1.25, 2.0
"""How far from the usual a volume may be: voxels so many times coarser, fields of view so many times wider or
narrower."""


TISSUE_LEVEL, LEAST_TISSUE = 20, 0.01
"""A slice of a stack shows tissue where this share of its pixels or more is brighter than this grey level."""


def shows_tissue(picture: NDArray[np.uint8]) -> bool:
    """Whether a slice of a stack [H, W] is kept: one that only grazes the head, or misses it, is not."""
    return float((picture > TISSUE_LEVEL).mean()) >= LEAST_TISSUE


@dataclass(frozen=True)
class Place:
    """Where a picture lies in its patient.

    Attributes:
        plane: coronal, axial or sagittal.
        affine: [4, 4], from voxels of the picture as a volume in RAS order (`stored`) to millimetres.
        code: What those millimetres are of, as NIfTI numbers it: 0 nobody knows, 1 the scanner's, 2 those of
            another image, 4 MNI 152.
    """

    plane: str
    affine: tuple[tuple[float, ...], ...]
    code: int

    def turned(self, columns: int) -> Place:
        """Where the same picture lies with its columns in the other order."""
        flip = np.eye(4)
        across = AXES[self.plane][1]
        flip[across, across], flip[across, 3] = -1, columns - 1
        return replace(self, affine=tuple(map(tuple, (np.array(self.affine) @ flip).tolist())))

    @staticmethod
    def of_slice(volume: NiftiVolume) -> Place:
        """Where a slice lies (`read_slice`)."""
        upright = to_ras(volume)
        return Place(plane_of(upright), tuple(map(tuple, upright.affine.tolist())), volume.code)


@dataclass(frozen=True)
class PlaneGrid:
    """The square grid of a picture's pixels in the patient.

    Attributes:
        plane: coronal, axial or sagittal.
        position_mm: Millimetres along the axis that is cut.
        pixel_mm: Edge of a pixel.
        resolution: Pixels a side.
        centre_mm: Where the picture's centre lies, millimetres along its columns' and its rows' axis.
        mirrored: Columns run the other way, from the patient's right.
    """

    plane: str
    position_mm: float
    pixel_mm: float
    resolution: int
    centre_mm: tuple[float, float] = (0.0, 0.0)
    mirrored: bool = False

    @staticmethod
    def of_study(geometry: Geometry, resolution: int) -> PlaneGrid:
        """The grid of a study's pictures; where its images share no space, centred on 0."""
        place = geometry.position_mm or 0.0, geometry.pixel_mm, resolution, geometry.centre_mm
        return PlaneGrid(geometry.plane, *place, geometry.mirrored)

    def around(self, centre: NDArray[np.float64]) -> PlaneGrid:
        """The grid moved by whole pixels, so that its picture's middle is as near as can be to a point [3] in
        millimetres."""
        wanted = centre[list(AXES[self.plane][1:])]
        moved = self.centre_mm + np.rint((wanted - self.centre_mm) / self.pixel_mm) * self.pixel_mm
        return replace(self, centre_mm=(float(moved[0]), float(moved[1])))

    def place(self, code: int) -> Place:
        """Where the grid lies, in millimetres of this kind."""
        return Place(self.plane, tuple(map(tuple, self.affine.tolist())), code)

    @property
    def affine(self) -> NDArray[np.float64]:
        """[4, 4] of the array `stored` gives, [nx, 1, nz] for a coronal slice; the cut axis is a pixel
        thick."""
        cut, across, up = AXES[self.plane]
        half = (self.resolution - 1) / 2 * self.pixel_mm
        affine = np.diag([self.pixel_mm] * 3 + [1.0])
        affine[cut, 3] = self.position_mm
        affine[across, 3] = self.centre_mm[0] - half
        if self.mirrored:
            affine[across, across], affine[across, 3] = -self.pixel_mm, self.centre_mm[0] + half
        affine[up, 3] = self.centre_mm[1] - half
        return affine

    def points(self, parts: int = 1) -> NDArray[np.float64]:
        """Millimetres [3, R·S, R·S] of S = `parts` samples a pixel and axis, rows from the top."""
        cut, across, up = AXES[self.plane]
        n = self.resolution * parts
        offset = (np.arange(n) - (n - 1) / 2) * self.pixel_mm / parts
        points = np.empty((3, n, n))
        points[cut] = self.position_mm
        points[across] = self.centre_mm[0] + (-offset if self.mirrored else offset)[None, :]
        points[up] = self.centre_mm[1] - offset[:, None]
        return points


def stored(picture: NDArray[Any], plane: str) -> NDArray[Any]:
    """A picture [R, R] (row 0 at the top, column 0 left) as a volume in RAS order, [R, 1, R] if coronal."""
    return np.expand_dims(picture[::-1].T, AXES[plane][0])


def place_of_study(geometry: Geometry, resolution: int) -> Place:
    """Where a study's pictures lie: in the space that its images share, or nowhere (code 0)."""
    code = (MNI if geometry.space else ALIGNED) if geometry.affine == "common" else UNKNOWN
    return PlaneGrid.of_study(geometry, resolution).place(code)


def place_of_image(geometry: Geometry, grid: PlaneGrid) -> Place:
    """Where an image of a study lies, whose own place is known: in the scanner unless they share a space."""
    code = MNI if geometry.space else ALIGNED if geometry.affine == "common" else SCANNER
    return grid.place(code)


@dataclass(frozen=True)
class UsualSpace:
    """What most volumes of a data set have in common: how finely and how widely they show a plane.

    Attributes:
        plane: coronal, axial or sagittal.
        voxel_mm: The usual larger edge of a voxel within the plane.
        field_mm: The usual larger side of the field of view within the plane.
        narrow_mm: The usual smaller side.
        widest_mm: The largest side of the fields that are not far from the usual one.
    """

    plane: str
    voxel_mm: float
    field_mm: float
    narrow_mm: float
    widest_mm: float

    @staticmethod
    def of(spaces: Sequence[tuple[tuple[int, ...], NDArray[np.float64]]], plane: str) -> UsualSpace:
        """The usual space of volumes: shapes and affines in RAS order (`read_space`), at least one."""
        edges, fields = zip(*(_in_plane(shape, affine, plane) for shape, affine in spaces))
        field = float(np.median([max(f) for f in fields]))
        widest = max((max(f) for f in fields if max(f) <= FAR * field), default=field)
        narrow = float(np.median([min(f) for f in fields]))
        return UsualSpace(plane, float(np.median(edges)), field, narrow, widest_mm=widest)

    def pixel_mm(self, resolution: int) -> float:
        """Edge of a pixel: the usual voxel's, or larger so that the usual fields fit."""
        return math.ceil(max(self.voxel_mm, self.widest_mm / resolution) * 1000 - 1e-6) / 1000

    def problem(self, shape: tuple[int, ...], affine: NDArray[np.float64]) -> str:
        """Why a volume is too far from the usual to make a picture like the others; "" where it is not."""
        edge, sides = _in_plane(shape, affine, self.plane)
        if edge > COARSE * self.voxel_mm:
            return f"voxels of {edge:.3g} mm, where {self.voxel_mm:.3g} mm are usual"
        if max(sides) > FAR * self.field_mm:
            return f"a field of view of {max(sides):.0f} mm, where {self.field_mm:.0f} mm are usual"
        if min(sides) < self.narrow_mm / NARROW:
            return f"a field of view of {min(sides):.0f} mm, where {self.narrow_mm:.0f} mm are usual"
        return ""


def _in_plane(
    shape: tuple[int, ...], affine: NDArray[np.float64], plane: str
) -> tuple[float, tuple[float, float]]:
    """The larger voxel edge within a plane, and the sides of the field of view, in millimetres."""
    # the volume's own edges, tilted or not: the corners that a tilt adds hold no head
    sides = np.linalg.norm(affine[:3, :3], axis=0) * shape
    edges = np.abs(affine[:3, :3]).max(axis=1)
    across, up = AXES[plane][1:]
    return float(max(edges[across], edges[up])), (float(sides[across]), float(sides[up]))


def is_straight(affine: NDArray[np.float64]) -> bool:
    """Whether a volume in RAS order is aligned with the patient's axes."""
    return np.allclose(affine[:3, :3], np.diag(np.diag(affine[:3, :3])), atol=1e-4)


def slice_picture(volume: NiftiVolume) -> tuple[str, tuple[float, float], NDArray[Any]]:
    """A slice (`read_slice`) as a picture; the inverse of `stored`.

    Returns:
        Its plane, the edges of a pixel along columns and rows in millimetres, and the picture [H, W], row 0
        superior (axial: anterior), column 0 the patient's left (sagittal: posterior).
    """
    upright = to_ras(volume)
    plane = plane_of(upright)
    edges = np.linalg.norm(upright.affine[:3, :3], axis=0)
    across, up = AXES[plane][1:]
    picture = upright.data.squeeze(AXES[plane][0]).T[::-1]
    return plane, (float(edges[across]), float(edges[up])), picture


def plane_of(upright: NiftiVolume) -> str:
    """The plane of a slice in RAS order."""
    cut = upright.data.shape.index(1)
    return next(name for name, axes in AXES.items() if axes[0] == cut)


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
    edges = np.abs(affine[:3, :3]).max(axis=1)
    middle = affine[:3, :3] @ ((np.array(shape) - 1) / 2) + affine[:3, 3]
    inplane = list(AXES[plane][1:])
    if pixel_mm is None:
        pixel_mm = UsualSpace.of([(shape, affine)], plane).pixel_mm(resolution)
    centre = middle[inplane]
    straight = is_straight(affine)
    for i, axis in enumerate(inplane):
        # an odd number of voxels under an even number of pixels: half a voxel aside, pixels and voxels
        # coincide
        if straight and abs(edges[axis] - pixel_mm) < ON_GRID_MM and (shape[axis] - resolution) % 2:
            centre[i] -= pixel_mm / 2
    return PlaneGrid(plane, position_mm, pixel_mm, resolution, centre_mm=(float(centre[0]), float(centre[1])))


def sample_plane(
    volume: NiftiVolume, grid: PlaneGrid, nearest: bool = False
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Sample a plane of a volume.

    Args:
        volume: In any orientation.
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
            what is brighter than the mean, so that a few bright vessels do not darken the brain; "stored":
            the values themselves, 0 to 255.

    Returns:
        uint8 [R, R].

    Raises:
        DataError: Nothing to see: all values are equal, or the slice lies outside the volume.
    """
    values = picture[inside]
    if not values.size or not np.ptp(values) > 0:
        raise DataError("the slice is empty", field="--at", hint="Choose another position")
    if intensity == "stored":
        low, high = 0.0, 255.0
    elif intensity == "minmax":
        low, high = float(values.min()), float(values.max())
    else:
        low = float(np.percentile(values, 0.5))
        high = float(np.percentile(values[values > values.mean()], 99.5))
    if not high > low:
        raise DataError("the slice is empty", field="--at", hint="Choose another position")
    scaled = np.clip((picture.astype(np.float64) - low) * (255 / (high - low)), 0, 255)
    return np.where(inside, np.rint(scaled), 0).astype(np.uint8)


def to_image(pictures: NDArray[Any], place: Place, sweep: tuple[float, float] | None = None) -> Any:
    """Pictures as a NIfTI image that overlays the volume they belong to; sform and qform agree.

    A picture without a place (code 0) is stored from right to left, which is how programs take a file that
    says nothing of it.

    Args:
        pictures: [R, R], or [n, R, R]: a stack along the fourth axis.
        sweep: First value and step of what changes along the stack; goes into toffset and pixdim[4].

    Returns:
        nibabel.Nifti1Image, [nx, 1, nz] or [nx, 1, nz, n] for coronal slices.
    """
    import nibabel

    affine = np.array(place.affine)
    if pictures.ndim == 3:
        data = np.stack([stored(p, place.plane) for p in pictures], axis=-1)
    else:
        data = stored(pictures, place.plane)
    if place.code == UNKNOWN:
        affine = affine @ nibabel.orientations.inv_ornt_aff([[0, -1], [1, 1], [2, 1]], data.shape[:3])
        data = data[::-1]
    image = nibabel.Nifti1Image(np.ascontiguousarray(data), affine)
    image.set_sform(affine, place.code)
    image.set_qform(affine, place.code)
    image.header.set_xyzt_units("mm")
    if sweep and pictures.ndim == 3:
        image.header["toffset"] = sweep[0]
        image.header["pixdim"][4] = abs(sweep[1]) or 1.0
    return image
