"""Ship a trained run's newest snapshot as assets/snapshots/NAME.safetensors, with float16 weights.

python tests/benchmarks/ship_snapshot.py RUN NAME
"""

from __future__ import annotations

import sys
from pathlib import Path

from mssg import assets
from mssg.checkpoint.snapshot import load_snapshot, save_snapshot
from mssg.networks.config import DiscriminatorConfig, GeneratorConfig
from mssg.rendering.stored_picture import stored_picture


def ship(run: Path, name: str) -> Path:
    """Save the run's newest snapshot with float16 weights among the assets; returns the file."""
    snapshot = load_snapshot(run)
    header = snapshot.header
    folder = assets.root() / "snapshots"
    folder.mkdir(exist_ok=True)
    return save_snapshot(
        folder / f"{name}.safetensors",
        header.study,
        header.models,
        {n: snapshot.load(n) for n in ("G_ema", "G", "D")},
        GeneratorConfig.from_json(dict(header.generator)),
        DiscriminatorConfig.from_json(dict(header.discriminator)),
        header.progress,
        header.summary,
        header.provenance,
        half=True,
        preview=stored_picture(snapshot.G, header.study, header.summary),
    )


if __name__ == "__main__":
    print(ship(Path(sys.argv[1]), sys.argv[2]))
