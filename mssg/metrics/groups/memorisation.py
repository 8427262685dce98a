"""Nearest training images of generated ones, in features and in pixels (`mssg.metrics.memorisation`)."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, partial

import numpy as np

from mssg.data.dataset import PackedSource
from mssg.metrics.bootstrap import Z95
from mssg.metrics.context import EvalContext
from mssg.metrics.dataset import EvalDataset
from mssg.metrics.memorisation import Memorisation, memorisation, verdict
from mssg.metrics.metric import Metric, Need
from mssg.metrics.model import EvaluatedModel
from mssg.metrics.results import Result
from mssg.metrics.sampling import CHUNK, derived_seed
from mssg.metrics.settings import Settings, option

PIXEL_SIDE = 32
"""Images are compared pixel by pixel after shrinking them to at most this side."""
CLOSEST = 12
"""Pairs an eval.json names for the gallery."""


@dataclass(frozen=True)
class MemorisationSettings(Settings):
    """Of memorisation."""

    memorisation_images: int = option(
        1000, "Generated images that are searched for copies of training images.", least=2
    )


@dataclass(frozen=True)
class TrainingImages:
    """All images of the sources that were trained on, one after the other."""

    sources: Sequence[PackedSource]

    @cached_property
    def places(self) -> list[tuple[int, int]]:
        """(source, row) of each."""
        return [(i, int(r)) for i, s in enumerate(self.sources) for r in s.rows("train")]

    def images(self, which: slice | Sequence[int]) -> np.ndarray:
        """uint8 [n, C, H, W]."""
        places = self.places
        chosen = places[which] if isinstance(which, slice) else [places[i] for i in which]
        return np.stack([self.sources[i].images[r] for i, r in chosen])


def _searched(seed: int, requests: np.ndarray, model: EvaluatedModel, n: int) -> np.ndarray:
    """The generated images that are searched for copies: uint8 [n, C, H, W], the same whenever asked."""
    rows = np.random.default_rng([seed, 43]).integers(len(requests), size=n)
    parts = []
    for number, start in enumerate(range(0, n, CHUNK)):
        parts.append(model.generate(requests[rows[start : start + CHUNK]], derived_seed(seed, 44, number)))
    return np.concatenate(parts)


def _of_model(context: EvalContext, model: EvaluatedModel, with_features: bool) -> Iterator[Result]:
    """Suspects in features, where they are asked for, and in pixels."""
    train, n = (
        TrainingImages(context.data.sources),
        context.options.of(MemorisationSettings).memorisation_images,
    )
    fakes = _searched(context.options.seed, context.requests, model, n)
    if with_features:
        readers = context.feature_readers()
        trained = context.sampler.read("training images", train.images, len(train.places), readers)[
            "features"
        ]
        space = context.network.name
        found = memorisation(context.network(fakes), trained, context.real["features"], space)
        yield _result(context, model, train, found)
    trained, held = train.images(slice(None)), context.data.images(slice(None))
    found = memorisation(shrunk(fakes), shrunk(trained), shrunk(held), "pixels")
    yield _result(context, model, train, found)


def _result(
    context: EvalContext, model: EvaluatedModel, train: TrainingImages, found: Memorisation
) -> Result:
    """The share of suspects beside that of real images nobody trained on, and the pairs to look at."""
    n, places = len(found.ratio), train.places
    closest = [
        {
            "generated": int(g),
            "source": train.sources[places[t][0]].name,
            "row": places[t][1],
            "ratio": float(found.ratio[g]),
        }
        for g, t in found.closest(CLOSEST)
    ]
    interval, heldout = wilson(found.share, n), len(found.heldout_ratio)
    _, said = verdict(found.share, interval[0], found.false_alarm, heldout)
    context.note(f"{model.label}: memorisation, {found.space}", said)
    return context.result(
        model,
        metric=f"memorisation-{found.space}",
        value=found.share,
        n=n,
        n_real=len(places),
        ci95=interval,
        features=found.space,
        real_floor=found.false_alarm,
        real_floor_n=heldout,
        detail=found.summary() | {"closest": closest, "n_train": len(places)},
    )


def shrunk(images: np.ndarray) -> np.ndarray:
    """Images uint8 [N, C, H, W] as rows of pixels, means over blocks until no side is above `PIXEL_SIDE`:
    float32 [N, F]."""
    n, c, side = images.shape[:3]
    block = max(1, side // PIXEL_SIDE)
    out = np.empty((n, c * (side // block) ** 2), np.float32)
    for start in range(0, n, 256):
        part = images[start : start + 256].astype(np.float32)
        part = part.reshape(len(part), c, side // block, block, side // block, block).mean((3, 5))
        out[start : start + 256] = part.reshape(len(part), -1)
    return out


def wilson(share: float, n: int) -> tuple[float, float]:
    """95 % interval of a share seen in n images (Wilson 1927)."""
    middle = (share + Z95**2 / (2 * n)) / (1 + Z95**2 / n)
    half = Z95 / (1 + Z95**2 / n) * np.sqrt(share * (1 - share) / n + Z95**2 / (4 * n * n))
    return max(0.0, float(middle - half)), min(1.0, float(middle + half))


def gallery(
    data: EvalDataset, model: EvaluatedModel, seed: int, result: Result
) -> list[tuple[np.ndarray, np.ndarray, float]]:
    """The most suspect pairs of a memorisation result: (generated, nearest training image, ratio)."""
    fakes = _searched(seed, data.requests(seed), model, result.n)
    by_name = {s.name: s for s in data.sources}
    pairs = []
    for p in result.detail.get("closest", ()):
        ratio = math.inf if p["ratio"] is None else float(p["ratio"])  # JSON has no infinity
        pairs.append((fakes[p["generated"]], np.asarray(by_name[p["source"]].images[p["row"]]), ratio))
    return pairs


def nearest_pairs(
    data: EvalDataset, model: EvaluatedModel, seed: int
) -> list[tuple[np.ndarray, np.ndarray, float]]:
    """Images drawn at random, each with its nearest training image in pixels and the distance over that to
    the nearest held-out image: what to look at where nobody searched for copies."""
    train, held = TrainingImages(data.sources), data.images(slice(None))
    fakes, trained = _searched(seed, data.requests(seed), model, CLOSEST), train.images(slice(None))
    found = memorisation(shrunk(fakes), shrunk(trained), shrunk(held), "pixels")
    return [(fakes[i], trained[k], float(found.ratio[i])) for i, k in enumerate(found.index)]


METRICS = (
    Metric(
        name="memorisation",
        help="nearest training images in features and pixels, against those of held-out real images",
        of_model=partial(_of_model, with_features=True),
        needs=frozenset({Need.FEATURES, Need.TRAINING_IMAGES, Need.UNSEEN_IMAGES}),
        settings=(MemorisationSettings,),
        reads_real=EvalContext.feature_readers,
        place=160,
    ),
    Metric(
        name="memorisation_pixels",
        help="the same in pixels alone: quick",
        of_model=partial(_of_model, with_features=False),
        needs=frozenset({Need.TRAINING_IMAGES, Need.UNSEEN_IMAGES}),
        settings=(MemorisationSettings,),
        place=161,
    ),
)
