"""Strata: heatmaps of a metric over strata of the covariates, from an eval.json or computed live."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from imgui_bundle import ImVec2, imgui
from imgui_bundle import icons_fontawesome_6 as icons

from explorer_app import colormaps, theme, widgets
from explorer_app.context import Context
from explorer_app.distribution import TrainingDistribution
from explorer_app.evaluation import Edges, StrataTable, StratumCell, live_requests
from explorer_app.interface import Dialog
from explorer_app.messages import Frame
from explorer_app.panels import exporting
from explorer_app.state import AppState, set_values
from explorer_app.tables import of_strata
from explorer_app.theme import em, u32
from mssg.text import number


def draw(app: Context, state: AppState) -> AppState:
    """Draw the panel."""
    distribution = app.document.distribution
    if distribution is None:
        widgets.empty_note("No snapshot", "Open one, then load an evaluation or measure the model live.")
        return state
    if imgui.begin_child("strata settings", ImVec2(em(12.5), 0)):
        state = _settings(app, state, distribution)
    imgui.end_child()
    imgui.same_line()
    scrolled = imgui.WindowFlags_.horizontal_scrollbar
    if imgui.begin_child("strata maps", ImVec2(0, 0), 0, scrolled):
        table = _live(app, state, distribution) if state.analysis.strata_live else _loaded(app, state)
        if table is None:
            widgets.empty_note(
                "No evaluation loaded",
                "Load a JSON that `mssg evaluate` wrote, or choose a measured covariate and measure this"
                " model live.",
            )
        else:
            exporting.csv_button(app, "strata", lambda: of_strata(table))
            state = _maps(state, distribution, table)
    imgui.end_child()
    return state


def _settings(app: Context, state: AppState, distribution: TrainingDistribution) -> AppState:
    analysis = state.analysis
    if imgui.button(f"{icons.ICON_FA_FOLDER_OPEN}  load evaluation…##strata", ImVec2(-1, 0)):
        app.interface.dialogs.add(Dialog.EVALUATION)
    widgets.tooltip("Load an eval.json.")
    measured = list(app.measurable())
    live = analysis.strata_live
    if app.document.tables:
        source = widgets.segmented("strata source", ("file", "live"), "live" if live else "file")
        live = source == "live"
    elif measured:
        _, live = imgui.checkbox("measure live##strata", live)
        widgets.tooltip("Measure this model's pictures with the study's instrument, stratum by stratum.")
    if not live and app.document.tables:
        names = [t.metric for t in app.document.tables]
        metric = widgets.combo(
            "##strata table",
            names,
            analysis.strata_metric if analysis.strata_metric in names else names[0],
            width=-1,
            called=widgets.human,
        )
        return replace(state, analysis=replace(analysis, strata_live=False, strata_metric=metric))
    if not measured:
        widgets.wrapped(
            "This study names no instrument, so nothing can be measured live; a learned predictor (Measured)"
            " can."
        )
        return replace(state, analysis=replace(analysis, strata_live=False))
    if live:
        analysis = _live_settings(distribution, analysis, measured)
    return replace(state, analysis=replace(analysis, strata_live=live))


def _live_settings(distribution: TrainingDistribution, analysis, measured: list[str]):
    names = [c.name for c in distribution.study.conditions]
    metric = analysis.strata_metric if analysis.strata_metric in measured else measured[0]
    first, second = names[0], names[min(1, len(names) - 1)]
    values = {
        "rows": analysis.strata_rows or second,
        "columns": analysis.strata_columns or first,
        "panel": analysis.strata_panel,
    }
    imgui.align_text_to_frame_padding()
    widgets.text("error of", theme.DIM)
    imgui.same_line(em(4.4))
    metric = widgets.combo("##strata metric", measured, metric, width=-1, called=widgets.human)
    widgets.tooltip("Mean absolute difference between the requested and the measured value, in its unit.")
    for key, title in (("rows", "rows"), ("columns", "columns"), ("panel", "panels")):
        imgui.align_text_to_frame_padding()
        widgets.text(title, theme.DIM)
        imgui.same_line(em(4.4))
        options = [n for n in names if n not in values.values() or n == values[key]]
        options = ["", *options] if key == "panel" else options
        values[key] = widgets.combo(f"##strata {key}", options, values[key], width=-1, called=widgets.human)
    imgui.align_text_to_frame_padding()
    widgets.text("images", theme.DIM)
    imgui.same_line(em(4.4))
    imgui.set_next_item_width(-1)
    _, count = imgui.slider_int(
        "##strata images", analysis.strata_images, 1, 16, "%d a cell", imgui.SliderFlags_.always_clamp
    )
    return replace(
        analysis,
        strata_metric=metric,
        strata_rows=values["rows"],
        strata_columns=values["columns"],
        strata_panel=values["panel"],
        strata_images=count,
    )


def _loaded(app: Context, state: AppState) -> StrataTable | None:
    if not app.document.tables:
        return None
    return next(
        (t for t in app.document.tables if t.metric == state.analysis.strata_metric), app.document.tables[0]
    )


def _live(app: Context, state: AppState, distribution: TrainingDistribution) -> StrataTable | None:
    strata = live_requests(state.request, state.analysis, distribution)
    metric = state.analysis.strata_metric
    if not strata or not metric:
        return None
    app.client.request((p for pictures in strata.values() for p in pictures), measured=True)
    cells = []
    for stratum, pictures in strata.items():
        frames = [f for p in pictures if (f := app.client.frame(p)) is not None]
        errors = [
            _error(distribution, metric, f, value) for f in frames if (value := f.reading(metric)) is not None
        ]
        cells.append(StratumCell(stratum, float(np.mean(errors)) if errors else math.nan, len(errors)))
    analysis = state.analysis
    covariate = distribution.study.covariate(metric)
    return StrataTable(
        (
            f"mean |error| of {metric} ({covariate.unit or 'native units'})"
            if covariate.is_continuous
            else f"share of {metric} read otherwise than asked"
        ),
        analysis.strata_rows,
        analysis.strata_columns,
        analysis.strata_panel,
        cells=tuple(cells),
    )


def _error(distribution: TrainingDistribution, metric: str, frame: Frame, value: float) -> float:
    """Distance between what was read and what was asked; for levels 0 or 1."""
    asked = dict(frame.request.covariates)[metric]
    return abs(value - asked) if distribution.study.covariate(metric).is_continuous else float(value != asked)


def _edges(distribution: TrainingDistribution, name: str, edges: Edges | None) -> str:
    if edges is None or name not in distribution.study.condition_names:
        return "all" if edges is None or math.isinf(edges[0]) else f"{number(edges[0])}–{number(edges[1])}"
    covariate = distribution.study.covariate(name)
    if edges[0] == edges[1]:
        return covariate.format(edges[0])
    return f"{covariate.format(edges[0], unit=False)}–{covariate.format(edges[1], unit=False)}"


def _maps(state: AppState, distribution: TrainingDistribution, table: StrataTable) -> AppState:
    panels = table.panels()
    values = np.array([c.value for c in table.cells])
    finite = values[np.isfinite(values)]
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 1.0)
    _heading(table)
    region, corner = imgui.get_content_region_avail(), imgui.get_cursor_screen_pos()
    bar, gap, top = em(3.4), em(0.5), em(1.2) + (em(1.1) if table.panel else 0)
    rows, columns = panels[0][1], panels[0][2]
    left = max(imgui.calc_text_size(_edges(distribution, table.rows, e)).x for e in rows) + em(0.5)
    width = (region.x - bar - left - gap * len(panels)) / len(panels)
    cell = ImVec2(
        max(em(1.95), min(em(5.5), width / len(columns))),
        max(em(1.3), min(em(2.6), (region.y - top) / len(rows))),
    )
    draw = imgui.get_window_draw_list()
    labels = [_edges(distribution, table.rows, edges) for edges in rows]
    _row_labels(labels, ImVec2(corner.x + left - em(0.35), corner.y + top), cell.y)
    for k, (edges, _, _, grid, placed) in enumerate(panels):
        x = corner.x + left + k * (cell.x * len(columns) + gap)
        if table.panel:
            draw.add_text(
                ImVec2(x, corner.y),
                u32(theme.TEXT),
                f"{table.panel} {_edges(distribution, table.panel, edges)}",
            )
        _column_labels(distribution, table, columns, ImVec2(x, corner.y + top - em(1.15)), width=cell.x)
        for (i, j), value in np.ndenumerate(grid):
            place = ImVec2(x + j * cell.x, corner.y + top + i * cell.y)
            square, stratum = _Square(place, cell, f"stratum {k} {i} {j}"), placed.get((i, j))
            waits = stratum is not None and stratum.count == 0 and state.analysis.strata_live
            square.paint(float(value) if stratum else math.nan, (low, high), "…" if waits else "–")
            clicked = imgui.invisible_button(square.key, cell)
            if stratum is not None:
                if imgui.is_item_hovered():
                    square.tell(distribution, table, stratum)
                state = _at_centre(state, distribution, stratum) if clicked else state
    used = left + len(panels) * (cell.x * len(columns) + gap)
    _scale(ImVec2(corner.x + used, corner.y + top), len(rows) * cell.y, low, high)
    imgui.set_cursor_screen_pos(corner)
    imgui.dummy(ImVec2(used + bar, top + len(rows) * cell.y))
    return state


def _heading(table: StrataTable) -> None:
    unit = f" ({table.unit})" if table.unit else ""
    widgets.text(f"{table.metric}{unit}   {table.rows} ↓  {table.columns} →", theme.DIM)
    if table.about:
        imgui.same_line()
        widgets.text(f"{icons.ICON_FA_CIRCLE_EXCLAMATION} {table.about}", theme.AMBER)


def _row_labels(labels: Sequence[str], right: ImVec2, height: float) -> None:
    """A label beside each row; `right`: the upper right corner of the first."""
    down = (height - imgui.get_text_line_height()) / 2
    for i, label in enumerate(labels):
        at = ImVec2(right.x - imgui.calc_text_size(label).x, right.y + i * height + down)
        imgui.get_window_draw_list().add_text(at, u32(theme.DIM), label)


def _column_labels(
    distribution: TrainingDistribution, table: StrataTable, columns: list[Edges], at: ImVec2, width: float
) -> None:
    """Every column's edges where there is room for them, else the first and the last edge of all."""
    draw, labels = imgui.get_window_draw_list(), [_edges(distribution, table.columns, c) for c in columns]
    sizes = [imgui.calc_text_size(label).x for label in labels]
    if max(sizes) < width or len(columns) == 1:
        for j, (label, size) in enumerate(zip(labels, sizes)):
            draw.add_text(ImVec2(at.x + j * width + (width - size) / 2, at.y), u32(theme.DIM), label)
        return
    first = _edges(distribution, table.columns, (columns[0][0], columns[0][0]))
    last = _edges(distribution, table.columns, (columns[-1][1], columns[-1][1]))
    known = table.columns in distribution.study.condition_names
    unit = f" {distribution.study.covariate(table.columns).unit}" if known else " "
    first, last, room = first.removesuffix(unit), last.removesuffix(unit), len(columns) * width
    draw.add_text(at, u32(theme.DIM), first)
    draw.add_text(ImVec2(at.x + room - imgui.calc_text_size(last).x, at.y), u32(theme.DIM), last)


