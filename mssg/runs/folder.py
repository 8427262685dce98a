"""Where the files of a run lie (docs/reference/formats.md, "Run")."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mssg.errors import RunError
from mssg.files import parse_json


@dataclass(frozen=True)
class RunFolder:
    """The paths of one run."""

    path: Path

    @property
    def config_file(self) -> Path:
        """What the run was started with."""
        return self.path / "config.json"

    @property
    def study_file(self) -> Path:
        """The run's own copy of the study."""
        return self.path / "study.toml"

    @property
    def stats_file(self) -> Path:
        """One row a tick."""
        return self.path / "stats.jsonl"

    @property
    def log_file(self) -> Path:
        """One line an event."""
        return self.path / "log.txt"

    @property
    def best_file(self) -> Path:
        """Names the best snapshot so far."""
        return self.path / "best"

    @property
    def divergence_file(self) -> Path:
        """The report of a run that was stopped because its losses were not finite."""
        return self.path / "diverged.json"

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

    def grid(self, kimg: float) -> Path:
        """The file of a sample grid, named by its kimg."""
        return self.grids / f"{round(kimg):06d}.png"

    def state(self, step: int) -> Path:
        """The file of a training state, named by its step."""
        return self.states / f"{step:09d}.pt"

    def snapshot_files(self) -> list[Path]:
        """All snapshots, oldest first."""
        return sorted(self.snapshots.glob("[0-9]*.safetensors"))

    def state_files(self) -> list[Path]:
        """All training states, newest first."""
        return sorted(self.states.glob("[0-9]*.pt"), reverse=True)

    def newest_grid(self) -> Path | None:
        """The latest sample grid."""
        return max(self.grids.glob("[0-9]*.png"), default=None)

    def looks_like_a_run(self) -> bool:
        """Whether there is a folder that a training has begun to fill."""
        begun = (self.snapshots, self.stats_file, self.config_file)
        return self.path.is_dir() and any(path.exists() for path in begun)

    def config_document(self) -> dict[str, Any]:
        """config.json: `train`, `study_folder`, `init_from`.

        Raises:
            RunError: Not a run, or the file is damaged.
        """
        try:
            document = parse_json(self.config_file.read_text(encoding="utf-8"))
        except (FileNotFoundError, NotADirectoryError):
            expected = "a folder with config.json, as `mssg-train` makes it"
            raise RunError("this is not a run's folder", file=self.path, expected=expected) from None
        except (OSError, ValueError) as error:
            raise self.damaged(error) from None
        if not isinstance(document, dict):
            raise self.damaged("not an object")
        return document

    def damaged(self, problem: object) -> RunError:
        """What to raise for a config.json that cannot be used."""
        hint = "Restore the file or start a new run"
        return RunError(f"damaged: {problem}", file=self.config_file, hint=hint)


def kimg_of(snapshot: Path) -> float:
    """Thousands of images a run's snapshot has seen, by its name; 0 for another name."""
    digits = "".join(c for c in snapshot.stem if c.isdecimal())
    return float(digits) if digits else 0.0
