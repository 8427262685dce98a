"""The pictures of a report: asked and read, strata, side effects, nearest real images, grids, curves."""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Iterable
from itertools import combinations

from mssg.plotting.obedience import drawn_of
from mssg.report import figures
from mssg.report.contents import ReportContents
from mssg.report.elements import Block, FigureBlock, Heading, Notes, Text
from mssg.runs.rows import instruments, worth
from mssg.text import duration


def asked_and_read(contents: ReportContents) -> Iterable[Block]:
    """What was asked of each covariate, and what instruments read off the pictures."""
    e, label = contents.evaluation, contents.label
    if e is None or not contents.results("control/"):
        return
    yield Heading("Asked and read")
    if not drawn_of(e, label):
        yield Text("This evaluation does not hold what was read by what was asked: make it again.")
        return
    yield FigureBlock(
        lambda: figures.obedience(contents),
        "Each covariate: what was asked (across) and what the instrument reads off the pictures (up). Dashed:"
        " both are equal. Points: means with their 95 % interval; band: nine in ten pictures. Of levels: the"
        " share read as asked; dotted: guessing. Grey: the instrument reads real images no better than a"
        " constant guess, so the panel says nothing about the generator.",
    )


def strata(contents: ReportContents) -> Iterable[Block]:
    """Heat maps: how well each stratum of similar people is drawn."""
    e = contents.evaluation
    if e is None or not contents.results("strata/"):
        return
    yield Heading("Within groups of similar people")
    found = list(figures.heatmaps(e))
    if not found:
        yield Text(
            "No heat map: it shows strata of up to three covariates that are read better than by a guess."
            " `mssg evaluate --metrics strata --by NAME,NAME,NAME` forms such."
        )
        return
    yield Text(
        "Real images are cut into strata of their covariates; in each, pictures are drawn for its real"
        " images'"
        " covariates and read. The last column is the instrument on the real images themselves: no model"
        " can be"
        " expected below it."
    )
    for draw, caption in found:
        yield FigureBlock(draw, caption)


def side_effects(contents: ReportContents) -> Iterable[Block]:
    """What else moves when one covariate is moved."""
    e = contents.evaluation
    leaks = contents.results("leakage")
    if e is None or not leaks:
        return
    yield Heading("What else moves")
    panels = {(r.model, r.source) for r in e.results if r.metric == "leakage"}
    doubt = " A question mark: read no better than guessing." if any(r.doubtful for r in leaks) else ""
    yield FigureBlock(
        lambda: figures.leakage(e),
        "One covariate moved by one standard deviation (row): shift of each reading (column), in its standard"
        f" deviations. Off the diagonal, 0 is perfect. {max(r.n for r in leaks)} pictures.{doubt}",
        width=min(1.0, 0.3 + 0.3 * len(panels)),
    )


def nearest(contents: ReportContents) -> Iterable[Block]:
    """Generated pictures beside the nearest training images."""
    if not contents.galleries:
        return
    yield Heading("Generated beside the nearest real images")
    for space, pairs in contents.galleries.items():
        yield FigureBlock(
            lambda p=pairs: figures.pairs(p),
            f"{space}: generated above, nearest training image below, with the distance over that to the"
            f" nearest"
            " real image that was not trained on. Well below 1 is suspect.",
        )


def grids(contents: ReportContents) -> Iterable[Block]:
    """Grids of two covariates, one seed."""
    yield Heading("What it draws")
    study = contents.renderer.study
    sides = [c for c in study.personal if c.is_continuous][:3]
    if len(sides) < 2:
        sides = list(study.personal)[:2]
    classes = [c for c in study.covariates if not c.is_ordered][:1]
    for down, across in [
        *list(combinations(sides, 2))[:2],
        *((sides[0], c) for c in classes if c not in sides),
    ]:
        yield FigureBlock(
            lambda a=down.name, b=across.name: figures.grid(contents.renderer, a, b),
            f"{down.name} by {across.name}, one seed; all other covariates at the training median or most"
            " frequent level.",
            width=0.6,
        )


def counterfactuals(contents: ReportContents) -> Iterable[Block]:
    """Real images with their covariates changed."""
    if contents.latents:
        yield Heading("Counterfactuals of real images")
    for path in contents.latents:
        yield FigureBlock(
            lambda p=path: figures.counterfactuals(contents.renderer, p),
            "A real image's counterfactuals. Framed pictures ask for covariates outside what the training"
            " data"
            " support.",
        )


def training(contents: ReportContents) -> Iterable[Block]:
    """How training went, from the run's statistics."""
    yield Heading("Training")
    if not contents.stats:
        yield Text(
            "The training statistics are not at hand: the report was made from a snapshot alone, not from its"
            " run."
        )
        return
    last = contents.stats[-1]
    took = duration(float(last.get("elapsed_sec", 0)))
    yield Text(f"{last.get('kimg', 0):g} thousand images in {took}.")
    if figures.training(contents.stats) is not None:
        yield FigureBlock(
            lambda: figures.training(contents.stats),
            "Over training: what was measured, the discriminator's scores, losses.",
        )
        known = dict(ChainMap(*(instruments(row) for row in reversed(contents.stats))))
        yield Notes(tuple(f"{start.split('/')[-2]}: {worth(start, known)}" for start in known))
