"""Who is evaluated against what: the real images of a split with all that is known of them, and the models
side by side."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from mssg.checkpoint.snapshot import Snapshot
from mssg.covariates.system import CovariateModels, fit_models
from mssg.data.dataset import PackedSource, open_sources
from mssg.errors import DataError, UsageError
from mssg.metrics.results import JOINT, REAL, Model, Note
from mssg.metrics.sampling import Generate, Reader, batch_for, generator_of
from mssg.study.model import SOURCE, Study


@dataclass(frozen=True)
class Frame:
    """The real images of one split.

    Attributes:
        study: Where they come from; its statistics are fitted.
        split: Which split.
        sources: The opened sources.
        models: Covariate models of all its covariates: where requests are drawn from.
        values: Native values [N, V], NaN where unknown; the truth that training did not see included.
        observed: Native values [N, V] of what the sources record for training.
        source: Index of each image's source [N].
        rows: Its row in that source [N].
    """

    study: Study
    split: str
    sources: tuple[PackedSource, ...]
    models: CovariateModels
    values: np.ndarray
    observed: np.ndarray
    source: np.ndarray
    rows: np.ndarray

    def __len__(self) -> int:
        return len(self.rows)

    def images(self, which: np.ndarray | slice) -> np.ndarray:
        """Real images of rows: uint8 [n, C, H, W]."""
        source, rows = self.source[which], self.rows[which]
        out = np.empty((len(rows), *self.sources[0].images.shape[1:]), np.uint8)
        for index, packed in enumerate(self.sources):
            mine = np.flatnonzero(source == index)
            if mine.size:
                order = np.argsort(rows[mine], kind="stable")  # ascending: the file is read forwards
                out[mine[order]] = packed.images[rows[mine[order]]]
        return out

    def of(self, source: str) -> np.ndarray:
        """Positions of a source's images; all for `JOINT`."""
        if source == JOINT:
            return np.arange(len(self))
        names = [s.name for s in self.study.sources]
        return np.flatnonzero(self.source == names.index(source))

    @property
    def parts(self) -> tuple[str, ...]:
        """Every source that has images here, and all together."""
        names = [s.name for i, s in enumerate(self.study.sources) if (self.source == i).any()]
        return (*names, JOINT) if len(names) > 1 else (JOINT,)

    def known(self, rows: np.ndarray | None = None) -> tuple[str, ...]:
        """Covariates of which every one of these images has a value."""
        values = self.values if rows is None else self.values[rows]
        complete = np.logical_and.reduce(np.isfinite(values))
        return tuple(n for n, ok in zip(self.study.condition_names, complete) if ok and n != SOURCE)

    def requests(self, seed: int) -> np.ndarray:
        """Native values [N, V] with what is unknown drawn from the covariate models."""
        return self.models.complete(self.values, np.random.default_rng([seed, 7]))


def open_frame(study: Study, split: str, snapshots: Sequence[Snapshot] = ()) -> tuple[Frame, list[Note]]:
    """Open the real images of a split.

    Args:
        study: A study read from its TOML.
        split: "train", "val" or "test".
        snapshots: Their covariate models are used where one knows exactly this study's covariates; else
            models are fitted.

    Raises:
        DataError: The sources cannot be read, or the split has no image.
    """
    sources = open_sources(study)
    notes: list[Note] = []
    parts = [(i, s, s.rows(split)) for i, s in enumerate(sources)]
    for _, packed, rows in parts:
        if not len(rows):
            notes.append(Note(packed.name, f"the source has no image in the {split} split"))
        elif len(set(packed.subjects[rows])) < 2:
            notes.append(
                Note(
                    packed.name,
                    f"all images of the {split} split are of one subject: no interval or floor can be"
                    " trusted",
                )
            )
    if not any(len(rows) for *_, rows in parts):
        raise DataError(
            "no image in this split",
            file=sources[0].path,
            field="split",
            found=split,
            hint="Prepare the data with a larger share for it, or choose another --split",
        )
    observed = np.concatenate([p.values[rows] for _, p, rows in parts])
    values = np.concatenate([_truth(study, p, rows, notes) for _, p, rows in parts])
    for v, name in enumerate(study.condition_names):
        if not np.isfinite(values[:, v]).any():
            notes.append(
                Note(
                    name,
                    f"no image of the {split} split has a value of this covariate: it is requested from the"
                    " covariate model and only compared with what was requested",
                )
            )
    names = study.condition_names
    own = next(
        (s.models for s in snapshots if s.study.condition_names == names and _same(s.study, study)), None
    )
    models = own or fit_models(study, [s.columns(study, "train") for s in sources])
    fitted = replace(study, covariates=models.study.covariates)
    source = np.concatenate([np.full(len(rows), i) for i, _, rows in parts])
    return (
        Frame(
            fitted, split, sources, models, values, observed, source, np.concatenate([r for *_, r in parts])
        ),
        notes,
    )


