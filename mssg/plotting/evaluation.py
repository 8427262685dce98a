"""Charts of an evaluation, as PNG and PDF: strata heatmaps, leakage matrices, curves over training. No torch.

Source: Lai et al. 2024, figure 3 (docs/method.md section 8) for the heatmap: one row of panels for each
stratum of the third covariate, one column for each model and the real images last, one colour scale, values
printed.
"""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mssg.errors import UsageError
from mssg.files import write_atomically
from mssg.metrics.results import JOINT, REAL, Evaluation, Result
from mssg.metrics.tables import metric_name
from mssg.rendering.command_line import private_command

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FORMATS = (".png", ".pdf")
DPI = 200
FONT, SMALL = 9.0, 7.5
INK, FAINT, EMPTY = "#111111", "#666666", "#eeeeee"
BETTER_HIGH = ("pearson", "accuracy", "balanced_accuracy", "f1", "precision", "recall", "density", "coverage")
CELL_INCHES = 0.52
MOST_PANELS = 24
MINUS = "−"
STYLE: dict[Any, Any] = {
    "font.family": "DejaVu Sans",
    "font.size": FONT,
    "text.color": INK,
    "axes.labelcolor": INK,
    "pdf.fonttype": 42,
}


def save(figure: Figure, path: str | Path, found: Evaluation | None = None) -> Path:
    """Write a figure; the same figure gives the same bytes.

    Raises:
        UsageError: Not .png or .pdf, or it cannot be written.
    """
    import matplotlib

    path = Path(path)
    suffix = path.suffix.lower()
    if suffix not in FORMATS:
        raise UsageError(
            "not a figure format", file=path, found=suffix or "no suffix", expected=" | ".join(FORMATS)
        )
    about = (
        ""
        if found is None
        else f"{found.study}, {', '.join(m.snapshot for m in found.models)}: {private_command(found.command)}"
    )
    metadata = {"Title": about} if suffix == ".png" else {"Title": about, "CreationDate": None}
    buffer = io.BytesIO()
    with matplotlib.rc_context(STYLE):
        figure.savefig(buffer, format=suffix[1:], dpi=DPI, metadata=metadata)  # type: ignore[arg-type]
    write_atomically(path, buffer.getvalue(), UsageError)
    return path


def heatmap(
    found: Evaluation,
    metric: str = "strata/mae",
    covariate: str | None = None,
    reference: str = "requested",
    source: str | None = None,
    axes: Sequence[str] = (),
) -> Figure:
    """Strata scores: cells are strata of two covariates, rows of panels those of a third, columns the models
    and real images.

    Args:
        found: An evaluation with strata.
        metric: "strata/mae", "strata/pearson", "strata_kid-…", … ("strata_kid-" stands for any features).
        covariate: Which covariate's score; may be left out where there is one only, or none (KID).
        reference: "requested" or "real".
        source: Whose strata, where they were formed within sources.
        axes: Names for columns, rows and panels of cells; default: the last, the one before it, and the
            first.

    Raises:
        UsageError: Nothing of the kind in this evaluation, or more than three covariates form its strata.
    """
    results = _strata_results(found, metric, covariate, reference, source)
    names = list(next(r.stratum for r in results if r.stratum))
    if len(names) > 3:
        raise UsageError(
            "a heatmap shows strata of up to three covariates",
            found=", ".join(names),
            hint="Evaluate with --by and three names",
        )
    unknown = [a for a in axes if a not in names]
    if unknown:
        raise UsageError("forms no strata here", field=unknown[0], expected=" | ".join(names))
    order = [*axes, *(n for n in (names[-1:] + names[-2:-1] + names[:-2]) if n not in axes)]
    columns, rows, panels = (*order, None, None)[:3]
    labels = [m.label for m in found.models if any(r.model == m.label for r in results)]
    own = any(r.model == REAL for r in results)
    cells = {(r.model, _key(r.stratum)): r for r in results if r.stratum}
    if not own:  # distances have no number of real images alone: their floor stands there
        cells |= {(REAL, _key(r.stratum)): r for r in results if r.stratum and r.model == labels[0]}
    levels = {n: _levels(results, n) for n in names}
    values = [r.value for r in results if r.stratum and r.value is not None]
    values += [r.real_floor for r in results if r.stratum and r.real_floor is not None]
    title = metric_name(results[0].metric) + (
        "" if covariate is None and not results[0].covariate else f" of {results[0].covariate}"
    )
    unit = results[0].unit
    against = (
        f", against {'the value requested' if reference == 'requested' else 'the reading of the real image'}"
    )
    title += (f" ({unit})" if unit else "") + (against if results[0].reference else "")
    titles = []
    for label in [*labels, REAL]:
        mean = [
            r
            for r in results
            if r.stratum is None and r.model == (label if label != REAL or own else labels[0])
        ]
        value = (mean[0].value if label != REAL or own else mean[0].real_floor) if mean else None
        head = label if label != REAL else "real" if own else "real (floor)"
        titles.append(f"{head}\nmean {_short(value)}")
    return _heatmap(
        cells, [*labels, REAL], own, levels, (columns, rows, panels), values, title, titles, metric
    )


