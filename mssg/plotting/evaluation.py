"""Charts of an evaluation, as PNG and PDF: leakage matrices and curves over training. No torch."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from textwrap import fill
from typing import TYPE_CHECKING, Any

import numpy as np

from mssg.errors import UsageError
from mssg.metrics.results import JOINT, Evaluation, Result
from mssg.metrics.tables import metric_name
from mssg.plotting.chart_style import (
    DPI,
    EMPTY,
    FAINT,
    FONT,
    INK,
    MINUS,
    SMALL,
    STYLE,
    add_colourbar,
    without_frame,
)
from mssg.runs.rows import instruments, marked

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST_PANELS = 24
TITLE_WIDTH = 42
"""Characters of a panel's title in one line."""
MOST_SHIFT = 1.2
"""End of the colour scale of leakage, in standard deviations."""
LINE = "#1f5fa8"


def leakage(found: Evaluation, labels: Sequence[str] = ()) -> Figure:
    """Leakage matrices: rows are moved, columns are read; one panel a model, and one for each source where
    they are told apart.

    Raises:
        UsageError: The evaluation has none.
    """
    import matplotlib
    from matplotlib.colors import Normalize
    from matplotlib.figure import Figure

    results = found.find(metric="leakage")
    chosen = [m.label for m in found.models if not labels or m.label in labels]
    panels = list(dict.fromkeys((r.model, r.source) for label in chosen for r in results if r.model == label))
    if not panels:
        raise UsageError(
            "this evaluation has no leakage matrix", hint="Make it with `mssg evaluate --metrics leakage`"
        )
    moved = list(dict.fromkeys(r.moved or "" for r in results))
    read = list(dict.fromkeys(r.covariate or "" for r in results))
    doubtful = {r.covariate for r in results if r.doubtful}
    names = [f"{name} ?" if name in doubtful else name for name in read]
    colours = matplotlib.colormaps["RdBu_r"].with_extremes(bad=EMPTY)
    width = 1.25 + len(panels) * (0.78 * len(read) + 0.2) + 0.85
    height = 0.52 * len(moved) + 1.55
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(width, height), dpi=DPI, facecolor="white")
        grid = figure.add_gridspec(
            1,
            len(panels),
            left=1.25 / width,
            right=1 - 0.85 / width,
            top=1 - 0.78 / height,
            bottom=0.77 / height,
            wspace=0.08,
        )
        for j, (label, source) in enumerate(panels):
            axis = figure.add_subplot(grid[0, j])
            own = {(r.moved, r.covariate): r for r in results if (r.model, r.source) == (label, source)}
            _matrix(axis, np.array([[_value(own.get((m, c))) for c in read] for m in moved]), colours)
            axis.set_title(label if source == JOINT else f"{label}, {source}", fontsize=FONT, pad=4)
            _name_sides(axis, names, moved if j == 0 else [""] * len(moved))
        place = (1 - 0.68 / width, 0.77 / height, 0.13 / width, 1 - 1.55 / height)
        add_colourbar(figure, place, Normalize(-MOST_SHIFT, MOST_SHIFT), colours)
        figure.text(0.02, 1 - 0.07 / height, "What else moves", fontsize=FONT + 1, va="top", weight="bold")
        below = "shift of a reading in sd, for one sd of what is moved"
        figure.text(0.02, 1 - 0.27 / height, below, fontsize=SMALL, va="top", color=FAINT)
    return figure


def _matrix(axis: Axes, shown: np.ndarray, colours: Any) -> None:
    """Shifts [moved, read] with their values printed."""
    axis.imshow(np.ma.masked_invalid(shown), cmap=colours, vmin=-MOST_SHIFT, vmax=MOST_SHIFT, aspect="auto")
    for (y, x), value in np.ndenumerate(shown):
        if math.isfinite(value):
            text, ink = f"{value:.2f}".replace("-", MINUS), "white" if abs(value) > 0.75 else INK
            axis.text(x, y, text, ha="center", va="center", fontsize=FONT, color=ink)


def _name_sides(axis: Axes, read: Sequence[str], moved: Sequence[str]) -> None:
    """Names of columns and rows; rows without names belong to the panel beside."""
    axis.set_xticks(
        range(len(read)),
        [c.replace("_", " ") for c in read],
        fontsize=SMALL,
        rotation=25,
        rotation_mode="anchor",
        ha="right",
    )
    axis.set_yticks(range(len(moved)), [m.replace("_", " ") for m in moved], fontsize=SMALL)
    axis.tick_params(length=0, pad=2)
    axis.set_xlabel("reading that moves", fontsize=SMALL)
    if any(moved):
        axis.set_ylabel("covariate that is moved", fontsize=SMALL)
    without_frame(axis)


