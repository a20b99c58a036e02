"""Snapshots that come with the package, under the names ``pretrained:NAME``, and the command that adds one.

    uv run facesr ship runs/asc19_flagship asc19_final
    uv run facesr ship runs/asc19_cleaner wild --in-front-of asc19_final
    uv run facesr ship runs/face_generator/latest.safetensors faces

The command writes weights in 8 bits, a quarter of the bytes; README.md beside this file says how each is kept.
Wherever a snapshot is asked for (evaluate.py method=, submit.py checkpoint=, train.py start_from=, interpolate_with=)
such a name may stand.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from safetensors.torch import save
from torch import Tensor, nn

from facesr.arguments import Parser
from facesr.errors import CheckpointError, ConfigError, exit_code_of
from facesr.snapshots.rules import (
    BASE,
    FACE_GENERATOR,
    SHIPPED,
    SHIPPED_FACES,
    SHIPPED_NAME,
    format_of,
    read_about,
)
from facesr.snapshots.snapshot import (
    Snapshot,
    digests_beside,
    read_snapshot,
    snapshot_at,
    write_snapshot,
    write_with_digest,
)
from facesr.weights import as_weights_of, from_eight_bits, load_into, read_state_dict, sha256_of, to_eight_bits

PREFIX = "pretrained:"
_CLEANER, _RESTORER = "facesr.models.cleaner.CleanedBicubic", "facesr.models.facesr.FaceSR"


def shipped_names(folder: Path = SHIPPED) -> list[str]:
    """Returns the names of the snapshots in the folder of the package, sorted."""
    return sorted(path.stem for path in folder.glob("*.safetensors"))


def snapshot_file(spec: str, folder: Path = SHIPPED) -> Path:
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


def start_files(start_from: str | Sequence[str]) -> list[Path]:
    """Returns the files of the snapshots whose weights a training starts from; one or several.

    Raises:
        CheckpointError: see `snapshot_file`.
        ConfigError: it is neither a name nor a list of names.
    """
    return [snapshot_file(spec) for spec in check_start(start_from)]


def check_start(start_from: object) -> Sequence[str]:
    """Returns the names of the snapshots that a training starts from.

    Raises:
        ConfigError: it is neither a name nor a list of names.
    """
    specs = [start_from] if isinstance(start_from, str) else start_from
    if not isinstance(specs, list | tuple) or not specs or not all(isinstance(spec, str) for spec in specs):
        raise ConfigError(f"start_from={start_from} has to be a snapshot, or a list of snapshots such as [A,B].")
    return specs


def start_weights(files: Sequence[Path]) -> dict[str, Tensor]:
    """Returns the weights of snapshots together; what several hold is the last one's.

    Raises:
        CheckpointError: see `read_snapshot`.
    """
    weights: dict[str, Tensor] = {}
    for file in files:
        weights |= read_snapshot(file).state
    return weights


def load_start(network: nn.Module, start_from: str | Sequence[str]) -> None:
    """Loads the weights of the snapshots that a training starts from into its network.

    Raises:
        CheckpointError: see `start_weights`.
        ConfigError: see `start_files`.
        WeightsError: they are not those of the network.
    """
    files = start_files(start_from)
    load_into(network, as_weights_of(network, start_weights(files)), " with ".join(map(str, files)))


def start_judges(files: Sequence[Path]) -> set[str]:
    """Returns the recognisers in the losses of the snapshots that a training starts from.

    Raises:
        CheckpointError: see `read_about`.
    """
    return {judge for file in files for judge in read_about(file)["loss_judges"]}


def require_no_others_on(path: Path) -> None:
    """Refuses to replace a shipped snapshot that others beside it build on: they could not be read any more.

    Raises:
        CheckpointError: there are some.
    """
    if not path.is_file():
        return
    for other in sorted(path.parent.glob("*.safetensors")):
        base = read_about(other).get(BASE)
        if base is not None and base["name"] == path.stem and other != path:
            raise CheckpointError(
                f"{path} cannot be replaced: {other.name} builds on it; ship that one without --base."
            )


def in_front_of(cleaner: Snapshot, restorer: Snapshot) -> Snapshot:
    """Returns a cleaner that was trained by itself in front of a network, as one snapshot of both.

    Raises:
        ConfigError: the first is no cleaner, the second no `FaceSR` without one, or their limits on features differ.
    """
    first, second = cleaner.generator, restorer.generator
    limits = ("rms_limit", "hidden_rms_limit")
    fits = all(first.get(key) == second.get(key) for key in limits) and not second.get("cleaner_channels")
    if (first["_target_"], second["_target_"]) != (_CLEANER, _RESTORER) or not fits:
        raise ConfigError(
            f"run {cleaner.run} cannot stand in front of {restorer.run}; give a run of generator=facesr_cleaner, and a "
            "network of generator=facesr or facesr_hourglass with the same rms_limit and hidden_rms_limit."
        )
    digests = f"cleaner\n{cleaner.config_sha256}\n{restorer.config_sha256}\n"
    return replace(
        cleaner,
        state=restorer.state | cleaner.state,
        generator={**second, "cleaner_channels": first.get("channels", 48), "train_cleaner_alone": True},
        config_sha256=hashlib.sha256(digests.encode()).hexdigest(),
        loss_judges=tuple(sorted({*cleaner.loss_judges, *restorer.loss_judges})),
        scores={},
        sha256="",  # of a file that does not exist yet
        consistency_bound_db=None,  # an answer to a damaged input contradicts it
    )


def ship(source: Path, name: str, folder: Path = SHIPPED, base: str | None = None, restorer: str | None = None) -> Path:
    """Writes a copy of a snapshot with 8-bit weights under `name` and returns its path; a sha256 goes beside it.

    Args:
        source: a snapshot file or run folder.
        name: what it will be called.
        folder: where it goes.
        base: name of a shipped snapshot; weights that are its own, value by value, are left out of the file.
        restorer: name of a shipped snapshot that a cleaner, the source, is put in front of; it is the base, too.

    Raises:
        CheckpointError: the source is no snapshot, holds values that 8 bits cannot keep, the name cannot be one or is
            that of a snapshot that others build on, the base is none, builds on another one or has no weight in common
            with it, or the folder cannot be written.
    """
    if not SHIPPED_NAME.fullmatch(name):
        raise CheckpointError(f"{name} cannot be a shipped snapshot's name; use a-z, 0-9 and _.")
    path = folder / f"{name}.safetensors"
    require_no_others_on(path)
    snapshot = read_snapshot(snapshot_at(source))
    built_on, base = None, restorer or base
    if base is not None:
        file = snapshot_file(f"{PREFIX}{base.removeprefix(PREFIX)}")
        found = read_snapshot(file)
        if restorer is not None:
            snapshot = in_front_of(snapshot, found)
        if file == path or found.base is not None:
            raise CheckpointError(f"{name} cannot build on {file}; give --base a snapshot that holds all its weights.")
        whole, theirs = snapshot.state, found.state
        own = {key: value for key, value in whole.items() if key not in theirs or not torch.equal(value, theirs[key])}
        if len(own) == len(whole):
            raise CheckpointError(f"{source} has no weight that is the same in {file}; leave --base out.")
        judges = tuple(sorted({*snapshot.loss_judges, *found.loss_judges}))
        built_on, snapshot = (file.stem, found.sha256), replace(snapshot, state=own, loss_judges=judges)
    write_snapshot(path, replace(snapshot, state=_packed(snapshot.state, source), base=built_on))
    return path


def ship_faces(source: Path, path: Path = SHIPPED_FACES) -> Path:
    """Writes a copy of a face decoder with 8-bit weights and returns its path; a sha256 goes beside it.

    Args:
        source: a file of ``facesr face-generator`` (kind=vae).
        path: where it goes.

    Raises:
        CheckpointError: the source is no such file, 8 bits cannot keep its values, or the copy cannot be written.
        WeightsError: the source is damaged.
    """
    state = read_state_dict(source)
    if format_of(source) != FACE_GENERATOR or "components" not in state:
        raise CheckpointError(
            f"{source} is no face decoder; give latest.safetensors of facesr face-generator kind=vae."
        )
    metadata = {"facesr": json.dumps({"format": FACE_GENERATOR})}
    write_with_digest(path, save(_packed(state, source), metadata))
    return path


def _packed(state: dict[str, Tensor], source: Path) -> dict[str, Tensor]:
    """Returns weights in 8 bits.

    Raises:
        CheckpointError: 8 bits cannot keep them.
    """
    packed = to_eight_bits(state)
    for key, tensor in from_eight_bits(packed).items():
        if not torch.isfinite(tensor).all():
            raise CheckpointError(f"{source} cannot be shipped in 8 bits: {key} holds values that they cannot keep.")
    return packed


def main(arguments: list[str] | None = None) -> int:
    """Ships the snapshot that the command line names; returns the exit code, 2 on a user's error."""
    parser = Parser(prog="facesr ship", description="Adds a snapshot to those that come with the package.")
    parser.add_argument("snapshot", type=Path, help="a snapshot file or run folder")
    parser.add_argument("name", help="what it will be called: pretrained:NAME")
    parser.add_argument(
        "--base", help="a snapshot that comes with the package; weights that are its own are left out of the file"
    )
    parser.add_argument(
        "--in-front-of",
        metavar="RESTORER",
        help="a network that comes with the package; SNAPSHOT, a run of generator=facesr_cleaner, cleans its input",
    )
    chosen = parser.parse_args(arguments)

    def write() -> None:
        file = chosen.snapshot.expanduser()
        if file.is_file() and format_of(file) == FACE_GENERATOR:
            if (chosen.name, chosen.base, chosen.in_front_of) != ("faces", None, None):
                raise CheckpointError(f"{file} is a face generator: facesr ship {file} faces is all there is to say.")
            path = ship_faces(file)
            print(f"{path}: {path.stat().st_size / 1e6:.2f} MB, sha256 {sha256_of(path)}; generator=faces")
            return
        path = ship(chosen.snapshot, chosen.name, base=chosen.base, restorer=chosen.in_front_of)
        print(f"{path}: {path.stat().st_size / 1e6:.2f} MB, sha256 {sha256_of(path)}; method={PREFIX}{chosen.name}")

    return exit_code_of(write)