def _strata_results(
    found: Evaluation, metric: str, covariate: str | None, reference: str, source: str | None
) -> list[Result]:
    chosen = [r for r in found.find(metric=metric) if r.reference in (reference, "label", None)]
    here = sorted({r.covariate for r in chosen if r.covariate})
    if covariate is None and len(here) > 1:
        raise UsageError("which covariate's score?", field="--covariate", expected=" | ".join(here))
    chosen = [r for r in chosen if covariate is None or r.covariate == covariate]
    sources = sorted({r.source for r in chosen if r.stratum})
    if source is None and len(sources) > 1:
        raise UsageError(
            "strata were formed within each source: whose?", field="--source", expected=" | ".join(sources)
        )
    chosen = [r for r in chosen if source is None or r.source == source]
    if not any(r.stratum for r in chosen):
        there = sorted({r.metric for r in found.results if r.stratum})
        raise UsageError(
            "this evaluation has no such strata scores",
            field=f"{metric}, {covariate or 'any covariate'}",
            found=", ".join(there) or "no strata",
            hint="Make them with `mssg evaluate --metrics strata`",
        )
    return chosen


def _key(stratum: Mapping[str, Any] | None) -> tuple[Any, ...]:
    return tuple((n, tuple(v) if isinstance(v, list | tuple) else v) for n, v in (stratum or {}).items())


def _levels(results: Sequence[Result], name: str) -> list[Any]:
    """The bins or levels of a covariate, ascending."""
    seen = {dict(_key(r.stratum))[name] for r in results if r.stratum}
    return sorted(seen, key=lambda v: v[0] if isinstance(v, tuple) else v)


def _heatmap(
    cells: Mapping[Any, Result],
    labels: list[str],
    own: bool,
    levels: Mapping[str, list[Any]],
    names: tuple[str | None, str | None, str | None],
    values: Sequence[float],
    title: str,
    titles: Sequence[str],
    metric: str,
) -> Figure:
    import matplotlib
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize
    from matplotlib.figure import Figure

    columns, rows, panels = names
    sides = [levels[n] if n else [None] for n in (columns, rows, panels)]
    wide, high = len(labels), len(sides[2])
    cell = max(CELL_INCHES, 1.25 / len(sides[0]))
    tick = 0.9 if rows else 0.3
    width = 0.55 + tick + wide * (len(sides[0]) * cell + 0.14) + 0.95
    top, bottom = 0.78, 0.62
    height = top + high * (len(sides[1]) * CELL_INCHES * 0.85 + 0.14) + bottom
    stat = metric.partition("-")[0].rpartition("/")[2]
    colours = matplotlib.colormaps["viridis" if stat in BETTER_HIGH else "viridis_r"].with_extremes(bad=EMPTY)
    scale = Normalize(*_range(values, stat))
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(width, height), dpi=DPI, facecolor="white")
        grid = figure.add_gridspec(
            high,
            wide,
            left=(0.55 + tick) / width,
            right=1 - 0.95 / width,
            top=1 - top / height,
            bottom=bottom / height,
            wspace=0.1,
            hspace=0.12,
        )
        for i in range(high):
            for j, label in enumerate(labels):
                axis = figure.add_subplot(grid[i, j])
                _panel(axis, cells, label, own, names, sides, sides[2][i], colours, scale)
                if i == 0:
                    axis.set_title(titles[j], fontsize=FONT, pad=4, linespacing=1.25)
                if j == 0 and rows:
                    axis.set_yticks(range(len(sides[1])), _bins(sides[1]), fontsize=SMALL)
                if j == 0 and (panels or rows):
                    axis.set_ylabel(
                        "\n".join(
                            filter(None, (f"{panels} {_bins(sides[2])[i]}" if panels else "", rows or ""))
                        ),
                        fontsize=SMALL,
                    )
                if i == high - 1 and columns:
                    axis.set_xticks(
                        range(len(sides[0])),
                        _bins(sides[0]),
                        fontsize=SMALL,
                        rotation=30,
                        rotation_mode="anchor",
                        ha="right",
                    )
                    axis.tick_params(pad=1)
        bar = figure.add_axes((1 - 0.8 / width, bottom / height, 0.13 / width, 1 - (top + bottom) / height))
        colourbar = figure.colorbar(ScalarMappable(scale, colours), cax=bar)
        colourbar.ax.tick_params(labelsize=SMALL, length=2)
        colourbar.outline.set_visible(False)  # type: ignore[operator]
        figure.text(0.02, 1 - 0.1 / height, title, fontsize=FONT + 1, va="top", ha="left", weight="bold")
        figure.text(0.5, 0.06 / height, columns or "", fontsize=SMALL, va="bottom", ha="center")
    return figure


