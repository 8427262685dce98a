"""Reports: everything measured is there, nothing is fetched, nothing is cut off."""

from __future__ import annotations

import csv
import json
import re
from dataclasses import replace

import numpy as np
import pytest
from click.testing import CliRunner

from mssg.metrics.results import Evaluation, ModelRecord, Note, Result
from mssg.metrics.tables import numbers
from mssg.report.contents import ReportContents
from mssg.report.elements import (
    Answer,
    Code,
    FigureBlock,
    Heading,
    NewPage,
    Notes,
    TableBlock,
    Text,
    Verdict,
    table,
)
from mssg.report.html import smaller, to_html
from mssg.report.pdf import to_pdf
from mssg.report.sections import build
from trainer_cli.main import cli

OWN = {
    "mae": 1.0,
    "guess_mae": 4.0,
    "r": 0.95,
    "slope": 0.5,
    "n": 60,
    "people": 60,
    "unit": "px",
    "better": True,
}
READINGS = [
    {"requested": x, "measured": x + 0.1, "ci95": [x, x + 0.2], "low": x - 1, "high": x + 1, "n": 20}
    for x in (1.0, 2.0, 3.0)
]


def _beside(r: Result) -> Result:
    """With an oracle that is worth something on real images."""
    if r.covariate is None or r.metric.startswith("utility"):
        return r
    return replace(r, instrument="oracle-digits", detail={**r.detail, "own": OWN})


def _of_a_blind_instrument(label: str) -> list[Result]:
    """What a predictor that sees nothing read: splendid numbers that mean nothing."""
    own = {"mae": 5.0, "guess_mae": 4.0, "r": 0.05, "n": 30, "people": 30, "on": "test", "better": False}
    parts = {"covariate": "slant", "design": "b", "instrument": "predictor-ridge@12345678"}
    detail = {"own": own, "readings": READINGS}
    return [
        Result(f"control/{stat}", 0.987, label, 1000, ci95=(0.98, 0.99), detail=detail, **parts)
        for stat in ("r", "partial_r", "slope")
    ]


@pytest.fixture(scope="module")
def evaluation(tiny_renderer):
    """A small evaluation with every kind of number that a report knows."""
    label, ci = "tiny", (0.1, 0.3)
    rows = [
        Result(
            "kid-efficientnet_lite0",
            0.012,
            label,
            100,
            80,
            sd=0.001,
            features="efficientnet_lite0",
            real_floor=0.0004,
        ),
        Result(
            "control/partial_r",
            0.52,
            label,
            1000,
            ci95=ci,
            covariate="intensity",
            design="b",
            detail={"removed": ["thickness", "digit"]},
        ),
        Result("control/slope", 0.4, label, 1000, covariate="intensity", design="b"),
        Result(
            "control/r", 0.6, label, 1000, covariate="intensity", design="b", detail={"readings": READINGS}
        ),
        Result(
            "control/partial_r",
            0.47,
            label,
            990,
            covariate="intensity",
            design="b",
            source="B",
            detail={"recorded": False},
        ),
        Result(
            "control/bias",
            30.7,
            label,
            990,
            covariate="intensity",
            design="b",
            source="B",
            unit="levels",
            detail={"recorded": False},
        ),
        Result("control/partial_r", 0.88, label, 1000, covariate="thickness", design="a"),
        Result("leakage", 0.31, label, 500, covariate="intensity", moved="thickness", unit="sd"),
        Result("leakage", 0.9, label, 500, covariate="thickness", moved="thickness"),
        Result(
            "strata/mae",
            3.3,
            label,
            50,
            9,
            stratum={"thickness": [1, 2], "digit": "1"},
            covariate="slant",
            unit="°",
            reference="requested",
        ),
        Result(
            "counterfactual/composition_1",
            4.2,
            label,
            24,
            24,
            ci,
            unit="grey levels",
            detail={"another_image": 40.0, "stranger": 30.0},
        ),
        Result(
            "counterfactual/effectiveness_mae",
            7.7,
            label,
            24,
            24,
            ci,
            covariate="slant",
            moved="slant",
            unit="°",
            real_floor=1.0,
            detail={"doing_nothing": 25.0, "slope": 0.8},
        ),
        Result(
            "counterfactual/minimality",
            0.2,
            label,
            24,
            24,
            ci,
            covariate="slant",
            moved="digit",
            unit="sd",
            detail={"another_image": 1.1, "reconstruction": 0.1},
        ),
        Result("counterfactual/identity", 0.7, label, 24, 24, ci, moved="digit"),
        Result(
            "counterfactual/reversibility",
            6.0,
            label,
            24,
            24,
            ci,
            moved="digit",
            unit="grey levels",
            detail={"edited": 20.0, "another_image": 40.0},
        ),
        Result(
            "memorisation-pixels",
            0.004,
            label,
            500,
            200,
            ci,
            features="pixels",
            real_floor=0.01,
            real_floor_n=100,
            detail={"threshold": 0.8, "median_ratio": 1.02, "relative_distance": 0.97, "n_train": 100},
        ),
        Result(
            "utility/mae",
            0.33,
            label,
            200,
            60,
            ci,
            covariate="thickness",
            unit="px",
            real_floor=0.3,
            detail={"blind_guess": 0.8, "architecture": "resnet18", "epochs": 3},
        ),
        Result("utility/accuracy", None, label, 200, 60, covariate="digit"),
    ]
    rows = [_beside(r) for r in rows] + _of_a_blind_instrument(label)
    model = ModelRecord(label, tiny_renderer.header.snapshot_id, "strokes", 12)
    note = Note("fid", "needs more images than features")
    return Evaluation(
        "strokes", "test", 3, (model,), tuple(rows), (note,), "mssg evaluate <tiny>", {}, {"mssg": "0.1.0"}
    )


