"""The system over a study: completion, conditioning on any subset, densities, state, speed, bad input."""

from __future__ import annotations

import json
import time
from dataclasses import replace

import numpy as np
import pytest
from covariate_cases import DIGITS, DIGITS_OBSERVES, DIGITS_TRUTH, cohort, continuous, digit_tables, study_of
from scipy.integrate import trapezoid

from mssg.covariates.analytic import Analytic, ShiftedGamma, build, register
from mssg.covariates.protocol import Variable
from mssg.covariates.system import CovariateModels, fit_models
from mssg.errors import DataError, MssgError, SnapshotError, StudyError, UsageError
from mssg.study.covariate import Covariate
from mssg.study.model import ModelSpec, Study
from mssg.study.schema import from_document, to_document

NORMAL = 0.3989422804014327


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


@pytest.fixture(scope="module")
def truth() -> CovariateModels:
    return fit_models(study_of(DIGITS, DIGITS_OBSERVES, DIGITS_TRUTH), digit_tables(2000))


@pytest.fixture(scope="module")
def fitted() -> CovariateModels:
    models = [
        ModelSpec("thickness", (), "gmm", 10),
        ModelSpec("intensity", ("thickness",), "gmm", 10),
        ModelSpec("slant", ("thickness",), "sigmoid"),
    ]
    return fit_models(study_of(DIGITS, DIGITS_OBSERVES, models), digit_tables(2000))


@pytest.fixture(scope="module")
def brain() -> CovariateModels:
    return fit_models(*cohort())


def rows_of(tables: list[dict[str, np.ndarray]], study: Study) -> np.ndarray:
    parts = []
    for table in tables:
        rows = np.full((len(next(iter(table.values()))), len(study.conditions)), np.nan)
        for name, column in table.items():
            rows[:, study.index(name)] = column
        parts.append(rows)
    return np.concatenate(parts)


# ---- completion


def test_completion_keeps_what_is_known_and_fills_the_rest(truth):
    rows = rows_of(digit_tables(500, 3), truth.study)
    full = truth.complete(rows, rng())
    known = ~np.isnan(rows)
    assert not known.all() and np.isfinite(full).all()
    np.testing.assert_array_equal(full[known], rows[known])
    assert np.isnan(rows).any()  # the caller's rows are untouched
    np.testing.assert_array_equal(full, truth.complete(rows, rng()))
    assert (full != truth.complete(rows, rng(1))).any()


def test_completions_follow_the_true_conditional(truth):
    rows = np.full((20_000, 4), np.nan)
    rows[:, 0], rows[:, 3] = 2.5, 1.0
    full = truth.complete(rows, rng())
    u = np.arctanh(full[:, 2] / 56)
    assert u.mean() == pytest.approx(0, abs=0.01) and u.std() == pytest.approx(0.3, rel=0.03)
    p = (full[:, 1] - 64) / 191
    assert np.log(p / (1 - p)).std() == pytest.approx(0.5, rel=0.03)


def test_estimated_models_come_close_to_the_truth(fitted):
    """The estimated sigmoid has the true asymptotes, slope and noise: 112 σ(2t − 5 + N(0, 0.6)) − 56."""
    slant = fitted.network.owner[2].model
    assert slant.low == pytest.approx(-56, abs=2) and slant.span == pytest.approx(112, abs=4)
    assert slant.slope == pytest.approx(2, rel=0.08) and slant.sd == pytest.approx(0.6, rel=0.08)
    drawn = fitted.sample(20_000, None, rng())
    for name, table in zip(("intensity", "slant"), digit_tables(20_000, 5)):
        true = np.corrcoef(table["thickness"], table[name])[0, 1]
        assert np.corrcoef(drawn["thickness"], drawn[name])[0, 1] == pytest.approx(true, abs=0.015)


def test_completions_stay_in_sensible_support(brain):
    rows = np.full((20_000, 4), np.nan)
    rows[:, 0] = rng().uniform(20, 120, 20_000)  # ages far beyond those seen
    full = brain.complete(rows, rng())
    for j, table in ((2, cohort()[1][0]["ventricle"]), (3, cohort()[1][1]["grey"])):
        assert (full[:, j] > 0).all()
        room = 0.1 * np.ptp(np.log(table))
        assert np.log(full[:, j]).min() >= np.log(table.min()) - room - 1e-9
        assert np.log(full[:, j]).max() <= np.log(table.max()) + room + 1e-9
    assert set(np.unique(full[:, 1])) <= {0.0, 1.0}


