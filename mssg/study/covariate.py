"""A covariate: its kind, its values as text and as columns of a condition.

What decides how a kind behaves stands in `KINDS`, so that a new kind is a row there. Values are in native
units everywhere outside `encode`: numbers as they stand in the table, levels as their index (binary ones as
0/1); NaN marks a missing value. Source: docs/method/method.md sections 1 and 2 (Lai et al., MIDL 2024).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from mssg.errors import StudyError, UsageError
from mssg.study.cells import is_missing, parse_number, same_value

TRANSFORMS = ("identity", "log")
SCALES = ("zscore", "minmax")
SOURCE = "source"  # name of the covariate that tells the sources apart when condition_on_source is set
BINARY_WORDS = ("0", "1", "no", "yes", "false", "true")
"""What a cell of a binary covariate may say beside its levels' names: 0 and 1 in turn."""
RESERVED = (
    *("subject", "session", "split", SOURCE, "file"),
    *("slice", "position_mm", "across_mm", "up_mm", "side", "flipped"),
)
"""Columns that a prepared source's table has of its own: no covariate bears their names."""


@dataclass(frozen=True)
class Coding:
    """What stands for a covariate's values in a condition.

    Attributes:
        encode: Native values float64 [N] -> columns [N, width]; NaN stays NaN.
        decode: Columns float64 [N, width] -> native values [N].
    """

    width: Callable[[Covariate], int]
    encode: Callable[[Covariate, np.ndarray], np.ndarray]
    decode: Callable[[Covariate, np.ndarray], np.ndarray]


def _one_hot(covariate: Covariate, x: np.ndarray) -> np.ndarray:
    out = np.zeros((x.size, covariate.num_levels), np.float32)
    known = np.isfinite(x)
    out[known, x[known].astype(int)] = 1
    out[~known] = np.nan
    return out


SCALED = Coding(
    width=lambda covariate: 1,
    encode=lambda covariate, x: covariate.normalised(x)[:, None],
    decode=lambda covariate, c: covariate.inverse(
        c[:, 0] * (covariate.spread or 1.0) + (covariate.offset or 0.0)
    ),
)
"""One column: the value, transformed and scaled."""
ZERO_ONE = Coding(
    width=lambda covariate: 1,
    encode=lambda covariate, x: x[:, None],
    decode=lambda covariate, c: np.where(np.isnan(c[:, 0]), np.nan, c[:, 0] > 0.5),
)
"""One column: 0 or 1, cut at 0.5."""
ONE_HOT = Coding(
    width=lambda covariate: covariate.num_levels,
    encode=_one_hot,
    decode=lambda covariate, c: np.where(np.isnan(c).any(1), np.nan, np.nan_to_num(c).argmax(1)),
)
"""A column for each level; the largest counts."""


@dataclass(frozen=True)
class Kind:
    """What a kind of covariate is.

    Attributes:
        coding: Its columns in a condition.
        loss: How the discriminator's columns are held to its own: a name in mssg/losses/covariate.py.
        is_continuous: Values are numbers in a unit; else they are the indices of levels.
        is_ordered: More and less mean something, so that a mean or a correlation of values does. Kinds that
            are share a loss group; of others each covariate is one.
        level_names: What the levels are called where a study does not say; none: it has to.
        family: Its covariate model where it depends on numbers and a study names none (mssg/covariates).
    """

    coding: Coding
    loss: str
    is_continuous: bool = False
    is_ordered: bool = True
    level_names: tuple[str, ...] = ()
    family: str = "softmax"


KINDS = {
    "continuous": Kind(SCALED, "squared error", is_continuous=True, family="gmm"),
    "binary": Kind(ZERO_ONE, "binary cross-entropy", level_names=("no", "yes"), family="logistic"),
    "categorical": Kind(ONE_HOT, "cross-entropy", is_ordered=False),
}


def name_problem(name: str, position: str | None = None) -> str:
    """Why a covariate cannot be called so; "" where it can. `position` is the study's slice position, which
    is one of the table's own columns."""
    plain = name.isprintable() and name == " ".join(name.split())
    if not name or not plain or any(mark in name for mark in "=:,/@"):
        return "not usable: letters, digits, _ or -, and single blanks between words"
    if name in RESERVED and name != position:
        return f"reserved for the table's own columns ({', '.join(RESERVED)})"
    return ""


