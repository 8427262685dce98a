"""Three planes of a head: the one that was learnt, and the two across its slices, under one crosshair.

Every eighth slice is drawn first, and during a drag no other; the rest follow when it stops. Two across need
no drawing: they are cut from the slices."""

from __future__ import annotations

from dataclasses import dataclass, replace

from imgui_bundle import ImVec2, imgui

from explorer_app import geometry, theme, widgets
from explorer_app.comparison import Part, brightness, levels_at, parts
from explorer_app.context import Context
from explorer_app.distribution import TrainingDistribution
from explorer_app.geometry import View
from explorer_app.messages import Frame
from explorer_app.panels import picture_view, slice_bar
from explorer_app.panels.latent import SEEDS_PER_EM
from explorer_app.panels.picture_view import Pane
from explorer_app.request_edits import drag_latent, whole_picture, with_values
from explorer_app.stack import (
    Places,
    Stack,
    across,
    coarse,
    geometry_across,
    head_of,
    refined,
    slices_of,
    spread,
    stack_of,
)
from explorer_app.state import ZOOM_RANGE, AppState, set_values
from explorer_app.theme import em, u32
from mssg.rendering.request import RenderRequest
from mssg.study.model import AXES, Geometry

ORDER = ("coronal", "sagittal", "axial")
_AXIS_NAMES = "xyz"
_GAP = 0.2  # between planes, in units of the text's height


def draw(app: Context, state: AppState) -> AppState:
    """Draw the panel."""
    distribution = app.document.distribution
    if distribution is not None and not slice_bar.has_bar(app):
        widgets.empty_note(
            "One plane only",
            "This model draws slices at one place. A study whose [geometry] names a position draws heads.",
        )
        return state
    state = picture_view.toolbar(app, state)
    if distribution is None or app.client.shown is None:
        widgets.empty_note(*picture_view.empty_message(app))
        return state
    if state.request.layer:
        widgets.empty_note("A layer is shown", "Planes are cut through pictures: choose none under Inspect.")
        return state
    head = Head.of(distribution, state)
    stack = _asked_for(app, state, head)
    return _planes(app, state, head, stack)


@dataclass(frozen=True)
class Head:
    """The head of a state and the place of the crosshair.

    Attributes:
        position: The covariate of the place.
        places: Of its slices, in millimetres.
        cross: Of the crosshair, millimetres along x, y and z.
    """

    position: str
    places: Places
    geometry: Geometry
    cross: tuple[float, float, float]

    @staticmethod
    def of(distribution: TrainingDistribution, state: AppState) -> Head:
        """The head of a study whose slices lie at many places."""
        position, stated = distribution.study.position, distribution.study.geometry
        assert position is not None and stated is not None
        return Head(position, tuple(distribution.places.tolist()), stated, (0.0, 0.0, 0.0)).at(state)

    def at(self, state: AppState) -> Head:
        """The head with the crosshair where a state has it."""
        normal, side, up = AXES[self.geometry.plane]
        cross = [0.0, 0.0, 0.0]
        cross[normal] = state.value(self.position)
        cross[side], cross[up] = (c + mm for c, mm in zip(self.geometry.centre_mm, state.cross))
        return replace(self, cross=(cross[0], cross[1], cross[2]))

    def of_request(self, request: RenderRequest) -> RenderRequest:
        """What all slices of a request's head share."""
        return head_of(request, self.position, self.places)

    def at_cross(self, request: RenderRequest) -> RenderRequest:
        """The slice of a request's head that the crosshair lies in."""
        place = self.cross[AXES[self.geometry.plane][0]]
        return with_values(whole_picture(request), **{self.position: place})

    def slices(self, request: RenderRequest) -> tuple[RenderRequest, ...]:
        """All slices of a request's head."""
        return slices_of(self.of_request(request), self.position, self.places)


def _asked_for(app: Context, state: AppState, head: Head) -> Stack | None:
    """The stack to show; what it lacks is asked for."""
    slices, count = head.slices(state.request), len(head.places)
    stack = app.stacks.shown(slices[0], head.position, head.places, app.client.frame)
    moves = slices[0] != head.of_request(app.document.history.committed.request)
    if moves and not app.stacks.is_still:
        app.client.request_along(slices[i] for i in coarse(count))
    else:
        app.client.request(slices[i] for i in refined(count))
    if (pin := _pin(state)) is not None:
        app.client.request([head.at_cross(pin), *(head.slices(pin)[i] for i in refined(count))])
    return stack


