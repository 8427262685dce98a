"""Models known by their equations instead of fitted: `family = "analytic:NAME"`, in native units.

`register` adds one. Keys of the [model] table override the constants.
Source: docs/method/method.md section 3, Morpho-MNIST truth.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from mssg.covariates.discrete import FrequencyTable
from mssg.covariates.marginal import quadrature
from mssg.covariates.protocol import CovariateModel, FittedModel, Variable
from mssg.covariates.regression import SigmoidOfGaussian
from mssg.errors import StudyError

PREFIX = "analytic:"


@dataclass(frozen=True, eq=False)
class ShiftedGamma(FittedModel):
    """shift + Gamma(shape, rate)."""

    shift: float
    shape: float
    rate: float

    family = "analytic"
    native = True
    continuous_parents = (0, 0)
    discrete_parents = (0, 0)

    def sample(self, x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        return self.shift + rng.gamma(self.shape, 1 / self.rate, len(x))

    def log_density(self, y: np.ndarray, x: np.ndarray) -> np.ndarray:
        from scipy.special import gammaln

        v = np.asarray(y) - self.shift
        inside = v > 0
        v = np.where(inside, v, 1.0)
        value = (
            self.shape * np.log(self.rate)
            + (self.shape - 1) * np.log(v)
            - self.rate * v
            - gammaln(self.shape)
        )
        return np.where(inside, value, -np.inf)

    def mean(self, x: np.ndarray, of: Callable[[np.ndarray], np.ndarray] | None = None) -> np.ndarray:
        if of is None:
            return np.full(len(x), self.shift + self.shape / self.rate)
        return quadrature(self.quantile, len(x), of)

    def cdf(self, y: np.ndarray, x: np.ndarray) -> np.ndarray:
        from scipy.special import gammainc

        return gammainc(self.shape, self.rate * np.maximum(np.asarray(y) - self.shift, 0))

    def quantile(self, q: np.ndarray, x: np.ndarray) -> np.ndarray:
        from scipy.special import gammaincinv

        return self.shift + gammaincinv(self.shape, q) / self.rate


@dataclass(frozen=True, eq=False)
class AnalyticSigmoid(SigmoidOfGaussian):
    """A sigmoid of a noisy line with given constants, in native units."""

    low: float
    span: float
    slope: float
    intercept: float
    sd: float

    family = "analytic"
    native = True
    discrete_parents = (0, 0)
    stratified = False


@dataclass(frozen=True, eq=False)
class UniformLevels(FrequencyTable):
    """Every level equally probable."""

    family = "analytic"
    discrete_parents = (0, 0)


@dataclass(frozen=True)
class Analytic:
    """A registered model: its class (for what it accepts), default constants, and how it is built from
    them."""

    model: type[FittedModel]
    constants: Mapping[str, float]
    build: Callable[[Mapping[str, float], Variable], CovariateModel]


_REGISTRY: dict[str, Analytic] = {}


def register(name: str, entry: Analytic) -> None:
    """Make `analytic:NAME` available.

    Raises:
        StudyError: The name is taken.
    """
    if name in _REGISTRY:
        raise StudyError("an analytic model of this name exists already", field=f"{PREFIX}{name}")
    _REGISTRY[name] = entry


def registered(family: str, where: str) -> Analytic:
    """The entry of a family name `analytic:NAME`.

    Raises:
        StudyError: No such model; the message lists those there are.
    """
    name = family.removeprefix(PREFIX)
    if name not in _REGISTRY:
        known = " | ".join(PREFIX + n for n in sorted(_REGISTRY))
        raise StudyError(
            "unknown analytic model", field=f"{where}.family", found=repr(family), expected=known
        )
    return _REGISTRY[name]


def build(family: str, child: Variable, options: Mapping[str, Any]) -> CovariateModel:
    """The analytic model of this family name, with the study's constants over the default ones.

    Raises:
        StudyError: A constant that is no number, or a scale that is not positive.
    """
    entry = registered(family, f"model.{child.name}")
    for key, value in options.items():
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if not number or (key in _POSITIVE and not value > 0):
            expected = "a number above 0" if key in _POSITIVE else "a number"
            raise StudyError(
                "wrong constant", field=f"model.{child.name}.{key}", found=value, expected=expected
            )
    return entry.build({**entry.constants, **options}, child)


_POSITIVE = ("shape", "rate", "span", "amplitude", "noise")

# thickness = 0.5 + Gamma(10, rate 5)
register(
    "thickness",
    Analytic(
        ShiftedGamma,
        {"shift": 0.5, "shape": 10.0, "rate": 5.0},
        lambda k, _: ShiftedGamma(k["shift"], k["shape"], k["rate"]),
    ),
)
# intensity = 64 + 191 σ(2t − 5 + ε), ε ~ N(0, sd 0.5)
register(
    "intensity",
    Analytic(
        AnalyticSigmoid,
        {"low": 64.0, "span": 191.0, "slope": 2.0, "intercept": -5.0, "noise": 0.5},
        lambda k, _: AnalyticSigmoid(k["low"], k["span"], k["slope"], k["intercept"], k["noise"]),
    ),
)
# slant = 56 tanh(t − 2.5 + ε), ε ~ N(0, sd 0.3); tanh(v) = 2σ(2v) − 1
register(
    "slant",
    Analytic(
        AnalyticSigmoid,
        {"amplitude": 56.0, "centre": 2.5, "noise": 0.3},
        lambda k, _: AnalyticSigmoid(
            -k["amplitude"], 2 * k["amplitude"], 2.0, -2 * k["centre"], 2 * k["noise"]
        ),
    ),
)
register(
    "uniform", Analytic(UniformLevels, {}, lambda _, child: UniformLevels.of_weights(np.ones(child.levels)))
)
