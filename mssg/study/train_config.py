"""What a training run is configured by: one frozen dataclass, made of a preset, a study's [train] table and
options.

Clocks count ALL images shown to D. The original counted one source's images only; the paper-* presets are
stated on its clock and `per_source_clock` multiplies batch and lengths by the number of sources
(docs/method/method.md section 5, accounting).
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from math import exp
from typing import Any

from mssg.errors import MssgError, StudyError, UsageError
from mssg.study.model import Study
from mssg.study.presets import ARCHITECTURE_FIELDS, AUTO, PRESETS, chosen
from mssg.study.toml_table import Fields, TomlTable

ARCHITECTURES = ("stylegan2", "stylegan3-t", "stylegan3-r")
AUGMENTATIONS = (
    "xflip",
    "rotate90",
    "translate",
    "scale",
    "rotate",
    "aniso",
    "brightness",
    "contrast",
    "lumaflip",
    "hue",
    "saturation",
    "noise",
    "cutout",
)
METRICS = ("control", "covariates", "kid")


@dataclass(frozen=True)
class TrainConfig:
    """Everything that decides a run, apart from the study and the data.

    Lengths are in thousands of images (kimg); learning rates are before lazy-regularisation correction.
    Source: docs/method/method.md sections 4 and 5 (Karras et al. 2020 and 2021, Lai et al. 2024).
    """

    preset: str = AUTO
    cfg: str = "stylegan2"
    seed: int = 0
    total_kimg: float = 1000.0
    batch: int = 32
    micro_batch: int = 0  # rows per forward pass on one device; 0 = the whole batch
    per_source_clock: bool = False
    # networks
    z_dim: int = 512
    w_dim: int = 512
    mapping_layers: int = 0  # 0 = the architecture's own: 8 (StyleGAN2), 2 (StyleGAN3)
    mapping_lr_multiplier: float = 0.01
    channel_base: int = 16384
    channel_max: int = 512
    channel_min: int = 1  # fewest feature maps; up to 16 cost the compiled kernels about the same
    d_channel_base: int = 0  # 0 = as the generator's, without the doubling of StyleGAN3-R
    d_channel_max: int = 0
    mbstd_group: int = 4
    conv_clamp: float = 256.0  # limit of every layer's output, a guard for float16; 0 = none
    num_fp16_res: int = 4  # CUDA only
    image_noise: bool = False  # noise of the finished picture, its strength learned at every pixel
    num_layers: int = 14  # StyleGAN3: layers from the coarsest band to the picture
    first_cutoff: float = 2.0  # StyleGAN3: the first layer's cutoff, cycles per image width
    position_frequencies: int = 0  # studies with a slice position: sines and cosines of it for the generator
    d_position_frequencies: int = 0  # the same for the discriminator, which then judges a slice by its place
    slice_pairs: bool = False  # studies with a slice position: D sees each slice and the next one of the scan
    d_head: str = "covariates"  # covariates | projection
    # objective
    objective: str = "logistic"  # logistic | r3gan
    gamma: float = 4.0
    r1_interval: int = 16
    lambda_max: float = 0.1
    lambda_step_kimg: float = 0.0  # 0 = constant
    lambda_increment: float = 0.0  # added each step; 0 = a factor e each step, from e^-10 on
    covariate_target: str = "observed"  # observed | completed
    expected_reading: float = 0.0  # weight of D's mean reading of unrecorded covariates being as expected
    pl_weight: float = 0.0
    pl_interval: int = 4
    pl_shrink: int = 2
    style_mixing: float = 0.0
    blur_sigma: float = 0.0
    # optimisation
    g_lr: float = 0.0025
    d_lr: float = 0.002
    beta1: float = 0.0
    beta2: float = 0.99
    lr_decay: float = 0.0  # share of the run, at its end, over which both learning rates fall linearly to 0
    ema_kimg: float = 0.0  # 0 = batch * 10 / 32
    ema_rampup: float = 0.05
    freeze_d: int = 0
    # data
    mirror: bool = False
    aug: str = "none"  # none | ada | fixed
    aug_p: float = 0.2
    ada_target: float = 0.6
    ada_kimg: float = 500.0
    # reporting
    tick_kimg: float = 4.0
    snap: int = 10
    metrics: tuple[str, ...] = ("control", "covariates")
    metric_images: int = 1000
    patience: int = 0  # evaluations without improvement before stopping; 0 = never
    grid_images: int = 64

    @property
    def total_steps(self) -> int:
        """Number of optimisation steps in the run."""
        return max(1, round(self.total_kimg * 1000 / self.batch))

    @property
    def ema_halflife_kimg(self) -> float:
        """Half-life of the weight average."""
        return self.ema_kimg or self.batch * 10 / 32

    @property
    def steps_per_tick(self) -> int:
        """Steps between two rows of stats.jsonl."""
        return max(1, round(self.tick_kimg * 1000 / self.batch))

    def kimg(self, step: int) -> float:
        """Thousands of images shown to D after `step` steps."""
        return step * self.batch / 1000

    def lambda_at(self, kimg: float) -> float:
        """Weight of the covariate loss after `kimg` thousand images.

        0 during the first `lambda_step_kimg`, then e^-10, e^-9 …, one factor e each step, or
        `lambda_increment` more each step; capped at `lambda_max`.
        Source: docs/method/method.md section 5 (schedules of Lai et al. 2024).
        """
        if not self.lambda_step_kimg:
            return self.lambda_max
        steps = int(kimg / self.lambda_step_kimg)
        if self.lambda_increment:
            return min(self.lambda_max, self.lambda_increment * steps)
        return min(self.lambda_max, exp(min(steps - 11, 0))) if steps else 0.0

    def lr_scale_at(self, kimg: float) -> float:
        """Factor on both learning rates: 1, then a linear fall over the last `lr_decay` of the run."""
        if not self.lr_decay:
            return 1.0
        return min(1.0, max(0.0, (1.0 - kimg / self.total_kimg) / self.lr_decay))

    def blur_at(self, kimg: float) -> float:
        """Sigma, in pixels, of the blur that D's inputs start with: it falls to 0 over 200 batches of 32."""
        return self.blur_sigma * max(0.0, 1 - kimg / (self.batch * 200 / 32)) if self.blur_sigma else 0.0

    def to_json(self) -> dict[str, Any]:
        """The configuration as a JSON object."""
        return asdict(self) | {"metrics": list(self.metrics)}

    @staticmethod
    def from_json(document: Mapping[str, Any], file: str | None = None) -> TrainConfig:
        """The configuration of a JSON object written by `to_json`."""
        return TrainConfig(**checked(document, "config", file))


