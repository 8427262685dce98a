"""One request, one picture: window, copied command, exported session and Python draw the same pixels."""

from __future__ import annotations

import json
import shlex
from dataclasses import replace

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from explorer_app import export, session
from explorer_app import request_edits as edits
from explorer_app.distribution import TrainingDistribution
from explorer_app.engine import Engine
from explorer_app.headless import export_session
from explorer_app.state import AppState, Axis, Display, Grid, grid_requests
from explorer_app.viewing import viewed
from mssg import assets
from mssg.checkpoint.header import read_header
from mssg.checkpoint.snapshot import load_snapshot
from mssg.rendering.command_line import generate_command
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


@pytest.mark.parametrize("seed", range(12))
def test_window_command_session_and_python_draw_the_same(renderer, engine, tmp_path, seed):
    request = drawn_at_random(renderer, seed)
    image = engine.render(request, lambda: False).image
    window = export.coloured(viewed([image], request, Display()), Display())
    command(generate_command(request, renderer.study, request.snapshot, str(tmp_path / "command.png")))
    session.save(tmp_path / "s.json", session.Session(AppState(request)))
    export_session(str(tmp_path / "s.json"), str(tmp_path / "session.png"), device="cpu")
    command_image, session_image = (Image.open(tmp_path / f"{n}.png") for n in ("command", "session"))
    assert np.array_equal(window, np.asarray(command_image)), request
    assert np.array_equal(window, np.asarray(session_image)), request
    plain = replace(request, snapshot="")
    if request.layer is None:
        assert np.array_equal(window, to_uint8(renderer.render(plain).image)[0]), request
    for picture in (command_image, session_image):  # what a picture says of itself draws it again
        stored = json.loads(picture.text["mssg"])["Request"]
        assert stored.pop("snapshot") == renderer.header.snapshot_id
        again = RenderRequest.from_json(stored)
        assert np.array_equal(renderer.render(again).image, renderer.render(plain).image)


@pytest.mark.slow
def test_the_grid_s_command_draws_the_grid_of_the_session(renderer, engine, tmp_path):
    request = edits.whole_picture(drawn_at_random(renderer, 99))
    grid = Grid(Axis("digit", 0, 2, 3), Axis("thickness", 2.2, 4.1, 4))
    session.save(tmp_path / "s.json", session.Session(AppState(request, grid=grid)))
    origin = export.Origin.of_grid(renderer.header, request, grid)
    cells = [[engine.render(r, lambda: False).image for r in row] for row in grid_requests(request, grid)]
    export.save_grid(tmp_path / "window.png", cells, grid, origin, Display())
    command(export.command_of_grid(request, grid, renderer.study, request.snapshot, str(tmp_path / "c.png")))
    figure = np.asarray(Image.open(tmp_path / "c.png").convert("L"))
    window = np.asarray(Image.open(tmp_path / "window.png"))
    side = renderer.G.img_resolution
    for i in range(3):
        for j in range(4):
            cell = window[i * side : (i + 1) * side, j * side : (j + 1) * side]
            assert any(occurs(figure, np.kron(cell, np.ones((s, s), np.uint8))) for s in range(1, 12)), (i, j)


def occurs(sheet: np.ndarray, picture: np.ndarray) -> bool:
    """Whether a picture stands in a sheet, pixel by pixel."""
    h, w = picture.shape
    if h > sheet.shape[0] or w > sheet.shape[1]:
        return False
    rows, columns = np.nonzero(sheet[: len(sheet) - h + 1, : sheet.shape[1] - w + 1] == picture[0, 0])
    return any(np.array_equal(sheet[r : r + h, c : c + w], picture) for r, c in zip(rows, columns))


@pytest.mark.parametrize("name", ["brain", "brain-scanners", "digits"])
def test_window_and_command_line_start_from_the_same_values(name):
    """Also the source, which is the one with the most images."""
    path = assets.path(f"snapshots/{name}.safetensors")
    assert TrainingDistribution(read_header(path)).defaults() == Renderer(load_snapshot(path)).defaults
