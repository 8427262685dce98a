"""What a fundus camera makes of a phantom eye: colour photographs.

Light goes through lens and vessels twice; tissues absorb by channel (Beer-Lambert), the lens scatters, the
camera sees a round field, and adds its colours, noise and JPEG.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mssg.data.recipes.eye_phantom_anatomy import STEP, Eye

SUPERSAMPLING = 2
Map = NDArray[Any]
TEXTURE_MM, TEXTURE_CELLS = 0.16, 128
"""Cell and side of the maps of fine structure."""
ARTERY, VEIN = np.array([0.12, 0.80, 0.42]), np.array([0.26, 0.92, 0.38])
"""Absorption of red, green and blue by 100 µm of blood, both ways through it."""
BLOOD = np.array([0.40, 1.10, 0.65])
"""The same of haemorrhages and microaneurysms."""
MELANIN = np.array([0.10, 0.17, 0.20])
"""Absorption by one standard deviation of pigment."""
FOVEA = np.array([0.22, 0.62, 0.88])
"""Absorption by pigment and tall cells at the fovea."""
YELLOWING = np.array([0.0, 0.13, 0.62])
"""Absorption by the lens at the highest age: most in blue (Pokorny, Smith & Lutze 1987)."""
FUNDUS = np.array([0.90, 0.335, 0.262])
"""Reflectance of an average fundus as the photograph of `skimage.data.retina` shows it."""


@dataclass(frozen=True)
class Camera:
    """How a camera sees.

    Attributes:
        degrees: Field across the circle.
        circle: The circle's radius against half the picture's side.
        cut: Rows beyond this share of the radius, above and below, are black; 1 = none.
        notch: Whether a mark at the rim tells which way up the picture is.
        gains: Of red, green and blue.
        gamma: Exponent of its curve.
        fall: How much darker the rim is than the middle.
        noise: Standard deviation, 0 to 1.
        blur: Standard deviation, share of the side.
        quality: Of the JPEG.
    """

    degrees: float
    circle: float
    cut: float
    notch: bool
    gains: tuple[float, float, float]
    gamma: float
    fall: float
    noise: float
    blur: float
    quality: int


CAMERAS = (
    Camera(45.0, 0.98, 1.0, True, (1.0, 1.0, 1.0), 1.0, 0.22, 0.010, 0.0010, 92),
    Camera(50.0, 1.06, 0.86, False, (0.96, 1.10, 0.80), 1.16, 0.36, 0.020, 0.0030, 80),
)


def photograph(rng: np.random.Generator, eye: Eye, camera: Camera, resolution: int) -> NDArray[np.uint8]:
    """One photograph of an eye.

    Args:
        rng: Illumination and noise come from it.
        eye: From `draw_eye`.
        resolution: Side R in pixels.

    Returns:
        uint8 [3, R, R], superior on top; a right eye's disc is on the right.
    """
    light = _Light.draw(rng)
    n = resolution * SUPERSAMPLING
    degrees = camera.degrees / (camera.circle * n)
    x, y, pixel = _points(eye, degrees, n)
    picture = _retina(eye, x, y, pixel)
    picture = picture.reshape(resolution, SUPERSAMPLING, resolution, SUPERSAMPLING, 3).mean((1, 3))
    picture = _through_the_lens(picture, eye, light, camera)
    return _taken(rng, picture, camera)


@dataclass(frozen=True)
class _Light:
    """Exposure, where the light is brightest (−1 to 1), and how far out of focus the picture is."""

    exposure: float
    x: float
    y: float
    defocus: float

    @staticmethod
    def draw(rng: np.random.Generator) -> _Light:
        x, y = rng.normal(0, 0.22, 2)
        return _Light(
            float(np.exp(rng.normal(0, 0.07))), float(x), float(y), abs(float(rng.normal(0, 0.0025)))
        )


def _points(eye: Eye, degrees: float, n: int) -> tuple[Map, Map, float]:
    """Where samples lie on the retina: x, y [n, n] in mm, and the side of one."""
    pixel = degrees * eye.mm_per_degree
    offset = ((np.arange(n) - (n - 1) / 2) * pixel).astype(np.float32)
    across = -offset if eye.right else offset
    x, y = np.meshgrid(np.float32(eye.centre[0]) + across, np.float32(eye.centre[1]) - offset)
    return x, y, pixel


def _retina(eye: Eye, x: Map, y: Map, pixel: float) -> Map:
    """Light that the retina sends back: [n, n, 3]."""
    choroid, grain, fibres = _texture(eye, x, y)
    at_fovea = np.hypot(x, y)
    fovea = 0.55 * np.exp(-((at_fovea / 0.5) ** 2)) + 0.45 * np.exp(-((at_fovea / 1.35) ** 2))
    absorbed = (
        (eye.pigment + 1.1 * grain)[..., None] * MELANIN
        + fovea[..., None] * FOVEA
        + (eye.tessellation * choroid * (1 - 0.8 * fovea))[..., None] * np.array([0.10, 0.26, 0.22])
    )
    picture = FUNDUS * np.exp(-absorbed)
    dx, dy = x - eye.disc[0], y - eye.disc[1]
    from_disc = np.hypot(dx, dy)
    # nerve fibres shine above and below the disc
    sheen = np.exp(-np.maximum(from_disc - 0.9, 0) / 1.5) * (0.35 + 0.65 * np.abs(dy) / (from_disc + 0.1))
    sheen = sheen * (1 - 0.45 * eye.ageing) * (1 + 1.2 * fibres)
    picture += sheen[..., None] * np.array([0.06, 0.125, 0.125])
    picture = _disc(eye, picture, dx, dy, grain)
    reflex = (1 - eye.ageing) * np.exp(-((at_fovea / 0.12) ** 2))
    picture += (0.12 * reflex)[..., None]
    return _spots(eye, _blood(eye, picture, x, y, pixel), x, y, pixel)


def _texture(eye: Eye, x: Map, y: Map) -> tuple[Map, Map, Map]:
    """Choroidal vessels (−1 to 1, dark where pigment lies between them), grain of the pigment, and nerve
    fibres along rays from the disc; each [n, n]."""
    from scipy.ndimage import gaussian_filter, map_coordinates

    rng = np.random.default_rng(eye.texture)
    coarse = rng.normal(size=(3, TEXTURE_CELLS, TEXTURE_CELLS)).astype(np.float32)
    where = np.stack([y, x]) / np.float32(TEXTURE_MM) + np.float32(TEXTURE_CELLS / 2)
    ridges = gaussian_filter(coarse[0], 1.15, mode="wrap")
    ridges = 0.7 - np.minimum(np.abs(ridges) / ridges.std(), 1.6)
    grain = (
        gaussian_filter(coarse[1], 0.7, mode="wrap") * 0.5 + gaussian_filter(coarse[2], 8, mode="wrap") * 14
    )
    choroid, grain = (
        map_coordinates(m, where, order=1, mode="grid-wrap", output=np.float32) for m in (-ridges, grain)
    )
    rays = rng.normal(size=240)
    angle = np.arctan2(y - eye.disc[1], x - eye.disc[0]) * np.float32(240 / (2 * np.pi))
    low = np.floor(angle).astype(np.intp)
    share = angle - low
    fibres = (1 - share) * rays[low % 240] + share * rays[(low + 1) % 240]
    return choroid, 0.35 * grain, 0.25 * fibres.astype(np.float32)


def _edge(distance: Map, width: float) -> Map:
    """1 inside (negative distance), 0 outside, over `width` mm."""
    return 1 / (1 + np.exp(np.clip(distance / width, -30, 30)))


def _over(picture: Map, colour: NDArray[np.float64], where: Map) -> Map:
    return picture + where[..., None] * (colour - picture)


def _disc(eye: Eye, picture: Map, dx: Map, dy: Map, grain: Map) -> Map:
    """With the optic disc, its cup, and the crescent beside it."""
    wide, tall = eye.disc_size[0] / 2, eye.disc_size[1] / 2

    def inside(shift: float, size: float, width: float, raised: float = 0.0) -> Map:
        away = np.hypot((dx - shift) / wide, (dy - raised) / tall)
        return _edge((away - size) * wide, width)

    bare = np.array([0.96, 0.72, 0.52]) * (1 - 0.06 * eye.ageing)
    size = 1 + eye.crescent / (2 * wide) + 0.02
    crescent = inside(eye.crescent / 2 + 0.02, size, 0.05) * (0.72 + 0.5 * np.clip(grain, -0.5, 0.5))
    picture = _over(picture, bare, np.clip(crescent, 0, 1))
    rim = np.array([1.0, 0.60, 0.42])
    picture = _over(picture, rim, 0.93 * inside(0, 1.0, 0.045))
    cup = inside(0.06, eye.cup_disc_ratio, 0.07)
    return _over(picture, np.array([1.0, 0.92, 0.72]), cup)


def _deposit(x: NDArray[np.float64], y: NDArray[np.float64], weight: NDArray[np.float64], n: int) -> Map:
    """Weights at places in samples (column, row), shared among the four nearest: [n, n]."""
    column, row = np.floor(x).astype(np.intp), np.floor(y).astype(np.intp)
    right, down = x - column, y - row
    out = np.zeros((n + 2) * (n + 2))
    column, row = np.clip(column + 1, 0, n), np.clip(row + 1, 0, n)
    for i, j, share in (
        (0, 0, (1 - down) * (1 - right)),
        (0, 1, (1 - down) * right),
        (1, 0, down * (1 - right)),
        (1, 1, down * right),
    ):
        out += np.bincount((row + i) * (n + 2) + column + j, weight * share, (n + 2) * (n + 2))
    return out.reshape(n + 2, n + 2)[1:-1, 1:-1].astype(np.float32)


def _samples(
    x: NDArray[np.float64], y: NDArray[np.float64], grid: tuple[Map, Map], pixel: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Millimetres -> columns and rows."""
    step = pixel if grid[0][0, 1] > grid[0][0, 0] else -pixel
    return (x - grid[0][0, 0]) / step, (grid[1][0, 0] - y) / pixel


