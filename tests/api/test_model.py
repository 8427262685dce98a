"""`mssg.load`: pictures as the command line draws them, mistakes that are named, callers left alone."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import threading
from pathlib import Path

import nibabel
import numpy as np
import pytest
from PIL import Image
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

import mssg
from mssg import assets

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def brain():
    return mssg.load("brain", device="cpu")


@pytest.fixture(scope="module")
def digits():
    return mssg.load(assets.path("snapshots/digits.safetensors"), device="cpu")


@pytest.fixture(scope="module")
def scanners():
    return mssg.load("brain-scanners", device="cpu")


def run_command(*words: str) -> None:
    from trainer_cli.main import cli

    cli.main([*words, "--device", "cpu"], standalone_mode=False)


@pytest.mark.parametrize("suffix", [".png", ".nii.gz"])
def test_files_are_those_of_the_command_line(brain, tmp_path, suffix):
    mine, theirs = tmp_path / f"a{suffix}", tmp_path / f"b{suffix}"
    words = ["--seed", "3", "--fix", "age=70", "--psi", "0.8"]
    run_command("generate", "brain", *words, "-o", str(theirs))
    assert brain.draw(age=70, seed=3, psi=0.8).save(mine) == mine
    assert mine.read_bytes() == theirs.read_bytes()
    if suffix == ".nii.gz":
        assert (tmp_path / "a.json").read_text() == (tmp_path / "b.json").read_text()


def test_lists_go_together_and_leave_each_picture_as_it_is_alone(digits):
    pictures = digits.draw(digit=[1, "2", np.int64(3)], seed=np.array([5, 6, 7]), thickness=3)
    assert [(p.values["digit"], p.seed, p.values["thickness"]) for p in pictures] == [
        ("1", 5, 3.0),
        ("2", 6, 3.0),
        ("3", 7, 3.0),
    ]
    alone = digits.draw(digit="2", seed=6, thickness=3.0)
    assert alone.request == pictures[1].request
    np.testing.assert_array_equal(alone.array, pictures[1].array)
    assert digits.draw(seed=[1])[0].seed == 1
    assert (
        len({p.array.tobytes() for p in digits.draw(psi=[0.1, 0.5, 1], noise=["none", "const", "const"])})
        == 3
    )


def test_a_picture_says_what_it_is(brain):
    picture = brain.draw(values={"age": 70}, seed=3)
    assert picture.array.shape == (128, 128) and picture.array.dtype == np.uint8
    assert list(picture.values) == ["age", "ventricle", "grey_matter"]
    assert picture.values["ventricle"] == brain.covariates["ventricle"].median
    np.testing.assert_array_equal(np.asarray(picture.to_pil()), picture.array)
    shown = Image.open(io.BytesIO(picture._repr_png_()))
    np.testing.assert_array_equal(np.asarray(shown), picture.array)
    assert json.loads(shown.info["Covariates"])["age"] == "70"
    image = picture.to_nifti()
    assert sorted(image.shape) == [1, 128, 128] and nibabel.affines.voxel_sizes(image.affine).max() > 0
    assert brain._repr_html_().count("<tr>") == 4


def test_covariates_are_in_native_units(brain, digits, scanners):
    age, digit = brain.covariates["age"], digits.covariates["digit"]
    assert (age.kind, age.unit, age.observed_by) == ("continuous", "years", ("A", "B"))
    assert age.low < age.median < age.high and age.default == age.median
    assert digit.levels == tuple("0123456789") and digit.median is None and digit.default in digit.levels
    assert scanners.covariates["source"].levels == ("scanner1", "scanner2")


def test_the_source_is_a_covariate_where_the_model_is_told_it(brain, scanners):
    first, second = scanners.draw(source=["scanner1", "scanner2"], seed=1)
    assert (first.values["source"], second.values["source"]) == ("scanner1", "scanner2")
    assert (first.array != second.array).any()
    with pytest.raises(mssg.ArgumentError, match="not told the source"):
        brain.draw(source="A")
    with pytest.raises(mssg.ArgumentError, match="source: unknown level"):
        scanners.draw(source="C")


@pytest.fixture
def oddly_named(tmp_path):
    """The digits with covariates that are called as keywords of `draw` are."""
    path = assets.path("snapshots/digits.safetensors")
    with safe_open(path, "np") as file:
        text = file.metadata()["mssg"]
    odd_names = ("thickness", "seed"), ("intensity", "psi"), ("slant", "grey matter"), ("digit", "CDR-SB")
    for name, odd in odd_names:
        text = text.replace(f'"{name}"', f'"{odd}"')
    save_file(load_file(path), tmp_path / "odd.safetensors", {"mssg": text})
    return mssg.load(tmp_path / "odd.safetensors", device="cpu")


def test_any_name_goes_through_values(oddly_named, digits):
    stated = {"seed": 4, "psi": 200, "grey matter": 10, "CDR-SB": "5"}
    picture = oddly_named.draw(values=stated, seed=7)
    assert picture.values == stated and picture.seed == 7
    same = digits.draw(thickness=4, intensity=200, slant=10, seed=7, digit=5)
    np.testing.assert_array_equal(picture.array, same.array)
    (also,) = oddly_named.draw(values=stated | {"seed": [4]}, seed=7)
    np.testing.assert_array_equal(also.array, same.array)
    people = oddly_named.sample(2, given={"grey matter": 10}, uniform={"seed": (3, 4)}, balance="CDR-SB")
    assert people.table["grey matter"] == [10, 10] and people.table["CDR-SB"] == ["0", "1"]
    assert oddly_named.support(values=stated) == digits.support(
        thickness=4, intensity=200, slant=10, digit="5"
    )
    assert oddly_named.grid("grey matter=-5:5:2", ("seed", [3, 4]), fix={"psi": 200}).figure


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"ages": 70}, r"no covariate 'ages'; did you mean 'age'\?"),
        ({"values": {"grey matter": 700}}, r"no covariate 'grey matter'; did you mean 'grey_matter'\?"),
        ({"sed": 3}, r"did you mean 'seed'\?"),
        ({"values": {"age": 70}, "age": 71}, "age: given twice"),
        ({"values": [70]}, "values: not a mapping"),
        ({"values": {3: 70}}, "no covariate 3"),
        ({"age": float("nan")}, "age: not a finite number"),
        ({"age": "old"}, "age: not a finite number"),
        ({"age": ""}, "age: a missing value"),
        ({"age": None}, "age: not a value"),
        ({"age": True}, "age: not a value"),
        ({"age": [[60], [70]]}, "age: not a value"),
        ({"age": np.zeros((2, 2))}, "age: not a list of values"),
        ({"age": []}, "age: an empty list"),
        ({"age": [60, 70], "seed": [1, 2, 3]}, "age: lists of different lengths. Found 2"),
        ({"ventricle": -10_000}, "ventricle: outside the domain"),
        ({"seed": 1.5}, "seed: out of range"),
        ({"seed": -1}, "seed: out of range"),
        ({"psi": None}, "psi: not a finite number"),
        ({"noise": "loud"}, "noise: not known"),
    ],
)
def test_a_wrong_argument_is_named(brain, arguments, words):
    with pytest.raises(mssg.ArgumentError, match=words) as caught:
        brain.draw(**arguments)
    assert isinstance(caught.value, mssg.MssgError) and isinstance(caught.value, ValueError)


def test_random_noise_has_a_seed_of_its_own(brain, tmp_path):
    first, second, again = brain.draw(noise="random", noise_seed=[1, 2, 1])
    assert (first.array != second.array).any() and (first.array == again.array).all()
    words = ["--noise", "random", "--noise-seed", "2"]
    run_command("generate", "brain", *words, "-o", str(tmp_path / "b.png"))
    assert second.save(tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


def test_a_pickle_is_told_how_to_become_a_snapshot(tmp_path):
    (tmp_path / "net.pkl").write_bytes(b"\x80\x04}\x94.")
    with pytest.raises(mssg.MssgError, match=r"network pickle.*mssg import net.pkl -o net.safetensors"):
        mssg.load(tmp_path / "net.pkl")


def test_wrong_levels_files_and_names_are_named(brain, digits, tmp_path):
    for call, words in (
        (lambda: digits.draw(digit="ten"), "digit: unknown level"),
        (lambda: mssg.load("brian"), "brian: no such snapshot"),
        (lambda: mssg.load("brain", device="tpu"), "device"),
        (lambda: mssg.load(3), "name: not a name or path"),
        (lambda: brain.draw().save(tmp_path / "a.jpg"), "path: not a format"),
        (lambda: digits.draw().save(tmp_path / "a.nii.gz"), "geometry"),
        (lambda: brain.grid("age", "ages"), "did you mean 'age'"),
        (lambda: brain.grid("age", "age"), "on both axes"),
        (lambda: brain.support(age=float("inf")), "age: not a finite number"),
        (lambda: brain.invert(np.zeros((8, 8), np.uint8)), "image: another size"),
        (lambda: brain.invert(np.full((128, 128), np.nan)), "image: holds NaN"),
        (lambda: brain.invert([[1, 2], [3]]), "image: not an array"),
    ):
        with pytest.raises(mssg.ArgumentError, match=words):
            call()
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_a_grid_is_the_command_lines(brain, tmp_path):
    figure = brain.grid("ventricle=15:40:2", ("grey_matter", [700, 800]), fix={"age": 65}, seed=2)
    words = ["--rows", "ventricle=15,40", "--cols", "grey_matter=700,800", "--seed", "2", "--fix", "age=65"]
    run_command("figure", "grid", "brain", *words, "-o", str(tmp_path / "theirs.png"))
    with Image.open(tmp_path / "theirs.png") as theirs, Image.open(io.BytesIO(figure._repr_png_())) as mine:
        np.testing.assert_array_equal(np.asarray(mine), np.asarray(theirs))
    one = brain.draw(ventricle=15, grey_matter=700, age=65, seed=2)
    np.testing.assert_array_equal(figure.images[0, 0, 0, 0], one.array)
    assert figure.save(tmp_path / "mine.pdf").read_bytes().startswith(b"%PDF")


def test_support_is_a_percentile(brain):
    usual = {name: c.median for name, c in brain.covariates.items()}
    assert brain.support(**usual) > 50 > brain.support(**{**usual, "grey_matter": 400})
    middle, end, beyond = brain.support(age=[64, 80, 120])
    assert 100 >= middle > end > beyond == 0


@pytest.mark.slow
def test_an_inverted_picture_comes_back_and_ages(brain, tmp_path):
    target = brain.draw(seed=4)
    found = brain.invert(target.array, values=target.values, steps=30)
    assert 0 <= found.error < 60 and set(found.how.values()) == {"given"}
    assert found.draw().values == pytest.approx(target.values)
    older = found.draw(age=[70, 80])
    assert [p.values["age"] for p in older] == [70, 80] and (older[0].array != older[1].array).any()
    path = found.save(tmp_path / "w.safetensors")
    run_command("generate", "brain", "--w", str(path), "--fix", "age=80", "-o", str(tmp_path / "80.png"))
    with Image.open(tmp_path / "80.png") as drawn:
        np.testing.assert_array_equal(np.asarray(drawn), older[1].array)


def test_threads_draw_what_one_draws(digits):
    wanted = {seed: digits.draw(seed=seed).array for seed in range(4)}
    found: dict[int, np.ndarray] = {}
    workers = [
        threading.Thread(target=lambda s=s: found.update({s: digits.draw(seed=s).array})) for s in wanted
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert found.keys() == wanted.keys()
    for seed, array in wanted.items():
        np.testing.assert_array_equal(found[seed], array)


LEFT_ALONE = """
import logging, os, random, sys, warnings
import numpy, torch

