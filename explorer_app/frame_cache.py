"""The pictures that came, as many as fit, and the last preview."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import replace

from explorer_app.messages import Frame, MeasuredPicture, Picture

CACHE_BYTES = 32 * 2**20  # of pictures not wanted at the moment; those wanted are kept however many
FRAME_BYTES = 8192  # of a frame without its pixels


class FrameCache:
    """Frames by picture; those used longest ago go first.

    Attributes:
        bytes: Of the frames kept.
    """

    def __init__(self) -> None:
        self._frames: OrderedDict[Picture, Frame] = OrderedDict()
        self.bytes = 0
        self._preview: Frame | None = None

    def get(self, request: Picture, preview: bool = False) -> Frame | None:
        """The full frame of a picture; where there is none, the `preview` of it if that will do."""
        found = self._frames.get(request)
        if found is None and preview and self._preview is not None and self._preview.request == request:
            return self._preview
        return found

    def touch(self, pictures: Iterable[Picture]) -> None:
        """These are used now."""
        for request in pictures:
            if request in self._frames:
                self._frames.move_to_end(request)

    def put(self, frame: Frame, keep: set[Picture | None]) -> None:
        """Keep a frame; others go where there is no room for it, but none of those to `keep`."""
        if frame.preview:
            self._preview = frame
            return
        if self._preview is not None and self._preview.request == frame.request:
            self._preview = None
        old = self._frames.pop(frame.request, None)
        self.bytes += _bytes(frame) - (_bytes(old) if old else 0)
        self._frames[frame.request] = frame
        if self.bytes <= CACHE_BYTES:
            return
        for request in list(self._frames):
            if self.bytes <= CACHE_BYTES:
                break
            if request not in keep:
                self.bytes -= _bytes(self._frames.pop(request))

    def measure(self, answer: MeasuredPicture) -> None:
        """Add what instruments read to a frame that is still there."""
        frame = self._frames.get(answer.request)
        if frame is not None:
            self._frames[answer.request] = replace(
                frame, measured=answer.measured, timings_ms=answer.timings_ms
            )

    def forget_measurements(self) -> None:
        """Every picture is to be measured anew."""
        for request, frame in self._frames.items():
            self._frames[request] = replace(frame, measured=None)


def _bytes(frame: Frame) -> int:
    return frame.image.nbytes + FRAME_BYTES
