"""Broken files for every reader: `python tests/fuzz/fuzz.py --cases 200000 --seed 0 --json OUT`.

Sound inputs are broken at random, again and again; an input that a reader answers in a new way joins the
seeds, so that the damage goes deeper. Only MssgError may come out, within ten seconds and a gigabyte and a
half above the start. Any other end is written to tests/fuzz/regressions, whose files every test run reads
again.
"""

from __future__ import annotations

import argparse
import base64
import collections
import json
import os
import random
import re
import resource
import signal
import sys
import tempfile
import time
import traceback
import warnings
from pathlib import Path
from typing import Any

os.environ["OMP_NUM_THREADS"] = "1"
sys.path.insert(0, str(Path(__file__).parent))

from readers import READERS, ROOT, Input, Reader, place

from mssg.errors import MssgError

REGRESSIONS = Path(__file__).parent / "regressions"
LIMIT_S, LIMIT_BYTES, MOST_SEEDS = 10, 3 * 2**29, 400


class Hang(BaseException):
    """A case took too long."""


def bound() -> None:
    """Memory and time that a case may take."""

    def ring(*_: object) -> None:
        raise Hang

    signal.signal(signal.SIGPROF, ring)
    import scipy.optimize  # noqa: F401
    import torch  # noqa: F401

    pages = int(Path("/proc/self/statm").read_text().split()[0])
    resource.setrlimit(
        resource.RLIMIT_AS, (pages * resource.getpagesize() + LIMIT_BYTES, resource.RLIM_INFINITY)
    )


def outcome(reader: Reader, held: Input, folder: Path) -> tuple[str, str]:
    """("ok" | "refused" | "failed", in what way)."""
    place(held, folder)
    signal.setitimer(signal.ITIMER_PROF, LIMIT_S)  # of this process's own time, however busy the machine
    try:
        reader.read(folder)
    except MssgError as error:
        return "refused", re.sub(r"[\d.]+|'[^']*'|Found.*", "", str(error))[-160:]
    except Hang:
        return "failed", f"hang of {LIMIT_S} s"
    except BaseException as error:
        last = [f for f in traceback.extract_tb(error.__traceback__) if str(ROOT) in f.filename][-1:]
        where = f"{Path(last[0].filename).name}:{last[0].name}" if last else "?"
        return "failed", f"{type(error).__name__} in {where}: {str(error)[:120]}"
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
    return "ok", ""


def keep(reader: Reader, held: Input, why: str) -> Path:
    """Write a case that failed, named by what came of it."""
    label = re.sub(r"\W+", "-", why.split(":")[0] + why.split(":")[1][:20] if ":" in why else why)[:60].strip(
        "-"
    )
    path = REGRESSIONS / f"{reader.name}--{label}.json"
    path.write_text(json.dumps({name: base64.b64encode(data).decode() for name, data in held.items()}) + "\n")
    return path


def load(path: Path) -> tuple[Reader, Input]:
    """A kept case."""
    (reader,) = [r for r in READERS if r.name == path.name.split("--")[0]]
    return reader, {n: base64.b64decode(d) for n, d in json.loads(path.read_text()).items()}


def storm(reader: Reader, cases: int, seed: int, folder: Path, write: bool = True) -> dict[str, Any]:
    """Break a reader's inputs `cases` times.

    Returns:
        Counts, ways in which it answered, and what failed.
    """
    rng, started = random.Random(f"{seed}-{reader.name}"), time.monotonic()
    os.chdir(folder)
    pool = reader.seeds()
    sound = len(pool)
    counts: collections.Counter[str] = collections.Counter()
    ways: set[str] = set()
    failed: dict[str, str] = {}
    for number in range(cases):
        held = (
            pool[number]
            if number < sound
            else reader.change(rng.choice(pool[:sound] if rng.random() < 0.5 else pool), rng)
        )
        end, why = outcome(reader, held, folder)
        counts[end] += 1
        if end == "failed":
            name = re.sub(r"\d+", "", why)
            if name not in failed:
                failed[name] = why
                if write:
                    keep(reader, held, why)
        elif why not in ways:
            ways.add(why)
            if len(pool) < MOST_SEEDS and sum(map(len, held.values())) < 10**6:
                pool.append(held)
    return {
        "cases": cases,
        **counts,
        "ways": len(ways),
        "seconds": round(time.monotonic() - started, 1),
        "failures": sorted(failed.values()),
    }


