"""Validation inside training: the control measure where an oracle exists, and D's covariate losses on
held-out images."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch

from mssg.losses.covariate import CovariateLoss, CovariateTerms, added
from mssg.measure.instruments import instrument
from mssg.metrics.control import control
from mssg.metrics.sampling import generator_of
from mssg.networks.discriminator import Discriminator
from mssg.networks.generator import Generator
from mssg.training.batches import TrainingData
from mssg.training.state import TrainState

ROWS_AT_A_TIME = 48


class Validation:
    """Measures the averaged generator, and D on the validation split; every result is a function of
    (networks, seed)."""

    def __init__(self, data: TrainingData) -> None:
        self._data = data

    def __call__(self, state: TrainState) -> tuple[dict[str, float], float | None]:
        """Measure what the configuration asks for.

        Returns:
            Values by stats.jsonl key, and one score, higher is better, or None where nothing was asked for:
            the mean of r (shared covariates) and partial r (others) if there is an oracle, else minus the
            covariate loss.
        """
        metrics, study = self._data.config.metrics, self._data.study
        values: dict[str, float] = {}
        score = None
        if "covariates" in metrics and state.D.config.head == "covariates":
            losses = self._covariate_losses(state.D)
            values |= {f"metric/validation/{name}": loss for name, loss in losses.items()}
            score = -sum(losses.values()) if losses else None
        if "control" in metrics and study.instrument:
            control_values, score = self._control(state.G_ema)
            values |= control_values
        return values, score

    def _control(self, G_ema: Generator) -> tuple[dict[str, float], float | None]:
        data, config = self._data, self._data.config
        report = control(
            generator_of(G_ema, data.study, data.world.device),
            data.study,
            data.models,
            instrument(data.study.instrument).measure,
            n=config.metric_images,
            seed=config.seed,
            designs=("a", "b"),
        )
        values, scores = {}, []
        for row in report.headline:
            name = "partial_r" if row.design == "b" else "r"
            headline = getattr(row, name)
            scores.append(headline if np.isfinite(headline) else 0.0)
            key = f"metric/control/{row.covariate}"
            values |= {f"{key}/{name}": headline, f"{key}/slope": row.slope, f"{key}/mae": row.mae}
        return values, float(np.mean(scores)) if scores else None

    @torch.no_grad()
    def _covariate_losses(self, D: Discriminator) -> dict[str, float]:
        """D's loss per covariate on the images of the validation split that record it.

        Images go through D in whole minibatch-standard-deviation groups; what is left of a source is not
        looked at.
        """
        data, config, loss = self._data, self._data.config, CovariateLoss(self._data.study)
        parts: list[CovariateTerms] = []
        rng = np.random.default_rng([config.seed, 5])
        for source in data.sources:
            rows = np.sort(rng.permutation(source.rows("val"))[: config.metric_images])
            for part in in_whole_groups(rows, config.mbstd_group):
                images = torch.from_numpy(source.images[part]).to(data.world.device).float() / 127.5 - 1
                c = torch.from_numpy(data.study.encode(source.values[part])).to(data.world.device)
                mask = torch.from_numpy(np.isfinite(source.values[part])).to(data.world.device)
                parts.append(loss(D(images, c)[:, 1:], c, mask)[1])
        return added(parts).means() if parts else {}


def in_whole_groups(rows: np.ndarray, group: int) -> Iterator[np.ndarray]:
    """Rows [n] in parts of at most about ROWS_AT_A_TIME, each a whole number of minibatch-standard-deviation
    groups; fewer rows than a group are a group of their own."""
    group = min(group, len(rows))
    size = max(group, ROWS_AT_A_TIME - ROWS_AT_A_TIME % max(group, 1))
    whole = len(rows) - len(rows) % max(group, 1)
    for start in range(0, whole, size or 1):
        yield rows[start : min(start + size, whole)]
