"""Running means of what a step reports, and the one line a tick leaves in stats.jsonl and TensorBoard."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

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
    """stats.jsonl of a run and, beside it, TensorBoard events; rows after `kimg` are dropped when a run resumes."""

    def __init__(self, run: Path, kimg: float) -> None:
        self.path = run / "stats.jsonl"
        if self.path.exists():
            rows = [row for row in read_rows(self.path) if row["kimg"] <= kimg + 1e-9]
            text = "".join(json.dumps(row) + "\n" for row in rows)
            temporary = self.path.with_suffix(".tmp")
            temporary.write_text(text, encoding="utf-8")
            temporary.replace(self.path)
        from torch.utils.tensorboard import SummaryWriter

        self._writer = SummaryWriter(str(run), purge_step=round(kimg * 1000) + 1 if kimg else None)

    def write(self, row: Mapping[str, Any]) -> None:
        """Append one tick; numbers that are not finite become null."""
        clean = {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in row.items()}
        with open(self.path, "a", encoding="utf-8") as file:
            file.write(json.dumps(clean) + "\n")
        step = round(row["kimg"] * 1000)
        for name, value in clean.items():
            if isinstance(value, int | float) and name != "kimg":
                self._writer.add_scalar(name, value, step)
        self._writer.flush()

    def close(self) -> None:
        """Close the TensorBoard file."""
        self._writer.close()


def read_rows(path: Path) -> list[dict[str, Any]]:
    """The rows of a stats.jsonl; a last line that was cut off is left out."""
    rows = []
    if path.exists():
        for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
            try:
                row = json.loads(line)
            except ValueError:
                continue
            if isinstance(row, dict) and isinstance(row.get("kimg"), int | float):
                rows.append(row)
    return rows
