"""Exact nearest neighbours between rows of feature matrices, fast and in bounded memory.

Single-precision products of matrices give a lower bound of every squared distance (the rounding error is
bounded, not hoped to be small); only the few pairs that the bound cannot decide are worked out by differences
in double precision. The answer is therefore that of the double loop over pairs, ties and duplicates included.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from mssg.errors import DataError, UsageError

BLOCK_BYTES = 64 << 20
"""Size of one block of the matrix of distances (single precision)."""
PAIR_BYTES = 16 << 20
"""Size of the differences worked out at a time in double precision."""
GROUPS = 16
"""Groups of columns per neighbour in which the lowest bound of each is looked for first."""
MANY = 64
"""Undecided pairs per row and neighbour above which a block is screened again in double precision."""


@dataclass(frozen=True)
class Neighbours:
    """The k nearest rows of a reference, nearest first; equal distances by lower index.

    Attributes:
        squared: Squared Euclidean distances, float64 [N, k].
        index: Rows of the reference, int64 [N, k].
    """

    squared: np.ndarray
    index: np.ndarray

    @property
    def distance(self) -> np.ndarray:
        """Euclidean distances, float64 [N, k]."""
        return np.sqrt(self.squared)


def as_features(values: object, name: str, least: int = 1) -> np.ndarray:
    """A feature matrix, checked.

    Args:
        values: Array-like [N, F] of numbers.
        name: What to call it in a message.
        least: Fewest rows that make sense.

    Returns:
        The same values as float32 or float64 [N, F]; not copied when already so.

    Raises:
        DataError: If it is no matrix of finite numbers, or has fewer than `least` rows.
    """
    try:
        array = np.asarray(values)
    except (
        TypeError,
        ValueError,
        RuntimeError,
    ) as error:  # ragged lists, tensors on a device or with a gradient
        raise DataError("features must be a plain matrix on the CPU", field=name, found=str(error)) from None
    if array.dtype.kind not in "fiub":
        raise DataError("features must be real numbers", field=name, found=f"dtype {array.dtype}")
    if array.ndim != 2 or array.shape[1] == 0:
        raise DataError(
            "features must be a matrix, one row for each image",
            field=name,
            found=f"shape {array.shape}",
            expected="[N, F]",
            hint="flatten images with images.reshape(len(images), -1)",
        )
    if len(array) < least:
        raise DataError("too few rows", field=name, found=len(array), expected=f"at least {least}")
    if array.dtype not in (np.float32, np.float64):
        small = array.dtype.itemsize <= 2
        array = array.astype(np.float32 if small else np.float64)
    # By blocks: the mask of a large matrix is not small.
    for start in range(0, len(array), 4096):
        part = array[start : start + 4096]
        if not np.isfinite(part).all():
            bad = start + np.flatnonzero(~np.isfinite(part).all(axis=1))
            raise DataError(
                "rows hold NaN or infinity",
                field=name,
                found=f"row {bad[0]} (and perhaps others)",
                expected="finite numbers",
                hint="a network that diverged, or a division by zero in the features, makes such rows",
            )
    return array


def same_width(a: np.ndarray, b: np.ndarray, names: tuple[str, str]) -> None:
    """Check that two matrices have the same number of features.

    Raises:
        DataError: If they differ.
    """
    if a.shape[1] != b.shape[1]:
        raise DataError(
            f"{names[0]} and {names[1]} have different numbers of features",
            found=f"{a.shape[1]} and {b.shape[1]}",
            expected="features from the same network",
        )


def nearest(query: object, reference: object, k: int = 1, exclude_self: bool = False) -> Neighbours:
    """The k nearest rows of a reference for every row of a query.

    Args:
        query: Features [N, F].
        reference: Features [M, F].
        exclude_self: Query and reference are the same matrix; a row is not its own neighbour (a duplicate of
            it is).

    Returns:
        Squared distances and indices [N, k], equal to those of a double loop in float64. Where more than k
        rows of the reference coincide with the query, any k of them.

    Raises:
        DataError: If the matrices are wrong, differ in F, or the reference has too few rows.
        UsageError: If k < 1.
    """
    if k < 1:
        raise UsageError("the number of neighbours must be positive", field="k", found=k)
    points, centres = as_features(query, "query"), as_features(reference, "reference", k + bool(exclude_self))
    same_width(points, centres, ("query", "reference"))
    pairs = _Pairs(points, centres)
    squared, index = np.empty((len(points), k)), np.empty((len(points), k), np.int64)
    for rows in pairs.blocks():
        squared[rows], index[rows] = _nearest_block(pairs, rows, k, exclude_self)
    return Neighbours(squared, index)


def within(
    points: object, centres: object, squared_radii: np.ndarray, closed: bool = True
) -> tuple[np.ndarray, np.ndarray]:
    """Count membership of points in balls, each with its own radius.

    Args:
        points: Features [N, F].
        centres: Features [M, F].
        squared_radii: Squared radius of every ball, float64 [M] (squared, so that a tie stays one).
        closed: Whether a point at exactly the radius is inside.

    Returns:
        In how many balls every point lies, int64 [N]; how many points every ball holds, int64 [M].

    Raises:
        DataError: If the matrices are wrong or differ in F.
    """
    points, centres = as_features(points, "points"), as_features(centres, "centres")
    same_width(points, centres, ("points", "centres"))
    pairs = _Pairs(points, centres)
    of_point, of_centre = np.zeros(len(points), np.int64), np.zeros(len(centres), np.int64)
    for rows in pairs.blocks():
        i, j = _inside(pairs, rows, pairs.lower(rows, np.float32), squared_radii[None], closed=closed)
        of_point[rows] = np.bincount(i, minlength=rows.stop - rows.start)
        of_centre += np.bincount(j, minlength=len(centres))
    return of_point, of_centre


def within_each_other(
    a: object, b: object, squared_a: np.ndarray, squared_b: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Whether rows lie in some closed ball of the other set; both directions from one matrix of distances.

    Args:
        a: Features [N, F].
        b: Features [M, F].
        squared_a: Squared radius of the ball around every row of a, float64 [N].
        squared_b: Squared radius of the ball around every row of b, float64 [M].

    Returns:
        bool [N]: rows of a in a ball of b; bool [M]: rows of b in a ball of a.

    Raises:
        DataError: If the matrices are wrong or differ in F.
    """
    a, b = as_features(a, "a"), as_features(b, "b")
    same_width(a, b, ("a", "b"))
    pairs = _Pairs(a, b)
    a_in, b_in = np.zeros(len(a), bool), np.zeros(len(b), bool)
    for rows in pairs.blocks():
        block = pairs.lower(rows, np.float32)
        a_in[_inside(pairs, rows, block, squared_b[None])[0] + rows.start] = True
        b_in[_inside(pairs, rows, block, squared_a[rows, None])[1]] = True
    return a_in, b_in


