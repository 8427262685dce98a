"""Cohort maps: every shipped map reads files and tables of its cohort's form, and every example study trains
on them."""

import re

import numpy as np
import pytest

from mssg import assets, load_study
from mssg.data import cohort as maps
from mssg.data.cohort_map import load_cohort, shipped
from mssg.data.dataset import open_sources
from mssg.data.pipeline import copy_study
from mssg.data.recipes import fundus, mri
from mssg.data.recipes.cohort_selection import PrepareRequest
from mssg.errors import DataError, MssgError, UsageError
from mssg.study.train_config import resolve
from mssg.training import launch
from tests.data import stand_ins
from tests.data.stand_ins import person
from tests.data.test_mri_recipe import reasons

EXAMPLES = {
    # study: (cohort, further settings) of each source
    "ukb-mri": [("ukb-mri", {"divide": ("a", "b")})],
    "ukb-adni": [("ukb-mri", {"variant": "native"}), ("adni", {})],
    "ukb-adni-nacc": [("ukb-mri", {"variant": "native"}), ("adni", {}), ("nacc", {})],
    "ukb-retina": [("ukb-retina", {"divide": ("a", "b")})],
    "ukb-rfmid-eyepacs": [
        ("ukb-retina", {}),
        ("rfmid", {}),
        ("eyepacs", {"variant": "diseased", "balance": ("retinopathy", 0.45)}),
    ],
}

A_LITTLE = {
    "cfg": "stylegan2",
    "z_dim": 16,
    "w_dim": 16,
    "channel_base": 128,
    "channel_max": 16,
    "batch": 8,
    "micro_batch": 0,
    "total_kimg": 0.016,
    "tick_kimg": 0.016,
    "snap": 1,
    "grid_images": 4,
    "lambda_step_kimg": 0.001,
    "metrics": [],
}
"""Two steps of a tiny network."""


@pytest.fixture(scope="module")
def cohorts(tmp_path_factory):
    """Folder and tables of every cohort's stand-in."""
    root = tmp_path_factory.mktemp("cohorts")
    out = {}
    for name in ("ukb-mri", "adni", "nacc", "oasis3", "ukb-retina", "rfmid", "eyepacs"):
        out[name] = (root / name, getattr(stand_ins, name.replace("-", "_"))(root / name))
    return out


def prepare(cohorts, name, out, balance=None, **further):
    folder, tables = cohorts[name]
    request = PrepareRequest(folder, out, name, tables=tables, seed=1, **further)
    if load_cohort(name).kind == "mri":
        return mri.prepare(request, mri.SliceOptions(resolution=32))
    return fundus.prepare(request, fundus.PhotoOptions(resolution=32, balance=balance))


def opened(summary):
    return open_sources(load_study(summary.study), verify=True)


@pytest.mark.slow
def test_every_shipped_map_has_a_stand_in(cohorts):
    assert set(cohorts) | {"bids", "csv", "fundus-csv"} == set(shipped())


@pytest.mark.slow
def test_uk_biobank_mri_takes_the_fields_of_its_space(cohorts, tmp_path):
    for variant, factor in (("mni", 1.3), ("native", 1.0)):
        summary = prepare(cohorts, "ukb-mri", tmp_path / variant, variant=variant)
        (source,) = opened(summary)
        assert len(source) == 50 and source.table["session"][:2].tolist() == [2.0, 3.0]
        columns = dict(zip(load_study(summary.study).condition_names, source.values.T))
        # age at this visit, not at recruitment; mm³ become ml; what is not recorded is missing
        assert columns["age"][:2].tolist() == [person(0)["age"], person(0)["age"] + 2]
        np.testing.assert_allclose(columns["ventricle"][2], person(1)["ventricle"] * factor, rtol=1e-6)
        assert np.isnan(columns["grey_matter"][0]) and columns["grey_matter"][2] > 500
        geometry = load_study(summary.study).geometry
        assert geometry.affine == {"mni": "common", "native": "none"}[variant]
    assert all(s.startswith("ukb-1") for s in source.subjects)


def test_adni_ratings_of_1_and_above_are_one_level(cohorts, tmp_path):
    summary = prepare(cohorts, "adni", tmp_path)
    (source,) = opened(summary)
    number = np.array([int(subject[-4:]) - 4000 for subject in source.subjects])
    assert source.table["cdr"].tolist() == [[0, 0.5, 1, 1][n % 4] for n in number]
    np.testing.assert_allclose(source.table["left_hippocampus"], 3 + number / 100)
    assert "left_ventricle" not in summary.covariates  # optional, and not in these tables


