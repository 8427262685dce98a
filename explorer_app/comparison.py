"""What of the current picture and a pin is looked at: one, both, or both in one; and why not, where it
cannot be."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from explorer_app.geometry import Stated
from explorer_app.messages import Picture
from explorer_app.state import Display

NOW = "now"
"""The label of the current picture; letters are anatomy."""
SPREAD_COLOURS = "magma"


@dataclass(frozen=True, eq=False)
class Part:
    """A picture as a part of what is looked at.

    Attributes:
        request: What it was rendered from, or the real picture itself.
        image: float32 [H, W] or [H, W, 3], grey levels.
        geometry: What its own study states of its pixels' places; None of a layer.
        label: Tells it from the other one; "" where it stands alone.
        joined: How the other picture is shown in its place: "difference", "blend" or "swipe"; "" where it is
            not.
        other: The picture it is compared with, of the same shape. Without `joined` it is only read out.
        names: Of both pictures where there is another one, the current one first.
        is_second: True where `image` is the pin's.
        spread: Of a map of deviations, the grey levels it is shown up to; 0 for a picture.
    """

    request: Picture
    image: np.ndarray
    geometry: Stated = None
    label: str = ""
    joined: str = ""
    other: np.ndarray | None = None
    names: tuple[str, str] = ("", "")
    is_second: bool = False
    spread: float = 0.0

    def look(self, display: Display) -> Display:
        """How it is shown: as chosen; a map of deviations in colours of its own, from 0 on."""
        if not self.spread:
            return display
        return replace(
            display, level=self.spread / 2, width=self.spread, colormap=SPREAD_COLOURS, invert=False
        )

    @property
    def written_label(self) -> str:
        """The label as files state it: without the name of the user's file, which may name a person."""
        return self.label.partition(": ")[0]

    @property
    def is_difference(self) -> bool:
        """True where the signed difference is shown."""
        return self.joined == "difference"


def brightness(image: np.ndarray) -> np.ndarray:
    """Grey levels float32 [H, W] of a picture; of one in colour the mean of its channels."""
    return image if image.ndim == 2 else image.mean(-1, dtype=np.float32)


def widest(part: Part) -> float:
    """The window of a difference that shows nearly all of it, symmetric around zero: grey levels."""
    assert part.other is not None
    return max(2.0, 2 * float(np.percentile(np.abs(part.image - part.other), 99.5)))


def levels_at(part: Part, column: int, row: int) -> str:
    """The grey levels of a pixel in words: of the picture; where there is another, of both and their
    difference."""

    def words(value: np.ndarray, sign: str = "") -> str:
        return " ".join(f"{float(v):{sign}.1f}" for v in np.atleast_1d(value))

    here = part.image[row, column]
    if part.other is None:
        return words(here)
    there = part.other[row, column]
    first, second = (there, here) if part.is_second else (here, there)
    a, b = part.names
    return f"{a} {words(first)}   {b} {words(second)}   {a} − {b} {words(first - second, '+')}"


def parts(display: Display, current: Part, pinned: Part | None) -> tuple[tuple[Part, ...], str]:
    """What is looked at, and why a comparison that was asked for is not shown ("" where it is).

    Args:
        pinned: The pin; None without one, or while it is rendered. For a difference both are `brightness`.
    """
    if pinned is None or display.compare == "A":
        return (current,), ""
    now = current.label or NOW
    names, problem = (now, pinned.label.split(",")[0]), _unlike(current, pinned)
    first = replace(current, label=now)
    if not problem:
        second = replace(pinned, other=current.image, names=names, is_second=True)
        pair = replace(first, other=pinned.image, names=names), second
    else:
        pair = first, pinned
    if display.compare == "side":
        return pair, ""
    if display.compare == "flip":
        return (pair[1 if display.flipped else 0],), ""
    label = f"{now} − {pinned.label}" if display.compare == "difference" else f"{now} and {pinned.label}"
    if problem:
        return (first,), f"{label}: {problem} {_CANNOT[display.compare]}"
    return (replace(pair[0], label=label, joined=display.compare),), ""


_CANNOT = {"difference": "have no difference", "blend": "cannot be blended", "swipe": "share no pixels"}


def _unlike(current: Part, pinned: Part) -> str:
    """What keeps two pictures from being one; "" where they lie on the same pixels."""
    if (current.request.layer is None) != (pinned.request.layer is None):
        return "a layer and a picture"
    if current.image.shape[:2] != pinned.image.shape[:2]:
        return " and ".join(f"{i.shape[1]} × {i.shape[0]}" for i in (current.image, pinned.image)) + " pixels"
    return "" if current.image.ndim == pinned.image.ndim else "a picture in grey and one in colour"
