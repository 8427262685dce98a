"""The documentation: nothing undocumented, every reference complete, the site builds without a warning."""

from __future__ import annotations

import importlib.util
import json
import re
import shlex
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

    from mssg.study.train_config import TrainConfig

    page = hooks.study_page()
    assert all(f"`{f.name}`" in page for f in fields(TrainConfig)) and all(f"`{k}`" in page for k in keys)


def test_every_key_of_our_files_is_in_their_reference(hooks):
    from dataclasses import fields

    from mssg.networks.config import DiscriminatorConfig, GeneratorConfig

    page = hooks.files_page()
    sections = dict(re.findall(r"^#+ (\S+)[^\n]*\n(.*?)(?=^#|\Z)", page, re.S | re.M))
    for name, kind in (("generator", GeneratorConfig), ("discriminator", DiscriminatorConfig)):
        assert [f.name for f in fields(kind)] == re.findall(r"^\| `(\w+)`", sections[name], re.M)
    undescribed = re.findall(
        r"^\| `\w+` .*\| +\|$",
        "".join(
            sections[n]
            for n in ("generator", "discriminator", "eval.json", "models", "results", "notes", "Inverted")
        ),
        re.M,
    )
    assert not undescribed, undescribed
    evaluation = json.loads((ROOT / "docs/results/digits-evaluation.json").read_text(encoding="utf-8"))
    for name, document in (
        ("eval.json", evaluation),
        ("models", evaluation["models"][0]),
        ("results", evaluation["results"][0]),
    ):
        assert all(f"`{key}`" in sections[name] for key in document), set(document)


@pytest.mark.slow
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
        "guide/tutorial",
        "reference/commands",
        "reference/study",
        "reference/files",
        "results/reliability",
    ):
        assert (tmp_path / "site" / f"{page}.html").is_file()
    assert "--resolution" in (tmp_path / "site/reference/commands.html").read_text(encoding="utf-8")
    for page in (tmp_path / "site").glob("[!a]*/*.html"):
        body = re.sub(r"<pre.*?</pre>", "", page.read_text(encoding="utf-8"), flags=re.S)
        lost = re.findall(r"^(?:- |\d+\. |\| ).*", body.partition("<article")[2], re.M)
        assert not lost, f"{page.name}: this is no list or table on the site (indent by four): {lost}"
        assert not re.search(r"\\&lt;|\\&gt;", body), page.name


def test_what_is_copied_from_a_page_is_what_was_written(hooks):
    code = "mssg train a --kimg 3        # long\n\nmssg demo"
    page = hooks.on_page_content(
        f'<pre><span></span><code>{code}</code></pre><p><img alt="x" src="a.png" /></p>'
    )
    assert re.sub(r"<[^>]+>", "", page) == code and page.count('class="line"') == 3
    assert '<a href="a.png"><img alt="x" src="a.png" /></a>' in page
    assert hooks.on_page_content("<td><code>a_b/c.py</code></td>").count("<wbr>") == 2
    assert "<wbr>" not in hooks.on_page_content("<p><code>a_b/c.py</code></p><td>x</td>")


def documented() -> list[tuple[str, str, bool]]:
    """(file, command line, whether it is whole) for every command of ours in blocks and in running text."""
    found = []
    for path in [*sorted((ROOT / "docs").rglob("*.md")), ROOT / "README.md", ROOT / "SECURITY.md"]:
        text = path.read_text(encoding="utf-8").replace("\\\n", " ")
        for pattern, whole in (
            (r"^(?: {4})?(mssg(?:-train|-explore)? .*)$", True),
            (r"`(mssg(?:-train|-explore)? [^`]*)`", False),
        ):
            for line in re.findall(pattern, text, re.M):
                found.append((path.name, line.split(" #")[0].split(" > ")[0].strip(), whole))
    return found


