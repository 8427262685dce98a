"""Which implementation runs: the `reference` definitions, the `torch` fast path, or one registered later.

The choice is, first found first: the `backend=` argument of an operation, the innermost `use_backend(...)`,
the environment variable MSSG_OPS, the backend registered last among those that say they serve the tensor best
(its device, dtype and whether gradients are wanted), the default `torch`.
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


@dataclass(frozen=True)
class Backend:
    """One implementation of every operation, with the signatures of `mssg.ops.reference`."""

    name: str
    bias_act: Callable[..., Any]
    upfirdn2d: Callable[..., Any]
    filtered_lrelu: Callable[..., Any]
    conv2d_resample: Callable[..., Any]
    modulated_conv2d: Callable[..., Any]
    modulated_filtered_lrelu: Callable[..., Any]


Loader = Callable[[], Backend]
Serves = Callable[[Any], bool]

_backends: dict[str, tuple[Loader, Serves]] = {}
_chosen: ContextVar[str | None] = ContextVar("mssg_ops_backend", default=None)


def _serves_nothing(x: Any) -> bool:
    return False


def register_loader(name: str, load: Loader, serves: Serves = _serves_nothing) -> None:
    """Add or replace a backend that is made when it is first used.

    Args:
        name: Its name, as in MSSG_OPS.
        load: Gives the backend, quickly after the first time.
        serves: Whether to take this backend for a tensor where nobody chose one; by default never. Must be
            quick.
    """
    _backends[name] = load, serves


def register_backend(
    name: str, base: str = DEFAULT, serves: Serves = _serves_nothing, **operations: Callable[..., Any]
) -> None:
    """Add or replace a backend.

    Args:
        name: Its name, as in MSSG_OPS.
        base: Backend that supplies the operations not given.
        serves: See `register_loader`.
        operations: Implementations by operation name, with the signatures of `mssg.ops.reference`.
    """
    made = replace(find(base), name=name, **operations)
    register_loader(name, lambda: made, serves)


def names() -> list[str]:
    """Names of all registered backends."""
    return sorted(_backends)


def find(name: str) -> Backend:
    """Look a backend up by name.

    Raises:
        UsageError: No backend has this name.
    """
    if name not in _backends:
        raise UsageError(
            "there is no such ops backend",
            found=name,
            expected=" or ".join(names()),
            hint=f"Check the environment variable {ENVIRONMENT}",
        )
    load, _ = _backends[name]
    return load()


def backend(name: str | None = None, x: Any = None) -> Backend:
    """The backend in force here, or the named one.

    Args:
        name: Its name, if the caller chooses.
        x: The tensor it is for: where nobody has chosen, a backend that serves it comes before the default.

    Raises:
        UsageError: No backend has the chosen name.
    """
    chosen = name or _chosen.get() or os.environ.get(ENVIRONMENT)
    if chosen is None and x is not None:
        for load, serves in reversed(_backends.values()):
            if serves(x):
                return load()
    return find(chosen or DEFAULT)


@contextmanager
def use_backend(name: str) -> Iterator[Backend]:
    """Use a backend for every operation inside a `with` block (of this thread or task only)."""
    chosen = find(name)
    token = _chosen.set(name)
    try:
        yield chosen
    finally:
        _chosen.reset(token)
