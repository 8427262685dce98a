"""From many files to prepared sources: all cores, constant memory, resumable, every file that is left out
with its reason.

A recipe gives a maker (file -> images); this module runs it over all files, checks quality, draws contact
sheets, and writes sources, reports and a study to start from.
"""

from __future__ import annotations

import math
import os
import shutil
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mssg import assets
from mssg.data import quality
from mssg.data.cohort import CovariateSpec, LeftOut
from mssg.data.cohort_values import ImageRecord
from mssg.data.dataset import INFO
from mssg.data.dataset_writer import check_target, write_packed
from mssg.data.draft import write_draft
from mssg.data.image_jobs import ImageDraft, ImageMaker, Progress, Row, make_images
from mssg.data.preparation_report import PreparedImage, Verdicts, most_frequent, read_verdicts, write_report
from mssg.data.split import SHARES, SPLITS, Shares, assign_sources, split_subjects, unit_hash
from mssg.errors import DataError, UsageError
from mssg.files import make_folder, parse_json
from mssg.runs.lock import locked
from mssg.study.covariate import Covariate
from mssg.study.model import Geometry, Photograph, Source, Study
from mssg.study.schema import covariate_of, to_toml


@dataclass(frozen=True)
class SourcePlan:
    """What is to be made, whatever the kind of file.

    Attributes:
        out: Folder for the source `name`, `name`-report and name.toml.
        per_item: Images of one file.
        shape: C, R, R.
        settings: Everything that changes a pixel; a draft made with other settings is not resumed.
        info: For source.json.
        divide: Names of sources among which one population is divided, by subject.
        qc: Thresholds of `quality.judge`.
        reject: File with a column `file`: what a person has rejected.
        geometry, photograph: Of the study that is drafted.
        balance: A covariate and the share of images in which it shall be above 0; the more frequent kind is
            thinned out.
        notes: What the recipe has decided and the user should know.
    """

    out: Path
    name: str
    per_item: int
    shape: tuple[int, int, int]
    settings: Mapping[str, Any]
    info: Mapping[str, Any]
    seed: int = 0
    shares: Shares = SHARES
    divide: tuple[str, ...] = ()
    qc: Mapping[str, Any] = field(default_factory=dict)
    reject: Path | None = None
    geometry: Geometry | None = None
    photograph: Photograph | None = None
    balance: tuple[str, float] | None = None
    notes: tuple[str, ...] = ()

    @property
    def report(self) -> Path:
        """Folder of the reports."""
        return self.out / f"{self.name}-report"

    @property
    def sources(self) -> tuple[str, ...]:
        """Names of the sources that are written: the divided ones, and the whole."""
        return (*(f"{self.name}-{part}" for part in self.divide), self.name)


@dataclass(frozen=True)
class PreparedSources:
    """What was prepared: images by source and split, files left out by stage, and where to read about
    them."""

    study: Path
    report: Path
    counts: dict[str, dict[str, int]]
    skipped: dict[str, int]
    covariates: tuple[str, ...]
    resumed: int
    notes: tuple[str, ...] = ()


def prepare(
    plan: SourcePlan,
    records: Sequence[ImageRecord],
    left_out: Sequence[LeftOut],
    specs: Sequence[CovariateSpec],
    maker: ImageMaker,
    workers: int = 1,
    progress: Progress | None = None,
) -> PreparedSources:
    """Make every image and write the sources, their reports and a study.

    Args:
        records: The files, with covariates.
        left_out: What was left out before; goes into the report.
        specs: How the covariates were read: they become the study's.
        progress: Called with the number of files done since the last call.

    Raises:
        DataError: No image is left, or a folder cannot be written. The report is written first.
        RunError: Another process prepares this source.
    """
    for name in plan.sources:
        check_target(plan.out / name)
        _check_origin(plan.out / name, plan.info)
    verdicts = read_verdicts(plan.reject, [record.image.name for record in records])
    make_folder(plan.report, DataError)
    draft = ImageDraft(plan.out / f".{plan.name}-draft", plan.per_item, plan.shape, plan.settings)
    with locked(plan.report, "another mssg prepare is writing this source"):
        store, outcomes, resumed = make_images(maker, records, draft, workers, progress)
        images, more = _judged(plan, records, store, outcomes, verdicts)
        lacking = Counter(name for image in images for name in image.lacking)
        left = [*left_out, *more]
        if plan.balance:
            left += _thin_out(images, *plan.balance, plan.seed)
        write_report(plan.report, store, images, left)
        kept = [image for image in images if not image.reason]
        if not kept:
            raise DataError(
                "no image is left",
                file=plan.report / "skipped.csv",
                found=f"{len(left)} left out: " + "; ".join(most_frequent(one.reason for one in left)),
                hint="Its reasons say why",
            )
        counts = _write(plan, store, kept, specs)
        shutil.rmtree(draft.folder)
        study, names = _study(plan, kept, specs)
    (plan.report / "lock").unlink(missing_ok=True)
    stages = Counter(one.stage for one in left)
    notes = [
        f"{n} pictures: no voxel of {name} in the label map: taken as missing" for name, n in lacking.items()
    ]
    doubts = Counter(str(image.measured["doubt"]) for image in images if image.measured.get("doubt"))
    notes += [f"{n} pictures are {doubt}: see the column doubt of qc.csv" for doubt, n in doubts.items()]
    return PreparedSources(study, plan.report, counts, dict(stages), names, resumed, (*plan.notes, *notes))


