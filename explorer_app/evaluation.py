"""Strata of an evaluation as panels of a heatmap: from an eval.json, or computed live from measured pictures."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from explorer_app.picture import Latent, Picture, Probe, Transform
from explorer_app.population import Population
from explorer_app.state import AppState, set_values
from mssg.errors import SnapshotError
from mssg.files import parse_json

Edges = tuple[float, float]


@dataclass(frozen=True)
class Cell:
    """One stratum: edges by covariate (native units), the metric's value and how many images it rests on."""

    stratum: tuple[tuple[str, Edges], ...]
    value: float
    count: int

    def edges(self, name: str) -> Edges | None:
        """The stratum's edges along a covariate."""
        return dict(self.stratum).get(name)

    @property
    def centre(self) -> dict[str, float]:
        """Native value in the middle of the stratum, by covariate."""
        return {name: (low + high) / 2 for name, (low, high) in self.stratum}


@dataclass(frozen=True)
class Table:
    """Cells of one metric, with the covariates along rows, columns and panels ("" where there is none)."""

    metric: str
    rows: str
    columns: str
    panel: str
    cells: tuple[Cell, ...]

    def panels(
        self,
    ) -> list[tuple[Edges | None, list[Edges], list[Edges], np.ndarray, dict[tuple[int, int], Cell]]]:
        """Per panel: its edges, the row and column edges, values [R, C] (NaN = none), and the cells by position."""
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


def load(path: str | Path) -> tuple[Table, ...]:
    """The stratified metrics of an eval.json, one table per metric, covariate and source.

    Raises:
        SnapshotError: Not an evaluation, or one without strata.
    """
    path = Path(path)
    try:
        document = parse_json(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SnapshotError(f"the evaluation cannot be read: {error.strerror}", file=path) from None
    except ValueError:
        raise SnapshotError(
            "not an evaluation: it is no JSON", file=path, hint="Give a file `mssg evaluate` wrote"
        ) from None
    results = document.get("results") if isinstance(document, dict) else document
    if not isinstance(results, list):
        raise SnapshotError(
            "not an evaluation: it holds no results", file=path, hint="Give a file `mssg evaluate` wrote"
        )
    groups: dict[tuple[str, str, str], list[Cell]] = {}
    for result in results:
        cell = _cell(result)
        if cell is not None:
            key = tuple(str(result.get(k) or "") for k in ("metric", "covariate", "source"))
            groups.setdefault(key, []).append(cell)  # type: ignore[arg-type]
    tables = tuple(
        _table(" · ".join(k for k in key if k), cells) for key, cells in groups.items() if len(cells) > 1
    )
    if not tables:
        raise SnapshotError(
            "the evaluation holds no strata", file=path, hint="Run `mssg evaluate` with strata"
        )
    return tables


def _cell(result: Any) -> Cell | None:
    if (
        not isinstance(result, Mapping)
        or not isinstance(result.get("stratum"), Mapping)
        or not result["stratum"]
    ):
        return None
    stratum = []
    for name, edges in result["stratum"].items():
        try:
            low, high = (edges, edges) if isinstance(edges, (int, float)) else (float(e) for e in edges)
        except (TypeError, ValueError):
            return None
        stratum.append((str(name), (float(low), float(high))))
    value = result.get("value")
    number = float(value) if isinstance(value, (int, float)) else math.nan
    count = result.get("n")
    return Cell(tuple(stratum), number, count if isinstance(count, int) else 0)


def _table(metric: str, cells: list[Cell]) -> Table:
    names = list(dict.fromkeys(name for cell in cells for name, _ in cell.stratum))
    names += [""] * (3 - len(names))
    return Table(metric, names[0], names[1], names[2], tuple(cells))


def quantile_bins(population: Population, name: str, count: int = 4) -> list[Edges]:
    """Strata of a covariate: equal shares of the training data between its 5 % and 95 % quantiles, or its levels."""
    covariate = population.study.covariate(name)
    if not covariate.is_continuous:
        levels = len(covariate.levels) or 2
        return [(float(i), float(i)) for i in range(levels)]
    table = population.summary(name).get("quantiles")
    low, high = population.range(name)
    edges = (
        np.interp(np.linspace(0.05, 0.95, count + 1), table["q"], table["values"])
        if table
        else np.linspace(low, high, count + 1)
    )
    return [(float(a), float(b)) for a, b in itertools.pairwise(edges)]


def live_pictures(
    state: AppState, population: Population
) -> dict[tuple[tuple[str, Edges], ...], tuple[Picture, ...]]:
    """The pictures to measure per stratum: at its middle, with a few seeds, the other covariates as they are."""
    analysis = state.analysis
    base = replace(state, probe=Probe(), transform=Transform())
    names = [n for n in (analysis.strata_rows, analysis.strata_columns, analysis.strata_panel) if n]
    if not names or len(set(names)) != len(names):
        return {}
    strata: list[tuple[tuple[str, Edges], ...]] = [()]
    for i, name in enumerate(names):
        bins = quantile_bins(population, name, 3 if i == 2 else 4)
        strata = [(*stratum, (name, edges)) for stratum in strata for edges in bins]
    out = {}
    for stratum in strata:
        at = set_values(base, **Cell(stratum, 0.0, 0).centre)
        latent = Latent(psi=state.latent.psi, cutoff=state.latent.cutoff)
        out[stratum] = tuple(
            replace(at, latent=replace(latent, seed=s)).picture for s in range(analysis.strata_images)
        )
    return out
