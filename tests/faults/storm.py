"""Faults in training, one after the other: `python tests/faults/storm.py --points 100 --seed 0 --json OUT`.

A run is killed at random points (a line of a phase, the middle of a write, any moment), and goes on with the
command it was started with. After every kill nothing half-written may stand under a final name; in the end
the weights must equal those of the run that was left alone, bit for bit. Then come full and read-only disks,
a second trainer, clocks that jump, data that vanish, losses that are not finite, and a scheduler's SIGTERM.
"""

# ruff: noqa: B023 (a forked task ends before the loop that defined it goes on)
from __future__ import annotations

import argparse
import builtins
import collections
import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"
ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "training")]

import scipy.optimize  # noqa: E402, F401 (here and not in every forked process)
import torch  # noqa: E402
import torch._dynamo  # noqa: E402
from blob_study import write_blob_study  # noqa: E402
from PIL import Image  # noqa: E402
from safetensors.torch import load_file  # noqa: E402

import mssg  # noqa: E402
from mssg.checkpoint.header import resolve_snapshot  # noqa: E402
from mssg.errors import MssgError  # noqa: E402
from mssg.runs.folder import RunFolder  # noqa: E402
from mssg.runs.rows import read_rows  # noqa: E402
from mssg.training import launch  # noqa: E402
from mssg.training import step as steps  # noqa: E402
from mssg.training.run import open_run  # noqa: E402

EVERY_PHASE = (
    (
        "r1_interval = 2",
        "r1_interval = 2\npl_weight = 2.0\npl_interval = 2\nstyle_mixing = 0.9\naug = 'ada'\nada_kimg = 0.1",
    ),
    ("[train]", "[augment]\nallow = ['xflip', 'brightness']\n[train]"),
)
PACKAGE = os.path.dirname(mssg.__file__) + os.sep  # the checkout's own folder may be called mssg, too
PLACES = {
    # file: functions in which a line is chosen; in this order they make a run
    "training/run.py": ("create", "reopen"),
    "runs/lock.py": ("locked",),
    "training/loop.py": ("train", "_train"),
    "training/batches.py": ("open_training_data", "batch", "_real", "_fakes"),
    "training/state.py": ("initial_state", "load_newest", "scale_learning_rates", "judge", "save"),
    "training/step.py": (
        "train_step",
        "generator_phase",
        "path_length_phase",
        "discriminator_phase",
        "penalty_phase",
        "_apply",
        "_adapt",
    ),
    "training/ema.py": ("update",),
    "training/augment.py": ("adapt",),
    "training/run_writer.py": ("__init__", "log", "begin", "snapshot", "mark_best", "row", "state", "_grid"),
    "training/stats.py": ("__init__", "add", "row", "write", "_means"),
    "training/events.py": ("__init__", "write", "_add"),
    "training/validation.py": ("__call__",),
    "files.py": ("write_atomically", "sweep"),
    "checkpoint/snapshot.py": ("save_snapshot", "provenance"),
    "data/loader.py": ("batch", "conditions", "_draw"),
    "losses/covariate.py": ("__call__",),
}
PATIENCE_S = 900  # a busy machine is no hang


class Failure(AssertionError):
    """Something that must not happen did."""


def check(condition: object, text: str) -> None:
    if not condition:
        raise Failure(text)


# A run in a process of its own, forked from this one so that torch is there at once


def child(
    task: Callable[[], object], log: Path, delay: float | None = None, number: int = signal.SIGKILL
) -> int:
    """Do a task in a forked process; after `delay` seconds send it a signal. Its exit code, negative for a
    signal."""
    pid = os.fork()
    if not pid:
        code = 1
        try:
            with open(log, "a", buffering=1) as file:
                os.dup2(file.fileno(), 1), os.dup2(file.fileno(), 2)
            task()
            code = 0
        except MssgError as error:
            print("MssgError:", error, flush=True)
            code = 2
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else 1
        except BaseException:
            traceback.print_exc()
        finally:
            with contextlib.suppress(Exception):
                sys.stdout.flush()
            os._exit(code)
    if delay is not None:
        time.sleep(delay)
        os.kill(pid, number)
    started = time.monotonic()
    while True:
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() - started > PATIENCE_S:
            os.kill(pid, signal.SIGKILL), os.waitpid(pid, 0)
            raise Failure("a process hung")
        time.sleep(0.002)


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def in_package(file: str) -> str:
    """A file's path inside our package, with slashes; "" for other people's files."""
    return file.removeprefix(PACKAGE).replace(os.sep, "/") if file.startswith(PACKAGE) else ""


