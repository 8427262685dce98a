"""What the explorer's tools do in a real window, run as scenarios.py is. Group: tools, on a geometry."""

from __future__ import annotations

import os
import signal
from dataclasses import replace

import numpy as np
from imgui_bundle import imgui
from scenarios import CTRL, chord, slider

from explorer_app.comparison import levels_at
from explorer_app.displayed import Burnt, sheet
from explorer_app.overlay import read
from explorer_app.viewing import RED_FREE

# --- where pictures are drawn


def tools_device_is_chosen_in_the_menu_and_the_picture_stays(d):
    client = d.app.client
    d.ctx.item_click("//Covariates/free##mode")
    d.ctx.item_input_value(slider("thickness"), 4.25)
    d.settle()
    before, pid, state = client.shown, client.pid, d.state
    assert list(client.devices)[-1] == "cpu" and client.device == "auto"
    d.ctx.menu_click("//##MainMenuBar/View/Device/###device cpu")
    d.wait(lambda: client.device == "cpu" and client.models)
    d.settle()
    assert client.pid != pid and d.state == state and d.app.model.device == "cpu"
    assert client.shown is not before and np.array_equal(client.shown.image, before.image)
    d.ctx.menu_click("//##MainMenuBar/View/Device/###device auto")
    d.wait(lambda: client.device == "auto")
    d.settle()


def tools_stored_picture_is_there_before_the_model(d):
    """As when a window opens: the model is not loaded yet, the picture is on the screen and marked."""
    client = d.app.client
    client.use_device("cpu")
    client.shown, d.app._offered = None, None
    d.frames(2)
    assert client.shown.stored and client.shown.preview and client.shown.request == d.state.request
    d.settle()
    assert not client.shown.stored
    client.use_device("auto")
    d.settle()


# --- marks and outlines


def _drag_on_picture(d, start, end):
    """Drag on the picture between two points, fractions of the panel's picture area."""
    box = d.ctx.item_info("//Picture/##picture").rect_full

    def at(point):
        return box.min.x + point[0] * (box.max.x - box.min.x), box.min.y + point[1] * (box.max.y - box.min.y)

    d.ctx.mouse_move_to_pos(at(start))
    d.ctx.mouse_down()
    for share in (0.25, 0.5, 0.75, 1.0):
        d.ctx.mouse_teleport_to_pos(at(tuple(a + share * (b - a) for a, b in zip(start, end))))
        d.frames(1)
    d.ctx.mouse_up()
    d.frames(2)


def tools_distances_and_areas_are_drawn_moved_and_undone(d):
    d.front("Regions")
    counters = d.app.client.counters
    before = counters.requests
    d.ctx.item_click("//Picture/###tool distance")
    _drag_on_picture(d, (0.4, 0.4), (0.6, 0.4))
    (mark,) = d.state.marks
    (part,), _ = d.app.parts(d.app.client.shown)
    assert mark.kind == "distance" and read(mark, part).unit == "mm" and read(mark, part).length > 1
    d.ctx.item_click("//Picture/###tool ellipse")
    _drag_on_picture(d, (0.45, 0.5), (0.55, 0.7))
    ellipse = read(d.state.marks[1], part)
    assert ellipse.pixels > 1 and ellipse.area > 4
    _drag_on_picture(d, (0.6, 0.4), (0.6, 0.6))  # the distance's end, whatever the tool
    assert len(d.state.marks) == 2 and d.state.marks[0].kind == "distance"
    assert d.state.marks[0].start == mark.start and d.state.marks[0].end[1] > mark.end[1]
    d.photograph(d.folder / "marks.png")
    d.ctx.item_click("//Regions/###no mark 0")
    assert [m.kind for m in d.state.marks] == ["ellipse"]
    d.ctx.key_press(chord(CTRL, imgui.Key.z))
    d.ctx.key_press(chord(CTRL, imgui.Key.z))
    d.frames(2)
    assert d.state.marks[0] == mark and counters.requests == before
    _drag_on_picture(d, (0.2, 0.2), (0.2, 0.2))  # a click is no measure
    assert len(d.state.marks) == 2
    d.ctx.item_click("//Regions/clear##marks")
    assert not d.state.marks
    d.ctx.item_click("//Picture/###tool pan")
    d.front("Measured")


