"""What lies over a picture: measures that the user drew, and outlines of what the oracle takes for what.

All of it in image pixels, (0, 0) at the first pixel's outer corner, so that the screen and an export draw the
same. No imgui, no torch.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np

from explorer_app.comparison import Part, brightness
from explorer_app.geometry import pixel_size
from explorer_app.state import Mark
from mssg.errors import DataError
from mssg.measure.instruments import instrument
from mssg.text import number

Rgb = tuple[float, float, float]
Point = tuple[float, float]  # column, row
INK: Rgb = (0.93, 0.94, 0.96)
COLOURS: tuple[Rgb, ...] = ((0.98, 0.75, 0.18), (0.35, 0.75, 1.0), (0.55, 0.9, 0.45), (1.0, 0.5, 0.75))
"""Of outlines, in the order of the oracle's regions; told apart without seeing red from green."""
_CORNERS = 72  # of an ellipse
_HELD = 8  # pictures whose regions are kept


@dataclass(frozen=True)
class Stroke:
    """A line over a picture, with a text at its last point."""

    points: tuple[Point, ...]
    closed: bool = True
    colour: Rgb = INK
    text: str = ""


@dataclass(frozen=True)
class Reading:
    """What a mark says of a picture.

    Attributes:
        length: Of a distance, in `unit`; NaN for an area.
        mean, sd: Of the grey levels in an area (of its differences, where a difference is shown); in colour,
        of
            the channels' mean. NaN for a distance, and where the area holds no pixel.
        pixels: In the area: those whose middle lies inside.
        area: In `unit` squared.
        unit: mm, ° or DD (disc diameters); px where the study does not say.
    """

    unit: str
    length: float = math.nan
    mean: float = math.nan
    sd: float = math.nan
    pixels: int = 0
    area: float = math.nan

    @property
    def text(self) -> str:
        """In words."""
        if math.isfinite(self.length):
            return f"{self.length:.1f}{'' if self.unit == '°' else ' '}{self.unit}"
        size = area_in_words(round(self.area, 1), self.unit)
        return f"{self.mean:.1f} ± {self.sd:.1f}   {size}" if self.pixels else f"no pixel   {size}"


def area_in_words(area: float, unit: str) -> str:
    """An area whose sides are measured in a unit."""
    return f"{number(area)} {'deg' if unit == '°' else unit}²"


def points_of(mark: Mark, columns: int, rows: int) -> tuple[Point, ...]:
    """The corners of a mark on an image of this size."""
    (x0, y0), (x1, y1) = ((x * columns, y * rows) for x, y in (mark.start, mark.end))
    if mark.kind == "distance":
        return (x0, y0), (x1, y1)
    if mark.kind == "rectangle":
        return (x0, y0), (x1, y0), (x1, y1), (x0, y1)
    turns = [2 * math.pi * i / _CORNERS for i in range(_CORNERS)]
    middle, half = ((x0 + x1) / 2, (y0 + y1) / 2), ((x1 - x0) / 2, (y1 - y0) / 2)
    return tuple((middle[0] + half[0] * math.cos(t), middle[1] + half[1] * math.sin(t)) for t in turns)


def read(mark: Mark, part: Part) -> Reading:
    """What a mark says of what is looked at."""
    rows, columns = part.image.shape[:2]
    pixel, unit = pixel_size(part.geometry)
    (x0, y0), (x1, y1) = ((x * columns, y * rows) for x, y in (mark.start, mark.end))
    if mark.kind == "distance":
        return Reading(unit, length=math.hypot(x1 - x0, y1 - y0) * pixel)
    across, down = np.arange(columns) + 0.5, np.arange(rows)[:, None] + 0.5
    wide, high = abs(x1 - x0), abs(y1 - y0)
    u, v = across - (x0 + x1) / 2, down - (y0 + y1) / 2
    if mark.kind == "rectangle":
        inside, area = (abs(u) < wide / 2) & (abs(v) < high / 2), wide * high
    else:
        squared = (2 * u / max(wide, 1e-9)) ** 2 + (2 * v / max(high, 1e-9)) ** 2
        inside, area = squared < 1, math.pi / 4 * wide * high
    shown = part.image
    if part.is_difference and part.other is not None:
        shown = part.image - part.other
    values = brightness(shown)[inside]
    size = area * pixel * pixel
    if not values.size:
        return Reading(unit, area=size)
    sd = float(values.std(ddof=1)) if values.size > 1 else 0.0
    return Reading(unit, mean=float(values.mean()), sd=sd, pixels=int(values.size), area=size)


