"""Prepared sources: round trip, and a message for everything that can be wrong with one."""

import json
from dataclasses import replace

import numpy as np
import pytest

from mssg.data.dataset import PackedSource, open_sources
from mssg.data.dataset_writer import write_packed
from mssg.errors import DataError, UsageError
from mssg.study.covariate import Covariate
from tests.data.example_sources import SIDE, SIZES, make_images, make_table


def test_what_is_written_is_read_back(folders, study):
    north, south = open_sources(study, verify=True)
    n, table = SIZES["north"], make_table("north", SIZES["north"])
    np.testing.assert_array_equal(north.images, make_images(n))
    assert isinstance(north.images, np.memmap) and len(north) == n and north.name == "north"
    np.testing.assert_allclose(north.values[:, study.index("age")], table["age"])
    np.testing.assert_array_equal(north.values[:, study.index("sex")], table["sex"])
    expected = [study.covariate("site").parse(s) for s in make_table("south", SIZES["south"])["site"]]
    np.testing.assert_array_equal(south.values[:, study.index("site")], expected)
    np.testing.assert_allclose(north.table["truth"], table["truth"], rtol=1e-6)
    assert north.subjects.tolist() == table["subject"]


def test_only_what_a_source_observes_is_seen(folders, study):
    north, south = open_sources(study)
    assert north.observed.tolist() == [True, True, False] and south.observed.tolist() == [True, False, True]
    assert np.isnan(north.values[:, 2]).all() and np.isnan(south.values[:, 1]).all()
    assert set(north.columns(study)) == {"age", "sex"}
    assert "site" in north.table  # kept for evaluation


def test_a_share_leaves_training_people_out_and_nobody_else(folders, study):
    halved = replace(study, sources=tuple(replace(s, share=0.5) for s in study.sources))
    seen: dict[str, bool] = {}
    for whole, half in zip(open_sources(study), open_sources(halved)):
        for split in ("val", "test"):
            assert np.array_equal(whole.rows(split), half.rows(split))
        kept = set(half.subjects[half.rows("train")].tolist())
        people = set(whole.subjects[whole.rows("train")].tolist())
        assert kept < people and 0.2 < len(kept) / len(people) < 0.8
        for person in people:  # one decision a person, whichever source
            assert seen.setdefault(person, person in kept) == (person in kept)
        rows = set(half.rows("train").tolist())
        assert all(row in rows for row in whole.rows("train").tolist() if whole.subjects[row] in kept)


def test_splits_partition_the_rows(folders, study):
    north, _ = open_sources(study)
    rows = np.concatenate([north.rows(s) for s in ("train", "val", "test")])
    assert sorted(rows.tolist()) == list(range(SIZES["north"]))
    assert len(north.columns(study, "val")["age"]) == north.rows("val").size
    with pytest.raises(UsageError, match=r"train \| val \| test"):
        north.rows("training")


def test_the_source_is_a_value_where_the_study_conditions_on_it(folders, study):
    _, south = open_sources(replace(study, condition_on_source=True))
    assert (south.values[:, -1] == 1).all() and south.observed[-1]


def test_source_json_says_what_is_there(folders):
    info = json.loads((folders / "north" / "source.json").read_text())
    assert info["recipe"] == "test" and info["images"] == {
        "count": 60,
        "channels": 1,
        "height": SIDE,
        "width": SIDE,
    }
    assert sum(info["counts"].values()) == 60 and set(info["sha256"]) == {"images.npy", "table.csv"}


def test_images_may_come_one_at_a_time(tmp_path, study):
    write_packed(tmp_path / "north", iter(make_images(20)), make_table("north", 20), {})
    np.testing.assert_array_equal(PackedSource.open(tmp_path / "north", study, 0).images, make_images(20))


def test_writing_replaces_a_source_but_nothing_else(folders):
    write_packed(folders / "north", make_images(9), make_table("north", 9), {})
    assert len(np.load(folders / "north" / "images.npy")) == 9
    (folders / "mine").mkdir()
    (folders / "mine" / "thesis.txt").write_text("dear")
    with pytest.raises(DataError, match="exists and is no prepared source"):
        write_packed(folders / "mine", make_images(9), make_table("north", 9), {})
    assert (folders / "mine" / "thesis.txt").read_text() == "dear"


