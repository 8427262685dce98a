"""What callers pass, checked and brought to one form: every mistake is an `ArgumentError` that names the
argument."""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mssg.errors import ArgumentError, MssgError, UsageError
from mssg.rendering.request import NOISE_MODES, RenderRequest
from mssg.study.covariate import SOURCE, Covariate
from mssg.study.model import Study
from mssg.study.values import describe

KEYWORDS = ("values", "seed", "psi", "noise", "noise_seed", "source")
"""Keywords of `Model.draw` that are no covariates."""


@contextmanager
def argument_errors(*kinds: type[MssgError]) -> Iterator[None]:
    """Errors of use, and those of these kinds, leave as `ArgumentError` with the same words."""
    try:
        yield
    except ArgumentError:
        raise
    except (UsageError, *kinds) as error:
        raise ArgumentError(
            error.message,
            file=error.file,
            field=error.field,
            found=error.found,
            expected=error.expected,
            hint=error.hint,
        ) from None


def checked_path(path: Any, *suffixes: str) -> Path:
    """A file to write, with one of these endings.

    Raises:
        ArgumentError: No path, a folder, or another ending.
    """
    try:
        path = Path(path)
    except TypeError:
        raise ArgumentError("not a path", field="path", found=repr(path)) from None
    if not path.name.lower().endswith(suffixes):
        expected = " | ".join(suffixes)
        raise ArgumentError("not a format to save in", field="path", found=path.name, expected=expected)
    if path.is_dir():
        raise ArgumentError("this is a folder", file=path, expected="a file to write")
    return path


def stated(study: Study, values: Any, keywords: Mapping[str, Any], source: Any = None) -> dict[str, Any]:
    """Covariates of `values=`, of the keywords and of `source=` as one mapping.

    Args:
        study: Whose covariates they are.
        values: A mapping from any covariate's name, or None.
        keywords: Covariates stated as keywords.
        source: The source's name, or None.

    Raises:
        ArgumentError: No mapping, an unknown name, one given twice, or a source that the network is not told.
    """
    if values is not None and not isinstance(values, Mapping):
        expected = "a mapping from covariate names to values"
        raise ArgumentError("not a mapping", field="values", found=type(values).__name__, expected=expected)
    if source is not None:
        if SOURCE not in study.condition_names:
            raise ArgumentError(
                "this model's network is not told the source",
                field=SOURCE,
                found=repr(source),
                hint="Leave it out",
            )
        keywords = {**keywords, SOURCE: source}
    out = dict(values or {})
    for name, value in keywords.items():
        if name in out:
            raise ArgumentError("given twice, in values= and as a keyword", field=name)
        out[name] = value
    for name in out:
        check_name(study, name)
    return out


def check_name(study: Study, name: Any) -> None:
    """Refuse what names no covariate.

    Raises:
        ArgumentError: With the nearest name.
    """
    if name in study.condition_names:
        return
    near = difflib.get_close_matches(str(name), (*study.condition_names, *KEYWORDS), 1)
    message = f"no covariate {name!r}" + (f"; did you mean {near[0]!r}?" if near else "")
    raise ArgumentError(message, expected=", ".join(describe(c) for c in study.conditions))


def native(covariate: Covariate, value: Any) -> float:
    """One value, or the name of a level, as a native value.

    Raises:
        ArgumentError: NaN, infinite, an unknown level, or nothing that can be a value.
    """
    value = value.tolist() if getattr(value, "ndim", None) == 0 else value
    no_yes_or_no = isinstance(value, bool) and covariate.kind != "binary"
    if no_yes_or_no or not isinstance(value, str | int | float):
        expected = f"one value of {describe(covariate)}"
        raise ArgumentError("not a value", field=covariate.name, found=_short(value), expected=expected)
    if isinstance(value, float) and not math.isfinite(value):
        raise ArgumentError("not a finite number", field=covariate.name, found=value)
    with argument_errors():
        number = covariate.parse(value)
    if not math.isfinite(number):
        raise ArgumentError("a missing value cannot be used", field=covariate.name, found=repr(value))
    return number


def shown(covariate: Covariate, value: float) -> float | int | str:
    """A native value as callers see it: a level's name, 0 or 1, or a number."""
    if covariate.levels:
        return covariate.levels[round(value)]
    return float(value) if covariate.is_continuous else round(value)


def broadcast(arguments: list[tuple[str, Any]]) -> tuple[list[tuple[Any, ...]], bool]:
    """Arguments of which some are lists, row by row.

    Args:
        arguments: (name, one value or a list, range or one-dimensional array of them).

    Returns:
        rows: One value of each argument.
        many: Whether any was a list.

    Raises:
        ArgumentError: More dimensions, an empty list, or lists of different lengths.
    """
    lists = {
        i: items for i, (name, value) in enumerate(arguments) if (items := _items(name, value)) is not None
    }
    longest = max(lists, key=lambda i: len(lists[i]), default=None)
    count = 1 if longest is None else len(lists[longest])
    for i, items in lists.items():
        if len(items) not in (1, count):
            expected = f"{count}, as {arguments[longest or 0][0]!r} has, or 1"
            raise ArgumentError(
                "lists of different lengths", field=arguments[i][0], found=len(items), expected=expected
            )
    columns = [lists.get(i, [value]) for i, (_, value) in enumerate(arguments)]
    rows = [tuple(column[k if len(column) > 1 else 0] for column in columns) for k in range(count)]
    return rows, bool(lists)


def _items(name: str, value: Any) -> list[Any] | None:
    """The values of a list; None for one value."""
    ndim = getattr(value, "ndim", None)
    if ndim is None:
        items = list(value) if isinstance(value, list | tuple | range) else None
    elif ndim > 1:
        found = f"shape {list(value.shape)}"
        raise ArgumentError("not a list of values", field=name, found=found, expected="one dimension")
    else:
        items = value.tolist() if ndim else None
    if items is not None and not items:
        raise ArgumentError("an empty list", field=name)
    return items


def number(name: str, value: Any) -> float:
    """A finite number.

    Raises:
        ArgumentError: Anything else.
    """
    value = value.tolist() if getattr(value, "ndim", None) == 0 else value
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ArgumentError("not a finite number", field=name, found=_short(value))
    return float(value)


def request_of(
    study: Study, covariates: Mapping[str, Any], seed: Any, psi: Any, noise: Any, noise_seed: Any
) -> RenderRequest:
    """The request of one picture.

    Raises:
        ArgumentError: A value that cannot be.
    """
    seed, noise_seed = (v.tolist() if getattr(v, "ndim", None) == 0 else v for v in (seed, noise_seed))
    psi = number("psi", psi)
    if noise not in NOISE_MODES:
        raise ArgumentError("not known", field="noise", found=_short(noise), expected=" | ".join(NOISE_MODES))
    pairs = tuple((name, native(study.covariate(name), value)) for name, value in covariates.items())
    with argument_errors():
        return RenderRequest(seed=seed, covariates=pairs, psi=psi, noise_mode=noise, noise_seed=noise_seed)


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:80]} …"
