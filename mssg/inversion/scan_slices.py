"""A whole scan, to be cut as the slices of a study are. No torch here."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mssg.data import nifti
from mssg.data.brain_centre import brain_centre
from mssg.data.nifti import AS_STATED, VolumeRules
from mssg.data.plane import AXES, Place, PlaneGrid, fit_grid, place_of_image
from mssg.data.position import Position
from mssg.data.recipes.mri_slices import Scan
from mssg.errors import DataError
from mssg.study.model import Geometry, Study

STUDY, MIDDLE, BRAIN = "study's space", "field of view", "brain"
"""What is laid over the middle of the study's slice: what already lies there, or the middle of the scan, or
that of its brain."""


@dataclass(frozen=True, eq=False)
class ScanSlices:
    """A scan and the study that it is cut for.

    Attributes:
        study: States plane, pixel size and resolution.
        places: Where the study's slices lie, millimetres, ascending; none where they all lie at one place.
    """

    study: Study
    scan: Scan
    places: NDArray[np.float64]

    @staticmethod
    def read(
        path: str | Path, study: Study, places: NDArray[np.float64], rules: VolumeRules = AS_STATED
    ) -> ScanSlices:
        """Read a whole scan.

        Args:
            path: .nii, .nii.gz, .mgz or .mgh, three-dimensional.
            study: Whose slices are to be cut.
            places: As of the class.
            rules: How files are read that leave something open.

        Raises:
            DataError: It cannot be read, or the study states nothing to cut it by.
        """
        if study.geometry is None or study.channels != 1:
            expected = "a study of grey slices that states its geometry"
            raise DataError("this study does not say how to cut a scan", file=path, expected=expected)
        drawn = bool(nifti.drawn_as(Path(path)))
        rules = replace(rules, assume_las=rules.assume_las or drawn)
        return ScanSlices(study, Scan(nifti.read_volume(path, rules), drawn=drawn), places)

    @property
    def _geometry(self) -> Geometry:
        assert self.study.geometry is not None
        return self.study.geometry

    @property
    def anchors(self) -> tuple[str, str]:
        """What can be laid over the middle of the study's slice, the usual one first."""
        return (STUDY if self._geometry.affine == "common" else MIDDLE), BRAIN

    @property
    def default_mm(self) -> float:
        """Where the study's slice lies."""
        return self._geometry.position_mm or 0.0

    def limits(self, anchor: str) -> tuple[float, float]:
        """First and last place, in the study's millimetres, at which there is something of the scan."""
        cut = AXES[self._geometry.plane][0]
        shape, affine = nifti.in_ras_order(self.scan.volume.data.shape, self.scan.volume.affine)
        corners = np.array(list(np.ndindex(2, 2, 2))) * (np.array(shape) - 1)
        ends = (corners @ affine[:3, :3].T + affine[:3, 3])[:, cut] - self._shift(anchor)[cut]
        return float(ends.min()), float(ends.max())

    def cut(self, mm: float, anchor: str) -> tuple[NDArray[np.uint8], Place]:
        """A slice, on one scale of grey levels with its neighbours where the study's slices are.

        Args:
            mm: Where, in the study's millimetres; of a study of many places the nearest one is taken.
            anchor: One of `anchors`.

        Returns:
            uint8 [1, R, R], and where it lies in its patient.

        Raises:
            DataError: There is nothing to see.
        """
        if len(self.places):
            nearest = int(np.abs(self.places - mm).argmin())
            picture, grid = self._stack(anchor)[nearest], self._grid(float(self.places[nearest]), anchor)
            if not picture.any():
                raise DataError("the slice is empty", found=f"{self.places[nearest]:g} mm")
        else:
            grid = self._grid(mm, anchor)
            picture = self.scan.levels([grid], "auto")[0]
        lies = place_of_image(self._geometry, grid) if anchor == STUDY else grid.place(self.scan.volume.code)
        return picture[None], lies

    def _grid(self, mm: float, anchor: str) -> PlaneGrid:
        """The study's grid, moved to what is laid over its middle."""
        geometry, shift = self._geometry, self._shift(anchor)
        cut, across, up = AXES[geometry.plane]
        centre = (geometry.centre_mm[0] + float(shift[across]), geometry.centre_mm[1] + float(shift[up]))
        place = mm + float(shift[cut]), geometry.pixel_mm, self.study.resolution, centre
        return PlaneGrid(geometry.plane, *place, geometry.mirrored)

    def _shift(self, anchor: str) -> NDArray[np.float64]:
        """From the study's millimetres to the scan's: [3]."""
        if anchor == STUDY:
            return np.zeros(3)
        return (self._brain if anchor == BRAIN else self._middle) - self._study_middle

    @property
    def _study_middle(self) -> NDArray[np.float64]:
        """The middle of the study's slice, millimetres [3]."""
        cut, across, up = AXES[self._geometry.plane]
        middle = np.empty(3)
        middle[cut], middle[[across, up]] = self.default_mm, self._geometry.centre_mm
        return middle

    @cached_property
    def _middle(self) -> NDArray[np.float64]:
        """The middle of the field of view as `mssg prepare mri` has it: on whole voxels wherever they can be,
        so that nothing is interpolated without need."""
        space, geometry = (
            nifti.in_ras_order(self.scan.volume.data.shape, self.scan.volume.affine),
            self._geometry,
        )
        cut, across, up = AXES[geometry.plane]
        place = Position("middle").to_mm(*space, geometry.plane)
        grid = fit_grid(*space, geometry.plane, place, self.study.resolution, geometry.pixel_mm)
        middle = np.empty(3)
        middle[cut], middle[[across, up]] = grid.position_mm, grid.centre_mm
        return middle

    @cached_property
    def _brain(self) -> NDArray[np.float64]:
        return brain_centre(self.scan.volume)

    def _stack(self, anchor: str) -> NDArray[np.uint8]:
        """Every place's slice on one scale of grey levels: uint8 [S, R, R]."""
        if anchor not in self._stacks:
            self._stacks[anchor] = self.scan.levels(
                [self._grid(float(mm), anchor) for mm in self.places], "auto"
            )
        return self._stacks[anchor]

    @cached_property
    def _stacks(self) -> dict[str, NDArray[np.uint8]]:
        return {}
