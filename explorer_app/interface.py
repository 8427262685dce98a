"""What the window itself remembers and nobody undoes: open dialogs, forms, notes, the tool, animation."""

from __future__ import annotations

import math
import os
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any

import numpy as np

from explorer_app.distribution import LinkedDrag
from explorer_app.state import AppState, Mark
from explorer_app.tables import Table
from mssg.errors import MssgError
from mssg.rendering.request import RenderRequest
from mssg.runs.folder import RunFolder

NOTE_S, BAD_NOTE_S = 6.0, 12.0
WHEELS = ("slices", "zoom")
"""What the wheel does where there are slices; with Ctrl it does the other."""
SCALES = (0.75, 1.0, 1.25, 1.5, 2.0)


class Dialog(Enum):
    """The dialogs; at most one is shown at a time."""

    OPEN = "open"
    IMAGE = "image"
    LATENT = "latent"
    GALLERY = "gallery"
    SAVE = "save"
    EXPORT = "export"
    EVALUATION = "evaluation"
    PREDICTOR = "predictor"
    MISSING = "missing"
    TRAIN = "train"
    CONDITIONS = "conditions"
    SHORTCUTS = "shortcuts"
    ABOUT = "about"


@dataclass(frozen=True)
class ShortNote:
    """A message at the window's edge, and until when (`time.monotonic`) it is shown."""

    until: float
    text: str
    bad: bool


@dataclass
class ExportForm:
    """The export dialog.

    Attributes:
        propose: The file name it is to propose.
        sweep: The covariate of a sweep.
        data_order: Grey levels in data order instead of pictures as displayed.
        burnt: What is burnt in.
        times: Pixels a side of each pixel.
        listed: Names and pictures of a list of conditions.
    """

    kind: str = "png"
    propose: str = ""
    sweep: str = ""
    data_order: bool = False
    burnt: frozenset[str] = frozenset()
    times: int = 1
    table: Table = ()
    listed: tuple[tuple[str, RenderRequest], ...] = ()


@dataclass(frozen=True)
class Capture:
    """A photograph to be taken of the window, or of the `view` alone: its picture with all that lies over it.
    Written to a `path`; "" puts it on the clipboard."""

    path: str = ""
    view: bool = False


@dataclass(frozen=True)
class TypedValue:
    """A native value that was typed for a covariate."""

    name: str
    value: float


@dataclass
class TrainForm:
    """The training dialog, as typed; the study is what stands in its path field."""

    outdir: str = field(default_factory=lambda: str(Path.cwd() / "runs" / "run1"))
    kimg: str = ""
    preset: str = ""

    def problem(self, study: str) -> str:
        """What is wrong with the first field that cannot be; "" where a training can start."""
        file, folder = Path(study).expanduser(), Path(self.outdir.strip()).expanduser()
        if not (file.is_file() and file.suffix == ".toml"):
            return "Choose a study's .toml in the list."
        if not self.outdir.strip() or folder.is_file():
            return "folder: not a folder for a run."
        if RunFolder(folder).looks_like_a_run():
            return "folder: holds a run already. Open it to resume it, or choose another."
        try:
            kimg = float(self.kimg or 1)
        except ValueError:
            kimg = math.nan
        return "" if 0 < kimg < math.inf else f"kimg: expected a number above 0, found {self.kimg}."


@dataclass
class Tour:
    """Where the tour is: its step, -1 for none, the state in which that began, and whether it was done."""

    step: int = -1
    begun: AppState = field(default_factory=AppState)
    done: bool = False


