"""Grid: two covariates as rows and columns, filled in as cells arrive; export as figure or command."""

from __future__ import annotations

from dataclasses import replace

from imgui_bundle import ImVec2, imgui
from imgui_bundle import icons_fontawesome_6 as icons

from explorer_app import export, theme, widgets
from explorer_app.context import Context
from explorer_app.display import Look
from explorer_app.distribution import TrainingDistribution, support_word
from explorer_app.interface import Dialog, ExportForm
from explorer_app.messages import Frame
from explorer_app.request_edits import place
from explorer_app.state import GRID_LIMIT, AppState, Axis, choose_axis, set_axis
from explorer_app.theme import em, u32
from mssg.plotting.image_grid import axis_label
from mssg.rendering.request import RenderRequest
from mssg.study.covariate import Covariate


def draw(app: Context, state: AppState) -> AppState:
    """Draw the panel."""
    distribution = app.document.distribution
    if distribution is None:
        widgets.empty_note("No snapshot", "Open one to lay out a grid of two covariates.")
        return state
    side = em(14.5)
    if imgui.begin_child("grid settings", ImVec2(side, 0)):
        for which, title in (("rows", "rows"), ("columns", "cols")):
            state = _axis(state, distribution, which, title)
        held = app.still(state)
        pictures = export.grid_of(distribution.study, held.request, held.grid)
        _progress(app, state, distribution, pictures, waits=held is not state)
    else:
        held = app.still(state)
        pictures = export.grid_of(distribution.study, held.request, held.grid)
    imgui.end_child()
    imgui.same_line()
    if imgui.begin_child("grid cells", ImVec2(0, 0)):
        if pictures:
            app.client.request(p for row in pictures for p in row)
            state = _cells(app, state, distribution, pictures, waits=held is not state)
        else:
            widgets.empty_note("No grid", "Choose two different covariates.")
    imgui.end_child()
    return state


Rows = tuple[tuple[RenderRequest, ...], ...]


def _progress(
    app: Context, state: AppState, distribution: TrainingDistribution, pictures: Rows, waits: bool
) -> None:
    """How far the grid is, and its exports."""
    flat = [p for row in pictures for p in row]
    done = sum(1 for p in flat if (f := app.client.frame(p)) is not None and not f.preview)
    failed = [p for p in flat if app.why_not(p)]
    if failed and not waits:
        icon = icons.ICON_FA_TRIANGLE_EXCLAMATION
        widgets.wrapped(f"{icon} {len(failed)} of {len(flat)} cannot be drawn", theme.AMBER)
        widgets.tooltip(app.why_not(failed[0]))
    elif waits:
        widgets.text("paused while values move", theme.DIM)
        widgets.tooltip("The grid is rendered anew when the slider is let go or the animation stops.")
    elif done < len(flat):
        widgets.text(f"rendering {done} of {len(flat)}", theme.DIM)
        widgets.meter(done / max(1, len(flat)), theme.ACCENT, 0.3)
    else:
        widgets.text(f"{len(flat)} pictures, seed {place(state.request)[0]}", theme.DIM)
    ready = bool(flat) and done == len(flat) and not waits
    imgui.begin_disabled(not ready)
    for kind in ("png", "pdf"):
        if imgui.button(f"{kind.upper()}##grid {kind}"):
            app.interface.export = ExportForm("grid", f"grid.{kind}")
            app.interface.dialogs.add(Dialog.EXPORT)
        widgets.tooltip(
            "Export the grid at native pixels." if kind == "png" else "Export the grid as a labelled figure."
        )
        imgui.same_line(0, em(0.2))
    imgui.end_disabled()
    if not ready:
        widgets.tooltip("The grid is exported when every picture is there.")
    command = export.command_of_grid(state.request, state.grid, distribution.study, state.snapshot)
    if imgui.button(f"{icons.ICON_FA_TERMINAL}  copy command##grid"):
        imgui.set_clipboard_text(command)
        app.interface.note("command copied to the clipboard")
    widgets.tooltip("Copy the command that draws this grid: " + command)


