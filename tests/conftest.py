"""What many tests need: a small study on drawn strokes, and a snapshot of it with random weights."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

os.environ["TRITON_INTERPRET"] = "1"  # before anything imports Triton: its kernels run on CPU tensors here

import numpy as np
import pytest

STUDY = """
name = "strokes"
[image]
resolution = 32
channels = 1
[measure]
instrument = "digits"
[covariates.thickness]
kind = "continuous"
unit = "px"
[covariates.intensity]
kind = "continuous"
unit = "levels"
[covariates.slant]
kind = "continuous"
unit = "°"
[covariates.digit]
kind = "categorical"
levels = ["0", "1", "2"]
[[sources]]
name = "A"
path = "a"
observes = ["thickness", "intensity", "digit"]
[[sources]]
name = "B"
path = "b"
observes = ["thickness", "slant", "digit"]
[model.intensity]
given = ["thickness"]
family = "linear"
[model.slant]
given = ["thickness"]
family = "linear"
[train]
preset = "cpu-demo"
"""


def draw_strokes(
    thickness: np.ndarray, intensity: np.ndarray, slant: np.ndarray, digit: np.ndarray
) -> np.ndarray:
    """Digit-like images: a slanted stroke with as many bars across as the digit says. uint8 [N, 1, 32, 32]."""
    y, x = np.mgrid[15.5:-16:-1, -15.5:16].astype(np.float32)  # y points up
    t, i, s = (v[:, None, None].astype(np.float32) for v in (thickness, intensity, slant))
    inside = np.minimum(t / 2 - np.abs(x - y * np.tan(np.radians(s))), 10 - np.abs(y))
    for bar in (1, 2):
        across = np.minimum(t / 2 - np.abs(y - (6 - 5 * bar)), 6 - np.abs(x))
        inside = np.where((digit >= bar)[:, None, None], np.maximum(inside, across), inside)
    return np.rint(np.clip(inside + 0.5, 0, 1) * i).astype(np.uint8)[:, None]


def write_study(folder: Path, text: str = STUDY, images: int = 120) -> Path:
    """Write the study's TOML and both sources into a folder; returns the TOML's path."""
    from mssg.data.dataset import write_packed

    rng = np.random.default_rng(0)
    for name in ("a", "b"):
        thickness = rng.uniform(2, 5, images)
        intensity = 60 + 30 * thickness + rng.normal(0, 10, images)
        slant = 12 * (thickness - 3.5) + rng.normal(0, 6, images)
        digit = rng.integers(0, 3, images)
        table = {
            "subject": [f"{name}{i}" for i in range(images)],
            "split": ["test" if i % 5 == 0 else "val" if i % 5 == 1 else "train" for i in range(images)],
            "thickness": thickness,
            "intensity": intensity,
            "slant": slant,
            "digit": digit,
        }
        write_packed(
            folder / name, draw_strokes(thickness, intensity, slant, digit), table, {"recipe": "strokes"}
        )
    (folder / "study.toml").write_text(text, encoding="utf-8")
    return folder / "study.toml"


@pytest.fixture(scope="session")
def tiny_study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The TOML of a small semi multi-source study with its data."""
    return write_study(tmp_path_factory.mktemp("strokes"))


@pytest.fixture(scope="session")
def make_snapshot(tmp_path_factory: pytest.TempPathFactory, tiny_study: Path) -> Callable[..., Path]:
    """A function that writes a snapshot of the small study with random weights: make_snapshot(cfg=…, replace=…).

    `replace` holds (old, new) pairs for the TOML's text.
    """
    import torch

    from mssg.covariates import fit_models
    from mssg.data.dataset import open_sources
    from mssg.networks import build_discriminator, build_generator
    from mssg.snapshot import provenance, save_snapshot
    from mssg.study import load_study
    from mssg.training.config import resolve
    from mssg.training.loop import configurations
    from mssg.training.summary import summarise

    def make(cfg: str = "stylegan2", replace: tuple[tuple[str, str], ...] = (), name: str = "tiny") -> Path:
        text = STUDY
        for old, new in replace:
            assert old in text
            text = text.replace(old, new)
        toml = tiny_study.parent / f"{name}.toml"
        toml.write_text(text, encoding="utf-8")
        study = load_study(toml)
        sources = open_sources(study)
        tables = [source.columns(study, "train") for source in sources]
        models = fit_models(study, tables, np.random.default_rng(0))
        study = models.study
        config = resolve(
            study, {"cfg": cfg, "z_dim": 16, "w_dim": 16, "channel_base": 128, "channel_max": 16}
        )
        torch.manual_seed(0)
        g_config, d_config = configurations(study, config)
        networks = {"G_ema": build_generator(g_config).eval(), "D": build_discriminator(d_config).eval()}
        rows = [source.values[source.rows("train")] for source in sources]
        summary = summarise(study, rows, models, np.random.default_rng(0), draws=2)
        path = tmp_path_factory.mktemp("snapshots") / f"{name}.safetensors"
        origin = provenance(0, "mssg train study.toml --outdir run")
        return save_snapshot(
            path, study, models, networks, g_config, d_config, {"kimg": 12.0, "step": 375}, summary, origin
        )

    return make


@pytest.fixture(scope="session")
def tiny_snapshot(make_snapshot: Callable[..., Path]) -> Path:
    """A StyleGAN2 snapshot of the small study, random weights."""
    return make_snapshot()


@pytest.fixture(scope="session")
def tiny_renderer(tiny_snapshot: Path):
    """A renderer of that snapshot."""
    from mssg.render import Renderer
    from mssg.snapshot import load_snapshot

    return Renderer(load_snapshot(tiny_snapshot))
