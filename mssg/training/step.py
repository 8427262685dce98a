"""One optimisation step: the phases of G and D, written so that each reads like its equation
(docs/method/method.md section 5)."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mssg.losses import adversarial
from mssg.losses.covariate import CovariateLoss, CovariateTerms, added
from mssg.losses.regularizers import gradient_penalty, path_length
from mssg.networks.layers import SynthesisInputs, run
from mssg.networks.noise import noise_of_slices
from mssg.study.train_config import TrainConfig
from mssg.training import ema
from mssg.training.batches import FakeBatch, RealBatch, StepBatch
from mssg.training.distributed import World
from mssg.training.state import TrainState

RUNNING_MEANS = ("w_avg", "magnitude_ema")  # buffers that each process updates from its part of the batch
ADAPT_EVERY = 4  # steps between two changes of the augmentation probability
APART_ROWS = 500  # half-life, in real images, of how far D's reading of what they do not record is off
SIGNS = "sign/real"

Statistics = dict[str, Tensor]
"""What a step reports, on the device: scalars, and [value, 1 or 0] where there may be nothing to report."""


@dataclass(frozen=True)
class TrainSetup:
    """What a step works by and does not change."""

    config: TrainConfig
    loss: CovariateLoss
    world: World


def train_step(state: TrainState, batch: StepBatch, setup: TrainSetup) -> Statistics:
    """One step: G, its path lengths now and then, D, its gradient penalty now and then, the average.

    Every draw on the way is a function of (seed, step, rank).

    Args:
        state: Changed in place; its `step` goes up by one.
        batch: The draws of this step.
        setup: Configuration, covariate loss and place among the processes.

    Returns:
        What stats.jsonl reports the means of.
    """
    config, world, step = setup.config, setup.world, state.step
    kimg = config.kimg(step)
    torch.manual_seed(_mixed(config.seed, step, world.rank))
    state.scale_learning_rates(config.lr_scale_at(kimg) * 0.5**state.setbacks)

    statistics = generator_phase(state, batch, setup)
    world.average([b for name, b in state.G.named_buffers() if name.endswith(RUNNING_MEANS)])
    if config.pl_weight and step % config.pl_interval == 0:
        statistics |= path_length_phase(state, batch, setup)
    statistics |= discriminator_phase(state, batch, setup)
    if config.gamma and step % config.r1_interval == 0:
        statistics |= penalty_phase(state, batch, setup)
    beta = ema.decay(config.batch, kimg, config.ema_halflife_kimg, config.ema_rampup)
    ema.update(state.G_ema, state.G, beta)

    state.step += 1
    state.signs.extend(statistics.pop(SIGNS))
    if state.step % ADAPT_EVERY == 0:
        _adapt(state, setup)
    return statistics


def generator_phase(state: TrainState, batch: StepBatch, setup: TrainSetup) -> Statistics:
    """G step: adversarial(fake) + λ·cov(D(fake), c)."""
    fakes, real = batch.fakes_for_G, batch.real
    sums: Statistics = {}
    terms: list[CovariateTerms] = []
    state.D.requires_grad_(False)
    for rows, share in _micro_batches(setup, len(fakes.z)):
        images, _ = _generate(state, fakes, rows, setup, update_emas=True)
        outputs = _judge(state, state.augment(images), fakes.c[rows], setup)
        if setup.config.objective == "r3gan":
            with torch.no_grad():
                paired = _judge(state, state.augment(real.images[rows]), real.c[rows], setup)[:, 0]
            adv = adversarial.relativistic_generator(paired, outputs[:, 0]) * share
        else:
            adv = adversarial.logistic_generator(outputs[:, 0]) * share
        cov, term = _covariate_loss(setup, outputs, fakes, rows)
        (adv + _lambda(state, setup) * cov).backward()
        _record(sums, {"loss/G/adv": adv, "loss/G/cov": cov, "score/fake": outputs[:, 0].mean() * share})
        terms += term
    state.D.requires_grad_(True)
    _apply(state.G, state.opt_G, setup)
    return sums | _by_covariate("loss/G/cov", terms)


def path_length_phase(state: TrainState, batch: StepBatch, setup: TrainSetup) -> Statistics:
    """Lazy path-length regularisation on a part of the batch, weighted by its interval."""
    config, world, fakes = setup.config, setup.world, batch.fakes_for_G
    rows = slice(0, max(1, len(fakes.z) // config.pl_shrink))
    images, ws = _generate(state, fakes, rows, setup)
    penalty, mean = path_length(images, ws, state.pl_mean)
    state.pl_mean.copy_(world.sum(mean) / world.size)
    (penalty.mean() * config.pl_weight * config.pl_interval).backward()
    _apply(state.G, state.opt_G, setup)
    return {"loss/G/pl": penalty.mean().detach()}


def discriminator_phase(state: TrainState, batch: StepBatch, setup: TrainSetup) -> Statistics:
    """D step: adversarial(fake) + adversarial(real) + λ·cov(D(real), c_real), and λ·weight·(its mean reading
    of what was not recorded − what the covariate models expect)² where that is asked for."""
    fakes, real = batch.fakes_for_D, batch.real
    r3gan = setup.config.objective == "r3gan"
    compare = adversarial.relativistic_discriminator if r3gan else adversarial.logistic_discriminator
    sums: Statistics = {}
    terms: list[CovariateTerms] = []
    signs: list[Tensor] = []
    for rows, share in _micro_batches(setup, len(fakes.z)):
        with torch.no_grad():
            images, _ = _generate(state, fakes, rows, setup)
        fake = _judge(state, state.augment(images), fakes.c[rows], setup)
        judged = _judge(state, state.augment(real.images[rows]), real.c[rows], setup)
        adv = compare(judged[:, 0], fake[:, 0]) * share
        cov, term = _covariate_loss(setup, judged, real, rows)
        if setup.config.expected_reading:
            pull = _pull_to_expected(state, setup, judged, real, rows) * share
            cov = cov + setup.config.expected_reading * pull
            _record(sums, {"loss/D/expected_reading": state.apart.square().sum() * share})
        (adv + _lambda(state, setup) * cov).backward()
        logits = judged[:, 0].detach()
        _record(sums, {"loss/D/adv": adv, "loss/D/cov": cov, "score/real": logits.mean() * share})
        signs.append(logits.sign().mean())
        terms += term
    _apply(state.D, state.opt_D, setup)
    return sums | _by_covariate("loss/D/cov", terms) | {SIGNS: torch.stack(signs)}


def penalty_phase(state: TrainState, batch: StepBatch, setup: TrainSetup) -> Statistics:
    """Lazy R1 on D's realness of real images, and R2 on fakes for the R3GAN objective: γ/2 · i · |∇D|².

    The gradient is taken at D's own input, after augmentation.
    """
    config, fakes, real = setup.config, batch.fakes_for_D, batch.real
    sums: Statistics = {}
    for rows, share in _micro_batches(setup, len(real.images)):
        inputs = {"r1": (state.augment(real.images[rows]), real.c[rows])}
        if config.objective == "r3gan":
            with torch.no_grad():
                images, _ = _generate(state, fakes, rows, setup)
                inputs["r2"] = (state.augment(images), fakes.c[rows])
        for name, (images, c) in inputs.items():
            images = images.detach().requires_grad_(True)
            penalty = gradient_penalty(images, _judge(state, images, c, setup)[:, 0]).mean() * share
            (penalty * (config.gamma / 2 * config.r1_interval)).backward()
            _record(sums, {f"loss/D/{name}": penalty})
    _apply(state.D, state.opt_D, setup)
    return sums


def _adapt(state: TrainState, setup: TrainSetup) -> None:
    """Move the augmentation probability by the signs of the last steps, over all processes."""
    config, world = setup.config, setup.world
    if config.aug == "ada":
        mean = float(np.mean(torch.stack(state.signs).tolist()))
        mean = world.sum(torch.tensor(mean, device=world.device)).item() / world.size
        state.augment.adapt(mean, config.ada_target, config.batch * ADAPT_EVERY, config.ada_kimg)
    state.signs.clear()


def _mixed(*numbers: int) -> int:
    """A seed made of several numbers."""
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0] >> 1)


def _lambda(state: TrainState, setup: TrainSetup) -> float:
    return setup.config.lambda_at(setup.config.kimg(state.step))


def _apply(network: nn.Module, optimiser: torch.optim.Optimizer, setup: TrainSetup) -> None:
    setup.world.reduce_gradients(network.parameters())
    optimiser.step()
    network.zero_grad(set_to_none=True)


def _micro_batches(setup: TrainSetup, rows: int) -> Iterator[tuple[slice, float]]:
    """Rows that go through a network at a time, and their share of all."""
    size = min(setup.config.micro_batch or rows, rows)
    for start in range(0, rows, size):
        yield slice(start, start + size), min(size, rows - start) / rows


def _blurred(images: Tensor, sigma: float) -> Tensor:
    """Gaussian blur of D's input, used early in StyleGAN3-R training. sigma in pixels."""
    radius = math.floor(sigma * 3)
    if radius < 1:
        return images
    taps = torch.exp2(-((torch.arange(-radius, radius + 1, device=images.device) / sigma) ** 2))
    taps, n = (taps / taps.sum()).to(images.dtype), images.shape[1]
    images = F.pad(images, [radius] * 4, mode="constant")
    images = F.conv2d(images, taps[None, None, None].repeat(n, 1, 1, 1), groups=n)
    return F.conv2d(images, taps[None, None, :, None].repeat(n, 1, 1, 1), groups=n)