def tools_the_oracles_regions_are_outlined_and_exported(d):
    """The digits oracle on a picture that shows strokes: one is put in the place of what random weights
    draw."""
    client = d.app.client
    image = np.zeros((32, 32), np.float32)
    image[6:26, 14:18] = 200
    shown = replace(client.shown, image=image)
    client._cache.put(shown, keep=set())
    client.shown = shown
    d.front("Regions")
    d.ctx.item_check("//Regions/outline##regions")
    d.wait(lambda: d.app.regions(d.app.parts(client.shown)[0][0]))
    d.frames(3)
    (region,) = d.app.regions(d.app.parts(client.shown)[0][0])
    assert region.name == "strokes" and region.pixels > 20
    d.photograph(d.folder / "outlines.png")
    from imgui_bundle import icons_fontawesome_6 as icons

    d.ctx.item_click(f"//Regions/{icons.ICON_FA_DOWNLOAD}  export…##regions")
    d.frames(3)
    path = d.exported("regions.csv")
    assert path.read_text().startswith("region,outline,column,row,across_mm,up_mm\nstrokes,1,")
    d.front("Measured")


# --- movies, and what is copied


def tools_keyframes_become_a_movie(d):
    from imgui_bundle import icons_fontawesome_6 as icons

    add = f"//Movie/{icons.ICON_FA_PLUS}  keyframe##movie"
    d.front("Movie")
    d.ctx.item_click(add)
    first = d.state.request
    d.ctx.item_click("//Covariates/free##mode")
    d.ctx.item_input_value(slider("thickness"), 4.5)
    d.ctx.mouse_move("//Picture/##picture")
    d.ctx.mouse_wheel_y(3)
    d.ctx.item_click(add)
    d.settle()
    one, two = d.state.movie.keyframes
    assert one.request == first and one.span == 1 and 0.2 < two.span < 1
    assert dict(two.request.covariates)["thickness"] == 4.5
    d.ctx.item_input_value("//Movie/**/##seconds 0", 0.5)
    d.frames(2)
    assert d.state.movie.keyframes[0].seconds == 0.5
    d.ctx.item_click("//Movie/linear##easing")
    d.ctx.item_click("//Movie/values##movie values")
    d.photograph(d.folder / "movie.png")
    d.ctx.item_click("//Movie/**/keyframe 0")  # taken over
    d.settle()
    assert d.state.request == first
    d.ctx.item_click(f"//Movie/{icons.ICON_FA_DOWNLOAD}  export…##movie")
    d.wait(lambda: not d.app.client.busy)
    d.frames(4)
    path = d.exported("movie.gif")
    from PIL import Image

    with Image.open(path) as gif:
        assert gif.n_frames == 13 or gif.n_frames == 14, gif.n_frames
        assert gif.size[0] == 128 and gif.size[1] > 128
    d.ctx.item_click("//Movie/###play movie")
    d.wait(lambda: d.state.request != first)
    d.wait(lambda: not d.app.interface.animation)
    d.settle()
    assert d.state.request == first
    d.ctx.item_click("//Movie/**/###no keyframe 1")
    assert len(d.state.movie.keyframes) == 1
    d.front("Grid")


def tools_picture_and_view_are_copied(d):
    import copykitten

    d.ctx.key_press(chord(CTRL, imgui.Key.c))
    d.wait(lambda: d.app.interface.notes and "picture copied" in d.app.interface.notes[-1].text)
    _, wide, high = copykitten.paste_image()
    assert (wide, high) == (512, 512)
    d.ctx.menu_click("//##MainMenuBar/File/Copy view")
    d.wait(lambda: "view copied" in d.app.interface.notes[-1].text)
    pixels, wide, high = copykitten.paste_image()
    box = d.ctx.item_info("//Picture/##picture").rect_full
    assert abs(wide - (box.max.x - box.min.x)) <= 2 and abs(high - (box.max.y - box.min.y)) <= 2
    assert np.frombuffer(pixels, np.uint8).std() > 5
    d.ctx.menu_click("//##MainMenuBar/File/Capture view…")
    d.frames(3)
    d.exported("view.png")


