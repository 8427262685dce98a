"""What `mssg.metrics.control` finds: one row a design and covariate, as text and as JSON. Needs no torch."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

from mssg.errors import UsageError
from mssg.metrics.results import plain
from mssg.metrics.spread import Spread
from mssg.text import NONE, aligned, amount, fixed, percent

QUANTILES = (0.1, 0.3, 0.5, 0.7, 0.9)
"""Where design b asks for a covariate, given the shared ones."""
DESIGNS = {
    "a": "requests drawn from the covariate model",
    "b": "one covariate at its conditional 10/30/50/70/90 % quantiles given the shared ones",
    "c": "rectangular grid, cells inside the support",
    "c-outside": "rectangular grid, cells outside the support",
    "shuffled": "every covariate drawn on its own from its marginal",
}
BINS, FEWEST = 8, 5
"""Bins of what was asked, and the fewest images of one."""
COLUMNS = (
    "design",
    "covariate",
    "n",
    "unread",
    "r [95 %]",
    "partial r [95 %]",
    "slope",
    "MAE",
    "bias",
    "asked sd",
    "hits",
)


@dataclass(frozen=True)
class Readings:
    """What images asked for about one value show; native units.

    Attributes:
        requested: Mean of what was asked of them; a level's index.
        measured: Mean of what was read; of a categorical covariate the share read as asked.
        ci95: Interval of that mean.
        low, high: 5 % and 95 % of them are read below and above.
    """

    requested: float
    measured: float
    ci95: tuple[float, float]
    low: float
    high: float
    n: int


@dataclass(frozen=True)
class ControlRow:
    """How one covariate obeys under one design; native units, NaN where undefined.

    Attributes:
        design: A key of `DESIGNS`.
        covariate, unit: What was requested and measured.
        removed: Covariates removed before the partial correlation and the slope.
        n: Images measured.
        unmeasurable: Share of images on which the instrument found nothing to measure.
        r, r_ci95: Plain correlation and its bootstrap interval.
        partial_r, partial_r_ci95: The same after removing `removed` from both sides.
        slope: Of measured on requested, after the same removal; 1 is obedience.
        mae, bias: Mean absolute and mean signed difference, measured − requested.
        requested_sd: Standard deviation of what was requested: what the MAE is to be compared with.
        accuracy: Share of levels hit (binary and categorical only).
        readings: What was read by what was asked: at most `BINS` quantile bins, or each level.
    """

    design: str
    covariate: str
    unit: str
    removed: tuple[str, ...]
    n: int
    unmeasurable: float
    r: float = math.nan
    r_ci95: tuple[float, float] = (math.nan, math.nan)
    partial_r: float = math.nan
    partial_r_ci95: tuple[float, float] = (math.nan, math.nan)
    slope: float = math.nan
    mae: float = math.nan
    bias: float = math.nan
    requested_sd: float = math.nan
    accuracy: float = math.nan
    readings: tuple[Readings, ...] = ()


@dataclass(frozen=True)
class GridCell:
    """One cell of the rectangular grid: `covariate` requested at `value` while `by` is at `by_value`."""

    covariate: str
    value: float
    by: str
    by_value: float
    inside: bool
    n: int
    measured: float


@dataclass(frozen=True)
class ControlReport:
    """All that `control` found; `n` images a design, `source` the one all requests are of."""

    study: str
    n: int
    seed: int
    shared: tuple[str, ...]
    rows: tuple[ControlRow, ...]
    cells: tuple[GridCell, ...] = ()
    spread: tuple[Spread, ...] = ()
    source: str | None = None

    def row(self, design: str, covariate: str) -> ControlRow:
        """The row of a design and covariate.

        Raises:
            UsageError: No such row.
        """
        for row in self.rows:
            if (row.design, row.covariate) == (design, covariate):
                return row
        raise UsageError("not in this control report", field=f"{design}, {covariate}")

    @property
    def headline(self) -> tuple[ControlRow, ...]:
        """Per covariate the row to quote: design b where it was varied given the shared ones, else a."""
        best = {row.covariate: row for row in self.rows if row.design == "a"}
        best |= {row.covariate: row for row in self.rows if row.design == "b"}
        return tuple(best.values())

    def to_json(self) -> dict[str, Any]:
        """The report as a JSON object; what is undefined becomes null."""
        document = asdict(self)
        for entry, spread in zip(document["spread"], self.spread):
            entry["ratio"] = spread.ratio
        return {"format_version": 1, "quantiles": list(QUANTILES), **plain(document)}

    def table(self) -> str:
        """The report as aligned text: designs, their rows, and the within-class spread."""
        header, rows = COLUMNS, [_cells(row) for row in self.rows]
        if all(row[-1] == NONE for row in rows):
            header, rows = header[:-1], [row[:-1] for row in rows]
        of = f"{self.study}, {self.source}" if self.source else self.study
        lines = [f"Control of {of}: {self.n} images a design and covariate, seed {self.seed}", ""]
        lines += [aligned(header, rows, left=2), "", *_legend(self), *_spread_lines(self.spread)]
        return "\n".join(lines)


def _with_interval(value: float, interval: tuple[float, float]) -> str:
    if not math.isfinite(value):
        return NONE
    return f"{value:.3f} [{fixed(interval[0], 2)}, {fixed(interval[1], 2)}]"


def _cells(row: ControlRow) -> list[str]:
    return [
        row.design,
        row.covariate,
        str(row.n),
        percent(row.unmeasurable),
        _with_interval(row.r, row.r_ci95),
        _with_interval(row.partial_r, row.partial_r_ci95),
        fixed(row.slope, 2),
        amount(row.mae, row.unit),
        amount(row.bias, row.unit),
        amount(row.requested_sd, row.unit),
        fixed(row.accuracy),
    ]


def _legend(report: ControlReport) -> list[str]:
    """What the designs and columns of the table mean."""
    used = dict.fromkeys(row.design for row in report.rows)
    lines = [f"{design:<9}  {DESIGNS[design]}" for design in used]
    shared = ", ".join(report.shared) or "nothing"
    lines += [
        f"{'partial r':<9}  with {shared} removed (but for the covariate itself); slope likewise, 1 = obeys"
    ]
    if any(row.unmeasurable > 0 for row in report.rows):
        lines += [f"{'unread':<9}  images on which the instrument found nothing to measure"]
    return lines


def _spread_lines(spread: tuple[Spread, ...]) -> list[str]:
    if not spread:
        return []
    whole, *classes = spread
    ratio, levels = fixed(whole.ratio, 2), f"{whole.generated:.1f} / {whole.real:.1f} grey levels"
    lines = ["", f"Spread within a class, generated / real: {ratio}  ({levels})"]
    if classes:
        lines += ["  " + "  ".join(f"{s.level}: {fixed(s.ratio, 2)}" for s in classes)]
    return lines
