"""Real pictures as another source would have taken them.

A picture x of source s is inverted, and drawn as source s and as source t. The grey levels of x are mapped
as the model maps them between the two, for this very person; to this is added the slow part (`SLOW`) of what
else the model changes, a bias field. Everything finer stays as it is in x: anatomy, and whatever the model
cannot explain.

Source: docs/guide/cohorts.md, "Harmonised pictures"; inversion and edit: docs/guide/counterfactuals.md.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from mssg.checkpoint.snapshot import Snapshot
from mssg.data.dataset import PackedSource
from mssg.data.recorded import as_recorded, recorded
from mssg.errors import UsageError
from mssg.features.perceptual import perceptual_distance
from mssg.inversion.latent_file import HEADS, estimate_values
from mssg.inversion.projector import Inversion, InvertConfig, edited_ws, invert
from mssg.measure.instruments import instrument
from mssg.rendering.image_files import to_grey
from mssg.study.covariate import SOURCE
from mssg.study.model import Study

CHUNK = 16
"""Pictures inverted together; those of one chunk share the scale of the search, so chunks are fixed."""
SLOW = 1 / 12
"""Width of the Gaussian that leaves the slow part, in sides of a picture."""
LEVELS = np.linspace(0, 1, 257)
"""Quantiles that say how grey levels are mapped."""
JUDGED = 64
"""Pictures whose source the discriminator reads where nobody states it."""


@dataclass(frozen=True)
class RealPictures:
    """Pictures of a prepared source that are to be harmonised.

    Attributes:
        packed: The source, with every covariate of the study that its table holds.
        rows: Which of its pictures.
        origin, target: Names of the source that took them, and of the other.
        how: Where the origin comes from: "option", "folder" (its name) or "discriminator".
    """

    packed: PackedSource
    rows: NDArray[np.int64]
    origin: str
    target: str
    how: str


@dataclass(frozen=True)
class Harmonised:
    """One picture, harmonised.

    Attributes:
        row: Its row in the source's table.
        image: Grey levels float32 [C, H, W], 0 to 255, not rounded.
        values: Covariates it was explained with, native units, in the study's order.
        error: Of the reconstruction: root of the mean squared difference in grey levels.
        before, after: What the study's instrument reads off the picture and off the harmonised one; empty
            where the study names none.
    """

    row: int
    image: NDArray[np.float32]
    values: tuple[float, ...]
    error: float
    before: dict[str, float]
    after: dict[str, float]


def open_pictures(
    folder: Path, snapshot: Snapshot, target: str, origin: str | None = None, split: str | None = None
) -> RealPictures:
    """The pictures of a prepared source.

    Args:
        snapshot: What will harmonise them; it must be told the source.
        target: Name of the source that they shall look like.
        origin: Name of the source that took them; None: the folder's name says it, or the discriminator.
        split: Only this split; None: all.

    Raises:
        UsageError: A model that is not told the source, unknown names, or nothing to do.
        DataError: A source that is missing, damaged, or does not fit the model.
    """
    study = snapshot.study
    if SOURCE not in study.condition_names:
        raise UsageError(
            "this model's network is not told the source",
            field="--snapshot",
            expected="one trained with condition_on_source = true",
        )
    study.source(target)
    packed = as_recorded(folder, study)
    rows = np.arange(len(packed)) if split is None else packed.rows(split)
    if not len(rows):
        raise UsageError("no picture in this split", file=folder, field="--split", found=split)
    how = "option"
    if origin is None:
        named = next((s.name for s in study.sources if folder.resolve().name == s.name), None)
        origin, how = (named, "folder") if named else (_judged(snapshot, packed, rows), HEADS)
    study.source(origin)
    if origin == target:
        hint = "If they are another source's, say so: --from source=NAME"
        found = f"{origin} ({how})"
        raise UsageError("the pictures are of this source already", field="--to", found=found, hint=hint)
    return RealPictures(packed, rows, origin, target, how)


def _judged(snapshot: Snapshot, packed: PackedSource, rows: NDArray[np.int64]) -> str:
    """The source that the discriminator reads off most of some pictures."""
    study, column = snapshot.study, snapshot.study.index(SOURCE)
    some = rows[np.linspace(0, len(rows) - 1, min(JUDGED, len(rows))).astype(int)]
    read: Counter[float] = Counter()
    for row in some.tolist():
        known = recorded(packed, study, row)
        values, how = estimate_values(snapshot, np.asarray(packed.images[row]), known)
        if how[SOURCE] == HEADS:
            read[float(values[0, column])] += 1
    if not read or 2 * read.most_common(1)[0][1] <= len(some):
        raise UsageError(
            "nobody can tell which source took these pictures",
            file=packed.path,
            field="source",
            expected=" | ".join(s.name for s in study.sources),
            hint="State it: --from source=NAME",
        )
    return study.sources[int(read.most_common(1)[0][0])].name


def harmonise(
    snapshot: Snapshot,
    pictures: RealPictures,
    config: InvertConfig,
    skip: Callable[[int], bool] = lambda row: False,
    progress: Callable[[int], object] = lambda done: None,
) -> Iterator[Harmonised]:
    """Harmonise pictures, chunk by chunk.

    Args:
        skip: Whether a row is done already; chunks that are done wholly are left out.
        progress: Called with the number of pictures that are through one more step, for steps of the search.

    Raises:
        UsageError: A covariate that nobody stated and nothing reads.
    """
    distance = perceptual_distance(config.features, snapshot, config.weights)
    study, names = snapshot.study, [source.name for source in snapshot.study.sources]
    column = study.index(SOURCE)
    for start in range(0, len(pictures.rows), CHUNK):
        rows = pictures.rows[start : start + CHUNK]
        if all(skip(row) for row in rows.tolist()):
            progress(len(rows) * config.steps)
            continue
        images = np.stack([pictures.packed.images[row] for row in rows])
        origin = {SOURCE: float(names.index(pictures.origin))}
        values = np.concatenate(
            [
                estimate_values(snapshot, image, recorded(pictures.packed, study, row) | origin)[0]
                for row, image in zip(rows.tolist(), images)
            ]
        )

        def step(_number: int, count: int = len(rows)) -> bool:
            progress(count)
            return False

        found = invert(snapshot.G, study, images, values, config=config, perceptual=distance, progress=step)
        moved = values.copy()
        moved[:, column] = names.index(pictures.target)
        before, after = _drawn(snapshot, found, values), _drawn(snapshot, found, moved)
        changed = np.stack([transferred(*three) for three in zip(images, before, after)])
        errors = np.sqrt(np.square(before - images).mean((1, 2, 3)))
        readings = [_readings(study, shown) for shown in (images, np.rint(changed).astype(np.uint8))]
        for i, row in enumerate(rows.tolist()):
            read = [{name: float(v[i]) for name, v in reading.items()} for reading in readings]
            yield Harmonised(row, changed[i], tuple(values[i].tolist()), float(errors[i]), *read)


def transferred(
    image: NDArray[np.uint8], before: NDArray[np.float32], after: NDArray[np.float32]
) -> NDArray[np.float32]:
    """A picture with what a model changes between two pictures of it.

    Args:
        image: uint8 [C, H, W].
        before, after: What the model draws of it, grey levels float32 [C, H, W].

    Returns:
        Grey levels float32 [C, H, W], 0 to 255.
    """
    from scipy.ndimage import gaussian_filter

    out = np.empty(image.shape, np.float32)
    for channel, (x, old, new) in enumerate(zip(image, before, after)):
        low, high = np.quantile(old, LEVELS), np.quantile(new, LEVELS)
        keep = np.concatenate([np.diff(low) > 0, [True]])
        beyond = x - np.clip(x, low[0], low[-1])  # levels that the model does not draw are moved along
        mapped, redrawn = (np.interp(levels, low[keep], high[keep]) for levels in (x, old))
        slow = gaussian_filter(np.asarray(new, np.float64) - redrawn, SLOW * x.shape[-1])
        out[channel] = np.clip(mapped + beyond + slow, 0, 255)
    return out


@torch.no_grad()
def _drawn(snapshot: Snapshot, found: Inversion, values: NDArray[np.float64]) -> NDArray[np.float32]:
    """Grey levels float32 [N, C, H, W] of inverted pictures with these covariates."""
    ws = edited_ws(snapshot.G, snapshot.study, found, values)
    return to_grey(snapshot.G.synthesis(ws).float().cpu().numpy())


def _readings(study: Study, images: NDArray[np.uint8]) -> dict[str, NDArray[np.float64]]:
    return dict(instrument(study.instrument).measure(images)) if study.instrument else {}
