"""Exports without a window: a session's picture, grid or sweep. This path imports torch, in this process."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from explorer_app import export, movie_export, session
from explorer_app.comparison import Part, brightness, parts
from explorer_app.displayed import FULL, coloured, displayed, sheet
from explorer_app.distribution import TrainingDistribution
from explorer_app.export import Origin
from explorer_app.geometry import mirrored, stated
from explorer_app.messages import Picture
from explorer_app.movie import film
from explorer_app.people import people_of, person, summed_up
from explorer_app.real_image import RealImage
from explorer_app.request_edits import channel_requests, side_by_side
from explorer_app.state import AppState, Display, at_home
from explorer_app.viewing import viewed
from mssg.checkpoint.header import Header, read_header, resolve_snapshot
from mssg.errors import SnapshotError, UsageError
from mssg.rendering.request import RenderRequest


def export_session(
    path: str,
    output: str,
    snapshot: str = "",
    device: str = "auto",
    data_order: bool = False,
    movie: bool = False,
) -> str:
    """Draw what a session shows and write it.

    Args:
        output: .png (the picture), .nii.gz (the picture with millimetres), .pdf (the grid), .gif or .mp4 (a
            sweep of the grid's column covariate).
        snapshot: Used instead of the session's own.
        device: Where to draw: auto | cpu | cuda | mps.
        data_order: Grey levels as the model draws them, in data order, not as the session displays them.
        movie: Write the movie of the session's keyframes: .gif, .mp4, or .png for one file a picture.

    Returns:
        One sentence saying what was written.

    Raises:
        SnapshotError: The session or its snapshot is missing or damaged.
        UsageError: An output that cannot be.
    """
    if not output:
        raise UsageError("no output file", field="-o", expected="a .png, .nii.gz, .pdf, .gif or .mp4")
    saved = session.load(path)
    name = snapshot or saved.state.snapshot
    if not snapshot and not Path(name).is_file():
        words = "mssg figure movie --snapshot FILE" if movie else "mssg explore SNAPSHOT --export"
        raise SnapshotError(
            "the session's snapshot is missing", file=name, hint=f"Give its new place: {words} SESSION"
        )
    header = read_header(resolve_snapshot(name))
    state = at_home(saved.state, str(header.path))
    artist, lower = _Artist(device, state.display, data_order), output.lower()
    if movie:
        return f"wrote {_write_movie(output, header, state, artist)}"
    if lower.endswith(".pdf"):
        _write_grid(output, header, state, artist)
    elif lower.endswith((".gif", ".mp4")):
        movie_export.movie_files(output, 1)  # a missing ffmpeg is told before anything is drawn
        _write_sweep(output, header, state, artist)
    elif lower.endswith((".nii", ".nii.gz")):
        export.save_nifti(output, artist.image(state.request), Origin.of(header, artist.whole(state.request)))
    elif lower.endswith(".png"):
        _write_picture(output, header, state, artist)
    else:
        raise UsageError(
            "unknown file type", field="-o", found=output, expected=".png, .nii.gz, .pdf, .gif or .mp4"
        )
    return f"wrote {output}"


def _write_picture(output: str, header: Header, state: AppState, artist: _Artist) -> None:
    origin = Origin.of(header, artist.whole(state.request))
    if artist.data_order:
        pixels = coloured(artist.image(state.request), FULL)
        export.save_png(output, pixels, origin.shown(export.IN_DATA_ORDER))
        return
    pin, display = state.pin, state.display
    current, pinned = artist.part(state.request), None
    people, mode = people_of(state), state.analysis.uncertainty
    if people:
        each = [replace(artist.part(r), label=person(r)) for r in people]
        found = tuple(each) if mode == "people" else summed_up(mode, each)
        origin = Origin.of(header, *people, more={"Over seeds": mode})
        if mode != "mean":
            export.save_png(output, sheet(found, display), origin.shown(export.view_of(found, display)))
            return
        current = found[0]
    if pin is not None and display.compare != "A":
        pinned = replace(artist.part(pin.request), label=pin.label)
    shown, problem = parts(display, current, pinned)
    if problem:
        raise UsageError(f"the session's comparison cannot be shown: {problem}", field="compare")
    export.save_png(output, sheet(shown, display), origin.shown(export.view_of(shown, display)))


def _write_grid(output: str, header: Header, state: AppState, artist: _Artist) -> None:
    requests = export.grid_of(header.study, state.request, state.grid)
    cells = [[artist.pixels(cell) for cell in row] for row in requests]
    origin = Origin.of_grid(header, state.request, state.grid).shown(artist.view(requests[0][0]))
    export.save_grid(output, cells, state.grid, origin)


def _write_sweep(output: str, header: Header, state: AppState, artist: _Artist) -> None:
    name = state.grid.columns.name
    requests = TrainingDistribution(header).sweep(state.request, name, state.mode)
    origin = Origin.of_sweep(header, requests, name, state.mode).shown(artist.view(requests[0]))
    movie_export.save_sweep(output, [artist.pixels(r) for r in requests], origin)


def _write_movie(output: str, header: Header, state: AppState, artist: _Artist) -> str:
    if len(state.movie.keyframes) < 2:
        raise UsageError(
            "the session holds no movie",
            field="movie.keyframes",
            found=len(state.movie.keyframes),
            expected="two or more",
            hint="Add keyframes in the Movie panel and save the session",
        )
    movie_export.movie_files(output, 1)  # a wrong name or a missing ffmpeg is told before anything is drawn
    pictures = film(state.movie, header.study, artist.plain_part, lambda r: export.caption(header, r))
    return movie_export.save_movie(
        output, pictures, export.Origin.of_movie(header, state.movie), state.movie.fps
    )


class _Artist:
    """Draws what is looked at."""

    def __init__(self, device: str, display: Display, data_order: bool) -> None:
        from explorer_app.engine import Engine

        self.display, self.data_order = display, data_order
        self._engine = Engine(device=device)

    def _rendered(self, request: Picture) -> np.ndarray:
        frame = self._engine.render(request, lambda: False)
        assert frame is not None  # nothing cancels it
        return frame.image

    def _channels(self, request: Picture) -> tuple[Picture, ...]:
        if isinstance(request, RealImage):
            return (request,)
        if request.layer is not None:
            self._rendered(replace(request, channel=0, channels=1))  # which tells how many there are
        return channel_requests(request, self.display.channels, self._engine.channels(request))

    def whole(self, request: Picture) -> RenderRequest:
        """The one request of all that is looked at."""
        return side_by_side([r for r in self._channels(request) if isinstance(r, RenderRequest)])

    def image(self, request: Picture, mirror: bool = False) -> np.ndarray:
        """What is looked at: grey levels float32 [H, W] or [H, W, 3]."""
        images = [self._rendered(r) for r in self._channels(request)]
        as_drawn = {"untransform": False, "channel": "colour"}
        display = replace(self.display, **as_drawn) if self.data_order else self.display
        return viewed(images, request, display, mirror)

    def part(self, request: Picture) -> Part:
        """The same as a part of the view."""
        study = read_header(request.snapshot).study
        image = self.image(request, mirrored(study.geometry, self.display.neurological))
        if self.display.compare == "difference":
            image = brightness(image)
        return Part(request, image, stated(study, request))

    def plain_part(self, request: RenderRequest) -> Part:
        """The picture itself."""
        return Part(request, self._rendered(request), stated(read_header(request.snapshot).study, request))

    def pixels(self, request: Picture) -> np.ndarray:
        """A picture of a grid or sweep as it is written."""
        if self.data_order:
            return coloured(self.image(request), FULL)
        return displayed(self.part(request), replace(self.display, compare="A"))

    def view(self, request: Picture) -> dict[str, object]:
        """How such pictures are displayed, as provenance."""
        if self.data_order:
            return export.IN_DATA_ORDER
        return export.view_of([self.part(request)], replace(self.display, compare="A"))
