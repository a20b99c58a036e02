"""One training step of a network with one weight, against gradients worked out by hand.

Every picture is one grey c = 0.4, so its official low resolution is c too. The generator has one weight w = 0.5 and
restores w * c everywhere; the discriminator has one weight v = 0.25 and gives v times a picture's mean. Then

    mean square   (w c - c)^2                      gradient in w   2 c^2 (w - 1) = 2 * 0.16 * -0.5 = -0.16
    L1            abs(w c - c)                                     -c                              = -0.4
    hinge, G      -v w c                                           -v c                            = -0.1
    hinge, D      relu(1 + v w c) + relu(1 - v c)  gradient in v   w c - c                         = -0.2
    R1            (v / P)^2 * P / 2 = v^2 / 2P                     v / P = 0.25 / 192

with P = 3 * 8 * 8 = 192 values in a picture. Both optimisers are plain SGD, so a step is -lr times the gradient.
"""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from facesr import dist
from facesr.build import build, known_names, load_group, load_settings
from facesr.config import TrainSettings
from facesr.losses.adversarial import Adversarial, Hinge
from facesr.losses.identity import Identity
from facesr.losses.pixel import L1, MeanSquare
from facesr.losses.term import LossTerm
from facesr.places import Place
from facesr.training.measure import trained_weights
from facesr.training.run import build_players
from facesr.training.step import GanState, train_step, update_average

C, W, V = 0.4, 0.5, 0.25
NUM_VALUES = 3 * 8 * 8
LR = 0.5
GREY = torch.full((2, 3, 8, 8), C)


class OneWeight(nn.Module):
    """The low-resolution picture, enlarged, times w."""

    def __init__(self) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.tensor(W))

    def forward(self, low: Tensor) -> Tensor:
        return self.w * functional.interpolate(low, scale_factor=4)


class OneLogit(nn.Module):
    """The mean of a picture, times v."""

    def __init__(self) -> None:
        super().__init__()
        self.v = nn.Parameter(torch.tensor(V))

    def forward(self, picture: Tensor) -> Tensor:
        return self.v * picture.flatten(1).mean(1, keepdim=True)


def players_of(
    terms: dict[str, LossTerm], adversarial: Adversarial | None = None, clip: float = 0.0, **more: Any
) -> GanState:
    generator = OneWeight()
    optimizer = torch.optim.SGD(generator.parameters(), LR)
    gan = GanState(generator, optimizer, terms, "fp32", clip, adversarial=adversarial, **more)
    if adversarial is not None:
        gan.discriminator = OneLogit()
        gan.discriminator_optimizer = torch.optim.SGD(gan.discriminator.parameters(), LR)
    return gan


def weights(gan: GanState) -> tuple[float, float]:
    v = gan.discriminator.v.item() if gan.discriminator is not None else V  # type: ignore[union-attr, operator]
    return gan.generator.w.item(), v  # type: ignore[union-attr, operator]


def about(value: float) -> Any:
    return pytest.approx(value, abs=2e-7)


# The generator's terms


@pytest.mark.parametrize(
    ("make", "gradient", "loss"), [(MeanSquare, -0.16, 0.04), (L1, -0.4, 0.2)], ids=["mean square", "L1"]
)
@pytest.mark.parametrize("weight", [1.0, 3.0, 0.25])
def test_a_term_moves_the_generator_by_its_weight(
    make: Callable[[float, float], LossTerm], gradient: float, loss: float, weight: float
) -> None:
    gan = players_of({"pixel": make(weight, 0.0)})
    figures = train_step(gan, [GREY], 0.0)
    assert weights(gan)[0] == about(W - LR * weight * gradient)
    assert figures["loss/pixel"].item() == about(loss)  # terms are told unweighted, the total weighted
    assert figures["loss/total"].item() == about(weight * loss)
    assert figures["gradient_norm/generator"].item() == about(weight * -gradient)


def test_terms_add_up_and_each_waits_for_its_start() -> None:
    def step(kimg: float) -> tuple[float, dict[str, Tensor]]:
        gan = players_of({"first": MeanSquare(2.0, 0.0), "later": L1(0.5, 10.0)})
        figures = train_step(gan, [GREY], kimg)
        return weights(gan)[0], figures

    before, early = step(9.999)
    assert before == about(W + LR * 2.0 * 0.16) and "loss/later" not in early
    after, late = step(10.0)
    assert after == about(W + LR * (2.0 * 0.16 + 0.5 * 0.4))
    assert late["loss/total"].item() == about(2.0 * 0.04 + 0.5 * 0.2)


