"""Trains the face generator whose latent space `generator=faces` searches. The same command resumes a run.

    uv run facesr face-generator name=drawn_faces duration_kimg=40 width=0.5
    uv run facesr face-generator faces=data/ffhq
    uv run facesr face-generator faces=data/ffhq kind=gan duration_kimg=3000 batch_size=64

Without `faces` it learns the synthetic ones, with it a prepared dataset. A folder runs/NAME holds log.txt, stats.jsonl,
the training state, latest.safetensors (the averaged generator, what `generator.weights` takes) and two sheets, random
faces and interpolations, for every `sheet_every_kimg`. It has a loop and keys of its own, because the other one is
about pairs: what is restored, validated and shipped there does not exist here.

`kind=vae` trains a variational autoencoder (facesr.models.face_vae), which a CPU can; its decoder is kept. `kind=gan`
trains StyleGAN2's layers against a discriminator, which wants a GPU.

Source: of the GAN Karras et al., StyleGAN2, arXiv 1912.04958, and StyleGAN2-ADA, arXiv 2006.06676: Adam with beta 0 and
0.99, learning rate 0.002, average of the weights; without path length regularisation, which costs a third of the time
for smoothness that PULSE's spherical search does not ask for. Of the VAE see facesr.training.face_generator.vae_step.
"""

import dataclasses
import itertools
import json
import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import torch
from safetensors.torch import save

from facesr import dist
from facesr.config import AugmentationSettings, DataSettings, FaceGeneratorSettings
from facesr.data.feed.loader import Feed
from facesr.data.packed.reader import prepared, synthetic
from facesr.errors import EXIT_REQUEUE, CheckpointError, ConfigError, TrainingError
from facesr.log import Console, Stats, shown_kimg
from facesr.losses.adversarial import Vanilla
from facesr.models.face_vae import FaceDecoder, FaceEncoder, FaceVae, fit_prior, set_components
from facesr.models.style_discriminator import StyleDiscriminator
from facesr.models.style_generator import StyleGenerator
from facesr.png import write_png
from facesr.protocols import FaceSet
from facesr.script import run_script
from facesr.snapshots.rules import FACE_GENERATOR
from facesr.snapshots.snapshot import digest_of, newest_state, write_state, write_with_digest
from facesr.task import SCALE
from facesr.training.face_generator.sheet import interpolation_sheet, sample_sheet
from facesr.training.face_generator.step import Adaptation, train_step
from facesr.training.face_generator.vae_step import vae_step
from facesr.training.loop import due
from facesr.training.muon import Muon
from facesr.training.precision import choose_precision
from facesr.training.rundir import differing_keys
from facesr.training.state import Clock, pack_state, unpack_state
from facesr.training.step import GanState, update_average
from facesr.training.stop import StopRequest

# Features at 7x6, 14x12, ..., 112x96: 4.7 M parameters, most of them where they are cheap.
CHANNELS = (256, 256, 192, 96, 48)
LEARNING_RATE = 0.002
R1_EVERY = 16
# The VAE's decoder has features at 28x24 and 56x48, with as many blocks.
DECODER_CHANNELS, DECODER_BLOCKS, LATENT_DIM = (64, 32), (5, 2), 512
FITTED_FACES = 8192  # at most: they give the components, and their latent vectors are what random ones are drawn like
KINDS = ("vae", "gan")


# What decides a run; the same name with other values of these is refused.
DECIDING = (
    *("kind", "faces", "num_synthetic", "batch_size", "width", "r1_gamma", "ema_halflife_kimg"),
    *("adaptive_augmentation", "precision", "seed"),
)


@dataclass
class Session:
    """A run made ready for its next step."""

    settings: FaceGeneratorSettings
    folder: Path
    gan: GanState
    adaptation: Adaptation
    clock: Clock
    feed: Feed
    console: Console
    stats: Stats

    def close(self) -> None:
        """Closes the log files."""
        self.stats.close()
        self.console.close()


