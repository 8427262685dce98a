"""Which files are a cohort's images, and whose: found in a folder, or named by a table. Nothing outside the
folder is read, unless another one is allowed."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from mssg.data.cohort import (
    CohortImage,
    CohortMap,
    LeftOut,
    chosen,
    fill,
    first_filled,
    names_in,
    pattern,
    texts,
)
from mssg.errors import DataError
from mssg.study.cells import is_missing

STEM = r"(\.nii)?\.[^.]*$"
"""What a file's name has beyond its stem: .nii.gz, .mgz, .jpeg."""
LEFT = ("left", "l", "os", "le", "og", "gauche", "oi", "la", "links")
RIGHT = ("right", "r", "od", "re", "droit", "droite", "ra", "rechts")
"""How the profession writes a side: oculus sinister, dexter, left and right eye, in four languages."""


def find(
    root: Path,
    cohort: CohortMap,
    variant: str = "",
    suffixes: Sequence[str] = (),
    allowed: Sequence[Path] = (),
) -> tuple[list[CohortImage], list[LeftOut]]:
    """List a folder's images, in order of their names.

    Args:
        cohort: Its map; a map that takes its images from a table's column is not meant here.
        suffixes: What image files end in: others that fit the pattern are left out silently.
        allowed: Further folders that links may lead to.

    Returns:
        Images, and what was left out with its reason.

    Raises:
        DataError: No such folder, or no file fits.
    """
    if not root.is_dir():
        raise DataError(
            "no such folder" if not root.exists() else "not a folder",
            file=root,
            expected="the images' folder",
        )
    wanted = [pattern(text) for text in chosen(cohort.pattern, {"variant": variant})]
    search, homes = re.compile(cohort.id).search, [path.resolve() for path in (root, *allowed)]
    images: list[CohortImage] = []
    left: list[LeftOut] = []
    for path in walk(root, left):
        name = path.relative_to(root).as_posix()
        if not any(p.fullmatch(name) for p in wanted) or (
            suffixes and not name.lower().endswith(tuple(suffixes))
        ):
            continue
        match = search(name)
        if not match:
            left.append(LeftOut(name, "files", f"the name does not fit the cohort's id: {cohort.id}"))
            continue
        problem = unreadable(path, homes)
        if problem:
            left.append(LeftOut(name, "files", problem))
            continue
        facts = {k: v or "" for k, v in match.groupdict().items()} | {"variant": variant}
        image = _image(path, name, facts, cohort, cells={})
        (left if isinstance(image, LeftOut) else images).append(image)  # type: ignore[arg-type]
    if not images and not left:
        shown = " | ".join(chosen(cohort.pattern, {"variant": variant}))
        raise DataError(
            "no file fits the cohort's pattern",
            file=root,
            expected=shown,
            hint="Check the folder, or give another --cohort",
        )
    return sorted(images, key=lambda image: image.name), left


def _image(
    path: Path, name: str, facts: dict[str, str], cohort: CohortMap, cells: Mapping[str, str]
) -> CohortImage | LeftOut:
    """The image that a file is, by what its name or its row says; or why it is none."""
    for fact, codes in cohort.codes.items():
        facts[fact] = codes.get(facts.get(fact, ""), "")
        if not facts[fact]:
            return LeftOut(name, "files", f"its name says no {fact}: {' | '.join(codes)}")
    if cohort.kind == "fundus" and "side" in facts:
        stated = not is_missing(facts["side"])
        side = side_of(facts["side"])
        if stated and not side:
            known = ", ".join((*LEFT, *RIGHT))
            return LeftOut(
                name, "files", f"side: {facts['side']!r} is not understood, expected one of {known}"
            )
        facts["side"] = side
    subject, templates = first_filled(cohort.subject, facts), texts(cohort.subject)
    if not subject and all(set(names_in(template)) <= set(facts) for template in templates):
        return LeftOut(name, "files", f"its subject is not known: {' | '.join(templates)}")
    session = fill(cohort.session, facts) or "" if cohort.session else ""
    folder, _, file = name.rpartition("/")
    facts |= {"folder": folder or ".", "stem": re.sub(STEM, "", file)}
    facts["subject"] = facts.get("subject") or subject
    return CohortImage(path, name, subject, session, facts=facts, cells=dict(cells))


def side_of(text: str) -> str:
    """ "left" or "right" from what the profession writes; "" where it is neither."""
    word = re.sub(r"[.\s_-]", "", text).lower().removesuffix("eye")
    return "left" if word in LEFT else "right" if word in RIGHT else ""


