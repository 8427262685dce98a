"""Slices next to each other: which they are, what is drawn of them, what a discriminator makes of them."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from mssg import load_study
from mssg.checkpoint.snapshot import load_snapshot
from mssg.data.dataset import open_sources
from mssg.data.slice_pairs import slice_pairs
from mssg.errors import DataError, SnapshotError, UsageError
from mssg.features.heads import DiscriminatorHeads
from mssg.losses.covariate import CovariateLoss
from mssg.networks.discriminator import build_discriminator
from mssg.training import launch, step
from mssg.training.batches import open_training_data
from mssg.training.distributed import World
from mssg.training.networks import transfer
from mssg.training.run import open_run
from mssg.training.state import initial_state
from tests.strokes import STUDY, write_stacks

SMALL = {"z_dim": 16, "w_dim": 16, "channel_base": 128, "channel_max": 16, "batch": 8, "mbstd_group": 4}


@pytest.fixture
def stacks(tmp_path):
    """A study of slices every 5 mm; its TOML."""
    text = STUDY
    for old, new in write_stacks(tmp_path):
        text = text.replace(old, new)
    toml = tmp_path / "stacks.toml"
    toml.write_text(text, encoding="utf-8")
    return toml


@pytest.fixture
def run(stacks, tmp_path):
    options = SMALL | {"slice_pairs": True, "image_noise": True, "total_kimg": 0.016, "grid_images": 4}
    launch.start(stacks, tmp_path / "run", options | {"metrics": ("covariates",)})
    return tmp_path / "run"


def test_a_slice_is_followed_by_the_next_one_of_the_same_scan(stacks):
    study = load_study(stacks)
    sources = open_sources(study)
    sources[0].table["session"] = np.where(np.arange(len(sources[0].images)) % 21 < 10, "1", "2")
    pairs = slice_pairs(sources, study)
    assert pairs.step == 5
    place = sources[0].values[:, study.index(study.position)]
    for index, ends in ((0, {-15.0, 40.0}), (1, {40.0})):  # the last slice of a session has none after it
        after, rows = pairs.following[index], np.arange(len(pairs.following[index]))
        assert set(place[after < 0]) == ends
        assert np.array_equal(after[after >= 0], rows[after >= 0] + 1)
    first = pairs.first(1, sources[1].rows("train"))
    seen = pairs.images(1, sources[1], first[:3])
    assert np.array_equal(seen[:, 1], sources[1].images[first[:3] + 1, 0])


def test_slices_far_apart_are_no_pairs(stacks):
    study = load_study(stacks)
    sources = open_sources(study)
    where = study.index(study.position)
    sources[1].values[::2, where] += 2  # gaps of 7 and 3 mm; the other source keeps its 5 mm
    with pytest.raises(DataError, match=r"--in-pairs"):
        slice_pairs(sources, study)


def test_training_draws_one_person_at_two_places(run):
    opened = open_run(run)
    data = open_training_data(opened, World())
    state = initial_state(opened, data.study, "cpu", print)
    batch = data.batch(0)
    assert batch.real.images.shape[1] == 2 * data.study.channels
    fakes, where = batch.fakes_for_G, data.study.layout[data.study.position].start
    moved = fakes.beside - fakes.c
    assert (moved[:, where] > 0).all() and not moved[
        :, [i for i in range(moved.shape[1]) if i != where]
    ].any()
    still = dataclasses.replace(fakes, beside=fakes.c)
    setup = step.TrainSetup(opened.config, CovariateLoss(data.study), World())
    with torch.no_grad():
        for block in state.G.modules():
            if hasattr(block, "noise_strength"):
                block.noise_strength.fill_(0.5)
        one, other = step._generate(state, still, slice(0, 4), setup)[0].chunk(2, 1)
        assert torch.equal(one, other)  # one latent and the same noise in every layer
        state.G.synthesis.image_noise.strength.bias.fill_(0.1)
        one, other = step._generate(state, still, slice(0, 4), setup)[0].chunk(2, 1)
        assert 0.05 < (one - other).std() < 0.3  # a scanner's noise is every slice's own


def test_a_discriminator_of_single_slices_becomes_one_of_pairs(run, make_heads):
    path = make_heads()
    single = load_snapshot(path).load("D")
    pair = build_discriminator(dataclasses.replace(single.config, slices=2)).eval()
    said = []
    transfer(str(path), {"D": pair}, said.append)
    taken = f"{len(pair.state_dict())} of {len(pair.state_dict())} tensors of D"
    assert taken in said[0]
    a, b = torch.randn(2, 8, single.img_channels, single.img_resolution, single.img_resolution)
    first = pair.get_submodule(f"b{single.img_resolution}").fromrgb
    assert 0.1 < first.weight[:, 1].std() < 1
    with torch.no_grad():
        assert not torch.allclose(pair(torch.cat([a, b], 1)), pair(torch.cat([a, a], 1)), atol=1e-3)
        first.weight[:, 1] = 0
        assert torch.allclose(pair(torch.cat([a, b], 1)), single(a), atol=1e-5)
    with pytest.raises(SnapshotError, match="pairs of slices"):
        DiscriminatorHeads.of(load_snapshot(run))


def test_a_study_at_one_place_has_no_pairs(tiny_study, tmp_path):
    with pytest.raises(UsageError, match="no slice position"):
        launch.start(tiny_study, tmp_path / "run", SMALL | {"slice_pairs": True})
