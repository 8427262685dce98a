"""What a model obeys, as groups of an evaluation: control, leakage, and the spread that obedience must not
cost."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from mssg.errors import UsageError
from mssg.metrics import leakage
from mssg.metrics.control import DESIGNS, control
from mssg.metrics.evaluation import Evaluator
from mssg.metrics.frame import Contender
from mssg.metrics.results import JOINT, Result
from mssg.metrics.spread import ClassVariance, class_covariate, compare, real_variance


def controlled(e: Evaluator, contender: Contender) -> Iterator[Result]:
    """Designs a, b, c and shuffled: requests from the covariate models of the study, the same for all models.

    Where the source is a condition, designs a and b again with every request of one source: what a source
    never recorded is obeyed there, or not, whatever the other sources do.
    """
    if not e.instruments.readers:
        raise UsageError(
            "nothing reads covariates off these images",
            field="control",
            hint="Give a --predictor, or name an instrument in the study TOML",
        )
    yield from _control_of(e, contender, None)
    if e.frame.study.condition_on_source:
        for source in e.frame.study.sources:
            yield from e.guarded(
                f"{contender.model.label}: control, {source.name}",
                lambda s=source.name: _control_of(e, contender, s),
            )


def _control_of(e: Evaluator, contender: Contender, source: str | None) -> Iterator[Result]:
    """Control over all sources, or of requests that are all of one."""
    frame, study = e.frame, e.frame.study
    label = f"{contender.model.label}, control" + (f" of {source}" if source else "")

    def read(values: np.ndarray, seed: int) -> dict[str, np.ndarray]:
        return e.bench.draw("", contender.identity, contender.generate, values, seed, e.instruments.readers)

    def tell(done: int, total: int) -> None:
        if e.bench.progress and e.bench.world.rank == 0:
            e.bench.progress(label, done, total)

    report = control(
        contender.generate,
        study,
        frame.models,
        e.instruments.measure,
        e.options.control_images,
        e.options.seed,
        designs=("a", "b") if source else ("a", "b", "c", "shuffled"),
        progress=tell,
        read=read,
        source=source,
    )
    for row in report.rows:
        detail = {
            "removed": row.removed,
            "requested_sd": row.requested_sd,
            "unmeasurable": row.unmeasurable,
            "asked": DESIGNS[row.design],
        }
        detail |= {"recorded": row.covariate in study.source(source).observes} if source else {}
        intervals = {"r": row.r_ci95, "partial_r": row.partial_r_ci95}
        for stat in ("r", "partial_r", "slope", "mae", "bias", "accuracy"):
            value = getattr(row, stat)
            if np.isfinite(value):
                unit = row.unit or None if stat in ("mae", "bias") else None
                yield Result(
                    f"control/{stat}",
                    value,
                    contender.model.label,
                    row.n,
                    ci95=intervals.get(stat),
                    instrument=e.instruments.by_covariate[row.covariate],
                    source=source or JOINT,
                    split=frame.split,
                    covariate=row.covariate,
                    unit=unit,
                    reference="requested",
                    design=row.design,
                    detail=detail,
                )


def leaked(e: Evaluator, contender: Contender) -> Iterator[Result]:
    """Every covariate moved in turn: how every reading moves."""
    study, rng = e.frame.study, np.random.default_rng([e.options.seed, 17])
    if not e.instruments.readers:
        raise UsageError(
            "nothing reads covariates off these images", field="leakage", hint="Give a --predictor"
        )
    rows = rng.integers(len(e.requests), size=e.options.leakage_images)
    base = e.requests[rows]
    parts = {JOINT: np.arange(len(rows))}
    if study.condition_on_source:
        parts |= {s: np.flatnonzero(np.isin(rows, e.frame.of(s))) for s in e.frame.parts if s != JOINT}
    sd = {c.name: leakage.spread(c, e.requests[:, study.index(c.name)]) for c in leakage.movable(study)}
    for moved in leakage.movable(study):
        column = study.index(moved.name)
        sides = leakage.ends(
            moved, base, column, sd[moved.name], np.random.default_rng([e.options.seed, 19, column])
        )
        low, high = (
            e.draw(contender, f"moving {moved.name}", side, 3, e.instruments.readers) for side in sides
        )
        for source, own in parts.items():
            for measured in e.readable:
                found = leakage.shift(
                    moved,
                    measured,
                    low[measured.name][own],
                    high[measured.name][own],
                    sd[measured.name],
                    e.rng,
                )
                unit = "sd" if measured.is_continuous else "share changed"
                yield Result(
                    "leakage",
                    found.value,
                    contender.model.label,
                    found.n,
                    ci95=found.ci95,
                    instrument=e.instruments.by_covariate[measured.name],
                    source=source,
                    split=e.frame.split,
                    covariate=measured.name,
                    unit=unit,
                    moved=moved.name,
                )


def spreads(e: Evaluator, contender: Contender) -> Iterator[Result]:
    """Pixel spread within a class, generated over real."""
    frame, kind = e.frame, class_covariate(e.frame.study)
    n, chunk = e.options.control_images, e.bench.chunk
    values = e.requests[np.random.default_rng([e.options.seed, 23]).integers(len(e.requests), size=n)]
    generated = ClassVariance(kind.width if kind else 1)
    for start in range(0, n, chunk):
        part = values[start : start + chunk]
        level = part[:, frame.study.index(kind.name)] if kind else np.zeros(len(part))
        generated.add(
            contender.generate(
                part, int(np.random.SeedSequence([e.options.seed, 23, start]).generate_state(1)[0])
            ),
            level,
        )
    real = e.remember("real variance", lambda: real_variance(frame.sources, frame.study))
    for row in compare(generated, real, frame.study):
        stratum = {kind.name: row.level} if kind and row.level != "all" else None
        yield Result(
            "spread",
            row.ratio,
            contender.model.label,
            row.n_generated,
            row.n_real,
            split=frame.split,
            stratum=stratum,
            detail={"generated": row.generated, "real": row.real},
        )
