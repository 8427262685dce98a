"""The picture: zoom at the cursor, pan, window by drag, readout, edge letters, scale bar, comparison with a
pin."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from imgui_bundle import ImVec2, imgui
from imgui_bundle import icons_fontawesome_6 as icons

from explorer_app import geometry, theme, widgets
from explorer_app.context import Context
from explorer_app.display import Look
from explorer_app.geometry import View
from explorer_app.interface import Dialog
from explorer_app.messages import Frame
from explorer_app.panels.latent import SEEDS_PER_EM
from explorer_app.request_edits import drag_latent
from explorer_app.state import AppState, Display
from explorer_app.theme import em, u32

TOOLS = ("pan", "window", "latent")
_TOOL_ICONS = (icons.ICON_FA_HAND, icons.ICON_FA_CIRCLE_HALF_STROKE, icons.ICON_FA_SHUFFLE)
_TOOL_TIPS = (
    (
        "Left drag moves the picture. The wheel zooms at the cursor, double-click fits. Right drag always"
        " sets window and level."
    ),
    "Left drag sets the window: sideways its width, up and down its level.",
    "Left drag moves through latent space, as in the Latent panel.",
)


def draw(app: Context, state: AppState) -> AppState:
    """Draw the panel."""
    state = _toolbar(app, state)
    corner, size = imgui.get_cursor_screen_pos(), imgui.get_content_region_avail()
    if size.x < 8 or size.y < 8:
        return state
    frame = app.client.shown
    if frame is None:
        imgui.get_window_draw_list().add_rect_filled(
            corner, ImVec2(corner.x + size.x, corner.y + size.y), u32(theme.CANVAS)
        )
        _nothing(app, state, corner, size)
        return state
    panes = _panes(app, state, frame, corner, size)
    imgui.invisible_button(
        "##picture",
        size,
        imgui.ButtonFlags_.mouse_button_left
        | imgui.ButtonFlags_.mouse_button_right
        | imgui.ButtonFlags_.mouse_button_middle,
    )
    hovered, active = imgui.is_item_hovered(), imgui.is_item_active()
    for i, pane in enumerate(panes):
        _draw_pane(app, f"view {i}", pane)
    mouse = imgui.get_io().mouse_pos
    over = next((p for p in panes if p.view.x <= mouse.x < p.view.x + p.view.width), panes[0])
    if hovered:
        _readout(app, over, mouse)
    state = _mouse(app, state, over.view, hovered, active)
    _marks(app, state, panes[0].view)
    return state


def _toolbar(app: Context, state: AppState) -> AppState:
    display = state.display
    for tool, icon, tip in zip(TOOLS, _TOOL_ICONS, _TOOL_TIPS):
        if widgets.icon_button(icon, f"tool {tool}", tip, app.interface.tool == tool):
            app.interface.tool = tool
        imgui.same_line(0, em(0.2))
    imgui.same_line(0, em(0.9))
    if widgets.icon_button(icons.ICON_FA_EXPAND, "fit", "Fit the whole picture (0).", display.zoom == 0):
        display = replace(display, zoom=0.0, center=(0.5, 0.5))
    imgui.same_line(0, em(0.2))
    if widgets.icon_button("1:1", "one to one", "One picture pixel per screen pixel (1).", display.zoom == 1):
        display = replace(display, zoom=1.0, center=(0.5, 0.5))
    imgui.same_line(0, em(0.2))
    tip = "Interpolate between pixels (N)." if not display.linear else "Show pixels as squares (N)."
    if widgets.icon_button(
        icons.ICON_FA_BRAILLE if display.linear else icons.ICON_FA_TABLE_CELLS, "interpolation", tip
    ):
        display = replace(display, linear=not display.linear)
    study = app.document.distribution.study if app.document.distribution else None
    if study is not None and study.geometry is not None:
        imgui.same_line(0, em(0.9))
        side = "neurological" if display.neurological else "radiological"
        if imgui.button(f"{side}###convention"):
            display = replace(display, neurological=not display.neurological)
        widgets.tooltip(
            "radiological: the patient's right is on the left of the screen; neurological: as seen from"
            " behind. Click to switch."
        )
        imgui.same_line(0, em(0.2))
        if widgets.icon_button(
            icons.ICON_FA_RULER, "annotations", "Edge letters and scale bar.", display.annotations
        ):
            display = replace(display, annotations=not display.annotations)
    frame = app.client.shown
    if frame is not None:
        imgui.align_text_to_frame_padding()
        widgets.right_text(
            f"{frame.image.shape[1]} × {frame.image.shape[0]}"
            + ("" if display.zoom == 0 else f"   {display.zoom:.2g}×"),
            theme.DIM,
        )
    return replace(state, display=display)


def _nothing(app: Context, state: AppState, corner: ImVec2, size: ImVec2) -> None:
    """No picture yet: say why, or what to do."""
    title, body = empty_message(app)
    imgui.set_cursor_screen_pos(ImVec2(corner.x, corner.y))
    if imgui.begin_child("nothing", size):
        widgets.empty_note(title, body)
        if not state.snapshot:
            imgui.dummy(ImVec2(0, em(0.6)))
            width = em(10)
            imgui.set_cursor_pos_x((size.x - width) / 2)
            if imgui.button(f"{icons.ICON_FA_FOLDER_OPEN}  Open…##empty", ImVec2(width, 0)):
                app.interface.dialogs.add(Dialog.OPEN)
    imgui.end_child()


def empty_message(app: Context) -> tuple[str, str]:
    """Title and text for a window without a picture."""
    snapshot, run = app.state.snapshot, app.document.run
    if app.document.problem and not snapshot:
        return "This cannot be opened", app.document.problem
    if snapshot and app.problem():
        return "This snapshot cannot be shown", app.problem()
    if snapshot:
        return "Loading the model", Path(snapshot).name
    if run is not None:
        return (
            "Waiting for the first snapshot",
            f"{run.folder} is followed; its first snapshot appears here.",
        )
    return (
        "Nothing open yet",
        "Open a snapshot (.safetensors), a training run's folder, or a saved session. You can also drop one"
        " onto the window.",
    )


@dataclass(frozen=True)
class Pane:
    """A part of the panel: its label, where image pixels lie in it, what it shows, and what is subtracted."""

    label: str
    view: View
    image: np.ndarray
    layer: bool
    other: np.ndarray | None = None


def _panes(app: Context, state: AppState, frame: Frame, corner: ImVec2, size: ImVec2) -> list[Pane]:
    """What is drawn where."""
    display, pin = state.display, state.pin

    def pane(label: str, x: float, width: float, of: Frame, image: np.ndarray) -> Pane:
        rows, columns = image.shape[:2]
        view = View(x, corner.y, width, size.y, columns, rows, display, app.document.mirrored)
        return Pane(label, view, image, of.request.layer is not None)

    image = app.viewed(frame, "view 0")
    pinned = app.client.frame(pin.request) if pin else None
    if pin is None or pinned is None or display.compare == "A":
        return [pane("", corner.x, size.x, frame, image)]
    kept = app.viewed(pinned, "pin")
    if display.compare == "side":
        half = (size.x - em(0.2)) / 2
        right = corner.x + half + em(0.2)
        return [pane("A", corner.x, half, frame, image), pane(pin.name, right, half, pinned, kept)]
    if display.compare == "difference" and kept.shape == image.shape and image.ndim == 2:
        return [replace(pane(f"A − {pin.name}", corner.x, size.x, frame, image), other=kept)]
    if display.compare == "flip" and display.flipped:
        return [pane(pin.name, corner.x, size.x, pinned, kept)]
    return [pane("A", corner.x, size.x, frame, image)]


def _draw_pane(app: Context, name: str, pane: Pane) -> None:
    scale, view = imgui.get_io().display_framebuffer_scale.x or 1.0, pane.view
    step, display = 1 / view.zoom / scale, view.display
    look = Look(
        size=(max(1, round(view.width * scale)), max(1, round(view.height * scale))),
        origin=view.to_image(view.x, view.y),
        step=(-step if view.mirrored else step, step),
        level=display.level,
        width=display.width,
        colormap=display.colormap,
        invert=display.invert,
        linear=display.linear,
        difference=pane.other is not None,
        background=theme.CANVAS,
    )
    texture = app.screen.target(name).show(pane.image, look, pane.other)
    draw = imgui.get_window_draw_list()
    end = ImVec2(view.x + view.width, view.y + view.height)
    draw.add_image(imgui.ImTextureRef(texture), ImVec2(view.x, view.y), end)
    if pane.label:
        widgets.chip(pane.label, view.x + em(0.5), view.y + em(0.5), theme.TEXT)
    if not pane.layer:  # millimetres are the picture's, not a layer's
        _annotations(app, view)


def _annotations(app: Context, view: View) -> None:
    study = app.document.distribution.study if app.document.distribution else None
    if study is None or study.geometry is None or not view.display.annotations:
        return
    letters = geometry.edge_letters(study.geometry, view.display.neurological)
    draw, middle = imgui.get_window_draw_list(), (view.x + view.width / 2, view.y + view.height / 2)
    places = (
        (view.x + em(0.6), middle[1]),
        (view.x + view.width - em(1.2), middle[1]),
        (middle[0], view.y + em(0.4)),
        (middle[0], view.y + view.height - em(1.5)),
    )
    for letter, (x, y) in zip(letters, places):
        for dx, colour in ((1, u32((0, 0, 0), 0.8)), (0, u32(theme.TEXT, 0.9))):
            draw.add_text(ImVec2(x + dx, y + dx), colour, letter)
    mm, length = geometry.scale_bar(study.geometry.pixel_mm, view.zoom, view.width * 0.28)
    if length:
        x, y = view.x + em(0.8), view.y + view.height - em(1.1)
        draw.add_line(ImVec2(x, y), ImVec2(x + length, y), u32(theme.TEXT), 2)
        for end in (x, x + length):
            draw.add_line(ImVec2(end, y - em(0.25)), ImVec2(end, y + em(0.25)), u32(theme.TEXT), 2)
        text = f"{mm:g} mm"
        draw.add_text(
            ImVec2(x + length / 2 - imgui.calc_text_size(text).x / 2, y - em(1.3)), u32(theme.TEXT), text
        )


def _readout(app: Context, pane: Pane, mouse: ImVec2) -> None:
    """Pixel, millimetres and grey level under the cursor."""
    view, other = pane.view, pane.other
    column, row = view.to_image(mouse.x, mouse.y)
    if not view.inside(column, row):
        return
    x, y = int(column), int(row)
    parts = [f"x {x}  y {y}"]
    study = app.document.distribution.study if app.document.distribution else None
    if study is not None and study.geometry is not None and not pane.layer:
        right, up = geometry.millimetres(study.geometry, column, row, view.columns, view.rows)
        parts.append(f"{right:+.1f}, {up:+.1f} mm")
    value = pane.image[y, x] if other is None else pane.image[y, x] - other[y, x]
    levels = " ".join(f"{float(v):.1f}" for v in np.atleast_1d(value))
    parts.append(levels if other is None else f"{float(value):+.1f}")
    widgets.chip("   ".join(parts), view.x + view.width - em(0.5), view.y + view.height - em(1.7), align=1.0)


def _mouse(app: Context, state: AppState, view: View, hovered: bool, active: bool) -> AppState:
    io = imgui.get_io()
    display = state.display
    if hovered and io.mouse_wheel:
        display = geometry.zoomed(view, 1.2**io.mouse_wheel, io.mouse_pos.x, io.mouse_pos.y)
    if hovered and imgui.is_mouse_double_clicked(0):
        display = replace(display, zoom=0.0, center=(0.5, 0.5))
    state = replace(state, display=display)
    move = io.mouse_delta
    if not active or not (move.x or move.y):
        return state
    tool = "window" if imgui.is_mouse_down(1) else "pan" if imgui.is_mouse_down(2) else app.interface.tool
    if tool == "latent":
        speed = SEEDS_PER_EM / em() * (0.1 if io.key_shift else 1)
        return replace(state, request=drag_latent(state.request, move.x * speed, move.y * speed))
    if tool == "window":
        return replace(state, display=_windowed(display, move.x, move.y))
    return replace(state, display=geometry.panned(replace(view, display=display), move.x, move.y))


def _windowed(display: Display, dx: float, dy: float) -> Display:
    return replace(
        display,
        width=min(510.0, max(1.0, display.width + dx)),
        level=min(255.0, max(0.0, display.level + 0.5 * dy)),
    )


def _marks(app: Context, state: AppState, view: View) -> None:
    """Preview, stale and error marks: a picture that is not the one asked for never looks as if it were."""
    x, y = view.x + view.width - em(0.5), view.y + em(0.5)
    problem = app.problem()
    if problem:
        imgui.set_cursor_screen_pos(ImVec2(view.x + em(0.6), view.y + view.height - em(5.2)))
        with_background = theme.vec((0.16, 0.09, 0.08), 0.94)
        imgui.push_style_color(imgui.Col_.child_bg, with_background)
        if imgui.begin_child("problem", ImVec2(view.width - em(1.2), em(4.4)), imgui.ChildFlags_.borders):
            widgets.text(f"{icons.ICON_FA_TRIANGLE_EXCLAMATION}  This is the last good picture", theme.RED)
            widgets.wrapped(problem, theme.TEXT)
        imgui.end_child()
        imgui.pop_style_color()
        return
    frame = app.client.shown
    if frame is not None and frame.request != state.request:
        if app.client.stale_for > 0.15:
            widgets.chip(
                f"{icons.ICON_FA_HOURGLASS_HALF} "
                f" {'loading' if app.client.loading(state.snapshot) else 'rendering'}",
                x,
                y,
                theme.DIM,
                1.0,
            )
    elif frame is not None and frame.preview:
        widgets.chip("preview", x, y, theme.DIM, 1.0)
