"""The distribution of one covariate given any others: mean, cdf and quantiles, in native units.

Three exact forms and one estimate: the model itself where its parents are known; its average over the
posterior of the missing ancestors (a grid for one, draws with a fixed seed for several); and, for a covariate
whose own descendants are known, its posterior grid or draws.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from mssg.covariates.network import Known, Network
from mssg.covariates.protocol import CovariateModel

DRAWS = 1024  # per row, where no closed form or grid serves
_SEED = 20240705  # fixed: a linked slider must not flicker
_HALVINGS = 60
_FINER = 8


class Conditional(Protocol):
    """A distribution per row [n], in native units."""

    def mean(self) -> np.ndarray:
        """Expectation [n]; P(1) of a binary covariate, the most probable level of a categorical one."""
        ...

    def cdf(self, value: np.ndarray) -> np.ndarray:
        """P(covariate ≤ value [n]): [n]."""
        ...

    def quantile(self, q: np.ndarray) -> np.ndarray:
        """Inverse of the cdf: shares q [n] -> native values [n]."""
        ...


@dataclass(frozen=True, eq=False)
class Levels:
    """A discrete covariate: probabilities [n, L]."""

    p: np.ndarray

    def mean(self) -> np.ndarray:
        return self.p[:, 1] if self.p.shape[1] == 2 else self.p.argmax(1).astype(np.float64)

    def cdf(self, value: np.ndarray) -> np.ndarray:
        return np.minimum((self.p * (np.arange(self.p.shape[1]) <= value[:, None])).sum(1), 1.0)

    def quantile(self, q: np.ndarray) -> np.ndarray:
        below = (np.cumsum(self.p, 1) < q[:, None] - 1e-12).sum(1)
        return np.minimum(below, self.p.shape[1] - 1).astype(np.float64)


@dataclass(frozen=True, eq=False)
class Averaged:
    """A continuous covariate: its model averaged over m weighted parents per row (m = 1: the model
    itself)."""

    network: Network
    column: int
    model: CovariateModel
    x: np.ndarray  # [n·m, P]
    weights: np.ndarray  # [n, m]

    def _average(self, values: np.ndarray) -> np.ndarray:
        return (values.reshape(self.weights.shape) * self.weights).sum(1)

    def _wide(self, values: np.ndarray) -> np.ndarray:
        return np.repeat(values, self.weights.shape[1])

    def _native(self, y: np.ndarray) -> np.ndarray:
        return self.network.to_native(self.column, self.model, y)

    def mean(self) -> np.ndarray:
        """See `Conditional.mean`; of the native value, not of its logarithm."""
        plain = self.model.native or self.network.covariates[self.column].transform == "identity"
        return self._average(self.model.mean(self.x, None if plain else self._native))

    def _cdf(self, y: np.ndarray) -> np.ndarray:
        return self._average(self.model.cdf(self._wide(y), self.x))

    def cdf(self, value: np.ndarray) -> np.ndarray:
        y = self.network.to_model(self.column, self.model, value)
        return np.where(np.isnan(y), 0.0, self._cdf(np.where(np.isnan(y), 0.0, y)))

    def quantile(self, q: np.ndarray) -> np.ndarray:
        """See `Conditional.quantile`; halving between the extreme quantiles of the averaged models."""
        each = self.model.quantile(self._wide(q), self.x).reshape(self.weights.shape)
        if self.weights.shape[1] == 1:
            return self._native(each[:, 0])
        low, high = each.min(1), each.max(1)
        for _ in range(_HALVINGS):
            middle = 0.5 * (low + high)
            under = self._cdf(middle) < q
            low, high = np.where(under, middle, low), np.where(under, high, middle)
        return self._native(0.5 * (low + high))


@dataclass(frozen=True, eq=False)
class Points:
    """A continuous covariate as ascending native points [n, G] and the cumulative probability there [n,
    G]."""

    points: np.ndarray
    levels: np.ndarray

    def mean(self) -> np.ndarray:
        middle = 0.5 * (self.points[:, 1:] + self.points[:, :-1])
        return (middle * np.diff(self.levels)).sum(1)

    def cdf(self, value: np.ndarray) -> np.ndarray:
        return np.array([np.interp(v, p, c) for v, p, c in zip(value, self.points, self.levels)])

    def quantile(self, q: np.ndarray) -> np.ndarray:
        return np.array([np.interp(v, c, p) for v, p, c in zip(q, self.points, self.levels)])


def conditional(network: Network, j: int, known: Known, values: np.ndarray) -> Conditional:
    """The distribution of column j given the known columns of values float64 [n, V]."""
    latent = network.latent(known)
    if j in latent:
        return _of_ancestor(network, j, known, values, alone=len(latent) == 1)
    missing = tuple(a for a in network.order if a in network.latent(known | {j}))
    if not missing:
        wide, weights = values, np.ones((len(values), 1))
    elif len(missing) == 1:
        wide, weights = _grid_rows(network, missing[0], known, values)
    else:
        wide, weights = _drawn_rows(network, known, values), np.full((len(values), DRAWS), 1 / DRAWS)
    model, parents = network.model(j, known | frozenset(missing))
    x = network.inputs(model, parents, wide)
    if not network.covariates[j].is_continuous:
        p = model.probabilities(x)  # type: ignore[attr-defined]
        return Levels((p.reshape(*weights.shape, -1) * weights[..., None]).sum(1))
    return Averaged(network, j, model, x, weights)


def _grid_rows(network: Network, a: int, known: Known, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rows expanded along the posterior grid of column a, and the trapezoid weights [n, G]."""
    t, logs, _ = network.posterior_grid(a, known, values)
    weights = np.exp(logs - logs.max(1, keepdims=True))
    if network.covariates[a].is_continuous:
        weights[:, [0, -1]] *= 0.5
    wide = np.repeat(values, t.shape[1], axis=0)
    wide[:, a] = network.covariates[a].inverse(t.ravel())
    return wide, weights / weights.sum(1, keepdims=True)


