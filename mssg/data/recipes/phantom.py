"""Brain phantoms: T1 slices of a real template, deformed so that age, ventricle and grey-matter volume are
known exactly.

Semi-synthetic: the anatomy is real (one template), its variation is drawn. Phantoms test software; they say
nothing about medicine. Each subject gets an age, volumes that depend on it as they do in ageing cohorts, and
a form of the head; age darkens the white matter around the ventricles, so that it can be seen and measured on
its own.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mssg import assets
from mssg.blas import one_blas_thread
from mssg.data.dataset import check_target, write_packed
from mssg.data.recipes import phantom_anatomy as anatomy
from mssg.data.recipes.phantom_anatomy import CORTEX_STEPS, VENTRICLE_STEPS, Anatomy, Field, Volumes
from mssg.data.split import assign_sources, split_subjects
from mssg.errors import DataError, UsageError
from mssg.files import write_atomically
from mssg.processes import worker_pool

COVARIATES = ("age", "ventricle", "grey_matter")
UNITS = {"age": "years", "ventricle": "ml", "grey_matter": "ml"}
OBSERVES = {"a": ("age", "ventricle"), "b": ("age", "grey_matter")}
"""What each source records; `all` holds the images of both with everything recorded, `b2` those of b on
another scanner."""
STUDIES = {
    "study.toml": "brain-semi.toml",
    "study-a-only.toml": "brain-a-only.toml",
    "study-b-only.toml": "brain-b-only.toml",
    "study-all.toml": "brain-all.toml",
    "study-scanners.toml": "brain-scanners.toml",
}
TEST_SHARE, VAL_SHARE = 0.15, 0.1
RESOLUTIONS = (32, 64, 128)
FIELD_OF_VIEW = 160.0
"""Millimetres along the side of a slice."""
PLANES = {
    # plane: (axis that is cut, its position in mm, centre of the picture in mm along its columns and rows)
    "coronal": (1, -18.0, (0, 0.0), (2, 5.0)),
    "axial": (2, 17.0, (0, 0.0), (1, -17.0)),
    "sagittal": (0, 11.0, (1, -17.0), (2, 5.0)),
}
SLAB = 26
"""Voxels on each side of a slice that a head's own form can bring into it."""
SUPERSAMPLING = 2
CHUNK = 50
AGES = (45.0, 82.0)
LICENCE = (
    "MNI ICBM 152 and Colin27 templates, copyright 1993-2009 Louis Collins, McConnell Brain Imaging Centre,"
    " McGill University; notice in assets/brain"
)
EQUATIONS = (
    "age = 45 + 37 Beta(2.4, 2.2); log ventricle = log 24 + 0.026 (age - 63) + N(0, sd 0.40); "
    "grey matter = 775 - 2.2 (age - 63) + N(0, sd 45)"
)
DARKENING = 0.9
"""How far white matter at the ventricles' wall has come towards `DARKENED` times grey matter at the highest
age."""
DARKENED = 0.85
DARKENING_NOISE = 0.03
DARKENING_REACH = 12.0
"""Millimetres from the wall after which the darkening has fallen to 1/e."""

Progress = Callable[[int], None]


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
SCANNERS = (
    Scanner((0.0, 0.14, 0.24, 0.56, 0.90, 1.0), 0.012, 0.04, 0.0),
    Scanner((0.0, 0.24, 0.38, 0.66, 0.88, 0.96), 0.025, 0.10, 0.45),
)


@dataclass(frozen=True)
class PreparedHeads:
    """What was prepared: folder, images by source and split, and the mean distance of volumes from the drawn
    targets."""

    folder: Path
    counts: dict[str, dict[str, int]]
    mean_error: dict[str, float]


def structural_equations(rng: np.random.Generator) -> tuple[float, float, float]:
    """Draw age (years), ventricle and grey-matter volume (ml) of one subject.

    Source: `EQUATIONS`; slopes of the size that ageing cohorts report (Fjell & Walhovd, Reviews in the
    Neurosciences 2010).
    """
    low, high = AGES
    age = low + (high - low) * rng.beta(2.4, 2.2)
    ventricle = np.exp(np.log(24.0) + 0.026 * (age - 63) + rng.normal(0, 0.40))
    grey = 775.0 - 2.2 * (age - 63) + rng.normal(0, 45.0)
    return float(age), float(ventricle), float(grey)


