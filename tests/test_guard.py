"""The guard: a picture that contradicts its input is replaced by the fallback's, to the bit, and never silently."""

import json
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor, nn

from facesr.errors import CheckpointError, ImageError
from facesr.guard import Fallback, Finding, GuardRecord, GuardWarning, Replaced, guard_line
from facesr.image import to_float
from facesr.methods import open as restoration
from facesr.methods.method import Guard, Method, guard_record
from facesr.methods.open import open_method
from facesr.methods.restore import restore_pictures
from facesr.metrics.consistency import consistency, consistency_of_pictures
from facesr.snapshots.shipped import PREFIX
from facesr.snapshots.snapshot import Snapshot, write_snapshot
from facesr.tiles import Tiles

CPU = torch.device("cpu")
BOUND = 20.0
BICUBIC, NEAREST = ({"_target_": f"facesr.models.interpolation.{name}"} for name in ("Bicubic", "Nearest"))


def smooth(num: int, height: int = 28, width: int = 24) -> NDArray[np.uint8]:
    """Returns ramps, uint8 (N, h, w, 3), that any interpolation restores consistently."""
    down, right = np.meshgrid(np.arange(height), np.arange(width), indexing="ij")
    shades = [
        60 + 10 * i + (down[..., None] + right[..., None] * [1, 0, 2]) * 60 // (height + width) for i in range(num)
    ]
    return np.stack(shades).astype(np.uint8)


class Breaking(nn.Module):
    """Bicubic but for pictures with a black corner, on which it runs away: to `value`, or to inf or NaN."""

    def __init__(self, value: float = 1e12) -> None:
        super().__init__()
        self.value = value
        self.plain = open_method("bicubic", CPU).generator

    def forward(self, low: Tensor) -> Tensor:
        restored: Tensor = self.plain(low)
        # In whichever tile or mirror image that corner comes.
        corners = low[..., [0, 0, -1, -1], [0, -1, 0, -1]].sum(1).amin(1) == 0
        return torch.where(corners[:, None, None, None], torch.full_like(restored, self.value), restored)


def breaking(value: float = 1e12, bound: float | None = BOUND, fallback: str = "nearest") -> Method:
    guard = Guard(True, bound, open_method(fallback, CPU)) if bound is not None else Guard()
    return Method("breaking", Breaking(value), guard=guard)


def planted(num: int, *places: int, height: int = 28, width: int = 24) -> NDArray[np.uint8]:
    low = smooth(num, height, width)
    low[list(places), 0, 0] = 0
    return low


def restored_with(method: Method, low: NDArray[np.uint8], **more: object) -> tuple[NDArray[np.uint8], list[Finding]]:
    found: list[Finding] = []
    return restore_pictures(method, low, device=CPU, on_finding=found.append, **more), found  # type: ignore[arg-type]


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("value", [1e12, 0.0, float("inf"), float("nan")])
def test_a_destroyed_picture_is_replaced_by_the_fallbacks_to_the_bit(value: float, flip: bool) -> None:
    low, method = planted(6, 1, 4), breaking(value)
    pictures, found = restored_with(method, low, self_ensemble=flip)
    assert [finding.place for finding in found] == [1, 4]
    assert all(finding.consistency_db < BOUND == finding.bound_db for finding in found)
    assert {finding.restored_by for finding in found} == {"nearest"}
    for place in range(6):
        name = "nearest" if place in (1, 4) else "bicubic"
        alone = restore_pictures(open_method(name, CPU), low[place : place + 1], device=CPU, self_ensemble=flip)
        assert np.array_equal(pictures[place], alone[0])


def test_values_that_are_not_finite_count_as_no_consistency_at_all() -> None:
    # Black pictures whose answer would be black, and so consistent, if NaN became a black pixel.
    _, (finding,) = restored_with(breaking(float("nan")), np.zeros((1, 28, 24, 3), np.uint8))
    assert finding.consistency_db == 0.0
    with pytest.raises(ImageError, match="not finite"):
        restore_pictures(breaking(float("nan"), bound=None), planted(1, 0), device=CPU)


