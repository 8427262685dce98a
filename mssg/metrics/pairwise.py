"""Similarity of images in pairs, such as a real image and a fake with the same covariates.

Such a pair shows two different subjects. PSNR, SSIM and LPIPS then measure how alike they happen to be, and
their spread is
diversity, not fidelity: a high score over all pairs can mean that the generator draws one image over and
    over. Between an
image and its reconstruction (an inversion) they mean what they say.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mssg.errors import DataError, UsageError

if TYPE_CHECKING:
    import torch

WINDOW, SIGMA, K1, K2 = 11, 1.5, 0.01, 0.03
"""Gaussian window of SSIM in pixels, and its constants (Wang et al. 2004)."""
SCALE_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
"""Exponents of MS-SSIM from the finest scale (Wang, Simoncelli & Bovik 2003)."""
CHUNK = 1 << 20
"""Pixels worked on at a time."""
TRUNKS = {
    "alex": ("alexnet-owt-7be5be79.pth", 31),
    "vgg": ("vgg16-397923af.pth", 16),
    "squeeze": ("squeezenet1_1-b8a52dc0.pth", 17),
}
"""LPIPS networks: torchvision's file of their ImageNet weights, and the smallest image side in pixels."""


def psnr(a: object, b: object, data_range: float | None = None) -> np.ndarray:
    """Peak signal-to-noise ratio of pairs: 10 log10(R² / mean squared difference).

    Args:
        a: Images uint8 or float [N, C, H, W].
        b: Images of the same shape.
        data_range: R, the distance of black and white; 255 for uint8, needed otherwise.

    Returns:
        Decibels, float64 [N]; infinite for identical images.

    Raises:
        DataError: If the images are wrong or differ in shape.
        UsageError: If data_range is missing or not positive.
    """
    a, b, data_range = _pair(a, b, data_range)
    error = np.concatenate([np.square(x - y).mean(axis=(1, 2, 3)) for x, y in _chunks(a, b)])
    with np.errstate(divide="ignore"):
        return 10.0 * np.log10(data_range**2 / error)


def ssim(a: object, b: object, data_range: float | None = None) -> np.ndarray:
    """Structural similarity of pairs, with a Gaussian window of 11 × 11 pixels and sigma 1.5.

    Mean over channels and over the pixels whose window lies inside the image; the definition of scikit-image
    with gaussian_weights=True, sigma=1.5, use_sample_covariance=False and the same data_range.

    Args:
        a: Images uint8 or float [N, C, H, W], at least 11 × 11.
        b: Images of the same shape.
        data_range: Distance of black and white; 255 for uint8, needed otherwise.

    Returns:
        -1..1 (1: identical), float64 [N].

    Raises:
        DataError: If the images are wrong, too small, or differ in shape.
        UsageError: If data_range is missing or not positive.

    Source: Wang et al. 2004, "Image quality assessment", eq. 13.
    """
    a, b, data_range = _pair(a, b, data_range, WINDOW)
    parts = [_ssim_maps(x, y, data_range) for x, y in _chunks(a, b)]
    return np.concatenate([(luminance * contrast).mean(axis=(1, 2, 3)) for luminance, contrast in parts])


def ms_ssim_scales(height: int, width: int) -> int:
    """How many scales of MS-SSIM fit an image, 0..5: each halves it, and the last must hold the window."""
    side, scales = min(height, width), 0
    while side >= WINDOW and scales < len(SCALE_WEIGHTS):
        side, scales = side // 2, scales + 1
    return scales


