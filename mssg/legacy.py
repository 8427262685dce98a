"""Networks of NVlabs' StyleGAN2(-ADA)/StyleGAN3 code and of weslai/msstylegans, taken over as ours.

`from_official` translates constructor arguments into our configurations and loads the weights name by name.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from mssg.errors import SnapshotError, UsageError
from mssg.networks import (
    Discriminator,
    DiscriminatorConfig,
    Generator,
    GeneratorConfig,
    build_discriminator,
    build_generator,
)


@dataclass(frozen=True)
class _Vocabulary:
    """One group of official constructor arguments.

    Args:
        fields: Official name -> field of our configuration.
        fixed: Official name -> the values we can represent (the architecture has no other).
        ignored: Official names that do not change the result.
        groups: Official name of a nested dictionary -> its vocabulary.
    """

    fields: Mapping[str, str] = field(default_factory=dict)
    fixed: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)
    ignored: frozenset[str] = frozenset()
    groups: Mapping[str, _Vocabulary] = field(default_factory=dict)

    def translate(self, config: Mapping[str, Any], place: str = "") -> dict[str, Any]:
        """Our configuration's fields from official arguments.

        Raises:
            SnapshotError: An argument is unknown, or has a value that our networks cannot represent.
        """
        result: dict[str, Any] = {}
        for name, value in config.items():
            where = f"{place}{name}"
            if name in self.groups:
                result |= self.groups[name].translate(value or {}, f"{where}.")
            elif name in self.fields:
                result[self.fields[name]] = value
            elif name in self.fixed:
                value = tuple(value) if isinstance(value, list | tuple) else value
                if value not in self.fixed[name]:
                    expected = " or ".join(str(v) for v in self.fixed[name])
                    raise SnapshotError(
                        "unsupported architecture", field=where, found=value, expected=expected
                    )
            elif name not in self.ignored:
                raise SnapshotError("unknown constructor argument of an official network", field=where)
        return result


def _same(*names: str) -> dict[str, str]:
    return {name: name for name in names}


_MAPPING2 = _Vocabulary(
    fields={"num_layers": "mapping_layers", "lr_multiplier": "mapping_lr_multiplier"}
    | _same("embed_features", "layer_features", "w_avg_beta"),
    fixed={"activation": ("lrelu",)},
)
_MAPPING3 = _Vocabulary(
    fields={"num_layers": "mapping_layers", "lr_multiplier": "mapping_lr_multiplier"} | _same("w_avg_beta")
)
_COMMON = _same("z_dim", "c_dim", "w_dim", "img_resolution", "img_channels")
_SYNTHESIS2 = _Vocabulary(
    fields=_same("channel_base", "channel_max", "num_fp16_res", "conv_clamp"),
    fixed={
        "architecture": ("skip",),
        "resample_filter": ((1, 3, 3, 1),),
        "activation": ("lrelu",),
        "use_noise": (True,),
        "kernel_size": (3,),
    },
    ignored=frozenset({"fused_modconv_default", "fp16_channels_last", "use_fp16"}),
)
_GENERATOR2 = _Vocabulary(
    fields=_COMMON | _SYNTHESIS2.fields,
    fixed=_SYNTHESIS2.fixed,
    ignored=_SYNTHESIS2.ignored | {"class_name"},
    groups={"mapping_kwargs": _MAPPING2, "synthesis_kwargs": _SYNTHESIS2},
)
_GENERATOR3 = _Vocabulary(
    fields=_COMMON
    | _same("channel_base", "channel_max", "num_fp16_res", "conv_clamp", "num_layers", "num_critical")
    | _same(
        "first_cutoff", "first_stopband", "last_stopband_rel", "margin_size", "output_scale", "filter_size"
    )
    | _same("lrelu_upsampling", "magnitude_ema_beta", "conv_kernel")
    | {"use_radial_filters": "radial_filters"},
    ignored=frozenset({"class_name"}),
    groups={"mapping_kwargs": _MAPPING3},
)
_DISCRIMINATOR = _Vocabulary(
    fields=_same("c_dim", "img_resolution", "img_channels", "channel_base", "channel_max", "num_fp16_res")
    | _same("conv_clamp", "cmap_dim"),
    fixed={"architecture": ("resnet",)},
    ignored=frozenset({"class_name"}),
    groups={
        "block_kwargs": _Vocabulary(
            fields=_same("freeze_layers"),
            fixed={"activation": ("lrelu",), "resample_filter": ((1, 3, 3, 1),)},
            ignored=frozenset({"fp16_channels_last"}),
        ),
        "epilogue_kwargs": _Vocabulary(
            fields={"mbstd_group_size": "mbstd_group_size", "mbstd_num_channels": "mbstd_channels"},
            fixed={"activation": ("lrelu",)},
        ),
        "mapping_kwargs": _Vocabulary(fields=_MAPPING2.fields, fixed=_MAPPING2.fixed),
    },
)

# Defaults of the official constructors, where they are not those of our configurations.
_DEFAULTS = {"channel_base": 32768, "channel_max": 512}
_KINDS: dict[str, tuple[_Vocabulary, dict[str, Any]]] = {
    "generator_stylegan2": (_GENERATOR2, {"kind": "stylegan2"}),
    "generator_stylegan3": (_GENERATOR3, {"kind": "stylegan3-t", "conv_kernel": 3, "radial_filters": False}),
    "discriminator": (_DISCRIMINATOR, {"head": "projection"}),
    "discriminator_multisource": (_DISCRIMINATOR, {"head": "covariates"}),
}


def from_official(
    kind: str, config: Mapping[str, Any], state: Mapping[str, np.ndarray | torch.Tensor]
) -> Generator | Discriminator:
    """Build our network from an official one's constructor arguments and weights.

    Args:
        kind: generator_stylegan2, generator_stylegan3, discriminator, or discriminator_multisource (1 + c_dim outputs).
        config: Constructor arguments in the official vocabulary; absent ones take the official defaults.
        state: State dict, name -> array.

    Returns:
        The network in float32, in eval mode, without gradients for its weights (`requires_grad_()` to train it on).

    Raises:
        UsageError: Unknown kind.
        SnapshotError: An argument we cannot represent, or a tensor that is missing, superfluous or of the wrong shape.
    """
    if kind not in _KINDS:
        raise UsageError("unknown kind of official network", found=kind, expected=" or ".join(_KINDS))
    vocabulary, fixed = _KINDS[kind]
    values = _DEFAULTS | fixed | vocabulary.translate(config)
    generator = kind.startswith("generator")
    for name in _COMMON if generator else ("c_dim", "img_resolution", "img_channels"):
        if name not in values:
            raise SnapshotError("a constructor argument is missing", field=name)
    if generator:
        if values["kind"] == "stylegan3-t" and values["radial_filters"] and values["conv_kernel"] == 1:
            values["kind"] = "stylegan3-r"
        network = build_generator(GeneratorConfig.from_json(values))
    else:
        values.pop("w_avg_beta", None)  # accepted by the official mapping network, which keeps no mean here
        network = build_discriminator(DiscriminatorConfig.from_json(values))
    load_checked(network, state)
    return network.eval().requires_grad_(False)


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
