"""StyleGAN3's alias-free synthesis network, configurations T (translation) and R (rotation).

Source: Karras et al. 2021, "Alias-free generative adversarial networks", sections 2-3 and appendices C-D.
"""

from __future__ import annotations

from math import pi, sqrt

import torch
from torch import nn

from mssg.networks.config import GeneratorConfig
from mssg.networks.filter_design import Band, design_bands, design_lowpass_filter
from mssg.networks.layers import (
    FullyConnected,
    LayerCall,
    Layers,
    SynthesisInputs,
    block_dtype,
    centred_padding,
    check_ws,
    fast_layout,
    normal,
    run,
)
from mssg.networks.noise import IMAGE_NOISE, ImageNoise
from mssg.ops import functional as ops


class SynthesisInput(nn.Module):
    """Fourier features, translated and rotated by w.

    Args:
        band: Of the output; frequencies are drawn within its cutoff.

    Source: Karras et al. 2021, section 3.1 (Fourier features) and appendix D (learned transform).
    """

    transform: torch.Tensor
    freqs: torch.Tensor
    phases: torch.Tensor

    def __init__(self, w_dim: int, band: Band) -> None:
        super().__init__()
        self.band = band
        freqs = torch.randn(
            band.channels, 2, device="cpu"
        )  # no arithmetic on the meta device (`FullyConnected`)
        radii = freqs.square().sum(dim=1, keepdim=True).sqrt()
        freqs = freqs / (
            radii * radii.square().exp().pow(0.25)
        )  # uniform within the unit disc, up to direction
        self.weight = nn.Parameter(normal(band.channels, band.channels))
        self.affine = FullyConnected(w_dim, 4, weight_init=0.0, bias_init=(1.0, 0.0, 0.0, 0.0))
        eye = torch.tensor([[1.0, 0, 0], [0, 1, 0], [0, 0, 1]])
        self.register_buffer("transform", eye)  # set by users to move the image
        self.register_buffer("freqs", (freqs * band.cutoff).to(torch.get_default_device()))
        self.register_buffer("phases", torch.rand(band.channels).sub_(0.5))

    def forward(self, w: torch.Tensor, transform: torch.Tensor | None = None) -> torch.Tensor:
        """w [B, w_dim] -> [B, channels, size, size]; a `transform` [3, 3] stands in for the stored one."""
        band, moved = self.band, self.transform if transform is None else transform
        transforms = self._learned_transform(w) @ moved.to(w.dtype)  # [B, 3, 3]
        freqs = self.freqs.to(w.dtype)
        phases = self.phases.to(w.dtype) + (freqs @ transforms[:, :2, 2:]).squeeze(2)  # [B, C]
        freqs = freqs @ transforms[:, :2, :2]  # [B, C, 2]
        # A user transform may push frequencies beyond what the grid can represent: fade those out.
        fade = (freqs.norm(dim=2) - band.cutoff) / (band.sampling_rate / 2 - band.cutoff)
        amplitudes = (1 - fade).clamp(0, 1)  # [B, C]
        # sin(across + down), of angles along x and along y with the phase: few sines make all pixels'.
        position = (
            torch.arange(band.size, dtype=w.dtype, device=w.device) + (1 - band.size) / 2
        ) / band.sampling_rate
        angles = 2 * pi * position[:, None, None] * freqs[:, None]  # [B, size, C, 2]
        across, down = angles[..., 0], angles[..., 1] + 2 * pi * phases[:, None]
        scale = amplitudes[:, None]
        x = across.sin()[:, None] * (down.cos() * scale)[:, :, None]  # [B, H, W, C]
        x = x + across.cos()[:, None] * (down.sin() * scale)[:, :, None]
        x = x @ (self.weight.to(w.dtype).T / sqrt(band.channels))
        return x.permute(0, 3, 1, 2)

    def _learned_transform(self, w: torch.Tensor) -> torch.Tensor:
        """[B, 3, 3]: rotation by (cos, sin) after translation, all four numbers from w."""
        t = self.affine(w)
        t = t / t[:, :2].norm(dim=1, keepdim=True)
        cos, sin, dx, dy = t.unbind(dim=1)
        zero, one = torch.zeros_like(cos), torch.ones_like(cos)
        rotation = torch.stack([cos, -sin, zero, sin, cos, zero, zero, zero, one], dim=1)
        translation = torch.stack([one, zero, -dx, zero, one, -dy, zero, zero, one], dim=1)
        return rotation.reshape(-1, 3, 3) @ translation.reshape(-1, 3, 3)


