"""Harmonising judged on paired phantoms: the same heads on two scanners, people that no model has seen.

    python tests/benchmarks/harmonise.py --data DATA/brain --out docs/results/harmonise.json

DATA/brain is what `mssg prepare phantom` writes. ComBat is neuroCombat's (pip install neuroCombat pandas).
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mssg.checkpoint.snapshot import Snapshot, load_snapshot
from mssg.data.dataset import PackedSource
from mssg.errors import DataError
from mssg.files import write_json
from mssg.inversion.projector import InvertConfig
from mssg.measure import brain
from mssg.metrics.bootstrap import mean_and_interval
from mssg.synthetic.harmonised import harmonise, open_pictures

FITTED = 500
"""Training pictures of each scanner that the other methods and the classifier are fitted to."""
RIDGE = 1e5
VOLUMES = ("ventricle", "grey_matter")
Images = NDArray[np.float64]  # [N, R, R], grey levels 0 to 255


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--snapshot", default="brain-scanners")
    parser.add_argument("--first", type=int, default=24, help="test people before this one chose the method")
    parser.add_argument("--people", type=int, default=48)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    snapshot, start = load_snapshot(options.snapshot), time.monotonic()
    found = compared(snapshot, options.data, options.first, options.people, options.steps)
    found |= {"seconds": round(time.monotonic() - start), "steps": options.steps}
    write_json(options.out, found, DataError)
    for name, row in found["methods"].items():
        print(f"{name:12}", {k: np.round(v, 3).tolist() for k, v in row.items()})


def compared(snapshot: Snapshot, data: Path, first: int, people: int, steps: int) -> dict[str, Any]:
    """Every method's error against the other scanner's picture, and what it does to scanner and volumes."""
    pictures = open_pictures(data / "b2", snapshot, "scanner1", "scanner2", "test")
    pictures = replace(pictures, rows=pictures.rows[first : first + people])
    other = open_pictures(data / "a", snapshot, "scanner2", "scanner1", "train")
    truth = np.load(data / "b/images.npy", mmap_mode="r")[pictures.rows, 0].astype(float)
    taken = grey(pictures.packed, pictures.rows)
    fitted = {
        "scanner1": grey(other.packed, other.rows[:FITTED]),
        "scanner2": grey(pictures.packed, pictures.packed.rows("train")[:FITTED]),
    }
    config = InvertConfig(steps=steps)
    ours = np.stack([done.image[0] for done in harmonise(snapshot, pictures, config)]).astype(float)
    made = {
        "nothing": taken,
        "histogram": with_mean_histogram(taken, fitted["scanner1"]),
        "combat": with_combat(taken, fitted),
        "mssg": np.rint(ours),
        "truth": truth,
    }
    is_second = classifier(fitted)
    volumes = brain.measure(truth[:, None].astype(np.uint8))
    return {
        "snapshot": snapshot.header.snapshot_id,
        "people": len(taken),
        "methods": {
            name: {
                "mean_absolute_error": with_interval(np.abs(images - truth).mean((1, 2))),
                "root_mean_squared_error": with_interval(np.sqrt(np.square(images - truth).mean((1, 2)))),
                "called_scanner2": with_interval(is_second(images).astype(float)),
                **{
                    f"{volume}_off_ml": with_interval(np.abs(read[volume] - volumes[volume]))
                    for read in [brain.measure(np.clip(np.rint(images), 0, 255).astype(np.uint8)[:, None])]
                    for volume in VOLUMES
                },
            }
            for name, images in made.items()
        },
    }


def grey(packed: PackedSource, rows: NDArray[np.int64]) -> Images:
    """Pictures of a source."""
    return np.asarray(packed.images[rows])[:, 0].astype(float)


def with_interval(values: NDArray[np.float64]) -> list[float]:
    """Mean over people, and its 95 % interval."""
    mean, interval, _ = mean_and_interval(values, np.random.default_rng(0))
    assert mean is not None and interval is not None
    return [mean, *interval]


def with_mean_histogram(images: Images, target: Images) -> Images:
    """Each picture with the sorted grey levels that the target's pictures have on average."""
    levels = np.sort(target.reshape(len(target), -1), 1).mean(0)
    out = np.empty(images.shape)
    for image, new in zip(images, out):
        new.ravel()[np.argsort(image.ravel(), kind="stable")] = levels
    return out


def with_combat(images: Images, fitted: dict[str, Images]) -> Images:
    """ComBat of every pixel (Johnson et al. 2007; Fortin et al. 2018), fitted to training pictures, scanner 1
    the reference."""
    import pandas
    from neuroCombat import neuroCombat

    vars(np).setdefault("int", int)  # neuroCombat 0.2.12 asks for a name that NumPy 2 no longer has
    rows = np.concatenate([fitted["scanner1"], fitted["scanner2"]]).reshape(2 * FITTED, -1)
    varying = np.minimum(rows[:FITTED].std(0), rows[FITTED:].std(0)) > 0.5
    batch = pandas.DataFrame({"scanner": [0] * FITTED + [1] * FITTED})
    fit = neuroCombat(dat=rows[:, varying].T, covars=batch, batch_col="scanner", ref_batch=0)
    flat = images.reshape(len(images), -1).copy()
    found = fit["estimates"]
    spread = np.sqrt(found["var.pooled"][:, 0])
    mean = found["stand.mean"][:, 0] + found["mod.mean"].mean(1)
    gamma, delta = found["gamma.star"][1], found["delta.star"][1]  # of scanner 2
    flat[:, varying] = ((flat[:, varying] - mean) / spread - gamma) / np.sqrt(delta) * spread + mean
    return np.clip(flat, 0, 255).reshape(images.shape)


def classifier(fitted: dict[str, Images]) -> Callable[[Images], NDArray[np.bool_]]:
    """Ridge regression of the scanner on pixels: whether pictures look like scanner 2's."""
    x = np.concatenate([fitted["scanner1"], fitted["scanner2"]]).reshape(2 * FITTED, -1)
    centre, y = x.mean(0), np.repeat([-1.0, 1.0], FITTED)
    weights = (x - centre).T @ np.linalg.solve((x - centre) @ (x - centre).T + RIDGE * np.eye(len(x)), y)
    return lambda images: (images.reshape(len(images), -1) - centre) @ weights > 0


if __name__ == "__main__":
    main()
