"""Every file that once got past the readers, and a short storm of new ones; `make fuzz` raises the whole
one."""

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


@pytest.mark.slow
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


def _deep_rows(folder: Path) -> None:
    from mssg.runs.follow import GrowingRows
    from mssg.runs.rows import read_rows

    file = folder / "stats.jsonl"
    file.write_text("[" * 100_000 + '\n{"kimg": 1' + "0" * 400 + '}\n{"kimg": 2}\n')
    growing = GrowingRows(file)
    assert growing.update() and read_rows(file) == [growing.last] == [{"kimg": 2}] and len(growing) == 1


def _deep_cohort(folder: Path) -> None:
    from mssg.data.cohort_map import load_cohort

    (folder / "x.toml").write_text("a = " + "[" * 5000)
    load_cohort(folder / "x.toml")


def _deep_labels(folder: Path) -> None:
    from mssg.data.label_maps import load_scheme

    (folder / "x.toml").write_text("a = " + "[" * 5000)
    load_scheme(str(folder / "x.toml"))


def _endless_labels(folder: Path) -> None:
    from mssg.data.label_maps import load_scheme

    (folder / "x.toml").write_text('[structures]\na = ["1-99999999999"]\n')
    load_scheme(str(folder / "x.toml"))


def _huge_picture(folder: Path) -> None:
    """50 million pixels are declared, a few bytes are there."""
    import struct
    import zlib

    from mssg.inversion.image_reader import read_picture

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", 7000, 7000, 8, 2, 0, 0, 0)
    data = (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")
    )
    (folder / "x.png").write_bytes(data)
    import readers

    read_picture(folder / "x.png", readers._known_study())


def _huge_archive(folder: Path) -> None:
    """A gigabyte of zeros in a megabyte; only the table of contents is made here."""
    import gzip
    import tarfile

    from mssg.data.recipes.digits import load

    member = tarfile.TarInfo("train-images-idx3-ubyte")
    member.size = 2**30
    (folder / "x.tgz").write_bytes(gzip.compress(member.tobuf()))
    load(folder / "x.tgz")


@pytest.mark.parametrize(
    ("case", "reason"),
    [
        (_deep_rows, None),
        (_deep_cohort, "nested too deeply"),
        (_deep_labels, "nested too deeply"),
        (_endless_labels, "are no labels"),
        (_huge_picture, "another size"),
        (_huge_archive, "larger than"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_small_files_cannot_ask_for_much(case, reason, tmp_path):
    from mssg.errors import MssgError

    if reason is None:
        case(tmp_path)
    else:
        with pytest.raises(MssgError, match=reason):
            case(tmp_path)
