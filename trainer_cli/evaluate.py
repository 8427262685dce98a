"""`mssg evaluate`: everything that can be measured of snapshots, as one eval.json."""

from __future__ import annotations

import functools
import shlex
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import Field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mssg.text import duration
from trainer_cli.common import check_suffix, device_option, seed_option, while_heard, writable
from trainer_cli.request_options import OPTIONS

if TYPE_CHECKING:
    from mssg.checkpoint.snapshot import Snapshot
    from mssg.features.extractors import FeatureNetwork
    from mssg.metrics.model import EvaluatedModel
    from mssg.metrics.results import Evaluation
    from mssg.metrics.sampling import CachedSampler
    from mssg.rendering.request import RenderRequest
    from mssg.study.model import Study
    from mssg.training.distributed import World

QUIET_SECONDS = 10.0
"""Between two lines of progress where there is no terminal."""


def metric_options(command: Callable[..., None]) -> Callable[..., None]:
    """An option for every choice that a metric declares."""
    from mssg.metrics.registry import all_settings

    declared = [field for kind in all_settings() for field in fields(kind)]
    for field in reversed(declared):
        command = _option(field)(command)
    return command


def _option(field: Field[Any]) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """The option of one choice."""
    about, names = field.metadata, field.metadata["kind"] is tuple
    kind: Any = click.Choice(about["choices"]) if about["choices"] else str if names else about["kind"]
    return click.option(
        "--" + field.name.replace("_", "-"),
        type=click.IntRange(about["least"]) if kind is int else kind,
        default="" if names else field.default,
        show_default=bool(field.default),
        metavar=about["metavar"],
        help=about["help"],
        callback=(lambda _ctx, _option, value: _names(value)) if names else None,
    )


def drawing_options(command: Callable[..., None]) -> Callable[..., None]:
    """The options of `mssg generate` that say how all pictures are drawn, as the request `like`."""

    @functools.wraps(command)
    def with_like(psi: float, cutoff: int | None, noise: str, transform: str | None, **further: Any) -> None:
        from mssg.rendering.command_line import parse_transform
        from mssg.rendering.request import RenderRequest

        moved = parse_transform(transform) if transform else None
        like = RenderRequest(psi=psi, cutoff=cutoff, noise_mode=noise, transform=moved)
        command(like=like, **further)

    for name in ("transform", "noise", "cutoff", "psi"):
        with_like = OPTIONS[name](with_like)
    return with_like


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
    callback=lambda _ctx, _option, value: _metrics(value),
    help="Comma-separated; `default` and `all` stand for many. See `mssg evaluate --list`.",
)
@click.option(
    "--volumes", is_flag=True, help="Also measure whole heads, of a study with a position: `volumes`."
)
@click.option(
    "--list",
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
    help="Predictor of `mssg predictors`, for covariates that no oracle reads; repeatable. A SNAPSHOT or RUN"
    " reads by its discriminator's heads.",
)
@metric_options
@drawing_options
@click.option(
    "--blind",
    default="",
    metavar="NAMES",
    callback=lambda _ctx, _option, value: _names(value),
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
@seed_option("Of everything drawn: equal seeds give equal numbers.")
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
    metrics: tuple[str, ...],
    volumes: bool,
    split: str,
    features: str,
    weights: str | None,
    predictors: tuple[str, ...],
    blind: tuple[str, ...],
    all_snapshots: bool,
    seed: int,
    device: str,
    memory_gb: float,
    cache: str | None,
    add: bool,
    output: str,
    like: RenderRequest,
    **choices: Any,
) -> None:
    """Measure SNAPSHOTs side by side against the real images of a study, and write one eval.json.

    Interrupted, the same command continues where it was. Under torchrun the processes share the drawing.
    """
    from mssg.checkpoint.snapshot import load_snapshot
    from mssg.metrics import registry
    from mssg.metrics.dataset import open_dataset
    from mssg.metrics.evaluate import evaluate as measure
    from mssg.metrics.instruments import open_instruments
    from mssg.metrics.results import Evaluation
    from mssg.ops.device import checked_device
    from mssg.training.distributed import joined

    check_suffix(output, (".json",))
    metrics = tuple(dict.fromkeys((*metrics, "volumes"))) if volumes else metrics
    path = writable(output)
    old = Evaluation.load(path) if add and path.exists() else None  # a damaged file is found before the work
    options = registry.options(metrics, seed, **choices)
    with joined(checked_device(device)) as world:
        named = _expanded(snapshots, all_snapshots)
        loaded = [load_snapshot(file, world.device) for _, file in named]
        data, notes = open_dataset(study_of(study_path, snapshots), split, loaded)
        how = {"memory_gb": memory_gb, "like": like}
        models = _models(_labels(named, loaded), loaded, data.study, blind, **how)
        instruments, more = open_instruments(data.study, predictors, world.device)
        sampler = _sampler(path, cache, data.study, world)
        if old:
            old.check_goes_with(data.study.name, split, seed, [m.record for m in models])
        found = measure(
            data=data,
            models=models,
            options=options,
            sampler=sampler,
            instruments=instruments,
            features=_feature_network(metrics, features, weights, world.device),
            notes=[*notes, *more],
            command=shlex.join(["mssg", *_arguments()]),
        )
        world.barrier()  # nobody needs the parts any more
        if world.is_main:
            _finish(found, old, path)
            sampler.drawn.clear()


