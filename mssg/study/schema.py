"""The study's document form: TOML and JSON in and out, with errors that name file, table and key."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from mssg.errors import StudyError
from mssg.measure.instruments import INSTRUMENTS
from mssg.study.cells import did_you_mean, meant
from mssg.study.covariate import KINDS, SCALES, SOURCE, TRANSFORMS, Covariate, name_problem
from mssg.study.model import AXES, SPACES, Geometry, ModelSpec, Photograph, Source, Study
from mssg.study.toml_table import TomlTable, read_toml
from mssg.study.train_config import AUGMENTATIONS, checked

POSITION_WEIGHT = 3.0
"""Of a slice's position in the covariate loss, in a group of its own: with less, z chooses the place."""
ABOUT = ("licence", "data")
"""What a study may state of itself: the licence of its models, and what its images are."""


def load_study(path: str | Path) -> Study:
    """Read a study TOML and check all of it, so that a mistake shows before any work starts.

    Raises:
        StudyError: The file is missing, not TOML, or says something that cannot be; the message names table
            and key.
    """
    path = Path(path)
    return replace(from_document(read_toml(path), str(path), is_whole=True), path=str(path))


def covariate_of(name: str, document: Any, file: str | None, position: str | None = None) -> Covariate:
    """The covariate of a table [covariates.NAME]; `position` names the one that says where the plane cuts.

    Raises:
        StudyError: Naming file, table and key.
    """
    table = TomlTable(document, f"covariates.{name}", file)
    if problem := name_problem(name, position):
        hint = "Rename the covariate"
        if name == "position_mm":
            hint += ', or, if it says where slices lie, write position = "position_mm" under [geometry]'
        raise table.error("", f"the name is {problem}", found=repr(name), hint=hint)
    kind = table.get("kind", "text", choices=KINDS)
    values: dict[str, Any] = {"name": name, "kind": kind}
    if KINDS[kind].is_continuous:
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
        usual = KINDS[kind].level_names
        levels = table.get("levels", "texts", *([[]] if usual else []))
        if usual and len(levels) not in (0, len(usual)):
            raise table.error("levels", "needs two levels, or none", found=levels)
        if (levels and len(levels) < 2) or len(set(map(meant, levels))) != len(levels):
            raise table.error("levels", "needs two or more levels, each once", found=levels)
        values["levels"] = tuple(levels)
    weight, group = (POSITION_WEIGHT, name) if name == position else (1.0, "")
    values["loss_weight"] = float(table.get("loss_weight", "not negative", weight))
    values["loss_group"] = table.get("loss_group", "any text", group)
    values["lateralised"] = table.get("lateralised", "flag", False)
    table.finish()
    if name == position:
        _check_position(table, values)
    return Covariate(**values)


def _check_position(table: TomlTable, values: dict[str, Any]) -> None:
    """Hold the covariate of the slice's position to millimetres as they stand."""
    wanted = {"kind": "continuous", "unit": "mm", "transform": "identity", "lateralised": False}
    values["unit"] = values.get("unit") or "mm"
    for key, value in wanted.items():
        if values.get(key, value) != value:
            hint = "[geometry] position says where the plane cuts, in millimetres"
            raise table.error(
                key, "does not fit a position", found=repr(values[key]), expected=repr(value), hint=hint
            )


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
            share=float(table.get("share", "share", 1.0)),
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
            raise table.error(
                "observes",
                f"source {source.name!r} observes a covariate the study does not declare",
                found=repr(name),
                expected=" | ".join(names),
                hint=did_you_mean(name, names) or f"Add a [covariates.{name}] table or remove it here",
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
            options=table.rest(),
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
        plane=table.get("plane", "text", choices=AXES),
        pixel_mm=float(table.get("pixel_mm", "positive")),
        affine=table.get("affine", "text", "none", ("common", "none")),
        position_mm=table.get("position_mm", "number", None),
        centre_mm=(float(centre[0]), float(centre[1])),
        space=table.get("space", "any text", "", SPACES),
        position=table.get("position", "text", None),
        mirrored=table.get("mirrored", "flag", False),
    )
    table.finish()
    if geometry.mirrored and geometry.plane == "sagittal":
        raise table.error("mirrored", "a sagittal picture has neither left nor right", found="true")
    if geometry.position and geometry.affine != "common":
        hint = 'Millimetres need a space that all images share: affine = "common"'
        raise table.error("position", "has no meaning", found=f'affine = "{geometry.affine}"', hint=hint)
    if geometry.affine == "common" and geometry.position_mm is None:
        raise table.error(
            "position_mm",
            'is missing although affine = "common"',
            hint='State the slice position, or write affine = "none"',
        )
    return geometry


def _photograph(document: Any, covariates: tuple[Covariate, ...], file: str | None) -> Photograph | None:
    table = TomlTable(document, "photograph", file)
    if not table.rest():
        return None
    photograph = Photograph(
        table.get("degrees", "positive", None),
        table.get("disc_diameters", "positive", None),
        table.get("side", "text", None),
    )
    table.finish()
    if photograph.degrees and photograph.disc_diameters:
        raise table.error("disc_diameters", "says the same as degrees", hint="State one of the two")
    if photograph.side not in (None, "left", "right"):
        named = next((c for c in covariates if c.name == photograph.side), None)
        if named is None or set(named.levels) != {"left", "right"}:
            raise table.error(
                "side",
                "is no covariate that says which eye it is",
                found=repr(photograph.side),
                expected='left | right | a binary covariate with levels = ["left", "right"]',
            )
    return photograph


