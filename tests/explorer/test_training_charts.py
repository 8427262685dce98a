"""Which curves of a run are shown first."""

import pytest

pytest.importorskip("imgui_bundle")

from explorer_app.panels.timeline import charts, told_apart

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


def test_curves_of_a_chart_are_called_what_tells_them_apart():
    assert told_apart(["loss/D/adv", "loss/G/adv"]) == ["D", "G"]
    assert told_apart(["metric/validation/age", "metric/validation/eye"]) == ["age", "eye"]
    assert told_apart(["metric/control/age/partial_r", "metric/control/eye/r"]) == ["age/partial_r", "eye/r"]
    assert told_apart(["loss/G/cov"]) == ["cov"] and told_apart([]) == []
