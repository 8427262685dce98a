"""The picture: zoom at the cursor, pan, window by drag, readout, edge letters, scale bar, comparison with a
pin."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from imgui_bundle import ImVec2, imgui
from imgui_bundle import icons_fontawesome_6 as icons

from explorer_app import geometry, theme, widgets
from explorer_app.comparison import Part, levels_at
from explorer_app.context import Context
from explorer_app.display import Look
from explorer_app.geometry import View
from explorer_app.interface import Dialog
from explorer_app.panels import people, regions, slice_bar
from explorer_app.panels.latent import SEEDS_PER_EM
from explorer_app.request_edits import drag_latent
from explorer_app.state import CHANNELS, MARK_KINDS, AppState, Display
from explorer_app.theme import em, u32
from mssg.rendering.request import RenderRequest

TOOLS = ("pan", "window", "latent")
_CROWDED = 6.0  # lines of text: a picture no higher has no room for letters and a scale
_TOOL_ICONS = (icons.ICON_FA_HAND, icons.ICON_FA_CIRCLE_HALF_STROKE, icons.ICON_FA_SHUFFLE)
_TOOL_TIPS = (
    (
        "Left drag moves the picture. The wheel zooms at the cursor, double-click fits. Right drag always"
        " sets window and level. Of a whole-head model the wheel scrolls through slices, with Ctrl it zooms;"
        " View > Wheel turns that round."
    ),
    "Left drag sets the window: sideways its width, up and down its level.",
    "Left drag moves through latent space, as in the Latent panel.",
)


def draw(app: Context, state: AppState) -> AppState:
    """Draw the panel."""
    state = toolbar(app, state)
    corner, size = imgui.get_cursor_screen_pos(), imgui.get_content_region_avail()
    if size.x < 8 or size.y < 8:
        return state
    if app.client.shown is None:
        imgui.get_window_draw_list().add_rect_filled(
            corner, ImVec2(corner.x + size.x, corner.y + size.y), u32(theme.GROUND)
        )
        _nothing(app, state, corner, size)
        return state
    if slice_bar.has_bar(app):
        size = ImVec2(max(8.0, size.x - em(slice_bar.WIDTH)), size.y)
    hovered, active = _surface(size)
    if hovered:
        state = slice_bar.wheel(app, state)
    app.client.show(app.channels(state.request)[0])
    parts, uncompared = app.parts(app.client.shown)
    panes = _panes(state, parts, corner, size)
    app.interface.view_box = (corner.x, corner.y, size.x, size.y)
    named = state.analysis.uncertainty != "people" or len(panes) < 2
    _draw_panes(app, panes, named)
    mouse = imgui.get_io().mouse_pos
    over = next((p for p in panes if p.view.holds(mouse.x, mouse.y)), panes[0])
    if hovered:
        _crosshair(panes, over, mouse)
        _readout(over, mouse)
    else:
        _slice(app, panes[-1])
    if panes[0].part.joined == "swipe":
        state = replace(state, display=_swipe(app, panes[0], hovered, active, display=state.display))
    held = active and not app.interface.swiping
    state = regions.drag(app, _mouse(app, state, over, hovered, active=held), over.view, held)
    if not named:
        shown = [(p.part.request, p.view) for p in panes if isinstance(p.part.request, RenderRequest)]
        state = people.names(state, shown)
    if uncompared:
        text = f"{icons.ICON_FA_TRIANGLE_EXCLAMATION}  {uncompared}"
        widgets.chip(text, corner.x + em(0.5), corner.y + em(2), theme.WARNING, within=size.x - em(1))
    marks(app, state, panes[0].view)
    if slice_bar.has_bar(app):
        slice_bar.ask_beside(app, state)
        state = slice_bar.draw(app, state, ImVec2(corner.x + size.x, corner.y), size.y)
    return state


def _surface(size: ImVec2) -> tuple[bool, bool]:
    """Where the mouse is caught: whether it is over it, and whether a button is held."""
    imgui.set_next_item_allow_overlap()
    buttons = imgui.ButtonFlags_
    every = buttons.mouse_button_left | buttons.mouse_button_right | buttons.mouse_button_middle
    imgui.invisible_button("##picture", size, every)
    return imgui.is_item_hovered(), imgui.is_item_active()


def _draw_panes(app: Context, panes: Sequence[Pane], named: bool) -> None:
    """Draw what is side by side, and keep where the first stands."""
    first = panes[0].view
    app.interface.fit = first.fit
    app.interface.margin = max(0.0, (first.width - first.columns * first.zoom) / 2)
    app.screen.keep({f"view {i}" for i in range(len(panes))}, "view ")
    for i, pane in enumerate(panes):
        draw_pane(app, f"view {i}", pane, named)
        regions.lay_over(app.strokes(pane.part), pane.view)


def toolbar(app: Context, state: AppState) -> AppState:
    """The tools and settings of the view, and what the picture is."""
    display = state.display
    tools = zip((*TOOLS, *MARK_KINDS), (*_TOOL_ICONS, *regions.ICONS), (*_TOOL_TIPS, *regions.TIPS))
    for tool, icon, tip in tools:
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
    squares = display.interpolation == "squares"
    icon = icons.ICON_FA_TABLE_CELLS if squares else icons.ICON_FA_BRAILLE
    tip = f"Between pixels: {display.interpolation}. Click for squares, linear or cubic in turn (N)."
    if widgets.icon_button(icon, "interpolation", tip):
        display = display.next_interpolation()
    study = app.document.distribution.study if app.document.distribution else None
    if study is not None and study.channels == 3:
        imgui.same_line(0, em(0.9))
        display = replace(display, channel=_channel(display.channel))
    if study is not None and study.geometry is not None:
        imgui.same_line(0, em(0.9))
        side = "neurological" if display.neurological else "radiological"
        if imgui.button(f"{side}###convention"):
            display = replace(display, neurological=not display.neurological)
        widgets.tooltip(
            "radiological: the patient's right is on the left of the screen; neurological: as seen from"
            " behind. Click to switch."
        )
    if study is not None and (study.geometry or study.photograph):
        imgui.same_line(0, em(0.2))
        if widgets.icon_button(
            icons.ICON_FA_RULER, "annotations", "Edge letters and scale bar.", display.annotations
        ):
            display = replace(display, annotations=not display.annotations)
    frame = app.client.shown
    if frame is not None:
        imgui.align_text_to_frame_padding()
        zoom = "" if display.zoom == 0 else f"   {display.zoom:.2g}×"
        _kind(app, f"{frame.image.shape[1]} × {frame.image.shape[0]}{zoom}")
    return replace(state, display=display)


def _channel(shown: str) -> str:
    """What is shown of a colour picture."""
    chosen = widgets.combo("##channel", CHANNELS, shown, width=em(5.5))
    widgets.tooltip(
        "green: the green channel alone, where vessels and spots stand out; red-free: green and blue as in a"
        " photograph through a red-free filter. Window, level and colour map apply to each."
    )
    return chosen


def _kind(app: Context, size: str) -> None:
    """What the picture is, as long as there is room, and its size, at the right."""
    origin = app.document.distribution.header.origin if app.document.distribution else ""
    made = f"generated from {origin.split(':')[0]}" if origin else "generated"
    inverted = app.state.request.latent is not None
    made = f"{made}, after your image" if inverted else made
    imgui.same_line()
    room = imgui.get_content_region_avail().x
    short = "generated, after your image" if inverted else "generated"
    fits = [f"{text}   {size}".strip() for text in (made, short, "")]
    widgets.right_text(next((t for t in fits if imgui.calc_text_size(t).x < room), size), theme.DIM)
    widgets.tooltip(f"Drawn by a model{f' trained on {origin}' if origin else ''}; not a scan of a person.")


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
    """A part of what is looked at, and where its pixels lie in the panel."""

    part: Part
    view: View


def _panes(state: AppState, parts: tuple[Part, ...], corner: ImVec2, size: ImVec2) -> list[Pane]:
    """What is drawn where: two side by side, more as large as there is room for."""
    gap, panes, count = em(0.2), [], len(parts)
    across = (
        count
        if count < 3
        else max(range(1, count + 1), key=lambda n: min(size.x / n, size.y / -(-count // n)))
    )
    down = -(-count // across)
    width, height = (size.x - gap * (across - 1)) / across, (size.y - gap * (down - 1)) / down
    for i, part in enumerate(parts):
        rows, columns = part.image.shape[:2]
        turned = geometry.mirrored(part.geometry, state.display.neurological)
        x, y = corner.x + i % across * (width + gap), corner.y + i // across * (height + gap)
        panes.append(Pane(part, View(x, y, width, height, columns, rows, state.display, turned)))
    return panes


def draw_pane(app: Context, name: str, pane: Pane, named: bool = True, widest: Part | None = None) -> None:
    """Draw a pane with its letters and scale.

    Args:
        name: Of the texture it is drawn into.
        named: With its label.
        widest: The part whose differences set the window of a difference; None: its own.
    """
    scale, view, part = imgui.get_io().display_framebuffer_scale.x or 1.0, pane.view, pane.part
    step, display = 1 / view.zoom / scale, part.look(view.display)
    look = Look(
        size=(max(1, round(view.width * scale)), max(1, round(view.height * scale))),
        origin=view.to_image(view.x, view.y),
        step=(-step if view.mirrored else step, step),
        level=display.level,
        width=display.width,
        colormap=display.colormap,
        invert=display.invert,
        linear=display.linear,
        cubic=display.linear and display.cubic,
        joined=part.joined,
        share=display.share,
        change_width=app.change_width(widest or part) if part.joined else 0.0,
        threshold=display.change_threshold,
        overlay=display.change_overlay,
        background=theme.GROUND,
    )
    texture = app.screen.target(name).show(part.image, look, part.other)
    draw = imgui.get_window_draw_list()
    end = ImVec2(view.x + view.width, view.y + view.height)
    draw.add_image(imgui.ImTextureRef(texture), ImVec2(view.x, view.y), end)
    eye = (  # of people it is the same on all, and their own labels lie there
        part.geometry.name
        if isinstance(part.geometry, geometry.FundusGeometry) and display.annotations and named
        else ""
    )
    if label := "   ".join(text for text in (part.label * named, _layer(app, part), eye) if text):
        within = view.width / 2 - em(1.5) if part.geometry is not None else view.width - em(1)
        widgets.chip(label, view.x + em(0.5), view.y + em(0.5), within=within)  # the upper letter stays free
    if part.geometry is not None and display.annotations and view.height > em(_CROWDED):
        _annotations(part.geometry, view)


def _layer(app: Context, part: Part) -> str:
    """Which layer is looked at and how much of it; "" for a picture."""
    if part.request.layer is None:
        return ""
    channels = [r.channel or 0 for r in app.channels(part.request) if isinstance(r, RenderRequest)]
    which = f"{len(channels)} channels, {channels[0]} to {channels[-1]}"
    return f"layer {part.request.layer}, {which if len(channels) > 1 else f'channel {channels[0]}'}"


def _annotations(stated: geometry.Stated, view: View) -> None:
    """Edge letters and scale bar of the picture's own study."""
    letters = geometry.edge_letters(stated, view.display.neurological)
    draw, middle = imgui.get_window_draw_list(), (view.x + view.width / 2, view.y + view.height / 2)
    places = (
        (view.x + em(0.6), middle[1]),
        (view.x + view.width - em(1.2), middle[1]),
        (middle[0], view.y + em(0.4)),
        (middle[0], view.y + view.height - em(1.5)),
    )
    for letter, (x, y) in zip(letters, places):
        for dx, colour in ((1, u32((0, 0, 0), 0.8)), (0, u32(theme.INK, 0.9))):
            draw.add_text(ImVec2(x + dx, y + dx), colour, letter)
    text, length = geometry.scale_bar(stated, view.zoom, view.width * 0.28)
    if length:
        x, y = view.x + em(0.8), view.y + view.height - em(1.1)
        lines = [((x, y), (x + length, y))]
        lines += [((end, y - em(0.25)), (end, y + em(0.25))) for end in (x, x + length)]
        for colour, thick in ((u32((0, 0, 0), 0.8), 4), (u32(theme.INK), 2)):  # the outline first
            for first, last in lines:
                draw.add_line(ImVec2(*first), ImVec2(*last), colour, thick)
        left, top = x + length / 2 - imgui.calc_text_size(text).x / 2, y - em(1.35)
        for shift, colour in ((1, u32((0, 0, 0), 0.8)), (0, u32(theme.INK))):
            draw.add_text(ImVec2(left + shift, top + shift), colour, text)