CHOICES = {
    "cfg": ARCHITECTURES,
    "objective": ("logistic", "r3gan"),
    "covariate_target": ("observed", "completed"),
    "aug": ("none", "ada", "fixed"),
    "d_head": ("covariates", "projection"),
    "preset": (AUTO, *PRESETS),
    "metrics": METRICS,
}
_POSITIVE = (
    "total_kimg",
    "batch",
    "z_dim",
    "w_dim",
    "channel_base",
    "channel_max",
    "channel_min",
    "g_lr",
    "d_lr",
    "tick_kimg",
    "snap",
    "num_layers",
    "first_cutoff",
    "r1_interval",
    "pl_interval",
    "mbstd_group",
    "grid_images",
    "metric_images",
)
_PER_SOURCE = ("batch", "total_kimg", "lambda_step_kimg", "tick_kimg", "ada_kimg")
_TYPES = {field.name: type(field.default) for field in fields(TrainConfig)}


def _kind(name: str) -> str:
    """The kind of a field's value, as `TomlTable` names kinds."""
    above_0 = name in _POSITIVE
    numbers = {int: "count" if above_0 else "whole", float: "positive" if above_0 else "not negative"}
    return ({bool: "flag", str: "text", tuple: "texts"} | numbers)[_TYPES[name]]


FIELDS: Fields = {name: (_kind(name), CHOICES.get(name)) for name in _TYPES}
"""What a [train] table may say."""


def checked(
    values: Mapping[str, Any], table: str, file: str | None = None, error: type[MssgError] = StudyError
) -> dict[str, Any]:
    """Settings by name, each in its field's type.

    Args:
        values: As a TOML, a JSON or a command line gives them.
        table, file: Where from, for messages.
        error: What a mistake among them is.

    Raises:
        MssgError: An unknown name, or a value that cannot be.
    """
    found = TomlTable(values, table, file, error).fields(FIELDS)
    return {name: _TYPES[name](value) for name, value in found.items()}


