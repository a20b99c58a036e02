"""Files a run leaves: generator snapshots (safetensors) and training states (torch.save of plain containers).

Every file is written under a temporary name, flushed to disk and renamed, so a name always stands for a whole
file; a sha256 lies beside each. Reading never runs code: safetensors, and ``weights_only=True``.
"""

import contextlib
import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from facesr.errors import CheckpointError
from facesr.files import leftovers_in, saving, whole_file, write_bytes
from facesr.photos.trained import TrainedFraming, read_framing
from facesr.snapshots.rules import BASE, BOUND, FORMAT, FRAMING, SHIPPED, is_name, problem_with, read_about
from facesr.weights import from_eight_bits, sha256_of

# Where a run's folder has the snapshot that it is known by.
BEST = Path("snapshots") / "best.safetensors"
_DIGEST = ".sha256"
_STATE_NAME = re.compile(r"^(\d{9,})\.pt$")
_SNAPSHOT_NAME = re.compile(r"^(\d{9,})\.safetensors$")


@dataclass(frozen=True)
class Snapshot:
    """A trained generator and where it comes from.

    Attributes:
        state: names to float32 tensors (the averaged weights).
        generator: the configuration node that builds the network.
        run: name of the run.
        kimg: thousands of images it was trained on.
        config_sha256: digest of the run's whole configuration.
        loss_judges: names of the recognisers that were part of the training loss ("white-box" judges).
        scores: validation scores at that time.
        sha256: of the file.
        consistency_bound_db: consistency with its input, 0 to 100 dB, that a restored picture has to have lest a
            fallback restores it (facesr.guard); None where nobody has measured it.
        framing: where faces lie in the pictures that it was trained on; None where nothing says so.
        base: name and sha256 of the shipped snapshot that gave the weights which the file leaves out; None where it
            holds them all. `state` is whole in any case.
    """

    state: dict[str, Tensor]
    generator: dict[str, Any]
    run: str
    kimg: float
    config_sha256: str
    loss_judges: tuple[str, ...]
    scores: dict[str, float]
    sha256: str
    consistency_bound_db: float | None = None
    framing: TrainedFraming | None = None
    base: tuple[str, str] | None = None


def digest_of(config: Mapping[str, Any]) -> str:
    """Returns the sha256 of a configuration of plain containers, independent of key order."""
    text = json.dumps(config, sort_keys=True, ensure_ascii=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def write_with_digest(path: Path, data: bytes) -> str:
    """Writes a file and then its sha256 beside it, and returns that; a file without its digest was never finished.

    Raises:
        CheckpointError: see `write_bytes`.
    """
    digest = hashlib.sha256(data).hexdigest()
    _announce(path, digest)
    write_bytes(path, data)
    _write_digests(path, digest)
    return digest


def digests_beside(path: Path) -> tuple[str, ...]:
    """Returns the sha256s that a file may have according to the file beside it; none where there is no such file.

    More than one only where a kill came between two renames.

    Raises:
        OSError: it cannot be read.
    """
    if not _digest_file(path).is_file():
        return ()
    with _digest_file(path).open(encoding="ascii", errors="replace") as file:
        lines = [line.split() for line in file.read(4096).splitlines()]
    # A file beside it that holds no digest speaks for no file at all.
    return tuple(words[0] for words in lines if words) or ("",)


def _digest_file(path: Path) -> Path:
    return path.with_name(path.name + _DIGEST)


def _write_digests(path: Path, *digests: str) -> None:
    write_bytes(_digest_file(path), "".join(f"{digest}  {path.name}\n" for digest in digests).encode())


def _announce(path: Path, digest: str) -> None:
    """Names a new digest beside those of the file that is about to be replaced, so that no kill parts the two."""
    old = digests_beside(path)
    if len(old) > 1:
        # An earlier kill came here: only one of them is the file's.
        old = tuple({sha256_of(path)} & set(old)) if path.is_file() else ()
    if old and path.is_file():
        _write_digests(path, digest, *old)


def sweep(folder: Path) -> None:
    """Removes what a kill has left in a folder: temporary files, and digests without their file."""
    if not folder.is_dir():
        return
    digests = [path for path in folder.iterdir() if path.name.endswith(_DIGEST)]
    orphans = [path for path in digests if not path.with_name(path.name.removesuffix(_DIGEST)).exists()]
    for path in [*orphans, *leftovers_in(folder)]:
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)


