"""Pictures as they are displayed, as pixels: sides, windows, differences, and what is burnt in."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from explorer_app import colormaps
from explorer_app.comparison import Part, brightness, parts, widest
from explorer_app.displayed import FULL, Burnt, displayed, sheet
from explorer_app.export import view_of
from explorer_app.state import Display
from explorer_app.viewing import viewed
from mssg.rendering.request import RenderRequest
from mssg.study.model import Geometry

CORONAL = Geometry("coronal", 2.0)
RNG = np.random.default_rng(0)
IMAGE = RNG.uniform(0, 255, (48, 48)).astype(np.float32)
OTHER = RNG.uniform(0, 255, (48, 48)).astype(np.float32)
PART = Part(RenderRequest(), IMAGE)
PIN = Part(RenderRequest(seed=1), OTHER, CORONAL, "pin 1")


def test_the_radiological_side_is_written_and_a_part_has_its_own_geometry():
    plain, turned = displayed(PART, FULL), displayed(replace(PART, geometry=CORONAL), FULL)
    assert np.array_equal(plain, np.rint(IMAGE).astype(np.uint8)) and np.array_equal(turned, plain[:, ::-1])
    neurological = displayed(replace(PART, geometry=CORONAL), Display(neurological=True))
    assert np.array_equal(neurological, plain)
    shown, problem = parts(Display(compare="side"), PART, PIN)
    both = sheet(shown, FULL)
    assert not problem and both.shape == (48, 97, 3)
    assert np.array_equal(both[:, :48, 0], plain)
    assert np.array_equal(both[:, -48:, 0], np.rint(OTHER).astype(np.uint8)[:, ::-1])


def test_of_a_colour_picture_the_green_channel_or_all_but_red_is_looked_at():
    photo = RNG.uniform(0, 255, (8, 8, 3)).astype(np.float32)
    assert np.array_equal(viewed([photo], RenderRequest(), Display()), photo)
    assert np.array_equal(viewed([photo], RenderRequest(), Display(channel="green")), photo[..., 1])
    without_red = photo * np.float32([0, 1, 1])
    red_free = (viewed([p], RenderRequest(), Display(channel="red-free")) for p in (photo, without_red))
    first, second = red_free
    assert np.array_equal(first, second) and first.shape == (8, 8) and first.max() <= 255
    assert np.array_equal(viewed([IMAGE], RenderRequest(), Display(channel="green")), IMAGE)


def test_window_and_colours_are_written():
    display = Display(level=100, width=90, colormap="magma", invert=True)
    assert np.array_equal(displayed(PART, display), colormaps.apply(IMAGE, 100, 90, "magma", True))


def test_a_difference_has_a_window_of_its_own_a_threshold_and_an_overlay():
    (part,), problem = parts(Display(compare="difference"), PART, PIN)
    assert not problem and part.label == "now − pin 1"
    change = IMAGE - OTHER
    assert widest(part) == pytest.approx(2 * np.percentile(np.abs(change), 99.5))
    auto, wide = (displayed(part, Display(compare="difference", change_width=w)) for w in (0.0, 510.0))
    assert np.array_equal(auto, colormaps.apply(change, 0, widest(part), "signed"))
    assert not np.array_equal(auto, wide)
    none = displayed(part, Display(change_threshold=1e6))
    assert np.unique(none.reshape(-1, 3), axis=0).shape == (1, 3)
    overlaid = displayed(part, Display(change_threshold=1e6, change_overlay=True, level=90, width=100))
    assert np.array_equal(overlaid, colormaps.apply(IMAGE, 90, 100, "grey"))


@pytest.mark.parametrize(
    ("pinned", "word"),
    [
        (replace(PIN, image=OTHER[:32, :32]), "48 × 48 and 32 × 32 pixels"),
        (replace(PIN, request=RenderRequest(layer="b8.conv0", channel=0)), "a layer and a picture"),
    ],
)
def test_a_difference_that_cannot_be_says_why(pinned, word):
    (part,), problem = parts(Display(compare="difference"), PART, pinned)
    assert word in problem and part.other is None


def test_a_blend_and_a_swipe_are_written_as_they_stand_on_the_screen():
    (blend,), _ = parts(Display(compare="blend"), PART, PIN)
    mixed = displayed(blend, Display(share=0.25))
    assert np.array_equal(mixed, np.rint(0.75 * IMAGE + np.float32(0.25) * OTHER).astype(np.uint8))
    (swipe,), _ = parts(Display(compare="swipe"), replace(PART, geometry=CORONAL), PIN)
    shown = displayed(swipe, Display(share=0.25))
    first, second = (np.rint(i).astype(np.uint8)[:, ::-1] for i in (IMAGE, OTHER))
    assert np.array_equal(shown[:, :12], first[:, :12]) and np.array_equal(shown[:, 12:], second[:, 12:])


def test_files_do_not_name_the_user_s_image():
    """Its file's name may be a person's."""
    mine = replace(PIN, label="pin 1, real: jane-doe.nii.gz")
    for mode, told in (("side", ["now", "pin 1, real"]), ("difference", ["now − pin 1, real"])):
        shown, _ = parts(Display(compare=mode), PART, mine)
        assert view_of(shown, Display())["Shows"] == told
    same = [
        sheet([replace(PART, label=f"pin 1, real: {name}")], FULL, Burnt(8, letters=True)) for name in "ab"
    ]
    assert np.array_equal(*same)


def test_colours_are_compared_by_their_brightness():
    colour = RNG.uniform(0, 255, (8, 8, 3)).astype(np.float32)
    assert np.allclose(brightness(colour), colour.mean(-1)) and brightness(IMAGE) is IMAGE
    assert displayed(replace(PART, image=colour), FULL).shape == (8, 8, 3)


def test_letters_scale_bar_and_values_are_burnt_in_where_they_belong():
    part = replace(PART, image=np.full((64, 64), 90, np.float32), geometry=CORONAL)
    plain = sheet([part], FULL, Burnt(times=8))
    assert plain.shape == (512, 512) and Burnt().nothing
    lettered = sheet([part], FULL, Burnt(times=8, letters=True))
    changed = np.argwhere((lettered != 90).any(-1))
    rows, columns = changed[:, 0], changed[:, 1]
    middle = (rows > 200) & (rows < 312)
    assert {(c < 100, c > 412) for c in columns[middle]} == {(True, False), (False, True)}  # R and L
    scaled = sheet([part], FULL, Burnt(times=8, scale=True))
    white = np.flatnonzero((scaled[-16:-12, :, 0] == 238).any(0))
    millimetres = (white.max() - white.min() + 1) / 8 * 2.0
    assert any(abs(millimetres - mm) < 0.5 for mm in (1, 2, 5, 10, 20, 50))
    full = sheet([part], FULL, Burnt(times=8, bar=True, text=("age 63.0 y " * 12, "made by a model")))
    assert full.shape[0] > 512 and full.shape[1] > 512 and np.array_equal(full[:512, :512, 0], plain)


def test_names_and_captions_stay_within_a_narrow_picture():
    black = Part(RenderRequest(), np.zeros((64, 64), np.float32), label="pin 1, semi-synthetic: a-long-name")
    for geometry in (None, CORONAL):
        named = sheet([replace(black, geometry=geometry)], FULL, Burnt(letters=True))
        edge = named[:24, 62:] if geometry else named[:, 62:]  # L stands further down
        assert named.any() and not edge.any()
    captioned = sheet([black], FULL, Burnt(text=("a-word-that-is-much-longer-than-the-picture 63.0 y",)))
    strip = captioned[64:]
    assert strip.max() > 200 and (strip[:, 60:] == strip[0, 0]).all()
