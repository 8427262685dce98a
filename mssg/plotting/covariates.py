"""Pair plots of observed against sampled covariates, in native units."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from mssg.covariates.goodness_of_fit import FitReport, PairFit, Rows
from mssg.errors import UsageError
from mssg.files import write_atomically
from mssg.study.covariate import Covariate
from mssg.study.model import Study
from mssg.text import to_scale

MOST = 10  # covariates that one figure can show legibly
_OBSERVED, _SAMPLED, _INK, _PALE = "#6b7f99", "#c8553d", "#2b2d33", "#8b8f98"
_POINTS = 1_500
_MASS = (0.95, 0.8, 0.5)  # share of the sampled rows inside each contour
_BINS = 60
_SMOOTHING = 2.2  # bins


def shown(study: Study) -> tuple[Covariate, ...]:
    """The covariates a figure shows: all, or the first ten with continuous ones before discrete ones."""
    ordered = sorted(study.personal, key=lambda c: not c.is_continuous)
    return study.personal if len(study.personal) <= MOST else tuple(ordered[:MOST])


def save_pairs(study: Study, report: FitReport, path: str | Path) -> Path:
    """Draw the matrix of pairs: diagonal the marginals, below it observed against sampled, above it the
    distances.

    Args:
        study: Names, units and levels.
        report: What `describe` returned.
        path: The PNG to write.

    Returns:
        The path.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    covariates = shown(study)
    count = len(covariates)
    figure = Figure(
        figsize=(2.3 * count + 0.9, 2.1 * count + 1.0), dpi=130, facecolor="white", layout="constrained"
    )
    FigureCanvasAgg(figure)
    axes = figure.subplots(count, count, squeeze=False)
    pairs = {frozenset((p.first, p.second)): p for p in report.pairs}
    rng = np.random.default_rng(0)
    for row, y in enumerate(covariates):
        for column, x in enumerate(covariates):
            ax = axes[row, column]
            _plain(ax)
            if row == column:
                ax.set_title(x.name, color=_INK, fontsize=9.5, loc="left")
                _marginal(ax, x, report.rows, study.index(x.name))
            elif row > column:
                _pair(ax, x, y, report.rows, columns=(study.index(x.name), study.index(y.name)), rng=rng)
            else:
                _distance(ax, pairs[frozenset((x.name, y.name))])
            _label(ax, x if row == count - 1 else None, y if column == 0 and row else None)
    _title(figure, study)
    path = Path(path)
    write_atomically(path, lambda file: figure.savefig(file, format=path.suffix[1:]), UsageError)
    return path


def _title(figure: Any, study: Study) -> None:
    from matplotlib.lines import Line2D

    figure.suptitle(
        f"{study.name}: covariates observed and sampled", color=_INK, fontsize=13, x=0.02, ha="left"
    )
    handles = [
        Line2D([], [], marker="o", linestyle="", color=_OBSERVED, markersize=5, label="observed"),
        Line2D([], [], color=_SAMPLED, linewidth=1.8, label="sampled (50, 80, 95 % of the draws inside)"),
        Line2D([], [], linestyle="", label="numbers: energy distance, and what halves of the observed reach"),
    ]
    figure.legend(
        handles=handles, loc="outside lower left", ncols=1, frameon=False, fontsize=9, labelcolor=_INK
    )


def _plain(ax: Any) -> None:
    ax.spines[["top", "right"]].set_visible(False)
    ax.spines[["left", "bottom"]].set_color(_PALE)
    ax.tick_params(labelsize=7.5, colors=_PALE, labelcolor=_INK, length=2.5)


def _label(ax: Any, x: Covariate | None, y: Covariate | None) -> None:
    """Names along the bottom and the left; numbers only there."""
    for covariate, set_label in ((x, ax.set_xlabel), (y, ax.set_ylabel)):
        if covariate is not None:
            unit = f" ({covariate.unit})" if covariate.unit else ""
            set_label(covariate.name + unit, color=_INK, fontsize=9.5)


def _limits(values: np.ndarray) -> tuple[float, float]:
    low, high = np.nanquantile(values, [0.001, 0.999])
    room = 0.1 * (high - low)
    return low - room, high + room


def _marginal(ax: Any, covariate: Covariate, rows: Rows, j: int) -> None:
    seen, drawn = (part[:, 0] for part in rows.comparable(j))
    ax.set_yticks([])
    ax.spines["left"].set_visible(False)
    if covariate.is_continuous:
        limits = _limits(np.concatenate([seen, drawn]))
        edges = _edges(seen, limits)
        ax.hist(seen, bins=edges, density=True, color=_OBSERVED, alpha=0.45)
        ax.hist(drawn, bins=edges, density=True, histtype="step", color=_SAMPLED, linewidth=1.6)
        ax.set_xlim(limits)
        return
    levels = _levels(covariate)
    place = np.arange(len(levels))
    for values, shift, style in (
        (seen, -0.2, {"color": _OBSERVED, "alpha": 0.6}),
        (drawn, 0.2, {"color": _SAMPLED}),
    ):
        share = np.bincount(values.astype(int), minlength=len(levels)) / max(len(values), 1)
        ax.bar(place + shift, share, width=0.38, **style)
    _level_ticks(ax.xaxis, levels)


def _edges(seen: np.ndarray, limits: tuple[float, float]) -> np.ndarray:
    """Edges of about 40 bins; for whole numbers (ages in years) bins of as many whole numbers each."""
    if np.any(seen != np.round(seen)):
        return np.linspace(*limits, 41)
    step = max(1, round((limits[1] - limits[0]) / 40))
    return np.arange(np.floor(limits[0]) - 0.5, limits[1] + step, step)