def _truth(study: Study, packed: PackedSource, rows: np.ndarray, notes: list[Note]) -> np.ndarray:
    """Values of rows, completed from the columns a table keeps beside what the source observes."""
    values = packed.values[rows].copy()
    for v, covariate in enumerate(study.conditions):
        if packed.observed[v] or covariate.name not in packed.table:
            continue
        column = np.asarray(packed.table[covariate.name])[rows]
        try:
            values[:, v] = [covariate.parse(str(cell)) for cell in column]
        except UsageError as error:
            notes.append(Note(f"{packed.name}, {covariate.name}", f"the table's column is not used: {error}"))
    return values


def _same(a: Study, b: Study) -> bool:
    """Whether covariates mean the same in both studies."""
    return all(
        x.compatible_with(y) and (x.transform, x.shift) == (y.transform, y.shift)
        for x, y in zip(a.conditions, b.conditions)
    )


@dataclass(frozen=True)
class Contender:
    """One model that is evaluated.

    Attributes:
        model: What results say about it.
        snapshot: Where its networks are.
        generate: (values [N, V] of the frame's study, seed) -> uint8 images; what the frame does not know is
            drawn from the model's own covariate models, and what the model does not take is left out.
        identity: What decides its images besides values and seed.
    """

    model: Model
    snapshot: Snapshot
    generate: Generate
    identity: tuple[str, ...]


