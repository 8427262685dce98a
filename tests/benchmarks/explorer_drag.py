"""How quickly the explorer answers: first frame, frame times and changed pixels during a drag, the last full
picture; where slices lie at many places also the same in three planes, and scrolling.

python tests/benchmarks/explorer_drag.py [SNAPSHOT] [--size 1280x800]      (under xvfb-run -a -s "-screen 0
1280x800x24")

A process is started as `mssg explore` would start it; a covariate's slider is dragged for three seconds with
an input in every frame. An input is answered by the first frame that shows its picture or that of a later
input; in three planes every one of them must. Each number is printed beside its goal.
"""

from __future__ import annotations

import argparse
import compileall
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

ROOT = Path(__file__).resolve().parents[2]
DRAG_S, SCROLLED = 3.0, 40

if TYPE_CHECKING:
    from explorer_app.app import Explorer


class Answers:
    """Milliseconds from every input to the pixels that answer it.

    Args:
        wanted: What the state asks for.
        shown: What the frame that is being drawn shows of it.
    """

    def __init__(self, wanted: Callable[[], object], shown: Callable[[], object]) -> None:
        self.wanted, self.shown = wanted, shown
        self.ms: list[float] = []
        self._open: list[tuple[float, object]] = []  # inputs not answered yet: when, and what they ask for
        self._drawn: object = None

    def drawn(self, asked: float) -> None:
        """A frame has been drawn; it was the first to see an input of that time, if one is given."""
        self._drawn = self.shown()
        if asked:
            self._open.append((asked, self.wanted()))

    def swapped(self, now: float) -> None:
        """That frame is on the screen."""
        seen = [i for i, (_, wanted) in enumerate(self._open) if wanted == self._drawn]
        if seen:
            self.close(now, seen[-1] + 1)

    def close(self, now: float, count: int | None = None) -> None:
        """The first inputs are answered; without a count all, which took at least until now."""
        self.ms += [(now - t) * 1e3 for t, _ in self._open[:count]]
        self._open = self._open[count:] if count else []


class Clock:
    """Times of the window's own frames, and of the way from an input to the pixels that answer it.

    A frame lasts from one call of `pre_new_frame` to the next, by which time it has been swapped onto the
    screen.
    """

    def __init__(self, explorer: Explorer) -> None:
        self.app, calls = explorer.context, explorer.parameters.callbacks
        self.frames: list[float] = []  # ms
        self.answers: tuple[Answers, ...] = ()
        self.first_frame_cpu_s = 0.0
        self.first_of: dict[str, float] = {}  # kind of picture -> when its first was on the screen
        self.sent = 0.0  # time of an input that no frame has seen yet
        self._applied = self._last = self._cpu = 0.0
        self._seen = ""  # the kind of picture in the frame that is being drawn
        begin, end = calls.pre_new_frame, calls.before_imgui_render

        def begun() -> None:
            if explorer.frames == 1:
                self.first_frame_cpu_s = time.process_time()
            self._swapped(time.perf_counter())
            begin()

        def ended() -> None:
            frame = self.app.client.shown if self.app.screen.targets else None  # what a panel has drawn
            self._seen = ("stored" if frame.stored else "computed") if frame else ""
            for answers in self.answers:
                answers.drawn(self._applied)
            end()

        calls.pre_new_frame, calls.before_imgui_render = begun, ended

    def _swapped(self, now: float) -> None:
        """The frame before this one is on the screen now."""
        if self._seen:
            self.first_of.setdefault(self._seen, now)
        if self.answers:
            self.frames.append((now - self._last) * 1e3)
        for answers in self.answers:
            answers.swapped(now)
        self._last, self._applied, self.sent = now, self.sent, 0.0

    def start(self, *answers: Answers) -> None:
        """Begin to measure."""
        self.frames, self.answers, self._cpu = [], answers, time.process_time()

    def stop(self) -> tuple[list[float], float]:
        """End it: milliseconds from every input to the last of the answers to it, and those of CPU a frame
        took."""
        done, self.answers = self.answers, ()
        for answers in done:
            answers.close(time.perf_counter())
        cpu = (time.process_time() - self._cpu) / len(self.frames) * 1e3
        return [max(every) for every in zip(*(answers.ms for answers in done))], cpu


def of_picture(app) -> Answers:
    """Answers by the picture, or the plane that was learnt."""
    return Answers(lambda: app.state.request, lambda: app.client.shown.request)


def of_stack(app) -> Answers:
    """Answers by the planes across a stack."""
    return Answers(lambda: wanted_head(app), lambda: app.stacks.last.head if app.stacks.last else None)


