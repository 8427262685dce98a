"""Stand-ins for data nobody may ship: small files in exactly the formats of the real ones, with drawn heads and eyes."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path

import nibabel
import numpy as np

SHAPE = (20, 24, 22)
VOXEL = 8.0


def head(age: float, ventricle: float, seed: int = 0) -> np.ndarray:
    """A head [20, 24, 22] in RAS order whose ventricle and skull answer to two numbers. float32."""
    rng = np.random.default_rng(seed)
    grid = np.meshgrid(*[np.linspace(-1, 1, n) for n in SHAPE], indexing="ij")
    radius = np.sqrt(sum(g**2 for g in grid))
    data = np.where(radius < 0.9, 400.0, 20.0) + rng.normal(0, 5, SHAPE)
    data[(radius > 0.75) & (radius < 0.9)] = 700 - 4 * age
    data[radius < 0.1 + ventricle / 200] = 100
    return data.astype(np.float32)


def save_volume(path: Path, data: np.ndarray, order: str = "RAS", voxel: float = VOXEL) -> Path:
    """Write a RAS volume in another storage order, in the same place of the patient."""
    path.parent.mkdir(parents=True, exist_ok=True)
    affine = np.diag([voxel] * 3 + [1.0])
    affine[:3, 3] = -voxel * (np.array(data.shape[:3]) - 1) / 2
    image = nibabel.Nifti1Image(data, affine)
    turn = nibabel.orientations.ornt_transform(
        nibabel.io_orientation(affine), nibabel.orientations.axcodes2ornt(order)
    )
    image = image.as_reoriented(turn)
    if path.suffix == ".mgz":
        image = nibabel.MGHImage(np.asarray(image.dataobj), image.affine)
    image.to_filename(path)
    return path


def write_rows(path: Path, rows: Sequence[Mapping[str, object]], delimiter: str = ",") -> Path:
    """Write a table; the first row names the columns."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]), delimiter=delimiter, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    return path


def person(number: int) -> dict[str, float]:
    """Age, ventricle (ml) and sex of a subject."""
    rng = np.random.default_rng([7, number])
    age = float(np.round(rng.uniform(50, 80), 1))
    return {"age": age, "ventricle": float(np.round(age - 35 + rng.uniform(-8, 8), 2)), "sex": number % 2}


def bids(root: Path, subjects: int = 6, sessions: Sequence[str] = ("",), form: str = "participants") -> Path:
    """A BIDS data set; with sessions, ages of visits stand in sessions.tsv or, by `form`, in participants.tsv."""
    orders, people = ("RAS", "LPI", "ASL", "PIR"), []
    for number in range(subjects):
        who, label = person(number), f"sub-{number:02d}"
        visits = []
        for later, session in enumerate(sessions):
            folder = root / label / (f"ses-{session}" if session else "") / "anat"
            name = f"{label}_ses-{session}_T1w.nii.gz" if session else f"{label}_T1w.nii.gz"
            data = head(who["age"] + 2 * later, who["ventricle"], number)
            save_volume(folder / name, data, orders[number % 4])
            visits.append({"session_id": f"ses-{session}", "age": who["age"] + 2 * later})
        one = {"participant_id": label, "sex": "FM"[int(who["sex"])], "site": "xy"[number % 2]}
        if form == "visits":
            people += [one | visit for visit in visits]
        elif any(sessions):
            people.append(one)
            write_rows(root / label / f"{label}_sessions.tsv", visits, "\t")
        else:
            people.append(one | {"age": who["age"]})
    write_rows(root / "participants.tsv", people, "\t")
    (root / "dataset_description.json").write_text('{"Name": "stand-in", "BIDSVersion": "1.8.0"}')
    return root


def paths_table(root: Path, subjects: int = 6) -> Path:
    """Volumes and a table with one row an image."""
    rows = []
    for number in range(subjects):
        who = person(number)
        save_volume(root / f"scans/{number}.nii.gz", head(who["age"], who["ventricle"], number))
        rows.append({"path": f"scans/{number}.nii.gz", "subject": f"p{number}", "session": "1", **who})
    return write_rows(root / "images.csv", rows)
