"""A render request as a command line that draws the same picture, and back. No torch here."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Collection
from pathlib import Path
from typing import TypeVar

from mssg.errors import UsageError
from mssg.rendering.request import RenderRequest
from mssg.study.model import Study
from mssg.study.values import Sweep, number, plain

Read = TypeVar("Read")
PRIVATE_FILES = ("--w", "--request", "-o", "--output", "counterfactuals")
"""Words before a file whose name may name a person."""


def generate_command(request: RenderRequest, study: Study, snapshot: str, output: str = "image.png") -> str:
    """The `mssg generate` command that draws a picture again.

    Args:
        study: Of its snapshot: names of levels.
        snapshot: File, run folder or name of the snapshot.
    """
    return shlex.join(["mssg", "generate", snapshot, *request_words(request, study), "-o", output])


def volume_command(
    request: RenderRequest, study: Study, snapshot: str, resample: float | None, output: str
) -> str:
    """The `mssg generate --volume` command that draws a head again.

    Args:
        request, study, snapshot, output: As in `generate_command`.
        resample: Edge of cubic voxels; None: as the slices were drawn.
    """
    words = ["mssg", "generate", snapshot, "--volume"]
    words += ["--resample", number(resample)] if resample is not None else []
    return shlex.join([*words, *request_words(request, study), "-o", output])


def grid_command(
    request: RenderRequest,
    study: Study,
    snapshot: str,
    axes: tuple[Sweep, Sweep],
    output: str = "grid.pdf",
    panels: Sweep | None = None,
) -> str:
    """The `mssg figure grid` command that draws a grid again; `request` states what all its pictures share.

    Args:
        request, study, snapshot, output: As in `generate_command`.
        axes: Covariates along rows and columns.
        panels: The covariate with a grid for each value, if any.
    """
    words = ["mssg", "figure", "grid", snapshot]
    sides = (*axes, panels) if panels else axes
    for option, sweep in zip(("--rows", "--cols", "--panels"), sides):
        values = ",".join(plain(study.covariate(sweep.name), v) for v in sweep.values)
        words += [option, f"{sweep.name}={values}"]
    return shlex.join([*words, *request_words(request, study, [s.name for s in sides]), "-o", output])


def request_words(request: RenderRequest, study: Study, swept: Collection[str] = ()) -> list[str]:
    """The options that state a picture, for `mssg generate` and `mssg figure grid`.

    Args:
        swept: Covariates that other options state.
    """
    if request.latent:
        words = ["--w", request.latent.file or "w.safetensors"]
    elif request.blend:
        words = ["--blend", ",".join(f"{seed}={number(weight)}" for seed, weight in request.blend)]
    else:
        words = ["--seed", str(request.seed)]
    for name, value in request.covariates:
        if name not in swept:
            words += ["--fix", f"{name}={plain(study.covariate(name), value)}"]
    if request.mix_layers:
        words += ["--mix", f"{request.mix_seed}:{','.join(map(str, request.mix_layers))}"]
    words += ["--psi", number(request.psi)] if request.psi != 1 else []
    words += ["--cutoff", str(request.cutoff)] if request.cutoff is not None else []
    words += ["--noise", request.noise_mode] if request.noise_mode != "const" else []
    words += ["--noise-seed", str(request.noise_seed)] if request.noise_mode == "random" else []
    words += ["--transform", ",".join(map(number, request.transform))] if request.transform else []
    words += ["--precision", request.precision] if request.precision != "auto" else []
    if request.layer:
        words += ["--layer", request.layer + _channels(request)]
    return words


def _channels(request: RenderRequest) -> str:
    """Which channels of its layer a request shows: ":3", ":3-7", or nothing for all."""
    first = request.channel
    if first is None:
        return ""
    return f":{first}" if request.channels == 1 else f":{first}-{first + request.channels - 1}"


def parse_blend(text: str) -> tuple[tuple[int, float], ...]:
    """`SEED=WEIGHT,…` -> ((seed, weight), …).

    Raises:
        UsageError: Not of this form.
    """

    def pair(part: str) -> tuple[int, float]:
        seed, weight = part.split("=")
        return int(seed), float(weight)

    return _read(
        lambda: tuple(map(pair, text.split(","))), "--blend", text, "SEED=WEIGHT,…, such as 3=0.5,4=0.5"
    )


def parse_mix(text: str) -> tuple[int, tuple[int, ...]]:
    """`SEED:LAYERS`, layers as 0,1 or 4-7 -> (seed, layers).

    Raises:
        UsageError: Not of this form.
    """

    def read() -> tuple[int, tuple[int, ...]]:
        seed, layers = text.split(":")
        spans = [[int(end) for end in part.split("-")] for part in layers.split(",")]
        if any(len(span) > 2 or span[-1] > 1000 for span in spans):
            raise ValueError
        return int(seed), tuple(layer for span in spans for layer in range(span[0], span[-1] + 1))

    return _read(read, "--mix", text, "SEED:LAYERS, such as 3:4-7,9")


def parse_transform(text: str) -> tuple[float, ...]:
    """`a,b,c,d,e,f` -> six numbers.

    Raises:
        UsageError: Not of this form.
    """
    return _read(lambda: tuple(map(float, text.split(","))), "--transform", text, "six numbers a,b,c,d,e,f")


def parse_layer(text: str) -> tuple[str, int | None, int]:
    """`NAME[:FIRST[-LAST]]` -> (name, first channel, how many); without channels (name, None, 1).

    Raises:
        UsageError: Not of this form.
    """
    name, mark, channels = text.partition(":")

    def read() -> tuple[int | None, int]:
        if not mark:
            return None, 1
        first, more, last = channels.partition("-")
        count = int(last) - int(first) + 1 if more else 1
        if count < 1:
            raise ValueError
        return int(first), count

    return name, *_read(read, "--layer", text, "NAME, NAME:CHANNEL or NAME:FIRST-LAST")


def _read(read: Callable[[], Read], option: str, text: str, expected: str) -> Read:
    try:
        return read()
    except ValueError:
        raise UsageError("cannot be read", field=option, found=repr(text), expected=expected) from None


def private_command(command: str) -> str:
    """A command as a picture may state it: without the files of latents and of the output, which may name a
    person."""
    words, after = shlex.split(command), ""
    for i, word in enumerate(words):
        option = next((f"{o}=" for o in ("--w", "--request") if word.startswith(f"{o}=")), "")
        if option or after in PRIVATE_FILES:
            ending = ".nii.gz" if word.lower().endswith(".nii.gz") else Path(word).suffix
            words[i] = f"{option}FILE{ending}"
        after = word
    return shlex.join(words)
