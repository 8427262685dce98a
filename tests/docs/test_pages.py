"""The pages themselves: links that lead somewhere, code that runs, sentences that can be read."""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import time
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
PAGES = [*sorted((ROOT / "docs").rglob("*.md")), *sorted(ROOT.glob("*.md"))]
GENERATED = {ROOT / "docs/reference" / f"{name}.md" for name in ("commands", "study", "files")}
"""Longer on the site: docs/hooks.py makes them from the code, with a heading for each command."""
GUIDE = [ROOT / "README.md", ROOT / "docs/index.md", *sorted((ROOT / "docs/guide").glob("*.md"))]
LONGEST = 25
"""Words of a sentence in the guide."""
OWN_WORDS = (
    "with all their might",
    "canary",
    "it is a taste",
    "chance decides",
    "refused in words",
    "in vain",
)
"""Idioms that only their author understands at once."""


def text_of(path: Path) -> str:
    """A page without its code blocks."""
    text = path.read_text(encoding="utf-8")
    return re.sub(r"^ {4}.*$", "", re.sub(r"^```.*?^```$", "", text, flags=re.M | re.S), flags=re.M)


def anchors(path: Path) -> set[str]:
    """The anchors of a page's headings, as the site and GitHub make them."""
    from markdown.extensions.toc import slugify

    headings = re.findall(r"^#+ (.*)$", text_of(path), re.M)
    return {slugify(re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", heading), "-") for heading in headings}


def broken_links(path: Path, text: str) -> list[str]:
    """Links of a page to files or headings that are not there."""
    broken = []
    for target, anchor in re.findall(r"\]\(([^)#\s]*)(?:#([^)\s]*))?\)", text):
        if re.match(r"[a-z]+:", target):
            continue
        there = Path(os.path.normpath(path.parent / target)) if target else path
        headings = anchor and there.suffix == ".md" and there not in GENERATED
        if not there.exists() or (headings and anchor not in anchors(there)):
            broken.append(f"{path.relative_to(ROOT)}: {target}#{anchor}")
    return broken


def test_every_link_leads_somewhere():
    broken = [link for path in PAGES for link in broken_links(path, text_of(path))]
    assert not broken, "\n".join(broken)


def test_a_broken_link_is_seen():
    page = ROOT / "docs/guide/tutorial.md"
    for link in (
        "[a](nowhere.md)",
        "[a](training.md#no-such-heading)",
        "[a](#nothing)",
        "![a](../images/no.png)",
    ):
        assert broken_links(page, link), link


def test_every_page_stands_in_the_navigation():
    named = re.findall(
        r"[\w/-]+\.md", str(yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))["nav"])
    )
    there = {
        path.relative_to(ROOT / "docs").as_posix() for path in PAGES if path.is_relative_to(ROOT / "docs")
    }
    assert sorted(named) == sorted(there)


def test_every_public_name_is_on_the_page_of_the_api():
    import mssg

    page = (ROOT / "docs/reference/python.md").read_text(encoding="utf-8")
    found = re.findall(r"^::: mssg\.(\w+)$", page, re.M)
    assert sorted(found) == sorted(n for n in mssg.__all__ if n != "__version__")


def python_blocks() -> list[tuple[str, str]]:
    """(page, code) of every Python block."""
    return [
        (path.relative_to(ROOT).as_posix(), block)
        for path in PAGES
        for block in re.findall(r"^```python\n(.*?)^```", path.read_text(encoding="utf-8"), re.M | re.S)
    ]


def test_every_python_block_is_python():
    blocks = python_blocks()
    assert len(blocks) > 3
    for _, code in blocks:
        ast.parse(code)


