"""Colours, fonts and spacing of the window: calm, one accent, every text 4.5 to 1 against its ground."""

from __future__ import annotations

from functools import lru_cache

from imgui_bundle import ImVec2, ImVec4, hello_imgui, imgui

from mssg import assets

FONT_SIZE = 15.0
_ROOMY, _SMALLEST = 1040.0, 0.8  # a window narrower than this has smaller text, to this share

Rgb = tuple[float, float, float]
Colour = str | Rgb
"""A colour of the theme by its name, or one that is the same in every theme."""

BACKGROUND, PANEL, FRAME, LINE, POPUP = "background", "panel", "frame", "line", "popup"
TEXT, DIM, FAINT, ACCENT = "text", "dim", "faint", "accent"
GOOD, AMBER, RED, CANVAS = "good", "amber", "red", "canvas"
_COLOURS: dict[str, tuple[Rgb, Rgb, Rgb]] = {
    BACKGROUND: ((0.075, 0.082, 0.094), (0.880, 0.888, 0.902), (0.000, 0.000, 0.000)),
    PANEL: ((0.102, 0.110, 0.126), (0.965, 0.968, 0.975), (0.000, 0.000, 0.000)),
    FRAME: ((0.150, 0.162, 0.184), (0.895, 0.905, 0.922), (0.130, 0.130, 0.130)),
    LINE: ((0.200, 0.215, 0.243), (0.740, 0.760, 0.790), (0.750, 0.750, 0.750)),
    POPUP: ((0.125, 0.134, 0.153), (0.985, 0.987, 0.990), (0.000, 0.000, 0.000)),
    TEXT: ((0.870, 0.885, 0.910), (0.090, 0.100, 0.120), (1.000, 1.000, 1.000)),
    DIM: ((0.630, 0.660, 0.705), (0.300, 0.330, 0.370), (0.900, 0.900, 0.900)),
    FAINT: ((0.545, 0.575, 0.615), (0.370, 0.390, 0.430), (0.800, 0.800, 0.800)),
    ACCENT: ((0.400, 0.640, 0.870), (0.100, 0.380, 0.660), (0.350, 0.780, 1.000)),
    GOOD: ((0.450, 0.740, 0.560), (0.090, 0.430, 0.240), (0.400, 0.950, 0.550)),
    AMBER: ((0.920, 0.690, 0.310), (0.560, 0.340, 0.000), (1.000, 0.800, 0.200)),
    RED: ((0.930, 0.470, 0.430), (0.720, 0.150, 0.110), (1.000, 0.550, 0.500)),
    CANVAS: ((0.043, 0.047, 0.055), (0.800, 0.815, 0.835), (0.000, 0.000, 0.000)),
}
THEMES = {
    name: {colour: of_theme[i] for colour, of_theme in _COLOURS.items()}
    for i, name in enumerate(("dark", "light", "high contrast"))
}
INK, GROUND, WARNING = (THEMES["dark"][colour] for colour in (TEXT, CANVAS, AMBER))
"""On, around and in warning on pictures: the same in every theme, as their labels are dark in every theme."""


class _Current:
    """The theme in use."""

    name = "dark"


def use(name: str) -> None:
    """Take another theme, on the window's thread; an unknown one is none."""
    if name in THEMES and name != _Current.name:
        _Current.name = name
        u32.cache_clear()
        _colour_style(imgui.get_style())


def name_in_use() -> str:
    """The theme in use."""
    return _Current.name


def rgb(colour: Colour) -> Rgb:
    """A colour's red, green and blue, 0 to 1."""
    return THEMES[_Current.name][colour] if isinstance(colour, str) else colour


class Fonts:
    """The fonts beside the usual one, once loaded."""

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

    load("Roboto-Regular.ttf")  # the first is the usual one
    Fonts.bold = load("Roboto-Bold.ttf")


def vec(colour: Colour, alpha: float = 1.0) -> ImVec4:
    """A colour as imgui takes it."""
    return ImVec4(*rgb(colour), alpha)


@lru_cache(4096)
def u32(colour: Colour, alpha: float = 1.0) -> int:
    """A colour as draw lists take it."""
    return imgui.color_convert_float4_to_u32(vec(colour, alpha))


def fit(width: float, chosen: float) -> None:
    """Scale text and all that is measured in it: as chosen, and smaller in a narrow window.

    Args:
        width: Of the window, in imgui's units.
    """
    narrow = width / hello_imgui.dpi_window_size_factor() / _ROOMY
    scale = chosen * min(1.0, max(_SMALLEST, narrow))
    if abs(imgui.get_style().font_scale_main - scale) > 0.01:
        imgui.get_style().font_scale_main = scale


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
    style.tab_bar_border_size, style.tab_bar_overline_size = 0, 2
    style.docking_separator_size = 2
    style.scrollbar_size, style.grab_min_size = 10, 9
    style.window_rounding, style.child_rounding, style.popup_rounding = 0, 4, 5
    style.frame_rounding, style.grab_rounding, style.tab_rounding, style.scrollbar_rounding = 4, 4, 3, 6
    style.disabled_alpha = 0.45
    style.hover_stationary_delay, style.hover_delay_normal = 0.25, 0.45
    style.window_menu_button_position = imgui.Dir.none
    _colour_style(style)


def _colour_style(style: imgui.Style) -> None:
    red, green, blue = (c + 0.12 * (t - c) for c, t in zip(rgb(FRAME), rgb(TEXT)))
    lift = red, green, blue
    table = {
        imgui.Col_.text: vec(TEXT),
        imgui.Col_.text_disabled: vec(DIM),
        imgui.Col_.window_bg: vec(PANEL),
        imgui.Col_.child_bg: vec(PANEL, 0),
        imgui.Col_.popup_bg: vec(POPUP, 0.99),
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
        imgui.Col_.slider_grab: vec(ACCENT, 0.42),
        imgui.Col_.slider_grab_active: vec(ACCENT, 0.6),
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
        imgui.Col_.tab_selected_overline: vec(ACCENT),
        imgui.Col_.tab_dimmed_selected_overline: vec(ACCENT),
        imgui.Col_.nav_cursor: vec(ACCENT),
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
