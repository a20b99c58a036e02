"""ONNX judges, on a hand-made file whose embedding can be computed by hand."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from facesr.embedders.onnx import OnnxEmbedder
from facesr.errors import ConfigError, WeightsError
from facesr.protocols import Embedder
from facesr.weights import sha256_of

SETTINGS: dict[str, Any] = {"file": "tiny.onnx", "width": 6, "height": 8, "mean": 100.0, "scale": 50.0}


def coloured(red: float, green: float, blue: float) -> Tensor:
    return torch.tensor([red, green, blue]).view(1, 3, 1, 1).expand(1, 3, 20, 15) / 255.0


@pytest.mark.parametrize(("channels", "order"), [("rgb", (200, 100, 50)), ("bgr", (50, 100, 200))])
def test_channel_order_and_scaling(onnx_file: Callable[..., Path], channels: Any, order: tuple[int, ...]) -> None:
    judge = OnnxEmbedder(**SETTINGS, channels=channels, weights=onnx_file())
    seen = torch.tensor([math.exp((level - 100.0) / 50.0) for level in order])
    torch.testing.assert_close(judge(coloured(200, 100, 50))[0], seen / seen.norm())


def test_is_an_embedder_with_the_length_of_the_file(onnx_file: Callable[..., Path]) -> None:
    path = onnx_file()
    judge = OnnxEmbedder(**SETTINGS, weights=path)
    assert isinstance(judge, Embedder)
    assert (judge.dim, judge.differentiable, judge.weights_sha256) == (3, False, sha256_of(path))


def test_many_pictures_are_embedded_as_one_by_one(onnx_file: Callable[..., Path]) -> None:
    judge = OnnxEmbedder(**SETTINGS, weights=onnx_file())
    batch = torch.rand(150, 3, 16, 12, generator=torch.Generator().manual_seed(0))
    together = judge(batch)
    torch.testing.assert_close(together, torch.cat([judge(picture[None]) for picture in batch]))
    torch.testing.assert_close(together.norm(dim=1), torch.ones(150))


def test_gradients_end_at_the_file(onnx_file: Callable[..., Path]) -> None:
    judge = OnnxEmbedder(**SETTINGS, weights=onnx_file())
    assert not judge(coloured(1, 2, 3).clone().requires_grad_()).requires_grad


def test_found_by_name_and_checked(
    onnx_file: Callable[..., Path], nowhere: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = onnx_file()
    monkeypatch.setenv("FACESR_WEIGHTS", str(path.parent))
    assert OnnxEmbedder(**SETTINGS, sha256=sha256_of(path)).dim == 3
    with pytest.raises(WeightsError, match=r"tiny\.onnx is damaged or another file"):
        OnnxEmbedder(**SETTINGS, sha256="0" * 64)


def test_missing_file_names_the_key_and_the_place(nowhere: Path) -> None:
    with pytest.raises(WeightsError, match=r"give embedder\.weights=FILE or put the file at .*tiny\.onnx"):
        OnnxEmbedder(**SETTINGS)


def test_other_size_than_the_file(onnx_file: Callable[..., Path]) -> None:
    with pytest.raises(WeightsError, match=r"does not take pictures of 6x9 .*set embedder\.width"):
        OnnxEmbedder(**{**SETTINGS, "height": 9}, weights=onnx_file())


def test_no_onnx_file(tmp_path: Path) -> None:
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"no model")
    with pytest.raises(WeightsError, match=r"broken\.onnx is no readable ONNX file"):
        OnnxEmbedder(**SETTINGS, weights=broken)


@pytest.mark.parametrize("wrong", [{"channels": "grb"}, {"width": 0}, {"scale": 0.0}])
def test_settings_out_of_range(onnx_file: Callable[..., Path], wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=r"embedder\."):
        OnnxEmbedder(**{**SETTINGS, **wrong}, weights=onnx_file())
