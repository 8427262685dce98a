"""The export dialog: what to write, what it will look like, where, and the work handed to the background."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from imgui_bundle import ImVec2, imgui
from imgui_bundle import icons_fontawesome_6 as icons

from explorer_app import export, movie_export, tables, theme, widgets
from explorer_app.clipboard import copy_picture
from explorer_app.comparison import Part
from explorer_app.context import Context
from explorer_app.displayed import FULL, Burnt, coloured, displayed, sheet
from explorer_app.geometry import stated
from explorer_app.interface import Capture, Dialog, ExportForm
from explorer_app.messages import Frame
from explorer_app.movie import discrete, film, shots
from explorer_app.overlay import masks_of
from explorer_app.panels.browser import browse
from explorer_app.state import AppState, Keyframe, Movie
from explorer_app.tables import Table
from explorer_app.theme import em
from explorer_app.viewing import channel, viewed

KINDS = {
    "png": ("picture (PNG)", "image.png", (".png",)),
    "png16": ("picture, 16 bits (PNG)", "image-16bit.png", (".png",)),
    "nii": ("picture with millimetres (NIfTI)", "image.nii.gz", (".nii.gz", ".nii")),
    "sweep": ("sweep of a covariate (GIF, MP4)", "sweep.gif", (".gif", ".mp4")),
    "grid": ("grid (PNG, PDF)", "grid.png", (".png", ".pdf")),
    "movie": ("movie of the keyframes (GIF, MP4, PNGs)", "movie.mp4", (".mp4", ".gif", ".png")),
    "regions": ("oracle's regions (CSV, PNG, NIfTI)", "regions.csv", (".csv", ".png", ".nii.gz", ".nii")),
    "list": ("pictures of a list of conditions (PNG)", "pictures.png", (".png",)),
    "table": ("table (CSV)", "table.csv", (".csv",)),
    "view": ("view with all that lies over it (PNG)", "view.png", (".png",)),
    "window": ("whole window (PNG)", "explorer.png", (".png",)),
}
"""What can be written: its title, the name proposed, the files' suffixes."""
ORDERS = ("as displayed", "data order")
_ORDER_TIPS = (
    "As on the screen: sides, window, colours and comparison; the whole picture, not the part zoomed at.",
    "Grey levels 0 to 255, row and column 0 as the model draws them: the pixels of `mssg generate`.",
)
_ORDERED = ("png", "sweep", "grid", "list")
_TABLE_ROWS = 8  # of a table that are shown
_LEGIBLE = 512  # pixels a side, at least, where something is burnt in
_BURNT = (
    ("letters", "edge letters"),
    ("scale", "scale bar"),
    ("bar", "colour bar"),
    ("values", "values"),
    ("strokes", "marks, outlines"),
)


@dataclass(frozen=True)
class Draft:
    """What would be written: what it looks like, uint8 [H, W] or [H, W, 3], and how it is done. A table has
    no pixels."""

    pixels: np.ndarray | None
    write: Callable[[str], object]


def draw(app: Context, state: AppState) -> AppState:
    """Draw the dialog."""
    distribution = app.document.distribution
    if distribution is None or app.client.shown is None:
        widgets.wrapped("There is no picture to export yet.")
        return state
    form = app.interface.export
    lacks = {"nii": distribution.study.geometry is None, "table": not form.table, "list": not form.listed}
    kinds = {k: v for k, v in KINDS.items() if not lacks.get(k)}
    form.kind = form.kind if form.kind in kinds else "png"
    title = widgets.combo("##export kind", [v[0] for v in kinds.values()], kinds[form.kind][0], width=em(18))
    new = next(k for k, v in kinds.items() if v[0] == title)
    propose = form.propose or (
        "" if new == form.kind and Dialog.EXPORT in app.interface.paths else kinds[new][1]
    )
    form.kind, form.propose = new, ""
    if new in _ORDERED:
        imgui.same_line()
        width = imgui.get_content_region_avail().x
        order = widgets.segmented("export order", ORDERS, ORDERS[form.data_order], _ORDER_TIPS, width)
        form.data_order = order == ORDERS[1]
    draft = _DRAFTS[new](app, state)
    if isinstance(draft, Draft):
        if draft.pixels is not None:
            _preview(app, draft.pixels)
    else:
        widgets.wrapped(draft, theme.AMBER)
    chosen = browse(app, Dialog.EXPORT, kinds[new][2], write=True, propose=propose)
    if chosen and new in ("view", "window"):
        app.interface.capture = Capture(chosen, new == "view")
        app.interface.dialogs.discard(Dialog.EXPORT)
    elif chosen and isinstance(draft, Draft):
        write = draft.write
        app.background.start(lambda: write(chosen), f"wrote {chosen}")
        app.interface.dialogs.discard(Dialog.EXPORT)
    elif chosen:
        app.interface.note(str(draft), bad=True)
    return state


