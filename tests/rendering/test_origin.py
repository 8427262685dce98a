"""What a snapshot says its training images are."""

from __future__ import annotations

from dataclasses import replace

from mssg import assets
from mssg.checkpoint.header import read_header
from mssg.rendering.image_files import describe
from mssg.rendering.request import RenderRequest


def test_shipped_snapshots_state_what_they_were_trained_on_and_so_do_pictures():
    for path in sorted((assets.root() / "snapshots").glob("*.safetensors")):
        header = read_header(path)
        assert header.origin, path
        assert describe(header, [RenderRequest()], [{}], None, "mssg generate")["TrainedOn"] == header.origin


def test_other_snapshots_state_what_their_sources_do(tiny_snapshot):
    header = read_header(tiny_snapshot)
    assert header.origin == ""
    assert "TrainedOn" not in describe(header, [RenderRequest()], [{}], None, "mssg generate")
    stated = replace(header, summary={**header.summary, "origin": "semi-synthetic: strokes"})
    assert stated.origin == "semi-synthetic: strokes"
