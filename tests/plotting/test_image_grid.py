"""Grids: image pixels untouched, labels whole and truthful, bytes reproducible."""

from __future__ import annotations

import io
import json

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from PIL import Image

from mssg.errors import UsageError
from mssg.plotting import image_grid as figures
from mssg.plotting.grid_layout import GridLayout
from mssg.rendering.request import RenderRequest
from mssg.study.values import Sweep

FIXED = {"intensity": 150.0, "digit": 1.0}
SIDES = "thickness", "slant=-10:10:4"
COMMAND = "mssg figure grid x"


@pytest.fixture(scope="module")
def drawn(tiny_renderer):
    return figures.grid(
        tiny_renderer, "thickness", "slant=-10:10:4", RenderRequest(seed=3, covariates=FIXED), command=COMMAND
    )


@pytest.fixture(scope="module")
def told_renderer(make_snapshot):
    """A renderer of a study whose network is told the source."""
    from mssg.checkpoint.snapshot import load_snapshot
    from mssg.rendering.renderer import Renderer

    told = 'preset = "cpu-demo"\ncondition_on_source = true'
    return Renderer(load_snapshot(make_snapshot(replace=(('preset = "cpu-demo"', told),), name="told")))


def texts(figure):
    """Every text of a figure that is not empty."""
    from matplotlib.text import Text

    return [t for t in figure.findobj(Text) if t.get_text().strip() and t.get_visible()]


def block_of(drawn, png, number=0):
    """The pixels of a block in a PNG."""
    rows, cols, _, h, w = drawn.images.shape[1:]
    left, top = drawn.corners[number]
    return png[top : top + rows * h * drawn.scale, left : left + cols * w * drawn.scale]


def assert_legible(drawn):
    """No text leaves the figure, touches the images or another text."""
    canvas = FigureCanvasAgg(drawn.figure)
    canvas.draw()  # labels find their places only now
    renderer = canvas.get_renderer()
    width, height = drawn.figure.get_size_inches() * drawn.dpi
    found = texts(drawn.figure)
    boxes = [t.get_window_extent(renderer) for t in found]
    images = [axis.get_window_extent(renderer) for axis in drawn.figure.axes]
    for i, (text, box) in enumerate(zip(found, boxes)):
        inside = box.x0 >= 0 and box.y0 >= 0 and box.x1 <= width and box.y1 <= height
        assert inside, f"{text.get_text()!r} is clipped"
        for other in [*boxes[:i], *images]:
            assert not box.overlaps(other), f"{text.get_text()!r} overlaps"


@pytest.mark.slow
def test_every_image_pixel_is_a_whole_number_of_figure_pixels(drawn, tiny_renderer):
    png = np.asarray(Image.open(io.BytesIO(drawn.encode(".png"))).convert("RGB"))
    assert drawn.scale > 1 and drawn.images.shape[1:3] == (7, 4)
    expected = np.concatenate(
        [np.concatenate([cell[0] for cell in row], axis=1) for row in drawn.images[0][::-1]]
    )
    expected = expected.repeat(drawn.scale, 0).repeat(drawn.scale, 1)
    shown = block_of(drawn, png)
    assert all(np.array_equal(shown[..., c], expected) for c in range(3))
    request = {**FIXED, "thickness": 2.4, "slant": 10.0}
    corner = tiny_renderer.images(tiny_renderer.values(request)[None], 3)[0, 0]
    assert np.array_equal(
        expected[-32 * drawn.scale :: drawn.scale, -32 * drawn.scale :: drawn.scale], corner
    ), "smallest row value at the bottom, largest column value at the right"


def test_large_images_keep_their_size():
    shape = (1, 7, 7, 1, 256, 256)
    layout = GridLayout.of(shape, ["1"] * 7, ["1"] * 7, ["a"], [])
    assert layout.scale == 1 and layout.block == (1792, 1792)


def test_labels_are_in_native_units_and_legible(drawn):
    words = [t.get_text() for t in texts(drawn.figure)]
    assert "slant (°)" in words and "thickness (px)" in words
    assert ["−10.0", "−3.3", "3.3", "10.0"] == [w for w in words if w in ("−10.0", "−3.3", "3.3", "10.0")]
    assert [t for t in words if t in ("2.4", "2.8", "3.2", "3.6", "4.0", "4.4", "4.8")][:2] == ["2.4", "2.8"]
    title = words[-1]
    assert "intensity 150 levels" in title and "digit 1" in title and "seed 3" in title
    assert_legible(drawn)


@pytest.mark.slow
def test_long_names_levels_and_titles_stay_legible(told_renderer):
    drawn = figures.grid(told_renderer, "digit", "slant=-10.123456:10:9", RenderRequest(psi=0.7))
    assert_legible(drawn)
    assert "ψ 0.7" in " ".join(t.get_text() for t in texts(drawn.figure))
    shape = (1, 3, 2, 1, 32, 32)
    levels = ["a level with a rather long name", "another level", "third"]
    described = [f"covariate number {i} 12.34 units" for i in range(12)]
    layout = GridLayout.of(shape, levels, levels[1:], described, [])
    assert layout.turned is False and len(layout.title) > 3
    narrow = GridLayout.of((1, 3, 9, 1, 32, 32), levels, levels * 3, described, [])
    assert narrow.turned


