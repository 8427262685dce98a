"""Every reader of files and arguments, with a sound input for each and the way to break it."""

from __future__ import annotations

import functools
import gzip
import io
import json
import os
import random
import shutil
import struct
import sys
import tempfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tomli_w

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [
    str(ROOT),
    str(ROOT / "tests"),
    str(ROOT / "tests" / "training"),
    str(ROOT / "tests" / "checkpoint"),
]

import mutate  # noqa: E402

Input = dict[str, bytes]  # file name -> content; "" holds command line arguments as JSON


@dataclass(frozen=True)
class Reader:
    """What is fed, how it is broken, and what reads it.

    `read` is called in a folder where the input's files stand.
    """

    name: str
    weight: float
    seeds: Callable[[], list[Input]]
    change: Callable[[Input, random.Random], Input]
    read: Callable[[Path], Any]
    modules: tuple[str, ...]


def _one(change: Callable[[bytes, random.Random], bytes]) -> Callable[[Input, random.Random], Input]:
    """Change one of the files."""

    def changed(held: Input, rng: random.Random) -> Input:
        name = rng.choice(list(held))
        return held | {name: change(held[name], rng)}

    return changed


def _texts(data: bytes, rng: random.Random) -> bytes:
    if rng.random() < 0.15:
        return mutate.raw(data, rng)
    return mutate.text(data.decode("utf-8", "surrogateescape"), rng).encode("utf-8", "surrogateescape")


def _json(data: bytes, rng: random.Random) -> bytes:
    if rng.random() < 0.15:
        return _texts(data, rng)
    try:
        return json.dumps(mutate.document(json.loads(data), rng)).encode()
    except (ValueError, RecursionError, TypeError):
        return mutate.raw(data, rng)


def _toml(data: bytes, rng: random.Random) -> bytes:
    import tomllib

    if rng.random() < 0.5:
        try:
            return tomli_w.dumps(mutate.document(tomllib.loads(data.decode()), rng)).encode()
        except (ValueError, TypeError, RecursionError, AttributeError):
            pass
    return _texts(data, rng)


def _by_suffix(data: bytes, rng: random.Random, name: str) -> bytes:
    kind = {".json": _json, ".jsonl": _texts, ".toml": _toml, ".csv": _texts, ".tsv": _texts, ".txt": _texts}
    return kind.get(Path(name).suffix, mutate.raw)(data, rng)


def _files(held: Input, rng: random.Random) -> Input:
    name = rng.choice(list(held))
    if rng.random() < 0.02 and len(held) > 1:
        return {k: v for k, v in held.items() if k != name}
    return held | {name: _by_suffix(held[name], rng, name)}


# Sound inputs


def _study() -> bytes:
    from strokes import STUDY

    more = """
[geometry]
plane = "coronal"
pixel_mm = 2.0
affine = "common"
position_mm = 1.5
[augment]
allow = ["translate"]
"""
    return (STUDY + more).encode()


def _packed() -> Input:
    table = "subject,session,split,thickness,intensity,slant,digit\n" + "".join(
        f"s{i},,{'train' if i % 3 else 'val'},{2 + i / 7:.3g},{90 + i},,{i % 3}\n" for i in range(9)
    )
    buffer = io.BytesIO()
    np.save(buffer, np.zeros((9, 1, 32, 32), np.uint8))
    info = {
        "format_version": 1,
        "recipe": "x",
        "covariates": {"thickness": {"unit": "px"}, "digit": {"levels": ["0", "1", "2"]}},
        "sha256": {"images.npy": "0", "table.csv": "0"},
    }
    return {
        "images.npy": buffer.getvalue(),
        "table.csv": table.encode(),
        "source.json": json.dumps(info).encode(),
    }


def _png(size: int = 32, mode: str = "L") -> bytes:
    from PIL import Image

    buffer = io.BytesIO()
    Image.new(mode, (size, size)).save(buffer, "PNG")
    return buffer.getvalue()


