"""D's mean reading of what a source never recorded is held to what is expected there."""

from __future__ import annotations

import pytest
import torch

from mssg.errors import UsageError
from mssg.training import launch
from mssg.training.batches import open_training_data
from mssg.training.distributed import World
from mssg.training.run import open_run
from mssg.training.state import initial_state
from tests.training.test_slice_pairs import SMALL, stacks

__all__ = ["stacks"]  # a fixture
OPTIONS = SMALL | {"expected_reading": 1.0, "total_kimg": 0.032, "grid_images": 4, "metrics": ()}


def test_how_far_the_readings_are_off_is_part_of_the_state(stacks, tmp_path):
    launch.start(stacks, tmp_path / "run", OPTIONS)
    run = open_run(tmp_path / "run")
    data = open_training_data(run, World())
    state = initial_state(run, data.study, "cpu", print)
    state.load_newest(run.state_files(), print)
    lacking = [any(c.name not in s.observes for s in data.study.sources) for c in data.study.conditions]
    assert [bool(x) for x in state.apart] == lacking and any(lacking) and not all(lacking)
    held = state.apart.clone()
    state.save(tmp_path / "state.pt")
    state.apart.zero_()
    state.load(tmp_path / "state.pt")
    assert torch.equal(state.apart, held)


def test_a_projection_head_reads_nothing(stacks, tmp_path):
    with pytest.raises(UsageError, match="projection head"):
        launch.start(stacks, tmp_path / "run", OPTIONS | {"d_head": "projection"})
