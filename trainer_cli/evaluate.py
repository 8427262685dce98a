"""`mssg evaluate`: everything that can be measured of snapshots, as one eval.json."""

from __future__ import annotations

import shlex
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from trainer_cli.common import device_option, say

if TYPE_CHECKING:
    from mssg.checkpoint.snapshot import Snapshot
    from mssg.metrics.results import Evaluation
    from mssg.study.model import Study

QUIET_SECONDS = 10.0
"""Between two lines of progress where there is no terminal."""


@click.command()
@click.argument("snapshots", nargs=-1, required=True, metavar="[LABEL=]SNAPSHOT|RUN ...")
@click.option(
    "--study",
    "study_path",
    metavar="STUDY.toml",
    help="Whose real images to compare with. Default: the run's own study.",
)
@click.option(
    "--metrics",
    default="default",
    show_default=True,
    metavar="NAMES",
    help="Comma-separated; `default` and `all` stand for many. See `mssg evaluate --list`.",
)
@click.option(
    "--list",
    "show",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=lambda ctx, _, value: _list(ctx) if value else None,
    help="List the metrics and exit.",
)
@click.option(
    "--split", default="test", show_default=True, help="Split of the real images: train, val or test."
)
@click.option(
    "--features",
    default="efficientnet_lite0",
    show_default=True,
    help="efficientnet_lite0 (offline), inception, a TorchScript file, or a predictor's .safetensors.",
)
@click.option(
    "--weights", metavar="FILE", help="Weights of --features inception, instead of downloading them."
)
@click.option(
    "--predictor",
    "predictors",
    multiple=True,
    metavar="FILE",
    help="Predictor of `mssg predictors`, for covariates that no oracle reads; repeatable.",
)
@click.option(
    "--images",
    type=click.IntRange(2),
    help="Images drawn for the whole split. Default: as many as are real, 1,000 to 10,000.",
)
@click.option(
    "--per-stratum",
    default=500,
    show_default=True,
    type=click.IntRange(2),
    help="Images drawn for each stratum (10,000 in the paper).",
)
@click.option(
    "--by",
    default="",
    metavar="NAMES",
    help="Covariates that form the strata, comma-separated. Default: all.",
)
@click.option(
    "--bins",
    default=3,
    show_default=True,
    type=click.IntRange(2),
    help="Quantile bins of a continuous covariate.",
)
@click.option(
    "--min-count",
    default=5,
    show_default=True,
    type=click.IntRange(1),
    help="Real images a stratum must have.",
)
@click.option(
    "--control-images",
    default=1000,
    show_default=True,
    type=click.IntRange(10),
    help="Images a control design and covariate.",
)
@click.option(
    "--leakage-images",
    default=500,
    show_default=True,
    type=click.IntRange(2),
    help="Images each covariate is moved on.",
)
@click.option(
    "--smooth-images",
    default=500,
    show_default=True,
    type=click.IntRange(2),
    help="Images for path length and equivariance.",
)
@click.option(
    "--counterfactual-images",
    default=32,
    show_default=True,
    type=click.IntRange(8),
    help="Real images that are inverted and edited.",
)
@click.option(
    "--invert-steps", default=200, show_default=True, type=click.IntRange(1), help="Steps of each inversion."
)
@click.option(
    "--invert-features",
    default="discriminator",
    show_default=True,
    help="What sees the image beside its pixels, as in `mssg invert --features`.",
)
@click.option(
    "--memorisation-images",
    default=1000,
    show_default=True,
    type=click.IntRange(2),
    help="Generated images that are searched for copies of training images.",
)
@click.option(
    "--utility-images",
    type=click.IntRange(32),
    help="Images a predictor is trained on for utility. Default: as many as are real.",
)
@click.option(
    "--utility-epochs",
    default=10,
    show_default=True,
    type=click.IntRange(1),
    help="Passes over them at most.",
)
@click.option(
    "--kid-subset",
    type=click.IntRange(2),
    help="Rows of a KID subset. Default: what fits every source and half of its real images.",
)
@click.option(
    "--lpips", "lpips_net", default="alex", show_default=True, help="Trunk of LPIPS: alex, vgg or squeeze."
)
@click.option(
    "--lpips-weights",
    metavar="FILE",
    help="Its ImageNet weights, where torch's cache does not hold them; nothing is downloaded.",
)
@click.option(
    "--blind",
    default="",
    metavar="NAMES",
    help=(
        "Also evaluate the first SNAPSHOT without telling it each of these covariates: what ignoring it"
        " scores."
    ),
)
@click.option(
    "--all-snapshots",
    is_flag=True,
    help="Every snapshot of a RUN, not only its newest: for `mssg figure curves`.",
)
@click.option(
    "--seed",
    default=0,
    show_default=True,
    type=click.IntRange(0, 2**32 - 1),
    help="Of everything drawn: equal seeds give equal numbers.",
)
@device_option
@click.option(
    "--memory-gb",
    default=4.0,
    show_default=True,
    type=click.FloatRange(0.1),
    help="Memory the generator may take; decides how many images it draws at a time.",
)
@click.option(
    "--cache",
    type=click.Path(file_okay=False),
    help="Where readings of real images are kept. Default: the user's cache folder.",
)
@click.option(
    "--add",
    is_flag=True,
    help="Add to FILE if it is there: results about the same are replaced, others stay.",
)
@click.option("-o", "--output", required=True, metavar="FILE", help="The eval.json to write.")
def evaluate(
    snapshots: tuple[str, ...],
    study_path: str | None,
    metrics: str,
    split: str,
    features: str,
    weights: str | None,
    predictors: tuple[str, ...],
    images: int | None,
    per_stratum: int,
    by: str,
    bins: int,
    min_count: int,
    control_images: int,
    leakage_images: int,
    smooth_images: int,
    counterfactual_images: int,
    invert_steps: int,
    invert_features: str,
    memorisation_images: int,
    utility_images: int | None,
    utility_epochs: int,
    kid_subset: int | None,
    lpips_net: str,
    lpips_weights: str | None,
    blind: str,
    all_snapshots: bool,
    seed: int,
    device: str,
    memory_gb: float,
    cache: str | None,
    add: bool,
    output: str,
) -> None:
    """Measure SNAPSHOTs side by side against the real images of a study, and write one eval.json.

    Interrupted, the same command continues where it was. Under torchrun the processes share the drawing.
    """
    from mssg.checkpoint.snapshot import load_snapshot
    from mssg.features.extractors import load_features
    from mssg.metrics.evaluation import FROM_FEATURES, Evaluator, Options
    from mssg.metrics.evaluation import evaluate as measure
    from mssg.metrics.frame import contender, instruments, open_frame
    from mssg.metrics.results import Evaluation
    from mssg.metrics.sampling import Bench, Store, chunk_for
    from mssg.ops.device import checked_device
    from mssg.training.distributed import joined
    from trainer_cli.common import check_suffix, writable

    check_suffix(output, (".json",))
    path = writable(output)
    old = Evaluation.load(path) if add and path.exists() else None  # a damaged file is found before the work
    options = Options(
        _metrics(metrics),
        seed,
        images,
        per_stratum,
        _names(by),
        bins,
        min_count,
        control_images,
        leakage_images,
        smooth_images,
        kid_subset,
        (lpips_net, lpips_weights),
        counterfactual_images,
        invert_steps,
        invert_features,
        memorisation_images,
        utility_images,
        utility_epochs,
    )
    with joined(checked_device(device)) as world:
        named = _expanded(snapshots, all_snapshots)
        loaded = [load_snapshot(file, world.device) for _, file in named]
        frame, notes = open_frame(_study(study_path, snapshots), split, loaded)
        labels = _labels(named, loaded)
        models = [contender(label, s, frame.study, memory_gb) for label, s in zip(labels, loaded)]
        models += [
            contender(f"{name} not told", loaded[0], frame.study, memory_gb, (name,))
            for name in _names(blind)
        ]
        readers, more = instruments(frame.study, predictors, world.device)
        network = (
            load_features(features, weights, world.device) if set(options.metrics) & FROM_FEATURES else None
        )
        parts = Store(path.with_name(path.name + ".parts"))
        real = Store(Path(cache) if cache else _cache())
        bench = Bench(parts, real, chunk_for(frame.study), world.device, world, _teller())
        if old:
            old.check_goes_with(frame.study.name, split, seed, [m.model for m in models])
        evaluator = Evaluator(frame, bench, options, readers, network, [*notes, *more])
        found = measure(evaluator, models, shlex.join(["mssg", *_arguments()]))
        world.barrier()  # nobody needs the parts any more
        if world.is_main:
            _finish(old.extended(found) if old else found, path)
            parts.clear()


