"""Restoring a film: faces are followed first, then frames are restored one by one, in segments that are kept."""

import itertools
import json
import time
from collections import defaultdict, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

import numpy as np
from av.video.frame import VideoFrame
from numpy.typing import NDArray

from facesr.clips.pixels import copied, enlarged, from_rgb, is_grey, to_rgb, with_changes
from facesr.clips.segments import Encoder, join, told_by, write_segment
from facesr.clips.steady import REACH, Crop, steadied
from facesr.clips.stream import About, frames_of
from facesr.clips.track import Follower, Tracklet, from_plain, is_cut, linked, thumbnail, to_plain
from facesr.errors import DataError
from facesr.files import whole_file
from facesr.image import to_float, to_uint8
from facesr.metrics.identity_similarity import embed
from facesr.names import shown_path
from facesr.photos.crop import cut
from facesr.photos.paste import Patch, matched, paste, pitch_of, scaled
from facesr.photos.search import FoundFace
from facesr.resample import upscale
from facesr.restore_photo.clip_plan import Plan, planned
from facesr.restore_photo.decide import COMPETITION, low_placement, placed, restored_framing
from facesr.restore_photo.photo import FINER, MOST_DETAIL_HELD, Means, Wishes, alike, detail_of, restored_both_ways
from facesr.task import SCALE

# Frames of a segment: what a kill loses at most, and how often the coded film has a frame that stands alone.
SEGMENT = 120
# The two ways to restore a face are compared by the judge in every so many of its frames.
JUDGED_EVERY = 6
Say = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Work:
    """A film to restore.

    Attributes:
        source: the film. about: what it is.
        span: its first frame that is restored and the first after that, None for its end.
        state: folder for what is finished, so that the same command goes on after a kill.
        say: told what is being done, the frames that are done, and of how many (0: unknown).
    """

    source: Path
    about: About
    span: tuple[int, int | None]
    state: Path
    say: Say


@dataclass(frozen=True)
class Followed:
    """What the first pass found: timestamps of all frames in the film's time base, cuts, and faces."""

    times: list[int]
    durations: list[int]
    cuts: list[int]
    tracks: list[Tracklet]


@dataclass
class Held:
    """A frame that waits for its neighbours; `crops` and `agreement` by the number of the plan."""

    frame: VideoFrame
    crops: dict[int, Crop] = field(default_factory=dict)
    agreement: dict[int, float] = field(default_factory=dict)


@dataclass(frozen=True)
class RestoredClip:
    """What is told of a restored film."""

    num_frames: int
    plans: list[Plan]
    agreement: dict[int, float]
    left_out: list[str]
    seconds: float


def restore_clip(work: Work, target: Path, means: Means, wishes: Wishes, remark: str, metadata: bool) -> RestoredClip:
    """Writes a film with its faces restored to `target`, and returns what is to be told of it."""
    start = time.perf_counter()
    found = follow(work, means, wishes)
    plans = planned(
        found.tracks, [0, *found.cuts, len(found.times)], (work.about.width, work.about.height), wishes, means.framing
    )
    parts = _render(work, found, plans, means, wishes)
    base = Fraction(work.about.time_base)
    end = None if work.span[1] is None else (found.times[-1] + found.durations[-1]) * base
    span = (found.times[0] * base if work.span[0] else Fraction(0), end)
    left_out = join(
        work.source, target, parts, work.about, wishes.scale, remark=remark, keep_metadata=metadata, span=span
    )
    agreed: defaultdict[int, list[float]] = defaultdict(list)
    for part in parts:
        for number, values in told_by(part)["agreement"].items():
            agreed[int(number)] += values
    agreement = {number: float(np.median(values)) for number, values in agreed.items()}
    return RestoredClip(len(found.times), plans, agreement, left_out, time.perf_counter() - start)


