"""Predictors: networks and regressions that read covariates off an image, with their own error on real images
they have not seen, and their files.

Where no oracle exists, they are the instrument that control and strata scores use.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save
from torch import nn

from mssg.errors import SnapshotError, UsageError
from mssg.features import ridge
from mssg.files import parse_json, write_atomically
from mssg.measure.own_error import OwnError
from mssg.study.covariate import KINDS, ZERO_ONE
from mssg.study.model import Study
from mssg.study.schema import from_document, to_document

RESNETS = ("resnet18", "resnet50", "resnet101")
ARCHITECTURES = (ridge.NAME, *RESNETS)
AUTO = "auto"
"""A regression where images are few, else a network."""
UNTRAINED = "none"
"""What first weights are called that were drawn at random."""
FORMAT_VERSION = 2
"""Files of version 1 say their own error without a guess beside it."""
BATCH = 64
SMALL_IMAGE = 64  # up to here the stem halves the resolution once, not twice


def build(architecture: str, study: Study, pretrained: str = UNTRAINED) -> nn.Module:
    """A network with the study's channels in and one output per column of the condition.

    Args:
        architecture: One of `ARCHITECTURES`.
        study: Decides channels and outputs.
        pretrained: What its first weights are called; those of others need the usual first layers.

    Raises:
        UsageError: Unknown architecture.
    """
    check_architecture(architecture)
    if architecture == ridge.NAME:
        return ridge.Ridge(study)
    import torchvision

    network = getattr(torchvision.models, architecture)(weights=None, num_classes=study.layout.width)
    small = study.resolution <= SMALL_IMAGE and pretrained == UNTRAINED
    kernel = 3 if small else 7
    network.conv1 = nn.Conv2d(study.channels, 64, kernel, stride=2, padding=kernel // 2, bias=False)
    if small:
        network.maxpool = nn.Identity()
    return network


def check_architecture(name: str) -> None:
    """Whether there is such a predictor.

    Raises:
        UsageError: There is none.
    """
    if name not in (AUTO, *ARCHITECTURES):
        expected = " | ".join((AUTO, *ARCHITECTURES))
        raise UsageError("unknown predictor", field="architecture", found=name, expected=expected)


@dataclass(frozen=True)
class Predictor:
    """A predictor and what is known about it: its own error for each covariate that some unseen image has,
    and what its first weights are called."""

    study: Study
    architecture: str
    network: nn.Module
    errors: tuple[OwnError, ...]
    pretrained: str = UNTRAINED

    @torch.no_grad()
    def measure(self, images: np.ndarray) -> dict[str, np.ndarray]:
        """Read the covariates off images.

        Args:
            images: uint8 [N, C, H, W].

        Returns:
            Covariate name -> native values float64 [N] (levels by index, binaries 0/1).
        """
        device = next(iter(self.network.state_dict().values())).device
        parts = []
        for start in range(0, len(images), BATCH):
            x = torch.from_numpy(np.array(images[start : start + BATCH])).to(device).float() / 127.5 - 1
            parts.append(to_columns(self.study, self.network(x)).cpu().numpy())
        values = self.study.decode(np.concatenate(parts))
        return {name: values[:, v] for v, name in enumerate(self.study.condition_names)}

    def worth(self, name: str) -> str:
        """How well it reads a covariate off real images, to stand behind a reading: ` (MAE …)`."""
        own = next((error for error in self.errors if error.covariate == name), OwnError(name, n=0))
        doubt = "" if own.better else f": {own.verdict.upper() if own.better is False else own.verdict}"
        return f" ({own.words()}{doubt if own.n else ''})"

    def save(self, path: str | Path) -> Path:
        """Write the predictor as one safetensors file."""
        document = {
            "format_version": FORMAT_VERSION,
            "study": to_document(self.study),
            "architecture": self.architecture,
            "pretrained": self.pretrained,
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
        if version not in (1, FORMAT_VERSION):
            raise SnapshotError(
                "unknown format version", file=path, found=version, expected=f"1 or {FORMAT_VERSION}"
            )
        try:
            study, architecture = from_document(document["study"], str(path)), document["architecture"]
            errors = tuple(OwnError.from_json(dict(e), str(e["covariate"])) for e in document["errors"])
            pretrained = str(document.get("pretrained", UNTRAINED))
            network = build(architecture, study, pretrained)
            network.load_state_dict(tensors)
        except RuntimeError as error:
            raise SnapshotError(
                "its tensors do not fit", file=path, found=str(error).splitlines()[-1].strip()
            ) from None
        except (KeyError, TypeError, ValueError) as error:
            raise SnapshotError("its description lacks a part", file=path, found=error) from None
        return Predictor(study, architecture, network.eval().to(device), errors, pretrained)


def to_columns(study: Study, outputs: torch.Tensor) -> torch.Tensor:
    """Outputs [B, columns] -> condition columns: logits of binaries become probabilities, the rest stays."""
    columns = outputs.clone()
    for covariate in study.conditions:
        if KINDS[covariate.kind].coding is ZERO_ONE:
            part = study.layout[covariate.name]
            columns[:, part] = torch.sigmoid(outputs[:, part])
    return columns
