"""Small pieces that several panels share."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
from imgui_bundle import ImVec2, imgui, imgui_ctx

from explorer_app import theme
from explorer_app.display import Look, Target
from explorer_app.theme import em, u32, vec

_TOOLTIP = imgui.HoveredFlags_.for_tooltip | imgui.HoveredFlags_.allow_when_disabled


def tooltip(text: str) -> None:
    """A tooltip for the item just drawn, shown after the mouse rested on it; also on disabled items."""
    if imgui.is_item_hovered(_TOOLTIP) and not imgui.is_item_active() and imgui.begin_tooltip():
        imgui.push_text_wrap_pos(em(24))
        imgui.text_unformatted(text)
        imgui.pop_text_wrap_pos()
        imgui.end_tooltip()


def text(content: str, colour: theme.Colour = theme.TEXT) -> None:
    """Text in a colour."""
    with imgui_ctx.push_style_color(imgui.Col_.text, vec(colour)):
        imgui.text_unformatted(content)


def wrapped(content: str, colour: theme.Colour = theme.DIM) -> None:
    """Text that breaks at the panel's edge."""
    imgui.push_text_wrap_pos(0.0)
    text(content, colour)
    imgui.pop_text_wrap_pos()


def human(name: str) -> str:
    """A covariate's name as people write it."""
    return name.replace("_", " ")


def heading(content: str) -> None:
    """A small heading inside a panel."""
    imgui.dummy(ImVec2(0, em(0.1)))
    with imgui_ctx.push_font(theme.Fonts.bold, 0.0):
        text(content, theme.DIM)


def right_text(content: str, colour: theme.Colour = theme.TEXT, used: float = 0.0) -> None:
    """Text at the right edge of the panel, on the current line."""
    width = imgui.calc_text_size(content).x + used
    imgui.same_line(
        max(imgui.get_cursor_pos_x(), imgui.get_cursor_pos_x() + imgui.get_content_region_avail().x - width)
    )
    text(content, colour)


def segmented(
    name: str, options: Sequence[str], current: str, tips: Sequence[str] = (), width: float = 0.0
) -> str:
    """Joined buttons of which one is chosen, in a row where they fit; returns the choice.

    Args:
        name: Makes the buttons' ids unique: "option##name".
        tips: Tooltips, one per option.
        width: Total width; 0 fills the line.
    """
    total = width or imgui.get_content_region_avail().x
    gap = em(0.12)
    # where a label would be cut off, they stand in several rows
    need = max(imgui.calc_text_size(option).x for option in options) + em(0.4) + gap
    rows = math.ceil(len(options) / max(1, min(len(options), int((total + gap) / need))))
    across = math.ceil(len(options) / rows)
    each = (total - gap * (across - 1)) / across
    for i, option in enumerate(options):
        if i % across:
            imgui.same_line(0, gap)
        chosen = option == current
        colour = vec(theme.ACCENT, 0.32) if chosen else vec(theme.FRAME)
        with (
            imgui_ctx.push_style_color(imgui.Col_.button, colour),
            imgui_ctx.push_style_color(imgui.Col_.text, vec(theme.TEXT if chosen else theme.DIM)),
        ):
            if imgui.button(f"{option}##{name}", ImVec2(each, 0)):
                current = option
        if i < len(tips):
            tooltip(tips[i])
    return current


def float_slider(label: str, value: float, low: float, high: float, form: str, flags: int = 0) -> float:
    """A slider that stays within its ends; returns the very value it was given unless it was moved (imgui's
    floats are single precision)."""
    changed, new = imgui.slider_float(label, value, low, high, form, flags | imgui.SliderFlags_.always_clamp)
    return _short(new) if changed and math.isfinite(new) else value


def _short(value: float) -> float:
    """A single-precision number as the few digits that were typed: 63.1, not 63.0999985."""
    return float(f"{value:.7g}")


def combo(
    label: str,
    options: Sequence[str],
    current: str,
    width: float = 0.0,
    empty: str = "—",
    called: Callable[[str], str] = str,
) -> str:
    """A drop-down list, each option as it is called; returns the choice."""
    if width:
        imgui.set_next_item_width(width)
    if imgui.begin_combo(label, called(current) or empty):
        for option in options:
            clicked, _ = imgui.selectable(called(option) or empty, option == current)
            if clicked:
                current = option
        imgui.end_combo()
    return current


