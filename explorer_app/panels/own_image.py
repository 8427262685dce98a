"""Your image: a picture or scan of the user's beside the generated one. Where it is cut, what instruments
read on it, and the way into the model."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from imgui_bundle import ImVec2, imgui
from imgui_bundle import icons_fontawesome_6 as icons

from explorer_app import theme, widgets
from explorer_app.context import Context
from explorer_app.distribution import TrainingDistribution
from explorer_app.guest import STEPS, SUFFIXES
from explorer_app.interface import Dialog
from explorer_app.panels.browser import browse
from explorer_app.real_image import RealImage
from explorer_app.state import AppState, set_values
from explorer_app.theme import em
from mssg.measure.instruments import instrument
from mssg.measure.own_error import OwnError
from mssg.rendering.request import StoredLatent
from mssg.study.covariate import Covariate

if TYPE_CHECKING:
    from explorer_app.opened_image import OpenedImage

_EMPTY = (
    "Open a NIfTI, mgz, PNG, JPEG or NumPy file of yours, drop it onto the window, or paste it (Ctrl-V). It"
    " is cut as this model's pictures are and stands beside them."
)


def draw(app: Context, state: AppState) -> AppState:
    """Draw the panel."""
    distribution = app.document.distribution
    if distribution is None:
        widgets.empty_note("No snapshot", "Open one; then open an image of yours beside its pictures.")
        return state
    image = app.guest.image(state)
    if imgui.begin_child("image settings", ImVec2(em(14.5), 0)):
        state = _file(app, state, image)
    imgui.end_child()
    imgui.same_line()
    if imgui.begin_child("image readings", ImVec2(0, 0)):
        if image is None:
            widgets.empty_note("No image of yours", _EMPTY)
        else:
            state = _image(app, state, distribution, image)
    imgui.end_child()
    return state


def _file(app: Context, state: AppState, image: RealImage | None) -> AppState:
    """Which file, and where a scan is cut."""
    if imgui.button(f"{icons.ICON_FA_FOLDER_OPEN}  open…##image", ImVec2(em(6.6), 0)):
        app.interface.dialogs.add(Dialog.IMAGE)
    widgets.tooltip(_EMPTY)
    imgui.same_line(0, em(0.3))
    if imgui.button(f"{icons.ICON_FA_PASTE}  paste##image", ImVec2(-1, 0)):
        app.guest.paste(imgui.get_clipboard_text())
    widgets.tooltip("A picture on the clipboard, or the path of one (Ctrl-V).")
    if app.guest.reading:
        widgets.text(f"reading {app.guest.reading} …", theme.DIM)
    if image is None:
        return state
    widgets.wrapped(f"{image.name}{f', {image.about}' if image.about else ''}", theme.TEXT)
    widgets.text(f"a {image.kind} image", theme.DIM)
    opened = app.guest.scan_of(image)
    return state if opened is None else _slice(app, state, opened, image)


def _slice(app: Context, state: AppState, opened: OpenedImage, image: RealImage) -> AppState:
    """The picker of the slice, and what is laid over the middle of the study's."""
    guest, scan = app.guest, opened.scan
    assert scan is not None
    at, before = guest.cuts.get(image.digest, (scan.default_mm, scan.anchors[0]))
    usual = "lies where the study's images lie, registered to the same template"
    usual = (
        usual
        if scan.anchors[0].startswith("study")
        else "is laid with its middle over that of the study's slice"
    )
    tips = (
        f"The scan {usual}.",
        "The middle of its brain is laid over the middle of the study's slice: for a scan that is registered"
        " nowhere.",
    )
    anchor = widgets.segmented("anchor", scan.anchors, before, tips)
    position = scan.study.position
    if position is not None:
        mm = at
        widgets.wrapped("Cut where the picture lies: scroll there.")
    else:
        low, high = scan.limits(anchor)
        imgui.set_next_item_width(-1)
        mm = widgets.float_slider("##slice of the image", at, low, high, form="slice at %.1f mm")
        if widgets.double_clicked():
            mm = scan.default_mm
        widgets.tooltip(
            "Where the scan is cut, in the study's millimetres. Double-click: where the study's is."
        )
    return guest.cut(state, mm, anchor) if (mm, anchor) != (at, before) else state


@dataclass(frozen=True)
class KnownValue:
    """What is known of a covariate of the user's image.

    Attributes:
        value: Native units.
        by: Who says so.
    """

    value: float
    by: str
    own: OwnError | None = None

    @property
    def doubtful(self) -> bool:
        """True where the instrument reads it no better than a guess."""
        return self.own is not None and self.own.better is False