def _levels(covariate: Covariate) -> tuple[str, ...]:
    return covariate.level_names


def _level_ticks(axis: Any, levels: tuple[str, ...]) -> None:
    axis.set_ticks(range(len(levels)), levels)
    if axis.axis_name == "x" and max(len(name) for name in levels) > 3:
        axis.set_tick_params(rotation=30)


def _pair(
    ax: Any, x: Covariate, y: Covariate, rows: Rows, columns: tuple[int, int], rng: np.random.Generator
) -> None:
    seen, drawn = rows.comparable(*columns)
    seen = seen[rng.permutation(len(seen))[:_POINTS]]
    if not len(seen):
        ax.set_title("sampled only", color=_PALE, fontsize=8, loc="left", pad=2)
    if x.is_continuous and y.is_continuous:
        _clouds(ax, seen, drawn)
    elif x.is_continuous or y.is_continuous:
        _by_level(ax, x if y.is_continuous else y, seen, drawn, upright=y.is_continuous)
    else:
        _bubbles(ax, x, y, seen, drawn)
    for covariate, column, set_limits, axis in (
        (x, columns[0], ax.set_xlim, ax.xaxis),
        (y, columns[1], ax.set_ylim, ax.yaxis),
    ):
        if covariate.is_continuous:
            set_limits(_limits(np.concatenate([rows.observed[:, column], rows.sampled[:, column]])))
        else:
            _level_ticks(axis, _levels(covariate))
            set_limits(-0.6, len(_levels(covariate)) - 0.4)


def _clouds(ax: Any, seen: np.ndarray, drawn: np.ndarray) -> None:
    """Observed rows as dots, sampled ones as contours that hold 50, 80 and 95 % of them."""
    from scipy.ndimage import gaussian_filter

    ax.plot(seen[:, 0], seen[:, 1], ".", color=_OBSERVED, markersize=3.4, alpha=0.5, markeredgewidth=0)
    span = [_limits(np.concatenate([seen[:, k], drawn[:, k]])) for k in (0, 1)]
    density, xs, ys = np.histogram2d(drawn[:, 0], drawn[:, 1], bins=_BINS, range=span)
    density = gaussian_filter(density, _SMOOTHING)
    ranked = np.sort(density.ravel())[::-1]
    inside = np.cumsum(ranked) / max(ranked.sum(), 1e-300)
    levels = np.unique([ranked[np.searchsorted(inside, mass)] for mass in _MASS])
    middle = [0.5 * (edges[1:] + edges[:-1]) for edges in (xs, ys)]
    if levels[0] > 0:
        ax.contour(
            *middle, density.T, levels=levels, colors=_SAMPLED, linewidths=np.linspace(0.9, 1.8, len(levels))
        )


def _by_level(ax: Any, discrete: Covariate, seen: np.ndarray, drawn: np.ndarray, upright: bool) -> None:
    """Median and middle 80 % of a continuous covariate per level: observed and sampled side by side."""
    level, value = (0, 1) if upright else (1, 0)
    for rows, shift, colour in ((seen, -0.15, _OBSERVED), (drawn, 0.15, _SAMPLED)):
        for k in range(len(_levels(discrete))):
            part = rows[rows[:, level] == k, value]
            if len(part) < 3:
                continue
            low, median, high = np.quantile(part, [0.1, 0.5, 0.9])
            line, dot = ([k + shift] * 2, [low, high]), ([k + shift], [median])
            ax.plot(*(line if upright else line[::-1]), color=colour, linewidth=2.2, solid_capstyle="round")
            ax.plot(
                *(dot if upright else dot[::-1]), "o", color="white", markeredgecolor=colour, markersize=3.6
            )


def _bubbles(ax: Any, x: Covariate, y: Covariate, seen: np.ndarray, drawn: np.ndarray) -> None:
    """Shares of the combinations as areas: observed filled, sampled outlined."""
    shape = (len(_levels(x)), len(_levels(y)))
    for rows, style in (
        (seen, {"color": _OBSERVED, "alpha": 0.5, "linewidths": 0}),
        (drawn, {"facecolors": "none", "edgecolors": _SAMPLED, "linewidths": 1.4}),
    ):
        table = np.zeros(shape)
        np.add.at(table, (rows[:, 0].astype(int), rows[:, 1].astype(int)), 1 / max(len(rows), 1))
        i, j = np.nonzero(table)
        ax.scatter(i, j, s=900 * table[i, j], **style)


def _distance(ax: Any, pair: PairFit) -> None:
    """The pair's energy distance over its floor, or that nobody recorded the pair."""
    ax.set_axis_off()
    if pair.distance is None or pair.floor is None:
        text, note, colour = "–", "never recorded\ntogether", _PALE
        if pair.rows:
            note = f"only {pair.rows} rows"
    else:
        text = to_scale(pair.distance, pair.floor)
        note = f"floor {to_scale(pair.floor, pair.floor)}"
        colour = _SAMPLED if pair.is_far else _INK
    ax.text(0.5, 0.56, text, ha="center", va="center", fontsize=15, color=colour, transform=ax.transAxes)
    if pair.observed_r is not None and pair.sampled_r is not None:
        note += f"\nr {pair.observed_r:+.2f}, sampled {pair.sampled_r:+.2f}"
    ax.text(0.5, 0.42, note, ha="center", va="top", fontsize=8.5, color=_PALE, transform=ax.transAxes)
