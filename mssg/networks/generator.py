"""A generator: mapping network and synthesis network in one."""

from __future__ import annotations

import torch
from torch import nn

from mssg.networks.config import STYLEGAN2, GeneratorConfig
from mssg.networks.mapping import MappingNetwork
from mssg.networks.stylegan2 import StyleGAN2Synthesis
from mssg.networks.stylegan3 import StyleGAN3Synthesis


class Generator(nn.Module):
    """Images from latents and conditions.

    `mapping` and `synthesis` may be called on their own; parameters and buffers are named as in NVlabs'
    networks.
    """

    def __init__(self, config: GeneratorConfig) -> None:
        super().__init__()
        self.config = config
        self.z_dim, self.c_dim, self.w_dim = config.z_dim, config.c_dim, config.w_dim
        self.img_resolution, self.img_channels = config.img_resolution, config.img_channels
        self.num_ws = config.num_ws
        self.synthesis = (StyleGAN2Synthesis if config.kind == STYLEGAN2 else StyleGAN3Synthesis)(config)
        self.mapping = MappingNetwork(
            config.z_dim,
            config.c_dim,
            config.w_dim,
            config.num_ws,
            num_layers=config.mapping_layers,
            embed_features=config.embed_features,
            layer_features=config.layer_features,
            lr_multiplier=config.mapping_lr_multiplier,
            w_avg_beta=config.w_avg_beta,
            position_index=config.position_index,
            position_frequencies=config.position_frequencies,
        )

    def forward(
        self,
        z: torch.Tensor,
        c: torch.Tensor | None = None,
        truncation_psi: float = 1.0,
        truncation_cutoff: int | None = None,
        noise_mode: str = "const",
        update_emas: bool = False,
    ) -> torch.Tensor:
        """Generate images.

        Args:
            z: [B, z_dim] standard normal.
            c: [B, c_dim] encoded condition; None when c_dim = 0.
            truncation_psi, truncation_cutoff: See `MappingNetwork.forward`.
            noise_mode: "const", "random" or "none", where the network draws noise.
            update_emas: Let this batch move running statistics (training only).

        Returns:
            [B, img_channels, img_resolution, img_resolution], about [-1, 1].
        """
        ws = self.mapping(z, c, truncation_psi, truncation_cutoff, update_emas)
        return self.synthesis(ws, noise_mode=noise_mode, update_emas=update_emas)


def build_generator(config: GeneratorConfig) -> Generator:
    """A generator with freshly drawn weights (torch's global random state)."""
    return Generator(config)
