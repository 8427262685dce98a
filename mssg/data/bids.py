"""BIDS: entities of file names, which of several images of a visit is taken, and what participants.json says.

Source: Brain Imaging Data Structure 1.9 (Gorgolewski et al. 2016).
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from mssg.data.cohort import CohortImage, CovariateSpec, LeftOut
from mssg.data.covariate_options import PLAUSIBLE
from mssg.data.units import known_unit
from mssg.errors import DataError, UsageError
from mssg.files import parse_json
from mssg.study.cells import is_missing, same_value
from mssg.study.covariate import Covariate

ONE_OF_SEVERAL = "visit"
"""The stage that leaves out all but one image of a visit."""
SUFFIX = "T1w"
"""What is taken where nothing is asked for."""
ANY = "*"
"""As an entity's value: whatever it is, and all of them."""
MAGNITUDE = ("", "mag")
UNLESS_ASKED = {
    "ce": "contrast-enhanced",
    "chunk": "part of the field of view",
    "hemi": "one hemisphere",
    "split": "one piece of an image",
}
"""Entities whose images are left out unless they are asked for, and what they say of an image."""
DESCRIPTIONS = ("participants.json", "sessions.json", "sub-*/sub-*_sessions.json")
"""Where columns are described, as patterns; the first that states a thing holds."""
SPELLINGS = {"sess": "ses"}
"""Entities that data sets write otherwise than BIDS does: OASIS-3 in part."""
LABELS = {"participant_id": "sub-", "session_id": "ses-"}
"""Columns that say whose a row is, and what their values begin with."""


def parse_name(stem: str) -> tuple[dict[str, str], str]:
    """Entities and suffix of a file's name without its extension.

    Raises:
        ValueError: It is not made as BIDS says.
    """
    *parts, suffix = stem.split("_")
    entities: dict[str, str] = {}
    for part in parts:
        match = re.fullmatch(r"([A-Za-z0-9]+)-([A-Za-z0-9+]+)", part)
        key = SPELLINGS.get(match[1], match[1]) if match else ""
        if not match or key in entities:
            raise ValueError(f"{part!r} is no entity")
        entities[key] = match[2]
    if not re.fullmatch(r"[A-Za-z0-9]+", suffix):
        raise ValueError(f"{suffix!r} is no suffix")
    return entities, suffix


def parse_entities(texts: Sequence[str]) -> dict[str, str]:
    """What is asked of entities, from KEY=VALUE; an empty value asks for images without it.

    Raises:
        UsageError: Anything else, or an entity named twice.
    """
    asked: dict[str, str] = {}
    for text in texts:
        key, equals, value = (part.strip() for part in text.partition("="))
        value = value.removeprefix(f"{key}-")
        if not equals or not re.fullmatch(r"[A-Za-z0-9]+", key) or key in ("sub", "ses") or key in asked:
            raise UsageError(
                "cannot be read as an entity",
                field="--entity",
                found=repr(text),
                expected="KEY=VALUE, such as space=MNI152NLin2009cAsym, each entity once; not sub or ses",
            )
        asked[key] = value
    return asked


def select_images(
    images: Sequence[CohortImage], suffix: str, asked: Mapping[str, str], runs: str = "first"
) -> tuple[list[CohortImage], list[LeftOut]]:
    """Take one image of every visit, by what the files' names say.

    Images of another suffix are passed over. Phase, real and imaginary images, contrast-enhanced ones and
    those of a part of the head (`UNLESS_ASKED`) are left out unless asked for. Of several images of one visit
    the one is taken whose name has the fewest entities, then the one that comes first by their values, then
    the first run.

    Args:
        images: Of a folder.
        suffix: T1w, T2w, FLAIR …
        asked: Entity -> the value that it must have; "" for none, "*" for any and all.
        runs: What becomes of images that differ from the one that is taken in their run alone (`RUNS`).

    Returns:
        The images, with their entities among their facts, and what was left out.

    Raises:
        UsageError: No image has the suffix, or the images lie in several spaces.
    """
    left: list[LeftOut] = []
    others: Counter[str] = Counter()
    fitting: list[tuple[CohortImage, dict[str, str]]] = []
    for image in images:
        try:
            entities, own = parse_name(image.facts["stem"])
        except ValueError as error:
            left.append(image.left_out("files", f"not a name as BIDS makes them: {error}"))
            continue
        if own != suffix and own.lower() == suffix.lower():
            left.append(image.left_out("files", f"its suffix is written {own}, not {suffix}"))
        elif own == suffix:
            fitting.append((replace(image, facts={**image.facts, **entities}), entities))
        else:
            others[own] += 1
    if images and not fitting:
        found = ", ".join(f"{count} {name}" for name, count in others.most_common(6)) or None
        raise UsageError("no image has this suffix", field="--suffix", found=found, expected=suffix)
    chosen: list[CohortImage] = []
    for image, entities in fitting:
        reason = _misplaced(image, entities) or _unwanted(entities, asked)
        if reason:
            left.append(image.left_out("entities", reason))
        else:
            chosen.append(image)
    _check_spaces(chosen)
    free = {key for key, value in asked.items() if value == ANY}
    return _one_a_visit(chosen, free, runs, left), left


