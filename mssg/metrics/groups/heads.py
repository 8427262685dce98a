"""What a model's own discriminator reads: is it right of real images, and does it agree with the instrument
of generated ones? Training asks the discriminator alone."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from mssg.metrics.agreement import correlation
from mssg.metrics.context import EvalContext, SplitSettings
from mssg.metrics.metric import Metric, Need
from mssg.metrics.model import EvaluatedModel
from mssg.metrics.results import Result
from mssg.metrics.sampling import Reader
from mssg.study.covariate import Covariate

if TYPE_CHECKING:
    from mssg.features.heads import DiscriminatorHeads

LABEL, REQUESTED, INSTRUMENT = "label", "requested", "instrument"
FEWEST = 3
"""Images of which an agreement says something."""


@dataclass(frozen=True)
class _Comparison:
    """What the heads read [N] of a covariate on images of a source, beside what it is compared with [N]."""

    source: str
    covariate: Covariate
    reference: str
    wanted: np.ndarray
    read: np.ndarray


def _comparisons(
    context: EvalContext, model: EvaluatedModel, heads: DiscriminatorHeads
) -> Iterator[_Comparison]:
    """Readings of real images beside their table; of drawn ones beside the request and the instrument."""
    reader = Reader(heads.identity, lambda images, _: heads.measure(images))
    of_real = context.sampler.read(f"{model.label}, heads", context.data.images, len(context.data), (reader,))
    requests, study = context.requests[context.picks], context.data.study
    of_fake = context.draw(model, requests, stream=1, readers=(reader,), label="heads")
    beside = context.drawn(model) if context.instruments.readers else {}
    for source, covariate in itertools.product(context.data.parts, study.covariates):
        name, v, (real, fake) = covariate.name, study.index(covariate.name), context.part(source)
        if name not in of_fake or not heads.study.covariate(name).compatible_with(covariate):
            continue
        read = of_fake[name][fake]
        yield _Comparison(source, covariate, LABEL, context.data.values[real, v], read=of_real[name][real])
        yield _Comparison(source, covariate, REQUESTED, requests[fake, v], read)
        if name in beside:
            yield _Comparison(source, covariate, INSTRUMENT, beside[name][fake], read)


def _of_model(context: EvalContext, model: EvaluatedModel) -> Iterator[Result]:
    from mssg.features.heads import DiscriminatorHeads

    heads = DiscriminatorHeads.of(model.networks)
    for one in _comparisons(context, model, heads):
        name, real = one.covariate.name, one.reference == LABEL
        known = np.isfinite(one.wanted) & np.isfinite(one.read)
        beside = {"beside": context.instruments.by_covariate[name]} if one.reference == INSTRUMENT else {}
        for stat, value in _agreement(one.covariate, one.wanted[known], one.read[known]).items():
            yield context.result(
                model,
                metric=f"heads/{stat}",
                value=value,
                n=0 if real else int(known.sum()),
                n_real=int(known.sum()) if real else len(context.part(one.source)[0]),
                instrument=heads.identity,
                source=one.source,
                covariate=name,
                unit=(one.covariate.unit or None) if stat == "mae" else None,
                reference=one.reference,
                detail=beside,
            )


def _agreement(covariate: Covariate, wanted: np.ndarray, read: np.ndarray) -> dict[str, float]:
    """Correlation and mean difference of two readings [N] of a number, or how often two of a level agree."""
    if len(wanted) < FEWEST:
        return {}
    if covariate.is_continuous:
        return {"r": correlation(wanted, read), "mae": float(np.abs(read - wanted).mean())}
    return {"accuracy": float(np.mean(np.rint(read) == np.rint(wanted)))}


METRICS = (
    Metric(
        name="heads",
        help="what the model's own discriminator reads, and whether the instrument agrees",
        of_model=_of_model,
        needs=frozenset({Need.NETWORKS}),
        settings=(SplitSettings,),
        reads_split=EvalContext.covariate_readers,
        place=105,
    ),
)