def _panel(
    axis: Axes,
    cells: Any,
    label: str,
    own: bool,
    names: Any,
    sides: Any,
    panel: Any,
    colours: Any,
    scale: Any,
) -> None:
    """One model's cells in one stratum of the third covariate."""
    columns, rows, panels = names
    shown = np.full((len(sides[1]), len(sides[0])), math.nan)
    for y, row in enumerate(sides[1]):
        for x, column in enumerate(sides[0]):
            wanted = {n: v for n, v in ((columns, column), (rows, row), (panels, panel)) if n}
            match = next((r for (m, key), r in cells.items() if m == label and dict(key) == wanted), None)
            value = None if match is None else match.value if label != REAL or own else match.real_floor
            shown[y, x] = math.nan if value is None else value
    axis.imshow(np.ma.masked_invalid(shown), cmap=colours, norm=scale, aspect="auto", origin="lower")
    for (y, x), value in np.ndenumerate(shown):
        if math.isfinite(value):
            red, green, blue, _ = colours(scale(value))
            dark = 0.299 * red + 0.587 * green + 0.114 * blue < 0.55
            axis.text(
                x, y, _short(value), ha="center", va="center", fontsize=SMALL, color="white" if dark else INK
            )
        else:
            axis.text(x, y, "–", ha="center", va="center", fontsize=SMALL, color=FAINT)
    axis.set_xticks([])
    axis.set_yticks([])
    axis.tick_params(length=0)
    axis.set_xticks(np.arange(shown.shape[1] + 1) - 0.5, minor=True)
    axis.set_yticks(np.arange(shown.shape[0] + 1) - 0.5, minor=True)
    axis.grid(which="minor", color="white", linewidth=1)
    axis.tick_params(which="minor", length=0)
    for spine in axis.spines.values():
        spine.set_visible(False)


def _range(values: Sequence[float], stat: str) -> tuple[float, float]:
    """The colour scale: errors start at zero, correlations end at one."""
    finite = [v for v in values if math.isfinite(v)] or [0.0, 1.0]
    if stat in BETTER_HIGH:
        return min(0.0, *finite) if stat == "pearson" else min(finite), max(1.0, *finite)
    low = min(0.0, *finite)
    return low, max(finite) if max(finite) > low else low + 1.0


