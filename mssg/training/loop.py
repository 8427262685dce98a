"""The training loop: reads top to bottom, every draw a pure function of (seed, step), so that a resumed run
is the same run."""

from __future__ import annotations

import copy
import functools
import io
import signal
import threading
from collections.abc import Callable, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from mssg.checkpoint.snapshot import load_snapshot
from mssg.covariates.system import CovariateModels, fit_models
from mssg.data.dataset import PackedSource, open_sources
from mssg.data.loader import MultiSourceLoader
from mssg.errors import RunError
from mssg.losses.covariate import CovariateLoss
from mssg.networks.config import DiscriminatorConfig, GeneratorConfig
from mssg.networks.discriminator import build_discriminator
from mssg.networks.generator import Generator, build_generator
from mssg.ops.functional import keep_freed_memory
from mssg.runs.lock import locked
from mssg.study.model import Study
from mssg.training import ema
from mssg.training.augment import Augment
from mssg.training.config import TrainConfig
from mssg.training.distributed import World
from mssg.training.run import Run
from mssg.training.run_writer import Keeper
from mssg.training.stats import Meter
from mssg.training.step import (
    Draw,
    Parts,
    Real,
    discriminator_phase,
    generator_phase,
    optimisers,
    path_length_phase,
    penalty_phase,
)

Progress = Callable[[Mapping[str, Any]], None]
MOST_SETBACKS = 3  # halvings of the learning rates before a run that keeps diverging is stopped
RUNNING_MEANS = ("w_avg", "magnitude_ema")  # buffers that each process updates from its part of the batch
ADAPT_EVERY = 4  # steps between two changes of the augmentation probability


@dataclass
class Material:
    """What training draws from: the fitted study, its data and its covariate models."""

    study: Study
    sources: tuple[PackedSource, ...]
    loader: MultiSourceLoader
    models: CovariateModels


def prepare(run: Run, world: World) -> Material:
    """Open the data, fit statistics and covariate models on the training split. The same in every process."""
    sources = open_sources(run.study)
    tables = [source.columns(run.study, "train") for source in sources]
    study = run.study.fit_statistics(tables)
    models = fit_models(study, tables, np.random.default_rng([run.config.seed, 1]))
    loader = MultiSourceLoader(
        sources, study, "train", run.config.batch, run.config.seed, world.rank, world.size
    )
    return Material(study, sources, loader, models)


def configurations(study: Study, config: TrainConfig) -> tuple[GeneratorConfig, DiscriminatorConfig]:
    """The networks' configurations of a run."""
    numerics = {"num_fp16_res": config.num_fp16_res, "conv_clamp": config.conv_clamp or None}
    depth = {"mapping_layers": config.mapping_layers} if config.mapping_layers else {}
    image = {"img_resolution": study.resolution, "img_channels": study.channels, "c_dim": study.layout.width}
    generator = GeneratorConfig(
        kind=config.cfg,
        z_dim=config.z_dim,
        w_dim=config.w_dim,
        channel_base=config.channel_base,
        channel_max=config.channel_max,
        mapping_lr_multiplier=config.mapping_lr_multiplier,
        **depth,
        **image,
        **numerics,
    )
    discriminator = DiscriminatorConfig(
        head=config.d_head,
        channel_base=config.d_channel_base or config.channel_base,
        channel_max=config.d_channel_max or config.channel_max,
        mbstd_group_size=config.mbstd_group,
        freeze_layers=config.freeze_d,
        **image,
        **numerics,
    )
    return generator, discriminator


def build(run: Run, study: Study, world: World) -> tuple[Parts, Generator]:
    """Networks, optimisers and the averaged generator, at step 0 or from the snapshot of --init-from."""
    config = run.config
    torch.manual_seed(config.seed)
    g_config, d_config = configurations(study, config)
    G, D = build_generator(g_config), build_discriminator(d_config)
    if run.init_from:
        transfer(run, G, D)
    G, D = G.to(world.device).requires_grad_(True).train(), D.to(world.device).requires_grad_(True).train()
    G_ema = copy.deepcopy(G).eval().requires_grad_(False)
    augment = Augment(study.augment_allow, config.aug_p if config.aug == "fixed" else 0.0)
    pl_mean = torch.zeros((), device=world.device)
    return (
        Parts(G, D, *optimisers(G, D, config), CovariateLoss(study), augment, config, world, pl_mean),
        G_ema,
    )


def transfer(run: Run, G: torch.nn.Module, D: torch.nn.Module) -> None:
    """Start from a snapshot's weights: every tensor of the same name and shape; the rest keeps its fresh
    values.

    Raises:
        RunError: No tensor of one network fits.
    """
    snapshot = load_snapshot(run.init_from)
    held = {"G": G, "D": D}
    for name, network in held.items():
        given = snapshot.load(name).state_dict()
        own = network.state_dict()
        fitting = {k: v for k, v in given.items() if k in own and own[k].shape == v.shape}
        if not fitting:
            raise RunError(
                "no tensor fits this study's networks",
                file=run.init_from,
                field=name,
                hint="Use the same --cfg and sizes",
            )
        network.load_state_dict(own | fitting)
        run.log(f"--init-from: {len(fitting)} of {len(own)} tensors of {name} taken over")


