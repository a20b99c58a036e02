"""A network run by onnxruntime beside the same network in PyTorch."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from facesr.embedders.facenet import FaceNet
from facesr.embedders.session import session_of


class Small(nn.Module):
    """One of everything that `session_of` knows."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 8, 3, stride=2, padding=1)
        self.grouped = nn.Conv2d(8, 8, (1, 5), padding=(0, 2), groups=2, bias=False)
        self.dilated = nn.Conv2d(8, 8, 3, padding=2, dilation=2)
        self.pool = nn.MaxPool2d(3, stride=2, ceil_mode=True)
        self.relu = nn.ReLU()
        self.mean = nn.AdaptiveAvgPool2d(1)
        self.dropout = nn.Dropout(0.5)
        self.last = nn.Linear(16, 6)
        self.norm = nn.BatchNorm1d(6, eps=0.01)

    def forward(self, pixels: Tensor) -> Tensor:
        features = self.relu(self.first(pixels))
        features = self.relu(self.dilated(features) * 0.25 + features)
        features = self.pool(torch.cat((self.grouped(features), features), 1))
        features = self.dropout(self.mean(features))
        return F.normalize(self.norm(self.last(features.view(features.shape[0], -1))), p=2, dim=1)


def small() -> Small:
    torch.manual_seed(0)
    network = Small().eval().requires_grad_(False)
    network.norm.running_mean = torch.randn(6)
    network.norm.running_var = torch.rand(6) + 0.5
    network.norm.weight.copy_(torch.randn(6))
    network.norm.bias.copy_(torch.randn(6))
    return network


def noise(count: int, height: int, width: int) -> Tensor:
    return torch.rand(count, 3, height, width, generator=torch.Generator().manual_seed(1)) * 2 - 1


def test_gives_what_pytorch_gives() -> None:
    network, pixels = small(), noise(5, 22, 18)
    run = session_of(network, 18, 22, num_threads=1)
    torch.testing.assert_close(run(pixels), network(pixels), rtol=0, atol=2e-6)
    last = pixels.contiguous(memory_format=torch.channels_last)
    assert torch.equal(run(last), run(pixels))


def test_a_product_that_a_convolution_cannot_take_in_stands_by_itself() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 3, 1)

        def forward(self, pixels: Tensor) -> Tensor:
            features = self.conv(pixels)
            return features * 0.5 + features

    network, pixels = Twice().eval().requires_grad_(False), noise(2, 8, 8)
    run = session_of(network, 8, 8, num_threads=1)
    torch.testing.assert_close(run(pixels), network(pixels), rtol=0, atol=2e-6)


def test_a_layer_that_it_does_not_know_is_named() -> None:
    with pytest.raises(NotImplementedError, match=r"0 \(Softplus\) has no ONNX form"):
        session_of(nn.Sequential(nn.Softplus()), 8, 8, num_threads=1)


def test_facenet_scores_alike_with_and_without_gradients(facenet_file, faces: Tensor) -> None:
    judge = FaceNet("vggface2", weights=facenet_file)
    with torch.no_grad():
        outside = judge(faces)
        assert judge._session is not None
        features = judge.features(faces)
    assert [len(layer) for layer in features] == [len(faces)] * 3
    torch.testing.assert_close(outside, judge(faces.clone().requires_grad_()).detach(), rtol=0, atol=2e-6)


@pytest.mark.slow
def test_a_face_is_embedded_alike_alone_and_among_others(facenet_file, faces: Tensor) -> None:
    judge = FaceNet("vggface2", weights=facenet_file)
    with torch.inference_mode():
        together = judge(faces)
        alone = torch.cat([judge(face[None]) for face in faces])
    assert torch.equal(together, alone)


@pytest.mark.slow
def test_bf16_stays_in_pytorch(facenet_file, faces: Tensor) -> None:
    judge = FaceNet("vggface2", weights=facenet_file, precision="bf16")
    with torch.inference_mode():
        judge(faces)
    assert judge._session is None
