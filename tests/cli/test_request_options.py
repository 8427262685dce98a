"""A request's command line draws the same picture: every field survives, and nothing else comes in."""

from __future__ import annotations

import json
import shlex
from dataclasses import fields, replace

import click
import numpy as np
import pytest
from click.testing import CliRunner

from mssg.errors import UsageError
from mssg.rendering.command_line import generate_command, grid_command, request_words
from mssg.rendering.request import RenderRequest, StoredLatent, to_uint8
from mssg.study.values import Sweep
from trainer_cli import main as entry
from trainer_cli.request_options import request_options, stated_request

VALUES = (("digit", 2.0), ("slant", -0.1), ("thickness", 10 / 3))
CHANGES = (
    {},
    {"seed": 7, "covariates": VALUES, "psi": 0.1 + 0.2, "cutoff": 3},
    {"blend": ((1, 1 / 3), (2, 2 / 3)), "noise_mode": "none"},
    {"mix_seed": 4, "mix_layers": (0, 2, 3), "noise_mode": "random", "noise_seed": 5},
    {"transform": (0.96, -0.28, 1 / 3, 0.28, 0.96, -1e-7), "precision": "float32"},
    {"layer": "b8.conv0", "channel": 3},
    {"layer": "b8.conv0", "channel": 3, "channels": 4},
    {"layer": "b8.conv0", "precision": "float16"},
)


def read(study, words):
    """The request that a command of these words states."""

    @click.command()
    @click.option("--seed", default=0)
    @request_options
    def command(seed, **options):
        return stated_request(study, options, seed)

    return command.main([str(w) for w in words], standalone_mode=False)


@pytest.mark.parametrize("changes", CHANGES)
def test_words_read_back_to_the_same_request(tiny_renderer, changes, tmp_path):
    request = RenderRequest(**changes)
    assert read(tiny_renderer.study, request_words(request, tiny_renderer.study)) == request
    path = tmp_path / "request.json"
    path.write_text(json.dumps(request.to_json()))
    assert read(tiny_renderer.study, ["--request", path]) == request


def test_every_field_of_a_request_has_words(tiny_renderer):
    """A new field that the command line forgets would make `copy command` draw another picture."""
    stated = {name for changes in CHANGES for name in changes} | {"snapshot", "latent"}
    assert stated == {f.name for f in fields(RenderRequest)}


def test_a_latent_s_words_name_its_file(tiny_renderer, tmp_path):
    from safetensors.numpy import save_file

    G, path = tiny_renderer.G, tmp_path / "w.safetensors"
    save_file({"w": np.ones((G.num_ws, G.w_dim), np.float32)}, path)
    request = RenderRequest(latent=StoredLatent(np.ones((G.num_ws, G.w_dim)), file=str(path)), psi=0.5)
    words = request_words(request, tiny_renderer.study)
    assert words == ["--w", str(path), "--psi", "0.5"] and read(tiny_renderer.study, words) == request


@pytest.mark.parametrize("changes", [CHANGES[1], CHANGES[2], CHANGES[3], CHANGES[5]])
def test_the_command_draws_the_picture(tiny_snapshot, tiny_renderer, tmp_path, changes):
    request = RenderRequest(**changes)
    command = generate_command(request, tiny_renderer.study, str(tiny_snapshot), str(tmp_path / "a.npy"))
    done = CliRunner().invoke(entry.cli, shlex.split(command)[1:])
    assert done.exit_code == 0, done.output
    drawn = tiny_renderer.render(request).image
    assert np.array_equal(np.load(tmp_path / "a.npy")[0], drawn if request.layer else to_uint8(drawn))


@pytest.mark.slow
def test_the_command_draws_the_grid(tiny_snapshot, tiny_renderer, tmp_path):
    from PIL import Image

    base = RenderRequest(seed=3, covariates=VALUES, cutoff=2, mix_seed=1, mix_layers=(1,), noise_mode="none")
    axes = Sweep("slant", (-5.0, 5.5)), Sweep("digit", (0.0, 2.0))
    command = grid_command(base, tiny_renderer.study, str(tiny_snapshot), axes, str(tmp_path / "g.png"))
    done = CliRunner().invoke(entry.cli, shlex.split(command)[1:])
    assert done.exit_code == 0, done.output
    sheet = np.asarray(Image.open(tmp_path / "g.png").convert("L"))
    cell = replace(base, covariates=tuple((dict(VALUES) | {"slant": 5.5, "digit": 0.0}).items()))
    values = tiny_renderer.values(cell.covariates)
    full = tuple(zip(tiny_renderer.study.condition_names, values))
    stated = dict(full) | {"intensity": float(f"{dict(full)['intensity']:.3g}")}
    wanted = to_uint8(tiny_renderer.render(replace(cell, covariates=tuple(stated.items()))).image)[0]
    scale = next(s for s in range(1, 60) if _found(sheet, np.kron(wanted, np.ones((s, s), np.uint8))))
    assert scale > 1


def _found(sheet, picture):
    """Whether a picture occurs in a sheet, pixel by pixel."""
    h, w = picture.shape
    rows, cols = np.nonzero(sheet[: len(sheet) - h + 1, : sheet.shape[1] - w + 1] == picture[0, 0])
    return any(np.array_equal(sheet[r : r + h, c : c + w], picture) for r, c in zip(rows, cols))


@pytest.mark.parametrize(
    "words, said",
    [
        (["--blend", "1=a"], "SEED=WEIGHT"),
        (["--mix", "3"], "SEED:LAYERS"),
        (["--mix", "3:4-99999999"], "SEED:LAYERS"),
        (["--transform", "1,0,0"], "six"),
        (["--layer", "b8.conv0:x"], "NAME:CHANNEL"),
        (["--blend", "1=1,2=1", "--seed", "4"], "only one"),
        (["--request", "x.json", "--psi", "0.5"], "only one"),
        (["--request", "nowhere.json"], "cannot be read"),
    ],
)
def test_what_cannot_be_read_is_refused(tiny_renderer, words, said):
    with pytest.raises(UsageError, match=said):
        read(tiny_renderer.study, words)
