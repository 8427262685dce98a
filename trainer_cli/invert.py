"""`mssg invert`: a real image as a latent, for counterfactuals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mssg.errors import UsageError
from trainer_cli.common import device_option, seed_option

if TYPE_CHECKING:
    from mssg.checkpoint.snapshot import Snapshot
    from mssg.inversion.latent_file import InvertedImage
    from mssg.inversion.many import Outcome
    from mssg.inversion.projector import InvertConfig
    from mssg.inversion.volume_slice import CuttingRules
    from mssg.study.model import Study


@click.command()
@click.argument("images", nargs=-1, required=True, metavar="IMAGE | SOURCE | FOLDER | FILES…")
@click.option(
    "--snapshot",
    required=True,
    metavar="SNAPSHOT",
    help="A .safetensors file, a run's folder (its newest) or a shipped name.",
)
@click.option(
    "-o",
    "--output",
    metavar="FILE",
    help="File to write for one IMAGE: .safetensors. An unfinished one of the same task is continued.",
)
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder to write for many images, and for the table inversions.csv; what is there is kept.",
)
@click.option(
    "--fix",
    multiple=True,
    metavar="NAME=VALUE",
    help="A covariate of the image in native units; repeatable. What is not stated is read off the image.",
)
@click.option(
    "--predictor",
    metavar="FILE",
    help=(
        "Predictor (`mssg predictors`) that reads covariates nobody stated; without it the study's instrument"
        " or the discriminator does."
    ),
)
@click.option(
    "--space",
    type=click.Choice(["w", "w+"]),
    default="w+",
    show_default=True,
    help="One residual for all layers, or one for each.",
)
@click.option(
    "--steps", default=400, show_default=True, type=click.IntRange(1), help="Steps of the optimiser."
)
@click.option(
    "--features",
    default="discriminator",
    show_default=True,
    help=(
        "What sees the image beside its pixels: discriminator (the snapshot's own), efficientnet_lite0,"
        " lpips-alex, lpips-vgg, lpips-squeeze, inception, a TorchScript file, a predictor's file, or none."
    ),
)
@click.option(
    "--weights",
    metavar="FILE",
    help="Weights of an LPIPS trunk (never downloaded), or of inception instead of downloading them.",
)
@click.option(
    "--free-noise",
    is_flag=True,
    help="Also fit StyleGAN2's noise inputs: closer to the image, worse for editing.",
)
@seed_option("Of the starting points and of the noise of the search.")
@click.option(
    "--at",
    type=float,
    metavar="MM",
    help="Where whole volumes are cut, in the study's millimetres. Default: the study's own place.",
)
@click.option(
    "--at-brain",
    is_flag=True,
    help=(
        "Lay the middle of a volume's brain over that of the study's slice. Default: the space they share, or"
        " the middle of the field of view."
    ),
)
@click.option(
    "--assume-las",
    is_flag=True,
    help="Take a NIfTI file that states no orientation as stored from right to left.",
)
@click.option("--restart", is_flag=True, help="Start anew, whatever FILE holds.")
@device_option
def invert(
    images: tuple[str, ...],
    snapshot: str,
    output: str | None,
    out: Path | None,
    fix: tuple[str, ...],
    predictor: str | None,
    at: float | None,
    at_brain: bool,
    assume_las: bool,
    restart: bool,
    device: str,
    **search: Any,
) -> None:
    """Find the latent w of a real IMAGE (.png, .jpg, .npy, .nii.gz, .mgz; whole volumes are cut), so that its
    covariates can be edited; or those of many, of a prepared SOURCE, a FOLDER or FILES, with --out.

    Then: `mssg figure counterfactuals FILE --snapshot SNAPSHOT -o PICTURE`, or
    `mssg generate SNAPSHOT --w FILE --fix NAME=VALUE -o PICTURE`. Ctrl-C keeps the best so far in FILE; the
    same command continues. FILE holds the image: treat it like the image itself.
    """
    from mssg.data.nifti import VolumeRules
    from mssg.inversion.projector import InvertConfig
    from mssg.inversion.volume_slice import CuttingRules

    if (output is None) == (out is None) or (output and len(images) > 1):
        expected = "-o FILE for one image, or --out DIR for many"
        raise UsageError("where to write?", field="-o, --out", expected=expected)
    rules = CuttingRules(at, at_brain, reading=VolumeRules(assume_las=assume_las))
    config = InvertConfig(**search)
    how: dict[str, Any] = {"fix": fix, "predictor": predictor, "rules": rules, "device": device}
    if out is not None:
        _many(images, snapshot, out, config=config, **how)
    else:
        _one(next(iter(images)), snapshot, str(output), config=config, restart=restart, **how)


def _one(
    image: str,
    snapshot: str,
    output: str,
    *,
    fix: tuple[str, ...],
    predictor: str | None,
    config: InvertConfig,
    rules: CuttingRules,
    device: str,
    restart: bool,
) -> None:
    """Invert one image, and say how near its reconstruction comes."""
    from mssg.features.predictors import Predictor
    from mssg.inversion.image_reader import read_image
    from mssg.inversion.latent_file import InvertedImage
    from mssg.inversion.volume_slice import is_volume
    from mssg.study.values import parse_values
    from trainer_cli.common import check_suffix, say_outside, writable
    from trainer_cli.request_options import stated_snapshot

    check_suffix(output, (".safetensors",))
    path = writable(output)
    # what was begun with a snapshot of a run goes on with it, whatever the run has written since
    loaded = stated_snapshot(snapshot, device, output if path.is_file() and not restart else None)
    study = loaded.study
    rules = of_places(loaded, rules)
    picture, place = read_image(image, study, rules)
    given = (rules.position(study) if is_volume(image, rules.reading) else {}) | parse_values(study, fix)
    reader = Predictor.load(predictor, loaded.device) if predictor else None
    task = InvertedImage.to_do(loaded, picture, given, config, predictor=reader, place=place)
    values, how = task.inversion.values, task.how
    before = _earlier(path, task, restart)
    for covariate, value in zip(study.conditions, values[0]):
        worth = reader.worth(covariate.name) if reader and how[covariate.name] == "predictor" else ""
        click.echo(f"{covariate.name:<16}{covariate.format(value):<16}{how[covariate.name]}{worth}")
    say_outside(loaded.header, dict(zip(study.condition_names, values[0])))
    done = before if before and before.finished else _search(loaded, task, before, path)
    _say(loaded, done, path)


def _many(
    images: tuple[str, ...],
    snapshot: str,
    out: Path,
    *,
    fix: tuple[str, ...],
    predictor: str | None,
    config: InvertConfig,
    rules: CuttingRules,
    device: str,
) -> None:
    """Invert many images into a folder, and say what came of them."""
    from mssg.checkpoint.snapshot import load_snapshot
    from mssg.features.predictors import Predictor
    from mssg.files import make_folder
    from mssg.inversion.many import find_images, invert_many
    from mssg.ops.device import checked_device
    from mssg.processes import asked_to_stop
    from mssg.study.values import parse_values
    from trainer_cli.common import progress

    loaded = load_snapshot(snapshot, checked_device(device))
    found = find_images([Path(image) for image in images], loaded.study, of_places(loaded, rules))
    given = parse_values(loaded.study, fix)
    reader = Predictor.load(predictor, loaded.device) if predictor else None
    make_folder(out, UsageError)
    with progress(len(found) * config.steps, "Inverting") as tell, asked_to_stop() as interrupted:
        outcomes = list(
            invert_many(
                loaded,
                found,
                out,
                given,
                config=config,
                predictor=reader,
                progress=tell,
                stop=interrupted.is_set,
            )
        )
    _finish(out, loaded.study, outcomes, len(found))


def _finish(out: Path, study: Study, outcomes: Sequence[Outcome], images: int) -> None:
    """Write the table of what came of images, and say the main of it."""
    from mssg.files import csv_text, write_atomically
    from mssg.inversion.many import outcome_table
    from trainer_cli.common import INTERRUPTED

    header, rows = outcome_table(study, outcomes)
    write_atomically(out / "inversions.csv", csv_text(header, rows), UsageError)
    done = [outcome for outcome in outcomes if outcome.done]
    click.echo(f"{out}: {len(done)} of {images} images inverted; {out / 'inversions.csv'}: what came of each")
    for outcome in [o for o in outcomes if o.problem][:3]:
        click.echo(f"  {outcome.image.origin}: {outcome.problem}", err=True)
    if len(outcomes) < images:
        click.echo("Stopped; the same command continues.", err=True)
        raise SystemExit(INTERRUPTED)
    if not done:
        raise UsageError("no image could be inverted", file=out / "inversions.csv", hint="It says why")


def of_places(loaded: Snapshot, rules: CuttingRules) -> CuttingRules:
    """The rules for a snapshot whose slices lie at many places."""
    from mssg.rendering.volume import places_of

    study = loaded.study
    places = places_of(study, loaded.header.summary) if study.position else ()
    return replace(rules, places=tuple(float(place) for place in places))


def _earlier(path: Path, task: InvertedImage, restart: bool) -> InvertedImage | None:
    """What FILE holds of the same task.

    Raises:
        UsageError: It holds something else.
    """
    from mssg.inversion.latent_file import InvertedImage

    if restart or not path.exists():
        return None
    hint = "Choose another file, or replace it with --restart"
    try:
        before = InvertedImage.load(path)
    except UsageError as error:
        raise UsageError(error.message, file=path, found=error.found, hint=hint) from None
    if not before.same_task(task):
        raise UsageError(
            "holds another inversion (image, snapshot, covariates or settings differ)", file=path, hint=hint
        )
    return before


def _search(loaded: Snapshot, task: InvertedImage, before: InvertedImage | None, path: Path) -> InvertedImage:
    """Invert, show progress, save; stop at an interruption."""
    from mssg.inversion.latent_file import search
    from mssg.processes import asked_to_stop
    from trainer_cli.common import INTERRUPTED, progress

    start = before.inversion.steps if before else 0
    if start:
        click.echo(f"{path}: continuing at step {start}", err=True)
    with progress(task.config.steps - start, "Inverting") as tell, asked_to_stop() as interrupted:

        def after(step: int) -> bool:
            tell(1)
            return interrupted.is_set()

        done = search(loaded, task, before, after)
    done.save(path)
    if not done.finished:
        click.echo(
            f"{path}: stopped at step {done.inversion.steps} of {task.config.steps}; the best so far"
            " is saved, the same command continues",
            err=True,
        )
        raise SystemExit(INTERRUPTED)
    return done


def _say(loaded: Snapshot, done: InvertedImage, path: Path) -> None:
    from mssg.metrics.pairwise import WINDOW, psnr, ssim
    from mssg.rendering.renderer import Renderer
    from mssg.rendering.request import RenderRequest, to_uint8

    request = RenderRequest(latent=done.stored_latent(str(path)))
    drawn = to_uint8(next(Renderer(loaded).pictures([request])))[None]
    alike = f"PSNR {psnr(done.image[None], drawn)[0]:.1f} dB"
    if min(drawn.shape[2:]) >= WINDOW:
        alike += f", SSIM {ssim(done.image[None], drawn)[0]:.3f}"
    click.echo(
        f"{path}: w {list(done.w.shape)}, {done.inversion.steps} steps, {alike} between image and"
        " reconstruction"
    )
