"""Brain MRI: slices of T1 volumes from a BIDS data set, a table of paths, or a cohort's folder with its tables."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mssg import assets
from mssg.data import intake, nifti
from mssg.data.cohort import Cohort, Found, Reading, Skip, fill, load_cohort, pattern
from mssg.data.cohort_files import find, from_rows, outside
from mssg.data.cohort_tables import Item, header_of, join, parse_reading, rows_of
from mssg.data.nifti import AXES, PlaneGrid, Position
from mssg.errors import DataError, UsageError
from mssg.study import Covariate, Geometry

INTENSITIES = ("robust", "minmax")
TABLES = (".csv", ".tsv")
RESOLUTIONS = (32, 64, 128, 256, 512)
KEPT = ("slice", "position_mm", "across_mm", "up_mm")
"""Columns that say where a picture lies: what was asked for, and its plane and centre in millimetres."""


@dataclass(frozen=True)
class Options:
    """How volumes become pictures.

    Attributes:
        plane: coronal, axial or sagittal.
        at: Positions, one picture each.
        resolution: Pixels a side.
        pixel_mm: Edge of a pixel; None: the first volume's voxels, or larger where its head would not fit.
        intensity: "robust" or "minmax" grey levels, within each picture.
        mask, bias_field, labels: Templates of further files, relative to the folder: {subject}, {session}, {folder}, {stem} and
            every column of a table of paths; * is allowed. Brain mask, field to divide by, label map.
        label_scheme: Whose labels: a TOML, or a shipped name.
        nan_as_zero: Take voxels that are not finite as 0.
        common_space: All volumes lie in one space (MNI): one position and one centre for all. None: as the cohort says.
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


@dataclass(frozen=True)
class SliceMaker:
    """Cuts one volume; see `intake.Maker`."""

    root: Path
    options: Options
    positions: tuple[Position, ...]
    pixel_mm: float
    grids: tuple[PlaneGrid, ...]
    structures: Mapping[str, NDArray[np.int64]] = field(default_factory=dict)

    def __call__(self, item: Item) -> tuple[NDArray[np.uint8], list[intake.Row | str]]:
        """Pictures uint8 [S, 1, R, R], and where each lies."""
        o, image = self.options, item.image
        volume = nifti.read_volume(image.path, o.nan_as_zero)
        mask = self._further(image, o.mask, "mask")
        bias = self._further(image, o.bias_field, "bias field")
        values = self._volumes(image)
        shape, affine = nifti.read_space(image.path)
        pictures = np.zeros((len(self.positions), 1, o.resolution, o.resolution), np.uint8)
        rows: list[intake.Row | str] = []
        for number, position in enumerate(self.positions):
            try:
                grid = self.grids[number] if self.grids else self._grid(position, shape, affine)
                picture, inside = nifti.cut(volume, grid)
                if bias is not None:
                    divisor, known = nifti.cut(bias, grid)
                    picture = np.divide(picture, divisor, out=np.zeros_like(picture), where=known & (divisor > 1e-6))  # fmt: skip
                if mask is not None:
                    inside &= nifti.cut(mask, grid, nearest=True)[0] > 0
                pictures[number, 0] = nifti.to_levels(picture, inside, o.intensity)
            except DataError as error:
                rows.append(error.message)
                continue
            where = (str(position), grid.position_mm, *grid.centre_mm)
            rows.append({**dict(zip(KEPT, where)), "values": values})
        return pictures, rows

    def _grid(self, position: Position, shape: tuple[int, ...], affine: NDArray[np.float64]) -> PlaneGrid:
        mm = position.to_mm(shape, affine, self.options.plane)
        return nifti.fit_grid(shape, affine, self.options.plane, mm, self.options.resolution, self.pixel_mm)

    def _further(self, image: Found, template: str, what: str) -> nifti.Volume | None:
        path = related(self.root, image, template, what)
        return nifti.read_volume(path) if path else None

    def _volumes(self, image: Found) -> dict[str, float]:
        path = related(self.root, image, self.options.labels, "label map")
        return nifti.volumes_of(nifti.read_labels(path), self.structures) if path else {}


