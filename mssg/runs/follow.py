"""A run read as it grows: its rows, its log and its snapshots."""

from __future__ import annotations

import os
import time
from array import array
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from mssg.runs.folder import RunFolder, kimg_of
from mssg.runs.rows import instruments, marked, numbers, parse_rows, worth

POLL_S = 0.5
LOG_LINES = 400


class GrowingText:
    """Whole new lines of a text file that grows, is replaced or is cut short (a resumed run drops rows).

    Attributes:
        changed_at: When the file was last written, in seconds of `time.time`; 0 before there is one.
    """

    def __init__(self, path: Path) -> None:
        self.path, self.changed_at = path, 0.0
        self._position = 0
        self._identity: tuple[int, int] | None = None

    def read(self) -> tuple[bool, list[str]]:
        """Whether everything read before is void, and the new whole lines."""
        try:
            with open(self.path, "rb") as file:
                status = os.fstat(file.fileno())
                identity = (status.st_dev, status.st_ino)
                restarted = self._identity not in (None, identity) or status.st_size < self._position
                if restarted:
                    self._position = 0
                self._identity, self.changed_at = identity, status.st_mtime
                file.seek(self._position)
                data = file.read()
        except OSError:
            return False, []
        end = data.rfind(b"\n") + 1
        self._position += end
        return restarted, data[:end].decode("utf-8", "replace").splitlines()


class GrowingRows:
    """The rows of a stats.jsonl that grows, as curves by name."""

    def __init__(self, path: Path) -> None:
        self._text = GrowingText(path)
        self._rows: list[dict[str, float]] = []
        self._curves: dict[str, tuple[array[float], array[float]]] = {}
        self._instruments: dict[str, Mapping[str, str]] = {}

    def update(self) -> bool:
        """Read what is new; True when the rows changed."""
        restarted, lines = self._text.read()
        rows = parse_rows(lines)
        new = [numbers(row) for row in rows]
        self._rows = [*([] if restarted else self._rows), *new]
        for row in rows:
            self._instruments |= instruments(row)
        if changed := restarted or bool(new):
            self._curves = {}
        return changed

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def path(self) -> Path:
        """The file."""
        return self._text.path

    @property
    def changed_at(self) -> float:
        """When the file was last written, in seconds of `time.time`."""
        return self._text.changed_at

    @property
    def names(self) -> tuple[str, ...]:
        """Every quantity, in order of appearance."""
        return tuple(dict.fromkeys(name for row in self._rows for name in row if name != "kimg"))

    @property
    def last(self) -> Mapping[str, float]:
        """The newest row; empty before the first."""
        return self._rows[-1] if self._rows else {}

    def worth(self, name: str) -> str:
        """What the instrument that read a quantity is worth, in words; "" where there was none."""
        return worth(name, self._instruments)

    def marked(self, name: str) -> str:
        """A quantity's name with the doubt about what read it."""
        return marked(name, self._instruments)

    def curve(self, name: str) -> tuple[array[float], array[float]]:
        """kimg and value of a quantity, float64 each."""
        if name not in self._curves:
            rows = [row for row in self._rows if name in row]
            self._curves[name] = (
                array("d", (row["kimg"] for row in rows)),
                array("d", (row[name] for row in rows)),
            )
        return self._curves[name]


@dataclass(frozen=True)
class Checkpoint:
    """A snapshot of a run: thousands of images shown so far, and its file."""

    kimg: float
    path: str


class FollowedRun:
    """A run's folder and what is new in it."""

    def __init__(self, path: str | Path) -> None:
        self.folder = Path(path)
        self.checkpoints: tuple[Checkpoint, ...] = ()
        self.log: list[str] = []
        self._files = RunFolder(self.folder)
        self.statistics = GrowingRows(self._files.stats_file)
        self._log = GrowingText(self._files.log_file)
        self._next = 0.0

    def poll(self, now: float | None = None) -> bool:
        """Look for news, at most every half second; True when there is a new snapshot."""
        now = time.monotonic() if now is None else now
        if now < self._next:
            return False
        self._next = now + POLL_S
        self.statistics.update()
        restarted, lines = self._log.read()
        self.log = [*([] if restarted else self.log), *lines][-LOG_LINES:]
        found = tuple(Checkpoint(kimg_of(p), str(p)) for p in self._files.snapshot_files())
        fresh = bool(found) and (not self.checkpoints or found[-1].path != self.checkpoints[-1].path)
        self.checkpoints = found
        return fresh

    def index(self, path: str) -> int:
        """Position of a snapshot among the run's; -1 when it is none of them."""
        return next((i for i, c in enumerate(self.checkpoints) if c.path == path), -1)
