"""A run made ready for its next step: settings checked, everything built, the newest state loaded."""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from facesr import dist
from facesr.build import build, load_group
from facesr.config import TrainSettings
from facesr.data.feed.loader import Feed
from facesr.data.packed.overlap import in_both
from facesr.data.packed.reader import PackedDataset, Pairs
from facesr.energy import EnergyLog
from facesr.errors import ConfigError, DataError
from facesr.log import Console, Stats, shown_kimg
from facesr.losses.adversarial import Adversarial
from facesr.losses.term import LossTerm
from facesr.photos.trained import TrainedFraming
from facesr.places import Place
from facesr.power import PowerMeter
from facesr.protocols import Embedder, FaceSet
from facesr.resample import upscale
from facesr.snapshots.shipped import load_start, start_files, start_judges
from facesr.snapshots.snapshot import digest_of, newest_state
from facesr.training.board import Board
from facesr.training.check import check
from facesr.training.precision import choose_precision, with_chosen_precision
from facesr.training.rundir import (
    claim_run_folder,
    extension_of,
    find_run_folder,
    identity_of,
    place_of,
    plain_config,
    require_place,
    state_digests,
)
from facesr.training.state import Clock, Part, unpack_state
from facesr.training.step import GanState
from facesr.training.validation import Scores, Validator

# Of a run with embedder=none: what the validation of general pictures is ranked by.
RANKING_WITHOUT_JUDGE = "psnr_y"


@dataclass
class Run:
    """One run's parts, so that the paragraphs of the loop can be functions."""

    settings: TrainSettings
    config: dict[str, Any]
    config_sha256: str
    state_digests: tuple[str, ...]  # that states may carry; the first one is for new ones
    folder: Path
    device: torch.device
    gan: GanState
    feed: Feed
    validator: Validator
    clock: Clock
    console: Console
    bicubic: Scores
    loss_judges: tuple[str, ...]
    meter: PowerMeter
    energy: EnergyLog  # of all ranks, on rank 0
    framing: TrainedFraming | None  # of the training faces; None where the set does not say
    unreported: dict[str, Any]  # what the state had summed since the last report; empty without
    part: Part | None  # the run's place in a longer plan
    board: Board = field(init=False)
    stats: Stats = field(init=False)

    def __post_init__(self) -> None:
        self.board, self.stats = self._records()
        self._place = place_of(self.folder) if dist.is_main() else None

    def require_folder(self) -> None:
        """Checks for all ranks that rank 0's folder is the one that the run began with; all have to ask.

        Raises:
            CheckpointError: see `facesr.training.rundir.require_place`.
        """
        dist.by_main(self.check_folder)

    def check_folder(self) -> None:
        """Does it on rank 0, for itself alone."""
        if dist.is_main():
            require_place(self.folder, self._place)

    def _records(self) -> tuple[Board, Stats]:
        now = self.clock.num_images
        return Board(self.folder, now), Stats(self.folder / "stats.jsonl", now)

    def open_records(self) -> None:
        """Opens TensorBoard's events and stats.jsonl anew at the clock: what lies beyond it is dropped."""
        self.close_records()
        self.board, self.stats = self._records()

    def close_records(self) -> None:
        """Writes what is still in memory."""
        self.board.close()
        self.stats.close()


@dataclass(frozen=True)
class Parts:
    """What a run is made of, built from its settings alone: nothing is read from its folder or written to it."""

    gan: GanState
    judges: list[Embedder]
    faces: Any  # what data.train builds, a FaceSet
    feed: Feed
    pairs: Pairs
    ranking: str  # name of the metric that decides which snapshot is best