def test_a_place_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match=r"file.*cannot be written"):
        write_packed(tmp_path / "file" / "north", make_images(9), make_table("north", 9), {})


def broken_image(images):
    yield from images[:3]
    raise RuntimeError("the disk is full")


def test_a_failed_write_leaves_what_was_there(folders):
    before = (folders / "north" / "images.npy").read_bytes()
    with pytest.raises(RuntimeError):
        write_packed(folders / "north", broken_image(make_images(9)), make_table("north", 9), {})
    assert (folders / "north" / "images.npy").read_bytes() == before
    assert sorted(p.name for p in folders.iterdir()) == ["north", "south"]


@pytest.mark.parametrize(
    ("images", "change", "message"),
    [
        (make_images(8), {}, "do not fit"),
        (make_images(10), {}, "do not fit"),
        (make_images(9).astype(np.float32), {}, "do not fit"),
        (make_images(9)[:, 0], {}, "do not fit"),
        (make_images(9), {"age": [1.0]}, "another length"),
        (make_images(9), {"split": ["train"] * 8 + ["later"]}, "unknown split"),
        (make_images(9), {"subject": ["same"] * 9, "split": ["train"] * 8 + ["test"]}, "in two splits"),
    ],
)
def test_what_cannot_be_a_source_is_not_written(tmp_path, images, change, message):
    with pytest.raises(DataError, match=message):
        write_packed(tmp_path / "out", images, make_table("north", 9) | change, {})
    assert not list(tmp_path.iterdir())


def edit_table(folder, edit):
    path = folder / "table.csv"
    path.write_text(edit(path.read_text()))


def drop_column(text: str, name: str) -> str:
    rows = [line.split(",") for line in text.splitlines()]
    at = rows[0].index(name)
    return "\n".join(",".join(c for i, c in enumerate(row) if i != at) for row in rows)


def set_cell(text: str, name: str, value: str, lines=(2,)) -> str:
    rows = [line.split(",") for line in text.splitlines()]
    for line in lines:
        rows[line - 1][rows[0].index(name)] = value
    return "\n".join(",".join(row) for row in rows)


