"""Movies: the pictures between keyframes, and what each looks like. No imgui, no torch."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np

from explorer_app.comparison import Part
from explorer_app.displayed import GROUND, Burnt, resized, sheet
from explorer_app.geometry import with_pixels
from explorer_app.request_edits import motion, moved
from explorer_app.state import Display, Keyframe, Movie
from mssg.rendering.request import RenderRequest
from mssg.study.model import Study

FRAME_LIMIT = 3000
"""Pictures of a movie, at most."""


@dataclass(frozen=True)
class Shot:
    """One picture of a movie: what is rendered, how it is displayed, and the part of it that is seen, as in
    `Keyframe`."""

    request: RenderRequest
    display: Display
    center: tuple[float, float]
    span: float


def keyframe(request: RenderRequest, display: Display, seconds: float, fit: float) -> Keyframe:
    """What is on the screen as a keyframe.

    Args:
        request: The picture; of a layer, the picture it belongs to.
        seconds: From this keyframe to the next.
        fit: Screen pixels per picture pixel at which the whole picture just fits its panel.
    """
    span = min(1.0, fit / display.zoom) if display.zoom else 1.0
    center = display.center if display.zoom else (0.5, 0.5)
    plain = replace(display, compare="A", flipped=False, zoom=0.0, center=(0.5, 0.5))
    request = replace(request, layer=None, channel=None, channels=1)
    return Keyframe(request, plain, seconds, _inside(center, span), span)


def _inside(center: tuple[float, float], span: float) -> tuple[float, float]:
    """A centre from which no place outside the picture is seen."""
    x, y = (min(1 - span / 2, max(span / 2, c)) for c in center)
    return x, y


def discrete(study: Study) -> frozenset[str]:
    """Names of covariates between whose values there is nothing."""
    return frozenset(c.name for c in study.conditions if not c.is_continuous)


@lru_cache(8)
def shots(movie: Movie, levels: frozenset[str] = frozenset()) -> tuple[Shot, ...]:
    """All pictures of a movie, `FRAME_LIMIT` at most.

    Args:
        movie: Its keyframes, frames a second and easing.
        levels: Names of discrete covariates: they change at a keyframe.
    """
    out: list[Shot] = []
    for first, second in zip(movie.keyframes, movie.keyframes[1:]):
        count = max(1, round(first.seconds * movie.fps))
        out += [between(first, second, _eased(i / count, movie.easing), levels) for i in range(count)]
    out += [between(last, last, 0.0, levels) for last in movie.keyframes[-1:]]
    return tuple(out[:FRAME_LIMIT])


def _eased(share: float, easing: str) -> float:
    """Share of the way after a share of the time: "smooth" starts and stops gently (3 t² − 2 t³)."""
    return share * share * (3 - 2 * share) if easing == "smooth" else share


def between(first: Keyframe, second: Keyframe, share: float, levels: Collection[str] = ()) -> Shot:
    """The picture a share of the way from one keyframe to the next.

    Continuous covariates, latents, truncation, translation and rotation, window and the part seen move; all
    else is the first's. From one model to another nothing moves.
    """
    a, b = first.request, second.request
    names = [name for name, _ in a.covariates]
    if share == 0 or a.snapshot != b.snapshot or names != [name for name, _ in b.covariates]:
        return Shot(a, first.display, first.center, first.span)

    def mid(x: float, y: float) -> float:
        return x if x == y else round(x + share * (y - x), 9)

    values = dict(b.covariates)
    moves = [mid(x, y) for x, y in zip(motion(a), motion(b))]
    request = replace(
        moved(_blended(a, b, share), *moves),
        covariates=tuple((n, v if n in levels else mid(v, values[n])) for n, v in a.covariates),
        psi=mid(a.psi, b.psi),
    )
    one, two = first.display, second.display
    display = replace(one, level=mid(one.level, two.level), width=mid(one.width, two.width))
    span = first.span * (second.span / first.span) ** share  # a zoom is even where its factor is
    center = mid(first.center[0], second.center[0]), mid(first.center[1], second.center[1])
    return Shot(request, display, _inside(center, span), span)


def _blended(a: RenderRequest, b: RenderRequest, share: float) -> RenderRequest:
    """The first request with the latents of both, the second's by their share."""
    if (a.seed, a.blend) == (b.seed, b.blend) or a.latent or b.latent:
        return a
    weights: dict[int, float] = {}
    for request, part in ((a, 1 - share), (b, share)):
        seeds = request.blend or ((request.seed, 1.0),)
        total = sum(weight for _, weight in seeds)
        for seed, weight in seeds:
            weights[seed] = weights.get(seed, 0.0) + part * weight / total
    return replace(a, seed=0, blend=tuple((seed, round(w, 9)) for seed, w in weights.items() if w > 1e-9))


def film(
    movie: Movie,
    study: Study,
    part_of: Callable[[RenderRequest], Part],
    caption: Callable[[RenderRequest], Sequence[str]],
) -> list[np.ndarray]:
    """The pictures as they are written, uint8 [H, W, 3] or [H, W] each, all of one size.

    Args:
        part_of: Gives a picture that was rendered.
        caption: What a picture is in words, for movies with values burnt in.
    """
    pictures = []
    burnt = movie.burnt.split()
    on = {key: key in burnt for key in ("letters", "scale", "bar")}
    for shot in shots(movie, discrete(study)):
        lines = tuple(caption(shot.request)) if "values" in burnt else ()
        part = framed(part_of(shot.request), shot, movie.times)
        pictures.append(sheet([part], shot.display, Burnt(1, on["letters"], on["scale"], on["bar"], lines)))
    return _alike(pictures)


def framed(part: Part, shot: Shot, times: int) -> Part:
    """What is seen of a part, on `times` as many pixels a side as all of it has."""
    rows, columns = part.image.shape[:2]
    (x, y), half = shot.center, shot.span / 2
    box = ((x - half) * columns, (y - half) * rows, (x + half) * columns, (y + half) * rows)
    image = resized(part.image, (columns * times, rows * times), shot.display, box)
    geometry = with_pixels(part.geometry, shot.span / times)
    return replace(part, image=image, geometry=geometry)


def _alike(pictures: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Pictures on one size and in colour where one is: captions may take more lines, bars wider numbers."""
    colour = any(p.ndim == 3 for p in pictures)
    tall, wide = (max((p.shape[axis] for p in pictures), default=0) for axis in (0, 1))
    out = []
    for picture in pictures:
        picture = np.repeat(picture[..., None], 3, -1) if colour and picture.ndim == 2 else picture
        sheet_ = np.empty((tall, wide, *picture.shape[2:]), np.uint8)
        sheet_[:] = GROUND if colour else GROUND[0]
        sheet_[: picture.shape[0], : picture.shape[1]] = picture
        out.append(sheet_)
    return out


def seconds(movie: Movie) -> float:
    """How long a movie lasts."""
    return math.fsum(frame.seconds for frame in movie.keyframes[:-1])


def shot_at(movie: Movie, time: float, levels: frozenset[str]) -> Shot | None:
    """The picture after so many seconds; None past the end."""
    index = int(time * movie.fps)
    all_ = shots(movie, levels)
    return all_[index] if index < len(all_) else None
