"""Where the slice lies, of a model that learnt slices at many places: a bar beside the picture, the wheel,
Page Up and Page Down."""

from __future__ import annotations

from imgui_bundle import ImVec2, imgui

from explorer_app import theme, widgets
from explorer_app.context import Context
from explorer_app.distribution import TrainingDistribution
from explorer_app.request_edits import whole_picture, with_values
from explorer_app.state import AppState, set_values
from explorer_app.theme import em, u32
from mssg.study.model import AXES

WIDTH = 1.1
"""Of the bar, in units of the text's height."""


BESIDE = 4
"""Slices on either side that are drawn before they are asked for."""


def has_bar(app: Context) -> bool:
    """Whether the model's slices lie at many places."""
    distribution = app.document.distribution
    return distribution is not None and len(distribution.places) > 1


def scrolled(app: Context, state: AppState, steps: float) -> AppState:
    """The state so many slices further, positive towards superior, anterior or right; it ends at the ends."""
    distribution = app.document.distribution
    if distribution is None or distribution.study.position is None:
        return state
    name, places = distribution.study.position, distribution.places
    wanted = state.value(name) + steps * float(places[1] - places[0])
    return set_values(state, **{name: distribution.nearest_place(wanted)})


def takes_wheel(app: Context) -> bool:
    """Whether the wheel scrolls through slices as it is turned now; else it zooms."""
    return has_bar(app) and (app.interface.wheel == "slices") != imgui.get_io().key_ctrl


def wheel(app: Context, state: AppState) -> AppState:
    """The state after the wheel over a picture whose slices it scrolls through."""
    turned = imgui.get_io().mouse_wheel
    if not turned or not takes_wheel(app):
        return state
    return scrolled(app, state, steps(turned))


def steps(turned: float) -> int:
    """Slices that the wheel asks for: at least one, however little it was turned."""
    return round(turned) or (1 if turned > 0 else -1)


def ask_beside(app: Context, state: AppState) -> None:
    """Have the slices beside the one shown drawn while nothing is held, so that the next is there at once."""
    distribution = app.document.distribution
    if imgui.is_any_item_active() or state.request.layer or distribution is None:
        return
    position = distribution.study.position
    assert position is not None
    nearest_first = (side * step for step in range(1, BESIDE + 1) for side in (1, -1))
    near = {scrolled(app, state, step).value(position): None for step in nearest_first}
    app.client.request_along(with_values(whole_picture(state.request), **{position: place}) for place in near)


def keys(app: Context, state: AppState) -> AppState:
    """Page up and page down scroll a slice, with Shift ten."""
    if not has_bar(app):
        return state
    steps = imgui.is_key_pressed(imgui.Key.page_up) - imgui.is_key_pressed(imgui.Key.page_down)
    return scrolled(app, state, steps * (10 if imgui.get_io().key_shift else 1)) if steps else state


def draw(app: Context, state: AppState, corner: ImVec2, height: float) -> AppState:
    """Draw the bar; a click or drag goes to a place.

    Args:
        corner: Its upper left.
        height: Of the bar.
    """
    distribution = app.document.distribution
    assert distribution is not None and distribution.study.position is not None
    name, places = distribution.study.position, distribution.places
    low, high = float(places[0]), float(places[-1])
    width, margin = em(WIDTH), em(0.4)
    imgui.set_cursor_screen_pos(corner)
    imgui.invisible_button("##slice", ImVec2(width, height))
    active, hovered = imgui.is_item_active(), imgui.is_item_hovered()
    length = max(1.0, height - 2 * margin)
    if active:
        share = 1 - (imgui.get_io().mouse_pos.y - corner.y - margin) / length
        state = set_values(state, **{name: distribution.nearest_place(low + share * (high - low))})
    widgets.tooltip(_about(distribution, state.value(name)))

    def at(place: float) -> float:
        return corner.y + margin + length * (1 - (place - low) / (high - low))

    drawn = imgui.get_window_draw_list()
    ranges = distribution.place_ranges()
    for i, (first, last) in enumerate(ranges.values()):
        x = corner.x + width * (i + 1) / (len(ranges) + 1)
        drawn.add_line(ImVec2(x, at(first)), ImVec2(x, at(last)), u32(theme.FAINT), em(0.12))
    y = at(state.value(name))
    colour = u32(theme.INK if active or hovered else theme.TEXT)
    drawn.add_rect_filled(ImVec2(corner.x, y - em(0.13)), ImVec2(corner.x + width, y + em(0.13)), colour, 2.0)
    return state


def label(distribution: TrainingDistribution, place: float) -> str:
    """A place in words: y −18.0 mm."""
    geometry = distribution.study.geometry
    axis = "xyz"[AXES[geometry.plane][0]] if geometry else "at"
    return f"{axis} {place:+.1f} mm"


def _about(distribution: TrainingDistribution, place: float) -> str:
    ranges = (f"{n} {first:g} to {last:g}" for n, (first, last) in distribution.place_ranges().items())
    return (
        f"The slice lies at {label(distribution, place)}. Drag here, turn the wheel over the picture, or"
        f" press Page Up and Page Down (Shift: ten slices). Learnt: {', '.join(ranges)} mm."
    )
