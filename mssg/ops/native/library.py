"""The compiled kernels as Python sees them: a C library without torch or Python in it, called through ctypes.

`src/api.h` declares the same structures; ABI must move with it.
"""

from __future__ import annotations

import ctypes
import os
import sys
from ctypes import POINTER, Structure, byref, c_char_p, c_float, c_int32, c_int64, c_void_p
from functools import cache
from pathlib import Path

from mssg.errors import UsageError

ABI = 5
ENVIRONMENT = "MSSG_NATIVE_ISA"
VARIANTS = ("avx512", "avx2", "plain")
CHANNEL_BLOCK = 16
OK, BAD_ARGUMENT, NOT_FINITE, NO_MEMORY = range(4)


def _fields(kind: type, names: str) -> list[tuple[str, type]]:
    return [(name, kind) for name in names.split()]


class Epilogue(Structure):
    """clamp(gain * lrelu(y + noise + bias)) of a convolution's result."""

    _fields_ = [
        *_fields(c_void_p, "bias noise"),
        ("noise_stride", c_int64),
        *_fields(c_float, "gain slope clamp"),
    ]


class Convolution(Structure):
    """Arguments of `mssg_convolve`."""

    _fields_ = [
        *_fields(c_void_p, "x y styles energy scale weight up_row up_column"),
        ("epilogue", Epilogue),
        *_fields(c_int64, "x_batch x_row x_pixel y_batch y_row y_pixel"),
        *_fields(c_float, "input_gain eps"),
        *_fields(c_int32, "batch height width in_channels out_channels kernel padding up winograd threads"),
    ]


class WeightGradient(Structure):
    """Arguments of `mssg_weight_gradient`."""

    _fields_ = [
        ("forward", Convolution),
        *_fields(c_void_p, "grad result"),
        *_fields(c_int64, "grad_batch grad_row grad_pixel"),
    ]


class FilteredLrelu(Structure):
    """Arguments of `mssg_filtered_lrelu`."""

    _fields_ = [
        *_fields(c_void_p, "x y bias up_row up_column down_row down_column"),
        *_fields(c_int64, "x_batch x_row x_pixel y_batch y_row y_pixel"),
        *_fields(c_int32, "batch height width channels out_height out_width up down pad_x pad_y"),
        *_fields(c_int32, "up_row_taps up_column_taps down_row_taps down_column_taps terms"),
        *_fields(c_float, "slope clamp"),
        ("threads", c_int32),
    ]


class FilteredLreluGradient(Structure):
    """Arguments of `mssg_filtered_lrelu_gradient`."""

    _fields_ = [
        ("forward", FilteredLrelu),
        ("grad", c_void_p),
        *_fields(c_int64, "grad_batch grad_row grad_pixel"),
    ]


def file(variant: str) -> Path:
    """Where the library of a variant lies once the package is built."""
    ending = {"win32": ".dll", "darwin": ".dylib"}.get(sys.platform, ".so")
    return Path(__file__).with_name(f"_native_{variant}{ending}")


def built() -> list[str]:
    """The variants whose library is there, whether or not this processor runs it."""
    return [name for name in VARIANTS if file(name).is_file()]


@cache
def load() -> ctypes.CDLL | str:
    """The library for this processor, or in words why there is none.

    Raises:
        UsageError: MSSG_NATIVE_ISA names kernels that are not there or that the processor cannot run.
    """
    plain = _open("plain")
    if isinstance(plain, str):
        return plain
    usable = VARIANTS[VARIANTS.index(plain.mssg_processor().decode()) :]
    libraries = {name: _open(name) for name in usable}
    found = {name: library for name, library in libraries.items() if isinstance(library, ctypes.CDLL)}
    wanted = os.environ.get(ENVIRONMENT) or next(iter(found))
    if wanted not in found:
        known = " or ".join(found)
        raise UsageError("these native kernels cannot run", field=ENVIRONMENT, found=wanted, expected=known)
    _yield_openmp(found[wanted])
    return found[wanted]


