"""Restoring pictures of any size, whole or in tiles, and interpolations of two snapshots."""

import functools
import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from facesr.build import build, load_group
from facesr.errors import CheckpointError, ConfigError, FaceSRError
from facesr.image import to_float, to_uint8
from facesr.methods.method import Method
from facesr.methods.open import open_method
from facesr.methods.restore import restore_pictures
from facesr.methods.values import is_text
from facesr.places import Place
from facesr.snapshots.interpolation import interpolated
from facesr.snapshots.interpolation import main as write_blend_as_told
from facesr.snapshots.interpolation_parts import InterpolationParts, interpolation_sha256
from facesr.snapshots.shipped import snapshot_file
from facesr.snapshots.snapshot import Snapshot, read_snapshot, write_snapshot
from facesr.tiles import Tiles
from facesr.weights import sha256_of

CPU = torch.device("cpu")
WHOLE = Tiles(10_000, 0)
SMALL: dict[str, tuple[str, dict[str, Any]]] = {
    "bicubic": ("bicubic", {}),
    "nearest": ("nearest", {}),
    "srresnet": ("srresnet", {"num_channels": 8, "num_blocks": 2}),
    "rrdbnet": ("rrdbnet", {"num_channels": 8, "num_blocks": 1, "growth": 4}),
    "sicnn": ("sicnn", {"num_channels": 8, "growth": 4, "num_layers": 2}),
    "facesr": (
        "facesr",
        {"channels": 32, "num_groups": 1, "num_blocks": 1, "channels_up": 32, "num_hourglass_blocks": 1},
    ),
    "flat": (
        "facesr",
        {"channels": 32, "num_groups": 1, "num_blocks": 1, "channels_up": 32, "num_hourglass_blocks": 0},
    ),
}
# Network, tiles whose overlap covers its receptive radius, sizes (width, height) that are more than one tile.
COVERED = [
    ("bicubic", Tiles(32, 4), (37, 53)),
    ("bicubic", Tiles(32, 8), (61, 45)),
    ("nearest", Tiles(32, 0), (61, 45)),
    ("sicnn", Tiles(32, 8), (37, 53)),
    ("flat", Tiles(32, 8), (61, 45)),
    ("srresnet", Tiles(40, 12), (61, 45)),
    ("srresnet", Tiles(40, 12), (37, 53)),
    ("rrdbnet", Tiles(56, 20), (61, 45)),
    pytest.param("facesr", Tiles(80, 30), (97, 101), marks=pytest.mark.slow),
]


