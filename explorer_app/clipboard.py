"""Pictures onto the system's clipboard. On Linux it holds them as long as the explorer runs."""

from __future__ import annotations

import numpy as np

from mssg import extras
from mssg.errors import UsageError


def copy_picture(pixels: np.ndarray) -> None:
    """Put a picture on the clipboard.

    Args:
        pixels: uint8 [H, W] or [H, W, 3].

    Raises:
        UsageError: There is no clipboard, or it takes no picture.
    """
    extras.need("explorer", "copying pictures")
    import copykitten

    high, wide = pixels.shape[:2]
    rgba = np.full((high, wide, 4), 255, np.uint8)
    rgba[..., :3] = pixels if pixels.ndim == 3 else pixels[..., None]
    try:
        copykitten.copy_image(rgba.tobytes(), wide, high)
    except copykitten.CopykittenError as error:
        raise UsageError(
            "the clipboard took no picture", found=str(error), hint="Export it instead"
        ) from None
