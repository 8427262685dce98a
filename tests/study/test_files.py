"""Files appear whole or not at all."""

from __future__ import annotations

import errno
import os

import numpy as np
import pytest

from mssg.errors import DataError, UsageError
from mssg.files import csv_text, reserve, write_atomically, write_json


@pytest.mark.parametrize(
    "data", [b"new", "new", lambda file: file.write(b"new")], ids=["bytes", "text", "writer"]
)
def test_the_old_file_or_the_whole_new_one(tmp_path, monkeypatch, data):
    path = tmp_path / "a.bin"
    path.write_bytes(b"old")
    real = os.fsync
    monkeypatch.setattr(os, "fsync", lambda handle: (_ for _ in ()).throw(OSError(errno.ENOSPC, "full")))
    with pytest.raises(UsageError, match=r"a\.bin: cannot be written: full"):
        write_atomically(path, data, UsageError)
    assert path.read_bytes() == b"old" and [p.name for p in tmp_path.iterdir()] == ["a.bin"]
    monkeypatch.setattr(os, "fsync", real)
    write_atomically(path, data, UsageError)
    assert path.read_bytes() == b"new" and [p.name for p in tmp_path.iterdir()] == ["a.bin"]


def test_a_writer_that_fails_leaves_nothing(tmp_path):
    def half(file):
        file.write(b"ha")
        raise ValueError("not today")

    with pytest.raises(ValueError, match="not today"):
        write_atomically(tmp_path / "a", half)
    assert not list(tmp_path.iterdir())


def test_a_file_system_that_cannot_sync_folders_still_serves(tmp_path, monkeypatch):
    real = os.fsync

    def picky(handle):
        if os.path.isdir(f"/proc/self/fd/{handle}"):
            raise OSError(errno.EINVAL, "invalid")
        real(handle)

    monkeypatch.setattr(os, "fsync", picky)
    write_atomically(tmp_path / "a.npy", lambda file: np.save(file, np.arange(3)))
    assert np.load(tmp_path / "a.npy").tolist() == [0, 1, 2]


def test_names_that_are_no_text_are_written_as_escapes(tmp_path):
    strange = os.fsdecode(b"K\xf6ln")
    write_json(tmp_path / "a.json", {"file": strange}, DataError)
    write_atomically(tmp_path / "a.csv", csv_text(("file", "n"), [(strange, 1), ("a,b", 2)]), DataError)
    assert (tmp_path / "a.json").read_text(encoding="utf-8") == '{\n "file": "K\\udcf6ln"\n}\n'
    assert (tmp_path / "a.csv").read_text(encoding="utf-8") == 'file,n\nK\\udcf6ln,1\n"a,b",2\n'


def test_room_is_kept_for_a_file_that_is_mapped(tmp_path, monkeypatch):
    path = tmp_path / "images.npy"
    store = np.lib.format.open_memmap(path, "w+", np.uint8, (3, 1000, 1000))
    reserve(path, DataError)
    assert path.stat().st_blocks * 512 >= path.stat().st_size
    store[:] = 1
    for number in (errno.ENOTSUP, errno.EINVAL):  # it cannot be done here: what is in the file stays

        def refuse(*_, number=number):
            raise OSError(number, "not here")

        monkeypatch.setattr(os, "posix_fallocate", refuse)
        reserve(path, DataError)
        assert np.load(path).all()

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(DataError, match=r"images\.npy: cannot be written: No space left .*3 MiB are needed"):
        reserve(path, DataError)
