"""Does the generator do what is asked? Requested against measured, without being fooled by dependent
covariates.

Where covariates depend on each other, the plain correlation of requested and measured proves little: a model
that obeys only the shared covariate already scores high on the others. Hence several designs of what is
requested, and partial correlations with the shared covariates removed. Source: docs/method/method.md section
7, "Control, honestly".
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from mssg.data.dataset import PackedSource
from mssg.errors import UsageError, check_choice
from mssg.metrics.agreement import agreement, readings, regressors
from mssg.metrics.control_report import QUANTILES, ControlReport, ControlRow, GridCell
from mssg.metrics.sampling import derived_seed
from mssg.metrics.spread import ClassVariance, Spread, class_covariate, compare, real_variance
from mssg.study.covariate import SOURCE
from mssg.study.model import Study

GRID = 5
"""Values along each side of the rectangular grid."""
SUPPORT_PERCENTILE = 1.0
"""A condition is outside the support where its log-density is below this percentile of the model's own draws.
"""
CHUNK = 250
"""Images drawn and measured at a time."""
ASKED = ("a", "b", "c", "shuffled")
"""Designs that can be asked for; c gives rows for cells inside and outside the support."""

Generate = Callable[[np.ndarray, int], np.ndarray]
Measure = Callable[[np.ndarray], Mapping[str, np.ndarray]]
Read = Callable[[np.ndarray, int], Mapping[str, np.ndarray]]
Progress = Callable[[int, int], None]


@dataclass
class _MeasuredDraws:
    """Draws, measures and counts images."""

    generate: Generate
    measure: Measure
    study: Study
    seed: int
    total: int
    progress: Progress | None
    read: Read | None = None
    done: int = 0

    def __call__(
        self, values: np.ndarray, stream: int, variance: ClassVariance | None = None
    ) -> dict[str, np.ndarray]:
        """Measured values of images requested at `values` [N, V]: name -> [N]."""
        kind, parts = class_covariate(self.study), []
        for number, start in enumerate(range(0, len(values), CHUNK)):
            part = values[start : start + CHUNK]
            seed = derived_seed(self.seed, stream, number)
            if self.read is not None and variance is None:
                parts.append(dict(self.read(part, seed)))
            else:
                images = np.asarray(self.generate(part, seed))
                parts.append(dict(self.measure(images)))
                if variance is not None:
                    level = part[:, self.study.index(kind.name)] if kind else np.zeros(len(part))
                    variance.add(images, level)
            self.done += len(part)
            if self.progress:
                self.progress(self.done, self.total)
        return {name: np.concatenate([np.asarray(p[name], np.float64) for p in parts]) for name in parts[0]}


@dataclass(frozen=True)
class _Requests:
    """Which covariates are measured, which tie the sources, which are varied given those, and how they are
    drawn."""

    study: Study
    models: Any
    n: int
    seed: int
    bootstrap: np.random.Generator = field(repr=False)
    fixed: Mapping[str, float]
    measurable: tuple[str, ...] = ()
    shared: tuple[str, ...] = ()
    varied: tuple[str, ...] = ()

    def rng(self, stream: int) -> np.random.Generator:
        return np.random.default_rng([self.seed, stream])

    def given(self, name: str) -> tuple[str, ...]:
        """What is held fixed for a covariate: the shared ones but itself."""
        return tuple(s for s in self.shared if s != name)

    def draw(
        self, n: int, rng: np.random.Generator, given: Mapping[str, np.ndarray] | None = None
    ) -> np.ndarray:
        """Conditions from the covariate model, given what is fixed for all of them: [n, V] native."""
        known = {name: np.full(n, value) for name, value in self.fixed.items()}
        drawn = self.models.sample(n, known | dict(given or {}), rng)
        return np.stack([np.asarray(drawn[name], np.float64) for name in self.study.condition_names], axis=1)

    def row(self, design: str, name: str, values: np.ndarray, measured: np.ndarray) -> ControlRow:
        covariate = self.study.covariate(name)
        removed = tuple(g for g in self.given(name) if g not in self.fixed)
        requested = values[:, self.study.index(name)]
        usable = np.isfinite(measured)
        found: dict[str, Any] = {}
        if usable.sum() >= 3:
            x = regressors(self.study, values[usable], removed)
            asked, read = requested[usable], measured[usable]
            found = agreement(covariate, asked, read, x=x, rng=self.bootstrap)
            found["readings"] = readings(covariate, asked, read)
        return ControlRow(
            design=design,
            covariate=name,
            unit=covariate.unit,
            removed=removed,
            n=int(usable.sum()),
            unmeasurable=float(1 - usable.mean()) if len(usable) else math.nan,
            **found,
        )


def control(
    generate: Generate,
    study: Study,
    models: Any,
    measure: Measure,
    *,
    n: int = 1000,
    seed: int = 0,
    sources: Sequence[PackedSource] = (),
    designs: Sequence[str] = ASKED,
    shared: Sequence[str] | None = None,
    progress: Progress | None = None,
    read: Read | None = None,
    source: str | None = None,
) -> ControlReport:
    """Measure what a generator controls.

    Args:
        generate: (values [N, V] native, seed) -> uint8 [N, C, H, W].
        study: With fitted statistics.
        models: Fitted `CovariateModels`: where requests are drawn from.
        measure: An instrument's `measure`, or a predictor: uint8 images -> name -> [N], native units, NaN
            where it finds nothing.
        n: Images a design (and covariate, where a design varies one at a time).
        seed: Of requests, latents and bootstrap.
        sources: Real images, for the within-class spread; none = no spread.
        designs: Which of `ASKED`.
        shared: Covariates held fixed in b and removed in partial correlations; None = what every source
            records. Where that is everything, each covariate is varied given all others. Name them to compare
            studies.
        progress: Called with (images done, images in all).
        read: (values [N, V], seed) -> what `measure` says of the images `generate` gives, from wherever it is
            kept; used where the images themselves are not needed.
        source: Every request is of this source, and drawn from the covariate model given it; None = of all
            sources, as the model draws them. Only where the source is a condition.

    Raises:
        UsageError: Nothing of the study can be measured, or an unknown design, covariate or source.
    """
    if n < 10:
        raise UsageError("too few images to measure control", field="n", found=n, expected="10 or more")
    start = _Requests(
        study, models, n, seed, bootstrap=np.random.default_rng([seed, 0]), fixed=_fixed(study, source)
    )
    ask = _resolved(start, generate, measure, shared)
    for design in designs:
        check_choice(design, ASKED, "designs")
    anchors = {name: anchor for name in ask.varied if (anchor := _anchor(ask, name))}
    readings = _MeasuredDraws(
        generate=generate,
        measure=measure,
        study=study,
        seed=seed,
        total=n * _batches(ask, designs, len(anchors), spread=bool(sources)),
        progress=progress,
        read=read,
    )
    rows, spread = _as_a_set(ask, readings, sources, wanted="a" in designs)
    more_rows, cells = _one_by_one(ask, readings, anchors, designs)
    return ControlReport(
        study=study.name,
        n=n,
        seed=seed,
        shared=ask.shared,
        rows=(*rows, *more_rows),
        cells=tuple(cells),
        spread=spread,
        source=source,
    )


def _as_a_set(
    ask: _Requests, readings: _MeasuredDraws, sources: Sequence[PackedSource], wanted: bool
) -> tuple[list[ControlRow], tuple[Spread, ...]]:
    """Design a where it is wanted, and the spread within classes where there are real images."""
    if not wanted and not sources:
        return [], ()
    kind = class_covariate(ask.study)
    variance = ClassVariance(kind.width if kind else 1) if sources else None
    rows = list(_drawn(ask, readings, variance))
    spread = compare(variance, real_variance(sources, ask.study), ask.study) if variance else ()
    return (rows if wanted else []), spread


def _one_by_one(
    ask: _Requests, readings: _MeasuredDraws, anchors: Mapping[str, str], designs: Sequence[str]
) -> tuple[list[ControlRow], list[GridCell]]:
    """Designs b, c and shuffled, as far as wanted: covariates move apart from each other."""
    rows = list(_conditional(ask, readings)) if "b" in designs else []
    cells: list[GridCell] = []
    for name, anchor in anchors.items() if "c" in designs else ():
        more_rows, more_cells = _grid(ask, readings, name, anchor)
        rows, cells = rows + more_rows, cells + more_cells
    if "shuffled" in designs:
        rows += _shuffled(ask, readings)
    return rows, cells


def _batches(ask: _Requests, designs: Sequence[str], grids: int, spread: bool) -> int:
    """How often n images are drawn."""
    once = ("a" in designs or spread) + ("shuffled" in designs)
    return once + ("b" in designs) * len(ask.varied) + ("c" in designs) * grids


def _resolved(
    ask: _Requests, generate: Generate, measure: Measure, shared: Sequence[str] | None
) -> _Requests:
    """With the covariates that can be measured, as two images tell, and those held fixed and varied."""
    study = ask.study
    names = tuple(dict(measure(np.asarray(generate(ask.draw(2, ask.bootstrap), ask.seed)))))
    measurable = tuple(c.name for c in study.covariates if c.name in names)
    if not measurable:
        raise UsageError(
            "the instrument measures no covariate of this study",
            found=", ".join(names) or "nothing",
            expected=f"one of {', '.join(study.condition_names)}",
        )
    if shared is None:
        tied = (*study.shared, *((SOURCE,) if SOURCE in study.condition_names else ()))
    else:
        tied = tuple(study.covariate(name).name for name in shared)
    free = tuple(name for name in measurable if name not in tied)
    return replace(ask, measurable=measurable, shared=tied, varied=free or measurable)


def _fixed(study: Study, source: str | None) -> dict[str, float]:
    """Covariate -> value of all requests: where the slice lies, and the condition that a source is."""
    fixed = {}
    if study.geometry and study.position:
        fixed[study.position] = float(study.geometry.position_mm or 0.0)
    if source is None:
        return fixed
    if SOURCE not in study.condition_names:
        raise UsageError(
            "the source is no condition of this study",
            field="source",
            found=source,
            hint="Only a study with condition_on_source = true is asked for one source",
        )
    return fixed | {SOURCE: float(study.covariate(SOURCE).levels.index(study.source(source).name))}


def _drawn(ask: _Requests, readings: _MeasuredDraws, variance: ClassVariance | None) -> Iterator[ControlRow]:
    """Design a."""
    values = ask.draw(ask.n, ask.rng(1))
    measured = readings(values, 1, variance)
    for name in ask.measurable:
        yield ask.row("a", name, values, measured[name])


def _conditional(ask: _Requests, readings: _MeasuredDraws) -> Iterator[ControlRow]:
    """Design b: rows take the quantiles (or levels) in turn, so that each is an independent draw of all the
    rest."""
    for i, name in enumerate(ask.varied):
        covariate = ask.study.covariate(name)
        values = ask.draw(ask.n, ask.rng(10 + i))
        column, turn = ask.study.index(name), np.arange(ask.n)
        if covariate.is_continuous:
            given = {g: values[:, ask.study.index(g)] for g in ask.given(name)}
            q = np.array(QUANTILES)[turn % len(QUANTILES)]
            values[:, column] = ask.models.quantile(name, q, given)
        else:
            values[:, column] = turn % covariate.num_levels
        yield ask.row("b", name, values, readings(values, 10 + i)[name])


def _anchor(ask: _Requests, name: str) -> str | None:
    """The other side of a covariate's grid: the first continuous covariate held fixed for it."""
    if not ask.study.covariate(name).is_continuous:
        return None
    return next((g for g in ask.given(name) if ask.study.covariate(g).is_continuous), None)


