"""Which device to compute on."""

from __future__ import annotations

import torch

from mssg.errors import UsageError


def devices() -> dict[str, str]:
    """The devices of this machine, the best first: the name that `--device` takes, and what is known of
    it."""
    found = {}
    for i in range(torch.cuda.device_count() if torch.cuda.is_available() else 0):
        card = torch.cuda.get_device_properties(i)
        found[f"cuda:{i}"] = f"{card.name}, {card.total_memory / 2**30:.0f} GiB"
    if torch.backends.mps.is_available():
        found["mps"] = "Apple GPU"
    threads = torch.get_num_threads()
    return {**found, "cpu": f"{threads} thread{'s' if threads > 1 else ''}"}


def checked_device(name: str) -> str:
    """A torch device that exists here; "auto" is the best one.

    Raises:
        UsageError: Unknown, or not on this machine.
    """
    kind, _, number = name.partition(":")
    usable = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if name == "auto":
        return next(k for k in ("cuda", "mps", "cpu") if usable[k])
    if kind in usable and not number and usable[kind]:
        return name
    if kind == "cuda" and usable["cuda"] and number.isdecimal() and int(number) < torch.cuda.device_count():
        return name
    here = " | ".join(k for k, ok in usable.items() if ok)
    hint = "`mssg doctor` says why; cpu always works"
    raise UsageError("not a device of this machine", field="device", found=name, expected=here, hint=hint)
