"""What mkdocs does beside building: makes reference pages from the code, keeps options in one piece."""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from unittest import mock

DOCS = Path(__file__).resolve().parent
sys.path.insert(0, str(DOCS.parent))

STUDY_KEYS = {
    "name": "The study's name; stands on cards and figures.",
    "image.resolution": "Side of the square images in pixels, a power of two.",
    "image.channels": "1 for grey, 3 for colour.",
    "covariates.*.kind": "A number, yes or no, or one of several levels.",
    "covariates.*.unit": "Shown beside values. Values are in this unit everywhere.",
    "covariates.*.levels": "Names of the levels, in order. A binary one has two or none.",
    "covariates.*.transform": "What is applied before scaling; `log` for volumes.",
    "covariates.*.shift": "With `log`: log(x + shift).",
    "covariates.*.scale": (
        "How the network sees it: standardised, or stretched to 0 … 1. Fitted on the training split of all"
        " sources."
    ),
    "covariates.*.offset": "Fitted offset. Only to import a network whose labels are known; leave it out.",
    "covariates.*.spread": "Fitted spread, likewise.",
    "covariates.*.loss_weight": "Weight of this covariate in D's covariate loss.",
    "covariates.*.loss_group": "Covariates of one group are averaged before groups are added.",
    "covariates.*.lateralised": "True if left and right differ in meaning: images are then never mirrored.",
    "sources.*.name": "The source's name.",
    "sources.*.path": "Folder of the prepared source, relative to the TOML.",
    "sources.*.observes": (
        "Covariates this source records. The table may hold more; training sees only these."
    ),
    "sources.*.weight": "Share of the images of a batch, relative to the other sources.",
    "sources.*.share": "Share of its training people that training sees; validation and test stay whole.",
    "model.*.given": "Parents: what the covariate is modelled from.",
    "model.*.family": (
        "gmm, linear, logistic, softmax, sigmoid, beta, empirical, analytic:NAME or joint; absent: chosen by"
        " kind."
    ),
    "model.*.components": "Components of a mixture.",
    "geometry.plane": "Plane of the slices. Row 0 is superior, column 0 is the patient's left.",
    "geometry.pixel_mm": "Side of a pixel in mm.",
    "geometry.affine": "`common`: all images lie in one space. `none`: only the size of a pixel is known.",
    "geometry.position_mm": "Where the slice lies, needed with `common`.",
    "geometry.space": "`mni`: the space is MNI 152. Written where the volumes' headers say so.",
    "geometry.position": "The covariate (mm) that says where each slice lies: whole heads.",
    "photograph.degrees": "Of photographs of the eye: the visual angle along the picture's side.",
    "photograph.disc_diameters": "The same in disc diameters, where no angle is known.",
    "photograph.side": (
        "The binary covariate with the levels left and right that says which eye it is; left or right itself"
        " where all pictures look like that eye."
    ),
    "about.licence": "Licence of the models, as Hugging Face calls it: `cc-by-4.0`. Snapshots carry it.",
    "about.data": "What the images are, in a sentence. Every snapshot and model card carries it.",
    "geometry.centre_mm": "Where the picture's centre lies in its plane.",
    "geometry.mirrored": "True: column 0 is the patient's right, as in pictures of the research code.",
    "train.condition_on_source": (
        "True: the source is one more covariate (different cohorts). False: one population, split up."
    ),
    "augment.allow": "Operations of adaptive augmentation that keep every covariate true.",
    "measure.instrument": "An oracle of `mssg.measure` that reads covariates off an image: digits or brain.",
}


def on_page_read_source(page: Any, **_: Any) -> str | None:
    """The text of a page that follows the code, in the place of the few lines that the repository shows."""
    made = {"commands": commands_page, "study": study_page, "files": files_page}
    write = made.get(page.file.src_uri.removeprefix("reference/").removesuffix(".md"))
    return write() if write else None


def on_page_content(html: str, **_: Any) -> str:
    """What docs/site.css needs for narrow pages.

    Each line of a block of code is an element. An option stays on one line where a browser breaks a long
    command. The spaces before a remark can be drawn as one. In a table a long name is broken behind / and _
    only. A number keeps its ±. A picture leads to itself, to be looked at in full size.
    """
    option = re.compile(r"(?<![^\s>(])--?[A-Za-z][\w-]*")
    gap = re.compile(r" {3,}(?=#|<span class=\"c1\">#)")

    def code(found: re.Match[str]) -> str:
        text = option.sub(r'<span class="option">\g<0></span>', found[0])
        return gap.sub(r'<span class="gap">\g<0></span>', text)

    def lines(block: re.Match[str]) -> str:
        return re.sub(r"[^\n]*\n|[^\n]+$", r'<span class="line">\g<0></span>', block[0])

    def cell(found: re.Match[str]) -> str:
        return re.sub(r"(?<=\w[/_])(?=\w)", "<wbr>", found[0])

    html = re.sub(r"<code>.*?</code>", code, html, flags=re.S)
    html = re.sub(r"(?<=<code>)[^<]+(?=</code>(?:(?!<t[dh]).)*</t[dh]>)", cell, html)
    html = re.sub(r"(?<=<pre><span></span><code>).*?(?=</code></pre>)", lines, html, flags=re.S)
    html = html.replace(" ± ", "\u00a0±\u00a0")
    return re.sub(r'(?<!">)<img [^>]*?src="([^"]+)"[^>]*>', r'<a href="\1">\g<0></a>', html)


