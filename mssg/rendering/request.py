"""What to render, and what came of it: plain values that cross process borders, compare and hash. No torch
here.

Also how people state values in words: `name=value`, `name=lo:hi`, `name=lo:hi:n`, always in native units.
"""

from __future__ import annotations

import difflib
import math
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np

from mssg.errors import UsageError
from mssg.study.model import SOURCE, Covariate, Study

NOISE_MODES = ("const", "random", "none")
MAX_SEED = 2**32 - 1
MAX_STEPS = 200
"""Most values one sweep may have."""


@dataclass(frozen=True)
class RenderRequest:
    """One picture, completely described: equal requests mean the same picture.

    Attributes:
        snapshot: Id of the snapshot (`Header.snapshot_id`); "" accepts whichever the renderer holds.
        seed: Seed of the latent z; None where `w_path` gives w instead.
        mix: ((seed, weight), …): the weighted mean of these seeds' w instead of one seed.
        w_path: File with a latent w, as `mssg invert` writes it.
        covariates: ((name, native value), …), kept sorted by name; "source" names the source where the study
            conditions on it. What is left out takes the training median or mode.
        psi: Truncation: 1 = none, 0 = the average w.
        cutoff: Truncate only the first `cutoff` layers; None = all.
        noise_mode: "const", "random" (from `noise_seed`) or "none".
        noise_seed: Seed of the noise inputs where they are random.
        layer: Show this layer's activations instead of the image.
        channel: One channel of that layer; None = all.
        transform: 2x3 or 3x3 matrix on image coordinates (StyleGAN3 only), in units of the image's width.

    Raises:
        UsageError: A field that cannot be.
    """

    snapshot: str = ""
    seed: int | None = 0
    mix: tuple[tuple[int, float], ...] = ()
    w_path: str | None = None
    covariates: tuple[tuple[str, float], ...] = ()
    psi: float = 1.0
    cutoff: int | None = None
    noise_mode: str = "const"
    noise_seed: int = 0
    layer: str | None = None
    channel: int | None = None
    transform: tuple[tuple[float, ...], ...] | None = None

    def __post_init__(self) -> None:
        pairs = self.covariates.items() if isinstance(self.covariates, Mapping) else self.covariates
        covariates = tuple(sorted((str(n), float(v)) for n, v in pairs))
        object.__setattr__(self, "covariates", covariates)
        object.__setattr__(self, "mix", tuple((int(s), float(w)) for s, w in self.mix))
        object.__setattr__(self, "psi", float(self.psi))
        if self.transform is not None:
            matrix = tuple(tuple(float(v) for v in row) for row in self.transform)
            object.__setattr__(self, "transform", matrix)
        self._check()

    def _check(self) -> None:
        names = [name for name, _ in self.covariates]
        for name, value in self.covariates:
            if names.count(name) > 1:
                raise UsageError("given twice", field=name)
            if not math.isfinite(value):
                raise UsageError("not a finite number", field=name, found=value)
        for seed in (self.seed, self.noise_seed, *(s for s, _ in self.mix)):
            if seed is not None and not 0 <= seed <= MAX_SEED:
                raise UsageError("out of range", field="seed", found=seed, expected=f"0 to {MAX_SEED}")
        if self.seed is None and self.w_path is None and not self.mix:
            raise UsageError("nothing to render", field="seed", expected="a seed or a file with w")
        if self.mix and not (
            all(math.isfinite(w) for _, w in self.mix) and abs(sum(w for _, w in self.mix)) > 1e-9
        ):
            raise UsageError("weights must be finite and not sum to zero", field="mix", found=self.mix)
        if not math.isfinite(self.psi):
            raise UsageError("not a finite number", field="psi", found=self.psi)
        if self.cutoff is not None and self.cutoff < 0:
            raise UsageError("must not be negative", field="cutoff", found=self.cutoff)
        if self.noise_mode not in NOISE_MODES:
            raise UsageError(
                "unknown noise mode",
                field="noise_mode",
                found=self.noise_mode,
                expected=" | ".join(NOISE_MODES),
            )
        if self.channel is not None and (self.layer is None or self.channel < 0):
            raise UsageError("names no channel of a layer", field="channel", found=self.channel)
        if self.transform is not None:
            matrix = self.transform
            shape = (len(matrix), {len(row) for row in matrix})
            if shape not in ((2, {3}), (3, {3})) or not np.isfinite(matrix).all():
                raise UsageError("not a transform", field="transform", expected="2x3 or 3x3 finite numbers")

    def to_json(self) -> dict[str, Any]:
        """The request as a JSON object, without what is at its default."""
        default = RenderRequest()
        out = {f.name: getattr(self, f.name) for f in fields(self)}
        return {k: v for k, v in out.items() if v != getattr(default, k)}

    @staticmethod
    def from_json(document: Mapping[str, Any]) -> RenderRequest:
        """The request of a JSON object written by `to_json`.

        Raises:
            UsageError: An unknown key or a value that cannot be.
        """
        known = {f.name for f in fields(RenderRequest)}
        for key in document:
            if key not in known:
                raise UsageError(
                    "unknown key of a render request", field=key, expected=" | ".join(sorted(known))
                )
        values = dict(document)
        try:
            values["covariates"] = tuple((n, v) for n, v in values.get("covariates", ()))
            return RenderRequest(**values)
        except (TypeError, ValueError) as error:
            raise UsageError(f"not a render request: {error}") from None

    def command(self, study: Study, snapshot: str, output: str = "image.png") -> str:
        """The `mssg generate` command that draws this picture again."""
        words = ["mssg", "generate", snapshot]
        words += ["--w", self.w_path] if self.w_path else ["--seed", str(self.seed or 0)]
        for name, value in self.covariates:
            words += ["--fix", f"{name}={plain(study.covariate(name), value)}"]
        words += ["--psi", f"{self.psi:g}"] if self.psi != 1 else []
        words += ["--cutoff", str(self.cutoff)] if self.cutoff is not None else []
        if self.noise_mode != "const":
            words += ["--noise", self.noise_mode, "--noise-seed", str(self.noise_seed)]
        return shlex.join([*words, "-o", output])