def from_document(document: Mapping[str, Any], file: str | None = None, *, is_whole: bool = False) -> Study:
    """The study of a parsed TOML or JSON document.

    Args:
        file: For messages.
        is_whole: Hold [train], [augment] and [measure] too to what this version knows. Of a snapshot's study,
            which another version may have written, they are kept as they stand.

    Raises:
        StudyError: Naming file, table, key, what was found and what was expected.
    """
    top = TomlTable(document, "", file)
    name = top.get("name", "text")
    resolution, channels = _image(TomlTable(top.table("image"), "image", file))
    tables = TomlTable(top.table("covariates"), "covariates", file).rest()
    if not tables:
        raise StudyError(
            "no covariate declared", file=file, field="covariates", hint="Add a [covariates.NAME] table"
        )
    geometry = _geometry(top.table("geometry"), file)
    position = geometry.position if geometry else None
    covariates = tuple(covariate_of(key, entry, file, position) for key, entry in tables.items())
    photograph = _photograph(top.table("photograph"), covariates, file)
    sources = _sources(top.table("sources"), covariates, file)
    train = TomlTable(top.table("train"), "train", file)
    conditional = _is_conditional(train, sources)
    settings = train.rest()
    if is_whole:
        checked(settings, "train", file)
    augment = TomlTable(top.table("augment"), "augment", file)
    measure = TomlTable(top.table("measure"), "measure", file)
    instrument = measure.get("instrument", "any text", "", ("", *INSTRUMENTS) if is_whole else None)
    measure.finish()
    models = _models(top.table("model"), covariates, file)
    about = TomlTable(top.table("about"), "about", file)
    stated = {key: about.get(key, "text", "") for key in ABOUT}
    about.finish()
    top.finish()
    _check_place(position, covariates, sources, models, file)
    return Study(
        name=name,
        resolution=resolution,
        channels=channels,
        covariates=covariates,
        sources=sources,
        geometry=geometry,
        photograph=photograph,
        models=models,
        condition_on_source=conditional,
        train=settings,
        augment_allow=_allowed(augment, covariates, is_whole),
        instrument=instrument,
        about={key: text for key, text in stated.items() if text},
    )


def _image(table: TomlTable) -> tuple[int, int]:
    """Resolution and channels."""
    resolution, channels = table.get("resolution", "count"), table.get("channels", "count", 1)
    table.finish()
    if resolution & (resolution - 1) or not 32 <= resolution <= 1024:
        raise table.error(
            "resolution",
            "not a supported image size",
            found=resolution,
            expected="a power of two from 32 to 1024",
        )
    if channels not in (1, 3):
        raise table.error("channels", "not a supported number of channels", found=channels, expected="1 or 3")
    return resolution, channels


def _is_conditional(table: TomlTable, sources: Sequence[Source]) -> bool:
    """Whether the source is a condition."""
    conditional = table.get("condition_on_source", "flag", False)
    if conditional and len(sources) < 2:
        found = f"{len(sources)} source"
        raise table.error("condition_on_source", "needs two or more sources", found=found, hint="Remove it")
    return conditional


def _allowed(table: TomlTable, covariates: Sequence[Covariate], is_whole: bool) -> tuple[str, ...]:
    """The augmentations that keep every covariate true."""
    allow = tuple(table.get("allow", "texts", [], AUGMENTATIONS if is_whole else None))
    table.finish()
    lateral = ", ".join(c.name for c in covariates if c.lateralised)
    if "xflip" in allow and lateral:
        message = "xflip would swap left and right of lateralised covariates"
        raise table.error("allow", message, found=lateral, hint="Remove xflip")
    return allow


def _check_place(
    position: str | None,
    covariates: tuple[Covariate, ...],
    sources: tuple[Source, ...],
    models: Mapping[str, ModelSpec],
    file: str | None,
) -> None:
    """Where a slice lies is declared, recorded by every source, and depends on nothing."""
    if position is None:
        return
    if position not in [c.name for c in covariates]:
        raise StudyError(
            "names a covariate the study does not declare",
            file=file,
            field="geometry.position",
            found=repr(position),
            expected=" | ".join(c.name for c in covariates),
            hint=f"Add a [covariates.{position}] table",
        )
    for source in sources:
        if position not in source.observes:
            raise StudyError(
                f"source {source.name!r} does not record where its slices lie",
                file=file,
                field="sources.observes",
                expected=repr(position),
                hint="Add it: the position is known of every slice",
            )
    for spec in models.values():
        if spec.name == position or position in spec.given:
            raise StudyError(
                "a slice's position is modelled by nothing and models nothing",
                file=file,
                field=f"model.{spec.name}",
                hint=f"Remove {position} here",
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
        if not study.geometry.mirrored:
            del out["geometry"]["mirrored"]
    if study.photograph:
        out["photograph"] = {k: v for k, v in vars(study.photograph).items() if v is not None}
    if study.about:
        out["about"] = dict(study.about)
    out["covariates"] = {c.name: _covariate_document(c) for c in study.covariates}
    out["sources"] = [
        {"name": s.name, "path": s.path, "observes": list(s.observes), "weight": s.weight}
        | ({"share": s.share} if s.share != 1 else {})
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
