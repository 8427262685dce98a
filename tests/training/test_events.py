"""TensorBoard's event files, read by TensorBoard."""

from __future__ import annotations

import pytest

from mssg.training.events import Events


def scalars(folder) -> dict[str, list[tuple[int, float]]]:
    """Tag -> (step, value), as TensorBoard's own reader sees a run."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    found = EventAccumulator(str(folder))
    found.Reload()
    return {tag: [(e.step, e.value) for e in found.Scalars(tag)] for tag in found.Tags()["scalars"]}


def test_tensorboard_reads_what_is_written(tmp_path):
    events = Events(tmp_path, None)
    events.write({"loss/G/adv": 0.5, "metric/r(age, größe)": -1e-30}, 1000)
    events.write({"loss/G/adv": 3e7}, 70_000_000_000)
    assert scalars(tmp_path) == {
        "loss/G/adv": [(1000, 0.5), (70_000_000_000, 3e7)],
        "metric/r(age, größe)": [(1000, pytest.approx(-1e-30))],
    }


def test_a_resumed_run_takes_back_what_came_after(tmp_path):
    first = Events(tmp_path, None)
    for step in (0, 100, 200, 300):
        first.write({"x": float(step)}, step)
    Events(tmp_path, 200).write({"x": -1.0}, 200)
    assert scalars(tmp_path) == {"x": [(0, 0.0), (100, 100.0), (200, -1.0)]}
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "events.out.tfevents.000000",
        "events.out.tfevents.000001",
    ]
