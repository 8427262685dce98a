"""StyleGAN3's preview: the same layers at half of their sampling rates."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from mssg.networks.config import GeneratorConfig
from mssg.networks.filter_design import design_bands, design_lowpass_filter
from mssg.networks.generator import build_generator
from mssg.networks.preview import fit_filter, halve_rates, interpolate_taps, preview_network
from mssg.networks.stylegan3 import StyleGAN3Layer
from mssg.ops import dispatch
from mssg.ops import functional as ops

SMALL = {"z_dim": 8, "w_dim": 8, "channel_base": 256, "channel_max": 8}
KINDS = ("stylegan3-t", "stylegan3-r")


def network(kind="stylegan3-t", **changes):
    torch.manual_seed(0)
    config = GeneratorConfig(kind=kind, **({"img_resolution": 64} | SMALL | changes))
    return build_generator(config).eval().requires_grad_(False)


def latents(G, n=2):
    return G.mapping(torch.randn(n, G.z_dim, generator=torch.Generator().manual_seed(1)), None)


def enlarged(small):
    return F.interpolate(small, scale_factor=2, mode="bicubic", align_corners=False)


def response(f, rate, frequency):
    place = (np.arange(len(f)) - (len(f) - 1) / 2) / rate
    return np.cos(2 * np.pi * frequency[:, None] * place) @ np.asarray(f, np.float64)


@pytest.mark.parametrize("radial", [False, True])
def test_filters_keep_their_response_where_the_signals_are(radial):
    old = torch.from_numpy(design_lowpass_filter(12, 8, 16, 64, radial))
    new = fit_filter(old, 12, old_rate=64, new_rate=32, signal_rate=16)
    assert new.shape == (12,) and torch.allclose(new, new.flip(0), atol=1e-6)
    assert abs(float(new.sum()) - 1) < 1e-6
    assert torch.allclose(new[::2].sum(), new[1::2].sum(), atol=1e-5), "a constant stays one"
    frequency = np.arange(0, 5.0)
    along = old.sum(0) if radial else old
    assert np.abs(response(new, 32, frequency) - response(along, 64, frequency)).max() < 0.01
    assert np.abs(response(new, 32, 16 - frequency[:3])).max() < 0.01, "images of low frequencies are gone"


def test_kernels_keep_their_response_where_the_signals_are():
    along = interpolate_taps(3, old_rate=64, new_rate=32)
    assert np.allclose(along.sum(0), 1, atol=1e-6) and np.allclose(along[:, 1], [0, 1, 0], atol=1e-6)
    kernel, frequency = np.array([0.3, -0.2, 0.7]), np.arange(0, 5.0)

    def waves(rate):
        return np.exp(2j * np.pi / rate * frequency[:, None] * np.arange(-1, 2))

    assert np.abs(waves(32) @ (along @ kernel) - waves(64) @ kernel).max() < 0.02


@pytest.mark.parametrize("kind", KINDS)
def test_the_preview_is_near_the_picture_and_not_shifted(kind):
    G = network(kind)
    ws = latents(G)
    full, small = G.synthesis(ws), preview_network(G.synthesis)(ws)
    assert small.shape == (2, 1, 32, 32)

    def error(shift):
        moved = torch.roll(enlarged(small), shift, (2, 3))
        return float((moved - full)[..., 2:-2, 2:-2].square().mean().sqrt() / full.std())

    aligned = error((0, 0))
    assert aligned < 0.08
    for shift in ((0, 1), (0, -1), (1, 0), (-1, 0)):
        assert error(shift) > 1.3 * aligned


@pytest.mark.parametrize("kind", KINDS)
def test_the_preview_takes_less_work(kind):
    """Multiplications of the convolutions, with channels as in practice."""
    config = GeneratorConfig(kind=kind, img_resolution=256)

    def work(bands):
        pairs = zip([bands[0], *bands], bands)
        return sum(a.size**2 * a.channels * b.channels for a, b in pairs)

    bands = design_bands(config)
    halves = halve_rates(bands)
    assert work(halves) < 0.3 * work(bands)
    assert [b.sampling_rate for b in halves[:3]] == [16] * 3 and halves[-1].size == halves[-2].size == 128


def test_parameters_are_shared_and_changes_are_noticed():
    G = network()
    ws = latents(G)
    before = torch.get_rng_state()
    preview = preview_network(G.synthesis)
    assert torch.equal(torch.get_rng_state(), before)
    own = {p.data_ptr() for p in G.synthesis.parameters()}
    assert {p.data_ptr() for p in preview.parameters()} <= own
    first = preview(ws)
    assert torch.equal(preview(ws), first)
    for parameter in (preview.get_submodule(name)._full[0] for name in G.synthesis.layer_names[5:7]):
        parameter.weight.mul_(-1)
    changed = preview(ws)
    assert not torch.allclose(changed, first)
    assert torch.equal(preview_network(G.synthesis)(ws), changed)


def test_one_by_one_kernels_are_not_copied():
    G = network("stylegan3-r")
    preview = preview_network(G.synthesis)
    for name in G.synthesis.layer_names:
        layer = G.synthesis.get_submodule(name)
        assert isinstance(layer, StyleGAN3Layer)
        assert preview.get_submodule(name)._kernel_and_energy()[0] is layer.weight


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("backend", ["torch", "native", "native-exact"])
def test_every_backend_draws_the_same(kind, backend):
    G = network(kind)
    ws = latents(G)
    if backend not in dispatch.names():
        pytest.skip("the native kernels are not built")
    with torch.inference_mode():
        with ops.use_backend("reference"):
            expected = preview_network(G.synthesis)(ws)
        with ops.use_backend(backend):
            drawn = preview_network(G.synthesis)(ws)
    assert (drawn - expected).abs().max() < 1e-4 * expected.abs().max()


def test_other_precisions():
    G = network()
    ws = latents(G)
    expected = preview_network(G.synthesis)(ws)
    G.double()
    drawn = preview_network(G.synthesis)(ws.double())
    assert drawn.dtype == torch.float64 and (drawn - expected).abs().max() < 1e-3 * expected.abs().max()


@pytest.mark.parametrize(
    "changes, near",
    [
        ({"lrelu_upsampling": 1}, 0.7),  # not alias-free: what the rates can hold shows
        ({"filter_size": 5}, 0.9),
        ({"conv_kernel": 2}, 0.9),
        ({"margin_size": 0}, 0.9),
        ({"num_layers": 4}, 0.9),
    ],
)
def test_unusual_designs(changes, near):
    G = network(**changes)
    full, small = (drawn(latents(G)) for drawn in (G.synthesis, preview_network(G.synthesis)))
    assert small.shape == (2, 1, 32, 32) and bool(torch.isfinite(small).all())
    assert np.corrcoef(enlarged(small).flatten(), full.flatten())[0, 1] > near


def test_networks_too_small_for_a_preview():
    assert preview_network(network(img_resolution=32).synthesis) is None
    assert preview_network(network(first_stopband=32.0).synthesis) is None, "there is one rate only"
