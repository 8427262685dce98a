"""Scores in strata as a heatmap. No torch.

Source: Lai et al. 2024, figure 3 (docs/method/method.md section 8): one row of panels for each stratum of the
third covariate, one column for each model and the real images last, one colour scale, values printed.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from mssg.errors import UsageError
from mssg.metrics.results import JOINT, REAL, Evaluation, Result
from mssg.metrics.strata_won import BETTER_HIGH
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
    short,
    without_frame,
)
from mssg.text import NONE

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MAE, ACCURACY = "strata/mae", "strata/accuracy"
CELL_INCHES = 0.52
LEFT, RIGHT, TOP, BOTTOM = 0.55, 0.95, 0.78, 0.62
"""Margins in inches."""
GAP = 0.14
"""Inches between panels."""
LETTERS_PER_INCH, LINE_INCHES = 10, 0.17
"""How the title is broken into lines."""


def heatmap(
    found: Evaluation,
    metric: str | None = None,
    covariate: str | None = None,
    reference: str = "requested",
    *,
    source: str | None = None,
    axes: Sequence[str] = (),
) -> Figure:
    """Strata scores: cells are strata of two covariates, rows of panels those of a third, columns the models
    and real images.

    Args:
        found: An evaluation with strata.
        metric: "strata/mae", "strata/pearson", "strata_kid-…", … ("strata_kid-" stands for any features).
            None: the error of a number, the accuracy of what has levels.
        covariate: Which covariate's score; may be left out where there is one only, or none (KID).
        reference: "requested" or "real".
        source: Whose strata, where they were formed within sources.
        axes: Names for columns, rows and panels of cells; default: the last, the one before it, and the
            first.

    Raises:
        UsageError: Nothing of the kind in this evaluation, or more than three covariates form its strata.
    """
    if metric is None:
        kinds = {r.metric for r in found.results if r.covariate == covariate and r.stratum}
        metric = ACCURACY if ACCURACY in kinds else MAE
    results = _strata_results(found, metric, covariate, reference=reference, source=source)
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
    scores = _Scores(
        results=results,
        models=tuple(labels),
        of_real=any(r.model == REAL for r in results),
        columns=columns,
        rows=rows,
        panels=panels,
    )
    doubt = ": READ NO BETTER THAN GUESSING" if any(r.doubtful for r in results) else ""
    return _draw(scores, _title(results[0], reference) + doubt, metric.partition("-")[0].rpartition("/")[2])


@dataclass(frozen=True)
class _Scores:
    """What the heatmap shows.

    Attributes:
        results: Of one metric and covariate, with and without a stratum.
        models: Their labels, in the order of the columns of panels; real images stand last.
        of_real: Whether real images have scores of their own; else their floor stands there.
        columns, rows, panels: Covariates whose strata are laid out so, where there are.
    """

    results: Sequence[Result]
    models: tuple[str, ...]
    of_real: bool
    columns: str | None
    rows: str | None
    panels: str | None

    def side(self, name: str | None) -> list[Any]:
        """The bins or levels of a covariate, ascending; [None] where none is laid out."""
        if name is None:
            return [None]
        seen = {_key(r.stratum)[name] for r in self.results if r.stratum}
        return sorted(seen, key=lambda v: v[0] if isinstance(v, tuple) else v)

    def value(self, label: str, stratum: Mapping[str, Any]) -> float | None:
        """The score of a model, or of the real images, in a stratum; {} for all of them together."""
        floors = label == REAL and not self.of_real
        model = self.models[0] if floors else label
        for r in self.results:
            if r.model == model and _key(r.stratum) == stratum:
                return r.real_floor if floors else r.value
        return None

    def head(self, label: str) -> str:
        """What stands above a column of panels."""
        name = label if label != REAL else "real" if self.of_real else "real (floor)"
        return f"{name}\nmean {short(self.value(label, {}))}"

    def values(self) -> list[float]:
        """Everything that the colour scale must hold."""
        inside = [r for r in self.results if r.stratum]
        found = [r.value for r in inside] + [r.real_floor for r in inside]
        return [v for v in found if v is not None]


def _title(result: Result, reference: str) -> str:
    """What the score is of, its unit, and what it was compared with."""
    title = metric_name(result.metric) + (f" of {result.covariate}" if result.covariate else "")
    if result.unit:
        title += f" ({result.unit})"
    if result.reference:
        asked = reference == "requested"
        title += f", against {'the value requested' if asked else 'the reading of the real image'}"
    if result.source != JOINT:
        title += f", source {result.source}"
    return title


def _strata_results(
    found: Evaluation, metric: str, covariate: str | None, *, reference: str, source: str | None
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


def _key(stratum: Mapping[str, Any] | None) -> dict[str, Any]:
    """A stratum whose bins can be compared: covariate -> (low, high) or a level."""
    return {n: tuple(v) if isinstance(v, list | tuple) else v for n, v in (stratum or {}).items()}


def _draw(scores: _Scores, title: str, stat: str) -> Figure:
    import matplotlib
    from matplotlib.colors import Normalize
    from matplotlib.figure import Figure

    columns, rows, panels = (scores.side(n) for n in (scores.columns, scores.rows, scores.panels))
    labels = (*scores.models, REAL)
    left = LEFT + (0.9 if scores.rows else 0.3)
    cell = max(CELL_INCHES, 1.25 / len(columns))
    width = left + len(labels) * (len(columns) * cell + GAP) + RIGHT
    heading = textwrap.wrap(title, int(width * LETTERS_PER_INCH))
    top = TOP + LINE_INCHES * (len(heading) - 1)
    height = top + len(panels) * (len(rows) * CELL_INCHES * 0.85 + GAP) + BOTTOM
    colours = matplotlib.colormaps["viridis" if stat in BETTER_HIGH else "viridis_r"].with_extremes(bad=EMPTY)
    scale = Normalize(*_range(scores.values(), stat))
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(width, height), dpi=DPI, facecolor="white")
        grid = figure.add_gridspec(
            len(panels),
            len(labels),
            left=left / width,
            right=1 - RIGHT / width,
            top=1 - top / height,
            bottom=BOTTOM / height,
            wspace=0.1,
            hspace=0.12,
        )
        for i, panel in enumerate(panels):
            for j, label in enumerate(labels):
                axis = figure.add_subplot(grid[i, j])
                _panel(axis, _shown(scores, label, panel), colours, scale)
                if i == 0:
                    axis.set_title(scores.head(label), fontsize=FONT, pad=4, linespacing=1.25)
                if j == 0:
                    _label_rows(axis, scores, i)
                if i == len(panels) - 1 and scores.columns:
                    _label_columns(axis, columns)
        place = (1 - 0.8 / width, BOTTOM / height, 0.13 / width, 1 - (top + BOTTOM) / height)
        add_colourbar(figure, place, scale, colours)
        style = {"fontsize": FONT + 1, "weight": "bold", "va": "top", "ha": "left"}
        figure.text(0.02, 1 - 0.1 / height, "\n".join(heading), **style)
        below = scores.columns or ""
        figure.text(0.5, 0.06 / height, below, fontsize=SMALL, va="bottom", ha="center")
    return figure


def _label_rows(axis: Axes, scores: _Scores, panel: int) -> None:
    """What the rows of a panel are, and which stratum of the third covariate the panel is."""
    rows = _bins(scores.side(scores.rows))
    if scores.rows:
        axis.set_yticks(range(len(rows)), rows, fontsize=SMALL)
    third = f"{scores.panels} {_bins(scores.side(scores.panels))[panel]}" if scores.panels else ""
    if scores.panels or scores.rows:
        axis.set_ylabel("\n".join(filter(None, (third, scores.rows or ""))), fontsize=SMALL)


def _label_columns(axis: Axes, columns: Sequence[Any]) -> None:
    axis.set_xticks(
        range(len(columns)), _bins(columns), fontsize=SMALL, rotation=30, rotation_mode="anchor", ha="right"
    )
    axis.tick_params(pad=1)


def _shown(scores: _Scores, label: str, panel: Any) -> np.ndarray:
    """One model's cells in one stratum of the third covariate: [rows, columns], NaN where there is none."""
    rows, columns = scores.side(scores.rows), scores.side(scores.columns)
    shown = np.full((len(rows), len(columns)), math.nan)
    for y, row in enumerate(rows):
        for x, column in enumerate(columns):
            places = ((scores.columns, column), (scores.rows, row), (scores.panels, panel))
            value = scores.value(label, {n: v for n, v in places if n})
            shown[y, x] = math.nan if value is None else value
    return shown


