"""Predictors: they learn, report their own error, survive a round trip, and refuse what is no predictor."""

from __future__ import annotations

import numpy as np
import pytest

import mssg
from mssg.data.dataset import open_sources, write_packed
from mssg.errors import SnapshotError, UsageError
from mssg.features import predictors

pytestmark = pytest.mark.slow

STUDY = """
name = "bars"
[image]
resolution = 32
[covariates.height]
kind = "continuous"
unit = "px"
[covariates.bright]
kind = "binary"
[covariates.place]
kind = "categorical"
levels = ["left", "right"]
[[sources]]
name = "A"
path = "a"
observes = ["height", "bright"]
[[sources]]
name = "B"
path = "b"
observes = ["height", "place"]
"""


@pytest.fixture(scope="module")
def bars(tmp_path_factory):
    """Bars whose height, brightness and place are known."""
    folder, rng = tmp_path_factory.mktemp("bars"), np.random.default_rng(0)
    for name in "ab":
        n = 100
        height, bright, place = rng.integers(4, 28, n), rng.integers(0, 2, n), rng.integers(0, 2, n)
        images = np.zeros((n, 1, 32, 32), np.uint8)
        for i in range(n):
            x = 4 if place[i] == 0 else 20
            images[i, 0, : height[i], x : x + 8] = 250 if bright[i] else 120
        split = np.array(["train", "train", "train", "val", "test"])[np.arange(n) % 5]
        table = {
            "subject": [f"{name}{i}" for i in range(n)],
            "split": split,
            "height": height,
            "bright": bright,
            "place": np.array(["left", "right"])[place],
        }
        write_packed(folder / name, images, table, {})
    (folder / "study.toml").write_text(STUDY, encoding="utf-8")
    study = mssg.load_study(folder / "study.toml")
    sources = open_sources(study)
    return study.fit_statistics([s.columns(study, "train") for s in sources]), sources


@pytest.fixture(scope="module")
def trained(bars):
    """A predictor of the bars."""
    return predictors.train(*bars, epochs=6, patience=6, batch=8)


def test_it_learns_every_kind_of_covariate(trained):
    errors = {e.covariate: e for e in trained.errors}
    assert errors["height"].n == 40 and errors["height"].r > 0.8
    assert errors["bright"].n == errors["place"].n == 20
    assert errors["bright"].accuracy > 0.8 and errors["place"].accuracy > 0.8


def test_round_trip(trained, bars, tmp_path):
    again = predictors.Predictor.load(trained.save(tmp_path / "p.safetensors"))
    images = bars[1][0].images[:5]
    for name, values in trained.measure(images).items():
        np.testing.assert_array_equal(again.measure(images)[name], values)
    assert repr(again.errors) == repr(trained.errors)


def test_what_is_no_predictor(trained, bars, tmp_path):
    path = trained.save(tmp_path / "p.safetensors")
    (tmp_path / "cut.safetensors").write_bytes(path.read_bytes()[:-10])
    (tmp_path / "text.safetensors").write_text("no")
    for name in ("cut", "text", "missing"):
        with pytest.raises(SnapshotError, match=name):
            predictors.Predictor.load(tmp_path / f"{name}.safetensors")
    with pytest.raises(UsageError, match="resnet18"):
        predictors.build("resnet9", bars[0])
