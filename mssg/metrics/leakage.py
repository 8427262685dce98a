"""Off-target leakage: one covariate is moved, the latent and all others stay; how does every reading move?

An entry is the shift of a reading in standard deviations (of the real images' transformed values), for one
standard deviation of the covariate that is moved: 1 on the diagonal and 0 elsewhere would be perfect control.
Moving one covariate alone leaves the data's support where covariates depend on each other, and an oracle may
itself confuse them: read it beside the instrument's own error. Source: docs/method/method.md section 7.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from mssg.metrics.bootstrap import DRAWS, mean_and_interval
from mssg.study.covariate import Covariate
from mssg.study.model import Study

STEP = 1.0
"""Standard deviations moved to each side."""


@dataclass(frozen=True)
class Shift:
    """How far one reading moves.

    Attributes:
        moved, measured: The covariate that was moved, and the one that was read.
        value: Mean shift in sd of `measured`, for one sd of `moved` (binary: for the change from 0 to 1;
            categorical `moved`: mean absolute shift over a change of level). For a `measured` with levels:
            share of images whose reading changes over the whole move.
        ci95: Bootstrap interval over images.
        n: Images read on both sides.
    """

    moved: str
    measured: str
    value: float
    ci95: tuple[float, float]
    n: int


def movable(study: Study) -> tuple[Covariate, ...]:
    """What is moved: every covariate but the source."""
    return study.personal


def ends(
    covariate: Covariate, values: np.ndarray, column: int, *, sd: float, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Requests [N, V] before and after one covariate is moved: ±1 sd of the transformed value, the first
    and the last level, or another level."""
    low, high = values.copy(), values.copy()
    if covariate.is_continuous:
        t = covariate.forward(values[:, column])
        low[:, column], high[:, column] = covariate.inverse(t - STEP * sd), covariate.inverse(t + STEP * sd)
    elif covariate.is_ordered:
        low[:, column], high[:, column] = 0.0, covariate.num_levels - 1.0
    else:
        levels = covariate.num_levels
        high[:, column] = (values[:, column] + rng.integers(1, levels, size=len(values))) % levels
    return low, high


def spread(covariate: Covariate, values: np.ndarray) -> float:
    """Standard deviation of a covariate's transformed values [N], NaN ignored; 1 for covariates with
    levels."""
    return float(np.nanstd(covariate.forward(values))) if covariate.is_continuous else 1.0


def shift(
    moved: Covariate,
    measured: Covariate,
    low: np.ndarray,
    high: np.ndarray,
    *,
    sd: float,
    rng: np.random.Generator,
) -> Shift:
    """Compare readings before [N] and after [N] a move.

    Args:
        moved, measured: See `Shift`.
        low, high: Native readings of `measured`, NaN where nothing was read.
        sd: Of `measured`, as `spread` gives it.
    """
    if measured.is_continuous:
        steps = 2 * STEP if moved.is_continuous else 1.0
        change = (measured.forward(high) - measured.forward(low)) / (steps * sd or math.nan)
        change = np.abs(change) if not moved.is_ordered else change
    else:
        change = np.where(np.isfinite(low) & np.isfinite(high), np.rint(low) != np.rint(high), math.nan)
    value, ci95, n = mean_and_interval(change, rng, DRAWS)
    if value is None or ci95 is None:
        return Shift(moved.name, measured.name, value=math.nan, ci95=(math.nan, math.nan), n=0)
    return Shift(moved.name, measured.name, value=value, ci95=ci95, n=n)
