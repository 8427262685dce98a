"""The user's own picture: its file, read on a thread; where it is cut; its inversion. No torch."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from explorer_app.inversion_job import InversionJob, InversionTask
from explorer_app.real_image import RealImage
from explorer_app.request_edits import plain_seed, whole_picture, with_values
from explorer_app.state import AppState, add_pin, set_compare
from mssg.errors import DataError, MssgError
from mssg.files import write_atomically

if TYPE_CHECKING:
    from explorer_app.document import Document
    from explorer_app.opened_image import OpenedImage

SUFFIXES = (".nii", ".nii.gz", ".mgz", ".mgh", ".png", ".jpg", ".jpeg", ".npy")
STEPS = (100, 400, 1000)


def is_image(path: str) -> bool:
    """Whether a file's name promises a picture or a scan."""
    return path.lower().endswith(SUFFIXES)


class Guest:
    """The user's own picture.

    Args:
        document: Whose study it is cut for.
        tell: Shows the user a message; the second argument says that something is wrong.

    Attributes:
        opened: The file that was read last.
        reading: Name of the file that is being read; "" otherwise.
        cuts: Where a scan was cut, millimetres and anchor, by the picture's digest.
        steps: Of an inversion.
        errors: How far reconstructions are from their images, grey levels (rms), by the latent's digest.
    """

    def __init__(self, document: Document, tell: Callable[[str, bool], None]) -> None:
        self._document, self._tell = document, tell
        self._jobs = ThreadPoolExecutor(1, thread_name_prefix="guest")
        self._read: Future[tuple[OpenedImage, RealImage]] | None = None
        self._folder: str = ""
        self.opened: OpenedImage | None = None
        self.reading = ""
        self.cuts: dict[str, tuple[float, str]] = {}
        self.steps = STEPS[1]
        self.job: InversionJob | None = None
        self.errors: dict[str, float] = {}

    def open(self, path: str) -> None:
        """Read a file for the current study; it is shown as soon as it is there."""
        self._open(Path(path).name, lambda: path)

    def paste(self, text: str) -> None:
        """Take what the clipboard holds: the path of a picture as text, else a picture."""
        path = Path(text.strip().strip("'\"").removeprefix("file://")).expanduser()
        self._open("clipboard", lambda: str(path) if text.strip() and is_image(str(path)) else None)

    def _open(self, name: str, find: Callable[[], str | None]) -> None:
        distribution, state = self._document.distribution, self._document.state
        if distribution is None:
            self._tell("Open a model first: your image is cut as its study's images are.", True)
            return
        study, snapshot, places = distribution.study, state.snapshot, distribution.places
        at = dict(state.request.covariates).get(study.position or "")
        self.reading = name

        def read() -> tuple[OpenedImage, RealImage]:
            from explorer_app.opened_image import open_clipboard, open_image

            path = find()
            if path is None:
                opened = open_clipboard(snapshot, study, places)
            else:
                opened = open_image(path, snapshot, study, places)
            anchor = opened.scan.anchors[0] if opened.scan else ""
            mm = at if at is not None else opened.scan.default_mm if opened.scan else 0.0
            image = opened.cut(mm, anchor)
            self.cuts[image.digest] = mm, anchor
            return opened, image

        self._read = self._jobs.submit(read)

    @property
    def busy(self) -> bool:
        """True while something is read or inverted."""
        return self._read is not None or (self.job is not None and self.job.running)

    def poll(self, state: AppState) -> AppState:
        """The state with what arrived since the last call: the picture as a pin, shown beside the current
        one; an inversion's latent as the current picture."""
        if self._read is not None and self._read.done():
            read, self._read, self.reading = self._read, None, ""
            problem = read.exception()
            if problem is None:
                self.opened, image = read.result()
                state = beside(state, image)
            elif isinstance(problem, MssgError):
                self._tell(str(problem), True)
            else:
                self._tell(f"not read: {type(problem).__name__}: {problem}", True)
        state, job = self._followed(state), self.job
        if job is not None and job.done is not None and job.task.image.snapshot == state.snapshot:
            request = replace(plain_seed(whole_picture(state.request)), latent=job.done.latent)
            state = replace(state, request=with_values(request, **dict(job.task.values)))
            self.errors[job.done.latent.digest] = job.done.error
            self._tell(f"inverted {job.task.image.name}: the sliders now edit it", False)
            self.job = None
        elif job is not None and job.problem:
            self._tell(f"{job.task.image.name} is not inverted: {job.problem}", True)
            self.job = None
        return state

    def _followed(self, state: AppState) -> AppState:
        """The state with a scan cut where the picture lies, of a study whose slices lie at many places."""
        image = self.image(state)
        opened = self.scan_of(image)
        if image is None or opened is None or opened.scan is None or opened.scan.study.position is None:
            return state
        at = dict(state.request.covariates).get(opened.scan.study.position)
        mm, anchor = self.cuts.get(image.digest, (None, opened.scan.anchors[0]))
        return state if at is None or at == mm else self.cut(state, at, anchor)

    def cut(self, state: AppState, mm: float, anchor: str) -> AppState:
        """The state with the scan cut elsewhere."""
        assert self.opened is not None
        try:
            image = self.opened.cut(mm, anchor)
        except MssgError as error:
            self._tell(str(error), True)
            return state
        self.cuts[image.digest] = mm, anchor
        at = self.index(state)
        if at is None:
            return beside(state, image)
        pins = tuple(replace(p, request=image) if i == at else p for i, p in enumerate(state.pins))
        return replace(state, pins=pins, active_pin=at)

    def index(self, state: AppState) -> int | None:
        """Which pin the user's picture is: the one compared with, else the last real one."""
        real = [i for i, pin in enumerate(state.pins) if isinstance(pin.request, RealImage)]
        return state.active_pin if state.active_pin in real else real[-1] if real else None

    def image(self, state: AppState) -> RealImage | None:
        """The user's picture."""
        at = self.index(state)
        found = state.pins[at].request if at is not None else None
        return found if isinstance(found, RealImage) else None

    def scan_of(self, image: RealImage | None) -> OpenedImage | None:
        """The scan that a picture was cut from, where that is open."""
        opened = self.opened
        if opened is None or image is None or opened.scan is None:
            return None
        alike = (opened.path.name, opened.snapshot) == (image.name, image.snapshot)
        return opened if alike else None

    def invert(self, image: RealImage, values: tuple[tuple[str, float], ...], device: str) -> None:
        """Begin to invert a picture that covariates explain."""
        self._folder = self._folder or tempfile.mkdtemp(prefix="mssg-explorer-")
        file = str(Path(self._folder) / f"{image.digest[:12]}.safetensors")
        threads = max(1, (os.cpu_count() or 2) - 1)
        self.job = InversionJob(InversionTask(image, values, self.steps, device, threads, file))

    def cancel(self) -> None:
        """End the inversion under way."""
        if self.job is not None:
            self.job.cancel()
            self._tell(f"{self.job.task.image.name}: the inversion is cancelled", False)
            self.job = None

    def keep(self, state: AppState, path: str) -> AppState:
        """Write the current picture's latent where it stays, and name that file from then on.

        Raises:
            MssgError: It cannot be written, or its file has gone.
        """
        latent = state.request.latent
        assert latent is not None
        try:
            content = Path(latent.file).read_bytes()
        except OSError as error:
            raise DataError(f"cannot be read: {error.strerror}", file=latent.file) from None
        write_atomically(Path(path), content, DataError)
        kept = replace(latent, file=str(path))
        return replace(state, request=replace(state.request, latent=kept))

    def is_kept(self, file: str) -> bool:
        """Whether a latent's file outlives the window."""
        return bool(file) and not (self._folder and file.startswith(self._folder))

    def close(self) -> None:
        """End what is under way, and remove what the user did not keep."""
        if self.job is not None:
            self.job.cancel()
        self._jobs.shutdown(wait=False, cancel_futures=True)
        if self._folder:
            shutil.rmtree(self._folder, ignore_errors=True)


def beside(state: AppState, image: RealImage) -> AppState:
    """The state with a real picture pinned and shown beside the current one."""
    same = next((i for i, pin in enumerate(state.pins) if pin.request == image), None)
    state = add_pin(state, request=image) if same is None else replace(state, active_pin=same)
    return state if state.display.compare != "A" else set_compare(state, "side")
