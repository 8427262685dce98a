"""Which implementation runs: the `reference` definitions, the `torch` fast path, or one registered later.

The choice is, first found first: the `backend=` argument of an operation, the innermost `use_backend(...)`, the
environment variable MSSG_OPS, the default `torch`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from typing import Any

from mssg.errors import UsageError

DEFAULT = "torch"
ENVIRONMENT = "MSSG_OPS"

_backends: dict[str, Backend] = {}
_chosen: ContextVar[str | None] = ContextVar("mssg_ops_backend", default=None)


@dataclass(frozen=True)
class Backend:
    """One implementation of every operation, with the signatures of `mssg.ops.reference`."""

    name: str
    bias_act: Callable[..., Any]
    upfirdn2d: Callable[..., Any]
    filtered_lrelu: Callable[..., Any]
    conv2d_resample: Callable[..., Any]
    modulated_conv2d: Callable[..., Any]


def register_backend(name: str, base: str | None = None, **operations: Callable[..., Any]) -> None:
    """Add or replace a backend.

    Args:
        name: Its name, as in MSSG_OPS.
        base: Backend that supplies the operations not given.
        operations: Implementations by operation name, with the signatures of `mssg.ops.reference`.
    """
    if base is None:
        _backends[name] = Backend(name=name, **operations)
    else:
        _backends[name] = replace(find(base), name=name, **operations)


def find(name: str) -> Backend:
    """Look a backend up by name.

    Raises:
        UsageError: No backend has this name.
    """
    if name not in _backends:
        raise UsageError(
            "there is no such ops backend",
            found=name,
            expected=" or ".join(sorted(_backends)),
            hint=f"Check the environment variable {ENVIRONMENT}",
        )
    return _backends[name]


def backend(name: str | None = None) -> Backend:
    """The backend in force here, or the named one."""
    return find(name or _chosen.get() or os.environ.get(ENVIRONMENT) or DEFAULT)


@contextmanager
def use_backend(name: str) -> Iterator[Backend]:
    """Use a backend for every operation inside a `with` block (of this thread or task only)."""
    chosen = find(name)
    token = _chosen.set(name)
    try:
        yield chosen
    finally:
        _chosen.reset(token)
