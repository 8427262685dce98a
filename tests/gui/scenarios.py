"""What a user does in the window, and what must come of it. Run by drive.py; listed by test_window.py.

The first word of a name is its group: main (a snapshot), medical (a study with geometry), heads (slices at
many places), run (a run folder), empty.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
from imgui_bundle import imgui
from scipy import ndimage

from explorer_app import colormaps, layout, session
from explorer_app.comparison import Part
from explorer_app.displayed import displayed
from explorer_app.interface import Dialog, ExportForm
from explorer_app.panels.latent import SEEDS_PER_EM
from explorer_app.panels.picture_view import empty_message
from explorer_app.request_edits import place, with_values
from explorer_app.state import Display, Pin, grid_requests, seed_requests, set_snapshot
from explorer_app.theme import em
from mssg.metrics.results import Evaluation, Result
from mssg.rendering.request import RenderRequest
from mssg.study.model import Geometry

CTRL = imgui.Key.mod_ctrl


def chord(*keys: imgui.Key) -> int:
    """Keys pressed together. The enumeration's own `|` fails before Python 3.11.4."""
    return sum(key.value for key in keys)


def slider(name: str) -> str:
    return f"//Covariates/**/##{name}"


# --- 1 covariates
# ----------------------------------------------------------------------------------------------------


def main_typed_value_reaches_the_picture(d):
    before = d.app.client.shown.image
    d.ctx.item_click("//Covariates/free##mode")
    d.ctx.item_input_value(slider("thickness"), 4.25)
    d.settle()
    assert d.value_of("thickness") == 4.25
    assert dict(d.app.client.shown.request.covariates)["thickness"] == 4.25
    assert not np.array_equal(before, d.app.client.shown.image)


def main_free_drag_moves_one_covariate_linked_the_others_too(d):
    start = dict(d.state.request.covariates)
    d.ctx.item_click("//Covariates/free##mode")
    d.drag(slider("thickness"), 60, 0)
    d.frames()
    moved = dict(d.state.request.covariates)
    assert moved["thickness"] > start["thickness"] + 0.1
    assert {n: v for n, v in moved.items() if n != "thickness"} == {
        n: v for n, v in start.items() if n != "thickness"
    }
    d.ctx.item_click("//Covariates/linked##mode")
    d.drag(slider("thickness"), -80, 0)
    d.frames()
    linked = dict(d.state.request.covariates)
    assert linked["intensity"] < moved["intensity"] - 5 and linked["slant"] < moved["slant"] - 1
    assert linked["digit"] == start["digit"]


def main_picture_answers_while_the_mouse_moves(d):
    """With an input in every frame no picture is ever the latest for long; what was drawn on the way is
    shown."""
    box = d.ctx.item_info(slider("thickness")).rect_full
    d.ctx.mouse_move(slider("thickness"))
    d.ctx.mouse_down()
    seen, y, step = set(), (box.min.y + box.max.y) / 2, 0
    start = time.monotonic()
    while len(seen) < 4 and time.monotonic() - start < 60:
        step += 1
        share = 0.1 + 0.8 * (step % 97) / 97
        d.ctx.mouse_teleport_to_pos((box.min.x + share * (box.max.x - box.min.x), y))
        d.ctx.yield_()
        seen.add(d.app.client.shown.request)
    d.ctx.mouse_up()
    assert len(seen) >= 4
    d.settle()
    assert d.app.client.measured.request == d.state.request


def main_double_click_resets_to_the_median(d):
    d.ctx.item_input_value(slider("slant"), 20.0)
    d.ctx.item_double_click(slider("slant"))
    d.frames()
    assert abs(d.value_of("slant") - d.app.document.distribution.median("slant")) < 1e-5, d.value_of("slant")


def main_arrow_keys_step_the_hovered_slider(d):
    d.ctx.mouse_move(slider("thickness"))
    before = d.value_of("thickness")
    d.ctx.key_press(imgui.Key.right_arrow)
    d.frames()
    low, high = d.app.document.distribution.range("thickness")
    assert abs(d.value_of("thickness") - before - (high - low) / 100) < 1e-4


def main_levels_are_buttons(d):
    d.ctx.item_click("//Covariates/**/2##digit")
    d.settle()
    assert d.value_of("digit") == 2.0


def main_unusual_combinations_are_marked(d):
    d.ctx.item_click("//Covariates/free##mode")
    assert d.app.document.distribution.support(d.state.request.covariates).word == "covered"
    d.ctx.item_input_value(slider("thickness"), 4.9)
    d.ctx.item_input_value(slider("slant"), d.app.document.distribution.range("slant")[0])
    d.frames()
    found = d.app.document.distribution.support(d.state.request.covariates)
    assert found.word in ("rare", "outside") and found.reason


def main_typed_values_are_capped_and_far_ones_asked_once(d):
    d.ctx.item_click("//Covariates/free##mode")
    before, (low, high) = d.value_of("thickness"), d.app.document.distribution.range("thickness")
    for typed in (500.0, 1e38, -1.0):
        d.ctx.item_input_value(slider("thickness"), typed)
        d.frames(4)
        assert d.value_of("thickness") == before and "is refused" in d.app.interface.notes[-1].text
    far = round(high + 0.5 * (high - low), 2)
    d.ctx.item_input_value(slider("thickness"), far)
    d.frames(4)
    assert d.value_of("thickness") == before
    d.ctx.item_click("//$FOCUSED/leave it##far")
    d.frames(2)
    assert d.value_of("thickness") == before
    d.ctx.item_input_value(slider("thickness"), far)
    d.frames(4)
    d.ctx.item_click("//$FOCUSED/use it##far")
    d.frames(4)
    assert d.value_of("thickness") == far
    d.ctx.item_input_value(slider("thickness"), far + 0.25)  # meant once, meant again
    d.frames(4)
    assert d.value_of("thickness") == far + 0.25
    d.app.interface.allowed.clear()


def main_linked_steps_there_and_back_lose_nothing(d):
    """To the end of the range, where the others meet their ends, and back in single steps."""
    start = dict(d.state.request.covariates)
    d.ctx.item_input_value(slider("thickness"), 3.0)
    d.frames(4)
    here = dict(d.state.request.covariates)
    for value in (4.98, 2.06, 4.0, 3.0):
        d.ctx.item_input_value(slider("thickness"), value)
        d.frames(4)
    assert dict(d.state.request.covariates) == here and here != start


# --- 2 grids
# ---------------------------------------------------------------------------------------------------------


def main_grid_fills_cell_takes_over_command_is_copied(d):
    d.front("Grid")
    d.ctx.item_input_value("//Grid/**/##rows steps", 3)
    d.ctx.item_input_value("//Grid/**/##columns steps", 2)
    d.settle()
    pictures = grid_requests(d.state.request, d.state.grid)
    assert (len(pictures), len(pictures[0])) == (3, 2)
    assert all(d.app.client.frame(p) is not None for row in pictures for p in row)
    d.ctx.item_click("//Grid/**/cell 2 1")
    d.settle()
    assert d.state.request == pictures[2][1]
    from imgui_bundle import icons_fontawesome_6 as icons

    d.ctx.item_click(f"//Grid/**/{icons.ICON_FA_TERMINAL}  copy command##grid")
    assert imgui.get_clipboard_text().startswith("mssg figure grid ")


def main_grid_stands_still_while_a_slider_is_held(d):
    d.front("Grid")
    d.settle()
    before = {p for row in grid_requests(d.state.request, d.state.grid) for p in row}
    d.ctx.mouse_move(slider("slant"))
    d.ctx.mouse_down()
    box = d.ctx.item_info(slider("slant")).rect_full
    for share in (0.6, 0.7, 0.8):
        d.ctx.mouse_teleport_to_pos(
            (box.min.x + share * (box.max.x - box.min.x), (box.min.y + box.max.y) / 2)
        )
        d.frames()
        assert d.state != d.app.document.history.committed and d.app.client.others == before
    d.ctx.mouse_up()
    d.settle()
    after = {p for row in grid_requests(d.state.request, d.state.grid) for p in row}
    assert not after & before and d.app.client.others == after


def main_pin_that_cannot_be_rendered_says_why(d):
    broken = replace(d.state.request, layer="no such layer", channel=0)
    d.app.state = replace(d.state, pins=(Pin("1", broken),))
    d.ctx.item_click("//Display/side##compare")
    d.wait(lambda: d.app.client.errors)
    d.frames(4)
    parts, problem = d.app.parts(d.app.client.shown)
    assert len(parts) == 1 and problem.startswith("pin 1 cannot be shown: ") and "no such layer" in problem
    d.app.client.errors.clear()


