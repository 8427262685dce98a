"""Generated pictures as files that other tools read: PNG of 8 or 16 bits, and NIfTI with a JSON sidecar. No
torch."""

from __future__ import annotations

import io
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mssg.checkpoint.header import Header
from mssg.data import nifti
from mssg.data.plane import Place, place_of_study, to_image
from mssg.errors import UsageError
from mssg.files import write_atomically, write_json
from mssg.rendering.request import RenderRequest
from mssg.study.model import Study
from mssg.study.values import Sweep, plain
from mssg.version import __version__

SPACES = {nifti.UNKNOWN: "none: pixel size only", nifti.SCANNER: "the scanner's", nifti.MNI: "MNI 152"}
"""What millimetres are of, by NIfTI's code, where that says it."""
NIFTI_SUFFIXES = (".nii.gz", ".nii")


def to_grey(images: NDArray[np.floating], stretched: bool = False) -> NDArray[np.float32]:
    """Images of a generator, about [-1, 1] -> grey levels 0 to 255, float32, not rounded.

    `stretched`: activations of a layer, which know no range: from the lowest to the highest instead.
    """
    if stretched:
        low, high = float(images.min()), float(images.max())
        return (np.asarray(images, np.float32) - low) / max(high - low, 1e-12) * 255
    return np.clip((np.asarray(images, np.float32) + 1) * np.float32(127.5), 0, 255)


