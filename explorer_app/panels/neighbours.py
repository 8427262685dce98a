"""Neighbours: the real images whose recorded covariates are nearest to those asked, to open beside the
generated one."""

from __future__ import annotations

from imgui_bundle import ImVec2, imgui
from imgui_bundle import icons_fontawesome_6 as icons

from explorer_app import theme, widgets
from explorer_app.context import Context
from explorer_app.distribution import TrainingDistribution
from explorer_app.guest import beside
from explorer_app.interface import Dialog
from explorer_app.neighbours import Neighbour
from explorer_app.panels.browser import browse
from explorer_app.panels.grid import thumbnail
from explorer_app.real_image import RealImage
from explorer_app.state import AppState
from explorer_app.theme import em, u32

_MOST = 12


def draw(app: Context, state: AppState) -> AppState:
    """Draw the panel."""
    distribution = app.document.distribution
    if distribution is None:
        widgets.empty_note("No snapshot", "Open one to see real images beside its pictures.")
        return state
    near = app.neighbours
    gallery = near.gallery(state.snapshot, distribution.study)
    if imgui.button(f"{icons.ICON_FA_FOLDER_OPEN}  prepared source…##gallery"):
        app.interface.dialogs.add(Dialog.GALLERY)
    widgets.tooltip("Take the images of another prepared source of this study.")
    imgui.same_line()
    if near.problem:
        widgets.wrapped(near.problem, theme.RED)
    elif near.busy:
        widgets.text("looking for real images …", theme.DIM)
    elif gallery is not None:
        widgets.text(
            f"{len(gallery)} {gallery.kind} images, nearest first by what is recorded of them", theme.DIM
        )
        origin = f"{gallery.origin}. " if gallery.origin else ""
        widgets.tooltip(
            f"{origin}Distance: over all covariates that are recorded of an image, in standard deviations of"
            " these images. One image of each person."
        )
    if gallery is not None:
        return _strip(app, state, distribution)
    widgets.empty_note(
        "No real images at hand",
        "The prepared data of this model are not here, and no gallery is shipped for its study. Choose the"
        " folder of a prepared source.",
    )
    return state


def _strip(app: Context, state: AppState, distribution: TrainingDistribution) -> AppState:
    """Small pictures side by side with what is recorded of each."""
    region, line = imgui.get_content_region_avail(), imgui.get_text_line_height()
    shown = len(distribution.study.personal_conditions)
    lines = min(shown, max(0, int((region.y - em(4)) / line) - 1)) + 1
    cell = max(em(3), min(region.y - lines * line - em(0.6), em(9)))
    gap = em(0.4)
    count = max(1, min(_MOST, int((region.x + gap) / (cell + gap))))
    found = app.neighbours.nearest(app.still(state).request.covariates, count)
    corner = imgui.get_cursor_screen_pos()
    for number, neighbour in enumerate(found):
        at = ImVec2(corner.x + number * (cell + gap), corner.y)
        state = _neighbour(app, state, distribution, neighbour, number, at, cell, lines)
    app.screen.keep({f"near {n}" for n in range(len(found))}, "near ")
    return state


def _neighbour(
    app: Context,
    state: AppState,
    distribution: TrainingDistribution,
    neighbour: Neighbour,
    number: int,
    at: ImVec2,
    cell: float,
    lines: int,
) -> AppState:
    frame = app.neighbours.frame(neighbour)
    image = frame.request
    assert isinstance(image, RealImage)
    drawn, end = imgui.get_window_draw_list(), ImVec2(at.x + cell, at.y + cell)
    drawn.add_image(imgui.ImTextureRef(thumbnail(app, f"near {number}", frame, cell, state)), at, end)
    if state.pin is not None and state.pin.request == image:
        drawn.add_rect(at, end, u32(theme.ACCENT), thickness=2)
    study = distribution.study
    words = [f"{neighbour.distance:.2f} sd away"]
    words += [
        f"{c.title} "
        + (c.format(neighbour.values[c.name], unit=False) if c.name in neighbour.values else "–")
        for c in study.personal_conditions
    ]
    for i, text in enumerate(words[:lines]):
        while len(text) > 3 and imgui.calc_text_size(text).x > cell:
            text = text[:-2] + "…"
        drawn.add_text(
            ImVec2(at.x, end.y + em(0.15) + i * imgui.get_text_line_height()),
            u32(theme.DIM if i else theme.FAINT),
            text,
        )
    imgui.set_cursor_screen_pos(at)
    if imgui.invisible_button(f"neighbour {number}", ImVec2(cell, cell)):
        state = beside(state, image)
    recorded = "\n".join(
        f"{study.covariate(n).title}  {study.covariate(n).format(v)}" for n, v in neighbour.values.items()
    )
    widgets.tooltip(
        f"A {image.kind} image: {image.name}, {image.about}.\nRecorded:\n{recorded}\n"
        f"{neighbour.distance:.2f} standard deviations from the sliders. Click to open it beside the picture."
    )
    return state


def choose(app: Context, state: AppState) -> AppState:
    """The dialog that chooses a prepared source."""
    widgets.text("The folder of a prepared source: images.npy, table.csv, source.json.", theme.DIM)
    chosen = browse(app, Dialog.GALLERY, ("images.npy",), folders=True)
    distribution = app.document.distribution
    if chosen and distribution is not None:
        folder = chosen.removesuffix("images.npy").rstrip("/")
        app.neighbours.choose(folder, state.snapshot, distribution.study)
        app.interface.dialogs.discard(Dialog.GALLERY)
    return state