def _list(ctx: click.Context) -> None:
    from mssg.metrics.evaluation import DEFAULT, METRICS

    for name, text in METRICS.items():
        click.echo(f"{name:<13} {text}" + ("" if name in DEFAULT else "  (not by default)"))
    ctx.exit()


def _names(text: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(word.strip() for word in text.split(",") if word.strip()))


def _metrics(text: str) -> tuple[str, ...]:
    from mssg.metrics.evaluation import DEFAULT, METRICS

    groups = {"default": DEFAULT, "all": tuple(METRICS)}
    return tuple(dict.fromkeys(name for word in _names(text) for name in groups.get(word, (word,))))


def _split(text: str) -> tuple[str, str]:
    """LABEL=SNAPSHOT, where that is no file's name."""
    label, equals, name = text.partition("=")
    return (label, name) if equals and label and not Path(text).exists() else ("", text)


def _expanded(snapshots: Sequence[str], every: bool) -> list[tuple[str, Path]]:
    """(label or "", file) of everything to evaluate."""
    from mssg.checkpoint.header import resolve_snapshot
    from mssg.errors import UsageError
    from mssg.runs.folder import RunFolder, kimg_of

    out: list[tuple[str, Path]] = []
    for text in snapshots:
        label, name = _split(text)
        if every and Path(name).is_dir():
            files = RunFolder(Path(name)).snapshot_files()
            if not files:
                raise UsageError("this run has no snapshot yet", file=name)
            out += [(f"{label or Path(name).resolve().name} {kimg_of(f):.0f} kimg", f) for f in files]
        else:
            out.append((label, resolve_snapshot(name)))
    return out


