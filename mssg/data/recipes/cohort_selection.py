"""What preparing volumes and photographs have in common: which cohort map, which images, which covariates."""

from __future__ import annotations

import hashlib
import re
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from mssg.data import bids
from mssg.data.cohort import CohortImage, CohortMap, CovariateSpec, LeftOut, chosen, names_in, texts
from mssg.data.cohort_files import find, from_rows
from mssg.data.cohort_map import load_cohort
from mssg.data.cohort_tables import join
from mssg.data.cohort_values import ImageRecord
from mssg.data.covariate_options import TOP_CODED, parse_covariate, with_missing
from mssg.data.delimited import AS_CSV, SUFFIXES, header_of, rows_of
from mssg.data.only_some import only_some
from mssg.data.pipeline import SourcePlan
from mssg.data.split import SHARES, Shares
from mssg.data.units import ask_unit
from mssg.errors import DataError, UsageError, check_choice

DEFAULTS = {"mri": ("bids", "csv"), "fundus": ("", "fundus-csv")}
"""Kind -> the cohort map of a folder and of a table, where none is asked for."""
RUNS = ("first", "all", "mean")
"""What may become of several images of one session."""
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
        tables: Tables of covariates, which fill in or override those that the map finds in the folder.
        covariates: More of them (`parse_covariate`); one of the map's of the same name is replaced.
        missing: Codes that stand for no value (`parse_missing`).
        top_coded: What becomes of values such as 89+: "keep" takes them as 89, "drop" leaves the image out,
            as None does, which says that there is a choice.
        entities: What is asked of BIDS names, KEY=VALUE; they choose among several images of a visit.
        suffix: Of BIDS names; None: T1w.
        only: NAME=VALUE,VALUE of what files' names (or rows) say, side=left or session=0: others are left
            out. NAME=first takes those of each person's (and side's) first.
        readings: Of several readings of a covariate, the "first" or their "mean"; None: as the map says.
        runs: What becomes of several images of one session: the "first" is taken, "all" are, or their "mean"
            becomes one image. None: the first of BIDS's runs; all that a table or a cohort names.
        root: Another folder that may be read: what links lead to, and where a table's paths start; those that
            are not there start at the table's own folder.
        name: The source's name; None: the map's.
        prefix: Put before every subject: ids of different cohorts are different people.
        divide: Names of parts; the population is divided among them by subject.
        reject: Table with a column `file`: what a person has rejected, qc.csv edited.
        progress: Called with the number of files; gives the function to tell how many more are done.
    """

    path: Path
    out: Path
    cohort: str | Path | None = None
    variant: str | None = None
    tables: Sequence[str | Path] = ()
    covariates: Sequence[str] = ()
    missing: Sequence[str] = ()
    top_coded: str | None = None
    entities: Sequence[str] = ()
    suffix: str | None = None
    only: Sequence[str] = ()
    readings: str | None = None
    runs: str | None = None
    root: str | Path | None = None
    name: str | None = None
    prefix: str = ""
    divide: Sequence[str] = ()
    reject: str | Path | None = None
    seed: int = 0
    shares: Shares = SHARES
    workers: int = 1
    progress: Progress | None = None


@dataclass(frozen=True)
class CohortSelection:
    """A cohort's images with their covariates, and what was left out.

    Attributes:
        roots: Folders that may be read; templates of further files start at the first that has them.
        notes: What was decided and the user should know.
    """

    cohort: CohortMap
    variant: str
    records: list[ImageRecord]
    left_out: list[LeftOut]
    covariates: list[CovariateSpec]
    roots: tuple[Path, ...]
    notes: tuple[str, ...] = ()

    def plan(self, request: PrepareRequest, **rest: Any) -> SourcePlan:
        """What `pipeline.prepare` is to make of them; `rest` is what the kind adds."""
        origin = hashlib.sha256(str(request.path.resolve()).encode("utf-8", "backslashreplace")).hexdigest()
        info = {"cohort": self.cohort.name, "variant": self.variant or None, "origin": origin[:12]}
        info |= rest.pop("info")
        return SourcePlan(
            out=request.out,
            name=_source_name(request.name or self.cohort.name),
            info=info,
            seed=request.seed,
            shares=request.shares,
            divide=tuple(request.divide),
            reject=Path(request.reject) if request.reject else None,
            notes=(*self.notes, *rest.pop("notes", ())),
            **rest,
        )


def select_cohort(
    request: PrepareRequest, kind: str, suffixes: Sequence[str], measured: Sequence[CovariateSpec] = ()
) -> CohortSelection:
    """Find a cohort's images and join their covariates.

    Args:
        kind: mri or fundus.
        suffixes: What image files end in.
        measured: Covariates that are measured on each image, so that tables may know nothing of it.

    Raises:
        UsageError, DataError: What cannot be.
    """
    _source_name(request.name or "x")
    cohort = _cohort(request, kind, [spec.covariate.name for spec in measured])
    variant = cohort.variant(request.variant)
    images, left, roots = _images(request, cohort, variant, suffixes)
    notes: list[str] = []
    if cohort.bids:
        asked = bids.parse_entities(request.entities)
        runs = request.runs or RUNS[0]
        images, more = bids.select_images(images, request.suffix or bids.SUFFIX, asked, runs)
        left = [*left, *more]
        described, notes = bids.described(cohort.covariates, roots[0])
        cohort = replace(cohort, covariates=tuple(described))
    _check_levels(cohort.covariates)
    records, more, specs = join(images, [*map(Path, request.tables)], roots[0], cohort, alone=not measured)
    records, others = only_some(records, request.only)
    if request.prefix:
        records = [_prefixed(record, request.prefix) for record in records]
    for spec in specs:
        ask_unit(spec, np.array([record.values[spec.covariate.name] for record in records]))
    records, left, told = _runs(records, request.runs, kind, [*left, *more, *others], named=cohort.bids)
    notes = [*chosen(cohort.warnings, {"variant": variant}), *notes, *told]
    return CohortSelection(cohort, variant, records, left, [*specs, *measured], roots, tuple(notes))


def _prefixed(record: ImageRecord, prefix: str) -> ImageRecord:
    return replace(record, image=replace(record.image, subject=prefix + record.image.subject))


def _runs(
    records: list[ImageRecord], rule: str | None, kind: str, left: list[LeftOut], named: bool
) -> tuple[list[ImageRecord], list[LeftOut], tuple[str, ...]]:
    """One image a session, or all, as the rule says; what is left out beside what was before, and a note.

    Args:
        records: The images with their covariates, in order.
        rule: One of `RUNS`, or None.
        kind: mri or fundus.
        left: What was left out before.
        named: The rule was followed already, by what BIDS names say.
    """
    if named:
        several = sum(one.stage == bids.ONE_OF_SEVERAL for one in left)
        text = f"images of a visit left out because the first is taken: {several} (--runs all, mean)"
        return records, left, (text,) if several else ()
    sessions: dict[tuple[str, ...], list[ImageRecord]] = defaultdict(list)
    for record in records:
        image = record.image
        sessions[image.subject, image.session, image.facts.get("side", "")].append(record)
    several = sum(len(session) > 1 for session in sessions.values())
    if not several or kind != "mri" or rule == "all":
        return records, left, ()
    if rule is None:
        text = f"sessions with several images, all of which are taken: {several}; --runs first or mean"
        return records, left, (f"{text} makes one of them",)
    kept = []
    for first, *rest in sessions.values():
        runs = tuple(record.image for record in rest)
        kept.append(replace(first, image=replace(first.image, runs=runs)) if rule == "mean" else first)
        if rule == "first":
            reason = f"{first.image.name} is taken of this session; --runs chooses"
            left = [*left, *(image.left_out(bids.ONE_OF_SEVERAL, reason) for image in runs)]
    return kept, left, ()


def _source_name(name: str) -> str:
    """A source's name, which becomes that of a folder.

    Raises:
        UsageError: It would lie elsewhere, or could not be a folder's name.
    """
    if not re.fullmatch(r"[\w-][\w.+-]*", name):
        expected = "a name of letters, digits, -, _ and ."
        raise UsageError("cannot name a folder", field="--name", found=repr(name), expected=expected)
    return name


def _cohort(request: PrepareRequest, kind: str, measured: Sequence[str]) -> CohortMap:
    """The map, with what the request adds to it."""
    default = DEFAULTS[kind][request.path.suffix.lower() in SUFFIXES]
    if not (request.cohort or default):
        raise UsageError(
            "whose photographs are these?",
            field="--cohort",
            expected="a cohort map, or a table with a path a row",
        )
    cohort = load_cohort(request.cohort or default)
    if cohort.kind != kind:
        raise UsageError(
            f"cohort {cohort.name} is of another kind", field="--cohort", hint=f"mssg prepare {cohort.kind}"
        )
    if (request.entities or request.suffix) and not cohort.bids:
        option = "--entity" if request.entities else "--suffix"
        raise UsageError(
            "only names of BIDS files have entities", field=option, found=f"cohort {cohort.name}"
        )
    if request.top_coded is not None:
        check_choice(request.top_coded, TOP_CODED, "--top-coded")
    given = [_spelled(parse_covariate(text), cohort) for text in request.covariates]
    names = [spec.covariate.name for spec in given]
    for name in names:
        if names.count(name) > 1 or name in measured:
            why = "is given twice" if names.count(name) > 1 else "is measured on label maps as well"
            raise UsageError(f"a covariate of this name {why}", field="--covariate", found=name)
    kept = [s for s in cohort.covariates if s.covariate.name not in (*names, *measured)]
    specs = with_missing([*kept, *given], request.missing)
    specs = [
        replace(s, top_coded=request.top_coded or s.top_coded, readings=request.readings or s.readings)
        if s.covariate.is_continuous
        else s
        for s in specs
    ]
    return replace(cohort, covariates=tuple(specs))


def _spelled(spec: CovariateSpec, cohort: CohortMap) -> CovariateSpec:
    """A covariate of the command line, its column as the map calls it."""
    return replace(spec, column=cohort.spelled(str(spec.column)))


def _check_levels(specs: Sequence[CovariateSpec]) -> None:
    for spec in specs:
        if not spec.covariate.is_continuous and not spec.covariate.num_levels:
            raise UsageError(
                "its levels are not stated",
                field="--covariate",
                found=spec.covariate.name,
                expected=f"for example {spec.covariate.name}={spec.covariate.kind}:a,b,c",
            )


def _images(
    request: PrepareRequest, cohort: CohortMap, variant: str, suffixes: Sequence[str]
) -> tuple[list[CohortImage], list[LeftOut], tuple[Path, ...]]:
    """The cohort's images, what was left out, and the folders they may lie in."""
    path, further = request.path, tuple(map(Path, [request.root] if request.root else []))
    for root in further:
        if not root.is_dir():
            raise DataError("no such folder", file=root, field="--root")
    if path.is_file() and path.suffix.lower() not in SUFFIXES:
        expected = "a folder, " + " or ".join(SUFFIXES)
        raise DataError("not a table that can be read", file=path, expected=expected, hint=AS_CSV)
    if not cohort.column:
        return *find(path, cohort, variant, suffixes, allowed=further), (path, *further)
    if path.suffix.lower() not in SUFFIXES:
        raise UsageError(
            f"cohort {cohort.name} names its images in a table", file=path, expected="a .csv or .tsv file"
        )
    header = header_of(path)
    for column in (cohort.column, *(n for text in texts(cohort.subject) for n in names_in(text))):
        if column not in header:
            raise DataError("column is missing", file=path, field=column, found=", ".join(header[:12]))
    problems: list[LeftOut] = []
    roots = (*further, path.parent)
    images, left = from_rows(rows_of(path, problems), path, roots, cohort, variant)
    if not (images or left or problems):
        raise DataError("names no image", file=path, expected="a line of column names and one row an image")
    return images, [*problems, *left], roots
