"""One optimisation step: the phases of G and D, written so that each reads like its equation (docs/method.md
section 5)."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mssg.losses import adversarial
from mssg.losses.covariate import CovariateLoss
from mssg.losses.regularizers import gradient_penalty, path_length
from mssg.networks.discriminator import Discriminator
from mssg.networks.generator import Generator
from mssg.training.augment import Augment
from mssg.training.config import TrainConfig
from mssg.training.distributed import World


@dataclass
class Parts:
    """What a step works on."""

    G: Generator
    D: Discriminator
    opt_G: torch.optim.Optimizer
    opt_D: torch.optim.Optimizer
    loss: CovariateLoss
    augment: Augment
    config: TrainConfig
    world: World
    pl_mean: Tensor
    setbacks: int = (
        0  # how often the run went back after a loss that was not finite; each halves the learning rates
    )
    signs: list[float] = field(default_factory=list)  # [sum, count] of sign(D(real)) since p was last adapted


@dataclass(frozen=True)
class Draw:
    """Latents and conditions of one phase's fakes: z [B, z_dim], c [B, K]; `counts` [V] is the global batch's
    size."""

    z: Tensor
    c: Tensor
    counts: Tensor


@dataclass(frozen=True)
class Real:
    """Real images [B, C, H, W] in [−1, 1], their encoded, completed conditions [B, K], which of them count
    [B, V], and how many rows of the global batch count for each covariate [V]."""

    images: Tensor
    c: Tensor
    mask: Tensor
    counts: Tensor


def optimisers(
    G: Generator, D: Discriminator, config: TrainConfig
) -> tuple[torch.optim.Optimizer, torch.optim.Optimizer]:
    """Adam for both networks, with lr·r and β^r, r = i/(i+1), where a regulariser runs every i steps."""

    def adam(weights: list[nn.Parameter], lr: float, interval: int) -> torch.optim.Optimizer:
        ratio = interval / (interval + 1) if interval else 1.0
        betas = (config.beta1**ratio if config.beta1 else 0.0, config.beta2**ratio)
        return torch.optim.Adam(weights, lr=lr * ratio, betas=betas, eps=1e-8, fused=True)

    g_interval = config.pl_interval if config.pl_weight else 0
    d_interval = config.r1_interval if config.gamma else 0
    return adam(list(G.parameters()), config.g_lr, g_interval), adam(
        D.trainable_parameters(), config.d_lr, d_interval
    )


def _apply(parts: Parts, network: nn.Module, optimiser: torch.optim.Optimizer) -> None:
    parts.world.reduce_gradients(network.parameters())
    optimiser.step()
    network.zero_grad(set_to_none=True)


def _chunks(parts: Parts, rows: int) -> list[slice]:
    size = parts.config.micro_batch or rows
    return [slice(i, i + size) for i in range(0, rows, size)]


def _blur(images: Tensor, sigma: float) -> Tensor:
    """Gaussian blur of D's input, used early in StyleGAN3-R training. sigma in pixels."""
    radius = math.floor(sigma * 3)
    if radius < 1:
        return images
    taps = torch.exp2(-((torch.arange(-radius, radius + 1, device=images.device) / sigma) ** 2))
    taps, n = (taps / taps.sum()).to(images.dtype), images.shape[1]
    images = F.pad(images, [radius] * 4, mode="constant")
    images = F.conv2d(images, taps[None, None, None].repeat(n, 1, 1, 1), groups=n)
    return F.conv2d(images, taps[None, None, :, None].repeat(n, 1, 1, 1), groups=n)


def _judge(parts: Parts, images: Tensor, c: Tensor, sigma: float) -> Tensor:
    """D's outputs [B, 1+K] (or [B, 1] with a projection head) for images that were augmented already."""
    return parts.D(_blur(images, sigma), c)


def _generate(parts: Parts, draw: Draw, rows: slice, update_emas: bool = False) -> tuple[Tensor, Tensor]:
    """Fakes with style mixing: images [b, C, H, W] and the ws they came from."""
    ws = parts.G.mapping(draw.z[rows], draw.c[rows], update_emas=update_emas)
    if parts.config.style_mixing and torch.rand(()).item() < parts.config.style_mixing:
        cutoff = int(torch.randint(1, ws.shape[1], ()).item())
        other = parts.G.mapping(torch.randn_like(draw.z[rows]), draw.c[rows])
        ws = torch.cat([ws[:, :cutoff], other[:, cutoff:]], 1)
    return parts.G.synthesis(ws, noise_mode="random", update_emas=update_emas), ws


def _covariates(parts: Parts, outputs: Tensor, target: Tensor, mask: Tensor | None, counts: Tensor):
    """The covariate loss of a micro-batch; averaged over ranks and summed over micro-batches it is the global
    batch's."""
    if outputs.shape[1] == 1:  # a projection head has no covariate outputs
        return outputs.sum() * 0, {}
    value, terms = parts.loss(outputs[:, 1:], target, mask, counts)
    return value * parts.world.size, terms


