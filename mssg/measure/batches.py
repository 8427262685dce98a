"""Batches of images as oracles take them."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mssg.errors import DataError


def grey_squares(images: ArrayLike, what: str) -> list[NDArray[np.float32]]:
    """A batch as float32 [H,H] each.

    Args:
        images: Numbers [N,H,H] or [N,1,H,H], grey levels 0 to 255.
        what: What they are said to show.

    Raises:
        DataError: The array is no such batch.
    """
    batch = np.asarray(images)
    if batch.ndim == 4 and batch.shape[1] == 1:
        batch = batch[:, 0]
    if batch.ndim != 3 or batch.shape[1] != batch.shape[2] or batch.dtype.kind not in "uif":
        raise DataError(
            f"not a batch of {what}",
            found=f"{batch.dtype} {list(batch.shape)}",
            expected="numbers [N,H,H] or [N,1,H,H], one channel, grey levels 0 to 255",
        )
    return [np.asarray(image, np.float32) for image in batch]