@dataclass(frozen=True)
class Covariate:
    """One covariate: its kind, unit, transform and, once fitted, the statistics that scale it.

    `offset` and `spread` belong to the transformed value: (forward(x) − offset) / spread is the encoded
    column.
    """

    name: str
    kind: str
    unit: str = ""
    levels: tuple[str, ...] = ()
    transform: str = "identity"
    shift: float = 0.0
    scale: str = "zscore"
    loss_weight: float = 1.0
    loss_group: str = ""
    lateralised: bool = False
    offset: float | None = None
    spread: float | None = None

    @property
    def title(self) -> str:
        """The name as people write it: grey matter; position, of position_mm in mm."""
        return (self.name.removesuffix(f"_{self.unit}") or self.name).replace("_", " ")

    @property
    def is_continuous(self) -> bool:
        """Whether values are numbers in a unit; else they are the indices of levels."""
        return KINDS[self.kind].is_continuous

    @property
    def is_ordered(self) -> bool:
        """Whether more and less of it mean something."""
        return KINDS[self.kind].is_ordered

    @property
    def width(self) -> int:
        """Number of columns this covariate takes in a condition."""
        return KINDS[self.kind].coding.width(self)

    @property
    def num_levels(self) -> int:
        """How many values a covariate with levels can take; 0 for a continuous one."""
        return len(self.level_names)

    @property
    def level_names(self) -> tuple[str, ...]:
        """Names of the levels; none for a continuous covariate."""
        return self.levels or KINDS[self.kind].level_names

    def compatible_with(self, other: Covariate) -> bool:
        """Whether both mean the same quantity: name, kind, unit, levels. Scale and statistics may differ, and
        of a binary one the levels' names may be left out."""
        mine, theirs = ((c.name, c.kind, c.unit) for c in (self, other))
        unnamed = KINDS[self.kind].level_names and not (self.levels and other.levels)
        return mine == theirs and bool(unnamed or self.levels == other.levels)

    def forward(self, x: np.ndarray | float) -> np.ndarray:
        """Native values of any shape -> float64 transformed values: themselves, or log(x + shift), NaN where
        that is none."""
        x = np.asarray(x, dtype=np.float64)
        if self.transform == "identity":
            return x
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.where(x + self.shift > 0, np.log(np.maximum(x + self.shift, 1e-300)), np.nan)

    def inverse(self, t: np.ndarray | float) -> np.ndarray:
        """Transformed value -> native value; the inverse of `forward`."""
        t = np.asarray(t, dtype=np.float64)
        return t if self.transform == "identity" else np.exp(t) - self.shift

    def fitted(self, values: np.ndarray) -> Covariate:
        """This covariate with its statistics fitted to native values [N] (NaN ignored).

        Raises:
            StudyError: No finite value, or a constant one.
        """
        if not self.is_continuous:
            return self
        t = self.forward(np.asarray(values, dtype=np.float64))
        t = t[np.isfinite(t)]
        if not t.size:
            raise StudyError(
                "no source has a usable value of this covariate in its training split",
                field=f"covariates.{self.name}",
                hint='Check the table\'s column and, for transform = "log", that values + shift are positive',
            )
        if self.scale == "minmax":
            offset, spread = float(t.min()), float(np.ptp(t))
        else:
            offset, spread = float(t.mean()), float(t.std())
        if not spread > 1e-12 * max(1.0, abs(offset)):
            raise StudyError(
                "all training values are equal, so the covariate cannot be scaled or learned",
                field=f"covariates.{self.name}",
                found=f"{self.inverse(offset):g} everywhere",
                hint="Remove the covariate from the study",
            )
        return replace(self, offset=offset, spread=spread)

    def encode(self, values: np.ndarray) -> np.ndarray:
        """Native values [N] -> columns float32 [N, width]; NaN stays NaN."""
        x = np.asarray(values, dtype=np.float64)
        return KINDS[self.kind].coding.encode(self, x).astype(np.float32)

    def normalised(self, values: np.ndarray) -> np.ndarray:
        """Native values of a continuous covariate, of any shape -> float64 in the units networks have:
        transformed, then scaled. NaN where the transform has no value.

        Raises:
            StudyError: The statistics are not fitted yet.
        """
        if self.offset is None or self.spread is None:
            raise StudyError(
                "statistics are not fitted yet",
                field=f"covariates.{self.name}",
                hint="Call Study.fit_statistics",
            )
        with np.errstate(over="ignore"):  # what is not finite is refused where it is drawn
            return (self.forward(values) - self.offset) / self.spread

    def decode(self, columns: np.ndarray) -> np.ndarray:
        """Columns [N, width] -> native values float64 [N]; what lies between levels becomes one of them."""
        return KINDS[self.kind].coding.decode(self, np.asarray(columns, dtype=np.float64))

    def parse(self, text: str | float) -> float:
        """Text of a table or command line -> native value; what `is_missing` is NaN.

        Raises:
            UsageError: Not a number, not 0/1, or not one of the levels.
        """
        word = str(text).strip()
        if word in self.levels:
            return float(self.levels.index(word))
        if is_missing(word):
            return math.nan
        if not self.is_continuous:
            return self._level(word)
        try:
            value = parse_number(word)
        except ValueError:
            expected = f"a number in {self.unit or 'native units'}"
            raise UsageError(
                "not a finite number", field=self.name, found=repr(word), expected=expected
            ) from None
        if self.transform == "log" and value + self.shift <= 0:
            expected = f"more than {-self.shift:g} {self.unit}"
            raise UsageError(
                "outside the domain of its log transform", field=self.name, found=word, expected=expected
            )
        return value

    def _level(self, word: str) -> float:
        """Index of the level that a word names.

        Raises:
            UsageError: None.
        """
        value = next((i for i, level in enumerate(self.levels) if same_value(word, level)), None)
        if value is None and KINDS[self.kind].level_names:
            meant = _binary_value(word)
            # "1" of the levels "1" and "2" is no 1: names that say something else are taken as names alone
            if all(_binary_value(level) in (None, i) for i, level in enumerate(self.levels)):
                value = meant
        if value is None:
            expected = " | ".join(self.levels) or "0 or 1"
            what = "unknown level" if self.levels else "not a binary value"
            raise UsageError(what, field=self.name, found=repr(word), expected=expected)
        return float(value)

    def format(self, value: float, unit: bool = True) -> str:
        """A native value as text for people, with its unit."""
        if value is None or not math.isfinite(value):
            return "missing"
        if not self.is_continuous:
            return self.level_names[min(round(value), self.num_levels - 1)]
        size = abs(value)
        text = f"{value:.0f}" if size >= 200 else f"{value:.1f}" if size >= 10 else f"{value:.2f}"
        if unit and self.unit:
            text += self.unit if self.unit in ("°", "%") else f" {self.unit}"
        return text


def _binary_value(word: str) -> int | None:
    """0 or 1 where a word says one of them."""
    return next((i % 2 for i, w in enumerate(BINARY_WORDS) if same_value(word.lower(), w)), None)
