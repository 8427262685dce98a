"""Requests and the renderer: equal requests mean the same picture, nothing leaks from one to the next."""

from __future__ import annotations

import dataclasses
import json
import os
import pickle
import subprocess
import sys

import numpy as np
import pytest
import torch

from mssg.checkpoint.snapshot import load_snapshot
from mssg.errors import UsageError
from mssg.ops.native import library
from mssg.rendering.renderer import Renderer
from mssg.rendering.request import RenderRequest, StoredLatent, to_uint8
from mssg.study.covariate import Covariate
from mssg.study.model import Source, Study
from mssg.study.values import (
    Sweep,
    outside_training,
    parse_sweep,
    parse_value,
    parse_values,
    plain,
    round_values,
    training_defaults,
)

VALUES = {"thickness": 3.0, "intensity": 150.0, "slant": -5.0, "digit": 2.0}


@pytest.fixture(scope="module")
def study():
    covariates = (
        Covariate("age", "continuous", "years"),
        Covariate("volume", "continuous", "ml", transform="log", shift=10.0),
        Covariate("ill", "binary"),
        Covariate("grade", "categorical", levels=("none", "mild", "severe")),
    )
    return Study("people", 32, 1, covariates, (Source("A", "a", ("age", "volume", "ill", "grade")),))


SUMMARY = {
    "covariates": {
        "age": {"quantiles": {"q": [0, 0.05, 0.5, 0.95, 1], "values": [40.0, 46.3, 63.0, 78.2, 84.0]}},
        "volume": {"quantiles": {"q": [0, 0.5, 1], "values": [5.0, 30.0, 90.0]}},
        "ill": {"histogram": {"levels": ["0", "1"], "counts": [3, 9]}},
        "grade": {"histogram": {"levels": ["none", "mild", "severe"], "counts": [5, 7, 1]}},
    }
}


def test_requests_import_no_torch():
    code = "import sys, mssg.rendering.request, mssg.checkpoint.header; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_equal_requests_are_equal_however_they_were_written():
    one = RenderRequest(covariates=(("b", 1), ("a", 2.0)), psi=1)
    two = RenderRequest(covariates={"a": 2, "b": 1.0}, psi=1.0)
    assert one == two and hash(one) == hash(two) and one.covariates == (("a", 2.0), ("b", 1.0))
    assert one != RenderRequest(covariates={"a": 2, "b": 1.5})
    with pytest.raises(AttributeError):
        one.psi = 0.5


def test_requests_survive_json():
    request = RenderRequest(
        "abc",
        3,
        blend=((1, 0.5), (2, 0.5)),
        mix_seed=9,
        mix_layers=(1, 3),
        covariates={"a": 1.5},
        psi=0.7,
        cutoff=4,
        noise_mode="random",
        noise_seed=8,
        layer="b8.conv0",
        channel=2,
        transform=(1, 0, 0.1, 0, 1, 0),
    )
    assert RenderRequest.from_json(json.loads(json.dumps(request.to_json()))) == request
    assert RenderRequest().to_json() == {}
    with pytest.raises(UsageError, match="colour"):
        RenderRequest.from_json({"colour": 1})


@pytest.mark.parametrize(
    "wrong",
    [
        {"seed": -1},
        {"seed": None},
        {"psi": float("nan")},
        {"noise_mode": "loud"},
        {"cutoff": -1},
        {"channel": 1},
        {"covariates": (("a", 1.0), ("a", 2.0))},
        {"covariates": {"a": float("inf")}},
        {"blend": ((1, 1.0), (2, -1.0))},
        {"transform": (1, 0, 0, 1)},
        {"transform": (0,) * 6},
        {"mix_layers": (-1,)},
        {"precision": "float8"},
    ],
)
def test_impossible_requests_are_refused(wrong):
    with pytest.raises(UsageError):
        RenderRequest(**wrong)


