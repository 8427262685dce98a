"""Turns pictures into frames with `mssg.rendering.renderer`. The only module of the explorer that imports
torch."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from explorer_app.messages import PREDICTOR, Frame, OpenedModel, OpenedPredictor, ShownLayer
from explorer_app.picture import Picture, Transform
from explorer_app.state import blend
from mssg.checkpoint.snapshot import load_snapshot
from mssg.errors import MssgError, UsageError
from mssg.features.predictors import Predictor
from mssg.measure.instruments import instrument
from mssg.ops.device import checked_device
from mssg.rendering.renderer import Renderer
from mssg.rendering.request import RenderRequest, RenderResult

HELD_SNAPSHOTS = 3
Measure = Callable[[np.ndarray], dict[str, np.ndarray]]


class Engine:
    """Holds a few snapshots and draws pictures with them.

    Args:
        threads: Torch threads, for the report only.
        device: Where it draws: a torch device that exists here, or "auto" for the best.
    """

    def __init__(self, threads: int = 1, device: str = "cpu") -> None:
        self.threads, self.device = threads, checked_device(device)
        self.mappings = self.syntheses = 0
        self._renderers: OrderedDict[str, Renderer] = OrderedDict()
        self._models: dict[str, OpenedModel] = {}
        self._oracles: dict[str, Measure | None] = {}
        self._predictor: Predictor | None = None

    def open(self, path: str) -> OpenedModel | None:
        """Make a snapshot ready; returns its model when there is something new to say about it.

        Raises:
            SnapshotError: It cannot be loaded.
        """
        if path in self._renderers:
            self._renderers.move_to_end(path)
            return self._described(path)
        start = time.perf_counter()
        renderer = Renderer(load_snapshot(path, self.device))
        self._renderers[path] = renderer
        while len(self._renderers) > HELD_SNAPSHOTS:
            old, _ = self._renderers.popitem(last=False)
            for table in (self._models, self._oracles):
                table.pop(old, None)
        name = renderer.study.instrument
        self._oracles[path] = instrument(name).measure if name else None
        synthesis = renderer.G.synthesis
        self._models[path] = OpenedModel(
            path,
            num_ws=renderer.G.num_ws,
            equivariant=hasattr(getattr(synthesis, "input", None), "transform"),
            has_noise=any("noise_const" in n for n, _ in synthesis.named_buffers()),
            instrument=name,
            half=renderer.device.type == "cuda"
            and any(getattr(m, "use_fp16", False) for m in synthesis.modules()),
            device=str(renderer.device),
            threads=self.threads,
            load_ms=(time.perf_counter() - start) * 1e3,
        )
        return self._models[path]

    def _described(self, path: str) -> OpenedModel | None:
        """The model with its layers, once, after the first picture has shown their shapes."""
        shapes = self._renderers[path].layer_shapes
        if len(shapes) <= len(self._models[path].layers):
            return None
        known = tuple(ShownLayer(name, *shape) for name, shape in shapes.items())
        self._models[path] = replace(self._models[path], layers=known)
        return self._models[path]

    def render(self, picture: Picture, cancelled: Callable[[], bool], preview: bool = False) -> Frame | None:
        """Draw one picture; None when it was cancelled, or when there is no preview of it.

        Raises:
            MssgError: The picture cannot be drawn.
        """
        self.open(picture.snapshot)
        renderer = self._renderers[picture.snapshot]
        if preview and (picture.probe.layer or renderer.preview_network is None):
            return None
        before = renderer.mappings, renderer.syntheses
        result = renderer.render(_request(picture, renderer.G.num_ws), cancelled, preview)
        self.mappings += renderer.mappings - before[0]
        self.syntheses += renderer.syntheses - before[1]
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
        if result.preview:
            raw = _enlarged(raw, self._renderers[picture.snapshot].G.img_resolution)
        if picture.transform.untransform:
            raw = _moved_back(raw, picture.transform)
        image = (raw + 1) * 127.5
        shown = image[0] if len(image) == 1 else np.moveaxis(image[:3], 0, -1)
        return Frame(picture, np.ascontiguousarray(shown), result.preview, None, statistics, timings)

    def predict_with(self, path: str) -> OpenedPredictor:
        """Take a learned predictor as a second instrument; "" puts it away. What is wrong with it is in the
        answer."""
        self._predictor = None
        if not path:
            return OpenedPredictor("")
        file = Path(path) / "predictor.safetensors" if Path(path).is_dir() else Path(path)
        try:
            self._predictor = Predictor.load(file)
        except (
            Exception
        ) as error:  # whatever a damaged file makes of itself must end as a message in the window
            return OpenedPredictor(
                path,
                problem=str(error) if isinstance(error, MssgError) else f"{type(error).__name__}: {error}",
            )
        errors = tuple(
            (e.covariate, e.mae if np.isfinite(e.mae) else e.accuracy) for e in self._predictor.errors
        )
        return OpenedPredictor(path, self._predictor.architecture, errors)

    def measure(self, frame: Frame) -> Frame:
        """A full picture's frame with what every instrument reads on it; one that cannot read it says
        nothing."""
        if frame.measured is not None:
            return frame
        start = time.perf_counter()
        image = frame.image[None] if frame.image.ndim == 2 else np.moveaxis(frame.image, -1, 0)
        grey = np.rint(np.clip(image, 0, 255)).astype(np.uint8)[None]
        study = self._renderers[frame.picture.snapshot].study
        measured, oracle, predictor = {}, self._oracles.get(frame.picture.snapshot), self._predictor
        if oracle is not None:
            measured[study.instrument] = _reading(oracle, grey)
        if predictor is not None and grey.shape[1:] == (
            predictor.study.channels,
            *2 * (predictor.study.resolution,),
        ):
            found = _reading(predictor.measure, grey)
            measured[PREDICTOR] = {
                c.name: found[c.name]
                for c in study.conditions
                if c.name in found and c.compatible_with(predictor.study.covariate(c.name))
            }
        timings = {**frame.timings_ms, "measure": (time.perf_counter() - start) * 1e3}
        return replace(frame, measured=measured, timings_ms=timings)


def _reading(measure: Measure, grey: np.ndarray) -> dict[str, float]:
    """What an instrument reads on an image, uint8 [1, C, H, W]; an image it cannot read gives nothing."""
    try:
        found = measure(grey)
    except MssgError:
        return {}
    return {name: float(np.ravel(value)[0]) for name, value in found.items()}


def _request(picture: Picture, num_ws: int) -> RenderRequest:
    latent, move = picture.latent, picture.transform
    matrix = None
    if (move.x, move.y, move.angle) != (0, 0, 0):
        matrix = tuple(_matrix(move)[:2].ravel().tolist())
    return RenderRequest(
        seed=latent.seed,
        blend=blend(latent),
        mix_seed=latent.mix_seed,
        mix_layers=tuple(i for i in latent.mix_layers if i < num_ws),
        covariates=picture.values,
        psi=latent.psi,
        cutoff=latent.cutoff,
        noise_mode=latent.noise_mode,
        noise_seed=latent.noise_seed,
        layer=picture.probe.layer or None,
        transform=matrix,
        precision="float32" if picture.float32 else "auto",
    )


def _matrix(move: Transform) -> np.ndarray:
    """Rotation by `angle` turns about the centre, then translation in image widths: 3x3."""
    a = 2 * np.pi * move.angle
    return np.array([[np.cos(a), -np.sin(a), move.x], [np.sin(a), np.cos(a), move.y], [0, 0, 1]])


def _enlarged(raw: np.ndarray, side: int) -> np.ndarray:
    """A preview [C, H, W] on the full picture's pixels, so that zoom, cursor and comparison go on as they
    were."""
    small = torch.from_numpy(raw)[None]
    return F.interpolate(small, size=(side, side), mode="bicubic", align_corners=False)[0].numpy()


def _moved_back(raw: np.ndarray, move: Transform) -> np.ndarray:
    """The image [C, H, W] with the transform undone by cubic interpolation: an equivariant generator stands
    still."""
    from scipy.ndimage import affine_transform

    side = raw.shape[-1]
    matrix = _matrix(move)
    linear = matrix[:2, :2][::-1, ::-1]  # (x, y) -> (row, column)
    centre = np.full(2, (side - 1) / 2)
    offset = centre - linear @ centre + matrix[:2, 2][::-1] * side
    return np.stack([affine_transform(c, linear, offset, order=3, cval=-1.0, prefilter=True) for c in raw])


def _tiles(raw: np.ndarray, picture: Picture) -> np.ndarray:
    """Channels of a layer [C, H, W] side by side in a near-square montage, in grey levels: float32 [H',
    W']."""
    probe = picture.probe
    first = min(probe.channel, len(raw) - 1)
    chosen = raw[first : first + max(1, probe.count)]
    if probe.normalise:
        low, high = float(chosen.min()), float(chosen.max())
        chosen = (chosen - low) / max(high - low, 1e-12) * 255
    else:
        chosen = (chosen * 10 ** (probe.gain_db / 20) + 1) * 127.5
    columns = int(np.ceil(np.sqrt(len(chosen))))
    rows = -(-len(chosen) // columns)
    height, width = chosen.shape[1:]
    out = np.zeros((rows * height, columns * width), np.float32)
    for i, tile in enumerate(chosen):
        y, x = divmod(i, columns)
        out[y * height : (y + 1) * height, x * width : (x + 1) * width] = tile
    return out
