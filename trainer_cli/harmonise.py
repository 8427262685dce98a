"""`mssg harmonise`: real pictures as another source would have taken them."""

from __future__ import annotations

import shlex
from pathlib import Path

import click

from mssg.errors import UsageError
from trainer_cli.common import device_option, out_option, progress, seed_option


@click.command()
@click.argument("source", type=click.Path(path_type=Path))
@click.option(
    "--snapshot",
    required=True,
    metavar="SNAPSHOT",
    help="A model that is told the source: a file, a run's folder (its newest) or a shipped name.",
)
@click.option(
    "--to", "target", required=True, metavar="source=NAME", help="The source they shall look as taken by."
)
@click.option(
    "--from",
    "origin",
    metavar="source=NAME",
    help="The source that took them. Default: the folder's name, or what the discriminator reads.",
)
@click.option("--split", type=click.Choice(["train", "val", "test"]), help="Only this split. Default: all.")
@click.option(
    "--steps", default=200, show_default=True, type=click.IntRange(1), help="Steps of each inversion."
)
@seed_option("Of the inversions.")
@out_option
@device_option
def harmonise(
    source: Path,
    snapshot: str,
    target: str,
    origin: str | None,
    split: str | None,
    steps: int,
    seed: int,
    out: Path,
    device: str,
) -> None:
    """Draw the pictures of a prepared SOURCE as another source of the model would have taken them.

    Each is inverted; what the model changes in it between the sources is added to it. Writes OUT as a BIDS
    derivative data set (PNGs where the study has no geometry) with images.tsv: covariates, reconstruction
    error, readings before and after. Interrupted, the same command continues. Real people are on the
    pictures: treat them like the originals.
    """
    from mssg.checkpoint.snapshot import load_snapshot
    from mssg.inversion.projector import InvertConfig
    from mssg.ops.device import checked_device
    from mssg.synthetic.folder import snapshot_name
    from mssg.synthetic.harmonised import harmonise as changed
    from mssg.synthetic.harmonised import open_pictures
    from mssg.synthetic.harmonised_folder import HarmonisedFolder

    loaded = load_snapshot(snapshot, checked_device(device))
    pictures = open_pictures(source, loaded, _name("--to", target), origin and _name("--from", origin), split)
    config = InvertConfig(steps=steps, seed=seed)
    folder = HarmonisedFolder(out, loaded.header, pictures, config)
    words = ["mssg", "harmonise", source.name, "--snapshot", snapshot_name(loaded.header)]
    words += ["--to", f"source={pictures.target}", "--from", f"source={pictures.origin}"]
    words += ["--split", split] if split else []
    folder.begin(shlex.join([*words, "--steps", str(steps), "--seed", str(seed)]))
    with progress(len(pictures.rows) * steps, "Harmonising") as tell:
        for done in changed(loaded, pictures, config, folder.has, tell):
            folder.write(done)
    folder.finish(shlex.join([*words, "--steps", str(steps), "--seed", str(seed)]))
    click.echo(f"{out}: {len(pictures.rows)} pictures of {pictures.origin} as {pictures.target}'s")
    if pictures.how == "discriminator":
        click.echo(f"  that they are {pictures.origin}'s was read off them; --from source=NAME states it")


def _name(option: str, text: str) -> str:
    """The source that `source=NAME` names."""
    key, mark, name = text.partition("=")
    if key.strip() != "source" or not mark or not name.strip():
        raise UsageError("not a source", field=option, found=repr(text), expected="source=NAME")
    return name.strip()
