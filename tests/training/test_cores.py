"""A training that gets less of the processor than its threads could use says so, once."""

from __future__ import annotations

import time

import pytest
import torch

from mssg.study.train_config import TrainConfig
from mssg.training import cores
from mssg.training.cores import CoreUse, threads_for
from mssg.training.launch import start


def use(monkeypatch, share, threads=2, seconds=100.0, device="cpu"):
    """What is said after so many seconds with a share of the threads' time."""
    clock = {"wall": 0.0, "processor": 0.0}
    monkeypatch.setattr(time, "perf_counter", lambda: clock["wall"])
    monkeypatch.setattr(time, "process_time", lambda: clock["processor"])
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    measured = CoreUse(device)
    with measured.counted():
        clock.update(wall=seconds, processor=share * threads * seconds)
    return measured.advice(), measured.advice()


def test_a_low_share_is_told_once(monkeypatch):
    first, second = use(monkeypatch, 0.3)
    assert "30% of the time of 2 threads" in first and "--workers" in first and not second
    first, _ = use(monkeypatch, 0.3, threads=1)
    assert "share these cores" in first and "--workers" not in first


@pytest.mark.parametrize(
    "case", [{"share": 0.7}, {"share": 0.3, "seconds": 10.0}, {"share": 0.1, "device": "cuda"}]
)
def test_nothing_is_said_without_a_reason(monkeypatch, case):
    assert use(monkeypatch, **case) == ("", "")


@pytest.mark.slow
def test_a_run_says_it(blob_study, tmp_path, monkeypatch):
    monkeypatch.setattr(cores, "MEASURED_SECONDS", 0.0)
    monkeypatch.setattr(cores, "LEAST_SHARE", 1e9)
    start(blob_study, tmp_path / "run")
    assert (tmp_path / "run" / "log.txt").read_text().count("slower than it could be") == 1


SMALL = TrainConfig(channel_base=512)


@pytest.mark.parametrize(
    ("config", "resolution", "device", "asked", "expected"),
    [
        (SMALL, 32, "cpu", None, 1),
        (SMALL, 32, "cpu", 2, 2),
        (SMALL, 64, "cpu", None, 3),
        (TrainConfig(), 32, "cpu", None, 3),
        (TrainConfig(channel_base=512, cfg="stylegan3-t"), 32, "cpu", None, 3),
        (SMALL, 32, "cuda", None, 3),
        (TrainConfig(), 256, "cpu", 1, 1),
    ],
)
def test_threads_are_those_asked_for_or_one_for_small_networks(
    monkeypatch, config, resolution, device, asked, expected
):
    taken = [3]
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(torch, "get_num_threads", lambda: taken[-1])
    monkeypatch.setattr(torch, "set_num_threads", taken.append)
    with threads_for(config, resolution, device, asked):
        assert taken[-1] == expected
    assert taken[-1] == 3
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    with threads_for(config, resolution, device, asked):
        assert taken[-1] == (asked or 3)
