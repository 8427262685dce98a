"""Every command: its help, what it does on a small snapshot, and how it refuses what it cannot do."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import click
import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from mssg.rendering.request import RenderRequest
from trainer_cli import main as entry

REPO = Path(__file__).resolve().parents[2]


@pytest.fixture
def run():
    """Run `mssg …` in this process; returns click's result."""

    def invoke(*words):
        return CliRunner().invoke(entry.cli, [str(w) for w in words], prog_name="mssg")

    return invoke


def mssg(*words, **options):
    """Run `python -m trainer_cli …` as a process."""
    command = [sys.executable, "-m", "trainer_cli", *map(str, words)]
    environment = os.environ | {"PYTHONPATH": str(REPO), "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, capture_output=True, text=True, env=environment, check=False, **options)


def refused(result, *said):
    """Exit code 2, a message with these words, no traceback."""
    text = result.stderr
    assert result.exit_code == 2, (result.exit_code, result.output, result.exception)
    assert isinstance(result.exception, SystemExit) and "Traceback" not in text
    for words in said:
        assert words in text, text


def commands():
    """Every command and subcommand with its path of names."""
    found = []

    def walk(command, path):
        found.append((" ".join(path), command))
        if isinstance(command, click.Group):
            context = click.Context(command)
            for name in command.list_commands(context):
                walk(command.get_command(context, name), [*path, name])

    walk(entry.cli, ["mssg"])
    return found


def test_every_command_and_option_is_documented():
    names = [name for name, _ in commands()]
    assert len(names) == len(set(names)) and "mssg figure grid" in names
    for name, command in commands():
        assert command.help and len(command.help.split()) >= 3, f"{name} has no help"
        for parameter in command.params:
            if isinstance(parameter, click.Option):
                assert parameter.help, f"{name} {parameter.opts[0]} has no help"


def test_the_table_of_commands_is_what_there_is(run):
    result = run("--help")
    assert result.exit_code == 0
    for name, (target, text) in entry.COMMANDS.items():
        assert name in result.output and text.endswith(".")
        assert target.startswith("trainer_cli.") and ":" in target


@pytest.mark.slow
@pytest.mark.parametrize("words", [["--help"], ["--version"]])
def test_help_is_instant_and_loads_nothing_heavy(words):
    fastest = min(_timed(words) for _ in range(3))
    assert fastest < 0.3 * _slowness()
    code = (
        "import sys\nfrom trainer_cli.main import main\n"
        f"try: main({words!r})\nexcept SystemExit as end: assert not end.code\n"
        "heavy = {'torch', 'numpy', 'scipy', 'matplotlib', 'PIL'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    assert (
        subprocess.run([sys.executable, "-c", code], cwd=REPO, capture_output=True, check=False).returncode
        == 0
    )


def _timed(words):
    start = time.perf_counter()
    assert mssg(*words).returncode == 0
    return time.perf_counter() - start


def _slowness():
    """How much slower than a quiet machine this one is right now: an empty interpreter takes about 20 ms."""
    start = time.perf_counter()
    subprocess.run([sys.executable, "-c", ""], check=True)
    return max(1.0, (time.perf_counter() - start) / 0.02)


def test_generate_writes_the_renderer_s_pixels(run, tiny_snapshot, tiny_renderer, tmp_path):
    out = tmp_path / "deep" / "image.png"
    result = run(
        "generate",
        tiny_snapshot,
        "--seed",
        5,
        "--fix",
        "thickness=3",
        "--fix",
        "digit=2",
        "--psi",
        0.8,
        "-o",
        out,
    )
    assert result.exit_code == 0, result.stderr
    assert "1 image of 32 x 32 pixels" in result.stdout
    picture = Image.open(out)
    values = tiny_renderer.values({"thickness": 3.0, "digit": 2.0})
    assert np.array_equal(
        np.asarray(picture), tiny_renderer.images(values[None], 5, RenderRequest(psi=0.8))[0, 0]
    )
    assert picture.text["Snapshot"] == tiny_renderer.header.snapshot_id and picture.text["Seed"] == "5"
    assert json.loads(picture.text["Covariates"])["digit"] == "2"
    again = picture.text["Command"].split()
    assert again[:2] == ["mssg", "generate"] and "--psi" in again
    again[-1] = str(tmp_path / "again.png")
    assert run(*again[1:]).exit_code == 0
    assert np.array_equal(np.asarray(Image.open(again[-1])), np.asarray(picture))


@pytest.mark.slow
def test_generate_sweeps_and_seeds(run, tiny_snapshot, tiny_renderer, tmp_path):
    out = tmp_path / "many.npy"
    result = run(
        "generate",
        tiny_snapshot,
        "--seed",
        "3,7-8",
        "--sweep",
        "slant=-10:10:5",
        "--sweep",
        "digit",
        "-o",
        out,
    )
    assert result.exit_code == 0, result.stderr
    images = np.load(out)
    assert images.shape == (3 * 5 * 3, 1, 32, 32) and images.dtype == np.uint8
    rows = list(csv.DictReader((tmp_path / "many.csv").read_text(encoding="utf-8").splitlines()))
    assert [r["seed"] for r in rows[::15]] == ["3", "7", "8"]
    assert [r["digit"] for r in rows[:4]] == ["0", "1", "2", "0"] and rows[3]["slant"] == "-5"
    pick = rows[31]
    values = tiny_renderer.values({n: float(pick[n]) for n in tiny_renderer.study.condition_names})
    assert np.array_equal(images[31], tiny_renderer.images(values[None], int(pick["seed"]))[0])
    sheet = tmp_path / "sheet.png"
    assert (
        run("generate", tiny_snapshot, "--seed", "3,7", "--sweep", "slant=-10:10:5", "-o", sheet).exit_code
        == 0
    )
    pixels = np.asarray(Image.open(sheet))
    assert pixels.shape == (64, 160)
    assert np.array_equal(pixels[:32, 32:64], images[3, 0]) is (
        rows[3]["digit"] == tiny_renderer.study.covariate("digit").format(tiny_renderer.defaults["digit"])
    )


def test_generate_from_a_latent_file_and_with_random_noise(run, tiny_snapshot, tiny_renderer, tmp_path):
    from safetensors.numpy import save_file

    w = (
        np.random.default_rng(0)
        .standard_normal((tiny_renderer.G.num_ws, tiny_renderer.G.w_dim))
        .astype(np.float32)
    )
    save_file({"w": w}, tmp_path / "w.safetensors")
    assert (
        run("generate", tiny_snapshot, "--w", tmp_path / "w.safetensors", "-o", tmp_path / "w.png").exit_code
        == 0
    )
    result = run(
        "generate",
        tiny_snapshot,
        "--w",
        tmp_path / "w.safetensors",
        "--fix",
        "digit=1",
        "-o",
        tmp_path / "w.png",
    )
    refused(result, "w.safetensors", "holds no inverted image")
    words = ["generate", tiny_snapshot, "--noise", "random", "--noise-seed", 3, "-o"]
    assert run(*words, tmp_path / "a.npy").exit_code == run(*words, tmp_path / "b.npy").exit_code == 0
    assert np.array_equal(np.load(tmp_path / "a.npy"), np.load(tmp_path / "b.npy"))


@pytest.mark.slow
def test_values_beyond_the_training_data_are_drawn_with_a_note(run, tiny_snapshot, tmp_path):
    result = run("generate", tiny_snapshot, "--fix", "thickness=30", "-o", tmp_path / "a.png")
    assert result.exit_code == 0 and "thickness 30.0 px lies outside the training data" in result.stderr
    result = run(
        "figure",
        "grid",
        tiny_snapshot,
        "--rows",
        "thickness=2:30:2",
        "--cols",
        "digit",
        "-o",
        tmp_path / "g.png",
    )
    assert result.exit_code == 0 and result.stderr.count("outside the training data") == 1


@pytest.mark.parametrize(
    "words, said",
    [
        (["--fix", "age=3"], ["age", "thickness (px)", "digit (0|1|2)"]),
        (["--fix", "thicknes=3"], ["Did you mean 'thickness'"]),
        (["--fix", "thickness"], ["name=value"]),
        (["--fix", "thickness=wide"], ["thickness", "'wide'", "px"]),
        (["--fix", "digit=7"], ["digit", "0 | 1 | 2"]),
        (["--fix", "digit=1", "--fix", "digit=2"], ["digit", "twice"]),
        (["--fix", "digit=1", "--sweep", "digit"], ["digit", "twice"]),
        (["--sweep", "slant=1:2:0"], ["lo:hi:n"]),
        (["--seed", "-3"], ["--seed"]),
        (["--seed", "5-3"], ["--seed"]),
        (["--psi", "nan"], ["psi"]),
        (["--device", "abacus"], ["device", "cpu"]),
        (["--device", "cuda:99"], ["device"]),
    ],
)
def test_generate_refuses(run, tiny_snapshot, tmp_path, words, said):
    refused(run("generate", tiny_snapshot, *words, "-o", tmp_path / "x.png"), *said)
    assert not (tmp_path / "x.png").exists()


def test_outputs_that_cannot_be_written_are_refused(run, tiny_snapshot, tmp_path):
    (tmp_path / "file").touch()
    refused(run("generate", tiny_snapshot, "-o", tmp_path / "x.gif"), "x.gif", ".png | .npy")
    refused(run("generate", tiny_snapshot, "-o", tmp_path / "file" / "x.png"), "file")
    (tmp_path / "folder.png").mkdir()
    refused(run("generate", tiny_snapshot, "-o", tmp_path / "folder.png"), "folder")
    grid = ["figure", "grid", tiny_snapshot, "--rows", "thickness", "--cols", "slant", "-o"]
    refused(run(*grid, tmp_path / "x.svg"), "x.svg", ".png | .pdf")
    refused(run(*grid, tmp_path / "file" / "x.png"), "file")


def test_a_value_outside_a_log_transform_is_refused(run, make_snapshot, tmp_path):
    logged = ('unit = "levels"', 'unit = "levels"\ntransform = "log"')
    snapshot = make_snapshot(replace=(logged,), name="logged")
    refused(
        run("generate", snapshot, "--fix", "intensity=-5", "-o", tmp_path / "x.png"),
        "intensity",
        "log transform",
    )


@pytest.mark.parametrize(
    "command",
    [
        ["inspect"],
        ["generate", "-o", "x.png"],
        ["figure", "grid", "--rows", "a", "--cols", "b", "-o", "x.png"],
    ],
)
def test_bad_snapshots_are_refused_by_name(run, tiny_snapshot, tmp_path, monkeypatch, command):
    monkeypatch.chdir(tmp_path)
    data = tiny_snapshot.read_bytes()
    cut, other, empty = tmp_path / "cut.safetensors", tmp_path / "other.safetensors", tmp_path / "run"
    cut.write_bytes(data[:-100])
    other.write_bytes(b"not a snapshot at all, but long enough to have a header")
    empty.mkdir()
    for path, said in (
        (tmp_path / "none.safetensors", "no such snapshot"),
        (cut, "truncated"),
        (other, "safetensors"),
        (empty, "no snapshot yet"),
    ):
        refused(run(*command, path), path.name, said)


@pytest.mark.slow
def test_figure_grid(run, tiny_snapshot, make_snapshot, tmp_path):
    out = tmp_path / "grid.png"
    words = [
        "figure",
        "grid",
        tiny_snapshot,
        "--rows",
        "thickness=2:4:2",
        "--cols",
        "slant=1:2:3",
        "--fix",
        "digit=1",
        "--seed",
        4,
    ]
    result = run(*words, "-o", out)
    assert result.exit_code == 0 and "2 x 3 images, thickness by slant" in result.stdout, result.stderr
    text = Image.open(out).text
    assert (
        text["Seed"] == "4" and "--rows thickness=2:4:2" in text["Command"] and "digit=1" in text["Command"]
    )
    assert run(*words, "-o", tmp_path / "grid.pdf").exit_code == 0
    assert (tmp_path / "grid.pdf").read_bytes().startswith(b"%PDF")
    refused(run(*words, "--per-source", "-o", out), "per-source", "condition_on_source")
    refused(run(*words, "--fix", "slant=3", "-o", out), "slant", "axis")
    told = ('preset = "cpu-demo"', 'preset = "cpu-demo"\ncondition_on_source = true')
    snapshot = make_snapshot(replace=(told,), name="told-by-command")
    words[2] = snapshot
    assert run(*words, "--per-source", "-o", out).exit_code == 0
    assert run(*words, "--fix", "source=B", "-o", out).exit_code == 0
    refused(run(*words, "--fix", "source=C", "-o", out), "source", "A | B")


def test_inspect(run, tiny_snapshot, tiny_renderer):
    result = run("inspect", tiny_snapshot)
    assert result.exit_code == 0, result.stderr
    for words in (
        "strokes",
        tiny_renderer.header.snapshot_id,
        "12 kimg",
        "stylegan2",
        "intensity and slant",
        "linear given thickness",
        "G_ema",
    ):
        assert words in result.stdout
    document = json.loads(run("inspect", tiny_snapshot, "--json").stdout)
    assert document["id"] == tiny_renderer.header.snapshot_id and document["progress"]["kimg"] == 12
    total = sum(v.numel() for v in tiny_renderer.G.state_dict().values())
    assert document["networks"]["G_ema"] == total
    card = run("inspect", tiny_snapshot, "--card").stdout
    for heading in (
        "# strokes",
        "## Training data",
        "## Intended use",
        "## Limits",
        "| A |",
        "Not for diagnosis",
    ):
        assert heading in card
    refused(run("inspect", tiny_snapshot, "--card", "--json"), "--json")


def test_inspect_needs_no_torch(tiny_snapshot):
    code = (
        "import sys\nfrom trainer_cli.main import main\n"
        f"try: main(['inspect', {str(tiny_snapshot)!r}])\nexcept SystemExit as end: assert not end.code\n"
        "assert 'torch' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=REPO, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_doctor_says_what_works_and_what_to_do(run, monkeypatch):
    from trainer_cli import doctor

    monkeypatch.setattr(doctor, "GL_PROBE", "raise SystemExit('no driver')")
    monkeypatch.setattr(doctor.sys, "platform", "linux")
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    monkeypatch.setitem(doctor.PACKAGES, "no-such-package", ("no_such_package", "nothing"))
    result = run("doctor")
    assert result.exit_code == 0, result.exception
    for words in (
        "python",
        "torch",
        "ops reference  works",
        "ops torch",
        "(in use for training",
        "cores",
        "GiB",
        "pip install no-such-package",
        "no driver",
        "xvfb-run",
    ):
        assert words in result.stdout, result.stdout
    assert "Not usable: no-such-package, opengl" in result.stdout


def test_explore_starts_the_explorer_as_another_process(run, tiny_snapshot, tmp_path, monkeypatch):
    called, before = [], signal.getsignal(signal.SIGTERM)

    class Window:
        """A window that was closed at once."""

        def __init__(self, words):
            called.append(words)

        def wait(self):
            return 5

    monkeypatch.setattr("trainer_cli.explore.subprocess.Popen", Window)
    assert run("explore", tiny_snapshot, "--session", "s.json", "--size", "1280x800").exit_code == 5
    assert "explorer_app.__main__" in called[0][3]
    assert called[0][4:] == [str(tiny_snapshot), "--session", "s.json", "--size", "1280x800"]
    assert run("explore").exit_code == 5 and len(called[1]) == 4
    refused(run("explore", tmp_path / "none"), "none", "no such snapshot")
    assert len(called) == 2
    signal.signal(signal.SIGTERM, before)


def test_mistakes_end_with_exit_code_2_and_one_message(tmp_path):
    done = mssg("inspect", tmp_path / "none.safetensors")
    assert done.returncode == 2 and done.stderr.startswith("Error: ") and len(done.stderr.splitlines()) == 1
    done = mssg("generat")
    assert done.returncode == 2 and "Did you mean 'generate'" in done.stderr
    done = mssg("inspect")
    assert done.returncode == 2 and "SNAPSHOT" in done.stderr and "Traceback" not in done.stderr


def test_interrupts_and_closed_pipes_are_quiet(tiny_snapshot, monkeypatch, capsys):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("trainer_cli.inspect.overview", interrupted)
    with pytest.raises(SystemExit) as end:
        entry.main(["inspect", str(tiny_snapshot)])
    assert end.value.code == 130 and "Traceback" not in capsys.readouterr().err
    command = f"{sys.executable} -m trainer_cli inspect {tiny_snapshot} --json | head -c 10"
    done = subprocess.run(
        ["bash", "-c", f"set -o pipefail; {command}"], cwd=REPO, capture_output=True, text=True, check=False
    )
    assert done.stderr == "" and len(done.stdout) == 10


def test_the_other_entry_points(monkeypatch):
    seen = []
    monkeypatch.setattr(entry, "main", lambda args=None: seen.append(args))
    monkeypatch.setattr(sys, "argv", ["mssg-train", "study.toml", "--dry-run"])
    entry.train_main()
    entry.explore_main()
    assert seen == [["train", "study.toml", "--dry-run"], ["explore", "study.toml", "--dry-run"]]


def test_system_errors_name_the_file(run, tiny_snapshot, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device", "/data/x.png")

    monkeypatch.setattr("trainer_cli.inspect.overview", full)
    refused(run("inspect", tiny_snapshot), "/data/x.png: No space left on device")


@pytest.mark.slow
def test_demo_goes_from_nothing_to_a_table_and_on_after_an_interruption(run, tmp_path, monkeypatch):
    from trainer_cli import demo

    class Impatient(demo.Progress):
        def __call__(self, row):
            super().__call__(row)
            if "event" in row and row["event"].startswith("started"):
                # once: a second one would not wait for the state to be saved
                os.kill(os.getpid(), signal.SIGINT)

    words = ["demo", "--out", tmp_path / "out", "--digits", 100, "--kimg", 0.16, "--images", 50]
    with monkeypatch.context() as patch:
        patch.setattr(demo, "Progress", Impatient)
        result = run(*words)
    assert result.exit_code == 130 and "Stopped and saved" in result.stdout, result.output
    assert not (tmp_path / "out" / "figure.png").exists()
    refused(run(*words[:-4], "--kimg", 7), "--kimg", "0.16")

    result = run(*words)
    assert result.exit_code == 0, result.output
    for said in ("Already prepared", "Going on with", "partial r", "Spread within a class", "mssg explore"):
        assert said in result.stdout, result.stdout
    table = json.loads((tmp_path / "out" / "control.json").read_text(encoding="utf-8"))
    assert {r["design"] for r in table["rows"]} == {"a", "b", "shuffled"} and table["kimg"] == 0.16
    assert [r["covariate"] for r in table["rows"] if r["design"] == "b"] == ["intensity", "slant"]
    assert table["spread"][0]["ratio"] > 0
    assert Image.open(tmp_path / "out" / "figure.png").text["Snapshot"] == table["snapshot"]
    assert "Already trained" in run(*words).stdout
