"""Where the middle of a brain lies in a volume, with or without a skull around it."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from mssg.data.nifti import NiftiVolume
from mssg.errors import DataError

STEP_MM = 4.0
"""Millimetres between the voxels that are looked at."""
BELOW_VERTEX_MM = 150.0
"""How far below the vertex a head is taken into account: to the lower end of the cerebellum. The middle of it
is the brain's to 1 mm without a skull and to 4 mm with one (Colin27)."""
VERTEX_SHARE = 0.002
"""Share of the head's voxels above the vertex: single bright ones are no head."""


def brain_centre(volume: NiftiVolume, mask: NiftiVolume | None = None) -> NDArray[np.float64]:
    """The middle of a brain.

    Args:
        volume: Grey levels, in any orientation.
        mask: The brain's mask, 0 and 1: then its centroid is the answer.

    Returns:
        float64 [3], millimetres right, anterior, superior.

    Raises:
        DataError: Nothing stands out from the background.
    """
    from scipy import ndimage

    if mask is not None:
        return _places(mask, mask.data > 0, np.ones(3, int)).mean(0)
    edges = np.linalg.norm(volume.affine[:3, :3], axis=0)
    every = np.maximum(1, (STEP_MM / edges).astype(int))
    data = volume.data[:: every[0], :: every[1], :: every[2]].astype(np.float64)
    data = np.minimum(data, np.percentile(data, 99))
    if not np.ptp(data) > 0:
        raise DataError("the volume is empty, so its brain has no middle", field="--at")
    labelled: Any = ndimage.label(data > _threshold(data))
    parts = labelled[0]
    head = parts == 1 + np.bincount(parts.ravel())[1:].argmax()
    places = _places(volume, head, every)
    vertex = np.quantile(places[:, 2], 1 - VERTEX_SHARE)
    return places[places[:, 2] > vertex - BELOW_VERTEX_MM].mean(0)


def _places(
    volume: NiftiVolume, voxels: NDArray[np.bool_], every: NDArray[np.integer]
) -> NDArray[np.float64]:
    """Millimetres [n, 3] of the voxels that are True, of which every so many-th was looked at."""
    return np.argwhere(voxels) * every @ volume.affine[:3, :3].T + volume.affine[:3, 3]


def _threshold(data: NDArray[np.float64]) -> float:
    """The grey level between background and head: the one that divides the histogram into the two classes
    farthest apart. Source: Otsu 1979, equation 12."""
    counts, edges = np.histogram(data, 256)
    levels = (edges[1:] + edges[:-1]) / 2
    below, moment = np.cumsum(counts)[:-1], np.cumsum(counts * levels)[:-1]
    total, whole = counts.sum(), (counts * levels).sum()
    apart = (whole * below - total * moment) ** 2 / (below * (total - below))
    return float(levels[apart.argmax()])
