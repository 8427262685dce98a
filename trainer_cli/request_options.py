"""The options that state a picture, and the request they state: the same for every command that draws."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mssg.errors import UsageError
from mssg.files import parse_json
from mssg.rendering import command_line
from mssg.rendering.request import MAX_SEED, NOISE_MODES, PRECISIONS, RenderRequest
from mssg.study.model import Study
from mssg.study.values import parse_values

if TYPE_CHECKING:
    from mssg.checkpoint.snapshot import Snapshot

OPTIONS = {
    "fix": click.option(
        "--fix",
        multiple=True,
        metavar="NAME=VALUE",
        help="A covariate's value in native units; repeatable. Default: the training median, or the most"
        " frequent level.",
    ),
    "place": click.option(
        "--at",
        "place",
        type=float,
        metavar="MM",
        help="Where the slice lies, where a study's slices lie at many places. Default: the study's own.",
    ),
    "blend": click.option(
        "--blend", metavar="SEED=WEIGHT,…", help="The weighted mean of several seeds instead of one."
    ),
    "mix": click.option(
        "--mix", metavar="SEED:LAYERS", help="Style mixing: these layers (4-7,9) take their style from SEED."
    ),
    "w": click.option(
        "--w",
        metavar="FILE",
        help="Draw the latent w of a file of `mssg invert` instead of a seed; covariates edit its image.",
    ),
    "psi": click.option(
        "--psi", default=1.0, show_default=True, help="Truncation: 1 = none, 0 = the average image."
    ),
    "cutoff": click.option(
        "--cutoff", type=click.IntRange(0), help="Truncate only the first so many layers."
    ),
    "noise": click.option(
        "--noise",
        type=click.Choice(NOISE_MODES),
        default="const",
        show_default=True,
        help="Noise inputs, where the network has any: as trained, drawn anew, or none.",
    ),
    "noise_seed": click.option(
        "--noise-seed",
        default=0,
        show_default=True,
        type=click.IntRange(0, MAX_SEED),
        help="Seed of --noise random.",
    ),
    "transform": click.option(
        "--transform",
        metavar="A,B,C,D,E,F",
        help="Move the picture of a StyleGAN3 network: matrix [[A, B, C], [D, E, F]] in units of its width.",
    ),
    "precision": click.option(
        "--precision",
        type=click.Choice(PRECISIONS),
        default="auto",
        show_default=True,
        help="What a GPU computes the highest resolutions in; auto: what the network was built for.",
    ),
    "layer": click.option(
        "--layer",
        metavar="NAME[:CHANNEL]",
        help="Show a layer's activations, from lowest to highest, instead; several channels as NAME:0-3.",
    ),
    "request": click.option(
        "--request",
        metavar="FILE.json",
        help="The picture that a JSON file of a render request states, instead of these options (but --w).",
    ),
}


def request_options(command: Callable[..., Any], without: Collection[str] = ()) -> Callable[..., Any]:
    """Give a command the options that state a picture, but those `without`; they go to `stated_request`."""
    for name in reversed(OPTIONS):
        command = command if name in without else OPTIONS[name](command)
    return command


def stated_snapshot(snapshot: str, device: str, latent_file: str | None) -> Snapshot:
    """The snapshot to draw with: of a run the one that a latent was found with, where there is a latent."""
    from mssg.checkpoint.snapshot import load_snapshot
    from mssg.inversion.latent_file import read_latent
    from mssg.ops.device import checked_device

    identity = read_latent(latent_file).snapshot if latent_file else ""
    return load_snapshot(snapshot, checked_device(device), identity)


def stated_request(study: Study, options: dict[str, Any], seed: int = 0) -> RenderRequest:
    """The request of a command's options.

    Args:
        study: Whose covariates --fix names.
        options: What click read of `OPTIONS`.
        seed: What the command's own --seed says.

    Raises:
        UsageError: Options that clash, or a value that cannot be.
    """
    latent = None
    if options["w"]:
        from mssg.inversion.latent_file import read_latent

        latent = read_latent(options["w"])
    _check_apart(options)
    if options["request"]:
        return _of_file(Path(options["request"]), latent)
    request = RenderRequest(
        seed=seed,
        latent=latent,
        covariates=tuple(parse_values(study, options["fix"]).items()),
        psi=options["psi"],
        cutoff=options["cutoff"],
        noise_mode=options["noise"],
        noise_seed=options["noise_seed"],
        precision=options["precision"],
    )
    if options["place"] is not None:
        request = _at(study, request, options["place"])
    if options["blend"]:
        request = replace(request, blend=command_line.parse_blend(options["blend"]))
    if options["mix"]:
        mix_seed, mix_layers = command_line.parse_mix(options["mix"])
        request = replace(request, mix_seed=mix_seed, mix_layers=mix_layers)
    if options["transform"]:
        request = replace(request, transform=command_line.parse_transform(options["transform"]))
    if options["layer"]:
        layer, channel, channels = command_line.parse_layer(options["layer"])
        request = replace(request, layer=layer, channel=channel, channels=channels)
    return request


def _at(study: Study, request: RenderRequest, place: float) -> RenderRequest:
    if study.position is None:
        raise UsageError(
            "the study's slices all lie at one place", field="--at", hint="Leave it out, or use another model"
        )
    if study.position in dict(request.covariates):
        raise UsageError("given twice", field=f"--at, --fix {study.position}")
    return replace(request, covariates=(*request.covariates, (study.position, place)))


def _check_apart(options: dict[str, Any]) -> None:
    """Refuse options of which only one can count."""
    context = click.get_current_context()
    given = [
        name
        for name in (*options, "seed", "seeds")
        if context.get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE
    ]
    for one, others in (
        ("request", set(given) - {"w", "request"}),
        ("w", {"seed", "seeds", "blend"}),
        ("blend", {"seed", "seeds"}),
    ):
        for other in given:
            if one in given and other in others:
                options_ = (
                    f"--{one}, --{other.removesuffix('s') if other == 'seeds' else other.replace('_', '-')}"
                )
                raise UsageError("only one of the two can count", field=options_)


def _of_file(path: Path, latent: Any) -> RenderRequest:
    try:
        document = parse_json(path.read_bytes())
    except OSError as error:
        raise UsageError(f"cannot be read: {error.strerror}", file=path) from None
    except ValueError:
        raise UsageError("not JSON", file=path, expected="a render request") from None
    return RenderRequest.from_json(document, latent)
