"""Official network pickles: read as data, with the official images; hostile ones are refused and nothing
runs."""

import io
import json
import os
import pickle
import struct
import sys
import types
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from mssg.checkpoint.legacy import from_official, read_official_pickle
from mssg.checkpoint.official_arguments import official_arguments
from mssg.checkpoint.pickle_reader import read_pickle
from mssg.checkpoint.snapshot import load_snapshot
from mssg.errors import MssgError, SnapshotError
from mssg.networks.config import DiscriminatorConfig, GeneratorConfig
from mssg.networks.generator import build_generator
from trainer_cli.main import cli

GOLDEN = Path(__file__).parents[1] / "golden"
PAIRS = {
    "official_stylegan2_32": ("stylegan2_32", "discriminator_32"),
    "official_stylegan3t_32": ("stylegan3t_32", "multisource_discriminator_32"),
}
STUDY = """
name = "imported"
[image]
resolution = 32
channels = 1
[covariates.age]
kind = "continuous"
unit = "years"
scale = "minmax"
offset = 40
spread = 40
[covariates.volume]
kind = "continuous"
unit = "ml"
transform = "log"
offset = 3
spread = 0.5
[covariates.sick]
kind = "binary"
[[sources]]
name = "A"
path = "a"
observes = ["age", "volume", "sick"]
[model.volume]
given = ["age"]
family = "linear"
"""


def golden(name):
    data = np.load(GOLDEN / f"{name}.npz", allow_pickle=False)
    state = {key[3:]: torch.tensor(data[key]) for key in data.files if key.startswith("sd/")}
    return json.loads(str(data["config"])), state, data


@pytest.fixture(scope="module", params=PAIRS)
def official(request):
    return request.param, read_official_pickle(GOLDEN / f"{request.param}.pkl")


def test_golden_pickles_give_the_official_images(official):
    name, found = official
    _, _, data = golden(PAIRS[name][0])
    z, c = torch.tensor(data["z"]), torch.tensor(data["c"])
    with pytest.raises(AttributeError):
        found.G_ema = None
    for network in (found.G_ema, found.G):
        assert not network.training
        image = network(z, c, truncation_psi=1, truncation_cutoff=None, noise_mode="const")
        assert np.abs(image.numpy() - data["img"]).max() < 1e-4
        image = network(z, c, truncation_psi=0.7, truncation_cutoff=4)
        assert np.abs(image.numpy() - data["img7"]).max() < 1e-4
    _, _, data = golden(PAIRS[name][1])
    expected = data["outputs" if "outputs" in data else "logits"]
    got = found.D(torch.tensor(data["img"]), torch.tensor(data["c"])).numpy()
    assert np.abs(got - expected).max() < 1e-4 * np.abs(expected).max()
    assert found.training_set_kwargs["resolution"] == 32 and found.augment_p is None


class Persistent:
    """Pickles as the official code's persistent objects do."""

    def __init__(self, class_name, state, source):
        self.meta = dict(type="class", version=6, module_src=source, class_name=class_name, state=state)

    def __reduce__(self):
        return sys.modules["torch_utils.persistence"]._reconstruct_persistent_obj, (self.meta,)


@pytest.fixture
def stand_ins(monkeypatch):
    """Modules of the official names, so that Python can write their names; they are gone when the file is
    read."""
    persistence, util = types.ModuleType("torch_utils.persistence"), types.ModuleType("dnnlib.util")

    def _reconstruct_persistent_obj(meta):
        raise AssertionError("called")

    class EasyDict(dict):
        pass

    for module, item in ((persistence, _reconstruct_persistent_obj), (util, EasyDict)):
        item.__module__, item.__qualname__ = module.__name__, item.__name__
        setattr(module, item.__name__, item)
        monkeypatch.setitem(sys.modules, module.__name__, module)
    for parent in ("torch_utils", "dnnlib"):
        monkeypatch.setitem(sys.modules, parent, types.ModuleType(parent))
    return util.EasyDict


