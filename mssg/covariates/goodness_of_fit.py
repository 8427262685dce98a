"""How well fitted covariate models describe the data: per covariate, and per pair against the data's own
spread."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from mssg.covariates.system import CovariateModels
from mssg.study.covariate import SOURCE, Covariate

_SUBSET = 2_000  # rows of either kind that a distance is worked out on
_SPLITS = 100  # halvings of the observed rows that make the floor
_LEAST = 40  # rows below which a distance says nothing


@dataclass(frozen=True)
class CovariateFit:
    """One covariate: its model, and observed against sampled values.

    Args:
        family: Its model's family.
        parents: What it is modelled given.
        rows: Training rows that record it and its parents.
        log_likelihood: Mean log density of its encoded value on held-out rows inside the model's support;
            None without.
        outside: Share of held-out rows outside the support.
        observed: Mean and sd in native units; for a categorical covariate its commonest level and that
            level's share.
        sampled: The same of whole conditions drawn from the models (the share of the same level).
    """

    name: str
    family: str
    parents: tuple[str, ...]
    rows: int
    log_likelihood: float | None
    outside: float
    observed: tuple[float, float]
    sampled: tuple[float, float]


R_END, Z_BEYOND, LEAST_DIFFERENCE = 0.999, 3.0, 0.2
"""Of correlations: the end that is looked at, standard errors that are no chance, and what matters."""


@dataclass(frozen=True)
class PairFit:
    """Two covariates: how far observed and sampled rows are apart, None where no source records the pair
    together.

    Args:
        rows: Observed rows that record both.
        distance: Energy distance of observed and sampled rows, in encoded units.
        floor: What the data differ from themselves by: the distance that 95 % of halvings of the observed
            rows stay below.
        observed_r: Correlation of the transformed values, for two continuous (or binary) covariates.
        sampled_r: The same of the sampled rows.
    """

    first: str
    second: str
    rows: int
    distance: float | None = None
    floor: float | None = None
    observed_r: float | None = None
    sampled_r: float | None = None

    @property
    def is_far(self) -> bool:
        """Whether the sampled rows are farther from the observed ones than halves of these are from each
        other, or their dependence is another.

        Few rows have a high floor: they hide a dependence that is plainly there.
        """
        if self.distance is None or self.floor is None:
            return False
        return self.distance > self.floor or self._depends_otherwise

    @property
    def _depends_otherwise(self) -> bool:
        """Whether the correlations differ, and by more than chance explains. Source: Fisher's z."""
        if self.observed_r is None or self.sampled_r is None or self.rows <= 3:
            return False
        observed, sampled = np.arctanh(np.clip((self.observed_r, self.sampled_r), -R_END, R_END))
        beyond_chance = bool(abs(observed - sampled) > Z_BEYOND * (self.rows - 3) ** -0.5)
        return beyond_chance and abs(self.observed_r - self.sampled_r) > LEAST_DIFFERENCE


@dataclass(frozen=True, eq=False)
class Rows:
    """Observed rows (NaN where not recorded) and sampled ones, float64 [*, V], and the source's column, if it
    has one."""

    observed: np.ndarray
    sampled: np.ndarray
    source: int | None

    def comparable(self, *columns: int) -> tuple[np.ndarray, np.ndarray]:
        """Observed rows that record these columns, and sampled ones [*, len(columns)] to hold against them.

        Where the source is a condition, only sampled rows of the sources that record the columns are
        comparable; where none does, all are returned.
        """
        known = ~np.isnan(self.observed[:, columns]).any(1)
        drawn = self.sampled
        if self.source is not None and known.any():
            drawn = drawn[np.isin(drawn[:, self.source], np.unique(self.observed[known, self.source]))]
        return self.observed[known][:, columns], drawn[:, columns]


@dataclass(frozen=True, eq=False)
class FitReport:
    """The fits, and the rows they were judged on."""

    covariates: tuple[CovariateFit, ...]
    pairs: tuple[PairFit, ...]
    rows: Rows


def describe(
    models: CovariateModels, train: np.ndarray, held_out: np.ndarray, samples: int, rng: np.random.Generator
) -> FitReport:
    """Compare fitted models with data.

    Args:
        models: Fitted to the training rows.
        train: float64 [N, V] in native units, NaN where not recorded, all sources.
        held_out: Rows of the same form the models have not seen; may be empty.
        samples: Number of conditions to draw.
    """
    names = [c.name for c in models.study.covariates]
    # a study that conditions on the source is compared at the sources' own shares of the rows, not at their
    # weights
    source = models.names.index(SOURCE) if SOURCE in models.names else None
    given = None if source is None else {SOURCE: rng.choice(train[:, source], samples)}
    drawn = models.sample(samples, given, rng)
    rows = Rows(train, np.column_stack([drawn[name] for name in models.names]), source)
    covariates = tuple(_covariate_fit(models, name, rows, held_out) for name in names)
    pairs = tuple(_pair_fit(models, pair, rows, rng) for pair in combinations(names, 2))
    return FitReport(covariates, pairs, rows)


