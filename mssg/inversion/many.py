"""Many real images as latents: found, searched for a chunk at a time, and what came of each as a table.

Images of a chunk are searched for together, which is several times as fast as one by one; they share the
scale of the search, so chunks are the same whenever a command is run again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mssg.checkpoint.snapshot import Snapshot
from mssg.data.dataset import IMAGES, PackedSource
from mssg.data.plane import Place
from mssg.data.recorded import as_recorded, recorded
from mssg.errors import MssgError, UsageError
from mssg.features.perceptual import perceptual_distance
from mssg.inversion.image_reader import SUFFIXES, read_image
from mssg.inversion.latent_file import InvertedImage
from mssg.inversion.projector import InvertConfig, draw, edited_ws, invert
from mssg.inversion.volume_slice import CuttingRules, is_volume
from mssg.study.model import Study

CHUNK = 16
POOR = 2.0
"""Reconstructions with so many times the median error are flagged."""


@dataclass(frozen=True)
class FoundImage:
    """An image that is to be inverted.

    Attributes:
        name: Of its latent's file, without ending.
        origin: Where it was found.
        read: Gives its pixels uint8 [C, H, W] and its place.
        known: Covariates that its source's table states, native units.
    """

    name: str
    origin: str
    read: Callable[[], tuple[NDArray[np.uint8], Place | None]]
    known: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Outcome:
    """What came of an image: a latent and its reconstruction's error in grey levels, or why there is none."""

    image: FoundImage
    done: InvertedImage | None = None
    error: float | None = None
    problem: str = ""


def find_images(places: Sequence[Path], study: Study, rules: CuttingRules) -> list[FoundImage]:
    """Images of a prepared source, of folders, and single files; whole volumes are cut.

    Raises:
        UsageError: No image, or two that would be written under one name.
        DataError: A prepared source that cannot be read.
    """
    found: list[FoundImage] = []
    for place in places:
        if (place / IMAGES).is_file():
            found += _of_source(place, study)
            continue
        inside = sorted(place.rglob("*")) if place.is_dir() else [place]
        files = [p for p in inside if not place.is_dir() or p.name.lower().endswith(SUFFIXES)]
        found += [
            _of_file(p, p.relative_to(place) if place.is_dir() else Path(p.name), study, rules) for p in files
        ]
    if not found:
        names = ", ".join(map(str, places))
        raise UsageError("no image found", field="IMAGE", found=names, expected=" | ".join(SUFFIXES))
    origins: dict[str, str] = {}
    for image in found:
        if origins.setdefault(image.name, image.origin) != image.origin:
            both = f"{origins[image.name]}, {image.origin}"
            raise UsageError(
                "two images would have one name", field=image.name, found=both, hint="Rename one"
            )
    return found


def _of_source(folder: Path, study: Study) -> Iterator[FoundImage]:
    packed = as_recorded(folder, study)
    for row in range(len(packed)):
        read = _reader(packed, row)
        yield FoundImage(f"{row:06d}", f"{folder.name}, row {row}", read, recorded(packed, study, row))


def _reader(packed: PackedSource, row: int) -> Callable[[], tuple[NDArray[np.uint8], Place | None]]:
    return lambda: (np.array(packed.images[row]), None)


def _of_file(path: Path, inside: Path, study: Study, rules: CuttingRules) -> FoundImage:
    ending = next((s for s in SUFFIXES if path.name.lower().endswith(s)), path.suffix)
    name = "_".join(inside.parts)[: -len(ending) or None]
    known = rules.position(study) if is_volume(path, rules.reading) else {}
    return FoundImage(name, str(path), lambda: read_image(path, study, rules), known)


