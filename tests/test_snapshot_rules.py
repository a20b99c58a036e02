"""Snapshots from strangers: whatever a file says ends in a snapshot or in one sentence, and nothing is run."""

import copy
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from facesr.errors import CheckpointError, FaceSRError
from facesr.methods.open import open_method
from facesr.snapshots.rules import MAX_HEADER_BYTES, problem_with
from facesr.snapshots.snapshot import read_snapshot, write_snapshot
from tests.hostile import NODE, honest_about, honest_weights, write_raw

CPU = torch.device("cpu")
SNAPSHOTS = sorted((Path(__file__).parent.parent / "facesr" / "pretrained").glob("*.safetensors"))
FACESR = {"_target_": "facesr.models.facesr.FaceSR", "channels": 32, "num_groups": 1, "num_blocks": 1}


def refusal(path: Path) -> str:
    """Returns the sentence with which a file is refused, soon."""
    start = time.process_time()
    with pytest.raises(FaceSRError) as caught:
        open_method(str(path), CPU)
    assert time.process_time() - start < 10
    assert str(caught.value).isprintable()
    return str(caught.value)


def test_an_honest_snapshot_is_read(tmp_path: Path) -> None:
    path = write_raw(tmp_path / "a.safetensors", honest_about())
    assert read_snapshot(path).generator == NODE and open_method(str(path), CPU).name == "tester"


@pytest.mark.parametrize("path", SNAPSHOTS, ids=lambda path: path.stem)
def test_what_ships_is_read(path: Path) -> None:
    snapshot = read_snapshot(path)
    assert open_method(f"pretrained:{path.stem}", CPU).weights_sha256 == snapshot.sha256


def test_a_snapshot_runs_nothing(tmp_path: Path) -> None:
    trap = tmp_path / "trap"
    write = {"_target_": "facesr.evaluation.out_folder.write_text", "path": str(trap), "text": "ran"}
    nodes = [
        write,
        {"_target_": "facesr.snapshots.snapshot.torch.load", "weights_only": False, "f": write},
        {"_target_": "facesr.snapshots.snapshot.os.mkdir", "path": str(trap)},
        {"_target_": "facesr.snapshots.snapshot.Path.unlink", "self": write},
        {**NODE, "num_channels": write},
        {**NODE, "num_channels": [write]},
        {**NODE, "num_channels": {"deep": [{"er": write}]}},
        {**NODE, "_partial_": True},
        {**NODE, "_args_": [8]},
        {**NODE, "_convert_": "none"},
        {**NODE, "_recursive_": False},
        {**NODE, "_target_": "facesr.losses.pixel.L1"},
        {**NODE, "_target_": "facesr.methods.pulse.eigenfaces.Eigenfaces", "weights": str(trap)},
        {**NODE, "_target_": "facesr.models.sicnn.Sicnn"},
        {**NODE, "_target_": "facesr.models.sicnn.nn.Linear"},
        {**NODE, "_target_": ["facesr.models.sicnn.SICNN"]},
        [NODE],
        "facesr.models.sicnn.SICNN",
        None,
    ]
    for number, node in enumerate(nodes):
        path = write_raw(tmp_path / f"{number}.safetensors", {**honest_about(), "generator": node})
        assert path.name in refusal(path)
    assert not trap.exists()


@pytest.mark.parametrize(
    "node",
    [
        {**FACESR, "channels": 3_200_000},
        {**FACESR, "channels": 65_536},
        {**FACESR, "num_blocks": 10**9},
        {**FACESR, "num_blocks": 65_536, "num_groups": 65_536},
        {**FACESR, "num_blocks": 0, "num_groups": 65_536},
        {**FACESR, "num_groups": 0},
        {**FACESR, "num_groups": -1},
        {**FACESR, "channels": 10**40},
        {**FACESR, "channels": math.nan},
        {**FACESR, "channels": "a\x1b[2J"},
        {**FACESR, "channels": [32] * 100},
        {**FACESR, "channel": 32},
        {"_target_": "facesr.models.fsrnet.Hourglass", "num_channels": 1, "num_halvings": 60_000},
        {"_target_": "facesr.models.rrdbnet.RRDBNet", "num_channels": 60_000, "growth": 60_000},
        {"_target_": "facesr.models.style_generator.StyleGenerator", "width": 60_000, "height": 60_000},
        {"_target_": "facesr.models.vgg_discriminator.VGGDiscriminator"},
    ],
)
def test_no_network_larger_than_its_weights_is_built(node: dict[str, Any], tmp_path: Path) -> None:
    refusal(write_raw(tmp_path / "a.safetensors", {**honest_about(), "generator": node}))


