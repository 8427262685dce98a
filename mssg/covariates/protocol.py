"""What every covariate model can do, and how it is written into a snapshot without pickle.

A model is the conditional distribution of ONE covariate (the child) given others (its parents). It works on
plain
arrays: the child y [n] and the parents x [n, P], continuous ones in transformed space (`Covariate.forward`;
    native
units for analytic models), binary ones as 0/1, categorical ones as the index of their level.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol, Self, runtime_checkable

import numpy as np

from mssg.errors import DataError, SnapshotError, StudyError

MANY = 99  # parents: no upper limit
MIN_ROWS = 10  # fewer rows say nothing about a continuous distribution

State = tuple[dict[str, Any], dict[str, np.ndarray]]
_TYPES: dict[str, type[Stateful]] = {}


@dataclass(frozen=True)
class Variable:
    """A covariate as the models see it.

    Args:
        name: Its name, for messages.
        levels: Number of levels; 0 for a continuous covariate, 2 for a binary one.
        logged: Whether the transformed value is a logarithm, so that any value of it is a valid one.
    """

    name: str
    levels: int = 0
    logged: bool = False

    @property
    def is_continuous(self) -> bool:
        """True for a continuous covariate."""
        return self.levels == 0

    @property
    def kind(self) -> str:
        """continuous, binary or categorical."""
        return {0: "continuous", 2: "binary"}.get(self.levels, "categorical")


@dataclass(frozen=True, eq=False)
class FittingData:
    """What a model is fitted to: the child y float64 [n], its parents x float64 [n, P], and the study's
    options."""

    child: Variable
    y: np.ndarray
    parents: tuple[Variable, ...] = ()
    x: np.ndarray = field(default_factory=lambda: np.empty((0, 0)))
    components: int | None = None
    options: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.parents:
            object.__setattr__(self, "x", np.empty((len(self.y), 0)))

    def rows(self, chosen: np.ndarray) -> FittingData:
        """The same task on some of the rows (mask or indices)."""
        return dataclasses.replace(self, y=self.y[chosen], x=self.x[chosen])

    def require(self, rows: int = MIN_ROWS) -> None:
        """Refuse data that cannot be fitted.

        Raises:
            DataError: Too few rows, values that are not finite, or a continuous child that never varies.
        """
        name = f"covariates.{self.child.name}"
        among = f" together with {', '.join(p.name for p in self.parents)}" if self.parents else ""
        if self.y.size < rows:
            raise DataError(
                f"too few training rows record this covariate{among}",
                field=name,
                found=f"{self.y.size} rows",
                expected=f"{rows} or more",
                hint="Add rows, or choose fewer parents or another family under [model]",
            )
        if not (np.isfinite(self.y).all() and np.isfinite(self.x).all()):
            raise DataError("values that are not finite, or outside the transform's domain", field=name)
        if self.child.is_continuous and not np.ptp(self.y) > 1e-12 * max(1.0, float(np.abs(self.y).max())):
            raise DataError(
                "all training values are equal, so there is nothing to model",
                field=name,
                found=f"{self.y[0]:g} (transformed) everywhere",
                hint="Remove the covariate from the study",
            )


@runtime_checkable
class CovariateModel(Protocol):
    """A fitted (or analytic), immutable conditional distribution of one covariate given its parents."""

    @property
    def native(self) -> bool:
        """Whether child and parents are in native instead of transformed units."""
        ...

    def sample(self, x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """One draw of the child per row of parents: x [n, P] -> y [n]."""
        ...

    def log_density(self, y: np.ndarray, x: np.ndarray) -> np.ndarray:
        """Log density (log probability for a discrete child) of y [n] given x [n, P] -> [n]; −inf outside."""
        ...

    def mean(self, x: np.ndarray, of: Callable[[np.ndarray], np.ndarray] | None = None) -> np.ndarray:
        """Expectation of the child, or of a function of it, given x [n, P] -> [n].

        A binary child gives the probability of 1, a categorical one its most probable level.
        """
        ...

    def cdf(self, y: np.ndarray, x: np.ndarray) -> np.ndarray:
        """P(child ≤ y) given x [n, P] -> [n]."""
        ...

    def quantile(self, q: np.ndarray, x: np.ndarray) -> np.ndarray:
        """The value below which a share q [n] lies, given x [n, P] -> [n]; the inverse of `cdf`."""
        ...

    def state(self) -> State:
        """JSON object and arrays that `from_state` turns back into an identical model."""
        ...

    @classmethod
    def from_state(cls, meta: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> Self:
        """The model of a state."""
        ...


class Family(CovariateModel, Protocol):
    """A covariate model that is fitted to rows."""

    @classmethod
    def fit(cls, data: FittingData, rng: np.random.Generator) -> Self:
        """Fit to training rows; the generator decides initial values only."""
        ...


class Stateful:
    """A frozen dataclass whose fields are its state: arrays, JSON values, and other such objects."""

    def __init_subclass__(cls) -> None:
        _TYPES[cls.__name__] = cls

    def state(self) -> State:
        """See `CovariateModel.state`."""
        meta: dict[str, Any] = {"type": type(self).__name__}
        arrays: dict[str, np.ndarray] = {}
        for item in dataclasses.fields(self):  # type: ignore[arg-type]
            _write(item.name, getattr(self, item.name), meta, arrays)
        return meta, arrays

    @classmethod
    def from_state(cls, meta: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> Self:
        """See `CovariateModel.from_state`."""
        model = restore(meta, arrays)
        if not isinstance(model, cls):
            raise SnapshotError(
                "not the covariate model asked for", found=meta.get("type"), expected=cls.__name__
            )
        return model


class FittedModel(Stateful):
    """Common part of the families: what they accept. What their methods do is said at `CovariateModel`.

    Class attributes: `family` is the name in a study; `kinds` the kinds of child it fits;
        `continuous_parents` and
    `discrete_parents` the (fewest, most) parents of either kind; `option_names` the extra keys of its [model]
    table; `native` whether it works in native instead of transformed units; `stratified` whether discrete
    parents are served by one model per combination of their levels.
    """

    family: ClassVar[str] = ""
    native = False
    kinds: ClassVar[tuple[str, ...]] = ("continuous",)
    continuous_parents: ClassVar[tuple[int, int]] = (0, MANY)
    discrete_parents: ClassVar[tuple[int, int]] = (0, MANY)
    option_names: ClassVar[tuple[str, ...]] = ()
    stratified: ClassVar[bool] = False

    @classmethod
    def check(cls, child: Variable, parents: tuple[Variable, ...]) -> None:
        """Refuse a child or parents that this family cannot model.

        Raises:
            StudyError: Naming the covariate, its kind, and what the family takes.
        """
        where = f"model.{child.name}"
        if child.kind not in cls.kinds:
            raise StudyError(
                f"family {cls.family!r} does not fit a {child.kind} covariate",
                field=where,
                expected=f"a {' or '.join(cls.kinds)} covariate",
                hint="Choose another family",
            )
        for what, (few, many), count in (
            ("continuous", cls.continuous_parents, sum(p.is_continuous for p in parents)),
            ("discrete", cls.discrete_parents, sum(not p.is_continuous for p in parents)),
        ):
            if not few <= count <= many:
                span = f"{few}" if few == many else f"{few} or more" if many == MANY else f"{few} to {many}"
                raise StudyError(
                    f"family {cls.family!r} cannot take these parents",
                    field=f"{where}.given",
                    found=f"{count} {what}",
                    expected=f"{span} {what}",
                    hint="Change given, or choose another family",
                )


def _write(name: str, value: Any, meta: dict[str, Any], arrays: dict[str, np.ndarray]) -> None:
    """Put one field into the state: arrays beside the JSON, models and tuples of either under their own
    prefix."""
    if isinstance(value, np.ndarray):
        arrays[name] = value
    elif isinstance(value, Stateful):
        inner, parts = value.state()
        meta[name] = {"model": inner}
        arrays.update({f"{name}/{key}": part for key, part in parts.items()})
    elif isinstance(value, tuple) and any(isinstance(v, np.ndarray | Stateful) for v in value):
        entry: dict[str, Any] = {}
        for number, part in enumerate(value):
            _write(f"{name}/{number}", part, entry, arrays)
        meta[name] = {"parts": entry, "count": len(value)}
    else:
        meta[name] = value


def _read(name: str, meta: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> Any:
    if name in arrays:
        return np.asarray(arrays[name])
    value = meta[name]
    if isinstance(value, Mapping) and "model" in value:
        prefix = f"{name}/"
        return restore(
            value["model"], {k[len(prefix) :]: v for k, v in arrays.items() if k.startswith(prefix)}
        )
    if isinstance(value, Mapping) and "parts" in value:
        return tuple(_read(f"{name}/{number}", value["parts"], arrays) for number in range(value["count"]))
    return _tuples(value)


def _tuples(value: Any) -> Any:
    """JSON lists back to the tuples they were."""
    return tuple(_tuples(v) for v in value) if isinstance(value, list | tuple) else value


def restore(meta: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> Any:
    """The model that `Stateful.state` described.

    Raises:
        SnapshotError: An unknown model type, or a part of it is missing.
    """
    kind = meta.get("type")
    if kind not in _TYPES:
        raise SnapshotError(
            "unknown covariate model",
            found=repr(kind),
            hint="The file comes from another version: update mssg",
        )
    cls = _TYPES[kind]
    try:
        names = [f.name for f in dataclasses.fields(cls)]  # type: ignore[arg-type]
        return cls(**{name: _read(name, meta, arrays) for name in names})
    except KeyError as missing:
        raise SnapshotError("a covariate model is incomplete", field=kind, found=f"no {missing}") from None
