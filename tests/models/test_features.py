"""The largest feature of each picture, by hand."""

import torch
from torch import Tensor, nn

from facesr.models.facesr import FaceSR
from facesr.models.features import recorded


class Twice(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Identity()

    def forward(self, low: Tensor) -> Tensor:
        return self.inner(-8.0 * low) / 16.0


def test_each_picture_has_its_own_largest_absolute_feature() -> None:
    network = Twice()
    low = torch.tensor([0.5, 1.0, 0.25]).view(3, 1, 1, 1).expand(3, 3, 2, 2)
    with recorded(network) as found:
        network(low[:2])
        network(low[2:])
    # The inner layer has -8 times the input, the network's answer half the input.
    assert found.per_picture().tolist() == [4.0, 8.0, 2.0]
    network(low)
    assert len(found.per_picture()) == 3, "still recording after the context"


def test_a_feature_that_is_no_number_is_infinite() -> None:
    low = torch.full((1, 3, 2, 2), float("nan"))
    with recorded(Twice()) as found:
        Twice()(low)
        assert len(found.per_picture()) == 0
    network = Twice()
    with recorded(network) as found:
        network(low)
    assert found.per_picture().tolist() == [float("inf")]


def test_recording_changes_nothing() -> None:
    torch.manual_seed(0)
    network = FaceSR(channels=32, num_groups=1, num_blocks=1, channels_up=32, num_hourglass_blocks=1).eval()
    low = torch.rand(2, 3, 8, 8)
    plain = network(low)
    with recorded(network) as found:
        assert torch.equal(network(low), plain)
    assert found.per_picture().min() > plain.abs().max() / 2
