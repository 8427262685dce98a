"""Changes of a render request in the terms of the window's controls: a place between seeds, a motion, values.

A control shows what it reads off the request and returns another request: there is no second description.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import replace
from functools import lru_cache

from mssg.rendering.request import RenderRequest

SEEDS = 2**31
"""Seeds the controls reach; imgui's whole numbers have 32 bits with a sign."""
_ROW = 100  # seeds from one row of the latent plane to the next, as in the StyleGAN3 visualizer


def place(request: RenderRequest) -> tuple[int, float, float]:
    """Where in the latent plane a request stands: a seed and fractional steps (x, y) from it.

    One step in x is one seed, in y a hundred. Any other blend of seeds stands at its first.
    """
    if not request.blend:
        return request.seed, 0.0, 0.0
    first, total = request.blend[0][0], sum(weight for _, weight in request.blend)
    share = {(seed - first) % SEEDS: weight / total for seed, weight in request.blend}
    if set(share) - {0, 1, _ROW, _ROW + 1}:
        return first, 0.0, 0.0
    both = share.get(_ROW + 1, 0.0)
    return first, share.get(1, 0.0) + both, share.get(_ROW, 0.0) + both


def at_place(request: RenderRequest, seed: int, x: float = 0.0, y: float = 0.0) -> RenderRequest:
    """The request at a place of the latent plane: four neighbouring seeds blended bilinearly. A stored latent
    is left.

    Args:
        request: What else there is to it.
        seed: Taken modulo `SEEDS`.
        x, y: Steps from it, each in [0, 1); seeds of weight 0 are left out of the blend.
    """
    request = replace(request, latent=None) if request.latent else request
    corners = []
    for j, wy in ((0, 1 - y), (1, y)):
        for i, wx in ((0, 1 - x), (1, x)):
            if wx * wy > 0:
                corners.append(((seed + i + _ROW * j) % SEEDS, wx * wy))
    if len(corners) == 1:
        return replace(request, seed=seed % SEEDS, blend=())
    return replace(request, seed=0, blend=tuple(corners))


def drag_latent(request: RenderRequest, dx: float, dy: float) -> RenderRequest:
    """The request after a drag by (dx, dy) steps in the latent plane; whole steps move on to other seeds."""
    seed, x, y = place(request)
    x, y = round(x + dx, 9), round(y + dy, 9)  # so that a rounding error is no whole step
    seed += math.floor(x) + _ROW * math.floor(y)
    return at_place(request, seed, x - math.floor(x), y - math.floor(y))


def motion(request: RenderRequest) -> tuple[float, float, float]:
    """Translation (x, y) in fractions of the image and rotation in turns of 360 degrees of a transform."""
    if request.transform is None:
        return 0.0, 0.0, 0.0
    a, _, x, d, _, y = request.transform
    return x, y, math.atan2(d, a) / (2 * math.pi)


def moved(request: RenderRequest, x: float, y: float, turns: float) -> RenderRequest:
    """The request with its picture turned about the centre, then translated."""
    if (x, y, turns) == (0, 0, 0):
        return replace(request, transform=None)
    c, s = math.cos(2 * math.pi * turns), math.sin(2 * math.pi * turns)
    return replace(request, transform=(c, -s, x, s, c, y))


def with_values(request: RenderRequest, **changes: float) -> RenderRequest:
    """The request with native covariate values changed; what is not finite or no name of it is ignored."""
    kept = {k: float(v) for k, v in changes.items() if math.isfinite(v)}
    covariates = tuple((n, kept.get(n, v)) for n, v in request.covariates)
    return request if covariates == request.covariates else replace(request, covariates=covariates)


@lru_cache(64)
def whole_picture(request: RenderRequest) -> RenderRequest:
    """The picture itself, unmoved, whatever layer or motion is being looked at."""
    return replace(request, layer=None, channel=None, channels=1, transform=None)


@lru_cache(64)
def plain_seed(request: RenderRequest) -> RenderRequest:
    """The request's seed without a blend, truncation, drawn noise or style mixing."""
    seeded = at_place(request, place(request)[0])
    return replace(seeded, psi=1.0, cutoff=None, noise_mode="const", noise_seed=0, mix_layers=())


def fitting(
    request: RenderRequest, num_ws: int, equivariant: bool, layers: Collection[str]
) -> tuple[RenderRequest, list[str]]:
    """A request without what a model cannot have, and the words for what was taken out.

    Args:
        request: What was asked of another model.
        num_ws: Layers that take a style.
        equivariant: Whether it takes a translation and rotation.
    """
    dropped = []
    if request.transform is not None and not equivariant:
        request, dropped = replace(request, transform=None), [*dropped, "translation and rotation"]
    if any(layer >= num_ws for layer in request.mix_layers):
        kept = tuple(layer for layer in request.mix_layers if layer < num_ws)
        request, dropped = replace(request, mix_layers=kept), [*dropped, "style mixing of its finest layers"]
    if request.cutoff is not None and request.cutoff > num_ws:
        request, dropped = replace(request, cutoff=None), [*dropped, f"cutoff {request.cutoff}"]
    if request.layer is not None and layers and request.layer not in layers:
        dropped = [*dropped, f"layer {request.layer}"]
        request = replace(request, layer=None, channel=None, channels=1)
    return request, dropped


@lru_cache(64)
def channel_requests(request: RenderRequest, count: int, channels: int) -> tuple[RenderRequest, ...]:
    """The requests of the layer's channels that are shown side by side: `count` from the request's own on, of
    the `channels` there are; of the picture, itself."""
    if request.layer is None:
        return (request,)
    first = min(request.channel or 0, max(0, channels - 1))
    last = max(first + 1, min(first + count, channels))
    return tuple(replace(request, channel=channel, channels=1) for channel in range(first, last))


def side_by_side(parts: Sequence[RenderRequest]) -> RenderRequest:
    """The one request of what `channel_requests` gives: a layer's channels from the first to the last."""
    return replace(parts[0], channels=len(parts))
