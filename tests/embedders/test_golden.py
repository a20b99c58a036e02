"""The judges on real faces: fixed values, and figures that were measured outside this project."""

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from facesr.build import build, load_group
from facesr.image import round_to_grey_levels, to_float
from facesr.places import Place
from facesr.png import list_png, stack_pictures
from facesr.protocols import Embedder
from facesr.resample import upscale

GOLDEN = json.loads((Path(__file__).parent.parent / "golden" / "embedders.json").read_text())

pytestmark = pytest.mark.shared


def judge(name: str, shared: Path, monkeypatch: pytest.MonkeyPatch) -> Embedder:
    monkeypatch.setenv("FACESR_WEIGHTS", str(shared / "weights"))
    embedder = build(load_group("embedder", name), Place.EMBEDDER)
    assert isinstance(embedder, Embedder)
    return embedder


def official(shared: Path, folder: str, count: int | None = None) -> NDArray[np.uint8]:
    return stack_pictures(list(list_png(shared / "asc19" / folder).values())[:count])


def similarity(embedder: Embedder, first: Tensor, second: Tensor) -> NDArray[Any]:
    parts = zip(first.split(50), second.split(50), strict=True)
    with torch.no_grad():
        return torch.cat([(embedder(a) * embedder(b)).sum(dim=1) for a, b in parts]).numpy()


@pytest.mark.parametrize("name", GOLDEN["per_face"])
def test_similarity_of_bicubic_faces(name: str, shared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    high, low = (to_float(official(shared, folder, 12)) for folder in ("val_HR", "val_LR"))
    bicubic = round_to_grey_levels(upscale(low))
    given = similarity(judge(name, shared, monkeypatch), high, bicubic)
    np.testing.assert_allclose(given, GOLDEN["per_face"][name], rtol=0, atol=GOLDEN["tolerance"])


@pytest.mark.slow
@pytest.mark.parametrize("name", GOLDEN["per_face"])
def test_published_figure_of_all_bicubic_faces(name: str, shared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bicubic = [cv2.resize(low, (96, 112), interpolation=cv2.INTER_CUBIC) for low in official(shared, "val_LR")]
    given = similarity(
        judge(name, shared, monkeypatch), to_float(official(shared, "val_HR")), to_float(np.stack(bicubic))
    )
    known = GOLDEN["opencv_cubic_300"]
    assert given.mean() == pytest.approx(known[name], abs=known["tolerance"])
