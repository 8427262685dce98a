"""All covariate models of a study as one system: fit, draw, complete, judge, and write into a snapshot."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Self

import numpy as np

from mssg.covariates.conditional import Conditional, conditional
from mssg.covariates.discrete import FrequencyTable, RowTable
from mssg.covariates.families import JOINT, fit_family
from mssg.covariates.graph import CORRELATION, Factor, build_graph, variable_of
from mssg.covariates.joint import JointMixture
from mssg.covariates.network import FittedFactor, Known, Network, Step
from mssg.covariates.protocol import FittingData, restore
from mssg.errors import DataError, SnapshotError, UsageError
from mssg.study.covariate import SOURCE
from mssg.study.model import Study

STATE_VERSION = 1
_SEED = 20240704  # of densities that have no closed form: the same row always gets the same number

Given = Mapping[str, Any]


@dataclass(frozen=True, eq=False)
class CovariateModels:
    """The fitted models of a study's conditions (its covariates and, where it conditions on it, the source).

    Rows are float64 [N, V] in native units, columns as in `study.condition_names`, NaN for what is missing.
    """

    study: Study
    network: Network

    @property
    def names(self) -> tuple[str, ...]:
        """The conditions, in the order of a row."""
        return self.study.condition_names

    @property
    def order(self) -> tuple[str, ...]:
        """The conditions, parents before children."""
        return tuple(self.names[j] for j in self.network.order)

    def parents(self, name: str) -> tuple[str, ...]:
        """What a condition is modelled given."""
        return tuple(self.names[p] for p in self.network.owner[self.study.index(name)].parents)

    def family(self, name: str) -> str:
        """The family of a condition's model."""
        return self.network.owner[self.study.index(name)].family

    @cached_property
    def unobserved(self) -> dict[tuple[str, str], tuple[float, float]]:
        """Pairs a joint model covers that no source records together -> their (requested, achieved)
        correlation given the shared covariates."""
        joint = [f.model for f in self.network.factors if isinstance(f.model, JointMixture)]
        return {
            pair: (model.requested, float(achieved))
            for model in joint
            for pair, achieved in zip(model.unobserved, model.achieved)
        }

    def sample(self, n: int, given: Given | None, rng: np.random.Generator) -> dict[str, np.ndarray]:
        """Draw conditions.

        Args:
            given: Native values of any conditions, a number or an array [n] each; None for none.

        Returns:
            Every condition's native values float64 [n], the given ones among them.

        Raises:
            UsageError: An unknown name, or a value the covariate cannot take.
        """
        values, known = self._given(given, n)
        self.network.fill(known, values, rng)
        return {name: values[:, j] for j, name in enumerate(self.names)}

    def complete(
        self, values: np.ndarray, rng: np.random.Generator, source: np.ndarray | None = None
    ) -> np.ndarray:
        """Draw what is missing in rows, given what is there.

        Args:
            values: float64 [N, V], NaN where missing.
            source: Source index per row [N], for rows whose source column is not filled in yet.

        Returns:
            float64 [N, V] without NaN; known values are untouched.

        Raises:
            DataError: A value outside its transform's domain, or an infinite one.
        """
        values = np.array(values, dtype=np.float64, ndmin=2)
        self._check_rows(values)
        if source is not None and SOURCE in self.names:
            column = values[:, self.names.index(SOURCE)]
            np.copyto(column, source, where=np.isnan(column))
        for rows, known in self._patterns(values):
            if rows is None:
                self.network.fill(known, values, rng)
            elif len(known) < len(self.names):
                part = values[rows]
                self.network.fill(known, part, rng)
                values[rows] = part
        return values

    def log_density(self, values: np.ndarray) -> np.ndarray:
        """Log density of rows as encoded conditions; −inf outside the models' support.

        Args:
            values: float64 [N, V]. Conditions that are NaN are integrated out.

        Returns:
            float64 [N]. Continuous covariates count by density of their encoded value, discrete ones by
            probability.
        """
        values = np.array(values, dtype=np.float64, ndmin=2)
        self._check_rows(values)
        out = np.empty(len(values))
        for rows, known in self._patterns(values):
            chosen = slice(None) if rows is None else rows
            rng = np.random.default_rng(_SEED)
            out[chosen] = self.network.log_evidence(known, values[chosen], rng) + self._log_spread(known)
        return out

    def without_place(self, values: np.ndarray) -> np.ndarray:
        """Rows [N, V] that leave open where the slice lies, which says nothing of how common a person is."""
        if self.study.position is None:
            return values
        values = np.array(values, dtype=np.float64)
        values[:, self.study.index(self.study.position)] = np.nan
        return values

    def log_density_of(self, name: str, values: np.ndarray) -> np.ndarray:
        """Log density of one condition's encoded value given its parents, for rows [N, V] -> [N]; NaN where
        either is missing."""
        j = self.study.index(name)
        step: Step = (j, *self.network.model(j, frozenset(self.network.owner[j].parents)))
        rows = ~np.isnan(values[:, [j, *step[2]]]).any(1)
        out = np.full(len(values), np.nan)
        out[rows] = self.network.log_density_of(step, values[rows]) + self._log_spread(frozenset({j}))
        return out

    def conditional_mean(self, name: str, given: Given | None = None) -> np.ndarray:
        """Expectation of a condition given any others: [n] in native units (n = 1 when all given are
        numbers).

        P(1) for a binary covariate; the most probable level, as its index, for a categorical one.
        """
        return self._conditional(name, given)[0].mean()

    def quantile(self, name: str, q: float | np.ndarray, given: Given | None = None) -> np.ndarray:
        """The native value [n] below which a share q (number or [n]) of a condition lies, given any others.

        Raises:
            UsageError: An unknown name, an impossible value, or q outside 0 … 1.
        """
        share = np.asarray(q, dtype=np.float64)
        if not ((share >= 0) & (share <= 1)).all():
            raise UsageError("a quantile lies between 0 and 1", field=name, found=q)
        law, share = self._conditional(name, given, share)
        return law.quantile(share)

    def cdf(self, name: str, value: float | np.ndarray, given: Given | None = None) -> np.ndarray:
        """P(condition ≤ value) [n], given any others; value is native (number or [n])."""
        law, value = self._conditional(name, given, np.asarray(value, dtype=np.float64))
        return law.cdf(value)

    def to_state(self) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        """A JSON object and arrays (float64, int64) from which `from_state` restores identical models."""
        factors, arrays = [], {}
        for number, factor in enumerate(self.network.factors):
            meta, parts = factor.model.state()
            members, parents = (
                [self.names[j] for j in columns] for columns in (factor.members, factor.parents)
            )
            factors.append({"members": members, "parents": parents, "family": factor.family, "model": meta})
            arrays.update({f"{number}/{key}": part for key, part in parts.items()})
        return {"version": STATE_VERSION, "factors": factors}, arrays

    @classmethod
    def from_state(cls, study: Study, meta: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> Self:
        """The models written by `to_state`.

        Raises:
            SnapshotError: Another version, or a state that does not fit the study.
        """
        if meta.get("version") != STATE_VERSION:
            raise SnapshotError(
                "unknown version of covariate models",
                found=repr(meta.get("version")),
                expected=STATE_VERSION,
                hint="Update mssg",
            )
        try:
            factors = []
            for number, entry in enumerate(meta["factors"]):
                prefix = f"{number}/"
                parts = {k[len(prefix) :]: v for k, v in arrays.items() if k.startswith(prefix)}
                members, parents = (
                    tuple(study.condition_names.index(n) for n in entry[k]) for k in ("members", "parents")
                )
                factors.append(
                    FittedFactor(members, parents, entry["family"], restore(entry["model"], parts))
                )
            found = [m for f in factors for m in f.members]
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise SnapshotError(
                "the covariate models are damaged or of another study", found=str(error)
            ) from None
        if sorted(found) != list(range(len(study.conditions))):
            raise SnapshotError("the covariate models do not cover the study's covariates", found=len(found))
        return cls(study, Network(study.conditions, tuple(factors)))

    def _log_spread(self, known: Known) -> float:
        """Encoded = (transformed − offset) / spread, so densities gain log spread."""
        continuous = [self.study.conditions[j] for j in known if self.study.conditions[j].is_continuous]
        return float(sum(np.log(c.spread) for c in continuous if c.spread))

    def _patterns(self, values: np.ndarray) -> list[tuple[np.ndarray | None, Known]]:
        """Rows [n] that miss the same conditions, and what they know; None for all rows."""
        missing = np.isnan(values)
        codes = missing @ (1 << np.arange(values.shape[1], dtype=np.int64))
        found = np.unique(codes)
        every = range(values.shape[1])
        return [
            (
                None if len(found) == 1 else np.flatnonzero(codes == code),
                frozenset(j for j in every if not code >> j & 1),
            )
            for code in found.tolist()
        ]

    def _check_rows(self, values: np.ndarray) -> None:
        if values.shape[1] != len(self.names):
            raise DataError("rows of another width", found=values.shape[1], expected=", ".join(self.names))
        if np.isinf(values).any():
            raise DataError(
                "an infinite covariate value", field=self.names[int(np.isinf(values).any(0).argmax())]
            )
        for j, covariate in enumerate(self.study.conditions):
            if covariate.transform == "log" and (values[:, j] <= -covariate.shift).any():
                raise DataError(
                    "outside the domain of its log transform",
                    field=covariate.name,
                    found=f"{np.nanmin(values[:, j]):g}",
                    expected=f"more than {-covariate.shift:g}",
                )

    def _given(self, given: Given | None, n: int | None) -> tuple[np.ndarray, Known]:
        """Rows [n, V] with the given filled in, and which columns those are."""
        arrays = {name: np.asarray(v, dtype=np.float64) for name, v in (given or {}).items()}
        lengths = {a.size for a in arrays.values() if a.ndim}
        if len(lengths | ({n} if n is not None else set())) > 1:
            raise UsageError("given values of different lengths", found=sorted(lengths), expected=n)
        count = n if n is not None else next(iter(lengths), 1)
        values = np.full((count, len(self.names)), np.nan)
        for name, value in arrays.items():
            j = self.study.index(name)
            values[:, j] = value
            covariate = self.study.conditions[j]
            allowed = np.isfinite(covariate.forward(values[:, j]))
            if not covariate.is_continuous:
                top = covariate.num_levels - 1
                allowed = (
                    allowed
                    & (values[:, j] == np.floor(values[:, j]))
                    & (values[:, j] >= 0)
                    & (values[:, j] <= top)
                )
            if not allowed.all():
                raise UsageError(
                    "a value this covariate cannot take", field=name, found=f"{values[~allowed, j][0]:g}"
                )
        return values, frozenset(self.study.index(name) for name in arrays)

    def _conditional(self, name: str, given: Given | None, *extra: np.ndarray) -> tuple[Any, ...]:
        """The conditional distribution, and extra arguments brought to its number of rows."""
        j = self.study.index(name)
        if given and name in given:
            raise UsageError("cannot be asked for and given at once", field=name)
        sizes = [e.size for e in extra if e.ndim]
        scalar = not any(np.ndim(v) for v in (given or {}).values())
        values, known = self._given(given, sizes[0] if sizes and scalar else None)
        law: Conditional = conditional(self.network, j, known, values)
        return (law, *(np.broadcast_to(e, (len(values),)) for e in extra))


def fit_models(
    study: Study, tables: Sequence[Mapping[str, np.ndarray]], rng: np.random.Generator | None = None
) -> CovariateModels:
    """Fit the covariate models of a study to training rows.

    Args:
        study: Its statistics are fitted to the same rows if they are not yet.
        tables: One mapping per source: covariate name -> native values [n], NaN where a cell is empty.
            Columns that the source does not observe are ignored.
        rng: Decides starting points of fits; the same generator state gives the same models. Default: seed 0.

    Returns:
        The fitted system; `.study` carries the statistics.

    Raises:
        StudyError: Models that cannot be: a cycle, an unknown or unfit family, parents never recorded with
            their child.
        DataError: Rows that cannot be modelled: too few, constant, not finite, missing columns.
    """
    rng = np.random.default_rng(0) if rng is None else rng
    factors = build_graph(study)
    values = pooled_rows(study, tables)
    if not study.is_fitted:
        study = study.fit_statistics([{k: np.asarray(v) for k, v in t.items()} for t in tables])
    transformed = np.column_stack([c.forward(values[:, j]) for j, c in enumerate(study.conditions)])
    lost = np.isnan(transformed) & ~np.isnan(values)
    if lost.any():
        j = int(lost.any(0).argmax())
        raise DataError(
            "training values outside the domain of the log transform",
            field=f"covariates.{study.condition_names[j]}",
            found=f"{values[lost[:, j], j][0]:g}",
            expected=f"more than {-study.conditions[j].shift:g}",
            hint="Correct the table, or state a larger shift",
        )
    fitted = tuple(_fit_factor(study, factor, transformed, rng) for factor in factors)
    return CovariateModels(study, Network(study.conditions, fitted))


def pooled_rows(study: Study, tables: Sequence[Mapping[str, np.ndarray]]) -> np.ndarray:
    """The rows of all sources as float64 [N, V] in native units, NaN for what a source does not observe.

    Raises:
        DataError: A table lacks a column its source observes, columns differ in length, or a value is
            infinite.
    """
    if len(tables) != len(study.sources):
        raise DataError("one table per source is needed", found=len(tables), expected=len(study.sources))
    parts = []
    for number, (source, table) in enumerate(zip(study.sources, tables)):
        for name in source.observes:
            if name not in table:
                raise DataError(
                    "the table lacks a covariate its source observes", file=source.path, field=name
                )
        columns = {name: np.asarray(table[name], dtype=np.float64) for name in source.observes}
        lengths = {len(c) for c in columns.values()}
        if len(lengths) > 1:
            raise DataError("columns of different lengths", file=source.path, found=sorted(lengths))
        rows = np.full((lengths.pop(), len(study.conditions)), np.nan)
        for name, column in columns.items():
            if np.isinf(column).any():
                raise DataError("an infinite value", file=source.path, field=name)
            rows[:, study.index(name)] = column
        if study.condition_on_source:
            rows[:, study.index(SOURCE)] = number
        parts.append(rows)
    return np.concatenate(parts)


def _fit_factor(study: Study, factor: Factor, values: np.ndarray, rng: np.random.Generator) -> FittedFactor:
    """Fit one factor to the rows (transformed values) that record all it needs."""
    members: tuple[int, ...] = tuple(study.index(n) for n in factor.members)
    parents: tuple[int, ...] = tuple(study.index(n) for n in factor.parents)
    variables = tuple(variable_of(study.conditions[j]) for j in (*parents, *members))
    if factor.members == (SOURCE,):
        weights = np.array([s.weight for s in study.sources])
        return FittedFactor(members, parents, factor.family, FrequencyTable.of_weights(weights))
    if factor.family == JOINT:
        rows = values[~np.isnan(values[:, members]).all(1)][:, (*parents, *members)]
        model = JointMixture.fit(variables, rows, rng, factor.components, factor.options[CORRELATION])
        return FittedFactor(members, parents, factor.family, model)
    rows = values[~np.isnan(values[:, (*parents, *members)]).any(1)]
    if len(members) > 1:
        return FittedFactor(
            members, parents, factor.family, RowTable.fit(variables, rows[:, (*parents, *members)])
        )
    y, x = rows[:, members][:, 0], rows[:, parents]
    data = FittingData(variables[-1], y, variables[:-1], x, factor.components, factor.options)
    return FittedFactor(members, parents, factor.family, fit_family(factor.family, data, rng))
