"""View > Device: where pictures are drawn, of what the render process found on this machine."""

from __future__ import annotations

from imgui_bundle import imgui

from explorer_app import theme, widgets
from explorer_app.context import Context

AUTO = "auto"


def menu(app: Context) -> None:
    """Draw the menu's items."""
    client, model = app.client, app.model
    if not client.devices:
        widgets.text("looking for devices", theme.DIM)
        return
    best = next(iter(client.devices))
    for name, about in {AUTO: f"the best here: {best}", **client.devices}.items():
        if imgui.menu_item(f"{name}###device {name}", about, _same(name, client.device), True)[0]:
            client.use_device(name)
            app.interface.note(f"pictures are drawn on {name} from now on")
    imgui.separator()
    half = "float16 in its finest layers" if model and model.half else "float32"
    widgets.text(f"computes in {half}" if model else "loading the model", theme.DIM)


def _same(name: str, chosen: str) -> bool:
    """Whether a device of the list is the one chosen; `cuda` is its first."""
    return name == chosen or (chosen == "cuda" and name == "cuda:0")
