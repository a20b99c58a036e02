"""SphereFace sphere20a: the official judge of the competition, bit-compatible with its script.

The published weights are the user's to supply. Source: github.com/clcarwin/sphereface_pytorch (layer list, names,
weights model/sphere20a_20171020.7z); preprocessing of github.com/ASC-Competition/ASC19-FaceSR
evaluation_script/evaluate.py; Liu et al., "SphereFace", CVPR 2017.
"""

from pathlib import Path

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from facesr.embedders.frozen import FrozenEmbedder, Precision
from facesr.errors import WeightsError
from facesr.image import to_float, to_uint8
from facesr.weights import find_weights, load_into, read_state_dict, sha256_of

WIDTH, HEIGHT = 96, 112
DIM = 512
FILE_NAME = "sphere20a_20171020.pth"
ARCHIVE = "https://github.com/clcarwin/sphereface_pytorch/raw/master/model/sphere20a_20171020.7z"
# Output channels of each stage and how many pairs of convolutions it adds to a shortcut.
STAGES = ((64, 1), (128, 2), (256, 4), (512, 1))


class Sphere20a(nn.Module):
    """BGR pictures (N, 3, 112, 96) to features (N, 512); layers are named as in the published state dict."""

    def __init__(self) -> None:
        super().__init__()
        num_in = 3
        for stage, (num_out, num_pairs) in enumerate(STAGES, start=1):
            for layer in range(1, 2 + 2 * num_pairs):
                # The first layer of a stage halves the size, the others keep it.
                convolution = nn.Conv2d(num_in, num_out, 3, 2 if layer == 1 else 1, 1)
                self.add_module(f"conv{stage}_{layer}", convolution)
                self.add_module(f"relu{stage}_{layer}", nn.PReLU(num_out))
                num_in = num_out
        self.fc5 = nn.Linear(512 * 7 * 6, DIM)

    def forward(self, pixels: Tensor) -> Tensor:
        """Returns the features of the last but one layer, not of unit length."""
        features = pixels
        for stage, (_, num_pairs) in enumerate(STAGES, start=1):
            features = self._layer(stage, 1, features)
            for pair in range(num_pairs):
                first = self._layer(stage, 2 + 2 * pair, features)
                features = features + self._layer(stage, 3 + 2 * pair, first)
        # contiguous: the published weights expect channels before rows before columns.
        result: Tensor = self.fc5(features.contiguous().flatten(1))
        return result

    def _layer(self, stage: int, layer: int, features: Tensor) -> Tensor:
        convolved = self.get_submodule(f"conv{stage}_{layer}")(features)
        activated: Tensor = self.get_submodule(f"relu{stage}_{layer}")(convolved)
        return activated


class SphereFace20(FrozenEmbedder):
    """512-d embeddings of the official judge: BGR, (x - 127.5) / 128, OpenCV's cubic resize to 96x112."""

    def __init__(
        self, weights: str | Path | None = None, name: str = "sphereface20", precision: Precision = "fp32"
    ) -> None:
        """Finds, checks and loads the weights.

        Args:
            weights: the file from the published archive; None looks in $FACESR_WEIGHTS, then in the cache.
            name: the judge's name in reports.
            precision: see `FrozenEmbedder`.

        Raises:
            WeightsError: no file, or one of another network.
        """
        try:
            path = find_weights(FILE_NAME, key="embedder.weights", configured=weights)
        except WeightsError as error:
            raise WeightsError(f"{str(error).rstrip('.')} (unpack {ARCHIVE}).") from error
        state = read_state_dict(path)
        network = Sphere20a()
        # fc6 is the classifier over the persons of the training set.
        load_into(network, state, path, ignore=("fc6.",))
        super().__init__(
            network,
            name=name,
            dim=DIM,
            width=WIDTH,
            height=HEIGHT,
            weights_sha256=sha256_of(path),
            precision=precision,
        )

    def resize(self, batch: Tensor) -> Tensor:
        """Returns the pictures at 96x112 as the official script resizes them.

        It resizes uint8 pictures by cv2.INTER_CUBIC (a = -0.75, no antialiasing). Where gradients are needed the
        same kernel is applied without that rounding, since OpenCV cannot pass them on.
        """
        if batch.shape[-2:] == (HEIGHT, WIDTH):
            return batch
        if batch.requires_grad:
            return F.interpolate(batch, size=(HEIGHT, WIDTH), mode="bicubic", align_corners=False)
        pictures = [cv2.resize(picture, (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC) for picture in to_uint8(batch)]
        return to_float(np.stack(pictures)).to(batch.device)

    def prepare(self, batch: Tensor) -> Tensor:
        """Returns BGR pixels as (grey level - 127.5) / 128, exactly where the pictures are whole grey levels."""
        levels = batch.flip(1) * 255.0
        # k / 255 * 255 is not always k in float32, but the official script starts from uint8.
        whole = levels.round()
        correction = torch.where((levels - whole).abs() < 1e-3, whole - levels, 0.0)
        return (levels + correction.detach() - 127.5) / 128.0
