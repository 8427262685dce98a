"""Brain phantoms: T1 slices of a real template, deformed so that age, ventricle and grey-matter volume are
known exactly.

Semi-synthetic: the anatomy is real (one template), its variation is drawn. Phantoms test software; they say
nothing about medicine. Each subject gets an age, volumes that depend on it as they do in ageing cohorts, and
a form of the head; age darkens the white matter around the ventricles, so that it can be seen and measured on
its own.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mssg.blas import one_blas_thread
from mssg.data.plane import shows_tissue
from mssg.data.recipes import phantom_anatomy as anatomy
from mssg.data.recipes.phantom_anatomy import CORTEX_STEPS, VENTRICLE_STEPS, Anatomy, Volumes
from mssg.data.recipes.phantom_scan import (
    AGES,
    FIELD_OF_VIEW,
    PLANES,
    SCANNERS,
    HeadPhantom,
    draw_slice,
    draw_stack,
    slice_points,
)
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
from mssg.errors import UsageError, check_choice

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
RESOLUTIONS = (32, 64, 128)
SLAB = 26
"""Voxels on each side of a slice that a head's own form can bring into it."""
POSITION = "position_mm"
"""The column that says where a slice of a stack lies."""
LICENCE = (
    "MNI ICBM 152 and Colin27 templates, copyright 1993-2009 Louis Collins, McConnell Brain Imaging Centre,"
    " McGill University; notice in assets/brain"
)
EQUATIONS = (
    "age = 45 + 37 Beta(2.4, 2.2); log ventricle = log 24 + 0.026 (age - 63) + N(0, sd 0.40); "
    "grey matter = 775 - 2.2 (age - 63) + N(0, sd 45)"
)


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
    at: Sequence[float] = (),
    slices: int = 0,
    in_pairs: bool = False,
    keep_empty: bool = False,
    shares: Shares = SHARES,
    workers: int = 1,
    progress: Progress | None = None,
) -> PreparedPhantoms:
    """Prepare the sources `a`, `b`, `all` and `b2` with their study TOMLs.

    Args:
        out_dir: Folder to write; the sources inside it are replaced.
        subjects: How many heads.
        seed: Seed of everything; a subject's head depends on it and on the subject alone.
        resolution: Side of the images, 32, 64 or 128, over 160 mm.
        plane: coronal, axial or sagittal.
        head: Whose anatomy is deformed, one of `phantom_anatomy.HEADS`: another head is another site.
        at: Where heads are cut, in millimetres; none = one slice at the plane's own place. With several
            places the position becomes a covariate of the studies.
        slices: How many of these places are drawn for each head; 0 = all.
        in_pairs: Every slice is drawn with one next to it, for training on pairs (`slice_pairs`).
        keep_empty: Slices of a stack without tissue stay, so that a model learns where heads end.
        progress: Called with the number of heads done since the last call.

    Raises:
        UsageError: A resolution, plane, head or number out of range.
        DataError: A folder that cannot be written.
    """
    check_choice(resolution, RESOLUTIONS, "resolution")
    check_choice(plane, PLANES, "plane")
    check_choice(head, anatomy.HEADS, "head")
    places, out = _places(at, slices, in_pairs), Path(out_dir)
    if keep_empty and not places:
        raise UsageError("only a range of places has empty slices", field="keep-empty", hint="Add --at")
    prefix = "phantom" if head == anatomy.HEADS[0] else f"phantom-{head}"
    names, split, home = divide_people(out, prefix, subjects, seed=seed, shares=shares)
    drawn = _draw(
        names, _Cut(seed, resolution, plane, places, slices, in_pairs, keep_empty), head, workers, progress
    )
    origin = f"{subjects} random deformations of one real T1 template ({head}); not patients"

    def table(mine: NDArray[np.intp]) -> dict[str, Any]:
        person = drawn.person[mine]
        columns: dict[str, Any] = {"subject": [names[i] for i in person], "split": split[person]}
        columns |= {c: drawn.truth[person, i] for i, c in enumerate(COVARIATES)}
        return columns | ({POSITION: drawn.position[mine]} if places else {})

    place = (POSITION,) if places else ()
    counts = write_sources(
        out,
        (
            *((name, home == i, 0, (*OBSERVES[name], *place)) for i, name in enumerate(HALVES)),
            ("all", np.ones(subjects, bool), 0, (*COVARIATES, *place)),
            ("b2", home == 1, 1, (*OBSERVES["b"], *place)),
        ),
        _about(origin, seed, shares, geometry(plane, resolution, places)),
        device="scanner",
        person=drawn.person,
        split=split,
        images=lambda mine, scanner: drawn.images[mine, scanner][:, None],
        table=table,
    )
    write_studies(out, resolution, plane, places)
    error = np.abs(drawn.truth - drawn.targets).mean(0)
    return PreparedPhantoms(out, counts, dict(zip(COVARIATES, error.tolist())))


