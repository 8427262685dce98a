"""The picture of the medians in a header: what is drawn, read without torch, no part of the id."""

import base64
import hashlib
import io
import json

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import load_file, save_file

from mssg import assets
from mssg.checkpoint.header import read_header
from mssg.checkpoint.snapshot import load_snapshot
from mssg.errors import SnapshotError
from mssg.rendering.renderer import Renderer
from mssg.rendering.request import RenderRequest, to_uint8
from mssg.rendering.stored_picture import LARGEST, stored_picture

SHIPPED = sorted((assets.root() / "snapshots").glob("*.safetensors"))


def pixels(png: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(png)) as image:
        return np.asarray(image)


def drawn(renderer: Renderer) -> np.ndarray:
    image = renderer.render(RenderRequest()).image
    assert image is not None
    return to_uint8(image[0] if len(image) == 1 else np.moveaxis(image, 0, -1))


def rewritten(path, to, **changes):
    """The same snapshot with another description."""
    header = json.loads(read_metadata(path))
    header |= changes
    save_file(load_file(path), to, {"mssg": json.dumps({k: v for k, v in header.items() if v is not None})})
    return to


def read_metadata(path):
    from safetensors import safe_open

    with safe_open(str(path), "np") as file:
        return file.metadata()["mssg"]


def test_the_medians_are_stored_as_they_are_drawn(tiny_renderer):
    stored = pixels(tiny_renderer.header.preview)
    assert np.array_equal(stored, drawn(tiny_renderer)) and stored.std() > 0


def test_a_stored_picture_makes_no_other_model(tiny_snapshot, tmp_path):
    plain = rewritten(tiny_snapshot, tmp_path / "plain.safetensors", preview=None)
    assert read_header(plain).preview == b""
    digest = hashlib.sha256(plain.read_bytes()).hexdigest()[:12]
    assert read_header(plain).snapshot_id == digest == read_header(tiny_snapshot).snapshot_id
    other = rewritten(tiny_snapshot, tmp_path / "other.safetensors", progress={"kimg": 13.0})
    assert read_header(other).snapshot_id != digest


@pytest.mark.parametrize("preview", ["no base64!", "AAA", 7, ["x"]])
def test_what_is_no_picture_is_refused_in_words(tiny_snapshot, tmp_path, preview):
    broken = rewritten(tiny_snapshot, tmp_path / "broken.safetensors", preview=preview)
    with pytest.raises(SnapshotError, match="not a usable snapshot"):
        read_header(broken)


def test_none_where_no_medians_are_known(tiny_renderer):
    assert stored_picture(tiny_renderer.G, tiny_renderer.study, {}) == b""


def test_large_pictures_are_stored_smaller(make_snapshot, tiny_renderer, monkeypatch):
    monkeypatch.setattr("mssg.rendering.stored_picture.LARGEST", 16)
    header = tiny_renderer.header
    small = pixels(stored_picture(tiny_renderer.G, tiny_renderer.study, header.summary))
    blocks = pixels(header.preview).reshape(16, 2, 16, 2).mean((1, 3))
    assert small.shape == (16, 16) and np.abs(small - blocks).max() <= 1 and LARGEST == 256


@pytest.mark.parametrize("path", SHIPPED, ids=lambda p: p.stem)
def test_shipped_snapshots_hold_theirs(path):
    renderer = Renderer(load_snapshot(path))
    difference = pixels(renderer.header.preview).astype(int) - drawn(renderer)
    assert np.abs(difference).max() <= 1  # another processor may round differently
    assert len(base64.b64encode(renderer.header.preview)) < 20_000
