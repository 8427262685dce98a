"""Calibrate the fundus oracle on phantoms and write assets/fundus/oracle.json.

mssg prepare phantom --organ eye --subjects 2400 --out data/eyes --workers 2
python tests/benchmarks/calibrate_fundus.py data/eyes

Uses training and validation people only; half of those calibrate, half are judged.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
from calibrating import calibrate

from mssg import assets
from mssg.data.dataset import IMAGES, TABLE
from mssg.data.recipes.eye_phantom import COVARIATES
from mssg.data.table import read_table
from mssg.measure import fundus


def main(folder: Path) -> None:
    """Calibrate on `all` (camera 1) and `b2` (camera 2) of a prepared folder."""
    cameras = []
    for name in ("all", "b2"):
        table = read_table(folder / name / TABLE)
        rows = np.flatnonzero(np.array(table["split"]) != "test")
        truth = {}
        for covariate in fundus.COVARIATES:
            levels = COVARIATES.get(covariate, {}).get("levels", ())
            cells = [levels.index(v) if v in levels else float(v) for v in table[covariate]]
            truth[covariate] = np.array(cells, float)[rows]
        images = np.load(folder / name / IMAGES, mmap_mode="r")[rows]
        found, names = fundus.features(images), fundus.FEATURES
        cameras.append(calibrate(found, truth, names, levels=fundus.LEVELS, within=fundus.WITHIN))
        print(name, f"contrast {cameras[-1]['contrast']:.3f}")
        for covariate, error in cameras[-1]["error_on_phantoms"].items():
            print(f"  {covariate:<16}", "  ".join(f"{k} {v:.3g}" for k, v in error.items()))
    assets.path(fundus.CALIBRATION).write_text(json.dumps({"scanners": cameras}, indent=1) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
