"""Corners: the right real images, beside what the model draws with exactly their covariates."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from mssg import load_study
from mssg.errors import UsageError
from mssg.metrics.dataset import open_dataset
from mssg.plotting import corner_figure as figures
from mssg.rendering.request import RenderRequest


@pytest.fixture(scope="module")
def data(tiny_study):
    return open_dataset(load_study(tiny_study), "test")[0]


def test_corners_are_the_ends_of_both_covariates(data):
    corners = figures.corners_of(data, "thickness", "digit", 0.8)
    thickness = data.values[:, data.study.index("thickness")]
    digit = data.values[:, data.study.index("digit")]
    low, high = np.quantile(thickness, [0.2, 0.8])
    expected = [
        np.flatnonzero(t & d) for t in (thickness <= low, thickness >= high) for d in (digit == 0, digit == 2)
    ]
    assert sum(map(len, expected)) > 8
    assert all(np.array_equal(c.rows, rows) for c, rows in zip(corners, expected))
    assert corners[1].lines == [f"thickness ≤ {float(f'{low:.4g}'):g} px", "digit 2"]


def test_real_images_stand_beside_their_own_covariates(data, tiny_renderer, tmp_path):
    corners = figures.corners_of(data, "thickness", "slant", 0.6)
    few = min(corners, key=lambda c: len(c.rows))
    count = len(few.rows) + 1  # so that one cell stays blank
    drawn = figures.corner_figure(tiny_renderer, data, corners, RenderRequest(seed=5), count=count)
    assert drawn.images.shape[:3] == (2, 4, count)
    known = {data.images(np.array([row])).tobytes(): row for row in range(len(data))}
    requests = data.requests(5)
    for corner, real, made in zip(corners, drawn.images[0, ::-1], drawn.images[1, ::-1]):
        for k in range(min(count, len(corner.rows))):
            row = known[real[k].tobytes()]
            assert row in corner.rows
            assert np.array_equal(made[k], tiny_renderer.images(requests[[row]], 5 + k)[0])
    blank = len(few.rows) and drawn.images[:, len(corners) - 1 - corners.index(few), -1]
    assert (blank == figures.BLANK).all()
    said = Image.open(drawn.save(tmp_path / "corners.png")).text
    assert json.loads(said["Covariates"]) == {c.label: len(c.rows) for c in corners}


def test_another_person_before_a_second_image(data):
    twice = np.arange(6).repeat(2)
    doubled = replace(data, rows=data.rows[twice], source=data.source[twice])
    chosen = figures._chosen(doubled, np.arange(12), 6, [0])
    assert len(set(doubled.people[chosen])) == 6
    assert len(set(figures._chosen(doubled, np.arange(12), 9, [0]).tolist())) == 9


def test_wrong_corners_are_refused(data):
    for cols, said in (("thickness", "twice"), ("age", "no such covariate")):
        with pytest.raises(UsageError, match=said):
            figures.corners_of(data, "thickness", cols)
    values = data.values.copy()
    values[:, data.study.index("thickness")] = np.arange(len(data))
    values[:, data.study.index("slant")] = np.roll(np.arange(len(data)), len(data) // 2)
    with pytest.raises(UsageError, match="no real image lies in any"):
        figures.corners_of(replace(data, values=values), "thickness", "slant", 0.99)
