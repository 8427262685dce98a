"""mssg prepare stylegan: folder and zip, labels of every form, and inputs that are not what they should
be."""

import io
import json
import math
import os
import re
import warnings
import zipfile

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from mssg import load_study
from mssg.data import archives
from mssg.data.archive_labels import parse_label
from mssg.data.dataset import open_sources
from mssg.data.recipes import stylegan as recipe
from mssg.data.split import Shares
from mssg.errors import DataError, UsageError
from trainer_cli.prepare import prepare as command

N, SIDE = 40, 32
NAMES = [f"{i // 10:05d}/img{i:08d}.png" for i in range(N)]


def picture(i: int, mode: str = "L", side: int = SIDE) -> np.ndarray:
    shape = (side, side) if mode == "L" else (side, side, 3)
    return np.random.default_rng(i).integers(0, 256, shape, dtype=np.uint8)


def png(array: np.ndarray) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(array).save(stream, "PNG")
    return stream.getvalue()


def make(path, labels, mode="L", extra=None):
    """Write the layout to a folder, or to a zip where the name says so."""
    files = {name: png(picture(i, mode)) for i, name in enumerate(NAMES)}
    if labels != "absent":
        document = labels if isinstance(labels, bytes) else json.dumps({"labels": labels}).encode()
        files["dataset.json"] = document
    files |= extra or {}
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w") as archive:
            for name, data in files.items():
                archive.writestr(name, data)
    else:
        for name, data in files.items():
            (path / name).parent.mkdir(parents=True, exist_ok=True)
            (path / name).write_bytes(data)
    return path


@pytest.fixture(params=["data", "data.zip"])
def place(request, tmp_path):
    return tmp_path / request.param


def test_class_labels_become_a_categorical_covariate(place, tmp_path):
    make(place, [[name, i % 3] for i, name in enumerate(NAMES)])
    summary = recipe.prepare(place, tmp_path / "out", ["kind=categorical:3"])
    study = load_study(summary.study)
    (source,) = open_sources(study, verify=True)
    np.testing.assert_array_equal(source.images[:, 0], [picture(i) for i in range(N)])
    np.testing.assert_array_equal(source.values[:, 0], np.arange(N) % 3)
    assert study.covariate("kind").levels == ("0", "1", "2") and study.resolution == SIDE
    assert sum(summary.counts.values()) == N


def test_vectors_become_several_covariates_with_missing_values(place, tmp_path):
    labels = [[name, [20.5 + i, i % 2, 0, 1, 0]] for i, name in enumerate(NAMES)]
    labels[4][1] = None
    labels[5][1] = [None, 1, 1, 0, 0]
    make(place, labels, mode="RGB")
    summary = recipe.prepare(
        place, tmp_path / "out", ["age=continuous", "sex=binary", "site=categorical:x,y,z"]
    )
    (source,) = open_sources(load_study(summary.study))
    assert source.images.shape == (N, 3, SIDE, SIDE)
    np.testing.assert_array_equal(source.images[7], picture(7, "RGB").transpose(2, 0, 1))
    np.testing.assert_array_equal(source.values[0], [20.5, 0, 1])
    assert np.isnan(source.values[4]).all()
    np.testing.assert_array_equal(source.values[5], [np.nan, 1, 0])


@pytest.mark.parametrize("labels", [None, "absent"])
def test_images_without_labels_make_a_source_but_no_study(place, tmp_path, labels):
    make(place, labels)
    summary = recipe.prepare(place, tmp_path / "out")
    assert summary.study is None and len(np.load(tmp_path / "out" / "images" / "images.npy")) == N


def test_a_subject_pattern_keeps_images_of_a_subject_together(place, tmp_path):
    make(place, [[name, float(i)] for i, name in enumerate(NAMES)])
    summary = recipe.prepare(
        place, tmp_path / "out", ["age=continuous"], subject_pattern=r"^(\d+)/", shares=Shares(test=0.4)
    )
    (source,) = open_sources(load_study(summary.study))
    assert sorted(set(source.subjects)) == ["00000", "00001", "00002", "00003"]
    for subject in set(source.subjects):
        assert len(set(source.split[source.subjects == subject])) == 1


