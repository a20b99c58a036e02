"""Packing a restored folder into a submission archive.

The archive is a pure function of the restored folder, the attachments, the team and the protocol: names sorted,
members stored (the PNGs are compressed already, and stored bytes do not depend on a version of zlib), every time
1980-01-01, every file rw-r--r--. It is verified before it gets its name, so a file of that name is whole and correct,
or absent.
"""

import hashlib
import os
import shutil
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

from facesr.config import EvaluationProtocol
from facesr.errors import ConfigError, DataError
from facesr.files import is_inside, put_in_place, temporary_beside
from facesr.methods.folder import PICTURES, read_restored
from facesr.names import shown, shown_path
from facesr.submission.attachments import Attachments, sha256_of_attachment
from facesr.submission.layout import Layout
from facesr.submission.manifest import MAX_TEAM_LENGTH, Manifest, is_team, manifest_bytes
from facesr.submission.names import MANIFEST_NAME
from facesr.submission.verify import VerifiedSubmission, opened_submission

# The first moment that the format can name.
_TIME = (1980, 1, 1, 0, 0, 0)
_UNIX, _PERMISSIONS = 3, 0o100644


@dataclass(frozen=True)
class Packed:
    """A written and verified archive; its `submission.folder` is gone."""

    path: Path
    submission: VerifiedSubmission
    unchanged: bool


def check_team(team: str | None) -> str:
    """Returns a team name that a manifest may hold.

    Raises:
        ConfigError: it is missing, too long or holds odd characters.
    """
    if not team or not is_team(team):
        given = shown([team]) if team else "empty"
        raise ConfigError(
            f"team is {given}; give team=NAME of 1 to {MAX_TEAM_LENGTH} letters, digits, spaces, dots, _ or -, "
            "beginning with a letter or digit, without invisible characters."
        )
    return team


def named_out(out: str | None) -> Path:
    """Returns the path of an archive to write.

    Raises:
        ConfigError: it is missing, does not end in .zip, or is a folder.
    """
    if not out or not out.endswith(".zip") or Path(out).name == ".zip":
        raise ConfigError(f"out={out or ''} does not end in .zip; give out=FILE.zip.")
    path = Path(out).expanduser()
    if path.is_dir():
        raise ConfigError(f"out={out} is a folder; give out=FILE.zip.")
    return path


def check_places(low: Path, out: Path, kept_in: Path, script: str | None = None) -> None:
    """Checks that nothing is written into a folder that is read: it would be taken for one of its files.

    Args:
        low: folder of the low-resolution pictures.
        out: archive to write.
        kept_in: folder below which restored folders are kept.
        script: folder of programs to pack, or None.

    Raises:
        ConfigError: `out` or `kept_in` lies in `low` or `script`, or `out` inside a restored folder.
    """
    read = {"low": low} | ({} if script is None else {"script": Path(script).expanduser()})
    for key, folder in read.items():
        for written, path in (("out", out.parent), ("restored_dir", kept_in)):
            if is_inside(path, folder):
                raise ConfigError(
                    f"{written}={out if written == 'out' else path} lies in {key}={folder}, which is read; "
                    f"choose another place for {written}."
                )
    if is_inside(out.parent, kept_in) and not is_inside(kept_in, out.parent):
        raise ConfigError(f"out={out} lies inside a folder of restored_dir={kept_in}; choose another place for out.")


def check_out(path: Path) -> None:
    """Makes the folder of an archive to write where it is missing.

    Raises:
        DataError: nothing can be written there.
    """
    probe = path.with_name(f".{path.name}.{os.getpid()}.probe")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise DataError(f"out={path} cannot be written ({error.strerror}); choose another place.") from error


def pack(
    restored: Path,
    out: Path,
    *,
    team: str,
    protocol: EvaluationProtocol,
    low: Path | None = None,
    attachments: Attachments | None = None,
    overwrite: bool = False,
) -> Packed:
    """Returns the archive of a restored folder, written and verified; packing it again gives the same bytes.

    An existing file is left alone when it already has these bytes, and replaced only with `overwrite`.

    Args:
        restored: folder that `restore_folder` made.
        out: archive to write.
        team: name of the team.
        protocol: says where everything lies in the archive.
        low: the low-resolution pictures, which the archive is compared with.
        attachments: what goes into model/ and script/ where the protocol has folders (`attachments.attachments_for`).
        overwrite: whether another file at `out` is replaced.

    Raises:
        ConfigError: another file is there, or the team's name is not allowed.
        DataError: the folder is not a whole restored folder, or the archive cannot be written.
        SubmissionError: the pictures break a rule of the protocol.
    """
    restoration = read_restored(restored)
    if restoration is None:
        raise DataError(f"{restored} is no whole restored folder; restore it again with submit.py.")
    pictures = {name: restored / PICTURES / name for name in restoration.files}
    members = _members(
        Manifest(check_team(team), protocol.name, restoration), pictures, attachments, Layout.of(protocol)
    )
    try:
        with temporary_beside(out) as temporary:
            with temporary.open("wb") as file:
                write_archive(file, members, str(out))
            with opened_submission(temporary, protocol, low, shown_as=shown_path(out)) as submission:
                unchanged = _is_same(out, submission.sha256)
            if out.exists() and not unchanged and not overwrite:
                raise ConfigError(
                    f"{out} exists and differs; add overwrite=true to replace it, or give another out=FILE."
                )
            if not unchanged:
                put_in_place(temporary, out, durably=True)
    except OSError as error:
        raise DataError(f"{out} cannot be written: {error.strerror or error}.") from error
    return Packed(out, submission, unchanged)


def _members(
    manifest: Manifest, pictures: Mapping[str, Path], attachments: Attachments | None, layout: Layout
) -> dict[str, bytes | Path]:
    """Returns every member of the archive, the manifest with the digests of the attachments included."""
    files: dict[str, bytes | Path] = {layout.member(name): path for name, path in pictures.items()}
    files |= attachments or {}
    if layout.has_folders:
        digests = {name: sha256_of_attachment(name, content) for name, content in (attachments or {}).items()}
        manifest = replace(manifest, attachments=digests)
    return {**files, MANIFEST_NAME: manifest_bytes(manifest)}


def _is_same(path: Path, sha256: str) -> bool:
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() == sha256


def write_archive(file: BinaryIO, members: Mapping[str, bytes | Path], label: str) -> None:
    """Writes the members, bytes or files on disk, in the order of their names.

    Raises:
        DataError: they are too many or too large for a plain ZIP archive.
    """
    try:
        with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED, allowZip64=False) as archive:
            for name, content in sorted(members.items()):
                info = zipfile.ZipInfo(name, _TIME)
                info.create_system, info.external_attr = _UNIX, _PERMISSIONS << 16
                if isinstance(content, bytes):
                    archive.writestr(info, content)
                    continue
                info.file_size = content.stat().st_size
                with content.open("rb") as source, archive.open(info, "w") as target:
                    shutil.copyfileobj(source, target)
    except (zipfile.LargeZipFile, RuntimeError) as error:
        # A file that grew beyond the limit after it was measured is a RuntimeError of zipfile.
        raise DataError(f"{label} is too large for one ZIP archive (4 GiB, 65535 files); send less.") from error
