"""Whole volumes among the images that are inverted: cut as the study's slices are."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mssg.data import nifti
from mssg.data.nifti import AS_STATED, VolumeRules
from mssg.data.plane import Place
from mssg.errors import DataError
from mssg.inversion.scan_slices import BRAIN, ScanSlices
from mssg.study.model import Study


@dataclass(frozen=True)
class CuttingRules:
    """How volumes become pictures, where their study leaves it open.

    Attributes:
        at_mm: Where they are cut, in the study's millimetres; None: at the study's own place.
        at_brain: The brain's middle is laid over the middle of the study's slice, instead of the space they
            share or the middle of the field of view.
        places: Where slices of a study of many places lie; the nearest is taken.
        reading: How files are read that leave something open.
    """

    at_mm: float | None = None
    at_brain: bool = False
    places: tuple[float, ...] = ()
    reading: VolumeRules = AS_STATED

    def position(self, study: Study) -> dict[str, float]:
        """What a study's covariate says of a slice's place; nothing where it has none."""
        if not study.position or not study.geometry:
            return {}
        at = study.geometry.position_mm or 0.0 if self.at_mm is None else self.at_mm
        return {study.position: min(self.places, key=lambda place: abs(place - at)) if self.places else at}


def is_volume(path: str | Path, rules: VolumeRules = AS_STATED) -> bool:
    """Whether a file holds a whole volume, no single slice; False for what cannot be read."""
    if not str(path).lower().endswith(nifti.SUFFIXES):
        return False
    try:
        shape, _ = nifti.read_space(path, rules)
    except DataError:
        return False
    return min(shape) > 1


def cut(path: str | Path, study: Study, rules: CuttingRules) -> tuple[NDArray[np.uint8], Place | None]:
    """Cut a volume as a study's slices are cut: its plane, pixel size and side.

    Returns:
        uint8 [1, R, R], and where the picture lies in its patient.

    Raises:
        DataError: The study does not say how it is cut, the volume cannot be read, or the slice is empty.
    """
    slices = ScanSlices.read(path, study, np.array(rules.places), rules.reading)
    anchor = BRAIN if rules.at_brain else slices.anchors[0]
    try:
        picture, place = slices.cut(slices.default_mm if rules.at_mm is None else rules.at_mm, anchor)
    except DataError as error:
        raise DataError(error.message, file=path, field="--at", found=error.found) from None
    return picture, place if place.code else None
