"""The strata prediction score against a script that does it the slow way."""

from __future__ import annotations

import math

import numpy as np
import pytest

from mssg.errors import UsageError
from mssg.metrics.strata import score, stratify, weighted
from mssg.study.covariate import Covariate
from mssg.study.model import Study

AGE = Covariate("age", "continuous", "years")
SEX = Covariate("sex", "binary")
KIND = Covariate("kind", "categorical", levels=("a", "b", "c"))
STUDY = Study("toy", 8, 1, (AGE, SEX, KIND), ())


def toy(n=400, seed=0):
    rng = np.random.default_rng(seed)
    real = np.stack([rng.gamma(4, 10, n), rng.integers(2, size=n), rng.integers(3, size=n)], axis=1)
    return real.astype(float), rng


def test_equals_brute_force():
    real, rng = toy()
    strata = stratify(STUDY, real, ("age", "sex"), bins=3, min_count=5)
    lower, upper = np.quantile(real[:, 0], [1 / 3, 2 / 3])
    brute_value, brute_weight, found_value = {}, [], {}
    k = 0
    for low, high in ((-np.inf, lower), (lower, upper), (upper, np.inf)):
        for sex in (0, 1):
            rows = [i for i in range(len(real)) if low < real[i, 0] <= high and real[i, 1] == sex]
            assert rows == strata.cells[k].rows.tolist()
            drawn = rng.choice(rows, 50)
            asked = real[drawn, 0]
            measured = 0.8 * asked + rng.normal(size=50)
            measured[3] = np.nan  # nothing to be read on this one
            pairs = [(a, m) for a, m in zip(asked, measured) if not math.isnan(m)]
            mse = sum((m - a) ** 2 for a, m in pairs) / len(pairs)
            mae = sum(abs(m - a) for a, m in pairs) / len(pairs)
            r = np.corrcoef([a for a, _ in pairs], [m for _, m in pairs])[0, 1]
            got = score(AGE, asked, measured, drawn, rng=rng)
            assert got.n == 49 and got.unmeasurable == pytest.approx(1 / 50)
            for name, value in (("mse", mse), ("mae", mae), ("pearson", r)):
                assert got.stats[name].value == pytest.approx(value, rel=1e-9)
                assert got.stats[name].ci95[0] < value < got.stats[name].ci95[1]
                brute_value.setdefault(name, []).append(value)
                found_value.setdefault(name, []).append(got.stats[name])
            brute_weight.append(len(rows))
            k += 1
    assert k == len(strata.cells) and sum(brute_weight) == len(real)
    for name, values in brute_value.items():
        mean = sum(w * v for w, v in zip(brute_weight, values)) / sum(brute_weight)
        whole = weighted(found_value[name], brute_weight)
        assert whole.value == pytest.approx(mean, rel=1e-9) and whole.ci95[0] < mean < whole.ci95[1]


def test_discrete_statistics_equal_their_definitions():
    rng = np.random.default_rng(1)
    true = rng.integers(2, size=300)  # level "c" never occurs in the reference, but is sometimes read
    read = np.where(rng.random(300) < 0.7, true, rng.integers(3, size=300))
    recalls = [np.mean(read[true == k] == k) for k in (0, 1)]
    f1 = []
    for k in range(3):
        hit = np.sum((true == k) & (read == k))
        f1.append(2 * hit / (np.sum(true == k) + np.sum(read == k)))
    got = score(KIND, true.astype(float), read.astype(float), np.arange(300), rng=rng).stats
    assert got["accuracy"].value == pytest.approx(np.mean(true == read))
    assert got["balanced_accuracy"].value == pytest.approx(np.mean(recalls))
    assert got["f1"].value == pytest.approx(np.mean(f1))
    read2 = np.minimum(read, 1)
    binary = score(SEX, true.astype(float), read2.astype(float), np.arange(300), rng=rng).stats
    hit = np.sum((true == 1) & (read2 == 1))
    assert binary["f1"].value == pytest.approx(2 * hit / (true.sum() + read2.sum()))
    assert binary["precision"].value == pytest.approx(hit / read2.sum())
    assert binary["recall"].value == pytest.approx(hit / true.sum())
    assert binary["pearson"].value == pytest.approx(np.corrcoef(true, read2)[0, 1])
    assert set(got) == {"accuracy", "balanced_accuracy", "f1"}