def test_a_network_that_restores_nothing_is_refused(tmp_path: Path) -> None:
    from facesr.models.srresnet import ResidualBlock

    node = {"_target_": "facesr.models.srresnet.ResidualBlock", "num_channels": 3}
    about = {**honest_about(), "generator": node}
    assert "does not enlarge pictures 4x" in refusal(
        write_raw(tmp_path / "a.safetensors", about, ResidualBlock(3).state_dict())
    )


@pytest.mark.parametrize(
    ("key", "value"),
    [
        *[("kimg", value) for value in (math.nan, math.inf, -math.inf, -1, -0.001, 10**400, "1", None, True, [1])],
        *[("run", value) for value in ("", "a\x1b[2Jb", "a\nb", "a\u202eb", "a\x00", "x" * 201, 3, None, ["a"])],
        *[("loss_judges", value) for value in ("builtin", ["a\x07"], [3], [""], ["a"] * 65, None, {"a": 1})],
        *[("scores", value) for value in ([1], {"a": math.nan}, {"a": math.inf}, {"a": "1"}, {"a": True})],
        *[("scores", value) for value in ({"a": 1e300}, {"a": 10**400}, {"a\n": 1.0}, None)],
        ("scores", {str(i): 1.0 for i in range(1001)}),
        *[("config_sha256", value) for value in ("", "c" * 63, "C" * 64, "c" * 64 + "\n", 3, None)],
        *[("base", value) for value in ("asc19_psnr", ["asc19_psnr", "c" * 64], {"name": "asc19_psnr"}, True, {})],
        *[("base", {"name": name, "sha256": "c" * 64}) for name in ("../asc19_psnr", "/etc/passwd", "a" * 101, "", 3)],
        *[("base", {"name": "asc19_psnr", "sha256": digest}) for digest in ("c" * 63, "../" + "c" * 61, None, 3)],
        ("base", {"name": "asc19_psnr", "sha256": "c" * 64, "more": 1}),
        ("format", "facesr-generator-2"),
    ],
)  # fmt: skip
def test_metadata_out_of_bounds_are_refused(key: str, value: object, tmp_path: Path) -> None:
    assert "snapshot" in refusal(write_raw(tmp_path / "a.safetensors", {**honest_about(), key: value}))
    if key != "format":
        assert problem_with({**honest_about(), key: value})


def test_what_would_be_refused_is_not_written(tmp_path: Path) -> None:
    from dataclasses import replace

    snapshot = read_snapshot(write_raw(tmp_path / "a.safetensors", honest_about()))
    with pytest.raises(CheckpointError, match="not written: its kimg"):
        write_snapshot(tmp_path / "b.safetensors", replace(snapshot, kimg=math.nan))
    assert not (tmp_path / "b.safetensors").exists()


