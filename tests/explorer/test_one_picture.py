"""One request, one picture: window, copied command, exported session and Python draw the same pixels."""

from __future__ import annotations

import json
import math
import re
import shlex
from dataclasses import replace

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from explorer_app import export, session
from explorer_app import request_edits as edits
from explorer_app.displayed import coloured
from explorer_app.distribution import TrainingDistribution
from explorer_app.engine import Engine
from explorer_app.headless import export_session
from explorer_app.state import AppState, Axis, Display, Grid
from explorer_app.viewing import viewed
from mssg import assets
from mssg.checkpoint.header import read_header
from mssg.checkpoint.snapshot import load_snapshot
from mssg.rendering.command_line import generate_command
from mssg.rendering.image_files import mosaic, to_grey
from mssg.rendering.renderer import Renderer
from mssg.rendering.request import NOISE_MODES, RenderRequest, to_uint8
from trainer_cli import main as entry


@pytest.fixture(scope="module", params=["stylegan2", "stylegan3-t"])
def renderer(request, make_snapshot) -> Renderer:
    return Renderer(load_snapshot(make_snapshot(cfg=request.param, name=request.param)))


@pytest.fixture(scope="module")
def engine() -> Engine:
    return Engine()


def drawn_at_random(renderer: Renderer, seed: int) -> RenderRequest:
    """A request as the window's controls can make it."""
    rng = np.random.default_rng(seed)
    distribution = TrainingDistribution(renderer.header)
    values = {}
    for covariate in renderer.study.conditions:
        low, high = distribution.range(covariate.name)
        value = rng.uniform(low, high)
        values[covariate.name] = float(value if covariate.is_continuous else round(value))
    request = RenderRequest(
        str(renderer.header.path),
        covariates=tuple(values.items()),
        mix_seed=int(rng.integers(99)),
        mix_layers=tuple(np.flatnonzero(rng.random(renderer.G.num_ws) < 0.3).tolist()),
        psi=round(float(rng.uniform(-1, 2)), 3),
        cutoff=None if rng.random() < 0.5 else int(rng.integers(renderer.G.num_ws)),
        noise_mode=str(rng.choice(NOISE_MODES)),
        noise_seed=int(rng.integers(99)),
        precision=str(rng.choice(["auto", "float32"])),
    )
    request = edits.at_place(request, int(rng.integers(2**31)))
    if rng.random() < 0.6:
        request = edits.drag_latent(request, *rng.uniform(-2, 2, 2))
    if hasattr(renderer.G.synthesis, "input") and hasattr(renderer.G.synthesis.input, "transform"):
        request = edits.moved(request, *rng.uniform(-0.5, 0.5, 3))
    if rng.random() < 0.25:
        layers = [name for name in renderer.layers if "torgb" not in name]
        request = replace(request, layer=str(rng.choice(layers)), channel=int(rng.integers(4)))
    return request


def command(words: str) -> None:
    done = CliRunner().invoke(entry.cli, shlex.split(words)[1:])
    assert done.exit_code == 0, done.output


@pytest.mark.parametrize("seed", range(25))  # with both networks: fifty
def test_window_command_session_and_python_draw_the_same(renderer, engine, tmp_path, seed):
    request, display = drawn_at_random(renderer, seed), Display(channels=(1, 4, 9)[seed % 3])
    engine.render(replace(request, channel=0 if request.layer else None), lambda: False)  # shows the layers
    looked_at = edits.channel_requests(request, display.channels, engine.channels(request))
    images = [engine.render(r, lambda: False).image for r in looked_at]
    window = coloured(viewed(images, request, display), display)
    whole = edits.side_by_side(looked_at)
    command(generate_command(whole, renderer.study, request.snapshot, str(tmp_path / "command.png")))
    session.save(tmp_path / "s.json", session.Session(AppState(request, display=display)))
    export_session(str(tmp_path / "s.json"), str(tmp_path / "session.png"), device="cpu")
    command_image, session_image = (Image.open(tmp_path / f"{n}.png") for n in ("command", "session"))
    assert np.array_equal(window, np.asarray(command_image)), request
    assert np.array_equal(window, np.asarray(session_image)), request
    plain = replace(whole, snapshot="")
    drawn = renderer.render(plain).image
    if request.layer is None:
        drawn = to_uint8(drawn)[0]
    else:
        columns = math.ceil(math.sqrt(len(drawn)))
        drawn = np.rint(mosaic(to_grey(drawn, stretched=True)[:, None], columns)[..., 0]).astype(np.uint8)
    assert np.array_equal(window, drawn), request
    for picture in (command_image, session_image):  # what a picture says of itself draws it again
        stored = json.loads(picture.text["mssg"])["Request"]
        assert stored.pop("snapshot") == renderer.header.snapshot_id
        again = RenderRequest.from_json(stored)
        assert np.array_equal(renderer.render(again).image, renderer.render(plain).image)


@pytest.mark.slow
@pytest.mark.parametrize(
    "axes",
    [
        (Axis("digit", 0, 2, 3), Axis("thickness", 2.2, 4.1, 4)),
        (Axis("thickness", 2.2, 4.1, 2), Axis("slant", -9, 9, 3)),
    ],
    ids=["levels", "numbers"],
)
def test_the_grid_s_command_draws_the_grid_of_the_session(renderer, engine, tmp_path, axes):
    request = edits.whole_picture(drawn_at_random(renderer, 99))
    grid = Grid(*axes)
    session.save(tmp_path / "s.json", session.Session(AppState(request, grid=grid)))
    requests = export.grid_of(renderer.study, request, grid)
    cells = [[coloured(engine.render(r, lambda: False).image, Display()) for r in row] for row in requests]
    origin = export.Origin.of_grid(renderer.header, request, grid)
    command(export.command_of_grid(request, grid, renderer.study, request.snapshot, str(tmp_path / "c.png")))
    export.figure(cells, grid, origin).save(tmp_path / "window.png")
    figure, window = (np.asarray(Image.open(tmp_path / name)) for name in ("c.png", "window.png"))
    assert np.array_equal(figure, window)  # labels, caption and the order of rows included
    export_session(str(tmp_path / "s.json"), str(tmp_path / "session.pdf"), device="cpu")
    export.save_grid(tmp_path / "window.pdf", cells, grid, origin)
    assert streams(tmp_path / "session.pdf") == streams(tmp_path / "window.pdf")


def streams(path):
    """What a PDF draws: its streams, without what it says of itself."""
    return re.findall(rb"stream\r?\n(.*?)endstream", path.read_bytes(), re.DOTALL)


@pytest.mark.parametrize("name", ["brain", "brain-scanners", "digits"])
def test_window_and_command_line_start_from_the_same_values(name):
    """Also the source, which is the one with the most images."""
    path = assets.path(f"snapshots/{name}.safetensors")
    assert TrainingDistribution(read_header(path)).defaults() == Renderer(load_snapshot(path)).defaults
