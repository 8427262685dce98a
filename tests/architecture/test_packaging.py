"""What is installed with what: the core without its extras, and the files of a source distribution."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tarfile
import tomllib
from pathlib import Path

import pytest
from architecture.test_imports import imports

from mssg import extras
from mssg.errors import UsageError

ROOT = Path(__file__).resolve().parents[2]
MODULES = {module for group in extras.EXTRAS.values() for module in group.values()}


@pytest.fixture(scope="module")
def project() -> dict:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


@pytest.fixture
def core_only(monkeypatch):
    """An installation without any extra: their modules cannot be found."""
    for module in MODULES:
        monkeypatch.setitem(sys.modules, module, None)
    monkeypatch.setenv("PATH", "")


def test_the_table_of_extras_is_that_of_the_project(project):
    stated = {
        name: [re.split(r"[<>=]", word)[0] for word in words]
        for name, words in project["optional-dependencies"].items()
    }
    for extra, packages in extras.EXTRAS.items():
        assert stated[extra] == list(packages) and extra in extras.PURPOSES
    assert stated["all"] == [f"mssg[{','.join(extras.EXTRAS)}]"]
    core = {re.split(r"[<>=]", word)[0] for word in project["dependencies"]}
    assert not core & {name for group in extras.EXTRAS.values() for name in group}


@pytest.mark.parametrize("package", ["mssg", "trainer_cli"])
def test_the_core_imports_no_extra_at_once(package):
    for path in (ROOT / package).rglob("*.py"):
        wrong = {name for name in imports(path, top_level_only=True) if name.split(".")[0] in MODULES}
        assert not wrong, f"{path.relative_to(ROOT)} imports {wrong}"


def test_what_is_missing_is_named_with_its_command(core_only, capsys, tmp_path):
    from explorer_app import __main__ as explorer
    from explorer_app import movie_export
    from mssg.features.lpips import load_lpips

    assert explorer.main([]) == 2
    said = capsys.readouterr().err
    assert "no dearpygui, no glfw, no imgui-bundle, no pyopengl" in said
    assert 'pip install "mssg[explorer]"' in said
    with pytest.raises(UsageError, match=r'LPIPS needs.*no lpips.*pip install "mssg\[metrics\]"'):
        load_lpips()
    with pytest.raises(UsageError, match=r'MP4.*no imageio-ffmpeg.*pip install "mssg\[video\]"'):
        movie_export._ffmpeg()


def test_the_command_line_says_what_is_missing(core_only, tmp_path, monkeypatch):
    from click.testing import CliRunner

    from trainer_cli import doctor
    from trainer_cli.main import cli

    done = CliRunner().invoke(cli, ["watch", str(tmp_path)])
    assert done.exit_code == 2 and 'pip install "mssg[explorer]"' in done.stderr
    monkeypatch.setattr(doctor.sys, "platform", "linux")
    findings = [*doctor.python_and_packages(), *doctor.display()]
    advice = {f.name: f.advice for f in findings if f.state == doctor.LIMITED}
    assert {f"[{extra}]": extras.command(extra) for extra in extras.EXTRAS}.items() <= advice.items()
    assert advice["opengl"] == extras.command("explorer")


@pytest.mark.parametrize(
    ("files", "said"),
    [
        (("avx2", "plain"), "(C++ kernels: avx2, plain)"),
        ((), "(C++ kernels: none, so drawing is slower: mssg doctor says why)"),
    ],
    ids=str,
)
def test_the_version_says_which_kernels_were_built(files, said, tmp_path, monkeypatch):
    from click.testing import CliRunner

    from mssg.ops.native import library
    from mssg.version import __version__
    from trainer_cli.main import cli

    monkeypatch.setattr(library, "file", lambda variant: tmp_path / variant)
    for name in files:
        (tmp_path / name).touch()
    done = CliRunner().invoke(cli, ["--version"])
    assert done.exit_code == 0 and done.stdout == f"mssg, version {__version__} {said}\n"


def setup_py(*words: str, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, "setup.py", "--quiet", *words],
        cwd=ROOT,
        env=os.environ | environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


def test_links_of_the_readme_hold_on_an_index():
    text = setup_py("--long-description", MSSG_SOURCE_URL="https://example.org/us/mssg/")
    links = re.findall(r"(!?)\[[^\]]*\]\(([^)]*)\)", text)
    base = "https://example.org/us/mssg"
    assert len(links) > 5 and {bool(mark) for mark, _ in links} == {True, False}
    for mark, link in links:
        assert link.startswith(f"{base}/{'raw' if mark else 'blob'}/HEAD/"), link
        assert (ROOT / link.split("/HEAD/")[1].split("#")[0]).exists(), link


def test_without_an_address_the_readme_has_no_link_that_leads_nowhere():
    text = setup_py("--long-description", MSSG_SOURCE_URL="")
    assert re.findall(r"!?\[[^\]]*\]\(([^)]*)\)", text) == [] and "  \n\n\n" not in text
    assert "The tutorial explains" in text and "phantoms: a template brain" in text


@pytest.fixture(scope="module")
def source_distribution(tmp_path_factory) -> Path:
    """An sdist, unpacked in a folder of its own; metadata is written there too, not into the checkout."""
    folder = tmp_path_factory.mktemp("sdist")
    setup_py("egg_info", "--egg-base", str(folder), "sdist", "--formats=tar", "--dist-dir", str(folder))
    (archive,) = folder.glob("*.tar")
    with tarfile.open(archive) as tar:
        safely = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}  # since Python 3.11.4
        tar.extractall(folder, **safely)
    return archive.with_suffix("")


@pytest.mark.slow
def test_a_source_distribution_holds_every_file_of_the_packages(source_distribution):
    for top in ("mssg", "trainer_cli", "explorer_app", "assets"):
        for path in (ROOT / top).rglob("*"):
            generated = "__pycache__" in path.parts or path.name.startswith("_native_")
            if path.is_file() and not generated and path.suffix != ".tmp":
                assert (source_distribution / path.relative_to(ROOT)).is_file(), path
    for name in ("LICENSE", "README.md", "pyproject.toml", "setup.py", "assets/features/LICENSE.txt"):
        assert (source_distribution / name).is_file(), name


@pytest.mark.slow
def test_kernels_are_built_from_a_source_distribution(source_distribution, tmp_path):
    """The plain ones, with a compiler's least effort: what is asked is whether any file is missing."""
    words = ["build_ext", "--build-lib", str(tmp_path), "--build-temp", str(tmp_path)]
    build = [sys.executable, "-c", BUILD, *words]
    done = subprocess.run(build, cwd=source_distribution, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    (library,) = tmp_path.glob("mssg/ops/native/_native_plain.*")
    import ctypes

    from mssg.ops.native import library as native

    assert ctypes.CDLL(str(library)).mssg_abi() == native.ABI


BUILD = """
import runpy, setuptools
real = setuptools.setup
def only_plain(ext_modules, **rest):
    (plain,) = [e for e in ext_modules if e.name.endswith("plain")]
    plain.extra_compile_args.append("-O0")
    plain.optional = False
    real(ext_modules=[plain], **rest)
setuptools.setup = only_plain
runpy.run_path("setup.py", run_name="__main__")
"""


def copied(recipe: str) -> dict[str, list[str]]:
    """Target -> files that a container's recipe copies there."""
    lines = (ROOT / recipe).read_text(encoding="utf-8").splitlines()
    words = [line.removeprefix("COPY").split() for line in lines if "/src" in line and " && " not in line]
    if recipe.endswith(".def"):
        assert all(len(line) == 2 for line in words), "apptainer reads one source and one target on a line"
    found: dict[str, list[str]] = {}
    for *files, target in words:
        found.setdefault(target, []).extend(files)
    return found


@pytest.mark.parametrize("recipe", ["Containerfile", "mssg.def"])
def test_what_a_container_copies_is_all_that_an_installation_needs(recipe, tmp_path):
    for target, files in copied(recipe).items():
        for name in files:
            place = tmp_path / target.strip("/") / ("" if (ROOT / name).is_dir() else name)
            place.parent.mkdir(parents=True, exist_ok=True)
            place.symlink_to(ROOT / name)
    words = ["build_py", "--build-lib", str(tmp_path / "built"), "egg_info", "--egg-base", str(tmp_path)]
    done = subprocess.run(
        [sys.executable, "setup.py", "--quiet", *words], cwd=tmp_path / "src", capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-2000:]
    for name in ("mssg/_assets/features/LICENSE.txt", "explorer_app/image.glsl", "trainer_cli/main.py"):
        assert (tmp_path / "built" / name).is_file(), name


def test_a_container_is_sent_what_it_copies_and_no_more():
    lines = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    sent = {line.removeprefix("!") for line in lines if line.startswith("!")}
    assert "*" in lines
    assert sent == {name for files in copied("Containerfile").values() for name in files}
    assert sent == {name for files in copied("mssg.def").values() for name in files}


def test_conda_installs_what_pip_does(project):
    names = {"pytorch": "torch", "matplotlib-base": "matplotlib"}
    listed = re.findall(
        r"^  - ([\w-]+)(>=\S+)$", (ROOT / "environment.yml").read_text(encoding="utf-8"), re.M
    )
    conda = {names.get(name, name) + bounds for name, bounds in listed if name != "python"}
    assert conda == set(project["dependencies"])
    assert dict(listed)["python"] == project["requires-python"]


def test_shipped_files_stay_small():
    sizes = {p: p.stat().st_size for p in (ROOT / "assets").rglob("*") if p.is_file()}
    assert sum(sizes.values()) <= 60e6
    assert max(size for p, size in sizes.items() if p.parent.name == "snapshots") <= 15e6


def test_a_source_that_cannot_be_written_to_is_built_elsewhere(source_distribution):
    before = {path for path in source_distribution.rglob("*") if "egg-info" not in path.name}
    code = (
        "import os; os.access = lambda *a: False; exec(compile(open('setup.py').read(), 'setup.py', 'exec'))"
    )
    words = [sys.executable, "-B", "-c", code, "--quiet", "egg_info", "build_py"]
    done = subprocess.run(words, cwd=source_distribution, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    new = {p for p in source_distribution.rglob("*") if "egg-info" not in p.name} - before
    assert not new and not (source_distribution / "build").exists()
