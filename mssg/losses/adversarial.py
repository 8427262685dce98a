"""Adversarial objectives on realness logits.

Two are offered: the non-saturating logistic loss of StyleGAN2 (Goodfellow et al. 2014; Karras et al. 2020),
    and the
relativistic pairing loss of R3GAN (Huang et al., arXiv 2501.05441, equation 2 with f(t) = −log(1 + e^−t)).
"""

from __future__ import annotations

from torch import Tensor
from torch.nn.functional import softplus


def logistic_generator(fake: Tensor) -> Tensor:
    """−log σ(D(fake)), averaged over the batch. Args: fake: logits [B]. Returns: scalar."""
    return softplus(-fake).mean()


def logistic_discriminator(real: Tensor, fake: Tensor) -> Tensor:
    """−log σ(D(real)) − log(1 − σ(D(fake))), averaged. Args: logits [B] each. Returns: scalar."""
    return softplus(-real).mean() + softplus(fake).mean()


def relativistic_generator(real: Tensor, fake: Tensor) -> Tensor:
    """Every fake is asked to look more real than the real image it is paired with. Args: logits [B] each."""
    return softplus(real - fake).mean()


def relativistic_discriminator(real: Tensor, fake: Tensor) -> Tensor:
    """Every real image is asked to look more real than the fake it is paired with. Args: logits [B] each."""
    return softplus(fake - real).mean()
