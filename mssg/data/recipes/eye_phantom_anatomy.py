"""Anatomy of phantom eyes: what each covariate does to a retina, and vessels that grow.

Millimetres on the retina; the fovea is the origin, x runs temporally and y superiorly, for both sides.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

AGES = (40.0, 82.0)
POWERS = (-12.0, 7.0)
"""Spherical power in dioptres."""
GRADES = ("0", "1", "2", "3", "4")
"""Diabetic retinopathy as EyePACS grades it: none, mild, moderate, severe, proliferative."""
GRADE_SHARES = (0.56, 0.12, 0.14, 0.10, 0.08)
LESIONS = {
    "microaneurysms": (0, 6, 14, 26, 36),
    "haemorrhages": (0, 0, 7, 16, 28),
    "exudates": (0, 0, 7, 16, 26),
}
"""Mean counts at each grade; of those above 0 there is at least one."""
SIZES = {"microaneurysms": (60, 125), "haemorrhages": (180, 480), "exudates": (70, 240)}
"""Diameters in micrometres; a microaneurysm has at most 125 (Early Treatment Diabetic Retinopathy Study)."""

EXPONENTS = (2.59, 1.95)
"""At a bifurcation d0^x = d1^x + d2^x: x of arteries and veins (Luo et al. 2017, vessels of 50 to 100 µm)."""
ANGLE = (78.0, 12.0)
"""Mean and standard deviation of the angle between the two, degrees (mean: Luo et al. 2017)."""
NARROWING = (4.8, 4.1)
"""Micrometres a decade that the arteriolar and the venular equivalent lose (Leung et al. 2003)."""
EQUIVALENTS = (190.0, 225.0)
"""Of how many micrometres: each vessel loses the same share."""
ROOTS = (
    # heading in degrees (0 temporal, 90 superior), diameter of artery and vein in µm, follows an arcade
    (84.0, 112.0, 142.0, True),
    (-84.0, 116.0, 146.0, True),
    (142.0, 84.0, 104.0, False),
    (-142.0, 84.0, 104.0, False),
    (28.0, 46.0, 50.0, False),
    (-28.0, 46.0, 50.0, False),
)
FIELD = 45.0
"""Degrees of the round field in which vessels are counted."""
SMALLEST = 20.0
"""Micrometres below which a vessel is not followed."""
STEP = 0.16
"""Millimetres that vessels grow at a time."""
STEPS = 84
REACH = 9.5
"""Millimetres from the middle of the picture at which vessels end."""
AVASCULAR = 0.35
"""Radius of the fovea without vessels, mm (foveal avascular zone)."""
CELL = 0.22
"""Millimetres of a cell of the map of where vessels are."""
CELLS = 96
MOST_TIPS = 420


@dataclass(frozen=True)
class Vessels:
    """Short straight pieces of vessels: start x, y [N] and heading (radians) [N], each `STEP` long, diameter
    in µm [N], and whether it is a vein's [N]."""

    x: NDArray[np.float64]
    y: NDArray[np.float64]
    heading: NDArray[np.float64]
    diameter: NDArray[np.float64]
    vein: NDArray[np.bool_]


@dataclass(frozen=True)
class Lesions:
    """Spots: x, y [N], diameter in µm [N], and whether it is bright (an exudate) [N]."""

    x: NDArray[np.float64]
    y: NDArray[np.float64]
    diameter: NDArray[np.float64]
    bright: NDArray[np.bool_]


