"""The menu bar with the status at its right end, and the keyboard."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from imgui_bundle import hello_imgui, imgui

from explorer_app import config, theme, widgets
from explorer_app.context import Context
from explorer_app.interface import SCALES, WHEELS, Capture, Dialog, ExportForm
from explorer_app.panels import device, exporting, help_menu, slice_bar
from explorer_app.panels.exporting import KINDS
from explorer_app.panels.latent import random_seed
from explorer_app.request_edits import at_place, place
from explorer_app.state import COMPARE_MODES, AppState, add_pin, set_compare, set_values
from mssg.rendering.command_line import generate_command


def draw(app: Context, state: AppState) -> AppState:
    """Draw the menus."""
    app.state = state
    for title, body in (
        ("File", _file),
        ("Edit", _edit),
        ("View", _view),
        ("Compare", _compare),
        ("Train", _train),
        ("Help", _help),
    ):
        if imgui.begin_menu(title):
            body(app)
            imgui.end_menu()
    _status(app)
    return app.state


def _item(label: str, keys: str = "", selected: bool = False, enabled: bool = True) -> bool:
    return imgui.menu_item(label, keys, selected, enabled)[0]


def _file(app: Context) -> None:
    if _item("Open…", "Ctrl+O"):
        app.interface.dialogs.add(Dialog.OPEN)
    if imgui.begin_menu("Recent", bool(config.recent())):
        for path in config.recent():
            if _item(path):
                app.document.open(path)
        imgui.end_menu()
    if _item("Open your image…", enabled=app.document.distribution is not None):
        app.interface.dialogs.add(Dialog.IMAGE)
    if _item("Paste your image", "Ctrl+V", enabled=app.document.distribution is not None):
        app.guest.paste(imgui.get_clipboard_text())
    imgui.separator()
    if _item("Save session…", "Ctrl+S"):
        app.interface.dialogs.add(Dialog.SAVE)
    kind = KINDS[app.interface.export.kind][0]
    if _item(f"Export {kind}…###export", "Ctrl+E", enabled=app.client.shown is not None):
        app.interface.dialogs.add(Dialog.EXPORT)
    if (
        _item("Copy command", enabled=app.document.distribution is not None)
        and app.document.distribution is not None
    ):
        study, state = app.document.distribution.study, app.state
        imgui.set_clipboard_text(generate_command(app.whole(state.request), study, state.snapshot))
        scaled = state.request.layer and not state.display.normalise
        more = "; it stretches the layer from its lowest to its highest value" if scaled else ""
        app.interface.note(f"command copied to the clipboard{more}")
    shown = app.client.shown is not None
    if _item("Copy picture", "Ctrl+C", enabled=shown):
        exporting.copy(app)
    if _item("Export a list of conditions…", enabled=shown):
        app.interface.dialogs.add(Dialog.CONDITIONS)
    if _item("Copy view", enabled=shown):
        app.interface.capture = Capture(view=True)
    for title, kind in (("Capture view…", "view"), ("Capture window…", "window")):
        if _item(title, enabled=shown):
            app.interface.export = ExportForm(kind, KINDS[kind][1])
            app.interface.dialogs.add(Dialog.EXPORT)
    imgui.separator()
    if _item("Quit", "Ctrl+Q"):
        app.interface.quit()


def _edit(app: Context) -> None:
    if _item("Undo", "Ctrl+Z", enabled=app.document.history.can_undo):
        app.document.undo()
    if _item("Redo", "Ctrl+Y", enabled=app.document.history.can_redo):
        app.document.redo()
    imgui.separator()
    if (
        _item("Medians", "M", enabled=app.document.distribution is not None)
        and app.document.distribution is not None
    ):
        app.state = set_values(app.state, **app.document.distribution.defaults())


def _view(app: Context) -> None:
    display = app.state.display
    if _item("Fit", "0", display.zoom == 0):
        display = replace(display, zoom=0.0, center=(0.5, 0.5))
    if _item("One to one", "1", display.zoom == 1):
        display = replace(display, zoom=1.0, center=(0.5, 0.5))
    if _item(f"Interpolation: {display.interpolation}###interpolation", "N"):
        display = display.next_interpolation()
    if _item("Edge letters and scale", "", display.annotations):
        display = replace(display, annotations=not display.annotations)
    app.state = replace(app.state, display=display)
    imgui.separator()
    parameters = hello_imgui.get_runner_params()
    for window in parameters.docking_params.dockable_windows:
        if window.label != "Picture" and _item(window.label, "", window.is_visible):
            window.is_visible = not window.is_visible
    if imgui.begin_menu("Device"):
        device.menu(app)
        imgui.end_menu()
    if imgui.begin_menu("Theme"):
        for name in theme.THEMES:
            if _item(name, "", name == theme.name_in_use()):
                theme.use(name)
                config.choose(theme=name)
        imgui.end_menu()
    if imgui.begin_menu("Wheel"):
        for wheel, label in zip(WHEELS, ("scrolls slices, Ctrl zooms", "zooms, Ctrl scrolls slices")):
            if _item(label, "", wheel == app.interface.wheel):
                app.interface.wheel = wheel
                config.choose(wheel=wheel)
        imgui.end_menu()
    if imgui.begin_menu("Text size"):
        for scale in SCALES:
            if _item(f"{100 * scale:.0f} %", "", scale == app.interface.scale):
                app.interface.scale = scale
                config.choose(scale=scale)
        imgui.end_menu()
    if _item("Reset layout"):
        for window in parameters.docking_params.dockable_windows:
            window.is_visible = True
        parameters.docking_params.layout_reset = True


def _compare(app: Context) -> None:
    if _item("Pin the picture", "P", enabled=bool(app.state.snapshot)):
        app.state = add_pin(app.state)
    imgui.separator()
    labels = ("Current only", "Flip", "Side by side", "Signed difference", "Blend", "Swipe")
    for mode, label in zip(COMPARE_MODES, labels):
        if _item(
            label,
            "D" if mode == "difference" else "",
            app.state.display.compare == mode,
            bool(app.state.snapshot),
        ):
            app.state = set_compare(app.state, mode)


def _train(app: Context) -> None:
    if _item("Train a model…"):
        app.interface.dialogs.add(Dialog.TRAIN)
    running = app.document.training is not None and app.document.training.running
    if _item("Stop training", enabled=running) and app.document.training is not None:
        app.told(app.document.training.stop)
    imgui.separator()
    if _item("Follow the run", "", app.document.follow, app.document.run is not None):
        app.document.follow = not app.document.follow


def _help(app: Context) -> None:
    help_menu.menu(app)
    if _item("Shortcuts", "F1"):
        app.interface.dialogs.add(Dialog.SHORTCUTS)
    if _item("About"):
        app.interface.dialogs.add(Dialog.ABOUT)


def _status(app: Context) -> None:
    parts = []
    if app.document.distribution is not None:
        header = app.document.distribution.header
        parts.append(header.study.name)
        if "kimg" in header.progress:
            parts.append(f"{header.progress['kimg']:g} kimg")
    model = app.model
    if model is not None:
        parts.append(f"{model.device} ×{model.threads}")
    elif app.state.snapshot:
        parts.append("failed" if app.client.failed.get(app.state.snapshot) else "loading the model")
    if app.client.render_ms:
        parts.append(f"{np.median(list(app.client.render_ms)[-9:]):.0f} ms")
    widgets.right_text("  ·  ".join(parts), theme.DIM, imgui.get_style().item_spacing.x)


_KEYS = imgui.Key


def keyboard(app: Context) -> None:
    """Carry out shortcuts; not while text is typed or a dialog is open."""
    io = imgui.get_io()
    if io.want_text_input or app.interface.dialogs:
        return
    if io.key_ctrl:
        _chords(app)
        return
    state, pressed = app.state, imgui.is_key_pressed
    if pressed(_KEYS.f1, False):
        app.interface.dialogs.add(Dialog.SHORTCUTS)
    if app.document.distribution is None:
        return
    display, (seed, *_) = state.display, place(state.request)
    if pressed(_KEYS.p, False):
        state = add_pin(state)
    if pressed(_KEYS.f, False):
        state = (
            set_compare(state, "flip")
            if display.compare != "flip"
            else replace(state, display=replace(display, flipped=not display.flipped))
        )
    if pressed(_KEYS.d, False):
        state = set_compare(state, "A" if display.compare == "difference" else "difference")
    if pressed(_KEYS.l, False):
        state = replace(state, mode="free" if state.mode == "linked" else "linked")
    if pressed(_KEYS.m, False):
        state = set_values(state, **app.document.distribution.defaults())
    if pressed(_KEYS.s):
        step = -1 if io.key_shift else 1
        state = replace(state, request=at_place(state.request, max(0, seed + step)))
    if pressed(_KEYS.r, False):
        state = replace(state, request=at_place(state.request, random_seed()))
    for key, changes in (
        (_KEYS._0, {"zoom": 0.0, "center": (0.5, 0.5)}),
        (_KEYS._1, {"zoom": 1.0, "center": (0.5, 0.5)}),
        (_KEYS.i, {"invert": not display.invert}),
    ):
        if pressed(key, False):
            state = replace(state, display=replace(state.display, **changes))
    if pressed(_KEYS.n, False):
        state = replace(state, display=state.display.next_interpolation())
    app.state = slice_bar.keys(app, state)


def _chords(app: Context) -> None:
    pressed = imgui.is_key_pressed
    if pressed(_KEYS.z):
        app.document.redo() if imgui.get_io().key_shift else app.document.undo()
    if pressed(_KEYS.y):
        app.document.redo()
    for key, dialog in ((_KEYS.o, Dialog.OPEN), (_KEYS.s, Dialog.SAVE), (_KEYS.e, Dialog.EXPORT)):
        if pressed(key, False) and (dialog is not Dialog.EXPORT or app.client.shown is not None):
            app.interface.dialogs.add(dialog)
    if pressed(_KEYS.c, False) and app.client.shown is not None:
        exporting.copy(app)
    if pressed(_KEYS.v, False):
        app.guest.paste(imgui.get_clipboard_text())
    if pressed(_KEYS.q, False):
        app.interface.quit()
