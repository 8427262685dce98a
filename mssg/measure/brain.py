"""Morphometry of coronal brain slices: ventricle and grey-matter volume, and the sign that age leaves.

Made for the slices of `mssg prepare phantom` (skull-stripped, 160 mm along the side, through the bodies of
the lateral ventricles). Everything is read off one image: its bias field from white matter far from the
ventricles, tissue classes from its own grey levels, ventricles as the fluid deep inside the head, cortex as
what lies far from them, and age's sign as the darkening of white matter at the ventricles' wall. A
calibration on phantoms (`CALIBRATION`) then turns areas of one slice into volumes of the head, and the sign
into years. There is one for each scanner; the image's own contrast of grey and white matter says which fits.

Source: the definitions are ours; the accuracy on phantoms that did not calibrate it is in the calibration
file.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mssg.measure.batches import grey_squares
from mssg.measure.calibration import calibrated_errors, read_calibrated, scanners_of
from mssg.measure.own_error import OwnError

COVARIATES = ("age", "ventricle", "grey_matter")
UNITS = {"age": "years", "ventricle": "ml", "grey_matter": "ml"}
ABOUT = (
    "Volumes are of the whole head, judged by this one slice, and age by the darkening of white matter;"
    " calibrated on phantoms of one head."
)
CALIBRATION = "brain/oracle.json"

FIELD_OF_VIEW = 160.0
"""Millimetres along the side of a slice."""
BRAIN_SHARE = 0.35
"""Tissue is at least so bright, against the bright tissue of the image."""
FOLD = 10.0
"""Millimetres: narrower gaps of the brain's outline are sulci, and inside its hull."""
DEEP = 22.0
"""Millimetres under the hull from which on fluid can be a ventricle's."""
WINDOW = {"aside": 26.0, "low": -4.0, "high": 24.0}
"""Where a ventricle's centre can lie: millimetres to the side of the hull's centre, and above it."""
SMALLEST = 0.3
"""cm² added to the ventricles' area before its logarithm, about what is too small to be seen."""
CORTEX = 20.0
"""Millimetres from the ventricles from which on tissue counts as the cortex' surroundings."""
BRAINSTEM = -45.0
"""Millimetres above the hull's centre below which tissue is not looked at."""
WALL = (2.6, 7.0)
"""Millimetres from the ventricles between which age's sign is read."""
WALL_PERCENTILE, FAR_PERCENTILE = 85.0, 88.0
"""Percentiles that stand for white matter at the wall and far from it: grey matter beside it is darker."""
BIAS = {"from": 28.0, "white": 0.65, "ridge": 2.0}
"""The bias field is fitted to pixels further than `from` millimetres from the hull's centre (age darkens
those nearer) that are at least the share `white` of the way from grey to white; `ridge` holds it flat where
they are few."""
BIAS_ROUNDS = 3
CLASSES = (0.2, 0.62, 0.95)
"""First guess of fluid, grey and white, against the image's bright tissue."""

FEATURES = {
    "ventricle": ("log_ventricle_area",),
    "grey_matter": ("hull", "fluid", "white", "cortex", "ventricle_area"),
    "age": ("sign", "ventricle_area"),
}
"""What each covariate is computed from. Growing ventricles squeeze the dark rim, so age's sign is read with
their size."""

Image = NDArray[np.float32]


def measure(images: ArrayLike) -> dict[str, NDArray[np.float64]]:
    """Measure every slice of a batch.

    Args:
        images: uint8 or float [N,H,W], [N,1,H,W], grey levels 0 to 255, a coronal slice of 160 mm, superior
            on top.

    Returns:
        `age` (years, what the sign says), `ventricle` (ml) and `grey_matter` (ml), each float64 [N]. NaN
        where an image shows no brain; a slice without visible ventricles measures as the smallest.

    Raises:
        DataError: The array is not a batch of square single-channel images.
    """
    return read_calibrated(features(images), scanners_of(CALIBRATION), FEATURES)


