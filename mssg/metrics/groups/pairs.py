"""Similarity of a real image and one drawn for its covariates: diversity, not fidelity."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mssg.errors import MssgError
from mssg.features.lpips import load_lpips
from mssg.metrics.context import EvalContext, SplitSettings
from mssg.metrics.metric import Metric
from mssg.metrics.model import EvaluatedModel
from mssg.metrics.pairwise import ms_ssim, ms_ssim_scales, psnr, ssim
from mssg.metrics.results import Result
from mssg.metrics.sampling import Numbers, Reader
from mssg.metrics.settings import Settings, option

SIMILARITIES = ("ssim", "ms_ssim", "psnr")


@dataclass(frozen=True)
class LpipsSettings(Settings):
    """Of LPIPS."""

    lpips: str = option("alex", "Trunk of LPIPS: alex, vgg or squeeze.", kind=str)
    lpips_weights: str | None = option(
        None,
        "Its ImageNet weights, where torch's cache does not hold them; nothing is downloaded.",
        kind=str,
        metavar="FILE",
    )

    def to_json(self) -> dict[str, Any]:
        """Trunk and weights together, as eval.json has held them from its first version."""
        return {"lpips": (self.lpips, self.lpips_weights)}


def _similarity(context: EvalContext) -> Sequence[Reader]:
    """SSIM, MS-SSIM and PSNR of pairs; none where images are smaller than the window of SSIM."""
    data, picks, side = context.data, context.picks, context.data.study.resolution
    scales = ms_ssim_scales(side, side)
    if not scales:
        context.note("pairs", f"images of {side} pixels are smaller than the window of SSIM")
        return ()

    def read(images: np.ndarray, rows: slice) -> Numbers:
        real = data.images(picks[rows])
        return {
            "ssim": ssim(real, images),
            "ms_ssim": ms_ssim(real, images, scales=scales),
            "psnr": psnr(real, images),
        }

    return (Reader(f"{_content(context)}:{scales}", read),)


def _perceptual(context: EvalContext) -> Sequence[Reader]:
    """LPIPS of pairs; none where its weights are not there."""
    data, picks, chosen = context.data, context.picks, context.options.of(LpipsSettings)
    try:
        distance = load_lpips(chosen.lpips, chosen.lpips_weights, device=context.sampler.device)
    except MssgError as error:
        context.note("lpips", str(error))
        return ()

    def read(images: np.ndarray, rows: slice) -> Numbers:
        return {distance.name: distance(data.images(picks[rows]), images)}

    return (Reader(f"{_content(context)}:{distance.name}", read),)


def _content(context: EvalContext) -> str:
    """What decides which real image a drawn one is compared with."""
    images = [s.info.get("sha256") for s in context.data.sources]
    return f"pairs:{context.options.seed}:{images}:{len(context.picks)}"


def _of_pairs(is_one: Callable[[str], bool]):
    """A metric's `of_model`: mean and sd over the pairs of each reading that is one of it."""

    def of_model(context: EvalContext, model: EvaluatedModel) -> Iterator[Result]:
        drawn = context.drawn(model)
        for source in context.data.parts:
            real, fake = context.part(source)
            for name in filter(is_one, drawn):
                if len(fake):
                    x = drawn[name][fake]
                    usable = x[np.isfinite(x)]
                    yield context.result(
                        model,
                        metric=name,
                        value=float(usable.mean()) if usable.size else None,
                        n=len(x),
                        n_real=len(real),
                        sd=float(usable.std()) if usable.size else None,
                        source=source,
                        unit="dB" if name == "psnr" else None,
                    )

    return of_model


METRICS = (
    Metric(
        name="pairs",
        help="SSIM, MS-SSIM, PSNR of pairs with the same covariates",
        of_model=_of_pairs(lambda name: name in SIMILARITIES),
        settings=(SplitSettings,),
        reads_split=_similarity,
        default=True,
        place=20,
    ),
    Metric(
        name="lpips",
        help="LPIPS of pairs (needs ImageNet weights of its trunk)",
        of_model=_of_pairs(lambda name: name.startswith("lpips")),
        settings=(SplitSettings, LpipsSettings),
        reads_split=_perceptual,
        place=130,
    ),
)
