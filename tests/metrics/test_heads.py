"""What a model's own discriminator reads, and pictures drawn otherwise than plainly."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from mssg import load_study
from mssg.checkpoint.snapshot import load_snapshot
from mssg.errors import SnapshotError, UsageError
from mssg.features.heads import DiscriminatorHeads, is_snapshot
from mssg.metrics import registry
from mssg.metrics.dataset import open_dataset
from mssg.metrics.evaluate import evaluate
from mssg.metrics.instruments import open_instruments
from mssg.metrics.model import evaluated_model
from mssg.metrics.sampling import ArrayCache, CachedSampler
from mssg.rendering.request import RenderRequest


@pytest.fixture(scope="module")
def data(tiny_study):
    return open_dataset(load_study(tiny_study), "test")[0]


@pytest.fixture(scope="module")
def path(make_snapshot):
    return make_snapshot(name="tiny-heads")


def measured(data, path, folder, predictors=(), **options):
    model = evaluated_model("x", load_snapshot(path), data.study)
    return evaluate(
        data=data,
        models=[model],
        options=registry.options(**options),
        sampler=CachedSampler(ArrayCache(folder / "parts"), ArrayCache(folder / "real"), chunk=30),
        instruments=open_instruments(data.study, predictors)[0],
    )


def test_heads_are_the_outputs_beside_realness(data, path):
    snapshot = load_snapshot(path)
    heads, images = DiscriminatorHeads.of(snapshot), data.images(slice(0, 8))
    read = heads.measure(images)
    outputs = snapshot.load("D")(torch.from_numpy(images).float() / 127.5 - 1)
    columns = outputs[:, 1:][:, snapshot.study.layout["thickness"]].detach().numpy()
    expected = snapshot.study.covariate("thickness").decode(columns)
    np.testing.assert_allclose(read["thickness"], expected, rtol=1e-5)
    assert all(np.isfinite(v).all() and len(v) == 8 for v in read.values())
    assert len(heads.measure(images[:5])["digit"]) == 5  # no whole number of groups
    assert set(heads.measure(images[:3])["digit"]) <= {0, 1, 2}


def test_agreement_with_the_instrument(data, path, tmp_path):
    found = measured(data, path, tmp_path, metrics=("heads",), images=24)
    results = [r for r in found.results if r.metric.startswith("heads/")]
    assert {r.reference for r in results} == {"label", "requested", "instrument"}
    r = {r.reference: r for r in found.find(metric="heads/mae", covariate="slant", source="joint")}
    assert r["label"].n == 0 and r["label"].n_real == len(data) and r["requested"].n == 24
    assert r["instrument"].detail["beside"] == "oracle-digits"
    assert r["requested"].instrument.startswith("discriminator@") and r["requested"].unit == "°"
    # with itself as instrument it agrees wholly
    bare = replace(data, study=replace(data.study, instrument=""))
    own = measured(bare, path, tmp_path / "own", [path], metrics=("heads", "overall"), images=24)
    alike = own.find(metric="heads/mae", covariate="slant", source="joint", reference="instrument")
    assert alike[0].value == pytest.approx(0, abs=1e-4) and alike[0].detail["beside"] == alike[0].instrument
    assert own.find(metric="overall/mae", covariate="slant", source="joint")


def test_what_is_no_snapshot_is_read_as_a_predictor(path, tmp_path, data):
    assert is_snapshot(path) and is_snapshot(path.parent) and not is_snapshot(tmp_path / "none")
    with pytest.raises(SnapshotError, match="not a usable predictor"):
        open_instruments(data.study, [tmp_path / "none.safetensors"])


def test_a_projecting_discriminator_has_no_heads(make_snapshot):
    with pytest.raises(SnapshotError, match="no head"):
        DiscriminatorHeads.of(load_snapshot(make_snapshot(name="projecting", d_head="projection")))


def test_pictures_drawn_otherwise(data, path, make_snapshot):
    snapshot, requests = load_snapshot(path), data.requests(0)[:3]
    for name, strength in snapshot.G.named_parameters():
        if name.endswith("noise_strength"):  # 0 before training
            strength.fill_(0.5)

    def draw(seed=1, **like):
        return evaluated_model("x", snapshot, data.study, like=RenderRequest(**like)).generate(requests, seed)

    plain = draw()
    assert np.array_equal(draw(psi=0.0), draw(psi=0.0, seed=2)) and not np.array_equal(plain, draw(seed=2))
    quiet = draw(noise_mode="none")
    assert not np.array_equal(plain, quiet)
    state = torch.get_rng_state()
    assert np.array_equal(draw(noise_mode="random"), draw(noise_mode="random"))
    assert torch.equal(state, torch.get_rng_state())
    record = evaluated_model("x", snapshot, data.study, like=RenderRequest(psi=0.7, noise_mode="none")).record
    assert record.drawn == "--psi 0.7 --noise none"
    moved = RenderRequest(transform=(1, 0, 0.25, 0, 1, 0))
    with pytest.raises(UsageError, match="cannot move its picture"):
        evaluated_model("x", snapshot, data.study, like=moved)
    three = load_snapshot(make_snapshot(cfg="stylegan3-t", name="tiny-3"))
    assert not np.array_equal(
        evaluated_model("x", three, data.study, like=moved).generate(requests, 1),
        evaluated_model("x", three, data.study).generate(requests, 1),
    )
