"""One contract, held by every family of covariate models."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
from covariate_cases import cases
from scipy.integrate import trapezoid

from mssg.covariates.protocol import CovariateModel, restore

CASES = cases()
DISCRETE = [n for n, c in CASES.items() if hasattr(c.model, "probabilities")]
CONTINUOUS = [n for n in CASES if n not in DISCRETE]


@pytest.fixture(params=CASES)
def case(request):
    return CASES[request.param]


def probes(case, count=7):
    """A few rows of parents across their range."""
    order = np.argsort(case.x[:, -1]) if case.x.shape[1] else np.arange(len(case.x))
    return case.x[order[(np.linspace(0.02, 0.98, count) * (len(order) - 1)).astype(int)]]


def test_follows_the_protocol_and_is_immutable(case):
    assert isinstance(case.model, CovariateModel)
    with pytest.raises(dataclasses.FrozenInstanceError):
        case.model.low = 0.0


def test_samples_have_the_moments_of_the_data(case):
    drawn = np.concatenate([case.model.sample(case.x, np.random.default_rng(s)) for s in range(6)])
    sd = case.y.std()
    assert drawn.mean() == pytest.approx(case.y.mean(), abs=0.12 * sd)
    assert drawn.std() == pytest.approx(sd, rel=0.08)
    if case.x.shape[1]:
        for column in case.x.T:
            seen = np.corrcoef(case.y, column)[0, 1]
            assert np.corrcoef(drawn, np.tile(column, 6))[0, 1] == pytest.approx(seen, abs=0.06)


@pytest.mark.parametrize("name", CONTINUOUS)
def test_density_integrates_to_one_and_to_the_cdf(name):
    model, x = CASES[name].model, probes(CASES[name])
    for row in x:
        ends = model.quantile(np.array([1e-9, 0.3, 1 - 1e-9]), np.tile(row, (3, 1)))
        for high, mass in ((ends[2], 1.0), (ends[1], 0.3)):
            grid = np.linspace(ends[0], high, 8001)
            density = np.exp(model.log_density(grid, np.tile(row, (len(grid), 1))))
            assert trapezoid(density, grid) == pytest.approx(mass, abs=2e-3)


@pytest.mark.parametrize("name", DISCRETE)
def test_probabilities_sum_to_one(name):
    case = CASES[name]
    x = probes(case)
    p = case.model.probabilities(x)
    np.testing.assert_allclose(p.sum(1), 1, atol=1e-12)
    for level in range(p.shape[1]):
        y = np.full(len(x), float(level))
        with np.errstate(divide="ignore"):
            np.testing.assert_allclose(case.model.log_density(y, x), np.log(p[:, level]))
        np.testing.assert_allclose(case.model.cdf(y, x), p[:, : level + 1].sum(1), atol=1e-12)


def test_nothing_outside_the_support(case):
    x = probes(case)
    for y, below in ((case.y.min() - 1e4, 0.0), (case.y.max() + 1e4, 1.0)):
        far = np.full(len(x), y)
        assert case.model.cdf(far, x) == pytest.approx(below)
        assert (case.model.log_density(far, x) < -100).all() or hasattr(case.model, "probabilities")


@pytest.mark.parametrize("name", CONTINUOUS)
def test_quantile_is_the_inverse_of_the_cdf(name):
    model, x = CASES[name].model, probes(CASES[name])
    for q in (0.001, 0.1, 0.5, 0.77, 0.999):
        y = model.quantile(np.full(len(x), q), x)
        np.testing.assert_allclose(model.cdf(y, x), q, atol=1e-9)


@pytest.mark.parametrize("name", DISCRETE)
def test_discrete_quantile_is_the_inverse_of_the_cdf(name):
    case = CASES[name]
    x = probes(case)
    p = case.model.probabilities(x)
    for level in range(p.shape[1]):
        rows = x[p[:, level] > 1e-9]
        y = np.full(len(rows), float(level))
        np.testing.assert_array_equal(case.model.quantile(case.model.cdf(y, rows), rows), y)


def test_samples_follow_the_cdf(case):
    row = probes(case, 3)[[1]]
    x = np.repeat(row, 4000, axis=0)
    y = case.model.sample(x, np.random.default_rng(3))
    if hasattr(case.model, "probabilities"):
        share = np.bincount(y.astype(int), minlength=case.model.probabilities(row).shape[1]) / len(y)
        np.testing.assert_allclose(share, case.model.probabilities(row)[0], atol=0.035)
        return
    u = np.sort(case.model.cdf(y, x))
    assert np.abs(u - (np.arange(len(u)) + 0.5) / len(u)).max() < 0.031  # Kolmogorov, p = 0.001


def test_mean_is_the_mean_of_samples(case):
    row = probes(case, 3)[[1]]
    x = np.repeat(row, 20000, axis=0)
    y = case.model.sample(x, np.random.default_rng(4))
    levels = case.model.probabilities(row).shape[1] if hasattr(case.model, "probabilities") else 0
    if levels <= 2:
        assert case.model.mean(row)[0] == pytest.approx(y.mean(), abs=4.5 * y.std() / np.sqrt(len(y)) + 1e-12)
    else:
        assert case.model.mean(row)[0] == case.model.probabilities(row)[0].argmax()
    square = case.model.mean(row, np.square)[0]
    assert square == pytest.approx((y**2).mean(), abs=4.5 * (y**2).std() / np.sqrt(len(y)) + 1e-12)


def test_state_round_trip_is_exact(case):
    meta, arrays = case.model.state()
    model = restore(json.loads(json.dumps(meta, allow_nan=False)), {k: v.copy() for k, v in arrays.items()})
    assert type(model) is type(case.model)
    assert all(a.dtype in (np.float64, np.int64) for a in arrays.values())
    x, y = probes(case), case.y[:7]
    np.testing.assert_array_equal(model.log_density(y, x), case.model.log_density(y, x))
    np.testing.assert_array_equal(
        model.sample(x, np.random.default_rng(9)), case.model.sample(x, np.random.default_rng(9))
    )
    again = model.state()
    assert again[0] == meta and again[1].keys() == arrays.keys()
    assert all(np.array_equal(again[1][k], arrays[k]) for k in arrays)


def test_the_same_generator_gives_the_same_draws_and_the_same_fit(case):
    first = case.model.sample(case.x, np.random.default_rng(7))
    np.testing.assert_array_equal(first, case.model.sample(case.x, np.random.default_rng(7)))
    np.testing.assert_array_equal(first, case.again().sample(case.x, np.random.default_rng(7)))
    assert (first != case.model.sample(case.x, np.random.default_rng(8))).any()
