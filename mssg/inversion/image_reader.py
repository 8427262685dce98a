"""A user's picture as the images of a study: PNG, JPEG, NumPy or a NIfTI slice. Checked, never resized or
rescaled in silence; only photographs of the fundus are trimmed and scaled, as `mssg prepare fundus` does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mssg.data import nifti
from mssg.data.nifti import AS_STATED, VolumeRules, read_slice
from mssg.data.picture_files import read_pixels
from mssg.data.plane import Place, slice_picture
from mssg.errors import DataError, MssgError, UsageError
from mssg.inversion.volume_slice import CuttingRules, cut, is_volume
from mssg.study.model import Study

PICTURES, ARRAYS, SLICES = (".png", ".jpg", ".jpeg"), (".npy",), nifti.SUFFIXES
SUFFIXES = (*PICTURES, *ARRAYS, *SLICES)
PLAIN = CuttingRules()
SAME_SIZE = 0.01
"""Relative difference of pixel sizes that rounding explains."""


def read_place(path: str | Path, study: Study, rules: VolumeRules = AS_STATED) -> Place | None:
    """Where a picture lies in its patient; None for a file that states none.

    Args:
        path: As of `read_picture`, which can read it.
        study: As of `read_picture`.
        rules: As of `read_picture`.
    """
    if not str(path).lower().endswith(SLICES):
        return None
    place = Place.of_slice(read_slice(path, rules))
    if study.geometry and study.geometry.mirrored:
        place = place.turned(study.resolution)
    return place if place.code else None


def read_image(
    path: str | Path, study: Study, rules: CuttingRules = PLAIN
) -> tuple[NDArray[np.uint8], Place | None]:
    """A file as a picture uint8 [C, H, W] of a study, and where that lies: a picture or slice as it is
    (`read_picture`), a whole volume cut (`cut`).

    Raises:
        DataError: As either.
    """
    if is_volume(path, rules.reading):
        return cut(path, study, rules)
    return read_picture(path, study, rules.reading), read_place(path, study, rules.reading)


def read_picture(path: str | Path, study: Study, rules: VolumeRules = AS_STATED) -> NDArray[np.uint8]:
    """Read a picture that a study's generator could have drawn.

    Args:
        path: .png or .jpg (8 or 16 bits; of a study of fundus photographs 8 bits and any size); .npy [H, W],
            [C, H, W] or [1, C, H, W], uint8 or floats from 0 to 255; .nii(.gz) one slice with grey levels 0
            to 255, as `mssg generate` writes them.
        study: Side and channels it must have.
        rules: How NIfTI files are read that leave something open.

    Returns:
        uint8 [C, H, W].

    Raises:
        DataError: Missing, damaged, of another size, number of channels or range, or without content.
    """
    path = Path(path)
    suffix = next((s for s in SUFFIXES if path.name.lower().endswith(s)), None)
    if suffix is None:
        raise DataError(
            "not a picture", file=path, found=path.suffix or "no suffix", expected=" | ".join(SUFFIXES)
        )
    if not path.is_file():
        raise DataError("no such file" if not path.exists() else "not a file", file=path)
    try:
        if suffix in PICTURES:
            levels = _picture(path, study)
        else:
            levels = _array(path) if suffix in ARRAYS else _slice(path, study, rules)
    except MssgError:
        raise
    except Exception as error:  # a damaged file makes its reader fail in any way it likes
        text = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
        raise DataError(f"cannot be read: {text}", file=path) from None
    return fitting_picture(levels, study, path)


def _picture(path: Path, study: Study) -> NDArray[Any]:
    if study.photograph:
        return _photograph(path, study)
    pixels = read_pixels(path, path, check=lambda height, width: _check_side(path, height, width, study))
    if pixels.dtype == np.uint16:  # 0 to 65535 over the same range
        pixels = pixels / 257.0
    return pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)


def _photograph(path: Path, study: Study) -> NDArray[np.uint8]:
    """A photograph of a fundus as the training images were made: one of their size as it is, another trimmed,
    squared and scaled; where all look like one eye, mirrored if its disc says that it is the other."""
    from mssg.data.photo_quality import judge_photo
    from mssg.data.recipes.fundus import padded, read_photo, resized, trimmed

    photo, side = read_photo(path), study.resolution
    if photo.shape[:2] != (side, side):
        photo = padded(trimmed(photo))
        alike = study.photograph.side if study.photograph else None
        if {judge_photo(photo).disc_side, alike} == {"left", "right"}:
            photo = photo[:, ::-1]
        photo = resized(photo, side)
    return photo.transpose(2, 0, 1)


def _array(path: Path) -> NDArray[Any]:
    # not in memory before its size is known
    return channels_first(np.load(path, mmap_mode="r", allow_pickle=False), path)


def channels_first(pixels: NDArray[Any], path: Path | None = None) -> NDArray[Any]:
    """[H, W], [C, H, W] or [1, C, H, W] -> [C, H, W].

    Raises:
        DataError: Another shape, or no numbers.
    """
    if pixels.ndim == 4 and len(pixels) == 1:
        pixels = pixels[0]
    if pixels.ndim == 2:
        pixels = pixels[None]
    if pixels.ndim != 3:
        raise DataError(
            "not one picture",
            file=path,
            found=list(pixels.shape),
            expected="[H, W], [C, H, W] or [1, C, H, W]",
        )
    if pixels.dtype.kind not in "uif":
        raise DataError("not numbers", file=path, found=pixels.dtype, expected="uint8 or float")
    return pixels


def _slice(path: Path, study: Study, rules: VolumeRules) -> NDArray[Any]:
    """A slice as `stored` lays it down, held to the study's plane and pixel size."""
    plane, edges, picture = slice_picture(read_slice(path, rules))
    height, width = picture.shape
    _check_side(path, height, width, study)
    geometry = study.geometry
    if geometry and plane != geometry.plane:
        raise DataError(
            "a slice of another plane than the study's", file=path, found=plane, expected=geometry.plane
        )
    if geometry and not np.allclose(edges, geometry.pixel_mm, rtol=SAME_SIZE):
        raise DataError(
            "another pixel size than the study's",
            file=path,
            found=" x ".join(f"{edge:.4g}" for edge in edges) + " mm",
            expected=f"{geometry.pixel_mm:g} mm",
            hint="Cut it as for training: mssg prepare mri … --pixel-mm, --save-slices",
        )
    return picture[None, :, ::-1] if geometry and geometry.mirrored else picture[None]


