"""How the networks behave: shapes, conditioning, running statistics, derivatives, refusals."""

import pytest
import torch
from torch.autograd import gradcheck, gradgradcheck

from mssg.errors import UsageError
from mssg.networks.config import DiscriminatorConfig, GeneratorConfig
from mssg.networks.discriminator import build_discriminator, minibatch_std
from mssg.networks.filter_design import design_bands
from mssg.networks.generator import build_generator
from mssg.ops import functional as ops

KINDS = ["stylegan2", "stylegan3-t", "stylegan3-r"]
TINY = {"img_resolution": 32, "channel_base": 128, "channel_max": 8}


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def generator(kind="stylegan2", **changes):
    return build_generator(
        GeneratorConfig(
            **({"kind": kind, "z_dim": 6, "w_dim": 5, "c_dim": 2, "mapping_layers": 2} | TINY | changes)
        )
    )


def discriminator(**changes):
    return build_discriminator(DiscriminatorConfig(**({"c_dim": 2} | TINY | changes)))


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("resolution", [32, 64, 128])
@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_image_shapes(kind, resolution, channels):
    sizes = {"img_resolution": resolution, "img_channels": channels, "channel_base": 4 * resolution}
    g = generator(kind, **sizes)
    img = g(torch.randn(2, 6), torch.randn(2, 2))
    assert img.shape == (2, channels, resolution, resolution)
    assert img.dtype == torch.float32
    assert discriminator(**sizes)(img).shape == (2, 3)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("resolution", [256, 512, 1024])
def test_large_networks_can_be_built(kind, resolution):
    g = generator(kind, img_resolution=resolution, channel_base=2 * resolution)
    assert g.synthesis.num_ws == g.num_ws
    discriminator(img_resolution=resolution, channel_base=2 * resolution)


@torch.no_grad()
def test_megapixel_image():
    sizes = {"img_resolution": 1024, "channel_base": 1024, "channel_max": 2}
    img = generator(**sizes)(torch.randn(1, 6), torch.randn(1, 2))
    assert img.shape == (1, 1, 1024, 1024)
    assert discriminator(**sizes)(img).shape == (1, 3)


@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_images_have_unit_scale_at_initialisation(kind):
    g = generator(kind, channel_base=512, channel_max=32, magnitude_ema_beta=0.0)
    if kind != "stylegan2":
        g(torch.randn(8, 6), torch.randn(8, 2), update_emas=True)
    std = g(torch.randn(8, 6), torch.randn(8, 2)).std().item()
    assert 0.03 < std < 10  # StyleGAN3 scales its output by 0.25


@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_latent_and_condition_both_matter(kind):
    g = generator(kind)
    z, c = torch.randn(1, 6), torch.randn(1, 2)
    base = g(z, c)
    assert (g(z.flip(1), c) - base).abs().max() > 1e-3
    assert (g(z, -c) - base).abs().max() > 1e-3
    assert torch.equal(g(z, c), base)


@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_unconditional(kind):
    assert generator(kind, c_dim=0)(torch.randn(2, 6)).shape == (2, 1, 32, 32)
    for head in ("covariates", "projection"):
        assert discriminator(c_dim=0, head=head)(torch.randn(2, 1, 32, 32)).shape == (2, 1)


@torch.no_grad()
def test_noise_modes():
    g = generator()
    g.synthesis.b32.conv1.noise_strength.fill_(1.0)
    z, c = torch.randn(1, 6), torch.randn(1, 2)
    const, none, random = (g(z, c, noise_mode=mode) for mode in ("const", "none", "random"))
    assert torch.equal(const, g(z, c))
    assert not torch.equal(const, none)
    assert not torch.equal(random, g(z, c, noise_mode="random"))
    with pytest.raises(UsageError, match=r"loud.*const or random or none"):
        g(z, c, noise_mode="loud")


