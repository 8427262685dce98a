"""mssg prepare mri: BIDS data sets and tables of paths become sources; what cannot be used is reported with
its reason."""

import csv
import json
import os
import shutil
from dataclasses import replace

import nibabel
import numpy as np
import pytest
from click.testing import CliRunner

from mssg import assets, load_study
from mssg.data import image_jobs
from mssg.data.cohort import CohortImage
from mssg.data.cohort_files import find
from mssg.data.cohort_map import load_cohort
from mssg.data.cohort_values import ImageRecord, other_unit
from mssg.data.covariate_options import parse_covariate
from mssg.data.dataset import open_sources, verify_hashes
from mssg.data.position import Position
from mssg.data.preparation_report import PreparedImage
from mssg.data.quality import fitting
from mssg.data.recipes import mri
from mssg.data.recipes.cohort_selection import PrepareRequest
from mssg.data.recipes.mri_slices import SliceOptions
from mssg.errors import DataError, UsageError
from tests.data.stand_ins import VOXEL, bids, head, paths_table, person, save_volume, write_rows
from trainer_cli import main as entry

SMALL = SliceOptions(resolution=32)


def prepare(path, out, options=SMALL, cohort=None, save_slices=False, **further):
    """`mri.prepare` of a folder or table."""
    return mri.prepare(PrepareRequest(path, out, cohort, **further), options, save_slices)


def table(path):
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def reasons(summary):
    return {row["file"]: row["reason"] for row in table(summary.report / "skipped.csv")}


def test_a_bids_folder_becomes_a_source_that_its_study_opens(tmp_path):
    summary = prepare(bids(tmp_path / "bids"), tmp_path / "out", SMALL)
    study = load_study(summary.study)
    (source,) = open_sources(study, verify=True)
    assert summary.covariates == ("age", "sex") == study.condition_names and not summary.skipped
    assert len(source) == 6 and source.images.shape[1:] == (1, 32, 32)
    assert study.covariate("age").unit == "years" and study.geometry.plane == "coronal"
    ages = dict(zip(source.subjects, source.values[:, 0]))
    assert ages["03"] == person(3)["age"]
    # every storage order shows the same upright head: bright skull around, darker with age, no order stands
    # out
    skull = [image[0][image[0] > 0].astype(float).mean() for image in source.images]
    assert np.ptp(skull) < 25
    first = source.images[0, 0].astype(float)
    for image in source.images[1:, 0]:
        assert np.corrcoef(first.ravel(), image.ravel())[0, 1] > 0.9
    qc = table(summary.report / "qc.csv")
    assert len(qc) == 6 and {row["decision"] for row in qc} == {"keep"}
    assert (summary.report / "sheet-001.png").is_file()


@pytest.mark.parametrize("form", ["participants", "visits"])
def test_sessions_have_values_of_their_own_and_share_a_split(form, tmp_path):
    root = bids(tmp_path / "bids", 4, ("bl", "y2"), form)
    summary = prepare(root, tmp_path / "out", SMALL)
    (source,) = open_sources(load_study(summary.study))
    assert len(source) == 8 and list(source.table["session"][:2]) == ["bl", "y2"]
    assert source.values[1, 0] == pytest.approx(source.values[0, 0] + 2)
    for subject in set(source.subjects):
        assert len(set(source.split[source.subjects == subject])) == 1
    assert len(set(source.values[:, 1])) == 2  # sex comes from participants.tsv


def test_several_slices_each_with_its_place(tmp_path):
    options = SliceOptions(resolution=32, at=("middle", "-8mm", "5"), plane="axial")
    summary = prepare(bids(tmp_path / "bids", 3), tmp_path / "out", options, save_slices=True)
    (source,) = open_sources(load_study(summary.study))
    assert len(source) == 9 and sorted(set(source.table["slice"])) == ["-8mm", "5", "middle"]
    assert load_study(summary.study).geometry.affine == "none"
    middle = source.table["position_mm"][source.table["slice"] == "middle"]
    assert set(middle) == {VOXEL / 2}
    files = sorted((tmp_path / "out" / "bids-slices").iterdir())
    assert len(files) == 9
    for path in files[:3]:
        part = nibabel.load(path)
        whole = nibabel.load(tmp_path / "bids/sub-00/anat/sub-00_T1w.nii.gz")
        check_overlay(np.asarray(part.dataobj), part.affine, whole)


