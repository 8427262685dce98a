"""Networks of NVlabs' StyleGAN2(-ADA)/StyleGAN3 code and of weslai/msstylegans, taken over as ours.

`from_official` translates constructor arguments into our configurations and loads the weights name by name.
`read_official_pickle` does so for a whole network pickle without running anything in it;
`mssg.checkpoint.official_arguments` is the way back.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mssg.checkpoint.official_arguments import COMMON, DEFAULTS, KINDS, POSITIONS
from mssg.checkpoint.pickle_reader import PickledArray, PickledModule, read_pickle
from mssg.errors import SnapshotError, UsageError
from mssg.networks.config import DiscriminatorConfig, GeneratorConfig
from mssg.networks.discriminator import Discriminator, build_discriminator
from mssg.networks.generator import Generator, build_generator


def from_official(
    kind: str, config: Mapping[str, Any], state: Mapping[str, np.ndarray | torch.Tensor]
) -> Generator | Discriminator:
    """Build our network from an official one's constructor arguments and weights.

    Args:
        kind: generator_stylegan2, generator_stylegan3, discriminator, or discriminator_multisource (1 + c_dim
            outputs).
        config: Constructor arguments in the official vocabulary; absent ones take the official defaults.
        state: State dict, name -> array.

    Returns:
        The network in float32, in eval mode, without gradients for its weights (`requires_grad_()` to train
        it on).

    Raises:
        UsageError: Unknown kind.
        SnapshotError: An argument we cannot represent, or a tensor that is missing, superfluous or of the
            wrong shape.
    """
    if kind not in KINDS:
        raise UsageError("unknown kind of official network", found=kind, expected=" or ".join(KINDS))
    vocabulary, fixed = KINDS[kind]
    values = DEFAULTS | fixed | vocabulary.translate(config)
    generator = kind.startswith("generator")
    for name in COMMON if generator else ("c_dim", "img_resolution", "img_channels"):
        if name not in values:
            raise SnapshotError("a constructor argument is missing", field=name)
    network = _build(kind, values)
    load_checked(network, state)
    return network.eval().requires_grad_(False)


def _build(kind: str, values: Mapping[str, Any]) -> Generator | Discriminator:
    """An empty network from fields of our configurations."""
    values = dict(values)
    if not kind.startswith("generator"):
        values.pop("w_avg_beta", None)  # accepted by the official mapping network, which keeps no mean here
        return build_discriminator(DiscriminatorConfig.from_json(values))
    if values["kind"] == "stylegan3-t" and values["radial_filters"] and values["conv_kernel"] == 1:
        values["kind"] = "stylegan3-r"
    return build_generator(GeneratorConfig.from_json(values))


def load_checked(module: torch.nn.Module, state: Mapping[str, np.ndarray | torch.Tensor]) -> None:
    """Copy a state dict into a module after checking every name and shape.

    Args:
        module: Receives the values, in its own dtype and device.
        state: Name -> array.

    Raises:
        SnapshotError: A tensor is missing, superfluous, not numeric or of the wrong shape; it is named.
    """
    wanted = module.state_dict()
    for name in sorted(wanted.keys() - state.keys()):
        raise SnapshotError("a tensor is missing", field=name, expected=tuple(wanted[name].shape))
    for name in sorted(state.keys() - wanted.keys()):
        raise SnapshotError("there is no place for this tensor", field=name, found=tuple(state[name].shape))
    values = {}
    for name, target in wanted.items():
        value = state[name]
        try:
            value = value if isinstance(value, torch.Tensor) else torch.tensor(value)
        except (TypeError, ValueError) as error:
            raise SnapshotError("not a numeric array", field=name, found=type(value).__name__) from error
        if value.shape != target.shape:
            found, expected = tuple(value.shape), tuple(target.shape)
            raise SnapshotError("a tensor has the wrong shape", field=name, found=found, expected=expected)
        values[name] = value
    module.load_state_dict(values)


# What a file may declare, so that reading it stays within its own size; the official values lie well inside.
_RANGES = {
    "mapping_layers": (1, 64),
    "num_layers": (1, 64),
    "margin_size": (0, 256),
    "filter_size": (1, 64),
    "lrelu_upsampling": (1, 16),
    "conv_kernel": (1, 7),
    "first_cutoff": (0.25, 64),
    "first_stopband": (0.25, 64),
    "last_stopband_rel": (0.25, 16),
    "channel_base": (1, 2**20),
    "channel_max": (1, 2**20),
    "img_resolution": (1, 1024),
}
_SENSELESS = (ValueError, TypeError, LookupError, AttributeError, ArithmeticError, RuntimeError, MemoryError)
_DEEPEST = 32
_MOST_PARTS = 20_000
_LONGEST_PREFIX = 1000
_LARGEST_WIDTH = 2**20


@dataclass(frozen=True)
class OfficialPickle:
    """What a network pickle of the official trainers holds.

    Attributes:
        G, D, G_ema: Our networks, float32, in eval mode; None where the file has none.
        augment_p: The probability that adaptive augmentation had reached; None without it.
        augment_kwargs: The augmentation's settings, as its constructor got them.
        training_set_kwargs: The dataset's settings. They may hold paths of the machine that trained it.
    """

    G: Generator | None
    D: Discriminator | None
    G_ema: Generator
    augment_p: float | None
    augment_kwargs: Mapping[str, Any]
    training_set_kwargs: Mapping[str, Any]


def read_official_pickle(path: str | Path) -> OfficialPickle:
    """Read a network pickle of stylegan2-ada-pytorch, stylegan3 or the multi-source research code, safely.

    The source text inside the file is not run, no module it names is imported, and tensors are read as plain
    numbers.

    Raises:
        SnapshotError: Not such a file, damaged, made to do harm, or of an architecture that we do not have.
    """
    path = Path(path)
    content = read_pickle(path)
    if type(content) is not dict or not isinstance(content.get("G_ema"), PickledModule):
        raise SnapshotError("the pickle holds no G_ema", file=path, expected="a network pickle of a trainer")
    size = path.stat().st_size
    try:
        parts = {name: _network(name, content.get(name), size) for name in ("G", "D", "G_ema")}
        pipe = content.get("augment_pipe")
        probability, settings = None, {}
        if isinstance(pipe, PickledModule):
            held = pipe.part("_buffers").get("p")
            if isinstance(held, np.ndarray) and held.size == 1:
                probability = float(held.reshape(()))
            settings = _plain(pipe.state.get("_init_kwargs") or {})
        dataset = _plain(content.get("training_set_kwargs") or {})
    except SnapshotError as error:
        raise SnapshotError(
            error.message,
            file=path,
            field=error.field,
            found=error.found,
            expected=error.expected,
            hint=error.hint,
        ) from None
    except _SENSELESS as error:
        raise SnapshotError(
            f"its networks make no sense ({type(error).__name__}: {error})", file=path
        ) from None
    return OfficialPickle(
        **parts, augment_p=probability, augment_kwargs=settings, training_set_kwargs=dataset
    )


def _network(name: str, module: Any, size: int) -> Any:
    """One network of a pickle; `size` is that of the file."""
    if module is None:
        return None
    wanted = "Discriminator" if name == "D" else "Generator"
    if not isinstance(module, PickledModule) or module.class_name != wanted:
        found = module.class_name if isinstance(module, PickledModule) else type(module).__name__
        raise SnapshotError("not the network that belongs here", field=name, found=found, expected=wanted)
    state = _state(module)
    if sum(value.nbytes for value in state.values()) > size:
        raise SnapshotError("it declares more numbers than the file holds", field=name)
    config = _arguments(module, wanted)
    try:
        kind = _kind(wanted, config, state)
        _check_declared(kind, config, state)
        return from_official(kind, config, state)
    except SnapshotError as error:
        field = f"{name}.{error.field}" if error.field else name
        raise SnapshotError(
            error.message, field=field, found=error.found, expected=error.expected, hint=error.hint
        ) from None


def _arguments(module: PickledModule, wanted: str) -> dict[str, Any]:
    """Constructor arguments of a pickled network; what its code took by default is read off its parts.

    stylegan2-ada-pytorch and stylegan3 share names but not defaults, and the source that tells them apart is
    not read.
    """
    given = module.state.get("_init_args") or ()
    config = _plain(dict(zip(POSITIONS[wanted], given))) | _plain(module.state.get("_init_kwargs") or {})
    nested = config.get("synthesis_kwargs") or {}
    if "conv_clamp" not in config and "conv_clamp" not in nested:
        found = _attribute(module, "conv_clamp")
        config |= {} if found is None else {"conv_clamp": _plain(found[0])}
    mapping = module.part("_modules").get("mapping")
    if wanted == "Generator" and isinstance(mapping, PickledModule) and "w_avg_beta" in mapping.state:
        stated = dict(config.get("mapping_kwargs") or {})
        beta = _plain(mapping.state["w_avg_beta"])
        config["mapping_kwargs"] = stated | ({} if beta is None else {"w_avg_beta": beta})
    return config


def _attribute(module: PickledModule, name: str) -> tuple[Any] | None:
    """An attribute of the first layer, two levels down at most, that has it."""
    layers, depth = [module], 0
    while layers and depth < 4:
        for layer in layers[:64]:
            if name in layer.state:
                return (layer.state[name],)
        layers = [p for m in layers[:64] for p in m.part("_modules").values() if isinstance(p, PickledModule)]
        depth += 1
    return None


def _kind(wanted: str, config: Mapping[str, Any], state: Mapping[str, np.ndarray]) -> str:
    """Which of `from_official`'s kinds it is, told by the tensors it has."""
    if wanted == "Generator":
        return "generator_stylegan3" if "synthesis.input.freqs" in state else "generator_stylegan2"
    out = state.get("b4.out.weight")
    heads = config.get("c_dim") or 0
    maps = any(key.startswith("mapping.") for key in state)
    if heads and not maps and out is not None and out.ndim == 2 and out.shape[0] == 1 + heads:
        return "discriminator_multisource"
    return "discriminator"