def _misplaced(image: CohortImage, entities: Mapping[str, str]) -> str:
    for key, folder in (("sub", image.facts.get("subject", "")), ("ses", image.session)):
        if entities.get(key, "") != folder:
            said = f"{key}-{entities[key]}" if key in entities else f"no {key}"
            return f"its name says {said}, its folder {f'{key}-{folder}' if folder else f'no {key}'}"
    return ""


def _unwanted(entities: Mapping[str, str], asked: Mapping[str, str]) -> str:
    """Why an image is left out by its entities; "" where it is not."""
    for key, value in asked.items():
        own = entities.get(key, "")
        if value != ANY and not same_value(own, value):
            said = f"{key}-{own}" if own else f"no {key}"
            return f"{said}, asked for {key}={value}"
    if "part" not in asked and entities.get("part", "") not in MAGNITUDE:
        return f"part-{entities['part']}: no magnitudes; --entity part={entities['part']} takes it"
    for key, meaning in UNLESS_ASKED.items():
        if key not in asked and key in entities:
            return f"{key}-{entities[key]}: {meaning}; --entity {key}={entities[key]} takes it"
    return ""


def _check_spaces(images: Sequence[CohortImage]) -> None:
    spaces = Counter(image.facts.get("space", "") for image in images)
    if len(spaces) > 1:
        found = ", ".join(
            f"{count} {f'space-{name}' if name else 'native'}" for name, count in spaces.items()
        )
        name = max(spaces, key=lambda space: (space != "", spaces[space]))
        raise UsageError(
            "the images lie in several spaces",
            field="--entity",
            found=found,
            expected="one space a source",
            hint=f"Choose with --entity space={name}, or --entity space= for those without",
        )


def _one_a_visit(
    images: Sequence[CohortImage], free: set[str], runs: str, left: list[LeftOut]
) -> list[CohortImage]:
    """One image of every visit and of every value of the free entities, with its further runs if they are
    wanted; the others are added to `left`."""
    visits: dict[tuple[str, ...], list[CohortImage]] = defaultdict(list)
    for image in images:
        kept = (image.facts.get(key, "") for key in sorted(free))
        visits[image.subject, image.session, *kept].append(image)
    taken = []
    for visit in visits.values():
        first, *rest = sorted(visit, key=_rank)
        further = [image for image in rest if _rank(image)[1] == _rank(first)[1]]
        if runs == "first":
            further = []
        taken += [replace(first, runs=tuple(further))] if runs == "mean" else [first, *further]
        stem, choose = first.facts["stem"], "--runs and --entity choose"
        left += [
            image.left_out(ONE_OF_SEVERAL, f"{stem} is taken of this visit; {choose}")
            for image in rest
            if image not in further
        ]
    return taken


def _rank(image: CohortImage) -> tuple[Any, ...]:
    entities, _ = parse_name(image.facts["stem"])
    run = entities.pop("run", "0")
    values = [(key, _natural(value)) for key, value in sorted(entities.items())]
    return len(entities), values, _natural(run), image.name


def _natural(text: str) -> tuple[int, str]:
    return (int(text), "") if text.isdecimal() else (10**9, text)


def labelled(row: Mapping[str, str]) -> dict[str, str]:
    """A table's row with the prefixes that BIDS asks for: some tables say 01 for sub-01."""
    found = {name: row[name] for name in LABELS if row.get(name)}
    return {**row, **{name: LABELS[name] + text.removeprefix(LABELS[name]) for name, text in found.items()}}


def described(specs: Sequence[CovariateSpec], root: Path) -> tuple[list[CovariateSpec], list[str]]:
    """Covariates with the units and levels that participants.json and those of sessions state.

    Units are converted where both are known (months to years), levels give codes and levels that are not
    stated otherwise, and a level's description tells what its code means ("1": "female").

    Returns:
        The covariates, and what was decided that the user should know.

    Raises:
        DataError: A description cannot be read, or states a unit of another kind than the covariate has or
            another description states.
    """
    units, levels = _descriptions(root)
    out: list[CovariateSpec] = []
    notes: list[str] = []
    for spec in specs:
        columns = [spec.column] if isinstance(spec.column, str) else list(spec.column)
        unit = next((units[column] for column in columns if column in units), None)
        stated = next((levels[column] for column in columns if column in levels), None)
        spec = _with_unit(spec, *unit, notes) if unit else spec
        out.append(_with_levels(spec, stated) if stated else spec)
    return out, notes


