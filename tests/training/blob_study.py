"""A small study of generated blobs: brightness and width, in two sources that each record one of them and a
shared class."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from mssg.data.dataset_writer import write_packed

TOML = """
name = "blobs"
[image]
resolution = 32
[covariates.size]
kind = "continuous"
unit = "px"
[covariates.level]
kind = "continuous"
[covariates.ring]
kind = "binary"
[[sources]]
name = "A"
path = "a"
observes = ["size", "level"]
[[sources]]
name = "B"
path = "b"
observes = ["size", "ring"]
weight = 2
[model.level]
given = ["size"]
family = "linear"
[train]
preset = "cpu-demo"
batch = 8
z_dim = 8
w_dim = 8
channel_base = 128
channel_max = 8
total_kimg = 0.096
tick_kimg = 0.016
snap = 2
metrics = ["covariates"]
metric_images = 16
grid_images = 4
r1_interval = 2
"""


def blobs(folder: Path, n: int, seed: int) -> None:
    """Write one prepared source."""
    rng = np.random.default_rng(seed)
    size, ring = rng.normal(8, 2, n), rng.integers(0, 2, n)
    level = 100 + 8 * size + rng.normal(0, 10, n)
    y, x = np.mgrid[-15.5:16, -15.5:16]
    radius = np.sqrt((x - 3) ** 2 + y**2)  # off the middle: a mirrored blob is another image
    disc = 1 / (1 + np.exp(radius[None] - size[:, None, None]))
    disc = disc * np.where(ring[:, None, None] == 1, radius[None] > 3, 1)
    images = np.clip(disc * level[:, None, None], 0, 255).astype(np.uint8)[:, None]
    split = np.where(np.arange(n) % 5 == 0, "val", "train")
    table = {
        "subject": [f"{folder.name}{i}" for i in range(n)],
        "split": split,
        "size": size,
        "level": level,
        "ring": ring,
    }
    write_packed(folder, images, table, {"recipe": "blobs"})


def write_blob_study(folder: Path, replace: tuple[tuple[str, str], ...] = ()) -> Path:
    """Write the study's TOML, its two sources beside it; `replace` holds (old, new) pairs for the TOML's
    text."""
    blobs(folder / "a", 60, 0)
    blobs(folder / "b", 90, 1)
    text = TOML
    for old, new in replace:
        assert old in text
        text = text.replace(old, new)
    path = folder / "study.toml"
    path.write_text(text, encoding="utf-8")
    return path
