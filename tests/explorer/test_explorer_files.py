"""Following runs, reading evaluations, exporting: the explorer's dealings with files."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from explorer_app import config, evaluation, export, launch, movie_export
from explorer_app.displayed import FULL, coloured
from explorer_app.distribution import TrainingDistribution
from explorer_app.state import AppState, Axis, Grid, opened, set_values
from mssg.checkpoint.header import read_header
from mssg.errors import DataError, UsageError
from mssg.metrics.results import Evaluation, ModelRecord, Result
from mssg.runs.folder import RunFolder
from mssg.runs.follow import FollowedRun


@pytest.fixture(scope="module")
def distribution(tiny_snapshot):
    return TrainingDistribution(read_header(tiny_snapshot))


@pytest.fixture(scope="module")
def state(distribution, tiny_snapshot) -> AppState:
    return opened(AppState(), str(tiny_snapshot), distribution.defaults(), distribution.axes())


def test_run_reads_only_whole_lines_and_starts_over_when_rows_are_dropped(tmp_path):
    stats = tmp_path / "stats.jsonl"
    run = FollowedRun(tmp_path)
    run.poll(0)
    stats.write_text('{"kimg": 1, "loss/G/adv": 2.5}\n{"kimg": 2, "loss/G')
    run.poll(1)
    assert run.statistics.last == {"kimg": 1.0, "loss/G/adv": 2.5}
    with stats.open("a") as file:
        file.write('/adv": 1.5}\nnot json\n{"kimg": 3, "text": "a", "bad": NaN}\n')
    run.poll(2)
    xs, ys = run.statistics.curve("loss/G/adv")
    assert xs.tolist() == [1, 2] and ys.tolist() == [2.5, 1.5]
    assert "text" not in run.statistics.names and "bad" not in run.statistics.names
    stats.write_text('{"kimg": 1, "loss/G/adv": 9}\n')  # resumed: later rows are gone
    run.poll(3)
    assert run.statistics.curve("loss/G/adv")[1].tolist() == [9]


def test_run_notices_a_snapshot_once_and_never_a_half_written_one(tmp_path):
    snapshots = tmp_path / "snapshots"
    snapshots.mkdir()
    run = FollowedRun(tmp_path)
    assert not run.poll(0)
    (snapshots / ".000010.safetensors.77.tmp").write_bytes(b"half")
    assert not run.poll(1) and run.checkpoints == ()
    (snapshots / "000010.safetensors").write_bytes(b"x")
    assert not run.poll(1.1)  # at most every half second
    assert run.poll(2) and not run.poll(3)
    assert run.checkpoints[-1].kimg == 10 and run.index(str(snapshots / "000010.safetensors")) == 0
    assert RunFolder(tmp_path).looks_like_a_run() and not RunFolder(snapshots).looks_like_a_run()


def test_recent_files_forget_what_is_gone(tmp_path, monkeypatch):
    monkeypatch.setenv("MSSG_CONFIG_DIR", str(tmp_path / "config"))
    files = [tmp_path / f"{i}.safetensors" for i in range(3)]
    for file in files:
        file.touch()
        config.remember(str(file))
    config.remember(str(files[0]))
    files[1].unlink()
    assert config.recent() == [str(files[0].resolve()), str(files[2].resolve())]
    (tmp_path / "config" / "recent.json").write_text("{broken")
    assert config.recent() == []


def test_png_holds_exactly_what_was_seen_and_says_where_it_comes_from(tmp_path, distribution, state):
    from PIL import Image

    image = np.linspace(-10, 265, 32 * 32, dtype=np.float32).reshape(32, 32)
    origin = export.Origin.of(distribution.header, replace(state.request, seed=7))
    export.save_png(tmp_path / "a.png", coloured(image, FULL), origin)
    with Image.open(tmp_path / "a.png") as read:
        assert np.array_equal(np.asarray(read), np.rint(np.clip(image, 0, 255)).astype(np.uint8))
        stored = json.loads(read.text["mssg"])
    identity = distribution.header.snapshot_id
    assert stored["Seed"] == 7 and stored["Snapshot"]["Id"] == stored["Request"]["snapshot"] == identity
    assert stored["Covariates"]["thickness"]["Units"] == "px"
    export.save_png16(tmp_path / "b.png", image, origin)
    with Image.open(tmp_path / "b.png") as read:
        assert np.allclose(np.asarray(read) / 257, np.clip(image, 0, 255), atol=0.01)
    with pytest.raises(UsageError, match="one channel"):
        export.save_png16(tmp_path / "c.png", np.zeros((4, 4, 3), np.float32), origin)
    with pytest.raises(UsageError, match="cannot be written"):
        export.save_png(tmp_path / "none" / "c.png", coloured(image, FULL), origin)


def test_nifti_puts_patient_left_and_superior_where_they_belong(tmp_path, distribution, state):
    import nibabel

    from mssg.study.model import Geometry

    header = distribution.header
    study = replace(header.study, geometry=Geometry("coronal", 2.0, "common", 10.0))
    image = np.zeros((32, 32), np.float32)
    image[2, 5] = 200  # row 2: superior; column 5: patient left
    origin = export.Origin.of(replace(header, study=study), state.request)
    export.save_nifti(tmp_path / "a.nii.gz", image, origin)
    assert json.loads((tmp_path / "a.json").read_text())["Seed"] == 0
    volume = nibabel.load(tmp_path / "a.nii.gz")
    i, j, k = np.argwhere(np.asarray(volume.dataobj) == 200)[0]
    x, y, z = (volume.affine @ [i, j, k, 1])[:3]
    assert nibabel.aff2axcodes(volume.affine) == ("R", "A", "S")
    assert (x, y, z) == ((5 - 15.5) * 2, 10.0, (15.5 - 2) * 2) and x < 0 < z
    with pytest.raises(UsageError, match="no geometry"):
        export.save_nifti(tmp_path / "b.nii.gz", image, export.Origin.of(header, state.request))


@pytest.mark.slow
def test_grid_pdf_is_reproducible_and_png_is_native(tmp_path, distribution, state):
    from PIL import Image

    cells = [[np.full((8, 8), 40 * (i + j), np.uint8) for j in range(3)] for i in range(2)]
    grid = Grid(Axis("slant", -10, 10, 2), Axis("thickness", 2, 4, 3))
    origin = export.Origin.of_grid(distribution.header, state.request, grid)
    for name in ("a.pdf", "b.pdf", "c.png"):
        export.save_grid(tmp_path / name, cells, grid, origin)
    assert (tmp_path / "a.pdf").read_bytes() == (tmp_path / "b.pdf").read_bytes()
    with Image.open(tmp_path / "c.png") as read:
        assert read.size == (24, 16) and read.getpixel((23, 15)) == 120
        assert "--rows slant=-10,10 --cols thickness=2,3,4" in read.text["Command"]
        assert json.loads(read.text["mssg"])["Covariates"]["thickness"]["Value"] == [2, 3, 4, 2, 3, 4]
        rows, columns = json.loads(read.text["mssg"])["Axes"]
    assert rows == {"Along": "Rows", "Name": "slant", "Units": "°", "Values": [-10, 10]}
    assert columns["Name"] == "thickness" and columns["Values"] == [2, 3, 4]
    with pytest.raises(UsageError, match="not a figure"):
        export.save_grid(tmp_path / "d.gif", cells, grid, origin)


def test_sweep_runs_to_and_fro(tmp_path, distribution, state):
    from PIL import Image

    images = [np.full((8, 8), 60 * i, np.uint8) for i in range(4)]
    origin = export.Origin.of(distribution.header, replace(state.request, seed=3))
    movie_export.save_sweep(tmp_path / "a.gif", images, origin)
    with Image.open(tmp_path / "a.gif") as read:
        assert read.n_frames == 6 and json.loads(read.info["comment"])["Seed"] == 3
    with pytest.raises(UsageError, match="not an animation"):
        movie_export.save_sweep(tmp_path / "a.txt", images, origin)


@pytest.mark.slow
def test_a_sweep_becomes_a_video(tmp_path, distribution, state):
    """Odd sizes are padded; the frames are those of the GIF, and how they were made is in the file."""
    images = [np.full((33, 41), 60 * i, np.uint8) for i in range(4)]
    origin = export.Origin.of(distribution.header, replace(state.request, seed=3))
    movie_export.save_sweep(tmp_path / "a.mp4", images, origin)
    assert (tmp_path / "a.mp4").read_bytes()[4:8] == b"ftyp"
    words = f"-v error -i {tmp_path / 'a.mp4'} -pix_fmt gray -f rawvideo -".split()
    done = subprocess.run([movie_export._ffmpeg(), *words], capture_output=True, check=True)
    frames = np.frombuffer(done.stdout, np.uint8).reshape(-1, 34, 42)
    assert frames[:, :32, :40].mean(axis=(1, 2)) == pytest.approx([0, 60, 120, 180, 120, 60], abs=4)
    assert b'"Seed": 3' in (tmp_path / "a.mp4").read_bytes()


@pytest.mark.parametrize("mode", ["linked", "free"])
def test_a_sweep_follows_the_mode_and_says_so(distribution, state, mode):
    requests = distribution.sweep(state.request, "thickness", mode)
    values = [dict(r.covariates)["thickness"] for r in requests]
    assert values == sorted(values) and [values[0], values[-1]] == pytest.approx(
        distribution.range("thickness")
    )
    others = {dict(r.covariates)["intensity"] for r in requests}
    assert len(others) == 1 if mode == "free" else len(others) > 10
    stored = json.loads(export.Origin.of_sweep(distribution.header, requests, "thickness", mode).json)
    assert stored["Mode"] == mode and stored["Axes"][0]["Values"] == values


def test_the_grid_s_command_names_every_held_value(state, distribution):
    state = replace(state, request=replace(state.request, cutoff=2, layer="b8.conv0"))
    command = export.command_of_grid(state.request, state.grid, distribution.study, state.snapshot)
    assert command.startswith("mssg figure grid ") and "--layer" not in command
    assert "--rows intensity=" in command and "--cols slant=" in command
    assert "--fix thickness=" in command and "--fix digit=" in command and "--cutoff 2" in command


def stratified(count: int = 6, **changes) -> Evaluation:
    """An evaluation with a small error for each stratum of thickness, slant and digit, as `mssg evaluate`
    writes it."""
    results = [
        Result(
            "strata/mae",
            1.0 + i + 10 * j,
            "tiny",
            50,
            9,
            (0.5, 40.0),
            covariate="slant",
            unit="°",
            reference=reference,
            stratum={"thickness": [i, i + 1], "slant": [10 * j, 10 * j + 10], "digit": str(k)},
            real_floor=0.25,
        )
        for reference in ("requested", "real")
        for i in range(3)
        for j in range(2)
        for k in range(2)
    ]
    results.append(Result("strata/mae", None, "tiny", 0, covariate="slant", reference="real"))
    return Evaluation(
        "strokes", "test", 0, (ModelRecord("tiny", "0" * 12, "strokes", 12.0),), tuple(results[-count:])
    )


def test_evaluation_becomes_a_table_of_strata(tmp_path, distribution):
    path = stratified(99).save(tmp_path / "eval.json")
    requested, real = evaluation.load(path, distribution.study)
    assert (requested.metric, real.metric) == (
        "mae · slant · against requested",
        "mae · slant · against real",
    )
    assert (requested.rows, requested.columns, requested.panel, requested.unit) == (
        "thickness",
        "slant",
        "digit",
        "°",
    )
    (edges, rows, columns, values, cells), _ = requested.panels()
    assert edges == (0.0, 0.0) and len(rows) == 3 and len(columns) == 2 and values[2, 1] == 13.0
    cell = cells[2, 1]
    assert (cell.count, cell.real, cell.interval, cell.floor) == (50, 9, (0.5, 40.0), 0.25)
    assert cell.centre == {"thickness": 2.5, "slant": 15.0, "digit": 0.0}


@pytest.mark.parametrize(
    "content", ["", "[]", "{}", '{"format_version": 1, "results": [1]}', '{"format_version": 9}']
)
def test_what_is_no_evaluation_is_refused(tmp_path, distribution, content):
    (tmp_path / "e.json").write_text(content)
    with pytest.raises(DataError):
        evaluation.load(tmp_path / "e.json", distribution.study)


def test_strata_of_a_fourth_covariate_have_tables_of_their_own(tmp_path, distribution):
    results = tuple(
        Result(
            "strata/f1",
            i / 2,
            "m",
            5,
            covariate="digit",
            stratum={"thickness": [0, 1], "slant": [0, 1], "intensity": [0, 9], "digit": str(i)},
        )
        for i in range(3)
    )
    tables = evaluation.load(
        replace(stratified(), results=results).save(tmp_path / "e.json"), distribution.study
    )
    assert [t.metric for t in tables] == [f"f1 · digit · digit {i}" for i in range(3)]
    assert [t.cells[0].value for t in tables] == [0.0, 0.5, 1.0]


def test_an_evaluation_of_another_study_is_refused_and_of_another_model_named(tmp_path, distribution):
    path = stratified(99).save(tmp_path / "eval.json")
    mine, other = (
        evaluation.load(path, distribution.study, snapshot)[0].about for snapshot in ("0" * 64, "f" * 64)
    )
    assert mine == "" and other == "of another model: tiny, strokes, 12 kimg"
    results = tuple(replace(r, stratum={"weight": [0, 1]}) for r in stratified().results if r.stratum)
    replace(stratified(), results=results).save(tmp_path / "e.json")
    with pytest.raises(DataError, match=r"another study.*weight.*thickness"):
        evaluation.load(tmp_path / "e.json", distribution.study)


def test_an_evaluation_without_strata_is_refused(tmp_path, distribution):
    with pytest.raises(DataError, match="no strata"):
        evaluation.load(stratified(1).save(tmp_path / "e.json"), distribution.study)


def test_live_strata_lie_inside_the_training_data(state, distribution):
    chosen = replace(state.analysis, strata_rows="thickness", strata_columns="digit", strata_images=2)
    request = set_values(state, intensity=120).request
    strata = evaluation.live_requests(request, chosen, distribution)
    assert len(strata) == 12 and all(len(p) == 2 for p in strata.values())
    low, high = distribution.range("thickness")
    assert all(low <= dict(p.covariates)["thickness"] <= high for ps in strata.values() for p in ps)
    assert all(dict(p.covariates)["intensity"] == 120 for ps in strata.values() for p in ps)


@pytest.mark.skipif(os.name != "posix", reason="locks of this kind")
def test_a_training_is_found_by_the_lock_it_holds(tmp_path):
    assert launch.found_training(tmp_path) is None
    code = "import sys\nfrom pathlib import Path\nfrom mssg.runs.lock import locked\n"
    code += "with locked(Path(sys.argv[1])): print('held', flush=True); input()"
    words = [sys.executable, "-c", code, str(tmp_path)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen(words, **pipes) as trainer:
        assert trainer.stdout.readline() == "held\n"
        found = launch.found_training(tmp_path)
        assert found is not None and found.running and found._pid == trainer.pid
        trainer.communicate("\n")
    assert not found.running and launch.found_training(tmp_path) is None


TRAINER = """
import signal, sys, time
signal.signal(signal.SIGTERM, lambda *_: sys.exit(print('saved')))
print('started', flush=True)
time.sleep(60)
"""


@pytest.mark.skipif(os.name != "posix", reason="process groups")
def test_training_is_its_own_process_group_and_ends_on_request(tmp_path):
    training = launch.TrainingProcess([sys.executable, "-c", TRAINER], str(tmp_path / "run"))
    end = time.monotonic() + 20
    while "started" not in training.tail() and time.monotonic() < end:
        time.sleep(0.05)
    assert training.running and os.getpgid(training._process.pid) != os.getpgid(0)
    training.stop()
    assert training._process.wait(20) == 0 and training.tail() == ["started", "saved"]
    assert not training.running and Path(training.output).is_file()
