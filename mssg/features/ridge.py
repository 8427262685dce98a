"""A regression of covariates on what an image looks like, for studies too small to train a network on.

Ridge regression on features of EfficientNet-Lite (ImageNet), on the image's own pixels, or on both; which,
and how strong the penalty, is chosen for each covariate by cross-validation over people: nobody is in two
folds. The weights are all that is kept: no image, and no features of one.
Source: Hoerl & Kennard 1970, "Ridge regression", in the dual form; nested cross-validation after Varma &
Simon 2006, "Bias in error estimation when using cross-validation for model selection".
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mssg.features import efficientnet
from mssg.study.covariate import KINDS, ZERO_ONE
from mssg.study.model import Study

NAME = "ridge"
SIDE = 32
"""Pixels are means over blocks, at most so many a side."""
SPACES = {"features": (1.0, 0.0), "pixels": (0.0, 1.0), "both": (0.5, 0.5)}
"""What is regressed on: shares of the two kernels."""
STRENGTHS = 10.0 ** np.arange(-4, 3)
"""Penalties that are tried; the kernel's mean diagonal is 1. The last is all but a constant."""
FOLDS = 5
FEWEST_PEOPLE = 10
"""People with a value, below which a covariate is not fitted."""
MOST_ROWS = 3000
PARTS = (slice(0, efficientnet.WIDTH), slice(efficientnet.WIDTH, None))
"""Where features and pixels are among a regression's inputs."""
STEEPNESS = 4.0
"""Logits of a binary covariate for one unit of its fitted share: the logistic's slope at one half."""


class Ridge(nn.Module):
    """Images -> condition columns, by one linear map of standardised features and pixels.

    Args:
        study: Decides the size of the images and the columns.
    """

    mean: Tensor
    scale: Tensor
    weight: Tensor
    bias: Tensor

    def __init__(self, study: Study) -> None:
        super().__init__()
        self.side = min(SIDE, study.resolution)
        self._features = (efficientnet.load(),)  # a tuple: installed weights are not this module's own
        width = efficientnet.WIDTH + study.channels * self.side**2
        for name, shape in (("mean", (width,)), ("scale", (width,)), ("bias", (study.layout.width,))):
            self.register_buffer(name, torch.zeros(shape))
        self.register_buffer("weight", torch.zeros(width, study.layout.width))

    def inputs(self, x: Tensor) -> Tensor:
        """Images [N, C, H, W] in -1..1 -> features, then pixels: [N, P]."""
        grey = (x + 1) * 127.5
        seen = efficientnet.embed(self._features[0].to(x.device), grey)
        return torch.cat([seen, F.adaptive_avg_pool2d(grey, self.side).flatten(1)], dim=1)

    def forward(self, x: Tensor) -> Tensor:
        """Images [N, C, H, W] in -1..1 -> columns [N, K], as a network's: logits of what has levels."""
        return self.read(self.inputs(x))

    def read(self, inputs: Tensor) -> Tensor:
        """Features, then pixels, [N, P] -> columns [N, K]."""
        return (inputs - self.mean) * self.scale @ self.weight + self.bias


@dataclass(frozen=True)
class RidgeFit:
    """A fitted regression.

    Attributes:
        left_out: What each image's columns are by a fit, and by a choice of space and penalty, that had not
            seen its person: float64 [N, K]; NaN where a covariate has no value.
        chosen: Covariate -> its space, one of `SPACES`.
    """

    network: Ridge
    left_out: np.ndarray
    chosen: dict[str, str]


def fit(study: Study, images: np.ndarray, values: np.ndarray, people: Sequence[str], seed: int) -> RidgeFit:
    """Fit the regression of every covariate.

    Args:
        study: With fitted statistics.
        images: uint8 [N, C, H, W].
        values: Native values [N, V], NaN where unknown.
        people: Whose image each is [N].
    """
    return fit_inputs(study, _inputs(Ridge(study).eval(), images), values, people, seed)


def fit_inputs(study: Study, x: np.ndarray, values: np.ndarray, people: Sequence[str], seed: int) -> RidgeFit:
    """As `fit`, of inputs [N, P] (`Ridge.inputs`) that are there already."""
    network = Ridge(study).eval()
    mean, scale = x.mean(axis=0), _scale(x)
    z = (x - mean) * scale
    kernels = [z[:, part] @ z[:, part].T for part in PARTS]
    fold = _folds(people, seed)
    weight, bias = np.zeros((x.shape[1], study.layout.width)), np.zeros(study.layout.width)
    left_out = np.full((len(x), study.layout.width), np.nan)
    chosen: dict[str, str] = {}
    for v, covariate in enumerate(study.conditions):
        known, columns = np.isfinite(values[:, v]), study.layout[covariate.name]
        y = covariate.encode(values[known, v]).astype(np.float64)
        bias[columns] = y.mean(axis=0) if len(y) else 0.0
        if len(np.unique(np.asarray(people)[known])) >= FEWEST_PEOPLE and len(set(fold[known])) == FOLDS:
            mine = [k[np.ix_(known, known)] for k in kernels]
            space, strength, left_out[known, columns] = _chosen(mine, y, fold[known])
            dual = _dual(_mixed(mine, space), y - bias[columns], strength)[0]
            for share, part in zip(SPACES[space], PARTS):
                weight[part, columns] = share * z[known, part].T @ dual
            chosen[covariate.name] = space
        if KINDS[covariate.kind].coding is ZERO_ONE:
            weight[:, columns] *= STEEPNESS
            bias[columns] = STEEPNESS * (bias[columns] - 0.5)
    for name, value in (("mean", mean), ("scale", scale), ("weight", weight), ("bias", bias)):
        network.get_buffer(name).copy_(torch.from_numpy(value))
    return RidgeFit(network, left_out, chosen)


