"""The training monitor: a small DearPyGui window on a run folder. No torch, no numpy: it must open at once.

It only reads files, so it survives a dead or restarted trainer and never disturbs one.
"""

from __future__ import annotations

import math
import os
import sys
import time
import warnings
from pathlib import Path
from typing import Any

from mssg import assets
from mssg.errors import RunError, UsageError
from mssg.runs.folder import RunFolder
from mssg.runs.follow import GrowingRows
from mssg.text import duration

FRAME_S = 0.1
SILENT_S = 120.0
TOGETHER = {"loss/": "losses", "score/": "scores"}
"""Quantities of one scale, which share a chart; every other one has its own."""
ALONE = ("metric/", "ada_p", "lambda")
FONT_SIZE, CHART_HEIGHT, SIDE_WIDTH = 16, 240, 330


def chart_of(name: str) -> str:
    """The chart that shows a quantity; "" where none does."""
    for prefix, title in TOGETHER.items():
        if name.startswith(prefix):
            return title
    return name.split("/", 1)[-1] if name.startswith(ALONE) else ""


def headline(rows: GrowingRows, now: float) -> str:
    """One line: progress, speed, time left, and whether the trainer is silent."""
    if not rows:
        return f"waiting for {rows.path}"
    last = rows.last
    parts = [f"{last['kimg']:.1f} kimg"]
    if "sec_per_kimg" in last:
        parts.append(f"{last['sec_per_kimg']:.1f} s a kimg")
    if "elapsed_sec" in last:
        parts.append(f"{duration(last['elapsed_sec'])} so far")
    if "eta_sec" in last:
        parts.append(f"{duration(last['eta_sec'])} to go")
    if "memory_gb" in last:
        parts.append(f"{last['memory_gb']:.1f} GB")
    silent = now - rows.changed_at
    if silent > max(SILENT_S, 5 * last.get("sec_per_kimg", 0)):
        parts.append(f"! nothing new for {duration(silent)}")
    return "   ·   ".join(parts)


def _check_display() -> None:
    """Open and close an invisible window: DearPyGui aborts the process where it cannot have one.

    Raises:
        UsageError: There is no display, it cannot be reached, or its OpenGL is too old.
    """
    hint = "Start it on a desktop, or read stats.jsonl in the run's folder"
    display = os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    if sys.platform.startswith("linux") and not display:
        raise UsageError("there is no display", hint=hint)
    import glfw

    window = None
    with warnings.catch_warnings(action="ignore"):  # glfw's way to tell
        if glfw.init():
            for name, value in (("VISIBLE", 0), ("CONTEXT_VERSION_MAJOR", 3), ("CONTEXT_VERSION_MINOR", 0)):
                glfw.window_hint(getattr(glfw, name), value)
            window = glfw.create_window(64, 64, "mssg watch", None, None)
        glfw.terminate()
    if not window:  # a null pointer
        raise UsageError(
            "no window can be opened: the display cannot be reached, or has no OpenGL 3.0",
            field="DISPLAY",
            found=display,
            hint=hint,
        )


class Monitor:
    """The window.

    Raises:
        RunError: It is no folder.
        UsageError: There is no display, or none that can show it.
    """

    def __init__(self, run: str | Path) -> None:
        self.run = Path(run)
        if not self.run.is_dir():
            raise RunError(
                "no such run", file=self.run, hint="Give the folder that `mssg-train --outdir` made"
            )
        _check_display()
        import dearpygui.dearpygui as dpg

        self.dpg: Any = dpg
        self.rows = GrowingRows(RunFolder(self.run).stats_file)
        self._series: set[str] = set()
        self._charts: list[str] = []
        self._said: dict[str, tuple[str, str]] = {}
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
        with dpg.font_registry():
            font = dpg.add_font(str(assets.path("fonts/Roboto-Regular.ttf")), FONT_SIZE)
        dpg.bind_font(font)
        with dpg.texture_registry(tag="textures"):
            pass
        with dpg.window(tag="main"):
            dpg.add_text("", tag="headline")
            with dpg.group(horizontal=True):
                dpg.add_child_window(width=-SIDE_WIDTH, border=False, tag="charts")
                with dpg.child_window(width=-1, border=False, tag="side"):
                    dpg.add_text("latest sample grid", tag="grid title")
        dpg.set_primary_window("main", True)

    def _update(self) -> None:
        dpg = self.dpg
        if self.rows.update():
            for name in self.rows.names:
                if title := chart_of(name):
                    self._plot(title, name)
            for title in self._charts:
                dpg.fit_axis_data(f"x {title}")
                dpg.fit_axis_data(f"y {title}")
        dpg.set_value("headline", headline(self.rows, time.time()))
        grid = RunFolder(self.run).newest_grid()
        if grid is not None and grid != self._grid:
            self._picture(grid)

    def _chart(self, title: str) -> None:
        """A chart with its legend beside it, so that neither covers the other; below, what read it."""
        dpg = self.dpg
        self._charts.append(title)
        with dpg.plot(label=title, parent="charts", width=-1, height=CHART_HEIGHT, tag=f"plot {title}"):
            dpg.add_plot_legend(location=dpg.mvPlot_Location_East, outside=True)
            dpg.add_plot_axis(dpg.mvXAxis, label="kimg", tag=f"x {title}")
            dpg.add_plot_axis(dpg.mvYAxis, tag=f"y {title}")
        dpg.add_text("", parent="charts", tag=f"worth {title}", wrap=0, show=False)

    def _plot(self, title: str, name: str) -> None:
        dpg = self.dpg
        xs, ys = (values.tolist() for values in self.rows.curve(name))
        if title not in self._charts:
            self._chart(title)
        if worth := self.rows.worth(name):
            label = chart_of(self.rows.marked(name))
            dpg.configure_item(f"worth {title}", default_value=worth, show=True)
            dpg.configure_item(f"plot {title}", label=label)
            self._said[title] = (label, worth)
        if name in self._series:
            for kind in ("line", "points"):
                dpg.set_value(f"{kind} {name}", [xs, ys])
            if len(xs) > 1:  # a single point is no line
                dpg.hide_item(f"points {name}")
            return
        label = name.split("/", 1)[-1]
        dpg.add_line_series(xs, ys, label=label, parent=f"y {title}", tag=f"line {name}")
        dpg.add_scatter_series(xs, ys, parent=f"y {title}", tag=f"points {name}", show=len(xs) == 1)
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
