"""StyleGAN3's layers at half of their sampling rates: a quarter of the work, nearly the same signals.

A layer of StyleGAN3 is defined on continuous signals; sampling only stores them, and its rates leave room
above the frequencies that the signals are meant to hold (Karras et al. 2021, sections 2 and 3.2). At half the
rate the same layer therefore has the same weights, with two things fitted anew by least squares over
frequency:
- filters: the same response below the new Nyquist frequency, none above it;
- 3x3 kernels: their taps lie half as far apart in samples, so each is interpolated from the three samples
  around it.
What is lost is what layers hold between the new Nyquist frequency and the old one, and what would have become
of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from copy import copy
from dataclasses import replace
from typing import TypeVar, cast

import numpy as np
import torch
from torch import nn

from mssg.networks.filter_design import Band
from mssg.networks.layers import block_dtype, centred_padding, fast_layout
from mssg.networks.stylegan2 import StyleGAN2Synthesis
from mssg.networks.stylegan3 import StyleGAN3Layer, StyleGAN3Synthesis, SynthesisInput
from mssg.ops import functional as ops
from mssg.ops.reference import DEMODULATION_EPS

Network = TypeVar("Network", bound=nn.Module)
SMALLEST_PREVIEW = 32
"""Pixels along the side of a picture that still shows what the full one will be."""
STYLEGAN2_SHARE = 4
"""A preview of StyleGAN2 has a quarter of the full picture's side."""
LOWEST_RATE_MARGIN, PREVIEW_MARGIN = 6, 3
"""Samples around a preview's activations, at the lowest rate and behind it; with fewer its border begins to
differ."""
_FREQUENCIES = 513  # at which responses are compared
_EXACT = 1e6
"""Weight of the mean and its images: what is constant stays constant, without ripples."""


def preview_network(network: nn.Module) -> nn.Module | None:
    """A network that draws quick, smaller pictures and is called as the synthesis network is; parameters are
    shared.

    StyleGAN2: its first blocks, whose image so far is a picture of a quarter of the side. StyleGAN3: the same
    layers at half of their sampling rates, half of the side and about a quarter of the work. None where the
    full picture is not larger, or where the preview would be smaller than `SMALLEST_PREVIEW`.
    """
    if isinstance(network, StyleGAN3Synthesis):
        return _at_half_rates(network)
    return _first_blocks(network) if isinstance(network, StyleGAN2Synthesis) else None


