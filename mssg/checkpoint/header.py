"""A snapshot's study, statistics and covariate models, readable without torch.

A snapshot is one safetensors file: tensors under `G_ema/`, `G/`, `D/` and `covariates/`, and one JSON text in
    the
metadata key `mssg`. Source: docs/reference/formats.md.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from mssg import assets
from mssg.errors import MssgError, SnapshotError
from mssg.files import parse_json
from mssg.runs.folder import RunFolder
from mssg.study.model import Study
from mssg.study.schema import from_document

FORMAT_VERSION = 1
_HEADER_LIMIT = 64 * 2**20
_SENSELESS = (LookupError, TypeError, ValueError, AttributeError, ArithmeticError, RuntimeError, MemoryError)
_MOST_DIMENSIONS = 8
_STORED_PICTURE = re.compile(rb', \\"preview\\": \\"[A-Za-z0-9+/=]*\\"')
PICKLES = (*(bytes([0x80, protocol]) for protocol in range(2, 6)), b"PK\x03\x04")
"""How pickles start, those of the official tools and those that torch puts into a zip."""
_DTYPES = {
    "F64": "<f8",
    "F32": "<f4",
    "F16": "<f2",
    "I64": "<i8",
    "I32": "<i4",
    "U8": "|u1",
    "BOOL": "|b1",
    "BF16": "<u2",
}


@dataclass(frozen=True)
class Header:
    """What a snapshot says about itself.

    `progress` holds kimg and step; `summary` the training summary of docs/reference/formats.md (histograms,
    quantiles, log-density percentiles; never rows); `generator` and `discriminator` the network
    configurations; `preview` a PNG of the medians, empty where none is stored.
    """

    path: Path
    format_version: int
    study: Study
    generator: Mapping[str, Any]
    discriminator: Mapping[str, Any]
    progress: Mapping[str, Any]
    provenance: Mapping[str, Any]
    summary: Mapping[str, Any]
    covariate_state: Mapping[str, Any]
    covariate_arrays: Mapping[str, np.ndarray]
    preview: bytes = b""

    @cached_property
    def models(self):
        """The fitted covariate models (`mssg.covariates.CovariateModels`)."""
        from mssg.covariates.system import CovariateModels

        try:
            models = CovariateModels.from_state(
                self.study, dict(self.covariate_state), dict(self.covariate_arrays)
            )
            drawn = models.sample(
                256, None, np.random.default_rng(0)
            )  # damage shows here, not in somebody's work
            self.study.encode(np.stack([drawn[name] for name in self.study.condition_names], 1))
        except MssgError as error:
            raise _damaged(self.path, error.message, field=error.field, found=error.found) from None
        except _SENSELESS as error:
            raise _damaged(
                self.path,
                "its covariate models make no sense",
                field="covariates",
                found=type(error).__name__,
            ) from None
        return models

    @cached_property
    def origin(self) -> str:
        """What the training images are, as their sources or whoever ships the snapshot state it; "" where
        nobody does."""
        if stated := self.study.about.get("data") or self.summary.get("origin"):
            return str(stated)
        shipped = assets.root() / "snapshots"
        if self.path.resolve().parent != shipped.resolve():
            return ""
        return parse_json((shipped / "origins.json").read_text(encoding="utf-8")).get(self.path.stem, "")

    @cached_property
    def snapshot_id(self) -> str:
        """First 12 hexadecimal digits of the SHA-256 of the file without its stored picture, which makes it
        no other model."""
        return _file_id(self.path)


def _file_id(path: Path) -> str:
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        head = file.read(8)
        text = file.read(min(int.from_bytes(head, "little"), _HEADER_LIMIT))
        plain, pictures = _STORED_PICTURE.subn(b"", text)
        if pictures:  # as it would be written without: the table is filled up to a multiple of 8
            text = plain.rstrip(b" ")
            text += b" " * (-len(text) % 8)
            head = len(text).to_bytes(8, "little")
        digest.update(head + text)
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()[:12]


def _damaged(path: Path, what: str, **details: Any) -> SnapshotError:
    return SnapshotError(f"not a usable snapshot: {what}", file=path, **details)


def _layout(path: Path) -> tuple[dict[str, Any], int]:
    """The safetensors table of contents and the offset of its data, checked against the file's size."""
    size = path.stat().st_size
    with open(path, "rb") as file:
        head = file.read(8)
        length = int.from_bytes(head, "little")
        if len(head) < 8 or not 2 <= length <= min(size - 8, _HEADER_LIMIT):
            if head.startswith(PICKLES):
                hint = f"Turn it into one: mssg import {path.name} -o {path.stem}.safetensors"
                raise SnapshotError("a network pickle", file=path, expected="a .safetensors file", hint=hint)
            raise _damaged(path, "it is truncated or no safetensors file", found=f"{size} bytes")
        try:
            contents = parse_json(file.read(length))
        except ValueError:
            raise _damaged(path, "its header is not valid JSON") from None
    if not isinstance(contents, dict):
        raise _damaged(path, "its header is not a table")
    end = 0
    for name, entry in contents.items():
        if name == "__metadata__":
            continue
        try:
            start, stop = entry["data_offsets"]
            shape = entry["shape"]
            count = int(np.prod(shape, dtype=object)) if shape else 1
            sound = type(shape) is list and len(shape) <= _MOST_DIMENSIONS
            sound = sound and all(type(n) is int and n >= 0 for n in shape)
            sound = (
                sound and stop - start == count * np.dtype(_DTYPES[entry["dtype"]]).itemsize and 0 <= start
            )
        except (KeyError, TypeError, ValueError, OverflowError):
            sound = False
        if not sound:
            raise _damaged(path, "an entry of its table of contents makes no sense", field=name)
        end = max(end, stop)
    if end != size - 8 - length:
        raise _damaged(path, "it is truncated", found=f"{size} bytes", expected=f"{8 + length + end} bytes")
    return contents, 8 + length


