"""What of the current picture and a pin is looked at: one, both, or their difference; and why not, where it
cannot be."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from explorer_app.state import Display
from mssg.rendering.request import RenderRequest
from mssg.study.model import Geometry

NOW = "now"
"""The label of the current picture; letters are anatomy."""


@dataclass(frozen=True, eq=False)
class Part:
    """A picture as a part of what is looked at.

    Attributes:
        request: What it was rendered from.
        image: float32 [H, W] or [H, W, 3], grey levels.
        geometry: Of its own study; None where that states none, and of a layer, which has no millimetres.
        label: Tells it from the other one; "" where it stands alone.
        other: What is subtracted from it, of the same shape.
    """

    request: RenderRequest
    image: np.ndarray
    geometry: Geometry | None = None
    label: str = ""
    other: np.ndarray | None = None


def brightness(image: np.ndarray) -> np.ndarray:
    """Grey levels float32 [H, W] of a picture; of one in colour the mean of its channels."""
    return image if image.ndim == 2 else image.mean(-1, dtype=np.float32)


def widest(part: Part) -> float:
    """The window of a difference that shows nearly all of it, symmetric around zero: grey levels."""
    assert part.other is not None
    return max(2.0, 2 * float(np.percentile(np.abs(part.image - part.other), 99.5)))


def parts(display: Display, current: Part, pinned: Part | None) -> tuple[tuple[Part, ...], str]:
    """What is looked at, and why a comparison that was asked for is not shown ("" where it is).

    Args:
        display: The comparison asked for.
        current: The picture.
        pinned: The pin; None without one, or while it is rendered. For a difference both are `brightness`.
    """
    if pinned is None or display.compare == "A":
        return (current,), ""
    first = replace(current, label=NOW)
    if display.compare == "side":
        return (first, pinned), ""
    if display.compare == "flip":
        return (pinned if display.flipped else first,), ""
    name = f"{NOW} − {pinned.label}"
    if (current.request.layer is None) != (pinned.request.layer is None):
        return (first,), f"{name}: a layer and a picture have no difference"
    if current.image.shape != pinned.image.shape:
        sizes = " and ".join(f"{i.shape[1]} × {i.shape[0]}" for i in (current.image, pinned.image))
        return (first,), f"{name}: {sizes} pixels have no difference"
    return (replace(current, label=name, other=pinned.image),), ""
