"""Turns requests into frames with `mssg.rendering.renderer`. The only module of the explorer that imports
torch."""

from __future__ import annotations

import itertools
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from explorer_app.messages import (
    PREDICTOR,
    Frame,
    HeadReading,
    OpenedModel,
    OpenedPredictor,
    Picture,
    ShownLayer,
)
from explorer_app.real_image import RealImage
from mssg.checkpoint.snapshot import load_snapshot
from mssg.data.plane import shows_tissue
from mssg.errors import MssgError, UsageError
from mssg.features.predictors import Predictor
from mssg.measure.instruments import instrument, stack_instrument
from mssg.ops.device import checked_device
from mssg.rendering.renderer import Renderer, batch_key
from mssg.rendering.request import RenderRequest, to_uint8
from mssg.rendering.volume import at_place, places_of, upright
from mssg.study.model import AXES, Study

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
            names=renderer.layers,
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

    def channels(self, request: Picture) -> int:
        """How many channels the layer of a request that was rendered has; 1 for a picture."""
        if request.layer is None:
            return 1
        shape, _ = self._renderers[request.snapshot].layer_shapes[request.layer]
        return shape[0]

    def render(self, request: Picture, cancelled: Callable[[], bool], preview: bool = False) -> Frame | None:
        """Draw one picture, or one channel of a layer; None when cancelled, or without a preview of it.

        Args:
            request: What to draw; its snapshot is named by its file. A real picture is given as it is.
            cancelled: Asked before every layer; True drops the work.
            preview: A quick, smaller picture, enlarged to the full one's pixels.

        Raises:
            MssgError: The picture cannot be drawn.
        """
        self.open(request.snapshot)
        if isinstance(request, RealImage):
            return Frame(request, request.levels)
        renderer = self._renderers[request.snapshot]
        if preview and (request.layer or renderer.preview_network is None):
            return None
        before = renderer.mappings, renderer.syntheses
        result = renderer.render(replace(request, snapshot=""), cancelled, preview)
        self.mappings += renderer.mappings - before[0]
        self.syntheses += renderer.syntheses - before[1]
        if result.error:
            raise UsageError(result.error.rstrip("."))
        if result.image is None:
            return None
        raw, timings = result.image, dict(result.timings_ms)
        if request.layer:
            return Frame(request, np.ascontiguousarray(raw[0]), measured={}, timings_ms=timings)
        if result.preview:
            raw = _enlarged(raw, renderer.G.img_resolution)
        return Frame(request, _shown(raw), result.preview, timings_ms=timings)

    def render_many(self, requests: Sequence[Picture], cancelled: Callable[[], bool]) -> list[Frame]:
        """Draw the first picture of a list, and in one go those behind it that differ from it in latent and
        covariates alone, as many as are drawn at a time; none when cancelled.

        Args:
            requests: Not empty; their snapshots are named by their files.
            cancelled: As in `render`.

        Raises:
            MssgError: A picture cannot be drawn.
        """
        first, alike = requests[0], []
        self.open(first.snapshot)
        renderer = self._renderers[first.snapshot]
        if isinstance(first, RenderRequest) and not first.layer:
            key = batch_key(first)
            head = itertools.takewhile(lambda r: _key(r) == key, requests[: renderer.batch])
            alike = [request for request in head if isinstance(request, RenderRequest)]
        start, before, raw = time.perf_counter(), (renderer.mappings, renderer.syntheses), []
        if len(alike) > 1:
            # one of them that cannot be drawn says which it is, and why, when it comes first
            with suppress(MssgError):
                raw = list(renderer.pictures([replace(r, snapshot="") for r in alike], cancelled=cancelled))
        if not raw:
            frame = self.render(first, cancelled)
            return [] if frame is None else [frame]
        self.mappings += renderer.mappings - before[0]
        self.syntheses += renderer.syntheses - before[1]
        each = {"together": (time.perf_counter() - start) * 1e3 / len(alike)}
        return [Frame(request, _shown(image), timings_ms=each) for request, image in zip(alike, raw)]

    def measure_head(self, request: RenderRequest, cancelled: Callable[[], bool]) -> HeadReading | None:
        """Draw the head that a request is a slice of, and read it; None when cancelled, or where nothing
        reads heads of its study.

        Raises:
            MssgError: It cannot be drawn.
        """
        self.open(request.snapshot)
        renderer = self._renderers[request.snapshot]
        reads = stack_instrument(renderer.study.instrument)
        if reads is None:
            return None
        places = places_of(renderer.study, renderer.header.summary)
        plain = replace(request, snapshot="")
        requests = [at_place(renderer.study, plain, place) for place in places]
        slices = list(renderer.pictures(requests, cancelled=cancelled))
        if len(slices) < len(places) or cancelled():
            return None
        grey = [to_uint8(image)[0] for image in slices]
        geometry = renderer.study.geometry
        assert geometry is not None
        axis = AXES[geometry.plane][0]
        edges = [geometry.pixel_mm] * 3
        edges[axis] = float(places[1] - places[0])
        head = np.concatenate([upright(picture, geometry) for picture in grey], axis)
        values = {name: float(found[0]) for name, found in reads.measure(head[None], edges).items()}
        cut = shows_tissue(grey[0]) or shows_tissue(grey[-1])
        return HeadReading(values, float(places[0]), float(places[-1]), bool(cut))

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
        return OpenedPredictor(path, self._predictor.architecture, self._predictor.errors)

    def measure(self, frame: Frame) -> Frame:
        """A full picture's frame with what every instrument reads on it; one that cannot read it says
        nothing."""
        if frame.measured is not None:
            return frame
        start = time.perf_counter()
        image = frame.image[None] if frame.image.ndim == 2 else np.moveaxis(frame.image, -1, 0)
        grey = np.rint(np.clip(image, 0, 255)).astype(np.uint8)[None]
        study = self._renderers[frame.request.snapshot].study
        measured, oracle, predictor = {}, self._oracles.get(frame.request.snapshot), self._predictor
        if oracle is not None and _where_read(study, frame.request):
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


def _key(picture: Picture) -> RenderRequest | None:
    """What pictures that are drawn in one go share; None of one that is not drawn."""
    return batch_key(picture) if isinstance(picture, RenderRequest) else None


def _shown(raw: np.ndarray) -> np.ndarray:
    """A picture float32 [C, H, W] as the network gives it, in grey levels: [H, W] or [H, W, 3]."""
    image = (raw + 1) * 127.5
    return np.ascontiguousarray(image[0] if len(image) == 1 else np.moveaxis(image[:3], 0, -1))


def _where_read(study: Study, request: Picture) -> bool:
    """Whether a slice lies where the study's instrument reads slices: at the study's own place."""
    place = dict(request.covariates).get(study.position or "")
    return place is None or study.geometry is None or place == study.geometry.position_mm


def _reading(measure: Measure, grey: np.ndarray) -> dict[str, float]:
    """What an instrument reads on an image, uint8 [1, C, H, W]; an image it cannot read gives nothing."""
    try:
        found = measure(grey)
    except MssgError:
        return {}
    return {name: float(np.ravel(value)[0]) for name, value in found.items()}


def _enlarged(raw: np.ndarray, side: int) -> np.ndarray:
    """A preview [C, H, W] on the full picture's pixels, so that zoom, cursor and comparison go on as they
    were."""
    small = torch.from_numpy(raw)[None]
    return F.interpolate(small, size=(side, side), mode="bicubic", align_corners=False)[0].numpy()