def _zip(members: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return buffer.getvalue()


LABELS = json.dumps(
    {"labels": [["00/a.png", [0.5, 1]], ["00/b.png", [1.5, 0]], ["c.jpg", [2.5, 1]]]}
).encode()


def _archives() -> list[Input]:
    import nibabel

    images = {"00/a.png": _png(), "00/b.png": _png(), "c.jpg": _png(), "dataset.json": LABELS}
    slip = {"../../a.png": _png(), "/etc/b.png": _png(), "C:\\c.png": _png()}
    bomb = {"a.png": b"\x00" * (65 * 2**20), "dataset.json": b'{"labels": null}'}
    cut = nibabel.Nifti1Image(np.full((32, 32, 1), 9, np.uint8), np.eye(4)).to_bytes()
    named = {
        "labels": [["x/a.nii.gz", {"age": {"7": 50.5}, "sex": {"7": 1}}], ["x/b.nii", {"age": 60, "sex": 0}]]
    }
    slices = {"x/a.nii.gz": gzip.compress(cut), "x/b.nii": cut, "dataset.json": json.dumps(named).encode()}
    return [
        {"x.zip": _zip(slices)},
        {"x.zip": _zip(images, zipfile.ZIP_STORED)},
        {"x.zip": _zip(images)},
        {"x.zip": _zip(images | slip)},
        {"x.zip": _zip(bomb)},
        {"x.zip": _zip({"a.png": _png(64)})},
    ]


def _change_archive(held: Input, rng: random.Random) -> Input:
    data = held["x.zip"]
    if rng.random() < 0.5:
        return {"x.zip": mutate.raw(data, rng)}
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            members = {i.filename: archive.read(i) for i in archive.infolist() if i.file_size < 10**6}
    except Exception:
        return {"x.zip": mutate.raw(data, rng)}
    if not members:
        return {"x.zip": mutate.raw(data, rng)}
    name = rng.choice(["dataset.json", *members])
    if name in members:
        members[name] = _json(members[name], rng) if name.endswith("json") else mutate.raw(members[name], rng)
    if rng.random() < 0.2:
        members[mutate.text(name, rng).replace("\x00", "")[:300] or "x"] = members.pop(name, b"")
    return {"x.zip": _zip(members, zipfile.ZIP_STORED)}


def _snapshot_file() -> bytes:
    """A snapshot of a very small network."""
    import torch
    from strokes import STUDY, write_study

    from mssg import load_study
    from mssg.checkpoint.snapshot import provenance, save_snapshot
    from mssg.covariates.system import fit_models
    from mssg.data.dataset import open_sources
    from mssg.networks.discriminator import build_discriminator
    from mssg.networks.generator import build_generator
    from mssg.study.train_config import resolve
    from mssg.training.networks import configurations
    from mssg.training.summary import summarise

    with tempfile.TemporaryDirectory() as folder:
        study = load_study(write_study(Path(folder), STUDY, 60))
        sources = open_sources(study)
        models = fit_models(study, [s.columns(study, "train") for s in sources], np.random.default_rng(0))
        sizes = {"z_dim": 2, "w_dim": 2, "channel_base": 32, "channel_max": 2, "mapping_layers": 1}
        torch.manual_seed(0)
        g, d = configurations(models.study, resolve(study, sizes))
        rows = [s.values[s.rows("train")] for s in sources]
        summary = summarise(models.study, rows, models, np.random.default_rng(0), draws=2)
        path = Path(folder) / "x.safetensors"
        networks = {"G_ema": build_generator(g), "D": build_discriminator(d)}
        save_snapshot(
            path, models.study, models, networks, g, d, {"kimg": 1.0, "step": 3}, summary, provenance(0)
        )
        return path.read_bytes()


def _change_tensors(key: str) -> Callable[[Input, random.Random], Input]:
    """Change a safetensors file: its bytes, its table of contents, or the JSON in its metadata."""

    def changed(held: Input, rng: random.Random) -> Input:
        (name, data), *_ = held.items()
        length = int.from_bytes(data[:8], "little")
        if rng.random() < 0.2 or length > len(data):
            return {name: mutate.raw(data, rng)}
        try:
            header = json.loads(data[8 : 8 + length])
            if rng.random() < 0.75:
                inner = json.loads(header["__metadata__"][key])
                header["__metadata__"][key] = json.dumps(mutate.document(inner, rng))
            else:
                header = mutate.document(header, rng)
            text = json.dumps(header).encode()
        except (ValueError, KeyError, TypeError, RecursionError):
            return {name: mutate.raw(data, rng)}
        return {name: len(text).to_bytes(8, "little") + text + data[8 + length :]}

    return changed


def _sessions() -> list[Input]:
    from explorer_app import session, state
    from mssg.rendering.request import RenderRequest

    request = RenderRequest("x", covariates=(("age", 61.0), ("sex", 1.0)), blend=((1, 0.5), (2, 0.5)))
    plain = state.AppState(request, pins=(state.Pin("A", request),))
    path = Path("seed.json")
    session.save(path, session.Session(plain, "0" * 12, "[Window]"))
    data = path.read_bytes()
    path.unlink()
    first_edition = Path(__file__).parents[1] / "explorer" / "session-v1.json"
    return [{"x.json": data}, {"x.json": first_edition.read_bytes()}]


def _evaluations() -> list[Input]:
    from mssg.metrics.results import Evaluation, ModelRecord, Result

    results = tuple(
        Result(
            "strata/mae",
            1.5,
            "m",
            100,
            9,
            (1.0, 2.0),
            covariate="slant",
            unit="°",
            reference="real",
            real_floor=0.5,
            stratum={"thickness": [2.0, 3.0 + i], "slant": [-5, 5.5], "digit": "1", "intensity": [0, 255]},
        )
        for i in range(2)
    )
    whole = Evaluation("strokes", "test", 0, (ModelRecord("m", "0" * 12, "strokes", 4.0),), results)
    return [{"x.json": json.dumps(whole.to_json()).encode()}]


def _pickles() -> list[Input]:
    import warnings

    import torch
    from test_official_pickles import EVIL, storage, tensor_pickle

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        raw = storage(torch.arange(6, dtype=torch.float64))
    small = [data for data in EVIL.values() if len(data) < 5000]
    return [{"x.pkl": data} for data in [tensor_pickle(raw, (2, 3), (1, 2)), *small]]


def _official() -> list[Input]:
    """Network pickles in the official layout, of very small networks, with their source text in place."""
    import pickle
    import types

    import torch
    from test_official_pickles import Persistent, tree

    from mssg.networks.config import DiscriminatorConfig, GeneratorConfig
    from mssg.networks.discriminator import build_discriminator
    from mssg.networks.generator import build_generator

    persistence, util = types.ModuleType("torch_utils.persistence"), types.ModuleType("dnnlib.util")

    def _reconstruct_persistent_obj(meta):
        raise AssertionError

    class EasyDict(dict):
        pass

    for module, item in ((persistence, _reconstruct_persistent_obj), (util, EasyDict)):
        item.__module__, item.__qualname__ = module.__name__, item.__name__
        setattr(module, item.__name__, item)
    held = {
        "torch_utils": types.ModuleType("torch_utils"),
        "dnnlib": types.ModuleType("dnnlib"),
        persistence.__name__: persistence,
        util.__name__: util,
    }
    sizes = {"c_dim": 3, "img_resolution": 32, "img_channels": 1, "channel_base": 32, "channel_max": 2}
    torch.manual_seed(0)
    found = []
    before = {name: sys.modules.get(name) for name in held}
    sys.modules.update(held)
    try:
        for kind, more in (("stylegan2", {}), ("stylegan3-t", {"num_layers": 4})):
            latent = {"z_dim": 2, "w_dim": 2, "mapping_layers": 1}
            G = build_generator(GeneratorConfig.from_json({"kind": kind, **sizes, **latent, **more}))
            D = build_discriminator(DiscriminatorConfig.from_json({"head": "covariates", **sizes}))
            kwargs = EasyDict(
                sizes | {"z_dim": 2, "w_dim": 2, "mapping_kwargs": EasyDict(num_layers=1), **more}
            )
            source = "raise SystemExit\n" * 20
            g = tree("Generator", G.state_dict(), source, _init_args=(), _init_kwargs=kwargs)
            d = tree("Discriminator", D.state_dict(), source, _init_args=(), _init_kwargs=EasyDict(sizes))
            pipe = Persistent(
                "AugmentPipe", {"_buffers": {"p": torch.tensor(0.1)}, "_init_kwargs": {}}, source
            )
            content = {
                "G": g,
                "D": d,
                "G_ema": g,
                "augment_pipe": pipe,
                "training_set_kwargs": EasyDict(path="p"),
            }
            found.append({"x.pkl": pickle.dumps(content, 4)})
    finally:
        for name, module in before.items():
            sys.modules.pop(name) if module is None else sys.modules.update({name: module})
    return found


def _run_folder() -> Input:
    from mssg import load_study
    from mssg.study.schema import to_toml
    from mssg.study.train_config import resolve

    Path("study.toml").write_bytes(_study())
    study = load_study("study.toml")
    Path("study.toml").unlink()
    config = {"format_version": 1, "study_folder": ".", "train": resolve(study).to_json(), "init_from": ""}
    rows = "".join(
        json.dumps({"kimg": i * 0.5, "loss/G/adv": 1.0 / (i + 1), "sec_per_kimg": 1.0}) + "\n"
        for i in range(9)
    )
    return {
        "config.json": json.dumps(config).encode(),
        "study.toml": to_toml(study).encode(),
        "stats.jsonl": rows.encode(),
    }


def _digits() -> Input:
    images = bytes([0, 0, 8, 3]) + struct.pack(">3I", 2, 28, 28) + bytes(2 * 28 * 28)
    labels = bytes([0, 0, 8, 1]) + struct.pack(">I", 2) + bytes([3, 4])
    return {
        "train-images-idx3-ubyte": images,
        "train-labels-idx1-ubyte.gz": gzip.compress(labels),
        "t10k-images-idx3-ubyte.gz": gzip.compress(images),
        "t10k-labels-idx1-ubyte": labels,
    }


def _predictor_file() -> bytes:
    from safetensors.numpy import save

    from mssg import load_study
    from mssg.study.schema import to_document

    Path("study.toml").write_bytes(_study())
    study = load_study("study.toml")
    Path("study.toml").unlink()
    document = {
        "format_version": 1,
        "study": to_document(study),
        "architecture": "resnet18",
        "pretrained": "none",
        "errors": [],
    }
    return save({"fc.weight": np.zeros((2, 2), np.float32)}, {"mssg-predictor": json.dumps(document)})


def _latent() -> list[Input]:
    from safetensors.numpy import save

    return [
        {"x.safetensors": save({"w": np.zeros(shape, np.float32)}, {"mssg": "{}"})}
        for shape in ((3, 2), (2,), (1, 3, 2))
    ]


def _inverted() -> Input:
    from mssg.inversion.latent_file import InvertedImage
    from mssg.inversion.projector import Inversion, InvertConfig

    zeros = functools.partial(np.zeros, dtype=np.float32)
    inversion = Inversion(
        np.zeros((1, 4)), zeros((1, 2)), zeros((1, 3, 2)), {"b4": zeros((1, 1, 4, 4))}, np.zeros(1), 5
    )
    how = dict.fromkeys(("thickness", "intensity", "slant", "digit"), "given")
    image = np.zeros((1, 32, 32), np.uint8)
    InvertedImage("0" * 12, "strokes", image, how, InvertConfig(), inversion, zeros((3, 2))).save("seed")
    data = Path("seed").read_bytes()
    Path("seed").unlink()
    return {"x.safetensors": data}


COHORT = """name = "c"
kind = "mri"
variants = ["native", "mni"]
[files]
pattern = "*_T1w.nii"
id = '^(?P<subject>[a-z0-9]+)(_(?P<session>[0-9]+))?_T1w'
session = "{session}"
[[tables]]
pattern = "*.csv"
key = "{eid}"
match = "{subject}"
[covariates.age]
column = "{variant}_age_{session}"
missing = ["-1"]
range = [0, 120]
kind = "continuous"
unit = "years"
[covariates.sex]
column = ["sex", "gender"]
codes = { F = 0, M = 1 }
kind = "binary"
[[exclude]]
reason = "tumour"
columns = "icd"
any = ["C71*"]
"""


def _cohort() -> Input:
    rows = "eid,native_age_1,native_age_2,mni_age_1,mni_age_2,sex,icd\n" + "".join(
        f"s{i},{50 + i},{52 + i}.5,50,51,{'FM'[i % 2]},{'C711' if i == 3 else ''}\n" for i in range(8)
    )
    images = {f"s{i}_{1 + i % 2}_T1w.nii": b"" for i in range(8)}
    labels = b'[structures]\nventricle = [4, 43]\ncortex = ["1000-1035", 42]\n'
    return {"cohort.toml": COHORT.encode(), "table.csv": rows.encode(), "labels.toml": labels, **images}


def _change_cohort(held: Input, rng: random.Random) -> Input:
    name = rng.choice(("cohort.toml", "cohort.toml", "table.csv", "labels.toml"))
    return held | {name: _by_suffix(held[name], rng, name)}


BIDS_NAMES = (
    "sub-01/anat/sub-01_T1w.nii",
    "sub-01/anat/sub-01_acq-fast_run-02_T1w.nii",
    "sub-02/ses-a/anat/sub-02_ses-a_part-mag_T1w.nii",
    "sub-02/ses-b/anat/sub-02_ses-b_ce-gad_T1w.nii",
    "sub-03/anat/sub-03_echo-1_T2w.nii",
)
ASKED = {
    "entities": ["run=2", "space=", "acq=*"],
    "suffix": "T1w",
    "covariates": ["iq@IQ=continuous:points:40..160", "group=categorical", "arm@Arm=binary:a,b"],
    "missing": ["-4,999", "iq=88"],
    "top_coded": "keep",
}


def _bids() -> Input:
    people = "participant_id\tage\tsex\tIQ\tgroup\tArm\n" + "".join(
        f"sub-0{i}\t{60 + i}{'+' if i == 2 else ''}\t{'FM'[i % 2]}\t{100 + i}\t{'xy'[i % 2]}\ta\n"
        for i in (1, 2, 3)
    )
    described = {
        "age": {"Units": "years"},
        "sex": {"Levels": {"F": "female", "M": "male"}},
        "group": {"Levels": {"x": "patients", "y": {"Description": "controls"}}},
        "IQ": {"Description": "…", "Units": "points"},
    }
    visits = "session_id\tage\nses-a\t61\nses-b\tn/a\n"
    return {
        "participants.tsv": people.encode(),
        "participants.json": json.dumps(described).encode(),
        "sub-02/sub-02_sessions.tsv": visits.encode(),
        "asked.json": json.dumps(ASKED).encode(),
        **dict.fromkeys(BIDS_NAMES, b""),
    }


def _change_bids(held: Input, rng: random.Random) -> Input:
    if rng.random() < 0.7:
        return _files({k: v for k, v in held.items() if v}, rng) | {k: v for k, v in held.items() if not v}
    name = rng.choice(BIDS_NAMES)
    folder, _, file = name.rpartition("/")
    changed = (
        mutate.text(file, rng).replace("/", "").replace("\0", "")[:200].encode("utf-8", "ignore").decode()
    )
    kept = {k: v for k, v in held.items() if k != name}
    return kept | {f"{folder}/{changed}": b""} if changed.strip(".") else kept


def _pictures() -> list[Input]:
    import nibabel
    from PIL import Image

    array, jpeg = io.BytesIO(), io.BytesIO()
    np.save(array, np.full((1, 32, 32), 9.5, np.float32))
    Image.new("L", (32, 32)).save(jpeg, "JPEG")
    volume = nibabel.Nifti1Image(np.full((32, 1, 32), 9, np.uint8), np.diag([2.0, 2, 2, 1])).to_bytes()
    return [
        {"x.png": _png()},
        {"x.png": _png(32, "RGB")},
        {"x.jpg": jpeg.getvalue()},
        {"x.npy": array.getvalue()},
        {"x.nii": volume},
    ]


def _volumes() -> list[Input]:
    import nibabel as nib

    values, out = np.arange(5 * 6 * 7).reshape(5, 6, 7), []
    for kind, dtype in (
        (nib.Nifti1Image, np.int16),
        (nib.Nifti1Image, np.float32),
        (nib.Nifti2Image, np.uint8),
    ):
        image = kind(values.astype(dtype), np.diag([-2.0, 2, 3, 1]))
        image.header["scl_slope"], image.header["scl_inter"] = 0.5, 1
        out.append({"x.nii": image.to_bytes()})
    return out


COMMANDS = (
    ["inspect", "x.safetensors"],
    ["inspect", "x.safetensors", "--json"],
    ["inspect", "x.safetensors", "--card"],
    ["generate", "x.safetensors", "--seed", "1", "--fix", "thickness=3", "-o", "a.png"],
    [
        "generate",
        "x.safetensors",
        "--seed",
        "1",
        "--sweep",
        "slant=-9:9:3",
        "--fix",
        "digit=2",
        "-o",
        "a.npy",
    ],
    [
        "figure",
        "grid",
        "x.safetensors",
        "--rows",
        "intensity=80:200:2",
        "--cols",
        "slant",
        "--fix",
        "thickness=3",
        "-o",
        "a.png",
    ],
    [
        "train",
        "study.toml",
        "--outdir",
        "run",
        "--kimg",
        "1",
        "--set",
        "batch=8",
        "--lambda",
        "0.1",
        "--metrics",
        "control",
    ],
    ["covariates", "study.toml"],
    ["prepare", "stylegan", "x.zip", "--out", "out", "--labels", "a=continuous"],
    ["import", "x.pkl", "-o", "y.safetensors", "--study", "study.toml"],
    ["export-official", "x.safetensors", "-o", "w.npz"],
    ["--version"],
    ["prepare", "digits", "--help"],
    ["train", "--resume", "run", "--device", "cpu"],
)


def _commands() -> list[Input]:
    snapshot = _snapshot_file()
    files = {
        "x.safetensors": snapshot,
        "study.toml": _study(),
        "x.zip": _archives()[0]["x.zip"],
        "x.pkl": b"\x80\x04N.",
    }
    return [files | {"": json.dumps(words).encode()} for words in COMMANDS]


def _change_words(held: Input, rng: random.Random) -> Input:
    words = json.loads(held[""])
    for _ in range(rng.choice((1, 1, 2, 3))):
        at, action = rng.randrange(len(words)) if words else 0, rng.random()
        if action < 0.5 and words:
            words[at] = mutate.text(words[at], rng)
        elif action < 0.65 and words:
            del words[at]
        elif action < 0.8:
            words.insert(
                at,
                rng.choice(
                    (*rng.choice(COMMANDS), "--help", "--seed", "--fix", "a=b=c", "-1", "--device", "tpu")
                ),
            )
        elif words:
            words[at] = rng.choice(mutate.WORDS)
    words = [w.replace("\x00", "").replace("/", "") for w in words if "\ud800" not in w]
    return held | {"": json.dumps(words).encode()}


HEAVY = {"demo", "explore", "watch", "doctor", "predictors", "evaluate", "invert", "report"}


def _run_command(folder: Path) -> None:
    """Run a command line; a refusal is exit code 2, and never a traceback."""
    from click.testing import CliRunner

    from mssg.errors import MssgError
    from trainer_cli.main import cli

    words = json.loads((folder / "arguments.json").read_text())
    if HEAVY & set(words) or "phantom" in words or ("digits" in words and "--help" not in words):
        return
    if "train" in words and "--resume" not in words:
        words.append("--dry-run")
    done = CliRunner().invoke(cli, words, prog_name="mssg")
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    if done.exit_code == 2:
        raise MssgError(done.stderr[-300:])
    assert done.exit_code == 0, done.exit_code


# What reads them


def _read_study(folder: Path) -> None:
    from mssg import load_study
    from mssg.study.schema import from_document, to_document
    from mssg.study.train_config import resolve

    study = load_study(folder / "study.toml")
    resolve(study)
    assert from_document(json.loads(json.dumps(to_document(study)))).layout.width == study.layout.width


def _read_packed(folder: Path) -> None:
    from mssg.data.dataset import PackedSource

    packed = PackedSource.open(folder, _the_study(), 0)
    packed.columns(_the_study(), "train")
    np.asarray(packed.images[len(packed) - 1])


_cache: dict[str, Any] = {}


def _the_study() -> Any:
    from mssg import load_study

    if "study" not in _cache:
        path = Path("the-study.toml")
        path.write_bytes(_study())
        _cache["study"] = load_study(path)
        path.unlink()
    return _cache["study"]


def _read_archive(folder: Path) -> None:
    from mssg.data.recipes import stylegan

    stylegan.prepare(folder / "x.zip", folder / "out", ["age=continuous", "sex=binary"])
    strangers = {p.name for p in folder.iterdir()} - {"x.zip", "out"}
    assert not strangers, strangers


def _read_snapshot(folder: Path) -> None:
    from mssg.checkpoint.header import read_header
    from mssg.checkpoint.snapshot import load_snapshot

    header = read_header(folder / "x.safetensors")
    models = header.models
    values = models.sample(4, None, np.random.default_rng(0))
    header.study.encode(np.stack([values[n] for n in header.study.condition_names], 1))
    _ = load_snapshot(folder / "x.safetensors").G


def _read_session(folder: Path) -> None:
    from explorer_app import session

    session.load(folder / "x.json")


def _read_evaluation(folder: Path) -> None:
    from explorer_app import evaluation
    from mssg.errors import MssgError
    from mssg.metrics.results import Evaluation

    try:
        Evaluation.load(folder / "x.json")
    except MssgError:
        pass
    evaluation.load(folder / "x.json", _known_study())


@functools.cache
def _known_study() -> Any:
    """The study whose covariates strata are named after."""
    from mssg import load_study

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "study.toml")
        path.write_bytes(_study())
        return load_study(path)


