"""Similarity of pairs: against the formulas written out pixel by pixel, and LPIPS against its package."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest
import torch

from mssg.errors import DataError, UsageError
from mssg.features.lpips import Lpips, load_lpips
from mssg.metrics.pairwise import SCALE_WEIGHTS, ms_ssim, ms_ssim_scales, psnr, ssim


def pair(n: int = 2, channels: int = 2, height: int = 14, width: int = 17) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    a = rng.integers(0, 256, (n, channels, height, width))
    b = np.clip(0.7 * a + rng.normal(0, 30, a.shape), 0, 255)
    return a.astype(np.uint8), b.astype(np.uint8)


def terms(x: np.ndarray, y: np.ndarray, data_range: float) -> tuple[np.ndarray, np.ndarray]:
    """Luminance and contrast-structure of one channel, window by window (Wang et al. 2004, eq. 6, 9,
    13-16)."""
    offset = np.arange(-5, 6)
    weight = np.exp(-(offset[:, None] ** 2 + offset[None] ** 2) / (2 * 1.5**2))
    weight /= weight.sum()
    c1, c2 = (0.01 * data_range) ** 2, (0.03 * data_range) ** 2
    luminance, contrast = [], []
    for i in range(x.shape[0] - 10):
        for j in range(x.shape[1] - 10):
            p, q = x[i : i + 11, j : j + 11], y[i : i + 11, j : j + 11]
            mx, my = (weight * p).sum(), (weight * q).sum()
            vx, vy = (weight * (p - mx) ** 2).sum(), (weight * (q - my) ** 2).sum()
            cov = (weight * (p - mx) * (q - my)).sum()
            luminance.append((2 * mx * my + c1) / (mx**2 + my**2 + c1))
            contrast.append((2 * cov + c2) / (vx + vy + c2))
    return np.array(luminance), np.array(contrast)


def test_psnr() -> None:
    a, b = pair()
    error = [np.mean((x.astype(float) - y) ** 2) for x, y in zip(a, b)]
    np.testing.assert_allclose(psnr(a, b), [10 * np.log10(255**2 / e) for e in error])
    np.testing.assert_allclose(psnr(a / 255.0, b / 255.0, 1.0), psnr(a, b))
    assert psnr(a, a).tolist() == [np.inf, np.inf]
    one_off = np.full((1, 1, 2, 2), 0.1)
    assert psnr(one_off, one_off * 0, 1.0)[0] == pytest.approx(20.0)


def test_ssim_is_the_formula() -> None:
    a, b = pair()
    expected = [
        np.mean(
            [np.mean(np.prod(terms(p, q, 255.0), axis=0)) for p, q in zip(x.astype(float), y.astype(float))]
        )
        for x, y in zip(a, b)
    ]
    np.testing.assert_allclose(ssim(a, b), expected, rtol=1e-10)
    np.testing.assert_allclose(ssim(a / 255.0, b / 255.0, 1.0), expected, rtol=1e-10)
    np.testing.assert_allclose(ssim(a, a), 1.0)


def test_ssim_by_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    a, b = pair(5)
    whole = ssim(a, b)
    monkeypatch.setattr("mssg.metrics.pairwise.CHUNK", 2 * a[0].size)
    np.testing.assert_array_equal(ssim(a, b), whole)


def test_ms_ssim_is_the_product_over_scales() -> None:
    a, b = pair(1, 1, 25, 27)
    x, y = a[0, 0].astype(float), b[0, 0].astype(float)
    fine = terms(x, y, 255.0)[1].mean()
    half = [i[:24, :26].reshape(12, 2, 13, 2).mean((1, 3)) for i in (x, y)]
    coarse = np.prod(terms(*half, 255.0), axis=0).mean()
    weights = np.array(SCALE_WEIGHTS[:2]) * sum(SCALE_WEIGHTS) / sum(SCALE_WEIGHTS[:2])
    assert ms_ssim(a, b, scales=2)[0] == pytest.approx(fine ** weights[0] * coarse ** weights[1], rel=1e-10)
    negative = 255 - a
    assert ms_ssim(a, negative, scales=1)[0] == 0.0
    assert ms_ssim(a, a, scales=2)[0] == pytest.approx(1.0)


def test_ms_ssim_tells_how_many_scales_fit() -> None:
    assert [ms_ssim_scales(s, s + 9) for s in (10, 11, 28, 175, 176, 1024)] == [0, 1, 2, 4, 5, 5]
    with pytest.raises(UsageError, match="1 to 2"):
        ms_ssim(*pair(1, 1, 32, 32))
    a, b = pair(1, 1, 176, 176)
    assert 0 < ms_ssim(a, b)[0] < 1


@pytest.mark.parametrize("metric", [psnr, ssim, ms_ssim])
def test_wrong_images_are_told(metric) -> None:
    a, b = pair()
    for x, y, error, words in (
        (a[0], b[0], DataError, "N, C, H, W"),
        (a, b[:1], DataError, "same shape"),
        (a.astype(int), b, DataError, "uint8 or float"),
        (a.astype(float), b, UsageError, "data range"),
        (np.full(a.shape, np.nan), b, DataError, "NaN"),
    ):
        with pytest.raises(error, match=words):
            metric(x, y)
    with pytest.raises(UsageError, match="positive"):
        metric(a, b, data_range=0)


def test_images_smaller_than_the_window() -> None:
    with pytest.raises(DataError, match="at least 11"):
        ssim(*pair(1, 1, 10, 20))


@pytest.fixture(scope="module")
def squeeze() -> Lpips:
    return load_lpips("squeeze", "random")


def test_lpips_is_the_packages_own_call(squeeze: Lpips) -> None:
    a, b = pair(3, 3, 32, 32)
    x, y = (torch.from_numpy(i).float() / 127.5 - 1 for i in (a, b))
    with torch.no_grad():
        expected = squeeze.module(x, y).flatten().numpy()
    assert (expected > 0).all()
    np.testing.assert_allclose(squeeze(a, b, batch=2), expected, rtol=1e-5)
    np.testing.assert_allclose(squeeze(a / 255.0, b / 255.0, 1.0), expected, rtol=1e-4)
    assert squeeze.name == "lpips-squeeze-random-trunk"
    np.testing.assert_allclose(squeeze(a, a), 0.0, atol=1e-7)


def test_lpips_repeats_grey_and_refuses_the_rest(squeeze: Lpips) -> None:
    a, b = pair(2, 1, 20, 20)
    np.testing.assert_allclose(squeeze(a, b), squeeze(a.repeat(3, 1), b.repeat(3, 1)), rtol=1e-5)
    with pytest.raises(DataError, match="channels"):
        squeeze(*pair(1, 2, 20, 20))
    with pytest.raises(DataError, match="at least 17"):
        squeeze(*pair(1, 1, 16, 20))


def test_lpips_weights_from_a_file(squeeze: Lpips, tmp_path: Path) -> None:
    from torchvision.models import squeezenet1_1

    classifier = squeezenet1_1()
    path = tmp_path / "trunk.pth"
    torch.save(classifier.state_dict(), path)
    loaded = load_lpips("squeeze", path)
    assert loaded.name == "lpips-squeeze"
    x = torch.randn(1, 3, 32, 32)
    with torch.no_grad():
        np.testing.assert_allclose(
            loaded.module.net(x)[-1].numpy(), classifier.features(x).numpy(), rtol=1e-5
        )
    a, b = pair(1, 3, 32, 32)
    assert loaded(a, b)[0] != squeeze(a, b)[0]
    torch.save({"features.0.weight": torch.zeros(1)}, path)
    with pytest.raises(DataError, match="another shape"):
        load_lpips("squeeze", path)
    path.write_bytes(b"no weights")
    with pytest.raises(DataError, match="cannot be read"):
        load_lpips("squeeze", path)


def test_lpips_offline_names_file_and_alternatives(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    with pytest.raises(DataError, match=r"vgg16-397923af\.pth.*SSIM"):
        load_lpips("vgg")
    with pytest.raises(UsageError, match="alex, vgg, squeeze"):
        load_lpips("resnet")


def test_lpips_leaves_random_state_and_warnings_alone() -> None:
    torch.manual_seed(3)
    before = torch.random.get_rng_state()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        first = load_lpips("squeeze", "random")
    assert torch.equal(before, torch.random.get_rng_state())
    again = load_lpips("squeeze", "random")
    assert all(torch.equal(p, q) for p, q in zip(first.module.parameters(), again.module.parameters()))