@pytest.fixture(scope="module")
def material(tiny_renderer, evaluation):
    rng = np.random.default_rng(0)
    pair = [
        (rng.integers(0, 255, (1, 32, 32), np.uint8), rng.integers(0, 255, (1, 32, 32), np.uint8), 0.4)
    ] * 3
    stats = [
        {"kimg": k, "elapsed_sec": k, "loss/G": 1 / k, "score/real": 0.5, "metric/control/size/r": 0.1 * k}
        for k in (1.0, 2.0, 3.0)
    ]
    stats[1]["metric/control/size/instrument"] = {"name": "ridge", "words": "r 0.31", "doubt": "not known"}
    return ReportContents(
        "tiny",
        tiny_renderer,
        evaluation,
        stats,
        (),
        {"pixels": pair},
        ("mssg evaluate <tiny>", "mssg report tiny"),
        (),
    )


@pytest.fixture(scope="module")
def page(material):
    return to_html(build(material), "A & B")


@pytest.mark.slow
def test_the_page_needs_nothing_from_outside(page):
    assert page.startswith("<!DOCTYPE html>") and "<title>A &amp; B</title>" in page
    assert not re.search(r'(?:src|href)="(?!data:image/png;base64,|#)', page)
    assert "ridge on real images: r 0.31: NOT KNOWN" in page
    assert "<code>mssg evaluate --metrics" in page and "`" not in re.sub(
        r"<pre>.*?</pre>", "", page, flags=re.S
    )
    assert "<script" not in page and "@import" not in page and "url(" not in page
    assert set(re.findall(r'href="#(\w+)"', page)) <= set(re.findall(r'id="(\w+)"', page))


def test_every_number_of_the_evaluation_is_there(page, evaluation):
    for r in evaluation.results:
        assert page.count(f"<td class=l>{r.metric}</td>") == sum(
            x.metric == r.metric for x in evaluation.results
        )
    for text in (
        "0.0120 ± 0.00100",
        "0.520 [0.100, 0.300]",
        "7.70° [0.100, 0.300]",
        "doing nothing 25.0",
        "0.4 % [10.0, 30.0]",
        "1.0 %",
        "0.800 px",
    ):
        assert text in page, text
    for text in (
        "no privacy guarantee",
        "needs more images than features",
        "mssg evaluate &lt;tiny&gt;",
        "real images",
        "Not for diagnosis",
    ):
        assert text in page, text


def first_page(page: str) -> str:
    return page[page.index("<h2") : page.index('<div class="page">')]


def test_the_first_page_says_in_words_what_was_found_and_by_what(page):
    first = first_page(page)
    assert page.index("<h2") == page.index(first) and ">Verdicts</h2>" in first
    for said in (
        "thickness: obeyed",
        "intensity: not obeyed",
        "slope 0.400, on real images 0.500",
        "intensity, B (never recorded): obeyed in part",
        "bias 30.7 levels",
        "n = 990",
        "Measured by: oracle-digits; on real images: MAE 1.00 px, a constant guess 4.00 px; r 0.95, n = 60",
        "Moving thickness by one standard deviation",
        "moves the reading of intensity by 0.310",
        "0.4 % of the generated images are flagged",
        "told from real ones",
    ):
        assert said in first, said


