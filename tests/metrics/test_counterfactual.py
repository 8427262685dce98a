"""Counterfactual metrics on editors whose soundness is known beforehand."""

from __future__ import annotations

import numpy as np
import pytest

from mssg.errors import UsageError
from mssg.metrics.bootstrap import mean_and_interval
from mssg.metrics.counterfactual import counterfactual, derangement
from mssg.study.covariate import Covariate
from mssg.study.model import Source, Study

STUDY = Study(
    "toy",
    8,
    1,
    (
        Covariate("left", "continuous", "levels"),
        Covariate("right", "continuous", "levels"),
        Covariate("mark", "categorical", levels=("0", "1", "2")),
    ),
    (Source("A", "a", ("left", "right", "mark")),),
)
INSTRUMENTS = dict.fromkeys(("left", "right", "mark"), "oracle-toy")


class Models:
    """Independent uniform covariates."""

    def quantile(self, name, q, given):
        return 40 + 100 * np.asarray(q)


def paint(values, identity):
    """Left and right columns carry two covariates, a corner the mark, and the bottom who it is."""
    images = np.zeros((len(values), 1, 8, 8))
    images[:, 0, :4, :4], images[:, 0, :4, 4:] = values[:, 0, None, None], values[:, 1, None, None]
    images[:, 0, 4:, :] = identity[:, None, :]
    images[:, 0, 7, 7] = 80 * values[:, 2]
    return np.rint(np.clip(images, 0, 255)).astype(np.uint8)


def read(images):
    x = images[:, 0].astype(float)
    return {"left": x[:, :4, :4].mean((1, 2)), "right": x[:, :4, 4:].mean((1, 2)), "mark": x[:, 7, 7] / 80}


class Perfect:
    """Keeps identity and does what is asked."""

    def abduct(self, images, values):
        return images[:, 0, 4, :].astype(float)

    def predict(self, state, values):
        return paint(values, state)

    def draw(self, values, seed):
        return paint(values, np.random.default_rng(seed).uniform(0, 255, (len(values), 8)))


class Lazy(Perfect):
    """Remembers the image and changes nothing."""

    def abduct(self, images, values):
        return images

    def predict(self, state, values):
        return state


class Leaky(Perfect):
    """Moves `right` along with `left`, and forgets a third of who it was."""

    def abduct(self, images, values):
        self.before = values[:, 0].copy()
        return images[:, 0, 4, :] * 0.9

    def predict(self, state, values):
        values = values.copy()
        values[:, 1] += 0.5 * (values[:, 0] - self.before)
        return paint(values, state)


@pytest.fixture(scope="module")
def people():
    rng = np.random.default_rng(0)
    values = np.stack([*rng.uniform(40, 140, (2, 40)), rng.integers(0, 3, 40).astype(float)], axis=1).round()
    return paint(values, rng.uniform(0, 255, (40, 8))), values


def found(editor, people, **options):
    results = counterfactual(
        editor,
        STUDY,
        Models(),
        measure=read,
        images=people[0],
        values=people[1],
        instruments=INSTRUMENTS,
        seed=1,
        **options,
    )
    return {(r.metric.split("/")[1], r.moved, r.covariate): r for r in results}


def test_a_perfect_editor_is_sound(people):
    r = found(Perfect(), people)
    assert r["composition_1", None, None].value == r["composition_2", None, None].value == 0
    assert r["composition_1", None, None].detail["another_image"] > 20
    for name in ("left", "right", "mark"):
        assert r["reversibility", name, None].value == 0
        assert r["reversibility", name, None].detail["edited"] > 0
        assert r["identity", name, None].value < 0.6
    effect = r["effectiveness_mae", "left", "left"]
    assert effect.value < 0.5 < 20 < effect.detail["doing_nothing"] and effect.real_floor == 0
    assert (
        effect.detail["slope"] == pytest.approx(1, abs=0.01)
        and effect.ci95[0] <= effect.value <= effect.ci95[1]
    )
    assert (
        r["effectiveness_hits", "mark", "mark"].value == 1
        and r["effectiveness_hits", "mark", "mark"].detail["doing_nothing"] == 0
    )
    assert r["minimality", "left", "right"].value == r["minimality", "left", "mark"].value == 0
    assert r["minimality", "left", "right"].detail["another_image"] > 0.5