def _slice(app: Context, pane: Pane) -> None:
    """Where the slice lies, of a model that learnt slices at many places."""
    distribution, view = app.document.distribution, pane.view
    if distribution is None or not slice_bar.has_bar(app):
        return
    place = dict(pane.part.request.covariates).get(distribution.study.position or "")
    if place is not None and view.display.annotations:
        text = slice_bar.label(distribution, place)
        widgets.chip(text, view.x + view.width - em(0.5), view.y + view.height - em(1.7), align=1.0)


def _readout(pane: Pane, mouse: ImVec2) -> None:
    """Pixel, millimetres and grey level under the cursor."""
    view, part = pane.view, pane.part
    column, row = view.to_image(mouse.x, mouse.y)
    if not view.inside(column, row):
        return
    x, y = int(column), int(row)
    parts = [f"x {x}  y {y}"]
    if where := geometry.place(part.geometry, column, row, view.columns, view.rows):
        position = getattr(part.geometry, "position", None)  # a photograph has none
        cut = dict(part.request.covariates).get(position or "")
        parts.append(where + ("" if cut is None else f", slice {cut:+.1f}"))
    lines = "   ".join(parts), levels_at(part, x, y)
    text = "   ".join(lines) if part.other is None else "\n".join(lines)
    tall = em(1.7) + (imgui.get_text_line_height() if part.other is not None else 0)
    right = min(view.x + view.width, imgui.get_window_pos().x + imgui.get_window_width()) - em(0.5)
    widgets.chip(text, right, view.y + view.height - tall, align=1.0)