def main_grid_is_exported(d):
    d.front("Grid")
    d.settle()
    d.ctx.item_click("//Grid/**/PNG##grid png")
    d.frames()
    path = d.exported("grid.png")
    from PIL import Image

    with Image.open(path) as image:
        assert image.size == (6 * 32, 3 * 32) and json.loads(image.text["mssg"])["Seed"] == 0


# --- 3 strata
# --------------------------------------------------------------------------------------------------------


def main_strata_are_measured_live_and_set_the_sliders(d):
    d.front("Strata")
    d.ctx.item_check("//Strata/**/measure live##strata")
    d.ctx.item_input_value("//Strata/**/##strata images", 1)
    d.settle()
    d.ctx.item_click("//Strata/**/stratum 0 1 2")
    d.frames()
    analysis = d.state.analysis
    assert (
        analysis.strata_live
        and analysis.strata_rows == "intensity"
        and analysis.strata_columns == "thickness"
    )
    assert d.value_of("thickness") != d.app.document.distribution.median("thickness")
    d.front("Grid")


def main_strata_come_from_an_evaluation(d):
    results = tuple(
        Result(
            "strata/mae",
            i + j / 10,
            "tiny",
            20,
            covariate="slant",
            stratum={"thickness": [2 + i, 3 + i], "slant": [5 * j, 5 * j + 5]},
        )
        for i in range(2)
        for j in range(3)
    )
    path = Evaluation("strokes", "test", 0, (), results).save(d.folder / "eval.json")
    d.front("Strata")
    d.app.interface.dialogs.add(Dialog.EVALUATION)
    d.frames(4)
    d.ctx.item_input_value("//Load evaluation/##evaluation path", str(path))
    d.frames(4)
    assert len(d.app.document.tables) == 1 and Dialog.EVALUATION not in d.app.interface.dialogs
    d.ctx.item_click("//Strata/**/stratum 0 1 2")
    d.frames()
    assert d.value_of("thickness") == 3.5 and d.value_of("slant") == 12.5
    d.front("Grid")


# --- the response curve
# ----------------------------------------------------------------------------------------------


def main_the_response_curve_is_what_the_oracle_reads(d):
    from explorer_app.response import response_points

    d.front("Response")
    d.ctx.item_click("//Covariates/free##mode")
    d.app.state = replace(d.state, analysis=replace(d.state.analysis, response="intensity"))
    d.ctx.item_input_value("//Response/**/##response values", 3)
    d.ctx.item_input_value("//Response/**/##response seeds", 2)
    d.settle()
    analysis = d.state.analysis
    assert (analysis.response, analysis.response_steps, analysis.response_seeds) == ("intensity", 3, 2)
    distribution = d.app.document.distribution
    points = response_points(d.state.request, distribution, "intensity", "free", 3, 2)
    wanted = [p for point in points for p in point.pictures]
    assert len(set(wanted)) == 6 and d.app.client.others == set(wanted) - {d.state.request}
    assert all("intensity" in d.app.client.frame(p).measured["digits"] for p in wanted)
    box = d.ctx.item_info(slider("thickness")).rect_full
    d.ctx.mouse_move(slider("thickness"))
    d.ctx.mouse_down()
    for share in (0.6, 0.8):  # it stands still while a slider is held
        d.ctx.mouse_teleport_to_pos(
            (box.min.x + share * (box.max.x - box.min.x), (box.min.y + box.max.y) / 2)
        )
        d.frames()
        assert d.app.client.others <= set(wanted)
    d.ctx.mouse_up()
    d.settle()
    assert not d.app.client.others & set(wanted)
    d.front("Grid")


# --- 5 latent and model
# ----------------------------------------------------------------------------------------------


def main_seed_steps_and_drags_between_seeds(d):
    d.ctx.item_click("//Latent/##seed/+")
    d.settle()
    assert place(d.state.request) == (1, 0.0, 0.0)
    box = d.ctx.item_info("//Latent/###latent drag").rect_full
    middle = (box.min.x + box.max.x) / 2, (box.min.y + box.max.y) / 2
    d.ctx.mouse_move_to_pos(middle)
    d.ctx.mouse_down()
    for step in range(1, 11):  # ten frames with input; the text on the button changes in every one
        d.ctx.mouse_teleport_to_pos((middle[0] + 4 * step, middle[1]))
        d.frames(1)
    d.ctx.mouse_up()
    d.settle()
    seed, x, y = place(d.state.request)
    assert abs(seed + x - 1 - 40 * SEEDS_PER_EM / d.on_gui(em)) < 0.01 and y == 0, (seed, x, y)
    assert d.app.document.history.steps == 2


def main_truncation_noise_and_mixing_change_the_picture(d):
    images = [d.app.client.shown.image]
    d.ctx.item_input_value("//Latent/##psi", 0.3)
    d.settle()
    images.append(d.app.client.shown.image)
    d.ctx.item_click("//Latent/##noise")
    d.ctx.item_click("//$FOCUSED/none")
    d.settle()
    images.append(d.app.client.shown.image)
    d.ctx.item_click("//Latent/##mix 0")
    d.ctx.item_input_value("//Latent/##mix seed", 9)
    d.settle()
    images.append(d.app.client.shown.image)
    request = d.state.request
    assert request.psi == np.float32(0.3) and request.noise_mode == "none" and request.mix_layers == (0,)
    assert not np.array_equal(images[0], images[1]) and not np.array_equal(images[2], images[3])


def main_layers_spectrum_and_greyed_transform(d):
    d.front("Inspect")
    d.ctx.item_click("//Inspect/inspect/layers")
    d.frames()
    layer = d.app.model.layers[2]
    d.ctx.item_click(f"//Inspect/**/{layer.name}##layer {layer.name}")
    d.settle()
    assert d.app.client.shown.image.shape == layer.shape[1:]
    d.ctx.item_click("//Inspect/**/image##layer ")
    d.settle()
    d.ctx.item_click("//Inspect/inspect/spectrum")
    d.frames()
    power = d.app.maps["spectrum"]
    assert power.shape == d.app.client.shown.image.shape and power.max() == 0
    assert not d.app.model.equivariant
    d.ctx.item_click("//Inspect/inspect/transform")
    d.frames()
    d.front("Measured")


def main_animation_walks_and_stops(d):
    d.app.interface.animation = "latent"
    start = d.state.request
    d.wait(lambda: d.state.request != start)
    d.app.interface.animation = ""
    d.settle()
    assert d.app.document.history.steps == 1  # an animation is one undo step


# --- 6 the radiologist's view
# ----------------------------------------------------------------------------------------


def main_zoom_pan_and_window_cost_no_rendering(d):
    counters, low = d.app.client.counters, d.app.client.shown.image
    before = (counters.requests, counters.syntheses)
    d.ctx.mouse_move("//Picture/##picture")
    d.ctx.mouse_wheel_y(3)
    d.frames()
    zoom = d.state.display.zoom
    assert zoom > 0
    d.drag("//Picture/##picture", 30, 20)
    d.frames()
    assert d.state.display.center != (0.5, 0.5)
    d.ctx.mouse_move("//Picture/##picture")
    d.ctx.mouse_drag_with_delta((40, 0), 1)
    d.frames()
    assert d.state.display.width > 255
    d.ctx.key_press(imgui.Key.i)
    d.ctx.key_press(imgui.Key.n)
    d.ctx.key_press(imgui.Key._0)
    d.frames(4)
    display = d.state.display
    assert display.invert and display.interpolation == "cubic" and display.zoom == 0
    assert (counters.requests, counters.syntheses) == before and d.app.client.shown.image is low


def main_pixels_on_the_screen_are_those_of_numpy(d):
    """The shader at one screen pixel per image pixel against numpy, within 1/255, for every mode."""
    d.on_gui(lambda: _compare_with_numpy(d))


