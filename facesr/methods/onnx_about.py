"""What an ONNX file of `facesr export` says of itself, as text in its `metadata_props`.

It may come from a stranger, so it is read within bounds; none of it is more than its author's claim.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from facesr.methods.values import is_sha256, is_text
from facesr.photos.trained import TrainedFraming, read_framing
from facesr.snapshots.rules import MAX_BOUND_DB
from facesr.task import SCALE

FORMAT = "facesr-onnx-1"
PREFIX = "facesr."
# Stands only in files that are no plain ones: the options that made them so.
MADE_WITH = f"{PREFIX}made_with"
# An entry, and how many there may be in all: other programs may add their own.
_MAX_LENGTH, _MAX_ENTRIES, _MAX_JUDGES, _MAX_KIMG = 2000, 64, 64, 1e9


@dataclass(frozen=True)
class OnnxAbout:
    """What an exported file says of itself.

    Attributes:
        run: name of the run.
        snapshot_sha256: of the snapshot's file that was exported.
        config_sha256: digest of the run's configuration.
        kimg: thousands of images it was trained on.
        loss_judges: recognisers that were part of its training loss.
        consistency_bound_db: the bound of its guard, 0 to 100 dB; None where nobody has measured it.
        use: what it may be used for.
        receptive_radius_px: how far away an input pixel may lie that moves an output pixel, in input pixels.
        framing: where the face's box has to lie (`facesr.photos.trained`), as JSON; "" where it is not known.
        version: of facesr.
    """

    run: str
    snapshot_sha256: str
    config_sha256: str
    kimg: float
    loss_judges: tuple[str, ...]
    consistency_bound_db: float | None
    use: str
    receptive_radius_px: int
    framing: str
    version: str

    @property
    def trained_framing(self) -> TrainedFraming | None:
        """What `framing` says; None where it is not known.

        Raises:
            ValueError: it is no framing.
        """
        if not self.framing:
            return None
        try:
            given = json.loads(self.framing)
        except (ValueError, RecursionError):
            given = None
        return read_framing(given)

    def as_text(self) -> dict[str, str]:
        """Returns the entries of the file, name to text."""
        bound = self.consistency_bound_db
        entries = {
            "format": FORMAT,
            "run": self.run,
            "snapshot_sha256": self.snapshot_sha256,
            "config_sha256": self.config_sha256,
            "kimg": repr(self.kimg),
            "loss_judges": json.dumps(list(self.loss_judges)),
            "consistency_bound_db": "" if bound is None else repr(bound),
            "use": self.use,
            "scale": str(SCALE),
            "receptive_radius_px": str(self.receptive_radius_px),
            "framing": self.framing,
            "version": self.version,
        }
        return {PREFIX + name: text for name, text in entries.items()}


def is_exported(entries: Mapping[str, str]) -> bool:
    """Returns whether a file says that `facesr export` wrote it."""
    return entries.get(PREFIX + "format") == FORMAT


def read_entries(entries: Mapping[str, str]) -> OnnxAbout:
    """Returns what the entries of a file say.

    Raises:
        ValueError: something is missing or out of bounds; its text says what, in a few words.
    """
    if len(entries) > _MAX_ENTRIES:
        raise ValueError(f"it has more than {_MAX_ENTRIES} entries of metadata")
    # What is no UTF-8 comes as bytes.
    if not all(isinstance(text, str) for pair in entries.items() for text in pair):
        raise ValueError("its metadata are no text")
    found = {name.removeprefix(PREFIX): text for name, text in entries.items() if name.startswith(PREFIX)}
    for entry in OnnxAbout("", "", "", 0.0, (), None, "", 0, "", "").as_text():
        name = entry.removeprefix(PREFIX)
        text = found.get(name)
        if text is None or len(text) > _MAX_LENGTH or not text.isprintable():
            raise ValueError(f"its {name} is missing, too long or holds control characters")
    if not is_text(found["run"]):
        raise ValueError("its run has no name of 1 to 200 printable characters without < and >")
    for name in ("snapshot_sha256", "config_sha256"):
        if not is_sha256(found[name]):
            raise ValueError(f"its {name} is no sha256 of 64 hexadecimal digits")
    if found["scale"] != str(SCALE):
        raise ValueError(f"its scale is not {SCALE}")
    bound = found["consistency_bound_db"]
    about = OnnxAbout(
        run=found["run"],
        snapshot_sha256=found["snapshot_sha256"],
        config_sha256=found["config_sha256"],
        kimg=_number("kimg", found["kimg"], _MAX_KIMG),
        loss_judges=_judges(found["loss_judges"]),
        consistency_bound_db=_number("consistency_bound_db", bound, MAX_BOUND_DB) if bound else None,
        use=found["use"],
        receptive_radius_px=int(_number("receptive_radius_px", found["receptive_radius_px"], _MAX_KIMG)),
        framing=found["framing"],
        version=found["version"],
    )
    _ = about.trained_framing  # a ValueError says that it is none
    return about


def _number(name: str, text: str, most: float) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value <= most:
        raise ValueError(f"its {name} is no number from 0 to {most:g}")
    return value


def _judges(text: str) -> tuple[str, ...]:
    try:
        judges: Any = json.loads(text)
    except (ValueError, RecursionError):
        judges = None
    if not isinstance(judges, list) or len(judges) > _MAX_JUDGES or not all(map(is_text, judges)):
        raise ValueError(f"its loss_judges are no list of at most {_MAX_JUDGES} names")
    return tuple(judges)
