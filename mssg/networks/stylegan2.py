"""StyleGAN2's synthesis network with output skips.

Source: Karras et al. 2020, "Analyzing and improving the image quality of StyleGAN", sections 2 and 4.
"""

from __future__ import annotations

import torch
from torch import nn

from mssg.errors import UsageError
from mssg.networks.config import GeneratorConfig
from mssg.networks.layers import (
    RESAMPLE_TAPS,
    FullyConnected,
    LayerCall,
    Layers,
    SynthesisInputs,
    ToRGB,
    block_dtype,
    check_ws,
    fast_layout,
    normal,
    run,
)
from mssg.networks.noise import IMAGE_NOISE, ImageNoise, noise_image
from mssg.ops import functional as ops

NOISE_MODES = ("const", "random", "none")


class StyleGAN2Layer(nn.Module):
    """Modulated convolution, noise, bias, leaky ReLU.

    Args:
        resolution: Of the output.
        up: Upsampling factor.
        conv_clamp: Limit of the output's magnitude; None = no limit.
    """

    resample_filter: torch.Tensor
    noise_const: torch.Tensor

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        w_dim: int,
        resolution: int,
        up: int = 1,
        conv_clamp: float | None = None,
    ) -> None:
        super().__init__()
        self.resolution, self.up, self.conv_clamp = resolution, up, conv_clamp
        self.affine = FullyConnected(w_dim, in_channels, bias_init=1.0)
        self.weight = nn.Parameter(normal(out_channels, in_channels, 3, 3))
        self.register_buffer("noise_const", normal(resolution, resolution))
        self.noise_strength = nn.Parameter(torch.zeros([]))
        self.bias = nn.Parameter(torch.zeros(out_channels))
        self.register_buffer("resample_filter", ops.setup_filter(RESAMPLE_TAPS))

    def forward(
        self, x: torch.Tensor, w: torch.Tensor, noise_mode: str = "const", noise: torch.Tensor | None = None
    ) -> torch.Tensor:
        """[B, I, H, W] and w [B, w_dim] -> [B, O, H*up, W*up]; `noise` [B or 1, 1, H*up, W*up] stands in for
        the stored noise image."""
        drawn = noise_image(self.noise_const, len(x), noise_mode, noise)
        return ops.modulated_conv2d(
            x,
            self.weight,
            self.affine(w),
            f=self.resample_filter,
            up=self.up,
            padding=1,
            flip_weight=self.up == 1,  # the official networks store transposed-convolution weights unflipped
            noise=None if drawn is None else drawn * self.noise_strength,
            b=self.bias,
            act="lrelu",
            clamp=self.conv_clamp,
        )


class SynthesisBlock(nn.Module):
    """Two layers at one resolution (one at 4x4, which starts from a constant) and their image.

    Args:
        in_channels: Feature maps of the resolution below; 0 = this is the first block.
        resolution: Of the output.
    """

    resample_filter: torch.Tensor

    def __init__(self, in_channels: int, out_channels: int, resolution: int, config: GeneratorConfig) -> None:
        super().__init__()
        self.resolution = resolution
        self.use_fp16 = resolution * 2**config.num_fp16_res > config.img_resolution
        common = {"w_dim": config.w_dim, "resolution": resolution, "conv_clamp": config.conv_clamp}
        self.register_buffer("resample_filter", ops.setup_filter(RESAMPLE_TAPS))
        if in_channels == 0:
            self.const = nn.Parameter(normal(out_channels, resolution, resolution))
        else:
            self.conv0 = StyleGAN2Layer(in_channels, out_channels, up=2, **common)
        self.conv1 = StyleGAN2Layer(out_channels, out_channels, **common)
        self.torgb = ToRGB(
            out_channels, config.img_channels, w_dim=config.w_dim, conv_clamp=config.conv_clamp
        )

    def layers(
        self, x: torch.Tensor | None, img: torch.Tensor | None, ws: torch.Tensor, inputs: SynthesisInputs
    ) -> Layers[tuple[torch.Tensor, torch.Tensor]]:
        """From features [B, I, r/2, r/2] and the image so far (None in the first block) to the same at
        resolution r.

        ws [B, 3, w_dim], or [B, 2, w_dim] in the first block: one for each convolution, one for the image.
        """
        name = f"b{self.resolution}"
        dtype = block_dtype(ws, self.use_fp16 and not inputs.full_precision)

        def convolution(part: str, x: torch.Tensor, w: torch.Tensor) -> tuple[str, LayerCall]:
            noise = inputs.noise.get(f"{name}.{part}.noise_const")
            return f"{name}.{part}", LayerCall(getattr(self, part), (x, w, inputs.noise_mode, noise))

        if x is None:
            y = fast_layout(self.const.to(dtype).unsqueeze(0).expand(len(ws), -1, -1, -1))
        else:
            y = yield convolution("conv0", fast_layout(x.to(dtype)), ws[:, -3])
        y = yield convolution("conv1", y, ws[:, -2])
        rgb = yield f"{name}.torgb", LayerCall(self.torgb, (y, ws[:, -1]))
        rgb = rgb.to(block_dtype(ws, False))
        if img is not None:
            rgb = rgb + ops.upsample2d(img, self.resample_filter)
        return y, rgb


