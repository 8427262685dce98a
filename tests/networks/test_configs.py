"""Network configurations: defaults, JSON, refusals."""

import json

import pytest

from mssg.errors import SnapshotError, UsageError
from mssg.networks.config import DiscriminatorConfig, GeneratorConfig


@pytest.mark.parametrize(
    "config",
    [
        GeneratorConfig(),
        GeneratorConfig(kind="stylegan3-t", c_dim=7, conv_clamp=None),
        GeneratorConfig(kind="stylegan3-r", img_resolution=64, img_channels=3, mapping_layers=4),
        DiscriminatorConfig(),
        DiscriminatorConfig(head="projection", c_dim=5, mbstd_group_size=None, freeze_layers=3),
    ],
    ids=lambda c: getattr(c, "kind", "") or c.head,
)
def test_json_round_trip(config):
    assert type(config).from_json(json.loads(json.dumps(config.to_json()))) == config


def test_defaults_depend_on_the_kind():
    two, t, r = (GeneratorConfig(kind=kind) for kind in ("stylegan2", "stylegan3-t", "stylegan3-r"))
    assert (two.mapping_layers, t.mapping_layers, r.mapping_layers) == (8, 2, 2)
    assert (t.conv_kernel, t.radial_filters, r.conv_kernel, r.radial_filters) == (3, False, 1, True)
    assert (two.num_ws, t.num_ws) == (14, 16)
    assert DiscriminatorConfig(c_dim=3).outputs == 4
    assert DiscriminatorConfig(c_dim=3, head="projection").outputs == 1


@pytest.mark.parametrize("resolution", [16, 48, 2048, 0, 64.0])
@pytest.mark.parametrize("kind", [GeneratorConfig, DiscriminatorConfig])
def test_resolutions_that_do_not_fit(kind, resolution):
    with pytest.raises(UsageError, match=r"img_resolution: .*power of two from 32 to 1024"):
        kind(img_resolution=resolution)


@pytest.mark.parametrize(
    ("kind", "values", "message"),
    [
        (GeneratorConfig, {"img_channels": 2}, "img_channels: .*1 or 3"),
        (GeneratorConfig, {"kind": "stylegan4"}, "kind: unknown generator.*stylegan3-r"),
        (GeneratorConfig, {"z_dim": 0}, "z_dim: "),
        (GeneratorConfig, {"conv_clamp": -1.0}, "conv_clamp: "),
        (GeneratorConfig, {"num_critical": 14}, "num_critical: "),
        (DiscriminatorConfig, {"head": "none"}, "head: .*covariates or projection"),
        (DiscriminatorConfig, {"mbstd_group_size": 0}, "mbstd_group_size: "),
    ],
)
def test_values_out_of_range(kind, values, message):
    with pytest.raises(UsageError, match=message):
        kind(**values)
    with pytest.raises(SnapshotError, match=message):
        kind.from_json(values)


def test_unknown_and_mistyped_fields_in_a_snapshot():
    with pytest.raises(SnapshotError, match=r"colour: unknown GeneratorConfig field.*z_dim"):
        GeneratorConfig.from_json({"colour": 1})
    with pytest.raises(SnapshotError, match="wrong type"):
        GeneratorConfig.from_json({"conv_clamp": "256"})
