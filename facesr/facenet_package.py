"""Modules of facenet-pytorch without torchvision, which the package imports and facesr has no use for.

torchvision loads torch's compiler and sympy: more than half of the time that a restoration needs to start. So the
package's own `__init__` is not run, and its detector gets the one function that it calls, `batched_nms`, from here.
"""

import importlib
import importlib.util
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import ModuleType
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

# The modules' package, beside one that somebody else may import as facenet_pytorch.
_PACKAGE = "facesr_facenet_pytorch"
# torchvision keeps pictures apart by moving their boxes up to so many numbers, 4 a box, on a CPU, and on a GPU.
_MOST_MOVED_CPU, _MOST_MOVED_GPU = 4_000, 100_000


def facenet_module(name: Literal["inception_resnet_v1", "mtcnn"]) -> ModuleType:
    """Returns a module of facenet_pytorch.models, loaded once."""
    if _PACKAGE not in sys.modules:
        found = importlib.util.find_spec("facenet_pytorch")
        if found is None or found.submodule_search_locations is None:
            raise ModuleNotFoundError("No module named 'facenet_pytorch'", name="facenet_pytorch")
        package = ModuleType(_PACKAGE)
        package.__path__ = list(found.submodule_search_locations)
        sys.modules[_PACKAGE] = package
    with _instead(_torchvision()):
        return importlib.import_module(f"{_PACKAGE}.models.{name}")


def batched_nms(boxes: Tensor, scores: Tensor, pictures: Tensor, most_overlap: float) -> Tensor:
    """Returns which boxes are kept, int64 (K,), the highest score first, as torchvision.ops.batched_nms does.

    A box is dropped where one of the same picture with a higher score is kept and overlaps it by more.

    Args:
        boxes: (N, 4), left, top, right, bottom.
        scores: (N,).
        pictures: (N,), which picture a box lies in; boxes of different ones do not compete.
        most_overlap: area of the intersection by that of the union, in [0, 1].
    """
    apart = pictures
    if 0 < boxes.numel() <= (_MOST_MOVED_CPU if boxes.device.type == "cpu" else _MOST_MOVED_GPU):
        # Moved apart, sums are rounded otherwise, so faces that were found before stay the same.
        boxes = boxes + (pictures.to(boxes) * (boxes.max() + 1.0))[:, None]
        apart = torch.zeros_like(pictures)
    # Equal scores stay in order.
    order = torch.sort(scores, descending=True, stable=True).indices
    kept = _kept(boxes[order].cpu().numpy(), apart[order].cpu().numpy(), most_overlap)
    return order[torch.from_numpy(kept).to(order.device)]


def _kept(boxes: NDArray[np.float32], pictures: NDArray[np.int64], most_overlap: float) -> NDArray[np.int64]:
    """Returns the places of the boxes that are kept, of boxes that are sorted by falling score."""
    left, top, right, bottom = boxes.T
    area = (right - left) * (bottom - top)
    rest = np.arange(len(boxes))
    kept: list[int] = []
    while rest.size:
        best, rest = rest[0], rest[1:]
        kept.append(int(best))
        wide = np.minimum(right[best], right[rest]) - np.maximum(left[best], left[rest])
        high = np.minimum(bottom[best], bottom[rest]) - np.maximum(top[best], top[rest])
        shared = np.maximum(wide, np.float32(0.0)) * np.maximum(high, np.float32(0.0))
        with np.errstate(invalid="ignore"):  # boxes without an area
            overlaps = shared / (area[best] + area[rest] - shared) > most_overlap
        rest = rest[~(overlaps & (pictures[rest] == pictures[best]))]
    return np.array(kept, np.int64)


def _torchvision() -> dict[str, ModuleType]:
    names = ("torchvision", "torchvision.transforms", "torchvision.ops", "torchvision.ops.boxes")
    found = {name: ModuleType(name) for name in names}
    # Only `extract_face` reads it, which nobody calls.
    found["torchvision.transforms"].functional = ModuleType("torchvision.transforms.functional")  # type: ignore[attr-defined]
    found["torchvision.ops.boxes"].batched_nms = batched_nms  # type: ignore[attr-defined]
    return found


@contextmanager
def _instead(modules: Mapping[str, ModuleType]) -> Iterator[None]:
    """Imports find these modules under their names until the end; what stood there stands there again afterwards."""
    before = {name: sys.modules.get(name) for name in modules}
    sys.modules.update(modules)
    try:
        yield
    finally:
        for name, module in before.items():
            if module is None:
                del sys.modules[name]
            else:
                sys.modules[name] = module
