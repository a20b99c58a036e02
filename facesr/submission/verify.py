"""The verifier that teams and organisers share: an archive becomes a temporary folder of checked PNGs, or one error.

    with opened_submission(Path("team.zip"), protocol, Path("low")) as submission:
        score(submission.folder)

Nothing in the archive is trusted (archive.py, layout.py, png.py and manifest.py say how), nothing is written outside
one temporary folder, that folder is removed whatever happens, and no pickle is ever read. Models and programs in the
archive are compared with their digests and go nowhere.
"""

import hashlib
import tempfile
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path

from facesr.config import EvaluationProtocol
from facesr.errors import DataError, SubmissionError
from facesr.methods.low import LowPictures
from facesr.names import shown, shown_path
from facesr.submission.archive import Archive, Member
from facesr.submission.attached_model import check_model
from facesr.submission.attachment_rules import MAX_ATTACHMENTS, MODEL_DIR, SCRIPT_DIR, check_attachment_sizes
from facesr.submission.layout import Contents, Layout
from facesr.submission.manifest import Manifest, max_manifest_bytes, parse_manifest
from facesr.submission.names import MANIFEST_NAME, check_ids
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
    label = shown_as or shown_path(path)
    given = None if low is None else LowPictures.open(low, protocol)
    if not path.is_file():
        raise DataError(f"{label} is not a file; give the path of a submission archive.")
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
    layout = Layout.of(protocol)
    num_pictures = MAX_PICTURES if given is None else len(given.paths)
    most = _MEMBERS_PER_PICTURE * num_pictures + _SPARE_MEMBERS
    archive = Archive(file, label, most + (2 * MAX_ATTACHMENTS if layout.has_folders else 0))
    contents = layout.contents([member.name for member in archive.members], label)
    if given is not None:
        _check_pictures(contents, given.paths, layout, label, str(given.folder))
    archive.check_members()
    members = {member.name: member for member in archive.members}
    if len(contents.pictures) > num_pictures:
        raise SubmissionError(f"{label} holds {len(contents.pictures)} pictures where at most {num_pictures} are read.")
    sizes = {name: max(members[name].num_bytes, members[name].packed_bytes) for name in contents.attachments}
    check_attachment_sizes(sizes, label)
    data = archive.read(members[MANIFEST_NAME], max_manifest_bytes(len(contents.pictures), len(sizes)))
    manifest = parse_manifest(data, f"{MANIFEST_NAME} of {label}", has_attachments=layout.has_folders)
    _check_manifest(manifest, contents, layout, label, protocol, given)
    delivered = _deliver(archive, members, contents, manifest, protocol, given, folder)
    _check_attachments(archive, members, contents, manifest)
    file.seek(0)
    digest = hashlib.file_digest(file, "sha256").hexdigest()
    return VerifiedSubmission(folder, manifest, delivered, archive.num_bytes, digest, given is not None)


def _deliver(
    archive: Archive,
    members: Mapping[str, Member],
    contents: Contents,
    manifest: Manifest,
    protocol: EvaluationProtocol,
    given: LowPictures | None,
    folder: Path,
) -> dict[str, tuple[int, int]]:
    """Writes the checked pictures into the folder and returns id -> (width, height)."""
    label = archive.label
    sizes: dict[str, tuple[int, int]] = {}
    num_pixels = 0
    for name, member in contents.pictures.items():
        size = given.restored_size(name) if given is not None else _protocol_size(protocol)
        data = archive.read(members[member], max_png_bytes(*size) if size else max_png_bytes(1, MAX_PIXELS))
        if hashlib.sha256(data).hexdigest() != manifest.restoration.files[name]:
            raise _another_sha256(member, label)
        # The picture's file is called as the organiser's own one is (macOS writes accents in another form).
        key = name.removesuffix(".png") if given is None else given.paths[name].stem
        sizes[key] = check_png(data, f"{shown([member])} in {label}", size)
        num_pixels += sizes[key][0] * sizes[key][1]
        if given is None and num_pixels > MAX_TOTAL_PIXELS:
            raise SubmissionError(f"{label} holds more than {MAX_TOTAL_PIXELS} pixels; give low=DIR to say how many.")
        (folder / f"{key}.png").write_bytes(data)
    return sizes


def _check_attachments(archive: Archive, members: Mapping[str, Member], contents: Contents, manifest: Manifest) -> None:
    """Compares models and programs with their digests; they are unpacked piece by piece and kept nowhere."""
    for name in sorted(contents.folders):
        archive.read(members[name], members[name].packed_bytes)
    for name in contents.attachments:
        if archive.sha256_of(members[name]) != (manifest.attachments or {})[name]:
            raise _another_sha256(name, archive.label)


def _another_sha256(member: str, label: str) -> SubmissionError:
    return SubmissionError(f"{shown([member])} in {label} has another sha256 than its manifest says; pack it anew.")


def _check_pictures(contents: Contents, wanted: Collection[str], layout: Layout, label: str, source: str) -> None:
    check_ids(set(contents.pictures.values()), {layout.member(name) for name in wanted}, label, source)


def _protocol_size(protocol: EvaluationProtocol) -> tuple[int, int] | None:
    if protocol.width is None or protocol.height is None:
        return None
    return protocol.width, protocol.height


def _check_manifest(
    manifest: Manifest,
    contents: Contents,
    layout: Layout,
    label: str,
    protocol: EvaluationProtocol,
    given: LowPictures | None,
) -> None:
    if manifest.protocol != protocol.name:
        raise SubmissionError(
            f"{label} was packed for protocol {shown([manifest.protocol])}, not {protocol.name!r}; "
            f"pack it again with protocol={protocol.name}."
        )
    _check_pictures(contents, manifest.restoration.files, layout, label, "its manifest")
    if protocol.num_pictures is not None and len(contents.pictures) != protocol.num_pictures:
        raise SubmissionError(
            f"{label} holds {len(contents.pictures)} pictures where protocol {protocol.name} asks for "
            f"{protocol.num_pictures}."
        )
    if given is not None and manifest.restoration.low_sha256 != given.sha256:
        raise SubmissionError(
            f"{label} says that it was restored from other pictures than those of {given.folder}; "
            "restore from the pictures that were given out."
        )
    if manifest.attachments is not None:
        check_ids(
            contents.attachments,
            manifest.attachments,
            label,
            "its manifest",
            f"files in {MODEL_DIR}/ and {SCRIPT_DIR}/",
        )
        check_model(manifest.attachments, manifest.restoration, label)