def test_what_is_read_no_better_than_guessed_leads_nothing_and_is_marked_everywhere(page, evaluation):
    first = first_page(page)
    assert "slant: cannot be said" in first and "0.987" not in first
    assert "a constant guess 4.00" in first and "0.987" in page[len(first) :]
    rows = [row for row in re.findall("<tr>.*?</tr>", page) if "0.987" in row]
    assert len(rows) >= 5 and all("NO BETTER THAN GUESSING" in row for row in rows)
    table = list(csv.DictReader(numbers(evaluation).splitlines()))
    assert len(table) == len(evaluation.results)
    (row,) = [r for r in table if r["metric"] == "control/partial_r" and r["covariate"] == "slant"]
    assert (row["value"], row["instrument_mae"], row["instrument_guess_mae"]) == ("0.987", "5.0", "4.0")
    assert row["instrument_better_than_guessing"] == "False" and row["instrument_r"] == "0.05"


def test_a_predictor_of_which_nobody_knows_what_it_is_worth_gives_no_verdict(tiny_renderer, evaluation):
    unknown = [
        replace(r, instrument="predictor-resnet18@0", detail={})
        for r in evaluation.find(covariate="intensity")
    ]
    blocks = build(ReportContents("tiny", tiny_renderer, replace(evaluation, results=tuple(unknown))))
    titles = [b.title for b in blocks if isinstance(b, Verdict)]
    assert "intensity: cannot be said" in titles and not any("obeyed" in title for title in titles)


def test_readings_far_outside_what_the_instrument_knows_are_no_obedience(tiny_renderer, evaluation):
    """A regression reads an age of 190 off what is no brain yet; its r may still be high."""
    own = {"mae": 3.0, "guess_mae": 9.0, "r": 0.92, "n": 200, "people": 200, "on": "test", "better": True}
    parts = {
        "covariate": "intensity",
        "design": "b",
        "instrument": "predictor-ridge@12345678",
        "detail": {"own": own},
    }
    stats = {"partial_r": 0.99, "slope": 1.0, "bias": 2.0}
    for error, told in ((129.0, "cannot be said"), (4.0, "obeyed")):
        rows = [Result(f"control/{k}", v, "tiny", 100, **parts) for k, v in (stats | {"mae": error}).items()]
        blocks = build(ReportContents("tiny", tiny_renderer, replace(evaluation, results=tuple(rows))))
        assert f"intensity: {told}" in [b.title for b in blocks if isinstance(b, Verdict)]


def test_verdicts_then_pictures_then_numbers(material):
    blocks = build(material)
    kinds = [type(b) for b in blocks]
    assert kinds.index(Verdict) < kinds.index(NewPage) < kinds.index(FigureBlock)
    last_picture = max(i for i, kind in enumerate(kinds) if kind is FigureBlock)
    numbers = [i for i, b in enumerate(blocks) if isinstance(b, Heading) and b.text.startswith("Appendix")]
    assert len(numbers) >= 4 and min(numbers) > last_picture


def test_no_section_is_an_empty_heading(material, tiny_renderer):
    for contents in (material, ReportContents("tiny", tiny_renderer)):
        blocks = build(contents)
        for block, following in zip(blocks, [*blocks[1:], None]):
            if isinstance(block, Heading):
                assert following is not None and not isinstance(following, NewPage), block
                assert not (isinstance(following, Heading) and following.level <= block.level), block


def test_pictures_are_in_the_page(page):
    assert (
        page.count('src="data:image/png;base64,') >= 7
    )  # asked and read, curves, three grids, leakage, gallery


def test_a_snapshot_alone_makes_a_report_that_says_what_is_missing(tiny_renderer):
    blocks = build(ReportContents("tiny", tiny_renderer, missing=("Nothing was measured.",)))
    text = " ".join(getattr(b, "text", "") for b in blocks)
    assert "training statistics are not at hand" in text and "There is no eval.json" in text
    assert any(isinstance(b, Notes) and b.warn and "Nothing was measured." in b.items for b in blocks)


@pytest.mark.slow
def test_paper_holds_every_section_and_stays_on_its_pages(material):
    from matplotlib.figure import Figure

    from mssg.plotting.grid_layout import text_size
    from mssg.report import pdf as paper

    blocks = [b for b in build(material) if not isinstance(b, FigureBlock)]
    data = to_pdf([*blocks, Text("a $ sign and another $")], "Title")
    assert data.startswith(b"%PDF") and data.count(b"/Type /Page\n") + data.count(b"/Type /Page ") >= 2
    written = []

    class Watched(paper._Paper):
        def write(self, text, size, x=paper.MARGIN, **more):
            written.append((text, x, self.y, size, more.get("ha", "left")))
            super().write(text, size, x, **more)

    sheet = Watched("Title")
    long = table(
        ("name", "what", "n"), [("a" * 30, "many words in a cell " * 12, "1234567")] * 60, "caption " * 40
    )
    picture = FigureBlock(lambda: Figure((4, 30)), "tall")
    for block in (
        Heading("x" * 300, 1),
        Text("word " * 900),
        Notes(("note " * 60,)),
        Code("mssg " * 80),
        long,
        picture,
        TableBlock(("h",), (("1",),), "folded", folded=True),
        NewPage(),
        Verdict(Answer.NO, "title " * 40, "text " * 200, "instrument " * 20),
    ):
        paper._set(sheet, block)
    assert len(sheet.pages) > 3
    for text, x, y, size, ha in written:
        assert 0 <= y <= paper.HEIGHT - paper.MARGIN + 0.01, text
        width = text_size(text, size)[0] / 72 if ha == "left" and "mono" not in text else 0
        assert x + width <= paper.WIDTH - paper.MARGIN + 0.02, (text, width)
        assert x >= paper.MARGIN - 0.01