def ms_ssim(a: object, b: object, data_range: float | None = None, scales: int = 5) -> np.ndarray:
    """Structural similarity over several scales: contrast and structure at all, luminance at the coarsest.

    Args:
        a: Images uint8 or float [N, C, H, W]; at least 176 × 176 for five scales.
        b: Images of the same shape.
        data_range: Distance of black and white; 255 for uint8, needed otherwise.
        scales: 1..5. Fewer than five take the first exponents, rescaled to their sum; such numbers compare
            only with numbers of as many scales.

    Returns:
        0..1 (1: identical; negative correlation at a scale counts as none), float64 [N].

    Raises:
        DataError: If the images are wrong or differ in shape.
        UsageError: If data_range is missing or not positive, or the scales do not fit.

    Source: Wang, Simoncelli & Bovik 2003, "Multiscale structural similarity", eq. 7.
    """
    a, b, data_range = _pair(a, b, data_range, WINDOW)
    fit = ms_ssim_scales(*a.shape[2:])
    if not 1 <= scales <= fit:
        found = f"{scales} for images of {a.shape[2]} x {a.shape[3]}"
        raise UsageError("the scales do not fit", field="scales", found=found, expected=f"1 to {fit}")
    # the published exponents sum to 1.0001; fewer scales are given the same sum
    weights = np.array(SCALE_WEIGHTS[:scales]) * (sum(SCALE_WEIGHTS) / sum(SCALE_WEIGHTS[:scales]))
    result = []
    for x, y in _chunks(a, b):
        value = np.ones(len(x))
        for scale, weight in enumerate(weights):
            if scale:
                x, y = _halved(x), _halved(y)
            luminance, contrast = _ssim_maps(x, y, data_range)
            similarity = luminance * contrast if scale == scales - 1 else contrast
            value *= np.maximum(similarity.mean(axis=(1, 2, 3)), 0.0) ** weight
        result.append(value)
    return np.concatenate(result)


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

        a, b, data_range = _pair(a, b, data_range, self.least)
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
        device: Where it runs.

    Returns:
        The distance, named "lpips-<net>".

    Raises:
        UsageError: If net is unknown.
        DataError: If the weights cannot be had or do not fit.

    Source: Zhang et al. 2018, "The unreasonable effectiveness of deep features as a perceptual metric".
    """
    if net not in TRUNKS:
        raise UsageError("unknown LPIPS network", field="net", found=net, expected=", ".join(TRUNKS))
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
            f"put https://download.pytorch.org/models/{cached.name} there, or give its path as the weights;"
            " without them use SSIM or MS-SSIM for pairs, or distances of the offline features"
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


def _pair(
    a: object, b: object, data_range: float | None, least: int = 1
) -> tuple[np.ndarray, np.ndarray, float]:
    """Two checked batches of images and the data range."""
    a, b = np.asarray(a), np.asarray(b)
    for name, images in (("a", a), ("b", b)):
        if images.ndim != 4 or 0 in images.shape:
            raise DataError("images must be [N, C, H, W]", field=name, found=f"shape {images.shape}")
        if images.dtype != np.uint8 and images.dtype.kind != "f":
            raise DataError("images must be uint8 or float", field=name, found=f"dtype {images.dtype}")
        if not np.isfinite(images).all():
            raise DataError("images hold NaN or infinity", field=name)
    if a.shape != b.shape:
        raise DataError("pairs must have the same shape", found=f"{a.shape} and {b.shape}")
    if min(a.shape[2:]) < least:
        raise DataError(
            "images are too small", found=f"{a.shape[2]} x {a.shape[3]}", expected=f"at least {least} pixels"
        )
    if data_range is None:
        if a.dtype != np.uint8 or b.dtype != np.uint8:
            raise UsageError(
                "the data range of floats must be given", field="data_range", hint="255, 1 or 2, as they lie"
            )
        data_range = 255.0
    if not 0.0 < data_range < np.inf:
        raise UsageError("the data range must be positive", field="data_range", found=data_range)
    return a, b, float(data_range)


def _chunks(a: np.ndarray, b: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Pairs in double precision, so many at a time that they stay small."""
    step = max(1, CHUNK // a[0].size)
    for start in range(0, len(a), step):
        part = slice(start, start + step)
        yield a[part].astype(np.float64), b[part].astype(np.float64)


def _ssim_maps(x: np.ndarray, y: np.ndarray, data_range: float) -> tuple[np.ndarray, np.ndarray]:
    """Luminance term and contrast-structure term of SSIM [N, C, H-10, W-10]; SSIM is their product."""
    c1, c2 = (K1 * data_range) ** 2, (K2 * data_range) ** 2
    mean_x, mean_y = _blurred(x), _blurred(y)
    variances = _blurred(x * x) + _blurred(y * y) - mean_x**2 - mean_y**2
    covariance = _blurred(x * y) - mean_x * mean_y
    luminance = (2.0 * mean_x * mean_y + c1) / (mean_x**2 + mean_y**2 + c1)
    return luminance, (2.0 * covariance + c2) / (variances + c2)


def _blurred(images: np.ndarray) -> np.ndarray:
    """Gaussian mean over the window, where it lies inside the image."""
    from scipy.ndimage import correlate1d

    half = WINDOW // 2
    kernel = np.exp(-0.5 * (np.arange(-half, half + 1) / SIGMA) ** 2)
    kernel /= kernel.sum()
    blurred = correlate1d(correlate1d(images, kernel, axis=2), kernel, axis=3)
    return blurred[:, :, half:-half, half:-half]


def _halved(images: np.ndarray) -> np.ndarray:
    """Means of 2 × 2 pixels; an odd last row or column is left out."""
    n, c, h, w = images.shape
    return images[:, :, : h // 2 * 2, : w // 2 * 2].reshape(n, c, h // 2, 2, w // 2, 2).mean(axis=(3, 5))
