"""The moving picture of README and of the documentation's first page: three people, three sliders.

    python tests/benchmarks/moving_picture.py docs/images/drag.gif

One covariate at a time is dragged over its range, up and down; people (seeds 0, 1, 2) and all else are held.
"""

from __future__ import annotations

import argparse

import numpy as np
from PIL import Image, ImageDraw, ImageFont

import mssg
from mssg import assets

SCALE, STEPS, MARGIN, GREYS = 2, 8, 12, 20
"""Screen pixels a pixel; pictures from one end of a slider to the other; free pixels around the sliders;
grey levels of the file, which keep it small."""
RANGES = {"age": (48.0, 80.0), "ventricle": (10.0, 60.0), "grey_matter": (700.0, 840.0)}
SEEDS = (0, 1, 2)


def drags() -> list[tuple[str, dict[str, float]]]:
    """Which slider is held, and where all stand, for every picture of the animation."""
    rest = {name: sum(ends) / 2 for name, ends in RANGES.items()}
    frames = []
    for name, (low, high) in RANGES.items():
        middle = rest[name]
        way = np.concatenate(
            [
                np.linspace(middle, high, STEPS // 2),
                np.linspace(high, low, STEPS),
                np.linspace(low, middle, STEPS // 2),
            ]
        )
        frames += [(name, rest | {name: float(value)}) for value in way]
    return frames


def frame(model: mssg.Model, held: str, values: dict[str, float]) -> Image.Image:
    """One picture: the people side by side, the sliders below."""
    people = [model.draw(values=values, seed=seed).array for seed in SEEDS]
    picture = Image.fromarray(np.concatenate(people, axis=1))
    width, height = picture.width * SCALE, picture.height * SCALE
    picture = picture.resize((width, height), Image.Resampling.BICUBIC)
    font = ImageFont.truetype(str(assets.path("fonts/Roboto-Regular.ttf")), 17)
    whole = Image.new("L", (width, height + 28 * len(RANGES) + MARGIN))
    whole.paste(picture)
    draw = ImageDraw.Draw(whole)
    for row, (name, (low, high)) in enumerate(RANGES.items()):
        y = height + 28 * row + MARGIN
        ink = 255 if name == held else 130
        unit = model.covariates[name].unit
        draw.text((MARGIN, y), name.replace("_", " "), fill=ink, font=font, anchor="lm")
        draw.text((width - MARGIN, y), f"{values[name]:.0f} {unit}", fill=ink, font=font, anchor="rm")
        left, right = 130, width - 110
        draw.line((left, y, right, y), fill=90, width=3)
        x = left + (right - left) * (values[name] - low) / (high - low)
        draw.ellipse((x - 8, y - 8, x + 8, y + 8), fill=ink)
    return whole.quantize(GREYS, dither=Image.Dither.NONE)


def main() -> None:
    """Draw and save."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("output", help=".gif")
    model, output = mssg.load("brain"), parser.parse_args().output
    frames = [frame(model, *each) for each in drags()]
    frames[0].save(output, save_all=True, append_images=frames[1:], duration=80, loop=0, optimize=True)
    print(f"{output}: {len(frames)} pictures")


if __name__ == "__main__":
    main()
