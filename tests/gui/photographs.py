"""Takes the photographs of docs/guide/explorer.md: the real window, driven into the state each one shows.

python tests/gui/photographs.py SNAPSHOT RUN OUT [NAME...]     (under xvfb-run -a -s "-screen 0 2560x1440x24")

Start it in a folder whose name may be seen: some dialogs show it.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from drive import Driver
from imgui_bundle import hello_imgui, imgui
from imgui_bundle.immapp import testing
from PIL import Image
from scenarios import CTRL, chord, slider

from explorer_app.interface import Dialog
from explorer_app.request_edits import at_place

COLOURS = 160  # of the palette: the window has few colours, and a page of pictures should be light
Scene = Callable[[Driver], None]


def covariates(d: Driver) -> None:
    """Far from the data: the gauge is amber and says why."""
    d.ctx.item_click("//Covariates/free##mode")
    names = [c.name for c in d.app.document.distribution.study.conditions if c.is_continuous]
    d.ctx.item_input_value(slider(names[0]), d.app.document.distribution.range(names[0])[0] + 1)
    d.ctx.item_input_value(slider(names[1]), d.app.document.distribution.range(names[1])[1] * 0.8)


def grid(d: Driver) -> None:
    """Two covariates that no source recorded together, 5 x 7."""
    d.front("Grid")
    d.ctx.item_input_value("//Grid/**/##rows steps", 4)
    d.ctx.item_input_value("//Grid/**/##columns steps", 7)


def strata(d: Driver) -> None:
    """Live heatmaps, one panel per stratum of the third covariate."""
    d.front("Strata")
    d.ctx.item_check("//Strata/**/measure live##strata")
    d.frames()
    names = [c.name for c in d.app.document.distribution.study.conditions]
    chosen = replace(
        d.state.analysis,
        strata_images=2,
        strata_metric=names[1],
        strata_rows=names[2],
        strata_columns=names[1],
        strata_panel=names[0],
    )
    d.app.state = replace(d.state, analysis=chosen)


def latent(d: Driver) -> None:
    """A drag between seeds, style mixing, and a layer's channels."""
    placed = at_place(d.state.request, 11, 0.4, 0.2)
    d.app.state = replace(d.state, request=replace(placed, mix_seed=5, mix_layers=(6, 7)))
    d.front("Inspect")
    d.settle()
    layer = [la for la in d.app.model.layers if la.shape[0] >= 16][-1]
    request = replace(d.state.request, layer=layer.name, channel=0)
    d.app.state = replace(d.state, request=request, display=replace(d.state.display, channels=16))


def spectrum(d: Driver) -> None:
    """The picture's power spectrum."""
    d.front("Inspect")
    d.ctx.item_click("//Inspect/inspect/spectrum")


def pinned_and_moved(d: Driver) -> None:
    """The picture pinned, then the first covariate moved up."""
    d.ctx.key_press(imgui.Key.p)
    name = d.app.document.distribution.study.conditions[0].name
    low, high = d.app.document.distribution.range(name)
    d.ctx.item_input_value(slider(name), low + 0.9 * (high - low))


def compare(d: Driver) -> None:
    """A pin and the signed difference from it, with the read-out under the cursor."""
    pinned_and_moved(d)
    d.ctx.key_press(imgui.Key.d)
    d.settle()
    d.ctx.mouse_move("//Picture/##picture")


def side(d: Driver) -> None:
    """Side by side with the pin, zoomed together, in colour."""
    pinned_and_moved(d)
    d.ctx.item_click("//Display/side##compare")
    d.app.state = replace(
        d.state, display=replace(d.state.display, colormap="magma", level=110.0, width=180.0)
    )
    d.settle()


def own_image(d: Driver) -> None:
    """A scan opened beside the generated picture."""
    import nibabel
    import numpy as np

    from mssg import assets

    affine = np.diag([1.0, 1.0, 1.0, 1.0])
    affine[:3, 3] = -98, -134, -72  # of the template's own file
    with np.load(assets.path("brain/mni152.npz")) as template:
        nibabel.save(nibabel.Nifti1Image(template["t1"], affine), "scan.nii.gz")
    d.app.open("scan.nii.gz")
    d.wait(lambda: d.state.pins)
    d.front("Your image")
    d.wait(lambda: (frame := d.app.client.frame(d.state.pin.request)) is not None and frame.measured)


def response(d: Driver) -> None:
    """What the oracle reads against what is asked."""
    d.front("Response")


def measured(d: Driver) -> None:
    """What the oracle reads, and mean and deviation over seeds."""
    d.front("Measured")
    d.ctx.item_click("//Measured/both##uncertainty")


