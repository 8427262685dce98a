"""Names of levels stay wherever a binary covariate goes; tables in another unit are converted, and asked
about."""

from __future__ import annotations

import csv
import json
from dataclasses import replace

import numpy as np
import pytest

from mssg import load_study
from mssg.data.dataset import open_sources
from mssg.data.recipes import mri, stylegan
from mssg.data.recipes.cohort_selection import PrepareRequest
from mssg.errors import DataError, StudyError, UsageError
from mssg.study.covariate import Covariate
from mssg.study.schema import from_document, to_document, to_toml
from mssg.study.values import describe, parse_values, plain
from tests.data.stand_ins import bids, paths_table, person, write_rows

SMALL = mri.SliceOptions(resolution=32)
SEX = Covariate("sex", "binary", levels=("F", "M"))


def prepare(path, out, *covariates, **further):
    return mri.prepare(PrepareRequest(path, out, covariates=covariates, **further), SMALL)


def cells(folder, name):
    with (folder / "table.csv").open(newline="", encoding="utf-8") as file:
        return [row[name] for row in csv.DictReader(file)]


def test_a_binary_covariate_is_read_and_shown_by_its_levels():
    assert [SEX.parse(text) for text in ("F", "M", "0", "1", "no", "1.0")] == [0, 1, 0, 1, 0, 1]
    assert [SEX.format(v) for v in np.array([0.0, 1.0])] == ["F", "M"] == [plain(SEX, 0.0), plain(SEX, 1.0)]
    assert describe(SEX) == "sex (F|M)" and SEX.num_levels == 2 and SEX.width == 1
    with pytest.raises(UsageError, match=r"unknown level.*Expected F \| M"):
        SEX.parse("2")
    plain_one = Covariate("sex", "binary")
    assert plain_one.format(1.0) == "yes" and plain(plain_one, 1.0) == "1"
    assert SEX.compatible_with(plain_one) and plain_one.compatible_with(SEX)
    assert not SEX.compatible_with(replace(SEX, levels=("M", "F")))


@pytest.mark.parametrize("levels", [("1", "2"), ("yes", "no"), ("1", "0")])
def test_levels_that_say_another_number_are_names_alone(levels):
    """With levels 1 and 2, a 1 is the first of them."""
    covariate = Covariate("x", "binary", levels=levels)
    assert [covariate.parse(level) for level in levels] == [0, 1]
    for word in {"0", "2", "false", "true"} - set(levels):
        with pytest.raises(UsageError):
            covariate.parse(word)


def test_a_table_s_own_codes_are_said_beside_the_levels(tmp_path):
    """Sources of one study call a level alike; their tables seldom do."""
    path = paths_table(tmp_path)
    rows = [line.split(",") for line in path.read_text(encoding="utf-8").splitlines()]
    column, said = rows[0].index("sex"), ("2", "1", "female", "Male", "F", "M")
    rows[1:] = [[*row[:column], code, *row[column + 1 :]] for row, code in zip(rows[1:], said)]
    path.write_text("\n".join(map(",".join, rows)) + "\n", encoding="utf-8")
    prepare(
        path, tmp_path / "out", "sex=binary:F=2=female,M=1=Male", "kind@sex=categorical:F=2=female,M=1=Male"
    )
    for name in ("sex", "kind"):
        assert cells(tmp_path / "out/csv", name) == ["F", "M"] * 3
    stated = json.loads((tmp_path / "out/csv/source.json").read_text(encoding="utf-8"))["covariates"]
    assert stated["sex"] == {"levels": ["F", "M"]}
    for wrong in ("F=2,M=2", "F=,M=1", "F=M,M=1"):
        with pytest.raises(UsageError, match="no two or more different levels"):
            prepare(path, tmp_path / "out", f"sex=binary:{wrong}")
    with pytest.raises(DataError, match=r"no image is left.*6 x sex: unknown code '2', expected x \| y"):
        prepare(path, tmp_path / "other", "sex=binary:x,y")


def test_two_levels_or_none():
    document = {
        "name": "x",
        "image": {"resolution": 32},
        "covariates": {"sex": {"kind": "binary", "levels": ["F", "M"]}},
        "sources": [{"name": "a", "path": "a", "observes": ["sex"]}],
    }
    study = from_document(document)
    assert study.covariate("sex").levels == ("F", "M")
    assert from_document(to_document(study)) == study
    assert parse_values(study, ["sex=M"]) == {"sex": 1.0}
    document["covariates"]["sex"]["levels"] = ["F", "M", "X"]
    with pytest.raises(StudyError, match="two levels, or none"):
        from_document(document)


