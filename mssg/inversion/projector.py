"""Real images as latents of a generator, so that their covariates can be edited
(docs/guide/counterfactuals.md).

An image x with covariates c is explained as G(f(z, c) + r): z is what the generator itself can say about it
(exogenous noise, in the words of Pearl), r the residual in w that it cannot say. An edit to c' keeps both:
G(f(z, c') + r). Where x was drawn by the generator and z is found, r is zero and the edit is exactly what the
generator draws for (z, c').

Source: projection, noise regularisation and schedules after Karras et al. 2020, "Analyzing and improving the
image quality of StyleGAN", appendix D; W+ after Abdal et al. 2019, "Image2StyleGAN"; abduction, action,
prediction after Pawlowski et al. 2020, "Deep structural causal models for tractable counterfactual
inference".
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor
from torch.func import functional_call
from torch.nn import functional as F

from mssg.errors import UsageError
from mssg.features.perceptual import NO_FEATURES, OWN_FEATURES, Distance
from mssg.networks.generator import Generator
from mssg.rendering.request import to_uint8
from mssg.study.model import Study

SPACES = ("w", "w+")
W_SAMPLES = 10_000
"""Draws behind the spread of w (appendix D)."""
LARGEST_BATCH = 64
"""Candidates drawn at a time."""
SMALLEST_NOISE = 8
"""Coarsest level of the noise pyramid in pixels (appendix D)."""


@dataclass(frozen=True)
class InvertConfig:
    """How an image is inverted.

    Attributes:
        space: "w": one residual for all layers; "w+": one for each.
        steps: Steps of Adam.
        lr: Largest learning rate; it rises over the first 5 % of the steps and falls as a cosine over the
            last 25 %.
        features: What sees the image beside its pixels: "discriminator" (the snapshot's own), "none",
            "lpips-alex", "lpips-vgg", "lpips-squeeze", or any spec of `mssg.features.extractors`.
        weights: File with the weights of those features, where they need one.
        feature_weight, pixel_weight: Of the distances in the loss.
        residual_weight: Price of the residual, in mean squares of the spread of w: what z can explain, z
            shall explain.
        free_noise: Also fit the noise inputs (StyleGAN2). They take up what is specific to one image, also
            what an edit should
            change: good for reconstruction, bad for editing.
        noise_weight: Price of structure in them (alpha of appendix D).
        explore: Noise added to w, in its spread, falling to zero over the first 75 % of the steps (0.05 in
            appendix D).
        candidates: Latents drawn to start from the nearest one.
        seed: Of candidates and noise.

    Raises:
        UsageError: A value that cannot be.
    """

    space: str = "w+"
    steps: int = 400
    lr: float = 0.1
    features: str = OWN_FEATURES
    weights: str | None = None
    feature_weight: float = 0.1
    pixel_weight: float = 1.0
    residual_weight: float = 0.05
    free_noise: bool = False
    noise_weight: float = 1e5
    explore: float = 0.05
    candidates: int = 128
    seed: int = 0

    def __post_init__(self) -> None:
        if self.space not in SPACES:
            raise UsageError(
                "no such latent space", field="space", found=self.space, expected=" | ".join(SPACES)
            )
        for name, least in (("steps", 1), ("candidates", 1)):
            if getattr(self, name) < least:
                raise UsageError(
                    "too few", field=name, found=getattr(self, name), expected=f"{least} or more"
                )
        for name in ("lr", "feature_weight", "pixel_weight", "residual_weight", "noise_weight", "explore"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value >= 0):
                raise UsageError("not a weight", field=name, found=value, expected="0 or more")
        if self.pixel_weight == 0 and (self.feature_weight == 0 or self.features == NO_FEATURES):
            raise UsageError("nothing to fit", field="pixel_weight, feature_weight", hint="Give one a weight")


@dataclass(frozen=True)
class Inversion:
    """Images as latents. Everything needed to draw and to edit them.

    Attributes:
        values: Covariates the images are explained with, float64 [N, V] native units.
        z: float32 [N, z_dim].
        residual: float32 [N, num_ws, w_dim].
        noise: Name of a synthesis layer's noise -> float32 [N, 1, r, r]; empty: the network's own.
        loss: The lowest loss, float64 [N].
        state: What a continuation needs; empty when finished.
    """

    values: np.ndarray
    z: np.ndarray
    residual: np.ndarray
    noise: Mapping[str, np.ndarray]
    loss: np.ndarray
    steps: int
    state: Mapping[str, np.ndarray] = field(default_factory=dict, repr=False)

    def __len__(self) -> int:
        return len(self.z)

    def rows(self, rows: np.ndarray) -> Inversion:
        """Some of the images; repeated as often as they are named."""
        noise = {k: v[rows] for k, v in self.noise.items()}
        return Inversion(
            self.values[rows], self.z[rows], self.residual[rows], noise, self.loss[rows], self.steps
        )


def edited_ws(G: Generator, study: Study, inversion: Inversion, values: np.ndarray | None = None) -> Tensor:
    """w of the images with other covariates: f(z, c') + r.

    Args:
        inversion: N images.
        values: c', float64 [N, V] native units; None: as they were inverted.

    Returns:
        [N, num_ws, w_dim] on G's device.
    """
    device = next(G.parameters()).device
    c = torch.from_numpy(study.encode(inversion.values if values is None else values)).to(device)
    ws = G.mapping(torch.from_numpy(inversion.z).to(device), c)
    return ws + torch.from_numpy(inversion.residual).to(device)


@torch.no_grad()
def draw(
    G: Generator, study: Study, inversion: Inversion, values: np.ndarray | None = None, batch: int = 32
) -> np.ndarray:
    """The images, or what they would be with other covariates.

    Args:
        G, study, inversion, values: As in `edited_ws`.

    Returns:
        uint8 [N, C, H, W].
    """
    device, parts = next(G.parameters()).device, []
    for start in range(0, len(inversion), batch):
        part = inversion.rows(np.arange(start, min(start + batch, len(inversion))))
        ws = edited_ws(G, study, part, None if values is None else values[start : start + batch])
        noise = {k: torch.from_numpy(v).to(device) for k, v in part.noise.items()}
        parts.append(to_uint8(functional_call(G.synthesis, noise, (ws,)).float().cpu().numpy()))
    return np.concatenate(parts)


def invert(
    G: Generator,
    study: Study,
    images: np.ndarray,
    values: np.ndarray,
    config: InvertConfig,
    perceptual: Callable[[Tensor], Distance] | None = None,
    resume: Inversion | None = None,
    progress: Callable[[int], bool] | None = None,
) -> Inversion:
    """Find the latents of images. Images do not influence each other; many at once are faster.

    Args:
        G: The generator, without gradients of its own.
        images: uint8 [N, C, H, W].
        values: Their covariates [N, V], native units, nothing missing.
        perceptual: Target images [N, C, H, W] in [-1, 1] -> distance from them (`mssg.features.perceptual`);
            None: pixels alone.
        resume: An unfinished inversion of the same images with the same values and config.
        progress: Called after every step with its number; True stops early, with the best so far and a
            `state`.

    Returns:
        Latents of the lowest loss.

    Raises:
        UsageError: Shapes that do not fit or values that are missing.
    """
    if images.shape[1:] != (G.img_channels, G.img_resolution, G.img_resolution) or images.dtype != np.uint8:
        expected = f"uint8 [N, {G.img_channels}, {G.img_resolution}, {G.img_resolution}]"
        raise UsageError(
            "images do not fit the generator", found=f"{images.dtype} {list(images.shape)}", expected=expected
        )
    if values.shape != (len(images), len(study.conditions)) or not np.isfinite(values).all():
        raise UsageError("every image needs a value of every covariate", found=f"{list(values.shape)}")
    search = _Search(G, study, images, values, config, perceptual)
    if resume is not None and resume.state:
        search.restore(resume)
    else:
        search.start()
    while search.step < config.steps:
        search.advance()
        if progress and progress(search.step) and search.step < config.steps:
            return search.result()
    return replace(search.result(), state={})


class _Search:
    """Adam over z, the residual and the noise of N images."""

    def __init__(self, G, study, images, values, config, perceptual) -> None:
        self.G, self.config, self.values = G, config, values
        self.device = next(G.parameters()).device
        self.c = torch.from_numpy(study.encode(values)).to(self.device)
        self.target = torch.from_numpy(images).to(self.device).float() / 127.5 - 1
        self.distance = perceptual(self.target) if perceptual and config.feature_weight > 0 else None
        self.step, n = 0, len(images)
        self.spread = self._spread_of_w()
        layers = G.num_ws if config.space == "w+" else 1
        self.free = {
            "z": torch.zeros(n, G.z_dim, device=self.device),
            "residual": torch.zeros(n, layers, G.w_dim, device=self.device),
        }
        if config.free_noise:
            stored = {k: b for k, b in G.synthesis.named_buffers() if k.endswith("noise_const")}
            self.free |= {k: b[None, None].repeat(n, 1, 1, 1) for k, b in stored.items()}
        for tensor in self.free.values():
            tensor.requires_grad_(True)
        self.optimiser = torch.optim.Adam(list(self.free.values()), lr=config.lr, betas=(0.9, 0.999))
        self.best = {name: tensor.detach().clone() for name, tensor in self.free.items()}
        self.best_loss = torch.full((n,), math.inf, device=self.device)

    @property
    def noise(self) -> dict[str, Tensor]:
        return {k: v for k, v in self.free.items() if k not in ("z", "residual")}

    def _random(self, stream: int, *shape: int) -> Tensor:
        """A function of (seed, stream) alone, so that a continuation repeats it."""
        seed = int(np.random.SeedSequence([self.config.seed, stream]).generate_state(1)[0])
        return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).to(self.device)

    @torch.no_grad()
    def _spread_of_w(self) -> float:
        """sigma_w: root of the mean squared distance of w from its mean, given the first image's covariates
        (appendix D)."""
        z = self._random(0, W_SAMPLES, self.G.z_dim)
        w = self.G.mapping(z, self.c[:1].expand(len(z), -1))[:, 0]
        return float((w - w.mean(0)).square().sum(1).mean().sqrt())

    @torch.no_grad()
    def start(self) -> None:
        """Begin each image at the nearest of some random latents."""
        z = self._random(1, self.config.candidates, self.G.z_dim)
        for i, target in enumerate(self.target):
            distances = []
            for part in z.split(LARGEST_BATCH):
                drawn = self.G.synthesis(self.G.mapping(part, self.c[i : i + 1].expand(len(part), -1)))
                distances.append((drawn - target).square().mean((1, 2, 3)))
            self.free["z"][i] = z[torch.cat(distances).argmin()]

    def _rate(self, t: float) -> float:
        """Learning rate at t in 0..1: up over 5 %, down as a cosine over the last 25 % (appendix D)."""
        down = min(1.0, (1 - t) / 0.25)
        return self.config.lr * min(1.0, t / 0.05) * (0.5 - 0.5 * math.cos(math.pi * down))

    def advance(self) -> None:
        """One step of Adam."""
        config = self.config
        t = self.step / config.steps
        for group in self.optimiser.param_groups:
            group["lr"] = self._rate((self.step + 1) / (config.steps + 1))
        ws = self.G.mapping(self.free["z"], self.c) + self.free["residual"] * self._unit
        width = config.explore * self.spread * max(0.0, 1 - t / 0.75) ** 2
        if width > 0:
            ws = ws + width / math.sqrt(self.G.w_dim) * self._random(2 + self.step, 1, 1, self.G.w_dim)
        drawn = functional_call(self.G.synthesis, self.noise, (ws,))
        loss = config.pixel_weight * (drawn - self.target).square().mean((1, 2, 3))
        if self.distance:
            loss = loss + config.feature_weight * self.distance(drawn)
        loss = loss + config.residual_weight * self.free["residual"].square().mean((1, 2))
        self._remember(loss.detach())
        total = loss.sum() + config.noise_weight * sum(noise_structure(n) for n in self.noise.values())
        self.optimiser.zero_grad(set_to_none=True)
        total.backward()
        self.optimiser.step()
        with torch.no_grad():
            for noise in self.noise.values():  # zero mean, unit variance after every step (appendix D)
                noise -= noise.mean((2, 3), keepdim=True)
                noise *= noise.square().mean((2, 3), keepdim=True).rsqrt()
        self.step += 1

    @property
    def _unit(self) -> float:
        """Spread of one component of w: the unit of the residual."""
        return self.spread / math.sqrt(self.G.w_dim)

    @torch.no_grad()
    def _remember(self, loss: Tensor) -> None:
        better = loss < self.best_loss
        self.best_loss = torch.where(better, loss, self.best_loss)
        for name, tensor in self.free.items():
            self.best[name][better] = tensor[better]

    def result(self) -> Inversion:
        """The best so far, and what a continuation needs."""
        best = {k: v.cpu().numpy() for k, v in self.best.items()}
        shape = (len(self.c), self.G.num_ws, self.G.w_dim)
        residual = np.broadcast_to(best["residual"] * np.float32(self._unit), shape).copy()
        state = {f"best/{k}": v for k, v in best.items()}
        for (name, tensor), held in zip(self.free.items(), self.optimiser.state_dict()["state"].values()):
            state[f"now/{name}"] = tensor.detach().cpu().numpy()
            state |= {f"{key}/{name}": held[key].cpu().numpy() for key in ("exp_avg", "exp_avg_sq")}
        noise = {k: v for k, v in best.items() if k not in ("z", "residual")}
        loss = self.best_loss.cpu().double().numpy()
        return Inversion(self.values, best["z"], residual, noise, loss=loss, steps=self.step, state=state)

    @torch.no_grad()
    def restore(self, resume: Inversion) -> None:
        """Go on where an inversion stopped."""
        document, self.step = self.optimiser.state_dict(), resume.steps
        for i, (name, tensor) in enumerate(self.free.items()):
            state = {k: resume.state.get(f"{k}/{name}") for k in ("best", "now", "exp_avg", "exp_avg_sq")}
            if any(v is None or v.shape != tuple(tensor.shape) for v in state.values()):
                raise UsageError("the unfinished inversion does not fit", field=name, hint="Start anew")
            held = {k: torch.from_numpy(v).to(self.device) for k, v in state.items() if v is not None}
            tensor.copy_(held["now"])
            self.best[name] = held["best"]
            moments = {k: held[k] for k in ("exp_avg", "exp_avg_sq")}
            document["state"][i] = {"step": torch.tensor(float(self.step)), **moments}
        self.optimiser.load_state_dict(document)
        self.best_loss = torch.from_numpy(resume.loss).float().to(self.device)


def noise_structure(noise: Tensor) -> Tensor:
    """How much neighbouring noise pixels tell of each other, at all scales: 0 for white noise.

    Args:
        noise: [N, 1, r, r].

    Returns:
        Sum over images and scales of the two squared autocorrelations at distance one.

    Source: Karras et al. 2020, appendix D: L_{i,j} = (1/r² Σ n(x,y) n(x−1,y))² + (1/r² Σ n(x,y) n(x,y−1))² on
    a pyramid of
        averaged 2 × 2 pixels, times two so that the variance stays one, down to 8 × 8.
    """
    total = noise.new_zeros(())
    while True:
        for axis in (2, 3):
            total = total + (noise * noise.roll(1, axis)).mean((1, 2, 3)).square().sum()
        if noise.shape[-1] <= SMALLEST_NOISE:
            return total
        noise = F.avg_pool2d(noise, 2) * 2
