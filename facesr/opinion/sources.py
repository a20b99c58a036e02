"""The pictures that a study is made of: folders of strangers, checked before anything of them is copied."""

import csv
import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from facesr.errors import ConfigError, DataError
from facesr.methods.folder import PICTURES, read_restored
from facesr.names import is_unsafe, shown, shown_path
from facesr.opinion.ratings import ORIGINAL
from facesr.opinion.study import PERSON
from facesr.png import decode_png, list_png, png_header

MAX_SIDE = 4096
MAX_FILE_BYTES = 64 << 20
ANCHORS = ("bicubic", "nearest")
_METHOD = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,63}", re.ASCII)

Picture = NDArray[np.uint8]


@dataclass(frozen=True)
class Sources:
    """Where the pictures lie.

    Attributes:
        high: id -> original.
        methods: name -> id -> picture; all have the ids of `high`.
        low: id -> low-resolution picture, None where they are made from the originals.
    """

    high: Mapping[str, Path]
    methods: Mapping[str, Mapping[str, Path]]
    low: Mapping[str, Path] | None


def read_picture(path: Path) -> Picture:
    """Returns a picture, uint8 (H, W, 3), RGB; nothing else of the file is kept.

    Raises:
        FaceSRError: it is a link, too large, or no 8-bit RGB PNG.
    """
    name = shown_path(path)
    if path.is_symlink():
        raise DataError(f"{name} is a link; copy the picture there.")
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise DataError(f"{name} has more than {MAX_FILE_BYTES >> 20} MiB; give a smaller picture.")
        data = path.read_bytes()
    except OSError as error:
        raise DataError(f"{name} cannot be read: {error.strerror}.") from error
    width, height, *_ = png_header(data, name)
    if not (0 < width <= MAX_SIDE and 0 < height <= MAX_SIDE):
        raise DataError(f"{name} is {width}x{height}; a side has {MAX_SIDE} pixels at most.")
    return decode_png(data, name)


def open_sources(folders: Sequence[str], high: str | None, low: str | None, anchors: Sequence[str]) -> Sources:
    """Returns the pictures in folders, whose names are checked.

    Raises:
        FaceSRError: a folder is missing or holds other names than the originals, or two methods have one name.
    """
    if not folders or high is None:
        raise ConfigError("folders and high have to be given: folders=[A,B] high=DIR.")
    originals = _listed(Path(high).expanduser(), None)
    unsafe = [face for face in originals if is_unsafe(face) or "/" in face]
    if unsafe:
        raise DataError(f"{shown_path(high)} holds {shown(unsafe)}, no name that is safe everywhere; rename it.")
    methods: dict[str, Mapping[str, Path]] = {}
    for name, folder in named_folders([Path(one).expanduser() for one in folders], anchors).items():
        methods[name] = _listed(folder, originals)
    lows = None if low is None else _listed(Path(low).expanduser(), originals)
    return Sources(originals, methods, lows)


def named_folders(folders: Sequence[Path], anchors: Sequence[str]) -> dict[str, Path]:
    """Returns method -> folder of its pictures: named by the record that facesr keeps, otherwise by the folder.

    Raises:
        FaceSRError: a name is none, is taken, or comes twice.
    """
    found: dict[str, Path] = {}
    named: list[tuple[str, str, Path]] = []
    for folder in folders:
        outer = folder.parent if folder.name == PICTURES else folder
        inner = outer / PICTURES if (outer / PICTURES).is_dir() else folder
        record = read_restored(outer) if inner.name == PICTURES else None
        model = "" if record is None else record.model.removeprefix("pretrained:")
        named.append((model if _METHOD.fullmatch(model) else outer.name, outer.name, inner))
    models = [model for model, _, _ in named]
    for model, own, folder in named:
        # Two restorations by one network: their folders' names tell them apart.
        name = own if models.count(model) > 1 else model
        if not _METHOD.fullmatch(name):
            raise ConfigError(
                f"folders: {shown([name])} cannot be the name of a method; rename the folder, with letters, digits, "
                "dots, _ and - alone."
            )
        if name in (ORIGINAL, PERSON, *anchors):
            raise ConfigError(
                f"folders: {name} is what the study itself calls something; rename the folder"
                + (f", or leave {name} out of anchors." if name in anchors else ".")
            )
        if name in found:
            raise ConfigError(f"folders: two methods are called {name}; rename one of the folders.")
        found[name] = folder
    return found


