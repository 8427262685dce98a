"""The discriminator's own heads as a reader of covariates: what it says of an image beside real or not."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from mssg.checkpoint.header import read_header
from mssg.checkpoint.snapshot import Snapshot
from mssg.errors import MssgError, SnapshotError
from mssg.features.predictors import to_columns
from mssg.networks.discriminator import Discriminator
from mssg.study.model import Study

BATCH = 64
"""Images read at a time: the discriminator compares those of a group (its minibatch deviation)."""


@dataclass(frozen=True)
class DiscriminatorHeads:
    """A snapshot's discriminator as a reader of covariates.

    Attributes:
        network: Its discriminator, with 1 + K outputs.
        identity: How results call it.
    """

    study: Study
    network: Discriminator
    identity: str

    @staticmethod
    def of(snapshot: Snapshot) -> DiscriminatorHeads:
        """The heads of a snapshot.

        Raises:
            SnapshotError: It was saved without its discriminator, or that one has no heads.
        """
        network = snapshot.picture_discriminator()
        if network.config.projects:
            raise SnapshotError("its discriminator has no head for covariates", file=snapshot.header.path)
        return DiscriminatorHeads(snapshot.study, network, f"discriminator@{snapshot.header.snapshot_id[:8]}")

    @torch.no_grad()
    def measure(self, images: np.ndarray) -> dict[str, np.ndarray]:
        """Read the covariates off images.

        Args:
            images: uint8 [N, C, H, W].

        Returns:
            Covariate name -> native values float64 [N] (levels by index, binaries as probabilities).
        """
        device, group = next(self.network.parameters()).device, self.network.config.mbstd_group_size or 1
        parts = []
        for start in range(0, len(images), BATCH):
            some = np.array(images[start : start + BATCH])
            whole = np.resize(
                np.arange(len(some)), math.ceil(len(some) / group) * group
            )  # filled with its own
            x = torch.from_numpy(some[whole]).to(device).float() / 127.5 - 1
            outputs = self.network(x)[: len(some), 1:]
            parts.append(to_columns(self.study, outputs.float()).cpu().numpy())
        values = self.study.decode(np.concatenate(parts))
        return {name: values[:, v] for v, name in enumerate(self.study.condition_names)}


def is_snapshot(path: str | Path) -> bool:
    """Whether a path is a run's folder or a snapshot."""
    if Path(path).is_dir():
        return True
    try:
        read_header(path)
    except MssgError:
        return False
    return True