def _first_blocks(network: StyleGAN2Synthesis) -> StyleGAN2Synthesis | None:
    full = network.block_resolutions[-1]
    side = max(full // STYLEGAN2_SHARE, SMALLEST_PREVIEW)
    if side >= full:
        return None
    first = [r for r in network.block_resolutions if r <= side]
    early = _with_modules(network, {f"b{r}": network.get_submodule(f"b{r}") for r in first})
    early.block_resolutions = first
    return early


def _at_half_rates(network: StyleGAN3Synthesis) -> StyleGAN3Synthesis | None:
    old, new = network.bands, halve_rates(network.bands)
    if new[-1].size < SMALLEST_PREVIEW or new[-1].size == old[-1].size:
        return None
    modules: dict[str, nn.Module] = {"input": _resampled(network.input, new[0])}
    for i, name in enumerate(network.layer_names):
        layer, j = cast(StyleGAN3Layer, network.get_submodule(name)), max(i - 1, 0)
        modules[name] = HalfRateLayer(layer, (old[j], old[i]), (new[j], new[i]))
    return _with_modules(network, modules)


def _with_modules(network: Network, modules: Mapping[str, nn.Module]) -> Network:
    """The same network with these modules for its own; what they share with it stays shared."""
    other = copy(network)
    other._modules = dict(modules)
    return other


def _resampled(layer: SynthesisInput, band: Band) -> SynthesisInput:
    """The same features on another grid; parameters and buffers are shared."""
    with torch.random.fork_rng(devices=[]):  # what is drawn here is thrown away
        other = SynthesisInput(layer.affine.weight.shape[1], band)
    other.affine, other.weight = layer.affine, layer.weight
    for name, buffer in layer.named_buffers(recurse=False):
        other.register_buffer(name, buffer)
    return other


def halve_rates(bands: list[Band]) -> list[Band]:
    """The same signals at half of their sampling rates, with narrower margins.

    The lowest rate stays: its layers shape everything and cost little. Frequencies are as they were, even
    where the new rate cannot hold them.
    """
    lowest, halves = bands[0].sampling_rate, []
    for band in bands:
        rate = max(band.sampling_rate // 2, lowest)
        enough = PREVIEW_MARGIN if rate < band.sampling_rate else LOWEST_RATE_MARGIN
        margin = min(enough, (band.size - band.sampling_rate) // 2)
        halves.append(replace(band, sampling_rate=rate, size=rate + 2 * margin))
    return halves


def _expected(frequency: np.ndarray) -> np.ndarray:
    """Weight of errors at a frequency, cycles per image width. Steeper than spectra of images: pictures were
    nearest so."""
    return (1 + frequency**2) ** -1.5


def fit_filter(f: torch.Tensor, taps: int, old_rate: int, new_rate: int, signal_rate: int) -> torch.Tensor:
    """A low-pass filter for a lower sampling rate.

    Args:
        f: [n] or radial [n, n], the filter at the old rate.
        old_rate, new_rate: At which the filters run, samples per image width.
        signal_rate: Of the signal that the new one brings up to its rate, or down from it.

    Returns:
        float32 [taps], summing to 1.
    """
    old = f.detach().cpu().double().numpy()
    old = old.sum(0) if old.ndim == 2 else old  # a radial filter's response along an axis
    frequency = np.linspace(0, new_rate / 2, _FREQUENCIES)
    response = _waves(frequency, len(old), old_rate)[0] @ old
    wanted = np.where(frequency <= signal_rate / 2, response, 0)
    # What falls onto a frequency as its image, or will when downsampled, counts as that frequency does.
    folded = np.abs(frequency - signal_rate * np.rint(frequency / signal_rate))
    weight = np.where(folded == 0, _EXACT, _expected(folded))
    waves, _ = _waves(frequency, taps, new_rate)
    new = np.linalg.lstsq(waves * weight[:, None], wanted * weight, rcond=None)[0]
    return torch.as_tensor(new / new.sum(), dtype=torch.float32, device=f.device)


def interpolate_taps(kernel_size: int, old_rate: int, new_rate: int) -> np.ndarray:
    """New taps of a kernel from its old ones: float64 [kernel_size, kernel_size], to multiply columns and
    rows with.

    Args:
        old_rate, new_rate: At which the kernels run, samples per image width.
    """
    frequency = np.linspace(0, new_rate / 2, _FREQUENCIES)
    weight = np.where(frequency == 0, _EXACT, _expected(frequency))[:, None]
    old, new = (
        np.vstack([weight * part for part in _waves(frequency, kernel_size, rate)])
        for rate in (old_rate, new_rate)
    )
    return np.linalg.lstsq(new, old, rcond=None)[0]


def _waves(frequency: np.ndarray, taps: int, rate: int) -> tuple[np.ndarray, np.ndarray]:
    """Response of every tap of a centred filter, real and imaginary part: [frequencies, taps]."""
    angle = 2 * np.pi * frequency[:, None] * (np.arange(taps) - (taps - 1) / 2) / rate
    return np.cos(angle), np.sin(angle)


class HalfRateLayer(nn.Module):
    """A `StyleGAN3Layer` at other, lower rates; parameters and running statistics are the layer's own.

    Args:
        old: Bands of its input and output.
        new: The same with the rates and sizes wanted.
    """

    up_filter: torch.Tensor | None
    down_filter: torch.Tensor | None

    def __init__(self, layer: StyleGAN3Layer, old: tuple[Band, Band], new: tuple[Band, Band]) -> None:
        super().__init__()
        self.affine = layer.affine  # like every layer that takes a w
        self._full = (layer,)  # not a submodule: nobody runs it
        old_rates, new_rates = ([band.sampling_rate for band in bands] for bands in (old, new))
        old_inner = layer.up * old_rates[0]
        new_inner = old_inner * max(new_rates) // max(old_rates)
        self.up, self.down = (new_inner // rate for rate in new_rates)

        def fitted(f: torch.Tensor | None, old_factor: int, rate: int) -> torch.Tensor | None:
            factor = new_inner // rate
            if f is None or factor == 1:
                return None
            if (new_inner, factor) == (old_inner, old_factor):
                return f
            return fit_filter(f, len(f) * factor // old_factor, old_inner, new_inner, signal_rate=rate)

        self.register_buffer("up_filter", fitted(layer.up_filter, layer.up, new_rates[0]))
        self.register_buffer("down_filter", fitted(layer.down_filter, layer.down, new_rates[1]))
        taps = sum(1 if f is None else len(f) for f in (self.up_filter, self.down_filter))
        sizes = new[0].size, new[1].size
        self.padding = centred_padding(*sizes, layer.kernel_size, self.up, self.down, taps)
        self.interpolation = None
        if layer.kernel_size > 1 and new_rates[0] < old_rates[0]:
            along = interpolate_taps(layer.kernel_size, old_rates[0], new_rates[0])
            self.interpolation = torch.from_numpy(np.kron(along, along)).float()
        self._kernel: tuple[tuple, torch.Tensor, torch.Tensor] | None = None

    def styles(self, w: torch.Tensor) -> torch.Tensor:
        """w [B, w_dim] -> [B, I]: what scales the input's channels."""
        return self._full[0].styles(w)

    def forward(
        self, x: torch.Tensor, styles: torch.Tensor, update_emas: bool = False, full_precision: bool = False
    ) -> torch.Tensor:
        """[B, I, H, W] and styles [B, I] -> [B, O, H', W'], in the dtype of the styles, at least float32."""
        (layer,) = self._full
        kernel, energy = self._kernel_and_energy()
        x = ops.modulated_conv2d(
            fast_layout(x.to(block_dtype(styles, False))),
            kernel,
            styles,
            padding=layer.kernel_size - 1,
            demodulate=False,
            input_gain=layer.magnitude_ema.rsqrt(),
        )
        if not layer.is_torgb:  # demodulated by what the full network's kernel does to white noise
            x *= (styles.square() @ energy.T + DEMODULATION_EPS).rsqrt()[:, :, None, None]
        return ops.filtered_lrelu(
            x,
            self.up_filter,
            self.down_filter,
            layer.bias,
            up=self.up,
            down=self.down,
            padding=self.padding,
            gain=layer.gain,
            slope=layer.slope,
            clamp=layer.conv_clamp,
        )

    def _kernel_and_energy(self) -> tuple[torch.Tensor, torch.Tensor]:
        """The kernel at the new rate [O, I, k, k], and the energy of the old one [O, I]; kept while that is
        unchanged."""
        weight = self._full[0].weight
        state = (weight.data_ptr(), None if weight.is_inference() else weight._version)
        if self._kernel is None or self._kernel[0] != state:
            kernel, old = weight, weight.detach().flatten(2)
            if self.interpolation is not None:
                kernel = (old @ self.interpolation.T.to(old)).view(weight.shape)
            self._kernel = state, kernel, old.square().sum(2)
        return self._kernel[1:]
