"""The planes across a stack of slices, which slices come first, and what the window asks of a head."""

from __future__ import annotations

import numpy as np
import pytest

from explorer_app.messages import Frame
from explorer_app.stack import (
    Stack,
    StackMemory,
    across,
    coarse,
    geometry_across,
    head_of,
    refined,
    slices_of,
    spread,
)
from mssg.rendering.request import RenderRequest
from mssg.rendering.volume import upright
from mssg.study.model import AXES, Geometry

PLACES = tuple(np.arange(-30.0, 31.0, 5.0).tolist())
HEAD = RenderRequest(snapshot="m", seed=3, covariates=(("age", 60.0), ("place", 10.0)))


def stacks(plane: str, mirrored: bool = False) -> tuple[Geometry, dict[int, np.ndarray], Stack]:
    """A head whose every voxel holds its own millimetres along x, y or z, and its slices."""
    geometry = Geometry(plane, 2.0, "common", 0.0, (3.0, -7.0), position="place", mirrored=mirrored)
    normal, side, up = AXES[plane]
    across_, down = (np.arange(16) - 7.5) * 2.0, (5.5 - np.arange(12)) * 2.0
    across_ = -across_ if mirrored else across_
    shown = {
        side: lambda place: np.broadcast_to(3.0 + across_, (12, 16)),
        up: lambda place: np.broadcast_to((-7.0 + down)[:, None], (12, 16)),
        normal: lambda place: np.full((12, 16), place),
    }
    images = {
        axis: tuple(np.asarray(draw(p), np.float32) for p in PLACES) for axis, draw in sorted(shown.items())
    }
    return geometry, images, Stack(HEAD, PLACES, images[0])


@pytest.mark.parametrize(
    ("plane", "mirrored"), [*((plane, False) for plane in AXES), ("coronal", True), ("axial", True)]
)
def test_every_pixel_of_a_plane_lies_where_its_geometry_says(plane, mirrored):
    from explorer_app.geometry import millimetres

    geometry, images, stack = stacks(plane, mirrored)
    pixels = spread(PLACES, geometry)
    assert abs(pixels[0] - 1 - -32.5) < 1.1 and len(pixels) == round(65 / 2)
    for other in set(AXES) - {plane}:
        normal, side, up = AXES[other]
        at = {0: 4.0, 1: -2.0, 2: -11.0}[normal]
        stated = geometry_across(pixels, geometry, other)
        for axis in (side, up):
            picture = across(Stack(HEAD, PLACES, images[axis]), pixels, geometry, other, at)
            rows, columns = picture.shape
            for row, column in ((2, 3), (rows // 2, columns - 4), (rows - 3, 5)):
                place = millimetres(stated, column + 0.5, row + 0.5, columns, rows)
                found = float(picture[row, column])
                assert abs(found - place[0 if axis == side else 1]) < 1e-3, (plane, other, axis)
        cut = across(Stack(HEAD, PLACES, images[normal]), pixels, geometry, other, at)
        assert np.abs(cut - at).max() <= geometry.pixel_mm / 2 + 1e-4
        assert not stated.mirrored and stated.position is None
    assert upright(stack.images[0], geometry).shape[AXES[plane][0]] == 1


def test_missing_slices_lie_between_their_neighbours():
    geometry, images, _ = stacks("coronal")
    some = [0, 6, 12]
    thin = Stack(HEAD, tuple(PLACES[i] for i in some), tuple(images[1][i] for i in some))
    pixels = spread(PLACES, geometry)
    whole = across(Stack(HEAD, PLACES, images[1]), pixels, geometry, "sagittal", 0.0)
    np.testing.assert_allclose(across(thin, pixels, geometry, "sagittal", 0.0), whole, atol=1e-4)


def test_every_eighth_slice_comes_first_and_every_slice_once():
    for count in (1, 2, 7, 21, 60, 61):
        order = refined(count)
        assert sorted(order) == list(range(count))
        assert set(order[: len(coarse(count))]) == {*range(0, count, 8), count - 1}


def test_while_a_drag_is_ahead_the_last_head_whose_coarse_slices_are_there_is_shown():
    memory, frames = StackMemory(), {}

    def ask(age: float) -> Stack | None:
        request = RenderRequest(snapshot="m", covariates=(("age", age), ("place", -3.0)))
        return memory.shown(head_of(request, "place", PLACES), "place", PLACES, frames.get)

    def arrive(age: float, which: tuple[int, ...]) -> None:
        request = RenderRequest(snapshot="m", covariates=(("age", age), ("place", 0.0)))
        slices = slices_of(head_of(request, "place", PLACES), "place", PLACES)
        frames.update({slices[i]: Frame(slices[i], np.full((4, 4), age, np.float32)) for i in which})

    first = coarse(len(PLACES))
    assert ask(60) is None
    arrive(60, first[:-1])
    assert ask(61) is None
    arrive(60, first)
    assert ask(62).images[0][0, 0] == 60 and not memory.is_still
    arrive(61, first)
    assert ask(63).images[0][0, 0] == 61
    arrive(63, tuple(range(len(PLACES))))
    assert len(ask(63).places) == len(PLACES)
    arrive(62, tuple(range(len(PLACES))))
    assert ask(64).images[0][0, 0] == 63, "an older head never comes back"


def test_slices_are_drawn_together_and_heads_are_read(make_heads):
    from explorer_app.engine import Engine
    from mssg.checkpoint.snapshot import load_snapshot
    from mssg.ops.native import library
    from mssg.rendering.renderer import Renderer
    from mssg.rendering.volume import places_of

    path = str(make_heads())
    renderer = Renderer(load_snapshot(path))
    places = tuple(places_of(renderer.study, renderer.header.summary).tolist())
    values = tuple(renderer.defaults.items())
    head = head_of(RenderRequest(snapshot=path, seed=3, covariates=values), "depth", places)
    slices, engine = slices_of(head, "depth", places), Engine()
    frames = engine.render_many(slices, lambda: False)
    if not isinstance(library.load(), str):
        assert len(frames) == len(slices) and engine.syntheses == 1
    for frame, request in zip(frames, slices):
        alone = Engine().render(request, lambda: False)
        assert frame.request == request and np.array_equal(frame.image, alone.image)
    assert engine.render_many(slices, lambda: True) == []
    assert engine.measure_head(head, lambda: False) is None  # nothing reads heads of this study
