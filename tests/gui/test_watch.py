"""`mssg watch`: reads a growing run, opens fast, without torch or numpy."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mssg.errors import RunError, UsageError
from mssg.runs.folder import RunFolder
from mssg.runs.follow import GrowingRows
from mssg.text import duration
from trainer_cli.monitor import Monitor, headline

pytestmark = pytest.mark.gui


def test_tail_takes_whole_rows_and_starts_over(tmp_path):
    path = tmp_path / "stats.jsonl"
    tail = GrowingRows(path)
    assert not tail.update() and headline(tail, 0).startswith("waiting")
    path.write_text('{"kimg": 1, "loss/G/adv": 2, "eta_sec": 7200}\n{"kimg": 2')
    assert tail.update() and not tail.update()
    with path.open("a") as file:
        file.write(', "loss/G/adv": 1}\nbroken\n{"no": 1}\n')
    assert tail.update() and [list(c) for c in tail.curve("loss/G/adv")] == [[1, 2], [2, 1]]
    assert "2.0 kimg" in headline(tail, time.time()) and "!" not in headline(tail, time.time())
    assert "nothing new for" in headline(tail, time.time() + 1000)
    path.write_text('{"kimg": 1, "loss/G/adv": 5}\n')
    assert tail.update() and [list(c) for c in tail.curve("loss/G/adv")] == [[1], [5]]


@pytest.mark.parametrize(
    ("seconds", "text"), [(42, "42 s"), (600, "10 min"), (11_100, "3 h 05"), (200_000, "2 d 7 h")]
)
def test_durations(seconds, text):
    assert duration(seconds) == text


def test_refusals(tmp_path, monkeypatch):
    with pytest.raises(RunError, match="no such run"):
        Monitor(tmp_path / "none")
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    if sys.platform.startswith("linux"):
        with pytest.raises(UsageError, match="no display"):
            Monitor(tmp_path)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="displays are variables on Linux only")
@pytest.mark.parametrize("broken", [{"DISPLAY": ":987"}, {"MESA_GL_VERSION_OVERRIDE": "2.1"}], ids=str)
def test_a_display_that_cannot_show_it_is_refused_in_words(environment, tmp_path, broken):
    words = [sys.executable, "-m", "trainer_cli", "watch", str(tmp_path)]
    given = {**environment, "WAYLAND_DISPLAY": "", **broken}
    root = Path(__file__).parents[2]
    done = subprocess.run(words, env=given, capture_output=True, text=True, cwd=root, timeout=60)
    assert done.returncode == 2, (done.returncode, done.stderr)
    assert "no window can be opened" in done.stderr and "Traceback" not in done.stderr


def test_window_follows_a_run_without_torch_or_numpy(environment, tmp_path):
    from PIL import Image

    (tmp_path / "grids").mkdir()
    Image.new("RGB", (64, 64), (200, 40, 40)).save(tmp_path / "grids" / "000001.png")
    rows = [{"kimg": k, "loss/G/adv": 2 - k / 10, "score/real": k / 10, "eta_sec": 60} for k in range(1, 9)]
    guess = {"name": "ridge", "words": "r 0.1, MAE 12 (guess 11), n 9", "doubt": "no better than guessing"}
    rows[-1] |= {"metric/kid": 0.05, "metric/control/age/mae": 3.2, "seconds": 4}
    rows[-1] |= {"metric/control/age/instrument": guess}
    (tmp_path / "stats.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    assert RunFolder(tmp_path).newest_grid() is not None
    code = f"""
import json, sys
from trainer_cli.monitor import Monitor
m = Monitor({str(tmp_path)!r})
first = m.show(seconds=1.5, picture={str(tmp_path / "out.png")!r})
torch, numpy = "torch" in sys.modules, "numpy" in sys.modules
print(json.dumps([first, len(m.rows), str(m._grid), torch, numpy, m._charts, m._said]))
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=environment,
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[2],
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    first, count, grid, torch, numpy, charts, said = json.loads(done.stdout.strip().splitlines()[-1])
    assert charts == ["losses", "scores", "kid", "control/age/mae"]  # one scale each
    title, worth = said["control/age/mae"]
    assert title.endswith("mae (no better than guessing)") and worth.endswith("n 9: NO BETTER THAN GUESSING")
    assert count == 8 and grid.endswith("000001.png") and not torch and not numpy
    assert first < 5  # half a second on a machine of its own; tests/benchmarks measure it
