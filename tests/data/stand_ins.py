"""Stand-ins for data nobody may ship: small files in exactly the formats of the real ones, with drawn heads
and eyes."""

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
    """A BIDS data set; with sessions, ages of visits stand in sessions.tsv or, by `form`, in
    participants.tsv."""
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


def ukb_mri(root: Path, subjects: int = 40) -> list[Path]:
    """UK Biobank MRI in both spaces, some with a repeat visit, and its table of fields; volumes in mm³."""
    rows = []
    for number in range(subjects):
        who, eid = person(number), 1000000 + number
        row = {"eid": eid, "31-0.0": int(who["sex"]), "21022-0.0": 45}
        for instance in (2, 3):
            row[f"21003-{instance}.0"] = who["age"] + 2 * (instance - 2)
            for field, value in (
                ("25003", who["ventricle"] * 1.3),
                ("25004", who["ventricle"]),
                ("25005", 800 + number),
                ("25006", 600 + number),
            ):
                row[f"{field}-{instance}.0"] = value * 1000
        if number == 0:  # no grey matter recorded
            row["25006-2.0"] = row["25005-2.0"] = ""
        rows.append(row)
        for instance in (2, 3) if number % 4 == 0 else (2,):
            folder = root / f"{eid}_20252_{instance}_0" / "T1"
            data = head(who["age"], who["ventricle"], number)
            save_volume(folder / "T1toMNIlin.nii.gz", data, "LAS")
            save_volume(folder / "T1_unbiased_brain.nii.gz", data, "RAS")
    return [write_rows(root / "fields.csv", rows)]


def adni(root: Path, subjects: int = 20) -> list[Path]:
    """ADNI volumes, the archive's search result with ratings, and SynthSeg's volumes."""
    search, volumes = [], []
    for number in range(subjects):
        who, name, image = person(number + 100), f"{number % 7:03d}_S_{4000 + number}", 20000 + number
        stem = f"ADNI_{name}_MR_MPRAGE_br_raw_20110301_1_S10_I{image}"
        data = head(who["age"], who["ventricle"], number)
        save_volume(root / name / "MPRAGE" / f"I{image}" / f"{stem}.nii", data, "PIR")
        search.append(
            {"Image Data ID": f"I{image}", "Subject": name, "Sex": "FM"[int(who["sex"])], "Age": who["age"]}
            | {"CDGLOBAL": ["0", "0.5", "1", "2"][number % 4]}
        )
        volumes.append({"subject": stem, "left hippocampus": 3000 + 10 * number, "right hippocampus": 3100})
        volumes[-1]["right hippocampus"] += 12 * number
    return [write_rows(root / "adni.csv", search), write_rows(root / "volumes.csv", volumes)]


def nacc(root: Path, subjects: int = 24) -> list[Path]:
    """NACC volumes, one row a scan, and one row a visit with APOE, 9 where it is not known."""
    scans, visits = [], []
    for number in range(subjects):
        who, name, scan = person(number + 200), f"NACC{100000 + number}", f"mri{7000 + number}ni"
        save_volume(root / f"{name}_{scan}" / "T1.nii", head(who["age"], who["ventricle"], number), "LPI")
        scans.append({"NACCID": name, "NACCMRFI": f"{scan}.zip", "NACCMRIA": int(who["age"])})
        for visit in (1, 2):
            visits.append({"NACCID": name, "NACCVNUM": visit, "NACCAGE": int(who["age"]) + visit})
            visits[-1] |= {"SEX": 1 + number % 2, "NACCNE4S": [0, 1, 2, 9][number % 4]}
    return [write_rows(root / "mri.csv", scans), write_rows(root / "uds.csv", visits)]


def oasis3(root: Path, subjects: int = 6) -> list[Path]:
    """OASIS-3 in BIDS form, its MR sessions with a rating, and SynthSeg's volumes."""
    sessions, volumes = [], []
    for number in range(subjects):
        who, name = person(number + 300), f"OAS3{number:04d}"
        stem = f"sub-{name}_ses-d0{number}29_run-01_T1w"
        save_volume(root / f"sub-{name}/ses-d0{number}29/anat/{stem}.nii.gz", head(who["age"], 30, number))
        sessions.append({"MR ID": f"{name}_MR_d0{number}29", "Subject": name, "M/F": "MF"[number % 2]})
        sessions[-1] |= {"Age": who["age"], "cdr": [0, 0.5, 3][number % 3]}
        volumes.append(
            {"subject": stem, "left lateral ventricle": 9000, "right lateral ventricle": 8000 + number}
        )
    return [write_rows(root / "sessions.csv", sessions), write_rows(root / "volumes.csv", volumes)]


def eye(path: Path, side: str, seed: int = 0, width: int = 80) -> Path:
    """A photograph: an orange disc off the middle of a black field, the bright optic disc on its nasal
    side."""
    from PIL import Image

    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:64, :width].astype(float)
    inside = np.hypot(y - 32, x - 44) < 28
    nasal = 1 if side == "right" else -1  # a right eye's optic disc lies at the right of its picture
    spot = np.hypot(y - 32, x - 44 - nasal * 14) < 5
    colour = np.where(inside[..., None], [200, 90, 40], 0) + np.where(spot[..., None], [50, 120, 120], 0)
    picture = np.clip(colour + inside[..., None] * rng.normal(0, 4, (64, width, 3)), 0, 255).astype(np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(picture).save(path)
    return path


def ukb_retina(root: Path, subjects: int = 40) -> list[Path]:
    """UK Biobank photographs of both eyes and its fields; cataract asked of some only."""
    rows = []
    for number in range(subjects):
        who, eid = person(number + 400), 2000000 + number
        problems, which = [
            ("-7", ""),
            ("4", "2"),
            ("4", "3"),
            ("4", ""),
            ("", ""),
            ("4", "1"),
            ("2", ""),
            ("-3", ""),
        ][number % 8]
        rows.append(
            {"eid": eid, "21003-0.0": who["age"], "5441-0.0": which, "6148-0.0": problems, "6148-0.1": ""}
            | {"5084-0.0": 0.5 + number / 4, "5085-0.0": -1.5 - number / 4}
        )
        for field, side in ((21015, "left"), (21016, "right")):
            eye(root / f"{eid}_{field}_0_0.jpg", side, number)
    return [write_rows(root / "fields.csv", rows)]


def rfmid(root: Path, images: int = 6) -> list[Path]:
    """RFMiD's three sets, whose numbers all start at 1."""
    for folder, part, name in (
        ("Training_Set", "Training", "Training"),
        ("Evaluation_Set", "Validation", "Validation"),
        ("Test_Set", "Test", "Testing"),
    ):
        rows = []
        for number in range(1, images + 1):
            haze, dark = number % 2, int(number % 3 == 0)
            eye(root / folder / part / f"{number}.png", "right", number)
            rows.append({"ID": number, "Disease_Risk": int(haze or dark), "MH": haze, "TSLN": dark})
        write_rows(root / folder / f"RFMiD_{name}_Labels.csv", rows)
    return []


def eyepacs(root: Path, patients: int = 20) -> list[Path]:
    """EyePACS photographs of both eyes and their grades, most of them 0."""
    rows = []
    for number in range(patients):
        for side in ("left", "right"):
            eye(root / "train" / f"{number}_{side}.jpeg", side, number)
            rows.append({"image": f"{number}_{side}", "level": number % 5 if number % 4 == 0 else 0})
    write_rows(root / "trainLabels.csv", rows)
    return []
