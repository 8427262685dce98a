"""What a synthetic cohort is worth: train on synthetic people, test on real ones.

    mssg prepare phantom --subjects 520 --seed 77 --test 0.45 --out DATA
    python tests/benchmarks/worth.py --data DATA --out docs/results/worth.json --figure docs/results/worth.png

A regression on shipped features reads age, ventricles and grey matter off a picture. It learns from real
heads (few, many, or a biased choice in which only the young have large ventricles), from as many synthetic
ones of a shipped model that has seen none of these heads, from a synthetic cohort, or from real and synthetic
ones together. All are tested on the same real heads.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

import mssg
from mssg.checkpoint.header import read_header, resolve_snapshot
from mssg.data.dataset import open_sources
from mssg.errors import DataError
from mssg.features import ridge
from mssg.files import write_json
from mssg.metrics.bootstrap import mean_and_interval
from mssg.plotting import chart_style
from mssg.study.model import Study

NAMES = ("age", "ventricle", "grey_matter")
MANY, FEW, COHORT, DRAWS, TESTED = 250, 40, 400, 2, 160
"""Real heads of the full and the small set, synthetic people of the cohort, small sets that are drawn, and
real heads that all are tested on."""
SETS = ("few real", "biased real", "many real")
KINDS = ("real", "synthetic, as many", "synthetic cohort", "real and cohort")
Rows = tuple[NDArray[np.float64], NDArray[np.float64]]  # inputs of the regression [N, P], values [N, 3]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--snapshot", default="brain-64")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--figure", type=Path, required=True)
    options = parser.parse_args()
    start = time.monotonic()
    study, train, test = real_heads(options.data)
    people, snapshot = synthetic_people(study, options.snapshot, COHORT)
    found = compared(study, train, test, people)
    found |= {"snapshot": snapshot, "seconds": round(time.monotonic() - start)}
    write_json(options.out, found, DataError)
    chart_style.save(figure(found), options.figure)
    for row in found["results"]:
        errors = {name: [round(x, 3) for x in row[name]] for name in NAMES}
        print(f"{row['set']:12} {row['kind']:20} n {row['n']:5} {errors}")


def real_heads(data: Path) -> tuple[Study, Rows, Rows]:
    """The study in which everything is recorded, and its training and test people."""
    study = mssg.load_study(data / "study-all.toml")
    (source,) = open_sources(study)
    study = study.fit_statistics([source.columns(study, "train")])
    columns = [study.index(name) for name in NAMES]
    parts = [source.rows("train"), source.rows("test")[:TESTED]]
    train, test = (
        (inputs(study, np.asarray(source.images[rows])), source.values[rows][:, columns]) for rows in parts
    )
    return study, train, test


def inputs(study: Study, images: NDArray[np.uint8]) -> NDArray[np.float64]:
    """What the regression sees of images [N, 1, R, R]: features and pixels [N, P]."""
    network = ridge.Ridge(study).eval()
    with torch.no_grad():
        parts = np.array_split(images, max(1, len(images) // 32))
        seen = [network.inputs(torch.from_numpy(part).float() / 127.5 - 1) for part in parts]
    return torch.cat(seen).double().numpy()


def synthetic_people(study: Study, snapshot: str, n: int) -> tuple[Rows, str]:
    """A cohort's images and values, drawn from the population of the model's covariate models."""
    model = mssg.load(snapshot, device="cpu")
    cohort = model.sample(n, seed=5)
    images = np.stack([picture.array for picture in cohort])[:, None]
    values = np.stack([cohort.table[name] for name in NAMES], axis=1)
    return (inputs(study, images), values), read_header(resolve_snapshot(snapshot)).snapshot_id


def compared(study: Study, train: Rows, test: Rows, people: Rows) -> dict[str, Any]:
    """Every training set's error on the test people, in their standard deviations, and what it is less than
    that of the real heads."""
    rng, results = np.random.default_rng(3), []
    for name in SETS:
        draws = DRAWS if name == "few real" else 1
        chosen = [choose(name, train, rng) for _ in range(draws)]
        errors = {
            kind: np.mean(
                [errors_of(study, training(kind, rows, train, people), test) for rows in chosen], axis=0
            )
            for kind in (KINDS if name != "many real" else KINDS[:1] + KINDS[3:])
        }
        for kind, error in errors.items():
            n = len(training(kind, chosen[0], train, people)[0])
            row = {"set": name, "kind": kind, "n": n, "draws": draws}
            row |= {covariate: stated(error[:, v]) for v, covariate in enumerate(NAMES)}
            less = {c: stated((errors["real"] - error)[:, v]) for v, c in enumerate(NAMES)}
            results.append(row | {"less_than_real": less})
    return {"test_people": len(test[0]), "unit": "sd of the covariate", "results": results}


def stated(errors: NDArray[np.float64]) -> list[float]:
    """Mean, and its 95 % interval over test people."""
    mean, between, _ = mean_and_interval(errors, np.random.default_rng(0))
    assert mean is not None and between is not None
    return [mean, *between]


def choose(name: str, train: Rows, rng: np.random.Generator) -> NDArray[np.int64]:
    """Which real heads a set holds. In the biased one whoever is older than the median has ventricles below
    the median, whoever is younger above it."""
    order = rng.permutation(len(train[0]))
    if name == "biased real":
        age, ventricle = train[1][:, 0], train[1][:, 1]
        order = order[((age < np.median(age)) == (ventricle > np.median(ventricle)))[order]]
    return order[: FEW if name == "few real" else MANY]


def training(kind: str, rows: NDArray[np.int64], train: Rows, people: Rows) -> Rows:
    """The images and values that one regression learns from."""
    real, synthetic = (train[0][rows], train[1][rows]), people
    if kind == "real":
        return real
    if kind == "synthetic, as many":
        return synthetic[0][: len(rows)], synthetic[1][: len(rows)]
    if kind == "synthetic cohort":
        return synthetic
    return np.concatenate([real[0], synthetic[0]]), np.concatenate([real[1], synthetic[1]])


def errors_of(study: Study, learned: Rows, test: Rows) -> NDArray[np.float64]:
    """Absolute errors [N, 3] on the test people, in their standard deviations."""
    values = np.full((len(learned[0]), len(study.condition_names)), np.nan)
    columns = [study.index(name) for name in NAMES]
    values[:, columns] = learned[1]
    whose = [str(i) for i in range(len(values))]
    network = ridge.fit_inputs(study, learned[0], values, whose, seed=0).network
    with torch.no_grad():
        columns_read = network.read(torch.from_numpy(test[0]).float()).double().numpy()
    read = study.decode(columns_read)[:, columns]
    return np.abs(read - test[1]) / test[1].std(axis=0)


def figure(found: dict[str, Any]) -> Any:
    """One panel a covariate: error by training set, with intervals over test people."""
    import matplotlib

    with matplotlib.rc_context(chart_style.STYLE):
        from matplotlib.figure import Figure

        page = Figure(figsize=(9.5, 3.2), layout="constrained")
        colours = dict(zip(KINDS, ("#444444", "#9ecae1", "#3182bd", "#e6550d")))
        for axis, name in zip(page.subplots(1, len(NAMES), sharey=True), NAMES):
            for row in found["results"]:
                mean, low, high = row[name]
                x = SETS.index(row["set"]) + 0.18 * (KINDS.index(row["kind"]) - 1.5)
                axis.errorbar(
                    x, mean, [[mean - low], [high - mean]], fmt="o", color=colours[row["kind"]], capsize=2
                )
            axis.set_title(name.replace("_", " "))
            axis.set_xticks(range(len(SETS)), [s.replace(" ", "\n") for s in SETS])
            axis.spines[["top", "right"]].set_visible(False)
            axis.set_ylim(bottom=0)
        page.axes[0].set_ylabel("error on real heads / sd")
        marks = [
            page.axes[0].plot([], [], "o", color=colour, label=kind)[0] for kind, colour in colours.items()
        ]
        page.legend(handles=marks, loc="outside lower center", ncol=len(KINDS), frameon=False)
    return page


if __name__ == "__main__":
    main()
