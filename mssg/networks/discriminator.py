"""The residual discriminator of StyleGAN2 with a covariate head, or with the classic projection head.

With a covariate head, a slice's position can be projected: it is a condition that every image has, so that
realness may depend on it ("is this a slice of this place?").

Source: Karras et al. 2020 (StyleGAN2), section 4; Lai et al. 2024 (covariate head); Miyato & Koyama 2018
(projection).
"""

from __future__ import annotations

from math import sqrt

import torch
from torch import nn

from mssg.errors import UsageError
from mssg.networks.config import DiscriminatorConfig
from mssg.networks.layers import Conv2d, FullyConnected, block_dtype, fast_layout
from mssg.networks.mapping import MappingNetwork, position_waves

_RESIDUAL_GAIN = sqrt(0.5)  # keeps the variance when two branches are added


class DiscriminatorBlock(nn.Module):
    """Halves the resolution: two convolutions beside a 1x1 skip.

    Args:
        resolution: Of the input.
        first: Whether the input is the image itself.
    """

    def __init__(self, resolution: int, first: bool, config: DiscriminatorConfig) -> None:
        super().__init__()
        self.use_fp16 = resolution * 2**config.num_fp16_res > config.img_resolution
        inner, outer, clamp = config.channels(resolution), config.channels(resolution // 2), config.conv_clamp
        act = {"activation": "lrelu", "conv_clamp": clamp}
        self.fromrgb = Conv2d(config.img_channels * config.slices, inner, 1, **act) if first else None
        self.conv0 = Conv2d(inner, inner, 3, **act)
        self.conv1 = Conv2d(inner, outer, 3, down=2, **act)
        self.skip = Conv2d(inner, outer, 1, bias=False, down=2)
        # The official blocks own a filter that only their (absent) image skip would use; kept for their
        # names.
        self.register_buffer("resample_filter", self.conv0.resample_filter.clone())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[B, C, r, r] -> [B, C', r/2, r/2]."""
        x = x.to(block_dtype(x, self.use_fp16))
        if self.fromrgb is not None:
            x = self.fromrgb(x)
        x = fast_layout(x)
        y = self.skip(x, gain=_RESIDUAL_GAIN)
        return y + self.conv1(self.conv0(x), gain=_RESIDUAL_GAIN)


def minibatch_std(x: torch.Tensor, group_size: int | None, channels: int) -> torch.Tensor:
    """Append feature maps that say how much the images of a group differ.

    Args:
        x: [B, C, H, W].
        group_size: Images per group; None = the whole batch.
        channels: Maps to append.

    Returns:
        [B, C + channels, H, W]. Image i belongs to group i mod (B / group).

    Raises:
        UsageError: The batch is not a whole number of groups.

    Source: Karras et al. 2018, "Progressive growing of GANs", section 3.
    """
    n, c, h, w = x.shape
    group = n if group_size is None else min(group_size, n)
    if n % group:
        raise UsageError(
            "the batch is not a whole number of minibatch-standard-deviation groups",
            field="mbstd_group_size",
            found=f"{n} images",
            expected=f"a multiple of {group}",
        )
    y = x.reshape(group, n // group, channels, c // channels, h, w)
    y = y - y.mean(dim=0)
    y = (y.square().mean(dim=0) + 1e-8).sqrt()  # [n / group, channels, c / channels, h, w]
    y = y.mean(dim=[2, 3, 4])[:, :, None, None].repeat(group, 1, h, w)
    return torch.cat([x, y], dim=1)


class DiscriminatorEpilogue(nn.Module):
    """4x4 features to the outputs."""

    def __init__(self, config: DiscriminatorConfig) -> None:
        super().__init__()
        channels = config.channels(4)
        self.group_size, self.mbstd_channels = config.mbstd_group_size, config.mbstd_channels
        self.conv = Conv2d(
            channels + self.mbstd_channels, channels, 3, activation="lrelu", conv_clamp=config.conv_clamp
        )
        self.fc = FullyConnected(channels * 16, channels, activation="lrelu")
        self.out = FullyConnected(channels, config.cmap_dim if config.projects else config.outputs)
        self.position_index, self.position_frequencies = config.position_index, config.position_frequencies
        if self.position_frequencies:
            width = 1 + 2 * self.position_frequencies
            self.embed_position = FullyConnected(width, channels, weight_init=0)

    def forward(self, x: torch.Tensor, cmap: torch.Tensor | None, c: torch.Tensor | None) -> torch.Tensor:
        """[B, C, 4, 4], the mapped condition [B, cmap_dim] if that is projected, and the condition itself
        [B, c_dim] if its position is -> [B, outputs]."""
        x = x.to(block_dtype(x, False))
        if self.mbstd_channels > 0:
            x = minibatch_std(x, self.group_size, self.mbstd_channels)
        features = self.fc(self.conv(x).flatten(1))
        x = self.out(features)
        if cmap is not None:
            x = (x * cmap).sum(dim=1, keepdim=True) / sqrt(cmap.shape[1])
        if self.position_frequencies and c is not None:
            waves = position_waves(c, self.position_index, self.position_frequencies)
            place = self.embed_position(
                torch.cat([c[:, self.position_index, None], waves], dim=1).to(x.dtype)
            )
            fits = (features * place).sum(dim=1, keepdim=True) / sqrt(place.shape[1])
            x = torch.cat([x[:, :1] + fits, x[:, 1:]], dim=1)
        return x


class Discriminator(nn.Module):
    """Realness, and what the image says about its condition."""

    def __init__(self, config: DiscriminatorConfig) -> None:
        super().__init__()
        self.config = config
        self.c_dim, self.img_resolution, self.img_channels = (
            config.c_dim,
            config.img_resolution,
            config.img_channels * config.slices,
        )
        self.block_resolutions = [2**i for i in range(config.img_resolution.bit_length() - 1, 2, -1)]
        for r in self.block_resolutions:
            self.add_module(f"b{r}", DiscriminatorBlock(r, r == config.img_resolution, config))
        if config.projects:
            self.mapping = MappingNetwork(
                0,
                config.c_dim,
                config.cmap_dim,
                None,
                num_layers=config.mapping_layers,
                embed_features=config.embed_features,
                layer_features=config.layer_features,
                lr_multiplier=config.mapping_lr_multiplier,
                w_avg_beta=None,
            )
        self.b4 = DiscriminatorEpilogue(config)

    def forward(self, img: torch.Tensor, c: torch.Tensor | None = None) -> torch.Tensor:
        """Judge images.

        Args:
            img: [B, img_channels, img_resolution, img_resolution], about [-1, 1].
            c: [B, c_dim] encoded condition; only the projection head looks at it, and realness where the
                position is projected. Without it, that is left out.

        Returns:
            [B, 1 + c_dim] (realness logit, then one value per condition column) or [B, 1] (projection).

        Raises:
            UsageError: img or c has the wrong shape.
        """
        expected = (self.img_channels, self.img_resolution, self.img_resolution)
        if img.ndim != 4 or img.shape[1:] != expected:
            raise UsageError(
                "images have the wrong shape",
                field="img",
                found=tuple(img.shape),
                expected=f"[B, {expected}]",
            )
        x = img
        for r in self.block_resolutions:
            x = self.get_submodule(f"b{r}")(x)
        cmap = self.mapping(None, c) if self.config.projects else None
        return self.b4(x, cmap, c)

    def frozen_parameters(self) -> list[nn.Parameter]:
        """Weights of the first `freeze_layers` layers, counted from the image (fromrgb, conv0, conv1, skip,
        ...).

        Source: Mo et al. 2020, "Freeze the discriminator".
        """
        layers = [m for r in self.block_resolutions for m in self.get_submodule(f"b{r}").children()]
        return [p for layer in layers[: self.config.freeze_layers] for p in layer.parameters()]

    def trainable_parameters(self) -> list[nn.Parameter]:
        """All weights but the frozen ones: what an optimiser should be given."""
        frozen = {id(p) for p in self.frozen_parameters()}
        return [p for p in self.parameters() if id(p) not in frozen]


def build_discriminator(config: DiscriminatorConfig) -> Discriminator:
    """A discriminator with freshly drawn weights (torch's global random state)."""
    return Discriminator(config)