def build_parts(settings: TrainSettings, device: torch.device) -> Parts:
    """Returns everything that a run's settings name, on the device; the settings say which precision."""
    torch.manual_seed(settings.seed)
    np.random.seed(settings.seed % 2**32)

    # Networks, weights and start_from first: what is wrong with them is told before minutes of drawing faces.
    # Rank 0 first: data that is rendered or fetched into a cache is then there for the others.
    judges = dist.in_turn(lambda: open_judges(settings))
    gan = build_players(settings, device)
    faces = dist.in_turn(lambda: build(settings.data.train, Place.DATA, key="data.train"))
    pairs = dist.in_turn(lambda: build(settings.data.validation, Place.DATA, key="data.validation"))
    feed = Feed(
        faces,
        settings.data,
        seed=settings.seed,
        batch_size=settings.batch_size,
        rank=dist.rank(),
        world_size=dist.world_size(),
        device=device,
    )
    check_landmarks(gan.terms, faces)
    for judge in judges:
        if isinstance(judge, nn.Module):
            judge.to(device)
    ranking = f"is/{judges[0].name}" if settings.embedder else RANKING_WITHOUT_JUDGE
    return Parts(gan, judges, faces, feed, pairs, ranking)


def set_up(settings: TrainSettings, device: torch.device, part: Part | None = None) -> Run:
    """Returns a run that is ready for its next step: everything built, the newest state loaded."""
    check(settings)
    folder, earlier = find_run_folder(settings)
    config = plain_config(settings)
    config_sha256 = digest_of(identity_of(config))
    settings = replace(settings, precision=choose_precision(settings.precision, device))
    parts = build_parts(settings, device)
    gan, faces, pairs = parts.gan, parts.faces, parts.pairs
    validator = Validator(pairs, parts.judges, device, parts.ranking)

    found = newest_state(folder / "state")
    digests = state_digests(config, earlier)
    clock = unpack_state(found[1], gan, *digests) if found else Clock()
    bicubic = validator.score(upscale)
    # The folder is claimed and its files are opened last, when nothing can be refused any more.
    claim_run_folder(folder, config, begins=found is None)
    run = Run(
        settings, config, config_sha256, digests, folder, device, gan, parts.feed, validator, clock,
        console=(console := Console(folder / "log.txt")),
        bicubic=bicubic,
        loss_judges=judges_in_losses(gan.terms, settings.start_from),
        meter=PowerMeter(device, with_cpu=dist.is_first_on_machine()),
        energy=EnergyLog.resumed(found[1].get("energy") if found else None, clock.num_images),
        framing=faces.framing if isinstance(faces, PackedDataset) else None,
        unreported=(found[1].get("unreported") if found else None) or {},
        part=part,
    )  # fmt: skip
    num_parameters = sum(parameter.numel() for parameter in gan.generator.parameters())
    if part is not None:
        console.say(part.label)
    console.say(
        f"run {settings.name}: {type(gan.generator).__name__} with {num_parameters / 1e6:.2f} M parameters, "
        f"{len(faces)} pictures, {len(pairs.names)} validation pictures, {dist.world_size()} x {device.type} "
        f"{settings.precision}, folder {folder}"
    )
    extension = extension_of(earlier if found else None, config, settings.schedule.kind)
    if extension:
        console.say(extension)
    shared = in_both(faces, pairs)
    if shared:
        console.say(
            f"warning: {len(shared)} of the {len(pairs.names)} validation pictures are in the training set too "
            f"({shared[0]}{' and others' if shared[1:] else ''}), so their scores say little of pictures that are new; "
            "take them out of one of the sets."
        )
    if clock.num_images:
        console.say(f"resuming at {shown_kimg(clock.kimg)} kimg from {found[0] if found else ''}")
    return run


def open_judges(settings: TrainSettings) -> list[Embedder]:
    """Returns the judges of validation: that of `embedder` first, unless it is `none`, then those of `judges`.

    Raises:
        ConfigError: a judge is unknown, or `none` is among the further ones.
    """
    judges: list[Embedder] = [build(settings.embedder, Place.EMBEDDER)] if settings.embedder else []
    for name in settings.judges:
        node = load_group("embedder", name)
        if not node:
            raise ConfigError(f"judges names {name}, which is no judge; leave it out.")
        if name not in [judge.name for judge in judges]:
            judges.append(build(node, Place.EMBEDDER))
    return judges


