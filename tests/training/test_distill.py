"""Training and measuring the built-in judge, on drawn faces and with a teacher of random weights."""

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
import torch.nn.functional as F

from facesr.data.builtin import render_faces
from facesr.embedders.builtin import BuiltinEmbedder, SmallRecogniser
from facesr.errors import DataError
from facesr.training import distill, distill_data
from facesr.training.distill import Plan, distillation_terms, folded, moved, same_different_auc, spearman, train_student
from facesr.training.distill_data import degraded_copies, is_held_out, read_faces


@pytest.fixture(scope="module")
def pictures() -> np.ndarray:
    return render_faces(24, seed=1, num_workers=0)[0]


@pytest.fixture
def folder(pictures: np.ndarray, tmp_path: Path) -> Path:
    """An index of four persons with three pictures each, one rolled copy, and three dev faces without a name."""
    (tmp_path / "train").mkdir()
    (tmp_path / "dev").mkdir()
    lines = ["file,identity,rolled_copy_of"]
    for number in range(16):
        part, name = ("train", f"person {number % 4}") if number < 13 else ("dev", "")
        file = f"{part}/{number}.png"
        cv2.imwrite(str(tmp_path / file), pictures[number][..., ::-1])
        lines.append(f"{file},{name},{'train/0.png' if number == 12 else ''}")
    (tmp_path / "index.csv").write_text("\n".join(lines) + "\n")
    return tmp_path


def test_held_out_persons_are_about_one_in_eight_and_never_nameless() -> None:
    share = np.mean([is_held_out(f"person {number}") for number in range(2000)])
    assert 0.1 < share < 0.15
    assert not is_held_out("")


def test_training_and_held_out_faces_share_no_person(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(distill_data, "is_held_out", lambda identity: identity == "person 2")
    kept, out = (read_faces(folder, "train", held_out=held_out) for held_out in (False, True))
    assert len(kept.identity) + len(out.identity) == 12, "the rolled copy belongs to neither"
    assert set(out.identity) == {"person 2"} and set(kept.identity) == {"person 0", "person 1", "person 3"}
    assert len(read_faces(folder, "dev", held_out=False).pictures) == 3


def test_damaged_picture_is_a_sentence(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "dev" / "14.png").write_bytes(b"no picture")
    with pytest.raises(DataError, match=r"14\.png is no readable 96x112 picture"):
        read_faces(folder, "dev", held_out=False)
    arguments = ["measure", "--faces", str(folder / "nowhere"), "--weights", str(folder / "nothing.safetensors")]
    assert distill.main(arguments) == 2
    assert capsys.readouterr().err.startswith("error: ")


def test_degraded_copies_lose_detail_and_repeat(pictures: np.ndarray) -> None:
    copies = degraded_copies(pictures, seed=4)
    assert np.array_equal(copies, degraded_copies(pictures, seed=4))
    roughness = [np.abs(np.diff(batch.astype(np.float64), axis=2)).mean(axis=(1, 2, 3)) for batch in (pictures, copies)]
    assert (roughness[1] < roughness[0]).all()


def test_both_pictures_of_a_pair_move_alike(pictures: np.ndarray) -> None:
    pairs = np.stack([pictures, pictures], axis=1)
    result = moved(pairs, np.random.default_rng(0))
    assert np.array_equal(result[:, 0], result[:, 1])
    assert not np.array_equal(result, pairs)


def test_loss_is_zero_for_the_teacher_itself_and_grows() -> None:
    random = torch.Generator().manual_seed(0)
    teacher = F.normalize(torch.randn(12, 512, generator=random), dim=1)
    noisy = F.normalize(teacher + 0.02 * torch.randn(12, 512, generator=random), dim=1)
    worse = F.normalize(teacher + 0.05 * torch.randn(12, 512, generator=random), dim=1)
    for name in distillation_terms(teacher, teacher):
        values = [distillation_terms(student, teacher)[name].item() for student in (teacher, noisy, worse)]
        assert abs(values[0]) < 1e-5 and values[0] < values[1] < values[2], name


def test_folding_keeps_the_function(pictures: np.ndarray) -> None:
    torch.manual_seed(0)
    network = SmallRecogniser(norm=True)
    pixels = torch.from_numpy(pictures).permute(0, 3, 1, 2) / 127.5 - 1.0
    with torch.no_grad():
        network.place.uniform_(0.5, 1.5)
        network(pixels)
        plain = folded(network)
        wanted = network.eval()(pixels)
        torch.testing.assert_close(plain(pixels), wanted, rtol=0, atol=1e-4 * wanted.abs().max().item())
    assert not any("running" in name for name in plain.state_dict())


@pytest.mark.slow
def test_training_brings_the_student_nearer_and_its_file_loads(
    pictures: np.ndarray, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pairs = np.stack([pictures, degraded_copies(pictures, seed=0)], axis=1)
    targets = np.random.default_rng(0).normal(size=(24, 2, 512)).astype(np.float32)
    targets[:, 1] = targets[:, 0]
    targets /= np.linalg.norm(targets, axis=2, keepdims=True)
    file = tmp_path / "student.safetensors"
    train_student(pairs, targets, Plan(kimg=0.32, batch=8, learning_rate=2e-3, seed=0), file)
    with torch.no_grad():
        vectors = BuiltinEmbedder(file)(torch.from_numpy(pictures).permute(0, 3, 1, 2) / 255.0)
    cosine = vectors @ torch.from_numpy(targets[:, 0]).t()
    # Three seeds of weights and targets end 0.33 to 0.42 above.
    assert cosine.diagonal().mean() > cosine.mean() + 0.15
    assert "0.3 kimg, embedding" in capsys.readouterr().out


def test_auc_and_spearman_by_hand() -> None:
    vectors = np.eye(4, dtype=np.float32)
    vectors[1] = [0.8, 0.6, 0, 0]
    assert same_different_auc(vectors, ["a", "a", "b", "c"]) == (1.0, 1, 5)
    assert same_different_auc(vectors, ["a", "b", "c", "c"]) == (0.4, 1, 5)
    line = np.arange(5, dtype=np.float32)
    assert spearman(line, line**3) == pytest.approx(1.0)
    assert spearman(line, -line) == pytest.approx(-1.0)
    assert spearman(line, np.array([1, 0, 2, 3, 4], np.float32)) == pytest.approx(0.9)