def _pin(state: AppState) -> RenderRequest | None:
    """The pin that is compared with, where it is a head of the same model."""
    request = state.pin.request if state.pin and state.display.compare != "A" else None
    if not isinstance(request, RenderRequest):
        return None  # a picture of the user's own is one slice
    return request if request.snapshot == state.snapshot else None


def _planes(app: Context, state: AppState, head: Head, stack: Stack | None) -> AppState:
    corner, size = imgui.get_cursor_screen_pos(), imgui.get_content_region_avail()
    if size.x < 8 or size.y < 8:
        return state
    size = ImVec2(max(8.0, size.x - em(slice_bar.WIDTH)), size.y)
    panes = _laid_out(state, head, _shown(app, state, head, stack), corner, size)
    left, right = imgui.ButtonFlags_.mouse_button_left, imgui.ButtonFlags_.mouse_button_right
    imgui.invisible_button("##planes", size, left | right)
    moved = _mouse(app, state, head, panes)
    if moved != state:
        state, head = moved, head.at(moved)
        panes = _laid_out(state, head, _shown(app, state, head, stack), corner, size)
    widest = next(pane.part for pane in panes if pane.plane == head.geometry.plane)
    for pane in panes:
        picture_view.draw_pane(app, f"plane {pane.name}", pane, widest=widest)
        _cross(pane, head)
        _mark(app, pane, head, stack)
    app.screen.keep({f"plane {pane.name}" for pane in panes}, "plane ")
    learnt = next(pane for pane in panes if pane.plane == head.geometry.plane)
    picture_view.marks(app, state, learnt.view)
    _told(panes, head)
    return slice_bar.draw(app, state, ImVec2(corner.x + size.x, corner.y), size.y)


@dataclass(frozen=True)
class Plane(Pane):
    """A pane with its plane, and the number of its picture: 0, or 1 for a pin beside it."""

    plane: str = ""
    number: int = 0

    @property
    def name(self) -> str:
        """Tells it from the others."""
        return f"{self.plane} {self.number}"


def _shown(app: Context, state: AppState, head: Head, stack: Stack | None) -> dict[str, tuple[Part, ...]]:
    """What is looked at in each plane: one picture, or with a pin beside it two."""
    app.client.show(state.request)
    frame = app.client.shown
    assert frame is not None
    pin, pinned, beside = _pin(state), None, None
    if pin is not None:
        pinned = stack_of(head.of_request(pin), head.position, head.places, app.client.frame)
        there = app.client.frame(head.at_cross(pin))
        beside = _learnt(head, there, state.pin.label if state.pin else "") if there else None
    out = {head.geometry.plane: parts(state.display, _learnt(head, frame), beside)[0]}
    for plane in ORDER:
        if plane == head.geometry.plane or stack is None:
            continue
        current = _part(app, head, stack, plane, which="now")
        second = _part(app, head, pinned, plane, which="pin") if pinned else None
        if second is not None and state.pin is not None:
            second = replace(second, label=state.pin.label)
        out[plane] = parts(state.display, current, second)[0]
    return out


def _learnt(head: Head, frame: Frame, label: str = "") -> Part:
    """The plane that was learnt: a picture as it was rendered."""
    return Part(frame.request, brightness(frame.image), head.geometry, label)


def _part(app: Context, head: Head, stack: Stack, plane: str, which: str) -> Part:
    """A plane across a stack."""
    pixels, at = spread(head.places, head.geometry), head.cross[AXES[plane][0]]
    settings = (stack.places, plane, round(at / head.geometry.pixel_mm * 8))
    image = app.maps.computed(
        f"{which} {plane}",
        list(stack.images),
        settings,
        lambda: across(stack, pixels, head.geometry, plane, at_mm=at),
    )
    return Part(stack.head, brightness(image), geometry_across(pixels, head.geometry, plane))