def _judge(state: TrainState, images: Tensor, c: Tensor, setup: TrainSetup) -> Tensor:
    """D's outputs [B, 1+K] (or [B, 1] with a projection head) for images that were augmented already."""
    return state.D(_blurred(images, setup.config.blur_at(setup.config.kimg(state.step))), c)


def _generate(
    state: TrainState, fakes: FakeBatch, rows: slice, setup: TrainSetup, *, update_emas: bool = False
) -> tuple[Tensor, Tensor]:
    """Fakes with style mixing: images [b, C, H, W] and the ws they came from.

    Where D sees pairs of slices, images are [b, 2C, H, W]: one latent at two places, with equal noise in the
    layers, as a head is drawn.
    """
    G, mixing = state.G, setup.config.style_mixing
    z, conditions = fakes.z[rows], [c[rows] for c in (fakes.c, fakes.beside) if c is not None]
    each, c = len(conditions), torch.cat(conditions)
    ws = G.mapping(z.repeat(each, 1), c, update_emas=update_emas)
    if mixing and torch.rand(()).item() < mixing:
        cutoff = int(torch.randint(1, ws.shape[1], ()).item())
        other = G.mapping(torch.randn_like(z).repeat(each, 1), c)
        ws = torch.cat([ws[:, :cutoff], other[:, cutoff:]], 1)
    if each == 1:
        return G.synthesis(ws, noise_mode="random", update_emas=update_emas), ws
    noise = noise_of_slices(G.synthesis, len(z), each)
    images = run(G.synthesis.layers(ws, SynthesisInputs(noise=noise, update_emas=update_emas)))
    return torch.cat(images.chunk(each), 1), ws


