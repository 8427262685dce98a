"""A table of real people as the covariates of synthetic ones."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mssg.data.cohort import LeftOut
from mssg.data.delimited import header_of, rows_of
from mssg.errors import UsageError
from mssg.study.covariate import RESERVED
from mssg.study.model import Study
from mssg.study.values import find_covariate

KEYS = ("participant_id", "session_id", "support", "seed", *RESERVED)
"""Columns that tables have beside covariates: who it is, and where the picture is. They are passed over."""


@dataclass(frozen=True, eq=False)
class MatchedTable:
    """Covariates of people.

    Attributes:
        values: float64 [N, number of names], native units, NaN where missing.
        file: Where they were read; "" for a table in memory.
    """

    names: tuple[str, ...]
    values: NDArray[np.float64]
    file: str = ""

    @property
    def digest(self) -> str:
        """SHA-256 of the content, hexadecimal."""
        sha = hashlib.sha256(repr((self.names, self.values.shape)).encode())
        sha.update(np.ascontiguousarray(self.values).tobytes())
        return sha.hexdigest()


def read_match(path: Path, study: Study) -> MatchedTable:
    """The covariates of a .csv or .tsv, one row a person.

    Raises:
        DataError: Not there, or no table.
        UsageError: A column that is no covariate, a value that a covariate cannot take, or no row.
    """
    names = _covariates(header_of(path), study, path)
    problems: list[LeftOut] = []
    rows = [
        [_cell(study, name, cells[name], path, place=f"line {line}") for name in names]
        for line, cells in rows_of(path, problems, set(names))
    ]
    if problems:
        raise UsageError(problems[0].reason, file=path, field=problems[0].file)
    return _table(names, rows, str(path))


def match_of(columns: Mapping[str, Sequence[Any]], study: Study) -> MatchedTable:
    """The covariates of columns in memory.

    Raises:
        UsageError: As `read_match`, or columns of different lengths.
    """
    names = _covariates([str(name) for name in columns], study, None)
    for name in names:
        if isinstance(columns[name], str) or not hasattr(columns[name], "__iter__"):
            found, expected = repr(columns[name])[:80], "a list of values"
            raise UsageError("not a column", field=f"match, {name}", found=found, expected=expected)
    lists = [list(columns[name]) for name in names]
    lengths = {len(column) for column in lists}
    if len(lengths) > 1:
        raise UsageError("columns of different lengths", field="match", found=sorted(lengths))
    rows = [
        [_cell(study, name, value, None, place=f"row {number}") for name, value in zip(names, row)]
        for number, row in enumerate(zip(*lists))
    ]
    return _table(names, rows, "")


def _covariates(header: Iterable[str], study: Study, path: Path | None) -> tuple[str, ...]:
    """The columns that are covariates; a name that nobody knows is a mistake."""
    names = []
    for name in header:
        if name in study.condition_names:
            names.append(name)
        elif name and name not in KEYS:
            try:
                find_covariate(study, name)
            except UsageError as error:
                raise UsageError(
                    "a column that is no covariate of this model",
                    file=path,
                    field=name,
                    expected=error.expected,
                    hint=error.hint or "Rename or remove the column",
                ) from None
    if not names:
        expected = ", ".join(study.condition_names)
        raise UsageError(
            "no column is a covariate of this model", file=path, field="match", expected=expected
        )
    return tuple(names)


def _cell(study: Study, name: str, value: Any, path: Path | None, place: str) -> float:
    try:
        return math.nan if value is None else study.covariate(name).parse(value)
    except UsageError as error:
        raise UsageError(
            error.message, file=path, field=f"{place}, {name}", found=error.found, expected=error.expected
        ) from None


def _table(names: tuple[str, ...], rows: list[list[float]], file: str) -> MatchedTable:
    if not rows:
        raise UsageError("no rows", file=file or None, field="match", expected="one row a person")
    return MatchedTable(names, np.array(rows, np.float64), file)
