"""Whole heads: every slice where it belongs, the same pictures as alone, voxels in millimetres."""

import json

import nibabel
import numpy as np
import pytest
import torch
from click.testing import CliRunner

import mssg
from mssg.checkpoint.snapshot import load_snapshot
from mssg.errors import ArgumentError, UsageError
from mssg.rendering.image_files import to_grey
from mssg.rendering.renderer import Renderer
from mssg.rendering.request import RenderRequest
from mssg.rendering.volume import DrawnVolume, at_place, draw_volume, places_of, resampled
from trainer_cli import main as entry

AXES = {"coronal": 1, "axial": 2, "sagittal": 0}


def generate(*words, fails=False):
    done = CliRunner().invoke(entry.cli, ["generate", *map(str, words)])
    assert (done.exit_code != 0) == fails, done.output
    return done.output


@pytest.fixture(scope="module")
def heads(make_heads):
    return make_heads()


@pytest.mark.parametrize("plane", AXES)
def test_slices_stand_where_they_are_drawn(make_heads, plane):
    renderer = Renderer(load_snapshot(make_heads(plane)))
    request = RenderRequest(seed=3, covariates=(("thickness", 4.0),))
    volume, axis = draw_volume(renderer, request), AXES[plane]
    places = places_of(renderer.study, renderer.header.summary)
    np.testing.assert_array_equal(places, np.arange(-60, 41, 5))
    assert volume.data.shape == tuple(21 if a == axis else 32 for a in range(3))
    assert volume.affine[axis, 3] == -60 and volume.affine[axis, axis] == 5 and volume.code == 2
    for number in (0, 14, 20):
        (alone,) = renderer.pictures([at_place(renderer.study, request, places[number])])
        upright = to_grey(alone)[0][::-1].T  # row 0 of a picture is at the top
        np.testing.assert_array_equal(np.take(volume.data, number, axis), upright)
    middle = volume.affine @ [*((np.array(volume.data.shape) - 1) / 2), 1]
    across, up = (a for a in range(3) if a != axis)
    assert (middle[across], middle[up]) == (3.0, -5.0)


def test_a_place_as_sines_comes_back_from_its_file(make_heads):
    loaded = load_snapshot(make_heads(position_frequencies=3))
    study, mapping = loaded.study, loaded.G.mapping
    assert mapping.position_index == study.layout[study.position].start
    assert mapping.embed_position.weight.shape[1] == 6
    renderer = Renderer(loaded)
    request = at_place(study, RenderRequest(seed=1), 9.0)
    (before,) = renderer.pictures([request])
    torch.nn.init.normal_(renderer.G.mapping.embed_position.weight)
    (after,) = Renderer(loaded).pictures([request])
    assert not np.array_equal(before, after)


def test_the_place_is_the_studys_own_where_nobody_says(heads):
    renderer = Renderer(load_snapshot(heads))
    assert renderer.defaults["depth"] == 10.0
    volume = draw_volume(renderer, RenderRequest(seed=1))
    (alone,) = renderer.pictures([RenderRequest(seed=1)])
    np.testing.assert_array_equal(volume.data[:, 14], to_grey(alone)[0][::-1].T)


def test_a_scanners_noise_is_another_at_each_place(make_heads):
    renderer = Renderer(load_snapshot(make_heads(image_noise=True)))
    strength = renderer.G.synthesis.image_noise.strength
    places = (-10.0, -5.0, -10.0)

    def drawn(batch=None):
        requests = [at_place(renderer.study, RenderRequest(seed=4), place) for place in places]
        return np.stack(list(renderer.pictures(requests, batch)))

    quiet = drawn()
    torch.nn.init.constant_(strength.bias, 0.5)
    first, second, again = noise = drawn() - quiet
    np.testing.assert_array_equal(first, again)
    assert abs(np.corrcoef(first.ravel(), second.ravel())[0, 1]) < 0.1 and 0.4 < noise.std() < 0.6
    np.testing.assert_allclose(drawn(batch=3), quiet + noise, atol=1e-4)
    still = [at_place(renderer.study, RenderRequest(seed=4, noise_mode="none"), place) for place in places]
    assert not np.array_equal(*list(renderer.pictures(still))[:2])  # the anatomy of another place


