"""Eye phantoms: vessels that branch as published, covariates that show, colours of a real photograph."""

import json
from dataclasses import replace

import numpy as np
import pytest

from mssg import load_study
from mssg.data.dataset import open_sources
from mssg.data.recipes import eye_phantom as recipe
from mssg.data.recipes import eye_phantom_anatomy as anatomy
from mssg.data.recipes.eye_phantom_camera import CAMERAS, photograph
from mssg.errors import UsageError
from mssg.measure import fundus


def eye(seed: int = 0, **changes) -> anatomy.Eye:
    """An eye without cataract or lesions, changed as asked."""
    drawn = anatomy.draw_eye(np.random.default_rng(seed))
    none = anatomy.Lesions(*(np.zeros(0) for _ in range(3)), np.zeros(0, bool))
    return replace(drawn, **({"haze": 0.02, "lesions": none} | changes))


def picture(one: anatomy.Eye, camera: int = 0, resolution: int = 64) -> np.ndarray:
    """Its photograph as floats [3, R, R], always in the same light."""
    return photograph(np.random.default_rng(1), one, CAMERAS[camera], resolution).astype(float)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    out = tmp_path_factory.mktemp("eyes")
    return (
        recipe.prepare(out / "twelve", 12),
        recipe.prepare(out / "five", 5),
        recipe.prepare(out / "large", 4, resolution=256),
    )


def test_sources_fit_their_studies_and_no_subject_crosses(prepared):
    folder = prepared[0].folder
    for name in recipe.STUDIES:
        study = load_study(folder / name)
        sources = open_sources(study, verify=True)
        assert study.instrument == "fundus" and study.photograph.side == "eye" and study.channels == 3
        study.fit_statistics([s.columns(study) for s in sources])
    a, b = open_sources(load_study(folder / "study.toml"))
    _, camera2 = open_sources(load_study(folder / "study-cameras.toml"))
    assert not set(a.subjects) & set(b.subjects) and list(camera2.subjects) == list(b.subjects)
    info = json.loads((folder / "a" / "source.json").read_text())
    assert info["semi_synthetic"] and "not patients" in info["origin"]


def test_an_eye_depends_on_its_subject_alone(prepared):
    twelve, five, _ = (open_sources(load_study(p.folder / "study-all.toml"))[0] for p in prepared)
    np.testing.assert_array_equal(five.images, twelve.images[:5])
    np.testing.assert_array_equal(five.table["spherical_power"], twelve.table["spherical_power"][:5])


def test_finer_pictures_show_the_same_eye(prepared):
    twelve, _, large = (open_sources(load_study(p.folder / "study-all.toml"))[0] for p in prepared)
    coarse = large.images.reshape(4, 3, 64, 4, 64, 4).mean((3, 5))
    for fine, same in zip(coarse, twelve.images[:4]):
        inside = same.max(0) > 30
        assert np.corrcoef(fine[1][inside], same[1][inside])[0, 1] > 0.93


def test_vessels_branch_by_the_published_exponents():
    tips = np.zeros((400, 8))
    tips[:, anatomy._Tips.DIAMETER] = np.linspace(30, 140, 400)
    tips[200:, anatomy._Tips.VEIN] = 1
    children = anatomy._split(np.random.default_rng(0), tips)
    one, two = children[:400], children[400:]
    for kind, exponent in enumerate(anatomy.EXPONENTS):
        mine = tips[:, anatomy._Tips.VEIN] == kind
        parent, first, second = (t[mine, anatomy._Tips.DIAMETER] ** exponent for t in (tips, one, two))
        np.testing.assert_allclose(first + second, parent, rtol=1e-9)
    angle = np.degrees(np.abs(one[:, anatomy._Tips.HEADING] - two[:, anatomy._Tips.HEADING]))
    assert 65 < angle.mean() < 90  # 78° in Luo et al. 2017


def test_vessels_wind_narrow_with_age_and_leave_the_fovea_free():
    rng = np.random.default_rng(2)
    young, old = (
        [anatomy.grow(rng, (-4.55, 0.4), age).diameter.max() for _ in range(12)] for age in (42.0, 80.0)
    )
    assert 0.85 < np.mean(old) / np.mean(young) < 0.97
    vessels = anatomy.grow(rng, (-4.55, 0.4), 60.0)
    assert np.hypot(vessels.x, vessels.y).min() > anatomy.AVASCULAR - anatomy.STEP
    assert vessels.diameter.min() > anatomy.SMALLEST and vessels.vein.any() and not vessels.vein.all()
    # arcades go around the fovea: vessels above 45 µm pass over and under it
    thick = vessels.diameter > 45
    beside = thick & (np.abs(vessels.x) < 1)
    assert (vessels.y[beside] > 1.5).any() and (vessels.y[beside] < -1.5).any()


