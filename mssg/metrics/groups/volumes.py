"""Whole heads of a study whose slices lie at many places: requested against measured on the stack, and how
steadily they run from slice to slice, beside real ones."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from mssg.data.dataset import PackedSource
from mssg.data.plane import shows_tissue
from mssg.errors import UsageError
from mssg.measure.instruments import stack_instrument
from mssg.metrics.bootstrap import mean_and_interval
from mssg.metrics.context import EvalContext
from mssg.metrics.control import control
from mssg.metrics.groups.control import row_results
from mssg.metrics.metric import Metric, Need
from mssg.metrics.model import EvaluatedModel, own_values
from mssg.metrics.results import Result
from mssg.metrics.settings import Settings, option
from mssg.metrics.stack_consistency import UNITS, asymmetry, neighbours, steadiness
from mssg.rendering.volume import check_volume, places_of, upright
from mssg.study.model import AXES, Study

MOST_RUNS = 2000


@dataclass(frozen=True)
class VolumeSettings(Settings):
    """Of whole heads."""

    heads: int = option(200, "Whole heads drawn for each design of `volumes`.", least=10)


def _heads(
    model: EvaluatedModel, study: Study, places: np.ndarray, values: np.ndarray, seed: int
) -> np.ndarray:
    """Heads uint8 [N, X, Y, Z] for rows [N, V] of a study: one latent and the network's own noise each."""
    from mssg.networks.latents import seeds_of
    from mssg.rendering.renderer import GPU_BATCH, Renderer

    snapshot = model.networks
    own, geometry = snapshot.study, snapshot.study.geometry
    assert geometry is not None
    renderer, column = Renderer(snapshot), own.index(check_volume(own))
    rows = own_values(snapshot, study, values, rng=np.random.default_rng([seed, 1]))
    out = []
    for row, latent in zip(rows, seeds_of(seed, len(rows))):
        head = np.tile(row, (len(places), 1))
        head[:, column] = places
        slices = renderer.images(head, latent, batch=GPU_BATCH)
        out.append(
            np.concatenate([upright(picture[0], geometry) for picture in slices], AXES[geometry.plane][0])
        )
    return np.stack(out)


def _control(context: EvalContext, model: EvaluatedModel, places: np.ndarray) -> Iterator[Result]:
    """Designs a and b, read off the stack."""
    study = context.data.study
    reads = stack_instrument(study.instrument)
    if reads is None:
        context.note("volumes", "nothing reads covariates off whole heads of this study: no control of them")
        return
    edges = edges_of(study, places)
    report = control(
        lambda values, seed: _heads(model, study, places, values, seed),
        study,
        context.data.models,
        lambda heads: reads.measure(heads, edges),
        n=context.options.of(VolumeSettings).heads,
        seed=context.options.seed,
        designs=("a", "b"),
        progress=lambda done, total: context.sampler.tell(f"{model.label}, heads", done, total),
    )
    name, own = f"oracle-{study.instrument}-stack", {e.covariate: e.to_json() for e in reads.own_errors()}
    for row in report.rows:
        for result in row_results(context, model, row, metric="volumes/control", instrument=name):
            beside = {"own": own[row.covariate]} if row.covariate in own else {}
            yield replace(result, detail={**result.detail, **beside})


def edges_of(study: Study, places: np.ndarray) -> tuple[float, float, float]:
    """Of a voxel of a stack along X, Y and Z, in millimetres."""
    assert study.geometry
    edges = [study.geometry.pixel_mm] * 3
    edges[AXES[study.geometry.plane][0]] = float(places[1] - places[0])
    return edges[0], edges[1], edges[2]


def _generated_heads(context: EvalContext, model: EvaluatedModel, places: np.ndarray) -> np.ndarray:
    """A few heads as in the population: uint8 [N, X, Y, Z]."""
    study, n = context.data.study, min(context.options.of(VolumeSettings).heads, 50)
    drawn = context.data.models.sample(n, None, context.rng(41))
    values = np.stack([drawn[name] for name in study.condition_names], axis=1)
    return _heads(model, study, places, values, seed=context.options.seed)


