"""Tables as people have them: what is wrong is named, and one bad thing does not end the work on many."""

from __future__ import annotations

import csv
import os
import shutil
from pathlib import Path

import pytest

from mssg import load_study
from mssg.data.cohort_files import walk
from mssg.data.dataset import open_sources
from mssg.data.delimited import header_of, rows_of
from mssg.data.recipes import mri
from mssg.data.recipes.cohort_selection import PrepareRequest
from mssg.errors import DataError, MssgError, RunError, UsageError
from mssg.runs.lock import locked
from tests.data.stand_ins import bids, head, paths_table, save_volume, write_rows

SMALL = mri.SliceOptions(resolution=32)
PEOPLE = "participant_id\tage\tsex\nsub-00\t60\tF\nsub-01\t70\tM\n"


def prepared(path: Path, out: Path, **further):
    """The prepared source, and reasons by file."""
    summary = mri.prepare(PrepareRequest(path, out, **further), SMALL)
    with (summary.report / "skipped.csv").open(newline="", encoding="utf-8") as file:
        reasons = {row["file"]: row["reason"] for row in csv.DictReader(file)}
    (source,) = open_sources(load_study(summary.study), verify=True)
    return source, reasons


@pytest.mark.parametrize("more", [{}, {"covariates": ["age=continuous:years"]}], ids=["plain", "--covariate"])
@pytest.mark.parametrize(
    "table, words",
    [
        ("participant_id\tage\tsite\nsub-00\t60\tKöln\n".encode("latin-1"), ["line 2", "not UTF-8"]),
        (PEOPLE.encode("utf-16-le"), ["not UTF-8"]),
        (PEOPLE.encode("utf-32"), ["not UTF-8"]),
        (PEOPLE.replace("\t", ",").encode(), ["not separated by tabs"]),
        (PEOPLE.replace("sex", "age").encode(), ["named twice", "age"]),
        (b"", ["no line of column names"]),
        (b"PK\x03\x04rest", ["spreadsheet", "CSV UTF-8"]),
        (PEOPLE.replace("participant_id", "id").encode(), ["whose a row is", "participant_id"]),
    ],
    ids=["latin-1", "utf-16", "utf-32", "commas", "twice", "empty", "workbook", "no key"],
)
def test_a_participants_table_that_cannot_be_used_is_named_with_its_reason(table, words, more, tmp_path):
    root = bids(tmp_path / "b", 2)
    (root / "participants.tsv").write_bytes(table)
    with pytest.raises(DataError) as caught:
        prepared(root, tmp_path / "out", **more)
    for word in ("participants.tsv", *words):
        assert word in str(caught.value)


def test_a_column_in_another_spelling_is_named(tmp_path):
    root = bids(tmp_path / "b", 2)
    table = root / "participants.tsv"
    table.write_text(PEOPLE.replace("age", "Age").replace("sex", "Gender"), encoding="utf-8")
    with pytest.raises(DataError, match=r"Is it 'Age'. Name it with --covariate age@Age=continuous:years"):
        prepared(root, tmp_path / "out")
    source, _ = prepared(root, tmp_path / "out", covariates=["age@Age=continuous:years"])
    assert source.values[:, 0].tolist() == [60, 70]
    table.write_text(PEOPLE.replace("age", "Alter").replace("sex", "Gender"), encoding="utf-8")
    with pytest.raises(UsageError, match=r"participants\.tsv: no covariate.*Found Alter, Gender"):
        prepared(root, tmp_path / "out")


def test_unreadable_and_dangling_participants_tables(tmp_path, monkeypatch):
    root = bids(tmp_path / "b", 2)
    table = root / "participants.tsv"
    table.unlink()
    with pytest.raises(DataError, match=r"no table of covariates found.*participants\.tsv"):
        prepared(root, tmp_path / "out")
    table.symlink_to(tmp_path / "gone.tsv")
    with pytest.raises(DataError, match=r"participants\.tsv: a link to a file that is not there"):
        prepared(root, tmp_path / "out")
    real = Path.open

    def closed(self, *args, **options):
        if self.name == "participants.tsv":
            raise PermissionError(13, "Permission denied")
        return real(self, *args, **options)

    monkeypatch.setattr(Path, "open", closed)
    with pytest.raises(DataError, match=r"participants\.tsv: cannot be read: Permission denied"):
        prepared(root, tmp_path / "out")


