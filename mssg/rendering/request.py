"""What to render, and what came of it: plain values that cross process borders, compare and hash. No torch
here."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mssg.data.plane import Place
from mssg.errors import UsageError

NOISE_MODES = ("const", "random", "none")
PRECISIONS = ("auto", "float32", "float16")
MAX_SEED = 2**32 - 1


@dataclass(frozen=True, eq=False)
class StoredLatent:
    """A latent that belongs to no seed, as `mssg invert` finds it. Equal by content.

    Attributes:
        w: float32 [num_ws, w_dim], or [w_dim] for all layers.
        noise: Name of a synthesis layer's noise -> float32 [1, 1, r, r]; empty: the network's own.
        z: float32 [z_dim], and
        residual: float32 [num_ws, w_dim]: w is mapping(z, c) + residual. None where it cannot be edited.
        values: Native values that it was found with, in the order of the study's conditions.
        snapshot: Id of the snapshot it belongs to; "" where nobody knows.
        file: Where it was read. No part of the content.
        place: Where its image lies in the patient, where that is known. No part of the content.
        drawn_by: What file the snapshot was. No part of the content.

    Raises:
        UsageError: w has another shape, or is not finite.
    """

    w: NDArray[np.float32]
    noise: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)
    z: NDArray[np.float32] | None = None
    residual: NDArray[np.float32] | None = None
    values: tuple[float, ...] = ()
    snapshot: str = ""
    file: str = ""
    place: Place | None = None
    drawn_by: str = ""

    def __post_init__(self) -> None:
        w = np.asarray(self.w, np.float32)
        if w.ndim not in (1, 2) or not np.isfinite(w).all():
            expected = "[num_ws, w_dim] finite numbers"
            raise UsageError(
                "not a latent", file=self.file or None, field="w", found=list(w.shape), expected=expected
            )
        object.__setattr__(self, "w", w)

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the content, hexadecimal."""
        sha = hashlib.sha256(repr((self.values, self.snapshot)).encode())
        arrays = {"w": self.w, "z": self.z, "residual": self.residual, **dict(sorted(self.noise.items()))}
        for name, array in arrays.items():
            if array is not None:
                sha.update(f"{name} {array.dtype} {array.shape}".encode())
                sha.update(np.ascontiguousarray(array).tobytes())
        return sha.hexdigest()

    def __eq__(self, other: object) -> bool:
        return self is other or (isinstance(other, StoredLatent) and self.digest == other.digest)

    def __hash__(self) -> int:
        return hash(self.digest)

    def check_fits(self, snapshot: str, path: Path) -> None:
        """Refuse another snapshot than it was found with.

        Raises:
            UsageError: Another one.
        """
        if self.snapshot == snapshot:
            return
        raise UsageError(
            "was inverted with another snapshot",
            file=self.file or None,
            found=f"{self.drawn_by or 'a snapshot'} ({self.snapshot})",
            expected=f"{path} ({snapshot})",
            hint="Give the snapshot that it was inverted with, or invert the image with this one",
        )

    def edited(self, names: Sequence[str], covariates: Iterable[tuple[str, float]]) -> dict[str, float]:
        """The conditions `names` behind it with some of them changed; none where it does not say."""
        return dict(zip(names, self.values)) | dict(covariates) if self.values else {}


