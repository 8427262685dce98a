"""The table of docs/results/digits.md: five ways to train on the same digits, equal images, several seeds.

    python tests/benchmarks/results_table.py --data DIR --out DIR [--kimg 120] [--seeds 3] [--jobs 2]

DIR of --data is what `mssg prepare digits --mnist PATH --out DIR` made. Every model is asked for the same
conditions, drawn from the covariate models of the two-source study; a model without an input for a covariate
ignores it. Interrupted, it continues where it was. The result is DIR/table.json and DIR/table.md.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path

import numpy as np

ARMS = {
    "multi-source, observed": ("study.toml", "observed"),
    "multi-source, completed": ("study.toml", "completed"),
    "source A only": ("study-a-only.toml", "observed"),
    "source B only": ("study-b-only.toml", "observed"),
    "fully observed": ("study-all.toml", "observed"),
}
SHARED = ("thickness", "digit")
COLUMNS = (
    ("r thickness", "a", "thickness", "r"),
    ("partial r intensity", "b", "intensity", "partial_r"),
    ("partial r slant", "b", "slant", "partial_r"),
    ("slope intensity", "b", "intensity", "slope"),
    ("slope slant", "b", "slant", "slope"),
    ("MAE px", "a", "thickness", "mae"),
    ("MAE levels", "a", "intensity", "mae"),
    ("MAE °", "a", "slant", "mae"),
    ("bias levels", "a", "intensity", "bias"),
)


def train(data: Path, out: Path, arm: str, seed: int, kimg: float, extra: list[str]) -> Path:
    """Train one model, or continue it; its log goes beside the run."""
    study, target = ARMS[arm]
    run = out / f"{arm.replace(', ', '-').replace(' ', '-')}-{seed}"
    if (run / "config.json").exists() and finished(run, kimg):
        return run
    base = [sys.executable, "-m", "trainer_cli", "train", "--device", "cpu", "--workers", "1"]
    fresh = [
        str(data / study),
        "--outdir",
        str(run),
        "--kimg",
        str(kimg),
        "--seed",
        str(seed),
        "--covariate-target",
        target,
        "--metrics",
        "none",
        *extra,
    ]
    command = [*base, "--resume", str(run)] if (run / "config.json").exists() else [*base, *fresh]
    with open(out / f"{run.name}.log", "a", encoding="utf-8") as log:
        subprocess.run(command, check=True, stdout=log, stderr=log, env=os.environ | {"OMP_NUM_THREADS": "1"})
    return run


def finished(run: Path, kimg: float) -> bool:
    """Whether a run has reached its length."""
    from mssg.checkpoint.header import read_header, resolve_snapshot
    from mssg.errors import MssgError

    try:
        return read_header(resolve_snapshot(run)).progress["kimg"] >= kimg
    except MssgError:
        return False


def evaluate(run: Path, reference: Path, data: Path, n: int) -> dict[str, float]:
    """The numbers of one model: requests come from the reference run's covariate models."""
    import torch

    import mssg
    from mssg.data.dataset import open_sources
    from mssg.measure.instruments import instrument
    from mssg.metrics.control import control
    from mssg.metrics.sampling import generator_of

    torch.set_num_threads(1)
    whole, model = mssg.load_snapshot(reference), mssg.load_snapshot(run)
    columns = [whole.study.index(name) for name in model.study.condition_names]
    own = generator_of(model.G, model.study, "cpu")
    sources = open_sources(mssg.load_study(data / "study.toml"))
    report = control(
        lambda values, seed: own(values[:, columns], seed),
        whole.study,
        whole.models,
        instrument(whole.study.instrument).measure,
        n=n,
        seed=1000,
        sources=sources,
        designs=("a", "b", "shuffled"),
        shared=SHARED,
    )
    numbers = {title: getattr(report.row(design, name), field) for title, design, name, field in COLUMNS}
    for name in ("intensity", "slant"):
        row = report.row("a", name)
        numbers[f"MAE/sd {name}"] = row.mae / row.requested_sd
    numbers["spread"] = next(s.ratio for s in report.spread if s.level == "all")
    return numbers


def table(results: dict[str, list[dict[str, float]]]) -> str:
    """Markdown: mean ± standard deviation over seeds."""
    titles = list(next(iter(results.values()))[0])
    lines = ["| model | " + " | ".join(titles) + " |", "|---" * (len(titles) + 1) + "|"]
    for arm, runs in results.items():
        cells = []
        for title in titles:
            values = np.array([r[title] for r in runs])
            digits = 1 if np.abs(values).max() >= 3 else 2
            cells.append(
                f"{values.mean():.{digits}f} ± {values.std(ddof=1):.{digits}f}"
                if len(runs) > 1
                else f"{values[0]:.{digits}f}"
            )
        lines.append(f"| {arm} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Train and evaluate every arm and seed, then write the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--kimg", type=float, default=120.0)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--images", type=int, default=2000)
    options, extra = parser.parse_known_args()
    options.out.mkdir(parents=True, exist_ok=True)
    jobs = [(arm, seed) for seed in range(options.seeds) for arm in ARMS]
    with ThreadPoolExecutor(options.jobs) as pool:
        runs = dict(
            zip(jobs, pool.map(lambda job: train(options.data, options.out, *job, options.kimg, extra), jobs))
        )
    reference = runs[("multi-source, observed", 0)]
    with ProcessPoolExecutor(options.jobs, multiprocessing.get_context("spawn")) as pool:
        waiting = {
            job: pool.submit(evaluate, runs[job], reference, options.data, options.images) for job in jobs
        }
        results = {arm: [waiting[(arm, seed)].result() for seed in range(options.seeds)] for arm in ARMS}
    (options.out / "table.json").write_text(
        json.dumps({"kimg": options.kimg, "options": extra, "results": results}, indent=1) + "\n",
        encoding="utf-8",
    )
    (options.out / "table.md").write_text(table(results), encoding="utf-8")
    print(table(results))


if __name__ == "__main__":
    main()
