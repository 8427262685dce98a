"""Morphometry of whole brains: ventricle and grey-matter volume, and the sign that age leaves, off a stack of
slices.

The same reading as of one slice (`mssg.measure.brain`), in three dimensions: classes from the head's own grey
levels, ventricles as the fluid deep inside it, age's sign as the darkening of white matter at their wall. So
volumes are integrated over the stack instead of being guessed from one cut. Made for skull-stripped heads
that the stack holds whole.

Source: the definitions are ours; the accuracy on phantoms that did not calibrate it is in the calibration
file.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mssg.errors import DataError
from mssg.measure.brain import BRAIN_SHARE, FAR_PERCENTILE, UNITS, WALL, WALL_PERCENTILE, classes
from mssg.measure.calibration import calibrated_errors, read_calibrated, scanners_of
from mssg.measure.own_error import OwnError

ABOUT = (
    "Volumes are integrated over all slices of the head, and age is the darkening of white matter at the"
    " ventricles' wall; calibrated on phantoms of one head."
)
CALIBRATION = "brain/oracle-stack.json"
FOLD = 8.0
"""Millimetres: narrower gaps of the brain's outline are sulci, and inside its hull."""
DEEP = 20.0
"""Millimetres under the hull from which on fluid can be a ventricle's."""
ABOVE = -8.0
"""Millimetres above the hull's centre from which on fluid can be a lateral ventricle's."""
CORE = {"deep": 28.0, "above": -4.0}
"""The same, of fluid that hardly is anything else's: all of it counts, connected or not."""
FLUID = 0.4
"""Share of fluid from which on a voxel can be part of a ventricle."""
SMALLEST = 1.0
"""Millilitres added to the ventricles' volume before its logarithm."""
FAR = 16.0
"""Millimetres from the ventricles from which on white matter is not darkened by age."""
FEATURES = {
    "ventricle": ("log_ventricle", "log_core"),
    "grey_matter": ("hull", "white", "fluid", "ventricle"),
    "age": ("sign", "log_ventricle"),
}
COVARIATES = tuple(FEATURES)
__all__ = ["ABOUT", "COVARIATES", "UNITS", "features", "measure", "own_errors"]

Stack = NDArray[np.float32]


def measure(volumes: ArrayLike, edges: Sequence[float]) -> dict[str, NDArray[np.float64]]:
    """Measure every head of a batch.

    Args:
        volumes: uint8 or float [N, X, Y, Z] in RAS order, grey levels 0 to 255.
        edges: Of a voxel along X, Y and Z, in millimetres.

    Returns:
        `age` (years, what the sign says), `ventricle` (ml) and `grey_matter` (ml), each float64 [N]. NaN
        where a stack shows no brain.

    Raises:
        DataError: Another shape.
    """
    return read_calibrated(features(volumes, edges), scanners_of(CALIBRATION), FEATURES)


def features(volumes: ArrayLike, edges: Sequence[float]) -> dict[str, NDArray[np.float64]]:
    """What is read off heads before calibration: volumes in ml (and a logarithm of one), age's sign and the
    contrast, grey over white (no unit); each [N].

    Raises:
        DataError: The array is not a batch of heads.
    """
    batch = np.asarray(volumes)
    if batch.ndim != 4 or batch.dtype.kind not in "uif" or len(edges) != 3:
        raise DataError(
            "not a batch of heads",
            found=f"{batch.dtype} {list(batch.shape)}",
            expected="numbers [N, X, Y, Z]",
        )
    rows = [_features(np.asarray(head, np.float32), np.asarray(edges, np.float64)) for head in batch]
    return {name: np.array([row.get(name, np.nan) for row in rows], np.float64) for name in _NAMES}


_NAMES = ("ventricle", "log_ventricle", "log_core", "hull", "fluid", "white", "sign", "contrast")


def _features(head: Stack, edges: NDArray[np.float64]) -> dict[str, float]:
    from scipy import ndimage

    if not np.isfinite(head).all() or head.max() < 32:
        return {}
    unit = float(np.prod(edges)) / 1000
    hull = _hull(head, edges)
    if hull.sum() * unit < 300:
        return {}
    low, middle, high = classes(head)
    if not low < middle < high:
        return {}
    fluid = np.clip((middle - head) / (middle - low), 0, 1)
    white = np.clip((head - middle) / (high - middle), 0, 1)
    ventricles, core = _ventricles(fluid, hull, edges)
    if not ventricles.any():
        return {}
    volume, central = float(fluid[ventricles].sum() * unit), float(fluid[core].sum() * unit)
    away: Any = ndimage.distance_transform_edt(~ventricles, sampling=edges)
    wall = (away >= WALL[0]) & (away < WALL[1])
    far = np.percentile(head[hull & (away > FAR) & (away < 3 * FAR)], FAR_PERCENTILE)
    near = np.percentile(head[wall], WALL_PERCENTILE)
    return {
        "ventricle": volume,
        "log_ventricle": float(np.log(volume + SMALLEST)),
        "log_core": float(np.log(central + SMALLEST)),
        "hull": float(hull.sum() * unit),
        "fluid": float(fluid[hull].sum() * unit),
        "white": float(white[hull].sum() * unit),
        "sign": float((far - near) / (high - low)),
        "contrast": float(middle / high),
    }


def _hull(head: Stack, edges: NDArray[np.float64]) -> NDArray[np.bool_]:
    """The brain with its sulci closed."""
    from scipy import ndimage

    bright = np.percentile(head[head > 0.2 * head.max()], 95)
    parts, _ = ndimage.label(head > BRAIN_SHARE * bright)  # type: ignore[misc]
    brain = parts == np.bincount(parts[parts > 0]).argmax()
    margin = np.ceil(FOLD / edges).astype(int) + 1
    brain = np.pad(brain, [(m, m) for m in margin])
    outside: Any = ndimage.distance_transform_edt(~brain, sampling=edges)
    grown = ndimage.binary_fill_holes(outside <= FOLD)
    inside: Any = ndimage.distance_transform_edt(grown, sampling=edges)
    x, y, z = margin
    return (inside > FOLD)[x:-x, y:-y, z:-z]


def _ventricles(
    fluid: Stack, hull: NDArray[np.bool_], edges: NDArray[np.float64]
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """The large fluid parts deep in the upper half of the hull, and the hull's core."""
    from scipy import ndimage

    depth: Any = ndimage.distance_transform_edt(hull, sampling=edges)
    height = np.arange(hull.shape[2]) * edges[2]
    height = height - np.average(height, weights=hull.sum((0, 1)))
    parts, count = ndimage.label((fluid > FLUID) & (depth > DEEP) & (height > ABOVE))  # type: ignore[misc]
    sizes = np.bincount(parts[parts > 0], minlength=count + 1)
    large = np.isin(parts, np.flatnonzero(sizes >= 0.2 * max(sizes.max(), 1)))
    return large & (parts > 0), (depth > CORE["deep"]) & (height > CORE["above"])


@cache
def own_errors() -> tuple[OwnError, ...]:
    """How well phantoms that did not calibrate it are read; of several scanners the one read worst."""
    return calibrated_errors(CALIBRATION, UNITS)
