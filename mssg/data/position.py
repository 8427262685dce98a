"""Where a volume is cut: a position as text, and in millimetres."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mssg.data.plane import is_straight
from mssg.errors import DataError, UsageError
from mssg.study.model import AXES

POSITIONS_IN_WORDS = "middle, brain, brain+20mm, 90 or -18mm"
MOST_PLACES = 1000


@dataclass(frozen=True)
class Position:
    """Where to cut: the "middle" slice of the field of view, so many millimetres from the middle of the
    "brain", a slice's "index" (counted in RAS order), or at so many "mm"."""

    kind: str
    value: float = 0.0

    @staticmethod
    def parse(text: str) -> Position:
        """A position from "middle", "brain", "brain+20mm", "90" or "-18mm".

        Raises:
            UsageError: Anything else.
        """
        word = text.strip().lower()
        if word == "middle":
            return Position("middle")
        if re.fullmatch(r"\d+", word):
            return Position("index", float(word))
        if re.fullmatch(r"[+-]?\d+(\.\d*)?\s*mm", word):
            return Position("mm", float(word[:-2]))
        if match := re.fullmatch(r"brain(?:([+-]\d+(?:\.\d*)?)\s*mm)?", word):
            return Position("brain", float(match[1] or 0))
        raise UsageError(
            "cannot be read as a position", field="--at", found=repr(text), expected=POSITIONS_IN_WORDS
        )

    @staticmethod
    def parse_all(text: str) -> tuple[Position, ...]:
        """The positions of "middle", "90", "-18mm", or of a range "-105mm:75mm:3mm" (first, last, step).

        Raises:
            UsageError: Anything else, or more places than `MOST_PLACES`.
        """
        if ":" not in text:
            return (Position.parse(text),)
        parts = [Position.parse(part) for part in text.split(":")]
        first, last, step = (*(p.value for p in parts), math.nan)[:3]
        kinds = {p.kind for p in parts}
        if (
            len(parts) != 3
            or len(kinds) > 1
            or not kinds <= {"mm", "index"}
            or not (step > 0 and last > first)
        ):
            raise UsageError(
                "not a range of positions",
                field="--at",
                found=repr(text),
                expected="FIRST:LAST:STEP, as -105mm:75mm:3mm",
            )
        count = math.floor((last - first) / step + 1e-6) + 1
        if count > MOST_PLACES:
            raise UsageError("too many places", field="--at", found=count, expected=f"{MOST_PLACES} at most")
        return tuple(Position(parts[0].kind, round(first + i * step, 6)) for i in range(count))

    def __str__(self) -> str:
        brain = f"brain{self.value:+g}mm" if self.value else "brain"
        words = {"middle": "middle", "brain": brain, "mm": f"{self.value:g}mm"}
        return words.get(self.kind, f"{self.value:g}")

    def to_mm(
        self,
        shape: tuple[int, ...],
        affine: NDArray[np.float64],
        plane: str,
        brain: NDArray[np.float64] | None = None,
    ) -> float:
        """The position in this volume, in millimetres along the axis that is cut.

        Args:
            shape: [nx, ny, nz] of the volume in RAS order (`to_ras`).
            affine: [4, 4] of the same.
            plane: coronal, axial or sagittal.
            brain: Middle of the brain in millimetres (`brain_centre`), where that is asked for.

        Raises:
            DataError: The volume has no such slice.
        """
        axis = AXES[plane][0]
        if self.kind == "mm":
            return self.value
        if self.kind == "brain":
            assert brain is not None
            place, edge = brain[axis] + self.value, affine[axis, axis]
            # a straight volume's own slice, so that nothing is interpolated without need
            off = (place - affine[axis, 3]) % edge if is_straight(affine) else 0.0
            return float(place - off + (edge if off > edge / 2 else 0.0))
        voxel = (np.array(shape, np.float64) - 1) / 2
        voxel[axis] = shape[axis] // 2 if self.kind == "middle" else self.value
        if voxel[axis] >= shape[axis]:
            raise DataError(
                "no such slice", field="--at", found=f"{self.value:g}", expected=f"0 to {shape[axis] - 1}"
            )
        return float((affine @ np.append(voxel, 1))[axis])
