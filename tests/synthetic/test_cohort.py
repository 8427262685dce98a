"""`mssg cohort`: people that depend on their number alone, folders that other tools read, faults in one
sentence."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import nibabel
import numpy as np
import pytest
from PIL import Image
from safetensors import safe_open
from safetensors.numpy import load_file, save_file
from scipy.stats import ks_2samp, kstest

import mssg
from mssg import assets
from mssg.checkpoint.header import read_header
from mssg.data.dataset_writer import write_packed
from mssg.data.table import read_table
from mssg.errors import UsageError
from mssg.synthetic.documents import columns
from mssg.synthetic.people import CohortRequest, People
from trainer_cli.main import Refused

ROOT = Path(__file__).resolve().parents[2]


def cohort(*words: str) -> None:
    from trainer_cli.main import cli

    cli.main(["cohort", *words, "--device", "cpu"], standalone_mode=False)


def contents(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def table(folder: Path) -> dict[str, list[str]]:
    lines = (folder / "participants.tsv").read_text().splitlines()
    header, *rows = [line.split("\t") for line in lines]
    return dict(zip(header, zip(*rows)))


@pytest.fixture(scope="module")
def header():
    return read_header(assets.path("snapshots/brain.safetensors"))


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Forty brains, drawn at once."""
    out = tmp_path_factory.mktemp("whole") / "cohort"
    cohort("brain", "-n", "40", "--seed", "3", "--workers", "1", "--out", str(out))
    return out


def test_a_cohort_is_a_bids_data_set(whole):
    about = json.loads((whole / "dataset_description.json").read_text())
    assert about["DatasetType"] == "derivative" and about["GeneratedBy"][0]["Name"] == "mssg"
    assert about["GeneratedBy"][0]["Command"] == "mssg cohort brain -n 40 --seed 3"
    rows, told = table(whole), json.loads((whole / "participants.json").read_text())
    assert list(rows) == ["participant_id", "age", "ventricle", "grey_matter", "support", "seed"]
    assert set(told) == set(rows) - {"participant_id"} and told["age"]["Units"] == "years"
    assert rows["participant_id"] == tuple(f"sub-syn{i:06d}" for i in range(40))
    for i, name in enumerate(rows["participant_id"]):
        stem = whole / name / "anat" / f"{name}_T1w"
        sidecar = json.loads(stem.with_suffix(".json").read_text())
        assert sidecar["Synthetic"] is True and "RepetitionTime" not in sidecar
        assert sidecar["Covariates"]["age"] == {"Units": "years", "Value": float(rows["age"][i])}
        assert sidecar["Seed"] == int(rows["seed"][i]) and sidecar["Support"] == float(rows["support"][i])
    assert "synthetic" in (whole / "README").read_text() and (whole / "CHANGES").read_text().startswith("1.0")


@pytest.fixture(scope="module")
def placeless(tmp_path_factory):
    """Three brains of a study whose images share no space."""
    folder, path = tmp_path_factory.mktemp("placeless"), assets.path("snapshots/brain.safetensors")
    with safe_open(path, "np") as file:
        document = json.loads(file.metadata()["mssg"])
    document["study"]["geometry"] = {"plane": "axial", "pixel_mm": 2.5}
    save_file(load_file(path), folder / "m.safetensors", {"mssg": json.dumps(document)})
    cohort(str(folder / "m.safetensors"), "-n", "3", "--out", str(folder / "cohort"))
    return folder / "cohort"


def test_without_a_common_space_each_person_has_their_own(placeless):
    for path in placeless.glob("sub-*/anat/*.nii.gz"):
        image = nibabel.load(path)
        assert image.shape == (128, 128, 1) and int(image.header["sform_code"]) == 1
        assert nibabel.aff2axcodes(image.affine) == ("L", "A", "S")


@pytest.mark.parametrize("which", ["whole", "placeless"])
def test_the_bids_validator_finds_no_error(which, request):
    validator = shutil.which("bids-validator")
    if not validator:
        pytest.skip("needs npm's bids-validator on the path")
    folder = request.getfixturevalue(which)
    done = subprocess.run([validator, "--json", str(folder)], capture_output=True, text=True)
    assert json.loads(done.stdout)["issues"]["errors"] == [] and done.returncode == 0


