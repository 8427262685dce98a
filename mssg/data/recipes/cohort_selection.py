"""What preparing volumes and photographs have in common: which cohort map, which images, which covariates."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mssg.data import pipeline
from mssg.data.cohort import Cohort, CohortImage, CovariateSpec, LeftOut, names_in
from mssg.data.cohort_files import find, from_rows
from mssg.data.cohort_map import load_cohort
from mssg.data.cohort_tables import join
from mssg.data.cohort_values import ImageRecord
from mssg.data.covariate_options import parse_reading
from mssg.data.delimited import header_of, rows_of
from mssg.errors import DataError, UsageError

TABLES = (".csv", ".tsv")
DEFAULTS = {"mri": ("bids", "csv"), "fundus": ("", "fundus-csv")}
"""Kind -> the cohort map of a folder and of a table, where none is asked for."""
Progress = Callable[[int], Callable[[int], None] | None]


@dataclass(frozen=True)
class PrepareRequest:
    """Where images and covariates come from and where sources go, whatever the kind.

    Attributes:
        path: A folder, or a .csv or .tsv with a path a row.
        out: Folder to write.
        cohort: Cohort map: a TOML, or a shipped name. None: BIDS for a folder of volumes, the table's own for
            a table.
        variant: One of the map's variants; None: its first.
        tables: Tables of covariates; none: those the map finds in the folder.
        covariates: More of them (`parse_reading`); one of the map's of the same name is replaced.
        root: Folder that a table's paths start at, and that no file may lie outside of; None: the table's
            own.
        name: The source's name; None: the map's.
        prefix: Put before every subject: ids of different cohorts are different people.
        divide: Names of parts; the population is divided among them by subject.
        reject: Table with a column `file`: what a person has rejected, qc.csv edited.
        seed, test, val: The split by subject.
        workers: Processes.
        progress: Called with the number of files; gives the function to tell how many more are done.
    """

    path: Path
    out: Path
    cohort: str | Path | None = None
    variant: str | None = None
    tables: Sequence[str | Path] = ()
    covariates: Sequence[str] = ()
    root: str | Path | None = None
    name: str | None = None
    prefix: str = ""
    divide: Sequence[str] = ()
    reject: str | Path | None = None
    seed: int = 0
    test: float = 0.15
    val: float = 0.1
    workers: int = 1
    progress: Progress | None = None


@dataclass(frozen=True)
class CohortSelection:
    """A cohort's images with their covariates, and what was left out."""

    chart: Cohort
    variant: str
    items: list[ImageRecord]
    skips: list[LeftOut]
    readings: list[CovariateSpec]
    home: Path

    def plan(self, request: PrepareRequest, **rest: Any) -> pipeline.SourcePlan:
        """What `pipeline.prepare` is to make of them; `rest` is what the kind adds."""
        info = {"cohort": self.chart.name, "variant": self.variant or None, **rest.pop("info")}
        return pipeline.SourcePlan(
            out=request.out,
            name=request.name or self.chart.name,
            info=info,
            seed=request.seed,
            test=request.test,
            val=request.val,
            divide=tuple(request.divide),
            reject=Path(request.reject) if request.reject else None,
            **rest,
        )


def select_cohort(
    request: PrepareRequest, kind: str, suffixes: Sequence[str], measured: Sequence[CovariateSpec] = ()
) -> CohortSelection:
    """Find a cohort's images and join their covariates.

    Args:
        request: What the user asked for.
        kind: mri or fundus.
        suffixes: What image files end in.
        measured: Covariates that are measured on each image, so that tables may know nothing of it.

    Raises:
        UsageError, DataError: What cannot be.
    """
    chart = _chart(request, kind)
    variant = chart.variant(request.variant)
    found, skips, home = _images(request, chart, variant, suffixes)
    found = [replace(image, subject=request.prefix + image.subject) for image in found]
    items, more, readings = join(found, list(map(Path, request.tables)), home, chart, alone=not measured)
    names = [reading.covariate.name for reading in measured]
    readings = [*(r for r in readings if r.covariate.name not in names), *measured]
    if not readings:
        columns = ", ".join(sorted(found[0].cells)) if found and chart.column else None
        raise UsageError(
            "no covariate",
            field="--covariate",
            found=columns,
            expected="for example --covariate age=continuous:years",
        )
    return CohortSelection(chart, variant, items, [*skips, *more], readings, home)


def _chart(request: PrepareRequest, kind: str) -> Cohort:
    default = DEFAULTS[kind][request.path.suffix.lower() in TABLES]
    if not (request.cohort or default):
        raise UsageError(
            "whose photographs are these?",
            field="--cohort",
            expected="a cohort map, or a table with a path a row",
        )
    chart = load_cohort(request.cohort or default)
    if chart.kind != kind:
        raise UsageError(
            f"cohort {chart.name} is of another kind", field="--cohort", hint=f"mssg prepare {chart.kind}"
        )
    more = [parse_reading(text) for text in request.covariates]
    names = [reading.covariate.name for reading in more]
    kept = [reading for reading in chart.readings if reading.covariate.name not in names]
    return replace(chart, readings=(*kept, *more))


def _images(
    request: PrepareRequest, chart: Cohort, variant: str, suffixes: Sequence[str]
) -> tuple[list[CohortImage], list[LeftOut], Path]:
    """The cohort's images, what was left out, and the folder they lie in."""
    path = request.path
    if not chart.column:
        home = Path(request.root or path)
        return *find(home, chart, variant, suffixes), home
    if path.suffix.lower() not in TABLES:
        raise UsageError(
            f"cohort {chart.name} names its images in a table", file=path, expected="a .csv or .tsv file"
        )
    home = Path(request.root or path.parent)
    if not home.is_dir():
        raise DataError("no such folder", file=home, field="--root")
    header = header_of(path)
    for column in (chart.column, *names_in(chart.subject)):
        if column not in header:
            raise DataError("column is missing", file=path, field=column, found=", ".join(header[:12]))
    problems: list[LeftOut] = []
    found, skips = from_rows(rows_of(path, problems), path, home, chart, variant)
    if not (found or skips or problems):
        raise DataError("names no image", file=path, expected="a line of column names and one row an image")
    return found, [*problems, *skips], home
