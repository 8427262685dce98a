"""A monkey at the explorer: seeded random actions on the real window, and what must hold all the while.

python tests/gui/monkey.py [SNAPSHOT] [--actions 10000] [--seed 0] [--out RESULT.json]    (under xvfb-run -a)

No exception, no OpenGL error, memory that does not grow, no process or shared memory left over; the render
process is killed in the middle and must come back with the state kept. Ends with status 1 when something does
not hold.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import fields, replace
from multiprocessing import active_children
from pathlib import Path
from typing import TYPE_CHECKING, Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

import numpy as np  # noqa: E402
from imgui_bundle import hello_imgui, imgui, immapp  # noqa: E402
from PIL import Image  # noqa: E402

GROWTH_MB = 50.0
TOGETHER = 128
"""So many small pictures are drawn in one go at most, and their workspace, 56 MB, is kept: the first
batch is no growth. Without the window, 300 more pictures of six models, stacks, layers and heads that were
read took 3 MB."""
_SCALE = 0.3  # the layout of 1280 x 800 on a tenth of its pixels: a software driver draws them all
PATIENCE_S = 300.0  # importing torch takes minutes on a busy machine
KEYS = [
    getattr(imgui.Key, k)
    for k in "p f d l m s r i n _0 _1 f1 escape enter tab left_arrow right_arrow".split()
]
CHORDS = [getattr(imgui.Key, k) for k in "z z z y o s e v".split()]
WORDS = ("3", "-1", "1e9", "0.5", "abc", "", "nan", "%d%s", "ü😀", "../..", "/", "-0", "99999999999999999999")


if TYPE_CHECKING:
    from explorer_app.app import Explorer
    from explorer_app.context import Context

_PLACES = (  # left, right, top, bottom, as shares of the window
    (0.0, 1.0, 0.0, 1.0),
    (0.0, 0.225, 0.05, 0.3),
    (0.0, 0.225, 0.3, 1.0),
    (0.225, 0.775, 0.6, 1.0),
    (0.775, 1.0, 0.0, 1.0),
)


Frames = Iterator[None]  # every yield is a frame of the window


class Monkey:
    """Acts at random on a window, through imgui's queue of input events.

    Args:
        explorer: The window.
        seed: Decides every action.
    """

    def __init__(self, explorer: Explorer, seed: int) -> None:
        self.explorer, self.random, self.io = explorer, random.Random(seed), imgui.get_io()
        self.counts: Counter[str] = Counter()
        self.acts: list[tuple[Callable[[], Frames], int]] = [
            (self.click, 30),
            (self.drag, 24),
            (self.wheel, 8),
            (self.key, 14),
            (self.chord, 8),
            (self.type, 6),
            (self.double_click, 4),
            (self.front, 4),
            (self.right_click, 2),
            (self.bring, 1),
        ]

    def act(self) -> Frames:
        """One action; a dialog that has been open for a while is closed."""
        (act,) = self.random.choices([a for a, _ in self.acts], [w for _, w in self.acts])
        self.counts[act.__name__] += 1
        yield from act()
        if self.explorer.context.interface.dialogs and self.random.random() < 0.3:
            yield from self._press(imgui.Key.escape)

    def _move(self) -> None:
        """To a place in the window, more often where controls are."""
        left, right, top, bottom = self.random.choice(_PLACES)
        size = self.io.display_size
        x, y = self.random.uniform(left, right), self.random.uniform(top, bottom)
        self.io.add_mouse_pos_event(x * (size.x - 1), y * (size.y - 1))

    def _button(self, button: int, times: int = 1) -> Frames:
        for _ in range(times):
            for down in (True, False):
                self.io.add_mouse_button_event(button, down)
                yield

    def _press(self, key: imgui.Key) -> Frames:
        for down in (True, False):
            self.io.add_key_event(key, down)
            yield

    def click(self) -> Frames:
        self._move()
        yield from self._button(0)

    def right_click(self) -> Frames:
        self._move()
        yield from self._button(1)

    def double_click(self) -> Frames:
        self._move()
        yield from self._button(0, 2)

    def drag(self) -> Frames:
        button = self.random.choice((0, 0, 0, 1, 2))
        self._move()
        self.io.add_mouse_button_event(button, True)
        yield
        for _ in range(self.random.randint(1, 3)):
            self._move()
            yield
        self.io.add_mouse_button_event(button, False)
        yield

    def wheel(self) -> Frames:
        self._move()
        self.io.add_mouse_wheel_event(0, self.random.choice((-3, -1, 1, 3)))
        yield

    def key(self) -> Frames:
        yield from self._press(self.random.choice(KEYS))

    def chord(self) -> Frames:
        self.io.add_key_event(imgui.Key.mod_ctrl, True)
        yield from self._press(self.random.choice(CHORDS))
        self.io.add_key_event(imgui.Key.mod_ctrl, False)
        yield

    def type(self) -> Frames:
        """Ctrl-click, which turns a slider into a field, and type."""
        self._move()
        self.io.add_key_event(imgui.Key.mod_ctrl, True)
        yield from self._button(0)
        self.io.add_key_event(imgui.Key.mod_ctrl, False)
        yield
        if self.io.want_text_input:
            self.io.add_input_characters_utf8(self.random.choice(WORDS))
            yield
            yield from self._press(imgui.Key.enter)

    def bring(self) -> Frames:
        """Open a picture of its own, as a drop does."""
        self.explorer.context.open("mine.png")
        yield

    def front(self) -> Frames:
        from explorer_app.app import PANELS

        label = self.random.choice(PANELS)[0]
        self.explorer.parameters.docking_params.focus_dockable_window(label)
        yield


def resident_mb(pid: int | None) -> float:
    """Memory of a process in MB; 0 where the system does not tell."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    except (OSError, ValueError):
        return 0.0
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def alive(pid: int) -> bool:
    """True while a process exists."""
    try:
        os.kill(pid, 0)
    except OSError:
        return False
    return True


