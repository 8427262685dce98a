"""A run's folder: created, locked, filled and resumed (FORMATS, Run)."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mssg.errors import RunError
from mssg.study import Study, load_study
from mssg.training.config import TrainConfig, resolve

KEPT_STATES = 2


@dataclass(frozen=True)
class Run:
    """Paths and documents of one run."""

    path: Path
    study: Study
    config: TrainConfig
    init_from: str = ""

    @property
    def snapshots(self) -> Path:
        """The folder of snapshots."""
        return self.path / "snapshots"

    @property
    def states(self) -> Path:
        """The folder of training states."""
        return self.path / "state"

    @property
    def grids(self) -> Path:
        """The folder of sample grids."""
        return self.path / "grids"

    def snapshot(self, kimg: float) -> Path:
        """The file of a snapshot, named by its kimg."""
        return self.snapshots / f"{round(kimg):06d}.safetensors"

    def log(self, text: str) -> None:
        """Append a line to log.txt."""
        with open(self.path / "log.txt", "a", encoding="utf-8") as file:
            file.write(time.strftime("%Y-%m-%d %H:%M:%S ") + text + "\n")

    def state_files(self) -> list[Path]:
        """Training states, newest first."""
        return sorted(self.states.glob("[0-9]*.pt"), reverse=True)

    def prune_states(self) -> None:
        """Keep the newest training states only."""
        for old in self.state_files()[KEPT_STATES:]:
            old.unlink()

    def mark_best(self, snapshot: Path) -> None:
        """Name the best snapshot so far in the file `best`."""
        temporary = self.path / ".best.tmp"
        temporary.write_text(snapshot.name + "\n", encoding="utf-8")
        temporary.replace(self.path / "best")


@contextmanager
def locked(path: Path):
    """Hold the run's lock; the system releases it when the process ends, however it ends.

    Raises:
        RunError: Another trainer holds it.
    """
    file = open(path / "lock", "a+", encoding="utf-8")
    try:
        try:
            if os.name == "nt":
                import msvcrt

                msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
            else:
                import fcntl

                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise RunError(
                "another trainer is working on this run", file=path, hint="Wait for it or stop it first"
            ) from None
        file.seek(0)
        file.truncate()
        file.write(f"{os.getpid()}\n")
        file.flush()
        yield
    finally:
        file.close()


def create(
    study_path: str | Path, outdir: str | Path, options: Mapping[str, Any] | None = None, init_from: str = ""
) -> Run:
    """Make a run's folder for a study; nothing is trained yet.

    Raises:
        RunError: The folder holds a run or other files already, or cannot be written.
        StudyError, UsageError: From the study or the options.
    """
    study = load_study(study_path)
    config = resolve(study, options)
    path = Path(outdir)
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        hint = (
            f"Continue it with `mssg-train --resume {path}` or choose another --outdir"
            if (path / "config.json").exists()
            else "Choose an empty or new folder"
        )
        raise RunError("the output folder is not empty", file=path, hint=hint)
    document = {
        "format_version": 1,
        "study_folder": str(Path(study_path).resolve().parent),
        "train": config.to_json(),
        "init_from": init_from,
    }
    try:
        for folder in (path, path / "snapshots", path / "state", path / "grids"):
            folder.mkdir(parents=True, exist_ok=True)
        (path / "study.toml").write_text(study.to_toml(), encoding="utf-8")
        temporary = path / ".config.json.tmp"
        temporary.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
        temporary.replace(path / "config.json")
    except OSError as error:
        raise RunError(
            f"the output folder cannot be written: {error.strerror}",
            file=path,
            hint="Choose another --outdir",
        ) from None
    return Run(path, study, config, init_from)


def open_run(path: str | Path) -> Run:
    """Open an existing run's folder.

    Raises:
        RunError: Not a run, or its config.json is damaged.
    """
    from dataclasses import replace

    path = Path(path)
    try:
        document = json.loads((path / "config.json").read_text(encoding="utf-8"))
        config = TrainConfig.from_json(document["train"], str(path / "config.json"))
        folder, init_from = document["study_folder"], document["init_from"]
    except (FileNotFoundError, NotADirectoryError):
        raise RunError(
            "this is not a run's folder",
            file=path,
            expected="a folder with config.json, as `mssg-train` makes it",
        ) from None
    except (ValueError, KeyError, TypeError) as error:
        raise RunError(
            f"damaged: {error}", file=path / "config.json", hint="Restore the file or start a new run"
        ) from None
    study = replace(load_study(path / "study.toml"), path=str(Path(folder) / "study.toml"))
    return Run(path, study, config, init_from)


def start(
    study_path: str | Path,
    outdir: str | Path,
    options: Mapping[str, Any] | None = None,
    progress: Callable[[Mapping[str, Any]], None] | None = None,
    device: str = "cpu",
    init_from: str = "",
) -> Path:
    """Train a study from the beginning.

    Args:
        study_path: The study TOML.
        outdir: The run's folder, new or empty.
        options: Overrides of `TrainConfig` fields.
        progress: Called with every tick's row of stats.jsonl, and with {"event": text} for other news.
        device: "cpu", "cuda" or "mps".
        init_from: A snapshot whose weights the networks start from.

    Returns:
        The run's folder.
    """
    from mssg.training.distributed import join, leave
    from mssg.training.loop import train

    world = join(device)
    try:
        if world.is_main:
            run = create(study_path, outdir, options, init_from)
        world.barrier()
        if not world.is_main:
            run = open_run(outdir)
        train(run, world, progress)
        world.barrier()  # a process that leaves while another still writes would tear the group down under it
    finally:
        leave()
    return Path(outdir)


def resume(
    path: str | Path, progress: Callable[[Mapping[str, Any]], None] | None = None, device: str = "cpu"
) -> Path:
    """Continue a run from its newest valid training state, or from the beginning if it has none.

    Raises:
        RunError: Not a run, locked by another trainer, or its states are all damaged.
    """
    from mssg.training.distributed import join, leave
    from mssg.training.loop import train

    world = join(device)
    try:
        train(open_run(path), world, progress)
        world.barrier()
    finally:
        leave()
    return Path(path)
