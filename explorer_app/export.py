"""Writing what is on the screen: pictures, grids, sweeps and volumes, each with its provenance. No torch, no
imgui."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

from explorer_app import colormaps
from explorer_app.request_edits import whole_picture
from explorer_app.state import Display, Grid, grid_requests
from mssg.checkpoint.header import Header
from mssg.errors import DataError, UsageError
from mssg.files import write_atomically
from mssg.rendering import image_files
from mssg.rendering.command_line import generate_command, grid_command, private_command
from mssg.rendering.request import RenderRequest
from mssg.study.model import Study
from mssg.study.values import Sweep

Image = np.ndarray
FULL = Display()


@dataclass(frozen=True)
class Origin:
    """What written pictures come from: the snapshot, their requests, the command that draws them again."""

    header: Header
    requests: tuple[RenderRequest, ...]
    command: str

    @staticmethod
    def of(header: Header, *requests: RenderRequest) -> Origin:
        """The origin of pictures of which the first is drawn again by `mssg generate`."""
        name = header.path.name
        return Origin(header, requests, private_command(generate_command(requests[0], header.study, name)))

    @staticmethod
    def of_grid(header: Header, request: RenderRequest, grid: Grid) -> Origin:
        """The origin of a grid's pictures."""
        requests = tuple(cell for row in grid_requests(request, grid) for cell in row)
        words = command_of_grid(request, grid, header.study, header.path.name)
        return Origin(header, requests, private_command(words))

    @property
    def stated(self) -> list[dict[str, float]]:
        """Every covariate of each picture, native units."""
        return [dict(request.covariates) for request in self.requests]

    @property
    def json(self) -> str:
        """All of it, as JSON."""
        return json.dumps(image_files.describe(self.header, self.requests, self.stated, None, self.command))

    @property
    def text(self) -> dict[str, str]:
        """All of it, as a PNG holds it."""
        return image_files.png_text(self.header, self.requests, self.stated, self.command)


def save_png(path: str | Path, image: Image, origin: Origin, bits: int = 8, display: Display = FULL) -> None:
    """Write a picture as PNG at native pixels.

    Args:
        path: Where.
        image: float32 [H, W] or [H, W, 3], grey levels.
        origin: Stored as text in the file.
        bits: 8, or 16 (grey only): 0..65535 over the full range 0..255 of grey levels.
        display: Window, level, colours for 8 bits; the default keeps grey levels as they are.

    Raises:
        UsageError: 16 bits of a colour picture, or it cannot be written.
    """
    if bits == 16:
        image_files.save_png(Path(path), _stack(image), 1, origin.text, 16)
    else:
        image_files.write_png(Path(path), coloured(image, display), origin.text)


def _stack(image: Image) -> np.ndarray:
    """A picture as `image_files` takes it: float32 [1, C, H, W], grey levels 0 to 255."""
    planes = np.atleast_3d(image).transpose(2, 0, 1)
    return np.clip(planes, 0, 255)[None].astype(np.float32)


def coloured(image: Image, display: Display) -> np.ndarray:
    """The picture as shown: uint8 [H, W] in plain grey, else [H, W, 3]."""
    out = colormaps.apply(image, display.level, display.width, display.colormap, display.invert)
    return out[..., 0] if image.ndim == 2 and display.colormap == "grey" else out


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


def save_sweep(
    path: str | Path, images: Sequence[Image], origin: Origin, display: Display, fps: float = 12
) -> None:
    """Write pictures as an animation that runs to and fro: GIF, or MP4 where ffmpeg is installed.

    Raises:
        UsageError: Another file type, or MP4 without ffmpeg.
    """
    frames = [coloured(image, display) for image in images]
    frames += frames[-2:0:-1]
    kind = Path(path).suffix.lower()
    if kind == ".gif":
        from PIL import Image as Pil

        pictures = [Pil.fromarray(f) for f in frames]
        options = {"save_all": True, "append_images": pictures[1:], "duration": round(1000 / fps), "loop": 0}
        _write(path, lambda file: pictures[0].save(file, format="GIF", comment=origin.json, **options))
    elif kind == ".mp4":
        _write(path, lambda file: _mp4(file.name, frames, origin, fps))
    else:
        raise UsageError("not an animation", file=path, expected=".gif or .mp4")


