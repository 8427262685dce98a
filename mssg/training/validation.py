"""Validation inside training: the control measure where an oracle or a predictor reads images, a distance to
held-out images, and D's covariate losses on them."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

from mssg.features.extractors import load_features
from mssg.losses.covariate import CovariateLoss, CovariateTerms, added
from mssg.measure.own_error import OwnError
from mssg.metrics import distribution
from mssg.metrics.control import control
from mssg.metrics.dataset import at_own_place
from mssg.metrics.instruments import open_instruments
from mssg.metrics.own_errors import judged
from mssg.metrics.sampling import generator_of
from mssg.networks.discriminator import Discriminator
from mssg.runs.rows import INSTRUMENT
from mssg.training.batches import TrainingData
from mssg.training.state import TrainState

ROWS_AT_A_TIME = 48
FEWEST_REAL = 10
"""Held-out images that a distance needs."""


class Validation:
    """Measures the averaged generator, and D on the validation split; every result is a function of
    (networks, seed).

    Args:
        data: The study, its sources and models.
        predictors: Files of `mssg predictors`, which read what the study's oracle does not.
    """

    def __init__(self, data: TrainingData, predictors: tuple[str, ...] = ()) -> None:
        self._data = data
        self._instruments, _ = open_instruments(data.study, predictors, data.world.device)
        if "kid" in data.config.metrics:
            self._features = load_features(device=data.world.device)

    def words(self) -> str:
        """What is measured at a snapshot, by what, and what is not."""
        metrics, by, parts = self._data.config.metrics, self._instruments.by_covariate, []
        if "control" in metrics:
            if by:
                parts.append(f"control of {'; '.join(map(self._words_on, by))}")
            if unread := [c.name for c in self._data.study.personal if c.name not in by]:
                why = "which nothing reads off an image (--predictor FILE of `mssg predictors` does)"
                parts.append(f"no control of {', '.join(unread)}, {why}")
        if "kid" in metrics:
            n = len(self._held_out[0])
            here = f"KID in {self._features.name} features to {n} held-out images"
            parts.append(here if n else f"no KID, for there are fewer than {FEWEST_REAL} held-out images")
        if "covariates" in metrics:
            parts.append("D's covariate loss on held-out images, which does not say what G obeys")
        return f"at each snapshot: {'; '.join(parts)}" if parts else "nothing is measured at snapshots"

    def _words_on(self, name: str) -> str:
        """A covariate, what reads it, and what that is worth on real images."""
        own = self._own[name]
        doubt = (
            "" if self._instruments.trusted(name, own) else ": NO BETTER THAN GUESSING, chooses no snapshot"
        )
        return f"{name}, read by {self._instruments.by_covariate[name]} ({own.words()}{doubt})"

    @functools.cached_property
    def _own(self) -> dict[str, OwnError]:
        """What each instrument is worth on held-out real images."""
        data, by = self._data, self._instruments.by_covariate
        images, values, people = self._known
        return judged(
            self._instruments,
            data.study,
            read=self._instruments.measure(images) if len(images) else dict.fromkeys(by, np.empty(0)),
            values=values,
            people=people,
            training=np.concatenate([s.values[s.rows("train")] for s in data.sources]),
            split="val",
        )

    def __call__(self, state: TrainState) -> tuple[dict[str, Any], float | None]:
        """Measure what the configuration asks for.

        Returns:
            Values by stats.jsonl key, those of control beside what their instrument is worth; and one score,
            higher is better, of the first metric named that can be measured (None without any): the mean of r
            (shared covariates) and partial r (others), minus the KID, or minus the covariate loss. What an
            instrument reads no better than a guess has no part in it.
        """
        measures = {"control": self._control, "kid": self._kid, "covariates": self._covariate_losses}
        values: dict[str, Any] = {}
        score = None
        for metric in self._data.config.metrics:
            found, own = measures[metric](state)
            values |= found
            score = own if score is None else score
        return values, score

    def _control(self, state: TrainState) -> tuple[dict[str, Any], float | None]:
        data, config = self._data, self._data.config
        if not self._instruments.by_covariate:
            return {}, None
        report = control(
            generator_of(state.G_ema, data.study, data.world.device),
            data.study,
            data.models,
            self._instruments.measure,
            n=config.metric_images,
            seed=config.seed,
            designs=("a", "b"),
        )
        values: dict[str, Any] = {}
        scores = []
        for row in report.headline:
            name = "partial_r" if row.design == "b" else "r"
            headline = getattr(row, name)
            if self._instruments.trusted(row.covariate, self._own[row.covariate]):
                scores.append(headline if np.isfinite(headline) else 0.0)
            key = f"metric/control/{row.covariate}/"
            values |= {f"{key}{name}": headline, f"{key}slope": row.slope, f"{key}mae": row.mae}
            values[key + INSTRUMENT] = self._instruments.worth(row.covariate, self._own[row.covariate])
        return values, float(np.mean(scores)) if scores else None

    @functools.cached_property
    def _known(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Validation images uint8 [N, C, H, W], at most `metric_images` and, where slices lie at many places,
        at the study's own; what is recorded of them [N, V], and whose they are [N]."""
        data, config = self._data, self._data.config
        rows = [(s, row) for s in data.sources for row in at_own_place(data.study, s, s.rows("val"))]
        rng = np.random.default_rng([config.seed, 7])
        chosen = [rows[i] for i in np.sort(rng.permutation(len(rows))[: config.metric_images])]
        if not chosen:
            return np.empty(0), np.empty((0, len(data.study.conditions))), np.empty(0)
        parts = zip(*((s.images[row], s.values[row], s.subjects[row]) for s, row in chosen))
        images, values, people = map(np.stack, parts)
        return images, values, people

    @functools.cached_property
    def _held_out(self) -> tuple[np.ndarray, np.ndarray]:
        """The validation images and their completed values [N, V]; none where there are fewer than
        FEWEST_REAL."""
        images, values, _ = self._known
        if len(images) < FEWEST_REAL:
            return np.empty(0), np.empty(0)
        return images, self._data.models.complete(values, np.random.default_rng([self._data.config.seed, 8]))

    @functools.cached_property
    def _real_features(self) -> np.ndarray:
        return self._features(self._held_out[0])

    def _kid(self, state: TrainState) -> tuple[dict[str, float], float | None]:
        """KID between held-out images and as many drawn for their covariates, over all sources."""
        images, values = self._held_out
        if not len(images):
            return {}, None
        study, world = self._data.study, self._data.world
        drawn = generator_of(state.G_ema, study, world.device)(values, self._data.config.seed)
        kid = distribution.kid(self._real_features, self._features(drawn)).mean
        return {f"metric/kid/{self._features.name}": kid}, -kid

    @torch.no_grad()
    def _covariate_losses(self, state: TrainState) -> tuple[dict[str, float], float | None]:
        """D's loss per covariate on the images of the validation split that record it.

        Images go through D in whole minibatch-standard-deviation groups; what is left of a source is not
        looked at.
        """
        D: Discriminator = state.D
        if D.config.head != "covariates":
            return {}, None
        data, config, loss = self._data, self._data.config, CovariateLoss(self._data.study)
        parts: list[CovariateTerms] = []
        rng = np.random.default_rng([config.seed, 5])
        for index, source in enumerate(data.sources):
            known = source.rows("val")
            known = known if data.pairs is None else data.pairs.first(index, known)
            rows = np.sort(rng.permutation(known)[: config.metric_images])
            for part in in_whole_groups(rows, config.mbstd_group):
                shown = data.pairs.images(index, source, part) if data.pairs else source.images[part]
                images = torch.from_numpy(shown).to(data.world.device).float() / 127.5 - 1
                c = torch.from_numpy(data.study.encode(source.values[part])).to(data.world.device)
                mask = torch.from_numpy(np.isfinite(source.values[part])).to(data.world.device)
                parts.append(loss(D(images, c)[:, 1:], c, mask)[1])
        losses = added(parts).means() if parts else {}
        values = {f"metric/validation/{name}": value for name, value in losses.items()}
        return values, -sum(losses.values()) if losses else None


def in_whole_groups(rows: np.ndarray, group: int) -> Iterator[np.ndarray]:
    """Rows [n] in parts of at most about ROWS_AT_A_TIME, each a whole number of minibatch-standard-deviation
    groups; fewer rows than a group are a group of their own."""
    group = min(group, len(rows))
    size = max(group, ROWS_AT_A_TIME - ROWS_AT_A_TIME % max(group, 1))
    whole = len(rows) - len(rows) % max(group, 1)
    for start in range(0, whole, size or 1):
        yield rows[start : min(start + size, whole)]