def commands(group: Any = None, path: tuple[str, ...] = ("mssg",)) -> list[tuple[str, Any, Any]]:
    """Every command: its full name, the click command, its context."""
    import click

    if group is None:
        from trainer_cli.main import cli as group
    context = click.Context(group, info_name=" ".join(path))
    found = [(" ".join(path), group, context)]
    if isinstance(group, click.Group):
        for name in group.list_commands(context):
            found += commands(group.get_command(context, name), (*path, name))
    return found


def commands_page() -> str:
    """The reference of all commands and their options, from what `--help` knows."""
    parts = [
        "# Commands\n",
        "Made from the commands themselves. `mssg-train` is `mssg train`, `mssg-explore` is `mssg explore`.",
    ]
    for name, command, context in commands():
        parts.append(f"\n## {name}\n\n{_prose(command.help or '')}\n")
        usage = " ".join(command.collect_usage_pieces(context))
        parts.append(f"    {name} {usage}\n")
        rows = []
        for option in command.params:
            if option.param_type_name == "option":
                flags = ", ".join(f"`{f}`" for f in (*option.opts, *option.secondary_opts))
                record = option.get_help_record(context)
                rows.append(f"| {flags} | {_cell(record[1] if record else '')} |")
        if rows:
            parts.append("| option | |\n|---|---|\n" + "\n".join(rows))
    return "\n".join(parts) + "\n"


def _prose(text: str) -> str:
    text = inspect.cleandoc(text.replace("\b", "")).replace("<", "&lt;")
    return re.sub(r"([>|*_])", r"\\\1", text)


def _cell(text: str) -> str:
    return _prose(" ".join(text.split()))


def study_keys() -> dict[str, tuple[str, str]]:
    """Every key that the study's reader asks for, with its type and default, found by watching it read."""
    from mssg.study import toml_table
    from mssg.study.schema import from_document

    seen: dict[str, tuple[str, str]] = {}
    original = toml_table.TomlTable.get

    def get(self, key, kind, default=toml_table._NO_DEFAULT, choices=None):
        table = re.sub(r"^(covariates|model)\..*", r"\1.*", re.sub(r"\[\d+\]", ".*", self.name))
        expected = " \\| ".join(c for c in choices if c) if choices else toml_table.TYPES[kind][1]
        absent = (
            "required"
            if default is toml_table._NO_DEFAULT
            else f"`{default!r}`"
            if default not in (None, "", [])
            else "–"
        )
        seen[f"{table}.{key}".lstrip(".")] = (expected, absent)
        return original(self, key, kind, default, choices)

    whole = {
        "name": "x",
        "image": {"resolution": 32},
        "covariates": {"a": {"kind": "continuous"}, "b": {"kind": "categorical", "levels": ["0", "1"]}},
        "sources": [{"name": "s", "path": "s", "observes": ["a", "b"]}],
        "model": {"b": {"given": ["a"]}},
        "geometry": {"plane": "coronal", "pixel_mm": 1.0},
        "photograph": {"degrees": 45.0},
    }
    with mock.patch.object(toml_table.TomlTable, "get", get):
        from_document(whole)
    return seen


def study_page() -> str:
    """The reference of the study TOML: its keys from its reader, the [train] table from the configuration."""
    from dataclasses import fields

    from mssg.study.presets import PRESETS
    from mssg.study.train_config import TrainConfig

    parts = [
        "# The study TOML\n",
        "Made from the code that reads it. `*` stands for a name, or for each `[[sources]]` table.\n",
        "| key | value | if absent | |",
        "|---|---|---|---|",
    ]
    for key, (expected, absent) in study_keys().items():
        parts.append(f"| `{key}` | {expected} | {absent} | {STUDY_KEYS.get(key, '')} |")
    parts += [
        "\n## [train]\n",
        "Any of these, beside `condition_on_source`; the command line's `--set FIELD=VALUE` comes last.\n",
        "| key | if absent | presets that change it |",
        "|---|---|---|",
    ]
    for field in fields(TrainConfig):
        who = ", ".join(
            f"{name} {preset.fields[field.name]}"
            for name, preset in PRESETS.items()
            if field.name in preset.fields
        )
        parts.append(f"| `{field.name}` | `{field.default!r}` | {who} |")
    return "\n".join(parts) + "\n"


