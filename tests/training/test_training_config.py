"""Presets, precedence and schedules."""

from __future__ import annotations

from dataclasses import replace

import pytest

import mssg
from mssg.errors import StudyError, UsageError
from mssg.training.config import ARCHITECTURES, PRESETS, TrainConfig, resolve


@pytest.fixture
def study(blob_study):
    return replace(mssg.load_study(blob_study), train={}, augment_allow=("xflip",))


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("cfg", ARCHITECTURES)
def test_lambda_reaches_its_cap_halfway(study, preset, cfg):
    config = resolve(study, {"preset": preset, "cfg": cfg})
    assert config.lambda_at(config.total_kimg / 2) == config.lambda_max > 0
    if preset.startswith("paper-"):
        assert config.lambda_at(config.lambda_step_kimg * 0.99) == 0
        assert config.lambda_at(config.lambda_step_kimg) == pytest.approx(4.54e-5, rel=1e-3)


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
    assert config.channel_base == PRESETS["small"]["channel_base"]


def test_paper_presets_convert_the_originals_clock(study):
    config = resolve(study, {"preset": "paper-mri"})
    assert config.batch == 2 * 256 and config.total_kimg == 2 * 5000
    assert (
        config.pl_weight == 2 and resolve(study, {"preset": "paper-mri", "cfg": "stylegan3-t"}).pl_weight == 0
    )


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
    ],
)
def test_wrong_options_are_named(study, options, word):
    with pytest.raises(UsageError, match=word):
        resolve(study, options)


def test_augmentation_needs_allowed_operations(study):
    with pytest.raises(StudyError, match=r"augment\.allow"):
        resolve(replace(study, augment_allow=()), {"aug": "ada"})
    assert resolve(study, {"aug": "ada"}).aug == "ada"


def test_the_commands_help_names_every_preset():
    from trainer_cli.train import train

    (option,) = (p for p in train.params if p.name == "preset")
    assert all(f" {preset}" in option.help for preset in PRESETS)
