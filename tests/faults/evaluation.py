"""An evaluation over two processes, and one killed again and again: the same eval.json as one process
undisturbed.

    python tests/faults/evaluation.py --study data/digits/study.toml --kills 5

Real processes: torchrun with two ranks over gloo; SIGKILL at random moments, the same command again until it
    ends. Everything in the files is
compared, to the last digit, but for the command.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ASKED = (
    "--metrics overall,strata,control,leakage --by thickness,slant --images 1000 --per-stratum 30"
    " --control-images 250 --leakage-images 100"
)


def command(study: str, folder: Path, launcher: list[str]) -> list[str]:
    """An evaluation with a cache of its own, so that nothing is taken over from another."""
    words = [*launcher, "-m", "trainer_cli", "evaluate", "digits", "--study", study, *ASKED.split()]
    return [*words, "--cache", str(folder / "cache"), "-o", str(folder / "eval.json")]


def document(folder: Path) -> dict[str, object]:
    """What was written, but for the command."""
    return {k: v for k, v in json.loads((folder / "eval.json").read_text()).items() if k != "command"}


def run(words: list[str], seconds: float | None = None) -> bool:
    """Run to the end, or kill the whole group after some seconds; whether it ended."""
    process = subprocess.Popen(
        words, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    try:
        _, errors = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        return False
    if process.returncode:
        raise SystemExit(errors)
    return True


def main() -> None:
    """Three evaluations, compared."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--study", required=True)
    parser.add_argument("--kills", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    rng = random.Random(arguments.seed)
    with tempfile.TemporaryDirectory() as base:
        alone, ranks, killed = (Path(base) / name for name in ("alone", "ranks", "killed"))
        for folder in (alone, ranks, killed):
            folder.mkdir()
        start = time.perf_counter()
        run(command(arguments.study, alone, [sys.executable]))
        whole = time.perf_counter() - start
        print(f"one process: {whole:.0f} s")
        start = time.perf_counter()
        run(
            command(
                arguments.study,
                ranks,
                [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"],
            )
        )
        print(
            f"two processes: {time.perf_counter() - start:.0f} s,"
            f" {'the same' if document(ranks) == document(alone) else 'ANOTHER'} result"
        )
        moments = sorted(rng.uniform(0.1, 0.95) * whole for _ in range(arguments.kills))
        ended = [run(command(arguments.study, killed, [sys.executable]), moment) for moment in moments]
        run(command(arguments.study, killed, [sys.executable]))
        print(
            f"killed {ended.count(False)} times:"
            f" {'the same' if document(killed) == document(alone) else 'ANOTHER'} result"
        )
        left = [p.name for folder in (alone, ranks, killed) for p in folder.glob("*.parts")]
        if not document(alone) == document(ranks) == document(killed) or left:
            raise SystemExit(f"results differ, or parts are left: {left}")


if __name__ == "__main__":
    main()
