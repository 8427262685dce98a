"""The render process: latest wins, cache, failures in words, restart after a kill, no torch on this side."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from multiprocessing import shared_memory

import numpy as np
import pytest

from explorer_app.picture import Latent, Picture, Probe
from explorer_app.population import Population
from explorer_app.ring import SLOTS, Ring
from explorer_app.worker import RenderService
from mssg.checkpoint.header import read_header

PATIENCE_S = 240


def wait(service: RenderService, until: Callable[[], object]) -> None:
    end = time.monotonic() + PATIENCE_S
    while not until():
        service.poll()
        assert time.monotonic() < end, (service.failed, list(service.errors.values())[:1])
        time.sleep(0.005)


@pytest.fixture(scope="module")
def service() -> Iterator[RenderService]:
    service = RenderService(threads=1)
    yield service
    service.close()


@pytest.fixture(scope="module")
def picture(tiny_snapshot) -> Picture:
    return Picture(str(tiny_snapshot), tuple(Population(read_header(tiny_snapshot)).defaults().items()))


def seeded(picture: Picture, seed: int) -> Picture:
    return replace(picture, latent=Latent(seed=seed))


def test_picture_is_what_the_renderer_draws_and_is_measured(service, picture, tiny_renderer):
    from mssg.rendering.request import RenderRequest

    service.want(picture)
    wait(service, lambda: service.frame(picture) and not service.frame(picture).preview)
    frame = service.frame(picture)
    expected = tiny_renderer.render(RenderRequest(seed=0, covariates=picture.values)).image
    assert np.allclose(frame.image, (expected[0] + 1) * 127.5, atol=0.02)
    wait(service, lambda: not service.busy)  # measured after it was shown
    assert set(service.frame(picture).measured["digits"]) >= {"thickness", "intensity", "slant"}
    wait(service, lambda: service.models[picture.snapshot].layers)
    assert service.models[picture.snapshot].layers[0].shape[1:] == (4, 4) and not service.busy


def test_a_preview_lies_on_the_full_picture_s_pixels():
    """Zoom, cursor and comparison do not jump when the full picture comes."""
    from explorer_app.engine import Engine, _enlarged
    from mssg import assets

    centres = (np.arange(16) + 0.5) / 16
    slope = _enlarged(np.tile(centres, (1, 16, 1)).astype(np.float32), 64)
    assert np.allclose(slope[0, :, 8:-8], (np.arange(8, 56) + 0.5) / 64, atol=0.25 / 64), (
        "a quarter of a pixel"
    )

    brain = str(assets.path("snapshots/brain.safetensors"))
    engine, picture = Engine(), Picture(brain, tuple(Population(read_header(brain)).defaults().items()))
    quick, full = (engine.render(picture, lambda: False, preview) for preview in (True, False))
    assert quick.preview and not full.preview and quick.image.shape == full.image.shape == (64, 64)
    assert np.corrcoef(quick.image.ravel(), full.image.ravel())[0, 1] > 0.9


def test_equal_pictures_are_answered_from_the_cache(service, picture):
    service.want(picture)
    wait(service, lambda: service.frame(picture))
    wait(service, lambda: not service.busy and service.counters.syntheses)
    wishes, syntheses = service.counters.wishes, service.counters.syntheses
    for _ in range(50):
        service.want(Picture(picture.snapshot, picture.values))
        service.poll()
    assert service.counters.wishes <= wishes + 1
    time.sleep(0.1)
    service.poll()
    assert service.counters.syntheses == syntheses and not service.busy


def test_latest_wish_wins_over_a_flood(service, picture):
    before = service.counters.frames
    for seed in range(100, 400):
        service.want(seeded(picture, seed))
        service.poll()
    last = seeded(picture, 399)
    wait(service, lambda: service.frame(last))
    assert service.counters.frames - before < 150  # most of the flood was never drawn


def test_an_input_in_every_frame_cancels_no_first_pixels(service, picture):
    """A drag faster than rendering: what is drawn on the way arrives, though it is never the latest wish."""
    seen, end = set(), time.monotonic() + 60
    for seed in itertools.count(70_000):
        service.want(seeded(picture, seed))
        service.poll()
        seen |= {service.latest.picture} if service.latest else set()
        if len(seen) >= 4:
            break
        assert time.monotonic() < end
        time.sleep(0.001)


def test_other_pictures_follow_the_main_one(service, picture):
    others = [seeded(picture, 500 + i) for i in range(6)]
    service.want(picture, others)
    wait(service, lambda: all(service.frame(p) for p in others))
    # A new main picture overtakes a queue that is not finished.
    more = [seeded(picture, 600 + i) for i in range(40)]
    service.want(picture, more)
    urgent = seeded(picture, 999)
    service.want(urgent, more)
    wait(service, lambda: service.frame(urgent))
    assert sum(service.frame(p) is not None for p in more) < 40
    wait(service, lambda: all(service.frame(p) for p in more))


def test_latent_blend_and_style_mixing_change_the_picture(service, picture):
    variants = [
        picture,
        replace(picture, latent=Latent(x=0.5)),
        replace(picture, latent=Latent(mix_seed=3, mix_layers=(0, 1))),
        replace(picture, latent=Latent(psi=0.0)),
        replace(picture, latent=Latent(noise_mode="none")),
    ]
    service.want(None, variants)
    wait(service, lambda: all(service.frame(p) for p in variants))
    images = [service.frame(p).image for p in variants]
    assert all(not np.array_equal(images[0], other) for other in images[1:4])
    everything = replace(picture, latent=Latent(mix_seed=3, mix_layers=tuple(range(32))))
    service.want(everything, [seeded(picture, 3)])
    wait(service, lambda: service.frame(everything) and service.frame(seeded(picture, 3)))
    assert np.allclose(service.frame(everything).image, service.frame(seeded(picture, 3)).image, atol=1e-3)


def test_layer_view_is_a_montage_of_channels(service, picture):
    layer = service.models[picture.snapshot].layers[1]
    probing = replace(picture, probe=Probe(layer.name, channel=0, count=1))
    service.want(probing)
    wait(service, lambda: service.frame(probing))
    frame = service.frame(probing)
    assert frame.image.shape == layer.shape[1:] and frame.statistics["max"] > frame.statistics["min"]
    assert frame.image.min() == 0 and frame.image.max() == 255 and not frame.measured


def test_a_bad_request_is_an_error_in_words_and_the_next_one_works(service, picture):
    bad = replace(picture, probe=Probe("no such layer"))
    service.want(bad)
    wait(service, lambda: bad in service.errors)
    assert "no such layer" in service.errors[bad] and not service.busy
    good = seeded(picture, 4242)
    service.want(good)
    wait(service, lambda: service.frame(good))


@pytest.mark.parametrize("damage", ["truncated", "missing", "nonsense"])
def test_bad_snapshots_are_refused_in_words(service, picture, tmp_path, tiny_snapshot, damage):
    path = tmp_path / f"{damage}.safetensors"
    if damage != "missing":
        path.write_bytes(tiny_snapshot.read_bytes()[:5000] if damage == "truncated" else b"nonsense" * 50)
    bad = replace(picture, snapshot=str(path))
    service.want(bad)
    wait(service, lambda: str(path) in service.failed)
    assert "snapshot" in service.failed[str(path)] and "Traceback" not in service.failed[str(path)]
    assert not service.busy


@pytest.mark.skipif(os.name != "posix", reason="signals")
def test_a_killed_process_is_restarted_and_asked_again(service, picture):
    first = service.pid
    os.kill(first, signal.SIGKILL)
    new = seeded(picture, 31337)
    service.want(new)
    wait(service, lambda: service.frame(new))
    assert service.pid != first and service.counters.restarts == 1 and service.notice


@pytest.mark.skipif(os.name != "posix", reason="shared memory files")
def test_closing_leaves_no_process_and_no_shared_memory(picture):
    service = RenderService(threads=1)
    pid, block = service.pid, service._ring.name
    service.close()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    with pytest.raises(FileNotFoundError):
        shared_memory.SharedMemory(name=block)


def test_ring_never_overwrites_what_was_not_read():
    import multiprocessing as mp

    consumed = mp.get_context("spawn").RawValue("q", 0)
    writer = Ring(None, consumed)
    reader = writer
    places = [writer.write(np.full((2, 3), i), lambda: False) for i in range(SLOTS)]
    with pytest.raises(InterruptedError):
        writer.write(np.zeros((2, 3)), lambda: True)
    assert [reader.read(*p)[0, 0] for p in places] == list(range(SLOTS))
    assert writer.write(np.zeros((2, 3)), lambda: True)[0] == 0
    with pytest.raises(ValueError, match="too large"):
        writer.write(np.zeros((2048, 2048, 3)), lambda: False)
    writer.close()


@pytest.mark.parametrize(
    "module", ["explorer_app.context", "explorer_app.export", "explorer_app.evaluation", "explorer_app.app"]
)
def test_the_windows_process_imports_no_torch(module, tiny_snapshot):
    code = f"""
import sys
import {module}
from explorer_app.population import Population
from mssg.checkpoint.header import read_header
p = Population(read_header({str(tiny_snapshot)!r}))
p.support(tuple(p.defaults().items()))
p.follow(p.start_drag("thickness", tuple(p.defaults().items())), 4.0)
print(sorted(m for m in ("torch", "matplotlib", "nibabel") if m in sys.modules))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
