"""Marks and outlines: what they measure, in millimetres and pixels, and that they are burnt in where they
lie."""

import math
import time

import numpy as np
import pytest

from explorer_app import export, session
from explorer_app.comparison import Part
from explorer_app.displayed import Burnt, sheet
from explorer_app.overlay import (
    Region,
    Regions,
    Stroke,
    masks_of,
    outlines,
    read,
    regions_of,
    strokes_of_marks,
    strokes_of_regions,
)
from explorer_app.state import MARK_LIMIT, AppState, Display, Mark, set_mark
from mssg.measure import brain
from mssg.measure.instruments import INSTRUMENTS
from mssg.rendering.request import RenderRequest
from mssg.study.model import Geometry

CORONAL = Geometry("coronal", 2.0, "common", 4.0)
RAMP = np.tile(np.arange(64, dtype=np.float32), (64, 1))


def part(image=RAMP, geometry=CORONAL, **more) -> Part:
    return Part(RenderRequest(), image, geometry, **more)


def test_a_distance_is_in_millimetres_or_pixels():
    mark = Mark("distance", (0.0, 0.0), (0.375, 0.5))  # 24 across, 32 down
    assert read(mark, part()).length == 80.0 and read(mark, part()).text == "80.0 mm"
    assert read(mark, part(geometry=None)).text == "40.0 px"


def test_a_rectangle_reads_the_pixels_whose_middle_lies_inside():
    found = read(Mark("rectangle", (0.5, 0.5), (0.25, 0.25)), part())  # drawn from right to left
    inside = RAMP[16:32, 16:32]
    assert (found.pixels, found.area, found.unit) == (256, 1024.0, "mm")
    assert found.mean == inside.mean() and math.isclose(found.sd, inside.std(ddof=1), rel_tol=1e-6)
    assert "1020 mm²" in found.text or "1024 mm²" in found.text


def test_an_ellipse_has_the_area_of_one():
    found = read(Mark("ellipse", (0.0, 0.0), (1.0, 0.5)), part(geometry=None))
    assert math.isclose(found.area, math.pi / 4 * 64 * 32) and abs(found.pixels / found.area - 1) < 0.02
    assert abs(found.mean - RAMP.mean()) < 0.1


def test_colours_and_differences_are_read_as_they_are_shown():
    colour = np.stack([RAMP, 2 * RAMP, 3 * RAMP], -1)
    box = Mark("rectangle", (0, 0), (1, 1))
    assert math.isclose(read(box, part(colour)).mean, 2 * RAMP.mean(), rel_tol=1e-5)
    change = part(RAMP, other=RAMP - 5, joined="difference")
    assert read(box, change).mean == 5 and read(box, change).sd == 0


def test_an_area_between_pixels_says_so():
    found = read(Mark("rectangle", (0.5, 0.5), (0.501, 0.501)), part())
    assert found.pixels == 0 and found.text.startswith("no pixel")


def test_outlines_enclose_their_mask_and_touch_the_edge():
    mask = np.zeros((6, 6), bool)
    mask[0:2, 2:4] = mask[4, 4] = True
    lines = outlines(mask)
    assert len(lines) == 2 and all(line[0] == line[-1] for line in lines)
    columns, rows = np.array(lines[0]).T
    assert (columns.min(), columns.max(), rows.min(), rows.max()) == (2.0, 4.0, 0.0, 2.0)


@pytest.mark.parametrize("name", INSTRUMENTS)
def test_no_oracle_sees_anything_on_a_black_picture(name):
    assert masks_of(np.zeros((64, 64), np.float32), name) == {}


def test_a_brain_has_a_hull_ventricles_and_cortex():
    image = phantom()
    masks = masks_of(image, "brain")
    assert list(masks) == ["brain", "ventricles", "grey matter"]
    assert masks["ventricles"].sum() and not (masks["ventricles"] & ~masks["brain"]).any()
    assert not (masks["grey matter"] & masks["ventricles"]).any()
    unit = (brain.FIELD_OF_VIEW / len(image)) ** 2 / 100
    assert math.isclose(masks["brain"].sum() * unit, brain.features(image[None])["hull"][0])
    assert masks_of(np.stack([image] * 3, -1), "brain") == {}  # the oracle reads grey levels


def phantom() -> np.ndarray:
    """A slice that the shipped model drew of the medians."""
    import io

    from PIL import Image

    from mssg.checkpoint.header import read_header, resolve_snapshot

    with Image.open(io.BytesIO(read_header(resolve_snapshot("brain")).preview)) as stored:
        return np.asarray(stored, np.float32)


