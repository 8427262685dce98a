"""Stroke geometry on a fine grid: distance fields, skeletons, resampling and anti-aliased rendering.

A *unit* is one pixel of the original 28 x 28 digits. Distance fields live on a grid of `GRID` samples a unit
whose distances are corrected to sub-sample precision, and shapes are thresholded at `SUPERSAMPLING` samples a
unit.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

GRID = 4
"""Samples a unit of the distance fields."""
SUPERSAMPLING = 16
"""Samples a unit at which a shape is thresholded before it is averaged into pixels."""
CANVAS = 32
"""Units along the side of a stored digit: 28 and a margin of two on each side."""
RIDGE_SHARPNESS = 0.4
"""A sample lies on the skeleton where the distance field bends by at least this much a sample (0 on a slope,
1 on a crest)."""

SPUR_SCALE = 1.3
"""A skeleton branch is a spur where its radius falls by more than a unit along this many."""

Field = NDArray[np.floating]
"""Samples of a grey level, a level function or a distance: float32 wherever this module makes them."""


@lru_cache(maxsize=32)
def resize_matrix(size: int, samples: int, cubic: bool) -> Field:
    """The matrix that resamples `size` pixels to `samples` samples, pixel areas aligned.

    Args:
        size: Number of input pixels.
        samples: Number of output samples; not fewer than `size`.
        cubic: Catmull-Rom interpolation; otherwise linear.

    Returns:
        float32 [samples, size]; outside the image counts as zero (cubic) or the border value (linear).
    """
    position = (np.arange(samples) + 0.5) * size / samples - 0.5  # [samples], in pixels
    distance = np.abs(position[:, None] - np.arange(-2, size + 2)[None])  # [samples, size + 4]
    if cubic:
        near = 1.5 * distance**3 - 2.5 * distance**2 + 1
        far = -0.5 * distance**3 + 2.5 * distance**2 - 4 * distance + 2
        weight = np.where(distance < 1, near, np.where(distance < 2, far, 0.0))
        return np.ascontiguousarray(weight[:, 2:-2], dtype=np.float32)
    weight = np.maximum(1 - distance, 0.0)
    inner = weight[:, 2:-2].copy()
    inner[:, 0] += weight[:, 1]
    inner[:, -1] += weight[:, -2]
    return inner.astype(np.float32)


def sub_sample_offset(field: Field) -> Field:
    """How far each sample lies from the zero level, to first order, in samples and at most one.

    Args:
        field: float [H, W], positive inside.
    """
    down, across = np.gradient(field)
    slope = np.sqrt(down * down + across * across) + 1e-6
    return np.minimum(np.abs(field) / slope, 1.0)


def nearest(mask: NDArray[np.bool_]) -> tuple[Field, NDArray[np.intp], NDArray[np.intp]]:
    """Distance of every sample of the mask to the nearest one outside it, and that sample's row and column
    [H, W]."""
    from scipy.ndimage import distance_transform_edt

    found: Any = distance_transform_edt(mask, return_indices=True)
    distance, (row, column) = found
    return distance.astype(np.float32), row, column


def distance_to(mask: NDArray[np.bool_], offset: Field) -> Field:
    """Distance of every sample of the mask to the zero level outside it, in samples; zero outside the mask.

    Args:
        mask: bool [H, W], one side of the zero level.
        offset: float [H, W], what `sub_sample_offset` says of the field.
    """
    distance, row, column = nearest(mask)
    return np.where(mask, np.maximum(distance - offset[row, column], 0), 0).astype(np.float32)


def inner_distance(field: Field) -> Field:
    """Distance of every inside sample to the zero level, in samples [H, W]; zero outside.

    Args:
        field: float [H, W], positive inside, with at least one sample of background around the shape.
    """
    return distance_to(field > 0, sub_sample_offset(field))


def outer_distance(field: Field) -> Field:
    """Distance of every outside sample to the zero level, in samples [H, W]; zero inside."""
    return distance_to(field <= 0, sub_sample_offset(field))


def skeleton(inner: Field) -> tuple[NDArray[np.bool_], Field]:
    """The ridge of an inner distance field, and its height between the samples.

    Across a ridge the distance is a tent, D = R - |x|: with neighbours at distance d on both sides,
    D - (D+ + D-) / 2 = d - |x| tells how near the crest is, and (D+ + D-) / 2 + d = R how high. The direction
    across is the one of four with the lowest crest.

    Args:
        inner: float [H, W] from `inner_distance`, zero along its border.

    Returns:
        bool [H, W], the samples on the skeleton, and float32 [H, W], the crest's distance R there.
    """
    padded = np.pad(inner, 1)
    rows, columns = inner.shape
    bend, crest = np.zeros_like(inner), np.full_like(inner, np.inf)
    for down, across, length in ((1, 0, 1.0), (0, 1, 1.0), (1, 1, 2**0.5), (1, -1, 2**0.5)):
        after = padded[1 + down : 1 + down + rows, 1 + across : 1 + across + columns]
        ahead = padded[1 - down : 1 - down + rows, 1 - across : 1 - across + columns]
        mean = (after + ahead) / 2
        np.maximum(bend, (inner - mean) / np.float32(length), out=bend)
        np.minimum(crest, mean + np.float32(length), out=crest)
    return (bend >= RIDGE_SHARPNESS) & (inner > 0.5), np.maximum(crest, inner)


def bounds(mask: NDArray[np.bool_], margin: int) -> tuple[slice, slice]:
    """The slices that cut a mask to its bounding box with a margin, inside the array."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return (
        slice(max(rows[0] - margin, 0), rows[-1] + 1 + margin),
        slice(max(columns[0] - margin, 0), columns[-1] + 1 + margin),
    )


