"""Whole heads in three planes: coronal, sagittal and axial cuts of one head in a row, a head for each value
of a covariate."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from mssg import assets
from mssg.errors import UsageError
from mssg.rendering.request import RenderRequest
from mssg.rendering.volume import DrawnVolume, draw_volume, resampled
from mssg.study.model import AXES
from mssg.study.values import Sweep

if TYPE_CHECKING:
    from mssg.rendering.renderer import Renderer

ORDER = ("coronal", "sagittal", "axial")
HEADS = 3
"""Rows where nobody says."""
TIMES = 4
"""Pixels of the figure along each pixel of a slice."""
MARGIN, GROUND, INK = 22, 14, 235
"""Of the figure: pixels above for names, grey level of what is empty, and of letters."""
BRIGHT = 20
"""Grey level above which a voxel belongs to the head."""
_EDGES = {"coronal": "RL", "sagittal": "PA", "axial": "RL"}
"""Letters at a plane's left and right edge, as radiologists look at it."""


def planes_figure(
    renderer: Renderer,
    request: RenderRequest,
    sweep: Sweep | None = None,
    at_mm: Sequence[float] | None = None,
) -> NDArray[np.uint8]:
    """Draw heads in three planes.

    Args:
        request: The head: all but the place counts.
        sweep: A covariate with a head, and a row, for each of its values.
        at_mm: Where the planes cut, along x, y and z; None: in the middle of the first head.

    Returns:
        Grey levels uint8 [H, W], radiological: the patient's right at the left.

    Raises:
        UsageError: A study without volumes, or a place that no head has.
    """
    named = [(n, v) for n, v in request.covariates if sweep is None or n != sweep.name]
    values = sweep.values if sweep else (None,)
    rows, labels = [], []
    for value in values:
        wanted = request
        if sweep is not None and value is not None:
            wanted = replace(request, covariates=(*named, (sweep.name, value)))
            labels.append(renderer.study.covariate(sweep.name).format(value))
        head = resampled(draw_volume(renderer, wanted), _finest(renderer))
        at_mm = _middle(head) if at_mm is None else at_mm
        rows.append([_cut(head, plane, at_mm) for plane in ORDER])
    assert at_mm is not None
    cuts = [AXES[plane][0] for plane in ORDER]
    titles = [f"{plane}, {'xyz'[axis]} {at_mm[axis]:+.0f} mm" for plane, axis in zip(ORDER, cuts)]
    return _sheet(rows, labels, titles)


def _finest(renderer: Renderer) -> float:
    geometry = renderer.study.geometry
    assert geometry is not None
    return geometry.pixel_mm


def _middle(head: DrawnVolume) -> list[float]:
    """The middle of a head's extent, in millimetres."""
    inside = np.argwhere(head.data > BRIGHT)
    if not len(inside):
        raise UsageError("the head is empty", field="seed", hint="Choose another seed")
    voxel = (inside.min(0) + inside.max(0)) / 2
    return [float(np.diag(head.affine)[i] * voxel[i] + head.affine[i, 3]) for i in range(3)]


def _cut(head: DrawnVolume, plane: str, at_mm: Sequence[float]) -> NDArray[np.float32]:
    """A plane of a head, row 0 at the top, as radiologists look at it."""
    axis = AXES[plane][0]
    number = round((at_mm[axis] - head.affine[axis, 3]) / head.affine[axis, axis])
    if not 0 <= number < head.data.shape[axis]:
        first = head.affine[axis, 3]
        last = first + head.affine[axis, axis] * (head.data.shape[axis] - 1)
        raise UsageError(
            "no head reaches there", field="--at", found=at_mm[axis], expected=f"{first:g} to {last:g} mm"
        )
    picture = np.take(head.data, number, axis).T[::-1]
    return picture if plane == "sagittal" else picture[:, ::-1]


def _sheet(
    rows: Sequence[Sequence[NDArray[np.float32]]], labels: Sequence[str], titles: Sequence[str]
) -> NDArray[np.uint8]:
    """Rows of planes with their names above and each row's value beside."""
    from PIL import Image, ImageDraw, ImageFont

    wide = [picture.shape[1] * TIMES for picture in rows[0]]
    high = max(picture.shape[0] for picture in rows[0]) * TIMES
    font = ImageFont.truetype(str(assets.path("fonts/Roboto-Regular.ttf")), 14)
    left = max((int(font.getlength(label)) for label in labels), default=0) + 10 * bool(labels)
    gap = 6
    sheet = Image.new("L", (left + sum(wide) + gap * 2, MARGIN + (high + gap) * len(rows) - gap), GROUND)
    draw = ImageDraw.Draw(sheet)
    for i, row in enumerate(rows):
        y = MARGIN + i * (high + gap)
        if labels:
            draw.text((4, y + high / 2), labels[i], anchor="lm", font=font, fill=INK)
        x = left
        for plane, title, picture, width in zip(ORDER, titles, row, wide):
            grey = Image.fromarray(np.rint(np.clip(picture, 0, 255)).astype(np.uint8))
            size = width, picture.shape[0] * TIMES
            top = y + (high - size[1]) // 2
            sheet.paste(grey.resize(size, Image.Resampling.BICUBIC), (x, top))
            for letter, at, anchor in zip(_EDGES[plane], (x + 4, x + width - 4), ("lm", "rm")):
                draw.text((at, y + high / 2), letter, anchor=anchor, font=font, fill=INK)
            if i == 0:
                draw.text((x + width / 2, MARGIN / 2), title, anchor="mm", font=font, fill=INK)
            x += width + gap
    return np.asarray(sheet)
