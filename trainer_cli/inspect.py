"""`mssg inspect`: what a snapshot says about itself, without loading its networks."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from mssg.checkpoint.header import Header
    from mssg.study.covariate import Covariate
    from mssg.study.model import Source, Study


@click.command()
@click.argument("snapshot")
@click.option("--json", "as_json", is_flag=True, help="Everything as one JSON object.")
@click.option("--card", is_flag=True, help="A model card in Markdown: data, intended use, limits.")
def inspect(snapshot: str, as_json: bool, card: bool) -> None:
    """Say what SNAPSHOT (a file, a run's folder, or a shipped name) holds."""
    from mssg.checkpoint.header import read_header, resolve_snapshot
    from mssg.errors import UsageError

    if as_json and card:
        raise UsageError("choose one of --json and --card")
    header = read_header(resolve_snapshot(snapshot))
    if as_json:
        click.echo(json.dumps(document(header), indent=1, ensure_ascii=False))
    else:
        click.echo(model_card(header) if card else overview(header))


def document(header: Header) -> dict[str, Any]:
    """The header as a JSON object."""
    from mssg.study.schema import to_document

    return {
        "id": header.snapshot_id,
        "file": str(header.path),
        "bytes": header.path.stat().st_size,
        "format_version": header.format_version,
        "study": to_document(header.study),
        "networks": network_sizes(header),
        "generator": dict(header.generator),
        "discriminator": dict(header.discriminator),
        "progress": dict(header.progress),
        "provenance": dict(header.provenance),
        "summary": dict(header.summary),
    }


def network_sizes(header: Header) -> dict[str, int]:
    """Numbers held, by network."""
    from safetensors import safe_open

    sizes: dict[str, int] = {}
    with safe_open(str(header.path), framework="np") as file:
        for key in file.keys():
            network = key.split("/")[0]
            if network != "covariates":
                sizes[network] = sizes.get(network, 0) + math.prod(file.get_slice(key).get_shape())
    return sizes


def overview(header: Header) -> str:
    """What a person wants to know first."""
    from mssg.text import aligned

    study, sizes = header.study, network_sizes(header)
    networks = ", ".join(f"{name} {size / 1e6:.2f} M" for name, size in sizes.items())
    facts = [
        ("study", study.name),
        ("id", header.snapshot_id),
        (
            "file",
            f"{header.path} ({header.path.stat().st_size / 2**20:.1f} MiB, format {header.format_version})",
        ),
        ("images", _images(study)),
        ("generator", _generator(header)),
        ("networks", networks),
        ("trained", _trained(header)),
    ]
    lines = [f"{name:<10} {text}" for name, text in facts]
    head = ["covariate", "kind", "5 %", "median", "95 %", "observed by", "modelled by"]
    lines += ["", aligned(head, [_covariate_row(header, c) for c in study.covariates], left=2)]
    counts = [(s.name, str(_count(header, s.name)), ", ".join(s.observes)) for s in study.sources]
    lines += ["", aligned(["source", "images", "observes"], counts, left=1)]
    if study.condition_on_source:
        lines += ["", "The network is told the source."]
    pairs = study.unseen_pairs
    if pairs:
        lines += ["", "Recorded together by no source: " + ", ".join(f"{a} and {b}" for a, b in pairs)]
    return "\n".join(lines)


def _images(study: Study) -> str:
    text = f"{study.resolution} x {study.resolution}, {'1 channel' if study.channels == 1 else '3 channels'}"
    if study.geometry:
        text += f", {study.geometry.plane}, {study.geometry.pixel_mm:g} mm a pixel"
    return text


def _generator(header: Header) -> str:
    g = header.generator
    return (
        f"{g.get('kind', 'unknown')}, z {g.get('z_dim')}, w {g.get('w_dim')}, condition"
        f" {header.study.layout.width} columns"
    )


def _trained(header: Header) -> str:
    versions = header.provenance.get("versions", {})
    if header.provenance.get("imported"):
        return f"by the official tools, how long is not known; imported by mssg {versions.get('mssg', '?')}"
    parts = [f"{header.progress.get('kimg', 0):g} kimg", f"seed {header.provenance.get('seed', '?')}"]
    parts += [f"{name} {versions[name]}" for name in ("mssg", "torch") if name in versions]
    if header.provenance.get("git"):
        parts.append(f"commit {header.provenance['git']}")
    return ", ".join(parts)


def _count(header: Header, source: str) -> int:
    return int(header.summary.get("sources", {}).get(source, {}).get("n", 0))


def _covariate_row(header: Header, covariate: Covariate) -> list[str]:
    from mssg.errors import UsageError
    from mssg.study.values import training_range

    if covariate.is_continuous:
        try:
            low, high = training_range(covariate, header.summary)
            middle = training_range(covariate, header.summary, 0.5, 0.5)[0]
            values = [covariate.format(v) for v in (low, middle, high)]
        except UsageError:
            values = ["–"] * 3
    else:
        values = ["", _mode(header, covariate), ""]
    models = header.models
    given = models.parents(covariate.name)
    model = models.family(covariate.name) + (f" given {', '.join(given)}" if given else "")
    return [covariate.name, covariate.kind, *values, ", ".join(header.study.observers(covariate.name)), model]


def _mode(header: Header, covariate: Covariate) -> str:
    counts = (
        header.summary.get("covariates", {}).get(covariate.name, {}).get("histogram", {}).get("counts", [])
    )
    total = sum(counts)
    if not total:
        return "–"
    best = max(range(len(counts)), key=counts.__getitem__)
    return f"{covariate.format(float(best))} ({100 * counts[best] / total:.0f} %)"


def _command(header: Header) -> str:
    """How the network was trained, or where it comes from."""
    from mssg.study.train_config import TrainConfig, command

    train = header.provenance.get("train")
    if train:
        return command(TrainConfig.from_json(train), header.study)
    return header.provenance.get("command") or "not recorded"


def model_card(header: Header) -> str:
    """A model card: what the model is, from what data, for what use, and where it must not be trusted."""
    study = header.study
    imported = bool(header.provenance.get("imported"))
    return CARD.format(
        name=study.name,
        snapshot=header.snapshot_id,
        images=_images(study),
        generator=_generator(header),
        trained=_trained(header),
        command=_command(header),
        told="yes" if study.condition_on_source else "no",
        sources="\n".join(_source_line(header, source, imported) for source in study.sources),
        covariates="\n".join(_covariate_line(header, covariate) for covariate in study.covariates),
        held=IMPORTED
        if imported
        else "The file holds these summaries, no training rows and no subject identifiers.",
        unseen=_unseen(study),
    )


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

| source | training images | records |
|---|---|---|
{sources}

| covariate | kind | training values (5 to 95 %) | recorded by | modelled by |
|---|---|---|---|---|
{covariates}

{held}

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
    count = "not known" if imported else _count(header, source.name)
    return f"| {source.name} | {count} | {', '.join(source.observes)} |"


def _covariate_line(header: Header, covariate: Covariate) -> str:
    _, kind, low, middle, high, observers, model = _covariate_row(header, covariate)
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
