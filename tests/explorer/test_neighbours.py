"""Real neighbours: where images come from, and which are nearest."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest

from explorer_app.neighbours import OTHER_LEVEL, Gallery, find_gallery, open_folder
from mssg import assets
from mssg.checkpoint.header import read_header
from mssg.errors import DataError


@pytest.fixture(scope="module")
def study(tiny_snapshot):
    return read_header(tiny_snapshot).study


@pytest.fixture(scope="module")
def gallery(tiny_study, tiny_snapshot, study) -> Gallery:
    return Gallery.open([tiny_study.parent / name for name in ("a", "b")], str(tiny_snapshot), study)


def test_the_nearest_are_those_of_least_distance_over_what_is_recorded(gallery, study):
    asked = {"thickness": 3.1, "intensity": 150.0, "slant": 4.0, "digit": 2.0}
    found = gallery.nearest(asked, 7)
    pooled = np.concatenate([s.values for s in gallery.sources])
    nearest = []
    for source in gallery.sources:
        of_person: dict[str, float] = {}
        for row in range(len(source)):
            terms = []
            for i, c in enumerate(study.conditions):
                value = source.values[row, i]
                if np.isnan(value):
                    continue
                if c.is_continuous:
                    spread = c.forward(pooled[np.isfinite(pooled[:, i]), i]).std()
                    terms.append((c.forward(value) - c.forward(asked[c.name])) / spread)
                else:
                    terms.append(OTHER_LEVEL * (value != asked[c.name]))
            distance = float(np.sqrt(np.mean(np.square(terms))))
            person = str(source.subjects[row])
            of_person[person] = min(distance, of_person.get(person, np.inf))
        nearest += of_person.values()
    assert [n.distance for n in found] == pytest.approx(sorted(nearest)[:7])
    image, source = gallery.image(found[0]), gallery.sources[found[0].source]
    assert np.array_equal(image.pixels, source.images[found[0].row]) and image.kind == "real"
    assert dict(image.covariates) == found[0].values and image.about.startswith(
        f"source {source.path.name}, "
    )


def test_slices_come_from_the_nearest_place_and_one_of_each_person(make_heads, tmp_path):
    header = read_header(make_heads())
    study, rows = header.study, 30
    folder = tmp_path / "heads"
    folder.mkdir()
    rng = np.random.default_rng(0)
    np.save(folder / "images.npy", rng.integers(1, 255, (rows, 1, 32, 32), dtype=np.uint8))
    names = [c.name for c in study.covariates if c.is_continuous and c.name != study.position]
    lines = [",".join(["subject", "session", "split", *names, study.position])]
    for row in range(rows):
        values = [f"{rng.uniform(2, 4):.3f}" for _ in names]
        lines.append(",".join([f"p{row // 3}", "", "test", *values, str(-10 + 10 * (row % 3))]))
    (folder / "table.csv").write_text("\n".join(lines) + "\n")
    (folder / "source.json").write_text(json.dumps({"format_version": 1}))
    found = open_folder(str(folder), str(header.path), study)
    near = found.nearest({**dict.fromkeys(names, 3.0), study.position: 3.0}, 20)
    assert len(near) == 10 and {n.values[study.position] for n in near} == {0.0}
    assert [n.distance for n in near] == sorted(n.distance for n in near)


def test_a_run_shows_the_data_it_was_trained_on(tiny_study, tiny_snapshot, study, tmp_path):
    run = tmp_path / "run"
    (run / "snapshots").mkdir(parents=True)
    snapshot = shutil.copy(tiny_snapshot, run / "snapshots" / "000012.safetensors")
    shutil.copy(tiny_study, run / "study.toml")
    config = {"format_version": 1, "study_folder": str(tiny_study.parent), "train": {}, "init_from": ""}
    (run / "config.json").write_text(json.dumps(config))
    found = find_gallery(str(snapshot), study)
    assert found is not None and [s.path.name for s in found.sources] == ["a", "b"] and not found.shipped
    (run / "config.json").write_text(json.dumps(config | {"study_folder": str(tmp_path)}))
    assert find_gallery(str(snapshot), study) is None


def test_the_shipped_gallery_is_of_phantoms_and_says_so():
    for name in ("brain-64", "brain"):
        header = read_header(assets.path(f"snapshots/{name}.safetensors"))
        found = find_gallery(str(header.path), header.study)
        assert found is not None and found.shipped and len(found) == 160 and "not patients" in found.origin
    near = found.nearest({"age": 70.0, "ventricle": 30.0, "grey_matter": 760.0}, 3)
    assert found.image(near[0]).kind == "semi-synthetic" and "never saw" in found.image(near[0]).about
    heads = read_header(assets.path("snapshots/brain-heads.safetensors"))
    stacks = find_gallery(str(heads.path), heads.study)
    near = stacks.nearest({"age": 70.0, "ventricle": 30.0, "grey_matter": 760.0, "position_mm": -19.0}, 3)
    assert stacks.shipped and {n.values["position_mm"] for n in near} == {-15.0}
    assert len({stacks.sources[0].subjects[n.row] for n in near}) == 3
    eyes = read_header(assets.path("snapshots/fundus.safetensors"))
    photographs = find_gallery(str(eyes.path), eyes.study)
    (near,) = photographs.nearest({"age": 60.0, "eye": 1.0, "cataract": 0.0, "spherical_power": -3.0}, 1)
    assert photographs.image(near).levels.shape == (64, 64, 3) and near.values["eye"] == 1.0


def test_a_folder_that_is_no_source_is_refused(tmp_path, tiny_snapshot, study):
    with pytest.raises(DataError, match="no prepared source"):
        open_folder(str(tmp_path), str(tiny_snapshot), study)
