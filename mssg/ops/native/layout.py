"""Where activations lie: channels innermost, padded to a multiple of 16 floats, one layout from layer to
layer. To torch such a tensor is an ordinary view of a slightly larger one.
"""

from __future__ import annotations

import math
from typing import overload

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from mssg.ops.native.library import CHANNEL_BLOCK, Convolution, FilteredLrelu

_LARGE = 2**23  # floats from which glibc maps memory for each allocation (32 MiB)
_MOST_IDLE = 2
_idle: dict[int, np.ndarray] = {}  # memory of large tensors that have died


def plain(*tensors: Tensor | None) -> bool:
    """Whether these are float32 tensors on the CPU."""
    return all(t is None or (t.dtype == torch.float32 and t.device.type == "cpu") for t in tensors)


def _round_up(channels: int) -> int:
    """To whole blocks of channels."""
    return -(-channels // CHANNEL_BLOCK) * CHANNEL_BLOCK


def in_layout(x: Tensor) -> Tensor:
    """x itself where its pixels are whole blocks of channels in memory, else a copy for which that is so."""
    batch, channels, height, width = x.shape
    block = _round_up(channels)
    n, c, h, w = x.stride()
    end = x.storage_offset() + n * (batch - 1) + h * (height - 1) + w * (width - 1) + block
    if (
        c == 1
        and w >= block
        and w % CHANNEL_BLOCK == 0
        and end * x.element_size() <= x.untyped_storage().nbytes()
    ):
        return x
    copy = x.new_zeros(batch, height, width, block)
    copy[..., :channels] = x.permute(0, 2, 3, 1)
    return _view(copy, channels)


def _view(pixels: Tensor, channels: int) -> Tensor:
    """[B, H, W, block] as [B, channels, H, W]."""
    return pixels.permute(0, 3, 1, 2)[:, :channels]


def _shape(batch: int, channels: int, height: int, width: int) -> tuple[int, int, int, int]:
    """Of the memory of a picture."""
    block = _round_up(channels)
    if block % 512 == 0:  # as `spread` in src/direct.h
        block += CHANNEL_BLOCK
    return batch, height, width, block


def new(x: Tensor, channels: int, height: int, width: int) -> Tensor:
    """An empty result of so many images as x, [B, channels, height, width]."""
    shape = _shape(len(x), channels, height, width)
    return _view(_large(shape) if math.prod(shape) > _LARGE else x.new_empty(shape), channels)


def outline(x: Tensor, channels: int, height: int, width: int) -> Tensor:
    """As `new` in shape and strides, without memory."""
    return _view(torch.empty(_shape(len(x), channels, height, width), device="meta"), channels)


class _Memory:
    """Memory of a large tensor, which waits for the next one when the tensor dies."""

    def __init__(self, floats: np.ndarray) -> None:
        self.floats = floats
        self.__array_interface__ = floats.__array_interface__

    def __del__(self) -> None:
        if len(_idle) < _MOST_IDLE:
            _idle[id(self.floats)] = self.floats


def _large(shape: tuple[int, ...]) -> Tensor:
    """An empty tensor. The C library would give memory of this size back at once and fault it in anew for the
    next layer."""
    size = math.prod(shape)
    fitting = sorted((len(m), key) for key, m in list(_idle.items()) if size <= len(m) <= 2 * size)
    floats = _idle.pop(fitting[0][1], None) if fitting else None
    if floats is None:
        floats = np.empty(size + 16, np.float32)
        first = -floats.ctypes.data % 64 // 4  # where a line of the cache begins
        floats = floats[first : first + size]
    return torch.from_numpy(np.asarray(_Memory(floats))[:size]).view(shape)


@overload
def padded_channels(values: Tensor) -> Tensor: ...
@overload
def padded_channels(values: Tensor | None) -> Tensor | None: ...
def padded_channels(values: Tensor | None) -> Tensor | None:
    """[…, C] -> contiguous […, whole blocks], zeros behind."""
    if values is None:
        return None
    missing = _round_up(values.shape[-1]) - values.shape[-1]
    values = values.detach()
    return (F.pad(values, (0, missing)) if missing else values).contiguous()


def pointer(values: Tensor | None) -> int | None:
    """Where values lie; None for none."""
    return None if values is None else values.data_ptr()


def place(arguments: Convolution | FilteredLrelu, x: Tensor, y: Tensor) -> None:
    """Fill in where input and output lie."""
    arguments.x, arguments.y = x.data_ptr(), y.data_ptr()
    arguments.x_batch, _, arguments.x_row, arguments.x_pixel = x.stride()
    arguments.y_batch, _, arguments.y_row, arguments.y_pixel = y.stride()
    arguments.batch, _, arguments.height, arguments.width = x.shape
    arguments.threads = torch.get_num_threads()