def icon_button(icon: str, name: str, tip: str, active: bool = False, enabled: bool = True) -> bool:
    """A square button with an icon; lit when active."""
    imgui.begin_disabled(not enabled)
    colour = vec(theme.ACCENT, 0.32) if active else vec(theme.FRAME, 0.85)
    with imgui_ctx.push_style_color(imgui.Col_.button, colour):
        clicked = imgui.button(f"{icon}###{name}", ImVec2(em(1.75), 0))  # the icon may change, the id not
    imgui.end_disabled()
    tooltip(tip)
    return clicked


def histogram_slider(
    name: str,
    value: float,
    low: float,
    high: float,
    edges: np.ndarray,
    counts: np.ndarray,
    caution: bool = False,
) -> tuple[bool, float]:
    """A slider drawn over the training distribution, with the current value in it.

    Ctrl-click types a value, arrow keys step while hovered, Shift drags ten times finer.

    Args:
        name: Id of the slider; its label is not shown.
        value: Native units.
        edges: [B+1] histogram edges.
        counts: [B] histogram counts.
        caution: Colour the mark as a warning.

    Returns:
        Whether it changed, and the value.
    """
    width, tall = imgui.get_content_region_avail().x, em(2.0)
    corner = imgui.get_cursor_screen_pos()
    inset = em(0.17)  # imgui keeps 2 px and half a grab free at either end
    draw = imgui.get_window_draw_list()
    draw.add_rect_filled(corner, ImVec2(corner.x + width, corner.y + tall), u32(theme.CANVAS), em(0.25))
    span = max(high - low, 1e-12)
    left, inner = corner.x + inset, width - 2 * inset
    _bars(
        draw,
        edges,
        counts,
        value,
        xs=left + inner * np.clip((edges - low) / span, 0, 1),
        base=corner.y + tall - em(0.12),
        tall=tall - em(0.35),
    )
    imgui.set_next_item_width(width)
    changed, new = _clear_slider(name, value, low, high, ImVec2(inset, (tall - imgui.get_font_size()) / 2))
    new = _short(new) if changed and math.isfinite(new) else new
    active, hovered = imgui.is_item_active(), imgui.is_item_hovered()
    changed, new = _fine(changed, new, value, span / max(inner, 1), low, high)
    if hovered and not active and not imgui.get_io().want_text_input:
        step = span / (1000 if imgui.get_io().key_shift else 100)
        for key, sign in ((imgui.Key.left_arrow, -1), (imgui.Key.right_arrow, 1)):
            if imgui.is_key_pressed(key):
                changed, new = True, min(high, max(low, value + sign * step))
    x = left + inner * min(1.0, max(0.0, (value - low) / span))
    colour = u32(theme.AMBER if caution else theme.ACCENT, 1.0 if active or hovered else 0.9)
    draw.add_line(ImVec2(x, corner.y + em(0.1)), ImVec2(x, corner.y + tall - em(0.1)), colour, em(0.13))
    draw.add_circle_filled(ImVec2(x, corner.y + tall - em(0.45)), em(0.34), colour)
    return changed, new


def _clear_slider(name: str, value: float, low: float, high: float, padding: ImVec2) -> tuple[bool, float]:
    """A slider of which nothing is drawn but a breath of light while it is hovered or held."""
    clear = vec(theme.CANVAS, 0)
    with (
        imgui_ctx.push_style_color(imgui.Col_.frame_bg, clear),
        imgui_ctx.push_style_color(imgui.Col_.frame_bg_hovered, vec(theme.TEXT, 0.04)),
        imgui_ctx.push_style_color(imgui.Col_.frame_bg_active, vec(theme.TEXT, 0.05)),
        imgui_ctx.push_style_color(imgui.Col_.slider_grab, clear),
        imgui_ctx.push_style_color(imgui.Col_.slider_grab_active, clear),
        imgui_ctx.push_style_var(imgui.StyleVar_.frame_padding, padding),
        imgui_ctx.push_style_var(imgui.StyleVar_.grab_min_size, 1.0),
    ):
        return imgui.slider_float(name, value, low, high, "", imgui.SliderFlags_.no_round_to_format)


def _bars(
    draw: imgui.ImDrawList,
    edges: np.ndarray,
    counts: np.ndarray,
    value: float,
    xs: np.ndarray,
    base: float,
    tall: float,
) -> None:
    """The bars of a histogram whose edges stand at `xs` on the screen; the one that holds the value is
    lit."""
    if not counts.size or counts.max() <= 0:
        return
    tops = base - np.maximum(1.0, tall * counts / counts.max())
    rights = np.maximum(xs[1:] - 1, xs[:-1] + 1)
    lit = (edges[:-1] <= value) & (value <= edges[1:])
    plain, strong = u32(theme.ACCENT, 0.34), u32(theme.ACCENT, 0.62)
    shown = counts > 0
    for x0, x1, y, here in zip(*(a[shown].tolist() for a in (xs[:-1], rights, tops, lit))):
        draw.add_rect_filled(ImVec2(x0, y), ImVec2(x1, base), strong if here else plain)