def test_positive_covariates_without_a_log_never_turn_negative():
    x = rng().gamma(1.0, 2.0, 600)
    age = rng(1).normal(60, 5, 600)
    study = study_of((continuous("age"), continuous("volume")), {"A": ("age", "volume")})
    drawn = fit_models(study, [{"age": age, "volume": x}]).sample(20_000, None, rng())
    assert drawn["volume"].min() >= 0


@pytest.mark.parametrize("which", ["fitted", "truth"])
def test_speed(which, request):
    """100,000 completions below half a second, a training batch below a millisecond, both doubled for busy
    machines."""
    models = request.getfixturevalue(which)
    rows = rows_of(digit_tables(50_000, 7), models.study)
    few = np.concatenate([rows[:16], rows[-16:]])
    models.complete(few, rng())
    best = [np.inf, np.inf]
    for _ in range(5):
        for slot, part, count in ((0, rows, 1), (1, few, 20)):
            start = time.process_time()
            for _ in range(count):
                models.complete(part, rng())
            best[slot] = min(best[slot], (time.process_time() - start) / count)
    assert best[0] < 1.0
    assert best[1] < 2e-3


# ---- any subset given


def posterior_by_brute_force(
    intensity: float, slant: float | None = None
) -> tuple[np.ndarray, np.ndarray, float]:
    """Thickness grid, its posterior density there and the evidence, from the equations of
    docs/method/method.md."""
    t = np.linspace(0.5001, 9, 40_001)
    log = 10 * np.log(5) - np.log(362880) + 9 * np.log(t - 0.5) - 5 * (t - 0.5)
    p = (intensity - 64) / 191
    u = np.log(p / (1 - p))
    density = np.exp(log) * NORMAL / 0.5 * np.exp(-0.5 * ((u - 2 * t + 5) / 0.5) ** 2) / (191 * p * (1 - p))
    if slant is not None:
        v = np.arctanh(slant / 56)
        density = (
            density
            * NORMAL
            / 0.3
            * np.exp(-0.5 * ((v - t + 2.5) / 0.3) ** 2)
            / (56 * (1 - (slant / 56) ** 2))
        )
    evidence = float(trapezoid(density, t))
    return t, density / evidence, evidence


@pytest.mark.parametrize(
    "given", [{"intensity": 100.0}, {"intensity": 254.5}, {"intensity": 180.0, "slant": -20.0}]
)
def test_a_missing_parent_is_drawn_from_its_exact_posterior(truth, given):
    t, density, _ = posterior_by_brute_force(**given)
    cumulative = np.concatenate([[0], np.cumsum(0.5 * (density[1:] + density[:-1]) * np.diff(t))])
    drawn = np.sort(truth.sample(20_000, given, rng())["thickness"])
    gap = np.abs(np.interp(drawn, t, cumulative) - (np.arange(20_000) + 0.5) / 20_000).max()
    assert gap < 0.0138  # Kolmogorov, p = 0.001
    mean = float(trapezoid(t * density, t))
    assert truth.conditional_mean("thickness", given)[0] == pytest.approx(mean, abs=2e-3)
    for q in (0.1, 0.5, 0.9):
        assert truth.quantile("thickness", q, given)[0] == pytest.approx(
            np.interp(q, cumulative, t), abs=3e-3
        )
        assert truth.cdf("thickness", np.interp(q, cumulative, t), given)[0] == pytest.approx(q, abs=3e-3)


def test_a_sibling_is_predicted_through_the_missing_parent(truth):
    t, density, _ = posterior_by_brute_force(120.0)
    z, share = np.polynomial.hermite_e.hermegauss(31)
    slants = 56 * np.tanh(t[:, None] - 2.5 + 0.3 * z) @ (share / share.sum())
    expected = float(trapezoid(slants * density, t))
    given = {"intensity": 120.0}
    assert truth.conditional_mean("slant", given)[0] == pytest.approx(expected, abs=0.05)
    drawn = truth.sample(40_000, given, rng())["slant"]
    assert drawn.mean() == pytest.approx(expected, abs=0.4)
    for q in (0.1, 0.5, 0.9):
        value = truth.quantile("slant", q, given)
        assert (drawn < value).mean() == pytest.approx(q, abs=0.012)
        assert truth.cdf("slant", value, given)[0] == pytest.approx(q, abs=1e-9)


