"""All that training changes as it goes: what a resumed run needs, and nothing else.

Random draws and the loader need no state: they are functions of (seed, step).
"""

from __future__ import annotations

import copy
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn

from mssg.errors import RunError
from mssg.files import write_atomically
from mssg.networks.discriminator import Discriminator, build_discriminator
from mssg.networks.generator import Generator, build_generator
from mssg.study.model import Study
from mssg.study.train_config import TrainConfig
from mssg.training.augment import Augment
from mssg.training.networks import configurations, transfer
from mssg.training.run import Run


@dataclass
class TrainState:
    """The state of a run after `step` steps; it lies wholly on one device.

    Attributes:
        G, D: The networks that are trained.
        G_ema: The moving average of G's weights.
        augment: What D sees, with its adaptive probability.
        pl_mean: Running mean of path lengths, scalar.
        apart: Running mean of how far D's reading of unrecorded covariates is from what is expected, [V].
        best: The best validation score so far, and how many were no better since (`stale`).
        setbacks: How often a loss was not finite and the run went back; each halves the learning rates.
        signs: Mean signs of D's logits on real images since the augmentation was last adapted, scalars.
    """

    G: Generator
    D: Discriminator
    G_ema: Generator
    opt_G: torch.optim.Optimizer
    opt_D: torch.optim.Optimizer
    augment: Augment
    pl_mean: Tensor
    apart: Tensor
    step: int = 0
    best: dict[str, float] = field(default_factory=lambda: {"score": float("-inf"), "stale": 0})
    setbacks: int = 0
    signs: list[Tensor] = field(default_factory=list)

    def save(self, path: Path) -> None:
        """Write everything, whole or not at all.

        Raises:
            RunError: It cannot be written.
        """
        document = {
            "step": self.step,
            "G": self.G.state_dict(),
            "D": self.D.state_dict(),
            "G_ema": self.G_ema.state_dict(),
            "opt_G": self.opt_G.state_dict(),
            "opt_D": self.opt_D.state_dict(),
            "ada_p": self.augment.p,
            "signs": [float(sign) for sign in self.signs],
            "pl_mean": self.pl_mean,
            "apart": self.apart,
            "best": self.best,
            "setbacks": self.setbacks,
        }
        buffer = io.BytesIO()
        torch.save(document, buffer)
        write_atomically(path, buffer.getvalue(), RunError)

    def load(self, path: Path) -> None:
        """Take over what `save` wrote. A damaged file may raise anything, with only a part taken over."""
        device = self.pl_mean.device
        held = torch.load(path, map_location=device, weights_only=True)
        for name in ("G", "D", "G_ema", "opt_G", "opt_D"):
            getattr(self, name).load_state_dict(held[name])
        self.augment.p, self.setbacks = held["ada_p"], held.get("setbacks", 0)
        self.signs = [torch.tensor(sign, device=device) for sign in held["signs"]]
        self.pl_mean.copy_(held["pl_mean"])
        self.apart.copy_(held.get("apart", self.apart))
        self.step, self.best = held["step"], held["best"]

    def load_newest(self, files: Sequence[Path], log: Callable[[str], None]) -> None:
        """Take over the first of these files that can be read; without files, stay as it is.

        Args:
            files: Saved states, newest first.
            log: Told of each that cannot be read.

        Raises:
            RunError: There are files, but none can be read.
        """
        problem = ""
        for path in files:
            try:
                return self.load(path)
            except Exception as error:  # a damaged file fails in many ways, each means: try another
                problem = f"{path.name}: {type(error).__name__}"
                log(f"training state {path.name} cannot be read, trying the one before")
        if problem:
            hint = "Start anew with --init-from a snapshot of this run"
            folder = files[0].parent
            raise RunError("no training state can be read", file=folder, found=problem, hint=hint)

    def scale_learning_rates(self, factor: float) -> None:
        """Set both optimisers' learning rates to `factor` times those they began with."""
        for optimiser in (self.opt_G, self.opt_D):
            for group in optimiser.param_groups:
                group["lr"] = group.setdefault("initial_lr", group["lr"]) * factor

    def judge(self, score: float) -> bool:
        """Take up a validation score, higher is better; True if it is the best so far."""
        better = score > self.best["score"]
        self.best = {"score": score, "stale": 0} if better else self.best | {"stale": self.best["stale"] + 1}
        return better


def initial_state(run: Run, study: Study, device: str, log: Callable[[str], None]) -> TrainState:
    """Networks, optimisers and the averaged generator before the first step.

    Args:
        run: Its configuration and seed; weights come from its --init-from snapshot where there is one.
        study: With fitted statistics.
        log: Told what was taken over from a snapshot.
    """
    config = run.config
    torch.manual_seed(config.seed)
    g_config, d_config = configurations(study, config)
    G, D = build_generator(g_config), build_discriminator(d_config)
    if run.init_from:
        transfer(run.init_from, {"G": G, "D": D}, log)
    G, D = G.to(device).requires_grad_(True).train(), D.to(device).requires_grad_(True).train()
    opt_G, opt_D = optimisers(G, D, config)
    return TrainState(
        G=G,
        D=D,
        G_ema=copy.deepcopy(G).eval().requires_grad_(False),
        opt_G=opt_G,
        opt_D=opt_D,
        augment=Augment(study.augment_allow, config.aug_p if config.aug == "fixed" else 0.0),
        pl_mean=torch.zeros((), device=device),
        apart=torch.zeros(len(study.conditions), device=device),
    )


def optimisers(
    G: Generator, D: Discriminator, config: TrainConfig
) -> tuple[torch.optim.Optimizer, torch.optim.Optimizer]:
    """G's and D's Adam, with lr·r and β^r, r = i/(i+1), where a regulariser runs every i steps."""

    def adam(weights: list[nn.Parameter], lr: float, interval: int) -> torch.optim.Optimizer:
        ratio = interval / (interval + 1) if interval else 1.0
        betas = (config.beta1**ratio if config.beta1 else 0.0, config.beta2**ratio)
        return torch.optim.Adam(weights, lr=lr * ratio, betas=betas, eps=1e-8, fused=True)

    g_interval = config.pl_interval if config.pl_weight else 0
    d_interval = config.r1_interval if config.gamma else 0
    opt_G = adam(list(G.parameters()), config.g_lr, g_interval)
    return opt_G, adam(D.trainable_parameters(), config.d_lr, d_interval)
