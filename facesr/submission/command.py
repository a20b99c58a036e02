"""The command ``facesr submit``, which submit.py is, too: makes a submission archive, or verifies one."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from facesr import ranks
from facesr.config import SubmitSettings
from facesr.errors import ConfigError
from facesr.guard import guard_line
from facesr.names import shown_path
from facesr.script import run_script
from facesr.submission.send import check_board, is_in_the_clear, read_token, send
from facesr.submission.verify import VerifiedSubmission, opened_submission

if TYPE_CHECKING:
    from facesr.methods.folder import RestoredFolder

# Verifying loads no torch, so that it takes a second and little memory; what restores is imported where it is used.


def run(settings: SubmitSettings) -> None:
    """Makes or verifies an archive, and prints what it holds."""
    if ranks.world_size() > 1:
        raise ConfigError("submit.py runs as one process; start it without torchrun.")
    if settings.verify is not None:
        verify(settings)
    else:
        submit(settings)


def verify(settings: SubmitSettings) -> None:
    """Checks the archive `verify` against the protocol and, where given, the low-resolution pictures."""
    for key in ("checkpoint", "method", "interpolate_with", "team", "out", "script"):
        if getattr(settings, key) is not None:
            raise ConfigError(f"{key} has no meaning together with verify; leave one of them out.")
    if not settings.guard:
        raise ConfigError("guard=off has no meaning together with verify; leave one of them out.")
    path = Path(settings.verify or "").expanduser()
    destination = _destination(settings)
    with opened_submission(path, settings.protocol, _low(settings) if settings.low else None) as submission:
        print(f"{shown_path(path)} is a valid submission")
        print(table(submission))
        if destination is not None:
            _send(path, submission.sha256, destination)


def submit(settings: SubmitSettings) -> None:
    """Restores `low`, packs and verifies the archive `out`."""
    from tqdm import tqdm

    from facesr import dist
    from facesr.methods.folder import RestoreOptions, restore_folder
    from facesr.methods.low import LowPictures
    from facesr.methods.open import Asked, open_asked
    from facesr.submission.attachments import attachments_for
    from facesr.submission.pack import check_out, check_places, check_team, named_out, pack
    from facesr.tiles import Tiles

    spec = settings.checkpoint or settings.method
    if not spec or (settings.checkpoint and settings.method):
        raise ConfigError("give one of checkpoint=RUN_OR_FILE and method=bicubic (they are the same key).")
    # Whatever can be wrong is found before the pictures are restored.
    team, out = check_team(settings.team), named_out(settings.out)
    destination = _destination(settings)
    kept_in = Path(settings.restored_dir).expanduser()
    check_places(_low(settings), out, kept_in, settings.script)
    low = LowPictures.open(_low(settings), settings.protocol)
    tiles = Tiles(settings.tile_px, settings.tile_overlap_px)
    device = dist.choose_device(settings.device)
    method = open_asked(settings, device, Asked(spec, settings.interpolate_with, settings.interpolation_weight))()
    attachments = attachments_for(settings, method)
    check_out(out)
    options = RestoreOptions(device, settings.batch_size, settings.self_ensemble, tiles)
    with tqdm(
        total=len(low.paths), unit=" pictures", desc="restore", disable=not sys.stderr.isatty(), leave=False
    ) as bar:
        restored = restore_folder(method, low, options, kept_in, reuse=settings.reuse, on_batch=bar.update)
    if method.epilogue is not None:
        print(method.epilogue(low.by_id, restored.path))
    packed = pack(
        restored.path,
        out,
        team=team,
        protocol=settings.protocol,
        low=low.folder,
        attachments=attachments,
        overwrite=settings.overwrite,
    )
    state = "was there already, byte for byte" if packed.unchanged else "is written"
    print(f"{shown_path(out)} {state}, and it is verified")
    print(table(packed.submission, restored))
    if destination is not None:
        _send(packed.path, packed.submission.sha256, destination)


@dataclass(frozen=True)
class _Destination:
    """Where an archive is sent: a phase of a board, and the team's token there."""

    board: str
    token: str
    phase: str


def _destination(settings: SubmitSettings) -> _Destination | None:
    if settings.board is None:
        if settings.token is not None:
            raise ConfigError("token needs board=URL, the address that the archive is sent to.")
        return None
    if settings.token is None:
        raise ConfigError("board needs token=FILE, the file with your team's token.")
    board = check_board(settings.board)
    if is_in_the_clear(board):
        print(f"note: {board} is not encrypted; your token can be read on the way. Ask the organiser for https.")
    return _Destination(board, read_token(Path(settings.token).expanduser()), settings.phase)


def _send(archive: Path, sha256: str, to: _Destination) -> None:
    sent = send(archive, sha256, to.board, to.token, to.phase, say=print)
    state = "was sent before" if sent.known else "is sent"
    place = "" if sent.place is None else f", place {sent.place} in the queue"
    print(f"{shown_path(archive)} {state}: {sent.state}{place}")
    print(f"  {sent.page}")


def _low(settings: SubmitSettings) -> Path:
    if not settings.low:
        raise ConfigError("low has no value; give low=DIR, the folder of the low-resolution pictures.")
    return Path(settings.low).expanduser()


def table(submission: VerifiedSubmission, restored: "RestoredFolder | None" = None) -> str:
    """Returns the lines that describe a submission; seconds, energy and device are as its manifest states them."""
    facts = submission.manifest.restoration
    sizes = sorted({f"{width}x{height}" for width, height in submission.sizes.values()})
    num_pictures = len(submission.sizes)
    pace = f", {num_pictures / facts.seconds:,.1f} faces/s" if facts.seconds else ""
    ensemble = ", self-ensemble" if facts.flip_ensemble else ""
    rows = {
        "team": submission.manifest.team,
        "protocol": submission.manifest.protocol,
        "pictures": f"{num_pictures} of {sizes[0] if len(sizes) == 1 else f'{len(sizes)} sizes'}",
        "compared": "with the low pictures" if submission.compared_with_low else "with the manifest only (no low=DIR)",
        "archive": f"{submission.num_bytes:,} bytes, sha256 {submission.sha256}",
        "model": f"{facts.model}{ensemble}, weights {facts.weights_sha256[:12] or 'none'}",
        "restored": f"in {facts.seconds:.3f} s{pace}, on {facts.device}",
    }
    if facts.guard is not None:
        rows["guard"] = guard_line(facts.guard, num_pictures)
    if submission.manifest.attachments is not None:
        rows["attached"] = f"{len(submission.manifest.attachments)} files in model/ and script/"
    if facts.energy_joules is not None:
        rows["energy"] = f"{facts.energy_joules:,.1f} J"
    if restored is not None:
        before = " (restored before; reuse=false restores again)" if restored.reused else ""
        rows["folder"] = f"{shown_path(restored.path)}{before}"
    return "\n".join(f"  {key:9} {value}" for key, value in rows.items())


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Runs the command on KEY=VALUE arguments, by default the command line's, and exits."""
    run_script(run, "submit", SubmitSettings, arguments)