def test_utf_16_that_says_so_is_read(tmp_path):
    root = bids(tmp_path / "b", 2)
    (root / "participants.tsv").write_bytes(PEOPLE.encode("utf-16"))
    source, reasons = prepared(root, tmp_path / "out")
    assert source.values.tolist() == [[60, 0], [70, 1]] and not reasons


@pytest.mark.parametrize("ends", [("", "\t\t"), ("\t", ""), ("\t", "\t")])
def test_empty_cells_behind_the_last_column_are_none(ends, tmp_path):
    root = bids(tmp_path / "b", 2)
    text = (root / "participants.tsv").read_text().splitlines()
    lines = [text[0] + ends[0], *(line + ends[1] for line in text[1:])]
    (root / "participants.tsv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    summary = mri.prepare(PrepareRequest(root, tmp_path / "out"), mri.SliceOptions(resolution=32))
    assert sum(summary.counts["bids"].values()) == 2 and not summary.skipped


def test_a_value_stated_twice_in_two_spellings_is_one(tmp_path):
    root = bids(tmp_path / "b", 2)
    text = "participant_id\tage\nsub-00\t60\nsub-01\t70\nsub-00\t60.0\nsub-01\tNA\n"
    (root / "participants.tsv").write_text(text, encoding="utf-8")
    summary = mri.prepare(PrepareRequest(root, tmp_path / "out"), mri.SliceOptions(resolution=32))
    assert sum(summary.counts["bids"].values()) == 2 and not summary.skipped


def test_quotation_marks(tmp_path):
    """TSV has none; in CSV one that is not closed is reported with the lines that it swallows."""
    path = tmp_path / "a.tsv"
    path.write_text('"id"\tnote\n1\t5" tall\n2\t"quoted"\n3\tx\n', encoding="utf-8")
    problems: list = []
    rows = [row for _, row in rows_of(path, problems)]
    assert [row["note"] for row in rows] == ['5" tall', "quoted", "x"] and header_of(path) == ["id", "note"]
    assert not problems
    path = tmp_path / "a.csv"
    path.write_text('id,note\n1,"a, b"\n2,"open\n3,x\n4,y\n', encoding="utf-8")
    rows = [row for _, row in rows_of(path, problems)]
    assert rows == [{"id": "1", "note": "a, b"}]
    assert (problems[0].file, problems[0].reason) == ("a.csv, lines 3 to 5", "a quotation mark is not closed")


def test_a_row_that_is_not_there_says_which_was_looked_for(tmp_path):
    root = bids(tmp_path / "b", 2)
    (root / "participants.tsv").write_text(PEOPLE.replace("sub-01", "1"), encoding="utf-8")
    _, reasons = prepared(root, tmp_path / "out")
    reason = reasons["sub-01/anat/sub-01_T1w.nii.gz"]
    assert reason == "no row for sub-01 in participants.tsv, which has sub-00, 1 …"


def test_a_root_adds_to_a_table_s_own_folder(tmp_path):
    """What the reason advises can be done: links of a table's folder lead to a store that --root allows."""
    path = paths_table(tmp_path / "t", 3)
    rows = list(csv.DictReader(path.read_text(encoding="utf-8").splitlines()))
    first, store = path.parent / rows[0]["path"], tmp_path / "store/annex-key.nii.gz"
    store.parent.mkdir()
    shutil.move(first, store)
    first.symlink_to(store)
    covariates = ["age=continuous:years"]
    _, reasons = prepared(path, tmp_path / "a", covariates=covariates)
    assert "--root FOLDER allows" in reasons[rows[0]["path"]]
    source, reasons = prepared(path, tmp_path / "b", covariates=covariates, root=store.parent)
    assert len(source.images) == 3 and not reasons


def test_a_given_table_adds_to_the_folder_s_own(tmp_path):
    root = bids(tmp_path / "b", 2)
    more = write_rows(
        tmp_path / "more.csv", [{"participant_id": f"sub-{i:02d}", "iq": 100 + i} for i in range(2)]
    )
    ask = {"tables": [more], "covariates": ["iq=continuous"]}
    source, _ = prepared(root, tmp_path / "out", **ask)
    assert list(source.table)[3:6] == ["age", "sex", "iq"] and source.values[:, 2].tolist() == [100, 101]
    (root / "participants.tsv").write_bytes(
        b"\xff\xff"
    )  # the user's own table stands in for one that is broken
    more = write_rows(
        tmp_path / "p.csv", [{"participant_id": f"sub-{i:02d}", "age": 60 + i} for i in range(2)]
    )
    source, reasons = prepared(root, tmp_path / "out2", tables=[more])
    assert source.values[:, 0].tolist() == [60, 61] and "not UTF-8" in reasons["participants.tsv"]


@pytest.mark.parametrize("name", ["t.xlsx", "t.txt"])
def test_another_kind_of_table_is_told_from_a_folder(name, tmp_path):
    (tmp_path / name).write_bytes(b"x")
    with pytest.raises(DataError, match=r"not a table that can be read.*\.csv or \.tsv.*CSV UTF-8"):
        prepared(tmp_path / name, tmp_path / "out")


@pytest.mark.parametrize("name", ["../x", "a/b", "/x", "..", ".x", ""])
def test_a_source_lies_in_its_folder(name, tmp_path):
    path = paths_table(tmp_path / "in", 2)
    ask = {"covariates": ["age=continuous:years"], "name": name}
    if name:
        with pytest.raises(UsageError, match="--name"):
            prepared(path, tmp_path / "out", **ask)
        assert not (tmp_path / "out").exists()


def test_two_prepares_of_one_name_do_not_meet(tmp_path):
    path, ask = paths_table(tmp_path / "a", 3), {"covariates": ["age=continuous:years"]}
    (tmp_path / "out/csv-report").mkdir(parents=True)
    with locked(tmp_path / "out/csv-report"):
        with pytest.raises(RunError, match="another mssg prepare is writing this source"):
            prepared(path, tmp_path / "out", **ask)
    prepared(path, tmp_path / "out", **ask)
    prepared(path, tmp_path / "out", **ask)
    assert sorted(p.name for p in (tmp_path / "out/csv-report").iterdir()) == [
        "qc.csv",
        "sheet-001.png",
        "skipped.csv",
    ]
    with pytest.raises(DataError, match=r"prepared from another folder or table.*--name"):
        prepared(paths_table(tmp_path / "b", 3), tmp_path / "out", **ask)


def test_one_bad_thing_is_one_line(tmp_path, monkeypatch):
    root = bids(tmp_path / "b", 3)
    odd = os.fsencode(root / "sub-01/anat") + b"/sub-01_acq-K\xf6ln_T1w.nii.gz"
    shutil.copyfile(root / "sub-01/anat/sub-01_T1w.nii.gz", odd)
    (root / "sub-02/anat/elsewhere").symlink_to("/root/secret")
    real = os.DirEntry.is_dir

    class Entries(list):
        """What os.scandir gives."""

        def __enter__(self):
            return self

        def __exit__(self, *_):
            pass

    class Entry:
        """A link into a folder without permission."""

        def __init__(self, entry):
            self.entry, self.name, self.path = entry, entry.name, entry.path

        def is_dir(self, **_):
            if self.name == "elsewhere":
                raise PermissionError(13, "Permission denied")
            return real(self.entry, **_)

        def is_symlink(self):
            return self.entry.is_symlink()

    scan = os.scandir
    monkeypatch.setattr(os, "scandir", lambda path: Entries(map(Entry, scan(path))))
    source, reasons = prepared(root, tmp_path / "out")
    assert len(source) == 3 and len(reasons) == 2
    assert reasons["sub-02/anat/elsewhere"] == "cannot be followed: Permission denied"
    assert reasons["sub-01/anat/sub-01_acq-K\\udcf6ln_T1w.nii.gz"] == "its name is not UTF-8"


def test_hidden_folders_are_not_searched(tmp_path):
    for name in ("a/x.nii", ".git/annex/x.nii", "b/.datalad/x.nii"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    assert [p.relative_to(tmp_path).as_posix() for p in walk(tmp_path, [])] == ["a/x.nii"]


def test_an_edited_qc_table_rejects_what_it_says(tmp_path):
    path, ask = paths_table(tmp_path / "in", 5), {"covariates": ["age=continuous:years"]}
    prepared(path, tmp_path / "out", **ask)
    qc = tmp_path / "out/csv-report/qc.csv"
    lines = qc.read_text(encoding="utf-8").splitlines()
    marked = [line.replace(",keep,", ",reject,blurred") if "scans/2" in line else line for line in lines]
    qc.write_text("\n".join(marked) + "\n", encoding="utf-8")
    source, reasons = prepared(path, tmp_path / "out", **ask, reject=qc)
    assert len(source) == 4 and reasons == {"scans/2.nii.gz": "blurred"}
    only = write_rows(tmp_path / "r.csv", [{"file": "scans/1.nii.gz"}])
    assert prepared(path, tmp_path / "out", **ask, reject=only)[1] == {"scans/1.nii.gz": "rejected by hand"}
    for rows, said in (
        ([{"file": "scans/1.nii.gz", "decision": "maybe"}], "line 2: unknown decision"),
        ([{"file": "none.nii.gz"}], "names no image"),
        ([{"path": "x"}], "column is missing"),
    ):
        with pytest.raises(MssgError, match=said):
            prepared(path, tmp_path / "out", **ask, reject=write_rows(tmp_path / "r.csv", rows))


def test_slices_of_a_file_are_rejected_one_by_one(tmp_path):
    path = paths_table(tmp_path / "in", 2)
    options = mri.SliceOptions(resolution=32, at=("middle", "-8mm"))
    reject = write_rows(
        tmp_path / "r.csv", [{"file": "scans/1.nii.gz", "slice": "-8mm", "decision": "reject"}]
    )
    request = PrepareRequest(path, tmp_path / "out", covariates=["age=continuous:years"], reject=reject)
    summary = mri.prepare(request, options)
    (source,) = open_sources(load_study(summary.study))
    cuts = list(zip(source.table["file"], source.table["slice"]))
    assert len(cuts) == 3 and ("scans/1.nii.gz", "-8mm") not in cuts


def test_a_person_s_keep_stands_above_a_threshold(tmp_path):
    for i in range(3):
        save_volume(tmp_path / f"{i}.nii.gz", head(60, 30, i))
    rows = [{"path": f"{i}.nii.gz", "subject": f"s{i}", "age": 60 + i} for i in range(3)]
    path, cohort = write_rows(tmp_path / "t.csv", rows), tmp_path / "m.toml"
    cohort.write_text(
        'name = "m"\nkind = "mri"\n[files]\ncolumn = "path"\n[covariates.age]\ncolumn = "age"\n'
        'kind = "continuous"\n[qc]\nmean = [0, 1]\n',
        encoding="utf-8",
    )
    options = mri.SliceOptions(resolution=32, intensity="minmax")
    keep = write_rows(tmp_path / "k.csv", [{"file": "1.nii.gz", "decision": "keep"}])
    summary = mri.prepare(PrepareRequest(path, tmp_path / "out", cohort, reject=keep), options)
    assert summary.counts["m"] and sum(summary.counts["m"].values()) == 1