def _scale(x: np.ndarray) -> np.ndarray:
    """What inputs [N, P] are multiplied by: each is about one sd, and features and pixels count alike."""
    sd, scale = x.std(axis=0), np.zeros(x.shape[1])
    for part in PARTS:
        least = 1e-3 * float(np.sqrt(np.mean(sd[part] ** 2))) or 1.0
        scale[part] = 1 / ((sd[part] + least) * np.sqrt(sd[part].size))
    return scale


@torch.no_grad()
def _inputs(network: Ridge, images: np.ndarray, batch: int = 32) -> np.ndarray:
    """`Ridge.inputs` of uint8 images [N, C, H, W]: float64 [N, P]."""
    parts = []
    for start in range(0, len(images), batch):
        x = torch.from_numpy(np.array(images[start : start + batch])).float() / 127.5 - 1
        parts.append(network.inputs(x).cpu().double().numpy())
    return np.concatenate(parts)


def _folds(people: Sequence[str], seed: int) -> np.ndarray:
    """Fold of each image, int [N]: all images of a person are in one."""
    names, who = np.unique(np.asarray(people), return_inverse=True)
    return (np.random.default_rng([seed, 61]).permutation(len(names)) % FOLDS)[who]


def _mixed(kernels: Sequence[np.ndarray], space: str) -> np.ndarray:
    return sum(share * kernel for share, kernel in zip(SPACES[space], kernels))  # type: ignore[return-value]


def _dual(kernel: np.ndarray, y: np.ndarray, strengths: np.ndarray) -> np.ndarray:
    """(K + λ)⁻¹ y for every λ: [L, n, k]."""
    e, q = np.linalg.eigh(kernel)
    return np.stack([q @ ((q.T @ y) / (np.maximum(e, 0)[:, None] + s)) for s in strengths])


def _predicted(kernel: np.ndarray, y: np.ndarray, out: np.ndarray) -> np.ndarray:
    """Columns of the rows `out` (bool [n]) by fits to all others, for every strength: [L, m, k]."""
    mean = y[~out].mean(axis=0)
    return kernel[np.ix_(out, ~out)] @ _dual(kernel[np.ix_(~out, ~out)], y[~out] - mean, STRENGTHS) + mean


def _chosen(
    kernels: Sequence[np.ndarray], y: np.ndarray, fold: np.ndarray
) -> tuple[str, np.ndarray, np.ndarray]:
    """Space and strength of least cross-validated squared error, and columns [n, k] of every
    fold by the best of a choice among the others."""
    folds = range(FOLDS)
    single = np.zeros((len(SPACES), len(STRENGTHS), FOLDS))  # summed error in f of fits without f
    double = np.zeros((len(SPACES), len(STRENGTHS), FOLDS, FOLDS))  # in g of fits without f and g: [.., f, g]
    columns = np.zeros((len(SPACES), len(STRENGTHS), *y.shape))
    for s, space in enumerate(SPACES):
        kernel = _mixed(kernels, space)
        for f in folds:
            out = fold == f
            columns[s][:, out] = _predicted(kernel, y, out)
            single[s, :, f] = _squared(columns[s][:, out], y[out])
        for f, g in itertools.combinations(folds, 2):
            out = (fold == f) | (fold == g)
            found, where = _predicted(kernel, y, out), fold[out]
            double[s, :, f, g] = _squared(found[:, where == g], y[fold == g])
            double[s, :, g, f] = _squared(found[:, where == f], y[fold == f])
    left_out = np.empty_like(y)
    for f in folds:
        space, strength = _lowest(double[:, :, f].sum(axis=-1))
        left_out[fold == f] = columns[space, strength, fold == f]
    space, strength = _lowest(single.sum(axis=-1))
    return list(SPACES)[space], STRENGTHS[strength : strength + 1], left_out


def _squared(found: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Summed squared error for every strength [L] of columns [L, m, k]."""
    return ((found - y) ** 2).sum(axis=(1, 2))


def _lowest(errors: np.ndarray) -> tuple[int, int]:
    """Place of the lowest error [S, L]."""
    space, strength = np.unravel_index(int(errors.argmin()), errors.shape)
    return int(space), int(strength)
