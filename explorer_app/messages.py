"""What the window and the render process tell each other. Plain values; no torch."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from explorer_app.real_image import RealImage
from mssg.measure.own_error import OwnError
from mssg.rendering.request import RenderRequest

PREDICTOR = "predictor"
Readings = dict[str, dict[str, float]]  # instrument -> covariate -> native value
Picture = RenderRequest | RealImage  # what can be looked at: rendered, or as it is
Slot = tuple[int, tuple[int, ...]]  # of the ring in shared memory: number and shape


@dataclass(frozen=True)
class Frame:
    """A rendered picture as it is kept.

    Attributes:
        image: float32 [H, W] or [H, W, 3] in grey levels (0 black, 255 white, overshoot kept);
            of a layer, the raw activations of one channel.
        preview: True for a quick, smaller picture that the full one is to replace.
        stored: True for the preview that the snapshot's header stores.
        measured: What each instrument reads on it; None until it was measured. The oracle goes by its name in
            the study, the learned predictor by `PREDICTOR`.
        timings_ms: Milliseconds by stage.
    """

    request: Picture
    image: np.ndarray
    preview: bool = False
    measured: Readings | None = None
    timings_ms: dict[str, float] = field(default_factory=dict)
    stored: bool = False

    def reading(self, name: str) -> float | None:
        """The native value of a covariate read off the picture, by the oracle where it can; None when nothing
        reads it."""
        return next((values[name] for values in (self.measured or {}).values() if name in values), None)


@dataclass(frozen=True)
class RequestedPictures:
    """From the window: what is wanted now, in place of all it wanted before.

    Attributes:
        number: Which request this is; the shared counter runs ahead of it once it is stale.
        main: The picture on the screen, if it is missing: it comes first and is measured.
        others: More of them, and whether each is to be measured.
        predictor: File of the learned predictor that measures beside the study's oracle; "" for none.
        along: Pictures that move with the main one: drawn right after it and, like it, to the end.
        head: Any slice of a head that is to be read as a whole, once nothing else is to be done.
    """

    number: int
    main: Picture | None
    others: tuple[tuple[Picture, bool], ...]
    predictor: str = ""
    along: tuple[RenderRequest, ...] = ()
    head: RenderRequest | None = None


@dataclass(frozen=True)
class RenderedPictures:
    """From the render process: pictures of one shape, their pixels stacked in the ring's slot.

    `main`: it was the one on the screen; `predictor`: the file of the learned predictor that measured it.
    """

    requests: tuple[Picture, ...]
    slot: Slot
    preview: bool
    measured: Readings | None
    timings_ms: dict[str, float]
    predictor: str
    main: bool


@dataclass(frozen=True)
class MeasuredPicture:
    """From the render process: what instruments read on a picture sent before."""

    request: Picture
    measured: Readings | None
    timings_ms: dict[str, float]
    predictor: str


@dataclass(frozen=True)
class HeadReading:
    """What is read off a whole head.

    `values`: covariate -> native value; `first` and `last`: of the slices it was read on, in millimetres;
    `cut`: the outermost of them still show tissue, so the head goes on behind them.
    """

    values: dict[str, float]
    first: float
    last: float
    cut: bool


@dataclass(frozen=True)
class MeasuredHead:
    """From the render process: what was read off the head that a request is a slice of."""

    request: RenderRequest
    reading: HeadReading


@dataclass(frozen=True)
class FailedSnapshot:
    """From the render process: why a snapshot cannot be rendered."""

    path: str
    reason: str


@dataclass(frozen=True)
class FailedStart:
    """From the render process: why nothing can be rendered at all."""

    reason: str


@dataclass(frozen=True)
class FailedPicture:
    """From the render process: why a picture cannot be rendered."""

    request: Picture
    reason: str


@dataclass(frozen=True)
class FoundDevices:
    """From the render process, first of all: where it can draw, the best first: the name that `--device`
    takes, and what is known of it."""

    devices: dict[str, str]


@dataclass(frozen=True)
class WorkDone:
    """From the render process: how often it ran either network since it started."""

    mappings: int
    syntheses: int


@dataclass(frozen=True)
class ShownLayer:
    """A layer of the generator: its name, output shape (C, H, W) and dtype."""

    name: str
    shape: tuple[int, ...]
    dtype: str


@dataclass(frozen=True)
class OpenedModel:
    """From the render process: what it says about a snapshot it holds.

    `names`: of all its layers; `layers`: those whose shape is known; `equivariant`: it takes a translation
    and rotation; `half`: it computes in float16 unless told otherwise.
    """

    path: str
    layers: tuple[ShownLayer, ...] = ()
    num_ws: int = 1
    equivariant: bool = False
    has_noise: bool = True
    names: tuple[str, ...] = ()
    instrument: str = ""
    half: bool = False
    device: str = "cpu"
    threads: int = 1
    load_ms: float = 0.0


@dataclass(frozen=True)
class OpenedPredictor:
    """From the render process: a learned predictor it holds: file, network, and own errors on real images."""

    path: str
    network: str = ""
    errors: tuple[OwnError, ...] = ()
    problem: str = ""


Answer = (
    RenderedPictures
    | MeasuredPicture
    | FoundDevices
    | MeasuredHead
    | FailedStart
    | FailedSnapshot
    | FailedPicture
    | WorkDone
    | OpenedModel
    | OpenedPredictor
)
