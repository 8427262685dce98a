"""Commands in the surroundings that users have: hostile folders, odd locales, leftovers of schedulers, full
disks."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from explorer_app import config
from mssg.errors import UsageError
from mssg.files import cache_folder, config_folder
from mssg.metrics.results import Evaluation
from mssg.processes import is_one_of_several, python_command, set_up, torchrun_place
from tests.data.stand_ins import bids

REPO = Path(__file__).resolve().parents[2]
ENTRY = (
    "import sys\nfrom {module} import {function}\nif __name__ == '__main__':\n    sys.exit({function}())\n"
)


@pytest.fixture(scope="session")
def bin_folder(tmp_path_factory) -> Path:
    """Scripts like those that pip makes of the entry points."""
    folder = tmp_path_factory.mktemp("bin")
    for name, function in (("mssg", "main"), ("mssg-train", "train_main"), ("mssg-explore", "explore_main")):
        text = ENTRY.format(module="trainer_cli.main", function=function)
        (folder / name).write_text(text, encoding="utf-8")
    return folder


@pytest.fixture
def hostile(tmp_path) -> Path:
    """A folder with a module for every name of the standard library, and for ours, which says that it ran."""
    folder = tmp_path / "hostile"
    folder.mkdir()
    for name in (*sys.stdlib_module_names, "mssg", "trainer_cli", "explorer_app", "numpy", "torch", "OpenGL"):
        text = f"open({str(folder / 'ran')!r}, 'a').write({name!r} + ' ')\n"
        (folder / f"{name}.py").write_text(text, encoding="utf-8")
    return folder


def call(words, cwd, **environment):
    """Run a command in a folder; returns what it gave."""
    ours = ("PYTHONSAFEPATH", "OMP_WAIT_POLICY", "KMP_BLOCKTIME")  # a command run here sets them
    given = {name: value for name, value in os.environ.items() if name not in ours}
    given |= {"PYTHONPATH": str(REPO), "OMP_NUM_THREADS": "1"} | environment
    words = [str(word) for word in words]
    return subprocess.run(
        words, cwd=cwd, env=given, capture_output=True, text=True, errors="replace", timeout=240
    )


def ran(hostile: Path) -> str:
    """Names of the hostile modules that were executed."""
    return (hostile / "ran").read_text() if (hostile / "ran").exists() else ""


def test_the_hostile_folder_is_one(hostile):
    call([sys.executable, "-c", "import signal, mssg"], hostile)
    assert "signal" in ran(hostile) and "mssg" in ran(hostile)


@pytest.mark.slow
@pytest.mark.parametrize(
    "words",
    [
        "mssg explore --export none.json -o x.png",
        "mssg-explore --size wrong",
        "mssg doctor",
        "mssg prepare mri ../bids --resolution 32 --workers 2 --out ../out",
        "mssg prepare digits --limit 200 --workers 2 --out ../out",
    ],
)
def test_no_command_runs_what_lies_in_the_current_folder(words, hostile, bin_folder):
    if "bids" in words:
        bids(hostile.parent / "bids")
    script, *rest = words.split()
    done = call([sys.executable, bin_folder / script, *rest], hostile)
    assert not ran(hostile), done.stderr
    assert "Traceback" not in done.stderr and (done.returncode == 0 or "explore" in words), done.stderr


RENDER = """
import time
from mssg.processes import set_up

if __name__ == "__main__":
    set_up()
    from explorer_app.render_client import RenderClient
    from mssg.rendering.request import RenderRequest

    client = RenderClient(threads=1)
    end = time.monotonic() + 120
    while not (client.failed or client.counters.restarts or time.monotonic() > end):
        client.submit(RenderRequest("none.safetensors"))
        client.poll()
        time.sleep(0.05)
    print(list(client.failed), client.counters.restarts)
    client.close()
"""


@pytest.mark.slow
def test_the_explorer_s_render_process_searches_no_current_folder(hostile):
    script = hostile.parent / "script.py"
    script.write_text(RENDER, encoding="utf-8")
    done = call([sys.executable, script], hostile)
    assert done.stdout == "['none.safetensors'] 0\n", done.stderr
    assert not ran(hostile)


def test_a_training_that_the_explorer_starts_searches_no_current_folder(hostile):
    from explorer_app.launch import command

    words = command("study.toml", "run")
    done = call([*words[: words.index("study.toml")], "--help"], hostile)
    assert "STUDY" in done.stdout and not ran(hostile), done.stderr


LIBRARY = """
import os
from mssg.processes import worker_pool
if __name__ == "__main__":
    with worker_pool(1) as pool:
        assert pool.submit(os.getpid).result() != os.getpid()
    assert not {"PYTHONSAFEPATH", "OMP_WAIT_POLICY", "KMP_BLOCKTIME"} & set(os.environ)
