"""The Inception network of 2015-12-05, whose features published FIDs are made of; its weights are downloaded
once.

torchvision's Inception v3 with what TensorFlow's graph does otherwise: averages that leave the padding out, a
maximum in the last block's pool, 1008 classes, and bilinear resizing without half-pixel centres.
Source: Szegedy et al. 2015, "Rethinking the Inception architecture"; Heusel et al. 2017 for its use.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from urllib.error import URLError

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mssg.errors import DataError

WIDTH = 2048
RESOLUTION = 299
FILE = "weights-inception-2015-12-05-6726825d.pth"
URL = f"https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/{FILE}"
SHA256 = "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2"
"""Of the file; its name carries the first digits."""
AVERAGED = ("Mixed_5b", "Mixed_5c", "Mixed_5d", "Mixed_6b", "Mixed_6c", "Mixed_6d", "Mixed_6e", "Mixed_7b")


def build() -> nn.Module:
    """The network with untrained weights; called on [N, 3, 299, 299], (grey level − 128) / 128, it gives
    logits [N, 1008]."""
    import torchvision

    network = torchvision.models.inception_v3(
        weights=None, num_classes=1008, aux_logits=False, transform_input=False, init_weights=False
    )
    for name in AVERAGED:
        _pool_by(getattr(network, name), lambda x: F.avg_pool2d(x, 3, 1, 1, count_include_pad=False))
    _pool_by(network.Mixed_7c, lambda x: F.max_pool2d(x, 3, 1, 1))
    return network.eval().requires_grad_(False)


def _pool_by(block: nn.Module, pool: Callable[[Tensor], Tensor]) -> None:
    """Feed a block's last branch, which torchvision feeds averages, with another pool of the block's
    input."""
    seen: list[Tensor] = []
    block.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    block.get_submodule("branch_pool").register_forward_pre_hook(lambda _, inputs: (pool(seen.pop()),))


def load(weights: str | Path | None = None) -> nn.Module:
    """The network with its weights.

    Args:
        weights: The file; None takes it from torch's cache or downloads it there.

    Raises:
        DataError: The file is missing, cannot be downloaded, or is another one.
    """
    path = Path(weights) if weights else _downloaded()
    try:
        with path.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise DataError(f"cannot be read: {error.strerror}", file=path, hint=_ALTERNATIVES) from None
    if found != SHA256:
        raise DataError(
            "not the Inception weights of 2015-12-05",
            file=path,
            field="sha256",
            found=found,
            expected=SHA256,
            hint=_ALTERNATIVES,
        )
    network = build()
    network.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    return network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


_ALTERNATIVES = (
    f"Put the file of {URL} somewhere and give its path with --weights; without it use "
    "--features efficientnet_lite0 (works offline), a TorchScript file, or a predictor of the study"
)


def _downloaded() -> Path:
    path = Path(torch.hub.get_dir()) / "checkpoints" / FILE
    if not path.exists():
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            torch.hub.download_url_to_file(URL, str(path), hash_prefix=SHA256, progress=False)
        except (URLError, OSError, RuntimeError) as error:
            raise DataError(
                f"the Inception weights cannot be downloaded ({error})", file=path, hint=_ALTERNATIVES
            ) from None
    return path


def resize(x: Tensor, size: int = RESOLUTION) -> Tensor:
    """Bilinear resizing as TensorFlow 1 does it: output pixel i is read at i · input / output, no half-pixel
    centres; [B, C, H, W] -> [B, C, size, size]."""
    for dim in (-1, -2):
        old = x.shape[dim]
        place = torch.arange(size, device=x.device, dtype=torch.float32) * (old / size)
        low = place.floor().long().clamp(max=old - 1)
        high = (low + 1).clamp(max=old - 1)
        share = (place - low).to(x.dtype)
        share = share if dim == -1 else share[:, None]
        x = torch.lerp(x.index_select(dim, low), x.index_select(dim, high), share)
    return x
