"""Batches that mix sources, as a pure function of seed and step: resuming needs the step number and nothing
else."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from mssg.data.dataset import PackedSource
from mssg.data.slice_pairs import SlicePairs
from mssg.errors import DataError, UsageError
from mssg.study.model import Study

_IMAGES, _LABELS, _ORDER = 0, 1, 2
"""Independent random streams: which images, which label rows for fakes, and the order inside a batch."""


@dataclass(frozen=True)
class Batch:
    """Images with what is known about them.

    Attributes:
        images: uint8 [B,C,H,W], or [B,2C,H,W] with the next slices as further channels.
        values: float64 [B,V] in native units, NaN where the source does not observe the covariate or the
            value is missing.
        observed: bool [B,V], True where the source observes the covariate.
        source: int64 [B], index of the source.
        global_values: float64 [batch_size,V], the values of the whole global batch, the same on every rank.
    """

    images: NDArray[np.uint8]
    values: NDArray[np.float64]
    observed: NDArray[np.bool_]
    source: NDArray[np.int64]
    global_values: NDArray[np.float64]


@dataclass(frozen=True)
class _Turns:
    """Whose turn comes in an epoch of a source: each image's, or each person's with one of their slices.

    Attributes:
        rows: int64 [N], rows of the table, of one person after the other.
        start, count: int64 [P], where each person's rows begin and how many there are.
    """

    rows: NDArray[np.int64]
    start: NDArray[np.int64]
    count: NDArray[np.int64]

    @property
    def size(self) -> int:
        return len(self.start)

    def draw(self, rng: np.random.Generator) -> NDArray[np.int64]:
        """The rows of one epoch, shuffled."""
        order = rng.permutation(self.size)
        if self.size == len(self.rows):
            return self.rows[order]
        return self.rows[self.start[order] + rng.integers(self.count[order])]


def _turns(source: PackedSource, rows: NDArray[np.int64], by_person: bool) -> _Turns:
    if not by_person:
        return _Turns(rows, np.arange(len(rows)), np.ones(len(rows), np.int64))
    _, person = np.unique(source.subjects[rows], return_inverse=True)
    order = np.argsort(person, kind="stable")
    count = np.bincount(person)
    return _Turns(rows[order], np.cumsum(count) - count, count)


class MultiSourceLoader:
    """Draws batches from several sources, each by its weight and in its own shuffled epochs.

    Where slices have a position, an epoch is every person once, with one of their slices: long stacks do not
    outweigh short ones.

    Args:
        sources: The opened sources, in the study's order.
        study: Says weights and covariates.
        split: Which rows are drawn.
        batch_size: Images in a global batch, over all ranks.
        seed: Seed of every stream.
        rank: This process's rank; it takes rows rank::world of every global batch.
        world: Number of processes; divides batch_size.
        pairs: Draw slices that have a next one, with it.

    Raises:
        DataError: A source without a row in the split.
        UsageError: Sizes that do not fit.
    """

    def __init__(
        self,
        sources: Sequence[PackedSource],
        study: Study,
        split: str,
        batch_size: int,
        seed: int,
        rank: int = 0,
        world: int = 1,
        pairs: SlicePairs | None = None,
    ) -> None:
        if batch_size < 1 or world < 1 or batch_size % world:
            raise UsageError(
                "batch cannot be shared equally",
                field="batch",
                found=f"{batch_size} images for {world} processes",
                expected=f"a positive multiple of {max(world, 1)}",
            )
        if not 0 <= rank < world:
            raise UsageError("no such rank", field="rank", found=rank, expected=f"0 to {world - 1}")
        if len(sources) != len(study.sources):
            raise UsageError("not the study's sources", found=len(sources), expected=len(study.sources))
        self._sources = tuple(sources)
        self._pairs = pairs
        rows = [
            s.rows(split) if pairs is None else pairs.first(i, s.rows(split)) for i, s in enumerate(sources)
        ]
        self._turns = [_turns(s, mine, bool(study.position)) for s, mine in zip(sources, rows)]
        for source, turns in zip(sources, self._turns):
            if not turns.size:
                raise DataError(
                    f"no row in split {split!r}",
                    file=source.path / "table.csv",
                    field="split",
                    hint="Prepare the source again with other shares",
                )
        self.batch_size, self.seed, self.rank, self.world = batch_size, seed, rank, world
        # exact fractions: counts over millions of steps must not drift with rounding
        self._weights = [Fraction(s.weight).limit_denominator(10**6) for s in study.sources]
        self._permutation = lru_cache(maxsize=4 * len(sources))(self._shuffle)

    def batch(self, step: int) -> Batch:
        """This rank's rows of a step's global batch.

        Args:
            step: Step number from 0.

        Returns:
            batch_size / world images. Over the steps every source visits each of its images once an epoch.
        """
        source, row = self._draw(_IMAGES, step, self.batch_size)
        global_values, mine = self._values(source, row), slice(self.rank, None, self.world)
        source, row = source[mine], row[mine]
        channels, *size = self._sources[0].images.shape[1:]
        images = np.empty((len(row), channels * (2 if self._pairs else 1), *size), np.uint8)
        for index, packed in enumerate(self._sources):
            places = np.flatnonzero(source == index)
            places = places[np.argsort(row[places])]  # ascending rows read the file forwards
            some = row[places]
            images[places] = self._pairs.images(index, packed, some) if self._pairs else packed.images[some]
        observed = np.stack([s.observed for s in self._sources])[source]
        return Batch(images, global_values[mine], observed, source, global_values)

    def conditions(self, step: int, n: int) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """Label rows for fakes, from the same tables by another stream; the same on every rank.

        Args:
            step: Number of the draw, from 0.

        Returns:
            Native values float64 [n,V] with NaN as in `batch`, and the index of the source int64 [n].

        Source: docs/method/method.md section 5: labels of each source's training table, by weight, shuffled.
        """
        source, row = self._draw(_LABELS, step, n)
        return self._values(source, row), source

    def epochs(self, step: int) -> list[float]:
        """How often each source's images (of slices with a position: people) have been seen before a step."""
        counts = self._counts(step * self.batch_size)
        return [count / turns.size for count, turns in zip(counts, self._turns)]

    def _counts(self, total: int) -> list[int]:
        """How many of the first `total` images come from each source.

        Each source in turn takes its share of what the earlier ones left, rounded down: the counts add up,
        never fall from one step to the next, and differ from the exact shares by less than one image a
        source.
        """
        counts, weight = [], sum(self._weights)
        for own in self._weights[:-1]:
            counts.append(int(total * own / weight))
            total, weight = total - counts[-1], weight - own
        return [*counts, total]

    def _draw(self, stream: int, step: int, n: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Source [n] and row [n] of a draw, shuffled so that any part of it mixes sources."""
        before, after = self._counts(step * n), self._counts((step + 1) * n)
        source = np.repeat(np.arange(len(before)), np.subtract(after, before))
        row = np.concatenate([self._take(stream, i, *span) for i, span in enumerate(zip(before, after))])
        order = np.random.default_rng([self.seed, stream, _ORDER, step]).permutation(n)
        return source[order], row[order]

    def _take(self, stream: int, index: int, start: int, stop: int) -> NDArray[np.int64]:
        """Rows at positions start to stop of a source's endless sequence of shuffled epochs."""
        size = self._turns[index].size
        position = np.arange(start, stop)
        rows = np.empty(len(position), np.int64)
        for epoch in range(start // size, (stop - 1) // size + 1 if stop > start else 0):
            inside = position // size == epoch
            rows[inside] = self._permutation(stream, index, epoch)[position[inside] % size]
        return rows

    def _shuffle(self, stream: int, index: int, epoch: int) -> NDArray[np.int64]:
        rng = np.random.default_rng([self.seed, stream, index + _ORDER + 1, epoch])
        return self._turns[index].draw(rng)

    def _values(self, source: NDArray[np.int64], row: NDArray[np.int64]) -> NDArray[np.float64]:
        values = np.empty((len(row), self._sources[0].values.shape[1]))
        for index, packed in enumerate(self._sources):
            mine = source == index
            values[mine] = packed.values[row[mine]]
        return values
