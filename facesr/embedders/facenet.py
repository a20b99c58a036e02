"""FaceNet: InceptionResnetV1 as facenet-pytorch trained it on VGGFace2 or CASIA-WebFace.

Source: github.com/timesler/facenet-pytorch (network, weights, scaling (x - 127.5) / 128 at 160x160 RGB); Schroff et
al., "FaceNet", CVPR 2015.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from facesr.embedders.frozen import FrozenEmbedder, Precision
from facesr.embedders.session import session_of
from facesr.errors import ConfigError, WeightsError
from facesr.facenet_package import facenet_module
from facesr.weights import find_weights, load_into, read_state_dict, sha256_of

SIZE = 160
DIM = 512
_RELEASE = "https://github.com/timesler/facenet-pytorch/releases/download/v2.2.9"
URLS = {
    "vggface2": f"{_RELEASE}/20180402-114759-vggface2.pt",
    "casia-webface": f"{_RELEASE}/20180408-102900-casia-webface.pt",
}
# The release's file, and its half-precision copy without the classifier. The release states no sha256; the first is
# what its users agree on. For casia-webface none is known to us.
_SHA256 = {
    "vggface2": (
        "281cebca8662831adb987a874bdcb36e73f5b1c6dc5ee5878f305e985625d99b",
        "e4cc95fd523474ab0fe756fb7af96f38ea0d82200a7b5b255dd6e39f23befdd2",
    ),
    "casia-webface": None,
}
# Persons in the training set: the rows of the classifier that the published files carry beside the features.
_PERSONS = {"vggface2": 8631, "casia-webface": 10575}


class FaceNet(FrozenEmbedder):
    """512-d FaceNet embeddings; full or half precision files, with or without the classifier layer."""

    feature_layers = ("conv2d_2b", "conv2d_4a", "repeat_1")

    def __init__(
        self,
        pretrained: Literal["vggface2", "casia-webface"],
        weights: str | Path | None = None,
        name: str | None = None,
        precision: Precision = "fp32",
    ) -> None:
        """Finds, checks and loads the weights.

        Args:
            pretrained: the training set of the weights.
            weights: a file; None looks in $FACESR_WEIGHTS, then in the cache, then downloads.
            name: the judge's name in reports; None names it after the training set.
            precision: see `FrozenEmbedder`.

        Raises:
            WeightsError: no file, or one of another network or training set.
        """
        if pretrained not in URLS:
            raise ConfigError(f"embedder.pretrained={pretrained} is unknown; use {' or '.join(URLS)}.")
        name = name or f"facenet_{pretrained.removesuffix('-webface')}"
        path = find_weights(
            f"facenet_{pretrained.removesuffix('-webface')}.pt",
            key="embedder.weights",
            configured=weights,
            known_sha256=_SHA256[pretrained],
            url=URLS[pretrained],
        )
        state = read_state_dict(path)
        persons = state["logits.weight"].shape[0] if "logits.weight" in state else _PERSONS[pretrained]
        if persons != _PERSONS[pretrained]:
            raise WeightsError(
                f"{path} was trained on {persons} persons where {pretrained} has {_PERSONS[pretrained]}; "
                f"give embedder.weights a file of {pretrained}."
            )
        network = facenet_module("inception_resnet_v1").InceptionResnetV1(pretrained=None)
        load_into(network, state, path, ignore=("logits.",))
        fold_batch_norms(network)
        super().__init__(
            network,
            name=name,
            dim=DIM,
            width=SIZE,
            height=SIZE,
            weights_sha256=sha256_of(path),
            precision=precision,
        )
        self._session: Callable[[Tensor], Tensor] | None = None

    def run(self, pixels: Tensor) -> Tensor:
        """Returns the features (N, 512), on a CPU in full precision by onnxruntime unless gradients are wanted."""
        if torch.is_grad_enabled() or pixels.device.type != "cpu" or self.precision != "fp32":
            return super().run(pixels)
        if self._session is None:
            self._session = session_of(self.network, SIZE, SIZE, torch.get_num_threads())
        return self._session(pixels)

    def prepare(self, batch: Tensor) -> Tensor:
        """Returns the pixels as (grey level - 127.5) / 128."""
        return (batch * 255.0 - 127.5) / 128.0


def fold_batch_norms(network: nn.Module) -> None:
    """Puts each convolution's batch normalisation into its weights: the same function, a seventh faster on a CPU."""
    network.eval().requires_grad_(False)
    block = facenet_module("inception_resnet_v1").BasicConv2d
    for layer in network.modules():
        if isinstance(layer, block):
            layer.conv = fuse_conv_bn_eval(layer.conv, layer.bn)
            layer.bn = nn.Identity()
            layer.relu = nn.ReLU(inplace=True)
