"""What the training population says about a condition: ranges, histograms, linked movement and support.

Reads a snapshot's header only (numpy; no torch). Source: docs/method/method.md section 3 for the covariate
models.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from explorer_app.request_edits import whole_picture, with_values
from explorer_app.state import GRID_LIMIT, GRID_STEPS, SWEEP_STEPS, Axis, Grid
from mssg.checkpoint.header import Header
from mssg.covariates.support import percentile_among
from mssg.errors import MssgError, UsageError
from mssg.rendering.request import RenderRequest
from mssg.rendering.volume import places_of
from mssg.study.covariate import Covariate
from mssg.study.values import round_values, training_defaults

Values = tuple[tuple[str, float], ...]  # native value of every covariate, in any order

RARE, OUTSIDE = 5.0, 1.0  # percentiles of log-density below which a condition is called rare, outside
FAR = 0.1  # of the training range beyond its ends
_QUANTILE_CLIP = 1e-4
_NO_ANSWER = (MssgError, KeyError, ValueError, ArithmeticError, NotImplementedError)  # of a covariate model


@dataclass(frozen=True)
class Support:
    """How well training data cover a condition.

    `percentile`: of the condition's log-density among training rows, 0..100; `word`: covered | rare | outside
        |
    unknown; `reason`: one sentence for people.
    """

    percentile: float
    word: str
    reason: str


@dataclass(frozen=True)
class LinkedDrag:
    """A drag in linked mode: who is moved, and of each other its conditional quantile, kept, with its value
    at the start."""

    moved: str
    start: float
    values: Values
    quantiles: tuple[tuple[str, float, float], ...]


class TrainingDistribution:
    """Distributions of a snapshot's training data and the covariate models fitted to them.

    Attributes:
        hurried: A first picture is on its way: covariate models, which take long, are asked about no support.
    """

    def __init__(self, header: Header) -> None:
        self.header, self.study, self.path = header, header.study, str(header.path)
        self.hurried = False
        self._summaries: Mapping[str, dict] = header.summary.get("covariates", {})
        density = header.summary.get("log_density", {}) or {}
        self._percentiles = np.asarray(density.get("percentiles", ()), dtype=np.float64)
        self._support_cache: dict[tuple, Support] = {}
        self._percentile_cache: dict[Values, float] = {}
        self._swept: tuple[tuple, tuple[RenderRequest, ...]] | None = None

    @cached_property
    def places(self) -> np.ndarray:
        """Where slices can lie, in millimetres, ascending; none where all lie at one place."""
        if self.study.position is None:
            return np.empty(0)
        try:
            return places_of(self.study, self.header.summary)
        except UsageError:
            return np.empty(0)

    def nearest_place(self, wanted: float) -> float:
        """The place of a slice nearest to some millimetres."""
        return float(self.places[np.abs(self.places - wanted).argmin()])

    def place_ranges(self) -> dict[str, tuple[float, float]]:
        """Source -> first and last place of its slices, in millimetres."""
        found = {}
        for name, source in self.header.summary.get("sources", {}).items():
            table = source.get("covariates", {}).get(self.study.position, {}).get("quantiles") or {}
            if values := table.get("values"):
                found[name] = float(values[0]), float(values[-1])
        return found

    def summary(self, name: str) -> dict:
        """The training summary of a covariate; empty when the snapshot holds none."""
        return dict(self._summaries.get(name) or {})

    def histogram(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        """Edges [B+1] and counts [B] of a covariate's training histogram; empty arrays when unknown."""
        histogram = self.summary(name).get("histogram") or {}
        counts = np.asarray(histogram.get("counts", ()), dtype=np.float64)
        if "edges" in histogram:
            return np.asarray(histogram["edges"], dtype=np.float64), counts
        return np.arange(counts.size + 1) - 0.5, counts

    def range(self, name: str) -> tuple[float, float]:
        """The range of a covariate's control in native units: its training range."""
        covariate = self.study.covariate(name)
        if not covariate.is_continuous:
            return 0.0, float(covariate.num_levels - 1)
        values = (self.summary(name).get("quantiles") or {}).get("values")
        if values:
            low, high = float(values[0]), float(values[-1])
        else:
            low, high = self._range_of_statistics(covariate)
        return (low, high) if high > low else (low - 0.5, low + 0.5)

    def limits(self, name: str) -> tuple[float, float]:
        """What a continuous covariate can mean in this study: its range with as much again on either side;
        nothing negative where the range has nothing negative, nothing outside its logarithm's domain."""
        covariate, (low, high) = self.study.covariate(name), self.range(name)
        least = low - (high - low)
        if low >= 0:
            least = max(0.0, least)
        if covariate.transform == "log":
            least = max(least, (low + covariate.shift) / 100 - covariate.shift)
        return least, high + (high - low)

    def is_far(self, name: str, value: float) -> bool:
        """True for a value further outside the range than a tenth of it."""
        low, high = self.range(name)
        return not low - FAR * (high - low) <= value <= high + FAR * (high - low)

    @staticmethod
    def _range_of_statistics(covariate: Covariate) -> tuple[float, float]:
        offset, spread = covariate.offset or 0.0, covariate.spread or 1.0
        inner = (0.0, 1.0) if covariate.scale == "minmax" else (-3.0, 3.0)
        low, high = (float(covariate.inverse(offset + spread * t)) for t in inner)
        return low, high

    @cached_property
    def _medians(self) -> dict[str, float]:
        try:
            return training_defaults(self.study, self.header.summary)
        except UsageError:  # an imported snapshot, which records no training data
            ranges = {c.name: self.range(c.name) for c in self.study.conditions if c.is_continuous}
            return {n: sum(ranges.get(n, (0.0, 0.0))) / 2 for n in self.study.condition_names}

    def median(self, name: str) -> float:
        """The training median; the commonest level of a discrete covariate."""
        return self._medians[name]

    def defaults(self) -> dict[str, float]:
        """The median of every covariate, in the study's order: those of the command line."""
        return dict(self._medians)

    def default_axis(self, name: str, steps: int = 4) -> Axis:
        """An axis of round values between the training 5 % and 95 % quantiles, or of every level."""
        covariate = self.study.covariate(name)
        if not covariate.is_continuous:
            top = covariate.num_levels - 1
            return Axis(name, 0.0, float(top), max(1, min(GRID_LIMIT, top + 1)))
        table = self.summary(name).get("quantiles")
        low, high = np.interp([0.05, 0.95], table["q"], table["values"]) if table else self.range(name)
        values = round_values(float(low), float(high), steps)
        return Axis(name, values[0], values[-1], steps)

    def fitting(self, grid: Grid) -> Grid:
        """A grid whose axes of levels go no further than the levels there are."""

        def cut(axis: Axis) -> Axis:
            if axis.name not in self.study.condition_names or self.study.covariate(axis.name).is_continuous:
                return axis
            top = float(self.study.covariate(axis.name).num_levels - 1)
            low = float(round(min(max(axis.low, 0.0), top)))
            high = float(round(min(max(axis.high, low), top, low + GRID_LIMIT - 1)))
            return replace(axis, low=low, high=high, steps=round(high - low) + 1)

        return Grid(cut(grid.rows), cut(grid.columns))

    def axes(self) -> dict[str, Axis]:
        """The default grid axis of every covariate: first the two whose combination says most about the
        model.

        These are two that no source recorded together (the paper's Figure 1), else the first two continuous
        ones.
        """
        last = self.study.position
        names = sorted(
            self.study.condition_names, key=lambda n: (n == last, not self.study.covariate(n).is_continuous)
        )
        for name in names:
            apart = [n for n in self.study.never_observed_with(name) if self.study.covariate(n).is_continuous]
            if apart and self.study.covariate(name).is_continuous:
                names = [name, apart[0], *(n for n in names if n not in (name, apart[0]))]
                break
        steps = dict(zip(names, GRID_STEPS))  # the panel is wider than high
        return {name: self.default_axis(name, steps.get(name, 4)) for name in names}

    def start_drag(self, moved: str, values: Values) -> LinkedDrag:
        """Take the conditional quantiles of the other continuous covariates given the moved one."""
        table = dict(values)
        quantiles = []
        if self.study.covariate(moved).is_continuous:
            for covariate in self.study.personal_conditions:
                if covariate.name != moved and covariate.is_continuous:
                    given = {moved: table[moved]}
                    q = self._cdf(covariate.name, table[covariate.name], given)
                    if q is None:
                        continue
                    q = float(np.clip(q, _QUANTILE_CLIP, 1 - _QUANTILE_CLIP))
                    before = self._quantile(covariate.name, q, given)
                    if before is not None:
                        quantiles.append((covariate.name, q, before))
        return LinkedDrag(moved, table[moved], values, tuple(quantiles))

    def resumed_drag(self, last: LinkedDrag | None, moved: str, values: Values) -> LinkedDrag:
        """The last drag again where it led to these values and the same covariate is moved on: what was
        lost at the ends of ranges comes back on the way back."""
        if last is not None and last.moved == moved:
            if self.follow(last, dict(values)[moved]) == dict(values):
                return last
        return self.start_drag(moved, values)

    def follow(self, drag: LinkedDrag, value: float) -> dict[str, float]:
        """Native values after the moved covariate took `value`; at the start value exactly the start's
        values.

        A covariate whose model knows nothing of the moved one stays where it is.
        """
        if value == drag.start:
            return dict(drag.values)
        out = {**dict(drag.values), drag.moved: value}
        for name, q, before in drag.quantiles:
            after = self._quantile(name, q, {drag.moved: value})
            if after is None:
                continue
            start = dict(drag.values)[name]
            covariate = self.study.covariate(name)
            # Moving by the difference of transformed quantiles returns exactly even where a quantile was
            # clipped.
            moved = float(
                covariate.inverse(
                    covariate.forward(start) + covariate.forward(after) - covariate.forward(before)
                )
            )
            low, high = self.range(name)
            if math.isfinite(moved):
                out[name] = start if after == before else float(np.clip(moved, low, high))
        return out

    def sweep(self, request: RenderRequest, name: str, mode: str) -> tuple[RenderRequest, ...]:
        """The pictures of a sweep of one covariate through its training range, everything else held, or
        following it in "linked" mode (the last is kept)."""
        key = request, name, mode
        if self._swept is None or self._swept[0] != key:
            values = Axis(name, *self.range(name), SWEEP_STEPS).values()
            drag = self.start_drag(name, request.covariates) if mode == "linked" else None
            changes = [self.follow(drag, v) if drag else {name: v} for v in values]
            base = whole_picture(request)
            self._swept = key, tuple(with_values(base, **change) for change in changes)
        return self._swept[1]

    def _cdf(self, name: str, value: float, given: Mapping[str, float]) -> float | None:
        try:
            q = float(
                np.ravel(
                    self.header.models.cdf(
                        name, np.array([value]), {k: np.array([v]) for k, v in given.items()}
                    )
                )[0]
            )
        except _NO_ANSWER:
            return None
        return q if math.isfinite(q) else None

    def _quantile(self, name: str, q: float, given: Mapping[str, float]) -> float | None:
        try:
            out = self.header.models.quantile(
                name, np.array([q]), {k: np.array([v]) for k, v in given.items()}
            )
            x = float(np.ravel(out)[0])
        except _NO_ANSWER:
            return None
        return x if math.isfinite(x) else None

    def percentiles(self, rows: Sequence[Values]) -> list[float]:
        """Percentile of the log-density of conditions among training rows, 0..100; NaN where the snapshot
        does not say.

        Many at once cost little more than one (cached).
        """
        cache = self._percentile_cache
        if self.hurried:
            return [math.nan] * len(rows)
        new = list(dict.fromkeys(row for row in rows if row not in cache))
        if new and self._percentiles.size >= 2:
            if len(cache) > 2048:
                cache.clear()
                new = list(dict.fromkeys(rows))
            share = percentile_among(self._density(new), self._percentiles)
            cache.update(zip(new, share.tolist()))
        return [cache.get(row, math.nan) for row in rows]

    def _density(self, rows: Sequence[Values]) -> np.ndarray:
        """Log-density [n]; minus infinity for values a covariate cannot take."""
        models = self.header.models
        try:
            table = np.array([[dict(row)[name] for name in self.study.condition_names] for row in rows])
            return models.log_density(models.without_place(table))
        except (MssgError, ArithmeticError, ValueError):
            return (
                np.concatenate([self._density([r]) for r in rows]) if len(rows) > 1 else np.array([-np.inf])
            )

    def support(self, values: Values, thorough: bool = True) -> Support:
        """How well training data cover a condition (cached).

        Args:
            values: Native values.
            thorough: Look at pairs of covariates too when it has to say why; without, at each alone: much
                quicker.
        """
        found = self._support_cache.get((values, thorough))
        if self.hurried:
            return Support(math.nan, "unknown", "after the first picture")
        if found is None:
            if len(self._support_cache) > 256:
                self._support_cache.clear()
            found = self._support_cache[values, thorough] = self._support(values, thorough)
        return found

    def _support(self, values: Values, thorough: bool) -> Support:
        (percentile,) = self.percentiles([values])
        word = support_word(percentile)
        if word == "unknown":
            return Support(percentile, word, "this snapshot holds no log-densities of its training data")
        if word == "covered":
            return Support(percentile, word, f"more likely than {min(percentile, 99):.0f} % of training rows")
        reason = self._reason(values, thorough)
        return Support(percentile, word, reason or "an unusual combination of all values together")

    def _reason(self, values: Values, thorough: bool) -> str:
        """The most extreme marginal or pairwise conditional position, as a sentence."""
        best, sentence = 0.02, ""
        values = tuple((name, value) for name, value in values if name != self.study.position)
        for name, value in values:
            covariate = self.study.covariate(name)
            if not covariate.is_continuous:
                continue
            table = self.summary(name).get("quantiles")
            if table:
                q = float(np.interp(value, table["values"], table["q"]))
                if min(q, 1 - q) < best:
                    best, sentence = min(q, 1 - q), _sentence(covariate, q)
        for name, value in values if thorough else ():
            covariate = self.study.covariate(name)
            if not covariate.is_continuous:
                continue
            for other, held in values:
                if other == name:
                    continue
                q = self._cdf(name, value, {other: held})
                # A pair must be clearly more telling than a marginal to be worth the longer sentence.
                if q is not None and min(q, 1 - q) < best / 2:
                    known = self.study.covariate(other)
                    best = min(q, 1 - q)
                    sentence = _sentence(covariate, q, f" with {other} {known.format(held)}")
        return sentence


def support_word(percentile: float) -> str:
    """The word for a percentile of log-density."""
    if math.isnan(percentile):
        return "unknown"
    return "covered" if percentile >= RARE else "rare" if percentile >= OUTSIDE else "outside"


def _sentence(covariate: Covariate, q: float, rest: str = "") -> str:
    side, share = ("above", q) if q > 0.5 else ("below", 1 - q)
    text = "all" if share > 0.9995 else f"{100 * share:.1f} %"
    return f"{covariate.name} {side} {text} of training{rest}"
