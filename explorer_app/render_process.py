"""The render process: takes the latest request, renders it, drops what is no longer wanted.

It ends when the window's process closes the pipe, however that ended. Torch is imported here only, after the
start.
"""

from __future__ import annotations

import itertools
import os
import signal
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from explorer_app.messages import (
    FailedPicture,
    FailedSnapshot,
    FailedStart,
    FoundDevices,
    Frame,
    MeasuredHead,
    MeasuredPicture,
    Picture,
    RenderedPictures,
    RequestedPictures,
    WorkDone,
)
from explorer_app.ring import SLOT_BYTES, Ring
from mssg.errors import MssgError
from mssg.rendering.request import RenderRequest

HEAD_PAUSE_S = 0.25
"""A head is read once nothing has been asked for so long: the next slice would wait for it."""
PREVIEW_FROM_MS = 90.0  # a full picture faster than this needs no preview before it


class Mailbox:
    """Holds the latest request only; a thread empties the pipe into it."""

    def __init__(self, pipe: Any) -> None:
        self._pipe = pipe
        self._latest: RequestedPictures | None = None
        self._changed = threading.Condition()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        try:
            while True:
                request = self._pipe.recv()
                with self._changed:
                    self._latest = request
                    self._changed.notify()
        except (EOFError, OSError):
            os._exit(0)  # the window is gone: nobody is left to render for

    def take(self, seconds: float | None) -> RequestedPictures | None:
        """The latest request, once; waits for one so long, with None until there is one."""
        with self._changed:
            self._changed.wait_for(lambda: self._latest is not None, seconds)
            request, self._latest = self._latest, None
            return request