def write_snapshot(path: Path, snapshot: Snapshot) -> str:
    """Writes a generator with its origin and returns the file's sha256 (`snapshot.sha256` is ignored).

    Weights may be such as `facesr.weights.to_eight_bits` returns; read back they are float32 again. Where `base` is
    set the file is stated to lack what `state` lacks; see `read_snapshot`.

    Raises:
        CheckpointError: see `write_bytes`; or `read_snapshot` would refuse what it says of itself.
    """
    about = {
        "format": FORMAT,
        "generator": snapshot.generator,
        "run": snapshot.run,
        "kimg": snapshot.kimg,
        "config_sha256": snapshot.config_sha256,
        "loss_judges": list(snapshot.loss_judges),
        "scores": snapshot.scores,
    }
    if snapshot.consistency_bound_db is not None:
        about[BOUND] = snapshot.consistency_bound_db
    if snapshot.framing is not None:
        about[FRAMING] = snapshot.framing.as_dict()
    if snapshot.base is not None:
        about[BASE] = dict(zip(("name", "sha256"), snapshot.base, strict=True))
    problem = problem_with(about)
    if problem is not None:
        raise CheckpointError(f"{path} would be no sound snapshot and is not written: {problem}.")
    # One key: safetensors writes several in a random order, and equal snapshots must be equal bytes.
    metadata = {"facesr": json.dumps(about, sort_keys=True)}
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in snapshot.state.items()}
    return write_with_digest(path, save(tensors, metadata))


def snapshot_at(path: Path) -> Path:
    """Returns the file that `path` names: of a run's folder its best snapshot, any other path as it is.

    Raises:
        CheckpointError: a folder without one.
    """
    if not path.is_dir():
        return path
    if not (path / BEST).is_file():
        raise CheckpointError(
            f"{path} is no generator snapshot of facesr and holds no {BEST}; give a run folder that has been validated "
            "once, or one from runs/NAME/snapshots."
        )
    return path / BEST


