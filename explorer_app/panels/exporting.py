"""The export dialog: what to write, where, and the work handed to the background."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from explorer_app import export, theme, widgets
from explorer_app.context import Context
from explorer_app.panels.browser import browse
from explorer_app.state import SWEEP_STEPS, AppState, Axis, grid_pictures, sweep_pictures
from explorer_app.theme import em

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
    population = app.population
    if population is None or app.shown is None:
        widgets.wrapped("There is no picture to export yet.")
        return state
    kind = app.fields.setdefault("export kind", "png")
    kinds = {k: v for k, v in _KINDS.items() if k != "nii" or population.study.geometry is not None}
    title = widgets.combo(
        "##export kind", [t for t, _ in kinds.values()], kinds.get(kind, kinds["png"])[0], width=em(22)
    )
    new = next(k for k, (t, _) in kinds.items() if t == title)
    if new != kind or "export path" not in app.fields or app.fields.get("export"):
        name = app.fields.pop("export", "") or _KINDS[new][1]
        old = Path(app.fields.get("export path", str(Path.cwd() / "x"))).expanduser()
        app.fields["export path"] = str((old if old.is_dir() else old.parent) / name)
    app.fields["export kind"] = new
    ready = _sweep(app, state) if new == "sweep" else True
    chosen = browse(app, "export", (".png", ".pdf", ".gif", ".mp4", ".gz", ".nii"))
    if chosen and ready and _start(app, state, new, chosen):
        app.dialogs.discard("export")
    return state


def _sweep(app: Context, state: AppState) -> bool:
    """Choose the covariate of a sweep and have its pictures rendered; False while there is none."""
    population = app.population
    assert population is not None
    names = [c.name for c in population.study.conditions if c.is_continuous]
    if not names:
        widgets.wrapped("This study has no continuous covariate to sweep.")
        return False
    known = app.fields.get("sweep", "")
    name = widgets.combo("covariate##sweep", names, known if known in names else names[0], width=em(12))
    app.fields["sweep"] = name
    low, high = population.range(name)
    pictures = sweep_pictures(state, Axis(name, low, high, SWEEP_STEPS))
    app.want(pictures)
    done = sum(app.service.frame(p) is not None for p in pictures)
    covariate = population.study.covariate(name)
    widgets.text(
        f"{done} of {len(pictures)} pictures from {covariate.format(low)} to {covariate.format(high)}",
        theme.DIM,
    )
    return True


def _start(app: Context, state: AppState, kind: str, path: str) -> bool:
    """Hand the work to the background; False when it cannot begin yet."""
    population, frame = app.population, app.shown
    assert population is not None and frame is not None
    if kind == "window":
        app.capture = path
        return True
    if frame.picture != state.picture or frame.preview:
        app.note("the picture is still being rendered; try again in a moment", bad=True)
        return False
    about, display, study = app.about(), state.display, population.study
    work: Callable[[], None]
    if kind == "grid":
        cells = [
            [f.image if (f := app.service.frame(p)) else None for p in row] for row in grid_pictures(state)
        ]
        work = lambda: export.save_grid(path, cells, state.grid, study, about, display)  # noqa: E731
    elif kind == "sweep":
        axis = Axis(app.fields["sweep"], *population.range(app.fields["sweep"]), SWEEP_STEPS)
        frames = [app.service.frame(p) for p in sweep_pictures(state, axis)]
        if any(f is None for f in frames):
            app.note("the sweep is still being rendered; try again in a moment", bad=True)
            return False
        images = [f.image for f in frames if f is not None]
        work = lambda: export.save_sweep(path, images, about, display)  # noqa: E731
    elif kind == "nii":
        work = lambda: export.save_nifti(path, frame.image, study, about)  # noqa: E731
    else:
        bits = 16 if kind == "png16" else 8
        work = lambda: export.save_png(path, frame.image, about, bits, display)  # noqa: E731
    app.in_background(work, f"wrote {Path(path).name}")
    return True
