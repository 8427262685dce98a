"""Animations: what moves by itself, as pure functions of the state and of the time that has passed."""

from __future__ import annotations

import math
from dataclasses import replace

from explorer_app.request_edits import SEEDS, drag_latent, motion, moved
from explorer_app.state import AppState

KINDS = ("latent", "psi", "noise", "translate", "rotate")
SPEEDS = (0.1, 10.0)

_SEEDS_PER_S, _SWING_S, _NOISES_PER_S, _CIRCLE_S, _TURN_S = 0.6, 4.0, 8.0, 8.0, 20.0
_CIRCLE_WIDTHS = 0.1


def advanced(state: AppState, kind: str, before: float, after: float) -> AppState:
    """The state as an animation moves it from one time to another.

    Args:
        kind: One of `KINDS`: a walk through latent space, psi swinging between 0 and 1, new noise, the
            picture moved on a circle, the picture turned.
        before: Seconds since the animation's start, multiplied by its speed, at the state given.
        after: The same, at the state returned.

    Raises:
        ValueError: No such kind.
    """
    request = state.request
    x, y, turns = motion(request)
    if kind == "latent":
        step = (after - before) * _SEEDS_PER_S
        request = drag_latent(request, step, 0.2 * step)
    elif kind == "psi":
        request = replace(request, psi=round(abs(2 * (after / _SWING_S % 1) - 1), 3))
    elif kind == "noise":
        seed = request.noise_seed + int(after * _NOISES_PER_S) - int(before * _NOISES_PER_S)
        request = replace(request, noise_mode="random", noise_seed=seed % SEEDS)
    elif kind == "translate":
        angle = 2 * math.pi * after / _CIRCLE_S
        x, y = _CIRCLE_WIDTHS * math.sin(angle), _CIRCLE_WIDTHS * (1 - math.cos(angle))
        request = moved(request, round(x, 4), round(y, 4), turns)
    elif kind == "rotate":
        request = moved(request, x, y, (turns + (after - before) / _TURN_S + 0.5) % 1 - 0.5)
    else:
        raise ValueError(kind)
    return replace(state, request=request)
