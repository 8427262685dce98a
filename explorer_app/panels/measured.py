"""Measured: what instruments read on the picture, against what was requested; and who is looked at."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path

from imgui_bundle import ImVec2, imgui, imgui_ctx
from imgui_bundle import icons_fontawesome_6 as icons

from explorer_app import theme, widgets
from explorer_app.context import Context
from explorer_app.distribution import TrainingDistribution
from explorer_app.interface import Dialog
from explorer_app.messages import PREDICTOR, Frame
from explorer_app.panels import people
from explorer_app.panels.exporting import csv_button
from explorer_app.stack import head_of
from explorer_app.state import AppState
from explorer_app.tables import Table, of_measured
from explorer_app.theme import em
from mssg.measure.instruments import instrument as oracle
from mssg.measure.instruments import stack_instrument
from mssg.measure.own_error import OwnError
from mssg.rendering.request import RenderRequest
from mssg.study.covariate import Covariate
from mssg.text import fixed, to_scale

_NARROW = 16.0  # a panel narrower than so many lines are high has no room for what is asked
_LARGE = 0.15  # share of the training range beyond which an error is marked


def draw(app: Context, state: AppState) -> AppState:
    """Draw the panel."""
    distribution, frame = app.document.distribution, app.client.measured
    if distribution is None:
        widgets.empty_note("Nothing to measure", "Open a snapshot.")
        return state
    if state.request.layer:
        widgets.wrapped("A layer is shown (Inspect): values are measured on pictures.")
    elif _reads_heads(distribution):
        _head(app, distribution, state)
        if frame is not None and PREDICTOR in (frame.measured or {}):
            _read_off(app, distribution, frame, PREDICTOR)
    elif frame is None:
        widgets.wrapped("measuring …" if app.client.shown else "Waiting for a picture to measure.")
    elif not frame.measured:
        widgets.wrapped(
            "Nothing reads this picture: the study names no oracle. A predictor that `mssg predictors`"
            " trained can."
        )
    else:
        for name in frame.measured:
            _read_off(app, distribution, frame, name)
        csv_button(app, "measured", lambda: _csv(app, distribution, frame))
    state = _predictor(app, state)
    widgets.heading("Over seeds")
    return people.draw(app, state)


@dataclass(frozen=True)
class _Instrument:
    """What reads: its name on the screen, what its readings rest on, its own errors, and whether it was
    learned."""

    name: str
    about: str
    own: tuple[OwnError, ...]
    learned: bool = False

    @staticmethod
    def of(app: Context, name: str) -> _Instrument:
        """Of a frame's readings."""
        if name == PREDICTOR:
            return _Instrument(app.client.predictor.network, _LEARNED, app.client.predictor.errors, True)
        return _Instrument(f"{name} oracle", oracle(name).ABOUT, oracle(name).own_errors())


def _reads_heads(distribution: TrainingDistribution) -> bool:
    """Whether something reads whole heads of this model."""
    return len(distribution.places) > 1 and stack_instrument(distribution.study.instrument) is not None


def _head(app: Context, distribution: TrainingDistribution, state: AppState) -> None:
    """What is read off the whole head that the picture is a slice of; while it changes, off the last one."""
    position, reads = distribution.study.position, stack_instrument(distribution.study.instrument)
    assert position is not None and reads is not None
    places = tuple(distribution.places.tolist())
    wanted = head_of(state.request, position, places)
    reading = app.client.read_head(wanted)
    last = next(reversed(app.client.heads), None)
    if reading is None and (last is None or last.snapshot != wanted.snapshot):
        widgets.wrapped(app.why_not(wanted) or "measuring the head …")
        return
    instrument = _Instrument(f"{distribution.study.instrument}, head", reads.ABOUT, reads.own_errors())
    request = wanted if reading or last is None else last
    reading = reading or app.client.heads[request]
    _table(distribution, request, instrument, reading.values, current=request == wanted)
    widgets.wrapped(f"Read on {reading.first:g} to {reading.last:g} mm.", theme.FAINT)
    if reading.cut:
        widgets.wrapped(
            f"{icons.ICON_FA_TRIANGLE_EXCLAMATION}  The head goes on behind the last slice: volumes are of"
            " the part that the study covers.",
            theme.AMBER,
        )


def _read_off(app: Context, distribution: TrainingDistribution, frame: Frame, name: str) -> None:
    """What an instrument reads off a picture."""
    assert frame.measured is not None and isinstance(frame.request, RenderRequest)
    current = app.client.shown is not None and app.client.shown.request == frame.request
    _table(distribution, frame.request, _Instrument.of(app, name), frame.measured[name], current)


def _table(
    distribution: TrainingDistribution,
    request: RenderRequest,
    instrument: _Instrument,
    values: dict[str, float],
    current: bool,
) -> None:
    asked = dict(request.covariates)
    flags = imgui.TableFlags_.sizing_stretch_prop | imgui.TableFlags_.no_pad_outer_x
    columns = (("", 2.7), ("asked", 1.2), ("read", 2.1), ("error", 1.4))
    if imgui.get_content_region_avail().x < em(_NARROW):
        columns = (columns[0], *columns[2:])  # the sliders show what is asked
    if imgui.begin_table(f"measured by {instrument.name}", len(columns), flags):
        for title, weight in columns:
            imgui.table_setup_column(title, 0, weight)
        imgui.table_next_row()
        for title in (instrument.name, *(title for title, _ in columns[1:])):
            imgui.table_next_column()
            widgets.text(title, theme.FAINT)
            if title == instrument.name:
                widgets.tooltip(instrument.about)
        errors = {known.covariate: known for known in instrument.own}
        for covariate in distribution.study.conditions:
            if covariate.name in values and covariate.name in asked:
                value = values[covariate.name]
                own, wanted = errors.get(covariate.name), asked[covariate.name]
                _row(distribution, covariate, wanted, value, own=own, current=current, wide=len(columns) == 4)
        conditions = distribution.study.condition_names
        for own in instrument.own:
            if own.covariate in values and own.covariate not in conditions:
                _unasked(own, values[own.covariate], current, len(columns) == 4)
        imgui.end_table()
    if instrument.own and not instrument.learned:
        widgets.wrapped(f"± is this oracle's own error. {instrument.about}", theme.FAINT)


