"""A study: which covariates exist, which source observes which, and how they become columns of a condition.

`Study.layout` is the only place that knows column numbers. Values are in native units everywhere outside
`encode`: continuous covariates as they stand in the table, binary ones as 0/1, categorical ones as the index
of their level; NaN marks a missing value. Source: docs/method/method.md sections 1 and 2 (Lai et al., MIDL
2024).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from mssg.errors import StudyError, UsageError
from mssg.study.cells import is_missing, parse_number, same_value

KINDS = ("continuous", "binary", "categorical")
TRANSFORMS = ("identity", "log")
SCALES = ("zscore", "minmax")
SPACES = ("", "mni")
"""Spaces that have a name: MNI 152."""
AXES = {"coronal": (1, 0, 2), "axial": (2, 0, 1), "sagittal": (0, 1, 2)}
"""Plane -> patient axis that is cut, axis along the columns (rising), axis along the rows (falling); x, y
and z are 0, 1 and 2."""
SOURCE = "source"  # name of the covariate that tells the sources apart when condition_on_source is set
BINARY_WORDS = ("0", "1", "no", "yes", "false", "true")
"""What a cell of a binary covariate may say beside its levels' names: 0 and 1 in turn."""
RESERVED = (
    *("subject", "session", "split", SOURCE, "file"),
    *("slice", "position_mm", "across_mm", "up_mm", "side", "flipped"),
)
"""Columns that a prepared source's table has of its own: no covariate bears their names."""


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
    def is_continuous(self) -> bool:
        """True for a continuous covariate."""
        return self.kind == "continuous"

    @property
    def width(self) -> int:
        """Number of columns this covariate takes in a condition."""
        return len(self.levels) if self.kind == "categorical" else 1

    @property
    def num_levels(self) -> int:
        """How many values a binary (2) or categorical covariate can take; 0 for a continuous one."""
        return {"continuous": 0, "binary": 2}.get(self.kind, len(self.levels))

    @property
    def level_names(self) -> tuple[str, ...]:
        """Names of a binary or categorical covariate's levels; none for a continuous one."""
        return self.levels or (("no", "yes") if self.kind == "binary" else ())

    def compatible_with(self, other: Covariate) -> bool:
        """Whether both mean the same quantity: name, kind, unit, levels. Scale and statistics may differ, and
        of a binary one the levels' names may be left out."""
        mine, theirs = ((c.name, c.kind, c.unit) for c in (self, other))
        unnamed = self.kind == "binary" and not (self.levels and other.levels)
        return mine == theirs and (unnamed or self.levels == other.levels)

    def forward(self, x: np.ndarray | float) -> np.ndarray:
        """Native value -> transformed value (identity, or log(x + shift))."""
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
        if self.kind == "binary":
            return x[:, None].astype(np.float32)
        if self.kind == "categorical":
            out = np.zeros((x.size, self.width), np.float32)
            known = np.isfinite(x)
            out[known, x[known].astype(int)] = 1
            out[~known] = np.nan
            return out
        return self.normalised(x)[:, None].astype(np.float32)

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
        """Columns [N, width] -> native values float64 [N]; binaries are cut at 0.5, categoricals take the
        largest."""
        c = np.asarray(columns, dtype=np.float64)
        if self.kind == "categorical":
            return np.where(np.isnan(c).any(1), np.nan, np.nan_to_num(c).argmax(1))
        if self.kind == "binary":
            return np.where(np.isnan(c[:, 0]), np.nan, c[:, 0] > 0.5)
        return self.inverse(c[:, 0] * (self.spread or 1.0) + (self.offset or 0.0))

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
        if value is None and self.kind == "binary":
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
        if self.kind == "categorical":
            return self.levels[round(value)]
        if self.kind == "binary":
            return self.level_names[int(value > 0.5)]
        size = abs(value)
        text = f"{value:.0f}" if size >= 200 else f"{value:.1f}" if size >= 10 else f"{value:.2f}"
        if unit and self.unit:
            text += self.unit if self.unit in ("°", "%") else f" {self.unit}"
        return text