def replay(folder: Path) -> list[str]:
    """Read every kept case again; what still fails."""
    failed = []
    for path in sorted(REGRESSIONS.glob("*.json")):
        end, why = outcome(*load(path), folder)
        if end == "failed":
            failed.append(f"{path.name}: {why}")
            print("FAILED", failed[-1], flush=True)
    for rest in folder.iterdir():
        rest.unlink()
    return failed


def coverage(reader: Reader, seed: int, folder: Path, cases: int = 400) -> dict[str, str]:
    """Lines of the reader's modules that so many cases run, of those inside functions."""
    hit: dict[str, set[int]] = collections.defaultdict(set)
    wanted = {str((ROOT / "mssg" / m).resolve()) for m in reader.modules}

    def lines(frame, event, _):
        hit[frame.f_code.co_filename].add(frame.f_lineno)
        return lines

    def calls(frame, event, _):
        return lines(frame, event, _) if frame.f_code.co_filename in wanted else None

    sys.settrace(calls)
    try:
        storm(reader, cases, seed, folder, write=False)
    finally:
        sys.settrace(None)
    found = {}
    for file in sorted(wanted):
        inside = _function_lines(compile(Path(file).read_text(), file, "exec"), top=True)
        share = len(hit[file] & inside) / max(1, len(inside))
        found[str(Path(file).relative_to(ROOT))] = f"{share:.0%}"
    return found


def _function_lines(code: Any, top: bool) -> set[int]:
    own = set() if top else {line for *_, line in code.co_lines() if line}
    for part in code.co_consts:
        if hasattr(part, "co_lines"):
            own |= _function_lines(part, top and "<" not in part.co_name and part.co_flags & 0x2 == 0)
    return own


def main() -> None:
    """Run the storm over all readers; exit 1 if anything but MssgError came out."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--cases", type=int, default=200_000, help="over all readers")
    options.add_argument("--seed", type=int, default=0)
    options.add_argument("--only", help="one reader")
    options.add_argument("--regressions", action="store_true", help="first read every kept case again")
    options.add_argument(
        "--coverage", action="store_true", help="also measure which lines of the readers are run"
    )
    options.add_argument("--json", type=Path, help="write the figures here")
    given = options.parse_args()
    warnings.simplefilter("ignore")
    chosen = [r for r in READERS if given.only in (None, r.name)]
    total = sum(r.weight for r in chosen)
    figures: dict[str, Any] = {"seed": given.seed, "readers": {}}
    with tempfile.TemporaryDirectory(prefix="fuzz") as folder:
        bound()
        figures["kept"] = replay(Path(folder)) if given.regressions else []
        for reader in chosen:
            place_ = Path(folder) / reader.name
            place_.mkdir()
            found = storm(reader, -(-int(given.cases * reader.weight) // int(total)), given.seed, place_)
            figures["readers"][reader.name] = found
            print(
                f"{reader.name}: {json.dumps({k: v for k, v in found.items() if k != 'failures'})}",
                flush=True,
            )
            for failure in found["failures"]:
                print(f"    FAILED {failure}", flush=True)
            if given.coverage and reader.modules:
                found["lines"] = coverage(reader, given.seed, place_)
                print(f"    lines run: {found['lines']}", flush=True)
        os.chdir(ROOT)
    figures["cases"] = sum(r["cases"] for r in figures["readers"].values())
    figures["failed"] = len(figures["kept"]) + sum(r.get("failed", 0) for r in figures["readers"].values())
    figures["peak_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    print(f"{figures['cases']} cases, {figures['failed']} failed, peak memory {figures['peak_mb']} MB")
    if given.json:
        given.json.write_text(json.dumps(figures, indent=1) + "\n")
    sys.exit(1 if figures["failed"] else 0)


if __name__ == "__main__":
    main()
