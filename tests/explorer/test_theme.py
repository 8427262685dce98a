"""Every text of every theme stands out from what it stands on."""

from __future__ import annotations

import pytest

from explorer_app import theme


def luminance(colour: theme.Rgb) -> float:
    """Of WCAG 2: relative luminance of sRGB."""
    linear = [v / 12.92 if v <= 0.03928 else ((v + 0.055) / 1.055) ** 2.4 for v in colour]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(a: theme.Rgb, b: theme.Rgb) -> float:
    low, high = sorted((luminance(a), luminance(b)))
    return (high + 0.05) / (low + 0.05)


def over(top: theme.Rgb, alpha: float, under: theme.Rgb) -> theme.Rgb:
    r, g, b = (alpha * t + (1 - alpha) * u for t, u in zip(top, under))
    return r, g, b


@pytest.mark.parametrize("name", theme.THEMES)
def test_contrast(name):
    colours = theme.THEMES[name]
    grounds = [colours[key] for key in (theme.PANEL, theme.POPUP, theme.BACKGROUND)]
    for key in (theme.TEXT, theme.DIM, theme.FAINT, theme.AMBER, theme.RED, theme.GOOD):
        for ground in grounds:
            assert contrast(colours[key], ground) >= 4.5, (key, ground)
    chosen = over(colours[theme.ACCENT], 0.32, colours[theme.PANEL])
    handle = over(colours[theme.ACCENT], 0.42, colours[theme.FRAME])
    for ground in (chosen, handle, colours[theme.FRAME]):
        assert contrast(colours[theme.TEXT], ground) >= 4.5, ground
    for colour in (theme.INK, theme.WARNING):
        assert contrast(colour, (0.02, 0.02, 0.03)) >= 4.5
