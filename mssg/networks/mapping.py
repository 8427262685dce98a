"""The mapping network: latent and condition to the intermediate latent w."""

from __future__ import annotations

from itertools import pairwise
from math import pi

import torch
from torch import nn

from mssg.errors import UsageError
from mssg.networks.layers import FullyConnected, normalise

POSITION_LR_MULTIPLIER = 3.0
"""From zero, the sines' weights would take hundreds of thousands of images to weigh as much as the number."""


def position_waves(c: torch.Tensor, index: int, frequencies: int) -> torch.Tensor:
    """Sines, then cosines, of one number of conditions c [B, N], of period 4, 2, 1 … in its own unit:
    [B, 2 * frequencies].

    Source: Mildenhall et al. 2020 (NeRF), section 5.1.
    """
    angles = c[:, index, None] * c.new_tensor([pi / 2 * 2**k for k in range(frequencies)])
    return torch.cat([angles.sin(), angles.cos()], dim=1)


class MappingNetwork(nn.Module):
    """Normalised z and embedded, normalised c, concatenated, through fully connected layers.

    Args:
        z_dim: Length of z; 0 = the condition alone is mapped (projection discriminators).
        c_dim: Length of c; 0 = no condition.
        num_ws: How often w is repeated along a new axis; None = not at all.
        embed_features, layer_features: Widths of the embedded condition and the hidden layers; None = w_dim.
        lr_multiplier: Learning-rate multiplier of the layers.
        w_avg_beta: Decay of the running mean of w; None = none is kept.
        position_index, position_frequencies: The number of c that says where a slice lies, and how many
            `position_waves` of it are embedded beside it. Their weights begin at zero.

    Source: Karras et al. 2019, section 2 (mapping); Karras et al. 2020 (StyleGAN2-ADA), appendix
    (conditioning).
    """

    w_avg: torch.Tensor

    def __init__(
        self,
        z_dim: int,
        c_dim: int,
        w_dim: int,
        num_ws: int | None,
        *,
        num_layers: int,
        embed_features: int | None = None,
        layer_features: int | None = None,
        lr_multiplier: float = 0.01,
        w_avg_beta: float | None = 0.998,
        position_index: int = 0,
        position_frequencies: int = 0,
    ) -> None:
        super().__init__()
        self.z_dim, self.c_dim, self.w_dim, self.num_ws = z_dim, c_dim, w_dim, num_ws
        self.num_layers, self.w_avg_beta = num_layers, w_avg_beta
        embed_features = (w_dim if embed_features is None else embed_features) if c_dim > 0 else 0
        hidden = w_dim if layer_features is None else layer_features
        widths = [z_dim + embed_features] + [hidden] * (num_layers - 1) + [w_dim]
        if c_dim > 0:
            self.embed = FullyConnected(c_dim, embed_features)
        self.position_index, self.position_frequencies = position_index, position_frequencies
        if position_frequencies:
            self.embed_position = FullyConnected(
                2 * position_frequencies, embed_features, weight_init=0, lr_multiplier=POSITION_LR_MULTIPLIER
            )
        for i, (before, after) in enumerate(pairwise(widths)):
            layer = FullyConnected(before, after, activation="lrelu", lr_multiplier=lr_multiplier)
            self.add_module(f"fc{i}", layer)
        if w_avg_beta is not None:
            self.register_buffer("w_avg", torch.zeros(w_dim))

    def forward(
        self,
        z: torch.Tensor | None,
        c: torch.Tensor | None,
        truncation_psi: float = 1.0,
        truncation_cutoff: int | None = None,
        update_emas: bool = False,
    ) -> torch.Tensor:
        """Map latents and conditions.

        Args:
            z: [B, z_dim].
            c: [B, c_dim]; may be None when c_dim = 0.
            truncation_psi: 1 = as trained, 0 = the mean w.
            truncation_cutoff: Only the first so many copies of w are truncated; None = all.
            update_emas: Let this batch move the mean w.

        Returns:
            [B, num_ws, w_dim], or [B, w_dim] when num_ws is None.

        Raises:
            UsageError: z or c has the wrong shape.
        """
        parts = []
        if self.z_dim > 0:
            parts.append(normalise(self._checked("z", z, self.z_dim)))
        if self.c_dim > 0:
            parts.append(normalise(self._embedded(self._checked("c", c, self.c_dim))))
        x = torch.cat(parts, dim=1)
        for i in range(self.num_layers):
            x = self.get_submodule(f"fc{i}")(x)
        if update_emas and self.w_avg_beta is not None:
            mean = x.detach().mean(dim=0).to(self.w_avg.dtype)
            self.w_avg.copy_(mean.lerp(self.w_avg, self.w_avg_beta))
        if self.num_ws is None:
            return x
        ws = x.unsqueeze(1).expand(-1, self.num_ws, -1)
        return self.truncate(ws, truncation_psi, truncation_cutoff)

    def _embedded(self, c: torch.Tensor) -> torch.Tensor:
        """[B, c_dim] -> [B, embed_features]."""
        if not self.position_frequencies:
            return self.embed(c)
        waves = position_waves(c, self.position_index, self.position_frequencies)
        return self.embed(c) + self.embed_position(waves)

    def truncate(self, ws: torch.Tensor, psi: float, cutoff: int | None = None) -> torch.Tensor:
        """ws [B, num_ws, w_dim], its first `cutoff` copies (None: all) drawn towards the mean w unless psi is
        1."""
        if psi == 1:
            return ws
        mean = self.w_avg.to(ws.dtype)
        cutoff = self.num_ws if cutoff is None else cutoff
        return torch.cat([mean.lerp(ws[:, :cutoff], psi), ws[:, cutoff:]], dim=1)

    def _checked(self, name: str, value: torch.Tensor | None, width: int) -> torch.Tensor:
        if value is None or value.ndim != 2 or value.shape[1] != width:
            found = "nothing" if value is None else tuple(value.shape)
            raise UsageError(
                "the network's input has the wrong shape", field=name, found=found, expected=f"[B, {width}]"
            )
        return value.to(next(self.parameters()).dtype)