def _descriptions(root: Path) -> tuple[dict[str, tuple[str, Path]], dict[str, Any]]:
    """Column -> its stated unit with the file that states it, and column -> its stated levels."""
    units: dict[str, tuple[str, Path]] = {}
    levels: dict[str, Any] = {}
    for path in (path for text in DESCRIPTIONS for path in sorted(root.glob(text))):
        for column, entry in _description(path).items():
            if not isinstance(entry, Mapping):
                continue
            unit = entry.get("Units")
            if isinstance(unit, str) and unit.strip():
                first, place = units.setdefault(column, (unit.strip(), path))
                if first != unit.strip() and (known_unit(first) or first) != known_unit(unit):
                    raise DataError(
                        "states another unit than another description of this column",
                        file=path,
                        field=column,
                        found=repr(unit),
                        expected=f"{first!r}, as in {place.name}",
                        hint="Make them and the tables agree",
                    )
            if entry.get("Levels"):
                levels.setdefault(column, entry["Levels"])
    return units, levels


def _description(path: Path) -> Mapping[str, Any]:
    try:
        document = parse_json(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError) as error:
        raise DataError(f"cannot be read as JSON: {error}", file=path, hint="Correct or remove it") from None
    if not isinstance(document, Mapping):
        raise DataError("is no JSON object", file=path, hint="Correct or remove it")
    return document


def _with_unit(spec: CovariateSpec, stated: str, path: Path, notes: list[str]) -> CovariateSpec:
    covariate = spec.covariate
    if not covariate.is_continuous:
        return spec
    if not covariate.unit:
        covariate = replace(covariate, unit=stated)
        return replace(spec, covariate=covariate, range=spec.range or PLAUSIBLE.get(stated))
    if spec.factor != 1.0 or stated == covariate.unit:
        return spec
    theirs, ours = known_unit(stated), known_unit(covariate.unit)
    if theirs is None or ours is None:
        notes.append(f"{covariate.name}: {path.name} says {stated!r}; taken as {covariate.unit} unchanged")
        return spec
    if theirs[0] != ours[0]:
        raise DataError(
            "states a unit of another kind",
            file=path,
            field=str(spec.column),
            found=repr(stated),
            expected=covariate.unit,
            hint="Correct it, or state another unit with --covariate",
        )
    return replace(spec, factor=theirs[1] / ours[1])


def _with_levels(spec: CovariateSpec, stated: Any) -> CovariateSpec:
    if not isinstance(stated, Mapping | list) or spec.covariate.is_continuous:
        return spec
    pairs = stated.items() if isinstance(stated, Mapping) else ((level, "") for level in stated)
    said = {str(key): str(text).strip() for key, text in pairs if not is_missing(str(key))}
    if spec.codes:
        meant = {key: _meaning(spec.codes, text) for key, text in said.items()}
        return replace(spec, codes={**{k: v for k, v in meant.items() if v is not None}, **spec.codes})
    if spec.covariate.kind == "binary":
        names = _in_their_order(spec.covariate, list(said))
        return spec.with_levels(names, _short([said[name] for name in names])) if len(said) == 2 else spec
    if not spec.covariate.levels and len(said) > 1:
        return replace(spec, covariate=replace(spec.covariate, levels=tuple(said)))
    return spec


def _in_their_order(covariate: Covariate, names: list[str]) -> list[str]:
    """Levels as listed; those that mean 0 and 1 by themselves, such as "yes" and "no", in that order."""
    try:
        values = [covariate.parse(name) for name in names]
    except UsageError:
        return names
    return sorted(names, key=covariate.parse) if sorted(values) == [0.0, 1.0] else names


def _short(texts: Sequence[str]) -> Sequence[str]:
    """The descriptions of two levels where they can be their names: "female" and "male" of 1 and 2."""
    usable = len(set(texts)) == 2 and all(re.fullmatch(r"[^\W\d][\w-]{0,15}", text) for text in texts)
    return texts if usable else ()


def _meaning(codes: Mapping[str, str], text: str) -> str | None:
    """The code's value that a level's description has as a word: "female" of "Female participant"."""
    if text in codes:
        return codes[text]
    words = re.split(r"\W+", text.casefold())
    return next((value for code, value in codes.items() if len(code) > 1 and code.casefold() in words), None)
