"""Path length and equivariance (`mssg.metrics.smoothness`)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from mssg.metrics.context import EvalContext
from mssg.metrics.metric import Metric, Need
from mssg.metrics.model import EvaluatedModel, own_values
from mssg.metrics.results import Result
from mssg.metrics.settings import Settings, option

if TYPE_CHECKING:
    import torch

CHUNK = 10
"""Conditions worked on at a time."""


@dataclass(frozen=True)
class SmoothnessSettings(Settings):
    """Of path length and equivariance."""

    smooth_images: int = option(500, "Images for path length and equivariance.", least=2)


def _over_conditions(
    context: EvalContext,
    model: EvaluatedModel,
    label: str,
    compute: Callable[[torch.Tensor, int], np.ndarray],
) -> np.ndarray:
    """A function of (encoded conditions, seed) over chunks of the split's requests; what it gave is kept."""
    import torch

    snapshot, seed = model.networks, context.options.seed
    n = context.options.of(SmoothnessSettings).smooth_images
    values = context.requests[context.rng(29).integers(len(context.requests), size=n)]
    asked = own_values(snapshot, context.data.study, values, rng=context.rng(31))
    parts = []
    for start in range(0, n, CHUNK):
        some = asked[start : start + CHUNK]
        c = torch.from_numpy(snapshot.study.encode(some)).to(snapshot.device)
        key = [*model.identity, label, some, seed + start]
        found = context.sampler.drawn.get(key, lambda c=c, start=start: {"x": compute(c, seed + start)})
        parts.append(found["x"])
        context.sampler.tell(f"{model.label}, {label}", start + len(some), n)
    return np.concatenate(parts)


def _path_length(context: EvalContext, model: EvaluatedModel) -> Iterator[Result]:
    from mssg.metrics import smoothness

    features = context.network
    metric = f"ppl-{features.name}"

    def compute(c: torch.Tensor, seed: int) -> np.ndarray:
        return smoothness.path_distances(model.networks.G, c, features.embed, seed)

    distances = _over_conditions(context, model, metric, compute)
    value, sd = smoothness.path_length(distances)
    yield context.result(
        model,
        metric=metric,
        value=value,
        n=len(distances),
        sd=sd,
        features=features.name,
        detail={"epsilon": smoothness.EPSILON, "distance": "squared Euclidean"},
    )


def _equivariance(context: EvalContext, model: EvaluatedModel) -> Iterator[Result]:
    from mssg.metrics import smoothness

    for name, errors in (("eq_t", smoothness.translation_errors), ("eq_r", smoothness.rotation_errors)):

        def part(name=name, errors=errors) -> Iterator[Result]:
            G = model.networks.G
            found = _over_conditions(context, model, name, lambda c, seed: errors(G, c, seed))
            yield context.result(
                model, metric=name, value=smoothness.decibels(found), n=len(found), unit="dB"
            )

        yield from context.attempt(f"{model.label}: {name}", part)


METRICS = (
    Metric(
        name="ppl",
        help="path length in features",
        of_model=_path_length,
        needs=frozenset({Need.FEATURES, Need.NETWORKS}),
        settings=(SmoothnessSettings,),
        place=140,
    ),
    Metric(
        name="eq",
        help="equivariance to shifts and rotations (StyleGAN3)",
        of_model=_equivariance,
        needs=frozenset({Need.NETWORKS}),
        settings=(SmoothnessSettings,),
        place=141,
    ),
)
