"""A snapshot as a folder for any web server: a page that restores in the browser, by onnxruntime-web.

Nothing in it comes from elsewhere, and nothing leaves it: the page's policy (Content-Security-Policy) lets it reach
its own server alone. What it looks like and does lies in facesr/web/templates/browser/.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from facesr.errors import ConfigError, DataError
from facesr.export.model import check_place, checked_model
from facesr.export.parity import Parity
from facesr.export.web_runtime import VERSION, runtime_files
from facesr.files import whole_folder
from facesr.methods.onnx_about import OnnxAbout
from facesr.names import shown_path
from facesr.photos.crop import REFERENCE_HEIGHT, REFERENCE_WIDTH
from facesr.photos.trained import PIECES
from facesr.snapshots.shipped import PREFIX
from facesr.task import NOTE, SCALE
from facesr.web.page import plain_text, render

MODEL = "model.onnx"
REFERENCE = (REFERENCE_WIDTH, REFERENCE_HEIGHT)
# Pixels of a side of what the network is shown of a frame, whatever it was trained on.
LEAST_GRID, MOST_GRID = 8, 192


@dataclass(frozen=True)
class Page:
    """A written folder.

    Attributes:
        folder: where it lies.
        num_bytes: of all its files.
        parity: how far its network is from the snapshot.
    """

    folder: Path
    num_bytes: int
    parity: Parity


def export_web(spec: str, folder: Path, runtime: Path | None = None) -> Page:
    """Writes a folder with a page that restores faces by a snapshot's generator; it appears whole or not at all.

    Args:
        spec: a snapshot file, run folder or ``pretrained:NAME``.
        folder: a new or empty one.
        runtime: see `facesr.export.web_runtime.runtime_files`.

    Raises:
        CheckpointError: see `facesr.export.model.export`.
        ConfigError: the folder holds something or cannot be made, or `runtime` is another package.
        WeightsError: onnxruntime-web cannot be had.
        DataError: the folder could not be written.
    """
    _check_folder(folder)
    files = {f"runtime/{name}": data for name, data in runtime_files(runtime).items()}
    data, about, parity = checked_model(spec, folder / MODEL)
    files |= {MODEL: data, **{name: text.encode() for name, text in page_texts(about, name_of(spec, about)).items()}}
    try:
        with whole_folder(folder) as unfinished:
            (unfinished / "runtime").mkdir()
            for name, content in files.items():
                (unfinished / name).write_bytes(content)
    except OSError as error:
        raise DataError(f"{shown_path(folder)} cannot be written: {error.strerror or error}.") from error
    return Page(folder, sum(map(len, files.values())), parity)


def _check_folder(folder: Path) -> None:
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ConfigError(f"--web {shown_path(folder)} exists; give a new or empty folder.")
    check_place(folder)


def name_of(spec: str, about: OnnxAbout) -> str:
    """Returns what people call a network: one that comes with the package by its name there, others by their run's."""
    return spec if spec.startswith(PREFIX) else about.run


def page_texts(about: OnnxAbout, name: str) -> dict[str, str]:
    """Returns the page's own files, name to text."""
    framing = json.loads(about.framing) if about.framing else {}
    width, height = (framing.get(side, most) for side, most in zip(("width", "height"), REFERENCE, strict=True))
    thing = "picture" if framing.get("crop") == PIECES else "face"
    index = render(
        "browser/index.html",
        title=f"Restore a small {thing}",
        thing=thing,
        note=NOTE,
        use=about.use,
        made_by=f"{name}, facesr {about.version}",
        runtime_version=VERSION,
        scale=SCALE,
        low_width=min(max(width // SCALE, LEAST_GRID), MOST_GRID),
        low_height=min(max(height // SCALE, LEAST_GRID), MOST_GRID),
        bound=about.consistency_bound_db,
        face=_face_in(framing) if "face_box_centre" in framing else None,
    )
    return {
        "index.html": str(index),
        "page.css": "\n".join(map(plain_text, ("style.css", "restored.css", "browser/page.css"))),
        "slider.js": plain_text("restored.js"),
        **{name: plain_text(f"browser/{name}") for name in ("page.js", "worker.js")},
    }


def _face_in(framing: Mapping[str, Any]) -> list[str]:
    """Returns left, top, width and height of the face's box in the framing, in percent of its sides."""
    sides = (framing["width"], framing["height"])
    pairs = list(zip(framing["face_box_centre"], framing["face_box_size"], sides, strict=True))
    first = [(centre + 0.5 - size / 2) / side for centre, size, side in pairs]
    return [f"{100 * share:.2f}" for share in [*first, *(size / side for _, size, side in pairs)]]
