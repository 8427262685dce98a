"""Regions: distances and areas drawn on the picture, and what the oracle takes for what, outlined."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from imgui_bundle import ImVec2, imgui
from imgui_bundle import icons_fontawesome_6 as icons

from explorer_app import theme, widgets
from explorer_app.comparison import Part
from explorer_app.context import Context
from explorer_app.geometry import View, pixel_size
from explorer_app.interface import Dialog, ExportForm
from explorer_app.overlay import COLOURS, Region, Stroke, area_in_words, read
from explorer_app.panels.exporting import csv_button
from explorer_app.state import MARK_KINDS, AppState, Mark, set_mark
from explorer_app.tables import of_marks
from explorer_app.theme import em, u32

ICONS = (icons.ICON_FA_RULER_HORIZONTAL, icons.ICON_FA_VECTOR_SQUARE, icons.ICON_FA_CIRCLE_DOT)
TIPS = (
    "Left drag measures a distance. Drag an end to move it.",
    "Left drag measures a rectangle: mean ± standard deviation of its grey levels, and its area.",
    "Left drag measures an ellipse: mean ± standard deviation of its grey levels, and its area.",
)
_NEAR = 0.6  # of an end, in units of the text's height


def draw(app: Context, state: AppState) -> AppState:
    """Draw the panel."""
    frame = app.client.shown
    if app.document.distribution is None or frame is None:
        widgets.empty_note("Nothing to measure", "Open a snapshot.")
        return state
    for kind, icon, tip in zip(MARK_KINDS, ICONS, TIPS):
        if widgets.icon_button(icon, f"mark {kind}", tip, app.interface.tool == kind):
            app.interface.tool = "pan" if app.interface.tool == kind else kind
        imgui.same_line(0, em(0.2))
    imgui.begin_disabled(not state.marks)
    if imgui.button("clear##marks"):
        state = replace(state, marks=())
    imgui.end_disabled()
    widgets.tooltip("Put all marks away." if state.marks else "There are no marks: choose a kind and drag.")
    parts, _ = app.parts(frame)
    if state.marks:
        imgui.same_line()
        csv_button(app, "marks", lambda: of_marks(state.marks, parts))
    for i, mark in enumerate(state.marks):
        if widgets.icon_button(icons.ICON_FA_XMARK, f"no mark {i}", "Put this mark away."):
            state = set_mark(state, i, None)
        for part in parts:
            imgui.same_line()
            widgets.text(f"{part.label}  " if len(parts) > 1 else f"{i + 1}", theme.DIM)
            imgui.same_line()
            widgets.text(read(mark, part).text)
            widgets.tooltip(_about(mark, part))
    return _outlined(app, state, parts[0]) if parts else state


def _about(mark: Mark, part: Part) -> str:
    reading = read(mark, part)
    if mark.kind == "distance":
        return "A distance in the picture's plane."
    what = "differences" if part.is_difference else "grey levels"
    inside = f"of {reading.pixels} pixels, those whose middle lies inside the {mark.kind}"
    return f"Mean ± standard deviation of the {what} {inside}; its area."


def _outlined(app: Context, state: AppState, part: Part) -> AppState:
    """The oracle's regions of the first picture looked at."""
    assert app.document.distribution is not None
    oracle = app.document.distribution.study.instrument
    widgets.heading(f"What the {oracle} oracle sees" if oracle else "What an oracle sees")
    if not oracle:
        widgets.wrapped("The study names no oracle: nothing outlines this picture.")
        return state
    _, on = imgui.checkbox("outline##regions", state.display.outlines)
    widgets.tooltip("Draw the borders of what the oracle measures over the picture.")
    state = replace(state, display=replace(state.display, outlines=on))
    if not on:
        return state
    found = app.regions(part)
    if found is None:
        widgets.text("looking", theme.DIM)
        return state
    if not found:
        widgets.wrapped("It finds nothing it knows on this picture.")
        return state
    imgui.same_line()
    if imgui.button(f"{icons.ICON_FA_DOWNLOAD}  export…##regions"):
        app.interface.export = ExportForm("regions", "regions.csv")
        app.interface.dialogs.add(Dialog.EXPORT)
    for i, region in enumerate(found):
        _legend(region, i, part)
    return state