def _labels(named: Sequence[tuple[str, Path]], loaded: Sequence[Snapshot]) -> list[str]:
    """Labels as given; for those without, the study's name, made unique."""
    from mssg.errors import UsageError

    out: list[str] = []
    for (label, _), snapshot in zip(named, loaded):
        if label in out:
            raise UsageError(
                "two models have this label", field=label, hint="Give each its own LABEL=SNAPSHOT"
            )
        name = snapshot.study.name
        candidates = [label] if label else [name, *(f"{name} {i}" for i in range(2, len(named) + 2))]
        out.append(next(c for c in candidates if c not in out))
    return out


def _study(path: str | None, snapshots: Sequence[str]) -> Study:
    """The study that gives the real images."""
    from mssg.errors import UsageError
    from mssg.training.config import load_study
    from mssg.training.run import open_run

    if path:
        return load_study(path)
    for text in snapshots:
        _, name = _split(text)
        for folder in (Path(name), Path(name).parent.parent):
            if (folder / "config.json").exists() and (folder / "study.toml").exists():
                return open_run(folder).study
    raise UsageError(
        "a snapshot does not say where real images are",
        field="--study",
        hint="Give the study's TOML with --study, or a run's folder",
    )


def _cache() -> Path:
    """The user's cache folder."""
    import os

    base = os.environ.get("XDG_CACHE_HOME") or (os.environ.get("LOCALAPPDATA") if os.name == "nt" else "")
    return (Path(base) if base else Path.home() / ".cache") / "mssg" / "readings"


def _arguments() -> list[str]:
    return [Path(a).name if a.startswith("/") else a for a in sys.argv[1:]] or ["evaluate"]


def _teller() -> Callable[[str, int, int], None]:
    """Progress on standard error: one line that is overwritten in a terminal, else a line now and then."""
    start: dict[str, tuple[float, int]] = {}
    last = [0.0]
    terminal = sys.stderr.isatty()

    def tell(label: str, done: int, total: int) -> None:
        now = time.monotonic()
        since, before = start.setdefault(label, (now, done))
        if done < total and now - last[0] < (0.2 if terminal else QUIET_SECONDS):
            return
        last[0] = now
        left = (now - since) * (total - done) / max(done - before, 1)
        text = f"{label}: {done} of {total}" + (
            f", {left:.0f} s left" if done < total and done > before else ""
        )
        line = f"\r\x1b[K{text}" if terminal else text
        say(lambda: click.echo(line, err=True, nl=not terminal or done == total))

    return tell


def _finish(found: Evaluation, path: Path) -> None:
    """Write the file and say the main numbers."""
    from mssg.metrics.tables import summary

    found.save(path)
    click.echo(summary(found))
    for note in found.notes:
        click.echo(f"Note: {note.about}: {note.message.rstrip('.')}.", err=True)
    click.echo(f"{path}: {len(found.results)} results, {len(found.notes)} notes")
