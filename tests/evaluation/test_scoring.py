"""Scores depend on the pictures alone: not on batches, names' order, or ranks."""

import numpy as np
import pytest
import torch

from facesr import dist
from facesr.dist import together
from facesr.errors import DataError, ImageError
from facesr.evaluation import scoring
from facesr.evaluation.pairs import Pairs, strict_pairs
from facesr.evaluation.scoring import score
from facesr.metrics import default_metrics

CPU = torch.device("cpu")


@pytest.fixture
def pairs(faces, protocol):
    return strict_pairs(faces.restored, faces.high, faces.low, protocol)


@pytest.fixture
def metrics(judge):
    return default_metrics([judge], with_low=True)


def test_every_face_has_every_value(pairs, metrics):
    scores = score(pairs, metrics, CPU, 3)
    assert scores.ids == tuple("abcdefg")
    assert list(scores.values) == [metric.name for metric in metrics]
    assert all(column.shape == (7,) and np.isfinite(column).all() for column in scores.values.values())
    # The fixture's noise grows from face to face.
    assert (np.diff(scores.values["rmse"]) > 0).all()


@pytest.mark.parametrize("batch_size", [1, 2, 7, 100])
def test_batch_size_does_not_matter(pairs, metrics, batch_size):
    reference, other = score(pairs, metrics, CPU, 4), score(pairs, metrics, CPU, batch_size)
    for name, column in reference.values.items():
        np.testing.assert_allclose(other.values[name], column, rtol=0, atol=1e-6 if name.startswith("is/") else 0)
    assert other.pixels_sha256 == reference.pixels_sha256


def test_the_order_of_files_does_not_matter(pairs, metrics):
    reversed_pairs = Pairs(pairs.items[::-1])
    reference, other = score(pairs, metrics, CPU, 7), score(reversed_pairs, metrics, CPU, 7)
    assert other.ids == reference.ids and other.pixels_sha256 == reference.pixels_sha256
    for name, column in reference.values.items():
        np.testing.assert_allclose(other.values[name], column, rtol=0, atol=1e-6)


def test_the_digest_names_the_pixels(pairs, metrics, faces, protocol):
    before = score(pairs, metrics, CPU, 4).pixels_sha256
    (faces.restored / "a.png").write_bytes((faces.restored / "b.png").read_bytes())
    after = score(strict_pairs(faces.restored, faces.high, faces.low, protocol), metrics, CPU, 4).pixels_sha256
    assert after["high"] == before["high"] and after["restored"] != before["restored"]


def test_any_number_of_ranks_gives_the_same_bits(pairs, metrics, monkeypatch):
    alone = score(pairs, metrics, CPU, 2)
    for num_ranks in (2, 3, 8):
        parts = []
        for rank in range(num_ranks):
            monkeypatch.setattr(dist, "rank", lambda rank=rank: rank)
            monkeypatch.setattr(dist, "world_size", lambda count=num_ranks: count)
            monkeypatch.setattr(dist, "together", lambda work, parts=parts: parts.append(work()))
            assert score(pairs, metrics, CPU, 2) is None
        monkeypatch.setattr(dist, "together", lambda work, parts=parts: parts)
        together_again = score(pairs, metrics, CPU, 2)
        assert together_again.pixels_sha256 == alone.pixels_sha256
        for name, column in alone.values.items():
            np.testing.assert_array_equal(together_again.values[name], column)


def test_one_batch_is_in_memory_at_a_time(pairs, metrics, monkeypatch):
    sizes = []
    read = scoring.read_batch
    monkeypatch.setattr(scoring, "read_batch", lambda batch, pairs: sizes.append(len(batch)) or read(batch, pairs))
    score(pairs, metrics, CPU, 3, on_batch=lambda count: sizes.append(-count))
    assert sizes == [3, -3, 3, -3, 1, -1]


def test_a_damaged_picture_is_a_users_error(pairs, metrics, faces):
    data = (faces.restored / "f.png").read_bytes()
    (faces.restored / "f.png").write_bytes(data[:-30])
    with pytest.raises(ImageError, match=r"f\.png is a damaged PNG"):
        score(pairs, metrics, CPU, 4)


def test_a_users_error_on_another_rank_is_raised_here(monkeypatch):
    monkeypatch.setattr(dist, "gather_objects", lambda value: [value, (None, DataError("rank 1 has no such file."))])
    with pytest.raises(DataError, match="rank 1"):
        together(lambda: 5)
    monkeypatch.setattr(dist, "gather_objects", lambda value: [value, (6, None)])
    assert together(lambda: 5) == [5, 6]
