"""Sampling from and conditioning the directed graph of fitted models.

Rows are values [n, V] in native units. A *known* set is closed when it holds all ancestors of its members:
then drawing the others parents first is exact. Otherwise the missing ancestors (the *latent* covariates) are
drawn from their
posterior first: one of them by its exact posterior on an adaptive grid, several by self-normalised importance
resampling. Densities are those of the transformed values throughout.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from mssg.covariates import truncated
from mssg.covariates.discrete import RowTable
from mssg.covariates.joint import JointMixture
from mssg.covariates.protocol import CovariateModel
from mssg.study.covariate import Covariate

PARTICLES = 512  # draws per row that importance resampling chooses among
_GRID = 65  # points of a posterior grid; its range is narrowed twice to where the posterior is
_ZOOMS = 2
_FLAT = 25.0  # log units below the peak that no longer count
_TAIL = 1e-7  # probability left out at either end of the first grid
_CHUNK = 200_000  # rows expanded at a time

Known = frozenset[int]
Step = tuple[int, CovariateModel, tuple[int, ...]]


@dataclass(frozen=True, eq=False)
class FittedFactor:
    """p(members | parents): a model of one covariate, or a joint model that gives the conditionals of
    several."""

    members: tuple[int, ...]
    parents: tuple[int, ...]
    family: str
    model: Any  # CovariateModel | JointMixture | RowTable

    @property
    def is_joint(self) -> bool:
        """Whether the members share one joint model, indexed by parents then members."""
        return isinstance(self.model, JointMixture | RowTable)


@dataclass(frozen=True, eq=False)
class Network:
    """The fitted graph over V covariates; factors come parents first."""

    covariates: tuple[Covariate, ...]
    factors: tuple[FittedFactor, ...]

    @cached_property
    def order(self) -> tuple[int, ...]:
        """Column numbers, parents before children."""
        return tuple(m for f in self.factors for m in f.members)

    @cached_property
    def owner(self) -> dict[int, FittedFactor]:
        """The factor of each column."""
        return {m: f for f in self.factors for m in f.members}

    @cached_property
    def ancestors(self) -> dict[int, Known]:
        """All columns each column depends on."""
        found: dict[int, Known] = {}
        for j in self.order:
            parents = self.owner[j].parents
            found[j] = frozenset(parents).union(*(found[p] for p in parents))
        return found

    @cached_property
    def _cache(self) -> dict[Known, tuple[tuple[int, ...], list[Step]]]:
        return {}

    def latent(self, known: Known) -> tuple[int, ...]:
        """Ancestors of the known that are not known themselves, parents first."""
        above = frozenset().union(*(self.ancestors[j] for j in known)) - known
        return tuple(j for j in self.order if j in above)

    def model(self, j: int, known: Known) -> tuple[CovariateModel, tuple[int, ...]]:
        """The model of column j and its parents' columns; members of its joint model that are known count as
        such."""
        factor = self.owner[j]
        if not factor.is_joint:
            return factor.model, factor.parents
        block = factor.parents + factor.members
        given = tuple(i for i in block if i in known and i != j)
        return factor.model.view(block.index(j), tuple(block.index(i) for i in given)), given

    def inputs(self, model: CovariateModel, parents: tuple[int, ...], values: np.ndarray) -> np.ndarray:
        """Parents' columns [n, P] in the model's space."""
        x = values[:, parents]
        if not model.native:
            for column, parent in enumerate(parents):
                if self.covariates[parent].transform != "identity":
                    x[:, column] = self.covariates[parent].forward(x[:, column])
        return x

    def to_model(self, j: int, model: CovariateModel, native: np.ndarray) -> np.ndarray:
        """Native values [n] of column j -> the model's space [n]; NaN outside the transform's domain."""
        plain = model.native or self.covariates[j].transform == "identity"
        return native if plain else self.covariates[j].forward(native)

    def to_native(self, j: int, model: CovariateModel, y: np.ndarray) -> np.ndarray:
        """The model's space [n] -> native values [n] of column j."""
        plain = model.native or self.covariates[j].transform == "identity"
        return y if plain else self.covariates[j].inverse(y)

    def chain(self, known: Known, first: Known = frozenset()) -> Iterator[Step]:
        """The models whose densities multiply to that of a closed set; within a joint model `first` come
        first."""
        for factor in self.factors:
            members = [m for m in factor.members if m in known]
            members.sort(key=lambda m: m not in first)
            for number, j in enumerate(members):
                yield (j, *self.model(j, frozenset(factor.parents) | frozenset(members[:number])))

    def log_density_of(self, step: Step, values: np.ndarray) -> np.ndarray:
        """Log density [n] of one column's transformed value under its model."""
        j, model, parents = step
        with np.errstate(invalid="ignore", divide="ignore"):
            out = model.log_density(
                self.to_model(j, model, values[:, j]), self.inputs(model, parents, values)
            )
            if (
                model.native and self.covariates[j].transform == "log"
            ):  # t = log(x + shift): dx/dt = x + shift
                out = out + np.log(values[:, j] + self.covariates[j].shift)
        return np.where(np.isnan(out), -np.inf, out)

    def draw(self, step: Step, values: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """One native value [n] of a column, its parents being known."""
        j, model, parents = step
        return self.to_native(j, model, model.sample(self.inputs(model, parents, values), rng))

    def _plan(self, known: Known) -> tuple[tuple[int, ...], list[Step]]:
        """Latent columns, and the steps that draw all others."""
        if known not in self._cache:
            latent = self.latent(known)
            have = known | frozenset(latent)
            steps = []
            for j in self.order:
                if j not in have:
                    steps.append((j, *self.model(j, have)))
                    have |= {j}
            self._cache[known] = latent, steps
        return self._cache[known]

    def fill(self, known: Known, values: np.ndarray, rng: np.random.Generator) -> None:
        """Draw all columns that are not known, in place; values [n, V]."""
        latent, steps = self._plan(known)
        if len(latent) == 1:
            self._draw_posterior(latent[0], known, values, rng)
        elif latent:
            self._resample(latent, known, values, rng)
        for step in steps:
            values[:, step[0]] = self.draw(step, values, rng)

    def _draw_posterior(self, a: int, known: Known, values: np.ndarray, rng: np.random.Generator) -> None:
        """Draw the one latent column from its posterior; rows that are alike share a grid."""
        columns = sorted(known)
        for start in range(0, len(values), _CHUNK):
            part = values[start : start + _CHUNK]
            _, first, row = np.unique(part[:, columns], axis=0, return_index=True, return_inverse=True)
            t, logs, _ = self.posterior_grid(a, known, part[first])
            part[:, a] = self._from_grid(a, t, logs, row.reshape(-1), rng)

    def _from_grid(
        self, a: int, t: np.ndarray, logs: np.ndarray, row: np.ndarray, rng: np.random.Generator
    ) -> np.ndarray:
        """Native draws [n] from grid row[n]; the density is a straight line between points."""
        f = np.exp(logs - logs.max(1, keepdims=True))
        if not self.covariates[a].is_continuous:
            return t[0, truncated.choose(f[row], rng, len(row))]
        cells = 0.5 * (f[:, 1:] + f[:, :-1])
        k = truncated.choose(cells[row], rng, len(row))
        f0, f1, u = f[row, k], f[row, k + 1], rng.random(len(row))
        root = np.sqrt(f0 * f0 + u * (f1 * f1 - f0 * f0))
        share = u * (f0 + f1) / np.maximum(root + f0, 1e-300)  # stable form of (root − f0) / (f1 − f0)
        return self.covariates[a].inverse(t[row, k] + share * (t[row, 1] - t[row, 0]))

    def posterior_grid(
        self, a: int, known: Known, values: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Posterior of the only latent column a, given the known.

        Args:
            a: A column that, with the known, makes a closed set.
            values: float64 [R, V].

        Returns:
            Grid t [R, G] (evenly spaced transformed values, or levels), log of posterior × evidence there [R,
            G], and
            the log evidence: the log density of the known [R]. Where the known contradict the models
                altogether
            (evidence −∞), the grid holds a's prior instead.
        """
        steps = list(self.chain(known | {a}, first=known - {a}))
        touched = [s for s in steps if s[0] == a or a in s[2]]
        rest = sum((self.log_density_of(s, values) for s in steps if s not in touched), np.zeros(len(values)))
        own = [s for s in touched if s[0] == a]
        parts = []
        size = max(1, _CHUNK // _GRID)
        for start in range(0, len(values), size):
            part = values[start : start + size]
            t, logs, evidence = self._grid(a, touched, part)
            lost = ~np.isfinite(evidence)
            if lost.any():
                t[lost], logs[lost], _ = self._grid(a, own, part[lost])
            parts.append((t, logs, evidence))
        t, logs, evidence = (np.concatenate(p) for p in zip(*parts))
        return t, logs, evidence + rest

    def _grid(
        self, a: int, steps: list[Step], values: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Log of the product of the steps' densities along column a, and the log of its integral."""
        covariate, rows = self.covariates[a], len(values)
        if not covariate.is_continuous:
            count = covariate.num_levels
            t = np.tile(np.arange(count, dtype=np.float64), (rows, 1))
            logs = self._along(a, steps, values, t)
            return t, logs, _logsum(logs)
        _, model, parents = next(s for s in steps if s[0] == a)
        x = self.inputs(model, parents, values)
        ends = (model.quantile(np.full(rows, q), x) for q in (_TAIL, 1 - _TAIL))
        low, high = (covariate.forward(self.to_native(a, model, e)) for e in ends)
        unit = np.linspace(0, 1, _GRID)
        for zoom in range(_ZOOMS + 1):
            t = low[:, None] + (high - low)[:, None] * unit
            logs = self._along(a, steps, values, t)
            if zoom < _ZOOMS:
                keep = logs >= logs.max(1, keepdims=True) - _FLAT
                left, right = keep.argmax(1), _GRID - 1 - keep[:, ::-1].argmax(1)
                rows_ = np.arange(rows)
                low, high = t[rows_, np.maximum(left - 1, 0)], t[rows_, np.minimum(right + 1, _GRID - 1)]
        with np.errstate(divide="ignore"):
            cells = np.logaddexp(logs[:, 1:], logs[:, :-1]) + np.log(0.5 * (t[:, 1] - t[:, 0]))[:, None]
        return t, logs, _logsum(cells)

    def _along(self, a: int, steps: list[Step], values: np.ndarray, t: np.ndarray) -> np.ndarray:
        """Sum of log densities [R, G] with column a at the transformed values t [R, G]."""
        wide = np.repeat(values, t.shape[1], axis=0)
        wide[:, a] = self.covariates[a].inverse(t.ravel())
        return sum((self.log_density_of(s, wide) for s in steps), np.zeros(t.size)).reshape(t.shape)

    def _weighted(
        self, latent: tuple[int, ...], known: Known, values: np.ndarray, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        """Particles of the latent columns [R, PARTICLES, V] and their log importance weights [R,
        PARTICLES]."""
        wide = np.repeat(values, PARTICLES, axis=0)
        have = known
        for j in latent:
            wide[:, j] = self.draw((j, *self.model(j, have)), wide, rng)
            have |= {j}
        logs = np.zeros(len(wide))
        for step in self.chain(have, first=known):
            if step[0] in known:
                logs += self.log_density_of(step, wide)
        return wide.reshape(len(values), PARTICLES, -1), logs.reshape(len(values), PARTICLES)

    def _resample(
        self, latent: tuple[int, ...], known: Known, values: np.ndarray, rng: np.random.Generator
    ) -> None:
        """Draw several latent columns: many from their prior, one of them chosen by the likelihood of the
        known."""
        size = max(1, _CHUNK // PARTICLES)
        for start in range(0, len(values), size):
            part = values[start : start + size]
            particles, logs = self._weighted(latent, known, part, rng)
            top = logs.max(1, keepdims=True)
            weight = np.where(np.isfinite(top), np.exp(logs - np.where(np.isfinite(top), top, 0.0)), 1.0)
            chosen = truncated.choose(weight, rng, len(part))
            part[:, latent] = particles[np.arange(len(part)), chosen][:, latent]

    def log_evidence(self, known: Known, values: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Log density [n] of the known columns' transformed values, the others integrated out."""
        latent = self.latent(known)
        if not latent:
            return sum((self.log_density_of(s, values) for s in self.chain(known)), np.zeros(len(values)))
        if len(latent) == 1:
            return self.posterior_grid(latent[0], known, values)[2]
        size = max(1, _CHUNK // PARTICLES)
        parts = []
        for start in range(0, len(values), size):
            _, logs = self._weighted(latent, known, values[start : start + size], rng)
            parts.append(_logsum(logs) - np.log(PARTICLES))
        return np.concatenate(parts)


def _logsum(logs: np.ndarray) -> np.ndarray:
    """log Σ exp over the last axis; −inf where all are."""
    top = logs.max(-1)
    safe = np.where(np.isfinite(top), top, 0.0)
    with np.errstate(divide="ignore"):
        return safe + np.log(np.exp(logs - safe[:, None]).sum(-1))
