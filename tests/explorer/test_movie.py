"""Movies: what lies between keyframes, what is written, and that a session's movie is the window's."""

import json
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from explorer_app import export, session
from explorer_app.comparison import Part
from explorer_app.displayed import displayed
from explorer_app.distribution import TrainingDistribution
from explorer_app.export import Origin, caption
from explorer_app.headless import export_session
from explorer_app.movie import FRAME_LIMIT, between, discrete, film, framed, keyframe, seconds, shot_at, shots
from explorer_app.movie_export import movie_files, save_movie
from explorer_app.state import (
    AppState,
    Display,
    Keyframe,
    Movie,
    add_pin,
    at_home,
    opened,
    set_keyframe,
    set_values,
)
from mssg.checkpoint.header import read_header
from mssg.errors import UsageError
from mssg.rendering.request import RenderRequest
from mssg.study.model import Geometry

A = RenderRequest("s", 1, covariates=(("age", 60.0), ("sex", 0.0)))
B = RenderRequest("s", 2, covariates=(("age", 70.0), ("sex", 1.0)), psi=0.5)
PAIR = Movie((Keyframe(A, seconds=2.0), Keyframe(B)), fps=10)


def test_a_movie_has_its_seconds_and_ends_at_the_last_keyframe():
    taken = shots(PAIR, frozenset({"sex"}))
    assert len(taken) == 21 and seconds(PAIR) == 2.0
    assert taken[0].request == A and taken[-1].request == B
    assert shot_at(PAIR, 2.0, frozenset()).request == B and shot_at(PAIR, 2.1, frozenset()) is None
    assert len(shots(replace(PAIR, keyframes=(Keyframe(A, seconds=600), Keyframe(B))))) == FRAME_LIMIT
    assert shots(Movie()) == ()


def test_numbers_move_and_levels_wait():
    half = between(*PAIR.keyframes, 0.5, {"sex"}).request
    assert dict(half.covariates) == {"age": 65.0, "sex": 0.0} and half.psi == 0.75
    assert half.blend == ((1, 0.5), (2, 0.5))
    quarter = between(Keyframe(replace(A, seed=0, blend=((1, 1.0), (3, 3.0)))), Keyframe(B), 0.5).request
    assert dict(quarter.blend) == {1: 0.125, 3: 0.375, 2: 0.5}


def test_smooth_is_slow_at_keyframes_and_even_in_the_middle():
    ages = [dict(shot.request.covariates)["age"] for shot in shots(PAIR)]
    even = [dict(shot.request.covariates)["age"] for shot in shots(replace(PAIR, easing="linear"))]
    steps = np.diff(ages)
    assert np.allclose(np.diff(even), 0.5) and (steps > 0).all()
    assert steps[0] < 0.1 and steps[-1] < 0.1 and steps.max() > 0.7


def test_from_one_model_to_another_nothing_moves():
    other = Keyframe(replace(B, snapshot="t"))
    assert between(Keyframe(A), other, 0.9).request == A


def test_the_view_moves_with_an_even_factor_and_never_leaves_the_picture():
    near = keyframe(A, Display(zoom=16.0, center=(0.05, 0.5), compare="side"), 1.0, fit=4.0)
    assert near.span == 0.25 and near.center == (0.125, 0.5) and near.display.compare == "A"
    far = keyframe(A, Display(), 1.0, fit=4.0)
    middle = between(far, near, 0.5)
    assert middle.span == 0.5 and middle.center[0] == 0.3125
    assert keyframe(A, Display(zoom=1.0), 1.0, fit=4.0).span == 1.0


def test_what_is_seen_is_cut_out_and_keeps_its_millimetres():
    image = np.arange(64, dtype=np.float32).reshape(8, 8)
    part = Part(A, image, Geometry("coronal", 2.0, "common", 4.0))
    sharp = Display(linear=False)
    cut = framed(
        part, between(keyframe(A, replace(sharp, zoom=2.0), 1.0, fit=1.0), PAIR.keyframes[1], 0.0), 2
    )
    assert cut.image.shape == (16, 16) and cut.geometry.pixel_mm == 0.5
    assert np.array_equal(cut.image[::4, ::4], image[2:6, 2:6])
    whole = framed(part, shots(PAIR)[0], 1)
    assert np.array_equal(whole.image, image)


def _film(movie, **more):
    part = lambda request: Part(request, np.full((32, 32), dict(request.covariates)["age"], np.float32))  # noqa: E731
    study = type("S", (), {"conditions": ()})
    lines = iter(["a", "a much longer caption that takes more than one line of the picture", "b"] * 20)
    return film(replace(movie, **more), study, part, lambda _: [next(lines)])


def test_pictures_of_a_movie_have_one_size():
    pictures = _film(PAIR, times=2)
    assert {p.shape for p in pictures} == {(64, 64)} and pictures[0].max() == 60 and pictures[-1].max() == 70
    told = _film(PAIR, times=4, burnt="letters bar values")
    assert len({p.shape for p in told}) == 1 and told[0].shape[0] > 128 and told[0].shape[2] == 3


