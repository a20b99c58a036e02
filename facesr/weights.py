"""Weights files: where they are looked for, how they are checked, and how they are loaded.

Order: the configured file, then ``$FACESR_WEIGHTS/<file name>``, then the cache (``$FACESR_CACHE`` or
``~/.cache/facesr``), then, where a URL is known and downloading is allowed, the network.
"""

import hashlib
import http.client
import os
import urllib.request
import warnings
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from facesr.errors import WeightsError
from facesr.files import whole_file

# What a tensor of 8-bit levels is multiplied by stands beside it under its name with this ending.
_SCALE = ".scale_of_rows"


def cache_dir() -> Path:
    """Returns the folder for files that can be made or fetched again (``$FACESR_CACHE`` or ~/.cache/facesr)."""
    configured = os.environ.get("FACESR_CACHE")
    return Path(configured) if configured else Path.home() / ".cache" / "facesr"


def sha256_of(path: Path) -> str:
    """Returns the sha256 of a file as 64 hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def find_weights(
    file_name: str,
    *,
    key: str,
    configured: str | Path | None = None,
    known_sha256: str | tuple[str, ...] | None = None,
    url: str | None = None,
) -> Path:
    """Returns the path of a weights file that exists and, where its sha256 is known, has it.

    Args:
        file_name: name under which it is looked for in $FACESR_WEIGHTS and in the cache.
        key: configuration key named in errors, e.g. ``embedder.weights``.
        configured: the user's own file; nothing else is tried when it is given, and its sha256 is not compared,
            because a user may bring a re-saved copy.
        known_sha256: sha256 (or a prefix of it) that files found elsewhere must have; several where a file is
            published in several forms.
        url: where the file may be fetched from; None means that only the user can supply it.

    Raises:
        WeightsError: the file is nowhere, or has another sha256.
    """
    if configured is not None:
        path = Path(configured).expanduser()
        if not path.is_file():
            raise WeightsError(f"{key}={configured} is not a file; give the path of the weights file.")
        return path
    folders = [cache_dir()]
    if os.environ.get("FACESR_WEIGHTS"):
        folders.insert(0, Path(os.environ["FACESR_WEIGHTS"]).expanduser())
    for folder in folders:
        path = folder / file_name
        if path.is_file():
            if known_sha256 and not sha256_of(path).startswith(known_sha256):
                known = (known_sha256,) if isinstance(known_sha256, str) else known_sha256
                raise WeightsError(
                    f"{path} is damaged or another file (its sha256 does not begin with "
                    f"{' or '.join(digest[:12] for digest in known)}); remove it or fetch it again."
                )
            return path
    if url is None or os.environ.get("FACESR_OFFLINE"):
        source = f", fetched from {url}" if url else ""
        raise WeightsError(
            f"weights {file_name} were not found: give {key}=FILE or put the file{source} at {folders[0] / file_name}."
        )
    return _download(url, cache_dir() / file_name, key, known_sha256)


def _download(url: str, target: Path, key: str, known_sha256: str | tuple[str, ...] | None) -> Path:
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with whole_file(target) as temporary:
            with urllib.request.urlopen(url, timeout=30) as reply, temporary.open("wb") as file:
                while chunk := reply.read(1 << 20):
                    file.write(chunk)
                promised = reply.headers.get("Content-Length")
                # A connection that ends early is no error of its own when the length is known.
                if promised is not None and file.tell() != int(promised):
                    raise OSError(f"only {file.tell()} of {promised} bytes came")
            if known_sha256 and not sha256_of(temporary).startswith(known_sha256):
                raise WeightsError(f"{url} gave a file with another sha256 than expected; give {key}=FILE instead.")
    except (OSError, http.client.HTTPException) as error:
        # On one line, whatever the other side has sent.
        reason = " ".join(str(getattr(error, "reason", None) or error).split())
        raise WeightsError(
            f"weights {target.name} could not be fetched from {url} ({reason}); fetch the file on another machine "
            f"and give {key}=FILE, or put it at {target}."
        ) from error
    return target


def read_state_dict(path: Path, *, entry: str | None = None) -> dict[str, Tensor]:
    """Returns the tensors of a ``.safetensors`` or ``torch.save`` file, floating-point ones as float32.

    Args:
        entry: name under which a checkpoint of several networks keeps the wanted state dict, e.g. ``g_ema``; a file
            without it is taken as the state dict itself.

    Raises:
        WeightsError: the file is damaged, or holds anything but a flat dictionary of tensors.
    """
    if path.suffix.lower() == ".onnx":
        raise WeightsError(f"{path} is an ONNX file, which has no gradients here; give the weights of the network.")
    state: object
    try:
        if path.suffix == ".safetensors":
            state = load_file(path)
        else:
            with warnings.catch_warnings():
                # torch's remarks about what it tries to read are not for the user; the error below is.
                warnings.simplefilter("ignore")
                state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        # A damaged file fails in torch's reader in many ways: KeyError, IndexError, UnicodeDecodeError, ...
        raise WeightsError(f"{path} is not a readable weights file; check that it is complete.") from error
    if entry is not None and isinstance(state, Mapping) and isinstance(state.get(entry), Mapping):
        state = state[entry]
    if not isinstance(state, Mapping) or not all(
        isinstance(name, str) and isinstance(value, Tensor) for name, value in state.items()
    ):
        raise WeightsError(f"{path} holds no plain state dict (names to tensors); save model.state_dict() alone.")
    try:
        state = from_eight_bits(state)
    except ValueError as error:
        raise WeightsError(f"{path} is damaged: {error}; fetch the file again.") from error
    return {name: value.float() if value.is_floating_point() else value for name, value in state.items()}


def to_eight_bits(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Returns a state dict of about a quarter of its size, which `from_eight_bits` turns back into float32.

    Kernels and matrices become int8 with one scale for each output channel, which moves a weight by at most 1/254 of
    the largest of its channel; other floating-point tensors become half precision.
    """
    packed: dict[str, Tensor] = {}
    for name, value in state.items():
        value = value.detach()
        if value.is_floating_point() and value.ndim > 1 and len(value) > 1:
            rows = value.float().flatten(1)
            scale = rows.abs().amax(dim=1).clamp(min=1e-30) / 127.0
            packed[name + _SCALE] = scale
            packed[name] = (rows / scale[:, None]).round().to(torch.int8).view(value.shape)
        else:
            packed[name] = value.half().contiguous() if value.is_floating_point() else value.contiguous()
    return packed


