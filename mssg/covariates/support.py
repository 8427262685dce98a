"""How common a combination of covariates is: the percentile of its log-density among training rows."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

if TYPE_CHECKING:
    from mssg.covariates.system import CovariateModels

REFERENCE_ROWS = 1000
"""Rows drawn from the models that a combination of some of the covariates is compared with."""
_SEED = 0


def percentile_among(density: NDArray[np.float64], percentiles: ArrayLike) -> NDArray[np.float64]:
    """Where log-densities [N] stand among percentiles 0 … 100 of others: 0 … 100; 0 below all of them."""
    points = np.asarray(percentiles, np.float64)
    share = np.interp(density, points, np.linspace(0, 100, points.size))
    share[~(density >= points[0])] = 0.0  # also minus infinity: impossible under the models
    return share


def support(
    models: CovariateModels, values: NDArray[np.float64], percentiles: ArrayLike
) -> NDArray[np.float64]:
    """Support percentiles of rows that all miss the same conditions.

    A slice's position is left out. Whole rows are compared with the training rows. Where conditions are
    missing, they are integrated out, and the rest is compared with the same conditions of rows drawn from the
    models.

    Args:
        values: float64 [N, V] native units, NaN where missing.
        percentiles: Percentiles 0 … 100 of the training rows' log-density.

    Returns:
        float64 [N], 0 … 100.
    """
    values = models.without_place(values)
    missing = np.isnan(values[0])
    if any(missing[j] for j, name in enumerate(models.names) if name != models.study.position):
        drawn = models.sample(REFERENCE_ROWS, None, np.random.default_rng(_SEED))
        rows = np.stack([drawn[name] for name in models.names], axis=1)
        rows[:, missing] = np.nan
        percentiles = np.percentile(models.log_density(rows), np.arange(101))
    return percentile_among(models.log_density(values), percentiles)
