"""Writing what is on the screen: pictures, grids, sweeps and volumes, each with its provenance. No torch, no
imgui."""

from __future__ import annotations

import json
import shlex
import shutil
import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from explorer_app import colormaps
from explorer_app.picture import Picture
from explorer_app.state import AppState, Axis, Display, Grid
from mssg.checkpoint.header import Header
from mssg.errors import DataError, UsageError
from mssg.files import write_atomically
from mssg.study.model import Study

Image = np.ndarray
FULL = Display()


def provenance(header: Header, picture: Picture) -> dict[str, Any]:
    """What is needed to draw a picture again: snapshot hash, covariates in native units, latent, versions."""
    latent = picture.latent
    return {
        "snapshot": header.path.name,
        "snapshot_id": header.snapshot_id,
        "study": header.study.name,
        "kimg": header.progress.get("kimg"),
        "covariates": {n: header.study.covariate(n).format(v) for n, v in picture.values},
        "values": dict(picture.values),
        "seed": latent.seed,
        "latent_offset": [latent.x, latent.y],
        "psi": latent.psi,
        "cutoff": latent.cutoff,
        "noise": [latent.noise_mode, latent.noise_seed],
        "style_mixing": (
            {"seed": latent.mix_seed, "layers": list(latent.mix_layers)} if latent.mix_layers else None
        ),
        "layer": picture.probe.layer or None,
        "versions": dict(header.provenance).get("versions"),
    }


def save_png(
    path: str | Path, image: Image, about: Mapping[str, Any], bits: int = 8, display: Display = FULL
) -> None:
    """Write a picture as PNG at native pixels.

    Args:
        path: Where.
        image: float32 [H, W] or [H, W, 3], grey levels.
        about: Provenance, stored as text in the file.
        bits: 8, or 16 (grey only): 0..65535 over the full range 0..255 of grey levels.
        display: Window, level, colours for 8 bits; the default keeps grey levels as they are.

    Raises:
        UsageError: 16 bits of a colour picture.
    """
    from PIL import Image as Pil

    if bits == 16:
        if image.ndim == 3:
            raise UsageError("a 16-bit PNG holds one channel", found="a colour picture", hint="Export 8 bits")
        picture = Pil.fromarray(np.rint(np.clip(image, 0, 255) * 257).astype(np.uint16))
    else:
        picture = Pil.fromarray(coloured(image, display))
    _write(path, lambda file: picture.save(file, format="PNG", pnginfo=_text(about)))


def save_window(path: str | Path, pixels: np.ndarray, about: Mapping[str, Any]) -> None:
    """Write a photograph of the window, uint8 [H, W, 3], as PNG."""
    from PIL import Image as Pil

    _write(path, lambda file: Pil.fromarray(pixels).save(file, format="PNG", pnginfo=_text(about)))


def _text(about: Mapping[str, Any]) -> Any:
    """Provenance as text of a PNG."""
    from PIL.PngImagePlugin import PngInfo

    info = PngInfo()
    info.add_itxt("mssg", json.dumps(about))
    return info


def coloured(image: Image, display: Display) -> np.ndarray:
    """The picture as shown: uint8 [H, W] in plain grey, else [H, W, 3]."""
    out = colormaps.apply(image, display.level, display.width, display.colormap, display.invert)
    return out[..., 0] if image.ndim == 2 and display.colormap == "grey" else out


def save_nifti(path: str | Path, image: Image, study: Study, about: Mapping[str, Any]) -> None:
    """Write a picture as a one-slice NIfTI volume with the study's geometry.

    Array axes are (right, anterior, superior); columns of a stored picture run from patient left (FORMATS).

    Raises:
        DataError: The study states no geometry.
    """
    geometry = study.geometry
    if geometry is None:
        raise DataError(
            "the study states no geometry, so there are no millimetres to write",
            field="geometry",
            hint="Export PNG",
        )
    from nibabel.nifti1 import Nifti1Extension

    from mssg.data.nifti import to_bytes
    from mssg.data.plane import PlaneGrid, to_image

    plane = np.asarray(image if image.ndim == 2 else image.mean(-1), np.float32)
    nifti = to_image(plane, PlaneGrid.of_study(geometry, len(plane)))
    nifti.header["descrip"] = json.dumps({k: about.get(k) for k in ("snapshot_id", "seed")}).encode()[:79]
    nifti.header.extensions.append(Nifti1Extension("comment", json.dumps(about).encode()))
    _write(path, to_bytes(nifti, path))


