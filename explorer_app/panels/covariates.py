"""Covariates: a control for each, in native units, over its training distribution; linked or free;
support."""

from __future__ import annotations

from dataclasses import replace

from imgui_bundle import ImVec2, imgui, imgui_ctx
from imgui_bundle import icons_fontawesome_6 as icons

from explorer_app import theme, widgets
from explorer_app.context import Context
from explorer_app.distribution import Support, TrainingDistribution
from explorer_app.interface import TypedValue
from explorer_app.state import LINK_MODES, AppState, set_values
from explorer_app.theme import em
from mssg.study.covariate import SOURCE, Covariate

_MODE_TIPS = (
    (
        "linked: the other covariates follow as they go together in the training population: each keeps its"
        " conditional quantile given the one you move. Association, not cause. Discrete covariates stay."
    ),
    "free: only the covariate you move changes, everything else is held: an intervention on the model.",
)


def draw(app: Context, state: AppState) -> AppState:
    """Draw the panel."""
    distribution = app.document.distribution
    if distribution is None:
        widgets.empty_note("No snapshot", "Open a snapshot or a run to see its covariates.")
        return state
    support = distribution.support(state.request.covariates, thorough=app.interface.drag is None)
    line, gap = imgui.get_text_line_height(), imgui.get_style().item_spacing.y
    foot = imgui.get_frame_height() + 3 * line + em(0.45) + 4 * gap
    if imgui.begin_child("covariate list", ImVec2(0, -foot)):
        for covariate in distribution.study.personal_conditions:
            state = _row(app, state, distribution, covariate, support)
    imgui.end_child()
    mode = widgets.segmented(
        "mode", LINK_MODES, state.mode, _MODE_TIPS, width=imgui.get_content_region_avail().x - em(2.3)
    )
    if mode != state.mode:
        state = replace(state, mode=mode)
    imgui.same_line()
    tip = "Put every covariate back to the training median, or the commonest level (M)."
    if widgets.icon_button(icons.ICON_FA_ROTATE_LEFT, "medians", tip):
        state = set_values(state, **distribution.defaults())
    _support(support)
    return state


def _row(
    app: Context, state: AppState, distribution: TrainingDistribution, covariate: Covariate, support: Support
) -> AppState:
    value = state.value(covariate.name)
    widgets.text(covariate.title)
    widgets.tooltip(_about(distribution, covariate))
    _observers(distribution, covariate)
    shown = covariate.format(value) if covariate.kind != "binary" else ""
    with imgui_ctx.push_font(theme.Fonts.bold, 0.0):
        widgets.right_text(shown)
    if covariate.is_continuous:
        state = _slider(app, state, distribution, covariate, support)
    else:
        state = _levels(state, distribution, covariate)
    imgui.dummy(ImVec2(0, em(0.1)))
    return state


def _observers(distribution: TrainingDistribution, covariate: Covariate) -> None:
    study = distribution.study
    if len(study.sources) < 2 or covariate.name == SOURCE:
        return
    observers = study.observers(covariate.name)
    imgui.same_line(0, em(0.5))
    widgets.text(" ".join(observers) if len(observers) < len(study.sources) else "all", theme.FAINT)
    apart = study.never_observed_with(covariate.name)
    widgets.tooltip(
        f"Recorded by {', '.join(observers) or 'no source'}."
        + (
            f" Never recorded together with {', '.join(apart)}: their combination was never seen."
            if apart
            else ""
        )
    )
    if apart:
        imgui.same_line(0, em(0.3))
        widgets.text(icons.ICON_FA_LINK_SLASH, theme.FAINT)
        widgets.tooltip(
            f"No source records it together with {', '.join(apart)}: the model never saw their combination."
        )


def _about(distribution: TrainingDistribution, covariate: Covariate) -> str:
    low, high = distribution.range(covariate.name)
    if covariate.is_continuous:
        span = (
            f"{covariate.format(low, unit=False)} to {covariate.format(high)}, median"
            f" {covariate.format(distribution.median(covariate.name))}"
        )
        return (
            f"{covariate.name}: training range {span}. Drag, Ctrl-click to type, double-click for the median,"
            " arrow keys step, Shift is finer."
        )
    return f"{covariate.name}: {covariate.kind}" + (
        f" ({', '.join(covariate.levels)})" if covariate.levels else ""
    )