@pytest.mark.parametrize(("common", "written", "expected"), [(None, 1, 1), (True, 2, 2), (True, 4, 4)])
def test_saved_slices_say_what_their_millimetres_are_of(common, written, expected, tmp_path):
    root = bids(tmp_path / "bids", 3)
    for path in root.rglob("*_T1w.nii.gz"):
        image = nibabel.load(path)
        data = np.asarray(image.dataobj)
        image = nibabel.Nifti1Image(data, image.affine)
        image.set_sform(image.affine, written)
        image.to_filename(path)
    options = SliceOptions(resolution=32, common_space=common)
    summary = prepare(root, tmp_path / "out", options, save_slices=True)
    assert load_study(summary.study).geometry.space == ("mni" if expected == 4 else "")
    for path in (tmp_path / "out" / "bids-slices").iterdir():
        assert nibabel.load(path).header["sform_code"] == expected


def check_overlay(data, affine, whole):
    """A slice's grey levels rise with the volume's values at the same millimetres."""
    inverse = np.linalg.inv(whole.affine)
    at = np.argwhere(data > 0)
    voxels = np.rint(nibabel.affines.apply_affine(inverse @ affine, at)).astype(int)
    inside = ((voxels >= 0) & (voxels < whole.shape)).all(1)
    values = np.asarray(whole.dataobj)[tuple(voxels[inside].T)]
    assert inside.mean() > 0.99 and np.corrcoef(values, data[tuple(at[inside].T)])[0, 1] > 0.95


def test_a_common_space_has_one_plane_for_all(tmp_path):
    options = SliceOptions(resolution=32, common_space=True)
    summary = prepare(bids(tmp_path / "bids", 3), tmp_path / "out", options)
    geometry = load_study(summary.study).geometry
    assert geometry.affine == "common" and geometry.position_mm == VOXEL / 2
    info = json.loads((tmp_path / "out/bids/source.json").read_text())
    assert info["geometry"]["centre_mm"] == list(geometry.centre_mm)
    text = summary.study.read_text()
    for old, new, said in (
        ("coronal", "axial", "plane"),
        ("position_mm = 4.0", "position_mm = 5.0", "position_mm"),
    ):
        summary.study.write_text(text.replace(old, new))
        with pytest.raises(DataError, match=f"{said} clashes"):
            open_sources(load_study(summary.study))


def test_a_range_cuts_whole_heads(tmp_path):
    options = SliceOptions(resolution=32, common_space=True, at=("-100mm:100mm:8mm",))
    root = bids(tmp_path / "bids", 4)
    for path in root.rglob("*_T1w.nii.gz"):  # one head does not reach as far
        if "sub-02" in path.name:
            image = nibabel.load(path)
            data = np.asarray(image.dataobj).copy()
            places = nibabel.affines.apply_affine(image.affine, np.argwhere(data >= 0))[:, 1]
            data[places.reshape(data.shape) > 40] = 0
            nibabel.Nifti1Image(data, image.affine).to_filename(path)
    summary = prepare(root, tmp_path / "out", options, save_slices=True)
    study = load_study(summary.study)
    (source,) = open_sources(study)
    assert study.position == "position_mm" and study.geometry.position_mm in (-4.0, 4.0)
    assert study.covariate("position_mm").loss_weight == 3 and "position_mm" in study.sources[0].observes
    where, subjects = source.table["position_mm"], source.subjects
    spans = {s: (where[subjects == s].min(), where[subjects == s].max()) for s in set(subjects)}
    assert spans["00"][1] > 70 and spans["02"][1] <= 40 < spans["01"][1]
    assert len(set(source.split[subjects == "00"])) == 1
    # one scale of grey levels: the same tissue is as bright in every slice, and lies where it should
    for subject in ("00", "01"):
        mine = source.images[(subjects == subject) & (np.abs(where) < 30)]
        levels = [np.median(image[image > 60]) for image in mine]
        assert np.ptp(levels) < 12
    for path in sorted((tmp_path / "out" / "bids-slices").iterdir())[::7]:
        part = nibabel.load(path)
        subject = path.name.partition("_")[0]
        whole = nibabel.load(next(root.glob(f"{subject}/anat/*_T1w.nii.gz")))
        check_overlay(np.asarray(part.dataobj), part.affine, whole)
    assert any("no tissue" in note for note in summary.notes)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"at": ("-20mm:20mm:8mm",)}, "--common-space"),
        ({"at": ("-20mm:20mm:8mm", "middle"), "common_space": True}, "stands alone"),
        ({"at": ("20mm:-20mm:8mm",), "common_space": True}, "FIRST:LAST:STEP"),
        ({"at": ("brain:brain+9mm:3mm",), "common_space": True}, "--at"),
    ],
)
def test_ranges_that_cannot_be_cut(options, words, tmp_path):
    with pytest.raises(UsageError, match=words):
        prepare(bids(tmp_path / "bids", 2), tmp_path / "out", SliceOptions(resolution=32, **options))