def _check_origin(folder: Path, info: Mapping[str, Any]) -> None:
    """Refuse to write over a source that was prepared from another data set.

    Raises:
        DataError: That is what lies here.
    """
    try:
        origin = parse_json((folder / INFO).read_text(encoding="utf-8")).get("origin")
    except (OSError, ValueError, AttributeError):
        return
    if origin and info.get("origin") and origin != info["origin"]:
        raise DataError(
            "holds a source that was prepared from another folder or table",
            file=folder,
            hint="Give this one another --name, or remove what is there",
        )


_NOT_COLUMNS = ("values", "lacking", "measured", "reason")
"""What a maker says of an image that its table does not hold."""


def _judged(
    plan: SourcePlan,
    records: Sequence[ImageRecord],
    store: NDArray[np.uint8],
    outcomes: Sequence[list[Row | str] | str],
    verdicts: Verdicts,
) -> tuple[list[PreparedImage], list[LeftOut]]:
    """Every image that was made, with why it is rejected, if it is; and what was left out."""
    images: list[PreparedImage] = []
    left: list[LeftOut] = []
    for index, (record, outcome) in enumerate(zip(records, outcomes)):
        file = record.image
        if isinstance(outcome, str):
            left.append(file.left_out("image", outcome))
            continue
        for number, row in enumerate(outcome):
            if isinstance(row, str):
                left.append(file.left_out("image", row))
                continue
            at = index * plan.per_item + number
            measured = quality.measure(store[at], plan.qc.get("border_columns", quality.BORDER_COLUMNS))
            measured |= row.get("measured", {})
            verdict = verdicts.of(file.name, str(row.get("slice", "")))
            own = row.get("reason", "") or quality.judge(measured, plan.qc)
            reason = own if verdict is None else verdict
            values = {**record.values, **row.get("values", {})}
            columns = {k: v for k, v in row.items() if k not in _NOT_COLUMNS}
            lacking = tuple(row.get("lacking", ()))
            images.append(PreparedImage(at, file, values, columns, measured, reason, lacking))
            if reason:
                left.append(file.left_out("quality", reason))
    return images, left


def _thin_out(images: Sequence[PreparedImage], name: str, share: float, seed: int) -> list[LeftOut]:
    """Reject at random (a hash of seed and file) as many of the more frequent kind as it takes to reach a
    share.

    Source: docs/method/method.md section 6 (EyePACS resampled to 45 % diseased).
    """
    kept = [image for image in images if not image.reason]
    if any(name not in image.values for image in kept):
        raise UsageError("no such covariate to balance", field="--balance", found=name)
    known = [image for image in kept if not math.isnan(image.values[name])]
    by_kind = [[image for image in known if (image.values[name] > 0) == kind] for kind in (False, True)]
    absent, present = map(len, by_kind)
    if not absent or not present:
        raise DataError(
            "cannot be balanced: all images are of one kind",
            field=name,
            found=f"{present} of {absent + present}",
        )
    wanted = (round(present * (1 - share) / share), round(absent * share / (1 - share)))
    left = []
    for group, number in zip(by_kind, wanted):
        for image in sorted(group, key=lambda i: unit_hash(seed, i.file.name, "balance"))[number:]:
            image.reason = f"thinned out so that {name} is above 0 in {share:.0%}"
            left.append(image.file.left_out("balance", image.reason))
    return left


