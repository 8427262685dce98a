"""Scans to follow the tutorial with: two small hospitals made of real anatomy, the head templates in assets.

    python tests/docs/example_scans.py FOLDER [PEOPLE]

writes FOLDER/hospital-a, a BIDS data set with sessions and participants.tsv, FOLDER/hospital-b, .mgz files
and a table, and FOLDER/new, one more scan. Each person is a template of another size, with wider or narrower
ventricles, paler or darker white matter, somewhere in an oblique field of view. Values are drawn, and say
nothing about medicine.
"""

from __future__ import annotations

import csv
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import nibabel
import numpy as np
from scipy.ndimage import map_coordinates
from scipy.spatial.transform import Rotation

from mssg import assets
from mssg.data.recipes.phantom_anatomy import ORIGIN, SEEDS

VOXEL_MM = 3.0
SHAPE = (64, 80, 64)
TILT_DEGREES, OFFSET_MM = 6.0, 8.0
VENTRICLE_ML, GREY_ML = 24.0, 700.0
"""Of a template, nearly."""
REACH_MM = 22.0


def draw_person(rng: np.random.Generator, sex: str) -> dict[str, float]:
    """Age, ventricle and grey matter of somebody; the volumes depend on age, grey matter on sex as well."""
    age = float(np.round(rng.uniform(45, 85), 1))
    ventricle = VENTRICLE_ML * np.exp(0.025 * (age - 63) + rng.normal(0, 0.3))
    grey = GREY_ML - 2 * (age - 63) + (40 if sex == "M" else -40) + rng.normal(0, 30)
    return {"age": age, "ventricle": float(ventricle), "grey": float(grey)}


def scan(template: np.ndarray, person: Mapping[str, float], rng: np.random.Generator) -> nibabel.Nifti1Image:
    """A person's volume as a scanner stores it: oblique, from right to left, with noise."""
    affine = np.eye(4)
    tilt = Rotation.from_euler("xyz", rng.uniform(-TILT_DEGREES, TILT_DEGREES, 3), degrees=True).as_matrix()
    affine[:3, :3] = tilt @ np.diag([-VOXEL_MM, VOXEL_MM, VOXEL_MM])
    middle = affine[:3, :3] @ ((np.array(SHAPE) - 1) / 2)
    affine[:3, 3] = np.array([0, -20, 8]) + rng.uniform(-OFFSET_MM, OFFSET_MM, 3) - middle
    places = nibabel.affines.apply_affine(affine, np.moveaxis(np.indices(SHAPE), 0, -1))
    places = places * (GREY_ML / person["grey"]) ** (1 / 3)  # a smaller head is sampled further out
    growth = (person["ventricle"] / VENTRICLE_ML) ** (1 / 3) - 1
    for seed in np.array(SEEDS):  # a wider ventricle is sampled nearer to its middle
        away = places - seed
        near = np.exp(-(np.linalg.norm(away, axis=-1, keepdims=True) ** 2) / (2 * REACH_MM**2))
        places = places - away * np.clip(near * growth, -0.6, 0.6)
    picture = map_coordinates(template, np.moveaxis(places - ORIGIN, -1, 0), order=1)
    pale = 1 - 0.3 * (person["age"] - 45) / 40  # white matter, the brightest, comes towards grey
    picture = np.where(picture > 160, 160 + (picture - 160) * pale, picture)
    noisy = np.where(picture > 4, picture + rng.normal(0, 2, SHAPE), 0)
    image = nibabel.Nifti1Image(np.rint(np.clip(noisy, 0, 255)).astype(np.int16), affine)
    image.set_sform(affine, 1)
    image.set_qform(affine, 1)
    return image


def write_hospitals(folder: Path, people: int = 60) -> None:
    """Write both hospitals, so many people each; one has no age, one was scanned twice in a session."""
    rng = np.random.default_rng(0)
    a, b = (
        np.load(assets.path(f"brain/{name}.npz"))["t1"].astype(np.float32) for name in ("mni152", "colin27")
    )
    rows = []
    for number in range(1, people + 1):
        sex, label = "FM"[number % 2], f"sub-{number:03d}"
        person = draw_person(rng, sex)
        place = folder / "hospital-a" / label / "ses-1" / "anat"
        place.mkdir(parents=True, exist_ok=True)
        names = [f"run-{run}_" for run in (1, 2)] if number == 5 else [""]
        for name in names:
            scan(a, person, rng).to_filename(place / f"{label}_ses-1_{name}T1w.nii.gz")
        age = "n/a" if number == 3 else person["age"]
        row = {"participant_id": label, "age": age, "sex": sex, "ventricle": f"{person['ventricle']:.2f}"}
        rows.append(row)
    _write(folder / "hospital-a/participants.tsv", rows, "\t")
    (folder / "hospital-a/dataset_description.json").write_text('{"Name": "A", "BIDSVersion": "1.9.0"}')
    write_table(folder / "hospital-b", b, people, 1)
    write_table(folder / "new", b, 1, 2)


def write_table(folder: Path, template: np.ndarray, people: int, seed: int = 0) -> None:
    """So many people as .mgz files, and scans.csv with grey matter in mm³."""
    rng, rows = np.random.default_rng(seed), []
    (folder / "scans").mkdir(parents=True, exist_ok=True)
    for number in range(1, people + 1):
        sex, path = "FM"[number % 2], f"scans/{number:03d}.mgz"
        person = draw_person(rng, sex)
        image = scan(template, person, rng)
        nibabel.MGHImage(np.asarray(image.dataobj), image.affine).to_filename(folder / path)
        row = {"path": path, "subject": f"{number:03d}", "age": person["age"], "sex": sex}
        rows.append(row | {"grey_mm3": f"{1000 * person['grey']:.0f}"})
    _write(folder / "scans.csv", rows, ",")


def _write(path: Path, rows: Sequence[Mapping[str, object]], delimiter: str) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]), delimiter=delimiter, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


if __name__ == "__main__":
    write_hospitals(Path(sys.argv[1]), *map(int, sys.argv[2:3]))
