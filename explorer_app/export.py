"""Writing what is on the screen: pictures, grids, volumes, each with its provenance. No torch, no imgui."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from explorer_app.comparison import Part
from explorer_app.displayed import change_width
from explorer_app.geometry import millimetres, mirrored
from explorer_app.overlay import COLOURS, outlines
from explorer_app.request_edits import whole_picture
from explorer_app.state import Axis, Display, Grid, Movie, grid_requests
from mssg.checkpoint.header import Header
from mssg.data import nifti
from mssg.errors import DataError, UsageError
from mssg.files import write_atomically
from mssg.rendering import image_files
from mssg.rendering.command_line import generate_command, grid_command, private_command
from mssg.rendering.request import RenderRequest
from mssg.study.model import Study
from mssg.study.values import Sweep, plain

if TYPE_CHECKING:
    from mssg.plotting.image_grid import GridFigure

Image = np.ndarray


@dataclass(frozen=True)
class Origin:
    """What written pictures come from.

    Attributes:
        requests: One for each picture.
        command: What draws them again.
        more: What else is to be known of them: how they are displayed, the axes of a grid or sweep.
    """

    header: Header
    requests: tuple[RenderRequest, ...]
    command: str
    more: Mapping[str, Any] = field(default_factory=dict)

    @staticmethod
    def of(header: Header, *requests: RenderRequest, more: Mapping[str, Any] | None = None) -> Origin:
        """The origin of pictures of which the first is drawn again by `mssg generate`."""
        words = private_command(generate_command(requests[0], header.study, header.path.name))
        return Origin(header, requests, words, more or {})

    @staticmethod
    def of_grid(header: Header, request: RenderRequest, grid: Grid) -> Origin:
        """The origin of a grid's pictures: both axes are interventions, all else is held."""
        requests = tuple(cell for row in grid_of(header.study, request, grid) for cell in row)
        words = private_command(command_of_grid(request, grid, header.study, header.path.name))
        axes = [
            _axis(header.study, along, _sweep(axis))
            for along, axis in (("Rows", grid.rows), ("Columns", grid.columns))
        ]
        return Origin(header, requests, words, {"Axes": axes, "Covariates that are on no axis": "held"})

    @staticmethod
    def of_sweep(header: Header, requests: Sequence[RenderRequest], name: str, mode: str) -> Origin:
        """The origin of a sweep's pictures, in linked or free mode."""
        values = tuple(dict(request.covariates)[name] for request in requests)
        others = {"linked": "follow as in the training population", "free": "held"}[mode]
        axes = [_axis(header.study, "Frames", Sweep(name, values))]
        more = {"Axes": axes, "Mode": mode, "Covariates that are on no axis": others}
        return Origin.of(header, *requests, more=more)

    @staticmethod
    def of_movie(header: Header, movie: Movie) -> Origin:
        """The origin of a movie's pictures: its keyframes, and how it was filmed between them."""
        frames = movie.keyframes
        how = {"Fps": movie.fps, "Easing": movie.easing, "Seconds": [frame.seconds for frame in frames]}
        return Origin.of(header, *(frame.request for frame in frames), more={"Movie": how})

    def shown(self, view: Mapping[str, Any]) -> Origin:
        """The same with how the pictures are displayed."""
        return replace(self, more={**self.more, "Display": view})

    @property
    def stated(self) -> list[dict[str, float]]:
        """Every covariate of each picture, native units."""
        return [dict(request.covariates) for request in self.requests]

    @property
    def json(self) -> str:
        """All of it, as JSON."""
        described = image_files.describe(self.header, self.requests, self.stated, None, self.command)
        return json.dumps({**described, **self.more})

    @property
    def text(self) -> dict[str, str]:
        """All of it, as a PNG holds it."""
        text = image_files.png_text(self.header, self.requests, self.stated, self.command)
        return {**text, "mssg": self.json}


def _axis(study: Study, along: str, sweep: Sweep) -> dict[str, Any]:
    """An axis as provenance: what lies along it, with the values in native units."""
    covariate = study.covariate(sweep.name)
    values = [v if covariate.is_continuous else plain(covariate, v) for v in sweep.values]
    return {"Along": along, "Name": sweep.name, "Units": covariate.unit, "Values": values}


def _sweep(axis: Axis) -> Sweep:
    return Sweep(axis.name, axis.values())


