"""The storm of faults, each once; `make storm` raises the whole one."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow


def test_a_quick_storm_is_survived():
    script, seed = Path(__file__).with_name("storm.py"), os.environ.get("MSSG_SEED", "3")
    done = subprocess.run(
        [sys.executable, str(script), "--quick", "--seed", seed], capture_output=True, text=True, timeout=900
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("survived") >= 6
