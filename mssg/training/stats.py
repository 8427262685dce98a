"""Running means of what a step reports, and the one line a tick leaves in stats.jsonl and TensorBoard."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Mapping
from typing import Any

import psutil
import torch
from torch import Tensor

from mssg.errors import RunError
from mssg.files import write_atomically
from mssg.runs.folder import RunFolder
from mssg.runs.rows import instruments, marked, numbers, read_rows
from mssg.study.train_config import TrainConfig
from mssg.text import duration, number
from mssg.training.distributed import World
from mssg.training.events import Events
from mssg.training.state import TrainState
from mssg.training.step import Statistics


class Meter:
    """Means of what the steps since the last tick reported, and how fast they went."""

    def __init__(self, config: TrainConfig, world: World, step: int) -> None:
        self._config, self._world = config, world
        self._sums: Statistics = {}
        self._counts: dict[str, Tensor | int] = {}
        self._started = time.perf_counter()
        self.restart(step)

    def restart(self, step: int) -> None:
        """Measure the speed from here on."""
        self._ticked_at, self._ticked_step = time.perf_counter(), step

    def add(self, statistics: Statistics) -> None:
        """Add what one step reports."""
        for name, value in statistics.items():
            value, count = value if value.ndim else (value, 1)
            self._sums[name] = self._sums.get(name, 0) + value
            self._counts[name] = self._counts.get(name, 0) + count

    def row(self, state: TrainState) -> dict[str, Any]:
        """The row of stats.jsonl for the steps since the last one; the meter starts anew."""
        config, now = self._config, time.perf_counter()
        kimg, since = config.kimg(state.step), config.kimg(state.step - self._ticked_step)
        per_kimg = (now - self._ticked_at) / max(since, 1e-9)
        self.restart(state.step)
        return {
            "kimg": kimg,
            "elapsed_sec": now - self._started,
            "sec_per_kimg": per_kimg,
            "eta_sec": per_kimg * (config.total_kimg - kimg),
            **self._means(),
            "lambda": config.lambda_at(config.kimg(state.step - 1)),
            "ada_p": state.augment.p,
            "memory_gb": memory_gb(self._world.device),
        }

    def _means(self) -> dict[str, float]:
        """The means over all processes and steps that had something to report."""
        world = self._world
        names = world.union(self._sums)
        device = "cpu" if world.device == "mps" else world.device  # float64 is unknown there
        table = torch.zeros(len(names), 2, dtype=torch.float64, device=device)
        for row, name in enumerate(names):
            table[row, 0], table[row, 1] = self._sums.get(name, 0.0), self._counts.get(name, 0)
        table = world.sum(table)
        self._sums, self._counts = {}, {}
        return {name: total / n for name, (total, n) in zip(names, table.tolist()) if n}


class Forecast:
    """What a run will take, told after its third step: a tick may be hours away.

    The first step, which also sets things up, is left out. It is told of where it is slow.
    """

    STEPS = 3
    SLOW_SEC = 60.0

    def __init__(self, config: TrainConfig, device: str, step: int) -> None:
        self._config, self._device, self._begun = config, device, step
        self._started = self._first = time.perf_counter()

    def __call__(self, step: int) -> str:
        """What is known after a step; empty where nothing new is."""
        config, done = self._config, step - self._begun
        if done not in (1, self.STEPS):
            return ""
        if self._device.startswith("cuda"):
            torch.cuda.synchronize()
        now, memory = time.perf_counter(), f"memory {memory_gb(self._device):.1f} GB"
        if done == 1:
            self._first = now
            took = now - self._started
            return f"the first step took {duration(took)}, {memory}" if took > self.SLOW_SEC else ""
        per_kimg = (now - self._first) / config.kimg(done - 1)
        left = per_kimg * (config.total_kimg - config.kimg(step))
        tick = per_kimg * config.kimg(config.steps_per_tick)
        when = f"{duration(left)} to the end, a line every {duration(tick)}"
        more = "regularisers, snapshots and what is measured come on top"
        return f"about {number(per_kimg)} s/kimg: {when}; {memory}; {more}"


def memory_gb(device: str) -> float:
    """Memory in use by this process, in GB: peak on a GPU, resident on a CPU."""
    if device.startswith("cuda"):
        return torch.cuda.max_memory_allocated() / 1e9
    return psutil.Process().memory_info().rss / 1e9


class StatsLog:
    """stats.jsonl of a run and, beside it, TensorBoard events; rows after `kimg` are dropped."""

    def __init__(self, folder: RunFolder, kimg: float) -> None:
        self._path = folder.stats_file
        if self._path.exists():
            rows = [row for row in read_rows(self._path) if row["kimg"] <= kimg + 1e-9]
            write_atomically(self._path, "".join(json.dumps(row) + "\n" for row in rows), RunError)
        self._events = Events(folder.path, round(kimg * 1000) + 1 if kimg else None)

    def write(self, row: Mapping[str, Any]) -> None:
        """Append one tick; numbers that are not finite become null."""
        clean = {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in row.items()}
        with open(self._path, "a", encoding="utf-8") as file:
            file.write(json.dumps(clean) + "\n")
        known = instruments(row)
        shown = {marked(k, known): v for k, v in numbers(clean).items() if k != "kimg"}
        self._events.write(shown, round(row["kimg"] * 1000))