@pytest.mark.parametrize("guard", [None, Guard(on=False), Guard()])
def test_without_a_guard_or_a_bound_the_picture_stays(guard: Guard | None) -> None:
    low = planted(3, 1)
    pictures, found = restored_with(replace(breaking(), guard=guard), low)
    assert found == [] and (pictures[1] == 255).all()


@pytest.mark.parametrize("flip", [False, True])
def test_neither_batch_nor_neighbours_move_a_picture(flip: bool) -> None:
    low, method = planted(7, 0, 3, 6), breaking(fallback=f"{PREFIX}asc19_psnr")
    whole, found = restored_with(method, low, self_ensemble=flip)
    for size in (1, 3):
        pictures, again = restored_with(method, low, self_ensemble=flip, batch_size=size)
        assert np.array_equal(pictures, whole) and again == found
    alone, (finding,) = restored_with(method, low[3:4], self_ensemble=flip)
    assert np.array_equal(alone[0], whole[3]) and finding == replace(found[1], place=0)


@pytest.mark.parametrize("flip", [False, True])
def test_a_large_picture_in_tiles(flip: bool) -> None:
    """One tile is destroyed; the whole picture is the fallback's, as it restores that picture in tiles."""
    low, tiles = planted(2, 1, height=50, width=60), Tiles(32, 8)
    pictures, (finding,) = restored_with(breaking(), low, self_ensemble=flip, tiles=tiles)
    assert finding.place == 1 and 0.0 < finding.consistency_db < BOUND
    for place, name in enumerate(("bicubic", "nearest")):
        plain = restore_pictures(open_method(name, CPU), low, device=CPU, self_ensemble=flip, tiles=tiles)
        assert np.array_equal(pictures[place], plain[place])


def test_a_fallback_that_does_not_pass_has_a_fallback_of_its_own() -> None:
    low = planted(2, 1)
    first = replace(breaking(), name="first", guard=Guard(True, BOUND, breaking()))
    pictures, (finding,) = restored_with(first, low)
    assert finding.restored_by == "nearest"
    assert np.array_equal(pictures[1:], restore_pictures(open_method("nearest", CPU), low[1:], device=CPU))
    record = guard_record(first, {"b.png": finding})
    assert record is not None and [one.name for one in record.fallbacks] == ["breaking", "nearest"]