def grid_of(study: Study, request: RenderRequest, grid: Grid) -> tuple[tuple[RenderRequest, ...], ...]:
    """The pictures of a grid, from the top: rows of numbers rise upwards, levels read downwards."""
    rising = grid.rows.name in study.condition_names and study.covariate(grid.rows.name).is_continuous
    return grid_requests(request, grid, rising)


def view_of(parts: Sequence[Part], display: Display) -> dict[str, Any]:
    """How parts are displayed, as provenance."""
    first, display = parts[0], parts[0].look(display)
    turned = [mirrored(part.geometry, display.neurological) for part in parts]
    view: dict[str, Any] = {"Order": "as displayed: right to left" if turned[0] else "as displayed"}
    if not first.is_difference:
        view |= {"Level": display.level, "Width": display.width, "Colours": display.colormap}
        view |= {"Inverted": display.invert}
        view |= {"Channel": display.channel} if display.channel != "colour" else {}
    else:
        view |= {"Width": change_width(first, display), "Colours": "signed"}
        view |= {"Threshold": display.change_threshold, "Over the picture": display.change_overlay}
    if first.joined in ("blend", "swipe"):
        view |= {"Joined": first.joined, "Share of the second": display.share}
    if first.label:
        view |= {"Shows": [part.written_label for part in parts]}
    return view


IN_DATA_ORDER = {"Order": "data: row 0 and column 0 as the model draws them", "Level": 127.5, "Width": 255}
"""How pictures are written that are not as displayed."""


def save_png(path: str | Path, pixels: np.ndarray, origin: Origin) -> None:
    """Write a picture as PNG: uint8 [H, W] or [H, W, 3], its origin stored as text in the file.

    Raises:
        UsageError: It cannot be written.
    """
    image_files.write_png(Path(path), pixels, origin.text)


def save_png16(path: str | Path, image: Image, origin: Origin) -> None:
    """Write a picture as PNG of 16 bits in data order: 0..65535 over the full range 0..255 of grey levels.

    Args:
        image: float32 [H, W], grey levels.
        origin: Stored as text in the file.

    Raises:
        UsageError: A colour picture, or it cannot be written.
    """
    image_files.save_png(Path(path), _stack(image), 1, origin.text, 16)


def _stack(image: Image) -> np.ndarray:
    """A picture as `image_files` takes it: float32 [1, C, H, W], grey levels 0 to 255."""
    planes = np.atleast_3d(image).transpose(2, 0, 1)
    return np.clip(planes, 0, 255)[None].astype(np.float32)


def save_nifti(path: str | Path, image: Image, origin: Origin) -> None:
    """Write a picture as a one-slice NIfTI volume with the study's geometry, and its JSON beside it.

    Raises:
        UsageError: The study states no geometry, a picture in colour or of a layer, or it cannot be written.
    """
    first = origin.requests[0]
    image_files.check_nifti(origin.header, (), 1, first.layer)
    image_files.save_nifti(
        Path(path), _stack(image), origin.header, [first], origin.stated, None, origin.command
    )


def painted(image: Image, masks: Mapping[str, np.ndarray]) -> np.ndarray:
    """Masks in their colours over the levels they were read from, [H, W] or [H, W, 3]: uint8 [H, W, 3]."""
    out = np.clip(np.array(image if image.ndim == 3 else np.repeat(image[..., None], 3, -1)), 0, 255)
    for i, mask in enumerate(masks.values()):
        out[mask] = 0.5 * out[mask] + 127.5 * np.array(COLOURS[i % len(COLOURS)])
    return np.rint(out).astype(np.uint8)


def save_regions(path: str | Path, masks: Mapping[str, np.ndarray], origin: Origin) -> None:
    """Write what the oracle takes for what, in data order: `.csv` outlines, a row a point in pixels and,
    where the
    study states them, millimetres; `.png` or NIfTI a map of labels, 1 for the first region, later ones over
    it.

    Args:
        masks: Region -> bool [H, W].

    Raises:
        UsageError: Another file type, no geometry for a NIfTI, or it cannot be written.
    """
    path, name, header = Path(path), str(path).lower(), origin.header
    labels = np.zeros(next(iter(masks.values())).shape, np.uint8)
    for i, mask in enumerate(masks.values(), 1):
        labels[mask] = i
    told = replace(origin, more={**origin.more, "Labels": {i: n for i, n in enumerate(masks, 1)}})
    if name.endswith(".csv"):
        write_file(path, _outline_rows(masks, header).encode())
    elif name.endswith(".png"):
        image_files.write_png(path, labels, told.text)
    elif name.endswith(image_files.NIFTI_SUFFIXES):
        image = image_files.nifti_image(labels[None, None].astype(np.float32), header, origin.requests[0])
        write_file(path, nifti.to_bytes(image, path))
        write_file(nifti.sidecar(path), told.json.encode())
    else:
        raise UsageError("not a file of regions", file=path, expected=".csv, .png or .nii.gz")


