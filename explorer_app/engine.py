"""Turns pictures into frames with `mssg.render`. The only module of the explorer that imports torch."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from explorer_app.messages import Frame, Layer, Model
from explorer_app.picture import Picture, Transform
from explorer_app.state import blend
from mssg.errors import MssgError, UsageError
from mssg.measure import instrument
from mssg.render import Renderer
from mssg.request import RenderRequest, RenderResult, to_uint8
from mssg.snapshot import load_snapshot

HELD_SNAPSHOTS = 3


class StyleMixer(Renderer):
    """A renderer that can take the style of some layers from another seed."""

    styles: tuple[int, tuple[int, ...]] = (0, ())

    def _latents(self, request: RenderRequest) -> torch.Tensor:
        ws = super()._latents(request)
        seed, layers = self.styles
        layers = tuple(i for i in layers if i < ws.shape[1])
        if layers:
            other = self._mapped(seed, self.study.encode(self.values(request.covariates)), request)
            ws = ws.clone()
            ws[:, layers] = other[:, layers]
        return ws


class Engine:
    """Holds a few snapshots and draws pictures with them.

    Args:
        threads: Torch threads, for the report only.
    """

    def __init__(self, threads: int = 1) -> None:
        self.threads = threads
        self.mappings = self.syntheses = 0
        self._renderers: OrderedDict[str, StyleMixer] = OrderedDict()
        self._models: dict[str, Model] = {}
        self._seen: dict[str, dict[str, Layer]] = {}
        self._instruments: dict[str, Callable[..., dict[str, np.ndarray]] | None] = {}

    def open(self, path: str) -> Model | None:
        """Make a snapshot ready; returns its model when there is something new to say about it.

        Raises:
            SnapshotError: It cannot be loaded.
        """
        if path in self._renderers:
            self._renderers.move_to_end(path)
            return self._described(path)
        start = time.perf_counter()
        renderer = StyleMixer(load_snapshot(path))
        self._renderers[path] = renderer
        self._watch(path, renderer)
        while len(self._renderers) > HELD_SNAPSHOTS:
            old, _ = self._renderers.popitem(last=False)
            for table in (self._models, self._seen, self._instruments):
                table.pop(old, None)
        name = renderer.study.instrument
        self._instruments[path] = instrument(name).measure if name else None
        synthesis = renderer.G.synthesis
        self._models[path] = Model(
            path,
            num_ws=renderer.G.num_ws,
            equivariant=hasattr(getattr(synthesis, "input", None), "transform"),
            has_noise=any("noise_const" in n for n, _ in synthesis.named_buffers()),
            instrument=name,
            device=str(renderer.device),
            threads=self.threads,
            load_ms=(time.perf_counter() - start) * 1e3,
        )
        return self._models[path]

    def _watch(self, path: str, renderer: StyleMixer) -> None:
        seen = self._seen[path] = {}

        def note(name: str) -> Callable[..., None]:
            def hook(module: Any, inputs: Any, output: Any) -> None:
                if name not in seen:
                    tensor = output[-1] if isinstance(output, tuple) else output
                    seen[name] = Layer(
                        name, tuple(tensor.shape[1:]), str(tensor.dtype).removeprefix("torch.")
                    )

            return hook

        for name in renderer.layers:
            renderer.G.synthesis.get_submodule(name).register_forward_hook(note(name))
        renderer.G.mapping.register_forward_pre_hook(lambda *_: self._count("mappings"))
        renderer.G.synthesis.register_forward_pre_hook(lambda *_: self._count("syntheses"))

    def _count(self, what: str) -> None:
        setattr(self, what, getattr(self, what) + 1)

    def _described(self, path: str) -> Model | None:
        """The model with its layers, once, after the first picture has shown their shapes."""
        from dataclasses import replace

        known = tuple(self._seen[path].values())
        if len(known) <= len(self._models[path].layers):
            return None
        self._models[path] = replace(self._models[path], layers=known)
        return self._models[path]

    def render(self, picture: Picture, cancelled: Callable[[], bool], preview: bool = False) -> Frame | None:
        """Draw one picture; None when it was cancelled, or when there is no preview of it.

        Raises:
            MssgError: The picture cannot be drawn.
        """
        self.open(picture.snapshot)
        renderer = self._renderers[picture.snapshot]
        renderer.styles = (picture.latent.mix_seed, picture.latent.mix_layers)
        if preview and (picture.probe.layer or renderer._preview_block() is None):
            return None
        result = renderer.render(_request(picture), cancelled, preview)
        if result.error:
            raise UsageError(result.error.rstrip("."))
        if result.image is None:
            return None
        return self._frame(picture, result)

    def _frame(self, picture: Picture, result: RenderResult) -> Frame:
        raw = result.image
        assert raw is not None
        timings = dict(result.timings_ms)
        statistics = {
            "mean": float(raw.mean()),
            "sd": float(raw.std()),
            "min": float(raw.min()),
            "max": float(raw.max()),
        }
        if picture.probe.layer:
            return Frame(picture, _tiles(raw, picture), False, {}, statistics, timings)
        if picture.transform.untransform:
            raw = _moved_back(raw, picture.transform)
        image = (raw + 1) * 127.5
        measured: dict[str, float] = {}
        measure = self._instruments.get(picture.snapshot)
        if measure is not None and not result.preview:
            start = time.perf_counter()
            measured = _reading(measure, raw)
            timings["measure"] = (time.perf_counter() - start) * 1e3
        shown = image[0] if len(image) == 1 else np.moveaxis(image[:3], 0, -1)
        return Frame(picture, np.ascontiguousarray(shown), result.preview, measured, statistics, timings)


def _reading(measure: Callable[..., dict[str, np.ndarray]], raw: np.ndarray) -> dict[str, float]:
    """What the instrument reads on an image [C, H, W]; an image it cannot read gives nothing."""
    try:
        found = measure(to_uint8(raw)[None])
    except MssgError:
        return {}
    return {name: float(np.ravel(value)[0]) for name, value in found.items()}


def _request(picture: Picture) -> RenderRequest:
    latent, move = picture.latent, picture.transform
    matrix = None
    if (move.x, move.y, move.angle) != (0, 0, 0):
        matrix = tuple(tuple(float(v) for v in row) for row in _matrix(move)[:2])
    seeds = blend(latent)
    return RenderRequest(
        seed=latent.seed,
        mix=seeds if len(seeds) > 1 else (),
        covariates=picture.values,
        psi=latent.psi,
        cutoff=latent.cutoff,
        noise_mode=latent.noise_mode,
        noise_seed=latent.noise_seed,
        layer=picture.probe.layer or None,
        transform=matrix,
    )


def _matrix(move: Transform) -> np.ndarray:
    """Rotation by `angle` turns about the centre, then translation in image widths: 3x3."""
    a = 2 * np.pi * move.angle
    return np.array([[np.cos(a), -np.sin(a), move.x], [np.sin(a), np.cos(a), move.y], [0, 0, 1]])


def _moved_back(raw: np.ndarray, move: Transform) -> np.ndarray:
    """The image [C, H, W] with the transform undone by cubic interpolation: an equivariant generator stands still."""
    from scipy.ndimage import affine_transform

    side = raw.shape[-1]
    matrix = _matrix(move)
    linear = matrix[:2, :2][::-1, ::-1]  # (x, y) -> (row, column)
    centre = np.full(2, (side - 1) / 2)
    offset = centre - linear @ centre + matrix[:2, 2][::-1] * side
    return np.stack([affine_transform(c, linear, offset, order=3, cval=-1.0, prefilter=True) for c in raw])


def _tiles(raw: np.ndarray, picture: Picture) -> np.ndarray:
    """Channels of a layer [C, H, W] side by side in a near-square montage, in grey levels: float32 [H', W']."""
    probe = picture.probe
    first = min(probe.channel, len(raw) - 1)
    chosen = raw[first : first + max(1, probe.count)]
    if probe.normalise:
        low, high = float(chosen.min()), float(chosen.max())
        chosen = (chosen - low) / max(high - low, 1e-12) * 255
    else:
        chosen = (chosen + 1) * 127.5
    columns = int(np.ceil(np.sqrt(len(chosen))))
    rows = -(-len(chosen) // columns)
    height, width = chosen.shape[1:]
    out = np.zeros((rows * height, columns * width), np.float32)
    for i, tile in enumerate(chosen):
        y, x = divmod(i, columns)
        out[y * height : (y + 1) * height, x * width : (x + 1) * width] = tile
    return out
