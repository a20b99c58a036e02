"""The project's own generator: any size, its starting point, its parts."""

import pytest
import torch

from facesr.models.blocks import ResidualBlock, bounded
from facesr.models.counting import count_macs, count_parameters
from facesr.models.facesr import FaceSR, Hourglass
from facesr.resample import upscale

SMALL = {"channels": 32, "num_groups": 1, "num_blocks": 1, "num_hourglass_blocks": 1, "channels_up": 32}


@pytest.mark.parametrize(("height", "width"), [(28, 24), (7, 5), (33, 17), (2, 2)])
def test_any_size_comes_back_four_times_as_large(height: int, width: int) -> None:
    assert FaceSR(**SMALL)(torch.rand(2, 3, height, width)).shape == (2, 3, 4 * height, 4 * width)


@pytest.mark.parametrize("channels_out", [0, 32])
def test_training_starts_from_the_bicubic_picture(channels_out: int) -> None:
    low = torch.rand(2, 3, 9, 6)
    torch.testing.assert_close(FaceSR(**SMALL, channels_out=channels_out)(low), upscale(low))


def test_every_weight_learns() -> None:
    torch.manual_seed(0)
    network = FaceSR(**SMALL, channels_out=32)
    for name, parameter in network.named_parameters():
        # Zero weights at the start hide what lies before them.
        if parameter.abs().max() == 0:
            torch.nn.init.normal_(parameter, std=0.05)
        assert parameter.requires_grad, name
    network(torch.rand(1, 3, 8, 8)).square().mean().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().max() > 0, name


def test_without_a_middle_block_no_layer_is_at_twice_the_size_but_the_colours() -> None:
    network, low = FaceSR(**SMALL, middle_block=False), torch.rand(2, 3, 8, 12)
    # Two 3x3 convolutions of 32 channels at 16x24.
    assert count_macs(FaceSR(**SMALL), 8, 12) - count_macs(network, 8, 12) == 16 * 24 * 2 * 32 * 32 * 9
    assert not any(name.startswith("middle") for name in network.state_dict())
    torch.testing.assert_close(network(low), upscale(low))


@pytest.mark.parametrize("middle_block", [True, False])
def test_what_the_colours_are_made_of_is_within_the_limit(middle_block: bool) -> None:
    torch.manual_seed(0)
    network, seen = FaceSR(**SMALL, rms_limit=0.6, middle_block=middle_block), []
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.15)
    network.to_rgb.register_forward_pre_hook(lambda _layer, inputs: seen.append(inputs[0].square().mean(1).sqrt()))
    network(50.0 * torch.randn(1, 3, 8, 8))
    assert 0.5 < seen[0].max().item() <= 0.6001


def test_a_group_starts_as_a_plain_residual_group() -> None:
    features = torch.rand(1, 32, 8, 12)
    assert torch.equal(Hourglass(32, 1)(features), features)


def test_a_network_without_hourglasses_grows_them_and_restores_alike() -> None:
    torch.manual_seed(0)
    shape = {"channels": 32, "num_groups": 2, "num_blocks": 2, "channels_up": 32}
    small, large = FaceSR(**shape), FaceSR(**shape, num_hourglass_blocks=1)
    torch.nn.init.normal_(small.to_rgb.weight, std=0.05)
    large.load_state_dict(large.grown(small.state_dict()))
    low = torch.rand(2, 3, 8, 12)
    torch.testing.assert_close(large(low), small(low))
    assert not torch.allclose(small(low), upscale(low))


def test_weights_that_need_not_grow_stay_as_they_are() -> None:
    small, large = FaceSR(**{**SMALL, "num_hourglass_blocks": 0}), FaceSR(**SMALL)
    for network, state in ((large, large.state_dict()), (small, small.state_dict()), (small, large.state_dict())):
        grown = network.grown(state)
        assert grown.keys() == state.keys()
        assert all(grown[name] is state[name] for name in state)


def test_a_pixel_beyond_the_limit_is_scaled_as_a_whole() -> None:
    # Root mean squares over the two channels: sqrt((9 + 16) / 2) = 3.54 and sqrt((0.09 + 0.16) / 2) = 0.354.
    features = torch.tensor([[3.0, 0.3], [4.0, 0.4]]).view(1, 2, 1, 2)
    found = bounded(features, 0.5)
    assert torch.equal(found[..., 1], features[..., 1])
    torch.testing.assert_close(found[0, :, 0, 0], torch.tensor([3.0, 4.0]) * 0.5 / 12.5**0.5)
    assert bounded(features, None) is features


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_huge_features_come_down_to_the_limit_in_every_precision(dtype: torch.dtype) -> None:
    features = torch.full((1, 32, 1, 1), 60000.0, dtype=dtype)
    found = bounded(features, 0.6)
    assert found.dtype == dtype
    assert found.float().square().mean().sqrt().item() == pytest.approx(0.6, rel=0.02)


def test_the_limit_has_gradients_on_both_sides() -> None:
    # On the sphere a move along the radius changes nothing, one across it does; a pixel of zeros has a gradient, too.
    features = torch.tensor([[3.0, 0.0], [4.0, 0.0]]).view(1, 2, 1, 2).requires_grad_()
    bounded(features, 0.5).backward(torch.tensor([[4.0, 1.0], [-3.0, 1.0]]).view(1, 2, 1, 2))
    assert features.grad is not None
    scale = 0.5 * 2**0.5 / 5.0
    torch.testing.assert_close(features.grad[0, :, 0, 0], torch.tensor([4.0, -3.0]) * scale)
    assert torch.equal(features.grad[0, :, 0, 1], torch.ones(2))


