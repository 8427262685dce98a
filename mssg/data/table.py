"""The table of a prepared source: one row an image, text in the file, native values in memory."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mssg.data.split import SPLITS
from mssg.errors import DataError, UsageError
from mssg.files import csv_text, write_atomically
from mssg.study.cells import is_missing, parse_number
from mssg.study.model import Study

KEYS = ("subject", "session", "split")
"""Columns of every table; all others are covariates or other truth in native units."""


def read_table(path: Path) -> dict[str, list[str]]:
    """Read a CSV table as text, column by column.

    Raises:
        DataError: Missing, not UTF-8, no or repeated column names, or a row with another number of cells.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            lines = list(csv.reader(file))
    except FileNotFoundError:
        raise DataError(
            "no such file", file=path, hint="Prepare this source again with mssg prepare"
        ) from None
    except (UnicodeDecodeError, csv.Error, OSError) as error:
        raise DataError(f"cannot be read as CSV: {error}", file=path, expected="UTF-8, commas") from None
    if not lines:
        raise DataError("is empty", file=path, expected="a line of column names and one row an image")
    header, rows = lines[0], lines[1:]
    for name in header:
        if not name.strip() or header.count(name) > 1:
            raise DataError("empty or repeated column name", file=path, field="line 1", found=repr(name))
    for number, row in enumerate(rows, 2):
        if len(row) != len(header):
            raise DataError(
                "wrong number of cells",
                file=path,
                field=f"line {number}",
                found=len(row),
                expected=len(header),
            )
    return {name: [row[i].strip() for row in rows] for i, name in enumerate(header)}


def check_keys(path: Path, columns: Mapping[str, list[str]], rows: int) -> None:
    """Check the columns every table has, its length, and that no subject is in two splits.

    Args:
        path: The table's file, for messages.
        columns: Column name -> cells.
        rows: Number of images.

    Raises:
        DataError: Naming line and column.
    """
    for name in ("subject", "split"):
        if name not in columns:
            raise DataError("column is missing", file=path, field=name, found=", ".join(columns))
    if len(columns["subject"]) != rows:
        raise DataError(
            "rows differ from the number of images in images.npy",
            file=path,
            found=f"{len(columns['subject'])} rows",
            expected=f"{rows} (one an image)",
        )
    if not rows:
        raise DataError("no rows", file=path, expected="at least one image")
    home: dict[str, str] = {}
    for line, (subject, split) in enumerate(zip(columns["subject"], columns["split"]), 2):
        if split not in SPLITS:
            raise DataError(
                "unknown split",
                file=path,
                field=f"line {line}, split",
                found=repr(split),
                expected=" | ".join(SPLITS),
            )
        if not subject:
            raise DataError("empty subject", file=path, field=f"line {line}, subject")
        if home.setdefault(subject, split) != split:
            raise DataError(
                f"subject {subject!r} is in two splits",
                file=path,
                field=f"line {line}, split",
                found=split,
                expected=home[subject],
                hint="All images of one subject belong to one split",
            )


def read_covariate(
    path: Path, columns: Mapping[str, list[str]], study: Study, name: str
) -> NDArray[np.float64]:
    """One observed column in native values, float64 [N]; an empty cell is NaN.

    Raises:
        DataError: No such column, or a cell that the covariate cannot be.
    """
    if name not in columns:
        raise DataError(
            "observed covariate has no column",
            file=path,
            field=name,
            found=", ".join(c for c in columns if c not in KEYS) or "no covariate",
            expected=f"a column {name!r}",
            hint="Correct observes in the study TOML, or prepare the source again",
        )
    covariate, cache = study.covariate(name), dict[str, float]()
    values = np.empty(len(columns[name]))
    for row, text in enumerate(columns[name]):
        if text not in cache:
            try:
                cache[text] = covariate.parse(text)
            except UsageError as error:
                raise DataError(
                    error.message,
                    file=path,
                    field=f"line {row + 2}, {name}",
                    found=error.found,
                    expected=error.expected,
                    hint="Correct the cell, or leave it empty where the value is missing",
                ) from None
        values[row] = cache[text]
    return values


def check_some_value(path: Path, values: NDArray[np.float64], observes: Sequence[str]) -> None:
    """Refuse a source of which nothing at all is known.

    Raises:
        DataError: Every value [N, V] is NaN.
    """
    if not np.isfinite(values).any():
        raise DataError(
            "every value of every observed covariate is missing",
            file=path,
            field=", ".join(observes),
            hint="Fill the columns, or name other covariates in observes",
        )


def as_numbers(column: list[str]) -> np.ndarray:
    """A column as float64 where every filled cell is a number (empty: NaN), else as text."""
    try:
        numbers = [math.nan if is_missing(text) else parse_number(text) for text in column]
    except ValueError:
        return np.array(column)
    return np.array(numbers) if any(column) else np.array(column)


def write_table(path: Path, columns: Mapping[str, Sequence[Any] | np.ndarray]) -> None:
    """Write columns of one length as CSV; NaN, None and "" become empty cells, numbers keep seven digits."""

    def cell(value: Any) -> str:
        if value is None or (isinstance(value, float | np.floating) and math.isnan(value)):
            return ""
        if isinstance(value, float | np.floating):
            return f"{value:.7g}"
        return str(value)

    rows = (map(cell, row) for row in zip(*columns.values()))
    write_atomically(path, csv_text(tuple(columns), rows), DataError)
