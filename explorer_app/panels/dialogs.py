"""Dialogs: open, save, export, evaluation, missing snapshot, training, shortcuts, about. One modal at a
time."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from imgui_bundle import ImVec2, imgui, imgui_ctx
from imgui_bundle import icons_fontawesome_6 as icons

from explorer_app import config, evaluation, launch, layout, theme, widgets
from explorer_app.context import Context
from explorer_app.interface import Dialog, ExportForm
from explorer_app.panels import exporting, neighbours, own_image
from explorer_app.panels.browser import browse
from explorer_app.request_edits import whole_picture
from explorer_app.state import AppState
from explorer_app.tables import read_conditions
from explorer_app.theme import em
from mssg import assets
from mssg.errors import MssgError
from mssg.study.presets import PRESETS

SHORTCUTS = (
    ("Ctrl Z / Ctrl Y", "undo / redo"),
    ("Ctrl O", "open a snapshot, run or session"),
    ("Ctrl V", "paste an image of yours, or the path of one"),
    ("Ctrl S", "save the session"),
    ("Ctrl E", "export the picture"),
    ("Ctrl C", "copy the picture"),
    ("P", "pin the current picture"),
    ("F", "flip between picture and pin"),
    ("D", "signed difference from the pin, on or off"),
    ("L", "linked or free covariates"),
    ("M", "all covariates to their medians"),
    ("S / Shift S", "next / previous seed"),
    ("R", "a seed at random"),
    ("0 / 1", "fit / one to one"),
    ("N", "squares, linear or cubic interpolation"),
    ("I", "invert colours"),
    ("wheel", "zoom at the cursor; where there are slices, the next one (Ctrl: zoom)"),
    ("Page Up / Down", "next / previous slice, with Shift ten"),
    ("right drag", "window and level"),
    ("F1", "this list"),
)
_TITLES = {
    Dialog.OPEN: "Open",
    Dialog.IMAGE: "Open your image",
    Dialog.LATENT: "Save the latent",
    Dialog.GALLERY: "Choose real images",
    Dialog.SAVE: "Save session",
    Dialog.EXPORT: "Export",
    Dialog.EVALUATION: "Load evaluation",
    Dialog.PREDICTOR: "Load predictor",
    Dialog.MISSING: "Where is the snapshot?",
    Dialog.TRAIN: "Train a model",
    Dialog.CONDITIONS: "List of conditions",
    Dialog.SHORTCUTS: "Shortcuts",
    Dialog.ABOUT: "About",
}


def draw(app: Context, state: AppState) -> AppState:
    """Draw whichever dialog is open."""
    for dialog, title in _TITLES.items():
        if dialog in app.interface.dialogs and not imgui.is_popup_open(title):
            imgui.open_popup(title)
        viewport = imgui.get_main_viewport()
        imgui.set_next_window_pos(viewport.get_center(), imgui.Cond_.appearing, ImVec2(0.5, 0.5))
        imgui.set_next_window_size(ImVec2(em(40 if dialog in _BROWSERS else 30), 0), imgui.Cond_.appearing)
        shown, still = imgui.begin_popup_modal(
            title, True, imgui.WindowFlags_.no_saved_settings | imgui.WindowFlags_.always_auto_resize
        )
        if shown:
            state = _DRAW[dialog](app, state)
            asked = app.interface.replacing  # Escape answers that first
            escape = imgui.is_key_pressed(imgui.Key.escape) and not asked
            if not still or dialog not in app.interface.dialogs or escape:
                app.interface.dialogs.discard(dialog)
                app.interface.replacing = ""
                imgui.close_current_popup()
            imgui.end_popup()
        elif not still:
            app.interface.dialogs.discard(dialog)
    return state


def _open(app: Context, state: AppState) -> AppState:
    widgets.text("A snapshot (.safetensors), a training run's folder, or a saved session (.json).", theme.DIM)
    chosen = browse(app, Dialog.OPEN, (".safetensors", ".json"), folders=True)
    shipped = sorted((assets.root() / "snapshots").glob("*.safetensors"))
    for title, paths in (("Shipped with MSSG", [str(p) for p in shipped]), ("Recent", config.recent()[:5])):
        if paths:
            widgets.heading(title)
            for path in paths:
                if imgui.selectable(
                    f"{Path(path).stem if title != 'Recent' else path}##{title} {path}", False
                )[0]:
                    chosen = path
    if chosen:
        app.interface.dialogs.discard(Dialog.OPEN)
        app.state = state
        app.document.open(chosen)
        return app.state
    return state


def _save(app: Context, state: AppState) -> AppState:
    app.interface.paths.setdefault(Dialog.SAVE, app.document.session or str(Path.cwd() / "session.json"))
    chosen = browse(app, Dialog.SAVE, (".json",), write=True)
    if chosen:
        app.interface.dialogs.discard(Dialog.SAVE)
        app.told(lambda: app.document.save(chosen, layout.current()))
    return state


def _evaluation(app: Context, state: AppState) -> AppState:
    widgets.text("An evaluation that `mssg evaluate` wrote.", theme.DIM)
    chosen = browse(app, Dialog.EVALUATION, (".json",))
    if chosen and app.document.distribution is not None:
        try:
            header = app.document.distribution.header
            app.document.tables = evaluation.load(chosen, header.study, header.snapshot_id)
            app.interface.dialogs.discard(Dialog.EVALUATION)
            app.interface.evaluation_problem = ""
            return replace(
                state,
                analysis=replace(
                    state.analysis, strata_live=False, strata_metric=app.document.tables[0].metric
                ),
            )
        except MssgError as error:
            app.interface.evaluation_problem = str(error)
    if app.interface.evaluation_problem:
        widgets.wrapped(app.interface.evaluation_problem, theme.RED)
    return state


def _predictor(app: Context, state: AppState) -> AppState:
    widgets.text("A predictor.safetensors that `mssg predictors` wrote, or its folder.", theme.DIM)
    chosen = browse(app, Dialog.PREDICTOR, (".safetensors",), folders=True)
    if chosen:
        app.interface.dialogs.discard(Dialog.PREDICTOR)
        return replace(state, analysis=replace(state.analysis, predictor=chosen))
    return state


def _missing(app: Context, state: AppState) -> AppState:
    widgets.wrapped("The session's snapshot is not where it was:", theme.TEXT)
    widgets.text(app.document.missing.state.snapshot if app.document.missing else "", theme.DIM)
    chosen = browse(app, Dialog.MISSING, (".safetensors",), folders=True)
    if chosen:
        app.state = state
        if app.document.supply_missing(chosen):
            app.interface.dialogs.discard(Dialog.MISSING)
        return app.state
    return state


def _train(app: Context, state: AppState) -> AppState:
    form = app.interface.train
    for key, label, hint, tip in (
        ("outdir", "folder", "", "Folder of the new run."),
        ("kimg", "kimg", "the preset's", "Length in thousands of images; empty: the preset's."),
    ):
        imgui.align_text_to_frame_padding()
        widgets.text(label, theme.DIM)
        imgui.same_line(em(5))
        imgui.set_next_item_width(-1)
        setattr(form, key, imgui.input_text_with_hint(f"##train {key}", hint, getattr(form, key))[1])
        widgets.tooltip(tip)
    imgui.align_text_to_frame_padding()
    widgets.text("preset", theme.DIM)
    imgui.same_line(em(5))
    form.preset = widgets.combo("##train preset", ["", *PRESETS], form.preset, width=-1, empty="the study's")
    widgets.heading("Study (.toml)")
    browse(app, Dialog.TRAIN, (".toml",))
    study = app.interface.paths[Dialog.TRAIN]
    problem = form.problem(study)
    imgui.begin_disabled(bool(problem))
    if imgui.button(f"{icons.ICON_FA_PLAY}  start##train", ImVec2(em(8), 0)):
        app.interface.dialogs.discard(Dialog.TRAIN)
        app.told(lambda: app.document.train(study, form.outdir, form.preset, form.kimg))
    imgui.end_disabled()
    imgui.same_line()
    if problem:
        widgets.wrapped(f"{icons.ICON_FA_TRIANGLE_EXCLAMATION} {problem}", theme.AMBER)
    else:
        widgets.text("It runs on when this window is closed.", theme.DIM)
    return state


def _conditions(app: Context, state: AppState) -> AppState:
    widgets.wrapped(
        "A CSV with a column for each covariate that it states, in the sliders' units, and seed and name if"
        " you like; what it does not state is as on the screen."
    )
    chosen, distribution = browse(app, Dialog.CONDITIONS, (".csv",)), app.document.distribution
    if chosen and distribution is not None:
        try:
            listed = read_conditions(chosen, distribution.study, whole_picture(state.request))
        except MssgError as error:
            app.interface.note(str(error), bad=True)
            return state
        app.interface.export = ExportForm("list", "pictures.png", listed=listed)
        app.interface.dialogs.discard(Dialog.CONDITIONS)
        app.interface.dialogs.add(Dialog.EXPORT)
    return state


def _shortcuts(app: Context, state: AppState) -> AppState:
    if imgui.begin_table("keys", 2, imgui.TableFlags_.sizing_fixed_fit):
        for keys, what in SHORTCUTS:
            imgui.table_next_row()
            imgui.table_next_column()
            with imgui_ctx.push_font(theme.Fonts.bold, 0.0):
                widgets.text(keys + "   ")
            imgui.table_next_column()
            widgets.text(what)
        imgui.end_table()
    widgets.heading("On a covariate")
    widgets.text(
        "drag, Ctrl-click to type, double-click for the median,\narrow keys step while the mouse is over it,"
        " Shift is finer"
    )
    return state


def _about(app: Context, state: AppState) -> AppState:
    from mssg.version import __version__

    widgets.text(f"MSSG explorer {__version__}")
    widgets.text("Multi-Source StyleGAN: one generator from several image sources. MIT licence.", theme.DIM)
    widgets.text("Roboto (Apache 2.0), Font Awesome Free (OFL), Dear ImGui and ImPlot (MIT).", theme.DIM)
    if app.document.distribution is not None:
        header = app.document.distribution.header
        widgets.heading(header.study.name)
        for key, value in {
            "snapshot": header.snapshot_id,
            **dict(header.progress),
            **dict(header.provenance),
        }.items():
            widgets.text(f"{key}: {launch.shorten(value)}", theme.DIM)
    return state


_BROWSERS = set(Dialog) - {Dialog.SHORTCUTS, Dialog.ABOUT}
_DRAW = {
    Dialog.OPEN: _open,
    Dialog.IMAGE: own_image.choose,
    Dialog.LATENT: own_image.keep,
    Dialog.GALLERY: neighbours.choose,
    Dialog.SAVE: _save,
    Dialog.EXPORT: exporting.draw,
    Dialog.EVALUATION: _evaluation,
    Dialog.PREDICTOR: _predictor,
    Dialog.MISSING: _missing,
    Dialog.TRAIN: _train,
    Dialog.CONDITIONS: _conditions,
    Dialog.SHORTCUTS: _shortcuts,
    Dialog.ABOUT: _about,
}
