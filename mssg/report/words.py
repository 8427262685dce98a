"""Results as words and numbers of a report."""

from __future__ import annotations

from mssg.metrics.results import JOINT, REAL, Result
from mssg.text import NONE, amount, number, percent

CONTROL = {"r": "r [95 %]", "partial_r": "partial r [95 %]", "mae": "MAE"}
"""How the control table calls its columns, where not as the file does."""


def of_source(r: Result) -> str:
    """Whose images a control result is of, and whether that source taught the covariate."""
    if r.source == JOINT:
        return "all"
    return r.source + ("" if r.detail.get("recorded", True) else " (never recorded)")


def distance_name(r: Result) -> str:
    """A distance for people: the features after a comma."""
    return r.metric.replace("kid-", "KID, ").replace("fid-", "FID, ") if r.model != REAL else r.metric


def value(r: Result) -> str:
    """The number with its unit, and its interval or deviation."""
    if r.value is None:
        return NONE
    if r.ci95:
        return f"{amount(r.value, r.unit)} [{number(r.ci95[0])}, {number(r.ci95[1])}]"
    return amount(r.value, r.unit) + (f" ± {number(r.sd)}" if r.sd is not None else "")


def floor(r: Result) -> str:
    """The same between real images."""
    return amount(r.real_floor, r.unit)


def detail(r: Result, name: str, unit: bool = False) -> str:
    """A number of its detail, with the result's unit if asked."""
    found = r.detail.get(name)
    known = isinstance(found, int | float) and not isinstance(found, bool)
    return amount(found, r.unit if unit else None) if known else NONE


def share(r: Result) -> str:
    """A share as per cent, with its interval."""
    interval = f" [{100 * r.ci95[0]:.1f}, {100 * r.ci95[1]:.1f}]" if r.ci95 else ""
    return percent(r.value) + interval


def instrument(r: Result) -> str:
    """What its instrument is worth on real images."""
    return (f"{r.own.brief()}{': NO BETTER THAN GUESSING' if r.doubtful else ''}") if r.own else NONE


def stratum(r: Result) -> str:
    """The limits of its stratum; empty for all together."""
    parts = [
        f"{k} {number(v[0])} to {number(v[1])}" if isinstance(v, list | tuple) else f"{k} {v}"
        for k, v in (r.stratum or {}).items()
    ]
    return ", ".join(parts)
