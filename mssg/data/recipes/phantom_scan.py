"""What a scanner makes of a phantom's head: slices of it, one alone or a stack."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mssg.data.recipes import phantom_anatomy as anatomy
from mssg.data.recipes.phantom_anatomy import Anatomy, Field

FIELD_OF_VIEW = 160.0
"""Millimetres along the side of a slice."""
PLANES = {
    # plane: (axis that is cut, its position in mm, centre of the picture in mm along its columns and rows)
    "coronal": (1, -18.0, (0, 0.0), (2, 5.0)),
    "axial": (2, 17.0, (0, 0.0), (1, -17.0)),
    "sagittal": (0, 11.0, (1, -17.0), (2, 5.0)),
}
SUPERSAMPLING = 2
AGES = (45.0, 82.0)
DARKENING = 0.9
"""How far white matter at the ventricles' wall has come towards `DARKENED` times grey matter at the highest
age."""
DARKENED = 0.85
DARKENING_NOISE = 0.03
DARKENING_REACH = 12.0
"""Millimetres from the wall after which the darkening has fallen to 1/e."""


@dataclass(frozen=True)
class Scanner:
    """What a scanner makes of tissue: grey levels (0 to 1) for the template's `LEVELS`, noise, bias and
    blur."""

    curve: tuple[float, ...]
    noise: float
    bias: float
    blur: float


LEVELS = (0.0, 0.30, 0.45, 0.70, 0.88, 1.0)
"""The template's grey levels between which a scanner's curve is linear: air, fluid, rim, grey, white,
brightest."""
WHITE = LEVELS.index(0.88)
SCANNERS = (
    Scanner((0.0, 0.14, 0.24, 0.56, 0.90, 1.0), 0.012, 0.04, 0.0),
    Scanner((0.0, 0.24, 0.38, 0.66, 0.88, 0.96), 0.025, 0.10, 0.45),
)


@dataclass(frozen=True)
class HeadPhantom:
    """One subject: covariates that were drawn and what was reached, and flows' strengths and form that make
    them."""

    target: tuple[float, float, float]
    truth: tuple[float, float, float]
    ventricle_strength: float
    cortex_strength: float
    shape: anatomy.Shape


def slice_points(plane: str, resolution: int, position: float | None = None) -> Field:
    """Subject millimetres [3, R·S, R·S] of a slice's samples, S = `SUPERSAMPLING` a pixel.

    Row 0 is superior (axial: anterior), column 0 the patient's left (sagittal: posterior). `position` is
    where the plane cuts its axis; None = at the plane's own place.
    """
    axis, usual, (across, middle), (up, centre) = PLANES[plane]
    n = resolution * SUPERSAMPLING
    offset = (np.arange(n) - (n - 1) / 2) * FIELD_OF_VIEW / n
    points = np.empty((3, n, n), np.float32)
    points[axis] = usual if position is None else position
    points[across] = middle + offset[None, :]
    points[up] = centre - offset[:, None]
    return points


def draw_slice(
    rng: np.random.Generator, head: HeadPhantom, slab: Anatomy, points: Field, scanner: Scanner
) -> NDArray[np.uint8]:
    """One scanner's picture of a head.

    Args:
        rng: Noise, bias and darkening come from it.
        head: From `draw_head`.
        slab: The anatomy around the slice.
        points: From `slice_points`.
        scanner: Which scanner.

    Returns:
        uint8 [R, R], its brightest tissue near 230.
    """
    picture = _tissue(head, slab, points, scanner, darkening=_darkening(rng, head))
    x, y = _across(len(picture))
    terms = np.stack([x, y, x * y, x * x - 1 / 3, y * y - 1 / 3])
    picture = _received(picture, scanner, _bias(rng, scanner, terms))
    picture, inside = _noisy(rng, picture, scanner)
    level = np.percentile(picture[inside], 98) if inside.any() else 1.0
    return _grey_levels(picture, level)


def draw_stack(
    rng: np.random.Generator,
    head: HeadPhantom,
    whole: Anatomy,
    cuts: Sequence[tuple[float, Field]],
    scanner: Scanner,
) -> NDArray[np.uint8]:
    """One scanner's pictures of several slices of a head, with one bias field and one scale of grey levels.

    Args:
        rng, head, scanner: As in `draw_slice`.
        whole: The anatomy.
        cuts: For each slice its place in millimetres, and its points from `slice_points`.

    Returns:
        uint8 [K, R, R], white matter near 230 where the coil's field is even.
    """
    darkening = _darkening(rng, head)
    x, y = _across(cuts[0][1].shape[1] // SUPERSAMPLING)
    weights, pictures = rng.normal(0, scanner.bias, 9), []
    for place, points in cuts:
        s = np.full_like(x, place / (FIELD_OF_VIEW / 2))
        terms = np.stack([x, y, x * y, x * x - 1 / 3, y * y - 1 / 3, s, s * x, s * y, s * s - 1 / 3])
        picture = _tissue(head, whole, points, scanner, darkening)
        picture = _received(picture, scanner, np.exp(np.tensordot(weights, terms, 1)))
        picture, _ = _noisy(rng, picture, scanner)
        pictures.append(_grey_levels(picture, scanner.curve[WHITE]))
    return np.stack(pictures)


def _darkening(rng: np.random.Generator, head: HeadPhantom) -> float:
    """How far white matter at the ventricles' wall is darkened, 0 to 1."""
    years = (head.truth[0] - AGES[0]) / (AGES[1] - AGES[0])
    return float(np.clip(DARKENING * years + rng.normal(0, DARKENING_NOISE), 0, 1))