def _axis(state: AppState, distribution: TrainingDistribution, which: str, title: str) -> AppState:
    axis: Axis = getattr(state.grid, which)
    names = [c.name for c in distribution.study.conditions]
    imgui.align_text_to_frame_padding()
    widgets.text(title, theme.DIM)
    imgui.same_line(em(2.6))
    need = imgui.calc_text_size(widgets.human(axis.name)).x + em(2.4)
    width = min(max(em(7.6), need), imgui.get_content_region_avail().x - em(2.6))
    name = widgets.combo(f"##{which}", names, axis.name, width, called=widgets.human)
    widgets.tooltip(f"Covariate along the {which}.")
    if name != axis.name:
        state = choose_axis(state, which, distribution.default_axis(name, axis.steps))
        axis = getattr(state.grid, which)
    if axis.name not in names:
        return state
    covariate = distribution.study.covariate(axis.name)
    imgui.same_line(0, em(0.25))
    imgui.set_next_item_width(-1)
    imgui.begin_disabled(not covariate.is_continuous)
    _, steps = imgui.slider_int(
        f"##{which} steps", axis.steps, 1, GRID_LIMIT, "%d", imgui.SliderFlags_.always_clamp
    )
    imgui.end_disabled()
    widgets.tooltip(
        f"Number of {which}, 1 to {GRID_LIMIT}." if covariate.is_continuous else "One for every level."
    )
    if steps != axis.steps and axis == distribution.default_axis(axis.name, axis.steps):
        axis = distribution.default_axis(axis.name, steps)  # an untouched range stays round
    imgui.dummy(ImVec2(0, 0))
    imgui.same_line(em(2.6))
    imgui.set_next_item_width(-1)
    if covariate.is_continuous:
        low, high = _range(distribution, covariate, which, axis)
    else:
        low, high = _levels(covariate, which, axis)
        steps = round(high - low) + 1
    return set_axis(state, which, steps=steps, low=low, high=high)


def _range(
    distribution: TrainingDistribution, covariate: Covariate, which: str, axis: Axis
) -> tuple[float, float]:
    """First and last value of a continuous axis, within what the study can mean."""
    least, most = distribution.limits(covariate.name)
    speed = max(1e-6, abs(axis.high - axis.low) / 200)
    unit = covariate.unit if covariate.unit == "°" else f" {covariate.unit}".replace("%", "%%")
    unit = unit if len(covariate.unit) <= 3 else ""
    changed, ends = imgui.drag_float2(
        f"##{which} range",
        [axis.low, axis.high],
        speed,
        least,
        most,
        f"%.4g{unit}",
        imgui.SliderFlags_.always_clamp,
    )
    widgets.tooltip(
        f"First and last value in {covariate.unit or 'native units'}; at first round values between the 5 %"
        " and 95 % quantiles of the training data. Drag, or Ctrl-click to type."
    )
    return (ends[0], ends[1]) if changed else (axis.low, axis.high)


def _levels(covariate: Covariate, which: str, axis: Axis) -> tuple[float, float]:
    """First and last level of a discrete axis."""
    top = covariate.num_levels - 1
    changed, first, last = imgui.drag_int_range2(
        f"##{which} range",
        round(axis.low),
        round(axis.high),
        0.05,
        0,
        top,
        "level %d",
        "%d",
        imgui.SliderFlags_.always_clamp,
    )
    widgets.tooltip("First and last level: " + ", ".join(covariate.level_names) + ".")
    if not changed:
        return axis.low, axis.high
    first = max(0, min(first, top))
    return float(first), float(max(first, min(last, top, first + GRID_LIMIT - 1)))


