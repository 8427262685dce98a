"""The window's end of the render process: starts it, sends it the latest request, takes its answers.

No torch here.
"""

from __future__ import annotations

import ctypes
import multiprocessing as mp
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any

import numpy as np

from explorer_app.messages import Answer, RenderedPictures, RequestedPictures
from explorer_app.ring import Ring

_M_ARENA_MAX = -8  # of glibc's malloc.h


def share_heap() -> None:
    """Let all threads allocate from one heap. glibc gives each its own, and what is freed in the heap of a
    thread that has ended, as after every restart of the render process, is lost to the others."""
    try:
        ctypes.CDLL(None).mallopt(_M_ARENA_MAX, 1)
    except (AttributeError, OSError, TypeError):
        return  # another C library


class RenderLink:
    """One render process with its pipe and its ring of shared memory.

    Args:
        wake: Called from a thread whenever something arrived, so that an idle window draws a frame.
        threads: Torch threads of the process.
        device: auto | cpu | cuda | mps.
    """

    def __init__(self, wake: Callable[[], None], threads: int, device: str) -> None:
        from explorer_app.render_process import main

        context = mp.get_context("spawn")
        self.generation = context.RawValue("q", 0)
        self.started_at = time.monotonic()
        self.alive = True
        consumed = context.RawValue("q", 0)
        self.ring = Ring(None, consumed)
        self._wake = wake
        self._pipe, theirs = context.Pipe()
        arguments = (theirs, self.ring.name, consumed, self.generation, threads, device)
        self._process = context.Process(target=main, args=arguments, name="mssg-render", daemon=True)
        self._process.start()
        theirs.close()
        self._inbox: deque[tuple[Answer, np.ndarray | None]] = deque()
        self._outgoing: RequestedPictures | None = None
        self._signal = threading.Condition()
        self._threads = tuple(
            threading.Thread(target=work, daemon=True) for work in (self._receive, self._send)
        )
        for thread in self._threads:
            thread.start()

    @property
    def pid(self) -> int | None:
        """Process id of the render process."""
        return self._process.pid

    def _receive(self) -> None:
        try:
            while True:
                answer: Any = self._pipe.recv()
                images = self.ring.read(*answer.slot) if isinstance(answer, RenderedPictures) else None
                self._inbox.append((answer, images))
                self._wake()
        except (EOFError, OSError, TypeError, ValueError):
            self.alive = False
            with self._signal:
                self._signal.notify_all()
            self._wake()

    def _send(self) -> None:
        while True:
            with self._signal:
                self._signal.wait_for(lambda: self._outgoing is not None or not self.alive)
                request, self._outgoing = self._outgoing, None
            if request is None:
                return
            try:
                self._pipe.send(request)
            except (OSError, ValueError):
                return

    def post(self, request: RequestedPictures) -> None:
        """Send a request, in place of one that has not left yet."""
        with self._signal:
            self._outgoing = request
            self._signal.notify_all()

    def take(self) -> list[tuple[Answer, np.ndarray | None]]:
        """The answers that have arrived, each with the pixels it brought."""
        out = []
        while self._inbox:
            out.append(self._inbox.popleft())
        return out

    def close(self) -> None:
        """End the process and free the shared memory."""
        self.alive = False
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
        self.ring.close()
