"""Figures of a real image's counterfactuals, in Python and from the command line."""

from __future__ import annotations

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from mssg.errors import UsageError
from mssg.inversion.latent_file import InvertedImage
from mssg.inversion.projector import InvertConfig, draw, edited_ws, invert
from mssg.plotting.counterfactual import counterfactual_figure
from trainer_cli.main import cli


@pytest.fixture(scope="module")
def latent(tiny_renderer, tmp_path_factory):
    snapshot = tiny_renderer.snapshot
    values = tiny_renderer.values({"thickness": 3.0, "digit": 1.0})[None]
    image = tiny_renderer.images(values, 3)
    config = InvertConfig(steps=2, candidates=4, features="none")
    found = invert(snapshot.G, snapshot.study, image, values, config)
    how = dict.fromkeys(snapshot.study.condition_names, "given")
    w = edited_ws(snapshot.G, snapshot.study, found)[0].numpy()
    kept = InvertedImage(snapshot.header.snapshot_id, snapshot.study.name, image[0], how, config, found, w)
    return kept.save(tmp_path_factory.mktemp("latents") / "w.safetensors")


@pytest.mark.slow
def test_strips_move_one_covariate_and_hold_the_others(tiny_renderer, latent):
    drawn = counterfactual_figure(tiny_renderer, latent)
    assert drawn.images.shape[:3] == (
        1,
        4,
        7,
    )  # three continuous covariates of seven values, one of three levels
    assert not drawn.images[0, 3, 3:].any()
    inverted = InvertedImage.load(latent)
    names = tiny_renderer.study.condition_names
    wanted = draw(
        tiny_renderer.G, tiny_renderer.study, inverted.inversion, inverted.edited(names, {"digit": 2.0})
    )
    assert np.array_equal(drawn.images[0, 3, 2], wanted[0])
    assert drawn.encode(".png") == counterfactual_figure(tiny_renderer, latent).encode(".png")


@pytest.mark.slow
def test_the_command_draws_grids_and_refuses_what_does_not_fit(
    tiny_snapshot, make_snapshot, latent, tmp_path
):
    def run(*words, snapshot=tiny_snapshot):
        words = [
            "figure",
            "counterfactuals",
            latent,
            "--snapshot",
            snapshot,
            *words,
            "-o",
            tmp_path / "x.png",
        ]
        return CliRunner().invoke(cli, [str(w) for w in words])

    done = run("--rows", "thickness=2:5:3", "--cols", "digit", "--fix", "slant=10")
    assert done.exit_code == 0 and "3 x 3" in done.output, done.output
    assert np.asarray(Image.open(tmp_path / "x.png")).std() > 0
    for words, said in (
        (["--rows", "thickness"], "two sides"),
        (["--rows", "thickness", "--cols", "thickness"], "both axes"),
        (["--rows", "thickness", "--cols", "digit", "--fix", "digit=1"], "on an axis"),
        (["--fix", "age=3"], "age"),
    ):
        refused = run(*words)
        assert refused.exit_code == 2 and said in refused.output, refused.output
    other = make_snapshot(cfg="stylegan3-t", name="other")
    refused = run(snapshot=other)
    assert refused.exit_code == 2 and "another snapshot" in refused.output


def test_a_bare_latent_is_no_image(tiny_renderer, tmp_path):
    with pytest.raises(UsageError, match="no such file"):
        counterfactual_figure(tiny_renderer, tmp_path / "none.safetensors")
