"""A small study on drawn strokes, for tests and fuzzing."""

from __future__ import annotations

from pathlib import Path

import numpy as np

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
    """Digit-like images: a slanted stroke with as many bars across as the digit says. uint8 [N, 1, 32,
    32]."""
    y, x = np.mgrid[15.5:-16:-1, -15.5:16].astype(np.float32)  # y points up
    t, i, s = (v[:, None, None].astype(np.float32) for v in (thickness, intensity, slant))
    inside = np.minimum(t / 2 - np.abs(x - y * np.tan(np.radians(s))), 10 - np.abs(y))
    for bar in (1, 2):
        across = np.minimum(t / 2 - np.abs(y - (6 - 5 * bar)), 6 - np.abs(x))
        inside = np.where((digit >= bar)[:, None, None], np.maximum(inside, across), inside)
    return np.rint(np.clip(inside + 0.5, 0, 1) * i).astype(np.uint8)[:, None]


def write_study(folder: Path, text: str = STUDY, images: int = 120) -> Path:
    """Write the study's TOML and both sources into a folder; returns the TOML's path."""
    from mssg.data.dataset_writer import write_packed

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


GEOMETRY = """
[geometry]
plane = "{plane}"
pixel_mm = 4.0
affine = "common"
position_mm = 10.0
centre_mm = [3.0, -5.0]
position = "depth"
[covariates.depth]
kind = "continuous"
[[sources]]
name = "A"
"""


def write_stacks(folder: Path, plane: str = "coronal", people: int = 5) -> tuple[tuple[str, str], ...]:
    """Write both sources as slices from -60 to 40 mm, every 5 mm, of a few people each.

    Returns:
        What to replace in `STUDY` so that it is the study of these: (old, new) pairs.
    """
    write_study(folder, images=21 * people)
    for name in ("a", "b"):
        table = folder / name / "table.csv"
        head, *rows = table.read_text().splitlines()
        column = head.split(",").index("subject"), head.split(",").index("split")
        placed = []
        for i, row in enumerate(rows):
            cells = row.split(",")
            cells[column[0]] = f"{name}{i // 21}"
            cells[column[1]] = ("train", "train", "train", "val", "test")[i // 21 % 5]
            placed.append(",".join([*cells, str(-60 + 5 * (i % 21))]))
        table.write_text("\n".join([f"{head},depth", *placed]) + "\n")
    return (
        ('[[sources]]\nname = "A"\n', GEOMETRY.format(plane=plane).lstrip("\n")),
        ('"digit"]', '"digit", "depth"]'),
        *((f'path = "{name}"', f'path = "{(folder / name).as_posix()}"') for name in ("a", "b")),
    )