def _slider(
    app: Context, state: AppState, distribution: TrainingDistribution, covariate: Covariate, support: Support
) -> AppState:
    name = covariate.name
    value = state.value(name)
    low, high = distribution.range(name)
    edges, counts = distribution.histogram(name)
    changed, new = widgets.histogram_slider(
        f"##{name}", value, min(low, value), max(high, value), edges, counts, support.word == "outside"
    )
    interface = app.interface
    if imgui.is_item_activated() or interface.drag is None or interface.drag.moved != name:
        if imgui.is_item_activated() or changed:
            interface.drag = distribution.resumed_drag(interface.last_drag, name, state.request.covariates)
    if widgets.double_clicked():
        changed, new = True, distribution.median(name)
    widgets.tooltip(_about(distribution, covariate))
    meant = _asked(app, distribution, covariate)
    if meant is not None:
        changed, new = True, meant
        interface.drag = distribution.resumed_drag(interface.last_drag, name, state.request.covariates)
    elif changed and new != value:
        changed = _sensible(app, distribution, covariate, new)
    if changed and state.mode == "linked" and interface.drag is not None:
        state = set_values(state, **distribution.follow(interface.drag, new))
    elif changed:
        state = set_values(state, **{name: new})
    if not imgui.is_item_active() and interface.drag is not None and interface.drag.moved == name:
        # also after a key or a double-click, which hold nothing
        interface.last_drag, interface.drag = interface.drag, None
    return state


def _sensible(app: Context, distribution: TrainingDistribution, covariate: Covariate, value: float) -> bool:
    """Whether a value that was typed can be taken. What the study cannot mean is refused with the range; what
    is far outside the data is asked about, once for each covariate."""
    name, (least, most) = covariate.name, distribution.limits(covariate.name)
    if not least <= value <= most:
        span = f"{covariate.format(least, unit=False)} to {covariate.format(most)}"
        app.interface.note(f"{name}: {value:.4g} is refused. Expected {span}.", bad=True)
        return False
    if not distribution.is_far(name, value) or (distribution.path, name) in app.interface.allowed:
        return True
    app.interface.typed = TypedValue(name, value)
    imgui.open_popup(f"far##{name}")
    return False


def _asked(app: Context, distribution: TrainingDistribution, covariate: Covariate) -> float | None:
    """Ask whether a value far outside the data is meant; the value once it is."""
    typed, name = app.interface.typed, covariate.name
    if not imgui.begin_popup(f"far##{name}"):
        return None
    meant = None
    if typed is not None and typed.name == name:
        low, high = distribution.range(name)
        span = f"{covariate.format(low, unit=False)} to {covariate.format(high)}"
        icon = icons.ICON_FA_TRIANGLE_EXCLAMATION
        widgets.text(f"{icon}  {name} {covariate.format(typed.value)} is far outside the data", theme.AMBER)
        widgets.text(f"Training images have {span}. Nobody knows what the model draws there.", theme.DIM)
        if imgui.button("use it##far"):
            app.interface.allowed.add((distribution.path, name))
            meant = typed.value
        imgui.same_line()
        if imgui.button("leave it##far") or meant is not None:
            app.interface.typed = None
            imgui.close_current_popup()
    imgui.end_popup()
    return meant


def _levels(state: AppState, distribution: TrainingDistribution, covariate: Covariate) -> AppState:
    name, value = covariate.name, round(state.value(covariate.name))
    _, counts = distribution.histogram(name)
    total = counts.sum() if counts.size else 0

    def share(level: int) -> str:
        return (
            f"{100 * counts[level] / total:.0f} % of training"
            if total and level < counts.size
            else "share unknown"
        )

    options = covariate.level_names
    if len(options) > 5:
        text = widgets.combo(f"##{name}", covariate.levels, covariate.levels[value], width=-1)
        widgets.tooltip(f"{covariate.levels[value]}: {share(value)}")
        return set_values(state, **{name: float(covariate.levels.index(text))})
    chosen = widgets.segmented(
        name, options, options[value], [f"{o}: {share(i)}" for i, o in enumerate(options)]
    )
    return set_values(state, **{name: float(options.index(chosen))})


def _support(support: Support) -> None:
    """The support gauge: a word, a sign and a colour, and why."""
    look = {
        "covered": (theme.GOOD, icons.ICON_FA_CHECK),
        "rare": (theme.AMBER, icons.ICON_FA_CIRCLE_EXCLAMATION),
        "outside": (theme.AMBER, icons.ICON_FA_TRIANGLE_EXCLAMATION),
        "unknown": (theme.DIM, icons.ICON_FA_CIRCLE_QUESTION),
    }
    colour, icon = look[support.word]
    widgets.text("support", theme.DIM)
    widgets.right_text(f"{icon} {support.word}", colour)
    widgets.meter(0.0 if support.word == "unknown" else support.percentile / 100, colour)
    widgets.tooltip(
        "How common this combination is: the percentile of its log-density among training rows, under the"
        f" snapshot's covariate models. {support.reason}."
    )
    with imgui_ctx.begin_child("reason", ImVec2(0, 2 * imgui.get_text_line_height())):
        widgets.wrapped(support.reason)
