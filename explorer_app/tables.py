"""Tables of the window as CSV, and lists of conditions from one. No imgui, no torch."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from explorer_app.comparison import Part
from explorer_app.evaluation import StrataTable
from explorer_app.messages import Frame
from explorer_app.overlay import read
from explorer_app.request_edits import at_place, with_values
from explorer_app.state import Mark
from mssg.data.table import read_table
from mssg.errors import DataError, UsageError
from mssg.files import write_atomically
from mssg.measure.own_error import OwnError
from mssg.rendering.request import RenderRequest
from mssg.study.covariate import Covariate
from mssg.study.model import Study
from mssg.study.values import number, plain

Table = tuple[tuple[str, ...], ...]
"""Rows of cells, the first of them the columns' names."""
NAME, SEED = "name", "seed"
"""Columns of a list of conditions beside its covariates; both may be left out."""
LIST_LIMIT = 500


def save(path: str | Path, table: Table) -> None:
    """Write a table.

    Raises:
        DataError: It cannot be written.
    """
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(table)
    write_atomically(Path(path), text.getvalue().encode(), DataError)


def of_measured(
    study: Study,
    request: RenderRequest,
    measured: Mapping[str, Mapping[str, float]],
    own: Mapping[str, Mapping[str, OwnError]],
) -> Table:
    """What instruments read on a picture: a row for each covariate and instrument.

    Args:
        measured: Instrument -> covariate -> native value.
        own: The instruments' own errors by covariate, where they are known.
    """
    asked = dict(request.covariates)
    rows = [("covariate", "unit", "instrument", "asked", "read", "error", "own_error", "seed")]
    for instrument, values in measured.items():
        for c in study.conditions:
            if c.name in values and c.name in asked:
                error = _cell(values[c.name] - asked[c.name]) if c.is_continuous else ""
                read_ = plain(c, values[c.name]) if math.isfinite(values[c.name]) else ""
                cells = (c.name, c.unit, instrument, plain(c, asked[c.name]), read_, error)
                known = own.get(instrument, {}).get(c.name)
                rows.append((*cells, _cell(known.mae if known else math.nan), str(request.seed)))
    return tuple(rows)


def of_strata(table: StrataTable) -> Table:
    """Strata with their values: edges of each covariate, counts, interval and value between real images."""
    names = list(dict.fromkeys(name for cell in table.cells for name, _ in cell.stratum))
    edges = [f"{name}_{end}" for name in names for end in ("from", "to")]
    rows: list[tuple[str, ...]] = [
        ("metric", "unit", *edges, "value", "images", "real_images", "ci95_low", "ci95_high", "real_floor")
    ]
    for cell in table.cells:
        ends = [_cell(end) for name in names for end in (cell.edges(name) or (math.nan, math.nan))]
        counts = str(cell.count), "" if cell.real is None else str(cell.real)
        interval = [_cell(end) for end in cell.interval or (math.nan, math.nan)]
        floor = math.nan if cell.floor is None else cell.floor
        rows.append((table.metric, table.unit, *ends, _cell(cell.value), *counts, *interval, _cell(floor)))
    return tuple(rows)


def of_response(
    covariate: Covariate, instrument: str, read: Sequence[tuple[RenderRequest, float | None]]
) -> Table:
    """What an instrument reads on pictures against what was asked: a row for each picture that was read."""
    rows = [("covariate", "unit", "instrument", "asked", "seed", "read")]
    for request, value in read:
        if value is not None:
            asked, seed = dict(request.covariates)[covariate.name], str(request.seed)
            rows.append(
                (covariate.name, covariate.unit, instrument, plain(covariate, asked), seed, _cell(value))
            )
    return tuple(rows)


def of_marks(marks: Sequence[Mark], parts: Sequence[Part]) -> Table:
    """What marks read on what is looked at."""
    rows = [("mark", "kind", "picture", "length", "mean", "sd", "pixels", "area", "unit")]
    for i, mark in enumerate(marks, 1):
        for part in parts:
            r = read(mark, part)
            numbers = (_cell(r.length), _cell(r.mean), _cell(r.sd), str(r.pixels or ""), _cell(r.area))
            rows.append((str(i), mark.kind, part.label, *numbers, r.unit))
    return tuple(rows)


def _cell(value: float) -> str:
    """A number without loss; nothing for what is none."""
    return number(value) if math.isfinite(value) else ""


def read_conditions(
    path: str | Path, study: Study, base: RenderRequest
) -> tuple[tuple[str, RenderRequest], ...]:
    """A list of conditions: the name and the picture of every row.

    Args:
        path: CSV: a column for each covariate that is stated, in native units or by the level's name; `seed`
        and
            `name` may be there.
        base: Everything that the list does not state.

    Raises:
        DataError: The file cannot be read, or a cell makes no sense.
    """
    path = Path(path)
    columns = read_table(path)
    if unknown := [name for name in columns if name not in (NAME, SEED, *study.condition_names)]:
        expected = ", ".join((*study.condition_names, SEED, NAME))
        raise DataError(
            "no such covariate in this study", file=path, field="line 1", found=unknown[0], expected=expected
        )
    count = len(next(iter(columns.values())))
    if not 0 < count <= LIST_LIMIT:
        raise DataError(
            "not a list of conditions", file=path, found=f"{count} rows", expected=f"1 to {LIST_LIMIT}"
        )
    out = []
    for i in range(count):
        row = {name: cells[i] for name, cells in columns.items()}
        try:
            values = {n: study.covariate(n).parse(word) for n, word in row.items() if n not in (NAME, SEED)}
            lacking = [n for n, v in values.items() if not math.isfinite(v)]
            if lacking:
                raise UsageError("a value is missing", field=lacking[0])
            seed = int(row[SEED]) if row.get(SEED) else None
        except (UsageError, ValueError) as error:
            told = error.message if isinstance(error, UsageError) else "not a seed"
            field = getattr(error, "field", None) or SEED
            raise DataError(told, file=path, field=f"line {i + 2}, {field}", found=row.get(field)) from None
        request = with_values(base, **values)
        request = request if seed is None else at_place(replace(request, latent=None), seed)
        out.append((row.get(NAME) or str(i + 1), request))
    return tuple(out)


def of_pictures(study: Study, names: Sequence[str], files: Sequence[Path], frames: Sequence[Frame]) -> Table:
    """What was written for a list of conditions: file, covariates, and what instruments read."""
    read_by = list(dict.fromkeys((k, n) for f in frames for k, v in (f.measured or {}).items() for n in v))
    rows = [(NAME, "file", SEED, *study.condition_names, *(f"{k}:{n}" for k, n in read_by))]
    for name, file, frame in zip(names, files, frames):
        request = frame.request
        assert isinstance(request, RenderRequest)
        values = dict(request.covariates)
        stated = [plain(study.covariate(n), values[n]) for n in study.condition_names]
        readings = [_cell((frame.measured or {}).get(k, {}).get(n, math.nan)) for k, n in read_by]
        rows.append((name, file.name, str(request.seed), *stated, *readings))
    return tuple(rows)
