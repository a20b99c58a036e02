"""What one training taught, added to a network that went another way from the same start.

    uv run facesr task-arithmetic runs/asc19_pixel_grown --before runs/asc19_pixel_long \
        --after runs/asc19_final_narrow --out start.safetensors

writes the first network's weights plus the difference that lies between the two others ("task vector"), a snapshot that
`start_from=` takes. When a reference has been trained on, what a loss with a recogniser taught its former state need
not be learnt anew (docs/log.md has what that was worth). The first network may have grown hourglasses.

Source: Ilharco et al., "Editing models with task arithmetic", ICLR 2023 (arXiv 2212.04089).
"""

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Annotated

from facesr.arguments import Parser, number
from facesr.errors import ConfigError, exit_code_of
from facesr.ranges import Range
from facesr.snapshots.network import network_of
from facesr.snapshots.shipped import snapshot_file
from facesr.snapshots.snapshot import Snapshot, read_snapshot, write_snapshot
from facesr.weights import as_weights_of


def with_task(target: Snapshot, before: Snapshot, after: Snapshot, share: float = 1.0) -> Snapshot:
    """Returns the snapshot of `target` + `share` * (`after` - `before`), computed in float32.

    All three should descend from one training. The result's `loss_judges` are those of `target` and `after` together,
    its `kimg` is the sum of theirs.

    Raises:
        ConfigError: the weights of `before` or `after` do not fit the network of `target`.
    """
    network = network_of(target, Path(f"the snapshot of run {target.run}"))
    old, new = (as_weights_of(network, snapshot.state) for snapshot in (before, after))
    shapes = [{name: value.shape for name, value in state.items()} for state in (target.state, old, new)]
    for snapshot, found in ((before, shapes[1]), (after, shapes[2])):
        if found != shapes[0]:
            raise ConfigError(
                f"the weights of run {snapshot.run} do not fit the network of run {target.run}; give snapshots of "
                "one network, or of one without the hourglasses that the first has."
            )
    digests = (target.config_sha256, before.config_sha256, after.config_sha256)
    text = "\n".join(("task arithmetic", *digests, repr(float(share)))) + "\n"
    return replace(
        target,
        state={name: value + share * (new[name] - old[name]) for name, value in target.state.items()},
        kimg=target.kimg + after.kimg,
        config_sha256=hashlib.sha256(text.encode()).hexdigest(),
        loss_judges=tuple(sorted({*target.loss_judges, *after.loss_judges})),
        scores={},
        consistency_bound_db=None,  # other weights: the bound has to be measured anew
        sha256="",  # of a file that does not exist yet
        base=None,
    )


def main(arguments: list[str] | None = None) -> int:
    """Returns the exit code, 2 on a user's error."""
    parser = Parser(prog="facesr task-arithmetic", description="Adds what one training taught to a network.")
    parser.add_argument("target", help="what it is added to: a snapshot file, run folder or pretrained:NAME")
    parser.add_argument("--before", required=True, help="what the training started from, likewise")
    parser.add_argument("--after", required=True, help="what it ended with, likewise")
    parser.add_argument(
        "--share",
        type=number(Annotated[float, Range(0, 2, above=True)]),
        default=1.0,
        help="how much of the difference, above 0 to 2; default 1",
    )
    parser.add_argument("--out", type=Path, required=True, help="the .safetensors file to write")
    chosen = parser.parse_args(arguments)

    def write() -> None:
        if chosen.out.exists():
            raise ConfigError(f"{chosen.out} exists; choose another --out, or remove it.")
        target, before, after = (
            read_snapshot(snapshot_file(spec)) for spec in (chosen.target, chosen.before, chosen.after)
        )
        digest = write_snapshot(chosen.out, with_task(target, before, after, chosen.share))
        print(f"{chosen.out}: sha256 {digest}; start_from={chosen.out}")

    return exit_code_of(write)
