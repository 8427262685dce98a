"""mssg push and pull against a local stand-in of the hub; cards as Hugging Face's own library reads them."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from click.testing import CliRunner

from mssg.checkpoint.header import read_header
from mssg.checkpoint.snapshot import load_snapshot
from mssg.metrics.results import Evaluation, ModelRecord, Result
from tests.cli.hub_stand_in import hub
from trainer_cli.main import cli

cards = pytest.importorskip("huggingface_hub")


def mssg(*words, **environment):
    done = subprocess.run(
        [sys.executable, "-m", "trainer_cli", *map(str, words)],
        capture_output=True,
        text=True,
        env={**os.environ, "HF_TOKEN": "hf_stand_in", "HF_HUB_DISABLE_TELEMETRY": "1", **environment},
    )
    return done.returncode, done.stdout + done.stderr


def run(*words):
    done = CliRunner().invoke(cli, [str(word) for word in words])
    return done.exit_code, done.output + getattr(done, "stderr", "")


def measured(path, folder):
    """An evaluation of a snapshot that says what it copies."""
    label = "x"
    record = ModelRecord(label, read_header(path).snapshot_id, "strokes", 1.0)
    result = Result("memorisation-pixels", 0.012, label, n=500, n_real=40, real_floor=0.01)
    kid = Result("kid-efficientnet_lite0", 0.0345, label, n=500, real_floor=0.001)
    found = Evaluation("strokes", "test", 0, (record,), (result, kid))
    return found.save(folder / "eval.json")


@pytest.fixture(scope="module")
def path(make_snapshot):
    return make_snapshot(name="tiny-hub")


@pytest.fixture(scope="module")
def stated(make_snapshot):
    about = '[about]\nlicence = "cc-by-4.0"\ndata = "drawn strokes, nobody\'s"\n[image]'
    return make_snapshot(name="tiny-stated", replace=(("[image]", about),))


@pytest.mark.slow
def test_pushed_and_pulled(path, tmp_path):
    figures = measured(path, tmp_path)
    with hub() as place:
        words = [
            "push",
            path,
            "lab/strokes",
            "--eval",
            figures,
            "--licence",
            "CC-BY-4.0",
            "--data",
            "strokes",
        ]
        code, said = mssg(*words, "--private", HF_ENDPOINT=place.url)
        assert code == 0 and f"{place.url}/lab/strokes/commit/" in said, said
        files = place.repositories["lab/strokes"]
        assert {"model.safetensors", "README.md", "eval.json"} <= set(files) and place.private["lab/strokes"]
        assert "Bearer hf_stand_in" in place.tokens
        out = tmp_path / "back.safetensors"
        code, said = mssg("pull", "lab/strokes", "-o", out, HF_ENDPOINT=place.url)
        assert code == 0 and "licence: CC-BY-4.0; data: strokes" in said, said
        code, said = mssg("pull", "lab/nothing", "-o", tmp_path / "none.safetensors", HF_ENDPOINT=place.url)
        assert code == 2 and "the hub:" in said and "Traceback" not in said
        assert not (tmp_path / "none.safetensors").exists()
    code, said = mssg("pull", "lab/strokes", "-o", tmp_path / "gone.safetensors", HF_ENDPOINT=place.url)
    assert code == 2 and f"the hub {place.url} cannot be reached" in said and "Traceback" not in said
    code, said = mssg(*words, HF_ENDPOINT=place.url)
    assert code == 2 and f"the hub {place.url} cannot be reached" in said and "Traceback" not in said
    ours, theirs = load_snapshot(path), load_snapshot(out)
    assert all((ours.G.state_dict()[k] == v).all() for k, v in theirs.G.state_dict().items())
    assert theirs.header.snapshot_id.encode() in files["eval.json"]


def test_what_is_pushed(path, stated, tmp_path):
    code, said = run("push", path, "a/b", "--licence", "mit", "--data", "x", "--to-folder", tmp_path / "f")
    assert code == 2 and "how many training images" in said and not (tmp_path / "f").exists()
    figures = measured(stated, tmp_path)
    code, said = run("push", path, "a/b", "--eval", figures, "--to-folder", tmp_path / "f")
    assert code == 2 and "how many training images" in said  # figures of another snapshot
    for words, said_of in ((("--licence", "mit"), "data"), (("--data", "x"), "licence")):
        code, said = run("push", path, "a/b", *words, "--unscreened", "--to-folder", tmp_path / "f")
        assert code == 2 and "is stated nowhere" in said and said_of in said
    code, said = run("push", stated, "a/b", "--eval", figures, "--to-folder", tmp_path / "f")
    assert code == 0, said
    assert (tmp_path / "f/model.safetensors").read_bytes() == stated.read_bytes()
    text = (tmp_path / "f/README.md").read_text()
    card = cards.ModelCard(text)
    assert card.data.license == "cc-by-4.0" and card.data.library_name == "mssg"
    assert "synthetic-data" in card.data.tags and "drawn strokes, nobody's" in card.text
    assert (
        "memorisation in pixels: 1.2 % of 500" in card.text and "kid-efficientnet_lite0: 0.0345" in card.text
    )


def test_cards_of_all_licences_can_be_read(path, stated):
    code, text = run("inspect", path, "--card")
    data = cards.ModelCard(text).data
    assert code == 0 and (data.license, data.license_name) == ("other", "not-stated")
    code, text = run("inspect", stated, "--card")
    assert cards.ModelCard(text).data.license == "cc-by-4.0"
    assert read_header(stated).origin == "drawn strokes, nobody's"
