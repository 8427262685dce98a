"""Measured: what the study's instrument reads on the picture, against what was requested; uncertainty over seeds."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
from imgui_bundle import ImVec2, imgui

from explorer_app import theme, widgets
from explorer_app.context import Context
from explorer_app.display import Look
from explorer_app.state import AppState, seed_pictures
from explorer_app.theme import em


def draw(app: Context, state: AppState) -> AppState:
    """Draw the panel."""
    population, frame = app.population, app.shown
    if population is None:
        widgets.empty_note("Nothing to measure", "Open a snapshot.")
        return state
    if frame is None or not frame.measured:
        name = population.study.instrument
        widgets.wrapped(
            f"Waiting for a picture to measure with the {name} instrument." if name
            else "This study names no instrument, and no predictors are loaded: requested values cannot be checked on the picture."
        )  # fmt: skip
    else:
        _table(app, state)
    widgets.heading("Over seeds")
    return _uncertainty(app, state)


def _table(app: Context, state: AppState) -> None:
    population, frame = app.population, app.shown
    assert population is not None and frame is not None
    flags = imgui.TableFlags_.sizing_stretch_prop | imgui.TableFlags_.pad_outer_x
    if imgui.begin_table("measured", 4, flags):
        for title, weight in (("", 2.2), ("requested", 1.8), ("measured", 1.8), ("error", 1.6)):
            imgui.table_setup_column(title, 0, weight)
        imgui.table_next_row()
        for title in ("", "requested", "measured", "error"):
            imgui.table_next_column()
            widgets.text(title, theme.FAINT)
        asked = dict(frame.picture.values)
        for name, value in frame.measured.items():
            if name not in population.study.condition_names:
                continue
            covariate = population.study.covariate(name)
            low, high = population.range(name)
            error = value - asked[name]
            known = math.isfinite(error)
            large = known and abs(error) > 0.15 * (high - low)
            told = "–" if not known else f"{error:+.2f}" if abs(error) < 10 else f"{error:+.1f}"
            imgui.table_next_row()
            imgui.table_next_column()
            widgets.text(name)
            cells = (
                covariate.format(asked[name], unit=False),
                covariate.format(value, unit=False) if known else "–",
                told,
            )
            for i, text in enumerate(cells):
                imgui.table_next_column()
                widgets.text(
                    text + (" !" if large and i == 2 else ""), theme.AMBER if large and i == 2 else theme.TEXT
                )
                widgets.tooltip(_explained(name, covariate.unit, error, high - low))
        imgui.end_table()
    widgets.text(f"by the {population.study.instrument} oracle, on this picture", theme.FAINT)
    widgets.tooltip(
        "An oracle measures the pixels themselves; its own error is small and is documented with it."
    )


def _explained(name: str, unit: str, error: float, span: float) -> str:
    if not math.isfinite(error):
        return f"The instrument finds no {name} on this picture."
    return f"{name} in {unit or 'native units'}; error {error:+.3g}, {100 * abs(error) / span:.0f} % of the training range."


def _uncertainty(app: Context, state: AppState) -> AppState:
    analysis = state.analysis
    mode = widgets.segmented("uncertainty", ("off", "mean", "sd"), analysis.uncertainty, (
        "No statistics over seeds.", "Mean picture over seeds at these covariates.", "Standard deviation over seeds: where pictures of these covariates differ.",
    ), imgui.get_content_region_avail().x - em(6.2))  # fmt: skip
    imgui.same_line()
    imgui.set_next_item_width(-1)
    _, seeds = imgui.slider_int("##seeds", analysis.seeds, 2, 64, "%d seeds", imgui.SliderFlags_.always_clamp)
    widgets.tooltip("How many seeds, starting from the current one.")
    state = replace(state, analysis=replace(analysis, uncertainty=mode, seeds=seeds))
    if mode == "off" or not state.snapshot:
        return state
    pictures = seed_pictures(state)
    app.want(pictures)
    images = [f.image for p in pictures if (f := app.service.frame(p)) is not None and not f.preview]
    if len(images) < 2:
        widgets.text("rendering", theme.DIM)
        return state
    _map(app, state, images, mode, len(pictures))
    return state


def _map(app: Context, state: AppState, images: list[np.ndarray], mode: str, wanted: int) -> None:
    key = (mode, tuple(id(i) for i in images))
    if app.maps.get("seeds key") != key:
        stack = np.stack(images)
        app.maps["seeds key"] = key
        app.maps["seeds"] = (stack.mean(0) if mode == "mean" else stack.std(0, ddof=1)).astype(np.float32)
    image = app.maps["seeds"]
    top = max(1.0, float(image.max()))
    side = max(em(5), min(imgui.get_content_region_avail().x, imgui.get_content_region_avail().y - em(1.6)))
    pixels = max(1, round(side * (imgui.get_io().display_framebuffer_scale.x or 1)))
    rows, columns = image.shape[:2]
    step = max(rows, columns) / pixels
    mirror = app.mirrored(state)
    look = Look(
        (pixels, pixels), (columns if mirror else 0, 0), (-step if mirror else step, step), linear=True
    )
    if mode == "sd":
        look = replace(look, level=top / 2, width=top, colormap="magma")
    texture = app.screen.target("seeds").show(image, look)
    x = max(0.0, (imgui.get_content_region_avail().x - side) / 2)
    imgui.set_cursor_pos_x(imgui.get_cursor_pos_x() + x)
    imgui.image(imgui.ImTextureRef(texture), ImVec2(side, side))
    note = "mean grey level" if mode == "mean" else f"sd, 0 to {top:.0f} grey levels"
    widgets.tooltip(f"{note}, over {len(images)} of {wanted} seeds at these covariates.")
    widgets.text(f"{note} · {len(images)} of {wanted} seeds", theme.FAINT)
