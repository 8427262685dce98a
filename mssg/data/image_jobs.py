"""Images of many files: all cores, constant memory, resumable, every file that fails with its reason."""

from __future__ import annotations

import hashlib
import json
import shutil
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from mssg.blas import one_blas_thread
from mssg.data.cohort_values import ImageRecord
from mssg.data.dataset_writer import new_images
from mssg.errors import DataError, MssgError
from mssg.processes import worker_pool

IN_FLIGHT = 4
"""Jobs handed out for each worker: enough to keep it busy, few enough to stop at once."""
Progress = Callable[[int], None]
Row = dict[str, Any]


class ImageMaker(Protocol):
    """Turns a file into images; picklable, since it is sent to every worker."""

    def __call__(self, item: ImageRecord) -> tuple[NDArray[np.uint8], list[Row | str]]:
        """Images uint8 [S, C, R, R], and for each its further columns, or why it is left out.

        Keys of a row that are no columns: `values` and `lacking`, covariates measured on the image and those
        that could not be; `measured`, for qc.csv alone; `reason`, why the image is rejected (it is still
        shown).

        Raises:
            DataError: The file cannot be used.
        """
        ...


_worker: dict[str, Any] = {}
"""What every job of a worker process needs, sent to it once."""


def _start(maker: ImageMaker, images: Path) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent stops us
    _set(maker, images)


def _set(maker: ImageMaker, images: Path) -> None:
    _worker.update(maker=maker, images=np.load(images, mmap_mode="r+"))


def _job(index: int, item: ImageRecord) -> tuple[int, list[Row | str] | str]:
    """Make one file's images in place; what is wrong with it becomes its reason."""
    store = _worker["images"]
    try:
        with one_blas_thread():
            made, rows = _worker["maker"](item)
        store[index * len(rows) : (index + 1) * len(rows)] = made
        return index, rows
    except MssgError as error:
        return index, error.brief
    except Exception as error:  # one file must not end the work on thousands
        return index, f"unexpected {type(error).__name__}: {str(error)[:200]}"


def make_images(
    maker: ImageMaker,
    items: Sequence[ImageRecord],
    draft: ImageDraft,
    workers: int = 1,
    progress: Progress | None = None,
) -> tuple[NDArray[np.uint8], list[list[Row | str] | str], int]:
    """Run a maker over all files, or over those that an interrupted run has left.

    Args:
        draft: Where images and the journal of what is done lie.
        progress: Called with the number of files done since the last call.

    Returns:
        All images [files × per_item, C, R, R]; each file's outcome: a row or a reason for each of its images,
        or a reason for all; and how many files were done already.
    """
    done = draft.open(items)
    outcomes: list[list[Row | str] | str] = ["not done"] * len(items)
    for index, rows in done.items():
        outcomes[index] = rows
    if progress and done:
        progress(len(done))
    todo = [(i, item) for i, item in enumerate(items) if i not in done]
    with draft.journal.open("a", encoding="utf-8") as journal:
        for index, outcome in _run(todo, maker, draft.images, workers):
            outcomes[index] = outcome
            if not isinstance(outcome, str):
                journal.write(json.dumps([index, outcome]) + "\n")
                journal.flush()
            if progress:
                progress(1)
    _worker.clear()
    return np.load(draft.images, mmap_mode="r"), outcomes, len(done)


@dataclass(frozen=True)
class ImageDraft:
    """Images in the making, and a journal of the files that are done.

    Attributes:
        per_item: Images of one file.
        shape: C, R, R.
        settings: Everything that changes a pixel; a draft made with other settings is not continued.
    """

    folder: Path
    per_item: int
    shape: tuple[int, int, int]
    settings: Mapping[str, Any]

    @property
    def images(self) -> Path:
        """The file of all images."""
        return self.folder / "images.npy"

    @property
    def journal(self) -> Path:
        """One line a file that is done: its index and its rows."""
        return self.folder / "journal.jsonl"

    def key(self, items: Sequence[ImageRecord]) -> str:
        """A hash of the settings and of every file's name, size and date."""
        settings = json.dumps([dict(self.settings), self.shape, self.per_item], sort_keys=True, default=str)
        digest = hashlib.sha256(settings.encode())
        for item in items:
            state = item.image.path.stat()
            digest.update(f"{item.image.name}\0{state.st_size}\0{state.st_mtime_ns}\n".encode())
        return digest.hexdigest()

    def open(self, items: Sequence[ImageRecord]) -> dict[int, list[Row | str]]:
        """The rows of files that are done, by index; where nothing fits, an empty draft is made."""
        key, plan = self.key(items), self.folder / "plan"
        if plan.is_file() and plan.read_text() == key:
            return self._done()
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)
        shape = (max(1, len(items) * self.per_item), *self.shape)
        try:
            new_images(self.images, shape)
        except DataError:
            shutil.rmtree(self.folder, ignore_errors=True)
            raise
        plan.write_text(key)
        return {}

    def _done(self) -> dict[int, list[Row | str]]:
        done = {}
        for line in self.journal.read_text(encoding="utf-8").splitlines() if self.journal.is_file() else ():
            try:
                index, rows = json.loads(line)
            except ValueError:  # the last line of a process that was killed
                continue
            done[index] = rows
        return done


def _run(
    todo: Sequence[tuple[int, ImageRecord]], maker: ImageMaker, images: Path, workers: int
) -> Iterator[tuple[int, list[Row | str] | str]]:
    """Every job's outcome, in the order in which they end; a job that kills its process is blamed and left
    out."""
    if workers < 2 or len(todo) < 2:
        _set(maker, images)
        yield from (_job(*job) for job in todo)
        return
    waiting, suspects = list(reversed(todo)), list[tuple[int, ImageRecord]]()
    while waiting or suspects:
        alone = bool(suspects)  # after a process has died: one job a process shows which one kills it
        count = 1 if alone else min(workers, len(waiting))
        flying: dict[Future[Any], tuple[int, ImageRecord]] = {}
        try:
            with worker_pool(count, _start, (maker, images)) as pool:
                queue = suspects if alone else waiting
                while queue or flying:
                    while queue and len(flying) < (1 if alone else count * IN_FLIGHT):
                        job = queue.pop()
                        flying[pool.submit(_job, *job)] = job
                    ended, _ = wait(flying, return_when=FIRST_COMPLETED)
                    for future in ended:
                        outcome = future.result()
                        del flying[future]
                        yield outcome
        except BrokenProcessPool:
            if alone:
                yield next(iter(flying.values()))[0], "the process that read it died: out of memory?"
            else:
                suspects = list(flying.values())