class Lively(nn.Module):
    """A network whose answer is spread over the grey levels, so that a wrong tile shows."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        answer = network(to_float(noise(24, 28)))
        self.gain, self.mean = 0.25 / float(answer.std()), float(answer.mean())

    def forward(self, low: Tensor) -> Tensor:
        restored: Tensor = 0.5 + self.gain * (self.network(low) - self.mean)
        return restored


def noise(width: int, height: int, count: int = 1) -> NDArray[np.uint8]:
    return np.random.default_rng(width).integers(0, 256, (count, height, width, 3), np.uint8)


@functools.cache
@torch.no_grad()
def method_of(name: str) -> Method:
    """Returns a small network of every layer at full strength; training starts with far-off layers at a tenth."""
    group, values = SMALL[name]
    torch.manual_seed(0)
    plain = {"_target_": f"facesr.models.interpolation.{group.title()}"}
    node = plain if group in ("bicubic", "nearest") else load_group("generator", group)
    network = build({**node, **values}, Place.GENERATOR)
    for parameter in network.parameters():
        if parameter.ndim == 4:
            nn.init.kaiming_normal_(parameter)
    return Method(name, Lively(network.eval()))


def receptive_radius(network: nn.Module, side: int) -> int:
    """Returns how many low-resolution pixels away a pixel's answer is still decided, if `side` shows it."""
    low = torch.rand(1, 3, side, side, requires_grad=True)
    restored, middle, found = network(low), side // 2, 0
    for offset in range(16):  # four pixels at each of the phases of a network that halves twice
        at = 4 * middle + offset
        (gradient,) = torch.autograd.grad(restored[0, :, at, at].sum(), low, retain_graph=True)
        reached = gradient[0].abs().sum(0).nonzero()
        found = max(found, int((reached - at // 4).abs().max()))
    return found


@functools.cache
def radius_of(name: str, side: int) -> int:
    return receptive_radius(method_of(name).generator, side)


def differences(method: Method, tiles: Tiles, size: tuple[int, int], flip: bool = False) -> NDArray[np.int64]:
    """Returns how many grey levels tiles are off the whole picture's answer, value by value."""
    low = noise(*size, count=2)
    whole = restore_pictures(method, low, device=CPU, self_ensemble=flip, tiles=WHOLE)
    tiled = restore_pictures(method, low, device=CPU, self_ensemble=flip, tiles=tiles)
    return np.abs(whole.astype(np.int64) - tiled)


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize(("name", "tiles", "size"), COVERED)
def test_tiles_give_the_whole_picture(name: str, tiles: Tiles, size: tuple[int, int], flip: bool) -> None:
    method = method_of(name)
    assert radius_of(name, side=2 * tiles.overlap_px + 24) <= tiles.overlap_px
    off = differences(method, tiles, size, flip)
    # On the machine that this was written on no value differs; another's convolutions may add in another order.
    assert off.max() <= 1 and (off > 0).mean() < 1e-3
    if name in ("bicubic", "nearest"):
        assert off.max() == 0


@pytest.mark.parametrize("name", ["bicubic", "sicnn", "srresnet", "facesr"])
def test_an_overlap_below_the_radius_would_show(name: str) -> None:
    assert differences(method_of(name), Tiles(32, 0), (61, 45)).max() > 1


@pytest.mark.slow
@pytest.mark.parametrize("flip", [False, True])
def test_beginnings_off_the_alignment_would_show(monkeypatch: pytest.MonkeyPatch, flip: bool) -> None:
    monkeypatch.setattr("facesr.tiles.ALIGNMENT_PX", 1)
    assert differences(method_of("facesr"), Tiles(80, 30), (97, 101), flip).max() > 1


@pytest.mark.parametrize("flip", [False, True])
def test_pictures_that_fit_one_tile_are_restored_as_a_plain_batch(flip: bool) -> None:
    method, low = method_of("facesr"), noise(24, 28, count=7)
    method.generator.whole_batches = True
    restored = restore_pictures(method, low, device=CPU, batch_size=4, self_ensemble=flip)
    for start in (0, 4):
        batch = to_float(low[start : start + 4])
        with torch.no_grad():
            plain = method.generator(batch)
            if flip:
                plain = 0.5 * (plain + method.generator(batch.flip(-1)).flip(-1))
        assert np.array_equal(restored[start : start + 4], to_uint8(plain))


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize("size", [(1, 1), (1, 2), (3, 1), (37, 53), (45, 33)])
def test_odd_and_tiny_sizes(name: str, size: tuple[int, int], flip: bool) -> None:
    low = noise(*size)
    restored = restore_pictures(method_of(name), low, device=CPU, self_ensemble=flip, tiles=Tiles(32, 8))
    assert restored.shape == (1, 4 * size[1], 4 * size[0], 3) and restored.dtype == np.uint8


class Recorder(nn.Module):
    """Repeats pixels and remembers the shapes that it was given."""

    whole_batches = False

    def __init__(self) -> None:
        super().__init__()
        self.shapes: list[tuple[int, ...]] = []

    def forward(self, low: Tensor) -> Tensor:
        self.shapes.append(tuple(low.shape))
        return low.repeat_interleave(4, -1).repeat_interleave(4, -2)


@pytest.mark.parametrize("flip", [False, True])
def test_memory_is_bounded_by_the_tile_and_the_batch(flip: bool) -> None:
    recorder = Recorder()
    low = noise(301, 257, count=3)
    done: list[int] = []
    restored = restore_pictures(
        Method("recorder", recorder),
        low,
        device=CPU,
        batch_size=2,
        self_ensemble=flip,
        tiles=Tiles(48, 8),
        on_batch=done.append,
    )
    assert np.array_equal(restored, low.repeat(4, 1).repeat(4, 2))
    assert max(max(shape[-2:]) for shape in recorder.shapes) <= 48
    assert {shape[0] for shape in recorder.shapes} == {1} and done == [1, 1, 1]


def test_several_large_pictures_take_no_more_than_a_batch_of_faces() -> None:
    recorder = Recorder()
    recorder.whole_batches = True
    restore_pictures(Method("recorder", recorder), noise(90, 75, count=40), device=CPU, batch_size=64)
    assert [shape[0] for shape in recorder.shapes] == [6] * 6 + [4]


# Blends

NODE = {"_target_": "facesr.models.sicnn.SICNN", "num_channels": 8, "growth": 4, "num_layers": 2}


def write(path: Path, seed: int, **changes: Any) -> Path:
    """Writes a snapshot of random weights, with changes to what it says, and returns its path."""
    torch.manual_seed(seed)
    node = changes.pop("generator", NODE)
    about = {"run": path.stem, "kimg": 10.0 + seed, "config_sha256": str(seed) * 64, "loss_judges": (), **changes}
    write_snapshot(path, Snapshot(build(node, Place.GENERATOR).state_dict(), node, scores={}, sha256="", **about))
    return path


@pytest.fixture
def pair(tmp_path: Path) -> tuple[str, str]:
    first = write(tmp_path / "psnr.safetensors", 1, loss_judges=("edgeface",))
    second = write(tmp_path / "gan.safetensors", 2, loss_judges=("builtin", "edgeface"))
    return str(first), str(second)


def pixels(method: Method) -> NDArray[np.uint8]:
    return restore_pictures(method, noise(24, 28, count=2), device=CPU)


def test_the_ends_of_a_blend_are_its_snapshots(pair: tuple[str, str]) -> None:
    for weight, end in zip((0.0, 1.0), pair, strict=True):
        assert np.array_equal(pixels(open_method(*pair_at(pair, weight))), pixels(open_method(end, CPU)))
    between = pixels(open_method(*pair_at(pair, 0.5)))
    assert all(np.abs(between.astype(int) - pixels(open_method(end, CPU))).max() > 1 for end in pair)


def pair_at(pair: tuple[str, str], weight: float) -> tuple[str, torch.device, str, float]:
    return pair[0], CPU, pair[1], weight


def test_the_weights_of_a_blend(pair: tuple[str, str]) -> None:
    first, second = (read_snapshot(Path(path)) for path in pair)
    between = interpolated(first, second, 0.25)
    for name, tensor in between.state.items():
        assert tensor.dtype == torch.float32
        exact = 0.75 * first.state[name].double() + 0.25 * second.state[name].double()
        torch.testing.assert_close(tensor.double(), exact, rtol=1e-6, atol=1e-8)


def test_what_a_blend_says_of_itself(pair: tuple[str, str]) -> None:
    first, second = (read_snapshot(Path(path)) for path in pair)
    method = open_method(*pair_at(pair, 0.25))
    assert method.name == "psnr+0.25*gan" and method.kimg == 11.0 + 12.0
    text = f"blend\n{first.sha256}\n{second.sha256}\n0.25\n"
    assert method.weights_sha256 == hashlib.sha256(text.encode()).hexdigest()
    assert method.config_sha256 == interpolation_sha256("1" * 64, "2" * 64, 0.25)
    assert method.loss_judges == ("builtin", "edgeface")
    assert method.path == Path(pair[0]) and method.interpolation is not None
    assert method.interpolation.path == Path(pair[1])
    assert method.interpolation.parts == InterpolationParts((first.sha256, second.sha256), ("1" * 64, "2" * 64), 0.25)
    assert open_method(pair[0], CPU).interpolation is None
    # A judge counts where its share of the weights is not 0.
    assert open_method(*pair_at(pair, 0)).loss_judges == ("edgeface",)
    assert open_method(*pair_at(pair, 0)).kimg == 11.0 and open_method(*pair_at(pair, 1)).kimg == 12.0
    assert open_method(*pair_at(pair, 0)).weights_sha256 != first.sha256


def test_a_blend_as_a_file(pair: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It restores what the interpolation of the moment restores, and says the same of itself."""
    out = tmp_path / "between.safetensors"
    command = [*pair, "--weight", "0.25", "--out", str(out)]
    assert write_blend_as_told(command) == 0
    assert sha256_of(out) in capsys.readouterr().out
    written, moment = open_method(str(out), CPU), open_method(*pair_at(pair, 0.25))
    assert np.array_equal(pixels(written), pixels(moment))
    assert (written.name, written.kimg, written.loss_judges, written.config_sha256) == (
        moment.name,
        moment.kimg,
        moment.loss_judges,
        moment.config_sha256,
    )


def test_what_ships_can_be_interpolated_by_its_name(tmp_path: Path) -> None:
    out = tmp_path / "same.safetensors"
    assert write_blend_as_told(["pretrained:general", "pretrained:general", "--weight", "0.5", "--out", str(out)]) == 0
    kept, written = read_snapshot(snapshot_file("pretrained:general")).state, read_snapshot(out).state
    assert all(torch.equal(written[name], weight) for name, weight in kept.items())


def test_a_blend_that_is_refused_writes_nothing(
    pair: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str], code_of: Callable[..., int]
) -> None:
    out = tmp_path / "out.safetensors"
    other = str(write(tmp_path / "other.safetensors", 3, generator={"_target_": "facesr.models.srresnet.SRResNet"}))
    for first, second, weight, words in (
        (pair[0], pair[1], "1.5", "--weight 1.5 is out of range"),
        (pair[0], other, "0.5", "differ in _target_"),
        (pair[0], str(tmp_path / "absent"), "0.5", "absent"),
    ):
        assert code_of(write_blend_as_told, [first, second, "--weight", weight, "--out", str(out)]) == 2
        assert words in capsys.readouterr().err and not out.exists()
    before = Path(pair[0]).read_bytes()
    assert write_blend_as_told([*pair, "--weight", "0.5", "--out", pair[0]]) == 2
    assert "exists; choose another --out" in capsys.readouterr().err and Path(pair[0]).read_bytes() == before


def test_a_blend_of_long_names_fits_a_manifest(tmp_path: Path) -> None:
    paths = [str(write(tmp_path / f"{name * 200}.safetensors", 1)) for name in "ab"]
    assert is_text(open_method(paths[0], CPU, paths[1], 1 / 3).name)


def test_blends_that_cannot_be_are_one_sentence(pair: tuple[str, str], tmp_path: Path) -> None:
    wider = str(write(tmp_path / "wider.safetensors", 3, generator={**NODE, "num_channels": 16, "growth": 8}))
    other = str(write(tmp_path / "other.safetensors", 3, generator={"_target_": "facesr.models.srresnet.SRResNet"}))
    cases = [
        (ConfigError, (pair[0], CPU, pair[1], 1.5), r"interpolation_weight=1\.5 is out of range"),
        (ConfigError, (pair[0], CPU, pair[1], -0.1), r"interpolation_weight=-0\.1 is out of range"),
        (ConfigError, (pair[0], CPU, pair[1], float("nan")), "interpolation_weight=nan is out of range"),
        (ConfigError, ("bicubic", CPU, pair[1]), "bicubic has no weights"),
        (ConfigError, (pair[0], CPU, "nearest"), "nearest has no weights"),
        (ConfigError, (pair[0], CPU, None, 0.25), r"interpolation_weight=0\.25 needs interpolate_with="),
        (ConfigError, (pair[0], CPU, wider), "psnr.* and .*wider.* differ in growth and num_channels"),
        (ConfigError, (pair[0], CPU, other), "differ in _target_"),
        (CheckpointError, (pair[0], CPU, "runs/absent"), "runs/absent is neither"),
    ]
    for kind, arguments, words in cases:
        with pytest.raises(FaceSRError, match=words) as caught:
            open_method(*arguments)  # type: ignore[arg-type]
        assert isinstance(caught.value, kind) and "\n" not in str(caught.value), words


def test_weights_that_do_not_fit_each_other_are_refused(pair: tuple[str, str], tmp_path: Path) -> None:
    snapshot = read_snapshot(Path(pair[1]))
    name = next(iter(snapshot.state))
    broken = tmp_path / "broken.safetensors"
    del snapshot.state[name]
    write_snapshot(broken, snapshot)
    with pytest.raises(ConfigError, match=r"broken.* cannot be interpolated, because their weights differ"):
        open_method(pair[0], CPU, str(broken))