def build_players(settings: TrainSettings, device: torch.device) -> GanState:
    """Returns networks, optimisers and loss terms on the device, the same weights on every rank.

    Raises:
        ConfigError: an adversarial loss without a discriminator, or the reverse.
    """
    layout = torch.channels_last if settings.channels_last else torch.contiguous_format
    generator: nn.Module = build(settings.generator, Place.GENERATOR).to(device, memory_format=layout)
    trained = [parameter for parameter in generator.parameters() if parameter.requires_grad]
    if not trained:
        raise ConfigError(f"generator {settings.generator['_target_']} has nothing to train; choose another one.")
    if settings.start_from is not None:
        load_start(generator, settings.start_from)
    dist.copy_from_main(generator)
    terms: dict[str, LossTerm] = {}
    adversarial: Adversarial | None = None
    key_of_adversarial = ""
    for name, node in settings.losses.items():
        term = build(with_chosen_precision(node, device), Place.LOSS, key=f"losses.{name}").to(device)
        if isinstance(term, Adversarial):
            if adversarial is not None:
                raise ConfigError(
                    f"{key_of_adversarial} and losses.{name} are both adversarial, and there is one discriminator; "
                    f"leave one of them out, for example with ~{key_of_adversarial}."
                )
            adversarial, key_of_adversarial = term, f"losses.{name}"
        else:
            terms[name] = term
        missing = sorted(set(term.needs) - set(getattr(generator, "extras", ())))
        if missing:
            raise ConfigError(
                f"losses.{name} needs {' and '.join(missing)}, which {settings.generator['_target_']} does not give; "
                f"choose generator=fsrnet, or leave the term out with ~losses.{name}."
            )
    gan = GanState(
        generator=generator,
        generator_optimizer=build(settings.generator_optimizer, Place.OPTIMIZER, params=trained),
        terms=terms,
        precision=settings.precision,
        gradient_clip_norm=settings.gradient_clip_norm,
        gradient_sync=settings.gradient_sync,
        gradient_precision=settings.gradient_precision,
        adversarial=adversarial,
        degradation=build(settings.degradation, Place.DEGRADATION),
        seed=settings.seed,
    )
    if adversarial is not None:
        if not settings.discriminator:
            raise ConfigError(
                "losses has an adversarial term but there is no discriminator; give discriminator=unet or vgg."
            )
        gan.discriminator = build(settings.discriminator, Place.DISCRIMINATOR).to(device, memory_format=layout)
        assert gan.discriminator is not None
        dist.copy_from_main(gan.discriminator)
        gan.discriminator_optimizer = build(
            settings.discriminator_optimizer, Place.OPTIMIZER, params=list(gan.discriminator.parameters())
        )
    if settings.compile:
        gan.generator.compile()
        if gan.discriminator is not None:
            gan.discriminator.compile()
    return gan


def check_landmarks(terms: dict[str, LossTerm], faces: FaceSet) -> None:
    """Raises DataError where a term needs landmarks and not one training face has them."""
    wanting = [name for name, term in terms.items() if term.needs_landmarks]
    if wanting and not np.isfinite(faces.landmarks).any():
        raise DataError(
            f"losses.{wanting[0]} needs landmarks, and no face of the training set has any; prepare it with "
            "--crop detect or with --index TABLE."
        )


def judges_in_losses(terms: dict[str, LossTerm], start_from: Any = None) -> tuple[str, ...]:
    """Returns the recognisers in the loss, or in that of what it starts from, which makes them white-box judges."""
    networks = [getattr(term, key, None) for term in terms.values() for key in ("embedder", "network")]
    before = start_judges(start_files(start_from)) if start_from is not None else set()
    return tuple(sorted(before | {network.name for network in networks if network is not None}))