@dataclass(frozen=True)
class Eye:
    """One eye: covariates as drawn, and the anatomy that shows them.

    Attributes:
        age, spherical_power: Years and dioptres.
        right, cataract: Sides and lens.
        grade: Retinopathy, an index of `GRADES`.
        haze: Share of light that the lens scatters, 0 to 1.
        axial_length: Millimetres.
        disc: Centre of the optic disc.
        disc_size: Its horizontal and vertical diameter.
        cup_disc_ratio: Vertical.
        crescent: Width of the temporal crescent beside the disc, mm.
        pigment: Of the retinal pigment epithelium and choroid; 0 is the average.
        tessellation: How clearly the choroid's vessels shine through, 0 to 1.
        ageing: Years past the youngest, 0 to 1, as the tissue shows them.
        centre: Where the camera looks.
        vessels, lesions: What lies in the retina.
        texture: Seed of its fine structure.
    """

    age: float
    right: bool
    cataract: bool
    spherical_power: float
    grade: int
    haze: float
    axial_length: float
    disc: tuple[float, float]
    disc_size: tuple[float, float]
    cup_disc_ratio: float
    crescent: float
    pigment: float
    tessellation: float
    ageing: float
    centre: tuple[float, float]
    vessels: Vessels = field(repr=False)
    lesions: Lesions = field(repr=False)
    texture: int = 0

    @property
    def mm_per_degree(self) -> float:
        """Bennett, Rudnicka & Edgar 1994: q = 0.01306 (axial length − 1.82)."""
        return 0.01306 * (self.axial_length - 1.82)

    @property
    def vessel_density(self) -> float:
        """Area of vessels against that of the retina within `FIELD` degrees around `centre`, per cent; where
        two cross, both count."""
        v, radius = self.vessels, FIELD / 2 * self.mm_per_degree
        seen = np.hypot(v.x - self.centre[0], v.y - self.centre[1]) < radius
        return float(100 * STEP * v.diameter[seen].sum() / 1000 / (math.pi * radius**2))

    @property
    def vessel_calibre(self) -> float:
        """Mean diameter of the vessels between half and one disc diameter from the disc's rim, µm: there
        retinal equivalents are read (Knudtson et al. 2003)."""
        v, size = self.vessels, sum(self.disc_size) / 2
        away = np.hypot(v.x - self.disc[0], v.y - self.disc[1])
        return float(v.diameter[(away > size) & (away < 1.5 * size)].mean())


def structural_equations(rng: np.random.Generator) -> tuple[float, bool, bool, float, int]:
    """Draw age (years), whether it is a right eye, cataract, spherical power (D) and retinopathy grade.

    Source: docs/phantoms.md; cataract grows with age, power shifts to plus with age and is skewed to minus,
    as in UK Biobank's tables.
    """
    low, high = AGES
    age = low + (high - low) * rng.beta(2.2, 2.0)
    right = rng.random() < 0.5
    cataract = rng.random() < 1 / (1 + math.exp(-(age - 70) / 6))
    myopic = rng.random() < 0.3
    power = 0.04 * (age - 60) + (rng.normal(-4.0, 2.4) if myopic else rng.normal(0.7, 1.5))
    grade = int(rng.choice(len(GRADES), p=GRADE_SHARES))
    return float(age), bool(right), bool(cataract), float(np.clip(power, *POWERS)), grade


def draw_eye(rng: np.random.Generator) -> Eye:
    """One eye, at random."""
    age, right, cataract, power, grade = structural_equations(rng)
    years = (age - AGES[0]) / (AGES[1] - AGES[0])
    haze = rng.uniform(0.34, 0.62) if cataract else rng.uniform(0.0, 0.05 + 0.08 * years)
    ageing = float(np.clip(years + rng.normal(0, 0.04), 0, 1))
    # 0.37 mm a dioptre; the cornea's share of refraction is the noise
    axial_length = float(np.clip(23.6 - 0.37 * power + rng.normal(0, 0.12), 20.0, 30.0))
    disc = (-4.55 + rng.normal(0, 0.09), 0.42 + rng.normal(0, 0.14))
    vertical = 1.85 + rng.normal(0, 0.11)
    size = (vertical * rng.normal(0.92, 0.03), vertical)
    tessellation = 0.12 + 0.05 * max(-power, 0) + 0.22 * ageing + rng.normal(0, 0.07)
    pigment = rng.normal(0, 1)
    return Eye(
        age=age,
        right=right,
        cataract=cataract,
        spherical_power=power,
        grade=grade,
        haze=float(haze),
        axial_length=axial_length,
        disc=disc,
        disc_size=size,
        cup_disc_ratio=float(np.clip(rng.normal(0.43, 0.13), 0.12, 0.85)),
        crescent=float(max(0.03, 0.03 + 0.065 * max(-power, 0) + rng.normal(0, 0.03))),
        pigment=float(np.clip(pigment, -2, 2)),
        tessellation=float(np.clip(tessellation - 0.06 * pigment, 0, 1)),
        ageing=ageing,
        centre=(-0.55 + rng.normal(0, 0.3), 0.1 + rng.normal(0, 0.3)),
        vessels=grow(rng, disc, age),
        lesions=_lesions(rng, grade, disc),
        texture=int(rng.integers(2**31)),
    )