def open_faces(settings: FaceGeneratorSettings) -> FaceSet:
    """Returns the training faces.

    Raises:
        DataError: there is no prepared dataset at the given path.
        ConfigError: its pictures' sides are no multiples of 16.
    """
    # A prepared dataset is frozen, which the protocol's plain attributes do not know of.
    faces: Any = (
        prepared(settings.faces)
        if settings.faces
        else synthetic(settings.num_synthetic, seed=1, pictures_per_identity=4)
    )
    height, width = size_of(faces)
    step = 1 << len(CHANNELS) - 1
    if height % step or width % step:
        raise ConfigError(f"the training faces are {width}x{height}; width and height must be multiples of {step}.")
    found: FaceSet = faces
    return found


def size_of(faces: FaceSet) -> tuple[int, int]:
    """Returns height and width of the faces without their margin."""
    height, width = (side - 2 * faces.margin for side in faces.images.shape[1:3])
    return height, width


def build_players(settings: FaceGeneratorSettings, height: int, width: int, device: torch.device) -> GanState:
    """Returns both networks with first weights, their optimisers and the loss, for faces of a size."""
    if settings.kind == "vae":
        return _build_vae(settings, height, width, device)
    channels = [max(4, round(count * settings.width)) for count in CHANNELS]
    constant = (height >> len(CHANNELS) - 1, width >> len(CHANNELS) - 1)
    generator = StyleGenerator(channels, *constant, num_mapping_layers=2).to(device)
    discriminator = StyleDiscriminator(channels, *constant).to(device)
    # A penalty taken every 16th step is an extra step in 17; StyleGAN2, appendix B, corrects rate and momenta for it.
    lazy = R1_EVERY / (R1_EVERY + 1)
    return GanState(
        generator=generator,
        generator_optimizer=torch.optim.Adam(generator.parameters(), LEARNING_RATE, betas=(0.0, 0.99)),
        terms={},
        precision=settings.precision,
        gradient_clip_norm=0.0,
        adversarial=Vanilla(1.0, 0.0, settings.r1_gamma, R1_EVERY),
        discriminator=discriminator,
        discriminator_optimizer=torch.optim.Adam(
            discriminator.parameters(), LEARNING_RATE * lazy, betas=(0.0, 0.99**lazy)
        ),
    )


def _build_vae(settings: FaceGeneratorSettings, height: int, width: int, device: torch.device) -> GanState:
    """Returns decoder and encoder as one network with first weights, and its optimiser."""
    coarse, fine = (max(4, round(count * settings.width)) for count in DECODER_CHANNELS)
    decoder = FaceDecoder(
        (coarse, fine), DECODER_BLOCKS, LATENT_DIM, small_height=height // SCALE, small_width=width // SCALE
    )
    network = FaceVae(decoder, FaceEncoder(decoder)).to(device)
    return GanState(
        generator=network,
        generator_optimizer=Muon(network.parameters()),
        terms={},
        precision=settings.precision,
        gradient_clip_norm=0.0,
    )


def some_faces(feed: Feed, at_most: int) -> Iterator[torch.Tensor]:
    """Returns batches of the faces of one epoch, or of its beginning."""
    batches = math.ceil(min(at_most, len(feed.faces)) / feed.batch_size)
    return itertools.islice(feed.batches(0), batches)


