"""The explorer's state: one frozen AppState and the pure functions that update it. No imgui, no torch, no
files.

Panels draw a state and return a new one; undo is a list of states (history.py); a session is a state as JSON
(session.py). Values are native units by covariate name.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any

from explorer_app.real_image import RealImage
from explorer_app.request_edits import at_place, place, whole_picture, with_values
from mssg.rendering.request import RenderRequest

COMPARE_MODES = ("A", "flip", "side", "difference", "blend", "swipe")
COLORMAPS = ("grey", "viridis", "magma", "inferno", "bone")
CHANNELS = ("colour", "green", "red-free")
"""What is shown of a colour picture."""
LINK_MODES = ("linked", "free")
GRID_LIMIT = 12
GRID_STEPS = (3, 6)  # rows and columns of a grid that nobody has changed
SWEEP_STEPS = 24
PIN_LIMIT = 8
MARK_KINDS = ("distance", "rectangle", "ellipse")
MARK_LIMIT = 32
EASINGS = ("smooth", "linear")
KEYFRAME_LIMIT = 64
ZOOM_RANGE = (0.05, 64.0)
FULL_LEVEL, FULL_WIDTH = 127.5, 255.0  # grey levels


@dataclass(frozen=True)
class Display:
    """How a picture is shown; none of it reaches the render process.

    `level` and `width` in grey levels 0..255; `zoom` screen pixels per image pixel, 0 = fit; `center` the
    image point (fractions of width and height) at the middle of the view. Between pixels stands nothing
    (squares), `linear` interpolation, or with `cubic` too that of Catmull and Rom. Of a layer, `channels` are
    shown
    side by side, stretched to the full grey range (`normalise`) or multiplied by `gain_db`; `untransform`
    moves a moved picture back. A difference has a window of its own around zero: `change_width` grey levels,
    0 = as wide as the differences; those smaller than `change_threshold` are none; `change_overlay` lays them
    over the picture. Of a picture in colour `channel` is shown (`CHANNELS`). A blend shows the `share` of the
    pin; a swipe the pin from that share of the width on. `outlines` of what the oracle measures lie over the
    picture.
    """

    level: float = FULL_LEVEL
    width: float = FULL_WIDTH
    colormap: str = "grey"
    channel: str = "colour"
    invert: bool = False
    linear: bool = True
    cubic: bool = False
    compare: str = "A"
    flipped: bool = False
    neurological: bool = False
    annotations: bool = True
    zoom: float = 0.0
    center: tuple[float, float] = (0.5, 0.5)
    channels: int = 1
    normalise: bool = True
    gain_db: float = 0.0
    untransform: bool = False
    change_width: float = 0.0
    change_threshold: float = 0.0
    change_overlay: bool = False
    outlines: bool = False
    share: float = 0.5

    @property
    def interpolation(self) -> str:
        """What stands between pixels: squares | linear | cubic."""
        return "cubic" if self.linear and self.cubic else "linear" if self.linear else "squares"

    def next_interpolation(self) -> Display:
        """The same with the next kind of interpolation: squares, linear, cubic, squares."""
        linear, cubic = {"squares": (True, False), "linear": (True, True), "cubic": (False, False)}[
            self.interpolation
        ]
        return replace(self, linear=linear, cubic=cubic)


@dataclass(frozen=True)
class Pin:
    """A picture kept for comparison, under a name: one that is rendered, or a real one."""

    name: str
    request: RenderRequest | RealImage

    @property
    def label(self) -> str:
        """Its name in words; of a real picture also that it is one, and whose."""
        real = f", {self.request.kind}: {self.request.name}" if isinstance(self.request, RealImage) else ""
        return f"pin {self.name}{real}"


@dataclass(frozen=True)
class Mark:
    """A distance or an area measured on the picture: one of `MARK_KINDS`, from `start` to `end`, fractions of
    the picture's width and height."""

    kind: str
    start: tuple[float, float]
    end: tuple[float, float]


@dataclass(frozen=True)
class Axis:
    """One axis of a grid or sweep: a covariate, its range in native units and the number of steps."""

    name: str = ""
    low: float = 0.0
    high: float = 1.0
    steps: int = 4

    def values(self) -> tuple[float, ...]:
        """The values of the steps, evenly spaced in native units; a single step stands at the middle."""
        if self.steps == 1:
            return ((self.low + self.high) / 2,)
        return tuple(self.low + (self.high - self.low) * i / (self.steps - 1) for i in range(self.steps))


@dataclass(frozen=True)
class Grid:
    """Two covariates as rows and columns."""

    rows: Axis = field(default_factory=Axis)
    columns: Axis = field(default_factory=Axis)


