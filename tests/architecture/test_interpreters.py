"""Every module under every interpreter of a supported version that this machine has."""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
VERSIONS = ("3.11", "3.12", "3.13", "3.14")


def interpreters() -> dict[str, str]:
    """Version -> an interpreter: this one, those on the path, those that pyenv keeps."""
    found = {f"{sys.version_info[0]}.{sys.version_info[1]}": sys.executable}
    kept = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    for version in VERSIONS:
        candidates = [
            shutil.which(f"python{version}"),
            *map(str, sorted(kept.glob(f"{version}.*/bin/python{version}"))),
        ]
        for candidate in filter(None, candidates):
            done = subprocess.run([candidate, "-c", "pass"], capture_output=True)
            if done.returncode == 0:
                found.setdefault(version, candidate)
    return found


@pytest.mark.slow
@pytest.mark.parametrize(("version", "interpreter"), interpreters().items(), ids=str)
def test_every_module_imports(version, interpreter):
    script = ROOT / "tests" / "architecture" / "stubs.py"
    done = subprocess.run(
        [interpreter, "-S", "-W", "error::SyntaxWarning", str(script)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert int(done.stdout.split()[0]) > 100


WASM = Path(os.environ.get("MSSG_PYODIDE", ROOT / ".venv" / "python314" / "node_modules" / "pyodide"))
"""CPython 3.14 for WebAssembly, where no other is at hand; `make python314` installs it."""


@pytest.mark.skipif(
    shutil.which("node") is None or not WASM.is_dir(), reason="no CPython for WebAssembly: make python314"
)
def test_every_module_imports_in_webassembly():
    script = Path(__file__).with_name("wasm.mjs")
    words = ["node", script, WASM, ROOT, "tests/architecture/stubs.py"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    assert int(done.stdout.split()[0]) > 100 and done.stdout.split()[-1] in VERSIONS


def test_supported_versions_are_what_we_say():
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    assert f'requires-python = ">={VERSIONS[0]},<3.{int(VERSIONS[-1][2:]) + 1}"' in text


POSIX_ONLY = {"fcntl", "grp", "pwd", "resource", "termios"}
POSIX_CALLS = {"fork", "forkpty", "killpg", "nice", "sched_getaffinity", "setsid", "uname"}


@pytest.mark.slow
def test_no_module_assumes_fork_or_a_temporary_folder():
    """Processes are spawned, and what Windows lacks is asked for inside a branch or a `try`, never at
    import."""
    for package in ("mssg", "trainer_cli", "explorer_app"):
        for path in (ROOT / package).rglob("*.py"):
            text = path.read_text(encoding="utf-8")
            for word in ("os.fork", '"fork"', "'fork'", '"forkserver"', '"/tmp', "'/tmp", "/dev/shm"):
                if word == "/dev/shm" and path.name == "ring.py":  # looked into where it is there
                    continue
                assert word not in text, f"{path}: {word}"
            if re.search(r"ProcessPoolExecutor\(|(mp|multiprocessing|context)\.(Process|Pool)\(", text):
                assert 'get_context("spawn")' in text, f"{path}: which way are processes started?"
            assert not unguarded(ast.parse(text)), f"{path}: {unguarded(ast.parse(text))}"


def unguarded(tree: ast.AST, guarded: bool = False) -> list[str]:
    """Uses of what only POSIX has, outside any `if`, `try` or conditional expression."""
    found = []
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Import) and not guarded:
            found += [a.name for a in node.names if a.name in POSIX_ONLY]
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and not guarded:
            found += [node.attr] if node.value.id == "os" and node.attr in POSIX_CALLS else []
        inside = guarded or isinstance(node, ast.If | ast.Try | ast.IfExp | ast.BoolOp)
        found += unguarded(node, inside)
    return found


def test_the_guard_against_posix_sees_something():
    assert unguarded(ast.parse("import os, fcntl\nos.nice(2)")) == ["fcntl", "nice"]
    assert not unguarded(ast.parse("import os\nif os.name == 'posix':\n    import fcntl\n    os.nice(2)"))


def test_file_names_do_for_every_system():
    """Windows and macOS do not tell a.py from A.py, and Windows refuses some characters and names."""
    done = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True)
    names = done.stdout.splitlines() or [
        p.relative_to(ROOT).as_posix()
        for top in ("mssg", "trainer_cli", "explorer_app", "assets")
        for p in (ROOT / top).rglob("*.*")
    ]
    assert len({n.casefold() for n in names}) == len(names) > 100
    reserved = re.compile(r'[<>:"\\|?*]|[ .](/|$)|(^|/)(con|prn|aux|nul|com\d|lpt\d)(\.|/|$)', re.I)
    assert not [n for n in names if reserved.search(n)]


def test_no_64_bit_numbers_on_a_device():
    """Apple's GPUs have none: tensors come to the CPU first."""
    for path in (ROOT / "mssg").rglob("*.py"):
        if "ops" not in path.relative_to(ROOT / "mssg").parts:
            text = path.read_text(encoding="utf-8")
            assert text.count(".double()") == text.count(".cpu().double()"), path
            assert "float64" not in "".join(re.findall(r"\.(?:to|type)\(.*", text)), path


def test_a_wheel_holds_every_file_of_the_packages(tmp_path):
    """As `make wheel` gathers them; the kernels' sources are compiled, not shipped."""
    words = [sys.executable, "setup.py", "--quiet", "build_py", "--build-lib", str(tmp_path)]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    built = {p.relative_to(tmp_path).as_posix() for p in tmp_path.rglob("*") if p.is_file()}
    wanted = set()
    for top, name in (
        ("mssg", "mssg"),
        ("trainer_cli", "trainer_cli"),
        ("explorer_app", "explorer_app"),
        ("assets", "mssg/_assets"),
    ):
        for path in (ROOT / top).rglob("*"):
            skipped = {"__pycache__", "src"} & set(path.parts) or path.name.startswith("_native_")
            if path.is_file() and not skipped and path.suffix != ".tmp":
                wanted.add(f"{name}/{path.relative_to(ROOT / top).as_posix()}")
    assert len(wanted) > 200 and not wanted - built, wanted - built


@pytest.mark.parametrize(
    ("there", "chosen"), [(("cuda", "mps"), "cuda"), (("mps",), "mps"), ((), "cpu")], ids=str
)
def test_the_device_is_chosen_at_run_time(monkeypatch, there, chosen):
    import torch

    from mssg.errors import UsageError
    from mssg.ops.device import checked_device

    monkeypatch.setattr(torch.cuda, "is_available", lambda: "cuda" in there)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: "mps" in there)
    assert checked_device("auto") == chosen and checked_device("cpu") == "cpu"
    for name in {"cuda", "mps"}.difference(there):
        with pytest.raises(UsageError, match=name):
            checked_device(name)


def test_a_device_that_is_not_there_is_refused_by_name(monkeypatch, tmp_path):
    import torch
    from click.testing import CliRunner

    from trainer_cli.main import cli

    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    for words in (
        ["predictors", "x.toml", "--outdir", str(tmp_path)],
        ["generate", "digits", "-o", str(tmp_path / "a.png")],
    ):
        done = CliRunner().invoke(cli, [*words, "--device", "mps"])
        assert done.exit_code == 2 and "Found mps. Expected cpu" in done.stderr, done.stderr
