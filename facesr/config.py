"""Closed settings of the scripts: types and units here, values in configs/*.yaml.

Each dataclass is registered as the schema of its script's configuration (facesr/build.py), so that an unknown
key or a wrong type on the command line is an error of one line. They are not frozen only because OmegaConf
makes a frozen schema read-only, and then neither YAML nor the command line could fill it.
"""

from dataclasses import dataclass
from typing import ClassVar


@dataclass
class EvaluationProtocol:
    """Rules that a folder of restored pictures has to obey, from configs/protocol/.

    In every protocol a picture is an 8-bit RGB PNG without alpha, named <id>.png, and every id of the high
    folder is restored exactly once; `official` rules (strict=false) are those of the 2019 script, see
    docs/evaluation.md.

    Attributes:
        name: the protocol's name in reports and manifests.
        strict: whether a broken rule is an error; false means to score as the official script does.
        width: pixels of a restored picture; None for any (then each equals its original's).
        height: pixels of a restored picture; None for any.
        num_pictures: how many there have to be; None for as many as the high folder holds.
    """

    name: str
    strict: bool
    width: int | None
    height: int | None
    num_pictures: int | None

    # Restored pictures are this many times as wide and as high as the low-resolution ones.
    scale: ClassVar[int] = 4

    @property
    def low_width(self) -> int | None:
        """Pixels of a low-resolution picture, None for any."""
        return None if self.width is None else self.width // self.scale

    @property
    def low_height(self) -> int | None:
        """Pixels of a low-resolution picture, None for any."""
        return None if self.height is None else self.height // self.scale
