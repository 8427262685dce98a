"""Oracles: quantities read directly off an image, with numpy and scipy only.

An instrument is a module with `COVARIATES` (names it measures), `UNITS` (name -> unit), `ABOUT` (what its
readings rest on, a sentence), `own_errors()` (how well it reads images that did not make it) and
`measure(images)`; `regions(image)`, where
it has it, gives the masks that it reads them from.
A study names the one that fits its images in `[measure] instrument = "…"`.
"""

from __future__ import annotations

import importlib
from types import ModuleType

from mssg.errors import UsageError

STACKS = {"brain": "mssg.measure.brain_stack"}
"""Instruments of slices that also read whole stacks: modules with `ABOUT`, `measure(volumes, edges)` and
`own_errors()`."""
INSTRUMENTS = {
    "digits": "mssg.measure.digits",
    "brain": "mssg.measure.brain",
    "fundus": "mssg.measure.fundus",
}


def instrument(name: str) -> ModuleType:
    """The instrument of this name.

    Raises:
        UsageError: No such instrument.
    """
    if name not in INSTRUMENTS:
        raise UsageError(
            "no such instrument", field=name or "measure.instrument", expected=" | ".join(INSTRUMENTS)
        )
    return importlib.import_module(INSTRUMENTS[name])


def stack_instrument(name: str) -> ModuleType | None:
    """What reads whole stacks where this instrument reads slices; None where nothing does."""
    return importlib.import_module(STACKS[name]) if name in STACKS else None
