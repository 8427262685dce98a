"""`mssg export-official`: a snapshot's weights for the official tools."""

from __future__ import annotations

import io
import json

import click

from trainer_cli.common import check_suffix, writable

FORMATS = (".npz", ".pt")


@click.command("export-official")
@click.argument("snapshot")
@click.option("-o", "--out", required=True, help="File to write: .npz (numpy) or .pt (torch.save).")
@click.option(
    "--network",
    type=click.Choice(["G_ema", "G", "D"]),
    default="G_ema",
    show_default=True,
    help="Which network.",
)
def export_official(snapshot: str, out: str, network: str) -> None:
    """Write a network of SNAPSHOT as a plain state dict with the official names.

    The official constructor arguments that the weights belong to are printed as JSON.
    """
    suffix = check_suffix(out, FORMATS)
    import numpy as np
    import torch

    from mssg.checkpoint.official_arguments import official_arguments
    from mssg.checkpoint.snapshot import load_snapshot
    from mssg.files import write_atomically

    path = writable(out)
    module = load_snapshot(snapshot).load(network)
    state = {name: value.detach().cpu().clone() for name, value in module.state_dict().items()}
    buffer = io.BytesIO()
    if suffix == ".npz":
        np.savez(buffer, **{name: value.numpy() for name, value in state.items()})
    else:
        torch.save(state, buffer)
    write_atomically(path, buffer.getvalue())
    kind, arguments = official_arguments(module.config)
    click.echo(f"{path}: {len(state)} tensors of {network} ({kind}), constructor arguments:")
    click.echo(json.dumps(arguments))
