"""Feature networks: they recognise a photograph, carry their names, and say what to do when they are not
there."""

from __future__ import annotations

import re
import warnings
from types import SimpleNamespace
from urllib.error import URLError

import matplotlib.cbook
import numpy as np
import pytest
import torch
from PIL import Image

from mssg import assets
from mssg.errors import DataError, MssgError, UsageError
from mssg.features import efficientnet, inception
from mssg.features.extractors import load_features

MILITARY_UNIFORM, BOW_TIE, SUIT = 652, 457, 834


@pytest.fixture(scope="module")
def lite0():
    return load_features()


def photograph() -> np.ndarray:
    """Grace Hopper in uniform, which comes with matplotlib: uint8 [1, 3, 224, 224]."""
    with matplotlib.cbook.get_sample_data("grace_hopper.jpg") as file:
        image = Image.open(file).convert("RGB")
    side = min(image.size)
    return np.array(image.crop((0, 0, side, side)).resize((224, 224))).transpose(2, 0, 1)[None]


def test_offline_features_recognise_a_photograph(lite0):
    features = lite0(photograph())
    assert lite0.name == "efficientnet_lite0" and features.shape == (1, 1280) and features.dtype == np.float32
    p = lite0.probabilities(features)[0]
    assert p.sum() == pytest.approx(1) and p.argmax() == MILITARY_UNIFORM
    assert {BOW_TIE, SUIT} <= set(np.argsort(-p)[:5])


def test_features_do_not_depend_on_the_batch_and_grey_is_repeated(lite0):
    images = np.random.default_rng(0).integers(0, 256, (3, 1, 32, 32), dtype=np.uint8)
    together = lite0(images)
    assert np.allclose(together[1:2], lite0(images[1:2]), atol=1e-4)
    assert np.allclose(together, lite0(np.repeat(images, 3, axis=1)), atol=1e-4)
    with pytest.raises(DataError, match="2 channels"):
        lite0(np.zeros((1, 2, 32, 32), np.uint8))


def test_inception_is_tensorflows_network(tmp_path, monkeypatch):
    network = inception.build()
    x = torch.randn(1, 3, 75, 75)
    assert network(x).shape == (1, 1008) and len(network.state_dict()) == 566
    ones = torch.ones(1, 192, 5, 5)
    seen = []
    network.Mixed_5b.branch_pool.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    network.Mixed_5b(ones)
    assert torch.allclose(seen[0], ones)  # the padding is not averaged
    assert inception.resize(torch.arange(4.0).view(1, 1, 1, 4), 8)[0, 0, 0].tolist() == [
        0,
        0.5,
        1,
        1.5,
        2,
        2.5,
        3,
        3,
    ]


def test_missing_inception_weights_name_the_alternatives(tmp_path, monkeypatch):
    def offline(*_, **__):
        raise URLError("no network")

    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.setattr(torch.hub, "download_url_to_file", offline)
    with pytest.raises(DataError, match=r"no network.*--weights.*efficientnet_lite0"):
        load_features("inception")
    wrong = tmp_path / "w.pth"
    wrong.write_bytes(b"something else")
    with pytest.raises(DataError, match="Expected 6726825d"):
        load_features("inception", wrong)
    digest = SimpleNamespace(hexdigest=lambda: inception.SHA256[:8] + "0" * 56)
    with monkeypatch.context() as patch, pytest.raises(DataError, match=digest.hexdigest()):
        patch.setattr("hashlib.file_digest", lambda *_: digest)  # the first digits agree: not enough
        load_features("inception", wrong)
    assert len(inception.SHA256) == 64 and inception.SHA256[:8] in inception.FILE
    with pytest.raises(UsageError, match="--features inception"):
        load_features("efficientnet_lite0", wrong)


def save_traced(module: torch.nn.Module, path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.trace(module, torch.rand(2, 3, 8, 8)).save(path)


class _Means(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.mean(dim=3).flatten(1)


def test_torchscript_by_path_gets_colour_in_unit_range(tmp_path):
    path = tmp_path / "means.pt"
    save_traced(_Means(), path)
    features = load_features(str(path))
    assert re.fullmatch(r"means@[0-9a-f]{8}", features.name)
    assert np.allclose(features(np.full((4, 1, 8, 8), 51, np.uint8)), 0.2)
    with pytest.raises(UsageError, match="classifier"):
        features.probabilities(np.zeros((1, 24)))


def test_useless_files_and_names_are_refused(tmp_path):
    bad = tmp_path / "bad.pt"
    torch.save({"a": torch.zeros(2)}, bad)
    with pytest.raises(DataError, match="TorchScript"):
        load_features(str(bad))
    flat = tmp_path / "flat.pt"
    save_traced(torch.nn.Identity(), flat)
    with pytest.raises(DataError, match="no matrix"):
        load_features(str(flat))(np.zeros((2, 3, 8, 8), np.uint8))
    with pytest.raises(UsageError, match=r"efficientnet_lite0 \| inception"):
        load_features("resnet")


def test_shipped_weights_make_the_features_of_the_unrounded_ones(lite0):
    """float16 of the weights that ImageNet's training left; the numbers are what those gave."""
    wanted = {43: 2.7716, 343: 2.7605, 684: 2.4248, 1157: 1.2142, 1190: 0.4976}
    features = lite0(photograph())[0]
    assert {i: features[i] for i in wanted} == pytest.approx(wanted, abs=0.02)
    assert np.linalg.norm(features) == pytest.approx(15.7307, rel=2e-3)
    assert features.mean() == pytest.approx(0.22319, rel=2e-3)


def test_damaged_weights_are_refused(monkeypatch, tmp_path):
    broken = tmp_path / "broken.safetensors"
    broken.write_bytes(assets.path(efficientnet.WEIGHTS).read_bytes()[:1000])
    monkeypatch.setattr(efficientnet.assets, "path", lambda _: broken)
    with pytest.raises(DataError, match=r"broken.safetensors.*cannot be read.*Install mssg again"):
        efficientnet.load()


def test_a_predictor_gives_features_of_its_own_images_only(tmp_path, tiny_study):
    from mssg import load_study
    from mssg.data.dataset import open_sources
    from mssg.features.predictors import Predictor, build

    study = load_study(tiny_study)
    study = study.fit_statistics([s.columns(study) for s in open_sources(study)])
    path = Predictor(study, "resnet18", build("resnet18", study).eval(), ()).save(tmp_path / "p.safetensors")
    features = load_features(str(path))
    assert features.name.startswith("predictor-resnet18@")
    assert features(np.zeros((2, 1, 32, 32), np.uint8)).shape == (2, 512)
    with pytest.raises(MssgError, match="other images"):
        features(np.zeros((2, 1, 16, 16), np.uint8))