def prepare(
    out_dir: str | Path,
    subjects: int = 10000,
    *,
    seed: int = 0,
    resolution: int = 64,
    plane: str = "coronal",
    head: str = anatomy.HEADS[0],
    test: float = TEST_SHARE,
    val: float = VAL_SHARE,
    workers: int = 1,
    progress: Progress | None = None,
) -> PreparedHeads:
    """Prepare the sources `a`, `b`, `all` and `b2` with their study TOMLs.

    Args:
        out_dir: Folder to write; the sources inside it are replaced.
        subjects: How many heads, one slice each.
        seed: Seed of everything; a subject's head depends on it and on the subject alone.
        resolution: Side of the images, 32, 64 or 128, over 160 mm.
        plane: coronal, axial or sagittal.
        head: Whose anatomy is deformed, one of `phantom_anatomy.HEADS`: another head is another site.
        test: Share of subjects to test on.
        val: Share of the rest to validate on.
        workers: Processes that draw heads.
        progress: Called with the number of heads done since the last call.

    Raises:
        UsageError: A resolution, plane, head, share or number out of range.
        DataError: A folder that cannot be written.
    """
    _check(subjects, resolution, plane, head)
    out = Path(out_dir)
    for name in (*OBSERVES, "all", "b2"):
        check_target(out / name)
    prefix = "phantom" if head == anatomy.HEADS[0] else f"phantom-{head}"
    names = [f"{prefix}-{i:05d}" for i in range(subjects)]
    split = split_subjects(names, seed, test, val)
    home = assign_sources(names, [1.0] * len(OBSERVES), seed)
    images, targets, truth = _draw(names, seed, resolution, plane, head, workers, progress)
    origin = f"{subjects} random deformations of one real T1 template ({head}); not patients"
    info = _about(origin, seed, {"test": test, "val": val}, geometry(plane, resolution))
    counts = {}
    for name, rows, scanner in (
        *((n, home == i, 0) for i, n in enumerate(OBSERVES)),
        ("all", np.ones(subjects, bool), 0),
        ("b2", home == 1, 1),
    ):
        if not rows.any():
            raise UsageError("too few subjects to fill every source", field=name, found=subjects)
        table: dict[str, Any] = {"subject": [n for n, r in zip(names, rows) if r], "split": split[rows]}
        table |= {c: truth[rows, i] for i, c in enumerate(COVARIATES)}
        observes = OBSERVES.get(name[0] if name == "b2" else name, COVARIATES)
        write_packed(
            out / name,
            images[rows, scanner][:, None],
            table,
            info | {"source": name, "observes": list(observes), "scanner": scanner + 1},
        )
        counts[name] = {s: int(np.sum(split[rows] == s)) for s in ("train", "val", "test")}
    write_studies(out, resolution, plane)
    error = np.abs(truth - targets).mean(0)
    return PreparedHeads(out, counts, dict(zip(COVARIATES, error.tolist())))


def _check(subjects: int, resolution: int, plane: str, head: str) -> None:
    if resolution not in RESOLUTIONS:
        raise UsageError(
            "not a supported resolution", found=resolution, expected=" | ".join(map(str, RESOLUTIONS))
        )
    if plane not in PLANES:
        raise UsageError("not a plane", found=plane, expected=" | ".join(PLANES))
    if head not in anatomy.HEADS:
        raise UsageError("not a head", found=head, expected=" | ".join(anatomy.HEADS))
    if subjects < 2:
        raise UsageError("too few subjects", field="subjects", found=subjects, expected="2 or more")


def _about(origin: str, seed: int, shares: dict[str, float], space: dict[str, Any]) -> dict[str, Any]:
    """What every source says of itself."""
    return {
        "recipe": "phantom",
        "semi_synthetic": True,
        "origin": origin,
        "licence": LICENCE,
        "seed": seed,
        "shares": shares,
        "equations": EQUATIONS,
        "truth": "age as drawn; volumes integrated over the deformed tissue maps of the whole head",
        "geometry": space,
        "covariates": {name: {"unit": unit} for name, unit in UNITS.items()},
    }


