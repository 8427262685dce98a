"""Which curves of a run are shown first."""

import pytest

pytest.importorskip("imgui_bundle")

from explorer_app.panels.timeline import charts

NAMES = (
    "kimg loss/D/adv loss/D/cov loss/D/cov/age loss/D/r1 loss/G/adv loss/G/cov loss/G/cov/age score/fake"
    " score/real lambda metric/control/age/mae metric/control/age/r metric/validation/age"
    " metric/validation/volume"
).split()


def test_validation_comes_first_and_one_chart_holds_one_scale():
    shown = dict(charts(NAMES))
    assert list(shown.values()) == [
        ["metric/validation/age", "metric/validation/volume"],
        ["loss/D/adv", "loss/G/adv"],
        ["score/fake", "score/real"],
        ["loss/D/cov", "loss/G/cov"],
    ]


def test_a_run_without_validation_shows_what_it_has():
    assert charts(["kimg", "loss/G/adv"]) == [("realism (adversarial)", ["loss/G/adv"])]
    assert charts([]) == []
