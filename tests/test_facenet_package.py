"""facenet-pytorch without torchvision: the same boxes are kept, and what others import stays as it is."""

import subprocess
import sys

import pytest
import torch

from facesr.facenet_package import batched_nms

CODE = """
import sys
from facesr.facenet_package import facenet_module
facenet_module("mtcnn").MTCNN(), facenet_module("inception_resnet_v1").InceptionResnetV1
print(*sorted(name for name in sys.modules if name.split(".")[0] in ("torchvision", "facenet_pytorch", "sympy")))
"""


def test_loads_no_torchvision_and_leaves_none_behind() -> None:
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=True, timeout=300)
    assert done.stdout.split() == []


def test_of_boxes_that_overlap_by_more_the_best_of_its_picture_is_kept() -> None:
    # The second shares 80 of 120 with the first, the third 50 of 150, the fourth is the first again elsewhere.
    boxes = torch.tensor([[0.0, 0, 10, 10], [2, 0, 12, 10], [5, 0, 15, 10], [0, 0, 10, 10], [20, 20, 20, 20]])
    scores, pictures = torch.tensor([0.9, 0.95, 0.5, 0.8, 0.1]), torch.tensor([0, 0, 0, 1, 0])
    assert batched_nms(boxes, scores, pictures, 0.6).tolist() == [1, 3, 2, 4]
    assert batched_nms(boxes, scores, pictures, 0.7).tolist() == [1, 0, 3, 2, 4]
    assert batched_nms(boxes[:0], scores[:0], pictures[:0], 0.7).tolist() == []


@pytest.mark.slow
@pytest.mark.parametrize("num", [1, 40, 900, 1001, 2500])
def test_keeps_what_torchvision_keeps(num: int) -> None:
    from torchvision.ops import batched_nms as expected

    draw = torch.Generator().manual_seed(num)
    corner = 300 * torch.rand((num, 2), generator=draw).round(decimals=2)
    boxes = torch.cat([corner, corner + 20 + 40 * torch.rand((num, 2), generator=draw)], 1)
    # Few different scores, so many are equal.
    scores = torch.rand(num, generator=draw).round(decimals=2)
    pictures = torch.randint(0, 3, (num,), generator=draw)
    for most in (0.3, 0.5, 0.7):
        found, wanted = batched_nms(boxes, scores, pictures, most), expected(boxes, scores, pictures, most)
        assert sorted(found.tolist()) == sorted(wanted.tolist())
        assert torch.equal(scores[found], scores[wanted])