def test_adni_volumes_of_ucsffsx_go_with_their_image(cohorts, tmp_path):
    """Its table says IMAGEUID as a number, FreeSurfer's volumes as ST29SV and ST88SV."""
    folder, (search, _) = cohorts["adni"]
    rows = [
        {"RID": 4000 + n, "VISCODE": "bl", "IMAGEUID": 20000 + n, "ST29SV": 3000 + n, "ST88SV": 3100 + n}
        for n in range(20)
    ]
    table = stand_ins.write_rows(tmp_path / "UCSFFSX.csv", rows)
    request = PrepareRequest(folder, tmp_path / "out", "adni", tables=[search, table], seed=1)
    (source,) = opened(mri.prepare(request, mri.SliceOptions(resolution=32)))
    assert len(source) == 20
    for subject, left, right in zip(
        source.subjects, *(source.table[f"{side}_hippocampus"] for side in ("left", "right"))
    ):
        n = int(subject.rpartition("_")[2]) - 4000
        assert (left, right) == pytest.approx(((3000 + n) / 1000, (3100 + n) / 1000))


def test_nacc_takes_9_as_missing_and_age_from_the_scan(cohorts, tmp_path):
    (source,) = opened(prepare(cohorts, "nacc", tmp_path))
    assert np.isnan(source.table["apoe4"][3]) and source.table["apoe4"][:3].tolist() == [0, 1, 2]
    assert source.table["age"][0] == int(person(200)["age"])


def test_oasis3(cohorts, tmp_path):
    (source,) = opened(prepare(cohorts, "oasis3", tmp_path))
    assert source.table["cdr"].tolist() == [0, 0.5, 1] * 2 and source.table["session"][1] == "d0129"
    assert source.table["right_ventricle"][2] == pytest.approx(8.002)


def test_cataract_not_asked_is_not_no_and_powers_follow_the_eye(cohorts, tmp_path):
    summary = prepare(cohorts, "ukb-retina", tmp_path)
    (source,) = opened(summary)
    left = source.table["side"] == "left"
    nan = np.nan
    #        -7   left both  4   none right other -3
    expected = {"left": [0, 1, 1, nan, nan, 0, 0, nan], "right": [0, 0, 1, nan, nan, 1, 0, nan]}
    np.testing.assert_array_equal(source.table["cataract"][left][:8], expected["left"])
    np.testing.assert_array_equal(source.table["cataract"][~left][:8], expected["right"])
    assert source.table["spherical_power"][left][0] == -1.5
    assert source.table["spherical_power"][~left][0] == 0.5
    # both eyes look like right eyes now: the optic disc lies on the same side
    spots = source.images[:, 2].astype(float).mean(1)
    assert (spots[:, 16:].max(1) > spots[:, :16].max(1)).all()
    assert not summary.skipped


def test_rfmid_sets_do_not_share_subjects(cohorts, tmp_path):
    (source,) = opened(prepare(cohorts, "rfmid", tmp_path))
    assert len(source) == 18 == len(set(source.subjects)) and source.images.shape[1] == 3
    assert source.table["disease_risk"].mean() == pytest.approx(12 / 18)  # nobody has another disease


def test_eyepacs_is_balanced_and_says_what_it_left_out(cohorts, tmp_path):
    summary = prepare(cohorts, "eyepacs", tmp_path, ("retinopathy", 0.45), variant="diseased")
    (source,) = opened(summary)
    share = source.table["retinopathy"].mean()
    assert share == pytest.approx(0.45, abs=0.03) and summary.skipped == {"balance": 40 - len(source)}
    assert "thinned out" in next(iter(reasons(summary).values()))
    (whole,) = opened(prepare(cohorts, "eyepacs", tmp_path / "all"))
    assert load_study(tmp_path / "all/eyepacs.toml").covariate("level").levels == ("0", "1", "2", "3", "4")
    assert len(whole) == 40


@pytest.mark.slow
@pytest.mark.parametrize("name", EXAMPLES)
def test_example_studies_train_on_stand_ins(name, cohorts, tmp_path):
    for cohort, further in EXAMPLES[name]:
        prepare(cohorts, cohort, tmp_path, **further)
    toml = smaller(copy_study(name, tmp_path))
    study = load_study(toml)
    sources = open_sources(study, verify=True)  # refuses a subject in two splits
    home = {}
    for source in sources:
        for subject, split in zip(source.subjects, source.split):
            assert home.setdefault(subject, split) == split
    assert len(sources) == len(study.sources)
    launch.start(toml, tmp_path / "run", A_LITTLE)
    assert list((tmp_path / "run/snapshots").glob("*.safetensors"))


