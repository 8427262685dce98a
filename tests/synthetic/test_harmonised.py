"""`mssg harmonise`: contrast of the other source, anatomy of the picture; folders that resume."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel
import numpy as np
import pytest

import mssg
from mssg.data.dataset_writer import write_packed
from mssg.synthetic.harmonised import transferred
from trainer_cli.main import Refused


def harmonise(*words: str) -> None:
    from trainer_cli.main import cli

    cli.main(["harmonise", *words, "--device", "cpu"], standalone_mode=False)


def contents(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """Five pictures as scanner 2 takes them, of four people."""
    people = mssg.load("brain-scanners", device="cpu").sample(5, given={"source": "scanner2"}, seed=1)
    keys = {"subject": ["a-1", "b", "c", "d", "d"], "split": ["train", "val", "test", "test", "test"]}
    folder = tmp_path_factory.mktemp("sources") / "scanner2"
    images = np.stack([p.array for p in people])[:, None]
    age = people.table["age"]
    write_packed(folder, images, keys | {"age": age, "ventricle": [20, "", 30, 40, 50]}, {"recipe": "drawn"})
    return folder


def test_grey_levels_and_the_slow_part_are_taken_over_and_nothing_fine():
    rng = np.random.default_rng(0)
    before = rng.uniform(20, 200, (1, 64, 64)).astype(np.float32)
    image = np.clip(before + rng.normal(0, 3, before.shape), 0, 255).astype(np.uint8)
    darker = transferred(image, before, np.sqrt(before * 200))
    drawn = (image >= before.min()) & (image <= before.max())
    np.testing.assert_allclose(darker[drawn], np.sqrt(image[drawn] * 200.0), atol=4)
    slope = np.linspace(-20, 20, 64, dtype=np.float32) * np.ones((1, 64, 1), np.float32)
    assert (
        np.corrcoef((transferred(image, before, before + slope) - image).ravel(), slope.ravel())[0, 1] > 0.9
    )
    fine = before + np.where(np.indices((64, 64)).sum(0) % 2, 15, -15)[None].astype(np.float32)
    assert np.abs(transferred(image, before, fine) - image).mean() < 6


def test_a_source_is_harmonised_resumed_and_tabulated(source, tmp_path):
    out, words = tmp_path / "out", [str(source), "--snapshot", "brain-scanners", "--steps", "3"]
    harmonise(*words, "--to", "source=scanner1", "--split", "test", "--out", str(out))
    assert len(list(out.rglob("*.nii.gz"))) == 3
    harmonise(*words, "--to", "source=scanner1", "--out", str(out))
    whole = contents(out)
    assert {f"sub-{name}_T1w.nii.gz" for name in ("a1", "b", "c", "d_run-1", "d_run-2")} == {
        Path(name).name for name in whole if name.endswith(".gz")
    }
    image = nibabel.load(out / "sub-a1/anat/sub-a1_T1w.nii.gz")
    assert image.shape == (64, 1, 64) and image.affine[1, 3] == -18
    original = np.load(source / "images.npy")[0, 0]
    assert (image.get_fdata()[:, 0].T[::-1] != original).any()
    header, *rows = [line.split("\t") for line in (out / "images.tsv").read_text().splitlines()]
    first = dict(zip(header, rows[0]))
    assert len(rows) == 5 and first["source_before"] == "scanner2" and first["source_after"] == "scanner1"
    assert first["ventricle"] == "20" and float(rows[1][header.index("ventricle")]) > 0
    assert {"ventricle_before", "ventricle_after"} <= set(header) and float(first["error"]) > 0
    about = json.loads((out / "dataset_description.json").read_text())
    assert about["DatasetType"] == "derivative" and "--from source=scanner2" in str(about["GeneratedBy"])
    (out / "sub-b/anat/sub-b_T1w.json").unlink()
    harmonise(*words, "--to", "source=scanner1", "--out", str(out))
    assert contents(out) == whole
    with pytest.raises(Refused, match="another Inversion"):
        harmonise(*words[:-1], "4", "--to", "source=scanner1", "--out", str(out))


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--snapshot", "brain-scanners", "--to", "source=scanner1", "--from", "source=x"], "no such source"),
        (["--snapshot", "brain", "--to", "source=scanner1"], "not told the source"),
        (["--snapshot", "brain-scanners", "--to", "scanner1"], "--to: not a source"),
        (["--snapshot", "brain-scanners", "--to", "source=scanner3"], "no such source"),
        (["--snapshot", "brain-scanners", "--to", "source=scanner2"], "of this source already"),
    ],
)
def test_a_mistake_is_one_sentence(source, words, told, tmp_path):
    with pytest.raises(Refused, match=told):
        harmonise(str(source), *words, "--out", str(tmp_path / "out"))
    assert not (tmp_path / "out").exists()
