"""Identity similarity: values, the zero vector, a judge that fails, and embeddings kept between calls."""

import numpy as np
import pytest
import torch

from facesr.errors import WeightsError
from facesr.metrics import IdentitySimilarity
from facesr.metrics.identity_similarity import cosine
from facesr.protocols import MetricInputs


def test_cosine_of_equal_opposite_orthogonal_scaled_and_zero_rows():
    first = np.array([[1, 2], [1, 2], [1, 0], [3, 4], [0, 0]], np.float32)
    second = np.array([[1, 2], [-1, -2], [0, 5], [6, 8], [1, 1]], np.float32)
    assert cosine(first, second) == pytest.approx([1.0, -1.0, 0.0, 1.0, 0.0])


def test_it_is_the_cosine_of_the_judges_embeddings(judge, inputs):
    expected = (judge(inputs.restored) * judge(inputs.high)).sum(1)
    np.testing.assert_allclose(IdentitySimilarity(judge)(inputs), expected.numpy(), atol=1e-6)


def test_remembered_originals_are_embedded_once_and_change_nothing(judge, inputs):
    metric = IdentitySimilarity(judge, remember_high=True)
    first, again = metric(inputs), metric(inputs)
    assert judge.num_pictures == 3 * len(inputs.high)
    np.testing.assert_array_equal(first, again)
    other = MetricInputs(inputs.restored, inputs.high.flip(3))
    np.testing.assert_array_equal(metric(other), IdentitySimilarity(judge)(other))


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
