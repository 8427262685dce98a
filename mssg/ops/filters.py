"""FIR filters and the bookkeeping around them: tap layout, padding order, how a 2-D filter splits into 1-D
passes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch.utils.weak import WeakIdKeyDictionary

from mssg.errors import UsageError

RANK_TOLERANCE = 1e-7  # of the largest singular value: below it a separable pass is lost in float32 rounding
_separable_terms: WeakIdKeyDictionary = WeakIdKeyDictionary()  # filter -> {(version, tolerance): terms}


def setup_filter(
    taps: Sequence[float] | torch.Tensor, *, normalize: bool = True, gain: float = 1.0
) -> torch.Tensor:
    """Make a filter from its taps; short 1-D filters become their 2-D outer product.

    Args:
        taps: [n] or [h, w] filter taps.
        normalize: Divide by the sum, so that a constant image keeps its value.
        gain: Factor on the signal's magnitude.

    Returns:
        float32 [n] when n >= 8 (applied along both axes), else [h, w].

    Source: Karras et al. 2019 ("A style-based generator architecture"), the binomial [1, 3, 3, 1] low-pass.
    """
    # on the CPU: arithmetic on the meta device, where networks learn shapes, imports all of torch._dynamo
    made_here = None if isinstance(taps, torch.Tensor) else torch.get_default_device()
    f = torch.as_tensor(taps, dtype=torch.float32, device="cpu" if made_here else None)
    if f.ndim not in (1, 2) or f.numel() == 0:
        raise UsageError("a filter has one or two dimensions", found=tuple(f.shape), expected="[n] or [h, w]")
    if f.ndim == 1 and f.numel() < 8:
        f = torch.outer(f, f)
    if normalize:
        f = f / f.sum()
    f = f * gain ** (f.ndim / 2)
    return f.to(made_here) if made_here else f


def filter_size(f: torch.Tensor | None) -> tuple[int, int]:
    """Width and height of a filter in taps; no filter counts as one tap."""
    if f is None:
        return 1, 1
    return f.shape[-1], f.shape[0]


def pair(value: int | Sequence[int]) -> tuple[int, int]:
    """Expand a factor to (x, y) and check that it is positive."""
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
    f: torch.Tensor | None, up: tuple[int, int], padding: tuple[int, int, int, int]
) -> tuple[int, int, int, int]:
    """Padding that centres filter f on an image upsampled by `up`, so that size becomes exactly size * up."""
    (fw, fh), (ux, uy), (x0, x1, y0, y1) = filter_size(f), up, padding
    return x0 + (fw + ux - 1) // 2, x1 + (fw - ux) // 2, y0 + (fh + uy - 1) // 2, y1 + (fh - uy) // 2


def downsampling_padding(
    f: torch.Tensor | None, down: tuple[int, int], padding: tuple[int, int, int, int]
) -> tuple[int, int, int, int]:
    """Padding that centres filter f before keeping every `down`-th pixel, so that size becomes size /
    down."""
    (fw, fh), (dx, dy), (x0, x1, y0, y1) = filter_size(f), down, padding
    return x0 + (fw - dx + 1) // 2, x1 + (fw - dx) // 2, y0 + (fh - dy + 1) // 2, y1 + (fh - dy) // 2


def separable_terms(
    f: torch.Tensor, tolerance: float = RANK_TOLERANCE
) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Split a 2-D filter into the fewest products column x row that add up to it (its singular vectors).

    Args:
        f: [h, w] filter.
        tolerance: Singular values below this fraction of the largest are left out; 0 = all terms there are,
            in float64, else they are in the dtype of f.

    Returns:
        List of (column [h], row [w]) with f = sum of outer products. Remembered for as long as the filter
        lives unchanged, since layers ask again at every call.
    """
    known: Any = _separable_terms.setdefault(f, {})
    key = (None if f.is_inference() else f._version, tolerance)
    if key not in known:
        u, s, vh = torch.linalg.svd(f.detach().cpu().double())
        rank = max(int((s > tolerance * s[0]).sum()), 1) if tolerance else len(s)
        root, like = s[:rank].sqrt(), f if tolerance else s.to(f.device)
        columns, rows = (u[:, :rank] * root).T.to(like), (vh[:rank] * root[:, None]).to(like)
        known[key] = list(zip(columns, rows))
    return known[key]