def from_eight_bits(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Returns a state dict with each pair of 8-bit levels and scales as the weights they stand for; others as they are.

    Raises:
        ValueError: levels and scales do not fit.
    """
    whole: dict[str, Tensor] = {}
    for name, value in state.items():
        scale = state.get(name + _SCALE)
        if scale is not None:
            if value.dtype != torch.int8 or value.ndim < 2 or scale.shape != value.shape[:1]:
                raise ValueError(f"{name!r} and its scales do not fit")
            value = (value.flatten(1).float() * scale.float()[:, None]).view(value.shape)
        if not name.endswith(_SCALE):
            whole[name] = value
    return whole


def as_weights_of(network: nn.Module, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Returns the weights of a smaller network of its kind as this one's, where it can grow (`FaceSR.grown`).

    What it has grown is the same for any weights; a network that cannot grow gets them as they are.
    """
    weights: dict[str, Tensor] = getattr(network, "grown", dict)(state)
    return weights


def load_into(
    module: nn.Module, state: Mapping[str, Tensor], path: Path | str, *, ignore: tuple[str, ...] = ()
) -> None:
    """Loads a state dict into a network, or says which name or shape does not fit.

    Args:
        ignore: prefixes of names that may be missing from the file or from the network (e.g. a classifier).

    Raises:
        WeightsError: a name is missing or extra, or a shape differs.
    """
    check_fit(module, state, path, ignore=ignore)
    kept = {name: state[name] for name in module.state_dict() if name in state and not name.startswith(ignore)}
    module.load_state_dict(kept, strict=False)


def check_fit(
    module: nn.Module, state: Mapping[str, Tensor], path: Path | str, *, ignore: tuple[str, ...] = ()
) -> None:
    """Compares the names and shapes of a network's weights with those of a file; the network may hold no memory.

    Raises:
        WeightsError: see `load_into`.
    """
    own = module.state_dict()

    def ignored(name: str) -> bool:
        return name.startswith(ignore)

    missing = [name for name in own if name not in state and not ignored(name)]
    extra = [name for name in state if name not in own and not ignored(name)]
    shapes = [name for name in own if name in state and own[name].shape != state[name].shape and not ignored(name)]
    network = type(module).__name__
    for names, what in ((missing, "lacks"), (extra, "holds the unknown")):
        if names:
            raise WeightsError(f"{path} is not a weights file of {network}: it {what} {names[0]!r}.")
    if shapes:
        have, want = tuple(state[shapes[0]].shape), tuple(own[shapes[0]].shape)
        raise WeightsError(f"{path} does not fit {network}: {shapes[0]!r} is {have} where {want} is needed.")
