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

    The official constructor arguments that the weights belong to are printed as JSON. The picture's own noise
    is left out: official networks have none.
    """
    suffix = check_suffix(out, FORMATS)
    import numpy as np
    import torch

    from mssg.checkpoint.official_arguments import official_arguments
    from mssg.checkpoint.snapshot import load_snapshot
    from mssg.files import write_atomically
    from mssg.networks.noise import IMAGE_NOISE

    path = writable(out)
    module = load_snapshot(snapshot).load(network)
    kind, arguments = official_arguments(module.config)
    state = {
        name: value.detach().cpu().clone()
        for name, value in module.state_dict().items()
        if IMAGE_NOISE not in name.split(".")
    }
    buffer = io.BytesIO()
    if suffix == ".npz":
        np.savez(buffer, **{name: value.numpy() for name, value in state.items()})
    else:
        torch.save(state, buffer)
    write_atomically(path, buffer.getvalue())
    click.echo(f"{path}: {len(state)} tensors of {network} ({kind}), constructor arguments:")
    click.echo(json.dumps(arguments))
    if getattr(module.config, IMAGE_NOISE, False):
        click.echo("Without the noise of the picture: official networks have none.", err=True)
