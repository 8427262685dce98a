"""The render process: latest wins, cache, failures in words, restart after a kill, no torch on this side."""

from __future__ import annotations

import itertools
import multiprocessing as mp
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from multiprocessing import shared_memory
from types import SimpleNamespace

import numpy as np
import pytest

from explorer_app import ring
from explorer_app.distribution import TrainingDistribution
from explorer_app.render_client import RenderClient
from explorer_app.request_edits import channel_requests
from explorer_app.ring import SLOTS, Ring
from explorer_app.state import Display
from explorer_app.viewing import viewed
from mssg.checkpoint.header import read_header
from mssg.errors import RunError
from mssg.files import reserve
from mssg.rendering.request import RenderRequest

pytestmark = pytest.mark.slow

PATIENCE_S = 240


def torch_says(expression: str) -> bool:
    import torch

    return bool(eval(expression, {"torch": torch}))


def wait(client: RenderClient, until: Callable[[], object]) -> None:
    end = time.monotonic() + PATIENCE_S
    while not until():
        client.poll()
        assert time.monotonic() < end, (client.failed, list(client.errors.values())[:1])
        time.sleep(0.005)


def ask(client: RenderClient, main: RenderRequest | None, others: Iterable[RenderRequest] = ()) -> None:
    """What the window does in a frame."""
    client.request(others)
    client.submit(main)


@pytest.fixture(scope="module")
def client() -> Iterator[RenderClient]:
    client = RenderClient(threads=1)
    yield client
    client.close()


@pytest.fixture(scope="module")
def picture(tiny_snapshot) -> RenderRequest:
    return whole(str(tiny_snapshot))


def whole(snapshot: str) -> RenderRequest:
    """The picture of the medians."""
    defaults = TrainingDistribution(read_header(snapshot)).defaults()
    return RenderRequest(snapshot, covariates=tuple(defaults.items()))


def seeded(picture: RenderRequest, seed: int) -> RenderRequest:
    return replace(picture, seed=seed)


def test_picture_is_what_the_renderer_draws_and_is_measured(client, picture, tiny_renderer):
    ask(client, picture)
    wait(client, lambda: client.frame(picture) and not client.frame(picture).preview)
    frame = client.frame(picture)
    expected = tiny_renderer.render(RenderRequest(seed=0, covariates=picture.covariates)).image
    assert np.allclose(frame.image, (expected[0] + 1) * 127.5, atol=0.02)
    wait(client, lambda: not client.busy)  # measured after it was shown
    assert set(client.frame(picture).measured["digits"]) >= {"thickness", "intensity", "slant"}
    wait(client, lambda: client.models[picture.snapshot].layers)
    assert client.models[picture.snapshot].layers[0].shape[1:] == (4, 4) and not client.busy


def test_a_preview_lies_on_the_full_picture_s_pixels():
    """Zoom, cursor and comparison do not jump when the full picture comes."""
    from explorer_app.engine import Engine, _enlarged
    from mssg import assets

    centres = (np.arange(16) + 0.5) / 16
    slope = _enlarged(np.tile(centres, (1, 16, 1)).astype(np.float32), 64)
    assert np.allclose(slope[0, :, 8:-8], (np.arange(8, 56) + 0.5) / 64, atol=0.25 / 64), (
        "a quarter of a pixel"
    )

    brain = str(assets.path("snapshots/brain-64.safetensors"))
    engine, picture = (Engine(), whole(brain))
    quick, full = (engine.render(picture, lambda: False, preview) for preview in (True, False))
    assert quick.preview and not full.preview and quick.image.shape == full.image.shape == (64, 64)
    assert np.corrcoef(quick.image.ravel(), full.image.ravel())[0, 1] > 0.9


def test_equal_pictures_are_answered_from_the_cache(client, picture):
    ask(client, picture)
    wait(client, lambda: client.frame(picture))
    wait(client, lambda: not client.busy and client.counters.syntheses)
    requests, syntheses = client.counters.requests, client.counters.syntheses
    for _ in range(50):
        ask(client, replace(picture))
        client.poll()
    assert client.counters.requests <= requests + 1
    time.sleep(0.1)
    client.poll()
    assert client.counters.syntheses == syntheses and not client.busy