def wanted_head(app):
    """The head that the state asks for."""
    from explorer_app.stack import head_of

    distribution = app.document.distribution
    return head_of(app.state.request, distribution.study.position, tuple(distribution.places.tolist()))


def drag(clock: Clock, ctx, until: Callable[[], bool], *answers: Answers) -> tuple[list[float], float, float]:
    """Drag the first continuous covariate, with an input in every frame: milliseconds of answers, of CPU a
    frame, and from release until everything is there."""
    import numpy as np
    from imgui_bundle import imgui

    study = clock.app.document.distribution.study
    name = next(c.name for c in study.personal_conditions if c.is_continuous)
    box = ctx.item_info(f"//Covariates/**/##{name}").rect_full
    ctx.mouse_move(f"//Covariates/**/##{name}")
    ctx.mouse_down()
    ctx.yield_(2)
    clock.start(*answers)
    start = time.perf_counter()
    while (now := time.perf_counter()) - start < DRAG_S:
        share = 0.5 + 0.45 * float(np.sin(2 * np.pi * (now - start) / DRAG_S))
        place = (box.min.x + share * (box.max.x - box.min.x), (box.min.y + box.max.y) / 2)
        # Without this flag the test engine draws two frames more for every input.
        ctx.mouse_teleport_to_pos(place, imgui.test_engine.TestOpFlags_.no_yield)
        clock.sent = now
        ctx.yield_()
    found, cpu = clock.stop()
    released = time.perf_counter()
    ctx.mouse_up()
    ctx.yield_(2)  # the last input and the release have been seen
    while not until():
        ctx.yield_()
    return found, cpu, (time.perf_counter() - released) * 1e3


def scroll(clock: Clock, ctx, item: str, answers: Answers) -> list[float]:
    """Turn the wheel over a picture by one slice after the other, each when the last is there; milliseconds
    to each."""
    ctx.mouse_move(item)
    ctx.yield_(3)
    clock.start(answers)
    for step in range(SCROLLED):
        clock.sent = time.perf_counter()
        ctx.mouse_wheel_y(1.0 if step < SCROLLED // 3 else -1.0)
        while len(answers.ms) <= step:
            ctx.yield_()
    return clock.stop()[0]


def told(name: str, values: list[float], goal: int) -> None:
    """Print the spread of some milliseconds."""
    import numpy as np

    median, most = np.median(values), np.percentile(values, 95)
    print(f"{name:24} p50 {median:.0f}  p95 {most:.0f} ms over {len(values)} (goal p95 <= {goal})")


def dragged(clock: Clock, ctx) -> None:
    """A drag with one picture."""
    app = clock.app

    def done() -> bool:
        return app.client.shown.request == app.state.request and not app.client.shown.preview

    found, cpu, after = drag(clock, ctx, done, of_picture(app))
    told("frame", clock.frames, 33)
    told("changed pixels", found, 100)
    print(f"CPU                      {cpu:.0f} ms a frame in this process: what a busy machine cannot change")
    print(f"last full picture        {after:.0f} ms after release (goal <= 400)", flush=True)


def planes(clock: Clock, ctx) -> None:
    """A drag with three planes, and slices scrolled in both layouts."""
    app = clock.app
    there = app.document.distribution.places.size

    def done() -> bool:
        stack = app.stacks.last
        return stack is not None and stack.head == wanted_head(app) and len(stack.places) == there

    told("one slice further", scroll(clock, ctx, "//Picture/##picture", of_picture(app)), 50)
    ctx.window_focus("//Three planes")
    ctx.yield_(3)
    while not done():
        ctx.yield_()
    print(f"three planes, {there} slices:")
    found, cpu, after = drag(clock, ctx, done, of_picture(app), of_stack(app))
    told("frame", clock.frames, 33)
    told("change in every plane", found, 150)
    print(f"CPU                      {cpu:.0f} ms a frame in this process")
    print(f"whole stack              {after:.0f} ms after release (goal <= 500)")
    told("one slice further", scroll(clock, ctx, "//Three planes/##planes", of_picture(app)), 50)
    sys.stdout.flush()


def child(target: str, started: float, size: tuple[int, int]) -> None:
    """The measured process; `started` is the parent's clock just before it."""
    from explorer_app.__main__ import wake
    from explorer_app.render_client import RenderClient

    client = RenderClient(wake)
    from explorer_app.app import Explorer

    explorer = Explorer(target, client, size=size, scale=1.0, remember=False)
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
        dragged(clock, ctx)
        if app.document.distribution.places.size > 1:
            planes(clock, ctx)

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
    # As on every start but the first, which compiles what it imports.
    for package in ("explorer_app", "mssg"):
        compileall.compile_dir(ROOT / package, quiet=1)
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