def _generated_runs(context: EvalContext, heads: np.ndarray, length: int) -> np.ndarray:
    """So many neighbouring slices with tissue in each, [N, length, H, W]."""
    geometry = context.data.study.geometry
    assert geometry is not None
    slices = np.moveaxis(heads, AXES[geometry.plane][0] + 1, 1).swapaxes(2, 3)[:, :, ::-1]
    runs = []
    for head in slices:
        shown = [shows_tissue(s) for s in head]
        runs += [head[i : i + length] for i in range(len(head) - length + 1) if all(shown[i : i + length])]
    return _chosen(runs, context.rng(42))


def real_runs(source: PackedSource, study: Study, split: str, step: float, length: int) -> list[list[int]]:
    """Rows of so many slices of one person, each a step behind the one before."""
    rows = source.rows(split)
    place = source.values[:, study.index(check_volume(study))]
    by = {(str(source.subjects[row]), round(float(place[row]), 2)): row for row in rows.tolist()}
    found = []
    for subject, where in by:
        run = [by.get((subject, round(where + i * step, 2))) for i in range(length)]
        if None not in run:
            found.append(run)
    return found


def _real_runs(context: EvalContext, step: float, length: int) -> np.ndarray:
    data, runs = context.data, []
    geometry = data.study.geometry
    turn = -1 if geometry and geometry.mirrored else 1
    for source in data.sources:
        for run in real_runs(source, data.study, data.split, step, length):
            runs.append(np.stack([source.images[row][0][:, ::turn] for row in run]))
    return _chosen(runs, context.rng(43))


def _chosen(runs: Sequence[np.ndarray], rng: np.random.Generator) -> np.ndarray:
    chosen = rng.permutation(len(runs))[:MOST_RUNS]
    return np.stack([runs[i] for i in chosen]) if len(chosen) else np.empty(0)


def _measured(context: EvalContext, runs: Callable[[int], np.ndarray]) -> dict[str, np.ndarray]:
    """What there is to say of runs of two and of three slices; nothing where there are none."""
    assert context.data.study.geometry is not None
    pairs, triples = runs(2), runs(3)
    found = neighbours(pairs[:, :1], pairs[:, 1:]) if len(pairs) else {}
    return found | (steadiness(triples, context.data.study.geometry.pixel_mm) if len(triples) else {})


def _consistency(context: EvalContext, model: EvaluatedModel, places: np.ndarray) -> Iterator[Result]:
    step = float(places[1] - places[0])
    beside = context.once(
        ("consistency", step), lambda: _measured(context, lambda length: _real_runs(context, step, length))
    )
    if not beside:
        context.note("volumes", f"no person of the {context.data.split} split has slices {step:g} mm apart")
    heads = _generated_heads(context, model, places)
    found = _measured(context, lambda length: _generated_runs(context, heads, length))
    real = {name: float(np.nanmean(values)) for name, values in beside.items()}
    for name, values in found.items():
        mean, ci95, n = mean_and_interval(values, context.bootstrap())
        yield context.result(
            model,
            metric=f"volumes/{name}",
            value=mean,
            n=n,
            n_real=len(beside.get(name, ())),
            ci95=ci95,
            real_floor=real.get(name),
            reference="real neighbours",
            detail={"step_mm": step, **({"unit": UNITS[name]} if UNITS[name] else {})},
        )
    if context.data.study.geometry and context.data.study.geometry.plane != "sagittal":
        sides = np.array([asymmetry(head) for head in heads])
        mean, ci95, n = mean_and_interval(sides, context.bootstrap())
        yield context.result(model, metric="volumes/asymmetry", value=mean, n=n, ci95=ci95)


def _of_model(context: EvalContext, model: EvaluatedModel) -> Iterator[Result]:
    own = model.networks.study
    check_volume(own)
    if context.data.study.position != own.position or context.data.study.geometry is None:
        raise UsageError("the real images have no places", field="volumes", expected=str(own.position))
    places = places_of(own, model.networks.header.summary)
    yield from _control(context, model, places)
    yield from _consistency(context, model, places)


METRICS = (
    Metric(
        name="volumes",
        help="whole heads: control read off the stack, likeness and flicker of neighbouring slices",
        of_model=_of_model,
        needs=frozenset({Need.NETWORKS}),
        settings=(VolumeSettings,),
        place=75,
    ),
)