def _about(origin: str, seed: int, shares: Shares, space: dict[str, Any]) -> dict[str, Any]:
    """What every source says of itself."""
    return {
        "recipe": "phantom",
        "semi_synthetic": True,
        "origin": origin,
        "licence": LICENCE,
        "seed": seed,
        "shares": asdict(shares),
        "equations": EQUATIONS,
        "truth": "age as drawn; volumes integrated over the deformed tissue maps of the whole head",
        "geometry": space,
        "covariates": {name: {"unit": unit} for name, unit in UNITS.items()},
    }


def _places(at: Sequence[float], slices: int, in_pairs: bool) -> tuple[float, ...]:
    """Where heads are cut, ascending.

    Raises:
        UsageError: One place, more slices of each head than there are places, or pairs of an odd number.
    """
    places = tuple(sorted(set(at)))
    if len(places) == 1:
        raise UsageError("one place is no range", field="at", found=places[0], expected="two or more places")
    if slices < 0 or slices > len(places):
        raise UsageError(
            "not so many slices", field="slices-per-subject", found=slices, expected=f"1 to {len(places)}"
        )
    if in_pairs and (not places or slices % 2):
        raise UsageError(
            "pairs of slices need a range of places and an even number of slices",
            field="in-pairs",
            found=f"{len(places)} places, {slices} slices",
        )
    return places


def geometry(plane: str, resolution: int, places: Sequence[float] = ()) -> dict[str, Any]:
    """The [geometry] of a study of these slices; a stack's single slice is cut where others are, or nearest
    to it."""
    axis_place, (_, across), (_, up) = PLANES[plane][1:]
    position = min(places, key=lambda p: abs(p - axis_place)) if places else axis_place
    stated = {
        "plane": plane,
        "pixel_mm": FIELD_OF_VIEW / resolution,
        "affine": "common",
        "position_mm": float(position),
        "centre_mm": [across, up],
    }
    return stated | ({"position": POSITION} if places else {})


def write_studies(out: Path, resolution: int, plane: str, places: Sequence[float] = ()) -> None:
    """Copy the shipped study TOMLs beside the sources they point at, for this resolution and these cuts."""

    def changed(text: str) -> str:
        text = re.sub(r"(?m)^resolution = \d+", f"resolution = {resolution}", text)
        stated = geometry(plane, resolution, places)
        if stated.pop("position", None):
            text = _with_position(text)
        for key, value in stated.items():
            shown = f'"{value}"' if isinstance(value, str) else repr(value)
            text = re.sub(rf"(?m)^{key} = [^#\n]*?(\s*(#.*)?)$", rf"{key} = {shown}\1", text)
        return text

    copy_studies(STUDIES, out, changed)


def _with_position(text: str) -> str:
    """A study's text whose slices lie at several places: the position is one more covariate."""
    text = re.sub(r"(?m)^(centre_mm = .*)$", rf'\1\nposition = "{POSITION}"  # see below', text, count=1)
    text = re.sub(r"(?m)^observes = \[(.*)\]", rf'observes = [\1, "{POSITION}"]', text)
    table = f'[covariates.{POSITION}]          # where the plane cuts\nkind = "continuous"\nunit = "mm"\n\n'
    return text.replace("[[sources]]", table + "[[sources]]", 1)


