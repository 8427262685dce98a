"""TOML files read key by key, and every other table of settings: a mistake is named with file, table, key,
what was found and what was expected."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from mssg.errors import MssgError, StudyError
from mssg.study.cells import did_you_mean

LARGEST = sys.float_info.max
LARGEST_WHOLE = 2**32 - 1
"""Of whole numbers, seeds among them."""

TYPES: dict[str, tuple[Callable[[Any], bool], str]] = {
    "text": (lambda v: isinstance(v, str) and v.strip() != "", "a text"),
    "any text": (lambda v: isinstance(v, str), "a text"),
    "texts": (
        lambda v: isinstance(v, list | tuple) and all(isinstance(i, str) and i for i in v),
        "a list of texts",
    ),
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
    "whole": (
        lambda v: isinstance(v, int) and not isinstance(v, bool) and 0 <= v <= LARGEST_WHOLE,
        f"a whole number from 0 to {LARGEST_WHOLE}",
    ),
    "count": (lambda v: TYPES["whole"][0](v) and v > 0, f"a whole number from 1 to {LARGEST_WHOLE}"),
    "flag": (lambda v: isinstance(v, bool), "true or false"),
}
_NO_DEFAULT = object()
Fields = Mapping[str, tuple[str, Iterable[str] | None]]
"""Keys of a table, each with its kind of value (`TYPES`) and the only ones it may have, where it has such."""


def read_toml(path: Path, error: type[MssgError] = StudyError) -> dict[str, Any]:
    """A TOML file's tables.

    Raises:
        MssgError: Of the given class: the file is missing, cannot be read or is no TOML.
    """
    import tomllib

    try:
        return tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        raise error("no such file", file=path, hint="Give the path of a TOML file") from None
    except IsADirectoryError:
        raise error("this is a folder", file=path, expected="a TOML file") from None
    except OSError as problem:
        raise error(f"cannot be read: {problem.strerror}", file=path) from None
    except RecursionError:
        raise error("not valid TOML: nested too deeply", file=path) from None
    except ValueError as problem:
        raise error(f"not valid TOML: {problem}", file=path, hint="Correct the line named") from None


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
        several = kind == "texts" and check(value)
        if choices is None:
            if not check(value):
                raise self.error(key, "wrong value", found=repr(value), expected=expected)
        elif unknown := [v for v in (value if several else [value]) if v not in (choices := tuple(choices))]:
            raise self.error(key, "unknown value", found=repr(unknown[0]), expected=" | ".join(choices))
        return value

    def fields(self, known: Fields) -> dict[str, Any]:
        """All that a table says of these keys, checked; it may say nothing else."""
        values = {key: self.get(key, kind, None, choices) for key, (kind, choices) in known.items()}
        self.finish()
        return {key: value for key, value in values.items() if key in self._document}

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
                hint = did_you_mean(key, self._asked) or "Remove it"
                raise self.error(key, "unknown key", expected=" | ".join(self._asked), hint=hint)
