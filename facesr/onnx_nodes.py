"""Nodes and weights of an ONNX graph that is being written, and where the steps of a network stand among them."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, fx

TO_THE_END = sys.maxsize


class Nodes:
    """What has been written so far.

    Attributes:
        nodes: in the order in which they run.
        weights: constants, weights among them, by name.
        names: where a step's result stands in the ONNX graph.
        sizes: steps whose results are sizes, int64 vectors there.
    """

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.weights: dict[str, TensorProto] = {}
        self.names: dict[fx.Node, str] = {}
        self.sizes: set[fx.Node] = set()

    def needed_for(self, output: str) -> list[onnx.NodeProto]:
        """Returns the nodes that an output depends on: a size may have been asked for that ONNX knows by itself."""
        wanted, kept = {output}, []
        for node in reversed(self.nodes):
            if node.output[0] in wanted:
                wanted.update(node.input)
                kept.append(node)
        return kept[::-1]

    def node(self, kind: str, given: list[str], result: fx.Node | str, **attributes: Any) -> str:
        """Writes a node whose result is a step's, or has a name of its own; returns where it stands."""
        name = result if isinstance(result, str) else result.name
        self.nodes.append(helper.make_node(kind, given, [name], **attributes))
        if isinstance(result, fx.Node):
            self.names[result] = name
        return name

    def given(self, argument: Any) -> str:
        """Returns where the result of the step that is an argument stands."""
        return self.names[argument]

    def operand(self, argument: Any, *, is_size: bool) -> str:
        """Returns where a step's result stands, or a number as a constant of the other operand's kind."""
        if isinstance(argument, fx.Node):
            return self.given(argument)
        if isinstance(argument, bool) or not isinstance(argument, int | float):
            raise TypeError("neither a tensor nor a number")
        return self.whole_numbers(int(argument)) if is_size else self.number(argument)

    def weight(self, name: str, value: Tensor | NDArray[Any]) -> str:
        """Keeps a constant, weights as float32, and returns its name."""
        array = value.detach().float().contiguous().numpy() if isinstance(value, Tensor) else value
        self.weights[name] = numpy_helper.from_array(array, name)
        return name

    def number(self, value: float) -> str:
        """Keeps a number and returns its name."""
        return self.weight(f"number.{value!r}", np.array(value, np.float32))

    def whole_numbers(self, *values: int) -> str:
        """Keeps a vector of sizes or places and returns its name."""
        return self.weight(".".join(["whole", *map(str, values)]), np.array(values, np.int64))

    def slice(self, given: str, result: fx.Node | str, start: int, end: int | str, axis: int) -> str:
        """Writes what lies from `start` to `end`, a number or a place of the graph, along one axis."""
        stop = end if isinstance(end, str) else self.whole_numbers(end)
        return self.node("Slice", [given, self.whole_numbers(start), stop, self.whole_numbers(axis)], result)