def tree(class_name, state, source, **attributes):
    """A persistent object with nested layers, out of a state dict."""
    buffers = (
        "resample_filter",
        "noise_const",
        "w_avg",
        "freqs",
        "phases",
        "transform",
        "magnitude_ema",
        "p",
        "up_filter",
        "down_filter",
    )
    inner, parameters, held = {}, {}, {}
    for name, value in state.items():
        head, _, rest = name.partition(".")
        if rest:
            inner.setdefault(head, {})[rest] = value
        elif head in buffers:
            held[head] = value
        else:
            parameters[head] = torch.nn.Parameter(value)
    modules = {k: tree("Layer", v, source, conv_clamp=None) for k, v in inner.items()}
    own = {
        "training": False,
        "_parameters": {**parameters, "absent": None},
        "_buffers": held,
        "_non_persistent_buffers_set": set(),
        "_modules": modules,
    }
    return Persistent(class_name, own | attributes, source)


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_stylegan2_ada_pickles_with_their_source(stand_ins, tmp_path, protocol):
    """The other vocabulary (synthesis_kwargs), other defaults (no clamp), source text that must not run."""
    easy, canary = stand_ins, tmp_path / "canary"
    source = f"open({str(canary)!r}, 'w').write('ran')\n"
    config, state, data = golden("stylegan2_32")
    scaled = {k: v * (3 if k.endswith("torgb.weight") else 1) for k, v in state.items()}
    kwargs = easy({k: config[k] for k in ("z_dim", "c_dim", "w_dim", "img_resolution", "img_channels")})
    kwargs["synthesis_kwargs"] = easy(channel_base=config["channel_base"], channel_max=config["channel_max"])
    kwargs["mapping_kwargs"] = easy(num_layers=8)
    G = tree("Generator", scaled, source, _init_args=(), _init_kwargs=kwargs)
    d_config, d_state, _ = golden("discriminator_32")
    stated = easy({k: v for k, v in d_config.items() if k not in ("c_dim", "img_resolution")})
    stated["epilogue_kwargs"] = easy(mbstd_group_size=4)
    D = tree("Discriminator", d_state, source, _init_args=(0, 32), _init_kwargs=stated)
    pipe = tree("AugmentPipe", {"p": torch.tensor(0.25)}, source, _init_kwargs=easy(scale=np.float64(1)))
    content = {"G": G, "D": D, "G_ema": G, "augment_pipe": pipe, "training_set_kwargs": easy(path="x")}
    file = tmp_path / "ada.pkl"
    file.write_bytes(pickle.dumps(content, protocol))
    for name in ("torch_utils.persistence", "dnnlib.util", "torch_utils", "dnnlib"):
        del sys.modules[name]
    found = read_official_pickle(file)
    assert "torch_utils" not in sys.modules and not canary.exists()
    assert found.G_ema.config.conv_clamp is None and found.D.config.mbstd_group_size == 4
    assert found.augment_p == 0.25 and found.augment_kwargs == {"scale": 1.0}
    expected = from_official("generator_stylegan2", config | {"conv_clamp": None}, scaled)
    z, c = torch.tensor(data["z"]), torch.tensor(data["c"])
    assert torch.equal(found.G_ema(z, c), expected(z, c))
    assert set(found.training_set_kwargs) == {"path"}


# Hostile files. CANARY stands for a path that must not come to be.


def text(word):
    return b"\x8c" + bytes([len(word)]) + word.encode()


def named(module, name):
    return text(module) + text(name) + b"\x93"


def call(module, name, argument):
    return named(module, name) + argument + b"\x85R"


def proto(body, version=4):
    return b"\x80" + bytes([version]) + body + b"."


