"""Display: window and level, colour map, interpolation, comparison with pins. None of it renders anything."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache

import numpy as np
from imgui_bundle import ImVec2, imgui
from imgui_bundle import icons_fontawesome_6 as icons

from explorer_app import colormaps, theme, widgets
from explorer_app.comparison import Part
from explorer_app.context import Context
from explorer_app.panels.latent import label_at
from explorer_app.state import (
    COLORMAPS,
    COMPARE_MODES,
    FULL_LEVEL,
    FULL_WIDTH,
    AppState,
    Display,
    add_pin,
    remove_pin,
    set_compare,
)
from explorer_app.theme import em, u32
from mssg.rendering.request import RenderRequest
from mssg.text import number

PRESETS = {"full": (127.5, 255.0), "bright": (90.0, 180.0), "dark": (170.0, 170.0), "narrow": (127.5, 100.0)}
_BAR_STEPS = 48
_LABEL_EM = 5
_WINDOW_TIP = "Width: span of grey levels from black to white. Also: right-drag on the picture, sideways."
_LEVEL_TIP = "Level: the grey level shown in the middle. Also: right-drag on the picture, up and down."
_FIT_TIP = "Fit the window to this picture's 1 % to 99 % range."
_CHANGE_TIP = "Width of the differences' window: grey levels from the darkest blue to the brightest orange."
_THRESHOLD_TIP = "Differences smaller than this are not shown. Double-click: 0."
_COMPARE_LABELS = ("now", "flip", "side", "diff", "blend", "swipe")
_COMPARE_TIPS = (
    "Only the current picture.",
    "Current and pinned picture in the same place; F flips.",
    "Current and pinned picture side by side, zoomed and moved together.",
    (
        "Current minus pinned, signed: blue is darker than the pin, orange brighter, in a window of its own."
        " Key D."
    ),
    "Both in one place, each with its share.",
    "Current on the left, pinned on the right of a line; drag the line on the picture.",
)


def draw(app: Context, state: AppState) -> AppState:
    """Draw the panel."""
    frame = app.client.shown
    part = app.parts(frame)[0][0] if frame else None
    if part is not None and part.is_difference:
        display = _change(app, part, state.display)
    else:
        image = app.viewed(frame, "view 0") if frame else None
        display = _histogram(None if image is None else _counts(app, image), state.display)
        display = _colours(_window(display, image))
    state = replace(state, display=display)
    widgets.heading("Compare")
    label = widgets.segmented(
        "compare", _COMPARE_LABELS, _COMPARE_LABELS[COMPARE_MODES.index(display.compare)], _COMPARE_TIPS
    )
    mode = COMPARE_MODES[_COMPARE_LABELS.index(label)]
    if mode != display.compare:
        state = set_compare(state, mode)
    if mode in ("blend", "swipe"):
        state = replace(state, display=_share(state.display))
    return _pins(state)


def _window(display: Display, image: np.ndarray | None) -> Display:
    """Width, level and presets of the window."""
    label = em(_LABEL_EM)
    label_at("window", label, _WINDOW_TIP)
    width = widgets.float_slider(
        "##window", display.width, 1.0, 510.0, form="%.0f", flags=imgui.SliderFlags_.logarithmic
    )
    if widgets.double_clicked():
        width = FULL_WIDTH
    label_at("level", label, _LEVEL_TIP)
    level = widgets.float_slider("##level", display.level, 0.0, 255.0, form="%.0f")
    if widgets.double_clicked():
        level = FULL_LEVEL
    display = replace(display, width=width, level=level)
    label_at("preset", label)
    current = next((n for n, p in PRESETS.items() if p == (display.level, display.width)), "")
    chosen = widgets.combo("##preset", tuple(PRESETS), current, width=-em(2.2), empty="custom")
    widgets.tooltip("Window and level presets.")
    if chosen != current:
        display = replace(display, level=PRESETS[chosen][0], width=PRESETS[chosen][1])
    imgui.same_line()
    fit = widgets.icon_button(icons.ICON_FA_WAND_MAGIC_SPARKLES, "auto window", _FIT_TIP)
    if fit and image is not None:
        low, high = (float(v) for v in np.percentile(image, (1, 99)))
        display = replace(display, level=(low + high) / 2, width=max(1.0, high - low))
    return display


def _colours(display: Display) -> Display:
    """Colour map, and whether it runs the other way."""
    label_at("colours", em(_LABEL_EM))
    name = widgets.combo("##colormap", COLORMAPS, display.colormap, width=-em(2.2))
    widgets.tooltip("Colour map; grey, or perceptually even ones.")
    imgui.same_line()
    half, tip = icons.ICON_FA_CIRCLE_HALF_STROKE, "Invert the colours (I)."
    invert = display.invert != widgets.icon_button(half, "invert", tip, display.invert)
    return replace(display, colormap=name, invert=invert)


def _counts(app: Context, image: np.ndarray) -> np.ndarray:
    """How often each of 64 grey levels occurs in the picture, float64 [64]."""
    return app.maps.computed(
        "grey levels", [image], (), lambda: np.histogram(image, 64, (0, 255))[0].astype(np.float64)
    )


def _histogram(counts: np.ndarray | None, display: Display) -> Display:
    """The picture's grey levels with the window over them, and the colour bar; drag moves level and width."""
    corner, width, tall = _bars(counts)
    draw = imgui.get_window_draw_list()
    low, high = display.level - display.width / 2, display.level + display.width / 2
    xs = [corner.x + width * min(1.0, max(0.0, v / 255)) for v in (low, high)]
    draw.add_line(ImVec2(xs[0], corner.y + tall), ImVec2(xs[1], corner.y + em(0.1)), u32(theme.ACCENT), 1.5)
    for x in xs:
        draw.add_line(ImVec2(x, corner.y), ImVec2(x, corner.y + tall), u32(theme.ACCENT, 0.5))
    imgui.invisible_button("##window level", ImVec2(width, tall))
    if imgui.is_item_active():
        move = imgui.get_io().mouse_delta
        display = replace(
            display,
            level=min(255.0, max(0.0, display.level + move.x / width * 255)),
            width=min(510.0, max(1.0, display.width - move.y * 2)),
        )
    if widgets.double_clicked():
        display = replace(display, level=FULL_LEVEL, width=FULL_WIDTH)
    widgets.tooltip(
        "Grey levels of the picture. Drag sideways: level; up and down: width; double-click: reset."
    )
    _colour_bar(_bar_colours(display.colormap, display.invert, display.level, display.width), ("0", "255"))
    return display