def test_values_are_parsed_in_native_units(study):
    assert parse_value(study, "age=63") == ("age", 63.0)
    assert parse_value(study, "grade = mild") == ("grade", 1.0)
    assert parse_values(study, ["ill=yes", "volume=-5"]) == {"ill": 1.0, "volume": -5.0}
    for text, said in {
        "weight=3": r"age \(years\), volume \(ml\), ill \(0\|1\), grade \(none\|mild\|severe\)",
        "aeg=3": "Did you mean 'age'",
        "age": "name=value",
        "63": "name=value",
        "age=old": "years",
        "age=": "name=value",
        "age=nan": "missing",
        "volume=-10": "more than -10 ml",
        "grade=awful": "none | mild | severe".replace("|", r"\|"),
        "ill=2": "0 or 1",
    }.items():
        with pytest.raises(UsageError, match=said):
            parse_value(study, text)
    with pytest.raises(UsageError, match="given twice"):
        parse_values(study, ["age=1", "age=2"])


def test_sweeps_are_parsed_in_native_units(study):
    assert parse_sweep(study, "age=40:60:3") == Sweep("age", (40.0, 50.0, 60.0))
    assert parse_sweep(study, "age=60:40:3").values == (60.0, 50.0, 40.0)
    assert len(parse_sweep(study, "age=40:60", steps=9).values) == 9
    assert parse_sweep(study, "age=1,5,2").values == (1.0, 5.0, 2.0)
    assert parse_sweep(study, "grade").values == (0.0, 1.0, 2.0)
    assert parse_sweep(study, "grade=severe:mild").values == (2.0, 1.0)
    assert parse_sweep(study, "ill").values == (0.0, 1.0)
    assert parse_sweep(study, "age", 4, SUMMARY).values == (48.0, 56.0, 64.0, 72.0)
    for text in (
        "age=40:60:0",
        "age=40:60:x",
        "age=1:2:3:4",
        "age=40:40:3",
        "age=:60",
        "grade=none:mild:2",
        "x=1:2",
        "age",
    ):
        with pytest.raises(UsageError):
            parse_sweep(study, text)
    with pytest.raises(UsageError, match="log transform"):
        parse_sweep(study, "volume=-20:5:3")


@pytest.mark.parametrize(
    "low, high, count",
    [(2.13, 4.84, 7), (-18.5, 16.4, 7), (0.02, 90, 6), (1e-5, 3e-5, 4), (0.99, 1.01, 9), (-900, -12.3, 5)],
)
def test_round_values_are_even_inside_and_short(low, high, count):
    values = round_values(low, high, count)
    steps = np.diff(values)
    assert len(values) == count and low <= values[0] and values[-1] <= high * (1 + 1e-9) + 1e-12
    assert np.allclose(steps, steps[0]) and all(float(f"{v:.5g}") == v for v in values)
    assert values[-1] - values[0] > 0.5 * (high - low)


def test_what_is_not_stated_takes_the_median_or_the_mode(study):
    assert training_defaults(study, SUMMARY) == {"age": 63.0, "volume": 30.0, "ill": 1.0, "grade": 1.0}
    with pytest.raises(UsageError, match="age"):
        training_defaults(study, {})
    told = Study(
        "two", 32, 1, study.covariates, tuple(Source(n, n, ("age",)) for n in "AB"), condition_on_source=True
    )
    assert training_defaults(told, SUMMARY | {"sources": {"A": {"n": 3}, "B": {"n": 5}}})["source"] == 1.0


def test_values_outside_the_training_data_are_named(study):
    assert outside_training(study, SUMMARY, {"age": 63.0, "grade": 2.0}) == []
    assert outside_training(study, SUMMARY, {"age": 90.0}) == [
        "age 90.0 years lies outside the training data (40.0 to 84.0 years)"
    ]
    assert outside_training(study, SUMMARY, {"age": (50.0, 30.0, 60.0)}) == [
        "age 30.0 to 60.0 years lies outside the training data (40.0 to 84.0 years)"
    ]


