"""Images with their values and people: what predictors are made from."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from mssg.data.dataset import PackedSource, open_sources
from mssg.errors import DataError
from mssg.study.model import Study


@dataclass(frozen=True)
class LabelledImages:
    """Images uint8 [N, C, H, W], native values [N, V] and people [N] of a part of all sources together."""

    images: np.ndarray
    values: np.ndarray
    people: np.ndarray

    def and_also(self, other: LabelledImages) -> LabelledImages:
        """Both, one after the other."""
        pairs = ((getattr(self, n), getattr(other, n)) for n in ("images", "values", "people"))
        return LabelledImages(*(np.concatenate(pair) for pair in pairs))

    def people_with(self, v: int) -> int:
        """How many people have a value of the covariate in column `v`."""
        return len(set(self.people[np.isfinite(self.values[:, v])].tolist()))


def labelled(
    study: Study,
    sources: Sequence[PackedSource],
    split: str,
    limit: int,
    *,
    observed_only: bool,
    rng: np.random.Generator,
) -> LabelledImages:
    """What a split holds, all sources together, at most so many images."""
    most, parts = max(1, limit // len(sources)), []
    for source in sources:
        rows = np.sort(rng.permutation(source.rows(split))[:most])
        values = source.values[rows] if observed_only else source.truth(study, rows)[0]
        parts.append(LabelledImages(np.asarray(source.images[rows]), values, source.subjects[rows]))
    return functools.reduce(LabelledImages.and_also, parts)


def or_refuse(rows: LabelledImages, sources: Sequence[PackedSource], split: str) -> LabelledImages:
    """The rows, of which there must be one.

    Raises:
        DataError: There is none.
    """
    if not len(rows.images):
        raise DataError(
            "no image in this split",
            file=sources[0].path,
            field="split",
            found=split,
            hint="Prepare the data with a larger share for it",
        )
    return rows


def of_one(
    study: Study, sources: Sequence[PackedSource], name: str, observed_only: bool = False
) -> tuple[Study, tuple[PackedSource, ...]]:
    """The study of one covariate alone, for a predictor of its own.

    Args:
        study: With fitted statistics.
        observed_only: Of the sources that observe it, not of those whose tables keep it beside.

    Returns:
        The study, and its sources that record the covariate.
    """
    recording = tuple(
        replace(source, observes=(name,))
        for source, packed in zip(study.sources, sources)
        if name in source.observes or (not observed_only and name in packed.table)
    )
    geometry = study.geometry and replace(study.geometry, position=None)
    part = replace(
        study,
        covariates=(study.covariate(name),),
        sources=recording,
        geometry=geometry,
        models={},
        condition_on_source=False,
    )
    return part, open_sources(part)