def set_up(settings: FaceGeneratorSettings, folder: Path, device: torch.device) -> Session:
    """Returns a run made ready: faces, networks, and the newest state where there is one.

    Raises:
        FaceSRError: the faces, a setting or the folder is not as it has to be.
    """
    faces = open_faces(settings)
    augmentation = AugmentationSettings(
        flip=0.5, warp=0.0, roll_degrees=0.0, scale=0.0, shift_px=0.0, brightness=0.0, contrast=0.0, saturation=0.0,
        greyscale=0.0, turn=0.0,
    )  # fmt: skip
    data = DataSettings(train={}, validation={}, residency="auto", augmentation=augmentation)
    feed = Feed(faces, data, seed=settings.seed, batch_size=settings.batch_size, rank=0, world_size=1, device=device)
    torch.manual_seed(settings.seed)
    gan = build_players(settings, *size_of(faces), device)
    adaptation, clock = Adaptation(), Clock()
    described = _deciding(settings)
    found = newest_state(folder / "state")
    if found is not None:
        different = differing_keys(found[1].get("plan", {}), described)
        if different:
            raise CheckpointError(f"{folder} belongs to a run with another {different[0]}; choose another name=....")
        clock = unpack_state(found[1], gan, digest_of(described))
        adaptation = Adaptation(**found[1]["adaptation"])
    elif isinstance(gan.generator, FaceVae):
        set_components(gan.generator, some_faces(feed, FITTED_FACES))
    console = Console(folder / "log.txt")
    num_parameters = sum(parameter.numel() for parameter in gan.generator.parameters())
    console.say(
        f"{folder}: {num_parameters / 1e6:.2f} M parameters, {len(faces)} faces, {device.type} {settings.precision}"
        + (f", resuming at {shown_kimg(clock.kimg)} kimg" if clock.num_images else "")
    )
    stats = Stats(folder / "stats.jsonl", clock.num_images)
    return Session(settings, folder, gan, adaptation, clock, feed, console, stats)


def train(session: Session, kimg: float, sheet_every_kimg: float, log_every_kimg: float = 1.0) -> int:
    """Trains until `kimg` thousand faces were shown, or until asked to stop; returns the exit code (0 or 75).

    Raises:
        TrainingError: a loss is no longer finite.
        CheckpointError: a file could not be written.
    """
    settings, gan, clock = session.settings, session.gan, session.clock
    total_images = int(kimg * 1000)
    batches = session.feed.batches(clock.num_images)
    device = session.feed.device
    stop, start, before_log = StopRequest(), time.perf_counter(), clock.num_images
    try:
        while clock.num_images < total_images:
            figures = _step(session, next(batches), clock.num_images / total_images)
            before, clock.num_images = clock.num_images, clock.num_images + settings.batch_size
            update_average(gan, settings.batch_size, clock.num_images, settings.ema_halflife_kimg)
            finished = clock.num_images >= total_images
            asked = stop.agreed(gan.num_steps, device)

            if finished or due(before, clock.num_images, log_every_kimg):
                seconds, start = time.perf_counter() - start, time.perf_counter()
                report(session, figures, (clock.num_images - before_log) / seconds)
                clock.seconds, before_log = clock.seconds + seconds, clock.num_images
            if finished or asked or due(before, clock.num_images, sheet_every_kimg):
                keep(session)
                start, before_log = time.perf_counter(), clock.num_images
            if asked and not finished:
                session.console.say(f"asked to stop: saved at {shown_kimg(clock.kimg)} kimg; the same command resumes.")
                return EXIT_REQUEUE
        return 0
    finally:
        session.close()
        stop.restore()


def _step(session: Session, faces: torch.Tensor, progress: float) -> dict[str, torch.Tensor]:
    """Does a step of the run's kind; `progress` is the share of the run that is behind."""
    if session.settings.kind == "vae":
        return vae_step(session.gan, faces, progress)
    figures = train_step(session.gan, faces, session.adaptation)
    if not session.settings.adaptive_augmentation:
        session.adaptation.probability = 0.0
    return figures


def report(session: Session, figures: dict[str, torch.Tensor], images_per_second: float) -> None:
    """Writes the figures of the newest step; raises TrainingError where one is not finite."""
    plain = {name: float(value) for name, value in figures.items()}
    is_vae = "loss/vae" in plain
    if not all(torch.isfinite(value).all() for value in figures.values()):
        advice = "take" if is_vae else "raise r1_gamma, or take"
        raise TrainingError(
            f"{session.folder}: a loss is not finite at {shown_kimg(session.clock.kimg)} kimg; {advice} "
            "precision=fp32, under another name."
        )
    if is_vae:
        words = (
            f"loss {plain['loss/vae']:.3f}  PSNR {plain['psnr']:.2f} dB, of the downscaled {plain['psnr_low']:.2f} dB  "
            f"divergence {plain['nats']:.0f} nats"
        )
    else:
        plain["augmentation"] = session.adaptation.probability
        words = (
            f"loss D {plain['loss/discriminator']:.3f} G {plain['loss/generator']:.3f}  "
            f"logits real {plain['logit/real']:+.2f} generated {plain['logit/fake']:+.2f}  "
            f"p {plain['augmentation']:.3f}"
        )
    session.stats.write(session.clock.num_images, plain | {"images_per_second": images_per_second})
    session.console.say(f"{shown_kimg(session.clock.kimg):>8} kimg  {words}  {images_per_second:.1f} faces/s")


