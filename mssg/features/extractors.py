"""Networks that turn images into features. Every one has a name, and every number made from its features
carries it.

| spec | name | features |
|---|---|---|
| `efficientnet_lite0` | the same | 1280, ImageNet; offline: the weights are shipped |
| `inception` | `inception-2015-12-05` | 2048: what published FIDs are made of; downloaded once |
| `FILE.safetensors` | `predictor-ARCHITECTURE@HASH` | the last hidden layer of a file of `mssg predictors` |
| any other file | `STEM@HASH` | a TorchScript module, float32 [N, 3, H, W] in 0..1 -> [N, F] (DINOv2, …) |
"""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from mssg.errors import DataError, UsageError
from mssg.features import efficientnet, ridge

DEFAULT = "efficientnet_lite0"
INCEPTION = "inception"
BATCH = 4
"""Images in a network at a time on a CPU: a layer of four stays in the cache, and below the 32 MB from which
the C library returns memory at once and every page of the next layer has to be faulted in again."""
DEVICE_BATCH = 64
"""Images in a network at a time elsewhere."""


@dataclass(frozen=True)
class FeatureNetwork:
    """A named feature network.

    Attributes:
        name: What results call it.
        embed: Images float32 [N, C, H, W] in 0..255 on `device` -> features [N, F]; differentiable where the
            network is.
        head: Weight [L, F] and bias [L] of its ImageNet classifier, for the inception score; None where there
            is none.
        batch: Images at a time; None: `BATCH` or `DEVICE_BATCH`.
    """

    name: str
    embed: Callable[[Tensor], Tensor]
    device: str = "cpu"
    head: tuple[Tensor, Tensor] | None = field(default=None, repr=False)
    batch: int | None = None

    @torch.no_grad()
    def __call__(self, images: np.ndarray) -> np.ndarray:
        """Features of uint8 images [N, C, H, W]: float32 [N, F].

        Raises:
            DataError: The network does not accept them, or gives no matrix of finite numbers.
        """
        parts, batch = [], self.batch or (BATCH if self.device == "cpu" else DEVICE_BATCH)
        for start in range(0, len(images), batch):
            part = torch.from_numpy(np.array(images[start : start + batch]))
            try:
                parts.append(self.embed(part.to(self.device).float()).float().cpu().numpy())
            except (RuntimeError, TypeError, AttributeError) as error:
                raise DataError(
                    f"the feature network failed ({str(error).strip().splitlines()[-1]})",
                    field=self.name,
                    found=f"images {list(part.shape)}",
                    expected="a module that maps float32 [N, 3, H, W] in 0..1 to [N, F]",
                ) from None
        features = np.concatenate(parts)
        if features.ndim != 2 or len(features) != len(images) or not np.isfinite(features).all():
            raise DataError(
                "the feature network gives no matrix of finite numbers",
                field=self.name,
                found=f"shape {list(features.shape)}",
                expected=f"[{len(images)}, F]",
            )
        return features

    def probabilities(self, features: np.ndarray) -> np.ndarray:
        """Class probabilities float64 [N, L] of features [N, F].

        Raises:
            UsageError: The network has no classifier.
        """
        if self.head is None:
            raise UsageError(
                "these features come without a classifier, so there is no inception score", field=self.name
            )
        weight, bias = (t.cpu().double().numpy() for t in self.head)
        logits = features.astype(np.float64) @ weight.T + bias
        p = np.exp(logits - logits.max(axis=1, keepdims=True))
        return p / p.sum(axis=1, keepdims=True)


def load_features(
    spec: str = DEFAULT, weights: str | Path | None = None, device: str = "cpu"
) -> FeatureNetwork:
    """The feature network of a spec (see the module's table).

    Args:
        spec: "efficientnet_lite0", "inception", a predictor's .safetensors file, or a TorchScript file.
        weights: The weights of "inception", where they are not to be downloaded.

    Raises:
        DataError: Weights that are missing, cannot be downloaded or are others than expected.
        UsageError: An unknown name, or weights for something that takes none.
    """
    if weights and spec != INCEPTION:
        raise UsageError(
            "only these features take weights", field="--weights", expected=f"--features {INCEPTION}"
        )
    if spec == DEFAULT:
        return _efficientnet(device)
    if spec == INCEPTION:
        return _inception(weights, device)
    path = Path(spec)
    if not path.is_file():
        raise UsageError(
            "no such features",
            field="--features",
            found=spec,
            expected=f"{DEFAULT} | {INCEPTION} | a TorchScript file | a predictor's .safetensors file",
        )
    return _predictor(path, device) if path.suffix == ".safetensors" else _torchscript(path, device)


def _efficientnet(device: str) -> FeatureNetwork:
    network = efficientnet.load().to(device)
    head = network.get_parameter("classifier.weight"), network.get_parameter("classifier.bias")
    return FeatureNetwork(DEFAULT, partial(efficientnet.embed, network), device, head)


def _inception(weights: str | Path | None, device: str) -> FeatureNetwork:
    from mssg.features import inception

    network = inception.load(weights).to(device)
    # the inception score is defined without the classifier's bias
    head = network.get_parameter("fc.weight"), torch.zeros_like(network.get_parameter("fc.bias"))
    network.fc = torch.nn.Identity()

    def embed(x: Tensor) -> Tensor:
        return network((inception.resize(efficientnet.as_colour(x)) - 128) / 128)

    return FeatureNetwork("inception-2015-12-05", embed, device, head)


def _predictor(path: Path, device: str) -> FeatureNetwork:
    from mssg.features.predictors import Predictor

    predictor = Predictor.load(path, device)
    network = predictor.network
    if predictor.architecture == ridge.NAME:
        raise UsageError(
            "this predictor is a regression and has no features of its own",
            field="--features",
            found=path,
            expected=f"{DEFAULT}, or a predictor made with --architecture resnet18",
        )
    network.fc = torch.nn.Identity()
    shape = (predictor.study.channels, predictor.study.resolution, predictor.study.resolution)

    def embed(x: Tensor) -> Tensor:
        if tuple(x.shape[1:]) != shape:
            raise DataError(
                "the predictor is for other images", file=path, found=list(x.shape[1:]), expected=list(shape)
            )
        return network(x / 127.5 - 1)

    return FeatureNetwork(f"predictor-{predictor.architecture}@{_hash(path)}", embed, device, batch=64)


def _torchscript(path: Path, device: str) -> FeatureNetwork:
    try:
        with (
            warnings.catch_warnings()
        ):  # torch means to give TorchScript up; until then it is how networks travel
            warnings.simplefilter("ignore", FutureWarning)
            warnings.simplefilter("ignore", DeprecationWarning)
            module = torch.jit.load(str(path), map_location=device).eval()
    except (RuntimeError, ValueError) as error:
        raise DataError(
            "cannot be read as TorchScript",
            file=path,
            found=str(error).strip().splitlines()[0][:200],
            hint="Save the module with torch.jit.script(module).save(path); a plain state dict is not enough",
        ) from None
    return FeatureNetwork(
        f"{path.stem}@{_hash(path)}", lambda x: module(efficientnet.as_colour(x) / 255), device
    )


def _hash(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:8]
