"""Writes the two clinics of docs/guide/retina.md: phantoms of eyes, as photographs on a black ground.

python tests/docs/example_photographs.py FOLDER [PEOPLE]
"""

from __future__ import annotations

import csv
import sys
from pathlib import Path

import numpy as np
from PIL import Image

from mssg.data.recipes.eye_phantom_anatomy import draw_eye
from mssg.data.recipes.eye_phantom_camera import CAMERAS, photograph

PIXELS = 256
"""Side of the field; the photograph is wider, as a camera's sensor is."""


def write_clinics(folder: Path, people: int = 60) -> None:
    """Two folders of JPEGs with a table each: clinic-a codes sides as left and right, clinic-b as OS and
    OD."""
    for clinic, sides in (("clinic-a", ("left", "right")), ("clinic-b", ("OS", "OD"))):
        (folder / clinic).mkdir(parents=True, exist_ok=True)
        rows = []
        for number in range(1, people + 1):
            rng = np.random.default_rng([*clinic.encode(), number])
            eye = draw_eye(rng)
            pixels = photograph(rng, eye, CAMERAS[0], PIXELS).transpose(1, 2, 0)
            wide = np.zeros((PIXELS + 8, PIXELS * 4 // 3, 3), np.uint8)
            left = (wide.shape[1] - PIXELS) // 2
            wide[4 : 4 + PIXELS, left : left + PIXELS] = pixels
            Image.fromarray(wide).save(folder / clinic / f"{number:03d}.jpg", quality=95)
            row = {"path": f"{number:03d}.jpg", "subject": f"{number:03d}", "side": sides[eye.right]}
            row |= {"age": f"{eye.age:.1f}"}
            row |= {"cataract": int(eye.cataract)} if clinic == "clinic-a" else {}
            row |= {"sphere": f"{eye.spherical_power:.2f}"} if clinic == "clinic-b" else {}
            rows.append(row)
        with (folder / clinic / "photos.csv").open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)


if __name__ == "__main__":
    write_clinics(Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 60)
