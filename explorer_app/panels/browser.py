"""The in-app file browser: native file dialogs are missing on many Linux machines."""

from __future__ import annotations

from pathlib import Path

from imgui_bundle import ImVec2, imgui
from imgui_bundle import icons_fontawesome_6 as icons

from explorer_app import widgets
from explorer_app.context import Context
from explorer_app.interface import Dialog
from explorer_app.theme import em


def browse(app: Context, dialog: Dialog, suffixes: tuple[str, ...], folders: bool = False) -> str:
    """A path field with a list of the folder's contents; returns a path when one was chosen, else "".

    Args:
        app: Remembers the field's text.
        dialog: Which one this belongs to.
        suffixes: File types listed.
        folders: Whether a folder may be the answer (a run).
    """
    name, paths = dialog.value, app.interface.paths
    text = paths.setdefault(dialog, str(Path.cwd()) + "/")
    imgui.set_next_item_width(-em(5))
    entered, text = imgui.input_text(f"##{name} path", text, imgui.InputTextFlags_.enter_returns_true)
    widgets.tooltip("A path; Enter opens it. ~ is your home folder.")
    paths[dialog] = text
    imgui.same_line()
    chosen = text if imgui.button(f"OK##{name}", ImVec2(-1, 0)) or entered else ""
    here = Path(text).expanduser()
    folder = here if here.is_dir() else here.parent
    if imgui.begin_child(f"{name} list", ImVec2(0, em(15)), imgui.ChildFlags_.borders):
        if imgui.selectable(f"{icons.ICON_FA_ARROW_UP}  ..##{name} up", False)[0]:
            paths[dialog] = str(folder.resolve().parent)
        for path in _listing(folder, suffixes):
            icon = icons.ICON_FA_FOLDER if path.is_dir() else icons.ICON_FA_FILE
            clicked, _ = imgui.selectable(
                f"{icon}  {path.name}##{path}", str(path) == text, imgui.SelectableFlags_.allow_double_click
            )
            if clicked:
                paths[dialog] = str(path)
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
