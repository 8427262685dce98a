"""The groups of numbers of an evaluation, each from what an `Evaluator` draws and reads."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch

from mssg.errors import DataError, UsageError
from mssg.metrics import distribution, evidence, obedience, smoothness
from mssg.metrics.evaluation import Evaluator
from mssg.metrics.frame import Contender
from mssg.metrics.results import JOINT, REAL, Result
from mssg.metrics.strata import MOST_STRATA, Estimate, Score, Strata, score, stratify, weighted
from mssg.study.model import Covariate

K_PRECISION, K_DENSITY = 3, 5
MOST_KID = 1000


def of_real(e: Evaluator, metric: str) -> list[Result]:
    """What a group says of the real images alone: the instrument's own error."""
    found = {"strata": lambda: _strata(e, None), "overall": lambda: _overall(e, None)}.get(metric)
    return list(found()) if found else []


def of_model(e: Evaluator, metric: str, contender: Contender) -> list[Result]:
    """What a group says of a model."""
    group: dict[str, Callable[[], Iterator[Result]]] = {
        "fid": lambda: _sets(e, contender, "fid"),
        "kid": lambda: _sets(e, contender, "kid"),
        "prdc": lambda: _sets(e, contender, "prdc"),
        "fid_infinity": lambda: _sets(e, contender, "fid_infinity"),
        "is": lambda: _sets(e, contender, "is"),
        "pairs": lambda: _pairs(e, contender, ("ssim", "ms_ssim", "psnr")),
        "lpips": lambda: _pairs(e, contender, tuple(k for k in e.drawn(contender) if k.startswith("lpips"))),
        "strata": lambda: _strata(e, contender),
        "strata_kid": lambda: _strata_distance(e, contender, "kid"),
        "strata_fid": lambda: _strata_distance(e, contender, "fid"),
        "overall": lambda: _overall(e, contender),
        "control": lambda: obedience.controlled(e, contender),
        "leakage": lambda: obedience.leaked(e, contender),
        "spread": lambda: obedience.spreads(e, contender),
        "ppl": lambda: _path_length(e, contender),
        "eq": lambda: _equivariance(e, contender),
        "counterfactual": lambda: evidence.counterfactuals(e, contender),
        "memorisation": lambda: evidence.copies(e, contender, e.features),
        "memorisation_pixels": lambda: evidence.copies(e, contender, None),
        "utility": lambda: evidence.use(e, contender),
    }
    return list(group[metric]())


# Distances between sets of images


def _sets(e: Evaluator, contender: Contender, kind: str) -> Iterator[Result]:
    """FID, KID and their kin: per source and joint, each beside its floor."""
    features, fake = e.real["features"], e.drawn(contender)["features"]
    for source in e.frame.parts:
        of_real, of_fake = e.part(source)

        def part(a=features[of_real], b=fake[of_fake], source=source) -> list[Result]:
            return [
                _distance_result(e, contender, name, value, sd, len(b), len(a), source, floor, detail)
                for name, value, sd, floor, detail in _distances(e, kind, a, b, source)
            ]

        yield from e.guarded(f"{contender.model.label}: {kind}, {source}", part)


