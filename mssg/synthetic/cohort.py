"""Draws a cohort into a folder: by any number of processes, in any parts, interrupted or not, the same
bytes."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import torch

from mssg.checkpoint.header import Header
from mssg.checkpoint.snapshot import load_snapshot
from mssg.errors import UsageError
from mssg.files import make_folder, write_atomically, write_json
from mssg.processes import worker_pool
from mssg.rendering.renderer import Renderer
from mssg.rendering.request import RenderRequest, to_uint8
from mssg.rendering.volume import draw_volume
from mssg.runs.lock import shared
from mssg.synthetic.copies import CopyScreen
from mssg.synthetic.documents import DESCRIPTION, Tally, changes, check_folder, columns, description, readme
from mssg.synthetic.folder import CohortFolder, Row, own_columns, table_lines
from mssg.synthetic.people import CohortRequest, People

CHUNK = 16
"""People handed to a process at a time."""
MOST_COPIES = 100
"""Copies in a row after which a model counts as a memory of its training images."""
IN_FLIGHT = 3
"""Chunks handed out for each process."""

Progress = Callable[[int], None]


@dataclass(frozen=True)
class CohortMaker:
    """Makes the people of a request.

    Attributes:
        screen: Turns down copies of training images; None: nobody looks.
    """

    folder: CohortFolder
    people: People
    screen: CopyScreen | None = None

    def make(self, renderer: Renderer, indices: range) -> int:
        """Draw those of some people who are not there yet; how many these were.

        Raises:
            UsageError: A person who cannot be, or a file that cannot be written.
        """
        made = 0
        for index in indices:
            if self.folder.read(index) is None:
                self._make(renderer, index)
                made += 1
        return made

    def _make(self, renderer: Renderer, index: int) -> None:
        person, copies = self.people.person(index), 0
        while True:
            picture = self._picture(renderer, person.request)
            if self.screen is None or not self.screen.is_copy(to_uint8(picture)):
                break
            copies += 1
            if copies == MOST_COPIES:
                raise UsageError(
                    f"{copies} pictures of person {index} in a row are copies of training images",
                    field="screen_copies",
                    hint="The model repeats its training images: do not share it",
                )
            person = self.people.person(index, person.draw + 1)
        self.folder.write(person, picture, None if self.screen is None else copies)

    def _picture(self, renderer: Renderer, request: RenderRequest) -> Any:
        """A person's slice, or whole head."""
        if self.people.request.volumes:
            return draw_volume(renderer, request)
        # one picture at a time, also on a GPU: its neighbours change no bit of it
        (image,) = renderer.pictures([request], batch=1)
        return image


@dataclass(frozen=True)
class Workplace:
    """What a worker process needs to make people of its own."""

    snapshot: Path
    device: str
    request: CohortRequest
    out: Path
    screen: CopyScreen | None


@dataclass(frozen=True)
class CohortSummary:
    """What came of it: people made now, those that were there, and others of another range.

    `complete` is False where other processes are still at work on theirs: the last one writes the tables.
    """

    folder: Path
    made: int
    there: int
    others: int
    complete: bool


def write_cohort(
    out: Path,
    renderer: Callable[[], Renderer],
    header: Header,
    wanted: CohortRequest,
    *,
    screen: CopyScreen | None = None,
    workers: int = 1,
    device: str = "cpu",
    share: tuple[int, int] = (0, 1),
    progress: Progress | None = None,
) -> CohortSummary:
    """Write a cohort, or what an interrupted run has left of it.

    Args:
        renderer: Gives what draws, where this process does.
        screen: Turns down copies of training images.
        workers: Processes that draw, this one among them.
        share: Rank and number of processes that share the work, as torchrun says.
        progress: Called with the number of people done since the last call.

    Raises:
        UsageError: A request that cannot be, a folder that holds something else, or a full disk.
    """
    if screen and wanted.volumes:
        raise UsageError(
            "copies are searched for among slices, not among whole heads",
            field="screen_copies",
            hint="Leave one of --screen-copies and --volumes out",
        )
    folder = CohortFolder(out, header)
    maker = CohortMaker(folder, People(header, wanted), screen)
    own_columns(header)
    maker.people.person(wanted.first)  # what cannot be is said before anything is written
    about = description(header, wanted, screen)
    make_folder(out, UsageError)
    check_folder(out, about)
    with shared(out):
        write_json(out / DESCRIPTION, about, UsageError)
        chunks = shared_chunks(wanted, *share)
        place = Workplace(header.path, device, wanted, out, screen)
        done = made = 0
        for people, new in _drawn(maker, renderer, place, chunks, workers):
            done, made = done + people, made + new
            if progress:
                progress(people)
        complete = all(folder.has(index) for index in wanted.indices)
        if complete:
            _finish(folder, wanted, screen)
    return CohortSummary(out, made, done - made, folder.others(wanted.indices), complete)