def private_command(command: str) -> str:
    """A command as a picture may state it: without the files of latents and of the output, which may name a
    person."""
    words, after = shlex.split(command), ""
    for i, word in enumerate(words):
        option = "--w=" if word.startswith("--w=") else ""
        if option or after in ("--w", "-o", "--output", "counterfactuals"):
            words[i] = f"{option}FILE{Path(word).suffix}"
        after = word
    return shlex.join(words)


@dataclass(frozen=True)
class RenderResult:
    """What came of a request.

    Attributes:
        request: The request.
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


@dataclass(frozen=True)
class Sweep:
    """Values of one covariate to go through, in native units."""

    name: str
    values: tuple[float, ...]


def describe(covariate: Covariate) -> str:
    """A covariate's name with its unit or levels: "age (years)", "digit (0|1|2)"."""
    if covariate.kind == "categorical":
        return f"{covariate.name} ({'|'.join(covariate.levels)})"
    if covariate.kind == "binary":
        return f"{covariate.name} (0|1)"
    return f"{covariate.name} ({covariate.unit})" if covariate.unit else covariate.name


def find_covariate(study: Study, name: str) -> Covariate:
    """The condition of this name.

    Raises:
        UsageError: Listing every known name with its unit or levels.
    """
    if name in study.condition_names:
        return study.covariate(name)
    near = difflib.get_close_matches(name, study.condition_names, 1)
    raise UsageError(
        "no such covariate in this study",
        field=name or "covariate",
        expected=", ".join(describe(c) for c in study.conditions),
        hint=f"Did you mean {near[0]!r}?" if near else None,
    )


def plain(covariate: Covariate, value: float) -> str:
    """A native value as it is written on a command line, without loss."""
    return covariate.levels[round(value)] if covariate.kind == "categorical" else f"{value:.9g}"