AGES = [[name, float(i)] for i, name in enumerate(NAMES)]
BAD = {
    "size": (AGES, {NAMES[3]: png(picture(0, side=64))}, [NAMES[3], "64 x 64", "32 x 32"]),
    "first size": (AGES, {NAMES[0]: png(picture(0, side=31))}, [NAMES[0], "31 x 31", "power of two"]),
    "mixed colours": (AGES, {NAMES[3]: png(picture(0, "RGB"))}, [NAMES[3], "3 channels"]),
    "alpha": (
        AGES,
        {NAMES[3]: png(np.zeros((SIDE, SIDE, 4), np.uint8))},
        [NAMES[3], "colour mode", "3 channels"],
    ),
    "16 bit": (AGES, {NAMES[3]: png(np.zeros((SIDE, SIDE), np.uint16))}, [NAMES[3], "colour mode"]),
    "not an image": (AGES, {NAMES[3]: b"hello"}, [NAMES[3], "cannot be read"]),
    "cut image": (AGES, {NAMES[3]: png(picture(0))[:120]}, [NAMES[3], "cannot be read"]),
    "no label": (AGES[:-1], {}, ["has no label for", NAMES[-1]]),
    "unknown file": ([*AGES, ["../escape.png", 1.0]], {}, ["not there", "../escape.png"]),
    "short label": ([*AGES[:-1], [NAMES[-1], [1.0, 2.0]]], {}, [NAMES[-1], "2 numbers"]),
    "text label": ([*AGES[:-1], [NAMES[-1], "old"]], {}, [NAMES[-1], "not made of numbers"]),
    "not JSON": (b"{", {}, ["dataset.json", "cannot be read"]),
    "no labels key": (b"{}", {}, ["dataset.json", "not of this form"]),
    "labels missing": ("absent", {}, ["dataset.json", "no labels", "age"]),
}


@pytest.mark.parametrize("name", BAD)
def test_wrong_inputs_are_named(place, tmp_path, name):
    labels, extra, expected = BAD[name]
    make(place, labels, extra=extra)
    with pytest.raises(DataError) as error:
        recipe.prepare(place, tmp_path / "out", ["age=continuous"])
    for part in (*expected, str(place)):
        assert part in str(error.value)
    assert not (tmp_path / "out" / "images").exists()


@pytest.mark.parametrize(
    ("kind", "label", "part"),
    [
        ("binary", 2, "0 to 1"),
        ("categorical:3", 3, "0 to 2"),
        ("categorical:3", 1.5, "0 to 2"),
        ("categorical:3", [0, 1, 1], "one-hot"),
        ("continuous", float("inf"), "finite"),
    ],
)
def test_values_out_of_range_are_named(tmp_path, kind, label, part):
    labels = [[name, [0, 1, 0] if isinstance(label, list) else 1] for name in NAMES[:-1]]
    make(tmp_path / "data", [*labels, [NAMES[-1], label]])
    with pytest.raises(DataError, match=part) as error:
        recipe.prepare(tmp_path / "data", tmp_path / "out", [f"value={kind}"])
    assert NAMES[-1] in str(error.value)


def test_an_archive_with_names_that_climb_writes_nothing_outside(tmp_path):
    deep = tmp_path / "deep" / "er"
    deep.mkdir(parents=True)
    climbing = {"../../evil.png": png(picture(1)), "/tmp/evil-mssg.png": png(picture(2))}
    path = make(deep / "data.zip", None, extra=climbing)
    recipe.prepare(path, deep / "out")
    assert len(np.load(deep / "out" / "images" / "images.npy")) == N + 2
    assert sorted(p.name for p in tmp_path.iterdir()) == ["deep"]
    assert sorted(p.name for p in deep.iterdir()) == ["data.zip", "out"]


