"""Brain MRI: slices of T1 volumes from a BIDS data set, a table of paths, or a cohort's folder with its
tables."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mssg import assets
from mssg.data import nifti, pipeline
from mssg.data.bias import estimate
from mssg.data.cohort import CohortImage, CovariateSpec, LeftOut, chosen, fill, pattern
from mssg.data.cohort_files import STEM, unreadable
from mssg.data.cohort_values import ImageRecord
from mssg.data.image_jobs import Row
from mssg.data.plane import AXES, PlaneGrid, Position, fit_grid, sample_plane, to_image, to_levels
from mssg.data.recipes.cohort_selection import PrepareRequest, select_cohort
from mssg.errors import DataError, UsageError
from mssg.files import parse_toml, write_atomically
from mssg.study.model import Covariate, Geometry

INTENSITIES = ("robust", "minmax")
RESOLUTIONS = (32, 64, 128, 256, 512)
LARGEST_LABEL, MOST_LABELS = 2**24, 2**16
"""Of a label scheme: label maps hold no larger ones, and no structure has more."""
SAMPLE = 100
"""Volumes whose headers decide the pixel size where none is stated."""
KEPT = ("slice", "position_mm", "across_mm", "up_mm")
"""Columns that say where a picture lies: what was asked for, and its plane and centre in millimetres."""


@dataclass(frozen=True)
class SliceOptions:
    """How volumes become pictures.

    Attributes:
        plane: coronal, axial or sagittal.
        at: Positions, one picture each.
        resolution: Pixels a side.
        pixel_mm: Edge of a pixel; None: the largest voxels among the first volumes, or larger where their
            heads would not fit.
        intensity: "robust" or "minmax" grey levels, within each picture.
        mask, bias_field, labels: Templates of further files, relative to the folder: {subject}, {session},
            {folder}, {stem} and every column of a table of paths; * is allowed. Brain mask, field to divide
            by, label map.
        label_scheme: Whose labels: a TOML, or a shipped name.
        nan_as_zero: Take voxels that are not finite as 0.
        bias_correct: Estimate each volume's bias field and divide by it.
        assume_las: Take volumes that state no orientation as stored from right to left.
        common_space: All volumes lie in one space (MNI): one position and one centre for all. None: as the
            cohort says.
    """

    plane: str = "coronal"
    at: tuple[str, ...] = ("middle",)
    resolution: int = 128
    pixel_mm: float | None = None
    intensity: str = "robust"
    mask: str = ""
    bias_field: str = ""
    labels: str = ""
    label_scheme: str = "freesurfer"
    nan_as_zero: bool = False
    common_space: bool | None = None
    assume_las: bool = False
    bias_correct: bool = False


@dataclass(frozen=True)
class SliceMaker:
    """Cuts one volume; see `ImageMaker`."""

    root: Path
    homes: tuple[Path, ...]
    options: SliceOptions
    positions: tuple[Position, ...]
    pixel_mm: float
    grids: tuple[PlaneGrid, ...]
    structures: Mapping[str, NDArray[np.int64]] = field(default_factory=dict)

    def __call__(self, item: ImageRecord) -> tuple[NDArray[np.uint8], list[Row | str]]:
        """Pictures uint8 [S, 1, R, R], and where each lies."""
        o, image = self.options, item.image
        volume = nifti.read_volume(image.path, o.nan_as_zero, o.assume_las)
        mask = self._further(image, o.mask, "mask")
        bias = self._further(image, o.bias_field, "bias field")
        smooth = estimate(volume) if o.bias_correct else None
        values = self._volumes(image)
        shape, affine = nifti.read_space(image.path, o.assume_las)
        pictures = np.zeros((len(self.positions), 1, o.resolution, o.resolution), np.uint8)
        rows: list[Row | str] = []
        for number, position in enumerate(self.positions):
            try:
                grid = self.grids[number] if self.grids else self._grid(position, shape, affine)
                picture, inside = sample_plane(volume, grid)
                if bias is not None:
                    divisor, known = sample_plane(bias, grid)
                    picture = np.divide(
                        picture, divisor, out=np.zeros_like(picture), where=known & (divisor > 1e-6)
                    )
                if smooth is not None:
                    picture = picture / smooth.at(grid.points()).astype(np.float32)
                if mask is not None:
                    inside &= sample_plane(mask, grid, nearest=True)[0] > 0
                pictures[number, 0] = to_levels(picture, inside, o.intensity)
            except DataError as error:
                rows.append(error.message)
                continue
            where = (str(position), grid.position_mm, *grid.centre_mm)
            rows.append({**dict(zip(KEPT, where)), "values": values})
        return pictures, rows

    def _grid(self, position: Position, shape: tuple[int, ...], affine: NDArray[np.float64]) -> PlaneGrid:
        mm = position.to_mm(shape, affine, self.options.plane)
        return fit_grid(shape, affine, self.options.plane, mm, self.options.resolution, self.pixel_mm)

    def _further(self, image: CohortImage, template: str, what: str) -> nifti.Volume | None:
        path = related(self.root, self.homes, image, template, what)
        return nifti.read_volume(path, assume_las=self.options.assume_las) if path else None

    def _volumes(self, image: CohortImage) -> dict[str, float]:
        path = related(self.root, self.homes, image, self.options.labels, "label map")
        return nifti.volumes_of(nifti.read_labels(path), self.structures) if path else {}


def related(root: Path, homes: Sequence[Path], image: CohortImage, template: str, what: str) -> Path | None:
    """A further file of an image: mask, bias field or label map; None where none is asked for.

    Raises:
        DataError: It is not there, there are several, or it lies outside the folder.
    """
    if not template:
        return None
    text = fill(template, image.facts)
    if not text:
        raise DataError(f"no {what}", found=f"nothing for {template}")
    if any(mark in text for mark in "*?"):
        fits = pattern(text.removeprefix("./"))
        start = root / re.split(r"[*?]", text)[0].rpartition("/")[0]
        hits = [p for p in sorted(start.rglob("*")) if fits.fullmatch(p.relative_to(root).as_posix())]
        if len(hits) != 1:
            raise DataError(
                f"no {what}" if not hits else f"several files could be the {what}",
                found=len(hits),
                expected=text,
            )
        path = hits[0]
    else:
        path = root / text
    problem = unreadable(path, homes)
    if problem:
        raise DataError(f"{what}: {problem}", found=text)
    return path


def structures_of(scheme: str) -> dict[str, NDArray[np.int64]]:
    """A label scheme: structure -> labels.

    Raises:
        UsageError, DataError: No such scheme, or not one.
    """
    path = Path(scheme) if scheme.endswith(".toml") else assets.path(f"labels/{scheme}.toml")
    try:
        table = parse_toml(path.read_text(encoding="utf-8-sig"))["structures"]
        out = {}
        for name, entries in table.items():
            ids: list[int] = []
            for entry in entries:
                first, _, last = str(entry).partition("-")
                low, high = int(first), int(last or first)
                if not 0 <= low <= high <= min(low + MOST_LABELS, LARGEST_LABEL):
                    raise ValueError(f"{name}: {entry!r} are no labels")
                ids += range(low, high + 1)
            out[name] = np.array(sorted(set(ids)))
        return out
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(
            f"cannot be read as a label scheme: {error}",
            file=path,
            expected='[structures] with name = [1, "10-13"]',
        ) from None


def prepare(
    request: PrepareRequest, options: SliceOptions | None = None, save_slices: bool = False
) -> pipeline.PreparedSources:
    """Prepare one cohort as a source (with `divide`, several of one population), a report, and a study to
    start from.

    Args:
        request: Where volumes come from.
        options: How they become pictures.
        save_slices: Also write every picture as NIfTI.

    Raises:
        UsageError, DataError: What cannot be, or no image is left.
    """
    options = options or SliceOptions()
    positions = _checked(options)
    structures = structures_of(options.label_scheme) if options.labels else {}
    measured = [CovariateSpec(Covariate(name, "continuous", unit="ml"), name) for name in structures]
    got = select_cohort(request, "mri", nifti.SUFFIXES, measured)
    common = options.common_space
    if common is None:
        common = "common" in chosen(got.cohort.affine, {"variant": got.variant})
    pixel_mm, grids, unreadable = _grids(got.records, options, positions, common)
    items = [item for item in got.records if item.image.name not in unreadable]
    geometry = _geometry(options, pixel_mm, grids)
    plan = got.plan(
        request,
        per_item=len(positions),
        shape=(1, options.resolution, options.resolution),
        settings={"recipe": "mri", **vars(options), "pixel_mm": pixel_mm, "grids": [vars(g) for g in grids]},
        info={
            "recipe": "mri",
            "options": {k: v for k, v in vars(options).items() if v not in ("", None)},
            "geometry": {k: v for k, v in vars(geometry).items() if v is not None},
        },
        qc=got.cohort.qc if options.intensity == "minmax" else {},
        geometry=geometry,
    )
    maker = SliceMaker(got.home, got.homes, options, positions, pixel_mm, grids, structures)
    skips = [*got.left_out, *unreadable.values()]
    tell = request.progress(len(items)) if request.progress else None
    summary = pipeline.prepare(plan, items, skips, got.covariates, maker, request.workers, tell)
    if save_slices:
        write_slices(plan.out / plan.name, plan.out / f"{plan.name}-slices")
    return summary


def _checked(options: SliceOptions) -> tuple[Position, ...]:
    for value, choices, name in (
        (options.plane, tuple(AXES), "--plane"),
        (options.intensity, INTENSITIES, "--intensity"),
        (options.resolution, RESOLUTIONS, "--resolution"),
    ):
        if value not in choices:
            raise UsageError("unknown value", field=name, found=value, expected=" | ".join(map(str, choices)))
    if options.pixel_mm is not None and not options.pixel_mm > 0:
        raise UsageError("not a size", field="--pixel-mm", found=options.pixel_mm, expected="more than 0")
    positions = tuple(dict.fromkeys(Position.parse(text) for text in options.at))
    if not positions:
        raise UsageError("no position", field="--at", expected="middle, 90 or -18mm")
    return positions


def _grids(
    items: Sequence[ImageRecord], options: SliceOptions, positions: tuple[Position, ...], common: bool
) -> tuple[float, tuple[PlaneGrid, ...], dict[str, LeftOut]]:
    """Pixel size, and in a common space the grids of all volumes, from the first volumes that can be read.

    Unreadable volumes among them are left out at once: they would fail later for the same reason.
    """
    unreadable: dict[str, LeftOut] = {}
    first: list[PlaneGrid] = []
    pixel_mm = 0.0
    wanted = 1 if common or options.pixel_mm else SAMPLE
    for item in items:
        image = item.image
        try:
            shape, affine = nifti.read_space(image.path, options.assume_las)
            mm = [position.to_mm(shape, affine, options.plane) for position in positions]
        except DataError as error:
            unreadable[image.name] = LeftOut(image.name, "image", error.brief, image.subject, image.session)
            continue
        grids = [
            fit_grid(shape, affine, options.plane, at, options.resolution, options.pixel_mm) for at in mm
        ]
        first, pixel_mm, wanted = first or grids, max(pixel_mm, grids[0].pixel_mm), wanted - 1
        if not wanted:
            break
    return pixel_mm or options.pixel_mm or 1.0, tuple(first) if common else (), unreadable


def _geometry(options: SliceOptions, pixel_mm: float, grids: tuple[PlaneGrid, ...]) -> Geometry:
    """The geometry of the study: one plane for all images, or pixel size alone."""
    if len(grids) == 1:
        return Geometry(options.plane, pixel_mm, "common", grids[0].position_mm, grids[0].centre_mm)
    return Geometry(options.plane, pixel_mm)


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

    geometry = json.loads((source / INFO).read_text(encoding="utf-8"))["geometry"]
    table = read_table(source / TABLE)
    images = np.load(source / IMAGES, mmap_mode="r")
    folder.mkdir(parents=True, exist_ok=True)
    for row, picture in enumerate(images):
        position, across, up = (float(table[name][row]) for name in KEPT[1:])
        grid = PlaneGrid(geometry["plane"], position, geometry["pixel_mm"], picture.shape[-1], (across, up))
        stem = re.sub(STEM, "", table["file"][row]).replace("/", "_")
        path = folder / f"{stem}_{table['slice'][row]}.nii.gz"
        write_atomically(path, nifti.to_bytes(to_image(picture[0], grid), path), DataError)
    return len(images)
