"""`mssg generate`: images from a snapshot."""

from __future__ import annotations

import contextlib
import csv
import itertools
import json
import math
import shlex
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click
import numpy as np

from mssg.errors import UsageError
from mssg.rendering.request import (
    MAX_SEED,
    NOISE_MODES,
    RenderRequest,
    Sweep,
    parse_sweep,
    parse_values,
    plain,
    private_command,
    to_uint8,
)
from trainer_cli.common import device_option

if TYPE_CHECKING:
    from mssg.rendering.renderer import Renderer

FORMATS = (".png", ".npy", ".nii.gz", ".nii")
MAX_IMAGES = 100_000
SHOW_PROGRESS_FROM = 100


@dataclass(frozen=True)
class Plan:
    """The pictures to draw: every seed with every combination of the swept values, the last sweep fastest."""

    seeds: tuple[int | None, ...]
    fixed: dict[str, float]
    sweeps: tuple[Sweep, ...]

    @property
    def covariates(self) -> list[dict[str, float]]:
        """Stated covariates of each combination."""
        combinations = itertools.product(*(s.values for s in self.sweeps))
        return [self.fixed | dict(zip((s.name for s in self.sweeps), values)) for values in combinations]

    @property
    def columns(self) -> int:
        """Images side by side in a picture of several."""
        count = len(self.seeds) * len(self.covariates)
        return len(self.sweeps[-1].values) if self.sweeps else math.ceil(math.sqrt(count))


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
    "--fix",
    multiple=True,
    metavar="NAME=VALUE",
    help=(
        "A covariate's value in native units; repeatable. Default: the training median, or the most frequent"
        " level."
    ),
)
@click.option(
    "--sweep",
    multiple=True,
    metavar="NAME=LO:HI:N",
    help="Go through values of a covariate (also NAME=A,B,C, or NAME alone); repeatable.",
)
@click.option(
    "--w",
    "w_path",
    metavar="FILE",
    help="Draw the latent w of a file of `mssg invert` instead of a seed; --fix and --sweep edit its image.",
)
@click.option("--psi", default=1.0, show_default=True, help="Truncation: 1 = none, 0 = the average image.")
@click.option("--cutoff", type=click.IntRange(0), help="Truncate only the first so many layers.")
@click.option(
    "--noise",
    type=click.Choice(NOISE_MODES),
    default="const",
    show_default=True,
    help="Noise inputs of StyleGAN2: as trained, drawn anew, or none.",
)
@click.option(
    "--noise-seed",
    default=0,
    show_default=True,
    type=click.IntRange(0, MAX_SEED),
    help="Seed of --noise random.",
)
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
    fix: tuple[str, ...],
    sweep: tuple[str, ...],
    w_path: str | None,
    psi: float,
    cutoff: int | None,
    noise: str,
    noise_seed: int,
    device: str,
    output: str,
    bits: str,
) -> None:
    """Draw images with SNAPSHOT; covariates in native units.

    A .png with sweeps has the last --sweep along its columns, and seeds and other sweeps along its rows. A
    .nii.gz overlays the volumes of the study's space in any viewer; a sweep is its fourth axis.
    """
    from mssg.checkpoint.snapshot import load_snapshot
    from mssg.rendering import image_files as files
    from mssg.rendering.renderer import Renderer
    from mssg.rendering.request import outside_training
    from trainer_cli.common import check_suffix, checked_device, writable

    suffix = check_suffix(output, FORMATS)
    renderer = Renderer(load_snapshot(snapshot, checked_device(device)))
    study, summary = renderer.study, renderer.header.summary
    plan = _plan(renderer, (None,) if w_path else parse_seeds(seeds), parse_values(study, fix), sweep)
    path = writable(output)
    if bits == "16" and suffix != ".png":
        raise UsageError("only a .png has 8 or 16 bits", field="--bits", found=suffix)
    if suffix in files.NIFTI_SUFFIXES:
        files.check_nifti(renderer.header, plan.sweeps, len(plan.seeds))
    requests = [
        RenderRequest(
            seed=seed,
            w_path=w_path,
            covariates=tuple(values.items()),
            psi=psi,
            cutoff=cutoff,
            noise_mode=noise,
            noise_seed=noise_seed,
        )
        for seed in plan.seeds
        for values in plan.covariates
    ]
    images = draw(renderer, requests, np.uint8 if suffix == ".npy" else np.float32)
    for note in outside_training(study, summary, plan.fixed | {s.name: s.values for s in plan.sweeps}):
        click.echo(f"Note: {note}.", err=True)
    if suffix == ".npy":
        np.save(path, images)
        table = path.with_suffix(".csv")
        _write_table(table, renderer, requests)
        click.echo(f"{path}: uint8 {list(images.shape)}; {table}: what each image is")
        return
    images, metadata = files.to_grey(images), _metadata(renderer, requests, snapshot, path)
    if suffix in files.NIFTI_SUFFIXES:
        sweep_along = plan.sweeps[0] if plan.sweeps else None
        stated = [_values(renderer, r) for r in requests]
        sidecar = files.save_nifti(
            path, images, renderer.header, requests, stated, sweep_along, metadata["Command"]
        )
        click.echo(
            f"{path}: {len(images)} of {images.shape[3]} x {images.shape[2]} pixels; {sidecar}: what it is"
        )
        return
    files.save_png(path, images, plan.columns, metadata, int(bits))
    shape = (
        f"{math.ceil(len(images) / plan.columns)} x {plan.columns} images" if len(images) > 1 else "1 image"
    )
    click.echo(f"{path}: {shape} of {images.shape[3]} x {images.shape[2]} pixels")


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


