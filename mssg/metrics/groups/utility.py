"""Predictors trained on generated images, against ones trained on real images (`mssg.metrics.utility`)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from mssg.metrics.context import EvalContext
from mssg.metrics.metric import Metric, Need
from mssg.metrics.model import EvaluatedModel
from mssg.metrics.results import Result
from mssg.metrics.sampling import Numbers
from mssg.metrics.settings import Settings, option


@dataclass(frozen=True)
class UtilitySettings(Settings):
    """Of utility."""

    utility_images: int | None = option(
        None, "Images a predictor is trained on for utility. Default: as many as are real.", least=32
    )
    utility_epochs: int | None = option(
        None, "Passes over them at most. Default: 10, more where they are few.", least=1
    )


def _of_model(context: EvalContext, model: EvaluatedModel) -> Iterator[Result]:
    from mssg.metrics.utility import utility

    data, seed, asked = context.data, context.options.seed, context.options.of(UtilitySettings)
    known = np.concatenate([s.values[s.rows("train")] for s in data.sources])
    rng = context.rng(51)
    rows = np.sort(rng.permutation(len(known))[: asked.utility_images or len(known)])
    requests = data.models.complete(known[rows], rng)
    images = [s.info.get("sha256") for s in data.sources]

    def keep(whose: str, compute: Callable[[], Numbers]) -> Numbers:
        """Readings of a trained predictor: training on real images is the same for all models, and none is
        repeated."""
        who = whose != "real" and model.identity
        what = [images, requests, data.split, asked.utility_epochs, seed, context.sampler.device]
        return context.sampler.drawn.get(["utility", who, *what], compute)

    yield from utility(
        data.study,
        data.sources,
        model.generate,
        requests,
        test_images=data.images(slice(None)),
        test_values=data.values,
        model=model.label,
        split=data.split,
        seed=seed,
        epochs=asked.utility_epochs,
        device=context.sampler.device,
        keep=keep,
    )


METRICS = (
    Metric(
        name="utility",
        help="predictors trained on generated images, tested on real ones",
        of_model=_of_model,
        needs=frozenset({Need.TRAINING_IMAGES}),
        settings=(UtilitySettings,),
        place=170,
    ),
)