def test_a_picture_that_is_there_is_shown_in_the_frame_that_asks_for_it(client, picture):
    first, second = seeded(picture, 71), seeded(picture, 72)
    ask(client, first, [second])
    wait(client, lambda: client.shown and client.shown.request == first and not client.busy)
    client.show(second)
    assert client.shown.request == second
    client.show(seeded(picture, 73))  # is not there: the last one stays
    assert client.shown.request == second


def test_pictures_drawn_together_come_in_one_message(client, picture):
    others = [seeded(picture, seed) for seed in range(500, 508)]
    taken = client._link.take
    messages = []
    client._link.take = lambda: [messages.append(found) or found for found in taken()]
    ask(client, None, others)
    wait(client, lambda: all(client.frame(request) for request in others))
    client._link.take = taken
    brought = [answer.requests for answer, images in messages if images is not None]
    assert brought == [tuple(others)]
    alone = seeded(picture, 900)
    ask(client, alone)
    wait(client, lambda: client.frame(alone))
    assert client.frame(alone).image.shape == client.frame(others[0]).image.shape


def test_the_latest_request_wins_over_a_flood(client, picture):
    before = client.counters.frames
    for seed in range(100, 400):
        ask(client, seeded(picture, seed))
        client.poll()
    last = seeded(picture, 399)
    wait(client, lambda: client.frame(last))
    assert client.counters.frames - before < 150  # most of the flood was never drawn


def test_an_input_in_every_frame_cancels_no_first_pixels(client, picture):
    """In a drag faster than rendering, what is drawn on the way arrives, never being the latest."""
    seen, end = set(), time.monotonic() + 60
    for seed in itertools.count(70_000):
        ask(client, seeded(picture, seed))
        client.poll()
        seen |= {client._latest.request} if client._latest else set()
        if len(seen) >= 4:
            break
        assert time.monotonic() < end
        time.sleep(0.001)


def test_other_pictures_follow_the_main_one(client, picture):
    others = [seeded(picture, 500 + i) for i in range(6)]
    ask(client, picture, others)
    wait(client, lambda: all(client.frame(p) for p in others))
    # A new main picture overtakes a queue that is not finished.
    more = [seeded(picture, 600 + i) for i in range(40)]
    ask(client, picture, more)
    urgent = seeded(picture, 999)
    ask(client, urgent, more)
    wait(client, lambda: client.frame(urgent))
    assert sum(client.frame(p) is not None for p in more) < 40
    wait(client, lambda: all(client.frame(p) for p in more))


def test_latent_blend_and_style_mixing_change_the_picture(client, picture):
    variants = [
        picture,
        replace(picture, blend=((0, 0.5), (1, 0.5))),
        replace(picture, mix_seed=3, mix_layers=(0, 1)),
        replace(picture, psi=0.0),
        replace(picture, noise_mode="none"),
    ]
    ask(client, None, variants)
    wait(client, lambda: all(client.frame(p) for p in variants))
    images = [client.frame(p).image for p in variants]
    assert all(not np.array_equal(images[0], other) for other in images[1:4])
    everything = replace(picture, mix_seed=3, mix_layers=tuple(range(client.models[picture.snapshot].num_ws)))
    ask(client, everything, [seeded(picture, 3)])
    wait(client, lambda: client.frame(everything) and client.frame(seeded(picture, 3)))
    assert np.allclose(client.frame(everything).image, client.frame(seeded(picture, 3)).image, atol=1e-3)


