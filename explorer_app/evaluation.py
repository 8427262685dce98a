"""Strata of an evaluation as panels of a heatmap: from an eval.json, or computed live from measured
pictures."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from explorer_app.distribution import TrainingDistribution
from explorer_app.request_edits import with_values
from explorer_app.state import Analysis
from mssg.errors import DataError
from mssg.metrics.results import JOINT, Evaluation, Result
from mssg.rendering.request import RenderRequest
from mssg.study.model import Study

Edges = tuple[float, float]
_SHOWN = 3  # rows, columns, panels


@dataclass(frozen=True)
class StratumCell:
    """One stratum: edges by covariate (native units), the metric's value and how many images it rests on.

    From a file also the real images in the stratum, the bootstrap interval and the value between real images.
    """

    stratum: tuple[tuple[str, Edges], ...]
    value: float
    count: int
    real: int | None = None
    interval: tuple[float, float] | None = None
    floor: float | None = None

    def edges(self, name: str) -> Edges | None:
        """The stratum's edges along a covariate."""
        return dict(self.stratum).get(name)

    @property
    def centre(self) -> dict[str, float]:
        """Native value in the middle of the stratum, by covariate."""
        return {name: (low + high) / 2 for name, (low, high) in self.stratum}


@dataclass(frozen=True)
class StrataTable:
    """Cells of one metric, with the covariates along rows, columns and panels ("" where there is none).

    `about`: which model they are of, where it is not the one that is open.
    """

    metric: str
    rows: str
    columns: str
    panel: str
    cells: tuple[StratumCell, ...]
    unit: str = ""
    about: str = ""

    def panels(
        self,
    ) -> list[tuple[Edges | None, list[Edges], list[Edges], np.ndarray, dict[tuple[int, int], StratumCell]]]:
        """Per panel: its edges, the row and column edges, values [R, C] (NaN = none), and the cells by
        position."""
        rows = sorted({e for c in self.cells if (e := c.edges(self.rows))})
        columns = sorted({e for c in self.cells if (e := c.edges(self.columns))}) or [(-math.inf, math.inf)]
        out = []
        for edges in sorted(
            {c.edges(self.panel) for c in self.cells}, key=lambda e: e or (-math.inf, math.inf)
        ):
            values, placed = np.full((len(rows), len(columns)), np.nan), {}
            for cell in (c for c in self.cells if c.edges(self.panel) == edges):
                row = cell.edges(self.rows)
                if row is None:
                    continue
                column = cell.edges(self.columns)
                place = (rows.index(row), columns.index(column) if column else 0)
                values[place], placed[place] = cell.value, cell
            out.append((edges, rows, columns, values, placed))
        return out


def load(path: str | Path, study: Study, snapshot: str = "") -> tuple[StrataTable, ...]:
    """The stratified results of an eval.json, one table for each metric, covariate, reference, source and
    model.

    A table shows strata of three covariates; of a fourth and further ones every stratum has its own table.

    Args:
        study: Gives the levels of discrete covariates their numbers.
        snapshot: Id of the snapshot that is open; tables of another say so.

    Raises:
        DataError: Not an evaluation, of another format version, one without strata, or of covariates that the
            study does not have.
    """
    try:
        evaluation = Evaluation.load(path)
        tables = _tables(evaluation, study, snapshot)
    except (TypeError, ValueError, AttributeError, OverflowError) as error:
        raise DataError("damaged: a result is of a wrong kind", file=path, found=error) from None
    if not tables:
        raise DataError("the evaluation holds no strata", file=path, hint="Run `mssg evaluate` with strata")
    strange = sorted(
        {n for t in tables for n in (t.rows, t.columns, t.panel) if n} - {*study.condition_names}
    )
    if strange:
        raise DataError(
            f"an evaluation of another study ({evaluation.study})",
            file=path,
            field="stratum",
            found=", ".join(strange),
            expected=f"covariates of {study.name}: {', '.join(study.condition_names)}",
        )
    return tables


