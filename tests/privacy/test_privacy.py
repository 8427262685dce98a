"""No network at run time; nobody's identifier leaves the prepared source."""

from __future__ import annotations

import ast
import getpass
import gzip
import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
PERSON = "PERSON-7F3A"
NETWORK = {
    "urllib",
    "http",
    "socket",
    "requests",
    "ftplib",
    "smtplib",
    "xmlrpc",
    "webbrowser",
    "httpx",
    "aiohttp",
}
DOWNLOADS = {"inception.py"}
"""Who may: only when asked to in so many words, and the file must have the checksum that is known beforehand.
"""
ASKED = {ROOT / "trainer_cli/hub.py", ROOT / "explorer_app/panels/help_menu.py"}
"""`mssg push`, `mssg pull` and Help > Documentation: the network is what they are for."""

# Ends the process with 97 at the first look-up, connection or request that leaves the machine.
GUARD = """
import os, sys
def watch(event, arguments):
    away = event in ("socket.getaddrinfo", "socket.gethostbyname", "urllib.Request", "http.client.connect")
    if event in ("socket.connect", "socket.sendto") and isinstance(arguments[1], tuple):
        away = True
    if away:
        os.write(2, f"network: {event} {arguments}".encode()), os._exit(97)
sys.addaudithook(watch)
import json
from trainer_cli.main import main
for words in json.loads(sys.argv[1]):
    try:
        main(words)
    except SystemExit as end:
        if end.code:
            raise
"""


def guarded(folder: Path, commands: list[list[str]]) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    words = [sys.executable, "-c", GUARD, json.dumps(commands)]
    return subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True)


@pytest.fixture(scope="module")
def worked(tmp_path_factory) -> Path:
    """A folder in which a study of people was prepared, trained, drawn and described, behind the guard."""
    folder = tmp_path_factory.mktemp("people")
    sys.path.insert(0, str(ROOT / "tests" / "training"))
    from blob_study import write_blob_study

    study = write_blob_study(folder, (("total_kimg = 0.096", "total_kimg = 0.032"),))
    for table in folder.glob("*/table.csv"):
        header, *rows = table.read_text().splitlines()
        table.write_text("\n".join([header, *(f"{PERSON}-{row}" for row in rows)]) + "\n")
    study.write_text(study.read_text().replace("[covariates.size]", GEOMETRY + "[covariates.size]", 1))
    commands = [
        ["train", "study.toml", "--outdir", "run", "--device", "cpu", "--workers", "1"],
        ["generate", "run", "--seed", "1", "--fix", "size=8", "-o", "out/one.png"],
        ["generate", "run", "--sweep", "size=5:9:3", "-o", "out/many.npy"],
        ["generate", "run", "--sweep", "size=5:9:3", "-o", "out/volume.nii.gz"],
        ["figure", "grid", "run", "--rows", "size", "--cols", "level", "-o", "out/grid.png"],
        ["figure", "grid", "run", "--rows", "size", "--cols", "level", "-o", "out/grid.pdf"],
        ["inspect", "run", "--json"],
        ["inspect", "run", "--card"],
        ["export-official", "run", "-o", "out/weights.npz"],
    ]
    (folder / "out").mkdir()
    done = guarded(folder, commands)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    (folder / "out" / "printed.txt").write_text(done.stdout)
    return folder


GEOMETRY = """
[geometry]
plane = "coronal"
pixel_mm = 2.0
affine = "common"
position_mm = 1.0
"""


def test_nothing_reaches_for_the_network(worked):
    """`worked` would have ended with 97."""
    assert len(list((worked / "out").iterdir())) >= 7


