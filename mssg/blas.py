"""Numpy's matrix products kept to one thread where they are small."""

from __future__ import annotations

from contextlib import AbstractContextManager
from functools import cache
from typing import Any


def one_blas_thread() -> AbstractContextManager[Any]:
    """A context in which BLAS starts no threads of its own.

    A product of 100 x 100 matrices takes microseconds; threads that wait for each other over it cost four
    times the work itself, and far more where several processes do the same.
    """
    return _controller().limit(limits=1, user_api="blas")


@cache
def _controller() -> Any:
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController()