class StyleGAN2Synthesis(nn.Module):
    """ws -> image, from 4x4 pixels up."""

    def __init__(self, config: GeneratorConfig) -> None:
        super().__init__()
        self.w_dim, self.num_ws = config.w_dim, config.num_ws
        self.block_resolutions = [2**i for i in range(2, config.img_resolution.bit_length())]
        widths = {r: config.channels(r) for r in self.block_resolutions}
        for r in self.block_resolutions:
            self.add_module(f"b{r}", SynthesisBlock(widths.get(r // 2, 0), widths[r], r, config))
        if config.image_noise:
            self.image_noise = ImageNoise(widths[config.img_resolution], config)

    def forward(self, ws: torch.Tensor, noise_mode: str = "const", update_emas: bool = False) -> torch.Tensor:
        """Render intermediate latents.

        Args:
            ws: [B, num_ws, w_dim].
            noise_mode: "const" (stored noise images), "random" or "none".
            update_emas: Accepted for the common interface; this network keeps no running statistics.

        Returns:
            [B, img_channels, img_resolution, img_resolution].

        Raises:
            UsageError: ws has the wrong shape, or the noise mode is unknown.
        """
        return run(self.layers(ws, SynthesisInputs(noise_mode=noise_mode)))

    def layers(self, ws: torch.Tensor, inputs: SynthesisInputs) -> Layers[torch.Tensor]:
        """The layers behind `forward`, each to be called in turn (`run`): convolutions and images.

        Raises:
            UsageError: As `forward`, or a transform, which this network knows nothing of.
        """
        check_ws(self, ws)
        if inputs.noise_mode not in NOISE_MODES:
            expected = " or ".join(NOISE_MODES)
            raise UsageError("unknown noise mode", found=inputs.noise_mode, expected=expected)
        if inputs.transform is not None:
            raise UsageError(
                "this network cannot transform its picture",
                field="transform",
                expected="a StyleGAN3 snapshot",
            )
        first, *others = [getattr(self, f"b{r}") for r in self.block_resolutions]
        x, img = yield from first.layers(None, None, ws[:, :2], inputs)
        for i, block in enumerate(others):
            # An image layer shares its w with the next block's first convolution.
            x, img = yield from block.layers(x, img, ws[:, 2 * i + 1 : 2 * i + 4], inputs)
        if IMAGE_NOISE in self._modules:
            noise = inputs.noise.get(f"{IMAGE_NOISE}.noise_const")
            arguments = (x.to(img.dtype), ws[:, -1], inputs.noise_mode, noise)
            img = img + (yield IMAGE_NOISE, LayerCall(self.image_noise, arguments))
        return img
