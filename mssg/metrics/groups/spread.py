"""Pixel spread within a class, generated over real: what obedience must not cost (`mssg.metrics.spread`)."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from mssg.metrics.context import EvalContext
from mssg.metrics.groups.control import ControlSettings
from mssg.metrics.metric import Metric
from mssg.metrics.model import EvaluatedModel
from mssg.metrics.results import Result
from mssg.metrics.sampling import derived_seed
from mssg.metrics.spread import ClassVariance, class_covariate, compare, real_variance

STREAM = 23


def _generated(context: EvalContext, model: EvaluatedModel) -> ClassVariance:
    """Variance within each class of images drawn for the split's covariates."""
    study, kind = context.data.study, class_covariate(context.data.study)
    n, chunk = context.options.of(ControlSettings).control_images, context.sampler.chunk
    values = context.requests[context.rng(STREAM).integers(len(context.requests), size=n)]
    found = ClassVariance(kind.width if kind else 1)
    for start in range(0, n, chunk):
        part = values[start : start + chunk]
        level = part[:, study.index(kind.name)] if kind else np.zeros(len(part))
        images = model.generate(part, derived_seed(context.options.seed, STREAM, start))
        found.add(images, level)
    return found


def _of_model(context: EvalContext, model: EvaluatedModel) -> Iterator[Result]:
    data, kind = context.data, class_covariate(context.data.study)
    generated = _generated(context, model)
    real = context.once("real variance", lambda: real_variance(data.sources, data.study))
    for row in compare(generated, real, data.study):
        yield context.result(
            model,
            metric="spread",
            value=row.ratio,
            n=row.n_generated,
            n_real=row.n_real,
            stratum={kind.name: row.level} if kind and row.level != "all" else None,
            detail={"generated": row.generated, "real": row.real},
        )


METRICS = (
    Metric(
        name="spread",
        help="pixel spread within a class, generated over real",
        of_model=_of_model,
        settings=(ControlSettings,),
        default=True,
        place=70,
    ),
)
