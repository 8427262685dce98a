"""Oracles: quantities read directly off an image, with numpy and scipy only."""

from __future__ import annotations

import importlib
from collections.abc import Callable

import numpy as np

from mssg.errors import UsageError

INSTRUMENTS = ("digits", "brain")
"""Names a study may give under [measure] instrument: the modules of this package that offer `measure(images)`."""


def instrument(name: str) -> Callable[..., dict[str, np.ndarray]]:
    """The `measure` function of an instrument: images [N,C,H,W] -> covariate name -> values [N] in native units.

    Raises:
        UsageError: No instrument of that name.
    """
    if name not in INSTRUMENTS:
        raise UsageError("no such instrument", field=name, expected=" | ".join(INSTRUMENTS))
    return importlib.import_module(f"mssg.measure.{name}").measure
