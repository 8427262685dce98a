"""When the `cuda` backend serves; imported when first used, since Triton is slow to import and missing on
some systems."""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
import warnings
from functools import cache
from typing import Any

import torch

from mssg.errors import warn_once
from mssg.ops import fast
from mssg.ops.dispatch import Backend

OLDEST = (8, 0)  # compute capability whose tensor cores know float32's parts (tf32)


@cache
def implementation() -> Backend:
    """The Triton backend, or where Triton is missing the `torch` backend, with one warning."""
    _find_a_place_for_kernels()
    try:
        from mssg.ops import triton_backend
    except ImportError as error:
        warnings.warn(f"no GPU kernels ({error}): the torch backend serves", RuntimeWarning, stacklevel=2)
        return fast.BACKEND
    return triton_backend.BACKEND


def _find_a_place_for_kernels() -> None:
    """Triton keeps compiled kernels under the user's home, and fails where that cannot be written (containers
    run with `docker -u`, full or read-only homes)."""
    chosen = {"TRITON_CACHE_DIR", "TRITON_HOME"} & set(os.environ)
    if chosen or os.access(os.path.expanduser("~"), os.W_OK):
        return
    folder = tempfile.mkdtemp(prefix="mssg-kernels-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    os.environ["TRITON_CACHE_DIR"] = folder
    warn_once("no home that can be written: GPU kernels are compiled anew at every start (TRITON_CACHE_DIR).")


@cache
def _new_enough(device: int) -> bool:
    capability = torch.cuda.get_device_capability(device)
    if capability < OLDEST:
        found, expected = (".".join(map(str, version)) for version in (capability, OLDEST))
        message = (
            f"GPU {device} has compute capability {found}, its kernels need {expected}: the torch backend"
            " serves"
        )
        warnings.warn(message, RuntimeWarning, stacklevel=2)
    return capability >= OLDEST


def serves(x: Any) -> bool:
    """Whether this backend should be taken for a tensor where nobody chose one."""
    return (
        x.is_cuda
        and x.dtype in (torch.float16, torch.float32)
        and implementation() is not fast.BACKEND
        and _new_enough(x.device.index)
    )