def run_away(num_hourglass_blocks: int, rms_limit: float | None, hidden_rms_limit: float | None = None) -> FaceSR:
    """Returns a network whose every block multiplies its features by two and more."""
    torch.manual_seed(0)
    limits = {"rms_limit": rms_limit, "hidden_rms_limit": hidden_rms_limit}
    network = FaceSR(
        32, num_groups=3, num_blocks=4, num_hourglass_blocks=num_hourglass_blocks, channels_up=32, **limits
    )
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.15)
    return network


@pytest.mark.parametrize("num_hourglass_blocks", [0, 1])
def test_no_picture_runs_away_inside_a_group(num_hourglass_blocks: int) -> None:
    low = torch.cat([torch.rand(2, 3, 8, 8), torch.zeros(1, 3, 8, 8), 50.0 * torch.randn(1, 3, 8, 8)])
    seen: list[float] = []

    def note(layer: torch.nn.Module, inputs: object, output: torch.Tensor) -> None:
        seen.append(output.square().mean(1).sqrt().max().item())

    largest = {}
    for limit in (0.6, None):
        network = run_away(num_hourglass_blocks, limit)
        for layer in network.modules():
            if isinstance(layer, ResidualBlock | Hourglass):
                layer.register_forward_hook(note)
        network(low).sum().backward()
        assert all(torch.isfinite(parameter.grad).all() for parameter in network.parameters())
        largest[limit] = max(seen)
        seen.clear()
    assert largest[0.6] <= 0.6001
    # Without a limit a group multiplies them; the clamp behind it hides that.
    assert largest[None] > 100.0


@pytest.mark.parametrize("num_hourglass_blocks", [0, 1])
def test_hidden_features_stay_within_their_limit_whatever_the_weights(num_hourglass_blocks: int) -> None:
    low = torch.cat([torch.rand(2, 3, 8, 8), torch.zeros(1, 3, 8, 8), 50.0 * torch.randn(1, 3, 8, 8)])
    largest: dict[float | None, float] = {}
    for limit in (1.0, None):
        network = run_away(num_hourglass_blocks, 0.6, limit)
        seen: list[float] = []
        blocks = [layer for layer in network.modules() if isinstance(layer, ResidualBlock)]
        assert len(blocks) == 13 + 9 * num_hourglass_blocks
        for block in blocks:
            block.second.register_forward_pre_hook(
                lambda _layer, inputs, seen=seen: seen.append(inputs[0].square().mean(1).sqrt().max().item())
            )
        network(low)
        assert len(seen) == len(blocks)
        largest[limit] = max(seen)
    assert largest[1.0] <= 1.0001
    assert largest[None] > 1.5


@pytest.mark.parametrize("name", ["rms_limit", "hidden_rms_limit"])
def test_a_limit_that_no_feature_reaches_changes_no_bit(name: str) -> None:
    torch.manual_seed(0)
    plain, limited = FaceSR(**SMALL), FaceSR(**SMALL, **{name: 1e4})
    torch.nn.init.normal_(plain.to_rgb.weight, std=0.05)
    limited.load_state_dict(plain.state_dict())
    low = torch.rand(2, 3, 8, 8)
    assert torch.equal(plain(low), limited(low))


def test_a_snapshot_without_a_limit_is_clamped_behind_each_group() -> None:
    network = run_away(0, None)
    seen: list[float] = []
    network.body[-1].register_forward_pre_hook(lambda _layer, inputs: seen.append(inputs[0].abs().max().item()))
    network(torch.rand(2, 3, 8, 8))
    assert seen == [8.0]


@pytest.mark.parametrize("name", ["rms_limit", "hidden_rms_limit"])
@pytest.mark.parametrize("limit", [0.0, -1.0, float("inf"), float("nan")])
def test_a_limit_out_of_range_is_refused(name: str, limit: float) -> None:
    with pytest.raises(ValueError, match=f"^{name} must be above 0 and finite"):
        FaceSR(**SMALL, **{name: limit})


def test_a_corner_reaches_the_whole_face() -> None:
    torch.manual_seed(0)
    network = FaceSR(**SMALL)
    for parameter in network.parameters():
        if parameter.abs().max() == 0:
            torch.nn.init.normal_(parameter, std=0.05)
    low = torch.rand(1, 3, 28, 24, requires_grad=True)
    network(low)[0, :, 56, 48].sum().backward()
    assert low.grad is not None and low.grad[0, :, 0, 0].abs().max() > 0


def test_figures_that_the_configuration_states() -> None:
    network = FaceSR()
    assert count_parameters(network) == 2380908
    assert count_macs(network, 28, 24) == 1760596992
    network = FaceSR(num_blocks=3, num_hourglass_blocks=1)
    assert count_parameters(network) == 6_753_036
    assert count_macs(network, 28, 24) == 1_899_942_912


def test_widths_that_matrix_units_do_not_like_are_refused() -> None:
    with pytest.raises(ValueError, match="multiples of 32"):
        FaceSR(channels=48)
