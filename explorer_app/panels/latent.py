"""Latent: seed and fractional drag, truncation, noise, style mixing, animation."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

from imgui_bundle import ImVec2, imgui, imgui_ctx
from imgui_bundle import icons_fontawesome_6 as icons

from explorer_app import theme, widgets
from explorer_app.animate import SPEEDS
from explorer_app.context import Context
from explorer_app.request_edits import SEEDS, at_place, drag_latent, place, plain_seed
from explorer_app.state import AppState
from explorer_app.theme import em
from mssg.rendering.request import NOISE_MODES, RenderRequest

SEEDS_PER_EM = 0.06
_USUAL = 8
"""Layers that take a style, where nobody has told yet."""


def draw(app: Context, state: AppState) -> AppState:
    """Draw the panel."""
    label, request = em(4.2), state.request
    if request.latent is not None:
        widgets.wrapped("The picture is drawn after your image: another seed leaves it.", theme.AMBER)
    request = _seed(app, request, label)
    request = _truncation(app, request, label)
    model = app.model
    if model is None or model.has_noise:
        request = _noise(app, request, label)
    # Until the render process has told how many layers there are, also after a restart, all are kept.
    layers = model.num_ws if model is not None else 1 + max(request.mix_layers, default=_USUAL - 1)
    request = _mixing(request, label, layers)
    if app.interface.animation in ("latent", "psi", "noise"):
        speed(app, label)
    return replace(state, request=_reset(request))


def _reset(request: RenderRequest) -> RenderRequest:
    """The button back to the plain seed."""
    plain = plain_seed(request)
    imgui.begin_disabled(plain == request)
    clicked = imgui.button("reset##latent", ImVec2(-1, 0))
    imgui.end_disabled()
    widgets.tooltip("The plain seed: no blend, no truncation, noise as trained, no style mixing.")
    return plain if clicked else request


def play(app: Context, kind: str, tip: str) -> None:
    """The button that starts and stops an animation."""
    on = app.interface.animation == kind
    icon = icons.ICON_FA_STOP if on else icons.ICON_FA_PLAY
    if widgets.icon_button(icon, f"animate {kind}", tip + (" Click to stop." if on else ""), on):
        app.interface.animation = "" if on else kind


def speed(app: Context, label: float) -> None:
    """The speed of the running animation."""
    label_at("speed", label)
    app.interface.speed = widgets.float_slider(
        "##speed", app.interface.speed, *SPEEDS, "%.2f ×", imgui.SliderFlags_.logarithmic
    )
    if widgets.double_clicked():
        app.interface.speed = 1.0
    widgets.tooltip("Speed of the animation. Double-click: 1.")


def label_at(text: str, width: float, tip: str = "") -> None:
    """A label on the left, the control after it to the panel's edge."""
    imgui.align_text_to_frame_padding()
    widgets.text(text, theme.DIM)
    if tip:
        widgets.tooltip(tip)
    padding = imgui.get_style().window_padding.x
    imgui.same_line(min(width, 0.36 * imgui.get_window_width()) + padding)
    imgui.set_next_item_width(-1)


def random_seed() -> int:
    """A seed nobody chose."""
    return random.randrange(100_000)


def _changed(request: RenderRequest, **fields: Any) -> RenderRequest:
    """The request with fields changed; itself where nothing is."""
    new = {name: value for name, value in fields.items() if getattr(request, name) != value}
    return replace(request, **new) if new else request


def _whole(label: str, value: int, *steps: int) -> int:
    """A field for a seed."""
    shown = min(value, SEEDS - 1)
    changed, new = imgui.input_int(label, shown, *steps)
    return max(0, new) if changed else value


