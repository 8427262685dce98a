"""Fitted models of every family on data of known origin, and small studies, for the tests of this folder."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from mssg.covariates.analytic import build
from mssg.covariates.discrete import FrequencyTable, RowTable
from mssg.covariates.joint import JointMixture
from mssg.covariates.marginal import Beta, Quantiles, Stratified, Uniform
from mssg.covariates.mixture import MixtureModel
from mssg.covariates.protocol import FittingData, Variable
from mssg.covariates.regression import Linear, Logistic, Sigmoid, Softmax
from mssg.study.covariate import Covariate
from mssg.study.model import ModelSpec, Source, Study

AGE, VOLUME = Variable("age"), Variable("volume", logged=True)
SEX, STAGE, SITE = Variable("sex", 2), Variable("stage", 3), Variable("site", 4)


@dataclass(frozen=True, eq=False)
class Case:
    """A fitted model, the rows it was fitted to (or drawn from it, for analytic models), and how to fit it
    again."""

    model: object
    y: np.ndarray
    x: np.ndarray
    again: Callable[[], object]


def _case(fit: Callable[[np.random.Generator], object], y: np.ndarray, x: np.ndarray) -> Case:
    return Case(fit(np.random.default_rng(5)), y, x, lambda: fit(np.random.default_rng(5)))


def _trained(
    family: type, child: Variable, y: np.ndarray, parents: tuple[Variable, ...] = (), x=None, **options
) -> Case:
    x = np.empty((len(y), 0)) if x is None else x
    data = FittingData(child, y, parents, x, **options)
    return _case(lambda rng: family.fit(data, rng), y, x)


def _softmax(logits: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    return (np.cumsum(p, 1) < rng.random(len(p))[:, None]).sum(1).astype(float)


def _of_joint(child: int, given: tuple[int, ...]) -> Case:
    rng = np.random.default_rng(8)
    age = rng.normal(60, 8, 1500)
    stage = _softmax(np.column_stack([0 * age, (age - 60) / 8, (age - 65) / 4]), rng)
    volume = 3 + 0.02 * (age - 60) + 0.3 * stage + rng.normal(0, 0.15, 1500)
    values = np.column_stack([age, stage, volume])
    fitted = lambda rng: JointMixture.fit((AGE, STAGE, VOLUME), values, rng, 4).view(child, given)  # noqa: E731
    return _case(fitted, values[:, child], values[:, list(given)])


def _analytic(name: str, child: Variable, x: np.ndarray) -> Case:
    model = build(f"analytic:{name}", child, {})
    y = model.sample(x, np.random.default_rng(2))
    return Case(model, y, x, lambda: build(f"analytic:{name}", child, {}))


def cases() -> dict[str, Case]:
    """One case per family (and per way of using it), by name."""
    rng, n = np.random.default_rng(1), 1500
    age = 45 + 35 * rng.beta(2.5, 2.0, n)
    sex, site = rng.integers(0, 2, n).astype(float), rng.integers(0, 4, n).astype(float)
    line = (age - 60) / 10
    volume = 3 + 0.3 * line + 0.1 * line**2 + rng.normal(0, 0.2 + 0.05 * sex, n)
    late = np.exp(-((line - 1) ** 2))
    stage = _softmax(np.column_stack([0 * line, line, 2 * line - 1]), rng)
    curve = 20 + 60 / (1 + np.exp(-1.5 * (line + rng.normal(0, 0.3, n))))
    a, ab = age[:, None], np.column_stack([age, volume])
    table = np.column_stack([sex, site])
    return {
        "beta": _trained(Beta, AGE, age),
        "uniform": _trained(Uniform, AGE, np.linspace(45, 80, n)),
        "gmm-marginal": _trained(MixtureModel, AGE, age, components=6),
        "quantiles": _trained(Quantiles, VOLUME, volume),
        "frequencies": _trained(FrequencyTable, STAGE, stage),
        "table": _trained(
            FrequencyTable, SITE, np.where(sex > 0, site, np.floor(site / 2)), (SEX,), sex[:, None]
        ),
        "rows": _case(lambda _: RowTable.fit((SEX, SITE), table).view(1, (0,)), site, sex[:, None]),
        "gmm": _trained(MixtureModel, VOLUME, volume, (AGE,), a, components=5),
        "gmm-two-parents": _trained(
            MixtureModel, AGE, late + 0.2 * volume + rng.normal(0, 0.1, n), (AGE, VOLUME), ab
        ),
        "linear": _trained(Linear, VOLUME, volume, (AGE, SEX), np.column_stack([age, sex])),
        "logistic": _trained(Logistic, SEX, (rng.random(n) < 1 / (1 + np.exp(-line))) * 1.0, (AGE,), a),
        "softmax": _trained(Softmax, STAGE, stage, (AGE, SEX), np.column_stack([age, sex])),
        "sigmoid": _trained(Sigmoid, AGE, curve, (AGE,), a),
        "sigmoid-falling": _trained(Sigmoid, AGE, 100 - curve, (AGE,), a),
        "stratified-beta": _case(
            lambda r: Stratified.fit_each(Beta, FittingData(AGE, age + 5 * sex, (SEX,), sex[:, None]), r),
            age + 5 * sex,
            sex[:, None],
        ),
        "stratified-gmm": _case(
            lambda r: Stratified.fit_each(
                MixtureModel, FittingData(VOLUME, volume + sex, (SEX, AGE), np.column_stack([sex, age])), r
            ),
            volume + sex,
            np.column_stack([sex, age]),
        ),
        "joint-continuous": _of_joint(2, (0, 1)),
        "joint-reversed": _of_joint(0, (2,)),
        "joint-discrete": _of_joint(1, (0, 2)),
        "joint-marginal": _of_joint(2, ()),
        "analytic-thickness": _analytic("thickness", AGE, np.empty((n, 0))),
        "analytic-intensity": _analytic("intensity", AGE, 0.5 + rng.gamma(10, 0.2, (n, 1))),
        "analytic-slant": _analytic("slant", AGE, 0.5 + rng.gamma(10, 0.2, (n, 1))),
        "analytic-uniform": _analytic("uniform", STAGE, np.empty((n, 0))),
    }


def continuous(name: str, **more) -> Covariate:
    """A z-scored continuous covariate."""
    return Covariate(name, "continuous", **more)


def study_of(covariates, observes: dict[str, tuple[str, ...]], models=(), **more) -> Study:
    """A study from covariates, what each source observes, and model specs."""
    sources = tuple(Source(name, name, names) for name, names in observes.items())
    return Study("toy", 32, 1, tuple(covariates), sources, models={m.name: m for m in models}, **more)


DIGITS = (
    continuous("thickness"),
    continuous("intensity"),
    continuous("slant"),
    Covariate("digit", "categorical", levels=tuple("0123456789")),
)
DIGITS_TRUTH = (
    ModelSpec("thickness", (), "analytic:thickness"),
    ModelSpec("intensity", ("thickness",), "analytic:intensity"),
    ModelSpec("slant", ("thickness",), "analytic:slant"),
    ModelSpec("digit", (), "analytic:uniform"),
)
DIGITS_OBSERVES = {"A": ("thickness", "intensity", "digit"), "B": ("thickness", "slant", "digit")}


def digit_tables(n: int, seed: int = 0) -> list[dict[str, np.ndarray]]:
    """Rows drawn from the true equations, one table per source of `DIGITS_OBSERVES`."""
    rng = np.random.default_rng(seed)
    tables = []
    for names in DIGITS_OBSERVES.values():
        t = 0.5 + rng.gamma(10, 1 / 5, n)
        full = {
            "thickness": t,
            "intensity": 64 + 191 / (1 + np.exp(-(2 * t - 5 + rng.normal(0, 0.5, n)))),
            "slant": 56 * np.tanh(t - 2.5 + rng.normal(0, 0.3, n)),
            "digit": rng.integers(0, 10, n).astype(float),
        }
        tables.append({name: full[name] for name in names})
    return tables


def cohort(seed: int = 0, n: int = 500) -> tuple[Study, list[dict[str, np.ndarray]]]:
    """Two cohorts of n rows: A records age, sex and (log) ventricle, B age and grey matter; ages as whole
    years."""
    rng = np.random.default_rng(seed)
    covariates = (
        Covariate("age", "continuous", unit="years", scale="minmax"),
        Covariate("sex", "binary"),
        Covariate("ventricle", "continuous", unit="ml", transform="log"),
        Covariate("grey", "continuous", unit="ml", transform="log"),
    )
    tables = []
    for names in (("age", "sex", "ventricle"), ("age", "grey")):
        age = np.round(45 + 37 * rng.beta(2.5, 2, n))
        full = {
            "age": age,
            "sex": (rng.random(n) < 0.55) * 1.0,
            "ventricle": np.exp(3 + 0.025 * (age - 60) + rng.normal(0, 0.3, n)),
            "grey": np.exp(6.4 - 0.006 * (age - 60) + rng.normal(0, 0.06, n)),
        }
        tables.append({name: full[name] for name in names})
    return study_of(covariates, {"A": ("age", "sex", "ventricle"), "B": ("age", "grey")}), tables
