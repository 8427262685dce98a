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

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn

from mssg.networks.layers import block_dtype, centred_padding, fast_layout
from mssg.ops import functional as ops
from mssg.ops.reference import DEMODULATION_EPS

if TYPE_CHECKING:
    from mssg.networks.stylegan3 import Band, SynthesisLayer

_FREQUENCIES = 513  # at which responses are compared
_EXACT = 1e6
"""Weight of the mean and its images: what is constant stays constant, without ripples."""


def _expected(frequency: np.ndarray) -> np.ndarray:
    """Weight of errors at a frequency, cycles per image width. Steeper than spectra of images: pictures were
    nearest so."""
    return (1 + frequency**2) ** -1.5


def fit_filter(f: torch.Tensor, taps: int, old_rate: int, new_rate: int, signal_rate: int) -> torch.Tensor:
    """A low-pass filter for a lower sampling rate.

    Args:
        f: [n] or radial [n, n], the filter at the old rate.
        taps: Of the new one.
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
        kernel_size: Number of taps.
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
    """A `SynthesisLayer` at other, lower rates; parameters and running statistics are the layer's own.

    Args:
        layer: Of the full network.
        old: Bands of its input and output.
        new: The same with the rates and sizes wanted.
    """

    up_filter: torch.Tensor | None
    down_filter: torch.Tensor | None

    def __init__(self, layer: SynthesisLayer, old: tuple[Band, Band], new: tuple[Band, Band]) -> None:
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
            return fit_filter(f, len(f) * factor // old_factor, old_inner, new_inner, rate)

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

    def forward(self, x: torch.Tensor, styles: torch.Tensor, update_emas: bool = False) -> torch.Tensor:
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
