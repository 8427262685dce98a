"""Whole runs: what they leave, killing and resuming them, transfer, several processes, and what can go
wrong."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import types
from pathlib import Path

import numpy as np
import pytest
import torch
from blob_study import write_blob_study
from safetensors.torch import load_file

import mssg
from mssg.checkpoint.header import read_header, resolve_snapshot
from mssg.errors import MssgError, RunError, SnapshotError, UsageError
from mssg.networks.config import DiscriminatorConfig
from mssg.networks.discriminator import build_discriminator
from mssg.runs import lock
from mssg.runs.rows import read_rows
from mssg.study.train_config import TrainConfig
from mssg.training import launch, stats
from mssg.training.batches import open_training_data
from mssg.training.distributed import World
from mssg.training.networks import _widened
from mssg.training.run import create, open_run
from mssg.training.state import TrainState, initial_state
from mssg.training.validation import in_whole_groups

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}


def weights(run: Path) -> dict[str, torch.Tensor]:
    return load_file(resolve_snapshot(run))


def assert_same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> None:
    assert a.keys() == b.keys()
    for name in a:
        assert torch.equal(a[name], b[name]), name


def fresh_networks(path: Path) -> TrainState:
    """The networks of a run before its first step."""
    run = open_run(path)
    return initial_state(run, open_training_data(run, World()).study, "cpu", print)


def command(*arguments: object) -> list[str]:
    return [
        sys.executable,
        "-m",
        "trainer_cli",
        "train",
        *map(str, arguments),
        "--device",
        "cpu",
        "--workers",
        "1",
    ]


@pytest.fixture(scope="module")
def finished(blob_study, tmp_path_factory) -> Path:
    """An uninterrupted run of 12 steps, made in a process of its own like the ones it is compared with."""
    run = tmp_path_factory.mktemp("runs") / "whole"
    subprocess.run(command(blob_study, "--outdir", run), check=True, env=ENVIRONMENT, cwd=ROOT)
    return run


def test_a_run_leaves_what_formats_says(finished, blob_study):
    names = {p.name for p in finished.iterdir()}
    assert {
        "config.json",
        "study.toml",
        "stats.jsonl",
        "snapshots",
        "state",
        "grids",
        "best",
        "log.txt",
        "lock",
    } <= names
    assert any(n.startswith("events.out.tfevents") for n in names)
    rows = read_rows(finished / "stats.jsonl")
    assert [row["kimg"] for row in rows] == pytest.approx([0.016 * i for i in range(1, 7)])
    assert {
        "loss/G/adv",
        "loss/G/cov",
        "loss/D/adv",
        "loss/D/cov",
        "loss/D/r1",
        "score/real",
        "score/fake",
        "lambda",
        "ada_p",
        "memory_gb",
        "sec_per_kimg",
        "elapsed_sec",
    } <= rows[0].keys()
    assert {"metric/validation/size", "metric/validation/level", "metric/validation/ring"} <= rows[-1].keys()
    assert (finished / "snapshots" / (finished / "best").read_text().strip()).is_file()
    header = read_header(resolve_snapshot(finished))
    assert header.progress["step"] == 12 and header.study.is_fitted
    assert (
        header.summary["sources"]["A"]["n"] == 48
        and "ring" not in header.summary["sources"]["A"]["covariates"]
    )


def test_the_snapshot_generates(finished):
    snapshot = mssg.load_snapshot(finished)
    values = np.array([[8.0, 160.0, 1.0], [6.0, 150.0, 0.0]])
    images = snapshot.G(torch.zeros(2, 8), torch.from_numpy(snapshot.study.encode(values)))
    assert images.shape == (2, 1, 32, 32) and torch.isfinite(images).all()
    assert not torch.equal(images[0], images[1])


def test_no_subject_enters_a_run(finished):
    for path in finished.rglob("*"):
        if path.is_file():
            data = path.read_bytes()
            assert b"subject" not in data and b"a17\x00" not in data, path


def test_asked_to_stop_it_saves_and_resumes_exactly(finished, blob_study, tmp_path):
    run = tmp_path / "run"
    process = subprocess.Popen(
        command(blob_study, "--outdir", run), env=ENVIRONMENT, cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    while "kimg" not in (line := process.stdout.readline()) or "started" in line:
        assert process.poll() is None
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 0 and "--resume" in output
    subprocess.run(command("--resume", run), check=True, env=ENVIRONMENT, cwd=ROOT, stdout=subprocess.DEVNULL)
    assert_same(weights(run), weights(finished))


def test_training_leaves_the_callers_process_as_it_was(blob_study, tmp_path):
    torch.manual_seed(3)
    before, handlers = torch.get_rng_state(), signal.getsignal(signal.SIGTERM)
    launch.start(blob_study, tmp_path / "run", {"total_kimg": 0.008})
    assert torch.equal(torch.get_rng_state(), before) and signal.getsignal(signal.SIGTERM) is handlers


def test_a_damaged_state_falls_back_to_the_one_before(finished, blob_study, tmp_path):
    run = tmp_path / "run"
    launch.start(blob_study, run, {"total_kimg": 0.064})
    states = sorted((run / "state").iterdir())
    states[-1].write_bytes(states[-1].read_bytes()[:1000])
    config = json.loads((run / "config.json").read_text())
    config["train"]["total_kimg"] = 0.096
    (run / "config.json").write_text(json.dumps(config))
    assert len(states) == 2
    launch.resume(run)
    assert read_header(resolve_snapshot(run)).progress["step"] == 12
    for path in (run / "state").iterdir():
        path.write_bytes(b"nothing")
    with pytest.raises(RunError, match="state"):
        launch.resume(run)


def test_two_trainers_on_one_run(finished):
    with lock.locked(finished), pytest.raises(RunError, match="another trainer"):
        launch.resume(finished)


def test_windows_locks_one_place_whatever_the_lock_file_holds(tmp_path, monkeypatch):
    """Windows locks bytes, not files: two trainers must ask for the same one."""
    held = []

    def locking(number, _mode, count):
        place = (os.lseek(number, 0, os.SEEK_CUR), count)
        if place in held:
            raise PermissionError(13, "Permission denied")
        held.append(place)

    monkeypatch.setitem(sys.modules, "msvcrt", types.SimpleNamespace(locking=locking, LK_NBLCK=2))
    monkeypatch.setattr(lock, "os", types.SimpleNamespace(name="nt", getpid=os.getpid))
    with lock.locked(tmp_path), pytest.raises(RunError, match="another trainer"), lock.locked(tmp_path):
        pass
    assert held == [(0, 1)]


def test_full_disk_leaves_the_previous_snapshot(finished, blob_study, tmp_path, monkeypatch):
    run = tmp_path / "run"
    original, calls = os.fsync, []

    def full(descriptor):
        calls.append(descriptor)
        if len(calls) > 12:
            raise OSError(28, "No space left on device")
        return original(descriptor)

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(MssgError, match="No space left"):
        launch.start(blob_study, run, {"total_kimg": 0.064})
    assert not list(run.rglob("*.tmp"))
    monkeypatch.undo()
    assert read_header(resolve_snapshot(run)).progress["step"] in (0, 4)
    launch.resume(run)
    assert read_header(resolve_snapshot(run)).progress["step"] == 8


def test_output_folder_in_use(finished, blob_study, tmp_path):
    with pytest.raises(RunError, match="--resume"):
        launch.start(blob_study, finished)
    (tmp_path / "file").write_text("x")
    for path in (tmp_path, tmp_path / "file"):
        with pytest.raises(RunError, match=path.name):
            launch.start(blob_study, path)
    with pytest.raises(RunError, match="not a run"):
        launch.resume(tmp_path)


def damaged(path: Path, data: bytes, how: str) -> bytes:
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    if how == "truncated":
        return data[:-100]
    if how == "truncated header":
        return data[: length // 2]
    if how == "empty":
        return b""
    if how == "text":
        return b"hello, this is no snapshot at all" * 10
    document = json.loads(header["__metadata__"]["mssg"])
    if how == "version":
        document["format_version"] = 99
    elif how == "study":
        document["study"]["covariates"]["size"]["kind"] = "smell"
    elif how == "no summary":
        del document["summary"]
    header["__metadata__"]["mssg"] = json.dumps(document)
    if how == "offsets":
        name = next(k for k in header if k.startswith("G_ema/"))
        header[name]["data_offsets"][1] += 4
    if how == "no description":
        del header["__metadata__"]["mssg"]
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data[8 + length :]


@pytest.mark.parametrize(
    "how",
    [
        "truncated",
        "truncated header",
        "empty",
        "text",
        "version",
        "study",
        "no summary",
        "offsets",
        "no description",
    ],
)
def test_damaged_snapshots_are_refused_with_a_reason(finished, tmp_path, how):
    path = tmp_path / "broken.safetensors"
    path.write_bytes(damaged(path, resolve_snapshot(finished).read_bytes(), how))
    with pytest.raises(SnapshotError, match=r"broken\.safetensors"):
        read_header(path)


@pytest.mark.parametrize("how", ["missing", "shape", "nan", "unknown"])
def test_tampered_tensors_are_named(finished, tmp_path, how):
    from safetensors import safe_open
    from safetensors.torch import save_file

    tensors, name = weights(finished), "G_ema/mapping.fc0.weight"
    with safe_open(resolve_snapshot(finished), "pt") as file:
        metadata = file.metadata()
    if how == "missing":
        del tensors[name]
    elif how == "shape":
        tensors[name] = tensors[name][:1].clone()
    elif how == "nan":
        tensors[name][0, 0] = float("nan")
    else:
        tensors["G_ema/mystery"] = torch.zeros(1)
    path = tmp_path / "tampered.safetensors"
    save_file(tensors, path, metadata)
    with pytest.raises(SnapshotError, match="mystery" if how == "unknown" else "mapping.fc0.weight"):
        _ = mssg.load_snapshot(path).G


def test_transfer_starts_from_the_snapshots_weights(finished, blob_study, tmp_path):
    run = tmp_path / "run"
    launch.start(blob_study, run, {"total_kimg": 0.008, "seed": 5}, init_from=str(resolve_snapshot(finished)))
    before, fresh = weights(finished), fresh_networks(finished).G.state_dict()
    assert read_rows(run / "stats.jsonl")[-1]["kimg"] == 0.008
    after, name = weights(run), "synthesis.b32.conv1.weight"
    gap = lambda other: (after[f"G/{name}"] - other).abs().mean()  # noqa: E731
    assert gap(before[f"G/{name}"]) < 0.5 * gap(fresh[name])
    with pytest.raises(MssgError, match="no such snapshot"):
        launch.start(blob_study, tmp_path / "other", init_from="nowhere")


@pytest.mark.parametrize("image_noise", [False, True])
def test_a_narrower_network_is_the_start_of_a_wider_one(blob_study, tmp_path, image_noise):
    """Every feature map that it had goes on as before, and the new ones learn."""
    narrow = {"total_kimg": 0.032, "channel_base": 256, "channel_max": 16, "image_noise": image_noise}
    launch.start(blob_study, tmp_path / "narrow", narrow)
    given, said = mssg.load_snapshot(str(tmp_path / "narrow")), []
    wide = narrow | {"channel_base": 512, "lr_decay": 0}
    run = create(blob_study, tmp_path / "wide", wide, init_from=str(tmp_path / "narrow"))
    grown = initial_state(run, open_training_data(run, World()).study, "cpu", said.append)
    of_G = 12 if image_noise else 9
    assert [line.rpartition(", ")[2] for line in said] == [f"{of_G} of them widened", "6 of them widened"]
    z, c = torch.randn(4, given.G.z_dim), torch.randn(4, given.G.c_dim)
    with torch.no_grad():
        before, after = (G(z, c, noise_mode="none") for G in (given.load("G"), grown.G))
        assert torch.allclose(after, before, atol=1e-4)
        assert torch.allclose(grown.D(before), given.load("D")(before), atol=1e-4)
    launch.resume(tmp_path / "wide")
    after, name = weights(tmp_path / "wide"), "G/synthesis.b32.conv1.weight"
    old = len(weights(tmp_path / "narrow")[name])
    assert after[name].shape[1] == 2 * old and (after[name][:old, old:] != 0).all()


def test_a_grey_network_is_no_narrower_colour_one():
    """Its picture's one channel must not become red."""
    small = {"img_resolution": 32, "c_dim": 1, "channel_max": 16}
    grey, colour = (
        build_discriminator(DiscriminatorConfig(img_channels=channels, channel_base=base, **small))
        for channels, base in ((1, 256), (3, 512))
    )
    wide = build_discriminator(DiscriminatorConfig(img_channels=1, channel_base=512, **small))
    assert _widened(wide, grey, grey.state_dict()) and not _widened(colour, grey, grey.state_dict())


