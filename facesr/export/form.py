"""Forms of an exported file for programs other than facesr: the mirror image's answer inside, and one fixed size."""

from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, numpy_helper
from torch import Tensor, nn

from facesr.embedders.onnx import open_session
from facesr.task import SCALE


@dataclass(frozen=True)
class Form:
    """What is asked for beyond the plain file, which takes any size and restores once.

    Attributes:
        is_mirrored: the mean of the restored picture and of the mirrored answer to its mirror image is inside.
        size: (width, height) of the one input that it takes, one picture at a time; None for any.
    """

    is_mirrored: bool = False
    size: tuple[int, int] | None = None

    @property
    def made_with(self) -> str:
        """The options that ask for it; empty for the plain file."""
        size = [] if self.size is None else [f"--fixed {self.size[0]}x{self.size[1]}"]
        return " ".join(["--flip"] * self.is_mirrored + size)


class MeanWithMirrorImage(nn.Module):
    """The mean of a generator's answer and of the mirrored answer to the mirrored input: twice the cost."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, low: Tensor) -> Tensor:
        """Returns the restored faces (N, 3, 4h, 4w), unclamped."""
        mean: Tensor = 0.5 * (self.network(low) + self.network(low.flip(-1)).flip(-1))
        return mean


def with_fixed_size(model: onnx.ModelProto, width: int, height: int) -> onnx.ModelProto:
    """Returns a model that takes one picture of one size, (1, 3, height, width).

    What is computed from the size alone becomes a constant, and steps that then do nothing are left out, so that
    programs without free sizes can read it.
    """
    fixed = onnx.ModelProto()
    fixed.CopyFrom(model)
    graph = fixed.graph
    for ends, scale in ((graph.input, 1), (graph.output, SCALE)):
        for dim, side in zip(ends[0].type.tensor_type.shape.dim, (1, 3, scale * height, scale * width), strict=True):
            dim.dim_value = side
    for name, values in _sizes(fixed, width, height).items():
        graph.initializer.append(numpy_helper.from_array(values, name))
    constants = {tensor.name for tensor in graph.initializer}
    nodes = _without_idle([node for node in graph.node if node.output[0] not in constants], fixed)
    used = {name for node in nodes for name in node.input}
    weights = [tensor for tensor in graph.initializer if tensor.name in used]
    del graph.node[:], graph.initializer[:]
    graph.node.extend(nodes)
    graph.initializer.extend(weights)
    return fixed


def _sizes(model: onnx.ModelProto, width: int, height: int) -> dict[str, NDArray[np.int64]]:
    """Returns every vector of sizes that a graph computes, by running it once."""
    inferred = onnx.shape_inference.infer_shapes(model).graph.value_info
    sizes = [value for value in inferred if value.type.tensor_type.elem_type == TensorProto.INT64]
    telling = onnx.ModelProto()
    telling.CopyFrom(model)
    telling.graph.output.extend(sizes)
    names = [value.name for value in sizes]
    given = {model.graph.input[0].name: np.zeros((1, 3, height, width), np.float32)}
    # Without names, every output would be asked for.
    found = open_session(telling.SerializeToString(), 1).run(names, given) if names else []
    return dict(zip(names, found, strict=True))


def _without_idle(nodes: list[onnx.NodeProto], model: onnx.ModelProto) -> list[onnx.NodeProto]:
    """Returns nodes without those that continue or cut a picture by nothing."""
    inferred = onnx.shape_inference.infer_shapes(model, data_prop=True).graph
    shapes = {
        value.name: [dim.dim_value for dim in value.type.tensor_type.shape.dim]
        for value in [*inferred.value_info, *inferred.input, *inferred.output]
    }
    same: dict[str, str] = {}
    kept = []
    for node in nodes:
        given = [same.get(name, name) for name in node.input]
        del node.input[:]
        node.input.extend(given)
        # A slice with steps turns the picture round.
        can_be_idle = node.op_type == "Pad" or (node.op_type == "Slice" and len(given) == 4)
        shape = shapes.get(node.output[0])
        if can_be_idle and shape and all(shape) and shape == shapes.get(given[0]):
            same[node.output[0]] = given[0]
        else:
            kept.append(node)
    return kept