def test_a_layer_is_looked_at_as_a_montage_of_its_channels(client, picture):
    layer = next(la for la in client.models[picture.snapshot].layers if la.shape[0] > 8)
    requests = channel_requests(replace(picture, layer=layer.name, channel=1), 4, layer.shape[0])
    assert [r.channel for r in requests] == [1, 2, 3, 4]
    ask(client, requests[0], requests[1:])
    wait(client, lambda: all(client.frame(r) for r in requests))
    images = [client.frame(r).image for r in requests]
    assert images[0].shape == layer.shape[1:] and not client.frame(requests[0]).measured
    assert not np.array_equal(images[0], images[1])
    tiles = viewed(images, requests[0], Display(channels=4))
    assert tiles.shape == (2 * layer.shape[1], 2 * layer.shape[2])
    assert tiles.min() == 0 and tiles.max() == 255
    plain = viewed(images[:1], requests[0], Display(normalise=False, gain_db=20))
    assert np.allclose(plain, (images[0] * 10 + 1) * 127.5)
    assert len(channel_requests(requests[0], 25, layer.shape[0])) == layer.shape[0] - 1


def test_a_bad_request_is_an_error_in_words_and_the_next_one_works(client, picture):
    bad = replace(picture, layer="no such layer")
    ask(client, bad)
    wait(client, lambda: bad in client.errors)
    assert "no such layer" in client.errors[bad] and not client.busy
    good = seeded(picture, 4242)
    ask(client, good)
    wait(client, lambda: client.frame(good))


@pytest.mark.parametrize("damage", ["truncated", "missing", "nonsense"])
def test_bad_snapshots_are_refused_in_words(client, picture, tmp_path, tiny_snapshot, damage):
    path = tmp_path / f"{damage}.safetensors"
    if damage != "missing":
        path.write_bytes(tiny_snapshot.read_bytes()[:5000] if damage == "truncated" else b"nonsense" * 50)
    bad = replace(picture, snapshot=str(path))
    ask(client, bad)
    wait(client, lambda: str(path) in client.failed)
    assert "snapshot" in client.failed[str(path)] and "Traceback" not in client.failed[str(path)]
    assert not client.busy


@pytest.mark.skipif(os.name != "posix", reason="signals")
def test_a_killed_process_is_restarted_and_asked_again(client, picture):
    first = client.pid
    os.kill(first, signal.SIGKILL)
    new = seeded(picture, 31337)
    ask(client, new)
    wait(client, lambda: client.frame(new))
    assert client.pid != first and client.counters.restarts == 1 and client.notice


def test_the_device_reaches_the_render_process(client, picture):
    ask(client, picture)
    wait(client, lambda: client.models.get(picture.snapshot))
    here = "cuda" if torch_says("torch.cuda.is_available()") else "cpu"
    assert client.models[picture.snapshot].device.startswith(here)  # auto: the best here


@pytest.mark.parametrize(("device", "available"), [("cpu", "True"), ("cuda", "torch.cuda.is_available()")])
def test_a_device_is_used_or_refused_in_words(picture, device, available):
    client = RenderClient(threads=1, device=device)
    try:
        ask(client, picture)
        wait(client, lambda: client.broken or client.frame(picture))
        if torch_says(available):
            assert client.models[picture.snapshot].device.startswith(device)
        else:
            assert "not a device of this machine" in client.broken and not client.busy
    finally:
        client.close()


def test_another_device_takes_over_where_the_first_cannot_draw(picture):
    client = RenderClient(threads=1, device="cuda:99")
    try:
        ask(client, picture)
        wait(client, lambda: client.broken)
        assert list(client.devices)[-1] == "cpu" and "1 thread" in client.devices["cpu"]
        client.use_device("cpu")
        ask(client, picture)
        wait(client, lambda: client.frame(picture))
        assert client.models[picture.snapshot].device == "cpu" and not client.broken
        assert client.counters.restarts == 0 and not client.notice
        before, pid = client.frame(picture), client.pid
        client.use_device("cpu")  # chosen already
        assert client.pid == pid and client.frame(picture) is before
        client.use_device("auto")
        assert client.pid != pid and client.frame(picture) is None  # other devices have other last bits
    finally:
        client.close()