class _Pairs:
    """Two sets of rows in a common frame: moved to the reference's mean, scaled by a power of two to at most
    one."""

    def __init__(self, points: np.ndarray, reference: np.ndarray) -> None:
        self.points, self.reference = points, reference
        self.centre = reference.mean(axis=0, dtype=np.float64)
        span = max(self._span(points), self._span(reference))
        self.scale = 1.0 if span == 0.0 else 2.0 ** -float(np.ceil(np.log2(span)))
        self._placed: dict[type, tuple[np.ndarray, np.ndarray]] = {}

    def blocks(self) -> Iterator[slice]:
        """Slices of the points whose block of distances fits `BLOCK_BYTES`."""
        size = max(1, BLOCK_BYTES // (4 * len(self.reference)))
        for start in range(0, len(self.points), size):
            yield slice(start, min(start + size, len(self.points)))

    def lower(self, rows: slice, dtype: type) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Lower bounds of the scaled squared distances of some points to the whole reference.

        Returns:
            The bounds [B, M] and two parts of their slack, [B] and [M]: the distance lies in [bound, bound +
            2 (row + column)].
        """
        if dtype not in self._placed:
            self._placed[dtype] = self._place(self.reference, dtype)
        (y, y_norm), (x, x_norm) = self._placed[dtype], self._place(self.points[rows], dtype)
        # Rounding of a sum of F products, of the placed rows, and of the two additions below; `tiny` stands
        # for underflow.
        unit = (x.shape[1] + 16) * 0.5 * float(np.finfo(dtype).eps)
        x_slack, y_slack = unit * x_norm + 1e-30, unit * y_norm + 1e-30
        low = x @ y.T
        low *= -2.0
        low += (x_norm - x_slack).astype(dtype)[:, None]
        low += (y_norm - y_slack).astype(dtype)[None]
        return low, x_slack, y_slack

    def exact(self, i: np.ndarray, j: np.ndarray) -> np.ndarray:
        """Squared distances [P] of point i to reference j by differences in float64, not scaled."""
        out = np.empty(len(i))
        size = max(1, PAIR_BYTES // (8 * self.points.shape[1]))
        for start in range(0, len(i), size):
            part = slice(start, start + size)
            difference = self.points[i[part]].astype(np.float64) - self.reference[j[part]]
            out[part] = np.square(difference, out=difference).sum(axis=1)
        return out

    def _span(self, rows: np.ndarray) -> float:
        return max(float(np.abs(rows[s : s + 4096] - self.centre).max()) for s in range(0, len(rows), 4096))

    def _place(self, rows: np.ndarray, dtype: type) -> tuple[np.ndarray, np.ndarray]:
        placed, norm = np.empty(rows.shape, dtype), np.empty(len(rows))
        for start in range(0, len(rows), 4096):
            part = slice(start, start + 4096)
            placed[part] = (rows[part] - self.centre) * self.scale
            norm[part] = np.square(placed[part], dtype=np.float64).sum(axis=1)
        return placed, norm


def _inside(
    pairs: _Pairs,
    rows: slice,
    block: tuple[np.ndarray, np.ndarray, np.ndarray],
    squared: np.ndarray,
    *,
    closed: bool = True,
) -> tuple[np.ndarray, np.ndarray]:
    """Pairs (row of the block, row of the reference) no farther than a squared radius [B, 1] or [1, M]."""
    low, slack_row, slack_column = block
    i, j = _places(low <= _upwards(squared * pairs.scale**2, np.float32))
    radius = np.broadcast_to(squared, low.shape)[i, j]
    # The upper bound settles most of them; what lies between the bounds is worked out in full.
    upper = low[i, j].astype(np.float64) + 2.0 * (slack_row[i] + slack_column[j])
    inside = upper < radius * pairs.scale**2
    undecided = np.flatnonzero(~inside)
    exact = pairs.exact(i[undecided] + rows.start, j[undecided])
    inside[undecided] = exact <= radius[undecided] if closed else exact < radius[undecided]
    return i[inside], j[inside]


def _nearest_block(pairs: _Pairs, rows: slice, k: int, exclude_self: bool) -> tuple[np.ndarray, np.ndarray]:
    """Squared distances and indices [B, k] for the points of one block."""
    count = rows.stop - rows.start
    row = np.arange(count)
    for dtype in (np.float32, np.float64):
        low, _, _ = pairs.lower(rows, dtype)
        if exclude_self:
            low[row, row + rows.start] = np.inf
        first = _low_columns(low, k)
        # k rows lie no farther than this, so whatever is among the k nearest has its lower bound below it,
        # too.
        reach = pairs.exact(np.repeat(row + rows.start, k), first.ravel()).reshape(count, k).max(axis=1)
        candidate = low <= _upwards(reach * pairs.scale**2, dtype)[:, None]
        at_zero = np.flatnonzero(reach == 0.0)
        candidate[at_zero] = False
        candidate[at_zero[:, None], first[at_zero]] = True
        if np.count_nonzero(candidate) <= MANY * k * count:
            break
    i, j = _places(candidate)
    squared = pairs.exact(i + rows.start, j)
    order = np.lexsort((j, squared, i))
    starts = np.cumsum(np.bincount(i, minlength=count)) - np.bincount(i, minlength=count)
    chosen = order[starts[:, None] + np.arange(k)]
    return squared[chosen], j[chosen]


def _low_columns(low: np.ndarray, k: int) -> np.ndarray:
    """k different columns [B, k] of every row of [B, M] with values near its k smallest: the lowest of k
    groups of columns.

    A bound is all that is needed of them, and one pass of minima is forty times as fast as partitioning whole
    rows.
    """
    count = low.shape[1]
    width = count // (GROUPS * k)
    if width < 2:
        return np.argpartition(low, k - 1, axis=1)[:, :k]
    starts = np.arange(0, count, width)
    group = np.argpartition(np.minimum.reduceat(low, starts, axis=1), k - 1, axis=1)[:, :k]
    columns = np.minimum(starts[group][:, :, None] + np.arange(width), count - 1)  # [B, k, width]
    lowest = np.take_along_axis(low[:, None], columns, axis=2).argmin(axis=2)
    return np.take_along_axis(columns, lowest[:, :, None], axis=2)[:, :, 0]


def _places(mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rows and columns of what is true: `np.nonzero` of a matrix that is nearly empty, ten times as fast."""
    i, j = np.divmod(np.flatnonzero(mask), mask.shape[1])
    return i, j


def _upwards(values: np.ndarray, dtype: type) -> np.ndarray:
    """Values rounded to dtype, never below what they were."""
    return np.nextafter(values.astype(dtype), np.array(np.inf, dtype))
