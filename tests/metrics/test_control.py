"""The control measure on generators whose obedience is known beforehand."""

from __future__ import annotations

import json
import math
from types import SimpleNamespace

import numpy as np
import pytest

from mssg.errors import UsageError
from mssg.metrics.agreement import correlation, readings, regressors
from mssg.metrics.control import control
from mssg.metrics.spread import ClassVariance
from mssg.study.covariate import Covariate
from mssg.study.model import Source, Study

TIED = ("thickness", "digit")


def _study(**changes):
    covariates = (
        Covariate("thickness", "continuous", "px"),
        Covariate("intensity", "continuous", "levels"),
        Covariate("slant", "continuous", "°"),
        Covariate("digit", "categorical", levels=("0", "1", "2")),
    )
    sources = (
        Source("A", "a", ("thickness", "intensity", "digit")),
        Source("B", "b", ("thickness", "slant", "digit")),
    )
    return Study("toy", 32, 1, covariates, sources, **changes)


class Equations:
    """The structural equations of Morpho-MNIST, written down anew: thickness drives intensity and slant."""

    names = ("thickness", "intensity", "slant", "digit")

    def sample(self, n, given, rng):
        t = given.get("thickness", 0.5 + rng.gamma(10, 0.2, n))
        drawn = {
            "thickness": t,
            "intensity": 64 + 191 / (1 + np.exp(-(2 * t - 5 + rng.normal(0, 0.5, n)))),
            "slant": 56 * np.tanh(t - 2.5 + rng.normal(0, 0.3, n)),
            "digit": rng.integers(3, size=n).astype(float),
            "source": rng.integers(2, size=n).astype(float),
        }
        return drawn | given

    def quantile(self, name, q, given):
        from scipy.stats import norm

        t, e = given["thickness"], norm.ppf(q)
        if name == "intensity":
            return 64 + 191 / (1 + np.exp(-(2 * t - 5 + 0.5 * e)))
        return 56 * np.tanh(t - 2.5 + 0.3 * e)

    def log_density(self, values):
        t, i, s = values[:, 0], values[:, 1], values[:, 2]
        p = np.clip((i - 64) / 191, 1e-9, 1 - 1e-9)
        a = (np.log(p / (1 - p)) - (2 * t - 5)) / 0.5
        b = (np.arctanh(np.clip(s / 56, -1 + 1e-9, 1 - 1e-9)) - (t - 2.5)) / 0.3
        return -0.5 * (a * a + b * b) + 9 * np.log(np.maximum(t - 0.5, 1e-9)) - 5 * t