def features(images: ArrayLike) -> dict[str, NDArray[np.float64]]:
    """What is read off the slices before calibration: areas in cm² of the slice (and a logarithm of one),
    age's sign and the contrast, grey over white (no unit); each [N].

    Args:
        images: As in `measure`.
    """
    rows = [_features(image) for image in grey_squares(images, "brain slices")]
    return {name: np.array([row.get(name, np.nan) for row in rows], np.float64) for name in _NAMES}


def regions(image: ArrayLike) -> dict[str, NDArray[np.bool_]]:
    """What `measure` takes for what on one slice: brain with its sulci, ventricles and cortical grey matter.

    Args:
        image: [H,H] grey levels 0 to 255, as in `measure`.

    Returns:
        Region -> bool [H,H]; nothing where the image shows no brain.

    Raises:
        DataError: As `measure`.
    """
    (slice_,) = grey_squares(np.asarray(image)[None], "brain slices")
    found = _segmented(slice_)
    if found is None:
        return {}
    grey = found.cortex & (found.fluid < 0.5) & (found.white < 0.5)
    return {"brain": found.hull, "ventricles": found.ventricles, "grey matter": grey}


_NAMES = ("ventricle_area", "log_ventricle_area", "hull", "fluid", "white", "cortex", "sign", "contrast")


def classes(image: Image) -> tuple[float, float, float]:
    """Mean grey levels of fluid, grey and white matter: three means of the image's own pixels (Lloyd's
    algorithm)."""
    bright = np.percentile(image[image > 0.2 * image.max()], 95)
    values = image[image > 0.08 * bright]
    centres = np.array(CLASSES, np.float32) * bright
    for _ in range(12):
        nearest = np.abs(values[:, None] - centres).argmin(1)
        counts, sums = np.bincount(nearest, minlength=3), np.bincount(nearest, values, 3)
        centres = np.where(counts > 0, sums / np.maximum(counts, 1), centres)
    fluid, grey, white = centres.tolist()
    return fluid, grey, white


@dataclass(frozen=True, eq=False)
class _Segmentation:
    """A slice without its bias, [H,H]; mean grey levels of fluid, grey and white matter; how much of a pixel
    is fluid and white matter; masks; and the distance to the ventricles in mm."""

    image: Image
    levels: tuple[float, float, float]
    fluid: Image
    white: Image
    hull: NDArray[np.bool_]
    ventricles: NDArray[np.bool_]
    cortex: NDArray[np.bool_]
    away: NDArray[np.float64]


def _segmented(image: Image) -> _Segmentation | None:
    """What is what on a slice; None where it shows no brain."""
    from scipy import ndimage

    if not np.isfinite(image).all() or image.max() < 32:
        return None
    pixel = FIELD_OF_VIEW / len(image)
    hull = _hull(image, pixel)
    if hull.sum() * pixel * pixel / 100 < 20:  # cm²
        return None
    image = _without_bias(image, hull, pixel)
    low, middle, high = classes(image)
    if not low < middle < high:
        return None
    fluid = np.clip((middle - image) / (middle - low), 0, 1)
    white = np.clip((image - middle) / (high - middle), 0, 1)
    rows, columns = np.nonzero(hull)
    down, across = np.ogrid[: len(image), : len(image)]
    above = (rows.mean() - down) * pixel + 0 * across
    aside = np.abs(across - columns.mean()) * pixel + 0 * down
    depth: Any = ndimage.distance_transform_edt(hull)
    ventricles = _ventricles(fluid, depth * pixel, above, aside)
    if ventricles.any():
        away: Any = ndimage.distance_transform_edt(~ventricles)
    else:
        away = np.hypot(above, aside) / pixel
    away = away * pixel
    cortex = hull & (away > CORTEX) & (above > BRAINSTEM)
    return _Segmentation(image, (low, middle, high), fluid, white, hull, ventricles, cortex, away)


