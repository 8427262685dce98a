"""Timeline and training curves of the run that is followed, and its log."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from imgui_bundle import ImVec2, imgui, implot
from imgui_bundle import icons_fontawesome_6 as icons

from explorer_app import theme, widgets
from explorer_app.context import Context
from explorer_app.interface import Dialog
from explorer_app.panels.grid import thumbnail
from explorer_app.state import AppState, set_snapshot
from explorer_app.theme import em, u32
from mssg.runs.follow import FollowedRun
from mssg.text import duration

_CHART = 15.0
"""Of a chart of training, at least, in units of the text's height."""


def draw_timeline(app: Context, state: AppState) -> AppState:
    """Draw the Timeline panel: the run's snapshots at the same seed and covariates."""
    run = app.document.run
    if run is None:
        widgets.empty_note(
            "No run",
            "Open a training run's folder (File > Open) to scrub through its snapshots and to watch it"
            " learn.",
        )
        return state
    if not run.checkpoints:
        widgets.empty_note("No snapshot yet", f"{run.folder} is followed; its first snapshot appears here.")
        return state
    last = len(run.checkpoints) - 1
    index = run.index(state.snapshot)
    icon = icons.ICON_FA_TOWER_BROADCAST
    if imgui.button(f"{icon}  {'following' if app.document.follow else 'follow'}###follow"):
        app.document.follow = not app.document.follow
        if app.document.follow and index != last:
            state = set_snapshot(state, run.checkpoints[-1].path)
    widgets.tooltip("Swap the newest snapshot in as soon as it is written.")
    imgui.same_line()
    widgets.text(f"{run.checkpoints[max(index, 0)].kimg:g} kimg", theme.TEXT)
    imgui.same_line()
    imgui.set_next_item_width(-1)
    changed, chosen = imgui.slider_int(
        "##checkpoint",
        max(index, 0) + 1,
        1,
        last + 1,
        f"snapshot %d of {last + 1}",
        imgui.SliderFlags_.always_clamp,
    )
    widgets.tooltip("Scrub through the run's snapshots at the same seed and covariates.")
    if changed:
        app.document.follow = chosen - 1 == last and app.document.follow
        state = set_snapshot(state, run.checkpoints[chosen - 1].path)
    return _strip(app, state, run)


def _strip(app: Context, state: AppState, run: FollowedRun) -> AppState:
    """A few evenly spread snapshots as small pictures."""
    region = imgui.get_content_region_avail()
    cell = min(region.y - em(1.5), em(9))
    if cell < em(2):
        return state
    count = max(1, min(len(run.checkpoints), int((region.x + em(0.3)) / (cell + em(0.3)))))
    picked = sorted({round(i) for i in np.linspace(0, len(run.checkpoints) - 1, count)})
    corner, draw = imgui.get_cursor_screen_pos(), imgui.get_window_draw_list()
    for n, index in enumerate(picked):
        checkpoint = run.checkpoints[index]
        picture = replace(state.request, snapshot=checkpoint.path)
        app.client.request([picture])
        frame = app.client.frame(picture)
        at = ImVec2(corner.x + n * (cell + em(0.3)), corner.y)
        end = ImVec2(at.x + cell, at.y + cell)
        if frame is None:
            draw.add_rect_filled(at, end, u32(theme.FRAME, 0.6))
        else:
            draw.add_image(imgui.ImTextureRef(thumbnail(app, f"time {n}", frame, cell, state)), at, end)
        current = checkpoint.path == state.snapshot
        if current:
            draw.add_rect(
                ImVec2(at.x - 1, at.y - 1), ImVec2(end.x + 1, end.y + 1), u32(theme.ACCENT), thickness=2
            )
        label = f"{checkpoint.kimg:g}"
        draw.add_text(
            ImVec2(at.x + (cell - imgui.calc_text_size(label).x) / 2, end.y + em(0.1)),
            u32(theme.TEXT if current else theme.DIM),
            label,
        )
        imgui.set_cursor_screen_pos(at)
        if imgui.invisible_button(f"time {index}", ImVec2(cell, cell)):
            app.document.follow = False
            state = set_snapshot(state, checkpoint.path)
        widgets.tooltip(
            f"{Path(checkpoint.path).name}: {checkpoint.kimg:g} thousand images. Click to show it."
        )
    app.screen.keep({f"time {n}" for n in range(len(picked))}, "time ")
    return state


def draw_training(app: Context, state: AppState) -> AppState:
    """Draw the Training panel: curves of stats.jsonl and the training started here."""
    run = app.document.run
    if imgui.button(f"{icons.ICON_FA_PLAY}  train…##training"):
        app.interface.dialogs.add(Dialog.TRAIN)
    widgets.tooltip("Start a training from a study TOML; it survives the explorer being closed.")
    _control(app)
    if run is None or not run.statistics.names:
        widgets.empty_note(
            "No training curves",
            "Open a run's folder or start a training: losses and metrics appear here as they are written.",
        )
        return state
    imgui.same_line()
    chosen = _chosen(app, run.statistics.names)
    _progress(run)
    if worth := run.statistics.worth(chosen):
        widgets.wrapped(f"read by {worth}")
    region = imgui.get_content_region_avail()
    room = max(1, int(region.x / em(_CHART)))
    groups = [*charts(run.statistics.names)[: room - 1], (run.statistics.marked(chosen), [chosen])]
    width = (region.x - em(0.4) * (len(groups) - 1)) / len(groups)
    for i, (title, members) in enumerate(groups):
        if i:
            imgui.same_line(0, em(0.4))
        _plot(run, place=i, title=title, names=members, size=ImVec2(width, region.y))
    return state


