"""Gradient penalties and path-length regularisation (docs/method/method.md section 5)."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def gradient_penalty(images: Tensor, logits: Tensor) -> Tensor:
    """|∇_x D(x)|² for each image: R1 on real images, R2 on fakes (Mescheder et al. 2018, equation 9).

    Args:
        images: [B, C, H, W], requiring gradients, from which `logits` were computed.
        logits: Realness [B].

    Returns:
        [B], differentiable.
    """
    (gradient,) = torch.autograd.grad(logits.sum(), images, create_graph=True)
    return gradient.square().sum([1, 2, 3])


def path_length(images: Tensor, ws: Tensor, mean: Tensor, decay: float = 0.01) -> tuple[Tensor, Tensor]:
    """Path-length penalty (Karras et al. 2020, equation 4).

    Args:
        images: Generated [B, C, H, W].
        ws: The latents they were made from [B, L, w_dim], requiring gradients.
        mean: Running mean of path lengths, scalar.
        decay: How fast the running mean follows.

    Returns:
        The penalty per image [B] and the new running mean.
    """
    noise = torch.randn_like(images) / math.sqrt(images.shape[2] * images.shape[3])
    (gradient,) = torch.autograd.grad((images * noise).sum(), ws, create_graph=True)
    lengths = gradient.square().sum(2).mean(1).sqrt()
    mean = mean.lerp(lengths.mean().detach(), decay)
    return (lengths - mean).square(), mean
