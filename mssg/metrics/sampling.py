"""Drawing images and reading them, chunk by chunk: nothing but what was read is kept, and what was read is
not read twice.

A reader turns a chunk of images into numbers: features, covariates, similarities to real images. Numbers go
to a folder under a hash of all that decides them, so an interrupted evaluation continues, several processes
share the work, and real images are read once for all evaluations.
"""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from mssg.errors import DataError, MssgError, warn_once
from mssg.files import make_folder, write_atomically
from mssg.rendering.request import RenderRequest, to_uint8
from mssg.study.model import Study

if TYPE_CHECKING:
    from mssg.networks.generator import Generator

PLAIN = RenderRequest()
"""Pictures as the network draws them untouched."""
CHUNK = 250
"""Images drawn and read at a time, unless they are large."""
CHUNK_BYTES = 64 << 20
BATCH = 50
"""Images in the generator at a time, unless they are large."""
BYTES_PER_PIXEL = 2048
"""What a generator holds for one pixel of one image, as an upper estimate."""

Numbers = dict[str, np.ndarray]
Progress = Callable[[str, int, int], None]
"""(what is done, images done, images in all)."""
Generate = Callable[[np.ndarray, int], np.ndarray]


class Workers(Protocol):
    """The processes that share the work (`mssg.training.distributed.World`)."""

    @property
    def rank(self) -> int:
        """This process's number."""
        ...

    @property
    def size(self) -> int:
        """How many there are."""
        ...

    def barrier(self) -> None:
        """Wait for all processes."""


class OneWorker:
    """One process."""

    rank, size = 0, 1

    def barrier(self) -> None:
        """Nobody to wait for."""


@dataclass(frozen=True)
class Reader:
    """Something that reads numbers off images.

    Attributes:
        identity: Whatever decides its numbers besides the images: name, hash of weights.
        read: (uint8 [n, C, H, W], slice of the rows they are) -> name -> array [n, ...].
    """

    identity: str
    read: Callable[[np.ndarray, slice], Mapping[str, np.ndarray]]


def derived_seed(*parts: int) -> int:
    """A seed below 2³² that the parts decide."""
    return int(np.random.SeedSequence(parts).generate_state(1)[0])


def batch_for(resolution: int, memory_gb: float) -> int:
    """Images a generator may draw at a time within a memory budget."""
    return int(np.clip(memory_gb * 2**30 / 2 / (BYTES_PER_PIXEL * resolution**2), 1, BATCH))


