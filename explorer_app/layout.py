"""Where the panels are: as text for a session, and back."""

from __future__ import annotations

import re
from pathlib import Path

from imgui_bundle import hello_imgui, imgui

_SAME = 0.1  # a window that differs by less than this share is of the same size
_HIDDEN = "; hidden: "  # imgui skips such lines


def current() -> str:
    """The layout of the running window: imgui's ini text, and which panels are hidden."""
    windows = hello_imgui.get_runner_params().docking_params.dockable_windows
    hidden = ", ".join(w.label for w in windows if not w.is_visible)
    return f"{_HIDDEN}{hidden}\n{imgui.save_ini_settings_to_memory()}"


def restore(text: str) -> None:
    """Put the panels where a session had them; between two frames. Nothing happens for text that is no
    layout."""
    if "[Docking]" not in text:
        return
    first = text.split("\n", 1)[0]
    hidden = first.removeprefix(_HIDDEN).split(", ") if first.startswith(_HIDDEN) else []
    for window in hello_imgui.get_runner_params().docking_params.dockable_windows:
        window.is_visible = window.label not in hidden
    size = imgui.get_io().display_size
    imgui.load_ini_settings_from_memory(fitted(text, size.x, size.y))


def refit(stored: Path) -> None:
    """Fit the layout that imgui has just read from its file to the window, where it was stored in one of
    another size; in the first frames."""
    try:
        text = stored.read_text(encoding="utf-8")
    except (OSError, ValueError):
        return
    size = imgui.get_io().display_size
    changed = fitted(text, size.x, size.y)
    if changed != text:
        imgui.load_ini_settings_from_memory(changed)


def fitted(text: str, width: float, height: float) -> str:
    """A layout for a window of another size: every panel keeps its share. imgui itself would keep the outer
    panels' sizes, and leave the picture what remains.

    Args:
        text: imgui's ini text.
    """
    root = re.search(r"^DockSpace .*?Size=(\d+),(\d+)", text, re.M)
    if root is None or "0" in root.groups():
        return text
    across, down = width / int(root[1]), height / int(root[2])
    if max(abs(across - 1), abs(down - 1)) < _SAME:
        return text
    return re.sub(
        r"((?:Pos|Size(?:Ref)?)=)(\d+),(\d+)",
        lambda m: f"{m[1]}{round(int(m[2]) * across)},{round(int(m[3]) * down)}",
        text,
    )
