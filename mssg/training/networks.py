"""The networks of a run: their sizes from its configuration, their first weights from a snapshot."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from torch import nn

from mssg.checkpoint.snapshot import load_snapshot
from mssg.errors import RunError
from mssg.networks.config import DiscriminatorConfig, GeneratorConfig
from mssg.study.model import Study
from mssg.study.train_config import TrainConfig


def configurations(study: Study, config: TrainConfig) -> tuple[GeneratorConfig, DiscriminatorConfig]:
    """The networks' configurations of a run."""
    numerics = {"num_fp16_res": config.num_fp16_res, "conv_clamp": config.conv_clamp or None}
    depth = {"mapping_layers": config.mapping_layers} if config.mapping_layers else {}
    image = {"img_resolution": study.resolution, "img_channels": study.channels, "c_dim": study.layout.width}
    position = {}
    if study.position is not None:
        position["position_index"] = study.layout[study.position].start
        position["position_frequencies"] = config.position_frequencies
    generator = GeneratorConfig(
        kind=config.cfg,
        z_dim=config.z_dim,
        w_dim=config.w_dim,
        channel_base=config.channel_base,
        channel_max=config.channel_max,
        image_noise=config.image_noise,
        mapping_lr_multiplier=config.mapping_lr_multiplier,
        **depth,
        **position,
        **image,
        **numerics,
    )
    discriminator = DiscriminatorConfig(
        head=config.d_head,
        channel_base=config.d_channel_base or config.channel_base,
        channel_max=config.d_channel_max or config.channel_max,
        mbstd_group_size=config.mbstd_group,
        freeze_layers=config.freeze_d,
        **image,
        **numerics,
    )
    return generator, discriminator


def transfer(snapshot: str, networks: Mapping[str, nn.Module], log: Callable[[str], None]) -> None:
    """Start from a snapshot's weights: every tensor of the same name and shape; the rest keeps its values.

    Args:
        snapshot: A SNAPSHOT argument.
        networks: By the name they have in a snapshot.
        log: Told how many tensors were taken over.

    Raises:
        RunError: No tensor of one network fits.
    """
    held = load_snapshot(snapshot)
    for name, network in networks.items():
        given, own = held.load(name).state_dict(), network.state_dict()
        fitting = {k: v for k, v in given.items() if k in own and own[k].shape == v.shape}
        if not fitting:
            hint = "Use the same --cfg and sizes"
            raise RunError("no tensor fits this study's networks", file=snapshot, field=name, hint=hint)
        network.load_state_dict(own | fitting)
        log(f"--init-from: {len(fitting)} of {len(own)} tensors of {name} taken over")