def test_a_person_s_picture_is_that_of_its_own_command_and_of_the_api(whole, tmp_path):
    from trainer_cli.main import cli

    sidecar = json.loads((whole / "sub-syn000007/anat/sub-syn000007_T1w.json").read_text())
    words = sidecar["GeneratedBy"][0]["Command"].split()[1:-1]
    cli.main([*words, str(tmp_path / "a.nii.gz"), "--device", "cpu"], standalone_mode=False)
    drawn = nibabel.load(tmp_path / "a.nii.gz")
    stored = nibabel.load(whole / "sub-syn000007/anat/sub-syn000007_T1w.nii.gz")
    np.testing.assert_array_equal(drawn.get_fdata(), stored.get_fdata())
    np.testing.assert_array_equal(drawn.affine, stored.affine)
    assert stored.shape == (128, 1, 128) and stored.affine[1, 3] == -18
    people = mssg.load("brain", device="cpu").sample(40, seed=3)
    np.testing.assert_array_equal(people[7].array, np.rint(stored.get_fdata()[:, 0].T[::-1]).astype(np.uint8))
    assert [f"{v:.7g}" for v in people.table["age"]] == list(table(whole)["age"])
    people.save(tmp_path / "saved")
    assert contents(tmp_path / "saved") == contents(whole)


def test_parts_processes_and_ranks_make_the_same_bytes(whole, tmp_path, monkeypatch):
    parts = tmp_path / "parts"
    cohort("brain", "-n", "23", "--first", "17", "--seed", "3", "--out", str(parts))
    assert len(table(parts)["age"]) == 23
    cohort("brain", "-n", "17", "--seed", "3", "--out", str(parts))
    cohort("brain", "-n", "40", "--seed", "3", "--out", str(parts))
    assert contents(parts) == contents(whole)
    ranks = tmp_path / "ranks"
    for rank in "10":
        for name, value in (("RANK", rank), ("WORLD_SIZE", "2"), ("MASTER_ADDR", "x"), ("MASTER_PORT", "1")):
            monkeypatch.setenv(name, value)
        cohort("brain", "-n", "40", "--seed", "3", "--out", str(ranks))
        assert (ranks / "participants.tsv").exists() == (rank == "0")
    assert contents(ranks) == contents(whole)