def smaller(path):
    """The study at 32 pixels, with components that a dozen people can fill."""
    text = path.read_text(encoding="utf-8").replace("resolution = 256", "resolution = 32")
    text = text.replace("pixel_mm = 1.0", "pixel_mm = 8.0")  # the same field of view
    # the stand-ins' middle is not MNI's
    text = re.sub(
        r"(?m)^(position_mm|centre_mm) .*\n", "", text.replace('affine = "common"', 'affine = "none"')
    )
    path.write_text(re.sub(r"components = \d+", "components = 1", text), encoding="utf-8")
    return path


def test_the_shipped_digits_and_all_examples_plan():
    for path in sorted((assets.root() / "studies").glob("*.toml")):
        study = load_study(path)
        assert resolve(study).total_kimg > 0
        if path.stem in EXAMPLES:  # beside each is one with the research code's augmentation
            assert f"--study {path.stem}" in path.read_text(encoding="utf-8")


BAD = {
    "kind": ('kind = "mri"', 'kind = "ct"', "unknown value"),
    "pattern": ('column = "path"', "", "pattern or a column"),
    "key": ("[files]", 'colour = "red"\n[files]', "unknown key"),
    "regex": ("[files]", "[files]\nid = '('", "regular expression"),
    "choice": (
        "[files]",
        "[covariates.v]\nkind = \"continuous\"\ncolumn = { up = 'x' }\n[files]",
        "neither a variant nor a side",
    ),
    "rules": ("[files]", '[covariates.v]\nkind = "binary"\n[files]', "either a column or rules"),
    "range": (
        "[files]",
        "[covariates.v]\nkind = \"binary\"\ncolumn = 'x'\nrange = [0, 1]\n[files]",
        "for continuous",
    ),
    "condition": ("[files]", "[[exclude]]\nreason = 'x'\ncolumns = 'y'\n[files]", "either any or none"),
    "toml": ("[files]", "[files", "not valid TOML"),
}


@pytest.mark.parametrize("mistake", BAD)
def test_mistakes_in_a_map_are_named(mistake, tmp_path):
    old, new, said = BAD[mistake]
    text = assets.path("cohorts/csv.toml").read_text(encoding="utf-8")
    path = tmp_path / "mine.toml"
    path.write_text(text.replace(old, new, 1), encoding="utf-8")
    with pytest.raises(MssgError, match=said) as caught:
        load_cohort(path)
    assert str(path) in str(caught.value)


def test_a_users_own_map_with_exclusions(cohorts, tmp_path):
    text = assets.path("cohorts/ukb-mri.toml").read_text(encoding="utf-8")
    mine = tmp_path / "mine.toml"
    mine.write_text(text + '\n[[exclude]]\nreason = "men"\ncolumns = "31-0.0"\nany = ["1"]\n')
    folder, tables = cohorts["ukb-mri"]
    summary = mri.prepare(
        PrepareRequest(folder, tmp_path / "out", mine, tables=tables), mri.SliceOptions(resolution=32)
    )
    assert summary.skipped == {"excluded": 20} and set(reasons(summary).values()) == {"men"}


def test_wrong_requests(cohorts, tmp_path):
    folder, tables = cohorts["ukb-mri"]
    for request, said in (
        (PrepareRequest(folder, tmp_path, "ukb-mri", "talairach", tables), "no such variant"),
        (PrepareRequest(folder, tmp_path, "ukb", tables=tables), "no such cohort map"),
        (PrepareRequest(folder, tmp_path, "rfmid", tables=tables), "of another kind"),
        (PrepareRequest(folder, tmp_path, "csv"), "names its images in a table"),
        (PrepareRequest(folder, tmp_path, "ukb-mri"), "no table of covariates"),
        (PrepareRequest(folder, tmp_path, "ukb-mri", tables=cohorts["adni"][1]), "whose a row is"),
    ):
        with pytest.raises((DataError, UsageError), match=said):
            mri.prepare(request, mri.SliceOptions(resolution=32))
    with pytest.raises(UsageError, match="whose photographs"):
        fundus.prepare(PrepareRequest(folder, tmp_path))


def test_globs_stay_within_their_folder():
    assert maps.pattern("a/*.nii").fullmatch("a/b.nii") and not maps.pattern("a/*.nii").fullmatch("a/b/c.nii")
    assert maps.pattern("**/*.nii").fullmatch("c.nii") and maps.pattern("**/*.nii").fullmatch("a/b/c.NII")
    assert not maps.pattern("?.nii").fullmatch("/.nii")
