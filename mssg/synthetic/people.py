"""Who is in a synthetic cohort: person i is a function of the snapshot, the request, the seed and i, whoever
asks.

Source: docs/guide/cohorts.md.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from mssg.checkpoint.header import Header
from mssg.covariates.support import percentile_among
from mssg.errors import UsageError
from mssg.rendering.request import MAX_SEED, RenderRequest
from mssg.rendering.volume import check_volume
from mssg.study.covariate import Covariate
from mssg.study.values import find_covariate
from mssg.synthetic.matching import MatchedTable

MOST_DRAWS = 1000
"""Draws of one person before a request counts as impossible."""
DIGITS = 7
"""Significant digits of drawn values: a table states them in full."""
LARGEST = 10**9
"""Numbers of people end here."""


@dataclass(frozen=True)
class CohortRequest:
    """Which people are wanted.

    Attributes:
        first: Number of the first.
        seed: Of everything drawn.
        given: (covariate, native value) that all share.
        uniform: (continuous covariate, low, high): even between these instead of as in the population.
        balance: Covariates with levels that are all as frequent; combinations of them likewise.
        match: One person for each row of a table; what is missing there is drawn given the rest.
        within_support: People below this support percentile are drawn again; 0 keeps all.
        picture: What all pictures share: truncation, noise, mixing, precision.
        volumes: Whole heads in place of slices, of a study whose slices lie at many places.
    """

    n: int
    first: int = 0
    seed: int = 0
    given: tuple[tuple[str, float], ...] = ()
    uniform: tuple[tuple[str, float, float], ...] = ()
    balance: tuple[str, ...] = ()
    match: MatchedTable | None = None
    within_support: float = 0.0
    picture: RenderRequest = field(default_factory=RenderRequest)
    volumes: bool = False

    @property
    def indices(self) -> range:
        """Numbers of the people."""
        return range(self.first, self.first + self.n)


@dataclass(frozen=True)
class Person:
    """One synthetic person.

    Attributes:
        values: Every condition in native units, in the study's order.
        support: Support percentile of these values; None where the snapshot holds no densities.
        draw: How often they had been drawn before.
    """

    index: int
    values: tuple[float, ...]
    support: float | None
    draw: int
    request: RenderRequest

    @property
    def id(self) -> str:
        """Their id, which no real person has."""
        return person_id(self.index)


def person_id(index: int) -> str:
    """The id of a number: sub-syn000123."""
    return f"sub-syn{index:06d}"


class People:
    """The people of a request, one at a time.

    Raises:
        UsageError: A name, value or number that cannot be.
    """

    def __init__(self, header: Header, request: CohortRequest) -> None:
        self.header, self.study, self.request = header, header.study, request
        names = self.study.condition_names
        points = (header.summary.get("log_density") or {}).get("percentiles") or ()
        self._percentiles: Sequence[float] = points if len(points) > 1 else ()
        _check_numbers(request, bool(self._percentiles))
        self._check_names()
        self._fixed = [(names.index(name), value) for name, value in request.given]
        self._spans = [
            (self._column(name, True), self._bound(name, low), self._bound(name, high))
            for name, low, high in request.uniform
        ]
        for name, low, high in request.uniform:
            if not low < high:
                raise UsageError("not a range", field=name, found=f"{low:g}:{high:g}", expected="LOW:HIGH")
        self._levels = [self._column(name, False) for name in request.balance]
        if request.match:
            self._matched = [names.index(name) for name in request.match.names]

    def person(self, index: int, draw: int = 0) -> Person:
        """One person.

        Args:
            draw: The first draw to consider: those before were turned down.

        Raises:
            UsageError: No draw is within the support.
        """
        best = 0.0
        for number in range(draw, draw + MOST_DRAWS):
            person = self._drawn(index, number)
            if not self.request.within_support or (person.support or 0) >= self.request.within_support:
                return person
            best = max(best, person.support or 0)
        raise UsageError(
            f"no draw of {MOST_DRAWS} of person {index} is within the support",
            field="within_support",
            found=f"percentile {best:.2g} at best",
            expected=f"{self.request.within_support:g} or more",
            hint="State values nearer to the training data, or ask for less support",
        )

    def _drawn(self, index: int, draw: int) -> Person:
        rng = np.random.default_rng([self.request.seed, index, draw])
        latent = int(rng.integers(MAX_SEED, endpoint=True))
        row = np.full((1, len(self.study.conditions)), np.nan)
        if self.study.position and self.study.geometry:
            row[0, self.study.index(self.study.position)] = self.study.geometry.position_mm or 0.0
        for column, value in self._fixed:
            row[0, column] = value
        for column, low, high in self._spans:
            row[0, column] = rng.uniform(low, high)
        cell = index
        for column in self._levels:
            cell, row[0, column] = divmod(cell, self.study.conditions[column].num_levels)
        if self.request.match:
            row[0, self._matched] = self.request.match.values[index]
        stated = ~np.isnan(row[0])
        stated[[column for column, *_ in self._spans]] = False
        row = self.header.models.complete(row, rng)
        row[0, ~stated] = [rounded(value) for value in row[0, ~stated].tolist()]
        values: list[float] = row[0].tolist()
        picture = replace(
            self.request.picture,
            seed=self.request.picture.seed if _has_latent(self.request.picture) else latent,
            covariates=tuple(zip(self.study.condition_names, values)),
        )
        return Person(index, tuple(values), self._support(row), draw, request=picture)

    def _support(self, row: np.ndarray) -> float | None:
        if not self._percentiles:
            return None
        density = self.header.models.log_density(self.header.models.without_place(row))
        return round(float(percentile_among(density, self._percentiles)[0]), 2)

    def _column(self, name: str, continuous: bool) -> int:
        covariate = find_covariate(self.study, name)
        if covariate.is_continuous != continuous:
            hint = f"--balance {name}" if continuous else f"--uniform {name}=LOW:HIGH"
            raise UsageError(
                "has levels, which can be balanced" if continuous else "has no levels to balance",
                field=name,
                hint=f"On the command line that is {hint}",
            )
        return self.study.index(name)

    def _bound(self, name: str, value: float) -> float:
        return find_covariate(self.study, name).parse(repr(float(value)))

    def _check_names(self) -> None:
        wanted = self.request
        named = [*(name for name, *_ in (*wanted.given, *wanted.uniform)), *wanted.balance]
        named += wanted.match.names if wanted.match else ()
        if wanted.volumes and check_volume(self.study) in named:
            raise UsageError("a volume has every place", field=self.study.position, hint="Leave it out")
        for name in named:
            find_covariate(self.study, name)
            if named.count(name) > 1:
                raise UsageError("stated twice", field=name, hint="Give, spread, balance or match it once")
        for name, value in wanted.given:
            _check_value(self.study.covariate(name), value)


def rounded(value: float) -> float:
    """A value with as many digits as a table states."""
    return float(f"{value:.{DIGITS}g}")


def _has_latent(picture: RenderRequest) -> bool:
    """Whether people share a latent instead of having a seed each."""
    return bool(picture.latent or picture.blend)


def _check_value(covariate: Covariate, value: float) -> None:
    known = math.isfinite(value)
    if covariate.is_continuous:
        covariate.parse(repr(float(value)))
    elif not (known and float(value).is_integer() and 0 <= value < covariate.num_levels):
        raise UsageError("no such level", field=covariate.name, found=value)


def _check_numbers(wanted: CohortRequest, densities: bool) -> None:
    for name, value, least, most in (
        ("n", wanted.n, 1, LARGEST),
        ("first", wanted.first, 0, LARGEST),
        ("seed", wanted.seed, 0, MAX_SEED),
    ):
        _check_whole(name, value, least, most)
    if wanted.match and wanted.first + wanted.n > len(wanted.match.values):
        raise UsageError(
            "the table has fewer rows",
            file=wanted.match.file or None,
            field="match",
            found=f"{len(wanted.match.values)} rows",
            expected=f"{wanted.first + wanted.n} or more",
            hint="The number of people comes from the table: leave it out",
        )
    share = wanted.within_support
    if isinstance(share, bool) or not isinstance(share, int | float) or not 0 <= share < 100:
        raise UsageError(
            "not a percentile", field="within_support", found=repr(share), expected="0 to below 100"
        )
    if share and not densities:
        raise UsageError(
            "this snapshot holds no densities of its training data",
            field="within_support",
            hint="Models that were imported have no training data: leave it out",
        )
    if wanted.picture.layer is not None:
        raise UsageError("a cohort holds pictures, no layer's activations", field="layer")


def _check_whole(name: str, value: Any, least: int, most: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
        raise UsageError(
            "out of range", field=name, found=repr(value), expected=f"a whole number from {least} to {most}"
        )
