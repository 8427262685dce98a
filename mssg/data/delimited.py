"""Tables of anybody as rows of text; what cannot be read of them is reported line by line."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from mssg.data.cohort import LeftOut
from mssg.errors import DataError

if TYPE_CHECKING:
    from _csv import Reader

SUFFIXES = (".csv", ".tsv")
_WORKBOOKS = (b"PK\x03\x04", b"\xd0\xcf\x11\xe0")
_UTF16 = (b"\xff\xfe", b"\xfe\xff")
_UTF32 = (b"\xff\xfe\0\0", b"\0\0\xfe\xff")
AS_UTF8 = "Save it in UTF-8"
AS_CSV = "Save the sheet as CSV in UTF-8 (spreadsheets call it CSV UTF-8)"


def rows_of(
    path: Path, problems: list[LeftOut], columns: set[str] | None = None
) -> Iterator[tuple[int, dict[str, str]]]:
    """A table's rows, one at a time: line number and cells, stripped.

    Args:
        path: .csv (commas, semicolons or tabs) or .tsv; UTF-8, or UTF-16 that says so.
        problems: Lines that cannot be read are added here and left out.
        columns: Only these; all by default. Tables of a cohort may be thousands of columns wide.

    Raises:
        DataError: Not there, not text, or no usable header.
    """
    try:
        with _open(path) as file:
            reader, header = _reader(path, file)
            cells = [(i, n) for i, n in enumerate(header) if columns is None or n in columns]
            while True:
                first = reader.line_num + 1
                try:
                    row = next(reader)
                except StopIteration:
                    return
                except csv.Error as error:
                    unclosed = "unexpected end of data" in str(error)
                    reason = "a quotation mark is not closed" if unclosed else f"cannot be read: {error}"
                    problems.append(LeftOut(_place(path, first, reader.line_num), "table", reason))
                    continue
                row = _without_empty_ends(row, len(header))
                if len(row) == len(header):
                    yield reader.line_num, {n: _plain(path, row[i]) for i, n in cells}
                elif any(row):
                    reason = f"{len(row)} cells instead of {len(header)}"
                    problems.append(LeftOut(_place(path, first, reader.line_num), "table", reason))
    except (OSError, UnicodeError) as error:
        raise _unreadable(path, error) from None


def header_of(path: Path) -> list[str]:
    """A table's column names.

    Raises:
        DataError: As `rows_of`.
    """
    try:
        with _open(path) as file:
            return _reader(path, file)[1]
    except (OSError, UnicodeError) as error:
        raise _unreadable(path, error) from None


def _open(path: Path) -> TextIO:
    """The table as text, in the encoding that it states, else UTF-8."""
    with path.open("rb") as file:
        start = file.read(64)
    if start.startswith(_WORKBOOKS):
        raise DataError("a spreadsheet's own format", file=path, expected=" | ".join(SUFFIXES), hint=AS_CSV)
    encoding = "utf-16" if start.startswith(_UTF16) and not start.startswith(_UTF32) else "utf-8-sig"
    if encoding != "utf-16" and b"\0" in start:
        raise DataError("is not UTF-8", file=path, expected="a table in UTF-8", hint=AS_UTF8)
    return path.open(newline="", encoding=encoding)


def _reader(path: Path, file: TextIO) -> tuple[Reader, list[str]]:
    """The table's reader, past the header, and the header.

    TSV has no quoting, so that a quotation mark is a character as any other. Source: BIDS 1.9, tabular files.
    """
    first = file.readline()
    file.seek(0)
    if path.suffix.lower() == ".tsv":
        other = max(",;", key=first.count)
        if "\t" not in first and first.count(other):
            raise DataError(
                "its columns are not separated by tabs, as .tsv says",
                file=path,
                field="line 1",
                found=repr(first.strip()[:80]),
                hint="Separate them by tabs, or call the file .csv",
            )
        reader = csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE)
    else:
        reader = csv.reader(file, delimiter=max(",;\t", key=first.count), strict=True)
    try:
        header = _without_empty_ends([_plain(path, name) for name in next(reader, [])])
    except csv.Error as error:
        raise DataError(f"no usable line of column names: {error}", file=path, field="line 1") from None
    if not any(header):
        raise DataError("no line of column names", file=path, field="line 1", found=repr(first[:80]))
    twice = [name for name, count in Counter(header).items() if name and count > 1]
    if twice:
        raise DataError(
            "a column is named twice", file=path, field="line 1", found=twice[0], hint="Rename one of them"
        )
    return reader, header


def _without_empty_ends(cells: list[str], length: int = 0) -> list[str]:
    """Cells without the empty ones that spreadsheets leave behind a line's last column.

    Args:
        cells: Of a line.
    """
    end = len(cells)
    while end > length and not cells[end - 1].strip():
        end -= 1
    return cells[:end]


def _plain(path: Path, cell: str) -> str:
    """A cell without blanks, and in a .tsv without the quotation marks that other programs put around it."""
    text = cell.strip()
    quoted = path.suffix.lower() == ".tsv" and len(text) > 1 and text[0] == text[-1] == '"'
    return text[1:-1].strip() if quoted else text


def _place(path: Path, first: int, last: int) -> str:
    return f"{path.name}, line {first}" if first >= last else f"{path.name}, lines {first} to {last}"


def _unreadable(path: Path, error: OSError | UnicodeError) -> DataError:
    if isinstance(error, UnicodeError):
        line = _first_line_that_is_no_text(path)
        return DataError("is not UTF-8", file=path, field=line, expected="a table in UTF-8", hint=AS_UTF8)
    if isinstance(error, FileNotFoundError):
        dangling = path.is_symlink()
        return DataError("a link to a file that is not there" if dangling else "no such file", file=path)
    return DataError(f"cannot be read: {error.strerror or error}", file=path)


def _first_line_that_is_no_text(path: Path) -> str | None:
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            try:
                line.decode()
            except UnicodeDecodeError:
                return f"line {number}"
    return None