def _grid(
    ask: _Requests, readings: _MeasuredDraws, name: str, anchor: str
) -> tuple[list[ControlRow], list[GridCell]]:
    """Design c: both covariates from their 5 % to their 95 % quantile, all combinations."""
    stream = 100 + ask.varied.index(name)
    rng = ask.rng(stream)
    typical = ask.draw(max(ask.n, 1000), rng)
    density = ask.models.log_density(typical)
    limit = np.percentile(density[np.isfinite(density)], SUPPORT_PERCENTILE)
    sides = []
    for side in (name, anchor):
        low, high = np.quantile(typical[:, ask.study.index(side)], [0.05, 0.95])
        sides.append(np.linspace(low, high, GRID))
    cell = np.arange(ask.n) % GRID**2
    given = {name: sides[0][cell // GRID], anchor: sides[1][cell % GRID]}
    values = ask.draw(ask.n, rng, given)
    density = ask.models.log_density(values)
    inside = np.array(
        [bool(np.median(density[cell == k]) >= limit) if (cell == k).any() else False for k in range(GRID**2)]
    )
    measured = readings(values, stream)[name]
    cells = []
    for k in range(GRID**2):
        got = measured[cell == k]
        got = got[np.isfinite(got)]
        cells.append(
            GridCell(
                covariate=name,
                value=float(sides[0][k // GRID]),
                by=anchor,
                by_value=float(sides[1][k % GRID]),
                inside=bool(inside[k]),
                n=int(got.size),
                measured=float(got.mean()) if got.size else math.nan,
            )
        )
    rows = []
    for design, chosen in (("c", inside[cell]), ("c-outside", ~inside[cell])):
        if chosen.any():
            rows.append(ask.row(design, name, values[chosen], measured[chosen]))
    return rows, cells


def _shuffled(ask: _Requests, readings: _MeasuredDraws) -> Iterator[ControlRow]:
    """Every covariate from its marginal: no covariate can be obeyed through another one."""
    rng = ask.rng(2)
    values = ask.draw(ask.n, rng)
    for column in values.T:
        rng.shuffle(column)
    measured = readings(values, 2)
    for name in ask.measurable:
        yield ask.row("shuffled", name, values, measured[name])