def _covariate_fit(models: CovariateModels, name: str, rows: Rows, held_out: np.ndarray) -> CovariateFit:
    j = models.study.index(name)
    covariate, parents = models.study.conditions[j], models.parents(name)
    columns = [j, *(models.study.index(p) for p in parents)]
    density = models.log_density_of(name, held_out)
    density = density[~np.isnan(density)]
    inside = np.isfinite(density)
    seen, drawn = (part[:, 0] for part in rows.comparable(j))
    return CovariateFit(
        name,
        models.family(name),
        parents,
        len(rows.comparable(*columns)[0]),
        log_likelihood=float(density[inside].mean()) if inside.any() else None,
        outside=float(1 - inside.mean()) if inside.size else 0.0,
        observed=_summary(covariate, seen, seen),
        sampled=_summary(covariate, drawn, seen),
    )


def _summary(covariate: Covariate, values: np.ndarray, observed: np.ndarray) -> tuple[float, float]:
    if covariate.is_ordered:
        return float(values.mean()), float(values.std())
    commonest = float(np.bincount(observed.astype(int), minlength=len(covariate.levels)).argmax())
    return commonest, float((values == commonest).mean())


def _pair_fit(
    models: CovariateModels, pair: tuple[str, str], rows: Rows, rng: np.random.Generator
) -> PairFit:
    study = models.study
    i, j = (study.index(name) for name in pair)
    together, alike = rows.comparable(i, j)
    if min(len(together), len(alike)) < _LEAST:
        return PairFit(*pair, len(together))
    kinds = [study.conditions[i], study.conditions[j]]
    seen, drawn = (_encoded(kinds, rows[rng.permutation(len(rows))[:_SUBSET]]) for rows in (together, alike))
    floor = half_distance(seen, rng)
    numbers = all(k.is_ordered for k in kinds)
    correlations = [_correlation(kinds, part) if numbers else None for part in (together, alike)]
    return PairFit(*pair, len(together), energy_distance(seen, drawn), floor, *correlations)


def _encoded(covariates: Sequence[Covariate], values: np.ndarray) -> np.ndarray:
    columns = [c.encode(values[:, k]) for k, c in enumerate(covariates)]
    return np.concatenate(columns, axis=1).astype(np.float64)


def _correlation(covariates: Sequence[Covariate], values: np.ndarray) -> float | None:
    """Pearson's correlation of the transformed values; None if one of them never varies."""
    first, second = (c.forward(values[:, k]) for k, c in enumerate(covariates))
    if np.ptp(first) == 0 or np.ptp(second) == 0:
        return None
    return float(np.corrcoef(first, second)[0, 1])


def energy_distance(a: np.ndarray, b: np.ndarray) -> float:
    """√(2 E|A − B| − E|A − A'| − E|B − B'|) of two samples [n, F] and [m, F]; 0 only for equal distributions.

    The expectations are unbiased (no row is compared with itself), so what chance alone makes is 0 or near
    it.
    Source: Székely & Rizzo 2013, equation 2.1.
    """
    from scipy.spatial.distance import cdist

    n, m = len(a), len(b)
    squared = 2 * cdist(a, b).mean() - cdist(a, a).sum() / (n * (n - 1)) - cdist(b, b).sum() / (m * (m - 1))
    return float(np.sqrt(max(squared, 0.0)))


def half_distance(a: np.ndarray, rng: np.random.Generator) -> float:
    """The energy distance that 95 % of random halvings of a sample [n, F] stay below."""
    from scipy.spatial.distance import cdist

    half = len(a) // 2
    between = cdist(a, a)[: 2 * half, : 2 * half]
    squared = []
    for _ in range(_SPLITS):
        one = np.zeros(2 * half)
        one[rng.permutation(2 * half)[:half]] = 1.0
        sums = between @ np.column_stack([one, 1 - one])  # [2·half, 2]
        cross, inner = (1 - one) @ sums[:, 0], one @ sums[:, 0] + (1 - one) @ sums[:, 1]
        squared.append(2 * cross / half**2 - inner / (half * (half - 1)))
    return float(np.sqrt(max(np.quantile(squared, 0.95), 0.0)))