@pytest.mark.parametrize("name", known_names("loss"))
def test_every_loss_takes_its_weight_and_start(name: str) -> None:
    term = build(load_group("loss", name, ["weight=3.5", "start_kimg=7.0"]), Place.LOSS)
    assert isinstance(term, LossTerm)
    assert (term.weight, term.start_kimg) == (3.5, 7.0)
    assert not term.active(6.999) and term.active(7.0)


def test_gradients_start_from_nothing_at_every_step() -> None:
    gan = players_of({"pixel": L1(1.0, 0.0)})
    for _ in range(2):
        train_step(gan, [GREY], 0.0)
    # L1's gradient is -0.4 while w < 1: two steps of 0.2, and nothing left over from the first in the second.
    assert weights(gan)[0] == about(W + 2 * LR * 0.4)
    assert gan.num_steps == 2
    gan = players_of({"pixel": L1(1.0, 0.0)}, Hinge(1.0, 0.0))
    for _ in range(2):
        train_step(gan, [GREY], 0.0)
    # The discriminator's is w c - c with the w before the step: 0.5, then 0.5 + 0.5 * (0.4 + 0.1) = 0.75.
    assert weights(gan)[1] == about(V + LR * (0.2 + 0.1))


# The game of the two


@pytest.mark.parametrize("weight", [1.0, 0.5])
def test_both_players_move_by_their_own_loss_alone(weight: float) -> None:
    gan = players_of({"pixel": MeanSquare(1.0, 0.0)}, Hinge(weight, 0.0))
    figures = train_step(gan, [GREY], 0.0)
    w, v = weights(gan)
    # The discriminator's gradient would be -0.2 - weight * w c if the generator's loss reached it, and the generator's
    # -0.16 - weight * 0.1 + v c if the discriminator's loss reached that.
    assert w == about(W + LR * (0.16 + weight * 0.1))
    assert v == about(V + LR * 0.2)
    assert figures["loss/adversarial"].item() == about(-V * W * C)
    assert figures["loss/discriminator"].item() == about((1 + V * W * C) + (1 - V * C))
    assert figures["loss/total"].item() == about(0.04 - weight * V * W * C)
    assert (figures["logit/real"].item(), figures["logit/fake"].item()) == (about(V * C), about(V * W * C))
    assert figures["gradient_norm/discriminator"].item() == about(0.2)


def test_the_discriminator_can_be_trained_after_the_generators_turn() -> None:
    gan = players_of({"pixel": MeanSquare(1.0, 0.0)}, Hinge(1.0, 0.0))
    train_step(gan, [GREY], 0.0)
    first = weights(gan)[1]
    train_step(gan, [GREY], 0.0)
    assert weights(gan)[1] > first


def test_nobody_plays_before_the_start() -> None:
    gan = players_of({"pixel": MeanSquare(1.0, 0.0)}, Hinge(1.0, 5.0, r1_gamma=1.0))
    figures = train_step(gan, [GREY], 4.999)
    assert weights(gan) == (about(W + LR * 0.16), V)
    assert not {"loss/adversarial", "loss/discriminator", "loss/r1", "gradient_norm/discriminator"} & set(figures)
    assert "loss/adversarial" in train_step(gan, [GREY], 5.0)


def test_the_penalty_comes_every_so_many_steps_and_weighs_as_many_times_more() -> None:
    gamma, every = 8.0, 3
    gan = players_of({"pixel": MeanSquare(1.0, 0.0)}, Hinge(1.0, 0.0, gamma, every))
    figures = train_step(gan, [GREY], 0.0)
    # gamma * every * v / P = 8 * 3 * 0.25 / 192 = 0.03125, beside the hinge's -0.2.
    assert weights(gan)[1] == about(V - LR * (-0.2 + 0.03125))
    assert figures["loss/r1"].item() == about(V**2 / (2 * NUM_VALUES))
    assert figures["loss/discriminator"].item() == about(2 + V * W * C - V * C)  # told without the penalty
    with_penalty = ["loss/r1" in train_step(gan, [GREY], 0.0) for _ in range(6)]
    assert with_penalty == [False, False, True, False, False, True]


def test_no_penalty_without_a_weight() -> None:
    gan = players_of({"pixel": MeanSquare(1.0, 0.0)}, Hinge(1.0, 0.0, r1_gamma=0.0, r1_every=1))
    assert "loss/r1" not in train_step(gan, [GREY], 0.0)


# Clipping


