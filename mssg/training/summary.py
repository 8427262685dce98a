"""The training summary a snapshot carries: histograms, quantiles and log-density percentiles; never rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from mssg.study.covariate import Covariate
from mssg.study.model import Study

QUANTILES = (0.0, 0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 1.0)
BINS = 32
MIN_COUNT_FOR_EXTREMES = 20  # with fewer rows, extremes would be single people's values
MOST_ROWS = 20000  # for the log-density


def describe(covariate: Covariate, values: np.ndarray) -> dict[str, Any]:
    """Histogram and quantiles of native values [n] (NaN ignored)."""
    values = values[np.isfinite(values)]
    if not covariate.is_continuous:
        counts = np.bincount(values.astype(int), minlength=covariate.num_levels)
        levels = list(covariate.levels) or [str(i) for i in range(covariate.num_levels)]
        return {"histogram": {"levels": levels, "counts": counts.tolist()}}
    if not values.size:
        return {"histogram": {"edges": [], "counts": []}, "quantiles": {"q": [], "values": []}}
    counts, edges = np.histogram(values, BINS)
    quantiles = [q for q in QUANTILES if values.size >= MIN_COUNT_FOR_EXTREMES or 0 < q < 1]
    return {
        "histogram": {"edges": edges.tolist(), "counts": counts.tolist()},
        "quantiles": {"q": quantiles, "values": np.quantile(values, quantiles).tolist()},
    }


def summarise(
    study: Study, tables: Sequence[np.ndarray], models: Any, rng: np.random.Generator, draws: int = 4
) -> dict[str, Any]:
    """The training summary.

    Args:
        study: With fitted statistics.
        tables: Per source, native values of its training rows [n, V], NaN where not observed.
        rng: For the completions behind the log-density percentiles.
        draws: Completions of each incomplete row.

    Returns:
        JSON-ready; `log_density.percentiles` are percentiles 0 … 100 of the encoded condition's log-density.
    """
    sources = {}
    for source, values in zip(study.sources, tables):
        covariates = {
            c.name: describe(c, values[:, v])
            for v, c in enumerate(study.covariates)
            if c.name in source.observes
        }
        sources[source.name] = {"n": len(values), "covariates": covariates}
    pooled = np.concatenate(tables)
    everything = {c.name: describe(c, pooled[:, v]) for v, c in enumerate(study.covariates)}
    rows = pooled[rng.permutation(len(pooled))[: MOST_ROWS // draws]]
    density = np.concatenate(
        [models.log_density(models.without_place(models.complete(rows, rng))) for _ in range(draws)]
    )
    density = density[np.isfinite(density)]
    percentiles = np.percentile(density, np.arange(101)).tolist() if density.size else []
    places = {"position": _places(study, pooled)} if study.position else {}
    return {
        **places,
        "sources": sources,
        "covariates": everything,
        "log_density": {"percentiles": percentiles, "draws": draws},
    }


def _places(study: Study, values: np.ndarray) -> dict[str, float]:
    """Where slices lie, in millimetres: from, to, and the usual step; of places that are all different, a
    pixel."""
    assert study.position and study.geometry
    column = values[:, study.index(study.position)]
    places = np.unique(np.round(column[np.isfinite(column)], 3))
    step = float(np.median(np.diff(places)))
    if step < study.geometry.pixel_mm / 2:
        step = study.geometry.pixel_mm
    return {"low": float(places[0]), "high": float(places[-1]), "step": step}