def chunk_for(study: Study) -> int:
    """Images of a study read at a time: `CHUNK`, fewer where they are large."""
    return int(np.clip(CHUNK_BYTES // (study.channels * study.resolution**2), 1, CHUNK))


def generator_of(
    G: Generator, study: Study, device: str, batch: int = BATCH, like: RenderRequest = PLAIN
) -> Generate:
    """A function (native values [N, V], seed) -> images uint8 [N, C, H, W], each with its own latent.

    Args:
        study: Encodes the values.
        like: Its truncation, noise and transform hold for all images.
    """
    import torch

    from mssg.networks.latents import latents, seeds_of
    from mssg.networks.layers import SynthesisInputs, run
    from mssg.rendering.renderer import looked_at, own_random_state

    inputs = SynthesisInputs(like.noise_mode, transform=looked_at(like, device))

    @torch.inference_mode()
    def generate(values: np.ndarray, seed: int) -> np.ndarray:
        c = torch.from_numpy(study.encode(values))
        z = latents(seeds_of(seed, len(c)), G.z_dim)
        parts = []
        with own_random_state(derived_seed(seed, like.noise_seed), torch.device(device)):
            for i in range(0, len(c), batch):
                ws = G.mapping(
                    z[i : i + batch].to(device), c[i : i + batch].to(device), like.psi, like.cutoff
                )
                parts.append(run(G.synthesis.layers(ws, inputs)).float().cpu().numpy())
        return to_uint8(np.concatenate(parts))

    return generate


@dataclass(frozen=True)
class ArrayCache:
    """Arrays in a folder, by the hash of what decides them; a half-written or damaged file counts as none.

    Where the folder cannot be written (a full or missing home) nothing is kept, and everything is computed.
    """

    folder: Path

    def get(self, key: Sequence[Any], compute: Callable[[], Mapping[str, np.ndarray]]) -> Numbers:
        """What is stored under a key, else what `compute` gives, stored."""
        path = self._path(key)
        try:
            with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as file:
                return {name: file[name] for name in file.files}
        except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile):
            pass
        found = {name: np.asarray(value) for name, value in compute().items()}
        self._write(path, found)
        return found

    def has(self, key: Sequence[Any]) -> bool:
        """Whether something is stored under a key."""
        return self._path(key).exists()

    def clear(self) -> None:
        """Remove everything stored, and the folder."""
        for path in self.folder.glob("*.npz"):
            path.unlink()
        if self.folder.exists() and not any(self.folder.iterdir()):
            self.folder.rmdir()

    def _path(self, key: Sequence[Any]) -> Path:
        digest = hashlib.sha256()
        for part in key:
            part = np.ascontiguousarray(part) if isinstance(part, np.ndarray) else part
            shape = f"{part.dtype}{part.shape}" if isinstance(part, np.ndarray) else ""
            digest.update(shape.encode())
            digest.update(part.data if isinstance(part, np.ndarray) else json.dumps(part).encode())
        return self.folder / f"{digest.hexdigest()[:32]}.npz"

    def _write(self, path: Path, arrays: Numbers) -> None:
        buffer = io.BytesIO()
        np.savez(buffer, **arrays)  # type: ignore[arg-type]  # no array is called allow_pickle
        try:
            make_folder(self.folder, DataError)
            write_atomically(path, buffer.getvalue(), DataError)
        except DataError:
            warn_once(f"{self.folder}: cannot be written, so nothing is kept there for the next time.")


@dataclass(frozen=True)
class CachedSampler:
    """Draws images and reads them, each once.

    Attributes:
        drawn: Where numbers of generated images are kept.
        real: Where numbers of real images are kept.
        workers: The processes that share the work.
    """

    drawn: ArrayCache
    real: ArrayCache
    chunk: int = CHUNK
    device: str = "cpu"
    workers: Workers = field(default_factory=OneWorker)
    progress: Progress | None = None

    def draw(
        self,
        generate: Generate,
        identity: Sequence[Any],
        values: np.ndarray,
        *,
        seed: int,
        readers: Sequence[Reader],
        label: str = "",
    ) -> Numbers:
        """Draw images and read them.

        Args:
            generate: See `generator_of`.
            identity: What decides the images besides values and seed: the snapshot's hash, the device.
            values: Conditions, native [N, V].
            seed: Decides the latents.
            label: For the progress; empty for none.

        Returns:
            All readers' numbers, each array [N, ...].
        """

        def part(rows: slice, number: int) -> Numbers:
            own = derived_seed(seed, number)
            images: list[np.ndarray] = []
            numbers: Numbers = {}
            for reader in readers:

                def compute(reader: Reader = reader) -> Mapping[str, np.ndarray]:
                    if not images:
                        images.append(generate(values[rows], own))
                    return reader.read(images[0], rows)

                key = [*identity, values[rows], own, reader.identity]
                numbers |= self.drawn.get(key, compute)
            return numbers

        return self._all(label, len(values), part)

    def read(
        self, label: str, images: Callable[[slice], np.ndarray], n: int, readers: Sequence[Reader]
    ) -> Numbers:
        """Read real images, by their content.

        Args:
            images: slice -> uint8 [n, C, H, W].
            readers: What reads them; they may not look at the slice.
        """

        def part(rows: slice, number: int) -> Numbers:
            chunk, numbers = np.ascontiguousarray(images(rows)), {}
            for reader in readers:
                key = [reader.identity, chunk]
                numbers |= self.real.get(key, lambda reader=reader: reader.read(chunk, rows))
            return numbers

        return self._all(label, n, part)

    def tell(self, label: str, done: int, total: int) -> None:
        """Say how far something labelled is, in one of the processes."""
        if self.progress and label and self.workers.rank == 0:
            self.progress(label, done, total)

    def _all(self, label: str, n: int, part: Callable[[slice, int], Numbers]) -> Numbers:
        """Every chunk; with several processes, each computes its share and then takes the others' from the
        folder."""
        slices = [slice(start, min(start + self.chunk, n)) for start in range(0, n, self.chunk)]
        if self.workers.size > 1:
            try:
                for number, rows in enumerate(slices):
                    if number % self.workers.size == self.workers.rank:
                        part(rows, number)
            except MssgError:
                pass  # all come upon it below; none may be left waiting for the others
            self.workers.barrier()
        parts = []
        for number, rows in enumerate(slices):
            parts.append(part(rows, number))
            self.tell(label, rows.stop, n)
        return {name: np.concatenate([p[name] for p in parts]) for name in parts[0]} if parts else {}