def _compare_with_numpy(d):
    from explorer_app.display import Look

    rng = np.random.default_rng(0)
    image = rng.uniform(-40, 300, (48, 64)).astype(np.float32)
    other = rng.uniform(0, 255, (48, 64)).astype(np.float32)
    target = d.app.screen.target("test")
    for name in colormaps.NAMES:
        for invert in (False, True):
            target.show(image, Look((64, 48), (0, 0), (1, 1), 100, 150, name, invert))
            expected = colormaps.apply(image, 100, 150, name, invert)
            assert np.abs(target.read().astype(int) - expected).max() <= 1, name
    changes = Part(RenderRequest(), image, joined="difference", other=other)
    for display in (
        Display(level=100, width=200, change_width=200),
        Display(level=100, width=200, change_width=300, change_threshold=40, change_overlay=True),
    ):
        look = Look(
            (64, 48), (0, 0), (1, 1), 100, 200, joined="difference", change_width=display.change_width
        )
        look = replace(look, threshold=display.change_threshold, overlay=display.change_overlay)
        target.show(image, look, other)
        assert np.abs(target.read().astype(int) - displayed(changes, display)).max() <= 1
    for name, mirrored in (("blend", False), ("swipe", False), ("swipe", True)):
        display, geometry = Display(level=100, width=200, share=0.3), Geometry("coronal", 1.0)
        both = Part(RenderRequest(), image, geometry if mirrored else None, joined=name, other=other)
        ends = ((64, 0), (-1, 1)) if mirrored else ((0, 0), (1, 1))
        target.show(image, Look((64, 48), *ends, 100, 200, joined=name, share=0.3), other)
        assert np.abs(target.read()[..., 0].astype(int) - displayed(both, display)).max() <= 1, name
    smooth = ndimage.gaussian_filter(image, 2).astype(np.float32)
    for cubic in (False, True):
        target.show(smooth, Look((256, 192), (0, 0), (0.25, 0.25), linear=True, cubic=cubic))
        expected = displayed(Part(RenderRequest(), smooth), Display(cubic=cubic), 4)[12:-12, 12:-12]
        assert np.abs(target.read()[12:-12, 12:-12, 0].astype(int) - expected).max() <= 1, cubic
    target.show(image, Look((64, 48), (64, 0), (-1, 1), 127.5, 255))  # mirrored
    assert np.abs(target.read().astype(int) - colormaps.apply(image[:, ::-1], 127.5, 255, "grey")).max() <= 1
    target.show(image, Look((128, 96), (0, 0), (0.5, 0.5), 127.5, 255))  # zoomed, pixels as squares
    assert np.abs(target.read()[::2, ::2].astype(int) - colormaps.apply(image, 127.5, 255, "grey")).max() <= 1
    colour = rng.uniform(0, 255, (48, 64, 3)).astype(np.float32)
    target.show(colour, Look((64, 48), (0, 0), (1, 1), 127.5, 255))
    assert np.abs(target.read().astype(int) - colormaps.apply(colour, 127.5, 255, "grey")).max() <= 1
    target.show(image, Look((70, 48), (-6, 0), (1, 1), 127.5, 255, background=(1, 0, 0)))
    assert target.read()[0, 0].tolist() == [255, 0, 0] and target.read()[0, 6, 0] == target.read()[0, 6, 1]
    draws = target.draws
    target.show(image, Look((70, 48), (-6, 0), (1, 1), 127.5, 255, background=(1, 0, 0)))
    assert target.draws == draws  # nothing changed, nothing drawn


def main_pin_flip_side_and_difference(d):
    d.ctx.key_press(imgui.Key.p)
    d.ctx.item_input_value(slider("thickness"), 4.8)
    d.settle()
    pinned, current = d.app.client.frame(d.state.pin.request), d.app.client.shown
    d.ctx.key_press(imgui.Key.d)
    d.settle()
    assert d.state.display.compare == "difference"
    assert not np.array_equal(pinned.image, current.image)
    d.ctx.item_click("//Display/side##compare")
    d.settle()
    assert {"view 0", "view 1"} <= set(d.app.screen.targets)
    d.ctx.key_press(imgui.Key.f)
    d.frames()
    assert d.state.display.compare == "flip" and not d.state.display.flipped
    d.ctx.key_press(imgui.Key.f)
    d.frames()
    assert d.state.display.flipped
    d.ctx.item_click("//Display/now##compare")
    d.frames()
    assert d.state.display.compare == "A"


def main_blend_and_swipe_show_both_and_the_line_is_dragged(d):
    d.ctx.key_press(imgui.Key.p)
    d.ctx.item_click("//Covariates/free##mode")
    d.ctx.item_input_value(slider("thickness"), 4.8)
    d.settle()
    d.ctx.item_click("//Display/blend##compare")
    d.ctx.item_input_value("//Display/##share", 25.0)
    d.settle()
    (part,), problem = d.app.parts(d.app.client.shown)
    assert part.joined == "blend" and not problem and d.state.display.share == 0.25
    d.ctx.item_click("//Display/swipe##compare")
    d.settle()
    box = d.ctx.item_info("//Picture/##picture").rect_full
    middle, y = (box.min.x + box.max.x) / 2, (box.min.y + box.max.y) / 2
    side = min(box.max.x - box.min.x, box.max.y - box.min.y)
    d.ctx.mouse_move_to_pos(imgui.ImVec2(middle - side / 4, y))
    d.ctx.mouse_down()
    for step in range(1, 6):
        d.ctx.mouse_teleport_to_pos(imgui.ImVec2(middle - side / 4 + step / 5 * side / 2, y))
        d.frames(1)
    d.ctx.mouse_up()
    d.frames()
    assert abs(d.state.display.share - 0.75) < 0.02 and d.state.display.zoom == 0  # the line, not the picture
    d.rest()
    d.frames(4)
    shown, pinned = d.app.client.shown.image, d.app.client.frame(d.state.pin.request).image
    pixels, about = _export(d, "swipe.png")
    columns = slice(0, 20), slice(26, 32)
    for image, where in zip((shown, pinned), columns):
        assert np.array_equal(pixels[:, where, 0], np.rint(np.clip(image, 0, 255)).astype(np.uint8)[:, where])
    assert about["Display"]["Joined"] == "swipe"


def main_both_pictures_are_read_out_under_one_crosshair(d):
    from explorer_app.comparison import levels_at

    d.ctx.key_press(imgui.Key.p)
    d.ctx.item_input_value(slider("thickness"), 4.8)
    d.ctx.item_click("//Display/side##compare")
    d.settle()
    d.ctx.mouse_move("//Picture/##picture")
    d.frames()
    first, second = d.app.parts(d.app.client.shown)[0]
    assert levels_at(first, 9, 20) == levels_at(second, 9, 20)
    a, b = (float(p.image[20, 9]) for p in (first, second))
    assert levels_at(first, 9, 20) == f"now {a:.1f}   pin 1 {b:.1f}   now − pin 1 {a - b:+.1f}"


def medical_convention_mirrors_the_picture(d):
    target = d.app.screen.target("view 0")
    before = d.on_gui(target.read).copy()
    assert not d.state.display.neurological
    d.ctx.item_click("//Picture/###convention")
    d.settle()
    d.rest()
    d.frames(4)
    after = d.on_gui(target.read)
    assert d.state.display.neurological and after.shape == before.shape
    assert np.abs(after[:, ::-1].astype(int) - before).mean() < 2 and not np.array_equal(after, before)


def medical_nifti_is_exported_with_millimetres(d):
    d.app.interface.export.kind = "nii"
    d.app.interface.dialogs.add(Dialog.EXPORT)
    d.frames(4)
    path = d.exported("a.nii.gz")
    import nibabel

    volume = nibabel.load(path)
    assert volume.shape == (32, 1, 32) and volume.header.get_zooms()[:3] == (2, 2, 2)


def _export(d, name, kind="png"):
    """Write through the dialog, by keyboard, and read the file."""
    from PIL import Image

    d.app.interface.export.kind = kind
    d.ctx.key_press(chord(CTRL, imgui.Key.e))
    d.frames(6)
    path = d.exported(name)
    d.frames(4)
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB")), json.loads(image.text["mssg"])


