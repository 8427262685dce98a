"""The C++ kernels by other compilers and for Arm: compiled, run, and checked against plain loops.

    python tests/benchmarks/compilers.py --json docs/results/compilers.json [--shapes 200]

What it needs on Debian: apt install g++ clang g++-aarch64-linux-gnu qemu-user. What is missing is left out
and named. Flags are setup.py's, checks those of tests/ops/native_driver.cpp, without Python. An emulator says
whether results are right, and nothing about speed.
"""

from __future__ import annotations

import argparse
import ast
import json
import platform
import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
SOURCE = ROOT / "mssg/ops/native/src"
FILES = [SOURCE / "kernels.cpp", SOURCE / "threads.cpp", ROOT / "tests/ops/native_driver.cpp"]


def constants(*names: str) -> list[list[str]]:
    """Lists of words that setup.py states, read without running it."""
    body = ast.parse((ROOT / "setup.py").read_text(encoding="utf-8")).body
    stated = {node.targets[0].id: node.value for node in body if isinstance(node, ast.Assign)}
    return [ast.literal_eval(stated[name]) for name in names]


FLAGS, AVX512 = constants("FLAGS", "AVX512")
X86 = {"plain": [], "avx2": ["-mavx2", "-mfma"], "avx512": AVX512}
BUILDS = [
    *(
        ("x86-64", compiler, name, flags, [])
        for compiler in ("g++", "clang++")
        for name, flags in X86.items()
    ),
    ("aarch64", "aarch64-linux-gnu-g++", "plain", ["-static"], ["qemu-aarch64"]),
    ("aarch64", "clang++", "plain", ["--target=aarch64-linux-gnu", "-static"], ["qemu-aarch64"]),
]
"""Processor, compiler, instruction set, its flags, and what runs the program."""


def lacking(compiler: str, variant: str, runner: list[str]) -> str | None:
    """What this machine lacks for a build, if anything."""
    missing = [program for program in (compiler, *runner) if not shutil.which(program)]
    if missing:
        return f"not installed: {', '.join(missing)}"
    if not runner and platform.machine() not in ("x86_64", "AMD64"):
        return "another processor"
    known = Path("/proc/cpuinfo").read_text(encoding="utf-8") if Path("/proc/cpuinfo").exists() else ""
    wanted = {"plain": "", "avx2": "avx2", "avx512": "avx512vl"}[variant]
    return None if wanted in known else f"this processor has no {variant}"


def checked(folder: Path, build: tuple[str, str, str, list[str], list[str]], shapes: int) -> dict[str, Any]:
    """Compile one build with every warning told, run its checks."""
    processor, compiler, variant, flags, runner = build
    row: dict[str, Any] = {"processor": processor, "compiler": compiler, "variant": variant}
    if absent := lacking(compiler, variant, runner):
        return row | {"left_out": absent}
    version = subprocess.run([compiler, "--version"], capture_output=True, text=True, check=True).stdout
    program = folder / f"{processor}-{compiler}-{variant}"
    words = [
        compiler,
        *FLAGS,
        *flags,
        "-Wall",
        "-pthread",
        f"-I{SOURCE}",
        *map(str, FILES),
        "-o",
        str(program),
    ]
    built = subprocess.run(words, capture_output=True, text=True)
    row |= {"version": version.splitlines()[0], "compiled": built.returncode == 0}
    row["warnings"] = sorted(
        {line.split("warning: ")[1] for line in built.stderr.splitlines() if "warning: " in line}
    )
    if built.returncode:
        return row | {"said": built.stderr[-1000:]}
    start = time.perf_counter()
    done = subprocess.run([*runner, str(program), str(shapes)], capture_output=True, text=True)
    row |= {"right": done.returncode == 0, "seconds": round(time.perf_counter() - start, 1)}
    return row | ({} if row["right"] else {"said": (done.stdout + done.stderr)[-1000:]})


def main() -> None:
    """Check every build, print a row each, write the file."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", type=Path, help="where to write")
    parser.add_argument("--shapes", type=int, default=200, help="random shapes for each build (200)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        rows = []
        for build in BUILDS:
            rows.append(checked(Path(folder), build, options.shapes))
            print(json.dumps(rows[-1]), flush=True)
    if options.json:
        document = {"format_version": 1, "shapes": options.shapes, "builds": rows}
        options.json.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    raise SystemExit(any(row.get("right") is False or row.get("compiled") is False for row in rows))


if __name__ == "__main__":
    main()
