"""Does the generator do what is asked? Requested against measured, without being fooled by dependent
covariates.

Where covariates depend on each other, the plain correlation of requested and measured proves little: a model
that obeys only the shared covariate already scores high on the others. Hence several designs of what is
requested, and partial correlations with the shared covariates removed. Source: docs/method.md section 7,
"Control, honestly".
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from mssg.data.dataset import PackedSource
from mssg.errors import UsageError
from mssg.metrics.spread import ClassVariance, Spread, class_covariate, compare, real_variance
from mssg.study.model import SOURCE, Covariate, Study

QUANTILES = (0.1, 0.3, 0.5, 0.7, 0.9)
GRID = 5
"""Values along each side of the rectangular grid."""
SUPPORT_PERCENTILE = 1.0
"""A condition is outside the support where its log-density is below this percentile of the model's own draws.
"""
SPLINE_KNOTS = (0.2, 0.4, 0.6, 0.8)
"""Quantiles at which the cubic that is removed may change."""
BOOTSTRAPS = 500
CHUNK = 250
"""Images drawn and measured at a time."""
DESIGNS = {
    "a": "requests drawn from the covariate model",
    "b": "one covariate at its conditional 10/30/50/70/90 % quantiles given the shared ones",
    "c": "rectangular grid, cells inside the support",
    "c-outside": "rectangular grid, cells outside the support",
    "shuffled": "every covariate drawn on its own from its marginal",
}

Generate = Callable[[np.ndarray, int], np.ndarray]
Measure = Callable[[np.ndarray], Mapping[str, np.ndarray]]
Read = Callable[[np.ndarray, int], Mapping[str, np.ndarray]]
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class ControlRow:
    """How one covariate obeys under one design; native units, NaN where undefined.

    Attributes:
        design: A key of `DESIGNS`.
        covariate, unit: What was requested and measured.
        removed: Covariates removed before the partial correlation and the slope.
        n: Images measured.
        unmeasurable: Share of images on which the instrument found nothing to measure.
        r, r_ci95: Plain correlation and its bootstrap interval.
        partial_r, partial_r_ci95: The same after removing `removed` from both sides.
        slope: Of measured on requested, after the same removal; 1 is obedience.
        mae, bias: Mean absolute and mean signed difference, measured − requested.
        requested_sd: Standard deviation of what was requested: what the MAE is to be compared with.
        accuracy: Share of levels hit (binary and categorical only).
    """

    design: str
    covariate: str
    unit: str
    removed: tuple[str, ...]
    n: int
    unmeasurable: float
    r: float = math.nan
    r_ci95: tuple[float, float] = (math.nan, math.nan)
    partial_r: float = math.nan
    partial_r_ci95: tuple[float, float] = (math.nan, math.nan)
    slope: float = math.nan
    mae: float = math.nan
    bias: float = math.nan
    requested_sd: float = math.nan
    accuracy: float = math.nan


@dataclass(frozen=True)
class Cell:
    """One cell of the rectangular grid: `covariate` requested at `value` while `by` is at `by_value`."""

    covariate: str
    value: float
    by: str
    by_value: float
    inside: bool
    n: int
    measured: float
    measured_sd: float


@dataclass(frozen=True)
class ControlReport:
    """All that `control` found; `n` is the number of images a design, `source` the one all requests are
    of."""

    study: str
    n: int
    seed: int
    shared: tuple[str, ...]
    rows: tuple[ControlRow, ...]
    cells: tuple[Cell, ...] = ()
    spread: tuple[Spread, ...] = ()
    source: str | None = None

    def row(self, design: str, covariate: str) -> ControlRow:
        """The row of a design and covariate.

        Raises:
            UsageError: No such row.
        """
        for row in self.rows:
            if (row.design, row.covariate) == (design, covariate):
                return row
        raise UsageError("not in this control report", field=f"{design}, {covariate}")

    @property
    def headline(self) -> tuple[ControlRow, ...]:
        """Per covariate the row to quote: design b where it was varied given the shared ones, else a."""
        best = {row.covariate: row for row in self.rows if row.design == "a"}
        best |= {row.covariate: row for row in self.rows if row.design == "b"}
        return tuple(best.values())

    def to_json(self) -> dict[str, Any]:
        """The report as a JSON object; what is undefined becomes null."""
        document = asdict(self)
        for entry, spread in zip(document["spread"], self.spread):
            entry["ratio"] = spread.ratio
        return {"format_version": 1, "quantiles": list(QUANTILES), **_without_nan(document)}

    def table(self) -> str:
        """The report as aligned text."""
        from mssg.metrics.report import control_table

        return control_table(self)


@dataclass
class _Bench:
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
            seed = int(np.random.SeedSequence([self.seed, stream, number]).generate_state(1)[0])
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
class _Plan:
    """Which covariates are measured, which tie the sources, which are varied given those, and how they are
    drawn."""

    study: Study
    models: Any
    measurable: tuple[str, ...]
    shared: tuple[str, ...]
    varied: tuple[str, ...]
    n: int
    seed: int
    bootstrap: np.random.Generator = field(repr=False)
    fixed: Mapping[str, float] = field(default_factory=dict)

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
        share = float(1 - usable.mean()) if len(usable) else math.nan
        head = (design, name, covariate.unit, removed, int(usable.sum()), share)
        if usable.sum() < 3:
            return ControlRow(*head)
        x = regressors(self.study, values[usable], removed)
        return ControlRow(
            *head, **_agreement(covariate, requested[usable], measured[usable], x, self.bootstrap)
        )


def control(
    generate: Generate,
    study: Study,
    models: Any,
    measure: Measure,
    n: int = 1000,
    seed: int = 0,
    sources: Sequence[PackedSource] = (),
    designs: Sequence[str] = ("a", "b", "c", "shuffled"),
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
        designs: Which of "a", "b", "c", "shuffled".
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
    plan = _plan(study, models, measure, generate, n, seed, shared, source)
    unknown = [d for d in designs if d not in ("a", "b", "c", "shuffled")]
    if unknown:
        raise UsageError("no such design", field=unknown[0], expected="a | b | c | shuffled")
    anchors = {name: anchor for name in plan.varied if (anchor := _anchor(plan, name))}
    batches = ("a" in designs or bool(sources)) + ("b" in designs) * len(plan.varied)
    batches += ("c" in designs) * len(anchors) + ("shuffled" in designs)
    bench = _Bench(generate, measure, study, seed, batches * n, progress, read)
    rows: list[ControlRow] = []
    cells: list[Cell] = []
    spread: tuple[Spread, ...] = ()
    if "a" in designs or sources:
        kind = class_covariate(study)
        variance = ClassVariance(kind.width if kind else 1) if sources else None
        rows += [row for row in _drawn(plan, bench, variance) if "a" in designs]
        spread = compare(variance, real_variance(sources, study), study) if variance else ()
    if "b" in designs:
        rows += _conditional(plan, bench)
    if "c" in designs:
        for name, anchor in anchors.items():
            more_rows, more_cells = _grid(plan, bench, name, anchor)
            rows, cells = rows + more_rows, cells + more_cells
    if "shuffled" in designs:
        rows += _shuffled(plan, bench)
    return ControlReport(study.name, n, seed, plan.shared, tuple(rows), tuple(cells), spread, source)


def _plan(
    study: Study,
    models: Any,
    measure: Measure,
    generate: Generate,
    n: int,
    seed: int,
    shared: Sequence[str] | None,
    source: str | None,
) -> _Plan:
    if n < 10:
        raise UsageError("too few images to measure control", field="n", found=n, expected="10 or more")
    rng = np.random.default_rng([seed, 0])
    fixed = _fixed(study, source)
    probe = _Plan(study, models, (), (), (), n, seed, rng, fixed)
    names = tuple(dict(measure(np.asarray(generate(probe.draw(2, rng), seed)))))
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
    return _Plan(study, models, measurable, tied, free or measurable, n, seed, rng, fixed)


def _fixed(study: Study, source: str | None) -> dict[str, float]:
    """The condition that a source is: covariate -> value of all requests."""
    if source is None:
        return {}
    if SOURCE not in study.condition_names:
        raise UsageError(
            "the source is no condition of this study",
            field="source",
            found=source,
            hint="Only a study with condition_on_source = true is asked for one source",
        )
    return {SOURCE: float(study.covariate(SOURCE).levels.index(study.source(source).name))}


def _drawn(plan: _Plan, bench: _Bench, variance: ClassVariance | None) -> Iterator[ControlRow]:
    """Design a."""
    values = plan.draw(plan.n, plan.rng(1))
    measured = bench(values, 1, variance)
    for name in plan.measurable:
        yield plan.row("a", name, values, measured[name])


def _conditional(plan: _Plan, bench: _Bench) -> Iterator[ControlRow]:
    """Design b: rows take the quantiles (or levels) in turn, so that each is an independent draw of all the
    rest."""
    for i, name in enumerate(plan.varied):
        covariate = plan.study.covariate(name)
        values = plan.draw(plan.n, plan.rng(10 + i))
        column, turn = plan.study.index(name), np.arange(plan.n)
        if covariate.is_continuous:
            given = {g: values[:, plan.study.index(g)] for g in plan.given(name)}
            q = np.array(QUANTILES)[turn % len(QUANTILES)]
            values[:, column] = plan.models.quantile(name, q, given)
        else:
            values[:, column] = turn % covariate.num_levels
        yield plan.row("b", name, values, bench(values, 10 + i)[name])


def _anchor(plan: _Plan, name: str) -> str | None:
    """The other side of a covariate's grid: the first continuous covariate held fixed for it."""
    if not plan.study.covariate(name).is_continuous:
        return None
    return next((g for g in plan.given(name) if plan.study.covariate(g).is_continuous), None)


