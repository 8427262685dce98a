"""`mssg inspect`: what a snapshot says about itself, without loading its networks."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any

import click

from trainer_cli.model_card import model_card
from trainer_cli.snapshot_facts import count, covariate_row, generator, images, trained

if TYPE_CHECKING:
    from mssg.checkpoint.header import Header


@click.command()
@click.argument("snapshot")
@click.option("--json", "as_json", is_flag=True, help="Everything as one JSON object.")
@click.option("--card", is_flag=True, help="A model card for Hugging Face: data, intended use, limits.")
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
        ("images", images(study)),
        ("generator", generator(header)),
        ("networks", networks),
        ("trained", trained(header)),
    ]
    lines = [f"{name:<10} {text}" for name, text in facts]
    head = ["covariate", "kind", "5 %", "median", "95 %", "observed by", "modelled by"]
    lines += ["", aligned(head, [covariate_row(header, c) for c in study.covariates], left=2)]
    counts = [(s.name, str(count(header, s.name)), ", ".join(s.observes)) for s in study.sources]
    lines += ["", aligned(["source", "images", "observes"], counts, left=1)]
    if study.condition_on_source:
        lines += ["", "The network is told the source."]
    pairs = study.unseen_pairs
    if pairs:
        lines += ["", "Recorded together by no source: " + ", ".join(f"{a} and {b}" for a, b in pairs)]
    return "\n".join(lines)
