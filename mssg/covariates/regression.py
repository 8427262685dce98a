"""Regressions: linear, logistic and softmax on any parents, and the four-parameter sigmoid of one continuous
parent."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Self, cast

import numpy as np

from mssg.covariates.discrete import DiscreteModel, check_levels
from mssg.covariates.protocol import FittedModel, FittingData, Stateful
from mssg.covariates.truncated import WIDENING, CutModel, hermite, support
from mssg.errors import DataError

_RIDGE = 0.01  # Gaussian prior of sd 10 on standardised coefficients: separable classes keep finite ones
_HALF_LOG_2PI = 0.9189385332046727
_MOST_LEVELS = 10_000  # of a parent; a damaged file may say more than memory holds
_MOST_ROWS = 5_000  # rows a curve of four parameters is fitted to
_ROUNDS = 6  # of curve given noise, noise given curve
_EDGE = 1e-9  # smallest distance of a share from 0 and 1


@dataclass(frozen=True, eq=False)
class Features(Stateful):
    """Parents as regression columns: continuous ones standardised, discrete ones one-hot."""

    levels: tuple[int, ...]
    offset: np.ndarray
    spread: np.ndarray

    def __post_init__(self) -> None:
        if not all(type(n) is int and 0 <= n <= _MOST_LEVELS for n in self.levels):
            raise ValueError(f"levels of parents: {self.levels}")

    @classmethod
    def fit(cls, data: FittingData) -> Self:
        """Standardise by the rows' mean and spread; a parent that never varies contributes nothing."""
        spread = data.x.std(0)
        return cls(
            tuple(p.levels for p in data.parents), data.x.mean(0), np.where(spread > 0, spread, np.inf)
        )

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """x [n, P] -> [n, 1 + F], a column of ones first."""
        columns = [np.ones((len(x), 1))]
        for i, count in enumerate(self.levels):
            column = x[:, [i]]
            columns.append(
                (column == np.arange(count)) * 1.0 if count else (column - self.offset[i]) / self.spread[i]
            )
        return np.concatenate(columns, axis=1)


