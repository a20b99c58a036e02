"""A film restored with a made method and made faces: timestamps, sound, colours, memory, and going on after a kill."""

import json
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

av = pytest.importorskip("av")

from facesr.clips import segments, track  # noqa: E402
from facesr.clips.kind import film_format  # noqa: E402
from facesr.clips.stream import probe  # noqa: E402
from facesr.errors import DataError  # noqa: E402
from facesr.methods.method import Method  # noqa: E402
from facesr.models.interpolation import Bicubic  # noqa: E402
from facesr.photos.search import FoundFace  # noqa: E402
from facesr.restore_photo import clip  # noqa: E402
from facesr.restore_photo.clip import RestoredClip, Work, restore_clip  # noqa: E402
from facesr.restore_photo.photo import Means, Wishes  # noqa: E402
from tests.clips.faces import face_at  # noqa: E402
from tests.clips.made import packets_of, times_of, uneven, write_film  # noqa: E402
from tests.judges import Quarters  # noqa: E402

CPU = torch.device("cpu")
QUICK_VP9 = {"crf": "20", "b": "0", "cpu-used": "8", "deadline": "realtime"}
COUNT, WIDTH, HEIGHT = 14, 64, 60


class Dotted(nn.Module):
    """Cubic interpolation with bright dots, as a network that adds detail."""

    def __init__(self) -> None:
        super().__init__()
        self.cubic = Bicubic()

    def forward(self, low: Tensor) -> Tensor:
        restored: Tensor = self.cubic(low)
        restored[..., ::4, ::4] += 0.3
        return restored


def face() -> FoundFace:
    return face_at(31.5, 29.5)


@pytest.fixture(autouse=True)
def made_faces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(track, "find_faces", lambda picture, detector, smallest: [face()])
    monkeypatch.setattr(track, "followed", lambda picture, before, detector: face())
    monkeypatch.setattr(clip, "SEGMENT", 5)
    monkeypatch.setattr(clip, "REACH", 1)


def frames(count: int = COUNT) -> list[np.ndarray]:
    rng = np.random.default_rng(3)
    down, across = np.mgrid[:HEIGHT, :WIDTH] / 12.0
    still = np.stack([np.sin(across), np.cos(down), np.sin(across + down)], 2) * 50 + 128
    return [np.clip(still + rng.normal(0, 2, still.shape), 0, 255).astype(np.uint8) for _ in range(count)]


def restored(
    source: Path, out: Path, *, scale: int = 1, span: tuple[int, int | None] = (0, None), background: object = None
) -> RestoredClip:
    state = out.with_suffix(".state")
    state.mkdir(exist_ok=True)
    means = Means(Method("made", Dotted()), background, None, Quarters(), CPU)  # type: ignore[arg-type]
    work = Work(source, probe(source), span, state, lambda what, done, count: None)
    return restore_clip(work, out, means, Wishes(scale, "all", 10.0, 60.0, 1.0), "invented", True)


def facts(path: Path) -> tuple[int, ...]:
    with av.open(str(path)) as opened:
        frame = next(opened.decode(video=0))
        tags = (frame.color_primaries, frame.color_trc, frame.colorspace, frame.color_range)
        return (*(int(tag) for tag in tags), frame.rotation)


@pytest.mark.parametrize(
    ("name", "codec", "audio", "options"),
    [
        ("a.mp4", "libx264", "aac", None),
        pytest.param("a.mov", "libx264", "aac", None, marks=pytest.mark.slow),
        ("a.mkv", "libx264", "aac", None),
        pytest.param("a.webm", "libvpx-vp9", "libopus", QUICK_VP9, marks=pytest.mark.slow),
    ],
)
def test_timestamps_sound_and_tags_are_those_of_the_source(
    tmp_path: Path, name: str, codec: str, audio: str, options: dict[str, str] | None
) -> None:
    source, target = tmp_path / name, tmp_path / f"out_{name}"
    turn = 90 if name.endswith(("mp4", "mov")) else 0
    write_film(source, frames(), uneven(COUNT), codec=codec, audio=audio, options=options, turn=turn)
    told = restored(source, target)
    assert told.num_frames == COUNT and told.left_out == [] and [plan.reason for plan in told.plans] == [""]
    assert times_of(target) == times_of(source)
    heard = packets_of(source, "audio")
    assert len(heard) > 10 and packets_of(target, "audio") == heard
    assert facts(target) == facts(source)[:5] and facts(source)[4] == turn
    assert film_format(target) == film_format(source)
    with av.open(str(target)) as opened:
        assert "invented" in (opened.metadata.get("comment") or opened.metadata.get("COMMENT"))


