"""The verifier that teams and organisers share: an archive becomes a temporary folder of checked PNGs, or one error.

    with opened_submission(Path("team.zip"), protocol, Path("low")) as submission:
        score(submission.folder)

Nothing in the archive is trusted (archive.py, png.py and manifest.py say how), nothing is written outside one
temporary folder, that folder is removed whatever happens, and no pickle is ever read.
"""

import hashlib
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path

from facesr.config import EvaluationProtocol
from facesr.errors import DataError, SubmissionError
from facesr.submission.archive import Archive
from facesr.submission.low import LowPictures
from facesr.submission.manifest import Manifest, max_manifest_bytes, parse_manifest
from facesr.submission.names import MANIFEST_NAME, check_ids, check_names, shown
from facesr.submission.png import MAX_PIXELS, check_png, max_png_bytes

# Where no folder of low pictures says how many there are.
MAX_PICTURES = 20_000
MAX_TOTAL_PIXELS = 1 << 30
# Finder adds a second member for each file: enough are read to say so by name.
_MEMBERS_PER_PICTURE = 4
_SPARE_MEMBERS = 64


@dataclass(frozen=True)
class VerifiedSubmission:
    """A submission that obeys every rule.

    Attributes:
        folder: temporary folder that holds exactly the verified PNG files, one for each id.
        manifest: the checked manifest; its measured figures (seconds, energy, device) remain the team's word.
        sizes: id -> (width, height), sorted by id.
        num_bytes: size of the archive.
        sha256: sha256 of the archive.
        compared_with_low: whether ids and sizes were compared with the low pictures.
    """

    folder: Path
    manifest: Manifest
    sizes: Mapping[str, tuple[int, int]]
    num_bytes: int
    sha256: str
    compared_with_low: bool


@contextmanager
def opened_submission(
    path: Path, protocol: EvaluationProtocol, low: Path | None = None, *, shown_as: str | None = None
) -> Iterator[VerifiedSubmission]:
    """Yields a verified submission, whose folder exists until the context ends.

    Args:
        path: the archive.
        protocol: its sizes and count are rules; its name has to be the manifest's.
        low: the low-resolution pictures that were given out: they say which ids there are and of which size.
            Without them the manifest's own ids stand, and the caller has to compare them.
        shown_as: how the archive is called in errors, by default its path.

    Raises:
        SubmissionError: a rule is broken; the sentence names the first members that break it.
        DataError: the archive cannot be read, `low` does not fit the protocol, or the disk is full.
    """
    label = shown_as or str(path)
    given = None if low is None else LowPictures.open(low, protocol)
    if not path.is_file():
        raise DataError(f"{path} is not a file; give the path of a submission archive.")
    try:
        folder = tempfile.TemporaryDirectory(prefix="facesr-submission-")
    except OSError as error:
        raise DataError(f"no temporary folder can be made ({error.strerror}); set TMPDIR to a writable one.") from error
    with folder as name:
        try:
            with path.open("rb") as file:
                submission = _verify(file, label, protocol, given, Path(name))
        except OSError as error:
            raise DataError(f"{label} cannot be read or unpacked: {error.strerror or error}.") from error
        yield submission


def _verify(
    file: BufferedReader, label: str, protocol: EvaluationProtocol, given: LowPictures | None, folder: Path
) -> VerifiedSubmission:
    num_pictures = MAX_PICTURES if given is None else len(given.paths)
    archive = Archive(file, label, _MEMBERS_PER_PICTURE * num_pictures + _SPARE_MEMBERS)
    check_names([member.name for member in archive.members], label)
    names = sorted({member.name for member in archive.members} - {MANIFEST_NAME})
    if given is not None:
        check_ids(names, given.paths, label, str(given.folder))
    archive.check_members()
    members = {member.name: member for member in archive.members}
    if len(names) > num_pictures:
        raise SubmissionError(f"{label} holds {len(names)} pictures where at most {num_pictures} are read.")
    manifest_label = f"{MANIFEST_NAME} of {label}"
    manifest = parse_manifest(archive.read(members[MANIFEST_NAME], max_manifest_bytes(len(names))), manifest_label)
    _check_manifest(manifest, names, label, protocol, given)
    sizes: dict[str, tuple[int, int]] = {}
    num_pixels = 0
    for name in names:
        size = given.restored_size(name) if given is not None else _protocol_size(protocol)
        data = archive.read(members[name], max_png_bytes(*size) if size else max_png_bytes(1, MAX_PIXELS))
        if hashlib.sha256(data).hexdigest() != manifest.restoration.files[name]:
            raise SubmissionError(
                f"{shown([name])} in {label} has another sha256 than its manifest says; pack it anew."
            )
        # The picture's file is called as the organiser's own one is (macOS writes accents in another form).
        key = name.removesuffix(".png") if given is None else given.paths[name].stem
        sizes[key] = check_png(data, f"{shown([name])} in {label}", size)
        num_pixels += sizes[key][0] * sizes[key][1]
        if given is None and num_pixels > MAX_TOTAL_PIXELS:
            raise SubmissionError(f"{label} holds more than {MAX_TOTAL_PIXELS} pixels; give low=DIR to say how many.")
        (folder / f"{key}.png").write_bytes(data)
    file.seek(0)
    digest = hashlib.file_digest(file, "sha256").hexdigest()
    return VerifiedSubmission(folder, manifest, sizes, archive.num_bytes, digest, given is not None)


def _protocol_size(protocol: EvaluationProtocol) -> tuple[int, int] | None:
    if protocol.width is None or protocol.height is None:
        return None
    return protocol.width, protocol.height


def _check_manifest(
    manifest: Manifest, names: list[str], label: str, protocol: EvaluationProtocol, given: LowPictures | None
) -> None:
    if manifest.protocol != protocol.name:
        raise SubmissionError(
            f"{label} was packed for protocol {shown([manifest.protocol])}, not {protocol.name!r}; "
            f"pack it again with protocol={protocol.name}."
        )
    check_ids(names, manifest.restoration.files, label, "its manifest")
    if protocol.num_pictures is not None and len(names) != protocol.num_pictures:
        raise SubmissionError(
            f"{label} holds {len(names)} pictures where protocol {protocol.name} asks for {protocol.num_pictures}."
        )
    if given is not None and manifest.restoration.low_sha256 != given.sha256:
        raise SubmissionError(
            f"{label} says that it was restored from other pictures than those of {given.folder}; "
            "restore from the pictures that were given out."
        )
