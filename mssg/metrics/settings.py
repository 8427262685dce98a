"""Choices of an evaluation, declared beside the metric that they belong to.

A field made by `option` is an option of `mssg evaluate` (`control_images` is `--control-images`) and an entry
of eval.json's `options`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, TypeVar

from mssg.errors import UsageError
from mssg.study.model import Study


@dataclass(frozen=True)
class Settings:
    """Choices that belong together; each metric or family derives its own."""

    def __post_init__(self) -> None:
        for choice in fields(self):
            allowed, found = choice.metadata.get("choices"), getattr(self, choice.name)
            if allowed and found not in allowed:
                raise UsageError(
                    "no such choice", field=choice.name, found=found, expected=" | ".join(allowed)
                )

    def check(self, study: Study) -> None:
        """Whether the choices go with a study.

        Raises:
            UsageError: They do not.
        """

    def to_json(self) -> dict[str, Any]:
        """As eval.json holds them."""
        return asdict(self)


S = TypeVar("S", bound=Settings)


def option(
    default: Any,
    help: str,
    *,
    kind: type = int,
    least: int | None = None,
    metavar: str | None = None,
    choices: tuple[str, ...] = (),
) -> Any:
    """A field of `Settings`.

    Args:
        default: Where nobody chooses; None and () are told in `help`.
        help: One sentence for the command line.
        kind: int, str, or tuple for names separated by commas.
        least: Smallest whole number that makes sense.
        metavar: What help shows for the value.
        choices: The only values of a str.
    """
    about = {"help": help, "kind": kind, "least": least, "metavar": metavar, "choices": choices}
    return field(default=default, metadata=about)


@dataclass(frozen=True)
class EvaluationOptions:
    """What is computed, and how much is drawn for it.

    Attributes:
        settings: Choices of the metrics, by their class.
    """

    metrics: tuple[str, ...]
    seed: int
    settings: Mapping[type[Settings], Settings]

    def of(self, kind: type[S]) -> S:
        """The choices of one class."""
        found = self.settings[kind]
        assert isinstance(found, kind)
        return found

    def to_json(self) -> dict[str, Any]:
        """As eval.json holds them."""
        document: dict[str, Any] = {"metrics": self.metrics, "seed": self.seed}
        for settings in self.settings.values():
            document |= settings.to_json()
        return document