def _blood(eye: Eye, picture: Map, x: Map, y: Map, pixel: float) -> Map:
    """With vessels: what their blood absorbs, and the light that arteries' walls send back."""
    v, n = eye.vessels, len(x)
    near = np.hypot(v.x - eye.centre[0], v.y - eye.centre[1]) < 0.75 * n * pixel
    vx, vy, heading, diameter, vein = (a[near] for a in (v.x, v.y, v.heading, v.diameter, v.vein))
    along = (np.arange(k := max(int(np.ceil(1.6 * STEP / pixel)), 1)) + 0.5) / k * STEP
    across = (np.arange(m := max(int(np.ceil(0.15 / pixel)) + 1, 2)) + 0.5) / m * 2 - 1
    chord = np.sqrt(1 - across**2)
    shift = diameter[:, None] / 2000 * across  # mm
    cos, sin = np.cos(heading)[:, None, None], np.sin(heading)[:, None, None]
    px = vx[:, None, None] + along[None, :, None] * cos - shift[:, None] * sin
    py = vy[:, None, None] + along[None, :, None] * sin + shift[:, None] * cos
    column, row = _samples(px, py, (x, y), pixel)
    # volume of blood below each point (in 100 µm of depth, over one sample's area)
    area = diameter[:, None] / 1000 / m * (STEP / k) / pixel**2
    depth = np.broadcast_to((area * diameter[:, None] / 100 * chord)[:, None], px.shape)
    for is_vein, absorbs in ((False, ARTERY), (True, VEIN)):
        mine = vein == is_vein
        blood = _deposit(column[mine].ravel(), row[mine].ravel(), depth[mine].ravel(), n)
        picture = picture * np.exp(-blood[..., None] * absorbs * 1.25)
    middle = np.exp(-((across / 0.35) ** 2)) * ((diameter > 60) & (vein == 0))[:, None]
    shine = np.broadcast_to((area * middle)[:, None], px.shape)
    reflex = np.minimum(_deposit(column.ravel(), row.ravel(), shine.ravel(), n), 1)
    return picture + reflex[..., None] * np.array([0.12, 0.10, 0.06])


