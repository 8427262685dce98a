"""eval.json: what an evaluation found, one result a row, readable without torch.

`Evaluation.load` for whoever reads one (figures, the explorer, `mssg report`), `Evaluation.save` for whoever
writes one, and `Evaluation.add` for whoever has more to say about the same models. The schema is described in
docs/reference/eval.md.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mssg.errors import DataError, UsageError
from mssg.files import make_folder, parse_json, write_atomically

if TYPE_CHECKING:
    from mssg.measure.own_error import OwnError

FORMAT_VERSION = 2
"""Files of version 1 have the same form; the seeds behind their numbers drew other images."""
REAL = "real"
"""The label under which real images stand beside the models."""
ORACLE = "oracle-"
"""How the name of an instrument begins that is a program, not learned from images."""
AMOUNTS = ("value", "n", "n_real", "sd", "real_floor", "real_floor_n")
JOINT = "joint"
"""The source of a result over all sources together."""


@dataclass(frozen=True)
class Result:
    """One number and all that must stand beside it.

    Attributes:
        metric: Name, with the features' name where features made it ("kid-efficientnet_lite0"): numbers of
            different features differ in name and are never compared.
        value: The number; None where it is undefined.
        model: Label of the model, or `REAL`.
        n: Generated images behind it (real ones where the model is `REAL`).
        n_real: Real images behind it, if any.
        ci95: Bootstrap interval.
        sd: Standard deviation over subsets or splits, where the metric has one (KID, inception score).
        features: Name of the features.
        instrument: What read the covariates off the images: "oracle-…" or "predictor-…".
        source: A source's name, or `JOINT`.
        split: Split of the real images.
        stratum: None for all strata together; else covariate name -> [low, high] in native units, or a
            level's text.
        covariate: Which covariate it is about.
        unit: Unit of the value ("years²", "dB", ""), where it has one.
        reference: What the measured value was compared with: "requested", "real" (the prediction on the real
            image with the same covariates) or "label" (real images: the prediction against the table).
        design: Design of the requests (a key of `mssg.metrics.control.DESIGNS`).
        moved: Leakage: the covariate that was moved.
        real_floor: The same number between real images.
        real_floor_n: Images in each half of the floor.
        detail: More, specific to the metric.
    """

    metric: str
    value: float | None
    model: str
    n: int = 0
    n_real: int | None = None
    ci95: tuple[float, float] | None = None
    sd: float | None = None
    features: str | None = None
    instrument: str | None = None
    source: str = JOINT
    split: str = "test"
    stratum: Mapping[str, Any] | None = None
    covariate: str | None = None
    unit: str | None = None
    reference: str | None = None
    design: str | None = None
    moved: str | None = None
    real_floor: float | None = None
    real_floor_n: int | None = None
    detail: Mapping[str, Any] = field(default_factory=dict)

    @property
    def own(self) -> OwnError | None:
        """Its instrument's own error on real images; None where the file does not say it."""
        from mssg.measure.own_error import OwnError

        document = self.detail if self.metric.startswith("instrument/") else self.detail.get("own")
        return OwnError.from_json(document, self.covariate or "") if isinstance(document, Mapping) else None

    @property
    def doubtful(self) -> bool:
        """Whether its instrument is no better than guessing, so that the number says nothing. What older
        files do not say counts as no doubt; an oracle is doubted only where it was found out."""
        if self.own is None:
            return False
        return self.own.better is False or (self.own.better is None and not is_oracle(self.instrument))

    def to_json(self) -> dict[str, Any]:
        """The result as a JSON object; what does not apply is left out, what is undefined is null."""
        document = {k: v for k, v in asdict(self).items() if v is not None and v != {}}
        return {**plain(document), "value": plain(self.value)}


@dataclass(frozen=True)
class ModelRecord:
    """One evaluated snapshot.

    Attributes:
        label: How results and figures call it.
        snapshot: First 12 hexadecimal digits of the file's SHA-256.
        study: Name of the study it was trained on.
        kimg: Thousands of images seen in training.
        covariates: What its generator is told.
        trained_on: Names of the sources it was trained on.
        drawn: How its pictures were drawn, as options: "--psi 0.7 --noise none"; empty: untouched.
    """

    label: str
    snapshot: str
    study: str
    kimg: float
    covariates: tuple[str, ...] = ()
    trained_on: tuple[str, ...] = ()
    drawn: str = ""