def contender(
    label: str, snapshot: Snapshot, study: Study, memory_gb: float = 4.0, blind: Sequence[str] = ()
) -> Contender:
    """A snapshot, made to answer the requests of a study.

    Args:
        label: How results call it.
        snapshot: The model.
        study: Of the frame.
        memory_gb: What its generator may take.
        blind: Covariates it is not told, but draws from its own covariate models: what a model scores that
            knows the others and ignores these. An error says little beside anything but that.

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
    if label == REAL:
        raise UsageError("this label stands for real images", field=label, hint="Choose another label")
    for mine in own.conditions:
        if mine.name not in study.condition_names:
            if mine.name == SOURCE:
                raise UsageError(
                    "the model is told the source, the study is not",
                    file=snapshot.header.path,
                    hint="Give the study with condition_on_source = true",
                )
            continue
        theirs = study.covariate(mine.name)
        if mine.name != SOURCE and not mine.compatible_with(theirs):
            raise UsageError(
                "means something else in the model's study",
                file=snapshot.header.path,
                field=mine.name,
                found=f"{mine.kind} {mine.unit} {list(mine.levels)}",
                expected=f"{theirs.kind} {theirs.unit} {list(theirs.levels)}",
            )
        if mine.name == SOURCE and mine.levels != theirs.levels:
            raise UsageError(
                "the model was trained on other sources",
                file=snapshot.header.path,
                found=", ".join(mine.levels),
                expected=", ".join(theirs.levels),
            )
    for name in blind:
        own.index(name)
    batch = batch_for(own.resolution, memory_gb)
    taken = [
        (j, study.index(name))
        for j, name in enumerate(own.condition_names)
        if name in study.condition_names and name not in blind
    ]
    if not taken and not blind:
        raise UsageError(
            "the model is told nothing that this study records",
            file=snapshot.header.path,
            found=", ".join(own.condition_names),
            expected=", ".join(study.condition_names),
            hint="Evaluate it with the study it was trained on",
        )
    told = tuple(n for n in own.condition_names if n not in blind)
    kimg = float(snapshot.header.progress.get("kimg", 0))
    model = Model(
        label, snapshot.header.snapshot_id, own.name, kimg, told, tuple(s.name for s in own.sources)
    )

    def generate(values: np.ndarray, seed: int) -> np.ndarray:
        requested = np.full((len(values), len(own.condition_names)), np.nan)
        for mine, theirs in taken:
            requested[:, mine] = values[:, theirs]
        if np.isnan(requested).any():
            requested = snapshot.models.complete(requested, np.random.default_rng([seed, 1]))
        return generator_of(snapshot.G, own, snapshot.device, batch)(requested, seed)

    return Contender(model, snapshot, generate, (model.snapshot, snapshot.device, str(batch), *blind))


@dataclass(frozen=True)
class Instruments:
    """What reads covariates off images: the study's oracle where there is one, predictors for the rest.

    Attributes:
        readers: To be run over images.
        by_covariate: Covariate -> name of its instrument.
    """

    readers: tuple[Reader, ...]
    by_covariate: dict[str, str]

    def measure(self, images: np.ndarray) -> dict[str, np.ndarray]:
        """All covariates that can be read: name -> native values [N]."""
        found: dict[str, np.ndarray] = {}
        for reader in self.readers:
            found |= reader.read(images, slice(0, len(images)))
        return found


def instruments(
    study: Study, predictors: Sequence[str | Path] = (), device: str = "cpu"
) -> tuple[Instruments, list[Note]]:
    """The instruments of a study.

    Args:
        study: Names its oracle, if it has one.
        predictors: Files of `mssg predictors`; the first that reads a covariate is used for it.
        device: Where predictors run.
    """
    from mssg.measure.instruments import instrument

    readers: list[Reader] = []
    by: dict[str, str] = {}
    if study.instrument:
        oracle = instrument(study.instrument)
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
        name = f"oracle-{study.instrument}"
        by |= dict.fromkeys(names, name)
        readers.append(Reader(f"{name}:{_version(oracle)}", _reading(oracle.measure, names)))
    for path in predictors:
        reader, found = _predictor(study, path, device, by)
        readers += [reader] if found else []
        by |= found
    missing = [c.name for c in study.covariates if c.name not in by]
    notes = [
        Note(
            name,
            "nothing reads this covariate off an image: no score of it (give a --predictor of `mssg"
            " predictors`)",
        )
        for name in missing
    ]
    return Instruments(tuple(readers), by), notes


def _predictor(
    study: Study, path: str | Path, device: str, taken: dict[str, str]
) -> tuple[Reader, dict[str, str]]:
    """A predictor's reader of what is not read yet."""
    from mssg.data.dataset import file_hash
    from mssg.features.predictors import Predictor

    predictor = Predictor.load(path, device)
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
    identity = f"predictor-{predictor.architecture}@{file_hash(Path(path))[:8]}"
    return Reader(f"{identity}:{','.join(names)}", _reading(predictor.measure, tuple(names))), dict.fromkeys(
        names, identity
    )


def _reading(measure: Callable[[np.ndarray], dict[str, np.ndarray]], names: tuple[str, ...]):
    def read(images: np.ndarray, rows: slice) -> dict[str, np.ndarray]:
        found = measure(images)
        return {name: np.asarray(found[name], np.float64) for name in names}

    return read


def _version(module: object) -> str:
    """A hash of an oracle's source and calibration: readings of another version are not reused."""
    import hashlib

    from mssg import assets

    digest = hashlib.sha256(Path(str(module.__file__)).read_bytes())  # type: ignore[attr-defined]
    calibration = getattr(module, "CALIBRATION", None)
    if calibration:
        digest.update(assets.path(calibration).read_bytes())
    return digest.hexdigest()[:8]