def tools_xclip_takes_the_copied_picture(d):
    """Another program gets the picture as displayed, pixel for pixel, as PNG."""
    import io
    import subprocess

    from PIL import Image

    d.ctx.item_click("//Picture/###annotations")
    d.settle()
    d.app.interface.notes.clear()
    d.ctx.key_press(chord(CTRL, imgui.Key.c))
    d.wait(lambda: d.app.interface.notes and "picture copied" in d.app.interface.notes[-1].text)
    words = ["xclip", "-selection", "clipboard", "-target", "image/png", "-out"]
    taken = subprocess.run(words, capture_output=True, timeout=60, check=True).stdout
    d.ctx.item_click("//Picture/###annotations")
    assert taken.startswith(b"\x89PNG")
    parts, _ = d.app.parts(d.app.client.shown)
    expected = sheet(parts, d.state.display, Burnt(512 // parts[0].image.shape[0]))
    with Image.open(io.BytesIO(taken)) as image:
        pasted = np.asarray(image.convert("RGB"))
    assert pasted.shape[:2] == expected.shape[:2] == (512, 512)
    assert np.array_equal(pasted, np.broadcast_to(expected.reshape(512, 512, -1), pasted.shape))


# --- tables, lists of conditions, help


def tools_tables_are_written_as_csv(d):
    d.front("Measured")
    d.wait(lambda: d.app.client.measured is not None)
    d.frames(2)
    from imgui_bundle import icons_fontawesome_6 as icons

    d.ctx.item_click(f"//Measured/{icons.ICON_FA_TABLE}  CSV##measured")
    d.frames(3)
    path = d.exported("measured.csv")
    rows = path.read_text().splitlines()
    assert rows[0].startswith("covariate,unit,instrument,asked,read")
    assert rows[1].startswith("thickness,px,digits,")


def tools_the_response_is_written_as_csv(d):
    from imgui_bundle import icons_fontawesome_6 as icons

    d.front("Response")
    d.settle()
    d.ctx.item_click(f"//Response/**/{icons.ICON_FA_TABLE}  CSV##response")
    d.frames(3)
    path = d.exported("response.csv")
    assert path.read_text().startswith("covariate,unit,instrument,asked,seed,read\n")
    d.front("Grid")


def tools_a_list_of_conditions_becomes_pictures(d):
    conditions = d.folder / "conditions.csv"
    conditions.write_text("name,thickness,digit,seed\nthin,2.5,1,5\nthick,4.5,2,\n")
    d.ctx.menu_click("//##MainMenuBar/File/Export a list of conditions…")
    d.frames(3)
    d.ctx.item_input_value("//List of conditions/##conditions path", str(conditions))
    d.frames(3)
    (thin, _), (thick, request) = d.app.interface.export.listed
    assert (thin, thick) == ("thin", "thick") and dict(request.covariates)["digit"] == 2.0
    d.wait(lambda: not d.app.client.busy)
    d.frames(4)
    d.ctx.item_input_value("//Export/##export path", str(d.folder / "people.png"))
    d.wait((d.folder / "people.csv").exists)
    rows = (d.folder / "people.csv").read_text().splitlines()
    assert rows[1].startswith("thin,people-0001.png,5,2.5,") and "digits:thickness" in rows[0]
    assert (d.folder / "people-0002.png").exists()


def tools_the_tour_goes_from_panel_to_panel_and_sees_what_is_done(d):
    from explorer_app.panels.help_menu import STEPS, documentation

    assert documentation().endswith(("explorer.md", "explorer/index.html"))
    d.ctx.menu_click("//##MainMenuBar/Help/Tour, five minutes")
    d.frames(4)
    tour = d.app.interface.tour
    assert tour.step == 0 and not tour.done
    d.photograph(d.folder / "tour.png")
    d.ctx.item_input_value(slider("thickness"), 4.25)
    d.frames(3)
    assert tour.done
    d.ctx.item_click("//###tour/###tour next")
    d.frames(3)
    assert tour.step == 1 and not tour.done
    d.ctx.item_click("//###tour/back##tour")
    d.frames(2)
    for _ in STEPS:
        assert 0 <= tour.step < len(STEPS)
        d.ctx.item_click("//###tour/###tour next")
        d.frames(2)
    assert tour.step == -1
    d.front("Grid")
    d.front("Measured")


def heads_the_wheels_function_is_chosen_in_the_menu(d):
    name = d.app.document.distribution.study.position
    d.ctx.menu_click("//##MainMenuBar/View/Wheel/zooms, Ctrl scrolls slices")
    before = d.value_of(name)
    d.ctx.mouse_move("//Picture/##picture")
    d.ctx.mouse_wheel_y(1)
    d.frames(3)
    assert d.value_of(name) == before and d.state.display.zoom > 0
    d.ctx.key_down(CTRL)
    d.ctx.mouse_wheel_y(1)
    d.ctx.key_up(CTRL)
    d.frames(3)
    assert d.value_of(name) != before
    d.ctx.menu_click("//##MainMenuBar/View/Wheel/scrolls slices, Ctrl zooms")
    zoom, here = d.state.display.zoom, d.value_of(name)
    d.ctx.mouse_move("//Picture/##picture")
    d.ctx.mouse_wheel_y(-1)
    d.frames(3)
    assert d.value_of(name) != here and d.state.display.zoom == zoom


def tools_messages_leave_the_grid_and_the_picture_free(d):
    """They stand in the margin beside the picture; where there is none, over its upper edge."""
    interface = d.app.interface
    interface.notes.clear()
    d.frames(2)
    left, top, wide, high = interface.view_box
    assert interface.margin > 0 and interface.margin < wide / 2
    interface.note("a message that is long enough to be broken into several lines")
    d.frames(3)
    d.photograph(d.folder / "note.png")
    from PIL import Image

    with Image.open(d.folder / "note.png") as image:
        pixels = np.asarray(image.convert("L"), np.float32)
    below = pixels[int(top + high) :, int(left) : int(left + wide)].copy()
    interface.notes.clear()
    d.frames(3)
    d.photograph(d.folder / "no-note.png")
    with Image.open(d.folder / "no-note.png") as image:
        without = np.asarray(image.convert("L"), np.float32)
    assert np.array_equal(below, without[int(top + high) :, int(left) : int(left + wide)])
    assert not np.array_equal(pixels, without)


# --- models of other kinds in every panel


def _every_panel(d):
    """Everything a panel can do with a model happens without a fault; what it lacks is said where it is."""
    from explorer_app.app import PANELS

    study = d.app.document.distribution.study
    first = study.conditions[0].name
    d.ctx.item_click("//Covariates/free##mode")
    d.ctx.item_input_value(slider(first), d.app.document.distribution.range(first)[1])
    d.settle()
    for tool, start, end in (
        ("distance", (0.4, 0.4), (0.6, 0.4)),
        ("rectangle", (0.42, 0.5), (0.55, 0.65)),
        ("pan", (0.5, 0.5), (0.52, 0.5)),
    ):
        d.ctx.item_click(f"//Picture/###tool {tool}")
        _drag_on_picture(d, start, end)
    assert [m.kind for m in d.state.marks] == ["distance", "rectangle"]
    d.ctx.key_press(imgui.Key.p)
    d.ctx.item_click("//Latent/##seed/+")
    for key in ("d", "d", "f", "n", "i", "i"):
        d.ctx.key_press(getattr(imgui.Key, key))
        d.settle()
    for label, _, _ in PANELS:
        if label != "Picture":
            d.front(label)
            d.settle()
            d.photograph(d.folder / f"{label}.png")
    d.front("Inspect")
    for tab in ("layers", "spectrum", "transform"):
        d.ctx.item_click(f"//Inspect/inspect/{tab}")
        d.settle()
    for label in ("Grid", "Measured"):
        d.front(label)
    d.settle()
    assert not d.explorer.faults, d.explorer.faults


def stylegan3_goes_through_every_panel(d):
    assert d.app.model.equivariant
    _every_panel(d)


def stylegan3_mixing_of_fine_layers_outlasts_a_restart(d):
    last, first = d.app.model.num_ws - 1, d.app.client.pid
    assert last > 8
    d.app.state = replace(d.state, request=replace(d.state.request, mix_layers=(2, last)))
    d.settle()
    os.kill(first, signal.SIGKILL)
    d.wait(lambda: d.app.client.pid != first)
    d.settle()
    assert d.state.request.mix_layers == (2, last)


def official_pickle_goes_through_every_panel(d):
    study = d.app.document.distribution.study
    assert study.geometry is None and not study.instrument
    _every_panel(d)


def colour_study_goes_through_every_panel(d):
    assert d.app.client.shown.image.shape[2] == 3
    _every_panel(d)


def colour_channels_are_chosen_windowed_and_read_out(d):
    """Colour, the green channel, and all but red: the view, the read-out, the window and a copy follow."""
    photo = d.app.client.shown.image

    def seen() -> np.ndarray:
        return d.app.parts(d.app.client.shown)[0][0].image

    def middle() -> np.ndarray:
        pixels = d.on_gui(lambda: d.app.screen.targets["view 0"].read().copy())
        high, wide = pixels.shape[0] // 2, pixels.shape[1] // 2
        return pixels[high - 20 : high + 20, wide - 20 : wide + 20]

    def read_out() -> str:
        return levels_at(d.app.parts(d.app.client.shown)[0][0], 5, 7)

    assert np.array_equal(seen(), photo)
    wanted = {"green": photo[..., 1], "red-free": photo[..., 1:] @ np.float32(RED_FREE), "colour": photo}
    for name, expected in wanted.items():
        before = middle()
        d.ctx.item_click("//Picture/##channel")
        d.ctx.item_click(f"//$FOCUSED/{name}")
        d.settle()
        assert d.state.display.channel == name and np.allclose(seen(), expected, atol=1e-3)
        assert len(read_out().split()) == (3 if name == "colour" else 1)
        after = middle()
        assert not np.array_equal(before, after)
        assert (after[..., 0] == after[..., 1]).all() == (name != "colour"), name
        width = d.state.display.width
        d.ctx.mouse_move("//Picture/##picture")
        d.ctx.mouse_drag_with_delta((-40, 0), 1)
        d.frames(3)
        assert d.state.display.width < width
        assert not np.array_equal(after, middle())
        d.ctx.key_press(chord(CTRL, imgui.Key.z))
        d.frames(3)
        assert d.state.display.width == width and d.state.display.channel == name
