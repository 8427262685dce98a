"""Inspect: layers and channels, statistics, Fourier transform, equivariance; performance."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from imgui_bundle import ImVec2, imgui

from explorer_app import theme, widgets
from explorer_app.context import Context
from explorer_app.display import Look
from explorer_app.panels.latent import label_at
from explorer_app.picture import Probe, Transform
from explorer_app.state import AppState
from explorer_app.theme import em

KAISER_BETA = 8.0
_TILES = (1, 4, 9, 16, 25)


def draw(app: Context, state: AppState) -> AppState:
    """Draw the panel."""
    model = app.model
    if model is None:
        widgets.wrapped("The model's layers appear here once it is loaded.")
        return state
    if imgui.begin_tab_bar("inspect"):
        if imgui.begin_tab_item("layers")[0]:
            state = _layers(app, state)
            imgui.end_tab_item()
        if imgui.begin_tab_item("spectrum")[0]:
            _spectrum(app)
            imgui.end_tab_item()
        if imgui.begin_tab_item("transform")[0]:
            state = replace(state, transform=_transform(state.transform, model.equivariant))
            imgui.end_tab_item()
        imgui.end_tab_bar()
    return state


def _layers(app: Context, state: AppState) -> AppState:
    probe, model, frame = state.probe, app.model, app.shown
    assert model is not None
    if frame is not None and frame.statistics:
        s = frame.statistics
        widgets.text(f"mean {s['mean']:.3g}   sd {s['sd']:.3g}   {s['min']:.3g} to {s['max']:.3g}", theme.DIM)
        widgets.tooltip("Of the tensor shown: the image (−1 black, 1 white) or the layer's activations.")
    if probe.layer:
        channels = next((layer.shape[0] for layer in model.layers if layer.name == probe.layer), 1)
        probe = _channels(probe, channels)
    if imgui.begin_child("layer list", ImVec2(0, 0)):
        for name, detail in (
            ("", "the picture"),
            *((la.name, " × ".join(map(str, la.shape)) + f"  {la.dtype}") for la in model.layers),
        ):
            clicked, _ = imgui.selectable(f"{name or 'image'}##layer {name}", probe.layer == name)
            widgets.tooltip(f"Show {'the picture' if not name else 'the activations of ' + name}.")
            if clicked:
                probe = replace(probe, layer=name, channel=0)
            widgets.right_text(detail, theme.FAINT)
    imgui.end_child()
    return replace(state, probe=probe)


def _channels(probe: Probe, channels: int) -> Probe:
    label_at("channel", em(4.2))
    imgui.set_next_item_width(imgui.get_content_region_avail().x - em(4.6))
    _, channel = imgui.slider_int(
        "##channel",
        min(probe.channel, channels - 1),
        0,
        max(0, channels - 1),
        "%d",
        imgui.SliderFlags_.always_clamp,
    )
    widgets.tooltip(f"First channel shown, of {channels}.")
    imgui.same_line()
    imgui.set_next_item_width(-1)
    tiles = widgets.combo("##tiles", [f"× {n}" for n in _TILES], f"× {probe.count}")
    widgets.tooltip("How many channels side by side.")
    _, normalise = imgui.checkbox("normalise##probe", probe.normalise)
    widgets.tooltip("Stretch the channels shown to the full grey range; otherwise −1 is black and 1 white.")
    return replace(probe, channel=channel, count=int(tiles.removeprefix("× ")), normalise=normalise)


def spectrum(image: np.ndarray) -> np.ndarray:
    """Log power spectrum of a picture [H, W] under a Kaiser window, in dB relative to its maximum: float32 [H, W]."""
    grey = image if image.ndim == 2 else image.mean(-1)
    window = np.outer(np.kaiser(grey.shape[0], KAISER_BETA), np.kaiser(grey.shape[1], KAISER_BETA))
    power = np.abs(np.fft.fftshift(np.fft.fft2((grey - grey.mean()) * window))) ** 2
    return (10 * np.log10(np.maximum(power, 1e-12) / max(power.max(), 1e-12))).astype(np.float32)


def _spectrum(app: Context) -> None:
    frame = app.shown
    if frame is None:
        widgets.text("no picture yet", theme.DIM)
        return
    if app.maps.get("spectrum of") is not frame.image:
        app.maps["spectrum of"], app.maps["spectrum"] = frame.image, spectrum(frame.image)
    power = app.maps["spectrum"]
    side = max(em(4), min(imgui.get_content_region_avail().x, imgui.get_content_region_avail().y - em(1.5)))
    pixels = max(1, round(side * (imgui.get_io().display_framebuffer_scale.x or 1)))
    step = max(power.shape) / pixels
    look = Look((pixels, pixels), (0, 0), (step, step), level=-40, width=80, colormap="inferno")
    imgui.set_cursor_pos_x(
        imgui.get_cursor_pos_x() + max(0.0, (imgui.get_content_region_avail().x - side) / 2)
    )
    imgui.image(imgui.ImTextureRef(app.screen.target("spectrum").show(power, look)), ImVec2(side, side))
    widgets.tooltip("Power spectrum, zero frequency in the middle.")
    widgets.text(f"0 to −80 dB, Kaiser window (β = {KAISER_BETA:g})", theme.FAINT)


def _transform(move: Transform, equivariant: bool) -> Transform:
    if not equivariant:
        widgets.wrapped("This generator has no translation or rotation input (StyleGAN2); StyleGAN3 has.")
    imgui.begin_disabled(not equivariant)
    label_at("x", em(4.2))
    x = widgets.float_slider("##translate x", move.x, -1, 1, "%.3f widths")
    label_at("y", em(4.2))
    y = widgets.float_slider("##translate y", move.y, -1, 1, "%.3f widths")
    label_at("rotate", em(4.2))
    angle = widgets.float_slider("##rotate", move.angle * 360, -180, 180, "%.1f°")
    _, back = imgui.checkbox("untransform##equivariance", move.untransform)
    widgets.tooltip("Move the picture back afterwards: an equivariant generator then stands still.")
    imgui.same_line()
    if imgui.button("reset##equivariance"):
        x = y = angle = 0.0
    imgui.end_disabled()
    return Transform(x, y, move.angle if angle == move.angle * 360 else angle / 360, back)


def draw_performance(app: Context, state: AppState) -> AppState:
    """Draw the Performance panel."""
    counters, model = app.service.counters, app.model
    _times("window", list(app.frame_ms), "ms a frame", 40.0)
    _times("render", list(app.service.last_ms), "ms a picture", 100.0)
    _times("answer", list(app.latency_ms), "ms from input to pixels", 200.0)
    if model is not None:
        widgets.text(
            f"{model.device}, {model.threads} thread{'s' if model.threads > 1 else ''}, loaded in {model.load_ms:.0f} ms",
            theme.DIM,
        )
    widgets.text(
        f"{counters.mappings} mappings, {counters.syntheses} syntheses, {counters.restarts} restarts",
        theme.DIM,
    )
    widgets.tooltip("Work of the render process since it started. Zoom, window and colours cost none.")
    label_at("limit", em(4.2))
    _, app.fps_limit = imgui.slider_int(
        "##fps", app.fps_limit, 10, 144, "%d frames a second", imgui.SliderFlags_.always_clamp
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
