"""What a plain installation leaves out, and the command that brings it."""

from __future__ import annotations

import importlib.util

from mssg.errors import UsageError

EXTRAS = {
    # extra: {distribution: module}, as in pyproject.toml
    "explorer": {
        "copykitten": "copykitten",
        "dearpygui": "dearpygui",
        "glfw": "glfw",
        "imgui-bundle": "imgui_bundle",
        "pyopengl": "OpenGL",
    },
    "hub": {"huggingface-hub": "huggingface_hub"},
    "metrics": {"lpips": "lpips"},
    "n4": {"simpleitk": "SimpleITK"},
    "tensorboard": {"tensorboard": "tensorboard"},
    "video": {"imageio-ffmpeg": "imageio_ffmpeg"},
}
PURPOSES = {
    "explorer": "windows: mssg explore, mssg watch",
    "hub": "mssg push, mssg pull: models on a Hugging Face hub",
    "metrics": "LPIPS, a perceptual distance",
    "n4": "N4 bias correction: mssg prepare mri --n4",
    "tensorboard": "looking at a run's curves in TensorBoard",
    "video": "MP4 from the explorer and mssg figure movie",
}


def command(extra: str) -> str:
    """What to type to install an extra."""
    return f'pip install "mssg[{extra}]"'


def missing(extra: str) -> list[str]:
    """Distributions of an extra that are not installed."""
    return [name for name, module in EXTRAS[extra].items() if importlib.util.find_spec(module) is None]


def need(extra: str, what: str) -> None:
    """Check that an extra is installed.

    Args:
        what: Who needs it, for the message: "the explorer".

    Raises:
        UsageError: It is not; the message says what to type.
    """
    if absent := missing(extra):
        raise UsageError(
            f"{what} needs packages that are not installed",
            found=f"no {', no '.join(absent)}",
            hint=f"Install them: {command(extra)}",
        )