def _read_pickle(folder: Path) -> None:
    from mssg.checkpoint.pickle_reader import read_pickle

    read_pickle(folder / "x.pkl")


def _read_official(folder: Path) -> None:
    from mssg.checkpoint.legacy import read_official_pickle

    read_official_pickle(folder / "x.pkl")


def _read_run(folder: Path) -> None:
    from mssg.runs.follow import GrowingRows
    from mssg.runs.rows import read_rows
    from mssg.training.run import open_run

    read_rows(folder / "stats.jsonl"), GrowingRows(folder / "stats.jsonl").update()
    open_run(folder)


def _read_digits(folder: Path) -> None:
    from mssg.data.recipes import digits

    digits.load(folder)


def _read_volume(folder: Path) -> None:
    from mssg.data import nifti

    nifti.to_ras(nifti.read_volume(folder / "x.nii"))


def _read_predictor(folder: Path) -> None:
    from mssg.features.predictors import Predictor

    Predictor.load(folder / "x.safetensors")


def _read_latent(folder: Path) -> None:
    from mssg.inversion.latent_file import read_latent

    read_latent(folder / "x.safetensors")


def _read_inverted(folder: Path) -> None:
    from mssg.inversion.latent_file import InvertedImage

    image = InvertedImage.load(folder / "x.safetensors")
    assert image.finished in (True, False) and len(image.inversion) >= 0
    image.edited(tuple(image.how), {})


