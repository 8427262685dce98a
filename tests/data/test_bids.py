"""BIDS as data sets really are: entities, spaces, runs, descriptions of columns, links into a store."""

from __future__ import annotations

import csv
import json
import math
from pathlib import Path

import pytest

from mssg import load_study
from mssg.data.bids import parse_entities, parse_name
from mssg.data.dataset import open_sources
from mssg.data.recipes import mri
from mssg.data.recipes.cohort_selection import PrepareRequest
from mssg.errors import DataError, UsageError
from tests.data.stand_ins import bids, head, save_volume, write_rows

SMALL = mri.SliceOptions(resolution=32)


def prepared(path: Path, out: Path, **further):
    """The source's files and values, and reasons by file."""
    summary = mri.prepare(PrepareRequest(path, out, **further), SMALL)
    with (summary.report / "skipped.csv").open(newline="", encoding="utf-8") as file:
        reasons = {row["file"].rpartition("/")[2]: row["reason"] for row in csv.DictReader(file)}
    study = load_study(summary.study)
    (source,) = open_sources(study, verify=True)
    files = [name.rpartition("/")[2].removesuffix(".nii.gz") for name in source.table["file"]]
    return dict(zip(files, source.values.tolist())), reasons, study


def add(root: Path, name: str, seed: int = 0) -> None:
    """Another image of subject 00."""
    save_volume(root / "sub-00/anat" / f"{name}.nii.gz", head(60, 30, seed))


def test_names():
    assert parse_name("sub-01_acq-mprage_run-02_T1w") == ({"sub": "01", "acq": "mprage", "run": "02"}, "T1w")
    for wrong in ("sub-01_T1w_brain", "sub-01_acq_T1w", "sub-01_sub-02_T1w", "sub-01_T1w-x", "_T1w"):
        with pytest.raises(ValueError, match="is no"):
            parse_name(wrong)
    assert parse_entities(["space=MNI", "run=run-1", "acq="]) == {"space": "MNI", "run": "1", "acq": ""}
    for wrong in (["space"], ["=x"], ["sub=1"], ["a=1", "a=2"], ["a-b=1"]):
        with pytest.raises(UsageError, match="--entity"):
            parse_entities(wrong)


def test_one_image_a_visit_by_a_stated_rule(tmp_path):
    root = bids(tmp_path / "b", 2)
    (root / "sub-00/anat/sub-00_T1w.nii.gz").unlink()
    for name in (
        "sub-00_run-02_T1w",
        "sub-00_run-10_T1w",
        "sub-00_run-01_T1w",
        "sub-00_acq-fast_run-01_T1w",
        "sub-00_echo-1_T1w",
        "sub-00_part-phase_T1w",
        "sub-00_ce-gad_T1w",
        "sub-00_run-01_T2w",
        "sub-00_T1w_brain",
        "sub-01_T1w",
    ):
        add(root, name)
    images, reasons, _ = prepared(root, tmp_path / "a")
    assert list(images) == ["sub-00_run-01_T1w", "sub-01_T1w"]
    for name, said in (
        ("run-02_T1w", "sub-00_run-01_T1w is taken of this visit"),
        ("acq-fast_run-01_T1w", "is taken of this visit"),
        ("part-phase_T1w", "--entity part=phase takes it"),
        ("ce-gad_T1w", "contrast-enhanced"),
        ("T1w_brain", "not a name as BIDS makes them"),
    ):
        assert said in reasons[f"sub-00_{name}.nii.gz"], reasons
    assert "its folder sub-00" in reasons["sub-01_T1w.nii.gz"]
    assert "sub-00_run-01_T2w.nii.gz" not in reasons
    for asked, taken in (
        (["run=2"], {"sub-00_run-02_T1w"}),
        (["acq=fast"], {"sub-00_acq-fast_run-01_T1w"}),
        (["ce=gad"], {"sub-00_ce-gad_T1w"}),
        (["run=*", "acq=", "echo="], {f"sub-00_run-{n}_T1w" for n in ("01", "02", "10")} | {"sub-01_T1w"}),
    ):
        assert set(prepared(root, tmp_path / "-".join(asked).replace("*", "all"), entities=asked)[0]) == taken
    assert list(prepared(root, tmp_path / "t2", suffix="T2w")[0]) == ["sub-00_run-01_T2w"]
    with pytest.raises(UsageError, match=r"--suffix: .* Found .*T1w.* Expected FLAIR"):
        prepared(root, tmp_path / "flair", suffix="FLAIR")


