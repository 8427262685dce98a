"""Which device to compute on."""

from __future__ import annotations

import torch

from mssg.errors import UsageError


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
