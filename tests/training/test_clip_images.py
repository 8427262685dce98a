"""With `clip_images`, D sees generated images as a file holds them."""

from __future__ import annotations

import pytest
import torch

from mssg.losses.covariate import CovariateLoss
from mssg.training import launch, step
from mssg.training.batches import open_training_data
from mssg.training.distributed import World
from mssg.training.run import open_run
from mssg.training.state import initial_state
from tests.training.test_slice_pairs import SMALL, stacks

__all__ = ["stacks"]  # a fixture


@pytest.mark.parametrize("pairs", [False, True])
@pytest.mark.parametrize("clips", [False, True])
def test_what_is_judged_lies_within_the_grey_levels(stacks, tmp_path, clips, pairs):
    options = SMALL | {"clip_images": clips, "slice_pairs": pairs, "image_noise": True, "total_kimg": 0.016}
    launch.start(stacks, tmp_path / "run", options | {"grid_images": 4, "metrics": ()})
    run = open_run(tmp_path / "run")
    data = open_training_data(run, World())
    state = initial_state(run, data.study, "cpu", print)
    state.G.synthesis.image_noise.strength.bias.data.fill_(2)
    setup = step.TrainSetup(run.config, CovariateLoss(data.study), World())
    images, _ = step._generate(state, data.batch(0).fakes_for_G, slice(0, 4), setup)
    assert (images.abs().max() <= 1) == clips


def test_a_picture_that_is_too_dark_can_come_back():
    """Without any gradient there, pictures that are black all over would stay so."""
    images = torch.tensor([-3.0, -0.9, 0.2, 0.9, 5.0], requires_grad=True)
    clipped = step._clipped(images)
    assert clipped.tolist() == pytest.approx([-1, -0.9, 0.2, 0.9, 1])
    clipped.sum().backward()
    assert images.grad.tolist() == pytest.approx([step.LEAK, 1, 1, 1, step.LEAK])