def test_doing_nothing_is_found_out(people):
    r = found(Lazy(), people)
    effect = r["effectiveness_mae", "left", "left"]
    assert effect.value == pytest.approx(effect.detail["doing_nothing"]) and effect.detail["slope"] == 0
    assert r["effectiveness_hits", "mark", "mark"].value == 0
    assert r["reversibility", "left", None].value == 0 == r["reversibility", "left", None].detail["edited"]


def test_leaks_and_forgetting_are_found_out(people):
    r = found(Leaky(), people)
    assert r["effectiveness_mae", "left", "left"].value < 0.5
    moved = np.abs(found(Perfect(), people)["effectiveness_mae", "left", "left"].detail["doing_nothing"])
    sd = float(np.std(read(people[0])["right"]))
    assert r["minimality", "left", "right"].value == pytest.approx(0.5 * moved / sd, rel=0.02)
    assert r["minimality", "right", "left"].value == 0
    assert 0 < r["composition_1", None, None].value < r["composition_2", None, None].value
    assert r["reversibility", "right", None].value == pytest.approx(
        r["composition_2", None, None].value, rel=0.2
    )


def test_unreadable_images_are_left_out_and_counted(people):
    def half(images):
        values = read(images)
        values["left"] = np.where(np.arange(len(images)) % 2, values["left"], np.nan)
        return values

    results = counterfactual(
        Perfect(), STUDY, Models(), measure=half, images=people[0], values=people[1], instruments=INSTRUMENTS
    )
    effect = next(r for r in results if r.metric.endswith("effectiveness_mae") and r.covariate == "left")
    assert effect.n == 20 and effect.detail["unreadable"] == 0.5


def test_seeds_decide_and_mistakes_are_refused(people):
    a, b = (found(Perfect(), people) for _ in range(2))
    assert a == b
    with pytest.raises(UsageError, match="too few"):
        found(Perfect(), (people[0][:3], people[1][:3]))
    with pytest.raises(UsageError, match="every image"):
        found(Perfect(), (people[0], np.full_like(people[1], np.nan)))
    other = derangement(9, np.random.default_rng(0))
    assert sorted(other) == list(range(9)) and (other != np.arange(9)).all()
    assert mean_and_interval(np.array([np.nan]), np.random.default_rng(0)) == (None, None, 0)


@pytest.mark.slow
def test_a_generator_s_own_images_are_edited(tiny_snapshot):
    from mssg.checkpoint.snapshot import load_snapshot
    from mssg.inversion.projector import InvertConfig
    from mssg.metrics.counterfactual import GeneratorEditor
    from mssg.rendering.renderer import Renderer

    snapshot = load_snapshot(tiny_snapshot)
    renderer = Renderer(snapshot)
    values = np.stack([renderer.values({"thickness": t}) for t in np.linspace(2, 5, 8)])
    images = renderer.images(values, np.arange(8))
    told = []
    editor = GeneratorEditor(snapshot, InvertConfig(steps=3, candidates=4, features="none"), 5, told.append)
    level = lambda x: {"intensity": x.mean((1, 2, 3))}  # noqa: E731
    results = counterfactual(
        editor,
        snapshot.study,
        snapshot.models,
        measure=level,
        images=images,
        values=values,
        instruments={"intensity": "toy"},
        cycles=1,
    )
    names = {(r.metric, r.moved) for r in results}
    assert ("counterfactual/reversibility", "digit") in names and (
        "counterfactual/effectiveness_mae",
        "intensity",
    ) in names
    assert told == [5, 3] * 5