@pytest.mark.parametrize(
    "change",
    [
        lambda w: {**w, "extra": torch.zeros(1)},
        lambda w: {**w, "x" * 1000: torch.zeros(1)},
        lambda w: {**w, "a\x1b": torch.zeros(1)},
        lambda w: {name: value * math.nan for name, value in w.items()},
        lambda w: {name: value.to(torch.complex64) for name, value in w.items()},
        lambda w: {name: value[None] for name, value in w.items()},
        lambda w: {**w, "a": torch.tensor(1, dtype=torch.int8), "a.scale_of_rows": torch.tensor(1.0)},
        lambda w: {**w, "a": torch.ones(3, dtype=torch.int8), "a.scale_of_rows": torch.ones(3)},
        lambda w: {"a.scale_of_rows": torch.zeros(1)},
    ],
)
def test_strange_weights_are_refused(change: Callable[[Any], Any], tmp_path: Path) -> None:
    refusal(write_raw(tmp_path / "a.safetensors", honest_about(), change(honest_weights())))


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("empty.safetensors", b""),
        ("text.safetensors", b"hello"),
        ("archive.pth", b"PK\x03\x04" + bytes(100)),
        ("pickle.pth", b"\x80\x02}q\x00."),
        ("huge.safetensors", (90 << 20).to_bytes(8, "little") + b"{" * 100),
        ("long.safetensors", (MAX_HEADER_BYTES + 1).to_bytes(8, "little") + b" " * (MAX_HEADER_BYTES + 1)),
        ("deep.safetensors", (200_000).to_bytes(8, "little") + b"[" * 200_000),
        ("digits.safetensors", (100_000).to_bytes(8, "little") + b"9" * 100_000),
        ("list.safetensors", (2).to_bytes(8, "little") + b"[]"),
        ("bytes.safetensors", b"\xff" * 100),
    ],
)
def test_what_is_no_snapshot_is_told_so(name: str, data: bytes, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(data)
    expected = "is no generator snapshot of facesr; give one from runs/NAME/snapshots."
    assert refusal(tmp_path / name) == f"{tmp_path / name} {expected}"


def test_a_state_of_a_run_a_pointer_and_a_folder_are_told(tmp_path: Path) -> None:
    torch.save({"generator": honest_weights()}, tmp_path / "000000010.pt")
    assert "is no generator snapshot of facesr" in refusal(tmp_path / "000000010.pt")
    (tmp_path / "lfs").write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")
    assert "pointer of Git LFS" in refusal(tmp_path / "lfs")
    assert "is no generator snapshot of facesr" in refusal(tmp_path)


def test_one_flipped_byte_is_refused_where_the_digest_lies_beside(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    write_snapshot(path, read_snapshot(write_raw(tmp_path / "raw.safetensors", honest_about())))
    open_method(str(path), CPU)
    data = bytearray(path.read_bytes())
    data[-3] ^= 1
    path.write_bytes(data)
    assert "its sha256 is not the one in a.safetensors.sha256 beside it" in refusal(path)
    for text in ("", "nonsense", "\xff"):
        path.with_name("a.safetensors.sha256").write_text(text)
        assert "beside it" in refusal(path)
    path.with_name("a.safetensors.sha256").unlink()
    open_method(str(path), CPU)


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20)
    | st.sampled_from(["facesr.models.sicnn.SICNN", "facesr.snapshots.snapshot.os.mkdir", "x" * 300, 10**400]),
    lambda inner: st.lists(inner, max_size=4)
    | st.dictionaries(st.text(max_size=8) | st.sampled_from(["_target_", "_args_", *NODE]), inner, max_size=4),
    max_leaves=8,
)  # fmt: skip
# Where a value is put: a key of the metadata, or one of the network's.
PLACES = st.sampled_from(
    [(key,) for key in honest_about()] + [("generator", key) for key in (*NODE, "new", "_partial_")]
)


# An example takes 60 ms; most of the hundred are left to the slow tests.
def by_examples(num: int) -> settings:
    return settings(
        derandomize=True, database=None, deadline=None, max_examples=num,
        suppress_health_check=[HealthCheck.function_scoped_fixture],
    )  # fmt: skip


CHANGES = st.lists(st.tuples(PLACES, ANYTHING), min_size=1, max_size=3)


@by_examples(25)
@given(changes=CHANGES)
def test_any_metadata_end_in_a_snapshot_or_one_sentence(changes: list[Any], tmp_path: Path) -> None:
    assert_read_or_refused(changes, tmp_path)


@pytest.mark.slow
@by_examples(100)
@given(changes=CHANGES)
def test_many_more_metadata_end_in_a_snapshot_or_one_sentence(changes: list[Any], tmp_path: Path) -> None:
    assert_read_or_refused(changes, tmp_path)


def assert_read_or_refused(changes: list[Any], tmp_path: Path) -> None:
    about = copy.deepcopy(honest_about())
    for place, value in changes:
        holder: Any = about
        for key in place[:-1]:
            holder = holder[key] if isinstance(holder.get(key), dict) else {}
        holder[place[-1]] = value
    path = write_raw(tmp_path / "a.safetensors", about, WEIGHTS)
    try:
        method = open_method(str(path), CPU)
    except FaceSRError as error:
        assert str(error).isprintable()
    else:
        assert type(method.generator).__module__.startswith("facesr.models.")
        assert method.name.isprintable() and 0 <= method.kimg < math.inf


@by_examples(100)
@given(st.data())
def test_any_bytes_end_in_a_snapshot_or_one_sentence(tmp_path: Path, data: st.DataObject) -> None:
    whole = write_raw(tmp_path / "a.safetensors", honest_about(), WEIGHTS).read_bytes()
    # Most of what matters lies in the header.
    place = data.draw(st.integers(0, 1500) | st.integers(0, len(whole)))
    new = data.draw(st.binary(max_size=8))
    path = tmp_path / "b.safetensors"
    path.write_bytes(whole[:place] + new + whole[place + data.draw(st.sampled_from([0, len(new), 1000])) :])
    try:
        open_method(str(path), CPU)
    except FaceSRError as error:
        assert str(error).isprintable()


WEIGHTS = honest_weights()
