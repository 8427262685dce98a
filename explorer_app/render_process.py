"""The render process: takes the latest wish, renders it, drops what is no longer wanted.

It ends when the window's process closes the pipe, however that ended. Torch is imported here only, after the
start.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from typing import Any

from explorer_app.messages import Frame
from explorer_app.picture import Picture
from explorer_app.ring import Ring
from mssg.errors import MssgError

PREVIEW_FROM_MS = 90.0  # a full picture faster than this needs no preview before it


class Mailbox:
    """Holds the latest wish only; a thread empties the pipe into it."""

    def __init__(self, pipe: Any) -> None:
        self._pipe, self._wish = pipe, None
        self._changed = threading.Condition()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        try:
            while True:
                wish = self._pipe.recv()
                with self._changed:
                    self._wish = wish
                    self._changed.notify()
        except (EOFError, OSError):
            os._exit(0)  # the window is gone: nobody is left to render for

    def take(self, wait: bool) -> tuple[Any, ...] | None:
        """The latest wish, once; waits for one if asked to."""
        with self._changed:
            if wait:
                self._changed.wait_for(lambda: self._wish is not None)
            wish, self._wish = self._wish, None
            return wish


def main(pipe: Any, ring_name: str, consumed: Any, generation: Any, threads: int) -> None:
    """Entry point of the spawned process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C in the terminal is for the window
    if hasattr(os, "nice"):
        os.nice(2)  # the window's frames come first
    os.environ["OMP_NUM_THREADS"] = str(threads)
    mailbox, ring = Mailbox(pipe), Ring(ring_name, consumed)
    import torch

    torch.set_num_threads(threads)
    Loop(pipe, ring, mailbox, generation, threads).run()


class Loop:
    """The process's main loop."""

    def __init__(self, pipe: Any, ring: Ring, mailbox: Mailbox, generation: Any, threads: int) -> None:
        from explorer_app.engine import Engine
        from mssg.ops.functional import keep_freed_memory

        keep_freed_memory()
        self.pipe, self.ring, self.mailbox, self.generation = pipe, ring, mailbox, generation
        self.engine = Engine(threads)
        self.full_ms = 0.0
        self.predictor = ""

    def run(self) -> None:
        """Serve wishes until the window goes away."""
        main: Picture | None = None
        queue: list[tuple[Picture, bool]] = []
        number = 0
        while True:
            # A generation ahead of ours means that a newer wish is on its way: nothing older is worth
            # starting.
            idle = (main is None and not queue) or self.generation.value != number
            wish = self.mailbox.take(wait=idle)
            if wish is not None:
                _, number, main, others, predictor = wish
                queue = list(others)
                if predictor != self.predictor:
                    self.predictor = predictor
                    self.pipe.send(("instrument", self.engine.predict_with(predictor)))
            stale = self._stale(number)
            if main is not None:
                self._picture(main, True, stale, first=True)
                main = None
            elif queue and (self._picture(*queue[0], stale) or not stale()):
                queue.pop(0)
            self.pipe.send(("counts", self.engine.mappings, self.engine.syntheses))

    def _stale(self, number: int) -> Callable[[], bool]:
        return lambda: self.generation.value != number

    def _picture(
        self, picture: Picture, measure: bool, cancelled: Callable[[], bool], first: bool = False
    ) -> bool:
        """Render one picture and send it; False when it was dropped or failed.

        The first one, which is on the screen, is sent before it is measured. Its first pixels are drawn to
        the end even
        when a newer wish has come: during a drag every frame has one, and nothing would ever be seen.
        """
        try:
            if not self._open(picture.snapshot):
                return False
            seen = not first
            if first and self.full_ms > PREVIEW_FROM_MS:
                seen = self._send(self.engine.render(picture, _never, preview=True), _never, first)
            start = time.perf_counter()
            frame = self.engine.render(picture, cancelled if seen else _never, preview=False)
            if frame is None:
                return False
            self.full_ms = (time.perf_counter() - start) * 1e3
            if first and self._send(frame, _never, first) and not cancelled():
                frame = self.engine.measure(frame)
                self.pipe.send(("measured", picture, frame.measured, frame.timings_ms, self.predictor))
            sent = first or self._send(self.engine.measure(frame) if measure else frame, _never)
            self._open(picture.snapshot)  # the first picture has shown the layers' shapes
            return sent
        except MssgError as error:
            self.pipe.send(("error", picture, str(error)))
        except (
            RuntimeError,
            ValueError,
            ArithmeticError,
            LookupError,
            TypeError,
            AttributeError,
            OSError,
        ) as error:
            self.pipe.send(("error", picture, f"{type(error).__name__}: {error}"))
        return False

    def _open(self, path: str) -> bool:
        try:
            model = self.engine.open(path)
        except Exception as error:
            # Whatever a damaged file makes of itself must end as a message in the window, not as a dead
            # process.
            text = str(error) if isinstance(error, MssgError) else f"{type(error).__name__}: {error}"
            self.pipe.send(("failed", path, text if path in text else f"{path}: {text}"))
            return False
        if model is not None:
            self.pipe.send(("model", model))
        return True

    def _send(self, frame: Frame | None, cancelled: Callable[[], bool], main: bool = False) -> bool:
        if frame is None:
            return False
        try:
            place = self.ring.write(frame.image, cancelled)
        except InterruptedError:
            return False
        self.pipe.send(
            (
                "frame",
                frame.picture,
                place,
                frame.preview,
                frame.measured,
                frame.statistics,
                frame.timings_ms,
                self.predictor,
                main,
            )
        )
        return True


def _never() -> bool:
    return False