def draw(values, seed, noise=1.0):
    """Images that carry their values in 4x4 blocks: thickness · 40, intensity, slant + 100, with pixel
    noise."""
    rng = np.random.default_rng(seed)
    images = np.zeros((len(values), 1, 8, 8))
    for block, x in enumerate((values[:, 0] * 40, values[:, 1], values[:, 2] + 100)):
        row, column = 4 * (block // 2), 4 * (block % 2)
        images[:, 0, row : row + 4, column : column + 4] = x[:, None, None]
    images[:, 0, 4:, 4:] = 20 * values[:, 3, None, None]
    return np.rint(np.clip(images + rng.normal(0, noise, images.shape), 0, 255)).astype(np.uint8)


def read(images):
    """The instrument that undoes `draw`."""
    x = images[:, 0].astype(float)
    return {
        "thickness": x[:, :4, :4].mean((1, 2)) / 40,
        "intensity": x[:, :4, 4:].mean((1, 2)),
        "slant": x[:, 4:, :4].mean((1, 2)) - 100,
    }


def report(generate, measure=read, **options):
    return control(generate, _study(), Equations(), measure, **({"n": 1000, "seed": 3} | options))


def disobedient(values, seed):
    """Obeys thickness and draws what usually goes with it, whatever else was asked for."""
    t = values[:, 0]
    typical = values.copy()
    typical[:, 1] = 64 + 191 / (1 + np.exp(-(2 * t - 5)))
    typical[:, 2] = 56 * np.tanh(t - 2.5)
    return draw(typical, seed)


def test_an_obedient_generator_scores_one():
    found = report(draw)
    for row in found.rows:
        assert row.partial_r > 0.97 and row.slope == pytest.approx(1, abs=0.03), row
        assert abs(row.bias) < 0.02 * row.requested_sd + 0.1 and row.unmeasurable == 0
    assert {(r.design, r.covariate) for r in found.headline} == {
        ("a", "thickness"),
        ("b", "intensity"),
        ("b", "slant"),
    }
    row = found.row("b", "intensity")
    assert row.removed == TIED and row.partial_r_ci95[0] <= row.partial_r <= row.partial_r_ci95[1]
    assert row.mae == pytest.approx(
        0.3, abs=0.1
    )  # 16 pixels of noise 1, rounded: 0.25 grey levels and a little


def test_requests_of_one_source_are_all_of_it():
    study, asked = _study(condition_on_source=True), []

    def generate(values, seed):
        asked.append(values[:, 4])
        return draw(values, seed)

    found = control(
        generate, study, Equations(), read, n=100, seed=0, designs=("a", "b", "shuffled"), source="B"
    )
    assert all((column == 1).all() for column in asked) and found.source == "B"
    assert found.row("b", "slant").removed == TIED and "toy, B" in found.table()
    with pytest.raises(UsageError, match="no such source"):
        control(draw, study, Equations(), read, n=100, source="C")
    with pytest.raises(UsageError, match="condition_on_source"):
        report(draw, n=100, source="B")


def test_plain_correlation_is_fooled_and_partial_correlation_is_not():
    found = report(disobedient)
    for name in ("intensity", "slant"):
        drawn, conditional = found.row("a", name), found.row("b", name)
        assert drawn.r > 0.85, "the case should be one where plain correlation looks convincing"
        assert abs(drawn.partial_r) < 0.1 and abs(conditional.partial_r) < 0.1
        assert abs(conditional.slope) < 0.02
        assert abs(found.row("shuffled", name).r) < 0.12
        assert conditional.partial_r_ci95[0] < 0.1 and conditional.partial_r_ci95[1] > -0.1
    assert found.row("a", "thickness").r > 0.99


@pytest.mark.parametrize("factor, shift", [(0.5, 0.0), (1.0, 12.0)])
def test_slope_and_bias_are_in_native_units(factor, shift):
    def generate(values, seed):
        changed = values.copy()
        changed[:, 1] = 150 + factor * (values[:, 1] - 150) + shift
        return draw(changed, seed)

    row = report(generate, designs=("b",)).row("b", "intensity")
    assert row.slope == pytest.approx(factor, abs=0.03)
    if factor == 1:  # bright digits clip at 255, which takes a little off
        assert row.bias == pytest.approx(shift, abs=1.5) and row.mae == pytest.approx(shift, abs=1.5)


def test_noise_lowers_the_correlation_as_it_should():
    def generate(values, seed):
        changed = values.copy()
        changed[:, 1] += np.random.default_rng(seed).normal(0, 20, len(values))
        return draw(changed, seed)

    row = report(generate, designs=("b",), n=4000).row("b", "intensity")
    values = Equations().sample(20000, {}, np.random.default_rng(0))
    q = np.array([0.1, 0.3, 0.5, 0.7, 0.9])[np.arange(20000) % 5]
    asked = Equations().quantile("intensity", q, values)
    rest = asked - Equations().quantile("intensity", np.full(20000, 0.5), values)
    expected = rest.std() / math.hypot(rest.std(), 20)
    assert row.partial_r == pytest.approx(expected, abs=0.05)
    assert row.partial_r_ci95[0] < expected + 0.03 and row.partial_r_ci95[1] > expected - 0.03


def test_unreadable_images_are_counted_and_left_out():
    def measure(images):
        found = read(images)
        found["slant"][::4] = np.nan
        return found

    row = report(draw, measure, designs=("a",)).row("a", "slant")
    assert (
        row.unmeasurable == pytest.approx(0.25, abs=0.01)
        and row.n == round(1000 * (1 - row.unmeasurable))
        and row.partial_r > 0.97
    )
    nothing = report(draw, lambda x: {"slant": np.full(len(x), np.nan)}, designs=("a",)).row("a", "slant")
    assert nothing.n == 0 and nothing.unmeasurable == 1 and math.isnan(nothing.r)


def test_the_grid_marks_what_lies_outside_the_support():
    found = report(draw, designs=("c",))
    cells = [c for c in found.cells if c.covariate == "intensity"]
    assert len(cells) == 25 and {c.by for c in cells} == {"thickness"}
    values, by = sorted({c.value for c in cells}), sorted({c.by_value for c in cells})
    inside = {(values.index(c.value), by.index(c.by_value)): c.inside for c in cells}
    assert not inside[0, 4] and not inside[4, 0], "bright thin and dark thick digits do not occur"
    assert inside[4, 4] and inside[0, 0]
    assert {row.design for row in found.rows} == {"c", "c-outside"}
    for cell in cells:
        assert cell.measured == pytest.approx(cell.value, abs=1) and cell.n == 40


def test_one_digit_per_class_shows_in_the_spread_and_nowhere_else():
    study = _study()
    rng = np.random.default_rng(1)
    digit = np.arange(600) % 3.0
    real = rng.integers(0, 100, (600, 1, 8, 8)).astype(np.uint8) + 50 * digit[:, None, None, None].astype(
        np.uint8
    )
    truth = np.full((600, 4), np.nan)
    truth[:, 3] = digit
    source = SimpleNamespace(
        images=real,
        values=truth,
        table={},
        rows=lambda split: np.arange(300, 600) if split == "test" else np.arange(300),
    )

    def generate(values, seed):
        images = draw(values, seed, noise=0)
        images[:] = 60 * values[:, 3, None, None, None]  # the class alone …
        images[:, 0, ::2, ::2] += (
            np.random.default_rng(seed).integers(0, 2, len(images)).astype(np.uint8)[:, None, None] * 58
        )
        return images

    found = control(generate, study, Equations(), read, n=600, seed=0, sources=(source,), designs=("a",))
    whole, *classes = found.spread
    # a coin toss over a quarter of the pixels: sd 29 there, 14.5 over all; uniform 0…99 has sd 28.9
    assert whole.real == pytest.approx(28.9, rel=0.02) and whole.generated == pytest.approx(14.5, rel=0.02)
    assert whole.ratio == pytest.approx(0.5, rel=0.03) and whole.n_real == 300
    assert [s.level for s in classes] == ["0", "1", "2"] and all(abs(s.ratio - 0.5) < 0.03 for s in classes)


def test_truth_beside_the_observed_columns_tells_the_classes():
    study = _study()
    images = np.zeros((4, 1, 2, 2), np.uint8)
    images[1], images[3] = 100, 100
    source = SimpleNamespace(
        images=images,
        values=np.full((4, 4), np.nan),
        table={"digit": np.array(["0", "0", "2", "x"])},
        rows=lambda split: np.arange(4),
    )
    from mssg.metrics.spread import real_variance

    found = real_variance((source,), study)
    assert found.count.tolist() == [2, 0, 1]
    assert found.variance()[0] == pytest.approx(5000) and np.isnan(found.variance()[1:]).all()


def test_running_variance_equals_the_plain_one():
    rng = np.random.default_rng(0)
    images, level = (
        rng.integers(0, 256, (1200, 1, 4, 4)).astype(np.uint8),
        rng.integers(0, 2, 1200).astype(float),
    )
    total = ClassVariance(2)
    total.add(images[:700], level[:700])
    total.add(images[700:], level[700:])
    for k in range(2):
        expected = images[level == k].astype(float).var(0, ddof=1).mean()
        assert total.variance()[k] == pytest.approx(expected)


def test_a_source_that_is_an_input_is_removed_too():
    found = control(draw, _study(condition_on_source=True), Equations(), read, n=200, seed=0, designs=("b",))
    assert found.shared == ("thickness", "digit", "source") and found.row("b", "slant").partial_r > 0.9


def test_where_everything_is_shared_each_covariate_is_varied_given_the_others():
    study = _study()
    single = Study(
        "one", 32, 1, study.covariates, (Source("all", "x", tuple(c.name for c in study.covariates)),)
    )
    everything = control(draw, single, _Chain(), read, n=500, seed=0, designs=("a", "b"))
    assert {r.covariate for r in everything.rows if r.design == "b"} == {"thickness", "intensity", "slant"}
    compared = control(draw, single, Equations(), read, n=500, seed=0, designs=("b",), shared=TIED)
    assert [r.covariate for r in compared.rows] == ["intensity", "slant"]
    assert compared.row("b", "slant").removed == TIED


class _Chain(Equations):
    def quantile(self, name, q, given):
        if name == "thickness":
            return np.interp(q, [0, 1], [1.5, 3.5]) + 0 * given["slant"]
        return super().quantile(name, q, given)


def test_binary_and_categorical_covariates_report_accuracy():
    covariates = (Covariate("ill", "binary"), Covariate("grade", "categorical", levels=("a", "b", "c")))
    study = Study("flags", 32, 1, covariates, (Source("A", "a", ("ill",)), Source("B", "b", ("grade",))))
    models = SimpleNamespace(
        sample=lambda n, given, rng: {
            "ill": rng.integers(2, size=n) * 1.0,
            "grade": rng.integers(3, size=n) * 1.0,
        }
    )

    def generate(values, seed):
        images = np.zeros((len(values), 1, 2, 2), np.uint8)
        images[:, 0, 0, 0], images[:, 0, 1, 1] = values[:, 0], values[:, 1]
        images[::5, 0, 1, 1] = 7  # every fifth grade is wrong
        return images

    def measure(x):
        return {"ill": x[:, 0, 0, 0] * 1.0, "grade": x[:, 0, 1, 1] * 1.0}

    found = control(generate, study, models, measure, n=300, seed=0)
    assert found.row("b", "ill").accuracy == 1 and found.row("b", "ill").partial_r == pytest.approx(1)
    assert found.row("a", "grade").accuracy == pytest.approx(0.8) and math.isnan(found.row("a", "grade").r)
    assert "hits" in found.table()


def test_a_generator_that_never_changes_has_no_correlation_and_says_so():
    found = report(lambda values, seed: np.full((len(values), 1, 8, 8), 77, np.uint8), designs=("a",))
    assert all(math.isnan(row.r) and math.isnan(row.partial_r) for row in found.rows)
    assert found.row("a", "intensity").mae > 10
    assert "–" in found.table()


def test_report_is_json_and_text_and_depends_on_the_seed_alone():
    calls = []
    one, two = (
        report(draw, n=100, progress=lambda done, total: calls.append((done, total))),
        report(draw, n=100),
    )
    assert one.to_json() == two.to_json() != report(draw, n=100, seed=4).to_json()
    assert calls[-1][0] == calls[-1][1] == 600 and [c[0] for c in calls] == sorted(c[0] for c in calls)
    text = json.dumps(one.to_json(), allow_nan=False)
    assert json.loads(text)["rows"][0]["covariate"] == "thickness"
    lines = one.table().splitlines()
    table = [line for line in lines if line.startswith(("a ", "b ", "c ", "c-", "shuffled "))]
    assert len(table) >= 9 and "partial r" in one.table() and "thickness, digit" in one.table()


def test_wrong_requests_are_refused():
    with pytest.raises(UsageError, match="designs: unknown value"):
        report(draw, designs=("z",))
    with pytest.raises(UsageError, match="no such covariate"):
        report(draw, shared=("age",))
    with pytest.raises(UsageError, match="too few images"):
        report(draw, n=3)
    with pytest.raises(UsageError, match="measures no covariate"):
        report(draw, lambda images: {"weight": np.zeros(len(images))})


def test_regressors_and_correlation():
    values = np.array([[1.0, 0, 0, 0], [2.0, 0, 0, 1], [4.0, 0, 0, 2]])
    x = regressors(_study(), values, TIED)
    assert x.shape == (3, 1 + 7 + 2) and x[:, 8:].tolist() == [[0, 0], [1, 0], [0, 1]]
    assert math.isnan(correlation(np.full(5, 0.1), np.arange(5.0)))
    assert correlation(np.arange(5.0), -np.arange(5.0)) == pytest.approx(-1)


def test_readings_by_request_are_means_of_bins_and_levels():
    rng = np.random.default_rng(0)
    asked = rng.normal(60, 10, 800)
    found = readings(Covariate("age", "continuous"), asked, 0.5 * asked + rng.normal(0, 2, 800))
    assert len(found) == 8 and all(bin.n == 100 for bin in found)
    assert [bin.requested for bin in found] == sorted(bin.requested for bin in found)
    for bin in found:
        assert bin.measured == pytest.approx(0.5 * bin.requested, abs=0.8)
        assert bin.ci95[0] < bin.measured < bin.ci95[1] and bin.low < bin.ci95[0]
    few = readings(Covariate("age", "continuous"), asked[:7], asked[:7])
    assert len(few) == 1 and few[0].n == 7
    levels = readings(Covariate("site", "categorical", levels=("a", "b")), np.array([0.0, 0, 1]), np.zeros(3))
    assert [(bin.requested, bin.measured, bin.n) for bin in levels] == [(0, 1, 2), (1, 0, 1)]