def test_plain_values_read_back_without_loss(study):
    for name, value in (("age", 63.123456), ("volume", -9.75), ("ill", 1.0), ("grade", 2.0)):
        assert parse_value(study, f"{name}={plain(study.covariate(name), value)}") == (name, value)


def test_grey_levels():
    assert to_uint8(np.array([-1.2, -1, 0, 1, 3], np.float32)).tolist() == [0, 0, 128, 255, 255]


@pytest.mark.slow
def test_a_picture_is_the_network_s_own(tiny_renderer):
    from mssg.networks.latents import latents

    request = RenderRequest(tiny_renderer.header.snapshot_id, 5, covariates=VALUES, psi=0.8, cutoff=3)
    result = tiny_renderer.render(request)
    study = tiny_renderer.study
    c = torch.from_numpy(study.encode(np.array([[VALUES[n] for n in study.condition_names]])))
    with torch.no_grad():
        expected = tiny_renderer.G(
            latents([5], tiny_renderer.G.z_dim), c, truncation_psi=0.8, truncation_cutoff=3
        )[0]
    assert result.error is None and not result.preview and result.image.dtype == np.float32
    np.testing.assert_allclose(result.image, expected.numpy(), atol=1e-5)
    assert [stage for stage, _ in result.timings_ms] == ["mapping", "synthesis"]
    assert np.array_equal(tiny_renderer.render(request).image, result.image)


def test_each_field_of_a_request_changes_the_picture(tiny_renderer):
    base = {"seed": 1, "covariates": VALUES}
    first = tiny_renderer.render(RenderRequest(**base)).image
    changes = [
        {"seed": 2},
        {"psi": 0.5},
        {"covariates": VALUES | {"slant": 9.0}},
        {"covariates": VALUES | {"digit": 0.0}},
        {"blend": ((1, 0.5), (2, 0.5))},
        {"mix_seed": 2, "mix_layers": (2, 3)},
    ]
    for change in changes:
        assert not np.allclose(tiny_renderer.render(RenderRequest(**(base | change))).image, first), change
    assert np.array_equal(tiny_renderer.render(RenderRequest(**(base | {"blend": ((1, 2.0),)}))).image, first)


def test_defaults_fill_what_is_left_out(tiny_renderer):
    stated = tiny_renderer.render(RenderRequest(seed=1, covariates=tiny_renderer.defaults))
    assert np.array_equal(stated.image, tiny_renderer.render(RenderRequest(seed=1)).image)


def test_random_noise_is_its_seed_s_and_the_caller_s_random_state_stays(tiny_snapshot):
    from mssg.checkpoint.snapshot import load_snapshot
    from mssg.rendering.renderer import Renderer

    renderer = Renderer(load_snapshot(tiny_snapshot))
    for name, parameter in renderer.G.named_parameters():
        if name.endswith("noise_strength"):
            parameter.data.fill_(0.3)
    torch.manual_seed(4)
    expected = torch.rand(3)
    torch.manual_seed(4)
    images = [
        renderer.render(RenderRequest(covariates=VALUES, noise_mode="random", noise_seed=s)).image
        for s in (1, 1, 2)
    ]
    assert torch.equal(torch.rand(3), expected)
    assert np.array_equal(images[0], images[1]) and not np.allclose(images[0], images[2])


def test_a_picture_s_noise_stays_where_its_content_moves(make_snapshot):
    renderer = Renderer(load_snapshot(make_snapshot("stylegan3-t", name="noisy", image_noise=True)))
    renderer.G.synthesis.image_noise.strength.bias.data.fill_(0.3)

    def noise(**change):
        request = RenderRequest(covariates=VALUES, **change)
        quiet = renderer.render(dataclasses.replace(request, noise_mode="none")).image
        return renderer.render(request).image - quiet

    still = noise()
    assert 0.2 < still.std() < 0.4
    np.testing.assert_allclose(noise(transform=(1, 0, 0.1, 0, 1, 0)), still, atol=1e-5)
    assert not np.allclose(noise(noise_mode="random"), still)


