"""Multi-Source StyleGAN: one conditional generator from several image sources with different covariates.

Public names are loaded on first use, so that `import mssg` pulls in no torch.
"""

from __future__ import annotations

import importlib
from typing import Any

__version__ = "0.1.0"

_LAZY = {
    "load_study": "mssg.study",
    "Study": "mssg.study",
    "load_snapshot": "mssg.snapshot",
    "read_header": "mssg.header",
    "RenderRequest": "mssg.request",
    "MssgError": "mssg.errors",
}
_SUBMODULES = (
    "assets",
    "covariates",
    "data",
    "figures",
    "legacy",
    "measure",
    "metrics",
    "networks",
    "ops",
    "training",
)

__all__ = ["__version__", *_LAZY]


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(importlib.import_module(_LAZY[name]), name)
    if name in _SUBMODULES:
        return importlib.import_module(f"mssg.{name}")
    raise AttributeError(f"module 'mssg' has no attribute {name!r}")
