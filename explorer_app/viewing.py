"""From what was rendered to what is looked at: a layer's channels side by side, a moved picture moved back.

The window and exports without one both come here; no torch.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from explorer_app.messages import Picture
from explorer_app.real_image import RealImage
from explorer_app.request_edits import motion
from explorer_app.state import Display
from mssg.rendering.request import RenderRequest

RED_FREE = (0.587 / 0.701, 0.114 / 0.701)
"""Weights of green and blue: those of luminance (ITU-R BT.601) without red."""


def channel_tiles(channels: Sequence[np.ndarray], display: Display) -> np.ndarray:
    """Activations side by side in a near-square montage of grey levels.

    Args:
        channels: float32 [H, W] each.
        display: `normalise` stretches all of them to the full range; else, after a gain, -1 is black and 1
            white.

    Returns:
        float32 [rows · H, columns · W].
    """
    stack = np.stack(channels)
    if display.normalise:
        low, high = float(stack.min()), float(stack.max())
        stack = (stack - low) / max(high - low, 1e-12) * 255
    else:
        stack = (stack * 10 ** (display.gain_db / 20) + 1) * 127.5
    columns = math.ceil(math.sqrt(len(stack)))
    rows = -(-len(stack) // columns)
    height, width = stack.shape[1:]
    out = np.zeros((rows * height, columns * width), np.float32)
    for i, tile in enumerate(stack):
        y, x = divmod(i, columns)
        out[y * height : (y + 1) * height, x * width : (x + 1) * width] = tile
    return out


def moved_back(image: np.ndarray, request: RenderRequest) -> np.ndarray:
    """A picture with its transform undone by cubic interpolation: an equivariant generator then stands still.

    Args:
        image: float32 [H, W] or [H, W, 3], grey levels.
    """
    from scipy.ndimage import affine_transform

    x, y, turns = motion(request)
    c, s = math.cos(2 * math.pi * turns), math.sin(2 * math.pi * turns)
    side = image.shape[0]
    linear = np.array([[c, s], [-s, c]])  # of (row, column)
    centre = np.full(2, (side - 1) / 2)
    offset = centre - linear @ centre + np.array([y, x]) * side
    planes = np.atleast_3d(image)
    back = [
        affine_transform(planes[..., k], linear, offset, order=3, cval=0.0, prefilter=True)
        for k in range(planes.shape[-1])
    ]
    return np.stack(back, -1).reshape(image.shape)


def viewed(
    images: Sequence[np.ndarray], request: Picture, display: Display, mirror: bool = False
) -> np.ndarray:
    """What is looked at: grey levels float32 [H, W] or [H, W, 3].

    Args:
        images: What was rendered, one for each of `channel_requests`.
        request: The first of them.
        mirror: Turn each channel of a layer right to left; their order stays.
    """
    if isinstance(request, RealImage):
        return channel(images[0], display.channel)
    if request.layer is not None:
        return channel_tiles([i[:, ::-1] for i in images] if mirror else images, display)
    moved = display.untransform and request.transform is not None
    return channel(moved_back(images[0], request) if moved else images[0], display.channel)


def channel(image: np.ndarray, name: str) -> np.ndarray:
    """What is to be seen of a picture: itself, or of one in colour the grey levels float32 [H, W] of its
    green channel, or of what a red-free photograph shows (green and blue light, as much as eyes see of
    each)."""
    if image.ndim == 2 or name == "colour":
        return image
    if name == "green":
        return np.ascontiguousarray(image[..., 1])
    green, blue = RED_FREE
    return (green * image[..., 1] + blue * image[..., 2]).astype(np.float32)