def _check_declared(kind: str, config: Mapping[str, Any], state: Mapping[str, np.ndarray]) -> None:
    """Refuse arguments beyond reason, or far larger than the weights, before any memory is taken for the
    network."""
    vocabulary, fixed = KINDS[kind]
    values = DEFAULTS | fixed | vocabulary.translate(config)
    for name, value in values.items():
        low, high = _RANGES.get(name, (0, _LARGEST_WIDTH))
        number = isinstance(value, int | float)
        if (number and not low <= value <= high) or (name in _RANGES and not number):
            raise SnapshotError("beyond reason for a network", field=name, found=str(value)[:40])
    widths = ("z_dim", "w_dim", "c_dim", "embed_features", "layer_features", "cmap_dim")
    w = max(values.get(name) or 0 for name in widths)
    c = min(values["channel_max"], values["channel_base"] / (2 * values.get("first_cutoff", 2)))
    layers = values.get("num_layers", 20) + 1
    most = layers * (c * c * values.get("conv_kernel", 3) ** 2 + w * c) + 16 * c * c
    most += 2 * w * w * (values.get("mapping_layers", 8) + 2)
    held = sum(value.size for value in state.values())
    if most > 16 * held + 4_000_000:
        raise SnapshotError(
            "its arguments describe a network far larger than its weights", found=f"{held} numbers"
        )


