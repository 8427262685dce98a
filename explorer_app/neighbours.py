"""Real images at hand, and those whose recorded covariates are nearest to what is asked. No torch here."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from explorer_app.messages import Frame
from explorer_app.real_image import RealImage
from mssg import assets
from mssg.data.dataset import IMAGES, PackedSource
from mssg.data.recorded import as_recorded
from mssg.errors import DataError
from mssg.runs.folder import RunFolder
from mssg.study.model import Study
from mssg.study.schema import load_study

GALLERIES = "galleries"
"""Folder of the assets: a small prepared source for each study and resolution that a shipped model knows."""
OF_STACKS = "-stacks"
"""Follows the study's name in that of a gallery whose images are slices at many places."""
OTHER_LEVEL = 2.0
"""How far another level of a discrete covariate is, in standard deviations of a continuous one."""


@dataclass(frozen=True)
class Neighbour:
    """A real image near to what was asked.

    Attributes:
        source: Number of its source in the gallery.
        row: Its row there.
        distance: Root of the mean squared distance over what is recorded of it, in standard deviations.
        values: What is recorded of it, native units.
    """

    source: int
    row: int
    distance: float
    values: Mapping[str, float]


@dataclass(frozen=True, eq=False)
class Gallery:
    """Real images of prepared sources.

    Attributes:
        snapshot: File of the snapshot whose study they are opened for.
        shipped: They came with MSSG.
    """

    snapshot: str
    study: Study
    sources: tuple[PackedSource, ...]
    shipped: bool = False

    @staticmethod
    def open(folders: Sequence[Path], snapshot: str, study: Study, shipped: bool = False) -> Gallery:
        """Open prepared sources.

        Raises:
            DataError: One is missing, damaged, does not fit the study, or records none of its covariates.
        """
        sources = tuple(as_recorded(folder, study) for folder in folders)
        return Gallery(snapshot, study, sources, shipped)

    def __len__(self) -> int:
        return sum(map(len, self.sources))

    @cached_property
    def _spread(self) -> NDArray[np.float64]:
        """Standard deviation of each covariate as the study transforms it; of a discrete one 1: [V]."""
        table = self._transformed(np.concatenate([s.values for s in self.sources]))
        out = np.ones(len(self.study.conditions))
        for i, covariate in enumerate(self.study.conditions):
            known = table[np.isfinite(table[:, i]), i]
            if covariate.is_continuous and known.size > 1:
                out[i] = known.std() or 1.0
        return out

    def _transformed(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Native values [N, V] as the study transforms them."""
        columns = [
            np.asarray(c.forward(values[:, i]), np.float64) if c.is_continuous else values[:, i]
            for i, c in enumerate(self.study.conditions)
        ]
        return np.stack(columns, 1)

    def nearest(self, asked: Mapping[str, float], count: int) -> tuple[Neighbour, ...]:
        """The images nearest to a condition, one of each person, nearest first.

        Args:
            asked: Native values.
        """
        names = self.study.condition_names
        wanted = self._transformed(np.array([[asked.get(n, np.nan) for n in names]]))[0]
        found: list[Neighbour] = []
        for number, source in enumerate(self.sources):
            apart = self._apart(source.values, wanted)
            seen: set[str] = set()
            for row in np.argsort(apart, kind="stable"):
                if len(seen) == count or not np.isfinite(apart[row]):
                    break
                if source.subjects[row] not in seen:
                    seen.add(str(source.subjects[row]))
                    known = {n: v for n, v in zip(names, source.values[row].tolist()) if np.isfinite(v)}
                    found.append(Neighbour(number, int(row), float(apart[row]), known))
        return tuple(sorted(found, key=lambda n: n.distance)[:count])

    def _apart(self, values: NDArray[np.float64], wanted: NDArray[np.float64]) -> NDArray[np.float64]:
        """How far images lie from what is wanted: [N]; infinite where nothing of both is known, and for
        slices of other places than the nearest."""
        away = (self._transformed(values) - wanted) / self._spread
        for i, covariate in enumerate(self.study.conditions):
            if not covariate.is_continuous:
                away[:, i] = np.where(np.isnan(away[:, i]), np.nan, (away[:, i] != 0) * OTHER_LEVEL)
        elsewhere = np.zeros(len(values), bool)
        if self.study.position is not None:
            at = self.study.index(self.study.position)
            gap = np.where(np.isnan(away[:, at]), np.inf, np.abs(away[:, at]))
            elsewhere = gap > gap.min() + 1e-9 if len(gap) else elsewhere
            away[:, at] = np.nan
        known = np.isfinite(away)
        total = np.where(known, np.square(away), 0).sum(1)
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.where(known.any(1) & ~elsewhere, np.sqrt(total / known.sum(1)), np.inf)

    def image(self, neighbour: Neighbour) -> RealImage:
        """A neighbour as a picture that can stand beside the generated one."""
        source = self.sources[neighbour.source]
        pixels = np.array(source.images[neighbour.row])
        name = f"{source.path.name} {neighbour.row}"
        kind = "semi-synthetic" if source.info.get("semi_synthetic") else "real"
        known = tuple(neighbour.values.items())
        return RealImage(self.snapshot, name, pixels, known, about=self.about(neighbour), kind=kind)

    def about(self, neighbour: Neighbour) -> str:
        """What a neighbour is: whose data, and whether the model may have seen it."""
        source = self.sources[neighbour.source]
        if self.shipped:
            return "shipped with MSSG, of people the model never saw"
        split = {"train": "a training image", "val": "held out for validation", "test": "held out for tests"}
        return f"source {source.path.name}, {split[str(source.split[neighbour.row])]}"

    @property
    def kind(self) -> str:
        """What its images are called."""
        return "semi-synthetic" if all(s.info.get("semi_synthetic") for s in self.sources) else "real"

    @property
    def origin(self) -> str:
        """What the images are, as their sources state it; "" where they do not."""
        return "; ".join(dict.fromkeys(str(s.info["origin"]) for s in self.sources if s.info.get("origin")))


def find_gallery(snapshot: str, study: Study) -> Gallery | None:
    """The real images at hand for a snapshot: its run's prepared sources, else the small gallery shipped for
    its study; None where there is neither.

    Raises:
        MssgError: They are there and cannot be read.
    """
    run = RunFolder(Path(snapshot).parent.parent)
    if run.looks_like_a_run() and run.config_file.is_file():
        folder, stated = Path(run.config_document()["study_folder"]), load_study(run.study_file)
        folders = [folder / source.path for source in stated.sources]
        if all((f / IMAGES).is_file() for f in folders):
            return Gallery.open(folders, snapshot, study)
    kind = study.name + (OF_STACKS if study.position else "")
    folder = assets.root() / GALLERIES / f"{kind}-{study.resolution}"
    if not (folder / IMAGES).is_file():
        return None
    return Gallery.open([folder], snapshot, study, shipped=True)


def open_folder(folder: str, snapshot: str, study: Study) -> Gallery:
    """A prepared source that the user chose.

    Raises:
        MssgError: It cannot be read, or does not fit the study.
    """
    path = Path(folder)
    if not (path / IMAGES).is_file():
        raise DataError("no prepared source", file=path, expected="a folder that `mssg prepare` wrote")
    return Gallery.open([path], snapshot, study)


class Neighbourhood:
    """The gallery of the snapshot that is open, opened on a thread, and what was asked of it last."""

    def __init__(self) -> None:
        self._jobs = ThreadPoolExecutor(1, thread_name_prefix="gallery")
        self._job: Future[Gallery | None] | None = None
        self._snapshot = ""
        self._gallery: Gallery | None = None
        self._asked: tuple[Any, ...] = ()
        self.found: tuple[Neighbour, ...] = ()
        self._shown: dict[tuple[int, int], Frame] = {}
        self.problem = ""

    def gallery(self, snapshot: str, study: Study) -> Gallery | None:
        """The gallery of a snapshot; None while it is looked for, or where there is none."""
        if snapshot != self._snapshot:
            self._begin(snapshot, lambda: find_gallery(snapshot, study))
        if self._job is not None and self._job.done():
            job, self._job = self._job, None
            problem = job.exception()
            self.problem = "" if problem is None else str(problem)
            if problem is None:
                self._gallery, self._asked, self._shown = job.result(), (), {}
        return self._gallery

    def choose(self, folder: str, snapshot: str, study: Study) -> None:
        """Take a prepared source that the user chose; what is wrong with it is the `problem`."""
        kept = self._gallery
        self._begin(snapshot, lambda: open_folder(folder, snapshot, study))
        self._gallery = kept

    def _begin(self, snapshot: str, find: Callable[[], Gallery | None]) -> None:
        self._snapshot, self._gallery, self.problem = snapshot, None, ""
        self._job = self._jobs.submit(find)

    @property
    def busy(self) -> bool:
        """True while a gallery is looked for."""
        return self._job is not None

    def nearest(self, asked: Sequence[tuple[str, float]], count: int) -> tuple[Neighbour, ...]:
        """As `Gallery.nearest`, remembered until something else is asked."""
        assert self._gallery is not None
        if self._asked != (key := (tuple(asked), count)):
            self._asked, self.found = key, self._gallery.nearest(dict(asked), count)
            near = {(n.source, n.row) for n in self.found}
            self._shown = {place: frame for place, frame in self._shown.items() if place in near}
        return self.found

    def frame(self, neighbour: Neighbour) -> Frame:
        """A neighbour as a picture, the same one as long as it is near."""
        assert self._gallery is not None
        place = neighbour.source, neighbour.row
        if place not in self._shown:
            image = self._gallery.image(neighbour)
            self._shown[place] = Frame(image, image.levels)
        return self._shown[place]

    def close(self) -> None:
        """End what is under way."""
        self._jobs.shutdown(wait=False, cancel_futures=True)