def _spots(eye: Eye, picture: Map, x: Map, y: Map, pixel: float) -> Map:
    """With lesions: discs of uneven outline."""
    spots, n = eye.lesions, len(x)
    if not len(spots.x):
        return picture
    k = 300
    radius, angle = np.sqrt((np.arange(k) + 0.5) / k), np.arange(k) * 2.399963
    lobes = np.random.default_rng(eye.texture + 1).uniform(0, 2 * np.pi, (2, len(spots.x), 1))
    uneven = 1 + 0.2 * np.sin(2 * angle + lobes[0]) + 0.12 * np.sin(3 * angle + lobes[1])
    reach = spots.diameter[:, None] / 2000 * uneven * radius
    column, row = _samples(
        spots.x[:, None] + reach * np.cos(angle), spots.y[:, None] + reach * np.sin(angle), (x, y), pixel
    )
    area = np.pi * (spots.diameter / 2000) ** 2 / k / pixel**2
    share = np.broadcast_to(area[:, None], column.shape)
    dark, bright = (
        np.minimum(_deposit(column[b].ravel(), row[b].ravel(), share[b].ravel(), n), 1)
        for b in (~spots.bright, spots.bright)
    )
    picture = picture * np.exp(-dark[..., None] * BLOOD)
    return _over(picture, np.array([1.0, 0.84, 0.46]), 0.9 * bright)