def _state(module: PickledModule) -> dict[str, np.ndarray]:
    """The state dict of a pickled network: parameters and persistent buffers, by their official names.

    Raises:
        SnapshotError: Nested deeper, or with more parts, than any network; or a part that is no tensor.
    """
    state: dict[str, np.ndarray] = {}
    waiting, seen = [("", module, 0)], 0
    while waiting:
        prefix, here, depth = waiting.pop()
        # all entries count, tensors or not: thousands of layers may share one huge table
        seen += 1 + sum(len(here.part(group)) for group in ("_parameters", "_buffers", "_modules"))
        if depth > _DEEPEST or seen > _MOST_PARTS or len(prefix) > _LONGEST_PREFIX:
            raise SnapshotError("a network nested deeper, or with more parts, than any", field=prefix[:80])
        temporary = here.state.get("_non_persistent_buffers_set")
        temporary = temporary if type(temporary) is set else ()
        for group in ("_parameters", "_buffers"):
            for name, value in here.part(group).items():
                if value is None or (group == "_buffers" and name in temporary):
                    continue
                if not isinstance(value, np.ndarray):
                    found = type(value).__name__
                    raise SnapshotError("not a tensor", field=f"{prefix}{name}"[:80], found=found)
                state[f"{prefix}{name}"] = value
        for name, part in here.part("_modules").items():
            if isinstance(part, PickledModule):
                waiting.append((f"{prefix}{name}.", part, depth + 1))
    return state


def _plain(value: Any, most: int = 10_000) -> Any:
    """Settings found in a pickle as ordinary values: dictionaries, lists, texts, numbers.

    Args:
        value: Part of what `read_pickle` returned.
        most: Values it may have; a small file can name one value again and again.

    Raises:
        SnapshotError: More values, deeper nesting, or a network where a setting should be.
    """
    left = [most]

    def convert(item: Any, depth: int) -> Any:
        left[0] -= 1
        if left[0] < 0 or depth > _DEEPEST:
            raise SnapshotError("settings larger or deeper than any network has", expected=f"{most} values")
        if isinstance(item, PickledArray):
            item = item.value
        if isinstance(item, np.ndarray) and item.size <= most:
            item = item.tolist()
        if item is None or isinstance(item, str | int | float):
            return item
        if isinstance(item, dict):
            return {key: convert(v, depth + 1) for key, v in item.items()}
        if isinstance(item, list | tuple | set):
            return [convert(v, depth + 1) for v in item]
        raise SnapshotError("a setting that is no plain value", found=type(item).__name__.lstrip("_"))

    return convert(value, 0)