def test_work_is_dropped_before_any_layer(tiny_renderer):
    request = RenderRequest(seed=3, covariates=VALUES)
    asked = []
    full = tiny_renderer.render(request, lambda: bool(asked.append(1)))
    assert full.image is not None and len(asked) == len(tiny_renderer.layers)
    for stop in range(len(asked)):
        count = iter(range(100))
        result = tiny_renderer.render(request, lambda stop=stop, count=count: next(count) >= stop)
        assert result.cancelled and result.image is None and result.error is None
    assert np.array_equal(tiny_renderer.render(request).image, full.image), "nothing is left behind"


def test_layers_can_be_seen(tiny_renderer):
    name = tiny_renderer.layers[3]
    seen = tiny_renderer.render(RenderRequest(covariates=VALUES, layer=name)).image
    assert seen.ndim == 3 and seen.shape[0] > 1
    one = tiny_renderer.render(RenderRequest(covariates=VALUES, layer=name, channel=1)).image
    assert np.array_equal(one, seen[1:2])
    assert "b4.conv1" in tiny_renderer.render(RenderRequest(layer="b5.conv9")).error
    assert "no such channel" in tiny_renderer.render(RenderRequest(layer=name, channel=999)).error


def test_errors_come_back_as_words(tiny_renderer):
    for request, said in (
        (RenderRequest(covariates={"age": 3.0}), "thickness"),
        (RenderRequest(covariates={"digit": 7.0}), "no such level"),
        (RenderRequest(snapshot="000000000000"), "another snapshot"),
        (RenderRequest(mix_layers=(99,)), "no such layer"),
        (RenderRequest(precision="float16"), "float16 needs a GPU"),
        (RenderRequest(transform=(1, 0, 0.1, 0, 1, 0)), "StyleGAN3"),
    ):
        result = tiny_renderer.render(request)
        assert result.image is None and said in result.error, result.error


def test_a_stored_latent_is_drawn_as_it_stands(tiny_renderer):
    G = tiny_renderer.G
    w = np.random.default_rng(0).standard_normal((G.num_ws, G.w_dim)).astype(np.float32)
    request = RenderRequest(latent=StoredLatent(w))
    with torch.no_grad():
        expected = G.synthesis(torch.from_numpy(w[None]), noise_mode="const")[0].numpy()
    np.testing.assert_allclose(tiny_renderer.render(request).image, expected, atol=1e-5)
    average = tiny_renderer.render(RenderRequest(latent=StoredLatent(w), psi=0.0)).image
    np.testing.assert_allclose(average, tiny_renderer.render(RenderRequest(psi=0.0)).image, atol=1e-5)
    assert "[2, 16]" in tiny_renderer.render(RenderRequest(latent=StoredLatent(w[:2]))).error
    edit = RenderRequest(latent=StoredLatent(w), covariates=VALUES)
    assert "cannot be edited" in tiny_renderer.render(edit).error


def test_stored_latents_are_what_they_hold():
    w = np.zeros((4, 2), np.float32)
    one, same = StoredLatent(w, {"a": w}, file="here"), StoredLatent(w.copy(), {"a": w.copy()}, file="there")
    assert one == same and hash(one) == hash(same) and RenderRequest(latent=one) == RenderRequest(latent=same)
    others = [
        StoredLatent(w + 1, {"a": w}),
        StoredLatent(w),
        StoredLatent(w, {"a": w + 1}),
        StoredLatent(w, {"b": w}),
    ]
    assert all(one != other for other in others)
    document = json.loads(json.dumps(RenderRequest(latent=one).to_json()))
    assert RenderRequest.from_json(document, same) == RenderRequest(latent=one)
    with pytest.raises(UsageError, match="needs the stored latent"):
        RenderRequest.from_json(document)
    with pytest.raises(UsageError, match="another stored latent"):
        RenderRequest.from_json(document, others[0])
    with pytest.raises(UsageError, match="finite"):
        StoredLatent(w * np.nan)


