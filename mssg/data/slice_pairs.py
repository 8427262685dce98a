"""Slices next to each other: of one person, from one session, one step along the axis that is cut."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mssg.data.dataset import PackedSource
from mssg.errors import DataError
from mssg.study.model import Study

TOLERANCE = 0.05
"""Steps that differ by less than this share are the same."""


@dataclass(frozen=True)
class SlicePairs:
    """Which slice follows which.

    Attributes:
        step: From a slice to the next, in millimetres: the smallest in all sources.
        following: For each source, row -> row of the next slice, −1 where there is none: int64 [N].
    """

    step: float
    following: tuple[NDArray[np.int64], ...]

    def first(self, index: int, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Those rows of a source that have a next slice."""
        return rows[self.following[index][rows] >= 0]

    def images(self, index: int, source: PackedSource, rows: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Slices with the next ones as further channels: uint8 [N, 2C, H, W]."""
        beside = source.images[self.following[index][rows]]
        return np.concatenate([source.images[rows], beside], axis=1)


def slice_pairs(sources: Sequence[PackedSource], study: Study) -> SlicePairs:
    """Find the pairs in prepared sources.

    Args:
        sources: In the study's order.
        study: Its [geometry] names the position.

    Raises:
        DataError: A source whose training split has no pair.
    """
    chains = [_chain(source, study) for source in sources]
    gaps = np.concatenate([gap for _, gap in chains])
    gaps = gaps[np.isfinite(gaps) & (gaps > 0)]
    step = float(gaps.min()) if len(gaps) else np.nan
    following = []
    for source, (order, gap) in zip(sources, chains):
        after = np.full(len(source.images), -1, np.int64)
        at = np.flatnonzero(np.abs(gap - step) <= TOLERANCE * step)
        after[order[at]] = order[at + 1]
        following.append(after)
        if not (after[source.rows("train")] >= 0).any():
            raise DataError(
                "no slice of the training split has the next one of the same scan beside it",
                file=source.path / "table.csv",
                field=study.position,
                hint="Prepare with --at FIRST:LAST:STEP (phantoms: and --in-pairs), or leave slice_pairs off",
            )
    return SlicePairs(step, tuple(following))


def _chain(source: PackedSource, study: Study) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Rows by scan and position [N], and from each the distance to the one after it [N]: NaN where that is of
    another scan."""
    assert study.position is not None
    place = source.values[:, study.index(study.position)]
    session = np.asarray(source.table.get("session", np.zeros(len(place)))).astype(str)
    scan = np.unique(np.stack([source.subjects.astype(str), session]), axis=1, return_inverse=True)[1].ravel()
    order = np.lexsort((place, scan))
    gap = np.full(len(place), np.nan)
    same = scan[order][1:] == scan[order][:-1]
    gap[:-1] = np.where(same, np.diff(place[order]), np.nan)
    return order, gap