def generator_phase(parts: Parts, draw: Draw, real: Real, weight: float, sigma: float) -> dict[str, Tensor]:
    """G step: adversarial(fake) + λ·cov(D(fake), c)."""
    stats: dict[str, Tensor] = {}
    total = len(draw.z)
    parts.D.requires_grad_(False)
    for rows in _chunks(parts, total):
        images, _ = _generate(parts, draw, rows, update_emas=True)
        outputs = _judge(parts, parts.augment(images), draw.c[rows], sigma)
        if parts.config.objective == "r3gan":
            with torch.no_grad():
                reference = _judge(parts, parts.augment(real.images[rows]), real.c[rows], sigma)[:, 0]
            adv = adversarial.relativistic_generator(reference, outputs[:, 0])
        else:
            adv = adversarial.logistic_generator(outputs[:, 0])
        share = len(outputs) / total
        adv = adv * share
        cov, terms = _covariates(parts, outputs, draw.c[rows], None, draw.counts)
        (adv + weight * cov).backward()
        _record(stats, {"loss/G/adv": adv, "loss/G/cov": cov, "score/fake": outputs[:, 0].mean() * share})
        _record(stats, {f"loss/G/cov/{k}": v * share for k, v in terms.items()})
    parts.D.requires_grad_(True)
    _apply(parts, parts.G, parts.opt_G)
    return stats


def path_length_phase(parts: Parts, draw: Draw) -> dict[str, Tensor]:
    """Lazy path-length regularisation on a part of the batch, weighted by its interval."""
    config = parts.config
    rows = slice(0, max(1, len(draw.z) // config.pl_shrink))
    images, ws = _generate(parts, draw, rows)
    penalty, mean = path_length(images, ws, parts.pl_mean)
    parts.pl_mean.copy_(parts.world.sum(mean) / parts.world.size)
    (penalty.mean() * config.pl_weight * config.pl_interval).backward()
    _apply(parts, parts.G, parts.opt_G)
    return {"loss/G/pl": penalty.mean().detach()}


def discriminator_phase(
    parts: Parts, draw: Draw, real: Real, weight: float, sigma: float
) -> dict[str, Tensor]:
    """D step: adversarial(fake) + adversarial(real) + λ·cov(D(real), c_real)."""
    stats: dict[str, Tensor] = {}
    total = len(draw.z)
    for rows in _chunks(parts, total):
        with torch.no_grad():
            images, _ = _generate(parts, draw, rows)
        fake = _judge(parts, parts.augment(images), draw.c[rows], sigma)
        judged = _judge(parts, parts.augment(real.images[rows]), real.c[rows], sigma)
        compare = (
            adversarial.relativistic_discriminator
            if parts.config.objective == "r3gan"
            else adversarial.logistic_discriminator
        )
        share = len(fake) / total
        adv = compare(judged[:, 0], fake[:, 0]) * share
        cov, terms = _covariates(parts, judged, real.c[rows], real.mask[rows], real.counts)
        (adv + weight * cov).backward()
        logits = judged[:, 0].detach()
        parts.signs.append(float(logits.sign().mean()))
        _record(stats, {"loss/D/adv": adv, "loss/D/cov": cov, "score/real": logits.mean() * share})
        _record(stats, {f"loss/D/cov/{k}": v * share for k, v in terms.items()})
    _apply(parts, parts.D, parts.opt_D)
    return stats


def penalty_phase(parts: Parts, draw: Draw, real: Real, sigma: float) -> dict[str, Tensor]:
    """Lazy R1 on D's realness of real images, and R2 on fakes for the R3GAN objective: γ/2 · i · |∇D|².

    The gradient is taken at D's own input, after augmentation.
    """
    config, stats = parts.config, {}
    total = len(real.images)
    for rows in _chunks(parts, total):
        inputs = {"r1": (parts.augment(real.images[rows]), real.c[rows])}
        if config.objective == "r3gan":
            with torch.no_grad():
                inputs["r2"] = (parts.augment(_generate(parts, draw, rows)[0]), draw.c[rows])
        for name, (images, c) in inputs.items():
            images = images.detach().requires_grad_(True)
            penalty = gradient_penalty(images, _judge(parts, images, c, sigma)[:, 0]).mean() * (
                len(images) / total
            )
            (penalty * (config.gamma / 2 * config.r1_interval)).backward()
            _record(stats, {f"loss/D/{name}": penalty})
    _apply(parts, parts.D, parts.opt_D)
    return stats


def _record(stats: dict[str, Tensor], values: dict[str, Tensor]) -> None:
    for name, value in values.items():
        stats[name] = stats.get(name, 0) + value.detach()
