"""What phantoms of every organ share: drawing many people on several processes, and copying their studies."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mssg import assets
from mssg.data.draft import write_draft
from mssg.processes import worker_pool

TEST_SHARE, VAL_SHARE = 0.15, 0.1
CHUNK = 50
Progress = Callable[[int], None]


@dataclass(frozen=True)
class PreparedPhantoms:
    """What was prepared: folder, images by source and split, and the mean distance of what the table holds
    from the drawn targets (empty where the table holds what was drawn)."""

    folder: Path
    counts: dict[str, dict[str, int]]
    mean_error: dict[str, float]


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
        workers: Processes.
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


def copy_studies(studies: Mapping[str, str], out: Path, change: Callable[[str], str]) -> None:
    """Copy shipped study TOMLs beside the sources they point at.

    Args:
        studies: File to write -> shipped study.
        out: The folder.
        change: What is to be changed in a study's text.
    """
    for target, shipped in studies.items():
        text = assets.path(f"studies/{shipped}").read_text(encoding="utf-8")
        write_draft(out / target, change(text))
