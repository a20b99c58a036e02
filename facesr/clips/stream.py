"""Reading a film: what it is, its frames one by one, and the packets of sound and subtitles as they are."""

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
from av.container import InputContainer
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from facesr.clips.kind import film_format
from facesr.errors import DataError
from facesr.names import shown_path

# Transfer functions of HDR. Source: ITU-T H.273, table 3.
_HDR = {16: "PQ", 18: "HLG"}
# Layouts that are written as they are read; others become the nearest of these. The range has a tag of its own.
_KEPT = ("yuv420p", "yuv422p", "yuv444p", "gray")
_RANGED = {"yuvj420p": "yuv420p", "yuvj422p": "yuv422p", "yuvj444p": "yuv444p"}
UNSPECIFIED, FULL_RANGE = 2, 2
# What RGB is written as: the matrix of BT.601 (ITU-T H.273, table 4) and the range of 16 to 235.
_BT601_MATRIX, _VIDEO_RANGE = 6, 1


@dataclass(frozen=True)
class About:
    """What a film is.

    Attributes:
        format: as `film_format` says.
        width, height: in pixels, as stored.
        layout: pixel format that is written.
        time_base: seconds per unit of a timestamp.
        rate: mean frames per second, a hint for players.
        aspect: width of a pixel relative to its height.
        colours: primaries, transfer, matrix and range, as ITU-T H.273 and FFmpeg number them.
        turn: the display matrix, nine whole numbers as they stand in the file; None where there is none.
        num_frames: as the file says, 0 where it does not.
    """

    format: str
    width: int
    height: int
    layout: str
    time_base: Fraction
    rate: Fraction
    aspect: Fraction
    colours: tuple[int, int, int, int]
    turn: tuple[int, ...] | None
    num_frames: int

    @property
    def codec(self) -> str:
        """Name of the encoder: what each container is mostly found with."""
        # H.264 in AVI has no timestamps of its own, and is shown a frame late.
        return {"webm": "libvpx-vp9", "avi": "mpeg4"}.get(self.format, "libx264")


def video_of(container: InputContainer) -> VideoStream | None:
    """Returns the stream that is the film; a cover picture is none."""
    for stream in container.streams.video:
        if not int(stream.disposition) & 0x400:  # AV_DISPOSITION_ATTACHED_PIC
            return stream
    return None


def probe(path: Path) -> About:
    """Returns what a film is, from its header and its first frame.

    Raises:
        DataError: it cannot be read, or is of a kind that is not restored: HDR, more than 8 bits, alpha, interlaced.
    """
    name = shown_path(path)
    try:
        with av.open(str(path)) as container:
            stream = video_of(container)
            if stream is None:
                raise DataError(f"{name} holds no moving pictures; give a film.")
            frame = next(container.decode(stream), None)
            if frame is None:
                raise DataError(f"{name} holds no frame that can be decoded; copy it again.")
            return _about(path, stream, frame)
    except av.error.FFmpegError as error:
        raise DataError(f"{name} cannot be decoded ({error.strerror}); copy it again.") from error


def _about(path: Path, stream: VideoStream, frame: VideoFrame) -> About:
    name, context = shown_path(path), stream.codec_context
    transfer = _HDR.get(int(frame.color_trc))
    if transfer:
        raise DataError(f"{name} is HDR ({transfer}), which is not restored; convert it to SDR (BT.709) first.")
    components = frame.format.components
    if max(component.bits for component in components) > 8:
        raise DataError(f"{name} has more than 8 bits a sample, which is not restored; convert it to 8 bits first.")
    if any(component.is_alpha for component in components):
        raise DataError(f"{name} has transparency, which is not restored; convert it to a film without.")
    if frame.interlaced_frame:
        raise DataError(f"{name} is interlaced, which is not restored; deinterlace it first.")
    found = film_format(path)
    if found is None or stream.time_base is None:
        raise DataError(f"{name} is no film that is read; give MP4, MOV, MKV, WebM or AVI.")
    layout = _RANGED.get(frame.format.name, frame.format.name)
    full = frame.format.name in _RANGED
    if layout not in _KEPT:
        layout = "yuv444p" if is_rgb(frame) else "yuv420p"
    if found == "avi" or (found == "webm" and layout == "gray"):
        layout = "yuv420p"
    # The tags say how samples are to be read as they are written, and those of RGB are converted.
    tags = (_BT601_MATRIX, _VIDEO_RANGE) if is_rgb(frame) else (int(frame.colorspace), int(frame.color_range))
    colours = (int(frame.color_primaries), int(frame.color_trc), *tags)
    given: Any = frame.side_data.get("DISPLAYMATRIX")
    matrix = None if given is None else tuple(memoryview(bytes(given)).cast("i"))
    return About(
        found,
        frame.width,
        frame.height,
        layout,
        stream.time_base,
        stream.average_rate or Fraction(25),
        context.sample_aspect_ratio or Fraction(1),
        (*colours[:3], FULL_RANGE if full else colours[3]),
        matrix,
        stream.frames,
    )


def is_rgb(frame: VideoFrame) -> bool:
    """Returns whether a frame holds red, green and blue, perhaps by a palette."""
    return bool(frame.format.is_rgb or frame.format.has_palette)


def frames_of(path: Path, span: tuple[int, int | None] = (0, None)) -> Iterator[VideoFrame]:
    """Yields a film's frames from span[0] up to but not span[1], in the order in which they are shown.

    Raises:
        DataError: a frame cannot be decoded, or has no timestamp later than the one before.
    """
    name, last = shown_path(path), None
    try:
        with av.open(str(path)) as container:
            stream = video_of(container)
            assert stream is not None
            stream.thread_type = "AUTO"
            for number, frame in enumerate(container.decode(stream)):
                if span[1] is not None and number >= span[1]:
                    return
                if number < span[0]:
                    continue
                if frame.pts is None or (last is not None and frame.pts <= last):
                    raise DataError(f"{name}: frame {number} has no timestamp of its own; remux the film first.")
                last = frame.pts
                yield frame
    except av.error.FFmpegError as error:
        raise DataError(f"{name} cannot be decoded to its end ({error.strerror}); copy it again.") from error


def start_of(packet: "Packet[Any]") -> Fraction:
    """Returns when a packet is due, in seconds; packets without a timestamp come first."""
    stamp = packet.dts if packet.dts is not None else packet.pts
    return Fraction(0) if stamp is None else stamp * Fraction(packet.time_base)
