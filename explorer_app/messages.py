"""What the render process and the window tell each other. Plain values; no torch."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from explorer_app.picture import Picture


@dataclass(frozen=True)
class Frame:
    """A rendered picture as it is kept.

    Attributes:
        picture: What was asked for.
        image: float32 [H, W] or [H, W, 3] in grey levels (0 black, 255 white, overshoot kept).
        preview: True for a quick, smaller picture that the full one is to replace.
        measured: What the study's instrument reads on it, native units.
        statistics: Of a layer's raw activations, or of the image: mean, sd, min, max.
        timings_ms: Milliseconds by stage.
    """

    picture: Picture
    image: np.ndarray
    preview: bool = False
    measured: dict[str, float] = field(default_factory=dict)
    statistics: dict[str, float] = field(default_factory=dict)
    timings_ms: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Layer:
    """A layer of the generator: its name, output shape (C, H, W) and dtype."""

    name: str
    shape: tuple[int, ...]
    dtype: str


@dataclass(frozen=True)
class Model:
    """What the render process says about a snapshot it holds."""

    path: str
    layers: tuple[Layer, ...] = ()
    num_ws: int = 1
    equivariant: bool = False
    has_noise: bool = True
    instrument: str = ""
    device: str = "cpu"
    threads: int = 1
    load_ms: float = 0.0