def _seed(app: Context, request: RenderRequest, label: float) -> RenderRequest:
    label_at("seed", label)
    imgui.set_next_item_width(imgui.get_content_region_avail().x - em(2.2))
    seed, x, y = place(request)
    new = _whole("##seed", seed, *((1, 100) if imgui.get_content_region_avail().x > em(8) else (0, 0)))
    if new != seed:
        request = at_place(request, new)
    widgets.tooltip("Which subject: the seed of the latent z. The buttons step by 1, with Ctrl by 100.")
    imgui.same_line()
    if widgets.icon_button(icons.ICON_FA_DICE, "new seed", "Another seed at random."):
        request = at_place(request, random_seed())
    label_at("drag", label)
    # The id is what follows ###: one with the values in it would be another button after every step.
    icon, width = icons.ICON_FA_ARROWS_UP_DOWN_LEFT_RIGHT, imgui.get_content_region_avail().x - em(2.2)
    texts = (f"{icon}  x {x:.2f}  y {y:.2f}", f"{x:.2f}  {y:.2f}", icon)
    text = next(t for t in texts if imgui.calc_text_size(t).x < width - em(0.8) or t is icon)
    imgui.button(f"{text}###latent drag", ImVec2(-em(2.2), 0))
    if imgui.is_item_active():
        move = imgui.get_io().mouse_delta
        speed = SEEDS_PER_EM / em() * (0.1 if imgui.get_io().key_shift else 1)
        if move.x or move.y:
            request = drag_latent(request, move.x * speed, move.y * speed)
    if widgets.double_clicked():
        request = at_place(request, seed)
    weights = ", ".join(f"{100 * w:.0f} % seed {s}" for s, w in request.blend or ((seed, 1.0),))
    widgets.tooltip(
        f"Drag to move between four neighbouring seeds ({weights}). Double-click: back to the seed."
    )
    imgui.same_line()
    play(app, "latent", "Walk through latent space.")
    return request


def _truncation(app: Context, request: RenderRequest, label: float) -> RenderRequest:
    label_at(
        "psi", label, "Truncation: 1 = as trained, 0 = the average of this condition, above 1 = exaggerated."
    )
    imgui.set_next_item_width(imgui.get_content_region_avail().x - em(2.2))
    psi = widgets.float_slider("##psi", request.psi, -1.0, 2.0, form="%.2f")
    if widgets.double_clicked():
        psi = 1.0
    widgets.tooltip("Truncation psi, −1 to 2. Double-click: 1 (no truncation).")
    imgui.same_line()
    play(app, "psi", "Swing psi between 0 and 1.")
    # Until the render process has told how many layers there are, also after a restart, any cutoff is kept.
    layers = app.model.num_ws if app.model else (request.cutoff or 0) + 1
    label_at(
        "cutoff", label, "Truncate only this many layers, from the coarsest; the finer ones stay as trained."
    )
    cutoff = layers if request.cutoff is None else min(request.cutoff, layers)
    form = "all layers" if cutoff == layers else "%d layers"
    _, cutoff = imgui.slider_int("##cutoff", cutoff, 0, layers, form, imgui.SliderFlags_.always_clamp)
    widgets.tooltip("Truncation cutoff in layers; the right end truncates all.")
    return _changed(request, psi=psi, cutoff=None if cutoff >= layers else cutoff)


def _noise(app: Context, request: RenderRequest, label: float) -> RenderRequest:
    label_at("noise", label, "const: as trained · none: without · random: from its own seed")
    width = imgui.get_content_region_avail().x - em(2.2)
    mode = request.noise_mode
    mode = widgets.combo("##noise", NOISE_MODES, mode, width=em(5.4) if mode == "random" else width)
    widgets.tooltip("Noise inputs of the synthesis network: constant, none, or random from a seed.")
    seed = request.noise_seed
    if mode == "random":
        imgui.same_line()
        imgui.set_next_item_width(imgui.get_content_region_avail().x - em(2.2))
        seed = _whole("##noise seed", seed, 0)
        widgets.tooltip("Seed of the random noise.")
    imgui.same_line()
    play(app, "noise", "New random noise all the time.")
    return _changed(request, noise_mode=mode, noise_seed=seed)


def _mixing(request: RenderRequest, label: float, layers: int) -> RenderRequest:
    label_at("mix with", label, "Style mixing: the lit layers take their style from this other seed.")
    seed = _whole("##mix seed", request.mix_seed)
    widgets.tooltip("Seed whose style the lit layers take.")
    label_at("layers", label, "Coarse layers on the left decide shape, fine ones on the right texture.")
    chosen = {layer for layer in request.mix_layers if layer < layers}
    gap = em(0.12)
    width = (imgui.get_content_region_avail().x - gap * (layers - 1)) / layers
    for i in range(layers):
        if i:
            imgui.same_line(0, gap)
        with imgui_ctx.push_style_color(
            imgui.Col_.button, theme.vec(theme.ACCENT, 0.55) if i in chosen else theme.vec(theme.FRAME)
        ):
            if imgui.button(f"##mix {i}", ImVec2(width, em(0.9))):
                chosen ^= {i}
        widgets.tooltip(
            f"Layer {i}: {'style of seed ' + str(seed) if i in chosen else 'own style'}. Click to switch."
        )
    return _changed(request, mix_seed=seed, mix_layers=tuple(sorted(chosen)))
