"""Whole heads of a study whose slices lie at many places: requested against measured on the stack, and how
alike neighbouring slices are, beside real ones."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
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
from mssg.metrics.pairwise import ssim
from mssg.metrics.results import Result
from mssg.metrics.settings import Settings, option
from mssg.rendering.volume import check_volume, places_of, upright
from mssg.study.model import AXES, Study

MOST_PAIRS = 2000
NEIGHBOURS = "neighbour-correlation", "neighbour-ssim"


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


def _generated_pairs(
    context: EvalContext, model: EvaluatedModel, places: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Neighbouring slices of a few heads, pictures uint8 [N, 1, H, W] each."""
    study, n = context.data.study, min(context.options.of(VolumeSettings).heads, 50)
    drawn = context.data.models.sample(n, None, context.rng(41))
    values = np.stack([drawn[name] for name in study.condition_names], axis=1)
    heads = _heads(model, study, places, values, context.options.seed)
    axis = AXES[study.geometry.plane][0]  # type: ignore[union-attr]
    slices = np.moveaxis(heads, axis + 1, 1)
    kept = np.array([[shows_tissue(s) for s in head] for head in slices])
    pairs = [
        (head[i], head[i + 1])
        for head, shown in zip(slices, kept)
        for i in range(len(head) - 1)
        if shown[i] and shown[i + 1]
    ]
    return _chosen(pairs, context.rng(42))


def real_pairs(source: PackedSource, study: Study, split: str, step: float) -> list[tuple[int, int]]:
    """Rows of one person's slices that lie a step apart."""
    rows = source.rows(split)
    place = source.values[:, study.index(check_volume(study))]
    by: dict[tuple[str, float], int] = {}
    for row in rows.tolist():
        by[str(source.subjects[row]), round(float(place[row]), 2)] = row
    found = []
    for (subject, where), row in by.items():
        other = by.get((subject, round(where + step, 2)))
        if other is not None:
            found.append((row, other))
    return found


def _real_pairs(context: EvalContext, step: float) -> tuple[np.ndarray, np.ndarray]:
    data, pairs = context.data, []
    for source in data.sources:
        for a, b in real_pairs(source, data.study, data.split, step):
            pairs.append((source.images[a][0], source.images[b][0]))
    return _chosen(pairs, context.rng(43))


def _chosen(
    pairs: Sequence[tuple[np.ndarray, np.ndarray]], rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    chosen = rng.permutation(len(pairs))[:MOST_PAIRS]
    if not len(chosen):
        return np.empty(0), np.empty(0)
    first, second = (np.stack([pairs[i][k] for i in chosen])[:, None] for k in (0, 1))
    return first, second


def neighbours(a: np.ndarray, b: np.ndarray) -> dict[str, np.ndarray]:
    """How alike pairs of pictures uint8 [N, 1, H, W] are: correlation of pixels, and SSIM, each [N]."""
    x, y = (p.reshape(len(p), -1).astype(np.float64) for p in (a, b))
    x, y = x - x.mean(1, keepdims=True), y - y.mean(1, keepdims=True)
    r = (x * y).sum(1) / np.sqrt((x * x).sum(1) * (y * y).sum(1))
    return dict(zip(NEIGHBOURS, (r, ssim(a, b))))


def _consistency(context: EvalContext, model: EvaluatedModel, places: np.ndarray) -> Iterator[Result]:
    step = float(places[1] - places[0])
    real = context.once(("neighbours", step), lambda: _real_pairs(context, step))
    beside = neighbours(*real) if len(real[0]) else {}
    if not beside:
        context.note("volumes", f"no person of the {context.data.split} split has slices {step:g} mm apart")
    pairs = _generated_pairs(context, model, places)
    for name, found in (neighbours(*pairs) if len(pairs[0]) else {}).items():
        floor = float(np.nanmean(beside[name])) if name in beside else None
        mean, ci95, n = mean_and_interval(found, context.bootstrap())
        yield context.result(
            model,
            metric=f"volumes/{name}",
            value=mean,
            n=n,
            n_real=len(beside.get(name, ())),
            ci95=ci95,
            real_floor=floor,
            reference="real neighbours",
            detail={"step_mm": step},
        )


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
        help="whole heads: control read off the stack, likeness of neighbouring slices",
        of_model=_of_model,
        needs=frozenset({Need.NETWORKS}),
        settings=(VolumeSettings,),
        place=75,
    ),
)
