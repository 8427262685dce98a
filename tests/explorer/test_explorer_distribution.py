"""Linked movement, support and training ranges, on a snapshot of the small study."""

from __future__ import annotations

import numpy as np
import pytest

from explorer_app.distribution import TrainingDistribution
from explorer_app.state import Axis, Grid
from mssg.checkpoint.header import read_header


@pytest.fixture(scope="module")
def distribution(tiny_snapshot) -> TrainingDistribution:
    return TrainingDistribution(read_header(tiny_snapshot))


@pytest.fixture(scope="module")
def medians(distribution):
    return tuple(distribution.defaults().items())


def test_defaults_are_medians_and_lie_in_range(distribution):
    for name, value in distribution.defaults().items():
        low, high = distribution.range(name)
        assert low <= value <= high
    assert distribution.defaults()["thickness"] == pytest.approx(3.5, abs=0.4)
    edges, counts = distribution.histogram("thickness")
    assert edges.size == counts.size + 1 and counts.sum() > 0
    assert distribution.histogram("digit")[1].size == 3


def test_linked_drag_moves_the_others_as_in_training_and_returns_exactly(distribution, medians):
    drag = distribution.start_drag("thickness", medians)
    assert distribution.follow(drag, drag.start) == dict(medians)
    there = distribution.follow(drag, 4.6)
    # intensity = 60 + 30 thickness, slant = 12 (thickness - 3.5) in the data
    step = 4.6 - drag.start
    assert there["intensity"] - dict(medians)["intensity"] == pytest.approx(30 * step, rel=0.3)
    assert there["slant"] - dict(medians)["slant"] == pytest.approx(12 * step, rel=0.3)
    assert there["digit"] == dict(medians)["digit"] and there["thickness"] == 4.6
    for value in (2.2, 4.9, 3.0):
        distribution.follow(drag, value)
    assert distribution.follow(drag, drag.start) == dict(medians)


def test_linked_drag_follows_against_the_direction_of_the_model(distribution, medians):
    """Thickness is a parent of intensity: moving intensity must move thickness too."""
    drag = distribution.start_drag("intensity", medians)
    assert (
        distribution.follow(drag, dict(medians)["intensity"] + 40)["thickness"]
        > dict(medians)["thickness"] + 0.3
    )


def test_discrete_covariates_move_nothing(distribution, medians):
    assert distribution.start_drag("digit", medians).quantiles == ()


def test_support_is_good_at_the_median_and_says_why_it_is_not(distribution, medians):
    inside = distribution.support(medians)
    assert inside.word == "covered" and inside.percentile > 20
    odd = tuple((n, {"thickness": 4.9, "slant": -17.0}.get(n, v)) for n, v in medians)
    outside = distribution.support(odd)
    assert outside.word in ("rare", "outside") and outside.percentile < inside.percentile
    assert "slant" in outside.reason or "thickness" in outside.reason
    assert "% of training" in outside.reason or "all of training" in outside.reason


def test_support_of_training_rows_is_spread_over_the_percentiles(distribution, medians):
    sampled = distribution.header.models.sample(300, None, np.random.default_rng(0))
    rows = [tuple((n, float(sampled[n][i])) for n, _ in medians) for i in range(300)]
    percentiles = np.array([distribution.support(r).percentile for r in rows])
    assert 35 < np.median(percentiles) < 65


def test_never_together_marks_what_no_source_saw(distribution):
    assert distribution.study.never_observed_with("slant") == ("intensity",)
    assert distribution.study.never_observed_with("thickness") == ()


def test_limits_are_what_the_study_can_mean(distribution):
    low, high = distribution.range("thickness")
    assert distribution.limits("thickness") == (max(0.0, 2 * low - high), 2 * high - low)
    least, most = distribution.limits("slant")  # which goes below zero in training
    assert least < distribution.range("slant")[0] < 0 < most
    assert distribution.is_far("thickness", high + 0.2 * (high - low))
    assert not distribution.is_far("thickness", high + 0.05 * (high - low))


def test_a_drag_that_is_resumed_gives_back_what_its_ends_took(distribution):
    start = distribution.defaults()
    first = distribution.start_drag("thickness", tuple(start.items()))
    at_the_end = distribution.follow(first, distribution.range("thickness")[1])
    again = distribution.resumed_drag(first, "thickness", tuple(at_the_end.items()))
    assert again is first and distribution.follow(again, start["thickness"]) == start
    moved = {**at_the_end, "slant": 1.0}  # something else was moved in between
    assert distribution.resumed_drag(first, "thickness", tuple(moved.items())) is not first
    assert distribution.resumed_drag(first, "slant", tuple(at_the_end.items())).moved == "slant"


def test_axes_of_levels_end_where_the_levels_do(distribution):
    grid = distribution.fitting(Grid(Axis("digit", 0.0, 7.0, 8), Axis("thickness", -3.0, 4.0, 3)))
    assert grid.rows == Axis("digit", 0.0, 2.0, 3) and grid.columns == Axis("thickness", -3.0, 4.0, 3)