def _tables(evaluation: Evaluation, study: Study, snapshot: str) -> tuple[StrataTable, ...]:
    groups: dict[tuple[str, ...], list[StratumCell]] = {}
    units: dict[tuple[str, ...], str] = {}
    models = {model.label: model for model in evaluation.models}
    for result in evaluation.results:
        if result.stratum:
            key = (
                str(result.metric).removeprefix("strata/"),
                str(result.covariate or ""),
                f"against {result.reference}" if result.reference else "",
                "" if result.source == JOINT else f"source {result.source}",
                str(result.model),
                ", ".join(f"{n} {_limits(v)}" for n, v in list(result.stratum.items())[_SHOWN:]),
            )
            groups.setdefault(key, []).append(_cell(result, study))
            units[key] = str(result.unit or "")
    told = [i for i in range(6) if i < 2 or len({key[i] for key in groups}) > 1]
    tables = []
    for key, cells in groups.items():
        model = models.get(key[4])
        about = ""
        if model is not None and not snapshot.startswith(model.snapshot):
            about = f"of another model: {model.label}, {model.study}, {model.kimg:g} kimg"
        tables.append(_table(" · ".join(key[i] for i in told if key[i]), units[key], cells, about))
    return tuple(tables)


def _limits(limits: Any) -> str:
    """Edges, or a level, as text."""
    return limits if isinstance(limits, str) else "–".join(f"{float(edge):.4g}" for edge in limits)


def _cell(result: Result, study: Study) -> StratumCell:
    """A result as a cell. A level stands for itself: both its edges are its number."""
    stratum = []
    for name, limits in (result.stratum or {}).items():
        if isinstance(limits, str):
            levels = study.covariate(name).levels if name in study.condition_names else ()
            number = float((levels or ("0", "1")).index(limits) if limits in (levels or ("0", "1")) else -1)
            stratum.append((name, (number, number)))
        else:
            low, high = (float(edge) for edge in limits)
            stratum.append((name, (low, high)))
    value = math.nan if result.value is None else float(result.value)
    low, high = (float(v) for v in result.ci95) if result.ci95 else (math.nan, math.nan)
    floor = None if result.real_floor is None else float(result.real_floor)
    real = None if result.n_real is None else int(result.n_real)
    return StratumCell(
        tuple(stratum), value, int(result.n), real, (low, high) if math.isfinite(low) else None, floor
    )


def _table(metric: str, unit: str, cells: list[StratumCell], about: str) -> StrataTable:
    names = list(dict.fromkeys(name for cell in cells for name, _ in cell.stratum))
    names += [""] * (_SHOWN - len(names))
    return StrataTable(metric, names[0], names[1], names[2], cells=tuple(cells), unit=unit, about=about)


def quantile_bins(distribution: TrainingDistribution, name: str, count: int = 4) -> list[Edges]:
    """Strata of a covariate: equal shares of the training data between its 5 % and 95 % quantiles, or its
    levels."""
    covariate = distribution.study.covariate(name)
    if not covariate.is_continuous:
        return [(float(i), float(i)) for i in range(covariate.num_levels)]
    table = distribution.summary(name).get("quantiles")
    low, high = distribution.range(name)
    edges = (
        np.interp(np.linspace(0.05, 0.95, count + 1), table["q"], table["values"])
        if table
        else np.linspace(low, high, count + 1)
    )
    return [(float(a), float(b)) for a, b in itertools.pairwise(edges)]


def live_requests(
    request: RenderRequest, analysis: Analysis, distribution: TrainingDistribution
) -> dict[tuple[tuple[str, Edges], ...], tuple[RenderRequest, ...]]:
    """The pictures to measure per stratum: at its middle, with a few seeds, the other covariates as they
    are."""
    names = [n for n in (analysis.strata_rows, analysis.strata_columns, analysis.strata_panel) if n]
    if not names or len(set(names)) != len(names):
        return {}
    strata: list[tuple[tuple[str, Edges], ...]] = [()]
    for i, name in enumerate(names):
        bins = quantile_bins(distribution, name, 3 if i == 2 else 4)
        strata = [(*stratum, (name, edges)) for stratum in strata for edges in bins]
    plain = RenderRequest(request.snapshot, psi=request.psi, cutoff=request.cutoff)
    base = replace(plain, covariates=request.covariates)
    out = {}
    for stratum in strata:
        at = with_values(base, **StratumCell(stratum, 0.0, 0).centre)
        out[stratum] = tuple(replace(at, seed=seed) for seed in range(analysis.strata_images))
    return out
