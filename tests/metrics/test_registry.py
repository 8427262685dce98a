"""Metrics are found where they are declared: a new one is one file."""

from __future__ import annotations

import subprocess
import sys

import pytest
from click.testing import CliRunner

from mssg import load_study
from mssg.errors import UsageError
from mssg.metrics import groups, registry
from mssg.metrics.dataset import open_dataset
from mssg.metrics.evaluate import evaluate
from mssg.metrics.instruments import Instruments
from mssg.metrics.model import EvaluatedModel
from mssg.metrics.results import ModelRecord
from mssg.metrics.sampling import ArrayCache, CachedSampler
from tests.strokes import draw_strokes
from trainer_cli import evaluate as command

BRIGHTNESS = """
from dataclasses import dataclass
from mssg.metrics.metric import Metric, Need
from mssg.metrics.settings import Settings, option

@dataclass(frozen=True)
class BrightnessSettings(Settings):
    bright_images: int = option(7, "Images that are looked at.", least=2)

def of_model(context, model):
    n = context.options.of(BrightnessSettings).bright_images
    images = model.generate(context.requests[:n], context.options.seed)
    yield context.result(model, metric="brightness", value=float(images.mean()), n=len(images))

METRICS = (
    Metric("brightness", "how bright images are", of_model, settings=(BrightnessSettings,)),
    Metric("read_brightness", "needs a reader", of_model, needs=frozenset({Need.INSTRUMENTS})),
)
"""


@pytest.fixture
def brightness(tmp_path, monkeypatch):
    """A file of metrics beside those of mssg."""
    (tmp_path / "brightness_of_a_test.py").write_text(BRIGHTNESS, encoding="utf-8")
    monkeypatch.setattr(groups, "__path__", [*groups.__path__, str(tmp_path)])
    registry.all_metrics.cache_clear()
    yield
    registry.all_metrics.cache_clear()


def run(study, folder, **options):
    data, _ = open_dataset(load_study(study), "test")
    model = EvaluatedModel(
        ModelRecord("toy", "toy", "strokes", 1.0), None, lambda v, seed: draw_strokes(*v.T[:4]), ("toy",)
    )
    return evaluate(
        data=data,
        models=[model],
        options=registry.options(**options),
        sampler=CachedSampler(ArrayCache(folder / "parts"), ArrayCache(folder / "real")),
        instruments=Instruments((), {}),
    )


def test_a_new_file_is_a_new_metric_with_its_option_its_help_and_its_result(brightness, tiny_study, tmp_path):
    found = run(tiny_study, tmp_path, metrics=("brightness",), bright_images=5)
    (result,) = found.results
    assert (result.metric, result.model, result.n, result.split) == ("brightness", "toy", 5, "test")
    assert found.options["bright_images"] == 5 and found.options["metrics"] == ("brightness",)
    assert "brightness" in CliRunner().invoke(command.evaluate, ["--list"]).output

    def nothing() -> None: ...

    (option,) = (p for p in command.metric_options(nothing).__click_params__ if p.name == "bright_images")
    assert option.opts == ["--bright-images"] and option.default == 7 and option.type.min == 2


def test_a_metric_without_what_it_needs_becomes_a_note(brightness, tiny_study, tmp_path):
    found = run(tiny_study, tmp_path, metrics=("read_brightness", "fid"))
    assert not found.results
    notes = {note.about: note.message for note in found.notes}
    assert "--predictor" in notes["read_brightness"] and "features" in notes["fid"]


def test_names_and_choices_that_nobody_declares_are_refused():
    with pytest.raises(UsageError, match="no such metric"):
        registry.options(("brightness",))
    with pytest.raises(UsageError, match="no metric takes this"):
        registry.options(bright_images=5)


def test_declarations_need_no_torch():
    """The help of `mssg evaluate` is made of them, and must come at once."""
    code = (
        "import sys; from mssg.metrics.registry import all_metrics; all_metrics();"
        " heavy = {'torch', 'scipy', 'matplotlib'} & set(sys.modules); assert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_lists_begin_with_what_is_computed_by_default():
    names = list(registry.all_metrics())
    assert tuple(names[: len(registry.default_metrics())]) == registry.default_metrics()
    assert names[:3] == ["fid", "kid", "prdc"] and all(m.help for m in registry.all_metrics().values())
