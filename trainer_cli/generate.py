"""`mssg generate`: images from a snapshot."""

from __future__ import annotations

import contextlib
import itertools
import math
import shlex
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import numpy as np

from mssg.errors import UsageError
from mssg.files import csv_text, write_atomically
from mssg.rendering.command_line import generate_command, private_command
from mssg.rendering.request import MAX_SEED, RenderRequest, to_uint8
from mssg.study.values import Sweep, parse_sweep, plain
from trainer_cli.common import device_option, progress
from trainer_cli.request_options import request_options, stated_request, stated_snapshot

if TYPE_CHECKING:
    from mssg.rendering.renderer import Renderer

FORMATS = (".png", ".npy", ".nii.gz", ".nii")
MAX_IMAGES = 100_000
SHOW_PROGRESS_FROM = 100
NO_PLACE = (
    "the study's images share no space, so the file states the size of a pixel alone (codes 0) and overlays"
    " nothing; an image edited with --w lies where the image does"
)


@dataclass(frozen=True)
class Plan:
    """The pictures to draw: every seed with every combination of the swept values, the last sweep fastest."""

    request: RenderRequest
    seeds: tuple[int, ...]
    sweeps: tuple[Sweep, ...]

    @property
    def requests(self) -> list[RenderRequest]:
        """One for each picture."""
        names, combinations = [s.name for s in self.sweeps], [s.values for s in self.sweeps]
        return [
            replace(
                self.request,
                seed=seed,
                covariates=(*self.request.covariates, *zip(names, values, strict=True)),
            )
            for seed in self.seeds
            for values in itertools.product(*combinations)
        ]

    @property
    def swept(self) -> dict[str, tuple[float, ...]]:
        """Values of each swept covariate."""
        return {s.name: s.values for s in self.sweeps}

    @property
    def columns(self) -> int:
        """Images side by side in a picture of several."""
        return len(self.sweeps[-1].values) if self.sweeps else math.ceil(math.sqrt(len(self.seeds)))


@click.command()
@click.argument("snapshot")
@click.option(
    "--seed",
    "seeds",
    default="0",
    show_default=True,
    metavar="S",
    help="Seed of the latent; several as 1,2,5 or 0-7.",
)
@click.option(
    "--sweep",
    multiple=True,
    metavar="NAME=LO:HI:N",
    help="Go through values of a covariate (also NAME=A,B,C, or NAME alone); repeatable.",
)
@click.option(
    "--volume",
    is_flag=True,
    help="Draw the whole head as a 3-D .nii.gz, of a study whose slices lie at many places; a sweep is the"
    " fourth axis.",
)
@click.option(
    "--resample", type=float, metavar="MM", help="With --volume: cubic voxels of this edge instead."
)
@request_options
@device_option
@click.option(
    "-o",
    "--output",
    required=True,
    metavar="FILE",
    help=(
        ".png (one picture of all images, native pixels), .npy (uint8 [N, C, H, W], with a .csv that says"
        " what each image is), or .nii.gz (a slice, or a stack over one sweep, in the study's millimetres,"
        " with a .json that says what it is)."
    ),
)
@click.option(
    "--bits",
    type=click.Choice(["8", "16"]),
    default="8",
    show_default=True,
    help="Bits of a .png; 16 keeps what 256 grey levels round off.",
)
def generate(
    snapshot: str,
    seeds: str,
    sweep: tuple[str, ...],
    volume: bool,
    resample: float | None,
    device: str,
    output: str,
    bits: str,
    **options: Any,
) -> None:
    """Draw images with SNAPSHOT; covariates in native units.

    A .png with sweeps has the last --sweep along its columns, and seeds and other sweeps along its rows. A
    .nii.gz overlays the volumes of the study's space in any viewer; a sweep is its fourth axis.
    """
    from mssg.rendering import image_files as files
    from mssg.rendering.renderer import Renderer
    from trainer_cli.common import check_suffix, say_outside, writable

    suffix = check_suffix(output, FORMATS)
    renderer = Renderer(stated_snapshot(snapshot, device, options["w"]))
    request = stated_request(renderer.study, options)
    one = request.latent or request.blend or options["request"]
    plan = _plan(renderer, request, (request.seed,) if one else parse_seeds(seeds), sweep)
    path = writable(output)
    if bits == "16" and suffix != ".png":
        raise UsageError("only a .png has 8 or 16 bits", field="--bits", found=suffix)
    if resample is not None and not volume:
        raise UsageError("only a volume is resampled", field="--resample", hint="Add --volume")
    if suffix in files.NIFTI_SUFFIXES:
        files.check_nifti(renderer.header, plan.sweeps, len(plan.seeds), request.layer)
    elif volume:
        raise UsageError("a volume is a .nii.gz or .nii", field="--output", found=suffix)
    if volume:
        _draw_volume(renderer, plan, path, resample)
        say_outside(renderer.header, dict(plan.request.covariates) | plan.swept)
        return
    if suffix == ".npy":
        _write_array(path, renderer, plan)
    elif suffix in files.NIFTI_SUFFIXES:
        _write_nifti(path, renderer, plan, snapshot)
    else:
        _write_png(path, renderer, plan, snapshot, bits=int(bits))
    say_outside(renderer.header, dict(plan.request.covariates) | plan.swept)