def fence(app, folder: Path) -> None:
    """Keep the monkey from writing outside its folder, from training, and from leaving."""
    from explorer_app import export, launch, session
    from mssg.errors import DataError
    from mssg.rendering import image_files

    def inside(write):
        def guarded(path, *rest):
            if folder.resolve() not in Path(path).resolve().parents:
                raise DataError("not here, monkey", file=path)
            return write(path, *rest)

        return guarded

    export.write_atomically = inside(export.write_atomically)
    image_files.write_atomically = inside(image_files.write_atomically)
    session.write_json = inside(session.write_json)
    launch.command = lambda *_: [sys.executable, "-c", "import time; time.sleep(0.5)"]
    start = app.document.train
    app.train = lambda study, outdir, *rest: start(study, str(folder / "run"), *rest)
    app.interface.quit = lambda: None


def errors_of_gl() -> list[int]:
    """Errors OpenGL has noted since the last call."""
    from OpenGL import GL

    found = []
    while (code := int(GL.glGetError())) and len(found) < 20:
        found.append(code)
    return found


def until(holds: Callable[[], object], what: str) -> Frames:
    """Frames until something holds.

    Raises:
        TimeoutError: It never did.
    """
    start = time.monotonic()
    while not holds():
        if time.monotonic() - start > PATIENCE_S:
            raise TimeoutError(what)
        yield
        time.sleep(0.03)  # leave the cores to the render process


def settled(app: Context) -> bool:
    """True when everything asked for is on the screen."""
    return (
        app.client.shown is not None
        and (app.client.shown.request == app.state.request or bool(app.problem()))
        and not app.client.busy
    )


def _changed(before: Any, after: Any) -> list[str]:
    """Fields of a dataclass that differ, with both values; of the request its own."""
    out = []
    for name in (f.name for f in fields(before)):
        old, new = getattr(before, name), getattr(after, name)
        if old != new:
            out += _changed(old, new) if name == "request" else [f"{name}: {old!r} became {new!r}"]
    return out


def kill_renderer(app: Context, wrong: list[str]) -> Frames:
    """Kill the render process while a picture is asked for; notes what does not hold afterwards."""
    from explorer_app.request_edits import at_place

    app.interface.dialogs.clear()
    app.interface.animation, app.document.follow = "", False
    for _ in range(20):  # input that is still queued changes the state with good reason
        yield
    app.interface.animation = ""  # the last click may have started one
    app.guest.cancel()  # an inversion's latent becomes the picture when it is found
    yield from until(lambda: not app.guest.busy, "the end of an inversion")
    yield from until(lambda: settled(app), "the picture before the kill")
    app.state = replace(app.state, request=at_place(app.state.request, 123_456))
    for _ in range(3):
        yield
    state, first, restarts = app.state, app.client.pid, app.client.counters.restarts
    os.kill(first or 0, signal.SIGKILL)
    yield from until(lambda: app.client.pid != first, "a new render process")
    yield from until(lambda: settled(app), "the picture after a restart")
    changed = _changed(state, app.state)
    wrong += [f"killing the render process changed the state: {changed}"] if changed else []
    wrong += [] if app.client.counters.restarts == restarts + 1 else ["not restarted exactly once"]


def warmed_up(app: Context) -> Frames:
    """As many pictures as are drawn in one go, once."""
    from explorer_app.state import seed_requests

    pictures = seed_requests(app.state.request, TOGETHER)

    def there() -> bool:
        app.client.request(pictures)
        return all(app.client.frame(p) is not None or app.why_not(p) for p in pictures)

    yield from until(there, "many pictures")


