"""Another thickness, intensity and slant for a handwritten digit, in the units of `mssg.measure.digits`."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mssg.errors import DataError, UsageError
from mssg.measure import strokes
from mssg.measure.digits import UNITS, level_of, measure_one
from mssg.measure.strokes import CANVAS, GRID, Field

MARGIN = 1.25
"""Units of background kept between a digit and the edge of the canvas."""
THICKNESS_RANGE = (0.5, 12.0)
SLANT_LIMIT = 75.0

THINNEST_SHARE = 0.4
"""Where strokes are made narrower, no part gets narrower than this share of the target."""

THICKNESS_TOLERANCE = 0.015
SLANT_TOLERANCE = 0.25
"""How near to its target, in px and degrees, a digit is brought."""
_THICKNESS_STEPS, _SLANT_STEPS = 4, 3


def set_intensity(image: ArrayLike, intensity: float) -> NDArray[np.uint8]:
    """Scale one digit's grey levels until the median of its foreground is as asked.

    Args:
        image: [H,W], grey levels 0 to 255 (larger ones are clipped).
        intensity: Target grey level, 1 to 255.

    Returns:
        uint8 [H,W].

    Raises:
        DataError: No digit in the image.
        UsageError: The target is out of range.
    """
    _in_range("intensity", intensity, 1.0, 255.0)
    pixels = np.maximum(np.asarray(image, np.float32), 0)
    level = level_of(pixels)
    if not np.isfinite(level):
        raise DataError("no digit to change", found="an empty or uniform image", hint="drop this image")
    factor = 1.0
    # clipping at 255 lowers the peak and so admits darker pixels to the foreground: correct for it
    for _ in range(4):
        factor *= intensity / level
        scaled = np.rint(np.minimum(pixels * factor, 255.0))
        level = level_of(scaled, empty=0.0)
        if abs(level - intensity) <= 0.5:
            break
    return scaled.astype(np.uint8)


def set_all(
    image: ArrayLike,
    thickness: float,
    intensity: float,
    slant: float,
    resolution: int = CANVAS,
    thickness_tolerance: float = THICKNESS_TOLERANCE,
    slant_tolerance: float = SLANT_TOLERANCE,
) -> NDArray[np.uint8]:
    """Give one digit a thickness, an intensity and a slant at once.

    The shear comes first, because it changes stroke widths; the strokes are then set by morphology at 16-fold
    supersampling and the grey level last. Targets are approached until `measure` agrees.

    Args:
        image: [H,W], grey levels 0 to 255; H = 28, or a power of two from 16 to 128.
        thickness: px of the 28-pixel digit.
        intensity: Grey level, 1 to 255.
        slant: Degrees, positive to the right.
        resolution: Side of the result: 28 (keeps the original frame), or a power of two from 16 to 128.
        thickness_tolerance: px; a wider one is reached in fewer steps, as is one of `slant_tolerance`
            (degrees).

    Returns:
        uint8 [resolution, resolution].

    Raises:
        DataError: No digit in the image.
        UsageError: A target is out of range.
    """
    pixels, (width, level, lean) = _readable(image)
    _in_range("thickness", thickness, *THICKNESS_RANGE)
    _in_range("intensity", intensity, 1.0, 255.0)
    _in_range("slant", slant, -SLANT_LIMIT, SLANT_LIMIT)
    fine = _fine(pixels, level)
    target = np.tan(np.radians(slant))
    shear, ask = target - np.tan(np.radians(lean)), thickness
    for step in range(_SLANT_STEPS):
        placement = _placement(fine, shear, width, thickness, resolution)
        level_at, placed = _stroke_levels(strokes.warp(fine, *placement) - np.float32(0.5), thickness)
        # strokes change the slant a little and the shear changes strokes: the first look need not be exact
        steps = 1 if step == 0 else _THICKNESS_STEPS
        result, ask, got = _thicken(
            level_at, thickness, intensity, resolution, ask=ask, steps=steps, tolerance=thickness_tolerance
        )
        width = placed / placement[2]
        close = step > 0 or abs(thickness - got[0]) <= thickness_tolerance
        if close and not abs(slant - got[2]) > slant_tolerance:
            break
        shear += target - np.tan(np.radians(got[2]))
    return result


def _readable(image: ArrayLike) -> tuple[Field, tuple[float, float, float]]:
    """A digit as float32 [H,H] with what it measures, or a DataError."""
    pixels = np.asarray(image, np.float32)
    side = pixels.shape[-1] if pixels.ndim else 0
    if pixels.ndim != 2 or pixels.shape[0] != side or side not in (16, 28, 32, 64, 128):
        raise DataError(
            "not one digit", found=list(pixels.shape), expected="[H,H] with H of 16, 28, 32, 64 or 128"
        )
    measured = measure_one(pixels)
    if not np.all(np.isfinite(measured)):
        raise DataError("no digit to change", found="an empty or uniform image", hint="drop this image")
    return pixels, measured


def _in_range(name: str, value: float, low: float, high: float) -> None:
    if not low <= value <= high:
        raise UsageError(
            "target out of range", field=name, found=value, expected=f"{low:g} to {high:g} {UNITS[name]}"
        )


def _fine(pixels: Field, intensity: float) -> Field:
    """An image on the distance grid, about 1 in the foreground: [28 * GRID] * 2 or [CANVAS * GRID] * 2."""
    side = len(pixels)
    samples = GRID * (28 if side == 28 else CANVAS)
    if side >= samples:
        return pixels / np.float32(intensity)
    matrix = strokes.resize_matrix(side, samples, cubic=True)
    return matrix @ (pixels / np.float32(intensity)) @ matrix.T


def _placement(
    fine: Field, shear: float, width: float, thickness: float, resolution: int
) -> tuple[tuple[float, float], float, float, tuple[float, float]]:
    """Arguments of `strokes.warp` that keep a sheared digit inside the frame.

    Args:
        fine: From `_fine`.
        shear: Tangent to add.
        width: Stroke width of the sheared digit, `thickness`: the one it will get, in units.
        resolution: 28 keeps a frame of 28 units, otherwise CANVAS.
    """
    row, column = ((index - (len(fine) - 1) / 2) / GRID for index in np.nonzero(fine >= 0.5))
    centre = float(row.mean()), float(column.mean())
    frame = (28 if resolution == 28 else CANVAS) - 2 * MARGIN
    points = [row - centre[0], column - centre[1] - shear * (row - centre[0])]
    # the skeleton spans the foreground less one old stroke; one new stroke must fit around it
    spans = [max(float(np.ptp(p)) - width, 1.0) for p in points]
    scale = min(1.0, (frame - thickness) / max(spans))
    shift = []
    for p in points:
        low = scale * (float(p.min()) + width / 2) - thickness / 2
        high = scale * (float(p.max()) - width / 2) + thickness / 2
        shift.append(max(-frame / 2 - low, 0.0) + min(frame / 2 - high, 0.0))
    return centre, shear, scale, (shift[0], shift[1])


def _thicken(
    level_at: Callable[[float], Field],
    thickness: float,
    intensity: float,
    resolution: int,
    ask: float,
    steps: int,
    tolerance: float = THICKNESS_TOLERANCE,
) -> tuple[NDArray[np.uint8], float, tuple[float, float, float]]:
    """Render a shape with its strokes set.

    Args:
        level_at: From `_stroke_levels`.
        thickness: Target in units, `intensity`: target grey level, `resolution`: side of the result.
        ask: First guess of what to ask of `level_at`.
        steps: At most so many renderings.
        tolerance: Miss in units that ends the search.

    Returns:
        uint8 image, the stroke width to ask for next, and what the image measures.
    """
    low, high = THICKNESS_RANGE[0] / 2, THICKNESS_RANGE[1] + 2
    before: tuple[float, float] | None = None
    best: tuple[NDArray[np.uint8], float, tuple[float, float, float]] | None = None
    for _ in range(steps):
        image = _frame(strokes.render(level_at(ask), CANVAS if resolution == 28 else resolution), resolution)
        image = set_intensity(image * np.float32(255), intensity)
        got = measure_one(image.astype(np.float32))
        miss = thickness - got[0]
        if best is None or abs(miss) < abs(thickness - best[2][0]):
            best = image, ask, got
        if not abs(miss) > tolerance:
            break
        gain = 1.0
        if before is not None and abs(ask - before[0]) > 1e-6:
            gain = float(np.clip((got[0] - before[1]) / (ask - before[0]), 0.4, 2.5))
        before = (ask, got[0])
        ask = min(max(ask + miss / gain, low), high)
    assert best is not None
    return (best[0], ask, best[2]) if steps == 1 else best


def _frame(coverage: Field, resolution: int) -> Field:
    """Cut the canvas to the original frame where that is asked for."""
    margin = (CANVAS - 28) // 2
    return coverage[margin:-margin, margin:-margin] if resolution == 28 else coverage


def _stroke_levels(field: Field, reach: float) -> tuple[Callable[[float], Field], float]:
    """A function of stroke width (units) that returns the level function of the shape with such strokes.

    Beside it the width that the strokes have now; a DataError where there is no stroke.

    Wider strokes are level sets of the signed distance (dilation by a disk). Narrower ones are disks around
    the skeleton with all radii scaled alike: erosion would cut a digit where its stroke is thin.

    Args:
        field: Level function on the distance grid, positive inside.
        reach: The strokes will be about this wide, in units.
    """
    if not (field > 0).any():
        raise DataError("the digit is too faint or too thin to change", hint="drop this image")
    cut = strokes.bounds(field > 0, 2 + GRID * int(np.ceil(reach / 2 + 1)))
    part = field[cut]
    inner = strokes.inner_distance(part)
    ridge, crest = strokes.skeleton(inner)
    if not ridge.any():
        raise DataError("the digit is too faint or too thin to change", hint="drop this image")
    width = 2 * float(np.median(crest[ridge])) / GRID

    @cache
    def signed() -> Field:
        return inner - strokes.outer_distance(part)

    @cache
    def around() -> tuple[Field, Field]:
        away, row, column = strokes.nearest(~strokes.prune(ridge, crest))
        return away, crest[row, column]

    def level(stroke: float) -> Field:
        whole = np.full_like(field, -GRID)
        if stroke >= width:
            whole[cut] = signed() + np.float32((stroke - width) / 2 * GRID)
        else:
            away, radius = around()
            thinnest = np.float32(stroke / 2 * GRID * THINNEST_SHARE)
            whole[cut] = np.maximum(radius * np.float32(stroke / width), thinnest) - away
        return whole

    return level, width
