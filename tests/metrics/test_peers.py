"""The same numbers as other people's packages: torch-fidelity and scikit-image, given the same features and
options. Both are installed with the tests; nothing is downloaded."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from mssg.features import inception
from mssg.metrics.distribution import fid, inception_score, kid
from mssg.metrics.manifold import precision_recall
from mssg.metrics.pairwise import psnr, ssim

RTOL = 1e-6


@pytest.fixture(scope="module")
def sets() -> tuple[np.ndarray, np.ndarray]:
    """Features of two sets that overlap, as a network's are: none below zero, many of them alike."""
    rng = np.random.default_rng(0)
    mix = rng.standard_normal((40, 64))
    real = rng.standard_normal((400, 40)) @ mix
    fake = 0.9 * rng.standard_normal((300, 40)) @ mix + 0.3
    return np.maximum(real, 0), np.maximum(fake, 0)


def test_fid(sets):
    from torch_fidelity.metric_fid import fid_features_to_statistics, fid_statistics_to_metric

    theirs = fid_statistics_to_metric(*(fid_features_to_statistics(torch.from_numpy(x)) for x in sets), False)
    assert fid(*sets) == pytest.approx(theirs["frechet_inception_distance"], rel=RTOL)


@pytest.mark.parametrize(("size", "subsets", "seed"), [(100, 20, 2020), (250, 5, 7)])
def test_kid(sets, size, subsets, seed):
    from torch_fidelity.metric_kid import kid_features_to_metric

    theirs = kid_features_to_metric(
        *map(torch.from_numpy, sets), kid_subset_size=size, kid_subsets=subsets, rng_seed=seed, verbose=False
    )
    ours = kid(*sets, size, subsets, seed)
    assert ours.mean == pytest.approx(theirs["kernel_inception_distance_mean"], rel=RTOL)
    assert ours.sd == pytest.approx(theirs["kernel_inception_distance_std"], rel=RTOL)


def test_inception_score(sets):
    from torch_fidelity.metric_isc import isc_features_to_metric

    logits = torch.from_numpy(sets[0]) / 4
    theirs = isc_features_to_metric(logits, splits=7, shuffle=False)
    ours = inception_score(logits.softmax(dim=1).numpy(), splits=7)
    assert ours.mean == pytest.approx(theirs["inception_score_mean"], rel=RTOL) and ours.mean > 1.5
    assert ours.sd == pytest.approx(theirs["inception_score_std"], rel=RTOL)


@pytest.mark.parametrize("k", [1, 3, 10])
def test_precision_and_recall(sets, k):
    from torch_fidelity.metric_prc import prc_features_to_metric

    real, fake = (torch.from_numpy(x) for x in sets)
    theirs = prc_features_to_metric(
        fake, real, prc_neighborhood=k, prc_batch_size=100, save_cpu_ram=False, verbose=False
    )
    ours = precision_recall(*sets, k=k)
    assert ours == pytest.approx((theirs["precision"], theirs["recall"]), abs=RTOL)
    assert 0 < ours.recall < 1 and 0 < ours.precision <= 1


@pytest.mark.slow
def test_inception_features(tmp_path):
    """The network of FID with weights by chance, resizing included: 2048 features of images of any size."""
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    torch.manual_seed(0)
    network = inception.build()
    path = tmp_path / "weights.pth"
    torch.save(network.state_dict(), path)
    with torch.no_grad():
        images = torch.randint(0, 256, (2, 3, 40, 56), dtype=torch.uint8)
        (theirs,) = FeatureExtractorInceptionV3("x", ["2048"], feature_extractor_weights_path=str(path))(
            images
        )
        network.fc = torch.nn.Identity()
        ours = network((inception.resize(images.float()) - 128) / 128)
    assert ours.shape == theirs.shape == (2, 2048) and theirs.std() > 0
    assert torch.allclose(ours, theirs, rtol=1e-4, atol=1e-5 * float(theirs.abs().max()))


@pytest.mark.parametrize(("channels", "dtype", "data_range"), [(1, np.uint8, 255), (3, np.float64, 4.0)])
def test_ssim_and_psnr(channels, dtype, data_range):
    from skimage.metrics import peak_signal_noise_ratio, structural_similarity

    rng = np.random.default_rng(0)
    a = rng.random((3, channels, 40, 33)) * data_range
    b = np.clip(0.7 * a + rng.normal(0, 0.1 * data_range, a.shape), 0, data_range)
    a, b = a.astype(dtype), b.astype(dtype)
    options = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
    wanted = [
        structural_similarity(x, y, data_range=data_range, channel_axis=0, **options) for x, y in zip(a, b)
    ]
    assert ssim(a, b, data_range) == pytest.approx(wanted, rel=RTOL)
    assert psnr(a, b, data_range) == pytest.approx(
        [peak_signal_noise_ratio(x, y, data_range=data_range) for x, y in zip(a, b)], rel=RTOL
    )
