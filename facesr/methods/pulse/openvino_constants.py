"""The constants of a network in OpenVINO's format (IR version 10): an XML description and a file of numbers."""

from collections.abc import Collection
from xml.etree import ElementTree

import numpy as np
import torch
from torch import Tensor


def read_constants(xml: bytes, numbers: bytes, names: Collection[str]) -> dict[str, Tensor]:
    """Returns constants by their layers' names, float32 of the stated shapes.

    Both files have to be trusted: the caller has compared them with digests that it knows.

    Args:
        xml: the description.
        numbers: the file that it points into.
        names: of the constants that are wanted.

    Raises:
        KeyError: there is no constant of a name.
    """
    found: dict[str, Tensor] = {}
    for layer in ElementTree.fromstring(xml).iterfind("./layers/layer[@type='Const']"):
        name, data = layer.attrib["name"], layer.find("data")
        if name not in names or data is None or data.attrib["element_type"] != "f32":
            continue
        shape = [int(side) for side in data.attrib["shape"].split(",") if side.strip()]
        values = np.frombuffer(numbers, "<f4", int(data.attrib["size"]) // 4, int(data.attrib["offset"]))
        found[name] = torch.from_numpy(values.astype(np.float32).reshape(shape))
    for name in names:
        if name not in found:
            raise KeyError(name)
    return found
