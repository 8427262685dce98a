"""How long an evaluation takes: 10,000 digits with the offline features, its growth with n, and neighbours
among 20,000 rows.

    python tests/benchmarks/evaluation_speed.py digits --study data/digits/study.toml --json
    docs/results/evaluation-speed.json

Parts: digits (features of 10,000 generated and of all real test images, FID, KID, precision …, from nothing),
    linear (twice and four times
as many generated images; real ones already read), neighbours. Each is a process of its own, so that its peak
of memory is its own.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

NEIGHBOURS = """
import numpy as np
from mssg.metrics.manifold import density_coverage
from mssg.metrics.neighbours import nearest
rng = np.random.default_rng(0)
base = rng.standard_normal((40, 1280), dtype=np.float32) / 6
def features(shift):
    signal = (rng.standard_normal((20_000, 40), dtype=np.float32) + shift) @ base
    return np.maximum(signal + 0.1 * rng.standard_normal((20_000, 1280), dtype=np.float32), 0)
sets = [features(0), features(0.1)]
print(density_coverage(*sets), nearest(*sets).distance.mean())
"""


def timed(command: list[str]) -> dict[str, float]:
    """Seconds on the clock and of all cores, and the largest memory of a process, of a command that must
    succeed."""
    start, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        output, _ = process.communicate()
    if process.returncode:
        raise SystemExit(output)
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = used.ru_utime + used.ru_stime - before.ru_utime - before.ru_stime
    return {
        "seconds": round(time.perf_counter() - start, 1),
        "cpu_seconds": round(cpu, 1),
        "peak_gb": round(used.ru_maxrss / 2**20, 2),
    }


def evaluation(study: str, folder: Path, images: int, metrics: str) -> dict[str, float]:
    """One `mssg evaluate` of the shipped digit model; its cache is in `folder`."""
    command = [
        sys.executable,
        "-m",
        "trainer_cli",
        "evaluate",
        "digits",
        "--study",
        study,
        "--metrics",
        metrics,
        "--images",
        str(images),
    ]
    return timed([*command, "--cache", str(folder / "cache"), "-o", str(folder / "eval.json")])


def main() -> None:
    """Measure one part and add it to the JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("part", choices=("digits", "linear", "neighbours"))
    parser.add_argument("--study", help="prepared digits; needed for digits and linear")
    parser.add_argument("--json", required=True)
    arguments = parser.parse_args()
    path = Path(arguments.json)
    found: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as folder:
        if arguments.part == "neighbours":
            part: Any = timed([sys.executable, "-c", NEIGHBOURS])
        elif arguments.part == "digits":
            part = evaluation(arguments.study, Path(folder), 10_000, "fid,kid,prdc,is")
        else:
            evaluation(arguments.study, Path(folder), 10, "overall")  # real images are read once
            part = {
                str(n): evaluation(arguments.study, Path(folder), n, "overall") for n in (2500, 5000, 10_000)
            }
    found[arguments.part] = {
        "measured": part,
        "load_before": round(load, 1),
        "cores": len(os.sched_getaffinity(0)),
    }
    path.write_text(json.dumps(found, indent=1) + "\n")
    print(json.dumps({arguments.part: found[arguments.part]}, indent=1))


if __name__ == "__main__":
    main()
