"""What goes beside the pictures into an archive with folders: the snapshot that restored, and the team's programs.

    model/<file name>.safetensors   the snapshot, and model/config.yaml of its run where there is one
    model/blend_with-...            the same of an interpolation's second snapshot
    model/NAME.safetensors          the shipped snapshot that one of them builds on, where there is one
    model/README.txt                for an interpolation, which has none
    script/...                      the files of script=DIR, else script/README.txt with the command that restores

Hidden files and folders, __pycache__ and what file managers leave behind are passed over in script=DIR; everything else
that no archive may hold is refused by the verifier's own rules, before anything is restored.
"""

import hashlib
import os
import shlex
import unicodedata
from collections.abc import Iterator, Mapping
from pathlib import Path

from facesr.config import SubmitSettings
from facesr.errors import ConfigError, DataError, SubmissionError
from facesr.methods.method import Method
from facesr.names import duplicates, is_passed_over, is_unsafe, shown
from facesr.snapshots.rules import BASE, SHIPPED, read_about
from facesr.submission.attachment_rules import (
    BLEND_PREFIX,
    MAX_ATTACHMENTS,
    MAX_DEPTH,
    MODEL_DIR,
    SCRIPT_DIR,
    WEIGHTS_ENDING,
    check_attachment_names,
    check_attachment_sizes,
    is_hidden,
)
from facesr.submission.layout import Layout
from facesr.submission.names import with_folders
from facesr.weights import sha256_of

# Member -> the file that it is made from, or its bytes.
Attachments = Mapping[str, bytes | Path]
README = "README.txt"
_SNAPSHOTS, _CONFIG = "snapshots", "config.yaml"


def attachments_for(settings: SubmitSettings, method: Method) -> Attachments:
    """Returns what `pack` has to attach for the protocol, nothing where its archives hold only pictures.

    Raises:
        ConfigError: `script` is given although the protocol's archives have no place for it.
        DataError: `script` is no folder, or holds what cannot be read or is no regular file.
        SubmissionError: a file is of a kind or size that no archive may hold.
    """
    if not Layout.of(settings.protocol).has_folders:
        if settings.script is not None:
            raise ConfigError(
                f"script has no meaning with protocol={settings.protocol.name}, whose archives hold only pictures; "
                "leave it out."
            )
        return {}
    model = _model_files(method)
    if settings.script is None:
        programs: Attachments = {f"{SCRIPT_DIR}/{README}": _script_readme(settings, method).encode()}
    else:
        programs = _script_files(Path(settings.script).expanduser())
    attachments = {**model, **programs}
    _check(attachments)
    return attachments


def sha256_of_attachment(name: str, content: bytes | Path) -> str:
    """Returns the sha256 of an attachment.

    Raises:
        DataError: its file cannot be read.
    """
    if isinstance(content, bytes):
        return hashlib.sha256(content).hexdigest()
    try:
        return sha256_of(content)
    except OSError as error:
        raise DataError(f"{content} cannot be packed as {name}: {error.strerror or error}.") from error


def _check(attachments: Attachments) -> None:
    sizes: dict[str, int] = {}
    for name, content in attachments.items():
        try:
            sizes[name] = len(content) if isinstance(content, bytes) else content.stat().st_size
        except OSError as error:
            raise DataError(f"{content!s} cannot be packed as {name}: {error.strerror or error}.") from error
    label = "what is to be packed"
    unsafe = [name for name in sizes if is_unsafe(name)]
    if unsafe:
        raise SubmissionError(f"{label} holds unsafe names ({shown(unsafe)}); rename them to letters, digits, - and _.")
    check_attachment_names(list(sizes), label)
    alike = duplicates(with_folders(list(sizes)))
    if alike:
        raise SubmissionError(f"{label} holds names that differ only by letter case or accents ({shown(alike)}).")
    check_attachment_sizes(sizes, label)


def _model_names(method: Method) -> dict[str, Path]:
    """Returns the snapshots of a method by the names that they have in model/, the interpolation's second one last."""
    paths = (
        {"": method.path}
        if method.interpolation is None
        else {"": method.path, BLEND_PREFIX: method.interpolation.path}
    )
    return {f"{MODEL_DIR}/{prefix}{_plain(path.name)}": path for prefix, path in paths.items() if path is not None}


