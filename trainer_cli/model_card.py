"""A snapshot's model card, as Markdown that Hugging Face files."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from mssg.text import number, percent
from trainer_cli.snapshot_facts import count, covariate_row, generator, images, trained

if TYPE_CHECKING:
    from mssg.checkpoint.header import Header
    from mssg.metrics.results import Evaluation, Result
    from mssg.study.covariate import Covariate
    from mssg.study.model import Source, Study

LICENCES = (
    "apache-2.0",
    "mit",
    "bsd-3-clause",
    "cc0-1.0",
    "cc-by-4.0",
    "cc-by-sa-4.0",
    "cc-by-nc-4.0",
    "cc-by-nc-sa-4.0",
    "cc-by-nc-nd-4.0",
    "odbl",
    "openrail",
)
"""Licences by the names that Hugging Face knows; any other is `other` with a name."""


def _command(header: Header) -> str:
    """How the network was trained, or where it comes from."""
    from mssg.study.train_config import TrainConfig, command

    train = header.provenance.get("train")
    if train:
        return command(TrainConfig.from_json(train), header.study)
    return header.provenance.get("command") or "not recorded"


def model_card(header: Header, measured: Evaluation | None = None) -> str:
    """A model card: what the model is, from what data, for what use, and where it must not be trusted.

    Args:
        measured: An evaluation of it, whose figures are to stand there.
    """
    study = header.study
    imported = bool(header.provenance.get("imported"))
    return front_matter(header) + CARD.format(
        name=study.name,
        snapshot=header.snapshot_id,
        images=images(study),
        generator=generator(header),
        trained=trained(header),
        command=_command(header),
        told="yes" if study.condition_on_source else "no",
        sources="\n".join(_source_line(header, source, imported) for source in study.sources),
        covariates="\n".join(_covariate_line(header, covariate) for covariate in study.covariates),
        held=IMPORTED if imported else SUMMARIES,
        unseen=_unseen(study),
        data=f"{header.origin}\n\n" if header.origin else "",
        licence=study.about.get("licence", "not stated"),
        measured=_measured(header, measured),
    )


def front_matter(header: Header) -> str:
    """The block of YAML by which Hugging Face files a model."""
    licence = header.study.about.get("licence", "")
    known = licence.lower() in LICENCES
    facts = {"license": licence.lower() if known else "other"}
    facts |= {} if known else {"license_name": licence or "not-stated"}
    facts |= {"library_name": "mssg", "pipeline_tag": "unconditional-image-generation"}
    kind = str(header.generator.get("kind", "gan"))
    tags = ["mssg", "gan", kind, "conditional-image-generation", "medical-imaging", "synthetic-data"]
    lines = [f"{key}: {json.dumps(value)}" for key, value in facts.items()]
    return "\n".join(["---", *lines, "tags:", *(f"- {json.dumps(tag)}" for tag in tags), "---", "", ""])


def screened(header: Header, measured: Evaluation | None) -> list[Result]:
    """What an evaluation says of this very snapshot's memorisation."""
    found = measured.results if measured else ()
    labels = {m.label for m in measured.models if m.snapshot == header.snapshot_id} if measured else set()
    return [r for r in found if r.model in labels and r.metric.startswith("memorisation-")]


def _measured(header: Header, measured: Evaluation | None) -> str:
    """The figures of an evaluation of this snapshot, as a section."""
    from mssg.metrics.results import JOINT

    if measured is None:
        return ""
    labels = {m.label for m in measured.models if m.snapshot == header.snapshot_id}
    lines = [
        f"- {r.metric.replace('-', ' in ', 1)}: {percent(r.value)} of {r.n} generated images are nearer to a"
        f" training image than all but 1 % of unseen real images (of those: {percent(r.real_floor)})"
        for r in screened(header, measured)
    ]
    lines += [
        f"- {r.metric}: {number(r.value)} (between real images: {number(r.real_floor)})"
        for r in measured.results
        if r.model in labels and r.source == JOINT and r.metric.startswith("kid-")
    ]
    head = "## Measured\n\nAll figures: eval.json.\n\n"
    return head + "\n".join(lines) + "\n\n" if lines else ""


IMPORTED = (
    "Imported from a pickle of the official tools: its training data are not known, these values are assumed,"
    " and sources and covariates are what the study says."
)
SUMMARIES = "The file holds these summaries, no training rows and no subject identifiers."
CARD = """# {name}

Conditional image generator (Multi-Source StyleGAN), snapshot `{snapshot}`.

## Model

- Images: {images}
- Generator: {generator}
- Training: {trained}
- Command: `{command}`
- Told the source: {told}

## Training data

{data}| source | training images | records |
|---|---|---|
{sources}

| covariate | kind | training values (5 to 95 %) | recorded by | modelled by |
|---|---|---|---|---|
{covariates}

{held}

{measured}## Licence

{licence}

## Intended use

Research: showing how a population's images vary with the covariates above, teaching, and testing methods on \
synthetic images whose covariates were requested.

## Limits

- Not for diagnosis, treatment or any decision about a person.
- Images show associations in the training data, not effects of a cause; the sources' selection is theirs too.
- Outside the ranges above, and for combinations that the data do not hold, images are extrapolation.
{unseen}- How well a request is met differs by covariate: measure it before relying on it.
- A generator can reproduce training images: check for memorisation before sharing images of people."""


def _source_line(header: Header, source: Source, imported: bool) -> str:
    held = "not known" if imported else count(header, source.name)
    return f"| {source.name} | {held} | {', '.join(source.observes)} |"


def _covariate_line(header: Header, covariate: Covariate) -> str:
    _, kind, low, middle, high, observers, model = covariate_row(header, covariate)
    span = f"{low} to {high}, median {middle}" if covariate.is_continuous else f"most often {middle}"
    return f"| {covariate.name} | {kind} | {span} | {observers} | {model} |"


def _unseen(study: Study) -> str:
    """A limit, as a line: pairs of covariates that no source records together; "" where there are none."""
    pairs = ", ".join(f"{a} and {b}" for a, b in study.unseen_pairs)
    text = (
        "- No source records these together, so how they depend on each other beyond the shared covariates is"
        f" an assumption of the covariate model, not a finding: {pairs}.\n"
    )
    return text if pairs else ""
