"""The anatomy behind brain phantoms: a real template, and deformations of it that never fold.

Three deformations carry a subject's space to the template's, one after the other:
shape (an affine map and a smooth random one), cortex (moves the outer border of grey matter) and ventricles
(moves their wall). Each is the flow of a stationary velocity field, so it is a diffeomorphism whatever its
strength. The fields of cortex and ventricles do not overlap, so the two commute, and the tissue they leave
can be added up from two tables.

Source: MNI ICBM 152 nonlinear symmetric 2009a (Fonov et al., NeuroImage 2011) and Colin27 (Holmes et al., J
Comput Assist Tomogr 1998); flows of stationary velocity fields: Arsigny et al., MICCAI 2006. Coordinates are
RAS millimetres of the template.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mssg import assets
from mssg.errors import DataError

HEADS = ("mni152", "colin27")
"""The templates in assets/brain: an average of 152 heads, and one head."""
ORIGIN = np.array([-98.0, -134.0, -72.0])
"""Millimetres of voxel (0, 0, 0); voxels are 1 mm and aligned with the axes."""
DEEP = 18.0
"""Millimetres under the brain's surface from which on cerebrospinal fluid counts as a ventricle's."""
REACH = 5.0
"""Millimetres around the first head's ventricles within which those of another lie: one head's open into
cisterns."""
SEEDS = ((-14.0, -15.0, 15.0), (14.0, -15.0, 15.0))
"""About the centres of the two lateral ventricles, in template millimetres."""
WALL_REACH = (8.0, 20.0)
"""The ventricles' velocity is whole up to the first and zero from the second distance of the wall on."""
CORTEX_START = (20.0, 26.0)
"""The cortex's velocity is zero up to the first and whole from the second distance of the ventricles on."""
VENTRICLE_STEPS = np.arange(-3.5, 13.01, 0.5)
"""Strengths of the ventricles' flow in the table, about millimetres by which the wall moves out."""
CORTEX_STEPS = np.arange(-1.25, 3.01, 0.25)
"""Strengths of the cortex's flow in the table, about millimetres by which its outer border moves in."""
TABLE_STEP = 4
"""Voxels along the side of a table's cell."""
SHAPE_STEP = 8.0
"""Millimetres between the samples of a random shape's velocity."""
SQUARINGS = 5
HEAD_SCALE = 0.93
"""Heads against the template, which is larger than a common head."""

Field = NDArray[np.float32]


@dataclass(frozen=True)
class Anatomy:
    """A template with two velocity fields.

    Attributes:
        t1, grey, white: float32 [X, Y, Z] in 0 to 1.
        wall: float32 [X, Y, Z], millimetres to the ventricles' wall, positive inside.
        ventricle_velocity, cortex_velocity: float32 [3, X, Y, Z] in millimetres a unit of strength.
        corner: float64 [3], the template's voxel that is (0, 0, 0) here.
    """

    t1: Field
    grey: Field
    white: Field
    wall: Field
    ventricle_velocity: Field
    cortex_velocity: Field
    corner: NDArray[np.float64]

    def slab(self, axis: int, low: int, high: int) -> Anatomy:
        """Only the voxels from `low` to `high` along an axis; what lies outside reads as its edge."""
        cut: list[Any] = [slice(None)] * 3
        cut[axis] = slice(low, high)
        corner = self.corner.copy()
        corner[axis] += low
        parts = {
            f.name: np.ascontiguousarray(getattr(self, f.name)[(..., *cut)])
            for f in fields(self)
            if f.name != "corner"
        }
        return Anatomy(corner=corner, **parts)


@dataclass(frozen=True)
class Volumes:
    """What the two flows do to volumes, in cells of the template.

    Attributes:
        size: Voxels of the template.
        cells: int [M, 3], voxel index of the middle of each cell.
        ventricle: float32 [T, M], millilitres of ventricle at `VENTRICLE_STEPS`.
        grey_change: float32 [T, M], millilitres of grey matter at `VENTRICLE_STEPS`, less those undeformed.
        grey: float32 [U, M], millilitres of grey matter at `CORTEX_STEPS`.
    """

    size: tuple[int, int, int]
    cells: NDArray[np.intp]
    ventricle: Field
    grey_change: Field
    grey: Field