def follow(work: Work, means: Means, wishes: Wishes) -> Followed:
    """Returns the faces of a film, followed in stretches of `SEGMENT` frames that are kept, and linked."""

    def embedded(picture: NDArray[np.uint8], face: FoundFace) -> NDArray[np.float32]:
        crop = cut(picture, placed(face, COMPETITION), COMPETITION)
        return np.asarray(embed(means.judge, to_float(crop[None]).to(means.device))[0], np.float32)

    times, durations, cuts, tracklets = list[int](), list[int](), list[int](), list[Tracklet]()
    before: NDArray[np.uint8] | None = None
    follower: Follower | None = None
    path = work.state
    for number, frame in enumerate(frames_of(work.source, work.span)):
        assert frame.pts is not None
        times.append(frame.pts)
        durations.append(frame.duration or 0)
        if number % SEGMENT == 0:
            _keep_stretch(path, follower, tracklets)
            path = work.state / f"faces{number // SEGMENT:06d}.json"
            follower = None
            if path.exists():
                tracklets += [from_plain(plain) for plain in json.loads(path.read_text())]
            else:
                follower = Follower(number, means.detector, embedded, wishes.min_face_px)
        rgb = to_rgb(frame, work.about)
        small = thumbnail(rgb)
        after_cut = before is not None and is_cut(before, small)
        before = small
        if after_cut:
            cuts.append(number)
        if follower is not None:
            follower.add(rgb, after_cut)
        work.say("finding faces", number + 1, work.about.num_frames)
    _keep_stretch(path, follower, tracklets)
    if not times:  # where the file does not say how many it has, reading it tells
        first, _ = work.span
        raise DataError(f"{shown_path(work.source)} has no frame {first}; give smaller numbers to frames=.")
    return Followed(times, _durations(times, durations), cuts, linked(tracklets, cuts))


def _keep_stretch(path: Path, follower: Follower | None, tracklets: list[Tracklet]) -> None:
    if follower is not None:
        found = follower.finished()
        with whole_file(path) as temporary:
            temporary.write_text(json.dumps([to_plain(one) for one in found]), encoding="utf-8")
        tracklets += found


def _durations(times: Sequence[int], told: Sequence[int]) -> list[int]:
    """Returns how long each frame is shown: until the next one, and the last one as its file says."""
    steps = [later - earlier for earlier, later in itertools.pairwise(times)]
    return [*steps, told[-1] or (steps[-1] if steps else 1)]


