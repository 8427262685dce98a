"""The `cuda` backend, imported when first used: Triton is slow to import and missing on some systems."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import cache
from types import ModuleType
from typing import Any

from mssg.ops import fast


@cache
def implementation() -> ModuleType:
    """The Triton backend, or where Triton is missing the `torch` backend, with one warning."""
    try:
        from mssg.ops import triton_backend
    except ImportError as error:
        warnings.warn(
            f"no GPU kernels ({error}): the torch backend serves instead", RuntimeWarning, stacklevel=3
        )
        return fast
    return triton_backend


def operation(name: str) -> Callable[..., Any]:
    """An operation of the backend by name, looked up at every call."""

    def call(*args: Any) -> Any:
        return getattr(implementation(), name)(*args)

    return call
