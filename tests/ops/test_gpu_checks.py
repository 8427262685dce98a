"""`make cuda` says what ran, what failed, what did not run, and on which device."""

import json
import sys
from pathlib import Path

import pytest


@pytest.fixture
def gpu_checks(monkeypatch):
    """The program, as on a machine without a GPU."""
    monkeypatch.syspath_prepend(Path(__file__).parents[1] / "benchmarks")
    import gpu_checks

    monkeypatch.setattr(gpu_checks, "GPU", False)
    return gpu_checks


def fails():
    raise RuntimeError("a kernel broke")


@pytest.mark.parametrize("broken", [False, True])
def test_the_report_pretends_nothing(gpu_checks, broken, monkeypatch, tmp_path):
    Check, out = gpu_checks.Check, tmp_path / "out.json"
    runs = [Check("kernel", fails if broken else lambda: {"ok": True}, False), Check("image", fails)]
    monkeypatch.setattr(gpu_checks, "checks", lambda rival: runs)
    monkeypatch.setattr(sys, "argv", ["gpu_checks.py", "--out", str(out)])
    assert gpu_checks.main() == broken
    report = json.loads(out.read_text())
    assert report["device"] is None and report["not_run"] == {"image": "needs a GPU"}
    error = {"ok": False, "error": "RuntimeError: a kernel broke"}
    assert report["checks"] == {"kernel": error if broken else {"ok": True}}


def test_every_kernel_in_both_precisions_and_every_network_is_checked(gpu_checks):
    names = [check.name for check in gpu_checks.checks(False)]
    for case in gpu_checks.CASES:
        assert {f"kernel: {case}, float32", f"kernel: {case}, float16"} <= set(names)
    for kind in ("stylegan3-t", "stylegan3-r"):
        for what in ("images", "training gradients", "training times"):
            assert f"{what}: {kind} 256²" in names


def test_no_check_starts_late(gpu_checks, monkeypatch, tmp_path):
    out = tmp_path / "out.json"
    monkeypatch.setattr(gpu_checks, "LAST_START_S", -1)
    monkeypatch.setattr(gpu_checks, "checks", lambda rival: [gpu_checks.Check("kernel", fails, False)])
    monkeypatch.setattr(sys, "argv", ["gpu_checks.py", "--out", str(out)])
    assert gpu_checks.main() == 0
    assert list(json.loads(out.read_text())["not_run"]) == ["kernel"]
