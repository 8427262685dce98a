"""One mixture over many covariates, fitted although no source records them all.

EM over the missing blocks uses every row for what it records. Two covariates that no row records together
leave one
number open: their correlation given the shared covariates. It is not estimated but stated,
    `unobserved_correlation`,
0 unless the study says otherwise.

Source: docs/method/method.md section 3, beyond the original (a); identifiability as in statistical matching
(Rässler 2002, chapter 2).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, partial
from typing import Self

import numpy as np

from mssg.covariates.discrete import check_levels
from mssg.covariates.em import default_components, fit_mixture
from mssg.covariates.mixture import Mixture, MixtureLevels, MixtureModel, Responsibilities
from mssg.covariates.protocol import MIN_ROWS, Stateful, Variable
from mssg.covariates.truncated import WIDENING, support
from mssg.errors import DataError

_LEAST_EIGENVALUE = 1e-4  # of a standardised covariance
_MOST_WITHIN = 0.95  # correlation inside a component, at most
_PROBES = 2_000  # rows at which the conditional correlation is worked out


@dataclass(frozen=True)
class Pair:
    """Two continuous covariates no row records together, and the positions of what rows record with both."""

    first: int
    second: int
    shared: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class JointMixture(Stateful):
    """The joint model of M covariates; `view` gives any conditional of it in closed form.

    Args:
        mixture: Continuous covariates first, in order, then the discrete ones.
        positions: Where each of the M covariates stands in the mixture.
        low: Lower end of each continuous covariate's support [D], transformed.
        high: Upper ends [D].
        unobserved: Pairs of names that no row records together.
        requested: The correlation of those pairs given the shared covariates, as the study states it.
        achieved: What the mixture has [pairs]; it differs only where no valid covariance has the requested
            one.
    """

    mixture: Mixture
    positions: tuple[int, ...]
    low: np.ndarray
    high: np.ndarray
    names: tuple[str, ...]
    unobserved: tuple[tuple[str, str], ...]
    requested: float
    achieved: np.ndarray

    @classmethod
    def fit(
        cls,
        variables: tuple[Variable, ...],
        values: np.ndarray,
        rng: np.random.Generator,
        components: int | None = None,
        unobserved_correlation: float = 0.0,
    ) -> Self:
        """Fit by EM over missing blocks.

        Args:
            variables: The M covariates, one or more of them continuous.
            values: float64 [n, M], continuous ones transformed, NaN where missing.
            rng: Decides the starting points.
            components: Number of components; chosen from the number of rows where absent.
            unobserved_correlation: Correlation, given the shared covariates, of pairs no row records
                together.

        Raises:
            DataError: Too few rows, a constant covariate, or values that are no levels.
        """
        values = values[~np.isnan(values).all(1)]
        _check(variables, values)
        continuous = [i for i, v in enumerate(variables) if v.is_continuous]
        discrete = [i for i, v in enumerate(variables) if not v.is_continuous]
        x, levels = values[:, continuous], tuple(variables[i].levels for i in discrete)
        codes = np.where(np.isnan(values[:, discrete]), -1, values[:, discrete]).astype(np.int64)
        pairs = _unobserved_pairs(values, continuous, discrete)
        count = components or default_components(int((~np.isnan(x)).sum(0).min()), len(variables))
        coupling = partial(_impose, pairs=pairs, within=np.full(len(pairs), unobserved_correlation))
        fitted = fit_mixture(x, count, rng, codes, levels=levels, coupling=coupling if pairs else None)
        mixture = Mixture(fitted.weights, fitted.means, fitted.covariances, fitted.tables)
        ordered = np.concatenate([x, np.where(codes < 0, np.nan, codes)], 1)
        mixture, achieved = _calibrate(mixture, pairs, ordered, unobserved_correlation)
        bounds = [support(x[~np.isnan(x[:, k]), k], variables[i], WIDENING) for k, i in enumerate(continuous)]
        order = continuous + discrete
        return cls(
            mixture,
            tuple(order.index(i) for i in range(len(variables))),
            np.array([b[0] for b in bounds]),
            np.array([b[1] for b in bounds]),
            tuple(v.name for v in variables),
            tuple((variables[continuous[p.first]].name, variables[continuous[p.second]].name) for p in pairs),
            float(unobserved_correlation),
            achieved,
        )

    @cached_property
    def _views(self) -> dict[tuple[int, tuple[int, ...]], MixtureModel | MixtureLevels]:
        return {}

    def view(self, child: int, given: tuple[int, ...]) -> MixtureModel | MixtureLevels:
        """The conditional of one covariate given any others (the rest integrated out), by index among the
        M."""
        key = (child, given)
        if key not in self._views:
            place, parents = self.positions[child], tuple(self.positions[i] for i in given)
            if place < len(self.low):
                low, high = float(self.low[place]), float(self.high[place])
                self._views[key] = MixtureModel(self.mixture, place, parents, low, high)
            else:
                self._views[key] = MixtureLevels(self.mixture, place, parents)
        return self._views[key]


def _check(variables: tuple[Variable, ...], values: np.ndarray) -> None:
    for i, variable in enumerate(variables):
        seen = values[~np.isnan(values[:, i]), i]
        field = f"covariates.{variable.name}"
        if len(seen) < MIN_ROWS:
            raise DataError(
                "too few training rows for a joint model",
                field=field,
                found=f"{len(seen)} rows",
                expected=MIN_ROWS,
            )
        if not np.isfinite(seen).all():
            raise DataError("values that are not finite", field=field)
        if not variable.is_continuous:
            check_levels(seen, variable)
        elif not np.ptp(seen) > 1e-12 * max(1.0, float(np.abs(seen).max())):
            raise DataError(
                "all training values are equal, so there is nothing to model",
                field=field,
                hint="Remove the covariate from the study",
            )


def _unobserved_pairs(values: np.ndarray, continuous: list[int], discrete: list[int]) -> tuple[Pair, ...]:
    """Pairs of continuous covariates without a common row; all positions are those in the mixture."""
    seen = (~np.isnan(values[:, continuous + discrete])).astype(np.float64)
    together = seen.T @ seen > 0
    pairs = []
    for i in range(len(continuous)):
        for j in range(i):
            if not together[i, j]:
                pairs.append(Pair(j, i, tuple(int(s) for s in np.flatnonzero(together[i] & together[j]))))
    return tuple(pairs)


def _conditional_parts(cov: np.ndarray, pair: Pair) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Within each component [K]: what the shared covariates explain of the covariance, and the residual
    sds."""
    s = np.array([p for p in pair.shared if p < cov.shape[1]], np.int64)
    i, j = pair.first, pair.second
    if not s.size:
        return np.zeros(len(cov)), np.sqrt(cov[:, i, i]), np.sqrt(cov[:, j, j])
    gain = np.linalg.solve(cov[:, s[:, None], s], cov[:, s][:, :, [i, j]])  # [K, S, 2]
    explained = np.einsum("ksa,ksb->kab", cov[:, s][:, :, [i, j]], gain)
    rest_i = np.maximum(cov[:, i, i] - explained[:, 0, 0], 1e-12)
    rest_j = np.maximum(cov[:, j, j] - explained[:, 1, 1], 1e-12)
    return explained[:, 0, 1], np.sqrt(rest_i), np.sqrt(rest_j)