def test_a_film_of_an_even_rate_in_avi(tmp_path: Path) -> None:
    source, target = tmp_path / "a.avi", tmp_path / "out.avi"
    write_film(source, frames(), codec="mpeg4", audio="pcm_s16le", options={}, colours=(2, 2, 2, 0))
    restored(source, target, scale=2)
    assert times_of(target) == times_of(source) and packets_of(target, "audio") == packets_of(source, "audio")


def test_a_film_of_microseconds_in_avi(tmp_path: Path) -> None:
    """AVI of cameras that count in microseconds: 33333 of them a frame, which MPEG-4 has no time base for."""
    source, target = tmp_path / "a.avi", tmp_path / "out.avi"
    with av.open(str(source), "w") as made:
        video = made.add_stream("mjpeg", rate=Fraction(1_000_000, 33_333))
        video.width, video.height, video.pix_fmt = WIDTH, HEIGHT, "yuvj420p"
        for picture in frames():
            made.mux(video.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        made.mux(video.encode(None))
    assert probe(source).time_base == Fraction(33_333, 1_000_000)
    restored(source, target)
    assert times_of(target) == times_of(source) and len(times_of(target)) == COUNT


@pytest.mark.parametrize("scale", [1, 2])
def test_a_film_of_rgb_keeps_its_colours(tmp_path: Path, scale: int) -> None:
    source, target = tmp_path / "a.mkv", tmp_path / "out.mkv"
    flat = np.full((HEIGHT, WIDTH, 3), (200, 40, 60), np.uint8)
    options = {"crf": "0", "preset": "ultrafast"}
    write_film(source, [flat] * 3, codec="libx264rgb", layout="rgb24", options=options, colours=(1, 1, 0, 2))
    assert probe(source).layout == "yuv444p"
    restored(source, target, scale=scale)
    with av.open(str(target)) as opened:
        for frame in opened.decode(video=0):
            # The face is elsewhere. Read as a player does, by the tags of the frame itself.
            seen = frame.to_ndarray(format="rgb24", src_colorspace=int(frame.colorspace))[:4, :4].astype(int)
            assert np.abs(seen - (200, 40, 60)).max() <= 3, seen[0, 0]
            assert frame.format.name == "yuv444p" and (int(frame.colorspace), int(frame.color_range)) == (6, 1)


def test_a_span_behind_the_end_is_told(tmp_path: Path) -> None:
    source = tmp_path / "a.mkv"
    write_film(source, frames(3), audio=None)
    assert probe(source).num_frames == 0
    with pytest.raises(DataError, match=r"a\.mkv has no frame 100; give smaller numbers to frames="):
        restored(source, tmp_path / "out.mkv", span=(100, 200))


def test_what_cannot_be_coded_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from facesr.restore_photo import clip_command

    def fails(*_: object) -> None:
        raise av.error.ArgumentError(22, "Invalid argument")

    monkeypatch.setattr(clip, "restore_clip", fails)
    monkeypatch.setattr(clip_command, "_state_for", lambda target, origin: tmp_path)
    source = tmp_path / "a.avi"
    write_film(source, frames(2), codec="mpeg4", audio=None, options={}, colours=(2, 2, 2, 0))
    origin, settings = SimpleNamespace(settings={"scale": 1}), SimpleNamespace(frames=None, overwrite=False)
    settings.faces, settings.min_face_px, settings.max_turn, settings.strength = "all", 10.0, 60.0, 1.0
    settings.metadata = True
    with pytest.raises(DataError, match=r"a\.avi cannot be written as AVI \(Invalid argument\); convert it to MP4\."):
        clip_command.restore_film(source, probe(source), tmp_path / "out.avi", settings, None, origin)  # type: ignore[arg-type]
    assert not (tmp_path / "out.avi").exists()


def test_a_killed_command_goes_on_and_gives_the_same_film(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, whole, killed = (tmp_path / name for name in ("a.mp4", "whole.mp4", "killed.mp4"))
    write_film(source, frames(), uneven(COUNT))
    restored(source, whole)
    written = segments.write_segment
    calls: list[Path] = []

    def dies_at_the_third(path: Path, *rest: object) -> None:
        calls.append(path)
        if len(calls) == 3:
            raise KeyboardInterrupt
        written(path, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(clip, "write_segment", dies_at_the_third)
    with pytest.raises(KeyboardInterrupt):
        restored(source, killed)
    restored(source, killed)
    assert [path.name for path in calls[2:]] == ["frames000002.part", "frames000002.part"]
    assert packets_of(killed, "video") == packets_of(whole, "video") and len(packets_of(whole, "video")) == COUNT


def test_a_part_of_a_film_keeps_its_times_and_its_sound(tmp_path: Path) -> None:
    source, target = tmp_path / "a.mp4", tmp_path / "out.mp4"
    write_film(source, frames(), uneven(COUNT))
    restored(source, target, span=(3, 9))
    wanted = times_of(source)[3:10]
    assert times_of(target) == wanted[:6]
    heard = [one for one in packets_of(source, "audio") if wanted[0] <= one[1] < wanted[6]]
    assert packets_of(target, "audio") == heard


def test_what_has_no_face_keeps_its_samples(tmp_path: Path) -> None:
    from facesr.clips.pixels import planes_of, to_rgb, with_changes
    from facesr.clips.stream import frames_of

    source = tmp_path / "a.mp4"
    write_film(source, frames(2), colours=(5, 6, 5, 2))
    about, frame = probe(source), next(frames_of(source))
    rgb = to_rgb(frame, about)
    after = rgb.copy()
    after[20:30, 20:30] = np.clip(after[20:30, 20:30].astype(int) + 10, 0, 255)
    new = with_changes(frame, rgb, after, about)
    luma, was = planes_of(new)[0], planes_of(frame)[0]
    outside = np.ones(luma.shape, bool)
    outside[20:30, 20:30] = False
    assert np.array_equal(luma[outside], was[outside])
    # Full range, BT.601: ten levels more in every channel are ten levels more of luma.
    assert abs(float((luma.astype(int) - was)[~outside].mean()) - 10.0) < 0.6


def test_the_number_of_frames_in_memory_does_not_grow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    held: list[int] = []
    finish = clip._finish

    def counted(number: int, window: object, *rest: object) -> None:
        held.append(len(window))  # type: ignore[arg-type]
        finish(number, window, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(clip, "_finish", counted)
    source = tmp_path / "a.mp4"
    write_film(source, frames(), uneven(COUNT), audio=None)
    restored(source, tmp_path / "out.mp4")
    assert len(held) == COUNT and max(held) == 3


@pytest.mark.parametrize(
    ("colours", "codec", "layout", "options", "what"),
    [
        ((9, 16, 9, 1), "libx264", "yuv420p", {}, "HDR (PQ)"),
        ((9, 18, 9, 1), "libx264", "yuv420p", {}, "HLG"),
        ((1, 1, 1, 1), "libx264", "yuv420p10le", {}, "8 bits"),
        ((2, 2, 2, 0), "qtrle", "argb", {}, "transparency"),
        ((1, 1, 1, 1), "libx264", "yuv420p", {"x264-params": "tff=1"}, "interlaced"),
    ],
)
def test_what_is_not_restored_is_refused(
    tmp_path: Path, colours: tuple[int, int, int, int], codec: str, layout: str, options: dict[str, str], what: str
) -> None:
    source = tmp_path / "a.mov"
    write_film(source, frames(2), codec=codec, colours=colours, layout=layout, options=options, audio=None)
    with pytest.raises(DataError) as raised:
        probe(source)
    assert what in str(raised.value) and "a.mov" in str(raised.value)


def test_subtitles_are_carried_packet_by_packet(tmp_path: Path) -> None:
    source, target = tmp_path / "a.mkv", tmp_path / "out.mkv"
    write_film(source, frames(), audio=None, subtitles=("First line", "and a second, later"))
    assert restored(source, target).left_out == []
    shown = packets_of(source, "subtitle")
    assert [text for text, _ in shown] == [b"First line", b"and a second, later"]
    assert packets_of(target, "subtitle") == shown


class Flat:
    """A background network whose answer is one grey level."""

    def enlarged(self, pixels: np.ndarray, scale: int, is_grey: bool) -> np.ndarray:
        return np.full((pixels.shape[0] * scale, pixels.shape[1] * scale, 3), 200, np.uint8)


def test_the_background_is_restored_by_its_network_where_the_film_grows(tmp_path: Path) -> None:
    source, target = tmp_path / "a.mp4", tmp_path / "out.mp4"
    write_film(source, frames(6), audio=None)
    restored(source, target, scale=2, background=Flat())
    with av.open(str(target)) as opened:
        shown = np.stack([frame.to_ndarray(format="rgb24") for frame in opened.decode(video=0)]).astype(int)
    assert shown.shape == (6, 2 * HEIGHT, 2 * WIDTH, 3)
    outside, inside = shown[:, :12], shown[:, HEIGHT - 8 : HEIGHT + 8, WIDTH - 8 : WIDTH + 8]
    assert np.abs(outside - 200).max() <= 3 and np.abs(inside - 200).max() > 5


def test_the_faces_are_kept_as_they_were_followed(tmp_path: Path) -> None:
    source = tmp_path / "a.mp4"
    write_film(source, frames(), audio=None)
    restored(source, tmp_path / "out.mp4")
    kept = json.loads((tmp_path / "out.state" / "faces000000.json").read_text())
    assert track.to_plain(track.from_plain(kept[0])) == kept[0]