@pytest.mark.cuda
@pytest.mark.skipif(not torch_says("torch.cuda.is_available()"), reason="no GPU here")
def test_a_gpu_draws_the_same_within_a_grey_level(client, picture):
    """The CPU's picture, the GPU's own, and the GPU's in float32 throughout."""
    images = {}
    for device in ("cpu", "cuda:0"):
        client.use_device(device)
        for request in (picture, replace(picture, precision="float32")):
            ask(client, request)
            wait(client, lambda request=request: client.frame(request))
            images[device, request.precision] = client.frame(request).image
        assert client.models[picture.snapshot].device == device
    for precision in ("auto", "float32"):
        assert np.abs(images["cuda:0", precision] - images["cpu", "float32"]).max() <= 1.0


@pytest.mark.skipif(os.name != "posix", reason="shared memory files")
def test_closing_leaves_no_process_and_no_shared_memory(picture):
    client = RenderClient(threads=1)
    pid, block = client.pid, client._link.ring.name
    client.close()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    with pytest.raises(FileNotFoundError):
        shared_memory.SharedMemory(name=block)


class Waits(Exception):
    """The writer has found no free slot."""


@pytest.fixture
def impatient(monkeypatch):
    """A writer that would wait raises `Waits`."""

    def sleep(seconds):
        raise Waits

    monkeypatch.setattr(ring, "time", SimpleNamespace(sleep=sleep))


@pytest.mark.usefixtures("impatient")
def test_ring_never_overwrites_what_was_not_read():
    consumed = mp.get_context("spawn").RawValue("q", 0)
    writer = Ring(None, consumed)
    reader = writer
    places = [writer.write(np.full((2, 3), i)) for i in range(SLOTS)]
    with pytest.raises(Waits):
        writer.write(np.zeros((2, 3)))
    assert [reader.read(*p)[0, 0] for p in places] == list(range(SLOTS))
    assert writer.write(np.zeros((2, 3)))[0] == 0
    with pytest.raises(ValueError, match="too large"):
        writer.write(np.zeros((2048, 2048, 3)))
    writer.close()


@pytest.mark.usefixtures("impatient")
@pytest.mark.skipif(not ring.SHARED.is_dir(), reason="shared memory is no file system here")
def test_a_ring_takes_the_room_there_is_and_keeps_it(monkeypatch):
    """A container has 64 MiB of shared memory by default, and others use it too."""
    room, before = 3.5 * ring.SLOT_BYTES, set(ring.SHARED.iterdir())

    def limited(path, error):
        if path.stat().st_size > room:
            raise error("cannot be written: No space left on device", file=path)
        reserve(path, error)

    monkeypatch.setattr(ring, "reserve", limited)
    consumed = mp.get_context("spawn").RawValue("q", 0)
    writer, image = Ring(None, consumed), np.ones((2, 3))
    reader = Ring(writer.name, consumed)
    assert writer.slots == reader.slots == 3
    assert (ring.SHARED / writer.name).stat().st_blocks * 512 >= 3 * ring.SLOT_BYTES
    places = [writer.write(image * i) for i in range(3)]
    with pytest.raises(Waits):
        writer.write(image)
    assert [reader.read(*place)[0, 0] for place in places] == [0, 1, 2]
    reader.close()
    writer.close()
    room = 1.5 * ring.SLOT_BYTES
    with pytest.raises(RunError, match=r"/dev/shm: no shared memory.*32 MiB.*--shm-size"):
        Ring(None, consumed)
    assert set(ring.SHARED.iterdir()) <= before


@pytest.mark.parametrize(
    "module", ["explorer_app.context", "explorer_app.export", "explorer_app.evaluation", "explorer_app.app"]
)
def test_the_windows_process_imports_no_torch(module, tiny_snapshot):
    code = f"""
import sys
import {module}
from explorer_app import ring
from explorer_app.distribution import TrainingDistribution
from mssg.checkpoint.header import read_header
p = TrainingDistribution(read_header({str(tiny_snapshot)!r}))
p.support(tuple(p.defaults().items()))
p.follow(p.start_drag("thickness", tuple(p.defaults().items())), 4.0)
print(sorted(m for m in ("torch", "matplotlib", "nibabel") if m in sys.modules))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