def _legend(region: Region, index: int, part: Part) -> None:
    corner, line = imgui.get_cursor_screen_pos(), imgui.get_text_line_height()
    colour = u32(COLOURS[index % len(COLOURS)])
    end = ImVec2(corner.x + em(0.8), corner.y + line * 0.8)
    imgui.get_window_draw_list().add_rect_filled(ImVec2(corner.x, corner.y + line * 0.2), end, colour)
    imgui.dummy(ImVec2(em(0.8), line))
    imgui.same_line()
    widgets.text(region.name)
    pixel, unit = pixel_size(part.geometry)
    widgets.right_text(area_in_words(region.area(pixel), unit))


def drag(app: Context, state: AppState, view: View, active: bool) -> AppState:
    """Draw a mark, or move an end of one, while the left button is held on the picture.

    Args:
        view: Where the picture's pixels are.
        active: Whether the picture is held.
    """
    kind, mouse = app.interface.tool, imgui.get_io().mouse_pos
    if kind not in MARK_KINDS:
        return state
    column, row = view.to_image(mouse.x, mouse.y)
    here = min(1.0, max(0.0, column / view.columns)), min(1.0, max(0.0, row / view.rows))
    if active and imgui.is_mouse_clicked(0):
        app.interface.held_mark = _end_at(state, view, mouse) or (len(state.marks), Mark(kind, here, here))
    held = app.interface.held_mark
    if held is None or not imgui.is_mouse_down(0):
        app.interface.held_mark = None
        return state
    index, mark = held
    x0, y0 = mark.start
    if max(abs(here[0] - x0) * view.columns, abs(here[1] - y0) * view.rows) * view.zoom < 3:
        return state  # a click is no measure
    state = set_mark(state, index, replace(mark, end=here))
    app.interface.held_mark = min(index, len(state.marks) - 1), mark
    return state


def _end_at(state: AppState, view: View, mouse: ImVec2) -> tuple[int, Mark] | None:
    """The mark with an end under the mouse, turned so that this end moves."""
    for i, mark in reversed(list(enumerate(state.marks))):
        for moved, kept in ((mark.end, mark.start), (mark.start, mark.end)):
            x, y = view.to_screen(moved[0] * view.columns, moved[1] * view.rows)
            if max(abs(mouse.x - x), abs(mouse.y - y)) < em(_NEAR):
                return i, replace(mark, start=kept, end=moved)
    return None


def lay_over(strokes: tuple[Stroke, ...], view: View) -> None:
    """Draw strokes over the picture, each on a dark edge of its own."""
    drawn, shade = imgui.get_window_draw_list(), u32((0.0, 0.0, 0.0), 0.75)
    drawn.push_clip_rect(ImVec2(view.x, view.y), ImVec2(view.x + view.width, view.y + view.height), True)
    for stroke in strokes:
        points: list[Any] = [ImVec2(*view.to_screen(*point)) for point in stroke.points]
        flags = imgui.ImDrawFlags_.closed if stroke.closed else imgui.ImDrawFlags_.none
        for colour, thick in ((shade, 3.0), (u32(stroke.colour), 1.5)):
            drawn.add_polyline(points, col=colour, thickness=thick, flags=int(flags))
        if stroke.text:
            wide = imgui.calc_text_size(stroke.text).x + em(1)
            right, low = max(p.x for p in points), max(p.y for p in points)
            x = min(right + em(0.3), view.x + view.width - wide)
            widgets.chip(stroke.text, x, min(low + em(0.2), view.y + view.height - em(1.5)))
    drawn.pop_clip_rect()