@pytest.mark.parametrize(
    ("entity", "said"),
    [("chunk-1", "part of the field of view"), ("hemi-L", "one hemisphere"), ("split-01", "one piece")],
)
def test_a_lone_part_of_a_head_is_no_whole_one(tmp_path, entity, said):
    root = bids(tmp_path / "b", 2)
    (root / "sub-00/anat/sub-00_T1w.nii.gz").unlink()
    add(root, f"sub-00_{entity}_T1w")
    images, reasons, _ = prepared(root, tmp_path / "a")
    assert list(images) == ["sub-01_T1w"]
    key, _, value = entity.partition("-")
    assert said in (reason := reasons[f"sub-00_{entity}_T1w.nii.gz"])
    assert f"--entity {key}={value} takes it" in reason
    asked = prepared(root, tmp_path / "asked", entities=[f"{key}={value}"])[0]
    assert list(asked) == [f"sub-00_{entity}_T1w"]


def test_two_spaces_in_one_source_are_refused(tmp_path):
    root = bids(tmp_path / "b", 2)
    add(root, "sub-00_space-MNI152NLin2009cAsym_T1w")
    with pytest.raises(UsageError, match=r"1 space-MNI152NLin2009cAsym.*--entity space=MNI152NLin2009cAsym"):
        prepared(root, tmp_path / "a")
    images, reasons, _ = prepared(root, tmp_path / "a", entities=["space="])
    assert list(images) == ["sub-00_T1w", "sub-01_T1w"]
    assert "asked for space=" in reasons["sub-00_space-MNI152NLin2009cAsym_T1w.nii.gz"]
    images, _, _ = prepared(root, tmp_path / "m", entities=["space=MNI152NLin2009cAsym"])
    assert list(images) == ["sub-00_space-MNI152NLin2009cAsym_T1w"]


def test_units_and_levels_come_from_participants_json(tmp_path):
    root = bids(tmp_path / "b", 3)
    write_rows(
        root / "participants.tsv",
        [
            {"participant_id": f"sub-{i:02d}", "age": age, "sex": sex, "group": group, "icv": icv, "arm": arm}
            for i, (age, sex, group, icv, arm) in enumerate(
                [(720, 1, "b", 1.4e6, "drug"), (600, 2, "a", 1.5e6, "none"), (660, 2, "c", 1.6e6, "drug")]
            )
        ],
        "\t",
    )
    described = {
        "age": {"Units": "months"},
        "sex": {"Levels": {"1": "male participant", "2": "F"}},
        "group": {"Levels": {"a": "patients", "b": "controls", "c": "siblings"}},
        "icv": {"Units": "mm^3"},
        "arm": {"Levels": {"none": {"Description": "no drug"}, "drug": ""}},
    }
    path = root / "participants.json"
    path.write_text(json.dumps(described), encoding="utf-8")
    more = ["group=categorical", "icv=continuous:ml", "arm=binary"]
    images, reasons, study = prepared(root, tmp_path / "a", covariates=more)
    names = study.condition_names
    row = dict(zip(names, images["sub-00_T1w"]))
    assert row == pytest.approx({"age": 60, "sex": 1, "group": 1, "icv": 1400, "arm": 1}) and not reasons
    assert dict(zip(names, images["sub-01_T1w"]))["sex"] == 0
    assert study.covariate("group").levels == ("a", "b", "c")
    path.write_text('{"age": {"Units": "kg"}}', encoding="utf-8")
    with pytest.raises(DataError, match="unit of another kind"):
        prepared(root, tmp_path / "b2")
    path.write_text("{", encoding="utf-8")
    with pytest.raises(DataError, match=r"participants\.json: cannot be read"):
        prepared(root, tmp_path / "b3")


def test_an_undescribed_unit_is_that_of_the_description(tmp_path):
    root = bids(tmp_path / "b", 2)
    path = root / "participants.json"
    path.write_text('{"age": {"Units": "years"}, "site": {"Levels": ["x", "y"]}}', encoding="utf-8")
    _, _, study = prepared(root, tmp_path / "a", covariates=["age=continuous", "site=categorical"])
    assert study.covariate("age").unit == "years" and study.covariate("site").levels == ("x", "y")


@pytest.mark.parametrize(
    ("levels", "values", "names"),
    [
        ({"yes": "has had a stroke", "no": "none known"}, ("yes", "no", "yes"), ("no", "yes")),
        ({"1": "patient", "0": "control", "n/a": ""}, ("1", "0", "1.0"), ("control", "patient")),
        ({"controls": "", "patients": ""}, ("patients", "controls", "patients"), ("controls", "patients")),
        (["2", "1"], ("1", "2", "1"), ("2", "1")),
    ],
)
def test_the_order_of_levels_decides_only_where_they_do_not_say_themselves(levels, values, names, tmp_path):
    root = bids(tmp_path / "b", 3)
    rows = [{"participant_id": f"sub-{i:02d}", "dx": value} for i, value in enumerate(values)]
    write_rows(root / "participants.tsv", rows, "\t")
    (root / "participants.json").write_text(json.dumps({"dx": {"Levels": levels}}), encoding="utf-8")
    images, reasons, study = prepared(root, tmp_path / "out", covariates=["dx=binary"])
    assert list(images.values()) == [[1.0], [0.0], [1.0]] and not reasons
    assert study.covariate("dx").levels == names