def shared_chunks(wanted: CohortRequest, rank: int = 0, size: int = 1) -> Iterator[range]:
    """The people that one of several processes draws."""
    return islice(_chunks(wanted.indices), rank, None, size)


def _chunks(indices: range) -> Iterator[range]:
    """The people, a few at a time, at the same places whatever the first is."""
    start = indices.start
    while start < indices.stop:
        stop = min((start // CHUNK + 1) * CHUNK, indices.stop)
        yield range(start, stop)
        start = stop


def _finish(folder: CohortFolder, wanted: CohortRequest, screen: CopyScreen | None) -> None:
    """Write what describes all people, from their own files."""
    header, tally = folder.header, Tally()

    def rows() -> Iterator[Row]:
        for index in wanted.indices:
            row = folder.read(index)
            if row is None:
                raise UsageError(
                    "is damaged", file=folder.picture(index), hint="Remove it and run the same command again"
                )
            tally.add(row)
            yield row

    def table(file: Any) -> None:
        for line in table_lines(header, rows()):
            file.write(line.encode())

    def labels(file: Any) -> None:
        file.write(b'{"labels": [')
        for number, row in enumerate(rows()):
            label = [header.study.covariate(n).parse(str(row.values[n])) for n in row.values]
            entry = json.dumps([folder.label_name(row.index), label])
            file.write(f"{',' if number else ''}\n{entry}".encode())
        file.write(b"\n]}\n")

    if not folder.is_bids:
        write_atomically(folder.path / "dataset.json", labels, UsageError)
        tally = Tally()
    write_atomically(folder.path / "participants.tsv", table, UsageError)
    write_json(folder.path / "participants.json", columns(header), UsageError)
    write_atomically(folder.path / "CHANGES", changes(header), UsageError)
    write_atomically(folder.path / "README", readme(header, wanted, screen, tally), UsageError)


def _drawn(
    maker: CohortMaker,
    renderer: Callable[[], Renderer],
    place: Workplace,
    chunks: Iterator[range],
    workers: int,
) -> Iterator[tuple[int, int]]:
    """People done and, of these, newly made, chunk by chunk."""
    if workers < 2:
        for chunk in chunks:
            yield len(chunk), maker.make(renderer(), chunk)
        return
    flying: dict[Future[int], int] = {}
    try:
        with one_thread(), worker_pool(workers - 1, _start, (place,)) as pool:
            for chunk in chunks:
                if len(flying) < (workers - 1) * IN_FLIGHT:
                    flying[pool.submit(_job, chunk)] = len(chunk)
                else:  # this process is one of the workers
                    yield len(chunk), maker.make(renderer(), chunk)
                    yield from _ended(flying, 0)
            while flying:
                yield from _ended(flying, None)
    except BrokenProcessPool:
        raise UsageError(
            "a process that drew died: out of memory?",
            field="workers",
            hint="Run the same command again, with fewer --workers",
        ) from None


def _ended(flying: dict[Future[int], int], patience: float | None) -> Iterator[tuple[int, int]]:
    for future in wait(flying, patience, FIRST_COMPLETED).done:
        yield flying.pop(future), future.result()


@contextmanager
def one_thread() -> Iterator[None]:
    """Compute with one thread, where processes share the cores."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


_worker: dict[str, Any] = {}
"""What every job of a worker process needs."""


def _start(place: Workplace) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent stops us
    torch.set_num_threads(1)
    renderer = Renderer(load_snapshot(place.snapshot, place.device))
    header = renderer.header
    maker = CohortMaker(CohortFolder(place.out, header), People(header, place.request), place.screen)
    _worker.update(maker=maker, renderer=renderer)


def _job(indices: range) -> int:
    return _worker["maker"].make(_worker["renderer"], indices)
