"""Gaussian mixtures and their conditionals in closed form: the marginal and the regression of family `gmm`.

Given parents x, component k keeps the weight w_k N(x; μ_k, Σ_k) / Σ_j w_j N(x; μ_j, Σ_j); within it the child
is Gaussian with mean μ_kc + Σ_kcx Σ_kxx⁻¹ (x − μ_kx) and variance Σ_kcc − Σ_kcx Σ_kxx⁻¹ Σ_kxc.
Source: Ghahramani & Jordan 1994; docs/method/method.md section 3 (GMM regression).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Self

import numpy as np

from mssg.covariates.discrete import DiscreteModel
from mssg.covariates.em import default_components, fit_mixture
from mssg.covariates.protocol import FittingData, Stateful
from mssg.covariates.truncated import WIDENING, CutModel, support
from mssg.errors import DataError


@dataclass(frozen=True, eq=False)
class Mixture(Stateful):
    """A mixture over D continuous and C discrete covariates; the discrete ones are independent within a
    component.

    Args:
        weights: [K], summing to 1.
        means: [K, D].
        covariances: [K, D, D].
        tables: Per discrete covariate its level probabilities [K, L].
    """

    weights: np.ndarray
    means: np.ndarray
    covariances: np.ndarray
    tables: tuple[np.ndarray, ...] = ()


@dataclass(frozen=True, eq=False)
class Responsibilities:
    """The weights of a mixture's components given some covariates, as one matrix product per call.

    Continuous positions count 0 … D−1, discrete ones D … D+C−1. log(w_k N_k(x)) is a quadratic polynomial of
    x, so its coefficients are worked out once (around a centre, for accuracy).
    """

    mixture: Mixture
    given: tuple[int, ...]

    @cached_property
    def columns(self) -> list[int]:
        """Which columns of x are continuous."""
        return [c for c, i in enumerate(self.given) if i < self.mixture.means.shape[1]]

    @cached_property
    def positions(self) -> np.ndarray:
        """Positions of those columns in the mixture."""
        return np.array([self.given[c] for c in self.columns], np.int64)

    @cached_property
    def centre(self) -> np.ndarray:
        """The mixture's mean over the continuous given [P]."""
        return self.mixture.weights @ self.mixture.means[:, self.positions]

    @cached_property
    def precision(self) -> np.ndarray:
        """Inverse covariances of the continuous given [K, P, P]."""
        g = self.positions
        return np.linalg.inv(self.mixture.covariances[:, g[:, None], g])

    @cached_property
    def _tables(self) -> list[tuple[int, np.ndarray]]:
        d = self.mixture.means.shape[1]
        return [(c, np.log(self.mixture.tables[i - d]).T.copy()) for c, i in enumerate(self.given) if i >= d]

    @cached_property
    def _pairs(self) -> tuple[np.ndarray, np.ndarray]:
        return np.triu_indices(len(self.positions))

    @cached_property
    def _coefficients(self) -> np.ndarray:
        """[1 + P + P(P+1)/2, K]."""
        a, d = self.precision, self.mixture.means[:, self.positions] - self.centre
        linear = np.einsum("kpq,kq->kp", a, d)
        _, logdet = np.linalg.slogdet(a)
        constant = np.log(self.mixture.weights) + 0.5 * logdet - 0.5 * np.einsum("kp,kp->k", linear, d)
        p, q = self._pairs
        square = -0.5 * a[:, p, q] * np.where(p == q, 1.0, 2.0)
        return np.concatenate([constant[None], linear.T, square.T])

    def centred(self, x: np.ndarray) -> np.ndarray:
        """Continuous columns of x [n, G] around the centre [n, P]."""
        return x[:, self.columns] - self.centre if self._tables else x - self.centre

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """Weights of the components given x [n, G] -> [n, K], or [1, K] when nothing is given."""
        if not self.given:
            return self.mixture.weights[None]
        coefficients = self._coefficients
        logs = np.broadcast_to(coefficients[0], (len(x), coefficients.shape[1]))
        if self.columns:
            z = self.centred(x)
            p, q = self._pairs
            logs = logs + np.concatenate([z, z[:, p] * z[:, q]], 1) @ coefficients[1:]
        for column, table in self._tables:
            logs = logs + table[x[:, column].astype(np.int64)]
        share = np.exp(logs - logs.max(1, keepdims=True))
        return share / share.sum(1, keepdims=True)


