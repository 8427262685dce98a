"""The training monitor: a small DearPyGui window on a run folder. No torch, no numpy: it must open at once.

It only reads files, so it survives a dead or restarted trainer and never disturbs one.
"""

from __future__ import annotations

import math
import os
import sys
import time
from pathlib import Path
from typing import Any

from mssg.errors import RunError, UsageError
from mssg.files import parse_json

FRAME_S = 0.1
SILENT_S = 120.0
GROUPS = (
    ("losses", ("loss/",)),
    ("scores", ("score/",)),
    ("metrics", ("metric/",)),
    ("augmentation and weights", ("ada_p", "lambda")),
)


class Tail:
    """The rows of a growing stats.jsonl, whole lines only; starts over when rows were dropped or the file
    replaced."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.rows: list[dict[str, float]] = []
        self.changed_at = 0.0
        self._position = 0
        self._file: tuple[int, int] | None = None

    def read(self) -> bool:
        """Take in what is new; True when the rows changed."""
        try:
            with open(self.path, "rb") as file:
                status = os.fstat(file.fileno())
                identity = (status.st_dev, status.st_ino)
                restarted = self._file not in (None, identity) or status.st_size < self._position
                if restarted:
                    self._position, self.rows = 0, []
                self._file, self.changed_at = identity, status.st_mtime
                file.seek(self._position)
                data = file.read()
        except OSError:
            return False
        end = data.rfind(b"\n") + 1
        self._position += end
        rows = [row for line in data[:end].splitlines() if (row := _numbers(line))]
        self.rows.extend(rows)
        return restarted or bool(rows)

    def curve(self, name: str) -> tuple[list[float], list[float]]:
        """kimg and value of a quantity."""
        pairs = [(row["kimg"], row[name]) for row in self.rows if name in row]
        return [p[0] for p in pairs], [p[1] for p in pairs]

    def names(self) -> list[str]:
        """Every quantity, in order of appearance."""
        return list(dict.fromkeys(name for row in self.rows for name in row))


def _numbers(line: bytes) -> dict[str, float]:
    try:
        row = parse_json(line)
    except ValueError:
        return {}
    if not isinstance(row, dict) or not isinstance(row.get("kimg"), (int, float)):
        return {}
    return {
        k: float(v)
        for k, v in row.items()
        if isinstance(v, (int, float)) and not isinstance(v, bool) and math.isfinite(v)
    }


def duration(seconds: float) -> str:
    """Seconds as 42 s, 12 min, 3 h 05, 2 d 4 h."""
    s = max(0, round(seconds))
    if s < 90:
        return f"{s} s"
    if s < 5400:
        return f"{s // 60} min"
    return f"{s // 3600} h {s % 3600 // 60:02d}" if s < 172_800 else f"{s // 86400} d {s % 86400 // 3600} h"


def headline(tail: Tail, now: float) -> str:
    """One line: progress, speed, time left, and whether the trainer is silent."""
    if not tail.rows:
        return f"waiting for {tail.path}"
    last = tail.rows[-1]
    parts = [f"{last['kimg']:.1f} kimg"]
    if "sec_per_kimg" in last:
        parts.append(f"{last['sec_per_kimg']:.1f} s a kimg")
    if "elapsed_sec" in last:
        parts.append(f"{duration(last['elapsed_sec'])} so far")
    if "eta_sec" in last:
        parts.append(f"{duration(last['eta_sec'])} to go")
    if "memory_gb" in last:
        parts.append(f"{last['memory_gb']:.1f} GB")
    silent = now - tail.changed_at
    if silent > max(SILENT_S, 5 * last.get("sec_per_kimg", 0)):
        parts.append(f"! nothing new for {duration(silent)}")
    return "   ·   ".join(parts)


def newest_grid(run: Path) -> Path | None:
    """The latest sample grid of a run."""
    return max((run / "grids").glob("[0-9]*.png"), default=None)


class Monitor:
    """The window.

    Args:
        run: The run folder.

    Raises:
        RunError: It is no folder.
        UsageError: There is no display.
    """

    def __init__(self, run: str | Path) -> None:
        self.run = Path(run)
        if not self.run.is_dir():
            raise RunError(
                "no such run", file=self.run, hint="Give the folder that `mssg-train --outdir` made"
            )
        if sys.platform.startswith("linux") and not (
            os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
        ):
            raise UsageError(
                "there is no display", hint="Start it on a desktop, or read stats.jsonl in the run's folder"
            )
        import dearpygui.dearpygui as dpg

        self.dpg: Any = dpg
        self.tail = Tail(self.run / "stats.jsonl")
        self._series: set[str] = set()
        self._grid: Path | None = None
        self._texture: Any = None

    def show(self, seconds: float = math.inf, picture: str = "") -> float:
        """Show the window until it is closed.

        Args:
            seconds: Close this long after the first frame (for tests).
            picture: Write the last frame to this PNG before closing.

        Returns:
            Seconds until the first frame.
        """
        dpg, start = self.dpg, time.perf_counter()
        dpg.create_context()
        try:
            dpg.create_viewport(title=f"{self.run.name} — mssg watch", width=1000, height=640)
            dpg.setup_dearpygui()
            self._build()
            dpg.show_viewport()
            first = 0.0
            while dpg.is_dearpygui_running() and (not first or time.perf_counter() - start < first + seconds):
                self._update()
                dpg.render_dearpygui_frame()
                first = first or time.perf_counter() - start
                time.sleep(FRAME_S)
            if picture:
                dpg.output_frame_buffer(picture)
                for _ in range(3):
                    dpg.render_dearpygui_frame()
            return first
        finally:
            dpg.destroy_context()

    def _build(self) -> None:
        dpg = self.dpg
        with dpg.texture_registry(tag="textures"):
            pass
        with dpg.window(tag="main"):
            dpg.add_text("", tag="headline")
            with dpg.group(horizontal=True):
                with (
                    dpg.child_window(width=-330, border=False),
                    dpg.subplots(2, 2, width=-1, height=-1, no_title=True, tag="plots"),
                ):
                    for title, _ in GROUPS:
                        with dpg.plot(label=title):
                            dpg.add_plot_legend()
                            dpg.add_plot_axis(dpg.mvXAxis, label="kimg", tag=f"x {title}")
                            dpg.add_plot_axis(dpg.mvYAxis, tag=f"y {title}")
                with dpg.child_window(width=-1, border=False, tag="side"):
                    dpg.add_text("latest sample grid", tag="grid title")
        dpg.set_primary_window("main", True)

    def _update(self) -> None:
        dpg = self.dpg
        if self.tail.read():
            for title, prefixes in GROUPS:
                for name in (n for n in self.tail.names() if n.startswith(prefixes)):
                    self._plot(title, name)
                dpg.fit_axis_data(f"x {title}")
                dpg.fit_axis_data(f"y {title}")
        dpg.set_value("headline", headline(self.tail, time.time()))
        grid = newest_grid(self.run)
        if grid is not None and grid != self._grid:
            self._picture(grid)

    def _plot(self, title: str, name: str) -> None:
        xs, ys = self.tail.curve(name)
        if name in self._series:
            self.dpg.set_value(f"line {name}", [xs, ys])
        else:
            self.dpg.add_line_series(
                xs, ys, label=name.split("/", 1)[-1], parent=f"y {title}", tag=f"line {name}"
            )
            self._series.add(name)

    def _picture(self, path: Path) -> None:
        dpg = self.dpg
        loaded = dpg.load_image(str(path))
        if loaded is None:
            return  # still being written: the next look finds it whole
        width, height, _, data = loaded
        if self._texture is not None:
            dpg.delete_item("grid image")
            dpg.delete_item(self._texture)
        self._texture = dpg.add_static_texture(width, height, data, parent="textures")
        scale = 310 / max(width, height)
        dpg.add_image(
            self._texture,
            parent="side",
            tag="grid image",
            width=round(width * scale),
            height=round(height * scale),
        )
        dpg.set_value("grid title", f"samples at {path.stem.lstrip('0') or '0'} kimg")
        self._grid = path