def parse_value(study: Study, text: str) -> tuple[str, float]:
    """`name=value` in native units -> (name, native value).

    Raises:
        UsageError: No "=", an unknown covariate, or not a value of it.
    """
    name, mark, word = text.partition("=")
    name = name.strip()
    covariate = find_covariate(study, name) if mark or name in study.condition_names else None
    if covariate is None or not word.strip():
        known = ", ".join(describe(c) for c in study.conditions)
        raise UsageError("not of the form name=value", found=repr(text), expected=f"one of {known}")
    value = covariate.parse(word)
    if not math.isfinite(value):
        raise UsageError("a missing value cannot be drawn", field=name, found=repr(word.strip()))
    return name, value


def parse_values(study: Study, texts: Iterable[str]) -> dict[str, float]:
    """Several `name=value` -> mapping; a name given twice is an error.

    Raises:
        UsageError: As `parse_value`, or a name given twice.
    """
    out: dict[str, float] = {}
    for text in texts:
        name, value = parse_value(study, text)
        if name in out:
            raise UsageError("given twice", field=name, found=repr(text))
        out[name] = value
    return out


def parse_sweep(study: Study, text: str, steps: int = 5, summary: Mapping[str, Any] | None = None) -> Sweep:
    """`name`, `name=lo:hi`, `name=lo:hi:n` or `name=a,b,c` in native units -> the values.

    Args:
        study: Names, units and levels.
        text: What the user wrote. For a covariate with levels lo:hi means from level to level.
        steps: Number of values where the text does not say.
        summary: Training summary of the snapshot: `name` alone goes from its 5 % to its 95 % quantile.

    Raises:
        UsageError: Saying what was expected, with unit and levels.
    """
    name, mark, words = text.partition("=")
    name, words = name.strip(), words.strip()
    covariate = find_covariate(study, name)
    if not mark:
        return Sweep(name, default_values(covariate, summary or {}, steps))
    parts = words.split(":")
    if len(parts) == 1:
        values = [_given(covariate, word, text) for word in words.split(",")]
    elif len(parts) <= 3:
        low, high = (_given(covariate, word, text) for word in parts[:2])
        if covariate.is_continuous:
            values = np.linspace(low, high, _count(parts[2], text) if len(parts) == 3 else steps).tolist()
        elif len(parts) == 3:
            raise UsageError(
                "levels take no number of steps", field=name, found=repr(text), expected=f"{name}=lo:hi"
            )
        else:
            step = 1 if high >= low else -1
            values = [float(i) for i in range(int(low), int(high) + step, step)]
    else:
        raise UsageError("not a range", field=name, found=repr(text), expected=f"{name}=lo:hi:n")
    if len(set(values)) != len(values):
        raise UsageError("the range holds the same value twice", field=name, found=repr(text))
    return Sweep(name, tuple(values))


def _given(covariate: Covariate, word: str, text: str) -> float:
    value = covariate.parse(word)
    if not math.isfinite(value):
        raise UsageError(
            "a value is missing",
            field=covariate.name,
            found=repr(text),
            expected=f"{covariate.name}=lo:hi:n with {describe(covariate)}",
        )
    return value


def _count(word: str, text: str) -> int:
    count = int(word) if word.strip().isdecimal() and len(word) < 6 else 0
    if not 1 <= count <= MAX_STEPS:
        raise UsageError(
            "not a number of steps", found=repr(text), expected=f"lo:hi:n with n from 1 to {MAX_STEPS}"
        )
    return count


def default_values(covariate: Covariate, summary: Mapping[str, Any], steps: int) -> tuple[float, ...]:
    """Values that show a covariate: all its levels, or round numbers between the training 5 % and 95 %
    quantiles.

    Raises:
        UsageError: The summary holds no quantiles of this continuous covariate.
    """
    if not covariate.is_continuous:
        return tuple(float(i) for i in range(covariate.num_levels))
    return tuple(round_values(*training_range(covariate, summary), steps))