@pytest.mark.parametrize("edge", [1.0, 2.5, 6.0])
def test_resampling_keeps_places(edge):
    affine = np.diag([4.0, 5.0, 4.0, 1.0])
    affine[:3, 3] = -40, -60, -70
    ramp = np.stack(np.meshgrid(*[np.arange(n) for n in (20, 25, 22)], indexing="ij")).astype(np.float32)
    for axis in range(3):
        data = ramp[axis] * affine[axis, axis] + affine[axis, 3]  # each voxel holds its own millimetres
        got = resampled(DrawnVolume(data.astype(np.float32), affine, 2, (-60, 60, 5)), edge)
        assert np.allclose(np.diag(got.affine)[:3], edge)
        count = got.data.shape
        assert np.abs(np.array(count) * edge - np.array([80, 125, 88])).max() <= edge
        where = np.arange(count[axis]) * edge + got.affine[axis, 3]
        line = np.moveaxis(got.data, axis, 0)[:, count[axis - 2] // 2, count[axis - 1] // 2]
        inside = (where >= data.min()) & (where <= data.max())
        np.testing.assert_allclose(line[inside], where[inside], atol=1e-3)


def test_a_head_from_python_and_from_the_command_line_is_one(heads, tmp_path):
    model = mssg.load(heads)
    head = model.draw_volume(thickness=3, seed=2)
    assert head.array.shape == (32, 21, 32) and head.array.dtype == np.uint8
    assert head.values["thickness"] == 3.0 and "depth" not in head.values and head.seed == 2
    path = head.save(tmp_path / "new" / "head.nii.gz")
    out = tmp_path / "cli.nii.gz"
    output = generate(heads, "--volume", "--seed", 2, "--fix", "thickness=3", "-o", out)
    assert "slices from -60 to 40 mm" in output
    ours, theirs = (nibabel.load(p) for p in (path, out))
    np.testing.assert_array_equal(ours.get_fdata(), theirs.get_fdata())
    np.testing.assert_array_equal(ours.affine, theirs.affine)
    assert ours.get_sform(coded=True)[1] == ours.get_qform(coded=True)[1] == 2
    np.testing.assert_array_equal(np.rint(ours.get_fdata()), head.array)
    about = json.loads(path.with_name("head.json").read_text())
    assert about["Slices"] == {"Units": "mm", "First": -60.0, "Last": 40.0, "Step": 5.0}
    assert "depth" not in about["Covariates"] and "--volume" in about["GeneratedBy"][0]["Command"]


def test_a_sweep_is_the_fourth_axis_and_a_slice_is_cut_where_asked(heads, tmp_path):
    out = tmp_path / "ages.nii.gz"
    generate(heads, "--volume", "--sweep", "thickness=2:4:3", "--resample", 4, "-o", out)
    image = nibabel.load(out)
    assert image.shape == (32, 26, 32, 3) and image.header.get_zooms() == (4, 4, 4, 1)
    generate(heads, "--at", -25, "-o", tmp_path / "cut.nii.gz")
    assert nibabel.load(tmp_path / "cut.nii.gz").affine[1, 3] == -25
    whole = draw_volume(Renderer(load_snapshot(heads)), RenderRequest())
    np.testing.assert_array_equal(nibabel.load(tmp_path / "cut.nii.gz").get_fdata()[:, 0], whole.data[:, 7])


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--volume", "-o", "x.png"), ".nii.gz"),
        (("--volume", "--seed", "1,2", "-o", "x.nii.gz"), "one seed"),
        (("--volume", "--at", "3", "-o", "x.nii.gz"), "every place"),
        (("--volume", "--sweep", "depth=0,5", "-o", "x.nii.gz"), "every place"),
        (("--volume", "--resample", "0", "-o", "x.nii.gz"), "--resample"),
        (("--volume", "--resample", "0.01", "-o", "x.nii.gz"), "too many voxels"),
        (("--resample", "2", "-o", "x.nii.gz"), "--volume"),
        (("--at", "3", "--fix", "depth=3", "-o", "x.png"), "given twice"),
    ],
)
def test_what_cannot_be_is_refused(heads, tmp_path, monkeypatch, arguments, words):
    monkeypatch.chdir(tmp_path)
    assert words in generate(heads, *arguments, fails=True)
    assert list(tmp_path.iterdir()) == []


def test_python_refuses_what_cannot_be(heads):
    model = mssg.load(heads)
    for wrong, words in (
        ({"depth": 3}, "every place"),
        ({"thicknes": 3}, "did you mean 'thickness'"),
        ({"resample": "fine"}, "resample"),
        ({"resample": float("nan")}, "resample"),
        ({"resample": -1}, "resample"),
        ({"seed": [1, 2]}, "seed"),
    ):
        with pytest.raises(ArgumentError, match=words):
            model.draw_volume(**wrong)


def test_a_study_of_one_place_has_no_volumes(tiny_snapshot, tiny_renderer, tmp_path):
    for option in (("--volume",), ("--at", "3")):
        generate(tiny_snapshot, *option, "-o", tmp_path / "x.nii.gz", fails=True)
    with pytest.raises(UsageError, match="one place"):
        draw_volume(tiny_renderer, RenderRequest())
    with pytest.raises(ArgumentError, match="one place"):
        mssg.load(tiny_snapshot).draw_volume()
