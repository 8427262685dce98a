"""Real images beside generated ones in the four corners of two covariates: both small, one large, both large.

What a model draws of people as rare as these shows whether it can vary the two on their own.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from mssg.errors import UsageError
from mssg.metrics.dataset import EvalDataset
from mssg.metrics.model import check_answers, own_values
from mssg.plotting.grid_layout import GridLayout
from mssg.plotting.image_grid import GridFigure, draw_blocks, latent_words, shown
from mssg.rendering.command_line import private_command
from mssg.rendering.request import MAX_SEED, RenderRequest, to_uint8
from mssg.study.covariate import Covariate
from mssg.study.values import find_covariate
from mssg.version import __version__

if TYPE_CHECKING:
    from mssg.rendering.renderer import Renderer

QUANTILE = 0.9
"""How far out a corner begins."""
BLANK = 255
"""Grey level of a cell without an image."""


@dataclass(frozen=True)
class Corner:
    """One of the four.

    Attributes:
        limits: What each is limited to, in words: "≤ 12 ml", or a level.
        rows: The real images there, positions in the data.
    """

    names: tuple[str, str]
    limits: tuple[str, str]
    rows: np.ndarray = field(repr=False)

    @property
    def label(self) -> str:
        """Both limits in one line."""
        return ", ".join(self.lines)

    @property
    def lines(self) -> list[str]:
        """A line for each covariate."""
        return [f"{name.replace('_', ' ')} {limit}" for name, limit in zip(self.names, self.limits)]


def corners_of(data: EvalDataset, rows: str, cols: str, quantile: float = QUANTILE) -> list[Corner]:
    """The four corners: small and small, small and large, large and small, large and large.

    Args:
        rows, cols: Two covariates. Of one with levels the first and the last are its ends.
        quantile: A continuous covariate is large from this quantile of the images on, small up to its mirror
            image.

    Raises:
        UsageError: Unknown names, one name twice, nobody records one of them, or no image lies in any corner.
    """
    if rows == cols:
        raise UsageError("the same covariate twice", field=rows, hint="Choose two different covariates")
    ends = [_ends(data, name, quantile) for name in (rows, cols)]
    found = [
        Corner((rows, cols), (one[0], other[0]), np.flatnonzero(one[1] & other[1]))
        for one, other in itertools.product(*ends)
    ]
    if not any(len(corner.rows) for corner in found):
        raise UsageError(
            "no real image lies in any of the four corners",
            field=f"{rows}, {cols}",
            hint="Lower --quantile, or choose a larger --split",
        )
    return found


def _ends(data: EvalDataset, name: str, quantile: float) -> list[tuple[str, np.ndarray]]:
    """The small and the large end of a covariate: what it is called, and which images lie there [N]."""
    covariate = find_covariate(data.study, name)
    x = data.values[:, data.study.index(name)]
    if not np.isfinite(x).any():
        raise UsageError("no real image records it", field=name, hint="Choose another covariate")
    if not covariate.is_continuous:
        return [(covariate.format(float(v)), x == v) for v in (0, covariate.num_levels - 1)]
    low, high = np.nanquantile(x, [1 - quantile, quantile])
    return [(f"≤ {_rounded(covariate, low)}", x <= low), (f"≥ {_rounded(covariate, high)}", x >= high)]


def _rounded(covariate: Covariate, limit: float) -> str:
    return shown(covariate, float(f"{limit:.4g}"))


def corner_figure(
    renderer: Renderer,
    data: EvalDataset,
    corners: Sequence[Corner],
    request: RenderRequest,
    *,
    count: int = 5,
    command: str = "",
) -> GridFigure:
    """Real images of each corner in a row; beside them what the model draws with the same covariates.

    Args:
        data: The real images; what they do not record is drawn from the covariate models.
        corners: Of `corners_of`.
        request: What all pictures share. Its seed chooses the real images; column k has the latent of seed
            + k, so that within a column only covariates differ.
        count: Real images of a corner, of different people first; where there are fewer, cells stay blank.
        command: How to make this figure again; goes into its metadata.

    Returns:
        The figure. Its `images` are uint8 [2, corners, count, C, H, W]: real ones, then generated ones, the
        last corner first.

    Raises:
        UsageError: The model does not answer this study's requests.
    """
    check_answers(renderer.snapshot, data.study)
    chosen = [_chosen(data, corner.rows, count, [request.seed, i]) for i, corner in enumerate(corners)]
    shape = (2, len(corners), count, data.study.channels, data.study.resolution, data.study.resolution)
    images = np.full(shape, BLANK, np.uint8)
    for i, rows in enumerate(chosen):
        if rows.size:
            place = len(corners) - 1 - i  # figures begin at the bottom
            images[0, place, : len(rows)] = data.images(rows)
            images[1, place, : len(rows)] = _drawn(renderer, data, rows, request)
    labels = ["\n".join(c.lines[:1] + [f"{c.lines[1]}  (n {len(c.rows)})"]) for c in corners]
    seeds = f"seeds {request.seed} to {request.seed + count - 1}" if count > 1 else f"seed {request.seed}"
    described = [f"images of the {data.split} split, and drawn with their covariates", seeds]
    names = ["real", "generated"]
    layout = GridLayout.of(shape, labels[::-1], [""] * count, [*described, *latent_words(request)[1:]], names)
    figure, places = draw_blocks(layout, images, ("", ""), names)
    first = corners[0]
    metadata = {
        "Title": f"{data.study.name}: corners of {' and '.join(first.names)}",
        "Snapshot": renderer.header.snapshot_id,
        "Seed": str(request.seed),
        "Psi": f"{request.psi:g}",
        "Covariates": json.dumps({c.label: len(c.rows) for c in corners}, ensure_ascii=False),
        "Command": private_command(command),
        "Software": f"mssg {__version__}",
    }
    return GridFigure(figure, images, layout.dpi, layout.scale, corners=places, metadata=metadata)


def _chosen(data: EvalDataset, rows: np.ndarray, count: int, seed: Sequence[int]) -> np.ndarray:
    """Up to `count` of these images, drawn at random; a person's second image only where people run out."""
    rows = np.random.default_rng(seed).permutation(rows)
    _, first = np.unique(data.people[rows], return_index=True)
    again = np.setdiff1d(np.arange(len(rows)), first)
    return rows[np.concatenate([np.sort(first), again])[:count].astype(int)]


def _drawn(renderer: Renderer, data: EvalDataset, rows: np.ndarray, request: RenderRequest) -> np.ndarray:
    """What the model draws with the covariates of real images: uint8 [n, C, H, W]."""
    own, rng = renderer.study, np.random.default_rng([request.seed, 1])
    values = own_values(renderer.snapshot, data.study, data.requests(request.seed)[rows], rng=rng)
    requests = [
        replace(
            request,
            seed=(request.seed + k) % (MAX_SEED + 1),
            covariates=tuple(zip(own.condition_names, map(float, row))),
        )
        for k, row in enumerate(values)
    ]
    return to_uint8(np.stack(list(renderer.pictures(requests))))