def test_a_request_s_hash_is_kept_but_does_not_travel():
    request = RenderRequest(seed=3, layer="b8.conv0")
    assert "_hash" not in vars(request) and hash(request) == vars(request)["_hash"]
    assert (
        "_hash" not in vars(pickle.loads(pickle.dumps(request)))
        and pickle.loads(pickle.dumps(request)) == request
    )
    code = (
        f"import pickle; r = pickle.loads({pickle.dumps(request)!r}); from mssg import RenderRequest as R; "
    )
    code += "assert r in {R(seed=3, layer='b8.conv0')}"
    subprocess.run([sys.executable, "-c", code], check=True, env=os.environ | {"PYTHONHASHSEED": "1"})


def test_a_blend_of_one_seed_is_that_seed():
    assert RenderRequest(blend=((4, 0.3),)) == RenderRequest(seed=4)
    assert RenderRequest(mix_layers=(3, 1, 1)).mix_layers == (1, 3)


@pytest.mark.parametrize("cfg", ["stylegan2", "stylegan3-t", "stylegan3-r"])
def test_a_picture_does_not_depend_on_its_neighbours(make_snapshot, cfg):
    snapshot = load_snapshot(make_snapshot(cfg, name=f"neighbours-{cfg}"))
    requests = [RenderRequest(seed=i, covariates=VALUES | {"slant": i - 20.0}) for i in range(41)]
    alone = [Renderer(snapshot).render(r).image for r in requests]
    together = Renderer(snapshot)
    assert all(map(np.array_equal, together.pictures(requests), alone))
    assert together.syntheses == (41 if isinstance(library.load(), str) else 1)


def test_batches_equal_single_pictures(tiny_renderer):
    study = tiny_renderer.study
    values = np.tile([VALUES[n] for n in study.condition_names], (5, 1))
    values[:, study.index("slant")] = [-9, -3, 0, 4, 8]
    requests = [
        RenderRequest(seed=i + 1, covariates=VALUES | {"slant": values[i, study.index("slant")]})
        for i in range(5)
    ]
    requests.insert(2, RenderRequest(seed=9, noise_mode="random", noise_seed=3))
    requests.insert(4, RenderRequest(blend=((1, 0.25), (2, 0.75)), mix_seed=4, mix_layers=(2,)))
    alone = [type(tiny_renderer)(tiny_renderer.snapshot).render(r).image for r in requests]
    assert all(map(np.array_equal, tiny_renderer.pictures(requests), alone)), "bit for bit"
    for batch in (2, 4):
        for image, expected in zip(tiny_renderer.pictures(requests, batch), alone, strict=True):
            np.testing.assert_allclose(image, expected, atol=1e-5)
    many = [image for r, image in zip(requests, alone) if r.noise_mode == "const" and not r.blend]
    assert np.array_equal(tiny_renderer.images(values, [1, 2, 3, 4, 5]), to_uint8(np.stack(many)))
    same = tiny_renderer.generate(values, 7)
    assert np.array_equal(same, tiny_renderer.generate(values, 7)) and not np.array_equal(
        same, tiny_renderer.generate(values, 8)
    )
    values[2, 0] = np.nan
    with pytest.raises(UsageError, match="thickness"):
        tiny_renderer.images(values, 0)
    with pytest.raises(UsageError, match="table of conditions"):
        tiny_renderer.images(values[:, :2], 0)