@dataclass(frozen=True)
class _Square:
    """Where a stratum is shown."""

    at: ImVec2
    size: ImVec2
    key: str

    @property
    def end(self) -> ImVec2:
        return ImVec2(self.at.x + self.size.x - 1, self.at.y + self.size.y - 1)

    def paint(self, value: float, span: tuple[float, float], otherwise: str) -> None:
        """Draw a value as a colour of the span and as text; `otherwise` where there is none."""
        draw = imgui.get_window_draw_list()
        if math.isfinite(value):
            t = (value - span[0]) / max(span[1] - span[0], 1e-12)
            colour = colormaps.table("viridis")[int(255 * min(1.0, max(0.0, t)))] / 255
            draw.add_rect_filled(self.at, self.end, u32(tuple(colour), 0.85))
            fits = imgui.calc_text_size(f"{value:.3g}").x <= self.size.x - 2
            text = f"{value:.3g}" if fits else f"{value:.2g}"
            ink = (0.05, 0.05, 0.06) if colour.mean() > 0.52 else (0.97, 0.97, 0.98)
        else:
            draw.add_rect_filled(self.at, self.end, u32(theme.FRAME, 0.5))
            text, ink = otherwise, theme.FAINT
        x = self.at.x + (self.size.x - imgui.calc_text_size(text).x) / 2
        y = self.at.y + (self.size.y - imgui.get_text_line_height()) / 2
        draw.add_text(ImVec2(x, y), u32(ink), text)
        imgui.set_cursor_screen_pos(self.at)

    def tell(self, distribution: TrainingDistribution, table: StrataTable, stratum: StratumCell) -> None:
        """Frame it, and say what it is beside the mouse."""
        imgui.get_window_draw_list().add_rect(self.at, self.end, u32(theme.TEXT), thickness=1.5)
        lines = [f"{name}  {_edges(distribution, name, edges)}" for name, edges in stratum.stratum]
        click = "Click to set the sliders to this stratum."
        widgets.tooltip("\n".join([*lines, *_numbers(table, stratum), click]))


