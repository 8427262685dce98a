"""The explorer behind its panels: what is open, the render process's client, the interface, the textures."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from explorer_app import animate
from explorer_app.comparison import NOW, Part, brightness, parts, widest
from explorer_app.document import Document
from explorer_app.export import Origin
from explorer_app.geometry import mirrored, stated
from explorer_app.guest import Guest, is_image
from explorer_app.interface import Background, DerivedMaps, Interface
from explorer_app.messages import PREDICTOR, Frame, OpenedModel, Picture
from explorer_app.movie import discrete, shot_at
from explorer_app.neighbours import Neighbourhood
from explorer_app.overlay import Region, Regions, Stroke, strokes_of_marks, strokes_of_regions
from explorer_app.people import people_of, person, statistic, summed_up
from explorer_app.real_image import RealImage
from explorer_app.render_client import RenderClient
from explorer_app.request_edits import channel_requests, fitting, side_by_side, whole_picture
from explorer_app.stack import StackMemory
from explorer_app.state import AppState, Pin
from explorer_app.stored import stored_frame
from explorer_app.viewing import viewed
from mssg.errors import MssgError
from mssg.measure.instruments import instrument
from mssg.measure.own_error import OwnError
from mssg.rendering.request import RenderRequest

if TYPE_CHECKING:
    from explorer_app.display import Screen
    from explorer_app.distribution import TrainingDistribution

LONGEST_STEP_S = 0.2  # of an animation: after a stall it goes on where it was


class Context:
    """Ties the parts together, frame by frame."""

    def __init__(self, client: RenderClient, screen: Screen) -> None:
        self.client, self.screen = client, screen
        self.interface = Interface()
        self.document = Document(self.interface.note, client.retry)
        self.maps, self.stacks = DerivedMaps(), StackMemory()
        self.background = Background()
        self.guest = Guest(self.document, self.interface.note)
        self.neighbours = Neighbourhood()
        self._regions = Regions()
        self._begun = time.perf_counter()
        self._animated = self._moving = 0.0
        self._offered: TrainingDistribution | None = None

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
        self._fit()
        self.state = self.guest.poll(self.state)
        self._animate(min(LONGEST_STEP_S, self._begun - before))
        self.background.tell(self.interface.note)

    def offer_stored(self) -> None:
        """Have the picture that a snapshot's header stores shown once, until the model has drawn."""
        distribution = self.document.distribution
        if distribution is None or distribution is self._offered:
            return
        self._offered = distribution
        stored = stored_frame(distribution, self.state.request)
        if stored is not None and self.client.frame(stored.request) is None:
            self.client.offer(stored)

    def _fit(self) -> None:
        """Take out of the picture what its model cannot have, as soon as that is known, and say so."""
        state, model = self.state, self.model
        if model is None:
            return
        request, dropped = fitting(state.request, model.num_ws, model.equivariant, model.names)
        distribution, latent = self.document.distribution, request.latent
        if latent and distribution and latent.snapshot != distribution.header.snapshot_id:
            request, dropped = replace(request, latent=None), [*dropped, "latent of your image"]
        if dropped:
            self.document.history.replace(replace(state, request=request))
            self.interface.note(f"This model has no {' and no '.join(dropped)}: put back.")

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
            if interface.animation == "movie":
                self._play(self._animated)
            else:
                self.state = animate.advanced(self.state, interface.animation, before, self._animated)

    def _play(self, time: float) -> None:
        """Put the movie's picture of a time on the screen; at its end the first again, standing still."""
        distribution, state = self.document.distribution, self.state
        levels = discrete(distribution.study) if distribution else frozenset()
        shot = shot_at(state.movie, time, levels) or shot_at(state.movie, 0.0, levels)
        if shot_at(state.movie, time, levels) is None:
            self.interface.animation = ""
        if shot is not None:
            display = replace(state.display, level=shot.display.level, width=shot.display.width)
            self.state = replace(state, request=shot.request, display=display)

    def end_frame(self, held: bool) -> None:
        """Send this frame's requests and close the undo step once no control is held."""
        document, interface = self.document, self.interface
        if not held and not interface.animation:
            document.history.commit()
        document.read_current()
        self.offer_stored()
        state = self.state
        main, *channels = self.channels(state.request)
        self.client.request(channels)
        if state.pin and state.display.compare != "A":
            real = isinstance(state.pin.request, RealImage)
            self.client.request(self.channels(state.pin.request), measured=real)
        self.client.request(people_of(self.still(self.state)))
        there = state.snapshot and document.distribution is not None
        self.client.submit(main if there else None, state.analysis.predictor, since=self._begun)

    def problem(self) -> str:
        """Why the picture asked for cannot be shown; "" when nothing is wrong."""
        return self.why_not(self.state.request)

    def why_not(self, request: Picture) -> str:
        """Why a picture cannot be rendered; "" when nothing is wrong with it."""
        client = self.client
        return client.broken or client.failed.get(request.snapshot, "") or client.errors.get(request, "")

    def channels(self, request: Picture) -> tuple[Picture, ...]:
        """What is to be rendered to look at a request: of a layer, all channels shown."""
        if isinstance(request, RealImage):
            return (request,)
        model = self.client.models.get(request.snapshot)
        layer = next((la for la in model.layers if la.name == request.layer), None) if model else None
        return channel_requests(request, self.state.display.channels, layer.shape[0] if layer else 1)

    def whole(self, request: Picture) -> RenderRequest:
        """The one request of all that is looked at: of a layer, with every channel shown."""
        return side_by_side([r for r in self.channels(request) if isinstance(r, RenderRequest)])

    def viewed(self, frame: Frame, name: str) -> np.ndarray:
        """What is looked at of a frame: grey levels float32 [H, W] or [H, W, 3].

        Args:
            frame: The picture, or the first channel of a layer.
            name: Of the place it is shown at, where it is kept until something changes.
        """
        display, request = self.state.display, frame.request
        moved = display.untransform and request.transform
        if request.layer is None and not moved and (display.channel == "colour" or frame.image.ndim == 2):
            return frame.image
        others = [self.client.frame(r) for r in self.channels(request)[1:]]
        images = [frame.image, *(f.image for f in others if f is not None)]
        mirror = mirrored(self.document.geometry(request.snapshot), display.neurological)
        settings = (display.normalise, display.gain_db, display.untransform, display.channel, request, mirror)
        return self.maps.computed(name, images, settings, lambda: viewed(images, request, display, mirror))

    def parts(self, frame: Frame) -> tuple[tuple[Part, ...], str]:
        """What is looked at of a picture and the pin it is compared with, and why a comparison that was
        asked for is not shown."""
        state, pin, current = self.state, self.state.pin, self._part(frame, "view 0")
        shown, problem = self._over_seeds(current)
        if state.analysis.uncertainty == "mean" and len(shown) == 1:
            current = shown[0]
        elif len(shown) > 1 or problem:
            apart = "several people are not compared with a pin" if state.display.compare != "A" else ""
            return shown, problem or apart
        if problem or pin is None or state.display.compare == "A":
            return (current,), problem
        pinned = self.client.frame(self.channels(pin.request)[0])
        if pinned is None:
            return (replace(current, label=NOW),), self._pin_problem(pin)
        return parts(state.display, current, replace(self._part(pinned, "pin"), label=pin.label))

    def _over_seeds(self, current: Part) -> tuple[tuple[Part, ...], str]:
        """The people that are looked at instead of the one, or their mean and deviation, and what is missing
        of it; the one where nobody else is."""
        held = self.still(self.state)
        requests, mode = people_of(held), self.state.analysis.uncertainty
        if not requests:
            return (current,), ""
        frames = [self.client.frame(r) for r in requests]
        there = {i: self._part(f, f"person {i}") for i, f in enumerate(frames) if f and not f.preview}
        failed = next((why for r in requests if (why := self.why_not(r))), "")
        problem = "paused while values move" if held is not self.state else failed
        if len(there) < len(requests):
            problem = problem or f"{len(there)} of {len(requests)} seeds are there"
        if mode == "people":
            blank = np.zeros_like(current.image)
            missing = [replace(current, request=r, image=blank) for r in requests]
            return tuple(
                replace(there.get(i, m), label=person(r)) for i, (r, m) in enumerate(zip(requests, missing))
            ), problem
        if len(there) < 2:
            return (current,), problem

        def computed(name: str, images: list[np.ndarray]) -> np.ndarray:
            return self.maps.computed(f"{name} over seeds", images, (), lambda: statistic(name, images))

        return summed_up(mode, list(there.values()), computed), problem

    def still(self, state: AppState) -> AppState:
        """The state whose further pictures (a grid, people, a curve) are shown; itself where nothing moves.

        While something is dragged or animated this is the one before, or every one of them would have to be
        rendered for every value on the way, and none would be seen.
        """
        before = self.document.history.committed.request
        moves = whole_picture(state.request) != whole_picture(before)
        return replace(state, request=before) if moves and before.snapshot == state.snapshot else state

    def _part(self, frame: Frame, name: str) -> Part:
        image, request = self.viewed(frame, name), frame.request
        if self.state.display.compare == "difference" and image.ndim == 3:
            image = self.maps.computed(f"{name} brightness", [image], (), lambda: brightness(image))
        return Part(request, image, stated(self.document.study(request.snapshot), request))

    def change_width(self, part: Part) -> float:
        """The window of a difference in grey levels; 0 for what is none."""
        if not part.is_difference:
            return 0.0
        work = lambda: np.array(widest(part))  # noqa: E731
        images = [part.image, part.other] if part.other is not None else []
        return self.state.display.change_width or float(self.maps.computed("change", images, (), work))

    def _pin_problem(self, pin: Pin) -> str:
        """Why a pin is not there."""
        reason = self.why_not(self.channels(pin.request)[0])
        return f"pin {pin.name} cannot be shown: {reason}" if reason else f"pin {pin.name} is being rendered"

    @property
    def busy(self) -> bool:
        """True while something is under way that will change what the window shows."""
        client, interface = self.client, self.interface
        return bool(
            client.busy
            or interface.animation
            or self.background.busy
            or self.guest.busy
            or self.neighbours.busy
            or self._regions.busy
        )

    def regions(self, part: Part) -> tuple[Region, ...] | None:
        """What the oracle of the study takes for what on a picture of it; None until that is known."""
        distribution = self.document.distribution
        if distribution is None or not distribution.study.instrument or part.request.layer is not None:
            return ()
        if part.request.snapshot != self.state.snapshot or part.spread:
            return ()  # its oracle may be another one
        return self._regions.of(part.image, distribution.study.instrument)

    def strokes(self, part: Part) -> tuple[Stroke, ...]:
        """What lies over a part of what is looked at: marks, and outlines where they are wanted and known."""
        found = self.regions(part) if self.state.display.outlines else ()
        return (*strokes_of_regions(found or ()), *strokes_of_marks(self.state.marks, part))

    def measurable(self) -> tuple[str, ...]:
        """Covariates of the current study that an instrument reads off a picture."""
        if self.document.distribution is None:
            return ()
        study = self.document.distribution.study
        names = {own.covariate for own in self.client.predictor.errors}
        if study.instrument:
            names |= set(instrument(study.instrument).COVARIATES)
        return tuple(name for name in study.condition_names if name in names)

    def errors_of(self, reader: str) -> dict[str, OwnError]:
        """An instrument's own error by covariate. The oracle goes by its name in the study."""
        if not reader:
            return {}
        own = self.client.predictor.errors if reader == PREDICTOR else instrument(reader).own_errors()
        return {error.covariate: error for error in own}

    def called(self, reader: str) -> str:
        """What people call an instrument."""
        return self.client.predictor.network if reader == PREDICTOR else f"{reader} oracle"

    def origin(self) -> Origin:
        """What the picture on the screen comes from; there must be one."""
        assert self.document.distribution is not None and self.client.shown is not None
        header, people = self.document.distribution.header, people_of(self.state)
        if people:
            return Origin.of(header, *people, more={"Over seeds": self.state.analysis.uncertainty})
        return Origin.of(header, self.whole(self.client.shown.request))

    def told(self, work: Callable[[], object]) -> None:
        """Do something; what goes wrong is told."""
        try:
            work()
        except MssgError as error:
            self.interface.note(str(error), bad=True)

    def open(self, path: str) -> None:
        """Open whatever a file is: a picture or scan of the user's, a snapshot, run or session."""
        if is_image(path):
            self.guest.open(path)
        else:
            self.document.open(path)

    def close(self) -> None:
        """End everything but a training started here."""
        self.guest.close()
        self.neighbours.close()
        self.background.close()
        self._regions.close()
        self.client.close()