def test_the_guard_guards(tmp_path):
    code = GUARD.replace("main(words)", "__import__('socket').create_connection(('127.0.0.1', 9), 1)")
    done = subprocess.run([sys.executable, "-c", code, "[1]"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 97 and "network" in done.stderr


def test_no_package_imports_what_talks_to_the_network():
    for package in ("mssg", "trainer_cli", "explorer_app"):
        for path in (ROOT / package).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
                names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
                if path not in ASKED and {n.split(".")[0] for n in names} & NETWORK:
                    assert path.name in DOWNLOADS and "sha256" in path.read_text(encoding="utf-8"), path


def test_no_identifier_is_in_a_run_a_snapshot_or_an_image(worked):
    """Nor the name of the machine, of its user, or of the folder, except where a run says where its data
    lie."""
    private = [PERSON, str(worked)]
    # short names occur in any bytes, and "root" in torch's own
    private += [n for n in (socket.gethostname(), getpass.getuser()) if len(n) > 5]
    seen = 0
    for path in [*(worked / "run").rglob("*"), *(worked / "out").iterdir()]:
        if not path.is_file():
            continue
        data = path.read_bytes()
        data = gzip.decompress(data) if path.suffix == ".gz" else data
        own = private if path.name not in ("config.json", "study.toml", "printed.txt") else [PERSON]
        for text in own:
            assert text.encode() not in data and text.encode("utf-16-le") not in data, f"{text} in {path}"
        seen += 1
    assert seen > 12 and PERSON in (worked / "a" / "table.csv").read_text()


def test_pictures_say_only_how_they_were_made(worked):
    from PIL import Image

    for path in [*(worked / "out").glob("*.png"), *(worked / "run").rglob("*.png")]:
        with Image.open(path) as picture:
            text = json.dumps({k: str(v) for k, v in picture.info.items()})
        assert PERSON not in text and str(worked) not in text, text
    assert np.load(worked / "out" / "many.npy").shape[0] == 3


def test_what_is_made_of_a_persons_image_does_not_name_the_person(worked, tmp_path):
    image, latent = f"{PERSON}.png", f"{PERSON}.safetensors"
    (tmp_path / image).write_bytes((worked / "out" / "one.png").read_bytes())
    run, out = str(worked / "run"), tmp_path / "out"
    out.mkdir()
    commands = [
        ["invert", image, "--snapshot", run, "--steps", "2", "--features", "none", "-o", latent],
        *(
            ["figure", "counterfactuals", latent, "--snapshot", run, "-o", f"out/cf.{kind}"]
            for kind in ("png", "pdf")
        ),
        *(["generate", run, "--w", latent, "-o", f"out/again.{kind}"] for kind in ("png", "nii.gz", "npy")),
    ]
    done = guarded(tmp_path, commands)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    made = [latent, *(f"out/{p.name}" for p in out.iterdir())]
    assert len(made) == 8
    for name in made:
        data = (tmp_path / name).read_bytes()
        data = gzip.decompress(data) if name.endswith(".gz") else data
        assert PERSON.encode() not in data, name


def test_the_command_in_a_picture_names_nobody():
    from mssg.rendering.command_line import private_command

    told = private_command(
        f"mssg generate run --w /data/{PERSON}.safetensors --fix age=70 -o /home/{PERSON}/a.png"
    )
    assert told == "mssg generate run --w FILE.safetensors --fix age=70 -o FILE.png"
    assert (
        private_command(f"mssg evaluate A=runs/a -o {PERSON}.json") == "mssg evaluate A=runs/a -o FILE.json"
    )
    for words in (
        f"mssg generate run --w=/data/{PERSON}.safetensors",
        f"mssg figure counterfactuals {PERSON}.safetensors --snapshot x",
    ):
        assert PERSON not in private_command(words)


def test_a_model_card_names_sources_use_and_limits(worked):
    text = (worked / "out" / "printed.txt").read_text()
    card = text[text.index("# blobs\n") :]
    for part in (
        "## Training data",
        "| A | 48 |",
        "## Intended use",
        "## Limits",
        "Not for diagnosis",
        "memorisation",
    ):
        assert part in card, part