def _laid_out(
    state: AppState, head: Head, shown: dict[str, tuple[Part, ...]], corner: ImVec2, size: ImVec2
) -> list[Plane]:
    """The planes at one scale, as large as they can be: in a row, or two by two; a pin beside in a second
    row."""
    planes = [plane for plane in ORDER if plane in shown]
    pictures = max(len(found) for found in shown.values())
    sizes = {plane: shown[plane][0].image.shape[:2] for plane in planes}
    across_, down = (max(sizes[p][i] for p in planes) for i in (1, 0))
    grids = [(len(planes), pictures)] + ([(2, 2)] if pictures == 1 and len(planes) > 2 else [])
    gap = em(_GAP)

    def cell(grid: tuple[int, int]) -> tuple[float, float]:
        return (size.x - gap * (grid[0] - 1)) / grid[0], (size.y - gap * (grid[1] - 1)) / grid[1]

    def fit(grid: tuple[int, int]) -> float:
        wide, high = cell(grid)
        return max(1e-3, min(wide / across_, high / down))

    grid = max(grids, key=fit)
    (wide, high), zoom = cell(grid), state.display.zoom or fit(grid)
    out = []
    for number in range(pictures):
        for i, plane in enumerate(planes):
            found = shown[plane]
            if number >= len(found):
                continue
            column, row = (i, number) if pictures > 1 else (i % grid[0], i // grid[0])
            x, y = corner.x + column * (wide + gap), corner.y + row * (high + gap)
            out.append(_pane(state, head, plane, number, found[number], (x, y, wide, high), zoom))
    return out


def _pane(
    state: AppState,
    head: Head,
    plane: str,
    number: int,
    part: Part,
    box: tuple[float, float, float, float],
    zoom: float,
) -> Plane:
    """A plane in its box; where it is enlarged the crosshair stands in the middle."""
    rows, columns = part.image.shape[:2]
    turned = geometry.mirrored(part.geometry, state.display.neurological)
    column, row = _pixel(head, part, plane)
    centre = (column / columns, row / rows) if state.display.zoom else (0.5, 0.5)
    display = replace(state.display, zoom=zoom, center=centre)
    return Plane(part, View(*box, columns, rows, display, turned), plane, number)


def _pixel(head: Head, part: Part, plane: str) -> tuple[float, float]:
    """Where the crosshair stands on a plane's picture: column and row."""
    assert isinstance(part.geometry, Geometry)
    _, side, up = AXES[plane]
    rows, columns = part.image.shape[:2]
    off = (head.cross[side] - part.geometry.centre_mm[0]) / part.geometry.pixel_mm
    column = columns / 2 + (-off if part.geometry.mirrored else off)
    return column, rows / 2 - (head.cross[up] - part.geometry.centre_mm[1]) / part.geometry.pixel_mm


def _cross(pane: Plane, head: Head) -> None:
    """The crosshair: four thin lines that leave its place free."""
    view, drawn, free = pane.view, imgui.get_window_draw_list(), em(0.7)
    x, y = view.to_screen(*_pixel(head, pane.part, pane.plane))
    low, high = ImVec2(view.x, view.y), ImVec2(view.x + view.width, view.y + view.height)
    drawn.push_clip_rect(low, high, True)
    lines = [((x, low.y), (x, y - free)), ((x, y + free), (x, high.y))]
    lines += [((low.x, y), (x - free, y)), ((x + free, y), (high.x, y))]
    for colour, thick in ((u32((0, 0, 0), 0.5), 3.0), (u32(theme.ACCENT, 0.9), 1.0)):
        for first, last in lines:
            drawn.add_line(ImVec2(*first), ImVec2(*last), colour, thick)
    drawn.pop_clip_rect()


def _mark(app: Context, pane: Plane, head: Head, stack: Stack | None) -> None:
    """Which plane it is and where it cuts; a stack that is not the one asked for, or not whole, says so."""
    view, axis = pane.view, AXES[pane.plane][0]
    place = f"{_AXIS_NAMES[axis]} {head.cross[axis]:+.1f} mm"

    def beside_letter(text: str) -> bool:
        return imgui.calc_text_size(text).x + em(2) <= view.width / 2

    text = full if beside_letter(full := f"{pane.plane}  {place}") else place
    up = em(1.6 if beside_letter(text) else 3.1)
    widgets.chip(text, view.x + view.width - em(0.4), view.y + view.height - up, align=1.0)
    if pane.plane == head.geometry.plane or pane.number or stack is None:
        return
    if stack.head != head.of_request(app.state.request):
        widgets.chip("following", view.x + view.width - em(0.4), view.y + em(0.4), align=1.0)
    elif len(stack.places) < len(head.places):
        told = f"{len(stack.places)} of {len(head.places)} slices"
        widgets.chip(told, view.x + view.width - em(0.4), view.y + em(0.4), align=1.0)


def _told(panes: list[Plane], head: Head) -> None:
    """Millimetres and grey level at the crosshair in the fourth quarter where that is free, else the grey
    level on the first plane."""
    first = panes[0]
    column, row = _pixel(head, first.part, first.plane)
    lines = "   ".join(f"{name} {mm:+.1f}" for name, mm in zip(_AXIS_NAMES, head.cross)) + " mm"
    inside = first.view.inside(column, row)
    level = f"grey level {levels_at(first.part, int(column), int(row))}" if inside else ""
    two_by_two = len(panes) == 3 and panes[2].view.y > first.view.y
    box, down = (panes[1].view, panes[2].view.y) if two_by_two else (first.view, first.view.y + em(1.5))
    # where the fourth quarter is taken, each plane says its own millimetres
    told = "\n".join(text for text in (lines * two_by_two, level) if text)
    if not told:
        return
    widgets.chip(told, box.x + em(0.5), down + em(0.5), within=max(em(6), box.width - em(1)))


def _mouse(app: Context, state: AppState, head: Head, panes: list[Plane]) -> AppState:
    """What the mouse does on the planes, the last item drawn."""
    io, hovered, active = imgui.get_io(), imgui.is_item_hovered(), imgui.is_item_active()
    over = next((p for p in panes if p.view.holds(io.mouse_pos.x, io.mouse_pos.y)), None)
    if imgui.is_item_activated():
        app.interface.dragged_plane = over.name if over else ""
    if hovered and over is not None and io.mouse_wheel:
        if (app.interface.wheel == "slices") == io.key_ctrl:
            low, high = ZOOM_RANGE
            zoom = min(high, max(low, over.view.zoom * 1.2**io.mouse_wheel))
            return replace(state, display=replace(state.display, zoom=zoom))
        return _scrolled(app, state, head, over.plane, steps=slice_bar.steps(io.mouse_wheel))
    if hovered and imgui.is_mouse_double_clicked(0):
        return replace(state, display=replace(state.display, zoom=0.0, center=(0.5, 0.5)))
    held = next((p for p in panes if p.name == app.interface.dragged_plane), None)
    if not active or held is None:
        return state
    move, tool = io.mouse_delta, app.interface.tool
    if imgui.is_mouse_down(1) or tool == "window":
        if not (move.x or move.y):
            return state
        width = app.change_width(held.part)
        return replace(state, display=picture_view.windowed(state.display, move.x, move.y, width))
    if tool == "latent":
        speed = SEEDS_PER_EM / em() * (0.1 if io.key_shift else 1)
        return replace(state, request=drag_latent(state.request, move.x * speed, move.y * speed))
    return _moved(app, state, head, held, mouse=io.mouse_pos)


def _scrolled(app: Context, state: AppState, head: Head, plane: str, steps: int) -> AppState:
    """The state with the crosshair so many slices, or pixels, further along a plane's axis."""
    axis = AXES[plane][0]
    if plane == head.geometry.plane:
        return slice_bar.scrolled(app, state, steps)
    return _placed(app, state, head, {axis: head.cross[axis] + steps * head.geometry.pixel_mm})


def _moved(app: Context, state: AppState, head: Head, pane: Plane, mouse: ImVec2) -> AppState:
    """The state with the crosshair under the mouse."""
    stated, view = pane.part.geometry, pane.view
    assert isinstance(stated, Geometry)
    column, row = view.to_image(mouse.x, mouse.y)
    column, row = min(max(column, 0.0), view.columns), min(max(row, 0.0), view.rows)
    side, up = geometry.millimetres(stated, column, row, view.columns, rows=view.rows)
    return _placed(app, state, head, dict(zip(AXES[pane.plane][1:], (side, up))))


def _placed(app: Context, state: AppState, head: Head, changes: dict[int, float]) -> AppState:
    """The state with the crosshair at other millimetres, axis -> place; along the stack at a slice."""
    normal, side, up = AXES[head.geometry.plane]
    distribution = app.document.distribution
    assert distribution is not None
    if normal in changes:
        place = distribution.nearest_place(changes[normal])
        state = set_values(state, **{head.position: place})
    half = distribution.study.resolution * head.geometry.pixel_mm / 2

    def offset(axis: int, centre: float) -> float:
        return min(max(changes.get(axis, head.cross[axis]) - centre, -half), half)

    first, second = head.geometry.centre_mm
    return replace(state, cross=(offset(side, first), offset(up, second)))
