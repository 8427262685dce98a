"""What lives as long as the window and is not undone: the open snapshot, the render service, the run
followed."""

from __future__ import annotations

import math
import random
import time
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from explorer_app import animate, config, export, session
from explorer_app.geometry import mirrored
from explorer_app.history import History
from explorer_app.messages import Frame, Model
from explorer_app.picture import Picture
from explorer_app.population import Drag, Population
from explorer_app.state import AppState, opened
from explorer_app.worker import RenderService
from mssg.checkpoint.header import read_header, resolve_snapshot
from mssg.errors import MssgError
from mssg.measure.instruments import instrument
from mssg.runs.folder import RunFolder
from mssg.runs.follow import FollowedRun

if TYPE_CHECKING:
    from explorer_app.display import Screen
    from explorer_app.evaluation import Table
    from explorer_app.launch import Training

NOTE_S, BAD_NOTE_S = 6.0, 12.0


class Context:
    """The explorer behind its panels.

    Args:
        service: Renders pictures.
        screen: Owns the textures.
    """

    def __init__(self, service: RenderService, screen: Screen) -> None:
        self.service, self.screen = service, screen
        self.history = History(AppState())
        self.population: Population | None = None
        self.run: FollowedRun | None = None
        self.follow = False
        self.shown: Frame | None = None
        self.measured: Frame | None = None  # the last picture shown that instruments have read
        self.drag: Drag | None = None
        self.tool = "pan"
        self.animate, self.speed = "", 1.0
        self.dialogs: set[str] = set()
        self.fields: dict[str, str] = {}
        self.tables: tuple[Table, ...] = ()
        self.training: Training | None = None
        self.frame_ms: deque[float] = deque(maxlen=240)
        self.latency_ms: deque[float] = deque(maxlen=240)
        self.notes: deque[tuple[float, str, bool]] = deque(maxlen=4)
        self._maps: dict[str, tuple[list[np.ndarray], tuple[Any, ...], np.ndarray]] = {}
        self.fps_limit = 60
        self.quit: Callable[[], None] = lambda: None
        self.capture = ""  # where to write a photograph of the window
        self.layout = ""  # to be restored before the next frame
        self._wanted: list[Picture] = []
        self._measured: list[Picture] = []
        self._pending = session.Session(AppState())
        self._failed: dict[str, str] = {}
        self._readable = AppState()  # the last state whose snapshot could be read
        self._matched = self._begun = time.perf_counter()
        self._animated = self._moving = 0.0
        self._main: Picture | None = None
        self._asked: deque[tuple[Picture, float]] = deque(
            maxlen=1000
        )  # main pictures not seen yet, and since when
        self._jobs = ThreadPoolExecutor(1, thread_name_prefix="export")
        self._results: list[tuple[Future[Any], str]] = []

    @property
    def state(self) -> AppState:
        """The current state."""
        return self.history.state

    @state.setter
    def state(self, state: AppState) -> None:
        self.history.state = state

    @property
    def model(self) -> Model | None:
        """What the render process knows of the current snapshot."""
        return self.service.models.get(self.state.snapshot)

    @property
    def stale_for(self) -> float:
        """Seconds since the picture on the screen was the one asked for."""
        return time.perf_counter() - self._matched

    def note(self, text: str, bad: bool = False) -> None:
        """Show a message for a few seconds, one about something wrong for longer."""
        self.notes.append((time.monotonic() + (BAD_NOTE_S if bad else NOTE_S), text, bad))

    def open(self, name: str | Path) -> bool:
        """Open a snapshot, a run folder (its newest, followed from then on), a session, or a shipped
        snapshot's name."""
        path = Path(name).expanduser()
        try:
            if path.suffix == ".json" and path.is_file():
                self.restore(path)
                return True
            if RunFolder(path).looks_like_a_run():
                self.run, self.follow = FollowedRun(path), True
                self.run.poll()
                if not self.run.checkpoints:
                    self.note(f"{path.name}: no snapshot yet; following the run")
                    config.remember(str(path))
                    return True
                path = Path(self.run.checkpoints[-1].path)
            target = str(resolve_snapshot(path if path.exists() else str(name)))
            self.load(target)
            if self.run is not None and self.run.index(target) < 0:
                self.run, self.follow = None, False  # another model: its run is no longer followed
            config.remember(str(name) if Path(name).exists() else target)
            return True
        except MssgError as error:
            self.note(str(error), bad=True)
            self._failed[str(path)] = str(error)
            if not self.state.snapshot:
                self.fields["problem"] = str(error)
            return False

    def load(self, path: str, quietly: bool = False) -> None:
        """Make a snapshot the current one, keeping the values of covariates it shares.

        Raises:
            MssgError: It cannot be read; everything stays as it was.
        """
        population = self._read(path)
        self.population = population
        self.fields.pop("problem", None)
        state = opened(self.state, path, population.defaults(), population.axes())
        if quietly or not self.state.snapshot:  # nobody wants to undo that there is a picture
            self.history.replace(state)
        else:
            self.state = state

    def _read(self, path: str) -> Population:
        population = Population(read_header(path))
        population.path = path  # as the state spells it
        population.study.encode(
            np.array([list(population.defaults().values())])
        )  # refuses what cannot be rendered
        if population.study.instrument:
            instrument(population.study.instrument)
        population.support(
            tuple(population.defaults().items())
        )  # damaged covariate models are refused here, not while dragging
        self.service.retry(path)
        return population

    def restore(self, path: str | Path) -> None:
        """Restore a session; if its snapshot is gone or changed, ask for it.

        Raises:
            SnapshotError: The file is no session.
        """
        saved = session.load(path)
        self.fields["session"] = str(path)
        self.layout = saved.layout
        snapshot = saved.state.snapshot
        if snapshot and not Path(snapshot).is_file():
            self.fields["missing"] = snapshot
            self._pending = saved
            self.dialogs.add("missing")
            return
        self._adopt(saved)
        config.remember(str(path))

    def _adopt(self, saved: session.Session) -> None:
        if saved.state.snapshot:
            self.population = self._read(saved.state.snapshot)
            if saved.snapshot_id and self.population.header.snapshot_id != saved.snapshot_id:
                self.note(
                    "the snapshot has changed since the session was saved: pictures may differ", bad=True
                )
            known = set(self.population.study.condition_names)
            if {n for n, _ in saved.state.values} != known:
                saved = replace(
                    saved,
                    state=opened(
                        saved.state, saved.state.snapshot, self.population.defaults(), self.population.axes()
                    ),
                )
        if not self.state.snapshot:
            self.history.replace(saved.state)
        else:
            self.history.commit()
            self.state = saved.state

    def supply_missing(self, path: str) -> bool:
        """Answer the question for a session's missing snapshot; False when that file will not do."""
        saved = self._pending
        try:
            target = str(resolve_snapshot(path))
            old = saved.state.snapshot
            pins = tuple(
                replace(p, picture=replace(p.picture, snapshot=target)) if p.picture.snapshot == old else p
                for p in saved.state.pins
            )
            self._adopt(replace(saved, state=replace(saved.state, snapshot=target, pins=pins)))
            return True
        except MssgError as error:
            self.note(str(error), bad=True)
            return False

    def save_session(self, path: str, layout: str) -> None:
        """Save the session, with the window's layout as text.

        Raises:
            SnapshotError: It cannot be written.
        """
        identity = self.population.header.snapshot_id if self.population else ""
        session.save(path, session.Session(self.state, identity, layout))
        config.remember(path)
        self.note(f"saved {Path(path).name}")

    def follow_snapshot(self) -> None:
        """Read the header of the snapshot the state now names: after undo, redo, or taking over a pin.

        A state whose snapshot cannot be read any more is not entered.
        """
        state = self.state
        if state.snapshot and (self.population is None or self.population.path != state.snapshot):
            try:
                self.population = self._read(state.snapshot)
            except MssgError as error:
                self.note(str(error), bad=True)
                self.state = self._readable
        self._readable = self.state

    def undo(self) -> None:
        """Go one step back."""
        self.history.undo()
        self.follow_snapshot()

    def redo(self) -> None:
        """Go one step forward again."""
        self.history.redo()
        self.follow_snapshot()

    def want(self, pictures: Iterable[Picture], measured: bool = False) -> None:
        """Ask for pictures beside the main one, this frame; with what instruments read on them if they are
        `measured`."""
        (self._measured if measured else self._wanted).extend(pictures)

    def computed(
        self, name: str, images: list[np.ndarray], settings: tuple[Any, ...], work: Callable[[], np.ndarray]
    ) -> np.ndarray:
        """A map made of images, made again only when one of them or a setting is another."""
        held = self._maps.get(name)
        if held is None or held[1] != settings or [id(i) for i in held[0]] != [id(i) for i in images]:
            held = self._maps[name] = (images, settings, work())
        return held[2]

    def map(self, name: str) -> np.ndarray:
        """The map of that name as it was last computed."""
        return self._maps[name][2]

    def begin_frame(self) -> None:
        """Take in what arrived, follow the run, move what is animated."""
        before, self._begun = self._begun, time.perf_counter()
        self.service.poll()
        self._show(self._main)
        if self.service.notice:
            self.note(self.service.notice)
            self.service.notice = ""
        if self.run is not None and self.run.poll() and self.follow:
            self._swap(self.run.checkpoints[-1].path)
        self._animate(min(0.2, self._begun - before))
        for future, done in [r for r in self._results if r[0].done()]:
            self._results.remove((future, done))
            problem = future.exception()
            if isinstance(problem, MssgError):
                self.note(str(problem), bad=True)
            elif problem is not None:
                self.note(f"{done} failed: {problem}", bad=True)
            else:
                self.note(done)

    def _swap(self, path: str) -> None:
        """Put the newest snapshot of the run in place; a bad one leaves the last good one, with the reason
        shown."""
        if path == self.state.snapshot or path in self._failed:
            return
        try:
            self.load(path, quietly=True)
        except MssgError as error:
            self._failed[path] = str(error)
            self.note(str(error), bad=True)

    def _animate(self, seconds: float) -> None:
        """Move on once the last picture is there; the whole animation is one undo step."""
        if not self.animate:
            self._animated = 0.0
            return
        self._moving += seconds * self.speed
        if self.shown is None or self.shown.picture == self.state.picture:
            before, self._animated = self._animated, self._animated + self._moving
            self._moving = 0.0
            self.state = animate.advanced(self.state, self.animate, before, self._animated)

    def end_frame(self, held: bool) -> None:
        """Send this frame's wishes and close the undo step once no control is held."""
        if not held and not self.animate:
            self.history.commit()
        self.follow_snapshot()
        state = self.state
        main = self._main = state.picture if state.snapshot and self.population is not None else None
        if main is not None and (main != self._asked[-1][0] if self._asked else self._lacks(main)):
            loading = self.service.loading(main.snapshot)  # how long that takes says nothing about answers
            self._asked.append((main, math.nan if loading else self._begun))
        extra = [state.pin.picture] if state.pin and state.display.compare != "A" else []
        self.service.want(main, [*extra, *self._wanted], self._measured, state.analysis.predictor)
        self._wanted.clear()
        self._measured.clear()
        self._show(main)

    def _lacks(self, main: Picture) -> bool:
        return self.shown is None or self.shown.picture != main

    def _show(self, main: Picture | None) -> None:
        """Put the main picture on the screen; while a drag is ahead of it, the latest that was asked for on
        the way."""
        if main is None:
            return
        found, now = self.service.frame(main), time.perf_counter()
        if found is not None:
            self._matched = now
        elif self.service.latest is not None and any(
            p == self.service.latest.picture for p, _ in self._asked
        ):
            found = self.service.latest
        if found is None:
            return
        if any(p == found.picture for p, _ in self._asked):
            while self._asked:  # what was asked for before is answered by a later picture
                picture, since = self._asked.popleft()
                if math.isfinite(since):
                    self.latency_ms.append((now - since) * 1e3)
                if picture == found.picture:
                    break
        self.shown = found
        if found.measured is not None:
            self.measured = found

    def mirrored(self, state: AppState) -> bool:
        """True when pictures are drawn right to left."""
        return self.population is not None and mirrored(
            self.population.study.geometry, state.display.neurological
        )

    def problem(self, state: AppState) -> str:
        """Why the picture asked for cannot be shown; "" when nothing is wrong."""
        service = self.service
        return (
            service.broken or service.failed.get(state.snapshot, "") or service.errors.get(state.picture, "")
        )

    def empty_message(self, state: AppState) -> tuple[str, str]:
        """Title and text for a window without a picture."""
        if self.fields.get("problem"):
            return "This cannot be opened", self.fields["problem"]
        problem = self.problem(state) if state.snapshot else ""
        if problem:
            return "This snapshot cannot be shown", problem
        if state.snapshot:
            return "Loading the model", Path(state.snapshot).name
        if self.run is not None:
            return (
                "Waiting for the first snapshot",
                f"{self.run.folder} is followed; its first snapshot appears here.",
            )
        return (
            "Nothing open yet",
            (
                "Open a snapshot (.safetensors), a training run's folder, or a saved session. You can also"
                " drop one onto the window."
            ),
        )

    def measurable(self) -> tuple[str, ...]:
        """Covariates of the current study that an instrument reads off a picture."""
        if self.population is None:
            return ()
        study = self.population.study
        names = {name for name, _ in self.service.instrument.errors}
        if study.instrument:
            names |= set(instrument(study.instrument).COVARIATES)
        return tuple(name for name in study.condition_names if name in names)

    def about(self) -> dict[str, Any]:
        """Provenance of what is on the screen."""
        if self.population is None or self.shown is None:
            return {}
        return export.provenance(self.population.header, self.shown.picture)

    def random_seed(self) -> int:
        """A seed nobody chose."""
        return random.randrange(100_000)

    def in_background(self, work: Callable[[], Any], done: str) -> None:
        """Do something slow (writing files) off the window's thread and say when it is done."""
        self._results.append((self._jobs.submit(work), done))

    @staticmethod
    def presets() -> tuple[str, ...]:
        """Names of the training presets."""
        from mssg.training.config import PRESETS

        return tuple(PRESETS)

    def train(self, study: str, outdir: str, preset: str, kimg: str) -> None:
        """Start a training and follow its run.

        Raises:
            RunError: It cannot be started.
        """
        from explorer_app.launch import Training, command

        outdir = str(Path(outdir).expanduser())
        self.training = Training(command(str(Path(study).expanduser()), outdir, preset, kimg), outdir)
        self.run, self.follow = FollowedRun(outdir), True
        self.note(f"training started in {outdir}")

    @property
    def working(self) -> bool:
        """True while something is being written."""
        return bool(self._results)

    def close(self) -> None:
        """End everything but a training started here."""
        self._jobs.shutdown(wait=True)
        self.service.close()