def test_patience_stops_early(blob_study, tmp_path):
    events = []
    options = {"patience": 1, "g_lr": 1e-9, "d_lr": 1e-9, "total_kimg": 0.32}
    launch.start(blob_study, tmp_path / "run", options, lambda row: events.append(row.get("event", "")))
    assert any("stopped early" in e for e in events)
    assert read_rows(tmp_path / "run" / "stats.jsonl")[-1]["kimg"] < 0.32


def test_a_finished_run_can_become_longer(blob_study, tmp_path):
    """It goes on as if it had been longer from the start, where no schedule depends on the length."""
    whole, short = tmp_path / "whole", tmp_path / "short"
    options = ["--set", "lr_decay=0", "--kimg"]
    for run, kimg in ((whole, "0.048"), (short, "0.032")):
        words = command(blob_study, "--outdir", run, *options, kimg)
        subprocess.run(words, check=True, env=ENVIRONMENT, cwd=ROOT)
    subprocess.run(command("--resume", short, "--kimg", "0.048"), check=True, env=ENVIRONMENT, cwd=ROOT)
    assert_same(weights(short), weights(whole))
    assert read_header(resolve_snapshot(short)).progress["total_kimg"] == 0.048
    with pytest.raises(UsageError, match=r"more than the run's 0\.048"):
        launch.resume(short, total_kimg=0.04)


