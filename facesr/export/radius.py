"""How far a network of an ONNX graph sees: which input pixels can move an output pixel."""

from collections.abc import Iterable
from typing import Any

import onnx
from onnx import helper

from facesr.task import SCALE

_Interval = tuple[int, int]
# Of the output pixel that is asked for: far from every border, and a multiple of what any hourglass halves to.
_FAR = 1 << 16


def receptive_radius(model: onnx.ModelProto) -> int:
    """Returns the largest distance, in input pixels along one axis, of an input pixel that an output pixel depends on.

    Worked out on the graph from the output backwards, for output pixels of every phase against the coarsest step of the
    network; features between the first and the last that matter are all taken to matter.
    """
    graph = model.graph
    weights = {tensor.name: list(tensor.dims) for tensor in graph.initializer}
    radius = 0
    for pixel in range(_FAR, _FAR + 16):
        seen = {graph.output[0].name: (SCALE * pixel, SCALE * pixel + SCALE - 1)}
        for node in reversed(graph.node):
            if node.output[0] in seen:
                _look_back(node, seen, weights)
        first, last = seen[graph.input[0].name]
        radius = max(radius, pixel - first, last - pixel)
    return radius


def _look_back(node: onnx.NodeProto, seen: dict[str, _Interval], weights: dict[str, list[int]]) -> None:
    """Adds what a node's output depends on to what is seen of its inputs."""
    first, last = seen[node.output[0]]
    given = {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}
    names: Iterable[str] = node.input
    if node.op_type == "Conv":
        names = node.input[:1]
        stride, pad = given.get("strides", [1])[0], given.get("pads", [0])[0]
        reach = (given["kernel_shape"][0] - 1) * given.get("dilations", [1])[0]
        first, last = first * stride - pad, last * stride - pad + reach
    elif node.op_type == "DepthToSpace":
        first, last = first // given["blocksize"], last // given["blocksize"]
    elif node.op_type == "Resize":
        names = node.input[:1]
        first, last = first // 2, last // 2
    elif node.op_type == "Pad":
        # Only the upscaling's border moves pixels; that of whole pictures lies behind the last one.
        names = node.input[:1]
        moved = 1 if node.input[1] in weights else 0
        first, last = first - moved, last - moved
    elif node.op_type == "Concat" and given["axis"] == 2:
        # The upscaling's border again: one more pixel stands before the picture, which is the second part.
        names = node.input[1:2]
        first, last = first - 1, last - 1
    elif node.op_type in ("Shape", "Slice") or (node.op_type == "Concat" and given["axis"] == 0):
        names = node.input[:1]
    for name in names:
        _add(seen, name, first, last)


def _add(seen: dict[str, Any], name: str, first: int, last: int) -> None:
    low, high = seen.get(name, (first, last))
    seen[name] = (min(low, first), max(high, last))
