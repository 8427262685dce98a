"""The study's document form: TOML and JSON in and out, with errors that name file, table and key."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from mssg.errors import StudyError
from mssg.files import parse_toml
from mssg.study.model import (
    KINDS,
    PLANES,
    SCALES,
    SOURCE,
    SPACES,
    TRANSFORMS,
    Covariate,
    Geometry,
    ModelSpec,
    Source,
    Study,
    name_problem,
)
from mssg.study.toml_table import TomlTable


def read_study(path: str | Path) -> Study:
    """Read a study TOML; `mssg.load_study` reads it and checks its [train], [augment] and [measure] as well.

    Raises:
        StudyError: The file is missing, not TOML, or says something that cannot be; the message names table
            and key.
    """
    path = Path(path)
    try:
        document = parse_toml(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        raise StudyError("no such file", file=path, hint="Give the path of a study TOML") from None
    except IsADirectoryError:
        raise StudyError("this is a folder", file=path, expected="a study TOML") from None
    except OSError as error:
        raise StudyError(f"cannot be read: {error.strerror}", file=path) from None
    except ValueError as error:
        raise StudyError(f"not valid TOML: {error}", file=path, hint="Correct the line named") from None
    return replace(from_document(document, str(path)), path=str(path))


def covariate_of(name: str, document: Any, file: str | None) -> Covariate:
    """The covariate of a table [covariates.NAME].

    Raises:
        StudyError: Naming file, table and key.
    """
    table = TomlTable(document, f"covariates.{name}", file)
    if problem := name_problem(name):
        raise table.error("", f"the name is {problem}", found=repr(name), hint="Rename the covariate")
    kind = table.get("kind", "text", choices=KINDS)
    values: dict[str, Any] = {"name": name, "kind": kind}
    if kind == "continuous":
        values["unit"] = table.get("unit", "any text", "")
        values["transform"] = table.get("transform", "text", "identity", TRANSFORMS)
        values["shift"] = float(table.get("shift", "number", 0.0))
        values["scale"] = table.get("scale", "text", "zscore", SCALES)
        values["offset"], values["spread"] = (
            table.get("offset", "number", None),
            table.get("spread", "positive", None),
        )
        if values["shift"] and values["transform"] != "log":
            raise table.error(
                "shift",
                "has no meaning without a log transform",
                found=values["shift"],
                hint='Add transform = "log" or remove shift',
            )
    else:
        levels = table.get("levels", "texts", *([[]] if kind == "binary" else []))
        if kind == "binary" and len(levels) not in (0, 2):
            raise table.error("levels", "needs two levels, or none", found=levels)
        if (levels and len(levels) < 2) or len(set(levels)) != len(levels):
            raise table.error("levels", "needs two or more levels, each once", found=levels)
        values["levels"] = tuple(levels)
    values["loss_weight"] = float(table.get("loss_weight", "not negative", 1.0))
    values["loss_group"] = table.get("loss_group", "any text", "")
    values["lateralised"] = table.get("lateralised", "flag", False)
    table.finish()
    return Covariate(**values)


def _sources(documents: Any, covariates: tuple[Covariate, ...], file: str | None) -> tuple[Source, ...]:
    if not isinstance(documents, list) or not documents:
        raise StudyError(
            "no source declared",
            file=file,
            field="sources",
            hint="Add a [[sources]] table with name, path and observes",
        )
    names = [c.name for c in covariates]
    sources: list[Source] = []
    for number, document in enumerate(documents, 1):
        table = TomlTable(document, f"sources[{number}]", file)
        source = Source(
            table.get("name", "text"),
            table.get("path", "text"),
            tuple(table.get("observes", "texts")),
            float(table.get("weight", "positive", 1.0)),
        )
        table.finish()
        if source.name in [s.name for s in sources]:
            raise table.error(
                "name",
                "another source has this name already",
                found=repr(source.name),
                hint="Give each source its own name",
            )
        _check_observed(table, source, names)
        sources.append(source)
    for name in names:
        if not any(name in s.observes for s in sources):
            raise StudyError(
                "no source observes this covariate",
                file=file,
                field=f"covariates.{name}",
                hint="Add it to a source's observes or remove it",
            )
    return tuple(sources)


def _check_observed(table: TomlTable, source: Source, names: Sequence[str]) -> None:
    if not source.observes:
        raise table.error("observes", "the source observes nothing", hint="List at least one covariate")
    for name in source.observes:
        if name not in names:
            near = difflib.get_close_matches(name, names, 1)
            raise table.error(
                "observes",
                f"source {source.name!r} observes a covariate the study does not declare",
                found=repr(name),
                expected=" | ".join(names),
                hint=f"Did you mean {near[0]!r}?"
                if near
                else f"Add a [covariates.{name}] table or remove it here",
            )
    if len(set(source.observes)) != len(source.observes):
        raise table.error("observes", "names a covariate twice", found=list(source.observes))


def _models(document: Any, covariates: tuple[Covariate, ...], file: str | None) -> dict[str, ModelSpec]:
    names = [c.name for c in covariates] + [SOURCE]
    models = {}
    for name, entry in TomlTable(document, "model", file).rest().items():
        table = TomlTable(entry, f"model.{name}", file)
        if name not in names and name != "joint":
            raise table.error(
                "",
                "models a covariate the study does not declare",
                found=repr(name),
                expected=" | ".join(names[:-1]),
            )
        spec = ModelSpec(
            name,
            tuple(table.get("given", "texts", [])),
            table.get("family", "any text", ""),
            table.get("components", "count", None),
            table.rest(),
        )
        for parent in spec.given:
            if parent not in names or parent == name:
                raise table.error(
                    "given",
                    "not another covariate of the study",
                    found=repr(parent),
                    expected=" | ".join(n for n in names if n != name),
                )
        models[name] = spec
    return models


def _geometry(document: Any, file: str | None) -> Geometry | None:
    table = TomlTable(document, "geometry", file)
    if not table.rest():
        return None
    centre = table.get("centre_mm", "pair", [0.0, 0.0])
    geometry = Geometry(
        table.get("plane", "text", choices=PLANES),
        float(table.get("pixel_mm", "positive")),
        table.get("affine", "text", "none", ("common", "none")),
        table.get("position_mm", "number", None),
        (float(centre[0]), float(centre[1])),
        table.get("space", "any text", "", SPACES),
    )
    table.finish()
    if geometry.affine == "common" and geometry.position_mm is None:
        raise table.error(
            "position_mm",
            'is missing although affine = "common"',
            hint='State the slice position, or write affine = "none"',
        )
    return geometry


def from_document(document: Mapping[str, Any], file: str | None = None) -> Study:
    """The study of a parsed TOML or JSON document. [train], [augment] and [measure] are kept as they stand.

    Raises:
        StudyError: Naming file, table, key, what was found and what was expected.
    """
    top = TomlTable(document, "", file)
    name = top.get("name", "text")
    image = TomlTable(top.table("image"), "image", file)
    resolution, channels = image.get("resolution", "count"), image.get("channels", "count", 1)
    image.finish()
    if resolution & (resolution - 1) or not 32 <= resolution <= 1024:
        raise image.error(
            "resolution",
            "not a supported image size",
            found=resolution,
            expected="a power of two from 32 to 1024",
        )
    if channels not in (1, 3):
        raise image.error("channels", "not a supported number of channels", found=channels, expected="1 or 3")
    tables = TomlTable(top.table("covariates"), "covariates", file).rest()
    if not tables:
        raise StudyError(
            "no covariate declared", file=file, field="covariates", hint="Add a [covariates.NAME] table"
        )
    covariates = tuple(covariate_of(key, entry, file) for key, entry in tables.items())
    sources = _sources(top.table("sources"), covariates, file)
    train = TomlTable(top.table("train"), "train", file)
    conditional = train.get("condition_on_source", "flag", False)
    if conditional and len(sources) < 2:
        raise train.error(
            "condition_on_source",
            "needs two or more sources",
            found=f"{len(sources)} source",
            hint="Remove it",
        )
    augment = TomlTable(top.table("augment"), "augment", file)
    allow = tuple(augment.get("allow", "texts", []))
    augment.finish()
    measure = TomlTable(top.table("measure"), "measure", file)
    instrument = measure.get("instrument", "any text", "")
    measure.finish()
    models, geometry = _models(top.table("model"), covariates, file), _geometry(top.table("geometry"), file)
    top.finish()
    return Study(
        name=name,
        resolution=resolution,
        channels=channels,
        covariates=covariates,
        sources=sources,
        geometry=geometry,
        models=models,
        condition_on_source=conditional,
        train=train.rest(),
        augment_allow=allow,
        instrument=instrument,
    )


def _covariate_document(covariate: Covariate) -> dict[str, Any]:
    default = Covariate(covariate.name, covariate.kind)
    out: dict[str, Any] = {"kind": covariate.kind}
    for key in (
        "unit",
        "levels",
        "transform",
        "shift",
        "scale",
        "loss_weight",
        "loss_group",
        "lateralised",
        "offset",
        "spread",
    ):
        value = getattr(covariate, key)
        if value != getattr(default, key):
            out[key] = list(value) if key == "levels" else value
    return out


def to_document(study: Study) -> dict[str, Any]:
    """The study as plain dicts and lists, fitted statistics included; `from_document` reads it back."""
    out: dict[str, Any] = {
        "name": study.name,
        "image": {"resolution": study.resolution, "channels": study.channels},
    }
    if study.geometry:
        out["geometry"] = {k: v for k, v in vars(study.geometry).items() if v not in (None, "")}
        out["geometry"]["centre_mm"] = list(study.geometry.centre_mm)
    out["covariates"] = {c.name: _covariate_document(c) for c in study.covariates}
    out["sources"] = [
        {"name": s.name, "path": s.path, "observes": list(s.observes), "weight": s.weight}
        for s in study.sources
    ]
    models = {}
    for spec in study.models.values():
        entry: dict[str, Any] = {"given": list(spec.given)} if spec.given else {}
        entry |= {"family": spec.family} if spec.family else {}
        entry |= {"components": spec.components} if spec.components else {}
        models[spec.name] = entry | dict(spec.options)
    if models:
        out["model"] = models
    train = dict(study.train) | ({"condition_on_source": True} if study.condition_on_source else {})
    if train:
        out["train"] = train
    if study.instrument:
        out["measure"] = {"instrument": study.instrument}
    if study.augment_allow:
        out["augment"] = {"allow": list(study.augment_allow)}
    return out


def to_toml(study: Study) -> str:
    """The study as TOML text, without fitted statistics."""
    import tomli_w

    document = to_document(study)
    for entry in document["covariates"].values():
        entry.pop("offset", None)
        entry.pop("spread", None)
    return tomli_w.dumps(document)