@pytest.mark.skipif(shutil.which("bash") is None, reason="no bash")
def test_every_script_of_a_page_is_bash():
    texts = [path.read_text(encoding="utf-8") for path in PAGES]
    scripts = [script for text in texts for script in re.findall(r"^```bash\n(.*?)^```", text, re.M | re.S)]
    assert scripts
    for script in scripts:
        done = subprocess.run(["bash", "-n"], input=script, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr


ON_A_NODE = """#!/bin/bash
trap 'echo saved; exit 75' TERM
echo "$@"
: > started
while :; do sleep 0.05; done
"""


@pytest.mark.skipif(shutil.which("bash") is None, reason="no bash")
def test_the_slurm_script_saves_before_the_limit_and_asks_to_start_again(tmp_path):
    """The page's first script, Slurm's commands being stand-ins: TERM reaches the training and is waited
    for."""
    text = (ROOT / "docs/guide/cluster.md").read_text(encoding="utf-8")
    (script,) = re.findall(r"^```bash\n(#!/bin/bash\n.*?)^```", text, re.M | re.S)
    for name, words in (("mssg-train", ON_A_NODE), ("scontrol", '#!/bin/bash\necho "$@"\n')):
        (tmp_path / name).write_text(words, encoding="utf-8")
        (tmp_path / name).chmod(0o755)
    here = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "SLURM_JOB_ID": "7", "SCRATCH": str(tmp_path)}
    job = subprocess.Popen(
        ["bash", "-c", script], cwd=tmp_path, env=os.environ | here, stdout=subprocess.PIPE, text=True
    )
    end = time.monotonic() + 30
    while not (tmp_path / "started").exists() and time.monotonic() < end:
        time.sleep(0.02)
    job.terminate()
    said = job.communicate(timeout=30)[0].splitlines()
    asked = f"study.toml --outdir {tmp_path}/run --preset gpu-128 --requeue"
    assert said == [asked, "saved", "requeue 7"] and job.returncode == 0


RUN = [block for block in python_blocks() if block[1].startswith("import mssg")]


@pytest.mark.slow
@pytest.mark.parametrize(("page", "code"), RUN, ids=[page for page, _ in RUN])
def test_the_python_of_a_page_runs_as_written(page, code, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    exec(compile(code, page, "exec"), {})
    saved = re.findall(r'\.save\("([^"]+)"\)', code)
    assert saved and all((tmp_path / name).exists() for name in saved)


def test_readme_is_short_and_starts_with_a_moving_picture():
    from PIL import Image

    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert len(text.splitlines()) < 120
    picture = ROOT / re.search(r"!\[[^\]]*\]\(([^)]+)\)", text)[1]
    with Image.open(picture) as animation:
        assert getattr(animation, "n_frames", 1) > 10
    assert picture.stat().st_size < 2e6


def sentences(path: Path) -> list[str]:
    """The sentences of a page's running text: no code, tables, headings or pictures."""
    found = []
    for block in re.split(r"\n\s*\n|\n(?=\s*(?:[-*]|\d+\.) )", text_of(path)):
        if not re.match(r"\s*(\||#|!\[|<|---)", block):
            plain = re.sub(r"!?\[([^]]*)\]\([^)]*\)", r"\1", " ".join(block.split()))
            found += re.split(
                r"(?<=[.:?!;])[*_)]*\s+(?=[A-Z`*\"(0-9\[a-zλγ])", re.sub(r"`[^`]*`", "CODE", plain)
            )
    return found


@pytest.mark.parametrize("path", GUIDE, ids=lambda p: p.stem)
def test_sentences_can_be_read(path):
    long = [s for s in sentences(path) if len(s.split()) > LONGEST]
    assert not long, "\n".join(long)


@pytest.mark.parametrize("path", GUIDE, ids=lambda p: p.stem)
def test_every_page_of_the_guide_has_a_picture(path):
    assert re.search(r"^!\[", text_of(path), re.M)


def broken_tables(text: str) -> list[str]:
    """Tables without a head, and lines that would be taken for a row of the table above them."""
    broken = []
    for block in re.split(r"\n\s*\n", text):
        lines = [line.strip() for line in block.strip().splitlines()]
        rows = [line.startswith("|") for line in lines]
        if True not in rows:
            continue
        start = rows.index(True)
        headed = start + 1 < len(lines) and re.match(r"\|[\s:|-]+\|$", lines[start + 1])
        if not headed or not all(rows[start:]):
            broken.append("\n".join(lines))
    return broken


@pytest.mark.parametrize("path", PAGES, ids=lambda p: p.relative_to(ROOT).as_posix())
def test_every_table_is_one(path):
    assert not (broken := broken_tables(text_of(path))), "\n\n".join(broken)


def test_a_broken_table_is_seen():
    head = "| a | b |\n|---|---|\n| 1 | 2 |"
    assert not broken_tables(f"Words.\n\n{head}\n\nWords.")
    assert broken_tables(f"{head}\n\n| 3 | 4 |") and broken_tables(f"{head}\nWords.")


def test_no_private_idiom():
    for path in PAGES:
        text = " ".join(path.read_text(encoding="utf-8").lower().split())
        assert not [words for words in OWN_WORDS if words in text], path.name