@dataclass(frozen=True, eq=False)
class MixtureModel(CutModel):
    """A continuous child of a mixture given other members of it, cut to [low, high].

    Args:
        child: The child's position among its continuous covariates.
        given: Positions of the parents, in the order of the columns of x.
        low: Lower end of the support, transformed.
        high: Upper end.
    """

    mixture: Mixture
    child: int
    given: tuple[int, ...]
    low: float
    high: float

    family = "gmm"
    stratified = True

    @classmethod
    def fit(cls, data: FittingData, rng: np.random.Generator) -> Self:
        """Fit the joint mixture of parents and child, then condition it.

        Raises:
            DataError: Too few rows for the components, or a column that never varies.
        """
        data.require()
        joint = np.column_stack([data.x, data.y])
        rows, columns = joint.shape
        count = data.components or default_components(rows, columns)
        if rows < 2 * count:
            raise DataError(
                "too few training rows for this many components",
                field=f"model.{data.child.name}.components",
                found=f"{count} components, {rows} rows",
                expected=f"at most {rows // 2} components",
                hint="Lower components or leave it out",
            )
        for column, parent in enumerate(data.parents):
            if not np.ptp(data.x[:, column]) > 0:
                raise DataError(
                    "a parent never varies in the rows that record the child",
                    field=f"model.{data.child.name}.given",
                    found=parent.name,
                    hint="Remove it from given",
                )
        fitted = fit_mixture(joint, count, rng)
        mixture = Mixture(fitted.weights, fitted.means, fitted.covariances)
        low, high = support(data.y, data.child, WIDENING if data.parents else 0.0)
        return cls(mixture, columns - 1, tuple(range(columns - 1)), low, high)

    @cached_property
    def responsibilities(self) -> Responsibilities:
        """Weights of the components given the parents."""
        return Responsibilities(self.mixture, self.given)

    @cached_property
    def _line(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Intercepts [K] at the centre, slopes [P, K] and residual standard deviations [K] of the
        components."""
        part, mix, c = self.responsibilities, self.mixture, self.child
        cross = mix.covariances[:, c, part.positions] if part.columns else np.zeros((len(mix.weights), 0))
        slope = np.einsum("kp,kpq->kq", cross, part.precision) if part.columns else cross
        offset = part.centre - mix.means[:, part.positions] if part.columns else cross
        intercept = mix.means[:, c] + np.einsum("kp,kp->k", slope, offset)
        variance = mix.covariances[:, c, c] - np.einsum("kp,kp->k", slope, cross)
        return intercept, slope.T.copy(), np.sqrt(np.maximum(variance, 1e-300))

    def conditional(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Component weights, means [n or 1, K] and standard deviations [K] given x [n, P], before cutting."""
        intercept, slope, sd = self._line
        w = self.responsibilities(x)
        m = intercept[None]
        if len(slope):
            m = m + self.responsibilities.centred(x) @ slope
        return w, np.broadcast_to(m, (max(len(m), len(w)), m.shape[1])), sd


@dataclass(frozen=True, eq=False)
class MixtureLevels(DiscreteModel):
    """A discrete child of a mixture given other members of it: the components' tables, mixed by their
    weights."""

    mixture: Mixture
    child: int
    given: tuple[int, ...]

    family = "joint"

    @cached_property
    def responsibilities(self) -> Responsibilities:
        """Weights of the components given the parents."""
        return Responsibilities(self.mixture, self.given)

    def probabilities(self, x: np.ndarray) -> np.ndarray:
        table = self.mixture.tables[self.child - self.mixture.means.shape[1]]
        return np.broadcast_to(self.responsibilities(x) @ table, (len(x), table.shape[1]))