def _panel(axis: Axes, shown: np.ndarray, colours: Any, scale: Any) -> None:
    """Cells [rows, columns] with their values printed."""
    axis.imshow(np.ma.masked_invalid(shown), cmap=colours, norm=scale, aspect="auto", origin="lower")
    for (y, x), value in np.ndenumerate(shown):
        if math.isfinite(value):
            red, green, blue, _ = colours(scale(value))
            dark = 0.299 * red + 0.587 * green + 0.114 * blue < 0.55
            text, ink = short(value), "white" if dark else INK
        else:
            text, ink = NONE, FAINT
        axis.text(x, y, text, ha="center", va="center", fontsize=SMALL, color=ink)
    axis.set_xticks([])
    axis.set_yticks([])
    axis.tick_params(length=0)
    axis.set_xticks(np.arange(shown.shape[1] + 1) - 0.5, minor=True)
    axis.set_yticks(np.arange(shown.shape[0] + 1) - 0.5, minor=True)
    axis.grid(which="minor", color="white", linewidth=1)
    axis.tick_params(which="minor", length=0)
    without_frame(axis)


def _range(values: Sequence[float], stat: str) -> tuple[float, float]:
    """The colour scale: errors start at zero, correlations end at one."""
    finite = [v for v in values if math.isfinite(v)] or [0.0, 1.0]
    if stat in BETTER_HIGH:
        return min(0.0, *finite) if stat == "pearson" else min(finite), max(1.0, *finite)
    low = min(0.0, *finite)
    return low, max(finite) if max(finite) > low else low + 1.0


def _bins(levels: Sequence[Any]) -> list[str]:
    """Bins as text, with as many digits as tell the ends of the narrowest apart; levels as they are."""
    widths = [v[1] - v[0] for v in levels if isinstance(v, tuple) and v[1] > v[0]]
    digits = max(0, math.ceil(-math.log10(min(widths) / 5))) if widths else 0
    texts = [f"{v[0]:.{digits}f} to {v[1]:.{digits}f}" if isinstance(v, tuple) else str(v) for v in levels]
    return [t.replace("-", MINUS) for t in texts]
