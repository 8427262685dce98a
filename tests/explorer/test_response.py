"""The response curve: which pictures are measured, and what is made of what was read."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from explorer_app.distribution import TrainingDistribution
from explorer_app.request_edits import place
from explorer_app.response import response_curve, response_points
from mssg import assets
from mssg.checkpoint.header import read_header
from mssg.rendering.request import RenderRequest, StoredLatent


@pytest.fixture(scope="module")
def distribution() -> TrainingDistribution:
    return TrainingDistribution(read_header(assets.path("snapshots/brain.safetensors")))


@pytest.fixture(scope="module")
def request_of_medians(distribution) -> RenderRequest:
    return RenderRequest(distribution.path, seed=7, covariates=tuple(distribution.defaults().items()))


def test_in_free_mode_only_the_asked_covariate_moves_and_people_are_the_same(
    distribution, request_of_medians
):
    points = response_points(request_of_medians, distribution, "ventricle", "free", 5, 3)
    assert len(points) == 5 and all(len(p.pictures) == 3 for p in points)
    start = dict(request_of_medians.covariates)
    for point in points:
        assert [place(p)[0] for p in point.pictures] == [7, 8, 9]
        for picture in point.pictures:
            assert dict(picture.covariates) == start | {"ventricle": point.asked}


def test_in_linked_mode_the_others_follow_as_the_slider_moves_them(distribution, request_of_medians):
    points = response_points(request_of_medians, distribution, "age", "linked", 4, 2)
    drag = distribution.start_drag("age", request_of_medians.covariates)
    for point in points:
        assert dict(point.pictures[0].covariates) == distribution.follow(drag, point.asked)
    ventricles = [dict(p.pictures[0].covariates)["ventricle"] for p in points]
    assert ventricles == sorted(ventricles) and ventricles[0] < ventricles[-1]


def test_a_picture_drawn_after_an_image_has_one_person(distribution, request_of_medians):
    mine = replace(request_of_medians, latent=StoredLatent(np.zeros((2, 4), np.float32)))
    points = response_points(mine, distribution, "ventricle", "free", 3, 8)
    assert all(len(p.pictures) == 1 and p.pictures[0].latent is mine.latent for p in points)


def test_slope_error_and_interval_are_those_of_the_readings(distribution, request_of_medians):
    from scipy import stats

    points = response_points(request_of_medians, distribution, "ventricle", "free", 4, 5)
    asked, rng = np.array([p.asked for p in points]), np.random.default_rng(0)
    read = 3 + 0.8 * asked[:, None] + rng.normal(0, 2, (4, 5))
    table: list[list[float | None]] = read.tolist()
    table[1][2] = None
    curve = response_curve(points, table)
    known = np.isfinite(curve.read)
    assert curve.count == 19 and not known[1, 2]
    fit = stats.linregress(np.broadcast_to(asked[:, None], read.shape)[known], curve.read[known])
    assert curve.slope == pytest.approx(fit.slope)
    assert curve.error == pytest.approx(np.abs(curve.read - asked[:, None])[known].mean())
    for i in (0, 1):
        row = curve.read[i][known[i]]
        low, high = stats.t.interval(0.95, len(row) - 1, row.mean(), stats.sem(row))
        assert curve.mean[i] == pytest.approx(row.mean()) and curve.half_width[i] == pytest.approx(
            (high - low) / 2
        )
    none = response_curve(points, [[None] * 5] * 4)
    assert (
        none.count == 0 and np.isnan(none.slope) and np.isnan(none.error) and np.isnan(none.half_width).all()
    )
