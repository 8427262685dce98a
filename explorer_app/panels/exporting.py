"""The export dialog: what to write, where, and the work handed to the background."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from explorer_app import export, theme, widgets
from explorer_app.context import Context
from explorer_app.interface import Dialog
from explorer_app.panels.browser import browse
from explorer_app.state import SWEEP_STEPS, AppState, Axis, grid_requests, sweep_requests
from explorer_app.theme import em
from explorer_app.viewing import viewed

_KINDS = {
    "png": ("PNG, 8 bits, as displayed", "image.png"),
    "png16": ("PNG, 16 bits, grey levels", "image-16bit.png"),
    "nii": ("NIfTI, with millimetres", "image.nii.gz"),
    "sweep": ("sweep of a covariate (GIF or MP4)", "sweep.gif"),
    "grid": ("grid (PNG at native pixels, or PDF)", "grid.png"),
    "window": ("the whole window (PNG)", "explorer.png"),
}


def draw(app: Context, state: AppState) -> AppState:
    """Draw the dialog."""
    distribution = app.document.distribution
    if distribution is None or app.client.shown is None:
        widgets.wrapped("There is no picture to export yet.")
        return state
    form, paths = app.interface.export, app.interface.paths
    kinds = {k: v for k, v in _KINDS.items() if k != "nii" or distribution.study.geometry is not None}
    title = widgets.combo(
        "##export kind", [t for t, _ in kinds.values()], kinds.get(form.kind, kinds["png"])[0], width=em(22)
    )
    new = next(k for k, (t, _) in kinds.items() if t == title)
    if new != form.kind or Dialog.EXPORT not in paths or form.propose:
        old = Path(paths.get(Dialog.EXPORT, str(Path.cwd() / "x"))).expanduser()
        paths[Dialog.EXPORT] = str((old if old.is_dir() else old.parent) / (form.propose or _KINDS[new][1]))
    form.kind, form.propose = new, ""
    ready = _sweep(app, state) if new == "sweep" else True
    chosen = browse(app, Dialog.EXPORT, (".png", ".pdf", ".gif", ".mp4", ".gz", ".nii"))
    if chosen and ready and _start(app, state, new, chosen):
        app.interface.dialogs.discard(Dialog.EXPORT)
    return state


def _sweep(app: Context, state: AppState) -> bool:
    """Choose the covariate of a sweep and have its pictures rendered; False while there is none."""
    distribution = app.document.distribution
    assert distribution is not None
    names = [c.name for c in distribution.study.conditions if c.is_continuous]
    if not names:
        widgets.wrapped("This study has no continuous covariate to sweep.")
        return False
    known = app.interface.export.sweep
    name = widgets.combo("covariate##sweep", names, known if known in names else names[0], width=em(12))
    app.interface.export.sweep = name
    low, high = distribution.range(name)
    pictures = sweep_requests(state.request, Axis(name, low, high, SWEEP_STEPS))
    app.client.request(pictures)
    done = sum(app.client.frame(p) is not None for p in pictures)
    covariate = distribution.study.covariate(name)
    widgets.text(
        f"{done} of {len(pictures)} pictures from {covariate.format(low)} to {covariate.format(high)}",
        theme.DIM,
    )
    return True


def _start(app: Context, state: AppState, kind: str, path: str) -> bool:
    """Hand the work to the background; False when it cannot begin yet."""
    distribution, frame, form = app.document.distribution, app.client.shown, app.interface.export
    assert distribution is not None and frame is not None
    if kind == "window":
        app.interface.capture = path
        return True
    if frame.request != state.request or frame.preview:
        app.interface.note("the picture is still being rendered; try again in a moment", bad=True)
        return False
    origin, display, request = app.origin(), state.display, state.request
    image = app.viewed(frame, "view 0")
    work: Callable[[], None]
    if kind == "grid":
        of_grid = export.Origin.of_grid(origin.header, request, state.grid)
        cells = [
            [f.image if (f := app.client.frame(r)) else None for r in row]
            for row in grid_requests(request, state.grid)
        ]
        work = lambda: export.save_grid(path, cells, state.grid, of_grid, display)  # noqa: E731
    elif kind == "sweep":
        requests = sweep_requests(request, Axis(form.sweep, *distribution.range(form.sweep), SWEEP_STEPS))
        frames = [f for r in requests if (f := app.client.frame(r)) is not None]
        if len(frames) < len(requests):
            app.interface.note("the sweep is still being rendered; try again in a moment", bad=True)
            return False
        images = [viewed([f.image], f.request, display) for f in frames]
        of_sweep = export.Origin.of(origin.header, *requests)
        work = lambda: export.save_sweep(path, images, of_sweep, display)  # noqa: E731
    elif kind == "nii":
        work = lambda: export.save_nifti(path, image, origin)  # noqa: E731
    else:
        bits = 16 if kind == "png16" else 8
        work = lambda: export.save_png(path, image, origin, bits, display)  # noqa: E731
    app.background.start(work, f"wrote {Path(path).name}")
    return True