def _plan(
    renderer: Renderer, seeds: tuple[int | None, ...], fixed: dict[str, float], texts: tuple[str, ...]
) -> Plan:
    sweeps = tuple(parse_sweep(renderer.study, text, summary=renderer.header.summary) for text in texts)
    names = [*fixed, *(s.name for s in sweeps)]
    for name in names:
        if names.count(name) > 1:
            raise UsageError("given twice", field=name, hint="Fix a covariate or sweep it once")
    plan = Plan(seeds, fixed, sweeps)
    count = len(seeds) * math.prod(len(s.values) for s in sweeps)
    if count > MAX_IMAGES:
        raise UsageError("too many images for one file", found=count, expected=f"{MAX_IMAGES} at most")
    return plan


def draw(renderer: Renderer, requests: list[RenderRequest], dtype: type = np.uint8) -> np.ndarray:
    """Images of the requests [N, C, H, W]; many at a time where they differ in seed and covariates only.

    Args:
        renderer: Draws them.
        requests: What to draw.
        dtype: np.uint8 for grey levels, np.float32 for the generator's own range.

    Raises:
        UsageError: A request that cannot be carried out.
    """
    first = requests[0]
    if first.w_path is None and first.noise_mode != "random":
        values = np.stack([renderer.values(r.covariates) for r in requests])
        seeds = [r.seed or 0 for r in requests]
        hide = len(requests) < SHOW_PROGRESS_FROM or not sys.stderr.isatty()
        bar = (
            contextlib.nullcontext()
            if hide
            else click.progressbar(length=len(requests), label="Drawing", file=sys.stderr)
        )
        with bar as shown:
            progress = shown.update if shown else None
            return renderer.images(
                values, seeds, first.psi, first.cutoff, first.noise_mode, dtype=dtype, progress=progress
            )
    out = []
    for request in requests:
        result = renderer.render(request)
        if result.image is None:
            raise UsageError(result.error or "nothing was drawn")
        out.append(to_uint8(result.image) if dtype is np.uint8 else result.image)
    return np.stack(out)


def _values(renderer: Renderer, request: RenderRequest) -> dict[str, float]:
    """All conditions of a picture, those that took their default included; for a bare latent w there are
    none."""
    if request.w_path:
        return renderer.latent_values(request)
    return dict(zip(renderer.study.condition_names, renderer.values(request.covariates).tolist()))


def _stated(renderer: Renderer, request: RenderRequest) -> dict[str, str]:
    """The same as words."""
    return {n: plain(renderer.study.covariate(n), v) for n, v in _values(renderer, request).items()}


def _write_table(path: Path, renderer: Renderer, requests: list[RenderRequest]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        rows = [{"index": i, "seed": r.seed, **_stated(renderer, r)} for i, r in enumerate(requests)]
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def _metadata(renderer: Renderer, requests: list[RenderRequest], snapshot: str, path: Path) -> dict[str, str]:
    first = requests[0]
    command = (
        first.command(renderer.study, snapshot, str(path))
        if len(requests) == 1
        else shlex.join(["mssg", *sys.argv[1:]])
    )
    covariates = [_stated(renderer, r) for r in requests]
    return {
        "Snapshot": renderer.header.snapshot_id,
        "Seed": ", ".join(dict.fromkeys(str(r.seed) for r in requests)),
        "Covariates": json.dumps(covariates[0] if len(requests) == 1 else covariates),
        "Command": private_command(command),
        "Software": "mssg",
    }