def template(head: str) -> tuple[Field, Field, Field]:
    """T1, grey and white matter of one of `HEADS`, float32 [X, Y, Z] in 0 to 1, all on one grid."""
    with np.load(assets.path(f"brain/{head}.npz"), allow_pickle=False) as file:
        t1, grey, white = (file[name].astype(np.float32) / 255 for name in ("t1", "grey", "white"))
    return t1, grey, white


def build(head: str) -> tuple[Anatomy, Volumes]:
    """Derive ventricles, velocity fields and volume tables from the template of a head: about half a minute.

    Raises:
        DataError: No ventricles where they should be: not the template this was written for.
    """
    whole = anatomy_of(head)
    return whole, volumes_of(whole)


def anatomy_of(head: str) -> Anatomy:
    """The template of one of `HEADS` with its ventricles and velocity fields."""
    t1, grey, white = template(head)
    wall = signed_distance(ventricles_of(head))
    outside = -wall
    ventricle_velocity = gradient(smooth(wall, 2.0)) * fade(outside, *WALL_REACH)[None]
    border = signed_distance(grey + white > 0.5)
    # whole at the border of the cortex, zero where white matter begins and a centimetre outside
    room: Any = np.clip(1 - 1.6 * smooth(white, 1.0), 0, 1) * fade(-border, 4.0, 10.0)
    cortex_velocity = -gradient(smooth(border, 1.0)) * (room * (1 - fade(outside, *CORTEX_START)))[None]
    return Anatomy(t1, grey, white, wall, ventricle_velocity, cortex_velocity, np.zeros(3))