def _bars(counts: np.ndarray | None) -> tuple[ImVec2, float, float]:
    """64 bars on a dark ground, where the cursor stands; its corner, width and height."""
    corner, width, tall = imgui.get_cursor_screen_pos(), imgui.get_content_region_avail().x, em(2.6)
    draw = imgui.get_window_draw_list()
    draw.add_rect_filled(corner, ImVec2(corner.x + width, corner.y + tall), u32(theme.CANVAS), em(0.25))
    if counts is not None:
        heights = (np.sqrt(counts / max(1.0, counts.max())) * (tall - em(0.3))).tolist()
        step, base, colour = width / 64, corner.y + tall, u32(theme.DIM, 0.45)
        for i, h in enumerate(heights):
            if h > 0:
                x = corner.x + i * step
                draw.add_rect_filled(ImVec2(x, base - max(1, h)), ImVec2(x + step - 1, base), colour)
    return corner, width, tall


def _change(app: Context, part: Part, display: Display) -> Display:
    """A difference: its histogram around zero, its window and threshold, and whether it lies over the
    picture."""
    assert part.other is not None
    width, change = app.change_width(part), part.image - part.other
    half = max(4.0, float(np.abs(change).max()), width / 2)
    images = [part.image, part.other]
    counts = app.maps.computed(
        "changes", images, (half,), lambda: np.histogram(change, 64, (-half, half))[0].astype(np.float64)
    )
    corner, wide, tall = _bars(counts)
    draw = imgui.get_window_draw_list()
    for place, colour in ((width / 2, theme.ACCENT), (display.change_threshold, theme.AMBER)):
        for sign in (-1, 1) if place else ():
            x = corner.x + wide * (0.5 + 0.5 * sign * place / half)
            draw.add_line(ImVec2(x, corner.y), ImVec2(x, corner.y + tall), u32(colour, 0.7), 1.5)
    imgui.dummy(ImVec2(wide, tall))
    widgets.tooltip(f"Differences in grey levels, −{half:.0f} to +{half:.0f}; blue lines: the window.")
    ends = number(width / 2)
    _colour_bar(_bar_colours("signed", False, FULL_LEVEL, FULL_WIDTH), (f"−{ends}", f"+{ends}"))
    label = em(_LABEL_EM)
    label_at("window", label, _CHANGE_TIP)
    imgui.set_next_item_width(-em(4.4))
    form, log = "%.1f" if width < 20 else "%.0f", imgui.SliderFlags_.logarithmic
    moved = widgets.float_slider("##change window", width, 1.0, 510.0, form=form, flags=log)
    widgets.tooltip(_CHANGE_TIP)
    if moved != width:
        display = replace(display, change_width=moved)
    imgui.same_line()
    clicked, automatic = imgui.checkbox("auto##change", display.change_width == 0)
    widgets.tooltip("As wide as the differences are, symmetric around zero.")
    if clicked:
        display = replace(display, change_width=0.0 if automatic else width)
    label_at("threshold", label, _THRESHOLD_TIP)
    threshold = widgets.float_slider("##change threshold", display.change_threshold, 0.0, half, form="%.1f")
    threshold = 0.0 if widgets.double_clicked() else threshold
    widgets.tooltip(_THRESHOLD_TIP)
    label_at("overlay", label)
    _, overlay = imgui.checkbox("over the picture##change", display.change_overlay)
    widgets.tooltip("Lay the differences over the picture in grey: the stronger, the more they cover.")
    return replace(display, change_threshold=threshold, change_overlay=overlay)