def _write_array(path: Path, renderer: Renderer, plan: Plan) -> None:
    """Write the pictures as an array, and a table of what each is."""
    images = _drawn(renderer, plan.requests, np.float32 if plan.request.layer else np.uint8)
    write_atomically(path, lambda file: np.save(file, images), UsageError)
    table = path.with_suffix(".csv")
    _write_table(table, renderer, plan.requests)
    click.echo(f"{path}: {images.dtype} {list(images.shape)}; {table}: what each image is")


def _write_nifti(path: Path, renderer: Renderer, plan: Plan, snapshot: str) -> None:
    """Write a slice, or a stack along a sweep, with its sidecar."""
    from mssg.rendering import image_files as files

    requests = plan.requests
    images = files.to_grey(_drawn(renderer, requests, np.float32), plan.request.layer is not None)
    along = plan.sweeps[0] if plan.sweeps else None
    stated = [_values(renderer, r) for r in requests]
    command = _metadata(renderer, requests, snapshot, path)["Command"]
    sidecar = files.save_nifti(path, images, renderer.header, requests, stated, along, command)
    size = f"{len(images)} of {images.shape[3]} x {images.shape[2]} pixels"
    click.echo(f"{path}: {size}; {sidecar}: what it is")
    if not files.place_of(renderer.header, plan.request).code:
        click.echo(f"Note: {NO_PLACE}.", err=True)


def _write_png(path: Path, renderer: Renderer, plan: Plan, snapshot: str, bits: int) -> None:
    """Write the pictures as one, native pixels."""
    from mssg.rendering import image_files as files

    requests, layer, columns = plan.requests, plan.request.layer, plan.columns
    images = files.to_grey(_drawn(renderer, requests, np.float32), layer is not None)
    if layer and images.shape[1] > 1:  # channels side by side, as many pictures
        columns = math.ceil(math.sqrt(images.shape[1])) if len(images) == 1 else images.shape[1]
        images = images.reshape(-1, 1, *images.shape[2:])
    files.save_png(path, images, columns, _metadata(renderer, requests, snapshot, path), bits)
    rows = math.ceil(len(images) / columns)
    shape = f"{rows} x {columns} images" if len(images) > 1 else "1 image"
    click.echo(f"{path}: {shape} of {images.shape[3]} x {images.shape[2]} pixels")


def _draw_volume(renderer: Renderer, plan: Plan, path: Path, resample: float | None) -> None:
    """Draw a whole head, or one for each value of a sweep, and write it."""
    from mssg.rendering import volume

    study, sweep = renderer.study, next(iter(plan.sweeps), None)
    position = volume.check_volume(study)
    if len(plan.seeds) > 1:
        raise UsageError("a volume has one seed", field="--seed", found=len(plan.seeds), expected="one")
    if position in dict(plan.request.covariates) | plan.swept:
        raise UsageError("a volume has every place", field=position, hint="Leave it out, or --volume")
    heads = plan.requests
    total = len(heads) * len(volume.places_of(study, renderer.header.summary))
    with progress(total, "Drawing slices") as tell:
        head = volume.draw_volume(renderer, heads[0], sweep, tell)
    if resample is not None:
        head = volume.resampled(head, resample)
    stated = [_values(renderer, r) for r in heads]
    command = private_command(shlex.join(["mssg", *sys.argv[1:]]))
    sidecar = volume.save_volume(path, head, renderer.header, heads[0], stated, sweep, command)
    first, last, _ = head.places
    shape = " x ".join(map(str, head.data.shape))
    click.echo(f"{path}: {shape} voxels, slices from {first:g} to {last:g} mm; {sidecar}: what it is")


