"""Several people at the same covariates: side by side, their mean, and where they differ. No torch, no
imgui."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from explorer_app.comparison import Part, brightness
from explorer_app.request_edits import place
from explorer_app.state import AppState, seed_requests
from mssg.rendering.request import RenderRequest

MODES = ("off", "people", "mean", "sd", "both")
MOST_PEOPLE = 16
"""Pictures that are shown at a time."""


def people_of(state: AppState) -> tuple[RenderRequest, ...]:
    """The pictures of the people that are looked at: this seed and those after it; none where one picture is,
    or a layer."""
    mode, count = state.analysis.uncertainty, state.analysis.seeds
    if mode == "off" or mode not in MODES or state.request.layer is not None or not state.snapshot:
        return ()
    return seed_requests(state.request, min(count, MOST_PEOPLE) if mode == "people" else count)


def person(request: RenderRequest) -> str:
    """What a person is called."""
    return f"seed {place(request)[0]}"


def statistic(name: str, images: Sequence[np.ndarray]) -> np.ndarray:
    """Over pictures, float32 [H, W] or [H, W, 3] each: their "mean", or the "sd" (n - 1) of their brightness,
    [H, W]."""
    if name == "mean":
        return np.stack(images).mean(0, dtype=np.float32)
    return np.stack([brightness(i) for i in images]).std(0, ddof=1, dtype=np.float32)


def summed_up(
    mode: str, people: Sequence[Part], compute: Callable[[str, list[np.ndarray]], np.ndarray] = statistic
) -> tuple[Part, ...]:
    """Mean and deviation of people as parts of what is looked at.

    Args:
        mode: mean | sd | both.
        people: Two or more pictures of one size.
        compute: `statistic`, or one that remembers.
    """
    images, found = [part.image for part in people], []
    for name in ("mean", "sd") if mode == "both" else (mode,):
        image = compute(name, images)
        spread = max(1.0, float(image.max())) if name == "sd" else 0.0
        label = f"{'sd' if name == 'sd' else 'mean'} of {len(people)} seeds"
        label += f", 0 to {spread:.0f} grey levels" if spread else ""
        found.append(replace(people[0], image=image, label=label, spread=spread))
    return tuple(found)
