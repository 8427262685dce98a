"""A model that is evaluated: a snapshot, made to answer the requests of a study."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from mssg.errors import UsageError
from mssg.metrics.results import FORMAT_VERSION, REAL, ModelRecord
from mssg.metrics.sampling import PLAIN, Generate, batch_for, generator_of
from mssg.networks.config import STYLEGAN2
from mssg.rendering.command_line import request_words
from mssg.rendering.request import RenderRequest
from mssg.study.covariate import SOURCE, Covariate
from mssg.study.model import Study

if TYPE_CHECKING:
    from mssg.checkpoint.snapshot import Snapshot


@dataclass(frozen=True)
class EvaluatedModel:
    """One model that is evaluated.

    Attributes:
        snapshot: Where its networks are; None: a plain function, which has none.
        generate: (values [N, V] of the data's study, seed) -> uint8 images; what the study does not know is
            drawn from the model's own covariate models, and what the model does not take is left out.
        identity: What decides its images besides values and seed.
    """

    record: ModelRecord
    snapshot: Snapshot | None
    generate: Generate
    identity: tuple[str, ...]

    @property
    def label(self) -> str:
        """How results call it."""
        return self.record.label

    @property
    def networks(self) -> Snapshot:
        """The snapshot with its networks.

        Raises:
            UsageError: It has none.
        """
        if self.snapshot is None:
            raise UsageError("a model without networks", field=self.label, expected="a snapshot")
        return self.snapshot


def evaluated_model(
    label: str,
    snapshot: Snapshot,
    study: Study,
    *,
    memory_gb: float = 4.0,
    blind: Sequence[str] = (),
    like: RenderRequest = PLAIN,
) -> EvaluatedModel:
    """A snapshot, made to answer the requests of a study.

    Args:
        study: Of the real images.
        memory_gb: What its generator may take.
        blind: Covariates it is not told, but draws from its own covariate models: what a model scores that
            knows the others and ignores these. An error says little beside anything but that.
        like: Its truncation, noise and transform hold for all images.

    Raises:
        UsageError: Another image size, a covariate that means something else in the two studies, or a
            transform that the network does not know.
    """
    own = snapshot.study
    if label == REAL:
        raise UsageError("this label stands for real images", field=label, hint="Choose another label")
    check_answers(snapshot, study)
    if like.transform and snapshot.G.config.kind == STYLEGAN2:
        expected = "a StyleGAN3 network"
        raise UsageError("this network cannot move its picture", field="--transform", expected=expected)
    for name in blind:
        own.index(name)
    if not blind:
        _check_told(snapshot, study)
    record = ModelRecord(
        label=label,
        snapshot=snapshot.header.snapshot_id,
        study=own.name,
        kimg=float(snapshot.header.progress.get("kimg", 0)),
        covariates=tuple(n for n in own.condition_names if n not in blind),
        trained_on=tuple(s.name for s in own.sources),
        drawn=" ".join(request_words(like, study)[2:]),  # without the seed: each image has its own
    )
    batch = batch_for(own.resolution, memory_gb)

    def generate(values: np.ndarray, seed: int) -> np.ndarray:
        rng = np.random.default_rng([seed, 1])
        requested = own_values(snapshot, study, values, rng=rng, without=blind)
        return generator_of(snapshot.G, own, snapshot.device, batch, like)(requested, seed)

    drawn = f"drawn as in version {FORMAT_VERSION}"
    identity = (record.snapshot, snapshot.device, str(batch), drawn, record.drawn, *blind)
    return EvaluatedModel(record, snapshot, generate, identity)


def _check_told(snapshot: Snapshot, study: Study) -> None:
    own = snapshot.study
    if not set(own.condition_names) & set(study.condition_names):
        raise UsageError(
            "the model is told nothing that this study records",
            file=snapshot.header.path,
            found=", ".join(own.condition_names),
            expected=", ".join(study.condition_names),
            hint="Evaluate it with the study it was trained on",
        )


def own_values(
    snapshot: Snapshot,
    study: Study,
    values: np.ndarray,
    *,
    rng: np.random.Generator,
    without: Sequence[str] = (),
) -> np.ndarray:
    """Values of a study as the model's own study orders them: native [N, W].

    Args:
        study: Of the values.
        values: Native values [N, V].
        rng: Of what the study does not know, which is drawn from the model's covariate models.
        without: Covariates that are drawn although they are known.
    """
    own = snapshot.study
    out = np.full((len(values), len(own.condition_names)), np.nan)
    for j, name in enumerate(own.condition_names):
        if name in study.condition_names and name not in without:
            out[:, j] = values[:, study.index(name)]
    return snapshot.models.complete(out, rng) if np.isnan(out).any() else out


def check_answers(snapshot: Snapshot, study: Study) -> None:
    """Whether a model can be asked what a study records.

    Raises:
        UsageError: Another image size, or a covariate that means something else in the two studies.
    """
    own = snapshot.study
    if (own.resolution, own.channels) != (study.resolution, study.channels):
        raise UsageError(
            "the model draws other images than the study holds",
            file=snapshot.header.path,
            found=f"{own.channels} x {own.resolution}²",
            expected=f"{study.channels} x {study.resolution}²",
            hint="Evaluate it with the study it was trained on, prepared at its resolution",
        )
    for mine in own.conditions:
        if mine.name in study.condition_names:
            _check_meaning(snapshot, mine, study.covariate(mine.name))
        elif mine.name == SOURCE:
            raise UsageError(
                "the model is told the source, the study is not",
                file=snapshot.header.path,
                hint="Give the study with condition_on_source = true",
            )


def _check_meaning(snapshot: Snapshot, mine: Covariate, theirs: Covariate) -> None:
    """Whether a covariate is the same in the model's study and in another."""
    if mine.name == SOURCE and mine.levels != theirs.levels:
        raise UsageError(
            "the model was trained on other sources",
            file=snapshot.header.path,
            found=", ".join(mine.levels),
            expected=", ".join(theirs.levels),
        )
    if not mine.compatible_with(theirs):
        raise UsageError(
            "means something else in the model's study",
            file=snapshot.header.path,
            field=mine.name,
            found=f"{mine.kind} {mine.unit} {list(mine.levels)}",
            expected=f"{theirs.kind} {theirs.unit} {list(theirs.levels)}",
        )
