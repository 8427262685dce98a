"""StyleGAN3's filters and the bands of its layers: what signals can represent, and what is filtered away.

Source: Karras et al. 2021, "Alias-free generative adversarial networks", section 3.2 and appendix C.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import pi

import numpy as np

from mssg.networks.config import GeneratorConfig


def design_lowpass_filter(
    taps: int, cutoff: float, width: float, sampling_rate: float, radial: bool = False
) -> np.ndarray | None:
    """Kaiser-windowed low-pass filter.

    Args:
        taps: Length; 1 = no filter.
        cutoff: Half-amplitude frequency, in cycles per image width.
        width: Of the transition band, same unit.
        sampling_rate: Samples per image width.
        radial: Circularly symmetric instead of separable.

    Returns:
        float64 [taps] or [taps, taps] (radial), summing to 1; None for one tap.

    Source: Karras et al. 2021, appendix C.1-C.2, equations 4-9; Kaiser 1974.
    """
    if taps == 1:
        return None
    from scipy.signal import firwin, kaiser_atten, kaiser_beta
    from scipy.special import j1

    if not radial:
        return np.asarray(firwin(numtaps=taps, cutoff=cutoff, width=width, fs=sampling_rate))
    t = (np.arange(taps) - (taps - 1) / 2) / sampling_rate
    r = np.hypot(t[:, None], t[None, :])
    with np.errstate(invalid="ignore", divide="ignore"):
        jinc = np.where(r > 0, j1(2 * pi * cutoff * r) / (pi * r), cutoff)  # J1(a r) / (pi r) -> cutoff at 0
    beta = kaiser_beta(kaiser_atten(taps, width / (sampling_rate / 2)))
    window = np.kaiser(taps, beta)
    f = jinc * np.outer(window, window)
    return f / f.sum()


@dataclass(frozen=True)
class Band:
    """Signal parameters at one point of the network: what a layer's input or output can represent.

    Args:
        cutoff: Half-amplitude frequency, cycles per image width.
        half_width: Half of the transition band, same unit.
        sampling_rate: Samples per image width.
        size: Samples along each side, margins included.
    """

    cutoff: float
    half_width: float
    sampling_rate: int
    size: int
    channels: int


def design_bands(config: GeneratorConfig) -> list[Band]:
    """Bandwidths, rates, sizes and widths of all layers: num_layers + 1 of them, the last one the image.

    Source: Karras et al. 2021, section 3.2 (geometric progression of cutoffs and stopbands) and figure 4c.
    """
    last_cutoff = config.img_resolution / 2
    last_stopband = last_cutoff * config.last_stopband_rel
    n = config.num_layers
    progress = np.minimum(np.arange(n + 1) / (n - config.num_critical), 1)
    cutoffs = config.first_cutoff * (last_cutoff / config.first_cutoff) ** progress
    stopbands = config.first_stopband * (last_stopband / config.first_stopband) ** progress
    rates = np.exp2(np.ceil(np.log2(np.minimum(stopbands * 2, config.img_resolution))))
    half_widths = np.maximum(stopbands, rates / 2) - cutoffs
    sizes = rates + 2 * config.margin_size
    sizes[-2:] = config.img_resolution
    channels = np.rint(np.clip(config.channel_base / 2 / cutoffs, config.channel_min, config.channel_max))
    channels[-1] = config.img_channels
    return [
        Band(float(c), float(h), int(r), int(s), channels=int(k))
        for c, h, r, s, k in zip(cutoffs, half_widths, rates, sizes, channels)
    ]
