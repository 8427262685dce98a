"""The picture of the medians that a snapshot stores: a window has one before torch is there."""

from __future__ import annotations

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import numpy as np

from mssg.networks.generator import Generator
from mssg.rendering.image_files import encode_png
from mssg.rendering.renderer import Renderer
from mssg.rendering.request import RenderRequest, to_uint8
from mssg.study.model import Study

LARGEST = 256
"""Pixels a side of a stored picture, at most."""


def stored_picture(G: Generator, study: Study, summary: Mapping[str, Any]) -> bytes:
    """Draw what `RenderRequest()` asks for: every covariate at its training median, seed 0.

    Args:
        G: With averaged weights, on any device.
        study: With fitted statistics.
        summary: The training summary of the snapshot that is to be written.

    Returns:
        PNG, at most `LARGEST` pixels a side; nothing where the medians are unknown, as of an imported
        network, or what is drawn is not finite.
    """
    from PIL import Image

    header = SimpleNamespace(summary=summary, snapshot_id="")
    unsaved: Any = SimpleNamespace(G=G, study=study, header=header)
    image = Renderer(unsaved).render(RenderRequest()).image
    if image is None:
        return b""
    pixels = to_uint8(image[0] if len(image) == 1 else np.moveaxis(image[:3], 0, -1))
    side = min(pixels.shape[0], LARGEST)
    return encode_png(np.asarray(Image.fromarray(pixels).resize((side, side), Image.Resampling.BOX)), {})