def test_kid_chooses_the_best_snapshot(blob_study, tmp_path):
    options = {"metrics": ["kid", "covariates"], "total_kimg": 0.064, "metric_images": 30}
    run = launch.start(blob_study, tmp_path / "run", options)
    rows = [row for row in read_rows(run / "stats.jsonl") if "metric/kid/efficientnet_lite0" in row]
    assert len(rows) == 2 and "metric/validation/size" in rows[0]
    best = min(rows, key=lambda row: row["metric/kid/efficientnet_lite0"])
    assert (run / "best").read_text().strip() == open_run(run).snapshot(best["kimg"]).name
    assert "KID in efficientnet_lite0 features to 30 held-out images" in (run / "log.txt").read_text()


def test_a_predictor_measures_control_while_training(blob_study, tmp_path):
    from mssg.data.dataset import open_sources
    from mssg.features import predictor_training

    options = {"metrics": ["control", "covariates"], "total_kimg": 0.016}
    without = launch.start(blob_study, tmp_path / "without", options)
    assert "no control of size, level, ring" in (without / "log.txt").read_text()
    assert not any(key.startswith("metric/control") for key in read_rows(without / "stats.jsonl")[-1])

    study, file = mssg.load_study(blob_study), tmp_path / "predictor.safetensors"
    sources = open_sources(study)
    fitted = study.fit_statistics([source.columns(study, "train") for source in sources])
    predictor_training.train(fitted, sources, "resnet18", epochs=1, limit=32).save(file)
    run = launch.start(blob_study, tmp_path / "run", options, predictors=[file])
    assert "control of size, read by predictor-resnet18@" in (run / "log.txt").read_text()
    row = read_rows(run / "stats.jsonl")[-1]
    assert {"metric/control/size/r", "metric/control/level/partial_r"} <= row.keys()
    by = row["metric/control/size/instrument"]  # what reads it stands beside every number
    assert by["name"].startswith("predictor-resnet18@") and by["own"]["n"] > 0 and "(guess" in by["words"]
    assert by["doubt"] == "no better than guessing"  # it saw 32 images once
    assert "NO BETTER" in (run / "log.txt").read_text()
    tags = b"".join(file.read_bytes() for file in run.glob("events.*"))
    assert b"metric/control/size/r (no better than guessing)" in tags
    launch.resume(run, total_kimg=0.032)  # the run knows its predictor
    assert "metric/control/size/r" in read_rows(run / "stats.jsonl")[-1]
    launch.resume(without, total_kimg=0.032, predictors=[file])
    assert "metric/control/size/r" in read_rows(without / "stats.jsonl")[-1]
    with pytest.raises(SnapshotError, match="nowhere"):
        launch.start(blob_study, tmp_path / "other", options, predictors=["nowhere"])
    assert not (tmp_path / "other").exists()