def _binary_value(word: str) -> int | None:
    """0 or 1 where a word says one of them."""
    return next((i % 2 for i, w in enumerate(BINARY_WORDS) if same_value(word.lower(), w)), None)


@dataclass(frozen=True)
class Source:
    """One image source: a prepared folder and the covariates training may see of it.

    `share` is the share of its training people that training sees.
    """

    name: str
    path: str
    observes: tuple[str, ...]
    weight: float = 1.0
    share: float = 1.0


@dataclass(frozen=True)
class Geometry:
    """Where the pixels lie: plane, pixel size in mm, and whether all images share one space.

    `position_mm` is where the plane cuts its axis, `centre_mm` where the picture's centre lies along its
    columns' and rows' axis, `space` the name of the space whose millimetres these are, where it has one.
    `position` names the covariate that says for each image where the plane cuts; `position_mm` is then where
    a single slice is cut. `mirrored` pictures have the patient's right in column 0, as those of the research
    code.
    """

    plane: str
    pixel_mm: float
    affine: str = "none"
    position_mm: float | None = None
    centre_mm: tuple[float, float] = (0.0, 0.0)
    space: str = ""
    position: str | None = None
    mirrored: bool = False


@dataclass(frozen=True)
class Photograph:
    """What pictures of a study show that are photographs of the back of the eye.

    `degrees` is the visual angle along the picture's side; `side` names the binary covariate, with the levels
    left and right, that says which eye it is.
    """

    degrees: float | None = None
    side: str | None = None


@dataclass(frozen=True)
class ModelSpec:
    """How a covariate is modelled given others (docs/method/method.md section 3)."""

    name: str
    given: tuple[str, ...] = ()
    family: str = ""
    components: int | None = None
    options: Mapping[str, Any] = field(default_factory=dict)

    def __hash__(self) -> int:
        return hash((self.name, self.given, self.family, self.components))


class Layout(Mapping[str, slice]):
    """Covariate name -> slice of its columns in a condition [*, K]."""

    def __init__(self, covariates: Sequence[Covariate]) -> None:
        self._slices: dict[str, slice] = {}
        start = 0
        for covariate in covariates:
            self._slices[covariate.name] = slice(start, start + covariate.width)
            start += covariate.width
        self.width = start

    def __getitem__(self, name: str) -> slice:
        return self._slices[name]

    def __iter__(self):
        return iter(self._slices)

    def __len__(self) -> int:
        return len(self._slices)


