"""FIR filters and the bookkeeping around them: tap layout, padding order, how a 2-D filter splits into 1-D
passes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from mssg.errors import UsageError
from mssg.ops.remembered import Remembered

RANK_TOLERANCE = 1e-7  # of the largest singular value: below it a separable pass is lost in float32 rounding
REMEMBERED_FILTERS = 512  # of each kind of thing that is derived from filters
_known_values = Remembered()


def setup_filter(taps: Sequence[float] | Tensor, *, normalize: bool = True, gain: float = 1.0) -> Tensor:
    """Make a filter from its taps; short 1-D filters become their 2-D outer product.

    Args:
        taps: [n] or [h, w] filter taps.
        normalize: Divide by the sum, so that a constant image keeps its value.
        gain: Factor on the signal's magnitude.

    Returns:
        float32 [n] when n >= 8 (applied along both axes), else [h, w].

    Raises:
        UsageError: Taps of more than two dimensions, or none.

    Source: Karras et al. 2019 ("A style-based generator architecture"), the binomial [1, 3, 3, 1] low-pass.
    """
    where = taps.device if isinstance(taps, Tensor) else torch.get_default_device()
    # On the CPU: arithmetic on the meta device imports torch._dynamo, which takes seconds.
    f = torch.as_tensor(taps, dtype=torch.float32, device="cpu")
    if f.ndim not in (1, 2) or f.numel() == 0:
        raise UsageError("a filter has one or two dimensions", found=tuple(f.shape), expected="[n] or [h, w]")
    if f.ndim == 1 and f.numel() < 8:
        f = torch.outer(f, f)
    if normalize:
        f = f / f.sum()
    return (f * gain ** (f.ndim / 2)).to(where)


def filter_size(f: Tensor | None) -> tuple[int, int]:
    """Width and height of a filter in taps; no filter counts as one tap."""
    if f is None:
        return 1, 1
    return f.shape[-1], f.shape[0]


def pair(value: int | Sequence[int]) -> tuple[int, int]:
    """Expand a factor to (x, y).

    Raises:
        UsageError: It is less than 1.
    """
    x, y = (value, value) if isinstance(value, int) else value
    if x < 1 or y < 1:
        raise UsageError("a resampling factor is at least 1", found=value, expected=">= 1")
    return x, y


def padding4(value: int | Sequence[int]) -> tuple[int, int, int, int]:
    """Expand a padding to (x before, x after, y before, y after); negative values crop."""
    if isinstance(value, int):
        return value, value, value, value
    if len(value) == 2:
        return value[0], value[0], value[1], value[1]
    x0, x1, y0, y1 = value
    return x0, x1, y0, y1


def upsampling_padding(
    f: Tensor | None, up: tuple[int, int], padding: tuple[int, int, int, int]
) -> tuple[int, int, int, int]:
    """Padding that centres filter f on an image upsampled by `up`, so that size becomes exactly size * up."""
    (fw, fh), (ux, uy), (x0, x1, y0, y1) = filter_size(f), up, padding
    return x0 + (fw + ux - 1) // 2, x1 + (fw - ux) // 2, y0 + (fh + uy - 1) // 2, y1 + (fh - uy) // 2


def downsampling_padding(
    f: Tensor | None, down: tuple[int, int], padding: tuple[int, int, int, int]
) -> tuple[int, int, int, int]:
    """Padding that centres filter f before keeping every `down`-th pixel, so that size becomes size /
    down."""
    (fw, fh), (dx, dy), (x0, x1, y0, y1) = filter_size(f), down, padding
    return x0 + (fw - dx + 1) // 2, x1 + (fw - dx) // 2, y0 + (fh - dy + 1) // 2, y1 + (fh - dy) // 2


@dataclass(frozen=True)
class FilterValues:
    """What a filter holds, as a key: what is derived from filters is remembered by their values."""

    shape: tuple[int, ...]
    dtype: torch.dtype
    float64: bytes

    def tensor(self, dtype: torch.dtype | None = None) -> Tensor:
        """The filter on the CPU, in its own dtype by default."""
        values = torch.from_numpy(np.frombuffer(self.float64).reshape(self.shape).copy())
        return values.to(self.dtype if dtype is None else dtype)


def filter_values(f: Tensor | None) -> FilterValues | None:
    """The values of a filter, read once for as long as it lives unchanged."""
    if f is None:
        return None
    known = _known_values.of(f)
    if "values" not in known:
        numbers = f.detach().cpu().double().contiguous().numpy().tobytes()
        known["values"] = FilterValues(tuple(f.shape), f.dtype, numbers)
    return known["values"]


def separable_terms(f: Tensor, tolerance: float = RANK_TOLERANCE) -> list[tuple[Tensor, Tensor]]:
    """Split a 2-D filter into the fewest products column x row that add up to it (its singular vectors).

    Args:
        f: [h, w] filter.
        tolerance: Singular values below this fraction of the largest are left out; 0 = all terms there are,
            in float64, else they are in the dtype of f.

    Returns:
        List of (column [h], row [w]) on the device of f, with f = sum of outer products. Remembered, since
        layers ask again at every call.
    """
    values = filter_values(f)
    assert values is not None
    return _separable_terms(values, f.device, tolerance)


@lru_cache(REMEMBERED_FILTERS)
@torch.inference_mode(False)  # what is remembered serves training too
def _separable_terms(
    values: FilterValues, device: torch.device, tolerance: float
) -> list[tuple[Tensor, Tensor]]:
    u, s, vh = torch.linalg.svd(values.tensor(torch.float64))
    rank = max(int((s > tolerance * s[0]).sum()), 1) if tolerance else len(s)
    root, dtype = s[:rank].sqrt(), values.dtype if tolerance else torch.float64
    columns, rows = ((u[:, :rank] * root).T, vh[:rank] * root[:, None])
    return list(zip(columns.to(device, dtype), rows.to(device, dtype)))
