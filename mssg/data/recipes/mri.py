"""Brain MRI: slices of T1 volumes from a BIDS data set, a table of paths, or a cohort's folder with its
tables."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mssg.data import nifti, pipeline
from mssg.data.cohort import CovariateSpec, LeftOut, chosen
from mssg.data.cohort_files import STEM
from mssg.data.cohort_values import ImageRecord
from mssg.data.label_maps import LabelScheme, load_scheme
from mssg.data.plane import (
    LEAST_TISSUE,
    TISSUE_LEVEL,
    PlaneGrid,
    UsualSpace,
    fit_grid,
    place_of_image,
    to_image,
)
from mssg.data.position import POSITIONS_IN_WORDS, Position
from mssg.data.recipes.cohort_selection import CohortSelection, PrepareRequest, select_cohort
from mssg.data.recipes.mri_slices import INTENSITIES, KEPT, RESOLUTIONS, SliceMaker, SliceOptions
from mssg.errors import DataError, UsageError, check_choice
from mssg.extras import need
from mssg.files import write_atomically
from mssg.study.covariate import Covariate
from mssg.study.model import AXES, Geometry

SAMPLE = 100
"""Volumes whose headers decide the pixel size where none is stated."""


def prepare(
    request: PrepareRequest, options: SliceOptions | None = None, save_slices: bool = False
) -> pipeline.PreparedSources:
    """Prepare one cohort as a source (with `divide`, several of one population), a report, and a study to
    start from.

    Args:
        save_slices: Also write every picture as NIfTI.

    Raises:
        UsageError, DataError: What cannot be, or no image is left.
    """
    options = options or SliceOptions()
    if options.keep_empty and not options.is_stack:
        hint = "Cut a range: --at FIRST:LAST:STEP"
        raise UsageError("only a range of places has empty slices", field="keep-empty", hint=hint)
    if options.n4:
        need("n4", "N4")
    positions = _checked(options)
    scheme = load_scheme(options.label_scheme) if options.labels else LabelScheme()
    measured = [CovariateSpec(Covariate(name, "continuous", unit="ml"), name) for name in scheme.structures]
    got = select_cohort(request, "mri", nifti.SUFFIXES, measured)
    common = _share_space(got, options)
    spaces, unreadable = _spaces(got.records, options)
    usual = UsualSpace.of(list(spaces.values()), options.plane) if spaces and not options.pixel_mm else None
    pixel_mm = options.pixel_mm or (usual.pixel_mm(options.resolution) if usual else 1.0)
    grids = _common_grids(spaces.values(), usual, positions, options, pixel_mm) if common else ()
    geometry = replace(_geometry(options, pixel_mm, grids), space=_space(got.records, spaces))
    plan = got.plan(
        request,
        per_item=len(positions),
        shape=(1, options.resolution, options.resolution),
        settings={
            "recipe": "mri",
            "runs": request.runs,
            **vars(options),
            "pixel_mm": pixel_mm,
            "grids": [vars(g) for g in grids],
        },
        info={
            "recipe": "mri",
            "options": {k: v for k, v in vars(options).items() if v not in ("", None)},
            "geometry": {k: v for k, v in vars(geometry).items() if v not in (None, "")},
        },
        qc=got.cohort.qc if options.intensity == "minmax" else {},
        geometry=geometry,
        notes=_notes(pixel_mm, options, usual, common),
    )
    records = [record for record in got.records if record.image.name not in unreadable]
    maker = SliceMaker(got.roots, options, positions, pixel_mm, grids, scheme, usual)
    left = [*got.left_out, *unreadable.values()]
    tell = request.progress(len(records)) if request.progress else None
    summary = pipeline.prepare(plan, records, left, got.covariates, maker, request.workers, tell)
    if save_slices:
        write_slices(plan.out / plan.name, plan.out / f"{plan.name}-slices")
    return summary


def _share_space(got: CohortSelection, options: SliceOptions) -> bool:
    """Whether all volumes lie in one space: as the options say, else the cohort's map.

    Raises:
        UsageError: They do not, and are to be cut at places in millimetres.
    """
    common = options.common_space
    if common is None:
        common = "common" in chosen(got.cohort.affine, {"variant": got.variant})
    if options.is_stack and not common:
        raise UsageError(
            "the volumes share no space, so that their millimetres name no common place",
            field="--at",
            found=options.at[0],
            hint="Register them to a template and add --common-space, or cut single slices",
        )
    return common


def _notes(pixel_mm: float, options: SliceOptions, usual: UsualSpace | None, common: bool) -> tuple[str, ...]:
    """What the user should know of the pixels' size and of where the cut lies."""
    text = f"pixels of {pixel_mm:g} mm, pictures of {pixel_mm * options.resolution:.0f} mm"
    if usual:
        text += f" (usual: voxels of {usual.voxel_mm:.3g} mm, fields of {usual.field_mm:.0f} mm)"
    if options.is_stack and not options.keep_empty:
        text += (
            f"; slices in which less than {LEAST_TISSUE:.0%} of the pixels are brighter than grey level"
            f" {TISSUE_LEVEL} show no tissue and are left out"
        )
    if common or "middle" not in options.at:
        return (text,)
    where = (
        "--at middle is the middle of each scan's field of view: what it shows differs with how a head lay in"
        " the scanner. --at brain cuts through the middle of each brain"
    )
    return text, where