def _lesions(rng: np.random.Generator, grade: int, disc: tuple[float, float]) -> Lesions:
    """Spots of a grade, off the disc and the fovea's centre; exudates stand in groups."""
    x, y, diameter, bright = [], [], [], []
    for kind, means in LESIONS.items():
        n = max(int(rng.poisson(means[grade])), 1) if means[grade] else 0
        groups = rng.normal([0.3, 0.0], [2.6, 2.2], (max(n // 6, 1), 2))
        if kind == "exudates":
            at = groups[rng.integers(len(groups), size=n)] + rng.normal(0, 0.45, (n, 2))
        else:
            at = rng.normal([-0.6, 0.0], [3.4, 2.8], (n, 2))
        keep = (np.hypot(*(at - disc).T) > 1.2) & (np.hypot(*at.T) > 0.3)
        x.append(at[keep, 0])
        y.append(at[keep, 1])
        diameter.append(rng.uniform(*SIZES[kind], n)[keep])
        bright.append(np.full(int(keep.sum()), kind == "exudates"))
    return Lesions(np.concatenate(x), np.concatenate(y), np.concatenate(diameter), np.concatenate(bright))


class _Tips:
    """Growing ends of vessels, as columns [N, 8]."""

    X, Y, HEADING, DIAMETER, VEIN, ARCADE, BEND, LEFT = range(8)


def grow(rng: np.random.Generator, disc: tuple[float, float], age: float) -> Vessels:
    """Grow arteries and veins from the disc.

    All ends grow together, a step at a time. An end turns towards where its vessel shall run (along an
    arcade around the fovea, or away from the disc), away from vessels that are there already, and a little at
    random; after a random length it splits (`EXPONENTS`, `ANGLE`).

    Args:
        disc: Centre of the optic disc.
        age: Years; vessels narrow with age.
    """
    t = _Tips
    tips = _roots(rng, disc, age)
    there = np.zeros((2, CELLS, CELLS))
    height = rng.normal([2.9, 3.1], 0.25)  # of the arcades above and below the fovea
    pieces = []
    for _ in range(STEPS):
        _turn(rng, tips, there, disc, height)
        pieces.append(tips[:, : t.ARCADE].copy())
        tips[:, t.X] += STEP * np.cos(tips[:, t.HEADING])
        tips[:, t.Y] += STEP * np.sin(tips[:, t.HEADING])
        tips[:, t.LEFT] -= STEP
        _stamp(there, tips)
        tips = _split(rng, tips)
        tips = tips[_goes_on(tips, there)]
        if not len(tips):
            break
    all_pieces = np.concatenate(pieces)
    return Vessels(
        all_pieces[:, t.X],
        all_pieces[:, t.Y],
        all_pieces[:, t.HEADING],
        all_pieces[:, t.DIAMETER],
        vein=all_pieces[:, t.VEIN] > 0.5,
    )


def _roots(rng: np.random.Generator, disc: tuple[float, float], age: float) -> NDArray[np.float64]:
    """The vessels that enter at the disc."""
    rows = []
    for vein in (0, 1):
        wide = 1 - NARROWING[vein] / EQUIVALENTS[vein] * (age - 60) / 10
        wide *= 1 + rng.normal(0, 0.05)
        for degrees, artery, venous, arcade in ROOTS:
            up = math.copysign(1, degrees)
            heading = math.radians(degrees + up * (6 if vein else -6) + rng.normal(0, 6))
            small = artery < 60
            x = disc[0] - 0.22 + 0.08 * vein + rng.normal(0, 0.05) + 0.5 * small
            y = disc[1] + up * (0.05 + 0.3 * small) + rng.normal(0, 0.04)
            diameter = (venous if vein else artery) * wide * (1 + rng.normal(0, 0.05))
            rows.append([x, y, heading, diameter, vein, arcade, 0.0, rng.uniform(0.5, 1.3)])
    return np.array(rows)


def _turn(
    rng: np.random.Generator,
    tips: NDArray[np.float64],
    there: NDArray[np.float64],
    disc: tuple[float, float],
    height: NDArray[np.float64],
) -> None:
    """New headings, in place."""
    t = _Tips
    x, y, heading = tips[:, t.X], tips[:, t.Y], tips[:, t.HEADING]
    up = np.where(y > 0, 1.0, -1.0)
    tall = np.where(y > 0, height[0], height[1]) + 0.35 * tips[:, t.VEIN]
    wide = abs(disc[0]) + 0.3
    # along an ellipse around the fovea up to its top, then on in the same direction
    arcade = np.arctan2(np.maximum(-x, 0) / wide**2 * up, np.abs(y) / tall**2)
    away = np.arctan2(y - disc[1], x - disc[0])
    inside = (x / wide) ** 2 + (y / tall) ** 2 < 0.85
    free = np.where(inside, np.arctan2(-y, 0.3 - x), away)
    is_arcade = tips[:, t.ARCADE] > 0
    target = np.where(is_arcade, arcade, free)
    pull = np.where(is_arcade, 1.1, np.where(inside, 0.22, 0.3))
    ahead = heading[:, None] + np.array([-0.6, 0.6])
    seen = _seen(there, x[:, None] + 0.75 * np.cos(ahead), y[:, None] + 0.75 * np.sin(ahead), tips[:, t.VEIN])
    avoid = np.clip(seen[:, 0] - seen[:, 1], -2, 2)
    loose = np.clip(70 / tips[:, t.DIAMETER], 0.7, 1.7)
    tips[:, t.BEND] = 0.72 * tips[:, t.BEND] + rng.normal(0, 0.42, len(tips)) * loose
    rate = pull * np.sin(target - heading) + np.where(is_arcade, 0.12, 0.42) * avoid + tips[:, t.BEND]
    tips[:, t.HEADING] = heading + STEP * rate


def _cells(x: NDArray[np.float64]) -> NDArray[np.intp]:
    return np.clip((x / CELL + CELLS / 2).astype(np.intp), 1, CELLS - 2)


def _seen(
    there: NDArray[np.float64], x: NDArray[np.float64], y: NDArray[np.float64], vein: NDArray[np.float64]
) -> NDArray[np.float64]:
    """How many vessels are near places: those of the own kind count in full, the others in part."""
    kind = vein.astype(np.intp).reshape(-1, *[1] * (x.ndim - 1))
    row, column = _cells(y), _cells(x)
    return there[kind, row, column] + 0.4 * there[1 - kind, row, column]


def _stamp(there: NDArray[np.float64], tips: NDArray[np.float64]) -> None:
    """Mark where the ends are now."""
    t = _Tips
    kind, row, column = tips[:, t.VEIN].astype(np.intp), _cells(tips[:, t.Y]), _cells(tips[:, t.X])
    for down in (-1, 0, 1):
        for right in (-1, 0, 1):
            there[kind, row + down, column + right] = 1.0


def _split(rng: np.random.Generator, tips: NDArray[np.float64]) -> NDArray[np.float64]:
    """Ends whose length is over become two."""
    t = _Tips
    due = tips[:, t.LEFT] <= 0
    if not due.any() or len(tips) > MOST_TIPS:
        return tips
    parent = tips[due]
    n = len(parent)
    thick = parent[:, t.DIAMETER] > 62
    ratio = np.where(thick, rng.uniform(0.3, 0.62, n), rng.uniform(0.55, 1.0, n))
    exponent = np.where(parent[:, t.VEIN] > 0, EXPONENTS[1], EXPONENTS[0])
    larger = (1 + ratio**exponent) ** (-1 / exponent)
    smaller = ratio * larger
    angle = np.radians(rng.normal(*ANGLE, n))
    first = angle * ratio**3 / (1 + ratio**3)  # the larger one turns less
    side = np.where(rng.random(n) < 0.5, 1.0, -1.0)
    one, two = parent.copy(), parent.copy()
    one[:, t.HEADING] += side * first
    two[:, t.HEADING] -= side * (angle - first)
    two[:, t.ARCADE] = 0
    for child, share in ((one, larger), (two, smaller)):
        child[:, t.DIAMETER] *= share
        child[:, t.BEND] = 0
        child[:, t.LEFT] = rng.gamma(3.0, np.where(child[:, t.DIAMETER] > 62, 0.24, 0.38)) + 0.2
    return np.concatenate([tips[~due], one, two])


def _goes_on(tips: NDArray[np.float64], there: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Which ends grow further: [N]."""
    t = _Tips
    x, y, heading = tips[:, t.X], tips[:, t.Y], tips[:, t.HEADING]
    kind = tips[:, t.VEIN].astype(np.intp)
    row, column = _cells(y + 0.5 * np.sin(heading)), _cells(x + 0.5 * np.cos(heading))
    meets = (there[kind, row, column] > 0) & (tips[:, t.DIAMETER] < 45) & (tips[:, t.LEFT] < 0.5)
    inside = np.hypot(x + 0.5, y) < REACH
    return inside & (np.hypot(x, y) > AVASCULAR) & (tips[:, t.DIAMETER] > SMALLEST) & ~meets
