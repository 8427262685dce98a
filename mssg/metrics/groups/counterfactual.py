"""Real images inverted, edited, inverted again (`mssg.metrics.counterfactual`)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from mssg.errors import UsageError
from mssg.metrics.context import EvalContext
from mssg.metrics.counterfactual import GeneratorEditor, counterfactual
from mssg.metrics.metric import Metric, Need
from mssg.metrics.model import EvaluatedModel, own_values
from mssg.metrics.results import Result
from mssg.metrics.settings import Settings, option


@dataclass(frozen=True)
class CounterfactualSettings(Settings):
    """Of counterfactuals."""

    counterfactual_images: int = option(32, "Real images that are inverted and edited.", least=8)
    invert_steps: int = option(200, "Steps of each inversion.", least=1)
    invert_features: str = option(
        "discriminator", "What sees the image beside its pixels, as in `mssg invert --features`.", kind=str
    )


def _of_model(context: EvalContext, model: EvaluatedModel) -> Iterator[Result]:
    from mssg.inversion.projector import InvertConfig

    snapshot, data, seed = model.networks, context.data, context.options.seed
    asked, study = context.options.of(CounterfactualSettings), snapshot.study
    if set(model.record.covariates) != set(study.condition_names):
        raise UsageError("a model that is not told a covariate edits none", field=model.label)
    rng = context.rng(41)
    rows = np.sort(rng.permutation(len(data))[: asked.counterfactual_images])
    known = context.instruments.by_covariate
    config = InvertConfig(steps=asked.invert_steps, features=asked.invert_features, seed=seed)
    editor = GeneratorEditor(snapshot, config, cache=context.sampler.drawn)
    for result in counterfactual(
        editor,
        study,
        snapshot.models,
        images=data.images(rows),
        values=own_values(snapshot, data.study, context.requests[rows], rng=rng),
        measure=context.instruments.measure,
        instruments={k: v for k, v in known.items() if k in study.condition_names},
        model=model.label,
        split=data.split,
        seed=seed,
        progress=context.sampler.progress,
    ):
        how = {"steps": asked.invert_steps, "features": asked.invert_features}
        yield replace(result, detail={**result.detail, **how})


METRICS = (
    Metric(
        name="counterfactual",
        help="real images inverted and edited: composition, effectiveness, reversibility, minimality",
        of_model=_of_model,
        needs=frozenset({Need.NETWORKS}),
        settings=(CounterfactualSettings,),
        place=150,
    ),
)