@dataclass(frozen=True)
class Study:
    """Covariates, sources, image shape and covariate models of one study."""

    name: str
    resolution: int
    channels: int
    covariates: tuple[Covariate, ...]
    sources: tuple[Source, ...]
    geometry: Geometry | None = None
    photograph: Photograph | None = None
    models: Mapping[str, ModelSpec] = field(default_factory=dict)
    condition_on_source: bool = False
    train: Mapping[str, Any] = field(default_factory=dict)
    augment_allow: tuple[str, ...] = ()
    instrument: str = ""  # the oracle of mssg.measure that can measure covariates on an image, if any
    path: str | None = None

    @cached_property
    def conditions(self) -> tuple[Covariate, ...]:
        """What the generator is given: the covariates, and the source when the study conditions on it."""
        if not self.condition_on_source:
            return self.covariates
        return (
            *self.covariates,
            Covariate(SOURCE, "categorical", levels=tuple(s.name for s in self.sources)),
        )

    @cached_property
    def condition_names(self) -> tuple[str, ...]:
        """Names of `conditions`, in order: the columns of a values array [N, V]."""
        return tuple(c.name for c in self.conditions)

    @cached_property
    def layout(self) -> Layout:
        """Covariate name -> slice of the condition's columns; `.width` is K."""
        return Layout(self.conditions)

    @property
    def position(self) -> str | None:
        """Name of the covariate that says where the plane cuts, in millimetres; None where all slices lie
        alike."""
        return self.geometry.position if self.geometry else None

    @property
    def personal(self) -> tuple[Covariate, ...]:
        """The covariates that are a person's, not the slice's: all but the position."""
        return tuple(c for c in self.covariates if c.name != self.position)

    @property
    def personal_conditions(self) -> tuple[Covariate, ...]:
        """The conditions but the position."""
        return tuple(c for c in self.conditions if c.name != self.position)

    def covariate(self, name: str) -> Covariate:
        """The condition of this name, or a UsageError that lists what there is."""
        return self.conditions[self.index(name)]

    def source(self, name: str) -> Source:
        """The source of this name, or a UsageError that lists what there is."""
        for source in self.sources:
            if source.name == name:
                return source
        raise UsageError("no such source", field=name, expected=" | ".join(s.name for s in self.sources))

    def index(self, name: str) -> int:
        """Column of a covariate in a values array [N, V]."""
        if name not in self.condition_names:
            raise UsageError(
                "no such covariate in this study", field=name, expected=" | ".join(self.condition_names)
            )
        return self.condition_names.index(name)

    def observed_mask(self, source_index: int) -> np.ndarray:
        """Which conditions a source records: bool [V]."""
        observes = {*self.sources[source_index].observes, SOURCE}
        return np.array([name in observes for name in self.condition_names])

    def observers(self, name: str) -> tuple[str, ...]:
        """Names of the sources that record a covariate."""
        return tuple(s.name for s in self.sources if name in s.observes or name == SOURCE)

    def observed_together(self, *names: str) -> bool:
        """Whether some source records all of these."""
        return any(all(n in (*s.observes, SOURCE) for n in names) for s in self.sources)

    def never_observed_with(self, name: str) -> tuple[str, ...]:
        """Covariates that no source records with this one: how both relate is nowhere in the data."""
        return tuple(c.name for c in self.covariates if not self.observed_together(c.name, name))

    @property
    def unseen_pairs(self) -> tuple[tuple[str, str], ...]:
        """Pairs of covariates that no source records together."""
        pairs = combinations([c.name for c in self.covariates], 2)
        return tuple(pair for pair in pairs if not self.observed_together(*pair))

    @property
    def shared(self) -> tuple[str, ...]:
        """Covariates of people that every source records: what ties the sources together."""
        return tuple(c.name for c in self.personal if len(self.observers(c.name)) == len(self.sources))

    @property
    def is_fitted(self) -> bool:
        """True once the statistics of every continuous covariate are known."""
        return all(c.offset is not None for c in self.covariates if c.is_continuous)

    def encode(self, values: np.ndarray) -> np.ndarray:
        """Native values [N, V] -> condition float32 [N, K]; NaN stays NaN."""
        values = np.atleast_2d(values)
        return np.concatenate([c.encode(values[:, i]) for i, c in enumerate(self.conditions)], axis=1)

    def decode(self, c: np.ndarray) -> np.ndarray:
        """Condition [N, K] -> native values float64 [N, V]."""
        c = np.atleast_2d(c)
        return np.stack([cov.decode(c[:, self.layout[cov.name]]) for cov in self.conditions], axis=1)

    def fit_statistics(self, tables: Sequence[Mapping[str, np.ndarray]]) -> Study:
        """The study with statistics fitted jointly on all sources that observe a covariate.

        Args:
            tables: One mapping per source, covariate name -> native values [n] of its training rows.

        Source: docs/method/method.md section 2 (the original scaled age per source, which makes the sources
        disagree).
        """
        fitted = []
        for covariate in self.covariates:
            parts = [t[covariate.name] for s, t in zip(self.sources, tables) if covariate.name in s.observes]
            fitted.append(covariate.fitted(np.concatenate(parts)) if parts else covariate)
        return replace(self, covariates=tuple(fitted))

    def source_path(self, index: int) -> Path:
        """The prepared folder of a source; relative paths start at the study's TOML."""
        base = Path(self.path).parent if self.path else Path()
        return base / self.sources[index].path