def invert_many(
    snapshot: Snapshot,
    images: Sequence[FoundImage],
    out: Path,
    given: Mapping[str, float],
    config: InvertConfig,
    predictor: Any = None,
    progress: Callable[[int], object] = lambda steps: None,
    stop: Callable[[], bool] = lambda: False,
) -> Iterator[Outcome]:
    """Invert images into a folder; those whose file is there already are only read.

    Args:
        out: Folder of the latents: NAME.safetensors.
        given: Covariates that all share.
        predictor: Reads covariates that nobody stated.
        progress: Called with the number of images that are through one more step.
        stop: Asked before every chunk; True leaves the rest for later.

    Raises:
        UsageError: A file that cannot be written, or one that holds another inversion.
    """
    distance = perceptual_distance(config.features, snapshot, config.weights)
    for start in range(0, len(images), CHUNK):
        if stop():
            return
        tasks: list[tuple[FoundImage, InvertedImage]] = []
        for image in images[start : start + CHUNK]:
            try:
                pixels, place = image.read()
                known = {**image.known, **given}
                tasks.append((image, InvertedImage.to_do(snapshot, pixels, known, config, predictor, place)))
            except MssgError as error:
                progress(config.steps)
                yield Outcome(image, problem=error.brief)
        if not tasks:
            continue
        done = _finished(tasks, out)
        if done is None:
            done = _searched(snapshot, [task for _, task in tasks], config, distance, progress)
            for (image, _), one in zip(tasks, done):
                one.save(out / f"{image.name}.safetensors")
        else:
            progress(len(tasks) * config.steps)
        for (image, _), one in zip(tasks, done):
            drawn = draw(snapshot.G, snapshot.study, one.inversion)[0].astype(np.float64)
            yield Outcome(image, one, float(np.sqrt(np.square(drawn - one.image).mean())))


def _finished(tasks: Sequence[tuple[FoundImage, InvertedImage]], out: Path) -> list[InvertedImage] | None:
    """What the files of a chunk hold; None where one is not there yet.

    Raises:
        UsageError: One holds another inversion.
    """
    held = []
    for image, task in tasks:
        path = out / f"{image.name}.safetensors"
        if not path.exists():
            return None
        before = InvertedImage.load(path)
        if not before.same_task(task):
            raise UsageError(
                "holds another inversion (image, snapshot, covariates or settings differ)",
                file=path,
                hint="Choose another folder, or remove it",
            )
        held.append(before)
    return held


def _searched(
    snapshot: Snapshot,
    tasks: Sequence[InvertedImage],
    config: InvertConfig,
    distance: Any,
    progress: Callable[[int], object],
) -> list[InvertedImage]:
    def step(_number: int) -> bool:
        progress(len(tasks))
        return False

    found = invert(
        snapshot.G,
        snapshot.study,
        np.stack([task.image for task in tasks]),
        np.concatenate([task.inversion.values for task in tasks]),
        config=config,
        perceptual=distance,
        progress=step,
    )
    ws = edited_ws(snapshot.G, snapshot.study, found).detach().cpu().numpy()
    return [replace(task, inversion=found.rows(np.array([i])), w=ws[i]) for i, task in enumerate(tasks)]


def outcome_table(study: Study, outcomes: Sequence[Outcome]) -> tuple[list[str], list[list[Any]]]:
    """What came of each image: header and rows."""
    errors = [o.error for o in outcomes if o.error is not None]
    poor = POOR * float(np.median(errors)) if errors else 0.0
    names = study.condition_names
    header = ["name", "origin", "error", "flag", *names, *(f"{name}_from" for name in names)]
    rows: list[list[Any]] = []
    for o in outcomes:
        if o.done is None or o.error is None:
            rows.append([o.image.name, o.image.origin, "", o.problem, *[""] * (2 * len(names))])
            continue
        flag = "poor reconstruction" if o.error > poor else ""
        values = [c.format(v, unit=False) for c, v in zip(study.conditions, o.done.inversion.values[0])]
        how = [o.done.how[name] for name in names]
        rows.append([o.image.name, o.image.origin, f"{o.error:.2f}", flag, *values, *how])
    return header, rows