def _feature_network(
    metrics: Sequence[str], name: str, weights: str | None, device: str
) -> FeatureNetwork | None:
    """The network of --features, where a metric needs it."""
    from mssg.features.extractors import load_features
    from mssg.metrics import registry
    from mssg.metrics.metric import Need

    needed = any(Need.FEATURES in metric.needs for metric in registry.chosen(metrics))
    return load_features(name, weights, device) if needed else None


def _sampler(output: Path, cache: str | None, study: Study, world: World) -> CachedSampler:
    """Keeps what is drawn beside the output until that is written, and readings of real images for good."""
    from mssg.files import cache_folder
    from mssg.metrics.sampling import ArrayCache, CachedSampler, chunk_for

    drawn = ArrayCache(output.with_name(output.name + ".parts"))
    kept = Path(cache) if cache else cache_folder("readings")
    return CachedSampler(
        drawn=drawn,
        real=ArrayCache(kept) if kept else drawn,
        chunk=chunk_for(study),
        device=world.device,
        workers=world,
        progress=_teller(),
    )


def _models(
    labels: Sequence[str], snapshots: Sequence[Snapshot], study: Study, blind: Sequence[str], **how: Any
) -> list[EvaluatedModel]:
    """What is evaluated: the snapshots, and the first again for each covariate it is not told."""
    from mssg.metrics.model import evaluated_model

    models = [evaluated_model(label, s, study, **how) for label, s in zip(labels, snapshots)]
    for name in blind:
        models.append(evaluated_model(f"{name} not told", snapshots[0], study, blind=(name,), **how))
    return models


def _list(ctx: click.Context) -> None:
    from mssg.metrics.registry import all_metrics

    for metric in all_metrics().values():
        about = [] if metric.default else ["not by default"]
        about += [f"needs {' and '.join(sorted(n.value for n in metric.needs))}"] if metric.needs else []
        click.echo(f"{metric.name:<20} {metric.help}" + (f"  ({'; '.join(about)})" if about else ""))
    ctx.exit()


def _names(text: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(word.strip() for word in text.split(",") if word.strip()))


def _metrics(text: str) -> tuple[str, ...]:
    from mssg.metrics.registry import all_metrics, default_metrics

    groups = {"default": default_metrics(), "all": tuple(all_metrics())}
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


def study_of(path: str | None, snapshots: Sequence[str]) -> Study:
    """The study that gives the real images.

    Raises:
        UsageError: Nothing says where they are.
    """
    from mssg.errors import UsageError
    from mssg.study.schema import load_study
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
            f", {duration(left)} left" if done < total and done > before else ""
        )
        line = f"\r\x1b[K{text}" if terminal else text
        with while_heard():
            click.echo(line, err=True, nl=not terminal or done == total)

    return tell


def _finish(found: Evaluation, old: Evaluation | None, path: Path) -> None:
    """Write the file, with what it held before, and say the main numbers.

    Raises:
        DataError: There is none.
    """
    from mssg.errors import DataError
    from mssg.metrics.strata_won import with_strata_won
    from mssg.metrics.tables import summary

    whole = with_strata_won(old.extended(found)) if old else found
    whole.save(path)
    click.echo(summary(whole))
    for note in whole.notes:
        click.echo(f"Note: {note.about}: {note.message.rstrip('.')}.", err=True)
    click.echo(f"{path}: {len(whole.results)} results, {len(whole.notes)} notes")
    if not found.results:
        hint = "The notes say why"
        raise DataError("nothing could be measured", file=path, found="0 results", hint=hint)