@pytest.mark.parametrize(("clip", "share_w", "share_v"), [(0.13, 0.5, 0.65), (0.0, 1.0, 1.0), (5.0, 1.0, 1.0)])
def test_each_networks_gradient_is_clipped_by_itself(clip: float, share_w: float, share_v: float) -> None:
    # The gradients are -0.26 and -0.2: a limit of 0.13 leaves half of the one and 65 % of the other.
    gan = players_of({"pixel": MeanSquare(1.0, 0.0)}, Hinge(1.0, 0.0), clip=clip)
    figures = train_step(gan, [GREY], 0.0)
    # clip_grad_norm_ divides by the norm + 1e-6.
    assert weights(gan)[0] == pytest.approx(W + LR * 0.26 * share_w, abs=2e-6)
    assert weights(gan)[1] == pytest.approx(V + LR * 0.2 * share_v, abs=2e-6)
    assert figures["gradient_norm/generator"].item() == about(0.26)  # as it was before


def test_a_gradient_that_is_not_finite_moves_nothing() -> None:
    gan = players_of({"pixel": MeanSquare(1.0, 0.0)}, Hinge(1.0, 0.0))
    figures = train_step(gan, [torch.full((2, 3, 8, 8), float("nan"))], 0.0)
    assert weights(gan) == (W, V)
    assert not figures["loss/total"].isfinite()


# Accumulation, and ranks


def greys(*values: float) -> Tensor:
    """Returns one even picture (3, 8, 8) for each value."""
    return torch.tensor(values).view(-1, 1, 1, 1).expand(-1, 3, 8, 8).contiguous()


@pytest.mark.parametrize("num_parts", [1, 2, 4])
def test_parts_of_a_batch_give_the_gradient_of_the_whole(num_parts: int) -> None:
    # Greys 51 k / 255 = 0.2 k: the gradient is the mean of 2 c^2 (w - 1) = -c^2, so -(0.04 + 0.16 + 0.36 + 0.64) / 4;
    # the discriminator's is the mean of w c - c = -c / 2, so -0.25.
    batch = greys(0.2, 0.4, 0.6, 0.8)
    gan = players_of({"pixel": MeanSquare(1.0, 0.0)}, Hinge(1.0, 0.0, r1_gamma=8.0, r1_every=3))
    figures = train_step(gan, batch.chunk(num_parts), 0.0)
    assert weights(gan) == (about(W + LR * (0.3 + V * 0.5)), about(V + LR * (0.25 - 0.03125)))
    assert figures["loss/pixel"].item() == about(0.3 / 4)
    assert figures["loss/r1"].item() == about(V**2 / (2 * NUM_VALUES))


class PlainJudge(nn.Module):
    """A judge that is one random matrix."""

    name, differentiable = "plain", True

    def __init__(self) -> None:
        super().__init__()
        self.matrix = torch.randn(3 * 16 * 16, 16, generator=torch.Generator().manual_seed(3))

    def forward(self, batch: Tensor) -> Tensor:
        return functional.normalize(batch.flatten(1) @ self.matrix, dim=1)


class ThreeWeights(nn.Module):
    """The low-resolution picture, enlarged, each colour times a weight."""

    def __init__(self) -> None:
        super().__init__()
        self.colours = nn.Parameter(torch.tensor([0.9, 0.7, 0.5]).view(3, 1, 1))

    def forward(self, low: Tensor) -> Tensor:
        return self.colours * functional.interpolate(low, scale_factor=4)


def colour_gradient(parts: list[Tensor], kimg: float = 0.064) -> Tensor:
    """Returns the gradient of an identity loss with random views."""
    generator = ThreeWeights()
    term = Identity(1.0, 0.0, PlainJudge(), views=0.7, max_shift_px=3.0)
    gan = GanState(generator, torch.optim.SGD(generator.parameters(), 0.0), {"identity": term}, "fp32", 0.0, seed=5)
    train_step(gan, parts, kimg)
    assert generator.colours.grad is not None
    return generator.colours.grad.flatten().clone()


def test_views_are_the_same_in_parts_and_on_ranks(monkeypatch: pytest.MonkeyPatch) -> None:
    faces = (torch.rand(8, 3, 16, 16, generator=torch.Generator().manual_seed(1)) * 255).round() / 255
    whole = colour_gradient([faces])
    torch.manual_seed(999)
    assert torch.equal(whole, colour_gradient([faces])), "the global generator took part"
    torch.testing.assert_close(colour_gradient(list(faces.chunk(4))), whole, rtol=0, atol=1e-6)
    of_ranks = []
    for rank in range(2):
        monkeypatch.setattr(dist, "rank", lambda rank=rank: rank)
        of_ranks.append(colour_gradient(list(faces[4 * rank : 4 * rank + 4].chunk(2))))
    torch.testing.assert_close((of_ranks[0] + of_ranks[1]) / 2, whole, rtol=0, atol=1e-6)
    monkeypatch.undo()
    assert (colour_gradient([faces], kimg=0.072) - whole).abs().max() > 1e-4, "the views did not change with the clock"


