"""Snapshots that come with the package, under the names ``pretrained:NAME``, and the command that adds one.

    uv run facesr ship runs/asc19_flagship asc19_final

The command writes weights in 8 bits, a quarter of the bytes; README.md beside this file says how each is kept.
Wherever a snapshot is asked for (evaluate.py method=, submit.py checkpoint=, train.py start_from=, interpolate_with=)
such a name may stand.
"""

import re
from dataclasses import replace
from pathlib import Path

import torch

from facesr.arguments import Parser
from facesr.errors import CheckpointError, exit_code_of
from facesr.snapshots.snapshot import digests_beside, read_snapshot, snapshot_at, write_snapshot
from facesr.weights import from_eight_bits, sha256_of, to_eight_bits

PREFIX = "pretrained:"
FOLDER = Path(__file__).resolve().parent.parent / "pretrained"
_NAME = re.compile(r"[a-z0-9][a-z0-9_]*")


def shipped_names(folder: Path = FOLDER) -> list[str]:
    """Returns the names of the snapshots in the folder of the package, sorted."""
    return sorted(path.stem for path in folder.glob("*.safetensors"))


def snapshot_file(spec: str, folder: Path = FOLDER) -> Path:
    """Returns the file that `spec` names: the shipped snapshot for ``pretrained:NAME``, else as `snapshot_at` says.

    Raises:
        CheckpointError: no snapshot of that name is shipped, its file is not the one that was shipped, or a run's
            folder holds none.
    """
    if not spec.startswith(PREFIX):
        return snapshot_at(Path(spec).expanduser())
    name = spec.removeprefix(PREFIX)
    if name not in shipped_names(folder):
        known = ", ".join(PREFIX + other for other in shipped_names(folder)) or "none"
        raise CheckpointError(f"{spec} does not come with this package; there is {known}.")
    path = folder / f"{name}.safetensors"
    if sha256_of(path) not in digests_beside(path):
        raise CheckpointError(f"{path} is not the file that was shipped; restore it with git checkout or install anew.")
    return path


def ship(source: Path, name: str, folder: Path = FOLDER) -> Path:
    """Writes a copy of a snapshot with 8-bit weights under `name` and returns its path; a sha256 goes beside it.

    Raises:
        CheckpointError: the source is no snapshot, holds values that 8 bits cannot keep, the name cannot be one, or
            the folder cannot be written.
    """
    if not _NAME.fullmatch(name):
        raise CheckpointError(f"{name} cannot be a shipped snapshot's name; use a-z, 0-9 and _.")
    snapshot = read_snapshot(snapshot_at(source))
    packed = to_eight_bits(snapshot.state)
    for key, tensor in from_eight_bits(packed).items():
        if not torch.isfinite(tensor).all():
            raise CheckpointError(f"{source} cannot be shipped in 8 bits: {key} holds values that they cannot keep.")
    path = folder / f"{name}.safetensors"
    write_snapshot(path, replace(snapshot, state=packed))
    return path


def main(arguments: list[str] | None = None) -> int:
    """Ships the snapshot that the command line names; returns the exit code, 2 on a user's error."""
    parser = Parser(prog="facesr ship", description="Adds a snapshot to those that come with the package.")
    parser.add_argument("snapshot", type=Path, help="a snapshot file or run folder")
    parser.add_argument("name", help="what it will be called: pretrained:NAME")
    chosen = parser.parse_args(arguments)

    def write() -> None:
        path = ship(chosen.snapshot, chosen.name)
        print(f"{path}: {path.stat().st_size / 1e6:.2f} MB, sha256 {sha256_of(path)}; method={PREFIX}{chosen.name}")

    return exit_code_of(write)
