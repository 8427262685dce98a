"""Which implementation runs: the `reference` definitions, the `torch` fast path, or one registered later.

The choice is, first found first: the `backend=` argument of an operation, the innermost `use_backend(...)`,
    the
environment variable MSSG_OPS, the backend registered last among those that say they serve the tensor best
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

_backends: dict[str, Backend] = {}
_chosen: ContextVar[str | None] = ContextVar("mssg_ops_backend", default=None)


def _serves_nothing(x: Any) -> bool:
    return False


@dataclass(frozen=True)
class Backend:
    """One implementation of every operation, with the signatures of `mssg.ops.reference`.

    `modulated_filtered_lrelu` may be None: then `mssg.ops` joins it from the backend's other two operations.
    `serves(x)` says whether this backend should be taken for tensor x where nobody chose one. It must be
    quick.
    """

    name: str
    bias_act: Callable[..., Any]
    upfirdn2d: Callable[..., Any]
    filtered_lrelu: Callable[..., Any]
    conv2d_resample: Callable[..., Any]
    modulated_conv2d: Callable[..., Any]
    modulated_filtered_lrelu: Callable[..., Any] | None = None
    serves: Callable[[Any], bool] = _serves_nothing


def register_backend(
    name: str,
    base: str | None = None,
    serves: Callable[[Any], bool] = _serves_nothing,
    **operations: Callable[..., Any],
) -> None:
    """Add or replace a backend.

    Args:
        name: Its name, as in MSSG_OPS.
        base: Backend that supplies the operations not given.
        serves: Whether to take this backend for a tensor where nobody chose one; by default never.
        operations: Implementations by operation name, with the signatures of `mssg.ops.reference`.
    """
    if base is None:
        _backends[name] = Backend(name=name, serves=serves, **operations)
    else:
        _backends[name] = replace(find(base), name=name, serves=serves, **operations)


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
    return _backends[name]


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
        for candidate in reversed(_backends.values()):
            if candidate.serves(x):
                return candidate
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


def join(
    operations: Any,
    x: Any,
    w: Any,
    s: Any,
    fu: Any,
    fd: Any,
    b: Any,
    conv_padding: int,
    demodulate: bool,
    input_gain: Any,
    *tail: Any,
) -> Any:
    """`modulated_filtered_lrelu` from the two operations of a backend (or of a module that has them).

    tail: up, down, padding, gain, slope, clamp of `filtered_lrelu`.
    """
    around = (conv_padding,) * 4
    x = operations.modulated_conv2d(
        x, w, s, None, 1, around, True, demodulate, input_gain, None, None, "linear", 1.0, None
    )
    return operations.filtered_lrelu(x, fu, fd, b, *tail, False)