def prune(mask: NDArray[np.bool_], radius: Field) -> NDArray[np.bool_]:
    """A skeleton without its spurs: branches whose radius falls faster than a stroke tapers.

    A sample goes where the disk of another one, scaled by `SPUR_SCALE`, holds its own scaled disk.

    Source: Giesen et al., "The scale axis transform", SoCG 2009.

    Args:
        mask: bool [H, W] from `skeleton`, `radius`: float [H, W], the crest there.
    """
    row, column = np.nonzero(mask)
    size = radius[row, column]
    down, across = row.astype(np.float32), column.astype(np.float32)
    apart = (down[:, None] - down) ** 2 + (across[:, None] - across) ** 2  # [M, M]
    slack = np.maximum(np.float32(SPUR_SCALE) * (size - size[:, None]), 0)
    spur = ((apart > 0) & (apart <= slack * slack)).any(1)
    kept = mask.copy()
    kept[row[spur], column[spur]] = False
    return kept


def warp(
    fine: Field, centre: tuple[float, float], shear: float, scale: float, shift: tuple[float, float]
) -> Field:
    """A fine image sheared and scaled about a point that lands at the middle of the canvas.

    Args:
        fine: float [h * GRID, w * GRID].
        centre: (row, column) in units from the image's middle: the point that goes to the middle of the
            canvas.
        shear: Tangent of the lean to the right that is added.
        scale: Uniform factor.
        shift: (rows, columns) in units, added afterwards.

    Returns:
        float32 [CANVAS * GRID, CANVAS * GRID], linear interpolation.
    """
    from scipy.ndimage import affine_transform

    size = CANVAS * GRID
    # sample o of the canvas -> v = (o - middle - shift) / scale from the digit's centre
    # -> row = v_row + centre_row, column = v_column + shear * v_row + centre_column
    start = [(-(size - 1) / 2 - GRID * s) / scale for s in shift]
    middle = [(n - 1) / 2 + GRID * c for n, c in zip(fine.shape, centre)]
    matrix = np.array([[1 / scale, 0.0], [shear / scale, 1 / scale]])
    offset: Any = np.array([start[0] + middle[0], start[1] + shear * start[0] + middle[1]])
    return affine_transform(fine, matrix, offset, (size, size), np.float32, order=1, mode="constant")


def render(level: Field, resolution: int) -> Field:
    """Area coverage of the shape where a level function is positive.

    Args:
        level: float32 [CANVAS * GRID, CANVAS * GRID], linear near its zero level.
        resolution: Pixels along the side of the result; divides CANVAS * SUPERSAMPLING.

    Returns:
        float32 [resolution, resolution] in [0, 1].
    """
    side = CANVAS * SUPERSAMPLING
    cell = side // resolution
    coverage = np.zeros((resolution, resolution), np.float32)
    inside = level > 0
    if not inside.any():
        return coverage
    rows, columns = bounds(inside, 2)
    matrix = resize_matrix(CANVAS * GRID, side, cubic=False)
    step = SUPERSAMPLING // GRID

    def pixels(cut: slice) -> tuple[int, int]:
        stop = min(cut.stop, CANVAS * GRID)
        return cut.start * step // cell, min(-(-stop * step // cell), resolution)

    (top, bottom), (left, right) = pixels(rows), pixels(columns)
    down = matrix[top * cell : bottom * cell]
    across = matrix[left * cell : right * cell]
    reach = [np.flatnonzero(m.any(0)) for m in (down, across)]
    (r0, r1), (c0, c1) = ((r[0], r[-1] + 1) for r in reach)
    fine = down[:, r0:r1] @ level[r0:r1, c0:c1] @ across[:, c0:c1].T > 0
    blocks = fine.reshape(bottom - top, cell, right - left, cell)
    coverage[top:bottom, left:right] = blocks.sum((1, 3), dtype=np.int32) / np.float32(cell * cell)
    return coverage
