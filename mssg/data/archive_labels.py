"""Labels of dataset.json: numbers, lists of numbers or dictionaries, and the covariates that they are."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeGuard

import numpy as np
from numpy.typing import NDArray

from mssg.data.archives import LABELS, PARTS, FolderArchive, ZipArchive, plain_name
from mssg.data.cohort import CovariateSpec
from mssg.data.covariate_options import parse_covariate
from mssg.errors import DataError, UsageError
from mssg.files import parse_json
from mssg.study.cells import parse_number, same_value
from mssg.study.covariate import Covariate, name_problem

MOST_LEVELS = 20
"""Whole numbers from 0 to fewer than these, or so few texts, are taken for the levels of a category where
nothing is stated."""


@dataclass(frozen=True)
class ArchiveLabels:
    """Covariates of an archive's images.

    Attributes:
        values: Native values float64 [N, number of covariates].
        subjects: Who is on the images, where the labels say so; else empty.
        guessed: Covariates whose kind was taken from their values.
        ignored: Labels that are texts of too many kinds to be levels, such as paths.
    """

    covariates: tuple[Covariate, ...]
    values: NDArray[np.float64]
    subjects: tuple[str, ...] = ()
    guessed: tuple[str, ...] = ()
    ignored: tuple[str, ...] = ()


def parse_label(text: str) -> CovariateSpec:
    """How a label is read, from NAME[@KEY]=KIND[:DETAIL…]; its column is the key in dictionaries.

    Raises:
        UsageError: As `parse_covariate`, or its levels are not stated.
    """
    spec = parse_covariate(text, "--labels")
    if not spec.covariate.is_continuous and not spec.covariate.num_levels:
        expected = " or ".join(f"NAME={spec.covariate.kind}:{text}" for text in ("COUNT", "LEVEL,LEVEL,…"))
        raise UsageError("cannot be read as a label", field="--labels", found=repr(text), expected=expected)
    return spec


def parse_labels(texts: Sequence[str]) -> list[CovariateSpec]:
    """How labels are read (`parse_label`).

    Raises:
        UsageError: One cannot be read, or two have one name.
    """
    stated = [parse_label(text) for text in texts]
    if len({spec.covariate.name for spec in stated}) < len(stated):
        raise UsageError("a name is given twice", field="--labels", found=", ".join(texts))
    return stated


def read_labels(
    path: Path, archive: FolderArchive | ZipArchive, names: Sequence[str], stated: Sequence[CovariateSpec]
) -> ArchiveLabels:
    """The covariates of an archive's images.

    Args:
        path: The archive's, for messages.
        archive: Where dataset.json is.
        stated: How the labels are read (`parse_labels`): of numbers in order, each; of dictionaries by key,
            as far as kinds shall not be taken from the values.

    Raises:
        DataError: Labels that cannot be read, do not fit the images, or are none at all.
        UsageError: Labels without names, or names of what is not there.
    """
    found = _entries(path, archive)
    if not found:
        if stated:
            raise DataError(
                "no labels",
                file=path,
                field=LABELS,
                expected=", ".join(spec.covariate.name for spec in stated),
                hint="Leave out --labels",
            )
        return ArchiveLabels((), np.empty((len(names), 0)))
    if not stated and not any(isinstance(label, Mapping) for label in found.values()):
        raise UsageError(
            "the images have labels that need names",
            field="--labels",
            found=f"{next(iter(found.values()))} for {next(iter(found))}",
            expected="--labels NAME=KIND for each of them",
            hint="For example --labels digit=categorical:10",
        )
    for have, want, what in (
        (found, set(names), "names a file that is not there"),
        (names, found, "has no label for"),
    ):
        missing = next((name for name in have if name not in want), None)
        if missing is not None:
            if missing in archive.names():
                what = what.replace("that is not there", "of a kind that is not read")
            reason = next((f": {one.reason}" for one in archive.left if one.file == missing), "")
            hint = None if reason else _alike(missing, (name for name in want if name not in have))
            raise DataError(what, file=path, field=LABELS, found=missing + reason, hint=hint)
    if any(isinstance(label, Mapping) for label in found.values()):
        return _of_dictionaries(path, {name: found[name] for name in names}, stated)
    values = np.array([_of_numbers(path, name, found[name], stated) for name in names])
    return ArchiveLabels(tuple(spec.covariate for spec in stated), values)


def _alike(name: str, others: Iterable[str]) -> str | None:
    """A question that names a file which is called the same but for its folder or case."""
    end = name.casefold().rpartition("/")[2]
    return next((f"Is it {other}?" for other in others if other.casefold().rpartition("/")[2] == end), None)


def _entries(path: Path, archive: FolderArchive | ZipArchive) -> dict[str, Any]:
    """File name -> label, of the archive's dataset.json or those of its parts; empty where there are none.

    Raises:
        DataError: Not as it must be, or two labels of one image.
    """
    folders = [""] if LABELS in archive.names() else [f"{part}/" for part in parts(archive)]
    return {name: label for folder in folders for name, label in _entries_of(path, archive, folder).items()}


def parts(archive: FolderArchive | ZipArchive) -> list[str]:
    """The folders of `PARTS` with their own dataset.json; none where the archive has one for all."""
    names = set(archive.names())
    return [] if LABELS in names else [part for part in PARTS if f"{part}/{LABELS}" in names]


def _entries_of(path: Path, archive: FolderArchive | ZipArchive, folder: str) -> dict[str, Any]:
    """File name -> label, of one dataset.json, whose names begin in its own folder ("" or "trainset/")."""
    try:
        entries = parse_json(archive.read(folder + LABELS))["labels"] or []
        pairs = [
            (folder + plain_name(str(n)), label)
            for n, label in (entries.items() if isinstance(entries, Mapping) else entries)
        ]
    except (ValueError, KeyError, TypeError) as error:
        why = str(error) if isinstance(error, ValueError) else "not of this form"
        raise DataError(
            f"cannot be read: {why}",
            file=path,
            field=folder + LABELS,
            expected='{"labels": [["file.png", 3], …]}; a list of numbers or a dictionary each, or null',
        ) from None
    found: dict[str, Any] = {}
    for name, label in pairs:
        if name in found and found[name] != label:
            place, both = f"{folder}{LABELS}, {name}", f"{found[name]} and {label}"
            raise DataError("an image has two labels", file=path, field=place, found=both)
        found[name] = label
    return found


def _of_dictionaries(path: Path, found: Mapping[str, Any], stated: Sequence[CovariateSpec]) -> ArchiveLabels:
    """Labels such as {"age": 60} or, as the research code wrote them, {"age": {"1000123": 60}}, where the
    inner key is the person."""
    labels = {name: {} if label is None else label for name, label in found.items()}
    odd = next((name for name, label in labels.items() if not isinstance(label, Mapping)), None)
    if odd is not None:
        place = f"{LABELS}, {odd}"
        raise DataError("no dictionary, as other labels are", file=path, field=place, found=labels[odd])
    keys = list(dict.fromkeys(key for label in labels.values() for key in label))
    by_key = {str(spec.column): spec for spec in stated}
    unknown = [key for key in by_key if key not in keys]
    if unknown:
        raise UsageError("no such label", field="--labels", found=unknown[0], expected=" | ".join(keys))
    columns: dict[str, list[float | str]] = {key: [] for key in keys}
    subjects: list[str] = []
    for name, label in labels.items():
        read = {key: _number_and_person(path, f"{LABELS}, {name}, {key}", label.get(key)) for key in keys}
        people = sorted({person for _, person in read.values()} - {""})
        if len(people) > 1:
            place = f"{LABELS}, {name}"
            raise DataError("a label of several people", file=path, field=place, found=", ".join(people))
        for key, (number, _) in read.items():
            columns[key].append(number)
        subjects += people
    ignored = [key for key in keys if key not in by_key and _no_levels(columns[key])]
    keys = [key for key in keys if key not in ignored]
    specs = [by_key.get(key) or CovariateSpec(_guessed(key, columns[key]), key) for key in keys]
    values = np.array(
        [
            [_native(path, name, spec, value) for name, value in zip(found, columns[key])]
            for spec, key in zip(specs, keys)
        ]
    ).T
    guessed = tuple(spec.covariate.name for spec, key in zip(specs, keys) if key not in by_key)
    known = tuple(subjects) if len(subjects) == len(found) else ()
    return ArchiveLabels(tuple(spec.covariate for spec in specs), values, known, guessed, tuple(ignored))


def _no_levels(column: Sequence[float | str]) -> bool:
    """Whether values are texts of too many kinds, or too few, to be levels."""
    return _only_texts(column) and not 2 <= len(set(filter(_is_text, column))) <= MOST_LEVELS


def _only_texts(column: Sequence[float | str]) -> bool:
    """Whether there is a text and no number."""
    return any(map(_is_text, column)) and all(isinstance(value, str) or math.isnan(value) for value in column)


def _is_text(value: float | str) -> TypeGuard[str]:
    return isinstance(value, str)


def _number_and_person(path: Path, place: str, value: Any) -> tuple[float | str, str]:
    person = ""
    if isinstance(value, Mapping) and len(value) == 1:
        ((person, value),) = value.items()
    if value is None:
        return math.nan, str(person)
    if isinstance(value, str):
        return value.strip() or math.nan, str(person)
    if isinstance(value, bool) or not isinstance(value, int | float):
        expected = 'a number, a text, null, or {"ID": one of these}'
        raise DataError("no number", file=path, field=place, found=repr(value), expected=expected)
    return float(value), str(person)


def _guessed(name: str, column: Sequence[float | str]) -> Covariate:
    """A covariate of the kind that its values have: texts, 0 and 1, whole numbers from 0 on, or others.

    Raises:
        UsageError: It cannot be called so.
    """
    if problem := name_problem(name):
        raise UsageError(
            f"the name is {problem}", field="--labels", found=repr(name), hint=f"--labels NAME@{name}=KIND"
        )
    if _only_texts(column):
        texts = sorted(set(filter(_is_text, column)))
        return Covariate(name, "binary" if len(texts) == 2 else "categorical", levels=tuple(texts))
    levels = sorted({value for value in column if isinstance(value, float) and math.isfinite(value)})
    if levels == [0.0, 1.0]:
        return Covariate(name, "binary")
    if levels == list(range(len(levels))) and 2 < len(levels) <= MOST_LEVELS:
        return Covariate(name, "categorical", levels=tuple(str(int(level)) for level in levels))
    return Covariate(name, "continuous")


def _of_numbers(path: Path, name: str, label: Any, specs: Sequence[CovariateSpec]) -> list[float]:
    """Native values of one label: a number, a list of numbers, or null (missing)."""
    if label is None:
        return [math.nan] * len(specs)
    numbers = label if isinstance(label, list) else [label]
    field = f"{LABELS}, {name}, label"
    if any(not (n is None or isinstance(n, int | float)) for n in numbers):
        expected = "a number or a list of numbers"
        raise DataError(
            "label is not made of numbers", file=path, field=field, found=label, expected=expected
        )
    numbers = [math.nan if n is None else float(n) for n in numbers]
    hot = sum(spec.covariate.width for spec in specs)
    if len(numbers) not in (len(specs), hot):
        expected = f"{len(specs)} numbers"
        expected += f", or {hot} with categories one-hot" if hot > len(specs) else ""
        found = f"{len(numbers)} numbers"
        raise DataError("label of another length", file=path, field=field, found=found, expected=expected)
    one_hot, values = len(numbers) == hot, []
    for spec in specs:
        width = spec.covariate.width if one_hot else 1
        part, numbers = numbers[:width], numbers[width:]
        if width > 1:
            if sorted(part) != [0.0] * (width - 1) + [1.0] and not all(map(math.isnan, part)):
                place = f"{LABELS}, {name}, {spec.covariate.name}"
                raise DataError("not one-hot", file=path, field=place, found=part, expected="one 1 and zeros")
            values.append(math.nan if math.isnan(part[0]) else float(part.index(1.0)))
        else:
            values.append(_native(path, name, spec, part[0]))
    return values


def _is_number(text: str) -> bool:
    try:
        parse_number(text)
    except ValueError:
        return False
    return True


def _native(path: Path, name: str, spec: CovariateSpec, number: float | str) -> float:
    """A label's native value: a converted number, or the index of a level.

    Raises:
        DataError: An infinite value, one outside its range, or one that is no level.
    """
    covariate, place = spec.covariate, f"{LABELS}, {name}, {spec.covariate.name}"
    if isinstance(number, str):
        if covariate.is_continuous:
            raise DataError("no number", file=path, field=place, found=repr(number), expected="a number")
        try:
            number = covariate.parse(spec.codes.get(number, number))
        except UsageError as error:
            raise DataError(
                error.message, file=path, field=place, found=error.found, expected=error.expected
            ) from None
        return number
    if math.isnan(number):
        return number
    if not covariate.is_continuous:
        numbers = [code for code in spec.codes if _is_number(code)]
        indices = [str(index) for index in range(covariate.num_levels)]
        if not numbers and list(covariate.levels) != indices and all(map(_is_number, covariate.levels)):
            numbers = list(covariate.levels)  # levels that are numbers mean themselves
        code = next((c for c in numbers if same_value(repr(number), c)), None)
        value = covariate.parse(spec.codes.get(code, code)) if code else math.nan if numbers else number
        if value not in range(covariate.num_levels):
            expected = " | ".join(numbers) or f"0 to {covariate.num_levels - 1}"
            raise DataError("value out of range", file=path, field=place, found=number, expected=expected)
        return float(value)
    low, high = spec.range or (-math.inf, math.inf)
    value = number * spec.factor
    if math.isinf(value) or not low <= value <= high:
        expected = f"{low:g} to {high:g} {covariate.unit}".strip() if spec.range else "a finite number"
        raise DataError("value out of range", file=path, field=place, found=value, expected=expected)
    return value