def main(pipe: Any, ring_name: str, consumed: Any, generation: Any, threads: int, device: str) -> None:
    """Entry point of the spawned process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C in the terminal is for the window
    if hasattr(os, "nice"):
        os.nice(2)  # the window's frames come first
    os.environ["OMP_NUM_THREADS"] = str(threads)
    mailbox, ring = Mailbox(pipe), Ring(ring_name, consumed)
    import torch

    torch.set_num_threads(threads)
    from explorer_app.engine import Engine
    from mssg.ops.device import devices
    from mssg.ops.functional import keep_freed_memory

    keep_freed_memory()
    pipe.send(FoundDevices(devices()))
    try:
        engine = Engine(threads, device)
    except MssgError as error:  # a device that is not here
        pipe.send(FailedStart(str(error)))
        return
    RenderLoop(pipe, ring, mailbox, generation, engine).run()


class RenderLoop:
    """The process's main loop."""

    def __init__(self, pipe: Any, ring: Ring, mailbox: Mailbox, generation: Any, engine: Any) -> None:
        self.pipe, self.ring, self.mailbox, self.generation = pipe, ring, mailbox, generation
        self.engine = engine
        self.full_ms = 0.0
        self.predictor = ""

    def run(self) -> None:
        """Serve requests until the window goes away."""
        main: Picture | None = None
        along: tuple[RenderRequest, ...] = ()
        head: RenderRequest | None = None
        queue: list[tuple[Picture, bool]] = []
        number = 0
        while True:
            # A generation ahead of ours means that a newer request is on its way: nothing older is worth
            # starting.
            drawable = main is not None or along or queue
            idle = not (drawable or head) or self.generation.value != number
            request = self.mailbox.take(None if idle else 0 if drawable else HEAD_PAUSE_S)
            if request is not None:
                number, main, queue = request.number, request.main, list(request.others)
                along, head = request.along, request.head
                if request.predictor != self.predictor:
                    self.predictor = request.predictor
                    self.pipe.send(self.engine.predict_with(self.predictor))
            stale = self._stale(number)
            if main is not None or along:
                self._main(main, along, stale)
                main, along = None, ()
            elif queue and queue[0][1]:
                if self._measured(queue[0][0], stale) or not stale():
                    queue.pop(0)
            elif queue:
                pictures = [p for p, _ in itertools.takewhile(lambda wanted: not wanted[1], queue)]
                done = self._together(pictures, stale)
                queue = queue[done if done or stale() else 1 :]
            elif head is not None and request is None:
                self._head(head, stale)
                head = None
            self.pipe.send(WorkDone(self.engine.mappings, self.engine.syntheses))

    def _stale(self, number: int) -> Callable[[], bool]:
        return lambda: self.generation.value != number

    def _main(
        self, request: Picture | None, along: tuple[RenderRequest, ...], cancelled: Callable[[], bool]
    ) -> None:
        """Render the picture on the screen, and those that move with it; it is sent before it is measured.

        Its first pixels and those along with it are drawn to the end even when a newer request has come:
        during a drag every frame has one, and nothing would ever be seen.
        """

        def draw() -> None:
            seen = False
            if self.full_ms > PREVIEW_FROM_MS:
                preview = self.engine.render(request, _never, preview=True)
                seen = preview is not None and self._send([preview], main=True)
            start = time.perf_counter()
            frame = self.engine.render(request, cancelled if seen else _never)
            if frame is None:
                return
            self.full_ms = (time.perf_counter() - start) * 1e3
            drawn.append(frame)
            self._send([frame], main=True)

        drawn: list[Frame] = []
        if request is not None:
            self._guarded(request, draw)
        while along and (done := self._together(along, _never)):
            along = along[done:]
        if request is not None and drawn and not cancelled():
            self._guarded(request, lambda: self._measure(drawn[0]))

    def _measure(self, frame: Frame) -> None:
        """Read the picture on the screen."""
        frame = self.engine.measure(frame)
        self.pipe.send(MeasuredPicture(frame.request, frame.measured, frame.timings_ms, self.predictor))

    def _measured(self, request: Picture, cancelled: Callable[[], bool]) -> bool:
        """Render a picture wanted beside the main one, with what is read on it; False when it was dropped or
        failed."""

        def draw() -> bool:
            frame = self.engine.render(request, cancelled)
            return frame is not None and self._send([self.engine.measure(frame)])

        return bool(self._guarded(request, draw))

    def _together(self, pictures: Sequence[Picture], cancelled: Callable[[], bool]) -> int:
        """Render the first of several pictures, and those behind it that can be drawn in one go with it; how
        many were sent."""

        def draw() -> int:
            frames = self.engine.render_many(pictures, cancelled)
            fit = max(1, SLOT_BYTES // frames[0].image.nbytes) if frames else 1
            for first in range(0, len(frames), fit):
                self._send(frames[first : first + fit])
            return len(frames)

        return int(self._guarded(pictures[0], draw))

    def _head(self, request: RenderRequest, cancelled: Callable[[], bool]) -> None:
        """Read a whole head."""

        def read() -> None:
            reading = self.engine.measure_head(request, cancelled)
            if reading is not None:
                self.pipe.send(MeasuredHead(request, reading))

        self._guarded(request, read)

    def _guarded(self, request: Picture, draw: Callable[[], Any]) -> Any:
        """Do it with the picture's snapshot open; whatever fails is told in words."""
        try:
            if not self._open(request.snapshot):
                return False
            done = draw()
            self._open(request.snapshot)  # the first picture has shown the layers' shapes
            return done
        except MssgError as error:
            self.pipe.send(FailedPicture(request, str(error)))
        except (
            RuntimeError,
            ValueError,
            ArithmeticError,
            LookupError,
            TypeError,
            AttributeError,
            OSError,
        ) as error:
            self.pipe.send(FailedPicture(request, f"{type(error).__name__}: {error}"))
        return False

    def _open(self, path: str) -> bool:
        try:
            model = self.engine.open(path)
        except Exception as error:
            # Whatever a damaged file makes of itself must end as a message in the window, not as a dead
            # process.
            text = str(error) if isinstance(error, MssgError) else f"{type(error).__name__}: {error}"
            self.pipe.send(FailedSnapshot(path, text if path in text else f"{path}: {text}"))
            return False
        if model is not None:
            self.pipe.send(model)
        return True

    def _send(self, frames: Sequence[Frame], main: bool = False) -> bool:
        """Send what was drawn in one go: one message wakes the window once."""
        first = frames[0]
        self.pipe.send(
            RenderedPictures(
                requests=tuple(frame.request for frame in frames),
                slot=self.ring.write(np.stack([frame.image for frame in frames])),
                preview=first.preview,
                measured=first.measured,
                timings_ms=first.timings_ms,
                predictor=self.predictor,
                main=main,
            )
        )
        return True


def _never() -> bool:
    return False
