"""Following a training run: its snapshots, statistics and log, read as they grow. Files only; no torch, no
imgui."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mssg.checkpoint.header import run_snapshots
from mssg.files import parse_json

POLL_S = 0.5
LOG_LINES = 400


@dataclass(frozen=True)
class Checkpoint:
    """A snapshot of a run: thousands of images shown so far, and its file."""

    kimg: float
    path: str


class Tail:
    """Whole new lines of a text file that grows, is replaced or is cut short (a resumed run drops rows)."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._position = 0
        self._identity: tuple[int, int] | None = None

    def lines(self) -> tuple[bool, list[str]]:
        """Whether everything read before is void, and the new whole lines."""
        try:
            with open(self.path, "rb") as file:
                import os

                status = os.fstat(file.fileno())
                identity = (status.st_dev, status.st_ino)
                restarted = self._identity not in (None, identity) or status.st_size < self._position
                if restarted:
                    self._position = 0
                self._identity = identity
                if status.st_size == self._position:
                    return restarted, []
                file.seek(self._position)
                data = file.read()
        except OSError:
            return False, []
        end = data.rfind(b"\n") + 1
        self._position += end
        return restarted, data[:end].decode("utf-8", "replace").splitlines()


class Statistics:
    """The rows of stats.jsonl as columns of numbers by name."""

    def __init__(self, path: Path) -> None:
        self._tail = Tail(path)
        self._rows: list[dict[str, float]] = []
        self._columns: dict[str, tuple[np.ndarray, np.ndarray]] = {}

    def update(self) -> bool:
        """Read what is new; True when there was something."""
        restarted, lines = self._tail.lines()
        if restarted:
            self._rows = []
        self._rows.extend(_rows(lines))
        if restarted or lines:
            self._columns = {}
        return restarted or bool(lines)

    @property
    def names(self) -> tuple[str, ...]:
        """Every name that has a number in some row, in order of appearance."""
        return tuple(dict.fromkeys(name for row in self._rows for name in row if name != "kimg"))

    @property
    def last(self) -> dict[str, float]:
        """The newest row."""
        return self._rows[-1] if self._rows else {}

    def curve(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        """kimg and value of a quantity, float64 each."""
        if name not in self._columns:
            pairs = [(row["kimg"], row[name]) for row in self._rows if name in row and "kimg" in row]
            table = np.array(pairs, np.float64).reshape(-1, 2)
            self._columns[name] = np.ascontiguousarray(table[:, 0]), np.ascontiguousarray(table[:, 1])
        return self._columns[name]


def _rows(lines: list[str]) -> Iterator[dict[str, float]]:
    for line in lines:
        try:
            row: Any = parse_json(line)
        except ValueError:
            continue  # a crash may leave half a line; the rows after it are still good
        if isinstance(row, dict):
            yield {
                k: float(v)
                for k, v in row.items()
                if isinstance(v, (int, float)) and not isinstance(v, bool) and np.isfinite(v)
            }


class Run:
    """A run folder and what is new in it.

    Args:
        folder: The run.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self.checkpoints: tuple[Checkpoint, ...] = ()
        self.statistics = Statistics(self.folder / "stats.jsonl")
        self.log: list[str] = []
        self._log = Tail(self.folder / "log.txt")
        self._next = 0.0

    def poll(self, now: float | None = None) -> bool:
        """Look for news, at most every half second; True when there is a new snapshot."""
        now = time.monotonic() if now is None else now
        if now < self._next:
            return False
        self._next = now + POLL_S
        self.statistics.update()
        restarted, lines = self._log.lines()
        self.log = [*([] if restarted else self.log), *lines][-LOG_LINES:]
        found = tuple(Checkpoint(_kimg(p), str(p)) for p in run_snapshots(self.folder))
        fresh = bool(found) and (not self.checkpoints or found[-1].path != self.checkpoints[-1].path)
        self.checkpoints = found
        return fresh

    def index(self, path: str) -> int:
        """Position of a snapshot among the run's; -1 when it is none of them."""
        return next((i for i, c in enumerate(self.checkpoints) if c.path == path), -1)


def _kimg(path: Path) -> float:
    digits = "".join(c for c in path.stem if c.isdigit())
    return float(digits) if digits else 0.0


def is_run(path: str | Path) -> bool:
    """True for a folder that looks like a training run."""
    folder = Path(path)
    return folder.is_dir() and any(
        (folder / name).exists() for name in ("snapshots", "stats.jsonl", "config.json")
    )
