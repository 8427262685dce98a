"""Over seeds: several people in the picture's place, their mean, and where they differ."""

from __future__ import annotations

from dataclasses import replace

from imgui_bundle import ImVec2, imgui

from explorer_app import theme, widgets
from explorer_app.context import Context
from explorer_app.geometry import View
from explorer_app.people import MODES, MOST_PEOPLE, people_of, person
from explorer_app.state import AppState
from explorer_app.theme import em
from mssg.rendering.request import RenderRequest

_TIPS = (
    "One picture.",
    "Several people at these covariates, in the picture's place, zoomed and read out together.",
    "Their mean picture; it can be compared with a pin.",
    "Standard deviation over them: where pictures of these covariates differ.",
    "Mean and standard deviation side by side.",
)


def draw(app: Context, state: AppState) -> AppState:
    """Draw what decides who is looked at."""
    analysis = state.analysis
    mode = widgets.segmented("uncertainty", MODES, analysis.uncertainty, _TIPS)
    if mode == "off":
        return (
            state
            if mode == analysis.uncertainty
            else replace(state, analysis=replace(analysis, uncertainty=mode))
        )
    imgui.set_next_item_width(-1)
    most = MOST_PEOPLE if mode == "people" else 64
    shown, clamped = min(analysis.seeds, most), imgui.SliderFlags_.always_clamp
    changed, seeds = imgui.slider_int("##seeds", shown, 2, most, "%d seeds", clamped)
    widgets.tooltip("How many seeds, starting from the current one.")
    chosen = replace(analysis, uncertainty=mode, seeds=seeds if changed else analysis.seeds)
    state = state if chosen == analysis else replace(state, analysis=chosen)
    people = people_of(state)
    there = sum(1 for p in people if (f := app.client.frame(p)) is not None and not f.preview)
    if state.request.layer is not None:
        widgets.wrapped("A layer is shown (Inspect): people are looked at as pictures.")
    elif there < len(people):
        widgets.text(f"rendering {there} of {len(people)}", theme.DIM)
        widgets.meter(there / len(people), theme.ACCENT, 0.3)
    elif mode != "people":
        widgets.wrapped("In grey levels, in the picture's place; File > Export writes it.", theme.FAINT)
    return state


def names(state: AppState, shown: list[tuple[RenderRequest, View]]) -> AppState:
    """A button with the name of each person, over their picture; a click takes them over."""
    for number, (request, view) in enumerate(shown):
        imgui.set_cursor_screen_pos(ImVec2(view.x + em(0.4), view.y + em(0.4)))
        colour = imgui.Col_.button
        imgui.push_style_color(colour, theme.vec((0.02, 0.02, 0.03), 0.72))
        imgui.push_style_color(imgui.Col_.text, theme.vec(theme.INK))
        clicked = imgui.small_button(f"{person(request)}###person {number}")
        imgui.pop_style_color(2)
        widgets.tooltip("Take this person over.")
        if clicked:
            state = replace(state, request=replace(request, mix_seed=state.request.mix_seed))
    return state
