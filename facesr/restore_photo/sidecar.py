"""What is written beside a restored photograph: NAME.restored.json, with every face and what became of it."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from facesr import __version__
from facesr.files import whole_file
from facesr.task import NOTE

if TYPE_CHECKING:
    from facesr.restore_photo.photo import FaceFacts

SUFFIX = ".restored.json"
Facts = dict[str, Any]
REMARK = f"faces restored by facesr {__version__}: the detail in them is invented"
# One line for each figure, so that nobody has to guess what it says, above all of the cosine.
MEANINGS = {
    "mirror_agreement": "cosine between a judge's embeddings of the face restored directly and by way of its mirror "
    "image; of the figures that need no original it goes best with the truth",
    "input_cosine": "cosine between the embeddings of the input and of the restored face; it does not tell whether the "
    "person is the same, because the input's embedding is the poor one",
    "consistency_db": "how well the restored face gives its input again when it is downscaled, in dB; damage that was "
    "undone lowers it",
}


@dataclass(frozen=True)
class Origin:
    """What a restored photograph was made of and with: where it is equal, the result would be.

    Attributes:
        photo_sha256: of the file that was restored.
        settings: the keys that the result depends on.
        method, weights_sha256: of the network that restored the faces.
        background, background_sha256: of what restored the rest.
        judge: the judge that was asked.
        version: of facesr.
    """

    photo_sha256: str
    settings: dict[str, Any]
    method: str
    weights_sha256: str
    background: str
    background_sha256: str
    judge: str
    version: str = __version__


def sidecar_of(photo: Path) -> Path:
    """Returns the path of the sidecar of a restored photograph."""
    return photo.with_name(photo.name + SUFFIX)


def write_sidecar(photo: Path, origin: Origin, sha256: str, facts: Facts, meaning: Mapping[str, str]) -> None:
    """Writes the sidecar of a photograph or film.

    Args:
        photo: the restored file. origin: what it was made of.
        sha256: of the restored file.
        facts: of the whole (of a photograph its scale, its width and height as `photo_size`, seconds), and of each
            face (`told_of`) or track.
        meaning: what figures say, by their names.
    """
    content = {
        "note": NOTE,
        "origin": asdict(origin),
        "restored_sha256": sha256,
        **facts,
        "meaning": dict(meaning),
    }
    with whole_file(sidecar_of(photo)) as temporary:
        temporary.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def told_of(faces: tuple["FaceFacts", ...]) -> list[dict[str, Any]]:
    """Returns what the sidecar tells of each face."""
    return [{"number": number, **_face(face)} for number, face in enumerate(faces)]


def read_told(photo: Path) -> list[dict[str, Any]] | None:
    """Returns what the sidecar of a restored photograph tells of each face, None where there is no such file.

    It is returned as it stands there; who uses it has to check it.
    """
    try:
        found = json.loads(sidecar_of(photo).read_text(encoding="utf-8-sig"))["faces"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return found if isinstance(found, list) else None


def read_size(photo: Path) -> tuple[int, int] | None:
    """Returns width and height of the photograph that was restored, as the sidecar says; None where it does not."""
    try:
        width, height = json.loads(sidecar_of(photo).read_text(encoding="utf-8-sig"))["photo_size"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return (width, height) if type(width) is int and type(height) is int else None


def is_made_of(photo: Path, origin: Origin, digest: str) -> bool:
    """Returns whether a restored photograph with this digest is what `origin` gives, as its sidecar says."""
    try:
        content = json.loads(sidecar_of(photo).read_text(encoding="utf-8-sig"))
        return bool(
            content["origin"] == json.loads(json.dumps(asdict(origin))) and content["restored_sha256"] == digest
        )
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _face(facts: "FaceFacts") -> dict[str, Any]:
    face = facts.face
    found: dict[str, Any] = {
        "restored": not facts.reason,
        "reason": facts.reason or None,
        "less_certain": list(facts.less_certain),
        "centre": face.centre.round(2).tolist(),
        "width": round(face.width, 2),
        "height": round(face.height, 2),
        "roll_degrees": round(face.roll, 1),
        "turned_degrees": round(face.yaw, 1),
        "landmarks": face.landmarks.round(2).tolist(),
        "probability": round(face.probability, 4),
    }
    for name in MEANINGS:
        value = getattr(facts, name)
        found[name] = None if value is None else round(value, 4)
    return found
