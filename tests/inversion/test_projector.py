"""Inversion: finds what the generator drew, continues exactly, refuses what does not fit."""

from __future__ import annotations

import signal
from pathlib import Path

import numpy as np
import pytest
import torch

from mssg.checkpoint.snapshot import load_snapshot
from mssg.errors import DataError, UsageError
from mssg.features.perceptual import perceptual_distance
from mssg.inversion.image_reader import read_picture
from mssg.inversion.latent_file import InvertedImage, estimate_values, read_latent
from mssg.inversion.projector import Inversion, InvertConfig, draw, edited_ws, invert, noise_structure
from mssg.rendering.request import RenderRequest
from mssg.study.covariate import Covariate
from mssg.study.model import Source, Study

FEW = InvertConfig(steps=12, candidates=16, features="none")


@pytest.fixture(scope="module")
def snapshot(tiny_snapshot):
    return load_snapshot(tiny_snapshot)


@pytest.fixture(scope="module")
def drawn(tiny_renderer):
    """Four images of the generator and the values they were drawn with."""
    values = np.stack([tiny_renderer.values({"thickness": t, "digit": t % 3}) for t in (2, 3, 4, 5)])
    return tiny_renderer.images(values, [3, 4, 5, 6]), values


class Mapping(torch.nn.Module):
    """w = z (1 + c / 2) + 2 c: what a covariate does depends on z, so shifting w by a mean would be wrong."""

    def forward(self, z, c):
        return (z * (1 + c / 2) + 2 * c)[:, None].expand(-1, 3, -1)


class Linear(torch.nn.Module):
    """A picture that is linear in the mean of three w of length four."""

    def __init__(self):
        super().__init__()
        self.register_buffer("basis", torch.randn(4, 64, generator=torch.Generator().manual_seed(0)) / 20)

    def forward(self, ws):
        return (ws.mean(1) @ self.basis).reshape(-1, 1, 8, 8)


class Toy(torch.nn.Module):
    """A generator whose every answer is known."""

    z_dim, w_dim, num_ws, img_channels, img_resolution = 4, 4, 3, 1, 8

    def __init__(self):
        super().__init__()
        self.mapping, self.synthesis = Mapping(), Linear()
        self.anchor = torch.nn.Parameter(torch.zeros(1), requires_grad=False)

    def pictures(self, z, c):
        drawn = self.synthesis(self.mapping(torch.from_numpy(z), torch.from_numpy(c))).numpy()
        assert np.abs(drawn).max() < 1
        return np.rint((drawn + 1) * 127.5).astype(np.uint8)


def toy_study():
    age = Covariate("age", "continuous", "years", offset=0.0, spread=1.0)
    return Study("toy", 8, 1, (age,), (Source("A", "a", ("age",)),))


@pytest.mark.slow
@pytest.mark.parametrize("space", ["w", "w+"])
def test_an_edit_keeps_what_the_covariate_does_not_explain(space):
    G, study = Toy(), toy_study()
    z = np.random.default_rng(0).standard_normal((5, 4)).astype(np.float32)
    before, after = (np.full((5, 1), v, np.float32) for v in (-0.5, 1.0))
    images = G.pictures(z, before)
    config = InvertConfig(space, 300, residual_weight=0.01, features="none")
    found = invert(G, study, images, before.astype(float), config)
    assert np.abs(draw(G, study, found).astype(int) - images).max() <= 2
    wanted = G.pictures(z, after).astype(int)
    edited = draw(G, study, found, after.astype(float)).astype(int)
    shifted = images + (
        G.pictures(z * 0, after).astype(int) - G.pictures(z * 0, before)
    )  # w moved by the mean
    assert np.abs(edited - wanted).mean() < 2 < 4 < np.abs(shifted - wanted).mean()


@pytest.mark.slow
def test_it_finds_what_the_generator_drew(snapshot, drawn):
    images, values = drawn
    found = invert(snapshot.G, snapshot.study, images, values, InvertConfig(steps=100, features="none"))
    error = np.abs(draw(snapshot.G, snapshot.study, found).astype(float) - images).mean()
    assert error < 0.25 * np.abs(images[:1].astype(float) - images[1:]).mean()
    assert found.residual.shape == (4, snapshot.G.num_ws, snapshot.G.w_dim) and not found.state