def charts(names: Sequence[str]) -> list[tuple[str, list[str]]]:
    """What is looked at first, the most telling first: titles, with curves that share a scale and tell one
    thing. What is left is in the list of all curves."""
    told = (
        ("does it obey (validation)", "metric/validation/[^/]+"),
        ("realism (adversarial)", "loss/[GD]/adv"),
        ("scores of real and fake", "score/.*"),
        ("covariates", "loss/[GD]/cov"),
    )
    found = ((title, [name for name in names if re.fullmatch(form, name)]) for title, form in told)
    return [(title, members) for title, members in found if members]


def _control(app: Context) -> None:
    """What can be done with the training in progress, or with a run on which none works."""
    training, run = app.document.training, app.document.run
    if training is not None and training.running:
        imgui.same_line()
        if imgui.button(f"{icons.ICON_FA_STOP}  stop##training"):
            app.told(training.stop)
        widgets.tooltip("Ask the training to write a last snapshot and end.")
        imgui.same_line()
        widgets.text(f"running in {training.outdir.name}", theme.GOOD)
        return
    if run is not None and (run.folder / "config.json").is_file():
        imgui.same_line()
        if imgui.button(f"{icons.ICON_FA_FORWARD}  resume##training"):
            app.told(app.document.resume)
        widgets.tooltip(f"Go on with {run.folder.name} from its last state: `mssg-train --resume`.")
    if training is not None:
        imgui.same_line()
        widgets.text(training.ended, theme.DIM)


def _chosen(app: Context, names: tuple[str, ...]) -> str:
    """The curve the user looks at beside losses and scores; at first a metric."""
    known = app.interface.curve
    if known not in names:
        known = next((n for n in names if n.startswith("metric/")), names[0])
    app.interface.curve = widgets.combo("##curve", names, known, width=em(15))
    widgets.tooltip("A curve of its own: any loss, score or metric of the run.")
    return app.interface.curve


def _progress(run: FollowedRun) -> None:
    last = run.statistics.last
    parts = [f"{last['kimg']:.0f} kimg"] if "kimg" in last else []
    if "elapsed_sec" in last:
        parts.append(f"{duration(last['elapsed_sec'])} so far")
    if "eta_sec" in last:
        parts.append(f"{duration(last['eta_sec'])} to go")
    widgets.right_text("   ".join(parts), theme.DIM)


def _plot(run: FollowedRun, place: int, title: str, names: list[str], size: ImVec2) -> None:
    flags = implot.Flags_.no_menus | implot.Flags_.no_box_select
    flags |= implot.Flags_.no_legend if len(names) < 2 else 0
    if implot.begin_plot(f"{title}###plot {place}", size, flags):
        fit = implot.AxisFlags_.auto_fit
        implot.setup_axes(
            "kimg", "", fit | implot.AxisFlags_.no_highlight, fit | implot.AxisFlags_.no_highlight
        )
        implot.setup_legend(implot.Location_.north_east, implot.LegendFlags_.none)
        for name, label in zip(names, told_apart([run.statistics.marked(n) for n in names])):
            xs, ys = (np.asarray(values) for values in run.statistics.curve(name))
            if xs.size:
                plot = implot.plot_line if xs.size > 1 else implot.plot_scatter  # a point is no line
                plot(label, xs, ys)
        implot.end_plot()


def told_apart(names: Sequence[str]) -> list[str]:
    """Names such as loss/D/adv without the parts at either end that all of them have."""
    parts = [name.split("/") for name in names]
    most = min(map(len, parts), default=1) - 1
    first = next((i for i in range(most) if len({p[i] for p in parts}) > 1), most)
    last = next((i for i in range(most - first) if len({p[-1 - i] for p in parts}) > 1), most - first)
    return ["/".join(p[first : len(p) - last]) for p in parts]


def draw_log(app: Context, state: AppState) -> AppState:
    """Draw the Log panel: the run's log, or the output of the training started here."""
    training, run = app.document.training, app.document.run
    lines = (training.tail() if training is not None else []) or (run.log if run else [])
    if not lines:
        widgets.empty_note("No log", "Open a run's folder or start a training: its log appears here.")
        return state
    if imgui.begin_child("log lines", ImVec2(0, 0)):
        at_end = imgui.get_scroll_y() >= imgui.get_scroll_max_y() - 1
        for line in lines:
            imgui.text_unformatted(line)
        if at_end:
            imgui.set_scroll_here_y(1.0)
    imgui.end_child()
    return state
