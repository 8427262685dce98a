"""Who may import whom (docs/architecture.md)."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TORCH_FREE = (
    "errors",
    "study",
    "runs",
    "text",
    "rendering/request",
    "checkpoint/header",
    "assets",
    "covariates",
    "measure",
    "study/train_config",
    "data/nifti",
    "data/dataset",
    "data/dataset_writer",
    "data/position",
    "data/split",
    "data/loader",
)
FORBIDDEN = {
    "mssg": {"click", "imgui_bundle", "dearpygui", "trainer_cli", "explorer_app", "OpenGL"},
    "explorer_app": {"trainer_cli"},
    "trainer_cli": {"explorer_app"},
}
EARLIER = {
    "ops": {"networks", "losses", "training", "checkpoint", "rendering", "metrics", "plotting"},
    "networks": {"training", "checkpoint", "rendering", "metrics", "plotting", "losses"},
    "covariates": {"training", "networks", "metrics"},
    "losses": {"training", "metrics"},
    "data": {"training", "networks", "metrics"},
    "metrics": {"training"},
}


def imports(path: Path, top_level_only: bool = False) -> set[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    nodes = tree.body if top_level_only else ast.walk(tree)
    names = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return names


@pytest.mark.parametrize("package", FORBIDDEN)
def test_packages_keep_apart(package):
    for path in (ROOT / package).rglob("*.py"):
        wrong = {name for name in imports(path) if name.split(".")[0] in FORBIDDEN[package]}
        assert not wrong, f"{path.relative_to(ROOT)} imports {wrong}"


@pytest.mark.parametrize("room", EARLIER)
def test_rooms_import_only_what_stands_before_them(room):
    for path in (ROOT / "mssg" / room).rglob("*.py"):
        wrong = {n for n in imports(path) if n.startswith("mssg.") and n.split(".")[1] in EARLIER[room]}
        assert not wrong, f"{path.relative_to(ROOT)} imports {wrong}"


def test_torch_free_modules_stay_torch_free():
    modules = []
    for name in TORCH_FREE:
        path = ROOT / "mssg" / name
        files = sorted(path.rglob("*.py")) if path.is_dir() else [path.with_suffix(".py")]
        modules += [
            ".".join(f.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
            for f in files
            if f.exists()
        ]
    code = (
        f"import sys, importlib\nfor m in {modules!r}: importlib.import_module(m)\nbad = {{'torch',"
        " 'matplotlib', 'scipy'} & set(sys.modules)\nassert not bad, bad"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_public_names_are_those_that_are_loaded_on_first_use():
    import mssg

    assert set(mssg.__all__) == {"__version__", *mssg._LAZY}