def parsed(line: str, whole: bool = True) -> None:
    """Have click read a command line as far as it can without running it."""
    import click

    from trainer_cli.main import cli

    name, *words = shlex.split(line)
    words = [name.removeprefix("mssg-"), *words] if name != "mssg" else words
    command, context = cli, click.Context(cli, info_name="mssg")
    while isinstance(command, click.Group) and words:
        (word, *words) = words
        if any(word in option.opts for option in command.get_params(context)):
            return  # mssg --version
        command = command.get_command(context, word)
        assert command is not None, f"no command {word}"
    if isinstance(command, click.Group) or not (words or whole):
        return  # only named
    try:
        command.make_context(line, words, parent=context)
    except click.exceptions.Exit:
        pass  # --help
    except (click.MissingParameter, click.BadOptionUsage) as error:
        assert not whole, error.format_message()
    except click.UsageError as error:
        assert "does not exist" in error.message, error.message


def test_every_documented_command_is_one(hooks):
    wrong, lines = [], documented()
    for file, line, whole in lines:
        if re.search(r"…|\||\.\.\. |\[|<", line):
            continue  # a pattern, not a command
        try:
            parsed(line, whole)
        except (AssertionError, ValueError) as problem:
            wrong.append(f"{file}: {line}: {problem}")
    assert not wrong, "\n".join(wrong)
    commands = {name.split()[1] for name, *_ in hooks.commands() if " " in name}
    assert commands <= {line.split()[1] for _, line, _ in lines if line.startswith("mssg ")}


def test_a_wrong_command_in_the_documentation_is_seen():
    """The test above can fail."""
    for line in (
        "mssg figure grid RUN --row age --cols x -o a.png",
        "mssg invert image.png -o w.safetensors",
        "mssg paint RUN -o x y",
        "mssg --versions",
    ):
        with pytest.raises(AssertionError):
            parsed(line)


def test_every_flag_in_running_text_belongs_to_a_command(hooks):
    known = {
        flag
        for _, command, _ in hooks.commands()
        for o in command.params
        for flag in (*o.opts, *o.secondary_opts)
    }
    text = "\n".join(
        p.read_text(encoding="utf-8") for p in [*(ROOT / "docs").rglob("*.md"), ROOT / "README.md"]
    )
    theirs = re.sub(
        r"^\| [^|]*\|", "", text, flags=re.M
    )  # the first column of docs/guide/migration.md is another program
    used = set(re.findall(r"`(--[a-z][a-z0-9_-]*)", theirs))
    assert len(used) > 20 and not used - known - OTHERS, used - known - OTHERS


OTHERS = {"--max-restarts", "--nodes", "--nproc-per-node", "--nv"}
"""Flags of torchrun, Slurm and apptainer."""


def test_the_plan_for_many_gpus_is_computed():
    """docs/results/scaling.md: parameters, bytes and efficiencies follow from the paper's study."""
    import torch

    from mssg import assets, load_study
    from mssg.networks.discriminator import build_discriminator
    from mssg.networks.generator import build_generator
    from mssg.study.train_config import resolve
    from mssg.training.networks import configurations

    text = (ROOT / "docs/results/scaling.md").read_text(encoding="utf-8")
    study = load_study(assets.path("studies/ukb-mri.toml"))
    config = resolve(study)
    with torch.device("meta"):
        networks = [
            build(c)
            for build, c in zip((build_generator, build_discriminator), configurations(study, config))
        ]
    G, D = (sum(p.numel() for p in network.parameters()) for network in networks)
    assert f"P_G = {G / 1e6:.1f} and P_D = {D / 1e6:.1f} million" in text
    assert not config.pl_weight
    sent = 2 * 4 * (G + D * (1 + 1 / config.r1_interval))
    assert f"that is {sent / 1e9:.2f} GB" in text and f"global batch of {config.batch}" in text
    rows = re.findall(
        r"^\| (\d+) \| (\d+) \| .*? \| (\d+) ms \| (\d+) ms \| (\d+) % \| (\d+) % \|$", text, re.M
    )
    assert len(rows) == 4
    for gpus, images, *shown in (map(int, row) for row in rows):
        t = 200 * images / 32
        m = sent / (200e9 if gpus == 8 else 25e9) * 1000
        expected = t, m, 100 * t / (t + m), 100 * t / (t + max(0, m - t / 2))
        assert gpus * images == config.batch and shown == [round(e) for e in expected]


