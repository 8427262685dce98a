"""Augmentation: only what is allowed, differentiable, adaptive."""

from __future__ import annotations

import pytest
import torch

from mssg.study.train_config import AUGMENTATIONS
from mssg.training.augment import Augment, _turn_about_grey


def images(n=8, channels=3, seed=0):
    torch.manual_seed(seed)
    return torch.rand(n, channels, 32, 32) * 2 - 1


@pytest.mark.parametrize("operation", AUGMENTATIONS)
def test_each_operation_changes_images_and_lets_gradients_through(operation):
    x = images().requires_grad_(True)
    y = Augment((operation,), 1.0)(x)
    assert y.shape == x.shape and not torch.equal(x, y)
    y.square().sum().backward()
    assert torch.isfinite(x.grad).all() and x.grad.abs().sum() > 0


@pytest.mark.parametrize("allow, p", [((), 1.0), (("rotate", "noise"), 0.0)])
def test_nothing_allowed_or_no_probability_changes_nothing(allow, p):
    x = images()
    assert Augment(allow, p)(x) is x


def test_xflip_flips_whole_images():
    x = images(64)
    y = Augment(("xflip",), 1.0)(x)
    same = torch.isclose(x, y, atol=1e-4).flatten(1).all(1)
    flipped = torch.isclose(x.flip(3), y, atol=1e-4).flatten(1).all(1)
    assert (same ^ flipped).all() and 10 < int(flipped.sum()) < 54


def test_brightness_keeps_contrast():
    x = images(4, 1)
    difference = Augment(("brightness",), 1.0)(x) - x
    assert torch.allclose(difference.flatten(1).std(1), torch.zeros(4), atol=1e-6)


def test_hue_turns_keep_grey_and_length():
    turn = _turn_about_grey(torch.tensor([0.3, 2.0]))
    assert torch.allclose(turn @ torch.ones(3), torch.ones(2, 3), atol=1e-6)
    assert torch.allclose(turn @ turn.transpose(1, 2), torch.eye(3).expand(2, 3, 3), atol=1e-6)


def test_p_follows_the_sign_of_overfitting():
    augment = Augment(("xflip",))
    for _ in range(10):
        augment.adapt(0.9, 0.6, images=1000, speed_kimg=100)
    assert augment.p == pytest.approx(0.1)
    augment.adapt(0.1, 0.6, images=50000, speed_kimg=100)
    assert augment.p == 0