def test_a_table_of_paths(tmp_path):
    path = paths_table(tmp_path)
    more = ("age=continuous:years", "lat@ventricle=continuous:ml:1..90", "sex=binary:0,1")
    summary = prepare(path, tmp_path / "out", SMALL, covariates=more, prefix="x-", name="mine")
    (source,) = open_sources(load_study(summary.study))
    assert source.name == "mine" and source.subjects[0] == "x-p0"
    assert source.values[2].tolist() == [person(2)["age"], person(2)["ventricle"], 0.0]
    with pytest.raises(UsageError, match="no covariate"):
        prepare(path, tmp_path / "none", SMALL)
    with pytest.raises(DataError, match=r"column is missing.*Is it 'ventricle'"):
        prepare(path, tmp_path / "none", SMALL, covariates=["v@ventricles=continuous"])


def test_one_population_is_divided_by_subject(tmp_path):
    root = bids(tmp_path / "bids", 12, ("1", "2"), "visits")
    summary = prepare(root, tmp_path / "out", SMALL, divide=("a", "b"))
    study = load_study(summary.study)
    a, b = open_sources(study)
    assert {a.name, b.name} == {"bids-a", "bids-b"} and not set(a.subjects) & set(b.subjects)
    assert len(a) + len(b) == 24
    verify_hashes(tmp_path / "out/bids", json.loads((tmp_path / "out/bids/source.json").read_text()))


def test_masks_bias_fields_and_label_maps(tmp_path):
    root = bids(tmp_path / "bids", 3)
    labels = np.zeros((20, 24, 22), np.int16)
    labels[8:12, 8:12, 8:12], labels[2:6, 2:6, 2:6] = 4, 17
    field = np.ones((20, 24, 22), np.float32)
    field[10:] = 4.0
    inner = (head(60, 30) > 300).astype(np.uint8)
    for number in range(3):
        stem = root / f"derivatives/sub-{number:02d}/anat/sub-{number:02d}_T1w"
        save_volume(stem.with_name(stem.name + "_seg.mgz"), labels, "PIR")
        save_volume(stem.with_name(stem.name + "_mask.nii.gz"), inner)
        save_volume(stem.with_name(stem.name + "_bias.nii"), field)
    os.unlink(root / "derivatives/sub-02/anat/sub-02_T1w_mask.nii.gz")
    place = "derivatives/{folder}/{stem}"
    options = SliceOptions(
        resolution=32,
        mask=place + "_mask.nii.gz",
        labels="derivatives/sub-{subject}/anat/*_seg.mgz",
        bias_field=place + "_bias.nii",
    )
    summary = prepare(root, tmp_path / "out", options)
    (source,) = open_sources(load_study(summary.study))
    assert source.table["ventricle"][0] == pytest.approx(64 * VOXEL**3 / 1000)
    assert source.table["left_hippocampus"][0] == pytest.approx(64 * VOXEL**3 / 1000)
    assert "right_ventricle" not in load_study(summary.study).condition_names
    assert "2 pictures: no voxel of right_ventricle in the label map: taken as missing" in summary.notes
    assert reasons(summary) == {
        "sub-02/anat/sub-02_T1w.nii.gz": (
            "mask: no such file, found derivatives/sub-02/anat/sub-02_T1w_mask.nii.gz"
        )
    }
    plain = prepare(root, tmp_path / "plain", SMALL)
    (without,) = open_sources(load_study(plain.study))
    left, right = (source.images[0, 0][:, s].astype(float).mean() for s in (slice(8, 15), slice(17, 24)))
    assert left > 2 * right and (source.images == 0).mean() > (without.images == 0).mean()
    corrected = prepare(root, tmp_path / "corrected", SliceOptions(resolution=32, bias_correct=True))
    (even,) = open_sources(load_study(corrected.study))
    assert even.images.shape == without.images.shape and not np.array_equal(even.images, without.images)
    with pytest.raises(DataError, match="label scheme"):
        (tmp_path / "own.toml").write_text("structures = 3")
        prepare(root, tmp_path / "x", SliceOptions(labels="*.mgz", label_scheme=str(tmp_path / "own.toml")))