def _crosshair(panes: list[Pane], over: Pane, mouse: ImVec2) -> None:
    """The place under the cursor, in every pane: two thin lines."""
    column, row = over.view.to_image(mouse.x, mouse.y)
    if len(panes) < 2 or not over.view.inside(column, row):
        return
    drawn = imgui.get_window_draw_list()
    for pane in panes:
        view = pane.view
        x, y = view.to_screen(column * view.columns / over.view.columns, row * view.rows / over.view.rows)
        low, high = ImVec2(view.x, view.y), ImVec2(view.x + view.width, view.y + view.height)
        drawn.push_clip_rect(low, high, True)
        for shift, colour in ((1, u32((0, 0, 0), 0.5)), (0, u32(theme.INK, 0.65))):
            drawn.add_line(ImVec2(x + shift, low.y), ImVec2(x + shift, high.y), colour)
            drawn.add_line(ImVec2(low.x, y + shift), ImVec2(high.x, y + shift), colour)
        drawn.pop_clip_rect()


def _swipe(app: Context, pane: Pane, hovered: bool, active: bool, display: Display) -> Display:
    """The line between both pictures, and what becomes of the display when it is dragged."""
    view, wide = pane.view, pane.view.zoom * pane.view.columns
    left = min(view.to_screen(edge, 0)[0] for edge in (0, view.columns))
    mouse, near = imgui.get_io().mouse_pos.x, em(0.6)
    x = left + wide * display.share
    if imgui.is_item_activated():
        app.interface.swiping = abs(mouse - x) < near and imgui.is_mouse_down(0)
    app.interface.swiping &= active
    if app.interface.swiping:
        display = replace(display, share=min(1.0, max(0.0, (mouse - left) / wide)))
        x = left + wide * display.share
    if view.x <= x <= view.x + view.width:
        lit = app.interface.swiping or (hovered and abs(mouse - x) < near)
        if lit:
            imgui.set_mouse_cursor(imgui.MouseCursor_.resize_ew)
        drawn, bottom = imgui.get_window_draw_list(), view.y + view.height
        drawn.add_line(ImVec2(x, view.y), ImVec2(x, bottom), u32((0, 0, 0), 0.6), 3)
        drawn.add_line(ImVec2(x, view.y), ImVec2(x, bottom), u32(theme.INK, 1.0 if lit else 0.75), 1.5)
        drawn.add_circle_filled(ImVec2(x, view.y + view.height / 2), em(0.35), u32(theme.INK, 0.9))
    return display


