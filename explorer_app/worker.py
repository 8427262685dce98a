"""The window's side of the render process: declare which pictures are wanted, collect what arrives.

Every frame the window says which picture it shows and which others it would like (grid cells, pins, seeds).
The service sends the missing ones; the latest wish replaces all earlier ones, stale work is dropped between
layers, equal pictures come from a cache. When the process dies it is started again and asked again. No torch
here.
"""

from __future__ import annotations

import ctypes
import itertools
import multiprocessing as mp
import os
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any

from explorer_app.messages import Frame, Instrument, Model
from explorer_app.picture import Picture
from explorer_app.ring import Ring

# Of pictures not wanted at the moment (those wanted are kept however many), and of a frame without its
# pixels.
CACHE_BYTES, FRAME_BYTES = 32 * 2**20, 8192
RESTART_PAUSE_S = 1.0
_M_ARENA_MAX = -8  # of glibc's malloc.h
Target = tuple[
    Picture | None, tuple[tuple[Picture, bool], ...]
]  # the main picture; others, and whether to measure them
HASTY_RESTARTS = 5  # so many deaths without a word from the process, and it is not started again


@dataclass
class Counters:
    """What was asked for and what came: for the performance panel and for tests."""

    wishes: int = 0
    frames: int = 0
    previews: int = 0
    cache_hits: int = 0
    restarts: int = 0
    mappings: int = 0
    syntheses: int = 0


def _share_heap() -> None:
    """Let all threads allocate from one heap. glibc gives each its own, and what is freed in the heap of a
    thread that has ended, as after every restart of the render process, is lost to the others."""
    try:
        ctypes.CDLL(None).mallopt(_M_ARENA_MAX, 1)
    except (AttributeError, OSError, TypeError):
        return  # another C library


