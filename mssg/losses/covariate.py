"""The covariate loss: one table-driven sum for every study (docs/method/method.md sections 2 and 5; Lai et
al. 2024, equations 3 and 4).

Continuous covariates contribute a squared error, binary ones a binary cross-entropy, categorical ones a
cross-entropy. Covariates of one group are averaged, groups are summed. By default continuous covariates form
one group, binary ones another, and every categorical covariate its own; `loss_group` and `loss_weight` of a
covariate say otherwise.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from mssg.study.covariate import KINDS, Covariate
from mssg.study.model import Study

LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "squared error": lambda output, target: (output - target).square().squeeze(1),
    "binary cross-entropy": lambda output, target: F.binary_cross_entropy_with_logits(
        output, target, reduction="none"
    ).squeeze(1),
    "cross-entropy": lambda output, target: F.cross_entropy(output, target, reduction="none"),
}
"""What `Kind.loss` names: D's columns and encoded values, both [B, width] -> the loss of each image [B]."""


def per_row(covariate: Covariate, output: Tensor, target: Tensor) -> Tensor:
    """Loss of one covariate for each image.

    Args:
        covariate: Decides the loss.
        output: D's columns for it [B, width]: a value, a logit, or L logits.
        target: Encoded values [B, width].

    Returns:
        [B].
    """
    return LOSSES[KINDS[covariate.kind].loss](output, target)


def group_of(covariate: Covariate) -> str:
    """Name of the loss group a covariate belongs to."""
    return covariate.loss_group or (covariate.kind if covariate.is_ordered else covariate.name)


@dataclass(frozen=True)
class CovariateTerms:
    """Each covariate's own loss over the rows that counted.

    Attributes:
        names: The covariates, V of them.
        sums: Losses summed over the rows that counted, float [V], detached.
        rows: How many rows counted, int64 [V].
    """

    names: tuple[str, ...]
    sums: Tensor
    rows: Tensor

    def means(self) -> dict[str, float]:
        """Mean over the rows that counted, by name, where there were any. Waits for the device."""
        table = zip(self.names, self.sums.tolist(), self.rows.tolist())
        return {name: total / n for name, total, n in table if n}


def added(parts: Sequence[CovariateTerms]) -> CovariateTerms:
    """The terms of a batch that went through D in several parts."""
    sums, rows = torch.stack([p.sums for p in parts]), torch.stack([p.rows for p in parts])
    return CovariateTerms(parts[0].names, sums.sum(0), rows.sum(0))


class CovariateLoss:
    """Σ over groups of the mean over the group's covariates of the mean over the rows that count."""

    def __init__(self, study: Study) -> None:
        self._study = study
        self._names = tuple(c.name for c in study.conditions)
        groups = [group_of(c) for c in study.conditions]
        self._shares = [c.loss_weight / groups.count(g) for c, g in zip(study.conditions, groups)]

    def __call__(
        self,
        outputs: Tensor,
        target: Tensor,
        mask: Tensor | None = None,
        counts: Tensor | None = None,
        weights: Tensor | None = None,
    ) -> tuple[Tensor, CovariateTerms]:
        """The loss of a batch. No value is read back from the device.

        Args:
            outputs: D's covariate outputs [B, K].
            target: Encoded condition [B, K]; columns masked out may hold anything, also NaN.
            mask: Rows that count for each covariate, bool [B, V]; None = all.
            counts: Number of counting rows [V] where the batch is a part of a larger one (micro-batches,
                ranks); the parts' losses then add up to the whole batch's. None = count in this batch.
            weights: What each row counts for each covariate [B, V]; None = all the same.

        Returns:
            The scalar loss, and what each covariate contributed in THIS batch.
        """
        if mask is None:
            mask = torch.ones(len(outputs), len(self._names), dtype=torch.bool, device=outputs.device)
        rows = mask.sum(0)
        divisors = (rows if counts is None else counts).clamp(min=1)
        total, sums = outputs.sum() * 0, []
        for v, (covariate, share) in enumerate(zip(self._study.conditions, self._shares)):
            columns = self._study.layout[covariate.name]
            wanted = torch.where(mask[:, v, None], target[:, columns], 0)
            of_rows = per_row(covariate, outputs[:, columns], wanted) * mask[:, v]
            loss = (of_rows if weights is None else of_rows * weights[:, v]).sum()
            total = total + share * loss / divisors[v]
            sums.append(loss.detach())
        return total, CovariateTerms(self._names, torch.stack(sums), rows)

    def apart(self, outputs: Tensor, completed: Tensor, recorded: Tensor) -> tuple[Tensor, Tensor]:
        """How far D's mean reading of what was not recorded lies from what was expected there.

        Args:
            outputs: D's covariate outputs [B, K] for real images.
            completed: Their encoded conditions [B, K], drawn from the covariate models where not recorded.
            recorded: bool [B, V]; the other rows count.

        Returns:
            The mean difference of each covariate [V], 0 where no row counts and of levels; and how many rows
            counted, int64 [V].
        """
        means = []
        for v, covariate in enumerate(self._study.conditions):
            columns, rows = self._study.layout[covariate.name], ~recorded[:, v]
            apart = (outputs[:, columns] - completed[:, columns]).mean(1) * covariate.is_continuous
            means.append(torch.where(rows, apart, 0).sum() / rows.sum().clamp(min=1))
        return torch.stack(means), (~recorded).sum(0)

    def pull(self, means: Tensor, running: Tensor) -> Tensor:
        """Σ over groups of 2 · running · mean: its gradient is that of the squared mean difference, with the
        difference taken from the running mean [V] of many batches. A batch's own would be so noisy that
        readings are drawn together."""
        return 2 * (means * running * means.new_tensor(self._shares)).sum()
