"""Multi-Source StyleGAN: one conditional generator from several image sources with different covariates.

Public names are loaded on first use, so that `import mssg` pulls in no torch.
"""

from __future__ import annotations

import importlib
from typing import Any

from mssg.version import __version__ as __version__

_LAZY = {
    "load_study": "mssg.training.config",
    "Study": "mssg.study.model",
    "load_snapshot": "mssg.checkpoint.snapshot",
    "read_header": "mssg.checkpoint.header",
    "RenderRequest": "mssg.rendering.request",
    "MssgError": "mssg.errors",
}
_SUBMODULES = ("assets", "legacy", "measure", "metrics")

__all__ = ["__version__", *_LAZY]


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(importlib.import_module(_LAZY[name]), name)
    if name in _SUBMODULES:
        return importlib.import_module(f"mssg.{name}")
    raise AttributeError(f"module 'mssg' has no attribute {name!r}")
