"""A new generator that first learns to draw what a trained one draws."""

from __future__ import annotations

import pytest

from mssg.errors import RunError, UsageError
from mssg.runs.rows import read_rows
from mssg.training import launch

SMALL = {"z_dim": 16, "w_dim": 16, "channel_base": 128, "channel_max": 16, "batch": 8, "mbstd_group": 4}
SMALL |= {"metrics": (), "grid_images": 4, "g_lr": 0.01}
OPTIONS = SMALL | {"cfg": "stylegan3-t", "total_kimg": 0.128, "tick_kimg": 0.032, "imitate_kimg": 0.096}


@pytest.fixture
def teacher(blob_study, tmp_path) -> str:
    """The snapshot of a run that is trained a little."""
    launch.start(blob_study, tmp_path / "teacher", SMALL | {"total_kimg": 0.04})
    return str(sorted((tmp_path / "teacher" / "snapshots").glob("*.safetensors"))[-1])


def test_another_architecture_learns_its_teachers_pictures(teacher, blob_study, tmp_path):
    path = tmp_path / "run"
    launch.start(blob_study, path, OPTIONS, init_from=teacher)
    rows = read_rows(path / "stats.jsonl")
    errors = [row["loss/G/imitation"] for row in rows[:3]]
    assert errors[-1] < 0.8 * errors[0]
    assert ["loss/D/adv" in row for row in rows] == [False, False, False, True]


def test_what_cannot_be_imitated_is_named(teacher, blob_study, tmp_path):
    with pytest.raises(UsageError, match="--init-from"):
        launch.start(blob_study, tmp_path / "none", OPTIONS)
    with pytest.raises(RunError, match="z_dim 24"):
        launch.start(blob_study, tmp_path / "other", OPTIONS | {"z_dim": 24}, init_from=teacher)