def chain() -> tuple[Study, CovariateModels]:
    """a → b → c, linear and Gaussian."""
    a = rng(1).normal(0, 1, 4000)
    b = 0.8 * a + rng(2).normal(0, 0.6, 4000)
    c = 0.7 * b + rng(3).normal(0, 0.5, 4000)
    names = ("a", "b", "c")
    models = [
        ModelSpec("a", (), "linear"),
        ModelSpec("b", ("a",), "linear"),
        ModelSpec("c", ("b",), "linear"),
    ]
    study = study_of([continuous(n) for n in names], {"A": names}, models)
    return study, fit_models(study, [dict(zip(names, (a, b, c)))])


@pytest.mark.slow
def test_two_missing_ancestors_follow_the_gaussian_posterior():
    _, models = chain()
    cov = np.empty((3, 3))  # of the fitted chain, from its own coefficients
    slopes, sds = [], []
    for factor in models.network.factors:
        model = factor.model
        sds.append(model.sd)
        slopes.append(model.coefficients[1] / model.features.spread[0] if factor.parents else 0.0)
    path = np.array([[1, 0, 0], [slopes[1], 1, 0], [slopes[1] * slopes[2], slopes[2], 1]])
    cov = path @ np.diag(np.square(sds)) @ path.T
    drawn = models.sample(4000, {"c": 1.0}, rng())
    for k, name in enumerate("ab"):
        sd = np.sqrt(cov[k, k] - cov[k, 2] ** 2 / cov[2, 2])
        assert drawn[name].mean() == pytest.approx(cov[k, 2] / cov[2, 2], abs=0.05)
        assert drawn[name].std() == pytest.approx(sd, rel=0.05)
        assert models.conditional_mean(name, {"c": 1.0})[0] == pytest.approx(cov[k, 2] / cov[2, 2], abs=0.08)
    assert np.corrcoef(drawn["a"], drawn["b"])[0, 1] > 0.5
    exact = -0.5 * (1.0 - 0.0) ** 2 / cov[2, 2] - 0.5 * np.log(2 * np.pi * cov[2, 2])
    rows = np.array([[np.nan, np.nan, 1.0]])
    log_spread = np.log(models.study.covariate("c").spread)
    assert models.log_density(rows)[0] - log_spread == pytest.approx(exact, abs=0.08)


def test_a_discrete_missing_parent_is_summed_over():
    sex = (rng(1).random(3000) < 0.3) * 1.0
    size = 10 + 2 * sex + rng(2).normal(0, 1, 3000)
    study = study_of(
        (Covariate("sex", "binary"), continuous("size")),
        {"A": ("sex", "size")},
        [ModelSpec("sex", (), "empirical"), ModelSpec("size", ("sex",), "linear")],
    )
    models = fit_models(study, [{"sex": sex, "size": size}])
    p1 = sex.mean()
    odds = p1 / (1 - p1) * np.exp(-0.5 * ((11.5 - 12) ** 2 - (11.5 - 10) ** 2))
    expected = odds / (1 + odds)
    assert models.conditional_mean("sex", {"size": 11.5})[0] == pytest.approx(expected, abs=0.04)
    assert models.sample(20_000, {"size": 11.5}, rng())["sex"].mean() == pytest.approx(expected, abs=0.04)
    assert models.quantile("sex", 0.05, {"size": 11.5})[0] == 0.0
    assert models.conditional_mean("size", None)[0] == pytest.approx(size.mean(), abs=0.05)


@pytest.mark.slow
def test_joint_models_condition_on_any_member():
    """Given only intensity, the joint model needs no search: it agrees with sampling it and keeping what is
    near."""
    study = study_of(
        DIGITS[:3], {k: v[:2] for k, v in DIGITS_OBSERVES.items()}, [ModelSpec("joint", (), "", 5)]
    )
    models = fit_models(study, digit_tables(3000))
    drawn = models.sample(200_000, None, rng())
    near = np.abs(drawn["intensity"] - 150) < 3
    for name in ("thickness", "slant"):
        assert models.conditional_mean(name, {"intensity": 150.0})[0] == pytest.approx(
            drawn[name][near].mean(), abs=0.05 * drawn[name].std()
        )
    assert models.unobserved[("intensity", "slant")] == pytest.approx((0.0, 0.0), abs=1e-6)


