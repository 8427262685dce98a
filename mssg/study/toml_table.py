"""Tables of a TOML file read key by key: every mistake is named with file, table, key, what was found and
expected."""

from __future__ import annotations

import difflib
import sys
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from mssg.errors import MssgError, StudyError

LARGEST = sys.float_info.max

TYPES: dict[str, tuple[Callable[[Any], bool], str]] = {
    "text": (lambda v: isinstance(v, str) and v.strip() != "", "a text"),
    "any text": (lambda v: isinstance(v, str), "a text"),
    "texts": (lambda v: isinstance(v, list) and all(isinstance(i, str) and i for i in v), "a list of texts"),
    "number": (
        lambda v: isinstance(v, int | float) and not isinstance(v, bool) and abs(v) <= LARGEST,
        "a number",
    ),
    "positive": (lambda v: TYPES["number"][0](v) and v > 0, "a number above 0"),
    "share": (lambda v: TYPES["number"][0](v) and 0 < v <= 1, "a number above 0, up to 1"),
    "not negative": (lambda v: TYPES["number"][0](v) and v >= 0, "a number, 0 or more"),
    "pair": (
        lambda v: isinstance(v, list) and len(v) == 2 and all(TYPES["number"][0](i) for i in v),
        "two numbers",
    ),
    "count": (lambda v: isinstance(v, int) and not isinstance(v, bool) and v > 0, "a whole number above 0"),
    "flag": (lambda v: isinstance(v, bool), "true or false"),
}
_NO_DEFAULT = object()


class TomlTable:
    """One table of a document, read key by key; `finish` refuses what nobody asked for."""

    def __init__(
        self, document: Any, name: str, file: str | None, error: type[MssgError] = StudyError
    ) -> None:
        self.name, self.file, self._asked, self._error = name, file, [], error
        if not isinstance(document, Mapping):
            raise error("must be a table", file=file, field=name, found=repr(document))
        self._document = document

    def error(self, key: str, message: str, **details: Any) -> MssgError:
        """An error that names this table's file and the key."""
        return self._error(
            message, file=self.file, field=f"{self.name}.{key}" if self.name else key, **details
        )

    def get(
        self, key: str, kind: str, default: Any = _NO_DEFAULT, choices: Iterable[str] | None = None
    ) -> Any:
        """A key's value, checked; its default where it is absent."""
        self._asked.append(key)
        if key not in self._document:
            if default is _NO_DEFAULT:
                raise self.error(
                    key,
                    "is missing",
                    expected=TYPES[kind][1],
                    hint=f"Add it to [{self.name}]" if self.name else "Add it",
                )
            return default
        value = self._document[key]
        check, expected = TYPES[kind]
        if choices is not None:
            choices = tuple(choices)
            if value not in choices:
                raise self.error(key, "unknown value", found=repr(value), expected=" | ".join(choices))
        elif not check(value):
            raise self.error(key, "wrong value", found=repr(value), expected=expected)
        return value

    def table(self, key: str) -> Any:
        """A table within, or an empty one; not checked."""
        self._asked.append(key)
        return self._document.get(key, {})

    def rest(self) -> dict[str, Any]:
        """What nobody has asked for so far."""
        return {k: v for k, v in self._document.items() if k not in self._asked}

    def finish(self) -> None:
        """Refuse what nobody asked for."""
        for key in self._document:
            if key not in self._asked:
                near = difflib.get_close_matches(key, self._asked, 1)
                hint = f"Did you mean {near[0]!r}?" if near else "Remove it"
                raise self.error(key, "unknown key", expected=" | ".join(self._asked), hint=hint)
