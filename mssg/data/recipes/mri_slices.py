"""One scan as pictures: read, cut, corrected and scaled to grey levels, with its row of the table."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mssg.data import n4, nifti
from mssg.data.bias import BiasField, estimate
from mssg.data.brain_centre import brain_centre
from mssg.data.cohort import CohortImage
from mssg.data.cohort_files import further_file
from mssg.data.cohort_values import ImageRecord
from mssg.data.image_jobs import Row
from mssg.data.label_maps import LabelScheme
from mssg.data.nifti import NiftiVolume, VolumeRules
from mssg.data.plane import PlaneGrid, UsualSpace, fit_grid, sample_plane, shows_tissue, to_levels
from mssg.data.position import Position
from mssg.errors import DataError

INTENSITIES = ("auto", "robust", "minmax")
RESOLUTIONS = (32, 64, 128, 256, 512)
KEPT = ("slice", "position_mm", "across_mm", "up_mm")
"""Columns that say where a picture lies: what was asked for, and its plane and centre in millimetres."""


@dataclass(frozen=True)
class SliceOptions:
    """How volumes become pictures.

    Attributes:
        plane: coronal, axial or sagittal.
        at: Positions, one picture each. A range (-105mm:75mm:3mm), of volumes in one space, cuts a stack:
            one scale of grey levels for each volume, slices without tissue left out, and the position is a
            covariate of the study.
        resolution: Pixels a side.
        pixel_mm: Edge of a pixel; None: that of the first volumes' usual voxels, or larger so that their
            usual fields of view fit; volumes far from the usual are left out.
        intensity: "robust" or "minmax" grey levels, within each picture; "auto": robust, and as they are in
            slices that say that they hold grey levels.
        mask, bias_field, labels: Templates of further files, relative to the folder: {subject}, {session},
            {folder}, {stem} and every column of a table of paths; * is allowed. Brain mask, field to divide
            by, label map.
        label_scheme: Whose labels: a TOML, or a shipped name.
        nan_as_zero: Take voxels that are not finite as 0.
        bias_correct: Estimate each volume's bias field, a polynomial, and divide by it.
        n4: The same, by N4 (extra `n4`).
        keep_empty: Slices of a stack without tissue stay, so that a model learns where heads end.
        assume_las: Take volumes that state no orientation as stored from right to left.
        common_space: All volumes lie in one space (MNI): one position and one centre for all. None: as the
            cohort says.
    """

    plane: str = "coronal"
    at: tuple[str, ...] = ("middle",)
    resolution: int = 128
    pixel_mm: float | None = None
    intensity: str = "auto"
    mask: str = ""
    bias_field: str = ""
    labels: str = ""
    label_scheme: str = "freesurfer"
    nan_as_zero: bool = False
    common_space: bool | None = None
    assume_las: bool = False
    bias_correct: bool = False
    n4: bool = False
    keep_empty: bool = False

    @property
    def is_stack(self) -> bool:
        """Whether a range of places is cut."""
        return any(":" in text for text in self.at)

    @property
    def rules(self) -> VolumeRules:
        """How volumes are read."""
        return VolumeRules(self.nan_as_zero, self.assume_las)

    def rules_of(self, drawn: bool) -> VolumeRules:
        """The same, or those for a slice that a model drew: stored from right to left where it has no
        place."""
        return replace(self.rules, assume_las=self.assume_las or drawn)


@dataclass(frozen=True)
class Scan:
    """A volume, and what it is masked with and divided by; `drawn`: it is a slice of grey levels."""

    volume: NiftiVolume
    mask: NiftiVolume | None = None
    bias: NiftiVolume | None = None
    smooth: BiasField | n4.N4Field | None = None
    drawn: bool = False

    def levels(self, grids: Sequence[PlaneGrid], intensity: str) -> NDArray[np.uint8]:
        """Grey levels uint8 [S, R, R] of planes, all on one scale.

        Raises:
            DataError: There is nothing to see.
        """
        pictures, inside = (np.stack(parts) for parts in zip(*map(self._sampled, grids)))
        if intensity == "auto":
            intensity = "stored" if self.drawn else "robust"
        return to_levels(pictures, inside, intensity)

    def _sampled(self, grid: PlaneGrid) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """A plane float32 [R, R], and which of its pixels count."""
        picture, inside = sample_plane(self.volume, grid)
        if self.bias:
            picture = _divided(picture, *sample_plane(self.bias, grid))
        if self.smooth:
            picture = picture / self.smooth.at(grid.points()).astype(np.float32)
        if self.mask:
            inside &= sample_plane(self.mask, grid, nearest=True)[0] > 0
        return picture, inside


@dataclass(frozen=True)
class SliceMaker:
    """Cuts one volume; see `ImageMaker`.

    Attributes:
        roots: As in `CohortSelection`.
        pixel_mm: Edge of a pixel.
        grids: In a common space, the planes; else each volume has its own.
        scheme: Structures whose volumes are taken from label maps.
        usual: What a volume must not be far from.
    """

    roots: tuple[Path, ...]
    options: SliceOptions
    positions: tuple[Position, ...]
    pixel_mm: float
    grids: tuple[PlaneGrid, ...] = ()
    scheme: LabelScheme = field(default_factory=LabelScheme)
    usual: UsualSpace | None = None

    def __call__(self, item: ImageRecord) -> tuple[NDArray[np.uint8], list[Row | str]]:
        """Pictures uint8 [S, 1, R, R], and where each lies."""
        o, image = self.options, item.image
        scans = [self._scan(image), *map(self._further_run, image.runs)]
        labels = self._further(image, "label map")
        values = self.scheme.volumes(nifti.read_labels(labels, o.rules)) if labels else {}
        at_brain = any(position.kind == "brain" for position in self.positions)
        brain = brain_centre(scans[0].volume, scans[0].mask) if at_brain else None
        lacking = [name for name, value in values.items() if math.isnan(value)]
        rows: list[Row | str] = []
        if o.is_stack:
            levels = [scan.levels(self.grids, o.intensity) for scan in scans]
            pictures = np.rint(np.mean(levels, 0)).astype(np.uint8)
            for position, grid, picture in zip(self.positions, self.grids, pictures):
                row = self._row(position, grid, values, lacking)
                stays = o.keep_empty or shows_tissue(picture)
                rows.append(row if stays else f"slice at {position}: no tissue")
            return pictures[:, None], rows
        pictures = np.zeros((len(self.positions), 1, o.resolution, o.resolution), np.uint8)
        for number, position in enumerate(self.positions):
            try:
                grid = self.grids[number] if self.grids else self._grid(position, scans[0].volume, brain)
                levels = [scan.levels([grid], o.intensity)[0] for scan in scans]
                pictures[number, 0] = np.rint(np.mean(levels, 0))
            except DataError as error:
                rows.append(error.brief)
                continue
            rows.append(self._row(position, grid, values, lacking))
        return pictures, rows

    def _row(
        self, position: Position, grid: PlaneGrid, values: Mapping[str, float], lacking: list[str]
    ) -> Row:
        where = (str(position), grid.position_mm, *grid.centre_mm)
        return {**dict(zip(KEPT, where)), "values": values, "lacking": lacking}

    def _scan(self, image: CohortImage) -> Scan:
        """A file with what goes with it.

        Raises:
            DataError: It cannot be read, or is too far from the usual.
        """
        o = self.options
        drawn = nifti.drawn_as(image.path)
        read = nifti.read_slice if drawn == "slice" else nifti.read_volume
        volume = read(image.path, o.rules_of(bool(drawn)))
        problem = self.usual and self.usual.problem(*nifti.in_ras_order(volume.data.shape, volume.affine))
        if problem:
            raise DataError(f"{problem}; --pixel-mm takes all")
        mask, given = self._further(image, "mask"), self._further(image, "bias field")
        fit = n4.estimate if o.n4 else estimate if o.bias_correct else None
        return Scan(
            volume,
            nifti.read_mask(mask, o.rules) if mask else None,
            nifti.read_volume(given, o.rules) if given else None,
            fit(volume) if fit else None,
            drawn=bool(drawn),
        )

    def _further_run(self, image: CohortImage) -> Scan:
        try:
            return self._scan(image)
        except DataError as error:
            raise DataError(f"its further run {image.name}: {error.brief}") from None

    def _grid(self, position: Position, volume: NiftiVolume, brain: NDArray[np.float64] | None) -> PlaneGrid:
        o, space = self.options, nifti.in_ras_order(volume.data.shape, volume.affine)
        mm = position.to_mm(*space, o.plane, brain)
        grid = fit_grid(*space, o.plane, mm, o.resolution, self.pixel_mm)
        return grid.around(brain) if brain is not None and position.kind == "brain" else grid

    def _further(self, image: CohortImage, what: str) -> Path | None:
        o = self.options
        template = {"mask": o.mask, "bias field": o.bias_field, "label map": o.labels}[what]
        return further_file(image, template, what, self.roots)


def _divided(
    picture: NDArray[np.float32], divisor: NDArray[np.float32], known: NDArray[np.bool_]
) -> NDArray[np.float32]:
    """A picture divided by a bias field where that is known and not 0, else 0."""
    return np.divide(picture, divisor, out=np.zeros_like(picture), where=known & (divisor > 1e-6))
