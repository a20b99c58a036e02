"""A frozen convolutional network as an onnxruntime session: the same function, a third less time on a CPU.

onnxruntime keeps the channels of a feature map in blocks as wide as the processor's registers and joins each
convolution with the sum and the ReLU after it; PyTorch runs them one by one. What a picture's features are does not
depend on the pictures beside it. `benchmarks/evaluation.py` measures both.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from facesr.embedders.onnx import open_session
from facesr.onnx_writer import onnx_model

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
    model = onnx_model(network, (INPUT, ["n", 3, height, width]), (OUTPUT, ["n", None]))
    session = open_session(model.SerializeToString(), 1)
    # Threads with pictures of their own wait for each other once a batch; onnxruntime's would at every layer.
    threads = ThreadPoolExecutor(num_threads, thread_name_prefix="facesr-session")

    def features(pixels: Tensor) -> Tensor:
        found: NDArray[np.float32] = session.run(None, {INPUT: pixels.contiguous().numpy()})[0]
        return torch.from_numpy(found)

    def run(pixels: Tensor) -> Tensor:
        share = min(-(-len(pixels) // num_threads), MAX_BATCH)
        return torch.cat(list(threads.map(features, torch.split(pixels, max(share, 1)))))

    return run