def _mp4(path: str, frames: Sequence[np.ndarray], origin: Origin, fps: float) -> None:
    program = shutil.which("ffmpeg")
    if program is None:
        raise UsageError(
            "MP4 needs the program ffmpeg, which is not installed",
            file=path,
            hint="Install ffmpeg, or export GIF",
        )
    rgb = [np.repeat(f[..., None], 3, -1) if f.ndim == 2 else f for f in frames]
    height, width = rgb[0].shape[:2]
    words = [
        program,
        "-y",
        "-loglevel",
        "error",
        "-f",
        "rawvideo",
        "-pix_fmt",
        "rgb24",
        "-s",
        f"{width}x{height}",
        "-r",
        f"{fps}",
    ]
    words += [
        "-i",
        "-",
        "-vf",
        "pad=ceil(iw/2)*2:ceil(ih/2)*2",
        "-pix_fmt",
        "yuv420p",
        "-metadata",
        f"comment={origin.json}",
    ]
    done = subprocess.run(
        [*words, "-f", "mp4", path], input=b"".join(f.tobytes() for f in rgb), capture_output=True
    )
    if done.returncode:
        raise UsageError("ffmpeg failed", file=path, found=done.stderr.decode("utf-8", "replace")[-200:])


def save_grid(
    path: str | Path, images: Sequence[Sequence[Image | None]], grid: Grid, origin: Origin, display: Display
) -> None:
    """Write a grid of two covariates: PNG at native pixels, or a labelled PDF figure.

    Raises:
        UsageError: Another file type, or a cell that is not there yet.
    """
    cells = [[cell for cell in row if cell is not None] for row in images]
    if not images or any(len(there) < len(row) for there, row in zip(cells, images)):
        raise UsageError("the grid is not complete yet", file=path, hint="Wait for the last cell")
    mosaic = np.concatenate([np.concatenate([coloured(c, display) for c in row], 1) for row in cells], 0)
    if Path(path).suffix.lower() == ".png":
        image_files.write_png(Path(path), mosaic, origin.text)
    elif Path(path).suffix.lower() == ".pdf":
        _write(path, lambda file: _grid_figure(file, mosaic, grid, origin))
    else:
        raise UsageError("not a figure", file=path, expected=".png or .pdf")


def _grid_figure(file: BinaryIO, mosaic: np.ndarray, grid: Grid, origin: Origin) -> None:
    """Figure 1 of the paper: pictures with their values along both axes; the same input gives the same
    bytes."""
    import matplotlib
    from matplotlib.backends.backend_pdf import FigureCanvasPdf
    from matplotlib.figure import Figure

    rows, columns = grid.rows, grid.columns
    with matplotlib.rc_context({"pdf.fonttype": 42, "image.interpolation": "none", "font.size": 8}):
        figure = Figure(figsize=(1.0 + 0.9 * columns.steps, 0.8 + 0.9 * rows.steps))
        FigureCanvasPdf(figure)
        axes = figure.add_axes((0.16, 0.14, 0.82, 0.84))
        axes.imshow(
            mosaic, cmap="gray", vmin=0, vmax=255, extent=(0, columns.steps, rows.steps, 0), aspect="auto"
        )
        for axis, one, place in ((axes.xaxis, columns, axes.set_xlabel), (axes.yaxis, rows, axes.set_ylabel)):
            covariate = origin.header.study.covariate(one.name)
            axis.set_ticks(
                [i + 0.5 for i in range(one.steps)], [covariate.format(v, unit=False) for v in one.values()]
            )
            place(f"{one.name} ({covariate.unit})" if covariate.unit else one.name)
        axes.tick_params(length=0)
        for spine in axes.spines.values():
            spine.set_visible(False)
        figure.savefig(file, format="pdf", metadata={"CreationDate": None, "Subject": origin.json})


def command_of_grid(
    request: RenderRequest, grid: Grid, study: Study, snapshot: str, output: str = "grid.pdf"
) -> str:
    """The `mssg figure grid` command that draws a grid."""
    axes = Sweep(grid.rows.name, grid.rows.values()), Sweep(grid.columns.name, grid.columns.values())
    return grid_command(whole_picture(request), study, snapshot, axes, output)


def _write(path: str | Path, data: bytes | Callable[[BinaryIO], object]) -> None:
    write_atomically(Path(path), data, DataError)
