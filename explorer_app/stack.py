"""A head as a stack of slices: which of them are drawn first, which head can be shown, and the planes across
them. No imgui, no OpenGL, no torch."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np

from explorer_app.messages import Frame
from explorer_app.request_edits import whole_picture, with_values
from mssg.rendering.request import RenderRequest
from mssg.study.model import AXES, Geometry

COARSE = 8
"""Of so many slices one is drawn first."""
STILL_S = 0.15
"""A head that has not changed for so long is no longer on its way to another."""
REMEMBERED = 64
Places = tuple[float, ...]


def head_of(request: RenderRequest, position: str, places: Places) -> RenderRequest:
    """What all slices of a head share: its first slice."""
    return with_values(whole_picture(request), **{position: places[0]})


@lru_cache(32)
def slices_of(head: RenderRequest, position: str, places: Places) -> tuple[RenderRequest, ...]:
    """The slices of a head, one for each place."""
    return tuple(with_values(head, **{position: place}) for place in places)


@lru_cache(8)
def coarse(count: int) -> tuple[int, ...]:
    """The slices of a stack that are drawn first: every eighth, and the last."""
    return tuple(sorted({*range(0, count, COARSE), count - 1}))


@lru_cache(8)
def refined(count: int) -> tuple[int, ...]:
    """All slices of a stack in the order they are drawn: every eighth, then those between, ever finer."""
    found = list(coarse(count))
    step = COARSE // 2
    while step:
        found += [i for i in range(0, count, step) if i not in found]
        step //= 2
    return tuple(found)


@dataclass(frozen=True)
class Stack:
    """What is there of a head: ascending places in millimetres, and the slice at each as it was rendered."""

    head: RenderRequest
    places: Places
    images: tuple[np.ndarray, ...]


class StackMemory:
    """Which head is on the screen: the one asked for, or while a drag is ahead of it the latest of those
    asked for before whose coarse slices are all there."""

    def __init__(self) -> None:
        self._asked: deque[RenderRequest] = deque(maxlen=REMEMBERED)
        self._changed = 0.0
        self.last: Stack | None = None

    @property
    def is_still(self) -> bool:
        """Whether the same head has been asked for, for a while."""
        return time.perf_counter() - self._changed > STILL_S

    def shown(
        self,
        head: RenderRequest,
        position: str,
        places: Places,
        frame: Callable[[RenderRequest], Frame | None],
    ) -> Stack | None:
        """The stack to show; None before there is any.

        Args:
            position: The covariate of the place.
            places: Of all its slices.
            frame: The frame of a slice, if it is there.
        """
        if not self._asked or self._asked[-1] != head:
            self._changed = time.perf_counter()
            self._asked.append(head)
        for candidate in reversed(self._asked):
            found = stack_of(candidate, position, places, frame)
            if found is not None:
                while self._asked[0] != candidate:
                    self._asked.popleft()
                self.last = found
                break
        if self.last is not None and self.last.head.snapshot != head.snapshot:
            self.last = None
        return self.last


def stack_of(
    head: RenderRequest, position: str, places: Places, frame: Callable[[RenderRequest], Frame | None]
) -> Stack | None:
    """What is there of a head; None before its coarse slices are."""
    slices = slices_of(head, position, places)
    if any(frame(slices[i]) is None for i in coarse(len(places))):
        return None
    there = [(place, f.image) for place, s in zip(places, slices) if (f := frame(s)) is not None]
    return Stack(head, *zip(*there))


def spread(places: Places, geometry: Geometry) -> np.ndarray:
    """The middles of square pixels along the stack, of all its places: ascending millimetres."""
    first, last = places[0], places[-1]
    step = (last - first) / max(1, len(places) - 1)
    count = max(1, round((last - first + step) / geometry.pixel_mm))
    return (first + last) / 2 + (np.arange(count) - (count - 1) / 2) * geometry.pixel_mm


def across(stack: Stack, pixels: np.ndarray, geometry: Geometry, plane: str, at_mm: float) -> np.ndarray:
    """A plane across the slices, with square pixels: float32 [H, W], row 0 superior (axial: anterior), column
    0 left (sagittal: posterior). Between slices it is interpolated linearly.

    Args:
        stack: Slices [H, W] or [H, W, 3] of a study.
        pixels: As `spread` gives them.
        plane: Another plane than the study's.
        at_mm: Where it cuts, in millimetres along its own axis.
    """
    normal, side, up = AXES[geometry.plane]
    rows, columns = stack.images[0].shape[:2]
    if AXES[plane][0] == side:
        off = (at_mm - geometry.centre_mm[0]) / geometry.pixel_mm
        column = _within(columns / 2 + (-off if geometry.mirrored else off), columns)
        lines, other = [_grey(image[::-1, column]) for image in stack.images], up
    else:
        row = _within(rows / 2 - (at_mm - geometry.centre_mm[1]) / geometry.pixel_mm, rows)
        turn = -1 if geometry.mirrored else 1
        lines, other = [_grey(image[row, ::turn]) for image in stack.images], side
    between = _weights(np.asarray(stack.places), pixels)
    plane_rows = (between @ np.stack(lines)).astype(np.float32)
    upright = plane_rows.T[::-1] if (normal, other) == AXES[plane][1:] else plane_rows[::-1]
    return np.ascontiguousarray(upright)


def _grey(line: np.ndarray) -> np.ndarray:
    return line if line.ndim == 1 else line.mean(-1)


def _within(place: float, count: int) -> int:
    """The pixel that a place lies in, the nearest where it lies outside."""
    return min(max(int(np.floor(place)), 0), count - 1)


def _weights(known: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Of linear interpolation, [wanted, known]; beyond the ends the last one stands."""
    return np.stack([np.interp(wanted, known, unit) for unit in np.eye(len(known))], 1)


def geometry_across(pixels: np.ndarray, geometry: Geometry, plane: str) -> Geometry:
    """What `across` shows lies here: as the study's geometry, of the other plane."""
    normal, side, up = AXES[geometry.plane]
    middle = {
        normal: float(pixels[0] + pixels[-1]) / 2,
        side: geometry.centre_mm[0],
        up: geometry.centre_mm[1],
    }
    centre = middle[AXES[plane][1]], middle[AXES[plane][2]]
    return replace(geometry, plane=plane, centre_mm=centre, position=None, position_mm=None, mirrored=False)