def test_movies_are_gif_mp4_and_numbered_pngs(tmp_path, tiny_snapshot):
    header = read_header(tiny_snapshot)
    defaults = tuple(TrainingDistribution(header).defaults().items())
    movie = Movie((Keyframe(RenderRequest("s", 1, covariates=defaults)),) * 2, fps=10)
    pictures = [np.full((6, 8), level, np.uint8) for level in (0, 100, 200)]
    origin = Origin.of_movie(header, movie)
    assert save_movie(tmp_path / "m.gif", pictures, origin, 10) == str(tmp_path / "m.gif")
    with Image.open(tmp_path / "m.gif") as gif:
        assert gif.n_frames == 3 and gif.info["duration"] == 100
        assert json.loads(gif.info["comment"])["Movie"]["Fps"] == 10
    told = save_movie(tmp_path / "m.png", pictures, origin, 10)
    assert told.endswith("m-0001.png to m-0003.png") and len(list(tmp_path.glob("m-*.png"))) == 3
    with pytest.raises(UsageError, match="there already"):
        save_movie(tmp_path / "m.png", pictures, origin, 10)
    with pytest.raises(UsageError, match="not a movie"):
        movie_files(tmp_path / "m.avi", 3)
    save_movie(tmp_path / "m.mp4", pictures, origin, 10)
    assert (tmp_path / "m.mp4").read_bytes()[4:8] == b"ftyp"


@pytest.fixture
def filmed(tiny_snapshot) -> AppState:
    distribution = TrainingDistribution(read_header(tiny_snapshot))
    state = opened(AppState(), str(tiny_snapshot), distribution.defaults(), distribution.axes())
    state = set_keyframe(state, 0, Keyframe(state.request, Display(level=100.0), 0.5))
    late = set_values(state, thickness=4.5, digit=2.0)
    state = set_keyframe(state, 1, Keyframe(replace(late.request, seed=4), Display(), 1.0, (0.4, 0.5), 0.5))
    return replace(state, movie=replace(state.movie, fps=4, times=2, burnt="letters values"))


def test_keyframes_are_saved_with_a_session_and_nonsense_is_refused(filmed, tmp_path):
    session.save(tmp_path / "s.json", session.Session(filmed))
    assert session.load(tmp_path / "s.json").state == filmed
    for wrong in ({"fps": 0}, {"easing": "jump"}, {"times": 99}):
        document = json.loads((tmp_path / "s.json").read_text())
        document["state"]["movie"] |= wrong
        (tmp_path / "wrong.json").write_text(json.dumps(document))
        with pytest.raises(Exception, match="makes no sense"):
            session.load(tmp_path / "wrong.json")
    assert set_keyframe(filmed, 0, None).movie.keyframes == filmed.movie.keyframes[1:]


def test_a_moved_snapshot_is_found_for_pins_and_keyframes_too(filmed):
    there = at_home(add_pin(filmed), "elsewhere")
    held = [there.request, there.pins[0].request, *(k.request for k in there.movie.keyframes)]
    assert {request.snapshot for request in held} == {"elsewhere"}


@pytest.mark.slow
def test_a_session_films_without_a_window_what_the_window_films(
    filmed, tmp_path, tiny_snapshot, tiny_renderer
):
    session.save(tmp_path / "s.json", session.Session(filmed))
    assert export_session(str(tmp_path / "s.json"), str(tmp_path / "m.png"), movie=True).startswith("wrote ")
    header = read_header(tiny_snapshot)

    def part(request):
        image = (tiny_renderer.render(replace(request, snapshot="")).image[0] + 1) * 127.5
        return Part(request, image, header.study.geometry)

    pictures = film(filmed.movie, header.study, part, lambda request: caption(header, request))
    assert len(pictures) == 3 and len(shots(filmed.movie, discrete(header.study))) == 3
    for i, pixels in enumerate(pictures, 1):
        with Image.open(tmp_path / f"m-{i:04d}.png") as written:
            assert np.array_equal(np.asarray(written), pixels)
    first = displayed(part(filmed.request), Display(level=100.0), 2)
    assert np.array_equal(pictures[0][:64, :64, 0], first)


def test_the_command_says_what_a_session_lacks(tmp_path, tiny_snapshot):
    state = AppState(RenderRequest(str(tiny_snapshot), mix_seed=1))
    session.save(tmp_path / "s.json", session.Session(state))
    words = [sys.executable, "-m", "trainer_cli", "figure", "movie", str(tmp_path / "s.json"), "-o", "m.gif"]
    done = subprocess.run(words, capture_output=True, text=True, cwd=tmp_path, env=None)
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert done.stderr.startswith("mssg figure movie: ") and "holds no movie" in done.stderr


def test_mp4_without_ffmpeg_is_told_before_a_picture_is_drawn(filmed, tmp_path, monkeypatch):
    session.save(tmp_path / "s.json", session.Session(filmed))
    monkeypatch.setattr("shutil.which", lambda name: None)
    monkeypatch.setattr("mssg.extras.missing", lambda extra: ["imageio-ffmpeg"])
    monkeypatch.setattr("explorer_app.headless._Artist.image", None)
    monkeypatch.setattr("explorer_app.headless._Artist.plain_part", None)
    for movie in (True, False):
        with pytest.raises(UsageError, match=r'no imageio-ffmpeg.*pip install "mssg\[video\]"'):
            export_session(str(tmp_path / "s.json"), str(tmp_path / "m.mp4"), movie=movie)


def test_captions_say_what_a_picture_is(tiny_snapshot):
    header = read_header(tiny_snapshot)
    values = tuple(TrainingDistribution(header).defaults().items())
    first, second = caption(header, RenderRequest(blend=((1, 0.5), (2, 0.5)), covariates=values))
    assert "thickness" in first and first.endswith("seed 1 + 2") and "not a scan of a person" in second
    assert export.caption is caption
