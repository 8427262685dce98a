"""The explorer behind its panels: what is open, the render process's client, the interface, the textures."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import numpy as np

from explorer_app import animate
from explorer_app.document import Document
from explorer_app.export import Origin
from explorer_app.interface import Background, DerivedMaps, Interface
from explorer_app.messages import Frame, OpenedModel
from explorer_app.render_client import RenderClient
from explorer_app.request_edits import channel_requests
from explorer_app.state import AppState
from explorer_app.viewing import viewed
from mssg.measure.instruments import instrument
from mssg.rendering.request import RenderRequest

if TYPE_CHECKING:
    from explorer_app.display import Screen

LONGEST_STEP_S = 0.2  # of an animation: after a stall it goes on where it was


class Context:
    """Ties the parts together, frame by frame.

    Args:
        client: Has pictures rendered.
        screen: Owns the textures.
    """

    def __init__(self, client: RenderClient, screen: Screen) -> None:
        self.client, self.screen = client, screen
        self.interface = Interface()
        self.document = Document(self.interface.note, client.retry)
        self.maps = DerivedMaps()
        self.background = Background()
        self._begun = time.perf_counter()
        self._animated = self._moving = 0.0

    @property
    def state(self) -> AppState:
        """The current state."""
        return self.document.state

    @state.setter
    def state(self, state: AppState) -> None:
        self.document.state = state

    @property
    def model(self) -> OpenedModel | None:
        """What the render process knows of the current snapshot."""
        return self.client.models.get(self.state.snapshot)

    def begin_frame(self) -> None:
        """Take in what arrived, follow the run, move what is animated."""
        before, self._begun = self._begun, time.perf_counter()
        self.client.poll()
        if self.client.notice:
            self.interface.note(self.client.notice)
            self.client.notice = ""
        self.document.poll_run()
        self._animate(min(LONGEST_STEP_S, self._begun - before))
        self.background.tell(self.interface.note)

    def _animate(self, seconds: float) -> None:
        """Move on once the last picture is there; the whole animation is one undo step."""
        interface, shown = self.interface, self.client.shown
        if not interface.animation:
            self._animated = 0.0
            return
        self._moving += seconds * interface.speed
        if shown is None or shown.request == self.state.request:
            before, self._animated = self._animated, self._animated + self._moving
            self._moving = 0.0
            self.state = animate.advanced(self.state, interface.animation, before, self._animated)

    def end_frame(self, held: bool) -> None:
        """Send this frame's requests and close the undo step once no control is held."""
        document, interface = self.document, self.interface
        if not held and not interface.animation:
            document.history.commit()
        document.read_current()
        state = self.state
        main, *channels = self._channels(state.request)
        self.client.request(channels)
        if state.pin and state.display.compare != "A":
            self.client.request(self._channels(state.pin.request))
        there = state.snapshot and document.distribution is not None
        self.client.submit(main if there else None, state.analysis.predictor, since=self._begun)

    def problem(self) -> str:
        """Why the picture asked for cannot be shown; "" when nothing is wrong."""
        client, state = self.client, self.state
        return client.broken or client.failed.get(state.snapshot, "") or client.errors.get(state.request, "")

    def _channels(self, request: RenderRequest) -> tuple[RenderRequest, ...]:
        """What is to be rendered to look at a request: of a layer, all channels shown."""
        model = self.client.models.get(request.snapshot)
        layer = next((la for la in model.layers if la.name == request.layer), None) if model else None
        return channel_requests(request, self.state.display.channels, layer.shape[0] if layer else 1)

    def viewed(self, frame: Frame, name: str) -> np.ndarray:
        """What is looked at of a frame: grey levels float32 [H, W] or [H, W, 3].

        Args:
            frame: The picture, or the first channel of a layer.
            name: Of the place it is shown at, where it is kept until something changes.
        """
        display, request = self.state.display, frame.request
        if request.layer is None and not (display.untransform and request.transform):
            return frame.image
        others = [self.client.frame(r) for r in self._channels(request)[1:]]
        images = [frame.image, *(f.image for f in others if f is not None)]
        settings = (display.normalise, display.gain_db, display.untransform, request)
        return self.maps.computed(name, images, settings, lambda: viewed(images, request, display))

    def measurable(self) -> tuple[str, ...]:
        """Covariates of the current study that an instrument reads off a picture."""
        if self.document.distribution is None:
            return ()
        study = self.document.distribution.study
        names = {own.covariate for own in self.client.predictor.errors}
        if study.instrument:
            names |= set(instrument(study.instrument).COVARIATES)
        return tuple(name for name in study.condition_names if name in names)

    def origin(self) -> Origin:
        """What the picture on the screen comes from; there must be one."""
        assert self.document.distribution is not None and self.client.shown is not None
        return Origin.of(self.document.distribution.header, self.client.shown.request)

    def close(self) -> None:
        """End everything but a training started here."""
        self.background.close()
        self.client.close()
