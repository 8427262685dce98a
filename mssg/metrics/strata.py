"""The strata prediction score: within cells of similar people, does a generated image show what was asked?

Real images are divided into strata: quantile bins of every continuous covariate, levels of the others. In
each stratum, images are generated with the covariates of its real images, an instrument reads them, and the
readings are compared with the reading of the real image and with the value asked for. Means over strata are
weighted by their real images.
Source: Lai et al. 2024, strata prediction score (docs/method/method.md section 7).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from mssg.errors import UsageError
from mssg.metrics.bootstrap import DRAWS, interval, resampled_counts
from mssg.study.covariate import Covariate
from mssg.study.model import Study

BINS = 3
MIN_COUNT = 5
"""Real images below which a stratum is left out."""
PER_STRATUM = 500
"""Images generated for each stratum; 10,000 in the paper."""
MOST_STRATA = 200
CONTINUOUS_STATS = ("mse", "mae", "pearson")
DISCRETE_STATS = ("accuracy", "balanced_accuracy", "f1")
BINARY_STATS = (*DISCRETE_STATS, "precision", "recall", "pearson")


@dataclass(frozen=True)
class Stratum:
    """One cell.

    Attributes:
        limits: Covariate name -> [low, high] in native units (the lowest bin includes low, every bin its
            high, but for half-open bins), or the level as text.
        cell: Position along each covariate, such as (0, 2).
        rows: The real images in it, positions in what was stratified.
    """

    limits: Mapping[str, Any]
    cell: tuple[int, ...]
    rows: np.ndarray = field(repr=False)


@dataclass(frozen=True)
class Strata:
    """All cells with enough real images, and how many had too few.

    Attributes:
        names: The covariates that form the cells.
        cells: Kept strata, the last covariate running fastest.
        too_few: Strata with a real image but fewer than were asked for.
        fullest: Real images of the fullest of those.
        rows_lost: Real images in those.
        rows_unknown: Real images that lack one of the covariates.
        rows_at_top: Real images that half-open bins leave out: they have the largest value of a covariate.
    """

    names: tuple[str, ...]
    cells: tuple[Stratum, ...]
    too_few: int
    rows_lost: int
    rows_unknown: int
    fullest: int = 0
    rows_at_top: int = 0


def stratify(
    study: Study,
    values: np.ndarray,
    names: Sequence[str],
    *,
    bins: int = BINS,
    min_count: int = MIN_COUNT,
    edges_from: np.ndarray | None = None,
    half_open: bool = False,
) -> Strata:
    """Divide real images into strata.

    Args:
        study: Kinds and levels.
        values: Native values [N, V], NaN where unknown.
        names: Covariates that form the strata.
        bins: Quantile bins of a continuous covariate; a value at an edge belongs to the lower bin.
        half_open: A value at an edge belongs to the upper bin, [low, high), and the largest to none: as the
            research code has it.
        min_count: Real images a stratum must have.
        edges_from: Rows [M, V] that give the quantiles, where not `values` itself.

    Raises:
        UsageError: No covariate, fewer than two bins, or far more strata than anybody looks at.
    """
    if not names or bins < 2:
        raise UsageError(
            "strata need a covariate and two bins", found=f"{len(names)} covariates, {bins} bins"
        )
    pool = values if edges_from is None else edges_from
    sides = [_side(study.covariate(n), pool[:, study.index(n)], bins) for n in names]
    if math.prod(len(labels) for _, labels in sides) > 100 * MOST_STRATA:
        raise UsageError("too many strata", field=", ".join(names), hint="Name fewer covariates with --by")
    columns = [study.index(name) for name in names]
    known = np.isfinite(values[:, columns]).all(axis=1)
    codes = np.full((len(values), len(names)), -1)
    for j, (edges, _) in enumerate(sides):
        x = values[known, columns[j]]
        if edges is None:
            codes[known, j] = x.astype(int)
            continue
        found = np.searchsorted(edges, x, side="right" if half_open else "left")
        codes[known, j] = np.where(half_open & (x >= sides[j][1][-1][1]), -1, found)
    cells, few = [], []
    for cell in itertools.product(*(range(len(labels)) for _, labels in sides)):
        rows = np.flatnonzero((codes == cell).all(axis=1))
        if len(rows) >= max(1, min_count):
            limits = {name: labels[k] for name, (_, labels), k in zip(names, sides, cell)}
            cells.append(Stratum(limits, cell, rows))
        elif len(rows):
            few.append(len(rows))
    return Strata(
        names=tuple(names),
        cells=tuple(cells),
        too_few=len(few),
        fullest=max(few, default=0),
        rows_lost=sum(few),
        rows_unknown=int((~known).sum()),
        rows_at_top=int((codes[known] < 0).any(axis=1).sum()),
    )


def _side(covariate: Covariate, x: np.ndarray, bins: int) -> tuple[np.ndarray | None, list[Any]]:
    """Inner edges of a continuous covariate's bins (None for others), and what each bin is called."""
    if not covariate.is_continuous:
        levels = covariate.levels or ("0", "1")
        return None, list(levels)
    x = x[np.isfinite(x)]
    if not x.size:
        raise UsageError("no real image records it", field=covariate.name, hint="Leave it out with --by")
    edges = np.quantile(x, np.linspace(0, 1, bins + 1))
    return edges[1:-1], [[float(a), float(b)] for a, b in itertools.pairwise(edges)]