def read_header(path: str | Path) -> Header:
    """Read what a snapshot says about itself; weights stay on disk.

    Raises:
        SnapshotError: Missing, truncated, tampered with, or of an unknown format version.
    """
    path = Path(path)
    if not path.is_file():
        raise SnapshotError(
            "no such snapshot", file=path, hint="Give a .safetensors file, a run folder or a shipped name"
        )
    contents, offset = _layout(path)
    try:
        document = parse_json(contents["__metadata__"]["mssg"])
        version = document["format_version"]
    except (KeyError, TypeError, ValueError):
        raise _damaged(
            path, "it holds no MSSG description", hint="Was it written by `mssg-train` or `mssg import`?"
        ) from None
    if version != FORMAT_VERSION:
        raise _damaged(
            path, "unknown format version", found=version, expected=FORMAT_VERSION, hint="Update MSSG"
        )
    arrays = _covariate_arrays(path, contents, offset)
    try:
        parts = {
            k: dict(document[k]) for k in ("generator", "discriminator", "progress", "provenance", "summary")
        }
        return Header(
            path,
            version,
            from_document(document["study"]),
            **parts,
            covariate_state=document["covariates"],
            covariate_arrays=arrays,
            preview=base64.b64decode(document.get("preview", ""), validate=True),
        )
    except MssgError as error:
        raise _damaged(
            path, error.message, field=error.field, found=error.found, expected=error.expected
        ) from None
    except (KeyError, TypeError, ValueError) as error:
        raise _damaged(path, "its description lacks a part", found=str(error)) from None


def _covariate_arrays(path: Path, contents: Mapping[str, Any], offset: int) -> dict[str, np.ndarray]:
    """What the covariate models are restored from."""
    arrays = {}
    with open(path, "rb") as file:
        for name, entry in contents.items():
            if name.startswith("covariates/"):
                start, end = entry["data_offsets"]
                file.seek(offset + start)
                flat = np.frombuffer(file.read(end - start), _DTYPES[entry["dtype"]])
                arrays[name.removeprefix("covariates/")] = flat.reshape(entry["shape"])
    return arrays


def resolve_snapshot(name: str | Path, identity: str = "") -> Path:
    """The file behind a SNAPSHOT argument: a path, a run folder (its newest valid one), or the name of a
    shipped one.

    Args:
        identity: The id of a snapshot (`Header.snapshot_id`) that is taken of a run folder rather than the
            newest, where the run has it.

    Raises:
        SnapshotError: Nothing of that name.
    """
    path = Path(name)
    if path.is_file():
        return path
    if path.is_dir():
        problem, newest_first = None, RunFolder(path).snapshot_files()[::-1]
        if identity:
            newest_first.sort(key=lambda file: _file_id(file) != identity)
        for candidate in newest_first:
            try:
                _layout(candidate)
                return candidate
            except SnapshotError as error:
                problem = error
        raise problem or SnapshotError(
            "this run has no snapshot yet", file=path, hint="Wait for the first one, or give another run"
        )
    shipped = assets.root() / "snapshots"
    candidate = shipped / f"{name}.safetensors"
    if path.name == str(name) and candidate.is_file():
        return candidate
    names = " | ".join(sorted(p.stem for p in shipped.glob("*.safetensors"))) or "none"
    raise SnapshotError(
        "no such snapshot",
        file=path,
        expected=f"a .safetensors file, a run folder, or a shipped name ({names})",
    )