def _at_centre(state: AppState, distribution: TrainingDistribution, stratum: StratumCell) -> AppState:
    known = {n: v for n, v in stratum.centre.items() if n in distribution.study.condition_names}
    return set_values(state, **known)


def _numbers(table: StrataTable, cell: StratumCell) -> list[str]:
    """What is known of a cell, line by line."""
    unit = f" {table.unit}" if table.unit else ""
    lines = [f"{table.metric}: {number(cell.value)}{unit}"]
    if cell.interval is not None:
        lines.append("95 % interval {} to {}".format(*map(number, cell.interval)))
    if cell.floor is not None:
        lines.append(f"between real images: {number(cell.floor)}")
    count = f"{cell.count} images"
    return [*lines, count if cell.real is None else f"{count}, {cell.real} real ones in the stratum"]


def _scale(at: ImVec2, tall: float, low: float, high: float) -> None:
    """The colour scale all panels share."""
    draw, table, width = imgui.get_window_draw_list(), colormaps.table("viridis"), em(0.7)
    for i in range(32):
        colour = tuple(table[255 - int(i / 31 * 255)] / 255)
        draw.add_rect_filled(
            ImVec2(at.x, at.y + tall * i / 32),
            ImVec2(at.x + width, at.y + tall * (i + 1) / 32 + 1),
            u32(colour, 0.85),
        )
    draw.add_text(ImVec2(at.x + width + em(0.3), at.y - em(0.2)), u32(theme.DIM), number(high))
    draw.add_text(ImVec2(at.x + width + em(0.3), at.y + tall - em(0.9)), u32(theme.DIM), number(low))