@pytest.mark.slow
def test_killed_in_the_middle_it_continues_to_the_same_bytes_and_leaves_no_process(whole, tmp_path):
    words = [sys.executable, "-m", "trainer_cli", "cohort", "brain", "-n", "40", "--seed", "3"]
    words += ["--workers", "2", "--device", "cpu", "--out", str(tmp_path / "killed")]
    started = subprocess.Popen(words, cwd=ROOT, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 100
    while len(list(tmp_path.glob("killed/sub-*/anat/*.json"))) < 3 and time.monotonic() < deadline:
        time.sleep(0.01)
    children = [int(p) for p in Path(f"/proc/{started.pid}/task/{started.pid}/children").read_text().split()]
    assert children
    os.kill(started.pid, signal.SIGKILL)
    started.wait()
    assert not (tmp_path / "killed/participants.tsv").exists()
    while any(Path(f"/proc/{child}").exists() for child in children) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not any(Path(f"/proc/{child}").exists() for child in children)
    (tmp_path / "killed/sub-syn000001/anat/.x.tmp").write_text("half")
    subprocess.run(words, cwd=ROOT, check=True, capture_output=True)
    assert contents(tmp_path / "killed") == contents(whole)


def test_a_study_without_geometry_gives_pictures_for_the_official_tools(tmp_path):
    out = tmp_path / "digits"
    cohort("digits", "-n", "12", "--balance", "digit", "--uniform", "slant=-10:10", "--out", str(out))
    labels = json.loads((out / "dataset.json").read_text())["labels"]
    rows, digits = table(out), mssg.load("digits", device="cpu")
    assert [name for name, _ in labels] == [f"images/00000/img{i:08d}.png" for i in range(12)]
    assert rows["digit"] == tuple("012345678901") and [v[3] for _, v in labels][:3] == [0, 1, 2]
    assert all(-10 <= float(v) <= 10 for v in rows["slant"])
    with Image.open(out / labels[4][0]) as image:
        values = {name: rows[name][4] for name in digits.covariates}
        drawn = digits.draw(values=values, seed=int(rows["seed"][4]))
        np.testing.assert_array_equal(np.asarray(image), drawn.array)
        assert json.loads(image.info["mssg"])["Synthetic"] is True
    from mssg.data.recipes.stylegan import prepare

    stated = ["thickness=continuous:px", "intensity=continuous", "slant=continuous:°", "digit=categorical:10"]
    prepared = prepare(out, tmp_path / "back", stated)
    assert sum(prepared.counts.values()) == 12


def test_the_people_are_those_of_the_covariate_models(header):
    people = People(header, CohortRequest(3000))
    drawn = np.array([people.person(i).values for i in range(3000)])
    models = header.models.sample(20000, None, np.random.default_rng(1))
    for column, name in enumerate(header.study.condition_names):
        assert ks_2samp(drawn[:, column], models[name]).statistic < 0.035
    expected = np.corrcoef(np.stack([np.log(models["ventricle"]), models["age"]]))[0, 1]
    assert abs(np.corrcoef(np.log(drawn[:, 1]), drawn[:, 0])[0, 1] - expected) < 0.05


def test_given_uniform_and_support(header):
    wanted = CohortRequest(
        200, given=(("ventricle", 40.0),), uniform=(("age", 50.0, 80.0),), within_support=20.0
    )
    people = People(header, wanted)
    drawn = [people.person(i) for i in range(200)]
    assert {p.values[1] for p in drawn} == {40.0} and min(p.support for p in drawn) >= 20
    plain = People(header, CohortRequest(300, uniform=(("age", 50.0, 80.0),)))
    ages = [plain.person(i).values[0] for i in range(300)]
    assert kstest(ages, "uniform", (50, 30)).pvalue > 0.01
    old = People(header, CohortRequest(100, given=(("ventricle", 60.0),)))
    young = People(header, CohortRequest(100, given=(("ventricle", 10.0),)))
    means = [np.mean([people.person(i).values[0] for i in range(100)]) for people in (old, young)]
    assert means[0] > means[1] + 5  # larger ventricles are older
    with pytest.raises(UsageError, match=r"no draw .* within the support"):
        People(header, CohortRequest(1, given=(("age", 300.0),), within_support=1.0)).person(0)


def test_a_table_is_matched_row_by_row(tmp_path):
    path = tmp_path / "people.csv"
    path.write_text("subject,age,ventricle\nanna,70,\nbert,,n/a\ncarl,55,20.5\n")
    cohort("brain", "--match", str(path), "--out", str(tmp_path / "out"))
    rows = table(tmp_path / "out")
    assert rows["age"][0] == "70" and rows["age"][2] == "55" and rows["ventricle"][2] == "20.5"
    assert "anna" not in "".join(map(str, contents(tmp_path / "out").values()))
    model = mssg.load("brain", device="cpu")
    columns_ = {"age": [70, None, 55], "ventricle": [float("nan"), np.nan, 20.5]}
    mine = model.sample(match=columns_).table
    assert [f"{v:.7g}" for v in mine["grey_matter"]] == list(rows["grey_matter"])
    assert len(model.sample(2, match=path)) == 2


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["-n", "0"], "n: out of range"),
        ([], "say how many"),
        (["-n", "3", "--given", "ages=3"], "Did you mean 'age'"),
        (["-n", "3", "--given", "age=nan"], "missing value"),
        (["-n", "3", "--given", "age=70", "--uniform", "age=3:4"], "stated twice"),
        (["-n", "3", "--uniform", "age=80:50"], "not a range"),
        (["-n", "3", "--uniform", "age=80"], "not a range"),
        (["-n", "3", "--uniform", "ventricle=-5:50"], "log transform"),
        (["-n", "3", "--balance", "age"], "no levels to balance"),
        (["-n", "3", "--within-support", "100"], "not a percentile"),
        (["-n", "3", "--within-support", "nan"], "not a percentile"),
        (["-n", "3", "--first", "-1"], "first: out of range"),
        (["-n", "3", "--screen-copies"], "where real images are"),
        (["--match", "TABLE"], "no covariate of this model"),
        (["--match", "LEVELS"], "line 3, age: not a finite number"),
        (["--match", "SHORT", "-n", "3"], "fewer rows"),
        (["--match", "SHORT", "--first", "9"], "fewer rows"),
        (["--match", "EMPTY"], "no rows"),
        (["--match", "none.csv"], "no such file"),
    ],
)
def test_a_mistake_is_one_sentence_and_writes_nothing(words, told, tmp_path):
    texts = {"TABLE": "age,whight\n3,4\n", "LEVELS": "age\n70\nold\n", "SHORT": "age\n70\n", "EMPTY": "age\n"}
    for name, text in texts.items():
        (tmp_path / f"{name}.csv").write_text(text)
    words = [str(tmp_path / f"{w}.csv") if w in texts else w for w in words]
    with pytest.raises(Refused, match=told):
        cohort("brain", *words, "--out", str(tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_a_folder_that_holds_something_else_stays_as_it_is(whole, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(Refused, match="no cohort"):
        cohort("brain", "-n", "2", "--out", str(tmp_path))
    before = contents(whole)
    with pytest.raises(Refused, match="another Seed"):
        cohort("brain", "-n", "2", "--out", str(whole))
    assert contents(whole) == before and [p.name for p in tmp_path.iterdir()] == ["notes.txt"]


def test_covariates_may_be_called_as_our_own_columns(tmp_path):
    path = assets.path("snapshots/digits.safetensors")
    with safe_open(path, "np") as file:
        text = file.metadata()["mssg"]
    for name, odd in (("thickness", "seed"), ("intensity", "support")):
        text = text.replace(f'"{name}"', f'"{odd}"')
    save_file(load_file(path), tmp_path / "odd.safetensors", {"mssg": text})
    cohort(str(tmp_path / "odd.safetensors"), "-n", "2", "--out", str(tmp_path / "out"))
    rows = table(tmp_path / "out")
    assert list(rows) == ["participant_id", "seed", "support", "slant", "digit", "mssg_support", "mssg_seed"]
    assert set(columns(read_header(tmp_path / "odd.safetensors"))) == set(rows) - {"participant_id"}
    model = mssg.load(tmp_path / "odd.safetensors", device="cpu")
    assert list(model.sample(2).table) == list(rows)


def test_prepare_mri_reads_a_cohort_back(whole, tmp_path):
    from trainer_cli.main import cli

    words = ["--covariate", "age=continuous:years", "--resolution", "128", "--common-space", "--workers", "1"]
    cli.main(
        ["prepare", "mri", str(whole), *words, "--out", str(tmp_path), "--name", "syn"], standalone_mode=False
    )
    rows, images = read_table(tmp_path / "syn/table.csv"), np.load(tmp_path / "syn/images.npy")
    people = mssg.load("brain", device="cpu").sample(40, seed=3)
    assert rows["subject"] == [name.removeprefix("sub-") for name in people.table["participant_id"]]
    assert [float(v) for v in rows["age"]] == people.table["age"]
    assert {float(v) for v in rows["position_mm"]} == {-18.0} and {float(v) for v in rows["up_mm"]} == {5.0}
    for picture, image in zip(people, images, strict=True):
        np.testing.assert_array_equal(picture.array, image[0])


@pytest.fixture(scope="module")
def repeated(tmp_path_factory):
    """A study whose training images are what the digits model draws of people 0 to 29."""
    folder, model = tmp_path_factory.mktemp("repeated"), mssg.load("digits", device="cpu")
    people = [*model.sample(30), *model.sample(60, seed=9)]
    columns_ = {name: [p.values[name] for p in people] for name in model.covariates}
    keys = {"subject": [f"p{i}" for i in range(90)], "split": ["train"] * 30 + ["val"] * 30 + ["test"] * 30}
    images = np.stack([p.array for p in people])[:, None]
    write_packed(folder / "a", images, keys | columns_, {"recipe": "drawn"})
    text = 'name = "drawn"\n[image]\nresolution = 32\nchannels = 1\n[covariates.thickness]\n'
    text += 'kind = "continuous"\n[[sources]]\nname = "a"\npath = "a"\nobserves = ["thickness"]\n'
    (folder / "study.toml").write_text(text)
    return folder / "study.toml"


def test_copies_of_training_images_are_replaced(repeated, tmp_path):
    words = ["--screen-copies", "--study", str(repeated)]
    cohort("digits", "-n", "4", *words, "--out", str(tmp_path / "a"))
    cohort("digits", "-n", "4", "--out", str(tmp_path / "plain"))
    screened, plain = table(tmp_path / "a"), table(tmp_path / "plain")
    assert not set(screened["seed"]) & set(plain["seed"])
    assert (
        "Copies: 4 pictures were nearer to one of 30 training images" in (tmp_path / "a/README").read_text()
    )
    cohort("digits", "-n", "2", "--first", "30", *words, "--out", str(tmp_path / "b"))
    assert "Copies: 0 pictures" in (tmp_path / "b/README").read_text()
    with pytest.raises(Refused, match="another ScreenCopies"):
        cohort("digits", "-n", "4", "--out", str(tmp_path / "a"))


def test_scanners_are_balanced_and_matched(tmp_path):
    model = mssg.load("brain-scanners", device="cpu")
    assert model.sample(6, balance="source").table["source"] == ["scanner1", "scanner2"] * 3
    people = model.sample(match={"source": ["scanner2", "scanner1"], "age": [50, 60]})
    assert [p.values["source"] for p in people] == ["scanner2", "scanner1"]
    assert people.table["age"] == [50.0, 60.0]


def test_a_full_disk_is_one_sentence_and_the_same_command_continues(tmp_path, monkeypatch):
    from mssg.synthetic import folder

    write, left = folder.write_atomically, [5]

    def full(path, data, error, **options):
        left[0] -= 1
        if left[0] < 0:

            def data(file):
                raise OSError(28, "No space left on device")

        write(path, data, error, **options)

    with monkeypatch.context() as patch:
        patch.setattr(folder, "write_atomically", full)
        with pytest.raises(Refused, match=r"T1w\.json: cannot be written: No space left on device"):
            cohort("brain", "-n", "5", "--out", str(tmp_path / "a"))
    assert len(list(tmp_path.rglob("*.nii.gz"))) == 3 and not list(tmp_path.rglob("*.tmp"))
    cohort("brain", "-n", "5", "--out", str(tmp_path / "a"))
    cohort("brain", "-n", "5", "--out", str(tmp_path / "b"))
    assert contents(tmp_path / "a") == contents(tmp_path / "b")


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"n": 0}, "n: out of range"),
        ({"n": 2.5}, "n: out of range"),
        ({"n": True}, "n: out of range"),
        ({}, "n: say how many"),
        ({"n": 2, "seed": -1}, "seed: out of range"),
        ({"n": 2, "given": {"ages": 3}}, "did you mean 'age'"),
        ({"n": 2, "given": {"age": [60, 70]}}, "age: not a value"),
        ({"n": 2, "given": {"age": float("nan")}}, "age: not a finite number"),
        ({"n": 2, "given": 70}, "given: not a mapping"),
        ({"n": 2, "uniform": {"age": 60}}, "age: not a range"),
        ({"n": 2, "uniform": {"age": (60, 60)}}, "age: not a range"),
        ({"n": 2, "balance": ["sex"]}, "no covariate 'sex'"),
        ({"n": 2, "balance": 3}, "balance: not names"),
        ({"n": 2, "within_support": "5"}, "within_support: not a percentile"),
        ({"match": {"age": [1, 2], "ventricle": [3]}}, "match: columns of different lengths"),
        ({"match": {"age": ["old"]}}, "row 0, age: not a finite number"),
        ({"match": {"weight": [70]}}, "no covariate of this model"),
        ({"match": 5}, "match: not a table"),
        ({"match": {"age": 5}}, "match, age: not a column"),
        ({"match": {"age": "old"}}, "match, age: not a column"),
        ({"match": "nowhere.csv"}, "no such file"),
        ({"n": 3, "match": {"age": [70]}}, "match: the table has fewer rows"),
    ],
)
def test_a_wrong_argument_of_sample_is_named(arguments, told):
    with pytest.raises(mssg.ArgumentError, match=told):
        mssg.load("brain", device="cpu").sample(**arguments)