def test_columns_are_pressed_evenly():
    from mssg.report.pdf import _pressed

    assert _pressed([1, 2, 3], 6.5) == [1, 2, 3]
    assert _pressed([1, 4, 5, 1], 6) == [1, 2, 2, 1]
    assert sum(_pressed([0.7, 3, 9, 2], 6)) == pytest.approx(6)


def test_smaller_pictures_stay_the_same_picture():
    import io

    from PIL import Image

    pixels = np.random.default_rng(0).integers(0, 3, (40, 40, 3), np.uint8) * 100
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="PNG", compress_level=0)
    less = smaller(buffer.getvalue())
    assert len(less) < len(buffer.getvalue())
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(less)).convert("RGB")), pixels)


@pytest.mark.slow
def test_the_command(tiny_snapshot, tiny_study, evaluation, tmp_path):
    def run(*words):
        return CliRunner().invoke(cli, ["report", *(str(w) for w in words)])

    file = evaluation.save(tmp_path / "eval.json")
    done = run(tiny_snapshot, "--evaluation", file, "-o", tmp_path / "r.html")
    assert done.exit_code == 0 and "give the data with --study" in done.output, done.output
    page = (tmp_path / "r.html").read_text(encoding="utf-8")
    assert "counterfactual/composition_1" in page and "mssg report" in page
    assert "r-numbers.csv" in done.output
    lines = (tmp_path / "r-numbers.csv").read_text(encoding="utf-8").splitlines()
    assert len(lines) == 1 + len(evaluation.results)
    alone = run(tiny_snapshot, "-o", tmp_path / "alone.html")
    assert alone.exit_code == 0 and "mssg evaluate" in alone.output
    document = json.loads(file.read_text(encoding="utf-8"))
    document["models"][0]["snapshot"] = "000000000000"
    file.write_text(json.dumps(document), encoding="utf-8")
    for words, said in (
        ([tiny_snapshot, "--evaluation", file, "-o", tmp_path / "x.html"], "000012.safetensors with --eval"),
        ([tiny_snapshot, "-o", tmp_path / "x.doc"], ".html"),
        (["nowhere", "-o", tmp_path / "x.html"], "no such snapshot"),
        ([tiny_snapshot, "--evaluation", tmp_path / "none.json", "-o", tmp_path / "x.html"], "no such file"),
        ([tiny_snapshot, "--latent", tmp_path / "none", "-o", tmp_path / "x.html"], "no such file"),
    ):
        refused = run(*words)
        assert refused.exit_code == 2 and said in refused.output, refused.output
    assert not (tmp_path / "x.html").exists()


def test_errors_in_strata_are_judged_by_the_instruments_own_and_a_guess(tiny_renderer, evaluation):
    def title(value, floor):
        whole = Result(
            "strata/mae", value, "tiny", 50, 40, covariate="slant", reference="requested", real_floor=floor
        )
        r = replace(
            whole, instrument="oracle-digits", detail={"own": OWN, "strata": 6}
        )  # a guess misses by 4
        blocks = build(ReportContents("tiny", tiny_renderer, replace(evaluation, results=(r,))))
        return next(b.title for b in blocks if isinstance(b, Verdict) and b.title.startswith("Within"))

    assert "small" in title(0.7, 0.0) and "small" in title(3.2, 2.5)
    assert "moderate" in title(1.5, 0.0) and "large" in title(2.5, 0.0)


@pytest.mark.parametrize(
    "sd, said", [(0.001, "told from real ones"), (0.008, "too few"), (0.02, "no farther")]
)
def test_a_distance_is_judged_by_its_noise(sd, said, tiny_renderer, evaluation):
    (kid,) = evaluation.find(metric="kid-efficientnet_lite0")  # 0.012, between real images 0.0004
    blocks = build(ReportContents("tiny", tiny_renderer, replace(evaluation, results=(replace(kid, sd=sd),))))
    assert any(isinstance(b, Verdict) and b.title.startswith("Pictures") and said in b.title for b in blocks)
