"""Morphometry of fundus photographs: which eye, haze of the lens, size of what is seen, vessels, lesions.

Made for the photographs of `mssg prepare phantom --organ eye` (a round field of about 45° around the
macula). Everything is read off one picture, at `SIDE` pixels: the optic disc and the fovea as the bright and
the dark spot that lie as these two do, which tells the side; the distance between them and the disc's own
profile; vessels and spots from the curvature of the green channel; haze from what contrast is left; ageing
from colours. A calibration on phantoms (`CALIBRATION`) turns these into covariates. There is one for each
camera; whether the field is cut above and below says which fits.

Source: the definitions are ours; the accuracy on phantoms that did not calibrate it is in the calibration
file.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mssg.errors import DataError
from mssg.measure.calibration import calibrated_errors, read_calibrated, scanners_of
from mssg.measure.own_error import OwnError

UNITS = {
    "age": "years",
    "eye": "",
    "cataract": "",
    "spherical_power": "D",
    "retinopathy": "",
    "haze": "",
    "cup_disc_ratio": "",
    "axial_length": "mm",
    "lesions": "",
    "vessel_density": "%",
    "vessel_calibre": "µm",
}
COVARIATES = tuple(UNITS)
WITHIN = 3.0
"""Standard deviations of phantoms beyond which a feature counts as no further away."""
LEVELS = {"eye": 2, "cataract": 2, "retinopathy": 5}
ABOUT = (
    "Age is judged by colours, cataract by the haze over disc and fovea, spherical power by magnification and"
    " the crescent at the disc, retinopathy by spots; calibrated on phantoms, not on patients."
)
CALIBRATION = "fundus/oracle.json"

SIDE = 64
"""Pixels a side at which pictures are measured."""
DARK = 0.06
"""Brightest channel up to which a pixel lies outside the field."""
SHOWN = 0.3
"""Share of pixels inside the field up to which a picture shows none."""
FOVEA = 2.5
"""Radius of the fovea, in pixels."""
NASAL, WIDER = 2.0, 1.44
"""What is found of the disc is its temporal part, for vessels darken the other: on 80 phantoms the true disc
lies 2.0 (sd 0.4) pixels further from the fovea, and is 1.44 times as wide."""
BACKGROUND = 7.0
"""Pixels over which the background is smooth."""
APART = (15, 30)
"""Pixels between disc and fovea, across."""
BELOW = (-3, 6)
"""Pixels by which the fovea lies below the disc."""
RAYS, RADII = 32, np.arange(0.25, 10.25, 0.5)
"""Directions and distances (pixels) at which the disc's surroundings are sampled."""
LINE, SPOT = 0.9, 1.2
"""Standard deviations, in pixels, at which curvature is read for vessels and for lesions."""
FAINT = 0.04
"""Curvature of a spot, against the disc's contrast, up to which it counts as noise."""

FEATURES = {
    "age": ("blue", "green", "brightness", "disc_blue", "disc_contrast"),
    "eye": ("side",),
    "cataract": ("disc_contrast", "fovea_contrast", "blue", "green", "brightness"),
    "spherical_power": ("apart", "disc_radius", "crescent", "temporal_ring"),
    "retinopathy": ("dark_spots", "bright_spots", "spots", "disc_contrast", "vessels"),
    "haze": ("disc_contrast", "fovea_contrast", "blue", "green", "brightness"),
    "cup_disc_ratio": ("cup", "cup_profile", "disc_contrast", "disc_radius"),
    "axial_length": ("apart", "disc_radius", "crescent", "temporal_ring"),
    "lesions": ("dark_spots", "bright_spots", "spots", "disc_contrast", "vessels"),
    "vessel_density": ("vessels", "arcades", "disc_contrast", "fovea_contrast", "apart"),
    "vessel_calibre": ("vessels", "arcades", "disc_contrast", "disc_radius", "apart"),
}
"""What each covariate is computed from. Fine texture is left out: generated pictures have too little or too
much of it."""
_NAMES = tuple(
    dict.fromkeys(("contrast", "certainty", *(f for features in FEATURES.values() for f in features)))
)

Maps = NDArray[Any]


def measure(images: ArrayLike) -> dict[str, NDArray[np.float64]]:
    """Measure every photograph of a batch.

    Args:
        images: uint8 or float [N,3,H,W], levels 0 to 255, superior on top, the field filling the picture.

    Returns:
        `COVARIATES`, each float64 [N]: levels as indices (`eye`: 0 left, 1 right), the others in `UNITS`.
        NaN where a picture shows no field.

    Raises:
        DataError: The array is not a batch of square colour images.
    """
    return read_calibrated(features(images), scanners_of(CALIBRATION), FEATURES)


