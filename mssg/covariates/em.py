"""Fitting a Gaussian mixture by EM, with values missing in blocks and categorical columns beside the Gaussian
ones.

Source: Dempster, Laird & Rubin 1977; for missing blocks Ghahramani & Jordan 1994, equations 7 to 11; starting
points by k-means++ (Arthur & Vassilvitskii 2007).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

MOST_ROWS = 20_000  # more rows refine a mixture of ten components no further
_ITERATIONS = 200
_TOLERANCE = 1e-5  # gain of the mean log likelihood per row at which EM stops
_FINE = 1e-8  # the same for one component, which is cheap and, with missing blocks, slow to converge
_REGULAR = (
    1e-3  # added to variances of standardised columns: no component thinner than 3 % of a column's spread
)
_REGULAR_ONE = 1e-6  # the same for a single Gaussian, which cannot collapse onto few rows
_SMOOTH = 0.5  # pseudo-count of every level in every component
_LLOYD = 10
_LOG_2PI = 1.8378770664093453

Coupling = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True, eq=False)
class Parameters:
    """weights [K], means [K, D], covariances [K, D, D] and, per categorical column, level probabilities [K,
    L]."""

    weights: np.ndarray
    means: np.ndarray
    covariances: np.ndarray
    tables: tuple[np.ndarray, ...]


@dataclass(frozen=True, eq=False)
class _Block:
    """Rows that miss the same columns: their observed values [n, o] and levels [n, C] (−1 missing)."""

    rows: np.ndarray
    seen: np.ndarray
    gone: np.ndarray
    x: np.ndarray
    codes: np.ndarray


def default_components(rows: int, columns: int) -> int:
    """As many components as leave ten rows for each of their parameters, at most ten."""
    parameters = 1 + columns + columns * (columns + 1) // 2
    return int(max(1, min(10, rows // (10 * parameters))))


def fit_mixture(
    x: np.ndarray,
    components: int,
    rng: np.random.Generator,
    codes: np.ndarray | None = None,
    levels: tuple[int, ...] = (),
    coupling: Coupling | None = None,
) -> Parameters:
    """Fit a mixture of Gaussians times categoricals.

    Args:
        x: Continuous columns float64 [n, D], NaN where missing.
        components: K.
        rng: Decides the starting points and, beyond 20,000 rows, which rows are used.
        codes: Categorical columns int64 [n, C], −1 where missing.
        levels: Levels of those columns.
        coupling: Sets the covariances no row informs, on standardised covariances [K, D, D], after every
            step.

    Returns:
        Parameters in the units of x.
    """
    codes = np.empty((len(x), 0), np.int64) if codes is None else codes
    if len(x) > MOST_ROWS:
        chosen = rng.choice(len(x), MOST_ROWS, replace=False)
        x, codes = x[chosen], codes[chosen]
    offset = np.nanmean(x, 0)
    spread = np.nanstd(x, 0)
    blocks = _blocks((x - offset) / spread, codes)
    start = _single(x.shape[1], levels)
    if any(block.gone.size for block in blocks):
        start = _iterate(blocks, start, [np.ones((len(b.rows), 1)) for b in blocks], levels, coupling)
    if components > 1 or not any(block.gone.size for block in blocks):
        assigned = _assign(blocks, start, components, levels, rng)
        parts = (np.repeat(p, components, 0) for p in (start.weights, start.means, start.covariances))
        start = Parameters(*parts, tables=())
        start = _iterate(blocks, start, assigned, levels, coupling)
    scale = spread[:, None] * spread
    return Parameters(start.weights, start.means * spread + offset, start.covariances * scale, start.tables)


def _single(columns: int, levels: tuple[int, ...]) -> Parameters:
    tables = tuple(np.full((1, count), 1 / count) for count in levels)
    return Parameters(np.ones(1), np.zeros((1, columns)), np.eye(columns)[None], tables)


def _blocks(x: np.ndarray, codes: np.ndarray) -> list[_Block]:
    masks, group = np.unique(np.isnan(x), axis=0, return_inverse=True)
    out = []
    for number, mask in enumerate(masks):
        rows = np.flatnonzero(group.reshape(-1) == number)
        seen = np.flatnonzero(~mask)
        out.append(_Block(rows, seen, np.flatnonzero(mask), x[np.ix_(rows, seen)], codes=codes[rows]))
    return out


def _iterate(
    blocks: list[_Block],
    start: Parameters,
    shares: list[np.ndarray],
    levels: tuple[int, ...],
    coupling: Coupling | None,
) -> Parameters:
    """EM from given responsibilities [n, K] per block until the likelihood stops rising."""
    current, before = start, -np.inf
    rows = sum(len(block.rows) for block in blocks)
    tolerance = _FINE if shares[0].shape[1] == 1 else _TOLERANCE
    for _ in range(_ITERATIONS):
        current = _maximise(blocks, shares, current, levels, coupling)
        shares, total = _expect(blocks, current)
        if total / rows - before < tolerance:
            break
        before = total / rows
    return current


def log_gaussians(x: np.ndarray, means: np.ndarray, covariances: np.ndarray) -> np.ndarray:
    """Log density of rows x [n, D] under K Gaussians -> [n, K]."""
    root = np.linalg.cholesky(covariances)
    whitened = (x - means[:, None]) @ np.linalg.inv(root).transpose(0, 2, 1)  # [K, n, D]
    logdet = np.log(np.diagonal(root, axis1=1, axis2=2)).sum(1)
    quadratic = np.einsum("knd,knd->kn", whitened, whitened)
    return (-0.5 * quadratic - (logdet + 0.5 * x.shape[1] * _LOG_2PI)[:, None]).T


def _expect(blocks: list[_Block], current: Parameters) -> tuple[list[np.ndarray], float]:
    """Responsibilities [n, K] per block, and the log likelihood of what was observed."""
    shares, total = [], 0.0
    for block in blocks:
        seen = block.seen
        logs = np.log(current.weights) + np.zeros((len(block.rows), 1))
        if seen.size:
            logs = logs + log_gaussians(
                block.x, current.means[:, seen], current.covariances[:, seen[:, None], seen]
            )
        for column, table in enumerate(current.tables):
            known = block.codes[:, column] >= 0
            logs[known] += np.log(table[:, block.codes[known, column]]).T
        top = logs.max(1, keepdims=True)
        share = np.exp(logs - top)
        mass = share.sum(1, keepdims=True)
        total += float((top + np.log(mass)).sum())
        shares.append(share / mass)
    return shares, total


def _fill(block: _Block, current: Parameters) -> tuple[np.ndarray, np.ndarray]:
    """Expected full rows per component [K, n, D] and the covariance of what was filled in [K, D, D]."""
    k, d = current.means.shape
    full = np.empty((k, len(block.rows), d))
    full[:, :, block.seen] = block.x
    rest = np.zeros((k, d, d))
    if block.gone.size:
        seen, gone, cov = block.seen, block.gone, current.covariances
        inner, cross = cov[:, seen[:, None], seen], cov[:, gone[:, None], seen]
        gain = np.linalg.solve(inner, cross.transpose(0, 2, 1)).transpose(0, 2, 1)  # [K, gone, seen]
        deviation = block.x - current.means[:, None, seen]
        full[:, :, gone] = current.means[:, None, gone] + deviation @ gain.transpose(0, 2, 1)
        rest[:, gone[:, None], gone] = cov[:, gone[:, None], gone] - gain @ cross.transpose(0, 2, 1)
    return full, rest


def _maximise(
    blocks: list[_Block],
    shares: list[np.ndarray],
    current: Parameters,
    levels: tuple[int, ...],
    coupling: Coupling | None,
) -> Parameters:
    k, d = current.means.shape
    mass, first, second = np.full(k, 1e-10), np.zeros((k, d)), np.zeros((k, d, d))
    tables = [np.full((k, count), _SMOOTH) for count in levels]
    for block, share in zip(blocks, shares):
        full, rest = _fill(block, current)
        weighted = full * share.T[:, :, None]
        mass += share.sum(0)
        first += weighted.sum(1)
        second += weighted.transpose(0, 2, 1) @ full + share.sum(0)[:, None, None] * rest
        for column, table in enumerate(tables):
            known = block.codes[:, column] >= 0
            np.add.at(table.T, block.codes[known, column], share[known])
    means = first / mass[:, None]
    covariances = second / mass[:, None, None] - means[:, :, None] * means[:, None]
    covariances = 0.5 * (covariances + covariances.transpose(0, 2, 1)) + (
        _REGULAR if k > 1 else _REGULAR_ONE
    ) * np.eye(d)
    empty = mass < 1e-6 * mass.sum()  # a component that lost its rows keeps its place instead of collapsing
    means[empty], covariances[empty] = current.means[empty], current.covariances[empty]
    if coupling is not None:
        covariances = coupling(covariances)
    return Parameters(
        mass / mass.sum(), means, covariances, tuple(table / table.sum(1, keepdims=True) for table in tables)
    )


def _assign(
    blocks: list[_Block],
    start: Parameters,
    components: int,
    levels: tuple[int, ...],
    rng: np.random.Generator,
) -> list[np.ndarray]:
    """First responsibilities: k-means on the rows, missing values at their expectation under one Gaussian."""
    parts = []
    for block in blocks:
        columns = [_fill(block, start)[0][0]]
        columns += [(block.codes[:, [c]] == np.arange(count)) * 1.0 for c, count in enumerate(levels)]
        parts.append(np.concatenate(columns, 1))
    label = _kmeans(np.concatenate(parts), components, rng)
    onehot = (label[:, None] == np.arange(components)) * 1.0
    return np.split(onehot, np.cumsum([len(block.rows) for block in blocks])[:-1])


def _kmeans(points: np.ndarray, components: int, rng: np.random.Generator) -> np.ndarray:
    """k-means++ seeding and a few rounds of Lloyd's algorithm: points [n, F] -> label [n]."""
    centres = points[[rng.integers(len(points))]]
    nearest = ((points - centres[0]) ** 2).sum(1)
    while len(centres) < components:
        total = nearest.sum()
        pick = (
            rng.integers(len(points))
            if total <= 0
            else np.searchsorted(np.cumsum(nearest), rng.random() * total)
        )
        centre = points[min(int(pick), len(points) - 1)]
        centres = np.concatenate([centres, centre[None]])
        nearest = np.minimum(nearest, ((points - centre) ** 2).sum(1))
    label = np.zeros(len(points), np.int64)
    for _ in range(_LLOYD):
        distance = (centres**2).sum(1) - 2 * points @ centres.T  # up to |point|², the same for every centre
        label = distance.argmin(1)
        for k in range(components):
            if (label == k).any():
                centres[k] = points[label == k].mean(0)
    return label
