"""Weights files: where they are looked for, how a wrong one is told, and what is never loaded."""

import hashlib
import http.server
import pickle
import threading
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from facesr.errors import WeightsError
from facesr.weights import cache_dir, find_weights, load_into, read_state_dict, sha256_of, to_eight_bits

CONTENT = b"weights of a network"
DIGEST = hashlib.sha256(CONTENT).hexdigest()
KEY = "embedder.weights"


@pytest.fixture(autouse=True)
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Path]:
    """An empty cache and an empty weights folder; no test may touch the user's own."""
    monkeypatch.setenv("FACESR_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("FACESR_WEIGHTS", str(tmp_path / "own"))
    monkeypatch.delenv("FACESR_OFFLINE", raising=False)
    for name in ("cache", "own"):
        (tmp_path / name).mkdir()
    return {name: tmp_path / name for name in ("cache", "own")}


# Where they are looked for


def test_order_is_configured_then_own_folder_then_cache(folders: dict[str, Path], tmp_path: Path) -> None:
    mine = tmp_path / "mine.pt"
    for path in (mine, folders["own"] / "net.pt", folders["cache"] / "net.pt"):
        path.write_bytes(CONTENT)
    assert find_weights("net.pt", key=KEY, configured=mine) == mine
    assert find_weights("net.pt", key=KEY, configured=str(mine)) == mine
    assert find_weights("net.pt", key=KEY) == folders["own"] / "net.pt"
    (folders["own"] / "net.pt").unlink()
    assert find_weights("net.pt", key=KEY) == folders["cache"] / "net.pt"


def test_configured_file_replaces_all_others(folders: dict[str, Path], tmp_path: Path) -> None:
    (folders["own"] / "net.pt").write_bytes(CONTENT)
    # A silent fallback would judge with other weights than the user asked for.
    with pytest.raises(WeightsError, match=r"^embedder\.weights=.*none\.pt is not a file; give the path"):
        find_weights("net.pt", key=KEY, configured=tmp_path / "none.pt")


def test_configured_file_may_be_a_resaved_copy(tmp_path: Path) -> None:
    (tmp_path / "net.pt").write_bytes(b"other bytes, same network")
    assert find_weights("net.pt", key=KEY, configured=tmp_path / "net.pt", known_sha256=DIGEST) == tmp_path / "net.pt"


def test_home_directory_is_understood(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "net.pt").write_bytes(CONTENT)
    assert find_weights("net.pt", key=KEY, configured="~/net.pt") == tmp_path / "net.pt"


def test_cache_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert cache_dir() == tmp_path / "cache"
    monkeypatch.setenv("FACESR_CACHE", "")
    assert cache_dir() == Path.home() / ".cache" / "facesr"
    monkeypatch.delenv("FACESR_CACHE")
    assert cache_dir() == Path.home() / ".cache" / "facesr"


def test_nowhere_is_told_with_the_place_and_the_source(
    folders: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(WeightsError, match=r"net\.pt were not found: give embedder\.weights=FILE") as caught:
        find_weights("net.pt", key=KEY)
    assert str(folders["own"] / "net.pt") in str(caught.value)
    monkeypatch.delenv("FACESR_WEIGHTS")
    monkeypatch.setenv("FACESR_OFFLINE", "1")
    with pytest.raises(WeightsError, match=r"fetched from https://example\.org/net\.pt") as caught:
        find_weights("net.pt", key=KEY, url="https://example.org/net.pt")
    assert str(tmp_path / "cache" / "net.pt") in str(caught.value)


@pytest.mark.parametrize("known", [DIGEST, DIGEST[:8], ("0" * 64, DIGEST)])
def test_known_digests_are_compared(folders: dict[str, Path], known: str | tuple[str, ...]) -> None:
    path = folders["cache"] / "net.pt"
    path.write_bytes(CONTENT)
    assert find_weights("net.pt", key=KEY, known_sha256=known) == path
    path.write_bytes(CONTENT + b".")
    with pytest.raises(WeightsError, match=r"net\.pt is damaged or another file .*remove it or fetch it again"):
        find_weights("net.pt", key=KEY, known_sha256=known)


def test_digest_of_a_file(tmp_path: Path) -> None:
    path = tmp_path / "large"
    path.write_bytes(CONTENT * 100_000)
    assert sha256_of(path) == hashlib.sha256(CONTENT * 100_000).hexdigest()


# Fetching


class Server(http.server.BaseHTTPRequestHandler):
    """Serves CONTENT: whole, cut short, or not at all."""

    def do_GET(self) -> None:
        if self.path == "/none":
            self.send_error(404)
            return
        if self.path == "/nonsense":
            self.wfile.write(b"this is not HTTP\r\n\r\n")
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(CONTENT)))
        self.end_headers()
        self.wfile.write(CONTENT[:5] if self.path == "/short" else CONTENT)

    def log_message(self, format: str, *args: object) -> None:
        """Keeps the test's output free of requests."""


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    instance = http.server.HTTPServer(("127.0.0.1", 0), Server)
    thread = threading.Thread(target=instance.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://127.0.0.1:{instance.server_port}"
    instance.shutdown()
    thread.join()
    instance.server_close()


def test_fetches_into_the_cache_once(server: str, folders: dict[str, Path]) -> None:
    folders["cache"].rmdir()
    path = find_weights("net.pt", key=KEY, known_sha256=DIGEST, url=f"{server}/net.pt")
    assert path == folders["cache"] / "net.pt"
    assert path.read_bytes() == CONTENT
    assert find_weights("net.pt", key=KEY, known_sha256=DIGEST, url="http://127.0.0.1:9/gone") == path


@pytest.mark.parametrize(
    ("page", "reason"),
    [("none", "Not Found"), ("short", "only 5 of 20 bytes came"), ("nonsense", "this is not HTTP")],
)
def test_a_failed_fetch_is_one_sentence_and_leaves_nothing(
    server: str, folders: dict[str, Path], page: str, reason: str
) -> None:
    with pytest.raises(WeightsError, match=f"could not be fetched from .*{page} .*{reason}.*put it at"):
        find_weights("net.pt", key=KEY, url=f"{server}/{page}")
    assert not list(folders["cache"].iterdir())


def test_no_connection_is_told() -> None:
    with pytest.raises(WeightsError, match=r"could not be fetched .*refused"):
        find_weights("net.pt", key=KEY, url="http://127.0.0.1:9/net.pt")


def test_a_fetched_file_with_another_digest_is_not_kept(server: str, folders: dict[str, Path]) -> None:
    with pytest.raises(WeightsError, match="another sha256 than expected"):
        find_weights("net.pt", key=KEY, known_sha256="0" * 64, url=f"{server}/net.pt")
    assert not list(folders["cache"].iterdir())


def test_a_cache_that_cannot_be_made_is_told(server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_bytes(b"")
    monkeypatch.setenv("FACESR_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(WeightsError, match=r"could not be fetched .*Not a directory"):
        find_weights("net.pt", key=KEY, url=f"{server}/net.pt")


# Reading


def test_both_formats_give_float32(tmp_path: Path) -> None:
    state = {"weight": torch.rand(3, 4).half(), "steps": torch.tensor([7])}
    save_file(state, tmp_path / "net.safetensors")
    torch.save(OrderedDict(state), tmp_path / "net.pt")
    for name in ("net.safetensors", "net.pt"):
        read = read_state_dict(tmp_path / name)
        assert set(read) == {"weight", "steps"}
        assert read["weight"].dtype == torch.float32
        assert torch.equal(read["weight"], state["weight"].float())
        assert read["steps"].dtype == torch.int64


def test_eight_bits_are_a_quarter_and_move_a_weight_by_half_a_level(tmp_path: Path) -> None:
    kernel = torch.randn(64, 32, 3, 3) * torch.logspace(-3, 2, 64)[:, None, None, None]
    kernel[5] = 0.0
    # Memory in another order, as trained kernels have it.
    state = {"kernel": kernel.to(memory_format=torch.channels_last), "bias": torch.randn(64), "steps": torch.tensor(7)}
    file = tmp_path / "net.safetensors"
    save_file(to_eight_bits(state), file)
    read = read_state_dict(file)
    assert set(read) == set(state) and read["kernel"].dtype == torch.float32 and read["steps"] == 7
    half_a_level = kernel.flatten(1).abs().amax(dim=1) / 254
    difference = (read["kernel"] - kernel).flatten(1).abs().amax(dim=1)
    assert (difference <= half_a_level * 1.001).all() and (difference[6:] > half_a_level[6:] * 0.8).all()
    torch.testing.assert_close(read["bias"], state["bias"], rtol=1e-3, atol=1e-4)
    assert file.stat().st_size < kernel.numel() * 4 * 0.3


@pytest.mark.parametrize("scales", [torch.ones(3), torch.ones(4, 1)])
def test_levels_with_other_scales_are_refused(tmp_path: Path, scales: torch.Tensor) -> None:
    packed = to_eight_bits({"weight": torch.randn(4, 5)})
    (name,) = set(packed) - {"weight"}
    save_file({**packed, name: scales}, tmp_path / "net.safetensors")
    with pytest.raises(WeightsError, match=r"net\.safetensors is damaged: 'weight' and its scales do not fit"):
        read_state_dict(tmp_path / "net.safetensors")


class Trap:
    """An object whose unpickling would run code."""

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (Path("trap_has_sprung"),)


def test_code_in_a_file_is_never_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"weight": Trap()}, "net.pt")
    Path("plain.pt").write_bytes(pickle.dumps(Trap()))
    for name in ("net.pt", "plain.pt"):
        with pytest.raises(WeightsError, match=f"{name} is not a readable weights file"):
            read_state_dict(Path(name))
    assert not Path("trap_has_sprung").exists()


@pytest.mark.parametrize(
    "content", [{"state_dict": {"weight": torch.zeros(1)}}, [torch.zeros(1)], {"epoch": 3}, {1: torch.zeros(1)}]
)
def test_anything_but_a_flat_dictionary_is_told(tmp_path: Path, content: object) -> None:
    torch.save(content, tmp_path / "net.pt")
    with pytest.raises(WeightsError, match="holds no plain state dict"):
        read_state_dict(tmp_path / "net.pt")


def test_missing_files_and_folders_are_told(tmp_path: Path) -> None:
    for path in (tmp_path / "none.pt", tmp_path / "none.safetensors", tmp_path):
        with pytest.raises(WeightsError, match="is not a readable weights file"):
            read_state_dict(path)


@pytest.mark.parametrize("name", ["net.pt", "net.safetensors"])
def test_damage_is_an_error_of_ours_whatever_it_hits(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    state = {"weight": torch.rand(2, 2)}
    if name.endswith(".pt"):
        torch.save(state, path)
    else:
        save_file(state, path)
    whole = path.read_bytes()
    rng = np.random.default_rng(0)
    contents = [rng.bytes(int(size)) for size in rng.integers(0, 100, 20)]
    contents += [whole[: int(size)] for size in rng.integers(0, len(whole), 20)]
    for position in rng.integers(0, len(whole), 40):
        damaged = bytearray(whole)
        damaged[position] ^= int(rng.integers(1, 256))
        contents.append(bytes(damaged))
    refused = 0
    for content in contents:
        path.write_bytes(content)
        try:
            state = read_state_dict(path)
        except WeightsError:
            refused += 1
        else:
            # Damage inside the numbers themselves is for the sha256 to find.
            assert all(isinstance(value, Tensor) for value in state.values())
    assert refused >= 40


# Loading


class Network(nn.Module):
    """Two layers and a classifier that nobody needs."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(2, 3)
        self.second = nn.Linear(3, 1)
        self.logits = nn.Linear(1, 5)


FILE = Path("weights/net.pt")


def test_loads_every_value() -> None:
    torch.manual_seed(0)
    source, target = Network(), Network()
    load_into(target, source.state_dict(), FILE)
    assert all(torch.equal(value, source.state_dict()[name]) for name, value in target.state_dict().items())


def test_a_missing_name_is_told_and_nothing_is_loaded() -> None:
    state = {name: torch.ones_like(value) for name, value in Network().state_dict().items()}
    del state["second.bias"]
    network = Network()
    before = network.first.weight.detach().clone()
    with pytest.raises(
        WeightsError, match=r"^weights/net\.pt is not a weights file of Network: it lacks 'second\.bias'\.$"
    ):
        load_into(network, state, FILE)
    assert torch.equal(network.first.weight, before)


def test_an_extra_name_is_told() -> None:
    state = {**Network().state_dict(), "third.weight": torch.zeros(1)}
    with pytest.raises(WeightsError, match=r"holds the unknown 'third\.weight'"):
        load_into(Network(), state, FILE)


def test_another_shape_is_told() -> None:
    state = {**Network().state_dict(), "first.weight": torch.zeros(2, 3)}
    with pytest.raises(WeightsError, match=r"does not fit Network: 'first\.weight' is \(2, 3\) where \(3, 2\) is"):
        load_into(Network(), state, FILE)


@pytest.mark.parametrize("change", ["missing", "extra", "other shape"])
def test_ignored_names_may_be_anything(change: str) -> None:
    torch.manual_seed(0)
    source, target = Network(), Network()
    kept = target.logits.weight.detach().clone()
    state = dict(source.state_dict())
    if change == "missing":
        del state["logits.weight"], state["logits.bias"]
    elif change == "extra":
        state["logits.scale"] = torch.zeros(1)
        del state["logits.weight"]
    else:
        state["logits.weight"] = torch.zeros(10_575, 1)
    load_into(target, state, FILE, ignore=("logits.",))
    assert torch.equal(target.first.weight, source.first.weight)
    assert torch.equal(target.logits.weight, kept)