def at_line(place: tuple[str, str], nth: int) -> None:
    """Die at the nth line that is run in a function."""
    file, function = place
    left = [nth]

    def lines(frame, event, _):
        if event == "line":
            left[0] -= 1
            if not left[0]:
                die()
        return lines

    def calls(frame, event, _):
        code = frame.f_code
        return lines if code.co_name == function and in_package(code.co_filename) == file else None

    sys.settrace(calls)


def in_write(under: Path, nth: int, share: float) -> None:
    """Die in the middle of the nth write to a file of the run."""
    original, left = builtins.open, [nth]

    def opened(path, mode="r", *rest, **more):
        file = original(path, mode, *rest, **more)
        if set(mode) & set("wax+") and str(path).startswith(str(under)):
            write = file.write

            def torn(data):
                left[0] -= 1
                if not left[0]:
                    write(data[: int(len(data) * share)])
                    file.flush()
                    die()
                return write(data)

            return _Writer(file, torn)
        return file

    builtins.open = opened


class _Writer:
    """A file whose write is another one."""

    def __init__(self, file, write) -> None:
        self._file, self.write = file, write

    def __getattr__(self, name):
        return getattr(self._file, name)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._file.close()


# What must hold after any fault


def check_folder(run: Path) -> None:
    """Nothing half-written under a final name; the newest snapshot can be found and used."""
    for path in RunFolder(run).snapshot_files():
        network = mssg.load_snapshot(path).G
        check(all(torch.isfinite(p).all() for p in network.parameters()), f"{path}: weights not finite")
    for path in run.glob("state/[0-9]*.pt"):
        torch.load(path, weights_only=True)
    for path in run.glob("grids/*.png"):
        Image.open(path).load()
    if (run / "best").exists():
        check((run / "snapshots" / (run / "best").read_text().strip()).is_file(), "best names no snapshot")
    if (run / "config.json").exists():
        open_run(run)
    if RunFolder(run).snapshot_files():
        resolve_snapshot(run)


DETERMINED = ("kimg", "loss/G/adv", "loss/G/pl", "loss/D/cov", "loss/D/r1", "ada_p", "metric/validation/size")


def check_same(run: Path, other: Path, with_rows: bool = True) -> None:
    """A finished run equals another: weights, rows, no leftovers."""
    a, b = load_file(resolve_snapshot(run)), load_file(resolve_snapshot(other))
    check(a.keys() == b.keys(), "other tensors")
    for name in a:
        check(torch.equal(a[name], b[name]), f"{name} differs")
    rows = [[{k: r.get(k) for k in DETERMINED} for r in read_rows(p / "stats.jsonl")] for p in (run, other)]
    check(rows[0] == rows[1] or not with_rows, "stats.jsonl differs")
    check(not list(run.rglob(".*.tmp")), "leftovers")


