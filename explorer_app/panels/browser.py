"""The in-app file browser: native file dialogs are missing on many Linux machines."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from imgui_bundle import ImVec2, imgui
from imgui_bundle import icons_fontawesome_6 as icons

from explorer_app import theme, widgets
from explorer_app.context import Context
from explorer_app.interface import Dialog, Entry
from explorer_app.theme import em
from mssg.errors import UsageError

_SHOWN = 500


def browse(
    app: Context,
    dialog: Dialog,
    suffixes: Sequence[str],
    folders: bool = False,
    write: bool = False,
    propose: str = "",
) -> str:
    """A path field with a list of the folder's contents; returns a path when one was chosen, else "".

    Args:
        app: Remembers the fields' text.
        suffixes: File types listed; of a file that is to be written, the first is added where there is none,
            and others are refused.
        folders: Whether a folder may be the answer (a run).
        write: The file is to be written: before one is replaced the dialog asks.
        propose: A file name to put into the field.
    """
    interface, name = app.interface, dialog.value
    if interface.replacing:
        return _replace(app)
    text = interface.paths.setdefault(dialog, str(Path.cwd()) + "/")
    if propose:
        text = str(_folder_of(text) / propose)
    imgui.set_next_item_width(-em(5))
    entered, text = imgui.input_text(f"##{name} path", text, imgui.InputTextFlags_.enter_returns_true)
    widgets.tooltip("A path; Enter takes it. ~ is your home folder.")
    interface.paths[dialog] = text
    imgui.same_line()
    chosen = text if imgui.button(f"OK##{name}", ImVec2(-1, 0)) or entered else ""
    chosen = _listing(app, dialog, suffixes, write) or chosen
    if not chosen.strip():
        return ""
    path = Path(chosen).expanduser()
    if path.is_dir() and not folders:
        interface.paths[dialog] = f"{str(path).rstrip('/')}/"
        return ""
    return _checked(app, path, suffixes) if write else str(path)


def _folder_of(text: str) -> Path:
    here = Path(text).expanduser()
    return here if text.endswith("/") or here.is_dir() else here.parent


def _checked(app: Context, path: Path, suffixes: Sequence[str]) -> str:
    """A file that is to be written, with a suffix of its kind; "" where it cannot be, or where the
    user is asked first."""
    lower = path.name.lower()
    if not any(lower.endswith(suffix) for suffix in suffixes):
        if path.suffix and not path.suffix[1:].isdigit():
            expected = " or ".join(suffixes)
            error = UsageError("not this kind of file", file=path, found=path.suffix, expected=expected)
            app.interface.note(str(error), bad=True)
            return ""
        path = path.with_name(path.name + suffixes[0])
    if not path.parent.is_dir():
        error = UsageError("no such folder", file=path.parent, hint="Choose one that exists")
        app.interface.note(str(error), bad=True)
        return ""
    if path.exists():
        app.interface.replacing = str(path)
        return ""
    return str(path)


def _replace(app: Context) -> str:
    """Ask whether a file is to be replaced; its path where it is."""
    path = app.interface.replacing
    widgets.text(f"{icons.ICON_FA_TRIANGLE_EXCLAMATION}  This file exists. Replace it?", theme.AMBER)
    widgets.wrapped(path, theme.TEXT)
    keep = imgui.button("keep it##replacing", ImVec2(em(8), 0))
    imgui.same_line()
    taken = imgui.button("replace##replacing", ImVec2(em(8), 0))
    if keep or taken or imgui.is_key_pressed(imgui.Key.escape):
        app.interface.replacing = ""
    return path if taken else ""


def _listing(app: Context, dialog: Dialog, suffixes: Sequence[str], write: bool) -> str:
    """The folder's contents; a file that was double-clicked, else ""."""
    interface, name = app.interface, dialog.value
    text = interface.paths[dialog]
    folder, chosen = _folder_of(text), ""
    imgui.set_next_item_width(-1)
    wanted = interface.filters.get(dialog, "")
    _, wanted = imgui.input_text_with_hint(f"##{name} filter", "filter by name", wanted)
    interface.filters[dialog] = wanted
    shown = imgui.begin_child(f"{name} list", ImVec2(0, em(12)), imgui.ChildFlags_.borders)
    if shown and imgui.selectable(f"{icons.ICON_FA_ARROW_UP}  ..##{name} up", False)[0]:
        interface.paths[dialog] = _moved(text, folder.resolve().parent, write)
    for entry in _entries(app, folder, suffixes, wanted) if shown else ():
        icon = icons.ICON_FA_FOLDER if entry.is_folder else icons.ICON_FA_FILE
        flags = imgui.SelectableFlags_.allow_double_click
        path = str(entry.path)
        if imgui.selectable(f"{icon}  {entry.path.name}###{name} {entry.path.name}", path == text, flags)[0]:
            interface.paths[dialog] = _moved(text, entry.path, write) if entry.is_folder else path
            if imgui.is_mouse_double_clicked(0) and not entry.is_folder:
                chosen = path
    imgui.end_child()
    return chosen


def _moved(text: str, folder: Path, write: bool) -> str:
    """The path field in another folder; the name of a file to be written stays."""
    here = Path(text).expanduser()
    name = here.name if write and not text.endswith("/") and not here.is_dir() else ""
    return f"{str(folder).rstrip('/')}/{name}"


def _entries(app: Context, folder: Path, suffixes: Sequence[str], wanted: str) -> list[Entry]:
    """What is listed; while a large folder is read, or where it cannot be, a line says so."""
    try:
        entries = app.interface.listings.entries(folder)
    except OSError as error:
        widgets.wrapped(f"{folder}: cannot be read: {error.strerror}.", theme.AMBER)
        return []
    if entries is None:
        widgets.text("reading the folder …", theme.DIM)
        return []
    lower = wanted.lower()
    found = [
        e
        for e in entries
        if lower in e.path.name.lower() and (e.is_folder or e.path.name.lower().endswith(tuple(suffixes)))
    ]
    if len(found) > _SHOWN:
        widgets.text(f"the first {_SHOWN} of {len(found)}: filter by name", theme.DIM)
    elif not found:
        widgets.text("nothing of this kind here", theme.DIM)
    return found[:_SHOWN]
