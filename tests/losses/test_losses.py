"""Loss terms against their formulas."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import ndimage
from torch import Tensor, nn

from facesr.draws import VIEWS, generators_at
from facesr.losses.adversarial import Hinge, RelativisticAverage, Vanilla, r1_penalty
from facesr.losses.coarse import Coarse
from facesr.losses.consistency import Consistency
from facesr.losses.identity import Identity, SicnnIdentity
from facesr.losses.perceptual import Perceptual
from facesr.losses.pixel import L1, Charbonnier, MeanSquare
from facesr.losses.term import LossInputs
from facesr.resample import downscale, downscale_to_grey_levels


class LinearEmbedder(nn.Module):
    """A judge that is one random matrix."""

    name, dim, weights_sha256, differentiable = "linear", 16, "", True
    feature_layers = ("picture", "half")

    def __init__(self) -> None:
        super().__init__()
        self.matrix = torch.randn(3 * 8 * 12, 16, generator=torch.Generator().manual_seed(3))

    def forward(self, batch: Tensor) -> Tensor:
        return nn.functional.normalize(batch.flatten(1) @ self.matrix, dim=1)

    def features(self, batch: Tensor) -> list[Tensor]:
        return [batch, nn.functional.avg_pool2d(batch, 2)]


@pytest.fixture
def inputs() -> LossInputs:
    generator = torch.Generator().manual_seed(1)
    high = (torch.rand(4, 3, 8, 12, generator=generator) * 255).round() / 255
    restored = (high + 0.05 * torch.randn(4, 3, 8, 12, generator=generator)).requires_grad_()
    return LossInputs(downscale_to_grey_levels(high), high, restored)


def test_pixel_terms_against_their_formulas(inputs: LossInputs) -> None:
    difference = (inputs.restored - inputs.high).double()
    assert L1(1, 0)(inputs).item() == pytest.approx(difference.abs().mean().item(), rel=1e-6)
    assert MeanSquare(1, 0, 2.0)(inputs).item() == pytest.approx(4 * difference.square().mean().item(), rel=1e-6)
    expected = (difference.square() + 1e-6).sqrt().mean().item()
    assert Charbonnier(1, 0, 1e-3)(inputs).item() == pytest.approx(expected, rel=1e-6)


def test_the_coarse_term_sees_the_coarse_picture_only(inputs: LossInputs) -> None:
    coarse = inputs.high + 0.1
    of_coarse = LossInputs(inputs.low, inputs.high, inputs.restored, {"coarse": coarse})
    assert Coarse(1, 0)(of_coarse).item() == pytest.approx(0.01, rel=1e-4)


def test_terms_are_zero_for_the_truth(inputs: LossInputs) -> None:
    same = LossInputs(inputs.low, inputs.high, inputs.high)
    judge = LinearEmbedder()
    judged = [Identity(1, 0, judge, views=1.0), SicnnIdentity(1, 0, judge), Perceptual(1, 0, judge)]
    for term in [L1(1, 0), MeanSquare(1, 0), Consistency(1, 0), *judged]:
        assert abs(term(same).item()) < 1e-6, type(term).__name__


def test_consistency_forgives_the_rounding_of_the_input_only(inputs: LossInputs) -> None:
    assert downscale(inputs.high).sub(inputs.low).abs().max() > 1e-4
    brighter = LossInputs(inputs.low, inputs.high, inputs.high + 0.1)
    assert Consistency(1, 0)(brighter).item() == pytest.approx(0.1 - 0.5 / 255, abs=2e-4)


def test_sicnn_form_is_the_cosine_in_disguise(inputs: LossInputs) -> None:
    judge = LinearEmbedder()
    clamped = LossInputs(inputs.low, inputs.high, inputs.restored.clamp(0, 1))
    cosine_loss = Identity(1, 0, judge)(clamped).item()
    assert SicnnIdentity(1, 0, judge)(clamped).item() == pytest.approx(2 * cosine_loss / judge.dim, rel=1e-4)


def test_identity_views_show_both_faces_alike(inputs: LossInputs) -> None:
    judge = LinearEmbedder()
    term = Identity(1, 0, judge, views=1.0)
    first = term.similarity(replace(inputs, seed=1))
    assert not torch.allclose(first, term.similarity(replace(inputs, seed=2)))
    assert not torch.allclose(first, term.similarity(replace(inputs, seed=1, position=4)))
    assert (first > 0.5).all() and (first <= 1 + 1e-6).all()
    first.sum().backward()
    assert inputs.restored.grad is not None and torch.isfinite(inputs.restored.grad).all()


def test_a_faces_view_is_a_function_of_seed_and_place(inputs: LossInputs) -> None:
    term = Identity(1, 0, LinearEmbedder(), views=0.5)
    whole = term.similarity(replace(inputs, seed=7, position=100))
    torch.manual_seed(999)  # nothing is drawn from the global generator
    before = torch.get_rng_state()
    parts = [
        term.similarity(replace(inputs, high=high, restored=restored, seed=7, position=100 + 2 * number))
        for number, (high, restored) in enumerate(zip(inputs.high.split(2), inputs.restored.split(2), strict=True))
    ]
    torch.testing.assert_close(torch.cat(parts), whole, rtol=0, atol=1e-6)
    assert torch.equal(torch.get_rng_state(), before)


def test_the_share_of_views_and_of_blurred_ones_is_as_asked() -> None:
    high = torch.rand(400, 3, 8, 12, generator=torch.Generator().manual_seed(5))
    still = {"max_shift_px": 0.0, "max_scale": 0.0, "roll_degrees": 0.0}
    term = Identity(1, 0, LinearEmbedder(), views=0.5, blur=1.0, **still)
    seen = term._viewed(torch.cat([high, high]), seed=1, position=0)[:400]
    assert (seen != high).flatten(1).any(1).float().mean().item() == pytest.approx(0.5, abs=0.08)
    term = Identity(1, 0, LinearEmbedder(), views=1.0, blur=0.25, **still)
    seen = term._viewed(torch.cat([high, high]), seed=1, position=0)[:400]
    either = torch.minimum((seen - high).abs().amax((1, 2, 3)), (seen - high.flip(-1)).abs().amax((1, 2, 3)))
    assert (either > 1e-3).float().mean().item() == pytest.approx(0.25, abs=0.08)


def test_a_view_of_no_size_is_the_picture(inputs: LossInputs) -> None:
    term = Identity(1, 0, LinearEmbedder(), views=1.0, max_shift_px=0, max_scale=0, roll_degrees=0, blur=0)
    both = torch.cat([inputs.high, inputs.high])
    seen = term._viewed(both, seed=0, position=0)
    plain_or_mirrored = torch.stack([(seen - both).abs().amax((1, 2, 3)), (seen - both.flip(-1)).abs().amax((1, 2, 3))])
    assert (plain_or_mirrored.amin(0) < 1e-5).all()


def test_a_view_is_the_drawn_roll_size_mirror_shift_and_blur() -> None:
    high = torch.rand(12, 3, 8, 12, generator=torch.Generator().manual_seed(5))
    term = Identity(
        1, 0, LinearEmbedder(), views=0.75, max_shift_px=2.0, max_scale=0.2, roll_degrees=30.0, blur=0.5
    )  # fmt: skip
    seen = term._viewed(torch.cat([high, high + 1.0]), seed=3, position=20)
    assert seen.shape == (24, 3, 8, 12)
    across, down = np.meshgrid(np.arange(12) - 5.5, np.arange(8) - 3.5)  # pixels from the middle
    kinds = set()
    for number, generator in enumerate(generators_at(3, 20, 12, VIEWS)):
        roll, size, mirror, x, y, blurred, chosen = generator.random(7, np.float32).astype(np.float64)
        face = high[number].numpy()
        kinds.add((chosen < 0.75, blurred < 0.5, mirror < 0.5))
        if chosen < 0.75:
            angle, factor = math.radians((2 * roll - 1) * 30.0), 1.0 + (2 * size - 1) * 0.2
            turned = across * (-1.0 if mirror < 0.5 else 1.0)
            columns = 5.5 + factor * (math.cos(angle) * turned - math.sin(angle) * down) + (2 * x - 1) * 2.0
            rows = 3.5 + factor * (math.sin(angle) * turned + math.cos(angle) * down) + (2 * y - 1) * 2.0
            face = np.stack(
                [ndimage.map_coordinates(plane, [rows, columns], order=1, mode="nearest") for plane in face]
            )
            if blurred < 0.5:
                inside = ndimage.uniform_filter(np.ones((8, 12)), 3, mode="constant")
                soft = [ndimage.uniform_filter(plane, 3, mode="constant") / inside for plane in face]
                face = 0.5 * face + 0.5 * np.stack(soft)
        np.testing.assert_allclose(seen[number].numpy(), face, atol=1e-4)
        np.testing.assert_allclose(seen[12 + number].numpy(), face + 1.0, atol=1e-4)  # the truth in the same view
    assert {kind[0] for kind in kinds} == {kind[1] for kind in kinds} == {kind[2] for kind in kinds} == {False, True}


def test_judges_are_shown_what_a_png_can_hold(inputs: LossInputs) -> None:
    judge = LinearEmbedder()
    beyond = replace(inputs, restored=3.0 * inputs.high - 1.0)
    inside = replace(
        inputs, restored=torch.minimum(torch.maximum(beyond.restored, torch.tensor(0.0)), torch.tensor(1.0))
    )
    assert beyond.restored.min() < -0.5 and beyond.restored.max() > 1.5
    for term in (Identity(1, 0, judge), SicnnIdentity(1, 0, judge), Perceptual(1, 0, judge)):
        assert term(beyond).item() == term(inside).item() != 0.0, type(term).__name__


def test_the_perceptual_distance_is_between_unit_features(inputs: LossInputs) -> None:
    judge = LinearEmbedder()
    distances = []
    for depth in range(2):
        pair = [
            judge.features(pictures)[depth].detach().numpy() for pictures in (inputs.restored.clamp(0, 1), inputs.high)
        ]
        ours, truth = (features / np.sqrt((features**2).sum(1, keepdims=True)) for features in pair)
        distances.append(np.abs(ours - truth).sum(1).mean())
    assert Perceptual(1, 0, judge)(inputs).item() == pytest.approx(sum(distances) / 2, rel=1e-5)


def test_a_judge_without_gradients_is_refused() -> None:
    judge = LinearEmbedder()
    judge.differentiable = False
    with pytest.raises(ValueError, match="no gradients"):
        Identity(1, 0, judge)


def test_adversarial_losses_against_their_formulas() -> None:
    real, fake = torch.tensor([[2.0], [-1.0]]), torch.tensor([[0.5], [-3.0]])

    def softplus(x: float) -> float:
        return math.log1p(math.exp(x))

    expected = (softplus(0.5) + softplus(-3.0)) / 2 + (softplus(-2.0) + softplus(1.0)) / 2
    assert Vanilla(1, 0).discriminator_loss(fake, real).item() == pytest.approx(expected, rel=1e-6)
    assert Vanilla(1, 0).generator_loss(fake, None).item() == pytest.approx((softplus(-0.5) + softplus(3.0)) / 2)
    assert Hinge(1, 0).discriminator_loss(fake, real).item() == pytest.approx((1.5 + 0.0) / 2 + (0.0 + 2.0) / 2)
    assert Hinge(1, 0).generator_loss(fake, None).item() == pytest.approx(1.25)
    mean_real, mean_fake = 0.5, -1.25
    over = [softplus(-(value - mean_fake)) for value in (2.0, -1.0)]
    under = [softplus(value - mean_real) for value in (0.5, -3.0)]
    expected = 0.5 * (sum(over) / 2 + sum(under) / 2)
    assert RelativisticAverage(1, 0).discriminator_loss(fake, real).item() == pytest.approx(expected, rel=1e-6)


def test_r1_penalty_of_a_linear_discriminator_is_half_its_squared_weight() -> None:
    discriminator = nn.Sequential(nn.Flatten(), nn.Linear(12, 1))
    penalty = r1_penalty(discriminator, torch.rand(5, 3, 2, 2))
    weight = discriminator[1].weight
    assert penalty.item() == pytest.approx(0.5 * weight.square().sum().item(), rel=1e-5)
    penalty.backward()
    torch.testing.assert_close(weight.grad, weight.detach())


def test_a_weight_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="above 0"):
        L1(0.0, 0)
    assert not L1(1, 5).active(4.9) and L1(1, 5).active(5.0)
