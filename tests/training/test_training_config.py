"""Presets, precedence and schedules."""

from __future__ import annotations

import json
import re
import shlex
from dataclasses import fields, replace
from pathlib import Path

import pytest
from click.testing import CliRunner

import mssg
from mssg import assets
from mssg.checkpoint.snapshot import load_snapshot
from mssg.errors import StudyError, UsageError
from mssg.networks.config import GeneratorConfig
from mssg.study.presets import PRESETS
from mssg.study.train_config import ARCHITECTURES, TrainConfig, command, resolve
from mssg.training.networks import configurations
from trainer_cli.main import cli


@pytest.fixture
def study(blob_study):
    return replace(mssg.load_study(blob_study), train={}, augment_allow=("xflip",))


@pytest.mark.parametrize(
    "preset", [p for p in PRESETS if not p.startswith(("paper-", "head-")) and p != "small-64-t"]
)
@pytest.mark.parametrize("cfg", ARCHITECTURES)
def test_lambda_of_our_presets_reaches_its_cap_halfway(study, preset, cfg):
    config = resolve(study, {"preset": preset, "cfg": cfg})
    assert config.lambda_at(config.total_kimg / 2) == config.lambda_max > 0


def test_the_preset_of_whole_heads_needs_a_position(study):
    whole = load_snapshot("brain-heads").study
    config = resolve(replace(whole, train={}), {"preset": "head-64"})
    assert config.slice_pairs and config.d_position_frequencies and config.lambda_at(1) == config.lambda_max
    with pytest.raises(UsageError, match="no slice position"):
        resolve(study, {"preset": "head-64"})


def test_the_preset_of_stylegan3_is_what_the_shipped_model_was_trained_with(study):
    ours = resolve(study, {"preset": "small-64-t", "seed": 1})
    trained = load_snapshot("brain-t").header.provenance["train"]
    differ = {f.name for f in fields(ours) if f.name in trained and trained[f.name] != getattr(ours, f.name)}
    assert ours.lambda_at(1) == ours.lambda_max and ours.cfg == "stylegan3-t"
    assert differ <= {"preset", "snap", "metrics", "predictors"}, differ


@pytest.mark.parametrize("preset", ["paper-digits", "paper-mri", "paper-retina", "paper-multicohort"])
def test_lambda_of_the_paper_presets_is_the_research_codes(study, preset):
    """A step of 1,000 kimg on one source's clock, cap 0.1 (docs/method/method.md section 10)."""
    config, sources = resolve(study, {"preset": preset}), len(study.sources)
    found = [config.lambda_at(sources * kimg) for kimg in (999, 1000, 5000, 9000, 10000)]
    assert found == pytest.approx([0, 4.54e-5, 2.479e-3, 0.1, 0.1], rel=1e-3)


def test_lambda_of_three_sources_rises_linearly():
    config = resolve(mssg.load_study(assets.path("studies/ukb-adni-nacc.toml")))
    assert config.tick_kimg == config.lambda_step_kimg == 3 * 4
    found = [config.lambda_at(config.tick_kimg * tick) for tick in (0, 0.9, 1, 2, 25, 50, 1000)]
    assert found == pytest.approx([0, 0, 0.02, 0.04, 0.5, 1, 1])


@pytest.mark.parametrize("name", ["mri", "retina"])
def test_the_papers_networks_are_stylegan3_t(name):
    loaded = mssg.load_study(assets.path(f"studies/ukb-{name}.toml"))
    config = resolve(loaded)
    assert (config.cfg, config.g_lr, config.pl_weight) == ("stylegan3-t", 0.0025, 0)
    generator, discriminator = configurations(loaded, config)
    assert generator.kind == "stylegan3-t" and generator.num_ws == 16
    assert generator.channel_base == discriminator.channel_base == 16384
    assert resolve(loaded, {"cfg": "stylegan2"}).pl_weight == 2
    assert resolve(replace(loaded, train=loaded.train | {"cfg": "stylegan3-r"})).cfg == "stylegan3-r"


STUDIES = sorted(p.stem for p in (assets.root() / "studies").glob("ukb-*.toml"))


@pytest.mark.parametrize("name", [n for n in STUDIES if not n.endswith("-ada")])
def test_beside_each_study_of_the_paper_is_one_with_its_augmentation(name):
    plain, ada = (mssg.load_study(assets.path(f"studies/{n}.toml")) for n in (name, f"{name}-ada"))
    assert not plain.augment_allow and resolve(plain).aug == "none" and resolve(ada).aug == "ada"
    operations = (
        "xflip rotate90 translate scale rotate aniso brightness contrast lumaflip hue saturation".split()
    )
    lateral = any(c.lateralised for c in plain.covariates)
    assert list(ada.augment_allow) == operations[lateral:]
    same = {"name": plain.name, "path": plain.path, "train": plain.train, "augment_allow": ()}
    assert replace(ada, **same) == plain


@pytest.mark.parametrize(
    "side, preset", [(32, "small"), (64, "small-64"), (128, "small-128"), (256, "small-256")]
)
def test_the_default_preset_fits_the_resolution(study, side, preset):
    sized = replace(study, resolution=side)
    config = resolve(sized)
    assert config == resolve(sized, {"preset": "auto"}) and config.preset == preset
    _, discriminator = configurations(sized, config)
    assert discriminator.channels(side) == 16


