"""The documentation: nothing undocumented, every reference complete, the site builds without a warning."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def hooks():
    """docs/hooks.py as a module."""
    spec = importlib.util.spec_from_file_location("docs_hooks", ROOT / "docs" / "hooks.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_command_and_option_says_what_it_does(hooks):
    from trainer_cli.main import COMMANDS

    found = hooks.commands()
    assert {name.split()[1] for name, *_ in found if " " in name} == set(COMMANDS)
    for name, command, _ in found:
        assert (command.help or "").strip().endswith((".", "`", ":")), f"{name} has no help"
        for option in command.params:
            if option.param_type_name == "option":
                assert option.help and len(option.help) > 5, f"{name} {option.opts[0]} has no help"


def test_the_reference_holds_every_command_option_and_key(hooks):
    page = hooks.commands_page()
    for name, command, _ in hooks.commands():
        assert f"\n## {name}\n" in page
        for option in command.params:
            assert option.param_type_name != "option" or f"`{option.opts[0]}`" in page
    keys = hooks.study_keys()
    assert len(keys) > 20
    undescribed = set(keys) ^ set(hooks.STUDY_KEYS)
    assert not undescribed, f"describe in docs/hooks.py, STUDY_KEYS: {undescribed}"
    from dataclasses import fields

    from mssg.training.config import TrainConfig

    page = hooks.study_page()
    assert all(f"`{f.name}`" in page for f in fields(TrainConfig)) and all(f"`{k}`" in page for k in keys)


def test_the_site_builds_strictly(tmp_path):
    words = [
        sys.executable,
        "-m",
        "mkdocs",
        "build",
        "--strict",
        "--quiet",
        "--site-dir",
        str(tmp_path / "site"),
    ]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    for page in (
        "index",
        "tutorial/index",
        "reference/commands/index",
        "reference/study/index",
        "reliability/index",
    ):
        assert (tmp_path / "site" / f"{page}.html").is_file()


def test_the_tutorial_uses_commands_that_exist(hooks):
    import re

    known = {name.split()[1] for name, *_ in hooks.commands() if " " in name}
    texts = [p.read_text(encoding="utf-8") for p in [*(ROOT / "docs").glob("*.md"), ROOT / "README.md"]]
    used = {word for text in texts for word in re.findall(r"(?:^    |`)mssg ([a-z-]+)", text, re.M)}
    planned = {"evaluate", "report"}  # named by FORMATS, being joined
    assert len(used) > 8 and not used - known - planned, used - known
