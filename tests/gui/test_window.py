"""The explorer's window, driven by the Dear ImGui Test Engine: every numbered capability of the issue."""

from __future__ import annotations

import ast
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytestmark = pytest.mark.gui

_SOURCES = [ast.parse(file.read_text()) for file in sorted(Path(__file__).parent.glob("*scenarios.py"))]
_FUNCTIONS = [n.name for source in _SOURCES for n in source.body if isinstance(n, ast.FunctionDef)]
_NAMES = [name for name in _FUNCTIONS if not name.startswith("_")]


def names(group: str) -> list[str]:
    return [n for n in _NAMES if n.startswith(f"{group}_")]


def check(document: dict, name: str) -> None:
    outcome = document["results"].get(name)
    assert outcome is not None, f"not reached: {document['problem']}\n{document['output']}"
    assert not outcome, f"{outcome}\n{document['output']}"


@pytest.mark.parametrize("name", names("main"))
def test_window_on_a_snapshot(drive, tiny_snapshot, name):
    check(drive("main", str(tiny_snapshot)), name)


@pytest.fixture(scope="session")
def with_geometry(make_snapshot) -> str:
    """A snapshot of a study with geometry."""
    geometry = (
        '[geometry]\nplane = "coronal"\npixel_mm = 2.0\naffine = "common"\nposition_mm = 4.0\n[measure]'
    )
    changes = (("[measure]", geometry), ('unit = "px"', 'unit = "px"\ntransform = "log"'))
    return str(make_snapshot(replace=changes, name="geometry"))


@pytest.mark.parametrize("name", names("medical"))
def test_window_on_a_study_with_geometry(drive, with_geometry, name):
    check(drive("medical", with_geometry), name)


@pytest.mark.parametrize("name", names("tools"))
def test_tools_of_the_window(drive, with_geometry, name):
    if "xclip" in name and shutil.which("xclip") is None:
        pytest.skip("xclip is not installed: apt install xclip")
    check(drive("tools", with_geometry), name)


@pytest.mark.parametrize("name", names("stylegan3"))
def test_window_on_a_stylegan3_model(drive, make_snapshot, name):
    check(drive("stylegan3", str(make_snapshot(cfg="stylegan3-r", name="sg3"))), name)


@pytest.mark.parametrize("name", names("official"))
def test_window_on_an_imported_model(drive, tmp_path_factory, name):
    from click.testing import CliRunner

    from trainer_cli.import_ import import_

    pickle = Path(__file__).parents[1] / "golden/official_stylegan3t_32.pkl"
    out = tmp_path_factory.mktemp("imported") / "official.safetensors"
    done = CliRunner().invoke(import_, [str(pickle), "-o", str(out)])
    assert done.exit_code == 0, done.output
    check(drive("official", str(out)), name)


@pytest.mark.parametrize("name", names("colour"))
def test_window_on_a_study_in_colour(drive, tiny_snapshot, tmp_path_factory, name):
    from dataclasses import replace

    import torch

    from mssg.checkpoint.header import read_header
    from mssg.checkpoint.snapshot import save_snapshot
    from mssg.networks.config import DiscriminatorConfig, GeneratorConfig
    from mssg.networks.generator import build_generator
    from mssg.rendering.stored_picture import stored_picture

    header = read_header(tiny_snapshot)
    study = replace(header.study, channels=3)
    G = replace(GeneratorConfig.from_json(dict(header.generator)), img_channels=3)
    D = replace(DiscriminatorConfig.from_json(dict(header.discriminator)), img_channels=3)
    torch.manual_seed(0)
    networks = {"G_ema": build_generator(G).eval()}
    out = save_snapshot(
        tmp_path_factory.mktemp("colour") / "colour.safetensors",
        study,
        header.models,
        networks,
        G,
        D,
        header.progress,
        header.summary,
        header.provenance,
        preview=stored_picture(networks["G_ema"], study, header.summary),
    )
    check(drive("colour", str(out)), name)


@pytest.mark.parametrize("name", names("heads"))
def test_window_on_whole_heads(drive, make_heads, name):
    check(drive("heads", str(make_heads())), name)


@pytest.mark.parametrize("name", names("run"))
def test_window_on_a_run(drive, tiny_snapshot, tmp_path_factory, name):
    folder = tmp_path_factory.mktemp("runs") / "run1"
    (folder / "snapshots").mkdir(parents=True)
    shutil.copy(tiny_snapshot, folder / "snapshots" / "000004.safetensors")
    shutil.copy(tiny_snapshot, folder / "snapshots" / "000008.safetensors")
    (folder / "stats.jsonl").write_text(
        '{"kimg": 4, "loss/G/adv": 1.5, "eta_sec": 90}\n{"kimg": 8, "loss/G/adv": 1.1, "eta_sec": 60}\n'
    )
    (folder / "log.txt").write_text("kimg 8\n")
    check(drive("run", str(folder)), name)