@dataclass(frozen=True)
class Note:
    """What could not be computed, or is to be read with care.

    Attributes:
        about: A metric or a place.
        message: A sentence.
    """

    about: str
    message: str


@dataclass(frozen=True)
class Evaluation:
    """A whole eval.json.

    Attributes:
        study: Name of the study that gave the real images.
        split: Which split of them.
        seed: Of everything drawn.
        models: What was evaluated.
        results: The numbers.
        notes: What is missing or to be read with care.
        command: How to make it again.
        options: Sizes and choices behind the numbers.
        versions: Of the software.
        format_version: Of the file; it also says how seeds became images.
    """

    study: str
    split: str
    seed: int
    models: tuple[ModelRecord, ...]
    results: tuple[Result, ...]
    notes: tuple[Note, ...] = ()
    command: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)
    format_version: int = FORMAT_VERSION

    def find(self, **wanted: Any) -> tuple[Result, ...]:
        """Results whose fields equal what is asked; a metric ending in "-" stands for any features ("kid-").

        Raises:
            UsageError: No such field.
        """
        unknown = set(wanted) - {f.name for f in fields(Result)}
        if unknown:
            raise UsageError("not a field of a result", field=", ".join(sorted(unknown)))
        return tuple(r for r in self.results if all(_matches(r, k, v) for k, v in wanted.items()))

    def add(self, results: Iterable[Result], notes: Iterable[Note] = ()) -> Evaluation:
        """With more results and notes; a result that equals an old one in all but its numbers replaces it."""
        new = {_identity(r): r for r in results}
        kept = [r for r in self.results if _identity(r) not in new]
        return replace(
            self, results=(*kept, *new.values()), notes=tuple(dict.fromkeys((*self.notes, *notes)))
        )

    def check_goes_with(self, study: str, split: str, seed: int, models: Iterable[ModelRecord]) -> None:
        """Whether more results, of these, may stand in the same file.

        Raises:
            UsageError: They are of other real images or another seed, or one label would name two snapshots.
        """
        for name, mine, theirs in (
            ("study", self.study, study),
            ("split", self.split, split),
            ("seed", self.seed, seed),
        ):
            if mine != theirs:
                raise UsageError(
                    "the evaluation in this file is of another one",
                    field=name,
                    found=theirs,
                    expected=mine,
                    hint="Write to another file",
                )
        mine = {m.label: m.snapshot for m in self.models}
        for model in models:
            if mine.get(model.label, model.snapshot) != model.snapshot:
                raise UsageError(
                    "another snapshot has this label in the file already",
                    field=model.label,
                    found=model.snapshot,
                    expected=mine[model.label],
                    hint="Give it another LABEL=SNAPSHOT, or write to another file",
                )

    def extended(self, more: Evaluation) -> Evaluation:
        """This evaluation and a later one of the same data: its results replace those about the same.

        Raises:
            UsageError: See `check_goes_with`.
        """
        if self.format_version != more.format_version:
            raise UsageError(
                "the evaluation in this file drew its images in another way",
                field="format_version",
                found=self.format_version,
                expected=more.format_version,
                hint="Write to another file",
            )
        self.check_goes_with(more.study, more.split, more.seed, more.models)
        models = {m.label: m for m in (*self.models, *more.models)}
        metrics = dict.fromkeys((*self.options.get("metrics", ()), *more.options.get("metrics", ())))
        newer = {k: v for k, v in more.options.items() if v is not None}
        return replace(
            self.add(more.results, more.notes),
            models=tuple(models.values()),
            versions=more.versions,
            command="\n".join(dict.fromkeys((*self.command.split("\n"), more.command))),
            options={**self.options, **newer, "metrics": list(metrics)},
        )

    def to_json(self) -> dict[str, Any]:
        """The JSON document."""
        head = ("format_version", "study", "split", "seed", "command", "options", "versions")
        document = {name: getattr(self, name) for name in head}
        return plain(
            document
            | {"models": [asdict(m) for m in self.models], "notes": [asdict(n) for n in self.notes]}
            | {"results": [r.to_json() for r in self.results]}
        )

    def save(self, path: str | Path) -> Path:
        """Write it, one result a line; an old file is replaced at once or not at all.

        Raises:
            DataError: It cannot be written.
        """
        path, document = Path(path), self.to_json()
        results = ",\n".join("  " + json.dumps(r, ensure_ascii=False) for r in document.pop("results"))
        head = json.dumps(document, indent=1, ensure_ascii=False)[: -len("\n}")]
        make_folder(path.parent, DataError)
        write_atomically(path, f'{head},\n "results": [\n{results}\n ]\n}}\n', DataError)
        return path

    @staticmethod
    def load(path: str | Path) -> Evaluation:
        """Read an eval.json.

        Raises:
            DataError: Missing, damaged, or of an unknown format version.
        """
        try:
            document = parse_json(Path(path).read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise DataError("no such file", file=path, hint="Make it with `mssg evaluate`") from None
        except (OSError, ValueError) as error:
            raise DataError(f"cannot be read as JSON: {error}", file=path) from None
        version = document.get("format_version") if isinstance(document, dict) else None
        if version not in (1, FORMAT_VERSION):
            raise DataError(
                "not an evaluation of this format version",
                file=path,
                field="format_version",
                found=version,
                expected=f"1 or {FORMAT_VERSION}",
                hint="Make it again with `mssg evaluate`",
            )
        try:
            models = tuple(_model_record(m) for m in document.pop("models"))
            notes = tuple(Note(**n) for n in document.pop("notes"))
            results = tuple(_result(r) for r in document.pop("results"))
            return Evaluation(models=models, notes=notes, results=results, **document)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise DataError("damaged: a part is missing or of a wrong kind", file=path, found=error) from None


def plain(value: Any) -> Any:
    """What JSON can hold: no NaN or infinity (null instead), no NumPy numbers, no tuples."""
    if isinstance(value, Mapping):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [plain(v) for v in value]
    if hasattr(value, "tolist"):
        return plain(value.tolist())
    return None if isinstance(value, float) and not math.isfinite(value) else value


def is_oracle(instrument: str | None) -> bool:
    """Whether an instrument's name is an oracle's."""
    return (instrument or "").startswith(ORACLE)


def _matches(result: Result, name: str, wanted: Any) -> bool:
    value = getattr(result, name)
    return value.startswith(wanted) if name == "metric" and wanted.endswith("-") else value == wanted


def _identity(result: Result) -> str:
    """What a result is about, without what was found."""
    found = ("value", "n", "n_real", "ci95", "sd", "real_floor", "real_floor_n", "detail", "unit")
    return json.dumps({k: v for k, v in asdict(result).items() if k not in found}, sort_keys=True)


def _model_record(document: Mapping[str, Any]) -> ModelRecord:
    facts: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in document.items()}
    return ModelRecord(**facts)


