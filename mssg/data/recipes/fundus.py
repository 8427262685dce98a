"""Fundus photographs: trimmed, padded to a square, turned to one side, resized without aliasing; three
channels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mssg.data import pipeline
from mssg.data.cohort_values import ImageRecord
from mssg.data.image_jobs import Row
from mssg.data.photo_quality import DARK, judge_photo
from mssg.data.picture_files import read_pixels
from mssg.data.recipes.cohort_selection import PrepareRequest, select_cohort
from mssg.errors import DataError, UsageError, check_choice
from mssg.study.model import Photograph

SUFFIXES = (".jpg", ".jpeg", ".png", ".tif", ".tiff", ".bmp")
FORMATS = ("JPEG", "PNG", "TIFF", "BMP")
RESOLUTIONS = (32, 64, 128, 256, 512, 1024)
SIDES = ("left", "right", "none")
SEEN = 0.02
"""Share of a row or column that is brighter where the eye begins."""


@dataclass(frozen=True)
class PhotoOptions:
    """How photographs become pictures.

    Attributes:
        resolution: Pixels a side.
        flip: Eyes of this side are mirrored, so that all look like the other: "left", "right" or "none".
        trim: Cut the black rows and columns around the eye.
        balance: A covariate and the share of images in which it shall be above 0.
    """

    resolution: int = 128
    flip: str = "left"
    trim: bool = True
    balance: tuple[str, float] | None = None


@dataclass(frozen=True)
class PhotoMaker:
    """Makes one photograph's picture; see `ImageMaker`."""

    options: PhotoOptions

    def __call__(self, item: ImageRecord) -> tuple[NDArray[np.uint8], list[Row | str]]:
        """Picture uint8 [1, 3, R, R], and its side."""
        side = item.image.facts.get("side", "")
        photo = read_photo(item.image.path)
        if self.options.trim:
            photo = trimmed(photo)
        photo = padded(photo)
        found = judge_photo(photo)
        flipped = side != "" and side == self.options.flip
        picture = resized(photo[:, ::-1] if flipped else photo, self.options.resolution)
        measured = {k: v for k, v in vars(found).items() if k != "reason"} | {"doubt": found.doubt(side)}
        row = {"side": side, "flipped": int(flipped), "measured": measured, "reason": found.reason}
        return picture.transpose(2, 0, 1)[None], [row]


def read_photo(path: Path) -> NDArray[np.uint8]:
    """A photograph as uint8 [H, W, 3].

    Raises:
        DataError: As `read_pixels`, or with 16 bits a pixel.
    """
    pixels = read_pixels(path, path, formats=FORMATS)
    if pixels.dtype != np.uint8:
        raise DataError(
            "not a supported colour mode", file=path, found="16 bits", expected="8 bits a channel"
        )
    return pixels if pixels.ndim == 3 else np.repeat(pixels[..., None], 3, axis=2)


def trimmed(photo: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A photograph without the black rows and columns around the eye.

    Args:
        photo: uint8 [H, W, 3].

    Raises:
        DataError: All of it is black.
    """
    bright = photo.max(axis=2) > DARK
    rows, columns = (np.flatnonzero(bright.mean(axis) > SEEN) for axis in (1, 0))
    if not rows.size or not columns.size:
        raise DataError("the photograph is black")
    return photo[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


def padded(photo: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A photograph [h, w, 3] in the middle of a black square [S, S, 3]."""
    height, width = photo.shape[:2]
    side = max(height, width)
    out = np.zeros((side, side, 3), np.uint8)
    top, left = (side - height) // 2, (side - width) // 2
    out[top : top + height, left : left + width] = photo
    return out


def resized(photo: NDArray[np.uint8], resolution: int) -> NDArray[np.uint8]:
    """A square photograph [S, S, 3] at another size [R, R, 3]; its filter grows with the step down, so that
    nothing is aliased."""
    from PIL import Image

    image = Image.fromarray(np.ascontiguousarray(photo))
    return np.asarray(image.resize((resolution, resolution), Image.Resampling.LANCZOS))


def prepare(request: PrepareRequest, options: PhotoOptions | None = None) -> pipeline.PreparedSources:
    """Prepare photographs as a source (with `divide`, several of one population), a report, and a study to
    start from.

    Raises:
        UsageError, DataError: What cannot be, or no image is left.
    """
    options = options or PhotoOptions()
    for value, choices, name in (
        (options.flip, SIDES, "--flip"),
        (options.resolution, RESOLUTIONS, "--resolution"),
    ):
        check_choice(value, choices, name)
    if options.balance and not 0 < options.balance[1] < 1:
        raise UsageError(
            "not a share", field="--balance", found=options.balance[1], expected="between 0 and 1"
        )
    got = select_cohort(request, "fundus", SUFFIXES)
    settings = {
        "recipe": "fundus",
        "resolution": options.resolution,
        "flip": options.flip,
        "trim": options.trim,
    }
    plan = got.plan(
        request,
        per_item=1,
        shape=(3, options.resolution, options.resolution),
        settings=settings,
        info={**settings, "geometry": None, "balance": list(options.balance) if options.balance else None},
        balance=options.balance,
        photograph=_alike(got.records, options),
        notes=_unturned(got.records, options),
    )
    tell = request.progress(len(got.records)) if request.progress else None
    return pipeline.prepare(
        plan, got.records, got.left_out, got.covariates, PhotoMaker(options), request.workers, tell
    )


def _alike(records: Sequence[ImageRecord], options: PhotoOptions) -> Photograph | None:
    """The eye that all pictures look like: mirrored ones like the others."""
    if options.flip == "none" or not all(record.image.facts.get("side") for record in records):
        return None
    return Photograph(side={"left": "right", "right": "left"}[options.flip])


def _unturned(records: Sequence[ImageRecord], options: PhotoOptions) -> tuple[str, ...]:
    """How many photographs could not be looked at for mirroring."""
    unknown = sum(not record.image.facts.get("side") for record in records)
    if options.flip == "none" or not unknown:
        return ()
    where = "" if unknown < len(records) else "; a column named side, with left and right, says it"
    return (f"{unknown} of {len(records)} photographs state no side: none of them is mirrored{where}",)