def test_where_the_slice_lies_is_no_person_s_property(make_heads, tmp_path):
    heads = str(make_heads())
    cohort(heads, "-n", "3", "--out", str(tmp_path / "own"))
    cohort(heads, "-n", "3", "--at", "-35", "--out", str(tmp_path / "other"))
    for name, place in (("own", 10), ("other", -35)):
        picture = nibabel.load(tmp_path / name / "sub-syn000001" / "anat" / "sub-syn000001_T1w.nii.gz")
        assert picture.affine[1, 3] == place
        assert "depth" not in table(tmp_path / name)
        assert "depth" not in json.loads((tmp_path / name / "participants.json").read_text())
    assert table(tmp_path / "own") == table(tmp_path / "other")


@pytest.fixture(scope="module")
def heads(make_heads, tmp_path_factory):
    """A model of slices at many places, and three heads that it drew at once."""
    model, out = str(make_heads()), tmp_path_factory.mktemp("heads") / "cohort"
    cohort(model, "-n", "3", "--seed", "2", "--volumes", "--out", str(out))
    return model, out


def test_heads_are_volumes_that_their_own_command_draws(heads, tmp_path):
    from trainer_cli.main import cli

    model, out = heads
    about = json.loads((out / "dataset_description.json").read_text())
    assert about["GeneratedBy"][0]["Command"].endswith("-n 3 --seed 2 --volumes")
    assert "21 slices from -60 to 40 mm, 5 mm apart" in (out / "README").read_text()
    stored = nibabel.load(out / "sub-syn000001/anat/sub-syn000001_T1w.nii.gz")
    assert stored.shape == (32, 21, 32) and stored.header.get_zooms() == (4, 5, 4)
    assert stored.affine[:3, 3].tolist() == [-59, -60, -67] and int(stored.header["sform_code"]) == 2
    sidecar = json.loads((out / "sub-syn000001/anat/sub-syn000001_T1w.json").read_text())
    assert sidecar["Slices"] == {"Units": "mm", "First": -60.0, "Last": 40.0, "Step": 5.0}
    assert sidecar["Synthetic"] is True and "depth" not in sidecar["Covariates"]
    words = sidecar["GeneratedBy"][0]["Command"].split()[1:]
    words[1], words[-1] = model, str(tmp_path / "alone.nii.gz")
    cli.main([*words, "--device", "cpu"], standalone_mode=False)
    np.testing.assert_array_equal(nibabel.load(tmp_path / "alone.nii.gz").get_fdata(), stored.get_fdata())
    people = mssg.load(model, device="cpu").sample(3, seed=2)
    assert [f"{v:.7g}" for v in people.table["thickness"]] == list(table(out)["thickness"])
    people.save(tmp_path / "saved", volumes=True)
    assert contents(tmp_path / "saved") == contents(out)


