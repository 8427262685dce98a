"""Brain phantoms: the anatomy they come from, deformations that never fold, truth that holds, sources that
fit studies."""

import json

import numpy as np
import pytest

from mssg import load_study
from mssg.data.dataset import open_sources
from mssg.data.recipes import phantom as recipe
from mssg.data.recipes import phantom_anatomy as anatomy
from mssg.errors import UsageError

pytestmark = pytest.mark.slow

FIRST, SECOND = anatomy.HEADS


@pytest.fixture(scope="module")
def built():
    return anatomy.build(FIRST)


@pytest.fixture(scope="module", params=anatomy.HEADS)
def whole(request, built):
    return built[0] if request.param == FIRST else anatomy.anatomy_of(request.param)


@pytest.fixture(scope="module")
def prepared(built, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(anatomy, "build", lambda head: built)
        out = tmp_path_factory.mktemp("phantoms")
        return (
            recipe.prepare(out / "twelve", 12),
            recipe.prepare(out / "five", 5),
            recipe.prepare(out / "large", 3, resolution=128),
        )


def test_the_ventricles_are_the_lateral_ventricles(built):
    whole, _ = built
    inside = whole.wall > 0
    side = np.arange(inside.shape[0]) + anatomy.ORIGIN[0]
    left, right = inside[side < 0].sum() / 1000, inside[side > 0].sum() / 1000
    assert 5 < left < 9 and left == pytest.approx(right, rel=0.05)  # the template is symmetric
    assert whole.t1[inside].max() < 0.4 and (whole.grey + whole.white)[inside].mean() < 0.3


def test_the_second_head_has_its_own_ventricles_and_tissues(built):
    first, second = built[0], anatomy.anatomy_of(SECOND)
    assert 20 < (second.wall > 0).sum() / 1000 < 30
    assert second.t1[second.wall > 0].max() < 0.4
    assert 0.8e6 < second.grey.sum() < 1.1e6 and 0.5e6 < second.white.sum() < 0.7e6
    # one space: mostly the same tissue at the same place, but folds of its own
    assert 0.5 < np.corrcoef(first.white.ravel()[::7], second.white.ravel()[::7])[0, 1] < 0.9


def test_the_two_velocities_never_meet(whole):
    meet = np.any(whole.ventricle_velocity != 0, 0) & np.any(whole.cortex_velocity != 0, 0)
    assert not meet.any()


def test_flows_never_fold(whole):
    slab = whole.slab(1, 100, 132)
    grid = np.stack(np.meshgrid(*[np.arange(n, dtype=np.float32) for n in slab.t1.shape], indexing="ij"))
    for velocity, strengths in (
        (slab.ventricle_velocity, recipe.VENTRICLE_STEPS[[0, -1]]),
        (slab.cortex_velocity, recipe.CORTEX_STEPS[[0, -1]]),
    ):
        for strength in strengths:
            moved = anatomy.flow(velocity, grid.reshape(3, -1), float(strength), 0.5).reshape(grid.shape)
            jacobian = np.linalg.det(np.stack(np.gradient(moved, axis=(1, 2, 3)), 1).transpose(2, 3, 4, 0, 1))
            assert (
                jacobian[:, 4:-4].min() > 0
            )  # finite differences at a voxel: away from the slab's cut faces


def test_volumes_follow_the_strengths(built):
    _, volumes = built
    ventricle, grey = volumes.ventricle.sum(1), volumes.grey.sum(1)
    assert (np.diff(ventricle) > 0).all() and ventricle[0] < 6 and ventricle[-1] > 120
    assert (np.diff(grey) < 0).all() and grey[0] / grey[-1] > 1.2


def test_the_truth_is_what_a_head_holds(built):
    whole, volumes = built
    head = recipe.draw_head(np.random.default_rng(3), volumes)
    step = 3.0
    axes = [np.arange(o, o + n, step, dtype=np.float32) for o, n in zip(anatomy.ORIGIN, whole.t1.shape)]
    points = np.stack(np.meshgrid(*axes, indexing="ij")).reshape(3, -1)
    p = head.shape.to_template(points)
    p = anatomy.flow(whole.cortex_velocity, p, head.cortex_strength, 0.5)
    p = anatomy.flow(whole.ventricle_velocity, p, head.ventricle_strength, 0.5)
    ventricle = anatomy.sample((whole.wall > 0).astype(np.float32), p).sum() * step**3 / 1000
    grey = anatomy.sample(whole.grey, p).sum() * step**3 / 1000
    assert ventricle == pytest.approx(head.truth[1], rel=0.05)
    assert grey == pytest.approx(head.truth[2], rel=0.02)


def test_a_random_shape_maps_volume_as_its_jacobian_says(built):
    whole, _ = built
    shape = anatomy.random_shape(np.random.default_rng(5), whole.t1.shape)
    assert shape.jacobian.min() > 0
    # a ball in the template: its volume in the subject, counted there, against the Jacobian's sum
    centre, radius = np.array([98.0, 116.0, 80.0]), 40.0
    axes = [np.arange(-110, 111, 3.0, dtype=np.float32)] * 3
    points = np.stack(np.meshgrid(*axes, indexing="ij")).reshape(3, -1)
    inside = np.linalg.norm(shape.to_template(points) - centre[:, None], axis=0) < radius
    voxels = np.stack(np.meshgrid(*[np.arange(0.0, n, 3) for n in whole.t1.shape], indexing="ij")).reshape(
        3, -1
    )
    ball = voxels[:, np.linalg.norm(voxels - centre[:, None], axis=0) < radius].astype(np.float32)
    expected = anatomy.sample(shape.jacobian, ball / np.float32(anatomy.SHAPE_STEP)).sum()
    assert inside.sum() == pytest.approx(expected, rel=0.02)


def test_sources_fit_their_studies_and_no_subject_crosses(prepared):
    summary = prepared[0]
    for name in recipe.STUDIES:
        study = load_study(summary.folder / name)
        sources = open_sources(study, verify=True)
        assert study.instrument == "brain" and study.geometry.pixel_mm == 2.5
        study.fit_statistics([s.columns(study) for s in sources])
    a, b = open_sources(load_study(summary.folder / "study.toml"))
    _, scanner2 = open_sources(load_study(summary.folder / "study-scanners.toml"))
    assert not set(a.subjects) & set(b.subjects) and list(scanner2.subjects) == list(b.subjects)
    split = dict(zip([*a.subjects, *b.subjects], [*a.split, *b.split]))
    (everything,) = open_sources(load_study(summary.folder / "study-all.toml"))
    assert split == dict(zip(everything.subjects, everything.split))
    assert np.abs(scanner2.images.astype(float) - b.images).mean() > 3  # another contrast
    info = json.loads((summary.folder / "a" / "source.json").read_text())
    assert info["semi_synthetic"] and "not patients" in info["origin"]


def test_a_head_depends_on_its_subject_alone(prepared):
    twelve, five, _ = (open_sources(load_study(p.folder / "study-all.toml"))[0] for p in prepared)
    np.testing.assert_array_equal(five.images, twelve.images[:5])
    np.testing.assert_array_equal(five.table["ventricle"], twelve.table["ventricle"][:5])


def test_finer_pictures_show_the_same_head(prepared):
    twelve, _, large = (open_sources(load_study(p.folder / "study-all.toml"))[0] for p in prepared)
    coarse = large.images[:3, 0].reshape(3, 64, 2, 64, 2).mean((2, 4))
    for fine, same in zip(coarse, twelve.images[:3, 0]):
        assert np.corrcoef(fine.ravel(), same.ravel())[0, 1] > 0.97
    assert load_study(prepared[2].folder / "study.toml").geometry.pixel_mm == 1.25


def test_age_darkens_the_wall_and_nothing_else(built):
    whole, volumes = built
    head = recipe.draw_head(np.random.default_rng(1), volumes)
    slab, points = whole.slab(1, 90, 143), recipe.slice_points("coronal", 64)

    def picture(age):
        other = recipe.HeadPhantom(
            head.target, (age, *head.truth[1:]), head.ventricle_strength, head.cortex_strength, head.shape
        )
        return recipe.draw_slice(np.random.default_rng(0), other, slab, points, recipe.SCANNERS[0]).astype(
            float
        )

    young, old = picture(46.0), picture(81.0)
    darker = young - old
    centre, border = darker[24:40, 20:44], darker[:12]
    assert centre.max() > 25 and np.abs(border).max() < 12


@pytest.mark.parametrize(
    "wrong",
    [
        {"resolution": 48},
        {"plane": "oblique"},
        {"subjects": 1},
        {"at": [1.0]},
        {"at": [1, 2], "slices": 3},
        {"in_pairs": True},
        {"keep_empty": True},
        {"at": [1, 2, 3], "slices": 3, "in_pairs": True},
    ],
    ids=lambda w: "-".join(w),
)
def test_what_cannot_be_drawn_is_refused(wrong, tmp_path):
    with pytest.raises(UsageError):
        recipe.prepare(tmp_path / "out", **({"subjects": 4} | wrong))


def test_stacks_are_slices_of_one_head(built, tmp_path, monkeypatch):
    monkeypatch.setattr(anatomy, "build", lambda head: built)
    places = [-96.0, -40.0, -18.0, 10.0, 90.0]
    recipe.prepare(tmp_path / "heads", 6, at=places)
    study = load_study(tmp_path / "heads" / "study-all.toml")
    (whole,) = open_sources(study)
    assert study.position == "position_mm" and study.geometry.position_mm == -18.0
    where, subjects = whole.table["position_mm"], whole.subjects
    assert 90.0 not in where  # misses every head
    truth = {s: set(whole.table["ventricle"][subjects == s]) for s in set(subjects)}
    assert all(len(values) == 1 for values in truth.values()) and len({*map(tuple, truth.values())}) == 6
    middle = whole.images[where == -18.0][:, 0].astype(float)
    single = recipe.prepare(tmp_path / "single", 6)
    (alone,) = open_sources(load_study(single.folder / "study-all.toml"))
    for stacked, same in zip(middle, alone.images[:, 0].astype(float)):
        assert np.corrcoef(stacked.ravel(), same.ravel())[0, 1] > 0.99  # other noise and bias
    recipe.prepare(tmp_path / "two", 6, at=places[:4], slices=2)
    for name in recipe.STUDIES:
        for source in open_sources(load_study(tmp_path / "two" / name)):
            assert np.unique(source.subjects, return_counts=True)[1].max() <= 2
    recipe.prepare(tmp_path / "all", 6, at=places, keep_empty=True)
    (every,) = open_sources(load_study(tmp_path / "all" / "study-all.toml"))
    assert len(every.images) == 30 and (every.images[every.table["position_mm"] == 90.0] < 40).all()
    recipe.prepare(tmp_path / "pairs", 6, at=[-30.0, -20.0, -10.0, 0.0, 10.0], slices=2, in_pairs=True)
    (paired,) = open_sources(load_study(tmp_path / "pairs" / "study-all.toml"))
    assert (np.diff(paired.table["position_mm"].reshape(6, 2)) == 10).all()
