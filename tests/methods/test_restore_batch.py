"""Batches on a CPU: in parts, each by one thread, and what must not be parted."""

from collections.abc import Iterator

import pytest
import torch

from facesr.methods import restore
from tests.test_restoration import Recorder


@pytest.fixture
def two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


class Watched(Recorder):
    """Also notes what each call finds in its thread."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[int, bool]] = []

    def forward(self, low: torch.Tensor) -> torch.Tensor:
        self.found.append((torch.get_num_threads(), torch.is_grad_enabled()))
        return super().forward(low)


@pytest.mark.parametrize(("count", "parts"), [(0, [0]), (1, [1]), (16, [16]), (17, [16, 1]), (40, [16, 16, 8])])
def test_one_thread_takes_sixteen_faces_at_once(count: int, parts: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    recorder = Recorder()
    low = torch.rand(count, 3, 28, 24)
    restored = restore.restore_batch(recorder, low)
    assert torch.equal(restored, recorder(low)) and restored.shape == (count, 3, 112, 96)
    assert [shape[0] for shape in recorder.shapes] == [*parts, count]


@pytest.mark.parametrize(("count", "parts"), [(2, [1, 1]), (16, [8, 8]), (40, [8, 16, 16])])
@pytest.mark.usefixtures("two_threads")
def test_two_threads_take_parts_of_their_own(count: int, parts: list[int]) -> None:
    watched = Watched()
    low = torch.rand(count, 3, 28, 24)
    restored = restore.restore_batch(watched, low)
    assert torch.equal(restored, Recorder()(low))
    assert sorted(shape[0] for shape in watched.shapes) == parts
    # Each by one thread, and without gradients, which a thread knows by itself.
    assert set(watched.found) == {(1, False)}
    assert torch.get_num_threads() == 2


@pytest.mark.usefixtures("two_threads")
def test_a_single_picture_has_all_threads_and_other_devices_whole_batches() -> None:
    watched = Watched()
    restore.restore_batch(watched, torch.rand(1, 3, 28, 24))
    assert watched.found == [(2, False)]
    restore.restore_batch(watched, torch.empty(40, 3, 28, 24, device="meta"))
    watched.whole_batches = True
    restore.restore_batch(watched, torch.empty(40, 3, 28, 24))
    assert [shape[0] for shape in watched.shapes] == [1, 40, 40]


@pytest.mark.usefixtures("two_threads")
def test_an_error_of_a_thread_is_raised() -> None:
    class Failing(torch.nn.Module):
        def forward(self, low: torch.Tensor) -> torch.Tensor:
            raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        restore.restore_batch(Failing(), torch.rand(40, 3, 28, 24))
    assert torch.get_num_threads() == 2
