"""The official judge against a plain reading of the published layer list and of the official script."""

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from facesr.embedders.sphereface import ARCHIVE, Sphere20a, SphereFace20
from facesr.errors import WeightsError
from facesr.image import to_float

# (layer, stride, the layer whose output is added to this one's), as published for sphere20a.
LAYERS = (
    ("1_1", 2, None), ("1_2", 1, None), ("1_3", 1, "1_1"),
    ("2_1", 2, None), ("2_2", 1, None), ("2_3", 1, "2_1"), ("2_4", 1, None), ("2_5", 1, "2_3"),
    ("3_1", 2, None), ("3_2", 1, None), ("3_3", 1, "3_1"), ("3_4", 1, None), ("3_5", 1, "3_3"),
    ("3_6", 1, None), ("3_7", 1, "3_5"), ("3_8", 1, None), ("3_9", 1, "3_7"),
    ("4_1", 2, None), ("4_2", 1, None), ("4_3", 1, "4_1"),
)  # fmt: skip
WIDTHS = {"1": 64, "2": 128, "3": 256, "4": 512}


@pytest.fixture(scope="module")
def state() -> dict[str, Tensor]:
    """Random weights under the published names, the classifier fc6 included."""
    random = torch.Generator().manual_seed(3)
    weights: dict[str, Tensor] = {}
    num_in = 3
    for layer, _, _ in LAYERS:
        num_out = WIDTHS[layer[0]]
        weights[f"conv{layer}.weight"] = torch.randn(num_out, num_in, 3, 3, generator=random) * (num_in * 9) ** -0.5
        weights[f"conv{layer}.bias"] = torch.randn(num_out, generator=random) * 0.1
        weights[f"relu{layer}.weight"] = torch.rand(num_out, generator=random)
        num_in = num_out
    weights["fc5.weight"] = torch.randn(512, 512 * 42, generator=random) * 0.01
    weights["fc5.bias"] = torch.randn(512, generator=random) * 0.1
    weights["fc6.weight"] = torch.randn(512, 20, generator=random)
    return weights


@pytest.fixture(scope="module")
def judge(state: dict[str, Tensor], tmp_path_factory: pytest.TempPathFactory) -> SphereFace20:
    path = tmp_path_factory.mktemp("sphereface") / "sphere20a.pth"
    torch.save(state, path)
    embedder = SphereFace20(path)
    path.unlink()
    return embedder


def official_features(pictures: list[np.ndarray], state: dict[str, Tensor]) -> Tensor:
    """What the official script computes from BGR uint8 pictures (H, W, 3)."""
    resized = [cv2.resize(picture, (96, 112), interpolation=cv2.INTER_CUBIC) for picture in pictures]
    pixels = [(picture.transpose(2, 0, 1).reshape(1, 3, 112, 96) - 127.5) / 128.0 for picture in resized]
    x = torch.from_numpy(np.vstack(pixels)).float()
    outputs: dict[str, Tensor] = {}
    for layer, stride, shortcut in LAYERS:
        x = F.conv2d(x, state[f"conv{layer}.weight"], state[f"conv{layer}.bias"], stride, padding=1)
        x = F.prelu(x, state[f"relu{layer}.weight"])
        x = x if shortcut is None else outputs[shortcut] + x
        outputs[layer] = x
    return F.linear(x.reshape(len(x), -1), state["fc5.weight"], state["fc5.bias"])


def random_pictures(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(height).integers(0, 256, (2, height, width, 3), dtype=np.uint8)


def test_names_are_the_published_ones(state: dict[str, Tensor]) -> None:
    assert set(Sphere20a().state_dict()) == set(state) - {"fc6.weight"}


@pytest.mark.parametrize(("height", "width"), [(112, 96), (128, 128), (56, 48)])
def test_features_are_those_of_the_official_script(
    state: dict[str, Tensor], judge: SphereFace20, height: int, width: int
) -> None:
    pictures = random_pictures(height, width)
    with torch.no_grad():
        wanted = F.normalize(official_features([picture[..., ::-1] for picture in pictures], state))
        given = judge(to_float(pictures))
    torch.testing.assert_close(given, wanted, rtol=0, atol=2e-6)
    assert (wanted[0] @ wanted[1]).item() < 0.999, "the pictures must differ for this to show anything"


def test_pixels_are_exactly_the_scripts(judge: SphereFace20) -> None:
    levels = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1).repeat(3, axis=3)
    levels[..., 1] = 255 - levels[..., 1]
    wanted = torch.from_numpy((levels[..., ::-1].astype(np.float64) - 127.5) / 128.0).float().permute(0, 3, 1, 2)
    assert torch.equal(judge.prepare(to_float(levels)), wanted)


@pytest.mark.parametrize("height", [112, 100])
def test_gradients_reach_the_pictures_alone(judge: SphereFace20, height: int) -> None:
    batch = to_float(random_pictures(height, 96)).requires_grad_()
    judge(batch)[:, 0].sum().backward()
    assert batch.grad is not None and batch.grad.abs().sum() > 0
    assert all(weight.grad is None for weight in judge.parameters())


def test_missing_weights_say_where_to_get_them(nowhere: Path) -> None:
    with pytest.raises(WeightsError) as caught:
        SphereFace20()
    message = str(caught.value)
    assert ARCHIVE in message and "embedder.weights=FILE" in message and str(nowhere) in message
    assert message.count(". ") == 0, "one sentence"


def test_weights_of_another_network(tmp_path: Path) -> None:
    other = tmp_path / "other.pth"
    torch.save({"layer.weight": torch.zeros(3)}, other)
    with pytest.raises(
        WeightsError, match=r"other\.pth is not a weights file of Sphere20a: it lacks 'conv1_1\.weight'"
    ):
        SphereFace20(other)
