"""Help: a tour of five minutes on the model that is open, and where the documentation is."""

from __future__ import annotations

import importlib.metadata
import webbrowser
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from imgui_bundle import ImVec2, hello_imgui, imgui
from imgui_bundle import icons_fontawesome_6 as icons

from explorer_app import config, theme, widgets
from explorer_app.context import Context
from explorer_app.interface import Dialog
from explorer_app.state import AppState
from explorer_app.theme import em, u32

_PAGE = "docs/guide/explorer.md"
_ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Step:
    """One thing to try.

    Attributes:
        panel: Which is brought to the front and framed.
        done: Whether it was done, from the state at the step's beginning and now.
    """

    panel: str
    text: str
    done: Callable[[AppState, Context], bool]


STEPS = (
    Step(
        "Covariates",
        "Drag the first slider. The picture answers while the mouse moves, and the other sliders follow as"
        " in the"
        " people the model learnt from: that is linked.",
        lambda was, app: app.state.request.covariates != was.request.covariates,
    ),
    Step(
        "Covariates",
        "Press L, or choose free: now a slider changes its own covariate only. Drag one far out: the gauge"
        " below says"
        " how well the training data cover what you ask for.",
        lambda was, app: app.state.mode != was.mode,
    ),
    Step(
        "Picture",
        "Press P to pin this picture, then drag a slider.",
        lambda was, app: len(app.state.pins) > len(was.pins),
    ),
    Step(
        "Display",
        "Press D: the signed difference from the pin. blend and swipe compare them otherwise; D again goes"
        " back.",
        lambda was, app: app.state.display.compare == "difference",
    ),
    Step(
        "Latent",
        "Press S for another seed: another person at the same covariates.",
        lambda was, app: (
            (app.state.request.seed, app.state.request.blend) != (was.request.seed, was.request.blend)
        ),
    ),
    Step(
        "Grid",
        "Two covariates at once. A sign marks what the data do not cover. Click a cell to take it over.",
        lambda was, app: app.state.request.covariates != was.request.covariates,
    ),
    Step(
        "Measured",
        "What was asked beside what an instrument reads on the picture, with the instrument's own error."
        " Over seeds"
        " shows where pictures of these covariates differ: choose both.",
        lambda was, app: app.state.analysis.uncertainty != was.analysis.uncertainty,
    ),
    Step(
        "Regions",
        "Choose the ruler and drag on the picture: a distance. The outline shows what the oracle takes for"
        " what.",
        lambda was, app: app.state.marks != was.marks or app.state.display.outlines != was.display.outlines,
    ),
    Step(
        "Picture",
        "Press Ctrl-E: what is written is what you see, with its provenance. Close the dialog again.",
        lambda was, app: Dialog.EXPORT in app.interface.dialogs,
    ),
    Step(
        "Picture",
        "Press Ctrl-Z: everything can be undone. F1 lists all keys; the documentation is in this menu.",
        lambda was, app: app.document.history.can_redo,
    ),
)


def begin(app: Context) -> None:
    """Start the tour, on the shipped model where none is open."""
    if app.document.distribution is None:
        app.document.open(config.default_snapshot())
    if app.document.distribution is not None:
        _go(app, 0)


def _go(app: Context, step: int) -> None:
    tour = app.interface.tour
    tour.step, tour.begun, tour.done = (step if step < len(STEPS) else -1), app.state, False
    if tour.step >= 0:
        docking = hello_imgui.get_runner_params().docking_params
        for window in docking.dockable_windows:
            window.is_visible |= window.label == STEPS[step].panel
        docking.focus_dockable_window(STEPS[step].panel)


def draw(app: Context) -> None:
    """Draw the step of the tour, where there is one: what to do, beside its panel, which is framed."""
    tour = app.interface.tour
    if not 0 <= tour.step < len(STEPS) or app.document.distribution is None:
        return
    step = STEPS[tour.step]
    tour.done = tour.done or step.done(tour.begun, app)
    panel = imgui.internal.find_window_by_name(step.panel)
    if panel is not None:
        end = ImVec2(panel.pos.x + panel.size.x, panel.pos.y + panel.size.y)
        imgui.get_foreground_draw_list().add_rect(panel.pos, end, u32(theme.ACCENT), thickness=em(0.15))
    screen = imgui.get_main_viewport().work_size
    imgui.set_next_window_pos(ImVec2(screen.x / 2, em(2.4)), imgui.Cond_.appearing, ImVec2(0.5, 0.0))
    imgui.set_next_window_size(ImVec2(min(em(26), screen.x * 0.7), 0))
    flags = (
        imgui.WindowFlags_.no_docking | imgui.WindowFlags_.no_saved_settings | imgui.WindowFlags_.no_collapse
    )
    flags |= imgui.WindowFlags_.no_focus_on_appearing | imgui.WindowFlags_.no_resize
    shown, still = imgui.begin(f"Tour: {tour.step + 1} of {len(STEPS)}###tour", True, int(flags))
    if shown:
        _step(app, step, tour.done)
    imgui.end()
    if not still:
        _go(app, len(STEPS))


def _step(app: Context, step: Step, done: bool) -> None:
    widgets.wrapped(step.text, theme.TEXT)
    tour = app.interface.tour
    imgui.begin_disabled(tour.step == 0)
    if imgui.button("back##tour", ImVec2(em(5), 0)):
        _go(app, tour.step - 1)
    imgui.end_disabled()
    imgui.same_line()
    last = tour.step + 1 == len(STEPS)
    if imgui.button(f"{'end' if last else 'next'}###tour next", ImVec2(em(5), 0)):
        _go(app, tour.step + 1)
    imgui.same_line()
    widgets.text(
        f"{icons.ICON_FA_CHECK}  done" if done else "try it, or go on", theme.GOOD if done else theme.DIM
    )


def documentation() -> str:
    """The address of the explorer's page: built here, as text here, or at the source's public address; ""
    where there is none."""
    built, text = _ROOT / "site/guide/explorer.html", _ROOT / _PAGE
    for file in (built, text):
        if file.is_file():
            return file.as_uri()
    for entry in importlib.metadata.metadata("mssg").get_all("Project-URL") or ():
        name, _, address = entry.partition(", ")
        if name == "Source":
            return f"{address}/blob/HEAD/{_PAGE}"
    return ""


def menu(app: Context) -> None:
    """Draw the menu's items."""
    if imgui.menu_item("Tour, five minutes", "", app.interface.tour.step >= 0, True)[0]:
        begin(app)
    address = documentation()
    if imgui.menu_item("Documentation", "", False, bool(address))[0]:
        app.interface.note(f"opening {address}")
        webbrowser.open(address)
    widgets.tooltip(address or "This installation names no address of its documentation: see mssg --help.")
    imgui.separator()