def geometry(plane: str, resolution: int) -> dict[str, Any]:
    """The [geometry] of a study of these slices."""
    return {
        "plane": plane,
        "pixel_mm": FIELD_OF_VIEW / resolution,
        "affine": "common",
        "position_mm": PLANES[plane][1],
        "centre_mm": [PLANES[plane][2][1], PLANES[plane][3][1]],
    }


def write_studies(out: Path, resolution: int, plane: str) -> None:
    """Copy the shipped study TOMLs beside the sources they point at, for this resolution and plane."""
    for target, shipped in STUDIES.items():
        text = assets.path(f"studies/{shipped}").read_text(encoding="utf-8")
        text = re.sub(r"(?m)^resolution = \d+", f"resolution = {resolution}", text)
        for key, value in geometry(plane, resolution).items():
            shown = f'"{value}"' if isinstance(value, str) else repr(value)
            text = re.sub(rf"(?m)^{key} = [^#\n]*?(\s*(#.*)?)$", rf"{key} = {shown}\1", text)
        write_atomically(out / target, text, DataError)


def slice_points(plane: str, resolution: int) -> Field:
    """Subject millimetres [3, R·S, R·S] of a slice's samples, S = `SUPERSAMPLING` a pixel.

    Row 0 is superior (axial: anterior), column 0 the patient's left (sagittal: posterior).
    """
    axis, position, (across, middle), (up, centre) = PLANES[plane]
    n = resolution * SUPERSAMPLING
    offset = (np.arange(n) - (n - 1) / 2) * FIELD_OF_VIEW / n
    points = np.empty((3, n, n), np.float32)
    points[axis] = position
    points[across] = middle + offset[None, :]
    points[up] = centre - offset[:, None]
    return points


@dataclass(frozen=True)
class Head:
    """One subject: covariates that were drawn and what was reached, and flows' strengths and form that make
    them."""

    target: tuple[float, float, float]
    truth: tuple[float, float, float]
    ventricle_strength: float
    cortex_strength: float
    shape: anatomy.Shape


def draw_head(rng: np.random.Generator, volumes: Volumes) -> Head:
    """Draw covariates and a form, and find the flows that give this form these volumes."""
    age, ventricle, grey = structural_equations(rng)
    shape = anatomy.random_shape(rng, volumes.size)
    by_strength = shape.volumes(volumes.ventricle, volumes.cells)
    a = float(np.interp(ventricle, by_strength, VENTRICLE_STEPS))
    reached = float(np.interp(a, VENTRICLE_STEPS, by_strength))
    change = float(np.interp(a, VENTRICLE_STEPS, shape.volumes(volumes.grey_change, volumes.cells)))
    by_strength = shape.volumes(volumes.grey, volumes.cells) + change
    # grey matter falls with strength
    b = float(np.interp(-grey, -by_strength, CORTEX_STEPS))
    got = float(np.interp(b, CORTEX_STEPS, by_strength))
    return Head((age, ventricle, grey), (age, reached, got), a, b, shape)


def draw_slice(
    rng: np.random.Generator, head: Head, slab: Anatomy, points: Field, scanner: Scanner
) -> NDArray[np.uint8]:
    """One scanner's picture of a head.

    Args:
        rng: Noise, bias and darkening come from it.
        head: From `draw_head`.
        slab: The anatomy around the slice.
        points: From `slice_points`.
        scanner: Which scanner.

    Returns:
        uint8 [R, R].
    """
    n = points.shape[1]
    p = head.shape.to_template(points.reshape(3, -1)) - slab.corner[:, None].astype(np.float32)
    p = anatomy.flow(slab.cortex_velocity, p, head.cortex_strength, 0.5)
    p = anatomy.flow(slab.ventricle_velocity, p, head.ventricle_strength, 1.0)
    t1, white, wall = (anatomy.sample(f, p) for f in (slab.t1, slab.white, slab.wall))
    picture = np.interp(t1, LEVELS, scanner.curve)
    years = (head.truth[0] - AGES[0]) / (AGES[1] - AGES[0])
    strength = np.clip(DARKENING * years + rng.normal(0, DARKENING_NOISE), 0, 1)
    halo = white * np.exp(-np.maximum(-wall, 0) / DARKENING_REACH)
    dark = DARKENED * scanner.curve[LEVELS.index(0.70)]
    picture -= strength * halo * np.maximum(picture - dark, 0)
    picture = picture.reshape(n // SUPERSAMPLING, SUPERSAMPLING, n // SUPERSAMPLING, SUPERSAMPLING).mean(
        (1, 3)
    )
    return _acquire(rng, picture, scanner)


