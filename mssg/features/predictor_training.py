"""Making a predictor from real images, and judging it on others.

Few images make a regression on features (`mssg.features.ridge`), many a network. Source of the latter:
docs/method/method.md section 7 (ResNet, Adam with OneCycle, early stopping). The original starts from
ImageNet weights; these start from scratch, or from a file of weights, and say so.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from mssg.data.dataset import PackedSource
from mssg.errors import UsageError
from mssg.features import ridge
from mssg.features.labelled import LabelledImages, labelled, or_refuse
from mssg.features.predictors import AUTO, BATCH, RESNETS, UNTRAINED, Predictor, build, check_architecture
from mssg.features.pretrained import start_from
from mssg.losses.covariate import CovariateLoss
from mssg.measure.own_error import ENOUGH_PEOPLE, IN_TURN, constant_guess, own_error
from mssg.study.model import Study

FEW_IMAGES = 1000
"""Training images below which `AUTO` is a regression: a network learns little from fewer."""
SMALLEST_BATCH = 8
RATE = 1e-2
"""Highest learning rate at `BATCH`; it goes with the batch."""
STEPS, EPOCHS, PATIENCE = 240, 10, 3
"""Least steps of a training, least passes over the images, and passes that are waited for a better one."""


@dataclass(frozen=True)
class Schedule:
    """Images a step, passes over all images at most, and passes without a better validation loss before
    stopping."""

    batch: int
    epochs: int
    patience: int


def schedule(
    n: int, batch: int | None = None, epochs: int | None = None, patience: int | None = None
) -> Schedule:
    """The schedule of training on n images; what is given stays.

    Few images are taken in small batches and often: a network needs a number of steps, whatever n is. Then it
    goes through the whole cycle of learning rates: validation rises in its middle and is best at its end.
    """
    nearest = 2 ** round(math.log2(max(n / 8, 1)))
    batch = batch or int(min(max(nearest, SMALLEST_BATCH), BATCH))
    epochs = epochs or max(EPOCHS, math.ceil(STEPS / math.ceil(n / batch)))
    return Schedule(batch, epochs, patience or (PATIENCE if epochs <= EPOCHS else epochs))


def train(
    study: Study,
    sources: Sequence[PackedSource],
    architecture: str = AUTO,
    *,
    epochs: int | None = None,
    patience: int | None = None,
    limit: int = 1_000_000,
    batch: int | None = None,
    init: str | Path | None = None,
    class_weights: bool = False,
    observed_only: bool = False,
    seed: int = 0,
    device: str = "cpu",
    progress: Callable[[dict[str, Any]], None] | None = None,
) -> Predictor:
    """Make a predictor of every covariate of a study, each from all images whose table records it.

    Args:
        study: With fitted statistics.
        architecture: One of `ARCHITECTURES`; `AUTO`: a regression below `FEW_IMAGES` training images; else,
            or where passes are given, a network.
        epochs, patience, batch: See `Schedule`; None: what n needs.
        limit: Training images used at most.
        init: Weights that a network starts from (`mssg.features.pretrained`); None: drawn at random.
        class_weights: Rare levels count as much as frequent ones in a network's loss.
        observed_only: From the sources that observe a covariate alone, not from what their tables keep
            beside.
        seed: Of weights, order and folds.
        progress: Called with {"epoch", "loss", "validation"} after every epoch of a network.

    Returns:
        The regression, or the network of the best epoch, with its own error on the test split (on validation
        where there is no test split). Where the test split has too few people, a regression's is on people
        left out in turn, the test split among them.

    Raises:
        DataError: A split is empty that is needed.
    """
    check_architecture(architecture)
    of_network = {"--epochs": epochs, "--patience": patience, "--init": init}
    of_network["--class-weights"] = class_weights or None
    given = [name for name, value in of_network.items() if value is not None]
    if architecture == ridge.NAME and given:
        raise UsageError("a regression is not trained as a network is", field=", ".join(given))
    rng = np.random.default_rng(seed)
    taken = partial(labelled, study, sources, limit=limit, observed_only=observed_only, rng=rng)
    rows = or_refuse(taken("train"), sources, "train")
    if architecture == AUTO:
        architecture = ridge.NAME if len(rows.images) < FEW_IMAGES and not given else RESNETS[0]
    held, unseen = (taken(split) for split in ("val", "test"))
    if architecture == ridge.NAME:
        return _regression(study, rows.and_also(held), unseen, limit=limit, seed=seed, device=device)
    held = or_refuse(held, sources, "val")
    torch.manual_seed(seed)
    network = build(architecture, study, UNTRAINED if init is None else str(init))
    pretrained = UNTRAINED if init is None else start_from(network, init)
    plan = schedule(len(rows.images), batch, epochs, patience)
    weigh = _level_weights(study, rows.values) if class_weights else None
    network = _trained(
        network.to(device), study, rows, held, plan=plan, weigh=weigh, seed=seed, progress=progress
    )
    predictor = Predictor(study, architecture, network, (), pretrained)
    return _judged(predictor, rows, *(("test", unseen) if len(unseen.images) else ("val", held)))


def _judged(predictor: Predictor, rows: LabelledImages, split: str, judge: LabelledImages) -> Predictor:
    """A network with its own error on images of a split; `rows`: what it was trained on."""
    found = predictor.measure(judge.images)
    errors = [
        own_error(
            covariate,
            judge.values[:, v],
            found[covariate.name],
            guess=constant_guess(covariate, rows.values[:, v]),
            people=judge.people,
            on=split,
        )
        for v, covariate in enumerate(predictor.study.conditions)
    ]
    return replace(predictor, errors=tuple(e for e in errors if e.n))


def _level_weights(study: Study, values: np.ndarray) -> Callable[[np.ndarray], NDArray[np.float32]]:
    """What rows [n, V] count for each covariate, so that each level counts the same; 1 for numbers."""
    tables = []
    for v, covariate in enumerate(study.conditions):
        known = values[np.isfinite(values[:, v]), v]
        counts = np.ones(1) if covariate.is_continuous else np.bincount(known.astype(int), minlength=1)
        tables.append(len(known) / np.maximum(counts, 1) / np.count_nonzero(counts))

    def weights(rows: np.ndarray) -> NDArray[np.float32]:
        out = np.ones(rows.shape, np.float32)
        for v, covariate in enumerate(study.conditions):
            known = np.isfinite(rows[:, v])
            if not covariate.is_continuous:
                place = np.minimum(rows[known, v].astype(int), len(tables[v]) - 1)
                out[known, v] = tables[v][place]
        return out

    return weights


def _trained(
    network: nn.Module,
    study: Study,
    rows: LabelledImages,
    held: LabelledImages,
    *,
    plan: Schedule,
    weigh: Callable[[np.ndarray], NDArray[np.float32]] | None,
    seed: int,
    progress: Callable[[dict[str, Any]], None] | None,
) -> nn.Module:
    """The network of the epoch that reads `held` best."""
    rng = np.random.default_rng([seed, 1])
    covariate_loss, device = CovariateLoss(study), next(network.parameters()).device

    def loss_of(part: LabelledImages, which: np.ndarray) -> torch.Tensor:
        x = torch.from_numpy(part.images[which]).to(device).float() / 127.5 - 1
        values = part.values[which]
        c = torch.from_numpy(study.encode(values)).to(device)
        known = torch.from_numpy(np.isfinite(values)).to(device)
        weights = torch.from_numpy(weigh(values)).to(device) if weigh else None
        return covariate_loss(network(x), c, known, weights=weights)[0]

    steps, rate = math.ceil(len(rows.images) / plan.batch), RATE * plan.batch / BATCH
    optimiser = torch.optim.Adam(network.parameters(), lr=rate)
    slope = torch.optim.lr_scheduler.OneCycleLR(optimiser, rate, total_steps=steps * plan.epochs)
    best, best_loss, stale = copy.deepcopy(network.state_dict()), math.inf, 0
    for epoch in range(plan.epochs):
        network.train()
        order = np.array_split(rng.permutation(len(rows.images)), steps)
        total = _epoch((loss_of(rows, which) for which in order), optimiser, slope) / steps
        network.eval()
        with torch.no_grad():
            chunks = np.array_split(np.arange(len(held.images)), math.ceil(len(held.images) / BATCH))
            validation = float(np.mean([loss_of(held, c).item() for c in chunks]))
        if validation < best_loss:
            best, best_loss, stale = copy.deepcopy(network.state_dict()), validation, 0
        else:
            stale += 1
        if progress:
            progress({"epoch": epoch + 1, "loss": total, "validation": validation})
        if stale >= plan.patience:
            break
    network.load_state_dict(best)
    return network.eval()


def _epoch(
    losses: Iterator[torch.Tensor],
    optimiser: torch.optim.Optimizer,
    slope: torch.optim.lr_scheduler.LRScheduler,
) -> float:
    """A step for each loss as it comes; their sum."""
    total = 0.0
    for loss in losses:
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
        slope.step()
        total += loss.item()
    return total


def _regression(
    study: Study, rows: LabelledImages, unseen: LabelledImages, *, limit: int, seed: int, device: str
) -> Predictor:
    """The ridge regression, and its own error on people that no fit behind a reading had seen."""
    most = min(limit, ridge.MOST_ROWS)
    if len(rows.images) > most:
        few = np.sort(np.random.default_rng([seed, 2]).permutation(len(rows.images))[:most])
        rows = LabelledImages(rows.images[few], rows.values[few], rows.people[few])
    fitted = ridge.fit(study, rows.images, rows.values, rows.people.tolist(), seed)
    predictor = Predictor(study, ridge.NAME, fitted.network.to(device), ())
    read, errors = predictor.measure(unseen.images) if len(unseen.images) else {}, []
    left_out = study.decode(fitted.left_out)
    for v, covariate in enumerate(study.conditions):
        truth, found, people = unseen.values[:, v], read.get(covariate.name, np.zeros(0)), unseen.people
        enough = unseen.people_with(v) >= ENOUGH_PEOPLE
        if not enough:
            truth = np.concatenate([truth, rows.values[:, v]])
            found, people = np.concatenate([found, left_out[:, v]]), np.concatenate([people, rows.people])
        guess = constant_guess(covariate, rows.values[:, v])
        on = "test" if enough else IN_TURN
        errors.append(own_error(covariate, truth, found, guess=guess, people=people, on=on))
    return replace(predictor, errors=tuple(e for e in errors if e.n))