def test_w_has_one_residual_for_all_layers(snapshot, drawn):
    config = InvertConfig("w", steps=5, candidates=4, features="none")
    found = invert(snapshot.G, snapshot.study, *(a[:1] for a in drawn), config)
    assert np.ptp(found.residual, axis=1).max() == 0 < np.abs(found.residual).max()


def test_no_edit_is_the_same_picture_and_there_and_back_too(snapshot, drawn):
    images, values = drawn
    found = invert(snapshot.G, snapshot.study, images[:1], values[:1], FEW)
    ws = edited_ws(snapshot.G, snapshot.study, found)
    assert torch.equal(ws, edited_ws(snapshot.G, snapshot.study, found, values[:1].copy()))


@pytest.mark.slow
def test_images_do_not_influence_each_other(snapshot, drawn):
    images, values = drawn
    together = invert(snapshot.G, snapshot.study, images, values, FEW)
    alone = invert(snapshot.G, snapshot.study, images[:1], values[:1], FEW)
    np.testing.assert_allclose(together.z[:1], alone.z, atol=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("free_noise", [False, True])
def test_an_interrupted_search_ends_as_an_uninterrupted_one(snapshot, drawn, free_noise):
    images, values = drawn[0][:2], drawn[1][:2]
    config = InvertConfig(steps=12, candidates=4, free_noise=free_noise, features="none")
    whole = invert(snapshot.G, snapshot.study, images, values, config)
    part = invert(snapshot.G, snapshot.study, images, values, config, progress=lambda step: step == 5)
    assert part.steps == 5 and part.state
    rest = invert(snapshot.G, snapshot.study, images, values, config, resume=part)
    for name in ("z", "residual", "loss"):
        assert np.array_equal(getattr(rest, name), getattr(whole, name)), name
    assert bool(rest.noise) is free_noise


def test_structure_of_noise_is_that_of_appendix_d():
    noise = torch.randn(1, 1, 16, 16, generator=torch.Generator().manual_seed(0)).double()
    total, level = 0.0, noise[0, 0].numpy()
    while True:
        side = len(level)
        for dx, dy in ((1, 0), (0, 1)):
            products = [level[x, y] * level[x - dx, y - dy] for x in range(side) for y in range(side)]
            total += (sum(products) / side**2) ** 2
        if side == 8:
            break
        level = (level[::2, ::2] + level[1::2, ::2] + level[::2, 1::2] + level[1::2, 1::2]) / 2
    assert float(noise_structure(noise)) == pytest.approx(total, rel=1e-9)
    assert float(noise_structure(torch.ones(1, 1, 16, 16))) > 100 * total


@pytest.mark.parametrize("spec, weights", [("discriminator", None), ("lpips-alex", "random")])
def test_features_lead_to_the_image(snapshot, drawn, spec, weights):
    distance = perceptual_distance(spec, snapshot, weights)
    target = torch.from_numpy(drawn[0][:1]).float() / 127.5 - 1
    other = torch.from_numpy(drawn[0][3:]).float() / 127.5 - 1
    other.requires_grad_(True)
    measure = distance(target)
    assert float(measure(target)) < 1e-9 < float(measure(other).detach())
    measure(other).sum().backward()
    assert other.grad.abs().max() > 0
    found = invert(
        snapshot.G, snapshot.study, *(a[:1] for a in drawn), InvertConfig(steps=2, features=spec), distance
    )
    assert np.isfinite(found.loss).all()


def test_features_that_cannot_be_had_are_named(snapshot, monkeypatch, tmp_path):
    from mssg.features import lpips

    assert perceptual_distance("none", snapshot) is None
    with pytest.raises(DataError, match="LPIPS trunk"):
        monkeypatch.setattr("lpips.LPIPS", lambda **options: (_ for _ in ()).throw(OSError("offline")))
        perceptual_distance("lpips-vgg", snapshot)
    with pytest.raises(UsageError, match=r"lpips|LPIPS"):
        perceptual_distance("lpips-other", snapshot)
    assert set(lpips.TRUNKS) == {"alex", "vgg", "squeeze"}


@pytest.mark.parametrize(
    "options, said",
    [
        ({"space": "z"}, "w+"),
        ({"steps": 0}, "1 or more"),
        ({"lr": float("nan")}, "0 or more"),
        ({"pixel_weight": 0, "features": "none"}, "nothing to fit"),
    ],
)
def test_settings_that_cannot_be_are_refused(options, said):
    with pytest.raises(UsageError, match=said.replace("+", r"\+")):
        InvertConfig(**options)


def test_images_and_values_that_do_not_fit_are_refused(snapshot, drawn):
    images, values = drawn
    with pytest.raises(UsageError, match="do not fit the generator"):
        invert(snapshot.G, snapshot.study, images[:, :, :16], values, FEW)
    values = values.copy()
    values[0, 0] = np.nan
    with pytest.raises(UsageError, match="every covariate"):
        invert(snapshot.G, snapshot.study, images, values, FEW)


def test_covariates_are_given_or_measured_or_read_by_the_discriminator(snapshot, drawn):
    from strokes import draw_strokes

    image = draw_strokes(*(np.array([v]) for v in (4.0, 200.0, 10.0, 0.0)))[0]
    values, how = estimate_values(snapshot, image, {"slant": 33.0})
    assert how == {
        "slant": "given",
        "thickness": "oracle-digits",
        "intensity": "oracle-digits",
        "digit": "discriminator",
    }
    study = snapshot.study
    assert values[0, study.index("slant")] == 33 and values[0, study.index("intensity")] == pytest.approx(
        200, abs=5
    )
    assert values[0, study.index("digit")] in (0, 1, 2)


def inverted(snapshot, drawn, config=FEW) -> InvertedImage:
    images, values = drawn
    found = invert(snapshot.G, snapshot.study, images[:1], values[:1], config)
    w = edited_ws(snapshot.G, snapshot.study, found)[0].numpy()
    how = dict.fromkeys(snapshot.study.condition_names, "given")
    return InvertedImage(snapshot.header.snapshot_id, snapshot.study.name, images[0], how, config, found, w)


@pytest.mark.parametrize("free_noise", [False, True])
def test_files_come_back_and_the_renderer_draws_and_edits_them(
    snapshot, tiny_renderer, drawn, tmp_path, free_noise
):
    kept = inverted(
        snapshot, drawn, InvertConfig(steps=3, candidates=4, features="none", free_noise=free_noise)
    )
    path = kept.save(tmp_path / "w.safetensors")
    back = InvertedImage.load(path)
    assert back.same_task(kept) and back.finished and np.array_equal(back.w, kept.w)
    image = tiny_renderer.render(RenderRequest(latent=read_latent(path))).image
    expected = draw(snapshot.G, snapshot.study, kept.inversion)[0]
    assert np.abs((image + 1) * 127.5 - expected).max() < 0.6 or np.abs(image).max() > 1
    edit = RenderRequest(latent=read_latent(path), covariates={"thickness": 5.0})
    values = kept.edited(snapshot.study.condition_names, {"thickness": 5.0})
    wanted = draw(snapshot.G, snapshot.study, kept.inversion, values)[0].astype(float)
    got = np.clip((tiny_renderer.render(edit).image + 1) * 127.5, 0, 255)
    assert np.abs(got - wanted).max() < 0.6
    assert edit.latent.edited(snapshot.study.condition_names, edit.covariates)["thickness"] == 5.0
    assert edit.latent.file == str(path)
    with pytest.raises(UsageError, match="another snapshot"):
        back.fitting(_other(snapshot), path)


def _other(snapshot):
    class Other:
        header = type("H", (), {"snapshot_id": "000000000000", "path": Path("other.safetensors")})

    return Other()


def test_files_of_another_kind_are_refused(tmp_path):
    from safetensors.numpy import save_file

    save_file({"w": np.zeros((3, 4), np.float32)}, tmp_path / "bare.safetensors")
    (tmp_path / "text.safetensors").write_text("nothing")
    for name, said in (
        ("bare", "no inverted image"),
        ("text", "no inverted image"),
        ("none", "no such file"),
    ):
        with pytest.raises(UsageError, match=said):
            InvertedImage.load(tmp_path / f"{name}.safetensors")


def _pictures(folder, image):
    """The same picture in every format."""
    import nibabel
    from PIL import Image

    Image.fromarray(image[0]).save(folder / "grey.png")
    Image.fromarray(np.repeat(image[0][..., None], 3, 2)).save(folder / "colour.png")
    Image.fromarray(image[0].astype(np.uint16) * 257).save(folder / "deep.png")
    np.save(folder / "bytes.npy", image)
    np.save(folder / "float.npy", image[0].astype(np.float32))
    stored = np.expand_dims(image[0][::-1].T, 1)
    nibabel.save(nibabel.Nifti1Image(stored, np.diag([2.0, 2, 2, 1])), folder / "slice.nii.gz")
    return [p.name for p in folder.iterdir()]


def test_every_format_gives_the_same_image(snapshot, drawn, tmp_path):
    names = _pictures(tmp_path, drawn[0][0])
    assert len(names) == 6
    for name in names:
        assert np.array_equal(read_picture(tmp_path / name, snapshot.study), drawn[0][0]), name


def test_pictures_that_do_not_fit_are_refused_by_name(snapshot, tmp_path):
    import nibabel
    from PIL import Image

    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 4), np.uint8)
    Image.fromarray(noise[:, :, 0]).save(tmp_path / "large.png")
    Image.fromarray(noise[:32, :32, :3]).save(tmp_path / "rgb.png")
    Image.fromarray(noise[:32, :32]).save(tmp_path / "alpha.png")
    (tmp_path / "broken.png").write_bytes(b"\x89PNG\r\n")
    np.save(tmp_path / "unit.npy", np.random.default_rng(0).random((32, 32)))
    np.save(tmp_path / "nan.npy", np.full((32, 32), np.nan))
    np.save(tmp_path / "empty.npy", np.full((32, 32), 7, np.uint8))
    np.save(tmp_path / "many.npy", np.zeros((4, 1, 32, 32), np.uint8))
    np.save(tmp_path / "complex.npy", np.zeros((32, 32), complex))
    np.save(tmp_path / "object.npy", np.array([{}]), allow_pickle=True)
    nibabel.save(nibabel.Nifti1Image(noise[:8, :8], np.eye(4)), tmp_path / "volume.nii")
    said = {
        "large.png": "64 x 64",
        "rgb.png": "Save it in grey",
        "alpha.png": "Save it in grey",
        "broken.png": "cannot be read",
        "unit.npy": "0 to 255",
        "nan.npy": "NaN",
        "empty.npy": "empty",
        "many.npy": "not one picture",
        "complex.npy": "not numbers",
        "object.npy": "cannot be read",
        "volume.nii": "mssg prepare mri",
        "missing.png": "no such file",
        "table.csv": "not a picture",
    }
    for name, text in said.items():
        with pytest.raises(DataError, match=text) as raised:
            read_picture(tmp_path / name, snapshot.study)
        assert name in str(raised.value)


