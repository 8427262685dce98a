"""What the window wants rendered and what came of it.

Every frame the window says which picture it shows and which others it would like (grid cells, pins, seeds).
The client sends the missing ones; the latest request replaces all earlier ones, stale work is dropped between
layers, equal pictures come from a cache. When the process dies it is started again and asked again. No torch
here.
"""

from __future__ import annotations

import math
import os
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

import numpy as np

from explorer_app.frame_cache import FrameCache
from explorer_app.messages import (
    Answer,
    FailedPicture,
    FailedSnapshot,
    FailedStart,
    FoundDevices,
    Frame,
    HeadReading,
    MeasuredHead,
    MeasuredPicture,
    OpenedModel,
    OpenedPredictor,
    Picture,
    RenderedPictures,
    RequestedPictures,
    WorkDone,
)
from explorer_app.render_link import RenderLink, share_heap
from mssg.rendering.request import RenderRequest

RESTART_PAUSE_S = 1.0
HASTY_RESTARTS = 5  # so many deaths without a word from the process, and it is not started again
ERRORS_KEPT = READINGS_KEPT = 200


@dataclass
class Counters:
    """What was asked for and what came: for the performance panel and for tests."""

    requests: int = 0
    frames: int = 0
    restarts: int = 0
    mappings: int = 0
    syntheses: int = 0