def files_page() -> str:
    """The reference of our JSON documents: from the classes that are written, or from a file just written."""
    from explorer_app.state import AppState
    from mssg import assets
    from mssg.checkpoint.header import read_header
    from mssg.inversion.projector import InvertConfig
    from mssg.metrics.results import Evaluation, ModelRecord, Note, Result
    from mssg.networks.config import DiscriminatorConfig, GeneratorConfig

    header = read_header(assets.path("snapshots/digits.safetensors"))
    held = {name: dict(getattr(header, name)) for name in ("progress", "provenance", "summary")}
    held["provenance"].pop("train")
    parts = [
        (
            "# What stands in our files\n\nMade from the classes that are written, or from a file of ours. "
            "What the files are for: [formats](formats.md). `*` stands for a name."
        ),
        "## Snapshot\n\nUnder the metadata key `mssg`: `format_version`, `study` ([its reference](study.md)),"
        " `covariates` (the fitted models), `provenance.train` (the run's `[train]`), and as in the shipped"
        " digits:\n\n" + _outline(held),
        "### generator\n\n" + _fields(GeneratorConfig),
        "### discriminator\n\n" + _fields(DiscriminatorConfig),
        "## source.json\n\n" + _outline(_source_info()),
        "## config.json of a run\n\n`format_version`, `study_folder`, `init_from`, `predictors`, and"
        " `train`: [its keys](study.md).",
        "## eval.json\n\n`format_version`, and:\n\n" + _fields(Evaluation),
        "### models\n\n" + _fields(ModelRecord),
        "### results\n\n" + _fields(Result),
        "### notes\n\n" + _fields(Note),
        "## Session of the explorer\n\n`kind`, `format_version`, `snapshot_id`, `layout` (the windows), and"
        " `state`:\n\n" + _fields(AppState),
        "## Inverted image\n\n`format_version`, `snapshot`, `study`, `how`, `steps`, `image_sha256`,"
        " `drawn_by` (the snapshot's file), `place` where it is known (`plane`, `affine`, NIfTI's `code`),"
        " and"
        " `config`:\n\n" + _fields(InvertConfig),
    ]
    return "\n\n".join(parts) + "\n"


def _fields(kind: Any) -> str:
    """A class's fields, their types and defaults, and what its docstring says of them."""
    from dataclasses import MISSING, fields

    told: dict[str, str] = {}
    section = re.search(r"^(?:Attributes|Args):\n(.*?)(?:^\S|\Z)", inspect.getdoc(kind) or "", re.S | re.M)
    for names, text in re.findall(
        r"^    ((?:\w+,\s+)*\w+): (.*(?:\n {5,}.*)*)", section[1] if section else "", re.M
    ):
        told |= dict.fromkeys(re.split(r",\s+", names), text)
    rows = ["| key | type | if absent | |", "|---|---|---|---|"]
    for field in fields(kind):
        default = (
            "required"
            if field.default is MISSING and field.default_factory is MISSING
            else f"`{field.default!r}`"
            if field.default is not MISSING
            else "empty"
        )
        rows.append(
            f"| `{field.name}` | {_cell(str(field.type))} | {default} | {_cell(told.get(field.name, ''))} |"
        )
    return "\n".join(rows)


def _outline(document: Any) -> str:
    """The keys of a document and the kinds of their values; names that a study gives are a star."""
    seen: dict[str, str] = {}

    def walk(value: Any, path: str) -> None:
        if isinstance(value, Mapping):
            for key, inner in value.items():
                parent = path.rpartition(".")[2]
                walk(inner, f"{path}.{'*' if parent in ('sources', 'covariates') else key}".lstrip("."))
        else:
            seen[path] = {
                str: "text",
                bool: "true or false",
                int: "number",
                float: "number",
                list: "list",
            }.get(type(value), "null")

    walk(document, "")
    return "\n".join(
        ["| key | value |", "|---|---|", *(f"| `{key}` | {kind} |" for key, kind in seen.items())]
    )


def _source_info() -> Any:
    """The source.json of a source of two images."""
    import json
    import tempfile

    import numpy as np

    from mssg.data.dataset_writer import write_packed

    columns = {"subject": ["a", "b"], "session": ["", ""], "split": ["train", "val"], "age": [50.0, 60.0]}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "source"
        write_packed(
            path,
            np.zeros((2, 1, 8, 8), np.uint8),
            columns,
            {"recipe": "…", "covariates": {"age": {"kind": "continuous", "unit": "years"}}},
        )
        return json.loads((path / "source.json").read_text(encoding="utf-8"))
