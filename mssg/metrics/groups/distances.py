"""Distances between real and generated images as sets, in features: FID, KID and their kin."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from mssg.metrics import distribution, manifold
from mssg.metrics.context import EvalContext, SplitSettings
from mssg.metrics.metric import Metric, Need
from mssg.metrics.model import EvaluatedModel
from mssg.metrics.results import Result
from mssg.metrics.settings import Settings, option

K_PRECISION, K_DENSITY = 3, 5
MOST_KID = 1000
FEWEST_REAL = 4
"""Real images that can be halved for a floor."""


@dataclass(frozen=True)
class KidSettings(Settings):
    """Of KID."""

    kid_subset: int | None = option(
        None, "Rows of a KID subset. Default: what fits every source and half of its real images.", least=2
    )


@dataclass(frozen=True)
class Distance:
    """One number between two sets of features.

    Attributes:
        name: Of the metric, without the features.
        value, sd: The number, and its deviation over subsets or splits.
        floor: The same between two halves of the real images.
        detail: More.
    """

    name: str
    value: float
    sd: float | None = None
    floor: float | None = None
    detail: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class _Sets:
    """Features of real and generated images of one source: float32 [N, F] and [M, F]."""

    context: EvalContext
    real: np.ndarray
    fake: np.ndarray
    source: str

    def floor(self, name: str, metric: Callable[..., Any], least: int = FEWEST_REAL) -> Any:
        """What a metric says of two halves of the real images; None where there are too few."""
        return real_floor(self.context, (name, self.source), metric, self.real, least=least)


def real_floor(
    context: EvalContext,
    key: tuple[object, ...],
    metric: Callable[..., Any],
    real: np.ndarray,
    *,
    least: int = FEWEST_REAL,
) -> Any:
    """A metric between two halves of real features [N, F], computed once for all models; None where N is
    below `least`."""
    if len(real) < least:
        return None
    return context.once(("floor", *key), lambda: distribution.floor(metric, real, context.options.seed))


def distance_result(
    context: EvalContext, model: EvaluatedModel, found: Distance, *, n: int, n_real: int, **parts: Any
) -> Result:
    """The result that says a distance: it carries the name of the features."""
    features = context.network.name
    return context.result(
        model,
        metric=f"{found.name}-{features}",
        value=found.value,
        n=n,
        n_real=n_real,
        sd=found.sd,
        features=features,
        real_floor=found.floor,
        real_floor_n=None if found.floor is None else n_real // 2,
        detail=found.detail,
        **parts,
    )


def _per_source(kind: str, distances: Callable[[_Sets], Iterable[Distance]]):
    """A metric's `of_model` from a function of two sets: per source and joint, each beside its floor."""

    def of_model(context: EvalContext, model: EvaluatedModel) -> Iterator[Result]:
        features, fake = context.real["features"], context.drawn(model)["features"]
        for source in context.data.parts:
            of_real, of_fake = context.part(source)
            sets = _Sets(context, features[of_real], fake[of_fake], source)

            def part(sets: _Sets = sets) -> Iterator[Result]:
                for found in distances(sets):
                    yield distance_result(
                        context, model, found, n=len(sets.fake), n_real=len(sets.real), source=sets.source
                    )

            yield from context.attempt(f"{model.label}: {kind}, {source}", part)

    return of_model


def _fid(sets: _Sets) -> Iterator[Distance]:
    value = distribution.fid(sets.real, sets.fake)
    yield Distance("fid", value, floor=sets.floor("fid", distribution.fid))


def _kid(sets: _Sets) -> Iterator[Distance]:
    seed, size = sets.context.options.seed, _subset(sets.context)

    def kid(a: np.ndarray, b: np.ndarray) -> distribution.MeanSd:
        return distribution.kid(a, b, min(size, len(a), len(b)), seed=seed)

    value, lowest = kid(sets.real, sets.fake), sets.floor("kid", kid)
    detail = {
        "subset_size": min(size, len(sets.real), len(sets.fake)),
        "subsets": 100,
        "floor_sd": lowest and lowest.sd,
    }
    yield Distance("kid", value.mean, sd=value.sd, floor=lowest and lowest.mean, detail=detail)


def _subset(context: EvalContext) -> int:
    """Rows of a KID subset: one size for all sources, their floors, and all models."""
    asked = context.options.of(KidSettings).kid_subset
    if asked:
        return asked
    sizes = [context.part(source) for source in context.data.parts]
    fits = [min(len(real) // 2, len(fake)) for real, fake in sizes if len(real) >= FEWEST_REAL]
    return max(2, min([MOST_KID, *fits]))


def _prdc(sets: _Sets) -> Iterator[Distance]:
    def all_four(a: np.ndarray, b: np.ndarray) -> dict[str, float]:
        fidelity = manifold.precision_recall(a, b, K_PRECISION)._asdict()
        return fidelity | manifold.density_coverage(a, b, K_DENSITY)._asdict()

    found = all_four(sets.real, sets.fake)
    lowest = sets.floor("prdc", all_four, 2 * K_DENSITY + 2)
    for name, value in found.items():
        k = K_PRECISION if name in ("precision", "recall") else K_DENSITY
        yield Distance(name, value, floor=lowest and lowest[name], detail={"k": k})


def _fid_infinity(sets: _Sets) -> Iterator[Distance]:
    line = distribution.fid_infinity(sets.real, sets.fake, seed=sets.context.options.seed)
    detail = {"slope": line.slope, "residual": line.residual, "sizes": line.sizes}
    yield Distance("fid_infinity", line.value, detail=detail)


def _inception_score(sets: _Sets) -> Iterator[Distance]:
    network, seed = sets.context.network, sets.context.options.seed
    splits = min(10, max(1, len(sets.fake) // 100))
    value = distribution.inception_score(network.probabilities(sets.fake), splits, seed)
    own = distribution.inception_score(network.probabilities(sets.real), min(splits, len(sets.real)), seed)
    yield Distance("is", value.mean, sd=value.sd, detail={"splits": splits, "real": own.mean})


def _metric(
    name: str, help: str, distances: Callable[[_Sets], Iterable[Distance]], place: int, **more: Any
) -> Metric:
    settings = (SplitSettings, *more.pop("settings", ()))
    return Metric(
        name=name,
        help=help,
        of_model=_per_source(name, distances),
        needs=frozenset({Need.FEATURES}),
        settings=settings,
        reads_real=EvalContext.feature_readers,
        reads_split=EvalContext.feature_readers,
        place=place,
        **more,
    )


METRICS = (
    _metric("fid", "Fréchet distance of features, per source and joint", _fid, 10, default=True),
    _metric(
        "kid",
        "kernel distance of features: leads on small sets",
        _kid,
        11,
        settings=(KidSettings,),
        default=True,
    ),
    _metric("prdc", "precision, recall, density, coverage", _prdc, 12, default=True),
    _metric("fid_infinity", "FID extrapolated to infinitely many images", _fid_infinity, 110),
    _metric("is", "inception score", _inception_score, 111),
)
