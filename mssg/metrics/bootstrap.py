"""The bootstrap: how far a number would move if other images of the same kind had been taken.

Source: Efron & Tibshirani 1993, "An introduction to the bootstrap", chapter 13 (percentile intervals).
"""

from __future__ import annotations

import math

import numpy as np

Z95 = 1.959964
"""Standard deviations on each side of a 95 % interval."""
DRAWS = 500
"""Resamples behind an interval, unless said otherwise."""


def resampled_rows(n: int, rng: np.random.Generator, draws: int = DRAWS) -> np.ndarray:
    """Rows drawn with replacement from n: int [draws, n]."""
    return rng.integers(n, size=(draws, n))


def resampled_counts(n: int, rng: np.random.Generator) -> np.ndarray:
    """How often each of n rows is drawn with replacement: float64 [DRAWS, n], for statistics made of sums."""
    return rng.multinomial(n, np.full(n, 1 / n), size=DRAWS).astype(np.float64)


def interval(draws: np.ndarray) -> tuple[float, float]:
    """2.5 % and 97.5 % quantiles of the finite draws [D]; NaN where there are none."""
    draws = draws[np.isfinite(draws)]
    if not draws.size:
        return math.nan, math.nan
    low, high = np.quantile(draws, [0.025, 0.975])
    return float(low), float(high)


def mean_and_interval(
    x: np.ndarray, rng: np.random.Generator, draws: int = 2 * DRAWS
) -> tuple[float | None, tuple[float, float] | None, int]:
    """Mean, 95 % interval and count of the finite values of x [N]; None where there are none."""
    x = np.asarray(x, np.float64)
    x = x[np.isfinite(x)]
    if not x.size:
        return None, None, 0
    return float(x.mean()), interval(x[resampled_rows(x.size, rng, draws)].mean(axis=1)), x.size


def ratio_and_interval(
    a: np.ndarray, b: np.ndarray, rng: np.random.Generator
) -> tuple[float | None, tuple[float, float] | None]:
    """mean(a) / mean(b) and its 95 % interval over pairs [N]; None where b is not above zero."""
    if not b.sum() > 0:
        return None, None
    rows = resampled_rows(len(a), rng, 2 * DRAWS)
    return float(a.mean() / b.mean()), interval(a[rows].mean(1) / np.maximum(b[rows].mean(1), 1e-12))