def test_a_run_says_what_it_will_take_before_its_first_line(monkeypatch):
    clock = iter([0.0, 100.0, 102.0])
    monkeypatch.setattr(stats, "time", types.SimpleNamespace(perf_counter=lambda: next(clock)))
    config = TrainConfig(batch=10, total_kimg=100.0, tick_kimg=1.0)
    forecast = stats.Forecast(config, "cpu", 0)
    found = [forecast(step) for step in (1, 2, 3, 4)]
    assert "first step took 1 min" in found[0] and "GB" in found[0] and found[1] == found[3] == ""
    assert "about 100 s/kimg: 2 h 46 to the end, a line every 1 min" in found[2] and "GB" in found[2]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Options -> weights after two steps with them, and the networks before; each made once."""
    made, folder = {}, tmp_path_factory.mktemp("options")
    study = write_blob_study(folder, (("[train]", "[augment]\nallow = ['brightness']\n[train]"),))

    def train(options: dict[str, object]) -> tuple[dict[str, torch.Tensor], TrainState]:
        key = json.dumps(options)
        if key not in made:
            run = launch.start(study, folder / str(len(made)), {"total_kimg": 0.016, **options})
            rows = read_rows(run / "stats.jsonl")
            assert rows[-1]["kimg"] == 0.016
            assert all(np.isfinite([v for v in row.values() if isinstance(v, float)]).all() for row in rows)
            made[key] = weights(run), fresh_networks(run)
        return made[key]

    return train


@pytest.mark.parametrize(
    "options, without",
    [
        ({"seed": 1}, {}),
        ({"objective": "r3gan"}, {}),
        ({"covariate_target": "completed"}, {}),
        ({"d_head": "projection"}, {}),
        ({"gamma": 4.0}, {}),
        ({"r1_interval": 4}, {}),
        ({"lambda_max": 0.5}, {}),
        ({"lambda_step_kimg": 0.008}, {}),
        ({"lambda_step_kimg": 0.008, "lambda_increment": 0.1}, {"lambda_step_kimg": 0.008}),
        ({"pl_weight": 2.0}, {}),
        ({"pl_weight": 2.0, "pl_shrink": 1}, {"pl_weight": 2.0}),
        ({"pl_weight": 2.0, "pl_interval": 1}, {"pl_weight": 2.0, "pl_interval": 2}),
        ({"style_mixing": 0.9}, {}),
        ({"g_lr": 1e-3}, {}),
        ({"d_lr": 1e-3}, {}),
        ({"beta1": 0.5}, {}),
        ({"beta2": 0.9}, {}),
        ({"lr_decay": 0.9}, {}),
        ({"ema_kimg": 1.0, "ema_rampup": 0.0}, {"ema_rampup": 0.0}),
        ({"ema_rampup": 0.5}, {}),
        ({"freeze_d": 2}, {}),
        ({"mirror": True}, {}),
        ({"aug": "fixed"}, {}),
        ({"aug": "fixed", "aug_p": 0.9}, {"aug": "fixed"}),
        ({"micro_batch": 4}, {}),
        ({"mbstd_group": 8}, {}),
        ({"mapping_layers": 3}, {}),
        ({"mapping_lr_multiplier": 0.01}, {}),
        ({"conv_clamp": 0.01}, {}),
        ({"d_channel_base": 256, "d_channel_max": 4}, {}),
        ({"cfg": "stylegan3-t"}, {}),
        ({"cfg": "stylegan3-r"}, {"cfg": "stylegan3-t"}),
        ({"cfg": "stylegan3-r", "blur_sigma": 3.0}, {"cfg": "stylegan3-r"}),
    ],
    ids=str,
)
def test_every_option_trains_and_makes_a_difference(trained, options, without):
    after, fresh = trained(options)
    for name, network in (("G", fresh.G), ("D", fresh.D)):
        moved = [k for k, v in network.named_parameters() if not torch.equal(after[f"{name}/{k}"], v)]
        assert len(moved) > 3
    other, _ = trained(without)
    shared = [k for k in after.keys() & other.keys() if after[k].shape == other[k].shape]
    assert len(shared) < len(after) or any(not torch.equal(after[k], other[k]) for k in shared)


def test_validation_takes_whole_minibatch_groups():
    for rows, group, sizes in (
        (60, 8, [48, 8]),
        (12, 8, [8]),
        (100, 4, [48, 48, 4]),
        (5, 8, [5]),
        (130, 64, [64, 64]),
        (50, 5, [45, 5]),
        (0, 4, []),
    ):
        parts = list(in_whole_groups(np.arange(rows), group))
        assert [len(part) for part in parts] == sizes
        assert np.array_equal(np.concatenate([*parts, []]), np.arange(sum(sizes)))


def test_frozen_layers_stay(blob_study, tmp_path):
    launch.start(
        blob_study, tmp_path / "run", {"total_kimg": 0.016, "freeze_d": 2, "snap": 1, "tick_kimg": 0.008}
    )
    trained = mssg.load_snapshot(tmp_path / "run").load("D").state_dict()
    fresh = fresh_networks(tmp_path / "run").D.state_dict()
    assert torch.equal(trained["b32.fromrgb.weight"], fresh["b32.fromrgb.weight"])
    assert not torch.equal(trained["b32.conv1.weight"], fresh["b32.conv1.weight"])


def in_two_processes(*arguments: object) -> None:
    """Train under torchrun, on a port that is free."""
    launcher = ["-m", "torch.distributed.run", "--nproc-per-node", "2", "--standalone"]
    python, *train = command(*arguments)
    subprocess.run([python, *launcher, *train], env=ENVIRONMENT, cwd=ROOT, check=True, timeout=300)


def test_two_processes_stop_early_together(blob_study, tmp_path):
    """Only the main one measures; the other must not wait for it in the next step."""
    patience = ["--patience", "1", "--set", "g_lr=1e-9", "--set", "d_lr=1e-9", "--kimg", "0.32"]
    in_two_processes(blob_study, "--outdir", tmp_path / "run", *patience)
    assert "stopped early" in (tmp_path / "run" / "log.txt").read_text()


def test_two_processes_see_the_same_global_batch(finished, blob_study, tmp_path):
    """One step on two ranks equals one step on one, up to the noise inputs and rounding."""
    options = ["--kimg", "0.008", "--set", "mbstd_group=1", "--set", "gamma=0"]
    alone, both = tmp_path / "alone", tmp_path / "both"
    subprocess.run(command(blob_study, "--outdir", alone, *options), check=True, env=ENVIRONMENT, cwd=ROOT)
    in_two_processes(blob_study, "--outdir", both, *options)
    assert read_header(resolve_snapshot(both)).progress["step"] == 1
    rows = [read_rows(r / "stats.jsonl")[-1] for r in (alone, both)]
    assert rows[1]["loss/D/cov"] == pytest.approx(rows[0]["loss/D/cov"], rel=1e-3)
    assert rows[1]["score/real"] == pytest.approx(rows[0]["score/real"], rel=1e-3)
