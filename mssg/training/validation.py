"""Validation inside training: the control measure where an oracle exists, and D's covariate losses on
held-out images."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from mssg.data.dataset import PackedSource
from mssg.losses.covariate import CovariateLoss
from mssg.measure.instruments import instrument
from mssg.metrics.sampling import BATCH, generator_of
from mssg.networks.discriminator import Discriminator
from mssg.networks.generator import Generator
from mssg.study.model import Study

if TYPE_CHECKING:
    from mssg.covariates.system import CovariateModels


class Validation:
    """Measures the averaged generator, and D on the validation split; every result is a function of
    (networks, seed)."""

    def __init__(
        self,
        study: Study,
        sources: tuple[PackedSource, ...],
        models: CovariateModels,
        metrics: tuple[str, ...],
        images: int,
        seed: int,
    ) -> None:
        self._study, self._sources, self._models = study, sources, models
        self._metrics = tuple(m for m in metrics if m != "control" or study.instrument)
        self._images, self._seed = images, seed

    def __call__(
        self, G_ema: Generator, D: Discriminator, device: str
    ) -> tuple[dict[str, float], float | None]:
        """Measure.

        Returns:
            Values by stats.jsonl key, and one score, higher is better, or None where nothing was asked for:
            the mean of r (shared covariates) and partial r (others) if there is an oracle, else minus the
            covariate loss.
        """
        values: dict[str, float] = {}
        score = None
        if "covariates" in self._metrics:
            losses = self._covariate_losses(D, device)
            values |= {f"metric/validation/{k}": v for k, v in losses.items()}
            score = -sum(losses.values()) if losses else None
        if "control" in self._metrics:
            control, score = self._control(G_ema, device)
            values |= control
        return values, score

    def _control(self, G_ema: Generator, device: str) -> tuple[dict[str, float], float | None]:
        from mssg.metrics.control import control

        report = control(
            generator_of(G_ema, self._study, device),
            self._study,
            self._models,
            instrument(self._study.instrument).measure,
            self._images,
            self._seed,
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
    def _covariate_losses(self, D: Discriminator, device: str) -> dict[str, float]:
        """D's loss per covariate on the images of the validation split that record it."""
        if D.config.head != "covariates":
            return {}
        sums, counts, loss = {}, {}, CovariateLoss(self._study)
        rng = np.random.default_rng([self._seed, 5])
        for source in self._sources:
            rows = source.rows("val")
            rows = np.sort(rng.permutation(rows)[: self._images])
            rows = rows[: len(rows) - len(rows) % min(4, max(1, len(rows)))]
            for start in range(0, len(rows), BATCH - BATCH % 4):
                part = rows[start : start + BATCH - BATCH % 4]
                images = torch.from_numpy(source.images[part]).to(device).float() / 127.5 - 1
                c = torch.from_numpy(self._study.encode(source.values[part])).to(device)
                mask = torch.from_numpy(np.isfinite(source.values[part])).to(device)
                _, terms = loss(D(images, c)[:, 1:], c, mask)
                for name, value in terms.items():
                    n = int(mask[:, self._study.index(name)].sum())
                    sums[name], counts[name] = sums.get(name, 0.0) + float(value) * n, counts.get(name, 0) + n
        return {name: sums[name] / counts[name] for name in sums}