@pytest.mark.parametrize("words", [("F", "M"), ("1", "2")])
def test_names_of_levels_go_from_the_command_line_into_table_study_and_source(words, tmp_path):
    path = paths_table(tmp_path)
    text = path.read_text(encoding="utf-8").splitlines()
    column = text[0].split(",").index("sex")
    rows = [line.split(",") for line in text[1:]]
    rows = [[*row[:column], words[int(row[column])], *row[column + 1 :]] for row in rows]
    path.write_text("\n".join([text[0], *(",".join(row) for row in rows)]) + "\n", encoding="utf-8")
    summary = prepare(path, tmp_path / "out", f"sex=binary:{','.join(words)}")
    study, folder = load_study(summary.study), tmp_path / "out/csv"
    assert study.covariate("sex").levels == words
    assert cells(folder, "sex") == [words[n % 2] for n in range(6)]
    stated = json.loads((folder / "source.json").read_text(encoding="utf-8"))["covariates"]
    assert stated["sex"] == {"levels": list(words)}
    (source,) = open_sources(study)
    assert source.values[:, 0].tolist() == [n % 2 for n in range(6)]
    # a study written by hand need not name them, and its table's other readers see numbers
    unnamed = replace(study, covariates=tuple(replace(c, levels=()) for c in study.covariates))
    summary.study.write_text(to_toml(unnamed), encoding="utf-8")
    study = load_study(summary.study)
    assert study.covariate("sex").levels == ()
    (source,) = open_sources(study)
    assert source.values[:, 0].tolist() == source.table["sex"].tolist() == [n % 2 for n in range(6)]


def test_the_shipped_map_names_the_sexes(tmp_path):
    summary = prepare(bids(tmp_path / "bids"), tmp_path / "out")
    assert load_study(summary.study).covariate("sex").levels == ("F", "M")
    assert cells(tmp_path / "out/bids", "sex") == ["F", "M"] * 3


def test_a_description_names_the_levels_of_its_codes(tmp_path):
    root = bids(tmp_path / "bids")
    rows = [{"participant_id": f"sub-{n:02d}", "age": person(n)["age"], "group": 1 + n % 2} for n in range(6)]
    write_rows(root / "participants.tsv", rows, "\t")
    levels = {"group": {"Levels": {"1": "control", "2": "patient"}}}
    (root / "participants.json").write_text(json.dumps(levels), encoding="utf-8")
    summary = prepare(root, tmp_path / "out", "group=binary")
    assert load_study(summary.study).covariate("group").levels == ("control", "patient")
    assert cells(tmp_path / "out/bids", "group") == ["control", "patient"] * 3


def test_a_factor_converts_and_what_looks_like_mm3_is_asked_about(tmp_path):
    path = paths_table(tmp_path)
    text = path.read_text(encoding="utf-8").splitlines()
    column = text[0].split(",").index("ventricle")
    rows = [line.split(",") for line in text[1:]]
    cubic = [[*row[:column], str(1000 * float(row[column])), *row[column + 1 :]] for row in rows]
    path.write_text("\n".join([text[0], *(",".join(row) for row in cubic)]) + "\n", encoding="utf-8")
    with pytest.raises(UsageError, match=r"are these mm³\?.*ventricle=continuous:ml\*0.001.*ml:0\.\."):
        prepare(path, tmp_path / "asked", "ventricle=continuous:ml")
    prepare(path, tmp_path / "out", "vol@ventricle=continuous:ml*0.001:1..90")
    found = [float(text) for text in cells(tmp_path / "out/csv", "vol")]
    assert found == pytest.approx([person(n)["ventricle"] for n in range(6)])
    summary = prepare(path, tmp_path / "stated", "ventricle=continuous:ml:0..1000000")
    assert len(open_sources(load_study(summary.study))[0]) == 6  # a stated range is an answer


def test_labels_of_an_archive_take_the_same_grammar(tmp_path):
    from PIL import Image

    root = tmp_path / "data"
    root.mkdir()
    labels = []
    for n in range(12):
        noise = np.random.default_rng(n).integers(0, 255, (32, 32), np.uint8)
        Image.fromarray(noise).save(root / f"{n}.png")
        labels.append([f"{n}.png", [1000.0 * (20 + n), n % 2, 1 + n % 2]])
    (root / "dataset.json").write_text(json.dumps({"labels": labels}), encoding="utf-8")
    stated = ["v=continuous:ml*0.001:1..90", "sex=binary:F,M", "hand=binary:1,2"]
    done = stylegan.prepare(root, tmp_path / "out", stated)
    study = load_study(done.study)
    assert study.covariate("sex").levels == ("F", "M") and study.covariate("hand").levels == ("1", "2")
    (source,) = open_sources(study)
    by_file = dict(zip(source.table["file"], source.values.tolist()))
    assert by_file["3.png"] == [23.0, 1.0, 1.0] and by_file["4.png"] == [24.0, 0.0, 0.0]
    assert set(cells(tmp_path / "out/images", "sex")) == {"F", "M"}
    with pytest.raises(UsageError, match=r"are these mm³\?.*--labels v=continuous:ml\*0.001"):
        stylegan.prepare(root, tmp_path / "asked", ["v=continuous:ml", *stated[1:]])
    with pytest.raises(DataError, match=r"value out of range.*Expected 1 to 25 ml"):
        stylegan.prepare(root, tmp_path / "range", ["v=continuous:ml*0.001:1..25", *stated[1:]])
    with pytest.raises(DataError, match=r"value out of range.*Expected 0 \| 1"):
        stylegan.prepare(root, tmp_path / "code", [*stated[:2], "hand=binary:0,1"])


def test_python_shows_levels_by_name():
    from mssg.api.arguments import native, shown

    assert (shown(SEX, 1.0), native(SEX, "M"), native(SEX, 1)) == ("M", 1.0, 1.0)
    assert shown(Covariate("x", "binary"), 1.0) == 1