def visit(snapshot: str, actions: int, seed: int, minutes: float) -> dict:
    """Let the monkey act; returns what was counted, measured and found wrong."""
    from explorer_app.app import Explorer

    folder = Path(tempfile.mkdtemp(prefix="monkey-"))
    os.environ["MSSG_CONFIG_DIR"] = str(folder / "config")
    os.chdir(folder)
    explorer = Explorer(snapshot, size=(1280, 800), scale=_SCALE, remember=False)
    explorer.parameters.fps_idling.enable_idling = explorer.parameters.fps_idling.vsync_to_monitor = False
    app, wrong, pids = explorer.context, [], set()
    memory: list[tuple[int, float, float]] = []
    report: dict = {"snapshot": Path(snapshot).name, "seed": seed, "actions": 0}

    def script() -> Frames:
        yield from until(lambda: settled(app), "the first picture")
        fence(app, folder)
        grey = np.clip(app.client.shown.image, 0, 255).astype(np.uint8)
        Image.fromarray(grey).save(folder / "mine.png")
        monkey, begun, gl = Monkey(explorer, seed), time.monotonic(), []
        for number in range(actions):
            yield from monkey.act()
            pids.add(app.client.pid)
            if number == actions // 2:
                yield from kill_renderer(app, wrong)
                yield from warmed_up(app)
            if number % max(1, actions // 40) == 0 or number == actions - 1:
                gl += errors_of_gl()
                window = resident_mb(os.getpid()) - app.client.kept_bytes / 2**20
                memory.append((number, window, resident_mb(app.client.pid)))
                told = (
                    f"{memory[-1][1]:.0f} MB + {memory[-1][2]:.0f} MB, {app.client.counters.frames} pictures"
                )
                print(f"{number} actions, {time.monotonic() - begun:.0f} s, {told}", flush=True)
            report["actions"] = number + 1
            if time.monotonic() - begun > 60 * minutes:
                break
        report.update(seconds=round(time.monotonic() - begun, 1), by_kind=dict(monkey.counts))
        wrong.extend([f"OpenGL errors {gl}"] if gl else [])

    _play(explorer, script(), wrong)
    ring = app.client._link.ring.name
    app.close()
    wrong += explorer.faults
    time.sleep(0.2)
    left = [pid for pid in pids if pid and alive(pid)]
    wrong += [f"processes left over: {left}"] if left or active_children() else []
    wrong += ["shared memory left over"] if Path("/dev/shm", ring.lstrip("/")).exists() else []
    counters = app.client.counters
    wrong += [] if counters.restarts == 1 else [f"{counters.restarts} restarts"]
    report |= {"pictures": counters.frames, "render_processes": len(pids)} | _growth(
        memory, report["actions"], wrong
    )
    return report | {"wrong": wrong}


def _play(explorer: Explorer, script: Frames, wrong: list[str]) -> None:
    """Show the window and advance the script by one step before every frame; leave at its end."""
    begin = explorer.parameters.callbacks.pre_new_frame

    def step() -> None:
        try:
            next(script)
        except StopIteration:
            hello_imgui.get_runner_params().app_shall_exit = True
        except Exception:
            wrong.append(traceback.format_exc())
            hello_imgui.get_runner_params().app_shall_exit = True
        begin()

    explorer.parameters.callbacks.pre_new_frame = step
    immapp.run(explorer.parameters, explorer.add_ons())


def _growth(memory: list[tuple[int, float, float]], actions: int, wrong: list[str]) -> dict:
    """Memory of both processes, and how far it grew.

    The pictures that the window keeps, which have a limit, do not count, nor does what opening every panel
    takes: the window counts from a tenth of the way on. The render process is a new one since the middle and
    counts from three quarters on.
    """

    def most(column: int, low: float, high: float) -> float:
        return max([m[column] for m in memory if low <= m[0] / actions < high] or [0.0])

    window = most(1, 0.9, 1.0) - most(1, 0.0, 0.15)
    render = most(2, 0.75, 1.0) - most(2, 0.5, 0.75)
    wrong += [f"memory grew by {window:.0f} MB"] if window > GROWTH_MB else []
    wrong += [f"the render process grew by {render:.0f} MB"] if render > GROWTH_MB else []
    samples = [(round(m[1]), round(m[2])) for m in memory]
    return {
        "window_growth_mb": round(window, 1),
        "render_growth_mb": round(render, 1),
        "memory_mb": f"window {[a for a, _ in samples]}, render process {[b for _, b in samples]}",
    }


def main() -> int:
    """Run the monkey and print its report."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("snapshot", nargs="?", default="", help="default: the shipped one")
    parser.add_argument("--actions", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--minutes", type=float, default=1e9, help="stop earlier after so long")
    parser.add_argument("--out", default="")
    arguments = parser.parse_args()
    out = Path(arguments.out).resolve() if arguments.out else None
    from explorer_app.config import default_snapshot
    from mssg.checkpoint.header import resolve_snapshot

    target = Path(resolve_snapshot(arguments.snapshot)) if arguments.snapshot else Path(default_snapshot())
    report = visit(str(target.resolve()), arguments.actions, arguments.seed, arguments.minutes)
    text = json.dumps(report, indent=1)
    print(text)
    if out is not None:
        out.write_text(text + "\n", encoding="utf-8")
    return 1 if report["wrong"] else 0


if __name__ == "__main__":
    sys.exit(main())