def _csv(app: Context, distribution: TrainingDistribution, frame: Frame) -> Table:
    """The tables as one."""
    own = {name: app.errors_of(name) for name in frame.measured or {}}
    assert isinstance(frame.request, RenderRequest)
    return of_measured(distribution.study, frame.request, frame.measured or {}, own)


_LEARNED = (
    "Made from real images to read the covariates; its own error on real images it had not seen is in the"
    " tooltips, beside that of a constant guess. An error not larger than that says nothing about the"
    " generator. What it reads no better than a guess is marked with a question mark."
)


def _row(
    distribution: TrainingDistribution,
    covariate: Covariate,
    asked: float,
    value: float,
    own: OwnError | None,
    current: bool,
    wide: bool,
) -> None:
    """One covariate, with what is asked where it is `wide`; faint while the picture on the screen is a later
    one that has yet to be measured."""
    low, high = distribution.range(covariate.name)
    known = math.isfinite(value)
    if covariate.is_continuous:
        error = value - asked
        large = known and abs(error) > max(_LARGE * (high - low), own.mae if own else 0.0)
        told = "–" if not known else f"{error:+.2f}" if abs(error) < 10 else f"{error:+.1f}"
        tip = f"error {error:+.3g}, {100 * abs(error) / (high - low):.0f} % of the training range"
    else:
        large = known and value != asked
        told = "–" if not known else "other" if large else "same"
        tip = "read as asked or not"
    if own is not None:
        on = own.on if own.on == "phantoms" else "real images"
        tip += f". The instrument's own error on {on}: {own.words()}; {own.verdict}"
    doubtful = own is not None and not own.better
    large = large and not doubtful
    tip = tip if known else f"the instrument finds no {covariate.name} on this picture"
    margin = f" {own.margin}" if own and own.margin else ""
    cells = (
        covariate.format(asked, unit=False),
        (covariate.format(value, unit=False) if known else "–") + margin * known,
        told + (" !" if large else ""),
    )
    imgui.table_next_row()
    imgui.table_next_column()
    widgets.text(covariate.title + (" ?" if doubtful else ""), theme.AMBER if doubtful else theme.TEXT)
    for i, text in list(enumerate(cells))[not wide :]:
        imgui.table_next_column()
        colour = theme.AMBER if large and i == 2 else theme.TEXT
        widgets.text(text, colour if current else theme.FAINT)
        widgets.tooltip(
            f"{covariate.name} in {covariate.unit}: {tip}." if covariate.unit else f"{covariate.name}: {tip}."
        )


def _unasked(own: OwnError, value: float, current: bool, wide: bool) -> None:
    """What is read beside the covariates: nobody asked for a value of it."""
    imgui.table_next_row()
    imgui.table_next_column()
    doubtful, title = not own.better, own.covariate.replace("_", " ")
    widgets.text(title + (" ?" if doubtful else ""), theme.AMBER if doubtful else theme.TEXT)
    is_level = math.isfinite(own.accuracy)
    read = fixed(value, 0) if is_level else f"{to_scale(value, own.mae)} {own.margin}".rstrip()
    for text in (*(["–"] if wide else []), read, ""):
        imgui.table_next_column()
        widgets.text(text, theme.TEXT if current else theme.FAINT)
        unit = f" in {own.unit}" if own.unit else ""
        widgets.tooltip(
            f"{title}{unit}, read only. The instrument's own error: {own.words()}; {own.verdict}."
        )


def _predictor(app: Context, state: AppState) -> AppState:
    """The learned predictor: load one, or put it away."""
    path, loaded = state.analysis.predictor, app.client.predictor
    if not path:
        if imgui.button(f"{icons.ICON_FA_FOLDER_OPEN}  load a predictor…##predictor", ImVec2(-1, 0)):
            app.interface.dialogs.add(Dialog.PREDICTOR)
        widgets.tooltip("A network that `mssg predictors` trained reads the covariates off the picture too.")
        return state
    if loaded.problem:
        widgets.wrapped(loaded.problem, theme.RED)
    elif (
        loaded.errors
        and app.client.shown is not None
        and PREDICTOR not in (app.client.shown.measured or {PREDICTOR: {}})
    ):
        widgets.wrapped("The predictor reads pictures of another size than this model's.", theme.AMBER)
    with imgui_ctx.push_style_color(imgui.Col_.text, theme.vec(theme.DIM)):
        imgui.align_text_to_frame_padding()
        imgui.text_unformatted(Path(path).name)
    widgets.tooltip(path)
    imgui.same_line(imgui.get_content_region_avail().x - em(1.75) + imgui.get_style().window_padding.x)
    if widgets.icon_button(icons.ICON_FA_XMARK, "no predictor", "Put the predictor away."):
        state = replace(state, analysis=replace(state.analysis, predictor=""))
    return state