def features(images: ArrayLike) -> dict[str, NDArray[np.float64]]:
    """What is read off photographs before calibration: name -> float64 [N].

    Args:
        images: As in `measure`.

    Raises:
        DataError: As in `measure`.
    """
    batch = _checked(images)
    found = {name: np.full(len(batch), np.nan) for name in _NAMES}
    for start in range(0, len(batch), 250):
        part = _at_side(batch[start : start + 250])
        shown = (part.max(1) > DARK).mean((1, 2)) > SHOWN
        if shown.any():
            for name, values in _features(part[shown]).items():
                found[name][start : start + 250][shown] = values
    return found


def _checked(images: ArrayLike) -> Maps:
    """Photographs [N, 3, H, H] as floats, 0 to 1."""
    batch = np.asarray(images)
    if (
        batch.ndim != 4
        or batch.shape[1] != 3
        or batch.shape[2] != batch.shape[3]
        or batch.dtype.kind not in "uif"
    ):
        raise DataError(
            "not a batch of fundus photographs",
            found=f"{batch.dtype} {list(batch.shape)}",
            expected="numbers [N,3,H,H], colour, levels 0 to 255",
        )
    return np.asarray(batch, np.float32) / 255


def _at_side(images: Maps) -> Maps:
    """Pictures with `SIDE` pixels a side: averaged down, or interpolated up."""
    from scipy.ndimage import zoom

    side = images.shape[-1]
    if side % SIDE == 0:
        step = side // SIDE
        return images.reshape(len(images), 3, SIDE, step, SIDE, step).mean((3, 5))
    return np.asarray(zoom(images, (1, 1, SIDE / side, SIDE / side), order=1, grid_mode=True, mode="nearest"))


def _smooth(maps: Maps, sigma: float) -> Maps:
    """Maps [..., SIDE, SIDE] blurred by a Gaussian of so many pixels."""
    from scipy.ndimage import gaussian_filter

    return gaussian_filter(maps, (*[0] * (maps.ndim - 2), sigma, sigma))


def _levels(rgb: Maps) -> tuple[Maps, Maps, NDArray[np.bool_]]:
    """Logarithms of photographs [N, 3, SIDE, SIDE], their height above the background, and the field without
    its rim [N, SIDE, SIDE]."""
    from scipy.ndimage import binary_erosion

    field = rgb.max(1) > DARK
    inner = np.stack([binary_erosion(f, iterations=3) for f in field]).astype(bool)
    whole = field.astype(np.float32)
    level = np.log(np.maximum(rgb, 0.02)) * whole[:, None]
    background = _smooth(level, BACKGROUND) / np.maximum(_smooth(whole, BACKGROUND), 0.05)[:, None]
    return level, (level - background) * inner[:, None], inner


@dataclass(frozen=True, eq=False)
class _Seen:
    """What is found on photographs [N, 3, SIDE, SIDE].

    Attributes:
        level, above, inner: As `_levels` gives them.
        place: Columns and rows of disc and fovea [N, 4].
        certainty: Of the side [N].
        profile, rays: As `_around_disc` gives them.
        disc_contrast, half, radius: Of the disc in green: how much brighter it is, the level halfway, and
            the distance in pixels at which it is reached [N].
        dark, bright: Curvature of spots, in multiples of what counts as noise; above 1 in spots, and 0 on
            the rim, on disc and fovea [N, SIDE, SIDE].
        off_disc: The field without rim and disc [N, SIDE, SIDE].
    """

    level: Maps
    above: Maps
    inner: NDArray[np.bool_]
    place: NDArray[np.float64]
    certainty: NDArray[np.float64]
    profile: Maps
    rays: Maps
    disc_contrast: NDArray[np.float64]
    half: NDArray[np.float64]
    radius: NDArray[np.float64]
    dark: Maps
    bright: Maps
    off_disc: NDArray[np.bool_]


def _seen(rgb: Maps) -> _Seen:
    level, above, inner = _levels(rgb)
    green = above[:, 1]
    discs, foveas = _smooth(green, 2.0) - _smooth(green, 5.0), _smooth(green, 2.6) - _smooth(green, 6.0)
    place, certainty = _disc_and_fovea(discs, foveas)
    profile, rays = _around_disc(level, place)
    centre, outside = (profile[:, 1, part].mean(1) for part in (slice(3), slice(15, None)))
    half, disc_contrast = (centre + outside) / 2, centre - outside
    faint = FAINT * np.maximum(disc_contrast, 0.15)[:, None, None]
    _, dark = _curvature(green + above[:, 0], SPOT)
    bright, _ = _curvature(green - above[:, 0], SPOT)
    off_disc = inner & ~_near(place[:, :2], 7.5)
    off_both = off_disc & ~_near(place[:, 2:], FOVEA)
    return _Seen(
        level=level,
        above=above,
        inner=inner,
        place=place,
        certainty=certainty,
        profile=profile,
        rays=rays,
        disc_contrast=disc_contrast,
        half=half,
        radius=_falls_to(profile[:, 1], half),
        dark=dark / faint * off_both,
        bright=-bright / faint * off_both,
        off_disc=off_disc,
    )