def readings(app: Context, image: RealImage) -> dict[str, KnownValue] | None:
    """What is recorded of an image, else read off it by the oracle, else by the predictor; None while it is
    being read."""
    app.client.request([image], measured=True)
    frame = app.client.frame(image)
    found = {name: KnownValue(value, "recorded") for name, value in image.covariates}
    if frame is None or frame.measured is None:
        return found or None
    for name, values in frame.measured.items():
        errors = app.errors_of(name)
        for covariate, value in values.items():
            if math.isfinite(value) and covariate not in found:
                found[covariate] = KnownValue(value, app.called(name), errors.get(covariate))
    return found


def _image(app: Context, state: AppState, distribution: TrainingDistribution, image: RealImage) -> AppState:
    known = readings(app, image)
    problem = app.why_not(image)
    if problem:
        widgets.wrapped(problem, theme.RED)
    elif known is None:
        widgets.text("measuring …", theme.DIM)
    known = {n: r for n, r in (known or {}).items() if n in distribution.study.condition_names}
    if known:
        _table(state, distribution, known)
    elif not problem and app.client.frame(image) is not None:
        widgets.wrapped("Nothing reads this image: the study names no oracle. A predictor (Measured) can.")
    usable = {n: r.value for n, r in known.items() if not r.doubtful}
    imgui.begin_disabled(not usable)
    if imgui.button(f"{icons.ICON_FA_USER_CHECK}  match this person##image", ImVec2(em(11.5), 0)):
        state = _matched(app, state, distribution, usable)
    imgui.end_disabled()
    words = (
        ", ".join(distribution.study.covariate(n).title for n in usable) or "nothing: no instrument reads it"
    )
    widgets.tooltip(f"Set the sliders to what is recorded of this image or read off it: {words}.")
    imgui.same_line()
    if imgui.get_content_region_avail().x < em(13.5):
        imgui.new_line()
    state = _inversion(app, state, image)
    oracle = distribution.study.instrument
    if any(r.by == f"{oracle} oracle" for r in known.values()):
        about = instrument(oracle).ABOUT
        widgets.wrapped(
            f"± is the {oracle} oracle's own error, on images that are not yours. {about}", theme.FAINT
        )
    return state


def _table(state: AppState, distribution: TrainingDistribution, known: dict[str, KnownValue]) -> None:
    flags = imgui.TableFlags_.sizing_stretch_prop | imgui.TableFlags_.no_pad_outer_x
    if not imgui.begin_table("image readings", 4, flags):
        return
    for title, weight in (("", 0.9), ("your image", 1.7), ("by", 1.2), ("sliders", 0.8)):
        imgui.table_setup_column(title, 0, weight)
    imgui.table_next_row()
    for title in ("", "your image", "by", "sliders"):
        imgui.table_next_column()
        widgets.text(title, theme.FAINT)
    for covariate in distribution.study.conditions:
        if covariate.name in known:
            _row(covariate, known[covariate.name], state.value(covariate.name))
    imgui.end_table()


def _row(covariate: Covariate, reading: KnownValue, asked: float) -> None:
    own, doubt = reading.own, reading.doubtful
    margin = f" {own.margin}" if own and own.margin else ""
    imgui.table_next_row()
    cells = (
        covariate.title + (" ?" if doubt else ""),
        f"{covariate.format(reading.value, unit=False)}{margin} {covariate.unit}",
        reading.by,
        covariate.format(asked, unit=False),
    )
    on = "" if own is None else own.on if own.on == "phantoms" else "real images"
    error = f" Its own error on {on}: {own.words()}; {own.verdict}." if own is not None else ""
    for i, text in enumerate(cells):
        imgui.table_next_column()
        widgets.text(text, theme.AMBER if doubt and i < 2 else theme.DIM if i == 2 else theme.TEXT)
        unit = f" in {covariate.unit}" if covariate.unit else ""
        widgets.tooltip(f"{covariate.title}{unit}, {reading.by}.{error}")


