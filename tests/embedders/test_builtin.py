"""The built-in judge: shipped, deterministic, differentiable, and sensitive to what a judge should see."""

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from facesr.data.synthetic.face.render import render_faces
from facesr.embedders.builtin import SHIPPED, BuiltinEmbedder
from facesr.errors import WeightsError
from facesr.image import round_to_grey_levels, to_float
from facesr.protocols import Embedder
from facesr.resample import downscale_to_grey_levels, upscale
from facesr.weights import sha256_of


@pytest.fixture(scope="module")
def judge() -> BuiltinEmbedder:
    return BuiltinEmbedder()


@pytest.fixture(scope="module")
def drawn() -> tuple[Tensor, np.ndarray]:
    """Twelve synthetic persons with four pictures each, (48, 3, 112, 96), and who they are."""
    pictures, identity = render_faces(48, seed=3, pictures_per_identity=4, num_workers=0)
    return to_float(pictures), identity


def similarity(judge: BuiltinEmbedder, first: Tensor, second: Tensor) -> Tensor:
    with torch.no_grad():
        return (judge(first) * judge(second)).sum(dim=1)


def test_shipped_file_is_small_and_loads(judge: BuiltinEmbedder) -> None:
    assert isinstance(judge, Embedder)
    assert (judge.name, judge.dim, judge.weights_sha256) == ("builtin", 512, sha256_of(SHIPPED))
    assert SHIPPED.stat().st_size <= 4_000_000


def test_identical_pictures_score_one(judge: BuiltinEmbedder, faces: Tensor) -> None:
    torch.testing.assert_close(similarity(judge, faces, faces), torch.ones(3), rtol=0, atol=1e-6)


def test_unit_length_and_independent_of_batch(judge: BuiltinEmbedder, drawn: tuple[Tensor, np.ndarray]) -> None:
    faces = drawn[0][::4]
    with torch.no_grad():
        together = judge(faces)
        alone = torch.cat([judge(picture[None]) for picture in faces])
    torch.testing.assert_close(together.norm(dim=1), torch.ones(12))
    torch.testing.assert_close(together, alone, rtol=0, atol=1e-5)


def test_a_mirrored_face_is_the_same_face(judge: BuiltinEmbedder, drawn: tuple[Tensor, np.ndarray]) -> None:
    faces = drawn[0][::4]
    with torch.no_grad():
        one = judge.network(judge.prepare(faces))
    mirrored = faces.flip(-1)
    torch.testing.assert_close(similarity(judge, faces, mirrored), torch.ones(12), rtol=0, atol=1e-5)
    with torch.no_grad():
        other = judge.network(judge.prepare(mirrored))
    assert torch.nn.functional.cosine_similarity(one, other).max() < 0.999, "the network alone tells them apart"


def test_lower_resolution_scores_lower(judge: BuiltinEmbedder, drawn: tuple[Tensor, np.ndarray]) -> None:
    high = drawn[0][::4]
    bicubic = round_to_grey_levels(upscale(downscale_to_grey_levels(high)))
    halfway = round_to_grey_levels((high + bicubic) / 2)
    far, near = similarity(judge, high, bicubic), similarity(judge, high, halfway)
    assert (near > far).float().mean() > 0.9
    assert far.mean() < near.mean() - 0.05


def test_a_little_darker_is_the_same_person(judge: BuiltinEmbedder, drawn: tuple[Tensor, np.ndarray]) -> None:
    high = drawn[0][::4]
    bicubic = round_to_grey_levels(upscale(downscale_to_grey_levels(high)))
    assert similarity(judge, high, high * 0.9).mean() > similarity(judge, high, bicubic).mean()


def test_other_pictures_of_a_person_score_above_other_persons(
    judge: BuiltinEmbedder, drawn: tuple[Tensor, np.ndarray]
) -> None:
    with torch.no_grad():
        vectors = judge(drawn[0])
    cosine = (vectors @ vectors.t()).numpy()
    same = drawn[1][:, None] == drawn[1][None, :]
    off_diagonal = ~np.eye(len(cosine), dtype=bool)
    assert cosine[same & off_diagonal].mean() > cosine[~same].mean() + 0.1


def test_gradients_reach_the_pictures_alone(judge: BuiltinEmbedder, faces: Tensor) -> None:
    batch = faces.clone().requires_grad_()
    judge.train()
    (1.0 - judge(batch)[:, 0]).sum().backward()
    assert batch.grad is not None and (batch.grad.abs().sum(dim=(1, 2, 3)) > 0).all()
    assert all(weight.grad is None for weight in judge.parameters())


def test_following_the_gradient_raises_the_similarity(judge: BuiltinEmbedder, drawn: tuple[Tensor, np.ndarray]) -> None:
    high = drawn[0][:4]
    bicubic = upscale(downscale_to_grey_levels(high)).clamp(0, 1).requires_grad_()
    before = (judge(bicubic) * judge(high)).sum(dim=1)
    before.sum().backward()
    assert bicubic.grad is not None
    stepped = bicubic.detach() + 0.02 * bicubic.grad.sign()
    assert (similarity(judge, stepped, high) > before.detach() + 0.02).all()


def test_weights_of_another_network(tmp_path: Path) -> None:
    state = load_file(SHIPPED)
    state.pop("embed.bias")
    other = tmp_path / "other.safetensors"
    save_file(state, other)
    with pytest.raises(WeightsError, match=r"other\.safetensors is not a weights file of SmallRecogniser: it lacks"):
        BuiltinEmbedder(other)


def test_missing_file_is_named() -> None:
    with pytest.raises(WeightsError, match=r"embedder\.weights=nowhere\.safetensors is not a file"):
        BuiltinEmbedder("nowhere.safetensors")