@pytest.mark.parametrize("name", names("empty"))
def test_window_without_a_snapshot(drive, name):
    check(drive("empty", ""), name)


def test_monkey(environment, tiny_snapshot, tmp_path):
    """300 of the monkey's random actions, the render process killed in the middle; `make monkey` does
    10,000."""
    out = tmp_path / "monkey.json"
    words = [sys.executable, str(Path(__file__).parent / "monkey.py"), str(tiny_snapshot), "--actions", "300"]
    done = subprocess.run(
        [*words, "--out", str(out)], env=environment, capture_output=True, text=True, timeout=900
    )
    told = (done.stdout + done.stderr)[-4000:]
    report = json.loads(out.read_text()) if out.exists() else {}
    assert done.returncode == 0 and report["actions"] == 300 and not report["wrong"], told
    assert report["render_processes"] == 2 and "Traceback" not in told, told


def test_windows_process_never_imports_torch(drive, tiny_snapshot):
    assert drive("main", str(tiny_snapshot))["torch"] is False


@pytest.mark.parametrize(("display", "told"), [(None, "no display"), (":4711", "no window can be opened")])
def test_without_a_display_there_is_a_message_and_exit_2(display, told):
    bare = {k: v for k, v in os.environ.items() if k not in ("DISPLAY", "WAYLAND_DISPLAY")}
    done = subprocess.run(
        [sys.executable, "-m", "explorer_app"],
        env=bare | ({"DISPLAY": display} if display else {}),
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[2],
    )
    assert done.returncode == 2 and told in done.stderr and "Traceback" not in done.stderr, done.stderr


def test_sigterm_closes_the_window(environment, tiny_snapshot, tmp_path):
    """Also that of `mssg explore`, which starts it."""
    if shutil.which("xdotool") is None:
        pytest.skip("xdotool is not installed: apt install xdotool")
    words = [sys.executable, "-m", "trainer_cli", "explore", str(tiny_snapshot), "--scale", "0.5"]
    root = Path(__file__).parents[2]
    window = subprocess.Popen(words, env=environment, cwd=root, stderr=subprocess.PIPE, text=True)
    find = ["xdotool", "search", "--sync", "--name", "MSSG"]
    subprocess.run(find, env=environment, capture_output=True, timeout=120, check=True)
    time.sleep(3)  # the first frames
    window.terminate()
    _, told = window.communicate(timeout=60)
    assert window.returncode == 0 and "Traceback" not in told, told


@pytest.mark.parametrize("scale", ["0", "nan", "1000"])
def test_a_scale_that_cannot_be_read_is_refused(environment, scale):
    words = [sys.executable, "-m", "explorer_app", "--scale", scale]
    root = Path(__file__).parents[2]
    done = subprocess.run(words, env=environment, capture_output=True, text=True, cwd=root, timeout=60)
    assert done.returncode == 2 and "--scale" in done.stderr and "Traceback" not in done.stderr


def test_session_is_exported_without_a_display(tmp_path, tiny_snapshot):
    from PIL import Image

    from explorer_app import session
    from explorer_app.distribution import TrainingDistribution
    from explorer_app.state import AppState, opened
    from mssg.checkpoint.header import read_header

    distribution = TrainingDistribution(read_header(tiny_snapshot))
    state = opened(AppState(), str(tiny_snapshot), distribution.defaults(), distribution.axes())
    session.save(tmp_path / "s.json", session.Session(state))
    bare = {k: v for k, v in os.environ.items() if k not in ("DISPLAY", "WAYLAND_DISPLAY")}
    words = [sys.executable, "-m", "explorer_app", "--export", str(tmp_path / "s.json"), "-o"]

    def run(output: str) -> subprocess.CompletedProcess:
        return subprocess.run(
            [*words, output], env=bare, capture_output=True, text=True, cwd=Path(__file__).parents[2]
        )

    done = run(str(tmp_path / "out.png"))
    assert done.returncode == 0, done.stderr
    with Image.open(tmp_path / "out.png") as image:
        assert image.size == (32, 32) and "mssg" in image.text
    failed = run(str(tmp_path / "out.xyz"))
    assert (
        failed.returncode == 2 and "unknown file type" in failed.stderr and "Traceback" not in failed.stderr
    )
