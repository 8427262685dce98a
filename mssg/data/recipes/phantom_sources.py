"""What phantoms of every organ share: drawing many people on several processes, writing
sources, and copying their studies."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mssg import assets
from mssg.data.dataset_writer import check_target, write_packed
from mssg.data.draft import write_draft
from mssg.data.split import SPLITS, Shares, assign_sources, split_subjects
from mssg.errors import UsageError
from mssg.processes import worker_pool

HALVES = ("a", "b")
"""The sources among which people are divided; `all` holds everybody, `b2` those of b on another device."""
CHUNK = 50
Progress = Callable[[int], None]


@dataclass(frozen=True)
class PreparedPhantoms:
    """What was prepared: folder, images by source and split, and the mean distance of what the table holds
    from the drawn targets (empty where the table holds what was drawn)."""

    folder: Path
    counts: dict[str, dict[str, int]]
    mean_error: dict[str, float]


def divide_people(
    out: Path, prefix: str, subjects: int, *, seed: int, shares: Shares
) -> tuple[list[str], NDArray[np.str_], NDArray[np.int64]]:
    """Name people and divide them, before any work is done.

    Args:
        out: Folder to write their sources in.
        prefix: Of their names.
        subjects: How many people.
        seed: Of both divisions.

    Returns:
        Of each person: name, split, and the number of one of `HALVES`.

    Raises:
        UsageError: Fewer than two people.
        DataError: A folder that cannot be written.
    """
    if subjects < 2:
        raise UsageError("too few subjects", field="subjects", found=subjects, expected="2 or more")
    for name in (*HALVES, "all", "b2"):
        check_target(out / name)
    names = [f"{prefix}-{i:05d}" for i in range(subjects)]
    return names, split_subjects(names, seed, shares), assign_sources(names, [1.0] * len(HALVES), seed)


def draw_people(
    draw: Callable[[list[str]], list[Any]],
    start: Callable[..., None],
    arguments: Sequence[Any],
    people: Sequence[str],
    workers: int,
    progress: Progress | None,
) -> list[Any]:
    """Draw everybody, in order, `CHUNK` at a time.

    Args:
        draw: Draws some people: one thing for each name.
        start: Called once in each process, before `draw`, with `arguments`.
        arguments: What every process needs.
        people: Names.
        progress: Called with the number of people done since the last call.
    """
    jobs = [list(people[i : i + CHUNK]) for i in range(0, len(people), CHUNK)]
    drawn: list[Any] = []

    def collect(results: Iterable[list[Any]]) -> None:
        for part in results:
            drawn.extend(part)
            if progress:
                progress(len(part))

    if workers > 1:
        with worker_pool(workers, start, tuple(arguments)) as pool:
            collect(pool.map(draw, jobs))
    else:
        start(*arguments)
        collect(map(draw, jobs))
    return drawn


def write_sources(
    out: Path,
    sources: Iterable[tuple[str, NDArray[np.bool_], int, Sequence[str]]],
    info: Mapping[str, Any],
    *,
    device: str,
    person: NDArray[np.intp],
    split: NDArray[np.str_],
    images: Callable[[NDArray[np.intp], int], NDArray[np.uint8]],
    table: Callable[[NDArray[np.intp]], Mapping[str, Any]],
) -> dict[str, dict[str, int]]:
    """Write each source.

    Args:
        out: Folder to write them in.
        sources: Name, who is in it [people], the number of the device that took its images, what it records.
        info: What all say of themselves.
        device: What takes images: "scanner" or "camera".
        person: Whose each image is [N].
        split: Split of each person [people].
        images, table: Of the images of these numbers: taken by a device [n, C, H, W], and their columns.

    Returns:
        Images by source and split.

    Raises:
        UsageError: A source that nobody is in.
        DataError: A folder that cannot be written.
    """
    counts = {}
    for name, who, number, observes in sources:
        if not who.any():
            raise UsageError("too few subjects to fill every source", field=name, found=len(who))
        mine = np.flatnonzero(who[person])
        own = {"source": name, "observes": list(observes), device: number + 1}
        write_packed(out / name, images(mine, number), table(mine), {**info, **own})
        counts[name] = {s: int(np.sum(split[person[mine]] == s)) for s in SPLITS}
    return counts


def copy_studies(studies: Mapping[str, str], out: Path, change: Callable[[str], str]) -> None:
    """Copy shipped study TOMLs beside the sources they point at.

    Args:
        studies: File to write -> shipped study.
        change: What is to be changed in a study's text.
    """
    for target, shipped in studies.items():
        text = assets.path(f"studies/{shipped}").read_text(encoding="utf-8")
        write_draft(out / target, change(text))