def keep(session: Session) -> None:
    """Saves what resuming needs, the averaged generator and both sheets."""
    gan, clock, folder = session.gan, session.clock, session.folder
    described = _deciding(session.settings)
    state = pack_state(gan, clock, digest_of(described))
    adaptation = dataclasses.asdict(session.adaptation)
    write_state(folder / "state", clock.num_images, {**state, "plan": described, "adaptation": adaptation})
    generator = gan.average
    if isinstance(generator, FaceVae):
        fit_prior(generator, some_faces(session.feed, FITTED_FACES))
        generator = generator.decoder
    write_generator(folder / "latest.safetensors", generator, {"kimg": clock.kimg, "plan": described})
    write_sheets(generator, folder / "sheets", f"{clock.num_images:09d}")


def write_generator(path: Path, generator: torch.nn.Module, about: dict[str, Any]) -> None:
    """Writes a generator's weights and where they come from, with the sha256 beside.

    Raises:
        CheckpointError: the file could not be written.
    """
    tensors = {name: value.detach().float().cpu().contiguous() for name, value in generator.state_dict().items()}
    metadata = {"facesr": json.dumps({"format": FACE_GENERATOR, **about}, sort_keys=True)}
    write_with_digest(path, save(tensors, metadata))


def write_sheets(generator: torch.nn.Module, folder: Path, name: str) -> None:
    """Writes NAME_samples.png and NAME_interpolations.png."""
    assert isinstance(generator, StyleGenerator | FaceDecoder)
    folder.mkdir(parents=True, exist_ok=True)
    write_png(folder / f"{name}_samples.png", sample_sheet(generator))
    write_png(folder / f"{name}_interpolations.png", interpolation_sheet(generator))


def train_face_generator(settings: FaceGeneratorSettings) -> int:
    """Trains as the settings say and returns the exit code: 0, or 75 when asked to stop.

    Raises:
        FaceSRError: a setting, the faces or the run's folder is not as it has to be, or a loss is no longer finite.
    """
    if settings.kind not in KINDS:
        raise ConfigError(f"kind={settings.kind} is unknown; choose one of {', '.join(KINDS)}.")
    if dist.world_size() > 1:
        raise ConfigError("the face generator trains on one device; start it without torchrun.")
    device = dist.choose_device(settings.device)
    session = set_up(with_precision(settings, device), Path(settings.runs_dir) / settings.name, device)
    return train(session, settings.duration_kimg, settings.sheet_every_kimg, settings.log_every_kimg)


def with_precision(settings: FaceGeneratorSettings, device: torch.device) -> FaceGeneratorSettings:
    """Returns the settings with a precision that is decided for the device.

    Raises:
        ConfigError: the precision is none that these networks can have.
    """
    if settings.precision == "fp16":
        raise ConfigError("precision=fp16 overflows in modulated convolutions; take bf16 or fp32.")
    return dataclasses.replace(settings, precision=choose_precision(settings.precision, device))


def _deciding(settings: FaceGeneratorSettings) -> dict[str, Any]:
    # The VAE's learning rate falls over the whole run, so its length decides, too.
    further = ("duration_kimg",) if settings.kind == "vae" else ()
    return {key: getattr(settings, key) for key in (*DECIDING, *further)}


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Runs the program on KEY=VALUE arguments, by default the command line's, and exits."""
    run_script(train_face_generator, "face_generator", FaceGeneratorSettings, arguments)