def test_a_caller_who_does_not_ask_is_warned_once() -> None:
    with pytest.warns(
        GuardWarning, match=r"breaking: 2 of 4 .* 20 dB .* picture 1 \(.*, nearest\), picture 3"
    ) as caught:
        restore_pictures(breaking(), planted(4, 1, 3), device=CPU, batch_size=1)
    assert len(caught) == 1 and caught[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        restore_pictures(breaking(), planted(4), device=CPU)


def test_the_measure_is_the_metric_to_the_bit_in_bands_too() -> None:
    generator = np.random.default_rng(0)
    for height, width in ((28, 24), (1, 1), (5, 3), (127, 4), (128, 4), (131, 3), (300, 2)):
        high = generator.integers(0, 256, (2, 4 * height, 4 * width, 3), np.uint8)
        low = generator.integers(0, 256, (2, height, width, 3), np.uint8)
        expected = consistency(to_float(high), to_float(low))
        assert np.array_equal(consistency_of_pictures(high, low), expected), (height, width)


# What a snapshot states


def snapshot(path: Path, bound: float | None, node: dict[str, str] = BICUBIC, **about: object) -> str:
    described = Snapshot({}, node, path.stem, 1.0, "c" * 64, (), {}, "", bound)
    write_snapshot(path, replace(described, **about))  # type: ignore[arg-type]
    return str(path)


@pytest.fixture
def fallback(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    path = snapshot(tmp_path / "fallback.safetensors", 5.0, NEAREST)
    monkeypatch.setattr(restoration, "FALLBACK", path)
    return path


def test_what_guards_a_snapshot(tmp_path: Path, fallback: str) -> None:
    method = open_method(snapshot(tmp_path / "a.safetensors", 43.5), CPU)
    assert method.guard is not None and method.bound_db == 43.5
    first = method.guard.fallback
    assert first is not None and first.name == fallback and first.bound_db == 5.0
    assert first.guard is not None and first.guard.fallback is not None and first.guard.fallback.name == "bicubic"
    record = guard_record(method, {})
    assert record == GuardRecord(True, 43.5, (Fallback(fallback, first.weights_sha256), Fallback("bicubic", "")), {})


def test_the_fallback_itself_and_a_copy_of_it_fall_back_on_bicubic(tmp_path: Path, fallback: str) -> None:
    copy = tmp_path / "copy.safetensors"
    copy.write_bytes(Path(fallback).read_bytes())
    for spec in (fallback, str(copy)):
        guard = open_method(spec, CPU).guard
        assert guard is not None and guard.fallback is not None and guard.fallback.name == "bicubic"


def test_no_guard_off_and_no_bound_are_three_things(tmp_path: Path, fallback: str) -> None:
    path = snapshot(tmp_path / "a.safetensors", None)
    bound = snapshot(tmp_path / "b.safetensors", 40.0)
    assert guard_record(open_method("bicubic", CPU), {}) is None
    assert guard_record(open_method(path, CPU), {}) == GuardRecord(True)
    assert guard_record(open_method(bound, CPU, guard=False), {}) == GuardRecord(False)


@pytest.mark.parametrize(
    ("bounds", "weight", "expected"),
    [((40.0, 42.0), 0.5, 40.0), ((40.0, None), 0.5, None), ((40.0, None), 0.0, 40.0), ((40.0, 42.0), 1.0, 42.0)],
)
def test_the_bound_of_a_blend(
    tmp_path: Path, fallback: str, bounds: tuple[float | None, float | None], weight: float, expected: float | None
) -> None:
    first, second = (snapshot(tmp_path / f"{i}.safetensors", bound) for i, bound in enumerate(bounds))
    assert open_method(first, CPU, second, weight).bound_db == expected


@pytest.mark.parametrize("bound", [float("nan"), float("inf"), -0.1, 100.1, True, "40", [40.0]])
def test_a_bound_that_is_none_is_refused(tmp_path: Path, bound: object) -> None:
    path = tmp_path / "a.safetensors"
    with pytest.raises(CheckpointError, match="consistency_bound_db is no number from 0 to 100"):
        snapshot(path, bound)  # type: ignore[arg-type]
    assert not path.exists()
    snapshot(path, 40.0)
    with safe_open(str(path), "pt") as file:
        about = json.loads(file.metadata()["facesr"])
    path.write_bytes(save({}, {"facesr": json.dumps({**about, "consistency_bound_db": bound})}))
    path.with_name(path.name + ".sha256").unlink()
    with pytest.raises(CheckpointError, match=r"a\.safetensors .*consistency_bound_db is no number") as caught:
        open_method(str(path), CPU)
    assert "\n" not in str(caught.value)


# Words


def test_the_line_that_is_told() -> None:
    replaced = {f"{i}.png": Replaced(30.0 - i, "nearest") for i in range(10)}
    assert guard_line(GuardRecord(False), 3) == "off"
    assert guard_line(GuardRecord(True), 3) == "no bound stated, so nothing was checked"
    assert guard_line(GuardRecord(True, 43.5), 3) == "bound 43.5 dB, kept by all 3 pictures"
    line = guard_line(GuardRecord(True, 43.5, (), replaced), 12)
    assert line.startswith("10 of 12 pictures were below the bound of 43.5 dB consistency and restored by a fallback: ")
    assert ": 9.png (21.0 dB, nearest), 8.png (22.0 dB, nearest)" in line and line.endswith(" and 2 more")


def test_the_remark_of_a_file_is_ascii() -> None:
    remark = Finding(3, 33.81, 43.5, "r\u00e9seau").remark
    assert (
        remark.isascii() and remark.startswith("guard: restored by r") and "33.8 dB below the bound of 43.5" in remark
    )