def state_bytes(parts: Parts, G_ema: Generator, step: int, best: dict[str, float]) -> bytes:
    """Everything that a resumed run needs, as bytes; random draws and the loader need no state but the
    step."""
    buffer = io.BytesIO()
    state = {
        "step": step,
        "G": parts.G.state_dict(),
        "D": parts.D.state_dict(),
        "G_ema": G_ema.state_dict(),
        "opt_G": parts.opt_G.state_dict(),
        "opt_D": parts.opt_D.state_dict(),
        "ada_p": parts.augment.p,
        "signs": parts.signs,
        "pl_mean": parts.pl_mean,
        "best": best,
        "setbacks": parts.setbacks,
    }
    torch.save(state, buffer)
    return buffer.getvalue()


def restore(run: Run, parts: Parts, G_ema: Generator) -> tuple[int, dict[str, float]]:
    """Continue from the newest training state that can be read; (0, {}) if the run has none yet.

    Raises:
        RunError: There are states, but none is usable.
    """
    problem = ""
    for path in run.state_files():
        try:
            state = torch.load(path, map_location=parts.world.device, weights_only=True)
            parts.G.load_state_dict(state["G"])
            parts.D.load_state_dict(state["D"])
            G_ema.load_state_dict(state["G_ema"])
            parts.opt_G.load_state_dict(state["opt_G"])
            parts.opt_D.load_state_dict(state["opt_D"])
        except Exception as error:  # a damaged file fails in many ways, and each means: try the one before
            problem = f"{path.name}: {type(error).__name__}"
            run.log(f"training state {path.name} cannot be read, trying the one before")
            continue
        parts.augment.p, parts.signs, parts.setbacks = (
            state["ada_p"],
            list(state["signs"]),
            state.get("setbacks", 0),
        )
        parts.pl_mean.copy_(state["pl_mean"])
        return state["step"], state["best"]
    if problem:
        raise RunError(
            "no training state can be read",
            file=run.states,
            found=problem,
            hint="Start anew with --init-from a snapshot of this run",
        )
    return 0, {}


def draw_real(
    material: Material, config: TrainConfig, world: World, step: int, rng: np.random.Generator
) -> Real:
    """The step's real batch: images as D sees them, completed conditions, and which covariates count.

    Draws are made for the whole global batch and each process keeps its rows: they do not depend on how many
    there are.
    """
    batch, mine = material.loader.batch(step), slice(world.rank, None, world.size)
    images = torch.from_numpy(batch.images).to(world.device).float() / 127.5 - 1
    if config.mirror:
        flip = torch.from_numpy(rng.random(config.batch)[mine] < 0.5).to(world.device)
        images = torch.where(flip[:, None, None, None], images.flip(3), images)
    completed = material.models.complete(material.loader.values(step), rng)[mine]
    observed = batch.observed & np.isfinite(batch.values)
    if config.covariate_target == "completed":
        observed = np.ones_like(observed)
    mask = torch.from_numpy(observed).to(world.device)
    counts = world.sum(mask.sum(0).float())
    return Real(images, torch.from_numpy(material.study.encode(completed)).to(world.device), mask, counts)


def draw_fakes(material: Material, config: TrainConfig, world: World, step: int, phase: int) -> Draw:
    """Latents and conditions of a phase's fakes: label rows of every source, completed afresh (docs/method.md
    section 5)."""
    rng = np.random.default_rng([config.seed, 2, step, phase])
    values, _ = material.loader.conditions(2 * step + phase, config.batch)
    c = torch.from_numpy(material.study.encode(material.models.complete(values, rng)))
    z = torch.from_numpy(rng.standard_normal((config.batch, config.z_dim), dtype=np.float32))
    mine = slice(world.rank, None, world.size)
    counts = torch.full((len(material.study.conditions),), float(config.batch), device=world.device)
    return Draw(z[mine].to(world.device), c[mine].to(world.device), counts)