def _model_files(method: Method) -> Attachments:
    snapshots = _model_names(method)
    if not snapshots:
        text = (
            f"The pictures were restored by {method.name} interpolation, which is part of facesr "
            "(facesr/models/interpolation.py): there are no weights.\n"
        )
        return {f"{MODEL_DIR}/{README}": text.encode()}
    files: dict[str, bytes | Path] = dict(snapshots)
    for path in snapshots.values():
        base = read_about(path).get(BASE) if path.suffix == WEIGHTS_ENDING else None
        if base is not None:  # what the file leaves out lies in that one
            name = f"{base['name']}{WEIGHTS_ENDING}"
            files.setdefault(f"{MODEL_DIR}/{name}", SHIPPED / name)
    for prefix, path in zip(("", BLEND_PREFIX), snapshots.values(), strict=False):
        config = path.parent.parent / _CONFIG
        if path.parent.name == _SNAPSHOTS and config.is_file():
            files[f"{MODEL_DIR}/{prefix}{_CONFIG}"] = config
    return files


def _plain(name: str) -> str:
    # macOS lists accents as separate marks; archives hold form C.
    return unicodedata.normalize("NFC", name)


def _script_files(folder: Path) -> Attachments:
    if not folder.is_dir():
        raise DataError(f"script={folder} is not a folder; give script=DIR, the folder of your programs.")
    try:
        files = {f"{SCRIPT_DIR}/{_plain(path.relative_to(folder).as_posix())}": path for path in _programs(folder)}
    except OSError as error:
        raise DataError(f"script={folder} cannot be read: {error.strerror or error}.") from error
    if not files:
        raise DataError(f"script={folder} holds no files to pack; put your programs there, or leave script out.")
    return files


def _programs(folder: Path) -> Iterator[Path]:
    """Yields the files below a folder, and stops at the first that cannot be packed."""
    num_files = 0
    waiting = [(folder, 1)]
    while waiting:
        inside, depth = waiting.pop()
        if depth > MAX_DEPTH:
            raise DataError(f"{inside} lies below more than {MAX_DEPTH} folders; give script=DIR with fewer.")
        for entry in sorted(os.scandir(inside), key=lambda entry: entry.name):
            if is_hidden(entry.name) or is_passed_over(entry.name):
                continue
            if entry.is_symlink():
                raise DataError(f"{entry.path} is a symbolic link; put the file itself into script={folder}.")
            if entry.is_dir():
                waiting.append((Path(entry.path), depth + 1))
            elif entry.is_file():
                num_files += 1
                yield Path(entry.path)
            else:
                raise DataError(f"{entry.path} is no regular file; take it out of script={folder}.")
        # A home folder given by mistake is not walked to its end.
        if num_files > MAX_ATTACHMENTS:
            raise DataError(f"script={folder} holds more than {MAX_ATTACHMENTS} files; give only your programs.")


def _script_readme(settings: SubmitSettings, method: Method) -> str:
    return (
        "The pictures were restored by facesr alone. In its root folder, with this archive unpacked there and the\n"
        "low-resolution pictures that were given out in LR/, this command restores and packs them again:\n"
        "\n"
        f"    uv run submit.py {shlex.join(_keys(settings, method))}\n"
        "\n"
        "manifest.json names the commit, the digest of the code, the package versions and the device.\n"
    )


def _keys(settings: SubmitSettings, method: Method) -> list[str]:
    """Returns the arguments that decide a pixel or a byte, with the places that files have inside the archive."""
    snapshots = [*_model_names(method), None, None]
    pictures = settings.protocol.num_pictures
    values = {
        "checkpoint": snapshots[0] or method.name,
        "interpolate_with": snapshots[1],
        "interpolation_weight": None if method.interpolation is None else method.interpolation.parts.weight,
        "low": "LR",
        "protocol": settings.protocol.name,
        "protocol.num_pictures": pictures,
        "team": settings.team,
        "out": "again.zip",
        "self_ensemble": "true" if settings.self_ensemble else None,
        "guard": None if settings.guard else "off",
        "batch_size": settings.batch_size,
        "tile_px": settings.tile_px,
        "tile_overlap_px": settings.tile_overlap_px,
        "device": None if settings.device == "auto" else settings.device,
    }
    return [f"{key}={value}" for key, value in values.items() if value is not None]
