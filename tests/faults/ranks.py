"""Several processes on one machine: `python tests/faults/ranks.py --runs 20 --seed 0 --json OUT`.

Runs of 1, 2, 3 and 4 processes see the same global batch; a run goes on with another number of processes; a
process that is killed stops the others within seconds, with a message; processes that finish leave without a
fault, many times over.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

import psutil
from storm import ROOT, Failure, check, check_folder, write_blob_study

from mssg.checkpoint.header import read_header, resolve_snapshot
from mssg.runs.rows import read_rows

LIMIT_S = 900


def free_port() -> int:
    """A port nobody listens on."""
    with socket.socket() as own:
        own.bind(("127.0.0.1", 0))
        return own.getsockname()[1]


class Group:
    """Processes as torchrun starts them, forked from this one so that torch is there at once.

    They leave through Python's own exit, as a command does.
    """

    def __init__(self, size: int, words: list[str], log: Path) -> None:
        port, self.pids, self.size = free_port(), [], size
        sys.stdout.flush()
        for rank in range(size):
            pid = os.fork()
            if not pid:
                file = open(f"{log}.{rank}", "a", buffering=1)
                os.dup2(file.fileno(), 1), os.dup2(file.fileno(), 2)
                os.environ |= {
                    "RANK": str(rank),
                    "LOCAL_RANK": str(rank),
                    "WORLD_SIZE": str(size),
                    "MASTER_ADDR": "127.0.0.1",
                    "MASTER_PORT": str(port),
                }
                from trainer_cli.main import main

                main(["train", *words, "--device", "cpu", "--workers", "1"])
            self.pids.append(pid)
        self.codes: dict[int, int] = {}

    def kill(self, rank: int, number: int = signal.SIGKILL) -> None:
        """Send one of them a signal."""
        os.kill(self.pids[rank], number)

    def wait(self) -> list[int]:
        """Exit codes by rank, negative for a signal; what hangs is ended and counts as -99."""
        started = time.monotonic()
        while len(self.codes) < self.size:
            for rank, pid in enumerate(self.pids):
                if rank not in self.codes:
                    ended, status = os.waitpid(pid, os.WNOHANG)
                    if ended:
                        self.codes[rank] = os.waitstatus_to_exitcode(status)
                    elif time.monotonic() - started > LIMIT_S:
                        os.kill(pid, signal.SIGKILL), os.waitpid(pid, 0)
                        self.codes[rank] = -99
            time.sleep(0.005)
        return [self.codes[r] for r in range(self.size)]


def said(log: Path, size: int) -> list[str]:
    """What each of them wrote last."""
    return [Path(f"{log}.{rank}").read_text()[-900:] for rank in range(size)]


def same_batch(study: Path, folder: Path) -> dict[str, Any]:
    """One step of any number of processes, up to the noise inputs: real images, conditions and losses on them
    agree."""
    found = {}
    for size in (1, 2, 4):
        run = folder / f"world{size}"
        codes = Group(
            size,
            [
                str(study),
                "--outdir",
                str(run),
                "--kimg",
                "0.016",
                "--set",
                "batch=16",
                "--set",
                "tick_kimg=0.016",
            ],
            folder / "log",
        ).wait()
        check(codes == [0] * size, f"{size} processes: exits {codes} {said(folder / 'log', size)}")
        row = read_rows(run / "stats.jsonl")[-1]
        found[size] = {k: row[k] for k in ("score/real", "loss/D/cov", "loss/D/r1", "loss/G/cov")}
    for size in (2, 4):
        for key, tolerance in (("score/real", 1e-3), ("loss/D/cov", 1e-3), ("loss/D/r1", 5e-2)):
            one, more = found[1][key], found[size][key]
            check(abs(more - one) <= tolerance * abs(one) + 1e-6, f"{key}: {one} alone, {more} in {size}")
    return {str(size): {k: round(v, 6) for k, v in row.items()} for size, row in found.items()}


def another_size(study: Path, folder: Path) -> dict[str, Any]:
    """Two processes start a run, one goes on, four end it."""
    run, steps = folder / "sizes", []
    for size, kimg in ((2, 0.032), (1, 0.064), (4, 0.096)):
        words = [str(study), "--outdir", str(run), "--kimg", "0.032"] if not steps else ["--resume", str(run)]
        if steps:
            config = json.loads((run / "config.json").read_text())
            config["train"]["total_kimg"] = kimg
            (run / "config.json").write_text(json.dumps(config))
        codes = Group(size, words, folder / "log").wait()
        check(codes == [0] * size, f"going on with {size}: exits {codes} {said(folder / 'log', size)}")
        steps.append(read_header(resolve_snapshot(run)).progress["step"])
    check(steps == [4, 8, 12], f"steps {steps}")
    return {"processes": [2, 1, 4], "steps": steps}


def clean_exits(study: Path, folder: Path, runs: int) -> dict[str, Any]:
    """Two processes, from start to end, again and again: nobody may abort on the way out."""
    wrong = {}
    for number in range(runs):
        run = folder / f"exit{number}"
        codes = Group(2, [str(study), "--outdir", str(run), "--kimg", "0.016"], folder / "log").wait()
        if codes != [0, 0]:
            wrong[number] = {"codes": codes, "said": [t[-300:] for t in said(folder / "log", 2)]}
    check(not wrong, f"{len(wrong)} of {runs} runs did not leave cleanly: {wrong}")
    return {"runs": runs, "aborted": 0}


def lost_rank(study: Path, folder: Path, times: int, rng: random.Random) -> dict[str, Any]:
    """Kill one process of two to four at any moment: the others stop soon and say why; the run goes on."""
    seconds, before = [], 0
    for number in range(times):
        size, run = rng.choice((2, 3, 4)), folder / f"lost{number}"
        for rank in range(4):
            Path(f"{folder / 'log'}.{rank}").write_text("")
        words = [str(study), "--outdir", str(run), "--requeue", "--set", "batch=12", "--set", "mbstd_group=1"]
        victim, group = rng.randrange(size), Group(size, words, folder / "log")
        while not list(run.glob("state/*.pt")):
            time.sleep(0.01)
        time.sleep(rng.uniform(0, 1.5))
        group.kill(victim)
        killed = time.monotonic()
        codes = group.wait()
        if codes[victim] == 0:
            before += 1  # it had finished already
            continue
        seconds.append(time.monotonic() - killed)
        others = [c for r, c in enumerate(codes) if r != victim]
        texts = [t for r, t in enumerate(said(folder / "log", size)) if r != victim]
        check(all(c == 2 for c in others), f"killed rank {victim} of {size}: exits {codes}: {texts}")
        check(all("another process of this run" in t for t in texts), f"no clear message: {texts}")
        check("Traceback" not in "".join(texts), f"a traceback: {texts}")
        check_folder(run)
        codes = Group(size, words, folder / "log").wait()
        check(codes == [0] * size, f"going on after a lost rank: exits {codes}")
    return {
        "killed": len(seconds),
        "had_finished": before,
        "seconds_until_all_stopped": [round(s, 2) for s in seconds],
    }


def elastic(study: Path, folder: Path, sizes: tuple[int, ...]) -> dict[str, Any]:
    """torchrun itself: a worker is killed, torchrun starts all again, the run goes on and ends."""
    found = {}
    for size in sizes:
        run, log = folder / f"elastic{size}", folder / f"torchrun{size}.txt"
        words = [
            "--standalone",
            "--nproc-per-node",
            str(size),
            "--max-restarts",
            "2",
            "-m",
            "trainer_cli",
            "train",
            str(study),
            "--outdir",
            str(run),
            "--requeue",
            "--device",
            "cpu",
            "--workers",
            "1",
            "--set",
            "batch=12",
            "--set",
            "mbstd_group=1",
        ]
        with open(log, "w") as file:
            agent = subprocess.Popen(
                [sys.executable, "-m", "torch.distributed.run", *words], cwd=ROOT, stdout=file, stderr=file
            )
        started = time.monotonic()
        while not (run / "stats.jsonl").exists():
            time.sleep(0.05)
            check(
                time.monotonic() - started < LIMIT_S and agent.poll() is None,
                f"did not start: {log.read_text()[-900:]}",
            )
        psutil.Process(agent.pid).children()[-1].kill()
        killed = time.monotonic()
        code = agent.wait(LIMIT_S)
        check(code == 0, f"torchrun with {size}: exit {code}: {log.read_text()[-1500:]}")
        check(
            "resumed" in (run / "log.txt").read_text() or "started" in (run / "log.txt").read_text(),
            "not restarted",
        )
        check(read_header(resolve_snapshot(run)).progress["step"] == 8, "not at the end")
        found[str(size)] = {"seconds_from_kill_to_end": round(time.monotonic() - killed, 1)}
    return found


def main() -> None:
    """All of it, a line for each."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--runs", type=int, default=20, help="runs of two processes from start to end")
    options.add_argument("--times", type=int, default=6, help="killed processes")
    options.add_argument(
        "--elastic", type=int, nargs="*", default=[2, 4], help="processes of torchrun's restarts"
    )
    options.add_argument("--seed", type=int, default=0)
    options.add_argument("--json", type=Path)
    given = options.parse_args()
    rng, failed = random.Random(given.seed), 0
    figures: dict[str, Any] = {"seed": given.seed}
    folder = Path(tempfile.mkdtemp(prefix="ranks"))  # no context: forked processes leave through here as well
    study = write_blob_study(folder)
    for title, part in {
        "same global batch": lambda: same_batch(study, folder),
        "another number of processes": lambda: another_size(study, folder),
        "lost rank": lambda: lost_rank(study, folder, given.times, rng),
        "elastic restart": lambda: elastic(study, folder, tuple(given.elastic)),
        "clean exits": lambda: clean_exits(study, folder, given.runs),
    }.items():
        started = time.monotonic()
        try:
            figures[title] = part()
            print(f"{title}: {time.monotonic() - started:.0f} s: {json.dumps(figures[title])}", flush=True)
        except Failure as failure:
            failed += 1
            figures[title] = {"FAILED": str(failure)[-2000:]}
            print(f"{title}: FAILED: {failure}", flush=True)
    shutil.rmtree(folder)
    if given.json:
        given.json.write_text(json.dumps(figures, indent=1) + "\n")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