def _yield_openmp(library: ctypes.CDLL) -> None:
    """Tell the kernels how to send torch's waiting threads away, where those are of GNU's OpenMP (Linux)."""
    try:
        pause = ctypes.CDLL(None).omp_pause_resource_all
    except (AttributeError, OSError, TypeError):
        return
    library.mssg_yield_openmp(ctypes.cast(pause, c_void_p))


def _open(variant: str) -> ctypes.CDLL | str:
    path = file(variant)
    if not path.is_file():
        return "not built: no C++ compiler was found when mssg was installed"
    try:
        library = ctypes.CDLL(str(path))
        library.mssg_abi.restype = c_int32
        if library.mssg_abi() != ABI:
            return f"built by another version of mssg (interface {library.mssg_abi()}, not {ABI})"
        library.mssg_processor.restype = c_char_p
        library.mssg_buffered_bytes.restype = c_int64
        library.mssg_yield_openmp.argtypes = [c_void_p]
        library.mssg_packed_size.argtypes, library.mssg_packed_size.restype = [c_int32] * 4, c_int64
        pack = [*[c_void_p] * 2, *[c_int32] * 3, *[c_int64] * 2, *[c_int32] * 4]
        library.mssg_pack_weight.argtypes = pack
        library.mssg_pack_weight.restype = None
        library.mssg_convolve.argtypes, library.mssg_convolve.restype = [POINTER(Convolution)], c_int32
        library.mssg_layer.argtypes = [POINTER(Convolution), POINTER(FilteredLrelu)]
        library.mssg_layer.restype = c_int32
        library.mssg_weight_gradient.argtypes = [POINTER(WeightGradient)]
        library.mssg_weight_gradient.restype = c_int32
        library.mssg_filtered_lrelu.argtypes = [POINTER(FilteredLrelu)]
        library.mssg_filtered_lrelu.restype = c_int32
        library.mssg_filtered_lrelu_gradient.argtypes = [POINTER(FilteredLreluGradient)]
        library.mssg_filtered_lrelu_gradient.restype = c_int32
    except (OSError, AttributeError) as error:
        return f"cannot be loaded: {error}"
    return library


def loaded() -> ctypes.CDLL:
    """The library.

    Raises:
        UsageError: There is none.
    """
    library = load()
    if isinstance(library, str):
        raise UsageError("the native backend is not there", found=library, hint="mssg doctor says more")
    return library


def variant() -> str:
    """Which kernels run: "avx512", "avx2" or "plain"."""
    return Path(loaded()._name).stem.removeprefix("_native_")


def convolve(arguments: Convolution) -> int:
    """Run a convolution; returns OK or NOT_FINITE (Winograd met an Inf or NaN and gave up)."""
    return _checked(loaded().mssg_convolve(byref(arguments)))


def layer(convolution: Convolution, filtered: FilteredLrelu) -> int:
    """Run a convolution, then a filtered leaky ReLU on what it gives; returns as `convolve`."""
    return _checked(loaded().mssg_layer(byref(convolution), byref(filtered)))


def weight_gradient(arguments: WeightGradient) -> int:
    """Run the gradient of a convolution for its weights; returns OK or NOT_FINITE (it met an Inf or NaN)."""
    return _checked(loaded().mssg_weight_gradient(byref(arguments)))


def filtered_lrelu(arguments: FilteredLrelu) -> None:
    """Run a filtered leaky ReLU."""
    _checked(loaded().mssg_filtered_lrelu(byref(arguments)))


def filtered_lrelu_gradient(arguments: FilteredLreluGradient) -> None:
    """Run the gradient of a filtered leaky ReLU."""
    _checked(loaded().mssg_filtered_lrelu_gradient(byref(arguments)))


def _checked(status: int) -> int:
    if status == NO_MEMORY:
        raise MemoryError("the native kernels' buffers do not fit into memory")
    if status == BAD_ARGUMENT:
        raise AssertionError("the native kernels were called with arguments they do not take")
    return status