@pytest.mark.slow
def test_the_command_stops_when_asked_and_continues(snapshot, tiny_snapshot, drawn, tmp_path, monkeypatch):
    from click.testing import CliRunner

    import mssg.inversion.projector as engine
    from trainer_cli.main import cli

    np.save(tmp_path / "x.npy", drawn[0][0])

    def run(*more, steps=20):
        words = ["invert", tmp_path / "x.npy", "--snapshot", tiny_snapshot, "-o", tmp_path / "w.safetensors"]
        words += ["--fix", "thickness=2", "--fix", "intensity=120", "--fix", "slant=3", "--fix", "digit=2"]
        return CliRunner().invoke(cli, [str(w) for w in [*words, "--steps", steps, *more]])

    advance = engine._Search.advance

    def interrupted(search):
        advance(search)
        if search.step == 4:
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(engine._Search, "advance", interrupted)
    stopped = run()
    assert stopped.exit_code == 130 and "step 4 of 20" in stopped.output, stopped.output
    assert not InvertedImage.load(tmp_path / "w.safetensors").finished
    monkeypatch.setattr(engine._Search, "advance", advance)
    done = run()
    assert done.exit_code == 0 and "continuing at step 4" in done.output and "PSNR" in done.output, (
        done.output
    )
    whole = run("--restart")
    assert whole.exit_code == 0 and whole.output.splitlines()[-1] == done.output.splitlines()[-1]
    again = run("--space", "w")
    assert again.exit_code == 2 and "another inversion" in again.output and "--restart" in again.output
    assert run().exit_code == 0  # finished: said again, not done again


def test_rows_of_an_inversion_can_be_repeated():
    one = Inversion(np.zeros((2, 1)), np.arange(4.0).reshape(2, 2), np.zeros((2, 1, 1)), {}, np.zeros(2), 1)
    assert one.rows(np.array([1, 1])).z.tolist() == [[2, 3], [2, 3]]
