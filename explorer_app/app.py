"""The window: docking layout, frame loop, and what ties panels to the state."""

from __future__ import annotations

import os
import sys
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from imgui_bundle import ImVec2, hello_imgui, imgui, immapp
from imgui_bundle import icons_fontawesome_6 as icons

from explorer_app import config, layout, theme
from explorer_app.clipboard import copy_picture
from explorer_app.context import Context
from explorer_app.display import Screen, read_window
from explorer_app.interface import SCALES, WHEELS, Dialog
from explorer_app.panels import (
    adjust,
    covariates,
    dialogs,
    grid,
    help_menu,
    inspect,
    latent,
    measured,
    menus,
    movie,
    neighbours,
    own_image,
    picture_view,
    regions,
    response,
    strata,
    three_planes,
    timeline,
)
from explorer_app.render_client import RenderClient
from explorer_app.state import AppState
from explorer_app.theme import em, u32
from mssg.rendering.image_files import write_png

_NOTE_MARGIN, _NOTE_TALL = 8.0, 9.0
"""A margin at least so wide holds messages at most so tall, in units of the text's height."""
Panel = Callable[[Context, AppState], AppState]

# label, dock space, panel; the order within a space is the order of its tabs.
PANELS: tuple[tuple[str, str, Panel], ...] = (
    ("Covariates", "Left", covariates.draw),
    ("Latent", "LeftDown", latent.draw),
    ("Picture", "MainDockSpace", picture_view.draw),
    ("Three planes", "MainDockSpace", three_planes.draw),
    ("Grid", "Down", grid.draw),
    ("Strata", "Down", strata.draw),
    ("Response", "Down", response.draw),
    ("Your image", "Down", own_image.draw),
    ("Movie", "Down", movie.draw),
    ("Neighbours", "Down", neighbours.draw),
    ("Timeline", "Down", timeline.draw_timeline),
    ("Training", "Down", timeline.draw_training),
    ("Log", "Down", timeline.draw_log),
    ("Display", "Right", adjust.draw),
    ("Measured", "RightDown", measured.draw),
    ("Regions", "RightDown", regions.draw),
    ("Inspect", "RightDown", inspect.draw),
    ("Speed", "RightDown", inspect.draw_performance),
)

_FIRST_PICTURE = 3
"""The first frame that shows panels: the windowing library lays them out in those before."""
_FRONT = {3: "Measured", 4: "Grid", 5: "Picture"}  # frame number -> panel brought to the front of its tabs