def regions(image: ArrayLike) -> dict[str, NDArray[np.bool_]]:
    """What `measure` takes for what on one photograph: optic disc, fovea, and spots.

    Args:
        image: [3,H,H] levels 0 to 255, as in `measure`.

    Returns:
        Region -> bool [H,H]; the fovea as a disc of `FOVEA` pixels of `SIDE`; nothing where the picture shows
        no field.

    Raises:
        DataError: As `measure`.
    """
    rgb = _checked(np.asarray(image)[None])
    if (rgb.max(1) > DARK).mean() <= SHOWN:
        return {}
    seen, side = _seen(_at_side(rgb)), rgb.shape[-1]
    middles = (np.arange(side) + 0.5) * SIDE / side - 0.5
    down, across = np.meshgrid(middles, middles, indexing="ij")

    def within(place: NDArray[np.float64], radius: float) -> NDArray[np.bool_]:
        return np.hypot(across - place[0], down - place[1]) < radius

    nearest = np.clip(np.rint(middles), 0, SIDE - 1).astype(int)
    spots = {"dark spots": seen.dark, "bright spots": seen.bright}
    disc, fovea = seen.place[0, :2], seen.place[0, 2:]
    away = np.array([np.sign(disc[0] - fovea[0]) * NASAL, 0.0])
    return {
        "optic disc": within(disc + away, WIDER * float(seen.radius[0])),
        "fovea": within(fovea, FOVEA),
        **{name: (maps[0] > 2)[nearest][:, nearest] for name, maps in spots.items()},
    }


def _features(rgb: Maps) -> dict[str, NDArray[np.float64]]:
    seen = _seen(rgb)
    level, place, profile, rays = seen.level, seen.place, seen.profile, seen.rays
    green, off_disc = seen.above[:, 1], seen.off_disc
    centre = profile[:, :, :3].mean(2)  # [N, 3]
    towards_fovea = np.cos(_ANGLES)
    temporal, nasal = (rays[:, 1][:, side].mean(1) for side in (towards_fovea > 0.75, towards_fovea < -0.75))
    large, _ = _curvature(green, LINE)
    ring = off_disc & _near(place[:, :2], 14.0)

    def over(maps: Maps, where: Maps) -> NDArray[np.float64]:
        return (maps * where).sum((1, 2)) / np.maximum(where.sum((1, 2)), 1)

    colours = np.stack([np.median(c[:, m], axis=1) for c, m in zip(level, off_disc)])  # [N, 3]
    dark_spots, bright_spots = (np.maximum(c - 1, 0).sum((1, 2)) for c in (seen.dark, seen.bright))
    fovea = place[:, 2:].astype(int)
    rows = np.arange(len(rgb))
    blurred = _smooth(green, 2.0)
    return {
        "contrast": _ends(rgb) / np.exp(colours[:, 0]),
        "side": place[:, 0] - place[:, 2],
        "certainty": seen.certainty,
        "apart": np.hypot(place[:, 0] - place[:, 2], place[:, 1] - place[:, 3]),
        "disc_radius": seen.radius,
        "crescent": _falls_to(temporal, seen.half) - _falls_to(nasal, seen.half),
        "temporal_ring": (temporal[:, 9:14] - nasal[:, 9:14]).mean(1),
        "disc_contrast": seen.disc_contrast,
        "disc_blue": centre[:, 2] - centre[:, 1],
        "cup": centre[:, 2] - profile[:, 2, 5:8].mean(1),
        "cup_profile": profile[:, 1, 3:6].mean(1) - profile[:, 1, 6:8].mean(1),
        "fovea_contrast": -blurred[rows, fovea[:, 1], fovea[:, 0]],
        "vessels": over(np.maximum(large, 0), off_disc),
        "arcades": over(np.maximum(large, 0), ring),
        "dark_spots": np.sqrt(dark_spots),
        "bright_spots": np.sqrt(bright_spots),
        "spots": (seen.dark > 2).sum((1, 2)).astype(float),
        "green": colours[:, 1] - colours[:, 0],
        "blue": colours[:, 2] - colours[:, 1],
        "brightness": colours[:, 0],
    }