@dataclass(frozen=True)
class Region:
    """What the oracle takes for something: its outlines, closed, and how many pixels it has."""

    name: str
    pixels: int
    outlines: tuple[tuple[Point, ...], ...]

    def area(self, pixel: float) -> float:
        """In the square of the unit that a pixel's length is given in."""
        return self.pixels * pixel * pixel


def masks_of(image: np.ndarray, oracle: str) -> dict[str, np.ndarray]:
    """The oracle's masks on a picture, bool [H, W]: from the levels that it measures. Nothing where it finds
    nothing, or reads no such picture.

    Args:
        image: float32 [H, W] or [H, W, 3], grey levels.
        oracle: Its name in the study.
    """
    find = getattr(instrument(oracle), "regions", None)
    if find is None:
        return {}
    try:
        levels = np.rint(np.clip(image, 0, 255)).astype(np.uint8)
        return find(levels if levels.ndim == 2 else np.moveaxis(levels, -1, 0))
    except DataError:
        return {}


def regions_of(image: np.ndarray, oracle: str) -> tuple[Region, ...]:
    """The oracle's regions on a picture; args as in `masks_of`."""
    return tuple(
        Region(name, int(mask.sum()), outlines(mask)) for name, mask in masks_of(image, oracle).items()
    )


def outlines(mask: np.ndarray) -> tuple[tuple[Point, ...], ...]:
    """The closed lines around a mask, bool [H, W], halfway between pixels inside and outside."""
    from contourpy import contour_generator

    framed = np.pad(mask.astype(np.float32), 1)  # what touches the edge is closed, too
    lines: Any = contour_generator(z=framed).lines(0.5)  # typed for every kind of line it can give
    return tuple(tuple((float(x) - 0.5, float(y) - 0.5) for x, y in line) for line in lines)


class Regions:
    """The oracle's regions on pictures, found on a thread of its own; one picture at a time."""

    def __init__(self) -> None:
        self._jobs = ThreadPoolExecutor(1, thread_name_prefix="regions")
        self._known: OrderedDict[int, tuple[np.ndarray, Future[tuple[Region, ...]]]] = OrderedDict()

    def of(self, image: np.ndarray, oracle: str) -> tuple[Region, ...] | None:
        """Those of a picture, which must not change; None until they are found."""
        held = self._known.get(id(image))
        if held is not None and held[0] is image:
            self._known.move_to_end(id(image))
            return held[1].result() if held[1].done() else None
        if not self.busy:
            self._known[id(image)] = image, self._jobs.submit(regions_of, image, oracle)
            while len(self._known) > _HELD:
                self._known.popitem(last=False)
        return None

    @property
    def busy(self) -> bool:
        """True while some are being found."""
        return any(not found.done() for _, found in self._known.values())

    def close(self) -> None:
        """Find no more."""
        self._jobs.shutdown(cancel_futures=True)


def strokes_of_marks(marks: Sequence[Mark], part: Part) -> tuple[Stroke, ...]:
    """The user's marks with what they say of a part, numbered."""
    rows, columns = part.image.shape[:2]
    return tuple(
        Stroke(points_of(mark, columns, rows), mark.kind != "distance", INK, f"{i}: {read(mark, part).text}")
        for i, mark in enumerate(marks, 1)
    )


def strokes_of_regions(regions: Sequence[Region]) -> tuple[Stroke, ...]:
    """The outlines of regions, each in its colour."""
    return tuple(
        Stroke(line, True, COLOURS[i % len(COLOURS)])
        for i, region in enumerate(regions)
        for line in region.outlines
    )
