"""Seconds per thousand training images beside other busy processes, by number of threads and way of waiting.

    python tests/benchmarks/shared_machine.py [--quick] [--out FILE.json]

People train on laptops and on machines that they share. For none, one and two busy processes, StyleGAN2 is
trained with one thread and with as many as there are cores, where waiting threads spin (OpenMP's default) and
where they sleep (what every entry point of ours asks for). Each candidate lives in a process of its own; they
take turns phase by phase, so that whatever else the machine does meets all of them. Exit status 1 where our
default, all cores and sleeping threads, takes more than LIMIT times as long as the best candidate.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from mssg.processes import PASSIVE_WAITING

LIMIT = 1.5
CASE = "StyleGAN2 64²"
WAITING = {"spins": {}, "sleeps": PASSIVE_WAITING}
Candidate = tuple[int, str]


def serve(threads: int) -> None:
    """Run the phases named on standard input, and answer each with the seconds it took."""
    import torch
    from training_speed import CASES, ours

    from mssg.ops.functional import keep_freed_memory

    torch.set_num_threads(threads)
    torch.manual_seed(0)
    keep_freed_memory()
    phases = ours(*CASES[CASE][:4])
    print(*phases, sep="|", flush=True)
    for line in sys.stdin:
        start = time.perf_counter()
        phases[line.strip()]()
        print(time.perf_counter() - start, flush=True)


@contextmanager
def trainer(threads: int, waiting: str) -> Iterator[subprocess.Popen[str]]:
    """A process that serves one candidate's phases."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("OMP_", "KMP_", "GOMP_"))}
    words = [sys.executable, __file__, "--serve", str(threads)]
    environment |= WAITING[waiting]
    pipe = subprocess.PIPE
    with subprocess.Popen(words, env=environment, stdin=pipe, stdout=pipe, text=True, bufsize=1) as process:
        yield process
        process.stdin.close()


@contextmanager
def busy(number: int) -> Iterator[None]:
    """Processes that each use a core, as somebody else's do."""
    loop = "import os\nparent = os.getppid()\nwhile os.getppid() == parent: pass"
    processes = [subprocess.Popen([sys.executable, "-c", loop]) for _ in range(number)]
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()


def measure(others: int, candidates: list[Candidate], turns: int) -> dict[Candidate, float]:
    """Every candidate's seconds per kimg beside so many busy processes, from the means of its phases."""
    from training_speed import BATCH, SHARE

    seconds: dict[Candidate, dict[str, list[float]]] = {c: {} for c in candidates}
    with ExitStack() as stack:
        lines = {c: stack.enter_context(trainer(*c)) for c in candidates}
        names = [p.stdout.readline().strip().split("|") for p in lines.values()].pop()
        stack.enter_context(busy(others))
        for turn in range(turns + 1):
            for phase in names:
                for candidate, process in lines.items():
                    process.stdin.write(phase + "\n")
                    taken = float(process.stdout.readline())
                    if turn:  # the first turn warms up
                        seconds[candidate].setdefault(phase, []).append(taken)
    return {
        c: sum(SHARE[p] * statistics.fmean(t) for p, t in phases.items()) * 1000 / BATCH
        for c, phases in seconds.items()
    }


def report(others: int, found: dict[Candidate, float], cores: int) -> dict[str, object]:
    """Print one table and return it for the file."""
    best = min(found.values())
    ratio = found[cores, "sleeps"] / best
    print(f"beside {others} busy processes: ours {ratio:.2f} times the best", flush=True)
    for (threads, waiting), kimg in found.items():
        print(
            f"    {threads} threads, waiting {waiting:6s} {kimg:8.1f} s/kimg  {kimg / best:5.2f}", flush=True
        )
    rows = [{"threads": t, "waiting": w, "s_per_kimg": kimg} for (t, w), kimg in found.items()]
    return {"busy": others, "ours_over_best": ratio, "candidates": rows}


def main() -> int:
    """Measure, print, write; returns the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--serve", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--quick", action="store_true", help="two turns instead of eight")
    parser.add_argument("--busy", type=int, nargs="+", default=[0, 1, 2], help="numbers of busy processes")
    parser.add_argument("--out", type=Path, help="write the figures here as JSON")
    arguments = parser.parse_args()
    if arguments.serve:
        serve(arguments.serve)
        return 0
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 2
    candidates = [(threads, waiting) for threads in (1, cores) for waiting in WAITING]
    turns = 2 if arguments.quick else 8
    results = [report(n, measure(n, candidates, turns), cores) for n in arguments.busy]
    if arguments.out:
        about = {"command": " ".join(["python", *sys.argv]), "case": CASE, "cores": cores, "limit": LIMIT}
        arguments.out.write_text(json.dumps(about | {"results": results}, indent=1) + "\n")
    return int(any(r["ours_over_best"] > LIMIT for r in results))


if __name__ == "__main__":
    sys.exit(main())
