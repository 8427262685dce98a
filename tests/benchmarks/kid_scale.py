"""What a KID of a model of phantoms is worth: beside it, real phantoms spoilt a little in known ways, and the
run's earlier snapshots.

mssg prepare phantom --subjects 10000 --out data/brain --workers 2
python tests/benchmarks/kid_scale.py data/brain brain [RUN] [--images 500]     (eyes: data/eyes fundus)

Every row is compared with the same real test images; the spoilt ones are other test subjects. One core: about
four minutes without RUN.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from scipy import ndimage

from mssg import load_study
from mssg.checkpoint.snapshot import load_snapshot
from mssg.data.dataset import open_sources
from mssg.features.extractors import load_features
from mssg.metrics.distribution import kid
from mssg.metrics.manifold import precision_recall
from mssg.metrics.sampling import generator_of

DARK = 8
"""Grey levels below which a pixel is background."""


def spoilt(images: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
    """Real images, then each small damage to them; images [N, 1, H, W] in grey levels."""
    rng, dark = np.random.default_rng(0), images < DARK
    noise = rng.normal(size=images.shape)
    yield "real", images
    yield "real, background |N(0, 1)| levels instead of 0", np.where(dark, np.abs(noise), images)
    yield "real, noise of 3 levels more in the head", images + 3 * noise * ~dark
    yield "real, contrast 0.95", np.where(dark, images, 100 + 0.95 * (images - 100))
    yield "real, half a pixel lower", ndimage.shift(images, (0, 0, 0.5, 0), order=3)
    for sigma in (0.4, 0.5, 0.6):
        yield f"real, blurred by {sigma} px", ndimage.gaussian_filter(images, (0, 0, sigma, sigma))


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path)
    parser.add_argument("snapshot")
    parser.add_argument("run", type=Path, nargs="?")
    parser.add_argument("--images", type=int, default=500)
    args = parser.parse_args()

    features = load_features()
    study = load_study(args.data / "study-all.toml")
    source = open_sources(study)[0]
    test = np.flatnonzero(source.split == "test")[: 2 * args.images]
    rows, others = test[: args.images], test[args.images :]
    real = features(source.images[rows])

    def show(name: str, images: np.ndarray) -> None:
        found = features(np.clip(np.rint(images), 0, 255).astype(np.uint8))
        near = precision_recall(real, found)
        distance = kid(real, found, subset_size=len(found), subsets=1).mean
        print(f"{name:<52}{distance:9.4f}{near.precision:9.3f}{near.recall:9.3f}", flush=True)

    print(f"{'':<52}{'KID':>9}{'precis.':>9}{'recall':>9}")
    for name, images in spoilt(source.images[others].astype(float)):
        show(name, images)
    snapshots = [args.snapshot]
    if args.run:
        snapshots = [str(p) for p in sorted((args.run / "snapshots").glob("*.safetensors"))[2::2]] + snapshots
    for name in snapshots:
        snapshot = load_snapshot(name)
        everything = dict(zip(study.condition_names, source.values[rows].T))
        values = np.stack([everything[c] for c in snapshot.study.condition_names], 1)
        drawn = generator_of(snapshot.G, snapshot.study, "cpu")(values, 5).astype(float)
        show(Path(name).stem, drawn)
        if name == args.snapshot:
            show(f"{name}, pixels below {DARK} levels set to 0", np.where(drawn < DARK, 0, drawn))


if __name__ == "__main__":
    main()
