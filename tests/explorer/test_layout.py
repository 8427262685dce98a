"""A layout stored in a large window, in a small one."""

import re

import pytest

pytest.importorskip("imgui_bundle")

from explorer_app.layout import fitted

STORED = """[Window][Regions]
Pos=1983,708
Size=575,709
DockId=0x0000000A,1

[Docking][Data]
DockSpace       ID=0xAFC85805 Window=0x079D3A04 Pos=0,21 Size=2560,1419 Split=X
  DockNode      ID=0x00000001 Parent=0xAFC85805 SizeRef=575,1419 Split=Y
  DockNode      ID=0x00000002 Parent=0xAFC85805 SizeRef=1983,1419 Split=X
    DockNode    ID=0x00000003 Parent=0x00000002 SizeRef=1406,1419 Split=Y
      DockNode  ID=0x00000005 Parent=0x00000003 SizeRef=1406,850 CentralNode=1 Selected=0x1898F399
    DockNode    ID=0x00000004 Parent=0x00000002 SizeRef=575,1419 Split=Y
"""


def sizes(text: str) -> list[tuple[int, int]]:
    return [(int(w), int(h)) for w, h in re.findall(r"SizeRef=(\d+),(\d+)", text)]


def test_every_panel_keeps_its_share():
    small = fitted(STORED, 800, 582)
    for (w, h), (stored_w, stored_h) in zip(sizes(small), sizes(STORED)):
        assert abs(w / 800 - stored_w / 2560) < 0.002 and abs(h / 582 - stored_h / 1419) < 0.002
    assert "Size=800,582" in small and "Pos=620,290" in small and "DockId=0x0000000A,1" in small


def test_a_window_of_nearly_the_same_size_keeps_its_layout():
    assert fitted(STORED, 2500, 1400) == STORED


@pytest.mark.parametrize("text", ["", "[Window][A]\nSize=3,4\n", "DockSpace ID=1 Size=0,0\n"])
def test_what_is_no_layout_stays(text):
    assert fitted(text, 800, 600) == text
