"""The stored picture in the window: a preview of the medians, and of nothing else."""

import io
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from explorer_app.distribution import TrainingDistribution
from explorer_app.document import Document
from explorer_app.render_client import RenderClient
from explorer_app.state import AppState, opened
from explorer_app.stored import stored_frame
from mssg.checkpoint.header import read_header


@pytest.fixture(scope="module")
def distribution(tiny_snapshot):
    return TrainingDistribution(read_header(tiny_snapshot))


@pytest.fixture
def request_of_medians(distribution):
    return opened(AppState(), distribution.path, distribution.defaults(), distribution.axes()).request


def with_preview(distribution, preview):
    return TrainingDistribution(replace(distribution.header, preview=preview))


def test_a_window_that_opens_shows_it_marked_as_stored(distribution, request_of_medians):
    frame = stored_frame(distribution, request_of_medians)
    assert frame is not None and frame.stored and frame.preview and frame.measured is None
    assert frame.image.shape == (32, 32) and frame.image.dtype == np.float32


def test_no_other_picture_is_taken_for_it(distribution, request_of_medians):
    for change in ({"seed": 1}, {"psi": 0.5}, {"precision": "float32"}, {"noise_mode": "none"}):
        assert stored_frame(distribution, replace(request_of_medians, **change)) is None
    (name, value), *rest = request_of_medians.covariates
    moved = replace(request_of_medians, covariates=((name, value + 0.1), *rest))
    assert stored_frame(distribution, moved) is None


def test_what_cannot_be_read_is_no_picture(distribution, request_of_medians):
    huge = io.BytesIO()
    Image.new("L", (64, 64)).save(huge, "PNG")
    for preview in (b"", b"no PNG", distribution.header.preview[:60], huge.getvalue()):
        assert stored_frame(with_preview(distribution, preview), request_of_medians) is None


def test_a_smaller_one_stands_on_the_pictures_own_pixels(distribution, request_of_medians):
    small = io.BytesIO()
    Image.new("L", (8, 8), 77).save(small, "PNG")
    frame = stored_frame(with_preview(distribution, small.getvalue()), request_of_medians)
    assert frame is not None and frame.image.shape == (32, 32) and np.all(frame.image == 77)


def test_the_client_shows_it_until_the_computed_one_comes(distribution, request_of_medians):
    client = RenderClient(threads=1)
    try:
        frame = stored_frame(distribution, request_of_medians)
        client.offer(frame)
        client.submit(request_of_medians)
        assert client.shown is frame and client.busy
    finally:
        client.close()


def hurried(snapshot):
    """A document that was opened as a window's first, and what it told."""
    told = []
    document = Document(lambda text, bad: told.append(text), lambda path: None)
    document.hurried = True
    assert document.open(snapshot)
    return document, told


def test_the_first_picture_does_not_wait_for_covariate_models(tiny_snapshot):
    document, told = hurried(tiny_snapshot)
    header = document.distribution.header
    assert stored_frame(document.distribution, document.state.request) is not None
    assert "models" not in vars(header)
    document.catch_up()
    assert "models" in vars(header) and document.distribution is not None and not told


def test_damaged_covariate_models_are_refused_after_the_first_picture(tiny_snapshot, tmp_path):
    content, path = tiny_snapshot.read_bytes(), tmp_path / "damaged.safetensors"
    path.write_bytes(content.replace(b'\\"members\\"', b'\\"numbers\\"'))
    assert path.read_bytes() != content
    document, told = hurried(path)
    document.catch_up()
    assert document.distribution is None and document.state == AppState()
    assert "covariate models are damaged" in told[0] and document.problem == told[0]
