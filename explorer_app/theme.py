"""Colours, fonts and spacing of the window: dark, calm, one accent."""

from __future__ import annotations

from functools import lru_cache

from imgui_bundle import ImVec2, ImVec4, hello_imgui, imgui

from mssg import assets

FONT_SIZE = 15.0

BACKGROUND = (0.075, 0.082, 0.094)
PANEL = (0.102, 0.110, 0.126)
FRAME = (0.150, 0.162, 0.184)
LINE = (0.200, 0.215, 0.243)
TEXT = (0.870, 0.885, 0.910)
DIM = (0.580, 0.610, 0.655)
FAINT = (0.400, 0.425, 0.465)
ACCENT = (0.400, 0.640, 0.870)
GOOD = (0.450, 0.740, 0.560)
AMBER = (0.920, 0.690, 0.310)
RED = (0.930, 0.470, 0.430)
CANVAS = (0.043, 0.047, 0.055)


class Fonts:
    """The fonts, once loaded."""

    regular: imgui.ImFont | None = None
    bold: imgui.ImFont | None = None


def load_fonts() -> None:
    """Load the shipped fonts, with icons merged in; sizes follow the screen's scale."""

    def load(name: str) -> imgui.ImFont:
        outside = hello_imgui.FontLoadingParams()
        outside.inside_assets = False
        font = hello_imgui.load_font(str(assets.path(f"fonts/{name}")), FONT_SIZE, outside)
        icons = hello_imgui.FontLoadingParams()
        icons.merge_to_last_font = True
        hello_imgui.load_font("fonts/Font_Awesome_6_Free-Solid-900.otf", FONT_SIZE * 0.86, icons)
        return font

    Fonts.regular, Fonts.bold = load("Roboto-Regular.ttf"), load("Roboto-Bold.ttf")


def vec(colour: tuple[float, float, float], alpha: float = 1.0) -> ImVec4:
    """A colour as imgui takes it."""
    return ImVec4(*colour, alpha)


@lru_cache(4096)
def u32(colour: tuple[float, float, float], alpha: float = 1.0) -> int:
    """A colour as draw lists take it."""
    return imgui.color_convert_float4_to_u32(vec(colour, alpha))


def em(x: float = 1.0) -> float:
    """A length in units of the font's size: everything scales with it."""
    return imgui.get_font_size() * x


def apply_style() -> None:
    """Set imgui's style; sizes are for scale 1 and are scaled by hello_imgui."""
    style = imgui.get_style()
    style.window_padding = ImVec2(10, 8)
    style.frame_padding = ImVec2(7, 3)
    style.item_spacing = ImVec2(7, 5)
    style.item_inner_spacing = ImVec2(5, 4)
    style.window_border_size = style.child_border_size = style.popup_border_size = 1
    style.frame_border_size = style.tab_border_size = 0
    style.tab_bar_border_size = style.tab_bar_overline_size = 0
    style.docking_separator_size = 2
    style.scrollbar_size, style.grab_min_size = 10, 9
    style.window_rounding, style.child_rounding, style.popup_rounding = 0, 4, 5
    style.frame_rounding, style.grab_rounding, style.tab_rounding, style.scrollbar_rounding = 4, 4, 3, 6
    style.disabled_alpha = 0.45
    style.hover_stationary_delay, style.hover_delay_normal = 0.25, 0.45
    style.window_menu_button_position = imgui.Dir.none
    _colour_style(style)


def _colour_style(style: imgui.Style) -> None:
    red, green, blue = (min(1.0, c * 1.25) for c in FRAME)
    lift = red, green, blue
    table = {
        imgui.Col_.text: vec(TEXT),
        imgui.Col_.text_disabled: vec(DIM),
        imgui.Col_.window_bg: vec(PANEL),
        imgui.Col_.child_bg: vec(PANEL, 0),
        imgui.Col_.popup_bg: vec((0.125, 0.134, 0.153), 0.99),
        imgui.Col_.border: vec(LINE),
        imgui.Col_.frame_bg: vec(FRAME),
        imgui.Col_.frame_bg_hovered: vec(lift),
        imgui.Col_.frame_bg_active: vec(lift),
        imgui.Col_.title_bg: vec(BACKGROUND),
        imgui.Col_.title_bg_active: vec(BACKGROUND),
        imgui.Col_.title_bg_collapsed: vec(BACKGROUND),
        imgui.Col_.menu_bar_bg: vec(BACKGROUND),
        imgui.Col_.scrollbar_bg: vec(PANEL, 0),
        imgui.Col_.scrollbar_grab: vec(LINE),
        imgui.Col_.scrollbar_grab_hovered: vec(FAINT),
        imgui.Col_.scrollbar_grab_active: vec(FAINT),
        imgui.Col_.check_mark: vec(ACCENT),
        imgui.Col_.slider_grab: vec(ACCENT, 0.55),
        imgui.Col_.slider_grab_active: vec(ACCENT, 0.75),
        imgui.Col_.button: vec(FRAME),
        imgui.Col_.button_hovered: vec(lift),
        imgui.Col_.button_active: vec(LINE),
        imgui.Col_.header: vec(ACCENT, 0.22),
        imgui.Col_.header_hovered: vec(ACCENT, 0.30),
        imgui.Col_.header_active: vec(ACCENT, 0.36),
        imgui.Col_.separator: vec(LINE),
        imgui.Col_.separator_hovered: vec(ACCENT, 0.6),
        imgui.Col_.separator_active: vec(ACCENT),
        imgui.Col_.resize_grip: vec(LINE, 0.3),
        imgui.Col_.tab: vec(BACKGROUND),
        imgui.Col_.tab_hovered: vec(lift),
        imgui.Col_.tab_selected: vec(PANEL),
        imgui.Col_.tab_dimmed: vec(BACKGROUND),
        imgui.Col_.tab_dimmed_selected: vec(PANEL),
        imgui.Col_.docking_empty_bg: vec(CANVAS),
        imgui.Col_.plot_lines: vec(ACCENT),
        imgui.Col_.plot_histogram: vec(ACCENT),
        imgui.Col_.table_header_bg: vec(FRAME),
        imgui.Col_.table_border_light: vec(LINE, 0.5),
        imgui.Col_.text_selected_bg: vec(ACCENT, 0.35),
        imgui.Col_.drag_drop_target: vec(ACCENT),
        imgui.Col_.modal_window_dim_bg: vec((0, 0, 0), 0.5),
    }
    for key, colour in table.items():
        style.set_color_(key, colour)
