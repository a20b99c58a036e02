"""A frozen convolutional network as an onnxruntime session: the same function, a third less time on a CPU.

onnxruntime keeps the channels of a feature map in blocks as wide as the processor's registers and joins each
convolution with the sum and the ReLU after it; PyTorch runs them one by one. What a picture's features are does not
depend on the pictures beside it. `benchmarks/evaluation.py` measures both.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import onnx
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, fx, nn

from facesr.embedders.onnx import open_session

# Of the file format: any onnxruntime since 1.14 reads it.
OPSET, IR_VERSION = 17, 8
INPUT, OUTPUT = "pixels", "features"
# Pictures of one call: larger calls take more memory and are no faster.
MAX_BATCH = 16


def session_of(network: nn.Module, width: int, height: int, num_threads: int) -> Callable[[Tensor], Tensor]:
    """Returns the network as a function of pixels (N, 3, height, width), float32 on the CPU, without gradients.

    Args:
        network: in evaluation mode, float32; of convolutions, batch norms of vectors, ReLU, pooling, sums, products
            of a convolution with a number, concatenations and linear layers.
        width: of its input, in pixels.
        height: of its input, in pixels.
        num_threads: how many parts of a batch run at once, a thread each.

    Raises:
        NotImplementedError: the network has a layer that is none of these.
    """
    session = open_session(_Writer(network).model(width, height).SerializeToString(), 1)
    # Threads with pictures of their own wait for each other once a batch; onnxruntime's would at every layer.
    threads = ThreadPoolExecutor(num_threads, thread_name_prefix="facesr-session")

    def features(pixels: Tensor) -> Tensor:
        found: NDArray[np.float32] = session.run(None, {INPUT: pixels.contiguous().numpy()})[0]
        return torch.from_numpy(found)

    def run(pixels: Tensor) -> Tensor:
        share = min(-(-len(pixels) // num_threads), MAX_BATCH)
        return torch.cat(list(threads.map(features, torch.split(pixels, max(share, 1)))))

    return run


class _Writer:
    """Writes the steps of a traced network as nodes of an ONNX graph."""

    def __init__(self, network: nn.Module) -> None:
        self._network = network
        self._graph = fx.Tracer().trace(network)
        self._nodes: list[onnx.NodeProto] = []
        self._weights: list[TensorProto] = []
        self._names: dict[fx.Node, str] = {}  # where a step's result stands in the ONNX graph

    def model(self, width: int, height: int) -> onnx.ModelProto:
        """Returns the model with one input of that size and one output, both for any number of pictures."""
        for step in self._graph.nodes:
            self._write(step)
        pixels = helper.make_tensor_value_info(INPUT, TensorProto.FLOAT, ["n", 3, height, width])
        features = helper.make_tensor_value_info(OUTPUT, TensorProto.FLOAT, ["n", None])
        graph = helper.make_graph(self._nodes, "network", [pixels], [features], self._weights)
        opset = helper.make_opsetid("", OPSET)
        return helper.make_model(graph, opset_imports=[opset], ir_version=IR_VERSION)

    def _write(self, step: fx.Node) -> None:
        if step.op == "placeholder":
            self._names[step] = INPUT
        elif step.op == "output":
            self._node("Identity", [self._given(step.args[0])], OUTPUT)
        elif step.op == "call_module":
            self._layer(step, self._network.get_submodule(str(step.target)))
        elif step.target == torch.cat:
            parts: Any = step.args[0]
            self._node("Concat", [self._given(part) for part in parts], step, axis=step.args[1])
        elif step.target == operator.add:
            self._node("Add", [self._given(part) for part in step.args], step)
        elif step.target == operator.mul and self._factor_after(step.args[0]) is not None:
            self._names[step] = self._given(step.args[0])
        elif step.target == F.normalize and (step.kwargs["p"], step.kwargs["dim"]) == (2, 1):
            self._node("LpNormalization", [self._given(step.args[0])], step, p=2, axis=1)
        elif step.op == "call_method" and step.target == "view" and step.args[2:] == (-1,):
            self._node("Flatten", [self._given(step.args[0])], step, axis=1)
        elif not self._is_size(step):
            raise NotImplementedError(f"{step.name} ({step.target}) has no ONNX form here")

    def _given(self, argument: Any) -> str:
        """Returns where the result of the step that is an argument stands."""
        return self._names[argument]

    def _factor_after(self, step: Any) -> float | None:
        """Returns the number that a convolution's result is multiplied with, None where it is used otherwise, too.

        The convolution's weights take it in: onnxruntime joins a convolution with a sum that follows at once.
        """
        users = list(step.users)
        if step.op != "call_module" or not isinstance(self._network.get_submodule(str(step.target)), nn.Conv2d):
            return None
        if len(users) != 1 or users[0].target != operator.mul or not isinstance(users[0].args[1], float | int):
            return None
        return float(users[0].args[1])

    @staticmethod
    def _is_size(step: Any) -> bool:
        """Returns whether a step asks for the number of pictures, which `Flatten` knows by itself."""
        of_shape: bool = step.target is getattr and step.args[1] == "shape"
        return of_shape or step.target == operator.getitem

    def _layer(self, step: fx.Node, layer: nn.Module) -> None:
        given = self._given(step.args[0])
        if isinstance(layer, nn.Conv2d):
            assert layer.padding_mode == "zeros" and not isinstance(layer.padding, str)
            self._node(
                "Conv",
                [given, *self._parameters(step, layer, self._factor_after(step))],
                step,
                kernel_shape=layer.kernel_size,
                strides=layer.stride,
                pads=(*layer.padding, *layer.padding),
                dilations=layer.dilation,
                group=layer.groups,
            )
        elif isinstance(layer, nn.Linear):
            self._node("Gemm", [given, *self._parameters(step, layer)], step, transB=1)
        elif isinstance(layer, nn.BatchNorm1d):
            assert layer.running_mean is not None and layer.running_var is not None
            moments = zip(("mean", "var"), (layer.running_mean, layer.running_var), strict=True)
            names = [self._weight(f"{step.name}.{name}", value) for name, value in moments]
            self._node("BatchNormalization", [given, *self._parameters(step, layer), *names], step, epsilon=layer.eps)
        elif isinstance(layer, nn.MaxPool2d):
            assert isinstance(layer.kernel_size, int) and isinstance(layer.stride, int) and layer.padding == 0
            kernel, stride = [layer.kernel_size] * 2, [layer.stride] * 2
            self._node("MaxPool", [given], step, kernel_shape=kernel, strides=stride, ceil_mode=int(layer.ceil_mode))
        elif isinstance(layer, nn.AdaptiveAvgPool2d) and layer.output_size in (1, (1, 1)):
            self._node("GlobalAveragePool", [given], step)
        elif isinstance(layer, nn.ReLU):
            self._node("Relu", [given], step)
        elif isinstance(layer, nn.Identity | nn.Dropout):
            self._names[step] = given
        else:
            raise NotImplementedError(f"{step.target} ({type(layer).__name__}) has no ONNX form here")

    def _parameters(self, step: fx.Node, layer: nn.Module, factor: float | None = None) -> list[str]:
        """Returns the names of a layer's weight and, where it has one, its bias, both times the factor."""
        scaled = ((name, value if factor is None else value * factor) for name, value in layer.named_parameters())
        return [self._weight(f"{step.name}.{name}", value) for name, value in scaled]

    def _weight(self, name: str, value: Tensor) -> str:
        self._weights.append(numpy_helper.from_array(value.detach().float().contiguous().numpy(), name))
        return name

    def _node(self, kind: str, given: list[str], result: fx.Node | str, **attributes: Any) -> None:
        name = result if isinstance(result, str) else result.name
        self._nodes.append(helper.make_node(kind, given, [name], **attributes))
        if isinstance(result, fx.Node):
            self._names[result] = name