def test_a_link_out_of_the_folder_is_not_followed(tmp_path):
    make(tmp_path / "data", None)
    (tmp_path / "secret.png").write_bytes(png(picture(1)))
    (tmp_path / "data" / "link.png").symlink_to(tmp_path / "secret.png")
    summary = recipe.prepare(tmp_path / "data", tmp_path / "out")
    assert len(np.load(tmp_path / "out" / "images" / "images.npy")) == N
    (note,) = summary.notes
    assert "link.png: leads outside the folder data" in note and "--root" in note
    recipe.prepare(tmp_path / "data", tmp_path / "out", root=tmp_path)
    assert len(np.load(tmp_path / "out" / "images" / "images.npy")) == N + 1
    make(tmp_path / "data", [*AGES, ["link.png", 3]])
    with pytest.raises(DataError, match=r"not there\. Found link\.png: leads outside"):
        recipe.prepare(tmp_path / "data", tmp_path / "out", ["age=continuous"])


def test_what_is_not_read_of_a_folder_is_told(tmp_path):
    """Hidden folders are not searched; bad names, dangling links and other kinds end nothing."""
    make(
        tmp_path / "data", None, extra={".git/annex/a.png": png(picture(1)), "b.webp": b"", "notes.txt": b""}
    )
    with open(os.fsencode(tmp_path / "data") + b"/\xff.png", "wb") as file:
        file.write(png(picture(1)))
    (tmp_path / "data/gone.png").symlink_to(tmp_path / "nowhere.png")
    (note,) = recipe.prepare(tmp_path / "data", tmp_path / "out").notes
    assert len(np.load(tmp_path / "out" / "images" / "images.npy")) == N
    for told in ("1 .webp", "its name is not UTF-8", "gone.png: a link to a file that is not there"):
        assert told in note
    assert "notes.txt" not in note


@pytest.mark.parametrize("again", [NAMES[0], NAMES[0].replace("/", "\\"), f"./{NAMES[0]}"])
def test_two_members_of_one_name_are_refused(again, tmp_path):
    path = make(tmp_path / "data.zip", AGES)
    with zipfile.ZipFile(path, "a") as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        archive.writestr(again, png(picture(99)))
    with pytest.raises(DataError, match=f"{NAMES[0]}: holds two files of one name"):
        recipe.prepare(path, tmp_path / "out", ["age=continuous"])


def test_files_that_are_named_another_way_are_found_or_asked_about(tmp_path):
    path = make(
        tmp_path / "data.zip", "absent", extra={"Dataset.JSON": json.dumps({"labels": AGES}).encode()}
    )
    assert recipe.prepare(path, tmp_path / "out", ["age=continuous"]).covariates == ("age",)
    for given in (f"/{NAMES[0]}", NAMES[0].upper(), f"images/{NAMES[0]}"):
        make(tmp_path / "data", [[given, 1], *AGES[1:]])
        with pytest.raises(DataError, match=re.escape(f"Found {given}. Is it {NAMES[0]}?")):
            recipe.prepare(tmp_path / "data", tmp_path / "out", ["age=continuous"])


def test_oversized_members_are_refused_unread(tmp_path, monkeypatch):
    path = make(tmp_path / "data.zip", None)
    monkeypatch.setattr(archives, "LARGEST_FILE", 100)
    with pytest.raises(DataError, match="too large"):
        recipe.prepare(path, tmp_path / "out")


def test_a_damaged_member_is_named(tmp_path):
    path = make(tmp_path / "data.zip", None)
    data = bytearray(path.read_bytes())
    at = data.index(b"IDAT") + 20
    data[at] ^= 0xFF
    path.write_bytes(data)
    with pytest.raises(DataError, match=NAMES[0]):
        recipe.prepare(path, tmp_path / "out")


