"""Predictors: they learn, say their own error beside a guess's, survive a round trip; others are refused."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import nn

import mssg
from mssg.data.dataset import open_sources
from mssg.data.dataset_writer import write_packed
from mssg.errors import DataError, SnapshotError, UsageError
from mssg.features import predictor_training, predictors, ridge
from mssg.features.labelled import of_one
from mssg.features.pretrained import start_from
from mssg.losses.covariate import CovariateLoss
from mssg.measure.own_error import IN_TURN, own_error

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
    """A network that reads the bars."""
    return predictor_training.train(*bars, "resnet18", epochs=6, patience=6, batch=8)


@pytest.fixture(scope="module")
def regression(bars):
    """What so few images make by themselves."""
    return predictor_training.train(*bars)


def test_it_learns_every_kind_of_covariate(trained):
    errors = {e.covariate: e for e in trained.errors}
    assert errors["height"].n == 40 and errors["height"].r > 0.8
    assert errors["bright"].n == errors["place"].n == 40  # the tables keep what the sources do not observe
    assert errors["bright"].accuracy > 0.8 and errors["place"].accuracy > 0.8


def test_few_images_make_a_regression_that_reads_every_kind(regression):
    assert regression.architecture == "ridge"
    errors = {e.covariate: e for e in regression.errors}
    assert errors["height"].n == errors["height"].people == 200 and errors["height"].on == IN_TURN
    assert errors["height"].r > 0.95 and errors["height"].mae < errors["height"].guess_mae / 3
    assert errors["bright"].accuracy > 0.9 and errors["place"].accuracy > 0.9
    assert all(e.better for e in regression.errors)


@pytest.mark.parametrize("kind", ["trained", "regression"])
def test_round_trip(kind, request, bars, tmp_path):
    made = request.getfixturevalue(kind)
    again = predictors.Predictor.load(made.save(tmp_path / "p.safetensors"))
    images = bars[1][0].images[:5]
    for name, values in made.measure(images).items():
        np.testing.assert_array_equal(again.measure(images)[name], values)
    assert repr(again.errors) == repr(made.errors)


def test_a_file_of_version_1_says_that_no_guess_stands_beside_its_error(regression, tmp_path):
    path = regression.save(tmp_path / "p.safetensors")
    with safe_open(path, "pt") as file:
        document = json.loads(file.metadata()["mssg-predictor"])
    old = [{k: e[k] for k in ("covariate", "n", "mae", "r", "accuracy")} for e in document["errors"]]
    document |= {"format_version": 1, "errors": old}
    save_file(load_file(path), path, {"mssg-predictor": json.dumps(document)})
    found = predictors.Predictor.load(path).errors
    assert [e.mae for e in found[:1]] == [e.mae for e in regression.errors[:1]]
    assert {e.better for e in found} == {None}


def test_a_reading_says_what_it_is_worth(regression):
    known = next(error for error in regression.errors if error.better)
    assert regression.worth(known.covariate) == f" ({known.words()})"
    poor = replace(regression, errors=(replace(known, better=False),))
    assert poor.worth(known.covariate) == f" ({known.words()}: NO BETTER THAN GUESSING)"
    assert "not known" in regression.worth("what nobody recorded")


def test_nobody_is_in_two_folds(bars):
    """Each person has a look of their own and a height that the look does not tell, in five images."""
    study, rng = bars[0], np.random.default_rng(1)
    people = np.repeat([f"p{i}" for i in range(40)], 5)
    looks = np.repeat(rng.integers(0, 200, (40, 1, 32, 32)), 5, axis=0)
    images = (looks + rng.integers(0, 20, looks.shape)).astype(np.uint8)
    values = np.full((200, 3), np.nan)
    values[:, 0] = np.repeat(rng.uniform(4, 28, 40), 5)
    fitted = ridge.fit(study, images, values, people, seed=0)
    with torch.no_grad():
        seen = fitted.network(torch.from_numpy(images).float() / 127.5 - 1).numpy()
    assert abs(np.corrcoef(fitted.left_out[:, 0], values[:, 0])[0, 1]) < 0.4
    left_out = study.decode(fitted.left_out)[:, 0]
    found = own_error(study.covariate("height"), values[:, 0], left_out, guess=16.0, people=people)
    assert found.people == 40 and not found.better
    assert np.isfinite(seen).all() and set(fitted.chosen) == {"height"}


@pytest.mark.parametrize(
    "n, batch, steps", [(60, 8, 240), (111, 16, 240), (1000, 64, 240), (50_000, 64, 7820)]
)
def test_few_images_are_taken_in_small_batches_and_often(n, batch, steps):
    plan = predictor_training.schedule(n)
    assert plan.batch == batch and plan.epochs >= 10
    assert plan.patience == (3 if plan.epochs == 10 else plan.epochs)  # few images: the whole cycle of rates
    assert steps <= plan.epochs * -(-n // plan.batch) < steps + 70
    assert predictor_training.schedule(n, 64, 7, 2) == predictor_training.Schedule(64, 7, 2)


def test_what_is_no_predictor(trained, bars, tmp_path):
    path = trained.save(tmp_path / "p.safetensors")
    (tmp_path / "cut.safetensors").write_bytes(path.read_bytes()[:-10])
    (tmp_path / "text.safetensors").write_text("no")
    for name in ("cut", "text", "missing"):
        with pytest.raises(SnapshotError, match=name):
            predictors.Predictor.load(tmp_path / f"{name}.safetensors")
    with pytest.raises(UsageError, match="not trained as a network"):
        predictor_training.train(*bars, "ridge", epochs=3)
    with pytest.raises(UsageError, match="resnet18"):
        predictors.build("resnet9", bars[0])


def test_what_sources_do_not_observe_may_be_left_alone(bars):
    found = predictor_training.train(*bars, observed_only=True)
    assert {e.covariate: e.n for e in found.errors} == {"height": 200, "bright": 100, "place": 100}


def test_a_predictor_of_one_covariate(bars, tmp_path):
    study, sources = bars
    for observed_only, names in ((False, ["A", "B"]), (True, ["B"])):
        part, opened = of_one(study, sources, "place", observed_only)
        assert [s.name for s in opened] == names and part.condition_names == ("place",)
    found = predictor_training.train(part, opened)
    (error,) = found.errors
    assert error.covariate == "place" and error.accuracy > 0.9
    again = predictors.Predictor.load(found.save(tmp_path / "place.safetensors"))
    assert set(again.measure(sources[0].images[:3])) == {"place"}


def test_rare_levels_count_as_much_as_frequent_ones(bars):
    study = bars[0]
    values = np.array([[5.0, 0, 1]] * 9 + [[6.0, 1, np.nan]])
    weights = predictor_training._level_weights(study, values)(values)
    np.testing.assert_allclose(weights[:, 0], 1)
    assert weights[:9, 1].sum() == pytest.approx(weights[9, 1]) and weights[:, 1].sum() == pytest.approx(10)
    np.testing.assert_allclose(weights[:, 2], 1)  # of one level that is all there is, and of none
    loss = CovariateLoss(study)
    outputs, target = torch.randn(10, study.layout.width), torch.from_numpy(study.encode(values))
    known = torch.from_numpy(np.isfinite(values))
    plain, ones = (loss(outputs, target, known, weights=w)[0] for w in (None, torch.ones(10, 3)))
    assert torch.equal(plain, ones) and loss(outputs, target, known, weights=torch.zeros(10, 3))[0] == 0


@pytest.mark.parametrize("form", ["torchvision", "sequence", "safetensors"])
def test_a_network_starts_from_somebody_elses_weights(form, bars, tmp_path):
    import torchvision

    theirs = torchvision.models.resnet18(weights=None)
    state, path = theirs.state_dict(), tmp_path / "weights.pth"
    if form == "sequence":  # as RadImageNet's ResNet50.pt
        state = {
            f"backbone.{k}": v for k, v in nn.Sequential(*list(theirs.children())[:-1]).state_dict().items()
        }
        torch.save({"state_dict": state}, path)
    elif form == "safetensors":
        path = tmp_path / "weights.safetensors"
        save_file(state, path)
    else:
        torch.save(state, path)
    network = predictors.build("resnet18", bars[0], "theirs")
    assert start_from(network, path).startswith("weights@")
    assert torch.equal(network.layer3[0].conv1.weight, theirs.layer3[0].conv1.weight)
    colours = torch.rand(2, 1, 32, 32)
    with torch.no_grad():  # grey in three channels to theirs, in one to ours
        ours, other = network.conv1(colours), theirs.conv1(colours.expand(-1, 3, -1, -1))
    torch.testing.assert_close(ours, other)


def test_weights_that_do_not_fit(bars, tmp_path):
    import torchvision

    torch.save({"a": torch.zeros(3)}, tmp_path / "other.pth")
    (tmp_path / "damaged.pth").write_bytes(b"no")
    torch.save(torchvision.models.resnet50(weights=None).state_dict(), tmp_path / "fifty.pth")
    for name, said in (
        ("other", "no ResNet"),
        ("damaged", "cannot be read"),
        ("fifty", "another architecture"),
    ):
        with pytest.raises(DataError, match=said):
            start_from(predictors.build("resnet18", bars[0], "theirs"), tmp_path / f"{name}.pth")


def test_started_predictors_say_so(bars, tmp_path):
    import torchvision

    path = tmp_path / "imagenet.pth"
    torch.save(torchvision.models.resnet18(weights=None).state_dict(), path)
    found = predictor_training.train(*bars, "resnet18", init=path, class_weights=True, epochs=1, limit=32)
    again = predictors.Predictor.load(found.save(tmp_path / "p.safetensors"))
    assert again.pretrained.startswith("imagenet@")
    images = bars[1][0].images[:4]
    assert np.array_equal(again.measure(images)["height"], found.measure(images)["height"])
