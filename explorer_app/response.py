"""A response curve: does a slider do what it says, here? What an instrument reads against what was asked. No
torch."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from explorer_app.distribution import TrainingDistribution
from explorer_app.request_edits import at_place, place, whole_picture, with_values
from mssg.rendering.request import RenderRequest


@dataclass(frozen=True)
class ResponsePoint:
    """One asked value, native units, and the pictures that are measured there."""

    asked: float
    pictures: tuple[RenderRequest, ...]


@dataclass(frozen=True, eq=False)
class ResponseCurve:
    """What was read.

    Attributes:
        asked: float64 [X], native units.
        read: float64 [X, K]; NaN for what is not there yet, or was not found.
    """

    asked: NDArray[np.float64]
    read: NDArray[np.float64]

    @property
    def mean(self) -> NDArray[np.float64]:
        """Mean reading at each asked value: [X]."""
        return np.array(
            [row[np.isfinite(row)].mean() if np.isfinite(row).any() else math.nan for row in self.read]
        )

    @property
    def half_width(self) -> NDArray[np.float64]:
        """Half of the mean's 95 % interval over seeds, Student's t: [X]; NaN with fewer than two."""
        from scipy.special import stdtrit

        out = np.full(len(self.asked), math.nan)
        for i, row in enumerate(self.read):
            known = row[np.isfinite(row)]
            if len(known) > 1:
                out[i] = stdtrit(len(known) - 1, 0.975) * known.std(ddof=1) / math.sqrt(len(known))
        return out

    @property
    def count(self) -> int:
        """Readings."""
        return int(np.isfinite(self.read).sum())

    @property
    def slope(self) -> float:
        """Of the least-squares line through all readings: 1 where the slider does what it says."""
        asked, read = self._pairs()
        spread = np.square(asked - asked.mean()).sum() if asked.size else 0.0
        return (
            float(((asked - asked.mean()) * (read - read.mean())).sum() / spread) if spread > 0 else math.nan
        )

    @property
    def error(self) -> float:
        """Mean distance of what was read from what was asked."""
        asked, read = self._pairs()
        return float(np.abs(read - asked).mean()) if asked.size else math.nan

    def _pairs(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        asked = np.broadcast_to(self.asked[:, None], self.read.shape)
        known = np.isfinite(self.read)
        return asked[known], self.read[known]


@lru_cache(4)  # in linked mode it asks the covariate models for many quantiles, and a window asks every frame
def response_points(
    request: RenderRequest, distribution: TrainingDistribution, name: str, mode: str, steps: int, seeds: int
) -> tuple[ResponsePoint, ...]:
    """The pictures of a response curve.

    Args:
        request: The picture it starts from; seeds count from its own. One drawn after an image has one
            person only.
        name: The covariate that is asked for.
        mode: "linked": the others follow as when its slider is dragged; "free": they stay.
        steps: Asked values, evenly spaced between round values near the 5 % and 95 % quantiles; of a
            discrete covariate every level.
        seeds: Pictures at each.
    """
    base = whole_picture(request)
    first = place(base)[0]
    people = [base] if base.latent else [base, *(at_place(base, first + k) for k in range(1, seeds))]
    drag = distribution.start_drag(name, base.covariates) if mode == "linked" else None
    points = []
    for asked in distribution.default_axis(name, steps).values():
        changes = distribution.follow(drag, asked) if drag else {name: asked}
        points.append(ResponsePoint(asked, tuple(with_values(person, **changes) for person in people)))
    return tuple(points)


def response_curve(points: Sequence[ResponsePoint], read: Sequence[Sequence[float | None]]) -> ResponseCurve:
    """The curve of readings; None where there is none yet."""
    table = [[math.nan if value is None else value for value in row] for row in read]
    return ResponseCurve(np.array([p.asked for p in points]), np.array(table, np.float64))