def _acquire(rng: np.random.Generator, picture: NDArray[np.float64], scanner: Scanner) -> NDArray[np.uint8]:
    """Bias field, blur, Rician noise, and grey levels scaled so that the brightest tissue is near 230."""
    from scipy.ndimage import gaussian_filter

    n = len(picture)
    y, x = np.meshgrid(*[np.linspace(-1, 1, n)] * 2, indexing="ij")
    terms = np.stack([x, y, x * y, x * x - 1 / 3, y * y - 1 / 3])
    picture = picture * np.exp(np.tensordot(rng.normal(0, scanner.bias, len(terms)), terms, 1))
    if scanner.blur:
        picture = gaussian_filter(picture, scanner.blur * n / 64)
    real, imaginary = rng.normal(0, scanner.noise, (2, n, n))
    # scanners' own reconstruction masks the air around the head; a template has none
    inside = picture > 0.02
    picture = np.where(inside, np.hypot(picture + real, imaginary), picture)
    level = np.percentile(picture[inside], 98) if inside.any() else 1.0
    return np.clip(np.rint(picture * (230 / level)), 0, 255).astype(np.uint8)


_shared: dict[str, Any] = {}
"""What every job of a worker process needs, sent to it once."""


def _start(volumes: Volumes, slab: Anatomy, points: Field) -> None:
    _shared.update(volumes=volumes, slab=slab, points=points)


def _draw_chunk(
    job: tuple[list[str], int],
) -> tuple[NDArray[np.uint8], NDArray[np.float64], NDArray[np.float64]]:
    """Images [n, scanners, R, R], targets and truth [n, 3] of some subjects."""
    subjects, seed = job
    images, targets, truth = [], [], []
    with one_blas_thread():
        for subject in subjects:
            rng = np.random.default_rng([seed, *subject.encode()])
            head = draw_head(rng, _shared["volumes"])
            args = rng, head, _shared["slab"], _shared["points"]
            images.append(np.stack([draw_slice(*args, scanner) for scanner in SCANNERS]))
            targets.append(head.target)
            truth.append(head.truth)
    return np.stack(images), np.array(targets), np.array(truth)


def _draw(
    subjects: list[str],
    seed: int,
    resolution: int,
    plane: str,
    head: str,
    workers: int,
    progress: Progress | None,
) -> tuple[NDArray[np.uint8], NDArray[np.float64], NDArray[np.float64]]:
    """Every subject, in order: `_draw_chunk` over all of them."""
    whole, volumes = anatomy.build(head)
    axis, position = PLANES[plane][:2]
    middle = round(position - anatomy.ORIGIN[axis])
    low = max(middle - SLAB, 0)
    slab = whole.slab(axis, low, middle + SLAB + 1)
    shared = (volumes, slab, slice_points(plane, resolution))
    jobs = [(subjects[i : i + CHUNK], seed) for i in range(0, len(subjects), CHUNK)]
    parts = []

    def collect(results: Iterable[Any]) -> None:
        for part in results:
            parts.append(part)
            if progress:
                progress(len(part[0]))

    if workers > 1:
        with worker_pool(workers, _start, shared) as pool:
            collect(pool.map(_draw_chunk, jobs))
    else:
        _start(*shared)
        collect(map(_draw_chunk, jobs))
        _shared.clear()
    images, targets, truth = (np.concatenate(column) for column in zip(*parts))
    return images, targets, truth
