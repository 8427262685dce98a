"""Within strata of similar people: the strata prediction score, KID and FID."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from mssg.errors import DataError, UsageError
from mssg.metrics import distribution
from mssg.metrics.context import EvalContext
from mssg.metrics.groups.distances import Distance, distance_result, real_floor
from mssg.metrics.metric import Metric, Need
from mssg.metrics.model import EvaluatedModel
from mssg.metrics.results import JOINT, Result
from mssg.metrics.sampling import Numbers, Reader
from mssg.metrics.scores import Floors, ScorePlace, ScoreSettings, compared, floors, references
from mssg.metrics.settings import Settings, option
from mssg.metrics.strata import BINS, MIN_COUNT, MOST_STRATA, PER_STRATUM, Score, Strata, stratify, weighted
from mssg.study.model import Study

CLOSED, HALF_OPEN = EDGES = "closed", "half-open"


@dataclass(frozen=True)
class StrataSettings(Settings):
    """How strata are formed, and how much is drawn for each."""

    per_stratum: int = option(PER_STRATUM, "Images drawn for each stratum (10,000 in the paper).", least=2)
    by: tuple[str, ...] = option(
        (), "Covariates that form the strata, comma-separated. Default: all.", kind=tuple, metavar="NAMES"
    )
    bins: int = option(BINS, "Quantile bins of a continuous covariate.", least=2)
    min_count: int = option(MIN_COUNT, "Real images a stratum must have.", least=1)
    strata_edges: str = option(
        CLOSED,
        "Bins hold their upper edge, so that every image is in one (closed), or are half-open as in the"
        " research code: [low, high), without the largest value.",
        kind=str,
        choices=EDGES,
    )

    def check(self, study: Study) -> None:
        """Whether the study has the covariates that are to form strata."""
        for name in self.by:
            study.index(name)


# The strata


def strata_of(context: EvalContext) -> dict[str, Strata]:
    """The strata: joint where every covariate is known in every source, else within each source over what is
    known there. An image with a gap leaves the strata that need the value, and nothing else."""
    return context.once("strata", lambda: _divide(context))


def _divide(context: EvalContext) -> dict[str, Strata]:
    data, study = context.data, context.data.study
    wanted = set(context.options.of(StrataSettings).by or [c.name for c in study.personal])
    present = [s.name for i, s in enumerate(study.sources) if (data.source == i).any()]
    if not study.condition_on_source:
        lacking = [f"{s} ({n})" for s in present for n in sorted(wanted - set(data.known(data.of(s))))]
        if not lacking:
            return {JOINT: _strata_within(context, JOINT)}
        context.note(
            "strata",
            f"a source lacks a covariate: {', '.join(lacking)}; strata are formed within each source, over"
            " what is known there",
        )
    return {source: _strata_within(context, source) for source in present}


def _strata_within(context: EvalContext, source: str) -> Strata:
    """The strata of a source's images, or of all; rows are positions in the data. None where they cannot be
    formed, with a note: other sources have theirs."""
    data, study, asked = context.data, context.data.study, context.options.of(StrataSettings)
    rows = data.of(source)
    known = data.known(rows)
    if study.condition_on_source:
        known = tuple(n for n in known if n in study.source(source).observes)
    names = tuple(n for n in asked.by or known if n in known)
    for name in (n for n in asked.by if n not in names):
        context.note(f"strata, {source}", f"most of its images lack {name}, which forms no strata")
    try:
        found = stratify(
            study,
            data.values[rows],
            _few_enough(context, names, source),
            bins=asked.bins,
            min_count=asked.min_count,
            edges_from=data.values if study.condition_on_source else None,
            half_open=asked.strata_edges == HALF_OPEN,
        )
    except UsageError as error:
        context.note(f"strata, {source}", str(error))
        return Strata(names, cells=(), too_few=0, rows_lost=0, rows_unknown=len(rows))
    for left_out in _left_out(found, len(rows), asked.min_count, data.split):
        context.note(f"strata, {source}", left_out)
    return replace(found, cells=tuple(replace(c, rows=rows[c.rows]) for c in found.cells))


def _left_out(found: Strata, images: int, min_count: int, split: str) -> Iterator[str]:
    """Which images are in no stratum, and why."""
    if found.rows_unknown:
        lacking = ", ".join(found.names)
        yield f"{found.rows_unknown} of {images} images lack one of {lacking} and are in no stratum"
    if found.rows_at_top:
        yield (
            f"{found.rows_at_top} of {images} images have the largest value of a covariate and are in no"
            " half-open stratum"
        )
    if found.too_few:
        yield (
            f"{found.too_few} strata with {found.rows_lost} of {images} images have fewer than"
            f" {min_count} real images and are left out"
        )
    if not found.cells:
        more = "" if split == "train" else ", or the larger training split (--split train)"
        yield (
            f"no stratum has {min_count} real images, the fullest has {found.fullest}: use fewer covariates"
            f" (--by), fewer bins (--bins), a lower --min-count{more}"
        )


def _few_enough(context: EvalContext, names: tuple[str, ...], source: str) -> tuple[str, ...]:
    """All of them, or without those of unordered levels where that makes too many strata and nobody chose."""
    asked, count = context.options.of(StrataSettings), 1
    for name in names:
        covariate = context.data.study.covariate(name)
        count *= asked.bins if covariate.is_continuous else covariate.num_levels
    if count <= MOST_STRATA or asked.by:
        return names
    fewer = tuple(n for n in names if context.data.study.covariate(n).is_ordered)
    context.note(
        f"strata, {source}",
        f"{', '.join(names)} would make {count} strata: formed by {', '.join(fewer)} alone; choose with --by",
    )
    return fewer


# Images drawn for them


@dataclass(frozen=True)
class _Draws:
    """Which real image each image drawn for the strata answers [N], and which of those images belong to each
    stratum of a source."""

    picks: np.ndarray
    places: dict[str, list[np.ndarray]]


def _draws(context: EvalContext) -> _Draws:
    def pick() -> _Draws:
        n, picks, places = context.options.of(StrataSettings).per_stratum, [], {}
        for number, (source, strata) in enumerate(strata_of(context).items()):
            places[source] = []
            for k, cell in enumerate(strata.cells):
                rows = context.rng(13, number, k).integers(len(cell.rows), size=n)
                places[source].append(np.arange(n) + n * len(picks))
                picks.append(cell.rows[rows])
        return _Draws(np.concatenate(picks) if picks else np.zeros(0, int), places)

    return context.once("strata picks", pick)


def _drawn(context: EvalContext, model: EvaluatedModel) -> Numbers:
    """Readings of the images drawn for all strata: whatever the chosen metrics need."""
    picks = _draws(context).picks
    if not len(picks):
        raise DataError("there is no stratum to draw images for", field="strata")
    readers: list[Reader] = []
    if SCORE.name in context.options.metrics:
        readers += context.covariate_readers()
    if {KID.name, FID.name} & set(context.options.metrics):
        readers += context.feature_readers()
    return context.once(
        ("strata", model.label),
        lambda: context.draw(model, context.requests[picks], stream=2, readers=readers, label="strata"),
    )


# The strata prediction score


def _scores(context: EvalContext, model: EvaluatedModel | None, own: Floors) -> Iterator[Result]:
    draws = _draws(context)
    numbers = context.real if model is None else _drawn(context, model)
    for source, strata in strata_of(context).items():
        for covariate in context.readable:
            for reference in references(model):
                place = ScorePlace("strata", model, covariate, reference, source=source, floors=own)
                scores = []
                for cell, images in zip(strata.cells, draws.places[source]):
                    rows = cell.rows if model is None else draws.picks[images]
                    measured = numbers[covariate.name][cell.rows if model is None else images]
                    found = compared(context, covariate, reference, rows=rows, measured=measured)
                    scores.append(found)
                    here = replace(place, stratum=cell.limits)
                    yield from here.results(context, found, len(cell.rows))
                yield from _mean_over_strata(context, place, strata, scores)


def _mean_over_strata(
    context: EvalContext, place: ScorePlace, strata: Strata, scores: Sequence[Score]
) -> Iterator[Result]:
    """The score as one number a covariate: mean over strata, weighted by real images."""
    if not scores or (place.reference != "requested" and not any(s.n for s in scores)):
        return
    counts = [len(cell.rows) for cell in strata.cells]
    known = [(s.sd, c) for s, c in zip(scores, counts) if np.isfinite(s.sd)]
    detail = {"strata": len(scores), "requested_sd": _average(known)}
    for stat in scores[0].stats:
        mean = weighted([s.stats[stat] for s in scores], counts)
        stated = [(s.normalised.get(stat, np.nan), c) for s, c in zip(scores, counts)]
        beside = _average([(v, c) for v, c in stated if np.isfinite(v)])
        more = detail if beside is None else detail | {"normalised": beside}
        yield place.result(context, stat, mean, n=sum(s.n for s in scores), n_real=sum(counts), detail=more)


def _average(values_and_weights: Sequence[tuple[float, int]]) -> float | None:
    """Weighted mean; None of nothing."""
    if not values_and_weights:
        return None
    values, weights = zip(*values_and_weights)
    return float(np.average(values, weights=weights))


def _of_real(context: EvalContext) -> list[Result]:
    return context.once("strata, real", lambda: list(_scores(context, None, {})))


def _of_model(context: EvalContext, model: EvaluatedModel) -> Iterator[Result]:
    return _scores(context, model, floors(_of_real(context)))


# Distances within strata


def _kid(a: np.ndarray, b: np.ndarray) -> float:
    return distribution.kid(a, b).mean


def _distances(
    kind: str, distance: Callable[[Any, Any], float], context: EvalContext, model: EvaluatedModel
) -> Iterator[Result]:
    """KID or FID within each stratum (all its images, no subsets), and the mean weighted by real images."""
    for source in strata_of(context):
        yield from context.attempt(
            f"{model.label}: strata_{kind}, {source}",
            partial(_distances_within, kind, distance, context, model, source),
        )


def _distances_within(
    kind: str, distance: Callable[[Any, Any], float], context: EvalContext, model: EvaluatedModel, source: str
) -> Iterator[Result]:
    """The distances within one source's strata."""
    real, fake = context.real["features"], _drawn(context, model)["features"]
    strata, places = strata_of(context)[source], _draws(context).places[source]
    found, counts = [], [len(cell.rows) for cell in strata.cells]
    for cell, place in zip(strata.cells, places):
        a, b = real[cell.rows], fake[place]
        floor = real_floor(context, (kind, source, cell.cell), distance, a)
        found.append(Distance(f"strata_{kind}", distance(a, b), floor=floor))
        yield distance_result(
            context, model, found[-1], n=len(b), n_real=len(a), source=source, stratum=cell.limits
        )
    if found:
        whole = Distance(
            f"strata_{kind}",
            float(np.average([f.value for f in found], weights=counts)),
            floor=_average([(f.floor, c) for f, c in zip(found, counts) if f.floor is not None]),
            detail={"strata": len(found)},
        )
        n = sum(len(place) for place in places)
        yield distance_result(context, model, whole, n=n, n_real=sum(counts), source=source)


def _distance_metric(name: str, help: str, **more: Any) -> Metric:
    return Metric(
        name=name,
        help=help,
        needs=frozenset({Need.FEATURES}),
        settings=(StrataSettings,),
        reads_real=EvalContext.feature_readers,
        **more,
    )


SCORE = Metric(
    name="strata",
    help="strata prediction score",
    of_model=_of_model,
    of_real=_of_real,
    settings=(StrataSettings, ScoreSettings),
    reads_real=EvalContext.covariate_readers,
    default=True,
    place=30,
)
KID = _distance_metric(
    "strata_kid",
    "KID within each stratum, and its weighted mean",
    of_model=partial(_distances, "kid", _kid),
    default=True,
    place=31,
)
FID = _distance_metric(
    "strata_fid",
    "FID within each stratum, and its weighted mean",
    of_model=partial(_distances, "fid", distribution.fid),
    place=120,
)
METRICS = (SCORE, KID, FID)
