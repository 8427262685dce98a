"""What a metric is.

A file in `mssg/metrics/groups` that holds a tuple `METRICS` of these is all it takes to add one: `mssg
evaluate` finds it, its options and its help (docs/architecture.md, "Adding a metric").
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import Enum

from mssg.errors import UsageError
from mssg.metrics.context import EvalContext, Readers
from mssg.metrics.model import EvaluatedModel
from mssg.metrics.results import Result
from mssg.metrics.settings import Settings


class Need(Enum):
    """What a metric cannot do without, in words for its help."""

    FEATURES = "a feature network"
    INSTRUMENTS = "an oracle or a predictor"
    NETWORKS = "the snapshot's networks"
    TRAINING_IMAGES = "the training images"
    UNSEEN_IMAGES = "a split that was not trained on"


@dataclass(frozen=True)
class Metric:
    """Something `mssg evaluate` can be asked for.

    Attributes:
        name: As `--metrics` takes it.
        help: One line for people.
        of_model: What it says of a model.
        of_real: What it says of the real images alone: the instrument's own error.
        needs: What must be there; where it is not, a note says so.
        settings: Classes of the choices it takes.
        reads_real, reads_split: What it has read off every real image, and off the images drawn for the whole
            split; it finds them in `EvalContext.real` and `EvalContext.drawn`.
        default: Whether it is computed where nobody chooses.
        place: Where it stands in lists and results: lowest first, equal ones by name.
    """

    name: str
    help: str
    of_model: Callable[[EvalContext, EvaluatedModel], Iterable[Result]]
    of_real: Callable[[EvalContext], Iterable[Result]] | None = None
    needs: frozenset[Need] = frozenset()
    settings: tuple[type[Settings], ...] = ()
    reads_real: Readers | None = None
    reads_split: Readers | None = None
    default: bool = False
    place: int = 1000

    def check(self, context: EvalContext) -> None:
        """Whether everything is there that it needs.

        Raises:
            UsageError: It is not.
        """
        if Need.INSTRUMENTS in self.needs and not context.instruments.readers:
            raise UsageError(
                "nothing reads covariates off these images",
                field=self.name,
                hint="Give a --predictor, or name an instrument in the study TOML",
            )
        if Need.UNSEEN_IMAGES in self.needs and context.data.split == "train":
            raise UsageError(
                f"{self.name} needs images that were not trained on",
                field="--split",
                found="train",
                expected="test or val",
            )
