"""What mkdocs does before it builds: writes the reference pages from the code, and puts the pages that there are in order."""

from __future__ import annotations

import inspect
import re
import sys
from pathlib import Path
from typing import Any
from unittest import mock

DOCS = Path(__file__).resolve().parent
sys.path.insert(0, str(DOCS.parent))

ORDER = {
    "Start": ["index", "tutorial", "data", "explorer", "faq"],
    "How to": ["experiments", "evaluation", "migration", "scaling"],
    "Reference": ["reference/commands", "reference/study", "formats"],
    "Measured": ["results", "reliability", "performance", "phantoms"],
    "Inside": ["architecture"],
}
"""Sections and their pages; one that does not exist is left out, one that is not named stands under "More"."""

STUDY_KEYS = {
    "name": "The study's name; stands on cards and figures.",
    "image.resolution": "Side of the square images in pixels, a power of two.",
    "image.channels": "1 for grey, 3 for colour.",
    "covariates.*.kind": "A number, yes or no, or one of several levels.",
    "covariates.*.unit": "Shown beside values. Values are in this unit everywhere.",
    "covariates.*.levels": "Names of the levels, in order.",
    "covariates.*.transform": "What is applied before scaling; `log` for volumes.",
    "covariates.*.shift": "With `log`: log(x + shift).",
    "covariates.*.scale": "How the network sees it: standardised, or stretched to 0 … 1. Fitted on the training split of all sources.",
    "covariates.*.offset": "Fitted offset. Only to import a network whose labels are known; leave it out.",
    "covariates.*.spread": "Fitted spread, likewise.",
    "covariates.*.loss_weight": "Weight of this covariate in D's covariate loss.",
    "covariates.*.loss_group": "Covariates of one group are averaged before groups are added.",
    "covariates.*.lateralised": "True if left and right differ in meaning: images are then never mirrored.",
    "sources.*.name": "The source's name.",
    "sources.*.path": "Folder of the prepared source, relative to the TOML.",
    "sources.*.observes": "Covariates this source records. The table may hold more; training sees only these.",
    "sources.*.weight": "Share of the images of a batch, relative to the other sources.",
    "model.*.given": "Parents: what the covariate is modelled from.",
    "model.*.family": "gmm, linear, logistic, softmax, sigmoid, beta, empirical, analytic:NAME or joint; absent: chosen by kind.",
    "model.*.components": "Components of a mixture.",
    "geometry.plane": "Plane of the slices. Row 0 is superior, column 0 is the patient's left.",
    "geometry.pixel_mm": "Side of a pixel in mm.",
    "geometry.affine": "`common`: all images lie in one space. `none`: only the size of a pixel is known.",
    "geometry.position_mm": "Where the slice lies, needed with `common`.",
    "geometry.centre_mm": "Where the picture's centre lies in its plane.",
    "train.condition_on_source": "True: the source is one more covariate (different cohorts). False: one population, split up.",
    "augment.allow": "Operations of adaptive augmentation that keep every covariate true.",
    "measure.instrument": "An oracle of `mssg.measure` that reads the covariates off an image.",
}  # fmt: skip


def on_pre_build(**_: Any) -> None:
    """Write docs/reference/ (not under version control: it follows the code)."""
    (DOCS / "reference").mkdir(exist_ok=True)
    for name, text in (("commands", commands_page()), ("study", study_page())):
        path = DOCS / "reference" / f"{name}.md"
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")


def on_config(config: Any) -> Any:
    """Navigation over the pages that exist."""
    on_pre_build()
    there = {p.relative_to(DOCS).with_suffix("").as_posix() for p in DOCS.rglob("*.md")}
    nav, named = [], set()
    for title, pages in ORDER.items():
        found = [f"{p}.md" for p in pages if p in there]
        named |= set(pages)
        nav += [{title: found}] if found else []
    decisions = sorted(p for p in there if p.startswith("decisions/"))
    more = sorted(there - named - set(decisions))
    nav += [{"More": [f"{p}.md" for p in more]}] if more else []
    nav += [{"Decisions": [f"{p}.md" for p in decisions]}] if decisions else []
    config.nav = nav
    return config


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
    parts = ["# Commands\n", "Made from the commands themselves. `mssg-train` is `mssg train`, `mssg-explore` is `mssg explore`."]  # fmt: skip
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
    return re.sub(r"([<>|*_])", r"\\\1", inspect.cleandoc(text.replace("\b", "")))


def _cell(text: str) -> str:
    return _prose(" ".join(text.split()))


def study_keys() -> dict[str, tuple[str, str]]:
    """Every key that the study's reader asks for, with its type and default, found by watching it read."""
    from mssg import toml_table
    from mssg.study_schema import from_document

    seen: dict[str, tuple[str, str]] = {}
    original = toml_table.Table.get

    def get(self, key, kind, default=toml_table._NO_DEFAULT, choices=None):
        table = re.sub(r"^(covariates|model)\..*", r"\1.*", re.sub(r"\[\d+\]", ".*", self.name))
        expected = " \\| ".join(c for c in choices if c) if choices else toml_table.TYPES[kind][1]
        absent = "required" if default is toml_table._NO_DEFAULT else f"`{default!r}`" if default not in (None, "", []) else "–"  # fmt: skip
        seen[f"{table}.{key}".lstrip(".")] = (expected, absent)
        return original(self, key, kind, default, choices)

    whole = {
        "name": "x", "image": {"resolution": 32},
        "covariates": {"a": {"kind": "continuous"}, "b": {"kind": "categorical", "levels": ["0", "1"]}},
        "sources": [{"name": "s", "path": "s", "observes": ["a", "b"]}], "model": {"b": {"given": ["a"]}},
        "geometry": {"plane": "coronal", "pixel_mm": 1.0},
    }  # fmt: skip
    with mock.patch.object(toml_table.Table, "get", get):
        from_document(whole)
    return seen


def study_page() -> str:
    """The reference of the study TOML: its keys from its reader, the [train] table from the configuration."""
    from dataclasses import fields

    from mssg.training.config import PRESETS, TrainConfig

    parts = ["# The study TOML\n", "Made from the code that reads it. `*` stands for a name, or for each `[[sources]]` table.\n",
             "| key | value | if absent | |", "|---|---|---|---|"]  # fmt: skip
    for key, (expected, absent) in study_keys().items():
        parts.append(f"| `{key}` | {expected} | {absent} | {STUDY_KEYS.get(key, '')} |")
    parts += ["\n## [train]\n", "Any of these, beside `condition_on_source`; the command line's `--set FIELD=VALUE` comes last.\n",
              "| key | if absent | presets that change it |", "|---|---|---|"]  # fmt: skip
    for field in fields(TrainConfig):
        who = ", ".join(
            f"{name} {values[field.name]}" for name, values in PRESETS.items() if field.name in values
        )
        parts.append(f"| `{field.name}` | `{field.default!r}` | {who} |")
    return "\n".join(parts) + "\n"
