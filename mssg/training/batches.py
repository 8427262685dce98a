"""What a step draws: real images with their conditions, and the latents and conditions of its fakes.

Draws are made for the whole global batch and each process keeps its rows: they are functions of (seed, step)
and do not depend on how many processes there are.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from mssg.covariates.system import CovariateModels, fit_models
from mssg.data.dataset import PackedSource, open_sources
from mssg.data.loader import MultiSourceLoader
from mssg.data.slice_pairs import SlicePairs, slice_pairs
from mssg.study.model import Study
from mssg.study.train_config import TrainConfig
from mssg.training.distributed import World
from mssg.training.run import Run


@dataclass(frozen=True)
class FakeBatch:
    """Latents and conditions of fakes.

    Attributes:
        z: float32 [B, z_dim].
        c: Encoded conditions [B, K].
        beside: The same one slice further, where D sees pairs of slices; else None.
        mask: Which covariates G is held to by what D reads, bool [B, V]: not the position where D judges a
            slice by its place. It cannot be read off slices beyond the head, and asking for it there asks
            for tissue.
        counts: How many rows of the global batch count for each covariate, float32 [V].
    """

    z: Tensor
    c: Tensor
    mask: Tensor
    counts: Tensor
    beside: Tensor | None = None


@dataclass(frozen=True)
class RealBatch:
    """Real images and what is known about them.

    Attributes:
        images: float32 [B, C, H, W] in [−1, 1]; [B, 2C, H, W] where D sees pairs of slices.
        c: Encoded, completed conditions [B, K].
        mask: Which covariates count, bool [B, V].
        counts: How many rows of the global batch count for each covariate, float32 [V].
    """

    images: Tensor
    c: Tensor
    mask: Tensor
    counts: Tensor


@dataclass(frozen=True)
class StepBatch:
    """All that one step draws: real images, fakes for G's phases, fakes for D's."""

    real: RealBatch
    fakes_for_G: FakeBatch
    fakes_for_D: FakeBatch


@dataclass(frozen=True)
class TrainingData:
    """What batches are drawn from: the fitted study, its sources and its covariate models."""

    study: Study
    sources: tuple[PackedSource, ...]
    models: CovariateModels
    loader: MultiSourceLoader
    config: TrainConfig
    world: World
    pairs: SlicePairs | None = None

    def batch(self, step: int) -> StepBatch:
        """This process's rows of a step's batch."""
        return StepBatch(self._real(step), self._fakes(step, 0), self._fakes(step, 1))

    def _real(self, step: int) -> RealBatch:
        rng = np.random.default_rng([self.config.seed, 3, step])
        batch, device, mine = self.loader.batch(step), self.world.device, self.world.rows
        images = torch.from_numpy(batch.images).to(device).float() / 127.5 - 1
        if self.config.mirror:
            flip = torch.from_numpy(rng.random(self.config.batch)[mine] < 0.5).to(device)
            images = torch.where(flip[:, None, None, None], images.flip(3), images)
        completed = self.models.complete(batch.global_values, rng)[mine]
        counted = batch.observed & np.isfinite(batch.values)
        if self.config.covariate_target == "completed":
            counted = np.ones_like(counted)
        mask = torch.from_numpy(counted).to(device)
        c = torch.from_numpy(self.study.encode(completed)).to(device)
        return RealBatch(images, c, mask, self.world.sum(mask.sum(0).float()))

    def _fakes(self, step: int, phase: int) -> FakeBatch:
        """Label rows of every source, completed afresh (docs/method/method.md section 5)."""
        rng = np.random.default_rng([self.config.seed, 2, step, phase])
        n, device, mine = self.config.batch, self.world.device, self.world.rows
        values, _ = self.loader.conditions(2 * step + phase, n)
        completed = self.models.complete(values, rng)
        c, beside = torch.from_numpy(self.study.encode(completed)), None
        if self.pairs:
            completed[:, self.study.index(str(self.study.position))] += self.pairs.step
            beside = torch.from_numpy(self.study.encode(completed))[mine].to(device)
        z = torch.from_numpy(rng.standard_normal((n, self.config.z_dim), dtype=np.float32))
        mask = torch.ones(n, len(self.study.conditions), dtype=torch.bool, device=device)
        if self.config.d_position_frequencies:
            mask[:, self.study.index(str(self.study.position))] = False
        return FakeBatch(z[mine].to(device), c[mine].to(device), mask[mine], mask.sum(0).float(), beside)


def open_training_data(run: Run, world: World) -> TrainingData:
    """Open the data, fit statistics and covariate models on the training split. The same in every process."""
    config = run.config
    sources = open_sources(run.study)
    tables = [source.columns(run.study, "train") for source in sources]
    study = run.study.fit_statistics(tables)
    models = fit_models(study, tables, np.random.default_rng([config.seed, 1]))
    pairs = slice_pairs(sources, study) if config.slice_pairs else None
    loader = MultiSourceLoader(
        sources,
        study,
        "train",
        batch_size=config.batch,
        seed=config.seed,
        rank=world.rank,
        world=world.size,
        pairs=pairs,
    )
    return TrainingData(study, sources, models, loader, config, world, pairs)
