"""Morphometry of handwritten digits: thickness, intensity and slant, measured on an image.

Units: thickness counts pixels of the original 28 x 28 digits. Digits padded to 32 x 32 keep that pixel; an
image of any other side is taken as that 32-pixel canvas resampled, so its pixels count as 32 / side each.
Intensity is a grey level (0 to 255), slant is in degrees and positive where the digit leans to the right.

Source: Castro et al., "Morpho-MNIST: Quantitative Assessment and Diagnostics for Representation Learning",
JMLR 20 (2019).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mssg.blas import one_blas_thread
from mssg.measure import strokes
from mssg.measure.batches import grey_squares
from mssg.measure.own_error import OwnError
from mssg.measure.strokes import CANVAS, GRID, Field

COVARIATES = ("thickness", "intensity", "slant")
UNITS = {"thickness": "px", "intensity": "levels", "slant": "°"}

ABOUT = "Thickness, intensity and slant are what this program measures: it defines them."

EMPTY_PEAK = 16.0
"""An image whose brightest pixels stay below this grey level holds no digit."""
PEAK_PIXELS = 8
"""How many of the brightest pixels make the peak; one bright noise pixel must not."""
FULL_PERCENTILE = 80.0
"""Percentile of the foreground taken as a stroke's full grey level; its outline lies at half of that."""
FULL_SHARE = 0.7
"""A digit covers less of the image than this."""


def own_errors() -> tuple[OwnError, ...]:
    """None: the covariates are what it measures."""
    return ()


def measure(images: ArrayLike) -> dict[str, NDArray[np.float64]]:
    """Measure every digit of a batch.

    Args:
        images: uint8 or float [N,H,W], [N,1,H,W], grey levels 0 to 255, digit bright on dark.

    Returns:
        `thickness` (px of the 28-pixel digit), `intensity` (grey levels) and `slant` (degrees), each float64
        [N].
        NaN where there is no digit: an empty, a nearly uniform or a non-finite image.

    Raises:
        DataError: The array is not a batch of square single-channel images.

    Source: Morpho-MNIST: thickness = twice the mean distance transform on the skeleton (here its
        median: spurs and crossings do not move it); intensity = median of
        the foreground (at least half the peak); slant = arctan of the horizontal shear mu11 / mu02 (rows
        counted upwards).
    """
    with one_blas_thread():
        rows = [measure_one(image) for image in grey_squares(images, "digits")]
    table = np.array(rows, np.float64).reshape(len(rows), 3)
    return {name: table[:, i].copy() for i, name in enumerate(COVARIATES)}


def regions(image: ArrayLike) -> dict[str, NDArray[np.bool_]]:
    """What `measure` takes for the strokes of one digit: pixels of at least half its intensity.

    Args:
        image: [H,H] grey levels 0 to 255, as in `measure`.

    Returns:
        Region -> bool [H,H]; nothing where the image shows no digit.
    """
    pixels = np.asarray(image, np.float32)
    intensity = level_of(pixels)
    return {"strokes": pixels >= 0.5 * intensity} if np.isfinite(intensity) else {}


def _unit(side: int) -> float:
    """Units along one pixel of an image of this side."""
    return 1.0 if side in (28, CANVAS) else CANVAS / side


def level_of(pixels: Field, empty: float = EMPTY_PEAK) -> float:
    """Grey level of strokes on [H,H]: median of the pixels that reach half the peak; NaN without a digit."""
    count = min(PEAK_PIXELS, pixels.size)
    peak = float(np.partition(pixels, -count, axis=None)[-count:].mean())
    if not np.isfinite(peak) or peak <= empty:
        return float("nan")
    foreground = pixels[pixels >= 0.5 * peak]
    if foreground.size > FULL_SHARE * pixels.size:
        return float("nan")
    return float(np.median(foreground))


def measure_one(pixels: Field) -> tuple[float, float, float]:
    """Thickness, intensity and slant of one image [H,H]."""
    intensity = level_of(pixels)
    if not np.isfinite(intensity):
        return intensity, intensity, intensity
    return _thickness(pixels, intensity), intensity, _slant(pixels, intensity)


def _thickness(pixels: Field, intensity: float) -> float:
    """Twice the median distance on the skeleton of the half-intensity shape, in units."""
    rows, columns = strokes.bounds(pixels >= 0.25 * intensity, 2)
    # the full stroke level: with the median, strokes of two pixels would read wider where they straddle three
    foreground = pixels[pixels >= 0.5 * intensity]
    rank = int(FULL_PERCENTILE / 100 * (foreground.size - 1))
    level = np.partition(foreground, rank)[rank]
    cut = np.pad(pixels[rows, columns] / np.float32(level), 1)
    factor = max(round(GRID * _unit(len(pixels))), 1)
    down = strokes.resize_matrix(cut.shape[0], cut.shape[0] * factor, cubic=True)
    across = strokes.resize_matrix(cut.shape[1], cut.shape[1] * factor, cubic=True)
    inner = strokes.inner_distance(down @ cut @ across.T - np.float32(0.5))
    ridge, crest = strokes.skeleton(inner)
    if not ridge.any():
        return float("nan")
    return 2 * float(np.median(crest[ridge])) * _unit(len(pixels)) / factor


def _slant(pixels: Field, intensity: float) -> float:
    """Lean to the right in degrees from second moments, background noise below a quarter of the intensity
    ignored."""
    weight = np.clip((pixels / intensity - 0.25) * 2, 0, 1).astype(np.float64)
    total = weight.sum()
    if not total > 0:
        return float("nan")
    position = np.arange(len(pixels), dtype=np.float64)
    down, across = weight.sum(1), weight.sum(0)
    row, column = position - down @ position / total, position - across @ position / total
    mu02 = down @ row**2
    if not mu02 > 0:
        return float("nan")
    return float(np.degrees(np.arctan(-(row @ weight @ column) / mu02)))
