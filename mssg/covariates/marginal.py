"""Distributions of one continuous covariate without continuous parents: beta, uniform, empirical quantiles.

Discrete parents are served by `Stratified`, one model per combination of levels.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

import numpy as np

from mssg.covariates.discrete import combine, levels_of
from mssg.covariates.protocol import CovariateModel, Family, FittedModel, FittingData
from mssg.covariates.truncated import legendre
from mssg.errors import DataError

# of the range, on either side: keeps the extreme rows off the beta's ends, where its density is 0 or ∞
_MARGIN = 0.005
_KNOTS = 65
_STRATUM = 50  # rows from which a combination of levels has a model of its own
_SMALL_STRATUM, _NO_CHANCE = 20, 3.0  # from here on, where the pooled model is so many standard errors off
_NODES = 64


def quadrature(
    quantile: Callable[[np.ndarray, np.ndarray], np.ndarray],
    rows: int,
    of: Callable[[np.ndarray], np.ndarray] | None,
) -> np.ndarray:
    """Expectation of a function of a covariate without parents, by Gauss-Legendre over its quantiles ->
    [rows]."""
    nodes, share = legendre(_NODES)
    value = quantile((nodes + 1) / 2, np.empty((_NODES, 0)))
    return np.full(rows, float((value if of is None else of(value)) @ share / 2))


@dataclass(frozen=True, eq=False)
class Beta(FittedModel):
    """A beta distribution on the observed range: (y − low) / (high − low) ~ Beta(a, b).

    Source: docs/method/method.md section 3 (moments on the min-max scaled covariate).
    """

    low: float
    high: float
    a: float
    b: float

    family = "beta"
    continuous_parents = (0, 0)
    stratified = True

    @classmethod
    def fit(cls, data: FittingData, rng: np.random.Generator) -> Self:
        """Match mean and variance on the range."""
        data.require()
        margin = _MARGIN * float(np.ptp(data.y))
        low, high = float(data.y.min()) - margin, float(data.y.max()) + margin
        u = (data.y - low) / (high - low)
        mean, variance = float(u.mean()), float(u.var())
        size = mean * (1 - mean) / variance - 1  # positive, since 0 < u < 1 strictly
        return cls(low, high, mean * size, (1 - mean) * size)

    def _unit(self, y: np.ndarray) -> np.ndarray:
        return (np.asarray(y) - self.low) / (self.high - self.low)

    def sample(self, x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        return self.low + (self.high - self.low) * rng.beta(self.a, self.b, len(x))

    def log_density(self, y: np.ndarray, x: np.ndarray) -> np.ndarray:
        from scipy.special import betaln

        u = self._unit(y)
        inside = (u > 0) & (u < 1)
        u = np.where(inside, u, 0.5)
        value = (self.a - 1) * np.log(u) + (self.b - 1) * np.log1p(-u) - betaln(self.a, self.b)
        return np.where(inside, value - np.log(self.high - self.low), -np.inf)

    def mean(self, x: np.ndarray, of: Callable[[np.ndarray], np.ndarray] | None = None) -> np.ndarray:
        return quadrature(self.quantile, len(x), of)

    def cdf(self, y: np.ndarray, x: np.ndarray) -> np.ndarray:
        from scipy.special import betainc

        return betainc(self.a, self.b, np.clip(self._unit(y), 0, 1))

    def quantile(self, q: np.ndarray, x: np.ndarray) -> np.ndarray:
        from scipy.special import betaincinv

        return self.low + (self.high - self.low) * betaincinv(self.a, self.b, q)


@dataclass(frozen=True, eq=False)
class Uniform(FittedModel):
    """Evenly spread over the observed range: where slices are cut."""

    low: float
    high: float

    family = "uniform"
    continuous_parents = (0, 0)
    stratified = True

    @classmethod
    def fit(cls, data: FittingData, rng: np.random.Generator) -> Self:
        """Take the range."""
        data.require()
        return cls(float(data.y.min()), float(data.y.max()))

    def sample(self, x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        return self.quantile(rng.random(len(x)), x)

    def log_density(self, y: np.ndarray, x: np.ndarray) -> np.ndarray:
        y = np.asarray(y)
        return np.where((y >= self.low) & (y <= self.high), -np.log(self.high - self.low), -np.inf)

    def mean(self, x: np.ndarray, of: Callable[[np.ndarray], np.ndarray] | None = None) -> np.ndarray:
        return quadrature(self.quantile, len(x), of)

    def cdf(self, y: np.ndarray, x: np.ndarray) -> np.ndarray:
        return np.clip((np.asarray(y) - self.low) / (self.high - self.low), 0, 1)

    def quantile(self, q: np.ndarray, x: np.ndarray) -> np.ndarray:
        return self.low + (self.high - self.low) * np.asarray(q)


@dataclass(frozen=True, eq=False)
class Quantiles(FittedModel):
    """The empirical distribution of a continuous covariate as a piecewise linear quantile function.

    Quantiles, not rows: at most 65 numbers leave the training data.

    Args:
        values: Distinct quantiles, ascending [Q].
        levels: Their cumulative probabilities, from 0 to 1 [Q].
    """

    values: np.ndarray
    levels: np.ndarray

    family = "empirical"
    continuous_parents = (0, 0)
    stratified = True

    @classmethod
    def fit(cls, data: FittingData, rng: np.random.Generator) -> Self:
        """Take the quantiles; repeated values share one knot."""
        data.require()
        levels = np.linspace(0, 1, min(_KNOTS, len(data.y)))
        values, first = np.unique(np.quantile(data.y, levels), return_index=True)
        last = np.append(first[1:] - 1, len(levels) - 1)
        cumulative = levels[last].copy()
        cumulative[0] = 0.0
        return cls(values, cumulative)

    def sample(self, x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        return self.quantile(rng.random(len(x)), x)

    def log_density(self, y: np.ndarray, x: np.ndarray) -> np.ndarray:
        density = np.diff(self.levels) / np.diff(self.values)
        cell = np.clip(np.searchsorted(self.values, y, side="right") - 1, 0, len(density) - 1)
        inside = (y >= self.values[0]) & (y <= self.values[-1])
        with np.errstate(divide="ignore"):
            return np.where(inside, np.log(density[cell]), -np.inf)

    def mean(self, x: np.ndarray, of: Callable[[np.ndarray], np.ndarray] | None = None) -> np.ndarray:
        nodes, share = legendre(5)  # per cell, where the quantile function is a straight line
        left, width = self.values[:-1, None], np.diff(self.values)[:, None]
        value = left + width * (nodes + 1) / 2
        per_cell = (value if of is None else of(value)) @ (share / 2)
        return np.full(len(x), float(per_cell @ np.diff(self.levels)))

    def cdf(self, y: np.ndarray, x: np.ndarray) -> np.ndarray:
        return np.interp(y, self.values, self.levels)

    def quantile(self, q: np.ndarray, x: np.ndarray) -> np.ndarray:
        return np.interp(q, self.levels, self.values)


def _is_off(model: CovariateModel, data: FittingData) -> bool:
    """Whether rows lie on one side of a model: their ranks in it are uniform where it is theirs."""
    ranks = model.cdf(data.y, data.x)
    return bool(abs(ranks.mean() - 0.5) * np.sqrt(12 * len(ranks)) > _NO_CHANCE)


@dataclass(frozen=True, eq=False)
class Stratified(FittedModel):
    """One model per combination of discrete parents, and a pooled one for combinations with few rows or none.

    Few rows say a distribution's form badly, so they are pooled, unless the pooled model lies plainly beside
    them.

    Args:
        discrete: Columns of x that hold the discrete parents.
        continuous: Columns handed on to the models.
        levels: Levels of the discrete parents.
        codes: Combinations with a model of their own, ascending, int64 [M].
        models: Their models, and the pooled one last.
    """

    discrete: tuple[int, ...]
    continuous: tuple[int, ...]
    levels: tuple[int, ...]
    codes: np.ndarray
    models: tuple[CovariateModel, ...]

    @classmethod
    def fit_each(cls, family: type[Family], data: FittingData, rng: np.random.Generator) -> Self:
        """Fit `family` to every combination with enough rows, and to all rows."""
        discrete = tuple(i for i, p in enumerate(data.parents) if not p.is_continuous)
        continuous = tuple(i for i, p in enumerate(data.parents) if p.is_continuous)
        levels = levels_of(tuple(data.parents[i] for i in discrete))
        code = combine(data.x[:, discrete], levels)
        inner = FittingData(
            data.child,
            data.y,
            tuple(data.parents[i] for i in continuous),
            data.x[:, continuous],
            components=data.components,
            options=data.options,
        )
        pooled = family.fit(inner, rng)
        codes, models = [], []
        for value in np.unique(code):
            rows = code == value
            fewest = _SMALL_STRATUM if _is_off(pooled, inner.rows(rows)) else _STRATUM
            if rows.sum() < max(fewest, 4 * (data.components or 0)):
                continue
            try:
                models.append(family.fit(inner.rows(rows), rng))
            except DataError:  # constant within this combination: the pooled model is the better description
                continue
            codes.append(value)
        return cls(discrete, continuous, levels, np.array(codes, np.int64), (*models, pooled))

    def _split(
        self, n: int, x: np.ndarray, call: Callable[[CovariateModel, np.ndarray, np.ndarray], np.ndarray]
    ) -> np.ndarray:
        """Call each model on its rows: call(model, rows, x of the rows) -> [rows]."""
        code = combine(x[:, self.discrete], self.levels)
        if len(self.codes):
            place = np.minimum(np.searchsorted(self.codes, code), len(self.codes) - 1)
            place = np.where(self.codes[place] == code, place, len(self.codes))
        else:
            place = np.zeros(n, np.int64)
        out = np.empty(n)
        inner = x[:, self.continuous]
        for number in np.unique(place):
            rows = np.flatnonzero(place == number)
            out[rows] = call(self.models[number], rows, inner[rows])
        return out

    def sample(self, x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        return self._split(len(x), x, lambda model, rows, part: model.sample(part, rng))

    def log_density(self, y: np.ndarray, x: np.ndarray) -> np.ndarray:
        return self._split(len(x), x, lambda model, rows, part: model.log_density(y[rows], part))

    def mean(self, x: np.ndarray, of: Callable[[np.ndarray], np.ndarray] | None = None) -> np.ndarray:
        return self._split(len(x), x, lambda model, rows, part: model.mean(part, of))

    def cdf(self, y: np.ndarray, x: np.ndarray) -> np.ndarray:
        return self._split(len(x), x, lambda model, rows, part: model.cdf(y[rows], part))

    def quantile(self, q: np.ndarray, x: np.ndarray) -> np.ndarray:
        return self._split(len(x), x, lambda model, rows, part: model.quantile(q[rows], part))