def _listed(folder: Path, wanted: Mapping[str, Path] | None) -> dict[str, Path]:
    found = list_png(folder)
    if wanted is not None and found.keys() != wanted.keys():
        missing, more = sorted(wanted.keys() - found.keys()), sorted(found.keys() - wanted.keys())
        what = f"lacks {shown(missing)}" if missing else f"has {shown(more)}"
        which = "which high has" if missing else "which high has not"
        raise DataError(f"{shown_path(folder)} {what}, {which}; all folders need the same names.")
    return found


def low_of(sources: Sources, face: str, high: Picture) -> Picture:
    """Returns the low-resolution picture of a face.

    Raises:
        FaceSRError: it cannot be read, or the original is no whole number of times as large.
    """
    if sources.low is None:
        from facesr.resample import downscale_uint8
        from facesr.task import SCALE

        if high.shape[0] % SCALE or high.shape[1] % SCALE:
            raise DataError(
                f"{shown_path(sources.high[face])} is {high.shape[1]}x{high.shape[0]}, no multiple of {SCALE}; "
                "give low=DIR, or anchors=[]."
            )
        return np.asarray(downscale_uint8(high[None])[0], np.uint8)
    low = read_picture(sources.low[face])
    scale = high.shape[0] // low.shape[0]
    if (low.shape[0] * scale, low.shape[1] * scale) != high.shape[:2]:
        raise DataError(
            f"{shown_path(sources.low[face])} is {low.shape[1]}x{low.shape[0]}, and its original is "
            f"{high.shape[1]}x{high.shape[0]}, which is no whole number of times as large; give the right ones."
        )
    return low


def anchor_of(name: str, low: Picture, height: int, width: int) -> Picture:
    """Returns a low-resolution picture at the original's size: ``nearest`` or ``bicubic``."""
    if name == "nearest":
        return np.repeat(np.repeat(low, height // low.shape[0], 0), width // low.shape[1], 1)
    from facesr.image import to_float, to_uint8
    from facesr.resample import resize

    return np.asarray(to_uint8(resize(to_float(low[None]), height, width))[0], np.uint8)


def read_persons(path: Path, faces: Sequence[str]) -> tuple[dict[str, str], dict[str, list[Path]]]:
    """Returns face -> person, and face -> files with other pictures of that person.

    Args:
        path: a CSV file with the header ``person,picture``; a picture is the id of a face, or a file, relative to this
            one.
        faces: ids.

    Raises:
        FaceSRError: the file is none such, or a face has no person or no other picture.
    """
    name = shown_path(path)
    try:
        reader = csv.DictReader(io.StringIO(path.read_text(encoding="utf-8-sig"), newline=""), strict=True)
        rows = [(str(row["person"]).strip(), str(row["picture"]).strip()) for row in reader]
    except OSError as error:
        raise DataError(f"{name} cannot be read: {error.strerror}.") from error
    except (KeyError, csv.Error, UnicodeDecodeError) as error:
        raise DataError(f"{name} is no CSV file with the header person,picture; write one.") from error
    known = set(faces)
    person_of = {picture: person for person, picture in rows if picture in known}
    others: dict[str, list[Path]] = {}
    for person, picture in rows:
        if picture not in known:
            others.setdefault(person, []).append(path.parent / picture)
    lacking = [face for face in faces if not others.get(person_of.get(face, ""))]
    if lacking:
        raise DataError(
            f"{name} has no other picture of the person of {shown(lacking)}; add one, or give faces=[...] that have."
        )
    return person_of, {face: others[person_of[face]] for face in faces}
