"""Whole heads in an evaluation: control read off the stack, neighbouring slices beside real ones."""

import sys
from types import ModuleType

import numpy as np
import pytest
from click.testing import CliRunner

from mssg.checkpoint.snapshot import load_snapshot
from mssg.errors import DataError
from mssg.measure import instruments
from mssg.measure.own_error import OwnError
from mssg.metrics.groups.volumes import edges_of
from mssg.metrics.pairwise import ssim
from mssg.metrics.results import Evaluation
from mssg.metrics.stack_consistency import asymmetry, neighbours, steadiness
from mssg.rendering.renderer import Renderer
from mssg.rendering.request import RenderRequest
from mssg.rendering.volume import draw_volume
from trainer_cli import main as entry


@pytest.fixture(scope="module")
def heads(make_heads):
    return make_heads()


@pytest.fixture
def reads_brightness(monkeypatch):
    """An instrument that reads a stack's mean grey level as `intensity`; what it was given is kept."""
    seen = []
    module = ModuleType("reads_brightness")

    def measure(volumes, edges):
        seen.append((np.asarray(volumes), tuple(edges)))
        return {"intensity": np.asarray(volumes, np.float64).mean((1, 2, 3))}

    module.measure = measure
    module.own_errors = lambda: (OwnError("intensity", 50, mae=3.0, r=0.9, better=True),)
    monkeypatch.setitem(sys.modules, "reads_brightness", module)
    monkeypatch.setitem(instruments.STACKS, "digits", "reads_brightness")
    return seen


def evaluate(snapshot, study, tmp_path, *words):
    out = tmp_path / "eval.json"
    command = [
        "evaluate",
        snapshot,
        "--study",
        study,
        "--metrics",
        "volumes",
        "--heads",
        12,
        *words,
        "-o",
        out,
    ]
    done = CliRunner().invoke(
        entry.cli, [*map(str, command), "--heads", "12", "--cache", str(tmp_path / "cache")]
    )
    assert done.exit_code == 0, done.output
    return Evaluation.load(out)


@pytest.fixture(scope="module")
def toml(heads, tiny_study):
    return tiny_study.parent / "heads-coronal.toml"


def test_control_is_read_off_whole_heads(heads, toml, tmp_path, reads_brightness):
    found = evaluate(heads, toml, tmp_path)
    rows = [r for r in found.results if r.metric == "volumes/control/r"]
    assert {(r.covariate, r.design) for r in rows} == {("intensity", "a"), ("intensity", "b")}
    assert all(r.instrument == "oracle-digits-stack" and r.n == 12 for r in rows)
    assert all(r.own.mae == 3.0 for r in rows)
    volumes, edges = reads_brightness[-1]
    assert volumes.shape[1:] == (32, 21, 32) and edges == (4.0, 5.0, 4.0)
    # a head has one latent and one set of covariates: it is what `generate --volume` draws
    renderer = Renderer(load_snapshot(heads))
    whole = draw_volume(renderer, RenderRequest(seed=5)).data
    assert np.corrcoef(whole[:, 3].ravel(), whole[:, 4].ravel())[0, 1] > 0.5


def test_neighbours_stand_beside_real_ones(heads, toml, tmp_path):
    found = evaluate(heads, toml, tmp_path)
    rows = {r.metric: r for r in found.results}
    likeness = rows["volumes/neighbour-correlation"]
    assert likeness.n == 12 * 20 and likeness.n_real == 2 * 20  # one person a source in the test split
    assert likeness.detail["step_mm"] == 5 and -1 <= likeness.real_floor <= 1
    assert rows["volumes/neighbour-ssim"].real_floor < 1
    flicker = rows["volumes/flicker"]
    assert flicker.n == 12 * 19 and flicker.n_real == 2 * 19 and flicker.detail["unit"] == "grey levels"
    assert flicker.real_floor > 0 and {f"volumes/{n}" for n in ("outline", "middle", "sides")} <= set(rows)
    assert 0 <= rows["volumes/asymmetry"].value <= 1
    assert any("no control" in note.message for note in found.notes)  # no instrument reads stacks of digits


def test_likeness_is_correlation_and_ssim():
    rng = np.random.default_rng(0)
    a, b = rng.integers(0, 256, (2, 3, 1, 32, 32), dtype=np.uint8)
    found = neighbours(a, b)
    for i in range(3):
        r = np.corrcoef(a[i].ravel(), b[i].ravel())[0, 1]
        assert found["neighbour-correlation"][i] == pytest.approx(r, abs=1e-12)
    np.testing.assert_allclose(found["neighbour-ssim"], ssim(a, b))


def test_steadiness_is_how_far_a_slice_leaves_the_middle_of_its_neighbours():
    y, x = np.mgrid[:64, :64] - 31.5

    def disc(radius, centre=0.0, level=200.0):
        inside = np.clip(radius - np.hypot(x - centre, y) + 0.5, 0, 1)
        return np.rint(inside * level).astype(np.uint8)

    def of(*slices):
        return {name: float(v[0]) for name, v in steadiness(np.stack(slices)[None], 2.5).items()}

    steady = of(disc(18), disc(20), disc(22))
    assert steady["outline"] < 0.1 and steady["middle"] < 1e-9
    assert of(disc(20), disc(22), disc(20))["outline"] == pytest.approx(2 * 2.5, abs=0.1)
    assert of(disc(20), disc(20, 3), disc(20))["middle"] == pytest.approx(3 * 2.5, abs=0.1)
    bright = of(disc(20), disc(20, level=212), disc(20))
    assert bright["flicker"] == pytest.approx(12, abs=0.6) and bright["outline"] < 0.1
    assert of(disc(20), disc(20, 3), disc(20))["sides"] > 0.05 > of(disc(20), disc(20), disc(20))["sides"]
    with pytest.raises(DataError, match="triples"):
        steadiness(np.zeros((3, 8, 8), np.uint8), 2.5)


def test_both_sides_of_a_head_are_compared():
    head = np.full((8, 6, 5), 200, np.uint8)
    assert asymmetry(head) == 0
    head[:2] = 0  # half of the left
    assert asymmetry(head) == pytest.approx(1 / 3)


def test_single_slices_are_those_of_the_studys_own_place(toml):
    from mssg.metrics.dataset import open_dataset
    from mssg.study.schema import load_study

    study = load_study(toml)
    data, _ = open_dataset(study, "train")
    assert len(data) == 6 and set(data.values[:, study.index("depth")]) == {10.0}
    assert edges_of(study, np.array([-60.0, -55.0])) == (4.0, 5.0, 4.0)


def test_a_study_of_one_place_has_none(tiny_snapshot, tiny_study, tmp_path):
    words = [
        "evaluate",
        tiny_snapshot,
        "--study",
        tiny_study,
        "--metrics",
        "volumes",
        "-o",
        tmp_path / "e.json",
    ]
    done = CliRunner().invoke(entry.cli, [*map(str, words), "--cache", str(tmp_path / "cache")])
    assert done.exit_code == 2 and "nothing could be measured" in done.output