def leakage(found: Evaluation, labels: Sequence[str] = ()) -> Figure:
    """Leakage matrices: rows are moved, columns are read; one panel a model, and one for each source where
    they are told apart.

    Raises:
        UsageError: The evaluation has none.
    """
    import matplotlib
    from matplotlib.cm import ScalarMappable
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
    colours = matplotlib.colormaps["RdBu_r"].with_extremes(bad=EMPTY)
    side_w, side_h = 0.78 * len(read), 0.52 * len(moved)
    width, height = 1.25 + len(panels) * (side_w + 0.2) + 0.85, side_h + 1.55
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
            table = {(r.moved, r.covariate): r for r in results if (r.model, r.source) == (label, source)}
            shown = np.array([[_value(table.get((m, c))) for c in read] for m in moved])
            axis.imshow(np.ma.masked_invalid(shown), cmap=colours, vmin=-1.2, vmax=1.2, aspect="auto")
            for (y, x), value in np.ndenumerate(shown):
                if math.isfinite(value):
                    axis.text(
                        x,
                        y,
                        f"{value:.2f}".replace("-", MINUS),
                        ha="center",
                        va="center",
                        fontsize=FONT,
                        color="white" if abs(value) > 0.75 else INK,
                    )
            axis.set_title(label if source == JOINT else f"{label}, {source}", fontsize=FONT, pad=4)
            axis.set_xticks(
                range(len(read)),
                [c.replace("_", " ") for c in read],
                fontsize=SMALL,
                rotation=25,
                rotation_mode="anchor",
                ha="right",
            )
            axis.set_yticks(
                range(len(moved)), [m.replace("_", " ") if j == 0 else "" for m in moved], fontsize=SMALL
            )
            axis.tick_params(length=0, pad=2)
            axis.set_xlabel("reading that moves", fontsize=SMALL)
            if j == 0:
                axis.set_ylabel("covariate that is moved", fontsize=SMALL)
            for spine in axis.spines.values():
                spine.set_visible(False)
        bar = figure.add_axes((1 - 0.68 / width, 0.77 / height, 0.13 / width, 1 - 1.55 / height))
        colourbar = figure.colorbar(ScalarMappable(Normalize(-1.2, 1.2), colours), cax=bar)
        colourbar.ax.tick_params(labelsize=SMALL, length=2)
        colourbar.outline.set_visible(False)  # type: ignore[operator]
        figure.text(0.02, 1 - 0.07 / height, "What else moves", fontsize=FONT + 1, va="top", weight="bold")
        figure.text(
            0.02,
            1 - 0.27 / height,
            "shift of a reading in sd, for one sd of what is moved",
            fontsize=SMALL,
            va="top",
            color=FAINT,
        )
    return figure


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
            x, y = np.asarray(line["kimg"], float), np.asarray(line["value"], float)
            axis.plot(x, y, color="#1f5fa8", linewidth=1.4, marker="o" if len(x) < 30 else "", markersize=2.5)
            if "low" in line:
                axis.fill_between(
                    x,
                    np.asarray(line["low"], float),
                    np.asarray(line["high"], float),
                    color="#1f5fa8",
                    alpha=0.18,
                    linewidth=0,
                )
            floors = np.asarray(line.get("floor", []), float)
            if np.isfinite(floors).any():
                axis.axhline(float(np.nanmean(floors)), color=FAINT, linestyle="--", linewidth=0.9)
                axis.annotate(
                    "real",
                    (1, float(np.nanmean(floors))),
                    xycoords=("axes fraction", "data"),
                    fontsize=SMALL - 1,
                    color=FAINT,
                    ha="right",
                    va="bottom",
                )
            axis.set_title(title, fontsize=FONT - 0.5)
            axis.tick_params(labelsize=SMALL, length=2.5)
            axis.grid(color="#dddddd", linewidth=0.5)
            if i >= len(chosen) - wide:
                axis.set_xlabel("thousand images shown", fontsize=SMALL)
    return figure


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
            r.source if r.source != "joint" else None,
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
    """Losses, scores and validation numbers of a run's stats.jsonl."""
    lines: dict[str, dict[str, list[Any]]] = {}
    for row in rows:
        for key, value in row.items():
            if key.startswith(("loss/", "score/", "metric/")) and isinstance(value, int | float):
                line = lines.setdefault(key, {"kimg": [], "value": []})
                line["kimg"].append(row["kimg"])
                line["value"].append(value)
    return {title: line for title, line in lines.items() if len(line["kimg"]) > 1}


def _value(result: Result | None) -> float:
    return math.nan if result is None or result.value is None else float(result.value)


def _short(value: float | None) -> str:
    """As many digits as a cell holds."""
    if value is None or not math.isfinite(value):
        return "–"
    size = abs(value)
    if size < 5e-4:
        return "0"
    text = (
        f"{value:.0f}"
        if size >= 100
        else f"{value:.1f}"
        if size >= 10
        else f"{value:.2f}"
        if size >= 0.1 or size == 0
        else f"{value:.3f}"
    )
    return text.replace("-", MINUS)


def _bins(levels: Sequence[Any]) -> list[str]:
    """Bins as text, with as many digits as tell the ends of the narrowest apart; levels as they are."""
    widths = [v[1] - v[0] for v in levels if isinstance(v, tuple) and v[1] > v[0]]
    digits = max(0, math.ceil(-math.log10(min(widths) / 5))) if widths else 0
    texts = [f"{v[0]:.{digits}f} to {v[1]:.{digits}f}" if isinstance(v, tuple) else str(v) for v in levels]
    return [t.replace("-", MINUS) for t in texts]
