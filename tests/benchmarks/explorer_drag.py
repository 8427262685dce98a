"""How quickly the explorer answers: first frame, frame times and changed pixels during a drag, the last full
picture.

python tests/benchmarks/explorer_drag.py [SNAPSHOT] [--size 1280x800]      (under xvfb-run -a -s "-screen 0
1280x800x24")

A process is started as `mssg explore` would start it; a covariate's slider is dragged for three seconds with
an input in every frame. An input is answered by the first frame that shows its picture or that of a later
input. Goals: first frame < 1 s after the process was started, frames p95 <= 33 ms, changed pixels p95 <= 100
    ms, last full picture <= 400 ms.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

ROOT = Path(__file__).resolve().parents[2]
DRAG_S = 3.0

if TYPE_CHECKING:
    from explorer_app.app import Explorer
    from mssg.rendering.request import RenderRequest


class Clock:
    """Times of the window's own frames, and of the way from an input to the pixels that answer it.

    A frame lasts from one call of `pre_new_frame` to the next, by which time it has been swapped onto the
    screen.
    """

    def __init__(self, explorer: Explorer) -> None:
        self.app, calls = explorer.context, explorer.parameters.callbacks
        self.frames: list[float] = []  # ms
        self.answers: list[float] = []  # ms, of every input
        self.first_frame_cpu_s = 0.0
        self.first_of: dict[str, float] = {}  # kind of picture -> when its first was on the screen
        self.running = False
        self.sent = self.applied = self.last = (
            0.0  # time of the last input, of the one this frame sees, of the last frame
        )
        self.open: list[
            tuple[float, RenderRequest]
        ] = []  # inputs not answered yet: when, and the picture they ask for
        begin, end = calls.pre_new_frame, calls.before_imgui_render

        def begun() -> None:
            if explorer.frames == 1:
                self.first_frame_cpu_s = time.process_time()
            self._shown(time.perf_counter())
            begin()

        def ended() -> None:
            end()
            if self.running and self.applied:
                self.open.append((self.applied, self.app.state.request))

        calls.pre_new_frame, calls.before_imgui_render = begun, ended

    def _shown(self, now: float) -> None:
        """The frame before this one is on the screen now."""
        if (frame := self.app.client.shown) is not None:
            self.first_of.setdefault("stored" if frame.stored else "computed", now)
        if self.running:
            self.frames.append((now - self.last) * 1e3)
            seen = [i for i, (_, picture) in enumerate(self.open) if picture == self.app.client.shown.request]
            if seen:
                self.answers += [(now - t) * 1e3 for t, _ in self.open[: seen[-1] + 1]]
                self.open = self.open[seen[-1] + 1 :]
        self.last, self.applied = now, self.sent

    def stop(self) -> None:
        """End the measurement: inputs that were not answered took at least until now."""
        self.running = False
        self.answers += [(time.perf_counter() - t) * 1e3 for t, _ in self.open]


def drag(clock: Clock, ctx) -> float:
    """Drag the first continuous covariate, with an input in every frame; milliseconds from release to the
    last picture."""
    import numpy as np
    from imgui_bundle import imgui

    app = clock.app
    name = next(c.name for c in app.document.distribution.study.conditions if c.is_continuous)
    box = ctx.item_info(f"//Covariates/**/##{name}").rect_full
    ctx.mouse_move(f"//Covariates/**/##{name}")
    ctx.mouse_down()
    ctx.yield_(2)
    clock.running, start = True, time.perf_counter()
    while (now := time.perf_counter()) - start < DRAG_S:
        share = 0.5 + 0.45 * float(np.sin(2 * np.pi * (now - start) / DRAG_S))
        place = (box.min.x + share * (box.max.x - box.min.x), (box.min.y + box.max.y) / 2)
        # Without this flag the test engine draws two frames more for every input.
        ctx.mouse_teleport_to_pos(place, imgui.test_engine.TestOpFlags_.no_yield)
        clock.sent = now
        ctx.yield_()
    clock.stop()
    released = time.perf_counter()
    ctx.mouse_up()
    ctx.yield_(2)  # the last input and the release have been seen
    while app.client.shown.request != app.state.request or app.client.shown.preview:
        ctx.yield_()
    return (time.perf_counter() - released) * 1e3


def child(target: str, started: float, size: tuple[int, int]) -> None:
    """The measured process; `started` is the parent's clock just before it."""
    from explorer_app.__main__ import wake
    from explorer_app.render_client import RenderClient

    client = RenderClient(wake)
    from explorer_app.app import Explorer

    explorer = Explorer(target, client, size=size, scale=1.0, remember=False)
    import numpy as np
    from imgui_bundle import hello_imgui, imgui
    from imgui_bundle.immapp import testing

    explorer.parameters.fps_idling.enable_idling = explorer.parameters.fps_idling.vsync_to_monitor = False
    app, clock = explorer.context, Clock(explorer)

    def script(ctx: imgui.test_engine.TestContext) -> None:
        io = imgui.test_engine.get_io(hello_imgui.get_imgui_test_engine())
        io.config_watchdog_warning, io.config_watchdog_kill_test = 1000.0, 1200.0
        while app.client.shown is None or app.client.busy or app.model is None:
            ctx.yield_()
            time.sleep(0.02)
        ready = time.perf_counter() - started
        cpu = time.process_time()
        after = drag(clock, ctx)
        each = (time.process_time() - cpu) / len(clock.frames) * 1e3
        first = explorer.started + explorer.first_frame_s - started
        model = app.model
        print(
            f"{Path(target).name} on {model.device}, {model.threads} of {os.cpu_count()} threads render, "
            f"window {size[0]} x {size[1]}, load {os.getloadavg()[0]:.1f}"
        )
        print(
            f"first frame        {first:.2f} s after the process was started (goal < 1.0); of it "
            f"{clock.first_frame_cpu_s:.2f} s of CPU; everything computed after {ready:.1f} s"
        )
        for kind, goal in (("stored", 1.0), ("computed", 2.0)):
            if kind in clock.first_of:
                print(f"first {kind} picture: {clock.first_of[kind] - started:.2f} s (goal <= {goal:g})")
        for name, values, goal in (("frame", clock.frames, 33), ("changed pixels", clock.answers, 100)):
            print(
                f"{name:18} p50 {np.median(values):.0f}  p95 {np.percentile(values, 95):.0f} ms over"
                f" {len(values)} (goal p95 <= {goal})"
            )
        print(
            f"CPU                {each:.0f} ms a frame in the window's process: what a busy machine cannot"
            " change"
        )
        print(f"last full picture  {after:.0f} ms after release (goal <= 400)", flush=True)

    try:
        testing.run(
            test_function=script, runner_params=explorer.parameters, add_ons_params=explorer.add_ons()
        )
    finally:
        app.close()


def main() -> int:
    """Measure in a fresh process."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("snapshot", nargs="?", default="")
    parser.add_argument("--size", default="1280x800")
    parser.add_argument("--started", type=float, default=0.0, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    sys.path.insert(0, str(ROOT))
    if arguments.started:
        width, height = (int(v) for v in arguments.size.split("x"))
        child(arguments.snapshot, arguments.started, (width, height))
        return 0
    from explorer_app.config import default_snapshot
    from mssg.checkpoint.header import resolve_snapshot

    target = str(resolve_snapshot(arguments.snapshot)) if arguments.snapshot else default_snapshot()
    # The parent's clock is the child's: both are the system's monotonic clock.
    words = [
        sys.executable,
        __file__,
        target,
        "--size",
        arguments.size,
        "--started",
        str(time.perf_counter()),
    ]
    return subprocess.run(words, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