def _on_screen(d, shape):
    """The pixels of the picture on the screen at one to one, for a picture of [H, W, ...]."""
    seen = d.on_gui(d.app.screen.target("view 0").read).astype(int)
    top, left = ((a - b) // 2 for a, b in zip(seen.shape[:2], shape[:2]))
    return seen[top : top + shape[0], left : left + shape[1]]


def medical_exports_are_what_is_displayed(d):
    """The radiological side, window, colours and the signed difference: the pixels of the screen."""
    for key in (imgui.Key.n, imgui.Key.n, imgui.Key._1, imgui.Key.p):  # cubic, squares, one to one, pin
        d.ctx.key_press(key)
    d.ctx.item_input_value(slider("thickness"), 4.6)
    d.ctx.mouse_move("//Picture/##picture")
    d.ctx.mouse_drag_with_delta((-40, 12), 1)
    d.ctx.key_press(imgui.Key.i)
    d.settle()
    for name, key in (("plain.png", None), ("difference.png", imgui.Key.d)):
        if key is not None:
            d.ctx.key_press(key)
            d.settle()
        d.rest()
        d.frames(4)
        pixels, about = _export(d, name)
        seen = _on_screen(d, pixels.shape)
        close = np.abs(seen - pixels).max(-1) <= 2
        assert close.mean() > 0.9, close.mean()  # what is not lies under letters, chips and the bar
        assert not np.array_equal(pixels, pixels[:, ::-1])
        assert about["Display"]["Order"].endswith("right to left")
    d.app.interface.export.data_order = True
    pixels, about = _export(d, "data.png")
    d.app.interface.export.data_order = False
    grey = np.rint(np.clip(d.app.client.shown.image, 0, 255)).astype(np.uint8)
    assert np.array_equal(pixels[..., 0], grey) and about["Display"]["Order"].startswith("data")


def medical_letters_bar_and_values_are_burnt_in(d):
    d.app.interface.export = ExportForm()
    d.ctx.key_press(chord(CTRL, imgui.Key.e))
    d.frames(6)
    for key in ("letters", "scale", "bar", "values"):
        label = {"letters": "edge letters", "scale": "scale bar", "bar": "colour bar"}.get(key, key)
        d.ctx.item_click(f"//Export/{label}##burn {key}")
    d.frames(4)
    d.photograph(d.folder / "burnt-dialog.png")
    d.ctx.key_press(imgui.Key.escape)
    d.frames(4)
    pixels, _ = _export(d, "burnt.png")
    assert min(pixels.shape[:2]) >= 512
    d.app.interface.export = ExportForm()


def medical_grid_is_exported_as_displayed_or_in_data_order(d):
    d.front("Grid")
    d.settle()
    shown, about = _export(d, "grid-displayed.png", "grid")
    d.app.interface.export.data_order = True
    data, _ = _export(d, "grid-data.png", "grid")
    d.app.interface.export = ExportForm()
    side, rows, columns = 32, d.state.grid.rows.steps, d.state.grid.columns.steps
    assert shown.shape == data.shape == (rows * side, columns * side, 3)
    cells = data.reshape(rows, side, columns, side, 3)
    assert np.array_equal(shown.reshape(rows, side, columns, side, 3), cells[:, :, :, ::-1])
    assert [a["Name"] for a in about["Axes"]] == [d.state.grid.rows.name, d.state.grid.columns.name]


def medical_grid_outside_a_log_domain_says_why(d):
    """As a session may hold it: typed values stay within what the study can mean."""
    from imgui_bundle import icons_fontawesome_6 as icons

    d.front("Grid")
    axis = replace(d.state.grid.rows, name="thickness", low=-3.0, high=4.0, steps=3)
    columns = replace(d.state.grid.columns, name="slant", low=-5.0, high=5.0, steps=2)
    d.app.state = replace(d.state, grid=replace(d.state.grid, rows=axis, columns=columns))
    d.settle()
    rows = grid_requests(d.state.request, d.state.grid)
    assert [bool(d.app.why_not(row[0])) for row in rows] == [False, False, True]
    assert "log" in d.app.why_not(rows[-1][0]) and not d.app.client.busy
    d.ctx.item_click(f"//Grid/**/{icons.ICON_FA_TERMINAL}  copy command##grid")
    assert "thickness=-3,0.5,4" in imgui.get_clipboard_text()


def medical_pins_of_another_study_keep_their_own_geometry(d):
    from explorer_app.config import default_snapshot

    mine = d.state.snapshot
    d.ctx.key_press(imgui.Key.p)
    assert d.app.document.open(default_snapshot())
    d.ctx.item_click("//Display/side##compare")
    d.settle()
    parts, problem = d.app.parts(d.app.client.shown)
    assert not problem and [p.geometry.pixel_mm for p in parts][1] == 2.0 != parts[0].geometry.pixel_mm
    d.ctx.key_press(imgui.Key.d)
    d.settle()
    parts, problem = d.app.parts(d.app.client.shown)
    assert "64 × 64 and 32 × 32 pixels" in problem and parts[0].other is None
    assert d.app.document.open(mine)
    d.settle()


# --- 7 and 8 uncertainty, measured
# -----------------------------------------------------------------------------------


def main_uncertainty_is_the_deviation_over_seeds(d):
    d.front("Measured")
    d.ctx.item_click("//Measured/both##uncertainty")
    d.ctx.item_input_value("//Measured/##seeds", 5)
    d.settle()
    d.frames(4)
    images = np.stack(
        [d.app.client.frame(p).image for p in seed_requests(d.state.request, d.state.analysis.seeds)]
    )
    mean, deviation = d.app.parts(d.app.client.shown)[0]  # in the picture's place
    assert images.shape[0] == 5 and np.allclose(deviation.image, images.std(0, ddof=1), atol=1e-3)
    assert np.allclose(mean.image, images.mean(0), atol=1e-3) and mean.label == "mean of 5 seeds"
    d.ctx.item_click("//Measured/mean##uncertainty")
    d.ctx.key_press(imgui.Key.p)
    d.ctx.key_press(imgui.Key.d)
    d.settle()
    (part,), problem = d.app.parts(d.app.client.shown)
    assert not problem and part.label == "mean of 5 seeds − pin 1"


def main_several_people_are_shown_read_out_taken_over_and_exported(d):
    d.front("Measured")
    d.ctx.item_click("//Measured/people##uncertainty")
    d.ctx.item_input_value("//Measured/##seeds", 6)
    d.settle()
    people = seed_requests(d.state.request, 6)
    shown, problem = d.app.parts(d.app.client.shown)
    assert not problem and [p.label for p in shown] == [f"seed {i}" for i in range(6)]
    assert all(np.array_equal(p.image, d.app.client.frame(r).image) for p, r in zip(shown, people))
    assert {f"view {i}" for i in range(6)} <= set(d.app.screen.targets)
    pixels, about = _export(d, "people.png")
    assert pixels.shape == (2 * 32 + 1, 3 * 32 + 2, 3) and about["Over seeds"] == "people"
    assert about["Seed"] == list(range(6)) and about["Display"]["Shows"][5] == "seed 5"
    d.ctx.item_click("//Picture/###person 4")
    d.settle()
    assert d.state.request.seed == 4 and d.app.parts(d.app.client.shown)[0][0].label == "seed 4"
    d.ctx.mouse_move(slider("thickness"))
    d.ctx.mouse_down()
    box, before = d.ctx.item_info(slider("thickness")).rect_full, d.app.client.others
    for share in (0.6, 0.8):  # others wait while a slider is held
        d.ctx.mouse_teleport_to_pos(
            (box.min.x + share * (box.max.x - box.min.x), (box.min.y + box.max.y) / 2)
        )
        d.frames()
        assert "paused" in d.app.parts(d.app.client.shown)[1] and d.app.client.others <= before
    d.ctx.mouse_up()
    d.settle()
    assert not d.app.parts(d.app.client.shown)[1]
    d.ctx.item_click("//Measured/off##uncertainty")
    d.settle()
    assert len(d.app.parts(d.app.client.shown)[0]) == 1


def main_another_model_puts_back_what_it_cannot_have_and_says_so(d):
    from explorer_app.config import default_snapshot

    mine, layers = d.state.snapshot, len(d.app.model.names)
    assert d.app.document.open(default_snapshot())
    d.settle()
    assert len(d.app.model.names) > layers
    finest = d.app.model.names[-1]
    d.app.interface.notes.clear()
    unfit = {"transform": (1.0, 0.0, 0.1, 0.0, 1.0, 0.0), "mix_layers": (0, 9), "cutoff": 9}
    d.app.state = replace(d.state, request=replace(d.state.request, **unfit, layer=finest, channel=0))
    d.frames(3)
    assert d.state.request.transform is None and d.state.request.mix_layers == (0, 9)
    assert "translation and rotation" in d.app.interface.notes[-1].text
    assert d.app.document.open(mine)
    d.settle()
    request, told = d.state.request, d.app.interface.notes[-1].text
    assert request.layer is None and request.mix_layers == (0,) and request.cutoff is None
    assert finest in told and "cutoff 9" in told and "style mixing" in told, told


def main_latent_settings_have_a_reset(d):
    d.ctx.item_click("//Latent/##seed/+")
    d.ctx.item_input_value("//Latent/##psi", 0.3)
    d.ctx.item_click("//Latent/##mix 0")
    d.frames(2)
    assert d.state.request.psi == 0.3 and d.state.request.mix_layers == (0,)
    d.ctx.item_click("//Latent/reset##latent")
    d.frames(2)
    request = d.state.request
    assert (request.seed, request.psi, request.mix_layers, request.blend) == (1, 1.0, (), ())


def main_measured_values_are_those_of_the_instrument(d):
    from mssg.measure.instruments import instrument

    frame = d.app.client.shown
    grey = np.rint(np.clip(frame.image, 0, 255)).astype(np.uint8)
    expected = instrument("digits").measure(grey[None, None])
    for name, value in frame.measured["digits"].items():
        assert np.isclose(value, expected[name][0], atol=0.3, equal_nan=True), name


# --- 9 undo, sessions, shortcuts
# -------------------------------------------------------------------------------------


def main_undo_and_redo_walk_through_every_kind_of_change(d):
    states = [d.state]
    for act in (
        lambda: d.drag(slider("thickness"), 50, 0),
        lambda: d.ctx.item_click("//Covariates/free##mode"),
        lambda: d.ctx.item_click("//Latent/##seed/+"),
        lambda: d.ctx.key_press(imgui.Key.p),
        lambda: d.ctx.key_press(imgui.Key.i),
    ):
        act()
        d.frames(4)
        states.append(d.state)
    assert len(set(states)) == 6
    for expected in reversed(states[:-1]):
        d.ctx.key_press(chord(CTRL, imgui.Key.z))
        d.frames()
        assert d.state == expected
    for expected in states[1:]:
        d.ctx.key_press(chord(CTRL, imgui.Key.y))
        d.frames()
        assert d.state == expected


def main_session_is_saved_and_restored(d):
    d.ctx.item_input_value(slider("thickness"), 2.75)
    d.ctx.key_press(imgui.Key.p)
    d.frames()
    saved, path = d.state, d.folder / "s.json"
    d.ctx.key_press(chord(CTRL, imgui.Key.s))
    d.frames(4)
    d.ctx.item_input_value("//Save session/##save path", str(path))
    d.wait(path.exists)
    assert (
        session.load(path).snapshot_id == d.app.document.distribution.header.snapshot_id
        and session.load(path).layout
    )
    d.reset()
    assert d.state != saved
    d.ctx.key_press(chord(CTRL, imgui.Key.o))
    d.frames(4)
    d.ctx.item_input_value("//Open/##open path", str(path))
    d.settle()
    assert d.state == saved


def main_reset_layout_brings_hidden_panels_back(d):
    windows = {w.label: w for w in d.explorer.parameters.docking_params.dockable_windows}
    d.ctx.menu_click("//##MainMenuBar/View/Log")
    d.frames(4)
    assert not windows["Log"].is_visible
    d.ctx.menu_click("//##MainMenuBar/View/Reset layout")
    d.frames(6)
    assert windows["Log"].is_visible


def main_layout_returns_with_the_session(d):
    windows = {w.label: w for w in d.explorer.parameters.docking_params.dockable_windows}
    path = d.folder / "layout.json"
    windows["Log"].is_visible = False
    d.frames(3)
    d.app.document.save(str(path), layout.current())
    windows["Log"].is_visible = True
    d.frames(3)
    assert d.app.document.open(path)
    d.frames(3)
    assert not windows["Log"].is_visible and windows["Grid"].is_visible
    windows["Log"].is_visible = True
    d.frames(3)


def main_missing_snapshot_of_a_session_is_asked_for(d):
    path, real = d.folder / "moved.json", d.state.snapshot
    session.save(path, session.Session(set_snapshot(d.state, "/gone/away.safetensors")))
    d.app.document.open(path)
    d.frames(4)
    assert Dialog.MISSING in d.app.interface.dialogs and d.state.snapshot == real
    d.ctx.item_input_value("//Where is the snapshot?/##missing path", real)
    d.frames(4)
    assert Dialog.MISSING not in d.app.interface.dialogs and d.state.snapshot == real


def main_themes_and_text_sizes_are_chosen_in_the_menu(d):
    from explorer_app import theme

    before = d.on_gui(em)
    d.ctx.menu_click("//##MainMenuBar/View/Theme/light")
    d.ctx.menu_click("//##MainMenuBar/View/Text size/125 %")
    d.settle()
    grown = d.on_gui(em) / before
    assert theme.name_in_use() == "light" and 1.1 < grown < 1.4, grown
    d.photograph(d.folder / "light.png")
    d.ctx.menu_click("//##MainMenuBar/View/Text size/100 %")
    d.ctx.menu_click("//##MainMenuBar/View/Theme/high contrast")
    d.settle()
    d.photograph(d.folder / "contrast.png")
    d.ctx.menu_click("//##MainMenuBar/View/Theme/dark")
    d.frames(3)
    assert theme.name_in_use() == "dark" and abs(d.on_gui(em) / before - 1) < 0.05


def main_tab_goes_from_control_to_control_and_the_focus_is_seen(d):
    d.ctx.mouse_move("//Latent/##seed")
    d.ctx.item_click("//Latent/reset##latent")
    d.frames(2)
    seen = set()
    for _ in range(6):
        d.ctx.key_press(imgui.Key.tab)
        d.frames(2)
        seen.add(d.on_gui(lambda: imgui.get_current_context().nav_id))
    assert len(seen) >= 4 and d.on_gui(lambda: imgui.get_current_context().nav_cursor_visible)


def main_shortcuts_are_listed_and_escape_closes(d):
    d.ctx.key_press(imgui.Key.f1)
    d.frames(4)
    assert d.ctx.window_info("//Shortcuts").id_ != 0 and Dialog.SHORTCUTS in d.app.interface.dialogs
    d.ctx.key_press(imgui.Key.escape)
    d.frames(4)
    assert not d.app.interface.dialogs


# --- 10 training
# -----------------------------------------------------------------------------------------------------


def main_training_is_started_seen_and_stopped(d):
    from explorer_app import launch

    script = (
        "import signal, sys, time\nsignal.signal(signal.SIGTERM, lambda *_: sys.exit(print('saved')))\n"
        "print('tick 1', flush=True)\ntime.sleep(60)\n"
    )
    original = launch.command
    launch.command = lambda study, outdir, preset, kimg: [sys.executable, "-c", script]
    try:
        study = d.folder / "study.toml"
        study.touch()
        d.app.interface.dialogs.add(Dialog.TRAIN)
        d.frames(4)
        d.ctx.item_input_value("//Train a model/##train outdir", str(d.folder / "run"))
        form = d.app.interface.train
        d.ctx.item_input_value("//Train a model/##train path", str(study))
        for field, bad in (("kimg", "many"), ("outdir", str(study))):
            good = getattr(form, field)
            d.ctx.item_input_value(f"//Train a model/##train {field}", bad)
            d.frames(2)
            assert field.removeprefix("out").replace("dir", "folder") in form.problem(str(study))
            setattr(form, field, good)
        assert not form.problem(str(study)) and "study" in form.problem(str(d.folder / "none.toml"))
        d.frames(2)
        from imgui_bundle import icons_fontawesome_6 as icons

        d.ctx.item_click(f"//Train a model/{icons.ICON_FA_PLAY}  start##train")
        d.wait(lambda: d.app.document.training is not None and "tick 1" in d.app.document.training.tail())
        assert os.getpgid(d.app.document.training._process.pid) != os.getpgid(0)
        d.front("Training")
        d.ctx.item_click(f"//Training/{icons.ICON_FA_STOP}  stop##training")
        d.wait(lambda: not d.app.document.training.running)
        assert d.app.document.training.tail()[-1] == "saved"
    finally:
        launch.command = original
        d.app.document.training = d.app.document.run = None
        d.front("Grid")


# --- 11 export
# -------------------------------------------------------------------------------------------------------


def main_picture_and_sweep_are_exported(d):
    from PIL import Image

    for kind, name in (("png", "a.png"), ("png16", "b.png"), ("sweep", "c.gif")):
        d.app.interface.export.kind = kind
        d.app.interface.dialogs.add(Dialog.EXPORT)
        d.frames(4)
        d.settle()
        d.exported(name)
        d.frames(4)
    with Image.open(d.folder / "a.png") as image:
        shown = colormaps.apply(d.app.client.shown.image, 127.5, 255, "grey")[..., 0]
        assert np.array_equal(np.asarray(image), shown)
    with Image.open(d.folder / "c.gif") as image:
        assert image.n_frames == 46


def main_copied_command_and_export_hold_every_channel_shown(d):
    d.front("Inspect")
    d.ctx.item_click("//Inspect/inspect/layers")
    d.frames()
    layer = d.app.model.layers[3]
    d.ctx.item_click(f"//Inspect/**/{layer.name}##layer {layer.name}")
    d.frames(6)
    d.ctx.item_click("//Inspect/inspect/layers/##tiles")
    d.ctx.item_click("//$FOCUSED/× 4")
    d.settle()
    d.ctx.menu_click("//##MainMenuBar/File/Copy command")
    d.frames(4)
    assert f"--layer {layer.name}:0-3" in imgui.get_clipboard_text()
    pixels, about = _export(d, "layer.png")
    assert about["Request"]["channels"] == 4 and pixels.shape[0] == 2 * layer.shape[1]
    d.front("Measured")


def main_files_are_not_replaced_unasked_and_suffixes_are_checked(d):
    from PIL import Image

    old = d.folder / "old.png"
    old.write_bytes(b"precious")
    (d.folder / "deeper").mkdir(exist_ok=True)
    d.app.interface.export = ExportForm()
    d.ctx.key_press(chord(CTRL, imgui.Key.e))
    d.frames(6)
    d.ctx.item_input_value("//Export/##export path", str(d.folder / "a.jpg"))
    d.frames(4)
    assert ".jpg" in d.app.interface.notes[-1].text and not (d.folder / "a.jpg").exists()
    d.ctx.item_input_value("//Export/##export path", str(old))
    d.frames(4)
    assert d.app.interface.replacing == str(old)
    d.ctx.item_click("//Export/keep it##replacing")
    d.frames(4)
    assert old.read_bytes() == b"precious" and Dialog.EXPORT in d.app.interface.dialogs
    d.wait(lambda: d.app.interface.listings.entries(d.folder))
    d.ctx.item_click("//Export/**/###export deeper")
    d.frames(2)
    assert d.app.interface.paths[Dialog.EXPORT] == str(d.folder / "deeper" / "old.png")  # the name stays
    d.ctx.item_input_value("//Export/##export path", str(old.with_suffix("")))  # a suffix is added
    d.frames(4)
    d.ctx.item_click("//Export/replace##replacing")
    d.wait(lambda: old.read_bytes() != b"precious")
    d.frames(4)
    with Image.open(old) as image:
        assert image.size == (32, 32)


def main_window_is_photographed(d):
    from PIL import Image

    d.app.interface.export = ExportForm("window", "explorer.png")
    d.app.interface.dialogs.add(Dialog.EXPORT)
    d.frames(4)
    path = d.exported("window.png")
    with Image.open(path) as image:
        assert image.size == (1280 * d.scale, 800 * d.scale) and "mssg" in image.text
        assert len(image.convert("L").getcolors()) > 50


# --- an image of the user's
# ----------------------------------------------------------------------------------------


def _digit(d, name="mine.png"):
    """A picture that the little model could have drawn, as a file."""
    from PIL import Image

    pixels = np.rint(np.clip(d.app.client.shown.image, 0, 255)).astype(np.uint8)
    Image.fromarray(pixels).save(d.folder / name)
    return d.folder / name, pixels


def _open_image(d, path):
    d.ctx.menu_click("//##MainMenuBar/File/Open your image…")
    d.frames(4)
    d.ctx.item_input_value("//Open your image/##image path", str(path))
    d.frames(2)
    d.wait(lambda: not d.app.guest.reading)
    d.settle()


def main_an_image_is_opened_beside_matched_inverted_and_edited(d):
    from explorer_app.real_image import RealImage

    d.ctx.item_input_value(slider("thickness"), 3.6)
    d.settle()
    path, pixels = _digit(d)
    d.ctx.key_press(imgui.Key.m)
    d.settle()
    _open_image(d, path)
    image = d.state.pin.request
    assert isinstance(image, RealImage) and np.array_equal(image.pixels[0], pixels)
    shown, problem = d.app.parts(d.app.client.shown)
    assert not problem and [p.label for p in shown] == ["now", "pin 1, real: mine.png"]
    assert np.array_equal(shown[1].image, pixels)
    d.front("Your image")
    d.wait(lambda: d.app.client.frame(image).measured)
    from imgui_bundle import icons_fontawesome_6 as icons

    d.ctx.item_click(f"//Your image/**/{icons.ICON_FA_USER_CHECK}  match this person##image")
    d.settle()
    read = d.app.client.frame(image).measured["digits"]
    assert abs(d.value_of("thickness") - read["thickness"]) < 1e-6
    d.app.guest.steps = 100
    d.ctx.item_click(f"//Your image/**/{icons.ICON_FA_WAND_MAGIC_SPARKLES}  invert##image")
    d.wait(lambda: d.state.request.latent is not None, what="the inversion")
    d.settle()
    latent = d.state.request.latent
    assert 0 < d.app.guest.errors[latent.digest] < 60
    before = d.app.client.shown.image
    drawn = np.rint(np.clip(before, 0, 255)) - pixels
    assert abs(np.sqrt((drawn**2).mean()) - d.app.guest.errors[latent.digest]) < 0.1
    d.ctx.item_click("//Covariates/free##mode")
    d.ctx.item_input_value(slider("thickness"), 4.6)
    d.settle()
    assert d.state.request.latent is latent and not np.array_equal(d.app.client.shown.image, before)
    d.ctx.key_press(chord(CTRL, imgui.Key.s))
    d.frames(4)
    d.ctx.item_input_value("//Save session/##save path", str(d.folder / "mine.json"))
    d.wait((d.folder / "mine.json").exists)
    assert session.load(d.folder / "mine.json").state == d.state
    d.ctx.item_click(f"//Your image/**/{icons.ICON_FA_FLOPPY_DISK}  save the latent…##image")
    d.frames(4)
    kept = d.folder / "mine.safetensors"
    d.ctx.item_input_value("//Save the latent/##latent path", str(kept))
    d.wait(kept.exists)
    d.frames(4)
    assert d.state.request.latent.file == str(kept) and d.state.request.latent == latent
    d.ctx.key_press(imgui.Key.s)  # another seed leaves it
    d.settle()
    assert d.state.request.latent is None
    d.ctx.key_press(chord(CTRL, imgui.Key.z))
    d.settle()
    assert d.state.request.latent == latent
    d.front("Grid")


def main_an_inversion_is_cancelled_and_leaves_nothing(d):
    from multiprocessing import active_children

    path, _ = _digit(d)
    _open_image(d, path)
    d.front("Your image")
    d.app.guest.steps = 1000
    from imgui_bundle import icons_fontawesome_6 as icons

    d.ctx.item_click(f"//Your image/**/{icons.ICON_FA_WAND_MAGIC_SPARKLES}  invert##image")
    d.wait(lambda: d.app.guest.job is not None and d.app.guest.job.step > 2)
    d.ctx.item_click("//Your image/**/###cancel inversion")
    d.frames(4)
    assert d.app.guest.job is None and d.state.request.latent is None
    assert [p.name for p in active_children()] == ["mssg-render"]
    d.front("Grid")


def main_images_are_pasted_dropped_and_refused_with_the_reason(d):
    from PIL import Image

    path, pixels = _digit(d, "pasted.png")
    imgui.set_clipboard_text(f"'{path}'")
    d.ctx.key_press(chord(CTRL, imgui.Key.v))
    d.wait(lambda: d.state.pins)
    assert d.state.pin.request.name == "pasted.png" and d.state.display.compare == "side"
    Image.fromarray(pixels[:16]).save(d.folder / "low.png")
    d.app.interface.notes.clear()
    d.app.open(str(d.folder / "low.png"))  # what a drop does
    d.wait(lambda: d.app.interface.notes)
    told = d.app.interface.notes[-1].text
    assert "16 x 32 pixels" in told and "32 x 32" in told and "Traceback" not in told
    assert len(d.state.pins) == 1
    (d.folder / "broken.nii.gz").write_bytes(b"nothing")
    d.app.interface.notes.clear()
    d.app.open(str(d.folder / "broken.nii.gz"))
    d.wait(lambda: d.app.interface.notes)
    assert "broken.nii.gz" in d.app.interface.notes[-1].text


def _scan(d, name, depth=40):
    """A volume whose every slice has its own bright square, in the little studies' millimetres."""
    import nibabel

    data = np.zeros((64, depth, 64), np.float32)
    for at in range(depth):
        data[10 + at : 30 + at, at, 20:44] = 100 + at
    affine = np.diag([1.0, 4.0, 1.0, 1.0])
    affine[:3, 3] = -31.5, -4.0 * (depth // 2), -31.5
    nibabel.save(nibabel.Nifti1Image(data, affine), d.folder / name)
    return d.folder / name


def medical_a_scan_is_cut_where_the_picker_says(d):
    _open_image(d, _scan(d, "scan.nii.gz"))
    d.front("Your image")
    first = d.state.pin.request
    assert first.place.affine[1][3] == 4.0  # the study's own place
    d.ctx.item_input_value("//Your image/**/##slice of the image", 40.0)
    d.settle()
    second = d.state.pin.request
    assert second.place.affine[1][3] == 40.0 and second.about == "at +40.0 mm"
    left = [int(np.flatnonzero(i.pixels[0].any(0))[0]) for i in (first, second)]
    assert left[1] - left[0] in (4, 5)  # nine slices of 4 mm further, in pixels of 2 mm of squares 1 mm apart
    assert len(d.state.pins) == 1
    assert d.app.parts(d.app.client.shown)[0][1].geometry is not None  # it has letters and millimetres
    d.ctx.key_press(chord(CTRL, imgui.Key.z))
    d.frames(4)
    assert d.state.pin.request == first
    d.front("Grid")


def heads_a_scan_is_cut_where_the_picture_lies(d):
    _open_image(d, _scan(d, "head.nii.gz", 60))
    at = d.value_of("depth")
    assert dict(d.state.pin.request.covariates)["depth"] == at
    d.ctx.mouse_move("//Picture/##picture")
    d.ctx.mouse_wheel_y(2.0)
    d.settle()
    assert d.value_of("depth") != at
    assert dict(d.state.pin.request.covariates)["depth"] == d.value_of("depth")


def main_real_neighbours_open_beside_the_picture(d):
    from explorer_app.config import default_snapshot

    mine = d.state.snapshot
    d.front("Neighbours")
    d.wait(lambda: not d.app.neighbours.busy)
    assert d.app.document.open(default_snapshot())
    d.settle()
    d.wait(lambda: d.app.neighbours.found)
    d.frames(4)
    near = d.app.neighbours.found
    d.ctx.item_click("//Neighbours/neighbour 1")
    d.settle()
    image = d.state.pin.request
    assert image == d.app.neighbours.frame(near[1]).request and d.state.display.compare == "side"
    assert d.state.pin.label.startswith("pin 1, semi-synthetic: brain-semi-64 ")
    assert np.array_equal(d.app.parts(d.app.client.shown)[0][1].image, image.levels)
    d.ctx.item_input_value(slider("ventricle"), 50.0)
    d.settle()
    assert d.app.neighbours.found[0].values["ventricle"] > near[0].values["ventricle"] + 8
    d.app.neighbours.choose(str(d.folder), d.state.snapshot, d.app.document.distribution.study)
    d.wait(lambda: d.app.neighbours.problem)
    assert "no prepared source" in d.app.neighbours.problem and d.app.neighbours.found
    assert d.app.document.open(mine)
    d.settle()
    d.front("Grid")


# --- failures
# --------------------------------------------------------------------------------------------------------


_DAMAGE = {  # name -> (bytes of a good snapshot, and what they become; what the message says)
    "truncated header": (None, 3000, "truncated"),
    "truncated weights": (None, -1000, "truncated"),
    "from the future": (rb"\"format_version\": 1", rb"\"format_version\": 9", "format version"),
    "from the past": (rb"\"format_version\": 1", rb"\"format_version\": 0", "format version"),
    "without a study": (rb"\"study\": ", rb"\"stuby\": ", "study"),
    "unknown instrument": (rb"\"instrument\": \"digits\"", rb"\"instrument\": \"x-rays\"", "x-rays"),
    "unknown kind": (rb"\"kind\": \"categorical\"", rb"\"kind\": \"cathegories\"", "cathegories"),
    "unknown network": (rb"\"kind\": \"stylegan2\"", rb"\"kind\": \"stylegan9\"", "stylegan9"),
}


def _damaged(d, name: str, good: str) -> tuple[Path, str]:
    """A snapshot with a defect, and a word its refusal must hold."""
    old, new, word = _DAMAGE[name]
    content = Path(good).read_bytes()
    path = d.folder / f"{name.replace(' ', '-')}.safetensors"
    path.write_bytes(content[:new] if old is None else content.replace(old, new))
    assert path.read_bytes() != content
    return path, word


def main_bad_snapshots_leave_the_last_good_picture(d):
    before, good = d.state, d.state.snapshot
    for name in _DAMAGE:
        path, word = _damaged(d, name, good)
        d.app.interface.notes.clear()
        opened = d.app.document.open(path)
        # What only the weights can tell is told by the render process, over the last good picture.
        d.wait(lambda: d.app.interface.notes or d.app.problem(), what=name)
        told = d.app.problem() or d.app.interface.notes[-1].text
        assert word in told and path.name in told and "Traceback" not in told, (name, told)
        d.frames(3)
        shown = d.app.client.shown  # the last good picture, or the one that the file itself stores
        assert shown is not None and (shown.request == before.request or shown.stored)
        if opened:
            d.app.document.undo()
        d.frames(2)
        assert d.state == before, name


def main_killed_render_process_is_restarted_with_the_state_kept(d):
    d.app.state = replace(d.state, request=replace(d.state.request, cutoff=2, mix_layers=(1,)))
    d.settle()
    first, state = d.app.client.pid, d.state
    os.kill(first, signal.SIGKILL)
    d.wait(lambda: d.app.client.pid != first)
    d.ctx.item_click("//Latent/##seed/+")
    d.settle()
    assert (
        d.state == replace(state, request=replace(state.request, seed=1))
        and d.app.client.counters.restarts == 1
    )


# --- 4 live checkpoints
# ----------------------------------------------------------------------------------------------


def run_newest_snapshot_is_swapped_in_within_two_seconds(d):
    app, folder = d.app, d.app.document.run.folder / "snapshots"
    assert app.document.follow and app.state.snapshot.endswith("000008.safetensors")
    d.ctx.item_input_value(slider("thickness"), 4.5)
    d.settle()
    values = d.state.request.covariates
    temporary = folder / ".000012.safetensors.1.tmp"
    shutil.copy(app.state.snapshot, temporary)
    time.sleep(0.1)
    temporary.rename(folder / "000012.safetensors")
    took = d.wait(lambda: d.state.snapshot.endswith("000012.safetensors"))
    assert took < 2.0, took
    assert d.state.request.covariates == values
    d.settle()


def run_damaged_snapshot_leaves_the_last_good_one(d):
    folder = d.app.document.run.folder / "snapshots"
    good = d.state.snapshot
    d.app.document.follow = True
    (folder / "000016.safetensors").write_bytes(Path(good).read_bytes()[:2000])
    d.wait(lambda: any("not a usable snapshot" in n.text for n in d.app.interface.notes), 20)
    d.frames(4)
    assert d.state.snapshot == good and d.app.client.shown is not None
    (folder / "000016.safetensors").unlink()


def run_timeline_scrubs_back_and_stops_following(d):
    d.front("Timeline")
    d.wait(lambda: len(d.app.document.run.checkpoints) == 3)
    d.app.document.follow = False
    for follows in (True, False):  # one button, whatever stands on it
        d.ctx.item_click("//Timeline/###follow")
        d.frames()
        assert d.app.document.follow is follows
    values = d.state.request.covariates
    d.ctx.item_input_value("//Timeline/##checkpoint", 1)
    d.frames(4)
    assert (
        d.state.snapshot.endswith("000004.safetensors")
        and not d.app.document.follow
        and d.state.request.covariates == values
    )
    d.settle()


def run_training_curves_and_log_grow(d):
    d.front("Training")
    d.frames(4)
    with open(d.app.document.run.folder / "stats.jsonl", "a") as file:
        file.write('{"kimg": 12, "loss/G/adv": 0.9, "metric/mae": 3.5}\n')
    d.wait(lambda: "metric/mae" in d.app.document.run.statistics.names, 5)
    d.frames(4)
    assert d.app.document.run.statistics.curve("loss/G/adv")[1].tolist() == [1.5, 1.1, 0.9]
    d.front("Log")
    assert d.app.document.run.log == ["kimg 8"]


_HOLDER = """
import signal, sys, time
from pathlib import Path
from mssg.runs.lock import locked
folder = Path(sys.argv[1])
signal.signal(signal.SIGTERM, lambda *_: sys.exit())
with locked(folder):
    (folder / "held").touch()
    time.sleep(60)
"""


def run_training_of_somebody_else_is_found_and_stopped(d):
    from imgui_bundle import icons_fontawesome_6 as icons

    folder = d.app.document.run.folder
    trainer = subprocess.Popen([sys.executable, "-c", _HOLDER, str(folder)])
    d.wait((folder / "held").exists)
    d.wait(lambda: d.app.document.training is not None and d.app.document.training.running, 20)
    d.front("Training")
    d.frames(4)
    d.ctx.item_click(f"//Training/{icons.ICON_FA_STOP}  stop##training")
    assert trainer.wait(20) == 0
    d.wait(lambda: not d.app.document.training.running)
    (folder / "config.json").write_text("{}")
    d.frames(4)
    assert d.ctx.item_exists(f"//Training/{icons.ICON_FA_FORWARD}  resume##training")
    d.front("Grid")


# --- an empty window
# -------------------------------------------------------------------------------------------------


def empty_window_says_what_to_do(d):
    title, body = empty_message(d.app)
    assert title == "Nothing open yet" and "snapshot" in body
    for name in (
        "Covariates",
        "Grid",
        "Strata",
        "Timeline",
        "Training",
        "Log",
        "Measured",
        "Inspect",
        "Speed",
    ):
        d.front(name)


def empty_window_refuses_what_is_no_snapshot(d):
    from imgui_bundle import icons_fontawesome_6 as icons

    from explorer_app.config import default_snapshot

    for name in ("truncated header", "from the future", "without a study"):
        path, word = _damaged(d, name, default_snapshot())
        assert not d.app.document.open(path)
        d.frames()
        title, body = empty_message(d.app)
        assert title == "This cannot be opened" and path.name in body and word in body, (name, body)
    path = d.folder / "x.safetensors"
    path.write_bytes(b"nonsense")
    d.ctx.item_click(f"//Picture/**/{icons.ICON_FA_FOLDER_OPEN}  Open…##empty")
    d.frames(4)
    d.ctx.item_input_value("//Open/##open path", str(path))
    d.frames(4)
    title, body = empty_message(d.app)
    assert title == "This cannot be opened" and "x.safetensors" in body


# --- whole heads
# ----------------------------------------------------------------------------------------------------


def heads_the_wheel_scrolls_and_ctrl_wheel_zooms(d):
    assert d.value_of("depth") == 10.0  # the study's own place
    before, zoom = d.app.client.shown.image, d.state.display.zoom
    d.ctx.mouse_move("//Picture/##picture")
    d.ctx.mouse_wheel_y(2.0)
    d.settle()
    assert d.value_of("depth") == 20.0 and d.state.display.zoom == zoom
    assert not np.array_equal(before, d.app.client.shown.image)
    beside = [with_values(d.state.request, depth=place) for place in (0.0, 15.0, 25.0, 40.0)]
    assert all(d.app.client.frame(request) for request in beside), "drawn before they are asked for"
    assert d.app.client.frame(with_values(d.state.request, depth=-20.0)) is None
    d.ctx.key_down(CTRL)
    d.ctx.mouse_wheel_y(1.0)
    d.ctx.key_up(CTRL)
    d.settle()
    assert d.value_of("depth") == 20.0 and d.state.display.zoom > zoom
    d.ctx.mouse_wheel_y(-40.0)
    d.settle()
    assert d.value_of("depth") == -60.0  # the last slice


def heads_keys_and_the_bar_go_to_a_slice(d):
    d.ctx.mouse_move("//Picture/##picture")
    at = d.value_of("depth")
    d.ctx.key_press(imgui.Key.page_up)
    d.settle()
    assert d.value_of("depth") == min(at + 5, 40)
    d.ctx.key_press(chord(imgui.Key.page_down, imgui.Key.mod_shift))
    d.settle()
    assert d.value_of("depth") == max(min(at + 5, 40) - 50, -60)
    box = d.ctx.item_info("//Picture/##slice").rect_full
    d.ctx.mouse_move_to_pos(imgui.ImVec2((box.min.x + box.max.x) / 2, box.min.y + 2))
    d.ctx.mouse_click(0)
    d.settle()
    assert d.value_of("depth") == 40.0
    shown = d.app.client.shown.request
    assert dict(shown.covariates)["depth"] == 40.0


def heads_the_place_is_no_slider_and_says_nothing_of_support(d):
    assert d.ctx.item_exists(slider("thickness")) and not d.ctx.item_exists(slider("depth"))
    distribution = d.app.document.distribution
    before = distribution.support(d.state.request.covariates)
    d.ctx.mouse_move("//Picture/##picture")
    d.ctx.mouse_wheel_y(-6.0)
    d.settle()
    assert distribution.support(d.state.request.covariates) == before
    held = d.value_of("depth")
    d.ctx.item_click("//Covariates/linked##mode")
    d.drag(slider("thickness"), 40, 0)
    d.settle()
    assert d.value_of("depth") == held


def heads_three_planes_share_a_crosshair_and_scroll_on_their_own(d):
    d.front("Three planes")
    d.settle()
    planes, cross = {"coronal", "sagittal", "axial"}, d.state.cross
    assert {name.split()[1] for name in d.app.screen.targets if name.startswith("plane ")} == planes
    assert len(d.app.stacks.last.places) == 21 and cross == (0.0, 0.0)
    box = d.ctx.item_info("//Three planes/##planes").rect_full
    wide, high = box.max.x - box.min.x, box.max.y - box.min.y
    before = d.on_gui(lambda: d.app.screen.targets["plane sagittal 0"].read().copy())
    d.ctx.mouse_move_to_pos(imgui.ImVec2(box.min.x + wide * 0.19, box.min.y + high * 0.45))  # coronal
    d.ctx.mouse_click(0)
    d.settle()
    assert d.state.cross[0] != 0 and d.value_of("depth") == 10.0
    assert not np.array_equal(before, d.on_gui(lambda: d.app.screen.targets["plane sagittal 0"].read()))
    moved = d.state.cross
    d.ctx.mouse_move_to_pos(imgui.ImVec2(box.min.x + wide * 0.5, box.min.y + high * 0.5))  # sagittal
    d.ctx.mouse_wheel_y(2.0)
    d.settle()
    assert d.state.cross[0] == moved[0] + 8.0 and d.value_of("depth") == 10.0  # two pixels of 4 mm
    d.ctx.mouse_click(0)
    d.settle()
    distribution = d.app.document.distribution
    assert d.state.cross[0] == moved[0] + 8.0 and d.state.cross[1] != moved[1]
    assert d.value_of("depth") in distribution.places.tolist()
    at = d.value_of("depth")
    d.ctx.key_press(imgui.Key.page_up)
    d.settle()
    assert d.value_of("depth") == min(at + 5, 40)
    d.ctx.mouse_move_to_pos(imgui.ImVec2(box.min.x + wide * 0.5 + 4, box.min.y + high * 0.5))
    d.ctx.key_down(CTRL)
    d.ctx.mouse_wheel_y(2.0)
    d.ctx.key_up(CTRL)
    d.frames()
    assert d.state.display.zoom > 0
    session.save(d.folder / "planes.json", session.Session(d.state))
    assert session.load(d.folder / "planes.json").state.cross == d.state.cross


def heads_three_planes_follow_a_drag_and_catch_up(d):
    d.front("Three planes")
    d.settle()
    first = d.app.stacks.last.head
    box = d.ctx.item_info(slider("thickness")).rect_full
    d.ctx.mouse_move(slider("thickness"))
    d.ctx.mouse_down()
    seen, y, step, start = {}, (box.min.y + box.max.y) / 2, 0, time.monotonic()
    while len(seen) < 4 and time.monotonic() - start < 60:
        step += 1
        share = 0.1 + 0.8 * (step % 97) / 97
        d.ctx.mouse_teleport_to_pos((box.min.x + share * (box.max.x - box.min.x), y))
        d.ctx.yield_()
        if d.app.stacks.last.head != first:
            seen[d.app.stacks.last.head] = len(d.app.stacks.last.places)
    d.ctx.mouse_up()
    assert len(seen) >= 4 and min(seen.values()) <= 5, seen  # slices 0, 8, 16, 20 and the picture's own
    d.settle()
    stack, wanted = d.app.stacks.last, dict(d.state.request.covariates)
    assert len(stack.places) == 21 and dict(stack.head.covariates)["thickness"] == wanted["thickness"]


def heads_three_planes_compare_window_and_colour(d):
    d.front("Three planes")
    d.settle()
    d.ctx.key_press(imgui.Key.p)
    d.ctx.item_input_value(slider("thickness"), 4.5)
    d.ctx.key_press(imgui.Key.d)
    d.settle()
    d.frames(3)
    shown = d.app.screen.targets
    assert all(shown[f"plane {p} 0"]._drawn.joined == "difference" for p in ("coronal", "sagittal", "axial"))
    assert len({shown[f"plane {p} 0"]._drawn.change_width for p in ("coronal", "sagittal", "axial")}) == 1
    d.ctx.item_click("//Display/**/side##compare")
    d.settle()
    d.frames(3)
    assert {name for name in shown if name.startswith("plane ")} == {
        f"plane {p} {n}" for p in ("coronal", "sagittal", "axial") for n in (0, 1)
    }
    d.ctx.item_click("//Display/**/now##compare")
    d.frames(3)
    box = d.ctx.item_info("//Three planes/##planes").rect_full
    d.ctx.mouse_move_to_pos(imgui.ImVec2(box.min.x + 40, box.min.y + 60))
    width = d.state.display.width
    d.ctx.mouse_down(1)
    d.ctx.mouse_move_to_pos(imgui.ImVec2(box.min.x + 20, box.min.y + 60))
    d.ctx.mouse_up(1)
    d.frames(3)
    assert d.state.display.width < width
    assert {shown[f"plane {p} 0"]._drawn.width for p in ("coronal", "axial")} == {d.state.display.width}


def heads_volumes_are_read_off_the_whole_head(d):
    """By the oracle of a study that has one; read again when the head changes."""
    mine = d.state.snapshot
    assert d.app.document.open("brain-heads")
    d.settle()
    d.front("Measured")
    d.wait(lambda: d.app.client.heads)
    d.frames(4)
    (first,) = d.app.client.heads.values()
    assert set(first.values) >= {"ventricle", "grey_matter"} and first.last - first.first > 150
    d.ctx.item_input_value(slider("ventricle"), 60.0)
    d.settle()
    d.frames(4)
    second = list(d.app.client.heads.values())[-1]
    assert second.values["ventricle"] > first.values["ventricle"] + 10
    assert d.app.document.open(mine)
    d.settle()


def medical_three_planes_of_one_plane_say_why_not(d):
    d.front("Three planes")
    d.frames(3)
    assert not d.ctx.item_exists("//Three planes/##planes") and not d.explorer.faults
