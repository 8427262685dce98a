"""No two modules reach each other: the import graph of the three packages has no circle."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("mssg", "explorer_app", "trainer_cli")
ORDER = (
    {"errors", "assets", "extras", "files", "text", "version", "blas", "processes", "measure"},
    {"study", "runs"},
    {"covariates", "data"},
    {"ops"},
    {"networks"},
    {"losses", "checkpoint"},
    {"rendering"},
    {"features", "inversion"},
    {"metrics"},
    {"plotting"},
    {"report", "synthetic"},
    {"training"},
    {"api"},
)
"""The rooms of `mssg` from the bottom up: a module imports from its own floor and from those before it."""


def module_name(path: Path) -> str:
    """The dotted name of a file below ROOT."""
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def modules() -> dict[str, Path]:
    """Every module of the three packages and its file."""
    return {module_name(p): p for package in PACKAGES for p in (ROOT / package).rglob("*.py")}


def statements(node: ast.AST) -> Iterator[ast.AST]:
    """All nodes but those below `if TYPE_CHECKING`, and programs that are started: no import crosses a
    process."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.dump(child.test):
            continue
        if isinstance(child, ast.Call) and ast.unparse(child.func) == "python_command":
            continue
        yield child
        yield from statements(child)


def imported(path: Path, known: set[str]) -> set[str]:
    """Modules that a file imports, also inside functions, and those it names in a text (module tables)."""
    found = set()
    for node in statements(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            inside = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= (inside & known) or {node.module}
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and "." in node.value:
            found.add(node.value.partition(":")[0])
    return (found & known) - {module_name(path)}


@pytest.fixture(scope="module")
def graph() -> dict[str, set[str]]:
    """module -> modules it imports."""
    known = modules()
    return {name: imported(path, set(known)) for name, path in known.items()}


def reachable(graph: dict[str, set[str]], start: str) -> set[str]:
    """Every module that `start` reaches over one import or more."""
    seen: set[str] = set()
    todo = [start]
    while todo:
        new = graph[todo.pop()] - seen
        seen |= new
        todo += new
    return seen


def test_no_two_modules_reach_each_other(graph):
    reach = {name: reachable(graph, name) for name in graph}
    circles = sorted((a, b) for a in graph for b in reach[a] if a < b and a in reach[b])
    assert not circles


def test_rooms_import_only_from_those_before_them(graph):
    floor = {room: number for number, rooms in enumerate(ORDER) for room in rooms}
    wrong = []
    for name, targets in graph.items():
        room = name.split(".")[1] if name.startswith("mssg.") else ""
        if room not in floor:
            continue
        for target in targets:
            other = target.split(".")[1] if target.startswith("mssg.") else "legacy"
            if other != room and floor.get(other, len(ORDER)) > floor[room]:
                wrong.append(f"{name} -> {target}")
    assert not wrong, "\n".join(sorted(wrong))


def test_packages_hand_nothing_on():
    """Only mssg's own __init__ has names to give: a package's file says what the package is, and no more."""
    for path in modules().values():
        if path.name == "__init__.py" and path.parent != ROOT / "mssg":
            body = ast.parse(path.read_text(encoding="utf-8")).body
            assert len(body) == 1 and isinstance(body[0], ast.Expr), path


def test_few_files_lie_directly_in_the_engine():
    assert len(list((ROOT / "mssg").glob("*.py"))) <= 10


def test_a_class_name_is_defined_once():
    """No name stands for two things: a reader who meets it knows which one is meant."""
    places: dict[str, list[str]] = {}
    for name, path in modules().items():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ClassDef):
                places.setdefault(node.name.lstrip("_"), []).append(name)
    assert not {name: where for name, where in places.items() if len(where) > 1}