def _covariate_loss(
    setup: TrainSetup, outputs: Tensor, batch: FakeBatch | RealBatch, rows: slice
) -> tuple[Tensor, list[CovariateTerms]]:
    """The covariate loss of a micro-batch and its terms, none with a projection head.

    Averaged over ranks and summed over micro-batches it is the global batch's.
    """
    if outputs.shape[1] == 1:  # a projection head has no covariate outputs
        return outputs.sum() * 0, []
    value, terms = setup.loss(outputs[:, 1:], batch.c[rows], batch.mask[rows], batch.counts)
    return value * setup.world.size, [terms]


def _pull_to_expected(
    state: TrainState, setup: TrainSetup, judged: Tensor, real: RealBatch, rows: slice
) -> Tensor:
    """The loss that moves D's mean reading of what was not recorded to what is expected; a running mean over
    APART_ROWS says how far it is off."""
    means, counts = setup.loss.apart(judged[:, 1:], real.c[rows], real.mask[rows])
    weights, world = counts.to(means.dtype), setup.world
    total = world.sum(weights)
    seen = world.sum(means.detach() * weights) / total.clamp(min=1)
    state.apart.lerp_(seen, 1 - 0.5 ** (total / APART_ROWS))
    return setup.loss.pull(means, state.apart)


def _record(sums: Statistics, values: Statistics) -> None:
    """Add a micro-batch's share of some statistics."""
    for name, value in values.items():
        sums[name] = sums.get(name, 0) + value.detach()


def _by_covariate(prefix: str, parts: list[CovariateTerms]) -> Statistics:
    """Each covariate's mean loss over the rows that counted in all micro-batches; nothing where none did."""
    if not parts:
        return {}
    terms = added(parts)
    table = torch.stack([terms.sums / terms.rows.clamp(min=1), (terms.rows > 0).to(terms.sums.dtype)], 1)
    return {f"{prefix}/{name}": row for name, row in zip(terms.names, table)}
