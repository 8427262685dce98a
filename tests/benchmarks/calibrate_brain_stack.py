"""Calibrate the oracle of whole brains on phantoms and write assets/brain/oracle-stack.json.

mssg prepare phantom --subjects 80 --seed 77 --at -105mm:75mm:3mm --out data/stacks
python tests/benchmarks/calibrate_brain_stack.py data/stacks

Every second head calibrates, the others are judged.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
from calibrating import calibrate

from mssg import assets, load_study
from mssg.data.dataset import PackedSource, open_sources
from mssg.data.plane import stored
from mssg.measure import brain_stack

FIRST, LAST, STEP = -105.0, 75.0, 3.0


def heads(source: PackedSource) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Whole heads uint8 [N, X, Y, Z] of a source of coronal slices, and their truth."""
    place = source.table["position_mm"].astype(float)
    side, count = source.images.shape[-1], round((LAST - FIRST) / STEP) + 1
    people = list(dict.fromkeys(source.subjects))
    out = np.zeros((len(people), side, count, side), np.uint8)
    rows = []
    for head, person in zip(out, people):
        mine = np.flatnonzero(source.subjects == person)
        for row in mine:
            head[:, [round((place[row] - FIRST) / STEP)]] = stored(source.images[row, 0], "coronal")
        rows.append(mine[0])
    return out, {c: source.table[c][rows].astype(float) for c in brain_stack.COVARIATES}


def main(folder: Path) -> None:
    """Calibrate on `all` (scanner 1) and `b2` (scanner 2) of a prepared folder."""
    scanners = []
    for file, name in (("study-all.toml", "all"), ("study-scanners.toml", "scanner2")):
        study = load_study(folder / file)
        assert study.geometry
        pixel = study.geometry.pixel_mm
        source = next(s for s in open_sources(study) if s.name == name)
        volumes, truth = heads(source)
        found = brain_stack.features(volumes, (pixel, STEP, pixel))
        scanners.append(calibrate(found, truth, brain_stack.FEATURES))
        print(name, f"contrast {scanners[-1]['contrast']:.3f}")
        for covariate, error in scanners[-1]["error_on_phantoms"].items():
            print(f"  {covariate:<12}", "  ".join(f"{k} {v:.3g}" for k, v in error.items()))
    path = assets.path("brain/oracle.json").with_name("oracle-stack.json")
    path.write_text(json.dumps({"scanners": scanners}, indent=1) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