@dataclass(frozen=True)
class Analysis:
    """Settings of the analyses beside the picture.

    `uncertainty` off | mean | sd | both, over `seeds` seeds; `strata_…` the live heatmap; `response` the
    covariate of the response curve, at so many values with so many seeds each; `predictor` the file of a
    learned instrument; `spectrum_…` the Kaiser window and the decibels shown.
    """

    uncertainty: str = "off"
    seeds: int = 8
    strata_rows: str = ""
    strata_columns: str = ""
    strata_panel: str = ""
    strata_metric: str = ""
    strata_images: int = 4
    strata_live: bool = False
    response: str = ""
    response_steps: int = 6
    response_seeds: int = 5
    predictor: str = ""
    spectrum_beta: float = 8.0
    spectrum_range_db: float = 80.0


@dataclass(frozen=True)
class Keyframe:
    """A picture that a movie passes through: how it is displayed, and the `seconds` from it to the next. Seen
    is a part of the picture: `span` of its sides (1 = all of it) around `center`, fractions."""

    request: RenderRequest
    display: Display = field(default_factory=Display)
    seconds: float = 2.0
    center: tuple[float, float] = (0.5, 0.5)
    span: float = 1.0

    def __post_init__(self) -> None:
        if not (0 < self.seconds <= 3600 and 0 < self.span <= 1):
            raise ValueError(f"keyframe: {self.seconds} seconds, span {self.span}")


@dataclass(frozen=True)
class Movie:
    """Keyframes, and how the way between them is filmed: `fps` pictures a second, one of `EASINGS`, `times`
    as many pixels a side, and what is `burnt` in: letters, scale, bar, values, separated by spaces."""

    keyframes: tuple[Keyframe, ...] = ()
    fps: int = 25
    easing: str = "smooth"
    times: int = 4
    burnt: str = ""

    def __post_init__(self) -> None:
        if not (1 <= self.fps <= 120 and 1 <= self.times <= 16 and self.easing in EASINGS):
            raise ValueError(f"movie: {self.fps} pictures a second, {self.times} times, {self.easing}")


@dataclass(frozen=True)
class AppState:
    """Everything the user can change and undo.

    `request` is the picture, with every covariate stated and the snapshot named by its file; what leaves the
    window names the snapshot by its id. `cross` is the place of the crosshair of three planes, in millimetres
    from the middle of the picture, along its columns and rows.
    """

    request: RenderRequest = field(default_factory=lambda: RenderRequest(mix_seed=1))
    mode: str = "linked"
    display: Display = field(default_factory=Display)
    pins: tuple[Pin, ...] = ()
    active_pin: int = 0
    grid: Grid = field(default_factory=Grid)
    analysis: Analysis = field(default_factory=Analysis)
    marks: tuple[Mark, ...] = ()
    movie: Movie = field(default_factory=Movie)
    cross: tuple[float, float] = (0.0, 0.0)

    @property
    def snapshot(self) -> str:
        """The snapshot's file; "" before there is one."""
        return self.request.snapshot

    @property
    def pin(self) -> Pin | None:
        """The pin compared against, if any."""
        return self.pins[min(self.active_pin, len(self.pins) - 1)] if self.pins else None

    def value(self, name: str) -> float:
        """The native value of a covariate."""
        return dict(self.request.covariates)[name]


def opened(state: AppState, path: str, defaults: Mapping[str, float], axes: Mapping[str, Axis]) -> AppState:
    """The state after a snapshot was opened: values of covariates it shares are kept, the others take its
    defaults.

    Args:
        defaults: Default native value by covariate, in the study's order.
        axes: The default grid axis of every covariate, those that suit a grid best first.
    """
    old = dict(state.request.covariates)
    values = tuple((name, old.get(name, default)) for name, default in defaults.items())
    names = list(axes)
    grid = state.grid
    if names and not {grid.rows.name, grid.columns.name} <= set(defaults):
        grid = Grid(axes[names[0]], axes[names[min(1, len(names) - 1)]])
    analysis = state.analysis
    if {analysis.strata_rows, analysis.strata_columns, analysis.strata_panel} - set(defaults) - {""}:
        analysis = Analysis()
    request = replace(state.request, snapshot=path, covariates=values)
    return replace(state, request=request, grid=grid, analysis=analysis)


def set_values(state: AppState, **changes: float) -> AppState:
    """The state with native covariate values changed; anything not finite is ignored."""
    return replace(state, request=with_values(state.request, **changes))


def set_snapshot(state: AppState, path: str) -> AppState:
    """The state with the same picture of another snapshot."""
    return replace(state, request=replace(state.request, snapshot=path))