@pytest.mark.parametrize("content", [None, b"no zip", "empty"])
def test_what_is_no_data_set_is_named(tmp_path, content):
    path = tmp_path / "data.zip"
    if content == "empty":
        path.mkdir()
    elif content:
        path.write_bytes(content)
    with pytest.raises(DataError, match=r"data\.zip"):
        recipe.prepare(path, tmp_path / "out")


@pytest.mark.parametrize(
    "text",
    [
        "age",
        "=binary",
        "age=years",
        "a  b=binary",
        "site=categorical",
        "site=categorical:x",
        "site=categorical:x,x",
        "age=continuous:3",
        "source=binary",
    ],
)
def test_labels_that_cannot_be_read_are_refused(text):
    with pytest.raises(UsageError, match="--labels"):
        parse_label(text)


def test_labels_need_names_and_names_need_to_differ(tmp_path):
    make(tmp_path / "data", AGES)
    with pytest.raises(UsageError, match="need names"):
        recipe.prepare(tmp_path / "data", tmp_path / "out")
    with pytest.raises(UsageError, match="twice"):
        recipe.prepare(tmp_path / "data", tmp_path / "out", ["a=binary", "a=binary"])
    with pytest.raises(UsageError, match="regular expression"):
        recipe.prepare(tmp_path / "data", tmp_path / "out", ["a=continuous"], subject_pattern="(")
    with pytest.raises(DataError, match="does not match"):
        recipe.prepare(tmp_path / "data", tmp_path / "out", ["a=continuous"], subject_pattern="sub-")


def test_the_command_prepares_a_zip(tmp_path):
    path = make(tmp_path / "data.zip", [[name, i % 3] for i, name in enumerate(NAMES)])
    arguments = ["stylegan", str(path), "--labels", "kind=categorical:3", "--out", str(tmp_path / "out")]
    result = CliRunner().invoke(command, arguments)
    assert result.exit_code == 0, result.output
    assert "40 images" in result.output and "mssg-train" in result.output


def test_what_macos_and_windows_do_to_a_zip(tmp_path):
    """One folder around everything, __MACOSX and ._ files, backslashes: images and labels are found."""
    path = tmp_path / "data.zip"
    labels = json.dumps({"labels": [[name.replace("/", "\\"), 50 + i] for i, name in enumerate(NAMES)]})
    with zipfile.ZipFile(path, "w") as archive:
        for i, name in enumerate(NAMES):
            archive.writestr("my set/" + name.replace("/", "\\"), png(picture(i)))
            archive.writestr("__MACOSX/my set/._" + name.rpartition("/")[2], b"\0\5\x16\7")
        archive.writestr("my set/dataset.json", labels)
        archive.writestr("my set/._dataset.json", b"\0")
        archive.writestr("my set/.DS_Store", b"\0")
    summary = recipe.prepare(path, tmp_path / "out", ["age=continuous:years"])
    (source,) = open_sources(load_study(summary.study))
    assert source.values[:, 0].tolist() == list(range(50, 50 + N)) and list(source.table["file"]) == NAMES
    with pytest.raises(UsageError, match="need names"):  # the labels are seen without --labels, too
        recipe.prepare(path, tmp_path / "out")


def test_several_data_sets_in_one_archive_are_refused(tmp_path):
    make(tmp_path / "data/a", AGES)
    make(tmp_path / "data/b", AGES)
    with pytest.raises(DataError, match=r"several data sets\. Found a/dataset\.json, b/dataset\.json"):
        recipe.prepare(tmp_path / "data", tmp_path / "out", ["age=continuous"])


def test_an_image_with_two_labels_is_named(tmp_path):
    make(tmp_path / "data", [*AGES, AGES[3]])
    recipe.prepare(tmp_path / "data", tmp_path / "out", ["age=continuous"])
    make(tmp_path / "data", [*AGES, [NAMES[3], 7]])
    with pytest.raises(DataError, match=f"{NAMES[3]}: an image has two labels"):
        recipe.prepare(tmp_path / "data", tmp_path / "out", ["age=continuous"])
    pairs = ", ".join(f'"{name}": {age}' for name, age in [*AGES, [NAMES[3], 7]])
    make(tmp_path / "data", f'{{"labels": {{{pairs}}}}}'.encode())
    with pytest.raises(DataError, match=f"{NAMES[3]}' is named twice"):
        recipe.prepare(tmp_path / "data", tmp_path / "out", ["age=continuous"])


