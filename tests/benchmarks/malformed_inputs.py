"""A thousand malformed inputs: none crashes, each has its reason, and everything good beside them is
prepared.

    python tests/benchmarks/malformed_inputs.py --out docs/results/malformed.json [--inputs 1000] [--seed 0]

About five minutes on a busy core. Exits with 1 where an input was not treated as it must be.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.data import malformed

BATCH = 20
"""Spoiled images in one table."""


def main() -> None:
    """Run the batches and write what happened."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--inputs", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    start, counts, wrong = time.monotonic(), Counter[str](), list[str]()

    def attempt(what: str, run: Callable[[Path], list[str]]) -> None:
        folder = Path(tempfile.mkdtemp(prefix="malformed-"))
        try:
            wrong.extend(run(folder))
        except Exception:
            wrong.append(f"{what}: crashed: {traceback.format_exc(limit=-3)}")
        finally:
            shutil.rmtree(folder)

    number = 0
    while counts.total() < args.inputs:
        rng = np.random.default_rng([args.seed, number])
        whole = [*malformed.TABLES, *malformed.LINES]
        kind = whole[number % len(whole)]
        check = malformed.check_table if kind in malformed.TABLES else malformed.check_lines
        attempt(kind, lambda folder: check(folder, rng, kind))  # noqa: B023
        counts[kind] += 1
        size = min(BATCH, args.inputs - counts.total())
        kinds = [str(k) for k in rng.choice(list(malformed.SPOILS), size, replace=False)]
        if kinds:
            attempt(", ".join(kinds), lambda folder: malformed.check(folder, rng, kinds))  # noqa: B023
        counts.update(kinds)
        number += 1
        print(
            f"{counts.total()} of {args.inputs}, {len(wrong)} wrong, {time.monotonic() - start:.0f} s",
            flush=True,
        )
    document = {
        "command": f"python tests/benchmarks/malformed_inputs.py --inputs {args.inputs} --seed {args.seed}",
        "inputs": counts.total(),
        "kinds": dict(sorted(counts.items())),
        "good_images_beside_them": malformed.GOOD,
        "not_as_they_must_be": wrong,
    }
    args.out.write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