def at_home(state: AppState, path: str) -> AppState:
    """The state with everything of its own snapshot, pins and keyframes too, named by another file: the same
    snapshot, found again."""
    old = state.snapshot

    def named(held: Any) -> Any:
        return (
            replace(held, request=replace(held.request, snapshot=path))
            if held.request.snapshot == old
            else held
        )

    movie = replace(state.movie, keyframes=tuple(named(frame) for frame in state.movie.keyframes))
    return replace(set_snapshot(state, path), pins=tuple(named(pin) for pin in state.pins), movie=movie)


def add_pin(state: AppState, request: RealImage | None = None) -> AppState:
    """The state with the current picture, or another, pinned and made the one compared against; the oldest of
    too many goes."""
    pins = (*state.pins, Pin(_free_number(state.pins), request or state.request))[-PIN_LIMIT:]
    return replace(state, pins=pins, active_pin=len(pins) - 1)


def _free_number(pins: tuple[Pin, ...]) -> str:
    """Pins are numbers: letters are anatomy."""
    used = {pin.name for pin in pins}
    return next(str(i) for i in range(1, len(pins) + 2) if str(i) not in used)


def remove_pin(state: AppState, index: int) -> AppState:
    """The state without one pin; without any, comparison ends."""
    pins = state.pins[:index] + state.pins[index + 1 :]
    display = state.display if pins else replace(state.display, compare="A", flipped=False)
    return replace(state, pins=pins, active_pin=max(0, min(state.active_pin, len(pins) - 1)), display=display)


def set_compare(state: AppState, mode: str) -> AppState:
    """The state in a comparison mode; without a pin the current picture is pinned first.

    Raises:
        ValueError: No such mode.
    """
    if mode not in COMPARE_MODES:
        raise ValueError(mode)
    if mode != "A" and not state.pins:
        state = add_pin(state)
    return replace(state, display=replace(state.display, compare=mode, flipped=False))


def set_mark(state: AppState, index: int, mark: Mark | None) -> AppState:
    """The state with one mark changed, or put away; an index past the last adds it, and the oldest of too
    many goes."""
    marks = (*state.marks[:index], *((mark,) if mark else ()), *state.marks[index + 1 :])
    return replace(state, marks=marks[-MARK_LIMIT:])


def set_keyframe(state: AppState, index: int, frame: Keyframe | None) -> AppState:
    """The state with one keyframe changed, or taken out; an index past the last adds it while there is
    room."""
    frames = state.movie.keyframes
    frames = (*frames[:index], *((frame,) if frame else ()), *frames[index + 1 :])
    return replace(state, movie=replace(state.movie, keyframes=frames[:KEYFRAME_LIMIT]))


def choose_axis(state: AppState, which: str, axis: Axis) -> AppState:
    """The state with another grid axis ("rows" or "columns"); one that the other axis has takes the place of
    this one."""
    other = "columns" if which == "rows" else "rows"
    grid = state.grid
    if getattr(grid, other).name == axis.name:
        grid = replace(grid, **{other: getattr(grid, which)})
        axis = getattr(state.grid, other)
    return replace(state, grid=replace(grid, **{which: axis}))


def set_axis(state: AppState, which: str, **changes: float) -> AppState:
    """The state with one grid axis ("rows" or "columns") changed; steps are kept within 1..12, and what is
    not finite is ignored."""
    axis: Axis = replace(getattr(state.grid, which), **{k: v for k, v in changes.items() if math.isfinite(v)})
    axis = replace(axis, steps=max(1, min(GRID_LIMIT, int(axis.steps))))
    return replace(state, grid=replace(state.grid, **{which: axis}))


@lru_cache(8)
def grid_requests(
    request: RenderRequest, grid: Grid, rising: bool = True
) -> tuple[tuple[RenderRequest, ...], ...]:
    """The pictures of a grid, rows of columns from the top; empty while the axes are not set.

    `rising`: the rows' values rise from the bottom to the top, as numbers do in a chart; else they read
    downwards, as levels do.
    """
    rows, columns = grid.rows, grid.columns
    if not {rows.name, columns.name} <= {n for n, _ in request.covariates}:
        return ()
    base = whole_picture(request)
    return tuple(
        tuple(with_values(base, **{columns.name: c, rows.name: r}) for c in columns.values())
        for r in (rows.values()[::-1] if rising else rows.values())
    )


@lru_cache(8)
def seed_requests(request: RenderRequest, count: int) -> tuple[RenderRequest, ...]:
    """The pictures of consecutive seeds at the same covariates, for mean and standard deviation."""
    base = replace(whole_picture(request), mix_layers=(), noise_seed=0)
    return tuple(at_place(base, place(request)[0] + k) for k in range(max(2, count)))
