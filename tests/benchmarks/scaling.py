"""How much faster two processes train than one: `python tests/benchmarks/scaling.py --json
docs/results/scaling.json`.

Seconds per thousand images of the `cpu-demo` networks on digits, the median of the last ticks, alternating so
that a change of the machine's load meets every way alike. Wants two quiet cores and about three minutes.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
WAYS = {"1 process, 1 thread": (1, 1), "1 process, 2 threads": (1, 2), "2 processes, 1 thread each": (2, 1)}


def seconds_per_kimg(study: Path, run: Path, processes: int, threads: int, kimg: float) -> list[float]:
    """Train once; what every tick but the first took."""
    launch = (
        ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
        if processes > 1
        else []
    )
    words = [
        *launch,
        "-m",
        "trainer_cli",
        "train",
        str(study),
        "--outdir",
        str(run),
        "--preset",
        "cpu-demo",
        "--kimg",
        str(kimg),
        "--device",
        "cpu",
        "--workers",
        str(threads),
        "--metrics",
        "none",
        "--set",
        "tick_kimg=0.16",
    ]
    environment = os.environ | {"OMP_NUM_THREADS": str(threads)}
    subprocess.run([sys.executable, *words], cwd=ROOT, env=environment, check=True, capture_output=True)
    rows = [json.loads(line) for line in (run / "stats.jsonl").read_text().splitlines()]
    return [row["sec_per_kimg"] for row in rows[1:]]


def main() -> None:
    """Measure, print, write."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--kimg", type=float, default=0.8, help="length of each run")
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("--json", type=Path)
    given = options.parse_args()
    times: dict[str, list[float]] = {way: [] for way in WAYS}
    with tempfile.TemporaryDirectory(prefix="scaling") as name:
        folder = Path(name)
        words = [
            sys.executable,
            "-m",
            "trainer_cli",
            "prepare",
            "digits",
            "--limit",
            "300",
            "--out",
            str(folder / "digits"),
        ]
        subprocess.run(words, cwd=ROOT, check=True, capture_output=True)
        for number in range(given.rounds):
            for way, (processes, threads) in WAYS.items():
                run = folder / f"{number}-{processes}-{threads}"
                times[way] += seconds_per_kimg(
                    folder / "digits" / "study.toml", run, processes, threads, given.kimg
                )
    figures = {
        way: {"sec_per_kimg": round(statistics.median(t), 2), "ticks": len(t)} for way, t in times.items()
    }
    alone = figures["1 process, 1 thread"]["sec_per_kimg"]
    for way, (processes, threads) in WAYS.items():
        figures[way]["efficiency"] = round(alone / figures[way]["sec_per_kimg"] / (processes * threads), 3)
        print(f"{way}: {figures[way]['sec_per_kimg']} s/kimg, efficiency {figures[way]['efficiency']:.0%}")
    if given.json:
        given.json.write_text(json.dumps({"cpus": os.cpu_count(), **figures}, indent=1) + "\n")


if __name__ == "__main__":
    main()
