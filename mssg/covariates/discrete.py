"""Discrete covariates: what all such models share, frequency tables, and whole rows of flags.

A table is kept as counts of the combinations that occur, never as rows.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Self

import numpy as np

from mssg.covariates import truncated
from mssg.covariates.protocol import FittedModel, FittingData, Stateful, Variable
from mssg.errors import DataError, StudyError

MOST_COMBINATIONS = 2**40  # mixed-radix codes stay far inside int64


class DiscreteModel(FittedModel):
    """A discrete child described by its probabilities per row: all else follows."""

    kinds = ("binary", "categorical")

    def probabilities(self, x: np.ndarray) -> np.ndarray:
        """P(level) given parents x [n, P] -> [n, L], rows summing to 1."""
        raise NotImplementedError

    def sample(self, x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """One level per row, as float [n]."""
        return truncated.choose(self.probabilities(x), rng, len(x)).astype(np.float64)

    def log_density(self, y: np.ndarray, x: np.ndarray) -> np.ndarray:
        """Log probability of the levels y [n]; −inf for a level that never occurs."""
        with np.errstate(divide="ignore"):
            return np.log(_pick(self.probabilities(x), y))

    def mean(self, x: np.ndarray, of: Callable[[np.ndarray], np.ndarray] | None = None) -> np.ndarray:
        """P(1) of a binary child, the most probable level of a categorical one; or the expectation of a
        function."""
        p = self.probabilities(x)
        if of is not None:
            return p @ of(np.arange(p.shape[1], dtype=np.float64))
        return p[:, 1] if p.shape[1] == 2 else p.argmax(1).astype(np.float64)

    def cdf(self, y: np.ndarray, x: np.ndarray) -> np.ndarray:
        """P(level ≤ y) [n]."""
        return np.minimum(_pick(np.cumsum(self.probabilities(x), 1), np.floor(y)), 1.0)

    def quantile(self, q: np.ndarray, x: np.ndarray) -> np.ndarray:
        """The lowest level whose cdf reaches q [n]."""
        below = np.cumsum(self.probabilities(x), 1) < np.asarray(q)[:, None] - 1e-12
        return np.minimum(below.sum(1), below.shape[1] - 1).astype(np.float64)


def _pick(table: np.ndarray, y: np.ndarray) -> np.ndarray:
    """table[i, y[i]], 0 below the levels and the last column above them."""
    level = np.asarray(y).astype(np.int64)
    picked = table[np.arange(len(level)), np.clip(level, 0, table.shape[1] - 1)]
    return np.where(level < 0, 0.0, picked)


def combine(x: np.ndarray, levels: tuple[int, ...]) -> np.ndarray:
    """Levels [n, P] -> one mixed-radix code per row, int64 [n]."""
    code = np.zeros(len(x), np.int64)
    for column, count in enumerate(levels):
        code = code * count + x[:, column].astype(np.int64)
    return code


def levels_of(variables: tuple[Variable, ...]) -> tuple[int, ...]:
    """Numbers of levels, refusing more combinations than a code can hold.

    Raises:
        StudyError: Far too many combinations for a table.
    """
    levels = tuple(v.levels for v in variables)
    if float(np.prod(np.array(levels, dtype=np.float64))) > MOST_COMBINATIONS:
        names = ", ".join(v.name for v in variables)
        raise StudyError(
            "too many combinations of levels for a table", field="model", found=names, hint="Use fewer"
        )
    return levels


def check_levels(y: np.ndarray, variable: Variable) -> None:
    """Refuse values [n] that are no level index.

    Raises:
        DataError: A fraction, a negative number, or one beyond the levels.
    """
    bad = y[(y != np.floor(y)) | (y < 0) | (y >= variable.levels)]
    if bad.size:
        raise DataError(
            "not a level of this covariate",
            field=f"covariates.{variable.name}",
            found=f"{bad[0]:g}",
            expected=f"0 to {variable.levels - 1}",
        )


@dataclass(frozen=True, eq=False)
class FrequencyTable(DiscreteModel):
    """Observed frequencies, per combination of discrete parents where there are any.

    Args:
        levels: Levels of the parents.
        codes: Combinations of parents that occur, ascending, int64 [U].
        table: P(level | combination), float64 [U + 1, L]; the last row, over everything, serves combinations
            that never occur.
    """

    levels: tuple[int, ...]
    codes: np.ndarray
    table: np.ndarray

    family = "empirical"
    continuous_parents = (0, 0)

    @classmethod
    def fit(cls, data: FittingData, rng: np.random.Generator) -> Self:
        """Count."""
        data.require(1)
        check_levels(data.y, data.child)
        levels = levels_of(data.parents)
        return cls.counted(combine(data.x, levels), data.y, np.ones(len(data.y)), levels, data.child.levels)

    @classmethod
    def counted(
        cls, parents: np.ndarray, child: np.ndarray, counts: np.ndarray, levels: tuple[int, ...], width: int
    ) -> Self:
        """The table of (parent code, child level) pairs [n] that occur `counts` [n] times."""
        codes, row = np.unique(parents, return_inverse=True)
        table = np.zeros((len(codes) + 1, width))
        np.add.at(table, (row, child.astype(np.int64)), counts)
        table[-1] = table[:-1].sum(0)
        return cls(levels, codes, table / table.sum(1, keepdims=True))

    @classmethod
    def of_weights(cls, weights: np.ndarray) -> Self:
        """A table without parents and with given weights [L]."""
        row = np.asarray(weights, dtype=np.float64) / np.sum(weights)
        return cls((), np.zeros(1, np.int64), np.stack([row, row]))

    def probabilities(self, x: np.ndarray) -> np.ndarray:
        if not self.levels:
            return np.broadcast_to(self.table[0], (len(x), self.table.shape[1]))
        code = combine(x, self.levels)
        row = np.minimum(np.searchsorted(self.codes, code), len(self.codes) - 1)
        return self.table[np.where(self.codes[row] == code, row, len(self.codes))]


@dataclass(frozen=True, eq=False)
class RowTable(Stateful):
    """Whole rows of discrete covariates as they occur together: frequencies of the distinct rows.

    Args:
        levels: Levels of the D covariates.
        rows: Distinct rows, int64 [R, D].
        counts: How often each occurs, float64 [R].
    """

    levels: tuple[int, ...]
    rows: np.ndarray
    counts: np.ndarray

    @classmethod
    def fit(cls, variables: tuple[Variable, ...], values: np.ndarray) -> Self:
        """Count the distinct rows of values [n, D].

        Raises:
            DataError: No row, or a value that is no level.
        """
        if not len(values):
            names = ", ".join(v.name for v in variables)
            raise DataError("no training row records all of these covariates", field=f"covariates: {names}")
        for column, variable in enumerate(variables):
            check_levels(values[:, column], variable)
        rows, counts = np.unique(values.astype(np.int64), axis=0, return_counts=True)
        return cls(levels_of(variables), rows, counts.astype(np.float64))

    @cached_property
    def _views(self) -> dict[tuple[int, tuple[int, ...]], FrequencyTable]:
        return {}

    def view(self, child: int, given: tuple[int, ...]) -> FrequencyTable:
        """The exact conditional of one covariate given any others, all by position among the D."""
        key = (child, given)
        if key not in self._views:
            levels = tuple(self.levels[i] for i in given)
            code = combine(self.rows[:, list(given)], levels)
            self._views[key] = FrequencyTable.counted(
                code, self.rows[:, child], self.counts, levels, self.levels[child]
            )
        return self._views[key]
