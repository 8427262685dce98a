"""Activations of the last picture, so that the next one resumes where it first differs.

A layer's output is a function of its input, its w and its weights. The first layers of two requests often
agree: a preview and the full picture, a picture and one of its layers, latents that differ only late. Each
    layer remembers its
last call and answers an equal one from memory; since it then hands on the very same tensor, the layer behind
need not compare numbers to know that its input is unchanged.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

BUDGET_BYTES = 512 << 20
"""The first layers are remembered until this is used up; the rest are computed every time."""
_COMPARED = 1 << 16  # elements up to which inputs that are not the same tensor are compared by value


@dataclass(frozen=True)
class _Call:
    """A layer's last call."""

    inputs: tuple[Any, ...]
    state: tuple[Any, ...]
    output: Any


class Recall:
    """The memory of a synthesis network's layers.

    Args:
        layers: By name, in the order they run; each a function of its arguments, its parameters and its
            buffers.
        budget: Bytes of activations to keep.
    """

    def __init__(self, layers: Mapping[str, nn.Module], budget: int = BUDGET_BYTES) -> None:
        self._layers, self._budget = layers, budget
        self._calls: dict[str, _Call] = {}
        self.hits = 0

    @contextmanager
    def active(self) -> Iterator[None]:
        """Inside the block, layers answer from memory what they can. Nothing in it may change activations in
        place."""
        for name, layer in self._layers.items():
            layer.forward = self._remembering(name, layer)  # type: ignore[method-assign]
        try:
            yield
        finally:
            for layer in self._layers.values():
                del layer.forward  # type: ignore[attr-defined]

    def _remembering(self, name: str, layer: nn.Module) -> Any:
        compute = layer.forward

        def forward(*inputs: Any) -> Any:
            state = tuple(
                (t, None if t.is_inference() else t._version) for t in (*layer.parameters(), *layer.buffers())
            )
            last = self._calls.get(name)
            if last is not None and _same(last.inputs, inputs) and _unchanged(last.state, state):
                self.hits += 1
                return last.output
            self._calls.pop(name, None)
            output = compute(*inputs)
            if self._used() + _bytes(output) <= self._budget:
                self._calls[name] = _Call(inputs, state, output)
            return output

        return forward

    def _used(self) -> int:
        return sum(_bytes(call.output) for call in self._calls.values())


def _bytes(output: Any) -> int:
    return output.untyped_storage().nbytes() if isinstance(output, torch.Tensor) else 0


def _same(before: tuple[Any, ...], now: tuple[Any, ...]) -> bool:
    return len(before) == len(now) and all(_equal(a, b) for a, b in zip(before, now))


def _equal(a: Any, b: Any) -> bool:
    if a is b:
        return True
    if not isinstance(a, torch.Tensor) or not isinstance(b, torch.Tensor):
        return type(a) is type(b) and not isinstance(a, torch.Tensor) and a == b
    return a.shape == b.shape and a.dtype == b.dtype and a.numel() <= _COMPARED and torch.equal(a, b)


def _unchanged(before: tuple[Any, ...], now: tuple[Any, ...]) -> bool:
    return len(before) == len(now) and all(a is b and v == u for (a, v), (b, u) in zip(before, now))