def test_a_label_that_is_no_number_is_missing(tmp_path):
    make(tmp_path / "data", [[name, math.nan if i == 2 else age] for i, (name, age) in enumerate(AGES)])
    recipe.prepare(tmp_path / "data", tmp_path / "out", ["age=continuous"])
    (source,) = open_sources(load_study(tmp_path / "out/study.toml"))
    assert np.flatnonzero(np.isnan(source.values[:, 0])).tolist() == [2]


def test_levels_that_are_numbers_mean_themselves(tmp_path):
    make(tmp_path / "data", [[name, i % 3 + 1] for i, name in enumerate(NAMES)])
    recipe.prepare(tmp_path / "data", tmp_path / "out", ["grade=categorical:1,2,3"])
    (source,) = open_sources(load_study(tmp_path / "out/study.toml"))
    assert source.table["grade"].tolist() == [i % 3 + 1 for i in range(N)]


def test_dictionaries_name_their_covariates_and_their_people(tmp_path):
    """As the research code wrote them: {"age": {"1000123": 60.0}, …}."""
    labels = []
    for i, name in enumerate(NAMES):
        who = str(900 + i // 2)
        label = {"age": {who: 50.5 + i}, "cataract": {who: float(i % 2)}, "label": {who: i % 10}}
        labels.append([name, label])
    make(tmp_path / "data", labels)
    summary = recipe.prepare(tmp_path / "data", tmp_path / "out")
    study = load_study(summary.study)
    assert [(c.name, c.kind) for c in study.covariates] == [
        ("age", "continuous"),
        ("cataract", "binary"),
        ("label", "categorical"),
    ]
    (source,) = open_sources(study, verify=True)
    assert source.values[3].tolist() == [53.5, 1, 3] and source.subjects[3] == "901"
    assert "age continuous, cataract binary, label categorical" in summary.notes[0]
    stated = ["years@age=continuous:years", "label=continuous"]
    study = load_study(recipe.prepare(tmp_path / "data", tmp_path / "out", stated).study)
    assert study.covariate("years").unit == "years" and study.covariate("label").kind == "continuous"
    assert study.covariate("cataract").kind == "binary"
    with pytest.raises(UsageError, match=r"no such label\. Found height. Expected age \| cataract \| label"):
        recipe.prepare(tmp_path / "data", tmp_path / "out", ["height=continuous"])


@pytest.mark.parametrize(
    ("label", "part"),
    [
        ({"age": "old"}, "no number"),
        ({"age": {"1": 2, "2": 3}}, "no number"),
        ({"age": {"1": 2}, "sex": {"2": 1}}, "several people"),
        (60, "no dictionary"),
        ({"age": {"1": float("inf")}}, "out of range"),
    ],
)
def test_dictionaries_that_cannot_be_read_are_named(tmp_path, label, part):
    labels = [[name, {"age": {"7": 50.5 + i}, "sex": {"7": 0}}] for i, name in enumerate(NAMES)]
    make(tmp_path / "data", [*labels[:-1], [NAMES[-1], label]])
    with pytest.raises(DataError, match=part) as error:
        recipe.prepare(tmp_path / "data", tmp_path / "out")
    assert NAMES[-1] in str(error.value)


def test_a_dictionary_s_name_that_is_reserved_needs_another(tmp_path):
    make(tmp_path / "data", [[name, {"side": i % 2}] for i, name in enumerate(NAMES)])
    with pytest.raises(UsageError, match=r"reserved.*--labels NAME@side=KIND"):
        recipe.prepare(tmp_path / "data", tmp_path / "out")
    summary = recipe.prepare(tmp_path / "data", tmp_path / "out", ["eye@side=binary"])
    assert summary.covariates == ("eye",)


@pytest.mark.parametrize("suffix", ["", ".zip"])
def test_an_archive_of_the_research_code_keeps_its_split_and_its_texts(tmp_path, suffix):
    """Folders trainset, valset, testset with a dataset.json each, whose labels are a table's whole rows."""
    files, parts, row = {}, {"trainset": 24, "valset": 6, "testset": 10}, 0
    for part, count in parts.items():
        labels = []
        for i in range(count):
            name = f"00000/img{i:08d}.png"
            files[f"{part}/{name}"] = png(picture(row))
            values = {"Age": 60 + row / 2, "Sex": "MF"[row % 2], "CDGLOBAL": row % 2, "path": f"/x/{row}.nii"}
            labels.append([name, {key: {str(row + 100): value} for key, value in values.items()}])
            row += 1
        files[f"{part}/dataset.json"] = json.dumps({"labels": labels}).encode()
    place = make(tmp_path / f"adni{suffix}", "absent")
    for name in NAMES if not suffix else ():
        (place / name).unlink()
    if suffix:
        with zipfile.ZipFile(place, "w") as archive:
            for name, data in files.items():
                archive.writestr(name, data)
    for name, data in files.items() if not suffix else ():
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / name).write_bytes(data)
    summary = recipe.prepare(place, tmp_path / "out")
    study = load_study(summary.study)
    (source,) = open_sources(study, verify=True)
    assert summary.counts == {"train": 24, "val": 6, "test": 10}
    assert study.covariate("Sex").levels == ("F", "M") and study.covariate("Sex").kind == "binary"
    assert "path" not in study.condition_names and any("path" in note for note in summary.notes)
    order = source.table["subject"].astype(int) - 100
    np.testing.assert_array_equal(source.values[:, study.index("Age")], 60 + order / 2)
    np.testing.assert_array_equal(source.values[:, study.index("Sex")], 1 - order % 2)
    for i, packed in enumerate(source.images[:, 0]):
        np.testing.assert_array_equal(packed, picture(int(order[i])))
    stated = recipe.prepare(place, tmp_path / "stated", ["sex@Sex=binary:M,F"])
    (source,) = open_sources(load_study(stated.study))
    np.testing.assert_array_equal(source.values[:, 1], order % 2)
    with pytest.raises(DataError, match="sex: unknown level"):
        recipe.prepare(place, tmp_path / "wrong", ["sex@Sex=binary:M,W"])


