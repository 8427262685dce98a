"""A study: which covariates exist, which source observes which, and how they become columns of a condition.

`Study.layout` is the only place that knows column numbers. Source: docs/method/method.md sections 1
and 2 (Lai et al., MIDL 2024).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from mssg.errors import UsageError
from mssg.study.covariate import SOURCE, Covariate

SPACES = ("", "mni")
"""Spaces that have a name: MNI 152."""
AXES = {"coronal": (1, 0, 2), "axial": (2, 0, 1), "sagittal": (0, 1, 2)}
"""Plane -> patient axis that is cut, axis along the columns (rising), axis along the rows (falling); x, y
and z are 0, 1 and 2."""


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

    `degrees` is the visual angle along the picture's side, or `disc_diameters` its length where no angle is
    known; `side` names the binary covariate, with the levels left and right, that says which eye it is, or is
    left or right itself where all pictures look like that eye.
    """

    degrees: float | None = None
    disc_diameters: float | None = None
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
    about: Mapping[str, str] = field(default_factory=dict)  # what it may be used for and what its data are
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
        """Column of a covariate in a values array [N, V].

        Raises:
            UsageError: No such covariate.
        """
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