def _cells(
    app: Context, state: AppState, distribution: TrainingDistribution, pictures: Rows, waits: bool
) -> AppState:
    rows, columns = len(pictures), len(pictures[0])
    study = distribution.study
    names = state.grid.rows.name, state.grid.columns.name
    row_labels, column_labels = (
        [study.covariate(name).format(dict(p.covariates)[name], unit=False) for p in line]
        for name, line in zip(names, ([row[0] for row in pictures], pictures[0]))
    )
    left = max(imgui.calc_text_size(t).x for t in row_labels) + em(0.6)
    line = imgui.get_text_line_height()
    top = 2 * line + em(0.35)
    region, corner = imgui.get_content_region_avail(), imgui.get_cursor_screen_pos()
    gap = max(1.0, round(em(0.12)))
    cell = min((region.x - left) / columns, (region.y - top) / rows) - gap
    cell = max(em(1.1), float(int(cell)))
    draw = imgui.get_window_draw_list()
    titles = [axis_label(study.covariate(name)) for name in names]
    up = "↑" if study.covariate(names[0]).is_continuous else "↓"
    draw.add_text(corner, u32(theme.TEXT), f"{titles[0]} {up}   {titles[1]} →")
    for j, label in enumerate(column_labels):
        width = imgui.calc_text_size(label).x
        if width < cell + gap or j in (0, columns - 1):
            x = corner.x + left + j * (cell + gap) + (cell - width) / 2
            draw.add_text(ImVec2(x, corner.y + line + em(0.1)), u32(theme.DIM), label)
    words = [
        support_word(p) for p in distribution.percentiles([c.covariates for row in pictures for c in row])
    ]
    for i, row in enumerate(pictures):
        y = corner.y + top + i * (cell + gap)
        if cell >= imgui.get_text_line_height() * 0.8:
            text_x = corner.x + left - em(0.4) - imgui.calc_text_size(row_labels[i]).x
            draw.add_text(
                ImVec2(text_x, y + (cell - imgui.get_text_line_height()) / 2), u32(theme.DIM), row_labels[i]
            )
        for j, picture in enumerate(row):
            at, word = (corner.x + left + j * (cell + gap), y), words[i * columns + j]
            state = _cell(app, state, distribution, picture, word, (i, j), at, cell, waits)
    imgui.set_cursor_screen_pos(corner)
    imgui.dummy(ImVec2(left + columns * (cell + gap), top + rows * (cell + gap)))
    app.screen.keep({f"grid {i} {j}" for i in range(rows) for j in range(columns)}, "grid ")
    return state


def _cell(
    app: Context,
    state: AppState,
    distribution: TrainingDistribution,
    picture: RenderRequest,
    word: str,
    place: tuple[int, int],
    at: tuple[float, float],
    cell: float,
    waits: bool,
) -> AppState:
    draw, (x, y) = imgui.get_window_draw_list(), at
    end = ImVec2(x + cell, y + cell)
    frame = app.client.frame(picture)
    if frame is None:
        draw.add_rect_filled(ImVec2(x, y), end, u32(theme.FRAME, 0.6), em(0.1))
    else:
        draw.add_image(
            imgui.ImTextureRef(thumbnail(app, f"grid {place[0]} {place[1]}", frame, cell, state)),
            ImVec2(x, y),
            end,
            col=u32((1.0, 1.0, 1.0), 0.45 if waits else 1.0),
        )
    imgui.set_cursor_screen_pos(ImVec2(x, y))
    if imgui.invisible_button(f"cell {place[0]} {place[1]}", ImVec2(cell, cell)) and not app.why_not(picture):
        state = replace(state, request=picture)
    problem = app.why_not(picture)
    if problem:
        draw.add_text(
            ImVec2(x + em(0.15), y + em(0.05)), u32(theme.WARNING), icons.ICON_FA_TRIANGLE_EXCLAMATION
        )
        widgets.tooltip(problem)
    elif imgui.is_item_hovered():
        draw.add_rect(
            ImVec2(x - 1, y - 1), ImVec2(end.x + 1, end.y + 1), u32(theme.ACCENT), em(0.1), thickness=1.5
        )
        study = distribution.study
        names = (state.grid.rows.name, state.grid.columns.name)
        text = "\n".join(f"{n}  {study.covariate(n).format(dict(picture.covariates)[n])}" for n in names)
        widgets.tooltip(f"{text}\nsupport: {word}\nClick to take it over.")
    if word == "outside" and not problem:
        draw.add_text(
            ImVec2(x + em(0.15), y + em(0.05)), u32(theme.WARNING), icons.ICON_FA_TRIANGLE_EXCLAMATION
        )
    return state


def thumbnail(app: Context, name: str, frame: Frame, cell: float, state: AppState) -> int:
    """The texture of a small picture with the display's window and colours."""
    scale = imgui.get_io().display_framebuffer_scale.x or 1.0
    image = app.viewed(frame, name)
    rows, columns = image.shape[:2]
    side = max(1, round(cell * scale))
    step = max(rows, columns) / side
    origin = ((columns - step * side) / 2, (rows - step * side) / 2)
    display = state.display
    mirror = app.document.mirrored
    if mirror:
        origin = (columns - origin[0], origin[1])
    look = Look(
        (side, side),
        origin,
        (-step if mirror else step, step),
        display.level,
        width=display.width,
        colormap=display.colormap,
        invert=display.invert,
        linear=True,
    )
    return app.screen.target(name).show(image, look)
