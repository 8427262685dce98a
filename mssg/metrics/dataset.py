"""The real images of a split with all that is known of them: what models are evaluated against."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from mssg.covariates.system import CovariateModels, fit_models
from mssg.data.dataset import PackedSource, open_sources
from mssg.errors import DataError
from mssg.metrics.results import JOINT, Note
from mssg.study.covariate import SOURCE
from mssg.study.model import Study

if TYPE_CHECKING:
    from mssg.checkpoint.snapshot import Snapshot


MOST = 0.5
"""Share of images with a value from which on a covariate counts as known for them."""


@dataclass(frozen=True)
class EvalDataset:
    """The real images of one split.

    Attributes:
        study: Where they come from; its statistics are fitted.
        models: Covariate models of all its covariates: where requests are drawn from.
        values: Native values [N, V], NaN where unknown; the truth that training did not see included.
        observed: Native values [N, V] of what the sources record for training.
        source: Index of each image's source [N].
        rows: Its row in that source [N].
    """

    study: Study
    split: str
    sources: tuple[PackedSource, ...]
    models: CovariateModels
    values: np.ndarray
    observed: np.ndarray
    source: np.ndarray
    rows: np.ndarray

    def __len__(self) -> int:
        return len(self.rows)

    def images(self, which: np.ndarray | slice) -> np.ndarray:
        """Real images of rows: uint8 [n, C, H, W]."""
        source, rows = self.source[which], self.rows[which]
        out = np.empty((len(rows), *self.sources[0].images.shape[1:]), np.uint8)
        for index, packed in enumerate(self.sources):
            mine = np.flatnonzero(source == index)
            if mine.size:
                order = np.argsort(rows[mine], kind="stable")  # ascending: the file is read forwards
                out[mine[order]] = packed.images[rows[mine[order]]]
        return out

    def of(self, source: str) -> np.ndarray:
        """Positions of a source's images; all for `JOINT`."""
        if source == JOINT:
            return np.arange(len(self))
        names = [s.name for s in self.study.sources]
        return np.flatnonzero(self.source == names.index(source))

    @property
    def people(self) -> np.ndarray:
        """Whose image each is [N]."""
        subjects = [s.subjects for s in self.sources]
        return np.array([str(subjects[i][row]) for i, row in zip(self.source, self.rows)])

    @property
    def parts(self) -> tuple[str, ...]:
        """Every source that has images here, and all together."""
        names = [s.name for i, s in enumerate(self.study.sources) if (self.source == i).any()]
        return (*names, JOINT) if len(names) > 1 else (JOINT,)

    def known(self, rows: np.ndarray) -> tuple[str, ...]:
        """Covariates of which most of these images have a value; some may have gaps."""
        share = np.isfinite(self.values[rows]).mean(axis=0) if len(rows) else ()
        return tuple(n for n, s in zip(self.study.condition_names, share) if s >= MOST and n != SOURCE)

    def requests(self, seed: int) -> np.ndarray:
        """Native values [N, V] with what is unknown drawn from the covariate models."""
        return self.models.complete(self.values, np.random.default_rng([seed, 7]))


def open_dataset(
    study: Study, split: str, snapshots: Sequence[Snapshot] = ()
) -> tuple[EvalDataset, list[Note]]:
    """Open the real images of a split.

    Args:
        study: A study read from its TOML.
        split: "train", "val" or "test".
        snapshots: Their covariate models are used where one knows exactly this study's covariates; else
            models are fitted.

    Raises:
        DataError: The sources cannot be read, or the split has no image.
    """
    sources = open_sources(study)
    parts = [(i, s, at_own_place(study, s, s.rows(split))) for i, s in enumerate(sources)]
    notes = [note for _, packed, rows in parts for note in _split_notes(packed, rows, split)]
    if not any(len(rows) for *_, rows in parts):
        raise DataError(
            "no image in this split",
            file=sources[0].path,
            field="split",
            found=split,
            hint="Prepare the data with a larger share for it, or choose another --split",
        )
    values = np.concatenate([_truth(study, p, rows, notes) for _, p, rows in parts])
    for v, name in enumerate(study.condition_names):
        if not np.isfinite(values[:, v]).any():
            lack = f"no image of the {split} split has a value of this covariate: it is requested from the"
            notes.append(Note(name, f"{lack} covariate model and only compared with what was requested"))
    own = next((s.models for s in snapshots if _same_covariates(s.study, study)), None)
    models = own or fit_models(study, [s.columns(study, "train") for s in sources])
    data = EvalDataset(
        study=replace(study, covariates=models.study.covariates),
        split=split,
        sources=sources,
        models=models,
        values=values,
        observed=np.concatenate([p.values[rows] for _, p, rows in parts]),
        source=np.concatenate([np.full(len(rows), i) for i, _, rows in parts]),
        rows=np.concatenate([r for *_, r in parts]),
    )
    return data, notes


def at_own_place(study: Study, packed: PackedSource, rows: np.ndarray) -> np.ndarray:
    """Of rows [n] of slices at many places those at the study's own, within a pixel, as of a single slice."""
    if not study.geometry or study.position is None:
        return rows
    places = packed.values[rows, study.index(study.position)]
    return rows[np.abs(places - (study.geometry.position_mm or 0.0)) < study.geometry.pixel_mm]


def _split_notes(packed: PackedSource, rows: np.ndarray, split: str) -> list[Note]:
    """What is wrong with a source's rows of the split."""
    if not len(rows):
        return [Note(packed.name, f"the source has no image in the {split} split")]
    if len(set(packed.subjects[rows])) < 2:
        one = f"all images of the {split} split are of one subject: no interval or floor can be trusted"
        return [Note(packed.name, one)]
    return []


def _truth(study: Study, packed: PackedSource, rows: np.ndarray, notes: list[Note]) -> np.ndarray:
    """Values of rows, completed from the columns a table keeps beside what the source observes."""
    values, problems = packed.truth(study, rows)
    notes += [Note(f"{packed.name}, {name}", message) for name, message in problems.items()]
    return values


def _same_covariates(a: Study, b: Study) -> bool:
    """Whether covariates are the same, and mean the same, in both studies."""
    return a.condition_names == b.condition_names and all(
        x.compatible_with(y) and (x.transform, x.shift) == (y.transform, y.shift)
        for x, y in zip(a.conditions, b.conditions)
    )