def test_a_whole_row_table_conditions_on_any_flag():
    risk = (rng(1).random(2000) < 0.4) * 1.0
    mh = risk * (rng(2).random(2000) < 0.5)
    tsln = risk * np.maximum(1 - mh, rng(3).random(2000) < 0.2)  # risk means one or the other
    names = ("risk", "mh", "tsln")
    study = study_of(
        [Covariate(n, "binary") for n in names], {"A": names}, [ModelSpec(n, (), "empirical") for n in names]
    )
    models = fit_models(study, [dict(zip(names, (risk, mh, tsln)))])
    drawn = models.sample(5000, None, rng())
    np.testing.assert_array_equal(drawn["risk"], np.maximum(drawn["mh"], drawn["tsln"]))
    assert models.conditional_mean("risk", {"tsln": 1.0})[0] == 1.0
    assert models.conditional_mean("mh", {"risk": 1.0, "tsln": 0.0})[0] == 1.0
    np.testing.assert_allclose(models.conditional_mean("mh", None)[0], mh.mean())


def test_given_arrays_and_numbers_mix(truth):
    t = np.array([1.5, 2.5, 3.5])
    drawn = truth.sample(3, {"thickness": t, "digit": 4.0}, rng())
    np.testing.assert_array_equal(drawn["thickness"], t)
    np.testing.assert_array_equal(drawn["digit"], 4.0)
    assert np.all(np.diff(truth.conditional_mean("intensity", {"thickness": t})) > 0)
    assert truth.quantile("slant", np.array([0.1, 0.9]), {"thickness": 2.5}).shape == (2,)
    np.testing.assert_allclose(truth.quantile("slant", 0.5, {"thickness": 2.5}), 0, atol=1e-9)


def test_conditional_mean_is_of_the_native_value_not_of_its_logarithm(brain):
    drawn = brain.sample(60_000, {"age": 70.0}, rng())["ventricle"]
    mean = brain.conditional_mean("ventricle", {"age": 70.0})[0]
    assert mean == pytest.approx(drawn.mean(), rel=0.01)
    assert mean > 1.02 * np.exp(np.log(drawn).mean())


# ---- densities


def test_density_of_a_full_row_is_that_of_the_encoded_condition(truth):
    rows = truth.complete(rows_of(digit_tables(50, 3), truth.study), rng())
    t, i, s = rows[:, 0], rows[:, 1], rows[:, 2]
    p, r = (i - 64) / 191, s / 56
    expected = 10 * np.log(5) - np.log(362880) + 9 * np.log(t - 0.5) - 5 * (t - 0.5)
    expected += (
        np.log(NORMAL / 0.5)
        - 0.5 * ((np.log(p / (1 - p)) - 2 * t + 5) / 0.5) ** 2
        - np.log(191 * p * (1 - p))
    )
    expected += np.log(NORMAL / 0.3) - 0.5 * ((np.arctanh(r) - t + 2.5) / 0.3) ** 2 - np.log(56 * (1 - r**2))
    expected += np.log(0.1) + sum(np.log(c.spread) for c in truth.study.covariates[:3])
    np.testing.assert_allclose(truth.log_density(rows), expected, rtol=1e-9)


def test_density_of_a_partly_known_row_integrates_the_rest_out(truth):
    _, _, evidence = posterior_by_brute_force(130.0, 10.0)
    rows = np.array([[np.nan, 130.0, 10.0, np.nan]])
    spreads = np.log(truth.study.covariate("intensity").spread) + np.log(
        truth.study.covariate("slant").spread
    )
    assert truth.log_density(rows)[0] == pytest.approx(np.log(evidence) + spreads, abs=2e-3)
    assert truth.log_density(np.full((2, 4), np.nan)) == pytest.approx([0, 0])


def test_density_of_a_log_covariate_integrates_to_one_in_encoded_units(brain):
    covariate = brain.study.covariate("ventricle")
    grid = np.linspace(-6, 6, 4001)
    rows = np.full((len(grid), 4), np.nan)
    rows[:, 0], rows[:, 2] = 65.0, covariate.inverse(grid * covariate.spread + covariate.offset)
    alone = brain.log_density(np.array([[65.0, np.nan, np.nan, np.nan]]))
    assert trapezoid(np.exp(brain.log_density(rows) - alone), grid) == pytest.approx(1, abs=2e-3)


def test_an_analytic_model_of_a_log_covariate_has_its_jacobian():
    study = study_of(
        (continuous("x", transform="log"),), {"A": ("x",)}, [ModelSpec("x", (), "analytic:thickness")]
    )
    models = fit_models(study, [{"x": 0.5 + rng().gamma(10, 0.2, 300)}])
    c = models.study.covariate("x")
    grid = np.linspace(-8, 8, 4001)
    rows = c.inverse(grid * c.spread + c.offset)[:, None]
    assert trapezoid(np.exp(models.log_density(rows)), grid) == pytest.approx(1, abs=1e-3)