class RenderService:
    """Starts, feeds and restarts the render process.

    Args:
        wake: Called from a thread whenever something arrived, so that an idle window draws a frame.
        threads: Torch threads of the render process; None = cores - 1.
    """

    def __init__(self, wake: Callable[[], None] | None = None, threads: int | None = None) -> None:
        self.wake = wake or (lambda: None)
        self.threads = threads or max(1, (os.cpu_count() or 2) - 1)
        self.models: dict[str, Model] = {}
        self.errors: dict[Picture, str] = {}
        self.failed: dict[str, str] = {}  # snapshot path -> why it cannot be rendered
        self.notice = ""
        self.broken = ""  # why nothing can be rendered any more
        self.predictor = ""
        self.instrument = Instrument("")
        self.latest: Frame | None = None  # the last main picture that arrived, be it wanted still or not
        self.counters = Counters()
        self.last_ms: deque[float] = deque(maxlen=240)
        self._cache: OrderedDict[Picture, Frame] = OrderedDict()
        self._cache_bytes = 0
        self._preview: Frame | None = None
        self._inbox: deque[tuple[Any, ...]] = deque()
        self._wanted: tuple[Picture | None, tuple[Picture, ...]] = (None, ())
        self._measure: set[Picture | None] = set()
        _share_heap()
        self._context = mp.get_context("spawn")
        self._closed = False
        self._silent_deaths = 0
        self._started_at = 0.0
        self._start()

    def _start(self) -> None:
        from explorer_app.render_process import main

        self.generation = self._context.RawValue("q", 0)
        consumed = self._context.RawValue("q", 0)
        self._ring = Ring(None, consumed)
        self._pipe, theirs = self._context.Pipe()
        arguments = (theirs, self._ring.name, consumed, self.generation, self.threads)
        self._process = self._context.Process(target=main, args=arguments, name="mssg-render", daemon=True)
        self._process.start()
        theirs.close()
        self._sent: Target | None = None
        self._outgoing: tuple[Any, ...] | None = None
        self._signal = threading.Condition()
        self._alive = True
        self._started_at = time.monotonic()
        threads = (
            threading.Thread(target=f, args=(self._pipe,), daemon=True) for f in (self._receive, self._send)
        )
        self._threads = tuple(threads)
        for thread in self._threads:
            thread.start()

    def _receive(self, pipe: Any) -> None:
        ring = self._ring
        try:
            while True:
                message = pipe.recv()
                if message[0] == "frame":
                    message = (*message[:2], ring.read(*message[2]), *message[3:])
                self._inbox.append(message)
                self.wake()
        except (EOFError, OSError, TypeError, ValueError):
            self._alive = False
            with self._signal:
                self._signal.notify_all()
            self.wake()

    def _send(self, pipe: Any) -> None:
        while True:
            with self._signal:
                self._signal.wait_for(lambda: self._outgoing is not None or not self._alive)
                message, self._outgoing = self._outgoing, None
            if message is None:
                return
            try:
                pipe.send(message)
            except (OSError, ValueError):
                return

    @property
    def pid(self) -> int | None:
        """Process id of the render process."""
        return self._process.pid

    def want(
        self,
        main: Picture | None,
        others: Iterable[Picture] = (),
        measured: Iterable[Picture] = (),
        predictor: str = "",
    ) -> None:
        """Say what is wanted; the latest call replaces all earlier ones.

        Args:
            main: The picture shown: it comes first, and is measured.
            others: Pictures wanted beside it.
            measured: More of them, to be measured too.
            predictor: File of the learned predictor that reads pictures beside the study's oracle; "" for
                none.
        """
        if predictor != self.predictor:
            self._predict_with(predictor)
        read = dict.fromkeys(measured)
        others = tuple(dict.fromkeys((*others, *read)))
        self._wanted, self._measure = (main, others), {main, *read}
        for picture in itertools.chain([main] if main else [], others):
            if picture in self._cache:
                self._cache.move_to_end(picture)
        missing = tuple((p, p in read) for p in others if p != main and self._lacks(p))
        target = (main if main is not None and self._lacks(main) else None, missing)
        if not self._alive or (self._sent is not None and self._covers(self._sent, target)):
            return
        if self._sent is None or target[0] != self._sent[0]:
            self.generation.value += 1
        self._sent = target
        self.counters.wishes += 1
        with self._signal:
            self._outgoing = ("want", self.generation.value, *target, self.predictor)
            self._signal.notify_all()

    def _predict_with(self, predictor: str) -> None:
        """Every picture is to be measured anew."""
        self.predictor, self.instrument, self._sent = predictor, Instrument(predictor), None
        for picture, frame in self._cache.items():
            self._cache[picture] = replace(frame, measured=None)

    def _lacks(self, picture: Picture) -> bool:
        frame = self._cache.get(picture)
        if self.broken or picture in self.errors or picture.snapshot in self.failed:
            return False
        return frame is None or (frame.measured is None and picture in self._measure)

    @staticmethod
    def _covers(sent: Target, target: Target) -> bool:
        """True when what was sent already leads to the target: the same main picture, no other that was not
        asked for."""
        if sent[0] != target[0] and target[0] is not None:
            return False
        if sent[0] is not None and target[0] is None and not target[1] and not sent[1]:
            return True
        return set(target[1]) <= set(sent[1]) and (not target[1] or len(sent[1]) <= 4 * len(target[1]) + 8)

    def poll(self) -> int:
        """Take in what arrived; restart a dead process. Call once a frame. Returns the number of messages."""
        count = 0
        while self._inbox:
            self._take(self._inbox.popleft())
            count += 1
        self._silent_deaths = 0 if count else self._silent_deaths
        if (
            not self._alive
            and not (self._closed or self.broken)
            and time.monotonic() - self._started_at > RESTART_PAUSE_S
        ):
            self._restart()
        return count

    def _restart(self) -> None:
        self._silent_deaths += 1
        if self._silent_deaths > HASTY_RESTARTS:
            self.broken = "The render process cannot be started; the terminal says why. Restart the explorer."
            return
        self._dispose()
        self.counters.restarts += 1
        self.notice = "the render process ended and was started again"
        self.models.clear()
        self._start()
        main, others = self._wanted
        self.want(main, others, [p for p in others if p in self._measure], self.predictor)

    def _take(self, message: tuple[Any, ...]) -> None:
        kind = message[0]
        if kind == "frame":
            *parts, predictor, main = message[1:]
            frame = Frame(*parts)
            self._keep(frame if predictor == self.predictor else replace(frame, measured=None))
            self.latest = frame if main else self.latest
        elif kind == "model":
            self.models[message[1].path] = message[1]
        elif kind == "measured" and message[1] in self._cache and message[-1] == self.predictor:
            _, picture, measured, timings, _ = message
            self._cache[picture] = replace(self._cache[picture], measured=measured, timings_ms=timings)
        elif kind == "instrument":
            self.instrument = message[1] if message[1].path == self.predictor else self.instrument
        elif kind == "failed":
            self.failed[message[1]] = message[2]
        elif kind == "error":
            self.errors[message[1]] = message[2]
            if len(self.errors) > 200:
                self.errors.pop(next(iter(self.errors)))
        elif kind == "counts":
            self.counters.mappings, self.counters.syntheses = message[1:]

    def _keep(self, frame: Frame) -> None:
        if frame.preview:
            self.counters.previews += 1
            self._preview = frame
            return
        self.counters.frames += 1
        self.last_ms.append(sum(frame.timings_ms.values()))
        if self._preview is not None and self._preview.picture == frame.picture:
            self._preview = None
        old = self._cache.pop(frame.picture, None)
        self._cache_bytes += _bytes(frame) - (_bytes(old) if old else 0)
        self._cache[frame.picture] = frame
        if self._cache_bytes <= CACHE_BYTES:
            return
        wanted = {self._wanted[0], *self._wanted[1]}
        for picture in list(self._cache):
            if self._cache_bytes <= CACHE_BYTES:
                break
            if picture not in wanted:
                self._cache_bytes -= _bytes(self._cache.pop(picture))

    def frame(self, picture: Picture) -> Frame | None:
        """The frame of a picture: the full one if it is there, else a preview of it, else None."""
        found = self._cache.get(picture)
        if found is None and self._preview is not None and self._preview.picture == picture:
            return self._preview
        return found

    def retry(self, path: str) -> None:
        """Forget that a snapshot failed, so that it is tried again."""
        self.failed.pop(path, None)
        self.errors = {p: e for p, e in self.errors.items() if p.snapshot != path}
        self._sent = None

    @property
    def busy(self) -> bool:
        """True while something wanted is still missing."""
        main, others = self._wanted
        return any(self._lacks(p) for p in ((main,) if main else ()) + others)

    def loading(self, path: str) -> bool:
        """True until the render process has reported on a snapshot."""
        return bool(path) and path not in self.models and path not in self.failed

    def _dispose(self) -> None:
        self._alive = False
        with self._signal:
            self._signal.notify_all()
        self.generation.value += 1
        self._pipe.close()
        self._process.join(0.5)
        if self._process.is_alive():
            self._process.kill()
            self._process.join(2)
        for thread in self._threads:
            thread.join(1)
        self._ring.close()

    def close(self) -> None:
        """End the render process and free the shared memory."""
        if not self._closed:
            self._closed = True
            self._dispose()


def _bytes(frame: Frame) -> int:
    return frame.image.nbytes + FRAME_BYTES