def _through_the_lens(picture: Map, eye: Eye, light: _Light, camera: Camera) -> Map:
    """Yellowed with age, lit unevenly, blurred and veiled by what the lens scatters."""
    from scipy.ndimage import gaussian_filter

    n = len(picture)
    picture = picture * np.exp(-eye.ageing * YELLOWING)
    place = np.linspace(-1, 1, n)
    from_light = (place[None, :] - light.x) ** 2 + (place[:, None] - light.y) ** 2
    picture = picture * (light.exposure * (1 - camera.fall * np.minimum(from_light, 1.6)))[..., None]
    blur = np.hypot(np.hypot(camera.blur, light.defocus), 0.016 * eye.haze) * n
    if blur > 0.12:
        picture = gaussian_filter(picture, (blur, blur, 0))
    scattered = 0.35 * picture.mean((0, 1)) + 0.30 * np.array([0.98, 0.80, 0.52])
    fall = 1 - 0.5 * camera.fall * np.minimum(from_light, 1.6)
    return (1 - eye.haze) * picture + eye.haze * fall[..., None] * scattered


def _taken(rng: np.random.Generator, picture: Map, camera: Camera) -> NDArray[np.uint8]:
    """The camera's colours, noise, field and JPEG: uint8 [3, R, R]."""
    from PIL import Image

    n = len(picture)
    picture = np.clip(picture * np.array(camera.gains), 0, None) ** camera.gamma
    picture = picture / (1 + np.maximum(picture - 0.9, 0))  # the sensor's shoulder
    picture = picture + rng.normal(0, camera.noise, picture.shape)
    picture = picture * field_of(camera, n)[..., None]
    levels = np.clip(np.rint(picture * 255), 0, 255).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(levels).save(file, "JPEG", quality=camera.quality, subsampling=0)
    return np.asarray(Image.open(file)).transpose(2, 0, 1)


def field_of(camera: Camera, n: int) -> Map:
    """What a camera sees, 0 to 1: [n, n]."""
    place = (np.arange(n) - (n - 1) / 2) * 2 / n
    x, y = np.meshgrid(place, place)
    soft = 2 / n
    inside = _edge(np.hypot(x, y) - camera.circle, soft / 4)
    inside = inside * _edge(np.abs(y) - camera.cut * camera.circle, soft / 4)
    if camera.notch:
        mark = np.maximum(np.abs(x * 0.7071 - y * 0.7071 - camera.circle), np.abs(x + y) * 0.7071)
        inside = np.maximum(inside, (mark < 0.045) * 1.0)
    return inside.astype(np.float32)
