"""The errors a user may meet: every message says where, what was found, what was expected and what to do
next."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from os import PathLike

_LONGEST_FOUND = 500
_CONTROL = {code: "\N{REPLACEMENT CHARACTER}" for code in (*range(9), *range(11, 32), *range(127, 160))}
"""What a file says is shown, but does not get to steer the terminal: everything but tab and newline."""


class MssgError(Exception):
    """An error that is shown to the user as it stands, without a traceback.

    Args:
        message: What is wrong, in one sentence.
        file: The file concerned.
        field: The table, key, column or tensor concerned.
        found: What was there.
        expected: What should be there.
        hint: What to do next.
    """

    def __init__(
        self,
        message: str,
        *,
        file: str | PathLike[str] | None = None,
        field: str | None = None,
        found: object = None,
        expected: object = None,
        hint: str | None = None,
    ) -> None:
        self.message, self.file, self.field = message, None if file is None else str(file), field
        self.found, self.expected, self.hint = found, expected, hint
        if found is not None and len(shown := str(found)) > _LONGEST_FOUND:
            found = f"{shown[:_LONGEST_FOUND]} …"
        place = ": ".join(part for part in (self.file, field) if part)
        text = f"{place}: {message}" if place else message
        text = text if text.endswith("?") else text.rstrip(".") + "."
        if found is not None:
            text += f" Found {found}."
        if expected is not None:
            text += f" Expected {expected}."
        if hint:
            text += f" {hint}" if hint.endswith("?") else f" {hint.rstrip('.')}."
        super().__init__(text.translate(_CONTROL))

    @property
    def brief(self) -> str:
        """What is wrong, for a list that names the place itself."""
        field = f"{self.field}: " if self.field else ""
        found = "" if self.found is None else f", found {self.found}"
        return field + self.message + found + ("" if self.expected is None else f", expected {self.expected}")


@cache
def warn_once(text: str) -> None:
    """Tell the user what the work can do without, once however often it is met."""
    import logging

    logging.getLogger("mssg").warning("Note: %s", text.translate(_CONTROL))


class StudyError(MssgError):
    """A study TOML (or its JSON form) is wrong."""


class DataError(MssgError):
    """An input image, table or prepared source is wrong."""


class SnapshotError(MssgError):
    """A snapshot, checkpoint or session file is wrong."""


class RunError(MssgError):
    """A run folder is wrong, locked, or cannot be written."""


class UsageError(MssgError):
    """A request is wrong: an unknown name, a value outside its range, options that clash."""


def check_choice(value: object, choices: Iterable[object], field: str) -> None:
    """Refuse what is none of the choices.

    Raises:
        UsageError: Naming the field and what there is.
    """
    choices = tuple(choices)
    if value not in choices:
        raise UsageError("unknown value", field=field, found=value, expected=" | ".join(map(str, choices)))


class ArgumentError(UsageError, ValueError):
    """An argument of the Python API is wrong; the message names it."""
