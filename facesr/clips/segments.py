"""Writing a film: finished segments are kept as coded packets, and joined with sound and subtitles at the end.

A segment is coded by an encoder of its own, so it depends on nothing before it: a command that was killed goes on at
the first segment that is missing, and the film is the same as without the kill. There are no frames that refer to
later ones, so that decoding times are the frames' own times and segments join without a gap.
"""

import heapq
import json
import math
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
from av.codec.context import Flags
from av.packet import Packet
from av.video.frame import VideoFrame

from facesr.clips.stream import About, start_of, video_of
from facesr.errors import DataError
from facesr.files import whole_file
from facesr.names import shown_path

# Near what the eye takes for the original; the same number of threads everywhere, or the packets would differ.
_OPTIONS: dict[str, dict[str, str]] = {
    "mpeg4": {"bf": "0"},
    "libx264": {"crf": "16", "preset": "medium", "bf": "0"},
    "libvpx-vp9": {
        "crf": "20",
        "b": "0",
        "deadline": "good",
        "cpu-used": "4",
        "lag-in-frames": "0",
        "auto-alt-ref": "0",
    },
}
_THREADS = 4
_MOST_UNITS = 10_000_000  # a second, so that a film of hours fits the 32 bits of an edit
_MOST_MPEG4_UNITS = 65_535  # a second; ISO/IEC 14496-2 has 16 bits for it
_MPEG4_QUALITY = 2 * 118  # a quantiser of 2, in units of FFmpeg's FF_QP2LAMBDA
_LENGTH = struct.Struct("<Q")
_OWN_TAGS = ("major_brand", "minor_version", "compatible_brands", "encoder")


@dataclass(frozen=True)
class Coded:
    """One coded frame; times in the film's time base."""

    data: bytes
    pts: int
    duration: int
    is_keyframe: bool


def _set_up(context: Any, about: About, scale: int) -> None:
    context.width, context.height = about.width * scale, about.height * scale
    context.pix_fmt = about.layout
    # Timestamps are the container's; what MPEG-4 itself says of times is close, and players of AVI do not ask it.
    base = about.time_base.limit_denominator(_MOST_MPEG4_UNITS) if about.codec == "mpeg4" else about.time_base
    context.time_base, context.framerate = base, about.rate
    context.sample_aspect_ratio = about.aspect
    context.color_primaries, context.color_trc, context.colorspace, context.color_range = about.colours
    context.thread_count = _THREADS
    context.options = _OPTIONS[about.codec]
    if about.codec == "mpeg4":
        context.flags |= Flags.qscale
        context.global_quality = _MPEG4_QUALITY
    else:
        context.flags |= Flags.global_header


class Encoder:
    """Codes the frames of one segment."""

    def __init__(self, about: About, scale: int) -> None:
        self._context: Any = av.CodecContext.create(about.codec, "w")
        _set_up(self._context, about, scale)
        self._durations: dict[int, int] = {}
        self._about = about
        self.coded: list[Coded] = []

    def add(self, frame: VideoFrame, pts: int, duration: int) -> None:
        """Codes a frame that is shown at `pts` for `duration`."""
        frame.pts, frame.time_base = pts, self._context.time_base
        self._durations[pts] = duration
        self._take(self._context.encode(frame))

    def finished(self) -> list[Coded]:
        """Returns all coded frames; the encoder takes no more."""
        self._take(self._context.encode(None))
        return self.coded

    def _take(self, packets: Sequence["Packet[Any]"]) -> None:
        for packet in packets:
            assert packet.pts is not None
            one = Coded(bytes(packet), packet.pts, self._durations.pop(packet.pts), packet.is_keyframe)
            self.coded.append(one)


def write_segment(path: Path, coded: Sequence[Coded], told: Any) -> None:
    """Writes a segment, whole or not at all; `told` is what JSON holds and is given back by `told_by`."""
    index = [[one.pts, one.duration, one.is_keyframe, len(one.data)] for one in coded]
    header = json.dumps({"index": index, "told": told}).encode()
    with whole_file(path) as temporary, temporary.open("wb") as file:
        file.write(_LENGTH.pack(len(header)) + header)
        for one in coded:
            file.write(one.data)


