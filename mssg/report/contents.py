"""What a report is made from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from mssg.metrics.results import Evaluation, Result
from mssg.rendering.renderer import Renderer

Pairs = Sequence[tuple[np.ndarray, np.ndarray, float]]
"""Generated image, nearest training image, ratio of distances."""


@dataclass(frozen=True)
class ReportContents:
    """What a report is made from.

    Attributes:
        name: What the user called the snapshot or run.
        evaluation: Its eval.json; None: the report has no numbers.
        stats: Rows of the run's stats.jsonl, oldest first.
        latents: Files of `mssg invert` whose counterfactuals are shown.
        galleries: What the pairs are -> generated images with their nearest training images.
        commands: How to make everything again.
        missing: What could not be had, as sentences.
    """

    name: str
    renderer: Renderer
    evaluation: Evaluation | None = None
    stats: Sequence[Mapping[str, Any]] = ()
    latents: Sequence[Path] = ()
    galleries: Mapping[str, Pairs] = field(default_factory=dict)
    commands: Sequence[str] = ()
    missing: Sequence[str] = ()

    @property
    def label(self) -> str:
        """How the evaluation calls the snapshot of this report; empty where it does not know it."""
        models = self.evaluation.models if self.evaluation else ()
        return next((m.label for m in models if m.snapshot == self.renderer.header.snapshot_id), "")

    @property
    def trained_on(self) -> int:
        """Training images of all sources, as the snapshot counts them."""
        return sum(int(s.get("n", 0)) for s in self.renderer.header.summary.get("sources", {}).values())

    def results(self, prefix: str) -> list[Result]:
        """Results about this snapshot whose metric begins so."""
        found = self.evaluation.results if self.evaluation else ()
        return [r for r in found if r.metric.startswith(prefix) and r.model == self.label]
