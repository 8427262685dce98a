"""Running means of what a step reports, and the one line a tick leaves in stats.jsonl and TensorBoard."""

from __future__ import annotations

import importlib
import json
import math
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mssg.errors import RunError
from mssg.files import write_atomically
from mssg.runs.rows import read_rows
from mssg.training.distributed import World


class Meter:
    """Means of named scalars since the last `take`."""

    def __init__(self) -> None:
        self._sums: dict[str, Tensor] = {}
        self._counts: dict[str, int] = {}

    def add(self, values: Mapping[str, Tensor]) -> None:
        """Add one observation of each name."""
        for name, value in values.items():
            self._sums[name] = self._sums.get(name, 0) + value.detach()
            self._counts[name] = self._counts.get(name, 0) + 1

    def take(self, world: World) -> dict[str, float]:
        """The means over all processes; the meter starts anew."""
        names = world.union(self._sums)
        table = torch.zeros(
            len(names), 2, dtype=torch.float64, device="cpu" if world.device == "mps" else world.device
        )
        for row, name in enumerate(names):
            table[row, 0], table[row, 1] = self._sums.get(name, 0.0), self._counts.get(name, 0)
        table = world.sum(table)
        self._sums, self._counts = {}, {}
        return {name: float(s / n) for name, (s, n) in zip(names, table.tolist()) if n}


class StatsLog:
    """stats.jsonl of a run and, beside it, TensorBoard events; rows after `kimg` are dropped when a run
    resumes."""

    def __init__(self, run: Path, kimg: float) -> None:
        self.path = run / "stats.jsonl"
        if self.path.exists():
            rows = [row for row in read_rows(self.path) if row["kimg"] <= kimg + 1e-9]
            write_atomically(self.path, "".join(json.dumps(row) + "\n" for row in rows), RunError)
        self._events = Events(run, round(kimg * 1000) + 1 if kimg else None)

    def write(self, row: Mapping[str, Any]) -> None:
        """Append one tick; numbers that are not finite become null."""
        clean = {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in row.items()}
        with open(self.path, "a", encoding="utf-8") as file:
            file.write(json.dumps(clean) + "\n")
        numbers = {k: v for k, v in clean.items() if isinstance(v, int | float) and k != "kimg"}
        self._events.write(numbers, round(row["kimg"] * 1000))


class Events:
    """A file of TensorBoard events, written here and now: no thread that outlives an error, no name of the
    machine.

    Files are numbered, so that TensorBoard reads them in order whatever the clock said.

    Args:
        run: The run's folder.
        purge: Steps from here on, in files before this one, no longer count; None for a new run.
    """

    def __init__(self, run: Path, purge: int | None) -> None:
        proto = _messages("event")
        self._path = run / f"events.out.tfevents.{len(list(run.glob('events.*'))):06d}"
        start = (
            []
            if purge is None
            else [proto.Event(step=purge, session_log=proto.SessionLog(status=proto.SessionLog.START))]
        )
        self._add(proto.Event(file_version="brain.Event:2"), *start)

    def _add(self, *events: Any) -> None:
        from tensorboard.summary.writer.record_writer import RecordWriter

        with open(self._path, "ab") as file:
            for event in events:
                event.wall_time = time.time()
                RecordWriter(file).write(event.SerializeToString())

    def write(self, numbers: Mapping[str, float], step: int) -> None:
        """One scalar for each name."""
        Event, Summary = _messages("event").Event, _messages("summary").Summary
        values = [Summary.Value(tag=tag, simple_value=value) for tag, value in numbers.items()]
        self._add(Event(step=step, summary=Summary(value=values)))


def _messages(name: str) -> Any:
    """A module of TensorBoard's messages, whose classes protobuf makes at run time."""
    return importlib.import_module(f"tensorboard.compat.proto.{name}_pb2")
