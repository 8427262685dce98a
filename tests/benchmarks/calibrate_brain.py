"""Calibrate the brain oracle on phantoms and write assets/brain/oracle.json.

mssg prepare phantom --out data/brain --workers 2
python tests/benchmarks/calibrate_brain.py data/brain

Uses training and validation subjects only; half of those calibrate, half are judged.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
from calibrating import calibrate

from mssg import assets, load_study
from mssg.data.dataset import open_sources
from mssg.measure import brain

MOST = 3000
"""Phantoms of each scanner."""


def main(folder: Path) -> None:
    """Calibrate on `all` (scanner 1) and `b2` (scanner 2) of a prepared folder."""
    scanners = []
    for study, name in (("study-all.toml", "all"), ("study-scanners.toml", "scanner2")):
        source = next(s for s in open_sources(load_study(folder / study)) if s.name == name)
        rows = np.flatnonzero(source.split != "test")[:MOST]
        truth = {c: source.table[c][rows].astype(float) for c in brain.COVARIATES}
        scanners.append(calibrate(brain.features(source.images[rows]), truth, brain.FEATURES))
        print(name, f"contrast {scanners[-1]['contrast']:.3f}")
        for covariate, error in scanners[-1]["error_on_phantoms"].items():
            print(f"  {covariate:<12}", "  ".join(f"{k} {v:.3g}" for k, v in error.items()))
    assets.path(brain.CALIBRATION).write_text(json.dumps({"scanners": scanners}, indent=1) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
