"""Weights that somebody else has trained, as the start of a predictor: ImageNet's, RadImageNet's."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mssg.data.dataset import file_hash
from mssg.errors import DataError

STEMS = {"0": "conv1", "1": "bn1", "4": "layer1", "5": "layer2", "6": "layer3", "7": "layer4"}
"""Places of a ResNet's parts where its layers were saved as a sequence (RadImageNet's ResNet50.pt)."""
SUFFIXES = (".pth", ".pt", ".bin", ".safetensors")
_PREFIX = re.compile(r"^(?:module\.|model\.|backbone\.|encoder\.)+")


def read_weights(path: str | Path) -> dict[str, Tensor]:
    """A ResNet's weights as torchvision names them, without the last layer. Nothing in the file is run.

    Args:
        path: A state dict in a .pth, .pt or .safetensors file, named as torchvision's or as a sequence.

    Raises:
        DataError: Missing, damaged, or no ResNet's.
    """
    path = Path(path)
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            state = load_file(path)
        else:
            state: Any = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise DataError("no such file", file=path, field="--init") from None
    except Exception as error:  # whatever torch's unpickler makes of a damaged file
        raise DataError(
            "cannot be read as weights", file=path, field="--init", found=type(error).__name__
        ) from None
    state = state.get("state_dict", state) if isinstance(state, dict) else {}
    found = {_named(str(key)): value for key, value in state.items() if isinstance(value, Tensor)}
    kept = {key: value for key, value in found.items() if key.split(".")[0] in STEMS.values()}
    if "conv1.weight" not in kept:
        raise DataError(
            "holds no ResNet's weights",
            file=path,
            field="--init",
            found=", ".join(list(map(str, state))[:4]) or "no tensors",
            expected="conv1.weight, bn1.weight, layer1.0.conv1.weight … as torchvision's",
        )
    return kept


def start_from(network: nn.Module, path: str | Path) -> str:
    """Put weights into a ResNet; images of one channel see the sum over the colours.

    Returns:
        What the weights are called: the file's name and hash.

    Raises:
        DataError: They are another architecture's.
    """
    weights = read_weights(path)
    channels = network.get_parameter("conv1.weight").shape[1]
    if weights["conv1.weight"].shape[1] != channels:
        mean = weights["conv1.weight"].sum(1, keepdim=True) / channels
        weights["conv1.weight"] = mean.expand(-1, channels, -1, -1).clone()
    own = {key: value for key, value in network.state_dict().items() if not key.startswith("fc.")}
    unlike = [key for key in own if key not in weights or weights[key].shape != own[key].shape]
    unlike = [key for key in unlike if not key.endswith("num_batches_tracked")]
    if unlike:
        found = list(weights[unlike[0]].shape) if unlike[0] in weights else "none"
        raise DataError(
            "weights of another architecture",
            file=path,
            field=unlike[0],
            found=found,
            expected=list(own[unlike[0]].shape),
        )
    network.load_state_dict({key: weights[key] for key in own if key in weights}, strict=False)
    return f"{Path(path).stem}@{file_hash(Path(path))[:8]}"


def _named(key: str) -> str:
    """A tensor's name as torchvision has it."""
    key = _PREFIX.sub("", key)
    head, dot, rest = key.partition(".")
    return f"{STEMS.get(head, head)}{dot}{rest}"
