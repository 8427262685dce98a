"""How smoothly images follow the latent (path length), and how exactly they follow a shift or rotation
(equivariance)."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from mssg.errors import UsageError
from mssg.networks.generator import Generator
from mssg.networks.latents import latents, seeds_of

EPSILON = 1e-4
"""Step along the path, as published; images stay in floating point, so rounding to grey levels does not hide
it."""
TRIM = (1.0, 99.0)
"""Percentiles outside which distances are left out of the mean."""
PEAK = 2.0
"""Distance of black and white in the generator's units."""
MOST_SHIFT = 1 / 8
"""Largest translation, as a share of the image's side."""
LOBES = 8
"""Half width, in pixels, of the windowed sinc that rotates the reference image."""


@torch.no_grad()
def path_distances(G: Generator, c: Tensor, embed: Callable[[Tensor], Tensor], seed: int) -> np.ndarray:
    """Squared feature distances of neighbouring points on paths between random w, over ε²: float64 [N].

    Args:
        c: Encoded conditions [N, K], the same at both ends of a path.
        embed: Images in 0..255 [N, C, H, W] -> features [N, F].

    Source: Karras et al. 2019, "A style-based generator architecture", section 4.1 (in W, uncropped, t over
    the whole path).
        Theirs takes LPIPS distances: with other features it is another number, and carries their name.
    """
    rng = np.random.default_rng(seed)
    z = latents(seeds_of(seed, 2 * len(c)), G.z_dim).to(c.device).unflatten(0, (2, -1))
    t = torch.from_numpy(rng.random((len(c), 1, 1), dtype=np.float32)).to(c.device)
    w0, w1 = G.mapping(z[0], c), G.mapping(z[1], c)
    ends = [
        embed((G.synthesis(torch.lerp(w0, w1, t + e), noise_mode="const") + 1) * 127.5)
        for e in (0.0, EPSILON)
    ]
    return ((ends[1].cpu().double() - ends[0].cpu().double()) ** 2).sum(dim=1).numpy() / EPSILON**2


def path_length(distances: np.ndarray) -> tuple[float, float]:
    """Mean of the distances [N] without the extreme percentiles, and their standard deviation."""
    low, high = np.percentile(distances, TRIM)
    kept = distances[(distances >= low) & (distances <= high)]
    return float(kept.mean()), float(kept.std())


@torch.no_grad()
def translation_errors(G: Generator, c: Tensor, seed: int) -> np.ndarray:
    """Squared error of images whose input was shifted against shifted images: float64 [N, 2] (sum, pixels).

    Shifts are whole pixels, up to an eighth of the side; only pixels that both images show count.
    Source: Karras et al. 2021, appendix E.2 (EQ-T, integer).
    """
    rng = np.random.default_rng(seed)
    ws = _ws(G, c, seed)
    size = G.img_resolution
    most = max(1, round(size * MOST_SHIFT))
    plain, out = G.synthesis(ws, noise_mode="none"), []
    for i in range(len(c)):
        right, down = (int(v) for v in rng.integers(-most, most + 1, size=2))
        moved = _moved(
            G, ws[i : i + 1], torch.tensor([[1.0, 0, -right / size], [0, 1, -down / size], [0, 0, 1]])
        )[0]
        there = moved[:, max(down, 0) : size + min(down, 0), max(right, 0) : size + min(right, 0)]
        here = plain[i][:, max(-down, 0) : size + min(-down, 0), max(-right, 0) : size + min(-right, 0)]
        out.append([float(((there - here).cpu().double() ** 2).sum()), there.numel()])
    return np.array(out)


@torch.no_grad()
def rotation_errors(G: Generator, c: Tensor, seed: int) -> np.ndarray:
    """Squared error of images whose input was rotated against rotated images: float64 [N, 2] (sum, pixels).

    Angles are uniform; the reference is rotated by a windowed sinc of `LOBES` pixels, and the disc inside
    that margin counts.
    Source: Karras et al. 2021, appendix E.3 (EQ-R). Their filter is another one, so compare only with numbers
    made here.
    """
    rng = np.random.default_rng(seed)
    ws = _ws(G, c, seed)
    plain, out = G.synthesis(ws, noise_mode="none"), []
    for i in range(len(c)):
        angle = float(rng.uniform(0, 2 * math.pi))
        cos, sin = math.cos(angle), math.sin(angle)
        moved = _moved(G, ws[i : i + 1], torch.tensor([[cos, sin, 0], [-sin, cos, 0], [0, 0, 1]]))[0]
        reference, inside = rotate(plain[i], angle)
        error = ((moved - reference).cpu().double() ** 2).sum(dim=0)[inside.cpu()]
        out.append([float(error.sum()), error.numel() * len(moved)])
    return np.array(out)


def decibels(errors: np.ndarray) -> float:
    """Peak signal-to-noise ratio of pooled squared errors [N, 2]; infinite where there is none."""
    total, count = errors.sum(axis=0)
    return float(10 * math.log10(PEAK**2 * count / total)) if total > 0 else math.inf


def rotate(image: Tensor, angle: float) -> tuple[Tensor, Tensor]:
    """Rotate an image [C, H, H] about its centre, as `rotation_errors` has the generator do it.

    Returns:
        The image, and which pixels lie in the disc where it can be trusted, bool [H, H].

    Raises:
        UsageError: The image is no larger than the filter.
    """
    size = image.shape[-1]
    if size <= 3 * LOBES:
        raise UsageError(
            "the image is too small to be rotated", found=f"{size} pixels", expected=f"more than {3 * LOBES}"
        )
    middle = (size - 1) / 2
    axis = torch.arange(size, dtype=torch.float64) - middle
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    cos, sin = math.cos(angle), math.sin(angle)
    from_x, from_y = cos * x + sin * y + middle, -sin * x + cos * y + middle
    inside = (x**2 + y**2).sqrt() < size / 2 - LOBES
    taps = torch.arange(1 - LOBES, LOBES + 1)
    weights, places = [], []
    for position in (from_y, from_x):
        base = position.floor()
        distance = position[..., None] - (base[..., None] + taps)
        weight = torch.sinc(distance) * torch.sinc((distance / LOBES).clamp(-1, 1))
        weights.append(weight / weight.sum(-1, keepdim=True))
        places.append((base[..., None].long() + taps).clamp(0, size - 1))
    picked = image.cpu().double()[
        :, places[0][:, :, :, None], places[1][:, :, None, :]
    ]  # [C, H, H, taps, taps]
    out = torch.einsum("chwab,hwa,hwb->chw", picked, weights[0], weights[1])
    return out.to(image), inside.to(image.device)


def _transform(G: Generator) -> Tensor:
    """The buffer that moves the input of StyleGAN3.

    Raises:
        UsageError: The network has none.
    """
    found = getattr(getattr(G.synthesis, "input", None), "transform", None)
    if not isinstance(found, Tensor):
        raise UsageError(
            "equivariance is defined for StyleGAN3 only: this network's input cannot be moved", field="eq"
        )
    return found


def _ws(G: Generator, c: Tensor, seed: int) -> Tensor:
    _transform(G)
    return G.mapping(latents(seeds_of(seed, len(c)), G.z_dim).to(c.device), c)


def _moved(G: Generator, ws: Tensor, matrix: Tensor) -> Tensor:
    """Images whose input looks where the matrix says; the network is left as it was."""
    buffer = _transform(G)
    before = buffer.clone()
    buffer.copy_(matrix)
    try:
        return G.synthesis(ws, noise_mode="none")
    finally:
        buffer.copy_(before)