def _outline_rows(masks: Mapping[str, np.ndarray], header: Header) -> str:
    """Outlines as CSV."""
    geometry, side = header.study.geometry, header.study.resolution
    rows = ["region,outline,column,row" + (",across_mm,up_mm" if geometry else "")]
    for name, mask in masks.items():
        for i, line in enumerate(outlines(mask), 1):
            for x, y in line:
                mm = millimetres(geometry, x, y, side, rows=side) if geometry else ()
                rows.append(",".join([name, str(i), *(f"{v:g}" for v in (x, y, *mm))]))
    return "\n".join(rows) + "\n"


def caption(header: Header, request: RenderRequest) -> tuple[str, ...]:
    """A picture in words: its values and seed, and what it is."""
    study, values = header.study, dict(request.covariates)
    words = [f"{c.title} {c.format(values[c.name])}" for c in study.conditions]
    seeds = request.blend or ((request.seed, 1.0),)
    seed = "seed " + " + ".join(f"{s}" for s, _ in seeds)
    words.append("after a real image" if request.latent else seed)
    made = f"drawn by a generative model{f' trained on {header.origin}' if header.origin else ''}"
    return " · ".join(words), f"{study.name}: {made}, not a scan of a person"


def save_grid(path: str | Path, cells: Sequence[Sequence[np.ndarray]], grid: Grid, origin: Origin) -> None:
    """Write a grid of two covariates: PNG at native pixels, or the labelled PDF of `mssg figure grid`.

    Args:
        cells: uint8 [H, W] or [H, W, 3] each, rows from the top.

    Raises:
        UsageError: Another file type, or it cannot be written.
    """
    path, kind = Path(path), Path(path).suffix.lower()
    if kind == ".png":
        image_files.write_png(path, mosaic(cells), origin.text)
    elif kind == ".pdf":
        write_file(path, figure(cells, grid, origin).encode(kind))
    else:
        raise UsageError("not a figure", file=path, expected=".png or .pdf")


def figure(cells: Sequence[Sequence[np.ndarray]], grid: Grid, origin: Origin) -> GridFigure:
    """The labelled figure of a grid, as `mssg figure grid` draws it."""
    from mssg.plotting.image_grid import figure_of_images

    upwards = list(cells)[::-1]  # the figure counts rows from the bottom
    images = np.stack([np.stack([np.atleast_3d(c).transpose(2, 0, 1) for c in row]) for row in upwards])
    rising, values = origin.header.study.covariate(grid.rows.name).is_continuous, grid.rows.values()
    rows = Sweep(grid.rows.name, values if rising else values[::-1])
    columns, first = _sweep(grid.columns), origin.requests[0]
    drawn = figure_of_images(origin.header, images, rows, columns, request=first, command=origin.command)
    return replace(drawn, metadata={**drawn.metadata, "mssg": origin.json})


def mosaic(cells: Sequence[Sequence[np.ndarray]]) -> np.ndarray:
    """The cells of a grid side by side: uint8 [rows · H, columns · W] or [..., 3]."""
    return np.concatenate([np.concatenate(list(row), 1) for row in cells], 0)


def command_of_grid(
    request: RenderRequest, grid: Grid, study: Study, snapshot: str, output: str = "grid.pdf"
) -> str:
    """The `mssg figure grid` command that draws a grid."""
    axes = _sweep(grid.rows), _sweep(grid.columns)
    return grid_command(whole_picture(request), study, snapshot, axes, output)


def write_file(path: str | Path, data: bytes | Callable[[BinaryIO], object]) -> None:
    """Write a file whole or not at all: its bytes, or what writes them.

    Raises:
        DataError: It cannot be written.
    """
    write_atomically(Path(path), data, DataError)
