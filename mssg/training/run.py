"""A run's folder with its documents: created for a study, opened again (docs/reference/formats.md, "Run")."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mssg.errors import RunError
from mssg.files import write_atomically, write_json
from mssg.metrics.instruments import open_instruments
from mssg.runs.folder import RunFolder
from mssg.runs.lock import disk_trouble, locked
from mssg.study.model import Study
from mssg.study.schema import load_study, to_toml
from mssg.study.train_config import TrainConfig, lengthened, resolve


@dataclass(frozen=True)
class Run(RunFolder):
    """A run's folder and its documents."""

    study: Study
    config: TrainConfig
    init_from: str = ""
    predictors: tuple[str, ...] = ()


def create(
    study_path: str | Path,
    outdir: str | Path,
    options: Mapping[str, Any] | None = None,
    *,
    init_from: str = "",
    predictors: Sequence[str | Path] = (),
) -> Run:
    """Make a run's folder for a study; nothing is trained yet.

    Raises:
        RunError: The folder holds a run or other files already, or cannot be written.
        StudyError, UsageError: From the study or the options.
    """
    study = load_study(study_path)
    config = resolve(study, options)
    if predictors:  # before there is a folder: an unfit file is no reason to choose another one
        open_instruments(study, predictors)
    path = Path(outdir)
    if path.exists() and not path.is_dir():
        raise RunError("the output folder is a file", file=path, hint="Choose an empty or new folder")
    document = {
        "format_version": 1,
        "study_folder": str(Path(study_path).resolve().parent),
        "train": config.to_json(),
        "init_from": init_from,
        "predictors": _absolute(predictors),
    }
    run = Run(path, study, config, init_from, tuple(document["predictors"]))
    with disk_trouble(path):
        _refuse_used(path)
        path.mkdir(parents=True, exist_ok=True)
        with locked(path):
            _refuse_used(path)  # again: another trainer may have come first
            for folder in (run.snapshots, run.states, run.grids):
                folder.mkdir(exist_ok=True)
            write_atomically(run.study_file, to_toml(study), RunError)
            write_json(run.config_file, document, RunError)
    return run


def _refuse_used(path: Path) -> None:
    """Refuse a folder that holds a run, or anything but what `create` leaves when it is killed before
    config.json.

    Raises:
        RunError: Saying which.
    """
    if (path / "config.json").exists():
        hint = f"Continue it with `mssg-train --resume {path}` or choose another --outdir"
        raise RunError("the output folder holds a run", file=path, hint=hint)
    begun = {"lock", "study.toml", "snapshots", "state", "grids"}
    for entry in path.iterdir() if path.is_dir() else ():
        ours = entry.name in begun or entry.name.endswith(".tmp")
        if not ours or (entry.is_dir() and any(entry.iterdir())):
            raise RunError(
                "the output folder is not empty",
                file=path,
                found=entry.name,
                hint="Choose an empty or new folder",
            )


def open_run(path: str | Path) -> Run:
    """Open an existing run's folder.

    Raises:
        RunError: Not a run, or its config.json is damaged.
    """
    folder = RunFolder(Path(path))
    document = folder.config_document()
    try:
        config = TrainConfig.from_json(document["train"], str(folder.config_file))
        origin, init_from = Path(document["study_folder"]), document["init_from"]
        predictors = tuple(str(path) for path in document.get("predictors", ()))
    except (ValueError, KeyError, TypeError) as error:
        raise folder.damaged(error) from None
    study = replace(load_study(folder.study_file), path=str(origin / "study.toml"))
    return Run(folder.path, study, config, init_from, predictors)


def _absolute(paths: Sequence[str | Path]) -> list[str]:
    return [str(Path(path).resolve()) for path in paths]


def change(
    path: str | Path, *, total_kimg: float | None = None, predictors: Sequence[str | Path] = ()
) -> None:
    """Write another length or other predictors into a run's config.json.

    Args:
        total_kimg: The new length, beyond the old one; None = as it is.
        predictors: Files of `mssg predictors`; none = as they are.

    Raises:
        RunError: Not a run, or another trainer works on it.
        UsageError: A length that is not beyond the old one.
    """
    run = open_run(path)
    with locked(run.path):
        document = run.config_document()
        if total_kimg is not None:
            document["train"] = lengthened(run.config, total_kimg).to_json()
        if predictors:
            document["predictors"] = _absolute(predictors)
        write_json(run.config_file, document, RunError)


def reopen(
    study_path: str | Path,
    outdir: str | Path,
    options: Mapping[str, Any] | None = None,
    *,
    init_from: str = "",
    predictors: Sequence[str | Path] = (),
) -> Run:
    """The run that the same command made before, or a new one if there is none.

    Raises:
        RunError: The folder's run is another study's, or was started with other options.
    """
    path = Path(outdir)
    if not (path / "config.json").exists():
        return create(study_path, outdir, options, init_from=init_from, predictors=predictors)
    run, study = open_run(path), load_study(study_path)
    given = {"study.toml": to_toml(study), "init_from": init_from, "predictors": tuple(_absolute(predictors))}
    asked = given | resolve(study, options).to_json()
    held = {"study.toml": to_toml(run.study), "init_from": run.init_from, "predictors": run.predictors}
    held |= run.config.to_json()
    for name, value in asked.items():
        if held[name] != value:
            short = name == "study.toml"
            raise RunError(
                "the run in this folder was started differently",
                file=path,
                field=name,
                found=None if short else repr(held[name]),
                expected=None if short else repr(value),
                hint="Give the options it was started with, or choose another --outdir",
            )
    return run