def _mouse(app: Context, state: AppState, pane: Pane, hovered: bool, active: bool) -> AppState:
    io, view = imgui.get_io(), pane.view
    display = state.display
    if hovered and io.mouse_wheel and not slice_bar.takes_wheel(app):
        display = geometry.zoomed(view, 1.2**io.mouse_wheel, io.mouse_pos.x, io.mouse_pos.y)
    if hovered and imgui.is_mouse_double_clicked(0):
        display = replace(display, zoom=0.0, center=(0.5, 0.5))
    state = replace(state, display=display)
    move = io.mouse_delta
    if not active or not (move.x or move.y):
        return state
    tool = "window" if imgui.is_mouse_down(1) else "pan" if imgui.is_mouse_down(2) else app.interface.tool
    if tool in MARK_KINDS:
        return state
    if tool == "latent":
        speed = SEEDS_PER_EM / em() * (0.1 if io.key_shift else 1)
        return replace(state, request=drag_latent(state.request, move.x * speed, move.y * speed))
    if tool == "window":
        return replace(state, display=windowed(display, move.x, move.y, app.change_width(pane.part)))
    return replace(state, display=geometry.panned(replace(view, display=display), move.x, move.y))


def windowed(display: Display, dx: float, dy: float, change: float) -> Display:
    """The window after a drag; of a difference `change` is its width, and it stands around zero."""
    if change:
        return replace(display, change_width=min(510.0, max(1.0, change + dx)))
    return replace(
        display,
        width=min(510.0, max(1.0, display.width + dx)),
        level=min(255.0, max(0.0, display.level + 0.5 * dy)),
    )


def marks(app: Context, state: AppState, view: View) -> None:
    """Preview, stale and error marks: a picture that is not the one asked for never looks as if it were."""
    x, y = view.x + view.width - em(0.5), view.y + em(0.5)
    problem = app.problem()
    if problem:
        imgui.set_cursor_screen_pos(ImVec2(view.x + em(0.6), view.y + view.height - em(5.2)))
        with_background = theme.vec(theme.POPUP, 0.96)
        imgui.push_style_color(imgui.Col_.child_bg, with_background)
        if imgui.begin_child("problem", ImVec2(view.width - em(1.2), em(4.4)), imgui.ChildFlags_.borders):
            stored = app.client.shown is not None and app.client.shown.stored
            which = "the picture stored in the snapshot" if stored else "the last good picture"
            widgets.text(f"{icons.ICON_FA_TRIANGLE_EXCLAMATION}  This is {which}", theme.RED)
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
                theme.INK,
                align=1.0,
            )
    elif frame is not None and frame.preview:
        widgets.chip("stored picture" if frame.stored else "preview", x, y, theme.INK, align=1.0)