def test_regions_are_found_aside_and_kept():
    regions, image = Regions(), phantom()
    try:
        assert regions.of(image, "brain") is None and (regions.busy or regions.of(image, "brain"))
        end = time.monotonic() + 60
        while (found := regions.of(image, "brain")) is None:
            assert time.monotonic() < end
        assert found == regions_of(image, "brain") and found is regions.of(image, "brain")
    finally:
        regions.close()


def test_what_is_burnt_in_lies_where_it_is():
    """A square around the patient's left half: on the right of a radiological picture."""
    stroke = Stroke(((1.0, 1.0), (20.0, 1.0), (20.0, 60.0), (1.0, 60.0)), True, (1.0, 0.0, 0.0))
    red = {}
    for neurological in (False, True):
        burnt = Burnt(8, strokes=((stroke,),))
        assert not burnt.nothing
        pixels = sheet([part()], Display(neurological=neurological), burnt)
        assert pixels.shape == (512, 512, 3)
        red[neurological] = np.nonzero((pixels == (255, 0, 0)).all(-1))[1]
    assert red[True].min() >= 4 and red[True].max() <= 164
    assert red[False].min() >= 512 - 164 and red[False].max() <= 508


def test_texts_and_colours_of_strokes():
    marks = (Mark("distance", (0, 0), (0.5, 0)), Mark("ellipse", (0, 0), (1, 1)))
    first, second = strokes_of_marks(marks, part())
    assert first.text == "1: 64.0 mm" and not first.closed and second.text.startswith("2: ") and second.closed
    regions = (Region("a", 4, (((0, 0), (1, 1)), ((2, 2), (3, 3)))), Region("b", 1, (((0, 0), (1, 1)),)))
    lines = strokes_of_regions(regions)
    assert [s.colour for s in lines] == [lines[0].colour, lines[0].colour, lines[2].colour]
    assert lines[0].colour != lines[2].colour and regions[0].area(2.0) == 16.0


def test_marks_are_undone_and_saved_with_a_session(tmp_path):
    state = AppState()
    for i in range(MARK_LIMIT + 2):
        state = set_mark(state, len(state.marks), Mark("rectangle", (0.0, 0.1), (0.5, i / 100)))
    assert len(state.marks) == MARK_LIMIT and state.marks[-1].end == (0.5, (MARK_LIMIT + 1) / 100)
    assert len(set_mark(state, 0, None).marks) == MARK_LIMIT - 1
    session.save(tmp_path / "s.json", session.Session(state))
    assert session.load(tmp_path / "s.json").state == state


def test_regions_are_written_as_outlines_and_labels(tmp_path):
    import csv

    import nibabel
    from PIL import Image

    from mssg.checkpoint.header import read_header, resolve_snapshot

    header, image = read_header(resolve_snapshot("brain")), phantom()
    masks = masks_of(image, "brain")
    values = (("age", 60.0), ("ventricle", 30.0), ("grey_matter", 800.0))
    origin = export.Origin.of(header, RenderRequest(covariates=values))
    for name in ("r.csv", "r.png", "r.nii.gz"):
        export.save_regions(tmp_path / name, masks, origin)
    rows = list(csv.DictReader((tmp_path / "r.csv").read_text(encoding="utf-8").splitlines()))
    assert {r["region"] for r in rows} == set(masks) and set(rows[0]) >= {
        "column",
        "row",
        "across_mm",
        "up_mm",
    }
    with Image.open(tmp_path / "r.png") as png:
        labels = np.asarray(png)
        assert set(np.unique(labels)) == {0, 1, 2, 3} and '"Labels": {"1": "brain"' in png.text["mssg"]
    volume = nibabel.load(tmp_path / "r.nii.gz")
    assert np.count_nonzero(np.asarray(volume.dataobj) == 2) == np.count_nonzero(labels == 2)
    assert export.painted(image, masks).shape == (*image.shape, 3)


def test_photographs_of_eyes_are_measured_in_degrees():
    from explorer_app.geometry import FundusGeometry

    distance, box = Mark("distance", (0, 0), (0.5, 0)), Mark("rectangle", (0, 0), (0.5, 0.5))
    assert read(distance, part(geometry=FundusGeometry(0.5, "°", True))).text == "16.0°"
    assert read(box, part(geometry=FundusGeometry(0.5, "DD", None))).area == 256.0
    assert read(box, part(geometry=FundusGeometry(0.5, "°", True))).text.endswith(" 256 deg²")
    assert read(distance, part(geometry=FundusGeometry(None, "°", None))).text == "32.0 px"
