"""Pictures read by one set of rules: turned as EXIF says, 8 or 16 bits, black where they are transparent."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from mssg.errors import DataError, MssgError

LARGEST = 2**27
"""Pixels above which a picture is refused."""
DEEP_MODES = ("I;16", "I;16B", "I;16L", "I;16N", "I")
_MODES = {"1": "L", "L": "L", "LA": "L", "RGB": "RGB", "RGBA": "RGB", "P": "RGB", "PA": "RGB", "YCbCr": "RGB"}
"""Pillow's modes that are understood, and what becomes of them."""


def read_pixels(
    file: Path | BinaryIO,
    place: Path,
    field: str | None = None,
    formats: Sequence[str] = ("PNG", "JPEG"),
    check: Callable[[int, int], None] | None = None,
) -> NDArray[Any]:
    """Read a picture.

    Args:
        file: The file, open or not.
        place: Its path, for messages.
        field: Its name within an archive, for messages.
        formats: Pillow's names of the formats that are taken.
        check: Called with height and width as stored before anything is read into memory; may raise.

    Returns:
        Grey levels [H, W] or colours [H, W, 3], uint8; or uint16 [H, W] of a picture of 16 bits.

    Raises:
        DataError: Damaged, too large, or of a colour mode that is not understood.
    """
    from PIL import Image, ImageOps, UnidentifiedImageError

    try:
        with Image.open(file, formats=tuple(formats)) as image:
            width, height = image.size
            if width * height > LARGEST:
                raise DataError("too large", file=place, field=field, found=f"{width} x {height} pixels")
            if check:
                check(height, width)
            if image.mode not in (*_MODES, *DEEP_MODES):
                raise DataError(
                    "not a supported colour mode",
                    file=place,
                    field=field,
                    found=image.mode,
                    expected="grey, RGB, or these with transparency",
                    hint="Convert it first",
                )
            return _levels(ImageOps.exif_transpose(image))
    except MssgError:
        raise
    except Exception as error:  # a damaged file makes its reader fail in any way it likes
        unknown = isinstance(error, UnidentifiedImageError)
        text = "no such format" if unknown else str(error) or type(error).__name__
        text = text.replace(str(place), place.name).splitlines()[0][:200]
        expected = f"an intact {' or '.join(formats)}"
        raise DataError(f"cannot be read: {text}", file=place, field=field, expected=expected) from None


def _levels(image: Any) -> NDArray[Any]:
    """The pixels of a picture; transparency laid over black, whatever colour hides under it."""
    from PIL import Image

    if image.mode in DEEP_MODES:
        pixels = np.asarray(image)
        if pixels.min() < 0 or pixels.max() > 65535:
            raise ValueError(f"values from {pixels.min()} to {pixels.max()}")
        return pixels.astype(np.uint16)
    mode = _MODES[image.mode]
    if image.mode in ("LA", "PA", "RGBA") or "transparency" in image.info:
        image = Image.alpha_composite(Image.new("RGBA", image.size, (0, 0, 0, 255)), image.convert("RGBA"))
    return np.asarray(image.convert(mode))