@torch.no_grad()
def test_truncation():
    g = generator(w_avg_beta=0.5)
    z, c = torch.randn(4, 6), torch.randn(4, 2)
    w = g.mapping(z, c, update_emas=True)[:, 0]
    mean = g.mapping.w_avg
    torch.testing.assert_close(mean, 0.5 * w.mean(0))
    full, none = g.mapping(z, c), g.mapping(z, c, truncation_psi=0.0)
    assert torch.equal(none, mean.expand_as(none))
    partly = g.mapping(z, c, truncation_psi=0.5, truncation_cutoff=3)
    torch.testing.assert_close(partly[:, :3], (full[:, :3] + mean) / 2)
    assert torch.equal(partly[:, 3:], full[:, 3:])
    g(z, c)
    assert torch.equal(g.mapping.w_avg, mean)  # moves only when asked


@torch.no_grad()
def test_magnitude_emas_follow_the_input_and_normalise_it():
    g = generator("stylegan3-t", magnitude_ema_beta=0.25)
    z, c = torch.randn(4, 6), torch.randn(4, 2)
    before = g(z, c)
    layer = g.synthesis.get_submodule(g.synthesis.layer_names[0])
    x = g.synthesis.input(g.mapping(z, c)[:, 0])
    g(z, c, update_emas=True)
    torch.testing.assert_close(layer.magnitude_ema, 0.25 + 0.75 * x.square().mean())
    assert not torch.equal(g(z, c), before)


@torch.no_grad()
def test_stylegan3_moves_with_its_transform():
    """A translation by one pixel of the input grid shifts the image by as much, away from the border."""
    g = generator("stylegan3-t", channel_base=512, channel_max=16)
    z, c = torch.randn(1, 6), torch.randn(1, 2)
    still = g(z, c)
    g.synthesis.input.transform[0, 2] = 4 / 32
    moved = g(z, c)
    difference = (moved[..., 4:-4, 4:-8] - still[..., 4:-4, 8:-4]).square().mean()
    assert difference < 0.05 * still.var()


@torch.no_grad()
def test_covariate_head_does_not_look_at_the_condition():
    d = discriminator()
    img = torch.randn(4, 1, 32, 32)
    assert torch.equal(d(img), d(img, torch.randn(4, 2)))
    assert d(img).shape == (4, 3)


@torch.no_grad()
def test_projection_head_looks_at_the_condition():
    d = discriminator(head="projection")
    img, c = torch.randn(4, 1, 32, 32), torch.randn(4, 2)
    assert d(img, c).shape == (4, 1)
    assert not torch.allclose(d(img, c), d(img, -c))
    assert len([name for name in d.mapping.state_dict() if name.endswith("weight")]) == 1 + 8
    with pytest.raises(UsageError, match=r"c: .*nothing.*\[B, 2\]"):
        d(img)


def test_minibatch_std_sees_only_its_own_group():
    x = torch.randn(4, 2, 3, 3)
    x[3] = x[1]  # with groups of two, images 1 and 3 form one, 0 and 2 the other
    y = minibatch_std(x, 2, 1)
    assert torch.equal(y[:, :2], x)
    torch.testing.assert_close(y[1, 2], torch.full((3, 3), 1e-4))
    expected = ((x[0] - x[2]).square() / 4 + 1e-8).sqrt().mean()
    torch.testing.assert_close(y[[0, 2], 2], expected.expand(2, 3, 3))
    assert torch.equal(minibatch_std(x, None, 1), minibatch_std(x, 4, 1))
    with pytest.raises(UsageError, match=r"6 images.*multiple of 4"):
        minibatch_std(torch.randn(6, 1, 2, 2), 4, 1)


def test_freezing_counts_layers_from_the_image():
    d = discriminator(freeze_layers=5)
    frozen = {id(p) for p in d.frozen_parameters()}
    names = [name for name, p in d.named_parameters() if id(p) in frozen]
    layers = list(dict.fromkeys(name.rsplit(".", 1)[0] for name in names))
    assert layers == ["b32.fromrgb", "b32.conv0", "b32.conv1", "b32.skip", "b16.conv0"]
    assert len(d.trainable_parameters()) + len(frozen) == len(list(d.parameters()))
    assert discriminator().frozen_parameters() == []


