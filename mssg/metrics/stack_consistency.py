"""What keeps a head one head from slice to slice, on plain arrays: likeness of neighbouring slices, flicker
along the stack, and how steadily outline, middle and sides run through it.

Every measure but the likeness asks how far a slice departs from what lies between its two neighbours. Of a
head that was really cut it does so by its anatomy and its noise, so real heads are the reference.

Source: ours; docs/decisions/0005-one-person-from-slice-to-slice.md.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mssg.data.plane import TISSUE_LEVEL
from mssg.errors import DataError
from mssg.metrics.pairwise import ssim

UNITS = {
    "neighbour-correlation": "",
    "neighbour-ssim": "",
    "flicker": "grey levels",
    "outline": "mm",
    "middle": "mm",
    "sides": "",
}
"""Measure -> unit."""
FULL_LEVEL = 2 * TISSUE_LEVEL
"""Grey level from which on a pixel is tissue as a whole; below it is so in part."""


def neighbours(a: NDArray[np.uint8], b: NDArray[np.uint8]) -> dict[str, NDArray[np.float64]]:
    """How alike pairs of pictures uint8 [N, 1, H, W] are: correlation of pixels, and SSIM, each [N]."""
    x, y = (p.reshape(len(p), -1).astype(np.float64) for p in (a, b))
    x, y = x - x.mean(1, keepdims=True), y - y.mean(1, keepdims=True)
    r = (x * y).sum(1) / np.sqrt((x * x).sum(1) * (y * y).sum(1))
    return {"neighbour-correlation": r, "neighbour-ssim": ssim(a, b)}


def steadiness(triples: NDArray[np.uint8], pixel_mm: float) -> dict[str, NDArray[np.float64]]:
    """How far the middle one of three neighbouring slices departs from the mean of the outer two.

    Args:
        triples: uint8 [N, 3, H, W], tissue in each.
        pixel_mm: Edge of a pixel.

    Returns:
        Each [N]: `flicker`, grey levels where there is tissue: what one sees as stripes in the planes across
        the slices; `outline`, mm, of the radius of a disc as large as the tissue; `middle`, mm, of the
        tissue's middle along the columns, which is the midline of a coronal or axial slice; `sides`, of the
        left's share of the tissue.

    Raises:
        DataError: Another shape.
    """
    slices = np.asarray(triples)
    if slices.ndim != 4 or slices.shape[1] != 3:
        raise DataError("not triples of slices", found=list(slices.shape), expected="[N, 3, H, W]")
    grey = slices.astype(np.float64)
    tissue = np.clip(grey / FULL_LEVEL, 0, 1)
    area = tissue.sum((2, 3))
    columns = np.arange(grey.shape[3]) + 0.5
    inside = grey.max(1) > TISSUE_LEVEL
    change = np.abs(_departure(grey))
    share = tissue[..., : grey.shape[3] // 2].sum((2, 3)) / area
    return {
        "flicker": (change * inside).sum((1, 2)) / inside.sum((1, 2)),
        "outline": np.abs(_departure(np.sqrt(area / np.pi))) * pixel_mm,
        "middle": np.abs(_departure((tissue.sum(2) * columns).sum(2) / area)) * pixel_mm,
        "sides": np.abs(_departure(share)),
    }


def _departure(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """[N, 3, ...] -> [N, ...]: the middle one minus the mean of the outer two."""
    return values[:, 1] - (values[:, 0] + values[:, 2]) / 2


def asymmetry(head: NDArray[np.uint8]) -> float:
    """How unlike the tissue's volumes on both sides of a head are: |left - right| / (left + right).

    Args:
        head: uint8 [X, Y, Z] in RAS order, x = 0 in the middle.
    """
    tissue = np.clip(np.asarray(head, np.float64) / FULL_LEVEL, 0, 1).sum((1, 2))
    half = len(tissue) // 2
    left, right = tissue[:half].sum(), tissue[-half:].sum()
    return float(abs(left - right) / (left + right))
