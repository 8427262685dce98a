"""Two batches of images that are compared pair by pair."""

from __future__ import annotations

import numpy as np

from mssg.errors import DataError, UsageError


def image_pair(
    a: object, b: object, data_range: float | None, least: int = 1
) -> tuple[np.ndarray, np.ndarray, float]:
    """Two batches of images [N, C, H, W] and the distance of black and white, checked.

    Args:
        a, b: Images uint8 or float, of the same shape.
        data_range: 255 for uint8, needed otherwise.
        least: Smallest image side in pixels.

    Raises:
        DataError: If the images are wrong, too small, or differ in shape.
        UsageError: If data_range is missing or not positive.
    """
    a, b = np.asarray(a), np.asarray(b)
    for name, images in (("a", a), ("b", b)):
        if images.ndim != 4 or 0 in images.shape:
            raise DataError("images must be [N, C, H, W]", field=name, found=f"shape {images.shape}")
        if images.dtype != np.uint8 and images.dtype.kind != "f":
            raise DataError("images must be uint8 or float", field=name, found=f"dtype {images.dtype}")
        if not np.isfinite(images).all():
            raise DataError("images hold NaN or infinity", field=name)
    if a.shape != b.shape:
        raise DataError("pairs must have the same shape", found=f"{a.shape} and {b.shape}")
    if min(a.shape[2:]) < least:
        raise DataError(
            "images are too small", found=f"{a.shape[2]} x {a.shape[3]}", expected=f"at least {least} pixels"
        )
    if data_range is None:
        if a.dtype != np.uint8 or b.dtype != np.uint8:
            raise UsageError(
                "the data range of floats must be given", field="data_range", hint="255, 1 or 2, as they lie"
            )
        data_range = 255.0
    if not 0.0 < data_range < np.inf:
        raise UsageError("the data range must be positive", field="data_range", found=data_range)
    return a, b, float(data_range)
