"""Are the splits of small studies what was asked for? A hash divides people by chance: of 80, a share of 15 %
may come out as 8 %. The hash stays; what is off is told, with a seed that fits."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mssg.data.dataset import INFO, TABLE
from mssg.data.split import SPLITS, Shares, assign_sources, split_subjects
from mssg.data.table import read_table
from mssg.errors import MssgError
from mssg.files import parse_json

FEWEST_PEOPLE = 5
MOST_OFF = 1 / 3
"""Of a split's share that it may miss."""
SEEDS = 1000
"""Seeds that are tried."""
MOST_HASHES = 3_000_000


@dataclass(frozen=True)
class Population:
    """People who were divided into splits, and perhaps among sources.

    Attributes:
        name: Of the source that holds them all.
        subjects: Each once.
        seed: The split's, and the division's.
        parts: Names of the sources among which they are divided.
    """

    name: str
    subjects: tuple[str, ...]
    seed: int
    asked: Shares
    parts: tuple[str, ...] = ()

    @property
    def shares(self) -> dict[str, float]:
        """The share of all people that each split should hold."""
        test, val = self.asked.test, (1 - self.asked.test) * self.asked.val
        return dict(zip(SPLITS, (1 - test - val, val, test)))

    def misses(self, seed: int) -> Iterator[str]:
        """What is off with a seed, in words, source by source; nothing of a single person, whom no seed
        divides."""
        if len(self.subjects) == 1:
            return
        split = split_subjects(self.subjects, seed, self.asked)
        homes = {self.name: np.ones(len(split), bool)}
        if self.parts:
            home = assign_sources(self.subjects, [1.0] * len(self.parts), seed)
            homes |= {part: home == number for number, part in enumerate(self.parts)}
        for name, mine in homes.items():
            for which, share in self.shares.items():
                n, people = int((split[mine] == which).sum()), int(mine.sum())
                if share and (n < FEWEST_PEOPLE or abs(n - share * people) > MOST_OFF * share * people):
                    yield f"{name}: {which} holds {n} of {people} people, {share:.0%} asked for"

    @property
    def can_fit(self) -> bool:
        """Whether there are people enough that any seed could fit."""
        most = len(self.subjects) / max(len(self.parts), 1) * (1 + MOST_OFF)
        return all(not share or most * share >= FEWEST_PEOPLE for share in self.shares.values())


def populations(out: Path) -> list[Population]:
    """The populations of all prepared sources in a folder that say how they were split."""
    found: dict[str, Population] = {}
    for folder in sorted(path.parent for path in out.glob(f"*/{INFO}")):
        try:
            info = parse_json((folder / INFO).read_bytes())
            subjects = tuple(dict.fromkeys(read_table(folder / TABLE)["subject"]))
            population = Population(
                name=folder.name,
                subjects=subjects,
                seed=int(info["seed"]),
                asked=Shares(float(info["shares"]["test"]), float(info["shares"]["val"])),
                parts=tuple(str(part) for part in info.get("divided", ())),
            )
        except (MssgError, OSError, KeyError, TypeError, ValueError):
            continue  # another's source, or an older one: it says nothing of its split
        found[folder.name] = population
    divided = {part for population in found.values() for part in population.parts}
    return [population for name, population in found.items() if name not in divided]


def advice(out: Path) -> list[str]:
    """What is off with the splits of a folder's prepared sources, and the smallest seed with which nothing
    is."""
    people = populations(out)
    wrong = [miss for population in people for miss in population.misses(population.seed)]
    return [*wrong, _remedy(people)] if wrong else []


def _remedy(people: Sequence[Population]) -> str:
    larger = "ask for a larger --test or --val"
    if few := [population.name for population in people if not population.can_fit]:
        return f"no --seed gives {', '.join(few)} {FEWEST_PEOPLE} people in each split: {larger}"
    hashes = sum(len(population.subjects) * (1 + bool(population.parts)) for population in people)
    tried = min(SEEDS, max(1, MOST_HASHES // hashes))
    for seed in range(tried):
        if not any(True for population in people for _ in population.misses(seed)):
            return f"the smallest seed that fits all sources in this folder: --seed {seed}, for each of them"
    return f"none of the seeds below {tried} fits all sources in this folder: {larger}"
