"""`mssg evaluate` from the command line."""

from __future__ import annotations

from click.testing import CliRunner

from mssg.metrics.results import Evaluation
from trainer_cli.main import cli


def call(*words: object):
    return CliRunner().invoke(cli, ["evaluate", *map(str, words)])


def test_evaluate_writes_results_adds_to_them_and_leaves_nothing_behind(tiny_snapshot, tiny_study, tmp_path):
    out = tmp_path / "eval.json"
    common = ("--study", tiny_study, "--cache", tmp_path / "cache", "--images", 12, "-o", out)
    done = call(f"mine={tiny_snapshot}", *common, "--metrics", "overall,pairs,eq")
    assert done.exit_code == 0, done.output
    found = Evaluation.load(out)
    assert [m.label for m in found.models] == ["mine"] and found.models[0].kimg == 12
    assert found.find(metric="ssim", source="joint")[0].n == 12 and found.find(
        metric="overall/mae", model="mine"
    )
    assert any("StyleGAN3 only" in n.message for n in found.notes)
    assert not list(tmp_path.glob("*.parts"))
    done = call(f"mine={tiny_snapshot}", f"twin={tiny_snapshot}", *common, "--metrics", "pairs", "--add")
    assert done.exit_code == 0, done.output
    more = Evaluation.load(out)
    assert more.command.count("\n") == found.command.count("\n") + (more.command != found.command)
    assert [m.label for m in more.models] == ["mine", "twin"]
    assert (
        more.find(metric="overall/mae") == found.find(metric="overall/mae")
        and len(more.find(metric="ssim", source="joint")) == 2
    )


def test_mistakes_are_named(tiny_snapshot, tiny_study, tmp_path):
    out = ("-o", tmp_path / "e.json")
    assert "--study" in call(tiny_snapshot, *out).output
    study = ("--study", tiny_study)
    assert "fvd" in call(tiny_snapshot, *study, "--metrics", "fvd", *out).output
    assert "two models" in call(f"a={tiny_snapshot}", f"a={tiny_snapshot}", *study, *out).output
    assert "no such split" in call(tiny_snapshot, *study, "--split", "all", *out).output
    assert ".json" in call(tiny_snapshot, *study, "-o", tmp_path / "e.txt").output
    assert (
        "no such covariate" in call(tiny_snapshot, *study, "--by", "age", "--metrics", "strata", *out).output
    )
    listed = call("--list")
    assert "kid" in listed.output and listed.exit_code == 0
