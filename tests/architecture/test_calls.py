"""What one batch calls, from its draw to the saved snapshot: from room to room calls go down."""

from __future__ import annotations

import sys
import threading
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from test_circles import ORDER, PACKAGES, ROOT, imported, module_name, modules, reachable

from mssg.training import launch
from tests.training.blob_study import write_blob_study

INTERFACES = {"covariates", "networks", "ops"}
"""Rooms where a module calls those above it: families of covariate models, layers of a generator, backends
of an operation. The caller knows what it asks for, not whom."""
OWN = tuple(f"{ROOT / package}/" for package in PACKAGES)


@pytest.mark.slow
def test_calls_of_a_batch_go_down(tmp_path):
    study, pairs = write_blob_study(tmp_path), set()
    names: dict[str, str] = {}

    def name(code_file: str) -> str:
        if code_file not in names:
            names[code_file] = module_name(Path(code_file)) if code_file.startswith(OWN) else ""
        return names[code_file]

    def note(frame: FrameType, event: str, _: Any) -> None:
        if event == "call" and (called := name(frame.f_code.co_filename)):
            caller = frame.f_back
            while caller and not name(caller.f_code.co_filename):
                caller = caller.f_back  # torch stands between, as it calls a layer's `forward`
            if caller:
                pairs.add((name(caller.f_code.co_filename), called))

    sys.setprofile(note)
    threading.setprofile(note)
    try:
        launch.start(study, tmp_path / "run", {"total_kimg": 0.016, "metrics": ()})
    finally:
        sys.setprofile(None)
        threading.setprofile(None)
    assert ("mssg.training.loop", "mssg.training.step") in pairs
    floors = {room: floor for floor, rooms in enumerate(ORDER) for room in rooms}
    rooms = {module: module.split(".")[1] for pair in pairs for module in pair}
    assert not [(a, b) for a, b in pairs if floors[rooms[a]] < floors[rooms[b]]]

    known = modules()
    graph = {module: imported(path, set(known)) for module, path in known.items()}
    inside = {(a, b) for a, b in pairs if rooms[a] == rooms[b] and a != b}
    assert {rooms[a] for a, b in inside if b not in reachable(graph, a)} <= INTERFACES
