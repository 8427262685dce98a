"""The covariate loss: one table-driven sum for every study (docs/method.md sections 2 and 5; Lai et al. 2024,
equations 3 and 4).

Continuous covariates contribute a squared error, binary ones a binary cross-entropy, categorical ones a
cross-entropy. Covariates of one group are averaged, groups are summed. By default continuous covariates form
one group, binary ones another, and every categorical covariate its own; `loss_group` and `loss_weight` of a
covariate say otherwise.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from mssg.study.model import Covariate, Study


def per_row(covariate: Covariate, output: Tensor, target: Tensor) -> Tensor:
    """Loss of one covariate for each image.

    Args:
        covariate: Decides the loss.
        output: D's columns for it [B, width]: a value, a logit, or L logits.
        target: Encoded values [B, width].

    Returns:
        [B].
    """
    if covariate.is_continuous:
        return (output - target).square().squeeze(1)
    if covariate.kind == "binary":
        return F.binary_cross_entropy_with_logits(output, target, reduction="none").squeeze(1)
    return F.cross_entropy(output, target, reduction="none")


def group_of(covariate: Covariate) -> str:
    """Name of the loss group a covariate belongs to."""
    return covariate.loss_group or (covariate.name if covariate.kind == "categorical" else covariate.kind)


class CovariateLoss:
    """Σ over groups of the mean over the group's covariates of the mean over the rows that count."""

    def __init__(self, study: Study) -> None:
        self._study = study
        groups = [group_of(c) for c in study.conditions]
        self._shares = [c.loss_weight / groups.count(g) for c, g in zip(study.conditions, groups)]

    def __call__(
        self, outputs: Tensor, target: Tensor, mask: Tensor | None = None, counts: Tensor | None = None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss of a batch.

        Args:
            outputs: D's covariate outputs [B, K].
            target: Encoded condition [B, K]; columns masked out may hold anything, also NaN.
            mask: Rows that count for each covariate, bool [B, V]; None = all.
            counts: Number of counting rows [V] where the batch is a part of a larger one (micro-batches,
                ranks); the parts' losses then add up to the whole batch's. None = count in this batch.

        Returns:
            The scalar loss, and each covariate's detached mean over the rows of THIS batch (absent without
            rows).
        """
        total = outputs.sum() * 0
        terms: dict[str, Tensor] = {}
        for v, (covariate, share) in enumerate(zip(self._study.conditions, self._shares)):
            columns = self._study.layout[covariate.name]
            output, wanted = outputs[:, columns], target[:, columns]
            rows = (
                mask[:, v]
                if mask is not None
                else torch.ones(len(outputs), dtype=torch.bool, device=outputs.device)
            )
            wanted = torch.where(rows[:, None], wanted, torch.zeros_like(wanted))
            loss = (per_row(covariate, output, wanted) * rows).sum()
            count = rows.sum() if counts is None else counts[v]
            total = total + share * loss / count.clamp(min=1)
            if bool(rows.any()):
                terms[covariate.name] = (loss / rows.sum()).detach()
        return total, terms
