"""Several people: who they are, their mean and deviation, and how they are written."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from explorer_app import colormaps, session
from explorer_app.comparison import Part, parts
from explorer_app.displayed import displayed, sheet
from explorer_app.headless import export_session
from explorer_app.people import MOST_PEOPLE, people_of, person, summed_up
from explorer_app.state import Analysis, AppState, Display
from mssg.rendering.request import RenderRequest

RNG = np.random.default_rng(0)
IMAGES = RNG.uniform(0, 255, (5, 24, 24)).astype(np.float32)
PEOPLE = [Part(RenderRequest(seed=i), image, label=f"seed {i}") for i, image in enumerate(IMAGES)]


def state(mode: str, seeds: int, **changes) -> AppState:
    request = replace(RenderRequest("a.safetensors", seed=3, covariates=(("age", 70.0),)), **changes)
    return AppState(request, analysis=Analysis(uncertainty=mode, seeds=seeds))


def test_people_are_this_seed_and_those_after_it_at_the_same_covariates():
    people = people_of(state("people", 4))
    assert [person(p) for p in people] == ["seed 3", "seed 4", "seed 5", "seed 6"]
    assert {p.covariates for p in people} == {(("age", 70.0),)}
    assert len(people_of(state("people", 64))) == MOST_PEOPLE and len(people_of(state("mean", 64))) == 64
    assert people_of(state("off", 4)) == people_of(state("mean", 4, layer="b8", channel=0)) == ()


@pytest.mark.parametrize("mode", ["mean", "sd", "both"])
def test_mean_and_deviation_are_those_of_the_pictures(mode):
    found = {part.label.split()[0]: part for part in summed_up(mode, PEOPLE)}
    assert set(found) == ({"mean", "sd"} if mode == "both" else {mode})
    if "mean" in found:
        assert np.allclose(found["mean"].image, IMAGES.mean(0)) and not found["mean"].spread
    if "sd" in found:
        expected = IMAGES.std(0, ddof=1)
        assert np.allclose(found["sd"].image, expected, rtol=1e-4)
        top = float(found["sd"].image.max())
        written = displayed(found["sd"], Display(level=20, width=10, invert=True))
        assert np.array_equal(written, colormaps.apply(found["sd"].image, top / 2, top, "magma"))


def test_a_mean_is_compared_under_its_own_name():
    (mean,) = summed_up("mean", PEOPLE)
    pin = Part(RenderRequest(seed=9), IMAGES[0], label="pin 1")
    (part,), problem = parts(Display(compare="difference"), mean, pin)
    assert not problem and part.label == "mean of 5 seeds − pin 1"
    assert np.allclose(part.image - part.other, IMAGES.mean(0) - IMAGES[0], atol=1e-4)


def test_five_people_are_written_in_rows():
    written = sheet(PEOPLE, Display())
    assert written.shape == (24 * 2 + 1, 24 * 3 + 2, 3)
    expected = np.rint(IMAGES).astype(np.uint8)
    assert np.array_equal(written[:24, :24, 0], expected[0]) and np.array_equal(
        written[25:, 25:49, 0], expected[4]
    )
    assert np.unique(written[25:, 50:, 0]).tolist() == [11]  # nobody


def test_a_session_of_several_people_is_exported_as_it_stands(tiny_snapshot, tiny_renderer, tmp_path):
    from PIL import Image

    values = tuple(tiny_renderer.values().tolist())
    known = tuple(zip(tiny_renderer.study.condition_names, values))
    shown = state("people", 3, snapshot=str(tiny_snapshot), covariates=known)
    session.save(tmp_path / "s.json", session.Session(shown))
    export_session(str(tmp_path / "s.json"), str(tmp_path / "people.png"), device="cpu")
    drawn = tiny_renderer.images(np.array([values] * 3), [3, 4, 5])[:, 0]
    with Image.open(tmp_path / "people.png") as image:
        written = np.asarray(image)[..., 0]
    assert written.shape == (32, 3 * 32 + 2)
    assert all(np.array_equal(written[:, 33 * i : 33 * i + 32], drawn[i]) for i in range(3))
