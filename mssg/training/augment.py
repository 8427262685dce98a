"""Adaptive discriminator augmentation (Karras et al. 2020, "Training GANs with limited data").

Only operations that the study's [augment] table allows are used: an operation that changes a covariate (a
shear changes slant, a brightness shift changes intensity) would teach the generator wrong values.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

GEOMETRIC = ("xflip", "rotate90", "translate", "scale", "rotate", "aniso")
COLOUR = ("brightness", "contrast", "lumaflip", "hue", "saturation")


@dataclass
class Augment:
    """Augments batches with probability `p` for each allowed operation; `adapt` moves `p` towards its
    target."""

    allow: tuple[str, ...]
    p: float = 0.0

    def adapt(self, mean_sign: float, target: float, images: int, speed_kimg: float) -> None:
        """One step of equation 1 of the paper's heuristic: r_t = E[sign(D(real))] is driven to `target`."""
        direction = (mean_sign > target) - (mean_sign < target)
        self.p = min(1.0, max(0.0, self.p + direction * images / (speed_kimg * 1000)))

    def __call__(self, images: Tensor) -> Tensor:
        """Images [B, C, H, W] in about [−1, 1] -> the same, augmented; differentiable once."""
        if self.p <= 0 or not self.allow:
            return images
        if set(self.allow) & set(GEOMETRIC):
            images = self._geometry(images)
        if set(self.allow) & set(COLOUR):
            images = self._colour(images)
        if "noise" in self.allow:
            sigma = (
                self._gate(len(images), images) * torch.randn(len(images), device=images.device).abs() * 0.1
            )
            images = images + torch.randn_like(images) * sigma[:, None, None, None]
        if "cutout" in self.allow:
            images = self._cutout(images)
        return images

    def _gate(self, n: int, like: Tensor) -> Tensor:
        return (torch.rand(n, device=like.device) < self.p).to(like.dtype)

    def _geometry(self, images: Tensor) -> Tensor:
        n = len(images)
        matrix = torch.eye(3, device=images.device).repeat(n, 1, 1)

        def then(
            a: Tensor, b: Tensor, c: Tensor, d: Tensor, x: Tensor | None = None, y: Tensor | None = None
        ) -> None:
            nonlocal matrix
            step = torch.zeros(n, 3, 3, device=images.device)
            step[:, 0, 0], step[:, 0, 1], step[:, 1, 0], step[:, 1, 1], step[:, 2, 2] = a, b, c, d, 1
            if x is not None and y is not None:
                step[:, 0, 2], step[:, 1, 2] = x, y
            matrix = step @ matrix

        zero, one = torch.zeros(n, device=images.device), torch.ones(n, device=images.device)
        gate = lambda: self._gate(n, images)  # noqa: E731
        normal = lambda scale: torch.randn(n, device=images.device) * scale  # noqa: E731
        if "xflip" in self.allow:
            then(1 - 2 * gate() * (torch.rand(n, device=images.device) < 0.5), zero, zero, one)
        if "rotate90" in self.allow:
            angle = gate() * torch.randint(0, 4, (n,), device=images.device) * (math.pi / 2)
            then(angle.cos(), -angle.sin(), angle.sin(), angle.cos())
        if "translate" in self.allow:
            on = gate()
            then(one, zero, zero, one, on * normal(0.125), on * normal(0.125))
        if "scale" in self.allow:
            size = torch.exp2(gate() * normal(0.2))
            then(size, zero, zero, size)
        if "rotate" in self.allow:
            angle = gate() * (torch.rand(n, device=images.device) * 2 - 1) * math.pi
            then(angle.cos(), -angle.sin(), angle.sin(), angle.cos())
        if "aniso" in self.allow:
            size = torch.exp2(gate() * normal(0.2))
            then(size, zero, zero, 1 / size)
        grid = F.affine_grid(matrix[:, :2], list(images.shape), align_corners=False)
        return F.grid_sample(images, grid, mode="bilinear", padding_mode="reflection", align_corners=False)

    def _colour(self, images: Tensor) -> Tensor:
        n, channels = images.shape[:2]
        column = lambda v: v[:, None, None, None]  # noqa: E731
        normal = lambda scale: torch.randn(n, device=images.device) * scale  # noqa: E731
        if "brightness" in self.allow:
            images = images + column(self._gate(n, images) * normal(0.2))
        if "contrast" in self.allow:
            images = images * column(torch.exp2(self._gate(n, images) * normal(0.5)))
        if "lumaflip" in self.allow:
            luma = images.mean(1, keepdim=True)
            images = images - 2 * luma * column(
                self._gate(n, images) * (torch.rand(n, device=images.device) < 0.5)
            )
        if channels == 3 and "saturation" in self.allow:
            luma = images.mean(1, keepdim=True)
            images = luma + (images - luma) * column(torch.exp2(self._gate(n, images) * normal(1.0)))
        if channels == 3 and "hue" in self.allow:
            angle = self._gate(n, images) * (torch.rand(n, device=images.device) * 2 - 1) * math.pi
            images = torch.einsum("nij,njhw->nihw", _turn_about_grey(angle), images)
        return images

    def _cutout(self, images: Tensor) -> Tensor:
        n, _, height, width = images.shape
        centre = torch.rand(n, 2, device=images.device)
        ys = (torch.arange(height, device=images.device) + 0.5) / height
        xs = (torch.arange(width, device=images.device) + 0.5) / width
        inside = ((ys[None] - centre[:, :1]).abs() < 0.25)[:, :, None] & (
            (xs[None] - centre[:, 1:]).abs() < 0.25
        )[:, None]
        hole = inside * self._gate(n, images)[:, None, None]
        return images * (1 - hole[:, None])


def _turn_about_grey(angle: Tensor) -> Tensor:
    """Rotations by `angle` [B] about the grey axis of RGB space, [B, 3, 3] (Rodrigues' formula)."""
    axis = torch.full((3,), 3**-0.5, device=angle.device)
    cross = torch.tensor([[0.0, -1, 1], [1, 0, -1], [-1, 1, 0]], device=angle.device) * 3**-0.5
    outer, identity = torch.outer(axis, axis), torch.eye(3, device=angle.device)
    cos, sin = angle.cos()[:, None, None], angle.sin()[:, None, None]
    return cos * identity + sin * cross + (1 - cos) * outer
