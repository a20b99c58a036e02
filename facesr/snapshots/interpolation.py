"""Snapshots between two: their mean weights, as a method or as a file.

    uv run facesr interpolate runs/a runs/b --weight 0.3 --out blend.safetensors

evaluate.py and submit.py interpolate on the fly with `interpolate_with=` and `interpolation_weight=`; an interpolation
that is trained on or shipped is written as a snapshot of its own.
"""

from dataclasses import replace
from pathlib import Path

from facesr.arguments import Parser, number
from facesr.errors import ConfigError, exit_code_of
from facesr.ranges import Share
from facesr.snapshots.interpolation_parts import InterpolationParts
from facesr.snapshots.shipped import snapshot_file
from facesr.snapshots.snapshot import Snapshot, read_snapshot, write_snapshot

# A manifest's texts have at most 200 characters, and an interpolation's name holds two names.
_MAX_NAME_LENGTH = 90


def check_same_network(first: Snapshot, first_path: Path, second: Snapshot, second_path: Path) -> None:
    """Refuses two snapshots that have no mean.

    Raises:
        ConfigError: their generators' settings or the names or shapes of their weights differ.
    """
    keys = sorted({*first.generator, *second.generator})
    differing = [key for key in keys if first.generator.get(key) != second.generator.get(key)]
    if differing:
        raise ConfigError(
            f"{first_path} and {second_path} cannot be interpolated, because their generators differ in "
            f"{' and '.join(differing)}; give two snapshots of one network."
        )
    shapes = [{name: tensor.shape for name, tensor in snapshot.state.items()} for snapshot in (first, second)]
    if shapes[0] != shapes[1]:
        raise ConfigError(
            f"{first_path} and {second_path} cannot be interpolated, because their weights differ in name or shape; "
            "give two snapshots of one network."
        )


def interpolated(first: Snapshot, second: Snapshot, weight: float) -> Snapshot:
    """Returns the snapshot between two of one network, weights (1 - weight) * first + weight * second in float32.

    A weight of 0 gives the first one's pixels and 1 the second one's. Both should descend from one training (the second
    started from the first): networks that learned apart have no common order of channels, and their mean restores
    nothing. Only what takes part, with a share above 0, counts for `loss_judges` and, summed up, for `kimg`. Its
    bound of consistency is the lowest of theirs, and none where one states none: nobody has measured this network. Both
    digests are those of `facesr.snapshots.interpolation_parts`.

    Source: Wang et al., "ESRGAN: enhanced super-resolution generative adversarial networks", arXiv 1809.00219,
    section 3.4 (network interpolation, equation 4).
    """
    parts = parts_of(first, second, weight)
    # Exactly one of the two at the ends, even where the other one holds a value that is not finite.
    ends = {0.0: first.state, 1.0: second.state}
    state = ends.get(weight) or {
        name: (1.0 - weight) * tensor + weight * second.state[name] for name, tensor in first.state.items()
    }
    taking_part = [snapshot for snapshot, share in ((first, 1.0 - weight), (second, weight)) if share > 0.0]
    framings = {snapshot.framing for snapshot in taking_part}
    bounds = [snapshot.consistency_bound_db for snapshot in taking_part]
    stated = [bound for bound in bounds if bound is not None]
    return replace(
        first,
        state=state,
        run=f"{first.run[:_MAX_NAME_LENGTH]}+{weight:g}*{second.run[:_MAX_NAME_LENGTH]}",
        kimg=sum(snapshot.kimg for snapshot in taking_part),
        config_sha256=parts.interpolated_config_sha256,
        loss_judges=tuple(sorted({judge for snapshot in taking_part for judge in snapshot.loss_judges})),
        scores={},
        sha256=parts.interpolated_weights_sha256,
        consistency_bound_db=min(stated) if len(stated) == len(bounds) else None,
        framing=framings.pop() if len(framings) == 1 else None,
        base=None,  # a file of its own holds all of them
    )


def parts_of(first: Snapshot, second: Snapshot, weight: float) -> InterpolationParts:
    """Returns what the interpolation of two snapshots is made of."""
    return InterpolationParts((first.sha256, second.sha256), (first.config_sha256, second.config_sha256), float(weight))


def write_interpolation(first_path: Path, second_path: Path, weight: float, out: Path) -> str:
    """Writes the interpolation of two snapshots (files, run folders or ``pretrained:NAME``) and returns its sha256.

    Raises:
        CheckpointError: a snapshot is missing or damaged, or the file cannot be written.
        ConfigError: the two cannot be interpolated, the share is out of range, or the file exists.
    """
    if not 0.0 <= weight <= 1.0:
        raise ConfigError(f"--weight {weight:g} is out of range; give a share from 0 to 1.")
    if out.exists():
        raise ConfigError(f"{out} exists; choose another --out, or remove it.")
    first, second = (read_snapshot(snapshot_file(str(path))) for path in (first_path, second_path))
    check_same_network(first, first_path, second, second_path)
    return write_snapshot(out, interpolated(first, second, weight))


def main(arguments: list[str] | None = None) -> int:
    """Returns the exit code, 2 on a user's error."""
    parser = Parser(prog="facesr interpolate", description="Writes the mean of two snapshots.")
    parser.add_argument("first", type=Path, help="snapshot file, run folder or pretrained:NAME")
    parser.add_argument("second", type=Path, help="another of the same network")
    parser.add_argument(
        "--weight", type=number(Share), required=True, help="the second one's share of the weights, 0 to 1"
    )
    parser.add_argument("--out", type=Path, required=True, help="the .safetensors file to write")
    chosen = parser.parse_args(arguments)

    def write() -> None:
        digest = write_interpolation(chosen.first, chosen.second, chosen.weight, chosen.out)
        print(f"{chosen.out}: sha256 {digest}; method={chosen.out}")

    return exit_code_of(write)