def test_lambda_schedule_of_the_original():
    config = TrainConfig(lambda_step_kimg=1000.0, lambda_max=0.1)
    found = [round(config.lambda_at(1000.0 * k), 6) for k in range(11)]
    assert found == [
        0,
        4.5e-05,
        0.000123,
        0.000335,
        0.000912,
        0.002479,
        0.006738,
        0.018316,
        0.049787,
        0.1,
        0.1,
    ]


def test_options_override_table_and_table_overrides_preset(study):
    study = replace(study, train={"preset": "small", "gamma": 3.0, "batch": 64})
    config = resolve(study, {"batch": 16, "seed": None})
    assert (config.preset, config.gamma, config.batch) == ("small", 3.0, 16)
    assert config.channel_base == PRESETS["small"].fields["channel_base"]


def test_paper_presets_convert_the_originals_clock(study):
    config = resolve(study, {"preset": "paper-mri"})
    assert config.batch == 2 * 256 and config.total_kimg == 2 * 5000


def test_json_round_trip(study):
    config = resolve(study, {"preset": "paper-retina", "cfg": "stylegan3-r"})
    assert TrainConfig.from_json(config.to_json()) == config


def test_learning_rate_decay():
    config = TrainConfig(total_kimg=100.0, lr_decay=0.5)
    assert [config.lr_scale_at(k) for k in (0, 50, 75, 100)] == [1, 1, 0.5, 0]


@pytest.mark.parametrize(
    "train, word",
    [
        ({"gama": 1}, "gamma"),
        ({"cfg": "stylegan9"}, "stylegan2"),
        ({"batch": "8"}, "train.batch"),
        ({"batch": -8}, "train.batch"),
        ({"metrics": ["fod"]}, "fod"),
        ({"preset": "huge"}, "cpu-demo"),
    ],
)
def test_wrong_tables_are_named(study, train, word):
    with pytest.raises(StudyError, match=word):
        resolve(replace(study, train=train))


@pytest.mark.parametrize(
    "options, word",
    [
        ({"gamma": float("nan")}, "gamma"),
        ({"batch": 6}, "batch"),
        ({"micro_batch": 5}, "micro_batch"),
        ({"preset": "huge"}, "preset"),
        ({"nonsense": 1}, "nonsense"),
        ({"first_cutoff": 8}, "first_cutoff"),
        ({"num_layers": 8}, "num_layers"),
        ({"seed": -1}, "seed"),
        ({"seed": 10**20}, "seed"),
    ],
)
def test_wrong_options_are_named(study, options, word):
    with pytest.raises(UsageError, match=word):
        resolve(study, options)


def test_the_first_layer_of_stylegan3_starts_where_it_is_asked_to(study):
    found = {}
    for cutoff in (2.0, 8.0):
        options = {"cfg": "stylegan3-t", "preset": "small-64", "first_cutoff": cutoff}
        found[cutoff], _ = configurations(study, resolve(study, options))
    official = GeneratorConfig(kind="stylegan3-t")
    assert (found[2.0].first_cutoff, found[2.0].first_stopband) == (2.0, official.first_stopband)
    assert (found[8.0].first_cutoff, found[8.0].first_stopband) == (8.0, 4 * official.first_stopband)
    with pytest.raises(UsageError, match="first_cutoff"):
        GeneratorConfig(kind="stylegan3-t", img_resolution=64, first_cutoff=33)


def test_augmentation_needs_allowed_operations(study):
    with pytest.raises(StudyError, match=r"augment\.allow"):
        resolve(replace(study, augment_allow=()), {"aug": "ada"})
    assert resolve(study, {"aug": "ada"}).aug == "ada"


def test_the_commands_help_names_every_preset():
    from trainer_cli.train import train

    (option,) = (p for p in train.params if p.name == "preset")
    assert all(f" {preset}" in option.help for preset in PRESETS)


def test_the_guide_names_every_preset():
    text = (Path(__file__).resolve().parents[2] / "docs/guide/training.md").read_text(encoding="utf-8")
    table = text[text.index("| preset |") : text.index("A length counts")]
    assert set(re.findall(r"`([\w-]+)`", table)) >= {"auto", *PRESETS}


def test_the_command_of_a_configuration_gives_it_back(blob_study):
    """What a model card names trains the same, whatever the study's own [train] says."""
    study = mssg.load_study(blob_study)
    own = {"batch": 8, "cfg": "stylegan3-t", "metrics": ["kid"], "gamma": 0.5, "seed": 3}
    not_augmented = {"preset": "paper-multicohort", "aug": "none"}  # a preset with ADA, which it refuses here
    for options in (
        {},
        own,
        {"preset": "paper-mri", "total_kimg": 7.5},
        {"preset": "gpu-128"},
        not_augmented,
    ):
        config = resolve(replace(study, train={**study.train, "lr_decay": 0.25}), options)
        words = shlex.split(command(config, study))
        assert words[:2] == ["mssg-train", "STUDY.toml"]
        done = CliRunner().invoke(cli, ["train", str(blob_study), *words[2:], "--dry-run"])
        assert done.exit_code == 0, done.output
        assert json.loads(done.stdout)["train"] == config.to_json()
