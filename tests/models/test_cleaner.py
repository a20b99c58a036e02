"""The cleaner: any size, its starting point, its parts, and the network behind it, which it leaves alone."""

import pytest
import torch

from facesr.losses.clean import CleanInput
from facesr.losses.term import LossInputs
from facesr.models.cleaner import CleanedBicubic, Cleaner
from facesr.models.facesr import FaceSR
from facesr.resample import downscale_to_grey_levels, upscale
from facesr.weights import check_fit

SMALL = {"channels": 32, "num_groups": 1, "num_blocks": 1, "channels_up": 32}


@pytest.mark.parametrize(("height", "width"), [(28, 24), (7, 5), (2, 2)])
def test_it_begins_as_the_identity_at_any_size(height: int, width: int) -> None:
    low = torch.rand(2, 3, height, width)
    assert torch.equal(Cleaner(16)(low), low)
    torch.testing.assert_close(CleanedBicubic(16)(low), upscale(low))


def test_every_weight_learns() -> None:
    torch.manual_seed(0)
    network = Cleaner(16, 0.6, 1.0)
    # Zero weights at the start hide what lies before them.
    torch.nn.init.normal_(network.to_rgb.weight, std=0.05)
    (network(torch.rand(1, 3, 8, 8)) - 0.5).square().mean().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().max() > 0, name


def test_a_pixel_is_cleaned_from_the_whole_face() -> None:
    torch.manual_seed(0)
    network = Cleaner(16)
    torch.nn.init.normal_(network.to_rgb.weight, std=0.05)
    low = torch.rand(1, 3, 28, 24)
    other = low.clone()
    other[..., 20, 12] = 1.0 - other[..., 20, 12]
    moved = (network(other) - network(low)).abs().amax((0, 1))
    assert moved[8, 12] > 0, "twelve rows away"


def test_behind_it_a_network_restores_as_before_and_stays_as_it_is() -> None:
    torch.manual_seed(0)
    plain, cleaned = FaceSR(**SMALL), FaceSR(**SMALL, cleaner_channels=16, train_cleaner_alone=True)
    torch.nn.init.normal_(plain.to_rgb.weight, std=0.05)
    cleaned.load_state_dict(cleaned.grown(plain.state_dict()))
    low = torch.rand(2, 3, 9, 7)
    assert torch.equal(cleaned(low), plain(low))
    torch.nn.init.normal_(cleaned.cleaner.to_rgb.weight, std=0.05)
    assert not torch.allclose(cleaned(low), plain(low))
    assert {name.split(".")[0] for name, value in cleaned.named_parameters() if value.requires_grad} == {"cleaner"}


def test_a_network_and_a_cleaner_that_were_trained_apart_fit_together() -> None:
    alone, behind = CleanedBicubic(16, 0.6, 1.0), FaceSR(**SMALL, rms_limit=0.6, hidden_rms_limit=1.0)
    both = FaceSR(**SMALL, rms_limit=0.6, hidden_rms_limit=1.0, cleaner_channels=16)
    check_fit(both, {**behind.state_dict(), **alone.state_dict()}, "both")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("shape", "words"),
    [({"cleaner_channels": 24}, "multiple of 16"), ({"train_cleaner_alone": True}, "give cleaner_channels=48")],
)
def test_a_shape_that_cannot_be_is_refused(shape: dict[str, int], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        FaceSR(**SMALL, **shape)


def test_the_loss_asks_for_the_enlarged_official_input() -> None:
    torch.manual_seed(0)
    high, low = torch.rand(2, 3, 16, 12), torch.rand(2, 3, 4, 3)
    term = CleanInput(1.0, 0.0)
    clean = upscale(downscale_to_grey_levels(high).float())
    # sqrt(0 + epsilon^2), then sqrt(0.3^2 + epsilon^2): the input itself plays no part.
    assert term(LossInputs(low, high, clean)).item() == pytest.approx(1e-3)
    assert term(LossInputs(low, high, clean + 0.3)).item() == pytest.approx((0.09 + 1e-6) ** 0.5)