def optimise(parts: Parts, G_ema: Generator, material: Material, step: int, meter: Meter) -> float:
    """One step: G, its path lengths now and then, D, its gradient penalty now and then, the average. Returns
    λ."""
    config, world = parts.config, parts.world
    kimg = step * config.batch / 1000
    torch.manual_seed(_mix(config.seed, step, world.rank))
    for optimiser in (parts.opt_G, parts.opt_D):
        for group in optimiser.param_groups:
            group.setdefault("initial_lr", group["lr"])
            group["lr"] = group["initial_lr"] * config.lr_scale_at(kimg) * 0.5**parts.setbacks
    weight = config.lambda_at(kimg)
    sigma = config.blur_sigma * max(0.0, 1 - kimg / (config.batch * 200 / 32)) if config.blur_sigma else 0.0
    real = draw_real(material, config, world, step, np.random.default_rng([config.seed, 3, step]))
    fakes = [draw_fakes(material, config, world, step, phase) for phase in (0, 1)]

    meter.add(generator_phase(parts, fakes[0], real, weight, sigma))
    world.average([b for n, b in parts.G.named_buffers() if n.endswith(RUNNING_MEANS)])
    if config.pl_weight and step % config.pl_interval == 0:
        meter.add(path_length_phase(parts, fakes[0]))
    meter.add(discriminator_phase(parts, fakes[1], real, weight, sigma))
    if config.gamma and step % config.r1_interval == 0:
        meter.add(penalty_phase(parts, fakes[1], real, sigma))
    ema.update(G_ema, parts.G, ema.decay(config.batch, kimg, config.ema_halflife_kimg, config.ema_rampup))
    if config.aug == "ada" and (step + 1) % ADAPT_EVERY == 0:
        sign = world.sum(torch.tensor(float(np.mean(parts.signs)), device=world.device)).item() / world.size
        parts.augment.adapt(sign, config.ada_target, config.batch * ADAPT_EVERY, config.ada_kimg)
    if (step + 1) % ADAPT_EVERY == 0:
        parts.signs.clear()
    return weight


def _mix(*numbers: int) -> int:
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0] >> 1)


def step_back(
    run: Run, parts: Parts, G_ema: Generator, keeper: Keeper, step: int, lost: list[str], row: dict[str, Any]
) -> int:
    """Back to the last saved state with half the learning rates, because of a loss that is not finite.

    The halving is saved before it is tried: a run that is killed from here on goes on the same way.

    Args:
        run, parts, G_ema, keeper: As in `train`.
        step: Where the loss was seen.
        lost: Names of what is not finite.
        row: The tick that shows it.

    Returns:
        The step to go on from.

    Raises:
        RunError: After MOST_SETBACKS of them; `diverged.json` is the report.
    """
    setbacks = parts.setbacks + 1
    if setbacks > MOST_SETBACKS:
        keeper.diverged(step, lost, parts.setbacks, row)
    first, best = restore(run, parts, G_ema)
    parts.setbacks = setbacks
    parts.world.barrier()  # every process has read the state before it is replaced
    keeper.rewind(first, best)
    keeper.keep_state(first, functools.partial(state_bytes, parts, G_ema, first))
    keeper.say(
        f"{', '.join(lost[:3])} not finite at {keeper.kimg(step):.1f} kimg: back to {keeper.kimg(first):.1f}"
        f" kimg with learning rates / {2**setbacks}"
    )
    return first


def train(run: Run, world: World, progress: Progress | None = None) -> None:
    """Train a run to its end, or until SIGINT or SIGTERM asks it to save and stop.

    Args:
        run: The run's folder, new or to be resumed.
        world: This process's place.
        progress: Called in the main process with every tick's row, and with {"event": text}.
    """
    keep_freed_memory()
    report: Progress = progress if progress and world.is_main else lambda _: None
    with locked(run.path) if world.is_main else _nothing(), _interrupts() as interrupted:
        material = prepare(run, world)
        parts, G_ema = build(run, material.study, world)
        first, best = restore(run, parts, G_ema)
        world.broadcast(parts.G)
        world.broadcast(parts.D)
        keeper = Keeper(run, world, material, parts, G_ema, best, report, first)
        per_tick = max(1, round(run.config.tick_kimg * 1000 / run.config.batch))
        total = run.config.total_steps
        step, stopped, interrupt = first, False, False
        if first == 0:
            keeper.save(0, evaluate=False, row={})
            keeper.keep_state(0, functools.partial(state_bytes, parts, G_ema, 0))
        while step < total and not stopped:
            weight = optimise(parts, G_ema, material, step, keeper.meter)
            step += 1
            interrupt = world.any(interrupted.is_set())
            if step % per_tick == 0 or step == total or interrupt:
                row = keeper.tick(step, weight)
                if lost := sorted(k for k, v in row.items() if not np.isfinite(v)):
                    step = step_back(run, parts, G_ema, keeper, step, lost, row)
                    continue
                keep = step % (per_tick * run.config.snap) == 0 or step == total or interrupt
                if keep:
                    keeper.save(step, evaluate=not interrupt, row=row)
                state = functools.partial(state_bytes, parts, G_ema, step) if keep else None
                stopped = keeper.commit(step, row, state) or interrupt
        keeper.close(step, step >= total or not interrupt)


@contextmanager
def _nothing():
    yield


@contextmanager
def _interrupts():
    """An event that SIGINT and SIGTERM set instead of ending the process; a second SIGINT ends it."""
    flag = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield flag
        return

    def ask(number: int, _frame: object) -> None:
        if flag.is_set() and number == signal.SIGINT:
            raise KeyboardInterrupt
        flag.set()

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield flag
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