def test_interrupted_work_is_resumed_and_other_settings_start_anew(tmp_path, monkeypatch):
    root, out = bids(tmp_path / "bids", 5), tmp_path / "out"
    calls = []
    honest = mri.SliceMaker.__call__

    def counted(self, item):
        if len(calls) == 3:
            raise KeyboardInterrupt
        calls.append(item.image.name)
        return honest(self, item)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(mri.SliceMaker, "__call__", counted)
        prepare(root, out, SMALL)
    assert not (out / "bids").exists()
    journal = out / ".bids-draft/journal.jsonl"
    journal.write_text(journal.read_text() + '[4, [{"sl')  # killed while writing
    told = []
    summary = prepare(root, out, SMALL, progress=lambda n: told.append)
    assert summary.resumed == 3 and sum(told) == 5 and not (out / ".bids-draft").exists()
    whole = prepare(root, tmp_path / "whole", SMALL)
    (a,), (b,) = open_sources(load_study(summary.study)), open_sources(load_study(whole.study))
    np.testing.assert_array_equal(a.images, b.images)
    assert (out / "bids/table.csv").read_text() == (tmp_path / "whole/bids/table.csv").read_text()


@pytest.mark.slow
def test_many_processes_give_the_same_and_survive_one_that_dies(tmp_path):
    root = bids(tmp_path / "bids", 5)
    one = prepare(root, tmp_path / "one", SMALL)
    shutil.copyfile(root / "sub-00/anat/sub-00_T1w.nii.gz", root / "sub-03/anat/sub-03_T1w.nii.gz")
    maker = mri.SliceMaker((root,), SMALL, (Position("middle"),), VOXEL, ())
    found, _ = find(root, load_cohort("bids"))
    items = [ImageRecord(image, {}) for image in found]
    images = tmp_path / "images.npy"
    np.lib.format.open_memmap(images, "w+", np.uint8, (5, 1, 32, 32)).flush()
    todo = list(enumerate(items))
    outcomes = dict(image_jobs._run(todo, Deadly(maker), images, 2))
    assert "process that read it died" in outcomes[3]
    assert all(isinstance(outcomes[i], list) for i in (0, 1, 2, 4))
    (source,) = open_sources(load_study(one.study))
    made = np.load(images)
    np.testing.assert_array_equal(made[[0, 1, 2, 4]], source.images[[0, 1, 2, 4]])


class Deadly:
    """A maker whose process dies on one file."""

    def __init__(self, maker):
        self.maker = maker

    def __call__(self, item):
        if "sub-03" in item.image.name:
            os._exit(9)
        return self.maker(item)