# The averaged generator


def average_after(num_faces: int, num_images: int, halflife_kimg: float) -> float:
    gan = players_of({"pixel": L1(1.0, 0.0)})
    with torch.no_grad():
        gan.generator.w.fill_(1.5)  # type: ignore[operator, union-attr]
    update_average(gan, num_faces, num_images, halflife_kimg)
    value: float = gan.average.w.item()  # type: ignore[assignment, operator, union-attr]
    return value


def test_the_average_goes_half_the_way_in_a_half_life() -> None:
    # From 0.5 toward 1.5: after one half-life 1.0; after two 1.25; after a quarter 1.5 - 0.5^0.25.
    assert average_after(1000, 10**9, 1.0) == about(1.0)
    assert average_after(2000, 10**9, 1.0) == about(1.25)
    assert average_after(250, 10**9, 1.0) == about(1.5 - 0.5**0.25)


def test_the_half_life_is_at_most_a_twentieth_of_the_images_seen() -> None:
    assert average_after(100, 2000, 1000.0) == about(1.0)  # 5 % of 2000 are 100
    assert average_after(100, 4000, 1000.0) == about(1.5 - 0.5**0.5)


def test_without_a_half_life_the_average_is_the_network() -> None:
    assert average_after(4, 1000, 0.0) == 1.5


def test_the_average_copies_whole_numbers() -> None:
    gan = players_of({"pixel": L1(1.0, 0.0)})
    for network, value in ((gan.generator, 7), (gan.average, 0)):
        network.register_buffer("count", torch.tensor(value))
    update_average(gan, 4, 10**6, 1.0)
    assert gan.average.get_buffer("count").item() == 7


def test_the_average_itself_is_never_trained() -> None:
    gan = players_of({"pixel": L1(1.0, 0.0)})
    train_step(gan, [GREY], 0.0)
    assert gan.average.w.item() == W  # type: ignore[operator, union-attr]
    assert not any(parameter.requires_grad for parameter in gan.average.parameters())
    assert not gan.average.training


# Precision


class Listening(OneWeight):
    """Keeps in what it is computed."""

    def forward(self, low: Tensor) -> Tensor:
        self.seen = (torch.is_autocast_enabled("cpu"), torch.get_autocast_dtype("cpu"))
        return super().forward(low)


@pytest.mark.parametrize(("precision", "dtype"), [("fp32", None), ("bf16", torch.bfloat16), ("fp16", torch.float16)])
def test_a_step_is_computed_in_its_precision_and_scaled_where_that_is_small(
    precision: str, dtype: torch.dtype | None
) -> None:
    generator = Listening()
    optimizer = torch.optim.SGD(generator.parameters(), LR)
    gan = GanState(generator, optimizer, {"mse": MeanSquare(1.0, 0.0)}, precision, 0.0)
    assert gan.scaler.is_enabled() is (precision == "fp16") and gan.scaler._device == "cpu"
    train_step(gan, [GREY], 0.0)
    enabled, of_autocast = generator.seen
    assert enabled is (dtype is not None) and (dtype is None or of_autocast is dtype)


@pytest.mark.parametrize("optimizer", ["adam", "muon"])
def test_a_network_that_is_trained_in_part_moves_in_that_part_alone(optimizer: str) -> None:
    keys = (
        "generator.channels=32", "generator.num_groups=1", "generator.num_blocks=1", "generator.channels_up=32",
        "+generator.cleaner_channels=16", "+generator.train_cleaner_alone=true", "device=cpu", "precision=fp32",
        "~losses.identity", "~losses.adversarial", "discriminator=none",
        f"optimizer@generator_optimizer={optimizer}", "generator_optimizer.lr=0.01",
    )  # fmt: skip
    gan = build_players(load_settings("train", TrainSettings, keys), torch.device("cpu"))
    nn.init.normal_(gan.generator.get_submodule("to_rgb").weight, std=0.05)
    nn.init.normal_(gan.generator.get_submodule("cleaner.to_rgb").weight, std=0.05)
    before = {name: value.clone() for name, value in gan.generator.state_dict().items()}
    assert 0 < sum(map(torch.numel, trained_weights(gan.generator_optimizer))) < sum(map(torch.numel, before.values()))
    train_step(gan, [torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))], kimg=1.0)
    for name, value in gan.generator.state_dict().items():
        assert torch.equal(value, before[name]) != name.startswith("cleaner."), name