def _result(document: Mapping[str, Any]) -> Result:
    """A result from its JSON object.

    Raises:
        TypeError, ValueError: A part is missing, unknown or of a wrong kind.
    """
    interval = document.get("ci95")
    if interval is not None:
        low, high = interval
        document = {**document, "ci95": (low, high)}
    result = Result(**document)
    amounts = {name: getattr(result, name) for name in AMOUNTS} | dict.fromkeys(("low", "high"))
    amounts |= dict(zip(("low", "high"), result.ci95 or ()))
    for name, value in amounts.items():
        if value is not None and (isinstance(value, bool) or not isinstance(value, int | float)):
            raise TypeError(f"{name} is no number: {value!r}")
    for name in ("metric", "model", "source", "split"):
        if not isinstance(getattr(result, name), str):
            raise TypeError(f"{name} is no text: {getattr(result, name)!r}")
    if not isinstance(result.detail, Mapping) or not isinstance(result.stratum, Mapping | None):
        raise TypeError("detail and stratum must be objects")
    for bin in result.detail.get("readings", ()):
        parts = [*(bin[name] for name in ("requested", "measured", "low", "high")), *bin["ci95"]]
        if len(parts) != 6 or any(isinstance(x, bool) or not isinstance(x, int | float) for x in parts):
            raise TypeError(f"readings hold no numbers: {parts}")
    return result