def test_units_that_are_not_understood_are_told_and_change_nothing(tmp_path):
    root = bids(tmp_path / "b", 2)
    for unit in ("10^3 mm3", "ml/year", "decades"):
        (root / "participants.json").write_text(json.dumps({"age": {"Units": unit}}), encoding="utf-8")
        request = PrepareRequest(root, tmp_path / "out", covariates=["age=continuous:ml"])
        summary = mri.prepare(request, SMALL)
        assert any(repr(unit) in note for note in summary.notes)
        (source,) = open_sources(load_study(summary.study))
        assert source.values[:, 1].min() > 50  # age as it stands, not 0.07


def test_sessions_are_described_beside_their_tables(tmp_path):
    root = bids(tmp_path / "b", 2, ("a", "b"))
    for label in ("sub-00", "sub-01"):
        rows = [{"session_id": text, "age": age} for text, age in (("a", 24), ("b", 36))]
        write_rows(root / label / f"{label}_sessions.tsv", rows, "\t")  # without the prefix ses-
    described = root / "sub-01/sub-01_sessions.json"
    described.write_text('{"age": {"Units": "months"}}', encoding="utf-8")
    images, reasons, _ = prepared(root, tmp_path / "a", covariates=["age=continuous:years"])
    assert [values[1] for values in images.values()] == [2, 3, 2, 3] and not reasons
    (root / "participants.json").write_text('{"age": {"Units": "years"}}', encoding="utf-8")
    with pytest.raises(
        DataError, match=r"sub-01_sessions\.json: age: states another unit.*participants\.json"
    ):
        prepared(root, tmp_path / "b2")


def test_a_suffix_in_another_case_has_its_reason(tmp_path):
    root = bids(tmp_path / "b", 2)
    (root / "sub-00/anat/sub-00_T1w.nii.gz").rename(root / "sub-00/anat/sub-00_t1W.nii.gz")
    images, reasons, _ = prepared(root, tmp_path / "a")
    assert list(images) == ["sub-01_T1w"] and "written t1W, not T1w" in reasons["sub-00_t1W.nii.gz"]


def test_entities_are_for_bids_alone(tmp_path):
    path = write_rows(tmp_path / "t.csv", [{"path": "a.nii", "subject": "a", "age": 1}])
    for asked in ({"entities": ["run=1"]}, {"suffix": "T2w"}):
        with pytest.raises(UsageError, match="only names of BIDS files"):
            prepared(path, tmp_path / "out", covariates=["age=continuous"], **asked)


def test_a_folder_of_links_into_a_store_needs_its_store_allowed(tmp_path):
    root, store = bids(tmp_path / "b", 2), tmp_path / "store"
    store.mkdir()
    for number, path in enumerate(sorted(root.rglob("*_T1w.nii.gz"))):
        path.rename(store / f"{number}.nii.gz")
        path.symlink_to(store / f"{number}.nii.gz")
    with pytest.raises(DataError, match=f"to {store}; --root FOLDER allows"):
        prepared(root, tmp_path / "a")
    images, reasons, _ = prepared(root, tmp_path / "a", root=store)
    assert list(images) == ["sub-00_T1w", "sub-01_T1w"] and not reasons
    (store / "0.nii.gz").unlink()  # a datalad file that was not fetched
    _, reasons, _ = prepared(root, tmp_path / "c", root=store)
    assert reasons["sub-00_T1w.nii.gz"] == "a link to a file that is not there"


def test_a_store_within_is_read_through_links_but_not_searched(tmp_path):
    root = bids(tmp_path / "b", 2)
    annex = root / ".git/annex/objects/sub-00/anat"
    annex.mkdir(parents=True)
    path = root / "sub-00/anat/sub-00_T1w.nii.gz"
    path.rename(annex / "sub-00_T1w.nii.gz")
    path.symlink_to(annex / "sub-00_T1w.nii.gz")
    images, reasons, _ = prepared(root, tmp_path / "a")
    assert len(images) == 2 and not reasons


def test_empty_cells_of_bids_do_not_hide_what_another_table_knows(tmp_path):
    root = bids(tmp_path / "b", 2, ("bl", "y2"))
    write_rows(
        root / "participants.tsv",
        [{"participant_id": f"sub-{i:02d}", "age": 60 + i, "sex": "F"} for i in range(2)],
        "\t",
    )
    write_rows(
        root / "sub-00/sub-00_sessions.tsv",
        [{"session_id": "ses-bl", "age": "n/a"}, {"session_id": "ses-y2", "age": 62}],
        "\t",
    )
    images, _, _ = prepared(root, tmp_path / "a")
    assert images["sub-00_ses-bl_T1w"][0] == 60 and images["sub-00_ses-y2_T1w"][0] == 62
    assert not any(math.isnan(v[0]) for v in images.values())