DAMAGE = {
    "no images": (lambda f: (f / "images.npy").unlink(), ["images.npy", "no such file", "mssg prepare"]),
    "no table": (lambda f: (f / "table.csv").unlink(), ["table.csv", "no such file"]),
    "no info": (lambda f: (f / "source.json").unlink(), ["source.json", "no such file"]),
    "not an array": (lambda f: (f / "images.npy").write_text("hello"), ["images.npy", "cannot be read"]),
    "cut array": (
        lambda f: (f / "images.npy").write_bytes((f / "images.npy").read_bytes()[:900]),
        ["images.npy", "cannot be read"],
    ),
    "pickled array": (
        lambda f: np.save(f / "images.npy", np.array([{}], object), allow_pickle=True),
        ["images.npy", "cannot be read"],
    ),
    "float images": (
        lambda f: np.save(f / "images.npy", np.zeros((60, 1, SIDE, SIDE), np.float32)),
        ["images.npy", "float32 [60, 1, 8, 8]", "uint8 [N, 1, 8, 8]"],
    ),
    "other resolution": (
        lambda f: np.save(f / "images.npy", np.zeros((60, 1, 16, 16), np.uint8)),
        ["uint8 [60, 1, 16, 16]", "resolution"],
    ),
    "other channels": (
        lambda f: np.save(f / "images.npy", np.zeros((60, 3, SIDE, SIDE), np.uint8)),
        ["[60, 3, 8, 8]"],
    ),
    "fewer images": (
        lambda f: np.save(f / "images.npy", make_images(59)),
        ["table.csv", "60 rows", "59 (one an image)"],
    ),
    "no column": (
        lambda f: edit_table(f, lambda t: drop_column(t, "sex")),
        ["table.csv: sex", "observed covariate has no column", "observes"],
    ),
    "no subject": (
        lambda f: edit_table(f, lambda t: drop_column(t, "subject")),
        ["subject", "column is missing"],
    ),
    "text": (
        lambda f: edit_table(f, lambda t: set_cell(t, "age", "old", (7,))),
        ["line 7, age", "'old'", "years"],
    ),
    "infinite": (lambda f: edit_table(f, lambda t: set_cell(t, "age", "inf")), ["line 2, age", "'inf'"]),
    "binary": (lambda f: edit_table(f, lambda t: set_cell(t, "sex", "2")), ["line 2, sex", "'2'", "0 or 1"]),
    "all missing": (
        lambda f: edit_table(
            f, lambda t: set_cell(set_cell(t, "age", "", range(2, 62)), "sex", "", range(2, 62))
        ),
        ["every value", "age, sex"],
    ),
    "short row": (lambda f: edit_table(f, lambda t: t + "a,b\n"), ["line 62", "wrong number of cells"]),
    "twice": (
        lambda f: edit_table(f, lambda t: t.replace("truth", "age", 1)),
        ["line 1", "repeated column name", "'age'"],
    ),
    "empty table": (lambda f: (f / "table.csv").write_text(""), ["table.csv", "is empty"]),
    "binary table": (lambda f: (f / "table.csv").write_bytes(b"\xff\xfe\x00"), ["cannot be read as CSV"]),
    "split": (
        lambda f: edit_table(f, lambda t: set_cell(t, "split", "holdout")),
        ["line 2, split", "'holdout'", "train | val | test"],
    ),
    "info not JSON": (lambda f: (f / "source.json").write_text("{"), ["source.json", "JSON"]),
    "version": (
        lambda f: (f / "source.json").write_text('{"format_version": 99}'),
        ["format_version", "99", "Prepare"],
    ),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_damage_is_named(folders, study, name):
    damage, expected = DAMAGE[name]
    damage(folders / "north")
    with pytest.raises(DataError) as error:
        open_sources(study)
    for part in (*expected, str(folders / "north")):
        assert part in str(error.value)


def test_an_unknown_level_is_named(folders, study):
    edit_table(folders / "south", lambda t: set_cell(t, "site", "w", (4,)))
    with pytest.raises(DataError, match=r"line 4, site: unknown level. Found 'w'. Expected x \| y \| z"):
        open_sources(study)


def test_a_file_changed_afterwards_is_found_when_verifying(folders, study):
    edit_table(folders / "north", lambda t: set_cell(t, "age", "55"))
    open_sources(study)
    with pytest.raises(DataError, match="differs from what was prepared"):
        open_sources(study, verify=True)


@pytest.mark.parametrize("path", ["nowhere", "study.toml"])
def test_a_path_that_is_no_folder_is_named(folders, study, path):
    (folders / "study.toml").write_text("")
    sources = (replace(study.sources[0], path=path), study.sources[1])
    with pytest.raises(DataError, match=rf"{path}.*prepared source.*mssg prepare"):
        open_sources(replace(study, sources=sources))


def test_sources_must_agree_on_a_subjects_split(folders, study):
    text = (folders / "north" / "table.csv").read_text().splitlines()
    at = next(i for i, line in enumerate(text) if ",train," in line)
    shared = text[at].split(",")[0]
    edit_table(folders / "south", lambda t: set_cell(set_cell(t, "subject", shared), "split", "test"))
    with pytest.raises(DataError, match="another split"):
        open_sources(study)


def test_a_column_that_a_log_cannot_take_is_refused(folders, study):
    covariates = (Covariate("age", "continuous", "years", transform="log"), *study.covariates[1:])
    edit_table(folders / "north", lambda t: set_cell(t, "age", "-1"))
    with pytest.raises(DataError, match=r"line 2, age.*log"):
        open_sources(replace(study, covariates=covariates))


@pytest.mark.parametrize(
    "name, stated, source", [("age", {"unit": "months"}, 0), ("site", {"levels": ["x", "y"]}, 1)]
)
def test_units_and_levels_that_clash_are_named(tmp_path, study, name, stated, source):
    folder = study.sources[source].name
    meaning = {"recipe": "test", "covariates": {name: stated}}
    write_packed(tmp_path / folder, make_images(8), make_table(folder, 8), meaning)
    with pytest.raises(DataError, match=rf"covariates\.{name}\.") as caught:
        PackedSource.open(tmp_path / folder, study, source)
    assert str(next(iter(stated.values()))) in str(caught.value)
