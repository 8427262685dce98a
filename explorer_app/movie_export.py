"""Writing pictures that follow each other: GIF, MP4 or numbered PNGs. No torch, no imgui."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from explorer_app.export import Origin, write_file
from mssg import extras
from mssg.errors import UsageError
from mssg.rendering import image_files


def save_sweep(path: str | Path, images: Sequence[np.ndarray], origin: Origin) -> None:
    """Write pictures, uint8 [H, W] or [H, W, 3], as an animation that runs to and fro, 12 a second: GIF, or
    MP4 where there is an ffmpeg, the system's or that of the extra `video`.

    Raises:
        UsageError: Another file type, or MP4 without ffmpeg.
    """
    _animation(path, [*images, *images[-2:0:-1]], origin, 12)


def movie_files(path: str | Path, count: int) -> list[Path]:
    """The files of a movie: of .png one for each picture, numbered from 1.

    Raises:
        UsageError: Another file type, MP4 without ffmpeg, or a numbered file that is there already.
    """
    path = Path(path)
    if path.suffix.lower() == ".mp4":
        _ffmpeg()
    if path.suffix.lower() in (".gif", ".mp4"):
        return [path]
    if path.suffix.lower() != ".png":
        raise UsageError("not a movie", file=path, expected=".mp4, .gif, or .png for numbered pictures")
    files = [path.with_name(f"{path.stem}-{i:04d}.png") for i in range(1, count + 1)]
    if there := next((file for file in files if file.exists()), None):
        raise UsageError("the picture is there already", file=there, hint="Give another name")
    return files


def save_movie(path: str | Path, pictures: Sequence[np.ndarray], origin: Origin, fps: float) -> str:
    """Write a movie: GIF, MP4 where there is an ffmpeg, or PNGs numbered from 1; returns what was written.

    Args:
        pictures: uint8 [H, W] or [H, W, 3], all alike.
        fps: Pictures a second.

    Raises:
        UsageError: As `movie_files` and `save_sweep`.
    """
    files = movie_files(path, len(pictures))
    if files == [Path(path)]:
        _animation(path, pictures, origin, fps)
        return str(path)
    for file, pixels in zip(files, pictures):
        image_files.write_png(file, pixels, origin.text)
    return f"{files[0]} to {files[-1].name}"


def _animation(path: str | Path, frames: Sequence[np.ndarray], origin: Origin, fps: float) -> None:
    kind = Path(path).suffix.lower()
    if kind == ".gif":
        from PIL import Image as Pil

        pictures = [Pil.fromarray(f) for f in frames]
        options = {"save_all": True, "append_images": pictures[1:], "duration": round(1000 / fps), "loop": 0}
        write_file(path, lambda file: pictures[0].save(file, format="GIF", comment=origin.json, **options))
    elif kind == ".mp4":
        write_file(path, lambda file: _mp4(file.name, frames, origin, fps))
    else:
        raise UsageError("not an animation", file=path, expected=".gif or .mp4")


def _ffmpeg() -> str:
    """The program ffmpeg: the system's, else the one that a package brings.

    Raises:
        UsageError: There is neither.
    """
    if program := shutil.which("ffmpeg"):
        return program
    extras.need("video", "MP4 without an ffmpeg of the system's")
    import imageio_ffmpeg  # type: ignore[import-not-found]

    return imageio_ffmpeg.get_ffmpeg_exe()


def _mp4(path: str, frames: Sequence[np.ndarray], origin: Origin, fps: float) -> None:
    program = _ffmpeg()
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
