"""Charts of an evaluation: what they show, and what they refuse."""

from __future__ import annotations

import itertools

import pytest
from click.testing import CliRunner

from mssg.errors import UsageError
from mssg.metrics.results import REAL, Evaluation, ModelRecord, Result
from mssg.plotting import evaluation as charts
from mssg.plotting.chart_style import save
from mssg.plotting.strata_heatmap import heatmap
from mssg.report.figures import heatmaps
from trainer_cli.main import cli

AGES, VOLUMES, TEXTS = ([40.0, 55.0], [55.0, 70.0]), ([10.0, 20.0], [20.0, 30.0]), ("no", "yes")


def results():
    for label, offset in (("A only", 5.0), ("both", 1.0), (REAL, 0.5)):
        for (i, age), (j, volume), (k, text) in itertools.product(
            *(enumerate(x) for x in (AGES, VOLUMES, TEXTS))
        ):
            if (i, j, k) != (1, 1, 1):  # a stratum without images
                stratum = {"age": age, "volume": volume, "cataract": text}
                reference = "label" if label == REAL else "requested"
                yield Result(
                    "strata/mae",
                    offset + i + 2 * j + 4 * k,
                    label,
                    20,
                    9,
                    (0.0, 9.0),
                    stratum=stratum,
                    covariate="volume",
                    unit="ml",
                    reference=reference,
                )
                if label != REAL:
                    yield Result(
                        "strata_kid-x",
                        0.1 * offset,
                        label,
                        20,
                        9,
                        features="x",
                        stratum=stratum,
                        real_floor=0.01,
                    )
        if label != REAL:
            yield Result(
                "strata/mae",
                offset,
                label,
                140,
                63,
                covariate="volume",
                unit="ml",
                reference="requested",
                real_floor=0.5,
            )
            for moved, read in itertools.product(("age", "volume"), repeat=2):
                yield Result(
                    "leakage", float(moved == read), label, 20, covariate=read, moved=moved, unit="sd"
                )
            yield Result("kid-x", offset, label, 20, 9, sd=0.1, features="x", real_floor=0.01)


MODELS = (ModelRecord("A only", "aa", "s", 10.0), ModelRecord("both", "bb", "s", 20.0))
FOUND = Evaluation("s", "test", 0, MODELS, tuple(results()), command="mssg evaluate …")


def texts(figure) -> list[str]:
    return [t.get_text() for axis in figure.axes for t in axis.texts]


def test_heatmap_prints_every_value_in_its_place():
    figure = heatmap(FOUND, covariate="volume")
    panels = [a for a in figure.axes if a.images]
    assert len(panels) == 2 * 3  # strata of age by models and real
    assert [a.get_title() for a in panels[:3]] == ["A only\nmean 5.00", "both\nmean 1.00", "real\nmean –"]
    first, last = panels[0], panels[-1]
    assert [t.get_text() for t in first.texts] == [
        "5.00",
        "9.00",
        "7.00",
        "11.0",
    ]  # rows: volume; columns: cataract
    assert [t.get_text() for t in last.texts] == ["1.50", "5.50", "3.50", "–"]
    assert len({(a.images[0].norm.vmin, a.images[0].norm.vmax) for a in panels}) == 1
    swapped = heatmap(FOUND, covariate="volume", axes=("age", "volume", "cataract"))
    assert [t.get_text() for t in next(a for a in swapped.axes if a.images).texts] == [
        "5.00",
        "6.00",
        "7.00",
        "8.00",
    ]


def test_distances_show_their_floor_as_real():
    figure = heatmap(FOUND, "strata_kid-")
    panels = [a for a in figure.axes if a.images]
    assert panels[2].get_title().startswith("real (floor)") and panels[2].texts[0].get_text() == "0.010"