def _impose(cov: np.ndarray, pairs: tuple[Pair, ...], within: np.ndarray) -> np.ndarray:
    """Covariances [K, D, D] whose unobserved pairs have the correlation `within` [pairs] given the shared
    ones."""
    cov = cov.copy()
    for pair, rho in zip(pairs, within):
        explained, sd_i, sd_j = _conditional_parts(cov, pair)
        value = explained + rho * sd_i * sd_j
        cov[:, pair.first, pair.second] = cov[:, pair.second, pair.first] = value
    # pairs stated one by one need not fit together: give way by the least change to a valid covariance
    scale = np.sqrt(np.einsum("kii->ki", cov))
    correlation = cov / (scale[:, :, None] * scale[:, None])
    value, vector = np.linalg.eigh(correlation)
    if value.min() >= _LEAST_EIGENVALUE:
        return cov
    mended = (vector * np.maximum(value, _LEAST_EIGENVALUE)[:, None]) @ vector.transpose(0, 2, 1)
    return mended * (scale[:, :, None] * scale[:, None])


def _calibrate(
    mixture: Mixture, pairs: tuple[Pair, ...], values: np.ndarray, wanted: float
) -> tuple[Mixture, np.ndarray]:
    """Set the correlation inside components so that the whole mixture's, given the shared covariates, is as
    wanted.

    Components differ in their means, which correlates a pair beyond what is inside the components:
    E Cov(i, j | S) = E Σ_k r_k(S) [ρ s_ki s_kj + (m_ki − m_i)(m_kj − m_j)], linear in ρ.
    """
    if not pairs:
        return mixture, np.empty(0)
    within = np.empty(len(pairs))
    for number, pair in enumerate(pairs):
        between, inner, size = _moments(mixture, pair, values)
        within[number] = np.clip((wanted * size - between) / inner, -_MOST_WITHIN, _MOST_WITHIN)
    covariances = _impose(mixture.covariances, pairs, within)
    mixture = Mixture(mixture.weights, mixture.means, covariances, mixture.tables)
    achieved = []
    for pair in pairs:
        between, inner, size = _moments(mixture, pair, values)
        explained, sd_i, sd_j = _conditional_parts(covariances, pair)
        rho = (covariances[:, pair.first, pair.second] - explained) / (sd_i * sd_j)
        achieved.append((between + float(mixture.weights @ rho) * inner) / size)
    return mixture, np.array(achieved)


def _moments(mixture: Mixture, pair: Pair, values: np.ndarray) -> tuple[float, float, float]:
    """Averages over rows: covariance between components, Σ r s_i s_j inside them, and √(E Var(i|S) · E
    Var(j|S))."""
    known = ~np.isnan(values[:, list(pair.shared)]).any(1)
    probes = values[known][:: max(1, int(known.sum()) // _PROBES)]
    share = np.broadcast_to(
        Responsibilities(mixture, pair.shared)(probes[:, list(pair.shared)]),
        (len(probes), len(mixture.weights)),
    )
    _, sd_i, sd_j = _conditional_parts(mixture.covariances, pair)
    low, high = -np.inf, np.inf
    continuous = tuple(p for p in pair.shared if p < mixture.means.shape[1])
    x = probes[:, list(continuous)]
    m_i = MixtureModel(mixture, pair.first, continuous, low, high).conditional(x)[1]
    m_j = MixtureModel(mixture, pair.second, continuous, low, high).conditional(x)[1]
    d_i = m_i - (share * m_i).sum(1, keepdims=True)
    d_j = m_j - (share * m_j).sum(1, keepdims=True)
    between = float((share * d_i * d_j).sum(1).mean())
    inner = float((share @ (sd_i * sd_j)).mean())
    var_i = float((share * (sd_i**2 + d_i**2)).sum(1).mean())
    var_j = float((share * (sd_j**2 + d_j**2)).sum(1).mean())
    return between, inner, float(np.sqrt(var_i * var_j))
