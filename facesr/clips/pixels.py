"""Frames as RGB and back, so that what is not restored keeps its samples bit for bit."""

import numpy as np
from av.video.frame import VideoFrame
from numpy.typing import NDArray

from facesr.clips.stream import FULL_RANGE, About, is_rgb

Plane = NDArray[np.uint8]
# Matrices that swscale knows by these numbers (its SWS_CS_*, equal to ITU-T H.273); what is unspecified is BT.601.
_BT601, _MATRICES = 5, (1, 4, 5, 6, 7, 9)
# A frame whose chroma strays from grey by no more than this has no colour: a black-and-white film in a colour format.
GREY_LEVELS = 2


def _matrix(about: About) -> int:
    return about.colours[2] if about.colours[2] in _MATRICES else _BT601


def _range(about: About) -> int:
    return FULL_RANGE if about.colours[3] == FULL_RANGE else 1


def enlarged(frame: VideoFrame, about: About, scale: int) -> VideoFrame:
    """Returns a frame in the layout that is written, `scale` times as large by cubic interpolation."""
    size = (frame.width * scale, frame.height * scale)
    if scale == 1 and frame.format.name.replace("yuvj", "yuv") == about.layout:
        return frame
    given = {"dst_color_range": _range(about), "dst_colorspace": _matrix(about)}
    if is_rgb(frame):
        given |= {"src_color_range": FULL_RANGE}
    else:
        given |= {"src_color_range": _range(about), "src_colorspace": _matrix(about)}
    return frame.reformat(size[0], size[1], about.layout, interpolation="BICUBIC", **given)


def to_rgb(frame: VideoFrame, about: About) -> Plane:
    """Returns a frame as uint8 (H, W, 3) RGB, by its own matrix and range."""
    if is_rgb(frame):
        return np.asarray(frame.to_ndarray(format="rgb24"), np.uint8)
    moved = frame.reformat(
        format="rgb24",
        src_colorspace=_matrix(about),
        src_color_range=_range(about),
        dst_color_range=FULL_RANGE,
        interpolation="BICUBIC",
    )
    return np.asarray(moved.to_ndarray(), np.uint8)


def from_rgb(rgb: Plane, about: About) -> VideoFrame:
    """Returns RGB as a frame of the layout, matrix and range that is written."""
    frame = VideoFrame.from_ndarray(np.ascontiguousarray(rgb), format="rgb24")
    return frame.reformat(
        format=about.layout,
        dst_colorspace=_matrix(about),
        src_color_range=FULL_RANGE,
        dst_color_range=_range(about),
        interpolation="BICUBIC",
    )


def planes_of(frame: VideoFrame) -> list[Plane]:
    """Returns views of a frame's planes, uint8 (h, w)."""
    found: list[Plane] = []
    for plane in frame.planes:
        whole = np.frombuffer(plane, np.uint8)  # type: ignore[call-overload]
        found.append(whole[: plane.height * plane.line_size].reshape(plane.height, plane.line_size)[:, : plane.width])
    return found


def is_grey(frame: VideoFrame) -> bool:
    """Returns whether a frame in a layout that is written has no colour."""
    chroma = planes_of(frame)[1:]
    return all(int(plane.min()) >= 128 - GREY_LEVELS and int(plane.max()) <= 128 + GREY_LEVELS for plane in chroma)


def with_changes(frame: VideoFrame, before: Plane, after: Plane, about: About) -> VideoFrame:
    """Returns a new frame whose samples differ from those of `frame` as those of `after` do from those of `before`.

    So samples are the same, bit for bit, where nothing changes, and what conversion rounds away is not taken twice.

    Args:
        frame: in the layout that is written.
        before, after: uint8 (H, W, 3) RGB of the frame's size.
    """
    new = VideoFrame(frame.width, frame.height, about.layout)
    was, made = (planes_of(from_rgb(rgb, about)) for rgb in (before, after))
    keeps_colour = is_grey(frame)
    for number, (target, source) in enumerate(zip(planes_of(new), planes_of(frame), strict=True)):
        if number and keeps_colour:
            target[:] = source
        else:
            moved = source + (made[number].astype(np.int16) - was[number])
            target[:] = np.clip(moved, 0, 255).astype(np.uint8)
    return new


def copied(frame: VideoFrame, about: About) -> VideoFrame:
    """Returns a frame of its own with the same samples; the decoder's is not to be changed."""
    new = VideoFrame(frame.width, frame.height, about.layout)
    for target, source in zip(planes_of(new), planes_of(frame), strict=True):
        target[:] = source
    return new
