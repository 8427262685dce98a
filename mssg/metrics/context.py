"""What the metrics of one evaluation share: real images and their readings, drawn images, choices and notes.

Real images are read once for all models, and images drawn for the whole split once for all metrics.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from mssg.errors import MssgError, UsageError
from mssg.metrics.dataset import EvalDataset
from mssg.metrics.distribution import SmallSampleWarning
from mssg.metrics.instruments import Instruments
from mssg.metrics.model import EvaluatedModel
from mssg.metrics.results import JOINT, REAL, Note, Result
from mssg.metrics.sampling import CachedSampler, Numbers, Reader, derived_seed
from mssg.metrics.settings import EvaluationOptions, Settings, option
from mssg.study.covariate import Covariate

if TYPE_CHECKING:
    from mssg.features.extractors import FeatureNetwork

FEWEST, MOST = 1000, 10_000
"""Images drawn for the whole split where nobody says how many: as many as are real, within these."""
T = TypeVar("T")


@dataclass(frozen=True)
class SplitSettings(Settings):
    """Of metrics that look at images drawn for the whole split."""

    images: int | None = option(
        None, "Images drawn for the whole split. Default: as many as are real, 1,000 to 10,000.", least=2
    )


@dataclass
class EvalContext:
    """One evaluation, as its metrics see it.

    Attributes:
        features: The feature network; None where no metric needs one.
        reads_real, reads_split: What the chosen metrics read off all real images, and off the images drawn
            for the whole split.
        notes: What could not be computed, or is to be read with care.
    """

    data: EvalDataset
    sampler: CachedSampler
    options: EvaluationOptions
    instruments: Instruments
    features: FeatureNetwork | None = None
    reads_real: Sequence[Readers] = ()
    reads_split: Sequence[Readers] = ()
    notes: list[Note] = field(default_factory=list)
    _once: dict[Hashable, Any] = field(default_factory=dict, init=False, repr=False)
    _warned: set[str] = field(default_factory=set, init=False, repr=False)

    def attempt(self, about: str, compute: Callable[[], Iterable[Result]]) -> list[Result]:
        """Results, or a note where they cannot be had; warnings about small samples become notes, too."""
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", SmallSampleWarning)
            try:
                found = list(compute())
            except MssgError as error:
                self.note(about, str(error))
                found = []
        small = [str(w.message) for w in caught if issubclass(w.category, SmallSampleWarning)]
        whole = about.split(",")[0]
        if small and whole not in self._warned:  # the same holds for every part and floor of it
            self._warned.add(whole)
            self.note(about, small[0])
        return found

    def note(self, about: str, message: str) -> None:
        """Say something once."""
        note = Note(about, message)
        if note not in self.notes:
            self.notes.append(note)

    def once(self, key: Hashable, compute: Callable[[], T]) -> T:
        """A value that is the same whoever asks for it, computed for the first who does."""
        if key not in self._once:
            self._once[key] = compute()
        return self._once[key]

    def result(self, model: EvaluatedModel | None, **parts: Any) -> Result:
        """A `Result` about a model, or about the real images (None)."""
        return Result(model=model.label if model else REAL, split=self.data.split, **parts)

    def rng(self, *stream: int) -> np.random.Generator:
        """Random numbers that the evaluation's seed and a stream decide."""
        return np.random.default_rng([self.options.seed, *stream])

    def bootstrap(self) -> np.random.Generator:
        """For intervals: the same in every metric, whatever else is computed."""
        return self.rng(99)

    @property
    def readable(self) -> list[Covariate]:
        """Covariates that something reads off an image."""
        return [c for c in self.data.study.covariates if c.name in self.instruments.by_covariate]

    def covariate_readers(self) -> tuple[Reader, ...]:
        """What reads covariates off images."""
        return self.instruments.readers

    def feature_readers(self) -> tuple[Reader, ...]:
        """What reads features off images."""
        network = self.network
        return (
            Reader(f"{network.name}:{self.sampler.device}", lambda images, _: {"features": network(images)}),
        )

    @property
    def network(self) -> FeatureNetwork:
        """The feature network.

        Raises:
            UsageError: There is none.
        """
        if self.features is None:
            raise UsageError("this needs features", field="--features")
        return self.features

    @cached_property
    def real(self) -> Numbers:
        """Readings of all real images of the split."""
        readers = _distinct(self, self.reads_real)
        return self.sampler.read("real images", self.data.images, len(self.data), readers)

    @cached_property
    def requests(self) -> np.ndarray:
        """The covariates of the real images, completed: native [N, V]."""
        return self.data.requests(self.options.seed)

    @cached_property
    def picks(self) -> np.ndarray:
        """Which real image each image drawn for the whole split answers: every one equally often, the rest at
        random: row numbers [n]."""
        real = len(self.data)
        n = self.options.of(SplitSettings).images or int(np.clip(real, FEWEST, MOST))
        rng = self.rng(11)
        whole, rest = divmod(n, real)
        picks = np.concatenate([np.tile(np.arange(real), whole), rng.permutation(real)[:rest]])
        return rng.permutation(picks)

    def drawn(self, model: EvaluatedModel) -> Numbers:
        """Readings of images drawn for the whole split, one for each of `picks`."""

        def draw() -> Numbers:
            readers = _distinct(self, self.reads_split)
            return self.draw(model, self.requests[self.picks], stream=1, readers=readers, label="whole split")

        return self.once(("whole split", model.label), draw)

    def draw(
        self, model: EvaluatedModel, values: np.ndarray, *, stream: int, readers: Sequence[Reader], label: str
    ) -> Numbers:
        """Draw images of a model for values [n, V] and read them; equal streams draw equal latents."""
        return self.sampler.draw(
            model.generate,
            model.identity,
            values,
            seed=derived_seed(self.options.seed, stream),
            readers=readers,
            label=f"{model.label}, {label}",
        )

    def part(self, source: str) -> tuple[np.ndarray, np.ndarray]:
        """Positions of a source's real images, and of the drawn images that answer them; all for `JOINT`."""
        if source == JOINT:
            return np.arange(len(self.data)), np.arange(len(self.picks))
        own = self.data.of(source)
        return own, np.flatnonzero(np.isin(self.picks, own))


Readers = Callable[[EvalContext], Sequence[Reader]]
"""What a metric has read off images."""


def _distinct(context: EvalContext, reads: Sequence[Readers]) -> list[Reader]:
    """All readers of several metrics, each once."""
    return list({r.identity: r for readers in reads for r in readers(context)}.values())
