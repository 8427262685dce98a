"""What an operation computes, apart from its tensors: frozen values that are also the keys of every cache.

Factors are (x, y) and paddings (x before, x after, y before, y after), sizes (height, width).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from torch import Tensor

from mssg.ops.filters import filter_size

Pair = tuple[int, int]
Padding = tuple[int, int, int, int]
Filters = tuple[Tensor | None, Tensor | None]
"""Of upsampling and of downsampling."""
NO_PADDING = (0, 0, 0, 0)


@dataclass(frozen=True)
class ActivationSpec:
    """clamp(gain * act(x)): a name in ACTIVATIONS, its alpha (a leaky ReLU's slope), a factor, a limit."""

    act: str = "linear"
    alpha: float = 0.0
    gain: float = 1.0
    clamp: float | None = None

    @property
    def is_leaky(self) -> bool:
        """Whether act(gain * x) = gain * act(x), act being a leaky ReLU with this `slope`."""
        return self.act in ("linear", "lrelu") and self.gain > 0

    @property
    def slope(self) -> float:
        """Of the negative half where the activation is leaky."""
        return 1.0 if self.act == "linear" else self.alpha


@dataclass(frozen=True)
class FilterSpec:
    """`upfirdn2d`: zeros between pixels, padding, a filter (flip: correlated), every down-th pixel."""

    up: Pair = (1, 1)
    down: Pair = (1, 1)
    padding: Padding = NO_PADDING
    flip: bool = False
    gain: float = 1.0

    def size(self, size: Sequence[int], f: Tensor | None) -> Pair:
        """Of the result for an image of this size and filter f."""
        (height, width), (fw, fh), (x0, x1, y0, y1) = size, filter_size(f), self.padding
        (ux, uy), (dx, dy) = self.up, self.down
        return (height * uy + y0 + y1 - fh) // dy + 1, (width * ux + x0 + x1 - fw) // dx + 1


@dataclass(frozen=True)
class FilteredLreluSpec:
    """`filtered_lrelu`: a leaky ReLU between upsampling with padding and downsampling."""

    up: int = 1
    down: int = 1
    padding: Padding = NO_PADDING
    flip: bool = False
    activation: ActivationSpec = ActivationSpec("lrelu", 0.2)

    @cached_property
    def raising(self) -> FilterSpec:
        """The upsampling; its gain restores the mean, which the zeros between pixels lower."""
        return FilterSpec((self.up, self.up), (1, 1), self.padding, self.flip, gain=float(self.up**2))

    @cached_property
    def lowering(self) -> FilterSpec:
        """The downsampling."""
        return FilterSpec(down=(self.down, self.down), flip=self.flip)

    def size(self, size: Sequence[int], filters: Filters) -> Pair:
        """Of the result for an image of this size."""
        return self.lowering.size(self.raising.size(size, filters[0]), filters[1])


@dataclass(frozen=True)
class ConvSpec:
    """A convolution (flip: correlation, as torch convolves) between up- and downsampling.

    The padding is with respect to the upsampled image; demodulate is for weights that are scaled by styles.
    """

    up: int = 1
    down: int = 1
    padding: Padding = NO_PADDING
    flip: bool = True
    demodulate: bool = False