def read_segment(path: Path) -> Iterator[Coded]:
    """Yields the coded frames of a segment."""
    with path.open("rb") as file:
        header = json.loads(file.read(_LENGTH.unpack(file.read(_LENGTH.size))[0]))
        for pts, duration, is_keyframe, size in header["index"]:
            yield Coded(file.read(size), pts, duration, is_keyframe)


def told_by(path: Path) -> Any:
    """Returns what was told with a segment."""
    with path.open("rb") as file:
        return json.loads(file.read(_LENGTH.unpack(file.read(_LENGTH.size))[0]))["told"]


def join(
    source: Path,
    target: Path,
    parts: Sequence[Path],
    about: About,
    scale: int,
    *,
    remark: str,
    keep_metadata: bool,
    span: tuple[Fraction, Fraction | None],
) -> list[str]:
    """Writes a film of coded segments with the source's sound and subtitles, and returns the kinds of streams left out.

    Args:
        parts: files of `write_segment`, in order.
        remark: what is said in the film's metadata.
        keep_metadata: carry title and other texts of the source.
        span: seconds from which and up to which sound and subtitles are taken.

    Raises:
        DataError: a stream of the source cannot be read or written.
    """
    left_out: list[str] = []
    try:
        with (
            av.open(str(source)) as given,
            av.open(str(target), "w", format=about.format, options=_muxer_options(about, given)) as made,
        ):
            film = video_of(given)
            video: Any = made.add_stream(about.codec, rate=about.rate)
            _set_up(video.codec_context, about, scale)
            video.time_base = about.time_base
            if about.turn is not None:
                video.set_display_matrix(about.turn)
            streams: dict[int, Any] = {}
            for stream in given.streams:
                if stream is film:
                    continue
                try:
                    streams[stream.index] = made.add_stream_from_template(stream, opaque=True)
                except (ValueError, NotImplementedError, av.error.FFmpegError):
                    left_out.append(stream.type or "unknown")
                    continue
                if keep_metadata:
                    streams[stream.index].metadata.update(stream.metadata)
            if keep_metadata:
                made.metadata.update({k: v for k, v in given.metadata.items() if k not in _OWN_TAGS})
            made.metadata["comment"] = remark
            carried = _packets_of(given, [stream for stream in given.streams if stream.index in streams], span)
            coded = _video_packets(parts, about)
            for index, packet in heapq.merge(carried, coded, key=lambda pair: start_of(pair[1])):
                packet.stream = video if index < 0 else streams[index]
                made.mux_one(packet)
    except av.error.FFmpegError as error:
        raise DataError(f"{shown_path(source)} cannot be joined with its sound ({error.strerror}).") from error
    return left_out


def _muxer_options(about: About, given: Any) -> dict[str, str]:
    if about.format in ("mp4", "mov"):
        # Else the muxer takes a multiple of the time base, and rounds where each stream begins to a millisecond.
        units = about.time_base.denominator
        common = math.lcm(units, *(stream.time_base.denominator for stream in given.streams if stream.time_base))
        movie = str(common if common <= _MOST_UNITS else units)
        return {"video_track_timescale": str(units), "movie_timescale": movie, "movflags": "+faststart"}
    return {}


def _packets_of(
    given: Any, streams: Sequence[Any], span: tuple[Fraction, Fraction | None]
) -> Iterator[tuple[int, "Packet[Any]"]]:
    if not streams:
        return
    for packet in given.demux(streams):
        if packet.size == 0 and packet.dts is None:
            continue  # the end of a stream
        at = start_of(packet)
        if (span[0] == 0 or at >= span[0]) and (span[1] is None or at < span[1]):
            yield packet.stream.index, packet


def _video_packets(parts: Sequence[Path], about: About) -> Iterator[tuple[int, "Packet[Any]"]]:
    for part in parts:
        for one in read_segment(part):
            packet: Any = Packet(one.data)
            packet.pts = packet.dts = one.pts
            packet.duration, packet.time_base, packet.is_keyframe = one.duration, about.time_base, one.is_keyframe
            yield -1, packet