@dataclass(frozen=True, eq=False)
class Linear(CutModel):
    """child = coefficients · features + N(0, sd), cut to the widened observed range."""

    features: Features
    coefficients: np.ndarray
    sd: float
    low: float
    high: float

    family = "linear"

    @classmethod
    def fit(cls, data: FittingData, rng: np.random.Generator) -> Self:
        """Least squares."""
        data.require()
        features = Features.fit(data)
        f = features(data.x)
        coefficients, _, rank, _ = np.linalg.lstsq(f, data.y, rcond=1e-10)
        residual = data.y - f @ coefficients
        sd = np.sqrt((residual @ residual) / max(len(data.y) - int(rank), 1))
        low, high = support(data.y, data.child, WIDENING)
        return cls(features, coefficients, float(max(sd, 1e-6 * np.ptp(data.y))), low, high)

    def conditional(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        return np.ones((1, 1)), (self.features(x) @ self.coefficients)[:, None], np.array([self.sd])


@dataclass(frozen=True, eq=False)
class Softmax(DiscreteModel):
    """P(level) ∝ exp(features · coefficients[:, level]), coefficients [1 + F, L]."""

    features: Features
    coefficients: np.ndarray

    family = "softmax"

    @classmethod
    def fit(cls, data: FittingData, rng: np.random.Generator) -> Self:
        """Maximum likelihood with a weak Gaussian prior, by L-BFGS."""
        from scipy.optimize import minimize

        data.require()
        check_levels(data.y, data.child)
        features = Features.fit(data)
        f, count = features(data.x), data.child.levels
        target = (data.y[:, None] == np.arange(count)) * 1.0

        def loss(flat: np.ndarray) -> tuple[float, np.ndarray]:
            beta = flat.reshape(-1, count)
            p, logsum = _softmax(f @ beta)
            value = logsum.sum() - (target * (f @ beta)).sum() + 0.5 * _RIDGE * flat @ flat
            return float(value), (f.T @ (p - target) + _RIDGE * beta).ravel()

        start = np.zeros(f.shape[1] * count)
        fitted = minimize(loss, start, jac=True, method="L-BFGS-B", options={"maxiter": 500, "gtol": 1e-6})
        return cls(features, fitted.x.reshape(-1, count))

    def probabilities(self, x: np.ndarray) -> np.ndarray:
        return _softmax(self.features(x) @ self.coefficients)[0]


@dataclass(frozen=True, eq=False)
class Logistic(Softmax):
    """The softmax regression of a binary child."""

    family = "logistic"
    kinds = ("binary",)


def _softmax(logits: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Softmax [n, L] and log of the sum of exponentials [n]."""
    top = logits.max(1, keepdims=True)
    share = np.exp(logits - top)
    total = share.sum(1, keepdims=True)
    return share / total, (top + np.log(total))[:, 0]


def expit(u: np.ndarray) -> np.ndarray:
    """1 / (1 + e^−u), without overflow."""
    return 0.5 + 0.5 * np.tanh(0.5 * u)


class SigmoidOfGaussian(FittedModel):
    """child = low + span · σ(slope · parent + intercept + sd · z), z ~ N(0, 1).

    Noise that enters the parent, f(t + ε), is this with sd = |slope| · sd(ε). Strictly increasing in z, so
    density, cdf and quantiles follow by change of variables.
    """

    low: float
    span: float
    slope: float
    intercept: float
    sd: float

    continuous_parents = (1, 1)
    stratified = True

    def _centre(self, x: np.ndarray) -> np.ndarray:
        return self.slope * x[:, 0] + self.intercept

    def _value(self, u: np.ndarray) -> np.ndarray:
        return self.low + self.span * np.clip(expit(u), _EDGE, 1 - _EDGE)

    def _share(self, y: np.ndarray) -> np.ndarray:
        return np.clip((np.asarray(y) - self.low) / self.span, _EDGE, 1 - _EDGE)

    def sample(self, x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        return self._value(self._centre(x) + self.sd * rng.standard_normal(len(x)))

    def log_density(self, y: np.ndarray, x: np.ndarray) -> np.ndarray:
        """See `CovariateModel.log_density`; |dy/du| = span · p (1 − p)."""
        p = self._share(y)
        z = (np.log(p) - np.log1p(-p) - self._centre(x)) / self.sd
        value = -0.5 * z * z - np.log(self.sd) - _HALF_LOG_2PI - np.log(self.span * p * (1 - p))
        return np.where((y >= self.low) & (y <= self.low + self.span), value, -np.inf)

    def mean(self, x: np.ndarray, of: Callable[[np.ndarray], np.ndarray] | None = None) -> np.ndarray:
        """See `CovariateModel.mean`; Gauss-Hermite over z."""
        z, share = hermite(41)
        value = self._value(self._centre(x)[:, None] + self.sd * z)
        return (value if of is None else of(value)) @ share

    def cdf(self, y: np.ndarray, x: np.ndarray) -> np.ndarray:
        from scipy.special import ndtr

        p = self._share(y)
        inner = ndtr((np.log(p) - np.log1p(-p) - self._centre(x)) / self.sd)
        return np.where(y <= self.low, 0.0, np.where(y >= self.low + self.span, 1.0, inner))

    def quantile(self, q: np.ndarray, x: np.ndarray) -> np.ndarray:
        from scipy.special import ndtri

        return self._value(self._centre(x) + self.sd * ndtri(q))


@dataclass(frozen=True, eq=False)
class Sigmoid(SigmoidOfGaussian):
    """The sigmoid c / (1 + e^(−a(x − b))) + d fitted to data: slope a, intercept −ab, span c, low d.

    Source: docs/method/method.md section 3 (Morpho-MNIST estimated).
    """

    low: float
    span: float
    slope: float
    intercept: float
    sd: float

    family = "sigmoid"

    @classmethod
    def fit(cls, data: FittingData, rng: np.random.Generator) -> Self:
        """Least squares for the curve, the residual variance for the noise of the parent.

        Noise in the parent flattens the mean curve, so both are fitted in turn: the curve's expectation under
        the noise to the data, then the noise whose spread of the child equals the residuals'. The asymptotes
        enclose all rows.

        Raises:
            DataError: The parent never varies.
        """
        data.require()
        t, y = data.x[:, 0], data.y
        if not np.ptp(t) > 0:
            raise DataError(
                "the parent never varies in the rows that record the child",
                field=f"model.{data.child.name}.given",
                found=data.parents[0].name,
                hint="Remove it from given",
            )
        low, span, offset, spread = float(y.min()), float(np.ptp(y)), float(t.mean()), float(t.std())
        chosen = rng.permutation(len(t))[:_MOST_ROWS]
        curve, noise = _fit_curve((t[chosen] - offset) / spread, (y[chosen] - low) / span)
        slope, intercept, bottom, top = (float(v) for v in curve)
        return cls(
            low + span * bottom,
            span * (top - bottom),
            slope / spread,
            intercept - slope * offset / spread,
            max(abs(slope) * noise, 1e-6),
        )


def _fit_curve(t: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, float]:
    """Slope, intercept, bottom and top of the curve, and the sd of the parent's noise, on scaled t and y in
    [0, 1]."""
    from scipy.optimize import brentq, least_squares

    z, share = hermite(9)

    def spread_of(curve: np.ndarray, noise: float) -> tuple[np.ndarray, float]:
        """Mean curve [n] under the noise, and the mean variance around it."""
        values = curve[2] + (curve[3] - curve[2]) * expit(curve[0] * (t[:, None] + noise * z) + curve[1])
        mean = values @ share
        return mean, float(((values - mean[:, None]) ** 2 @ share).mean())

    margin = (
        5e-3  # the asymptotes stay outside the observed range, so that rows like those seen have a density
    )
    logit = np.log((y + 0.05) / (1.05 - y))
    slope = float(t @ (logit - logit.mean()) / len(t))
    curve = np.array([slope, logit.mean(), -0.05, 1.05])
    bounds = ([-np.inf, -np.inf, -1.0, 1 + margin], [np.inf, np.inf, -margin, 2.0])
    noise = 0.1
    for _ in range(_ROUNDS):
        fitted = least_squares(
            lambda c, sd=noise: spread_of(c, sd)[0] - y, curve, bounds=bounds, xtol=1e-6, max_nfev=50
        )
        curve = fitted.x
        target = float(np.mean(fitted.fun**2))

        def excess(log_noise: float, c: np.ndarray = curve, wanted: float = target) -> float:
            return spread_of(c, float(np.exp(log_noise)))[1] - wanted

        low, high = np.log(1e-4), np.log(10.0)
        if excess(low) < 0 < excess(high):
            noise = float(np.exp(cast(float, brentq(excess, low, high))))
    return curve, noise