def _render(work: Work, found: Followed, plans: Sequence[Plan], means: Means, wishes: Wishes) -> list[Path]:
    """Restores the segments that are missing, and returns the files of all."""
    count = len(found.times)
    parts = [work.state / f"frames{number:06d}.part" for number in range(-(-count // SEGMENT))]
    missing = {number for number, part in enumerate(parts) if not part.exists()}
    if not missing:
        return parts
    window: deque[tuple[int, Held | None]] = deque(maxlen=2 * REACH + 1)
    writing = _Writing(work, found, wishes, parts)
    for number, frame in enumerate(frames_of(work.source, work.span)):
        near = {(number + step) // SEGMENT for step in (-REACH, 0, REACH)}
        window.append((number, _prepared(number, frame, work, plans, means) if near & missing else None))
        if number >= REACH:
            _finish(number - REACH, window, writing, plans, means, missing)
        work.say("restoring", number + 1, count)
    for number in range(max(0, count - REACH), count):
        _finish(number, window, writing, plans, means, missing)
    return parts


@dataclass
class _Writing:
    """The segment that is being written."""

    work: Work
    found: Followed
    wishes: Wishes
    parts: list[Path]
    encoder: Encoder | None = None
    agreement: dict[int, list[float]] = field(default_factory=dict)

    def add(self, number: int, frame: VideoFrame, agreement: dict[int, float]) -> None:
        """Takes the next frame, and keeps the segment where it is the last one of it."""
        if self.encoder is None:
            self.encoder, self.agreement = Encoder(self.work.about, self.wishes.scale), {}
        self.encoder.add(frame, self.found.times[number], self.found.durations[number])
        for plan, value in agreement.items():
            self.agreement.setdefault(plan, []).append(value)
        if (number + 1) % SEGMENT == 0 or number + 1 == len(self.found.times):
            write_segment(self.parts[number // SEGMENT], self.encoder.finished(), {"agreement": self.agreement})
            self.encoder = None


def _prepared(number: int, frame: VideoFrame, work: Work, plans: Sequence[Plan], means: Means) -> Held:
    """Returns a frame with its faces restored, not yet put back."""
    held = Held(frame)
    here = [(place, plan) for place, plan in enumerate(plans) if plan.share_at(number) > 0.0]
    if not here:
        return held
    rgb = to_rgb(frame, work.about)
    for grid in sorted({plan.grid for _, plan in here}, key=lambda grid: grid.width):
        own = [(place, plan) for place, plan in here if plan.grid == grid]
        low = np.stack([cut(rgb, low_placement(plan.placement_at(number)), grid) for _, plan in own])
        straight, mirrored, mean = restored_both_ways(low, means, lambda finding: None)
        smooth = to_uint8(upscale(to_float(low))).astype(np.float32)
        if (number - own[0][1].first) % JUDGED_EVERY == 0 or any(plan.first == number for _, plan in own):
            for (place, _), value in zip(own, alike(straight, mirrored, means), strict=True):
                held.agreement[place] = float(value)
        for index, (place, _) in enumerate(own):
            held.crops[place] = Crop(smooth[index], mean[index])
    return held


def _finish(
    number: int,
    window: "deque[tuple[int, Held | None]]",
    writing: _Writing,
    plans: Sequence[Plan],
    means: Means,
    missing: set[int],
) -> None:
    """Puts the faces of a frame back, once all its neighbours are there, and codes it."""
    if number // SEGMENT not in missing:
        return
    around = {at: held for at, held in window if held is not None and abs(at - number) <= REACH}
    held, about, scale = around[number], writing.work.about, writing.wishes.scale
    if means.background is not None and scale > 1:
        grey = is_grey(enlarged(held.frame, about, 1))
        large = means.background.enlarged(to_rgb(held.frame, about), scale, grey)
        frame = from_rgb(np.asarray(large, np.uint8), about)
    else:
        frame = enlarged(held.frame, about, scale)
    rgb = to_rgb(frame, about)
    patches = []
    for place in held.crops:
        plan = plans[place]
        others = [some.crops[place] for at, some in sorted(around.items()) if at != number and place in some.crops]
        patch = _patch(rgb, held.crops[place], others, plan, number, scale)
        if patch is not None:
            patches.append(patch)
    if patches:
        after = rgb.copy()
        paste(after, patches, writing.wishes.strength, is_grey=is_grey(frame))
        frame = with_changes(frame, rgb, after, about)
    elif frame is held.frame:
        frame = copied(frame, about)
    writing.add(number, frame, held.agreement)


def _patch(
    rgb: NDArray[np.uint8], own: Crop, others: Sequence[Crop], plan: Plan, number: int, scale: int
) -> Patch | None:
    placement = plan.placement_at(number)
    framing, onto = restored_framing(plan.grid), scaled(placement, scale)
    there = cut(rgb, onto, framing).astype(np.float32)
    share = plan.share_at(number)
    if SCALE * pitch_of(placement) > FINER:
        # As for photographs, but the share falls over a range, so that a face at the bound does not come and go.
        gained = detail_of(own.restored - own.smooth, framing)
        held = detail_of(there - own.smooth, framing) / max(gained, 1e-6)
        share *= float(np.clip((MOST_DETAIL_HELD + 0.1 - held) / 0.2, 0.0, 1.0))
    if share <= 0.0:
        return None
    change = matched(steadied(own, others) - there, framing)
    return Patch(change * np.float32(share), onto, framing)
