"""The explorer's state: pure updates, undo, sessions, screen geometry. No window, no torch."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from explorer_app import colormaps, geometry, session
from explorer_app import request_edits as edits
from explorer_app import state as states
from explorer_app.geometry import View
from explorer_app.history import History
from explorer_app.real_image import RealImage
from explorer_app.state import Analysis, AppState, Axis, Display, Grid
from explorer_app.viewing import viewed
from mssg.data.plane import Place
from mssg.errors import SnapshotError
from mssg.rendering.request import RenderRequest, StoredLatent
from mssg.study.covariate import Covariate
from mssg.study.model import Geometry, Photograph, Study

BASE = AppState(
    RenderRequest("a.safetensors", covariates=(("age", 60.0), ("volume", 30.0), ("sex", 1.0))),
    grid=Grid(Axis("volume", 10, 50, 3), Axis("age", 40, 80, 2)),
)


def test_display_settings_do_not_change_the_picture():
    shown = replace(BASE, display=Display(level=40, width=80, colormap="magma", zoom=3, compare="side"))
    assert shown.request == BASE.request and hash(shown.request) == hash(BASE.request)
    assert states.set_values(BASE, age=61).request != BASE.request


def test_set_values_ignores_what_is_not_finite_or_unknown():
    assert states.set_values(BASE, age=math.nan, height=3.0) == BASE
    changed = dict(states.set_values(BASE, age=70).request.covariates)
    assert changed == {"age": 70.0, "volume": 30.0, "sex": 1.0}


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # a busy machine is no defect
@given(st.lists(st.tuples(st.floats(-3, 3), st.floats(-3, 3)), max_size=8))
def test_latent_drag_keeps_fractions_and_blend_weights_sum_to_one(moves):
    request = RenderRequest(seed=5000)
    for dx, dy in moves:
        request = edits.drag_latent(request, dx, dy)
    seed, x, y = edits.place(request)
    assert 0 <= x < 1 and 0 <= y < 1
    weights = [w for _, w in request.blend] or [1.0]
    assert 1 <= len(weights) <= 4 and sum(weights) == pytest.approx(1)
    total = sum(x for x, _ in moves) + 100 * sum(y for _, y in moves)
    assert seed + x + 100 * y - 5000 == pytest.approx(total, abs=1e-5)


def test_whole_latent_steps_are_seeds():
    assert edits.drag_latent(RenderRequest(seed=7), 1.0, 1.0) == RenderRequest(seed=108)
    quarter = edits.at_place(RenderRequest(seed=1), 7, 0.25)
    assert dict(quarter.blend) == {7: 0.75, 8: 0.25} and edits.place(quarter) == (7, 0.25, 0.0)
    assert edits.place(edits.at_place(quarter, edits.SEEDS - 1, 0.5, 0.5)) == (edits.SEEDS - 1, 0.5, 0.5)
    assert edits.place(RenderRequest(blend=((4, 1.0), (90, 3.0)))) == (4, 0.0, 0.0)  # nowhere in the plane


@given(st.floats(-1, 1), st.floats(-1, 1), st.floats(-0.5, 0.5))
def test_a_motion_is_read_back_off_the_transform(x, y, turns):
    found = edits.motion(edits.moved(RenderRequest(), x, y, turns))
    assert found[:2] == (x, y) and math.cos(2 * math.pi * (found[2] - turns)) == pytest.approx(1)


def test_a_picture_moved_back_stands_still():
    rows, columns = np.mgrid[:32, :32].astype(np.float32)
    blob = lambda x, y: 200 * np.exp(-((columns - x) ** 2 + (rows - y) ** 2) / 18)  # noqa: E731
    request = edits.moved(RenderRequest(), 0.125, -0.0625, 0.25)  # a quarter turn, then right and up
    # (x, y) of the blob from the centre, turned: (-y, x), then moved by 4 and -2 pixels
    back = viewed([blob(15.5 - 3 + 4, 15.5 + 5 - 2)], request, Display(untransform=True))
    assert np.abs(back - blob(15.5 + 5, 15.5 + 3)).max() < 2
    assert viewed([back], request, Display()) is back


def test_pins_take_free_numbers_and_comparison_ends_with_the_last_one():
    state = states.set_compare(BASE, "difference")
    assert [p.name for p in state.pins] == ["1"] and state.display.compare == "difference"
    state = states.add_pin(states.set_values(state, age=70))
    assert [p.name for p in state.pins] == ["1", "2"] and dict(state.pin.request.covariates)["age"] == 70.0
    state = states.remove_pin(states.remove_pin(state, 0), 0)
    assert state.pins == () and state.display.compare == "A" and state.pin is None
    with pytest.raises(ValueError):
        states.set_compare(BASE, "xor")


def test_grid_covers_both_ranges_and_is_limited_to_twelve():
    pictures = states.grid_requests(BASE.request, BASE.grid)
    assert (len(pictures), len(pictures[0])) == (3, 2)
    assert dict(pictures[-1][1].covariates) == {"age": 80.0, "volume": 10.0, "sex": 1.0}  # values rise
    assert states.grid_requests(BASE.request, BASE.grid, rising=False) == pictures[::-1]
    assert states.set_axis(BASE, "rows", steps=99).grid.rows.steps == 12
    assert states.set_axis(BASE, "rows", steps=0).grid.rows.steps == 1
    looked_into = replace(edits.moved(BASE.request, 0.1, 0, 0), layer="b8.conv0", channel=1)
    assert states.grid_requests(looked_into, BASE.grid) == pictures


def test_opening_another_snapshot_keeps_shared_covariates():
    axes = {"height": Axis("height", 150, 200), "age": Axis("age", 20, 90)}
    state = states.opened(BASE, "b.safetensors", {"age": 50.0, "height": 170.0}, axes)
    assert state.request.covariates == (("age", 60.0), ("height", 170.0))
    assert state.grid == Grid(axes["height"], axes["age"])
    assert states.opened(BASE, "c.safetensors", dict(BASE.request.covariates), axes).grid == BASE.grid


def test_undo_steps_are_commits_not_changes():
    history = History(BASE)
    for age in range(61, 70):  # one drag
        history.state = states.set_values(history.state, age=age)
    assert history.commit() and not history.commit() and history.steps == 1
    history.state = replace(history.state, display=Display(zoom=2))
    assert history.undo() and history.state.value("age") == 69 and history.state.display.zoom == 0
    assert history.undo() and history.state == BASE and not history.undo()
    assert history.redo() and history.state.value("age") == 69
    history.state = states.set_values(history.state, age=10)
    history.commit()
    assert not history.can_redo and not history.redo()


def test_following_a_run_adds_no_undo_step():
    history = History(BASE)
    history.replace(states.set_snapshot(BASE, "newer.safetensors"))
    assert not history.can_undo and history.state.snapshot == "newer.safetensors"


_FLOATS = st.floats(-1e6, 1e6, allow_nan=False)
_STATES = st.builds(
    AppState,
    st.builds(
        RenderRequest,
        st.text(max_size=12),
        st.integers(0, 2**31 - 1),
        st.lists(st.tuples(st.integers(0, 99), st.floats(0.1, 9)), max_size=3).map(tuple),
        mix_seed=st.integers(0, 9),
        mix_layers=st.lists(st.integers(0, 9), max_size=3).map(tuple),
        covariates=st.dictionaries(st.text(max_size=5), _FLOATS, max_size=4).map(lambda d: tuple(d.items())),
        psi=_FLOATS,
        cutoff=st.none() | st.integers(0, 9),
        noise_mode=st.sampled_from(["const", "none", "random"]),
        precision=st.sampled_from(["auto", "float32"]),
        layer=st.none() | st.text(max_size=5),
        transform=st.none() | st.just((1.0, 0.0, 0.1, 0.0, 1.0, 0.2)),
    ),
    mode=st.sampled_from(["linked", "free"]),
    display=st.builds(Display, _FLOATS, _FLOATS, invert=st.booleans(), center=st.tuples(_FLOATS, _FLOATS)),
    pins=st.lists(
        st.builds(states.Pin, st.text(max_size=3), st.builds(lambda: BASE.request)), max_size=2
    ).map(tuple),
    grid=st.builds(Grid, st.builds(Axis, st.text(max_size=4), _FLOATS, _FLOATS, st.integers(1, 12))),
)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(_STATES)
def test_sessions_return_the_same_state(tmp_path_factory, state):
    path = tmp_path_factory.mktemp("session") / "s.json"
    session.save(path, session.Session(state, "0123456789ab", "[Window]"))
    assert session.load(path) == session.Session(state, "0123456789ab", "[Window]")


def test_a_session_of_the_first_edition_is_read_and_converted(tmp_path):
    """The file was written by the first edition."""
    read = session.load(Path(__file__).with_name("session-v1.json"))
    assert (read.snapshot_id, read.layout) == ("0123456789ab", "[Window]")
    request = RenderRequest(
        "a.safetensors",
        mix_seed=9,
        mix_layers=(0, 2),
        covariates=(("age", 60.0), ("volume", 30.5), ("sex", 1.0)),
        psi=0.7,
        cutoff=3,
        noise_mode="random",
        noise_seed=5,
        precision="float32",
        layer="b8.conv0",
        channel=3,
    )
    expected = AppState(
        edits.moved(edits.at_place(request, 7, 0.25, 0.5), 0.1, -0.2, 0.125),
        "free",
        Display(
            level=40,
            width=80,
            colormap="magma",
            compare="side",
            zoom=3,
            center=(0.4, 0.6),
            channels=4,
            normalise=False,
            gain_db=6.0,
            untransform=True,
        ),
        pins=(states.Pin("B", RenderRequest("b.safetensors", 11, mix_seed=1, covariates=(("age", 70.0),))),),
        grid=BASE.grid,
        analysis=Analysis(uncertainty="sd"),
    )
    assert read.state == expected
    session.save(tmp_path / "s.json", read)
    assert session.load(tmp_path / "s.json") == read
    assert json.loads((tmp_path / "s.json").read_text())["format_version"] == 2


def test_a_session_holds_real_pictures_and_latents(tmp_path):
    rng = np.random.default_rng(0)
    place = Place("coronal", tuple(map(tuple, np.eye(4).tolist())), 2)
    pixels = rng.integers(0, 256, (3, 8, 8), dtype=np.uint8)
    real = RealImage(
        "a.safetensors", "scan.nii.gz", pixels, (("age", 70.5),), "at +4.0 mm", place, "semi-synthetic"
    )
    w, residual = rng.standard_normal((2, 4, 16)).astype(np.float32)
    noise = {"b4.noise_const": rng.standard_normal((1, 1, 4, 4)).astype(np.float32)}
    latent = StoredLatent(w, noise, w[0], residual, (70.5,), "0123", "w.safetensors", place, "brain")
    state = states.add_pin(
        replace(BASE, request=replace(BASE.request, latent=latent)), request=replace(real, covariates=())
    )
    state = states.add_pin(states.add_pin(state), request=real)
    assert state.pin.label == "pin 3, semi-synthetic: scan.nii.gz"
    session.save(tmp_path / "s.json", session.Session(state))
    read = session.load(tmp_path / "s.json").state
    assert read == state and read.request.latent.file == "w.safetensors"
    assert read.pins[0].request != read.pins[2].request and read.request.latent.place == place
    document = json.loads((tmp_path / "s.json").read_text())
    for key, damaged in (("latents", {}), ("latents", {"x": {"w": "AAAA"}})):
        (tmp_path / "bad.json").write_text(json.dumps(document | {key: damaged}))
        with pytest.raises(SnapshotError, match="makes no sense"):
            session.load(tmp_path / "bad.json")
    document["state"]["pins"][0]["request"]["real"]["png"] = "AAAA"
    (tmp_path / "bad.json").write_text(json.dumps(document))
    with pytest.raises(SnapshotError, match="makes no sense"):
        session.load(tmp_path / "bad.json")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format_version": 99}, "unknown format version"),
        ({"kind": "recipe"}, "not a session"),
        ({"state": {"colour": 1}}, "makes no sense"),
        ({"state": {"request": {"psi": "high"}}}, "makes no sense"),
        ({"state": {"request": {"psi": float("inf")}}}, "makes no sense"),
        ({"state": {"request": {"mood": 1}}}, "makes no sense"),
        ({"format_version": 1, "state": {"latent": {"psi": "high"}}}, "makes no sense"),
        ({"format_version": 1, "state": {"latent": {"seed": 1.5}}}, "makes no sense"),
        ({"format_version": 1, "state": {"pins": [{"name": "B"}]}}, "makes no sense"),
        ({"format_version": 1, "state": {"probe": 3}}, "makes no sense"),
        ({"state": {"mode": 3}}, "makes no sense"),
        ({"state": {"request": {"real": {}}}}, "makes no sense"),
        ({"latents": 3}, "makes no sense"),
        ({"state": None}, "makes no sense"),
    ],
)
def test_bad_sessions_are_refused_in_words(tmp_path, change, message):
    path = tmp_path / "s.json"
    session.save(path, session.Session(BASE))
    document = json.loads(path.read_text())
    path.write_text(json.dumps({**document, **change}))
    with pytest.raises(SnapshotError, match=message):
        session.load(path)


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b"\xff\xfe", b'{"kind": "mssg-explorer-session"}'])
def test_files_that_are_no_sessions_are_refused(tmp_path, content):
    (tmp_path / "s.json").write_bytes(content)
    with pytest.raises(SnapshotError):
        session.load(tmp_path / "s.json")
    with pytest.raises(SnapshotError, match="cannot be read"):
        session.load(tmp_path / "none.json")


def view(mirrored: bool = False, **display: float) -> View:
    return View(100, 50, 400, 300, 64, 32, Display(**display), mirrored)


@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize("display", [{}, {"zoom": 3.5, "center": (0.2, 0.7)}])
def test_screen_and_image_positions_are_inverse(mirrored, display):
    v = view(mirrored, **display)
    for sx, sy in ((100, 50), (333, 222), (499, 349)):
        assert v.to_screen(*v.to_image(sx, sy)) == pytest.approx((sx, sy))
    assert view(mirrored).zoom == pytest.approx(6.25)  # 400 / 64 fits


@pytest.mark.parametrize("mirrored", [False, True])
def test_zoom_keeps_the_point_under_the_cursor(mirrored):
    before = view(mirrored, zoom=4.0)
    after = replace(before, display=geometry.zoomed(before, 1.7, 260, 180))
    assert after.zoom == pytest.approx(6.8)
    assert after.to_image(260, 180) == pytest.approx(before.to_image(260, 180))


@pytest.mark.parametrize("mirrored", [False, True])
def test_pan_moves_the_picture_with_the_mouse(mirrored):
    before = view(mirrored, zoom=4.0)
    after = replace(before, display=geometry.panned(before, 20, -10))
    assert after.to_image(320, 190) == pytest.approx(before.to_image(300, 200))


def test_edge_letters_follow_the_convention():
    coronal = Geometry("coronal", 2.0)
    assert geometry.edge_letters(coronal, neurological=False) == ("R", "L", "S", "I")
    assert geometry.edge_letters(coronal, neurological=True) == ("L", "R", "S", "I")
    assert geometry.mirrored(coronal, neurological=False) and not geometry.mirrored(
        coronal, neurological=True
    )
    assert geometry.edge_letters(Geometry("axial", 1.0), True) == ("L", "R", "A", "P")
    assert geometry.edge_letters(Geometry("sagittal", 1.0), False) == geometry.edge_letters(
        Geometry("sagittal", 1.0), True
    )
    assert geometry.edge_letters(None, False) == ("", "", "", "")


def test_pictures_stored_from_the_patients_right_are_shown_as_all_others():
    stored, turned = Geometry("coronal", 2.0), Geometry("coronal", 2.0, mirrored=True)
    for neurological in (False, True):
        assert geometry.edge_letters(turned, neurological) == geometry.edge_letters(stored, neurological)
        assert geometry.mirrored(turned, neurological) != geometry.mirrored(stored, neurological)
    assert (
        geometry.millimetres(turned, 10, 5, 64, 64)[0] == -geometry.millimetres(stored, 10, 5, 64, 64)[0] != 0
    )


def test_scale_bar_is_round_and_fits():
    assert geometry.scale_bar(Geometry("coronal", 2.0), 5.0, 100) == ("20 mm", 50.0)
    assert geometry.scale_bar(Geometry("coronal", 1.0), 1e-9, 10)[1] <= 10
    assert geometry.scale_bar(geometry.FundusGeometry(0.5, "°", None), 10.0, 150) == ("5°", 100.0)
    assert geometry.scale_bar(geometry.FundusGeometry(None, "DD", True), 10.0, 150) == geometry.scale_bar(
        None, 1, 9
    )


def eye_study(**stated):
    side = Covariate("eye", "binary", levels=("left", "right"))
    return Study("eyes", 64, 3, (side,), (), photograph=Photograph(side="eye", **stated))


def test_a_photograph_says_which_eye_it_is_and_where_its_nose_lies():
    study = eye_study(degrees=48.0)
    left, right = (geometry.stated(study, RenderRequest(covariates=(("eye", v),))) for v in (0.0, 1.0))
    assert left.name == "OS, left eye" and right.name == "OD, right eye"
    for neurological in (False, True):
        assert geometry.edge_letters(left, neurological) == ("N", "T", "S", "I")
        assert geometry.edge_letters(right, neurological) == ("T", "N", "S", "I")
        assert not geometry.mirrored(left, neurological)
    assert geometry.place(left, 48, 16, 64, 64) == "12.0° temporal, 12.0° superior"
    assert geometry.place(right, 48, 40, 64, 64) == "12.0° nasal, 6.0° inferior"
    unknown = geometry.stated(study, RenderRequest())
    assert geometry.edge_letters(unknown, False) == ("", "", "S", "I") and unknown.name == ""
    assert geometry.place(unknown, 16, 32, 64, 64) == "12.0° left, 0.0° superior"
    discs = geometry.stated(eye_study(disc_diameters=8.0), RenderRequest())
    assert geometry.place(discs, 48, 32, 64, 64).startswith("2.0 DD right")
    alike = Study("eyes", 64, 3, (), (), photograph=Photograph(side="right"))
    assert geometry.stated(alike, RenderRequest()).right
    assert geometry.stated(study, RenderRequest(layer="b8.conv0", channel=0)) is None


def test_colours_run_from_first_to_last_and_clip():
    ramp = np.array([[-50.0, 0, 127.5, 255, 400]], np.float32)
    assert colormaps.apply(ramp, 127.5, 255, "grey")[0, :, 0].tolist() == [0, 0, 128, 255, 255]
    assert colormaps.apply(ramp, 127.5, 255, "grey", invert=True)[0, 0].tolist() == [255] * 3
    assert colormaps.apply(ramp, 127.5, 255, "viridis")[0, 0].tolist() == [0x44, 0x01, 0x54]
    assert all(colormaps.table(n).shape == (256, 3) for n in colormaps.NAMES)
