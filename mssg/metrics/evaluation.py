"""One evaluation: which numbers are asked for, what has to be drawn and read for them, and what could not be
had.

Every group of numbers stands alone: where one cannot be computed, a note says why and the others go on.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import torch

from mssg.errors import MssgError, UsageError
from mssg.features.extractors import Features
from mssg.metrics.distribution import SmallSampleWarning
from mssg.metrics.frame import Contender, Frame, Instruments
from mssg.metrics.pairwise import load_lpips, ms_ssim, ms_ssim_scales, psnr, ssim
from mssg.metrics.results import JOINT, Evaluation, Note, Result
from mssg.metrics.sampling import Bench, Numbers, Reader
from mssg.metrics.strata import BINS, MIN_COUNT, PER_STRATUM
from mssg.study.model import Covariate
from mssg.version import __version__

METRICS = {
    "fid": "Fréchet distance of features, per source and joint",
    "kid": "kernel distance of features: leads on small sets",
    "prdc": "precision, recall, density, coverage",
    "pairs": "SSIM, MS-SSIM, PSNR of pairs with the same covariates",
    "strata": "strata prediction score",
    "strata_kid": "KID within each stratum, and its weighted mean",
    "overall": "general controllability over the whole split",
    "control": "requested against measured, designs a, b, c",
    "leakage": "one covariate moved: how every reading moves",
    "spread": "pixel spread within a class, generated over real",
    "fid_infinity": "FID extrapolated to infinitely many images",
    "is": "inception score",
    "strata_fid": "FID within each stratum, and its weighted mean",
    "lpips": "LPIPS of pairs (needs ImageNet weights of its trunk)",
    "ppl": "path length in features",
    "eq": "equivariance to shifts and rotations (StyleGAN3)",
    "counterfactual": (
        "real images inverted and edited: composition, effectiveness, reversibility, minimality"
    ),
    "memorisation": "nearest training images in features and pixels, against those of held-out real images",
    "memorisation_pixels": "the same in pixels alone: quick",
    "utility": "predictors trained on generated images, tested on real ones",
}
"""What can be asked for; the first ten are the default."""
DEFAULT = tuple(METRICS)[:10]
FROM_FEATURES = {
    "fid",
    "kid",
    "prdc",
    "fid_infinity",
    "is",
    "strata_kid",
    "strata_fid",
    "ppl",
    "memorisation",
}
FEWEST, MOST = 1000, 10_000
"""Images drawn for the whole split where nobody says how many: as many as are real, within these."""


@dataclass(frozen=True)
class Options:
    """What is computed, and how much is drawn for it.

    Attributes:
        metrics: Names of `METRICS`.
        seed: Of everything.
        images: Images drawn for the whole split; None: as many as there are real ones, within `FEWEST` and
            `MOST`.
        per_stratum: Images drawn for each stratum.
        by: Covariates that form the strata; () for all, without categorical ones where that makes too many.
        bins, min_count: See `mssg.metrics.strata.stratify`.
        control_images: Images a design and covariate.
        leakage_images: Images a covariate is moved on.
        smooth_images: Images for path length and equivariance.
        kid_subset: Rows of a KID subset; None: as many as fit every source and half of its real images, 1000
            at most.
        lpips: Trunk of LPIPS, and its weights where torch's cache does not hold them.
        counterfactual_images: Real images that are inverted and edited.
        invert_steps, invert_features: How (`mssg.invert.InvertConfig`).
        memorisation_images: Generated images that are searched for copies.
        utility_images: Images a predictor is trained on; None: as many as are real.
        utility_epochs: Passes over them at most.
    """

    metrics: tuple[str, ...] = DEFAULT
    seed: int = 0
    images: int | None = None
    per_stratum: int = PER_STRATUM
    by: tuple[str, ...] = ()
    bins: int = BINS
    min_count: int = MIN_COUNT
    control_images: int = 1000
    leakage_images: int = 500
    smooth_images: int = 500
    kid_subset: int | None = None
    lpips: tuple[str, str | None] = ("alex", None)
    counterfactual_images: int = 32
    invert_steps: int = 200
    invert_features: str = "discriminator"
    memorisation_images: int = 1000
    utility_images: int | None = None
    utility_epochs: int = 10

    def __post_init__(self) -> None:
        for name in self.metrics:
            if name not in METRICS:
                raise UsageError(
                    "no such metric", field="--metrics", found=name, expected=" | ".join(METRICS)
                )


@dataclass
class Evaluator:
    """Everything the groups of numbers share: real readings are made once, drawn images are read by all at
    once.

    Attributes:
        frame: The real images.
        bench: Draws and reads.
        options: What is asked for.
        instruments: What reads covariates.
        features: What makes features; None where no number needs them.
        notes: What could not be computed, or is to be read with care.
    """

    frame: Frame
    bench: Bench
    options: Options
    instruments: Instruments
    features: Features | None = None
    notes: list[Note] = field(default_factory=list)
    _floors: dict[str, Any] = field(default_factory=dict)

    def run(self, contenders: Sequence[Contender]) -> list[Result]:
        """All results, of real images first."""
        from mssg.metrics import measures

        chosen = [m for m in METRICS if m in self.options.metrics]
        results = [r for m in chosen for r in self.guarded(m, lambda m=m: measures.of_real(self, m))]
        for contender in contenders:
            for metric in chosen:
                about = f"{contender.model.label}: {metric}" if len(contenders) > 1 else metric
                results += self.guarded(about, lambda m=metric, c=contender: measures.of_model(self, m, c))
        return results

    def guarded(self, about: str, compute: Callable[[], Iterable[Result]]) -> list[Result]:
        """Results, or a note where they cannot be had; warnings about small samples become notes, too."""
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", SmallSampleWarning)
            try:
                found = list(compute())
            except MssgError as error:
                self.note(about, str(error))
                found = []
        small = [str(w.message) for w in caught if issubclass(w.category, SmallSampleWarning)]
        if small:  # once is enough: the same holds for every part and floor of it
            self.remember(f"warned {about.split(',')[0]}", lambda: self.note(about, small[0]))
        return found

    def note(self, about: str, message: str) -> None:
        """Say something once."""
        note = Note(about, message)
        if note not in self.notes:
            self.notes.append(note)

    def remember(self, key: str, compute: Callable[[], Any]) -> Any:
        """A value that is the same for all models, computed once."""
        if key not in self._floors:
            self._floors[key] = compute()
        return self._floors[key]

    @property
    def rng(self) -> np.random.Generator:
        """For bootstraps: the same in every group, whatever else is computed."""
        return np.random.default_rng([self.options.seed, 99])

    @property
    def readable(self) -> list[Covariate]:
        """Covariates that something reads off an image."""
        return [c for c in self.frame.study.covariates if c.name in self.instruments.by_covariate]

    def readers(self, covariates: bool, features: bool) -> tuple[Reader, ...]:
        """Whatever reads real and generated images alike."""
        out = self.instruments.readers if covariates else ()
        if self.features is None or not features:
            return out
        name, network = self.features.name, self.features
        reader = Reader(f"{name}:{self.bench.device}", lambda images, _: {"features": network(images)})
        return (*out, reader)

    def wants(self, *metrics: str) -> bool:
        """Whether any of these is asked for."""
        return bool(set(metrics) & set(self.options.metrics))

    @cached_property
    def real(self) -> Numbers:
        """Readings of all real images of the split."""
        readers = self.readers(self.wants("strata", "overall"), self.wants(*FROM_FEATURES - {"ppl"}))
        return self.bench.read("real images", self.frame.images, len(self.frame), readers)

    @cached_property
    def requests(self) -> np.ndarray:
        """The covariates of the real images, completed: native [N, V]."""
        return self.frame.requests(self.options.seed)

    @cached_property
    def picks(self) -> np.ndarray:
        """Which real image each image drawn for the whole split answers: every one equally often, the rest at
        random."""
        real = len(self.frame)
        n = self.options.images or int(np.clip(real, FEWEST, MOST))
        rng = np.random.default_rng([self.options.seed, 11])
        whole, rest = divmod(n, real)
        picks = np.concatenate([np.tile(np.arange(real), whole), rng.permutation(real)[:rest]])
        return rng.permutation(picks)

    def drawn(self, contender: Contender) -> Numbers:
        """Readings of images drawn for the whole split, one for each of `picks`."""
        return self.remember(f"drawn {contender.model.label}", lambda: self._draw(contender))

    def _draw(self, contender: Contender) -> Numbers:
        readers = self.readers(self.wants("overall"), self.wants("fid", "kid", "prdc", "fid_infinity", "is"))
        return self.draw(
            contender, "whole split", self.requests[self.picks], 1, (*readers, *self.pair_readers)
        )

    def draw(
        self, contender: Contender, label: str, values: np.ndarray, stream: int, readers: Sequence[Reader]
    ) -> Numbers:
        """Draw images of a model and read them; equal streams draw equal latents."""
        seed = int(np.random.SeedSequence([self.options.seed, stream]).generate_state(1)[0])
        label = f"{contender.model.label}, {label}"
        return self.bench.draw(label, contender.identity, contender.generate, values, seed, readers)

    @cached_property
    def pair_readers(self) -> tuple[Reader, ...]:
        """What compares a drawn image with the real one whose covariates it was given."""
        frame, picks, side = self.frame, self.picks, self.frame.study.resolution
        content = f"pairs:{self.options.seed}:{[s.info.get('sha256') for s in frame.sources]}:{len(picks)}"
        readers, scales = [], ms_ssim_scales(side, side)

        def similarity(images: np.ndarray, rows: slice) -> Numbers:
            real = frame.images(picks[rows])
            found = {"ssim": ssim(real, images), "psnr": psnr(real, images)}
            return found | ({"ms_ssim": ms_ssim(real, images, scales=scales)} if scales else {})

        if self.wants("pairs"):
            if scales:
                readers.append(Reader(f"{content}:{scales}", similarity))
            else:
                self.note("pairs", f"images of {side} pixels are smaller than the window of SSIM")
        if self.wants("lpips"):
            try:
                distance = load_lpips(*self.options.lpips, device=self.bench.device)
            except MssgError as error:
                self.note("lpips", str(error))
            else:

                def perceptual(images: np.ndarray, rows: slice) -> Numbers:
                    return {distance.name: distance(frame.images(picks[rows]), images)}

                readers.append(Reader(f"{content}:{distance.name}", perceptual))
        return tuple(readers)

    def part(self, source: str) -> tuple[np.ndarray, np.ndarray]:
        """Positions of a source's real images, and of the drawn images that answer them; all for `JOINT`."""
        if source == JOINT:
            return np.arange(len(self.frame)), np.arange(len(self.picks))
        own = self.frame.of(source)
        return own, np.flatnonzero(np.isin(self.picks, own))


def evaluate(evaluator: Evaluator, contenders: Sequence[Contender], command: str = "") -> Evaluation:
    """Compute everything that is asked for.

    Args:
        evaluator: Data, instruments, sizes.
        contenders: Models, side by side.
        command: How to do it again.

    Raises:
        DataError: The feature network does not accept these images: found out before any work is done.
        UsageError: Strata by a covariate that the study does not have.
    """
    frame, options = evaluator.frame, evaluator.options
    for name in options.by:
        frame.study.index(name)
    if evaluator.features is not None:
        evaluator.features(frame.images(slice(0, 2)))
    results = evaluator.run(contenders)
    sizes = asdict(options) | {
        "images": len(evaluator.picks),
        "features": evaluator.features and evaluator.features.name,
    }
    versions = {"mssg": __version__, "torch": torch.__version__, "numpy": np.__version__}
    return Evaluation(
        frame.study.name,
        frame.split,
        options.seed,
        tuple(c.model for c in contenders),
        tuple(results),
        tuple(dict.fromkeys(evaluator.notes)),
        command,
        sizes,
        versions,
    )