def _write(
    plan: SourcePlan, store: NDArray[np.uint8], kept: Sequence[PreparedImage], specs: Sequence[CovariateSpec]
) -> dict[str, dict[str, int]]:
    """The sources: the whole population, and its divisions; images by source and split."""
    subjects = [image.file.subject for image in kept]
    split = split_subjects(subjects, plan.seed, plan.shares)
    home = assign_sources(subjects, [1.0] * len(plan.divide), plan.seed) if plan.divide else None
    covariates = {spec.covariate.name: spec.covariate for spec in specs}
    used = [c for name, c in covariates.items() if any(name in image.values for image in kept)]
    info = {**plan.info, "seed": plan.seed, "shares": asdict(plan.shares), "covariates": meaning(used)}
    counts = {}
    for number, name in enumerate(plan.sources):
        mine = [i for i in range(len(kept)) if home is None or name == plan.name or home[i] == number]
        if not mine:
            raise UsageError(
                "too few subjects to fill every source", field="--divide", found=len(set(subjects))
            )
        table = _table([kept[i] for i in mine], split[mine], covariates)
        divided = list(plan.sources[: len(plan.divide)]) if name == plan.name else []
        write_packed(plan.out / name, (store[kept[i].at] for i in mine), table, {**info, "divided": divided})
        counts[name] = {s: int(np.sum(split[mine] == s)) for s in SPLITS}
    return counts


def _table(
    images: Sequence[PreparedImage], split: NDArray[np.str_], covariates: Mapping[str, Covariate]
) -> dict[str, Any]:
    """The columns of a prepared source: keys, covariates, file, and what the recipe adds."""
    table: dict[str, Any] = {
        "subject": [image.file.subject for image in images],
        "session": [image.file.session for image in images],
        "split": split,
    }
    for name in dict.fromkeys(name for image in images for name in image.values):
        values = [image.values.get(name, math.nan) for image in images]
        table[name] = [cell(covariates.get(name), value) for value in values]
    table["file"] = [image.file.name for image in images]
    for column in dict.fromkeys(name for image in images for name in image.columns):
        table[column] = [image.columns.get(column, "") for image in images]
    return table


def meaning(covariates: Sequence[Covariate]) -> dict[str, Any]:
    """What source.json says of the columns: units, and the levels' names."""
    return {c.name: {"unit": c.unit} if c.is_continuous else {"levels": list(c.levels)} for c in covariates}


def cell(covariate: Covariate | None, value: float) -> str | float:
    """A native value as the table holds it: levels by name."""
    if covariate is None or math.isnan(value) or covariate.is_continuous:
        return value
    return covariate.levels[int(value)] if covariate.levels else str(int(value))


def _study(
    plan: SourcePlan, kept: Sequence[PreparedImage], specs: Sequence[CovariateSpec]
) -> tuple[Path, tuple[str, ...]]:
    """Write a study to start from: every covariate that has a value, every source observing all of them."""
    covariates = tuple(
        spec.covariate
        for spec in specs
        if any(not math.isnan(image.values.get(spec.covariate.name, math.nan)) for image in kept)
    )
    path, names = plan.out / f"{plan.name}.toml", tuple(c.name for c in covariates)
    if not covariates:
        return path, ()
    if plan.geometry and (position := plan.geometry.position):
        covariates = (*covariates, covariate_of(position, {"kind": "continuous"}, None, position))
    observes = tuple(c.name for c in covariates)
    sources = tuple(Source(name, name, observes) for name in plan.sources[: len(plan.divide) or 1])
    study = Study(
        plan.name, plan.shape[1], plan.shape[0], covariates, sources, plan.geometry, plan.photograph
    )
    return write_draft(path, to_toml(study)), names


def copy_study(name: str, out: Path) -> Path:
    """Copy a shipped example study beside the sources it points at.

    Raises:
        UsageError: No such study.
    """
    source = assets.path(f"studies/{name}.toml")
    out.mkdir(parents=True, exist_ok=True)
    return write_draft(out / f"study-{name}.toml", source.read_text(encoding="utf-8"))


def default_workers() -> int:
    """As many processes as this process may use cores."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not on macOS and Windows
        return os.cpu_count() or 1
