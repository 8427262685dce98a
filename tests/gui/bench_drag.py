"""Prints the explorer's first frame, frame times, drag latency and time to the last full picture.

python tests/gui/bench_drag.py SNAPSHOT      (under xvfb-run -a -s "-screen 0 1280x800x24")
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import numpy as np
from imgui_bundle import hello_imgui, imgui
from imgui_bundle.immapp import testing

DRAG_S = 3.0


def main() -> None:
    from explorer_app.app import Explorer

    explorer = Explorer(sys.argv[1], remember=False)
    explorer.parameters.fps_idling.enable_idling = explorer.parameters.fps_idling.vsync_to_monitor = False
    app = explorer.context

    def script(ctx: imgui.test_engine.TestContext) -> None:
        io = imgui.test_engine.get_io(hello_imgui.get_imgui_test_engine())
        io.config_watchdog_warning, io.config_watchdog_kill_test = 1000.0, 1200.0
        while app.shown is None or app.service.busy:
            ctx.yield_()
            time.sleep(0.02)
        name = next(c.name for c in app.population.study.conditions if c.is_continuous)
        box = ctx.item_info(f"//Covariates/**/##{name}").rect_full
        y = (box.min.y + box.max.y) / 2
        ctx.mouse_move(f"//Covariates/**/##{name}")
        ctx.mouse_down()
        app.frame_ms.clear()
        app.latency_ms.clear()
        start = time.perf_counter()
        while (t := time.perf_counter() - start) < DRAG_S:
            share = 0.5 + 0.45 * np.sin(2 * np.pi * t / DRAG_S)
            ctx.mouse_teleport_to_pos((box.min.x + share * (box.max.x - box.min.x), y))
            ctx.yield_()
        frames, latencies = np.array(app.frame_ms), np.array(app.latency_ms)
        ctx.mouse_up()
        released = time.perf_counter()
        while app.shown.picture != app.state.picture or app.shown.preview:
            ctx.yield_()
        print(f"first frame {explorer.first_frame_s:.2f} s after the window object")
        print(
            f"frame p50 {np.median(frames):.0f} p95 {np.percentile(frames, 95):.0f} ms over {frames.size} frames (goal p95 33)"
        )
        if latencies.size:
            print(
                f"changed pixels p50 {np.median(latencies):.0f} p95 {np.percentile(latencies, 95):.0f} ms (goal p95 100)"
            )
        print(f"last full picture {(time.perf_counter() - released) * 1e3:.0f} ms after release (goal 400)")

    try:
        testing.run(
            test_function=script, runner_params=explorer.parameters, add_ons_params=explorer.add_ons()
        )
    finally:
        app.close()


if __name__ == "__main__":
    main()
