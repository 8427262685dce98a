"""Reports as aligned text for a terminal."""

from __future__ import annotations

import math
from collections.abc import Sequence

from mssg.metrics.control import DESIGNS, ControlReport, ControlRow

NONE = "–"


def aligned(header: Sequence[str], rows: Sequence[Sequence[str]], left: int = 1) -> str:
    """A table with columns as wide as their widest cell; the first `left` columns flush left, the others
    right."""
    table = [list(header), *map(list, rows)]
    widths = [max(len(row[i]) for row in table) for i in range(len(header))]
    lines = []
    for row in table:
        cells = [c.ljust(w) if i < left else c.rjust(w) for i, (c, w) in enumerate(zip(row, widths))]
        lines.append("  ".join(cells).rstrip())
    lines.insert(1, "  ".join("─" * w for w in widths))
    return "\n".join(lines)


def number(value: float, digits: int = 3) -> str:
    """A number with so many digits after the point, or a dash where it is undefined."""
    return f"{value:.{digits}f}" if math.isfinite(value) else NONE


def amount(value: float, unit: str = "") -> str:
    """A quantity in native units with three significant digits."""
    if not math.isfinite(value):
        return NONE
    size = abs(value)
    text = f"{value:.0f}" if size >= 100 else f"{value:.1f}" if size >= 10 else f"{value:.2f}"
    return text if not unit else f"{text}{unit}" if unit in ("°", "%") else f"{text} {unit}"


def _with_interval(value: float, interval: tuple[float, float]) -> str:
    if not math.isfinite(value):
        return NONE
    return f"{value:.3f} [{number(interval[0], 2)}, {number(interval[1], 2)}]"


def _cells(row: ControlRow) -> list[str]:
    return [
        row.design,
        row.covariate,
        str(row.n),
        f"{100 * row.unmeasurable:.1f} %" if math.isfinite(row.unmeasurable) else NONE,
        _with_interval(row.r, row.r_ci95),
        _with_interval(row.partial_r, row.partial_r_ci95),
        number(row.slope, 2),
        amount(row.mae, row.unit),
        amount(row.bias, row.unit),
        amount(row.requested_sd, row.unit),
        number(row.accuracy, 3),
    ]


def control_table(report: ControlReport) -> str:
    """A control report: designs, their rows, and the within-class spread."""
    header = [
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
    ]
    rows = [_cells(row) for row in report.rows]
    if all(row[-1] == NONE for row in rows):
        header, rows = header[:-1], [row[:-1] for row in rows]
    of = f"{report.study}, {report.source}" if report.source else report.study
    lines = [f"Control of {of}: {report.n} images a design and covariate, seed {report.seed}", ""]
    lines += [aligned(header, rows, left=2), ""]
    used = list(dict.fromkeys(row.design for row in report.rows))
    lines += [f"{design:<9}  {DESIGNS[design]}" for design in used]
    shared = ", ".join(report.shared) or "nothing"
    lines += [
        f"{'partial r':<9}  with {shared} removed (but for the covariate itself); slope likewise, 1 = obeys"
    ]
    if any(row.unmeasurable > 0 for row in report.rows):
        lines += [f"{'unread':<9}  images on which the instrument found nothing to measure"]
    if report.spread:
        whole, *classes = report.spread
        lines += [
            "",
            (
                f"Spread within a class, generated / real: {number(whole.ratio, 2)}  ({whole.generated:.1f} /"
                f" {whole.real:.1f} grey levels)"
            ),
        ]
        if classes:
            lines += ["  " + "  ".join(f"{s.level}: {number(s.ratio, 2)}" for s in classes)]
    return "\n".join(lines)