def _drawn_rows(network: Network, known: Known, values: np.ndarray) -> np.ndarray:
    """DRAWS completions of each row, with a fixed seed."""
    wide = np.repeat(values, DRAWS, axis=0)
    network.fill(known, wide, np.random.default_rng(_SEED))
    return wide


def _of_ancestor(network: Network, j: int, known: Known, values: np.ndarray, alone: bool) -> Conditional:
    """The posterior of a covariate whose descendants are known."""
    covariate = network.covariates[j]
    if not alone:
        drawn = _drawn_rows(network, known, values)[:, j].reshape(len(values), DRAWS)
        if not covariate.is_continuous:
            count = covariate.num_levels
            return Levels((drawn[..., None] == np.arange(count)).mean(1))
        return Points(np.sort(drawn, 1), np.tile(np.linspace(0, 1, DRAWS), (len(values), 1)))
    t, logs, _ = network.posterior_grid(j, known, values)
    logs = logs - logs.max(1, keepdims=True)
    if not covariate.is_continuous:
        f = np.exp(logs)
        return Levels(f / f.sum(1, keepdims=True))
    t, logs = _finer(t, np.maximum(logs, -200.0))
    f = np.exp(logs)
    cumulative = np.cumsum(f[:, 1:] + f[:, :-1], 1)
    levels = np.concatenate([np.zeros((len(t), 1)), cumulative / cumulative[:, -1:]], 1)
    return Points(covariate.inverse(t), levels)


def _finer(t: np.ndarray, logs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A log density [n, G] on an even grid, read off a grid eight times as fine by straight lines."""
    place = np.linspace(0, t.shape[1] - 1, _FINER * (t.shape[1] - 1) + 1)
    left = np.minimum(place.astype(int), t.shape[1] - 2)
    share = place - left
    t, logs = (a[:, left] * (1 - share) + a[:, left + 1] * share for a in (t, logs))
    return t, logs