def test_half_open_bins_are_those_of_the_research_code():
    """Ages in whole years, so that edges have ties: [low, high) between quantiles, the largest in no bin."""
    real, _ = toy()
    real[:, 0] = np.floor(real[:, 0])
    age = real[:, 0]
    strata = stratify(STUDY, real, ("age",), bins=3, min_count=5, half_open=True)
    edges = [age.min(), np.quantile(age, 1 / 3), np.quantile(age, 2 / 3), age.max()]
    for k, cell in enumerate(strata.cells):
        assert cell.limits["age"] == [edges[k], edges[k + 1]]
        assert cell.rows.tolist() == np.flatnonzero((age >= edges[k]) & (age < edges[k + 1])).tolist()
    assert len(strata.cells) == 3 and strata.rows_at_top == (age == age.max()).sum() > 0
    closed = stratify(STUDY, real, ("age",), bins=3, min_count=5)
    assert closed.rows_at_top == 0 and [len(c.rows) for c in closed.cells] != [
        len(c.rows) for c in strata.cells
    ]
    assert sum(len(c.rows) for c in closed.cells) == len(real)


def test_bootstrap_draws_real_images_not_pairs():
    rng = np.random.default_rng(2)
    asked = np.repeat(rng.normal(60, 10, 12), 100)
    measured = asked + np.repeat(rng.normal(0, 5, 12), 100)  # an error that all pairs of an image share
    wide = score(AGE, asked, measured, np.repeat(np.arange(12), 100), rng=rng).stats["mae"]
    narrow = score(AGE, asked, measured, np.arange(1200), rng=rng).stats["mae"]
    assert np.ptp(wide.ci95) > 4 * np.ptp(narrow.ci95)


def test_small_strata_missing_values_and_ties():
    real = np.array([[1.0, 0, 0], [1, 0, 0], [1, 0, 0], [1, 0, 0], [2, 1, 1], [3, 1, 1], [np.nan, 1, 1]])
    strata = stratify(STUDY, real, ("age", "kind"), bins=3, min_count=2)
    assert [s.rows.tolist() for s in strata.cells] == [[0, 1, 2, 3], [4, 5]] or strata.too_few
    assert strata.rows_unknown == 1
    assert sum(len(s.rows) for s in strata.cells) + strata.rows_lost == 6
    assert strata.cells[0].limits["kind"] == "a" and strata.cells[0].limits["age"][0] == 1.0


def test_what_is_undefined_stays_undefined():
    rng = np.random.default_rng(3)
    flat = score(AGE, np.full(20, 5.0), np.full(20, 6.0), np.arange(20), rng=rng)
    assert flat.stats["mae"].value == 1 and math.isnan(flat.stats["pearson"].value)
    empty = score(AGE, np.full(3, np.nan), np.ones(3), np.arange(3), rng=rng)
    assert empty.n == 0 and math.isnan(empty.stats["mse"].value)
    both = weighted(
        [
            flat.stats["pearson"],
            score(AGE, *np.random.default_rng(4).normal(size=(2, 9)), np.arange(9), rng=rng).stats["pearson"],
        ],
        [50, 1],
    )
    assert math.isfinite(both.value)
    assert math.isnan(weighted([flat.stats["pearson"]], [5]).value)


def test_impossible_strata_are_refused():
    real, _ = toy(20)
    with pytest.raises(UsageError, match="two bins"):
        stratify(STUDY, real, ("age",), bins=1)
    with pytest.raises(UsageError, match="--by"):
        stratify(STUDY, np.full((5, 3), np.nan), ("age",))
