"""Snapshots with their networks: saved atomically, loaded with every tensor checked. No pickle."""

from __future__ import annotations

import base64
import json
import platform
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, overload

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import nn

from mssg.checkpoint.header import FORMAT_VERSION, Header, read_header, resolve_snapshot
from mssg.errors import SnapshotError
from mssg.files import write_atomically
from mssg.networks.config import DiscriminatorConfig, GeneratorConfig
from mssg.networks.discriminator import Discriminator, build_discriminator
from mssg.networks.generator import Generator, build_generator
from mssg.study.model import Study
from mssg.study.schema import to_document
from mssg.version import __version__


def provenance(seed: int, command: str = "") -> dict[str, Any]:
    """Where a snapshot comes from: versions, seed, git commit of the checkout if there is one; no paths, no
    names."""
    commit = ""
    folder = Path(__file__).resolve().parents[2]
    if (folder / ".git").exists():
        done = subprocess.run(
            ["git", "rev-parse", "--short=12", "HEAD"], cwd=folder, capture_output=True, text=True
        )
        commit = done.stdout.strip() if done.returncode == 0 else ""
    versions = {
        "mssg": __version__,
        "torch": torch.__version__,
        "numpy": np.__version__,
        "python": platform.python_version(),
    }
    return {"versions": versions, "seed": seed, "git": commit, "command": command, "platform": sys.platform}


@dataclass(frozen=True)
class Snapshot:
    """A snapshot and, on demand, its networks."""

    header: Header
    device: str = "cpu"

    @property
    def study(self) -> Study:
        """The study, with fitted statistics."""
        return self.header.study

    @property
    def models(self):
        """The fitted covariate models."""
        return self.header.models

    @cached_property
    def G(self) -> Generator:
        """The generator with averaged weights, in evaluation mode, float32."""
        return self.load("G_ema")

    @overload
    def load(self, name: Literal["D"]) -> Discriminator: ...
    @overload
    def load(self, name: Literal["G", "G_ema"]) -> Generator: ...
    @overload
    def load(self, name: str) -> Generator | Discriminator: ...
    def load(self, name: str) -> Generator | Discriminator:
        """One network: "G_ema", "G" or "D".

        Raises:
            SnapshotError: The snapshot does not hold it, or a tensor does not fit.
        """
        path = self.header.path
        try:
            with safe_open(path, "pt") as file:
                keys = list(file.keys())
                state = {
                    key.removeprefix(f"{name}/"): _copied(file.get_tensor(key))
                    for key in keys
                    if key.startswith(f"{name}/")
                }
        except (SafetensorError, OSError) as error:
            raise SnapshotError(f"cannot be read: {error}", file=path) from None
        if not state:
            held = sorted({key.split("/")[0] for key in keys} - {"covariates"})
            raise SnapshotError(
                "the snapshot does not hold this network", file=path, field=name, expected=" | ".join(held)
            )
        # Shapes only: nothing large is drawn or allocated that the file then replaces.
        with torch.random.fork_rng(devices=[]), torch.device("meta"):
            network = self._build(name)
        _check_state(network, state, path, name)
        network.load_state_dict(state, assign=True)
        return network.eval().requires_grad_(False).to(self.device)

    def picture_discriminator(self) -> Discriminator:
        """The discriminator, which sees single pictures.

        Raises:
            SnapshotError: There is none, or it sees pairs of slices.
        """
        network = self.load("D")
        if network.config.slices > 1:
            raise SnapshotError(
                "its discriminator sees pairs of slices, not single pictures", file=self.header.path
            )
        return network

    def _build(self, name: str) -> Generator | Discriminator:
        """The network that the snapshot describes, untrained."""
        field = "discriminator" if name == "D" else "generator"
        try:
            if name == "D":
                return build_discriminator(DiscriminatorConfig.from_json(dict(self.header.discriminator)))
            return build_generator(GeneratorConfig.from_json(dict(self.header.generator)))
        except (TypeError, ValueError, LookupError, ArithmeticError, RuntimeError, MemoryError) as error:
            raise SnapshotError(
                "no network is as described", file=self.header.path, field=field, found=type(error).__name__
            ) from error


