"""Two pictures of the guide: what a KID of 0.01 looks like, and the words of the glossary in one scheme.

    python tests/benchmarks/guide_pictures.py docs/images

The first shows a shipped phantom, damaged as in docs/results/kid-scale.txt, with the KID that stands there.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import mssg
from mssg import assets
from tests.benchmarks.kid_scale import spoilt

SCALE = Path(__file__).resolve().parents[2] / "docs/results/kid-scale.txt"
SHOWN = {
    "real": "another real set",
    "real, blurred by 0.4 px": "blurred by 0.4 pixels",
    "real, half a pixel lower": "half a pixel lower",
    "real, blurred by 0.5 px": "blurred by 0.5 pixels",
    "brain": "drawn by the\nshipped model brain",
}
PERSON = 3
"""Of the gallery: whose picture is damaged."""
GREY, GIVEN, NETWORK, NUMBER = "#666666", "#b5651d", "#2a6f97", "#2e7d32"
BOXES = (
    (1.1, 3.9, "covariates\n(age 70, ventricle 40 ml)", GIVEN),
    (1.1, 2.7, "latent z, from a seed\n(who it is)", GIVEN),
    (3.0, 3.3, "w", NETWORK),
    (4.3, 3.3, "generator G", NETWORK),
    (8.6, 3.3, "instrument\n(oracle or predictor)\nreads covariates", NETWORK),
    (1.1, 0.9, "real images of\nseveral sources,\nwith their tables", GIVEN),
    (4.3, 0.9, "discriminator D:\nreal or generated?\nwhich covariates?", NETWORK),
    (6.25, 0.9, "D's judgement\ntrains G and D", NUMBER),
    (8.6, 0.9, "asked against read:\npartial r, slope, MAE\nset against set: KID", NUMBER),
)
ARROWS = (
    ((2.2, 3.8), (2.85, 3.45)),
    ((2.2, 2.8), (2.85, 3.15)),
    ((3.2, 3.3), (3.65, 3.3)),
    ((4.9, 3.3), (5.5, 3.3)),
    ((7.0, 3.3), (7.65, 3.3)),
    ((2.1, 0.9), (3.4, 0.9)),
    ((5.7, 2.55), (4.6, 1.45)),
    ((5.2, 0.9), (5.5, 0.9)),
    ((8.6, 2.75), (8.6, 1.4)),
)
"""Of the scheme: middle, words and colour of every box; where arrows start and end."""


def distances() -> dict[str, float]:
    """What was compared with the real test images -> its KID."""
    rows = re.findall(r"^(\S.*?)\s+(\d\.\d{4})\s", SCALE.read_text(encoding="utf-8"), re.M)
    return {name: float(kid) for name, kid in rows}


def kid_picture(path: Path) -> None:
    """One phantom, damaged more and more, over the KID of 500 pictures damaged so."""
    images = np.load(assets.path("galleries/brain-semi-64/images.npy"))[PERSON : PERSON + 1].astype(float)
    pictures = dict(spoilt(images)) | {"brain": mssg.load("brain").draw(seed=1).array[None, None]}
    found = distances()
    figure, panels = plt.subplots(1, len(SHOWN), figsize=(10, 2.9), layout="constrained")
    for panel, (name, words) in zip(panels, SHOWN.items()):
        panel.imshow(pictures[name][0, 0], cmap="gray", vmin=0, vmax=255)
        panel.set_title(words, fontsize=10)
        panel.set_xlabel(f"KID {found[name]:.4f}", fontsize=12)
        panel.set_xticks([])
        panel.set_yticks([])
    figure.savefig(path, dpi=110)
    plt.close(figure)


def box(panel: Axes, x: float, y: float, text: str, colour: str) -> None:
    """A box with words, its middle at x, y."""
    frame = {"boxstyle": "round,pad=0.5", "facecolor": "white", "edgecolor": colour, "linewidth": 1.5}
    panel.text(x, y, text, ha="center", va="center", fontsize=11, bbox=frame, zorder=2)


def words_picture(path: Path) -> None:
    """From covariates and a latent to an image, and what judges it while training and afterwards."""
    figure, panel = plt.subplots(figsize=(10, 4.6), layout="constrained")
    panel.set(xlim=(0, 10), ylim=(0, 4.6))
    panel.axis("off")
    for start, end in ARROWS:
        panel.annotate("", end, start, arrowprops={"arrowstyle": "-|>", "color": GREY, "linewidth": 1.5})
    for x, y, text, colour in BOXES:
        box(panel, x, y, text, colour)
    drawn = mssg.load("brain-64").draw(age=70, ventricle=40, seed=3).array
    panel.imshow(drawn, cmap="gray", extent=(5.55, 6.95, 2.6, 4.0), zorder=2)
    panel.text(6.25, 4.15, "generated image", ha="center", fontsize=11)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def main() -> None:
    """Draw and save."""
    folder = Path(sys.argv[1])
    matplotlib.use("agg")
    kid_picture(folder / "kid.png")
    words_picture(folder / "words.png")


if __name__ == "__main__":
    main()
