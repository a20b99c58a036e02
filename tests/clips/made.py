"""Films that tests make, with PyAV: a picture under a known movement, sound with a click, uneven timestamps."""

from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
from numpy.typing import NDArray

RATE = 48_000
BASE = Fraction(1, 12_800)


def uneven(count: int) -> list[int]:
    """Returns timestamps in units of `BASE` that are 30 to 50 ms apart."""
    steps = np.random.default_rng(0).integers(384, 640, count)
    return [0, *np.cumsum(steps)[: count - 1].tolist()]


def path_of(number: int, count: int, centre: tuple[float, float]) -> NDArray[np.float64]:
    """Returns (2, 3): takes a point of the picture to its point in a frame; a slow sway, roll and zoom."""
    phase = 2 * np.pi * number / max(count, 40)
    angle, zoom = np.deg2rad(4.0 * np.sin(phase)), 1.0 + 0.05 * np.sin(2 * phase)
    linear = zoom * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    moved = np.array([centre[0] + 5.0 * np.sin(phase), centre[1] + 3.0 * np.sin(1.7 * phase)])
    return np.column_stack([linear, moved - linear @ np.array(centre)])


def moving(picture: NDArray[np.uint8], count: int, noise: float = 2.0) -> Iterator[NDArray[np.uint8]]:
    """Yields frames of a picture that sways, with light that drifts and a little noise."""
    height, width = picture.shape[:2]
    rng = np.random.default_rng(1)
    for number in range(count):
        placement = path_of(number, count, ((width - 1) / 2, (height - 1) / 2))
        frame = cv2.warpAffine(
            picture, placement, (width, height), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT
        )
        light = 1.0 + 0.08 * np.sin(2 * np.pi * number / 50)
        yield np.clip(frame * light + rng.normal(0, noise, frame.shape), 0, 255).astype(np.uint8)


def sound(seconds: float, click_at: float) -> NDArray[np.float32]:
    """Returns (1, n): a sine of 440 Hz with one click."""
    times = np.arange(int(seconds * RATE)) / RATE
    wave = 0.2 * np.sin(2 * np.pi * 440 * times)
    at = int(click_at * RATE)
    wave[at : at + 48] = 0.9
    return wave[None].astype(np.float32)


def write_film(
    path: Path,
    frames: Sequence[NDArray[np.uint8]],
    times: Sequence[int] | None = None,
    *,
    codec: str = "libx264",
    layout: str = "yuv420p",
    options: dict[str, str] | None = None,
    colours: tuple[int, int, int, int] = (1, 1, 1, 1),
    turn: int = 0,
    audio: str | None = "aac",
    subtitles: Sequence[str] = (),
) -> None:
    """Writes a film of RGB frames with sound that clicks in its middle, and with texts of 0.2 s each (in MKV)."""
    times = times or [512 * number for number in range(len(frames))]
    with av.open(str(path), "w") as made:
        video = made.add_stream(codec, rate=25, options={"crf": "12", "preset": "fast"} if options is None else options)
        context = video.codec_context
        video.width, video.height, video.pix_fmt = frames[0].shape[1], frames[0].shape[0], layout
        video.time_base = context.time_base = BASE
        context.color_primaries, context.color_trc, context.colorspace, context.color_range = colours
        if turn:
            video.set_display_rotation(turn)
        heard = made.add_stream(audio, rate=RATE, layout="mono") if audio else None
        shown = spoken(path.with_suffix(".srt"), subtitles) if subtitles else None
        read = made.add_stream_from_template(shown.streams.subtitles[0]) if shown is not None else None
        for picture, at in zip(frames, times, strict=True):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame = frame.reformat(
                format=layout,
                dst_colorspace=colours[2] if colours[2] != 2 else None,
                dst_color_range=colours[3] or None,
            )
            frame.color_trc, frame.color_primaries = colours[1], colours[0]
            frame.pts, frame.time_base = at, BASE
            made.mux(video.encode(frame))
        if heard is not None:
            seconds = float(times[-1] * BASE) + 0.04
            wave = sound(seconds, seconds / 2)
            size = heard.codec_context.frame_size or 1024
            for start in range(0, wave.shape[1], size):
                part = np.ascontiguousarray(wave[:, start : start + size])
                block = av.AudioFrame.from_ndarray(part, format="fltp", layout="mono")
                block.sample_rate, block.pts, block.time_base = RATE, start, Fraction(1, RATE)
                made.mux(heard.encode(block))
            made.mux(heard.encode(None))
        if shown is not None:
            for packet in shown.demux():
                if packet.dts is not None:
                    packet.stream = read
                    made.mux(packet)
            shown.close()
        made.mux(video.encode(None))


def spoken(path: Path, texts: Sequence[str]) -> "av.container.InputContainer":
    """Writes a file of subtitles, one text after the other for 0.2 s, and opens it."""
    lines = [
        f"{number + 1}\n00:00:00,{200 * number:03} --> 00:00:00,{200 * number + 200:03}\n{text}\n"
        for number, text in enumerate(texts)
    ]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return av.open(str(path))


def packets_of(path: Path, kind: str) -> list[tuple[bytes, Fraction]]:
    """Returns bytes and time in seconds of all packets of the streams of a kind."""
    with av.open(str(path)) as opened:
        streams = [stream for stream in opened.streams if stream.type == kind]
        return [
            (bytes(packet), packet.pts * Fraction(packet.time_base))
            for packet in opened.demux(streams)
            if packet.pts is not None and packet.size
        ]


def times_of(path: Path) -> list[Fraction]:
    """Returns when each frame is shown, in seconds."""
    with av.open(str(path)) as opened:
        return [frame.pts * Fraction(frame.time_base) for frame in opened.decode(video=0) if frame.pts is not None]
