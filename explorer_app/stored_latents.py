"""Stored latents as a session holds them. No torch."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from explorer_app.real_image import place_from_json, place_to_json
from mssg.rendering.request import StoredLatent


def latent_to_json(latent: StoredLatent) -> dict[str, Any]:
    """All of a latent as JSON; its arrays as NumPy files in base64."""
    parts = {"w": latent.w, "z": latent.z, "residual": latent.residual}
    arrays = {name: _text(array) for name, array in parts.items() if array is not None}
    words = {"snapshot": latent.snapshot, "file": latent.file, "drawn_by": latent.drawn_by}
    noise = {name: _text(array) for name, array in latent.noise.items()}
    place = place_to_json(latent.place)
    return {**arrays, **words, "noise": noise, "values": list(latent.values), "place": place}


def latent_from_json(document: Mapping[str, Any]) -> StoredLatent:
    """What `latent_to_json` gave.

    Raises:
        KeyError, TypeError, ValueError, UsageError: It cannot be.
    """
    z, residual = (_array(document[name]) if name in document else None for name in ("z", "residual"))
    return StoredLatent(
        _array(document["w"]),
        noise={str(name): _array(text) for name, text in document["noise"].items()},
        z=z,
        residual=residual,
        values=tuple(float(v) for v in document["values"]),
        snapshot=str(document["snapshot"]),
        file=str(document["file"]),
        place=place_from_json(document["place"]),
        drawn_by=str(document["drawn_by"]),
    )


def _text(array: NDArray[np.float32]) -> str:
    data = io.BytesIO()
    np.save(data, array, allow_pickle=False)
    return base64.b64encode(data.getvalue()).decode()


def _array(text: str) -> NDArray[np.float32]:
    return np.load(io.BytesIO(base64.b64decode(text, validate=True)), allow_pickle=False)
