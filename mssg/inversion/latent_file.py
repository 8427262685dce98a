"""One inverted image as a file, and where the covariates of an image come from when nobody states them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.numpy import load_file, save

from mssg.checkpoint.snapshot import Snapshot
from mssg.data.plane import Place
from mssg.errors import UsageError
from mssg.features.perceptual import perceptual_distance
from mssg.files import parse_json, write_atomically
from mssg.inversion.projector import Inversion, InvertConfig, edited_ws, invert
from mssg.networks.latents import latents
from mssg.rendering.request import StoredLatent
from mssg.study.model import AXES

FORMAT_VERSION = 1
KEY = "mssg-inversion"
GIVEN, HEADS = "given", "discriminator"


@dataclass(frozen=True)
class InvertedImage:
    """A real image as a latent of one snapshot.

    Attributes:
        image: The real image, uint8 [C, H, W].
        how: Covariate name -> where its value comes from: "given", "predictor", "oracle-…" or
            "discriminator".
        inversion: The latent, one row.
        w: float32 [num_ws, w_dim], what `mssg generate --w` draws.
        place: Where the image lies in its patient, where its file says so.
        drawn_by: The snapshot's file, with the run that it lies in: for messages.
    """

    snapshot: str
    study: str
    image: np.ndarray
    how: Mapping[str, str]
    config: InvertConfig
    inversion: Inversion
    w: np.ndarray
    place: Place | None = None
    drawn_by: str = ""

    @staticmethod
    def to_do(
        snapshot: Snapshot,
        image: np.ndarray,
        given: Mapping[str, float],
        config: InvertConfig,
        predictor: Any = None,
        place: Place | None = None,
    ) -> InvertedImage:
        """An image before the first step, its covariates given or read off it.

        Args:
            snapshot: What it will be inverted with.
            image: uint8 [C, H, W].
            given: Covariate name -> native value.
            predictor: Reads covariates that are not given; see `estimate_values`.
            place: Where the image lies in its patient.

        Raises:
            UsageError: A covariate that nothing reads.
        """
        values, how = estimate_values(snapshot, image, given, predictor)
        empty = np.zeros((1, 0), np.float32)
        inversion = Inversion(values, empty, empty, {}, loss=np.full(1, np.inf), steps=0)
        header = snapshot.header
        about = {"place": place, "drawn_by": "/".join(header.path.parts[-3:])}
        return InvertedImage(
            header.snapshot_id, snapshot.study.name, image, how, config, inversion, empty, **about
        )

    @property
    def finished(self) -> bool:
        """Whether nothing is left to do."""
        return self.inversion.steps >= self.config.steps

    def same_task(self, other: InvertedImage) -> bool:
        """Whether both are about the same image, snapshot, covariates and settings."""
        return (
            (self.snapshot, self.config, dict(self.how), self.place)
            == (other.snapshot, other.config, dict(other.how), other.place)
            and np.array_equal(self.image, other.image)
            and np.array_equal(self.inversion.values, other.inversion.values)
        )

    def save(self, path: str | Path) -> Path:
        """Write it as one safetensors file; it holds the image.

        Raises:
            UsageError: It cannot be written; what stood there before is untouched.
        """
        inversion = self.inversion
        tensors = {"w": self.w, "z": inversion.z, "residual": inversion.residual, "image": self.image}
        tensors |= {"values": inversion.values, "loss": inversion.loss}
        tensors |= {f"noise/{k}": v for k, v in inversion.noise.items()}
        tensors |= {f"state/{k}": v for k, v in inversion.state.items()}
        document = {
            "format_version": FORMAT_VERSION,
            "snapshot": self.snapshot,
            "study": self.study,
            "how": dict(self.how),
            "config": asdict(self.config),
            "steps": inversion.steps,
            "image_sha256": hashlib.sha256(self.image.tobytes()).hexdigest(),
            "drawn_by": self.drawn_by,
        }
        if self.place:
            document["place"] = asdict(self.place)
        data = save({k: np.ascontiguousarray(v) for k, v in tensors.items()}, {KEY: json.dumps(document)})
        write_atomically(Path(path), data, UsageError)
        return Path(path)

    @staticmethod
    def load(path: str | Path) -> InvertedImage:
        """Read a file of `save`.

        Raises:
            UsageError: Missing, damaged, of an unknown format version, or a bare w that cannot be edited.
        """
        path = Path(path)
        if not path.is_file():
            raise UsageError("no such file", file=path, expected="a file of `mssg invert`")
        try:
            with safe_open(str(path), "np") as file:
                document = parse_json((file.metadata() or {})[KEY])
                tensors = {k: file.get_tensor(k) for k in file.keys()}
            version = document["format_version"]
            if version != FORMAT_VERSION:
                raise UsageError("unknown format version", file=path, found=version, expected=FORMAT_VERSION)
            parts = {
                part: {k.removeprefix(f"{part}/"): v for k, v in tensors.items() if k.startswith(f"{part}/")}
                for part in ("noise", "state")
            }
            inversion = Inversion(
                tensors["values"],
                tensors["z"],
                tensors["residual"],
                parts["noise"],
                loss=tensors["loss"],
                steps=int(document["steps"]),
                state=parts["state"],
            )
            head = document["snapshot"], document["study"], tensors["image"], dict(document["how"])
            about = {"place": _place(document.get("place")), "drawn_by": document.get("drawn_by", "")}
            found = InvertedImage(*head, InvertConfig(**document["config"]), inversion, tensors["w"], **about)
            found._check()
            return found
        except (SafetensorError, OSError, KeyError, ValueError, TypeError, OverflowError) as error:
            raise UsageError(
                "holds no inverted image",
                file=path,
                found=f"{type(error).__name__}: {error}",
                expected="a file of `mssg invert`",
            ) from None

    def _check(self) -> None:
        """Refuse what could not have been saved.

        Raises:
            TypeError, ValueError: Of another kind or shape.
        """
        held = self.inversion
        texts = (self.snapshot, self.study, self.drawn_by, *self.how, *self.how.values())
        if not all(isinstance(t, str) for t in texts):
            raise TypeError("a name that is no text")
        shapes = (
            held.values.ndim,
            held.z.ndim,
            held.residual.ndim,
            held.loss.ndim,
            self.w.ndim,
            self.image.ndim,
        )
        if shapes != (2, 2, 3, 1, 2, 3) or held.residual.shape[1:] != self.w.shape:
            raise ValueError("arrays that do not belong together")
        if {len(held.values), len(held.z), len(held.residual), len(held.loss)} != {1}:
            raise ValueError("not one image")
        if self.image.dtype != np.uint8 or held.steps < 0:
            raise ValueError("no image, or a number of steps below 0")

    def fitting(self, snapshot: Snapshot, path: str | Path) -> InvertedImage:
        """Itself, if it belongs to this snapshot.

        Raises:
            UsageError: It belongs to another one.
        """
        self.stored_latent(str(path)).check_fits(snapshot.header.snapshot_id, snapshot.header.path)
        return self

    def edited(self, names: tuple[str, ...], given: Mapping[str, float]) -> np.ndarray:
        """Its covariates with some of them changed: float64 [1, V]."""
        values = self.inversion.values.copy()
        for name, value in given.items():
            values[0, names.index(name)] = value
        return values

    def stored_latent(self, file: str = "") -> StoredLatent:
        """What a `RenderRequest` draws and edits; `file` says where it was read."""
        found = self.inversion
        return StoredLatent(
            self.w,
            noise={name: noise[:1] for name, noise in found.noise.items()},
            z=found.z[0],
            residual=found.residual[0],
            values=tuple(found.values[0].tolist()),
            snapshot=self.snapshot,
            file=file,
            place=self.place,
            drawn_by=self.drawn_by,
        )


def _place(document: Any) -> Place | None:
    """A place as a file states it.

    Raises:
        KeyError, TypeError, ValueError: It cannot be.
    """
    if document is None:
        return None
    affine = np.array(document["affine"], np.float64)
    if affine.shape != (4, 4) or not np.isfinite(affine).all() or not np.linalg.det(affine[:3, :3]):
        raise ValueError("no affine")
    if document["plane"] not in AXES or document["code"] not in range(1, 6):
        raise ValueError("no plane, or no code of NIfTI's")
    return Place(document["plane"], tuple(map(tuple, affine.tolist())), document["code"])


def search(
    snapshot: Snapshot,
    task: InvertedImage,
    before: InvertedImage | None = None,
    progress: Callable[[int], bool] | None = None,
) -> InvertedImage:
    """Invert an image.

    Args:
        task: As of `InvertedImage.to_do`.
        before: An unfinished inversion of the same task, to continue.
        progress: Called after every step with its number; True stops early.

    Raises:
        UsageError: Features that are not there, or values that are missing.
    """
    config = task.config
    distance = perceptual_distance(config.features, snapshot, config.weights)
    found = invert(
        snapshot.G,
        snapshot.study,
        task.image[None],
        task.inversion.values,
        config,
        perceptual=distance,
        resume=before.inversion if before else None,
        progress=progress,
    )
    w = edited_ws(snapshot.G, snapshot.study, found)[0].detach().cpu().numpy()
    return replace(task, inversion=found, w=w)


def read_latent(path: str | Path) -> StoredLatent:
    """The latent of a file: one of `mssg invert`, or any .safetensors with a tensor "w" (then not editable).

    Args:
        path: The file; w float32 [num_ws, w_dim], [1, num_ws, w_dim] or [w_dim].

    Raises:
        UsageError: Missing, damaged, or without a usable w.
    """
    path = Path(path)
    if not path.is_file():
        raise UsageError("no such file", file=path, expected="a .safetensors file with a tensor w")
    try:
        with safe_open(str(path), "np") as file:
            inverted = KEY in (file.metadata() or {})
        w = load_file(path)["w"]
        w = w[0] if w.ndim == 3 and len(w) == 1 else w
        bare = StoredLatent(np.asarray(w, np.float32), file=str(path))
    except (SafetensorError, OSError, LookupError, TypeError, ValueError, AttributeError) as error:
        raise UsageError("holds no latent", file=path, found=str(error), expected="a tensor w") from None
    return InvertedImage.load(path).stored_latent(str(path)) if inverted else bare


def estimate_values(
    snapshot: Snapshot, image: np.ndarray, given: Mapping[str, float], predictor: Any = None
) -> tuple[np.ndarray, dict[str, str]]:
    """The covariates of an image: as given, else as a predictor, the study's instrument or the discriminator
    reads them.

    Args:
        snapshot: Whose covariates are asked for.
        image: uint8 [C, H, W].
        given: Covariate name -> native value.
        predictor: A `mssg.metrics.predictors.Predictor`, asked before anything else.

    Returns:
        values: float64 [1, V], native units.
        how: Covariate name -> where its value comes from.

    Raises:
        UsageError: A covariate that nothing reads.
    """
    from mssg.measure.instruments import instrument

    study, readings = snapshot.study, []
    if predictor is not None:
        readings.append(("predictor", predictor.measure))
    if study.instrument:
        readings.append((f"oracle-{study.instrument}", instrument(study.instrument).measure))
    readings.append((HEADS, lambda x: _heads(snapshot, x[0])))
    values, how = dict(given), dict.fromkeys(given, GIVEN)
    for name, read in readings:
        missing = [n for n in study.condition_names if n not in values]
        if not missing:
            break
        found = {n: float(v[0]) for n, v in read(image[None]).items() if n in missing}
        for covariate, value in found.items():
            if np.isfinite(value):
                values[covariate], how[covariate] = value, name
    missing = [n for n in study.condition_names if n not in values]
    if missing:
        raise UsageError(
            "nothing reads this covariate off the image",
            field=", ".join(missing),
            hint=f"State it: {' '.join(f'--fix {n}=VALUE' for n in missing)}; or give --predictor",
        )
    return np.array([[values[n] for n in study.condition_names]]), how


@torch.no_grad()
def _heads(snapshot: Snapshot, image: np.ndarray) -> dict[str, np.ndarray]:
    """What the discriminator's covariate heads read; nothing where there is none."""
    from mssg.errors import SnapshotError
    from mssg.features.predictors import to_columns

    study = snapshot.study
    try:
        D = snapshot.picture_discriminator()
    except SnapshotError:
        return {}
    if D.config.projects:
        return {}
    # its minibatch statistics expect a group: generated images keep the real one company
    rng = np.random.default_rng(0)
    drawn = snapshot.models.sample(3, {}, rng)
    values = np.stack([np.asarray(drawn[n], np.float64) for n in study.condition_names], axis=1)
    z = latents(range(3), snapshot.G.z_dim)
    c = torch.from_numpy(study.encode(values))
    company = snapshot.G(z.to(snapshot.device), c.to(snapshot.device))
    x = torch.from_numpy(image[None]).to(snapshot.device).float() / 127.5 - 1
    outputs = D(torch.cat([x, company]))[:1, 1:]
    if outputs.shape[1] != study.layout.width:  # an imported one that has no such heads
        return {}
    values = study.decode(to_columns(study, outputs).cpu().numpy())
    return {name: values[:, v] for v, name in enumerate(study.condition_names)}
