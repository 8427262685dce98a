"""Noise inputs: what is drawn for a layer, and the noise of the finished picture."""

from __future__ import annotations

import torch
from torch import nn

from mssg.networks.config import GeneratorConfig
from mssg.networks.layers import ToRGB, normal

IMAGE_NOISE = "image_noise"
"""The layer of `ImageNoise`, where a network has one."""


def noise_image(
    stored: torch.Tensor, batch: int, mode: str, given: torch.Tensor | None
) -> torch.Tensor | None:
    """[H, W] or [B or 1, 1, H, W] of unit variance; None = no noise."""
    if mode == "none":
        return None
    if mode == "random":
        return torch.randn((batch, 1, *stored.shape), device=stored.device, dtype=stored.dtype)
    return stored if given is None else given


def noise_of_slices(synthesis: nn.Module, heads: int, slices: int) -> dict[str, torch.Tensor]:
    """Random noise in place of every stored image, for so many slices of each of so many heads.

    Returns:
        Name -> [slices·heads, 1, r, r], one slice of every head after the other. A layer's noise is a head's
        own, as it is where a head is drawn; the finished picture's is every slice's own, as a scanner's is.
    """
    drawn = {}
    for name, stored in synthesis.named_buffers():
        if name.endswith("noise_const"):
            each = slices if name.startswith(IMAGE_NOISE) else 1
            noise = torch.randn((each * heads, 1, *stored.shape), device=stored.device, dtype=stored.dtype)
            drawn[name] = noise.repeat(slices // each, 1, 1, 1)
    return drawn


class ImageNoise(nn.Module):
    """Noise of the finished picture: white, with a strength of its own at every pixel, which is read from the
    last features as the picture is.

    A layer's noise has one strength everywhere, so a picture that is noisy in one place and exactly even in
    another, as a masked scan is, can have none. Silent at first, and official networks have none.
    """

    noise_const: torch.Tensor

    def __init__(self, in_channels: int, config: GeneratorConfig) -> None:
        super().__init__()
        self.strength = ToRGB(in_channels, config.img_channels, w_dim=config.w_dim, conv_clamp=None)
        nn.init.zeros_(self.strength.weight)
        self.register_buffer("noise_const", normal(config.img_resolution, config.img_resolution))

    def forward(
        self, x: torch.Tensor, w: torch.Tensor, noise_mode: str = "const", noise: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Features [B, I, H, W] and w [B, w_dim] -> what is added to the picture [B, img_channels, H, W]."""
        drawn = noise_image(self.noise_const, len(x), noise_mode, noise)
        strength = self.strength(x, w)
        return torch.zeros_like(strength) if drawn is None else strength * drawn
