"""Snapshots that come with the package: named, whole, small, and usable wherever a snapshot is."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from facesr import __main__ as facesr_command
from facesr.build import build, load_settings
from facesr.config import TrainSettings
from facesr.data.synthetic.face.render import render_faces
from facesr.degradation import Chain, GaussianNoise, Jpeg
from facesr.errors import CheckpointError, ConfigError, WeightsError
from facesr.image import to_float, to_uint8
from facesr.methods.bound import state_bound
from facesr.methods.method import Method, guard_record
from facesr.methods.open import FALLBACK, open_method
from facesr.methods.restore import restore_pictures
from facesr.places import Place
from facesr.png import read_png
from facesr.snapshots.rules import SHIPPED
from facesr.snapshots.shipped import PREFIX, ship, shipped_names, snapshot_file
from facesr.snapshots.snapshot import Snapshot, read_snapshot, write_snapshot
from facesr.training.run import build_players
from facesr.weights import sha256_of, to_eight_bits

CPU = torch.device("cpu")
NODE = {"_target_": "facesr.models.sicnn.SICNN", "num_channels": 8, "growth": 4, "num_layers": 2}
CLEANER = {
    "_target_": "facesr.models.cleaner.CleanedBicubic",
    "channels": 16,
    "rms_limit": 0.6,
    "hidden_rms_limit": 1.0,
}
MAX_BYTES = 14_000_000
FACES = ("asc19_final", "asc19_psnr")
CARD = SHIPPED / "README.md"


def written(path: Path, added: float = 0.0) -> Path:
    """Writes a snapshot of a small network; `added` is added to its weights."""
    torch.manual_seed(0)
    state = {name: tensor + added for name, tensor in build(NODE, Place.GENERATOR).state_dict().items()}
    write_snapshot(path, Snapshot(state, NODE, "tester", 1.5, "c" * 64, ("builtin",), {"is/builtin": 0.5}, ""))
    return path


def test_a_shipped_copy_keeps_its_origin_and_a_quarter_of_the_bytes(tmp_path: Path) -> None:
    source = written(tmp_path / "best.safetensors")
    path = ship(source, "small", tmp_path / "package")
    first, second = read_snapshot(source), read_snapshot(path)
    assert (second.run, second.kimg, second.loss_judges) == ("tester", 1.5, ("builtin",))
    assert (second.config_sha256, second.scores) == (first.config_sha256, first.scores)
    packed = sum(tensor.numel() * tensor.element_size() for tensor in to_eight_bits(first.state).values())
    assert packed < path.stat().st_size < packed + 150 * len(to_eight_bits(first.state)) + 1000  # names and places
    for name, tensor in second.state.items():
        assert tensor.dtype == torch.float32
        largest = first.state[name].abs().max().item()
        torch.testing.assert_close(tensor, first.state[name], rtol=0, atol=largest / 250)
    assert snapshot_file(f"{PREFIX}small", tmp_path / "package") == path


def psnr_of(method: Method, low: np.ndarray, high: np.ndarray) -> float:
    """Returns the mean PSNR of what a method makes of pictures, uint8 (N, h, w, 3), against uint8 (N, 4h, 4w, 3)."""
    restored = restore_pictures(method, low, device=CPU)
    return float(10 * np.log10(255**2 / np.square(restored.astype(float) - high).mean((1, 2, 3))).mean())


def built_on_psnr(path: Path) -> Path:
    """Writes a snapshot whose network is asc19_psnr's behind a small cleaner."""
    psnr = read_snapshot(snapshot_file(f"{PREFIX}asc19_psnr"))
    node = {**psnr.generator, "cleaner_channels": 16}
    torch.manual_seed(0)
    cleaner = {name: value for name, value in build(node, Place.GENERATOR).state_dict().items() if "cleaner" in name}
    write_snapshot(path, replace(psnr, generator=node, state=psnr.state | cleaner, run="tester"))
    return path


def test_a_copy_leaves_out_what_another_shipped_snapshot_holds(tmp_path: Path) -> None:
    source = built_on_psnr(tmp_path / "best.safetensors")
    path = ship(source, "small", tmp_path / "package", base="asc19_psnr")
    first, second = read_snapshot(source), read_snapshot(path)
    assert path.stat().st_size < 500_000, "the cleaner's 0.23 million weights, and names"
    assert second.base == ("asc19_psnr", sha256_of(snapshot_file(f"{PREFIX}asc19_psnr")))
    assert second.state.keys() == first.state.keys()
    for name, value in second.state.items():
        if name.startswith("cleaner."):
            torch.testing.assert_close(
                value, first.state[name], rtol=0, atol=first.state[name].abs().max().item() / 250
            )
        else:
            assert torch.equal(value, first.state[name]), name
    assert open_method(str(path), CPU).name == "tester"