def _check_side(path: Path | None, height: int, width: int, study: Study) -> None:
    """Refuse another size: where a header states it, before anything is read into memory."""
    side = study.resolution
    if (height, width) != (side, side):
        raise DataError(
            "another size than the snapshot's images",
            file=path,
            found=f"{height} x {width} pixels",
            expected=f"{side} x {side}",
            hint="Cut and scale it as the training images were",
        )


def fitting_picture(pixels: NDArray[Any], study: Study, path: Path | None = None) -> NDArray[np.uint8]:
    """A picture that a study's generator could have drawn.

    Args:
        pixels: Grey levels [C, H, W], 0 to 255.
        study: Side and channels it must have.

    Returns:
        uint8 [C, H, W].

    Raises:
        DataError: Another size, number of channels or range, NaN, or the same level everywhere.
    """
    channels = study.channels
    _, height, width = pixels.shape
    _check_side(path, height, width, study)
    if len(pixels) == 3 and channels == 1 and (pixels == pixels[:1]).all():
        pixels = pixels[:1]  # grey, saved as colour
    if len(pixels) != channels:
        hint = "Save it in grey" if channels == 1 else "Save it as RGB"
        raise DataError(
            "another number of channels", file=path, found=len(pixels), expected=channels, hint=hint
        )
    if not np.isfinite(pixels).all():
        raise DataError("holds NaN or infinity", file=path)
    low, high = float(pixels.min()), float(pixels.max())
    if low < 0 or high > 255 or (pixels.dtype.kind == "f" and high <= 1):
        raise DataError(
            "not grey levels",
            file=path,
            found=f"values from {low:g} to {high:g}",
            expected="0 to 255",
            hint="Scale it as the training images were",
        )
    if low == high:
        raise DataError("the picture is empty", file=path, found=f"{low:g} everywhere")
    return np.rint(pixels).astype(np.uint8)


def grey_or_colour(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """[C, H, W] -> RGB [H, W, 3] for showing.

    Raises:
        UsageError: Neither one nor three channels.
    """
    if len(image) not in (1, 3):
        raise UsageError("only grey and colour images can be shown", found=f"{len(image)} channels")
    return np.repeat(image, 3, axis=0).transpose(1, 2, 0) if len(image) == 1 else image.transpose(1, 2, 0)
