"""Similarity of images in pairs, such as a real image and a fake with the same covariates.

Such a pair shows two different subjects. PSNR, SSIM and LPIPS then measure how alike they happen to be, and
their spread is diversity, not fidelity: a high score over all pairs can mean that the generator draws one
image over and over. Between an image and its reconstruction (an inversion) they mean what they say.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from mssg.errors import UsageError
from mssg.features.image_pair import image_pair

WINDOW, SIGMA, K1, K2 = 11, 1.5, 0.01, 0.03
"""Gaussian window of SSIM in pixels, and its constants (Wang et al. 2004)."""
SCALE_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
"""Exponents of MS-SSIM from the finest scale (Wang, Simoncelli & Bovik 2003)."""
CHUNK = 1 << 20
"""Pixels worked on at a time."""


def psnr(a: object, b: object, data_range: float | None = None) -> np.ndarray:
    """Peak signal-to-noise ratio of pairs: 10 log10(R² / mean squared difference).

    Args:
        a: Images uint8 or float [N, C, H, W].
        b: Images of the same shape.
        data_range: R, the distance of black and white; 255 for uint8, needed otherwise.

    Returns:
        Decibels, float64 [N]; infinite for identical images.

    Raises:
        DataError: If the images are wrong or differ in shape.
        UsageError: If data_range is missing or not positive.
    """
    a, b, data_range = image_pair(a, b, data_range)
    error = np.concatenate([np.square(x - y).mean(axis=(1, 2, 3)) for x, y in _chunks(a, b)])
    with np.errstate(divide="ignore"):
        return 10.0 * np.log10(data_range**2 / error)


def ssim(a: object, b: object, data_range: float | None = None) -> np.ndarray:
    """Structural similarity of pairs, with a Gaussian window of 11 × 11 pixels and sigma 1.5.

    Mean over channels and over the pixels whose window lies inside the image; the definition of scikit-image
    with gaussian_weights=True, sigma=1.5, use_sample_covariance=False and the same data_range.

    Args:
        a: Images uint8 or float [N, C, H, W], at least 11 × 11.
        b: Images of the same shape.
        data_range: Distance of black and white; 255 for uint8, needed otherwise.

    Returns:
        -1..1 (1: identical), float64 [N].

    Raises:
        DataError: If the images are wrong, too small, or differ in shape.
        UsageError: If data_range is missing or not positive.

    Source: Wang et al. 2004, "Image quality assessment", eq. 13.
    """
    a, b, data_range = image_pair(a, b, data_range, WINDOW)
    parts = [_ssim_maps(x, y, data_range) for x, y in _chunks(a, b)]
    return np.concatenate([(luminance * contrast).mean(axis=(1, 2, 3)) for luminance, contrast in parts])


def ms_ssim_scales(height: int, width: int) -> int:
    """How many scales of MS-SSIM fit an image, 0..5: each halves it, and the last must hold the window."""
    side, scales = min(height, width), 0
    while side >= WINDOW and scales < len(SCALE_WEIGHTS):
        side, scales = side // 2, scales + 1
    return scales


def ms_ssim(a: object, b: object, data_range: float | None = None, scales: int = 5) -> np.ndarray:
    """Structural similarity over several scales: contrast and structure at all, luminance at the coarsest.

    Args:
        a: Images uint8 or float [N, C, H, W]; at least 176 × 176 for five scales.
        b: Images of the same shape.
        data_range: Distance of black and white; 255 for uint8, needed otherwise.
        scales: 1..5. Fewer than five take the first exponents, rescaled to their sum; such numbers compare
            only with numbers of as many scales.

    Returns:
        0..1 (1: identical; negative correlation at a scale counts as none), float64 [N].

    Raises:
        DataError: If the images are wrong or differ in shape.
        UsageError: If data_range is missing or not positive, or the scales do not fit.

    Source: Wang, Simoncelli & Bovik 2003, "Multiscale structural similarity", eq. 7.
    """
    a, b, data_range = image_pair(a, b, data_range, WINDOW)
    fit = ms_ssim_scales(*a.shape[2:])
    if not 1 <= scales <= fit:
        found = f"{scales} for images of {a.shape[2]} x {a.shape[3]}"
        raise UsageError("the scales do not fit", field="scales", found=found, expected=f"1 to {fit}")
    # the published exponents sum to 1.0001; fewer scales are given the same sum
    weights = np.array(SCALE_WEIGHTS[:scales]) * (sum(SCALE_WEIGHTS) / sum(SCALE_WEIGHTS[:scales]))
    result = []
    for x, y in _chunks(a, b):
        value = np.ones(len(x))
        for scale, weight in enumerate(weights):
            if scale:
                x, y = _halved(x), _halved(y)
            luminance, contrast = _ssim_maps(x, y, data_range)
            similarity = luminance * contrast if scale == scales - 1 else contrast
            value *= np.maximum(similarity.mean(axis=(1, 2, 3)), 0.0) ** weight
        result.append(value)
    return np.concatenate(result)


def _chunks(a: np.ndarray, b: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Pairs in double precision, so many at a time that they stay small."""
    step = max(1, CHUNK // a[0].size)
    for start in range(0, len(a), step):
        part = slice(start, start + step)
        yield a[part].astype(np.float64), b[part].astype(np.float64)


def _ssim_maps(x: np.ndarray, y: np.ndarray, data_range: float) -> tuple[np.ndarray, np.ndarray]:
    """Luminance term and contrast-structure term of SSIM [N, C, H-10, W-10]; SSIM is their product."""
    c1, c2 = (K1 * data_range) ** 2, (K2 * data_range) ** 2
    mean_x, mean_y = _blurred(x), _blurred(y)
    variances = _blurred(x * x) + _blurred(y * y) - mean_x**2 - mean_y**2
    covariance = _blurred(x * y) - mean_x * mean_y
    luminance = (2.0 * mean_x * mean_y + c1) / (mean_x**2 + mean_y**2 + c1)
    return luminance, (2.0 * covariance + c2) / (variances + c2)


def _blurred(images: np.ndarray) -> np.ndarray:
    """Gaussian mean over the window, where it lies inside the image."""
    from scipy.ndimage import correlate1d

    half = WINDOW // 2
    kernel = np.exp(-0.5 * (np.arange(-half, half + 1) / SIGMA) ** 2)
    kernel /= kernel.sum()
    blurred = correlate1d(correlate1d(images, kernel, axis=2), kernel, axis=3)
    return blurred[:, :, half:-half, half:-half]


def _halved(images: np.ndarray) -> np.ndarray:
    """Means of 2 × 2 pixels; an odd last row or column is left out."""
    n, c, h, w = images.shape
    return images[:, :, : h // 2 * 2, : w // 2 * 2].reshape(n, c, h // 2, 2, w // 2, 2).mean(axis=(3, 5))
