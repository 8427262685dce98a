"""Multi-Source StyleGAN: one conditional generator from several image sources with different covariates.

Public names are loaded on first use, so that `import mssg` pulls in no torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from mssg.version import __version__

if TYPE_CHECKING:
    from mssg.api.cohort import Cohort
    from mssg.api.inverted import Inverted
    from mssg.api.model import Model, load
    from mssg.api.picture import Picture
    from mssg.api.volume import Volume
    from mssg.checkpoint.header import read_header
    from mssg.checkpoint.snapshot import load_snapshot
    from mssg.errors import ArgumentError, MssgError
    from mssg.rendering.request import RenderRequest
    from mssg.study.model import Study
    from mssg.study.schema import load_study

_LAZY = {
    "load": "mssg.api.model",
    "Model": "mssg.api.model",
    "Picture": "mssg.api.picture",
    "Cohort": "mssg.api.cohort",
    "Inverted": "mssg.api.inverted",
    "Volume": "mssg.api.volume",
    "ArgumentError": "mssg.errors",
    "load_study": "mssg.study.schema",
    "Study": "mssg.study.model",
    "load_snapshot": "mssg.checkpoint.snapshot",
    "read_header": "mssg.checkpoint.header",
    "RenderRequest": "mssg.rendering.request",
    "MssgError": "mssg.errors",
}
_SUBMODULES = ("assets", "legacy", "measure", "metrics")

__all__ = [
    "ArgumentError",
    "Cohort",
    "Inverted",
    "Model",
    "MssgError",
    "Picture",
    "RenderRequest",
    "Study",
    "Volume",
    "__version__",
    "load",
    "load_snapshot",
    "load_study",
    "read_header",
]


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(importlib.import_module(_LAZY[name]), name)
    if name in _SUBMODULES:
        return importlib.import_module(f"mssg.{name}")
    raise AttributeError(f"module 'mssg' has no attribute {name!r}")
