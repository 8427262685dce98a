"""Quality of fundus photographs: whether there is a field to see, focus, light, and which eye it looks like.

Thresholds are set so that only photographs are rejected in which nothing could be graded; the numbers stand
in qc.csv, for whoever wants to be stricter.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mssg.measure import fundus

SIDE = 256
"""Pixels a side at which photographs are judged."""
DARK = 12
"""Grey level up to which a pixel counts as the black around the eye."""
SMALLEST_FIELD = 0.35
"""Share of the square that a field covers at least; a full circle covers 0.79."""
DARKEST, BRIGHTEST = 25.0, 0.25
"""Median grey level of the field at least, and share of it that is white at most."""
WHITE = 250
BLURRED = 0.11
"""Focus below which vessels cannot be followed; the photograph of `skimage.data.retina` has 0.55, blurred by
1 % of its side 0.18, by 2 % 0.10."""
CERTAIN = 0.2
"""Certainty from which on a disc says which eye it is: 1 in 100 phantoms has less."""


@dataclass(frozen=True)
class PhotoQuality:
    """What a photograph is like.

    Attributes:
        field: Share of the square that is not black.
        focus: Standard deviation of fine structure over that of coarser structure, green channel.
        light: Median grey level of the field.
        white: Share of the field at the end of the scale.
        evenness: Darkest over brightest quarter of the field.
        disc_side: Which eye it looks like by its disc and fovea, left or right; "" where that is uncertain.
        reason: Why it cannot be graded; "" where it can.
    """

    field: float
    focus: float
    light: float
    white: float
    evenness: float
    disc_side: str
    reason: str

    def doubt(self, stated: str) -> str:
        """Why the side that a table or a name states is doubtful; "" where it is not."""
        if not self.disc_side or not stated or self.disc_side == stated:
            return ""
        return f"the {stated} eye by its table or name, the {self.disc_side} by its optic disc"


def judge_photo(photo: NDArray[np.uint8]) -> PhotoQuality:
    """Look at a photograph as it was taken, not mirrored.

    Args:
        photo: uint8 [H, H, 3], its field filling the square.
    """
    from PIL import Image
    from scipy.ndimage import gaussian_filter

    small = np.asarray(Image.fromarray(photo).resize((SIDE, SIDE), Image.Resampling.BOX))
    inside = small.max(2) > DARK
    field = float(inside.mean())
    if field < SMALLEST_FIELD:
        reason = f"no field of a fundus photograph: {field:.0%} of the square is not black"
        return PhotoQuality(field, 0.0, 0.0, 0.0, evenness=0.0, disc_side="", reason=reason)
    grey = small.mean(2)
    light = float(np.median(grey[inside]))
    white = float((small.min(2) > WHITE)[inside].mean())
    quarters = [grey[rows, columns][inside[rows, columns]] for rows in _HALVES for columns in _HALVES]
    means = [float(q.mean()) for q in quarters if q.size]
    deep = gaussian_filter(inside.astype(float), 6) > 0.98
    green = np.log(small[..., 1] + 8.0)
    fine, middle, coarse = (gaussian_filter(green, s) for s in (1.0, 2.0, 8.0))
    focus = 0.0
    if deep.any():
        focus = float((fine - middle)[deep].std() / max((middle - coarse)[deep].std(), 1e-6))
    found = fundus.features(small.transpose(2, 0, 1)[None])
    sure = found["certainty"][0] > CERTAIN
    side = ("right" if found["side"][0] > 0 else "left") if sure else ""
    reason = ""
    if light < DARKEST:
        reason = f"too dark: the field's median is {light:.0f} of 255"
    elif white > BRIGHTEST:
        reason = f"overexposed: {white:.0%} of the field is white"
    elif focus < BLURRED:
        reason = f"out of focus, or hazy: {focus:.3f}, vessels need {BLURRED:g}"
    return PhotoQuality(field, focus, light, white, min(means) / max(means), side, reason)


_HALVES = (slice(0, SIDE // 2), slice(SIDE // 2, SIDE))
