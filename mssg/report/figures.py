"""The figures of a report, made with what the project draws anyway."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mssg.inversion.image_reader import grey_or_colour
from mssg.metrics.results import JOINT, Evaluation

if TYPE_CHECKING:
    from mssg.rendering.renderer import Renderer
    from mssg.report.contents import ReportContents

CURVES = 12
"""Panels of training curves: what was measured in training first, then scores and losses."""


def training(stats: Sequence[Mapping[str, Any]]) -> Any:
    """Curves of a run's stats.jsonl; None where fewer than two ticks say anything."""
    from mssg.plotting.evaluation import curves, lines_of_run

    lines = lines_of_run(stats)
    order = sorted(lines, key=lambda title: ("metric/", "score/", "loss/").index(title.split("/")[0] + "/"))
    return curves({title: lines[title] for title in order[:CURVES]}) if lines else None


def obedience(contents: ReportContents) -> Any:
    """Requested against measured, a panel a covariate."""
    from mssg.plotting.obedience import obedience as drawn

    assert contents.evaluation is not None
    levels = {c.name: c.levels for c in contents.renderer.study.conditions}
    return drawn(contents.evaluation, contents.label, levels)


def grid(renderer: Renderer, rows: str, cols: str) -> Any:
    """The paper's Figure 1."""
    from mssg.plotting import image_grid as figures

    return figures.grid(renderer, rows, cols).figure


def counterfactuals(renderer: Renderer, path: Path) -> Any:
    """One image's counterfactuals."""
    from mssg.plotting.counterfactual import counterfactual_figure

    return counterfactual_figure(renderer, path).figure


def leakage(found: Evaluation) -> Any:
    """Matrix: covariate moved by covariate read, a panel for each model."""
    from mssg.plotting import evaluation as charts

    return charts.leakage(found)


def _figure(width: float, height: float) -> Any:
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), facecolor="white", layout="constrained")


def pairs(found: Sequence[tuple[np.ndarray, np.ndarray, float]]) -> Any:
    """Generated images [C, H, W] above their nearest training images; each pair with a ratio of distances."""
    columns = max(1, len(found))
    figure = _figure(0.3 + 0.72 * columns, 1.95)
    axes = figure.subplots(2, columns, squeeze=False)
    for column, (fake, real, ratio) in enumerate(found):
        for axis, image in zip(axes[:, column], (fake, real)):
            axis.imshow(grey_or_colour(image), interpolation="nearest")
        axes[0, column].set_title(f"{ratio:.2f}".replace("inf", "∞"), fontsize=8)
    for axis in axes.flat:
        axis.set_xticks([])
        axis.set_yticks([])
    axes[0, 0].set_ylabel("generated", fontsize=8)
    axes[1, 0].set_ylabel("training", fontsize=8)
    return figure


def heatmaps(found: Evaluation) -> Iterator[tuple[Callable[[], Any], str]]:
    """The paper's Figure 3 for every covariate that has strata scores: (draw, caption)."""
    from mssg.plotting.strata_heatmap import ACCURACY, MAE, heatmap

    doubtful = {r.covariate for r in found.results if r.doubtful}
    scores = [
        r
        for r in found.results
        if r.metric in (MAE, ACCURACY)
        and r.stratum is not None
        and len(r.stratum) <= 3
        and r.covariate not in doubtful
    ]
    for metric, covariate, source in dict.fromkeys((r.metric, r.covariate, r.source) for r in scores):
        what = "Mean absolute error" if metric == MAE else "Share of levels hit"
        whose = "" if source == JOINT else f" of source {source}"
        yield (
            partial(heatmap, found, metric, covariate, source=source),
            (
                f"{what} of {covariate} in each stratum{whose}, models side by side; real: the instrument on"
                " the real images."
            ),
        )
