"""What is open: the snapshot with its training distribution, the state and its history, the run followed, the
session."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from explorer_app import config, session
from explorer_app.distribution import TrainingDistribution
from explorer_app.geometry import mirrored
from explorer_app.history import History
from explorer_app.state import AppState, at_home, opened
from mssg.checkpoint.header import read_header, resolve_snapshot
from mssg.errors import MssgError, SnapshotError
from mssg.measure.instruments import instrument
from mssg.runs.folder import RunFolder
from mssg.runs.follow import FollowedRun
from mssg.study.model import Geometry, Study

if TYPE_CHECKING:
    from explorer_app.evaluation import StrataTable
    from explorer_app.launch import Training

LOOK_S = 1.0  # between two looks for a training


class Document:
    """What the user works on.

    Args:
        tell: Shows the user a message; the second argument says that something is wrong.
        retry: Called with the path of every snapshot that is opened: what failed before is to be tried again.

    Attributes:
        hurried: A first picture is on its way: covariate models, which take long, are left to `catch_up`.
    """

    def __init__(self, tell: Callable[[str, bool], None], retry: Callable[[str], None]) -> None:
        self._tell, self._retry = tell, retry
        self.hurried = False
        self.history = History(AppState())
        self.distribution: TrainingDistribution | None = None
        self.run: FollowedRun | None = None
        self.follow = False
        self.training: Training | None = None
        self._looked_for_training = 0.0
        self.tables: tuple[StrataTable, ...] = ()
        self.problem = ""  # why the last one could not be opened
        self.session = ""  # the file of the session saved or restored last
        self.missing: session.Session | None = None  # restored as soon as its snapshot is found
        self.layout = ""  # of the windows, in the session just restored
        self._studies: dict[str, Study | None] = {}  # of other snapshots than the current, by path
        self._failed: set[str] = set()  # snapshots of the run that cannot be read
        self._readable = AppState()  # the last state whose snapshot could be read

    @property
    def state(self) -> AppState:
        """The current state."""
        return self.history.state

    @state.setter
    def state(self, state: AppState) -> None:
        self.history.state = state

    @property
    def mirrored(self) -> bool:
        """True when pictures of the current study are drawn right to left."""
        return mirrored(self.geometry(self.state.snapshot), self.state.display.neurological)

    def study(self, path: str) -> Study | None:
        """The study of a snapshot; None where nobody can read it."""
        if self.distribution is not None and path == self.distribution.path:
            return self.distribution.study
        if path not in self._studies:
            try:
                self._studies[path] = read_header(path).study
            except MssgError:
                self._studies[path] = None
        return self._studies[path]

    def geometry(self, path: str) -> Geometry | None:
        """What the study of a snapshot states of its pixels' places in millimetres, if anything."""
        study = self.study(path)
        return study.geometry if study else None

    def open(self, name: str | Path) -> bool:
        """Open a snapshot, a run folder (its newest, followed from then on), a session, or a shipped
        snapshot's name; False when it cannot be, which is told."""
        path = Path(name).expanduser()
        try:
            if path.suffix == ".json" and path.is_file():
                self.restore(path)
            elif RunFolder(path).looks_like_a_run():
                self._open_run(path)
            else:
                self._open_snapshot(str(resolve_snapshot(path if path.exists() else str(name))), name)
            return True
        except MssgError as error:
            self._tell(str(error), True)
            self.problem = str(error)
            return False

    def _open_run(self, path: Path) -> None:
        self.run, self.follow = FollowedRun(path), True
        self.run.poll()
        self._look_for_training()
        if self.run.checkpoints:
            self._open_snapshot(str(resolve_snapshot(self.run.checkpoints[-1].path)), path)
        else:
            self._tell(f"{path.name}: no snapshot yet; following the run", False)
            config.remember(str(path))

    def _open_snapshot(self, target: str, name: str | Path) -> None:
        self.load(target)
        if self.run is not None and self.run.index(target) < 0:
            self.run, self.follow = None, False  # another model: its run is no longer followed
        config.remember(str(name) if Path(name).exists() else target)

    def load(self, path: str, quietly: bool = False) -> None:
        """Make a snapshot the current one, keeping the values of covariates it shares.

        Raises:
            MssgError: It cannot be read; everything stays as it was.
        """
        distribution = self._read(path)
        self.distribution, self.problem = distribution, ""
        state = opened(self.state, path, distribution.defaults(), distribution.axes())
        if quietly or not self.state.snapshot:  # nobody wants to undo that there is a picture
            self.history.replace(state)
        else:
            self.state = state

    def _read(self, path: str) -> TrainingDistribution:
        """The training distribution of a snapshot, with everything refused that would fail later: values that
        cannot be encoded, an unknown instrument, damaged covariate models."""
        distribution = TrainingDistribution(read_header(path))
        distribution.path = path  # as the state spells it
        distribution.study.encode(np.array([list(distribution.defaults().values())]))
        if name := distribution.study.instrument:
            try:
                instrument(name)
            except MssgError as error:
                raise SnapshotError(
                    error.message, file=path, field="instrument", found=name, expected=error.expected
                ) from None
        distribution.hurried = self.hurried
        distribution.support(tuple(distribution.defaults().items()))
        self._retry(path)
        return distribution

    def catch_up(self) -> None:
        """Look at the covariate models of what was opened in a hurry, and close it where they are damaged."""
        if not self.hurried:
            return
        self.hurried = False
        try:
            if self.distribution is not None:
                self.distribution.hurried = False
                self.distribution.support(tuple(self.distribution.defaults().items()))
        except MssgError as error:
            self.distribution, self.history, self._readable = None, History(AppState()), AppState()
            self._tell(str(error), True)
            self.problem = str(error)

    def restore(self, path: str | Path) -> None:
        """Restore a session; one whose snapshot is gone waits as `missing`.

        Raises:
            SnapshotError: The file is no session.
        """
        saved = session.load(path)
        self.session, self.layout = str(path), saved.layout
        if saved.state.snapshot and not Path(saved.state.snapshot).is_file():
            self.missing = saved
            return
        self._adopt(saved)
        config.remember(str(path))

    def _adopt(self, saved: session.Session) -> None:
        state = saved.state
        if state.snapshot:
            self.distribution = self._read(state.snapshot)
            if saved.snapshot_id and self.distribution.header.snapshot_id != saved.snapshot_id:
                self._tell("the snapshot has changed since the session was saved: pictures may differ", True)
            state = replace(state, grid=self.distribution.fitting(state.grid))
            if {n for n, _ in state.request.covariates} != set(self.distribution.study.condition_names):
                defaults, axes = self.distribution.defaults(), self.distribution.axes()
                state = opened(state, state.snapshot, defaults, axes)
        if not self.state.snapshot:
            self.history.replace(state)
        else:
            self.history.commit()
            self.state = state

    def supply_missing(self, path: str) -> bool:
        """Answer the question for a session's missing snapshot; False when that file will not do."""
        saved = self.missing
        if saved is None:
            return True
        try:
            target = str(resolve_snapshot(path))
            self._adopt(replace(saved, state=at_home(saved.state, target)))
            self.missing = None
            return True
        except MssgError as error:
            self._tell(str(error), True)
            return False

    def save(self, path: str, layout: str) -> None:
        """Save the session, with the windows' layout as text.

        Raises:
            SnapshotError: It cannot be written.
        """
        identity = self.distribution.header.snapshot_id if self.distribution else ""
        session.save(path, session.Session(self.state, identity, layout))
        self.session = path
        config.remember(path)
        self._tell(f"saved {Path(path).name}", False)

    def read_current(self) -> None:
        """Read the header of the snapshot the state now names: after undo, redo, or taking over a pin.

        A state whose snapshot cannot be read any more is not entered.
        """
        state = self.state
        if state.snapshot and (self.distribution is None or self.distribution.path != state.snapshot):
            try:
                self.distribution = self._read(state.snapshot)
            except MssgError as error:
                self._tell(str(error), True)
                self.state = self._readable
        self._readable = self.state

    def undo(self) -> None:
        """Go one step back."""
        self.history.undo()
        self.read_current()

    def redo(self) -> None:
        """Go one step forward again."""
        self.history.redo()
        self.read_current()

    def poll_run(self) -> None:
        """Take in what is new in the run; its newest snapshot is put in place while it is followed.

        A bad one leaves the last good one in place, with the reason told.
        """
        if self.run is None:
            return
        self._look_for_training()
        if not self.run.poll() or not self.follow:
            return
        path = self.run.checkpoints[-1].path
        if path == self.state.snapshot or path in self._failed:
            return
        try:
            self.load(path, quietly=True)
        except MssgError as error:
            self._failed.add(path)
            self._tell(str(error), True)

    def _look_for_training(self) -> None:
        """Take hold of the training that works on the run, whoever started it; at most once a second."""
        from explorer_app.launch import found_training

        now = time.monotonic()
        if self.run is None or now < self._looked_for_training + LOOK_S:
            return
        self._looked_for_training = now
        if self.training is None or not self.training.running:
            found = found_training(self.run.folder)
            self.training = found or self.training

    def resume(self) -> None:
        """Go on with the run that is open.

        Raises:
            RunError: It cannot be started.
        """
        from explorer_app.launch import TrainingProcess, resume_command

        assert self.run is not None
        folder = self.run.folder.resolve()
        self.training, self.follow = TrainingProcess(resume_command(str(folder)), folder), True
        self._tell(f"training goes on in {folder}", False)

    def train(self, study: str, outdir: str, preset: str, kimg: str) -> None:
        """Start a training and follow its run.

        Raises:
            RunError: It cannot be started.
        """
        from explorer_app.launch import TrainingProcess, command

        outdir = str(Path(outdir).expanduser())
        words = command(str(Path(study).expanduser()), outdir, preset, kimg)
        self.training = TrainingProcess(words, outdir)
        self.run, self.follow = FollowedRun(outdir), True
        self._tell(f"training started in {outdir}", False)