def _tissue(
    head: HeadPhantom, slab: Anatomy, points: Field, scanner: Scanner, darkening: float
) -> NDArray[np.float64]:
    """The scanner's grey levels of a slice, before bias and noise: float64 [R, R], air 0."""
    n = points.shape[1]
    p = head.shape.to_template(points.reshape(3, -1)) - slab.corner[:, None].astype(np.float32)
    p = anatomy.flow(slab.cortex_velocity, p, head.cortex_strength, 0.5)
    p = anatomy.flow(slab.ventricle_velocity, p, head.ventricle_strength, 1.0)
    t1, white, wall = (anatomy.sample(f, p) for f in (slab.t1, slab.white, slab.wall))
    picture = np.interp(t1, LEVELS, scanner.curve)
    halo = white * np.exp(-np.maximum(-wall, 0) / DARKENING_REACH)
    dark = DARKENED * scanner.curve[LEVELS.index(0.70)]
    picture -= darkening * halo * np.maximum(picture - dark, 0)
    side = n // SUPERSAMPLING
    return picture.reshape(side, SUPERSAMPLING, side, SUPERSAMPLING).mean((1, 3))


def _across(n: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Where pixels lie across and down a picture, −1 to 1."""
    y, x = np.meshgrid(*[np.linspace(-1, 1, n)] * 2, indexing="ij")
    return x, y


def _bias(rng: np.random.Generator, scanner: Scanner, terms: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.exp(np.tensordot(rng.normal(0, scanner.bias, len(terms)), terms, 1))


def _received(
    picture: NDArray[np.float64], scanner: Scanner, bias: NDArray[np.float64]
) -> NDArray[np.float64]:
    """With bias field and blur."""
    from scipy.ndimage import gaussian_filter

    picture = picture * bias
    return gaussian_filter(picture, scanner.blur * len(picture) / 64) if scanner.blur else picture


def _noisy(
    rng: np.random.Generator, picture: NDArray[np.float64], scanner: Scanner
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """With Rician noise, and where the head is."""
    real, imaginary = rng.normal(0, scanner.noise, (2, *picture.shape))
    # scanners' own reconstruction masks the air around the head; a template has none
    inside = picture > 0.02
    return np.where(inside, np.hypot(picture + real, imaginary), picture), inside


def _grey_levels(picture: NDArray[np.float64], level: float) -> NDArray[np.uint8]:
    """`level` becomes 230."""
    return np.clip(np.rint(picture * (230 / level)), 0, 255).astype(np.uint8)
