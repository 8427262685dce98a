"""Heads in three planes: each cut where it is asked for, in radiological order, a row for each value."""

from types import SimpleNamespace

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from mssg.plotting import planes_figure as figures
from mssg.rendering.volume import DrawnVolume
from trainer_cli import main as entry


def test_planes_cut_where_they_are_asked_to(monkeypatch):
    data = np.zeros((20, 24, 22), np.float32)
    data[3:17, 4:20, 2:18] = 60
    data[14:16, 5:7, 15:17] = 250  # right, posterior, superior
    affine = np.diag([4.0, 4.0, 4.0, 1.0])
    affine[:3, 3] = -38, -46, -42
    head = DrawnVolume(data, affine, 2, (-46.0, 46.0, 4.0))
    renderer = SimpleNamespace(study=SimpleNamespace(geometry=SimpleNamespace(pixel_mm=4.0)))
    monkeypatch.setattr(figures, "draw_volume", lambda renderer, request: head)
    from mssg.rendering.request import RenderRequest

    mark = (-38 + 4 * 14.0, -46 + 4 * 5.0, -42 + 4 * 15.0)
    sheet = figures.planes_figure(renderer, RenderRequest(), at_mm=mark)
    top, gap, times = figures.MARGIN, 6, figures.TIMES
    tall = 24 * times  # of the axial plane, the highest
    found, x = {}, 0
    for plane, wide, high in (("coronal", 20, 22), ("sagittal", 24, 22), ("axial", 20, 24)):
        y = top + (tall - high * times) // 2
        part = sheet[y : y + high * times, x : x + wide * times].copy()
        part[high * times // 2 - 12 : high * times // 2 + 12, :14] = 0  # the letters
        part[high * times // 2 - 12 : high * times // 2 + 12, -14:] = 0
        rows, columns = np.nonzero(part > 200)
        found[plane] = rows.mean() / times, columns.mean() / times
        x += wide * times + gap
    assert found["coronal"] == pytest.approx((22 - 16, 20 - 15), abs=0.3)  # up, and at the patient's right
    assert found["sagittal"] == pytest.approx((22 - 16, 6), abs=0.3)
    assert found["axial"] == pytest.approx((24 - 6, 20 - 15), abs=0.3)


def test_the_command_draws_a_row_for_each_value_and_refuses_what_cannot_be(
    make_heads, tiny_snapshot, tmp_path
):
    heads, out = str(make_heads()), tmp_path / "planes.png"

    def run(*words):
        return CliRunner().invoke(entry.cli, ["figure", "planes", *map(str, words)])

    done = run(heads, "--rows", "thickness=2:4:2", "--cut", "3,-10,-5", "-o", out)
    assert done.exit_code == 0 and "2 heads" in done.output, done.output
    with Image.open(out) as picture:
        assert picture.height > 2 * 26 * figures.TIMES and "--cut 3,-10,-5" in picture.info["Command"]
    for words, told in (
        ((heads, "--cut", "1,2", "-o", out), "not a place"),
        ((heads, "--cut", "1,900,2", "-o", out), "no head reaches there"),
        ((heads, "-o", tmp_path / "planes.pdf"), ".png"),
        ((tiny_snapshot, "-o", out), "one place"),
    ):
        done = run(*words)
        assert done.exit_code and told in done.output, done.output
