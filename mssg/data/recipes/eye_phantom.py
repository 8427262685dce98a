"""Eye phantoms: colour fundus photographs whose covariates are known.

Everything in them is drawn: vessels grow by published rules, colours follow one real photograph. They are
labelled semi-synthetic like the brain's, test software, and say nothing about medicine.
"""

from __future__ import annotations

import re
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mssg.data.recipes.eye_phantom_anatomy import GRADES, Eye, draw_eye
from mssg.data.recipes.eye_phantom_camera import CAMERAS, photograph
from mssg.data.recipes.phantom_sources import (
    HALVES,
    PreparedPhantoms,
    Progress,
    copy_studies,
    divide_people,
    draw_people,
    write_sources,
)
from mssg.data.split import SHARES, Shares
from mssg.errors import check_choice

SIDES = ("left", "right")
COVARIATES: dict[str, dict[str, Any]] = {
    "age": {"unit": "years"},
    "eye": {"levels": list(SIDES)},
    "cataract": {},
    "spherical_power": {"unit": "D"},
    "retinopathy": {"levels": list(GRADES)},
}
OBSERVES = {"a": ("age", "eye", "cataract"), "b": ("age", "eye", "spherical_power")}
"""What each source records; `all` holds the images of both with everything recorded, `b2` those of b through
another camera, graded for retinopathy."""
GRADED = ("age", "eye", "retinopathy")
STUDIES = {
    "study.toml": "fundus-semi.toml",
    "study-a-only.toml": "fundus-a-only.toml",
    "study-b-only.toml": "fundus-b-only.toml",
    "study-all.toml": "fundus-all.toml",
    "study-cameras.toml": "fundus-cameras.toml",
}
RESOLUTIONS = (32, 64, 128, 256)
EQUATIONS = (
    "age = 40 + 42 Beta(2.2, 2.0); P(cataract) = logistic((age - 70) / 6); "
    "spherical power = 0.04 (age - 60) + N(0.7, sd 1.5) or, in 30 %, N(-4.0, sd 2.4); "
    "retinopathy 0 to 4 in 56, 12, 14, 10, 8 %"
)


def prepare(
    out_dir: str | Path,
    subjects: int = 10000,
    *,
    seed: int = 0,
    resolution: int = 64,
    shares: Shares = SHARES,
    workers: int = 1,
    progress: Progress | None = None,
) -> PreparedPhantoms:
    """Prepare the sources `a`, `b`, `all` and `b2` with their study TOMLs.

    Args:
        out_dir: Folder to write; the sources inside it are replaced.
        subjects: How many people, one eye each.
        seed: Seed of everything; an eye depends on it and on the subject alone.
        resolution: Side of the images, one of `RESOLUTIONS`.
        progress: Called with the number of eyes done since the last call.

    Raises:
        UsageError: A resolution or number out of range.
        DataError: A folder that cannot be written.
    """
    check_choice(resolution, RESOLUTIONS, "resolution")
    out = Path(out_dir)
    names, split, home = divide_people(out, "phantom-eye", subjects, seed=seed, shares=shares)
    eyes, images = zip(*draw_people(_draw_chunk, _start, (seed, resolution), names, workers, progress))
    columns = {"subject": names, "split": split} | _columns(eyes)
    everybody = np.ones(subjects, bool)
    counts = write_sources(
        out,
        (
            *((name, home == i, 0, OBSERVES[name]) for i, name in enumerate(HALVES)),
            ("all", everybody, 0, tuple(COVARIATES)),
            ("b2", home == 1, 1, GRADED),
        ),
        _about(subjects, seed, shares),
        device="camera",
        person=np.arange(subjects),
        split=split,
        images=lambda mine, camera: np.stack([images[i][camera] for i in mine]),
        table=lambda mine: {name: [values[i] for i in mine] for name, values in columns.items()},
    )
    change = re.compile(r"(?m)^resolution = \d+")
    copy_studies(STUDIES, out, lambda text: change.sub(f"resolution = {resolution}", text))
    return PreparedPhantoms(out, counts, {})


def _columns(eyes: tuple[Eye, ...]) -> dict[str, list[Any]]:
    """The table of these eyes: covariates, and what else is known of them."""
    return {
        "side": [SIDES[e.right] for e in eyes],
        "age": [e.age for e in eyes],
        "eye": [SIDES[e.right] for e in eyes],
        "cataract": [int(e.cataract) for e in eyes],
        "spherical_power": [e.spherical_power for e in eyes],
        "retinopathy": [GRADES[e.grade] for e in eyes],
        "haze": [e.haze for e in eyes],
        "cup_disc_ratio": [e.cup_disc_ratio for e in eyes],
        "axial_length": [e.axial_length for e in eyes],
        "vessel_density": [e.vessel_density for e in eyes],
        "vessel_calibre": [e.vessel_calibre for e in eyes],
        "lesions": [len(e.lesions.x) for e in eyes],
    }


def _about(subjects: int, seed: int, shares: Shares) -> dict[str, Any]:
    """What every source says of itself."""
    return {
        "recipe": "eye phantom",
        "semi_synthetic": True,
        "origin": f"{subjects} eyes drawn by equations and grown vessels; not patients",
        "licence": "none needed: everything in the pictures is drawn",
        "seed": seed,
        "shares": asdict(shares),
        "equations": EQUATIONS,
        "truth": "as drawn",
        "geometry": None,
        "covariates": COVARIATES,
    }


_shared: dict[str, int] = {}
"""Seed and resolution of a process's pictures."""


def _start(seed: int, resolution: int) -> None:
    _shared.update(seed=seed, resolution=resolution)


def _draw_chunk(subjects: list[str]) -> list[tuple[Eye, NDArray[np.uint8]]]:
    """For each subject its eye, and its pictures [cameras, 3, R, R]."""
    drawn = []
    for subject in subjects:
        rng = np.random.default_rng([_shared["seed"], *subject.encode()])
        eye = draw_eye(rng)
        pictures = np.stack([photograph(rng, eye, camera, _shared["resolution"]) for camera in CAMERAS])
        drawn.append((eye, pictures))
    return drawn