def resolve(study: Study, options: Mapping[str, Any] | None = None) -> TrainConfig:
    """The configuration of a run: preset, then the study's [train] table, then options given by hand.

    Args:
        study: The study; its `train` table may name a preset and override any field.
        options: Overrides by field name; None values are ignored.

    Raises:
        StudyError: An unknown key or value in the [train] table.
        UsageError: A wrong option.
    """
    by_study = checked(study.train, "train", study.path)
    given = {k: v for k, v in (options or {}).items() if v is not None}
    by_hand = checked(given, "option", None, UsageError)
    named = by_study | by_hand
    name = chosen(named.get("preset", AUTO), study.resolution)
    preset = PRESETS[name]
    cfg = named.get("cfg", preset.fields.get("cfg", TrainConfig.cfg))
    base = ARCHITECTURE_FIELDS[cfg] if preset.is_full_size else {}
    names = {"preset": name, "cfg": cfg}  # which decide the other fields
    config = TrainConfig(**{**base, **preset.fields, **by_study, **names})
    if config.per_source_clock:
        scaled = {k: getattr(config, k) * len(study.sources) for k in _PER_SOURCE}
        config = replace(config, per_source_clock=False, **scaled)
    config = replace(config, **(by_hand | names))
    _check(config, study)
    return config


def command(config: TrainConfig, study: Study) -> str:
    """The command line that trains a study by a configuration, whatever its [train] says; it names no
    path."""
    # a preset's own augmentation may be one that the study does not allow
    stated = {"preset": config.preset, "cfg": config.cfg, "aug": config.aug}
    base = resolve(replace(study, train={}), stated).to_json()
    words = ["mssg-train", "STUDY.toml", "--outdir", "RUN"]
    words += [word for key, value in stated.items() for word in (f"--{key}", value)]
    for key, value in config.to_json().items():
        if value != base[key]:
            words += ["--set", f"{key}={value if isinstance(value, str) else json.dumps(value)}"]
    return shlex.join(words)


def lengthened(config: TrainConfig, total_kimg: float) -> TrainConfig:
    """The configuration with a greater length.

    Raises:
        UsageError: Not a number, or not beyond the length it has.
    """
    longer = replace(config, **checked({"total_kimg": total_kimg}, "option", None, UsageError))
    if longer.total_kimg <= config.total_kimg:
        raise UsageError(
            "a run can only become longer",
            field="--kimg",
            found=f"{total_kimg:g}",
            expected=f"more than the run's {config.total_kimg:g}",
        )
    return longer


def _check(config: TrainConfig, study: Study) -> None:
    group = min(config.mbstd_group, config.batch)
    if config.batch % group:
        raise UsageError(
            "must be a multiple of the minibatch-std group",
            field="batch",
            found=config.batch,
            expected=f"a multiple of {group}",
        )
    in_parts = 0 < config.micro_batch < config.batch
    if in_parts and (config.batch % config.micro_batch or config.micro_batch % group):
        raise UsageError(
            "must divide the batch and be a multiple of the minibatch-std group",
            field="micro_batch",
            found=config.micro_batch,
        )
    if config.aug != "none" and not study.augment_allow:
        raise StudyError(
            "augmentation is switched on but the study allows no operation",
            file=study.path,
            field="augment.allow",
            hint="List the operations that keep every covariate true, or use --aug none",
        )
    needing = [
        name
        for name in ("position_frequencies", "d_position_frequencies", "slice_pairs")
        if getattr(config, name)
    ]
    if needing and study.position is None:
        raise UsageError(
            "this study has no slice position",
            field=needing[0],
            found=getattr(config, needing[0]),
            expected="0",
            hint="[geometry] position names the covariate that says where the plane cuts",
        )
    for name in ("num_layers", "first_cutoff"):
        found = getattr(config, name)
        if config.cfg == "stylegan2" and found != getattr(TrainConfig, name):
            raise UsageError("only StyleGAN3 has this setting", field=name, found=found, hint="Leave it out")
    if config.expected_reading and config.d_head != "covariates":
        raise UsageError(
            "a projection head reads nothing",
            field="expected_reading",
            found=config.expected_reading,
            expected="0, or d_head = covariates",
        )
    if config.mirror and any(c.lateralised for c in study.covariates):
        raise UsageError(
            "mirroring would swap left and right of lateralised covariates",
            field="mirror",
            hint="Leave it off",
        )
