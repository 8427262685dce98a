"""Which files are a cohort's images, and whose: found in a folder, or named by a table. Nothing outside the
folder is read."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from mssg.data.cohort import Cohort, CohortImage, LeftOut, chosen, fill, pattern
from mssg.errors import DataError

STEM = r"(\.nii)?\.[^.]*$"
"""What a file's name has beyond its stem: .nii.gz, .mgz, .jpeg."""


def find(
    root: Path, cohort: Cohort, variant: str = "", suffixes: Sequence[str] = ()
) -> tuple[list[CohortImage], list[LeftOut]]:
    """List a folder's images, in order of their names.

    Args:
        root: The folder.
        cohort: Its map; a map that takes its images from a table's column is not meant here.
        variant: One of its variants.
        suffixes: What image files end in: others that fit the pattern are left out silently.

    Returns:
        Images, and what was left out with its reason.

    Raises:
        DataError: No such folder, or no file fits.
    """
    if not root.is_dir():
        raise DataError("no such folder", file=root, expected="the folder of the images")
    wanted = [pattern(text) for text in chosen(cohort.pattern, {"variant": variant})]
    search, home = re.compile(cohort.id).search, root.resolve()
    found: list[CohortImage] = []
    skips: list[LeftOut] = []
    for path in walk(root, skips):
        name = path.relative_to(root).as_posix()
        if not any(p.fullmatch(name) for p in wanted) or (
            suffixes and not name.lower().endswith(tuple(suffixes))
        ):
            continue
        match = search(name)
        if not match:
            skips.append(LeftOut(name, "files", f"the name does not fit the cohort's id: {cohort.id}"))
            continue
        problem = outside(path, home)
        if problem:
            skips.append(LeftOut(name, "files", problem))
            continue
        facts = {k: v or "" for k, v in match.groupdict().items()} | {"variant": variant}
        _add(path, name, facts, cohort, found, skips)
    if not found and not skips:
        shown = " | ".join(chosen(cohort.pattern, {"variant": variant}))
        raise DataError(
            "no file fits the cohort's pattern",
            file=root,
            expected=shown,
            hint="Check the folder, or give another --cohort",
        )
    return sorted(found, key=lambda image: image.name), skips


def _add(
    path: Path,
    name: str,
    facts: dict[str, str],
    cohort: Cohort,
    found: list[CohortImage],
    skips: list[LeftOut],
    cells: Mapping[str, str] | None = None,
) -> None:
    for fact, codes in cohort.codes.items():
        facts[fact] = codes.get(facts.get(fact, ""), "")
        if not facts[fact]:
            skips.append(LeftOut(name, "files", f"its name says no {fact}: {' | '.join(codes)}"))
            return
    subject = fill(cohort.subject, facts)
    if not subject:
        skips.append(LeftOut(name, "files", f"its subject is not known: {cohort.subject}"))
        return
    session = fill(cohort.session, facts) or "" if cohort.session else ""
    folder, _, file = name.rpartition("/")
    facts |= {"folder": folder or ".", "stem": re.sub(STEM, "", file)}
    found.append(
        CohortImage(
            path,
            name,
            subject,
            session,
            facts | {"subject": facts.get("subject") or subject},
            dict(cells or {}),
        )
    )


def from_rows(
    rows: Iterable[tuple[int, Mapping[str, str]]], table: Path, root: Path, cohort: Cohort, variant: str = ""
) -> tuple[list[CohortImage], list[LeftOut]]:
    """Images that a table names, in its order; every cell of a row becomes a fact of its image.

    Args:
        rows: Line numbers and cells.
        table: The table's file, for messages.
        root: The folder that relative paths start at and none may leave.
        cohort: A map with files.column.
        variant: One of its variants.
    """
    found: list[CohortImage] = []
    skips: list[LeftOut] = []
    home, seen = root.resolve(), dict[Path, int]()
    for line, row in rows:
        text = row.get(cohort.column, "")
        name = text or f"{table.name}, line {line}"
        if not text:
            skips.append(LeftOut(name, "table", f"no path in column {cohort.column}"))
            continue
        path = Path(os.path.normpath(root / text)) if "\0" not in text else root
        if path in seen:
            skips.append(LeftOut(name, "table", f"named twice: lines {seen[path]} and {line}"))
            continue
        seen[path] = line
        problem = "the path is not usable" if "\0" in text else outside(path, home)
        if problem:
            skips.append(LeftOut(name, "files", problem))
            continue
        facts = {**row, "variant": variant, "line": str(line), "table": table.name}
        _add(path, name, facts, cohort, found, skips, row)
    return found, skips


def outside(path: Path, home: Path) -> str:
    """Why a file must not be read: it is not there, or it lies outside the folder; "" where it may."""
    try:
        real = path.resolve(strict=True)
    except FileNotFoundError:
        return "no such file"
    except (OSError, RuntimeError) as error:
        text = getattr(error, "strerror", None) or str(error)
        return f"cannot be followed: {text}"
    if not real.is_relative_to(home):
        return f"leads outside the folder {home.name}; --root names a folder that holds all images"
    return "" if real.is_file() else "not a file"


def walk(root: Path, skips: list[LeftOut]) -> Iterator[Path]:
    """Files below a folder; links to folders are followed after all else, and only where nothing has been
    before.

    Args:
        root: The folder.
        skips: What cannot be listed, and links that lead in circles, are added here.
    """
    seen, links, stack = {root.resolve()}, [], [root]
    while stack or links:
        folder = stack.pop() if stack else links.pop(0)
        name = folder.relative_to(root).as_posix()
        try:
            real = folder.resolve(strict=True)
            if folder != root and real in seen:
                skips.append(LeftOut(name, "files", "a link to a folder that is searched already"))
                continue
            seen.add(real)
            entries = sorted(os.scandir(folder), key=lambda entry: entry.name, reverse=True)
        except (OSError, RuntimeError) as error:
            text = getattr(error, "strerror", None) or str(error)
            skips.append(LeftOut(name, "files", f"cannot be listed: {text}"))
            continue
        for entry in entries:
            path = Path(entry.path)
            if not path.is_dir():
                yield path
            elif path.is_symlink():
                links.append(path)
            else:
                stack.append(path)
