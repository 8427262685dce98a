"""The notebooks run as they are written, and what they show is stored in them."""

from __future__ import annotations

import ast
import contextlib
import io
import json
from pathlib import Path
from typing import Any

import pytest

FOLDER = Path(__file__).resolve().parents[2] / "docs" / "notebooks"


def shown_by(source: str, names: dict[str, Any]) -> set[str]:
    """Run a cell; kinds of what it shows: text that it prints, and its last value."""
    body, printed, kinds = ast.parse(source), io.StringIO(), set()
    last = body.body.pop() if body.body and isinstance(body.body[-1], ast.Expr) else None
    with contextlib.redirect_stdout(printed):
        exec(compile(body, "cell", "exec"), names)
        value = eval(compile(ast.Expression(last.value), "cell", "eval"), names) if last else None
    if value is not None:
        forms = {"image/png": "_repr_png_", "text/html": "_repr_html_"}
        rich = next((kind for kind, method in forms.items() if hasattr(value, method)), None)
        assert rich is None or getattr(value, forms[rich])()
        kinds = {"text/plain"} | ({rich} if rich else set())
    return kinds | ({"stdout"} if printed.getvalue() else set())


@pytest.mark.slow
@pytest.mark.parametrize("name", ["first-picture", "synthetic-cohort", "counterfactuals", "eyes"])
def test_a_notebook_runs_as_written(name, tmp_path, monkeypatch):
    document = json.loads((FOLDER / f"{name}.ipynb").read_text(encoding="utf-8"))
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    for cell in document["cells"]:
        if cell["cell_type"] == "code":
            stored = {kind for output in cell["outputs"] for kind in output.get("data", ["stdout"])}
            assert shown_by("".join(cell["source"]), names) == stored, cell["source"]


def test_all_notebooks_are_run():
    (run,) = test_a_notebook_runs_as_written.pytestmark[:1]
    assert {path.stem for path in FOLDER.glob("*.ipynb")} == set(run.args[1])
