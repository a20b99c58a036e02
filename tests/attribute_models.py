"""A network small enough to follow by hand, in the place of one that reads attributes of faces."""

from pathlib import Path

import onnx
from onnx import TensorProto, helper


def write_means(path: Path) -> None:
    """Writes a network whose outputs are the mean of the first and of the last channel."""
    nodes = [
        helper.make_node("ReduceMean", ["x", "axes"], ["means"], keepdims=0),
        helper.make_node("Gather", ["means", "places"], ["y"], axis=1),
    ]
    constants = [
        helper.make_tensor("axes", TensorProto.INT64, [2], [2, 3]),
        helper.make_tensor("places", TensorProto.INT64, [2], [0, 2]),
    ]
    ends = [
        helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3, 8, 10]),
        helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 2]),
    ]
    graph = helper.make_graph(nodes, "means", ends[:1], ends[1:], constants)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), path)
