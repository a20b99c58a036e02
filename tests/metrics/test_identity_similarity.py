"""ID similarity: values, the zero vector, a judge that fails, and embeddings kept between calls."""

import numpy as np
import pytest
import torch

from facesr.errors import WeightsError
from facesr.metrics import IdentitySimilarity, RememberedEmbeddings
from facesr.metrics.identity_similarity import cosine
from facesr.protocols import MetricInputs


def test_cosine_of_equal_opposite_orthogonal_scaled_and_zero_rows():
    first = np.array([[1, 2], [1, 2], [1, 0], [3, 4], [0, 0]], np.float32)
    second = np.array([[1, 2], [-1, -2], [0, 5], [6, 8], [1, 1]], np.float32)
    assert cosine(first, second) == pytest.approx([1.0, -1.0, 0.0, 1.0, 0.0])


def test_it_is_the_cosine_of_the_judges_embeddings(judge, inputs):
    expected = (judge(inputs.restored) * judge(inputs.high)).sum(1)
    np.testing.assert_allclose(IdentitySimilarity(judge)(inputs), expected.numpy(), atol=1e-6)


@pytest.mark.parametrize("on_disk", [False, True])
def test_remembered_originals_are_embedded_once_and_change_nothing(judge, inputs, tmp_path, on_disk):
    remembered = RememberedEmbeddings(tmp_path / "kept" if on_disk else None)
    first = IdentitySimilarity(judge, remembered)(inputs)
    before = judge.num_pictures
    again = IdentitySimilarity(judge, remembered)(inputs)
    assert judge.num_pictures == before + len(inputs.restored)
    np.testing.assert_array_equal(first, again)
    other = MetricInputs(inputs.restored, inputs.high.flip(3))
    np.testing.assert_array_equal(IdentitySimilarity(judge, remembered)(other), IdentitySimilarity(judge)(other))


def test_another_process_finds_them_and_another_judge_does_not(judge, inputs, tmp_path):
    IdentitySimilarity(judge, RememberedEmbeddings(tmp_path))(inputs)
    (file,) = tmp_path.glob("*/*.npy")
    assert file.parent.name.startswith("grid-")
    same = type(judge)()
    IdentitySimilarity(same, RememberedEmbeddings(tmp_path))(inputs)
    # One more for the picture that tells judges apart.
    assert same.num_pictures == len(inputs.restored) + 1

    class Bgr(type(judge)):
        def __call__(self, batch):
            return super().__call__(batch.flip(1))

    IdentitySimilarity(Bgr(), RememberedEmbeddings(tmp_path))(inputs)
    assert len(list(tmp_path.glob("*/*.npy"))) == 2


def test_another_precision_is_told_and_kept_apart(judge, inputs, tmp_path):
    """Even where its answers round to the same ones."""
    assert "bf16" not in IdentitySimilarity(judge).conditions
    IdentitySimilarity(judge, RememberedEmbeddings(tmp_path))(inputs)
    near = type(judge)()
    near.precision = "bf16"
    metric = IdentitySimilarity(near, RememberedEmbeddings(tmp_path))
    metric(inputs)
    assert metric.conditions.endswith("network in bf16")
    assert len(list(tmp_path.glob("*/*.npy"))) == 2
    plain = type(judge)()
    plain.precision = "fp32"  # as a judge that says nothing of it
    IdentitySimilarity(plain, RememberedEmbeddings(tmp_path))(inputs)
    assert len(list(tmp_path.glob("*/*.npy"))) == 2


@pytest.mark.parametrize("damage", [b"", b"\x93NUMPY", "shape", "nan"])
def test_a_damaged_file_is_embedded_again(judge, inputs, tmp_path, damage):
    expected = IdentitySimilarity(judge, RememberedEmbeddings(tmp_path))(inputs)
    (file,) = tmp_path.glob("*/*.npy")
    if isinstance(damage, bytes):
        file.write_bytes(damage)
    else:
        np.save(file, np.zeros((2, 3), np.float32) if damage == "shape" else np.full((5, 48), np.nan, np.float32))
    np.testing.assert_array_equal(IdentitySimilarity(judge, RememberedEmbeddings(tmp_path))(inputs), expected)
    assert np.load(file).shape == (5, 48) and np.isfinite(np.load(file)).all()


def test_a_folder_that_cannot_be_written_is_no_fault(judge, inputs, tmp_path):
    (tmp_path / "file").touch()
    metric = IdentitySimilarity(judge, RememberedEmbeddings(tmp_path / "file"))
    np.testing.assert_array_equal(metric(inputs), IdentitySimilarity(judge)(inputs))


def test_a_judge_that_gives_nan_is_a_users_error(judge, inputs):
    class Broken(type(judge)):
        def __call__(self, batch):
            return super().__call__(batch) * float("nan")

    with pytest.raises(WeightsError, match="not finite"):
        IdentitySimilarity(Broken())(inputs)


def test_no_gradient_is_kept(judge, inputs):
    restored = inputs.restored.clone().requires_grad_()
    IdentitySimilarity(judge)(MetricInputs(restored, inputs.high))
    assert restored.grad is None
    with torch.no_grad():
        assert judge(restored).grad_fn is None
