"""Tables of anybody as rows of text; what cannot be read of them is reported line by line."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path

from mssg.data.cohort import LeftOut
from mssg.errors import DataError


def rows_of(
    path: Path, problems: list[LeftOut] | None = None, columns: set[str] | None = None
) -> Iterator[tuple[int, dict[str, str]]]:
    """A table's rows, one at a time: line number and cells, stripped.

    Args:
        path: .csv (commas, semicolons or tabs) or .tsv.
        problems: Lines that cannot be read are added here and left out; None: only the header is looked at.
        columns: Only these; all by default. Tables of a cohort may be thousands of columns wide.

    Raises:
        DataError: Not there, not text, or no usable header.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            first = file.readline()
            file.seek(0)
            delimiter = "\t" if path.suffix.lower() == ".tsv" else max(",;\t", key=first.count)
            reader = csv.reader(file, delimiter=delimiter)
            header = [name.strip() for name in next(reader, [])]
            twice = (
                next((n for n in header if n and header.count(n) > 1), None) if len(header) < 1000 else None
            )
            if not any(header) or twice:
                raise DataError(
                    "no usable line of column names",
                    file=path,
                    field="line 1",
                    found=repr(twice or first[:80]),
                )
            cells = [(i, n) for i, n in enumerate(header) if columns is None or n in columns]
            if problems is None:
                yield 1, dict.fromkeys(header, "")
                return
            while True:
                try:
                    row = next(reader)
                except StopIteration:
                    return
                except csv.Error as error:
                    place = f"{path.name}, line {reader.line_num}"
                    problems.append(LeftOut(place, "table", f"cannot be read: {error}"))
                    continue
                if len(row) == len(header):
                    yield reader.line_num, {n: row[i].strip() for i, n in cells}
                elif any(row):
                    place = f"{path.name}, line {reader.line_num}"
                    problems.append(LeftOut(place, "table", f"{len(row)} cells instead of {len(header)}"))
    except FileNotFoundError:
        raise DataError("no such file", file=path) from None
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"cannot be read: {error}", file=path, expected="a table in UTF-8") from None


def header_of(path: Path) -> list[str]:
    """A table's column names.

    Raises:
        DataError: As `rows_of`.
    """
    return list(next(rows_of(path))[1])