def test_density_tells_the_impossible(truth, fitted):
    odd = np.array([[2.5, 70.0, 0.0, 3.0], [2.5, 160.0, 0.0, 3.0]])
    low, high = truth.log_density(odd)
    assert low < high - 5
    assert truth.log_density(np.array([[2.5, 300.0, 0.0, 3.0]]))[0] == -np.inf
    assert fitted.log_density(np.array([[50.0, 150.0, 0.0, 3.0]]))[0] == -np.inf


# ---- source as a condition


def real(spread: float = 10.0) -> tuple[Study, list[dict[str, np.ndarray]]]:
    study, tables = cohort()
    tables[1]["age"] = tables[1]["age"] + spread
    sources = (study.sources[0], replace(study.sources[1], weight=3.0))
    return replace(study, condition_on_source=True, sources=sources), tables


def test_the_source_is_a_condition_with_its_weight():
    study, tables = real()
    models = fit_models(study, tables)
    drawn = models.sample(20_000, None, rng())
    assert drawn["source"].mean() == pytest.approx(0.75, abs=0.01)
    for number in (0, 1):
        ages = drawn["age"][drawn["source"] == number]
        assert ages.mean() == pytest.approx(tables[number]["age"].mean(), abs=0.4)
    rows = np.full((4, 5), np.nan)
    full = models.complete(rows, rng(), source=np.array([0, 1, 1, 0]))
    np.testing.assert_array_equal(full[:, 4], [0, 1, 1, 0])
    older = models.conditional_mean("source", {"age": 85.0})[0]
    assert older > models.conditional_mean("source", {"age": 55.0})[0]


# ---- state


@pytest.mark.parametrize("which", ["truth", "fitted", "brain"])
def test_state_round_trip_is_exact(which, request):
    models = request.getfixturevalue(which)
    meta, arrays = models.to_state()
    assert all(a.dtype in (np.float64, np.int64) for a in arrays.values())
    study = from_document(json.loads(json.dumps(to_document(models.study))))
    again = CovariateModels.from_state(study, json.loads(json.dumps(meta, allow_nan=False)), dict(arrays))
    rows = models.complete(np.full((40, 4), np.nan), rng())
    np.testing.assert_array_equal(again.complete(np.full((40, 4), np.nan), rng()), rows)
    np.testing.assert_array_equal(again.log_density(rows), models.log_density(rows))
    assert [again.family(n) for n in again.names] == [models.family(n) for n in models.names]
    assert again.order == models.order and again.parents("slant" if which != "brain" else "grey")


def test_the_same_seed_fits_the_same_models():
    study, tables = cohort()
    first, second = (fit_models(study, tables, rng(4)).to_state() for _ in range(2))
    assert first[0] == second[0]
    assert all(np.array_equal(first[1][k], second[1][k]) for k in first[1])


def test_no_rows_leave_with_the_state(brain):
    _, arrays = brain.to_state()
    assert sum(a.size for a in arrays.values()) < 300


def damaged(meta: dict, arrays: dict, how: str) -> tuple[dict, dict]:
    meta = json.loads(json.dumps(meta))
    if how == "version":
        meta["version"] = 99
    elif how == "type":
        meta["factors"][0]["model"]["type"] = "os.system"
    elif how == "array":
        arrays = {}
    elif how == "name":
        meta["factors"][0]["members"] = ["weight"]
    elif how == "factor":
        meta["factors"].pop()
    elif how == "shape":
        meta["factors"] = 3
    return meta, arrays


@pytest.mark.parametrize("how", ["version", "type", "array", "name", "factor", "shape"])
def test_damaged_states_are_refused(brain, how):
    meta, arrays = damaged(*brain.to_state(), how)
    with pytest.raises(SnapshotError):
        CovariateModels.from_state(brain.study, meta, arrays)


# ---- bad input


