"""Films in ``facesr restore``: where the unfinished parts of one lie, and what is told of it."""

import json
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from facesr.config import RestoreSettings
from facesr.errors import ConfigError, DataError
from facesr.files import whole_file
from facesr.names import shown_path
from facesr.restore_photo.photo import Means, Wishes, doubts
from facesr.restore_photo.sidecar import MEANINGS, REMARK, Origin, is_made_of, sidecar_of, write_sidecar
from facesr.restore_photo.wishes import span_of
from facesr.weights import sha256_of

if TYPE_CHECKING:
    from facesr.clips.stream import About

_STATE = ".{name}.unfinished"
_SAY_EVERY_SECONDS = 10.0


def restore_film(
    source: Path, about: "About", target: Path, settings: RestoreSettings, means: Means, origin: Origin
) -> str:
    """Restores a film, and returns what there is to say of it.

    Raises:
        FaceSRError: it cannot be decoded or written, or something else lies where it would go.
    """
    import av

    from facesr.restore_photo.clip import Work, restore_clip

    if target.exists():
        if is_made_of(target, origin, sha256_of(target)):
            return f"was restored before, {shown_path(target)}"
        if not settings.overwrite:
            raise ConfigError(f"{shown_path(target)} is there already; give another out, or overwrite=true.")
    span = span_of(settings.frames)
    scale = int(origin.settings["scale"])
    wishes = Wishes(scale, settings.faces, settings.min_face_px, settings.max_turn, settings.strength)
    try:
        state = _state_for(target, origin)
        with whole_file(target) as temporary:
            work = Work(source, about, span, state, _Progress(source))
            restored = restore_clip(work, temporary, means, wishes, REMARK, settings.metadata)
            _tell(target, temporary, settings, origin, restored)
        remove_state(state)
    except av.error.FFmpegError as error:  # reading tells its own; some are OSError or ValueError, too
        raise DataError(
            f"{shown_path(source)} cannot be written as {about.format.upper()} ({error.strerror}); convert it to MP4."
        ) from error
    except OSError as error:
        raise DataError(f"{shown_path(target)} cannot be written: {error.strerror or error}.") from error
    done = [plan for plan in restored.plans if not plan.reason]
    lines = [
        f"{restored.num_frames} frames, {len(restored.plans)} face{'' if len(restored.plans) == 1 else 's'}, "
        f"{len(done)} restored, {about.width * scale}x{about.height * scale}, {restored.seconds:.1f} s"
    ]
    for number, plan in enumerate(restored.plans):
        if plan.reason:
            lines.append(f"  face {number} (frames {plan.first} to {plan.last}) is left as it is: {plan.reason}")
    lines += [f"  a stream of kind {kind} cannot be carried into the new file" for kind in restored.left_out]
    return "\n".join(lines)


def _tell(target: Path, written: Path, settings: RestoreSettings, origin: Origin, restored: object) -> None:
    from facesr.restore_photo.clip import RestoredClip

    assert isinstance(restored, RestoredClip)
    if not settings.sidecar:
        sidecar_of(target).unlink(missing_ok=True)
        return
    tracks = []
    for number, plan in enumerate(restored.plans):
        agreement = restored.agreement.get(number)
        tracks.append(
            {
                "number": number,
                "first_frame": plan.first,
                "last_frame": plan.last,
                "width": round(plan.width, 2),
                "restored": not plan.reason,
                "reason": plan.reason or None,
                "mean_share": round(float(plan.shares.mean()), 3),
                "less_certain": [] if plan.reason else doubts(agreement, plan.width),
                "mirror_agreement": None if agreement is None else round(agreement, 4),
            }
        )
    facts = {
        "frames": restored.num_frames,
        "streams_left_out": restored.left_out,
        "seconds": round(restored.seconds, 3),
        "tracks": tracks,
    }
    meaning = {"mirror_agreement": MEANINGS["mirror_agreement"] + "; the median over its frames"}
    write_sidecar(target, origin, sha256_of(written), facts, meaning)


def _state_for(target: Path, origin: Origin) -> Path:
    """Returns the folder of what is finished of a film, emptied where it was made of something else."""
    state = target.with_name(_STATE.format(name=target.name))
    state.mkdir(parents=True, exist_ok=True)
    made_of, told = state / "origin.json", json.dumps(asdict(origin), sort_keys=True)
    if not made_of.exists() or made_of.read_text(encoding="utf-8-sig") != told:
        for path in state.iterdir():
            path.unlink()
        with whole_file(made_of) as temporary:
            temporary.write_text(told, encoding="utf-8")
    return state


def remove_state(state: Path) -> None:
    """Removes the folder of what was finished."""
    for path in state.iterdir():
        path.unlink()
    state.rmdir()


class _Progress:
    """Tells on the console, every few seconds, how far a film is and how long it will take."""

    def __init__(self, source: Path) -> None:
        self._source, self._what = source, ""
        self._start = self._told = time.monotonic()

    def __call__(self, what: str, done: int, count: int) -> None:
        """Takes what is being done, the frames that are done, and of how many (0: unknown)."""
        now = time.monotonic()
        if what != self._what:
            self._what, self._start, self._first = what, now, done
        if now - self._told < _SAY_EVERY_SECONDS or done == self._first:
            return
        self._told = now
        left = (count - done) * (now - self._start) / (done - self._first)
        ahead = f" of {count}, {_clock(left)} left" if count >= done else ""
        print(f"{shown_path(self._source)}: {what}, frame {done}{ahead}", file=sys.stderr, flush=True)


def _clock(seconds: float) -> str:
    minutes = int(seconds) // 60
    return f"{minutes // 60} h {minutes % 60} min" if minutes >= 60 else f"{minutes} min {int(seconds) % 60} s"