def test_parts_of_a_cohort_of_heads_make_the_same_bytes(heads, tmp_path):
    model, out = heads
    parts = tmp_path / "parts"
    for words in (["-n", "1", "--first", "2"], ["-n", "2", "--workers", "2"], ["-n", "3"]):
        cohort(model, *words, "--seed", "2", "--volumes", "--out", str(parts))
    assert contents(parts) == contents(out)
    (parts / "sub-syn000001/anat/sub-syn000001_T1w.json").unlink()  # as after a kill between the two files
    cohort(model, "-n", "3", "--seed", "2", "--volumes", "--out", str(parts))
    assert contents(parts) == contents(out)
    with pytest.raises(Refused, match="another Volumes"):
        cohort(model, "-n", "3", "--seed", "2", "--out", str(parts))


def test_prepare_mri_reads_heads_back_slice_by_slice(heads, tmp_path):
    from trainer_cli.main import cli

    _, out = heads
    words = ["--covariate", "thickness=continuous:mm", "--resolution", "32"]
    words += ["--common-space", "--at", "-60mm:40mm:5mm", "--workers", "1"]
    words += ["--out", str(tmp_path), "--name", "syn"]
    cli.main(["prepare", "mri", str(out), *words], standalone_mode=False)
    rows, images = read_table(tmp_path / "syn/table.csv"), np.load(tmp_path / "syn/images.npy")
    assert len(images) == 63 and sorted({float(v) for v in rows["position_mm"]}) == list(range(-60, 41, 5))
    volumes = {
        f"syn{i:06d}": nibabel.load(p).get_fdata() for i, p in enumerate(sorted(out.rglob("*.nii.gz")))
    }
    for subject, place, image in zip(rows["subject"], rows["position_mm"], images, strict=True):
        expected = volumes[subject][:, round((float(place) + 60) / 5)].T[::-1]
        np.testing.assert_array_equal(image[0], np.rint(expected))


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--given", "depth=3"], "every place"),
        (["--at", "3"], "every place"),
        (["--uniform", "depth=0:5"], "every place"),
        (["--screen-copies", "--study", "STUDY"], "not among whole heads"),
    ],
)
def test_heads_refuse_what_cannot_be(heads, tiny_study, tmp_path, words, told):
    words = [str(tiny_study) if word == "STUDY" else word for word in words]
    with pytest.raises(Refused, match=told):
        cohort(heads[0], "-n", "2", "--volumes", *words, "--out", str(tmp_path / "out"))
    with pytest.raises(Refused, match="one place"):
        cohort("brain", "-n", "2", "--volumes", "--out", str(tmp_path / "out"))
    assert not (tmp_path / "out").exists()