def _grid(plan: _Plan, bench: _Bench, name: str, anchor: str) -> tuple[list[ControlRow], list[Cell]]:
    """Design c: both covariates from their 5 % to their 95 % quantile, all combinations."""
    stream = 100 + plan.varied.index(name)
    rng = plan.rng(stream)
    typical = plan.draw(max(plan.n, 1000), rng)
    density = plan.models.log_density(typical)
    limit = np.percentile(density[np.isfinite(density)], SUPPORT_PERCENTILE)
    sides = []
    for side in (name, anchor):
        low, high = np.quantile(typical[:, plan.study.index(side)], [0.05, 0.95])
        sides.append(np.linspace(low, high, GRID))
    cell = np.arange(plan.n) % GRID**2
    given = {name: sides[0][cell // GRID], anchor: sides[1][cell % GRID]}
    values = plan.draw(plan.n, rng, given)
    density = plan.models.log_density(values)
    inside = np.array(
        [bool(np.median(density[cell == k]) >= limit) if (cell == k).any() else False for k in range(GRID**2)]
    )
    measured = bench(values, stream)[name]
    cells = []
    for k in range(GRID**2):
        got = measured[cell == k]
        got = got[np.isfinite(got)]
        mean, sd = (float(got.mean()), float(got.std())) if got.size else (math.nan, math.nan)
        value, by = float(sides[0][k // GRID]), float(sides[1][k % GRID])
        cells.append(Cell(name, value, anchor, by, bool(inside[k]), int(got.size), mean, sd))
    rows = []
    for design, chosen in (("c", inside[cell]), ("c-outside", ~inside[cell])):
        if chosen.any():
            rows.append(plan.row(design, name, values[chosen], measured[chosen]))
    return rows, cells


def _shuffled(plan: _Plan, bench: _Bench) -> Iterator[ControlRow]:
    """Every covariate from its marginal: no covariate can be obeyed through another one."""
    rng = plan.rng(2)
    values = plan.draw(plan.n, rng)
    for column in values.T:
        rng.shuffle(column)
    measured = bench(values, 2)
    for name in plan.measurable:
        yield plan.row("shuffled", name, values, measured[name])


def regressors(study: Study, values: np.ndarray, names: Sequence[str]) -> np.ndarray:
    """What is removed by regression: an intercept, a cubic spline of every continuous covariate, one-hot
    levels.

    A plain cubic is not enough: what it leaves of a sigmoid or tanh on both sides passes for obedience
        (partial r up
    to 0.18 for a generator that obeys thickness alone); four knots bring that below 0.05.

    Args:
        study: Kinds of the covariates.
        values: [N, V] native units.
        names: The covariates to remove.

    Returns:
        [N, P].
    """
    columns = [np.ones(len(values))]
    for name in names:
        covariate, x = study.covariate(name), values[:, study.index(name)]
        if covariate.is_continuous:
            t = (x - x.mean()) / (x.std() or 1.0)
            knots = np.quantile(t, SPLINE_KNOTS)
            columns += [t, t**2, t**3, *(np.maximum(t - knot, 0) ** 3 for knot in knots)]
        else:
            columns += [(x == level).astype(np.float64) for level in range(1, covariate.num_levels)]
    return np.stack(columns, axis=1)


def _agreement(
    covariate: Covariate, requested: np.ndarray, measured: np.ndarray, x: np.ndarray, rng: np.random.Generator
) -> dict[str, Any]:
    """Correlations, slope and errors of measured [N] on requested [N], with x [N, P] removed for the partial
    ones."""
    if covariate.kind == "categorical":
        return {"accuracy": float(np.mean(np.rint(measured) == requested))}
    left, right = (_residual(x, y) for y in (requested, measured))
    rows = rng.integers(len(requested), size=(BOOTSTRAPS, len(requested)))
    out: dict[str, Any] = {
        "r": correlation(requested, measured),
        "r_ci95": _interval(requested[rows], measured[rows]),
        "partial_r": correlation(left, right),
        "partial_r_ci95": _interval(left[rows], right[rows]),
        "slope": float(left @ right / (left @ left)) if left.any() else math.nan,
        "mae": float(np.abs(measured - requested).mean()),
        "bias": float((measured - requested).mean()),
        "requested_sd": float(requested.std()),
    }
    if covariate.kind == "binary":
        out["accuracy"] = float(np.mean((measured > 0.5) == (requested > 0.5)))
    return out


def _residual(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """y [N] without what x [N, P] explains linearly; exactly zero where nothing but rounding remains."""
    rest = y - x @ np.linalg.lstsq(x, y, rcond=None)[0]
    return rest if rest.std() > 1e-9 * np.abs(y).max() else np.zeros_like(rest)


def correlation(a: np.ndarray, b: np.ndarray) -> Any:
    """Pearson correlation along the last axis; NaN where either side does not vary."""
    flat = (np.ptp(a, axis=-1) <= 0) | (np.ptp(b, axis=-1) <= 0)
    a, b = a - a.mean(-1, keepdims=True), b - b.mean(-1, keepdims=True)
    norm = np.sqrt((a * a).sum(-1) * (b * b).sum(-1))
    with np.errstate(invalid="ignore", divide="ignore"):
        r = np.where(flat | (norm <= 0), math.nan, (a * b).sum(-1) / norm)
    return float(r) if r.ndim == 0 else r


def _interval(a: np.ndarray, b: np.ndarray) -> tuple[float, float]:
    """2.5 % and 97.5 % quantiles of the correlation over bootstrap samples [B, N]."""
    r = correlation(a, b)
    r = r[np.isfinite(r)]
    return (float(np.quantile(r, 0.025)), float(np.quantile(r, 0.975))) if r.size else (math.nan, math.nan)


def _without_nan(value: Any) -> Any:
    """JSON has no NaN: null instead; tuples become lists."""
    if isinstance(value, Mapping):
        return {k: _without_nan(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
