"""One evaluation: the chosen metrics of the real images and of each model.

Every metric stands alone: where one cannot be computed, a note says why and the others go on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial

import numpy as np
import torch

from mssg.features.extractors import FeatureNetwork
from mssg.metrics import registry
from mssg.metrics.context import EvalContext
from mssg.metrics.dataset import EvalDataset
from mssg.metrics.instruments import Instruments
from mssg.metrics.metric import Metric
from mssg.metrics.model import EvaluatedModel
from mssg.metrics.own_errors import beside_own_errors
from mssg.metrics.results import Evaluation, Note, Result, is_oracle
from mssg.metrics.sampling import CachedSampler
from mssg.metrics.settings import EvaluationOptions
from mssg.metrics.strata_won import with_strata_won
from mssg.version import __version__


def evaluate(
    *,
    data: EvalDataset,
    models: Sequence[EvaluatedModel],
    options: EvaluationOptions,
    sampler: CachedSampler,
    instruments: Instruments,
    features: FeatureNetwork | None = None,
    notes: Sequence[Note] = (),
    command: str = "",
) -> Evaluation:
    """Compute everything that is asked for.

    Args:
        models: What is evaluated, side by side.
        options: See `mssg.metrics.registry.options`.
        features: The feature network; may be None where no metric needs one.
        notes: What is to be read with care already.

    Raises:
        DataError: The feature network does not accept these images: found out before any work is done.
        UsageError: A choice that does not go with the study.
    """
    metrics = registry.chosen(options.metrics)
    for settings in options.settings.values():
        settings.check(data.study)
    if features is not None:
        features(data.images(slice(0, 2)))
    context = EvalContext(
        data=data,
        sampler=sampler,
        options=options,
        instruments=instruments,
        features=features,
        reads_real=[m.reads_real for m in metrics if m.reads_real],
        reads_split=[m.reads_split for m in metrics if m.reads_split],
        notes=[*notes, *_seen_before(data, instruments)],
    )
    results = beside_own_errors(context, _results(context, metrics, models))
    sizes = {"images": len(context.picks), "features": features and features.name}
    found = Evaluation(
        study=data.study.name,
        split=data.split,
        seed=options.seed,
        models=tuple(m.record for m in models),
        results=tuple(results),
        notes=tuple(dict.fromkeys(context.notes)),
        command=command,
        options=options.to_json() | sizes,
        versions={"mssg": __version__, "torch": torch.__version__, "numpy": np.__version__},
    )
    return with_strata_won(found)


def _seen_before(data: EvalDataset, instruments: Instruments) -> Iterator[Note]:
    """What is read by something that may have learned from the very images of this split."""
    learned = ", ".join(n for n, by in instruments.by_covariate.items() if not is_oracle(by))
    if learned and data.split != "test":
        yield Note(
            f"{data.split} split",
            f"predictors of {learned} have learned from images of this split: that they read these real"
            " images well says nothing of new ones",
        )


def _results(
    context: EvalContext, metrics: Sequence[Metric], models: Sequence[EvaluatedModel]
) -> list[Result]:
    """All results, of real images first."""
    results = []
    for metric in metrics:
        if metric.of_real:
            results += _run(metric, context, metric.name, partial(metric.of_real, context))
    for model in models:
        for metric in metrics:
            about = f"{model.label}: {metric.name}" if len(models) > 1 else metric.name
            results += _run(metric, context, about, partial(metric.of_model, context, model))
    return results


def _run(
    metric: Metric, context: EvalContext, about: str, compute: Callable[[], Iterable[Result]]
) -> list[Result]:
    """Results of a metric that has what it needs, or a note."""

    def checked() -> Iterable[Result]:
        metric.check(context)
        return compute()

    return context.attempt(about, checked)
