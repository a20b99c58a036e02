"""FaceNet with random weights: loading, preprocessing and errors."""

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from facenet_pytorch import InceptionResnetV1
from torch import Tensor

from facesr.embedders.facenet import URLS, FaceNet
from facesr.errors import ConfigError, WeightsError
from facesr.protocols import Embedder
from facesr.weights import sha256_of


@pytest.fixture(scope="module")
def judge(facenet_file: Path) -> FaceNet:
    return FaceNet("vggface2", weights=facenet_file)


def test_is_an_embedder_in_full_precision(judge: FaceNet, facenet_file: Path) -> None:
    assert isinstance(judge, Embedder)
    assert (judge.name, judge.dim, judge.weights_sha256) == ("facenet_vggface2", 512, sha256_of(facenet_file))
    assert {weight.dtype for weight in judge.parameters()} == {torch.float32}


def test_equals_the_network_of_facenet_pytorch(judge: FaceNet, facenet_state: dict[str, Tensor]) -> None:
    network = InceptionResnetV1(pretrained=None).eval()
    halved = {name: value.half() if value.is_floating_point() else value for name, value in facenet_state.items()}
    network.load_state_dict(halved)
    levels = torch.randint(0, 256, (2, 3, 160, 160), generator=torch.Generator().manual_seed(0)).float()
    with torch.no_grad():
        wanted = network((levels - 127.5) / 128.0)
        torch.testing.assert_close(judge(levels / 255.0), wanted, rtol=0, atol=1e-5)


def test_gradients_reach_the_pictures_alone(judge: FaceNet, faces: Tensor) -> None:
    batch = faces.clone().requires_grad_()
    judge(batch)[:, 0].sum().backward()
    assert batch.grad is not None and batch.grad.shape == faces.shape and batch.grad.abs().sum() > 0
    assert not any(weight.requires_grad for weight in judge.parameters())


def test_classifier_is_ignored_unless_of_another_training_set(
    judge: FaceNet, facenet_file: Path, tmp_path: Path
) -> None:
    file = tmp_path / "classifier.pt"
    classifier = {"logits.weight": torch.zeros(10575, 1), "logits.bias": torch.zeros(10575)}
    torch.save({**torch.load(facenet_file, weights_only=True), **classifier}, file)
    other = FaceNet("casia-webface", weights=file)
    assert other.name == "facenet_casia"
    assert torch.equal(other.network.last_linear.weight, judge.network.last_linear.weight)
    with pytest.raises(WeightsError, match=r"trained on 10575 persons where vggface2 has 8631"):
        FaceNet("vggface2", weights=file)


@pytest.mark.parametrize("pretrained", ["vggface2", "casia-webface"])
def test_missing_weights_name_path_and_url(pretrained: str, nowhere: Path) -> None:
    with pytest.raises(WeightsError) as caught:
        FaceNet(pretrained)  # type: ignore[arg-type]
    message = str(caught.value)
    assert URLS[pretrained] in message and str(nowhere) in message and "embedder.weights=FILE" in message


def test_other_file_under_the_known_name(nowhere: Path, facenet_file: Path) -> None:
    nowhere.mkdir()
    (nowhere / "facenet_vggface2.pt").write_bytes(facenet_file.read_bytes())
    with pytest.raises(WeightsError, match=r"facenet_vggface2\.pt is damaged or another file \(its sha256"):
        FaceNet("vggface2")


def test_weights_of_another_network(tmp_path: Path) -> None:
    other = tmp_path / "other.pt"
    torch.save({"conv1_1.weight": torch.zeros(3)}, other)
    with pytest.raises(WeightsError, match=r"other\.pt is not a weights file of InceptionResnetV1"):
        FaceNet("vggface2", weights=other)


def test_damaged_file(tmp_path: Path, facenet_file: Path) -> None:
    damaged = tmp_path / "damaged.pt"
    damaged.write_bytes(facenet_file.read_bytes()[:100_000])
    with pytest.raises(WeightsError, match=r"damaged\.pt is not a readable weights file"):
        FaceNet("vggface2", weights=damaged)


def test_unknown_training_set() -> None:
    with pytest.raises(ConfigError, match=r"embedder\.pretrained=ms1m is unknown"):
        FaceNet("ms1m")  # type: ignore[arg-type]


@pytest.mark.slow
def test_bf16_is_near_and_stays_out_of_scores(judge: FaceNet, faces: Tensor, facenet_file: Path) -> None:
    with torch.no_grad():
        exact = judge(faces)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            surrounded = judge(faces)
        near = FaceNet("vggface2", weights=facenet_file, precision="bf16")(faces)
    assert torch.equal(surrounded, exact)
    assert near.dtype == torch.float32
    cosine = F.cosine_similarity(near, exact)
    assert cosine.min() > 0.98 and not torch.equal(near, exact)