@pytest.mark.parametrize(("rows", "columns"), [(1, 2), (9, 1), (1, 9), (9, 2)])
def test_titles_and_names_wider_than_the_images_stay_inside(rows, columns):
    shape, names = (2, rows, columns, 1, 32, 32), ["a name of some length"] * 2
    axes = ("an axis with a long name (units)", "another with a name as long (units)")
    described = ["one part of the title that is wider than two narrow columns are", "seed 3"]
    ticks = [str(i) for i in range(rows)], [str(i) for i in range(columns)]
    layout = GridLayout.of(shape, *ticks, described, names, axes)
    images = np.zeros(shape, np.uint8)
    figure, corners = figures.draw_blocks(layout, images, axes, names)
    drawn = figures.GridFigure(figure, images, layout.dpi, layout.scale, corners, {})
    assert_legible(drawn)


@pytest.mark.slow
def test_one_block_per_source_code(told_renderer):
    drawn = figures.grid(
        told_renderer,
        "thickness=2:5:3",
        "slant=-10:10:3",
        RenderRequest(seed=1, covariates=FIXED),
        per_source=True,
    )
    assert drawn.images.shape[0] == 2 == len(drawn.corners)
    words = [t.get_text() for t in texts(drawn.figure)]
    assert "source A" in words and "source B" in words
    assert_legible(drawn)
    png = np.asarray(Image.open(io.BytesIO(drawn.encode(".png"))).convert("L"))
    for number in range(2):
        first = block_of(drawn, png, number)[:: drawn.scale, :: drawn.scale][:32, :32]
        assert np.array_equal(first, drawn.images[number, -1, 0, 0])
    values = told_renderer.values(FIXED | {"thickness": 5.0, "slant": -10.0, "source": 1.0})
    assert np.array_equal(drawn.images[1, -1, 0], told_renderer.images(values[None], 1)[0])
    assert not np.array_equal(drawn.images[0], drawn.images[1])


def test_one_block_per_value_of_a_third_covariate(tiny_renderer):
    drawn = figures.grid(
        tiny_renderer,
        "thickness=2:5:2",
        "slant=-10:10:2",
        RenderRequest(seed=1, covariates={"intensity": 150.0}),
        panels="digit",
    )
    words = [t.get_text() for t in texts(drawn.figure)]
    assert [w for w in words if w.startswith("digit")] == ["digit 0", "digit 1", "digit 2"]
    assert json.loads(drawn.metadata["Covariates"])["digit"] == ["0", "1", "2"]
    assert_legible(drawn)
    for panel in range(3):
        row = {"intensity": 150.0, "thickness": 2.0, "slant": 10.0, "digit": panel}
        expected = tiny_renderer.images(tiny_renderer.values(row)[None], 1)[0]
        assert np.array_equal(drawn.images[panel, 0, 1], expected)
    three = figures.grid(tiny_renderer, "digit", "slant=-10:10:2", panels="thickness")
    assert three.images.shape[:3] == (figures.PANELS, 3, 2)


@pytest.mark.slow
def test_files_say_what_they_show_and_repeat_byte_for_byte(drawn, tiny_renderer, tmp_path):
    png = Image.open(drawn.save(tmp_path / "new" / "grid.png"))
    assert png.text["Snapshot"] == tiny_renderer.header.snapshot_id and png.text["Seed"] == "3"
    assert png.text["Command"] == "mssg figure grid x"
    said = json.loads(png.text["Covariates"])
    assert said["slant"][0] == "-10" and said["digit"] == "1" and said["thickness"][0] == "2.4"
    again = figures.grid(
        tiny_renderer, "thickness", "slant=-10:10:4", RenderRequest(seed=3, covariates=FIXED), command=COMMAND
    )
    for suffix in figures.FORMATS:
        assert drawn.encode(suffix) == again.encode(suffix)
    other = figures.grid(
        tiny_renderer, "thickness", "slant=-10:10:4", RenderRequest(seed=4, covariates=FIXED), command=COMMAND
    )
    assert drawn.encode(".png") != other.encode(".png")


def test_pdf_holds_the_native_pixels_and_text(drawn):
    pdf = drawn.encode(".pdf")
    assert pdf.startswith(b"%PDF") and b"/Width 128" in pdf and b"/Height 224" in pdf
    assert b"/CreationDate" not in pdf and b"/Type /Font" in pdf and b"Seed: 3" in pdf


def test_colour_images_stay_colour():
    block = np.random.default_rng(0).integers(0, 256, (2, 3, 3, 8, 8)).astype(np.uint8)
    mosaic = figures._mosaic(block)
    assert mosaic.shape == (16, 24, 3) and np.array_equal(mosaic[8:, :8], block[0, 0].transpose(1, 2, 0))


def test_wrong_grids_are_refused(tiny_renderer, drawn, tmp_path):
    slanted = RenderRequest(covariates={"slant": 1.0})
    for options, said in (
        ({"rows": "thickness", "cols": "thickness"}, "both axes"),
        ({"rows": "thickness", "cols": "slant", "request": slanted}, "both fixed and on an axis"),
        ({"rows": "thickness", "cols": "age"}, "no such covariate"),
        ({"rows": Sweep("age", (1.0,)), "cols": "slant"}, "no such covariate"),
        ({"rows": "thickness", "cols": "slant", "per_source": True}, "not told the source"),
        ({"rows": "thickness", "cols": "slant", "panels": "slant"}, "already shown side by side"),
        ({"rows": "thickness", "cols": "intensity", "request": slanted, "panels": "slant"}, "already shown"),
        ({"rows": "thickness", "cols": "slant", "panels": "x"}, "no such covariate"),
        (
            {"rows": "thickness", "cols": "slant", "panels": "digit", "per_source": True},
            "only one of the two",
        ),
    ):
        with pytest.raises(UsageError, match=said):
            figures.grid(tiny_renderer, **options)
    with pytest.raises(UsageError, match=r"\.png \| \.pdf"):
        drawn.save(tmp_path / "grid.gif")
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match="cannot be made"):
        drawn.save(tmp_path / "file" / "grid.png")
