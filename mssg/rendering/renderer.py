"""Carries out render requests with one snapshot: deterministic, cancellable before every layer, no global
state.

Source: docs/architecture.md, flow "slider drag".
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import Any, cast

import numpy as np
import torch
from torch import nn
from torch.func import functional_call

from mssg.checkpoint.snapshot import Snapshot, latent
from mssg.errors import MssgError, UsageError
from mssg.networks.generator import Generator
from mssg.ops.functional import keep_freed_memory
from mssg.rendering.activation_cache import Recall
from mssg.rendering.request import RenderRequest, RenderResult, StoredLatent, to_uint8
from mssg.study.values import find_covariate, training_defaults

CACHED_LATENTS = 256


class _Cancelled(Exception):
    """The work is no longer wanted."""


class _Reached(Exception):
    """A layer's output is what was asked for; the rest need not run."""

    def __init__(self, output: torch.Tensor) -> None:
        self.output = output


class Renderer:
    """Draws with one snapshot. Not for several threads at once. Its process keeps memory that it has freed
    (`keep_freed_memory`).

    Args:
        snapshot: What to draw with; its device is where the work is done.
    """

    def __init__(self, snapshot: Snapshot) -> None:
        keep_freed_memory()
        self.snapshot, self.study, self.header = snapshot, snapshot.study, snapshot.header
        self.G = cast(Generator, snapshot.G)
        self.device = next(self.G.parameters()).device
        self._layers = _layers(self.G.synthesis)
        self.recall = Recall(self._layers)
        self._defaults: dict[str, float] | None = None
        self._ws: OrderedDict[tuple[Any, ...], torch.Tensor] = OrderedDict()

    @cached_property
    def preview_network(self) -> nn.Module | None:
        """The network that draws quick, smaller pictures, called as the synthesis network is; None where
        there is none."""
        return self.G.synthesis.preview()

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
            if covariate.kind == "categorical":
                known = float(value).is_integer() and 0 <= value < len(covariate.levels)
                if not known:
                    expected = f"an index from 0 to {len(covariate.levels) - 1}"
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
            request: What to draw.
            cancelled: Asked before every layer; True drops the work.
            preview: A quick, smaller picture if the network can give one (StyleGAN2 above 32 px, StyleGAN3
                from 64 px, not for layer views); otherwise the full one, with `preview` False in the result.

        Returns:
            The picture, or why there is none: `error` for a request that cannot be carried out, `cancelled`.
        """
        timings: list[tuple[str, float]] = []
        quick = self.preview_network if preview and request.layer is None else None
        try:
            image = self._draw(request, quick or self.G.synthesis, cancelled, timings)
        except _Cancelled:
            return RenderResult(request, timings_ms=tuple(timings), cancelled=True)
        except MssgError as error:
            return RenderResult(request, timings_ms=tuple(timings), error=str(error))
        except (MemoryError, torch.OutOfMemoryError):
            return RenderResult(request, error="Not enough memory for this picture. Close other programs.")
        return RenderResult(request, image, tuple(timings), preview=quick is not None)

    def pictures(self, requests: Iterable[RenderRequest]) -> Iterator[np.ndarray]:
        """Draw many pictures, none of which changes another: each is what `render` draws of its request.

        Yields:
            float32 [C, H, W], as `RenderResult.image`.

        Raises:
            UsageError: A request that cannot be carried out.
        """
        for request in requests:
            yield self._draw(request, self.G.synthesis, lambda: False, [])

    def _draw(
        self,
        request: RenderRequest,
        network: nn.Module,
        cancelled: Callable[[], bool],
        timings: list[tuple[str, float]],
    ) -> np.ndarray:
        with torch.inference_mode(), _watched(network, cancelled):
            with _timed(timings, "mapping"):
                ws = self._latents(request)
            with (
                _timed(timings, "synthesis"),
                self._transformed(request.transform),
                self._at(request.precision),
            ):
                output = self._synthesise(network, ws, request)
            return self._checked(output[0], request)

    def images(
        self,
        values: np.ndarray,
        seeds: int | Sequence[int] | np.ndarray,
        psi: float = 1.0,
        cutoff: int | None = None,
        noise_mode: str = "const",
        batch: int = 32,
        dtype: type = np.uint8,
        progress: Callable[[int], None] | None = None,
    ) -> np.ndarray:
        """Draw many pictures.

        Args:
            values: [N, V] native units, nothing missing.
            seeds: One seed for all, or [N].
            psi: Truncation.
            cutoff: Truncate only the first so many layers.
            noise_mode: "const" or "none".
            batch: Pictures at a time.
            dtype: np.uint8 for grey levels, np.float32 for the generator's own range (about -1 to 1).
            progress: Called with the number of pictures just finished.

        Returns:
            [N, C, H, W].

        Raises:
            UsageError: Shapes that do not fit, or a missing value.
        """
        values = np.asarray(values, np.float64)
        if values.ndim != 2 or values.shape[1] != len(self.study.conditions):
            expected = f"[N, {len(self.study.conditions)}]: {', '.join(self.study.condition_names)}"
            raise UsageError("not a table of conditions", found=list(values.shape), expected=expected)
        for name, column in zip(self.study.condition_names, values.T):
            if not np.isfinite(column).all():
                raise UsageError("a condition is missing", field=name, hint="Complete the rows first")
        seeds = np.broadcast_to(np.asarray(seeds, np.int64), len(values))
        c = torch.from_numpy(self.study.encode(values))
        shape = (len(values), self.G.img_channels, self.G.img_resolution, self.G.img_resolution)
        out = np.empty(shape, dtype)
        with torch.inference_mode():
            for start in range(0, len(values), batch):
                rows = slice(start, start + batch)
                z = torch.cat([latent(int(s), self.G.z_dim) for s in seeds[rows]])
                ws = self.G.mapping(
                    z.to(self.device), c[rows].to(self.device), truncation_psi=psi, truncation_cutoff=cutoff
                )
                drawn = self.G.synthesis(ws, noise_mode=noise_mode).float().cpu().numpy()
                out[rows] = to_uint8(drawn) if dtype is np.uint8 else drawn
                if progress:
                    progress(len(drawn))
        return out

    def generate(self, values: np.ndarray, seed: int) -> np.ndarray:
        """Draw [N, V] native values, each with its own latent, all decided by one seed: uint8 [N, C, H,
        W]."""
        seeds = np.random.SeedSequence(seed).generate_state(len(values), np.uint32)
        return self.images(values, seeds)

    def _latents(self, request: RenderRequest) -> torch.Tensor:
        """w of a request: [1, num_ws, w_dim]; cached, because most requests of a session share theirs."""
        if request.snapshot and request.snapshot != self.header.snapshot_id:
            raise UsageError(
                "the request is for another snapshot",
                found=request.snapshot,
                expected=self.header.snapshot_id,
            )
        names, stored = self.study.condition_names, request.latent
        values = stored.edited(names, request.covariates) if stored else dict(request.covariates)
        c = self.study.encode(self.values(values))
        if stored:
            ws = self.G.mapping.truncate(self._stored_w(stored, request, c), request.psi, request.cutoff)
        else:
            seeds = request.blend or ((request.seed, 1.0),)
            total = sum(weight for _, weight in seeds)
            ws = torch.stack([self._mapped(s, c, request) * (weight / total) for s, weight in seeds]).sum(0)
        if request.mix_layers:
            if request.mix_layers[-1] >= self.G.num_ws:
                expected = f"0 to {self.G.num_ws - 1}"
                raise UsageError(
                    "no such layer", field="mix_layers", found=request.mix_layers[-1], expected=expected
                )
            ws = ws.clone()
            ws[:, request.mix_layers] = self._mapped(request.mix_seed, c, request)[:, request.mix_layers]
        return ws

    def _mapped(self, seed: int, c: np.ndarray, request: RenderRequest) -> torch.Tensor:
        key = (seed, c.tobytes(), request.psi, request.cutoff)
        if key not in self._ws:
            z = latent(seed, self.G.z_dim).to(self.device)
            self._ws[key] = self.G.mapping(
                z,
                torch.from_numpy(c).to(self.device),
                truncation_psi=request.psi,
                truncation_cutoff=request.cutoff,
            )
            while len(self._ws) > CACHED_LATENTS:
                self._ws.popitem(last=False)
        self._ws.move_to_end(key)
        return self._ws[key]

    def _stored_w(self, stored: StoredLatent, request: RenderRequest, c: np.ndarray) -> torch.Tensor:
        """A stored w as it stands, [1, num_ws, w_dim]; with covariates stated, edited to them."""
        whole = (self.G.num_ws, self.G.w_dim)
        if stored.w.shape not in (whole[1:], whole):
            found = list(stored.w.shape)
            raise UsageError(
                "the latent does not fit this snapshot", file=stored.file or None, found=found, expected=whole
            )
        if not request.covariates:
            return torch.tensor(stored.w, device=self.device).expand(1, *whole)
        if stored.z is None or stored.residual is None:
            raise UsageError(
                "holds no inverted image, only a w: it cannot be edited",
                file=stored.file or None,
                expected="a file of `mssg invert`",
            )
        if stored.snapshot != self.header.snapshot_id:
            raise UsageError(
                "was inverted with another snapshot",
                file=stored.file or None,
                found=stored.snapshot,
                expected=self.header.snapshot_id,
                hint="Invert the image with this snapshot",
            )
        z, residual = (torch.tensor(part[None], device=self.device) for part in (stored.z, stored.residual))
        return self.G.mapping(z, torch.from_numpy(c).to(self.device)) + residual

    def _stored_noise(self, request: RenderRequest) -> dict[str, torch.Tensor]:
        """Noise inputs that belong to a stored latent; none: the network's own."""
        stored = request.latent
        if not stored or request.noise_mode != "const" or stored.snapshot != self.header.snapshot_id:
            return {}
        return {name: torch.tensor(array, device=self.device) for name, array in stored.noise.items()}

    def _synthesise(self, network: nn.Module, ws: torch.Tensor, request: RenderRequest) -> torch.Tensor:
        """The image, or what the layer asked for gives: [1, C, H, W]."""

        def reached(module: nn.Module, inputs: Any, output: Any) -> None:
            raise _Reached(output)

        target = None if request.layer is None else self._layer(request.layer)
        hook = target.register_forward_hook(reached) if target is not None else None
        try:
            if request.noise_mode == "random":
                with _own_random_state(request.noise_seed, self.device):
                    return network(ws, noise_mode=request.noise_mode)
            with self.recall.active():
                if stored := self._stored_noise(request):
                    known = dict(network.named_buffers())
                    return functional_call(network, {n: t for n, t in stored.items() if n in known}, (ws,))
                return network(ws, noise_mode=request.noise_mode)
        except _Reached as done:
            return done.output
        finally:
            if hook:
                hook.remove()

    def _layer(self, name: str) -> nn.Module:
        if name not in self._layers:
            raise UsageError("no such layer", field=name, expected=" | ".join(self.layers))
        return self._layers[name]

    @contextmanager
    def _transformed(self, transform: tuple[float, ...] | None) -> Iterator[None]:
        """Move the picture: StyleGAN3's input takes the inverse matrix, for it says where each pixel
        looks."""
        if transform is None:
            yield
            return
        buffer = getattr(getattr(self.G.synthesis, "input", None), "transform", None)
        if buffer is None:
            raise UsageError(
                "this network cannot transform its picture",
                field="transform",
                expected="a StyleGAN3 snapshot",
            )
        matrix = np.vstack([np.reshape(transform, (2, 3)), (0, 0, 1)])
        before = buffer.clone()
        buffer.copy_(torch.from_numpy(np.linalg.inv(matrix)))
        try:
            yield
        finally:
            buffer.copy_(before)

    @contextmanager
    def _at(self, precision: str) -> Iterator[None]:
        """Compute in float32, or in float16 where the network can."""
        if precision == "float16" and self.device.type != "cuda":
            raise UsageError(
                "float16 needs a GPU", field="precision", found=str(self.device), expected="cuda"
            )
        blocks: list[Any] = [m for m in self.G.modules() if getattr(m, "use_fp16", False)]
        for block in blocks:
            block.use_fp16 = precision != "float32"
        try:
            yield
        finally:
            for block in blocks:
                block.use_fp16 = True

    def _checked(self, output: torch.Tensor, request: RenderRequest) -> np.ndarray:
        if request.channel is not None:
            if request.channel >= len(output):
                expected = f"0 to {len(output) - 1}"
                raise UsageError("no such channel", field="channel", found=request.channel, expected=expected)
            output = output[request.channel : request.channel + 1]
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


@contextmanager
def _watched(network: nn.Module, cancelled: Callable[[], bool]) -> Iterator[None]:
    """Ask `cancelled` before every layer of the synthesis network."""

    def check(module: nn.Module, inputs: Any) -> None:
        if cancelled():
            raise _Cancelled

    hooks = [layer.register_forward_pre_hook(check) for layer in _layers(network).values()]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


@contextmanager
def _timed(timings: list[tuple[str, float]], stage: str) -> Iterator[None]:
    start = time.perf_counter()
    try:
        yield
    finally:
        timings.append((stage, (time.perf_counter() - start) * 1000))


@contextmanager
def _own_random_state(seed: int, device: torch.device) -> Iterator[None]:
    """Draw from a seed inside the block and leave the caller's random state as it was."""
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        yield