def related(root: Path, image: Found, template: str, what: str) -> Path | None:
    """A further file of an image: mask, bias field or label map; None where none is asked for.

    Raises:
        DataError: It is not there, there are several, or it lies outside the folder.
    """
    if not template:
        return None
    folder, _, file = image.name.rpartition("/")
    stem = re.sub(r"\.(nii|nii\.gz|mgz|mgh)$", "", file)
    text = fill(template, {**image.facts, "folder": folder or ".", "stem": stem})
    if not text:
        raise DataError(f"no {what}", found=f"nothing for {template}")
    if any(mark in text for mark in "*?"):
        fits = pattern(text.removeprefix("./"))
        start = root / re.split(r"[*?]", text)[0].rpartition("/")[0]
        hits = [p for p in sorted(start.rglob("*")) if fits.fullmatch(p.relative_to(root).as_posix())]
        if len(hits) != 1:
            raise DataError(f"no {what}" if not hits else f"several files could be the {what}", found=len(hits), expected=text)  # fmt: skip
        path = hits[0]
    else:
        path = root / text
    problem = outside(path, root.resolve())
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
        table = tomllib.loads(path.read_text(encoding="utf-8"))["structures"]
        out = {}
        for name, entries in table.items():
            ids: list[int] = []
            for entry in entries:
                first, _, last = str(entry).partition("-")
                ids += range(int(first), int(last or first) + 1)
            out[name] = np.array(sorted(set(ids)))
        return out
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"cannot be read as a label scheme: {error}", file=path, expected="[structures] with name = [1, \"10-13\"]") from None  # fmt: skip


def prepare(
    path: str | Path,
    out_dir: str | Path,
    options: Options | None = None,
    cohort: str | Path | None = None,
    variant: str | None = None,
    tables: Sequence[str | Path] = (),
    covariates: Sequence[str] = (),
    root: str | Path | None = None,
    name: str | None = None,
    prefix: str = "",
    divide: Sequence[str] = (),
    reject: str | Path | None = None,
    seed: int = 0,
    test: float = 0.15,
    val: float = 0.1,
    workers: int = 1,
    save_slices: bool = False,
    progress: Callable[[int], Callable[[int], None] | None] | None = None,
) -> intake.Summary:
    """Prepare one cohort as a source (with `divide`, several of one population), a report, and a study to start from.

    Args:
        path: A folder (BIDS, or a cohort's), or a .csv or .tsv with a path a row.
        out_dir: Folder to write.
        options: How volumes become pictures.
        cohort: Cohort map: a TOML, or a shipped name. None: "bids" for a folder, "csv" for a table.
        variant: One of the map's variants; None: its first.
        tables: Tables of covariates; none: those the map finds in the folder.
        covariates: More of them (`parse_reading`); one of the map's of the same name is replaced.
        root: Folder that a table's paths start at, and that no file may lie outside of; None: the table's own.
        name: The source's name; None: the map's.
        prefix: Put before every subject: ids of different cohorts are different people.
        divide: Names of parts; the population is divided among them by subject.
        reject: Table with a column `file`: what a person has rejected, qc.csv edited.
        seed, test, val: The split by subject.
        workers: Processes.
        save_slices: Also write every picture as NIfTI.
        progress: Called with the number of files; gives the function to tell how many more are done.

    Raises:
        UsageError, DataError: What cannot be, or no image is left.
    """
    options = options or Options()
    path, out = Path(path), Path(out_dir)
    chart = _chart(path, cohort, covariates, options)
    variant = chart.variant(variant)
    positions = _checked(options)
    found, skips, home = _images(path, root, chart, variant)
    found = [replace(image, subject=prefix + image.subject) for image in found]
    structures = structures_of(options.label_scheme) if options.labels else {}
    items, more, readings = join(found, list(map(Path, tables)), home, chart, alone=not structures)
    readings = [r for r in readings if r.covariate.name not in structures]
    readings += [Reading(Covariate(s, "continuous", unit="ml"), s) for s in structures]
    if not readings:
        columns = ", ".join(sorted(found[0].facts)) if found and chart.column else None
        raise UsageError("no covariate", field="--covariate", found=columns, expected="for example --covariate age=continuous:years")  # fmt: skip
    common = options.common_space
    if common is None:
        common = "common" in _affines(chart, variant)
    pixel_mm, grids, unreadable = _grids(items, options, positions, common)
    items = [item for item in items if item.image.name not in unreadable]
    skips = [*skips, *more, *unreadable.values()]
    geometry = _geometry(options, pixel_mm, grids)
    qc = chart.qc if options.intensity == "minmax" else {}
    source = name or chart.name
    plan = intake.Plan(
        out,
        source,
        len(positions),
        (1, options.resolution, options.resolution),
        {"recipe": "mri", **vars(options), "pixel_mm": pixel_mm, "grids": [vars(g) for g in grids]},
        {
            "recipe": "mri",
            "cohort": chart.name,
            "variant": variant or None,
            "options": {k: v for k, v in vars(options).items() if v not in ("", None)},
            "geometry": {k: v for k, v in vars(geometry).items() if v is not None},
        },
        seed,
        test,
        val,
        tuple(divide),
        qc,
        Path(reject) if reject else None,
        geometry,
    )
    maker = SliceMaker(home, options, positions, pixel_mm, grids, structures)
    tell = progress(len(items)) if progress else None
    summary = intake.prepare(plan, items, skips, readings, maker, workers, tell)
    if save_slices:
        write_slices(out / source, out / f"{source}-slices")
    return summary


