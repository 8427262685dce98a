"""Named settings of [train], as one table. No torch here.

`small*` fit a CPU, `gpu-*` one GPU, `paper-*` are what the research code runs (docs/method/method.md sections
5 and 10). `auto` is the CPU preset of the study's resolution.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

AUTO = "auto"


@dataclass(frozen=True)
class Preset:
    """Settings under a name.

    Attributes:
        purpose: What it is for, one line: help and documentation show it.
        fields: `TrainConfig` fields that it changes.
        is_full_size: It also takes what the architecture's publication adds (`ARCHITECTURE_FIELDS`).
    """

    purpose: str
    fields: Mapping[str, Any]
    is_full_size: bool = False


_CPU: dict[str, Any] = {
    "z_dim": 64,
    "w_dim": 64,
    "mapping_layers": 2,
    "mapping_lr_multiplier": 0.1,
    "channel_base": 512,
    "channel_max": 128,
    "lambda_max": 1.0,
    "g_lr": 8e-3,
    "d_lr": 8e-3,
    "gamma": 0.1,
    "ema_kimg": 5.0,
    "num_fp16_res": 0,
    "conv_clamp": 0.0,
    "batch": 16,
    "lr_decay": 0.5,
    "metric_images": 300,
}
_CPU_120 = _CPU | {"total_kimg": 120.0, "lr_decay": 0.4, "tick_kimg": 2.0, "snap": 5}
_GPU: dict[str, Any] = {
    "mapping_layers": 2,
    "tick_kimg": 8.0,
    "snap": 25,
    "lr_decay": 0.2,
    "metric_images": 1000,
}
_PAPER: dict[str, Any] = {
    "cfg": "stylegan3-t",
    "batch": 256,
    "micro_batch": 32,
    "per_source_clock": True,
    "total_kimg": 5000.0,
    "lambda_step_kimg": 1000.0,
    "gamma": 4.0,
    "covariate_target": "completed",
    "tick_kimg": 4.0,
    "snap": 50,
    "metrics": ("kid", "control", "covariates"),
    "metric_images": 2000,
}
_THREE_SOURCES = {"total_kimg": 14000.0, "lambda_step_kimg": 4.0, "lambda_increment": 0.02, "lambda_max": 1.0}

PRESETS: dict[str, Preset] = {
    "cpu-demo": Preset(
        "a first look at 32 pixels", _CPU | {"total_kimg": 30.0, "tick_kimg": 1.0, "snap": 10}
    ),
    "small": Preset(
        "32 pixels on a CPU", _CPU | {"total_kimg": 200.0, "lr_decay": 0.4, "tick_kimg": 4.0, "snap": 10}
    ),
    # 16 channels at the full resolution, as `small` has: each doubling costs four times as much
    "small-64": Preset("64 pixels on a CPU", _CPU_120 | {"channel_base": 1024}),
    "small-128": Preset("128 pixels on a CPU", _CPU_120 | {"channel_base": 2048}),
    "small-256": Preset("256 pixels on a CPU", _CPU_120 | {"channel_base": 4096, "micro_batch": 8}),
    "head-64": Preset(
        "whole heads of 64 pixels on a CPU, prepared with --in-pairs and --keep-empty",
        _CPU_120
        | {"channel_base": 1024, "total_kimg": 600.0, "ema_kimg": 6.0}
        | {"objective": "r3gan", "r1_interval": 4, "image_noise": True}
        | {"position_frequencies": 5, "d_position_frequencies": 6, "slice_pairs": True},
    ),
    "small-64-t": Preset(
        "StyleGAN3-T of 64 pixels on a CPU",
        _CPU
        | {"cfg": "stylegan3-t", "total_kimg": 300.0, "lr_decay": 0.2, "tick_kimg": 1.0}
        | {"channel_base": 1024, "channel_max": 64, "num_layers": 10, "batch": 8}
        | {"g_lr": 5e-3, "d_lr": 3e-3, "gamma": 0.3, "r1_interval": 4, "blur_sigma": 2.0, "ema_kimg": 2.0},
    ),
    # gamma: 0.0002 times pixels over batch, the rule of thumb of Karras et al. 2020b
    "gpu-128": Preset(
        "128 pixels on one GPU",
        _GPU | {"total_kimg": 3000.0, "lambda_step_kimg": 150.0, "batch": 32, "gamma": 0.1},
        is_full_size=True,
    ),
    "gpu-256": Preset(
        "256 pixels on one GPU",
        _GPU | {"total_kimg": 5000.0, "lambda_step_kimg": 250.0, "batch": 16, "gamma": 0.8},
        is_full_size=True,
    ),
    "paper-digits": Preset(
        "the paper's digits, as its code ran", _PAPER | {"total_kimg": 10000.0}, is_full_size=True
    ),
    "paper-mri": Preset("the paper's MRI of one population, as its code ran", _PAPER, is_full_size=True),
    "paper-retina": Preset(
        "the paper's retina, as its code ran", _PAPER | {"total_kimg": 9000.0}, is_full_size=True
    ),
    "paper-multicohort": Preset(
        "the paper's two cohorts, as its code ran, with ADA",
        _PAPER | {"total_kimg": 40000.0, "gamma": 0.5, "aug": "ada"},
        is_full_size=True,
    ),
    "paper-three-sources": Preset(
        "the paper's three cohorts, as its code ran: λ rises linearly to 1",
        _PAPER | _THREE_SOURCES,
        is_full_size=True,
    ),
    "faster-lambda": Preset(
        "the size of paper-mri, λ at its cap before half of the run, our choice of targets",
        _PAPER | {"lambda_step_kimg": 250.0, "covariate_target": "observed"},
        is_full_size=True,
    ),
}

ARCHITECTURE_FIELDS: dict[str, dict[str, Any]] = {
    # what docs/method/method.md section 5 adds for full-size StyleGAN2; the CPU presets leave it out, for it
    # doubles the cost of G
    "stylegan2": {"g_lr": 0.002, "pl_weight": 2.0, "style_mixing": 0.9},
    "stylegan3-t": {},
    "stylegan3-r": {
        "blur_sigma": 10.0,
        "channel_base": 32768,
        "channel_max": 1024,
        "d_channel_base": 16384,
        "d_channel_max": 512,
    },
}

_BY_RESOLUTION = {32: "small", 64: "small-64", 128: "small-128"}


def chosen(name: str, resolution: int) -> str:
    """The preset that a name stands for: `auto` is the one for the study's resolution."""
    if name != AUTO:
        return name
    return next((preset for side, preset in _BY_RESOLUTION.items() if resolution <= side), "small-256")


def described() -> str:
    """All presets with their purposes, for the command line's help."""
    rest = (f"{name} ({preset.purpose})" for name, preset in PRESETS.items())
    return "; ".join((f"{AUTO} (the small one of the study's resolution)", *rest))