@dataclass(frozen=True)
class BootstrapEstimate:
    """A statistic, its bootstrap interval and the bootstrap draws behind it [B]."""

    value: float
    ci95: tuple[float, float]
    draws: np.ndarray = field(repr=False)


@dataclass(frozen=True)
class Score:
    """How well measured values agree with a reference.

    Attributes:
        stats: By name: `CONTINUOUS_STATS`, `BINARY_STATS`, or `DISCRETE_STATS` of another with levels.
        n: Images that could be read.
        unmeasurable: Share of images on which the instrument found nothing.
        sd: Standard deviation of the reference.
        bias: Mean of measured − reference (continuous).
        normalised: The statistics of a continuous covariate in the units networks have.
    """

    stats: Mapping[str, BootstrapEstimate]
    n: int
    unmeasurable: float
    sd: float
    bias: float
    normalised: Mapping[str, float] = field(default_factory=dict)


def score(
    covariate: Covariate,
    reference: np.ndarray,
    measured: np.ndarray,
    image: np.ndarray,
    *,
    rng: np.random.Generator,
) -> Score:
    """Compare measured with reference values.

    Args:
        reference, measured: Native values [N]; pairs with a NaN are left out.
        image: Which real image a pair belongs to, int [N]: the bootstrap draws real images, each with all its
            pairs.

    Source: the statistics' textbook definitions. Balanced accuracy is the mean recall over levels that occur
        in the reference. F1, precision and recall are those of level 1 for a binary covariate, whose Pearson
        is that of its zeros and ones; of others F1 is the mean over levels that occur on either side.
    """
    usable = np.isfinite(reference) & np.isfinite(measured)
    lost = float(1 - usable.mean()) if usable.size else math.nan
    x, y = reference[usable], measured[usable]
    of_levels = BINARY_STATS if covariate.kind == "binary" else DISCRETE_STATS
    names = CONTINUOUS_STATS if covariate.is_continuous else of_levels
    if not x.size:
        nothing = _undefined(np.full(DRAWS, math.nan))
        return Score(dict.fromkeys(names, nothing), n=0, unmeasurable=lost, sd=math.nan, bias=math.nan)
    sums = _sums(covariate, x, y)
    statistics = _continuous if covariate.is_continuous else _discrete(covariate)
    _, cluster = np.unique(image[usable], return_inverse=True)
    by_image = np.zeros((cluster.max() + 1, sums.shape[1]))
    np.add.at(by_image, cluster, sums)
    weights = resampled_counts(len(by_image), rng)
    whole, drawn = statistics(sums.sum(axis=0)), statistics(weights @ by_image)
    stats = {
        name: BootstrapEstimate(float(whole[name]), interval(drawn[name]), drawn[name]) for name in names
    }
    bias = float((y - x).mean()) if covariate.is_continuous else math.nan
    return Score(stats, n=int(x.size), unmeasurable=lost, sd=float(x.std()), bias=bias)


def normalised_statistics(
    covariate: Covariate, reference: np.ndarray, measured: np.ndarray
) -> dict[str, float]:
    """`CONTINUOUS_STATS` of native values [N] in the units networks have; empty where no pair has both."""
    x, y = covariate.normalised(reference), covariate.normalised(measured)
    usable = np.isfinite(x) & np.isfinite(y)
    if not usable.any():
        return {}
    found = _continuous(_sums(covariate, x[usable], y[usable]).sum(axis=0))
    return {name: float(value) for name, value in found.items()}