@pytest.mark.parametrize("kind", KINDS)
def test_every_weight_learns(kind):
    g = generator(kind)
    with torch.no_grad():
        for name, p in g.named_parameters():
            if name.endswith(("affine.weight", "noise_strength")):
                p.normal_()
    g(torch.randn(4, 6), torch.randn(4, 2)).square().sum().backward()
    assert [name for name, p in g.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0] == []
    d = discriminator()
    d(torch.randn(4, 1, 32, 32)).square().sum().backward()
    assert [name for name, p in d.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0] == []


def directional(module, call, *inputs):
    """A scalar of the network along random directions, to keep finite differences cheap."""
    inputs = [x.double() for x in inputs]
    steps = [torch.randn_like(x) for x in inputs]
    weights = torch.randn_like(call(*inputs)).detach()

    def function(t):
        return (call(*(x + t[i] * step for i, (x, step) in enumerate(zip(inputs, steps)))) * weights).mean()

    t = torch.zeros(len(inputs), dtype=torch.float64, requires_grad=True)
    assert gradcheck(function, [t], eps=1e-6, atol=1e-5)
    assert gradgradcheck(function, [t], eps=1e-6, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_generator_derivatives_in_float64(kind):
    g = generator(kind, channel_base=64, channel_max=3, num_layers=4, margin_size=2).double()
    ws = torch.randn(2, g.num_ws, 5)
    assert g.synthesis(ws.double()).dtype == torch.float64
    with ops.use_backend("torch"):
        directional(g, g.mapping, torch.randn(2, 6), torch.randn(2, 2))
        directional(g, g.synthesis, ws)


@pytest.mark.parametrize("head", ["covariates", "projection"])
def test_discriminator_derivatives_in_float64(head):
    d = discriminator(head=head, channel_base=64, channel_max=3).double()
    c = torch.randn(2, 2).double()
    directional(d, lambda img: d(img, c), torch.randn(2, 1, 32, 32))


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_backends_agree_on_all_gradients(kind):
    """Path-length and R1-style second derivatives with respect to every weight, reference against torch."""
    g = generator(kind, conv_clamp=0.8, channel_max=4, num_layers=3, margin_size=1).double()
    d = discriminator(conv_clamp=0.8).double()
    z, c = torch.randn(2, 6), torch.randn(2, 2)
    results = {}
    for backend in ("reference", "torch"):
        with ops.use_backend(backend):
            ws = g.mapping(z, c)
            img = g.synthesis(ws)
            weights = torch.linspace(-1, 1, img.numel(), dtype=img.dtype).reshape(img.shape)
            (path,) = torch.autograd.grad((img * weights).sum(), ws, create_graph=True)
            (slope,) = torch.autograd.grad(d(img)[:, 0].sum(), img, create_graph=True)
            total = path.square().sum() + slope.square().sum() + d(img).square().sum()
            both = [*g.parameters(), *d.parameters()]
            results[backend] = [img, path, slope, *torch.autograd.grad(total, both, materialize_grads=True)]
    for expected, got in zip(results["reference"], results["torch"]):
        torch.testing.assert_close(got, expected, rtol=1e-8, atol=1e-8 * expected.abs().max().item())


def test_wrong_shapes_are_named():
    g, d = generator(), discriminator()
    for call, message in [
        (lambda: g(torch.randn(2, 5), torch.randn(2, 2)), r"z: .*\(2, 5\).*\[B, 6\]"),
        (lambda: g(torch.randn(2, 6)), r"c: .*nothing"),
        (lambda: g.synthesis(torch.randn(2, 5)), r"ws: .*\[B, 8, 5\]"),
        (lambda: generator("stylegan3-t").synthesis(torch.randn(2, 8, 5)), r"ws: .*\[B, 16, 5\]"),
        (lambda: d(torch.randn(2, 3, 32, 32)), r"img: .*\(2, 3, 32, 32\)"),
    ]:
        with pytest.raises(UsageError, match=message):
            call()


def test_state_survives_copying():
    from copy import deepcopy

    g = generator("stylegan3-r")
    twin = generator("stylegan3-r")
    twin.load_state_dict(deepcopy(g).state_dict())
    z, c = torch.randn(1, 6), torch.randn(1, 2)
    assert torch.equal(g(z, c), twin(z, c))


def test_no_layer_is_narrower_than_asked():
    sizes = {"channel_base": 128, "channel_max": 32, "channel_min": 8, "img_resolution": 64}
    g = build_generator(GeneratorConfig(**sizes))
    widths = [g.synthesis.get_submodule(f"b{r}").conv1.weight.shape[0] for r in (4, 8, 16, 32, 64)]
    assert widths == [32, 16, 8, 8, 8]
    d = build_discriminator(DiscriminatorConfig(**sizes))
    assert d.b64.fromrgb.weight.shape[0] == 8 and d.b16.conv1.weight.shape[0] == 16
    bands = design_bands(GeneratorConfig(kind="stylegan3-t", **sizes))
    assert [bands[i].channels for i in (0, -3, -2, -1)] == [32, 8, 8, 1]
    with pytest.raises(UsageError, match="channel_min"):
        GeneratorConfig(**sizes | {"channel_min": 64})


@pytest.mark.parametrize("kind", ["stylegan2", "stylegan3-t", "stylegan3-r"])
@torch.no_grad()
def test_image_noise_is_silent_at_first_then_follows_the_features(kind):
    g = generator(kind, image_noise=True)
    z, c = torch.randn(2, 6), torch.randn(2, 2)
    silent = g(z, c)
    torch.manual_seed(0)
    assert torch.equal(silent, g(z, c, noise_mode="none"))
    torch.nn.init.normal_(g.synthesis.image_noise.strength.weight)
    noise = g(z, c) - silent
    stored = g.synthesis.image_noise.noise_const
    strength = noise[:, 0] / stored
    size = strength.abs().mean()
    assert strength.std(dim=(1, 2)).min() > 0.1 * size  # another at each pixel
    assert (strength[0] - strength[1]).abs().mean() > 0.1 * size  # and in each picture
    assert torch.equal(silent, g(z, c, noise_mode="none"))
    assert not torch.equal(g(z, c, noise_mode="random"), g(z, c, noise_mode="random"))


@torch.no_grad()
def test_sines_of_a_position_start_without_effect_then_tell_close_places_apart():
    g = generator(position_index=1, position_frequencies=4)
    z, c = torch.randn(3, 6), torch.tensor([[0.5, 0.0], [0.5, 0.5], [0.1, 0.0]])
    plain = generator()
    plain.load_state_dict({k: v for k, v in g.state_dict().items() if "embed_position" not in k})
    assert torch.equal(g(z, c, noise_mode="none"), plain(z, c, noise_mode="none"))
    torch.nn.init.normal_(g.mapping.embed_position.weight)
    period = 4 / 2**3
    parts = [
        g.mapping._embedded(c + torch.tensor([0, d])) - plain.mapping._embedded(c + torch.tensor([0, d]))
        for d in (0.0, period / 2, 4.0)
    ]
    assert not torch.allclose(parts[0], parts[1], atol=0.1)
    torch.testing.assert_close(parts[0], parts[2], atol=1e-4, rtol=0)
    torch.testing.assert_close(parts[0][0], parts[0][2])  # only the position enters


@pytest.mark.parametrize(
    "wrong", [{"position_index": 2}, {"position_frequencies": 13}, {"position_frequencies": -1}]
)
def test_a_position_that_cannot_be_is_named(wrong):
    with pytest.raises(UsageError, match=next(iter(wrong))):
        generator(**wrong)
