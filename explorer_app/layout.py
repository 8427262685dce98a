"""Where the panels are: as text for a session, and back."""

from __future__ import annotations

from imgui_bundle import hello_imgui, imgui

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
    imgui.load_ini_settings_from_memory(text)
