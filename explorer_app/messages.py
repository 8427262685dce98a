"""What the render process and the window tell each other. Plain values; no torch."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from explorer_app.picture import Picture

PREDICTOR = "predictor"


@dataclass(frozen=True)
class Frame:
    """A rendered picture as it is kept.

    Attributes:
        picture: What was asked for.
        image: float32 [H, W] or [H, W, 3] in grey levels (0 black, 255 white, overshoot kept).
        preview: True for a quick, smaller picture that the full one is to replace.
        measured: What each instrument reads on it: instrument -> covariate -> native value; None until it was
            measured. The oracle goes by its name in the study, the learned predictor by `PREDICTOR`.
        statistics: Of a layer's raw activations, or of the image: mean, sd, min, max.
        timings_ms: Milliseconds by stage.
    """

    picture: Picture
    image: np.ndarray
    preview: bool = False
    measured: dict[str, dict[str, float]] | None = None
    statistics: dict[str, float] = field(default_factory=dict)
    timings_ms: dict[str, float] = field(default_factory=dict)

    def reading(self, name: str) -> float | None:
        """The native value of a covariate read off the picture, by the oracle where it can; None when nothing
        reads it."""
        return next((values[name] for values in (self.measured or {}).values() if name in values), None)


@dataclass(frozen=True)
class Layer:
    """A layer of the generator: its name, output shape (C, H, W) and dtype."""

    name: str
    shape: tuple[int, ...]
    dtype: str


@dataclass(frozen=True)
class Model:
    """What the render process says about a snapshot it holds.

    `equivariant`: it takes a translation and rotation; `half`: it computes in float16 unless told otherwise.
    """

    path: str
    layers: tuple[Layer, ...] = ()
    num_ws: int = 1
    equivariant: bool = False
    has_noise: bool = True
    instrument: str = ""
    half: bool = False
    device: str = "cpu"
    threads: int = 1
    load_ms: float = 0.0


@dataclass(frozen=True)
class Instrument:
    """A learned predictor that the render process holds: its file, network, and own error on real images by
    covariate.

    `errors` are mean absolute errors in native units, for discrete covariates the share read rightly.
    """

    path: str
    network: str = ""
    errors: tuple[tuple[str, float], ...] = ()
    problem: str = ""