def _chart(path: Path, cohort: str | Path | None, covariates: Sequence[str], options: Options) -> Cohort:
    chart = load_cohort(cohort or ("csv" if path.suffix.lower() in TABLES else "bids"))
    if chart.kind != "mri":
        raise UsageError(f"cohort {chart.name} is no MRI", field="--cohort", hint=f"mssg prepare {chart.kind}")  # fmt: skip
    more = [parse_reading(text) for text in covariates]
    names = [reading.covariate.name for reading in more]
    kept = [reading for reading in chart.readings if reading.covariate.name not in names]
    return replace(chart, readings=(*kept, *more))


def _checked(options: Options) -> tuple[Position, ...]:
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


def _images(
    path: Path, root: str | Path | None, chart: Cohort, variant: str
) -> tuple[list[Found], list[Skip], Path]:
    """The cohort's images, what was left out, and the folder they lie in."""
    if not chart.column:
        home = Path(root or path)
        return *find(home, chart, variant, nifti.SUFFIXES), home
    if path.suffix.lower() not in TABLES:
        raise UsageError(f"cohort {chart.name} names its images in a table", file=path, expected="a .csv or .tsv file")  # fmt: skip
    home = Path(root or path.parent)
    if not home.is_dir():
        raise DataError("no such folder", file=home, field="--root")
    header = header_of(path)
    for column in (chart.column, *re.findall(r"\{([^{}]+)\}", chart.subject)):
        if column not in header:
            raise DataError("column is missing", file=path, field=column, found=", ".join(header[:12]))
    problems: list[Skip] = []
    found, skips = from_rows(rows_of(path, problems), path, home, chart, variant)
    return found, [*problems, *skips], home


def _affines(chart: Cohort, variant: str) -> tuple[str, ...]:
    from mssg.data.cohort import chosen

    return chosen(chart.affine, {"variant": variant})


def _grids(
    items: Sequence[Item], options: Options, positions: tuple[Position, ...], common: bool
) -> tuple[float, tuple[PlaneGrid, ...], dict[str, Skip]]:
    """Pixel size, and in a common space the grids of all volumes, from the first volume that can be read.

    Volumes before it are left out at once: they would fail later for the same reason.
    """
    unreadable: dict[str, Skip] = {}
    for item in items:
        image = item.image
        try:
            shape, affine = nifti.read_space(image.path)
            mm = [position.to_mm(shape, affine, options.plane) for position in positions]
        except DataError as error:
            unreadable[image.name] = Skip(image.name, "image", error.message, image.subject, image.session)
            continue
        grids = [
            nifti.fit_grid(shape, affine, options.plane, at, options.resolution, options.pixel_mm)
            for at in mm
        ]
        return grids[0].pixel_mm, tuple(grids) if common else (), unreadable
    return options.pixel_mm or 1.0, (), unreadable


def _geometry(options: Options, pixel_mm: float, grids: tuple[PlaneGrid, ...]) -> Geometry:
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
        stem = re.sub(r"\.(nii|nii\.gz|mgz|mgh)$", "", table["file"][row]).replace("/", "_")
        nifti.to_image(picture[0], grid).to_filename(folder / f"{stem}_{table['slice'][row]}.nii.gz")
    return len(images)
