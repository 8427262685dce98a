"""LPIPS, a learned perceptual distance of images: the `lpips` package behind a checked call."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mssg import extras
from mssg.errors import DataError, UsageError
from mssg.features.image_pair import image_pair

if TYPE_CHECKING:
    import torch

TRUNKS = {
    "alex": ("alexnet-owt-7be5be79.pth", 31),
    "vgg": ("vgg16-397923af.pth", 16),
    "squeeze": ("squeezenet1_1-b8a52dc0.pth", 17),
}
"""LPIPS networks: torchvision's file of their ImageNet weights, and the smallest image side in pixels."""


@dataclass(frozen=True)
class Lpips:
    """Learned perceptual distance: the `lpips` package behind a checked call.

    Attributes:
        module: An `lpips.LPIPS` module in eval mode.
        name: What to call its numbers; a random trunk says so, since such numbers are no published LPIPS.
        least: Smallest image side in pixels.
    """

    module: Any
    name: str
    least: int = 16

    def __call__(self, a: object, b: object, data_range: float | None = None, batch: int = 32) -> np.ndarray:
        """Distance of pairs.

        Args:
            a: Images uint8 or float [N, C, H, W] with C = 1 (repeated) or 3; black is 0, white is data_range.
            b: Images of the same shape.
            data_range: 255 for uint8, needed otherwise.
            batch: Pairs at a time.

        Returns:
            Distances >= 0, float64 [N].

        Raises:
            DataError: If the images are wrong, too small, or differ in shape.
            UsageError: If data_range is missing or not positive.
        """
        import torch

        a, b, data_range = image_pair(a, b, data_range, self.least)
        if a.shape[1] not in (1, 3):
            raise DataError(
                "LPIPS takes grey or colour images", found=f"{a.shape[1]} channels", expected="1 or 3"
            )
        device = next(self.module.parameters()).device
        parts = []
        with torch.inference_mode():
            for start in range(0, len(a), batch):
                x, y = (
                    torch.from_numpy(
                        np.asarray(i[start : start + batch], np.float32) * (2.0 / data_range) - 1.0
                    )
                    .to(device)
                    .expand(-1, 3, -1, -1)
                    for i in (a, b)
                )
                parts.append(self.module(x, y).flatten().cpu().double().numpy())
        return np.concatenate(parts)


def load_lpips(net: str = "alex", weights: str | PathLike[str] | None = None, device: str = "cpu") -> Lpips:
    """The LPIPS network with its trained linear layers, which come with the package, and ImageNet weights of
    its trunk.

    Args:
        net: "alex", "vgg" or "squeeze".
        weights: torchvision's weights of the trunk (.pth or .safetensors); None takes them from torch's
            cache, and nothing is ever downloaded; "random" is an untrained trunk with a fixed seed, for
            tests.

    Returns:
        The distance, named "lpips-<net>".

    Raises:
        UsageError: If net is unknown, or the package is not installed.
        DataError: If the weights cannot be had or do not fit.

    Source: Zhang et al. 2018, "The unreasonable effectiveness of deep features as a perceptual metric".
    """
    if net not in TRUNKS:
        raise UsageError("unknown LPIPS network", field="net", found=net, expected=", ".join(TRUNKS))
    extras.need("metrics", "LPIPS")
    import lpips
    import torch

    file, least = TRUNKS[net]
    name, cached = f"lpips-{net}", Path(torch.hub.get_dir()) / "checkpoints" / file
    if weights is None and not cached.is_file():
        raise _no_weights(net, cached)
    with warnings.catch_warnings(), torch.random.fork_rng(devices=[]):
        warnings.simplefilter("ignore")  # the package uses torchvision's old names of options
        torch.manual_seed(0)
        module = lpips.LPIPS(net=net, verbose=False, pnet_rand=True)
        if str(weights) == "random":
            name += "-random-trunk"
        else:
            _load_trunk(module.net, Path(weights or cached))
    return Lpips(module.to(device).eval(), name, least)


def _no_weights(net: str, cached: Path) -> DataError:
    """What to say when the trunk's weights are not there."""
    return DataError(
        f"the ImageNet weights of the LPIPS trunk {net!r} are missing; nothing is downloaded",
        file=cached,
        hint=(
            f"Put https://download.pytorch.org/models/{cached.name} there, or give its path: mssg invert"
            " --weights FILE, in Python weights=FILE. Without it use SSIM or MS-SSIM for pairs, or"
            " distances of the offline features"
        ),
    )


def _load_trunk(trunk: torch.nn.Module, path: Path) -> None:
    """Load torchvision's state dict of a classifier into the slices that the package cut its features
    into."""
    import torch

    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            state = load_file(path)
        else:
            state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise DataError(f"weights cannot be read ({error})", file=path) from None
    own = trunk.state_dict()
    # slice3.6.weight here is features.6.weight there
    names = {key: "features." + key.split(".", 1)[1] for key in own}
    wrong = [n for key, n in names.items() if n not in state or state[n].shape != own[key].shape]
    if wrong:
        raise DataError(
            "these are not torchvision's weights of this network",
            file=path,
            field=wrong[0],
            found="another shape" if wrong[0] in state else "nothing of that name",
            hint="the file's network and --net must agree: AlexNet, VGG16 or SqueezeNet 1.1",
        )
    trunk.load_state_dict({key: state[n] for key, n in names.items()})