def parse_seeds(text: str) -> tuple[int, ...]:
    """ "7", "1,2,5" or "0-7" -> seeds.

    Raises:
        UsageError: Not whole numbers in range, or too many.
    """
    seeds: list[int] = []
    for part in text.split(","):
        first, mark, last = part.strip().partition("-")
        if not first.isdecimal() or (mark and not last.isdecimal()):
            raise UsageError("not a seed", field="--seed", found=repr(text), expected="7, or 1,2,5, or 0-7")
        low, high = int(first), int(last or first)
        if not 0 <= low <= high <= MAX_SEED or high - low >= MAX_IMAGES:
            raise UsageError(
                "seeds out of range", field="--seed", found=repr(text), expected=f"0 to {MAX_SEED}, rising"
            )
        seeds += range(low, high + 1)
    return tuple(seeds)


def _plan(renderer: Renderer, request: RenderRequest, seeds: tuple[int, ...], texts: tuple[str, ...]) -> Plan:
    sweeps = tuple(parse_sweep(renderer.study, text, summary=renderer.header.summary) for text in texts)
    names = [*(name for name, _ in request.covariates), *(s.name for s in sweeps)]
    for name in names:
        if names.count(name) > 1:
            raise UsageError("given twice", field=name, hint="Fix a covariate or sweep it once")
    count = len(seeds) * math.prod(len(s.values) for s in sweeps)
    if count > MAX_IMAGES:
        raise UsageError("too many images for one file", found=count, expected=f"{MAX_IMAGES} at most")
    return Plan(request, seeds, sweeps)


def _drawn(renderer: Renderer, requests: list[RenderRequest], dtype: type) -> np.ndarray:
    """Pictures of the requests [N, C, H, W]: grey levels (np.uint8), or the network's own (np.float32)."""
    hide = len(requests) < SHOW_PROGRESS_FROM or not sys.stderr.isatty()
    bar = contextlib.nullcontext(requests)
    if not hide:
        bar = click.progressbar(requests, label="Drawing", file=sys.stderr)
    out: np.ndarray | None = None
    with bar as shown:
        for i, image in enumerate(renderer.pictures(shown)):
            out = np.empty((len(requests), *image.shape), dtype) if out is None else out
            out[i] = to_uint8(image) if dtype is np.uint8 else image
    assert out is not None
    return out


def _values(renderer: Renderer, request: RenderRequest) -> dict[str, float]:
    """All conditions of a picture, those that took their default included; for a bare latent w there are
    none."""
    if request.latent:
        return request.latent.edited(renderer.study.condition_names, request.covariates)
    return dict(zip(renderer.study.condition_names, renderer.values(request.covariates).tolist()))


def _stated(renderer: Renderer, request: RenderRequest) -> dict[str, str]:
    """The same as words."""
    return {n: plain(renderer.study.covariate(n), v) for n, v in _values(renderer, request).items()}


def _write_table(path: Path, renderer: Renderer, requests: list[RenderRequest]) -> None:
    rows = [{"index": i, "seed": r.seed, **_stated(renderer, r)} for i, r in enumerate(requests)]
    write_atomically(path, csv_text(list(rows[0]), (row.values() for row in rows)), UsageError)


def _metadata(renderer: Renderer, requests: list[RenderRequest], snapshot: str, path: Path) -> dict[str, str]:
    from mssg.rendering.image_files import png_text

    command = (
        generate_command(requests[0], renderer.study, snapshot, str(path))
        if len(requests) == 1
        else shlex.join(["mssg", *sys.argv[1:]])
    )
    stated = [_values(renderer, r) for r in requests]
    return png_text(renderer.header, requests, stated, private_command(command))
