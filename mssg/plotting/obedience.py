"""What images show by what was asked of them, one panel a covariate. No torch."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from mssg.errors import UsageError
from mssg.metrics.results import JOINT, Evaluation, Result
from mssg.plotting.chart_style import DPI, FAINT, FONT, INK, MINUS, SMALL, STYLE
from mssg.text import fixed

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

ACROSS = 3
LINE, DOUBT = "#1f5fa8", "#9a9a9a"


def obedience(found: Evaluation, label: str, levels: Mapping[str, Sequence[str]]) -> Figure:
    """Requested against measured of one model, with the line on which both are equal.

    Args:
        found: An evaluation with control.
        levels: Covariate -> names of its levels, where it has any.

    Raises:
        UsageError: The evaluation does not hold what was read by what was asked.
    """
    import matplotlib
    from matplotlib.figure import Figure

    chosen = list(drawn_of(found, label).values())
    if not chosen:
        raise UsageError(
            "no readings by request in this evaluation", hint="Make it again with `mssg evaluate`"
        )
    wide = min(ACROSS, len(chosen))
    high = math.ceil(len(chosen) / wide)
    sides: dict[Any, Any] = {"axes.spines.top": False, "axes.spines.right": False}
    with matplotlib.rc_context(STYLE | sides):
        size = (2.55 * wide + 0.2, 2.7 * high + 0.1)
        figure = Figure(figsize=size, dpi=DPI, facecolor="white", layout="constrained")
        for i, r in enumerate(chosen):
            axis = figure.add_subplot(high, wide, i + 1)
            names = levels.get(r.covariate or "", ())
            if r.metric == "control/accuracy":
                _hits(axis, r, names)
            else:
                _line(axis, r, names)
            _words(axis, r, found)
    return figure


def drawn_of(found: Evaluation, label: str) -> dict[str, Result]:
    """Covariate -> the result whose readings are shown: design b before a, correlation before hits."""
    chosen: dict[str, Result] = {}
    for design in ("b", "a"):
        for metric in ("control/r", "control/accuracy"):
            for r in found.find(metric=metric, model=label, design=design, source=JOINT):
                if r.detail.get("readings"):
                    chosen.setdefault(r.covariate or "", r)
    return chosen


def _line(axis: Axes, r: Result, names: Sequence[str]) -> None:
    """Mean reading by mean request, its interval, and where nine in ten readings lie."""
    bins = r.detail["readings"]
    columns = {k: np.array([b[k] for b in bins], float) for k in ("requested", "measured", "low", "high")}
    x, y = columns["requested"], columns["measured"]
    colour = DOUBT if r.doubtful else LINE
    ends = [min(x.min(), columns["low"].min()), max(x.max(), columns["high"].max())]
    axis.plot(ends, ends, color=INK, linewidth=0.9, linestyle="--")
    axis.fill_between(x, columns["low"], columns["high"], color=colour, alpha=0.15, linewidth=0)
    half = np.array([[m - b["ci95"][0], b["ci95"][1] - m] for m, b in zip(y, bins)]).T
    axis.errorbar(x, y, half, color=colour, marker="o", markersize=3.2, linewidth=1.2, capsize=2)
    axis.set_xlabel("asked" + (f", {_unit(r)}" if _unit(r) else ""), fontsize=SMALL)
    axis.set_ylabel("read off the pictures", fontsize=SMALL)
    if names:
        axis.set_xticks(range(len(names)), names, fontsize=SMALL)


def _hits(axis: Axes, r: Result, names: Sequence[str]) -> None:
    """Share read as asked, by level, and what a constant guess would reach."""
    bins = r.detail["readings"]
    shares = np.array([b["measured"] for b in bins], float)
    half = np.array([[m - b["ci95"][0], b["ci95"][1] - m] for m, b in zip(shares, bins)]).T
    half = np.minimum(half, np.stack([shares, 1 - shares]))
    axis.bar(range(len(bins)), shares, yerr=half, color=DOUBT if r.doubtful else LINE, alpha=0.8, capsize=2)
    axis.axhline(1, color=INK, linewidth=0.9, linestyle="--")
    axis.axhline(1 / len(bins), color=FAINT, linewidth=0.9, linestyle=":")
    told = [
        names[int(b["requested"])] if int(b["requested"]) < len(names) else str(b["requested"]) for b in bins
    ]
    axis.set_xticks(range(len(bins)), told, fontsize=SMALL)
    axis.set_ylim(0, 1.08)
    axis.set_xlabel("asked", fontsize=SMALL)
    axis.set_ylabel("share read as asked", fontsize=SMALL)


def _words(axis: Axes, r: Result, found: Evaluation) -> None:
    """Title with the numbers, and what the instrument is worth."""
    about = {"model": r.model, "covariate": r.covariate, "design": r.design, "source": JOINT}
    numbers = {
        name: next((x.value for x in found.find(metric=f"control/{stat}", **about)), None)
        for name, stat in (("partial r", "partial_r"), ("slope", "slope"), ("right", "accuracy"))
    }
    told = ", ".join(f"{name} {fixed(value, 2)}" for name, value in numbers.items() if value is not None)
    own = "instrument on real images: not in this file"
    if r.own:
        score = f"r {fixed(r.own.r, 2)}" if math.isfinite(r.own.r) else f"right {fixed(r.own.accuracy, 2)}"
        own = "NO BETTER THAN GUESSING" if r.doubtful else f"instrument on real images: {score}"
    axis.set_title((r.covariate or "").replace("_", " "), fontsize=FONT, weight="bold", pad=26)
    below = told.replace("-", MINUS)
    axis.text(0.5, 1.11, below, transform=axis.transAxes, ha="center", fontsize=SMALL, color=INK)
    colour = "#9a3412" if r.doubtful else FAINT
    axis.text(0.5, 1.03, own, transform=axis.transAxes, ha="center", fontsize=SMALL - 0.5, color=colour)
    axis.tick_params(labelsize=SMALL, length=2.5)
    axis.grid(color="#e6e6e6", linewidth=0.5)
    axis.set_axisbelow(True)


def _unit(r: Result) -> str:
    return r.own.unit if r.own else ""
