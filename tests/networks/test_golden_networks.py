"""Our networks against arrays computed with the official implementations."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from mssg.checkpoint.legacy import from_official
from mssg.errors import SnapshotError, UsageError
from mssg.ops import dispatch
from mssg.ops import functional as ops

GOLDEN = Path(__file__).parents[1] / "golden"
GENERATORS = {
    "stylegan2_32": "generator_stylegan2",
    "stylegan3t_32": "generator_stylegan3",
    "stylegan3r_32": "generator_stylegan3",
}
DISCRIMINATORS = {
    "discriminator_32": ("discriminator", "logits"),
    "multisource_discriminator_32": ("discriminator_multisource", "outputs"),
}


def load(name):
    """Constructor arguments, state dict and the other arrays of a golden file."""
    data = np.load(GOLDEN / f"{name}.npz", allow_pickle=False)
    state = {key[3:]: data[key] for key in data.files if key.startswith("sd/")}
    rest = [key for key in data.files if key != "config" and not key.startswith("sd/")]
    return json.loads(str(data["config"])), state, {key: torch.tensor(data[key]) for key in rest}


def worst(result, golden):
    return (result - golden).abs().max().item()


@pytest.fixture(params=[name for name in dispatch.names() if name != "cuda"])
def backend(request):
    with ops.use_backend(request.param) as chosen:
        yield chosen


@pytest.mark.parametrize("name", GENERATORS)
def test_generator_matches(name, backend):
    config, state, golden = load(name)
    generator = from_official(GENERATORS[name], config, state)
    one = slice(0, 1) if backend.name == "reference" else slice(None)  # the definition is slow
    z, c = golden["z"][one], golden["c"][one]
    ws = generator.mapping(z, c)
    ws7 = generator.mapping(z, c, truncation_psi=0.7, truncation_cutoff=4)
    assert worst(ws, golden["ws"][one]) < 1e-4
    assert worst(ws7, golden["ws7"][one]) < 1e-4
    assert worst(generator.synthesis(golden["ws"][one]), golden["img"][one]) < 1e-4
    assert worst(generator(z, c, 0.7, 4), golden["img7"][one]) < 1e-4


@pytest.mark.parametrize("name", DISCRIMINATORS)
def test_discriminator_matches(name, backend):
    kind, outputs = DISCRIMINATORS[name]
    config, state, golden = load(name)
    discriminator = from_official(kind, config, state)
    img = golden["img"].requires_grad_()
    result = discriminator(img, golden["c"])
    assert result.shape == golden[outputs].shape
    (grad,) = torch.autograd.grad(result[:, 0].sum(), img)
    for got, expected in [
        (result, golden[outputs]),
        (grad, golden["grad_img"]),
        (grad.square().sum([1, 2, 3]), golden["r1"]),
    ]:
        assert worst(got, expected) < 1e-4 * expected.abs().max().item()


@pytest.mark.parametrize("name", ["stylegan3t_32", "stylegan3r_32"])
def test_designed_filters_match(name):
    """The filters are computed, not only loaded: a fresh network must design the official ones."""
    from mssg.networks.config import GeneratorConfig
    from mssg.networks.generator import build_generator

    config, state, _ = load(name)
    kind = "stylegan3-r" if config.get("use_radial_filters") else "stylegan3-t"
    sizes = {key: config[key] for key in config if key.startswith(("img", "channel"))}
    fresh = build_generator(GeneratorConfig(kind=kind, z_dim=32, c_dim=3, w_dim=32, **sizes)).state_dict()
    filters = [key for key in state if "_filter" in key]
    assert len(filters) == 28
    for key in filters:
        assert worst(fresh[key], torch.tensor(state[key])) < 1e-7


def test_loaded_network_is_frozen_and_in_eval_mode():
    config, state, _ = load("stylegan2_32")
    generator = from_official("generator_stylegan2", config, state)
    assert not generator.training
    assert not any(p.requires_grad for p in generator.parameters())


def test_accepts_the_nested_vocabulary_of_stylegan2_ada():
    config, state, golden = load("stylegan2_32")
    nested = {key: config.pop(key) for key in ("channel_base", "channel_max")}
    config["synthesis_kwargs"] = nested | {
        "num_fp16_res": 4,
        "conv_clamp": 256,
        "resample_filter": [1, 3, 3, 1],
    }
    generator = from_official("generator_stylegan2", config, state)
    assert worst(generator.synthesis(golden["ws"]), golden["img"]) < 1e-4


def test_official_defaults_apply():
    """channel_base 32768 is the official default, ours is 16384: leaving it out must not mean ours."""
    config, state, _ = load("discriminator_32")
    config.pop("channel_base")  # min(32768 / 32, 32) = 32 feature maps at 32 pixels instead of 16
    with pytest.raises(SnapshotError, match=r"Expected \(32,"):
        from_official("discriminator", config, state)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.pop("mapping.fc3.weight"), "mapping.fc3.weight: a tensor is missing"),
        (lambda s: s.update(extra=np.zeros(2)), "extra: there is no place"),
        (lambda s: s.update({"mapping.w_avg": np.zeros(31)}), r"mapping.w_avg: .*wrong shape.* \(31,\)"),
        (lambda s: s.update({"mapping.w_avg": np.array(["a"] * 32)}), "mapping.w_avg: not a numeric"),
    ],
)
def test_wrong_tensors_are_named(change, message):
    config, state, _ = load("stylegan2_32")
    change(state)
    with pytest.raises(SnapshotError, match=message):
        from_official("generator_stylegan2", config, state)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"architecture": "resnet"}, "architecture: unsupported"),
        ({"mapping_kwargs": {"activation": "relu"}}, "mapping_kwargs.activation: unsupported"),
        ({"colour": 1}, "colour: unknown constructor argument"),
        ({"img_resolution": 48}, "img_resolution: .*power of two"),
        ({"z_dim": None}, "z_dim"),
        ({"mapping_kwargs": {"w_avg_beta": None}}, "w_avg_beta: not a possible decay"),
    ],
)
def test_unsupported_arguments_are_named(change, message):
    config, state, _ = load("stylegan2_32")
    with pytest.raises(SnapshotError, match=message):
        from_official("generator_stylegan2", config | change, state)


def test_missing_argument_and_unknown_kind():
    config, state, _ = load("stylegan2_32")
    with pytest.raises(UsageError, match="generator_stylegan2"):
        from_official("generator", config, state)
    config.pop("w_dim")
    with pytest.raises(SnapshotError, match="w_dim: a constructor argument is missing"):
        from_official("generator_stylegan2", config, state)