def test_a_cleaner_is_shipped_in_front_of_a_network(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = build(CLEANER, Place.GENERATOR)
    torch.nn.init.normal_(network.cleaner.to_rgb.weight, std=0.05)
    source = tmp_path / "cleaner.safetensors"
    write_snapshot(source, Snapshot(network.state_dict(), CLEANER, "mine", 1.5, "c" * 64, (), {"psnr_rgb": 1.0}, ""))
    found = read_snapshot(ship(source, "both", tmp_path / "package", restorer="asc19_final"))
    assert found.base is not None and found.base[0] == "asc19_final" and found.consistency_bound_db is None
    assert (found.run, found.scores, found.loss_judges) == ("mine", {}, ("builtin", "facenet_vggface2"))
    # The one behind the other: the restorer's answer to the cleaner's.
    low = torch.rand(1, 3, 12, 8)
    final = open_method(f"{PREFIX}asc19_final", CPU).generator
    quantised = build(CLEANER, Place.GENERATOR)
    quantised.load_state_dict({name: value for name, value in found.state.items() if name.startswith("cleaner.")})
    with torch.no_grad():
        expected = final(quantised.cleaner(low))
        assert torch.equal(open_method(str(tmp_path / "package" / "both.safetensors"), CPU).generator(low), expected)
    for wrong, restorer in ((SHIPPED / "asc19_psnr.safetensors", "asc19_final"), (source, "wild")):
        with pytest.raises(ConfigError, match="cannot stand in front of"):
            ship(wrong, "other", tmp_path / "package", restorer=restorer)


def test_neither_a_base_nor_what_builds_on_it_is_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "package"
    package.mkdir()
    for file in SHIPPED.glob("asc19_psnr.safetensors*"):
        (package / file.name).write_bytes(file.read_bytes())
    monkeypatch.setattr("facesr.snapshots.snapshot.SHIPPED", package)
    whole = snapshot_file(f"{PREFIX}asc19_psnr", package)
    monkeypatch.setattr(
        "facesr.snapshots.shipped.snapshot_file", lambda spec: package / f"{spec.removeprefix(PREFIX)}.safetensors"
    )
    source, before = built_on_psnr(tmp_path / "best.safetensors"), whole.read_bytes()
    ship(source, "one", package, base="asc19_psnr")
    for name, base, words in (
        ("two", "one", "cannot build on"),
        ("asc19_psnr", None, "cannot be replaced: one.safetensors builds on it"),
        ("asc19_psnr", "asc19_psnr", "cannot be replaced"),
    ):
        with pytest.raises(CheckpointError, match=words):
            ship(source, name, package, base=base)
    with pytest.raises(CheckpointError, match="cannot be replaced"):
        state_bound(whole, whole, 40.0)
    assert whole.read_bytes() == before and not (package / "two.safetensors").exists()
    (package / "one.safetensors").unlink()
    with pytest.raises(CheckpointError, match="cannot build on"):
        ship(source, "asc19_psnr", package, base="asc19_psnr")
    assert whole.read_bytes() == before


def test_a_base_is_refused_where_it_is_none_or_another_one(tmp_path: Path) -> None:
    source = built_on_psnr(tmp_path / "best.safetensors")
    for base, words in (("none", "does not come with this package"), ("general", "no weight that is the same")):
        with pytest.raises(CheckpointError, match=words):
            ship(source, "small", tmp_path / "package", base=base)
    assert not (tmp_path / "package").exists()
    psnr = read_snapshot(snapshot_file(f"{PREFIX}asc19_psnr"))
    for base in (("asc19_psnr", "0" * 64), ("missing", psnr.sha256)):
        path = tmp_path / f"{base[0]}.safetensors"
        write_snapshot(path, replace(psnr, base=base))
        with pytest.raises(CheckpointError, match=f"builds on pretrained:{base[0]} of sha256 {base[1][:12]}"):
            read_snapshot(path)


def test_other_specs_stay_as_they_are(tmp_path: Path) -> None:
    assert snapshot_file("runs/NAME") == Path("runs/NAME")
    assert snapshot_file("~/a.safetensors") == Path.home() / "a.safetensors"


@pytest.mark.parametrize("name", ["none", "../asc19_final", "", "README"])
def test_a_name_that_is_not_shipped_is_refused_with_those_that_are(tmp_path: Path, name: str) -> None:
    ship(written(tmp_path / "best.safetensors"), "small", tmp_path / "package")
    with pytest.raises(CheckpointError, match=r"does not come with this package; there is pretrained:small\.$"):
        snapshot_file(PREFIX + name, tmp_path / "package")


@pytest.mark.parametrize("damage", ["changed", "no digest"])
def test_a_damaged_file_is_refused(tmp_path: Path, damage: str) -> None:
    path = ship(written(tmp_path / "best.safetensors"), "small", tmp_path)
    if damage == "changed":
        data = bytearray(path.read_bytes())
        data[-1] ^= 1
        path.write_bytes(data)
    else:
        path.with_name("small.safetensors.sha256").unlink()
    with pytest.raises(CheckpointError, match="is not the file that was shipped"):
        snapshot_file(f"{PREFIX}small", tmp_path)


def test_weights_beyond_8_bits_and_bad_names_are_refused(tmp_path: Path) -> None:
    # Half precision, in which biases are kept, ends at 65,504.
    with pytest.raises(CheckpointError, match="holds values that they cannot keep"):
        ship(written(tmp_path / "large.safetensors", 1e6), "large", tmp_path / "package")
    with pytest.raises(CheckpointError, match="cannot be a shipped snapshot's name"):
        ship(written(tmp_path / "best.safetensors"), "../up", tmp_path / "package")
    assert not (tmp_path / "package").exists()


def test_the_command_refuses_what_is_no_snapshot(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert facesr_command.main(["ship", str(tmp_path / "none.safetensors"), "none"]) == 2
    told = capsys.readouterr().err
    assert told.startswith("error: ") and told.count("\n") == 1
    assert "none" not in shipped_names()


def test_the_package_ships_the_flagship_the_reference_and_one_for_general_pictures() -> None:
    assert {*FACES, "asc19_fast", "general", "wild"} <= set(shipped_names())
    assert (SHIPPED / "general.safetensors").stat().st_size <= 2_000_000
    assert sum(path.stat().st_size for path in SHIPPED.glob("*.safetensors")) <= MAX_BYTES


@pytest.mark.parametrize("name", shipped_names())
def test_each_is_whole_and_on_the_card(name: str) -> None:
    path = snapshot_file(PREFIX + name)
    assert f"`{name}`" in CARD.read_text() and sha256_of(path) in CARD.read_text()
    method = open_method(PREFIX + name, CPU)
    assert method.path == path and method.weights_sha256 == sha256_of(path)


@pytest.mark.parametrize(("name", "lowest_db"), [*((name, 43.0) for name in FACES), ("asc19_fast", 40.0)])
def test_what_restores_faces_is_guarded(name: str, lowest_db: float) -> None:
    record = guard_record(open_method(PREFIX + name, CPU), {})
    assert record is not None and record.bound_db is not None and lowest_db <= record.bound_db <= 46.0
    names = [fallback.name for fallback in record.fallbacks]
    assert names == (["bicubic"] if name == "asc19_psnr" else [FALLBACK, "bicubic"])


def test_wild_is_the_flagship_behind_a_cleaner() -> None:
    wild, final = (read_snapshot(SHIPPED / f"{name}.safetensors") for name in ("wild", "asc19_final"))
    assert wild.base == ("asc19_final", sha256_of(SHIPPED / "asc19_final.safetensors"))
    assert set(wild.state) - set(final.state) == {name for name in wild.state if name.startswith("cleaner.")}
    assert all(torch.equal(wild.state[name], value) for name, value in final.state.items())
    record = guard_record(open_method(f"{PREFIX}wild", CPU), {})
    assert record is not None and record.bound_db is None, "an answer to a damaged input contradicts it"


@pytest.mark.parametrize(("fault", "gain_db"), [(Jpeg(60), 0.5), (GaussianNoise(10.0), 1.0)])
def test_wild_undoes_what_the_flagship_draws_as_detail(fault: Jpeg | GaussianNoise, gain_db: float) -> None:
    high, _ = render_faces(4, seed=3, num_workers=0)
    low = to_uint8(Chain(after=(fault,))(to_float(high), 1, 0))
    wild, final = (
        psnr_of(open_method(f"{PREFIX}{name}", CPU, guard=False), low, high) for name in ("wild", "asc19_final")
    )
    assert wild > final + gain_db


@pytest.mark.shared
@pytest.mark.parametrize("name", [*FACES, "asc19_fast", "wild"])
def test_each_restores_real_faces_better_than_bicubic(shared: Path, name: str) -> None:
    names = [f"{number}.png" for number in range(301, 309)]
    high, low = (
        np.stack([read_png(shared / "asc19" / folder / file) for file in names]) for folder in ("val_HR", "val_LR")
    )
    assert psnr_of(open_method(PREFIX + name, CPU), low, high) > psnr_of(open_method("bicubic", CPU), low, high) + 2.0


@pytest.mark.shared
@pytest.mark.slow
def test_general_pictures_are_restored_better_than_by_bicubic(shared: Path) -> None:
    gains = []
    for path in sorted((shared / "sisr" / "LR").glob("*.png"))[:3]:
        low, high = read_png(path), read_png(shared / "sisr" / "HR" / path.name)
        # A part of each, so that it takes seconds.
        low, high = low[:64, :64], high[:256, :256]
        errors = [
            np.square(restore_pictures(open_method(spec, CPU), low[None], device=CPU)[0].astype(float) - high).mean()
            for spec in ("bicubic", f"{PREFIX}general")
        ]
        gains.append(10 * np.log10(errors[0] / errors[1]))
    assert np.mean(gains) >= 0.5 and min(gains) > 0


def test_training_starts_from_a_shipped_snapshot() -> None:
    name = "asc19_psnr"
    node = read_snapshot(SHIPPED / f"{name}.safetensors").generator
    keys = [f"generator.{key}={value}" for key, value in node.items() if key != "_target_"]
    settings = load_settings("train", TrainSettings, [f"start_from={PREFIX}{name}", "device=cpu", *keys])
    gan = build_players(settings, CPU)
    expected = read_snapshot(SHIPPED / f"{name}.safetensors").state
    assert all(torch.equal(tensor, expected[key]) for key, tensor in gan.generator.state_dict().items())


def test_training_starts_from_a_network_and_a_cleaner_of_its_own(tmp_path: Path) -> None:
    torch.manual_seed(0)
    cleaner = build(CLEANER, Place.GENERATOR).state_dict()
    path = tmp_path / "cleaner.safetensors"
    write_snapshot(path, Snapshot(cleaner, CLEANER, "tester", 1.5, "c" * 64, (), {}, ""))
    keys = ["generator=facesr", "+generator.cleaner_channels=16", "device=cpu"]
    settings = load_settings("train", TrainSettings, [f"start_from=[{PREFIX}asc19_psnr,{path}]", *keys])
    expected = read_snapshot(SHIPPED / "asc19_psnr.safetensors").state | cleaner
    found = build_players(settings, CPU).generator.state_dict()
    assert found.keys() == expected.keys()
    assert all(torch.equal(value, expected[name]) for name, value in found.items())


@pytest.mark.parametrize("start", ["[]", "5", "[5]", "{a: b}"])
def test_a_start_that_names_no_snapshot_is_refused(start: str) -> None:
    with pytest.raises(ConfigError, match=r"start_from=.* has to be a snapshot, or a list of snapshots"):
        build_players(load_settings("train", TrainSettings, [f"start_from={start}", "device=cpu"]), CPU)


def test_training_grows_hourglasses_on_a_shipped_snapshot() -> None:
    keys = [f"start_from={PREFIX}asc19_psnr", "experiment=asc19_pixel", "device=cpu"]
    plain, grown = (
        build_players(load_settings("train", TrainSettings, [*keys, f"generator.{change}"]), CPU).generator
        for change in ("num_hourglass_blocks=0", "num_hourglass_blocks=1")
    )
    low = torch.linspace(0, 1, 3 * 28 * 24).reshape(1, 3, 28, 24)
    with torch.no_grad():
        torch.testing.assert_close(grown(low), plain(low), rtol=0, atol=1e-4)
    with pytest.raises(WeightsError, match=r"asc19_psnr\.safetensors .*'body\."):
        build_players(load_settings("train", TrainSettings, [*keys, "generator.num_blocks=5"]), CPU)
