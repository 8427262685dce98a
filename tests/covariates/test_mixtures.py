"""Mixtures: agreement with the peer package, EM with complete and with missing rows, the knob for unobserved
pairs."""

from __future__ import annotations

import numpy as np
import pytest

from mssg.covariates import truncated
from mssg.covariates.em import default_components, fit_mixture, log_gaussians
from mssg.covariates.joint import JointMixture
from mssg.covariates.mixture import Mixture, MixtureLevels, MixtureModel
from mssg.covariates.protocol import Variable

NAMES = Variable("s"), Variable("i"), Variable("j")


def random_mixture(components: int, columns: int, seed: int = 0) -> Mixture:
    rng = np.random.default_rng(seed)
    root = rng.normal(0, 1, (components, columns, columns))
    covariances = root @ root.transpose(0, 2, 1) + 0.3 * np.eye(columns)
    return Mixture(
        rng.dirichlet(np.full(components, 3.0)), 60 + rng.normal(0, 2, (components, columns)), covariances
    )


@pytest.mark.parametrize(("components", "columns"), [(1, 2), (5, 3), (10, 2)])
def test_conditioning_agrees_with_gmr(components, columns):
    gmr = pytest.importorskip("gmr")
    ours = random_mixture(components, columns)
    peer = gmr.GMM(components, ours.weights, ours.means, ours.covariances)
    given = tuple(range(columns - 1))
    model = MixtureModel(ours, columns - 1, given, -np.inf, np.inf)
    x = 60 + np.random.default_rng(1).normal(0, 3, (20, columns - 1))
    weights, means, sds = model.conditional(x)
    for row in range(len(x)):
        conditional = peer.condition(list(given), x[row])
        np.testing.assert_allclose(weights[row] if components > 1 else [1.0], conditional.priors, atol=1e-8)
        np.testing.assert_allclose(means[row], conditional.means[:, 0], atol=1e-8)
        np.testing.assert_allclose(sds**2, conditional.covariances[:, 0, 0], atol=1e-8)
        y = np.array([57.0, 61.0])
        density = model.log_density(y, x[[row, row]])
        np.testing.assert_allclose(np.exp(density), conditional.to_probability_density(y[:, None]), atol=1e-8)
    np.testing.assert_allclose((weights * means).sum(1), peer.predict(list(given), x)[:, 0], atol=1e-8)


def test_conditioning_on_a_level_reweights_by_its_probability():
    mixture = random_mixture(3, 1)
    table = np.array([[0.9, 0.1], [0.5, 0.5], [0.2, 0.8]])
    mixed = Mixture(mixture.weights, mixture.means, mixture.covariances, (table,))
    weights, _, _ = MixtureModel(mixed, 0, (1,), -np.inf, np.inf).conditional(np.array([[1.0]]))
    np.testing.assert_allclose(weights[0], mixture.weights * table[:, 1] / (mixture.weights @ table[:, 1]))
    p = MixtureLevels(mixed, 1, ()).probabilities(np.empty((1, 0)))
    np.testing.assert_allclose(p[0], mixture.weights @ table)


def test_em_recovers_separate_components_and_is_seeded():
    rng = np.random.default_rng(2)
    label = rng.choice(3, 3000, p=[0.5, 0.3, 0.2])
    x = (
        np.array([[0, 0], [30, 5], [10, -40]])[label]
        + rng.normal(0, 1, (3000, 2)) * np.array([[2, 1], [1, 3], [2, 2]])[label]
    )
    fitted = fit_mixture(x, 3, np.random.default_rng(0))
    order = np.argsort(-fitted.weights)
    np.testing.assert_allclose(fitted.weights[order], [0.5, 0.3, 0.2], atol=0.03)
    np.testing.assert_allclose(fitted.means[order], [[0, 0], [30, 5], [10, -40]], atol=0.4)
    np.testing.assert_allclose(
        np.sqrt(np.einsum("kii->ki", fitted.covariances))[order], [[2, 1], [1, 3], [2, 2]], atol=0.4
    )
    again = fit_mixture(x, 3, np.random.default_rng(0))
    np.testing.assert_array_equal(fitted.means, again.means)


def test_em_follows_the_units_of_the_data():
    x = np.random.default_rng(3).gamma(3, 1, (800, 2))
    fitted = fit_mixture(x, 4, np.random.default_rng(0))
    scaled = fit_mixture(x * [1000, 0.01] + [5, -7], 4, np.random.default_rng(0))
    np.testing.assert_allclose(scaled.means, fitted.means * [1000, 0.01] + [5, -7], rtol=1e-6)


def test_em_survives_ties_and_more_components_than_clusters():
    ages = np.repeat([50.0, 51.0, 52.0], 30)
    fitted = fit_mixture(np.column_stack([ages, ages * 2]), 8, np.random.default_rng(0))
    assert np.isfinite(fitted.means).all() and fitted.weights.sum() == pytest.approx(1)
    np.linalg.cholesky(fitted.covariances)


def test_log_gaussians_is_the_normal_density():
    mixture = random_mixture(2, 2)
    x = np.array([[60.0, 61.0]])
    for k in range(2):
        d = x[0] - mixture.means[k]
        expected = -0.5 * d @ np.linalg.inv(mixture.covariances[k]) @ d - 0.5 * np.log(
            (2 * np.pi) ** 2 * np.linalg.det(mixture.covariances[k])
        )
        assert log_gaussians(x, mixture.means, mixture.covariances)[0, k] == pytest.approx(expected)


def test_default_components_leave_ten_rows_a_parameter():
    assert default_components(100_000, 2) == 10
    assert default_components(500, 2) == 8
    assert default_components(30, 3) == 1


