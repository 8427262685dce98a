"""Response: does a slider do what it says, here? What an instrument reads on pictures against what was asked,
with its interval over seeds and the line on which both agree."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
from imgui_bundle import ImVec2, imgui, implot

from explorer_app import theme, widgets
from explorer_app.context import Context
from explorer_app.panels.exporting import csv_button
from explorer_app.response import ResponseCurve, ResponsePoint, response_curve, response_points
from explorer_app.state import AppState
from explorer_app.tables import of_response
from explorer_app.theme import em
from mssg.measure.own_error import OwnError
from mssg.study.model import Covariate
from mssg.text import amount, fixed

SEEDS, STEPS = (2, 16), (3, 12)
_ROOMY = (26.0, 16.0)
"""In lines of text: a chart so wide has room for names below it, one so high for a long name beside it."""


def draw(app: Context, state: AppState) -> AppState:
    """Draw the panel."""
    distribution = app.document.distribution
    if distribution is None:
        widgets.empty_note("No snapshot", "Open one to see whether its sliders do what they say.")
        return state
    names = [n for n in app.measurable() if n in distribution.study.condition_names]
    if not names:
        widgets.empty_note(
            "Nothing to measure", "This study names no oracle. A predictor (Measured) can read it."
        )
        return state
    name = state.analysis.response if state.analysis.response in names else names[0]
    held = app.still(state)
    asked = state.analysis.response_steps, state.analysis.response_seeds
    points = response_points(held.request, distribution, name, state.mode, *asked)
    app.client.request((p for point in points for p in point.pictures), measured=True)
    frames = [[app.client.frame(p) for p in point.pictures] for point in points]
    read = [[None if f is None or f.preview else f.reading(name) for f in row] for row in frames]
    curve = response_curve(points, read)
    reader = next(
        (r for row in frames for f in row if f for r, found in (f.measured or {}).items() if name in found),
        "",
    )
    covariate, own = distribution.study.covariate(name), app.errors_of(reader).get(name)
    if imgui.begin_child("response settings", ImVec2(em(14.5), 0)):
        state = _settings(state, names, name)
        _summary(app, covariate, curve, points, reader=reader, own=own, waits=held is not state)
        pictures = [p for point in points for p in point.pictures]
        values = [value for row in read for value in row]
        csv_button(app, "response", lambda: of_response(covariate, reader, list(zip(pictures, values))))
    imgui.end_child()
    imgui.same_line()
    if imgui.begin_child("response plot", ImVec2(0, 0)):
        _plot(app, covariate, curve, reader, own=own, now=state.value(name))
    imgui.end_child()
    return state


def _settings(state: AppState, names: list[str], name: str) -> AppState:
    """Which covariate, at how many values, with how many seeds each."""
    analysis = state.analysis
    name = widgets.combo("##response covariate", names, name, width=-1, called=widgets.human)
    widgets.tooltip("The covariate that is asked for, along x, and read off the pictures, along y.")
    imgui.set_next_item_width(-1)
    clamped = imgui.SliderFlags_.always_clamp
    _, steps = imgui.slider_int("##response values", analysis.response_steps, *STEPS, "%d values", clamped)
    widgets.tooltip("Asked values, evenly spaced over the middle 90 % of the training data.")
    imgui.set_next_item_width(-1)
    _, seeds = imgui.slider_int("##response seeds", analysis.response_seeds, *SEEDS, "%d seeds each", clamped)
    widgets.tooltip("Pictures at each value: this seed and those after it.")
    chosen = replace(analysis, response=name, response_steps=steps, response_seeds=seeds)
    return state if chosen == analysis else replace(state, analysis=chosen)


def _summary(
    app: Context,
    covariate: Covariate,
    curve: ResponseCurve,
    points: tuple[ResponsePoint, ...],
    reader: str,
    own: OwnError | None,
    waits: bool,
) -> None:
    """How far it is, and what it says in numbers."""
    pictures = [p for point in points for p in point.pictures]
    failed = [p for p in pictures if app.why_not(p)]
    there = sum(1 for p in pictures if (f := app.client.frame(p)) is not None and f.measured is not None)
    if failed:
        widgets.wrapped(
            f"{len(failed)} of {len(pictures)} cannot be drawn: {app.why_not(failed[0])}", theme.AMBER
        )
    elif waits:
        widgets.text("paused while values move", theme.DIM)
    elif there < len(pictures):
        widgets.text(f"measuring {there} of {len(pictures)}", theme.DIM)
        widgets.meter(there / len(pictures), theme.ACCENT, 0.3)
    if curve.count > 2 and covariate.is_continuous:
        unit = covariate.unit
        widgets.text(f"slope {fixed(curve.slope, 2)}   |error| {amount(curve.error, unit)}")
        widgets.tooltip(
            "Slope of read on asked: 1 where the slider does what it says. |error|: mean distance of what was"
            f" read from what was asked, over {curve.count} pictures."
        )
    if curve.count < there:
        widgets.text(f"on {there - curve.count} of {there} nothing was found", theme.AMBER)
    if reader:
        known = f" Its own error: {own.words()}; {own.verdict}." if own else " Its own error is not known."
        widgets.wrapped(f"Read by the {app.called(reader)}.{known}", theme.FAINT)
    one = len(points[0].pictures) == 1
    who = "Your image alone: no seeds. " if one else ""
    others = {"linked": "The others follow (linked).", "free": "The others stay (free)."}[app.state.mode]
    widgets.wrapped(f"{who}{others}", theme.FAINT)


def _plot(
    app: Context, covariate: Covariate, curve: ResponseCurve, reader: str, own: OwnError | None, now: float
) -> None:
    """Readings, their mean with its interval, and the line on which both agree with the instrument's own
    error."""
    flags = implot.Flags_.no_menus | implot.Flags_.no_box_select
    room = imgui.get_content_region_avail()
    is_roomy = room.x > em(_ROOMY[0])
    flags |= 0 if is_roomy else implot.Flags_.no_legend
    if not implot.begin_plot("###response", room, flags):
        return
    unit = f" ({covariate.unit})" if covariate.unit else ""
    human, quiet = covariate.title, implot.AxisFlags_.no_highlight
    by = f"read by the {app.called(reader)}" if reader and room.y > em(_ROOMY[1]) else "read"
    implot.setup_axes(f"{human} asked{unit}", f"{by}{unit}", quiet, quiet)
    low, high = (float(v) for v in curve.asked[[0, -1]])
    margin = 0.08 * (high - low) or 0.5
    known = curve.read[np.isfinite(curve.read)]
    ends = (min(low, *known, high), max(low, *known, high)) if known.size else (low, high)
    implot.setup_axes_limits(
        low - margin, high + margin, ends[0] - margin, ends[1] + margin, implot.Cond_.always
    )
    if not covariate.is_continuous:
        for axis in (implot.ImAxis_.x1, implot.ImAxis_.y1):
            levels = [float(i) for i in range(covariate.num_levels)]
            implot.setup_axis_ticks(axis, levels, list(covariate.level_names))
    if is_roomy:
        below = implot.LegendFlags_.outside | implot.LegendFlags_.horizontal
        implot.setup_legend(implot.Location_.south, below)
    line = np.array([low - margin, high + margin])
    if own is not None and math.isfinite(own.mae):
        band = _spec(theme.FAINT, alpha=0.25)
        implot.plot_shaded(f"own error ±{own.mae:.2g}", line, line - own.mae, line + own.mae, band)
    implot.plot_line("as asked", line, line, _spec(theme.DIM))
    _readings(curve)
    implot.plot_inf_lines("now", np.array([now]), _spec(theme.AMBER, alpha=0.7))
    implot.end_plot()
    if not is_roomy:
        widgets.tooltip(
            "Grey line: read as asked; band: the instrument's own error. Dots: pictures; blue line: their"
            " mean with its 95 % interval. Upright: the value now."
        )


def _readings(curve: ResponseCurve) -> None:
    """The pictures, and their mean with its interval."""
    asked = np.broadcast_to(curve.asked[:, None], curve.read.shape)
    there = np.isfinite(curve.read)
    if not there.any():
        return
    dots = _spec(theme.ACCENT, alpha=0.45, size=2.0)
    implot.plot_scatter("pictures", asked[there].copy(), curve.read[there].copy(), dots)
    mean, half = curve.mean, curve.half_width
    shown = np.isfinite(mean)
    implot.plot_line("mean, 95 %", curve.asked[shown], mean[shown], _spec(theme.ACCENT, weight=2.0))
    sure = np.isfinite(half)
    if sure.any():
        bars = _spec(theme.ACCENT, weight=1.5)
        implot.plot_error_bars("mean, 95 %", curve.asked[sure], mean[sure], half[sure], bars)


def _spec(colour: theme.Colour, alpha: float = 1.0, weight: float = 1.0, size: float = 4.0) -> implot.Spec:
    """How something is drawn, in a colour of the theme."""
    spec = implot.Spec()
    spec.line_color = spec.fill_color = theme.vec(colour, alpha)
    spec.marker_fill_color = spec.marker_line_color = theme.vec(colour, alpha)
    spec.line_weight, spec.marker_size = weight, em(size / 15)
    return spec