@dataclass(frozen=True)
class RenderRequest:
    """One picture, completely described: equal requests mean the same picture.

    Attributes:
        snapshot: Id of the snapshot (`Header.snapshot_id`); "" accepts whichever the renderer holds.
        seed: Seed of the latent z.
        blend: ((seed, weight), …): the weighted mean of these seeds' w instead of one seed.
        mix_seed: Style mixing: seed of a second latent, from which
        mix_layers: these layers (indices of w, kept sorted) take their style.
        latent: A latent found before, instead of a seed. Covariates that are stated edit it.
        covariates: ((name, native value), …), kept sorted by name; "source" names the source where the study
            conditions on it. What is left out takes the training median or mode (`mssg.study.values`).
        psi: Truncation: 1 = none, 0 = the average w.
        cutoff: Truncate only the first `cutoff` layers; None = all.
        noise_mode: "const", "random" (from `noise_seed`) or "none".
        noise_seed: Seed of the noise inputs where they are random.
        transform: (a, b, c, d, e, f), the matrix [[a, b, c], [d, e, f]] on image coordinates in units of the
            image's width (StyleGAN3 only).
        precision: "auto": what the network was built for, float16 in its highest resolutions on a GPU;
            "float32": never float16; "float16": only where there is a GPU.
        layer: Show this layer's activations instead of the image.
        channel: One channel of that layer; None = all.
        channels: So many of them from `channel` on; the picture has them side by side.

    Raises:
        UsageError: A field that cannot be.
    """

    snapshot: str = ""
    seed: int = 0
    blend: tuple[tuple[int, float], ...] = ()
    mix_seed: int = 0
    mix_layers: tuple[int, ...] = ()
    latent: StoredLatent | None = None
    covariates: tuple[tuple[str, float], ...] = ()
    psi: float = 1.0
    cutoff: int | None = None
    noise_mode: str = "const"
    noise_seed: int = 0
    transform: tuple[float, ...] | None = None
    precision: str = "auto"
    layer: str | None = None
    channel: int | None = None
    channels: int = 1

    def __post_init__(self) -> None:
        pairs = self.covariates.items() if isinstance(self.covariates, Mapping) else self.covariates
        try:
            plain = {
                "covariates": tuple(sorted((str(n), float(v)) for n, v in pairs)),
                "blend": tuple((s, float(w)) for s, w in self.blend),
                "mix_layers": tuple(sorted(set(self.mix_layers))),
                "psi": float(self.psi),
                "transform": None if self.transform is None else tuple(float(v) for v in self.transform),
            }
        except (TypeError, ValueError) as error:
            raise UsageError(f"not a render request: {error}") from None
        if len(plain["blend"]) == 1 and plain["blend"][0][1] != 0:
            plain |= {"seed": plain["blend"][0][0], "blend": ()}
        for name, value in plain.items():
            object.__setattr__(self, name, value)
        self._check()

    def __hash__(self) -> int:
        """Kept, for a window asks for it hundreds of times a frame."""
        found = self.__dict__.get("_hash")
        if found is None:
            found = hash(tuple(getattr(self, f.name) for f in fields(self)))
            object.__setattr__(self, "_hash", found)
        return found

    def __getstate__(self) -> dict[str, Any]:
        """Without the hash: another process has other hashes of the same text."""
        return {k: v for k, v in self.__dict__.items() if k != "_hash"}

    def _check(self) -> None:
        names = [name for name, _ in self.covariates]
        for name, value in self.covariates:
            if names.count(name) > 1:
                raise UsageError("given twice", field=name)
            if not math.isfinite(value):
                raise UsageError("not a finite number", field=name, found=value)
        for seed in (self.seed, self.mix_seed, self.noise_seed, *(s for s, _ in self.blend)):
            _check_whole("seed", seed, MAX_SEED)
        for name, whole in (("cutoff", self.cutoff), ("channel", self.channel), ("channels", self.channels)):
            _check_whole(name, 0 if whole is None else whole)
        for layer in self.mix_layers:
            _check_whole("mix_layers", layer)
        weights = [weight for _, weight in self.blend]
        if weights and not (all(map(math.isfinite, weights)) and abs(sum(weights)) > 1e-9):
            raise UsageError("weights must be finite and not sum to zero", field="blend", found=self.blend)
        if not math.isfinite(self.psi):
            raise UsageError("not a finite number", field="psi", found=self.psi)
        for name, known in (("noise_mode", NOISE_MODES), ("precision", PRECISIONS)):
            if getattr(self, name) not in known:
                expected = " | ".join(known)
                raise UsageError("not known", field=name, found=getattr(self, name), expected=expected)
        if self.channel is not None and self.layer is None:
            raise UsageError("names no channel of a layer", field="channel", found=self.channel)
        if self.channels != 1 and (self.channel is None or not self.channels):
            expected = "1, or more from a channel on"
            raise UsageError("counts no channels", field="channels", found=self.channels, expected=expected)
        if self.transform is not None:
            if len(self.transform) != 6 or not all(map(math.isfinite, self.transform)):
                raise UsageError(
                    "not a transform", field="transform", found=self.transform, expected="six finite numbers"
                )
            a, b, _, d, e, _ = self.transform
            if abs(a * e - b * d) < 1e-9:
                raise UsageError("cannot be inverted", field="transform", found=self.transform)

    def to_json(self) -> dict[str, Any]:
        """The request as a JSON object, without what is at its default; a stored latent by its digest."""
        default = RenderRequest()
        out = {f.name: getattr(self, f.name) for f in fields(self)}
        out = {k: v for k, v in out.items() if v != getattr(default, k)}
        return out | ({"latent": self.latent.digest} if self.latent else {})

    @staticmethod
    def from_json(document: Mapping[str, Any], latent: StoredLatent | None = None) -> RenderRequest:
        """The request of a JSON object written by `to_json`.

        Args:
            latent: The stored latent that it names.

        Raises:
            UsageError: An unknown key, a value that cannot be, or another latent than the one named.
        """
        known = {f.name for f in fields(RenderRequest)}
        if not isinstance(document, Mapping) or set(document) - known:
            key = sorted(map(str, set(document) - known))[0] if isinstance(document, Mapping) else None
            raise UsageError("not a key of a render request", field=key, expected=" | ".join(sorted(known)))
        found = None if latent is None else latent.digest
        if document.get("latent") != found:
            raise UsageError(
                "is about another stored latent" if latent else "needs the stored latent it was made with",
                field="latent",
                found=found,
                expected=document.get("latent"),
                hint="Give its file with --w",
            )
        for name in ("snapshot", "layer"):
            if not isinstance(document.get(name, ""), str):
                raise UsageError("not a text", field=name, found=document[name])
        try:
            return RenderRequest(**{**document, "latent": latent})
        except (TypeError, ValueError) as error:
            raise UsageError(f"not a render request: {error}") from None


def _check_whole(name: str, value: Any, most: int | None = None) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < 0 or (most and value > most):
        expected = f"a whole number from 0{f' to {most}' if most else ''}"
        raise UsageError("out of range", field=name, found=value, expected=expected)


@dataclass(frozen=True)
class RenderResult:
    """What came of a request.

    Attributes:
        image: float32 [C, H, W] as the generator gives it, -1 (black) to 1 (white) with some overshoot
            (`to_uint8` turns it into grey levels); a layer's raw activations if one was asked for. None if
            there is none.
        timings_ms: ((stage, milliseconds), …): "mapping", "synthesis".
        preview: True for a quick, smaller picture that the full one is to replace.
        error: What went wrong, in words for the user.
        cancelled: True if the work was dropped because it was no longer wanted.
    """

    request: RenderRequest
    image: np.ndarray | None = field(default=None, compare=False)
    timings_ms: tuple[tuple[str, float], ...] = field(default=(), compare=False)
    preview: bool = False
    error: str | None = None
    cancelled: bool = False


def to_uint8(images: np.ndarray) -> np.ndarray:
    """Images of a generator, about [-1, 1] in any shape -> grey levels uint8: round((x + 1) · 127.5),
    clamped."""
    return np.rint(np.clip((np.asarray(images, np.float32) + 1) * 127.5, 0, 255)).astype(np.uint8)