def _features(image: Image) -> dict[str, float]:
    from scipy import ndimage

    found = _segmented(image)
    if found is None:
        return {}
    pixel = FIELD_OF_VIEW / len(image)
    unit = pixel * pixel / 100  # cm²
    image, fluid, hull, cortex, away = found.image, found.fluid, found.hull, found.cortex, found.away
    low, middle, high = found.levels
    wall = (away >= WALL[0]) & (away < WALL[1])
    far = np.percentile(image[hull & (away > 16)], FAR_PERCENTILE)
    near = np.percentile(image[wall], WALL_PERCENTILE)
    wider: Any = ndimage.binary_dilation(found.ventricles)
    area = float(fluid[wider].sum() * unit)
    return {
        "ventricle_area": area,
        "log_ventricle_area": float(np.log(area + SMALLEST)),
        "hull": float(hull.sum() * unit),
        "fluid": float(fluid[cortex].sum() * unit),
        "white": float(found.white[cortex].sum() * unit),
        "cortex": float(cortex.sum() * unit),
        "sign": float((far - near) / (high - low)),
        "contrast": float(middle / high),
    }


def _without_bias(image: Image, hull: NDArray[np.bool_], pixel: float) -> Image:
    """The image divided by a smooth field, the exponential of a second-order polynomial fitted to its white
    matter."""
    n = len(image)
    y, x = np.meshgrid(*[np.linspace(-1, 1, n)] * 2, indexing="ij")
    terms = np.stack([np.ones_like(x), x, y, x * y, x * x, y * y], -1)
    rows, columns = np.nonzero(hull)
    down, across = np.ogrid[:n, :n]
    outer = hull & (np.hypot(down - rows.mean(), across - columns.mean()) * pixel > BIAS["from"])
    flat = np.diag([0.0, *[BIAS["ridge"]] * 5])
    out = image
    for _ in range(BIAS_ROUNDS):
        _, middle, high = classes(out)
        white = outer & (out > middle + BIAS["white"] * (high - middle))
        design = terms[white]
        weights = np.linalg.solve(
            design.T @ design + flat + 1e-6 * np.eye(6), design.T @ np.log(np.maximum(image[white], 1))
        )
        field = terms[..., 1:] @ weights[1:]
        out = (image * np.exp(field[hull].mean() - field)).astype(np.float32)
    return out


def _hull(image: Image, pixel: float) -> NDArray[np.bool_]:
    """The brain with its sulci closed."""
    from scipy import ndimage

    bright = np.percentile(image[image > 0.2 * image.max()], 95)
    parts, _ = ndimage.label(image > BRAIN_SHARE * bright)  # type: ignore[misc]
    brain = parts == np.bincount(parts[parts > 0]).argmax()
    margin = int(np.ceil(FOLD / pixel)) + 2
    brain = np.pad(brain, margin)
    outside: Any = ndimage.distance_transform_edt(~brain)
    grown = ndimage.binary_fill_holes(outside <= FOLD / pixel)
    inside: Any = ndimage.distance_transform_edt(grown)
    return (inside > FOLD / pixel)[margin:-margin, margin:-margin]


def _ventricles(
    fluid: Image, depth: Image, above: NDArray[np.float64], aside: NDArray[np.float64]
) -> NDArray[np.bool_]:
    """Connected fluid deep in the hull whose centre lies where the lateral ventricles are."""
    from scipy import ndimage

    inside = (fluid > 0.5) & (depth > DEEP) & (aside < 34) & (above > -12) & (above < 40)
    parts, count = ndimage.label(inside)  # type: ignore[misc]
    chosen = np.zeros(fluid.shape, bool)
    for part in range(1, count + 1):
        mask = parts == part
        weight = fluid[mask]
        height, side = np.average(above[mask], weights=weight), np.average(aside[mask], weights=weight)
        if WINDOW["low"] < height < WINDOW["high"] and side < WINDOW["aside"]:
            chosen |= mask
    return chosen


@cache
def own_errors() -> tuple[OwnError, ...]:
    """How well phantoms that did not calibrate it are read; of several scanners the one read worst."""
    return calibrated_errors(CALIBRATION, UNITS)
