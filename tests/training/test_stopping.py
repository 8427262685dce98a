"""A training that is asked to stop, and one whose output cannot be written."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mssg.processes import asked_to_stop
from mssg.runs.rows import read_rows

pytestmark = pytest.mark.slow

REPO = Path(__file__).resolve().parents[2]
ENDLESS = ["--set", "tick_kimg=0.008", "--set", "snap=100000", "--kimg", "1000"]


@pytest.fixture
def training(blob_study, tmp_path):
    """A function that starts a long training and waits for its first tick; options are Popen's."""
    processes = []

    def start(**options):
        words = [sys.executable, "-m", "trainer_cli", "train", blob_study, "--outdir", tmp_path / "run"]
        environment = os.environ | {"PYTHONPATH": str(REPO), "OMP_NUM_THREADS": "1"}
        heard = signal.signal(signal.SIGHUP, signal.SIG_DFL)  # the suite itself may run under nohup
        process = subprocess.Popen([str(w) for w in [*words, *ENDLESS]], env=environment, **options)
        signal.signal(signal.SIGHUP, heard)
        processes.append(process)
        stats, end = tmp_path / "run" / "stats.jsonl", time.monotonic() + 240
        while not stats.exists() or not read_rows(stats):
            assert process.poll() is None and time.monotonic() < end
            time.sleep(0.1)
        return process, tmp_path / "run"

    yield start
    for process in processes:
        process.kill()
        process.wait()


def stopped_and_saved(process, run):
    """The process ends by itself, with the state of the step at which it was stopped."""
    code = process.wait(timeout=240)
    step = round(1000 * read_rows(run / "stats.jsonl")[-1]["kimg"] / 8)
    assert step and (run / "state" / f"{step:09d}.pt").is_file()
    assert "stopped at" in (run / "log.txt").read_text()
    return code


@pytest.mark.parametrize("name", ["SIGUSR1", "SIGXCPU"])
def test_signals_of_terminals_and_schedulers_save_and_stop(training, name):
    process, run = training(stdout=subprocess.DEVNULL)
    process.send_signal(getattr(signal, name))
    assert stopped_and_saved(process, run) == 0


def test_a_closed_terminal_saves_and_stops(training):
    """The terminal goes away: SIGHUP, and from then on nothing can be written to it."""
    theirs, ours = pty.openpty()
    process, run = training(stdin=ours, stdout=ours, stderr=ours, start_new_session=True)
    os.close(ours)
    os.close(theirs)
    process.send_signal(signal.SIGHUP)
    assert stopped_and_saved(process, run) == 0


@pytest.mark.parametrize("kind", ["head", "full"])
def test_output_that_cannot_be_written_ends_no_training(training, kind):
    """`mssg-train … | head -1`, and `> a_full_disk`."""
    reader, writer = os.pipe()
    if kind == "full":
        if not os.path.exists("/dev/full"):
            pytest.skip("no /dev/full here")
        writer = os.open("/dev/full", os.O_WRONLY)
    os.close(reader)
    process, run = training(stdout=writer, stderr=subprocess.PIPE)
    os.close(writer)
    before = len(read_rows(run / "stats.jsonl"))
    end = time.monotonic() + 240
    while len(read_rows(run / "stats.jsonl")) < before + 3:
        assert process.poll() is None and time.monotonic() < end
        time.sleep(0.1)
    process.send_signal(signal.SIGTERM)
    with process.stderr:
        assert stopped_and_saved(process, run) == 0 and not process.stderr.read()


def test_what_somebody_else_handles_or_ignores_stays_as_it_is():
    mine = signal.signal(signal.SIGUSR1, lambda *_: None)
    ignored = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        handler = signal.getsignal(signal.SIGUSR1)
        with asked_to_stop() as asked:
            assert signal.getsignal(signal.SIGUSR1) is handler
            assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
            signal.raise_signal(signal.SIGXCPU)
            assert asked.is_set()
            with pytest.raises(KeyboardInterrupt):
                signal.raise_signal(signal.SIGINT)
        assert signal.getsignal(signal.SIGXCPU) == signal.SIG_DFL
    finally:
        signal.signal(signal.SIGUSR1, mine)
        signal.signal(signal.SIGHUP, ignored)
