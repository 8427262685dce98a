"""Are generated images of use? A predictor trained on them, tested on real images, against one trained on
real images.

Source: the measure is known as "train on synthetic, test on real" (Esteban et al. 2017, "Real-valued
(medical) time series generation with recurrent conditional GANs") or classification accuracy score (Ravuri &
Vinyals 2019).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from mssg.data.dataset import PackedSource
from mssg.errors import UsageError
from mssg.features.predictor_training import schedule, train
from mssg.features.predictors import Predictor
from mssg.measure.own_error import constant_guess, reading_errors
from mssg.metrics.bootstrap import mean_and_interval
from mssg.metrics.results import Result
from mssg.study.covariate import Covariate
from mssg.study.model import Study

VALIDATION = 0.15
"""Share of generated images that stops the training early."""
FEWEST = 32

Train = Callable[[Sequence[PackedSource]], Predictor]
Keep = Callable[[str, Callable[[], dict[str, np.ndarray]]], dict[str, np.ndarray]]


def synthetic_source(study: Study, images: np.ndarray, values: np.ndarray, seed: int) -> PackedSource:
    """Generated images as a source to train on: every requested covariate is known.

    Args:
        study: Whose covariates.
        images: uint8 [N, C, H, W].
        values: What was requested, native [N, V].
        seed: Which of them validate.
    """
    held = np.random.default_rng([seed, 31]).permutation(len(images)) < VALIDATION * len(images)
    return PackedSource(
        name="generated",
        path=Path("generated"),
        images=images,
        values=values,
        observed=np.ones(len(study.conditions), bool),
        split=np.where(held, "val", "train"),
        subjects=np.array([f"generated-{i}" for i in range(len(images))]),
        table={},
        info={},
    )


def utility(
    study: Study,
    sources: Sequence[PackedSource],
    generate: Callable[[np.ndarray, int], np.ndarray],
    requests: np.ndarray,
    *,
    test_images: np.ndarray,
    test_values: np.ndarray,
    model: str = "model",
    split: str = "test",
    seed: int = 0,
    architecture: str = "resnet18",
    epochs: int | None = None,
    device: str = "cpu",
    fit: Train | None = None,
    keep: Keep | None = None,
) -> list[Result]:
    """Train the same predictor on real and on generated images, test both on real images neither has seen.

    Args:
        sources: Real images to train on.
        generate: (values [N, V], seed) -> uint8 [N, C, H, W].
        requests: Conditions of the generated images [N, V], nothing missing: those of as many real training
            images.
        test_images: Real images [M, C, H, W].
        test_values: Their covariates [M, V], NaN where unknown.
        model, split: For the results.
        seed: Of training and of what is generated.
        architecture, epochs, device: Of the predictors; as many real images are used as there are requests.
            Epochs None: what so many images need.
        fit: Trains a predictor on sources; None: `mssg.features.predictor_training.train`.
        keep: (whose, compute) -> what `compute` gives, kept where it was computed before; whose is "real" or
            the model.

    Returns:
        Metric "utility/mae" or "utility/accuracy" for each covariate: of the predictor trained on generated
        images; `real_floor` is that of the predictor trained on real ones, `detail` has the guess of one who
        sees no image.

    Raises:
        UsageError: Too few images.
    """
    if len(requests) < FEWEST or len(test_images) < 2:
        raise UsageError(
            "too few images to train a predictor", found=len(requests), expected=f"{FEWEST} or more"
        )

    epochs = schedule(len(requests), epochs=epochs).epochs

    fit = fit or partial(
        train,
        study,
        architecture=architecture,
        epochs=epochs,
        limit=len(requests),
        observed_only=True,
        seed=seed,
        device=device,
    )
    keep = keep or (lambda _, compute: compute())

    def of_generated() -> dict[str, np.ndarray]:
        images = np.asarray(generate(requests, seed))
        return fit([synthetic_source(study, images, requests, seed)]).measure(test_images)

    real = keep("real", lambda: fit(sources).measure(test_images))
    fake = keep(model, of_generated)
    rng = np.random.default_rng([seed, 33])
    how = {"trained_on": len(requests), "architecture": architecture, "epochs": epochs}
    compared = _compared(study, sources, test_values, fake=fake, real=real)
    return [found.result(how, model=model, split=split, rng=rng) for found in compared]


def _compared(
    study: Study,
    sources: Sequence[PackedSource],
    truth: np.ndarray,
    *,
    fake: Mapping[str, np.ndarray],
    real: Mapping[str, np.ndarray],
) -> Iterator[_Compared]:
    """What both predictors say, for each covariate that test images record [M, V] and predictors read."""
    for v, covariate in enumerate(study.conditions):
        known = np.isfinite(truth[:, v])
        if known.any() and covariate.name in real:
            yield _Compared(
                covariate,
                truth=truth[known, v],
                fake=fake[covariate.name][known],
                real=real[covariate.name][known],
                training=np.concatenate([s.values[s.rows("train"), v] for s in sources]),
            )


@dataclass(frozen=True)
class _Compared:
    """Readings of one covariate by both predictors and the truth [M], and the values trained on."""

    covariate: Covariate
    truth: np.ndarray
    fake: np.ndarray
    real: np.ndarray
    training: np.ndarray

    def result(self, how: Mapping[str, Any], *, model: str, split: str, rng: np.random.Generator) -> Result:
        """The predictor trained on generated images beside the one trained on real ones."""
        covariate, guess = self.covariate, constant_guess(self.covariate, self.training)
        errors, floor = (reading_errors(covariate, self.truth, x) for x in (self.fake, self.real))
        value, interval, n = mean_and_interval(errors, rng)
        detail: dict[str, Any] = {
            "blind_guess": float(reading_errors(covariate, self.truth, guess).mean()),
            **how,
            "difference_ci95": list(mean_and_interval(errors - floor, rng)[1] or ()),
        }
        return Result(
            metric="utility/mae" if covariate.is_continuous else "utility/accuracy",
            value=value,
            model=model,
            n=how["trained_on"],
            n_real=n,
            ci95=interval,
            instrument=f"predictor-{how['architecture']}",
            split=split,
            covariate=covariate.name,
            unit=covariate.unit or None,
            reference="label",
            real_floor=float(floor.mean()),
            real_floor_n=n,
            detail=detail,
        )