def test_every_path_of_ours_that_a_page_names_is_there():
    missing = set()
    for path in [*sorted((ROOT / "docs").rglob("*.md")), *ROOT.glob("*.md")]:
        text = path.read_text(encoding="utf-8")
        for name in re.findall(r"(?:mssg|explorer_app|trainer_cli|tests|assets|docs)/[\w/.-]*\w", text):
            if not (ROOT / name).exists() and not any((ROOT / name).parent.glob(f"{Path(name).name}*")):
                missing.add(f"{path.name}: {name}")
    assert not missing, "\n".join(sorted(missing))


def test_every_study_and_cohort_map_in_the_pages_is_read():
    """TOML blocks: one with sources is a study, one with files is a cohort map."""
    import tomllib

    from mssg.data import cohort_map
    from mssg.study import schema

    read = []
    for path in [*sorted((ROOT / "docs").rglob("*.md")), ROOT / "README.md"]:
        for block in re.findall(r"^```toml\n(.*?)^```", path.read_text(encoding="utf-8"), re.M | re.S):
            document = tomllib.loads(block)
            module = schema if "sources" in document else cohort_map if "files" in document else None
            if module:
                read.append((path.name, module.from_document(document, path.name).name))
    assert {"README.md", "tutorial.md", "cohort-maps.md"} <= {name for name, _ in read}


def test_the_map_of_the_engine_is_the_one_that_is_held():
    """docs/architecture.md: every room, on the floor that tests/architecture gives it."""
    spec = importlib.util.spec_from_file_location("circles", ROOT / "tests/architecture/test_circles.py")
    circles = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(circles)
    floor = {room: number for number, rooms in enumerate(circles.ORDER, 1) for room in rooms}
    shown, number = {}, 0
    text = (ROOT / "docs/architecture.md").read_text(encoding="utf-8")
    for told, rooms in re.findall(r"^\| (\d*) *\| ((?:`mssg/[\w.]+`(?:, )?)+) \|", text, re.M):
        number = int(told or number)
        shown |= {room.removesuffix(".py"): number for room in re.findall(r"`mssg/([\w.]+)`", rooms)}
    packages = {p.parent.name for p in (ROOT / "mssg").glob("*/__init__.py")}
    assert packages <= set(shown), packages - set(shown)
    assert shown == {room: floor[room] for room in shown}


def test_the_demo_takes_as_long_wherever_it_is_told():
    from trainer_cli.demo import DURATION

    for name in ("README.md", "docs/results/digits.md"):
        assert DURATION in " ".join((ROOT / name).read_text(encoding="utf-8").split()), name


def test_every_section_of_the_method_that_code_cites_is_there():
    """docs/method/method.md: `section N` in a docstring or comment finds a heading "## N …"."""
    headings = re.findall(r"^## (\d+) ", (ROOT / "docs/method/method.md").read_text(encoding="utf-8"), re.M)
    assert headings == [str(n) for n in range(1, 11)]
    cited = set()
    for folder in ("mssg", "explorer_app", "trainer_cli", "tests"):
        for path in (ROOT / folder).rglob("*.py"):
            text = re.sub(r"\n[\s#]*", " ", path.read_text(encoding="utf-8"))
            for numbers in re.findall(r"method\.md\s+sections? (\d+(?:(?:, | and )\d+)*)", text):
                cited |= {(path.name, n) for n in re.findall(r"\d+", numbers)}
    assert len(cited) > 20 and not [c for c in cited if c[1] not in headings]
