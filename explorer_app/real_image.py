"""A real picture that stands where a rendered one can: in a pin, beside the generated one. No torch."""

from __future__ import annotations

import base64
import hashlib
import io
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from mssg.data.plane import Place


@dataclass(frozen=True, eq=False)
class RealImage:
    """A real picture, cut as a study's pictures are. Equal by content.

    Attributes:
        snapshot: File of the snapshot whose study it was cut for.
        name: What people call it: its file's name.
        pixels: uint8 [C, H, W].
        covariates: What is known of it, native units: recorded, or where it was cut.
        about: Where it comes from, for people.
        place: Where it lies in its patient.
        kind: "real", or "semi-synthetic": a phantom.
    """

    snapshot: str
    name: str
    pixels: NDArray[np.uint8]
    covariates: tuple[tuple[str, float], ...] = ()
    about: str = ""
    place: Place | None = None
    kind: str = "real"
    layer: ClassVar[None] = None  # as of a rendered picture
    transform: ClassVar[None] = None

    @property
    def levels(self) -> NDArray[np.float32]:
        """Its grey levels as a rendered picture has them: float32 [H, W] or [H, W, 3]."""
        shown = self.pixels[0] if len(self.pixels) == 1 else np.moveaxis(self.pixels[:3], 0, -1)
        return np.ascontiguousarray(shown, np.float32)

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the content, hexadecimal."""
        words = repr((self.snapshot, self.name, self.covariates, self.about, self.place, self.kind))
        return hashlib.sha256(
            f"{words} {self.pixels.shape}".encode() + np.ascontiguousarray(self.pixels).tobytes()
        ).hexdigest()

    def __eq__(self, other: object) -> bool:
        return self is other or (isinstance(other, RealImage) and self.digest == other.digest)

    def __hash__(self) -> int:
        return hash(self.digest)

    def to_json(self) -> dict[str, Any]:
        """All of it as JSON: it holds the picture."""
        from PIL import Image

        data = io.BytesIO()
        shown = self.pixels[0] if len(self.pixels) == 1 else np.moveaxis(self.pixels, 0, -1)
        Image.fromarray(shown).save(data, "PNG")
        document: dict[str, Any] = {"snapshot": self.snapshot, "name": self.name, "about": self.about}
        document |= {"place": place_to_json(self.place), "kind": self.kind}
        png = base64.b64encode(data.getvalue()).decode()
        return document | {"covariates": [list(pair) for pair in self.covariates], "png": png}

    @staticmethod
    def from_json(document: Mapping[str, Any]) -> RealImage:
        """What `to_json` gave.

        Raises:
            KeyError, TypeError, ValueError: It cannot be.
        """
        from PIL import Image, UnidentifiedImageError

        try:
            with Image.open(io.BytesIO(base64.b64decode(document["png"], validate=True))) as image:
                shown = np.asarray(image)
        except (OSError, UnidentifiedImageError) as error:
            raise ValueError(f"png: {error}") from None
        if shown.dtype != np.uint8 or shown.ndim not in (2, 3):
            raise ValueError("png")
        pixels = shown[None] if shown.ndim == 2 else np.moveaxis(shown, -1, 0)
        place = place_from_json(document["place"])
        known = tuple((str(n), float(v)) for n, v in document["covariates"])
        snapshot, name, about = (str(document[key]) for key in ("snapshot", "name", "about"))
        return RealImage(snapshot, name, pixels, known, about=about, place=place, kind=str(document["kind"]))


def place_to_json(place: Place | None) -> dict[str, Any] | None:
    """Where a picture lies, as JSON."""
    return None if place is None else {"plane": place.plane, "affine": place.affine, "code": place.code}


def place_from_json(document: Mapping[str, Any] | None) -> Place | None:
    """What `place_to_json` gave.

    Raises:
        KeyError, TypeError, ValueError: It cannot be.
    """
    if document is None:
        return None
    rows = tuple(tuple(float(v) for v in row) for row in document["affine"])
    return Place(str(document["plane"]), rows, int(document["code"]))
