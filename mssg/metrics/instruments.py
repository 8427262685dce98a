"""What reads covariates off images: the study's oracle, where there is one, and predictors for the rest."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from mssg import assets
from mssg.data.dataset import file_hash
from mssg.errors import DataError, UsageError
from mssg.measure.instruments import instrument
from mssg.measure.own_error import BETTER, UNKNOWN, WORSE, OwnError
from mssg.metrics.results import ORACLE, Note, is_oracle
from mssg.metrics.sampling import Reader
from mssg.study.model import Study


@dataclass(frozen=True)
class Instruments:
    """What reads covariates off images: the study's oracle where there is one, predictors for the rest.

    Attributes:
        readers: To be run over images.
        by_covariate: Covariate -> name of its instrument.
        stated: Covariate -> own error on real images that a predictor's file states.
    """

    readers: tuple[Reader, ...]
    by_covariate: dict[str, str]
    stated: dict[str, OwnError] = field(default_factory=dict)

    def trusted(self, name: str, own: OwnError | None) -> bool:
        """Whether a covariate's readings say anything: its instrument is better than guessing, or an oracle
        that nobody knows to be no better."""
        better = own.better if own else None
        return is_oracle(self.by_covariate[name]) if better is None else better

    def worth(self, name: str, own: OwnError) -> dict[str, Any]:
        """What stands in a row of stats.jsonl beside a covariate's numbers (`mssg.runs.rows`)."""
        known = WORSE if own.better is False else f"{UNKNOWN} to be {BETTER}"
        doubt = "" if self.trusted(name, own) else known
        return {"name": self.by_covariate[name], "words": own.brief(), "doubt": doubt, "own": own.to_json()}

    def measure(self, images: np.ndarray) -> dict[str, np.ndarray]:
        """All covariates that can be read: name -> native values [N]."""
        found: dict[str, np.ndarray] = {}
        for reader in self.readers:
            found |= reader.read(images, slice(0, len(images)))
        return found


def open_instruments(
    study: Study, predictors: Sequence[str | Path] = (), device: str = "cpu"
) -> tuple[Instruments, list[Note]]:
    """The instruments of a study.

    Args:
        study: Names its oracle, if it has one.
        predictors: Files of `mssg predictors`, or snapshots, whose discriminators read; the first that reads
            a covariate is used for it.
    """
    readers: list[Reader] = []
    by: dict[str, str] = {}
    stated: dict[str, OwnError] = {}
    if study.instrument:
        reader, by = _oracle(study, study.instrument)
        readers.append(reader)
    for path in predictors:
        reader, found, errors = _predictor(study, path, device, by)
        readers += [reader] if found else []
        by |= found
        stated |= errors
    missing = (
        "nothing reads this covariate off an image: no score of it (give a --predictor of `mssg predictors`)"
    )
    notes = [Note(c.name, missing) for c in study.personal if c.name not in by]
    return Instruments(tuple(readers), by, stated), notes


def _oracle(study: Study, named: str) -> tuple[Reader, dict[str, str]]:
    """The oracle's reader, and covariate -> its name."""
    oracle = instrument(named)
    names = tuple(n for n in study.condition_names if n in oracle.COVARIATES)
    for name in names:
        unit = study.covariate(name).unit
        if unit and oracle.UNITS.get(name, unit) != unit:
            raise UsageError(
                "the study's unit is not the instrument's",
                file=study.path,
                field=f"covariates.{name}.unit",
                found=unit,
                expected=oracle.UNITS[name],
            )
    title = ORACLE + named
    reader = Reader(f"{title}:{_version(oracle)}", _reading(oracle.measure, names))
    return reader, dict.fromkeys(names, title)


def _predictor(
    study: Study, path: str | Path, device: str, taken: dict[str, str]
) -> tuple[Reader, dict[str, str], dict[str, OwnError]]:
    """A predictor's reader of what is not read yet, covariate -> its name, and its own errors; a snapshot is
    read by its discriminator's heads."""
    from mssg.checkpoint.snapshot import load_snapshot
    from mssg.features.heads import DiscriminatorHeads, is_snapshot
    from mssg.features.predictors import Predictor

    predictor: Predictor | DiscriminatorHeads
    if is_snapshot(path):
        predictor = DiscriminatorHeads.of(load_snapshot(path, device))
        identity, stated = predictor.identity, ()
    else:
        predictor = Predictor.load(path, device)
        identity = f"predictor-{predictor.architecture}@{file_hash(Path(path))[:8]}"
        stated = predictor.errors
    own = predictor.study
    if (own.resolution, own.channels) != (study.resolution, study.channels):
        raise DataError(
            "the predictor is for other images",
            file=path,
            found=f"{own.channels} x {own.resolution}²",
            expected=f"{study.channels} x {study.resolution}²",
        )
    names = []
    for covariate in own.covariates:
        if covariate.name in taken or covariate.name not in study.condition_names:
            continue
        theirs = study.covariate(covariate.name)
        if not covariate.compatible_with(theirs):
            raise DataError(
                "the predictor's covariate means something else",
                file=path,
                field=covariate.name,
                found=f"{covariate.kind} {covariate.unit} {list(covariate.levels)}",
                expected=f"{theirs.kind} {theirs.unit} {list(theirs.levels)}",
            )
        names.append(covariate.name)
    reader = Reader(f"{identity}:{','.join(names)}", _reading(predictor.measure, tuple(names)))
    errors = {own.covariate: own for own in stated if own.covariate in names}
    return reader, dict.fromkeys(names, identity), errors


def _reading(
    measure: Callable[[np.ndarray], dict[str, np.ndarray]], names: tuple[str, ...]
) -> Callable[[np.ndarray, slice], dict[str, np.ndarray]]:
    """What `Reader` wants: only these covariates, as float64."""

    def read(images: np.ndarray, rows: slice) -> dict[str, np.ndarray]:
        found = measure(images)
        return {name: np.asarray(found[name], np.float64) for name in names}

    return read


def _version(module: ModuleType) -> str:
    """A hash of an oracle's source and calibration: readings of another version are not reused."""
    digest = hashlib.sha256(Path(str(module.__file__)).read_bytes())
    calibration = getattr(module, "CALIBRATION", None)
    if calibration:
        digest.update(assets.path(calibration).read_bytes())
    return digest.hexdigest()[:8]
