"""Runs scenarios in a real explorer window and writes down how each went. Started by conftest.py under Xvfb.

python drive.py OUT.json GROUP TARGET FOLDER [SCENARIO...]
"""

from __future__ import annotations

import json
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(Path(__file__).parent)]

from imgui_bundle import hello_imgui, imgui  # noqa: E402
from imgui_bundle.immapp import testing  # noqa: E402

PATIENCE_S = 240  # importing torch alone takes minutes on a machine that is busy training
SCALE = 0.5


class Driver:
    """What a scenario may use: the test engine's context, the explorer's context, and a folder for files."""

    def __init__(self, explorer, folder: Path, target: str, scale: float = SCALE) -> None:
        self.explorer, self.app, self.folder, self.target = explorer, explorer.context, folder, target
        self.scale = scale
        self.ctx: imgui.test_engine.TestContext
        self._work: list[Callable[[], object]] = []
        callbacks = explorer.parameters.callbacks
        shown = callbacks.show_gui

        def show() -> None:
            shown()
            while self._work:
                self._work.pop()()

        callbacks.show_gui = show
        self._photograph: Path | None = None
        captured = callbacks.before_swap

        def capture() -> None:
            captured()
            if self._photograph is not None:
                self._save(self._photograph)
                self._photograph = None

        callbacks.before_swap = capture

    @staticmethod
    def _save(path: Path) -> None:
        from PIL import Image

        from explorer_app.display import read_window

        io = imgui.get_io()
        size, scale = io.display_size, io.display_framebuffer_scale
        Image.fromarray(read_window(round(size.x * scale.x), round(size.y * scale.y))).save(path)

    def photograph(self, path: Path) -> None:
        """Write what the window shows, dialogs included, as PNG."""
        self._photograph = path
        self.wait(lambda: self._photograph is None)

    def on_gui(self, work: Callable[[], object]):
        """Do something on the window's thread, where OpenGL may be called, and return its result."""
        outcome: list[tuple[object, Exception | None]] = []

        def do() -> None:
            try:
                outcome.append((work(), None))
            except Exception as error:
                outcome.append((None, error))

        self._work.append(do)
        self.wait(lambda: outcome)
        if outcome[0][1] is not None:
            raise outcome[0][1]
        return outcome[0][0]

    @property
    def state(self):
        return self.app.state

    def frames(self, count: int = 3) -> None:
        self.ctx.yield_(count)

    def wait(self, until: Callable[[], object], seconds: float = PATIENCE_S, what: str = "") -> float:
        start = time.monotonic()
        while not until():
            assert not self.ctx.is_error(), "the test engine reported an error"
            assert time.monotonic() - start < seconds, f"waited {seconds} s in vain {what}: {self.told()}"
            self.ctx.yield_()
            time.sleep(0.04)  # leave the cores to the render process
        return time.monotonic() - start

    def told(self) -> str:
        """Where the explorer stands, for a failure's message."""
        client = self.app.client
        sent = client._sent
        return (
            f"problem {self.app.problem()!r}, {len(client.missing)} pictures missing, main among them"
            f" {client._main in client.missing}, sent {sent and (sent.main is not None, len(sent.others))},"
            f" alive {client._link.alive}, {client.counters}, errors {list(client.errors.values())[:2]}"
        )

    def settle(self) -> None:
        """Wait until the picture asked for is on the screen and nothing is missing."""
        self.frames(2)
        app = self.app
        self.wait(
            lambda: (
                app.client.shown is not None
                and app.client.shown.request == app.state.request
                and not app.client.shown.preview
                and not app.client.busy
            )
        )
        self.frames(2)

    def reset(self) -> None:
        """Back to a fresh window on the target."""
        app = self.app
        app.interface.dialogs.clear()
        interface = app.interface
        interface.animation, interface.speed, interface.drag, interface.tool = "", 1.0, None, "pan"
        if self.target and app.document.distribution is not None:
            from explorer_app.history import History
            from explorer_app.state import AppState, opened

            app.document.history = History(
                opened(
                    AppState(),
                    app.state.snapshot,
                    app.document.distribution.defaults(),
                    app.document.distribution.axes(),
                )
            )
        self.ctx.key_press(imgui.Key.escape)
        self.front("Picture")
        self.rest()
        self.frames(3)

    def rest(self) -> None:
        """Put the mouse where nothing is."""
        self.ctx.mouse_move_to_pos((640 * self.scale, 10 * self.scale))

    def exported(self, name: str) -> Path:
        """Give the export dialog a file in the folder, and wait until it is written."""
        path = self.folder / name
        self.ctx.item_input_value("//Export/##export path", str(path))
        self.wait(path.exists, what=name)
        return path

    def drag(self, ref: str, dx: float, dy: float = 0.0) -> None:
        """Drag a control by pixels at scale 1."""
        self.ctx.item_drag_with_delta(ref, (dx * self.scale, dy * self.scale))

    def front(self, name: str) -> None:
        """Bring a panel to the front."""
        self.ctx.window_focus(f"//{name}")
        self.frames(2)

    def value_of(self, name: str) -> float:
        return self.state.value(name)


def run(out: Path, group: str, target: str, folder: Path) -> None:
    import scenarios
    import tool_scenarios

    from explorer_app.app import Explorer

    only = sys.argv[5:]
    chosen = {
        k: v
        for k, v in {**vars(scenarios), **vars(tool_scenarios)}.items()
        if k.startswith(f"{group}_") and callable(v) and (not only or k in only)
    }
    # Half scale: the same layout as at 1280 x 800, a quarter of the pixels for a software driver to fill.
    explorer = Explorer(target, size=(1280, 800), scale=SCALE, remember=False)
    explorer.parameters.fps_idling.enable_idling = False
    explorer.parameters.fps_idling.vsync_to_monitor = False
    driver = Driver(explorer, folder, target)
    results: dict[str, str] = {}

    def script(ctx: imgui.test_engine.TestContext) -> None:
        io = imgui.test_engine.get_io(hello_imgui.get_imgui_test_engine())
        io.config_watchdog_warning, io.config_watchdog_kill_test = 1000.0, 1200.0
        driver.ctx = ctx
        mouse = imgui.get_io()
        mouse.mouse_double_click_time, mouse.mouse_single_click_delay = 5.0, 6.0  # frames may be slow here
        ctx.yield_(8)
        for name, scenario in chosen.items():
            begun = time.monotonic()
            try:
                driver.reset()
                if target:
                    driver.settle()
                scenario(driver)
                results[name] = (
                    "the test engine reported an error" if ctx.is_error() else "".join(explorer.faults)
                )
                explorer.faults.clear()
            except Exception:
                results[name] = traceback.format_exc()
            print(f"{name}: {time.monotonic() - begun:.1f} s {results[name]}", flush=True)
            if ctx.is_error():
                break  # the engine ignores everything after its first error

    problem = ""
    try:
        testing.run(
            test_function=script, runner_params=explorer.parameters, add_ons_params=explorer.add_ons()
        )
    except Exception:
        problem = traceback.format_exc()
    finally:
        explorer.context.close()
    document = {
        "results": results,
        "problem": problem,
        "torch": "torch" in sys.modules,
        "names": list(chosen),
    }
    out.write_text(json.dumps(document))


if __name__ == "__main__":
    run(Path(sys.argv[1]), sys.argv[2], sys.argv[3], Path(sys.argv[4]))