class RenderClient:
    """Feeds and restarts the render process, keeps its pictures, and knows which is on the screen.

    Args:
        wake: Called from a thread whenever something arrived, so that an idle window draws a frame.
        threads: Torch threads of the render process; None = cores - 1.
        device: auto | cpu | cuda | mps.

    Attributes:
        device: Where it draws, as asked for: auto | cpu | cuda | cuda:1 … | mps.
        devices: Where it could draw, the best first, and what is known of each; empty until it has told.
        models: What the process said about the snapshots it holds, by path.
        failed: Why a snapshot cannot be rendered, by path; `errors` the same of a picture.
        broken: Why nothing can be rendered any more.
        notice: Something to tell the user once.
        predictor: The learned predictor that measures.
        shown: What the screen shows: the main picture, or while a drag is ahead of it, the latest on the way.
        measured: The last picture shown that instruments have read.
        heads: What was read off whole heads, by the slice that was asked about.
        latency_ms: From asking for a main picture to its pixels, or those of a later one.
    """

    def __init__(
        self, wake: Callable[[], None] | None = None, threads: int | None = None, device: str = "auto"
    ) -> None:
        share_heap()
        self.device = device
        self.devices: dict[str, str] = {}
        self._start = lambda: RenderLink(
            wake or (lambda: None), threads or max(1, (os.cpu_count() or 2) - 1), self.device
        )
        self.models: dict[str, OpenedModel] = {}
        self.errors: dict[Picture, str] = {}
        self.failed: dict[str, str] = {}
        self.notice = self.broken = ""
        self.predictor = OpenedPredictor("")
        self.shown: Frame | None = None
        self.measured: Frame | None = None
        self.heads: dict[RenderRequest, HeadReading] = {}
        self.counters = Counters()
        self.render_ms: deque[float] = deque(maxlen=240)
        self.latency_ms: deque[float] = deque(maxlen=240)
        self.matched_at = time.perf_counter()  # when the picture on the screen was last the one asked for
        self._cache = FrameCache()
        self._latest: Frame | None = None  # the last main picture that arrived, be it wanted still or not
        self._unanswered: deque[tuple[Picture, float]] = deque(maxlen=1000)  # main pictures, and since when
        self._main: Picture | None = None
        self._others: dict[Picture, bool] = {}  # wanted beside it; whether to be measured
        self._next: dict[Picture, bool] = {}  # the same of the frame that is being drawn
        self._along: set[RenderRequest] = set()  # of the others, those that move with the main picture
        self._next_along: set[RenderRequest] = set()
        self._head: RenderRequest | None = None
        self._next_head: RenderRequest | None = None
        self._sent: RequestedPictures | None = None
        self._closed = False
        self._silent_deaths = 0
        self._link = self._start()

    @property
    def pid(self) -> int | None:
        """Process id of the render process."""
        return self._link.pid

    def request(self, pictures: Iterable[Picture], measured: bool = False) -> None:
        """Ask for pictures beside the main one, this frame; with what instruments read on them if they are to
        be `measured`."""
        for request in pictures:
            self._next[request] = measured or self._next.get(request, False)

    def request_along(self, pictures: Iterable[RenderRequest]) -> None:
        """Ask for pictures that move with the main one, this frame: during a drag they are drawn like it,
        however quickly newer ones are asked for."""
        pictures = tuple(pictures)
        self.request(pictures)
        self._next_along.update(pictures)

    def read_head(self, request: RenderRequest) -> HeadReading | None:
        """What is read off the head that a request is a slice of; asks for it, this frame, where it is not
        known."""
        self._next_head = request
        return self.heads.get(request)

    def submit(self, main: Picture | None, predictor: str = "", since: float | None = None) -> None:
        """Send what is wanted; the latest call replaces all earlier ones.

        Args:
            main: The picture shown: it comes first, and is measured.
            predictor: File of the learned predictor that reads pictures beside the study's oracle; "" for
                none.
            since: `time.perf_counter` of the input that asked for it; None: now.
        """
        if predictor != self.predictor.path:
            self.predictor, self._sent = OpenedPredictor(predictor), None
            self._cache.forget_measurements()
        self._main, self._others, self._next = main, self._next, {}
        self._along, self._next_along = self._next_along, set()
        self._head, self._next_head = self._next_head, None
        self._others.pop(main, None)  # type: ignore[arg-type]
        self._ask(main, time.perf_counter() if since is None else since)
        self._cache.touch([main, *self._others] if main else self._others)
        self._send()
        self._show()

    def _ask(self, main: Picture | None, since: float) -> None:
        """Remember since when the main picture is waited for."""
        if main is None or main == (
            self._unanswered[-1][0] if self._unanswered else self.shown and self.shown.request
        ):
            return
        # How long a snapshot takes to load says nothing about answers.
        self._unanswered.append((main, math.nan if self.loading(main.snapshot) else since))

    def _send(self) -> None:
        main = self._main if self._main is not None and self._lacks(self._main, True) else None
        lacking = [(p, m) for p, m in self._others.items() if self._lacks(p, m)]
        others = tuple((p, m) for p, m in lacking if p not in self._along)
        along = tuple(p for p, _ in lacking if p in self._along)
        wanted = RequestedPictures(0, main, others, self.predictor.path, along=along, head=self._unread)
        if not self._link.alive or (self._sent is not None and _covers(self._sent, wanted)):
            return
        generation = self._link.generation
        if self._sent is None or main != self._sent.main:
            generation.value += 1
        self._sent = replace(wanted, number=generation.value)
        self.counters.requests += 1
        self._link.post(self._sent)

    @property
    def _unread(self) -> RenderRequest | None:
        """The head that is to be read."""
        head = self._head
        known = head is None or head in self.heads or head in self.errors or head.snapshot in self.failed
        return None if known or self.broken else head

    def _lacks(self, request: Picture, measured: bool) -> bool:
        if self.broken or request in self.errors or request.snapshot in self.failed:
            return False
        frame = self._cache.get(request)
        return frame is None or (measured and frame.measured is None)

    def poll(self) -> int:
        """Take in what arrived; restart a dead process. Call once a frame. Returns the number of answers."""
        answers = self._link.take()
        for answer, images in answers:
            if isinstance(answer, RenderedPictures):
                assert images is not None
                for request, image in zip(answer.requests, images):
                    self._keep(answer, request, image)
            else:
                self._note(answer)
        self._silent_deaths = 0 if answers else self._silent_deaths
        rested = time.monotonic() - self._link.started_at > RESTART_PAUSE_S
        if not (self._link.alive or self._closed or self.broken) and rested:
            self._restart()
        self._show()
        return len(answers)

    def _restart(self) -> None:
        self._silent_deaths += 1
        if self._silent_deaths > HASTY_RESTARTS:
            self.broken = "The render process cannot be started; the terminal says why. Restart the explorer."
            return
        self._link.close()
        self.counters.restarts += 1
        self.notice = "the render process ended and was started again"
        self.models.clear()
        self._sent, self._link = None, self._start()
        self._send()

    def use_device(self, device: str) -> None:
        """Draw on another device: its process takes the place of this one, and every picture is drawn anew,
        for devices differ in their last bits."""
        if device == self.device:
            return
        self.device, self.broken = device, ""
        for told in (self.models, self.errors, self.failed):
            told.clear()
        self._cache, self._latest = FrameCache(), None
        self._link.close()
        self._sent, self._link = None, self._start()

    def offer(self, frame: Frame) -> None:
        """Take a preview that did not come from the process."""
        self._cache.put(frame, keep=set())

    def _note(self, answer: Answer) -> None:
        """Take in an answer that brought no pixels."""
        match answer:
            case FoundDevices():
                self.devices = answer.devices
            case OpenedModel():
                self.models[answer.path] = answer
            case OpenedPredictor() if answer.path == self.predictor.path:
                self.predictor = answer
            case MeasuredPicture() if answer.predictor == self.predictor.path:
                self._cache.measure(answer)
            case MeasuredHead():
                self.heads[answer.request] = answer.reading
                if len(self.heads) > READINGS_KEPT:
                    self.heads.pop(next(iter(self.heads)))
            case FailedStart():
                self.broken = answer.reason
            case FailedSnapshot():
                self.failed[answer.path] = answer.reason
            case FailedPicture():
                self.errors[answer.request] = answer.reason
                if len(self.errors) > ERRORS_KEPT:
                    self.errors.pop(next(iter(self.errors)))
            case WorkDone():
                self.counters.mappings, self.counters.syntheses = answer.mappings, answer.syntheses

    def _keep(self, answer: RenderedPictures, request: Picture, image: np.ndarray) -> None:
        current = answer.predictor == self.predictor.path
        frame = Frame(
            request=request,
            image=image,
            preview=answer.preview,
            measured=answer.measured if current else None,
            timings_ms=answer.timings_ms,
        )
        if not answer.preview:
            self.counters.frames += 1
            self.render_ms.append(sum(frame.timings_ms.values()))
        self._cache.put(frame, keep={self._main, *self._others})
        self._latest = frame if answer.main else self._latest

    def _show(self) -> None:
        """Put the main picture on the screen, or the latest that was asked for on the way to it."""
        if self._main is None:
            return
        found, now = self._cache.get(self._main, preview=True), time.perf_counter()
        waited_for = {p for p, _ in self._unanswered}
        if found is not None:
            self.matched_at = now
        elif self._latest is not None and self._latest.request in waited_for:
            found = self._latest
        if found is None:
            return
        while found.request in waited_for:  # what was asked for before is answered by a later picture
            request, since = self._unanswered.popleft()
            if math.isfinite(since):
                self.latency_ms.append((now - since) * 1e3)
            if request == found.request:
                break
        self.shown = found
        if found.measured is not None:
            self.measured = found

    def show(self, main: Picture) -> None:
        """Put a picture on the screen within the frame that asks for it, if it is there already."""
        found = self._cache.get(main)
        if found is not None:
            self.shown = found

    def frame(self, request: Picture) -> Frame | None:
        """The frame of a picture: the full one if it is there, else a preview of it, else None."""
        return self._cache.get(request, preview=True)

    def retry(self, path: str) -> None:
        """Forget that a snapshot failed, so that it is tried again."""
        self.failed.pop(path, None)
        self.errors = {p: e for p, e in self.errors.items() if p.snapshot != path}
        self._sent = None

    @property
    def missing(self) -> list[Picture]:
        """What is wanted and not there."""
        main = [self._main] if self._main is not None and self._lacks(self._main, True) else []
        return main + [p for p, measured in self._others.items() if self._lacks(p, measured)]

    @property
    def busy(self) -> bool:
        """True while something wanted is still missing."""
        return bool(self.missing) or self._unread is not None

    @property
    def kept_bytes(self) -> int:
        """Of the pictures kept."""
        return self._cache.bytes

    @property
    def others(self) -> set[Picture]:
        """What is wanted beside the main picture."""
        return set(self._others)

    def loading(self, path: str) -> bool:
        """True until the render process has reported on a snapshot."""
        return bool(path) and path not in self.models and path not in self.failed

    @property
    def stale_for(self) -> float:
        """Seconds since the picture on the screen was the one asked for."""
        return time.perf_counter() - self.matched_at

    def close(self) -> None:
        """End the render process and free the shared memory."""
        if not self._closed:
            self._closed = True
            self._link.close()


def _covers(sent: RequestedPictures, wanted: RequestedPictures) -> bool:
    """True when what was sent already leads to what is missing: the same main picture, no other and no head
    that was not asked for, and not many that are no longer wanted."""
    main, others = wanted.main, wanted.others
    if main is not None and main != sent.main:
        return False
    if not set(wanted.along) <= set(sent.along) or wanted.head not in (None, sent.head):
        return False
    if sent.main is not None and main is None and not others and not sent.others:
        return True
    return set(others) <= set(sent.others) and (not others or len(sent.others) <= 4 * len(others) + 8)