@dataclass
class Interface:
    """The state of the window's controls.

    Attributes:
        tool: What the left mouse button does on the picture; `swiping` while it drags a swipe's line.
        held_mark: The mark that is drawn or moved, by its number, as it began.
        fit: Screen pixels per picture pixel at which the whole picture just fits its panel.
        dragged_plane: The one of three planes that the mouse was pressed on.
        animation: Kind of the running animation (`animate.KINDS`), "" for none; `speed` multiplies it.
        drag: The covariate that is dragged in linked mode; `last_drag` the one before.
        typed: A value far outside the training data, while the user is asked whether it is meant.
        allowed: (snapshot, covariate) of which such values are meant.
        paths: What stands in each dialog's path field.
        filters: What stands in the field beside each dialog's list of files.
        replacing: The file that exists, while a dialog asks whether to replace it.
        evaluation_problem: Why the evaluation chosen could not be read.
        curve: The training curve shown beside losses and scores.
        capture: A photograph that was asked for.
        view_box: Where the view is in the window: left, top, width, height; beside the picture is a `margin`.
        wheel: One of `WHEELS`.
        scale: Of text and controls, beside the screen's own.
    """

    tool: str = "pan"
    held_mark: tuple[int, Mark] | None = None
    fit: float = 1.0
    swiping: bool = False
    dragged_plane: str = ""
    animation: str = ""
    speed: float = 1.0
    drag: LinkedDrag | None = None
    last_drag: LinkedDrag | None = None
    typed: TypedValue | None = None
    allowed: set[tuple[str, str]] = field(default_factory=set)
    dialogs: set[Dialog] = field(default_factory=set)
    paths: dict[Dialog, str] = field(default_factory=dict)
    filters: dict[Dialog, str] = field(default_factory=dict)
    replacing: str = ""
    listings: Listings = field(default_factory=lambda: Listings())
    export: ExportForm = field(default_factory=ExportForm)
    train: TrainForm = field(default_factory=TrainForm)
    evaluation_problem: str = ""
    curve: str = ""
    tour: Tour = field(default_factory=Tour)
    notes: deque[ShortNote] = field(default_factory=lambda: deque(maxlen=4))
    capture: Capture | None = None
    view_box: tuple[float, float, float, float] = (0.0, 0.0, 400.0, 300.0)
    margin: float = 0.0
    scale: float = 1.0
    wheel: str = WHEELS[0]
    fps_limit: int = 60
    frame_ms: deque[float] = field(default_factory=lambda: deque(maxlen=240))
    quit: Callable[[], None] = lambda: None

    def note(self, text: str, bad: bool = False) -> None:
        """Show a message for a few seconds, one about something wrong for longer."""
        self.notes.append(ShortNote(time.monotonic() + (BAD_NOTE_S if bad else NOTE_S), text, bad))


@dataclass(frozen=True)
class Entry:
    """A line of a list of files."""

    path: Path
    is_folder: bool


class Listings:
    """What lies in folders, each listed once on a thread of its own, and again when it has changed."""

    def __init__(self) -> None:
        self._jobs = ThreadPoolExecutor(1, thread_name_prefix="listing")
        self._known: dict[Path, tuple[float, Future[list[Entry]]]] = {}

    def entries(self, folder: Path) -> list[Entry] | None:
        """Folders first, then files, by name; None while they are listed. Hidden ones are left out.

        Raises:
            OSError: The folder cannot be read.
        """
        changed = folder.stat().st_mtime
        held = self._known.get(folder)
        if held is None or held[0] != changed:
            held = self._known[folder] = changed, self._jobs.submit(_listed, folder)
        return held[1].result() if held[1].done() else None


def _listed(folder: Path) -> list[Entry]:
    with os.scandir(folder) as found:
        entries = [Entry(Path(e.path), e.is_dir()) for e in found if not e.name.startswith(".")]
    return sorted(entries, key=lambda e: (not e.is_folder, e.path.name.lower()))


class DerivedMaps:
    """Images computed from pictures (spectra, means, histograms), each kept until its sources change."""

    def __init__(self) -> None:
        self._maps: dict[str, tuple[list[np.ndarray], tuple[Any, ...], np.ndarray]] = {}

    def computed(
        self, name: str, images: list[np.ndarray], settings: tuple[Any, ...], work: Callable[[], np.ndarray]
    ) -> np.ndarray:
        """The map of a name, made again only when one of its images or a setting is another."""
        held = self._maps.get(name)
        if held is None or held[1] != settings or [id(i) for i in held[0]] != [id(i) for i in images]:
            held = self._maps[name] = (images, settings, work())
        return held[2]

    def __getitem__(self, name: str) -> np.ndarray:
        """The map of that name as it was last computed."""
        return self._maps[name][2]


class Background:
    """Slow work (writing files) on a thread of its own, one piece after the other."""

    def __init__(self) -> None:
        self._jobs = ThreadPoolExecutor(1, thread_name_prefix="export")
        self._results: list[tuple[Future[Any], str]] = []

    def start(self, work: Callable[[], Any], done: str) -> None:
        """Do something; `done` says that it is done."""
        self._results.append((self._jobs.submit(work), done))

    def tell(self, note: Callable[[str, bool], None]) -> None:
        """Note what has ended since the last call, well or not."""
        for future, done in [r for r in self._results if r[0].done()]:
            self._results.remove((future, done))
            problem = future.exception()
            if problem is None:
                note(done, False)
            else:
                words = str(problem) if isinstance(problem, MssgError) else f"not {done}: {problem}."
                note(words, True)

    @property
    def busy(self) -> bool:
        """True while something is being done."""
        return bool(self._results)

    def close(self) -> None:
        """Wait for what is being done."""
        self._jobs.shutdown(wait=True)
