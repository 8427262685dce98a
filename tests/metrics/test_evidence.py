"""Memorisation, counterfactuals and utility as parts of an evaluation, and of a report, from the command
line."""

from __future__ import annotations

import numpy as np
import pytest
from click.testing import CliRunner

from mssg import load_study
from mssg.metrics import registry
from mssg.metrics.dataset import open_dataset
from mssg.metrics.evaluate import evaluate
from mssg.metrics.groups import memorisation as copies
from mssg.metrics.instruments import open_instruments
from mssg.metrics.model import EvaluatedModel
from mssg.metrics.results import Evaluation, ModelRecord
from mssg.metrics.sampling import ArrayCache, CachedSampler
from tests.strokes import draw_strokes
from trainer_cli.main import cli


def run(folder, study, generate, split="test"):
    data, _ = open_dataset(load_study(study), split)
    model = EvaluatedModel(ModelRecord("toy", "toy", "strokes", 1.0), None, generate, ("toy",))
    found = evaluate(
        data=data,
        models=[model],
        options=registry.options(("memorisation_pixels",), memorisation_images=60),
        sampler=CachedSampler(ArrayCache(folder / "parts"), ArrayCache(folder / "real"), chunk=50),
        instruments=open_instruments(data.study)[0],
    )
    return found, data, model


def test_copies_are_flagged_and_named_and_new_images_are_not(tiny_study, tmp_path):
    data, _ = open_dataset(load_study(tiny_study), "test")
    trained = copies.TrainingImages(data.sources).images(slice(None))

    def copying(values, seed):
        return trained[np.random.default_rng(seed).integers(len(trained), size=len(values))]

    found, data, model = run(tmp_path, tiny_study, copying)
    (result,) = found.results
    assert result.metric == "memorisation-pixels" and result.value == 1 and result.real_floor <= 0.05
    assert result.ci95[0] > 0.9 and result.detail["n_train"] == len(trained)
    assert "no privacy guarantee" in result.detail["note"]
    pairs = copies.gallery(data, model, found.seed, result)
    assert len(pairs) == copies.CLOSEST
    assert all(np.array_equal(fake, real) and ratio == 0 for fake, real, ratio in pairs)
    new = run(tmp_path, tiny_study, lambda v, seed: draw_strokes(*v.T[:4]))[0].results[0]
    assert new.value < 0.2


def test_images_that_were_trained_on_are_no_held_out_images(tiny_study, tmp_path):
    found, *_ = run(tmp_path, tiny_study, lambda v, seed: draw_strokes(*v.T[:4]), split="train")
    assert not found.results and any("not trained on" in n.message for n in found.notes)


def test_shrinking_takes_means_and_shares_have_intervals():
    images = np.random.default_rng(0).integers(0, 255, (3, 2, 64, 64), np.uint8)
    small = copies.shrunk(images)
    assert small.shape == (3, 2 * 32 * 32)
    assert small[1, 0] == pytest.approx(images[1, 0, :2, :2].mean())
    low, high = copies.wilson(0.0, 100)
    assert low == 0 and high == pytest.approx(
        0.037, abs=0.001
    )  # tables of Wilson's interval: 0 of 100 gives 3.7 %


@pytest.mark.slow
def test_from_the_command_line_to_the_report(tiny_snapshot, tiny_study, tmp_path):
    def mssg(*words):
        return CliRunner().invoke(cli, [str(w) for w in words])

    file = tmp_path / "eval.json"
    small = [
        "--counterfactual-images",
        8,
        "--invert-steps",
        2,
        "--invert-features",
        "none",
        "--memorisation-images",
        20,
        "--utility-images",
        32,
        "--utility-epochs",
        1,
    ]
    words = [
        "evaluate",
        f"tiny={tiny_snapshot}",
        "--study",
        tiny_study,
        "--cache",
        tmp_path / "cache",
        *small,
    ]
    done = mssg(*words, "--metrics", "counterfactual,utility", "-o", file)
    assert done.exit_code == 0, done.output
    found = Evaluation.load(file)
    metrics = {r.metric for r in found.results}
    assert {
        "counterfactual/composition_2",
        "counterfactual/effectiveness_mae",
        "counterfactual/reversibility",
        "utility/mae",
        "utility/accuracy",
    } <= metrics
    assert all(r.detail["steps"] == 2 for r in found.results if r.metric.startswith("counterfactual"))
    memory, *_ = run(tmp_path, tiny_study, lambda v, seed: draw_strokes(*v.T[:4]))
    moved = memory.results[0].to_json() | {"model": "tiny"}
    found.add([type(memory.results[0])(**moved)]).save(file)
    done = mssg(
        "report", tiny_snapshot, "--evaluation", file, "--study", tiny_study, "-o", tmp_path / "r.html"
    )
    assert done.exit_code == 0, done.output
    page = (tmp_path / "r.html").read_text(encoding="utf-8")
    assert "The most suspect of" in page and "shows real images" in page
    lost = mssg(
        "report",
        tiny_snapshot,
        "--evaluation",
        file,
        "--study",
        tmp_path / "none.toml",
        "-o",
        tmp_path / "r.html",
    )
    assert lost.exit_code == 0 and "are not shown" in lost.output and "none.toml" in lost.output