def _preview(app: Context, pixels: np.ndarray) -> None:
    """What will be written, as large as there is room."""
    tall, wide = pixels.shape[:2]
    room, high = imgui.get_content_region_avail().x, em(11)
    scale = min(room / wide, high / tall)
    widgets.centre(wide * scale)
    texture = app.screen.photograph("export preview", pixels, smooth=scale < 1)
    imgui.image(imgui.ImTextureRef(texture), ImVec2(wide * scale, tall * scale))
    widgets.tooltip("What will be written.")
    widgets.text(f"{wide} × {tall} pixels", theme.DIM)


def _settled(app: Context, state: AppState) -> Frame | str:
    """The frame of the picture asked for; a word why there is none yet."""
    frame = app.client.shown
    assert frame is not None
    if problem := app.problem():
        return problem
    channels = (app.client.frame(request) for request in app.channels(frame.request))
    waits = frame.request != state.request or frame.preview or any(f is None for f in channels)
    return "The picture is still being rendered." if waits else frame


def _picture(app: Context, state: AppState) -> Draft | str:
    """The picture with what it is compared with, or its grey levels."""
    frame, form = _settled(app, state), app.interface.export
    if isinstance(frame, str):
        return frame
    origin = app.origin()
    if form.data_order:
        image = _in_data_order(app, frame)
        pixels = app.maps.computed("export", [image], ("data",), lambda: coloured(image, FULL))
        return Draft(pixels, lambda path: export.save_png(path, pixels, origin.shown(export.IN_DATA_ORDER)))
    parts, problem = app.parts(frame)
    if problem:
        return f"{problem[:1].upper()}{problem[1:]}: nothing to write as displayed."
    burnt = _burnt(app, state, parts)
    images = [i for part in parts for i in (part.image, part.other) if i is not None]
    key = (state.display, burnt, tuple(p.label for p in parts), tuple(p.geometry for p in parts))
    pixels = app.maps.computed("export", images, key, lambda: sheet(parts, state.display, burnt))
    shown = origin.shown(export.view_of(parts, state.display))
    return Draft(pixels, lambda path: export.save_png(path, pixels, shown))


