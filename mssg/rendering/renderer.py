"""Carries out render requests with one snapshot: deterministic, cancellable before every layer, no global
state.

Source: docs/architecture.md, flow "slider drag".
"""

from __future__ import annotations

import functools
import itertools
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from functools import cached_property
from typing import Any, cast

import numpy as np
import torch
from torch import nn

from mssg.checkpoint.snapshot import Snapshot
from mssg.errors import MssgError, UsageError
from mssg.networks.generator import Generator
from mssg.networks.latents import latents, seeds_of
from mssg.networks.layers import SynthesisInputs
from mssg.networks.noise import IMAGE_NOISE
from mssg.networks.preview import preview_network
from mssg.ops.dispatch import backend
from mssg.rendering.activation_cache import ActivationCache
from mssg.rendering.request import RenderRequest, RenderResult, StoredLatent, to_uint8
from mssg.study.values import find_covariate, training_defaults

CACHED_LATENTS = 256
GPU_BATCH = 32
"""Pictures at a time on a GPU."""
CPU_PIXELS = 2**17
"""Pixels of the pictures drawn at a time on the CPU: small ones are cheaper together, large ones are not."""


class Renderer:
    """Draws with one snapshot. Not for several threads at once.

    Args:
        snapshot: What to draw with; its device is where the work is done.

    Attributes:
        layer_shapes: Name of a layer -> (shape without batch, dtype), of those that have been drawn.
        mappings, syntheses: How often each network has run.
    """

    def __init__(self, snapshot: Snapshot) -> None:
        self.snapshot, self.study, self.header = snapshot, snapshot.study, snapshot.header
        self.G = cast(Generator, snapshot.G)
        self.device = next(self.G.parameters()).device
        self.layer_shapes: dict[str, tuple[tuple[int, ...], str]] = {}
        self.mappings = self.syntheses = 0
        self._layers = _layers(self.G.synthesis)
        self._cache = ActivationCache(self._layers.values())
        self._defaults: dict[str, float] | None = None
        self._ws: OrderedDict[tuple[Any, ...], torch.Tensor] = OrderedDict()

    @cached_property
    def preview_network(self) -> nn.Module | None:
        """The network that draws quick, smaller pictures, called as the synthesis network is; None where
        there is none."""
        return preview_network(self.G.synthesis)

    @property
    def layers(self) -> tuple[str, ...]:
        """Names of the synthesis layers in the order they run: what `RenderRequest.layer` may name."""
        return tuple(self._layers)

    @property
    def defaults(self) -> dict[str, float]:
        """Native value of every condition where a request states none: training median or mode."""
        if self._defaults is None:
            self._defaults = training_defaults(self.study, self.header.summary)
        return dict(self._defaults)

    def values(self, covariates: Mapping[str, float] | Sequence[tuple[str, float]] = ()) -> np.ndarray:
        """All conditions of one picture: float64 [V], native units; what is not given takes its default.

        Raises:
            UsageError: An unknown name, a level that does not exist, or a value outside the transform's
                domain.
        """
        given = dict(covariates)
        row = self.defaults if any(name not in given for name in self.study.condition_names) else {}
        for name, value in given.items():
            covariate = find_covariate(self.study, name)
            if not covariate.is_continuous:
                known = float(value).is_integer() and 0 <= value < covariate.num_levels
                if not known:
                    expected = f"an index from 0 to {covariate.num_levels - 1}"
                    raise UsageError("no such level", field=name, found=value, expected=expected)
                row[name] = float(value)
            else:
                row[name] = covariate.parse(repr(float(value)))
        return np.array([row[name] for name in self.study.condition_names])

    def render(
        self, request: RenderRequest, cancelled: Callable[[], bool] = lambda: False, preview: bool = False
    ) -> RenderResult:
        """Draw one picture.

        Args:
            cancelled: Asked before every layer; True drops the work.
            preview: A quick, smaller picture if the network can give one (StyleGAN2 above 32 px, StyleGAN3
                from 64 px, not for layer views); otherwise the full one, with `preview` False in the result.

        Returns:
            The picture, or why there is none: `error` for a request that cannot be carried out, `cancelled`.
        """
        timings: list[tuple[str, float]] = []
        quick = self.preview_network if preview and request.layer is None else None
        try:
            images = self._draw([request], quick or self.G.synthesis, cancelled, timings)
        except MssgError as error:
            return RenderResult(request, timings_ms=tuple(timings), error=str(error))
        except (MemoryError, torch.OutOfMemoryError):
            return RenderResult(request, error="Not enough memory for this picture. Close other programs.")
        if images is None:
            return RenderResult(request, timings_ms=tuple(timings), cancelled=True)
        return RenderResult(request, images[0], tuple(timings), preview=quick is not None)

    def pictures(
        self,
        requests: Iterable[RenderRequest],
        batch: int | None = None,
        cancelled: Callable[[], bool] = lambda: False,
    ) -> Iterator[np.ndarray]:
        """Draw many pictures: the one way to do it, for grids, figures, cohorts and files.

        Args:
            batch: Pictures at a time, of those that differ only in latent and covariates. None: on the CPU as
                many as leave each bit for bit what `render` draws of its request; many on a GPU.
            cancelled: Asked before every layer; True ends it.

        Yields:
            float32 [C, H, W], as `RenderResult.image`.

        Raises:
            UsageError: A request that cannot be carried out.
        """
        batch = batch or self.batch
        for common, alike in itertools.groupby(requests, batch_key):
            while rows := list(itertools.islice(alike, batch if _can_share(common) else 1)):
                images = self._draw(rows, self.G.synthesis, cancelled, [])
                if images is None:
                    return
                yield from images

    @property
    def batch(self) -> int:
        """Pictures drawn at a time where nobody says. On the CPU the compiled kernels alone compute each
        picture of a batch as they would alone."""
        if self.device.type != "cpu":
            return GPU_BATCH
        with torch.inference_mode():
            compiled = backend(x=next(self.G.parameters())).name.startswith("native")
        return max(1, CPU_PIXELS // self.G.img_resolution**2) if compiled else 1

    def images(
        self,
        values: np.ndarray,
        seeds: int | Sequence[int] | np.ndarray,
        request: RenderRequest | None = None,
        batch: int | None = None,
    ) -> np.ndarray:
        """Draw a table of conditions.

        Args:
            values: [N, V] native units, nothing missing.
            seeds: One seed for all, or [N].
            request: What all pictures share beside.
            batch: As in `pictures`.

        Returns:
            Grey levels uint8 [N, C, H, W].

        Raises:
            UsageError: Shapes that do not fit, or a missing value.
        """
        values, request = np.asarray(values, np.float64), request or RenderRequest()
        names = self.study.condition_names
        if values.ndim != 2 or values.shape[1] != len(names):
            expected = f"[N, {len(names)}]: {', '.join(names)}"
            raise UsageError("not a table of conditions", found=list(values.shape), expected=expected)
        for name, column in zip(names, values.T):
            if not np.isfinite(column).all():
                raise UsageError("a condition is missing", field=name, hint="Complete the rows first")
        each: list[int] = np.broadcast_to(np.asarray(seeds, np.int64), len(values)).tolist()
        requests = (
            replace(request, seed=seed, covariates=tuple(zip(names, row)))
            for seed, row in zip(each, values.tolist())
        )
        G = self.G
        out = np.empty((len(values), G.img_channels, G.img_resolution, G.img_resolution), np.uint8)
        for i, image in enumerate(self.pictures(requests, batch)):
            out[i] = to_uint8(image)
        return out

    def generate(self, values: np.ndarray, seed: int) -> np.ndarray:
        """Draw [N, V] native values, each with its own latent, all from one seed: uint8 [N, C, H, W]."""
        return self.images(values, seeds_of(seed, len(values)), batch=GPU_BATCH)

    def _draw(
        self,
        requests: Sequence[RenderRequest],
        network: nn.Module,
        cancelled: Callable[[], bool],
        timings: list[tuple[str, float]],
    ) -> list[np.ndarray] | None:
        """Pictures of requests that differ only in latent and covariates; None when cancelled."""
        with torch.inference_mode():
            with _timed(timings, "mapping"):
                ws = self._latents(requests)
            with _timed(timings, "synthesis"):
                output = self._synthesise(network, ws, requests, cancelled)
            return None if output is None else [self._checked(o, requests[0]) for o in output]

    def _synthesise(
        self, network: Any, ws: torch.Tensor, requests: Sequence[RenderRequest], cancelled: Callable[[], bool]
    ) -> torch.Tensor | None:
        """The images, or what the layer asked for gives: [B, C, H, W]; None when cancelled."""
        request = requests[0]
        if request.layer is not None and request.layer not in self._layers:
            raise UsageError("no such layer", field=request.layer, expected=" | ".join(self.layers))
        random = request.noise_mode == "random"
        layers, output = network.layers(ws, self._inputs(requests)), None
        self.syntheses += 1
        with own_random_state(request.noise_seed, self.device) if random else nullcontext():
            while True:
                try:
                    name, call = layers.send(output)
                except StopIteration as finished:
                    return finished.value
                if cancelled():
                    return None
                output = call() if random or len(ws) > 1 else self._cache.output(call)
                if network is self.G.synthesis and name not in self.layer_shapes:
                    dtype = str(output.dtype).removeprefix("torch.")
                    self.layer_shapes[name] = tuple(output.shape[1:]), dtype
                if name == request.layer:
                    return output

    def _inputs(self, requests: Sequence[RenderRequest]) -> SynthesisInputs:
        """What requests that differ only in latent and covariates say to the synthesis network beside ws."""
        request = requests[0]
        if request.precision == "float16" and self.device.type != "cuda":
            found = str(self.device)
            raise UsageError("float16 needs a GPU", field="precision", found=found, expected="cuda")
        transform = looked_at(request, self.device)
        stored, noise = request.latent, self._noise_of_places(requests)
        if stored and request.noise_mode == "const" and stored.snapshot == self.header.snapshot_id:
            noise |= {name: torch.tensor(array, device=self.device) for name, array in stored.noise.items()}
        return SynthesisInputs(request.noise_mode, noise, transform, request.precision == "float32")

    def _noise_of_places(self, requests: Sequence[RenderRequest]) -> dict[str, torch.Tensor]:
        """The finished picture's noise where slices lie at many places: another at each, as a scanner's is;
        what the layers below are given stays, so that the anatomy does."""
        if self.study.position is None or not hasattr(self.G.synthesis, IMAGE_NOISE):
            return {}
        column = self.study.condition_names.index(self.study.position)
        places = [float(self.values(request.covariates)[column]) for request in requests]
        drawn = [_noise_at(place, self.G.img_resolution, self.device) for place in places]
        return {f"{IMAGE_NOISE}.noise_const": drawn[0] if len(drawn) == 1 else torch.cat(drawn)}

    def _latents(self, requests: Sequence[RenderRequest]) -> torch.Tensor:
        """w of requests with one truncation: [B, num_ws, w_dim]."""
        for request in requests:
            if request.snapshot and request.snapshot != self.header.snapshot_id:
                raise UsageError(
                    "the request is for another snapshot",
                    found=request.snapshot,
                    expected=self.header.snapshot_id,
                )
            if request.mix_layers and request.mix_layers[-1] >= self.G.num_ws:
                expected = f"0 to {self.G.num_ws - 1}"
                raise UsageError(
                    "no such layer", field="mix_layers", found=request.mix_layers[-1], expected=expected
                )
        conditions = [self._condition(request) for request in requests]
        wanted = {
            (seed, c.tobytes()): c
            for request, c in zip(requests, conditions)
            for seed, _ in (*_seeds(request), *([(request.mix_seed, 1.0)] if request.mix_layers else []))
        }
        mapped = self._mapped(wanted, requests[0], together=len(requests) > 1)
        ws = []
        for request, c in zip(requests, conditions):
            if request.latent:
                w = self._stored_w(request.latent, request, c)
                w = self.G.mapping.truncate(w, request.psi, request.cutoff)
            else:
                seeds = _seeds(request)
                total = sum(weight for _, weight in seeds)
                parts = [mapped[seed, c.tobytes()] * (weight / total) for seed, weight in seeds]
                w = torch.stack(parts).sum(0)
            if request.mix_layers:
                w = w.clone()
                w[:, request.mix_layers] = mapped[request.mix_seed, c.tobytes()][:, request.mix_layers]
            ws.append(w)
        return torch.cat(ws) if len(ws) > 1 else ws[0]

    def _condition(self, request: RenderRequest) -> np.ndarray:
        """Encoded condition of a request: float32 [1, K]."""
        given = dict(request.covariates)
        if request.latent:
            given = request.latent.edited(self.study.condition_names, request.covariates)
        return self.study.encode(self.values(given))

    def _mapped(
        self, wanted: Mapping[tuple[int, bytes], np.ndarray], request: RenderRequest, together: bool
    ) -> dict[tuple[int, bytes], torch.Tensor]:
        """w of seeds under conditions, each [1, num_ws, w_dim]; kept, for most requests share theirs.

        `together`: all new ones in one batch, which is faster and may change their last bits.
        """
        truncation = request.psi, request.cutoff
        missing = [key for key in wanted if (*key, *truncation) not in self._ws]
        for keys in [missing] if together and missing else [[key] for key in missing]:
            z = latents([seed for seed, _ in keys], self.G.z_dim).to(self.device)
            c = torch.from_numpy(np.concatenate([wanted[key] for key in keys])).to(self.device)
            self.mappings += 1
            ws = self.G.mapping(z, c, truncation_psi=request.psi, truncation_cutoff=request.cutoff)
            self._ws |= {(*key, *truncation): w for key, w in zip(keys, ws.split(1))}
        out = {}
        for key in wanted:
            self._ws.move_to_end((*key, *truncation))
            out[key] = self._ws[*key, *truncation]
        while len(self._ws) > CACHED_LATENTS:
            self._ws.popitem(last=False)
        return out

    def _stored_w(self, stored: StoredLatent, request: RenderRequest, c: np.ndarray) -> torch.Tensor:
        """A stored w as it stands, [1, num_ws, w_dim]; with covariates stated, edited to them."""
        whole = (self.G.num_ws, self.G.w_dim)
        file = stored.file or None
        if stored.w.shape not in (whole[1:], whole):
            if stored.snapshot:
                stored.check_fits(self.header.snapshot_id, self.header.path)
            found, expected = list(stored.w.shape), list(whole)
            raise UsageError(
                "the latent does not fit this snapshot", file=file, found=found, expected=expected
            )
        if not request.covariates:
            return torch.tensor(stored.w, device=self.device).expand(1, *whole)
        if stored.z is None or stored.residual is None:
            raise UsageError(
                "holds no inverted image, only a w: it cannot be edited",
                file=file,
                expected="a file of `mssg invert`",
            )
        stored.check_fits(self.header.snapshot_id, self.header.path)
        z, residual = (torch.tensor(part[None], device=self.device) for part in (stored.z, stored.residual))
        return self.G.mapping(z, torch.from_numpy(c).to(self.device)) + residual

    def _checked(self, output: torch.Tensor, request: RenderRequest) -> np.ndarray:
        if request.channel is not None:
            first, last = request.channel, request.channel + request.channels - 1
            if last >= len(output):
                expected = f"0 to {len(output) - 1}"
                raise UsageError("no such channel", field="channel", found=last, expected=expected)
            output = output[first : last + 1]
        image = output.float().cpu().numpy().copy()
        if not np.isfinite(image).all():
            raise UsageError(
                "the network's output is not finite",
                field="covariates",
                hint="Use values nearer to the training data",
            )
        return image


def _layers(network: nn.Module) -> dict[str, nn.Module]:
    """What takes a w, by name, in the order it runs."""
    return {name: module for name, module in network.named_modules() if hasattr(module, "affine")}


def _seeds(request: RenderRequest) -> tuple[tuple[int, float], ...]:
    """Seeds and weights of a request's own latent; none where it is stored."""
    return () if request.latent else request.blend or ((request.seed, 1.0),)


def batch_key(request: RenderRequest) -> RenderRequest:
    """What pictures drawn in one batch have in common."""
    return replace(request, seed=0, blend=(), mix_seed=0, mix_layers=(), covariates=())


def _can_share(request: RenderRequest) -> bool:
    """Whether a picture's noise is that of its neighbours."""
    return request.noise_mode != "random" and not (request.latent and request.latent.noise)


@functools.lru_cache(maxsize=128)
def _noise_at(place: float, resolution: int, device: torch.device) -> torch.Tensor:
    """White noise [1, 1, r, r] that a place in millimetres determines."""
    rng = np.random.default_rng([resolution, round(place * 1000) & 0xFFFFFFFF])
    return torch.from_numpy(rng.standard_normal((1, 1, resolution, resolution), np.float32)).to(device)


@contextmanager
def _timed(timings: list[tuple[str, float]], stage: str) -> Iterator[None]:
    start = time.perf_counter()
    try:
        yield
    finally:
        timings.append((stage, (time.perf_counter() - start) * 1000))


def looked_at(request: RenderRequest, device: torch.device | str) -> torch.Tensor | None:
    """A request's transform as the network is told it, [3, 3]: where each pixel looks, the inverse; None
    without one."""
    if request.transform is None:
        return None
    matrix = np.vstack([np.reshape(request.transform, (2, 3)), (0, 0, 1)])
    return torch.tensor(np.linalg.inv(matrix), dtype=torch.float32, device=device)


@contextmanager
def own_random_state(seed: int, device: torch.device) -> Iterator[None]:
    """Draw from a seed inside the block and leave the caller's random state as it was."""
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        yield