def within_sources():
    """Strata formed within each of two sources: sex has levels, volume is a number."""
    for source, text in itertools.product(("A", "B"), TEXTS):
        about = {"stratum": {"cataract": text}, "source": source, "reference": "requested"}
        yield Result("strata/mae", 1.0, "both", 20, 9, covariate="volume", unit="ml", **about)
        yield Result("strata/accuracy", 0.75, "both", 20, 9, covariate="sex", **about)
        yield Result("strata/mae", 0.25, "both", 20, 9, covariate="sex", **about)


def test_strata_within_sources_are_drawn_a_source_at_a_time():
    """By hand with --source, and in a report one figure a source and covariate."""
    found = Evaluation("s", "test", 0, MODELS[1:], tuple(within_sources()))
    with pytest.raises(UsageError, match=r"--source.*A \| B"):
        heatmap(found, covariate="volume")
    figure = heatmap(found, covariate="sex", source="B")
    assert texts(figure)[:2] == ["0.75", "0.75"]  # accuracy, not an error of codes
    title = figure.texts[0]
    assert "accuracy of sex, against the value requested, source B" in title.get_text().replace("\n", " ")
    assert title.get_window_extent().x1 < figure.bbox.x1  # a long title is broken, not cut
    drawn = [(draw().texts[0].get_text().replace("\n", " "), caption) for draw, caption in heatmaps(found)]
    assert len(drawn) == 6 and all(f"source {caption.split('of source ')[1][0]}" in t for t, caption in drawn)


def test_leakage_and_curves():
    assert texts(charts.leakage(FOUND)).count("1.00") == 4
    lines = charts.lines_of_evaluation(FOUND)
    assert lines["KID (x)"]["kimg"] == [10, 20] and lines["KID (x)"]["low"] == pytest.approx([4.9, 0.9])
    assert len(charts.curves(lines, ["kid"]).axes) == 1
    rows = [{"kimg": k, "loss/G": 1 / (k + 1), "metric/control/age/r": k / 9} for k in range(9)]
    assert set(charts.lines_of_run(rows)) == {"loss/G", "metric/control/age/r"}
    for row in rows:
        row["metric/control/age/instrument"] = {
            "name": "x",
            "words": "r 0.1",
            "doubt": "no better than guessing",
        }
    assert set(charts.lines_of_run(rows)) == {"loss/G", "metric/control/age/r (no better than guessing)"}


def test_what_is_not_there_is_said():
    for call, message in (
        (lambda: heatmap(FOUND, "strata/f1"), "strata/mae"),
        (lambda: heatmap(FOUND, covariate="volume", axes=("sex",)), "forms no strata"),
        (lambda: charts.leakage(Evaluation("s", "test", 0, (), ())), "--metrics leakage"),
        (lambda: charts.curves({}), "--all-snapshots"),
    ):
        with pytest.raises(UsageError, match=message):
            call()


@pytest.mark.slow
def test_files_are_written_and_repeat_byte_for_byte(tmp_path):
    path = FOUND.save(tmp_path / "eval.json")
    run = CliRunner()
    for words, suffix in (
        (["heatmap", "--covariate", "volume"], ".pdf"),
        (["leakage"], ".png"),
        (["curves", "--metric", "KID"], ".png"),
    ):
        out = tmp_path / f"{words[0]}{suffix}"
        done = run.invoke(cli, ["figure", words[0], str(path), *words[1:], "-o", str(out)])
        assert done.exit_code == 0, done.output
        if suffix == ".pdf":
            save(heatmap(FOUND, covariate="volume"), tmp_path / "again.pdf", FOUND)
            assert out.read_bytes() == (tmp_path / "again.pdf").read_bytes()
    for suffix, part in ((".csv", "metric,covariate"), (".tex", r"\toprule"), (".txt", "KID (x)")):
        done = run.invoke(cli, ["figure", "table", str(path), "-o", str(tmp_path / f"t{suffix}")])
        assert done.exit_code == 0 and part in (tmp_path / f"t{suffix}").read_text(), done.output
    done = run.invoke(
        cli, ["figure", "table", str(path), "--strata", "strata/mae", "-o", str(tmp_path / "s.csv")]
    )
    assert done.exit_code == 0 and (tmp_path / "s.csv").read_text().count("\n") == 9