def _share(display: Display) -> Display:
    """How much of the pin a blend or swipe shows."""
    tip = (
        "Share of the pinned picture."
        if display.compare == "blend"
        else "Where the line stands, from the left."
    )
    label_at("share", em(_LABEL_EM), tip)
    share = 100 * display.share
    moved = widgets.float_slider("##share", share, 0.0, 100.0, form="%.0f %%")
    moved = 50.0 if widgets.double_clicked() else moved
    widgets.tooltip(f"{tip} Double-click: the middle.")
    return display if moved == share else replace(display, share=moved / 100)


def _colour_bar(colours: tuple[int, ...], ends: tuple[str, str]) -> None:
    """Colours in a row, and what stands at its ends."""
    corner, tall = imgui.get_cursor_screen_pos(), em(0.55)
    width = imgui.get_content_region_avail().x
    draw, step = imgui.get_window_draw_list(), width / _BAR_STEPS
    for i, colour in enumerate(colours):
        x = corner.x + i * step
        draw.add_rect_filled(ImVec2(x, corner.y), ImVec2(x + step + 1, corner.y + tall), colour)
    imgui.dummy(ImVec2(width, tall))
    widgets.text(ends[0], theme.FAINT)
    widgets.right_text(ends[1], theme.FAINT)


@lru_cache(16)
def _bar_colours(colormap: str, invert: bool, level: float, width: float) -> tuple[int, ...]:
    """The colours of grey levels 0 to 255 in even steps."""
    levels = ((np.arange(_BAR_STEPS) + 0.5) / _BAR_STEPS * 255).astype(np.float32)
    shown = colormaps.apply(levels[None], level, width, colormap, invert)[0] / 255
    return tuple(u32(tuple(c)) for c in shown.tolist())


def _pins(state: AppState) -> AppState:
    if imgui.button(f"{icons.ICON_FA_THUMBTACK}  pin##pin", ImVec2(em(4.2), 0)):
        state = add_pin(state)
    widgets.tooltip("Keep the current picture for comparison (P).")
    for i, pin in enumerate(state.pins):
        imgui.same_line(0, em(0.2))
        if imgui.get_content_region_avail().x < em(3):
            imgui.new_line()
        if widgets.icon_button(
            pin.name,
            f"pin {i}",
            f"{pin.label[:1].upper()}{pin.label[1:]}: click to compare with it, right-click for more.",
            i == state.active_pin,
        ):
            state = replace(state, active_pin=i)
        if imgui.begin_popup_context_item(f"pin menu {i}"):
            rendered = isinstance(pin.request, RenderRequest)
            if imgui.menu_item("Show it", "", False, rendered)[0] and isinstance(pin.request, RenderRequest):
                state = replace(state, request=pin.request)
            if not rendered:
                widgets.tooltip("A real picture has no sliders: invert it first (Your image).")
            if imgui.menu_item("Remove", "", False, True)[0]:
                state = remove_pin(state, i)
            imgui.end_popup()
    return state