def mosaic(images: NDArray[Any], columns: int) -> NDArray[Any]:
    """Images [N, C, H, W] side by side, row after row, the last filled up with zeros: [rows · H, columns · W,
    C]."""
    n, channels, h, w = images.shape
    whole = np.zeros((-(-n // columns) * columns, channels, h, w), images.dtype)
    whole[:n] = images
    return (
        whole.reshape(-1, columns, channels, h, w).transpose(0, 3, 1, 4, 2).reshape(-1, columns * w, channels)
    )


def save_png(
    path: Path, images: NDArray[np.float32], columns: int, metadata: Mapping[str, str], bits: int = 8
) -> None:
    """Write images side by side as one PNG at native pixels.

    Args:
        images: Grey levels float32 [N, C, H, W], 0 to 255.
        columns: Images along a row.
        metadata: Text stored in the file.
        bits: 8, or 16: 0 to 65535 over the same range, one channel only.

    Raises:
        UsageError: 16 bits of colour.
    """
    n, channels, h, w = images.shape
    if bits == 16 and channels > 1:
        raise UsageError("a 16-bit PNG holds one channel", field="--bits", found=f"{channels} channels")
    sheet = np.zeros((math.ceil(n / columns) * h, columns * w, channels), np.float32)
    for i, image in enumerate(images):
        top, left = i // columns * h, i % columns * w
        sheet[top : top + h, left : left + w] = image.transpose(1, 2, 0)
    pixels = np.rint(sheet).astype(np.uint8) if bits == 8 else np.rint(sheet * 257).astype(np.uint16)
    write_png(path, pixels[..., 0] if channels == 1 else pixels, metadata)


def write_png(path: Path, pixels: NDArray[np.integer], metadata: Mapping[str, str]) -> None:
    """Write pixels as `encode_png` gives them.

    Raises:
        UsageError: It cannot be written.
    """
    write_atomically(path, encode_png(pixels, metadata), UsageError)


def encode_png(pixels: NDArray[np.integer], metadata: Mapping[str, str]) -> bytes:
    """Pixels as they are: uint8 [H, W] or [H, W, 3], or uint16 [H, W], with text stored in the file."""
    from PIL import Image, PngImagePlugin

    info = PngImagePlugin.PngInfo()
    for key, text in metadata.items():
        info.add_itxt(key, text)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="PNG", pnginfo=info)
    return buffer.getvalue()


def check_nifti(header: Header, sweeps: Sequence[Sweep], seeds: int, layer: str | None = None) -> None:
    """Make sure that a snapshot's pictures can be a NIfTI file, before any is drawn.

    Raises:
        UsageError: No geometry, colour, a layer, or more than one thing that changes along the stack.
    """
    study = header.study
    if layer is not None:
        raise UsageError(
            "a layer's activations have no millimetres", field="--layer", hint="Write .png or .npy"
        )
    if study.geometry is None:
        raise UsageError(
            "the study states no geometry, so there are no millimetres to write",
            field="geometry",
            hint="Write .png or .npy",
        )
    if study.channels != 1:
        raise UsageError("a NIfTI file holds grey levels", found="a colour picture", hint="Write .png")
    if len(sweeps) + (seeds > 1) > 1:
        raise UsageError(
            "a stack goes through one thing: seeds, or one --sweep",
            field="--sweep",
            hint="Write .npy, or one file each",
        )


def place_of(header: Header, request: RenderRequest) -> Place:
    """Where a picture lies: an edited image where the image itself does, any other where the study says.

    A moved picture (`RenderRequest.transform`) no longer shows its image's own place.
    """
    geometry = header.study.geometry
    assert geometry is not None
    own = request.latent.place if request.latent and not request.transform else None
    position = dict(request.covariates).get(header.study.position or "", geometry.position_mm)
    return own or place_of_study(replace(geometry, position_mm=position), header.study.resolution)


def nifti_image(
    images: NDArray[np.float32], header: Header, request: RenderRequest, sweep: Sweep | None = None
) -> Any:
    """One picture, or a stack along the fourth axis, as a nibabel image that lies where it belongs.

    Args:
        images: Grey levels float32 [N, 1, H, W].
        request: What was drawn; of a stack, one of them.
        sweep: What changes along the stack, if it is a covariate.

    Raises:
        UsageError: As `check_nifti`.
    """
    check_nifti(header, [sweep] if sweep else [], 1)
    pictures = images[:, 0] if len(images) > 1 else images[0, 0]
    image = to_image(pictures, place_of(header, request), first_and_step(header, sweep))
    image.header["descrip"] = f"mssg {__version__}, snapshot {header.snapshot_id}".encode()[:79]
    return image


def save_nifti(
    path: Path,
    images: NDArray[np.float32],
    header: Header,
    requests: Sequence[RenderRequest],
    stated: Sequence[Mapping[str, float]],
    sweep: Sweep | None,
    command: str,
) -> Path:
    """Write one picture, or a stack along the fourth axis, where it lies (`place_of`); a JSON sidecar says
    what each is.

    Args:
        path: .nii or .nii.gz.
        images: Grey levels float32 [N, 1, H, W].
        requests: What was drawn, [N].
        stated: Every covariate of each picture in native units, defaults included; empty for a latent w.
        sweep: What changes along the stack, if it is a covariate.

    Returns:
        The sidecar's path.

    Raises:
        UsageError: As `check_nifti`.
    """
    image = nifti_image(images, header, requests[0], sweep)
    write_atomically(path, nifti.to_bytes(image, path), UsageError)
    beside = nifti.sidecar(path)
    write_json(beside, describe(header, requests, stated, sweep, command), UsageError)
    return beside


def first_and_step(header: Header, sweep: Sweep | None) -> tuple[float, float] | None:
    """First value and step of a sweep, where it is a number with even steps."""
    if sweep is None or len(sweep.values) < 2 or not header.study.covariate(sweep.name).is_continuous:
        return None
    steps = np.diff(sweep.values)
    return (sweep.values[0], float(steps[0])) if np.allclose(steps, steps[0], rtol=1e-3) else None


def describe(
    header: Header,
    requests: Sequence[RenderRequest],
    stated: Sequence[Mapping[str, float]],
    sweep: Sweep | None,
    command: str,
) -> dict[str, Any]:
    """The sidecar: what the pictures are, with every covariate and where they come from. Source: BIDS
    derivatives."""
    study, first = header.study, requests[0]
    seeds = [request.seed for request in requests]
    documents = [replace(request, snapshot=header.snapshot_id).to_json() for request in requests]
    return {
        "Description": "Drawn by a generative model. Not a scan of a person; not for diagnosis.",
        **({"TrainedOn": header.origin} if header.origin else {}),
        "GeneratedBy": [{"Name": "mssg", "Version": __version__, "Command": command}],
        "Snapshot": {
            "Name": header.path.name,
            "Id": header.snapshot_id,
            "Study": study.name,
            "Kimg": header.progress.get("kimg"),
            "Versions": dict(header.provenance).get("versions"),
        },
        "Units": nifti.GREY_LEVELS,
        **_space(header, first),
        "Covariates": _covariates(study, stated),
        **({"FourthAxis": {"Name": sweep.name, "Units": study.covariate(sweep.name).unit}} if sweep else {}),
        "Seed": seeds[0] if len(set(seeds)) == 1 else seeds,
        "Latent": first.latent and first.latent.digest[:12],
        "Psi": first.psi,
        "Cutoff": first.cutoff,
        "Noise": {"Mode": first.noise_mode, "Seed": first.noise_seed},
        "Request": documents[0] if len(documents) == 1 else documents,
    }


def _space(header: Header, request: RenderRequest) -> dict[str, Any]:
    """Where pixels lie, as a sidecar says it; nothing where the study does not."""
    geometry = header.study.geometry
    if not geometry:
        return {}
    own = request.latent and request.latent.place
    other = "that of the image that was edited" if own else "the space shared by the training images"
    return {
        "Plane": geometry.plane,
        "PixelSize": geometry.pixel_mm,
        "PixelSizeUnits": "mm",
        "SpatialReference": SPACES.get(place_of(header, request).code, other),
    }


def _covariates(study: Study, stated: Sequence[Mapping[str, float]]) -> dict[str, Any]:
    """Covariates of pictures, as a sidecar says them: one value where it is that of all."""
    found: dict[str, Any] = {}
    for covariate in study.conditions if stated and stated[0] else ():
        values: list[Any] = [
            row[covariate.name] if covariate.is_continuous else plain(covariate, row[covariate.name])
            for row in stated
        ]
        entry: dict[str, Any] = {"Units": covariate.unit} if covariate.unit else {}
        entry |= {"Levels": list(covariate.levels)} if covariate.levels else {}
        found[covariate.name] = entry | {"Value": values[0] if len(set(values)) == 1 else values}
    return found


def png_text(
    header: Header, requests: Sequence[RenderRequest], stated: Sequence[Mapping[str, float]], command: str
) -> dict[str, str]:
    """What a PNG says of its pictures: the main things as words, and everything as JSON under "mssg".

    Args:
        header, requests, stated, command: As in `save_nifti`.
    """
    study = header.study
    words = [{n: plain(study.covariate(n), v) for n, v in row.items()} for row in stated]
    return {
        "Snapshot": header.snapshot_id,
        "Seed": ", ".join(dict.fromkeys(str(r.seed) for r in requests)),
        "Covariates": json.dumps(words[0] if len(words) == 1 else words),
        "Command": command,
        "Software": "mssg",
        "mssg": json.dumps(describe(header, requests, stated, None, command)),
    }