def _matched(
    app: Context, state: AppState, distribution: TrainingDistribution, values: dict[str, float]
) -> AppState:
    """The sliders at an image's values, within what the study can mean."""
    study, wanted = distribution.study, dict(values)
    for name, value in values.items():
        covariate = study.covariate(name)
        if covariate.is_continuous:
            low, high = distribution.limits(name)
            wanted[name] = min(max(value, low), high)
        else:
            wanted[name] = float(min(max(round(value), 0), covariate.num_levels - 1))
    cut = [
        study.covariate(n).title
        for n, v in wanted.items()
        if v != values[n] and study.covariate(n).is_continuous
    ]
    if cut:
        app.interface.note(f"{', '.join(cut)}: set as near as the study can mean", bad=True)
    return set_values(state, **wanted)


def _inversion(app: Context, state: AppState, image: RealImage) -> AppState:
    """Into the model: begin, watch, cancel, keep."""
    job = app.guest.job
    if job is not None and job.running:
        share, total = job.step / job.task.steps, job.task.steps
        text = f"step {job.step} of {total}" if job.step else "loading the model"
        imgui.progress_bar(share, ImVec2(em(12), 0), text)
        imgui.same_line(0, em(0.3))
        if widgets.icon_button(icons.ICON_FA_XMARK, "cancel inversion", "Cancel the inversion."):
            app.guest.cancel()
        return state
    _begin(app, state, image)
    latent = state.request.latent
    return state if latent is None else _inverted(app, state, latent)


def _begin(app: Context, state: AppState, image: RealImage) -> None:
    """What starts an inversion, and how long it may take."""
    guest = app.guest
    fits = image.snapshot == state.snapshot
    imgui.begin_disabled(not fits)
    if imgui.button(f"{icons.ICON_FA_WAND_MAGIC_SPARKLES}  invert##image", ImVec2(em(6.5), 0)):
        guest.invert(image, state.request.covariates, app.model.device if app.model else "auto")
    imgui.end_disabled()
    widgets.tooltip(
        "Find the latent that draws this image with the covariates as the sliders stand. The sliders then"
        " edit it. In a process of its own; pictures go on meanwhile."
        if fits
        else "It was cut for another model: open it again for this one."
    )
    imgui.same_line(0, em(0.3))
    labels = [f"{n} steps" for n in STEPS]
    chosen = widgets.combo("##inversion steps", labels, f"{guest.steps} steps", width=em(6.5))
    guest.steps = STEPS[labels.index(chosen)]
    widgets.tooltip("Steps of the search: more come closer, and take longer.")


def _inverted(app: Context, state: AppState, latent: StoredLatent) -> AppState:
    """What was found: how close it comes, keep it, leave it."""
    guest = app.guest
    error = guest.errors.get(latent.digest)
    close = f", {error:.1f} grey levels (rms) from it at its own values" if error is not None else ""
    widgets.wrapped(f"The picture is drawn after your image{close}. The sliders edit it.", theme.TEXT)
    if imgui.button(f"{icons.ICON_FA_FLOPPY_DISK}  save the latent…##image"):
        app.interface.dialogs.add(Dialog.LATENT)
    widgets.tooltip(
        "As `mssg invert` writes it, for `mssg generate --w` and copied commands. The file holds your image."
        + (
            ""
            if guest.is_kept(latent.file)
            else " Until then it lasts as long as this window, or its session."
        )
    )
    imgui.same_line(0, em(0.3))
    if imgui.button(f"{icons.ICON_FA_ROTATE_LEFT}  leave it##image"):
        state = replace(state, request=replace(state.request, latent=None))
    widgets.tooltip("Back to the seed; undo brings your image back.")
    return state


def choose(app: Context, state: AppState) -> AppState:
    """The dialog that opens an image."""
    widgets.text(
        "A scan or slice (NIfTI, mgz), or a picture (PNG, JPEG, NumPy) of the study's size.", theme.DIM
    )
    chosen = browse(app, Dialog.IMAGE, SUFFIXES)
    if chosen:
        app.interface.dialogs.discard(Dialog.IMAGE)
        app.guest.open(chosen)
    return state


def keep(app: Context, state: AppState) -> AppState:
    """The dialog that saves the latent of the current picture."""
    latent = state.request.latent
    if latent is None:
        widgets.wrapped("The picture is not drawn after an image.")
        return state
    propose = "" if Dialog.LATENT in app.interface.paths else "image.safetensors"
    chosen = browse(app, Dialog.LATENT, (".safetensors",), write=True, propose=propose)
    if chosen:
        app.interface.dialogs.discard(Dialog.LATENT)
        kept: list[AppState] = []
        app.told(lambda: kept.append(app.guest.keep(state, chosen)))
        state = kept[0] if kept else state
    return state