def curves(lines: Mapping[str, Mapping[str, Sequence[Any]]], wanted: Sequence[str] = ()) -> Figure:
    """Numbers over training, one panel a number.

    Args:
        lines: Panel title -> {"kimg": [n], "value": [n]} and, where there are, "low", "high" (interval) and
            "floor".
        wanted: Parts of titles; only panels that contain one are drawn.

    Raises:
        UsageError: Nothing to draw.
    """
    import matplotlib
    from matplotlib.figure import Figure

    chosen = {t: v for t, v in lines.items() if not wanted or any(w.lower() in t.lower() for w in wanted)}
    if not chosen:
        raise UsageError(
            "no such number over training",
            field=", ".join(wanted) or None,
            expected=" | ".join(lines) or "snapshots at several kimg (`mssg evaluate RUN --all-snapshots`)",
        )
    if len(chosen) > MOST_PANELS:
        raise UsageError(
            "too many panels",
            found=len(chosen),
            expected=f"{MOST_PANELS} at most",
            hint=f"Choose with --metric: {', '.join(list(chosen)[:20])}",
        )
    wide = min(3, len(chosen))
    high = math.ceil(len(chosen) / wide)
    open_sides: dict[Any, Any] = {"axes.spines.top": False, "axes.spines.right": False}
    with matplotlib.rc_context(STYLE | open_sides):
        figure = Figure(
            figsize=(2.6 * wide + 0.2, 1.95 * high + 0.3), dpi=DPI, facecolor="white", layout="constrained"
        )
        for i, (title, line) in enumerate(chosen.items()):
            axis = figure.add_subplot(high, wide, i + 1)
            _curve(axis, line)
            axis.set_title(fill(title, TITLE_WIDTH), fontsize=FONT - 0.5)
            axis.tick_params(labelsize=SMALL, length=2.5)
            axis.grid(color="#dddddd", linewidth=0.5)
            if i >= len(chosen) - wide:
                axis.set_xlabel("thousand images shown", fontsize=SMALL)
    return figure


def _curve(axis: Axes, line: Mapping[str, Sequence[Any]]) -> None:
    """A number over training, its interval, and the floor between real images."""
    x, y = np.asarray(line["kimg"], float), np.asarray(line["value"], float)
    axis.plot(x, y, color=LINE, linewidth=1.4, marker="o" if len(x) < 30 else "", markersize=2.5)
    if "low" in line:
        low, high = np.asarray(line["low"], float), np.asarray(line["high"], float)
        axis.fill_between(x, low, high, color=LINE, alpha=0.18, linewidth=0)
    floors = np.asarray(line.get("floor", []), float)
    if np.isfinite(floors).any():
        floor = float(np.nanmean(floors))
        axis.axhline(floor, color=FAINT, linestyle="--", linewidth=0.9)
        axis.annotate(
            "real",
            (1, floor),
            xycoords=("axes fraction", "data"),
            fontsize=SMALL - 1,
            color=FAINT,
            ha="right",
            va="bottom",
        )


def lines_of_evaluation(found: Evaluation) -> dict[str, dict[str, list[Any]]]:
    """What changes over the snapshots of a run: numbers of the whole split, by kimg."""
    kimg = {m.label: m.kimg for m in found.models}
    lines: dict[str, dict[str, list[Any]]] = {}
    for r in sorted((r for r in found.results if r.model in kimg), key=lambda r: kimg[r.model]):
        if r.stratum is not None or r.metric == "leakage" or r.reference == "real" or r.value is None:
            continue
        parts = [
            metric_name(r.metric),
            r.covariate,
            f"design {r.design}" if r.design else None,
            r.source if r.source != JOINT else None,
            "(no better than guessing)" if r.doubtful else None,
        ]
        line = lines.setdefault(
            " ".join(p for p in parts if p) + (f" [{r.unit}]" if r.unit else ""),
            {k: [] for k in ("kimg", "value", "low", "high", "floor")},
        )
        spread = (r.value - r.sd, r.value + r.sd) if r.sd is not None else (r.value, r.value)
        low, high = r.ci95 if r.ci95 and None not in r.ci95 else spread
        for key, value in zip(line, (kimg[r.model], r.value, low, high, r.real_floor)):
            line[key].append(math.nan if value is None else value)
    return {title: line for title, line in lines.items() if len(set(line["kimg"])) > 1}


def lines_of_run(rows: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, list[Any]]]:
    """Losses, scores and validation numbers of a run's stats.jsonl; what was read no better than guessing is
    marked."""
    lines: dict[str, dict[str, list[Any]]] = {}
    for row in rows:
        known = instruments(row)
        for key, value in row.items():
            if key.startswith(("loss/", "score/", "metric/")) and isinstance(value, int | float):
                line = lines.setdefault(marked(key, known), {"kimg": [], "value": []})
                line["kimg"].append(row["kimg"])
                line["value"].append(value)
    return {title: line for title, line in lines.items() if len(line["kimg"]) > 1}


def _value(result: Result | None) -> float:
    return math.nan if result is None or result.value is None else float(result.value)