def _burnt(app: Context, state: AppState, parts: Sequence[Part]) -> Burnt:
    """What is burnt in, as ticked."""
    form, side = app.interface.export, max(parts[0].image.shape[:2])
    imgui.align_text_to_frame_padding()
    widgets.text("burn in", theme.DIM)
    for key, title in _BURNT:
        needs = key in ("letters", "scale") and all(part.geometry is None for part in parts)
        imgui.same_line()
        imgui.begin_disabled(needs)
        clicked, on = imgui.checkbox(f"{title}##burn {key}", key in form.burnt and not needs)
        imgui.end_disabled()
        widgets.tooltip("This picture states no geometry." if needs else f"Write {title} into the pixels.")
        if clicked:
            form.burnt = form.burnt | {key} if on else form.burnt - {key}
            least = -(-_LEGIBLE // side) if form.burnt else 1
            form.times = max(form.times, least) if on else form.times
    imgui.align_text_to_frame_padding()
    widgets.text("size", theme.DIM)
    imgui.same_line()
    times = sorted({1, 2, 4, 8, form.times})
    labels = [f"{side * n} pixels" if n > 1 else f"{side} pixels, native" for n in times]
    chosen = widgets.combo("##export size", labels, labels[times.index(form.times)], width=em(11))
    form.times = times[labels.index(chosen)]
    widgets.tooltip("Pixels a side of each picture; larger ones are interpolated as displayed.")
    on = {key: key in form.burnt for key, _ in _BURNT}
    header = app.document.distribution.header if app.document.distribution else None
    text = export.caption(header, state.request) if on["values"] and header else ()
    strokes = tuple(app.strokes(part) for part in parts) if on["strokes"] else ()
    return Burnt(form.times, on["letters"], on["scale"], on["bar"], text, strokes)


def _in_data_order(app: Context, frame: Frame) -> np.ndarray:
    """What was rendered, neither mirrored nor moved back: grey levels float32."""
    display = replace(app.state.display, untransform=False, channel="colour")
    frames = [app.client.frame(r) for r in app.channels(frame.request)[1:]]
    images = [frame.image, *(f.image for f in frames if f is not None)]
    settings = (display.normalise, display.gain_db)
    return app.maps.computed("data order", images, settings, lambda: viewed(images, frame.request, display))


def _levels(app: Context, state: AppState, write: Callable[..., None]) -> Draft | str:
    """Grey levels of the picture alone, in data order."""
    frame = _settled(app, state)
    if isinstance(frame, str):
        return frame
    widgets.text("in data order: rows and columns as the model draws them", theme.DIM)
    image, origin = _in_data_order(app, frame), app.origin().shown(export.IN_DATA_ORDER)
    pixels = app.maps.computed("export", [image], ("data",), lambda: coloured(image, FULL))
    return Draft(pixels, lambda path: write(path, image, origin))


def _png16(app: Context, state: AppState) -> Draft | str:
    return _levels(app, state, export.save_png16)


def _nifti(app: Context, state: AppState) -> Draft | str:
    if state.request.layer:
        return "A layer has no millimetres: show the picture (Inspect > layers > image)."
    return _levels(app, state, export.save_nifti)


def _many(app: Context, state: AppState, frames: Sequence[Frame]) -> tuple[np.ndarray, dict[str, Any]]:
    """Pictures as they are written, uint8 [N, H, W] or [N, H, W, 3], and how they are displayed."""
    form, display = app.interface.export, replace(state.display, compare="A")
    images = [frame.image for frame in frames]
    study = app.document.study(state.snapshot)
    parts = [Part(f.request, channel(f.image, display.channel), stated(study, f.request)) for f in frames]
    key = (form.data_order, display, tuple(part.geometry for part in parts))

    def work() -> np.ndarray:
        full = [coloured(i, FULL) for i in images]
        return np.stack(full if form.data_order else [displayed(part, display) for part in parts])

    done = app.maps.computed("export many", images, key, work)
    return done, export.IN_DATA_ORDER if form.data_order else export.view_of(parts[:1], display)


def _grid(app: Context, state: AppState) -> Draft | str:
    """The grid."""
    distribution = app.document.distribution
    assert distribution is not None
    rows = export.grid_of(distribution.study, state.request, state.grid)
    if not rows:
        return "Choose two different covariates in the Grid panel."
    flat = [cell for row in rows for cell in row]
    frames = _waited_for(app, flat)
    if isinstance(frames, str):
        return frames
    pictures, view = _many(app, state, frames)
    columns = len(rows[0])
    cells = [list(pictures[i : i + columns]) for i in range(0, len(pictures), columns)]
    origin = export.Origin.of_grid(distribution.header, state.request, state.grid).shown(view)
    pixels = app.maps.computed("export mosaic", [pictures], (columns,), lambda: export.mosaic(cells))
    grid = state.grid
    return Draft(pixels, lambda path: export.save_grid(path, cells, grid, origin))


def _sweep(app: Context, state: AppState) -> Draft | str:
    """A sweep of one covariate, the others held or following as the sliders do."""
    distribution, form = app.document.distribution, app.interface.export
    assert distribution is not None
    names = [c.name for c in distribution.study.conditions if c.is_continuous]
    if not names:
        return "This study has no continuous covariate to sweep."
    form.sweep = form.sweep if form.sweep in names else names[0]
    form.sweep = widgets.combo("covariate##sweep", names, form.sweep, em(12), called=widgets.human)
    name, mode = form.sweep, state.mode
    others = {"linked": "the others follow (linked)", "free": "the others stay (free)"}[mode]
    covariate, (low, high) = distribution.study.covariate(name), distribution.range(name)
    widgets.text(f"from {covariate.format(low)} to {covariate.format(high)}; {others}", theme.DIM)
    requests = distribution.sweep(state.request, name, mode)
    frames = _waited_for(app, requests)
    if isinstance(frames, str):
        return frames
    pictures, view = _many(app, state, frames)
    origin = export.Origin.of_sweep(distribution.header, requests, name, mode).shown(view)
    moment = int(imgui.get_time() * 8) % len(pictures)
    return Draft(pictures[moment], lambda path: movie_export.save_sweep(path, list(pictures), origin))


def _waited_for(app: Context, requests: Sequence[Any]) -> list[Frame] | str:
    """The frames of many pictures; a word why they are not all there yet."""
    app.client.request(requests)
    frames = [f for r in requests if (f := app.client.frame(r)) is not None and not f.preview]
    for request in requests:
        if request in app.client.errors:
            return f"A picture cannot be rendered: {app.client.errors[request]}"
    return frames if len(frames) == len(requests) else f"rendering {len(frames)} of {len(requests)} pictures"


def _movie(app: Context, state: AppState) -> Draft | str:
    """The movie of the keyframes."""
    distribution, movie = app.document.distribution, state.movie
    assert distribution is not None
    study, header = distribution.study, distribution.header
    if len(movie.keyframes) < 2:
        return "A movie needs two keyframes: add them in the Movie panel."
    taken = shots(movie, discrete(study))
    requests = list(dict.fromkeys(shot.request for shot in taken))
    frames = _waited_for(app, requests)
    if isinstance(frames, str):
        return frames
    parts = {f.request: Part(f.request, f.image, stated(study, f.request)) for f in frames}
    origin = export.Origin.of_movie(header, movie)

    def pictures(of: Movie) -> list[np.ndarray]:
        return film(of, study, parts.__getitem__, lambda request: export.caption(header, request))

    shot = taken[int(imgui.get_time() * movie.fps) % len(taken)]
    still = Movie((Keyframe(shot.request, shot.display, 1.0, shot.center, shot.span),), burnt=movie.burnt)
    widgets.text(f"{len(taken)} pictures, {len(taken) / movie.fps:.1f} s", theme.DIM)
    widgets.text("A .png is written as one file for each picture: movie-0001.png and on.", theme.DIM)
    return Draft(
        pictures(replace(still, times=movie.times))[0],
        lambda path: movie_export.save_movie(path, pictures(movie), origin, movie.fps),
    )


def _regions(app: Context, state: AppState) -> Draft | str:
    """What the oracle takes for what on the picture, as masks or outlines."""
    frame, distribution = _settled(app, state), app.document.distribution
    assert distribution is not None
    oracle = distribution.study.instrument
    if isinstance(frame, str):
        return frame
    if not oracle or state.request.layer:
        return "The study names no oracle." if not oracle else "A layer is shown: the oracle reads pictures."
    image, origin = frame.image, app.origin()
    masks = masks_of(image, oracle)
    if not masks:
        return "The oracle finds nothing it knows on this picture."
    pixels = app.maps.computed("export", [image], ("regions",), lambda: export.painted(image, masks))
    return Draft(pixels, lambda path: export.save_regions(path, masks, origin))


def csv_button(app: Context, name: str, table: Callable[[], Table]) -> None:
    """A button that exports a table, made when it is clicked."""
    if imgui.button(f"{icons.ICON_FA_TABLE}  CSV##{name}"):
        app.interface.export = ExportForm("table", f"{name}.csv", table=table())
        app.interface.dialogs.add(Dialog.EXPORT)
    widgets.tooltip("Write this table as CSV.")


def _table(app: Context, state: AppState) -> Draft | str:
    """The table that a panel handed over."""
    table = app.interface.export.table
    if imgui.begin_table(
        "rows",
        len(table[0]),
        imgui.TableFlags_.sizing_fixed_fit | imgui.TableFlags_.scroll_x,
        ImVec2(0, em(1.6) * (1 + min(len(table), _TABLE_ROWS))),
    ):
        for i, row in enumerate(table[:_TABLE_ROWS]):
            imgui.table_next_row()
            for cell in row:
                imgui.table_next_column()
                widgets.text(cell, theme.DIM if i == 0 else theme.TEXT)
        imgui.end_table()
    widgets.text(f"{len(table) - 1} rows", theme.DIM)
    return Draft(None, lambda path: tables.save(path, table))


def _list(app: Context, state: AppState) -> Draft | str:
    """A picture for every condition of a list, and a table of them with what instruments read."""
    distribution, form = app.document.distribution, app.interface.export
    assert distribution is not None
    study, header = distribution.study, distribution.header
    names, requests = zip(*form.listed)
    app.client.request(requests, measured=True)
    frames = _waited_for(app, requests)
    if isinstance(frames, str):
        return frames
    if any(frame.measured is None for frame in frames):
        return "measuring the pictures"
    pictures, view = _many(app, state, frames)
    widgets.text(
        f"{len(names)} pictures: pictures-0001.png and on, and pictures.csv with their values.", theme.DIM
    )

    def write(path: str) -> None:
        files = movie_export.movie_files(path, len(names))
        for file, pixels, request in zip(files, pictures, requests):
            export.save_png(file, pixels, export.Origin.of(header, request).shown(view))
        tables.save(Path(path).with_suffix(".csv"), tables.of_pictures(study, names, files, frames))

    return Draft(pictures[int(imgui.get_time() * 2) % len(pictures)], write)


def copy(app: Context) -> None:
    """Put the picture as displayed, with letters, scale bar and marks where they are shown, on the
    clipboard."""
    frame, state = _settled(app, app.state), app.state
    if isinstance(frame, str):
        app.interface.note(frame, bad=True)
        return
    parts, _ = app.parts(frame)
    times = max(1, -(-_LEGIBLE // max(parts[0].image.shape[:2])))
    on = state.display.annotations
    burnt = Burnt(times, on, on, strokes=tuple(app.strokes(part) for part in parts))
    app.background.start(
        lambda: copy_picture(sheet(parts, state.display, burnt)), "picture copied to the clipboard"
    )


def _window(app: Context, state: AppState) -> Draft | str:
    return "The photograph is taken when this dialog has closed."


_DRAFTS: dict[str, Callable[[Context, AppState], Draft | str]] = {
    "png": _picture,
    "png16": _png16,
    "nii": _nifti,
    "sweep": _sweep,
    "grid": _grid,
    "movie": _movie,
    "regions": _regions,
    "list": _list,
    "table": _table,
    "view": _window,
    "window": _window,
}