def people(d: Driver) -> None:
    """Nine people at the same covariates."""
    d.ctx.item_click("//Measured/people##uncertainty")
    d.ctx.item_input_value("//Measured/##seeds", 9)


def neighbours(d: Driver) -> None:
    """The nearest of the shipped phantoms, one of them open beside the picture."""
    d.front("Neighbours")
    d.wait(lambda: d.app.neighbours.found)
    d.ctx.item_click("//Neighbours/neighbour 0")


def shortcuts(d: Driver) -> None:
    """The list of keys."""
    d.ctx.key_press(imgui.Key.f1)


def opening(d: Driver) -> None:
    """The dialog that opens files."""
    d.ctx.key_press(chord(CTRL, imgui.Key.o))


def training(d: Driver) -> None:
    """The dialog that starts a training."""
    d.app.interface.dialogs.add(Dialog.TRAIN)


def exporting(d: Driver) -> None:
    """The export dialog."""
    d.ctx.key_press(chord(CTRL, imgui.Key.e))


def timeline(d: Driver) -> None:
    """A run's snapshots at the same seed and covariates."""
    d.front("Timeline")


def curves(d: Driver) -> None:
    """A run's losses and metrics."""
    d.front("Training")


def performance(d: Driver) -> None:
    """Times."""
    d.front("Speed")


def refused(d: Driver) -> None:
    """A snapshot of another version."""
    bad = d.folder / "from-the-future.safetensors"
    bad.write_bytes(
        Path(d.state.snapshot).read_bytes().replace(b'\\"format_version\\": 1', b'\\"format_version\\": 9', 1)
    )
    d.app.document.open(bad)


def main_view(d: Driver) -> None:
    """As it opens."""


ON_SNAPSHOT: tuple[Scene, ...] = (
    main_view,
    covariates,
    grid,
    strata,
    latent,
    spectrum,
    compare,
    side,
    own_image,
    response,
    measured,
    people,
    neighbours,
    shortcuts,
    opening,
    training,
    exporting,
    performance,
    refused,
)
ON_RUN: tuple[Scene, ...] = (timeline, curves)


def photograph(target: str, scenes: dict[str, Scene], out: Path, scale: float = 1.0) -> None:
    """Open a window of 1280x800 times `scale` and take one photograph per scene."""
    from explorer_app.app import Explorer

    explorer = Explorer(target, size=(1280, 800) if scale == 1 else (1280, 720), scale=scale, remember=False)
    explorer.parameters.fps_idling.enable_idling = False
    driver = Driver(explorer, Path.cwd(), target, scale)

    def script(ctx: imgui.test_engine.TestContext) -> None:
        io = imgui.test_engine.get_io(hello_imgui.get_imgui_test_engine())
        io.config_watchdog_warning, io.config_watchdog_kill_test = 1000.0, 1200.0
        io.config_mouse_draw_cursor = False
        driver.ctx = ctx
        mouse = imgui.get_io()
        mouse.mouse_double_click_time, mouse.mouse_single_click_delay = 5.0, 6.0
        ctx.yield_(8)
        for title, scene in scenes.items():
            driver.reset()
            for name in ("Measured", "Grid"):
                driver.front(name)
            driver.settle()
            scene(driver)
            driver.settle()
            if scene is not compare:
                ctx.mouse_teleport_to_pos((-9, -9))
            driver.frames(4)
            path = out / f"{title}.png"
            driver.photograph(path)
            with Image.open(path) as image:
                small = image.convert("RGB").quantize(
                    COLOURS if scale == 1 else COLOURS // 2,
                    Image.Quantize.MEDIANCUT,
                    dither=Image.Dither.NONE,
                )
            small.save(path, optimize=True)
            print(f"{path.name}: {path.stat().st_size / 1024:.0f} KiB", flush=True)
            driver.reset()

    try:
        testing.run(
            test_function=script, runner_params=explorer.parameters, add_ons_params=explorer.add_ons()
        )
    finally:
        explorer.context.close()


def main() -> None:
    """Take all photographs, or those named; each window in a process of its own."""
    snapshot, run, out, *names = sys.argv[1:]
    out_folder = Path(out)
    out_folder.mkdir(parents=True, exist_ok=True)
    for target, scenes, scale, suffix in (
        (snapshot, ON_SNAPSHOT, 1.0, ""),
        (run, ON_RUN, 1.0, ""),
        (snapshot, (main_view,), 2.0, "-2560"),
    ):
        chosen = {f"{s.__name__}{suffix}": s for s in scenes}
        chosen = {k: v for k, v in chosen.items() if not names or k in names}
        if chosen:
            photograph(target, chosen, out_folder, scale)


if __name__ == "__main__":
    main()
