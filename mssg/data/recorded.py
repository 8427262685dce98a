"""What prepared sources record of their images beyond what a study has them observe."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from mssg.data.dataset import TABLE, PackedSource
from mssg.data.table import read_table
from mssg.study.model import SOURCE, Study


def as_recorded(folder: Path, study: Study) -> PackedSource:
    """A prepared source with whatever covariate of a study its table holds.

    Raises:
        DataError: It is missing, damaged, or does not fit the study.
    """
    there = read_table(folder / TABLE) if (folder / TABLE).is_file() else {}
    observes = tuple(c.name for c in study.covariates if c.name in there)
    observes = observes or study.sources[0].observes  # refused there, in words
    first = replace(study.sources[0], observes=observes)
    return PackedSource.open(folder, replace(study, sources=(first, *study.sources[1:])), 0)


def recorded(packed: PackedSource, study: Study, row: int) -> dict[str, float]:
    """Covariates that a source's table states of an image; not the source, which it does not know."""
    pairs = zip(study.condition_names, packed.values[row].tolist())
    return {name: value for name, value in pairs if name != SOURCE and np.isfinite(value)}