@pytest.mark.slow
def test_stylegan3_pictures_move_and_move_back(make_snapshot):
    from mssg.checkpoint.snapshot import load_snapshot
    from mssg.rendering.renderer import Renderer

    renderer = Renderer(load_snapshot(make_snapshot(cfg="stylegan3-t", name="alias-free")))
    still = renderer.render(RenderRequest(seed=1)).image
    right = renderer.render(RenderRequest(seed=1, transform=(1, 0, 0.25, 0, 1, 0))).image
    again = renderer.render(RenderRequest(seed=1)).image
    assert np.array_equal(still, again) and not np.allclose(still, right)
    inner = slice(10, 22)  # away from the borders, which see what comes in
    moved = np.corrcoef(still[0, inner, 10:14].ravel(), right[0, inner, 18:22].ravel())[0, 1]
    assert moved > 0.9, "a quarter of the width to the right"
    preview = renderer.render(RenderRequest(seed=1), preview=True)
    assert not preview.preview and np.array_equal(preview.image, still), "this network has no cheaper picture"


def untrained(kind, pixels):
    """A renderer of one condition with random weights."""
    from types import SimpleNamespace

    from mssg.networks.config import GeneratorConfig
    from mssg.networks.generator import build_generator
    from mssg.rendering.renderer import Renderer

    study = Study("one", pixels, 1, (Covariate("ill", "binary"),), (Source("A", "a", ("ill",)),))
    config = GeneratorConfig(
        kind, z_dim=8, w_dim=8, c_dim=1, img_resolution=pixels, channel_base=128, channel_max=8
    )
    torch.manual_seed(0)
    G = build_generator(config).eval().requires_grad_(False)
    header = SimpleNamespace(summary=SUMMARY, snapshot_id="x")
    return Renderer(SimpleNamespace(study=study, header=header, G=G))


ILL = {"covariates": {"ill": 1.0}}
MOVED = {"transform": (0.96, -0.28, 0.1, 0.28, 0.96, -0.2)}