class StyleGAN3Layer(nn.Module):
    """Modulated convolution, then leaky ReLU at a temporarily raised sampling rate.

    Args:
        before, after: Bands of input and output.
    """

    magnitude_ema: torch.Tensor
    up_filter: torch.Tensor | None
    down_filter: torch.Tensor | None

    def __init__(self, index: int, before: Band, after: Band, config: GeneratorConfig) -> None:
        super().__init__()
        self.is_torgb = index == config.num_layers
        self.use_fp16 = after.sampling_rate * 2**config.num_fp16_res > config.img_resolution
        self.conv_clamp, self.magnitude_ema_beta = config.conv_clamp, config.magnitude_ema_beta
        self.gain, self.slope = (1.0, 1.0) if self.is_torgb else (sqrt(2), 0.2)
        self.kernel_size = 1 if self.is_torgb else config.conv_kernel
        self.weight_gain = 1 / sqrt(before.channels * self.kernel_size**2)
        self.affine = FullyConnected(config.w_dim, before.channels, bias_init=1.0)
        size = (after.channels, before.channels, self.kernel_size, self.kernel_size)
        self.weight = nn.Parameter(normal(*size))
        self.bias = nn.Parameter(torch.zeros(after.channels))
        self.register_buffer("magnitude_ema", torch.ones([]))

        inner_rate = max(before.sampling_rate, after.sampling_rate)
        if not self.is_torgb:
            inner_rate *= config.lrelu_upsampling
        self.up, self.down = inner_rate // before.sampling_rate, inner_rate // after.sampling_rate
        up_taps = config.filter_size * self.up if self.up > 1 and not self.is_torgb else 1
        down_taps = config.filter_size * self.down if self.down > 1 and not self.is_torgb else 1
        # Critically sampled layers need the sharper separable filter.
        radial = config.radial_filters and index < config.num_layers - config.num_critical
        self._register_filter("up_filter", up_taps, before, inner_rate, radial=False)
        self._register_filter("down_filter", down_taps, after, inner_rate, radial)

        self.padding = centred_padding(
            before.size, after.size, self.kernel_size, self.up, down=self.down, taps=up_taps + down_taps
        )

    def _register_filter(self, name: str, taps: int, band: Band, rate: int, radial: bool) -> None:
        f = design_lowpass_filter(taps, band.cutoff, band.half_width * 2, rate, radial)
        self.register_buffer(name, None if f is None else torch.as_tensor(f, dtype=torch.float32))

    def styles(self, w: torch.Tensor) -> torch.Tensor:
        """w [B, w_dim] -> [B, I]: what scales the input's channels."""
        styles = self.affine(w)
        return styles * self.weight_gain if self.is_torgb else styles

    def forward(
        self, x: torch.Tensor, styles: torch.Tensor, update_emas: bool = False, full_precision: bool = False
    ) -> torch.Tensor:
        """[B, I, H, W] and styles [B, I] -> [B, O, H', W']."""
        if update_emas:
            magnitude = x.detach().float().square().mean().to(self.magnitude_ema.dtype)
            self.magnitude_ema.copy_(magnitude.lerp(self.magnitude_ema, self.magnitude_ema_beta))
        x = x.to(block_dtype(styles, self.use_fp16 and not full_precision))
        return ops.modulated_filtered_lrelu(
            fast_layout(x),
            self.weight,
            styles,
            self.up_filter,
            self.down_filter,
            self.bias,
            conv_padding=self.kernel_size - 1,
            demodulate=not self.is_torgb,
            input_gain=self.magnitude_ema.rsqrt(),
            up=self.up,
            down=self.down,
            padding=self.padding,
            gain=self.gain,
            slope=self.slope,
            clamp=self.conv_clamp,
        )


class StyleGAN3Synthesis(nn.Module):
    """ws -> image."""

    def __init__(self, config: GeneratorConfig) -> None:
        super().__init__()
        self.w_dim, self.num_ws, self.output_scale = config.w_dim, config.num_ws, config.output_scale
        self.bands = bands = design_bands(config)
        self.input = SynthesisInput(config.w_dim, bands[0])
        self.layer_names = []
        for i, after in enumerate(bands):
            name = f"L{i}_{after.size}_{after.channels}"
            self.add_module(name, StyleGAN3Layer(i, bands[max(i - 1, 0)], after, config))
            self.layer_names.append(name)
        if config.image_noise:
            self.image_noise = ImageNoise(bands[-2].channels, config)

    def forward(self, ws: torch.Tensor, noise_mode: str = "const", update_emas: bool = False) -> torch.Tensor:
        """Render intermediate latents.

        Args:
            ws: [B, num_ws, w_dim].
            noise_mode: "const" (the stored noise image), "random" or "none", where the picture has noise.
            update_emas: Let this batch move the running input magnitudes.

        Returns:
            [B, img_channels, img_resolution, img_resolution].

        Raises:
            UsageError: ws has the wrong shape.
        """
        return run(self.layers(ws, SynthesisInputs(noise_mode=noise_mode, update_emas=update_emas)))

    def layers(self, ws: torch.Tensor, inputs: SynthesisInputs) -> Layers[torch.Tensor]:
        """The layers behind `forward`, each to be called in turn (`run`): the input first.

        Raises:
            UsageError: As `forward`.
        """
        check_ws(self, ws)
        first, *rest = ws.unbind(dim=1)
        layers = [getattr(self, name) for name in self.layer_names]
        # All styles before any image: later their weights would have left the caches, and so would torch.
        styles = [layer.styles(w) for layer, w in zip(layers, rest)]
        x = yield "input", LayerCall(self.input, (first, inputs.transform))
        features = x
        for name, layer, s in zip(self.layer_names, layers, styles):
            features = x
            x = yield name, LayerCall(layer, (x, s, inputs.update_emas, inputs.full_precision))
        img = x.to(block_dtype(ws, False)) * self.output_scale
        if IMAGE_NOISE in self._modules:
            noise = inputs.noise.get(f"{IMAGE_NOISE}.noise_const")
            # scaled as the picture's own layer takes them
            features = features.to(img.dtype) * layers[-1].magnitude_ema.rsqrt()
            arguments = (features, rest[-1], inputs.noise_mode, noise)
            img = img + (yield IMAGE_NOISE, LayerCall(self.image_noise, arguments))
        return img
