"""Stand-ins of cohorts as they are released today: folders, names and columns from the public documentation
and public code, with drawn heads and eyes. `stand_ins` has their earlier forms."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from tests.data.stand_ins import eye, head, person, save_volume, write_rows

EXPORTERS: dict[str, Callable[[int, int, int], str]] = {
    "ukbconv": lambda field, instance, array: f"{field}-{instance}.{array}",
    "r": lambda field, instance, array: f"f.{field}.{instance}.{array}",
    "stata": lambda field, instance, array: f"n_{field}_{instance}_{array}",
    "rap": lambda field, instance, array: f"p{field}" + (f"_i{instance}" if field != 31 else ""),
    "dx": lambda field, instance, array: f"participant.p{field}" + (f"_i{instance}" if field != 31 else ""),
}
"""Who writes tables of UK Biobank -> how a column is called."""
EIDS = {"ukbconv": "eid", "r": "f.eid", "stata": "n_eid", "rap": "eid", "dx": "participant.eid"}


def ukb_mri(root: Path, exporter: str = "rap", subjects: int = 40) -> list[Path]:
    """Unpacked folders of field 20252, with the two files of the release that hold a brain."""
    rows, name = [], EXPORTERS[exporter]
    for number in range(subjects):
        who, eid = person(number), 1000000 + number
        row: dict[str, object] = {EIDS[exporter]: eid, name(31, 0, 0): int(who["sex"])}
        row[name(21003, 2, 0)] = who["age"]
        volumes = {
            25003: who["ventricle"] * 1.3,
            25004: who["ventricle"],
            25005: 800 + number,
            25006: 600 + number,
        }
        row |= {name(field, 2, 0): 1000 * value for field, value in volumes.items()}
        rows.append(row)
        data = head(who["age"], who["ventricle"], number)
        folder = root / f"{eid}_20252_2_0" / "T1"
        save_volume(folder / "T1_unbiased_brain.nii.gz", data, "LAS")
        save_volume(folder / "T1_brain_to_MNI.nii.gz", data, "LAS")
        save_volume(folder / "T1.nii.gz", data, "LAS")
    return [write_rows(root / "fields.csv", rows)]


def ukb_retina(root: Path, exporter: str = "rap", subjects: int = 40) -> list[Path]:
    """Photographs as the Research Analysis Platform lays them out; questions with several answers in one
    cell, and two readings of each refraction."""
    rows, name = [], EXPORTERS[exporter]
    platform = exporter in ("rap", "dx")

    def array(field: int, index: int) -> str:
        return name(field, 0, index) + (f"_a{index}" if platform else "")

    answers = [("-7", ""), ("4", "2"), ("4|2", "3"), ("2", ""), ("4", "1"), ("", "")]
    for number in range(subjects):
        who, eid = person(number + 400), 2000000 + number
        problems, which = answers[number % len(answers)]
        row: dict[str, object] = {EIDS[exporter]: eid, name(21003, 0, 0): who["age"]}
        row |= {name(6148, 0, 0): problems, name(5441, 0, 0): which}
        for field, side in ((5084, 1), (5085, -1)):
            row |= {array(field, 0): side * (1 + number / 8), array(field, 1): side * (2 + number / 8)}
        rows.append(row)
        for field, side, folder in ((21015, "left", "Fundus (left)"), (21016, "right", "Fundus (right)")):
            for index in (0, 1) if number == 0 else (0,):
                place = root / "Bulk/Retinal Optical Coherence Tomography" / folder / str(eid)[:2]
                eye(place / f"{eid}_{field}_0_{index}.png", side, number)
    return [write_rows(root / "fields.csv", rows)]


def adni(root: Path, subjects: int = 20, tables: str = "search") -> list[Path]:
    """Volumes as the archive's download lays them out, and its tables.

    Args:
        tables: "search": the image search and UCSFFSX; "merge": ADNIMERGE, UCSFFSX and CDR.
    """
    search, freesurfer, merge, ratings = [], [], [], []
    for number in range(subjects):
        who, name, rid = person(number + 100), f"{number % 7:03d}_S_{300 + number:04d}", 300 + number
        for visit, years in (("bl", 0.0), ("m12", 1.0)) if number % 4 == 0 else (("bl", 0.0),):
            image = 20000 + number + (500 if years else 0)
            stem = f"ADNI_{name}_MR_MPRAGE_br_raw_2011030{int(years) + 1}_1_S{10 + number}_I{image}"
            folder = root / "ADNI" / name / "MPRAGE" / "2011-03-01_10_11_12.0" / f"I{image}"
            save_volume(folder / f"{stem}.nii", head(who["age"] + years, who["ventricle"], number), "PIR")
            rating = ["0", "0.5", "1", "2"][number % 4]
            search.append(
                {"Image Data ID": f"I{image}", "Subject": name, "Group": "MCI", "Global CDR": rating}
            )
            search[-1] |= {"Sex": "FM"[int(who["sex"])], "Age": who["age"] + years, "Visit": visit}
            visit_2 = "sc" if visit == "bl" else visit
            freesurfer.append({"RID": rid, "VISCODE": visit_2, "VISCODE2": visit_2, "IMAGEUID": image})
            sizes = {
                "ST37SV": 9000,
                "ST96SV": 9500,
                "ST29SV": 3000 + 10 * number,
                "ST88SV": 3100 + 12 * number,
            }
            freesurfer[-1] |= sizes
            merge.append({"RID": rid, "PTID": name, "VISCODE": visit, "AGE": who["age"], "Years_bl": years})
            merge[-1] |= {"PTGENDER": ["Female", "Male"][int(who["sex"])], "IMAGEUID": image}
            merge[-1] |= {"Hippocampus": 6100 + 22 * number, "Ventricles": 18500}
            ratings.append({"RID": rid, "VISCODE": visit_2, "VISCODE2": visit_2, "CDGLOBAL": rating})
        merge.append({"RID": rid, "PTID": name, "VISCODE": "m06", "AGE": who["age"], "Years_bl": 0.5})
        merge[-1] |= {"PTGENDER": ["Female", "Male"][int(who["sex"])], "IMAGEUID": "", "Hippocampus": ""}
        merge[-1] |= {"Ventricles": ""}
    if tables == "merge":
        rows = {"ADNIMERGE.csv": merge, "UCSFFSX51.csv": freesurfer, "CDR.csv": ratings}
    else:
        rows = {"adni.csv": search, "volumes.csv": freesurfer}
    return [write_rows(root / name, table) for name, table in rows.items()]


def nacc(root: Path, subjects: int = 24) -> list[Path]:
    """Folders named by NACCMRFI without .zip; the MRI table alone says whose a scan is."""
    scans, visits = [], []
    for number in range(subjects):
        who, name = person(number + 200), f"NACC{100000 + number}"
        for later in (0, 3) if number % 5 == 0 else (0,):
            scan = f"mri{7000 + 100 * later + number}"
            data = head(who["age"] + later, who["ventricle"], number)
            save_volume(root / scan / "MPRAGE" / "series3.nii", data, "LPI")
            scans.append({"NACCID": name, "NACCMRFI": f"{scan}.zip", "NACCMRIA": int(who["age"]) + later})
        for visit in (1, 2):
            visits.append({"NACCID": name, "NACCVNUM": visit, "NACCAGE": int(who["age"]) + visit})
            visits[-1] |= {"SEX": 1 + number % 2, "NACCNE4S": [0, 1, 2, 9][number % 4]}
    return [write_rows(root / "mri.csv", scans), write_rows(root / "uds.csv", visits)]


def oasis3(root: Path, subjects: int = 12) -> list[Path]:
    """BIDS names, in some folders with sess-, and the three tables of today; ratings of other days than the
    scans."""
    people, ratings, volumes = [], [], []
    for number in range(subjects):
        who, name, day = person(number + 300), f"OAS3{number:04d}", 129 + 365 * (number % 2)
        session = f"{'sess' if number % 3 == 0 else 'ses'}-d{day:04d}"
        stem = f"sub-{name}_{session}_run-01_T1w"
        save_volume(root / f"sub-{name}/{session}/anat/{stem}.nii.gz", head(who["age"], 30, number))
        people.append({"OASISID": name, "AgeatEntry": who["age"], "GENDER": 1 + number % 2})
        for visit, rating in ((0, [0, 0.5, 2][number % 3]), (1200, 3)):
            label = f"{name}_UDSb4_d{visit:04d}"
            ratings.append({"OASISID": name, "OASIS_session_label": label, "days_to_visit": visit})
            ratings[-1] |= {"age at visit": who["age"] + visit / 365.25, "MMSE": 29, "CDRTOT": rating}
        volumes.append(
            {"Subject": name, "MR_session": f"{name}_MR_d{day:04d}", "IntraCranialVol": 1500000 + number}
        )
        volumes[-1] |= {"lhCortexVol": 210000, "rhCortexVol": 211000, "FS QC Status": "Passed"}
        volumes[-1] |= {f"{side}-Hippocampus_volume": 3800 + number for side in ("Left", "Right")}
        volumes[-1] |= {f"{side}-Lateral-Ventricle_volume": 9000 + number for side in ("Left", "Right")}
    names = ("OASIS3_demographics.csv", "OASIS3_UDSb4_cdr.csv", "OASIS3_Freesurfer_output.csv")
    return [write_rows(root / name, rows) for name, rows in zip(names, (people, ratings, volumes))]


def rfmid(root: Path, images: int = 12) -> list[Path]:
    """The release with numbered folders; every fourth ill image has another disease."""
    for letter, folder, name in (
        ("a", "Training Set", "Training"),
        ("b", "Validation Set", "Validation"),
        ("c", "Testing Set", "Testing"),
    ):
        rows = []
        for number in range(1, images + 1):
            haze, dark, other = number % 2, int(number % 3 == 0), int(number % 4 == 0)
            eye(root / "1. Original Images" / f"{letter}. {folder}" / f"{number}.png", "right", number)
            rows.append({"ID": number, "Disease_Risk": int(haze or dark or other), "DR": other})
            rows[-1] |= {"MH": haze, "TSLN": dark}
        write_rows(root / "2. Groundtruths" / f"{letter}. RFMiD_{name}_Labels.csv", rows)
    return []


def eyepacs(root: Path, patients: int = 24) -> list[Path]:
    """Photographs of both eyes, some copies with other suffixes, and their grades, most of them 0."""
    rows = []
    for number in range(1, patients + 1):
        for side in ("left", "right"):
            suffix = ("jpeg", "JPEG", "jpg")[number % 3]
            written = eye(root / "train" / f"{number}_{side}.jpeg", side, number)
            written.rename(written.with_suffix(f".{suffix}"))
            rows.append({"image": f"{number}_{side}", "level": number % 5 if number % 3 == 0 else 0})
    write_rows(root / "trainLabels.csv", rows)
    return []
