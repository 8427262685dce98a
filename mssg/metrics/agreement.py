"""How measured values agree with requested ones, also with other covariates removed from both."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from mssg.metrics.bootstrap import Z95, interval, resampled_rows
from mssg.metrics.control_report import BINS, FEWEST, Readings
from mssg.study.covariate import Covariate
from mssg.study.model import Study

SPLINE_KNOTS = (0.2, 0.4, 0.6, 0.8)
"""Quantiles at which the cubic that is removed may change."""


def regressors(study: Study, values: np.ndarray, names: Sequence[str]) -> np.ndarray:
    """What is removed by regression: an intercept, a cubic spline of every continuous covariate, one-hot
    levels.

    A plain cubic is not enough: what it leaves of a sigmoid or tanh on both sides passes for obedience
    (partial r up to 0.18 for a generator that obeys thickness alone); four knots bring that below 0.05.

    Args:
        study: Kinds of the covariates.
        values: [N, V] native units.
        names: The covariates to remove.

    Returns:
        [N, P].
    """
    columns = [np.ones(len(values))]
    for name in names:
        covariate, x = study.covariate(name), values[:, study.index(name)]
        if covariate.is_continuous:
            t = (x - x.mean()) / (x.std() or 1.0)
            knots = np.quantile(t, SPLINE_KNOTS)
            columns += [t, t**2, t**3, *(np.maximum(t - knot, 0) ** 3 for knot in knots)]
        else:
            columns += [(x == level).astype(np.float64) for level in range(1, covariate.num_levels)]
    return np.stack(columns, axis=1)


def agreement(
    covariate: Covariate,
    requested: np.ndarray,
    measured: np.ndarray,
    *,
    x: np.ndarray,
    rng: np.random.Generator,
) -> dict[str, Any]:
    """Correlations, slope and errors of measured [N] on requested [N], with x [N, P] removed for the partial
    ones."""
    if not covariate.is_ordered:
        return {"accuracy": float(np.mean(np.rint(measured) == requested))}
    left, right = (_residual(x, y) for y in (requested, measured))
    rows = resampled_rows(len(requested), rng)
    out: dict[str, Any] = {
        "r": correlation(requested, measured),
        "r_ci95": interval(correlation(requested[rows], measured[rows])),
        "partial_r": correlation(left, right),
        "partial_r_ci95": interval(correlation(left[rows], right[rows])),
        "slope": float(left @ right / (left @ left)) if left.any() else math.nan,
        "mae": float(np.abs(measured - requested).mean()),
        "bias": float((measured - requested).mean()),
        "requested_sd": float(requested.std()),
    }
    if not covariate.is_continuous:
        read = np.clip(np.rint(measured), 0, covariate.num_levels - 1)
        out["accuracy"] = float(np.mean(read == requested))
    return out


def readings(covariate: Covariate, requested: np.ndarray, measured: np.ndarray) -> tuple[Readings, ...]:
    """What was read [N] by what was asked [N]: in quantile bins of as many images each, or by level."""
    if covariate.is_continuous:
        parts = np.array_split(
            np.argsort(requested, kind="stable"), max(1, min(BINS, len(requested) // FEWEST))
        )
    else:
        parts = [np.flatnonzero(requested == level) for level in np.unique(requested)]
    if not covariate.is_ordered:
        measured = (np.rint(measured) == requested).astype(float)
    found = []
    for rows in parts:
        y = measured[rows]
        mean, half = float(y.mean()), Z95 * float(y.std()) / math.sqrt(len(y))
        low, high = np.quantile(y, [0.05, 0.95])
        found.append(
            Readings(
                requested=float(requested[rows].mean()),
                measured=mean,
                ci95=(mean - half, mean + half),
                low=float(low),
                high=float(high),
                n=len(y),
            )
        )
    return tuple(found)


def _residual(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """y [N] without what x [N, P] explains linearly; exactly zero where nothing but rounding remains."""
    rest = y - x @ np.linalg.lstsq(x, y, rcond=None)[0]
    return rest if rest.std() > 1e-9 * np.abs(y).max() else np.zeros_like(rest)


def correlation(a: np.ndarray, b: np.ndarray) -> Any:
    """Pearson correlation of [..., N] and [..., N] along the last axis: [...]; NaN where either side does not
    vary."""
    flat = (np.ptp(a, axis=-1) <= 0) | (np.ptp(b, axis=-1) <= 0)
    a, b = a - a.mean(-1, keepdims=True), b - b.mean(-1, keepdims=True)
    norm = np.sqrt((a * a).sum(-1) * (b * b).sum(-1))
    with np.errstate(invalid="ignore", divide="ignore"):
        r = np.where(flat | (norm <= 0), math.nan, (a * b).sum(-1) / norm)
    return float(r) if r.ndim == 0 else r
