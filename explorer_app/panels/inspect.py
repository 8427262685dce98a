"""Inspect: layers and channels, statistics, Fourier transform, equivariance; performance."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from imgui_bundle import ImVec2, imgui

from explorer_app import theme, widgets
from explorer_app.context import Context
from explorer_app.display import Look
from explorer_app.messages import Frame
from explorer_app.panels.latent import label_at, play, speed
from explorer_app.request_edits import motion, moved
from explorer_app.state import Analysis, AppState
from explorer_app.theme import em
from mssg.text import number

_TILES = (1, 4, 9, 16, 25)


def draw(app: Context, state: AppState) -> AppState:
    """Draw the panel."""
    model = app.model
    if model is None:
        widgets.wrapped("The model's layers appear here once it is loaded.")
        return state
    if imgui.begin_tab_bar("inspect", imgui.TabBarFlags_.draw_selected_overline):
        if imgui.begin_tab_item("layers")[0]:
            state = _layers(app, state)
            imgui.end_tab_item()
        if imgui.begin_tab_item("spectrum")[0]:
            state = replace(state, analysis=_spectrum(app, state.analysis))
            imgui.end_tab_item()
        if imgui.begin_tab_item("transform")[0]:
            state = _transform(app, state, model.equivariant)
            imgui.end_tab_item()
        imgui.end_tab_bar()
    return state


def _layers(app: Context, state: AppState) -> AppState:
    request, model = state.request, app.model
    assert model is not None
    if app.client.shown is not None:
        mean, sd, low, high = _statistics(app, app.client.shown).tolist()
        widgets.text(f"mean {number(mean)}   sd {number(sd)}   {number(low)} to {number(high)}", theme.DIM)
        widgets.tooltip(
            "Of what is rendered: the image (−1 black, 1 white) or the layer's first channel shown."
        )
    imgui.begin_disabled(not model.half)
    forced = request.precision == "float32"
    clicked, forced = imgui.checkbox("force float32##precision", forced or not model.half)
    imgui.end_disabled()
    widgets.tooltip(
        "Compute in float32 where the model would take float16."
        if model.half
        else f"This model computes in float32 on this device ({model.device}) anyway."
    )
    if clicked and model.half:
        request = replace(request, precision="float32" if forced else "auto")
    state = replace(state, request=request)
    if request.layer:
        state = _channels(state, next((la.shape[0] for la in model.layers if la.name == request.layer), 1))
    if imgui.begin_child("layer list", ImVec2(0, 0)):
        for name, detail in (
            ("", "the picture"),
            *((la.name, " × ".join(map(str, la.shape)) + f"  {la.dtype}") for la in model.layers),
        ):
            clicked, _ = imgui.selectable(f"{name or 'image'}##layer {name}", (request.layer or "") == name)
            widgets.tooltip(f"Show {'the picture' if not name else 'the activations of ' + name}.")
            if clicked:
                looked_at = replace(request, layer=name or None, channel=0 if name else None)
                state = replace(state, request=looked_at)
            widgets.right_text(detail, theme.FAINT)
    imgui.end_child()
    return state


def _statistics(app: Context, frame: Frame) -> np.ndarray:
    """Mean, deviation, lowest and highest value of what was rendered: float64 [4]."""

    def work() -> np.ndarray:
        raw = frame.image if frame.request.layer else frame.image / 127.5 - 1
        return np.array([raw.mean(), raw.std(), raw.min(), raw.max()], np.float64)

    return app.maps.computed("statistics", [frame.image], (frame.request.layer,), work)


def _channels(state: AppState, channels: int) -> AppState:
    """Which channels of the layer are shown, and how."""
    request, display = state.request, state.display
    label_at("channel", em(4.2))
    imgui.set_next_item_width(imgui.get_content_region_avail().x - em(4.6))
    shown = min(request.channel or 0, channels - 1)
    _, channel = imgui.slider_int(
        "##channel", shown, 0, max(0, channels - 1), "%d", imgui.SliderFlags_.always_clamp
    )
    widgets.tooltip(f"First channel shown, of {channels}.")
    imgui.same_line()
    imgui.set_next_item_width(-1)
    tiles = widgets.combo("##tiles", [f"× {n}" for n in _TILES], f"× {display.channels}")
    widgets.tooltip("How many channels side by side.")
    _, normalise = imgui.checkbox("normalise##probe", display.normalise)
    widgets.tooltip("Stretch the channels shown to the full grey range; otherwise −1 is black and 1 white.")
    gain = display.gain_db
    if not normalise:
        imgui.same_line()
        imgui.set_next_item_width(-1)
        gain = widgets.float_slider("##gain", gain, -40.0, 40.0, form="%+.0f dB")
        widgets.tooltip("Scale: activations are multiplied by this before −1 becomes black and 1 white.")
    if channel != request.channel:
        request = replace(request, channel=channel)
    count = int(tiles.removeprefix("× "))
    display = replace(display, channels=count, normalise=normalise, gain_db=gain)
    return replace(state, request=request, display=display)


def spectrum(image: np.ndarray, beta: float) -> np.ndarray:
    """Log power spectrum of a picture [H, W] under a Kaiser window, in dB relative to its maximum: float32
    [H, W]."""
    grey = image if image.ndim == 2 else image.mean(-1)
    window = np.outer(np.kaiser(grey.shape[0], beta), np.kaiser(grey.shape[1], beta))
    power = np.abs(np.fft.fftshift(np.fft.fft2((grey - grey.mean()) * window))) ** 2
    return (10 * np.log10(np.maximum(power, 1e-12) / max(power.max(), 1e-12))).astype(np.float32)


def _spectrum(app: Context, analysis: Analysis) -> Analysis:
    frame = app.client.shown
    if frame is None:
        widgets.text("no picture yet", theme.DIM)
        return analysis
    beta, decibels = analysis.spectrum_beta, analysis.spectrum_range_db
    image = app.viewed(frame, "view 0")
    power = app.maps.computed("spectrum", [image], (beta,), lambda: spectrum(image, beta))
    region = imgui.get_content_region_avail()
    side = max(em(4), min(region.x, region.y - 2 * imgui.get_frame_height_with_spacing()))
    look = Look((1, 1), (0, 0), (1, 1), level=-decibels / 2, width=decibels, colormap="inferno")
    widgets.centre(side)
    widgets.map_view(app.screen.target("spectrum"), power, look, side)
    widgets.tooltip(
        f"Power spectrum, zero frequency in the middle, 0 to −{decibels:.0f} dB below its maximum."
    )
    label_at("beta", em(4.2))
    beta = widgets.float_slider("##beta", beta, 0.0, 20.0, form="Kaiser β %.1f")
    widgets.tooltip("Shape of the Kaiser window that keeps the picture's edges out of its spectrum. 0: none.")
    label_at("range", em(4.2))
    decibels = widgets.float_slider("##decibels", decibels, 20.0, 140.0, form="%.0f dB")
    widgets.tooltip("From the maximum down to black.")
    return replace(analysis, spectrum_beta=beta, spectrum_range_db=decibels)


def _transform(app: Context, state: AppState, equivariant: bool) -> AppState:
    before = motion(state.request)
    if not equivariant:
        widgets.wrapped("This generator has no translation or rotation input (StyleGAN2); StyleGAN3 has.")
    imgui.begin_disabled(not equivariant)
    label, play_width = em(4.2), em(2.2)
    label_at("x", label)
    imgui.set_next_item_width(imgui.get_content_region_avail().x - play_width)
    x = widgets.float_slider("##translate x", before[0], -1, 1, form="%.3f widths")
    imgui.same_line()
    play(app, "translate", "Move the picture on a circle.")
    label_at("y", label)
    imgui.set_next_item_width(imgui.get_content_region_avail().x - play_width)
    y = widgets.float_slider("##translate y", before[1], -1, 1, form="%.3f widths")
    label_at("rotate", label)
    imgui.set_next_item_width(imgui.get_content_region_avail().x - play_width)
    angle = widgets.float_slider("##rotate", before[2] * 360, -180, 180, form="%.1f°")
    imgui.same_line()
    play(app, "rotate", "Turn the picture.")
    if app.interface.animation in ("translate", "rotate"):
        speed(app, label)
    _, back = imgui.checkbox("untransform##equivariance", state.display.untransform)
    widgets.tooltip("Move the picture back afterwards: an equivariant generator then stands still.")
    imgui.same_line()
    if imgui.button("reset##equivariance"):
        x = y = angle = 0.0
    imgui.end_disabled()
    after = x, y, before[2] if angle == before[2] * 360 else angle / 360
    request = state.request if after == before else moved(state.request, *after)
    return replace(state, request=request, display=replace(state.display, untransform=back))


def draw_performance(app: Context, state: AppState) -> AppState:
    """Draw the Speed panel."""
    counters, model = app.client.counters, app.model
    _times("window", list(app.interface.frame_ms), "ms a frame", 40.0)
    _times("render", list(app.client.render_ms), "ms a picture", 100.0)
    _times("answer", list(app.client.latency_ms), "ms from input to pixels", 200.0)
    if model is not None:
        widgets.text(
            f"{model.device}, {model.threads} thread{'s' if model.threads > 1 else ''}, loaded in"
            f" {model.load_ms:.0f} ms",
            theme.DIM,
        )
    widgets.text(
        f"{counters.mappings} mappings, {counters.syntheses} syntheses, {counters.restarts} restarts",
        theme.DIM,
    )
    widgets.tooltip("Work of the render process since it started. Zoom, window and colours cost none.")
    label_at("limit", em(4.2))
    _, app.interface.fps_limit = imgui.slider_int(
        "##fps", app.interface.fps_limit, 10, 144, "%d frames a second", imgui.SliderFlags_.always_clamp
    )
    widgets.tooltip("Upper limit of the window's frame rate.")
    return state


def _times(name: str, values: list[float], unit: str, top: float) -> None:
    widgets.text(name, theme.DIM)
    recent = np.array(values[-120:] or [0.0], np.float32)
    widgets.right_text(f"{np.median(recent):.0f}  p95 {np.percentile(recent, 95):.0f} ms" if values else "–")
    imgui.plot_lines(
        f"##{name} times",
        recent,
        graph_size=ImVec2(imgui.get_content_region_avail().x, em(1.9)),
        scale_min=0.0,
        scale_max=max(top, float(recent.max())),
    )
    widgets.tooltip(unit)