def test_slices_in_nifti_are_pictures_as_stored(tmp_path):
    """The research code kept the affine of the volume, which says nothing of the slice."""
    import nibabel

    names = [f"{i:05d}/img{i:08d}.nii.gz" for i in range(4)]
    for i, name in enumerate(names):
        (tmp_path / "data" / name).parent.mkdir(parents=True)
        image = nibabel.Nifti1Image(picture(i)[:, :, None], np.diag([-1.0, 1, 1, 1]))
        image.to_filename(tmp_path / "data" / name)
    document = json.dumps({"labels": [[name, {"age": 50 + i}] for i, name in enumerate(names)]})
    (tmp_path / "data/dataset.json").write_text(document)
    summary = recipe.prepare(tmp_path / "data", tmp_path / "out")
    images = np.load(tmp_path / "out/images/images.npy")
    assert all(np.array_equal(images[i, 0], picture(i)) for i in range(4))
    assert "taken as stored" in summary.notes[1]
    for wrong, said in (
        (np.full((32, 32, 1), 300.0), "grey levels from 0 to 255"),
        (np.zeros((32, 32, 3), np.uint8), "not one slice"),
        (np.zeros((40, 40, 1), np.uint8), "supported image size"),
    ):
        nibabel.Nifti1Image(wrong, np.eye(4)).to_filename(tmp_path / "data" / names[3])
        with pytest.raises(DataError, match=said):
            recipe.prepare(tmp_path / "data", tmp_path / "out")
