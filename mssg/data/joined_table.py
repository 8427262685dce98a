"""One table of a cohort: which rows are read, and what it says about an image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from mssg.data.bids import labelled
from mssg.data.cohort import CohortImage, LeftOut, TableSpec, fill, names_in, texts
from mssg.data.cohort_values import TableRecord
from mssg.data.delimited import rows_of
from mssg.study.cells import parse_number

_SHOWN_KEYS = 3
_ALWAYS = 0.0
"""The time of rows that hold at all times."""


@dataclass
class JoinedTable:
    """A table that is read: by which of the map's specs, what its name says, and what it holds.

    Attributes:
        spec: Whose rows they are, and which of them an image looks for.
        key: The one of the spec's keys that its columns have.
        facts: What its name says.
        columns: Its own column names -> the map's.
        bids: Whether its rows say whose they are as BIDS does.
        others: Keys by which the same file is read as well.
        records: Key -> time -> what it says, of the keys that images look for alone: memory does not grow
            with the table.
        keys: The first keys of all, for messages.
    """

    spec: TableSpec
    key: str
    path: Path
    facts: Mapping[str, str]
    columns: Mapping[str, str]
    bids: bool = False
    others: tuple[str, ...] = ()
    records: dict[str, dict[float, TableRecord]] = field(default_factory=dict)
    keys: list[str] = field(default_factory=list)

    def read(self, wanted: set[str], images: Sequence[CohortImage], problems: list[LeftOut]) -> None:
        """Read the rows that images look for.

        Args:
            wanted: The map's names of columns that somebody asks for.
            images: With what earlier tables say among their facts.
            problems: Lines that cannot be used are added here.
        """
        nearest = self.spec.nearest
        mine = wanted | set(names_in(self.key)) | ({nearest.column} if nearest else set())
        mine |= {name for key in self.others for name in names_in(key)}
        sought = {key for image in images for key in self._sought(image)}
        for line, own in rows_of(
            self.path, problems, {c for c, name in self.columns.items() if name in mine}
        ):
            row = {self.columns[column]: text for column, text in own.items()}
            place = f"{self.path.name}, line {line}"
            stated = fill(self.key, {**self.facts, **row})
            if stated is None:
                if not any(fill(key, {**self.facts, **row}) for key in self.others):
                    problems.append(LeftOut(place, "table", f"its key is empty: {self.key}"))
                continue
            if len(self.keys) < _SHOWN_KEYS and stated not in self.keys:
                self.keys.append(stated)
            key = fill(self.key, {**self.facts, **labelled(row)}) if self.bids else stated
            if not key or key not in sought:
                continue
            try:
                time = parse_number(row[nearest.column]) if nearest else _ALWAYS
            except ValueError:
                column = nearest.column if nearest else ""
                problems.append(LeftOut(place, "table", f"{column} is no number"))
                continue
            cells = {column: row[column] for column in wanted if column in row}
            record = self.records.setdefault(key, {}).setdefault(time, TableRecord())
            record.add(cells, f"{self.path.name} line {line}")

    def about(self, image: CohortImage) -> TableRecord | None:
        """What it says about an image; of several times the nearest."""
        found = next((self.records[key] for key in self._sought(image) if key in self.records), None)
        if found is None or not self.spec.nearest:
            return found[_ALWAYS] if found else None
        nearest, stated = self.spec.nearest, fill(self.spec.nearest.to, image.facts)
        try:
            at = parse_number(stated or "")
        except ValueError:
            return None
        time = min(found, key=lambda time: (abs(time - at), time))
        return found[time] if abs(time - at) <= nearest.within else None

    def informed(self, image: CohortImage, names: set[str]) -> CohortImage:
        """An image with what it says among its facts, as far as later tables ask for it and nothing said it
        before."""
        record = self.about(image) if names else None
        more = {n: record.cells[n] for n in names if n in record.cells} if record else {}
        return replace(image, facts={**more, **image.facts}) if more else image

    def missed(self, image: CohortImage) -> str:
        """For a message: which row an image looks for."""
        keys = f"which has {', '.join(self.keys)} …" if self.keys else "which has none"
        sought = " or ".join(self._sought(image))
        return f"for {sought} in {self.path.name}, {keys}" if sought else ""

    def _sought(self, image: CohortImage) -> list[str]:
        return [key for key in (fill(template, image.facts) for template in texts(self.spec.match)) if key]
