"""Synthetic people from Python: `Model.sample`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from importlib import import_module
from os import PathLike, fspath
from pathlib import Path
from typing import Any

import numpy as np

from mssg.api.arguments import argument_errors, check_name, native, shown, stated
from mssg.api.picture import Picture
from mssg.api.session import LoadedSnapshot
from mssg.errors import ArgumentError, DataError, MssgError
from mssg.study.model import Study
from mssg.synthetic.cohort import write_cohort
from mssg.synthetic.folder import own_columns
from mssg.synthetic.matching import MatchedTable, match_of, read_match
from mssg.synthetic.people import CohortRequest, People, Person


class Cohort(Sequence[Picture]):
    """Synthetic people: what `Model.sample` gives.

    Their covariates are drawn when they are asked for, and each picture when it is looked at: `for picture in
    cohort`, `cohort[3]`, `cohort[:10]`.
    """

    def __init__(self, session: LoadedSnapshot, wanted: CohortRequest) -> None:
        self._session, self._wanted = session, wanted
        with argument_errors():
            self._people = People(session.header, wanted)
            self._own = own_columns(session.header)

    @cached_property
    def table(self) -> dict[str, list[Any]]:
        """Column -> one value a person: participant_id, every covariate in native units (levels by name),
        support (percentile 0 to 100, or None) and seed."""
        people, conditions = list(self._each()), self._session.study.conditions
        support, seed = self._own
        return {
            "participant_id": [person.id for person in people],
            **{c.name: [shown(c, p.values[i]) for p in people] for i, c in enumerate(conditions)},
            support: [person.support for person in people],
            seed: [person.request.seed for person in people],
        }

    def to_dataframe(self) -> Any:
        """The table as a pandas DataFrame.

        Raises:
            MssgError: pandas is not installed.
        """
        try:
            pandas = import_module("pandas")
        except ImportError:
            hint = "pip install pandas, or use .table"
            raise MssgError("pandas is not installed", field="to_dataframe", hint=hint) from None
        return pandas.DataFrame(self.table)

    def save(self, folder: str | PathLike[str], volumes: bool = False) -> Path:
        """Write the cohort as `mssg cohort` does; an unfinished folder is continued.

        Args:
            folder: Where.
            volumes: Whole heads in place of slices, of a study whose slices lie at many places.

        Raises:
            ArgumentError: The folder holds something else, or cannot be written; or a study without volumes.
        """
        try:
            path = Path(folder)
        except TypeError:
            raise ArgumentError("not a path", field="folder", found=repr(folder)) from None
        with argument_errors(), self._session.renderer() as renderer:
            wanted = replace(self._wanted, volumes=bool(volumes))
            write_cohort(path, lambda: renderer, self._session.header, wanted)
        return path

    def _each(self) -> Iterator[Person]:
        with argument_errors(), self._session.at_work():
            for index in self._wanted.indices:
                yield self._people.person(index)

    def __len__(self) -> int:
        return self._wanted.n

    def __getitem__(self, place: Any) -> Any:
        if isinstance(place, slice):
            return [self[i] for i in range(*place.indices(len(self)))]
        index = self._wanted.indices[place]
        with argument_errors(), self._session.at_work():
            person = self._people.person(index)
        return self._session.pictures([person.request])[0]

    def __iter__(self) -> Iterator[Picture]:
        return (self[i] for i in range(len(self)))

    def __repr__(self) -> str:
        return f"<Cohort of {len(self)} synthetic people of {self._session.name!r}>"


def cohort_request(
    study: Study,
    n: Any,
    *,
    given: Any,
    uniform: Any,
    balance: Any,
    match: Any,
    within_support: Any,
    seed: Any,
    first: Any,
) -> CohortRequest:
    """The arguments of `Model.sample`, checked.

    Raises:
        ArgumentError: Naming the argument that cannot be.
    """
    table = None if match is None else _table(study, match)
    if n is None and table is None:
        raise ArgumentError("say how many people", field="n", expected="a whole number, or match=")
    first, seed = _plain(first), _plain(seed)
    if n is None and table is not None:
        n = len(table.values) - first if isinstance(first, int) else 1
        n = max(n, 1)
    names = [balance] if isinstance(balance, str) else balance
    if not isinstance(names, Sequence):
        raise ArgumentError("not names", field="balance", found=repr(balance), expected="names of covariates")
    for name in names:
        check_name(study, name)
    for field, mapping in (("given", given), ("uniform", uniform)):
        if not isinstance(mapping, Mapping | None):
            expected, found = "a mapping from covariate names", repr(mapping)
            raise ArgumentError("not a mapping", field=field, found=found, expected=expected)
    fixed = stated(study, given, {})
    return CohortRequest(
        n=_plain(n),
        first=first,
        seed=seed,
        given=tuple((name, native(study.covariate(name), value)) for name, value in fixed.items()),
        uniform=tuple(_span(study, name, pair) for name, pair in stated(study, uniform, {}).items()),
        balance=tuple(names),
        match=table,
        within_support=_plain(within_support),
    )


def _plain(value: Any) -> Any:
    """A number of NumPy's as Python's own."""
    return value.item() if isinstance(value, np.generic) else value


def _span(study: Study, name: str, pair: Any) -> tuple[str, float, float]:
    if not isinstance(pair, Sequence | np.ndarray) or isinstance(pair, str) or len(pair) != 2:
        raise ArgumentError("not a range", field=name, found=repr(pair), expected="(low, high)")
    low, high = (native(study.covariate(name), value) for value in pair)
    return name, low, high


def _table(study: Study, match: Any) -> MatchedTable:
    with argument_errors(DataError):
        if isinstance(match, str | PathLike):
            return read_match(Path(fspath(match)), study)
        if hasattr(match, "notna") and hasattr(match, "columns"):  # a DataFrame
            match = {name: match[name].astype(object).where(match[name].notna(), None) for name in match}
        if not isinstance(match, Mapping):
            expected = "a .csv or .tsv, a mapping from covariate names to columns, or a DataFrame"
            raise ArgumentError("not a table", field="match", found=type(match).__name__, expected=expected)
        return match_of(match, study)