def _distances(
    e: Evaluator, kind: str, real: np.ndarray, fake: np.ndarray, source: str
) -> Iterator[tuple[str, float, float | None, float | None, dict[str, Any]]]:
    """(name, value, sd, floor, detail) of one group between two sets of features."""

    def floor(metric: Callable[..., Any], least: int = 4) -> Any:
        return e.remember(f"{kind} {source}", lambda: _floor(metric, real, e.options.seed, least))

    if kind == "fid":
        yield "fid", distribution.fid(real, fake), None, floor(distribution.fid), {}
    elif kind == "kid":
        size = _subset(e)

        def kid(a: np.ndarray, b: np.ndarray) -> distribution.Estimate:
            fits = min(size, len(a), len(b))
            return distribution.kid(a, b, fits, seed=e.options.seed)

        value, lowest = kid(real, fake), floor(kid)
        used = min(size, len(real), len(fake))
        yield (
            "kid",
            value.mean,
            value.sd,
            lowest and lowest.mean,
            {"subset_size": used, "subsets": 100, "floor_sd": lowest and lowest.sd},
        )
    elif kind == "prdc":
        pr, dc = (
            distribution.precision_recall(real, fake, K_PRECISION),
            distribution.density_coverage(real, fake, K_DENSITY),
        )
        low = floor(
            lambda a, b: (
                *distribution.precision_recall(a, b, K_PRECISION),
                *distribution.density_coverage(a, b, K_DENSITY),
            ),
            2 * K_DENSITY + 2,
        )
        for i, (name, value) in enumerate((*pr._asdict().items(), *dc._asdict().items())):
            yield name, value, None, low and low[i], {"k": K_PRECISION if i < 2 else K_DENSITY}
    elif kind == "fid_infinity":
        line = distribution.fid_infinity(real, fake, seed=e.options.seed)
        yield (
            "fid_infinity",
            line.value,
            None,
            None,
            {"slope": line.slope, "residual": line.residual, "sizes": line.sizes},
        )
    else:
        assert e.features is not None
        splits = min(10, max(1, len(fake) // 100))
        value = distribution.inception_score(e.features.probabilities(fake), splits, e.options.seed)
        own = distribution.inception_score(
            e.features.probabilities(real), min(splits, len(real)), e.options.seed
        )
        yield "is", value.mean, value.sd, None, {"splits": splits, "real": own.mean}


def _floor(metric: Callable[..., Any], real: np.ndarray, seed: int, least: int) -> Any:
    return distribution.floor(metric, real, seed) if len(real) >= least else None


def _subset(e: Evaluator) -> int:
    """Rows of a KID subset: one size for all sources, their floors, and all models."""
    if e.options.kid_subset:
        return e.options.kid_subset
    sizes = [e.part(source) for source in e.frame.parts]
    fits = [min(len(real) // 2, len(fake)) for real, fake in sizes if len(real) >= 4]
    return max(2, min([MOST_KID, *fits]))


def _distance_result(
    e: Evaluator,
    contender: Contender,
    name: str,
    value: float,
    sd: float | None,
    n: int,
    n_real: int,
    source: str,
    floor: float | None,
    detail: dict[str, Any],
    stratum: Any = None,
) -> Result:
    assert e.features is not None
    return Result(
        f"{name}-{e.features.name}",
        value,
        contender.model.label,
        n,
        n_real,
        sd=sd,
        features=e.features.name,
        source=source,
        split=e.frame.split,
        stratum=stratum,
        real_floor=floor,
        real_floor_n=None if floor is None else n_real // 2,
        detail=detail,
    )


def _pairs(e: Evaluator, contender: Contender, names: Sequence[str]) -> Iterator[Result]:
    """Similarity of real and generated images with the same covariates."""
    drawn = e.drawn(contender)
    for source in e.frame.parts:
        real, fake = e.part(source)
        for name in names:
            if name in drawn and len(fake):
                x = drawn[name][fake]
                usable = x[np.isfinite(x)]
                unit = "dB" if name == "psnr" else None
                yield Result(
                    name,
                    float(usable.mean()) if usable.size else None,
                    contender.model.label,
                    len(x),
                    len(real),
                    sd=float(usable.std()) if usable.size else None,
                    source=source,
                    split=e.frame.split,
                    unit=unit,
                )


# What the covariates say


def _references(e: Evaluator, contender: Contender | None) -> tuple[str, ...]:
    return ("label",) if contender is None else ("requested", "real")


def _compared(
    e: Evaluator, covariate: Covariate, reference: str, rows: np.ndarray, measured: np.ndarray
) -> Score:
    """Readings of images that answer real images `rows`, against a reference."""
    v = e.frame.study.index(covariate.name)
    if reference == "requested":
        wanted = e.requests[rows, v]
    elif reference == "label":
        wanted = e.frame.values[rows, v]
    else:  # the reading of a real image says something only where what was asked is what that image has
        known = np.isfinite(e.frame.values[rows, v])
        wanted = np.where(known, e.real[covariate.name][rows], np.nan)
    return score(covariate, wanted, measured, rows, e.rng)


def _score_results(
    e: Evaluator,
    contender: Contender | None,
    prefix: str,
    covariate: Covariate,
    reference: str,
    found: Score,
    n_real: int,
    source: str,
    stratum: Any = None,
) -> Iterator[Result]:
    if not found.n and reference != "requested":
        return  # no real image says what it shows
    for stat, estimate in found.stats.items():
        detail = {"requested_sd": found.sd, "bias": found.bias, "unmeasurable": found.unmeasurable}
        yield _stat_result(
            e,
            contender,
            f"{prefix}/{stat}",
            covariate,
            reference,
            estimate,
            found.n,
            n_real,
            source,
            stratum,
            detail,
        )


def _stat_result(
    e: Evaluator,
    contender: Contender | None,
    metric: str,
    covariate: Covariate,
    reference: str,
    estimate: Estimate,
    n: int,
    n_real: int,
    source: str,
    stratum: Any,
    detail: dict[str, Any],
) -> Result:
    stat = metric.split("/")[1]
    unit = {"mse": f"{covariate.unit}²", "mae": covariate.unit}.get(stat) if covariate.unit else None
    place = f"{metric} {covariate.name} {source} {stratum}"
    if contender is None:
        e.remember(f"own {place}", lambda: estimate.value)
    floor = e.remember(f"own {place}", lambda: None) if contender else None
    return Result(
        metric,
        estimate.value,
        contender.model.label if contender else REAL,
        n,
        n_real,
        estimate.ci95,
        instrument=e.instruments.by_covariate[covariate.name],
        source=source,
        split=e.frame.split,
        stratum=stratum,
        covariate=covariate.name,
        unit=unit,
        reference=reference,
        real_floor=floor,
        detail=detail,
    )


def _overall(e: Evaluator, contender: Contender | None) -> Iterator[Result]:
    """General controllability: over the whole split, per source and joint."""
    numbers = e.real if contender is None else e.drawn(contender)
    for source in e.frame.parts:
        real, fake = e.part(source)
        rows, images = (real, real) if contender is None else (e.picks[fake], fake)
        for covariate in e.readable:
            for reference in _references(e, contender):
                found = _compared(e, covariate, reference, rows, numbers[covariate.name][images])
                yield from _score_results(
                    e, contender, "overall", covariate, reference, found, len(real), source
                )


def strata_of(e: Evaluator) -> dict[str, Strata]:
    """The strata: joint where every covariate of every image is known, else within each source over what it
    records."""
    return e.remember("strata", lambda: _divide(e))


def _divide(e: Evaluator) -> dict[str, Strata]:
    frame, study, options = e.frame, e.frame.study, e.options
    jointly = not study.condition_on_source and set(options.by or [c.name for c in study.covariates]) <= set(
        frame.known()
    )
    if not jointly and not study.condition_on_source:
        e.note(
            "strata",
            "not every image has a value of every covariate: strata are formed within each source, over what"
            " is known there",
        )
    out = {}
    for source in (
        (JOINT,) if jointly else [s.name for i, s in enumerate(study.sources) if (frame.source == i).any()]
    ):
        rows = frame.of(source)
        known = frame.known(rows)
        if study.condition_on_source:
            known = tuple(n for n in known if n in study.source(source).observes)
        names = tuple(n for n in options.by or known if n in known)
        for name in set(options.by) - set(names):
            e.note(f"strata, {source}", f"{name} is not known for all of its images and forms no strata")
        names = _few_enough(e, names, source)
        pool = frame.values if study.condition_on_source else None
        strata = stratify(study, frame.values[rows], names, options.bins, options.min_count, pool)
        cells = tuple(type(c)(c.limits, c.cell, rows[c.rows]) for c in strata.cells)
        if strata.too_few or strata.rows_unknown:
            e.note(
                f"strata, {source}",
                f"{strata.too_few} strata with {strata.rows_lost} of {len(rows)} images have fewer than"
                f" {options.min_count} real images and are left out",
            )
        if not cells:
            e.note(
                f"strata, {source}",
                "no stratum has enough real images; use fewer covariates (--by), fewer bins, or a lower"
                " --min-count",
            )
        out[source] = Strata(strata.names, cells, strata.too_few, strata.rows_lost, strata.rows_unknown)
    return out


def _few_enough(e: Evaluator, names: tuple[str, ...], source: str) -> tuple[str, ...]:
    """All of them, or without the categorical ones where that makes too many strata and nobody chose."""
    count = 1
    for name in names:
        covariate = e.frame.study.covariate(name)
        count *= e.options.bins if covariate.is_continuous else covariate.num_levels
    if count <= MOST_STRATA or e.options.by:
        return names
    fewer = tuple(n for n in names if e.frame.study.covariate(n).kind != "categorical")
    e.note(
        f"strata, {source}",
        f"{', '.join(names)} would make {count} strata: formed by {', '.join(fewer)} alone; choose with --by",
    )
    return fewer


def _strata_picks(e: Evaluator) -> tuple[np.ndarray, dict[str, list[np.ndarray]]]:
    """Which real image each image drawn for the strata answers, and which of those images belong to each
    stratum."""

    def pick() -> tuple[np.ndarray, dict[str, list[np.ndarray]]]:
        picks: list[np.ndarray] = []
        places: dict[str, list[np.ndarray]] = {}
        start = 0
        for number, (source, strata) in enumerate(strata_of(e).items()):
            places[source] = []
            for k, cell in enumerate(strata.cells):
                rng = np.random.default_rng([e.options.seed, 13, number, k])
                picks.append(cell.rows[rng.integers(len(cell.rows), size=e.options.per_stratum)])
                places[source].append(np.arange(start, start + e.options.per_stratum))
                start += e.options.per_stratum
        return np.concatenate(picks) if picks else np.zeros(0, int), places

    return e.remember("strata picks", pick)


def _strata_drawn(e: Evaluator, contender: Contender) -> dict[str, np.ndarray]:
    picks, _ = _strata_picks(e)
    if not len(picks):
        raise DataError("there is no stratum to draw images for", field="strata")
    readers = e.readers(e.wants("strata"), e.wants("strata_kid", "strata_fid"))
    return e.remember(
        f"strata {contender.model.label}", lambda: e.draw(contender, "strata", e.requests[picks], 2, readers)
    )


def _strata(e: Evaluator, contender: Contender | None) -> Iterator[Result]:
    """The strata prediction score."""
    picks, places = _strata_picks(e)
    numbers = e.real if contender is None else _strata_drawn(e, contender)
    for source, strata in strata_of(e).items():
        for covariate in e.readable:
            for reference in _references(e, contender):
                scores = []
                for cell, place in zip(strata.cells, places[source]):
                    rows, images = (cell.rows, cell.rows) if contender is None else (picks[place], place)
                    found = _compared(e, covariate, reference, rows, numbers[covariate.name][images])
                    scores.append(found)
                    yield from _score_results(
                        e,
                        contender,
                        "strata",
                        covariate,
                        reference,
                        found,
                        len(cell.rows),
                        source,
                        cell.limits,
                    )
                yield from _weighted(e, contender, covariate, reference, strata, scores, source)


def _weighted(
    e: Evaluator,
    contender: Contender | None,
    covariate: Covariate,
    reference: str,
    strata: Strata,
    scores: Sequence[Score],
    source: str,
) -> Iterator[Result]:
    """The strata prediction score as one number a covariate: mean over strata, weighted by real images."""
    if not scores or (reference != "requested" and not any(s.n for s in scores)):
        return
    counts = [len(cell.rows) for cell in strata.cells]
    known = [(s.sd, c) for s, c in zip(scores, counts) if np.isfinite(s.sd)]
    sd = float(np.average([s for s, _ in known], weights=[c for _, c in known])) if known else None
    detail = {"strata": len(scores), "requested_sd": sd}
    for stat in scores[0].stats:
        mean = weighted([s.stats[stat] for s in scores], counts)
        yield _stat_result(
            e,
            contender,
            f"strata/{stat}",
            covariate,
            reference,
            mean,
            sum(s.n for s in scores),
            sum(counts),
            source,
            None,
            detail,
        )


def _strata_distance(e: Evaluator, contender: Contender, kind: str) -> Iterator[Result]:
    """KID or FID within each stratum (all its images, no subsets), and the mean weighted by real images."""
    real, fake = e.real["features"], _strata_drawn(e, contender)["features"]
    _, places = _strata_picks(e)

    def distance(a: np.ndarray, b: np.ndarray) -> float:
        return distribution.kid(a, b).mean if kind == "kid" else distribution.fid(a, b)

    for source, strata in strata_of(e).items():
        rows = []
        for cell, place in zip(strata.cells, places[source]):
            a, b = real[cell.rows], fake[place]
            floor = e.remember(
                f"{kind} {source} {cell.cell}", lambda a=a: _floor(distance, a, e.options.seed, 4)
            )
            found = _distance_result(
                e,
                contender,
                f"strata_{kind}",
                distance(a, b),
                None,
                len(b),
                len(a),
                source,
                floor,
                {},
                cell.limits,
            )
            rows.append(found)
            yield found
        counts = [r.n_real or 0 for r in rows]
        if rows:
            mean = float(np.average([r.value for r in rows], weights=counts))  # type: ignore[arg-type]
            floors = [(r.real_floor, c) for r, c in zip(rows, counts) if r.real_floor is not None]
            low = (
                float(np.average([f for f, _ in floors], weights=[c for _, c in floors])) if floors else None
            )  # type: ignore[arg-type]
            yield _distance_result(
                e,
                contender,
                f"strata_{kind}",
                mean,
                None,
                sum(r.n for r in rows),
                sum(counts),
                source,
                low,
                {"strata": len(rows)},
            )


# How smooth it is


def _smooth_chunks(
    e: Evaluator, contender: Contender, label: str, compute: Callable[[torch.Tensor, int], np.ndarray]
) -> np.ndarray:
    """A function of (encoded conditions, seed) over chunks of the split's requests."""
    study, own = e.frame.study, contender.snapshot.study
    values = e.requests[
        np.random.default_rng([e.options.seed, 29]).integers(len(e.requests), size=e.options.smooth_images)
    ]
    asked = np.full((len(values), len(own.condition_names)), np.nan)
    for j, name in enumerate(own.condition_names):
        if name in study.condition_names:
            asked[:, j] = values[:, study.index(name)]
    asked = contender.snapshot.models.complete(asked, np.random.default_rng([e.options.seed, 31]))
    step, parts = 10, []
    for start in range(0, len(asked), step):
        c = torch.from_numpy(own.encode(asked[start : start + step])).to(contender.snapshot.device)
        key = [*contender.identity, label, asked[start : start + step], e.options.seed + start]
        parts.append(e.bench.drawn.get(key, lambda c=c, s=start: {"x": compute(c, e.options.seed + s)})["x"])
        if e.bench.progress and e.bench.world.rank == 0:
            e.bench.progress(f"{contender.model.label}, {label}", min(start + step, len(asked)), len(asked))
    return np.concatenate(parts)


def _path_length(e: Evaluator, contender: Contender) -> Iterator[Result]:
    features = e.features
    if features is None:
        raise UsageError("path length needs features", field="ppl")

    def compute(c: torch.Tensor, seed: int) -> np.ndarray:
        return smoothness.path_distances(contender.snapshot.G, c, features.embed, seed)

    value, sd = smoothness.path_length(_smooth_chunks(e, contender, f"ppl-{features.name}", compute))
    detail = {"epsilon": smoothness.EPSILON, "distance": "squared Euclidean"}
    yield Result(
        f"ppl-{features.name}",
        value,
        contender.model.label,
        e.options.smooth_images,
        sd=sd,
        features=features.name,
        split=e.frame.split,
        detail=detail,
    )


def _equivariance(e: Evaluator, contender: Contender) -> Iterator[Result]:
    G = contender.snapshot.G
    for name, errors in (("eq_t", smoothness.translation_errors), ("eq_r", smoothness.rotation_errors)):

        def part(name=name, errors=errors) -> list[Result]:
            found = _smooth_chunks(e, contender, name, lambda c, seed: errors(G, c, seed))
            return [
                Result(
                    name,
                    smoothness.decibels(found),
                    contender.model.label,
                    len(found),
                    split=e.frame.split,
                    unit="dB",
                )
            ]

        yield from e.guarded(f"{contender.model.label}: {name}", part)
