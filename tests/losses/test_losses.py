"""Losses against hand computation."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from mssg import assets
from mssg.losses import adversarial
from mssg.losses.covariate import CovariateLoss, added
from mssg.losses.regularizers import gradient_penalty, path_length
from mssg.study.covariate import Covariate
from mssg.study.model import Source, Study
from mssg.study.schema import load_study

GOLDEN = np.load(Path(__file__).resolve().parents[1] / "golden" / "covariate_losses.npz")
STUDY = Study(
    "s",
    32,
    1,
    (
        Covariate("age", "continuous", offset=0.0, spread=1.0),
        Covariate("vol", "continuous", offset=0.0, spread=1.0),
        Covariate("sex", "binary"),
        Covariate("dr", "categorical", levels=("0", "1", "2")),
    ),
    (Source("A", "a", ("age", "vol", "sex", "dr")),),
)


def batch(n=6, seed=0):
    generator = torch.Generator().manual_seed(seed)
    outputs = torch.randn(n, 6, generator=generator, dtype=torch.float64)
    target = torch.randn(n, 6, generator=generator, dtype=torch.float64)
    target[:, 2] = (target[:, 2] > 0).double()
    target[:, 3:] = F.one_hot(torch.arange(n) % 3, 3).double()
    return outputs, target


def test_default_groups_are_the_papers():
    outputs, target = batch()
    loss, _ = CovariateLoss(STUDY)(outputs, target)
    expected = (
        F.mse_loss(outputs[:, :2], target[:, :2])
        + F.binary_cross_entropy_with_logits(outputs[:, 2], target[:, 2])
        + F.cross_entropy(outputs[:, 3:], target[:, 3:].argmax(1))
    )
    assert loss.item() == pytest.approx(expected.item(), rel=1e-12)


@pytest.mark.parametrize("name", sorted({key.split("/")[0] for key in GOLDEN}))
def test_the_shipped_studies_have_the_research_codes_loss(name):
    """Its own classes gave `expected` for these outputs and targets, in float32."""
    for variant in (name, f"{name}-ada"):
        study = load_study(assets.path(f"studies/{variant}.toml"))
        outputs, target = (
            torch.from_numpy(np.concatenate([GOLDEN[f"{name}/{v}/{which}"] for v in study.layout], 1))
            for which in ("output", "target")
        )
        loss, _ = CovariateLoss(study)(outputs.double(), target.double())
        assert loss.item() == pytest.approx(float(GOLDEN[f"{name}/expected"]), rel=1e-6)


def test_weights_and_groups():
    outputs, target = batch()
    age, vol, sex, dr = STUDY.covariates
    study = replace(
        STUDY,
        covariates=(replace(age, loss_group="a", loss_weight=3.0), vol, sex, replace(dr, loss_weight=0.0)),
    )
    loss, _ = CovariateLoss(study)(outputs, target)
    mse = (outputs - target).square().mean(0)
    expected = 3 * mse[0] + mse[1] + F.binary_cross_entropy_with_logits(outputs[:, 2], target[:, 2])
    assert loss.item() == pytest.approx(expected.item(), rel=1e-12)


def test_unobserved_rows_do_not_count_and_carry_no_gradient():
    outputs, target = batch()
    mask = torch.ones(6, 4, dtype=torch.bool)
    mask[:4, 1] = False
    mask[:, 2] = False
    target[:4, 1] = float("nan")
    target[:, 2] = float("nan")
    outputs.requires_grad_(True)
    loss, terms = CovariateLoss(STUDY)(outputs, target, mask)
    loss.backward()
    assert torch.isfinite(loss) and "sex" not in terms.means()
    assert (
        (outputs.grad[:4, 1] == 0).all()
        and (outputs.grad[:, 2] == 0).all()
        and (outputs.grad[4:, 1] != 0).all()
    )
    expected = (outputs[4:, 1] - target[4:, 1]).square().mean()
    assert terms.means()["vol"] == pytest.approx(expected.item())


def test_no_value_is_read_back_from_the_device():
    """Tensors without values: reading one, as waiting for a GPU does, would raise."""
    outputs, target = (part.to("meta").requires_grad_(n == 0) for n, part in enumerate(batch()))
    mask = torch.ones(6, 4, dtype=torch.bool, device="meta")
    loss, terms = CovariateLoss(STUDY)(outputs, target, mask, mask.sum(0))
    loss.backward()
    assert outputs.grad.shape == (6, 6) and added([terms, terms]).sums.shape == (4,)


def test_parts_with_global_counts_add_up():
    outputs, target = batch(12)
    mask = torch.rand(12, 4, generator=torch.Generator().manual_seed(1)) < 0.6
    whole, terms = CovariateLoss(STUDY)(outputs, target, mask)
    counts = mask.sum(0)
    parts = [CovariateLoss(STUDY)(outputs[i::3], target[i::3], mask[i::3], counts) for i in range(3)]
    assert sum(loss for loss, _ in parts).item() == pytest.approx(whole.item(), rel=1e-12)
    assert added([part for _, part in parts]).means() == pytest.approx(terms.means(), rel=1e-12)


def test_adversarial_losses():
    real, fake = torch.tensor([0.3, -1.0]), torch.tensor([2.0, 0.1])
    sigma = torch.sigmoid
    assert adversarial.logistic_generator(fake).item() == pytest.approx(-sigma(fake).log().mean().item())
    expected = -(sigma(real).log() + (1 - sigma(fake)).log()).mean()
    assert adversarial.logistic_discriminator(real, fake).item() == pytest.approx(expected.item(), rel=1e-6)
    assert adversarial.relativistic_discriminator(real, fake).item() == pytest.approx(
        -sigma(real - fake).log().mean().item(), rel=1e-6
    )
    assert adversarial.relativistic_generator(real, fake).item() == pytest.approx(
        -sigma(fake - real).log().mean().item(), rel=1e-6
    )


def test_gradient_penalty_of_a_linear_function():
    images, weight = torch.randn(4, 1, 3, 3, requires_grad=True), torch.randn(1, 3, 3)
    penalty = gradient_penalty(images, (images * weight).sum([1, 2, 3]))
    np.testing.assert_allclose(penalty.detach(), np.full(4, weight.square().sum().item()), rtol=1e-5)


def test_path_length_of_a_linear_map():
    torch.manual_seed(0)
    ws = torch.randn(20000, 1, 3, requires_grad=True)
    images = (ws[:, 0] * 2.0).view(-1, 3, 1, 1)
    penalty, mean = path_length(images, ws, torch.zeros(()), decay=1.0)
    expected = (torch.randn(100000, 3) * 2).square().sum(1).sqrt()
    assert mean.item() == pytest.approx(expected.mean().item(), rel=0.02)
    assert penalty.mean().item() == pytest.approx(expected.var().item(), rel=0.05)


def test_the_mean_reading_of_what_was_not_recorded():
    outputs, completed = batch(8)
    recorded = torch.ones(8, 4, dtype=torch.bool)
    recorded[2:, 1] = False
    recorded[:, 2:] = False  # levels have no mean reading
    means, rows = CovariateLoss(STUDY).apart(outputs, completed, recorded)
    assert means.tolist() == pytest.approx([0, (outputs - completed)[2:, 1].mean().item(), 0, 0])
    assert rows.tolist() == [0, 6, 8, 8]


def test_a_constant_error_of_the_mean_reading_goes_and_the_spread_stays():
    rng = torch.Generator().manual_seed(0)
    loss = CovariateLoss(replace(STUDY, covariates=STUDY.covariates[:1], sources=(Source("A", "a", ()),)))
    shift, gain, running = (
        torch.zeros(1, requires_grad=True),
        torch.ones(1, requires_grad=True),
        torch.zeros(1),
    )
    optimiser = torch.optim.SGD([shift, gain], lr=0.02)
    for _ in range(400):
        truth, drawn = torch.randn(2, 16, 1, generator=rng)  # as a covariate model draws: of the same people
        outputs = gain * truth + shift + 1.5
        means, _ = loss.apart(outputs, drawn, torch.zeros(16, 1, dtype=torch.bool))
        running.lerp_(means.detach(), 0.02)
        optimiser.zero_grad()
        loss.pull(means, running).backward()
        optimiser.step()
    assert shift.item() == pytest.approx(-1.5, abs=0.15) and gain.item() == pytest.approx(1, abs=0.1)