def save_sweep(
    path: str | Path, images: Sequence[Image], about: Mapping[str, Any], display: Display, fps: float = 12
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
        _write(path, lambda file: pictures[0].save(file, format="GIF", comment=json.dumps(about), **options))
    elif kind == ".mp4":
        _write(path, lambda file: _mp4(file.name, frames, about, fps))
    else:
        raise UsageError("not an animation", file=path, expected=".gif or .mp4")


def _mp4(path: str, frames: Sequence[np.ndarray], about: Mapping[str, Any], fps: float) -> None:
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
        f"comment={json.dumps(about)}",
    ]
    done = subprocess.run(
        [*words, "-f", "mp4", path], input=b"".join(f.tobytes() for f in rgb), capture_output=True
    )
    if done.returncode:
        raise UsageError("ffmpeg failed", file=path, found=done.stderr.decode("utf-8", "replace")[-200:])


def save_grid(
    path: str | Path,
    images: Sequence[Sequence[Image | None]],
    grid: Grid,
    study: Study,
    about: Mapping[str, Any],
    display: Display,
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
        from PIL import Image as Pil

        _write(path, lambda file: Pil.fromarray(mosaic).save(file, format="PNG", pnginfo=_text(about)))
    elif Path(path).suffix.lower() == ".pdf":
        _write(path, lambda file: _grid_figure(file, mosaic, grid, study, about))
    else:
        raise UsageError("not a figure", file=path, expected=".png or .pdf")


def _grid_figure(
    file: BinaryIO, mosaic: np.ndarray, grid: Grid, study: Study, about: Mapping[str, Any]
) -> None:
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
            covariate = study.covariate(one.name)
            axis.set_ticks(
                [i + 0.5 for i in range(one.steps)], [covariate.format(v, unit=False) for v in one.values()]
            )
            place(f"{one.name} ({covariate.unit})" if covariate.unit else one.name)
        axes.tick_params(length=0)
        for spine in axes.spines.values():
            spine.set_visible(False)
        figure.savefig(file, format="pdf", metadata={"CreationDate": None, "Subject": json.dumps(about)})


def grid_command(state: AppState, study: Study, output: str = "grid.pdf") -> str:
    """The `mssg figure grid` command that draws the state's grid."""

    def axis(one: Axis) -> str:
        return f"{one.name}={one.low:.6g}:{one.high:.6g}:{one.steps}"

    taken = {state.grid.rows.name, state.grid.columns.name}
    words = [
        "mssg",
        "figure",
        "grid",
        state.snapshot,
        "--rows",
        axis(state.grid.rows),
        "--cols",
        axis(state.grid.columns),
    ]
    for name, value in state.values:
        if name not in taken:
            words += ["--fix", f"{name}={_native(study, name, value)}"]
    words += ["--seed", str(state.latent.seed)]
    words += ["--psi", f"{state.latent.psi:g}"] if state.latent.psi != 1 else []
    return shlex.join([*words, "-o", output])


def picture_command(state: AppState, study: Study, output: str = "image.png") -> str:
    """The `mssg generate` command that draws the state's picture."""
    words = ["mssg", "generate", state.snapshot, "--seed", str(state.latent.seed)]
    for name, value in state.values:
        words += ["--fix", f"{name}={_native(study, name, value)}"]
    words += ["--psi", f"{state.latent.psi:g}"] if state.latent.psi != 1 else []
    return shlex.join([*words, "-o", output])


def _native(study: Study, name: str, value: float) -> str:
    covariate = study.covariate(name)
    return covariate.levels[round(value)] if covariate.kind == "categorical" else f"{value:.6g}"


def _write(path: str | Path, data: bytes | Callable[[BinaryIO], object]) -> None:
    write_atomically(Path(path), data, DataError)
