"""The rules of the 2019 script, for comparing with its printed number (protocol.strict=false).

The script scores the files it finds in the restored folder, whatever they are, and resizes every picture to 96x112.
Where it would crash (a stray file, no original of that name), the file is left out here and named in the report.

Source: github.com/ASC-Competition/ASC19-FaceSR, evaluation_script/evaluate.py.
"""

from pathlib import Path

import cv2
import numpy as np

from facesr.config import EvaluationProtocol
from facesr.errors import ConfigError, DataError, ImageError
from facesr.evaluation.pairs import Pair, Pairs, list_pictures
from facesr.image import Picture
from facesr.names import is_passed_over


def official_pairs(restored: Path, high: Path, low: Path | None, protocol: EvaluationProtocol) -> Pairs:
    """Returns a pair for every picture of the restored folder that has an original of the same file name.

    Raises:
        ConfigError: the protocol has no size to resize to.
        DataError: a folder is missing, there is nothing to score, or a scored picture has no low-resolution one.
    """
    if protocol.width is None or protocol.height is None:
        raise ConfigError(
            f"protocol.strict=false resizes pictures to the protocol's size, and {protocol.name} has none; "
            "use protocol=asc19_final or protocol.strict=true."
        )
    for folder in (restored, high):
        if not folder.is_dir():
            raise DataError(f"{folder} is not a folder; give the folder that holds the pictures.")
    size = (protocol.width, protocol.height)
    low_files = {} if low is None else list_pictures(low)
    items: list[Pair] = []
    skipped: list[str] = []
    resized: list[str] = []
    for path in sorted(restored.iterdir(), key=lambda path: path.name):
        original = high / path.name
        pictures = _decode(path), _decode(original)
        if pictures[0] is None or pictures[1] is None:
            skipped.append(path.name)
            continue
        if any(picture.shape[1::-1] != size for picture in pictures if picture is not None):
            resized.append(path.name)
        if low is not None and path.stem not in low_files:
            raise DataError(f"{path.stem}.png is not in {low}; add it, or leave low= out to score without it.")
        items.append(Pair(path.stem, path, original, low_files.get(path.stem), size))
    if not items:
        raise DataError(f"{restored} holds no picture that has an original of the same name in {high}.")
    scored = {pair.restored.name for pair in items}
    missing = sorted(
        path.name
        for path in high.iterdir()
        if path.suffix == ".png" and path.name not in scored and not is_passed_over(path.name)
    )

    def read(path: Path) -> Picture:
        picture = _decode(path)
        if picture is None:
            raise ImageError(f"{path} has changed while it was being scored; start again.")
        return np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_CUBIC), np.uint8)

    return Pairs(tuple(items), read, {"skipped": skipped, "resized": resized, "missing": missing})


def _decode(path: Path) -> Picture | None:
    """Returns what OpenCV makes of a file as 8-bit RGB (grey, alpha, 16 bits and JPEG are all taken), or None."""
    if not path.is_file():
        return None
    data = np.frombuffer(path.read_bytes(), np.uint8)
    try:
        picture = cv2.imdecode(data, cv2.IMREAD_COLOR_RGB) if data.size else None
    except cv2.error:
        return None
    return None if picture is None else np.asarray(picture, np.uint8)
