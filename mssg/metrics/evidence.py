"""Counterfactuals, memorisation and utility as groups of an evaluation (`mssg evaluate --metrics …`)."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from mssg.data.dataset import PackedSource
from mssg.errors import UsageError
from mssg.features.extractors import Features
from mssg.metrics.evaluation import Evaluator
from mssg.metrics.frame import Contender, Frame
from mssg.metrics.results import Result
from mssg.metrics.sampling import Numbers

PIXEL_SIDE = 32
"""Images are compared pixel by pixel after shrinking them to at most this side."""
CLOSEST = 12
"""Pairs an eval.json names for the gallery."""
Z95 = 1.959964


def counterfactuals(e: Evaluator, contender: Contender) -> Iterator[Result]:
    """Real images inverted, edited, inverted again: see `mssg.metrics.counterfactual`."""
    from mssg.inversion.projector import InvertConfig
    from mssg.metrics.counterfactual import GeneratorEditor, counterfactual

    study, snapshot = contender.snapshot.study, contender.snapshot
    if set(contender.model.covariates) != set(study.condition_names):
        raise UsageError("a model that is not told a covariate edits none", field=contender.model.label)
    rng = np.random.default_rng([e.options.seed, 41])
    rows = np.sort(rng.permutation(len(e.frame))[: e.options.counterfactual_images])
    values = np.full((len(rows), len(study.conditions)), np.nan)
    for j, name in enumerate(study.condition_names):
        if name in e.frame.study.condition_names:
            values[:, j] = e.requests[rows, e.frame.study.index(name)]
    values = snapshot.models.complete(values, rng)
    features = e.options.invert_features
    config = InvertConfig(steps=e.options.invert_steps, features=features, seed=e.options.seed)
    editor = GeneratorEditor(snapshot, config, store=e.bench.drawn)
    by = {k: v for k, v in e.instruments.by_covariate.items() if k in study.condition_names}
    for result in counterfactual(
        editor,
        study,
        snapshot.models,
        e.instruments.measure,
        e.frame.images(rows),
        values,
        by,
        contender.model.label,
        e.frame.split,
        e.options.seed,
        progress=e.bench.progress,
    ):
        result.detail.update({"steps": e.options.invert_steps, "features": features})  # type: ignore[attr-defined]
        yield result


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


def drawn_for_memorisation(seed: int, requests: np.ndarray, contender: Contender, n: int) -> np.ndarray:
    """The generated images that are searched for copies: uint8 [n, C, H, W], the same whenever asked."""
    rows = np.random.default_rng([seed, 43]).integers(len(requests), size=n)
    parts = []
    for number, start in enumerate(range(0, n, 250)):
        own = int(np.random.SeedSequence([seed, 44, number]).generate_state(1)[0])
        parts.append(contender.generate(requests[rows[start : start + 250]], own))
    return np.concatenate(parts)


def copies(e: Evaluator, contender: Contender, features: Features | None) -> Iterator[Result]:
    """Nearest training images in features, where there are any, and in pixels: see
    `mssg.metrics.memorisation`."""
    from mssg.metrics.memorisation import memorisation

    if e.frame.split == "train":
        raise UsageError(
            "memorisation needs images that were not trained on",
            field="--split",
            found="train",
            expected="test or val",
        )
    train = TrainingImages(e.frame.sources)
    places, n = train.places, e.options.memorisation_images
    fakes = drawn_for_memorisation(e.options.seed, e.requests, contender, n)
    held = e.frame.images(slice(0, len(e.frame)))
    spaces = {}
    if features is not None:
        read = e.bench.read("training images", train.images, len(places), e.readers(False, True))["features"]
        spaces[features.name] = features(fakes), read, e.real["features"]
    spaces["pixels"] = tuple(shrunk(x) for x in (fakes, train.images(slice(None)), held))
    for space, (fake, trained, heldout) in spaces.items():
        found = memorisation(fake, trained, heldout, space)
        closest = [
            {
                "generated": int(g),
                "source": e.frame.sources[places[t][0]].name,
                "row": places[t][1],
                "ratio": float(found.ratio[g]),
            }
            for g, t in found.closest(CLOSEST)
        ]
        detail = found.summary() | {"closest": closest, "n_train": len(places)}
        yield Result(
            f"memorisation-{space}",
            found.share,
            contender.model.label,
            n,
            len(places),
            wilson(found.share, n),
            features=space,
            split=e.frame.split,
            real_floor=found.false_alarm,
            real_floor_n=len(held),
            detail=detail,
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


def use(e: Evaluator, contender: Contender) -> Iterator[Result]:
    """Predictors trained on generated images, against ones trained on real images: see
    `mssg.metrics.utility`."""
    from mssg.metrics.utility import utility

    frame, options = e.frame, e.options
    known = np.concatenate([s.values[s.rows("train")] for s in frame.sources])
    rng = np.random.default_rng([options.seed, 51])
    rows = np.sort(rng.permutation(len(known))[: options.utility_images or len(known)])
    requests = frame.models.complete(known[rows], rng)
    images = [s.info.get("sha256") for s in frame.sources]

    def keep(whose: str, compute: Callable[[], Numbers]) -> Numbers:
        """Readings of a trained predictor: training on real images is the same for all models, and none is
        repeated."""
        key = [
            "utility",
            whose != "real" and contender.identity,
            images,
            requests,
            frame.split,
            options.utility_epochs,
            options.seed,
            e.bench.device,
        ]
        return e.bench.drawn.get(key, compute)

    everything = slice(0, len(frame))
    yield from utility(
        frame.study,
        frame.sources,
        contender.generate,
        requests,
        frame.images(everything),
        frame.values,
        contender.model.label,
        frame.split,
        options.seed,
        epochs=options.utility_epochs,
        device=e.bench.device,
        keep=keep,
    )


def gallery(
    frame: Frame, contender: Contender, seed: int, result: Result
) -> list[tuple[np.ndarray, np.ndarray, float]]:
    """The most suspect pairs of a memorisation result: (generated, nearest training image, ratio)."""
    fakes = drawn_for_memorisation(seed, frame.requests(seed), contender, result.n)
    by_name = {s.name: s for s in frame.sources}
    pairs = []
    for p in result.detail.get("closest", ()):
        ratio = math.inf if p["ratio"] is None else float(p["ratio"])  # JSON has no infinity
        pairs.append((fakes[p["generated"]], np.asarray(by_name[p["source"]].images[p["row"]]), ratio))
    return pairs