def draw_head(rng: np.random.Generator, volumes: Volumes) -> HeadPhantom:
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
    return HeadPhantom((age, ventricle, grey), (age, reached, got), a, b, shape)


@dataclass(frozen=True)
class _Cut:
    """Seed, side of the pictures, plane, places (none = the plane's own), how many of them for each head
    (0 = all), whether they come in pairs next to each other, and whether those without tissue stay."""

    seed: int
    resolution: int
    plane: str
    places: tuple[float, ...]
    slices: int
    in_pairs: bool
    keep_empty: bool

    def choose(self, rng: np.random.Generator) -> NDArray[np.intp]:
        """Which places a head is cut at, ascending."""
        n = self.slices or len(self.places)
        if not self.in_pairs:
            return np.sort(rng.permutation(len(self.places))[:n])
        first = rng.permutation(len(self.places) - 1)[: n // 2]
        return np.unique(np.concatenate([first, first + 1]))


@dataclass(frozen=True)
class _Drawn:
    """Slices [N, scanners, R, R] with their person [N] and position [N], and heads' targets and truth
    [subjects, 3]."""

    images: NDArray[np.uint8]
    person: NDArray[np.intp]
    position: NDArray[np.float64]
    targets: NDArray[np.float64]
    truth: NDArray[np.float64]


_shared: dict[str, Any] = {}
"""What every job of a worker process needs, sent to it once."""


def _start(volumes: Volumes, slab: Anatomy, cut: _Cut) -> None:
    places = cut.places or (None,)
    points = [slice_points(cut.plane, cut.resolution, place) for place in places]
    _shared.update(volumes=volumes, slab=slab, points=points, cut=cut)


def _draw_chunk(subjects: list[str]) -> list[tuple[NDArray[np.uint8], NDArray[np.float64], HeadPhantom]]:
    """For each subject its slices [K, scanners, R, R], where they lie [K], and the head."""
    cut: _Cut = _shared["cut"]
    drawn = []
    with one_blas_thread():
        for subject in subjects:
            rng = np.random.default_rng([cut.seed, *subject.encode()])
            head = draw_head(rng, _shared["volumes"])
            if cut.places:
                drawn.append((*_stack(rng, head, cut), head))
            else:
                args = rng, head, _shared["slab"], _shared["points"][0]
                picture = np.stack([draw_slice(*args, scanner) for scanner in SCANNERS])
                drawn.append((picture[None], np.full(1, PLANES[cut.plane][1]), head))
    return drawn


def _stack(
    rng: np.random.Generator, head: HeadPhantom, cut: _Cut
) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
    """Slices [K, scanners, R, R] of a head and where they lie; those without tissue as they are wanted."""
    chosen = cut.choose(rng)
    cuts = [(cut.places[i], _shared["points"][i]) for i in chosen]
    pictures = np.stack([draw_stack(rng, head, _shared["slab"], cuts, scanner=s) for s in SCANNERS], axis=1)
    kept = [cut.keep_empty or shows_tissue(picture[0]) for picture in pictures]
    return pictures[kept], np.array(cut.places)[chosen][kept]


def _draw(subjects: list[str], cut: _Cut, head: str, workers: int, progress: Progress | None) -> _Drawn:
    """Every subject, in order: `_draw_chunk` over all of them."""
    whole, volumes = anatomy.build(head)
    axis, usual = PLANES[cut.plane][:2]
    ends = [round(p - anatomy.ORIGIN[axis]) for p in cut.places or (usual,)]
    slab = whole.slab(axis, max(min(ends) - SLAB, 0), max(ends) + SLAB + 1)
    parts = draw_people(_draw_chunk, _start, (volumes, slab, cut), subjects, workers, progress)
    _shared.clear()
    images, positions, heads = zip(*parts)
    return _Drawn(
        np.concatenate(images),
        np.repeat(np.arange(len(parts)), [len(p) for p in positions]),
        np.concatenate(positions),
        np.array([h.target for h in heads]),
        truth=np.array([h.truth for h in heads]),
    )