class Storm:
    """The faults, on one small study."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.folder, self.rng = folder, random.Random(seed)
        self.log = folder / "log.txt"
        self.study = write_blob_study(folder, EVERY_PHASE)
        self.whole, self.count = folder / "whole", 0
        started = time.monotonic()
        check(child(lambda: self.train(self.whole), self.log) == 0, self.tail())
        self.seconds = time.monotonic() - started
        self.lines, self.writes = self.survey()

    def train(self, run: Path, **options: object) -> None:
        launch.start(self.study, run, options, lambda row: print(row.get("event", "")), requeue=True)

    def new(self) -> Path:
        self.count += 1
        return self.folder / f"run{self.count}"

    def tail(self) -> str:
        return self.log.read_text()[-2000:]

    def survey(self) -> tuple[dict[tuple[str, str], int], int]:
        """How many lines every place runs, and how many writes there are, in a run that is left alone."""
        out, run = self.folder / "survey.json", self.new()

        def task() -> None:
            counts: collections.Counter[str] = collections.Counter()

            def lines(frame, event, _):
                if event == "line":
                    counts[f"{in_package(frame.f_code.co_filename)}:{frame.f_code.co_name}"] += 1
                return lines

            sys.settrace(lambda frame, event, _: lines if in_package(frame.f_code.co_filename) else None)
            original, writes = builtins.open, [0]

            def opened(path, mode="r", *rest, **more):
                file = original(path, mode, *rest, **more)
                if set(mode) & set("wax+") and str(path).startswith(str(run)):
                    write = file.write

                    def counted(data):
                        writes[0] += 1
                        return write(data)

                    return _Writer(file, counted)
                return file

            builtins.open = opened
            self.train(run)
            sys.settrace(None)
            builtins.open = original
            out.write_text(json.dumps([counts, writes[0]]))

        check(child(task, self.log) == 0, self.tail())
        check_same(run, self.whole)
        counts, writes = json.loads(out.read_text())
        places = {(f, n): counts.get(f"{f}:{n}", 0) for f, names in PLACES.items() for n in names}
        check(all(places.values()), f"not reached: {[place for place, n in places.items() if not n]}")
        return places, writes

    def finish(self, run: Path, what: str) -> None:
        """Go on to the end with the same command; compare."""
        code = child(lambda: self.train(run), self.log)
        check(code == 0, f"{what}: did not go on (exit {code})\n{self.tail()}")
        check_same(run, self.whole)

    # faults

    def kills(self, points: int) -> dict[str, object]:
        """kill -9, `points` times, in rounds of at most six a run."""
        hit: collections.Counter[str] = collections.Counter()
        finished, run, kinds, here = 0, self.new(), ("line", "line", "write", "time"), 0
        order = list(self.lines)
        self.rng.shuffle(order)
        while sum(hit.values()) < points:
            kind, delay = self.rng.choice(kinds), None
            if kind == "line":
                place = order[sum(hit.values()) % len(order)]
                nth = self.rng.randint(1, self.lines[place])
                arm, name = (lambda p=place, n=nth: at_line(p, n)), f"{place[0]}:{place[1]}"
            elif kind == "write":
                nth, share = self.rng.randint(1, self.writes), self.rng.random()
                arm, name = (lambda n=nth, s=share: in_write(run, n, s)), "a write"
            else:
                delay, arm, name = self.rng.uniform(0, self.seconds), (lambda: None), "any moment"

            code = child(lambda: (arm(), self.train(run)), self.log, delay)
            check(code in (0, -signal.SIGKILL), f"{name}: exit {code}\n{self.tail()}")
            if run.exists():
                check_folder(run)
            if code:
                hit[name] += 1
                here += 1
            if code == 0 or here == 6 or sum(hit.values()) == points:
                self.finish(run, f"killed in {name}")
                finished, here = finished + 1, 0
                shutil.rmtree(run)
                run = self.new()
        return {"points": points, "runs_finished_equal": finished, "places": dict(sorted(hit.items()))}

    def full_disk(self, times: int) -> dict[str, object]:
        """A small tmpfs that is full somewhere in the run, then a larger one."""
        size = sum(p.stat().st_size for p in self.whole.rglob("*") if p.is_file())
        refused = 0
        for _ in range(times):
            with tmpfs(self.folder / "small", int(size * self.rng.uniform(0.02, 0.9))) as place:
                run = place / "run"
                code = child(lambda: self.train(run), self.log)
                check(code == 2, f"full disk: exit {code}\n{self.tail()}")
                check("No space left" in self.tail(), "the message does not say that the disk is full")
                refused += 1
                if run.exists():
                    check_folder(run)
                mount("-o", f"remount,size={4 * size}", place)
                self.finish(run, "full disk")
        return {"times": times, "refused_with_a_reason": refused}

    def read_only(self) -> dict[str, object]:
        """An output folder that cannot be written, at the start and later."""
        with tmpfs(self.folder / "small", 64 * 2**20) as place:
            mount("-o", "remount,ro", place)
            for _ in range(2):
                code = child(lambda: self.train(place / "run"), self.log)
                check(code == 2 and "Read-only" in self.tail(), f"read-only: exit {code}\n{self.tail()}")
                mount("-o", "remount,rw", place)
                child(lambda: self.train(place / "run"), self.log, self.seconds * 0.7)
                mount("-o", "remount,ro", place)
            mount("-o", "remount,rw", place)
            self.finish(place / "run", "read-only")
        return {"times": 2}

    def two_trainers(self, times: int) -> dict[str, object]:
        """Two that start one run at the same moment: one trains, the other says why not."""
        for _ in range(times):
            run, pids = self.new(), []
            gate = time.monotonic() + 0.2
            for seed in (0, 1):
                pid = os.fork()
                if not pid:
                    time.sleep(max(0, gate - time.monotonic()))

                    def task(seed=seed):
                        options = {"seed": seed}
                        launch.start(self.study, run, options, requeue=self.rng.random() < 0.5)

                    os._exit(child(task, self.log) & 0xFF)
                pids.append(pid)
            codes = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids]
            check(sorted(codes) == [0, 2], f"two trainers: exits {codes}\n{self.tail()}")
            winner = codes.index(0)
            check(open_run(run).config.seed == winner, "the loser's configuration is in the folder")
            check_folder(run)
            if winner == 0:
                check_same(run, self.whole)
        return {"times": times}

    def clock_jumps(self, times: int) -> dict[str, object]:
        """A clock that leaps years at every look, and files whose dates mean nothing."""
        for _ in range(times):
            run, jumps = self.new(), random.Random(self.rng.random())

            def task(run=run, jumps=jumps):
                now, local = time.time, time.localtime
                time.time = lambda: now() + jumps.uniform(-1, 1) * 1e8
                time.strftime, keep = (lambda f, *_: keep(f, local(time.time()))), time.strftime
                self.train(run)

            for _ in range(2):
                child(task, self.log, self.rng.uniform(0.3, 0.9) * self.seconds)
                for path in run.rglob("*"):
                    os.utime(path, (self.rng.uniform(0, 2e9),) * 2)
                if RunFolder(run).snapshot_files():
                    check(
                        resolve_snapshot(run) == RunFolder(run).snapshot_files()[-1],
                        "not the newest snapshot",
                    )
            check(child(task, self.log) == 0, self.tail())
            check_same(run, self.whole)
        return {"times": times}

    def vanishing_data(self, names: tuple[str, ...]) -> dict[str, object]:
        """A file or folder of a source away; and one cut off while it is mapped."""
        for name in names:
            run, path = self.new(), self.folder / name
            child(lambda: self.train(run), self.log, self.rng.uniform(0.3, 0.9) * self.seconds)
            away = path.rename(self.folder / "away")
            code = child(lambda: self.train(run), self.log)
            away.rename(path)
            check(code == 2 and path.name in self.tail(), f"{name} away: exit {code}\n{self.tail()}")
            self.finish(run, f"{name} away")
        run, path = self.new(), self.folder / "a/images.npy"
        data = path.read_bytes()

        def cut() -> None:
            original, left = steps.generator_phase, [5]

            def phase(*arguments):
                left[0] -= 1
                if not left[0]:
                    os.truncate(path, 200)
                return original(*arguments)

            steps.generator_phase = phase
            self.train(run)

        code = child(cut, self.log)
        check(code in (2, -signal.SIGBUS), f"images.npy cut: exit {code}\n{self.tail()}")
        check_folder(run)
        code = child(lambda: self.train(run), self.log)
        path.write_bytes(data)
        check(code == 2 and "images.npy" in self.tail(), f"cut images: exit {code}\n{self.tail()}")
        self.finish(run, "images.npy cut")
        return {"files": [*names, "a/images.npy cut while mapped"]}

    def not_finite(self, times: int) -> dict[str, object]:
        """A loss that is NaN for a while: back, half the step, on to the end, killed in between or not. And
        one that stays."""
        for phase in (
            ["generator_phase", "discriminator_phase", "path_length_phase", "penalty_phase"] * times
        )[:times]:
            nth, ends = self.rng.randint(1, 4), []

            def task(run, phase=phase, nth=nth, more=False):
                original = getattr(steps, phase)
                seen = [0]

                def poisoned(state, *rest):
                    seen[0] += 1
                    stats = original(state, *rest)
                    if more or (state.setbacks == 0 and seen[0] >= nth):
                        stats = {k: v * float("nan") for k, v in stats.items()}
                    return stats

                setattr(steps, phase, poisoned)
                self.train(run)

            for kills in (0, 2):
                run = self.new()
                for _ in range(kills):
                    child(lambda run=run: task(run), self.log, self.rng.uniform(0.3, 1.0) * self.seconds)
                code = child(lambda run=run: task(run), self.log)
                check(code == 0, f"NaN in {phase}: exit {code}\n{self.tail()}")
                check_folder(run)
                check("learning rates / 2" in (run / "log.txt").read_text(), "no setback in the log")
                ends.append(run)
            for row in read_rows(ends[0] / "stats.jsonl"):
                check(all(v is not None for v in row.values()), "a row that is not finite was kept")
        run = self.new()
        code = child(lambda: task(run, more=True), self.log)
        check(code == 2 and "diverges" in self.tail(), f"NaN that stays: exit {code}\n{self.tail()}")
        report = json.loads((run / "diverged.json").read_text())
        check(report["setbacks"] == 3 and report["not_finite"], "the report is empty")
        check_folder(run)
        return {"times": times + 1, "setbacks_before_stopping": 3}

    def scheduler(self, times: int) -> dict[str, object]:
        """SIGTERM at any moment and the same command again, until the run is done."""
        from trainer_cli.main import main

        stops = 0
        for _ in range(times):
            run = self.new()

            def task(run=run):
                main(
                    [
                        "train",
                        str(self.study),
                        "--outdir",
                        str(run),
                        "--device",
                        "cpu",
                        "--workers",
                        "1",
                        "--requeue",
                    ]
                )

            for _ in range(20):
                code = child(task, self.log, self.rng.uniform(0.2, 1.0) * self.seconds, signal.SIGTERM)
                # 75: saved, put me back; -15: not yet inside training, nothing to save
                check(code in (0, 75, -signal.SIGTERM), f"scheduler: exit {code}\n{self.tail()}")
                if code == 0:
                    break
                stops += 1
                check_folder(run) if run.exists() else None
            check(code == 0, "never came to an end")
            check_same(run, self.whole, with_rows=False)  # where it stopped there is one more row
        return {"runs": times, "stopped_and_requeued": stops}


def mount(*words: object) -> None:
    subprocess.run(["mount", *map(str, words)], check=True, capture_output=True)


@contextlib.contextmanager
def tmpfs(place: Path, size: int):
    """A file system of its own of so many bytes."""
    place.mkdir(exist_ok=True)
    mount("-t", "tmpfs", "-o", f"size={size}", "tmpfs", place)
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)


def may_mount() -> bool:
    """Whether this user may mount a tmpfs."""
    with tempfile.TemporaryDirectory() as folder:
        words = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", folder]
        done = subprocess.run(words, capture_output=True) if shutil.which("mount") else None
        if done and done.returncode == 0:
            subprocess.run(["umount", folder], check=True)
            return True
        return False


def main() -> None:
    """Run the storm, print a line for each fault, write the figures."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--points", type=int, default=100, help="kill -9 so often")
    options.add_argument("--times", type=int, default=8, help="repetitions of each other fault")
    options.add_argument("--seed", type=int, default=0)
    options.add_argument("--only", nargs="*", help="these faults, by their printed names")
    options.add_argument("--quick", action="store_true", help="each fault once, four kills: half a minute")
    options.add_argument("--json", type=Path, help="write the figures here")
    given = options.parse_args()
    points, times = (4, 1) if given.quick else (given.points, given.times)
    files = ("a/table.csv",) if given.quick else ("a/images.npy", "a/table.csv", "a/source.json", "b")
    figures: dict[str, object] = {"seed": given.seed}
    with tempfile.TemporaryDirectory(prefix="storm") as folder:
        started = time.monotonic()
        storm = Storm(Path(folder), given.seed)
        faults = {
            "kill -9": lambda: storm.kills(points),
            "two trainers": lambda: storm.two_trainers(times),
            "clock jumps": lambda: storm.clock_jumps(max(1, times // 4)),
            "data vanish": lambda: storm.vanishing_data(files),
            "loss not finite": lambda: storm.not_finite(max(1, times // 2)),
            "SIGTERM, requeued": lambda: storm.scheduler(max(1, times // 2)),
        }
        if may_mount():
            faults |= {"full disk": lambda: storm.full_disk(times), "read-only disk": storm.read_only}
        else:
            print("full and read-only disk: not run, this user may not mount a tmpfs")
        failed = 0
        for name, fault in faults.items():
            if given.only and name not in given.only:
                continue
            begun = time.monotonic()
            try:
                figures[name] = fault()
                print(
                    f"{name}: survived in {time.monotonic() - begun:.0f} s: {json.dumps(figures[name])}",
                    flush=True,
                )
            except Failure as failure:
                failed += 1
                figures[name] = {"FAILED": str(failure)[-2000:]}
                print(f"{name}: FAILED: {failure}", flush=True)
        figures["seconds"] = round(time.monotonic() - started)
    if given.json:
        given.json.write_text(json.dumps(figures, indent=1) + "\n")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