def read_snapshot(path: Path) -> Snapshot:
    """Returns the generator of a snapshot file, which may come from a stranger: nothing in it is run or built.

    Raises:
        CheckpointError: the file is missing, damaged, no snapshot of this project, or not the one of the sha256 beside
            it, or what it says of itself is out of bounds.
    """
    if not path.is_file():
        raise CheckpointError(f"{path} is not a file; give a snapshot (.safetensors) or a run folder.")
    about = read_about(path)
    damaged = f"{path} is a damaged snapshot; use another one of the run."
    try:
        digest = sha256_of(path)
        if digest not in (digests_beside(path) or (digest,)):
            raise CheckpointError(
                f"{path} is a damaged snapshot: its sha256 is not the one in {_digest_file(path).name} beside it; use "
                "another one of the run."
            )
        with safe_open(str(path), "pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - safe_open is no dict
        if not all(is_name(name) and not tensor.is_complex() for name, tensor in tensors.items()):
            raise CheckpointError(damaged)
        state = {name: tensor.float() for name, tensor in from_eight_bits(tensors).items()}
    except (SafetensorError, OSError, ValueError, TypeError, RuntimeError) as error:
        raise CheckpointError(damaged) from error
    wild = next((name for name, tensor in state.items() if not torch.isfinite(tensor).all()), None)
    if wild is not None:
        raise CheckpointError(f"{path} is a damaged snapshot: {wild!r} holds values that are not finite.")
    base = about.get(BASE)
    if base is not None:
        state = _state_of_base(path, base["name"], base["sha256"]) | state
    return Snapshot(
        state=state,
        generator=about["generator"],
        run=about["run"],
        kimg=float(about["kimg"]),
        config_sha256=about["config_sha256"],
        loss_judges=tuple(about["loss_judges"]),
        scores=about["scores"],
        sha256=digest,
        consistency_bound_db=None if about.get(BOUND) is None else float(about[BOUND]),
        framing=None if about.get(FRAMING) is None else read_framing(about[FRAMING]),
        base=None if base is None else (base["name"], base["sha256"]),
    )


def _state_of_base(path: Path, name: str, sha256: str) -> dict[str, Tensor]:
    """Returns the weights of the shipped snapshot that a file builds on, which has to be the very one.

    Raises:
        CheckpointError: it does not come with this package, is another one by now, or builds on a further one.
    """
    file = SHIPPED / f"{name}.safetensors"
    found = read_snapshot(file) if file.is_file() else None
    if found is None or found.sha256 != sha256:
        raise CheckpointError(
            f"{path} builds on pretrained:{name} of sha256 {sha256[:12]}..., which does not come with this package; "
            "use the version of facesr that wrote it."
        )
    if found.base is not None:
        raise CheckpointError(f"{path} is no sound snapshot: {file} builds on another one itself; use another one.")
    return found.state


def write_state(folder: Path, num_images: int, state: Mapping[str, Any], num_kept: int = 2) -> Path:
    """Writes a training state of plain containers and tensors as <num_images>.pt, and drops the oldest ones.

    Raises:
        CheckpointError: see `write_bytes`.
    """
    path = folder / f"{num_images:09d}.pt"
    with saving(path), whole_file(path, durably=True) as temporary:
        try:
            # An open file: given a path, torch writes its name, and so the process's number, into the archive.
            with temporary.open("wb") as file:
                torch.save(dict(state), file)
        except RuntimeError as error:
            # torch reports a full disk as a RuntimeError of its zip writer.
            raise OSError("the disk may be full") from error
        digest = sha256_of(temporary)
        _announce(path, digest)
    _write_digests(path, digest)
    remove_oldest(folder, _STATE_NAME, num_kept)
    return path


def newest_state(folder: Path) -> tuple[Path, dict[str, Any]] | None:
    """Returns the newest whole training state of a folder, or None when there is none.

    A file without its digest, or with another one, was cut off or damaged and is passed over.

    Raises:
        CheckpointError: there are states, but none of them is whole.
    """
    if not folder.is_dir():
        return None
    sweep(folder)
    found = sorted((path for path in folder.iterdir() if _STATE_NAME.match(path.name)), reverse=True)
    for path in found:
        if sha256_of(path) not in digests_beside(path):
            continue
        try:
            state = torch.load(path, map_location="cpu", weights_only=True)
        # torch's reader fails in many ways, KeyError and UnicodeDecodeError among them.
        except Exception:
            continue
        return path, state
    if any(digests_beside(path) for path in found):
        raise CheckpointError(f"{folder} holds no undamaged training state; remove the run's folder to start anew.")
    return None


def newest_clock(folder: Path) -> int:
    """Returns the images seen at the newest whole training state of a folder, 0 without one; changes nothing.

    Raises:
        CheckpointError: see `newest_state`.
    """
    found = sorted((path for path in folder.glob("*.pt") if _STATE_NAME.match(path.name)), reverse=True)
    for path in found:
        if sha256_of(path) in digests_beside(path):
            return int(path.stem)
    if any(digests_beside(path) for path in found):
        raise CheckpointError(f"{folder} holds no undamaged training state; remove the run's folder to start anew.")
    return 0


def remove_oldest(folder: Path, pattern: re.Pattern[str], num_kept: int) -> None:
    """Removes all but the newest `num_kept` numbered files of a folder, with their digests."""
    numbered = sorted(path for path in folder.iterdir() if pattern.match(path.name))
    for path in numbered[: max(len(numbered) - num_kept, 0)]:
        path.unlink(missing_ok=True)
        _digest_file(path).unlink(missing_ok=True)


def remove_oldest_snapshots(folder: Path, num_kept: int) -> None:
    """Removes all but the newest `num_kept` numbered snapshots; best.safetensors always stays."""
    remove_oldest(folder, _SNAPSHOT_NAME, num_kept)
