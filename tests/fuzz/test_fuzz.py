"""Every file that once got past the readers, and a short storm of new ones; `make fuzz` raises the whole one."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

import mutate  # noqa: E402


def test_broken_files_only_ever_raise_errors_for_people():
    seed = os.environ.get("MSSG_SEED", "1")
    words = [sys.executable, str(HERE / "fuzz.py"), "--regressions", "--cases", "2200", "--seed", seed]
    done = subprocess.run(words, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "0 failed" in done.stdout and done.stdout.count("refused") >= 12


def test_the_storm_can_find_something(tmp_path, monkeypatch):
    """A reader that lets an error through is caught: the test above can fail."""
    monkeypatch.chdir(tmp_path)
    import fuzz
    import readers

    def careless(folder: Path) -> None:
        int((folder / "x.txt").read_bytes())

    reader = readers.Reader("careless", 1, lambda: [{"x.txt": b"12"}], readers._one(mutate.raw), careless, ())
    found = fuzz.storm(reader, 100, 0, tmp_path, write=False)
    assert found["failed"] > 10 and any("ValueError" in f for f in found["failures"])


@pytest.mark.parametrize("seed", range(3))
def test_changes_are_functions_of_the_seed(seed):
    document = {"a": [1, {"b": "c"}], "d": 2.5}
    twice = [repr(mutate.document(document, random.Random(seed))) for _ in range(2)]
    assert twice[0] == twice[1] and document == {"a": [1, {"b": "c"}], "d": 2.5}
