"""Latent: seed and fractional drag, truncation, noise, style mixing, animation."""

from __future__ import annotations

import random
from dataclasses import replace

from imgui_bundle import ImVec2, imgui, imgui_ctx
from imgui_bundle import icons_fontawesome_6 as icons

from explorer_app import theme, widgets
from explorer_app.animate import SPEEDS
from explorer_app.context import Context
from explorer_app.picture import NOISE_MODES, Latent
from explorer_app.state import AppState, blend, drag_latent
from explorer_app.theme import em

SEEDS_PER_EM = 0.06


def draw(app: Context, state: AppState) -> AppState:
    """Draw the panel."""
    latent = state.latent
    label = em(4.2)
    latent = _seed(app, latent, label)
    latent = _truncation(app, latent, label)
    model = app.model
    if model is None or model.has_noise:
        latent = _noise(app, latent, label)
    latent = _mixing(latent, label, model.num_ws if model is not None else 8)
    if app.interface.animation in ("latent", "psi", "noise"):
        speed(app, label)
    return replace(state, latent=latent)


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
    imgui.same_line(width + imgui.get_style().window_padding.x)
    imgui.set_next_item_width(-1)


def random_seed() -> int:
    """A seed nobody chose."""
    return random.randrange(100_000)


def _seed(app: Context, latent: Latent, label: float) -> Latent:
    label_at("seed", label)
    imgui.set_next_item_width(imgui.get_content_region_avail().x - em(2.2))
    changed, seed = imgui.input_int("##seed", latent.seed, 1, 100)
    if changed:
        latent = replace(latent, seed=max(0, min(seed, 2**31 - 1)), x=0.0, y=0.0)
    widgets.tooltip("Which subject: the seed of the latent z. The buttons step by 1, with Ctrl by 100.")
    imgui.same_line()
    if widgets.icon_button(icons.ICON_FA_DICE, "new seed", "Another seed at random."):
        latent = replace(latent, seed=random_seed(), x=0.0, y=0.0)
    label_at("drag", label)
    imgui.button(
        f"{icons.ICON_FA_ARROWS_UP_DOWN_LEFT_RIGHT}  x {latent.x:.2f}  y {latent.y:.2f}##latent drag",
        ImVec2(-em(2.2), 0),
    )
    if imgui.is_item_active():
        move = imgui.get_io().mouse_delta
        speed = SEEDS_PER_EM / em() * (0.1 if imgui.get_io().key_shift else 1)
        if move.x or move.y:
            latent = drag_latent(latent, move.x * speed, move.y * speed)
    if widgets.double_clicked():
        latent = replace(latent, x=0.0, y=0.0)
    weights = ", ".join(f"{100 * w:.0f} % seed {s}" for s, w in blend(latent))
    widgets.tooltip(
        f"Drag to move between four neighbouring seeds ({weights}). Double-click: back to the seed."
    )
    imgui.same_line()
    play(app, "latent", "Walk through latent space.")
    return latent


def _truncation(app: Context, latent: Latent, label: float) -> Latent:
    label_at(
        "psi", label, "Truncation: 1 = as trained, 0 = the average of this condition, above 1 = exaggerated."
    )
    imgui.set_next_item_width(imgui.get_content_region_avail().x - em(2.2))
    psi = widgets.float_slider("##psi", latent.psi, -1.0, 2.0, "%.2f")
    if widgets.double_clicked():
        psi = 1.0
    widgets.tooltip("Truncation psi, −1 to 2. Double-click: 1 (no truncation).")
    imgui.same_line()
    play(app, "psi", "Swing psi between 0 and 1.")
    # Until the render process has told how many layers there are, also after a restart, any cutoff is kept.
    layers = app.model.num_ws if app.model else (latent.cutoff or 0) + 1
    label_at(
        "cutoff", label, "Truncate only this many layers, from the coarsest; the finer ones stay as trained."
    )
    cutoff = layers if latent.cutoff is None else min(latent.cutoff, layers)
    form = "all layers" if cutoff == layers else "%d layers"
    _, cutoff = imgui.slider_int("##cutoff", cutoff, 0, layers, form, imgui.SliderFlags_.always_clamp)
    widgets.tooltip("Truncation cutoff in layers; the right end truncates all.")
    return replace(latent, psi=psi, cutoff=None if cutoff >= layers else cutoff)


def _noise(app: Context, latent: Latent, label: float) -> Latent:
    label_at("noise", label, "const: as trained · none: without · random: from its own seed")
    width = imgui.get_content_region_avail().x - em(2.2)
    mode = widgets.combo(
        "##noise", NOISE_MODES, latent.noise_mode, width=em(5.4) if latent.noise_mode == "random" else width
    )
    widgets.tooltip("Noise inputs of the synthesis network: constant, none, or random from a seed.")
    seed = latent.noise_seed
    if mode == "random":
        imgui.same_line()
        imgui.set_next_item_width(imgui.get_content_region_avail().x - em(2.2))
        _, seed = imgui.input_int("##noise seed", seed, 0)
        widgets.tooltip("Seed of the random noise.")
    imgui.same_line()
    play(app, "noise", "New random noise all the time.")
    return replace(latent, noise_mode=mode, noise_seed=max(0, seed))


def _mixing(latent: Latent, label: float, layers: int) -> Latent:
    label_at("mix with", label, "Style mixing: the lit layers take their style from this other seed.")
    _, seed = imgui.input_int("##mix seed", latent.mix_seed)
    latent = replace(latent, mix_seed=max(0, seed))
    widgets.tooltip("Seed whose style the lit layers take.")
    label_at("layers", label, "Coarse layers on the left decide shape, fine ones on the right texture.")
    chosen = set(latent.mix_layers)
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
            f"Layer {i}: {'style of seed ' + str(latent.mix_seed) if i in chosen else 'own style'}. Click to"
            " switch."
        )
    return replace(latent, mix_layers=tuple(sorted(chosen)))
