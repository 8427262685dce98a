"""Numbers, quantities, durations and tables as text for people; each is written in one way everywhere."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence

NONE = "–"
"""Stands where a number is undefined."""
DECIMALS = 5
"""Most digits after the point: what is smaller is zero to a reader."""


def number(value: float | None) -> str:
    """A number with three significant digits and no exponent, or a dash where it is undefined."""
    if value is None or not math.isfinite(value):
        return NONE
    if abs(value) < 0.5 * 10**-DECIMALS:
        return "0"
    digits = 2 - math.floor(math.log10(abs(value)))
    return f"{value:.{min(max(digits, 0), DECIMALS)}f}"


def fixed(value: float | None, digits: int = 3, signed: bool = False) -> str:
    """A number with so many digits after the point, or a dash where it is undefined."""
    if value is None or not math.isfinite(value):
        return NONE
    return f"{value:{'+' if signed else ''}.{digits}f}"


def to_scale(value: float | None, scale: float | None) -> str:
    """A number down to the second significant digit of what it is compared with: smaller digits are noise."""
    if value is None or scale is None or not math.isfinite(scale) or scale <= 0:
        return number(value)
    return fixed(value, max(0, 1 - math.floor(math.log10(scale))))


def amount(value: float | None, unit: str | None = "") -> str:
    """A quantity in native units: `number` and its unit."""
    text = number(value)
    return text if text == NONE or not unit else f"{text}{unit}" if unit in ("°", "%") else f"{text} {unit}"


def percent(share: float | None) -> str:
    """A share as per cent with one digit after the point, or a dash where it is undefined."""
    return NONE if share is None or not math.isfinite(share) else f"{100 * share:.1f} %"


def duration(seconds: float) -> str:
    """Seconds as 42 s, 12 min, 3 h 05, 2 d 4 h."""
    s = max(0, round(seconds))
    if s < 90:
        return f"{s} s"
    if s < 5400:
        return f"{s // 60} min"
    return f"{s // 3600} h {s % 3600 // 60:02d}" if s < 172_800 else f"{s // 86400} d {s % 86400 // 3600} h"


def aligned(
    header: Sequence[str], rows: Sequence[Sequence[str]], left: int = 1, right: Collection[int] | None = None
) -> str:
    """A table with columns as wide as their widest cell.

    Args:
        header: Names of the columns.
        rows: Texts of the cells, as many a row as the header has.
        left: So many first columns stand flush left, the others flush right.
        right: Where given, these columns stand flush right, the others left.
    """
    table = [list(header), *map(list, rows)]
    widths = [max(len(row[i]) for row in table) for i in range(len(header))]
    flush_right = range(left, len(header)) if right is None else right
    lines = []
    for row in table:
        cells = [c.rjust(w) if i in flush_right else c.ljust(w) for i, (c, w) in enumerate(zip(row, widths))]
        lines.append("  ".join(cells).rstrip())
    lines.insert(1, "  ".join("─" * w for w in widths))
    return "\n".join(lines)