@pytest.mark.parametrize(
    "call",
    [
        lambda m: m.sample(3, {"weight": 1.0}, rng()),
        lambda m: m.sample(3, {"digit": 10.0}, rng()),
        lambda m: m.sample(3, {"digit": 1.5}, rng()),
        lambda m: m.sample(3, {"thickness": np.nan}, rng()),
        lambda m: m.sample(3, {"thickness": np.ones(2)}, rng()),
        lambda m: m.quantile("slant", 1.2, {"thickness": 2.0}),
        lambda m: m.quantile("slant", 0.5, {"slant": 2.0}),
        lambda m: m.conditional_mean("weight", None),
    ],
)
def test_bad_requests_are_refused(truth, call):
    with pytest.raises(UsageError):
        call(truth)


def test_bad_rows_are_refused(truth, brain):
    with pytest.raises(DataError, match="width"):
        truth.complete(np.ones((2, 3)), rng())
    with pytest.raises(DataError, match="infinite"):
        truth.complete(np.array([[np.inf, 1, 1, 1]]), rng())
    with pytest.raises(DataError, match="ventricle"):
        brain.complete(np.array([[60, 0, -1.0, np.nan]]), rng())


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda a, b: a.update(ventricle=np.full(500, 20.0)), ["ventricle", "equal"]),
        (lambda a, b: a.update(ventricle=np.full(500, np.nan)), ["ventricle"]),
        (lambda a, b: a.update({k: v[:3] for k, v in a.items()}), ["3 rows", "10 or more"]),
        (lambda a, b: a["ventricle"].__setitem__(0, -1.0), ["ventricle", "log"]),
        (lambda a, b: a["ventricle"].__setitem__(0, np.inf), ["ventricle", "infinite"]),
        (lambda a, b: a["sex"].__setitem__(0, 2.0), ["sex", "0 to 1"]),
        (lambda a, b: a.pop("sex"), ["sex", "lacks"]),
        (lambda a, b: a.update(sex=a["sex"][:10]), ["different lengths"]),
    ],
)
def test_degenerate_tables_are_refused_clearly(change, words):
    study, tables = cohort()
    change(*tables)
    with pytest.raises(MssgError) as error:
        fit_models(study, tables)
    assert isinstance(error.value, DataError | StudyError)
    for word in words:
        assert word in str(error.value)


def test_too_many_components_are_refused():
    study, tables = cohort(n=15)
    with pytest.raises(DataError, match="components"):
        fit_models(replace(study, models={"grey": ModelSpec("grey", ("age",), "gmm", 10)}), tables)


def test_gaps_in_an_observed_column_are_left_out():
    study, tables = cohort()
    tables[0]["ventricle"][:200] = np.nan
    tables[0]["age"][450:] = np.nan
    models = fit_models(study, tables)
    assert np.isfinite(models.complete(rows_of(tables, study), rng())).all()


def test_a_constant_binary_covariate_is_kept():
    study, tables = cohort()
    tables[0]["sex"][:] = 1.0
    drawn = fit_models(replace(study, models={"sex": ModelSpec("sex", (), "empirical")}), tables).sample(
        50, None, rng()
    )
    assert (drawn["sex"] == 1).all()


def test_evidence_against_the_models_falls_back_on_the_prior(truth):
    """Intensity 10 is impossible; thickness is then drawn from its own distribution, not refused
    mid-training."""
    drawn = truth.sample(4000, {"intensity": 10.0}, rng())["thickness"]
    assert drawn.mean() == pytest.approx(2.5, abs=0.05) and drawn.std() == pytest.approx(
        np.sqrt(0.4), rel=0.06
    )


# ---- analytic models


def test_constants_can_be_overridden_and_are_checked():
    child = Variable("slant")
    model = build("analytic:slant", child, {"amplitude": 40.0, "noise": 0.1})
    assert model.quantile(np.array([0.5]), np.array([[30.0]]))[0] == pytest.approx(40)
    for bad in ({"noise": 0.0}, {"noise": "much"}, {"amplitude": True}):
        with pytest.raises(StudyError, match=r"model\.slant"):
            build("analytic:slant", child, bad)


def test_own_analytic_models_can_be_registered():
    entry = Analytic(ShiftedGamma, {"rate": 2.0}, lambda k, _: ShiftedGamma(0.0, 1.0, k["rate"]))
    register("waiting-time", entry)
    with pytest.raises(StudyError, match="exists"):
        register("waiting-time", entry)
    study = study_of((continuous("x"),), {"A": ("x",)}, [ModelSpec("x", (), "analytic:waiting-time")])
    models = fit_models(study, [{"x": rng().exponential(0.5, 50)}])
    assert models.family("x") == "analytic:waiting-time"
    assert models.conditional_mean("x")[0] == pytest.approx(0.5, rel=1e-9)
