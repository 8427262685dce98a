"""A virtual screen, and windows driven on it in their own processes."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent
LIMIT_S = 900  # a minute on a quiet machine


@pytest.fixture(scope="session")
def display() -> Iterator[str]:
    """A virtual X display; tests are skipped only where Xvfb is not installed."""
    program = shutil.which("Xvfb")
    if program is None:
        pytest.skip("Xvfb is not installed: apt install xvfb libgl1-mesa-dri")
    reader, writer = os.pipe()
    server = subprocess.Popen(
        [program, "-displayfd", str(writer), "-screen", "0", "2560x1440x24", "-nolisten", "tcp"],
        pass_fds=[writer],
        stderr=subprocess.DEVNULL,
    )
    os.close(writer)
    with os.fdopen(reader) as stream:
        number = stream.readline().strip()
    assert number, "Xvfb did not start"
    yield f":{number}"
    server.terminate()
    server.wait(10)


@pytest.fixture(scope="session")
def environment(display: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Environment of a window's process: this display, software GL, a fresh configuration folder."""
    config = tmp_path_factory.mktemp("config")
    return {**os.environ, "DISPLAY": display, "LIBGL_ALWAYS_SOFTWARE": "1", "MSSG_CONFIG_DIR": str(config)}


@pytest.fixture(scope="session")
def drive(
    environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., dict[str, Any]]:
    """A function that runs a group of scenarios in one window, once, and returns how they went."""
    done: dict[str, dict[str, Any]] = {}

    def run(group: str, target: str) -> dict[str, Any]:
        if group not in done:
            folder = tmp_path_factory.mktemp(group)
            out = folder / "results.json"
            words = [sys.executable, str(HERE / "drive.py"), str(out), group, target, str(folder)]
            ended = subprocess.run(
                words, env=environment, capture_output=True, text=True, timeout=LIMIT_S, cwd=folder
            )
            told = (ended.stdout + ended.stderr)[-3000:]
            done[group] = (
                json.loads(out.read_text())
                if out.exists()
                else {"results": {}, "problem": told, "torch": None, "names": []}
            )
            done[group]["output"] = told
        return done[group]

    return run
