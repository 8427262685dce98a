"""Colour tables, uint8 [256, 3], from a few control points each; no matplotlib in the window's process.

viridis, magma and inferno follow the CC0 tables of S. van der Walt and N. Smith; "signed" is a diverging map
whose middle is dark, so that "no difference" recedes.
"""

from __future__ import annotations

from functools import cache

import numpy as np

_POINTS: dict[str, str] = {
    "grey": "000000 ffffff",
    "bone": "000000 54546f a7c6c6 ffffff",
    "viridis": "440154 482475 414487 355f8d 2a788e 21918c 22a884 44bf70 7ad151 bddf26 fde725",
    "magma": "000004 140e36 3b0f70 641a80 8c2981 b73779 de4968 f7705c fe9f6d fecf92 fcfdbf",
    "inferno": "000004 160b39 420a68 6a176e 932667 bc3754 dd513a f37819 fca50a f6d746 fcffa4",
    "signed": "b8e3ff 6db6f0 2f7fc4 1d4a78 16202c 101214 2c1c14 7a3d1a c8692a f2a45a ffe3bf",
}
NAMES = tuple(_POINTS)


@cache
def table(name: str, invert: bool = False) -> np.ndarray:
    """The colour table of a name, uint8 [256, 3]; inverted, from the last colour to the first."""
    points = np.array([[int(p[i : i + 2], 16) for i in (0, 2, 4)] for p in _POINTS[name].split()], np.float64)
    at = np.linspace(0, len(points) - 1, 256)
    colours = np.stack([np.interp(at, np.arange(len(points)), points[:, c]) for c in range(3)], axis=1)
    out = np.rint(colours).astype(np.uint8)
    return out[::-1].copy() if invert else out


def apply(image: np.ndarray, level: float, width: float, name: str, invert: bool = False) -> np.ndarray:
    """Window, level and colour map of an image, as the shader does it: uint8 [H, W, 3].

    Args:
        image: float32 [H, W], or [H, W, 3] which keeps its own colours.
        level: Grey level shown in the middle.
        width: Span of grey levels shown from first to last colour.
        name: Colour map.
        invert: Swap its ends.
    """
    position = np.clip((image - (level - width / 2)) * (255 / max(width, 1e-6)), 0, 255)
    if image.ndim == 3:
        return np.rint(255 - position if invert else position).astype(np.uint8)
    low = np.minimum(position.astype(int), 254)
    part = (position - low)[..., None]
    colours = table(name, invert).astype(np.float64)
    return np.rint(colours[low] * (1 - part) + colours[low + 1] * part).astype(np.uint8)