@pytest.mark.slow
@pytest.mark.parametrize(
    "kind, pixels, side, near",
    [("stylegan2", 128, 32, 0.3), ("stylegan3-t", 64, 32, 0.98), ("stylegan3-r", 64, 32, 0.98)],
)
def test_a_large_network_gives_a_small_preview(kind, pixels, side, near):
    renderer = untrained(kind, pixels)
    for request in (RenderRequest(**ILL), RenderRequest(**ILL, **(MOVED if kind != "stylegan2" else {}))):
        quick, full = renderer.render(request, preview=True), renderer.render(request)
        assert quick.preview and not full.preview
        assert quick.image.shape == (1, side, side) and full.image.shape == (1, pixels, pixels)
        small = full.image.reshape(1, side, pixels // side, side, pixels // side).mean((2, 4))
        assert np.corrcoef(quick.image.ravel(), small.ravel())[0, 1] > near
        assert np.array_equal(renderer.render(request, preview=True).image, quick.image)
        assert np.array_equal(renderer.render(request).image, full.image)
    name = renderer.layers[-2]
    view = RenderRequest(**ILL, layer=name)
    quick = renderer.render(view, preview=True)
    assert not quick.preview and np.array_equal(quick.image, renderer.render(view).image)
    assert "no such level" in renderer.render(RenderRequest(covariates={"ill": 2.0}), preview=True).error


@pytest.mark.parametrize("kind", ["stylegan2", "stylegan3-t"])
def test_a_preview_is_dropped_before_any_layer(kind):
    renderer = untrained(kind, 64)
    request = RenderRequest(**ILL)
    asked = []
    drawn = renderer.render(request, lambda: bool(asked.append(1)), preview=True).image
    assert 5 < len(asked) <= len(renderer.layers)
    for stop in range(len(asked)):
        count = iter(range(100))
        result = renderer.render(request, lambda stop=stop, count=count: next(count) >= stop, preview=True)
        assert result.cancelled and result.image is None
    assert np.array_equal(renderer.render(request, preview=True).image, drawn), "nothing is left behind"


def test_a_preview_takes_the_stored_noise_it_has_room_for():
    renderer = untrained("stylegan2", 128)
    for name, parameter in renderer.G.named_parameters():
        if name.endswith("noise_strength"):
            parameter.fill_(0.5)
    noises = {n: b for n, b in renderer.G.synthesis.named_buffers() if n.endswith("noise_const")}
    w = np.zeros(renderer.G.w_dim, np.float32)
    own = renderer.render(RenderRequest(latent=StoredLatent(w)), preview=True).image
    for factor, same in ((1, True), (2, False)):
        stored = {name: factor * noise[None, None].numpy() for name, noise in noises.items()}
        for snapshot, whose in (("x", same), ("y", True)):
            request = RenderRequest(latent=StoredLatent(w, stored, snapshot=snapshot))
            drawn = renderer.render(request, preview=True).image
            assert np.allclose(drawn, own, atol=1e-5) == whose, "noise of another snapshot fits no layer"


@pytest.mark.parametrize("cfg", ["stylegan2", "stylegan3-t"])
def test_a_picture_resumes_where_it_first_differs(make_snapshot, monkeypatch, cfg):
    from mssg.checkpoint.snapshot import load_snapshot
    from mssg.rendering.renderer import Renderer

    path = make_snapshot(cfg=cfg, name=f"recall-{cfg}")
    renderer, fresh = Renderer(load_snapshot(path)), lambda r: Renderer(load_snapshot(path)).render(r).image
    ran, names = [], {layer: name for name, layer in renderer._layers.items()}

    def watch(cls):
        compute = cls.forward

        def forward(layer, *inputs):
            if layer in names:
                ran.append(names[layer])
            return compute(layer, *inputs)

        monkeypatch.setattr(cls, "forward", forward)

    for cls in set(map(type, names)):
        watch(cls)
    request = RenderRequest(seed=1, covariates=VALUES)
    first = renderer.render(request).image
    assert ran == list(renderer.layers)
    ran.clear()
    assert np.array_equal(renderer.render(request).image, first) and not ran, "nothing changed, nothing runs"
    name = renderer.layers[2]
    assert renderer.render(RenderRequest(seed=1, covariates=VALUES, layer=name)).image is not None and not ran

    G = renderer.G
    w = np.random.default_rng(0).standard_normal((G.num_ws, G.w_dim)).astype(np.float32)
    for changed in (None, G.num_ws - 1):
        if changed is not None:
            w[changed] += 1
        ran.clear()
        late = RenderRequest(latent=StoredLatent(w.copy()))
        assert np.array_equal(renderer.render(late).image, fresh(late))
    assert ran == [renderer.layers[-1]], "only the last w differs"

    last = RenderRequest(seed=2, covariates=VALUES)
    with torch.no_grad():
        before = renderer.render(last).image
        list(renderer._layers.values())[1].bias.add_(1)
        assert not np.array_equal(renderer.render(last).image, before), "changed weights are noticed"


@pytest.mark.slow
@pytest.mark.parametrize("cfg", ["stylegan2", "stylegan3-r"])
def test_drawing_leaves_the_process_as_it_was(make_snapshot, cfg):
    """Allocator, loggers, random state are the caller's; and no compiler is imported to draw a picture."""
    code = f"""
import ctypes, logging, sys
import numpy as np, torch
called = []
class Watched(ctypes.CDLL):
    def __getattr__(self, name):
        called.append(name)
        return super().__getattr__(name)
ctypes.CDLL = Watched
from mssg.checkpoint.snapshot import load_snapshot
from mssg.rendering.renderer import Renderer
from mssg.rendering.request import RenderRequest
before = logging.getLogger("nibabel.global").level, torch.get_rng_state(), torch.get_num_threads()
renderer = Renderer(load_snapshot({str(make_snapshot(cfg=cfg))!r}))
assert renderer.render(RenderRequest(noise_mode="random")).error is None
assert "mallopt" not in called
assert "torch._dynamo" not in sys.modules
assert logging.getLogger("nibabel.global").level == before[0] and torch.get_num_threads() == before[2]
assert torch.equal(torch.get_rng_state(), before[1])
"""
    subprocess.run([sys.executable, "-c", code], check=True)
