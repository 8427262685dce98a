"""The picture of the medians that a snapshot stores: a window has one before torch is there."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from mssg.errors import UsageError
from mssg.networks.generator import Generator
from mssg.networks.latents import latents
from mssg.rendering.image_files import encode_png
from mssg.rendering.request import RenderRequest, to_uint8
from mssg.study.model import Study
from mssg.study.values import training_defaults

LARGEST = 256
"""Pixels a side of a stored picture, at most."""


@torch.no_grad()
def stored_picture(G: Generator, study: Study, summary: Mapping[str, Any]) -> bytes:
    """Draw what `RenderRequest()` asks for: every covariate at its training median, seed 0.

    Args:
        G: With averaged weights, on any device.
        study: With fitted statistics.
        summary: The training summary of the snapshot.

    Returns:
        PNG, at most `LARGEST` pixels a side; nothing where the summary states no medians, or what is drawn is
        not finite.
    """
    from PIL import Image

    try:
        values = training_defaults(study, summary)
    except UsageError:  # an imported network: its training data are unknown
        return b""
    device = next(G.parameters()).device
    c = torch.from_numpy(study.encode(np.array([list(values.values())]))).to(device)
    z = latents([RenderRequest().seed], G.z_dim).to(device)
    image = G(z, c)[0].float().cpu().numpy()
    if not np.isfinite(image).all():
        return b""
    pixels = to_uint8(image[0] if len(image) == 1 else np.moveaxis(image[:3], 0, -1))
    side = min(pixels.shape[0], LARGEST)
    return encode_png(np.asarray(Image.fromarray(pixels).resize((side, side), Image.Resampling.BOX)), {})
