"""Distances between images as a viewer sees them, differentiable: what an inversion minds beside pixels."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from mssg.errors import DataError, SnapshotError, UsageError
from mssg.features.extractors import load_features
from mssg.features.lpips import load_lpips

NO_FEATURES, OWN_FEATURES = "none", "discriminator"

Distance = Callable[[Tensor], Tensor]
"""Images [B, C, H, W] in about [-1, 1] -> distance of each to its target [B]."""


def perceptual_distance(
    spec: str, snapshot: Any, weights: str | None = None
) -> Callable[[Tensor], Distance] | None:
    """What makes the feature part of the loss.

    Args:
        spec: "discriminator" (the snapshot's own), "none", "lpips-alex", "lpips-vgg", "lpips-squeeze", or
            any spec of `mssg.features.extractors`.
        snapshot: Whose discriminator "discriminator" means, and whose device is used.
        weights: Weights of an LPIPS trunk or of "inception".

    Returns:
        Targets [N, C, H, W] in [-1, 1] -> their `Distance`; None for "none".

    Raises:
        UsageError: No such features, or a snapshot without a discriminator.
        DataError: Weights that are not there or do not fit.
    """
    if spec == NO_FEATURES:
        return None
    if spec == OWN_FEATURES:
        return _own_features(snapshot)
    if spec.startswith("lpips-"):
        return _lpips(spec.removeprefix("lpips-"), weights, snapshot.device)
    features = load_features(spec, weights, snapshot.device)

    def distance(target: Tensor) -> Distance:
        with torch.no_grad():
            wanted = features.embed(target * 127.5 + 127.5)
        scale = wanted.square().sum(1)
        return lambda x: (features.embed(x * 127.5 + 127.5) - wanted).square().sum(1) / scale

    return distance


def _own_features(snapshot: Any) -> Callable[[Tensor], Distance]:
    """Feature maps of the snapshot's own discriminator: they know these images, and need no download.

    Source: Pan et al. 2020, "Exploiting deep generative prior", section 3 (discriminator features as a
    distance); channels
    normalised at every pixel as in LPIPS (Zhang et al. 2018, eq. 1).
    """
    try:
        D = snapshot.picture_discriminator()
    except SnapshotError:
        raise UsageError(
            "the snapshot holds no discriminator to see features with",
            file=snapshot.header.path,
            field="--features",
            expected="efficientnet_lite0 | lpips-alex | none",
        ) from None

    def maps(x: Tensor) -> list[Tensor]:
        out = []
        for resolution in D.block_resolutions:
            x = D.get_submodule(f"b{resolution}")(x)
            out.append(F.normalize(x.float(), dim=1))
        return out

    def distance(target: Tensor) -> Distance:
        with torch.no_grad():
            wanted = maps(target)
        return lambda x: (
            functools.reduce(
                torch.add, ((a - b).square().sum(1).mean((1, 2)) for a, b in zip(maps(x), wanted))
            )
            / len(wanted)
        )

    return distance


def _lpips(net: str, weights: str | None, device: str) -> Callable[[Tensor], Distance]:
    lpips = load_lpips(net, weights, device)
    module = lpips.module.requires_grad_(False)

    def distance(target: Tensor) -> Distance:
        if min(target.shape[2:]) < lpips.least:
            found = f"{target.shape[2]} x {target.shape[3]}"
            raise DataError(
                "images are too small for LPIPS", found=found, expected=f"at least {lpips.least} pixels"
            )
        wanted = target.expand(-1, 3, -1, -1)
        return lambda x: module(x.expand(-1, 3, -1, -1), wanted).flatten()

    return distance