def _copied(tensor: torch.Tensor) -> torch.Tensor:
    """Memory of its own, whole numbers as they are, others as float32."""
    return tensor.to(torch.float32, copy=True) if tensor.is_floating_point() else tensor.clone()


def _check_state(network: nn.Module, state: Mapping[str, torch.Tensor], path: Path, name: str) -> None:
    """Every tensor of the network must be there, of the right shape and finite, and no other.

    Raises:
        SnapshotError: Naming the first tensor that is missing, superfluous, misshapen or not finite.
    """
    wanted = network.state_dict()
    for key in sorted(wanted.keys() | state.keys()):
        field = f"{name}/{key}"
        if key not in state or key not in wanted:
            raise SnapshotError(
                "tensor missing" if key not in state else "unknown tensor", file=path, field=field
            )
        if wanted[key].shape != state[key].shape:
            raise SnapshotError(
                "wrong shape",
                file=path,
                field=field,
                found=tuple(state[key].shape),
                expected=tuple(wanted[key].shape),
            )
        if state[key].is_floating_point() and not bool(torch.isfinite(state[key]).all()):
            raise SnapshotError(
                "holds NaN or infinite values", file=path, field=field, hint="Use an earlier snapshot"
            )


def save_snapshot(
    path: str | Path,
    study: Study,
    models: Any,
    networks: Mapping[str, nn.Module],
    generator: GeneratorConfig,
    discriminator: DiscriminatorConfig,
    progress: Mapping[str, Any],
    summary: Mapping[str, Any],
    origin: Mapping[str, Any],
    half: bool = False,
    preview: bytes = b"",
) -> Path:
    """Write a snapshot: temporary name, fsync, rename.

    Args:
        path: Final name, ending in .safetensors.
        study: With fitted statistics; source paths are not stored.
        models: Fitted `CovariateModels`.
        networks: "G_ema" and, for training to go on from here, "G" and "D".
        generator: Configuration of G.
        discriminator: Configuration of D.
        progress: kimg and step.
        summary: Training summary (histograms, quantiles, log-density percentiles).
        origin: Provenance.
        half: Store weights as float16.
        preview: PNG of the medians, as `mssg.rendering.stored_picture` draws it; nothing for none.

    Raises:
        SnapshotError: It cannot be written; a file that stood there before is untouched.
    """
    state, arrays = models.to_state()
    study_document = to_document(study)
    for source in study_document["sources"]:
        source["path"] = source["name"]  # a snapshot travels; paths of the machine it was made on do not
    document = {
        "format_version": FORMAT_VERSION,
        "study": study_document,
        "generator": generator.to_json(),
        "discriminator": discriminator.to_json(),
        "progress": dict(progress),
        "provenance": dict(origin),
        "summary": dict(summary),
        "covariates": state,
    }
    if preview:
        document["preview"] = base64.b64encode(preview).decode("ascii")
    tensors = {f"covariates/{k}": torch.from_numpy(np.array(v)) for k, v in arrays.items()}
    for name, network in networks.items():
        for key, tensor in network.state_dict().items():
            tensor = tensor.detach().cpu().contiguous()
            shrink = half and tensor.dtype == torch.float32
            tensors[f"{name}/{key}"] = tensor.half() if shrink else tensor.clone()
    path = Path(path)
    write_atomically(path, save(tensors, {"mssg": json.dumps(document)}))
    return path


def load_snapshot(path: str | Path, device: str = "cpu", identity: str = "") -> Snapshot:
    """Open a snapshot: a path, a run folder (its newest), or the name of a shipped one.

    Args:
        identity: Of a run folder, the snapshot of this id rather than the newest, where the run has it.

    Raises:
        SnapshotError: Missing, truncated, tampered with, or of an unknown format version.
    """
    return Snapshot(read_header(resolve_snapshot(path, identity)), device)
