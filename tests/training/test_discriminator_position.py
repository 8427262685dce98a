"""A discriminator that judges a slice by its place."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from mssg.checkpoint.snapshot import load_snapshot
from mssg.errors import UsageError
from mssg.networks.config import PROJECTION, DiscriminatorConfig
from mssg.networks.discriminator import build_discriminator
from mssg.training import launch
from mssg.training.batches import open_training_data
from mssg.training.distributed import World
from mssg.training.run import open_run
from tests.training.test_slice_pairs import SMALL, stacks

__all__ = ["stacks"]  # a fixture

CONFIG = DiscriminatorConfig(
    c_dim=3,
    img_resolution=32,
    channel_base=128,
    channel_max=16,
    mbstd_channels=0,
    position_index=1,
    position_frequencies=4,
)


def test_at_first_the_place_changes_nothing():
    D = build_discriminator(CONFIG)
    images, c = torch.randn(4, 1, 32, 32), torch.randn(4, 3)
    assert torch.equal(D(images, c), D(images))


def test_realness_depends_on_the_place_and_readings_do_not():
    D = build_discriminator(CONFIG)
    with torch.no_grad():
        D.b4.embed_position.weight.normal_()
    images, c = torch.randn(4, 1, 32, 32), torch.randn(4, 3)
    elsewhere, older = c.clone(), c.clone()
    elsewhere[:, 1] += 0.1
    older[:, [0, 2]] += 1
    here = D(images, c)
    assert ((here - D(images, elsewhere))[:, 0].abs() > 1e-4).all()
    assert torch.equal(here[:, 1:], D(images, elsewhere)[:, 1:])
    assert torch.equal(here, D(images, older))


@pytest.mark.parametrize(
    "wrong", [{"position_index": 3}, {"position_frequencies": 13}, {"head": PROJECTION}], ids=str
)
def test_impossible_configurations(wrong):
    with pytest.raises(UsageError):
        dataclasses.replace(CONFIG, **wrong)


def test_the_generator_is_held_to_all_that_is_read_but_the_place(stacks, tmp_path):
    options = SMALL | {"slice_pairs": True, "d_position_frequencies": 3, "total_kimg": 0.032}
    launch.start(stacks, tmp_path / "run", options | {"grid_images": 4, "metrics": ()})
    run = open_run(tmp_path / "run")
    data = open_training_data(run, World())
    fakes, place = data.batch(0).fakes_for_G, data.study.index(data.study.position)
    others = [i for i in range(len(data.study.conditions)) if i != place]
    assert not fakes.mask[:, place].any() and fakes.mask[:, others].all()
    assert load_snapshot(tmp_path / "run").load("D").b4.embed_position.weight.abs().max() > 0


def test_a_study_at_one_place_has_no_place_to_judge_by(tiny_study, tmp_path):
    with pytest.raises(UsageError, match="no slice position"):
        launch.start(tiny_study, tmp_path / "run", SMALL | {"d_position_frequencies": 3})
