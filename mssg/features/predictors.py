"""Predictors: networks trained on real images to read covariates off an image, with their own error on
held-out real images.

Where no oracle exists, they are the instrument that control and strata scores use. Source: docs/method.md
section 7 (ResNet, Adam with OneCycle, early stopping). The original starts from ImageNet weights; these start
from scratch and say so.
"""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save
from torch import nn

from mssg.data.dataset import PackedSource
from mssg.errors import DataError, SnapshotError, UsageError
from mssg.files import parse_json, write_atomically
from mssg.losses.covariate import CovariateLoss
from mssg.study.model import Study
from mssg.study.schema import from_document, to_document

ARCHITECTURES = ("resnet18", "resnet50", "resnet101")
FORMAT_VERSION = 1
BATCH = 64
SMALL_IMAGE = 64  # up to here the stem halves the resolution once, not twice


@dataclass(frozen=True)
class PredictorError:
    """A predictor's own error on real images it has not seen, native units; accuracy for discrete
    covariates."""

    covariate: str
    n: int
    mae: float
    r: float
    accuracy: float


def build(architecture: str, study: Study) -> nn.Module:
    """A ResNet with the study's channels in and one output per column of the condition.

    Raises:
        UsageError: Unknown architecture.
    """
    import torchvision

    if architecture not in ARCHITECTURES:
        raise UsageError(
            "unknown predictor", field="architecture", found=architecture, expected=" | ".join(ARCHITECTURES)
        )
    network = getattr(torchvision.models, architecture)(weights=None, num_classes=study.layout.width)
    small = study.resolution <= SMALL_IMAGE
    kernel = 3 if small else 7
    network.conv1 = nn.Conv2d(study.channels, 64, kernel, stride=2, padding=kernel // 2, bias=False)
    if small:
        network.maxpool = nn.Identity()
    return network


@dataclass(frozen=True)
class Predictor:
    """A trained predictor and what is known about it."""

    study: Study
    architecture: str
    network: nn.Module
    errors: tuple[PredictorError, ...]

    @torch.no_grad()
    def measure(self, images: np.ndarray) -> dict[str, np.ndarray]:
        """Read the covariates off images.

        Args:
            images: uint8 [N, C, H, W].

        Returns:
            Covariate name -> native values float64 [N] (levels by index, binaries 0/1).
        """
        device = next(self.network.parameters()).device
        parts = []
        for start in range(0, len(images), BATCH):
            x = torch.from_numpy(np.array(images[start : start + BATCH])).to(device).float() / 127.5 - 1
            parts.append(to_columns(self.study, self.network(x)).cpu().numpy())
        values = self.study.decode(np.concatenate(parts))
        return {name: values[:, v] for v, name in enumerate(self.study.condition_names)}

    def save(self, path: str | Path) -> Path:
        """Write the predictor as one safetensors file."""
        document = {
            "format_version": FORMAT_VERSION,
            "study": to_document(self.study),
            "architecture": self.architecture,
            "pretrained": "none",
            "errors": [vars(e) for e in self.errors],
        }
        write_atomically(
            Path(path), save(dict(self.network.state_dict()), {"mssg-predictor": json.dumps(document)})
        )
        return Path(path)

    @staticmethod
    def load(path: str | Path, device: str = "cpu") -> Predictor:
        """Read a predictor written by `save`.

        Raises:
            SnapshotError: Missing, damaged, or of an unknown format version.
        """
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(str(path), "pt") as file:
                document = parse_json((file.metadata() or {})["mssg-predictor"])
            tensors = load_file(path)
        except (OSError, SafetensorError, KeyError, ValueError) as error:
            raise SnapshotError(
                "not a usable predictor",
                file=path,
                found=type(error).__name__,
                expected="a file of `mssg predictors`",
            ) from None
        version = document.get("format_version") if isinstance(document, dict) else None
        if version != FORMAT_VERSION:
            raise SnapshotError("unknown format version", file=path, found=version, expected=FORMAT_VERSION)
        try:
            study, architecture = from_document(document["study"], str(path)), document["architecture"]
            errors = tuple(PredictorError(**e) for e in document["errors"])
            network = build(architecture, study)
            network.load_state_dict(tensors)
        except RuntimeError as error:
            raise SnapshotError(
                "its tensors do not fit", file=path, found=str(error).splitlines()[-1].strip()
            ) from None
        except (KeyError, TypeError) as error:
            raise SnapshotError("its description lacks a part", file=path, found=error) from None
        return Predictor(study, architecture, network.eval().to(device), errors)


def to_columns(study: Study, outputs: torch.Tensor) -> torch.Tensor:
    """Outputs -> condition columns: logits of binaries become probabilities, the rest stays."""
    columns = outputs.clone()
    for covariate in study.conditions:
        if covariate.kind == "binary":
            part = study.layout[covariate.name]
            columns[:, part] = torch.sigmoid(outputs[:, part])
    return columns


def _rows(
    sources: Sequence[PackedSource], split: str, limit: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Images and native values of a split, all sources together."""
    picked = [(s, np.sort(rng.permutation(s.rows(split))[: max(1, limit // len(sources))])) for s in sources]
    images = np.concatenate([s.images[rows] for s, rows in picked])
    if not len(images):
        raise DataError(
            "no image in this split",
            file=sources[0].path,
            field="split",
            found=split,
            hint="Prepare the data with a larger share for it",
        )
    return images, np.concatenate([s.values[rows] for s, rows in picked])


def train(
    study: Study,
    sources: Sequence[PackedSource],
    architecture: str = "resnet18",
    *,
    epochs: int = 10,
    patience: int = 3,
    limit: int = 1_000_000,
    batch: int = BATCH,
    seed: int = 0,
    device: str = "cpu",
    progress: Callable[[dict[str, Any]], None] | None = None,
) -> Predictor:
    """Train a predictor of every covariate of a study, each on the sources that record it.

    Args:
        study: With fitted statistics.
        sources: Its opened sources.
        architecture: One of `ARCHITECTURES`.
        epochs: Passes over the training images at most.
        patience: Epochs without a better validation loss before stopping.
        limit: Training images used at most.
        batch: Images a step.
        seed: Of weights and order.
        device: Where to train.
        progress: Called with {"epoch", "loss", "validation"} after every epoch.

    Returns:
        The network of the best epoch, with its own error on the test split (on validation where there is no
        test split).
    """
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    images, values = _rows(sources, "train", limit, rng)
    held = _rows(sources, "val", limit, rng)
    network, covariate_loss = build(architecture, study).to(device), CovariateLoss(study)

    def loss_of(images: np.ndarray, values: np.ndarray) -> torch.Tensor:
        x = torch.from_numpy(images).to(device).float() / 127.5 - 1
        c = torch.from_numpy(study.encode(values)).to(device)
        return covariate_loss(network(x), c, torch.from_numpy(np.isfinite(values)).to(device))[0]

    steps = math.ceil(len(images) / batch)
    optimiser = torch.optim.Adam(network.parameters(), lr=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 1e-2, total_steps=steps * epochs)
    best, best_loss, stale = copy.deepcopy(network.state_dict()), math.inf, 0
    for epoch in range(epochs):
        network.train()
        total = 0.0
        for rows in np.array_split(rng.permutation(len(images)), steps):
            value = loss_of(images[rows], values[rows])
            optimiser.zero_grad(set_to_none=True)
            value.backward()
            optimiser.step()
            schedule.step()
            total += value.item() / steps
        network.eval()
        with torch.no_grad():
            chunks = np.array_split(np.arange(len(held[0])), math.ceil(len(held[0]) / BATCH))
            validation = float(np.mean([loss_of(held[0][c], held[1][c]).item() for c in chunks]))
        if validation < best_loss:
            best, best_loss, stale = copy.deepcopy(network.state_dict()), validation, 0
        else:
            stale += 1
        if progress:
            progress({"epoch": epoch + 1, "loss": total, "validation": validation})
        if stale >= patience:
            break
    network.load_state_dict(best)
    predictor = Predictor(study, architecture, network.eval(), ())
    split = "test" if all(len(s.rows("test")) for s in sources) else "val"
    return replace(predictor, errors=own_errors(predictor, *_rows(sources, split, limit, rng)))


def own_errors(predictor: Predictor, images: np.ndarray, values: np.ndarray) -> tuple[PredictorError, ...]:
    """A predictor's error on real images with known values [N, V]; covariates no row records are left out."""
    measured, errors = predictor.measure(images), []
    for v, covariate in enumerate(predictor.study.conditions):
        known = np.isfinite(values[:, v])
        if not known.any():
            continue
        true, found = values[known, v], measured[covariate.name][known]
        varies = true.std() > 0 and found.std() > 0
        r = float(np.corrcoef(true, found)[0, 1]) if varies and covariate.is_continuous else math.nan
        continuous = covariate.is_continuous
        errors.append(
            PredictorError(
                covariate=covariate.name,
                n=int(known.sum()),
                mae=float(np.abs(true - found).mean()) if continuous else math.nan,
                r=r,
                accuracy=math.nan if continuous else float((true == found).mean()),
            )
        )
    return tuple(errors)