def _ends(rgb: Maps) -> NDArray[np.float64]:
    """How bright pictures are in the middle of their upper and lower end [N]: dark where the field is cut."""
    middle = rgb.max(1)[:, :, SIDE // 2 - 4 : SIDE // 2 + 4]
    return np.concatenate([middle[:, 1:3], middle[:, -3:-1]], 1).mean((1, 2))


def _disc_and_fovea(bright: Maps, dark: Maps) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Columns and rows of disc and fovea [N, 4], the bright and the dark spot whose places fit best; and how
    much better they fit than the best of the other eye's, as a share [N]."""
    n = len(bright)
    best, where = np.full((2, n), -np.inf), np.zeros((2, n, 4))
    margin = 4
    rows = slice(margin + BELOW[1], SIDE - margin - BELOW[1])
    for across in range(APART[0], APART[1] + 1):
        for below in range(BELOW[0], BELOW[1] + 1):
            for right in (0, 1):  # whose disc lies on the right
                columns = np.arange(margin, SIDE - margin - across) + (across if right else 0)
                there = columns + (-across if right else across)
                fovea = dark[:, rows.start + below : rows.stop + below][:, :, there]
                score = (bright[:, rows][:, :, columns] - 0.8 * fovea).reshape(n, -1)
                at = score.argmax(1)
                value = score[np.arange(n), at]
                row, column = np.divmod(at, len(columns))
                found = np.stack(
                    [columns[column], row + rows.start, there[column], row + rows.start + below], 1
                )
                better = value > best[right]
                best[right][better], where[right][better] = value[better], found[better]
    right = best.argmax(0)
    place = where[right, np.arange(n)]
    certainty = np.abs(best[1] - best[0]) / np.maximum(best.max(0), 1e-6)
    return np.concatenate([_centred(bright, place[:, :2]), _centred(-dark, place[:, 2:])], 1), certainty


def _centred(maps: Maps, where: NDArray[np.float64]) -> NDArray[np.float64]:
    """Peaks [N, 2] (column, row) moved to where a parabola through their neighbours has its top."""
    out = where.copy()
    rows, i = np.arange(len(maps)), where.astype(int)
    for axis, (down, right) in enumerate(((0, 1), (1, 0))):
        before, at, after = (
            maps[rows, np.clip(i[:, 1] + k * down, 0, SIDE - 1), np.clip(i[:, 0] + k * right, 0, SIDE - 1)]
            for k in (-1, 0, 1)
        )
        bend = before - 2 * at + after
        out[:, axis] += np.where(
            bend < -1e-6, np.clip((before - after) / (2 * np.minimum(bend, -1e-6)), -1, 1), 0
        )
    return out


_ANGLES = (np.arange(RAYS) + 0.5) * 2 * np.pi / RAYS


def _around_disc(level: Maps, place: NDArray[np.float64]) -> tuple[Maps, Maps]:
    """Channels along rays from the disc, angle 0 towards the fovea: their median over all rays [N, 3, K], and
    the rays [N, 3, RAYS, K]."""
    from scipy.ndimage import map_coordinates

    towards = np.sign(place[:, 2] - place[:, 0])[:, None, None]
    column = place[:, 0, None, None] + towards * np.cos(_ANGLES)[:, None] * RADII
    row = place[:, 1, None, None] + np.sin(_ANGLES)[:, None] * RADII + 0 * towards
    rays = np.stack(
        [
            np.stack([map_coordinates(c, (y, x), order=1, mode="nearest") for c in channels])
            for channels, x, y in zip(level, column, row)
        ]
    )
    return np.median(rays, 2), rays


def _falls_to(profile: Maps, level: NDArray[np.float64]) -> NDArray[np.float64]:
    """The distance at which profiles [N, K] first fall below levels [N], interpolated."""
    below = profile[:, 3:] < level[:, None]
    first = np.where(below.any(1), below.argmax(1) + 3, profile.shape[1] - 1)
    rows = np.arange(len(profile))
    a, b = profile[rows, first - 1], profile[rows, first]
    share = np.clip((a - level) / np.where(np.abs(a - b) > 1e-6, a - b, 1), 0, 1)
    return RADII[first - 1] + share * (RADII[1] - RADII[0])


def _curvature(maps: Maps, sigma: float) -> tuple[Maps, Maps]:
    """The larger and the smaller principal curvature of each pixel: a dark line has one above 0, a dark spot
    both, a bright spot none."""
    from scipy.ndimage import gaussian_filter

    yy, xx, yx = (
        gaussian_filter(maps, (0, sigma, sigma), order=(0, *order))  # type: ignore[arg-type]
        for order in ((2, 0), (0, 2), (1, 1))
    )
    middle, apart = (xx + yy) / 2, np.hypot((xx - yy) / 2, yx)
    return middle + apart, middle - apart


def _near(place: NDArray[np.float64], radius: float) -> NDArray[np.bool_]:
    """Which pixels lie near the disc: bool [N, SIDE, SIDE]."""
    down, across = np.mgrid[:SIDE, :SIDE]
    return np.hypot(across - place[:, 0, None, None], down - place[:, 1, None, None]) < radius


def own_errors() -> tuple[OwnError, ...]:
    """How well phantoms that did not calibrate it are read; of several cameras the one read worst."""
    return calibrated_errors(CALIBRATION, UNITS)
