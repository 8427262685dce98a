"""Bias field of a T1 volume: a smooth polynomial in log intensity, estimated together with the tissues'
intensities.

Source: Van Leemput et al., IEEE TMI 1999 (polynomial field and tissue classes estimated in turn), with hard
classes.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mssg.data.nifti import NiftiVolume
from mssg.errors import DataError

GRID_MM = 4.0
"""Distance of the samples the field is fitted to."""
ORDER = 3
CLASSES = 3
ROUNDS = 12
RIDGE = 1e-3
FEWEST = 500
"""Samples inside the head without which no field is fitted."""


@dataclass(frozen=True)
class BiasField:
    """exp of a polynomial in patient coordinates; 1 on average over the head.

    Attributes:
        centre, reach: Millimetres [3]: (point − centre) / reach lies within −1 and 1.
        coefficients: [T], one for each term without the constant, and last the constant.
    """

    centre: NDArray[np.float64]
    reach: NDArray[np.float64]
    coefficients: NDArray[np.float64]

    def at(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        """The field at points in millimetres [3, …]; beyond the head it keeps its border's value."""
        flat = points.reshape(3, -1)
        scaled = np.clip((flat - self.centre[:, None]) / self.reach[:, None], -1, 1)
        return np.exp(_terms(scaled) @ self.coefficients).reshape(points.shape[1:])


def estimate(volume: NiftiVolume) -> BiasField:
    """Estimate the bias field of a volume.

    Args:
        volume: With or without skull; air darker than tissue.

    Raises:
        DataError: Too little in it to fit anything to.
    """
    grid, to_world = samples(volume)
    values, where = grid.ravel(), np.indices(grid.shape).reshape(3, -1)
    inside = values > max(_threshold(values), 0.0)
    if inside.sum() < FEWEST:
        raise DataError("too little in the volume to estimate a bias field from", found=int(inside.sum()))
    y = np.log(values[inside])
    points = to_world[:3, :3] @ where[:, inside] + to_world[:3, 3:]
    low, high = points.min(1), points.max(1)
    centre, reach = (low + high) / 2, np.maximum((high - low) / 2, 1.0)
    terms = _terms((points - centre[:, None]) / reach[:, None])[:, :-1]
    terms = terms - terms.mean(0)  # the field is 1 on average; overall brightness belongs to the tissues
    coefficients = _fit(y, terms)
    raw = _terms((points - centre[:, None]) / reach[:, None])[:, :-1]
    return BiasField(centre, reach, np.append(coefficients, -(raw.mean(0) @ coefficients)))


def samples(volume: NiftiVolume) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """What a field is fitted to: values about every `GRID_MM` [nx, ny, nz], and the [4, 4] that takes their
    indices to millimetres."""
    edges = np.linalg.norm(volume.affine[:3, :3], axis=0)
    step = np.maximum(1, np.round(GRID_MM / edges)).astype(int)
    values = volume.data[tuple(slice(s // 2, None, s) for s in step)].astype(np.float64)
    to_voxel = np.diag([*step, 1.0])
    to_voxel[:3, 3] = step // 2
    return values, volume.affine @ to_voxel


def _fit(y: NDArray[np.float64], terms: NDArray[np.float64]) -> NDArray[np.float64]:
    """Polynomial and classes in turn; what is far from every class (fat, vessels) weighs little."""
    coefficients = np.zeros(terms.shape[1])
    centres = np.quantile(y, (np.arange(CLASSES) + 0.5) / CLASSES)
    for _ in range(ROUNDS):
        flat = y - terms @ coefficients
        for _ in range(3):
            nearest = np.abs(flat[:, None] - centres).argmin(1)
            centres = np.array(
                [np.median(flat[nearest == k]) if (nearest == k).any() else c for k, c in enumerate(centres)]
            )
        rest = flat - centres[nearest]
        spread = 1.4826 * np.median(np.abs(rest)) + 1e-6
        weight = 1 / (1 + (rest / (2 * spread)) ** 2)
        weighted = terms * weight[:, None]
        matrix = terms.T @ weighted + RIDGE * len(y) * np.eye(terms.shape[1])
        coefficients = np.linalg.solve(matrix, weighted.T @ (y - centres[nearest]))
    return coefficients


def _terms(points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Monomials up to `ORDER` of points [3, N], the constant last: [N, T]."""
    powers = [p for p in itertools.product(range(ORDER + 1), repeat=3) if 0 < sum(p) <= ORDER]
    out = np.empty((points.shape[1], len(powers) + 1))
    for i, (a, b, c) in enumerate(powers):
        out[:, i] = points[0] ** a * points[1] ** b * points[2] ** c
    out[:, -1] = 1
    return out


def _threshold(values: NDArray[np.float64]) -> float:
    """Otsu's threshold between air and head. Source: Otsu, IEEE SMC 1979."""
    top = np.percentile(values, 99.5)
    counts, edges = np.histogram(np.clip(values, values.min(), top), 256)
    middles = (edges[1:] + edges[:-1]) / 2
    below = np.cumsum(counts)
    above = below[-1] - below
    sums = np.cumsum(counts * middles)
    means = sums / np.maximum(below, 1), (sums[-1] - sums) / np.maximum(above, 1)
    return float(middles[(below * above * (means[0] - means[1]) ** 2).argmax()])