TOUCH = "touch CANARY"
EVIL = {
    "os.system": proto(call("posix", "system", text(TOUCH))),
    "os.system, old opcode": proto(b"cos\nsystem\n" + text(TOUCH) + b"\x85R", 2),
    "subprocess": proto(call("subprocess", "getoutput", text(TOUCH))),
    "eval": proto(call("builtins", "eval", text("open('CANARY','w')"))),
    "exec": proto(call("builtins", "exec", text("open('CANARY','w')"))),
    "getattr": proto(named("builtins", "getattr") + named("os", "path") + text("join") + b"\x86R"),
    "dotted name": proto(call("collections", "OrderedDict.__init__.__globals__", text("x"))),
    "nested reduce": proto(call("builtins", "set", b"]" + call("posix", "system", text(TOUCH)) + b"a")),
    "result is called": proto(named("collections", "OrderedDict") + b")R" + text(TOUCH) + b"\x85R"),
    "allowed name, torch.load": proto(call("torch", "load", text("CANARY"))),
    "open": proto(named("io", "open") + text("CANARY") + text("w") + b"\x86R"),
    "INST": proto(b"(" + text(TOUCH) + b"ios\nsystem\n", 2),
    "OBJ": proto(b"(" + named("posix", "system") + text(TOUCH) + b"o"),
    "NEWOBJ": proto(named("subprocess", "Popen") + text(TOUCH) + b"\x85\x81"),
    "NEWOBJ_EX": proto(named("collections", "OrderedDict") + b")}\x92"),
    "BUILD on a name": proto(
        named("collections", "OrderedDict") + b"N}" + text("make") + text("x") + b"s\x86b"
    ),
    "BUILD on a dictionary": proto(b"}}" + text("__setstate__") + named("builtins", "set") + b"sb"),
    "BUILD on a text": proto(text("a") + b"}" + text("__class__") + text("b") + b"sb"),
    "extension registry": proto(b"\x82\x01"),
    "extension registry, 4 bytes": proto(b"\x84\xff\xff\xff\x7f"),
    "persistent id": proto(text("x") + b"Q"),
    "text opcodes": b"\x80\x02I1\n.",
    "name not text": proto(b"K\x01K\x02\x93"),
    "BINBYTES8 of 2**62": proto(b"\x8e" + struct.pack("<Q", 2**62)),
    "BINUNICODE of 4 GB": proto(b"X\xff\xff\xff\xff"),
    "BYTEARRAY8": proto(b"\x96" + struct.pack("<Q", 2**60), 5),
    "FRAME of 2**63": proto(b"\x95" + struct.pack("<Q", 2**63)),
    "LONG4 negative": proto(b"\x8b" + struct.pack("<i", -1)),
    "LONG4 long": proto(b"\x8b" + struct.pack("<i", 10**6) + b"\x7f" * 10**6),
    "memo index": proto(b"Nr\xff\xff\xff\xff0j\xfe\xff\xff\xff"),
    "no memo": proto(b"h\x05"),
    "tuple as key": proto(b")\x94" + b"h\x00h\x00\x86\x94" * 60 + b"}\x8c\x01a" + b"0Ns"),
    "doubled key": proto(b"})" + b"\x94h\x00\x86" * 60 + b"Ns"),
    "mark without end": proto(b"((((K\x01"),
    "empty stack": proto(b"R"),
    "no value": proto(b""),
    "deep lists": proto(b"]" * 200_000 + b"a" * 199_999),
    "deep tuples": proto(b")" + b"\x85" * 300_000),
    "endless steps": proto(b"N0" * 2_000_000),
    "not official": proto(b"}"),
    "truncated": proto(b"}" + text("G_ema"))[:-3],
    "empty": b"",
    "not a pickle": b"\x89PNG\r\n\x1a\n",
    "zip": b"PK\x03\x04 and so on",
    "unknown protocol": proto(b"}", 99),
    "TensorFlow": proto(call("dnnlib.tflib.network", "Network", text("x"))),
    "numpy objects": proto(call("numpy", "dtype", text("O8"))),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", EVIL)
def test_hostile_pickles_are_refused_and_nothing_runs(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    canary = tmp_path / "CANARY"
    before = set(sys.modules)
    file = tmp_path / "evil.pkl"
    file.write_bytes(EVIL[name])
    with pytest.raises(SnapshotError) as caught:
        read_official_pickle(file)
    assert "evil.pkl" in str(caught.value) and len(str(caught.value)) < 600
    assert not canary.exists()
    assert not {m for m in set(sys.modules) - before if m.startswith(("torch_utils", "dnnlib"))}


def test_the_hostile_files_are_dangerous_to_others(tmp_path, monkeypatch):
    """The canary sings when Python's own unpickler reads such a file: the test above can fail."""
    monkeypatch.chdir(tmp_path)
    pickle.loads(EVIL["os.system"])
    assert (tmp_path / "CANARY").exists()


def storage(tensor):
    data = io.BytesIO()
    torch.save(tensor.storage(), data, _use_new_zipfile_serialization=False)
    return data.getvalue()


def tensor_pickle(raw, size, stride, offset=0):
    numbers = (
        b"K"
        + bytes([offset])
        + b"".join(
            b"(" + b"".join(b"\x8a\x08" + struct.pack("<q", n) for n in values) + b"t"
            for values in (size, stride)
        )
    )
    stored = named("torch.storage", "_load_from_bytes") + b"B" + struct.pack("<I", len(raw)) + raw + b"\x85R"
    return proto(named("torch._utils", "_rebuild_tensor_v2") + b"(" + stored + numbers + b"\x89}tR")


@pytest.mark.filterwarnings("ignore:TypedStorage is deprecated")
def test_storages_are_read_within_their_bounds(tmp_path):
    file = tmp_path / "t.pkl"
    raw = storage(torch.arange(6, dtype=torch.float64))
    file.write_bytes(tensor_pickle(raw, (2, 3), (1, 2)))
    assert read_pickle(file).tolist() == [[0, 2, 4], [1, 3, 5]]
    evil = [
        tensor_pickle(raw, (2, 4), (3, 1)),
        tensor_pickle(raw, (2, 3), (3, 2)),
        tensor_pickle(raw, (2**40,), (0,)),
        tensor_pickle(raw, (-1,), (1,)),
        tensor_pickle(raw, (6,), (1,), offset=1),
        tensor_pickle(raw[:-8], (6,), (1,)),
        tensor_pickle(raw.replace(struct.pack("<q", 6), struct.pack("<q", 2**40)), (6,), (1,)),
        tensor_pickle(raw.replace(b"torch\nDoubleStorage", b"posix\nsystem"), (6,), (1,)),
        tensor_pickle(proto(call("posix", "system", text(TOUCH))), (6,), (1,)),
        tensor_pickle(b"PK\x03\x04", (6,), (1,)),
    ]
    for number, data in enumerate(evil):
        file.write_bytes(data)
        with pytest.raises(SnapshotError):
            read_pickle(file)
            pytest.fail(f"case {number} was read")


@pytest.mark.slow
def test_damage_anywhere_is_told(tmp_path):
    """Cut or changed anywhere, a pickle is read, or refused with a SnapshotError."""
    data = (GOLDEN / "official_stylegan2_32.pkl").read_bytes()
    rng = np.random.default_rng(int(os.environ.get("MSSG_SEED", "7")))
    file = tmp_path / "damaged.pkl"
    refused = 0
    for number in range(36):
        place = int(rng.integers(4000 if number % 2 else len(data)))
        changed = data[:place] if number % 3 == 0 else data[:place] + rng.bytes(1) + data[place + 1 :]
        file.write_bytes(changed)
        try:
            read_pickle(file)
        except SnapshotError:
            refused += 1
    assert refused >= 12


@pytest.mark.parametrize(
    ("argument", "value"),
    [
        ("num_layers", 2**40),
        ("w_dim", 2**16),
        ("first_stopband", 1e-200),
        ("filter_size", 10**6),
        ("z_dim", -1),
        ("channel_max", "x"),
        ("img_resolution", 2**30),
        ("surprise", 1),
        ("mapping_kwargs", "x"),
        ("mapping_kwargs", 3),
    ],
)
def test_declared_sizes_are_bounded_by_the_file(stand_ins, tmp_path, argument, value):
    config, state, _ = golden("stylegan3t_32")
    G = tree("Generator", state, "", _init_args=(), _init_kwargs=config | {argument: value})
    file = tmp_path / "bomb.pkl"
    file.write_bytes(pickle.dumps({"G_ema": G}))
    with pytest.raises(SnapshotError, match=r"G_ema|makes? no sense"):
        read_official_pickle(file)


def test_values_named_again_and_again_cost_nothing(stand_ins, tmp_path):
    """A few hundred bytes can describe 2**60 settings, layers or weights; they are refused, not walked."""
    config, state, _ = golden("stylegan2_32")
    settings, layers = ["x"], tree("Layer", {}, "")
    for _ in range(60):
        settings = [settings, settings]
        layers = Persistent("Layer", {"_modules": {"a": layers, "b": layers}}, "")
    loop = {}
    loop["again"] = loop
    weight = torch.nn.Parameter(state["mapping.fc0.weight"])
    shared = Persistent("Generator", {"_parameters": {f"x{i}": weight for i in range(2000)}}, "")
    good = tree("Generator", state, "", _init_kwargs=config)
    file = tmp_path / "doubled.pkl"
    for content in (
        {"G_ema": good, "training_set_kwargs": {"a": settings}},
        {"G_ema": good, "training_set_kwargs": loop},
        {"G_ema": Persistent("Generator", {"_modules": {"a": layers}}, "")},
        {"G_ema": shared},
    ):
        file.write_bytes(pickle.dumps(content))
        assert file.stat().st_size < 2e6
        with pytest.raises(SnapshotError, match=r"larger|deeper|more numbers"):
            read_official_pickle(file)


def run(*words):
    return CliRunner().invoke(cli, [str(w) for w in words], prog_name="mssg")


def test_import_needs_a_fitting_study(tmp_path):
    file, out = GOLDEN / "official_stylegan2_32.pkl", tmp_path / "s.safetensors"
    toml = tmp_path / "study.toml"
    toml.write_text(STUDY.replace('[covariates.sick]\nkind = "binary"', "").replace(', "sick"', ""))
    done = run("import", file, "-o", out, "--study", toml)
    assert done.exit_code == 2 and "Found 2. Expected 3" in done.stderr, done.stderr
    toml.write_text(STUDY.replace("resolution = 32", "resolution = 64"))
    done = run("import", file, "-o", out, "--study", toml)
    assert done.exit_code == 2 and "image.resolution" in done.stderr
    assert run("import", tmp_path / "none.pkl", "-o", out).exit_code == 2 and not out.exists()


@pytest.mark.slow
def test_import_without_a_study_counts_the_columns(stand_ins, tmp_path):
    out = tmp_path / "s.safetensors"
    done = run("import", GOLDEN / "official_stylegan2_32.pkl", "-o", out)
    assert done.exit_code == 0 and "Name the columns with --study" in done.stdout, done.output
    snapshot, (_, _, data) = load_snapshot(out), golden("stylegan2_32")
    assert snapshot.study.condition_names == ("label1", "label2", "label3")
    c = snapshot.study.encode(data["c"].astype(float))
    assert np.abs(snapshot.G(torch.tensor(data["z"]), torch.tensor(c)).numpy() - data["img"]).max() < 1e-4
    card = run("inspect", out, "--card").stdout
    for part in (
        "its training data are not known",
        "| unknown | not known |",
        "by the official tools",
        "## Intended use",
        "## Limits",
    ):
        assert part in card
    sizes = {
        "c_dim": 0,
        "img_resolution": 32,
        "img_channels": 1,
        "channel_base": 32,
        "channel_max": 2,
        "z_dim": 2,
        "w_dim": 2,
    }
    G = build_generator(GeneratorConfig.from_json({"kind": "stylegan2", **sizes, "mapping_layers": 1}))
    kwargs = stand_ins(sizes | {"mapping_kwargs": {"num_layers": 1}})
    file = tmp_path / "unconditional.pkl"
    file.write_bytes(pickle.dumps({"G_ema": tree("Generator", G.state_dict(), "", _init_kwargs=kwargs)}))
    assert read_official_pickle(file).G_ema(torch.zeros(1, 2), None).shape == (1, 1, 32, 32)
    done = run("import", file, "-o", tmp_path / "u.safetensors")
    assert done.exit_code == 2 and "unconditional" in done.stderr


@pytest.mark.slow
def test_import_and_export_keep_the_network(tmp_path):
    toml, out = tmp_path / "study.toml", tmp_path / "s.safetensors"
    toml.write_text(STUDY)
    done = run("import", GOLDEN / "official_stylegan3t_32.pkl", "-o", out, "--study", toml)
    assert done.exit_code == 0, done.output
    snapshot = load_snapshot(out)
    _, state, data = golden("stylegan3t_32")
    z, c = torch.tensor(data["z"]), torch.tensor(data["c"])
    assert np.abs(snapshot.G(z, c).numpy() - data["img"]).max() < 1e-4
    assert snapshot.header.provenance["imported"] is True
    labels = snapshot.study.encode(np.array([[60.0, np.exp(3.5), 1.0]]))
    assert np.allclose(labels, [[0.5, 1.0, 1.0]], atol=1e-6)
    drawn = snapshot.models.sample(2000, None, np.random.default_rng(0))
    assert 39.5 < drawn["age"].min() < 44 and 76 < drawn["age"].max() < 80.5
    assert abs(np.log(drawn["volume"]).std() - 0.5) < 0.05 and 0.4 < drawn["sick"].mean() < 0.6
    assert run("inspect", out).exit_code == 0
    done = run("generate", out, "--fix", "age=70", "-o", tmp_path / "i.png")
    assert done.exit_code == 0, done.output
    for suffix in ("npz", "pt"):
        file = tmp_path / f"w.{suffix}"
        done = run("export-official", out, "-o", file)
        assert done.exit_code == 0, done.output
        held = dict(np.load(file)) if suffix == "npz" else torch.load(file, weights_only=True)
        assert held.keys() == state.keys()
        assert all(np.array_equal(np.asarray(held[k]), state[k].numpy()) for k in state)
        kind, arguments = official_arguments(snapshot.G.config)
        assert json.loads(done.output.splitlines()[-1]) == arguments
        assert from_official(kind, arguments, held).config == snapshot.G.config
    done = run("export-official", out, "-o", tmp_path / "D.npz", "--network", "D")
    assert done.exit_code == 0 and "discriminator_multisource" in done.output
    assert run("export-official", out, "-o", tmp_path / "w.onnx").exit_code == 2


def test_what_official_networks_lack_is_left_out_or_refused(tmp_path):
    done = run("export-official", "brain-64", "-o", tmp_path / "w.npz")
    assert done.exit_code == 0 and "Without the noise of the picture" in done.output
    with np.load(tmp_path / "w.npz") as held:
        assert not [name for name in held if "image_noise" in name] and "synthesis.b64.torgb.bias" in held
        arguments = json.loads(done.stdout.splitlines()[-1])
        assert not from_official("generator_stylegan2", arguments, dict(held)).config.image_noise
    for config in (
        GeneratorConfig(c_dim=2, position_frequencies=1),
        GeneratorConfig(channel_min=16),
        DiscriminatorConfig(slices=2),
    ):
        with pytest.raises(SnapshotError, match="official networks have no such part"):
            official_arguments(config)


def test_only_errors_for_people(tmp_path):
    assert issubclass(SnapshotError, MssgError)
    with pytest.raises(SnapshotError, match="No such file"):
        read_official_pickle(tmp_path / "absent.pkl")
    with pytest.raises(SnapshotError, match="directory"):
        read_official_pickle(tmp_path)