def test_quality_thresholds_and_reject_lists(tmp_path):
    root = bids(tmp_path / "bids", 5)
    bright = np.full((20, 24, 22), 9000, np.float32)
    bright[:3] = 1
    save_volume(root / "sub-01/anat/sub-01_T1w.nii.gz", bright)
    cohort = tmp_path / "mine.toml"
    text = assets.path("cohorts/bids.toml").read_text()
    cohort.write_text(text + "\n[qc]\nmean = [10, 200]\nborder_columns = 10\nborder_mean = 100\n")
    options = SliceOptions(resolution=32, intensity="minmax", pixel_mm=VOXEL * 0.6)
    first = prepare(root, tmp_path / "out", options, cohort)
    assert list(reasons(first)) == ["sub-01/anat/sub-01_T1w.nii.gz"]
    assert "mean grey level" in reasons(first)["sub-01/anat/sub-01_T1w.nii.gz"]
    rows = table(first.report / "qc.csv")
    assert rows[0]["decision"] == "reject"  # the least usual comes first
    hand = write_rows(tmp_path / "hand.csv", [{"file": rows[-1]["file"], "reason": "moved"}])
    second = prepare(root, tmp_path / "out", options, cohort, reject=hand)
    assert reasons(second)[rows[-1]["file"]] == "moved" and sum(second.counts["bids"].values()) == 3
    robust = prepare(root, tmp_path / "robust", SliceOptions(resolution=32), cohort)
    assert not robust.skipped  # thresholds hold for min-max slices only


def test_what_cannot_be_used_has_its_reason(tmp_path):
    root = bids(tmp_path / "bids", 12)

    def anat(number):
        return root / f"sub-{number:02d}/anat/sub-{number:02d}_T1w.nii.gz"

    whole = anat(0).read_bytes()
    anat(0).write_bytes(whole[: len(whole) // 3])
    save_volume(anat(1), np.ones((20, 24, 22, 3), np.float32))
    save_volume(anat(2), np.full((20, 24, 22), np.nan, np.float32))
    save_volume(anat(3), np.ones((20, 24, 22), np.float32))
    os.unlink(anat(4))
    anat(4).symlink_to(tmp_path / "elsewhere.nii.gz")
    os.unlink(anat(5))
    save_volume(tmp_path / "elsewhere.nii.gz", head(60, 30))
    anat(5).symlink_to(anat(5))
    (root / "sub-06/loop").symlink_to(root)
    people = table_of(root / "participants.tsv")
    people[6]["age"] = "old"
    people[7]["age"] = "912"
    people[8]["sex"] = "?"
    people.append(people[9] | {"age": "33"})
    people.pop(10)
    write_rows(root / "participants.tsv", people, "\t")
    summary = prepare(root, tmp_path / "out", SMALL)
    got = reasons(summary)
    expected = {
        0: "cannot be read",
        1: "three-dimensional",
        2: "not finite",
        3: "slice is empty",
        4: "leads outside",
        5: "cannot be followed",
        6: "not a finite number",
        7: "outside 0 to 120",
        8: "unknown code",
        9: "stated twice",
        10: "no row",
    }
    for number, said in expected.items():
        assert said in got[anat(number).relative_to(root).as_posix()], got
    assert "searched already" in got["sub-06/loop"]
    assert len(got) == 12 and sum(summary.counts["bids"].values()) == 1


def table_of(path):
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file, delimiter="\t"))


def test_nothing_left_is_an_error_that_names_the_report(tmp_path):
    root = bids(tmp_path / "bids", 2)
    for path in root.rglob("*.nii.gz"):
        path.write_bytes(b"")
    with pytest.raises(DataError, match=r"skipped\.csv: no image is left"):
        prepare(root, tmp_path / "out", SMALL)
    assert len(table(tmp_path / "out/bids-report/skipped.csv")) == 2
    with pytest.raises(DataError, match="no file fits"):
        (tmp_path / "empty").mkdir()
        prepare(tmp_path / "empty", tmp_path / "out2", SMALL)


def test_tables_of_paths_are_held_to_their_folder(tmp_path):
    path = paths_table(tmp_path / "in", 8)
    save_volume(tmp_path / "secret.nii.gz", head(60, 30))
    rows = table(path)
    rows[0]["path"] = "../secret.nii.gz"
    rows[1]["path"] = str(tmp_path / "other.nii.gz")
    save_volume(tmp_path / "other.nii.gz", head(60, 30))
    rows[2]["path"] = ""
    rows[3]["path"] = "scans"
    rows[4]["subject"] = ""
    rows.append(dict(rows[5]))
    rows.append(rows[6] | {"path": "scans/0.nii.gz", "age": "51"})
    write_rows(path, rows)
    summary = prepare(path, tmp_path / "out", SMALL, covariates=["age=continuous:years"])
    got = reasons(summary)
    assert "leads outside" in got["../secret.nii.gz"] and "leads outside" in got[rows[1]["path"]]
    assert "no path" in got["images.csv, line 4"] and "not a file" in got["scans"]
    assert "subject is not known" in got["scans/4.nii.gz"] and "named twice" in got["scans/5.nii.gz"]
    assert "told apart by a session" in got["scans/6.nii.gz"] and "told apart" in got["scans/0.nii.gz"]
    assert sum(summary.counts["csv"].values()) == 2


