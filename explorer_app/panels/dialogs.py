"""Dialogs: open, save, export, evaluation, missing snapshot, training, shortcuts, about. One modal at a time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from imgui_bundle import ImVec2, imgui, imgui_ctx
from imgui_bundle import icons_fontawesome_6 as icons

from explorer_app import config, evaluation, export, launch, theme, widgets
from explorer_app.context import Context
from explorer_app.state import AppState, Axis, grid_pictures, sweep_pictures
from explorer_app.theme import em
from mssg import assets
from mssg.errors import MssgError

SHORTCUTS = (
    ("Ctrl Z / Ctrl Y", "undo / redo"),
    ("Ctrl O", "open a snapshot, run or session"),
    ("Ctrl S", "save the session"),
    ("Ctrl E", "export the picture"),
    ("P", "pin the current picture"),
    ("F", "flip between picture and pin"),
    ("D", "signed difference from the pin, on or off"),
    ("L", "linked or free covariates"),
    ("M", "all covariates to their medians"),
    ("S / Shift S", "next / previous seed"),
    ("R", "a seed at random"),
    ("0 / 1", "fit / one to one"),
    ("N", "interpolation on or off"),
    ("I", "invert colours"),
    ("wheel", "zoom at the cursor"),
    ("right drag", "window and level"),
    ("F1", "this list"),
)
_TITLES = {
    "open": "Open", "save": "Save session", "export": "Export", "evaluation": "Load evaluation", "missing": "Where is the snapshot?",
    "train": "Train a model", "shortcuts": "Shortcuts", "about": "About",
}  # fmt: skip


def draw(app: Context, state: AppState) -> AppState:
    """Draw whichever dialog is open."""
    for name, title in _TITLES.items():
        if name in app.dialogs and not imgui.is_popup_open(title):
            imgui.open_popup(title)
        viewport = imgui.get_main_viewport()
        imgui.set_next_window_pos(viewport.get_center(), imgui.Cond_.appearing, ImVec2(0.5, 0.5))
        imgui.set_next_window_size(ImVec2(em(40 if name in _BROWSERS else 30), 0), imgui.Cond_.appearing)
        shown, still = imgui.begin_popup_modal(
            title, True, imgui.WindowFlags_.no_saved_settings | imgui.WindowFlags_.always_auto_resize
        )
        if shown:
            state = _DRAW[name](app, state)
            if not still or name not in app.dialogs or imgui.is_key_pressed(imgui.Key.escape):
                app.dialogs.discard(name)
                imgui.close_current_popup()
            imgui.end_popup()
        elif not still:
            app.dialogs.discard(name)
    return state


def browser(app: Context, name: str, suffixes: tuple[str, ...], folders: bool = False) -> str:
    """A path field with a list of the folder's contents; returns a path when one was chosen, else "".

    Args:
        app: Remembers the field's text.
        name: Dialog this belongs to.
        suffixes: File types listed.
        folders: Whether a folder may be the answer (a run).
    """
    key = f"{name} path"
    text = app.fields.setdefault(key, str(Path.cwd()) + "/")
    imgui.set_next_item_width(-em(5))
    entered, text = imgui.input_text(f"##{name} path", text, imgui.InputTextFlags_.enter_returns_true)
    widgets.tooltip("A path; Enter opens it. ~ is your home folder.")
    app.fields[key] = text
    imgui.same_line()
    chosen = text if imgui.button(f"OK##{name}", ImVec2(-1, 0)) or entered else ""
    here = Path(text).expanduser()
    folder = here if here.is_dir() else here.parent
    if imgui.begin_child(f"{name} list", ImVec2(0, em(15)), imgui.ChildFlags_.borders):
        if imgui.selectable(f"{icons.ICON_FA_ARROW_UP}  ..##{name} up", False)[0]:
            app.fields[key] = str(folder.resolve().parent)
        for path in _listing(folder, suffixes):
            icon = icons.ICON_FA_FOLDER if path.is_dir() else icons.ICON_FA_FILE
            clicked, _ = imgui.selectable(
                f"{icon}  {path.name}##{path}", str(path) == text, imgui.SelectableFlags_.allow_double_click
            )
            if clicked:
                app.fields[key] = str(path)
                if imgui.is_mouse_double_clicked(0) and not path.is_dir():
                    chosen = str(path)
    imgui.end_child()
    if chosen and Path(chosen).expanduser().is_dir() and not folders:
        return ""
    return str(Path(chosen).expanduser()) if chosen else ""


def _listing(folder: Path, suffixes: tuple[str, ...]) -> list[Path]:
    try:
        found = [
            p
            for p in folder.iterdir()
            if not p.name.startswith(".") and (p.is_dir() or p.suffix.lower() in suffixes)
        ]
    except OSError:
        return []
    return sorted(found, key=lambda p: (not p.is_dir(), p.name.lower()))[:500]


def _open(app: Context, state: AppState) -> AppState:
    widgets.text("A snapshot (.safetensors), a training run's folder, or a saved session (.json).", theme.DIM)
    chosen = browser(app, "open", (".safetensors", ".json"), folders=True)
    shipped = sorted((assets.root() / "snapshots").glob("*.safetensors"))
    for title, paths in (("Shipped with MSSG", [str(p) for p in shipped]), ("Recent", config.recent())):
        if paths:
            widgets.heading(title)
            for path in paths[:6]:
                if imgui.selectable(
                    f"{Path(path).stem if title != 'Recent' else path}##{title} {path}", False
                )[0]:
                    chosen = path
    if chosen:
        app.dialogs.discard("open")
        app.state = state
        app.open(chosen)
        return app.state
    return state


def _save(app: Context, state: AppState) -> AppState:
    app.fields.setdefault("save path", app.fields.get("session") or str(Path.cwd() / "session.json"))
    chosen = browser(app, "save", (".json",))
    if chosen:
        app.dialogs.discard("save")
        app.fields["session"] = chosen
        _told(app, lambda: app.save_session(chosen, app.layout))
    return state


def _told(app: Context, work: Callable[[], None]) -> None:
    try:
        work()
    except MssgError as error:
        app.note(str(error), bad=True)


_KINDS = {
    "png": "PNG, 8 bits, as displayed",
    "png16": "PNG, 16 bits, grey levels",
    "nii": "NIfTI, with millimetres",
    "sweep": "sweep of a covariate (GIF or MP4)",
    "grid": "grid",
}
_ENDINGS = {
    "png": "image.png",
    "png16": "image-16bit.png",
    "nii": "image.nii.gz",
    "sweep": "sweep.gif",
    "grid": "grid.png",
}


def _export(app: Context, state: AppState) -> AppState:
    kind = app.fields.setdefault("export kind", "png")
    population = app.population
    if population is None or app.shown is None:
        widgets.wrapped("There is no picture to export yet.")
        return state
    title = widgets.combo("##export kind", list(_KINDS.values()), _KINDS[kind], width=em(22))
    new = next(k for k, v in _KINDS.items() if v == title)
    if new != kind or "export path" not in app.fields or app.fields.get("export"):
        name = app.fields.pop("export", "") or _ENDINGS[new]
        old = Path(app.fields.get("export path", str(Path.cwd() / "x"))).expanduser()
        app.fields["export path"] = str((old if old.is_dir() else old.parent) / name)
    app.fields["export kind"] = new
    state = _sweep_axis(app, state) if new == "sweep" else state
    chosen = browser(app, "export", (".png", ".pdf", ".gif", ".mp4", ".gz", ".nii"))
    if chosen and _start_export(app, state, new, chosen):
        app.dialogs.discard("export")
    return state


def _sweep_axis(app: Context, state: AppState) -> AppState:
    population = app.population
    assert population is not None
    names = [c.name for c in population.study.conditions if c.is_continuous]
    if not names:
        widgets.wrapped("This study has no continuous covariate to sweep.")
        return state
    name = widgets.combo("covariate##sweep", names, app.fields.get("sweep", names[0]), width=em(12))
    app.fields["sweep"] = name
    pictures = sweep_pictures(state, Axis(name, *population.range(name), 24))
    app.want(pictures)
    done = sum(app.service.frame(p) is not None for p in pictures)
    widgets.text(f"{done} of {len(pictures)} pictures from {population.study.covariate(name).format(population.range(name)[0])} to "
                 f"{population.study.covariate(name).format(population.range(name)[1])}", theme.DIM)  # fmt: skip
    return state


def _start_export(app: Context, state: AppState, kind: str, path: str) -> bool:
    """Hand the work to the background; False when it cannot begin yet."""
    population, frame = app.population, app.shown
    assert population is not None and frame is not None
    if frame.picture != state.picture or frame.preview:
        app.note("the picture is still being rendered; try again in a moment", bad=True)
        return False
    about, display = export.provenance(population.header, frame.picture), state.display
    if kind in ("png", "png16"):
        work = lambda: export.save_png(path, frame.image, about, 16 if kind == "png16" else 8, display)  # noqa: E731
    elif kind == "nii":
        work = lambda: export.save_nifti(path, frame.image, population.study, about)  # noqa: E731
    elif kind == "grid":
        cells = [
            [f.image if (f := app.service.frame(p)) else None for p in row] for row in grid_pictures(state)
        ]
        work = lambda: export.save_grid(path, cells, state.grid, population.study, about, display)  # noqa: E731
    else:
        frames = [
            app.service.frame(p)
            for p in sweep_pictures(
                state, Axis(app.fields["sweep"], *population.range(app.fields["sweep"]), 24)
            )
        ]
        if any(f is None for f in frames):
            app.note("the sweep is still being rendered; try again in a moment", bad=True)
            return False
        images = [f.image for f in frames if f is not None]
        work = lambda: export.save_sweep(path, images, about, display)  # noqa: E731
    app.in_background(work, f"wrote {Path(path).name}")
    return True


def _evaluation(app: Context, state: AppState) -> AppState:
    widgets.text("An evaluation that `mssg evaluate` wrote.", theme.DIM)
    chosen = browser(app, "evaluation", (".json",))
    if chosen:
        try:
            app.tables = evaluation.load(chosen)
            app.dialogs.discard("evaluation")
            return replace(
                state, analysis=replace(state.analysis, strata_live=False, strata_metric=app.tables[0].metric)
            )
        except MssgError as error:
            app.fields["evaluation problem"] = str(error)
    if app.fields.get("evaluation problem"):
        widgets.wrapped(app.fields["evaluation problem"], theme.RED)
    return state


def _missing(app: Context, state: AppState) -> AppState:
    widgets.wrapped("The session's snapshot is not where it was:", theme.TEXT)
    widgets.text(app.fields.get("missing", ""), theme.DIM)
    chosen = browser(app, "missing", (".safetensors",), folders=True)
    if chosen:
        app.state = state
        if app.supply_missing(chosen):
            app.dialogs.discard("missing")
        return app.state
    return state


def _train(app: Context, state: AppState) -> AppState:
    fields = app.fields
    for key, label, default, tip in (
        ("study", "study", "", "The study's TOML."),
        ("outdir", "folder", str(Path.cwd() / "runs" / "run1"), "Folder of the new run."),
        ("kimg", "kimg", "", "Length in thousands of images; empty: the preset's."),
    ):
        imgui.align_text_to_frame_padding()
        widgets.text(label, theme.DIM)
        imgui.same_line(em(5))
        imgui.set_next_item_width(-1)
        _, fields[f"train {key}"] = imgui.input_text(f"##train {key}", fields.get(f"train {key}", default))
        widgets.tooltip(tip)
    imgui.align_text_to_frame_padding()
    widgets.text("preset", theme.DIM)
    imgui.same_line(em(5))
    presets = ["", *app.presets()]
    fields["train preset"] = widgets.combo(
        "##train preset", presets, fields.get("train preset", ""), width=-1, empty="the study's"
    )
    widgets.heading("Study")
    chosen = browser(app, "train", (".toml",))
    if chosen:
        fields["train study"] = chosen
    study = fields["train study"]
    imgui.begin_disabled(not Path(study).expanduser().is_file())
    if imgui.button(f"{icons.ICON_FA_PLAY}  start##train", ImVec2(em(8), 0)):
        app.dialogs.discard("train")
        _told(
            app,
            lambda: app.train(study, fields["train outdir"], fields["train preset"], fields["train kimg"]),
        )
    imgui.end_disabled()
    imgui.same_line()
    widgets.text("It runs on when this window is closed.", theme.DIM)
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
        "drag, Ctrl-click to type, double-click for the median,\narrow keys step while the mouse is over it, Shift is finer"
    )
    return state


def _about(app: Context, state: AppState) -> AppState:
    import mssg

    widgets.text(f"MSSG explorer {mssg.__version__}")
    widgets.text("Multi-Source StyleGAN: one generator from several image sources. MIT licence.", theme.DIM)
    widgets.text("Roboto (Apache 2.0), Font Awesome Free (OFL), Dear ImGui and ImPlot (MIT).", theme.DIM)
    if app.population is not None:
        header = app.population.header
        widgets.heading(header.study.name)
        for key, value in {
            "snapshot": header.snapshot_id,
            **dict(header.progress),
            **dict(header.provenance),
        }.items():
            widgets.text(f"{key}: {launch.shorten(value)}", theme.DIM)
    return state


_BROWSERS = ("open", "save", "export", "evaluation", "missing", "train")
_DRAW = {
    "open": _open, "save": _save, "export": _export, "evaluation": _evaluation, "missing": _missing, "train": _train,
    "shortcuts": _shortcuts, "about": _about,
}  # fmt: skip
