"""Starting a training from the explorer: its own process group, so that it outlives the window."""

from __future__ import annotations

import os
import signal
import subprocess
from abc import ABC, abstractmethod
from pathlib import Path

from mssg.errors import RunError
from mssg.processes import python_command
from mssg.runs.lock import holder

LONGEST = 70
"""Letters of a value that is shown on one line."""


def shorten(value: object) -> str:
    """A value as one line of text."""
    text = ", ".join(f"{k} {v}" for k, v in value.items()) if isinstance(value, dict) else str(value)
    return text if len(text) <= LONGEST else text[: LONGEST - 1] + "…"


def resume_command(run: str) -> list[str]:
    """The `mssg-train` command that goes on with a run."""
    return python_command("trainer_cli.main:train_main", "--resume", run)


def command(study: str, outdir: str, preset: str = "", kimg: str = "") -> list[str]:
    """The `mssg-train` command, run with this Python."""
    words = python_command("trainer_cli.main:train_main", study, "--outdir", outdir)
    words += ["--preset", preset] if preset else []
    words += ["--kimg", kimg] if kimg else []
    return words


class Training(ABC):
    """A training in progress: its run, its output, and how it is stopped."""

    def __init__(self, outdir: str | Path) -> None:
        self.outdir = Path(outdir)
        self.output = self.outdir.with_name(self.outdir.name + ".output.txt")

    @property
    @abstractmethod
    def running(self) -> bool:
        """True until the process has ended."""

    @property
    @abstractmethod
    def ended(self) -> str:
        """How it ended, in words."""

    @abstractmethod
    def stop(self) -> None:
        """Ask it to end; training writes a last snapshot on the way out."""

    def tail(self, lines: int = 200) -> list[str]:
        """The last lines of its output; none where it went to a terminal."""
        try:
            with open(self.output, "rb") as file:
                file.seek(0, os.SEEK_END)
                file.seek(max(0, file.tell() - 64_000))
                return file.read().decode("utf-8", "replace").replace("\r", "\n").splitlines()[-lines:]
        except OSError:
            return []


class TrainingProcess(Training):
    """A training started here. Its output goes to a file beside the run, so nothing is lost when the window
    closes.

    Raises:
        RunError: It cannot be started.
    """

    def __init__(self, words: list[str], outdir: str | Path) -> None:
        super().__init__(outdir)
        try:
            self.output.parent.mkdir(parents=True, exist_ok=True)
            with open(self.output, "wb") as file:
                self._process = subprocess.Popen(
                    words,
                    stdin=subprocess.DEVNULL,
                    stdout=file,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )
        except OSError as error:
            raise RunError(
                f"the training cannot be started: {error}", file=self.outdir, hint="Choose another folder"
            ) from None

    @property
    def running(self) -> bool:
        """True until the process has ended."""
        return self._process.poll() is None

    @property
    def ended(self) -> str:
        """How it ended, in words."""
        return f"ended (status {self._process.poll()})"

    def stop(self) -> None:
        """Ask the whole process group to end.

        By SIGTERM: a window started in the background of a shell ignores SIGINT, and so would its children.
        """
        if self.running:
            if os.name == "posix":
                os.killpg(self._process.pid, signal.SIGTERM)
            else:
                self._process.terminate()


class FoundTraining(Training):
    """A training that somebody else started, or an earlier window: known by the lock that it holds."""

    def __init__(self, outdir: str | Path, pid: int) -> None:
        super().__init__(outdir)
        self._pid = pid

    @property
    def running(self) -> bool:
        """True while it holds the run's lock."""
        return holder(self.outdir) == self._pid

    @property
    def ended(self) -> str:
        """How it ended, in words."""
        return "ended"

    def stop(self) -> None:
        """Ask the process to end.

        Raises:
            RunError: It is on another machine, or somebody else's.
        """
        if not self.running:
            return
        try:
            os.kill(self._pid, signal.SIGTERM)
        except OSError as error:
            raise RunError(
                f"the training cannot be stopped from here: {error.strerror}",
                file=self.outdir,
                found=f"process {self._pid}",
                hint="Stop it where it was started",
            ) from None


def found_training(outdir: str | Path) -> FoundTraining | None:
    """The training that works on a run right now, if any."""
    pid = holder(Path(outdir))
    return None if pid is None else FoundTraining(outdir, pid)
