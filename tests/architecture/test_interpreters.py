"""Every module under every interpreter of a supported version that this machine has."""

from __future__ import annotations

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


def test_no_module_assumes_fork_or_a_temporary_folder():
    for package in ("mssg", "trainer_cli", "explorer_app"):
        for path in (ROOT / package).rglob("*.py"):
            text = path.read_text(encoding="utf-8")
            for word in ("os.fork", '"fork"', '"/tmp', "'/tmp"):
                assert word not in text, f"{path}: {word}"


def test_no_64_bit_numbers_on_a_device():
    """Apple's GPUs have none: tensors come to the CPU first."""
    for path in (ROOT / "mssg").rglob("*.py"):
        if "ops" not in path.relative_to(ROOT / "mssg").parts:
            text = path.read_text(encoding="utf-8")
            assert text.count(".double()") == text.count(".cpu().double()"), path
            assert "float64" not in "".join(re.findall(r"\.(?:to|type)\(.*", text)), path


@pytest.mark.parametrize(
    ("there", "chosen"), [(("cuda", "mps"), "cuda"), (("mps",), "mps"), ((), "cpu")], ids=str
)
def test_the_device_is_chosen_at_run_time(monkeypatch, there, chosen):
    import torch

    from mssg.errors import UsageError
    from trainer_cli.common import checked_device

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
    for words in (["predictors", "x.toml", "--outdir", str(tmp_path)], ["generate", "digits", "-o", str(tmp_path / "a.png")]):  # fmt: skip
        done = CliRunner().invoke(cli, [*words, "--device", "mps"])
        assert done.exit_code == 2 and "Found mps. Expected cpu" in done.stderr, done.stderr