def volumes_of(whole: Anatomy) -> Volumes:
    """What the two flows do to the volumes of a whole template."""
    grey, shape = whole.grey, whole.grey.shape
    cells = np.stack(
        np.meshgrid(*[np.arange(TABLE_STEP // 2, n, TABLE_STEP) for n in shape], indexing="ij"), -1
    ).reshape(-1, 3)
    near, ventricles = whole.wall > -WALL_REACH[1], (whole.wall > 0).astype(np.float32)
    ventricle, change = _table(whole.ventricle_velocity, VENTRICLE_STEPS, near, cells, (ventricles, grey))
    change -= change[VENTRICLE_STEPS.tolist().index(0.0)]
    moved = signed_distance(grey + whole.white > 0.5) > -12
    (grey_volume,) = _table(whole.cortex_velocity, CORTEX_STEPS, moved, cells, maps=(grey,))
    return Volumes(shape, cells, ventricle, change, grey=grey_volume)


def ventricles_of(head: str) -> NDArray[np.bool_]:
    """The lateral ventricles of one of `HEADS`: fluid deep inside the brain, or near those of the first
    head: [X, Y, Z]."""
    from scipy import ndimage

    t1, grey, white = template(head)
    if head == HEADS[0]:
        brain = ndimage.binary_fill_holes(ndimage.binary_closing(grey + white > 0.4, iterations=6))
        place = ndimage.distance_transform_edt(brain) > DEEP  # type: ignore[operator]
    else:
        place = signed_distance(ventricles_of(HEADS[0])) > -REACH
    return find_ventricles(t1, grey + white, place)


def find_ventricles(t1: Field, tissue: Field, place: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Fluid that is connected with the known centres of the lateral ventricles.

    Args:
        t1, tissue: float32 [X, Y, Z], the picture and the sum of grey and white matter.
        place: bool [X, Y, Z], where ventricles can be.

    Raises:
        DataError: There is no fluid at a centre.
    """
    from scipy import ndimage

    parts, _ = ndimage.label((t1 < 0.38) & (tissue < 0.6) & place)  # type: ignore[misc]
    found = np.zeros(t1.shape, bool)
    for seed in SEEDS:
        x, y, z = (round(s - o) for s, o in zip(seed, ORIGIN))
        around = parts[x - 5 : x + 6, y - 5 : y + 6, z - 5 : z + 6]
        labels = np.bincount(around[around > 0])
        if not labels.size:
            raise DataError("no lateral ventricle in the template", field="t1", expected=f"dark at {seed} mm")
        found |= parts == int(labels.argmax())
    return found


def signed_distance(mask: NDArray[np.bool_]) -> Field:
    """Millimetres to the border of a mask [X, Y, Z], positive inside: float32; voxels are 1 mm."""
    from scipy.ndimage import distance_transform_edt

    inner: Any = distance_transform_edt(mask)
    outer: Any = distance_transform_edt(~mask)
    return np.where(mask, inner - 0.5, 0.5 - outer).astype(np.float32)


def smooth(field: Field, millimetres: float) -> Field:
    """Gaussian smoothing with this standard deviation."""
    from scipy.ndimage import gaussian_filter

    found: Any = gaussian_filter(field, millimetres, mode="nearest", truncate=3.0)
    return found


def gradient(field: Field) -> Field:
    """[3, X, Y, Z] of a field a millimetre."""
    slopes: Any = np.gradient(field)
    return np.stack(slopes).astype(np.float32)


def fade(distance: Field, whole: float, zero: float) -> Field:
    """1 up to a distance, 0 from another on, smooth between."""
    x = np.clip((distance - whole) / (zero - whole), 0, 1)
    return (1 - x * x * (3 - 2 * x)).astype(np.float32)


def sample(field: Field, points: NDArray[Any], order: int = 1) -> Field:
    """Values of a field [X, Y, Z] at voxel coordinates [3, N]; outside it counts as at its edge."""
    from scipy.ndimage import map_coordinates

    found: Any = map_coordinates(
        field, points, order=order, mode="nearest", prefilter=False, output=np.float32
    )
    return found


def flow(velocity: Field, points: Field, strength: float, step: float) -> Field:
    """Where points [3, N] (voxels) go along a velocity field in a time `strength`, by midpoint steps of at
    most `step`."""
    count = max(int(np.ceil(abs(strength) / step - 1e-9)), 0)
    if not count:
        return points
    h = np.float32(strength / count)
    moved = points.copy()
    # only what moves is followed: velocity is zero over most of the head
    active = np.flatnonzero(np.any(np.stack([sample(v, points) for v in velocity]) != 0, 0))
    p = moved[:, active]
    for _ in range(count):
        half = p + h / 2 * np.stack([sample(v, p) for v in velocity])
        p = p + h * np.stack([sample(v, half) for v in velocity])
    moved[:, active] = p
    return moved


def _table(
    velocity: Field,
    steps: NDArray[np.float64],
    where: NDArray[np.bool_],
    cells: NDArray[np.intp],
    maps: tuple[Field, ...],
) -> list[Field]:
    """Millilitres of each map in each cell after flows of these strengths, each [T, M], sampled every other
    voxel."""
    shape = np.array(where.shape)
    grid = np.zeros(where.shape, bool)
    grid[1::2, 1::2, 1::2] = True
    points = np.stack(np.nonzero(where & grid)).astype(np.float32)
    index = np.minimum(
        points.astype(int) // TABLE_STEP, ((shape - TABLE_STEP // 2 - 1) // TABLE_STEP)[:, None]
    )
    counts = (shape - TABLE_STEP // 2 - 1) // TABLE_STEP + 1
    cell = np.ravel_multi_index(tuple(index), tuple(counts))
    out = [np.zeros((len(steps), len(cells)), np.float32) for _ in maps]
    zero = steps.tolist().index(0.0)
    for order in (range(zero, len(steps)), range(zero - 1, -1, -1)):
        p, last = points, 0.0
        for i in order:
            p = flow(velocity, p, steps[i] - last, 0.5)
            last = steps[i]
            for table, values in zip(out, maps):
                table[i] = np.bincount(cell, sample(values, p), len(cells)) * 8e-3
    return out


@dataclass(frozen=True)
class Shape:
    """One head's own form: the map from subject to template, and what it does to volumes.

    Attributes:
        linear: float64 [3, 3] and offset [3]: subject millimetres to those before the smooth part.
        there: float32 [3, x, y, z], the smooth part in millimetres, every `SHAPE_STEP`.
        jacobian: float32 [x, y, z], volume in the subject of a unit of volume in the template.
    """

    linear: NDArray[np.float64]
    offset: NDArray[np.float64]
    there: Field
    jacobian: Field

    def to_template(self, points: Field) -> Field:
        """Template voxels [3, N] of subject millimetres [3, N]."""
        p = (self.linear @ points + self.offset[:, None] - ORIGIN[:, None]).astype(np.float32)
        coarse = p / np.float32(SHAPE_STEP)
        return p + np.stack([sample(d, coarse) for d in self.there])

    def volumes(self, table: Field, cells: NDArray[np.intp]) -> Field:
        """Sums over the subject's head of a table of volumes [T, M] in template cells: [T]."""
        j = sample(self.jacobian, (cells.T / SHAPE_STEP).astype(np.float32))
        return table @ j


def random_shape(rng: np.random.Generator, size: tuple[int, int, int]) -> Shape:
    """Draw a head's form: 2 % sd of scale along each axis, 1.5 degrees of tilt, bends of 1.8 mm sd over 26 mm
    and 0.6 mm over 12 mm.

    Args:
        rng: Where the draws come from.
        size: Voxels of the template.

    Raises:
        DataError: The form folds.
    """
    grid = tuple(int(np.ceil(n / SHAPE_STEP)) + 1 for n in size)
    noise = rng.standard_normal((2, 3, *grid)).astype(np.float32)
    velocity = np.zeros((3, *grid), np.float32)
    for layer, (millimetres, amplitude) in zip(noise, ((26.0, 1.8), (12.0, 0.6))):
        for axis in range(3):
            field = smooth(layer[axis], millimetres / SHAPE_STEP)
            velocity[axis] += field * np.float32(amplitude / field.std())
    there, back = exponential(velocity), exponential(-velocity)
    scale = HEAD_SCALE * np.exp(rng.normal(0, 0.02, 3))
    tilt = np.radians(rng.normal(0, 1.5, 3))
    linear = _rotation(tilt) @ np.diag(1 / scale)
    offset = rng.normal(0, 1.0, 3)
    bend: Any = np.gradient(back, SHAPE_STEP, axis=(1, 2, 3))
    matrix = np.stack(bend, 1).transpose(2, 3, 4, 0, 1) + np.eye(3, dtype=np.float32)
    jacobian = np.linalg.det(matrix) * float(np.prod(scale))
    if jacobian.min() <= 0:
        raise DataError("a random shape folds", found=float(jacobian.min()), expected="a Jacobian above 0")
    return Shape(linear, offset, there, jacobian.astype(np.float32))


def exponential(velocity: Field) -> Field:
    """Displacement [3, x, y, z] of the flow of a velocity field (both mm, every `SHAPE_STEP`) by scaling and
    squaring."""
    grid = np.stack(np.meshgrid(*[np.arange(n, dtype=np.float32) for n in velocity.shape[1:]], indexing="ij"))
    moved = velocity / np.float32(2**SQUARINGS)
    for _ in range(SQUARINGS):
        points = (grid + moved / np.float32(SHAPE_STEP)).reshape(3, -1)
        moved = moved + np.stack([sample(d, points) for d in moved]).reshape(moved.shape)
    return moved


def _rotation(angles: NDArray[np.float64]) -> NDArray[np.float64]:
    """Rotation about x, then y, then z, in radians."""
    (cx, cy, cz), (sx, sy, sz) = np.cos(angles), np.sin(angles)
    about_x = np.array([[1, 0, 0], [0, cx, -sx], [0, sx, cx]])
    about_y = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    about_z = np.array([[cz, -sz, 0], [sz, cz, 0], [0, 0, 1]])
    return about_z @ about_y @ about_x