def round_values(low: float, high: float, count: int) -> list[float]:
    """Multiples of a round step (1, 1.2, 1.5, 2, 2.5, 3, 4, 5, 6 or 8 times a power of ten), as wide as fits.

    Args:
        low, high: All values lie between these.
        count: How many values.
    """
    if count < 2 or not high > low:
        return [float(f"{(low + high) / 2:.3g}")][:count] if high > low else [low]
    exponent = math.floor(math.log10((high - low) / (count - 1)))
    for power in (exponent, exponent - 1, exponent - 2):
        for digit in (8.0, 6.0, 5.0, 4.0, 3.0, 2.5, 2.0, 1.5, 1.2, 1.0):
            step = digit * 10.0**power
            first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) - (count - 1)
            if first <= last:
                start = (first + last) // 2
                return [
                    round((start + i) * step, 2 - power) + 0.0 for i in range(count)
                ]  # + 0.0: no minus zero
    return np.linspace(low, high, count).tolist()


def training_range(
    covariate: Covariate, summary: Mapping[str, Any], low: float = 0.05, high: float = 0.95
) -> tuple[float, float]:
    """Two training quantiles of a continuous covariate, native units, by interpolation in the summary.

    Raises:
        UsageError: The summary does not hold them.
    """
    try:
        table = summary["covariates"][covariate.name]["quantiles"]
        first, last = np.interp([low, high], table["q"], table["values"])
    except (KeyError, TypeError, ValueError):
        raise UsageError(
            "the snapshot records no training range of this covariate",
            field=covariate.name,
            hint=f"State one: {covariate.name}=lo:hi:n",
        ) from None
    return float(first), float(last)


def training_defaults(study: Study, summary: Mapping[str, Any]) -> dict[str, float]:
    """What a covariate is where nobody states it: the training median, or the most frequent level.

    Args:
        study: The snapshot's study.
        summary: Its training summary. "source" takes the source with the most images.

    Raises:
        UsageError: The summary lacks a continuous covariate.
    """
    out = {}
    for covariate in study.conditions:
        if covariate.is_continuous:
            out[covariate.name] = training_range(covariate, summary, 0.5, 0.5)[0]
            continue
        if covariate.name == SOURCE:
            sources = summary.get("sources", {})
            counts = [sources.get(s.name, {}).get("n", 0) for s in study.sources]
        else:
            counts = (
                summary.get("covariates", {}).get(covariate.name, {}).get("histogram", {}).get("counts", [0])
            )
        out[covariate.name] = float(np.argmax(counts))
    return out


def outside_training(
    study: Study, summary: Mapping[str, Any], values: Mapping[str, float | Sequence[float]]
) -> list[str]:
    """One sentence for every continuous covariate whose value, or one of whose values, the training data do
    not hold."""
    notes = []
    for name, stated in values.items():
        covariate, asked = study.covariate(name), np.atleast_1d(stated)
        if not covariate.is_continuous:
            continue
        try:
            low, high = training_range(covariate, summary, 0.0, 1.0)
        except UsageError:
            continue
        first, last = float(asked.min()), float(asked.max())
        if first < low or last > high:
            span = f"{covariate.format(low, unit=False)} to {covariate.format(high)}"
            text = covariate.format(last)
            text = text if first == last else f"{covariate.format(first, unit=False)} to {text}"
            notes.append(f"{name} {text} lies outside the training data ({span})")
    return notes


def read_w(path: str | Path) -> np.ndarray:
    """The latent of a file that `mssg invert` wrote: float32 [num_ws, w_dim] or [w_dim], from a tensor named
    "w".

    Raises:
        UsageError: Missing, damaged, or without a usable "w".
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    path = Path(path)
    if not path.is_file():
        raise UsageError("no such file", file=path, expected="a .safetensors file with a tensor w")
    try:
        w = load_file(path)["w"]
    except (SafetensorError, OSError, LookupError, TypeError, ValueError, AttributeError) as error:
        raise UsageError("holds no latent", file=path, found=str(error), expected="a tensor w") from None
    w = np.asarray(w, np.float32)
    if w.ndim == 3 and len(w) == 1:
        w = w[0]
    if w.ndim not in (1, 2) or not np.isfinite(w).all():
        raise UsageError(
            "not a latent", file=path, field="w", found=list(w.shape), expected="[num_ws, w_dim]"
        )
    return w