def test_density_and_calibre_of_vessels_that_are_known():
    """A vessel of 100 µm along 10 steps near the disc, one of 50 µm far from it, one outside the field."""
    x = np.concatenate([np.full(10, -3.0), np.full(20, 3.0), np.full(5, 40.0)])
    wide = np.concatenate([np.full(10, 100.0), np.full(20, 50.0), np.full(5, 80.0)])
    vessels = anatomy.Vessels(x, np.zeros(35), np.zeros(35), wide, np.zeros(35, bool))
    one = eye(vessels=vessels, disc=(-4.5, 0.0), disc_size=(1.2, 1.4), axial_length=24.0, centre=(0.0, 0.0))
    radius = 22.5 * 0.01306 * (24.0 - 1.82)
    area = 0.16 * (10 * 0.1 + 20 * 0.05)
    assert one.vessel_density == pytest.approx(100 * area / (np.pi * radius**2))
    assert one.vessel_calibre == pytest.approx(100.0)


def test_vessels_and_haze_are_read_off_pictures():
    drawn = [anatomy.draw_eye(np.random.default_rng(seed)) for seed in range(150)]
    read = fundus.measure(np.stack([picture(one) for one in drawn]))
    for name, least in (("haze", 0.9), ("axial_length", 0.8), ("vessel_density", 0.2)):
        truth = [getattr(one, name) for one in drawn]
        assert np.corrcoef(read[name], truth)[0, 1] > least, name


def test_a_right_eye_is_the_mirror_of_a_left_one():
    left, right = picture(eye(right=False)), picture(eye(right=True))
    light = slice(None), slice(8, 56), slice(8, 56)
    assert np.corrcoef(left[light].ravel(), right[light][..., ::-1].ravel())[0, 1] > 0.9
    for drawn, side in ((left, 0), (right, 1)):
        assert fundus.measure(drawn[None])["eye"][0] == side


def test_every_covariate_shows():
    usual = eye(ageing=0.5)
    inside = picture(usual).min(0) > 8

    def spread(p: np.ndarray) -> float:
        return p[1][inside].std() / p[1][inside].mean()

    assert spread(picture(replace(usual, haze=0.5))) < 0.75 * spread(picture(usual))
    young, old = (picture(replace(usual, ageing=a))[2][inside].mean() for a in (0.0, 1.0))
    assert old < 0.75 * young  # the lens takes blue away
    apart = [
        fundus.features(picture(replace(usual, axial_length=length))[None])["apart"][0]
        for length in (22.0, 27.0)
    ]
    assert apart[1] < 0.86 * apart[0]  # a long eye's retina looks smaller
    wide = picture(replace(usual, crescent=0.5)) - picture(replace(usual, crescent=0.03))
    assert wide[1].max() > 30
    rng = np.random.default_rng(3)
    spots = [
        fundus.features(picture(replace(usual, lesions=anatomy._lesions(rng, g, usual.disc)))[None])
        for g in (0, 4)
    ]
    assert spots[1]["dark_spots"][0] > 1.5 * spots[0]["dark_spots"][0]


def test_cameras_differ_in_field_and_colour():
    first, second = (picture(eye(), camera) for camera in (0, 1))
    assert first[:, 1, 32].max() > 60 and second[:, 1, 32].max() < 20  # the second cuts above and below
    ratio = [np.median(p[2][20:44, 20:44] / p[0][20:44, 20:44]) for p in (first, second)]
    assert ratio[1] < 0.75 * ratio[0]


def test_colours_are_those_of_a_real_photograph():
    data = pytest.importorskip("skimage.data")
    photo = np.asarray(data.retina(), float)[:1408, :1408].reshape(64, 22, 64, 22, 3).mean((1, 3))
    phantoms = [picture(anatomy.draw_eye(np.random.default_rng(seed))) for seed in range(24)]

    def at(p: np.ndarray, share: float) -> np.ndarray:
        field = p[16:48, 16:48].reshape(-1, 3)
        return np.quantile(field, share, axis=0)

    for share in (0.1, 0.5, 0.9):
        drawn = np.array([at(p.transpose(1, 2, 0), share) for p in phantoms])
        real = at(photo, share)
        assert (drawn.min(0) - 12 < real).all() and (real < drawn.max(0) + 12).all()


@pytest.mark.parametrize("wrong", [{"resolution": 48}, {"subjects": 1}], ids=["resolution", "subjects"])
def test_what_cannot_be_drawn_is_refused(wrong, tmp_path):
    with pytest.raises(UsageError):
        recipe.prepare(tmp_path / "out", **({"subjects": 4} | wrong))
