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

from mssg.errors import RunError, UsageError
from mssg.runs.folder import RunFolder
from mssg.runs.follow import GrowingRows
from mssg.text import duration

FRAME_S = 0.1
SILENT_S = 120.0
GROUPS = (
    ("losses", ("loss/",)),
    ("scores", ("score/",)),
    ("metrics", ("metric/",)),
    ("augmentation and weights", ("ada_p", "lambda")),
)


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

    Args:
        run: The run folder.

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
        if self.rows.update():
            for title, prefixes in GROUPS:
                for name in (n for n in self.rows.names if n.startswith(prefixes)):
                    self._plot(title, name)
                dpg.fit_axis_data(f"x {title}")
                dpg.fit_axis_data(f"y {title}")
        dpg.set_value("headline", headline(self.rows, time.time()))
        grid = RunFolder(self.run).newest_grid()
        if grid is not None and grid != self._grid:
            self._picture(grid)

    def _plot(self, title: str, name: str) -> None:
        xs, ys = (values.tolist() for values in self.rows.curve(name))
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