def _checked(options: SliceOptions) -> tuple[Position, ...]:
    for value, choices, name in (
        (options.plane, tuple(AXES), "--plane"),
        (options.intensity, INTENSITIES, "--intensity"),
        (options.resolution, RESOLUTIONS, "--resolution"),
    ):
        check_choice(value, choices, name)
    low, high = nifti.VOXEL_MM
    if options.pixel_mm is not None and not low <= options.pixel_mm <= high:
        expected = f"{low:g} to {high:g} mm"
        raise UsageError("not a size", field="--pixel-mm", found=options.pixel_mm, expected=expected)
    positions = tuple(dict.fromkeys(p for text in options.at for p in Position.parse_all(text)))
    if options.is_stack and len(options.at) > 1:
        raise UsageError("a range stands alone", field="--at", found=", ".join(options.at))
    if not positions:
        raise UsageError("no position", field="--at", expected=POSITIONS_IN_WORDS)
    return positions


Space = tuple[tuple[int, ...], NDArray[np.float64]]
"""Shape and affine in RAS order."""


def _spaces(
    records: Sequence[ImageRecord], options: SliceOptions
) -> tuple[dict[str, Space], dict[str, LeftOut]]:
    """The spaces of the first volumes that can be read, and those among them that cannot: they would fail
    later for the same reason."""
    spaces: dict[str, Space] = {}
    unreadable: dict[str, LeftOut] = {}
    for record in records:
        image = record.image
        try:
            drawn = nifti.drawn_as(image.path)
            rules = options.rules_of(bool(drawn))
            spaces[image.name] = nifti.read_space(image.path, rules, planar=drawn == "slice")
        except DataError as error:
            unreadable[image.name] = image.left_out("image", error.brief)
        if len(spaces) == SAMPLE:
            break
    return spaces, unreadable


def _common_grids(
    spaces: Iterable[Space],
    usual: UsualSpace | None,
    positions: Sequence[Position],
    options: SliceOptions,
    pixel_mm: float,
) -> tuple[PlaneGrid, ...]:
    """The planes that all volumes of one space share: those of the first usual one that has them.

    Raises:
        DataError: None has.
    """
    if any(position.kind == "brain" for position in positions):
        raise UsageError(
            "volumes of one space share one plane, and each brain has its own middle",
            field="--at",
            found="brain",
            expected="millimetres of that space, such as -18mm",
        )
    problem: DataError | None = None
    for shape, affine in spaces:
        if usual and usual.problem(shape, affine):
            continue
        try:
            places = [position.to_mm(shape, affine, options.plane) for position in positions]
        except DataError as error:
            problem = error
            continue
        grid = fit_grid(shape, affine, options.plane, places[0], options.resolution, pixel_mm)
        return tuple(replace(grid, position_mm=place) for place in places)
    if problem:
        raise problem
    return ()


def _geometry(options: SliceOptions, pixel_mm: float, grids: tuple[PlaneGrid, ...]) -> Geometry:
    """The geometry of the study: one plane for all images, a stack of them, or pixel size alone."""
    if options.is_stack and grids:
        middle = grids[len(grids) // 2]
        place = middle.position_mm, middle.centre_mm
        return Geometry(options.plane, pixel_mm, "common", *place, position=KEPT[1])
    if len(grids) == 1:
        return Geometry(options.plane, pixel_mm, "common", grids[0].position_mm, centre_mm=grids[0].centre_mm)
    return Geometry(options.plane, pixel_mm)


def _space(records: Sequence[ImageRecord], spaces: Mapping[str, Space]) -> str:
    """The space that the volumes looked at say they lie in, where it has a name and all agree."""
    codes = {nifti.read_code(record.image.path) for record in records if record.image.name in spaces}
    return "mni" if codes == {nifti.MNI} else ""


def write_slices(source: Path, folder: Path) -> int:
    """Write every picture of a prepared source as NIfTI, to be laid over the volume it was cut from.

    Args:
        source: A folder that `prepare` has written.
        folder: Where the files go: the volume's name with its folders joined, and the slice.

    Returns:
        How many.
    """
    import json

    from mssg.data.dataset import IMAGES, INFO, TABLE
    from mssg.data.table import read_table

    geometry = Geometry(**json.loads((source / INFO).read_text(encoding="utf-8"))["geometry"])
    table = read_table(source / TABLE)
    images = np.load(source / IMAGES, mmap_mode="r")
    folder.mkdir(parents=True, exist_ok=True)
    for row, picture in enumerate(images):
        position, across, up = (float(table[name][row]) for name in KEPT[1:])
        grid = PlaneGrid(geometry.plane, position, geometry.pixel_mm, picture.shape[-1], (across, up))
        stem = re.sub(STEM, "", table["file"][row]).replace("/", "_")
        path = folder / f"{stem}_{table['slice'][row]}.nii.gz"
        image = to_image(picture[0], place_of_image(geometry, grid))
        write_atomically(path, nifti.to_bytes(image, path), DataError)
    return len(images)