def _read_cohort(folder: Path) -> None:
    from mssg.data.label_maps import load_scheme
    from mssg.data.recipes.cohort_selection import PrepareRequest, select_cohort

    load_scheme(str(folder / "labels.toml"))
    request = PrepareRequest(folder, folder / "out", folder / "cohort.toml", tables=[folder / "table.csv"])
    select_cohort(request, "mri", (".nii",))


def _read_bids(folder: Path) -> None:
    from mssg.data.recipes.cohort_selection import PrepareRequest, select_cohort

    try:
        asked = json.loads((folder / "asked.json").read_bytes())
        lists = {k: [str(t) for t in asked[k]] for k in ("entities", "covariates", "missing")}
        words = {k: str(asked[k]) for k in ("suffix", "top_coded")}
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        lists, words = {}, {}
    select_cohort(PrepareRequest(folder, folder / "out", **lists, **words), "mri", (".nii",))


def _read_picture(folder: Path) -> None:
    from mssg.inversion.image_reader import read_picture

    (path,) = folder.iterdir()
    read_picture(path, _known_study())


READERS = (
    Reader(
        "study",
        40,
        lambda: [{"study.toml": _study()}],
        _files,
        _read_study,
        ("study/schema.py", "study/toml_table.py"),
    ),
    Reader("source", 34, lambda: [_packed()], _files, _read_packed, ("data/table.py",)),
    Reader("archive", 12, _archives, _change_archive, _read_archive, ("data/recipes/stylegan.py",)),
    Reader(
        "snapshot",
        24,
        lambda: [{"x.safetensors": _snapshot_file()}],
        _change_tensors("mssg"),
        _read_snapshot,
        ("checkpoint/header.py",),
    ),
    Reader("session", 24, _sessions, _one(_json), _read_session, ("../explorer_app/session.py",)),
    Reader("evaluation", 24, _evaluations, _one(_json), _read_evaluation, ("../explorer_app/evaluation.py",)),
    Reader("pickle", 32, _pickles, _one(mutate.raw), _read_pickle, ("checkpoint/pickle_reader.py",)),
    Reader("official", 3, _official, _one(mutate.raw), _read_official, ("checkpoint/legacy.py",)),
    Reader("run", 8, lambda: [_run_folder()], _files, _read_run, ()),
    Reader("digits", 6, lambda: [_digits()], _one(mutate.raw), _read_digits, ()),
    Reader("volume", 12, _volumes, _one(mutate.raw), _read_volume, ("data/nifti.py",)),
    Reader(
        "predictor",
        6,
        lambda: [{"x.safetensors": _predictor_file()}],
        _change_tensors("mssg-predictor"),
        _read_predictor,
        (),
    ),
    Reader("latent", 4, _latent, _change_tensors("mssg"), _read_latent, ()),
    Reader("inverted", 4, lambda: [_inverted()], _change_tensors("mssg-inversion"), _read_inverted, ()),
    Reader(
        "cohort",
        24,
        lambda: [_cohort()],
        _change_cohort,
        _read_cohort,
        ("data/cohort.py", "data/cohort_map.py", "data/cohort_tables.py", "data/cohort_values.py"),
    ),
    Reader(
        "bids",
        6,
        lambda: [_bids()],
        _change_bids,
        _read_bids,
        ("data/bids.py", "data/covariate_options.py", "data/delimited.py"),
    ),
    Reader("picture", 8, _pictures, _one(mutate.raw), _read_picture, ("inversion/image_reader.py",)),
    Reader("commands", 3, _commands, _change_words, _run_command, ()),
)


def place(held: Input, folder: Path) -> None:
    """Write an input's files into a folder emptied before."""
    for old in folder.iterdir():
        if old.is_dir() and not old.is_symlink():
            shutil.rmtree(old)
        elif old.name not in held or old.stat().st_size != len(held[old.name]):
            old.unlink()
    for name, data in held.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        with open(folder / (name or "arguments.json"), "wb") as file:
            file.write(data)
    os.chdir(folder)
