"""The lock of a run's folder."""

from __future__ import annotations

import errno
import fcntl

import pytest

from mssg.errors import RunError
from mssg.runs.lock import locked


def failing(number):
    """A flock that fails in one way."""

    def flock(*_):
        raise OSError(number, "as the system says")

    return flock


@pytest.mark.parametrize("name", ["ENOSYS", "ENOTSUP", "ENOLCK", "EINVAL"])
def test_a_file_system_without_locks_is_told_once_and_serves(tmp_path, monkeypatch, caplog, name):
    monkeypatch.setattr(fcntl, "flock", failing(getattr(errno, name)))
    for _ in range(2):
        with locked(tmp_path):
            assert (tmp_path / "lock").read_text().strip().isdecimal()
    assert len(caplog.records) == 1
    assert "as the system says" in caplog.text and str(tmp_path) in caplog.text


def test_only_a_lock_that_is_held_is_another_trainer_s(tmp_path, monkeypatch):
    for name in ("EWOULDBLOCK", "EACCES"):
        monkeypatch.setattr(fcntl, "flock", failing(getattr(errno, name)))
        with pytest.raises(RunError, match="another trainer"), locked(tmp_path):
            pass
    monkeypatch.setattr(fcntl, "flock", failing(errno.EIO))
    with pytest.raises(RunError, match="cannot be written: as the system says"), locked(tmp_path):
        pass