@pytest.mark.parametrize("bounds", [(0.5, 1.0), (-8.0, -7.0), (9.0, 9.5), (60.0, 61.0)])
def test_cut_mixtures_stay_inside_whatever_the_mass(bounds):
    w, m, s = np.array([[0.5, 0.5]]), np.array([[0.0, 1.0]]), np.array([1.0, 0.5])
    y = truncated.sample(w, m, s, *bounds, np.random.default_rng(0), 500)
    assert (y >= bounds[0]).all() and (y <= bounds[1]).all()
    if bounds[0] < 50:  # beyond that no mass is left to be told apart
        assert y.std() > 0
        u = truncated.cdf(np.sort(y), w, m, s, *bounds)
        assert np.abs(u - (np.arange(500) + 0.5) / 500).max() < 0.08
        np.testing.assert_allclose(
            truncated.cdf(truncated.quantile(u, w, m, s, *bounds), w, m, s, *bounds), u, atol=1e-9
        )


# ---- joint model


def blocks(n: int = 2500, partial: float = 0.0, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Complete rows (s, i, j) with a known partial correlation of i and j, and what two sources record of
    them."""
    rng = np.random.default_rng(seed)
    s = rng.normal(60, 8, n)
    noise = rng.multivariate_normal([0, 0], [[1, partial], [partial, 1]], n)
    full = np.column_stack([s, 0.1 * s + 0.6 * noise[:, 0], -0.05 * s + 0.5 * noise[:, 1]])
    seen = full.copy()
    seen[: n // 2, 2] = np.nan
    seen[n // 2 :, 1] = np.nan
    return full, seen


def partial_correlation(rows: np.ndarray) -> float:
    rest = [rows[:, k] - np.polyval(np.polyfit(rows[:, 0], rows[:, k], 1), rows[:, 0]) for k in (1, 2)]
    return float(np.corrcoef(rest)[0, 1])


def draw(model: JointMixture, n: int, seed: int = 1) -> np.ndarray:
    rng = np.random.default_rng(seed)
    rows = np.empty((n, 3))
    for k in range(3):
        rows[:, k] = model.view(k, tuple(range(k))).sample(rows[:, :k], rng)
    return rows


def test_missing_block_em_recovers_a_known_joint():
    full, seen = blocks()
    model = JointMixture.fit(NAMES, seen, np.random.default_rng(0), components=1)
    truth = np.cov(full.T)
    got = model.mixture.covariances[0]
    np.testing.assert_allclose(model.mixture.means[0], full.mean(0), rtol=0.01)
    scale = np.sqrt(np.diag(truth))
    np.testing.assert_allclose(got / np.outer(scale, scale), truth / np.outer(scale, scale), atol=0.06)
    assert model.unobserved == (("i", "j"),)


def test_missing_block_em_uses_rows_that_record_only_part():
    """j is recorded with s in few rows, yet its mean follows the many rows that record s alone with i."""
    rng = np.random.default_rng(4)
    s = rng.normal(0, 1, 4000)
    seen = np.column_stack([s, s + rng.normal(0, 0.3, 4000), 2 * s + rng.normal(0, 0.3, 4000)])
    seen[s > 0, 2] = np.nan  # j recorded only where s is low
    seen[2000:, 1] = np.nan
    model = JointMixture.fit(NAMES, seen, np.random.default_rng(0), components=1)
    assert np.nanmean(seen[:, 2]) < -1.4
    assert model.mixture.means[0, 2] == pytest.approx(0, abs=0.1)


@pytest.mark.parametrize("knob", [-0.6, 0.0, 0.5])
@pytest.mark.parametrize("components", [1, 4])
def test_the_knob_is_the_partial_correlation(knob, components):
    _, seen = blocks()
    model = JointMixture.fit(NAMES, seen, np.random.default_rng(0), components, knob)
    assert model.achieved[0] == pytest.approx(knob, abs=1e-6)
    assert partial_correlation(draw(model, 20_000)) == pytest.approx(knob, abs=0.05)


def test_the_knob_leaves_what_data_say_alone():
    _, seen = blocks()
    fits = [JointMixture.fit(NAMES, seen, np.random.default_rng(0), 1, knob) for knob in (-0.6, 0.0, 0.6)]
    for fit in fits[1:]:
        for pair in ((0, 1), (0, 2)):
            ours, first = (f.mixture.covariances[0][pair] for f in (fit, fits[0]))
            assert ours == pytest.approx(first, rel=2e-3)


def test_observed_partial_correlation_is_estimated_not_stated():
    full, _ = blocks(partial=0.7)
    model = JointMixture.fit(NAMES, full, np.random.default_rng(0), 3, 0.0)
    assert model.unobserved == ()
    assert partial_correlation(draw(model, 20_000)) == pytest.approx(0.7, abs=0.05)


def test_three_pairs_that_cannot_all_hold_still_give_a_valid_covariance():
    rng = np.random.default_rng(6)
    s = rng.normal(0, 1, 900)
    values = np.column_stack([s, *(0.2 * s + rng.normal(0, 1, 900) for _ in range(3))])
    for k in range(3):
        values[300 * k : 300 * (k + 1), [c for c in (1, 2, 3) if c != k + 1]] = np.nan
    names = (*NAMES, Variable("k"))
    model = JointMixture.fit(names, values, np.random.default_rng(0), 1, -0.9)  # three at −0.9 are impossible
    np.linalg.cholesky(model.mixture.covariances)
    assert (model.achieved < -0.3).all() and (model.achieved > -0.7).all()