"""


@pytest.mark.slow
def test_a_library_s_worker_processes_are_safe_and_its_caller_is_left_alone(hostile):
    script = hostile.parent / "script.py"
    script.write_text(LIBRARY, encoding="utf-8")
    done = call([sys.executable, script], hostile)
    assert done.returncode == 0 and not ran(hostile), done.stderr


def test_every_child_of_ours_is_started_on_a_safe_path():
    for package in ("mssg", "trainer_cli", "explorer_app"):
        for path in (REPO / package).rglob("*.py"):
            text = path.read_text(encoding="utf-8")
            assert path.name == "processes.py" or "ProcessPoolExecutor(" not in text, path
            assert all(rest.startswith(', "-P"') for rest in text.split("[sys.executable")[1:]), path


def test_children_are_the_files_of_their_parent(tmp_path):
    words = python_command("trainer_cli.main:main", "--version")
    assert str(REPO) in words[3]
    done = subprocess.run(
        words, cwd=tmp_path, env={"PATH": os.environ["PATH"]}, capture_output=True, text=True
    )
    assert done.returncode == 0 and "mssg" in done.stdout


@pytest.mark.slow
@pytest.mark.parametrize(
    ("encoding", "words"),
    [
        ("latin-1", "--help"),
        ("latin-1", "train --help"),
        ("latin-1", "doctor"),
        ("latin-1", "inspect"),
        ("ascii", "inspect"),
        ("cp1252", "inspect --json"),
    ],
)
def test_an_encoding_without_our_characters_ends_no_command(
    encoding, words, bin_folder, tmp_path, tiny_snapshot
):
    words = [*words.split(), tiny_snapshot] if "inspect" in words else words.split()
    done = call([sys.executable, bin_folder / "mssg", *words], tmp_path, PYTHONIOENCODING=encoding)
    assert done.returncode == 0 and not done.stderr, done.stderr


def test_waiting_threads_sleep_unless_the_user_says_otherwise(monkeypatch):
    for name in ("OMP_WAIT_POLICY", "KMP_BLOCKTIME", "GOMP_SPINCOUNT", "KMP_LIBRARY", "PYTHONSAFEPATH"):
        monkeypatch.setenv(name, "")  # put back at the end
        monkeypatch.delenv(name)
    set_up()
    assert (os.environ["OMP_WAIT_POLICY"], os.environ["KMP_BLOCKTIME"]) == ("PASSIVE", "0")
    monkeypatch.delenv("KMP_BLOCKTIME")
    monkeypatch.setenv("OMP_WAIT_POLICY", "ACTIVE")
    set_up()
    assert os.environ["OMP_WAIT_POLICY"] == "ACTIVE" and "KMP_BLOCKTIME" not in os.environ


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="torch's OpenMP is GNU's on Linux")
def test_torch_s_threads_sleep_in_our_processes_and_not_in_others(tmp_path):
    names = ("OMP_WAIT_POLICY", "KMP_BLOCKTIME", "GOMP_SPINCOUNT", "KMP_LIBRARY")
    unset = f"import os\nfor name in {names}: del os.environ[name]\n"
    told = {"OMP_DISPLAY_ENV": "verbose", **dict.fromkeys(names, "")}

    def spins(code):
        said = call([sys.executable, "-c", unset + code + "import torch"], tmp_path, **told).stderr
        return next(line.split("'")[1] for line in said.splitlines() if "GOMP_SPINCOUNT" in line)

    assert spins("from mssg.processes import set_up; set_up()\n") == "0"
    assert spins("import mssg; mssg.load_snapshot\n") != "0"


TORCHRUN = {
    "RANK": "1",
    "WORLD_SIZE": "2",
    "LOCAL_RANK": "1",
    "MASTER_ADDR": "localhost",
    "MASTER_PORT": "29500",
}


def test_leftovers_of_schedulers_are_not_torchrun(monkeypatch, bin_folder, tmp_path):
    def place(**variables):
        for name in TORCHRUN:
            monkeypatch.delenv(name, raising=False)
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        return torchrun_place()

    assert place(**TORCHRUN) == (1, 2, 1) and is_one_of_several()
    alone = ({}, {"WORLD_SIZE": ""}, {"RANK": "3"}, {"WORLD_SIZE": "1", "RANK": "x"}, {"LOCAL_RANK": "2"})
    assert {place(**variables) for variables in alone} == {(0, 1, 0)} and not is_one_of_several()
    for broken, said in (
        ({"WORLD_SIZE": "2"}, "no RANK"),
        (TORCHRUN | {"MASTER_ADDR": ""}, "no MASTER_ADDR"),
        (TORCHRUN | {"RANK": "2"}, "WORLD_SIZE=2"),
        (TORCHRUN | {"WORLD_SIZE": "two"}, "WORLD_SIZE=two"),
    ):
        with pytest.raises(UsageError, match=said):
            place(**broken)
        assert not is_one_of_several()
        assert call([sys.executable, bin_folder / "mssg", "--version"], tmp_path, **broken).returncode == 0


@pytest.fixture
def small_disk(tmp_path):
    """A file system of one megabyte."""
    place = tmp_path / "disk"
    place.mkdir()
    words = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", place]
    if not shutil.which("mount") or subprocess.run(words, capture_output=True).returncode:
        pytest.skip("this user may not mount a file system")
    yield place
    subprocess.run(["umount", "-l", place], check=True)


def test_a_disk_that_is_too_small_ends_a_preparation_with_a_message(small_disk, bin_folder, tmp_path):
    """And not with the signal of a memory map that cannot be written."""
    bids(tmp_path / "bids")
    script = [
        sys.executable,
        bin_folder / "mssg",
        "prepare",
        "mri",
        tmp_path / "bids",
        "--out",
        small_disk / "o",
    ]
    done = call([*script, "--resolution", "512", "--workers", "2"], tmp_path)
    assert done.returncode == 2, (done.returncode, done.stderr)
    assert "No space left on device" in done.stderr and "Traceback" not in done.stderr
    assert not list(small_disk.rglob("images.npy"))


def test_a_command_whose_answer_cannot_be_written_fails(bin_folder, tmp_path, tiny_snapshot):
    words = [sys.executable, bin_folder / "mssg", "inspect", tiny_snapshot]
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [str(w) for w in words],
            env=os.environ | {"PYTHONPATH": str(REPO)},
            stdout=full,
            stderr=subprocess.PIPE,
        )
    assert done.returncode == 2 and b"No space left" in done.stderr and b"Traceback" not in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("home", ["full", "missing", "a file"])
def test_an_evaluation_needs_no_home(home, bin_folder, tmp_path, tiny_snapshot, tiny_study):
    """`docker -u`, quotas and read-only homes: caches are a help, not a need."""
    place = {"full": "/dev/full", "missing": "/proc/none", "a file": __file__}[home]
    words = f"evaluate {tiny_snapshot} --study {tiny_study} --metrics overall --images 12 -o e.json".split()
    nowhere = {"HOME": place, "XDG_CACHE_HOME": "", "MPLCONFIGDIR": str(tmp_path)}
    done = call([sys.executable, bin_folder / "mssg", *words], tmp_path, **nowhere)
    assert done.returncode == 0 and Evaluation.load(tmp_path / "e.json").results, done.stderr
    assert done.stderr.count("nothing is kept there") == 1 and "Traceback" not in done.stderr


@pytest.mark.slow
def test_nothing_measured_is_a_failure(bin_folder, tmp_path, tiny_snapshot, tiny_study):
    words = f"evaluate {tiny_snapshot} --study {tiny_study} --metrics eq --images 12 -o e.json".split()
    done = call([sys.executable, bin_folder / "mssg", *words], tmp_path)
    assert done.returncode == 2 and "nothing could be measured" in done.stderr, done.stderr
    assert "StyleGAN3" in done.stderr and Evaluation.load(tmp_path / "e.json").notes


def test_a_user_without_a_home_has_no_folders(monkeypatch):
    for name in ("XDG_CACHE_HOME", "XDG_CONFIG_HOME", "MSSG_CONFIG_DIR", "LOCALAPPDATA", "APPDATA"):
        monkeypatch.delenv(name, raising=False)

    monkeypatch.setattr(os.path, "expanduser", lambda path: path)  # what it does where there is no home
    assert cache_folder("readings") is None and config_folder() is None
    assert config.recent() == [] and config.remember("x") is None
    monkeypatch.setenv("MSSG_CONFIG_DIR", "/proc/none")
    assert config.writable_folder() is None and config.remember("x") is None
