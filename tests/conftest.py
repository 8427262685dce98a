"""What many tests need: a small study on drawn strokes, and a snapshot of it with random weights."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

# Before anything imports Triton: its kernels run on CPU tensors, but for `TRITON_INTERPRET=0 pytest -m cuda`.
os.environ.setdefault("TRITON_INTERPRET", "1")

import numpy as np
import pytest

from tests.strokes import STUDY, write_stacks, write_study


@pytest.fixture(scope="session")
def tiny_study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The TOML of a small semi multi-source study with its data."""
    return write_study(tmp_path_factory.mktemp("strokes"))


@pytest.fixture(scope="session")
def make_snapshot(tmp_path_factory: pytest.TempPathFactory, tiny_study: Path) -> Callable[..., Path]:
    """A function that writes a snapshot of the small study with random weights: make_snapshot(cfg=…,
    replace=…).

    `replace` holds (old, new) pairs for the TOML's text; further options are the training's.
    """
    import torch

    from mssg import load_study
    from mssg.checkpoint.snapshot import provenance, save_snapshot
    from mssg.covariates.system import fit_models
    from mssg.data.dataset import open_sources
    from mssg.networks.discriminator import build_discriminator
    from mssg.networks.generator import build_generator
    from mssg.rendering.stored_picture import stored_picture
    from mssg.study.train_config import resolve
    from mssg.training.networks import configurations
    from mssg.training.summary import summarise

    def make(
        cfg: str = "stylegan2", replace: tuple[tuple[str, str], ...] = (), name: str = "tiny", **options: Any
    ) -> Path:
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
            study, {"cfg": cfg, "z_dim": 16, "w_dim": 16, "channel_base": 128, "channel_max": 16, **options}
        )
        torch.manual_seed(0)
        g_config, d_config = configurations(study, config)
        networks = {"G_ema": build_generator(g_config).eval(), "D": build_discriminator(d_config).eval()}
        rows = [source.values[source.rows("train")] for source in sources]
        summary = summarise(study, rows, models, np.random.default_rng(0), draws=2)
        path = tmp_path_factory.mktemp("snapshots") / f"{name}.safetensors"
        origin = provenance(0, "mssg train study.toml --outdir run")
        return save_snapshot(
            path,
            study,
            models,
            networks,
            g_config,
            d_config,
            {"kimg": 12.0, "step": 375},
            summary,
            origin,
            preview=stored_picture(networks["G_ema"], study, summary),
        )

    return make


@pytest.fixture(scope="session")
def make_heads(
    make_snapshot: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., Path]:
    """A function that writes a snapshot of slices at many places: make_heads(plane, …); more options are
    the training's."""
    folder = tmp_path_factory.mktemp("stacks")

    def make(plane: str = "coronal", **options: Any) -> Path:
        name = "-".join(("heads", plane, *options))
        return make_snapshot(replace=write_stacks(folder, plane), name=name, **options)

    return make


@pytest.fixture(scope="session")
def tiny_snapshot(make_snapshot: Callable[..., Path]) -> Path:
    """A StyleGAN2 snapshot of the small study, random weights."""
    return make_snapshot()


@pytest.fixture(scope="session")
def tiny_renderer(tiny_snapshot: Path):
    """A renderer of that snapshot."""
    from mssg.checkpoint.snapshot import load_snapshot
    from mssg.rendering.renderer import Renderer

    return Renderer(load_snapshot(tiny_snapshot))