class Explorer:
    """The explorer's window.

    Args:
        target: A snapshot, run folder or session to open; "" starts empty.
        client: Has pictures rendered; None starts a render process.
        size: Of the window, in screen pixels at scale 1.
        scale: Size of text and controls relative to 96 dots per inch; None asks the screen.
        remember: Keep layout and window position in the user's configuration folder.
        device: Where pictures are rendered: auto | cpu | cuda | mps.
    """

    def __init__(
        self,
        target: str = "",
        client: RenderClient | None = None,
        size: tuple[int, int] = config.SIZE,
        scale: float | None = None,
        remember: bool = True,
        device: str = "auto",
    ) -> None:
        self.started = time.perf_counter()
        self.first_frame_s = 0.0
        # A software driver's threads beside the render process's would only stand in each other's way.
        os.environ.setdefault("LP_NUM_THREADS", str(max(1, (os.cpu_count() or 2) // 2)))
        self.context = Context(
            client or RenderClient(wake=hello_imgui.request_refresh, device=device), Screen()
        )
        self.context.interface.quit = lambda: setattr(hello_imgui.get_runner_params(), "app_shall_exit", True)
        self.frames = 0
        self.faults: list[str] = []
        self._target = target
        self._last = 0.0
        self._clear = 0  # frames without a dialog
        self._title = ""
        self.parameters = self._parameters(size, scale, remember)

    def run(self) -> None:
        """Show the window until it is closed."""
        try:
            immapp.run(self.parameters, self.add_ons())
        finally:
            self.context.close()

    @staticmethod
    def add_ons() -> immapp.AddOnsParams:
        """The imgui add-ons the panels need."""
        return immapp.AddOnsParams(with_implot=True)

    def _parameters(
        self, size: tuple[int, int], scale: float | None, remember: bool
    ) -> hello_imgui.RunnerParams:
        p = hello_imgui.RunnerParams()
        p.app_window_params.window_title = "MSSG explorer"
        p.app_window_params.window_geometry.size = size
        p.app_window_params.restore_previous_geometry = remember
        if scale:
            p.dpi_aware_params.dpi_window_size_factor = scale
        window = p.imgui_window_params
        window.default_imgui_window_type = hello_imgui.DefaultImGuiWindowType.provide_full_screen_dock_space
        window.show_menu_bar, window.show_menu_app, window.show_menu_view = True, False, False
        window.show_status_bar = window.remember_status_bar_settings = False
        options = hello_imgui.OpenGlOptions()
        options.anti_aliasing_samples = 0  # imgui smooths its own edges; multisampling only costs
        p.renderer_backend_options.open_gl_options = options
        p.fps_idling.fps_idle, p.fps_idling.time_active_after_last_event = 4.0, 1.0
        p.fps_idling.vsync_to_monitor, p.fps_idling.fps_max = True, 60.0
        self._layout(p.docking_params)
        calls = p.callbacks
        calls.load_additional_fonts = theme.load_fonts
        calls.setup_imgui_style = lambda: self._style(config.settings() if remember else {})
        calls.setup_imgui_config = _configure
        calls.show_menus = lambda: self._panel(menus.draw)
        calls.pre_new_frame = self._begin
        calls.show_gui = self._overlays
        calls.before_imgui_render = self._end
        calls.before_swap = self._capture
        calls.post_init = _accept_drops(self.context)
        calls.before_exit = self.context.screen.close
        folder = config.writable_folder() if remember else None
        p.ini_disable = folder is None
        if folder:
            p.ini_folder_type = hello_imgui.IniFolderType.absolute_path
            p.ini_filename = str(folder / "explorer.ini")
        return p

    def _style(self, chosen: dict[str, Any]) -> None:
        theme.apply_style()
        theme.use(str(chosen.get("theme", "")))
        if chosen.get("scale") in SCALES:
            self.context.interface.scale = chosen["scale"]
        if chosen.get("wheel") in WHEELS:
            self.context.interface.wheel = chosen["wheel"]

    def _layout(self, docking: hello_imgui.DockingParams) -> None:
        split, down, left, right = hello_imgui.DockingSplit, imgui.Dir.down, imgui.Dir.left, imgui.Dir.right
        docking.docking_splits = [
            split("MainDockSpace", "Left", left, 0.225),
            split("MainDockSpace", "Right", right, 0.29),
            split("MainDockSpace", "Down", down, 0.40),
            split("Left", "LeftDown", down, 0.33),
            split("Right", "RightDown", down, 0.50),
        ]
        docking.main_dock_space_node_flags = imgui.DockNodeFlags_.none
        windows = []
        for index, (label, space, panel) in enumerate(PANELS):
            window = hello_imgui.DockableWindow(label, space)
            window.gui_function = lambda panel=panel, index=index: self._docked_panel(panel, index)
            window.can_be_closed = False  # no close buttons: View shows and hides panels
            window.imgui_window_flags = _flags(label, docked=True)
            windows.append(window)
        docking.dockable_windows = windows

    def _docked_panel(self, panel: Panel, index: int) -> None:
        """Draw a panel's window. Only a panel torn out of the dock paints its background: with a software
        driver the others' would cost a third of every frame."""
        window = self.parameters.docking_params.dockable_windows[index]
        window.imgui_window_flags = _flags(window.label, imgui.is_window_docked())
        if not imgui.internal.get_current_window_read().hidden:  # as all are while they are laid out
            self._panel(panel)

    def _panel(self, panel: Panel) -> None:
        """Draw a panel; a fault in it is told and leaves the state as it was, it does not take the window
        down."""
        try:
            self.context.state = panel(self.context, self.context.state)
            # the next panel must find the distribution that belongs to the state
            self.context.document.read_current()
        except Exception:
            self._fault()

    def _fault(self) -> None:
        text = traceback.format_exc()
        if text not in self.faults:
            self.faults.append(text)
            print(text, file=sys.stderr, flush=True)
            self.context.interface.note(
                f"Internal error, please report it: {text.strip().splitlines()[-1]}", bad=True
            )

    def _begin(self) -> None:
        imgui.get_io().config_error_recovery_enable_assert = False  # a panel's fault is told, see `_panel`
        theme.fit(imgui.get_io().display_size.x, self.context.interface.scale)
        # docked panels draw no ground of their own
        self.parameters.imgui_window_params.background_color = theme.vec(theme.PANEL)
        self._entitle()
        now = time.perf_counter()
        if self._last and now - self._last < 1:
            self.context.interface.frame_ms.append((now - self._last) * 1e3)
        self._last = now
        self.frames += 1
        if self.frames == 2:
            self.first_frame_s = now - self.started
        if self.frames == 1 and self._target:
            self.context.document.hurried = True
            self.context.document.open(self._target)
            self.context.offer_stored()
        if self.frames > _FIRST_PICTURE:
            self.context.document.catch_up()
        if self.frames in _FRONT:
            self.parameters.docking_params.focus_dockable_window(_FRONT[self.frames])
        if self.frames == 2 and not self.parameters.ini_disable:
            layout.refit(Path(self.parameters.ini_filename))
        if self.context.document.layout:
            layout.restore(self.context.document.layout)
            self.context.document.layout = ""
        if self.context.document.missing is not None:
            self.context.interface.dialogs.add(Dialog.MISSING)
        self.parameters.fps_idling.fps_max = float(self.context.interface.fps_limit)
        self.context.begin_frame()

    def _entitle(self) -> None:
        """Name model, study and progress in the window's title."""
        distribution, title = self.context.document.distribution, "MSSG explorer"
        if distribution is not None:
            header = distribution.header
            parts = [header.path.stem, header.study.name]
            parts += [f"{header.progress['kimg']:g} kimg"] if "kimg" in header.progress else []
            title = f"{' · '.join(parts)} — {title}"
        if title != self._title:
            self._title = title
            with suppress(ImportError, OSError, AttributeError):  # a title is a convenience
                import glfw
                from imgui_bundle import glfw_utils

                window: Any = glfw_utils.glfw_window_hello_imgui()
                glfw.set_window_title(window, title)

    def _overlays(self) -> None:
        menus.keyboard(self.context)
        self._panel(dialogs.draw)
        help_menu.draw(self.context)
        _notes(self.context)

    def _end(self) -> None:
        context = self.context
        context.end_frame(held=imgui.is_any_item_active() or imgui.is_mouse_down(0) or imgui.is_mouse_down(1))
        if context.busy:
            hello_imgui.request_refresh()

    def _capture(self) -> None:
        """Photograph the window where that was asked for, once the dialog that asked has left it."""
        context = self.context
        self._clear = 0 if context.interface.dialogs else self._clear + 1
        capture = context.interface.capture
        if capture is None or self._clear < 3:
            return
        context.interface.capture = None
        io = imgui.get_io()
        size, scale = io.display_size, io.display_framebuffer_scale
        pixels = read_window(round(size.x * scale.x), round(size.y * scale.y))
        if capture.view:
            left, top, wide, high = (round(v * scale.x) for v in context.interface.view_box)
            pixels = np.ascontiguousarray(pixels[top : top + high, left : left + wide])
        if not capture.path:
            context.background.start(lambda: copy_picture(pixels), "view copied to the clipboard")
            return
        path, origin = Path(capture.path), context.origin()
        context.background.start(lambda: write_png(path, pixels, origin.text), f"wrote {path.name}")


def _flags(label: str, docked: bool) -> int:
    """Window flags of a panel."""
    flags = imgui.WindowFlags_.no_background if docked else imgui.WindowFlags_.none
    if label in ("Picture", "Three planes"):
        flags |= imgui.WindowFlags_.no_scrollbar | imgui.WindowFlags_.no_scroll_with_mouse
    return int(flags)


def _configure() -> None:
    hello_imgui.imgui_default_settings.setup_default_imgui_config()
    io = imgui.get_io()
    io.config_flags &= ~imgui.ConfigFlags_.viewports_enable
    io.config_flags |= imgui.ConfigFlags_.nav_enable_keyboard
    io.config_windows_move_from_title_bar_only = True
    io.config_error_recovery_enable_assert = io.config_error_recovery_enable_tooltip = False


def _accept_drops(context: Context) -> Callable[[], None]:
    """Open files dropped onto the window."""

    def install() -> None:
        try:
            import glfw
            from imgui_bundle import glfw_utils

            window: Any = glfw_utils.glfw_window_hello_imgui()
            dropped: Any = lambda _, paths: context.open(paths[0]) if paths else None  # noqa: E731
            glfw.set_drop_callback(window, dropped)
        except (ImportError, OSError, AttributeError):
            return  # dropping files is a convenience: File > Open does the same

    return install


def _notes(context: Context) -> None:
    """Messages for a few seconds: in the margin beside the picture, or over its upper edge where they do not
    fit there."""
    now = time.monotonic()
    notes = context.interface.notes
    while notes and notes[0].until < now:
        notes.popleft()
    draw, interface = imgui.get_foreground_draw_list(), context.interface
    left, top, wide, _ = interface.view_box
    ends = {
        True: top + em(2.2),
        False: top + em(2.2),
    }  # of the column beside the picture, and of that over it
    for note in reversed(notes):
        text = f"{icons.ICON_FA_TRIANGLE_EXCLAMATION}  {note.text}" if note.bad else note.text
        narrow = interface.margin - em(2.4)
        tall = imgui.calc_text_size(text, wrap_width=max(em(1), narrow)).y
        beside = interface.margin >= em(_NOTE_MARGIN) and tall <= em(_NOTE_TALL)
        width = narrow if beside else max(em(6), min(em(46), wide - em(2.4)))
        size, y = imgui.calc_text_size(text, wrap_width=width), ends[beside]
        x = left + em(1.2) if beside else left + (wide - size.x) / 2
        low, high = ImVec2(x - em(0.8), y), ImVec2(x + size.x + em(0.8), y + size.y + em(0.8))
        draw.add_rect_filled(low, high, u32(theme.POPUP, 0.97), em(0.35))
        draw.add_rect(low, high, u32(theme.AMBER if note.bad else theme.LINE, 0.9), em(0.35))
        draw.add_text(imgui.get_font(), em(), ImVec2(x, y + em(0.4)), u32(theme.TEXT), text, width)
        ends[beside] += size.y + em(1.2)
    if notes:
        hello_imgui.request_refresh()
