"""Movie: keyframes of what was on the screen, and how the way between them is filmed."""

from __future__ import annotations

from dataclasses import replace

from imgui_bundle import ImVec2, imgui
from imgui_bundle import icons_fontawesome_6 as icons

from explorer_app import theme, widgets
from explorer_app.context import Context
from explorer_app.interface import Dialog, ExportForm
from explorer_app.movie import keyframe, seconds
from explorer_app.panels.grid import thumbnail
from explorer_app.state import EASINGS, KEYFRAME_LIMIT, AppState, Keyframe, Movie, set_keyframe
from explorer_app.theme import em, u32

FPS = (10, 12, 15, 24, 25, 30, 50)
TIMES = (1, 2, 4, 8)
SECONDS = (0.1, 60.0)
_BURNT = (("letters", "edge letters"), ("scale", "scale bar"), ("bar", "colour bar"), ("values", "values"))


def draw(app: Context, state: AppState) -> AppState:
    """Draw the panel."""
    if app.document.distribution is None or app.client.shown is None:
        widgets.empty_note("No movie", "Open a snapshot: keyframes of its pictures become a movie.")
        return state
    state = _controls(app, state)
    if not state.movie.keyframes:
        widgets.empty_note(
            "No keyframes",
            "Set sliders, seed and view, add a keyframe; change them, add another: the movie goes from one to"
            " the next.",
        )
        return state
    return _strip(app, state)


def _controls(app: Context, state: AppState) -> AppState:
    movie, room = state.movie, len(state.movie.keyframes) < KEYFRAME_LIMIT
    imgui.begin_disabled(not room)
    if imgui.button(f"{icons.ICON_FA_PLUS}  keyframe##movie"):
        state = set_keyframe(state, len(movie.keyframes), _here(app, state))
    imgui.end_disabled()
    widgets.tooltip("Add what is on the screen: covariates, seed and view." if room else "No more fit.")
    imgui.same_line(0, em(0.2))
    playing, can = app.interface.animation == "movie", len(state.movie.keyframes) > 1
    icon = icons.ICON_FA_STOP if playing else icons.ICON_FA_PLAY
    if widgets.icon_button(icon, "play movie", "Play it in the picture.", playing, enabled=can):
        app.interface.animation = "" if playing else "movie"
    imgui.same_line(0, em(0.2))
    imgui.begin_disabled(not can)
    if imgui.button(f"{icons.ICON_FA_DOWNLOAD}  export…##movie"):
        app.interface.export = ExportForm("movie", "movie.mp4")
        app.interface.dialogs.add(Dialog.EXPORT)
    imgui.end_disabled()
    widgets.tooltip(
        "GIF, MP4 or PNGs. A saved session holds the keyframes: `mssg figure movie SESSION` films them."
    )
    movie = state.movie
    fps = _choice("##movie fps", FPS, movie.fps, "{} a second", width=7.5, tip="Pictures a second.")
    times = _choice(
        "##movie size", TIMES, movie.times, "{}× pixels", 6.5, "Pixels a side for each of the picture's."
    )
    imgui.same_line(0, em(0.4))
    tips = ("Start and stop gently at each keyframe.", "Even speed from keyframe to keyframe.")
    easing = widgets.segmented("easing", EASINGS, movie.easing, tips, width=em(8.5))
    return replace(state, movie=_burnt(replace(movie, fps=fps, times=times, easing=easing)))


def _choice(label: str, options: tuple[int, ...], current: int, words: str, width: float, tip: str) -> int:
    imgui.same_line(0, em(0.4))
    labels = [words.format(option) for option in sorted({*options, current})]
    chosen = widgets.combo(label, labels, words.format(current), width=em(width))
    widgets.tooltip(tip)
    return sorted({*options, current})[labels.index(chosen)]


def _burnt(movie: Movie) -> Movie:
    """What is burnt in, as ticked."""
    burnt = movie.burnt.split()
    widgets.text(f"{seconds(movie):.1f} s   burn in", theme.DIM)
    for key, title in _BURNT:
        imgui.same_line()
        clicked, on = imgui.checkbox(f"{title}##movie {key}", key in burnt)
        widgets.tooltip(f"Write {title} into the pixels.")
        if clicked:
            burnt = [k for k, _ in _BURNT if (k in burnt or k == key) and (on or k != key)]
    return replace(movie, burnt=" ".join(burnt))


def _here(app: Context, state: AppState, length: float = 2.0) -> Keyframe:
    """What is on the screen."""
    return keyframe(state.request, state.display, length, app.interface.fit)


def _strip(app: Context, state: AppState) -> AppState:
    """The keyframes in order, each with what can be done to it."""
    line = imgui.get_frame_height_with_spacing()
    cell = max(em(3), min(imgui.get_content_region_avail().y - 2 * line - em(0.8), em(9)))
    frames = state.movie.keyframes  # one that is taken out in this frame is still drawn in it
    app.client.request([frame.request for frame in frames])
    flags = imgui.WindowFlags_.horizontal_scrollbar
    if imgui.begin_child("keyframes", ImVec2(0, 0), window_flags=int(flags)):
        for i, frame in enumerate(frames):
            if i:
                imgui.same_line(0, em(0.5))
            imgui.begin_group()
            state = _keyframe(app, state, i, frame, cell)
            imgui.end_group()
    imgui.end_child()
    app.screen.keep({f"keyframe {i}" for i in range(len(frames))}, "keyframe ")
    return state


def _keyframe(app: Context, state: AppState, i: int, frame: Keyframe, cell: float) -> AppState:
    shown, at = app.client.frame(frame.request), imgui.get_cursor_screen_pos()
    end = ImVec2(at.x + cell, at.y + cell)
    if shown is None:
        imgui.get_window_draw_list().add_rect_filled(at, end, u32(theme.FRAME, 0.6))
    else:
        of_frame = replace(state, display=frame.display)
        texture = thumbnail(app, f"keyframe {i}", shown, cell, state=of_frame)
        imgui.get_window_draw_list().add_image(imgui.ImTextureRef(texture), at, end)
    if imgui.invisible_button(f"keyframe {i}", ImVec2(cell, cell)):
        state = replace(state, request=frame.request, display=frame.display)
    part = "" if frame.span == 1 else f" {100 * frame.span:.0f} % of its sides are seen."
    widgets.tooltip(f"Keyframe {i + 1}.{part} Click to take it over.")
    tip = "Put what is on the screen in its place."
    if widgets.icon_button(icons.ICON_FA_CAMERA, f"retake {i}", tip):
        state = set_keyframe(state, i, _here(app, state, frame.seconds))
    imgui.same_line(0, em(0.2))
    if widgets.icon_button(icons.ICON_FA_XMARK, f"no keyframe {i}", "Take this keyframe out."):
        return set_keyframe(state, i, None)
    if i + 1 < len(state.movie.keyframes):
        imgui.set_next_item_width(cell)
        held = state.movie.keyframes[i]
        length = widgets.float_slider(
            f"##seconds {i}", held.seconds, *SECONDS, "%.1f s", int(imgui.SliderFlags_.logarithmic)
        )
        widgets.tooltip("Seconds to the next keyframe. Ctrl-click to type.")
        state = set_keyframe(state, i, replace(held, seconds=length))
    return state