def test_values_in_another_unit():
    ml = np.array([20.0, 30, 25, 60, 15, np.nan])
    assert other_unit(np.append(ml, 31000.0)).tolist() == [False] * 6 + [True]
    assert other_unit(np.append(ml * 1000, [20.0, 24.0])).tolist() == [False] * 6 + [True] * 2
    spread = np.geomspace(0.01, 60, 40)  # lesions: wide, but without a gap
    assert not other_unit(spread).any() and not other_unit(np.append(ml, -3.0)).any()


def test_covariates_from_words():
    age = parse_covariate("age@Alter=continuous:years")
    assert (age.column, age.range, age.covariate.unit) == ("Alter", (0.0, 120.0), "years")
    assert parse_covariate("v=continuous:ml:1..300").range == (1.0, 300.0)
    sex = parse_covariate("sex=binary:F,M")
    assert sex.codes == {"F": "F", "M": "M"} and sex.covariate.levels == ("F", "M")
    plain = parse_covariate("sex=binary:0,1")
    assert plain.codes == {"0": "0", "1": "1"} and plain.covariate.levels == ()
    for text in ("v@vol=continuous:ml*0.001:1..90", "v@vol=continuous:ml:factor=0.001:1..90"):
        volume = parse_covariate(text)
        assert (volume.column, volume.factor, volume.range) == ("vol", 0.001, (1.0, 90.0))
        assert volume.covariate.unit == "ml"
    for text in ("v=continuous:ml*", "v=continuous:ml*-2", "v=continuous:ml*2*3", "v=continuous:ml*0"):
        with pytest.raises(UsageError, match="cannot be read as a covariate"):
            parse_covariate(text)
    assert parse_covariate("site=categorical:x,y").covariate.levels == ("x", "y")
    for wrong in ("age", "age=number", "sex=binary:F", "site=categorical:x", "v=continuous:ml:1.1.1..3"):
        with pytest.raises(UsageError, match="covariate"):
            parse_covariate(wrong)


def test_the_command(tmp_path):
    root, out = bids(tmp_path / "bids", 6), tmp_path / "out"
    words = ["prepare", "mri", root, "--out", out, "--resolution", "32", "--workers", "1", "--divide", "a,b"]
    result = CliRunner().invoke(entry.cli, list(map(str, words)))
    assert result.exit_code == 0, (result.output, result.exception)
    assert "age, sex" in result.stdout and "bids-a" in result.stdout and "mssg-train" in result.stdout
    for wrong, said in (
        (["--divide", "a"], "two or more"),
        (["--at", "top"], "position"),
        (["--cohort", "none"], "bids"),
    ):
        result = CliRunner().invoke(entry.cli, [*map(str, words), *wrong])
        assert result.exit_code == 2 and said in result.stderr


def test_contact_sheets_keep_both_ends_of_a_name():
    """The person, the visit and the file have a line each; what is too long loses its middle."""
    image = CohortImage(None, "sub-0012/ses-m24/anat/sub-0012_ses-m24_run-2_T1w.nii.gz", "a-0012", "m24", {})
    made = PreparedImage(0, image, {}, {"slice": "-18mm"}, {})
    assert made.label == ["a-0012", "session m24", "run-2_T1w -18mm"]
    freesurfer = replace(image, name="0012/mri/T1.mgz", session="")
    assert replace(made, file=freesurfer, columns={}).label == ["a-0012", "T1"]
    assert fitting("short", len, 8) == "short"
    assert fitting("hospital-a-0012", len, 9) == "hosp…0012"
    assert fitting("hospital-a-0012", len, 4) == "ho…2"
