"""Random weights files and a hand-made ONNX file, so that no test needs a real recogniser."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from facenet_pytorch import InceptionResnetV1
from torch import Tensor


@pytest.fixture(autouse=True)
def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No weights folder, an empty cache, no network."""
    monkeypatch.delenv("FACESR_WEIGHTS", raising=False)
    monkeypatch.setenv("FACESR_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("FACESR_OFFLINE", "1")
    return tmp_path / "cache"


@pytest.fixture
def faces() -> Tensor:
    """Three smooth random pictures, (3, 3, 112, 96), whole grey levels."""
    coarse = torch.rand(3, 3, 14, 12, generator=torch.Generator().manual_seed(5))
    smooth = torch.nn.functional.interpolate(coarse, size=(112, 96), mode="bilinear")
    return (smooth * 255).round() / 255


@pytest.fixture(scope="session")
def facenet_state() -> dict[str, Tensor]:
    """Random weights of InceptionResnetV1 whose features neither vanish nor explode."""
    torch.manual_seed(1)
    return InceptionResnetV1(pretrained=None).state_dict()


@pytest.fixture(scope="session")
def facenet_file(facenet_state: dict[str, Tensor], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A half-precision file of random weights."""
    path = tmp_path_factory.mktemp("facenet") / "random.pt"
    halved = {name: value.half() if value.is_floating_point() else value for name, value in facenet_state.items()}
    torch.save(halved, path)
    yield path
    path.unlink()


def _varint(number: int) -> bytes:
    digits = []
    while number > 127:
        digits.append(number & 127 | 128)
        number >>= 7
    return bytes([*digits, number])


def _field(number: int, value: int | str | bytes) -> bytes:
    """One protobuf field: a whole number, or text and messages with their length."""
    if isinstance(value, int):
        return _varint(number << 3) + _varint(value)
    data = value.encode() if isinstance(value, str) else value
    return _varint(number << 3 | 2) + _varint(len(data)) + data


def _node(kind: str, source: str, result: str, *attributes: bytes) -> bytes:
    parts = [_field(1, source), _field(2, result), _field(4, kind), *(_field(5, item) for item in attributes)]
    return _field(1, b"".join(parts))


def _tensor(number: int, name: str, *sides: int | str) -> bytes:
    dimensions = b"".join(_field(1, _field(1 if isinstance(side, int) else 2, side)) for side in sides)
    return _field(number, _field(1, name) + _field(2, _field(1, _field(1, 1) + _field(2, dimensions))))


@pytest.fixture
def onnx_file(tmp_path: Path) -> Callable[..., Path]:
    """Writes an ONNX file whose embedding is exp(mean of each channel at the network's input)."""

    def write(name: str = "tiny.onnx", height: int = 8, width: int = 6) -> Path:
        axes = _field(1, "axes") + _field(8, 2) + _field(8, 3) + _field(20, 7)
        keep = _field(1, "keepdims") + _field(3, 0) + _field(20, 2)
        graph = _node("ReduceMean", "image", "mean", axes, keep) + _node("Exp", "mean", "embedding")
        graph += _field(2, "tiny") + _tensor(11, "image", "n", 3, height, width) + _tensor(12, "embedding", "n", 3)
        path = tmp_path / name
        path.write_bytes(_field(1, 8) + _field(7, graph) + _field(8, _field(2, 13)))
        return path

    return write