def state():
    root = logging.getLogger()
    known = [root, logging.getLogger("mssg")]
    return [
        [(l.level, list(l.handlers), l.propagate, l.disabled) for l in known], logging.root.manager.disable,
        warnings.filters[:], random.getstate(), numpy.random.get_state()[1].tolist(),
        torch.get_rng_state().tolist(),
        torch.get_num_threads(), torch.is_grad_enabled(), torch.get_default_dtype(), numpy.geterr(),
        torch.are_deterministic_algorithms_enabled(), torch.backends.mkldnn.enabled, dict(os.environ),
        os.getcwd(), sys.excepthook, sys.path[:],
    ]

def compare(before):
    for number, (old, new) in enumerate(zip(before, state(), strict=True)):
        assert old == new, (number, old, new)

before = state()
import mssg
model = mssg.load("digits", device="cpu")
picture = model.draw(digit=3, noise="random")
picture._repr_png_(), repr(picture), model._repr_html_(), model.support(digit=3)
model.grid("digit=0,1", "slant=-10:10:2")
compare(before)
import torch._dynamo  # torch's optimisers do: it adds a filter of warnings and a variable
before = state()
model.invert(picture.array, values=picture.values, steps=2)
compare(before)
"""


@pytest.mark.slow
def test_the_callers_process_stays_as_it_was():
    subprocess.run([sys.executable, "-W", "error", "-c", LEFT_ALONE], cwd=ROOT, check=True, timeout=300)


FORKED = """
import multiprocessing, sys
import mssg, torch
torch.set_num_threads(2)
torch.ones(600, 600) @ torch.ones(600, 600), torch.ones(2_000_000).exp()  # OpenMP's threads are there
model = mssg.load("brain", device="cpu")
wanted = model.draw(age=70, seed=3).array.tobytes()

def child(queue):
    assert torch.get_num_threads() == 2
    drawn = [m.draw(age=70, seed=3).array.tobytes() for m in (model, mssg.load("brain", "cpu"))]
    queue.put(drawn)

context = multiprocessing.get_context("fork")
queue = context.Queue()
process = context.Process(target=child, args=(queue,))
process.start()
try:
    assert queue.get(timeout=60) == [wanted, wanted]
finally:
    process.kill()
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="forks on Linux only")
def test_a_forked_child_draws_the_same():
    subprocess.run([sys.executable, "-W", "error", "-c", FORKED], cwd=ROOT, check=True, timeout=300)


@pytest.mark.slow
def test_the_readme_s_example_runs_as_written(tmp_path, monkeypatch):
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    code = text.split("```python\n")[1].split("```")[0]
    monkeypatch.chdir(tmp_path)
    exec(code, {})
    assert {p.name for p in tmp_path.iterdir()} >= {"brain70.png", "grid.png"}
