"""Measure the shipped digit snapshot (`ship_snapshot.py` made it from a run).

    python tests/benchmarks/shipped_digits.py digits --data DIR [--predictor FILE]

DIR is what `mssg prepare digits --mnist PATH --out DIR` made, FILE a predictor of DIR/study-all.toml
(`mssg predictors`). Writes docs/results/digits.json and digits.txt.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import mssg
from mssg.checkpoint.snapshot import load_snapshot
from mssg.data.dataset import open_sources
from mssg.features.predictors import Predictor
from mssg.measure.instruments import instrument
from mssg.metrics.control import control
from mssg.metrics.sampling import generator_of

ROOT = Path(__file__).resolve().parents[2]


def main() -> None:
    """Measure, write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("snapshot")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--predictor", type=Path, help="without it, digit accuracy is left out")
    parser.add_argument("--images", type=int, default=4000)
    options = parser.parse_args()
    snapshot = load_snapshot(options.snapshot)
    generate = generator_of(snapshot.G, snapshot.study, "cpu")
    report = control(
        generate,
        snapshot.study,
        snapshot.models,
        instrument(snapshot.study.instrument).measure,
        n=options.images,
        seed=2000,
        sources=open_sources(mssg.load_study(options.data / "study.toml")),
        designs=("a", "b", "c", "shuffled"),
    )
    document = {
        "snapshot": snapshot.header.snapshot_id,
        "kimg": snapshot.header.progress["kimg"],
        "control": report.to_json(),
    }
    text = report.table() + "\n"
    if options.predictor:
        accuracy, own = digit_accuracy(snapshot, generate, Predictor.load(options.predictor), options.images)
        document |= {"digit_accuracy": accuracy, "digit_accuracy_on_real_test_digits": own}
        text += f"\nDigit, read by a ResNet-18 that reads {own:.1%} of real test digits rightly: "
        text += ", ".join(f"{value:.1%} (design {design})" for design, value in accuracy.items()) + "\n"
    folder = ROOT / "docs" / "results"
    (folder / "digits.json").write_text(
        json.dumps(document, indent=1, ensure_ascii=False) + "\n", encoding="utf-8"
    )
    (folder / "digits.txt").write_text(text, encoding="utf-8")
    print(text)


def digit_accuracy(snapshot, generate, predictor: Predictor, images: int) -> tuple[dict[str, float], float]:
    """Share of digits read as asked, by design, and the reader's own accuracy on real test digits."""
    judged = control(
        generate,
        snapshot.study,
        snapshot.models,
        lambda x: {"digit": predictor.measure(x)["digit"]},
        n=images,
        seed=2001,
        designs=("a", "shuffled"),
    )
    own = next(e for e in predictor.errors if e.covariate == "digit")
    return {row.design: row.accuracy for row in judged.rows}, own.accuracy


if __name__ == "__main__":
    main()