def from_rows(
    rows: Iterable[tuple[int, Mapping[str, str]]],
    table: Path,
    roots: Sequence[Path],
    cohort: CohortMap,
    variant: str = "",
) -> tuple[list[CohortImage], list[LeftOut]]:
    """Images that a table names, in its order; every cell of a row becomes a fact of its image.

    Args:
        rows: Line numbers and cells.
        table: The table's file, for messages.
        roots: Folders that no path may leave; a relative one starts at the first that has it.
        cohort: A map with files.column.
    """
    images: list[CohortImage] = []
    left: list[LeftOut] = []
    homes, seen = [root.resolve() for root in roots], dict[Path, int]()
    for line, row in rows:
        text = row.get(cohort.column, "")
        name = text or f"{table.name}, line {line}"
        if not text:
            left.append(LeftOut(name, "table", f"no path in column {cohort.column}"))
            continue
        if "\0" in text:
            left.append(LeftOut(name, "files", "the path is not usable"))
            continue
        path = first_that_has(roots, text)
        if path in seen:
            left.append(LeftOut(name, "table", f"named twice: lines {seen[path]} and {line}"))
            continue
        seen[path] = line
        problem = unreadable(path, homes)
        if problem:
            left.append(LeftOut(name, "files", problem))
            continue
        facts = {**row, "variant": variant, "line": str(line), "table": table.name}
        image = _image(path, name, facts, cohort, cells=row)
        (left if isinstance(image, LeftOut) else images).append(image)  # type: ignore[arg-type]
    return images, left


def unreadable(path: Path, homes: Sequence[Path]) -> str:
    """Why a file must or can not be read; "" where it may.

    Args:
        homes: Folders, resolved, of which one must hold what it leads to.
    """
    try:
        real = path.resolve(strict=True)
    except FileNotFoundError:
        return "a link to a file that is not there" if path.is_symlink() else "no such file"
    except (OSError, RuntimeError) as error:
        text = getattr(error, "strerror", None) or str(error)
        return f"cannot be followed: {text}"
    if not any(real.is_relative_to(home) for home in homes):
        place = f"leads outside the folder {homes[0].name}, to {real.parent}"
        return f"{place}; --root FOLDER allows what lies there"
    return "" if real.is_file() else "not a file"


def walk(root: Path, left: list[LeftOut]) -> Iterator[Path]:
    """Files below a folder, without those in hidden folders (.git, .datalad); links to folders are followed
    after all else, and only where nothing has been before.

    Args:
        left: What cannot be listed, links that lead in circles, and names that are no text are added here.
    """
    seen, links, stack = {root.resolve()}, [], [root]
    while stack or links:
        folder = stack.pop() if stack else links.pop(0)
        name = folder.relative_to(root).as_posix()
        try:
            real = folder.resolve(strict=True)
            if folder != root and real in seen:
                left.append(LeftOut(name, "files", "a link to a folder that is searched already"))
                continue
            seen.add(real)
            entries = sorted(os.scandir(folder), key=lambda entry: entry.name, reverse=True)
        except (OSError, RuntimeError) as error:
            text = getattr(error, "strerror", None) or str(error)
            left.append(LeftOut(name, "files", f"cannot be listed: {text}"))
            continue
        for entry in entries:
            path = Path(entry.path)
            try:
                entry.name.encode()
                is_folder = entry.is_dir()
            except UnicodeEncodeError:
                left.append(LeftOut(path.relative_to(root).as_posix(), "files", "its name is not UTF-8"))
                continue
            except OSError as error:
                reason = f"cannot be followed: {error.strerror}"
                left.append(LeftOut(path.relative_to(root).as_posix(), "files", reason))
                continue
            if not is_folder:
                yield path
            elif not entry.name.startswith("."):
                (links if entry.is_symlink() else stack).append(path)


def first_that_has(roots: Sequence[Path], text: str) -> Path:
    """A path that starts at the first of some folders that has it; where none has, at the first."""
    places = [Path(os.path.normpath(root / text)) for root in roots]
    return next((place for place in places if os.path.lexists(place)), places[0])


def further_file(image: CohortImage, template: str, what: str, roots: Sequence[Path]) -> Path | None:
    """A further file of an image: mask, bias field or label map; None where none is asked for.

    Args:
        template: Relative to the folders, with {names} of facts, and * and ?; "" for none.
        what: For messages.
        roots: Folders that may be read; the first that has a file is taken.

    Raises:
        DataError: It is not there, there are several, or it lies outside the folders.
    """
    if not template:
        return None
    text = fill(template, image.facts)
    if not text:
        raise DataError(f"no {what}", found=f"nothing for {template}")
    path = first_that_has(roots, text)
    if any(mark in text for mark in "*?"):
        hits = next((found for root in roots if (found := _matches(root, text))), [])
        if len(hits) != 1:
            raise DataError(
                f"no {what}" if not hits else f"several files could be the {what}",
                found=len(hits),
                expected=text,
            )
        path = hits[0]
    problem = unreadable(path, [root.resolve() for root in roots])
    if problem:
        raise DataError(f"{what}: {problem}", found=text)
    return path


def _matches(root: Path, text: str) -> list[Path]:
    """Files below a folder whose relative name fits a text with * and ?."""
    fits = pattern(text.removeprefix("./"))
    start = root / re.split(r"[*?]", text)[0].rpartition("/")[0]
    return [path for path in sorted(start.rglob("*")) if fits.fullmatch(path.relative_to(root).as_posix())]