def _fine(
    changed: bool, new: float, value: float, per_pixel: float, low: float, high: float
) -> tuple[bool, float]:
    """Shift held while dragging: a tenth of the mouse's way from the present value."""
    io = imgui.get_io()
    if imgui.is_item_active() and io.key_shift and imgui.is_mouse_down(0):
        moved = io.mouse_delta.x * per_pixel * 0.1
        return moved != 0, min(high, max(low, value + moved))
    return changed, new


def double_clicked() -> bool:
    """True when the item just drawn was double-clicked: reset it. The press then drags nothing."""
    if imgui.is_item_hovered() and imgui.is_mouse_double_clicked(0):
        imgui.internal.clear_active_id()
        return True
    return False


def meter(fraction: float, colour: theme.Colour, height: float = 0.45) -> None:
    """A thin horizontal bar filled to a fraction."""
    width, tall = imgui.get_content_region_avail().x, em(height)
    corner = imgui.get_cursor_screen_pos()
    draw = imgui.get_window_draw_list()
    end = ImVec2(corner.x + width, corner.y + tall)
    draw.add_rect_filled(corner, end, u32(theme.FRAME), tall / 2)
    if fraction > 0:
        filled = ImVec2(corner.x + max(tall, width * min(1.0, fraction)), corner.y + tall)
        draw.add_rect_filled(corner, filled, u32(colour), tall / 2)
    imgui.dummy(ImVec2(width, tall))


def chip(
    content: str,
    x: float,
    y: float,
    colour: theme.Colour = theme.INK,
    align: float = 0.0,
    within: float = 0.0,
) -> None:
    """A small dark label over a picture, at a screen position; `align` 0 left, 0.5 middle, 1 right. It
    breaks into lines to stay `within` a width."""
    wrap = max(1.0, within - em(0.7)) if within else -1.0
    size = imgui.calc_text_size(content, wrap_width=wrap)
    pad = em(0.35)
    x -= align * (size.x + 2 * pad)
    draw = imgui.get_window_draw_list()
    draw.add_rect_filled(
        ImVec2(x, y),
        ImVec2(x + size.x + 2 * pad, y + size.y + em(0.2)),
        u32((0.02, 0.02, 0.03), 0.72),
        em(0.25),
    )
    at = ImVec2(x + pad, y + em(0.1))
    draw.add_text(imgui.get_font(), imgui.get_font_size(), at, u32(colour), content, max(0.0, wrap))


def empty_note(title: str, body: str) -> None:
    """A centred note for a panel that has nothing to show yet."""
    region = imgui.get_content_region_avail()
    imgui.dummy(ImVec2(0, max(0.0, region.y * 0.5 - em(2))))
    size = imgui.calc_text_size(title)
    imgui.set_cursor_pos_x(max(em(0.6), (imgui.get_window_width() - size.x) / 2))
    text(title, theme.TEXT)
    width = min(region.x - em(1.2), em(34))
    size = imgui.calc_text_size(body, wrap_width=width)
    imgui.set_cursor_pos_x(max(em(0.6), (imgui.get_window_width() - size.x) / 2))
    imgui.push_text_wrap_pos(imgui.get_cursor_pos_x() + width)
    text(body, theme.DIM)
    imgui.pop_text_wrap_pos()


def map_view(target: Target, image: np.ndarray, look: Look, side: float) -> None:
    """A map [H, W] fitted into a square.

    Args:
        image: float32 [H, W].
        look: Its window, level and colours; size, origin and step are filled in here.
        side: Of the square, in imgui's units.
    """
    pixels = max(1, round(side * (imgui.get_io().display_framebuffer_scale.x or 1)))
    rows, columns = image.shape[:2]
    step = max(rows, columns) / pixels
    left, top = (columns - step * pixels) / 2, (rows - step * pixels) / 2
    texture = target.show(image, replace(look, size=(pixels, pixels), origin=(left, top), step=(step, step)))
    imgui.image(imgui.ImTextureRef(texture), ImVec2(side, side))


def centre(width: float) -> None:
    """Move the cursor so that an item of this width stands in the middle of the panel."""
    imgui.set_cursor_pos_x(
        imgui.get_cursor_pos_x() + max(0.0, (imgui.get_content_region_avail().x - width) / 2)
    )