def weighted(estimates: Sequence[BootstrapEstimate], weights: Sequence[float]) -> BootstrapEstimate:
    """Mean of estimates over strata, weighted by their real images; undefined ones are left out."""
    usable = [(e, w) for e, w in zip(estimates, weights) if math.isfinite(e.value)]
    if not usable:
        return _undefined(estimates[0].draws if estimates else np.full(DRAWS, math.nan))
    share = np.array([w for _, w in usable], np.float64)
    value = float(np.average([e.value for e, _ in usable], weights=share))
    stack = np.stack([np.where(np.isfinite(e.draws), e.draws, e.value) for e, _ in usable])
    draws = np.average(stack, axis=0, weights=share)
    return BootstrapEstimate(value, interval(draws), draws)


def _undefined(draws: np.ndarray) -> BootstrapEstimate:
    return BootstrapEstimate(math.nan, (math.nan, math.nan), np.full_like(draws, math.nan))


def _sums(covariate: Covariate, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Terms [N, M] whose sums over images give every statistic: moments, or the cells of the confusion
    matrix."""
    if covariate.is_continuous:
        error, middle = y - x, x.mean()
        x, y = x - middle, y - middle
        return np.stack([np.ones_like(x), error**2, np.abs(error), x, y, x * x, y * y, x * y], axis=1)
    levels = covariate.num_levels
    cell = np.rint(x).astype(int) * levels + np.rint(y).astype(int)
    return np.eye(levels * levels)[cell]


def _continuous(sums: np.ndarray) -> dict[str, np.ndarray]:
    """Statistics from sums [..., 8]."""
    n, squared, absolute, x, y, xx, yy, xy = np.moveaxis(sums, -1, 0)
    with np.errstate(invalid="ignore", divide="ignore"):
        variances = (xx - x * x / n) * (yy - y * y / n)
        noise = 1e-24 * np.maximum(xx, 1e-300) * np.maximum(yy, 1e-300)
        pearson = np.where(
            variances > noise, (xy - x * y / n) / np.sqrt(np.maximum(variances, 1e-300)), math.nan
        )
        return {"mse": squared / n, "mae": absolute / n, "pearson": np.clip(pearson, -1, 1)}


def _discrete(covariate: Covariate):
    """The function that makes statistics of confusion counts [..., L²]."""
    levels = covariate.num_levels

    def statistics(sums: np.ndarray) -> dict[str, np.ndarray]:
        table = sums.reshape(*sums.shape[:-1], levels, levels)  # [..., reference, measured]
        hits = np.diagonal(table, axis1=-2, axis2=-1)
        of_reference, of_measured = table.sum(-1), table.sum(-2)
        with np.errstate(invalid="ignore", divide="ignore"):
            recall = np.where(of_reference > 0, hits / of_reference, math.nan)
            either = of_reference + of_measured
            f1 = np.where(either > 0, 2 * hits / either, math.nan)
            accuracy = hits.sum(-1) / table.sum((-2, -1))
            precision = np.where(of_measured > 0, hits / of_measured, math.nan)
        found = {"accuracy": accuracy, "balanced_accuracy": _mean(recall)}
        if covariate.kind != "binary":
            return found | {"f1": _mean(f1)}
        of_one = {"f1": f1[..., 1], "precision": precision[..., 1], "recall": recall[..., 1]}
        return found | of_one | {"pearson": _phi(table)}

    return statistics


def _phi(table: np.ndarray) -> np.ndarray:
    """Pearson's correlation of zeros and ones, from their counts [..., reference, measured]."""
    (a, b), (c, d) = np.moveaxis(table, (-2, -1), (0, 1))
    with np.errstate(invalid="ignore", divide="ignore"):
        spread = np.sqrt((a + b) * (c + d) * (a + c) * (b + d))
        return np.where(spread > 0, (a * d - b * c) / spread, math.nan)


def _mean(values: np.ndarray) -> np.ndarray:
    """Mean over the last axis of what is defined."""
    known = np.isfinite(values)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(known, values, 0).sum(-1) / known.sum(-1)
